//! Classification: laps, the tower's rows, race control and the published result as two orders kept apart: the provisional one, derived
//! from what is known so far, and the official one, which is `session_result`.
//!
//! Rules of a race, with their source:
//! * Order: the timing line's (OpenF1 #194), then retired cars by laps completed. After the end all cars go by laps completed and then
//!   by when they completed the last of them, so that a car that stops on the last lap is ahead of those lapped (sporting regulations; so
//!   it was at each of 25 races from 2006 to 2023 where it mattered, Ergast).
//! * Classified: a car that completed at least 9/10 of the winner's laps, rounded down (sporting regulations): Norris, 64 of 72 laps, was
//!   18th at Zandvoort in 2025. A car is said not to be when its laps are known to be fewer and it has retired or taken the flag; after a
//!   join in mid-race OpenF1's lap numbers may be too low for all cars alike, and then only that a car is classified can be told.
//! * A race that is stopped and not resumed: the result is that at the end of the lap before the last but one, which is the last but one
//!   before the lap on which the red flag was shown (sporting regulations: 44 of 46 laps at Suzuka in 2014). Cars that completed it have
//!   finished, whatever became of them on the two laps that do not count. When it cannot be told which lap that is nobody has a place.
//! * Penalties not served are added to the car's time, so that it loses places and the cars behind gain them; a drive-through not served
//!   by the end counts 20 s, a stop-and-go 30 s (sporting regulations). What is left to be served: [`penalties`](crate::penalties).
//!   Laps come before time: a penalty never puts a car behind one with fewer laps. The time is the gap to the leader, after the end that
//!   of the last crossings. A car whose time is unknown stays.
//! * A disqualified car has no place, and those behind move up.
//! * Did not start: the tower says so ([`timing`](crate::timing)); or the race start was seen, the car began no lap while the leader
//!   completed [`NOT_STARTED_AFTER_LAPS`], no gap was ever sent of it, and laps are sent of most cars. It has no place, no lap and no
//!   points.
//! * Points: 25-18-15-12-10-8-6-4-2-1, a sprint's 8 to 1; from 2019 to 2024 one for the fastest lap to a car in the first ten of a race.
//!   A race that ends early gives fewer from 2022: none with less than two laps under green, then by 25, 50 and 75 % of the distance.
//!   Before the end they are those of a full distance; so they are when the flag falls in a race whose start was seen and that was never
//!   stopped, since nothing else takes a quarter off a race. They are null unless it is known whether it is a race or a sprint
//!   ([`session_kind`](crate::session_kind)), and after the end of another short one unless its share of the distance is certain.
//! * The distance of a race is the fewest laps beyond 305 km, at Monaco beyond 260 km (sporting regulations; so it was at every race from
//!   2018 to 2026, f1db). The length of a lap is that of the [`circuit`](crate::circuit)'s outline, which is up to
//!   [`OUTLINE_SHORT_PERCENT_MAX`] shorter than the course; without one it is some circuit's. Each start that was aborted takes one lap
//!   off it (sporting regulations): race control's words tell of it, or a second start on lap 1, which a red flag on lap 1 has as well.
//!
//! Rules of qualifying (sporting regulations): of 20 cars entered 15, then 10 go on; of 22, 16 and then 10; with an odd one, as many as
//! with one more. A car is entered when more is known of it than its line in the list of drivers. Who goes on is decided when the next
//! segment begins, and a time deleted later changes places and nothing else; a car with a time in a segment was in it. Those who go on
//! are ordered by their laps of the next segment alone, so a third segment slower than the second stands; without a lap in it they follow
//! in the order before. Equal times: the one set first. Laps begun before the flag count (see [`laps`](crate::laps)), deleted ones do
//! not. A segment that is never held eliminates nobody: the order is that of the one before. Where race control names no segments each
//! start after a finish begins one. Where laps name none either, cars go by their best laps within those who went on. Cars that set no
//! time follow in the tower's order; a car that begins no lap in a first segment that was seen whole did not start and has no place.
//! In practice the order is that of the best laps.
//!
//! The published result corrects itself: a document days later supersedes what the one before said, and both stay. After the end each
//! change of the provisional order is a correction as well.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use pitwall_engine::Micros;
use pitwall_engine::operator::{Context, Handle, Issued, Operator};
use pitwall_schemas::facts::{
    Basis, CarState, Circuit, Classification, Driver, Lap, MessageKind, RaceControlMessage, ResultStatus, SessionState, Status, Timing,
    TrackStatus,
};
use pitwall_schemas::raw::{Session, SessionResult};
use serde::{Deserialize, Serialize};

use crate::by_driver::ByDriver;
use crate::known::Version;
use crate::penalties::{Notice, Penalties};
use crate::session_kind::{Evidence, SPRINT_LAPS_MAX, SessionKind, qualifying_cuts};

/// The leader's laps after which a car that began none did not start.
pub const NOT_STARTED_AFTER_LAPS: i32 = 3;

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

/// Laps that aborted starts take off a distance at most: cars carry fuel for no more.
const ABORTED_STARTS_MAX: i32 = 3;

const FULL: &[u8] = &[25, 18, 15, 12, 10, 8, 6, 4, 2, 1];
const BELOW_THREE_QUARTERS: &[u8] = &[19, 14, 12, 9, 8, 6, 5, 3, 2, 1];
const BELOW_HALF: &[u8] = &[13, 10, 8, 6, 5, 4, 3, 2, 1];
const BELOW_A_QUARTER: &[u8] = &[6, 4, 3, 2, 1];
const SPRINT: &[u8] = &[8, 7, 6, 5, 4, 3, 2, 1];

/// A time that is none, behind all that are: ms, and when it was set.
const UNSET: (i32, Micros) = (i32::MAX, Micros(i64::MAX));

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
#[expect(clippy::struct_excessive_bools, reason = "independent statements about one session")]
struct SessionRules {
    evidence: Evidence,
    year: Option<i32>,
    /// Length of the circuit's outline, m.
    outline_m: Option<i32>,
    /// Whether the start of the race was seen.
    has_started: bool,
    has_finished: bool,
    /// Whether race control has closed the session: nothing more is driven.
    is_over: bool,
    /// Whether the race has been stopped at some time since the start and gone on; a start that was aborted is no stop.
    has_been_stopped: bool,
    /// Since when the race stands still; after the end, since when it did until then.
    stopped_at: Option<Micros>,
    /// The lap that race control counted when the session ended.
    last_lap: Option<i32>,
    starts: Starts,
    segments: Segments,
    leaders_laps: i32,
    /// The leader's laps during which nothing was neutralised.
    green_laps: BTreeSet<i32>,
    is_neutralised: bool,
    /// Whether it was at some time since the leader's last crossing.
    was_neutralised: bool,
}

/// What tells of starts that were aborted.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Starts {
    /// By race control's words.
    aborted: i32,
    extra_formation_laps: i32,
    /// Starts of a race that had started and whose leader had completed no lap.
    again: i32,
}

/// The segments of qualifying.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Segments {
    /// The one that race control says started last.
    named: Option<i32>,
    /// Starts that were not those of an interrupted segment.
    starts: i32,
    is_open: bool,
    /// Whether the first one was seen from its start.
    has_seen_first: bool,
    /// Who went on to the second and the third, in the order in which they did.
    went_on: BTreeMap<i32, Vec<i32>>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Car {
    /// Whether the list of drivers has it.
    is_listed: bool,
    /// Whether the tower knows more of it than who drives it.
    is_in_tower: bool,
    /// Whether the tower has seen it drive: a gap or a lap of it.
    has_driven: bool,
    on_road_position: Option<i32>,
    state: Option<CarState>,
    gap_ms: Option<i32>,
    laps_behind: Option<i32>,
    /// By number; the schema ends at 200.
    laps: BTreeMap<i32, DrivenLap>,
    /// When it last crossed the line, by the laps' own times.
    last_crossing: Option<(i32, Micros)>,
    /// Best lap by segment of qualifying, 0 elsewhere: time, ms, and when it was set.
    bests: BTreeMap<i32, (i32, Micros)>,
    penalties: Penalties,
    said: Option<Classification>,
    issued: Option<Issued>,
}

