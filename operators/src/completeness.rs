//! Completeness: what this session lacks, from the operators that would have it; declared as facts and cleared when it comes after all.
//!
//! Rules:
//! * A lap is missing when the car is on a later one and it was never known; in a race also when it has no time although the car is two
//!   laps further on. So a late join lacks every lap before it.
//! * A driver is missing while a car drives that the driver list does not name.
//! * A channel, and the session's start, is missing when nothing of it came within [`CompletenessOperator::wait_ms`] of the start of the
//!   session or of the first lap known. Intervals are missed in races only (OpenF1 sends none elsewhere). Channels that may be silent,
//!   such as `pit` or `team_radio`, are never missed.

use std::collections::{BTreeMap, BTreeSet};

use pitwall_engine::operator::{Context, Handle, Issued, Operator};
use pitwall_schemas::facts::{
    Channel, Completeness, Driver, Gap, Lap, Position, RaceControlMessage, SessionState, Stint, Subject, Telemetry, TrackStatus, Weather,
};
use serde::{Deserialize, Serialize};

use crate::by_driver::ByDriver;

/// Declares what is missing.
#[derive(Debug, Clone, Copy)]
pub struct CompletenessOperator {
    /// How long channels are waited for, ms: longer than any lap lasts.
    pub wait_ms: i64,
}

impl Default for CompletenessOperator {
    fn default() -> Self {
        Self { wait_ms: 300_000 }
    }
}

/// What has come and what is declared missing.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    seen: Subjects,
    missing: BTreeMap<(Subject, i32, i32), Issued>,
    named: ByDriver<bool>,
    cars: ByDriver<Car>,
    is_race: bool,
    /// The ledger record that the wait for channels began with.
    waits_since: Option<u64>,
}

/// A set of subjects, a bit each: telemetry asks it at every packet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Subjects(u32);

impl Subjects {
    /// Adds `subject` and tells whether it is new.
    const fn insert(&mut self, subject: Subject) -> bool {
        let is_new = !self.contains(subject);
        self.0 |= 1 << subject as u32;
        is_new
    }

