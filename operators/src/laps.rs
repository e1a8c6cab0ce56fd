//! Laps: versions of `laps` documents folded into one lap per car and number, with what the feed leaves out inferred and every time
//! compared; track status tells when the race started and when the session ended, race control which laps are deleted, `pit` which
//! ended in the pit lane.
//!
//! Rules, with their source:
//! * A version with a lower `_id` than the one taken is stale and ignored; one that says nothing new is silent; a null does not erase
//!   (OpenF1 sends whole documents, in which what is known stays).
//! * Lap time: as sent, else the sum of the three sectors (OpenF1).
//! * Late times: a sector 2, sector 3 or lap time that stands in a document of a lap begun less than 10 s ago, without a sector 1, was
//!   driven on the lap before and goes there if it is missing there (OpenF1). If that lap is unknown, as after a late join, the time
//!   goes nowhere. Later versions repeat the time in the wrong place, so it is remembered and passed over.
//! * Lap 1 of a race has no time in the feed: it begins when the session starts and ends when the car's lap 2 begins, and sector 1 is
//!   what sectors 2 and 3 leave of it (OpenF1). OpenF1's documents may carry the same inference, so a race's lap 1 is always marked as
//!   inferred, and its sector 1 is when it came together with the lap time.
//! * In a race, laps begun after the chequered flag are dropped (OpenF1). Elsewhere they stay, but their times are no best.
//! * Marks: a time is compared with the best of the car and of the session as it becomes known; being equal is not being better.
//!   Qualifying starts afresh with each segment: laps known of by then belong to the segments before (FastF1). When a best time is
//!   taken back, the next best takes its place.
//! * No best, and so yellow whatever they are: the lap time and sector 1 of a race's lap 1, which begins on the grid; outside races the
//!   lap time of a pit-out lap, which counts the wait in the garage, and that of a lap ended in the pit lane, which the feed makes no best
//!   either (Imola 2024: three of car 2 after all others were deleted); times of laps begun after the end. In a race either is timed from
//!   line to line and compared like any other (FastF1 takes the feed's own flag).
//! * Deleted: the lap of the car that race control names, with the time that it names (FastF1); without a time, the lap under way at the
//!   moment it names, since its lap numbers may be one ahead of OpenF1's; without either, the lap of the number. A time that is not known
//!   yet is deleted when it comes. `REINSTATED` undoes it. Either corrects the lap, and the personal best goes or returns.
//! * Personal best: the shortest lap of the car that can be a best, the earlier of two equal ones; one for each segment of qualifying.
//! * Interrupted: a race stood still while the lap was driven or when it began, so it holds the wait or begins in the pit lane or on the
//!   grid (FastF1 gives such laps no time). However long, it stays (FastF1 #473).
//! * Ended in the pit lane: the mini-sectors of sector 3 say so, the next lap is a pit-out lap, or `pit` says so.
//! * Joined in mid-session, OpenF1 numbers the lap under way 1 and gives it no start. So a lap 1 without a start is held until it gets one,
//!   the race starts, or the car's next lap tells its number: the one before that. What its first document said is then the feed's
//!   snapshot, of laps before, and is passed over.
//! * Accurate (FastF1 `_check_lap_accuracy`): time and sectors as sent, the sectors within [`LapsOperator::sector_sum_ms_max`] of the lap,
//!   neither in nor out of the pit lane, not under more than yellow, and not the lap after one under the safety car. Two differences:
//!   FastF1's code, not its documentation, leaves out a lap that was only partly under yellow, which stays here; and it no longer
//!   compares a lap's end with the next one's start, which may be [`LapsOperator::boundary_ms_max`] apart here. OpenF1's starts are
//!   approximate, by 53 to 76 ms at the median and up to 0.2 s, so that 3 ms would leave out nearly all; beyond 0.25 s are one or two
//!   laps of a hundred, of whose times one is off.

use std::borrow::Cow;
use std::collections::BTreeMap;

use pitwall_engine::Micros;
use pitwall_engine::operator::{Context, Handle, Issued, Operator};
use pitwall_schemas::facts::{self, MessageKind, RaceControlMessage, SessionState, Status, TrackStatus};
use pitwall_schemas::raw::{Lap, Pit};
use pitwall_schemas::shared::Mark;
use serde::{Deserialize, Serialize};

use crate::by_driver::ByDriver;
use crate::known::{Known, Version, in_order};

/// Places of the times of one lap.
const SECTOR_1: usize = 0;
const SECTOR_2: usize = 1;
const SECTOR_3: usize = 2;
const LAP: usize = 3;

/// Spells of red flag, safety car or virtual safety car that are kept. Of more, the oldest is forgotten.
const SPELLS_MAX: usize = 64;

/// The mini-sector code of a car in the pit lane (OpenF1).
const PIT_SEGMENT: u16 = 2_064;

/// Deletions of one car that wait for their lap. Of more, the oldest is forgotten.
const PENDING_DELETIONS_MAX: usize = 64;

/// The three sectors and the lap, each in milliseconds.
type Times = [Option<i32>; 4];

/// Folds lap documents.
#[derive(Debug, Clone, Copy)]
pub struct LapsOperator {
    /// A sector 2, sector 3 or lap time known less than this after a lap began, ms, is of the lap before (OpenF1: 10 s).
    pub late_time_ms: i64,
    /// How far an accurate lap's sectors may add up to another time than the lap's, ms (FastF1: 3 ms).
    pub sector_sum_ms_max: i32,
    /// How far an accurate lap may end from when the next one begins, ms.
    pub boundary_ms_max: i64,
    /// Mini-sectors of a sector. A document with more is rejected: circuits have up to 12.
    pub mini_sectors_max: usize,
}

impl Default for LapsOperator {
    fn default() -> Self {
        Self { late_time_ms: 10_000, sector_sum_ms_max: 3, boundary_ms_max: 250, mini_sectors_max: 64 }
    }
}

/// Every lap of the session.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    rules: Rules,
    /// When the race started.
    started_at: Known<Micros>,
    qualifying_phase: Option<i32>,
    cars: ByDriver<Car>,
}

/// What decides which laps and times count.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Rules {
    /// Whether the session is a race: only there race control counts laps.
    is_race: bool,
    /// When the session, or the segment of qualifying, ended.
    finished_at: Option<Micros>,
    /// When the session stood still.
    stops: Vec<Spell>,
    /// When the track was under more than yellow.
    neutralised: Vec<Spell>,
    /// When the safety car was out.
    safety_car: Vec<Spell>,
    sector_sum_ms_max: i32,
    boundary_ms_max: i64,
}

/// From when until when; still so without an end.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Spell {
    from: Micros,
    until: Option<Micros>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Car {
    /// By number; the schema ends at 200.
    laps: BTreeMap<i32, LapState>,
    /// Best times so far, ms; in qualifying those of this segment.
    bests: Times,
    /// Laps below this belong to earlier segments of qualifying.
    first_lap_of_segment: i32,
    /// The best lap of each segment of qualifying; of the session, elsewhere.
    personal_bests: BTreeMap<Option<i32>, i32>,
    pending_deletions: Vec<Deletion>,
    /// What stands as lap 1 without a start, if it may be or is another lap.
    joined: Option<Box<Joined>>,
}

/// The lap under way at a join in mid-session, which OpenF1 calls lap 1.
#[derive(Debug, Serialize, Deserialize)]
struct Joined {
    first: Lap,
    newest: Lap,
    /// The ledger record of the newest document.
    cause: u64,
    /// Its real number, once that can be told.
    number: Option<i32>,
}

impl Joined {
    /// What the newest document says and the first did not.
    fn news(&self) -> Lap {
        fn clear<T: PartialEq>(value: &mut Option<T>, known: &Option<T>) {
            if value == known {
                *value = None;
            }
        }
        let (mut news, first) = (self.newest.clone(), &self.first);
        clear(&mut news.duration_sector_1, &first.duration_sector_1);
        clear(&mut news.duration_sector_2, &first.duration_sector_2);
        clear(&mut news.duration_sector_3, &first.duration_sector_3);
        clear(&mut news.lap_duration, &first.lap_duration);
        clear(&mut news.i1_speed, &first.i1_speed);
        clear(&mut news.i2_speed, &first.i2_speed);
        clear(&mut news.st_speed, &first.st_speed);
        clear(&mut news.segments_sector_1, &first.segments_sector_1);
        clear(&mut news.segments_sector_2, &first.segments_sector_2);
        clear(&mut news.segments_sector_3, &first.segments_sector_3);
        news
    }
}

/// What race control has deleted.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Deletion {
    time_ms: Option<i32>,
    lap_number: Option<i32>,
    happened_at: Option<Micros>,
    reason: Option<String>,
    cause: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct LapState {
    version: Version,
    started_at: Known<Micros>,
    is_pit_out_lap: Known<bool>,
    /// Times as sent, ms.
    sent: [Known<i32>; 4],
    /// Times that this lap's document carried but the lap before had driven, ms.
    late: Times,
    /// Times as last said, ms: sent or inferred.
    said: Times,
    /// How those compared when they were first said.
    marks: [Mark; 4],
    /// At the two intermediates and the speed trap, km/h.
    speeds: [Known<i32>; 3],
    segments: [Known<Vec<u16>>; 3],
    /// Whether race control deleted it, and why.
    is_deleted: Known<bool>,
    deleted_reason: Option<String>,
    /// Whether it ended in the pit lane.
    ended_in_pit_lane: Known<bool>,
    began_after_the_end: bool,
    qualifying_segment: Option<i32>,
    flags: Flags,
    issued: Option<Issued>,
}