/// What of a lap matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct DrivenLap {
    started_at: Option<Micros>,
    time_ms: Option<i32>,
    /// Segment of qualifying, 0 elsewhere.
    segment: i32,
    is_personal_best: bool,
    /// When its time became known.
    known_at: Option<Micros>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Official {
    version: Version,
    said: Option<Classification>,
    issued: Option<Issued>,
}

/// The result of a race that was not resumed: how far it counts.
struct CountedBack {
    /// Laps of the winner.
    laps: i32,
    /// When the first car completed them.
    at: Micros,
    cars: BTreeMap<i32, CountedCar>,
}

/// How far one car's race counts.
struct CountedCar {
    laps: i32,
    /// When it completed them, if known.
    at: Option<Micros>,
    /// Whether it crossed the line with or after the winner.
    has_finished: bool,
}

/// What all lines of one statement have in common.
struct Standing {
    /// Whether laps are sent of most cars.
    are_laps_sent: bool,
    counted_back: Option<CountedBack>,
    places: BTreeMap<i32, i32>,
    /// Cars that are in each segment of qualifying from the second on, as far as that can be told.
    in_segment: BTreeMap<i32, BTreeSet<i32>>,
    fastest: Option<i32>,
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

    /// Whether the race ended while it stood still.
    const fn was_not_resumed(&self) -> bool {
        self.is_race() && self.has_finished && self.stopped_at.is_some()
    }

    /// Whether every lap of the race was seen, so that laps are numbered as race control numbers them.
    fn are_laps_whole(&self) -> bool {
        self.has_started || self.last_lap == Some(self.leaders_laps)
    }

    /// The winner's laps, if any are known.
    fn winners_laps(&self, counted_back: Option<&CountedBack>) -> Option<i32> {
        let last_lap = self.last_lap.filter(|_| self.has_started && self.has_finished);
        let laps = match counted_back {
            Some(counted) => counted.laps,
            None if self.was_not_resumed() => return None,
            None => self.leaders_laps.max(last_lap.unwrap_or(0)),
        };
        Some(laps).filter(|laps| *laps > 0)
    }

    /// Fewest and most laps that the race or sprint can be scheduled for.
    fn scheduled_laps(&self, kind: SessionKind) -> RangeInclusive<i32> {
        let Some(outline_m) = self.outline_m.filter(|length| *length > 0) else {
            let all = if kind == SessionKind::Race { RACE_LAPS } else { SPRINT_LAPS_MIN..=SPRINT_LAPS_MAX };
            return all.start() - self.starts.laps_taken_off()..=*all.end();
        };
        let distance_m = match kind {
            SessionKind::Race if outline_m < MONACO_LENGTH_M_MAX => MONACO_M,
            SessionKind::Race => RACE_M,
            _ => SPRINT_M,
        };
        let course_m_max = outline_m * 100 / (100 - OUTLINE_SHORT_PERCENT_MAX);
        distance_m / course_m_max + 1 - self.starts.laps_taken_off()..=distance_m / outline_m + 1
    }

    /// Points of the places, if the rules can be told.
    fn scale(&self, counted_back: Option<&CountedBack>) -> Option<&'static [u8]> {
        let (kind, year) = (self.kind()?, self.year?);
        let full = match kind {
            SessionKind::Race if year >= 2010 => FULL,
            SessionKind::Sprint if year >= 2022 => SPRINT,
            _ => return None,
        };
        let was_stopped = self.has_been_stopped || self.stopped_at.is_some();
        if !self.has_finished || (self.has_started && !was_stopped) {
            return Some(full);
        }
        let laps = self.winners_laps(counted_back)?;
        let scheduled = self.scheduled_laps(kind);
        let is_short = |quarters: i32| match laps * 4 {
            laps if laps >= scheduled.end() * quarters => Some(false),
            laps if laps < scheduled.start() * quarters => Some(true),
            _ => None,
        };
        if !is_short(3)? {
            return Some(full);
        }
        let last_that_counts = counted_back.map_or(i32::MAX, |counted| counted.laps);
        let has_raced = self.green_laps.range(..=last_that_counts).count() >= 2;
        match (kind, year) {
            // Laps before a join may have been under green.
            (SessionKind::Race, 2022..) if !has_raced && self.are_laps_whole() => Some(&[]),
            (SessionKind::Race, 2022..) if !has_raced => None,
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

    fn points(&self, position: i32, has_fastest_lap: bool, counted_back: Option<&CountedBack>) -> Option<f64> {
        let scale = self.scale(counted_back)?;
        let place = usize::try_from(position - 1).ok();
        let points = place.and_then(|place| scale.get(place)).copied().unwrap_or(0);
        let extra = has_fastest_lap && self.rewards_the_fastest_lap() && position <= 10;
        Some(f64::from(points) + f64::from(u8::from(extra && scale.len() >= BELOW_THREE_QUARTERS.len())))
    }

    fn take_status(&mut self, status: &TrackStatus, at: Micros) {
        let has_started = status.session == SessionState::Started && status.lap_number.is_some_and(|lap| lap <= 1);
        let had_stopped = self.stopped_at.is_some();
        self.is_over &= status.session == SessionState::Finished;
        let has_ended = status.session == SessionState::Finished;
        if has_ended && !self.has_finished {
            self.last_lap = status.lap_number;
        }
        self.has_finished = has_ended;
        if !has_ended {
            let is_red = status.status == Status::Red;
            let stands_still = status.session == SessionState::Aborted || is_red;
            self.stopped_at = if stands_still { self.stopped_at.or(Some(at)) } else { None };
            let is_resumed = had_stopped && !stands_still && self.has_started;
            let starts_again = is_resumed && has_started && self.leaders_laps == 0;
            self.starts.again += i32::from(starts_again);
            self.has_been_stopped |= (is_red && self.has_started) || (is_resumed && !starts_again);
        }
        self.has_started |= has_started;
        self.is_neutralised = !matches!(status.status, Status::Clear | Status::Yellow);
        self.was_neutralised |= self.is_neutralised;
    }

    fn take_leaders_laps(&mut self, laps: i32) {
        if laps > self.leaders_laps {
            if !self.was_neutralised {
                self.green_laps.insert(laps);
            }
            self.was_neutralised = self.is_neutralised;
        }
        self.leaders_laps = laps;
    }
}

impl Starts {
    fn take_words(&mut self, text: &str) {
        self.aborted += i32::from(text.contains("ABORTED START") || text.contains("START ABORTED"));
        self.extra_formation_laps += i32::from(text.contains("EXTRA FORMATION LAP"));
    }

    /// By how many laps the distance may be shorter. Each of the three tells of the same starts.
    fn laps_taken_off(&self) -> i32 {
        self.aborted.max(self.extra_formation_laps).max(self.again).min(ABORTED_STARTS_MAX)
    }
}

impl Segments {
    /// The segment that started last, or 1.
    fn number(&self) -> i32 {
        self.named.unwrap_or(self.starts).clamp(1, 3)
    }

