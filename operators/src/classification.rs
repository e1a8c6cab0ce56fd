//! Classification: laps, the tower's rows, race control and the published result as two orders kept apart: the provisional one, derived
//! from what is known so far, and the official one, which is `session_result`.
//!
//! Rules of a race, with their source:
//! * Order: the timing line's (OpenF1 #194), then retired cars by laps completed. A retired car is classified when it completed at least
//!   9/10 of the winner's laps, rounded down (sporting regulations): Norris, 64 of 72 laps, was 18th at Zandvoort in 2025.
//! * Penalties not served are added to the car's time, so that it loses places and the cars behind gain them; a drive-through not served
//!   by the end counts 20 s, a stop-and-go 30 s (sporting regulations). Laps come before time: a penalty never puts a car behind one
//!   with fewer laps. The time is the gap to the leader, after the end that of the last crossings. A car whose time is unknown stays.
//! * A disqualified car has no place, and those behind move up.
//! * Did not start: the race start was seen and the car began no lap while the leader completed [`NOT_STARTED_AFTER_LAPS`].
//! * Points: 25-18-15-12-10-8-6-4-2-1, a sprint's 8 to 1; from 2019 to 2024 one for the fastest lap to a car in the first ten of a race.
//!   A race that ends early gives fewer from 2022: none with less than two laps under green, then by 25, 50 and 75 % of the distance.
//!   Before the end they are those of a full distance. They are null unless it is known whether it is a race or a sprint
//!   ([`session_kind`](crate::session_kind)), and after the end of a short one unless its share of the distance is certain.
//! * The distance of a race is the fewest laps beyond 305 km, at Monaco beyond 260 km (sporting regulations; so it was at every race from
//!   2018 to 2026, f1db). The length of a lap is that of the [`circuit`](crate::circuit)'s outline, which is up to
//!   [`OUTLINE_SHORT_PERCENT_MAX`] shorter than the course; without one it is some circuit's.
//!
//! Rules of qualifying (sporting regulations): of 20 cars 15, then 10 go on; of 22, 16 and then 10. Those who go on are ordered by their
//! laps of the next segment alone, so a third segment slower than the second stands; without a lap in it they follow in the order
//! before. Equal times: the one set first. Laps begun before the flag count (see [`laps`](crate::laps)), deleted ones do not.
//! In practice the order is that of the best laps.
//!
//! The published result corrects itself: a document days later supersedes what the one before said, and both stay. After the end each
//! change of the provisional order is a correction as well.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use pitwall_engine::Micros;
use pitwall_engine::operator::{Context, Handle, Issued, Operator};
use pitwall_schemas::facts::{
    Basis, CarState, Circuit, Classification, Driver, Lap, MessageKind, PenaltyKind, RaceControlMessage, ResultStatus, SessionState,
    Status, Timing, TrackStatus,
};
use pitwall_schemas::raw::{Session, SessionResult};
use serde::{Deserialize, Serialize};

use crate::by_driver::ByDriver;
use crate::known::Version;
use crate::session_kind::{Evidence, SPRINT_LAPS_MAX, SessionKind, qualifying_cuts};

/// The leader's laps after which a car that began none did not start.
pub const NOT_STARTED_AFTER_LAPS: i32 = 3;

/// A car's penalties kept. Of more, the oldest is forgotten.
const PENALTIES_MAX: usize = 32;

/// What a drive-through and a stop-and-go that were not served add to the time, s (sporting regulations).
const DRIVE_THROUGH_SECONDS: i32 = 20;
const STOP_AND_GO_SECONDS: i32 = 30;

/// How much shorter than the course its outline may be, percent: straight lines between points cut curves.
pub const OUTLINE_SHORT_PERCENT_MAX: i32 = 3;

/// Laps that a race is scheduled for wherever it is: from Spa's to those of Sakhir's outer circuit (f1db, 2018 to 2026).
const RACE_LAPS: RangeInclusive<i32> = 44..=87;

/// Laps of a sprint at Spa.
const SPRINT_LAPS_MIN: i32 = 15;

/// The least distance of a race and of a sprint, m (sporting regulations).
const RACE_M: i32 = 305_000;
const MONACO_M: i32 = 260_000;
const SPRINT_M: i32 = 100_000;

/// A shorter outline is Monaco's, m; the next circuit in length has 3,543 m.
const MONACO_LENGTH_M_MAX: i32 = 3_400;

const FULL: &[u8] = &[25, 18, 15, 12, 10, 8, 6, 4, 2, 1];
const BELOW_THREE_QUARTERS: &[u8] = &[19, 14, 12, 9, 8, 6, 5, 3, 2, 1];
const BELOW_HALF: &[u8] = &[13, 10, 8, 6, 5, 4, 3, 2, 1];
const BELOW_A_QUARTER: &[u8] = &[6, 4, 3, 2, 1];
const SPRINT: &[u8] = &[8, 7, 6, 5, 4, 3, 2, 1];

/// Classifies the cars.
#[derive(Debug, Clone, Copy, Default)]
pub struct ClassificationOperator;

/// What is known of the session and of every car.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    session: SessionRules,
    cars: ByDriver<Car>,
    official: ByDriver<Official>,
}

