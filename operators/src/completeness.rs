//! Completeness: what this session lacks, from the operators and documents that would have it; declared as facts and cleared when it comes
//! after all.
//!
//! Rules:
//! * A lap is missing when the car is on a later one and it was never known; in a race also when it has no time although the car is two
//!   laps further on. So a late join lacks every lap before it, and so do all cars when the feed loses laps.
//! * A driver is missing while a car drives that the driver list does not name.
//! * A channel, and the session's start, is missing when nothing of it came within [`CompletenessOperator::wait_ms`] of the start of the
//!   session or of the first lap known. Intervals are missed in races only (OpenF1 sends none elsewhere). Channels that may be silent,
//!   such as `team_radio`, are never missed. Humidity, rain and wind are missing when the station reports but not them, mini-sectors when
//!   laps come without.
//! * A channel that never rests (car data, locations, a race's intervals) is missing while it says nothing for
//!   [`CompletenessOperator::silence_ms`] of a session under way.
//! * One car's samples are missing on a lap when none came for as long although other cars' did. That is known when they come again or the
//!   car begins another lap: one that has stopped for good sends none either. What was lost stays missing.
//! * A pass through the pit lane is missing when a race's car drives on another set for two laps and no `pit` document tells of a pass
//!   where the sets change. Sets changed while the race stood still need none.
//! * Readings that were out of range and so are null are counted, car by car.
//! * Collections that were made afterwards of other data are named in the session's own document (`pitwall import --reconstructed`).

use std::collections::{BTreeMap, BTreeSet};

use pitwall_engine::Micros;
use pitwall_engine::operator::{Context, Handle, Issued, Operator, Tick};
use pitwall_schemas::facts::{
    Channel, Completeness, Driver, Gap, Lap, Position, RaceControlMessage, SessionState, Status, Stint, Subject, Telemetry, TrackStatus,
    Weather,
};
use pitwall_schemas::raw::{Pit, Session};
use serde::{Deserialize, Serialize};

use crate::by_driver::ByDriver;

/// Laps that a car has driven on another set before a pass that no document told of is missed: `pit` documents come up to a lap late.
const LAPS_ON_ANOTHER_SET: i32 = 2;

/// Laps around a standstill on which sets are changed without a pass.
const LAPS_AROUND_A_STANDSTILL: i32 = 2;

/// How long counts of refused readings are gathered before they are said, ms.
const READINGS_EVERY_MS: i64 = 1_000;

/// Timers.
const WAIT: u64 = 0;
const READINGS: u64 = 1;

/// Declares what is missing.
#[derive(Debug, Clone, Copy)]
pub struct CompletenessOperator {
    /// How long channels are waited for, ms: longer than any lap lasts.
    pub wait_ms: i64,
    /// How long samples and intervals are silent before they are missed, ms: many times their usual distance of at most 4 s.
    pub silence_ms: i64,
}

impl Default for CompletenessOperator {
    fn default() -> Self {
        Self { wait_ms: 300_000, silence_ms: 30_000 }
    }
}

/// What has come and what is declared missing.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    seen: Subjects,
    reconstructed: Subjects,
    missing: BTreeMap<(Subject, i32, i32), Issued>,
    named: ByDriver<bool>,
    cars: ByDriver<Car>,
    is_race: bool,
    is_under_way: bool,
    /// The ledger record that the wait for channels began with.
    waits_since: Option<u64>,
    /// Of car data, locations and intervals.
    streams: [Silence; 3],
    waits_to_say_readings: bool,
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

    const fn remove(&mut self, subject: Subject) {
        self.0 &= !(1 << subject as u32);
    }

    const fn contains(self, subject: Subject) -> bool {
        self.0 & (1 << subject as u32) != 0
    }
}