    /// Takes a status; `knows_laps` tells whether cars have driven already.
    fn take_status(&mut self, status: &TrackStatus, knows_laps: bool) {
        match status.session {
            SessionState::Started => {
                let begins = !std::mem::replace(&mut self.is_open, true);
                let is_first = status.qualifying_phase.map_or(self.starts == 0 && !knows_laps, |phase| phase == 1);
                self.has_seen_first |= begins && is_first;
                self.starts += i32::from(begins);
            }
            SessionState::Finished => self.is_open = false,
            SessionState::Inactive | SessionState::Aborted => {}
        }
        self.named = status.qualifying_phase.or(self.named);
    }
}

impl Car {
    /// Takes a lap and tells whether it can change the order or a line.
    fn take_lap(&mut self, lap: &Lap, is_withdrawn: bool, now: Micros) -> bool {
        let known = self.laps.get(&lap.lap_number).copied();
        let taken = DrivenLap {
            started_at: lap.started_at,
            time_ms: lap.lap_ms,
            segment: lap.qualifying_segment.unwrap_or(0),
            is_personal_best: lap.is_personal_best,
            known_at: known.and_then(|known| known.known_at).or(Some(now)).filter(|_| lap.lap_ms.is_some()),
        };
        if is_withdrawn {
            self.laps.remove(&lap.lap_number);
        } else {
            self.laps.insert(lap.lap_number, taken);
        }
        let is_news = known != Some(taken) || is_withdrawn;
        if is_news {
            self.last_crossing = self.laps.keys().rev().find_map(|number| self.end_of(*number).map(|end| (*number, end)));
            self.bests.clear();
            for lap in self.laps.values().filter(|lap| lap.is_personal_best) {
                if let Some(best) = lap.time_ms.map(|time_ms| (time_ms, lap.ended_at().or(lap.known_at).unwrap_or(now))) {
                    let of_segment = self.bests.entry(lap.segment).or_insert(best);
                    *of_segment = best.min(*of_segment);
                }
            }
        }
        is_news
    }

    /// When the car completed the lap: by its own time, or when the next one began.
    fn end_of(&self, lap_number: i32) -> Option<Micros> {
        let next_start = || self.laps.get(&(lap_number + 1)).and_then(|next| next.started_at);
        self.laps.get(&lap_number).and_then(DrivenLap::ended_at).or_else(next_start)
    }

    fn laps_completed(&self) -> Option<i32> {
        self.laps.last_key_value().map(|(number, lap)| if lap.time_ms.is_some() { *number } else { number - 1 })
    }

    /// The last segment of qualifying in which it completed a lap, whatever came of its time.
    fn last_segment(&self) -> i32 {
        self.laps.values().filter(|lap| lap.time_ms.is_some()).map(|lap| lap.segment).max().unwrap_or(0)
    }

    /// Whether more is known of the car than its line in the list of drivers.
    fn is_entered(&self) -> bool {
        self.is_in_tower || !self.laps.is_empty()
    }

    fn best(&self, segment: i32) -> Option<(i32, Micros)> {
        self.bests.get(&segment).copied()
    }

    /// Takes the tower's row and tells whether its place or state changed, and whether its gap did.
    fn take_row(&mut self, row: &Timing) -> (bool, bool) {
        let has_gap = row.gap_ms.is_some() || row.laps_behind.is_some() || row.interval_ms.is_some();
        let before = (self.on_road_position, self.state, self.is_in_tower, self.has_driven);
        self.has_driven |= has_gap || row.lap_number.is_some();
        self.is_in_tower |= self.has_driven || row.position.is_some() || row.stint_number.is_some() || row.stops > 0;
        (self.on_road_position, self.state) = (row.position, Some(row.state));
        // A retired car has no gap; a running one keeps its last.
        let has_moved = (row.gap_ms, row.laps_behind) != (self.gap_ms, self.laps_behind) && row.laps_behind.is_some();
        if has_moved {
            (self.gap_ms, self.laps_behind) = (row.gap_ms, row.laps_behind);
        }
        (before != (self.on_road_position, self.state, self.is_in_tower, self.has_driven), has_moved)
    }
}

impl DrivenLap {
    fn ended_at(&self) -> Option<Micros> {
        self.started_at.zip(self.time_ms).map(|(start, time_ms)| start.plus(i64::from(time_ms) * 1_000))
    }
}

/// What became of cars, and the order of a race.
impl State {
    fn are_laps_sent(&self) -> bool {
        let known = self.cars.iter().filter(|(_, car)| car.is_listed || car.is_entered()).count();
        let with_laps = self.cars.iter().filter(|(_, car)| !car.laps.is_empty()).count();
        with_laps * 2 >= known
    }

    /// Whether the car did not start; cars whose laps are merely not sent did.
    fn did_not_start(&self, car: &Car, are_laps_sent: bool) -> bool {
        let session = &self.session;
        let has_begun = if session.is_race() {
            session.has_started && session.leaders_laps >= NOT_STARTED_AFTER_LAPS
        } else {
            session.is_qualifying() && session.segments.has_seen_first && (session.has_finished || session.segments.number() > 1)
        };
        has_begun && are_laps_sent && car.laps.is_empty() && !car.has_driven
    }

    fn status(&self, driver_number: i32, car: &Car, standing: &Standing) -> ResultStatus {
        let counted = standing.counted_back.as_ref().and_then(|counted| counted.cars.get(&driver_number));
        match car.state {
            _ if car.penalties.is_disqualified() => ResultStatus::Disqualified,
            _ if self.did_not_start(car, standing.are_laps_sent) => ResultStatus::NotStarted,
            _ if counted.is_some_and(|counted| counted.has_finished) => ResultStatus::Finished,
            Some(CarState::DidNotStart) => ResultStatus::NotStarted,
            Some(CarState::Retired) => ResultStatus::Retired,
            Some(CarState::Finished) => ResultStatus::Finished,
            _ if car.laps.is_empty() && car.on_road_position.is_none() => ResultStatus::Unknown,
            // Nobody drives any more; what became of this car the feed did not tell.
            _ if self.session.is_race() && self.session.is_over => ResultStatus::Unknown,
            _ if self.session.is_over && self.session.kind() == Some(SessionKind::Practice) => ResultStatus::Finished,
            _ => ResultStatus::Running,
        }
    }

    /// How far the laps of a race that was not resumed count, if that can be told.
    fn count_back(&self) -> Option<CountedBack> {
        let stopped_at = self.session.stopped_at.filter(|_| self.session.was_not_resumed())?;
        let completed = |car: &Car| car.laps.keys().rev().copied().find(|number| car.end_of(*number).is_some_and(|end| end <= stopped_at));
        let laps = self.cars.iter().filter_map(|(_, car)| completed(car)).max().map(|last| last - 1).filter(|laps| *laps > 0)?;
        let at = self.cars.iter().filter_map(|(_, car)| car.end_of(laps)).min()?;
        let mut cars = BTreeMap::new();
        for (driver_number, car) in self.cars.iter() {
            let ends = || car.laps.keys().filter_map(|number| car.end_of(*number).map(|end| (*number, end)));
            let counted = match (ends().find(|(_, end)| *end >= at), ends().next_back()) {
                // The lap that counts is missing.
                (Some((number, _)), _) if number > laps => return None,
                (Some((laps, end)), _) => CountedCar { laps, at: Some(end), has_finished: true },
                (None, Some((laps, end))) => CountedCar { laps, at: Some(end), has_finished: false },
                (None, None) => CountedCar { laps: car.laps_completed().unwrap_or(0), at: None, has_finished: false },
            };
            cars.insert(driver_number, counted);
        }
        Some(CountedBack { laps, at, cars })
    }

    /// Places of a race: cars in order, those without a place left out.
    fn race_order(&self, standing: &Standing) -> Vec<i32> {
        let has_place = |status| !matches!(status, ResultStatus::Disqualified | ResultStatus::NotStarted);
        let cars = self.cars.iter().filter(|(_, car)| car.on_road_position.is_some());
        let mut on_road: Vec<(i32, &Car, ResultStatus)> = cars
            .map(|(driver_number, car)| (driver_number, car, self.status(driver_number, car, standing)))
            .filter(|(_, _, status)| has_place(*status))
            .collect();
        // Of two cars sent on one place the one that is ahead by its own laps is ahead.
        on_road.sort_by_key(|(_, car, _)| {
            let (laps, at) = car.last_crossing.unwrap_or((0, Micros(i64::MAX)));
            (car.on_road_position, Reverse(laps), at)
        });
        match &standing.counted_back {
            Some(counted) => self.order_counted_back(&on_road, counted),
            None if self.session.was_not_resumed() => Vec::new(),
            None => self.order_on_road(&on_road),
        }
    }