/// What decides how cars are ordered and what a place is worth.
#[derive(Debug, Default, Serialize, Deserialize)]
struct SessionRules {
    evidence: Evidence,
    year: Option<i32>,
    /// Length of the circuit's outline, m.
    outline_m: Option<i32>,
    has_started: bool,
    has_finished: bool,
    qualifying_phase: Option<i32>,
    leaders_laps: i32,
    green_laps: i32,
    is_neutralised: bool,
    /// Whether it was at some time since the leader's last crossing.
    was_neutralised: bool,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Car {
    on_road_position: Option<i32>,
    state: Option<CarState>,
    gap_ms: Option<i32>,
    laps_behind: Option<i32>,
    laps_begun: i32,
    laps_completed: Option<i32>,
    /// When it last crossed the line, by the laps' own times.
    last_crossing: Option<(i32, Micros)>,
    /// Best lap by segment of qualifying, 0 elsewhere: time, when it was set, and its number.
    bests: BTreeMap<i32, (i32, Micros, i32)>,
    penalties: Vec<(PenaltyKind, i32)>,
    is_disqualified: bool,
    said: Option<Classification>,
    issued: Option<Issued>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Official {
    version: Version,
    said: Option<Classification>,
    issued: Option<Issued>,
}

impl SessionRules {
    fn kind(&self) -> Option<SessionKind> {
        self.evidence.kind(self.leaders_laps)
    }

    const fn is_race(&self) -> bool {
        self.evidence.is_race_or_sprint()
    }

    fn is_qualifying(&self) -> bool {
        self.kind() == Some(SessionKind::Qualifying)
    }

    /// Fewest and most laps that the race or sprint can be scheduled for.
    fn scheduled_laps(&self, kind: SessionKind) -> RangeInclusive<i32> {
        let Some(outline_m) = self.outline_m.filter(|length| *length > 0) else {
            return if kind == SessionKind::Race { RACE_LAPS } else { SPRINT_LAPS_MIN..=SPRINT_LAPS_MAX };
        };
        let distance_m = match kind {
            SessionKind::Race if outline_m < MONACO_LENGTH_M_MAX => MONACO_M,
            SessionKind::Race => RACE_M,
            _ => SPRINT_M,
        };
        let course_m_max = outline_m * 100 / (100 - OUTLINE_SHORT_PERCENT_MAX);
        distance_m / course_m_max + 1..=distance_m / outline_m + 1
    }

    /// Points of the places, if the rules can be told.
    fn scale(&self) -> Option<&'static [u8]> {
        let (kind, year) = (self.kind()?, self.year?);
        let full = match kind {
            SessionKind::Race if year >= 2010 => FULL,
            SessionKind::Sprint if year >= 2022 => SPRINT,
            _ => return None,
        };
        if !self.has_finished {
            return Some(full);
        }
        let scheduled = self.scheduled_laps(kind);
        let is_short = |quarters: i32| match self.leaders_laps * 4 {
            laps if laps >= scheduled.end() * quarters => Some(false),
            laps if laps < scheduled.start() * quarters => Some(true),
            _ => None,
        };
        if !is_short(3)? {
            return Some(full);
        }
        match (kind, year) {
            (SessionKind::Race, 2022..) if self.green_laps < 2 => Some(&[]),
            (SessionKind::Race, 2022..) if is_short(1)? => Some(BELOW_A_QUARTER),
            (SessionKind::Race, 2022..) if is_short(2)? => Some(BELOW_HALF),
            (SessionKind::Race, 2022..) => Some(BELOW_THREE_QUARTERS),
            _ => None,
        }
    }

    /// Whether the fastest lap is worth a point.
    fn rewards_the_fastest_lap(&self) -> bool {
        self.kind() == Some(SessionKind::Race) && self.year.is_some_and(|year| (2019..=2024).contains(&year))
    }

    fn points(&self, position: Option<i32>, has_fastest_lap: bool) -> Option<f64> {
        let scale = self.scale()?;
        let place = position.and_then(|position| usize::try_from(position - 1).ok());
        let points = place.and_then(|place| scale.get(place)).copied().unwrap_or(0);
        let extra = has_fastest_lap && self.rewards_the_fastest_lap() && position.is_some_and(|position| position <= 10);
        Some(f64::from(points) + f64::from(u8::from(extra && scale.len() >= BELOW_THREE_QUARTERS.len())))
    }
}

/// Laps that a car has completed when it says this of one.
const fn laps_completed(lap: &Lap) -> i32 {
    if lap.is_complete { lap.lap_number } else { lap.lap_number - 1 }
}

impl Car {
    /// Takes a lap, and tells whether it can change the order or a line.
    fn take_lap(&mut self, lap: &Lap, now: Micros) -> bool {
        let before = (self.laps_begun, self.laps_completed, self.last_crossing);
        self.laps_begun = self.laps_begun.max(lap.lap_number);
        self.laps_completed = self.laps_completed.max(Some(laps_completed(lap)).filter(|laps| *laps > 0));
        let end = lap.started_at.zip(lap.lap_ms).map(|(start, time_ms)| start.plus(i64::from(time_ms) * 1_000));
        if let Some(end) = end
            && self.last_crossing.is_none_or(|(last, _)| lap.lap_number >= last)
        {
            self.last_crossing = Some((lap.lap_number, end));
        }
        let segment = lap.qualifying_segment.unwrap_or(0);
        let best = self.bests.get(&segment).copied();
        match lap.lap_ms.filter(|_| lap.is_personal_best) {
            Some(time_ms) => {
                self.bests.insert(segment, (time_ms, end.unwrap_or(now), lap.lap_number));
            }
            None if best.is_some_and(|(_, _, number)| number == lap.lap_number) => {
                self.bests.remove(&segment);
            }
            None => {}
        }
        before != (self.laps_begun, self.laps_completed, self.last_crossing) || best != self.bests.get(&segment).copied()
    }

    fn penalty_seconds(&self, has_finished: bool) -> i32 {
        let seconds = |(kind, seconds): &(PenaltyKind, i32)| match kind {
            PenaltyKind::Time => *seconds,
            PenaltyKind::DriveThrough if has_finished => DRIVE_THROUGH_SECONDS,
            PenaltyKind::StopAndGo if has_finished => STOP_AND_GO_SECONDS,
            _ => 0,
        };
        self.penalties.iter().map(seconds).sum()
    }

    fn status(&self, session: &SessionRules) -> ResultStatus {
        match self.state {
            _ if self.is_disqualified => ResultStatus::Disqualified,
            Some(CarState::Retired) => ResultStatus::Retired,
            Some(CarState::Finished) => ResultStatus::Finished,
            _ if self.laps_begun == 0 && session.has_started && session.leaders_laps >= NOT_STARTED_AFTER_LAPS => ResultStatus::NotStarted,
            _ if self.laps_begun == 0 && self.on_road_position.is_none() => ResultStatus::Unknown,
            _ => ResultStatus::Running,
        }
    }