/// What of a lap depends on more than its own documents, as last said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "four independent statements about one lap, as in its fact")]
struct Flags {
    is_pit_in_lap: bool,
    is_accurate: bool,
    is_interrupted: bool,
    is_personal_best: bool,
}

impl Default for LapState {
    fn default() -> Self {
        Self {
            version: Version::default(),
            started_at: Known::default(),
            is_pit_out_lap: Known::default(),
            sent: Default::default(),
            late: Times::default(),
            said: Times::default(),
            marks: [Mark::None; 4],
            speeds: Default::default(),
            segments: Default::default(),
            is_deleted: Known::default(),
            deleted_reason: None,
            ended_in_pit_lane: Known::default(),
            began_after_the_end: false,
            qualifying_segment: None,
            flags: Flags::default(),
            issued: None,
        }
    }
}

/// A lap's times as far as they can be told.
struct Told {
    times: Times,
    is_lap_inferred: bool,
    is_sector_1_inferred: bool,
    /// The ledger record of the next lap's start, when the lap time was inferred from it.
    end_cause: Option<u64>,
}

impl LapState {
    /// Takes what a version says, but for its start and its times as they came: those are `times` by now.
    fn fold(&mut self, document: &Lap, times: Times, seq: u64) -> bool {
        let mut has_changed = self.is_pit_out_lap.take(Some(document.is_pit_out_lap), seq);
        for (known, time) in self.sent.iter_mut().zip(times) {
            has_changed |= known.take(time, seq);
        }
        for (known, speed) in self.speeds.iter_mut().zip([document.i1_speed, document.i2_speed, document.st_speed]) {
            has_changed |= known.take(speed.map(|speed| speed.round() as i32), seq);
        }
        let sectors = [&document.segments_sector_1, &document.segments_sector_2, &document.segments_sector_3];
        for (known, codes) in self.segments.iter_mut().zip(sectors) {
            has_changed |= known.take(codes.as_deref().map(segment_codes), seq);
        }
        has_changed
    }

    /// The times, with what can be inferred of those that were not sent. `race_lap_1_end` is the start of lap 2 if this is lap 1 of a
    /// race.
    fn tell(&self, is_race_lap_1: bool, race_lap_1_end: Option<&Known<Micros>>) -> Told {
        let mut times = self.sent.each_ref().map(|known| known.value().copied());
        let mut told = Told { times, is_lap_inferred: false, is_sector_1_inferred: false, end_cause: None };
        if times[LAP].is_none()
            && let [Some(sector_1), Some(sector_2), Some(sector_3), _] = times
        {
            times[LAP] = Some(sector_1 + sector_2 + sector_3);
            told.is_lap_inferred = true;
        }
        if is_race_lap_1 {
            told.is_lap_inferred = true;
            if times[LAP].is_none()
                && let (Some(start), Some(end)) = (self.started_at.value(), race_lap_1_end)
            {
                times[LAP] = end.value().and_then(|end| positive_milliseconds(end.since(*start)));
                told.end_cause = end.cause();
            }
            if let [None, Some(sector_2), Some(sector_3), Some(lap)] = times {
                times[SECTOR_1] = Some(lap - sector_2 - sector_3).filter(|time| *time > 0);
                told.is_sector_1_inferred = true;
            } else {
                told.is_sector_1_inferred = times[SECTOR_1].is_some() && self.sent[SECTOR_1].cause() == self.sent[LAP].cause();
            }
        }
        told.is_lap_inferred &= times[LAP].is_some();
        told.is_sector_1_inferred &= times[SECTOR_1].is_some();
        told.times = times;
        told
    }

    fn causes(&self, told: &Told) -> Vec<u64> {
        in_order(
            [self.started_at.cause(), self.is_pit_out_lap.cause(), told.end_cause, self.is_deleted.cause(), self.ended_in_pit_lane.cause()]
                .into_iter()
                .chain(self.sent.iter().chain(&self.speeds).map(Known::cause))
                .chain(self.segments.iter().map(Known::cause)),
        )
    }

    fn fact(&self, driver_number: i32, lap_number: i32, told: &Told) -> facts::Lap {
        let [sector_1_ms, sector_2_ms, sector_3_ms, lap_ms] = told.times;
        let [sector_1_mark, sector_2_mark, sector_3_mark, lap_mark] = self.marks;
        let [i1_speed, i2_speed, st_speed] = self.speeds.each_ref().map(|known| known.value().copied());
        let [segments_1, segments_2, segments_3] =
            self.segments.each_ref().map(|known| known.value().into_iter().flatten().copied().map(i32::from).collect());
        facts::Lap {
            driver_number,
            lap_number,
            started_at: self.started_at.value().copied(),
            lap_ms,
            lap_inferred: told.is_lap_inferred,
            sector_1_ms,
            sector_2_ms,
            sector_3_ms,
            sector_1_inferred: told.is_sector_1_inferred,
            sector_1_mark,
            sector_2_mark,
            sector_3_mark,
            lap_mark: if self.is_deleted() && lap_ms.is_some() { Mark::Yellow } else { lap_mark },
            i1_speed,
            i2_speed,
            st_speed,
            is_pit_out_lap: self.is_pit_out_lap(),
            segments_1,
            segments_2,
            segments_3,
            is_complete: lap_ms.is_some(),
            is_deleted: self.is_deleted(),
            deleted_reason: self.deleted_reason.clone(),
            is_pit_in_lap: self.flags.is_pit_in_lap,
            is_accurate: self.flags.is_accurate,
            is_interrupted: self.flags.is_interrupted,
            is_personal_best: self.flags.is_personal_best,
            qualifying_segment: self.qualifying_segment,
        }
    }

    fn is_deleted(&self) -> bool {
        self.is_deleted.value().copied().unwrap_or(false)
    }

    fn is_pit_out_lap(&self) -> bool {
        self.is_pit_out_lap.value().copied().unwrap_or(false)
    }
}

impl Car {
    /// Takes the times out of `times` that the lap before `lap_number` had driven, and tells whether that lap learned something.
    fn move_late_times(&mut self, lap_number: i32, times: &mut Times, seq: u64) -> bool {
        let mut has_changed = false;
        let mut late = [None; 4];
        for index in [SECTOR_2, SECTOR_3, LAP] {
            late[index] = times[index].take();
            if let Some(previous) = self.laps.get_mut(&(lap_number - 1))
                && previous.sent[index].value().is_none()
            {
                has_changed |= previous.sent[index].take(late[index], seq);
            }
        }
        if let Some(lap) = self.laps.get_mut(&lap_number) {
            for (kept, late) in lap.late.iter_mut().zip(late) {
                *kept = late.or(*kept);
            }
        }
        has_changed
    }
}