    fn order_counted_back(&self, on_road: &[(i32, &Car, ResultStatus)], counted: &CountedBack) -> Vec<i32> {
        let mut ranked: Vec<_> = on_road
            .iter()
            .filter_map(|(driver_number, car, _)| {
                let own = counted.cars.get(driver_number)?;
                let behind = own.at.map_or(i64::MAX, |at| at.since(counted.at) + i64::from(car.penalties.seconds(true)) * Micros::SECOND);
                Some(((counted.laps - own.laps, behind), *driver_number))
            })
            .collect();
        ranked.sort_by_key(|(rank, _)| *rank);
        ranked.into_iter().map(|(_, driver_number)| driver_number).collect()
    }

    fn order_on_road(&self, on_road: &[(i32, &Car, ResultStatus)]) -> Vec<i32> {
        let session = &self.session;
        let (retired, racing): (Vec<_>, Vec<_>) = on_road.iter().partition(|(_, _, status)| *status == ResultStatus::Retired);
        let winner = racing.first().and_then(|(_, car, _)| car.last_crossing);
        let behind_winner = |car: &Car| {
            let ((laps, at), (own_laps, own_at)) = winner.zip(car.last_crossing)?;
            Some(((laps - own_laps).max(0), i32::try_from(own_at.since(at) / 1_000).unwrap_or(i32::MAX)))
        };
        let with_penalties =
            |(laps, ms): (i32, i32), car: &Car| (laps, ms.saturating_add(car.penalties.seconds(session.has_finished) * 1_000));

        let mut behind = (0, 0);
        let mut ranked = Vec::new();
        for (driver_number, car, _) in racing {
            let of_finish = behind_winner(car).filter(|_| car.state == Some(CarState::Finished));
            let own = of_finish.or_else(|| car.laps_behind.map(|laps| (laps, car.gap_ms.unwrap_or(behind.1))));
            // The line's order is right where the times, which are approximate, say otherwise.
            behind = own.map_or(behind, |own| own.max(behind));
            ranked.push((if own.is_some() { with_penalties(behind, car) } else { behind }, driver_number));
        }
        let mut last = Vec::new();
        for (driver_number, car, _) in retired {
            match behind_winner(car).filter(|_| session.has_finished) {
                Some(own) => ranked.push((with_penalties(own, car), driver_number)),
                None => last.push((Reverse(car.laps_completed()), driver_number)),
            }
        }
        ranked.sort_by_key(|(rank, _)| *rank);
        last.sort_by_key(|(laps, _)| *laps);
        ranked.into_iter().map(|(_, car)| car).chain(last.into_iter().map(|(_, car)| car)).collect()
    }

    /// Whether the car is classified, if that can be told.
    fn is_classified(&self, driver_number: i32, car: &Car, status: ResultStatus, counted_back: Option<&CountedBack>) -> Option<bool> {
        if matches!(status, ResultStatus::Disqualified | ResultStatus::NotStarted) {
            return Some(false);
        }
        let needed = self.session.winners_laps(counted_back)? * 9 / 10;
        let counted = counted_back.and_then(|counted| counted.cars.get(&driver_number)).map(|car| car.laps);
        let laps = counted.or_else(|| car.laps_completed())?;
        if laps > 0 && laps >= needed {
            return Some(true);
        }
        // Who still drives may complete more; and where laps are numbered too low nine tenths of more laps are not more laps fewer.
        let has_ended = matches!(status, ResultStatus::Retired | ResultStatus::Finished);
        (has_ended && self.session.are_laps_whole()).then_some(false)
    }
}

/// The order of qualifying and practice.
impl State {
    /// Whether laps tell which segment they belong to.
    fn do_laps_name_segments(&self) -> bool {
        self.cars.iter().any(|(_, car)| car.bests.keys().any(|segment| *segment > 0))
    }

    /// Cars that go on to the second and the third segment.
    fn cuts(&self) -> [usize; 2] {
        qualifying_cuts(self.cars.iter().filter(|(_, car)| car.is_entered()).count())
    }

    /// Cars that are in `segment`, if that can be told: those with a time in it or a later one, and of those who went on as many as there
    /// are places left.
    fn in_segment(&self, segment: i32) -> Option<BTreeSet<i32>> {
        let cut = *self.cuts().get(usize::try_from(segment - 2).ok()?)?;
        let with_times = self.cars.iter().filter(|(_, car)| car.last_segment() >= segment);
        let mut cars: BTreeSet<i32> = with_times.map(|(driver_number, _)| driver_number).collect();
        let Some(went_on) = self.session.segments.went_on.get(&segment) else {
            return (cars.len() >= cut).then_some(cars);
        };
        for driver_number in went_on {
            if cars.len() < went_on.len() {
                cars.insert(*driver_number);
            }
        }
        Some(cars)
    }

    /// Keeps who goes on when `status` begins the next segment.
    fn take_segment(&mut self, status: &TrackStatus) {
        let before = self.session.segments.number();
        let knows_laps = self.cars.iter().any(|(_, car)| !car.laps.is_empty());
        let are_laps_sent = self.are_laps_sent();
        let order = self.qualifying_order(are_laps_sent);
        let has_all = order.len() == self.cars.iter().filter(|(_, car)| self.has_place(car, are_laps_sent)).count();
        let cut = self.cuts()[usize::from(before > 1)];
        let segments = &mut self.session.segments;
        segments.take_status(status, knows_laps);
        let segment = segments.number();
        let is_next = segment == before + 1 && segments.has_seen_first;
        if is_next && (has_all || order.len() >= cut) {
            segments.went_on.entry(segment).or_insert_with(|| order.into_iter().take(cut).collect());
        }
    }

    fn has_place(&self, car: &Car, are_laps_sent: bool) -> bool {
        car.is_entered() && !car.penalties.is_disqualified() && !self.did_not_start(car, are_laps_sent)
    }

    /// Places of qualifying.
    fn qualifying_order(&self, are_laps_sent: bool) -> Vec<i32> {
        let mut order: Vec<(i32, &Car)> = self.cars.iter().filter(|(_, car)| self.has_place(car, are_laps_sent)).collect();
        let names_segments = self.do_laps_name_segments();
        let best = |car: &Car, segment: i32| car.best(if names_segments { segment } else { 0 }).unwrap_or(UNSET);
        order.sort_by_key(|(number, car)| (best(car, 1), car.on_road_position.unwrap_or(i32::MAX), *number));
        let mut went_on = BTreeSet::new();
        for segment in 2..=self.session.segments.number() {
            let others = if let Some(cars) = self.in_segment(segment) {
                went_on.extend(cars.iter().copied());
                let (ahead, others) = order.into_iter().partition(|(number, _)| cars.contains(number));
                order = ahead;
                others
            } else {
                // Who went on is not known: those with a time in it did.
                let (ahead, others) = order.into_iter().partition(|(_, car)| best(car, segment) != UNSET);
                order = ahead;
                others
            };
            order.sort_by_key(|(_, car)| best(car, segment));
            order.extend(others);
        }
        // Cars without a time stand in the tower's order; where the tower has none they have no places.
        let is_untimed = |(number, car): &(i32, &Car)| car.bests.is_empty() && !went_on.contains(number);
        let untimed = order.iter().filter(|entry| is_untimed(entry)).count();
        let is_ordered = untimed == 1 || order.iter().filter(|entry| is_untimed(entry)).all(|(_, car)| car.on_road_position.is_some());
        order.into_iter().filter(|entry| is_ordered || !is_untimed(entry)).map(|(driver_number, _)| driver_number).collect()
    }

    fn practice_order(&self) -> Vec<i32> {
        let mut timed: Vec<_> = self.cars.iter().filter_map(|(number, car)| car.best(0).map(|best| (best, number))).collect();
        timed.sort_unstable();
        timed.into_iter().map(|(_, driver_number)| driver_number).collect()
    }