    fn best(&self, segment: i32) -> Option<(i32, Micros)> {
        self.bests.get(&segment).map(|(time_ms, set_at, _)| (*time_ms, *set_at))
    }
}

impl State {
    /// Places of a race: cars in order, those without a place left out.
    fn race_order(&self) -> Vec<i32> {
        let session = &self.session;
        let status = |car: &Car| car.status(session);
        let mut on_road: Vec<(i32, &Car)> = self.cars.iter().filter(|(_, car)| car.on_road_position.is_some()).collect();
        on_road.sort_by_key(|(_, car)| car.on_road_position);
        let is_in = |car: &Car| matches!(status(car), ResultStatus::Running | ResultStatus::Finished);
        let (racing, others): (Vec<_>, Vec<_>) = on_road.into_iter().partition(|(_, car)| is_in(car));

        let winner = racing.first().and_then(|(_, car)| car.last_crossing);
        let mut behind = (0, 0);
        let mut ranked: Vec<((i32, i32), i32)> = racing
            .iter()
            .map(|(driver_number, car)| {
                let own = match (winner, car.last_crossing, car.state) {
                    (Some((laps, at)), Some((own_laps, own_at)), Some(CarState::Finished)) => {
                        Some(((laps - own_laps).max(0), i32::try_from(own_at.since(at) / 1_000).unwrap_or(i32::MAX)))
                    }
                    _ => car.laps_behind.map(|laps| (laps, car.gap_ms.unwrap_or(behind.1))),
                };
                // The line's order is right where the times, which are approximate, say otherwise.
                behind = own.map_or(behind, |own| own.max(behind));
                let seconds = if own.is_some() { car.penalty_seconds(session.has_finished) } else { 0 };
                ((behind.0, behind.1.saturating_add(seconds * 1_000)), *driver_number)
            })
            .collect();
        ranked.sort_by_key(|(rank, _)| *rank);

        let mut retired: Vec<_> = others.into_iter().filter(|(_, car)| status(car) == ResultStatus::Retired).collect();
        retired.sort_by_key(|(_, car)| std::cmp::Reverse(car.laps_completed));
        ranked.into_iter().map(|(_, driver_number)| driver_number).chain(retired.into_iter().map(|(number, _)| number)).collect()
    }

    /// Laps that a car must have completed to be classified.
    const fn laps_to_be_classified(&self) -> i32 {
        self.session.leaders_laps * 9 / 10
    }

    /// Places of qualifying.
    fn qualifying_order(&self) -> Vec<i32> {
        let mut order: Vec<(i32, &Car)> = self.cars.iter().collect();
        let unset = (i32::MAX, Micros(i64::MAX));
        order.sort_by_key(|(number, car)| (car.best(1).unwrap_or(unset), car.on_road_position.unwrap_or(i32::MAX), *number));
        let phase = self.session.qualifying_phase.unwrap_or(1);
        for (segment, cut) in (2..).zip(qualifying_cuts(self.cars.len())) {
            if segment > phase {
                break;
            }
            // Who has a lap in the segment was in it, even if a lap of the one before is deleted afterwards.
            order.sort_by_key(|(_, car)| car.best(segment).is_none() && !car.bests.keys().any(|later| *later > segment));
            let cut = cut.min(order.len());
            let by_earlier = |(_, car): &(i32, &Car)| car.best(segment - 1).unwrap_or(unset);
            order[..cut].sort_by_key(by_earlier);
            order[..cut].sort_by_key(|(_, car)| car.best(segment).unwrap_or(unset));
        }
        order.into_iter().map(|(driver_number, _)| driver_number).collect()
    }

    fn practice_order(&self) -> Vec<i32> {
        let mut timed: Vec<_> = self.cars.iter().filter_map(|(number, car)| car.best(0).map(|best| (best, number))).collect();
        timed.sort_unstable();
        timed.into_iter().map(|(_, driver_number)| driver_number).collect()
    }

    fn fastest_lap(&self) -> Option<i32> {
        let bests =
            self.cars.iter().filter(|(_, car)| !car.is_disqualified).filter_map(|(number, car)| car.best(0).map(|best| (best, number)));
        bests.min().map(|(_, driver_number)| driver_number)
    }

    fn fact(&self, driver_number: i32, car: &Car, place: Option<i32>, fastest: Option<i32>) -> Classification {
        let session = &self.session;
        let mut status = car.status(session);
        let mut position = place;
        let mut is_classified = None;
        if session.is_race() && session.has_finished && status != ResultStatus::Unknown {
            let completed = car.laps_completed.unwrap_or(0);
            let classified = place.is_some() && completed >= self.laps_to_be_classified() && completed > 0;
            is_classified = Some(classified);
            position = place.filter(|_| classified);
        }
        let points = session.points(position, fastest == Some(driver_number));
        if session.is_qualifying() {
            let place_index = place.map_or(usize::MAX, |place| place as usize);
            let phase = session.qualifying_phase.unwrap_or(1);
            let is_out = (2..).zip(qualifying_cuts(self.cars.len())).any(|(segment, cut)| segment <= phase && place_index > cut);
            status = match (is_out, session.has_finished && phase >= 3) {
                (true, _) => ResultStatus::Eliminated,
                (false, true) => ResultStatus::Finished,
                (false, false) if status == ResultStatus::Finished => ResultStatus::Running,
                (false, false) => status,
            };
        }
        let segment = |number| car.best(number).map(|(time_ms, _)| time_ms);
        Classification {
            basis: Basis::Provisional,
            driver_number,
            position,
            on_road_position: car.on_road_position,
            status,
            is_classified,
            laps_completed: car.laps_completed,
            penalty_seconds: car.penalty_seconds(session.has_finished),
            best_lap_ms: car.bests.last_key_value().map(|(_, (time_ms, _, _))| *time_ms),
            segment_1_ms: segment(1),
            segment_2_ms: segment(2),
            segment_3_ms: segment(3),
            // Whose place is unknown may still get points.
            points: points.filter(|_| is_classified.is_some() || (session.is_race() && place.is_some())),
        }
    }