impl Car {
    /// The number of the lap that a document is of, and what it says of it; `None` while that cannot be told.
    fn place<'a>(&mut self, document: &'a Lap, segment: Option<i32>, has_race_started: bool, seq: u64) -> Option<(i32, Cow<'a, Lap>)> {
        let first_known = self.laps.keys().next().copied();
        match (&mut self.joined, document.lap_number == 1 && document.date_start.is_none()) {
            (Some(joined), true) => {
                (joined.newest, joined.cause) = (document.clone(), seq);
                joined.number.map(|number| (number, Cow::Owned(joined.news())))
            }
            (None, true) if !has_race_started && first_known.is_none_or(|first| first > 2) => {
                let number = first_known.map(|first| first - 1);
                self.joined = Some(Box::new(Joined { first: document.clone(), newest: document.clone(), cause: seq, number }));
                None
            }
            _ => {
                self.settle(document.lap_number, segment);
                Some((document.lap_number, Cow::Borrowed(document)))
            }
        }
    }

    /// Finds the number of a lap that was held, now that the car's `next` one is known; 2 when it turns out to be lap 1 itself.
    fn settle(&mut self, next: i32, segment: Option<i32>) {
        let Some(joined) = self.joined.as_mut().filter(|joined| joined.number.is_none()) else { return };
        joined.number = Some((next - 1).max(1));
        let document = if next > 2 { joined.news() } else { joined.newest.clone() };
        let mut lap = LapState { qualifying_segment: segment, ..LapState::default() };
        lap.version.take(document.id);
        lap.fold(&document, times(&document), joined.cause);
        self.laps.insert((next - 1).max(1), lap);
        if next <= 2 {
            self.joined = None;
        }
    }

    /// The lap under way at that moment, as far as starts are known.
    fn under_way(&self, moment: Micros) -> Option<i32> {
        let has_begun = |lap: &LapState| lap.started_at.value().is_some_and(|start| *start <= moment);
        self.laps.iter().rev().find(|(_, lap)| has_begun(lap)).map(|(number, _)| *number)
    }

    /// Whether race control means the lap: the one of that time, or, when the words name none, of that moment or else of that number.
    fn is_meant(&self, deletion: &Deletion, lap_number: i32) -> bool {
        match (deletion.time_ms, deletion.happened_at) {
            (Some(time_ms), _) => {
                let lap = self.laps.get(&lap_number);
                lap.is_some_and(|lap| lap.sent[LAP].value() == Some(&time_ms) || lap.said[LAP] == Some(time_ms))
            }
            (None, Some(moment)) => self.under_way(moment) == Some(lap_number),
            (None, None) => deletion.lap_number == Some(lap_number),
        }
    }

    /// The lap that race control means, if it is known: of several with that time the one of that moment or number, else the newest.
    fn find(&self, deletion: &Deletion) -> Option<i32> {
        let meant = || self.laps.keys().rev().copied().filter(|number| self.is_meant(deletion, *number));
        let named = deletion.happened_at.and_then(|moment| self.under_way(moment)).or(deletion.lap_number);
        meant().find(|number| Some(*number) == named).or_else(|| meant().next())
    }

    /// Lets the lap's time be compared as if it came now, and gives its place as the best to the next best.
    fn forget_time(&mut self, lap_number: i32, rules: &Rules) {
        let time = self.laps.get_mut(&lap_number).and_then(|lap| lap.said[LAP].take());
        if time.is_some() && time == self.bests[LAP] && lap_number >= self.first_lap_of_segment {
            self.bests[LAP] = rules.next_best(self, lap_number, LAP);
        }
    }

    /// Takes that the lap ended in the pit lane, and tells whether that is news.
    fn end_in_pit_lane(&mut self, lap_number: i32, cause: u64, rules: &Rules) -> bool {
        let is_news = self.laps.get_mut(&lap_number).is_some_and(|lap| lap.ended_in_pit_lane.take(Some(true), cause));
        if is_news && !rules.is_race {
            self.forget_time(lap_number, rules);
        }
        is_news
    }

    /// Takes what the lap and the next one tell of where it ended, and tells whether that is news.
    fn see_pit_lane(&mut self, lap_number: i32, rules: &Rules) -> bool {
        let by_segments = self.laps.get(&lap_number).and_then(|lap| {
            let segments = &lap.segments[SECTOR_3];
            segments.cause().filter(|_| segments.value().is_some_and(|codes| codes.contains(&PIT_SEGMENT)))
        });
        let by_next = || self.laps.get(&(lap_number + 1)).filter(|next| next.is_pit_out_lap()).and_then(|next| next.is_pit_out_lap.cause());
        by_segments.or_else(by_next).is_some_and(|cause| self.end_in_pit_lane(lap_number, cause, rules))
    }

    /// Deletes or reinstates a lap, and tells whether that is news. Its time is then compared as if it came now.
    fn set_deleted(&mut self, lap_number: i32, is_deleted: bool, deletion: &Deletion, rules: &Rules) -> bool {
        let Some(lap) = self.laps.get_mut(&lap_number) else { return false };
        if lap.is_deleted() == is_deleted {
            return false;
        }
        lap.is_deleted.take(Some(is_deleted), deletion.cause);
        lap.deleted_reason = deletion.reason.clone().filter(|_| is_deleted);
        self.forget_time(lap_number, rules);
        true
    }

    /// Keeps a deletion until its lap is known; a reinstatement takes it back.
    fn wait(&mut self, deletion: Deletion, is_deleted: bool) {
        let lap = |deletion: &Deletion| (deletion.time_ms, deletion.lap_number, deletion.happened_at);
        self.pending_deletions.retain(|other| lap(other) != lap(&deletion));
        if is_deleted {
            if self.pending_deletions.len() >= PENDING_DELETIONS_MAX {
                self.pending_deletions.remove(0);
            }
            self.pending_deletions.push(deletion);
        }
    }

    /// Deletes the lap if race control said so before it was known.
    fn delete_pending(&mut self, lap_number: i32) -> bool {
        let Some(index) = self.pending_deletions.iter().position(|deletion| self.is_meant(deletion, lap_number)) else { return false };
        let Some(lap) = self.laps.get_mut(&lap_number) else { return false };
        let deletion = self.pending_deletions.remove(index);
        lap.is_deleted.take(Some(true), deletion.cause);
        lap.deleted_reason = deletion.reason;
        true
    }
}

impl State {
    /// Starts the bests afresh if this is another segment of qualifying than before.
    fn begin_segment(&mut self, qualifying_phase: Option<i32>) {
        if qualifying_phase.is_none() || qualifying_phase == self.qualifying_phase {
            return;
        }
        self.qualifying_phase = qualifying_phase;
        for (_, car) in self.cars.iter_mut() {
            for lap in car.laps.values_mut() {
                lap.began_after_the_end |= self.rules.is_after_the_end(lap.started_at.value().copied());
            }
            car.bests = Times::default();
            car.first_lap_of_segment = car.laps.last_key_value().map_or(0, |(number, _)| number + 1);
        }
    }

    /// Lets every car's lap 1 begin with the race; a late join may know laps before it knows of the start.
    fn begin_race(&mut self, context: &mut Context<'_, facts::Lap>) {
        let (start, seq) = (context.event_time(), context.seq());
        self.started_at.take(Some(start), seq);
        let driver_numbers: Vec<i32> = self.cars.iter().map(|(driver_number, _)| driver_number).collect();
        for driver_number in driver_numbers {
            let Some(car) = self.cars.get_mut(driver_number) else { continue };
            car.settle(2, self.qualifying_phase);
            let has_changed = car.laps.get_mut(&1).is_some_and(|lap| lap.started_at.take(Some(start), seq));
            self.say(driver_number, 1, has_changed, context);
        }
    }

    /// Says the lap if anything in it changed, with the times that changed compared; and the laps that the personal best goes from and
    /// to, so that no two laps are it at once.
    fn say(&mut self, driver_number: i32, lap_number: i32, has_changed: bool, context: &mut Context<'_, facts::Lap>) {
        let Some(car) = self.cars.get(driver_number) else { return };
        let Some(lap) = car.laps.get(&lap_number) else { return };
        let told = self.rules.tell(car, lap_number, lap);
        let has_changed = has_changed || told.times != lap.said || lap.issued.is_none();
        if has_changed {
            for index in [SECTOR_1, SECTOR_2, SECTOR_3, LAP] {
                self.compare(driver_number, lap_number, index, &told);
            }
        }
        let Some(car) = self.cars.get_mut(driver_number) else { return };
        let segment = car.laps.get(&lap_number).and_then(|lap| lap.qualifying_segment);
        let best = self.rules.personal_best(car, segment);
        let former = match best {
            Some(best) => car.personal_bests.insert(segment, best),
            None => car.personal_bests.remove(&segment),
        };
        if let Some(former) = former.filter(|former| Some(*former) != best && *former != lap_number) {
            self.rules.say_one(car, driver_number, former, false, context);
        }
        self.rules.say_one(car, driver_number, lap_number, has_changed, context);
        if let Some(best) = best.filter(|best| Some(*best) != former && *best != lap_number) {
            self.rules.say_one(car, driver_number, best, false, context);
        }
    }

    /// Compares the time in place `index` with the bests, if it is another than was said.
    fn compare(&mut self, driver_number: i32, lap_number: i32, index: usize, told: &Told) {
        let time = told.times[index];
        let Some(car) = self.cars.get_mut(driver_number) else { return };
        let is_of_this_segment = lap_number >= car.first_lap_of_segment;
        let Some(lap) = car.laps.get_mut(&lap_number) else { return };
        if lap.said[index] == time {
            return;
        }
        let before = std::mem::replace(&mut lap.said[index], time);
        if !is_of_this_segment {
            // What it compared with is gone: the mark stays as it was set.
            return;
        }
        let may_be_best = self.rules.may_be_best(lap_number, lap, index);
        if before.is_some() && before == car.bests[index] {
            car.bests[index] = self.rules.next_best(car, lap_number, index);
        }
        let best_of_session = self.cars.iter().filter_map(|(_, car)| car.bests[index]).min();
        let Some(car) = self.cars.get_mut(driver_number) else { return };
        let is_better = |best: Option<i32>| may_be_best && time.is_some_and(|time| best.is_none_or(|best| time < best));
        let mark = match (is_better(best_of_session), is_better(car.bests[index])) {
            (true, _) => Mark::Purple,
            (false, true) => Mark::Green,
            (false, false) if time.is_some() => Mark::Yellow,
            (false, false) => Mark::None,
        };
        if matches!(mark, Mark::Green | Mark::Purple) {
            car.bests[index] = time;
        }
        if let Some(lap) = car.laps.get_mut(&lap_number) {
            lap.marks[index] = mark;
        }
    }
}

impl Rules {
    const fn set(&mut self, operator: &LapsOperator) {
        self.sector_sum_ms_max = operator.sector_sum_ms_max;
        self.boundary_ms_max = operator.boundary_ms_max;
    }

    /// Whether the time in place `index` of a lap can be a best time at all.
    fn may_be_best(&self, lap_number: i32, lap: &LapState, index: usize) -> bool {
        let is_from_the_grid = self.is_race && lap_number == 1 && matches!(index, SECTOR_1 | LAP);
        let is_from_the_garage = !self.is_race && index == LAP && lap.is_pit_out_lap();
        let is_into_the_pit_lane = !self.is_race && lap.ended_in_pit_lane.value().is_some();
        let is_no_lap_time = index == LAP && (is_into_the_pit_lane || lap.is_deleted() || self.is_interrupted(lap, lap.said[LAP]));
        let is_after_the_end = lap.began_after_the_end || self.is_after_the_end(lap.started_at.value().copied());
        !is_from_the_grid && !is_from_the_garage && !is_no_lap_time && !is_after_the_end
    }

    /// The lap's times, lap 1 of a race with what its end tells.
    fn tell(&self, car: &Car, lap_number: i32, lap: &LapState) -> Told {
        lap.tell(self.is_race && lap_number == 1, car.laps.get(&2).map(|next| &next.started_at))
    }

