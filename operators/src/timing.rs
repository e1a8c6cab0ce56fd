//! Timing: the tower's row of each car, joined from drivers, positions, laps, gaps, stints, passes through the pit lane and track
//! status; a fact whenever anything in a row changes.
//!
//! A row is the newest state of everything, and what is not known of a car is null in it. It names the records of the change that made
//! it say something new; those of its other values stand in the facts it was joined from.
//!
//! Rules:
//! * Last lap: the highest-numbered one with a time. Sectors: those of the lap being driven.
//! * Best lap: the shortest of those that can be a best, which a race's lap 1, a pit-out lap outside races and laps begun after the end
//!   cannot (as in [`laps`](crate::laps)). Each segment of qualifying starts afresh. A time taken back gives way to the next best.
//! * Tyres: those of the newest stint. A stint's document can lag by a lap, so on a pit-out lap that the newest stint does not reach, the
//!   tyres are not known.
//! * Stops: passes through the pit lane, by lap and date, so that two on one lap are two and one sent again is one. A drive-through is a
//!   pass as well.
//! * A session is a race when race control counts its laps or gaps are sent: OpenF1 does neither elsewhere. Only a race's cars are
//!   retired or finished.
//! * `FINISHED`: the car completed a lap with or after the leader's crossing that the chequered flag was for, the one that ended at most
//!   [`TimingOperator::flag_lag_ms_max`] before the flag.
//! * `RETIRED`: the car began no lap while the leader began [`TimingOperator::laps_missed_max`] of them; the feed itself says nothing.
//!   So it is said some laps late, never during a red flag, and taken back when the car begins a lap after all, as after a long repair.
//!   A retired car has no gaps.
//! * `PIT_OUT`: the lap being driven began in the pit lane.

use std::collections::{BTreeMap, BTreeSet};

use pitwall_engine::Micros;
use pitwall_engine::operator::{Context, Handle, Operator};
use pitwall_schemas::facts::{CarState, Driver, Gap, Lap, Position, SessionState, Stint, Timing, TrackStatus};
use pitwall_schemas::raw::Pit;
use pitwall_schemas::shared::{Compound, Mark};
use serde::{Deserialize, Serialize};

use crate::by_driver::ByDriver;

/// Passes through the pit lane kept of one car: more than a session has laps. Another is rejected.
const PIT_PASSES_MAX: usize = 256;

/// Joins the tower's rows.
#[derive(Debug, Clone, Copy)]
pub struct TimingOperator {
    /// Laps that the leader begins while a car begins none, after which the car is retired.
    pub laps_missed_max: i32,
    /// How long after the leader's last crossing the chequered flag is known of at most, ms. Shorter than any lap.
    pub flag_lag_ms_max: i64,
}