    fn qualifying_status(&self, driver_number: i32, status: ResultStatus, standing: &Standing) -> ResultStatus {
        let session = &self.session;
        let is_out = standing.in_segment.values().any(|cars| !cars.contains(&driver_number));
        let is_over = session.is_over || (session.has_finished && session.segments.number() >= 3);
        match status {
            ResultStatus::Disqualified | ResultStatus::NotStarted | ResultStatus::Unknown => status,
            _ if is_out => ResultStatus::Eliminated,
            _ if is_over => ResultStatus::Finished,
            ResultStatus::Finished => ResultStatus::Running,
            _ => status,
        }
    }
}

/// What is said.
impl State {
    /// Takes what race control says of a car. A correction that gives the car the penalty of another takes it from that one.
    fn take_notice(&mut self, driver_number: i32, date: Micros, notice: &Notice) {
        if let Notice::Corrected(penalty) = notice
            && self.cars.get(driver_number).is_none_or(|car| !car.penalties.has_any())
            && let Some((_, meant)) = self.cars.iter_mut().find(|(_, car)| car.penalties.has(penalty))
        {
            meant.penalties.take(date, Notice::Rescinded(penalty.clone()));
        }
        self.cars.entry(driver_number).penalties.take(date, notice.clone());
    }

    fn fastest_lap(&self) -> Option<i32> {
        let cars = self.cars.iter().filter(|(_, car)| !car.penalties.is_disqualified());
        cars.filter_map(|(number, car)| car.best(0).map(|best| (best, number))).min().map(|(_, driver_number)| driver_number)
    }

    fn standing(&self) -> Standing {
        let session = &self.session;
        let mut standing = Standing {
            are_laps_sent: self.are_laps_sent(),
            counted_back: self.count_back(),
            places: BTreeMap::new(),
            in_segment: BTreeMap::new(),
            fastest: self.fastest_lap().filter(|_| session.rewards_the_fastest_lap()),
        };
        let order = if session.is_race() {
            self.race_order(&standing)
        } else if session.is_qualifying() {
            // Without segments of laps the second cut is not that of the second segment's times.
            let last = if self.do_laps_name_segments() { session.segments.number() } else { session.segments.number().min(2) };
            let known = (2..=last).filter_map(|segment| self.in_segment(segment).map(|cars| (segment, cars)));
            standing.in_segment = known.collect();
            self.qualifying_order(standing.are_laps_sent)
        } else {
            self.practice_order()
        };
        standing.places = order.into_iter().zip(1..).collect();
        standing
    }

    fn fact(&self, driver_number: i32, car: &Car, standing: &Standing) -> Classification {
        let session = &self.session;
        let counted_back = standing.counted_back.as_ref();
        let place = standing.places.get(&driver_number).copied();
        let mut status = self.status(driver_number, car, standing);
        if session.is_qualifying() {
            status = self.qualifying_status(driver_number, status, standing);
        }
        let has_result = session.is_race() && session.has_finished;
        let is_classified = if has_result { self.is_classified(driver_number, car, status, counted_back) } else { None };
        let position = place.filter(|_| is_classified != Some(false));
        let has_no_points = matches!(status, ResultStatus::Disqualified | ResultStatus::NotStarted) || is_classified == Some(false);
        let points = match position {
            _ if !session.is_race() => None,
            _ if has_no_points => Some(0.0),
            Some(position) => session.points(position, standing.fastest == Some(driver_number), counted_back),
            None => None,
        };
        let laps = counted_back.and_then(|counted| counted.cars.get(&driver_number)).map(|car| car.laps).or_else(|| car.laps_completed());
        let segment = |number| car.best(number).map(|(time_ms, _)| time_ms);
        Classification {
            basis: Basis::Provisional,
            driver_number,
            position,
            on_road_position: car.on_road_position,
            status,
            is_classified,
            laps_completed: laps.or_else(|| (status == ResultStatus::NotStarted).then_some(0)),
            penalty_seconds: car.penalties.seconds(session.has_finished),
            best_lap_ms: car.bests.last_key_value().map(|(_, (time_ms, _))| *time_ms),
            segment_1_ms: segment(1),
            segment_2_ms: segment(2),
            segment_3_ms: segment(3),
            points,
        }
    }

    /// Points of a published place, by the rules.
    fn points_of_place(&self, position: Option<i32>) -> Option<f64> {
        let (session, counted_back) = (&self.session, self.count_back());
        match position {
            _ if session.rewards_the_fastest_lap() => None,
            Some(position) => session.points(position, false, counted_back.as_ref()),
            None => session.scale(counted_back.as_ref()).map(|_| 0.0),
        }
    }

    /// Says every line of the provisional classification that changed. A number that only a message of race control names has none.
    fn say(&mut self, context: &mut Context<'_, Classification>) {
        let standing = self.standing();
        let known = self.cars.iter().filter(|(_, car)| car.is_listed || car.is_entered());
        let facts: Vec<Classification> = known.map(|(driver_number, car)| self.fact(driver_number, car, &standing)).collect();
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
    const VERSION: u32 = 3;
    type Output = Classification;
    type State = State;
}

impl Handle<Driver> for ClassificationOperator {
    fn apply(&self, state: &mut State, driver: &Driver, context: &mut Context<'_, Classification>) {
        if !std::mem::replace(&mut state.cars.entry(driver.driver_number).is_listed, true) {
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
        let at = context.event_time();
        state.session.year = state.session.year.or(Some(year_of(at)));
        state.session.evidence.take_status(status, at);
        if !state.session.is_race() {
            state.take_segment(status);
        }
        state.session.take_status(status, at);
        state.say(context);
    }
}

impl Handle<RaceControlMessage> for ClassificationOperator {
    fn apply(&self, state: &mut State, message: &RaceControlMessage, context: &mut Context<'_, Classification>) {
        let is_over = message.kind == MessageKind::SessionStatus && ["FINALISED", "ENDS"].iter().any(|words| message.text.contains(words));
        let closes = is_over && state.session.has_finished && !std::mem::replace(&mut state.session.is_over, true);
        state.session.starts.take_words(&message.text);
        let notice = Notice::read(message).filter(|_| !message.driver_numbers.is_empty());
        if let Some(notice) = &notice {
            for &driver_number in &message.driver_numbers {
                state.take_notice(driver_number, context.event_time(), notice);
            }
        }
        if closes || notice.is_some() {
            state.say(context);
        }
    }
}

impl Handle<Lap> for ClassificationOperator {
    fn apply(&self, state: &mut State, lap: &Lap, context: &mut Context<'_, Classification>) {
        let (is_withdrawn, now) = (context.is_withdrawn(), context.now());
        let is_news = state.cars.entry(lap.driver_number).take_lap(lap, is_withdrawn, now);
        // Most versions of a lap bring a sector or a speed, which nothing here depends on.
        if is_news {
            let leaders_laps = state.cars.iter().filter_map(|(_, car)| car.laps_completed()).max().unwrap_or(0);
            state.session.take_leaders_laps(leaders_laps);
            state.say(context);
        }
    }
}

impl Handle<Timing> for ClassificationOperator {
    fn apply(&self, state: &mut State, row: &Timing, context: &mut Context<'_, Classification>) {
        let (is_news, has_moved) = state.cars.entry(row.driver_number).take_row(row);
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
        let position = result.position.filter(|_| !matches!(status, ResultStatus::Disqualified | ResultStatus::NotStarted));
        let durations = result.duration.clone().unwrap_or_default();
        let segment = |index: usize| durations.get(index).copied().flatten().map(|seconds| (seconds * 1_000.0).round() as i32);
        let has_segments = durations.len() > 1;
        let of_segment = |index: usize| segment(index).filter(|_| has_segments);
        let is_race = state.session.is_race();
        let fact = Classification {
            basis: Basis::Official,
            driver_number,
            position,
            on_road_position: None,
            status,
            is_classified: is_race.then_some(position.is_some()),
            laps_completed: result.number_of_laps,
            penalty_seconds: 0,
            best_lap_ms: if is_race { None } else { (0..durations.len()).rev().find_map(segment) },
            segment_1_ms: of_segment(0),
            segment_2_ms: of_segment(1),
            segment_3_ms: of_segment(2),
            points: result.points.or_else(|| state.points_of_place(position)),
        };
        let official = state.official.entry(driver_number);
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
            session_name: Some(session_name.into()),
            session_type: Some(session_type.into()),
            year: Some(year),
            ..crate::testing::session_at(None, None)
        })
    }

