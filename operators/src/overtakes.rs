//! Overtakes: every swap of two cars in the running order, one pair at a time, with why it happened: from `positions`, with pit stops,
//! track status, laps, gaps, the tower and race control to tell why.
//!
//! Rules, with their source:
//! * A change of order is complete when the places taken are those left, and those of cars that joined. Moving each car up in the new
//!   order gives every pair whose order changed exactly once, the nearest first. A car that joins overtakes nobody.
//! * Why, the first that holds:
//!   1. `CORRECTION`: before the race began, as its start, laps or gaps tell; once both have finished or
//!      [`OvertakesOperator::finish_ms`] after the flag, unless the overtaken car has a penalty, which is `PENALTY`; undone within
//!      [`OvertakesOperator::flicker_ms`], less than cars need from one timing loop to the next; to or from a place that is disputed
//!      ([`positions`](crate::positions)); or with a car that takes no part, as others began a lap and it did not, nor has it
//!      a gap, or as the tower says that it did not start.
//!   2. `PIT`: either car was in the pit lane, from [`OvertakesOperator::pit_entry_ms`] before its entry, since an order is measured at
//!      timing loops only, to [`OvertakesOperator::pit_exit_ms`] after its exit, when it reaches the next loop. `PENALTY` when the
//!      overtaken car served a drive-through or stop-and-go there. `pit` documents come when the car is out again, so this is told by
//!      correction.
//!   3. `RETIREMENT`: the overtaken car never completed the lap it was on. The tower tells it late, so this is a correction too.
//!   4. `OFF_TRACK`: race control says within [`OvertakesOperator::off_track_ms`] that the overtaken car stopped, spun or was off the
//!      track, or the tower that it stands, so long before it says so and until it drives again.
//!   5. `LAPPING`: the two are not on the same lap (OpenF1 `intervals`).
//!   6. `SAFETY_CAR_RESTART`: the race is slowed or stopped, or the overtaking car has not yet crossed the line after a safety car: until
//!      then there is no passing (sporting regulations).
//!   7. When the overtaking car is on lap 1: `PIT` if the overtaken car started from the pit lane, as race control says or its lap 1 tells
//!      when others' are not out of the pit lane (in one race of 54 the feed marks everybody's); `CORRECTION` if it fell behind all others
//!      at once, passed by [`OvertakesOperator::put_last_min`] or more, so that it was put last and did not get away; `LAP_1` otherwise.
//!   8. `ON_TRACK` is what remains.
//! * Formula 1's award of 2021 counts `ON_TRACK` and `LAP_1`, whether it held or not.
//! * Pirelli counts `ON_TRACK` of which the line at the end of the lap still shows something: not what was handed back on the same lap, nor
//!   the handing back.
//! * Outside races cars swap places by their times, and nothing is said.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use pitwall_engine::Micros;
use pitwall_engine::operator::{Context, Handle, Issued, Operator};
use pitwall_schemas::facts::{
    CarState, Gap, Lap, MessageKind, Neutralisation, Overtake, OvertakeCause, PitPassKind, PitStop, Position, RaceControlMessage,
    SessionState, Status, Timing, TrackStatus,
};
use serde::{Deserialize, Serialize};

use crate::by_driver::ByDriver;
use crate::history::keep;
use crate::known::in_order;
use crate::pit_stops::neutralisation;

/// How long before a car's entry into the pit lane its place and its fights belong to the stop, ms: from the last timing loop.
pub const PIT_ENTRY_MS: i64 = 5_000;

/// How long after a car's exit its place and its fights belong to the stop, ms: some 8 s to the next timing loop.
pub const PIT_EXIT_MS: i64 = 8_000;

/// Newest passes through the pit lane kept of one car, to explain its swaps.
const PASSES_MAX: usize = 8;

/// Newest messages that a car is off the track kept of one car.
const OFF_TRACK_MAX: usize = 8;

/// Tells swaps.
#[derive(Debug, Clone, Copy)]
pub struct OvertakesOperator {
    /// A swap undone within this, ms, was none.
    pub flicker_ms: i64,
    /// How long before the entry a swap already belongs to the pit lane, ms: from the last timing loop.
    pub pit_entry_ms: i64,
    /// How long after the exit a swap still belongs to the pit lane, ms: to the next timing loop.
    pub pit_exit_ms: i64,
    /// How long before the exit a car is taken to have entered when its time in the lane is unknown, ms.
    pub unknown_lane_ms: i64,
    /// How long before and after race control's message a car is off the track, ms, and how long before the tower says that it stands.
    pub off_track_ms: i64,
    /// How long after the chequered flag cars still race to the line, ms: longer than any lap.
    pub finish_ms: i64,
    /// Cars that pass one at once and leave it last on lap 1, from which on it was put last.
    pub put_last_min: usize,
    /// Newest swaps that may still be corrected: 20 cars' in half an hour. An older one stays as it was last said.
    pub correctable_max: usize,
}

impl Default for OvertakesOperator {
    fn default() -> Self {
        Self {
            flicker_ms: 2_000,
            pit_entry_ms: PIT_ENTRY_MS,
            pit_exit_ms: PIT_EXIT_MS,
            unknown_lane_ms: 30_000,
            off_track_ms: 20_000,
            finish_ms: 180_000,
            put_last_min: 2,
            correctable_max: 1_024,
        }
    }
}

/// The running order, and what explains how it changed.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    race: Race,
    /// Car numbers in running order.
    order: Vec<i32>,
    /// Changes of the order that are not yet complete, at most one of each car.
    pending: Vec<Change>,
    /// Number of whole changes of the order.
    orders: u64,
    cars: ByDriver<Car>,
    swaps: VecDeque<Swap>,
    swaps_told: i32,
}

/// What concerns all cars.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Race {
    is_race: bool,
    has_begun: bool,
    /// Highest lap that any car has begun.
    leaders_lap: i32,
    /// Whether a car's lap 1 began on the grid as far as the feed tells: otherwise it marks everybody's as out of the pit lane.
    marks_pit_lane_starts: bool,
    /// When the flag fell.
    finished_at: Option<Micros>,
    /// Whether the field is slowed or stopped, and the ledger record that said so.
    slowed: Option<(Neutralisation, u64)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Change {
    driver_number: i32,
    from: Option<i32>,
    to: i32,
    at: Micros,
    causes: Vec<u64>,
    /// The ledger record that disputes the new place.
    disputed: Option<u64>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Car {
    lap_number: Option<i32>,
    sector: i32,
    laps_behind: Option<i32>,
    /// Whether a gap or interval of it was measured.
    is_measured: bool,
    /// The ledger record that disputes its place.
    disputed: Option<u64>,
    /// The change of the order by which it came to its place.
    moved: u64,
    /// That its lap 1 is out of the pit lane, and that race control says it starts there: the ledger records that tell.
    lap_1_out_of_pit_lane: Option<u64>,
    starts_from_pit_lane: Option<u64>,
    /// The safety car behind which the car is until it crosses the line.
    behind_safety_car: Option<u64>,
    retired: Option<u64>,
    has_finished: bool,
    /// The penalty it has or had, whether a time penalty or a disqualification.
    penalised: Option<u64>,
    passes: VecDeque<Pass>,
    /// That the tower says it did not start.
    absent: Option<u64>,
    off_track: VecDeque<OffTrack>,
}

/// When a car was stopped or off the track, and the ledger record that says so; the end is open while it stands.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct OffTrack {
    from: Micros,
    until: Option<Micros>,
    cause: u64,
}

/// A way through the pit lane.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Pass {
    key: (i32, i32),
    entered_at: Option<Micros>,
    exited_at: Micros,
    kind: PitPassKind,
    cause: u64,
}

