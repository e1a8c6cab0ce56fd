//! Overtakes: every swap of two cars in the running order, one pair at a time, with why it happened: from `positions`, with pit stops,
//! track status, laps, gaps, the tower and race control to tell why.
//!
//! Rules, with their source:
//! * A change of order is complete when the places taken are those left, and those of cars that joined. Moving each car up in the new
//!   order gives every pair whose order changed exactly once, the nearest first. A car that joins overtakes nobody.
//! * Why, the first that holds:
//!   1. `CORRECTION`: before any lap began; after both have finished, unless the overtaken car has a penalty, which is `PENALTY`; or undone
//!      within [`OvertakesOperator::flicker_ms`], less than cars need from one timing loop to the next.
//!   2. `PIT`: either car was in the pit lane, with [`OvertakesOperator::pit_margin_ms`] before and after, since an order is measured at
//!      timing loops only. `PENALTY` when the overtaken car served a drive-through or stop-and-go there. `pit` documents come when the car
//!      is out again, so this is told by correction.
//!   3. `RETIREMENT`: the overtaken car never completed the lap it was on. The tower tells some laps late, so this is a correction too.
//!   4. `OFF_TRACK`: race control says within [`OvertakesOperator::off_track_ms`] that the overtaken car stopped, spun or was off the track.
//!   5. `LAPPING`: the two are not on the same lap (OpenF1 `intervals`).
//!   6. `SAFETY_CAR_RESTART`: the race is slowed or stopped, or the overtaking car has not yet crossed the line after a safety car: until
//!      then there is no passing (sporting regulations).
//!   7. `LAP_1`: the overtaking car is on lap 1. `ON_TRACK` is what remains.
//! * Formula 1's award of 2021 counts `ON_TRACK` and `LAP_1`, whether it held or not.
//! * Pirelli counts `ON_TRACK` of which the line at the end of the lap still shows something: not what was handed back on the same lap, nor
//!   the handing back.
//! * Outside races cars swap places by their times, and nothing is said.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use pitwall_engine::Micros;
use pitwall_engine::operator::{Context, Handle, Issued, Operator};
use pitwall_schemas::facts::{
    CarState, Gap, Lap, MessageKind, Neutralisation, Overtake, OvertakeCause, PitPassKind, PitStop, Position, RaceControlMessage, Status,
    Timing, TrackStatus,
};
use serde::{Deserialize, Serialize};

use crate::by_driver::ByDriver;
use crate::known::in_order;
use crate::pit_stops::neutralisation;

/// Newest passes through the pit lane kept of one car, to explain its swaps.
const PASSES_MAX: usize = 8;

/// Newest messages that a car is off the track kept of one car.
const OFF_TRACK_MAX: usize = 8;

/// Tells swaps.
#[derive(Debug, Clone, Copy)]
pub struct OvertakesOperator {
    /// A swap undone within this, ms, was none.
    pub flicker_ms: i64,
    /// How long before the entry and after the exit a swap still belongs to the pit lane, ms: from one timing loop to the next.
    pub pit_margin_ms: i64,
    /// How long before the exit a car is taken to have entered when its time in the lane is unknown, ms.
    pub unknown_lane_ms: i64,
    /// How long before and after race control's message a car is off the track, ms.
    pub off_track_ms: i64,
    /// Newest swaps that may still be corrected: 20 cars' in half an hour. An older one stays as it was last said.
    pub correctable_max: usize,
}

impl Default for OvertakesOperator {
    fn default() -> Self {
        Self { flicker_ms: 2_000, pit_margin_ms: 5_000, unknown_lane_ms: 30_000, off_track_ms: 20_000, correctable_max: 1_024 }
    }
}

/// The running order, and what explains how it changed.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    race: Race,
    /// Car numbers in running order.
    order: Vec<i32>,
    /// Changes of the order that are not yet complete.
    pending: Vec<Change>,
    cars: ByDriver<Car>,
    swaps: VecDeque<Swap>,
    swaps_told: i32,
}

/// What concerns all cars.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Race {
    is_race: bool,
    has_begun: bool,
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
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Car {
    lap_number: Option<i32>,
    sector: i32,
    laps_behind: Option<i32>,
    /// The safety car behind which the car is until it crosses the line.
    behind_safety_car: Option<u64>,
    retired: Option<u64>,
    has_finished: bool,
    /// The penalty it has or had, whether a time penalty or a disqualification.
    penalised: Option<u64>,
    passes: VecDeque<Pass>,
    off_track: VecDeque<(Micros, u64)>,
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
        let margin = operator.pit_margin_ms * 1_000;
        self.passes.iter().find(|pass| {
            let entered_at = pass.entered_at.unwrap_or_else(|| pass.exited_at.plus(-operator.unknown_lane_ms * 1_000));
            (entered_at.plus(-margin)..=pass.exited_at.plus(margin)).contains(&moment)
        })
    }
}