    /// Says every line of the provisional classification that changed.
    fn say(&mut self, context: &mut Context<'_, Classification>) {
        let order = if self.session.is_race() {
            self.race_order()
        } else if self.session.is_qualifying() {
            self.qualifying_order()
        } else {
            self.practice_order()
        };
        let places: BTreeMap<i32, i32> = order.into_iter().zip(1..).collect();
        let fastest = self.fastest_lap().filter(|_| self.session.rewards_the_fastest_lap());
        let facts: Vec<Classification> =
            self.cars.iter().map(|(number, car)| self.fact(number, car, places.get(&number).copied(), fastest)).collect();
        for fact in facts {
            let Some(car) = self.cars.get_mut(fact.driver_number) else { continue };
            if car.said.as_ref() == Some(&fact) {
                continue;
            }
            let previous = car.issued.filter(|_| self.session.has_finished);
            car.said = Some(fact.clone());
            car.issued = Some(context.draft(fact).correcting(previous).emit());
        }
    }
}

impl Operator for ClassificationOperator {
    const NAME: &'static str = "classification";
    const VERSION: u32 = 2;
    type Output = Classification;
    type State = State;
}

impl Handle<Driver> for ClassificationOperator {
    fn apply(&self, state: &mut State, driver: &Driver, context: &mut Context<'_, Classification>) {
        if state.cars.get(driver.driver_number).is_none() {
            state.cars.entry(driver.driver_number);
            state.say(context);
        }
    }
}

impl Handle<Session> for ClassificationOperator {
    fn apply(&self, state: &mut State, document: &Session, context: &mut Context<'_, Classification>) {
        state.session.evidence.take_document(document);
        state.session.year = document.year.or(state.session.year);
        state.say(context);
    }
}

impl Handle<Circuit> for ClassificationOperator {
    fn apply(&self, state: &mut State, circuit: &Circuit, context: &mut Context<'_, Classification>) {
        state.session.outline_m = Some(circuit.length_m);
        // The distance matters after the end only.
        if state.session.has_finished {
            state.say(context);
        }
    }
}

impl Handle<TrackStatus> for ClassificationOperator {
    fn apply(&self, state: &mut State, status: &TrackStatus, context: &mut Context<'_, Classification>) {
        let session = &mut state.session;
        session.year = session.year.or(Some(year_of(context.event_time())));
        session.evidence.take_status(status, context.event_time());
        session.qualifying_phase = status.qualifying_phase.or(session.qualifying_phase);
        session.has_started |= status.session == SessionState::Started && status.lap_number.is_some_and(|lap| lap <= 1);
        session.has_finished = status.session == SessionState::Finished;
        session.is_neutralised = !matches!(status.status, Status::Clear | Status::Yellow);
        session.was_neutralised |= session.is_neutralised;
        state.say(context);
    }
}

impl Handle<RaceControlMessage> for ClassificationOperator {
    fn apply(&self, state: &mut State, message: &RaceControlMessage, context: &mut Context<'_, Classification>) {
        for &driver_number in &message.driver_numbers {
            let car = state.cars.entry(driver_number);
            match (message.kind, message.penalty) {
                (MessageKind::Penalty, Some(kind)) => {
                    if car.penalties.len() >= PENALTIES_MAX {
                        car.penalties.remove(0);
                    }
                    car.penalties.push((kind, message.penalty_seconds.unwrap_or(0)));
                }
                (MessageKind::PenaltyServed, Some(kind)) => {
                    if let Some(index) = car.penalties.iter().position(|(given, _)| *given == kind) {
                        car.penalties.remove(index);
                    }
                }
                (MessageKind::Disqualified, _) => car.is_disqualified = true,
                _ => return,
            }
        }
        if !message.driver_numbers.is_empty() {
            state.say(context);
        }
    }
}

impl Handle<Lap> for ClassificationOperator {
    fn apply(&self, state: &mut State, lap: &Lap, context: &mut Context<'_, Classification>) {
        let now = context.now();
        let car = state.cars.entry(lap.driver_number);
        let is_news = car.take_lap(lap, now);
        let session = &mut state.session;
        let completed = laps_completed(lap);
        if completed > session.leaders_laps {
            session.leaders_laps = completed;
            session.green_laps += i32::from(!session.was_neutralised);
            session.was_neutralised = session.is_neutralised;
        }
        // Most versions of a lap bring a sector or a speed, which nothing here depends on.
        if is_news {
            state.say(context);
        }
    }
}

impl Handle<Timing> for ClassificationOperator {
    fn apply(&self, state: &mut State, row: &Timing, context: &mut Context<'_, Classification>) {
        let car = state.cars.entry(row.driver_number);
        let is_news = (car.on_road_position, car.state) != (row.position, Some(row.state));
        (car.on_road_position, car.state) = (row.position, Some(row.state));
        // A retired car has no gap; a running one keeps its last.
        let has_moved = (row.gap_ms, row.laps_behind) != (car.gap_ms, car.laps_behind) && row.laps_behind.is_some();
        if has_moved {
            (car.gap_ms, car.laps_behind) = (row.gap_ms, row.laps_behind);
        }
        // Gaps change all the time, and matter only while a penalty is to be added to one.
        if is_news || (has_moved && state.cars.iter().any(|(_, car)| !car.penalties.is_empty())) {
            state.say(context);
        }
    }
}

impl Handle<SessionResult> for ClassificationOperator {
    fn apply(&self, state: &mut State, result: &SessionResult, context: &mut Context<'_, Classification>) {
        let driver_number = result.driver_number;
        let official = state.official.entry(driver_number);
        if !official.version.take(result.id) {
            return;
        }
        let is = |flag: Option<bool>| flag == Some(true);
        let status = match result {
            _ if is(result.dsq) => ResultStatus::Disqualified,
            _ if is(result.dns) => ResultStatus::NotStarted,
            _ if is(result.dnf) => ResultStatus::Retired,
            _ => ResultStatus::Finished,
        };
        let durations = result.duration.clone().unwrap_or_default();
        let segment = |index: usize| durations.get(index).copied().flatten().map(|seconds| (seconds * 1_000.0).round() as i32);
        let has_segments = durations.len() > 1;
        let of_segment = |index: usize| segment(index).filter(|_| has_segments);
        let is_race = state.session.is_race();
        let fact = Classification {
            basis: Basis::Official,
            driver_number,
            position: result.position,
            on_road_position: None,
            status,
            is_classified: is_race.then_some(result.position.is_some()),
            laps_completed: result.number_of_laps,
            penalty_seconds: 0,
            best_lap_ms: if is_race { None } else { (0..durations.len()).rev().find_map(segment) },
            segment_1_ms: of_segment(0),
            segment_2_ms: of_segment(1),
            segment_3_ms: of_segment(2),
            points: result
                .points
                .or_else(|| state.session.points(result.position, false).filter(|_| !state.session.rewards_the_fastest_lap())),
        };
        if official.said.as_ref() != Some(&fact) {
            official.said = Some(fact.clone());
            official.issued = Some(context.draft(fact).correcting(official.issued).emit());
        }
    }
}

/// The calendar year of a moment, UTC.
fn year_of(moment: Micros) -> i32 {
    // Days since 0000-03-01, from which leap days end each year (Howard Hinnant, "chrono-compatible low-level date algorithms").
    let days = moment.0.div_euclid(86_400_000_000) + 719_468;
    let era_day = days.rem_euclid(146_097);
    let year = (era_day - era_day / 1_460 + era_day / 36_524 - era_day / 146_096) / 365;
    let day_of_year = era_day - (365 * year + year / 4 - year / 100);
    // From the 306th day on it is January or February of the next year.
    (days.div_euclid(146_097) * 400 + year + i64::from(day_of_year >= 306)) as i32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bench, SESSION, at_ms, driver, interval, lap, position, race_control};
    use pitwall_schemas::codec::Reading;
    use pitwall_schemas::raw::{self, RaceControl, Sample};
    use pitwall_schemas::shared::FactHeader;

