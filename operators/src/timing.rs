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
//! * Tyres: those of the newest stint. A stint's document can lag by a lap and more, so from the car's last lap out of the pit lane on the
//!   tyres are not known until a stint reaches that lap.
//! * Stops: passes through the pit lane, as [`pit_stops`](crate::pit_stops) tells them apart: two on one lap are two and one sent again is
//!   one. A drive-through is a pass as well.
//! * A session is a race when race control counts its laps or gaps are sent: OpenF1 does neither elsewhere. Only a race's cars are
//!   retired or finished.
//! * `FINISHED`: the car completed a lap with or after the leader's crossing that the chequered flag was for, the one that ended at most
//!   [`TimingOperator::flag_lag_ms_max`] before the flag.
//! * `RETIRED`: the car began no lap while the leader began [`TimingOperator::laps_missed_max`] of them; the feed itself says nothing.
//!   So it is said some laps late, never during a red flag, and taken back when the car begins a lap after all, as after a long repair.
//!   A retired car has no gaps.
//! * `IN_PIT`: the newest lap ended in the pit lane, or its mini-sectors have come to it (as in [`laps`](crate::laps)). In a race it is
//!   mostly known once the car is out again, and then `PIT_OUT`.
//! * `PIT_OUT`: the lap being driven began in the pit lane.

use std::collections::{BTreeMap, BTreeSet};

use pitwall_engine::Micros;
use pitwall_engine::operator::{Context, Handle, Operator};
use pitwall_schemas::facts::{CarState, Driver, Gap, Lap, PitStop, Position, SessionState, Stint, Timing, TrackStatus};
use pitwall_schemas::shared::{Compound, Mark};
use serde::{Deserialize, Serialize};

use crate::by_driver::ByDriver;

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
    /// By number, which the schema ends at 100.
    stints: BTreeMap<i32, Stint>,
    /// Lap and number on that lap of every pass through the pit lane; `pit_stops` bounds them.
    pit_passes: BTreeSet<(i32, i32)>,
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
        let is_of_the_pit_lane = !self.is_race && (lap.is_pit_out_lap || lap.is_pit_in_lap);
        let begins_standing = self.is_race && lap.lap_number == 1;
        let is_after_the_end = self.finished_at.is_some_and(|end| lap.started_at.is_some_and(|start| start > end));
        !is_of_the_pit_lane && !begins_standing && !is_after_the_end && !lap.is_deleted && !lap.is_interrupted
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
        let is_before = |of_stint: Option<i32>| of_stint.is_some_and(|number| Some(number) < out_lap);
        let has_new_tyres = is_before(stint.lap_start) && is_before(stint.lap_end);
        if has_new_tyres { (None, None) } else { (Some(stint.compound), stint.tyre_age) }
    }

    fn stint(&self) -> Option<&Stint> {
        self.stints.last_key_value().map(|(_, stint)| stint)
    }

    fn row(&self, driver_number: i32, race: &Race, operator: TimingOperator) -> Timing {
        let (lap, stint) = (self.lap.as_ref(), self.stint());
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
    const VERSION: u32 = 4;
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
        let is_withdrawn = context.is_withdrawn();
        self.change(state, pass.driver_number, context, |car| {
            let key = (pass.lap_number, pass.pass);
            if is_withdrawn {
                car.pit_passes.remove(&key)
            } else {
                car.pit_passes.insert(key)
            };
        });
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
    use crate::testing::{Bench, at_ms, driver, interval, lap, pit, position, race_control, stint};
    use crate::track_status::TrackStatusOperator;
    use pitwall_schemas::codec::Reading;
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
            graph.publish(TimingOperator::default(), |inputs| {
                let inputs = inputs.stream(drivers).stream(track_status).stream(laps).stream(positions).stream(gaps).stream(stints);
                inputs.stream(pit_stops)
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