    /// A lap of that time, s, begun at `ms`, without sectors.
    fn timed(driver_number: i32, lap_number: i32, ms: i64, seconds: f64) -> Sample {
        Sample::from(raw::Lap { date_start: Some(at_ms(ms)), lap_duration: Some(seconds), ..lap(driver_number, lap_number) })
    }

    /// A lap of that time, s, begun at `ms`, with the sectors that add up to it.
    fn in_sectors(driver_number: i32, lap_number: i32, ms: i64, seconds: f64) -> Sample {
        let Sample::Laps(lap) = timed(driver_number, lap_number, ms, seconds) else { unreachable!("a lap") };
        let [quarter, half] = [Some(seconds / 4.0), Some(seconds / 2.0)];
        Sample::from(raw::Lap { duration_sector_1: quarter, duration_sector_2: half, duration_sector_3: quarter, ..*lap })
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
        assert_eq!((winner.on_road_position, winner.points), (Some(2), Some(25.0)));
        assert_eq!((penalised.on_road_position, penalised.penalty_seconds, penalised.points), (Some(1), 5, Some(15.0)));
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
            last_lap: Some(laps),
            green_laps: (1..=green_laps).collect(),
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
        let winner = |laps, green| rules("Race", 2025, laps, Some(4_200), green).points(1, false, None);
        // Of 71 to 73 laps.
        assert_eq!(
            [1, 17, 19, 35, 37, 53, 55, 72].map(|laps| winner(laps, 5)),
            [6, 6, 13, 13, 19, 19, 25, 25].map(|points| Some(f64::from(points)))
        );
        assert_eq!([18, 36, 54].map(|laps| winner(laps, 5)), [None; 3], "on either side of a quarter by the outline's error");
        assert_eq!(winner(30, 1), Some(0.0), "less than two laps under green");
        let unknown = |laps| rules("Race", 2025, laps, None, 5).points(1, false, None);
        assert_eq!((unknown(66), unknown(65)), (Some(25.0), None), "three quarters of any distance");
    }

    #[test]
    fn a_sprint_gives_8_points_to_1_and_none_for_the_fastest_lap() {
        let points = |place| rules("Sprint", 2024, 24, Some(4_200), 20).points(place, true, None);
        assert_eq!([1, 2, 8, 9].map(points), [8, 7, 1, 0].map(|points| Some(f64::from(points))));
        assert_eq!(rules("Sprint", 2025, 8, Some(4_200), 5).points(1, false, None), None, "the rules of a short sprint are not known here");
    }