    /// Says one lap if it or one of its flags changed.
    fn say_one(&self, car: &mut Car, driver_number: i32, lap_number: i32, has_changed: bool, context: &mut Context<'_, facts::Lap>) {
        let Some(lap) = car.laps.get(&lap_number) else { return };
        let told = self.tell(car, lap_number, lap);
        let flags = self.flags(car, lap_number, lap, &told);
        let Some(lap) = car.laps.get_mut(&lap_number) else { return };
        let former = std::mem::replace(&mut lap.flags, flags);
        if !has_changed && former == flags {
            return;
        }
        let mut causes = lap.causes(&told);
        if flags != former {
            // What the flags came from, such as the next lap's start, is what is being taken.
            causes = in_order(causes.into_iter().chain(context.causes().iter().copied()).map(Some));
        }
        let happened_at = lap.started_at.value().copied().unwrap_or(context.event_time());
        let fact = lap.fact(driver_number, lap_number, &told);
        lap.issued = Some(context.draft(fact).because(&causes).at(happened_at).correcting(lap.issued).emit());
    }

    fn flags(&self, car: &Car, lap_number: i32, lap: &LapState, told: &Told) -> Flags {
        let next = car.laps.get(&(lap_number + 1));
        let is_pit_in_lap = lap.ended_in_pit_lane.value().is_some();
        let start = lap.started_at.value().copied();
        let end = start.zip(told.times[LAP]).map(|(start, time_ms)| start.plus(i64::from(time_ms) * 1_000));
        let sectors: Option<i32> = told.times[..LAP].iter().copied().sum();
        let sums_up = sectors.zip(told.times[LAP]).is_some_and(|(sectors, lap)| (sectors - lap).abs() <= self.sector_sum_ms_max);
        let next_start = next.and_then(|next| next.started_at.value().copied());
        let meets_next = end.zip(next_start).is_some_and(|(end, next)| end.since(next).abs() <= self.boundary_ms_max * 1_000);
        let is_as_sent = !told.is_lap_inferred && !told.is_sector_1_inferred;
        let is_on_track = !is_pit_in_lap && !lap.is_pit_out_lap();
        let previous = car.laps.get(&(lap_number - 1)).and_then(|previous| previous.started_at.value().copied());
        let is_undisturbed = !is_during(&self.neutralised, start, end) && !is_during(&self.safety_car, previous, start);
        Flags {
            is_pit_in_lap,
            is_accurate: sums_up && meets_next && is_as_sent && is_on_track && is_undisturbed,
            is_interrupted: self.is_interrupted(lap, told.times[LAP]),
            is_personal_best: car.personal_bests.get(&lap.qualifying_segment) == Some(&lap_number),
        }
    }

    /// Whether the race stood still while the lap was driven, or the lap is the one of the restart.
    fn is_interrupted(&self, lap: &LapState, time_ms: Option<i32>) -> bool {
        let start = lap.started_at.value().copied();
        let end = start.zip(time_ms).map(|(start, time_ms)| start.plus(i64::from(time_ms) * 1_000));
        self.is_race && is_during(&self.stops, start, end)
    }

    /// The car's best lap of that segment.
    fn personal_best(&self, car: &Car, segment: Option<i32>) -> Option<i32> {
        let of_segment = car.laps.iter().filter(|(_, lap)| lap.qualifying_segment == segment);
        let can_be_best = of_segment.filter(|(number, lap)| self.may_be_best(**number, lap, LAP));
        can_be_best.filter_map(|(number, lap)| lap.said[LAP].map(|time_ms| (time_ms, *number))).min().map(|(_, number)| number)
    }

    /// Takes when the session stands still and when the track is under more than yellow.
    fn take_status(&mut self, status: &TrackStatus, at: Micros) {
        let stands_still = status.session == SessionState::Aborted || status.status == Status::Red;
        follow(&mut self.stops, stands_still, at);
        follow(&mut self.neutralised, !matches!(status.status, Status::Clear | Status::Yellow), at);
        follow(&mut self.safety_car, status.status == Status::SafetyCar, at);
    }

    fn is_after_the_end(&self, start: Option<Micros>) -> bool {
        self.finished_at.is_some_and(|finish| start.is_some_and(|start| start > finish))
    }

    /// The car's best time in place `index` of this segment's laps other than `lap_number`. Runs over the car's laps, of which there
    /// are at most 200, and only when its best time was taken back.
    fn next_best(&self, car: &Car, lap_number: i32, index: usize) -> Option<i32> {
        car.laps
            .range(car.first_lap_of_segment..)
            .filter(|(number, lap)| **number != lap_number && self.may_be_best(**number, lap, index))
            .filter_map(|(_, lap)| lap.said[index])
            .min()
    }
}

/// Begins or ends a spell.
fn follow(spells: &mut Vec<Spell>, is_so: bool, at: Micros) {
    match (spells.last_mut().filter(|spell| spell.until.is_none()), is_so) {
        (Some(spell), false) => spell.until = Some(at),
        (None, true) => {
            if spells.len() >= SPELLS_MAX {
                spells.remove(0);
            }
            spells.push(Spell { from: at, until: None });
        }
        _ => {}
    }
}

/// Whether a lap from `start` to `end`, or still being driven, overlaps one of the spells. Without a start nothing can be told.
fn is_during(spells: &[Spell], start: Option<Micros>, end: Option<Micros>) -> bool {
    start.is_some_and(|start| {
        spells.iter().any(|spell| spell.until.is_none_or(|until| start <= until) && end.is_none_or(|end| spell.from < end))
    })
}

/// Mini-sector codes; 0 for none.
fn segment_codes(codes: &[Option<i32>]) -> Vec<u16> {
    codes.iter().map(|code| code.and_then(|code| u16::try_from(code).ok()).unwrap_or(0)).collect()
}

/// A duration as OpenF1 sends it, s, in ms; a duration of nothing is no time.
fn milliseconds(seconds: Option<f64>) -> Option<i32> {
    seconds.map(|seconds| (seconds * 1_000.0).round() as i32).filter(|time| *time > 0)
}

/// The times that a document carries, ms.
fn times(document: &Lap) -> Times {
    [document.duration_sector_1, document.duration_sector_2, document.duration_sector_3, document.lap_duration].map(milliseconds)
}

/// A time span in µs as ms, if it is a time at all.
fn positive_milliseconds(micros: i64) -> Option<i32> {
    i32::try_from((micros + 500).div_euclid(1_000)).ok().filter(|time| *time > 0)
}

impl Operator for LapsOperator {
    const NAME: &'static str = "laps";
    const VERSION: u32 = 3;
    type Output = facts::Lap;
    type State = State;

    fn parameters(&self) -> Vec<(&'static str, String)> {
        vec![
            ("late_time_ms", self.late_time_ms.to_string()),
            ("sector_sum_ms_max", self.sector_sum_ms_max.to_string()),
            ("boundary_ms_max", self.boundary_ms_max.to_string()),
            ("mini_sectors_max", self.mini_sectors_max.to_string()),
        ]
    }
}

impl Handle<Lap> for LapsOperator {
    fn apply(&self, state: &mut State, document: &Lap, context: &mut Context<'_, facts::Lap>) {
        let driver_number = document.driver_number;
        if document.lap_number < 1 {
            return context.reject(format!("car {driver_number}'s lap {}: laps count from 1", document.lap_number));
        }
        let sectors = [&document.segments_sector_1, &document.segments_sector_2, &document.segments_sector_3];
        if let Some(codes) = sectors.into_iter().flatten().find(|codes| codes.len() > self.mini_sectors_max) {
            let (count, limit) = (codes.len(), self.mini_sectors_max);
            return context.reject(format!(
                "a sector of car {driver_number}'s lap {} has {count} mini-sectors, more than {limit}",
                document.lap_number
            ));
        }
        if state.rules.is_race && state.rules.is_after_the_end(document.date_start) {
            return;
        }
        let seq = context.seq();
        state.rules.set(self);
        let qualifying_segment = state.qualifying_phase;
        let car = state.cars.entry(driver_number);
        let has_race_started = state.started_at.value().is_some();
        let Some((lap_number, document)) = car.place(document, qualifying_segment, has_race_started, seq) else { return };
        let lap = car.laps.entry(lap_number).or_insert_with(|| LapState { qualifying_segment, ..LapState::default() });
        if !lap.version.take(document.id) {
            return;
        }
        let mut times = times(&document);
        for (time, late) in times.iter_mut().zip(lap.late) {
            *time = time.filter(|time| Some(*time) != late);
        }
        let began = document.date_start.or(lap.started_at.value().copied());
        let is_late = times[SECTOR_1].is_none() && began.is_some_and(|began| context.now().since(began) < self.late_time_ms * 1_000);
        let previous_has_changed = is_late && car.move_late_times(lap_number, &mut times, seq);
        let Some(lap) = car.laps.get_mut(&lap_number) else { return };
        // Lap 1 of a race begins with the race, whatever its document says.
        let (start, start_cause) = match (lap_number, state.started_at.value(), state.started_at.cause()) {
            (1, Some(start), Some(cause)) => (Some(*start), cause),
            _ => (document.date_start, seq),
        };
        let has_changed = lap.started_at.take(start, start_cause) | lap.fold(&document, times, seq);
        let has_changed = car.delete_pending(lap_number) | car.see_pit_lane(lap_number, &state.rules) | has_changed;
        let lap_before = lap_number - 1;
        let previous_has_changed = car.delete_pending(lap_before) | car.see_pit_lane(lap_before, &state.rules) | previous_has_changed;
        // The lap before may have got a late time, and lap 1 ends when lap 2 begins.
        state.say(driver_number, lap_before, previous_has_changed, context);
        state.say(driver_number, lap_number, has_changed, context);
    }
}

