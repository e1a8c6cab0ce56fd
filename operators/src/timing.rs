//! Timing: the tower's row of each car, joined from drivers, positions, laps, gaps, stints, passes through the pit lane and track
//! status; a fact whenever anything in a row changes.
//!
//! A row is the newest state of everything, and what is not known of a car is null in it. It names the records of the change that made
//! it say something new; those of its other values stand in the facts it was joined from.
//!
//! Rules:
//! * Last lap: the highest-numbered one with a time. Sectors: those of the lap being driven.
//! * Best lap: the shortest of those that can be a best, which a race's lap 1, outside races a lap out of or into the pit lane, and laps
//!   begun after the end cannot (as in [`laps`](crate::laps)). Each segment of qualifying starts afresh. A time taken back gives way to the
//!   next best.
//! * Tyres: those of the newest stint. A stint's document can lag by a lap and more, and the feed goes on with the stint before meanwhile,
//!   so from the car's last lap out of the pit lane on the tyres are not known until a stint begins with it, or one from before is still
//!   gone on with [`LAPS_GONE_ON`] laps later.
//! * Stops: passes through the pit lane, as [`pit_stops`](crate::pit_stops) tells them apart: two on one lap are two and one sent again is
//!   one. A drive-through is a pass as well.
//! * A session is a race when race control counts its laps or gaps are sent: OpenF1 does neither elsewhere. Only a race's cars stop,
//!   retire, finish or do not start.
//! * `FINISHED`: the car completed a lap with or after the leader's crossing that the chequered flag was for, the one that ended at most
//!   [`TimingOperator::flag_lag_ms_max`] before the flag. When a race that was stopped ends without being resumed, its cars have finished:
//!   the result is that of two laps before (sporting regulations).
//! * `RETIRED`: the car is silent or stands while the others go on, as [`presence`](crate::presence) tells; the feed itself says nothing.
//!   Before the flag the others have begun [`PresenceRules::laps_missed_max`] laps since the car's last sign of life. After the flag they
//!   have finished, and the car has not within a lap ([`TimingOperator::finish_wait_percent`] of the winner's last), nor been seen but on
//!   the lap it never ended. Either way none that has completed more laps is placed behind it, unless it is seen to stand or the order
//!   never changes: a stopped car falls behind the others.
//!   So it is said some laps late and never while the race stands still, and a sign of life takes it back, as after a long repair. A
//!   retired car has no gaps.
//! * `STOPPED`: the car stands on the track since [`PresenceRules::standing_ms_min`] while most others drive, or race control says that it
//!   stopped; until it moves on or is retired. Where cars stand in the pit lane nothing is said.
//! * `DID_NOT_START`: the start was seen, the others have begun [`PresenceRules::laps_missed_max`] laps since, and of the car there is
//!   neither a lap nor a sign of life, nor a place before any that drives. Who joins later cannot tell it from one that has retired.
//! * `IN_PIT`: the newest lap ended in the pit lane, or its mini-sectors have come to it (as in [`laps`](crate::laps)). In a race it is
//!   mostly known once the car is out again, and then `PIT_OUT`.
//! * `PIT_OUT`: the lap being driven began in the pit lane.
//! * `RUNNING`: none of these can be told. A feed that is silent about all cars decides nothing.

use std::collections::{BTreeMap, BTreeSet};

use pitwall_engine::Micros;
use pitwall_engine::operator::{Context, Handle, Operator};
use pitwall_schemas::codec::Reading;
use pitwall_schemas::facts::{
    CarState, Channel, Driver, Gap, Lap, PitStop, Position, RaceControlMessage, SessionState, Status, Stint, Telemetry, Timing, TrackStatus,
};
use pitwall_schemas::raw::Interval;
use pitwall_schemas::shared::{Compound, Mark};
use serde::{Deserialize, Serialize};

use crate::by_driver::ByDriver;
use crate::known::Version;
use crate::presence::{Heard, Presence, PresenceRules};

/// The timer at which a car that has not finished has had a lap to do so; the others are those of car numbers.
const FINISH_TIMER: u64 = 0;

/// Laps after the one out of the pit lane with which a stint from before must be gone on with to be the newest.
const LAPS_GONE_ON: i32 = 2;

/// Joins the tower's rows.
#[derive(Debug, Clone, Copy)]
pub struct TimingOperator {
    /// What counts as silence, standing and driving.
    pub presence: PresenceRules,
    /// How long after the leader's last crossing the chequered flag is known of at most, ms. Shorter than any lap.
    pub flag_lag_ms_max: i64,
    /// How long a car has to finish, percent of the winner's last lap: a lap, and half of one for a damaged car.
    pub finish_wait_percent: i64,
    /// How long a car has to finish at most, ms: more than a lap behind the safety car.
    pub finish_wait_ms_max: i64,
}

impl Default for TimingOperator {
    fn default() -> Self {
        Self { presence: PresenceRules::default(), flag_lag_ms_max: 10_000, finish_wait_percent: 150, finish_wait_ms_max: 300_000 }
    }
}

/// Everything that is in a row, for every car.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    race: Race,
    cars: ByDriver<Car>,
}

/// What concerns all cars.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Race {
    is_race: bool,
    session: Option<SessionState>,
    qualifying_phase: Option<i32>,
    /// When the session, or the segment of qualifying, ended.
    finished_at: Option<Micros>,
    /// Whether it ended while the race stood still.
    ended_suspended: bool,
    /// Highest lap that any car has begun.
    leaders_lap: i32,
    /// When the start became known, if it was seen.
    begun_at: Option<Micros>,
    /// Since when the race goes on: since the start, the last resumption, or the first lap seen.
    on_since: Option<Micros>,
    is_suspended: bool,
    /// Whether places have changed, so that a stopped car would fall behind.
    has_order_changed: bool,
    finish: Option<Finish>,
}