/// One pair that swapped, with what was known of it at that moment.
#[derive(Debug, Serialize, Deserialize)]
struct Swap {
    number: i32,
    overtaking: i32,
    overtaken: i32,
    position: i32,
    at: Micros,
    causes: Vec<u64>,
    /// The change of the order that it is part of.
    order: u64,
    /// The ledger record that disputed a place which either car left.
    left_disputed: Option<u64>,
    /// Those that dispute the places to which the overtaking and the overtaken car came.
    disputed: [Option<u64>; 2],
    /// Whether it put the overtaken car last on lap 1.
    put_last: bool,
    lap_number: Option<i32>,
    sector: Option<i32>,
    /// The lap that the overtaken car was on.
    overtaken_lap: Option<i32>,
    /// Why, as far as only the moment itself can tell, and the ledger record that did.
    then: (OvertakeCause, Option<u64>),
    /// Whether it undid another on the same lap.
    is_return: bool,
    handed_back: Option<HandedBack>,
    said: Option<Overtake>,
    issued: Option<Issued>,
}

/// The swap that undid another.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct HandedBack {
    by: i32,
    cause: Option<u64>,
    is_on_same_lap: bool,
    is_flicker: bool,
}

impl Car {
    /// The car's way through the pit lane that covers `moment`.
    fn pass_at(&self, moment: Micros, operator: &OvertakesOperator) -> Option<&Pass> {
        self.passes.iter().find(|pass| {
            let entered_at = pass.entered_at.unwrap_or_else(|| pass.exited_at.plus(-operator.unknown_lane_ms * 1_000));
            let [before, after] = [operator.pit_entry_ms, operator.pit_exit_ms].map(|margin_ms| margin_ms * 1_000);
            (entered_at.plus(-before)..=pass.exited_at.plus(after)).contains(&moment)
        })
    }

    /// Takes whether the tower says that it stands, and tells whether that is news. It has stood for a while, at most since `from`.
    fn stand(&mut self, state: CarState, from: Micros, now: Micros, cause: u64) -> bool {
        let standing = self.off_track.iter_mut().find(|off| off.until.is_none());
        match (standing, state) {
            (None, CarState::Stopped) => keep(&mut self.off_track, OffTrack { from, until: None, cause }, OFF_TRACK_MAX),
            // A retired car stands for good.
            (Some(off), CarState::Running | CarState::InPit | CarState::PitOut | CarState::Finished) => off.until = Some(now),
            _ => return false,
        }
        true
    }

    /// Whether anything tells that it takes part in the race.
    const fn takes_part(&self) -> bool {
        self.lap_number.is_some() || self.is_measured
    }
}

impl Swap {
    /// Why the two swapped as far as known now, and the ledger record that tells, besides those of the swap itself.
    fn why(&self, race: &Race, cars: &ByDriver<Car>, operator: &OvertakesOperator) -> (OvertakeCause, Option<u64>) {
        let car = |driver_number| cars.get(driver_number);
        if self.then.0 == OvertakeCause::Correction || self.then.0 == OvertakeCause::Penalty {
            return self.then;
        }
        if let Some(flicker) = self.handed_back.filter(|back| back.is_flicker) {
            return (OvertakeCause::Correction, flicker.cause);
        }
        let absent = [self.overtaking, self.overtaken].into_iter().find_map(|driver_number| car(driver_number)?.absent);
        let doubt = self.disputed.into_iter().flatten().next().or(self.left_disputed).or(absent);
        // Where nobody's laps are sent they tell of no car that it stayed away.
        let takes_part = |driver_number| race.leaders_lap == 0 || car(driver_number).is_some_and(Car::takes_part);
        if doubt.is_some() || ![self.overtaking, self.overtaken].into_iter().all(takes_part) {
            return (OvertakeCause::Correction, doubt);
        }
        if let Some(pass) = car(self.overtaken).and_then(|car| car.pass_at(self.at, operator)) {
            let is_penalty = matches!(pass.kind, PitPassKind::DriveThrough | PitPassKind::StopAndGo);
            return (if is_penalty { OvertakeCause::Penalty } else { OvertakeCause::Pit }, Some(pass.cause));
        }
        if let Some(pass) = car(self.overtaking).and_then(|car| car.pass_at(self.at, operator)) {
            return (OvertakeCause::Pit, Some(pass.cause));
        }
        if let Some(car) = car(self.overtaken) {
            if let Some(cause) = car.retired.filter(|_| self.overtaken_lap == car.lap_number) {
                return (OvertakeCause::Retirement, Some(cause));
            }
            let covers = |off: &&OffTrack| off.from <= self.at && off.until.is_none_or(|until| self.at <= until);
            if let Some(off) = car.off_track.iter().find(covers) {
                return (OvertakeCause::OffTrack, Some(off.cause));
            }
        }
        if self.then.0 == OvertakeCause::Lap1 {
            let pit_lane_start = car(self.overtaken).and_then(|car| race.pit_lane_start(car));
            if pit_lane_start.is_some() {
                return (OvertakeCause::Pit, pit_lane_start);
            }
            if self.put_last {
                return (OvertakeCause::Correction, None);
            }
        }
        self.then
    }

    /// Says the swap if something of it changed.
    fn say(&mut self, race: &Race, cars: &ByDriver<Car>, operator: &OvertakesOperator, context: &mut Context<'_, Overtake>) {
        let (cause, reason) = self.why(race, cars, operator);
        let handed_back = self.handed_back.filter(|back| back.is_on_same_lap && cause != OvertakeCause::Correction);
        let fact = Overtake {
            overtake_number: self.number,
            overtaking_driver_number: self.overtaking,
            overtaken_driver_number: self.overtaken,
            position: self.position,
            cause,
            counts_f1_2021: matches!(cause, OvertakeCause::OnTrack | OvertakeCause::Lap1),
            counts_pirelli: cause == OvertakeCause::OnTrack && handed_back.is_none() && !self.is_return,
            lap_number: self.lap_number,
            sector: self.sector,
            handed_back_by: handed_back.map(|back| back.by),
        };
        if self.said.as_ref() == Some(&fact) {
            return;
        }
        let reasons = [reason, handed_back.and_then(|back| back.cause)];
        let causes = in_order(self.causes.iter().map(|cause| Some(*cause)).chain(reasons));
        let draft = context.draft(fact.clone()).because(&causes).at(self.at).correcting(self.issued);
        self.issued = Some(draft.emit());
        self.said = Some(fact);
    }
}

impl Race {
    /// The ledger record that tells that the car started from the pit lane.
    fn pit_lane_start(&self, car: &Car) -> Option<u64> {
        car.starts_from_pit_lane.or(car.lap_1_out_of_pit_lane.filter(|_| self.marks_pit_lane_starts))
    }
}

impl State {
    /// Keeps a change until the order is complete. Of a car that moves on before that, only where it came from and is now.
    fn change(&mut self, change: Change) {
        match self.pending.iter_mut().find(|pending| pending.driver_number == change.driver_number) {
            Some(pending) => *pending = Change { from: pending.from, ..change },
            None => self.pending.push(change),
        }
    }

    /// Whether the pending changes are a whole change of the order, in which `cars` cars are then.
    fn is_complete(&self, cars: i32) -> bool {
        let left = self.pending.iter().filter_map(|change| change.from);
        let left: BTreeSet<i32> = left.chain(self.order.len() as i32 + 1..=cars).collect();
        let taken: BTreeSet<i32> = self.pending.iter().map(|change| change.to).collect();
        left == taken
    }

    /// The order after the pending changes.
    fn settled(&self, cars: i32) -> Vec<i32> {
        let mut order = self.order.clone();
        order.resize(cars as usize, 0);
        for change in &self.pending {
            order[change.to as usize - 1] = change.driver_number;
        }
        order
    }

    /// The place of a car as last stated.
    fn place(&self, driver_number: i32) -> Option<i32> {
        let pending = self.pending.iter().find(|change| change.driver_number == driver_number).map(|change| change.to);
        pending.or_else(|| (1..).zip(&self.order).find(|(_, car)| **car == driver_number).map(|(place, _)| place))
    }