impl Handle<TrackStatus> for LapsOperator {
    fn apply(&self, state: &mut State, status: &TrackStatus, context: &mut Context<'_, facts::Lap>) {
        state.rules.is_race |= status.lap_number.is_some();
        state.rules.take_status(status, context.event_time());
        match status.session {
            SessionState::Started => {
                state.begin_segment(status.qualifying_phase);
                state.rules.finished_at = None;
                // A start later than lap 1 is a restart that a late join saw. A restart on lap 1 leaves the lap running.
                let is_first_start = state.started_at.value().is_none() && status.lap_number.is_some_and(|lap| lap <= 1);
                if is_first_start {
                    state.begin_race(context);
                }
            }
            SessionState::Finished => {
                state.rules.finished_at.get_or_insert(context.event_time());
            }
            SessionState::Inactive | SessionState::Aborted => {}
        }
    }
}

impl Handle<RaceControlMessage> for LapsOperator {
    fn apply(&self, state: &mut State, message: &RaceControlMessage, context: &mut Context<'_, facts::Lap>) {
        let is_deleted = match message.kind {
            MessageKind::LapDeleted => true,
            MessageKind::LapReinstated => false,
            _ => return,
        };
        state.rules.set(self);
        for &driver_number in &message.driver_numbers {
            let deletion = Deletion {
                time_ms: message.concerned_time_ms,
                lap_number: message.concerned_lap,
                happened_at: message.concerned_at,
                reason: message.reason.clone(),
                cause: context.seq(),
            };
            let car = state.cars.entry(driver_number);
            match car.find(&deletion) {
                Some(lap_number) => {
                    let has_changed = car.set_deleted(lap_number, is_deleted, &deletion, &state.rules);
                    state.say(driver_number, lap_number, has_changed, context);
                }
                None => car.wait(deletion, is_deleted),
            }
        }
    }
}