    fn session_status(ms: i64, words: &str, lap_number: Option<i32>, qualifying_phase: Option<i32>) -> Sample {
        let category = Some("SessionStatus".into());
        Sample::from(RaceControl { category, lap_number, qualifying_phase, ..race_control(at_ms(ms), words) })
    }

    fn document(session_type: &str, session_name: &str, year: i32) -> Sample {
        Sample::from(Session {
            meeting_key: 1267,
            session_key: SESSION,
            session_name: Some(session_name.into()),
            session_type: Some(session_type.into()),
            circuit_key: None,
            circuit_short_name: Some("Zandvoort".into()),
            country_code: None,
            country_key: None,
            country_name: None,
            location: None,
            date_start: None,
            date_end: None,
            gmt_offset: None,
            year: Some(year),
            is_cancelled: None,
            reconstructed: None,
            id: None,
        })
    }

    /// A lap of that time, s, begun at `ms`, without sectors.
    fn timed(driver_number: i32, lap_number: i32, ms: i64, seconds: f64) -> Sample {
        Sample::from(raw::Lap { date_start: Some(at_ms(ms)), lap_duration: Some(seconds), ..lap(driver_number, lap_number) })
    }

    fn result(driver_number: i32, place: Option<i32>, points: Option<f64>) -> SessionResult {
        SessionResult {
            meeting_key: 1267,
            session_key: SESSION,
            driver_number,
            position: place,
            number_of_laps: Some(5),
            dnf: Some(false),
            dns: Some(false),
            dsq: Some(false),
            duration: None,
            gap_to_leader: None,
            points,
            id: None,
        }
    }

    fn all(bench: &Bench, basis: Basis, driver_number: i32) -> Vec<(FactHeader, Classification)> {
        let facts = bench.facts::<Classification>().into_iter();
        facts.filter(|(_, fact)| (fact.basis, fact.driver_number) == (basis, driver_number)).collect()
    }

    fn newest(bench: &Bench, driver_number: i32) -> Classification {
        all(bench, Basis::Provisional, driver_number).pop().unwrap().1
    }

    /// Car numbers by place.
    fn order(bench: &Bench) -> Vec<i32> {
        let cars: std::collections::BTreeSet<i32> = bench.facts::<Classification>().iter().map(|(_, fact)| fact.driver_number).collect();
        let mut placed: Vec<_> = cars.into_iter().filter_map(|car| newest(bench, car).position.map(|place| (place, car))).collect();
        placed.sort_unstable();
        placed.into_iter().map(|(_, car)| car).collect()
    }

    fn bench() -> Bench {
        Bench::new(crate::join)
    }

    /// A race of cars 1, 4 and 16, each 2 s behind the one before, over `laps` laps of 80 s, up to the flag.
    fn race(laps: i32) -> Bench {
        let mut bench = bench();
        bench.arrive(0, document("Race", "Race", 2025));
        bench.arrive(1, session_status(1, "SESSION STARTED", Some(1), None));
        for (place, car) in [(1, 1), (2, 4), (3, 16)] {
            bench.arrive(2, Sample::from(position(car, at_ms(2), place)));
        }
        for number in 1..=laps {
            for (behind, car) in [(0, 1), (2_000, 4), (4_000, 16)] {
                let begun = i64::from(number - 1) * 80_000 + if number == 1 { 1 } else { behind };
                let seconds = if number == 1 { 80.0 + behind as f64 / 1_000.0 } else { 80.0 };
                bench.arrive(i64::from(number) * 80_000 + behind, timed(car, number, begun, seconds));
                let reading = Reading::Number(behind as f64 / 1_000.0);
                let gaps = raw::Interval { gap_to_leader: reading, ..interval(car, at_ms(i64::from(number) * 80_000 + behind)) };
                bench.arrive(i64::from(number) * 80_000 + behind, Sample::from(gaps));
            }
        }
        let end = i64::from(laps) * 80_000 + 5_000;
        let (category, flag) = (Some("Flag".into()), Some("CHEQUERED".into()));
        let chequered = RaceControl { category, flag, lap_number: Some(laps), ..race_control(at_ms(end), "CHEQUERED FLAG") };
        bench.arrive(end, Sample::from(chequered));
        bench
    }