    /// Makes the pending changes and gives every pair that swapped.
    fn settle(&mut self, cars: i32, operator: &OvertakesOperator) -> Vec<Swap> {
        let after = self.settled(cars);
        let pending = std::mem::take(&mut self.pending);
        let before = std::mem::replace(&mut self.order, after);
        let changes: BTreeMap<i32, &Change> = pending.iter().map(|change| (change.driver_number, change)).collect();
        let pairs = if self.race.is_race { swapped_pairs(&before, &self.order) } else { Vec::new() };
        self.orders += 1;
        let last = self.order.last().copied();
        let passed_last = pairs.iter().filter(|(_, overtaken)| Some(*overtaken) == last).count();
        let is_put_last = |overtaken| Some(overtaken) == last && passed_last >= operator.put_last_min;
        let swaps = pairs.into_iter().filter_map(|pair| self.swap(pair, is_put_last(pair.1), &changes, operator)).collect();
        for change in &pending {
            let car = self.cars.entry(change.driver_number);
            (car.disputed, car.moved) = (change.disputed, self.orders);
        }
        swaps
    }

    fn swap(
        &mut self,
        (overtaking, overtaken): (i32, i32),
        put_last: bool,
        changes: &BTreeMap<i32, &Change>,
        operator: &OvertakesOperator,
    ) -> Option<Swap> {
        let of_pair = [changes.get(&overtaking), changes.get(&overtaken)];
        let at = of_pair.into_iter().flatten().next()?.at;
        let causes = in_order(of_pair.into_iter().flatten().flat_map(|change| &change.causes).map(|cause| Some(*cause)));
        let position = self.place(overtaking).unwrap_or_default();
        let left = [overtaking, overtaken].map(|driver_number| self.cars.get(driver_number).and_then(|car| car.disputed));
        let disputed = [0, 1].map(|index| of_pair[index].map_or(left[index], |change| change.disputed));
        let left_disputed = left.into_iter().flatten().next();
        let order = self.orders;
        let then = self.why_now(overtaking, overtaken, at, operator);
        let (lap_number, sector) =
            self.cars.get(overtaking).map_or((None, None), |car| (car.lap_number, Some(car.sector).filter(|_| car.lap_number.is_some())));
        let overtaken_lap = self.cars.get(overtaken).and_then(|car| car.lap_number);
        self.swaps_told += 1;
        let number = self.swaps_told;
        let (is_return, handed_back, said, issued) = (false, None, None, None);
        Some(Swap {
            number,
            overtaking,
            overtaken,
            position,
            at,
            causes,
            order,
            left_disputed,
            disputed,
            put_last,
            lap_number,
            sector,
            overtaken_lap,
            then,
            is_return,
            handed_back,
            said,
            issued,
        })
    }

    /// Why two cars swap now, as far as nothing that is learnt later explains it.
    fn why_now(&self, overtaking: i32, overtaken: i32, at: Micros, operator: &OvertakesOperator) -> (OvertakeCause, Option<u64>) {
        let [front, behind] = [overtaking, overtaken].map(|driver_number| self.cars.get(driver_number));
        if !self.race.has_begun {
            return (OvertakeCause::Correction, None);
        }
        let is_over = self.race.finished_at.is_some_and(|flag| at.since(flag) > operator.finish_ms * 1_000);
        if is_over || [front, behind].into_iter().all(|car| car.is_some_and(|car| car.has_finished)) {
            let penalised = behind.and_then(|car| car.penalised);
            return (if penalised.is_some() { OvertakeCause::Penalty } else { OvertakeCause::Correction }, penalised);
        }
        let laps_behind = [front, behind].map(|car| car.and_then(|car| car.laps_behind));
        if let [Some(front), Some(behind)] = laps_behind
            && front != behind
        {
            return (OvertakeCause::Lapping, None);
        }
        if let Some((_, cause)) = self.race.slowed {
            return (OvertakeCause::SafetyCarRestart, Some(cause));
        }
        if let Some(cause) = front.and_then(|car| car.behind_safety_car) {
            return (OvertakeCause::SafetyCarRestart, Some(cause));
        }
        if front.and_then(|car| car.lap_number).unwrap_or(self.race.leaders_lap) <= 1 {
            return (OvertakeCause::Lap1, None);
        }
        (OvertakeCause::OnTrack, None)
    }

    /// Finds the newest swap that `swap` undoes and says it anew.
    fn hand_back(&mut self, swap: &mut Swap, operator: &OvertakesOperator, context: &mut Context<'_, Overtake>) {
        let is_undone = |other: &&mut Swap| (other.overtaking, other.overtaken) == (swap.overtaken, swap.overtaking);
        let Some(undone) = self.swaps.iter_mut().rev().find(is_undone) else { return };
        let is_flicker = swap.at.since(undone.at) <= operator.flicker_ms * 1_000;
        // The place counts at the line, so the lap is that of the car which had it first, before and after.
        let is_on_same_lap = undone.lap_number.is_some() && undone.lap_number == swap.overtaken_lap;
        if undone.handed_back.is_some() || !(is_flicker || is_on_same_lap) {
            return;
        }
        let cause = swap.causes.last().copied();
        undone.handed_back = Some(HandedBack { by: swap.number, cause, is_on_same_lap, is_flicker });
        swap.is_return = is_on_same_lap && !undone.is_return;
        if is_flicker {
            swap.then = (OvertakeCause::Correction, undone.causes.last().copied());
        }
        undone.say(&self.race, &self.cars, operator, context);
    }

    /// Says anew every swap that `driver_number` is part of and about which something changed.
    fn say_of(&mut self, driver_number: i32, operator: &OvertakesOperator, context: &mut Context<'_, Overtake>) {
        let Self { race, swaps, cars, .. } = self;
        for swap in swaps.iter_mut().filter(|swap| swap.overtaking == driver_number || swap.overtaken == driver_number) {
            swap.say(race, cars, operator, context);
        }
    }

    /// Says anew every swap about which something changed.
    fn say_all(&mut self, operator: &OvertakesOperator, context: &mut Context<'_, Overtake>) {
        let Self { race, swaps, cars, .. } = self;
        swaps.iter_mut().for_each(|swap| swap.say(race, cars, operator, context));
    }

    /// Takes whether the place where a car stays is disputed. The swaps by which it came there on this lap are as doubtful; a lap completed
    /// there has confirmed them.
    fn dispute(&mut self, driver_number: i32, disputed: Option<u64>) {
        if let Some(change) = self.pending.iter_mut().find(|change| change.driver_number == driver_number) {
            change.disputed = disputed;
            return;
        }
        let car = self.cars.entry(driver_number);
        if car.disputed.is_some() == disputed.is_some() {
            return;
        }
        car.disputed = disputed;
        for swap in self.swaps.iter_mut().filter(|swap| swap.order >= car.moved) {
            for (index, (number, lap_number)) in
                [(swap.overtaking, swap.lap_number), (swap.overtaken, swap.overtaken_lap)].into_iter().enumerate()
            {
                if number == driver_number && (lap_number == car.lap_number || disputed.is_none()) {
                    swap.disputed[index] = disputed;
                }
            }
        }
    }
}

/// Every pair whose order differs in `after`, as (in front now, behind now), each once: each car of the new order moves up in turn.
fn swapped_pairs(before: &[i32], after: &[i32]) -> Vec<(i32, i32)> {
    let mut line = before.to_vec();
    let mut pairs = Vec::new();
    for (place, driver_number) in after.iter().filter(|driver_number| before.contains(driver_number)).enumerate() {
        let Some(mut at) = line.iter().position(|other| other == driver_number) else { continue };
        while at > place {
            line.swap(at, at - 1);
            pairs.push((*driver_number, line[at]));
            at -= 1;
        }
    }
    pairs
}

/// Whether race control says that the cars it names stopped, spun or left the track.
fn is_off_track(message: &RaceControlMessage) -> bool {
    let is_judged = message.reason.is_some();
    !is_judged && ["STOPPED", "SPUN", "OFF TRACK"].iter().any(|words| message.text.contains(words))
}

/// Whether race control says that the cars it names start from the pit lane.
fn is_pit_lane_start(message: &RaceControlMessage) -> bool {
    let names = |words: &str| message.text.contains(words);
    (names("FROM THE PIT LANE") || names("FROM PIT LANE") || names("PIT LANE START")) && names("START")
}

impl Operator for OvertakesOperator {
    const NAME: &'static str = "overtakes";
    const VERSION: u32 = 3;
    type Output = Overtake;
    type State = State;