impl Default for TimingOperator {
    fn default() -> Self {
        Self { laps_missed_max: 3, flag_lag_ms_max: 10_000 }
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
    qualifying_phase: Option<i32>,
    /// When the session, or the segment of qualifying, ended.
    finished_at: Option<Micros>,
    /// Highest lap that any car has begun.
    leaders_lap: i32,
    /// Highest lap that any car has completed, and when the first to do so did.
    completed: Option<(i32, Micros)>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Car {
    acronym: Option<String>,
    team_colour: Option<String>,
    position: Option<i32>,
    gap: Option<Gap>,
    /// The lap being driven: the newest.
    lap: Option<Lap>,
    last_lap: Option<LastLap>,
    /// Times of laps that can be the best, by number.
    times: BTreeMap<i32, i32>,
    /// Laps below this belong to earlier segments of qualifying.
    first_lap_of_segment: i32,
    /// The leader's lap when this car last began one.
    leaders_lap_then: i32,
    stint: Option<Stint>,
    pit_passes: BTreeSet<(i32, Micros)>,
    said: Option<Timing>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct LastLap {
    lap_number: i32,
    time_ms: i32,
    mark: Mark,
    ended_at: Option<Micros>,
}

impl State {
    /// The tower's rows as they were last said, by car number.
    pub fn rows(&self) -> impl Iterator<Item = &Timing> {
        self.cars.iter().filter_map(|(_, car)| car.said.as_ref())
    }
}

impl Race {
    /// When the leader crossed the line for the last time, once the flag is out and that crossing is known.
    fn winner_finished_at(&self, flag_lag_ms_max: i64) -> Option<Micros> {
        let (flag, (_, crossed_at)) = self.finished_at.filter(|_| self.is_race).zip(self.completed)?;
        (flag.since(crossed_at) <= flag_lag_ms_max * 1_000).then_some(crossed_at)
    }

    /// Whether the lap's time can be a best.
    fn may_be_best(&self, lap: &Lap) -> bool {
        let begins_standing = if self.is_race { lap.lap_number == 1 } else { lap.is_pit_out_lap };
        let is_after_the_end = self.finished_at.is_some_and(|end| lap.started_at.is_some_and(|start| start > end));
        !begins_standing && !is_after_the_end
    }
}

impl Car {
    fn take_lap(&mut self, lap: &Lap, race: &Race) {
        if self.lap.as_ref().is_none_or(|newest| lap.lap_number > newest.lap_number) {
            self.leaders_lap_then = race.leaders_lap;
        }
        if self.lap.as_ref().is_none_or(|newest| lap.lap_number >= newest.lap_number) {
            self.lap = Some(lap.clone());
        }
        match lap.lap_ms.filter(|_| race.may_be_best(lap)) {
            Some(time_ms) => self.times.insert(lap.lap_number, time_ms),
            None => self.times.remove(&lap.lap_number),
        };
        if let Some(time_ms) = lap.lap_ms
            && self.last_lap.is_none_or(|last| lap.lap_number >= last.lap_number)
        {
            self.last_lap = Some(LastLap { lap_number: lap.lap_number, time_ms, mark: lap.lap_mark, ended_at: end_of(lap) });
        }
    }

    /// The shortest lap and its number, the earlier of two equal ones.
    fn best_lap(&self) -> Option<(i32, i32)> {
        self.times.range(self.first_lap_of_segment..).map(|(&number, &time_ms)| (time_ms, number)).min()
    }

    fn car_state(&self, race: &Race, operator: TimingOperator) -> CarState {
        let last_crossing = self.last_lap.and_then(|last| last.ended_at);
        let has_finished = race.winner_finished_at(operator.flag_lag_ms_max).is_some_and(|winner| last_crossing >= Some(winner));
        let laps_missed = race.leaders_lap - self.leaders_lap_then;
        match &self.lap {
            _ if has_finished => CarState::Finished,
            Some(_) if race.is_race && laps_missed >= operator.laps_missed_max => CarState::Retired,
            Some(lap) if lap.is_pit_out_lap && !lap.is_complete => CarState::PitOut,
            _ => CarState::Running,
        }
    }

    /// Compound and age of the tyres, if they are those of the newest stint.
    fn tyres(&self) -> (Option<Compound>, Option<i32>) {
        let Some(stint) = &self.stint else { return (None, None) };
        let has_new_tyres = self.lap.as_ref().is_some_and(|lap| {
            let is_before = |of_stint: Option<i32>| of_stint.is_some_and(|number| number < lap.lap_number);
            lap.is_pit_out_lap && is_before(stint.lap_start) && is_before(stint.lap_end)
        });
        if has_new_tyres { (None, None) } else { (Some(stint.compound), stint.tyre_age) }
    }

    fn row(&self, driver_number: i32, race: &Race, operator: TimingOperator) -> Timing {
        let (lap, stint) = (self.lap.as_ref(), self.stint.as_ref());
        let state = self.car_state(race, operator);
        let gap = self.gap.as_ref().filter(|_| state != CarState::Retired);
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
            state,
        }
    }

    /// Says the row if it changed.
    fn say(&mut self, driver_number: i32, race: &Race, operator: TimingOperator, context: &mut Context<'_, Timing>) {
        let row = self.row(driver_number, race, operator);
        if self.said.as_ref() != Some(&row) {
            self.said = Some(row.clone());
            context.emit(row);
        }
    }
}

/// When the lap ended, if its start and time are known.
fn end_of(lap: &Lap) -> Option<Micros> {
    lap.started_at.zip(lap.lap_ms).map(|(start, time_ms)| start.plus(i64::from(time_ms) * 1_000))
}

impl TimingOperator {
    fn say_all(self, state: &mut State, context: &mut Context<'_, Timing>) {
        for (driver_number, car) in state.cars.iter_mut() {
            car.say(driver_number, &state.race, self, context);
        }
    }

    /// Changes one car and says its row.
    fn change(self, state: &mut State, driver_number: i32, context: &mut Context<'_, Timing>, change: impl FnOnce(&mut Car)) {
        let car = state.cars.entry(driver_number);
        change(car);
        car.say(driver_number, &state.race, self, context);
    }
}

impl Operator for TimingOperator {
    const NAME: &'static str = "timing";
    const VERSION: u32 = 1;
    type Output = Timing;
    type State = State;

    fn parameters(&self) -> Vec<(&'static str, String)> {
        vec![("laps_missed_max", self.laps_missed_max.to_string()), ("flag_lag_ms_max", self.flag_lag_ms_max.to_string())]
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
        self.change(state, position.driver_number, context, |car| car.position = Some(position.position));
    }
}

impl Handle<Gap> for TimingOperator {
    fn apply(&self, state: &mut State, gap: &Gap, context: &mut Context<'_, Timing>) {
        state.race.is_race = true;
        self.change(state, gap.driver_number, context, |car| car.gap = Some(gap.clone()));
    }
}

impl Handle<Stint> for TimingOperator {
    fn apply(&self, state: &mut State, stint: &Stint, context: &mut Context<'_, Timing>) {
        self.change(state, stint.driver_number, context, |car| {
            if car.stint.as_ref().is_none_or(|newest| stint.stint_number >= newest.stint_number) {
                car.stint = Some(stint.clone());
            }
        });
    }
}

impl Handle<Pit> for TimingOperator {
    fn apply(&self, state: &mut State, pass: &Pit, context: &mut Context<'_, Timing>) {
        let passes = &mut state.cars.entry(pass.driver_number).pit_passes;
        if passes.len() >= PIT_PASSES_MAX {
            return context.reject(format!("car {} passed through the pit lane more than {PIT_PASSES_MAX} times", pass.driver_number));
        }
        passes.insert((pass.lap_number, pass.date));
        self.change(state, pass.driver_number, context, |_| {});
    }
}

impl Handle<Lap> for TimingOperator {
    fn apply(&self, state: &mut State, lap: &Lap, context: &mut Context<'_, Timing>) {
        let race = &mut state.race;
        let begins_leaders_lap = lap.lap_number > race.leaders_lap;
        race.leaders_lap = race.leaders_lap.max(lap.lap_number);
        if let Some(ended_at) = end_of(lap)
            && race.completed.is_none_or(|(completed, first)| (lap.lap_number, first) > (completed, ended_at))
        {
            race.completed = Some((lap.lap_number, ended_at));
        }
        state.cars.entry(lap.driver_number).take_lap(lap, &state.race);
        if begins_leaders_lap {
            self.say_all(state, context);
        } else {
            self.change(state, lap.driver_number, context, |_| {});
        }
    }
}

impl Handle<TrackStatus> for TimingOperator {
    fn apply(&self, state: &mut State, status: &TrackStatus, context: &mut Context<'_, Timing>) {
        let race = &mut state.race;
        race.is_race |= status.lap_number.is_some();
        match status.session {
            SessionState::Started => race.finished_at = None,
            SessionState::Finished => {
                race.finished_at.get_or_insert(context.event_time());
            }
            SessionState::Inactive | SessionState::Aborted => {}
        }
        if status.session == SessionState::Started && status.qualifying_phase.is_some() && status.qualifying_phase != race.qualifying_phase
        {
            race.qualifying_phase = status.qualifying_phase;
            for (_, car) in state.cars.iter_mut() {
                car.first_lap_of_segment = car.lap.as_ref().map_or(0, |lap| lap.lap_number + 1);
            }
        }
        self.say_all(state, context);
    }
}