    /// Case 21.
    #[test]
    fn a_penalised_winner_on_the_road_is_not_the_provisional_winner() {
        let mut bench = race(5);
        assert_eq!(order(&bench), [1, 4, 16]);
        bench.arrive(
            410_000,
            Sample::from(race_control(at_ms(410_000), "FIA STEWARDS: 5 SECOND TIME PENALTY FOR CAR 1 (VER) - RE-JOINING UNSAFELY")),
        );
        assert_eq!(order(&bench), [4, 16, 1]);
        let (winner, penalised) = (newest(&bench, 4), newest(&bench, 1));
        // Five laps are less than a quarter of the distance: 6, 4 and 3 points.
        assert_eq!((winner.on_road_position, winner.points), (Some(2), Some(6.0)));
        assert_eq!((penalised.on_road_position, penalised.penalty_seconds, penalised.points), (Some(1), 5, Some(3.0)));
        let (header, _) = all(&bench, Basis::Provisional, 1).pop().unwrap();
        assert!(header.supersedes.is_some(), "after the end a change is a correction");
        assert!(all(&bench, Basis::Official, 1).is_empty(), "nothing is official before it is published");
    }

    #[test]
    fn a_penalty_served_costs_no_place() {
        let mut bench = race(5);
        let penalty = "5 SECOND TIME PENALTY FOR CAR 1 (VER) - SPEEDING IN THE PIT LANE";
        bench.arrive(410_000, Sample::from(race_control(at_ms(410_000), &format!("FIA STEWARDS: {penalty}"))));
        bench.arrive(411_000, Sample::from(race_control(at_ms(411_000), &format!("FIA STEWARDS: PENALTY SERVED - {penalty}"))));
        assert_eq!((order(&bench), newest(&bench, 1).penalty_seconds), (vec![1, 4, 16], 0));
    }

    #[test]
    fn a_drive_through_that_was_not_served_counts_twenty_seconds_at_the_end() {
        let mut bench = race(5);
        bench.arrive(410_000, Sample::from(race_control(at_ms(410_000), "FIA STEWARDS: DRIVE THROUGH PENALTY FOR CAR 1 (VER) - SPEEDING")));
        assert_eq!((order(&bench), newest(&bench, 1).penalty_seconds), (vec![4, 16, 1], 20));
    }

    #[test]
    fn a_disqualified_car_has_no_place_and_the_others_move_up() {
        let mut bench = race(5);
        bench
            .arrive(410_000, Sample::from(race_control(at_ms(410_000), "FIA STEWARDS: CAR 1 (VER) DISQUALIFIED - TECHNICAL INFRINGEMENT")));
        assert_eq!((order(&bench), newest(&bench, 1).status), (vec![4, 16], ResultStatus::Disqualified));
    }

    /// Case 11: at Zandvoort in 2023 the laps before a restart ended in the pit lane, in another order.
    #[test]
    fn after_a_restart_the_order_is_the_timing_lines_and_not_that_of_the_laps_ends() {
        let mut bench = bench();
        bench.arrive(0, document("Race", "Race", 2023));
        bench.arrive(1, session_status(1, "SESSION STARTED", Some(1), None));
        for (place, car) in [(1, 1), (2, 4), (3, 16)] {
            bench.arrive(2, Sample::from(position(car, at_ms(2), place)));
        }
        for (behind, car) in [(0, 1), (2_000, 4), (4_000, 16)] {
            bench.arrive(80_000 + behind, timed(car, 1, 1, 80.0 + behind as f64 / 1_000.0));
        }
        bench.arrive(100_000, session_status(100_000, "SESSION ABORTED", Some(2), None));
        for (end, car) in [(150_000, 16), (155_000, 4), (160_000, 1)] {
            bench.arrive(end, timed(car, 2, 80_000, (end - 80_000) as f64 / 1_000.0));
        }
        bench.arrive(2_000_000, session_status(2_000_000, "SESSION STARTED", Some(3), None));
        assert_eq!(order(&bench), [1, 4, 16]);
        bench.arrive(2_030_000, Sample::from(position(4, at_ms(2_030_000), 1)));
        bench.arrive(2_030_000, Sample::from(position(1, at_ms(2_030_000), 2)));
        bench.idle(2_031_000);
        assert_eq!(order(&bench), [4, 1, 16]);
        for (end, car) in [(2_090_000, 16), (2_091_000, 1), (2_092_000, 4)] {
            bench.arrive(end, timed(car, 3, 2_000_000, (end - 2_000_000) as f64 / 1_000.0));
        }
        bench.arrive(2_095_000, session_status(2_095_000, "SESSION FINISHED", Some(3), None));
        assert_eq!(order(&bench), [4, 1, 16]);
    }

    /// Case 12: half a second behind the winner over the line, but a lap down; the second comes ten seconds later and gets five more.
    #[test]
    fn a_lapped_car_that_crosses_the_line_just_behind_the_leader_stays_last() {
        let mut bench = bench();
        bench.arrive(0, document("Race", "Race", 2025));
        bench.arrive(1, session_status(1, "SESSION STARTED", Some(1), None));
        for (place, car) in [(1, 1), (2, 4), (3, 16)] {
            bench.arrive(2, Sample::from(position(car, at_ms(2), place)));
        }
        let mut arrivals = Vec::new();
        for (car, lap_ms, laps) in [(1, 80_000, 5), (4, 82_000, 5), (16, 100_125, 4)] {
            for number in 1..=laps {
                let begun = (number - 1) * lap_ms;
                arrivals.push((number * lap_ms, timed(car, number as i32, begun, lap_ms as f64 / 1_000.0)));
            }
        }
        let behind = |car: i32, gap_to_leader| Sample::from(raw::Interval { gap_to_leader, ..interval(car, at_ms(399_000)) });
        arrivals.push((399_000, behind(4, Reading::Number(10.0))));
        arrivals.push((399_000, behind(16, Reading::Text("+1 LAP".into()))));
        arrivals.push((400_600, session_status(400_600, "SESSION FINISHED", Some(5), None)));
        arrivals.sort_by_key(|(ms, _)| *ms);
        for (ms, sample) in arrivals {
            bench.arrive(ms, sample);
            assert_eq!(order(&bench), [1, 4, 16], "at {ms} ms");
        }
        bench.arrive(420_000, Sample::from(race_control(at_ms(420_000), "FIA STEWARDS: 5 SECOND TIME PENALTY FOR CAR 4 (NOR) - SPEEDING")));
        assert_eq!((order(&bench), newest(&bench, 16).laps_completed), (vec![1, 4, 16], Some(4)), "laps come before time");
    }