/// When a channel that never rests was heard last, and its last silence.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Silence {
    heard: Option<(Micros, u64)>,
    last: Option<(Micros, Micros)>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Car {
    newest_lap: i32,
    /// Laps known without a time.
    untimed: BTreeSet<i32>,
    /// When the newest sample of car data and of locations came, and the lap that the car was on.
    samples: [Option<(Micros, i32)>; 2],
    /// Laps with a pass through the pit lane.
    passes: BTreeSet<i32>,
    /// First laps on another set of which no pass is known.
    unexplained: BTreeSet<i32>,
    has_stint: bool,
    /// The lap on which the race last stood still.
    stood_still_on: Option<i32>,
    readings_refused: i32,
    readings_cause: u64,
    readings_said: i32,
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

/// What is in another channel's documents, which must have come for it to be missed.
const PARTS: [(Subject, Subject); 4] = [
    (Subject::Humidity, Subject::Weather),
    (Subject::Rain, Subject::Weather),
    (Subject::Wind, Subject::Weather),
    (Subject::MiniSectors, Subject::Laps),
];

/// The channels that never rest.
const STREAMS: [Subject; 3] = [Subject::CarData, Subject::Location, Subject::Intervals];

/// What a collection's documents are called here.
fn subject_of(collection: &str) -> Option<Subject> {
    Some(match collection {
        "car_data" => Subject::CarData,
        "drivers" => Subject::Drivers,
        "intervals" => Subject::Intervals,
        "laps" => Subject::Laps,
        "location" => Subject::Location,
        "overtakes" => Subject::Overtakes,
        "pit" => Subject::Pit,
        "position" => Subject::Position,
        "race_control" => Subject::RaceControl,
        "stints" => Subject::Stints,
        "weather" => Subject::Weather,
        _ => return None,
    })
}

impl State {
    fn fact(&self, (subject, driver_number, lap_number): (Subject, i32, i32), is_missing: bool) -> Completeness {
        let is_reconstructed = driver_number == 0 && lap_number == 0 && self.reconstructed.contains(subject);
        Completeness { subject, driver_number, lap_number, is_missing, count: 0, is_reconstructed }
    }

    fn declare(&mut self, key: (Subject, i32, i32), context: &mut Context<'_, Completeness>) {
        let causes = match self.waits_since {
            // In a timer there is nothing being taken.
            Some(since) if context.causes().is_empty() => vec![since],
            _ => context.causes().to_vec(),
        };
        self.declare_because(key, &causes, context);
    }

    fn declare_because(&mut self, key: (Subject, i32, i32), causes: &[u64], context: &mut Context<'_, Completeness>) {
        if !self.missing.contains_key(&key) {
            let issued = context.emit_because(causes, self.fact(key, true));
            self.missing.insert(key, issued);
        }
    }

    fn clear(&mut self, key: (Subject, i32, i32), context: &mut Context<'_, Completeness>) {
        if let Some(issued) = self.missing.remove(&key) {
            context.draft(self.fact(key, false)).correcting(Some(issued)).emit();
        }
    }

    #[inline]
    fn see(&mut self, subject: Subject, context: &mut Context<'_, Completeness>) {
        if self.seen.insert(subject) {
            self.clear((subject, 0, 0), context);
        }
    }

    /// Hears a channel that never rests.
    #[inline]
    fn hear(&mut self, stream: usize, context: &mut Context<'_, Completeness>) {
        self.see(STREAMS[stream], context);
        self.streams[stream].heard = Some((context.now(), context.seq()));
    }

    /// The laps of a car of which samples are missing, if it sent none since `before` while others did.
    fn has_lost(&self, stream: usize, before: Micros, until: Micros, silence_ms: i64) -> bool {
        let is_silent = until.since(before) >= silence_ms * 1_000;
        let slack = silence_ms * 1_000 / 2;
        // When the whole channel was silent then, the car is not the one to name.
        let is_explained = self.streams[stream].last.is_some_and(|(from, to)| before.plus(slack) >= from && until <= to.plus(slack));
        is_silent && !is_explained
    }
}

impl CompletenessOperator {
    fn wait(self, state: &mut State, context: &mut Context<'_, Completeness>) {
        if state.waits_since.is_none() {
            state.waits_since = Some(context.seq());
            context.set_timer(context.now().plus(self.wait_ms * 1_000), WAIT);
        }
    }

    /// Declares laps on which samples of a car that begins a lap are missing.
    fn miss_samples(self, state: &mut State, driver_number: i32, context: &mut Context<'_, Completeness>) {
        for (stream, subject) in STREAMS.into_iter().enumerate().take(2) {
            let Some((before, lap_number)) = state.cars.get(driver_number).and_then(|car| car.samples[stream]) else { continue };
            let is_heard = state.streams[stream].heard.is_some_and(|(at, _)| context.now().since(at) < self.silence_ms * 1_000);
            if is_heard && state.has_lost(stream, before, context.now(), self.silence_ms) {
                state.declare((subject, driver_number, lap_number), context);
            }
        }
    }

    /// Declares passes through the pit lane that must have been and of which no document tells.
    fn miss_passes(state: &mut State, driver_number: i32, context: &mut Context<'_, Completeness>) {
        let Some(car) = state.cars.get_mut(driver_number) else { return };
        let due: Vec<i32> = car.unexplained.range(..=car.newest_lap - LAPS_ON_ANOTHER_SET).copied().collect();
        for lap_start in due {
            state.declare((Subject::Pit, driver_number, (lap_start - 1).max(1)), context);
        }
    }
}

impl Operator for CompletenessOperator {
    const NAME: &'static str = "completeness";
    const VERSION: u32 = 2;
    type Output = Completeness;
    type State = State;

    fn parameters(&self) -> Vec<(&'static str, String)> {
        vec![("wait_ms", self.wait_ms.to_string()), ("silence_ms", self.silence_ms.to_string())]
    }

    fn on_timer(&self, state: &mut State, token: u64, context: &mut Context<'_, Completeness>) {
        if token == READINGS {
            return say_readings(state, context);
        }
        let intervals = Some(Subject::Intervals).filter(|_| state.is_race);
        let parts = PARTS.into_iter().filter(|(_, whole)| state.seen.contains(*whole)).map(|(part, _)| part);
        let awaited: Vec<Subject> = CHANNELS.into_iter().chain(intervals).chain(parts).collect();
        for subject in awaited {
            if !state.seen.contains(subject) {
                state.declare((subject, 0, 0), context);
            }
        }
    }
}

/// Says how many readings of each car were refused, where that has changed.
fn say_readings(state: &mut State, context: &mut Context<'_, Completeness>) {
    state.waits_to_say_readings = false;
    for (driver_number, car) in state.cars.iter_mut().filter(|(_, car)| car.readings_refused > car.readings_said) {
        car.readings_said = car.readings_refused;
        let key = (Subject::Readings, driver_number, 0);
        let (subject, lap_number, count) = (Subject::Readings, 0, car.readings_refused);
        let fact = Completeness { subject, driver_number, lap_number, is_missing: true, count, is_reconstructed: false };
        let previous = state.missing.get(&key).copied();
        let issued = context.draft(fact).because(&[car.readings_cause]).correcting(previous).emit();
        state.missing.insert(key, issued);
    }
}

impl Handle<Session> for CompletenessOperator {
    fn apply(&self, state: &mut State, session: &Session, context: &mut Context<'_, Completeness>) {
        for subject in session.reconstructed.iter().flatten().filter_map(|collection| subject_of(collection)) {
            if state.reconstructed.insert(subject) {
                context.emit(state.fact((subject, 0, 0), false));
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
        state.is_under_way = status.session == SessionState::Started;
        if status.started_at.is_some() {
            state.see(Subject::SessionStart, context);
        }
        if status.session == SessionState::Started {
            self.wait(state, context);
        }
        if status.status == Status::Red {
            for (_, car) in state.cars.iter_mut() {
                car.stood_still_on = Some(car.newest_lap);
            }
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
        if context.is_withdrawn() {
            return;
        }
        state.see(Subject::Laps, context);
        if [&lap.segments_1, &lap.segments_2, &lap.segments_3].into_iter().any(|segments| !segments.is_empty()) {
            state.see(Subject::MiniSectors, context);
        }
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
        let begins_lap = lap_number > car.newest_lap;
        let never_known = car.newest_lap + 1..lap_number;
        car.newest_lap = car.newest_lap.max(lap_number);
        let overdue: Vec<i32> = car.untimed.range(..(car.newest_lap - 1).max(0)).copied().filter(|_| is_race).collect();
        if lap.is_complete || !overdue.contains(&lap_number) {
            state.clear((Subject::Lap, driver_number, lap_number), context);
        }
        for missing in never_known.chain(overdue) {
            state.declare((Subject::Lap, driver_number, missing), context);
        }
        if begins_lap {
            self.miss_samples(state, driver_number, context);
            Self::miss_passes(state, driver_number, context);
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
            state.hear(2, context);
        }
    }
}

impl Handle<Stint> for CompletenessOperator {
    fn apply(&self, state: &mut State, stint: &Stint, context: &mut Context<'_, Completeness>) {
        state.see(Subject::Stints, context);
        let is_race = state.is_race;
        let car = state.cars.entry(stint.driver_number);
        let is_another = std::mem::replace(&mut car.has_stint, true) && stint.stint_number > 1;
        let Some(lap_start) = stint.lap_start.filter(|_| is_race && is_another) else { return };
        if context.is_withdrawn() {
            car.unexplained.remove(&lap_start);
            return state.clear((Subject::Pit, stint.driver_number, (lap_start - 1).max(1)), context);
        }
        let is_explained = car.passes.range(lap_start - 1..=lap_start).next().is_some();
        let stood_still = car.stood_still_on.is_some_and(|lap| (lap..=lap + LAPS_AROUND_A_STANDSTILL).contains(&lap_start));
        if !is_explained && !stood_still {
            car.unexplained.insert(lap_start);
        }
        Self::miss_passes(state, stint.driver_number, context);
    }
}

impl Handle<Pit> for CompletenessOperator {
    fn apply(&self, state: &mut State, pit: &Pit, context: &mut Context<'_, Completeness>) {
        let driver_number = pit.driver_number;
        let car = state.cars.entry(driver_number);
        car.passes.insert(pit.lap_number);
        for lap_start in [pit.lap_number, pit.lap_number + 1] {
            if car.unexplained.remove(&lap_start) {
                return state.clear((Subject::Pit, driver_number, (lap_start - 1).max(1)), context);
            }
        }
    }
}

impl Handle<Weather> for CompletenessOperator {
    fn apply(&self, state: &mut State, weather: &Weather, context: &mut Context<'_, Completeness>) {
        state.see(Subject::Weather, context);
        let parts = [
            (Subject::Humidity, weather.humidity.is_some()),
            (Subject::Rain, weather.is_raining.is_some()),
            (Subject::Wind, weather.wind_speed.is_some()),
        ];
        for (subject, _) in parts.into_iter().filter(|(_, is_there)| *is_there) {
            state.see(subject, context);
        }
    }
}

impl Handle<Telemetry> for CompletenessOperator {
    #[inline]
    fn apply(&self, state: &mut State, packet: &Telemetry, context: &mut Context<'_, Completeness>) {
        let stream = usize::from(packet.channel == Channel::Location);
        state.hear(stream, context);
        let now = context.now();
        let car = state.cars.entry(packet.driver_number);
        let before = car.samples[stream].replace((now, car.newest_lap));
        if packet.readings_refused > 0 {
            car.readings_refused += packet.readings_refused;
            car.readings_cause = context.seq();
            if !std::mem::replace(&mut state.waits_to_say_readings, true) {
                context.set_timer(now.plus(READINGS_EVERY_MS * 1_000), READINGS);
            }
        }
        if let Some((before, lap_number)) = before
            && state.has_lost(stream, before, now, self.silence_ms)
        {
            state.declare((STREAMS[stream], packet.driver_number, lap_number), context);
        }
    }
}

impl Handle<Tick> for CompletenessOperator {
    fn apply(&self, state: &mut State, _tick: &Tick, context: &mut Context<'_, Completeness>) {
        if !state.is_under_way {
            return;
        }
        for (stream, subject) in STREAMS.into_iter().enumerate() {
            let Some((heard, cause)) = state.streams[stream].heard else { continue };
            let is_silent = context.now().since(heard) >= self.silence_ms * 1_000;
            if is_silent && (subject != Subject::Intervals || state.is_race) {
                state.streams[stream].last = Some((heard, context.now()));
                state.seen.remove(subject);
                state.declare_because((subject, 0, 0), &[cause], context);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bench, at_ms, car_data, driver, lap, pit, position, race_control, session_at, stint};
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

    fn car_data_of(car: i32, ms: i64) -> Sample {
        car_data(car, at_ms(ms), 250)
    }

    #[test]
    fn samples_of_one_car_that_did_not_come_for_a_minute_stay_missing_on_their_lap() {
        let mut bench = bench();
        bench.arrive(1, start(Some(1)));
        bench.arrive(2, timed(1, None));
        for ms in (0..180).map(|second| second * 1_000) {
            bench.arrive(ms + 10, car_data_of(81, ms));
            if !(60_000..120_000).contains(&ms) {
                bench.arrive(ms + 20, car_data_of(4, ms));
            }
        }
        let missing: Vec<_> = said(&bench).into_iter().filter(|(subject, ..)| *subject == Subject::CarData).collect();
        assert_eq!(missing, [(Subject::CarData, 4, 1, true)]);
    }

    #[test]
    fn a_car_that_stops_for_good_misses_no_samples_and_one_that_drives_on_without_them_does() {
        let after = |begins_another: bool| {
            let mut bench = bench();
            bench.arrive(1, start(Some(1)));
            bench.arrive(2, timed(1, None));
            bench.arrive(20, car_data_of(4, 0));
            for ms in (0..90).map(|second| second * 1_000) {
                bench.arrive(ms + 30, car_data_of(81, ms));
            }
            if begins_another {
                bench.arrive(90_000, timed(2, None));
            }
            said(&bench).into_iter().filter(|(subject, ..)| *subject == Subject::CarData).collect::<Vec<_>>()
        };
        assert_eq!(after(false), []);
        assert_eq!(after(true), [(Subject::CarData, 4, 1, true)]);
    }

    #[test]
    fn a_channel_that_falls_silent_is_missing_until_it_speaks_again_and_no_car_is_named() {
        let mut bench = bench();
        bench.arrive(1, start(Some(1)));
        for ms in [1_000, 2_000, 95_000, 96_000] {
            for car in [4, 81] {
                bench.arrive(ms, car_data_of(car, ms));
            }
        }
        let missing: Vec<_> = said(&bench).into_iter().filter(|(subject, ..)| *subject == Subject::CarData).collect();
        assert_eq!(missing, [(Subject::CarData, 0, 0, true), (Subject::CarData, 0, 0, false)]);
    }

    #[test]
    fn parts_of_a_channel_are_missing_only_when_the_channel_is_there() {
        let mut bench = bench();
        bench.arrive(1, start(Some(1)));
        bench.arrive(2, timed(1, None));
        bench.idle(301_000);
        let of = |bench: &Bench, part| {
            said(bench).into_iter().filter(|(subject, ..)| *subject == part).map(|(.., missing)| missing).collect::<Vec<_>>()
        };
        assert_eq!((of(&bench, Subject::MiniSectors), of(&bench, Subject::Rain)), (vec![true], vec![]));
        let segments_sector_1 = Some(vec![Some(2_049)]);
        bench.arrive(302_000, Sample::from(raw::Lap { segments_sector_1, ..lap(4, 2) }));
        assert_eq!(of(&bench, Subject::MiniSectors), [true, false]);
    }

    #[test]
    fn tyres_changed_without_a_document_of_the_pass_miss_it_until_it_comes() {
        let mut bench = bench();
        bench.arrive(1, start(Some(1)));
        let stint = |number, lap_start, lap_end| {
            let compound = Some("HARD".into());
            Sample::from(raw::Stint { lap_start: Some(lap_start), lap_end: Some(lap_end), compound, ..stint(4, number) })
        };
        bench.arrive(2, stint(1, 1, 1));
        for number in 1..=8 {
            bench.arrive(i64::from(number) * 80_000, timed(number, Some(80.0)));
            if number >= 4 {
                bench.arrive(i64::from(number) * 80_000 + 10_000, stint(2, 4, number));
            }
        }
        let of_passes = |bench: &Bench| said(bench).into_iter().filter(|(subject, ..)| *subject == Subject::Pit).collect::<Vec<_>>();
        assert_eq!(of_passes(&bench), [(Subject::Pit, 4, 3, true)]);
        bench.arrive(700_000, Sample::from(pit(4, 3, at_ms(320_000))));
        assert_eq!(of_passes(&bench)[1..], [(Subject::Pit, 4, 3, false)]);
    }

    #[test]
    fn collections_that_were_reconstructed_are_named_by_the_sessions_document() {
        let mut bench = bench();
        let mut session = session_at(None, None);
        session.reconstructed = Some(vec!["position".into(), "intervals".into(), "unheard_of".into()]);
        bench.arrive(1, Sample::from(session.clone()));
        bench.arrive(2, Sample::from(session));
        let facts = bench.facts::<Completeness>().into_iter().filter(|(_, fact)| fact.is_reconstructed);
        assert_eq!(
            facts.map(|(_, fact)| (fact.subject, fact.is_missing)).collect::<Vec<_>>(),
            [(Subject::Position, false), (Subject::Intervals, false)]
        );
    }
}