    const fn contains(self, subject: Subject) -> bool {
        self.0 & (1 << subject as u32) != 0
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Car {
    newest_lap: i32,
    /// Laps known without a time.
    untimed: BTreeSet<i32>,
}

/// What every session has.
const CHANNELS: [Subject; 9] = [
    Subject::SessionStart,
    Subject::Laps,
    Subject::Position,
    Subject::Stints,
    Subject::Drivers,
    Subject::RaceControl,
    Subject::Weather,
    Subject::CarData,
    Subject::Location,
];

impl State {
    fn declare(&mut self, key: (Subject, i32, i32), context: &mut Context<'_, Completeness>) {
        if self.missing.contains_key(&key) {
            return;
        }
        let (subject, driver_number, lap_number) = key;
        let causes = match self.waits_since {
            // In a timer there is nothing being taken.
            Some(since) if context.causes().is_empty() => vec![since],
            _ => context.causes().to_vec(),
        };
        let fact = Completeness { subject, driver_number, lap_number, is_missing: true };
        self.missing.insert(key, context.emit_because(&causes, fact));
    }

    fn clear(&mut self, key: (Subject, i32, i32), context: &mut Context<'_, Completeness>) {
        if let Some(issued) = self.missing.remove(&key) {
            let (subject, driver_number, lap_number) = key;
            context.draft(Completeness { subject, driver_number, lap_number, is_missing: false }).correcting(Some(issued)).emit();
        }
    }

    #[inline]
    fn see(&mut self, subject: Subject, context: &mut Context<'_, Completeness>) {
        if self.seen.insert(subject) {
            self.clear((subject, 0, 0), context);
        }
    }
}

impl CompletenessOperator {
    fn wait(self, state: &mut State, context: &mut Context<'_, Completeness>) {
        if state.waits_since.is_none() {
            state.waits_since = Some(context.seq());
            context.set_timer(context.now().plus(self.wait_ms * 1_000), 0);
        }
    }
}

impl Operator for CompletenessOperator {
    const NAME: &'static str = "completeness";
    const VERSION: u32 = 2;
    type Output = Completeness;
    type State = State;

    fn parameters(&self) -> Vec<(&'static str, String)> {
        vec![("wait_ms", self.wait_ms.to_string())]
    }

    fn on_timer(&self, state: &mut State, _token: u64, context: &mut Context<'_, Completeness>) {
        let intervals = Some(Subject::Intervals).filter(|_| state.is_race);
        for subject in CHANNELS.into_iter().chain(intervals) {
            if !state.seen.contains(subject) {
                state.declare((subject, 0, 0), context);
            }
        }
    }
}

impl Handle<Driver> for CompletenessOperator {
    fn apply(&self, state: &mut State, driver: &Driver, context: &mut Context<'_, Completeness>) {
        state.see(Subject::Drivers, context);
        *state.named.entry(driver.driver_number) = true;
        state.clear((Subject::Driver, driver.driver_number, 0), context);
    }
}

impl Handle<TrackStatus> for CompletenessOperator {
    fn apply(&self, state: &mut State, status: &TrackStatus, context: &mut Context<'_, Completeness>) {
        state.is_race |= status.lap_number.is_some();
        if status.started_at.is_some() {
            state.see(Subject::SessionStart, context);
        }
        if status.session == SessionState::Started {
            self.wait(state, context);
        }
    }
}

impl Handle<RaceControlMessage> for CompletenessOperator {
    fn apply(&self, state: &mut State, message: &RaceControlMessage, context: &mut Context<'_, Completeness>) {
        state.is_race |= message.lap_number.is_some();
        state.see(Subject::RaceControl, context);
    }
}

impl Handle<Lap> for CompletenessOperator {
    fn apply(&self, state: &mut State, lap: &Lap, context: &mut Context<'_, Completeness>) {
        let (driver_number, lap_number) = (lap.driver_number, lap.lap_number);
        state.see(Subject::Laps, context);
        self.wait(state, context);
        if state.named.get(driver_number).is_none() {
            state.declare((Subject::Driver, driver_number, 0), context);
        }
        let is_race = state.is_race;
        let car = state.cars.entry(driver_number);
        if lap.is_complete {
            car.untimed.remove(&lap_number);
        } else {
            car.untimed.insert(lap_number);
        }
        let never_known = car.newest_lap + 1..lap_number;
        car.newest_lap = car.newest_lap.max(lap_number);
        let overdue: Vec<i32> = car.untimed.range(..(car.newest_lap - 1).max(0)).copied().filter(|_| is_race).collect();
        if lap.is_complete || !overdue.contains(&lap_number) {
            state.clear((Subject::Lap, driver_number, lap_number), context);
        }
        for missing in never_known.chain(overdue) {
            state.declare((Subject::Lap, driver_number, missing), context);
        }
    }
}

impl Handle<Position> for CompletenessOperator {
    fn apply(&self, state: &mut State, _position: &Position, context: &mut Context<'_, Completeness>) {
        state.see(Subject::Position, context);
    }
}

impl Handle<Gap> for CompletenessOperator {
    fn apply(&self, state: &mut State, gap: &Gap, context: &mut Context<'_, Completeness>) {
        // The leader's gap of 0 comes from the order, without a document.
        if gap.gap_ms != Some(0) || gap.interval_ms.is_some() {
            state.see(Subject::Intervals, context);
        }
    }
}

impl Handle<Stint> for CompletenessOperator {
    fn apply(&self, state: &mut State, _stint: &Stint, context: &mut Context<'_, Completeness>) {
        state.see(Subject::Stints, context);
    }
}

impl Handle<Weather> for CompletenessOperator {
    fn apply(&self, state: &mut State, _weather: &Weather, context: &mut Context<'_, Completeness>) {
        state.see(Subject::Weather, context);
    }
}

impl Handle<Telemetry> for CompletenessOperator {
    #[inline]
    fn apply(&self, state: &mut State, packet: &Telemetry, context: &mut Context<'_, Completeness>) {
        state.see(if packet.channel == Channel::CarData { Subject::CarData } else { Subject::Location }, context);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bench, at_ms, driver, lap, position, race_control};
    use pitwall_schemas::raw::{self, RaceControl, Sample};

    fn said(bench: &Bench) -> Vec<(Subject, i32, i32, bool)> {
        let facts = bench.facts::<Completeness>().into_iter();
        facts.map(|(_, fact)| (fact.subject, fact.driver_number, fact.lap_number, fact.is_missing)).collect()
    }

    fn start(lap_number: Option<i32>) -> Sample {
        Sample::from(RaceControl { category: Some("SessionStatus".into()), lap_number, ..race_control(at_ms(0), "SESSION STARTED") })
    }

    fn timed(lap_number: i32, seconds: Option<f64>) -> Sample {
        let date_start = Some(at_ms(i64::from(lap_number) * 80_000));
        Sample::from(raw::Lap { date_start, lap_duration: seconds, ..lap(4, lap_number) })
    }

    /// A bench in which car 4 is named.
    fn bench() -> Bench {
        let mut bench = Bench::new(crate::join);
        bench.arrive(0, Sample::from(driver(4)));
        bench
    }

    #[test]
    fn a_late_join_lacks_every_lap_before_it_until_they_are_back_filled() {
        let mut bench = bench();
        bench.arrive(100, timed(3, Some(80.0)));
        assert_eq!(said(&bench), [(Subject::Lap, 4, 1, true), (Subject::Lap, 4, 2, true)]);
        bench.arrive(200, timed(1, Some(81.0)));
        assert_eq!(said(&bench)[2..], [(Subject::Lap, 4, 1, false)]);
        let facts = bench.facts::<Completeness>();
        assert_eq!((facts[2].0.revision, facts[2].0.supersedes), (1, Some(facts[0].0.fact_seq)));
    }

    #[test]
    fn a_lap_of_a_race_without_a_time_is_missing_when_the_car_is_two_laps_further_on() {
        let mut bench = bench();
        bench.arrive(1, start(Some(1)));
        for (ms, number, seconds) in [(80_000, 1, Some(80.0)), (160_000, 2, None), (240_000, 3, None)] {
            bench.arrive(ms, timed(number, seconds));
        }
        assert_eq!(said(&bench), []);
        bench.arrive(320_000, timed(4, None));
        let laps = |bench: &Bench| said(bench).into_iter().filter(|(subject, ..)| *subject == Subject::Lap).collect::<Vec<_>>();
        assert_eq!(laps(&bench), [(Subject::Lap, 4, 2, true)]);
        bench.arrive(330_000, timed(2, Some(80.0)));
        assert_eq!(laps(&bench)[1..], [(Subject::Lap, 4, 2, false)]);
    }

    #[test]
    fn a_car_that_the_driver_list_does_not_name_is_missing_a_driver_until_it_does() {
        let mut bench = bench();
        bench.arrive(0, Sample::from(raw::Lap { date_start: Some(at_ms(0)), ..lap(44, 1) }));
        bench.arrive(1, Sample::from(driver(44)));
        assert_eq!(said(&bench), [(Subject::Driver, 44, 0, true), (Subject::Driver, 44, 0, false)]);
    }

    #[test]
    fn a_channel_that_stays_silent_is_missing_until_it_speaks_and_intervals_only_in_a_race() {
        for (lap_number, lacks_intervals) in [(None, false), (Some(1), true)] {
            let mut bench = bench();
            bench.arrive(1, start(lap_number));
            bench.idle(299_999);
            assert_eq!(said(&bench), []);
            bench.idle(301_000);
            let missing: Vec<_> = said(&bench).into_iter().map(|(subject, ..)| subject).collect();
            let mut expected =
                vec![Subject::Laps, Subject::Position, Subject::Stints, Subject::Weather, Subject::CarData, Subject::Location];
            expected.extend(lacks_intervals.then_some(Subject::Intervals));
            assert_eq!(missing, expected);
            assert!(bench.facts::<Completeness>().iter().all(|(header, _)| !header.causes.is_empty()));
            bench.arrive(302_000, Sample::from(position(4, at_ms(302_000), 1)));
            bench.idle(303_000);
            assert_eq!(said(&bench)[expected.len()..], [(Subject::Position, 0, 0, false)]);
        }
    }

    #[test]
    fn a_session_whose_start_was_not_seen_says_so() {
        let mut bench = bench();
        bench.arrive(0, timed(1, Some(80.0)));
        bench.idle(400_000);
        assert!(said(&bench).contains(&(Subject::SessionStart, 0, 0, true)));
    }
}