    /// Case 22.
    #[test]
    fn a_result_published_days_later_corrects_the_official_one_and_leaves_history_visible() {
        let mut bench = race(5);
        let day = 86_400_000;
        for (car, place) in [(1, 1), (4, 2), (16, 3)] {
            bench.arrive(500_000, Sample::from(result(car, Some(place), None)));
        }
        for (car, place) in [(1, 2), (4, 1)] {
            bench.arrive(3 * day, Sample::from(result(car, Some(place), Some(if place == 1 { 25.0 } else { 18.0 }))));
        }
        let official = all(&bench, Basis::Official, 4);
        let said: Vec<_> = official.iter().map(|(header, fact)| (fact.position, header.revision)).collect();
        assert_eq!(said, [(Some(2), 0), (Some(1), 1)]);
        assert_eq!(official[1].0.supersedes, Some(official[0].0.fact_seq));
        assert_eq!(newest(&bench, 4).position, Some(2), "the provisional order is another matter");
    }

    #[test]
    fn a_published_result_tells_who_did_not_start_and_who_did_not_finish() {
        let mut bench = bench();
        bench.arrive(0, Sample::from(SessionResult { dns: Some(true), ..result(1, None, None) }));
        bench.arrive(1, Sample::from(SessionResult { dnf: Some(true), ..result(4, None, None) }));
        bench.arrive(2, Sample::from(SessionResult { dsq: Some(true), ..result(16, None, None) }));
        let statuses = [1, 4, 16].map(|car| all(&bench, Basis::Official, car)[0].1.status);
        assert_eq!(statuses, [ResultStatus::NotStarted, ResultStatus::Retired, ResultStatus::Disqualified]);
    }

    #[test]
    fn a_car_that_begins_no_lap_while_the_leader_completes_three_did_not_start() {
        let mut bench = bench();
        bench.arrive(0, Sample::from(driver(44)));
        bench.arrive(1, session_status(1, "SESSION STARTED", Some(1), None));
        for number in 1..=3 {
            assert_ne!(newest(&bench, 44).status, ResultStatus::NotStarted);
            bench.arrive(i64::from(number) * 80_000, timed(1, number, i64::from(number - 1) * 80_000, 80.0));
        }
        assert_eq!(newest(&bench, 44).status, ResultStatus::NotStarted);
    }

    fn rules(name: &str, year: i32, laps: i32, outline_m: Option<i32>, green_laps: i32) -> SessionRules {
        let Sample::Sessions(document) = document("Race", name, year) else { panic!("a session's document") };
        let mut evidence = Evidence::default();
        evidence.take_document(&document);
        SessionRules {
            evidence,
            year: Some(year),
            outline_m,
            leaders_laps: laps,
            green_laps,
            has_finished: true,
            ..SessionRules::default()
        }
    }

    /// Every length, outline and number of laps of the season of 2025 (f1db), and the sprint of the longest circuit.
    #[test]
    fn a_race_is_scheduled_over_the_fewest_laps_beyond_305_km_and_at_monaco_beyond_260() {
        let courses = [
            (5_278, 58),
            (5_451, 56),
            (5_807, 53),
            (5_412, 57),
            (6_174, 50),
            (4_909, 63),
            (3_337, 78),
            (4_657, 66),
            (4_361, 70),
            (4_326, 71),
            (5_891, 52),
            (7_004, 44),
            (4_381, 70),
            (4_259, 72),
            (5_793, 53),
            (6_003, 51),
            (4_927, 62),
            (5_513, 56),
            (4_304, 71),
            (4_309, 71),
            (6_201, 50),
            (5_419, 57),
            (5_281, 58),
        ];
        for (length_m, laps) in courses {
            for outline_m in [length_m, length_m * 99 / 100, length_m * 975 / 1_000] {
                let scheduled = rules("Race", 2025, 0, Some(outline_m), 0).scheduled_laps(SessionKind::Race);
                assert!(scheduled.contains(&laps) && scheduled.clone().count() <= 4, "{outline_m} m: {scheduled:?}");
            }
            assert!(RACE_LAPS.contains(&laps));
        }
        assert_eq!(rules("Sprint", 2025, 0, Some(7_000), 0).scheduled_laps(SessionKind::Sprint), 14..=15);
    }

    #[test]
    fn a_race_that_ends_early_gives_fewer_points() {
        let winner = |laps, green| rules("Race", 2025, laps, Some(4_200), green).points(Some(1), false);
        // Of 71 to 73 laps.
        assert_eq!(
            [1, 17, 19, 35, 37, 53, 55, 72].map(|laps| winner(laps, 5)),
            [6, 6, 13, 13, 19, 19, 25, 25].map(|points| Some(f64::from(points)))
        );
        assert_eq!([18, 36, 54].map(|laps| winner(laps, 5)), [None; 3], "on either side of a quarter by the outline's error");
        assert_eq!(winner(30, 1), Some(0.0), "less than two laps under green");
        let unknown = |laps| rules("Race", 2025, laps, None, 5).points(Some(1), false);
        assert_eq!((unknown(66), unknown(65)), (Some(25.0), None), "three quarters of any distance");
    }