    #[test]
    fn the_fastest_lap_is_worth_a_point_from_2019_to_2024_in_the_first_ten_of_a_race() {
        let points = |year, place| rules("Race", year, 72, Some(4_200), 70).points(place, true, None);
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

    fn statuses(bench: &Bench, cars: impl IntoIterator<Item = i32>) -> Vec<ResultStatus> {
        cars.into_iter().map(|car| newest(bench, car).status).collect()
    }

    fn deletion(bench: &mut Bench, ms: i64, car: i32, time: &str) {
        bench.arrive(ms, Sample::from(race_control(at_ms(ms), &format!("CAR {car} (XXX) TIME {time} DELETED - TRACK LIMITS AT TURN 4"))));
    }

    #[test]
    fn a_time_deleted_after_the_next_segment_began_does_not_change_who_went_on() {
        let mut bench = qualifying(20, &[&times(1..=20), &[]]);
        // Car 15's 1:35.000, with which it was the last to go on.
        deletion(&mut bench, 2_500_000, 15, "1:35.000");
        assert_eq!(newest(&bench, 15).segment_1_ms, None);
        assert_eq!(statuses(&bench, [15, 16]), [ResultStatus::Running, ResultStatus::Eliminated]);
        assert_eq!(order(&bench), (1..=20).collect::<Vec<_>>());
        bench.arrive(2_900_000, timed(15, 4, 2_800_000, 70.0));
        assert_eq!(order(&bench)[0], 15, "it drives in the segment");
    }

    #[test]
    fn a_time_deleted_before_the_next_segment_begins_changes_who_goes_on() {
        let mut bench = qualifying(20, &[&times(1..=20)]);
        deletion(&mut bench, 2_200_000, 15, "1:35.000");
        bench.arrive(2_400_000, session_status(2_400_000, "SESSION STARTED", None, Some(2)));
        assert_eq!(statuses(&bench, [15, 16, 17]), [ResultStatus::Eliminated, ResultStatus::Running, ResultStatus::Eliminated]);
    }

    /// The deletion was known to race control, and arrived late.
    #[test]
    fn a_car_with_a_time_in_a_segment_was_in_it() {
        let mut bench = qualifying(20, &[&times(1..=20), &[]]);
        deletion(&mut bench, 2_500_000, 15, "1:35.000");
        bench.arrive(2_900_000, timed(16, 4, 2_800_000, 70.0));
        assert_eq!(statuses(&bench, [14, 15, 16]), [ResultStatus::Running, ResultStatus::Eliminated, ResultStatus::Running]);
    }

    #[test]
    fn a_restart_within_a_segment_begins_no_segment() {
        let mut bench = qualifying(20, &[&times(1..=20)]);
        bench.arrive(2_200_000, session_status(2_200_000, "SESSION STARTED", None, Some(2)));
        for (ms, words) in [(2_300_000, "SESSION ABORTED"), (2_500_000, "SESSION STARTED")] {
            deletion(&mut bench, ms - 1_000, 1, "1:21.000");
            bench.arrive(ms, session_status(ms, words, None, Some(2)));
        }
        assert_eq!(statuses(&bench, [1, 15, 16]), [ResultStatus::Running, ResultStatus::Running, ResultStatus::Eliminated]);
    }

    #[test]
    fn where_race_control_names_no_segments_each_start_after_a_finish_begins_one() {
        let mut bench = bench();
        bench.arrive(0, document("Qualifying", "Qualifying", 2024));
        let status = |bench: &mut Bench, ms, words| bench.arrive(ms, session_status(ms, words, None, None));
        let drive = |bench: &mut Bench, segment: i64, cars: std::ops::RangeInclusive<i32>| {
            let begun = segment * 2_000_000;
            status(bench, begun, "SESSION STARTED");
            for car in cars {
                bench.arrive(begun + 200_000, timed(car, segment as i32 * 3, begun + 100_000, f64::from(90 + car) - segment as f64));
            }
            status(bench, begun + 300_000, "SESSION ABORTED");
            status(bench, begun + 400_000, "SESSION STARTED");
            status(bench, begun + 900_000, "SESSION FINISHED");
        };
        drive(&mut bench, 1, 1..=20);
        assert!(statuses(&bench, 1..=20).iter().all(|status| *status == ResultStatus::Running), "all may still go on");
        drive(&mut bench, 2, 1..=15);
        assert!(statuses(&bench, 16..=20).iter().all(|status| *status == ResultStatus::Eliminated));
        drive(&mut bench, 3, 1..=10);
        assert_eq!(order(&bench), (1..=20).collect::<Vec<_>>());
        assert!(statuses(&bench, 1..=10).iter().all(|status| *status == ResultStatus::Finished));
    }

    #[test]
    fn a_car_without_a_lap_in_the_first_segment_did_not_start_qualifying() {
        let mut bench = bench();
        for (place, car) in [(1, 1), (2, 2), (3, 3)] {
            bench.arrive(0, Sample::from(position(car, at_ms(0), place)));
        }
        bench.arrive(1_000, session_status(1_000, "SESSION STARTED", None, Some(1)));
        for car in [1, 2] {
            bench.arrive(200_000, timed(car, 2, 100_000, f64::from(80 + car)));
        }
        assert_eq!(newest(&bench, 3).status, ResultStatus::Running, "it may still go out");
        bench.arrive(900_000, session_status(900_000, "SESSION FINISHED", None, Some(1)));
        let line = newest(&bench, 3);
        assert_eq!((line.status, line.position, line.laps_completed), (ResultStatus::NotStarted, None, Some(0)));
        assert_eq!(order(&bench), [1, 2]);
    }

    #[test]
    fn of_a_qualifying_joined_in_the_second_segment_nobody_is_said_not_to_have_started() {
        let mut bench = bench();
        for (place, car) in (1..).zip(1..=20) {
            bench.arrive(0, Sample::from(position(car, at_ms(0), place)));
        }
        bench.arrive(1_000, session_status(1_000, "SESSION STARTED", None, Some(2)));
        for car in 1..=12 {
            bench.arrive(200_000, timed(car, 8, 100_000, f64::from(80 + car)));
        }
        bench.arrive(900_000, session_status(900_000, "SESSION FINISHED", None, Some(2)));
        assert!(statuses(&bench, 1..=20).iter().all(|status| *status == ResultStatus::Running), "who went on is not known");
    }

    #[test]
    fn cars_without_a_time_have_no_place_where_the_tower_has_none() {
        let mut bench = bench();
        bench.arrive(1_000, session_status(1_000, "SESSION STARTED", None, Some(1)));
        bench.arrive(200_000, timed(7, 2, 100_000, 80.0));
        for car in [3, 5] {
            bench.arrive(200_000, Sample::from(lap(car, 2)));
        }
        assert_eq!(order(&bench), [7]);
    }

    #[test]
    fn practice_that_is_over_has_been_driven_to_the_end() {
        let mut bench = bench();
        bench.arrive(0, document("Practice", "Practice 1", 2024));
        bench.arrive(1, session_status(1, "SESSION STARTED", None, None));
        bench.arrive(100_000, timed(4, 2, 10_000, 90.0));
        for (ms, words) in [(200_000, "SESSION FINISHED"), (300_000, "SESSION FINALISED")] {
            assert_eq!(newest(&bench, 4).status, ResultStatus::Running);
            bench.arrive(ms, session_status(ms, words, None, None));
        }
        assert_eq!(newest(&bench, 4).status, ResultStatus::Finished);
    }

    /// A race of cars whose laps last so many ms, from `first_lap` on, up to the moment `until`. Places go by the order of `cars`.
    fn laps_until(bench: &mut Bench, cars: &[(i32, i64)], first_lap: i32, until: i64) {
        for (place, (car, _)) in (1..).zip(cars) {
            bench.arrive(2, Sample::from(position(*car, at_ms(2), place)));
        }
        let mut arrivals = Vec::new();
        for (car, lap_ms) in cars {
            for number in 0..until / lap_ms {
                arrivals
                    .push(((number + 1) * lap_ms, in_sectors(*car, first_lap + number as i32, number * lap_ms, *lap_ms as f64 / 1_000.0)));
            }
        }
        arrivals.sort_by_key(|(ms, _)| *ms);
        for (ms, sample) in arrivals {
            bench.arrive(ms, sample);
        }
    }

    fn flag(bench: &mut Bench, ms: i64, flag: &str, lap_number: i32) {
        let (category, flag) = (Some("Flag".into()), Some(flag.into()));
        let message = RaceControl { category, flag, lap_number: Some(lap_number), ..race_control(at_ms(ms), "A FLAG") };
        bench.arrive(ms, Sample::from(message));
    }

    #[test]
    fn no_lap_completed_is_none_and_not_unknown() {
        let mut bench = bench();
        bench.arrive(1, session_status(1, "SESSION STARTED", Some(1), None));
        bench.arrive(2, Sample::from(lap(1, 1)));
        assert_eq!(newest(&bench, 1).laps_completed, Some(0));
    }

    #[test]
    fn a_car_that_did_not_start_has_no_place_no_lap_and_no_points() {
        let mut bench = bench();
        bench.arrive(0, document("Race", "Race", 2025));
        bench.arrive(1, session_status(1, "SESSION STARTED", Some(1), None));
        bench.arrive(2, Sample::from(position(16, at_ms(2), 3)));
        laps_until(&mut bench, &[(1, 80_000), (4, 81_000)], 1, 330_000);
        let line = newest(&bench, 16);
        assert_eq!((line.status, line.position, line.points), (ResultStatus::NotStarted, None, Some(0.0)));
        assert_eq!((line.laps_completed, order(&bench)), (Some(0), vec![1, 4]));
    }

    #[test]
    fn a_car_whose_laps_are_not_sent_started_and_is_not_said_to_be_unclassified() {
        let mut bench = bench();
        bench.arrive(0, document("Race", "Race", 2025));
        bench.arrive(1, session_status(1, "SESSION STARTED", Some(1), None));
        bench.arrive(2, Sample::from(position(16, at_ms(2), 3)));
        let gap = raw::Interval { gap_to_leader: Reading::Number(3.0), ..interval(16, at_ms(50_000)) };
        bench.arrive(50_000, Sample::from(gap));
        laps_until(&mut bench, &[(1, 80_000), (4, 81_000)], 1, 330_000);
        flag(&mut bench, 331_000, "CHEQUERED", 4);
        let line = newest(&bench, 16);
        assert_ne!(line.status, ResultStatus::NotStarted);
        assert_eq!((line.position, line.laps_completed, line.is_classified), (Some(3), None, None));
    }

    #[test]
    fn a_stray_number_that_only_race_control_names_gets_no_line() {
        let mut bench = race(2);
        bench.arrive(300_000, Sample::from(race_control(at_ms(300_000), "5 SECOND TIME PENALTY FOR CAR 99 (XXX) - TRACK LIMITS")));
        assert!(all(&bench, Basis::Provisional, 99).is_empty());
    }

    /// OpenF1's numbers may be too low for all cars alike: the last of 58 laps is 57 here, and car 5, which stops, completes 49.
    #[test]
    fn after_a_join_in_mid_race_nobody_is_said_to_be_unclassified() {
        let classified = |sees_start: bool| {
            let mut bench = bench();
            bench.arrive(0, document("Race", "Race", 2025));
            if sees_start {
                bench.arrive(1, session_status(1, "SESSION STARTED", Some(1), None));
            }
            bench.arrive(2, timed(5, 49, 80_000, 80.0));
            bench.arrive(2, Sample::from(position(5, at_ms(2), 4)));
            laps_until(&mut bench, &[(1, 80_000), (4, 81_000), (16, 82_000)], 48, 840_000);
            flag(&mut bench, 841_000, "CHEQUERED", 58);
            [1, 4, 16, 5].map(|car| newest(&bench, car).is_classified)
        };
        assert_eq!(classified(false), [Some(true), Some(true), Some(true), None]);
        assert_eq!(classified(true), [Some(true), Some(true), Some(true), Some(false)]);
    }

    #[test]
    fn a_car_that_stops_on_the_last_lap_is_ahead_of_those_lapped() {
        let mut bench = bench();
        bench.arrive(0, document("Race", "Race", 2025));
        bench.arrive(1, session_status(1, "SESSION STARTED", Some(1), None));
        // Of 40 laps car 4 completes 36 and stops; car 16 is lapped four times and takes the flag after the same 36.
        bench.arrive(2, Sample::from(position(4, at_ms(2), 3)));
        laps_until(&mut bench, &[(1, 80_000), (16, 89_500)], 1, 36 * 80_000);
        for number in 1..=36 {
            bench.arrive(36 * 80_000, in_sectors(4, number, i64::from(number - 1) * 81_000, 81.0));
        }
        for number in 37..=40 {
            bench.arrive(i64::from(number) * 80_000, timed(1, number, i64::from(number - 1) * 80_000, 80.0));
        }
        flag(&mut bench, 3_201_000, "CHEQUERED", 40);
        for number in 33..=36 {
            bench.arrive(3_225_000, timed(16, number, i64::from(number - 1) * 89_500, 89.5));
        }
        assert_eq!(statuses(&bench, [1, 4, 16]), [ResultStatus::Finished, ResultStatus::Retired, ResultStatus::Finished]);
        assert_eq!((newest(&bench, 4).on_road_position, newest(&bench, 4).is_classified), (Some(3), Some(true)));
        assert_eq!(order(&bench), [1, 4, 16]);
    }

    #[test]
    fn a_race_that_is_not_resumed_counts_to_the_last_but_one_lap_before_the_flag() {
        // Car 9 crashes on lap 7 and brings the flag out, car 5 on lap 3; car 16 is a lap down.
        let mut bench = bench();
        bench.arrive(0, document("Race", "Race", 2025));
        bench.arrive(1, session_status(1, "SESSION STARTED", Some(1), None));
        laps_until(&mut bench, &[(1, 80_000), (4, 82_000), (9, 81_000), (16, 99_000)], 1, 500_000);
        laps_until(&mut bench, &[(5, 83_000)], 1, 170_000);
        bench.arrive(505_000, Sample::from(position(5, at_ms(505_000), 5)));
        flag(&mut bench, 510_000, "RED", 7);
        assert_eq!(newest(&bench, 1).laps_completed, Some(6));
        bench.arrive(2_000_000, session_status(2_000_000, "SESSION FINISHED", Some(7), None));
        let said = [1, 9, 4, 16, 5].map(|car| {
            let line = newest(&bench, car);
            (line.position, line.laps_completed, line.is_classified)
        });
        let classified = |place, laps| (Some(place), Some(laps), Some(true));
        assert_eq!(said[..4], [classified(1, 5), classified(2, 5), classified(3, 5), classified(4, 5)]);
        assert_eq!(said[4].1, Some(2));
        assert_eq!(statuses(&bench, [1, 4, 9, 16]), [ResultStatus::Finished; 4]);
        // Of 44 laps or more: less than a quarter.
        assert_eq!(newest(&bench, 1).points, Some(6.0));
        bench.arrive(2_100_000, Sample::from(race_control(at_ms(2_100_000), "5 SECOND TIME PENALTY FOR CAR 9 (XXX) - SPEEDING")));
        assert_eq!(order(&bench)[..3], [1, 4, 9], "10 s behind after five laps, and 5 s more: behind car 4's 10 s");
    }

    #[test]
    fn a_race_that_is_resumed_counts_to_the_flag() {
        let mut bench = bench();
        bench.arrive(0, document("Race", "Race", 2025));
        bench.arrive(1, session_status(1, "SESSION STARTED", Some(1), None));
        laps_until(&mut bench, &[(1, 80_000), (4, 82_000)], 1, 500_000);
        bench.arrive(510_000, session_status(510_000, "SESSION ABORTED", Some(7), None));
        bench.arrive(900_000, session_status(900_000, "SESSION STARTED", Some(7), None));
        flag(&mut bench, 1_000_000, "CHEQUERED", 7);
        assert_eq!(newest(&bench, 1).laps_completed, Some(6));
        assert_eq!(newest(&bench, 1).points, Some(6.0), "stopped and of few laps");
    }

    #[test]
    fn of_a_race_stopped_on_lap_2_for_good_no_lap_counts_and_nobody_has_a_place() {
        let mut bench = bench();
        bench.arrive(1, session_status(1, "SESSION STARTED", Some(1), None));
        laps_until(&mut bench, &[(1, 80_000), (4, 82_000)], 1, 90_000);
        flag(&mut bench, 100_000, "RED", 2);
        assert_eq!(order(&bench), [1, 4]);
        bench.arrive(2_000_000, session_status(2_000_000, "SESSION FINISHED", Some(2), None));
        assert_eq!(order(&bench), Vec::<i32>::new());
        assert_eq!([1, 4].map(|car| newest(&bench, car).is_classified), [None; 2]);
    }

    #[test]
    fn an_aborted_start_may_take_a_lap_off_the_distance() {
        let mut session = rules("Race", 2024, 69, Some(4_309), 60);
        assert_eq!(session.scheduled_laps(SessionKind::Race), 69..=71);
        for text in ["ABORTED START", "EXTRA FORMATION LAP"] {
            session.starts.take_words(text);
        }
        assert_eq!(session.scheduled_laps(SessionKind::Race), 68..=71);
    }

    #[test]
    fn a_race_whose_start_was_aborted_was_not_stopped() {
        let points = |flag_on_lap_1: Option<&str>| {
            let mut bench = bench();
            bench.arrive(0, document("Race", "Race", 2025));
            bench.arrive(1, session_status(1, "SESSION STARTED", Some(1), None));
            if let Some(shown) = flag_on_lap_1 {
                flag(&mut bench, 2, shown, 1);
            }
            bench.arrive(3, session_status(3, "SESSION ABORTED", Some(1), None));
            bench.arrive(1_000, session_status(1_000, "SESSION STARTED", Some(1), None));
            laps_until(&mut bench, &[(1, 80_000), (4, 81_000)], 1, 500_000);
            flag(&mut bench, 500_000, "CHEQUERED", 6);
            newest(&bench, 1).points
        };
        assert_eq!((points(None), points(Some("RED"))), (Some(25.0), Some(6.0)));
    }

    #[test]
    fn a_correction_of_the_cars_number_moves_the_penalty() {
        let mut bench = race(5);
        for (ms, words) in [(410_000, "5 SECOND TIME PENALTY FOR CAR 1"), (420_000, "CORRECTION: 5 SECOND TIME PENALTY FOR CAR 4")] {
            bench.arrive(ms, Sample::from(race_control(at_ms(ms), &format!("FIA STEWARDS: {words} (XXX) - UNSAFE RELEASE"))));
        }
        assert_eq!([1, 4, 16].map(|car| newest(&bench, car).penalty_seconds), [0, 5, 0]);
    }

    #[test]
    fn a_reinstated_car_has_its_place_again() {
        let mut bench = race(5);
        for (ms, words) in [(410_000, "CAR 1 (VER) DISQUALIFIED - TECHNICAL INFRINGEMENT"), (420_000, "CAR 1 (VER) REINSTATED")] {
            bench.arrive(ms, Sample::from(race_control(at_ms(ms), &format!("FIA STEWARDS: {words}"))));
            assert_eq!(order(&bench), if ms < 420_000 { vec![4, 16] } else { vec![1, 4, 16] });
        }
        assert_eq!((newest(&bench, 1).status, newest(&bench, 1).is_classified), (ResultStatus::Finished, Some(true)));
    }

    #[test]
    fn a_published_line_of_a_disqualified_car_has_no_place() {
        let mut bench = bench();
        bench.arrive(0, document("Race", "Race", 2025));
        bench.arrive(1, Sample::from(SessionResult { dsq: Some(true), ..result(16, Some(3), Some(0.0)) }));
        let line = all(&bench, Basis::Official, 16)[0].1.clone();
        assert_eq!((line.position, line.is_classified), (None, Some(false)));
    }

    /// An older version that is sent again is stale; one without an `_id` is as new as its arrival.
    #[test]
    fn a_published_result_is_corrected_by_the_newest_version() {
        let mut bench = bench();
        for (ms, place, id) in [(0, 1, Some(10)), (1, 2, None), (2, 1, Some(9)), (3, 3, None)] {
            bench.arrive(ms, Sample::from(SessionResult { id, ..result(1, Some(place), None) }));
        }
        let places: Vec<_> = all(&bench, Basis::Official, 1).into_iter().map(|(_, line)| line.position).collect();
        assert_eq!(places, [Some(1), Some(2), Some(3)]);
    }
}