/// The winner's finish.
#[derive(Debug, Serialize, Deserialize)]
struct Finish {
    learned_at: Micros,
    /// Until when the others may finish.
    due: Micros,
    causes: Vec<u64>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Car {
    acronym: Option<String>,
    team_colour: Option<String>,
    position: Option<i32>,
    gap: Option<Gap>,
    /// Of the newest `intervals` document.
    interval: Version,
    /// The lap being driven: the newest.
    lap: Option<Lap>,
    /// The one before, in case the newest proves to be none.
    lap_before: Option<Lap>,
    last_lap: Option<LastLap>,
    /// Times of laps that can be the best, by number.
    times: BTreeMap<i32, i32>,
    /// Laps below this belong to earlier segments of qualifying.
    first_lap_of_segment: i32,
    /// By number, which the schema ends at 100.
    stints: BTreeMap<i32, Stint>,
    /// Lap and number on that lap of every pass through the pit lane; `pit_stops` bounds them.
    pit_passes: BTreeSet<(i32, i32)>,
    presence: Presence,
    /// What the car is doing, as last judged.
    state: Option<CarState>,
    said: Option<Timing>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct LastLap {
    lap_number: i32,
    time_ms: i32,
    mark: Mark,
    ended_at: Option<Micros>,
}

impl LastLap {
    fn of(lap: &Lap) -> Option<Self> {
        let time_ms = lap.lap_ms?;
        Some(Self { lap_number: lap.lap_number, time_ms, mark: lap.lap_mark, ended_at: end_of(lap) })
    }
}

impl State {
    /// The tower's rows as they were last said, by car number.
    pub fn rows(&self) -> impl Iterator<Item = &Timing> {
        self.cars.iter().filter_map(|(_, car)| car.said.as_ref())
    }

    /// The winner's last lap, once the flag is out and the crossing that it was for is known: the first to end the highest lap.
    fn winner(&self, flag_lag_ms_max: i64) -> Option<LastLap> {
        let flag = self.race.finished_at.filter(|_| self.race.is_race)?;
        let timed = self.cars.iter().filter_map(|(_, car)| car.last_lap.filter(|last| last.ended_at.is_some()));
        let winner = timed.max_by_key(|last| (last.lap_number, std::cmp::Reverse(last.ended_at)))?;
        (flag.since(winner.ended_at?) <= flag_lag_ms_max * 1_000).then_some(winner)
    }

    /// The other cars that have begun a lap and are neither out nor standing: those that can go on without the car.
    fn others(&self, driver_number: i32) -> impl Iterator<Item = &Car> {
        let others = self.cars.iter().filter(move |(other, _)| *other != driver_number).map(|(_, car)| car);
        others.filter(|car| car.presence.has_laps() && !car.is_out() && !car.presence.stands())
    }
}

impl Race {
    /// Takes what a lap tells of the race: that it goes on, and that it has begun.
    fn take_lap(&mut self, lap: &Lap, now: Micros) {
        self.leaders_lap = self.leaders_lap.max(lap.lap_number);
        self.on_since.get_or_insert(now);
        if lap.lap_number == 1 {
            self.begun_at.get_or_insert(now);
        }
    }

    /// Whether the lap's time can be a best.
    fn may_be_best(&self, lap: &Lap) -> bool {
        let is_of_the_pit_lane = !self.is_race && (lap.is_pit_out_lap || lap.is_pit_in_lap);
        let begins_standing = self.is_race && lap.lap_number == 1;
        let is_after_the_end = self.finished_at.is_some_and(|end| lap.started_at.is_some_and(|start| start > end));
        !is_of_the_pit_lane && !begins_standing && !is_after_the_end && !lap.is_deleted && !lap.is_interrupted
    }
}

impl Car {
    /// Takes what a lap's fact says, and tells whether the car began it.
    fn take_lap(&mut self, lap: &Lap, race: &Race, now: Micros, rules: &PresenceRules) -> bool {
        let begins = self.lap.as_ref().is_none_or(|newest| lap.lap_number > newest.lap_number);
        let mut is_driven = begins && lap.lap_number > 1;
        if begins {
            self.lap_before = self.lap.replace(lap.clone());
            self.presence.begin_lap(now, rules);
        } else if let Some(newest) = self.lap.as_mut().filter(|newest| newest.lap_number == lap.lap_number) {
            is_driven |= times_known(lap) > times_known(newest);
            *newest = lap.clone();
        }
        match lap.lap_ms.filter(|_| race.may_be_best(lap)) {
            Some(time_ms) => is_driven |= self.times.insert(lap.lap_number, time_ms).is_none(),
            None => {
                self.times.remove(&lap.lap_number);
            }
        }
        if self.last_lap.is_none_or(|last| lap.lap_number >= last.lap_number) {
            self.last_lap = LastLap::of(lap).or(self.last_lap);
        }
        if is_driven {
            self.presence.show_lap(now, rules);
        }
        begins
    }

    /// Forgets a lap that proved to be none.
    fn forget_lap(&mut self, lap_number: i32) {
        self.times.remove(&lap_number);
        self.lap_before.take_if(|before| before.lap_number == lap_number);
        if self.lap.as_ref().is_some_and(|newest| newest.lap_number == lap_number) {
            self.lap = self.lap_before.take();
        }
        if self.last_lap.is_some_and(|last| last.lap_number == lap_number) {
            self.last_lap = self.lap.as_ref().and_then(LastLap::of);
        }
    }

    /// Takes a sign of life from something other than the car's laps.
    fn show(&mut self, now: Micros, rules: &PresenceRules) {
        self.presence.show(now, rules);
        self.come_back();
    }

    /// A sign of life refutes that the car is out.
    fn come_back(&mut self) {
        self.state.take_if(|state| matches!(state, CarState::Retired | CarState::DidNotStart | CarState::Stopped));
    }

    /// Whether the car takes no part any more.
    const fn is_out(&self) -> bool {
        matches!(self.state, Some(CarState::Retired | CarState::DidNotStart))
    }

    fn has_finished(&self, winner: Option<LastLap>) -> bool {
        winner.is_some_and(|winner| self.last_lap.and_then(|last| last.ended_at) >= winner.ended_at)
    }

    /// The shortest lap and its number, the earlier of two equal ones.
    fn best_lap(&self) -> Option<(i32, i32)> {
        self.times.range(self.first_lap_of_segment..).map(|(&number, &time_ms)| (time_ms, number)).min()
    }

    /// What the newest lap says of the car.
    fn state_on_lap(&self) -> CarState {
        match &self.lap {
            Some(lap) if lap.is_pit_in_lap => CarState::InPit,
            Some(lap) if lap.is_pit_out_lap && !lap.is_complete => CarState::PitOut,
            _ => CarState::Running,
        }
    }

    /// Compound and age of the tyres, if they are those of the newest stint.
    fn tyres(&self) -> (Option<Compound>, Option<i32>) {
        let Some(stint) = self.stint() else { return (None, None) };
        let out_lap = self.lap.as_ref().filter(|lap| lap.is_pit_out_lap).map(|lap| lap.lap_number);
        let out_lap = out_lap.max(self.pit_passes.last().map(|(in_lap, _)| in_lap + 1));
        let is_before = |of_stint: Option<i32>, lap: Option<i32>| of_stint.is_some_and(|number| Some(number) < lap);
        let gone_on = out_lap.map(|out_lap| out_lap + LAPS_GONE_ON);
        let has_new_tyres = is_before(stint.lap_start, out_lap) && is_before(stint.lap_end, gone_on);
        if has_new_tyres { (None, None) } else { (Some(stint.compound), stint.tyre_age) }
    }

    fn stint(&self) -> Option<&Stint> {
        self.stints.last_key_value().map(|(_, stint)| stint)
    }

    fn row(&self, driver_number: i32) -> Timing {
        let (lap, stint) = (self.lap.as_ref(), self.stint());
        let gap = self.gap.as_ref().filter(|_| !self.is_out());
        let (best_lap_ms, best_lap_number) = self.best_lap().unzip();
        let (compound, tyre_age) = self.tyres();
        Timing {
            driver_number,
            acronym: self.acronym.clone(),
            team_colour: self.team_colour.clone(),
            position: self.position,
            lap_number: lap.map(|lap| lap.lap_number),
            gap_ms: gap.and_then(|gap| gap.gap_ms),
            laps_behind: gap.and_then(|gap| gap.laps_behind),
            interval_ms: gap.and_then(|gap| gap.interval_ms),
            interval_laps: gap.and_then(|gap| gap.interval_laps),
            last_lap_ms: self.last_lap.map(|last| last.time_ms),
            last_lap_mark: self.last_lap.map_or(Mark::None, |last| last.mark),
            best_lap_ms,
            best_lap_number,
            sector_1_ms: lap.and_then(|lap| lap.sector_1_ms),
            sector_2_ms: lap.and_then(|lap| lap.sector_2_ms),
            sector_3_ms: lap.and_then(|lap| lap.sector_3_ms),
            sector_1_mark: lap.map_or(Mark::None, |lap| lap.sector_1_mark),
            sector_2_mark: lap.map_or(Mark::None, |lap| lap.sector_2_mark),
            sector_3_mark: lap.map_or(Mark::None, |lap| lap.sector_3_mark),
            compound,
            tyre_age,
            stint_number: stint.map(|stint| stint.stint_number),
            stops: self.pit_passes.len() as i32,
            state: self.state.unwrap_or(CarState::Running),
        }
    }

    /// Says the row if it changed, because of the event being taken.
    fn say(&mut self, driver_number: i32, context: &mut Context<'_, Timing>) {
        let row = self.row(driver_number);
        if self.said.as_ref() != Some(&row) {
            self.said = Some(row.clone());
            context.emit(row);
        }
    }

    /// Says the row if it changed, in a timer, because of `causes`.
    fn say_because(&mut self, driver_number: i32, causes: &[u64], context: &mut Context<'_, Timing>) {
        let row = self.row(driver_number);
        if self.said.as_ref() != Some(&row) && !causes.is_empty() {
            self.said = Some(row.clone());
            context.emit_because(causes, row);
        }
    }
}

/// When the lap ended, if its start and time are known.
fn end_of(lap: &Lap) -> Option<Micros> {
    lap.started_at.zip(lap.lap_ms).map(|(start, time_ms)| start.plus(i64::from(time_ms) * 1_000))
}

fn times_known(lap: &Lap) -> usize {
    [lap.sector_1_ms, lap.sector_2_ms, lap.sector_3_ms, lap.lap_ms].iter().flatten().count()
}

/// Whether race control says that a car stopped, as in `CAR 18 (STR) STOPPED`.
fn says_stopped(text: &str) -> bool {
    let words: Vec<&str> = text.split_whitespace().collect();
    let is_car = |word: &str| word.ends_with(')') || word.parse::<i32>().is_ok();
    words.windows(2).any(|pair| is_car(pair[0]) && pair[1].starts_with("STOPPED"))
}

impl TimingOperator {
    /// What the car is doing.
    fn judge(&self, driver_number: i32, car: &Car, state: &State, now: Micros) -> CarState {
        let race = &state.race;
        let winner = state.winner(self.flag_lag_ms_max);
        if !race.is_race {
            car.state_on_lap()
        } else if car.has_finished(winner) {
            CarState::Finished
        } else if let Some(out) = car.state.filter(|_| car.is_out()) {
            out
        } else if race.ended_suspended && car.lap.is_some() {
            CarState::Finished
        } else if self.is_left_behind(driver_number, car, state, now) || self.has_not_finished(driver_number, car, state, now) {
            CarState::Retired
        } else if self.did_not_start(driver_number, car, state, now) {
            CarState::DidNotStart
        } else if self.has_stopped(driver_number, car, state, now) {
            CarState::Stopped
        } else {
            car.state_on_lap()
        }
    }

    /// Whether the others have gone on without the car since its last sign of life.
    fn is_left_behind(&self, driver_number: i32, car: &Car, state: &State, now: Micros) -> bool {
        let Some(alive_at) = car.presence.alive_at().filter(|_| car.lap.is_some() && !state.race.is_suspended) else { return false };
        if now.since(alive_at) < self.presence.silence_ms_min * 1_000 || Self::stood_at_the_start(car, &state.race) {
            return false;
        }
        let (mut gone_on, mut silent) = (0, 0);
        for other in state.others(driver_number) {
            if other.presence.has_gone_on_since(alive_at, &self.presence) {
                gone_on += 1;
            } else if other.presence.fell_silent_about(alive_at, &self.presence) {
                silent += 1;
            }
        }
        gone_on > silent && !Self::keeps_its_place(driver_number, car, state)
    }

    /// Whether the others have finished and the car has not, within a lap of the winner.
    fn has_not_finished(&self, driver_number: i32, car: &Car, state: &State, now: Micros) -> bool {
        let Some(finish) = state.race.finish.as_ref().filter(|finish| car.lap.is_some() && now >= finish.due) else { return false };
        let is_seen = car.presence.was_seen_after(finish.learned_at.plus(self.flag_lag_ms_max * 1_000));
        let Some(alive_at) = car.presence.alive_at().filter(|_| !is_seen || car.presence.stands()) else { return false };
        let winner = state.winner(self.flag_lag_ms_max);
        let (mut finished, mut silent) = (0, 0);
        for other in state.others(driver_number) {
            if other.has_finished(winner) {
                finished += 1;
            } else if other.presence.fell_silent_about(alive_at, &self.presence) {
                silent += 1;
            }
        }
        let is_left = finished > silent && !Self::stood_at_the_start(car, &state.race);
        is_left && !Self::keeps_its_place(driver_number, car, state)
    }

    /// Whether the car, which is not seen to stand, is placed before one that has completed more laps than are known of it: its laps were
    /// not sent, since in an order that changes a stopped car falls behind.
    fn keeps_its_place(driver_number: i32, car: &Car, state: &State) -> bool {
        let laps_of = |car: &Car| car.last_lap.map(|last| last.lap_number);
        let is_ahead_of = |other: &Car| car.position.is_some_and(|place| other.position > Some(place)) && laps_of(other) > laps_of(car);
        state.race.has_order_changed && !car.presence.stands() && state.others(driver_number).any(is_ahead_of)
    }

    /// Whether of the car there has been nothing since the start while the others have gone on.
    fn did_not_start(&self, driver_number: i32, car: &Car, state: &State, now: Micros) -> bool {
        let race = &state.race;
        let Some(begun_at) = race.begun_at.filter(|_| car.lap.is_none() && !car.presence.has_driven && !race.is_suspended) else {
            return false;
        };
        let gone_on: Vec<_> = state.others(driver_number).filter(|car| car.presence.has_gone_on_since(begun_at, &self.presence)).collect();
        let is_driven_behind = |place: i32| gone_on.iter().any(|other| other.position > Some(place));
        let is_silent = now.since(car.presence.alive_at().unwrap_or(begun_at)) >= self.presence.silence_ms_min * 1_000;
        let still_in = state.cars.iter().filter(|(other, car)| *other != driver_number && !car.is_out()).count();
        is_silent && 2 * gone_on.len() > still_in && !car.position.is_some_and(is_driven_behind)
    }

    /// Whether `car_data` say that the car has never moved since the start, so that its lap 1 is none that it drove.
    fn stood_at_the_start(car: &Car, race: &Race) -> bool {
        let is_on_lap_1 = car.lap.as_ref().is_none_or(|lap| lap.lap_number <= 1);
        is_on_lap_1 && race.begun_at.is_some_and(|begun_at| car.presence.never_moved_since(begun_at))
    }

    /// Whether the car stands on the track while most others drive.
    fn has_stopped(&self, driver_number: i32, car: &Car, state: &State, now: Micros) -> bool {
        if car.state == Some(CarState::Stopped) {
            return car.presence.stands();
        }
        let race = &state.race;
        let Some(on_since) = race.on_since.filter(|_| !race.is_suspended) else { return false };
        let is_in_pit_lane = car.lap.as_ref().is_some_and(|lap| lap.is_pit_in_lap);
        let began_before_the_end = race.finish.as_ref().is_none_or(|finish| car.presence.stands_since() < Some(finish.learned_at));
        if is_in_pit_lane || !began_before_the_end || !car.presence.has_stopped(on_since, now, &self.presence) {
            return false;
        }
        let others = state.cars.iter().filter(|(other, car)| *other != driver_number && !car.is_out());
        let (mut going_on, mut standing) = (0, 0);
        for (_, other) in others {
            going_on += usize::from(other.presence.goes_on(now, &self.presence));
            standing += usize::from(other.presence.stands());
        }
        going_on > standing
    }

    /// Judges every car, and tells which are doing something else than before. What one is doing can tell of another, so this goes round
    /// until nothing changes, at most once for each car.
    fn judge_all(&self, state: &mut State, now: Micros) -> BTreeSet<i32> {
        let mut all_changed = BTreeSet::new();
        for _ in 0..state.cars.len() {
            let judged = state.cars.iter().map(|(number, car)| (number, car.state, self.judge(number, car, state, now)));
            let changed: Vec<_> = judged.filter(|(_, before, now)| *before != Some(*now)).collect();
            if changed.is_empty() {
                break;
            }
            for (driver_number, _, now) in changed {
                state.cars.entry(driver_number).state = Some(now);
                all_changed.insert(driver_number);
            }
        }
        all_changed
    }

    /// Judges all cars and says every row that changed.
    fn say_all(&self, state: &mut State, context: &mut Context<'_, Timing>) {
        self.judge_all(state, context.now());
        for (driver_number, car) in state.cars.iter_mut() {
            car.say(driver_number, context);
        }
    }

    /// Judges one car.
    fn judge_one(&self, state: &mut State, driver_number: i32, now: Micros) {
        if let Some(car) = state.cars.get(driver_number) {
            let judged = self.judge(driver_number, car, state, now);
            state.cars.entry(driver_number).state = Some(judged);
        }
    }

    /// Changes one car, judges it and says its row.
    fn change(&self, state: &mut State, driver_number: i32, context: &mut Context<'_, Timing>, change: impl FnOnce(&mut Car)) {
        change(state.cars.entry(driver_number));
        self.judge_one(state, driver_number, context.now());
        state.cars.entry(driver_number).say(driver_number, context);
    }

    /// Notices the winner's finish, from when on the others have a lap to finish.
    fn notice_finish(&self, state: &mut State, context: &mut Context<'_, Timing>) {
        let winner = state.winner(self.flag_lag_ms_max);
        let Some(winner) = winner.filter(|_| state.race.finish.is_none()) else {
            state.race.finish.take_if(|_| winner.is_none());
            return;
        };
        let wait_ms = (i64::from(winner.time_ms) * self.finish_wait_percent / 100).min(self.finish_wait_ms_max);
        let due = context.now().plus(wait_ms * 1_000);
        state.race.finish = Some(Finish { learned_at: context.now(), due, causes: context.causes().to_vec() });
        context.set_timer(due, FINISH_TIMER);
    }

    /// The session has started: for the first time, anew after an aborted start, or again after it stood still.
    fn take_start(&self, state: &mut State, status: &TrackStatus, context: &mut Context<'_, Timing>) {
        let now = context.now();
        let race = &mut state.race;
        (race.finished_at, race.finish, race.ended_suspended) = (None, None, false);
        race.on_since = Some(now);
        let is_the_start = race.leaders_lap <= 1 && status.lap_number.is_none_or(|lap_number| lap_number <= 1);
        if is_the_start {
            race.begun_at = Some(now);
        }
        for (driver_number, car) in state.cars.iter_mut() {
            car.presence.has_driven &= !is_the_start;
            car.presence.go_on(now);
            if car.presence.stands() {
                context.set_timer(now.plus(self.presence.standing_ms_min * 1_000), driver_number as u64);
            }
        }
    }
}

impl Operator for TimingOperator {
    const NAME: &'static str = "timing";
    const VERSION: u32 = 4;
    type Output = Timing;
    type State = State;

    fn parameters(&self) -> Vec<(&'static str, String)> {
        let mut parameters = self.presence.parameters();
        parameters.push(("flag_lag_ms_max", self.flag_lag_ms_max.to_string()));
        parameters.push(("finish_wait_percent", self.finish_wait_percent.to_string()));
        parameters.push(("finish_wait_ms_max", self.finish_wait_ms_max.to_string()));
        parameters
    }

    fn on_timer(&self, state: &mut State, token: u64, context: &mut Context<'_, Timing>) {
        if token == FINISH_TIMER {
            let Some(causes) = state.race.finish.as_ref().map(|finish| finish.causes.clone()) else { return };
            for driver_number in self.judge_all(state, context.now()) {
                state.cars.entry(driver_number).say_because(driver_number, &causes, context);
            }
            return;
        }
        let driver_number = token as i32;
        self.judge_one(state, driver_number, context.now());
        let car = state.cars.entry(driver_number);
        car.say_because(driver_number, &car.presence.standing_causes(), context);
    }
}

impl Handle<Driver> for TimingOperator {
    fn apply(&self, state: &mut State, driver: &Driver, context: &mut Context<'_, Timing>) {
        self.change(state, driver.driver_number, context, |car| {
            car.acronym.clone_from(&driver.acronym);
            car.team_colour.clone_from(&driver.team_colour);
        });
    }
}

impl Handle<Position> for TimingOperator {
    fn apply(&self, state: &mut State, position: &Position, context: &mut Context<'_, Timing>) {
        let (now, is_withdrawn) = (context.now(), context.is_withdrawn());
        // A car that was passed still stands where this one is placed now.
        let is_behind = |car: &Car| car.position.is_some_and(|place| place >= position.position);
        let leads_others = state.others(position.driver_number).any(is_behind);
        let before = state.cars.entry(position.driver_number).position.replace(position.position);
        state.race.has_order_changed |= before.is_some_and(|before| before != position.position);
        self.change(state, position.driver_number, context, |car| {
            if is_withdrawn {
                car.position = None;
            } else if before.is_some_and(|before| before > position.position) && leads_others {
                car.show(now, &self.presence);
            }
        });
    }
}

impl Handle<Gap> for TimingOperator {
    fn apply(&self, state: &mut State, gap: &Gap, context: &mut Context<'_, Timing>) {
        state.race.is_race = true;
        let (now, is_withdrawn) = (context.now(), context.is_withdrawn());
        self.change(state, gap.driver_number, context, |car| {
            let before = car.gap.replace(gap.clone()).map(|gap| (gap.gap_ms, gap.interval_ms)).unwrap_or_default();
            // A gap of 0 is the order's: the car was placed first.
            let has_moved = |before: Option<i32>, now: Option<i32>| now.is_some_and(|ms| ms > 0) && before != now;
            if is_withdrawn {
                car.gap = None;
            } else if has_moved(before.0, gap.gap_ms) || has_moved(before.1, gap.interval_ms) {
                car.show(now, &self.presence);
            }
        });
    }
}

impl Handle<Interval> for TimingOperator {
    fn apply(&self, state: &mut State, document: &Interval, context: &mut Context<'_, Timing>) {
        let car = state.cars.entry(document.driver_number);
        let before = car.interval;
        let is_news = car.interval.take_dated(document.date, document.id, context.now()) && car.interval != before;
        let is_measured = [&document.gap_to_leader, &document.interval].into_iter().any(|reading| matches!(reading, Reading::Number(_)));
        if is_news && is_measured && !car.is_out() {
            car.presence.show(context.now(), &self.presence);
        }
    }
}

impl Handle<Stint> for TimingOperator {
    fn apply(&self, state: &mut State, stint: &Stint, context: &mut Context<'_, Timing>) {
        let is_withdrawn = context.is_withdrawn();
        self.change(state, stint.driver_number, context, |car| {
            if is_withdrawn {
                car.stints.remove(&stint.stint_number);
            } else {
                car.stints.insert(stint.stint_number, stint.clone());
            }
        });
    }
}

impl Handle<PitStop> for TimingOperator {
    fn apply(&self, state: &mut State, pass: &PitStop, context: &mut Context<'_, Timing>) {
        let (now, is_withdrawn) = (context.now(), context.is_withdrawn());
        self.change(state, pass.driver_number, context, |car| {
            let pass = (pass.lap_number, pass.pass);
            if is_withdrawn {
                car.pit_passes.remove(&pass);
            } else if car.pit_passes.insert(pass) {
                // OpenF1 sends the document when the car is out again.
                car.show(now, &self.presence);
            }
        });
    }
}

impl Handle<Telemetry> for TimingOperator {
    fn apply(&self, state: &mut State, packet: &Telemetry, context: &mut Context<'_, Timing>) {
        if packet.channel != Channel::CarData {
            return;
        }
        let (driver_number, now) = (packet.driver_number, context.now());
        let car = state.cars.entry(driver_number);
        let cause = context.newest_cause();
        let has_stopped = car.state == Some(CarState::Stopped);
        match car.presence.take_packet(&packet.samples, cause, now, &self.presence) {
            Heard::Nothing => {}
            Heard::Stands => context.set_timer(now.plus(self.presence.standing_ms_min * 1_000), driver_number as u64),
            Heard::Moves if has_stopped => self.change(state, driver_number, context, |_| {}),
            Heard::Moves => {}
            Heard::Drives if has_stopped || car.is_out() => self.change(state, driver_number, context, |car| car.show(now, &self.presence)),
            Heard::Drives => car.presence.show(now, &self.presence),
        }
    }
}

impl Handle<RaceControlMessage> for TimingOperator {
    fn apply(&self, state: &mut State, message: &RaceControlMessage, context: &mut Context<'_, Timing>) {
        if let [driver_number] = message.driver_numbers[..]
            && says_stopped(&message.text)
        {
            let (now, cause) = (context.now(), context.seq());
            self.change(state, driver_number, context, |car| car.presence.tell_stopped(now, cause));
        }
    }
}

impl Handle<Lap> for TimingOperator {
    fn apply(&self, state: &mut State, lap: &Lap, context: &mut Context<'_, Timing>) {
        let now = context.now();
        let car = state.cars.entry(lap.driver_number);
        let mut begins = false;
        if context.is_withdrawn() {
            car.forget_lap(lap.lap_number);
        } else {
            let before = car.presence.alive_at();
            begins = car.take_lap(lap, &state.race, now, &self.presence);
            if car.presence.alive_at() > before {
                car.come_back();
            }
            state.race.take_lap(lap, now);
        }
        if state.race.finished_at.is_some() {
            self.notice_finish(state, context);
        }
        if begins {
            let mut changed = self.judge_all(state, now);
            changed.insert(lap.driver_number);
            for driver_number in changed {
                state.cars.entry(driver_number).say(driver_number, context);
            }
        } else {
            self.change(state, lap.driver_number, context, |_| {});
        }
    }
}

impl Handle<TrackStatus> for TimingOperator {
    fn apply(&self, state: &mut State, status: &TrackStatus, context: &mut Context<'_, Timing>) {
        let before = state.race.session.replace(status.session);
        state.race.is_race |= status.lap_number.is_some();
        match status.session {
            SessionState::Started if before != Some(SessionState::Started) => self.take_start(state, status, context),
            SessionState::Finished if state.race.finished_at.is_none() => {
                state.race.finished_at = Some(context.event_time());
                state.race.ended_suspended = state.race.is_race && state.race.is_suspended;
            }
            _ => {}
        }
        state.race.is_suspended = status.session == SessionState::Aborted || status.status == Status::Red;
        if status.session == SessionState::Started
            && status.qualifying_phase.is_some()
            && status.qualifying_phase != state.race.qualifying_phase
        {
            state.race.qualifying_phase = status.qualifying_phase;
            for (_, car) in state.cars.iter_mut() {
                car.first_lap_of_segment = car.lap.as_ref().map_or(0, |lap| lap.lap_number + 1);
            }
        }
        if state.race.finished_at.is_some() {
            self.notice_finish(state, context);
        }
        self.say_all(state, context);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drivers::DriversOperator;
    use crate::gaps::GapsOperator;
    use crate::laps::LapsOperator;
    use crate::pit_stops::PitStopsOperator;
    use crate::positions::PositionsOperator;
    use crate::race_control::RaceControlOperator;
    use crate::stints::StintsOperator;
    use crate::telemetry::TelemetryOperator;
    use crate::testing::{Bench, at_ms, car_data, driver, interval, lap, pit, position, race_control, stint};
    use crate::track_status::TrackStatusOperator;
    use pitwall_schemas::raw::{self, RaceControl, Sample};

    /// The length of every lap of the fixtures, ms.
    const LAP_MS: i64 = 75_000;

    fn bench() -> Bench {
        Bench::new(|graph| {
            let drivers = graph.publish(DriversOperator::default(), |inputs| inputs.samples::<raw::Driver>());
            let track_status = graph.publish(TrackStatusOperator, |inputs| inputs.samples::<RaceControl>());
            let laps = graph.publish(LapsOperator::default(), |inputs| inputs.samples::<raw::Lap>().stream(track_status));
            let positions = graph.publish(PositionsOperator::default(), |inputs| inputs.samples::<raw::Position>());
            let gaps = graph.publish(GapsOperator, |inputs| inputs.samples::<raw::Interval>().stream(positions));
            let stints = graph.publish(StintsOperator::default(), |inputs| inputs.samples::<raw::Stint>().stream(laps));
            let race_control = graph.publish(RaceControlOperator::default(), |inputs| inputs.samples::<RaceControl>());
            let pit_stops = graph.publish(PitStopsOperator::default(), |inputs| {
                let inputs = inputs.samples::<raw::Pit>().stream(track_status).stream(race_control).stream(stints);
                inputs.stream(laps).stream(positions).stream(gaps)
            });
            let telemetry = graph.publish(TelemetryOperator::default(), |inputs| inputs.samples::<raw::CarData>());
            graph.publish(TimingOperator::default(), |inputs| {
                let inputs = inputs.stream(drivers).stream(track_status).stream(race_control).stream(laps).stream(positions);
                inputs.samples::<raw::Interval>().stream(gaps).stream(stints).stream(pit_stops).stream(telemetry)
            });
        })
    }

    fn begins(driver_number: i32, lap_number: i32, start: i64) -> raw::Lap {
        raw::Lap { date_start: Some(at_ms(start)), ..lap(driver_number, lap_number) }
    }

    fn whole(driver_number: i32, lap_number: i32, start: i64, lap_ms: i64) -> raw::Lap {
        let sector_3 = lap_ms as f64 / 1_000.0 - 52.0;
        raw::Lap {
            duration_sector_1: Some(25.0),
            duration_sector_2: Some(27.0),
            duration_sector_3: Some(sector_3),
            lap_duration: Some(lap_ms as f64 / 1_000.0),
            ..begins(driver_number, lap_number, start)
        }
    }

    fn session(ms: i64, words: &str, lap_number: Option<i32>, qualifying_phase: Option<i32>) -> Sample {
        let category = Some("SessionStatus".into());
        Sample::from(RaceControl { category, lap_number, qualifying_phase, ..race_control(at_ms(ms), words) })
    }

    fn play(samples: impl IntoIterator<Item = (i64, Sample)>) -> Bench {
        bench().play(samples)
    }

    /// A race in which each car begins its first laps of the number given, all of [`LAP_MS`], the cars a second apart.
    fn race(laps: &[(i32, i32)]) -> Vec<(i64, Sample)> {
        let mut samples = vec![(0, session(0, "SESSION STARTED", Some(1), None))];
        for (place, (driver_number, begun)) in (1..).zip(laps) {
            for lap_number in 1..=*begun {
                let start = i64::from(lap_number - 1) * LAP_MS + place * 1_000;
                samples.push((start, Sample::from(begins(*driver_number, lap_number, start))));
                if lap_number < *begun {
                    samples.push((start + LAP_MS - 1, Sample::from(whole(*driver_number, lap_number, start, LAP_MS))));
                }
            }
        }
        samples.sort_by_key(|(ms, _)| *ms);
        samples
    }

    fn row(bench: &Bench, driver_number: i32) -> Timing {
        bench.facts::<Timing>().into_iter().map(|(_, fact)| fact).rfind(|fact| fact.driver_number == driver_number).unwrap()
    }

    #[test]
    fn a_row_joins_what_every_operator_says_of_the_car_and_what_is_unknown_is_null() {
        let driver = raw::Driver { name_acronym: Some("VER".into()), team_colour: Some("4781D7".into()), ..driver(1) };
        let tyres =
            raw::Stint { lap_start: Some(1), lap_end: Some(4), compound: Some("SOFT".into()), tyre_age_at_start: Some(2), ..stint(1, 1) };
        let distance = Reading::Number(1.5);
        let gap = raw::Interval { gap_to_leader: distance.clone(), interval: distance, ..interval(1, at_ms(30)) };
        let mut bench = play([(0, Sample::from(driver)), (10, Sample::from(position(4, at_ms(10), 1)))]);
        assert_eq!((row(&bench, 1).position, row(&bench, 1).lap_number, row(&bench, 1).compound), (None, None, None));
        bench.arrive(200, Sample::from(position(1, at_ms(20), 2)));
        bench.arrive(210, Sample::from(tyres));
        bench.arrive(220, Sample::from(gap));
        bench.arrive(76_000, Sample::from(whole(1, 4, 1_000, LAP_MS)));
        bench.idle(77_000);
        let row = row(&bench, 1);
        assert_eq!((row.acronym.as_deref(), row.team_colour.as_deref(), row.position), (Some("VER"), Some("4781D7"), Some(2)));
        assert_eq!((row.gap_ms, row.laps_behind, row.interval_ms), (Some(1_500), Some(0), Some(1_500)));
        assert_eq!((row.compound, row.tyre_age, row.stint_number), (Some(Compound::Soft), Some(6), Some(1)));
        assert_eq!(
            (row.last_lap_ms, row.last_lap_mark, row.best_lap_ms, row.best_lap_number),
            (Some(75_000), Mark::Purple, Some(75_000), Some(4))
        );
        assert_eq!((row.sector_1_ms, row.sector_3_ms, row.sector_1_mark), (Some(25_000), Some(23_000), Mark::Purple));
        assert_eq!((row.stops, row.state), (0, CarState::Running));
    }

    #[test]
    fn a_row_is_said_only_when_something_in_it_changed_and_names_what_changed_it() {
        let stated = |ms| (ms, Sample::from(position(1, at_ms(ms), 1)));
        let bench = play([stated(0), stated(10), stated(20)]);
        let facts = bench.facts::<Timing>();
        assert_eq!((facts.len(), facts[0].0.causes.as_slice()), (1, [0].as_slice()));
    }

    #[test]
    fn sectors_are_those_of_the_lap_being_driven_and_the_last_lap_is_the_newest_with_a_time() {
        let mut bench = play([(75_000, Sample::from(whole(1, 2, 0, LAP_MS)))]);
        bench.arrive(75_100, Sample::from(begins(1, 3, 75_000)));
        let row = row(&bench, 1);
        assert_eq!((row.lap_number, row.sector_1_ms, row.sector_1_mark, row.last_lap_ms), (Some(3), None, Mark::None, Some(75_000)));
    }

    #[test]
    fn a_best_lap_taken_back_gives_way_to_the_next_best() {
        let mut samples = race(&[(1, 1)]);
        samples.extend(
            [(160_000, whole(1, 2, 76_000, 76_000)), (230_000, whole(1, 3, 152_000, 74_000))].map(|(ms, lap)| (ms, Sample::from(lap))),
        );
        let mut bench = play(samples);
        assert_eq!((row(&bench, 1).best_lap_ms, row(&bench, 1).best_lap_number), (Some(74_000), Some(3)));
        bench.arrive(231_000, Sample::from(whole(1, 3, 152_000, 80_000)));
        assert_eq!((row(&bench, 1).best_lap_ms, row(&bench, 1).best_lap_number), (Some(76_000), Some(2)));
    }

    #[test]
    fn lap_1_of_a_race_is_never_the_best() {
        let mut samples = race(&[(1, 1)]);
        samples.push((71_000, Sample::from(whole(1, 1, 1_000, 70_000))));
        let row = row(&play(samples), 1);
        assert_eq!((row.last_lap_ms.is_some(), row.best_lap_ms), (true, None));
    }

    #[test]
    fn a_lap_into_the_pit_lane_is_no_best_outside_races_and_the_car_is_in_the_pit() {
        let into = |start| raw::Lap { segments_sector_3: Some(vec![Some(2_048), Some(2_064)]), ..whole(1, 3, start, 74_000) };
        let mut samples = vec![(0, session(0, "SESSION STARTED", None, Some(2))), (80_000, Sample::from(whole(1, 2, 1_000, 76_000)))];
        samples.push((155_000, Sample::from(into(77_000))));
        let mut bench = play(samples);
        assert_eq!((row(&bench, 1).best_lap_ms, row(&bench, 1).state), (Some(76_000), CarState::InPit));
        bench.arrive(300_000, Sample::from(raw::Lap { is_pit_out_lap: true, ..begins(1, 4, 300_000) }));
        assert_eq!(row(&bench, 1).state, CarState::PitOut);
        let mut samples = race(&[(1, 1)]);
        samples.extend([(160_000, Sample::from(whole(1, 2, 76_000, 76_000))), (230_000, Sample::from(into(152_000)))]);
        assert_eq!(row(&play(samples), 1).best_lap_ms, Some(74_000), "in a race it is timed from line to line");
    }

    #[test]
    fn best_laps_start_afresh_with_each_segment_of_qualifying() {
        let bench = play([
            (0, session(0, "SESSION STARTED", None, Some(1))),
            (80_000, Sample::from(whole(1, 2, 0, 76_000))),
            (90_000, session(90_000, "SESSION FINISHED", None, Some(1))),
            (100_000, session(100_000, "SESSION STARTED", None, Some(2))),
            (180_000, Sample::from(whole(1, 3, 101_000, 77_000))),
        ]);
        assert_eq!((row(&bench, 1).best_lap_ms, row(&bench, 1).best_lap_number), (Some(77_000), Some(3)));
    }

    #[test]
    fn the_newest_stints_tyres_are_unknown_on_a_pit_out_lap_that_it_does_not_reach() {
        let tyres = |number, name: &str, from, to| {
            let (lap_start, lap_end) = (Some(from), Some(to));
            Sample::from(raw::Stint { lap_start, lap_end, compound: Some(name.into()), tyre_age_at_start: Some(0), ..stint(1, number) })
        };
        let out_lap = |ms| Sample::from(raw::Lap { is_pit_out_lap: true, ..begins(1, 9, ms) });
        let mut bench = play([(0, Sample::from(begins(1, 8, 0))), (10, tyres(1, "SOFT", 1, 8)), (75_000, out_lap(75_000))]);
        assert_eq!((row(&bench, 1).compound, row(&bench, 1).tyre_age, row(&bench, 1).state), (None, None, CarState::PitOut));
        bench.arrive(80_000, tyres(2, "HARD", 9, 9));
        assert_eq!((row(&bench, 1).compound, row(&bench, 1).stint_number), (Some(Compound::Hard), Some(2)));
        // A late version of the first stint is not the newest stint.
        bench.arrive(81_000, tyres(1, "MEDIUM", 1, 8));
        assert_eq!(row(&bench, 1).compound, Some(Compound::Hard));
    }

    #[test]
    fn tyres_are_unknown_from_the_pit_lane_on_until_a_stint_reaches_the_lap_after_it() {
        let tyres = |number, name: &str, from, to| {
            let (lap_start, lap_end) = (Some(from), Some(to));
            Sample::from(raw::Stint { lap_start, lap_end, compound: Some(name.into()), tyre_age_at_start: Some(0), ..stint(1, number) })
        };
        let mut bench = play([(0, Sample::from(begins(1, 8, 0))), (10, tyres(1, "SOFT", 1, 8))]);
        bench.arrive(76_000, Sample::from(pit(1, 8, at_ms(76_000))));
        assert_eq!(row(&bench, 1).compound, None, "before the lap is known to have begun");
        for lap_number in [9, 10] {
            let start = i64::from(lap_number - 8) * 75_000 + 2_000;
            bench.arrive(start, Sample::from(begins(1, lap_number, start)));
            assert_eq!(row(&bench, 1).compound, None, "lap {lap_number}");
        }
        bench.arrive(160_000, tyres(2, "HARD", 9, 9));
        assert_eq!((row(&bench, 1).compound, row(&bench, 1).stint_number), (Some(Compound::Hard), Some(2)));
    }

    /// Abu Dhabi 2025: the feed goes on with the old stint until it learns of the new one.
    #[test]
    fn a_stint_that_is_gone_on_with_for_a_lap_after_the_pit_lane_does_not_tell_the_tyres() {
        let soft = |last| {
            let (lap_start, lap_end) = (Some(1), Some(last));
            Sample::from(raw::Stint { lap_start, lap_end, compound: Some("SOFT".into()), tyre_age_at_start: Some(0), ..stint(1, 1) })
        };
        let mut bench = play([(0, Sample::from(begins(1, 8, 0))), (10, soft(8)), (76_000, Sample::from(pit(1, 8, at_ms(76_000))))]);
        for (lap_number, expected) in [(9, None), (10, None), (11, Some(Compound::Soft))] {
            let start = i64::from(lap_number - 8) * 75_000 + 2_000;
            bench.arrive(start, Sample::from(begins(1, lap_number, start)));
            bench.arrive(start, soft(lap_number));
            assert_eq!(row(&bench, 1).compound, expected, "lap {lap_number}");
        }
    }

    #[test]
    fn two_pit_passes_on_one_lap_are_two_and_one_sent_again_is_one() {
        let pass = |ms: i64, date| (ms, Sample::from(pit(1, 8, at_ms(date))));
        assert_eq!(row(&play([pass(10, 0), pass(20, 0), pass(30, 25_000)]), 1).stops, 2);
    }

    #[test]
    fn a_car_that_begins_no_lap_while_the_leader_begins_three_is_retired_and_has_no_gap() {
        let silent = |laps| {
            let mut samples = race(&[(1, laps), (4, 2)]);
            let distance = Reading::Number(1.0);
            let gap = raw::Interval { gap_to_leader: distance.clone(), interval: distance, ..interval(4, at_ms(77_000)) };
            samples.push((77_000, Sample::from(gap)));
            samples.sort_by_key(|(ms, _)| *ms);
            row(&play(samples), 4)
        };
        assert_eq!((silent(4).state, silent(4).gap_ms), (CarState::Running, Some(1_000)));
        assert_eq!((silent(5).state, silent(5).gap_ms), (CarState::Retired, None));
    }

    /// Case 14: a gap made of laps begun would fall to nothing between the counter and the line.
    #[test]
    fn the_lap_counter_rises_before_the_line_and_no_gap_collapses() {
        let mut samples = race(&[(1, 3), (4, 3)]);
        let behind = 2 * LAP_MS + 40_000;
        let gap = |number, seconds| {
            let distance = Reading::Number(seconds);
            Sample::from(raw::Interval { gap_to_leader: distance.clone(), interval: distance, ..interval(number, at_ms(behind)) })
        };
        samples.extend([(behind, gap(1, 0.0)), (behind, gap(4, 20.0))]);
        samples.extend([(behind, Sample::from(position(1, at_ms(behind), 1))), (behind, Sample::from(position(4, at_ms(behind), 2)))]);
        let mut bench = play(samples);
        let gaps = |bench: &Bench| [1, 4].map(|car| row(bench, car)).map(|row| (row.gap_ms, row.laps_behind, row.interval_ms));
        let before = gaps(&bench);
        assert_eq!(before, [(Some(0), Some(0), None), (Some(20_000), Some(0), Some(20_000))]);
        let facts = bench.facts::<Gap>().len();
        // The counter of the second car rises first, then the leader's.
        for car in [4, 1] {
            bench.arrive(behind + 10_000, Sample::from(begins(car, 4, behind + 10_000)));
            assert_eq!(row(&bench, car).lap_number, Some(4));
            assert_eq!((gaps(&bench), bench.facts::<Gap>().len()), (before, facts));
        }
    }

    /// Readings of a car's speed, four a second as the feed sends them, from one ms up to another.
    fn speeds(driver_number: i32, from: i64, until: i64, speed: i32) -> impl Iterator<Item = (i64, Sample)> {
        (from / 250..until / 250).map(move |step| (step * 250 + 10, car_data(driver_number, at_ms(step * 250), speed)))
    }

    fn in_order(mut samples: Vec<(i64, Sample)>) -> Vec<(i64, Sample)> {
        samples.sort_by_key(|(ms, _)| *ms);
        samples
    }

    fn gap_of(driver_number: i32, ms: i64, distance: Reading) -> (i64, Sample) {
        (ms, Sample::from(raw::Interval { gap_to_leader: distance.clone(), interval: distance, ..interval(driver_number, at_ms(ms)) }))
    }

    /// Everything that was said of what a car does, in order, each once.
    fn states(bench: &Bench, driver_number: i32) -> Vec<CarState> {
        let mut states: Vec<_> = bench.facts::<Timing>().into_iter().map(|(_, fact)| fact).collect::<Vec<_>>();
        states.retain(|row| row.driver_number == driver_number);
        let mut states: Vec<_> = states.into_iter().map(|row| row.state).collect();
        states.dedup();
        states
    }

    #[test]
    fn a_car_that_stands_on_the_track_while_the_others_drive_has_stopped_within_30_s_until_it_drives_on() {
        let mut samples = race(&[(1, 4), (4, 2)]);
        samples.extend(speeds(1, 0, 230_000, 250).chain(speeds(4, 0, 100_000, 240)).chain(speeds(4, 100_000, 150_000, 0)));
        samples.extend(speeds(4, 150_000, 160_000, 120));
        let bench = play(in_order(samples));
        assert_eq!(states(&bench, 4), [CarState::Running, CarState::Stopped, CarState::Running]);
        let stopped = bench.facts::<Timing>().into_iter().find(|(_, row)| row.state == CarState::Stopped).unwrap().0;
        assert!((120_000..=130_000).contains(&(stopped.known_at.since(at_ms(0)) / 1_000)), "{}", stopped.known_at);
        assert!(!stopped.causes.is_empty());
    }

    #[test]
    fn a_car_that_was_switched_off_when_it_stood_has_stopped_and_retires() {
        let mut samples = race(&[(1, 6), (4, 2)]);
        samples.extend(speeds(1, 0, 380_000, 250).chain(speeds(4, 0, 100_000, 240)).chain(speeds(4, 100_000, 102_000, 0)));
        assert_eq!(states(&play(in_order(samples)), 4), [CarState::Running, CarState::Stopped, CarState::Retired]);
    }

    #[test]
    fn a_car_that_stands_after_driving_at_the_limit_of_the_pit_lane_is_not_said_to_have_stopped() {
        let mut samples = race(&[(1, 4), (4, 2)]);
        samples.extend(speeds(1, 0, 230_000, 250).chain(speeds(4, 0, 100_000, 240)));
        samples.extend(speeds(4, 100_000, 108_000, 80).chain(speeds(4, 108_000, 150_000, 0)));
        assert_eq!(states(&play(in_order(samples)), 4), [CarState::Running]);
    }

    #[test]
    fn cars_that_stand_together_have_not_stopped() {
        // On the grid, and after a red flag that nothing tells of.
        let mut samples = race(&[(1, 4), (4, 4)]);
        for car in [1, 4] {
            samples.extend(speeds(car, 0, 40_000, 0).chain(speeds(car, 40_000, 100_000, 200)).chain(speeds(car, 100_000, 220_000, 0)));
        }
        let bench = play(in_order(samples));
        assert_eq!([1, 4].map(|car| states(&bench, car)), [[CarState::Running], [CarState::Running]]);
    }

    #[test]
    fn readings_of_no_speed_while_laps_are_sent_are_no_stop() {
        let mut samples = race(&[(1, 6), (4, 6)]);
        samples.extend(speeds(1, 0, 380_000, 250).chain(speeds(4, 0, 100_000, 240)).chain(speeds(4, 100_000, 380_000, 0)));
        let bench = play(in_order(samples));
        assert!(row(&bench, 4).state == CarState::Running && !states(&bench, 4).contains(&CarState::Retired));
    }

    #[test]
    fn race_control_tells_that_a_car_stopped() {
        let mut samples = race(&[(1, 3), (4, 2)]);
        samples.push((100_000, Sample::from(race_control(at_ms(100_000), "CAR 4 (NOR) STOPPED AT TURN 9"))));
        samples.push((101_000, Sample::from(race_control(at_ms(101_000), "STOP AND GO PENALTY FOR CAR 1 (VER)"))));
        let mut bench = play(in_order(samples));
        assert_eq!([1, 4].map(|car| row(&bench, car).state), [CarState::Running, CarState::Stopped]);
        bench.arrive(152_000, Sample::from(begins(4, 3, 152_000)));
        assert_eq!(row(&bench, 4).state, CarState::Running);
    }

    #[test]
    fn a_car_whose_laps_are_not_sent_does_not_retire_while_anything_else_shows_that_it_goes_on() {
        let laps = || race(&[(1, 8), (4, 2), (16, 8)]);
        let places = || [(1, 1), (4, 2), (16, 3)].map(|(car, place)| (10, Sample::from(position(car, at_ms(10), place))));
        let driving = speeds(4, 0, 530_000, 230).collect::<Vec<_>>();
        let gaps = (1..130).map(|step| gap_of(4, step * 4_000, Reading::Number(2.0 + step as f64 / 100.0))).collect();
        let same_gaps = (1..8).map(|step| gap_of(4, step * 75_000, Reading::Number(2.0))).collect();
        // It overtakes, long after its last lap.
        let place = |ms: i64, car, place| (ms, Sample::from(position(car, at_ms(ms), place)));
        let overtakes = [place(20, 16, 2), place(20, 4, 3), place(200_000, 4, 2), place(200_000, 16, 3)].into();
        for (evidence, more) in [("speed", driving), ("gaps", gaps), ("the same gaps", same_gaps), ("places", overtakes)] {
            let samples = laps().into_iter().chain(places()).chain(more).collect();
            let said = states(&play(in_order(samples)), 4);
            assert_eq!(said, [CarState::Running], "{evidence}");
        }
        let samples = laps().into_iter().chain(places()).collect();
        assert_eq!(row(&play(in_order(samples)), 4).state, CarState::Retired, "without any");
    }

    #[test]
    fn a_retirement_that_a_sign_of_life_refutes_is_taken_back() {
        let place = |ms: i64, car, place| (ms, Sample::from(position(car, at_ms(ms), place)));
        let retired = || {
            let mut samples = race(&[(1, 6), (4, 2), (16, 6)]);
            samples.extend([place(10, 1, 1), place(10, 16, 2), place(10, 4, 3), gap_of(4, 78_000, Reading::Number(3.0))]);
            play(in_order(samples))
        };
        let again = |arrivals: Vec<(i64, Sample)>| {
            let mut bench = retired();
            assert_eq!(row(&bench, 4).state, CarState::Retired);
            for (ms, sample) in arrivals {
                bench.arrive(ms, sample);
            }
            bench.idle(460_000);
            row(&bench, 4).state
        };
        assert_eq!(again(vec![(400_000, Sample::from(begins(4, 7, 400_000)))]), CarState::Running);
        assert_eq!(again(vec![gap_of(4, 400_000, Reading::Number(4.5))]), CarState::Running);
        assert_eq!(again(speeds(4, 400_000, 403_000, 220).collect()), CarState::Running);
        assert_eq!(again(vec![place(400_000, 4, 2), place(400_000, 16, 3)]), CarState::Running);
        assert_eq!(again(vec![(400_000, Sample::from(pit(4, 5, at_ms(390_000))))]), CarState::Running);
        // None of these is one: the leader's laps, the same gap sent again, a car that is towed.
        assert_eq!(again(vec![gap_of(4, 400_000, Reading::Text("+3 LAPS".into()))]), CarState::Retired);
        assert_eq!(again(vec![gap_of(4, 400_000, Reading::Number(3.0))]), CarState::Retired);
        assert_eq!(again(speeds(4, 400_000, 440_000, 30).collect()), CarState::Retired);
    }

    #[test]
    fn cars_that_fall_silent_together_are_a_hole_of_the_feed_and_retire_neither_in_it_nor_after_it() {
        let mut samples = race(&[(1, 9), (4, 9), (16, 9), (81, 9)]);
        samples.retain(|(_, sample)| !matches!(sample, Sample::Laps(lap) if lap.driver_number != 1 && (3..8).contains(&lap.lap_number)));
        let bench = play(samples);
        assert!([1, 4, 16, 81].into_iter().all(|car| !states(&bench, car).contains(&CarState::Retired)));
    }

    #[test]
    fn laps_that_come_all_at_once_retire_nobody() {
        let samples = race(&[(1, 9), (4, 9), (16, 9)]).into_iter();
        let (mut laps, mut others): (Vec<_>, Vec<_>) = samples.partition(|(_, sample)| matches!(sample, Sample::Laps(_)));
        laps.sort_by_key(|(_, sample)| if let Sample::Laps(lap) = sample { lap.driver_number } else { 0 });
        others.extend(laps.into_iter().enumerate().map(|(index, (_, sample))| (700_000 + index as i64, sample)));
        let bench = play(others);
        assert_eq!([1, 4, 16].map(|car| row(&bench, car).state), [CarState::Running; 3]);
    }

    #[test]
    fn a_car_of_which_there_is_nothing_since_the_start_did_not_start() {
        let place = |car, place| (10, Sample::from(position(car, at_ms(10), place)));
        let mut samples = race(&[(1, 6), (4, 6)]);
        samples.extend([place(1, 1), place(4, 2), place(18, 3), (10, Sample::from(driver(99)))]);
        let mut bench = play(in_order(samples));
        assert_eq!([18, 99].map(|car| states(&bench, car)), [[CarState::Running, CarState::DidNotStart]; 2].map(Vec::from));
        bench.arrive(400_000, Sample::from(begins(18, 2, 400_000)));
        assert_eq!(row(&bench, 18).state, CarState::Running, "it has after all");
    }

    #[test]
    fn of_a_car_that_is_silent_from_a_late_join_on_nothing_is_said() {
        let mut samples = race(&[(1, 9), (4, 9)]);
        samples.retain(|(ms, _)| *ms > 200_000);
        samples.insert(0, (200_000, Sample::from(driver(18))));
        assert_eq!(states(&play(samples), 18), [CarState::Running]);
    }

    #[test]
    fn a_car_that_stands_from_the_start_on_never_retires_by_laps() {
        let mut samples = race(&[(1, 6), (4, 6), (18, 1)]);
        for (car, speed) in [(1, 250), (4, 250), (18, 0)] {
            samples.extend(speeds(car, 250, 380_000, speed));
        }
        assert_eq!(states(&play(in_order(samples)), 18), [CarState::Running, CarState::Stopped]);
    }

    #[test]
    fn a_car_that_starts_from_the_pit_lane_is_on_its_out_lap() {
        let mut samples = race(&[(1, 6)]);
        samples.push((12_000, Sample::from(raw::Lap { is_pit_out_lap: true, ..begins(4, 1, 12_000) })));
        samples.extend(
            (2..7)
                .map(|number| (i64::from(number - 1) * LAP_MS + 15_000, number))
                .map(|(ms, number)| (ms, Sample::from(begins(4, number, ms)))),
        );
        assert_eq!(states(&play(in_order(samples)), 4), [CarState::PitOut, CarState::Running]);
    }

    #[test]
    fn two_cars_that_stop_on_different_last_laps_retire_after_the_flag() {
        let finish = 1_000 + 8 * LAP_MS;
        let mut samples = race(&[(1, 8), (4, 6), (16, 7)]);
        samples.push((finish, Sample::from(whole(1, 8, 1_000 + 7 * LAP_MS, LAP_MS))));
        samples.push((finish + 300, session(finish + 300, "SESSION FINISHED", Some(8), None)));
        let mut bench = play(in_order(samples));
        assert_eq!([4, 16].map(|car| row(&bench, car).state), [CarState::Running; 2], "they may still come");
        bench.idle(finish + 3 * LAP_MS / 2 + 1_000);
        assert_eq!([1, 4, 16].map(|car| row(&bench, car).state), [CarState::Finished, CarState::Retired, CarState::Retired]);
        // One that comes late has finished.
        bench.arrive(finish + 200_000, Sample::from(whole(16, 7, 3_000 + 6 * LAP_MS, 2 * LAP_MS + 100_000)));
        assert_eq!(row(&bench, 16).state, CarState::Finished);
    }

    #[test]
    fn a_car_that_is_seen_after_the_flag_retires_only_if_it_stands() {
        let finish = 1_000 + 4 * LAP_MS;
        let told = |speed_after: i32| {
            let mut samples = race(&[(1, 4), (4, 4)]);
            samples.push((finish, Sample::from(whole(1, 4, 1_000 + 3 * LAP_MS, LAP_MS))));
            samples.push((finish + 300, session(finish + 300, "SESSION FINISHED", Some(4), None)));
            samples.extend(speeds(1, 0, finish + 60_000, 250).chain(speeds(4, 0, finish + 20_000, 200)));
            samples.extend(speeds(4, finish + 20_000, finish + 60_000, speed_after));
            let mut bench = play(in_order(samples));
            bench.idle(finish + 3 * LAP_MS / 2 + 1_000);
            row(&bench, 4).state
        };
        assert_eq!([told(0), told(180)], [CarState::Retired, CarState::Running]);
    }

    #[test]
    fn a_feed_whose_laps_end_with_the_winners_retires_nobody() {
        let finish = 1_000 + 4 * LAP_MS;
        let mut samples = race(&[(1, 4), (4, 4), (16, 4)]);
        samples.push((finish, Sample::from(whole(1, 4, 1_000 + 3 * LAP_MS, LAP_MS))));
        samples.push((finish + 300, session(finish + 300, "SESSION FINISHED", Some(4), None)));
        let mut bench = play(in_order(samples));
        bench.idle(finish + 600_000);
        assert_eq!([1, 4, 16].map(|car| row(&bench, car).state), [CarState::Finished, CarState::Running, CarState::Running]);
    }

    #[test]
    fn a_lap_that_proved_to_be_none_gives_way_to_the_one_before() {
        let lap = |lap_number, lap_ms| facts_lap(lap_number, lap_ms);
        let (mut car, race, rules) = (Car::default(), Race::default(), PresenceRules::default());
        for (number, lap_ms) in [(4, Some(80_000)), (5, Some(81_000)), (6, Some(70_000))] {
            car.take_lap(&lap(number, lap_ms), &race, at_ms(i64::from(number)), &rules);
        }
        car.forget_lap(6);
        assert_eq!(car.lap.as_ref().map(|lap| lap.lap_number), Some(5));
        assert_eq!((car.last_lap.map(|last| last.time_ms), car.best_lap()), (Some(81_000), Some((80_000, 4))));
    }

    /// A lap as [`laps`](crate::laps) says it.
    fn facts_lap(lap_number: i32, lap_ms: Option<i32>) -> Lap {
        let bench = Bench::new(|graph| {
            graph.publish(LapsOperator::default(), |inputs| inputs.samples::<raw::Lap>());
        });
        let said = bench.play([(0, Sample::from(begins(1, lap_number, 0)))]).facts::<Lap>().remove(0).1;
        Lap { lap_ms, is_complete: lap_ms.is_some(), ..said }
    }

    #[test]
    fn a_car_that_begins_a_lap_after_a_long_repair_is_running_again() {
        let mut bench = play(race(&[(1, 6), (4, 2)]));
        assert_eq!(row(&bench, 4).state, CarState::Retired);
        bench.arrive(400_000, Sample::from(begins(4, 3, 400_000)));
        assert_eq!(row(&bench, 4).state, CarState::Running);
    }

    #[test]
    fn a_lapped_car_is_not_retired() {
        let mut samples = race(&[(1, 12)]);
        // Every lap of this one takes half as long again as the leader's.
        samples.extend((1..8).map(|number| {
            let start = i64::from(number - 1) * LAP_MS * 3 / 2 + 2_000;
            (start, Sample::from(begins(4, number, start)))
        }));
        samples.sort_by_key(|(ms, _)| *ms);
        let bench = play(samples);
        assert!(bench.facts::<Timing>().iter().all(|(_, fact)| fact.state == CarState::Running));
    }

    #[test]
    fn nobody_retires_from_qualifying() {
        let mut samples = race(&[(1, 8), (4, 2)]);
        samples[0].1 = session(0, "SESSION STARTED", None, Some(1));
        assert_eq!(row(&play(samples), 4).state, CarState::Running);
    }

    #[test]
    fn cars_finish_when_they_cross_the_line_with_or_after_the_winner() {
        let finish = 1_000 + 3 * LAP_MS;
        // The flag may be known of after the winner's crossing or before it.
        for flag in [finish + 300, finish - 300] {
            let mut samples = race(&[(1, 3), (4, 3), (16, 2)]);
            samples.push((flag, session(flag, "SESSION FINISHED", Some(3), None)));
            samples.push((finish, Sample::from(whole(1, 3, 1_000 + 2 * LAP_MS, LAP_MS))));
            samples.sort_by_key(|(ms, _)| *ms);
            let mut bench = play(samples);
            let states = |bench: &Bench| [1, 4, 16].map(|driver_number| row(bench, driver_number).state);
            assert_eq!(states(&bench), [CarState::Finished, CarState::Running, CarState::Running], "flag at {flag}");
            bench.arrive(finish + 1_000, Sample::from(whole(4, 3, 2_000 + 2 * LAP_MS, LAP_MS)));
            // A lap down, and the last to cross.
            bench.arrive(finish + 2_000, Sample::from(whole(16, 2, 3_000 + LAP_MS, 2 * LAP_MS)));
            assert_eq!(states(&bench), [CarState::Finished; 3], "flag at {flag}");
        }
    }

    #[test]
    fn a_car_that_stopped_before_the_flag_has_not_finished() {
        let finish = 1_000 + 8 * LAP_MS;
        let mut samples = race(&[(1, 8), (4, 3)]);
        samples.push((finish, Sample::from(whole(1, 8, 1_000 + 7 * LAP_MS, LAP_MS))));
        samples.push((finish + 300, session(finish + 300, "SESSION FINISHED", Some(8), None)));
        let bench = play(samples);
        assert_eq!([row(&bench, 1).state, row(&bench, 4).state], [CarState::Finished, CarState::Retired]);
    }
}