    fn parameters(&self) -> Vec<(&'static str, String)> {
        vec![
            ("flicker_ms", self.flicker_ms.to_string()),
            ("pit_entry_ms", self.pit_entry_ms.to_string()),
            ("pit_exit_ms", self.pit_exit_ms.to_string()),
            ("unknown_lane_ms", self.unknown_lane_ms.to_string()),
            ("off_track_ms", self.off_track_ms.to_string()),
            ("finish_ms", self.finish_ms.to_string()),
            ("put_last_min", self.put_last_min.to_string()),
            ("correctable_max", self.correctable_max.to_string()),
        ]
    }
}

impl Handle<Position> for OvertakesOperator {
    fn apply(&self, state: &mut State, position: &Position, context: &mut Context<'_, Overtake>) {
        let Position { driver_number, position: to, previous_position: from, cars, disputed, .. } = *position;
        let disputed = disputed.then(|| context.newest_cause());
        if state.place(driver_number) == Some(to) {
            state.dispute(driver_number, disputed);
            return state.say_of(driver_number, self, context);
        }
        state.change(Change { driver_number, from, to, at: context.event_time(), causes: context.causes().to_vec(), disputed });
        if !state.is_complete(cars) {
            return;
        }
        for mut swap in state.settle(cars, self) {
            state.hand_back(&mut swap, self, context);
            swap.say(&state.race, &state.cars, self, context);
            keep(&mut state.swaps, swap, self.correctable_max);
        }
    }
}

impl Handle<PitStop> for OvertakesOperator {
    fn apply(&self, state: &mut State, stop: &PitStop, context: &mut Context<'_, Overtake>) {
        let PitStop { driver_number, lap_number, pass, kind, entered_at, exited_at, .. } = *stop;
        let pass = Pass { key: (lap_number, pass), entered_at, exited_at, kind, cause: context.newest_cause() };
        let passes = &mut state.cars.entry(driver_number).passes;
        match passes.iter_mut().find(|known| known.key == pass.key) {
            _ if context.is_withdrawn() => passes.retain(|known| known.key != pass.key),
            Some(known) if (known.entered_at, known.exited_at, known.kind) == (entered_at, exited_at, kind) => return,
            Some(known) => *known = pass,
            None => keep(passes, pass, PASSES_MAX),
        }
        state.say_of(driver_number, self, context);
    }
}

impl Handle<TrackStatus> for OvertakesOperator {
    fn apply(&self, state: &mut State, status: &TrackStatus, context: &mut Context<'_, Overtake>) {
        let race = &mut state.race;
        race.is_race |= status.lap_number.is_some();
        race.has_begun |= status.session == SessionState::Started;
        race.finished_at = race.finished_at.or(Some(context.event_time())).filter(|_| status.session == SessionState::Finished);
        let value = neutralisation(status.status);
        let cause = context.newest_cause();
        if race.slowed.map(|(slowed, _)| slowed) != Some(value) {
            race.slowed = Some((value, cause)).filter(|_| value != Neutralisation::None);
        }
        if status.status == Status::SafetyCar {
            for (_, car) in state.cars.iter_mut() {
                car.behind_safety_car.get_or_insert(cause);
            }
        }
    }
}

impl Handle<Lap> for OvertakesOperator {
    fn apply(&self, state: &mut State, lap: &Lap, context: &mut Context<'_, Overtake>) {
        let State { race, cars, .. } = state;
        let car = cars.entry(lap.driver_number);
        if context.is_withdrawn() {
            if car.lap_number == Some(lap.lap_number) {
                car.lap_number = Some(lap.lap_number - 1).filter(|lap| *lap > 0);
            }
            return;
        }
        race.has_begun = true;
        let is_first = race.leaders_lap == 0;
        race.leaders_lap = race.leaders_lap.max(lap.lap_number);
        let (took_part, was_from_pit_lane) = (car.takes_part(), race.pit_lane_start(car).is_some());
        if lap.lap_number == 1 {
            race.marks_pit_lane_starts |= !lap.is_pit_out_lap;
            car.lap_1_out_of_pit_lane = lap.is_pit_out_lap.then(|| context.newest_cause());
        }
        let is_of_now = car.lap_number.is_none_or(|newest| newest <= lap.lap_number);
        if is_of_now && car.lap_number != Some(lap.lap_number) {
            car.lap_number = Some(lap.lap_number);
            let is_safety_car_out = race.slowed.is_some_and(|(slowed, _)| slowed == Neutralisation::SafetyCar);
            car.behind_safety_car = car.behind_safety_car.filter(|_| is_safety_car_out);
        }
        if is_of_now {
            car.sector = 1 + i32::from(lap.sector_1_ms.is_some()) + i32::from(lap.sector_1_ms.is_some() && lap.sector_2_ms.is_some());
        }
        if is_first {
            state.say_all(self, context);
        } else if !took_part || race.pit_lane_start(car).is_some() != was_from_pit_lane {
            state.say_of(lap.driver_number, self, context);
        }
    }
}

impl Handle<Gap> for OvertakesOperator {
    fn apply(&self, state: &mut State, gap: &Gap, context: &mut Context<'_, Overtake>) {
        state.race.is_race = true;
        let car = state.cars.entry(gap.driver_number);
        car.laps_behind = gap.laps_behind;
        // The leader's gap is said because it is first, whether it drives or not.
        let is_measured = gap.interval_ms.is_some() || gap.interval_laps.is_some() || gap.gap_ms.is_some_and(|gap_ms| gap_ms > 0);
        if !is_measured || car.is_measured {
            return;
        }
        state.race.has_begun |= gap.interval_ms.is_some_and(|interval_ms| interval_ms > 0);
        let took_part = car.takes_part();
        car.is_measured = true;
        if !took_part {
            state.say_of(gap.driver_number, self, context);
        }
    }
}

impl Handle<Timing> for OvertakesOperator {
    fn apply(&self, state: &mut State, row: &Timing, context: &mut Context<'_, Overtake>) {
        let (now, cause) = (context.event_time(), context.newest_cause());
        let car = state.cars.entry(row.driver_number);
        car.has_finished = row.state == CarState::Finished;
        let (was_retired, was_absent) = (car.retired.is_some(), car.absent.is_some());
        car.retired = car.retired.or(Some(cause)).filter(|_| row.state == CarState::Retired);
        car.absent = car.absent.or(Some(cause)).filter(|_| row.state == CarState::DidNotStart);
        let has_stood = car.stand(row.state, now.plus(-self.off_track_ms * 1_000), now, cause);
        if has_stood || (was_retired, was_absent) != (car.retired.is_some(), car.absent.is_some()) {
            state.say_of(row.driver_number, self, context);
        }
    }
}