impl Handle<Pit> for LapsOperator {
    fn apply(&self, state: &mut State, pass: &Pit, context: &mut Context<'_, facts::Lap>) {
        state.rules.set(self);
        let Some(car) = state.cars.get_mut(pass.driver_number) else { return };
        if car.end_in_pit_lane(pass.lap_number, context.seq(), &state.rules) {
            state.say(pass.driver_number, pass.lap_number, false, context);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::race_control::RaceControlOperator;
    use crate::testing::pit;
    use crate::testing::{Bench, at_ms, lap, race_control};
    use crate::track_status::TrackStatusOperator;
    use pitwall_schemas::raw::{RaceControl, Sample};
    use pitwall_schemas::shared::FactHeader;
    use proptest::prelude::*;

    fn bench() -> Bench {
        Bench::new(|graph| {
            let track_status = graph.publish(TrackStatusOperator, |inputs| inputs.samples::<RaceControl>());
            let race_control = graph.publish(RaceControlOperator::default(), |inputs| inputs.samples::<RaceControl>());
            graph.publish(LapsOperator::default(), |inputs| {
                inputs.samples::<Lap>().samples::<Pit>().stream(track_status).stream(race_control)
            });
        })
    }

    /// A version of a lap: when it began, in ms, and its times in s.
    fn version(driver_number: i32, lap_number: i32, start: i64, times: [Option<f64>; 4]) -> Lap {
        let [duration_sector_1, duration_sector_2, duration_sector_3, lap_duration] = times;
        let date_start = Some(at_ms(start));
        Lap { date_start, duration_sector_1, duration_sector_2, duration_sector_3, lap_duration, ..lap(driver_number, lap_number) }
    }

    /// A whole lap with sectors of 25 s, 27 s and what is left.
    fn whole(driver_number: i32, lap_number: i32, start: i64, lap: f64) -> Lap {
        version(driver_number, lap_number, start, [Some(25.0), Some(27.0), Some(lap - 52.0), Some(lap)])
    }

    fn session(ms: i64, words: &str, lap_number: Option<i32>, qualifying_phase: Option<i32>) -> Sample {
        let category = Some("SessionStatus".into());
        Sample::from(RaceControl { category, lap_number, qualifying_phase, ..race_control(at_ms(ms), words) })
    }

    fn race_starts(ms: i64) -> Sample {
        session(ms, "SESSION STARTED", Some(1), None)
    }

    fn play(samples: impl IntoIterator<Item = (i64, Sample)>) -> Bench {
        let mut bench = bench();
        for (ms, sample) in samples {
            bench.arrive(ms, sample);
        }
        bench
    }

    fn newest(bench: &Bench, driver_number: i32, lap_number: i32) -> (FactHeader, facts::Lap) {
        let is_meant = |fact: &facts::Lap| (fact.driver_number, fact.lap_number) == (driver_number, lap_number);
        bench.facts::<facts::Lap>().into_iter().rfind(|(_, fact)| is_meant(fact)).unwrap()
    }

    #[test]
    fn each_change_corrects_what_was_said_of_that_lap_and_names_the_versions_that_hold() {
        let bench = play([
            (0, Sample::from(version(1, 5, 0, [None; 4]))),
            (1, Sample::from(version(4, 5, 0, [None; 4]))),
            (2, Sample::from(version(1, 5, 0, [Some(25.1), None, None, None]))),
            (3, Sample::from(version(1, 5, 0, [Some(25.0), Some(27.0), None, None]))),
        ]);
        let (header, fact) = newest(&bench, 1, 5);
        assert_eq!((header.revision, header.supersedes), (2, Some(2)));
        assert_eq!(header.causes, [0, 3], "the first sector 1 time was replaced");
        assert_eq!((fact.sector_1_ms, fact.sector_2_ms, fact.is_complete), (Some(25_000), Some(27_000), false));
    }

    #[test]
    fn a_version_sent_again_says_nothing_and_a_stale_one_neither() {
        let taken = Lap { id: Some(7), ..version(1, 5, 0, [Some(25.0), None, None, None]) };
        let stale = Lap { id: Some(6), ..version(1, 5, 0, [Some(24.0), None, None, None]) };
        let bench = play([(25_000, taken.clone()), (25_001, taken), (25_002, stale)].map(|(ms, lap)| (ms, Sample::from(lap))));
        assert_eq!(bench.facts::<facts::Lap>().len(), 1);
        assert!(bench.rejections().is_empty());
    }

    #[test]
    fn a_null_in_a_newer_version_erases_nothing() {
        let bench = play([
            (25_000, Sample::from(version(1, 5, 0, [Some(25.0), None, None, None]))),
            (52_000, Sample::from(version(1, 5, 0, [None, Some(27.0), None, None]))),
        ]);
        assert_eq!(newest(&bench, 1, 5).1.sector_1_ms, Some(25_000));
    }

    #[test]
    fn a_lap_time_that_was_not_sent_is_the_sum_of_its_sectors_until_it_is() {
        let mut bench = play([(80_000, Sample::from(version(1, 5, 0, [Some(25.001), Some(27.002), Some(23.003), None])))]);
        let (_, fact) = newest(&bench, 1, 5);
        assert_eq!((fact.lap_ms, fact.lap_inferred, fact.is_complete), (Some(75_006), true, true));
        bench.arrive(80_100, Sample::from(version(1, 5, 0, [Some(25.001), Some(27.002), Some(23.003), Some(75.007)])));
        let (_, fact) = newest(&bench, 1, 5);
        assert_eq!((fact.lap_ms, fact.lap_inferred), (Some(75_007), false));
    }

    /// Case 2.
    #[test]
    fn lap_1_of_a_race_lasts_from_the_session_start_to_lap_2_and_is_marked_as_inferred() {
        let mut bench = play([
            (200, race_starts(0)),
            (300, Sample::from(version(1, 1, 100, [None; 4]))),
            (82_000, Sample::from(version(1, 1, 100, [None, Some(27.0), Some(23.0), None]))),
        ]);
        assert_eq!(newest(&bench, 1, 1).1.lap_ms, None);
        bench.arrive(82_100, Sample::from(version(1, 2, 81_500, [None; 4])));
        let (header, fact) = newest(&bench, 1, 1);
        assert_eq!((fact.started_at, fact.lap_ms, fact.sector_1_ms), (Some(at_ms(0)), Some(81_500), Some(31_500)));
        assert_eq!((fact.lap_inferred, fact.sector_1_inferred), (true, true));
        assert_eq!((fact.lap_mark, fact.sector_1_mark, fact.sector_2_mark), (Mark::Yellow, Mark::Yellow, Mark::Purple));
        // The session start, both versions of lap 1, and lap 2's.
        assert_eq!(header.causes.len(), 4, "{:?}", header.causes);
        assert_eq!(header.causes[3], newest(&bench, 1, 2).0.causes[0]);
    }

    #[test]
    fn lap_1_without_a_session_start_lasts_from_its_documents_start() {
        let bench = play([
            (0, session(0, "SESSION STARTED", Some(2), None)),
            (300, Sample::from(version(1, 1, 100, [None; 4]))),
            (82_100, Sample::from(version(1, 2, 81_500, [None; 4]))),
        ]);
        assert_eq!(newest(&bench, 1, 1).1.lap_ms, Some(81_400));
    }

    /// Case 9: at Monaco in 2024 it was over half an hour.
    #[test]
    fn lap_1_with_a_red_flag_lasts_until_lap_2_however_long() {
        let bench = play([
            (0, race_starts(0)),
            (100, Sample::from(version(1, 1, 0, [None; 4]))),
            (60_000, session(60_000, "SESSION ABORTED", Some(1), None)),
            (2_400_000, session(2_400_000, "SESSION STARTED", Some(1), None)),
            (2_500_000, Sample::from(version(1, 2, 2_490_000, [None; 4]))),
        ]);
        assert_eq!(newest(&bench, 1, 1).1.lap_ms, Some(2_490_000));
    }

    #[test]
    fn lap_1_of_qualifying_is_not_inferred() {
        let bench = play([
            (0, session(0, "SESSION STARTED", None, Some(1))),
            (300_000, Sample::from(Lap { is_pit_out_lap: true, ..version(1, 1, 299_000, [None; 4]) })),
            (400_000, Sample::from(version(1, 2, 399_000, [None; 4]))),
        ]);
        assert_eq!(newest(&bench, 1, 1).1.lap_ms, None);
    }

    #[test]
    fn a_race_start_learned_late_begins_lap_1_of_every_car() {
        let bench = play([
            (0, Sample::from(version(1, 1, 100, [None; 4]))),
            (0, Sample::from(version(4, 1, 120, [None; 4]))),
            (90_000, Sample::from(version(1, 2, 80_000, [None; 4]))),
            (91_000, race_starts(0)),
        ]);
        let (header, fact) = newest(&bench, 1, 1);
        assert_eq!((fact.lap_ms, header.revision), (Some(80_000), 1));
        assert_eq!(newest(&bench, 4, 1).1.started_at, Some(at_ms(0)));
    }

    /// Case 1.
    #[test]
    fn late_sector_three_belongs_to_the_previous_lap() {
        let bench = play([
            (53_000, Sample::from(version(1, 5, 0, [Some(25.0), Some(27.0), None, None]))),
            (77_000, Sample::from(version(1, 6, 75_000, [None, None, Some(23.0), None]))),
            // The feed's document keeps the time where it does not belong, until the lap's own comes.
            (100_000, Sample::from(version(1, 6, 75_000, [Some(25.0), None, Some(23.0), None]))),
        ]);
        let (header, fact) = newest(&bench, 1, 5);
        assert_eq!((fact.sector_3_ms, fact.lap_ms, fact.lap_inferred), (Some(23_000), Some(75_000), true));
        assert_eq!(header.revision, 1);
        let (_, fact) = newest(&bench, 1, 6);
        assert_eq!((fact.sector_1_ms, fact.sector_3_ms), (Some(25_000), None));
    }

    #[test]
    fn late_lap_time_belongs_to_the_previous_lap_even_when_it_is_there_already() {
        let bench = play([
            (75_500, Sample::from(whole(1, 5, 0, 75.0))),
            (77_000, Sample::from(version(1, 6, 75_000, [None, None, None, Some(75.0)]))),
        ]);
        // Its one revision says that it is accurate, now that the next lap has begun where it ended.
        let (header, fact) = newest(&bench, 1, 5);
        assert_eq!((header.revision, fact.lap_ms, fact.is_accurate), (1, Some(75_000), true));
        assert_eq!(newest(&bench, 1, 6).1.lap_ms, None);
    }

    #[test]
    fn a_time_known_ten_seconds_into_a_lap_is_that_laps_own() {
        let bench = play([
            (53_000, Sample::from(version(1, 5, 0, [Some(25.0), Some(27.0), None, None]))),
            (85_000, Sample::from(version(1, 6, 75_000, [None, None, Some(23.0), None]))),
        ]);
        assert_eq!(newest(&bench, 1, 5).1.sector_3_ms, None);
        assert_eq!(newest(&bench, 1, 6).1.sector_3_ms, Some(23_000));
    }

    #[test]
    fn a_late_time_of_a_lap_that_a_late_join_never_saw_goes_nowhere() {
        let bench = play([(77_000, Sample::from(version(1, 6, 75_000, [None, None, Some(23.0), None])))]);
        assert_eq!(bench.facts::<facts::Lap>().len(), 1);
        assert_eq!(newest(&bench, 1, 6).1.sector_3_ms, None);
    }

    #[test]
    fn marks_tell_how_a_time_compared_when_it_was_set() {
        let bench = play([
            (80_000, Sample::from(whole(1, 2, 0, 76.0))),
            (80_001, Sample::from(whole(4, 2, 0, 77.0))),
            (160_000, Sample::from(whole(4, 3, 80_000, 76.5))),
            (160_001, Sample::from(whole(1, 3, 80_000, 76.0))),
            (240_000, Sample::from(whole(4, 4, 160_000, 75.0))),
        ]);
        let marks = [(1, 2), (4, 2), (4, 3), (1, 3), (4, 4)].map(|(driver, lap)| newest(&bench, driver, lap).1.lap_mark);
        assert_eq!(marks, [Mark::Purple, Mark::Green, Mark::Green, Mark::Yellow, Mark::Purple]);
    }

    #[test]
    fn lap_1_of_a_race_is_never_the_best() {
        let bench =
            play([(0, race_starts(0)), (80_000, Sample::from(whole(1, 1, 0, 70.0))), (160_000, Sample::from(whole(1, 2, 80_000, 76.0)))]);
        let (_, fact) = newest(&bench, 1, 1);
        assert_eq!((fact.lap_mark, fact.lap_inferred), (Mark::Yellow, true));
        assert_eq!(newest(&bench, 1, 2).1.lap_mark, Mark::Purple);
    }

    #[test]
    fn a_best_time_taken_back_gives_way_to_the_next_best() {
        let bench = play([
            (80_000, Sample::from(whole(1, 2, 0, 76.0))),
            (160_000, Sample::from(whole(1, 3, 80_000, 74.0))),
            (160_100, Sample::from(whole(1, 3, 80_000, 80.0))),
            (240_000, Sample::from(whole(1, 4, 160_000, 75.0))),
        ]);
        assert_eq!([3, 4].map(|lap| newest(&bench, 1, lap).1.lap_mark), [Mark::Yellow, Mark::Purple]);
    }

    #[test]
    fn bests_start_afresh_with_each_segment_of_qualifying() {
        let bench = play([
            (0, session(0, "SESSION STARTED", None, Some(1))),
            (80_000, Sample::from(whole(1, 2, 0, 76.0))),
            (90_000, session(90_000, "SESSION FINISHED", None, Some(1))),
            (100_000, session(100_000, "SESSION STARTED", None, Some(2))),
            // Known of before the second segment: of the first.
            (100_100, Sample::from(whole(1, 2, 0, 75.9))),
            (180_000, Sample::from(whole(1, 3, 101_000, 77.0))),
        ]);
        assert_eq!(newest(&bench, 1, 3).1.lap_mark, Mark::Purple);
    }

    #[test]
    fn a_qualifying_lap_finished_after_the_flag_counts_and_one_begun_after_it_does_not() {
        let bench = play([
            (0, session(0, "SESSION STARTED", None, Some(3))),
            (50_000, session(50_000, "SESSION FINISHED", None, Some(3))),
            (80_000, Sample::from(whole(1, 2, 4_000, 76.0))),
            (160_000, Sample::from(whole(1, 3, 80_000, 75.0))),
        ]);
        assert_eq!([2, 3].map(|lap| newest(&bench, 1, lap).1.lap_mark), [Mark::Purple, Mark::Yellow]);
    }

    #[test]
    fn a_pit_out_lap_can_be_the_best_in_a_race_only() {
        let pit_out = |start| Lap { is_pit_out_lap: true, ..whole(1, 2, start, 95.0) };
        let race = play([(0, race_starts(0)), (180_000, Sample::from(pit_out(80_000)))]);
        assert_eq!(newest(&race, 1, 2).1.lap_mark, Mark::Purple);
        let qualifying = play([(0, session(0, "SESSION STARTED", None, Some(1))), (180_000, Sample::from(pit_out(80_000)))]);
        assert_eq!(newest(&qualifying, 1, 2).1.lap_mark, Mark::Yellow);
    }

    #[test]
    fn a_race_lap_begun_after_the_chequered_flag_is_dropped() {
        let bench = play([
            (0, race_starts(0)),
            (100_000, session(100_000, "SESSION FINISHED", Some(72), None)),
            (100_500, Sample::from(version(1, 73, 100_400, [None; 4]))),
            (110_000, Sample::from(whole(4, 72, 34_000, 76.0))),
        ]);
        let laps: Vec<_> = bench.facts::<facts::Lap>().iter().map(|(_, fact)| (fact.driver_number, fact.lap_number)).collect();
        assert_eq!(laps, [(4, 72)]);
    }

    /// Race control's words at `ms`.
    fn words(ms: i64, words: &str) -> (i64, Sample) {
        (ms, Sample::from(race_control(at_ms(ms), words)))
    }

    fn personal_bests(bench: &Bench, driver_number: i32) -> Vec<(i32, bool)> {
        let of_car = bench.facts::<facts::Lap>().into_iter().filter(|(_, fact)| fact.driver_number == driver_number);
        of_car.map(|(_, fact)| (fact.lap_number, fact.is_personal_best)).collect()
    }

    /// Cases 3 and 4.
    #[test]
    fn the_personal_best_goes_with_a_deleted_lap_and_returns_with_it() {
        let mut bench = play([
            (80_000, Sample::from(whole(4, 2, 0, 76.0))),
            (80_001, Sample::from(whole(44, 3, 0, 75.0))),
            (160_000, Sample::from(whole(4, 3, 80_000, 75.0))),
            words(165_000, "CAR 4 (NOR) TIME 1:15.000 DELETED - TRACK LIMITS AT TURN 18 LAP 3 16:03:19"),
        ]);
        // Lap 3 takes it from lap 2, and lap 2 gets it back.
        assert_eq!(personal_bests(&bench, 4), [(2, true), (2, false), (3, true), (3, false), (2, true)]);
        let (header, fact) = newest(&bench, 4, 3);
        assert_eq!((fact.is_deleted, fact.lap_ms, fact.lap_mark), (true, Some(75_000), Mark::Yellow));
        assert_eq!(fact.deleted_reason.as_deref(), Some("TRACK LIMITS AT TURN 18 LAP 3 16:03:19"));
        assert_eq!(header.revision, 1);
        assert!(header.supersedes.is_some());
        assert!(!newest(&bench, 44, 3).1.is_deleted, "car 44's lap 3 has the same number and time");

        bench.arrive(170_000, words(170_000, "CAR 4 (NOR) TIME 1:15.000 REINSTATED").1);
        assert_eq!(personal_bests(&bench, 4)[5..], [(2, false), (3, true)]);
        let (_, fact) = newest(&bench, 4, 3);
        assert_eq!((fact.is_deleted, fact.deleted_reason.as_deref(), fact.lap_mark), (false, None, Mark::Green));
    }

    #[test]
    fn a_lap_deleted_before_its_time_is_known_is_never_the_best() {
        let bench = play([
            words(75_000, "CAR 4 (NOR) TIME 1:15.000 DELETED - TRACK LIMITS AT TURN 18 LAP 2 16:03:19"),
            (80_000, Sample::from(whole(4, 2, 0, 75.0))),
        ]);
        let (header, fact) = newest(&bench, 4, 2);
        assert_eq!((fact.is_deleted, fact.is_personal_best, fact.lap_mark), (true, false, Mark::Yellow));
        assert_eq!(header.causes.len(), 2, "the document and race control's message");
    }

    #[test]
    fn a_deletion_whose_time_no_lap_has_deletes_nothing() {
        let bench = play([
            (80_000, Sample::from(whole(4, 2, 0, 75.0))),
            words(85_000, "CAR 4 (NOR) TIME 1:15.001 DELETED - TRACK LIMITS AT TURN 18 LAP 2 16:03:19"),
        ]);
        assert!(bench.facts::<facts::Lap>().iter().all(|(_, fact)| !fact.is_deleted));
    }

    #[test]
    fn a_lap_deleted_without_a_time_is_the_one_under_way_then_and_without_a_moment_the_one_of_that_number() {
        let deletes = |words: &str| {
            let laps = [(1, whole(4, 5, 0, 80.0)), (80_000, whole(4, 6, 80_000, 80.0)), (160_000, whole(4, 7, 160_000, 80.0))];
            let mut bench = play(laps.map(|(ms, lap)| (ms, Sample::from(lap))));
            bench.arrive(300_000, Sample::from(race_control(at_ms(300_000), words)));
            [5, 6, 7].map(|lap| newest(&bench, 4, lap).1.is_deleted)
        };
        // Two hours ahead of UTC, 3 minutes before the message, and race control's count is one ahead.
        assert_eq!(deletes("CAR 4 (NOR) LAP DELETED - TRACK LIMITS AT TURN 6 LAP 7 15:02:00 (PIT)"), [false, true, false]);
        assert_eq!(deletes("CAR 4 (NOR) LAP DELETED - TRACK LIMITS AT TURN 6 LAP 7 18:32:40 (PIT)"), [false, false, true]);
        assert_eq!(deletes("CAR 4 (NOR) LAP DELETED - TRACK LIMITS AT TURN 6 LAP 5 (PIT)"), [true, false, false]);
    }

    #[test]
    fn of_two_laps_with_the_deleted_time_the_one_of_that_moment_is_meant() {
        let bench = play([
            (80_000, Sample::from(whole(4, 6, 0, 80.0))),
            (160_000, Sample::from(whole(4, 7, 80_000, 80.0))),
            words(170_000, "CAR 4 (NOR) TIME 1:20.000 DELETED - TRACK LIMITS AT TURN 6 LAP 7 15:01:10"),
        ]);
        assert_eq!([6, 7].map(|lap| newest(&bench, 4, lap).1.is_deleted), [true, false]);
    }

    #[test]
    fn outside_races_a_lap_ended_in_the_pit_lane_is_no_best() {
        let segments_sector_3 = Some(vec![Some(2_048), Some(2_064)]);
        let told_by_segments = Lap { segments_sector_3, ..whole(1, 3, 80_000, 70.0) };
        let told_by_next = [whole(1, 3, 80_000, 70.0), Lap { is_pit_out_lap: true, ..version(1, 4, 150_000, [None; 4]) }];
        for third_lap in [vec![told_by_segments], told_by_next.to_vec()] {
            for (is_race, expected) in [(false, [true, false]), (true, [false, true])] {
                let start = if is_race { race_starts(0) } else { session(0, "SESSION STARTED", None, Some(1)) };
                let mut bench = play([(0, start), (80_000, Sample::from(whole(1, 2, 0, 76.0)))]);
                for (ms, version) in (150_000..).zip(third_lap.clone()) {
                    bench.arrive(ms, Sample::from(version));
                }
                let laps = [2, 3].map(|lap| newest(&bench, 1, lap).1);
                assert_eq!(laps.each_ref().map(|lap| lap.is_personal_best), expected);
                assert!(laps[1].is_pit_in_lap);
            }
        }
    }

    #[test]
    fn a_join_in_mid_session_does_not_call_the_lap_under_way_the_first_nor_take_the_snapshot_for_it() {
        let joined = |times| Lap { date_start: None, ..version(1, 1, 0, times) };
        // The snapshot holds the time of the lap before, and sectors of both.
        let snapshot = joined([Some(25.0), Some(28.0), Some(24.0), Some(81.0)]);
        let bench = play([
            (0, Sample::from(snapshot.clone())),
            (20_000, Sample::from(joined([Some(25.0), Some(27.0), Some(24.0), Some(81.0)]))),
            (45_000, Sample::from(version(1, 48, 45_000, [None; 4]))),
            // The lap before is still called 1.
            (45_100, Sample::from(joined([Some(25.0), Some(27.0), Some(25.0), Some(80.0)]))),
        ]);
        let said: Vec<_> =
            bench.facts::<facts::Lap>().into_iter().map(|(_, fact)| (fact.lap_number, fact.sector_2_ms, fact.lap_ms)).collect();
        assert_eq!(said, [(47, Some(27_000), None), (48, None, None), (47, Some(27_000), Some(80_000))]);
        let later_first = play([(0, Sample::from(version(1, 8, 0, [None; 4]))), (1, Sample::from(snapshot))]);
        assert_eq!(later_first.facts::<facts::Lap>().len(), 1, "of lap 7 nothing is known");
    }

    #[test]
    fn a_first_lap_without_a_start_is_the_first_when_it_gets_one_the_second_follows_or_the_race_starts() {
        let first = || Sample::from(Lap { date_start: None, ..version(1, 1, 0, [None; 4]) });
        let laps = |bench: &Bench| bench.facts::<facts::Lap>().iter().map(|(_, fact)| fact.lap_number).collect::<Vec<_>>();
        assert_eq!(laps(&play([(0, first()), (80_000, Sample::from(whole(1, 2, 80_000, 76.0)))])), [1, 2]);
        assert_eq!(laps(&play([(0, first()), (1, Sample::from(version(1, 1, 1, [None; 4])))])), [1]);
        assert_eq!(laps(&play([(0, race_starts(0)), (1, first())])), [1]);
        assert!(laps(&play([(0, session(0, "SESSION STARTED", None, Some(1))), (1, first())])).is_empty());
        assert_eq!(laps(&play([(0, first()), (1, race_starts(1))])), [1]);
    }

    #[test]
    fn a_lap_of_an_earlier_segment_deleted_later_gives_that_segments_best_to_another() {
        let bench = play([
            (0, session(0, "SESSION STARTED", None, Some(1))),
            (80_000, Sample::from(whole(1, 2, 0, 76.0))),
            (160_000, Sample::from(whole(1, 3, 80_000, 75.0))),
            (200_000, session(200_000, "SESSION STARTED", None, Some(2))),
            (290_000, Sample::from(whole(1, 4, 210_000, 77.0))),
            words(300_000, "CAR 1 (VER) TIME 1:15.000 DELETED - TRACK LIMITS AT TURN 18 LAP 3 16:03:19"),
        ]);
        let laps = [2, 3, 4].map(|lap| newest(&bench, 1, lap).1);
        let best = laps.map(|lap| (lap.qualifying_segment, lap.is_personal_best));
        assert_eq!(best, [(Some(1), true), (Some(1), false), (Some(2), true)]);
    }

    /// Case 10.
    #[test]
    fn the_lap_of_a_restart_is_interrupted_and_never_the_best() {
        let bench = play([
            (0, race_starts(0)),
            (160_000, Sample::from(whole(1, 2, 80_000, 76.0))),
            (170_000, session(170_000, "SESSION ABORTED", Some(3), None)),
            // Begun while the race stood still, in the pit lane or on the grid, and timed from the restart.
            (200_000, Sample::from(version(1, 4, 190_000, [None; 4]))),
            (2_000_000, session(2_000_000, "SESSION STARTED", Some(4), None)),
            (2_075_000, Sample::from(whole(1, 4, 190_000, 70.0))),
            (2_150_000, Sample::from(whole(1, 5, 2_075_000, 75.0))),
        ]);
        let (_, restart) = newest(&bench, 1, 4);
        assert_eq!((restart.is_interrupted, restart.lap_mark, restart.is_personal_best), (true, Mark::Yellow, false));
        let (_, next) = newest(&bench, 1, 5);
        assert_eq!((next.is_interrupted, next.lap_mark, next.is_personal_best), (false, Mark::Purple, true));
    }

    #[test]
    fn the_lap_before_a_pit_out_lap_ended_in_the_pit_lane_and_so_did_the_one_that_pit_names() {
        let bench = play([
            (80_000, Sample::from(whole(1, 2, 0, 80.0))),
            (80_100, Sample::from(Lap { is_pit_out_lap: true, ..version(1, 3, 80_000, [None; 4]) })),
            (81_000, Sample::from(whole(4, 2, 0, 80.0))),
            (82_000, Sample::from(pit(4, 2, at_ms(82_000)))),
        ]);
        assert!(newest(&bench, 1, 2).1.is_pit_in_lap && newest(&bench, 4, 2).1.is_pit_in_lap);
        assert!(!newest(&bench, 1, 3).1.is_pit_in_lap);
    }

    /// Whether lap 2 of a race turns out accurate, with lap 3 begun `gap_ms` after its end, and with `change` made to it.
    fn is_accurate(gap_ms: i64, change: impl FnOnce(&mut Lap), more: Option<Sample>) -> bool {
        let mut bench = play([(0, race_starts(0))]);
        if let Some(sample) = more {
            bench.arrive(90_000, sample);
        }
        let mut lap = whole(1, 2, 80_000, 76.0);
        change(&mut lap);
        bench.arrive(156_100, Sample::from(lap));
        assert!(!newest(&bench, 1, 2).1.is_accurate, "the next lap has not begun");
        bench.arrive(157_000, Sample::from(version(1, 3, 156_000 + gap_ms, [None; 4])));
        newest(&bench, 1, 2).1.is_accurate
    }

    #[test]
    fn a_lap_is_accurate_when_nothing_speaks_against_it() {
        assert!(is_accurate(0, |_| {}, None));
        assert!(is_accurate(250, |_| {}, None));
        assert!(!is_accurate(251, |_| {}, None), "the next lap begins elsewhere");
        assert!(is_accurate(0, |lap| lap.duration_sector_3 = Some(24.003), None));
        assert!(!is_accurate(0, |lap| lap.duration_sector_3 = Some(24.004), None), "sectors that add up to another time");
        assert!(!is_accurate(0, |lap| lap.lap_duration = None, None), "an inferred time");
        assert!(!is_accurate(0, |lap| lap.is_pit_out_lap = true, None), "a pit-out lap");
        let (category, lap_number) = (Some("SafetyCar".into()), Some(2));
        let safety_car = RaceControl { category, lap_number, ..race_control(at_ms(90_000), "SAFETY CAR DEPLOYED") };
        assert!(!is_accurate(0, |_| {}, Some(Sample::from(safety_car))), "under safety car");
    }

    #[test]
    fn the_lap_after_one_under_the_safety_car_is_not_accurate_and_the_next_is() {
        let mut bench = play([(0, race_starts(0))]);
        for (ms, words) in [(90_000, "SAFETY CAR DEPLOYED"), (150_000, "SAFETY CAR IN THIS LAP")] {
            let (category, lap_number) = (Some("SafetyCar".into()), Some(2));
            bench.arrive(ms, Sample::from(RaceControl { category, lap_number, ..race_control(at_ms(ms), words) }));
        }
        let clear =
            RaceControl { category: Some("Flag".into()), flag: Some("CLEAR".into()), ..race_control(at_ms(155_000), "TRACK CLEAR") };
        bench.arrive(155_000, Sample::from(clear));
        for number in 2..=5 {
            let start = i64::from(number - 1) * 80_000;
            bench.arrive(start + 80_000, Sample::from(whole(1, number, start, 80.0)));
        }
        assert_eq!([2, 3, 4].map(|lap| newest(&bench, 1, lap).1.is_accurate), [false, false, true]);
    }

    #[test]
    fn laps_count_from_1() {
        let bench = play([(0, Sample::from(lap(1, 0)))]);
        assert_eq!(bench.rejections(), ["car 1's lap 0: laps count from 1"]);
        assert!(bench.facts::<facts::Lap>().is_empty());
    }

    #[test]
    fn mini_sectors_without_a_code_are_0_and_a_duration_of_0_is_no_time() {
        let document = Lap { segments_sector_1: Some(vec![None, Some(2_049)]), ..version(1, 5, 0, [Some(0.0), None, None, None]) };
        let bench = play([(25_000, Sample::from(document))]);
        let (_, fact) = newest(&bench, 1, 5);
        assert_eq!((fact.segments_1, fact.segments_2, fact.sector_1_ms), (vec![0, 2_049], vec![], None));
    }

    #[test]
    fn a_sector_of_more_mini_sectors_than_the_limit_is_rejected() {
        let document = Lap { segments_sector_2: Some(vec![Some(2_049); 65]), ..version(1, 5, 0, [None; 4]) };
        let bench = play([(25_000, Sample::from(document))]);
        assert_eq!(bench.rejections(), ["a sector of car 1's lap 5 has 65 mini-sectors, more than 64"]);
        assert!(bench.facts::<facts::Lap>().is_empty());
    }

    /// A race of some cars as the feed tells it: four versions of each lap, in order of arrival.
    fn race(lap_ms: &[Vec<[i32; 3]>]) -> Vec<(i64, Lap)> {
        let mut versions = Vec::new();
        for (car, laps) in lap_ms.iter().enumerate() {
            let mut start = 0;
            for (number, sectors) in laps.iter().enumerate() {
                let mut times = [None; 4];
                let mut now = start;
                let say = |now: i64, times| (now + 300, version(car as i32 + 1, number as i32 + 1, start, times));
                versions.push(say(now, times));
                for (index, sector) in sectors.iter().enumerate() {
                    now += i64::from(*sector);
                    times[index] = Some(f64::from(*sector) / 1_000.0);
                    if index == SECTOR_3 {
                        times[LAP] = Some(f64::from(sectors.iter().sum::<i32>()) / 1_000.0);
                    }
                    versions.push(say(now, times));
                }
                start = now;
            }
        }
        versions.sort_by_key(|(arrival, _)| *arrival);
        for (id, (_, lap)) in versions.iter_mut().enumerate() {
            lap.id = Some(id as i64);
        }
        versions
    }

    fn any_race() -> impl Strategy<Value = Vec<(i64, Lap)>> {
        let sectors = [17_000..40_000, 17_000..40_000, 17_000..40_000];
        prop::collection::vec(prop::collection::vec(sectors, 1..8), 1..5).prop_map(|laps| race(&laps))
    }

    fn bodies(bench: &Bench) -> Vec<facts::Lap> {
        bench.facts::<facts::Lap>().into_iter().map(|(_, fact)| fact).collect()
    }

    proptest! {
        #[test]
        fn sectors_add_up_to_the_lap_and_first_statements_rise_in_number(versions in any_race()) {
            let bench = play(versions.into_iter().map(|(ms, lap)| (ms, Sample::from(lap))));
            let mut last = [0; 5];
            for (header, fact) in bench.facts::<facts::Lap>() {
                if let (Some(lap), [Some(one), Some(two), Some(three)]) = (fact.lap_ms, [fact.sector_1_ms, fact.sector_2_ms, fact.sector_3_ms]) {
                    prop_assert_eq!(one + two + three, lap);
                }
                if header.revision == 0 {
                    let last = &mut last[fact.driver_number as usize];
                    prop_assert_eq!(fact.lap_number, *last + 1);
                    *last = fact.lap_number;
                }
            }
        }

        /// A reconnect replays versions already taken, some of them out of date by then.
        #[test]
        fn versions_replayed_after_a_reconnect_say_nothing(versions in any_race(), from in 0_usize..100, length in 1_usize..20) {
            let arrivals = |versions: &[(i64, Lap)]| versions.iter().map(|(ms, lap)| (*ms, Sample::from(lap.clone()))).collect::<Vec<_>>();
            let undisturbed = play(arrivals(&versions));
            let from = from % versions.len();
            let replayed = versions[from.saturating_sub(length)..from].iter().map(|(_, lap)| (versions[from].0, lap.clone()));
            let disturbed: Vec<_> = versions[..from].iter().cloned().chain(replayed).chain(versions[from..].iter().cloned()).collect();
            prop_assert_eq!(bodies(&play(arrivals(&disturbed))), bodies(&undisturbed));
        }

        /// Purple times fall from one to the next, and each car's green and purple times do.
        #[test]
        fn marks_follow_the_bests(versions in any_race()) {
            let bench = play(versions.into_iter().map(|(ms, lap)| (ms, Sample::from(lap))));
            let (mut best, mut own, mut compared) = (i32::MAX, [i32::MAX; 5], std::collections::BTreeSet::new());
            for fact in bodies(&bench) {
                let Some(lap) = fact.lap_ms else { continue };
                if !compared.insert((fact.driver_number, fact.lap_number)) {
                    continue;
                }
                let own = &mut own[fact.driver_number as usize];
                let expected = if lap < best { Mark::Purple } else if lap < *own { Mark::Green } else { Mark::Yellow };
                prop_assert_eq!(fact.lap_mark, expected);
                (best, *own) = (best.min(lap), (*own).min(lap));
            }
        }
    }
}