impl Swap {
    /// Why the two swapped as far as known now, and the ledger record that tells, besides those of the swap itself.
    fn why(&self, cars: &ByDriver<Car>, operator: &OvertakesOperator) -> (OvertakeCause, Option<u64>) {
        let car = |driver_number| cars.get(driver_number);
        if self.then.0 == OvertakeCause::Correction || self.then.0 == OvertakeCause::Penalty {
            return self.then;
        }
        if let Some(flicker) = self.handed_back.filter(|back| back.is_flicker) {
            return (OvertakeCause::Correction, flicker.cause);
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
            let is_near = |(said_at, _): &&(Micros, u64)| said_at.since(self.at).abs() <= operator.off_track_ms * 1_000;
            if let Some((_, cause)) = car.off_track.iter().find(is_near) {
                return (OvertakeCause::OffTrack, Some(*cause));
            }
        }
        self.then
    }

    /// Says the swap if something of it changed.
    fn say(&mut self, cars: &ByDriver<Car>, operator: &OvertakesOperator, context: &mut Context<'_, Overtake>) {
        let (cause, reason) = self.why(cars, operator);
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

impl State {
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

    fn swap(&mut self, (overtaking, overtaken): (i32, i32), position: i32, changes: &BTreeMap<i32, &Change>) -> Option<Swap> {
        let of_pair = [changes.get(&overtaking), changes.get(&overtaken)];
        let at = of_pair.into_iter().flatten().next()?.at;
        let causes = in_order(of_pair.into_iter().flatten().flat_map(|change| &change.causes).map(|cause| Some(*cause)));
        let then = self.why_now(overtaking, overtaken);
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
    fn why_now(&self, overtaking: i32, overtaken: i32) -> (OvertakeCause, Option<u64>) {
        let [front, behind] = [overtaking, overtaken].map(|driver_number| self.cars.get(driver_number));
        if !self.race.has_begun {
            return (OvertakeCause::Correction, None);
        }
        if [front, behind].into_iter().all(|car| car.is_some_and(|car| car.has_finished)) {
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
        if front.and_then(|car| car.lap_number).is_none_or(|lap| lap <= 1) {
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
        undone.say(&self.cars, operator, context);
    }

    /// Says anew every swap that `driver_number` is part of and about which something changed.
    fn say_of(&mut self, driver_number: i32, operator: &OvertakesOperator, context: &mut Context<'_, Overtake>) {
        let Self { swaps, cars, .. } = self;
        for swap in swaps.iter_mut().filter(|swap| swap.overtaking == driver_number || swap.overtaken == driver_number) {
            swap.say(cars, operator, context);
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

fn keep<T>(queue: &mut VecDeque<T>, value: T, values_max: usize) {
    if queue.len() >= values_max {
        queue.pop_front();
    }
    queue.push_back(value);
}

/// The newest ledger record the event came from.
fn newest_cause(context: &Context<'_, Overtake>) -> u64 {
    context.causes().last().copied().unwrap_or(context.seq())
}

impl Operator for OvertakesOperator {
    const NAME: &'static str = "overtakes";
    const VERSION: u32 = 1;
    type Output = Overtake;
    type State = State;

    fn parameters(&self) -> Vec<(&'static str, String)> {
        vec![
            ("flicker_ms", self.flicker_ms.to_string()),
            ("pit_margin_ms", self.pit_margin_ms.to_string()),
            ("unknown_lane_ms", self.unknown_lane_ms.to_string()),
            ("off_track_ms", self.off_track_ms.to_string()),
            ("correctable_max", self.correctable_max.to_string()),
        ]
    }
}

impl Handle<Position> for OvertakesOperator {
    fn apply(&self, state: &mut State, position: &Position, context: &mut Context<'_, Overtake>) {
        state.pending.push(Change {
            driver_number: position.driver_number,
            from: position.previous_position,
            to: position.position,
            at: context.event_time(),
            causes: context.causes().to_vec(),
        });
        if !state.is_complete(position.cars) {
            return;
        }
        let after = state.settled(position.cars);
        let pending = std::mem::take(&mut state.pending);
        let before = std::mem::replace(&mut state.order, after);
        if !state.race.is_race {
            return;
        }
        let changes: BTreeMap<i32, &Change> = pending.iter().map(|change| (change.driver_number, change)).collect();
        for pair in swapped_pairs(&before, &state.order) {
            let place = (1..).zip(&state.order).find(|(_, driver_number)| **driver_number == pair.0).map_or(0, |(place, _)| place);
            let Some(mut swap) = state.swap(pair, place, &changes) else { continue };
            state.hand_back(&mut swap, self, context);
            swap.say(&state.cars, self, context);
            keep(&mut state.swaps, swap, self.correctable_max);
        }
    }
}

impl Handle<PitStop> for OvertakesOperator {
    fn apply(&self, state: &mut State, stop: &PitStop, context: &mut Context<'_, Overtake>) {
        let PitStop { driver_number, lap_number, pass, kind, entered_at, exited_at, .. } = *stop;
        let pass = Pass { key: (lap_number, pass), entered_at, exited_at, kind, cause: newest_cause(context) };
        let passes = &mut state.cars.entry(driver_number).passes;
        match passes.iter_mut().find(|known| known.key == pass.key) {
            Some(known) if (known.entered_at, known.exited_at, known.kind) == (entered_at, exited_at, kind) => return,
            Some(known) => *known = pass,
            None => keep(passes, pass, PASSES_MAX),
        }
        state.say_of(driver_number, self, context);
    }
}

impl Handle<TrackStatus> for OvertakesOperator {
    fn apply(&self, state: &mut State, status: &TrackStatus, context: &mut Context<'_, Overtake>) {
        state.race.is_race |= status.lap_number.is_some();
        let value = neutralisation(status.status);
        let cause = newest_cause(context);
        if state.race.slowed.map(|(slowed, _)| slowed) != Some(value) {
            state.race.slowed = Some((value, cause)).filter(|_| value != Neutralisation::None);
        }
        if status.status == Status::SafetyCar {
            for (_, car) in state.cars.iter_mut() {
                car.behind_safety_car.get_or_insert(cause);
            }
        }
    }
}

impl Handle<Lap> for OvertakesOperator {
    fn apply(&self, state: &mut State, lap: &Lap, _context: &mut Context<'_, Overtake>) {
        let car = state.cars.entry(lap.driver_number);
        state.race.has_begun = true;
        if car.lap_number.is_some_and(|newest| newest > lap.lap_number) {
            return;
        }
        if car.lap_number != Some(lap.lap_number) {
            car.lap_number = Some(lap.lap_number);
            let is_safety_car_out = state.race.slowed.is_some_and(|(slowed, _)| slowed == Neutralisation::SafetyCar);
            car.behind_safety_car = car.behind_safety_car.filter(|_| is_safety_car_out);
        }
        car.sector = 1 + i32::from(lap.sector_1_ms.is_some()) + i32::from(lap.sector_1_ms.is_some() && lap.sector_2_ms.is_some());
    }
}

impl Handle<Gap> for OvertakesOperator {
    fn apply(&self, state: &mut State, gap: &Gap, _context: &mut Context<'_, Overtake>) {
        state.race.is_race = true;
        state.cars.entry(gap.driver_number).laps_behind = gap.laps_behind;
    }
}

impl Handle<Timing> for OvertakesOperator {
    fn apply(&self, state: &mut State, row: &Timing, context: &mut Context<'_, Overtake>) {
        let car = state.cars.entry(row.driver_number);
        car.has_finished = row.state == CarState::Finished;
        let is_retired = row.state == CarState::Retired;
        if is_retired != car.retired.is_some() {
            car.retired = is_retired.then(|| newest_cause(context));
            state.say_of(row.driver_number, self, context);
        }
    }
}

impl Handle<RaceControlMessage> for OvertakesOperator {
    fn apply(&self, state: &mut State, message: &RaceControlMessage, context: &mut Context<'_, Overtake>) {
        state.race.is_race |= message.lap_number.is_some();
        let is_penalty = matches!(message.kind, MessageKind::Penalty | MessageKind::Disqualified);
        let is_off_track = is_off_track(message);
        let (at, cause) = (context.event_time(), newest_cause(context));
        for &driver_number in message.driver_numbers.iter().filter(|_| is_penalty || is_off_track) {
            let car = state.cars.entry(driver_number);
            if is_penalty {
                car.penalised = Some(cause);
            }
            if is_off_track {
                keep(&mut car.off_track, (at, cause), OFF_TRACK_MAX);
                state.say_of(driver_number, self, context);
            }
        }
    }
}