impl Handle<RaceControlMessage> for OvertakesOperator {
    fn apply(&self, state: &mut State, message: &RaceControlMessage, context: &mut Context<'_, Overtake>) {
        if context.is_withdrawn() {
            return;
        }
        state.race.is_race |= message.lap_number.is_some();
        let is_penalty = matches!(message.kind, MessageKind::Penalty | MessageKind::Disqualified);
        let (is_off_track, is_pit_lane_start) = (is_off_track(message), is_pit_lane_start(message));
        let (at, cause) = (context.event_time(), context.newest_cause());
        if !(is_penalty || is_off_track || is_pit_lane_start) {
            return;
        }
        for &driver_number in &message.driver_numbers {
            let car = state.cars.entry(driver_number);
            if is_penalty {
                car.penalised = Some(cause);
            }
            if is_pit_lane_start {
                car.starts_from_pit_lane.get_or_insert(cause);
            }
            if is_off_track {
                let margin = self.off_track_ms * 1_000;
                keep(&mut car.off_track, OffTrack { from: at.plus(-margin), until: Some(at.plus(margin)), cause }, OFF_TRACK_MAX);
            }
            if is_off_track || is_pit_lane_start {
                state.say_of(driver_number, self, context);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bench, Disputes, WithdrawsPasses, at_ms, driver, interval, lap, pit, position, race_control};
    use pitwall_schemas::codec::Reading;
    use pitwall_schemas::raw::{self, Pit, RaceControl, Sample};
    use pitwall_schemas::shared::FactHeader;
    use proptest::prelude::*;

    /// A race on lap 10 at second 1,000, with `cars` in that order.
    fn race(cars: &[i32]) -> Bench {
        let mut bench = Bench::new(crate::join);
        status(&mut bench, 0, "SessionStatus", "SESSION STARTED");
        order(&mut bench, 1, cars);
        laps(&mut bench, 1_000, 10, cars);
        bench
    }

    fn status(bench: &mut Bench, second: i64, category: &str, words: &str) {
        let message = race_control(at_ms(second * 1_000), words);
        let message = RaceControl { category: Some(category.into()), lap_number: Some(10), ..message };
        bench.arrive(second * 1_000, Sample::from(message));
    }

    /// All of these cars in this order, in one batch.
    fn order(bench: &mut Bench, second: i64, cars: &[i32]) {
        for (place, driver_number) in (1..).zip(cars) {
            bench.arrive(second * 1_000, Sample::from(position(*driver_number, at_ms(second * 1_000), place)));
        }
        bench.idle(second * 1_000 + 100);
    }

    fn laps(bench: &mut Bench, second: i64, lap_number: i32, cars: &[i32]) {
        for driver_number in cars {
            let begun = raw::Lap { date_start: Some(at_ms(second * 1_000)), ..lap(*driver_number, lap_number) };
            bench.arrive(second * 1_000, Sample::from(begun));
        }
    }

    fn leaves_lane(bench: &mut Bench, second: i64, driver_number: i32, lane_duration: f64) {
        let document = Pit { lane_duration: Some(lane_duration), ..pit(driver_number, 10, at_ms(second * 1_000)) };
        bench.arrive(second * 1_000, Sample::from(document));
    }

    fn facts(bench: &Bench) -> Vec<(FactHeader, Overtake)> {
        bench.facts()
    }

    /// Overtaking car, overtaken car and why, as first said and corrected.
    fn said(bench: &Bench) -> Vec<(i32, i32, OvertakeCause)> {
        let pair = |fact: Overtake| (fact.overtaking_driver_number, fact.overtaken_driver_number, fact.cause);
        facts(bench).into_iter().map(|(_, fact)| pair(fact)).collect()
    }

    /// The newest fact about each swap.
    fn newest(bench: &Bench) -> Vec<Overtake> {
        let newest: BTreeMap<i32, Overtake> = facts(bench).into_iter().map(|(_, fact)| (fact.overtake_number, fact)).collect();
        newest.into_values().collect()
    }

    fn causes(bench: &Bench) -> Vec<OvertakeCause> {
        newest(bench).into_iter().map(|fact| fact.cause).collect()
    }

    fn counted(bench: &Bench) -> Vec<(bool, bool)> {
        newest(bench).into_iter().map(|fact| (fact.counts_f1_2021, fact.counts_pirelli)).collect()
    }

    /// Case 20.
    #[test]
    fn a_three_car_swap_in_one_message_is_three_pairs_in_order_and_none_twice() {
        let mut bench = race(&[1, 4, 16, 44]);
        order(&mut bench, 1_010, &[1, 44, 16, 4]);
        let on_track = OvertakeCause::OnTrack;
        assert_eq!(said(&bench), [(44, 16, on_track), (44, 4, on_track), (16, 4, on_track)]);
        let places: Vec<_> = newest(&bench).into_iter().map(|fact| (fact.overtake_number, fact.position)).collect();
        assert_eq!(places, [(1, 2), (2, 2), (3, 3)]);
    }

    #[test]
    fn a_pass_on_the_track_names_lap_sector_and_evidence_and_counts() {
        let mut bench = race(&[1, 4]);
        let sector = raw::Lap { date_start: Some(at_ms(1_000_000)), duration_sector_1: Some(25.0), ..lap(4, 10) };
        bench.arrive(1_026_000, Sample::from(sector));
        order(&mut bench, 1_030, &[4, 1]);
        let (header, fact) = facts(&bench).remove(0);
        assert_eq!((fact.cause, fact.lap_number, fact.sector, fact.position), (OvertakeCause::OnTrack, Some(10), Some(2), 1));
        assert_eq!((header.causes.len(), header.event_time), (2, at_ms(1_030_000)), "both cars' documents");
        assert_eq!(counted(&bench), [(true, true)]);
    }

    #[test]
    fn a_car_that_joins_overtakes_nobody() {
        let mut bench = race(&[1, 4]);
        order(&mut bench, 1_010, &[16, 1, 4]);
        assert!(facts(&bench).is_empty());
    }

    /// Case 19.
    #[test]
    fn a_car_passed_in_the_pit_zone_is_corrected_to_pit_when_it_is_out() {
        let mut bench = race(&[1, 4, 16]);
        order(&mut bench, 1_030, &[1, 16, 4]);
        leaves_lane(&mut bench, 1_040, 4, 20.0);
        let facts = facts(&bench);
        assert_eq!(said(&bench), [(16, 4, OvertakeCause::OnTrack), (16, 4, OvertakeCause::Pit)]);
        assert_eq!((facts[1].0.supersedes, facts[1].0.revision), (Some(facts[0].0.fact_seq), 1));
        assert_eq!(facts[1].0.causes.len(), facts[0].0.causes.len() + 1, "the pit document is evidence");
        assert_eq!(counted(&bench), [(false, false)]);
    }

    /// Case 18.
    #[test]
    fn a_leader_that_pits_under_the_safety_car_and_rejoins_first_is_no_overtake_either_way() {
        let mut bench = race(&[1, 4]);
        status(&mut bench, 1_001, "SafetyCar", "SAFETY CAR DEPLOYED");
        order(&mut bench, 1_030, &[4, 1]);
        order(&mut bench, 1_043, &[1, 4]);
        leaves_lane(&mut bench, 1_045, 1, 20.0);
        assert_eq!(causes(&bench), [OvertakeCause::Pit, OvertakeCause::Pit]);
        assert_eq!(counted(&bench), [(false, false); 2]);
    }

    #[test]
    fn a_place_lost_while_a_drive_through_is_served_is_a_penaltys() {
        let mut bench = race(&[1, 4]);
        status(&mut bench, 1_001, "Other", "FIA STEWARDS: DRIVE THROUGH PENALTY FOR CAR 1 (VER) - SPEEDING IN THE PIT LANE");
        order(&mut bench, 1_030, &[4, 1]);
        leaves_lane(&mut bench, 1_040, 1, 15.0);
        assert_eq!(causes(&bench), [OvertakeCause::Penalty]);
    }

    /// Case 15.
    #[test]
    fn there_is_no_passing_before_the_line_at_the_end_of_the_safety_car() {
        let mut bench = race(&[1, 4, 16]);
        status(&mut bench, 1_001, "SafetyCar", "SAFETY CAR DEPLOYED");
        status(&mut bench, 1_080, "SafetyCar", "SAFETY CAR IN THIS LAP");
        order(&mut bench, 1_090, &[1, 16, 4]);
        laps(&mut bench, 1_100, 11, &[1]);
        order(&mut bench, 1_101, &[1, 4, 16]);
        laps(&mut bench, 1_102, 11, &[4, 16]);
        order(&mut bench, 1_110, &[1, 16, 4]);
        let restart = OvertakeCause::SafetyCarRestart;
        assert_eq!(causes(&bench), [restart, restart, OvertakeCause::OnTrack]);
    }

    /// Case 16.
    #[test]
    fn virtual_safety_car_ending_allows_no_passing_until_clear() {
        let mut bench = race(&[1, 4]);
        status(&mut bench, 1_001, "SafetyCar", "VIRTUAL SAFETY CAR DEPLOYED");
        status(&mut bench, 1_010, "SafetyCar", "VIRTUAL SAFETY CAR ENDING");
        order(&mut bench, 1_012, &[4, 1]);
        let clear = RaceControl {
            category: Some("Flag".into()),
            flag: Some("CLEAR".into()),
            scope: Some("Track".into()),
            ..race_control(at_ms(1_020_000), "TRACK CLEAR")
        };
        bench.arrive(1_020_000, Sample::from(clear));
        order(&mut bench, 1_030, &[1, 4]);
        assert_eq!(causes(&bench), [OvertakeCause::SafetyCarRestart, OvertakeCause::OnTrack]);
    }

    /// Case 17.
    #[test]
    fn a_race_that_ends_under_the_safety_car_has_no_overtakes_that_count() {
        let mut bench = race(&[1, 4, 16]);
        status(&mut bench, 1_001, "SafetyCar", "SAFETY CAR DEPLOYED");
        status(&mut bench, 1_090, "Flag", "CHEQUERED FLAG");
        order(&mut bench, 1_095, &[4, 16, 1]);
        assert_eq!(counted(&bench), [(false, false); 2]);
    }

    #[test]
    fn on_lap_1_formula_1_counts_and_pirelli_does_not() {
        let mut bench = Bench::new(crate::join);
        status(&mut bench, 0, "SessionStatus", "SESSION STARTED");
        order(&mut bench, 1, &[1, 4]);
        laps(&mut bench, 2, 1, &[1, 4]);
        order(&mut bench, 30, &[4, 1]);
        assert_eq!((causes(&bench), counted(&bench)), (vec![OvertakeCause::Lap1], vec![(true, false)]));
    }

    #[test]
    fn before_any_lap_began_the_grid_is_corrected() {
        let mut bench = Bench::new(crate::join);
        status(&mut bench, 0, "SessionStatus", "SESSION INACTIVE");
        order(&mut bench, 1, &[1, 4]);
        order(&mut bench, 30, &[4, 1]);
        assert_eq!(causes(&bench), [OvertakeCause::Correction]);
    }

    #[test]
    fn a_place_handed_back_on_the_same_lap_is_corrected_and_counts_for_formula_1_only() {
        let mut bench = race(&[1, 4]);
        order(&mut bench, 1_010, &[4, 1]);
        order(&mut bench, 1_020, &[1, 4]);
        let handed_back: Vec<_> = newest(&bench).into_iter().map(|fact| fact.handed_back_by).collect();
        assert_eq!((handed_back, counted(&bench)), (vec![Some(2), None], vec![(true, false), (true, false)]));
        order(&mut bench, 1_040, &[4, 1]);
        assert_eq!(counted(&bench)[2], (true, true), "the third holds at the line");
    }

    #[test]
    fn a_place_taken_back_on_the_next_lap_is_another_overtake() {
        let mut bench = race(&[1, 4]);
        order(&mut bench, 1_010, &[4, 1]);
        laps(&mut bench, 1_080, 11, &[4, 1]);
        order(&mut bench, 1_090, &[1, 4]);
        assert_eq!(counted(&bench), [(true, true); 2]);
    }

    #[test]
    fn a_swap_undone_sooner_than_the_next_timing_loop_was_none() {
        let mut bench = race(&[1, 4]);
        order(&mut bench, 1_010, &[4, 1]);
        order(&mut bench, 1_011, &[1, 4]);
        assert_eq!(causes(&bench), [OvertakeCause::Correction; 2]);
    }

    #[test]
    fn places_lost_on_the_lap_a_car_retires_on_are_its_retirements() {
        let mut bench = race(&[1, 4, 16]);
        order(&mut bench, 1_010, &[1, 16, 4]);
        laps(&mut bench, 1_080, 11, &[1, 16, 4]);
        order(&mut bench, 1_090, &[1, 4, 16]);
        for lap_number in 12..=14 {
            laps(&mut bench, 1_000 + 80 * i64::from(lap_number - 10), lap_number, &[1, 4]);
        }
        assert_eq!(causes(&bench), [OvertakeCause::OnTrack, OvertakeCause::Retirement]);
        laps(&mut bench, 1_330, 12, &[16]);
        assert_eq!(causes(&bench)[1], OvertakeCause::OnTrack, "it goes on after all");
    }

    #[test]
    fn a_car_that_race_control_says_was_off_the_track_was_not_overtaken_on_it() {
        let mut bench = race(&[1, 4]);
        order(&mut bench, 1_010, &[4, 1]);
        status(&mut bench, 1_025, "Other", "CAR 1 (VER) OFF TRACK AND CONTINUED AT TURN 9");
        assert_eq!((causes(&bench), counted(&bench)), (vec![OvertakeCause::OffTrack], vec![(false, false)]));
        let mut bench = race(&[1, 4]);
        order(&mut bench, 1_010, &[4, 1]);
        status(&mut bench, 1_031, "Other", "CAR 1 (VER) OFF TRACK AND CONTINUED AT TURN 9");
        assert_eq!(causes(&bench), [OvertakeCause::OnTrack], "too long after");
    }

    #[test]
    fn cars_on_different_laps_do_not_race() {
        let mut bench = race(&[1, 4]);
        let gap = |number: i32, gap_to_leader| Sample::from(raw::Interval { gap_to_leader, ..interval(number, at_ms(1_001_000)) });
        bench.arrive(1_001_000, gap(1, Reading::Text("+1 LAP".into())));
        bench.arrive(1_001_000, gap(4, Reading::Number(70.0)));
        // The first is the leader whatever its documents say.
        order(&mut bench, 1_002, &[44, 1, 4]);
        bench.arrive(1_003_000, gap(1, Reading::Text("+1 LAP".into())));
        order(&mut bench, 1_010, &[44, 4, 1]);
        assert_eq!(causes(&bench), [OvertakeCause::Lapping]);
    }

    /// Case 22.
    #[test]
    fn after_the_finish_a_place_lost_with_a_penalty_is_the_penaltys() {
        let mut bench = race(&[1, 4, 16]);
        for driver_number in [1, 4, 16] {
            let whole = raw::Lap { date_start: Some(at_ms(1_000_000)), lap_duration: Some(80.0), ..lap(driver_number, 10) };
            bench.arrive(1_081_000, Sample::from(whole));
        }
        let flag = RaceControl { flag: Some("CHEQUERED".into()), lap_number: Some(10), ..race_control(at_ms(1_082_000), "CHEQUERED FLAG") };
        bench.arrive(1_082_000, Sample::from(RaceControl { category: Some("Flag".into()), ..flag }));
        status(&mut bench, 1_090, "Other", "FIA STEWARDS: 5 SECOND TIME PENALTY FOR CAR 1 (VER) - SPEEDING");
        order(&mut bench, 1_200, &[4, 1, 16]);
        order(&mut bench, 1_300, &[4, 16, 1]);
        order(&mut bench, 1_400, &[16, 4, 1]);
        assert_eq!(causes(&bench), [OvertakeCause::Penalty, OvertakeCause::Penalty, OvertakeCause::Correction]);
    }

    #[test]
    fn outside_a_race_nobody_overtakes() {
        let mut bench = Bench::new(crate::join);
        order(&mut bench, 1, &[1, 4]);
        laps(&mut bench, 2, 3, &[1, 4]);
        order(&mut bench, 30, &[4, 1]);
        assert!(facts(&bench).is_empty());
    }

    #[test]
    fn a_swap_older_than_those_kept_stays_as_it_was_said() {
        let mut bench = Bench::new(|graph| {
            let status = graph.publish(crate::track_status::TrackStatusOperator, |inputs| inputs.samples::<RaceControl>());
            let laps = graph.publish(crate::laps::LapsOperator::default(), |inputs| inputs.samples::<raw::Lap>().stream(status));
            let positions = graph.publish(crate::positions::PositionsOperator::default(), |inputs| inputs.samples::<raw::Position>());
            let messages = graph.publish(crate::race_control::RaceControlOperator::default(), |inputs| inputs.samples::<RaceControl>());
            let operator = OvertakesOperator { correctable_max: 1, ..OvertakesOperator::default() };
            graph.publish(operator, |inputs| inputs.stream(status).stream(messages).stream(laps).stream(positions));
        });
        status(&mut bench, 0, "SessionStatus", "SESSION STARTED");
        order(&mut bench, 1, &[1, 4, 16]);
        laps(&mut bench, 1_000, 10, &[1, 4, 16]);
        order(&mut bench, 1_010, &[4, 1, 16]);
        order(&mut bench, 1_012, &[4, 16, 1]);
        status(&mut bench, 1_020, "Other", "CAR 1 (VER) STOPPED AT TURN 9");
        assert_eq!(causes(&bench), [OvertakeCause::OnTrack, OvertakeCause::OffTrack]);
    }

    #[test]
    fn a_swap_is_the_pit_lanes_from_the_loop_before_the_entry_to_the_one_behind_the_exit() {
        // In the lane from second 1,020 to 1,040.
        let cause = |ms: i64| {
            let mut bench = race(&[1, 4, 16]);
            bench.idle(ms - 1);
            for (driver_number, place) in [(4, 1), (1, 2)] {
                bench.arrive(ms, Sample::from(position(driver_number, at_ms(ms), place)));
            }
            bench.idle(1_050_000);
            let document = Pit { lane_duration: Some(20.0), ..pit(1, 10, at_ms(1_040_000)) };
            bench.arrive(1_050_000, Sample::from(document));
            causes(&bench)[0]
        };
        let (pit, on_track) = (OvertakeCause::Pit, OvertakeCause::OnTrack);
        let at = [1_014_900, 1_015_000, 1_045_000, 1_046_800, 1_048_000, 1_048_100];
        assert_eq!(at.map(cause), [on_track, pit, pit, pit, pit, on_track]);
    }

    #[test]
    fn a_pass_through_the_pit_lane_that_never_was_explains_nothing() {
        let mut bench = Bench::new(|graph| {
            let status = graph.publish(crate::track_status::TrackStatusOperator, |inputs| inputs.samples::<RaceControl>());
            let laps = graph.publish(crate::laps::LapsOperator::default(), |inputs| inputs.samples::<raw::Lap>().stream(status));
            let positions = graph.publish(crate::positions::PositionsOperator::default(), |inputs| inputs.samples::<raw::Position>());
            let stops = graph.add(crate::pit_stops::PitStopsOperator::default(), |inputs| inputs.samples::<Pit>());
            let stops = graph.add(WithdrawsPasses, |inputs| inputs.stream(stops).samples::<raw::Driver>());
            graph.publish(OvertakesOperator::default(), |inputs| inputs.stream(status).stream(laps).stream(positions).stream(stops));
        });
        status(&mut bench, 0, "SessionStatus", "SESSION STARTED");
        order(&mut bench, 1, &[1, 4]);
        laps(&mut bench, 1_000, 10, &[1, 4]);
        order(&mut bench, 1_030, &[4, 1]);
        leaves_lane(&mut bench, 1_040, 1, 20.0);
        assert_eq!(causes(&bench), [OvertakeCause::Pit]);
        bench.arrive(1_041_000, Sample::from(driver(1)));
        assert_eq!(causes(&bench), [OvertakeCause::OnTrack]);
    }

    /// A race like [`race`] in which places can be disputed.
    fn disputed_race(cars: &[i32]) -> Bench {
        let mut bench = Bench::new(|graph| {
            let status = graph.publish(crate::track_status::TrackStatusOperator, |inputs| inputs.samples::<RaceControl>());
            let laps = graph.publish(crate::laps::LapsOperator::default(), |inputs| inputs.samples::<raw::Lap>().stream(status));
            let positions = graph.add(crate::positions::PositionsOperator::default(), |inputs| inputs.samples::<raw::Position>());
            let positions = graph.add(Disputes, |inputs| inputs.stream(positions).samples::<raw::Driver>());
            graph.publish(OvertakesOperator::default(), |inputs| inputs.stream(status).stream(laps).stream(positions));
        });
        status(&mut bench, 0, "SessionStatus", "SESSION STARTED");
        order(&mut bench, 1, cars);
        laps(&mut bench, 1_000, 10, cars);
        bench
    }

    fn dispute(bench: &mut Bench, second: i64, driver_number: i32) {
        bench.arrive(second * 1_000, Sample::from(driver(driver_number)));
    }

    fn dispute_next(bench: &mut Bench, second: i64, driver_number: i32) {
        bench.arrive(second * 1_000, Sample::from(raw::Driver { broadcast_name: Some("X".into()), ..driver(driver_number) }));
    }

    #[test]
    fn a_swap_to_or_from_a_disputed_place_is_a_correction_and_counts_nowhere() {
        let mut bench = disputed_race(&[1, 4, 16, 44]);
        dispute_next(&mut bench, 1_005, 44);
        order(&mut bench, 1_010, &[1, 44, 4, 16]);
        order(&mut bench, 1_050, &[1, 4, 16, 44]);
        assert_eq!((causes(&bench), counted(&bench)), (vec![OvertakeCause::Correction; 4], vec![(false, false); 4]));
        order(&mut bench, 1_060, &[1, 4, 44, 16]);
        assert_eq!(causes(&bench)[4], OvertakeCause::OnTrack, "neither place is disputed any more");
    }

    #[test]
    fn a_swap_is_corrected_when_the_place_becomes_disputed_and_when_that_ends() {
        let mut bench = disputed_race(&[1, 4, 16]);
        order(&mut bench, 1_010, &[4, 1, 16]);
        assert_eq!(causes(&bench), [OvertakeCause::OnTrack]);
        dispute(&mut bench, 1_020, 4);
        assert_eq!((causes(&bench), counted(&bench)), (vec![OvertakeCause::Correction], vec![(false, false)]));
        dispute(&mut bench, 1_030, 4);
        assert_eq!((causes(&bench), counted(&bench)), (vec![OvertakeCause::OnTrack], vec![(true, true)]));
        let headers: Vec<_> = facts(&bench).into_iter().map(|(header, _)| (header.revision, header.withdrawn)).collect();
        assert_eq!(headers, [(0, false), (1, false), (2, false)]);
    }

    #[test]
    fn a_place_confirmed_by_a_lap_is_not_refuted_by_a_later_dispute() {
        let mut bench = disputed_race(&[1, 4, 16]);
        order(&mut bench, 1_010, &[4, 1, 16]);
        laps(&mut bench, 1_080, 11, &[4, 1, 16]);
        dispute(&mut bench, 1_090, 4);
        assert_eq!(causes(&bench), [OvertakeCause::OnTrack], "it led, and stopped a lap later");
    }

    #[test]
    fn a_car_that_did_not_start_is_overtaken_by_nobody_until_it_drives() {
        let mut bench = Bench::new(crate::join);
        status(&mut bench, 0, "SessionStatus", "SESSION STARTED");
        order(&mut bench, 1, &[1, 4, 16, 44]);
        laps(&mut bench, 2, 1, &[1, 4, 44]);
        order(&mut bench, 30, &[1, 4, 44, 16]);
        assert_eq!((causes(&bench), counted(&bench)), (vec![OvertakeCause::Correction], vec![(false, false)]));
        laps(&mut bench, 40, 1, &[16]);
        assert_eq!(causes(&bench), [OvertakeCause::Lap1], "its first lap was only sent late");
    }

    /// Passes the tower's rows on. A driver's document says of its car what stands in its broadcast name.
    struct States;

    impl Operator for States {
        const NAME: &'static str = "states_of_the_test";
        const VERSION: u32 = 1;
        type Output = Timing;
        type State = BTreeMap<i32, Timing>;
    }

    impl Handle<Timing> for States {
        fn apply(&self, rows: &mut Self::State, row: &Timing, _context: &mut Context<'_, Timing>) {
            rows.insert(row.driver_number, row.clone());
        }
    }

    impl Handle<raw::Driver> for States {
        fn apply(&self, rows: &mut Self::State, document: &raw::Driver, context: &mut Context<'_, Timing>) {
            let state = match document.broadcast_name.as_deref() {
                Some("STOPPED") => CarState::Stopped,
                Some("DID NOT START") => CarState::DidNotStart,
                Some("RETIRED") => CarState::Retired,
                _ => CarState::Running,
            };
            let row = rows.get(&document.driver_number).cloned().unwrap();
            context.emit(Timing { state, ..row });
        }
    }

    #[test]
    fn a_car_that_stands_was_stopped_until_it_retires_and_one_that_did_not_start_takes_no_part() {
        let mut bench = Bench::new(|graph| {
            let status = graph.publish(crate::track_status::TrackStatusOperator, |inputs| inputs.samples::<RaceControl>());
            let laps = graph.publish(crate::laps::LapsOperator::default(), |inputs| inputs.samples::<raw::Lap>().stream(status));
            let positions = graph.publish(crate::positions::PositionsOperator::default(), |inputs| inputs.samples::<raw::Position>());
            let rows = graph.add(crate::timing::TimingOperator::default(), |inputs| inputs.stream(positions));
            let rows = graph.add(States, |inputs| inputs.stream(rows).samples::<raw::Driver>());
            graph.publish(OvertakesOperator::default(), |inputs| inputs.stream(status).stream(laps).stream(positions).stream(rows));
        });
        let say = |bench: &mut Bench, second: i64, car: i32, state: &str| {
            bench.arrive(second * 1_000, Sample::from(raw::Driver { broadcast_name: Some(state.into()), ..driver(car) }));
        };
        status(&mut bench, 0, "SessionStatus", "SESSION STARTED");
        order(&mut bench, 1, &[1, 4, 16, 44]);
        laps(&mut bench, 1_000, 10, &[1, 4, 16, 44]);
        order(&mut bench, 1_010, &[4, 1, 16, 44]);
        say(&mut bench, 1_025, 1, "STOPPED");
        order(&mut bench, 1_060, &[4, 16, 1, 44]);
        let (off_track, on_track) = (OvertakeCause::OffTrack, OvertakeCause::OnTrack);
        assert_eq!(causes(&bench), [off_track, off_track], "one just before it was told, and one while it stands");
        say(&mut bench, 1_070, 1, "RUNNING");
        order(&mut bench, 1_075, &[4, 16, 44, 1]);
        assert_eq!(causes(&bench), [off_track, off_track, on_track], "it drives again");
        say(&mut bench, 1_100, 1, "RETIRED");
        assert_eq!(causes(&bench), [OvertakeCause::Retirement; 3]);
        order(&mut bench, 1_200, &[4, 44, 16, 1]);
        say(&mut bench, 1_210, 16, "DID NOT START");
        assert_eq!(causes(&bench)[3], OvertakeCause::Correction);
    }

    fn lap_1(bench: &mut Bench, second: i64, out_of_pit_lane: &[i32], cars: &[i32]) {
        for driver_number in cars {
            let is_pit_out_lap = out_of_pit_lane.contains(driver_number);
            let begun = raw::Lap { date_start: Some(at_ms(second * 1_000)), is_pit_out_lap, ..lap(*driver_number, 1) };
            bench.arrive(second * 1_000, Sample::from(begun));
        }
    }

    /// A start with cars 1, 4, 16 and 44 on the grid and `out_of_pit_lane` laps 1 that are said to begin there.
    fn start(out_of_pit_lane: &[i32]) -> Bench {
        let mut bench = Bench::new(crate::join);
        status(&mut bench, 0, "SessionStatus", "SESSION STARTED");
        order(&mut bench, 1, &[1, 4, 16, 44]);
        lap_1(&mut bench, 2, out_of_pit_lane, &[1, 4, 16, 44]);
        bench
    }

    #[test]
    fn a_car_that_starts_from_the_pit_lane_is_not_overtaken_on_the_first_lap() {
        let mut bench = start(&[16]);
        order(&mut bench, 20, &[1, 4, 44, 16]);
        assert_eq!((causes(&bench), counted(&bench)), (vec![OvertakeCause::Pit], vec![(false, false)]));
        // Race control may say so later.
        let mut bench = start(&[]);
        order(&mut bench, 20, &[1, 4, 44, 16]);
        assert_eq!(causes(&bench), [OvertakeCause::Lap1]);
        status(&mut bench, 25, "Other", "CAR 16 (LEC) WILL START FROM THE PIT LANE");
        assert_eq!(causes(&bench), [OvertakeCause::Pit]);
        let mut bench = start(&[1, 4, 16, 44]);
        order(&mut bench, 20, &[1, 4, 44, 16]);
        assert_eq!(causes(&bench), [OvertakeCause::Lap1], "the feed marks everybody's lap 1");
    }

    #[test]
    fn a_car_that_is_put_last_on_the_first_lap_was_overtaken_by_nobody() {
        let mut bench = start(&[]);
        order(&mut bench, 20, &[1, 16, 44, 4]);
        assert_eq!((causes(&bench), counted(&bench)), (vec![OvertakeCause::Correction; 2], vec![(false, false); 2]));
        let mut bench = start(&[]);
        order(&mut bench, 20, &[1, 16, 4, 44]);
        assert_eq!(causes(&bench), [OvertakeCause::Lap1]);
        let mut bench = race(&[1, 4, 16, 44]);
        order(&mut bench, 1_020, &[1, 16, 44, 4]);
        assert_eq!(causes(&bench), [OvertakeCause::OnTrack; 2], "on a later lap it was slow");
    }

    #[test]
    fn without_laps_gaps_tell_that_the_race_has_begun() {
        let mut bench = Bench::new(crate::join);
        order(&mut bench, 1, &[1, 4]);
        let gap = |seconds: f64| Reading::Number(seconds);
        let apart = raw::Interval { gap_to_leader: gap(1.5), interval: gap(1.5), ..interval(4, at_ms(5_000)) };
        order(&mut bench, 2, &[4, 1]);
        bench.arrive(5_000, Sample::from(raw::Interval { ..apart.clone() }));
        let apart = raw::Interval { driver_number: 1, date: at_ms(6_000), ..apart };
        bench.arrive(6_000, Sample::from(apart));
        order(&mut bench, 20, &[1, 4]);
        assert_eq!(causes(&bench).last(), Some(&OvertakeCause::Lap1));
    }

    #[test]
    fn long_after_the_flag_nobody_overtakes_whatever_is_known_of_the_cars() {
        let mut bench = race(&[1, 4, 16]);
        let flag = RaceControl { flag: Some("CHEQUERED".into()), lap_number: Some(10), ..race_control(at_ms(1_082_000), "CHEQUERED FLAG") };
        bench.arrive(1_082_000, Sample::from(RaceControl { category: Some("Flag".into()), ..flag }));
        order(&mut bench, 1_100, &[4, 1, 16]);
        order(&mut bench, 1_300, &[4, 16, 1]);
        assert_eq!(causes(&bench), [OvertakeCause::OnTrack, OvertakeCause::Correction]);
    }

    #[test]
    fn an_order_that_is_never_complete_keeps_one_change_of_each_car_and_is_whole_once_it_is() {
        let mut state = State { order: vec![1, 4, 16], ..State::default() };
        let change =
            |driver_number, from, to| Change { driver_number, from: Some(from), to, at: at_ms(0), causes: vec![0], disputed: None };
        for _ in 0..10_000 {
            state.change(change(1, 1, 2));
            state.change(change(1, 2, 3));
            state.change(change(4, 2, 1));
            assert!(!state.is_complete(3));
        }
        assert_eq!(state.pending.len(), 2);
        state.change(change(16, 3, 2));
        assert!(state.is_complete(3));
        assert_eq!(state.settled(3), [4, 16, 1]);
    }

    proptest! {
        /// Each pair whose order differs is there once, and the swaps one after the other lead from the old order to the new.
        #[test]
        fn swapped_pairs_are_the_difference_of_two_orders(
            before in Just((1..=12).collect::<Vec<i32>>()).prop_shuffle(),
            after in Just((1..=12).collect::<Vec<i32>>()).prop_shuffle(),
        ) {
            let place = |order: &[i32], car: i32| order.iter().position(|other| *other == car);
            let pairs = swapped_pairs(&before, &after);
            let distinct: BTreeSet<_> = pairs.iter().copied().collect();
            prop_assert_eq!(distinct.len(), pairs.len());
            for front in 1..=12 {
                for behind in 1..=12 {
                    let is_swapped = place(&before, front) > place(&before, behind) && place(&after, front) < place(&after, behind);
                    prop_assert_eq!(distinct.contains(&(front, behind)), is_swapped);
                }
            }
            let mut line = before;
            for (front, behind) in pairs {
                let at = place(&line, front).unwrap();
                prop_assert_eq!(line[at - 1], behind, "the nearest first");
                line.swap(at, at - 1);
            }
            prop_assert_eq!(line, after);
        }
    }
}