    #[test]
    fn a_sprint_gives_8_points_to_1_and_none_for_the_fastest_lap() {
        let points = |place| rules("Sprint", 2024, 24, Some(4_200), 20).points(Some(place), true);
        assert_eq!([1, 2, 8, 9].map(points), [8, 7, 1, 0].map(|points| Some(f64::from(points))));
        assert_eq!(rules("Sprint", 2025, 8, Some(4_200), 5).points(Some(1), false), None, "the rules of a short sprint are not known here");
    }

    #[test]
    fn the_fastest_lap_is_worth_a_point_from_2019_to_2024_in_the_first_ten_of_a_race() {
        let points = |year, place| rules("Race", year, 72, Some(4_200), 70).points(Some(place), true);
        assert_eq!((points(2024, 10), points(2024, 11), points(2025, 10)), (Some(2.0), Some(0.0), Some(1.0)));
    }

    #[test]
    fn years_are_those_of_the_calendar() {
        let year = |text: &str| year_of(text.parse().unwrap());
        assert_eq!(year("2025-08-31T13:00:00+00:00"), 2025);
        assert_eq!(
            (year("2024-02-29T23:59:59+00:00"), year("2024-12-31T23:59:59+00:00"), year("2025-01-01T00:00:00+00:00")),
            (2024, 2024, 2025)
        );
    }

    /// Qualifying of `cars` cars: in each segment every car of `segments` has the time, s, that stands there.
    fn qualifying(cars: i32, segments: &[&[(i32, f64)]]) -> Bench {
        let mut bench = bench();
        for car in 1..=cars {
            bench.arrive(0, Sample::from(driver(car)));
        }
        for (phase, times) in (1..).zip(segments) {
            let start = phase * 1_200_000;
            bench.arrive(start, session_status(start, "SESSION STARTED", None, Some(phase as i32)));
            for (car, seconds) in *times {
                bench.arrive(start + 200_000, timed(*car, phase as i32 * 2, start + 100_000, *seconds));
            }
            bench.arrive(start + 900_000, session_status(start + 900_000, "SESSION FINISHED", None, Some(phase as i32)));
        }
        bench
    }

    fn times(cars: std::ops::RangeInclusive<i32>) -> Vec<(i32, f64)> {
        cars.map(|car| (car, 80.0 + f64::from(car))).collect()
    }

    /// Case 8.
    #[test]
    fn of_20_cars_15_then_10_go_on_and_of_22_it_is_16_then_10() {
        for (cars, first, second) in [(20, 15, 10), (22, 16, 10)] {
            let out = |bench: &Bench| (1..=cars).filter(|car| newest(bench, *car).status == ResultStatus::Eliminated).collect::<Vec<_>>();
            let (one, two) = (times(1..=cars), times(1..=first));
            assert_eq!(out(&qualifying(cars, &[&one])), Vec::<i32>::new(), "all may still go on");
            assert_eq!(out(&qualifying(cars, &[&one, &[]])), (first + 1..=cars).collect::<Vec<_>>());
            assert_eq!(out(&qualifying(cars, &[&one, &two, &[]])), (second + 1..=cars).collect::<Vec<_>>());
        }
    }

    /// Case 6.
    #[test]
    fn a_third_segment_slower_than_the_second_decides() {
        let (one, two) = (times(1..=20), times(1..=15));
        let wet: Vec<_> = (1..=10).map(|car| (car, 120.0 - f64::from(car))).collect();
        let bench = qualifying(20, &[&one, &two, &wet]);
        assert_eq!(order(&bench), (1..=10).rev().chain(11..=20).collect::<Vec<_>>());
        let pole = newest(&bench, 10);
        assert_eq!((pole.best_lap_ms, pole.segment_2_ms, pole.status), (Some(110_000), Some(90_000), ResultStatus::Finished));
    }

    #[test]
    fn without_a_lap_in_the_segment_a_car_follows_in_the_order_before() {
        let (one, two) = (times(1..=20), times(1..=15));
        assert_eq!(order(&qualifying(20, &[&one, &two, &[(3, 85.0)]]))[..4], [3, 1, 2, 4]);
    }

    #[test]
    fn of_two_equal_times_the_one_set_first_is_ahead() {
        let mut bench = qualifying(2, &[&[(2, 80.0)]]);
        bench.arrive(1_500_000, timed(1, 3, 1_410_000, 80.0));
        assert_eq!(order(&bench), [2, 1]);
    }

    /// Case 7.
    #[test]
    fn a_qualifying_lap_finished_after_the_session_finished_still_counts() {
        let mut bench = qualifying(2, &[&[(1, 80.0), (2, 81.0)]]);
        // Begun before the flag at 2,100 s, finished after it.
        bench.arrive(2_161_000, timed(2, 4, 2_090_000, 70.0));
        assert_eq!(order(&bench), [2, 1]);
    }

    #[test]
    fn a_deleted_lap_gives_its_place_back() {
        let mut bench = qualifying(2, &[&[(1, 80.0), (2, 79.0)]]);
        assert_eq!(order(&bench), [2, 1]);
        let words = "CAR 2 (SAR) TIME 1:19.000 DELETED - TRACK LIMITS AT TURN 18 LAP 2 16:03:19";
        bench.arrive(2_110_000, Sample::from(race_control(at_ms(2_110_000), words)));
        assert_eq!(order(&bench), [1, 2]);
        assert_eq!(newest(&bench, 2).segment_1_ms, None);
    }

    #[test]
    fn practice_is_ordered_by_the_best_laps_and_a_car_without_one_has_no_place() {
        let mut bench = bench();
        bench.arrive(0, document("Practice", "Practice 1", 2024));
        bench.arrive(0, Sample::from(driver(63)));
        bench.arrive(100_000, timed(4, 2, 10_000, 90.0));
        bench.arrive(110_000, timed(1, 2, 20_000, 89.0));
        assert_eq!(order(&bench), [1, 4]);
        assert_eq!((newest(&bench, 63).position, newest(&bench, 1).points), (None, None));
    }
}
