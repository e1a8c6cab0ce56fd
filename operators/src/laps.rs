//! Laps: versions of `laps` documents folded into one lap per car and number, with what the feed leaves out inferred and every time
//! compared; track status tells when the race started and when the session ended, race control which laps are deleted and how OpenF1's
//! numbers are off, `pit` and `stints` which laps begin or end in the pit lane, the session's document whether it is a race.
//!
//! Rules, with their source:
//! * A version with a lower `_id` than the one taken is stale and ignored; one that says nothing new is silent; a null does not erase
//!   (OpenF1 sends whole documents, in which what is known stays). A start dated well after its arrival is an error, and is not taken.
//! * Reach: a car is on no lap that it cannot have driven to since its last document, at 45 s a lap, nor in a race far beyond all others;
//!   such a document is refused (FastF1 #482). A second one that agrees with it is believed.
//! * Numbers: joined in mid-session, OpenF1's may be one too low; race control's count of the leader's laps tells. Every lap is then said
//!   again by its own number, and what was said by a number that no lap has is taken back.
//! * Lap time: as sent, else the sum of the three sectors (OpenF1).
//! * Late times: a sector 2, sector 3 or lap time that stands in a document of a lap begun less than 10 s ago, without a sector 1, was
//!   driven on the lap before and goes there if it is missing there (OpenF1). If that lap is unknown, as after a late join, the time
//!   goes nowhere. Later versions repeat the time in the wrong place, so it is remembered and passed over.
//! * Repeated times: the lap time of an earlier lap, sent again for a lap without three sectors of its own at a moment at which a lap so
//!   long cannot have ended, is not taken (FastF1 #404, #612).
//! * Lap 1 of a race has no time in the feed: it begins when the session starts and ends when the car's lap 2 begins, and sector 1 is
//!   what sectors 2 and 3 leave of it (OpenF1). OpenF1's documents may carry the same inference, so a race's lap 1 is always marked as
//!   inferred, and its sector 1 is when it came together with the lap time.
//! * Starts of a race: a start seen when laps had been driven is a resumption. After an aborted start the race begins with the next one: race
//!   control says that the start was aborted, or the session was aborted without a red flag, and no lap was completed. A red flag on lap 1
//!   leaves that lap running (Monaco 2024).
//! * End of a race: laps begun after the leader's finish are none (OpenF1). The flag falls as the leader ends the race, and is dated up to
//!   some seconds later: a lap that a car is the first to begin less than 10 s before that date begins with the finish (FastF1 #713). What
//!   was said of it is taken back. Elsewhere such laps stay, but their times are no best.
//! * Marks: a time is compared with the best of the car and of the session as it becomes known; being equal is not being better.
//!   Qualifying starts afresh with each segment (FastF1). When a best time is taken back, the next best takes its place.
//! * Segments of qualifying are numbered by race control. When it does not, each start of the session after its end begins the next. A lap
//!   belongs to the one in which it began; a lap out of the pit lane to the one in which it was driven, though it may be opened before.
//! * No best, and so yellow whatever they are: the lap time and sector 1 of a race's lap 1, which begins on the grid; outside races the
//!   lap time of a pit-out lap, which counts the wait in the garage, that of the first lap on other tyres, and that of a lap ended in the
//!   pit lane, which the feed makes no best either (Imola 2024: three of car 2 after all others were deleted); in qualifying one ended
//!   after the red flag; times of laps begun after the end. In a race either is timed from line to line and compared like any other
//!   (FastF1 takes the feed's own flag).
//! * Deleted: the lap of the car that race control names, with the time that it names (FastF1); without a time, the lap under way at the
//!   moment it names, since its lap numbers may be one ahead of OpenF1's; without either, the lap of the number. A time that is not known
//!   yet is deleted when it comes. `REINSTATED` undoes it. Either corrects the lap, and the personal best goes or returns.
//! * Personal best: the shortest lap of the car that can be a best, the earlier of two equal ones; one for each segment of qualifying.
//!   Whether a lap was it when its time was set is said beside that, as FastF1 does.
//! * Interrupted: a race stood still while the lap was driven or when it began, so it holds the wait or begins in the pit lane or on the
//!   grid (FastF1 gives such laps no time). However long, it stays (FastF1 #473). In qualifying, a lap that ended after the red flag.
//! * Ended in the pit lane: the mini-sectors of sector 3 say so, the next lap is a pit-out lap, or `pit` says so. The lap after it is then
//!   a pit-out lap, also when the feed leaves out its flag (OpenF1 #145).
//! * Joined in mid-session, OpenF1 numbers the lap under way 1 and gives it no start. So a lap 1 without a start is held until it gets one,
//!   the race starts, or the car's next lap tells its number: the one before that. What its first document said is then the feed's
//!   snapshot, of laps before, and is passed over.
//! * Accurate (FastF1 `_check_lap_accuracy`): time and sectors as sent, the sectors within [`LapsOperator::sector_sum_ms_max`] of the lap,
//!   neither in nor out of the pit lane nor the first of a stint, not under more than yellow, and not the lap after one under the safety
//!   car. Two differences:
//!   FastF1's code, not its documentation, leaves out a lap that was only partly under yellow, which stays here; and it no longer
//!   compares a lap's end with the next one's start, which may be [`LapsOperator::boundary_ms_max`] apart here. OpenF1's starts are
//!   approximate, by 53 to 76 ms at the median and up to 0.2 s, so that 3 ms would leave out nearly all; beyond 0.25 s are one or two
//!   laps of a hundred, of whose times one is off.

mod car;
mod count;
mod deletions;
mod lap_state;
mod rules;
mod segments;
#[cfg(test)]
mod tests;

use pitwall_engine::Micros;
use pitwall_engine::operator::{Context, Handle, Operator};
use pitwall_schemas::facts::{self, MessageKind, RaceControlMessage, SessionState, TrackStatus};
use pitwall_schemas::raw::{Lap, Pit, Session, Stint};
use pitwall_schemas::shared::Mark;
use serde::{Deserialize, Serialize};

use self::car::{Car, Place};
use self::count::Count;
use self::deletions::Deletion;
use self::lap_state::{LAP, LapState, SECTOR_1, SECTOR_2, SECTOR_3, Told, times};
use self::rules::Rules;
use crate::by_driver::ByDriver;
use crate::known::{Known, is_ahead};

/// A start told this long after it, µs, comes with the snapshot of a join in mid-race: the lap under way then is not lap 1.
const START_TOLD_AFTER_MAX: i64 = 180 * Micros::SECOND;

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
    count: Count,
    session: Option<SessionState>,
    /// When the session started; of a race, when its lap 1 began.
    started_at: Known<Micros>,
    /// Whether lap 1 of the race has been let begin.
    has_race_begun: bool,
    /// Whether the session was aborted since, and whether race control said that the start was.
    has_been_aborted: bool,
    is_start_aborted: bool,
    cars: ByDriver<Car>,
}

impl State {
    fn driver_numbers(&self) -> Vec<i32> {
        self.cars.iter().map(|(driver_number, _)| driver_number).collect()
    }

    /// Begins the segment of qualifying if it has not begun yet: bests start afresh, and laps known of may belong to it.
    fn begin_segment(&mut self, segment: i32, at: Micros, context: &mut Context<'_, facts::Lap>) {
        let is_first = self.rules.segments.current().is_none();
        if !self.rules.segments.begin(segment, at) {
            return;
        }
        for (_, car) in self.cars.iter_mut() {
            for lap in car.laps.values_mut() {
                self.rules.mark_the_end(lap);
            }
            if !is_first {
                car.bests = Default::default();
            }
        }
        for driver_number in self.driver_numbers() {
            self.sort_into_segments(driver_number, context);
        }
    }

    /// Says the car's laps anew that belong to another segment than was said.
    fn sort_into_segments(&mut self, driver_number: i32, context: &mut Context<'_, facts::Lap>) {
        let Some(car) = self.cars.get_mut(driver_number) else { return };
        let numbers: Vec<i32> = car.laps.keys().copied().collect();
        let moved: Vec<i32> = numbers.into_iter().filter(|number| car.sort_into_segment(*number, &self.rules)).collect();
        for lap_number in moved {
            self.say(driver_number, lap_number, true, context);
        }
    }

    /// The segment that begins with a start of the session of which race control does not say which it is.
    fn next_segment(&mut self, at: Micros) -> Option<i32> {
        if self.rules.is_race() || self.rules.is_practice() {
            return None;
        }
        match (self.rules.segments.current(), self.rules.finished_at) {
            (Some(segment), Some(_)) => Some(segment + 1),
            (None, None) if self.rules.is_qualifying() && !self.has_driven_before(at, None) => Some(1),
            // Only qualifying starts again after its end.
            (None, Some(_)) => self.started_at.value().copied().map(|start| {
                self.rules.segments.begin(1, start);
                2
            }),
            _ => None,
        }
    }

    /// Whether a lap had been completed before `at`, so that what starts then is a resumption that a late join saw.
    fn has_driven_before(&self, at: Micros, lap_number: Option<i32>) -> bool {
        let has_begun = |lap: &LapState| lap.started_at.value().is_some_and(|start| *start < at);
        let is_beyond_lap_1 = |car: &Car| car.laps.range(2..).any(|(_, lap)| has_begun(lap));
        lap_number.max(self.count.highest(at)) > Some(1) || self.cars.iter().any(|(_, car)| is_beyond_lap_1(car))
    }

    /// Takes that the session has started: for the first time, or again after it was stopped.
    fn start(&mut self, status: &TrackStatus, context: &mut Context<'_, facts::Lap>) {
        let at = context.event_time();
        let is_resumption = status.message.as_deref() == Some("SESSION RESUMED");
        if self.started_at.value().is_some() && !is_resumption {
            return self.start_again(context);
        }
        (self.has_been_aborted, self.is_start_aborted) = (false, false);
        if is_resumption || self.has_driven_before(at, status.lap_number) {
            if self.rules.is_race() {
                self.rules.resume(at);
            }
            return;
        }
        self.rules.start();
        self.started_at.take(Some(at), context.seq());
        self.begin_race(context);
    }

    /// Begins the race anew if its start was aborted and no lap has been completed; any other start is a resumption.
    fn start_again(&mut self, context: &mut Context<'_, facts::Lap>) {
        let is_stopped = std::mem::take(&mut self.has_been_aborted) && !self.rules.has_been_red;
        let is_aborted = std::mem::take(&mut self.is_start_aborted) || is_stopped;
        let has_completed_lap = self.cars.iter().any(|(_, car)| car.newest() > Some(1));
        if !is_aborted || has_completed_lap || !self.rules.is_race() {
            return;
        }
        self.rules.start();
        self.started_at.take(Some(context.event_time()), context.seq());
        for (_, car) in self.cars.iter_mut() {
            car.bests = Default::default();
            if let Some(lap) = car.laps.get_mut(&1) {
                *lap = lap.begun_again(context.now());
            }
        }
        self.has_race_begun = false;
        self.begin_race(context);
    }

    /// Lets every car's lap 1 begin with the race; a late join may know laps before it knows of the start.
    fn begin_race(&mut self, context: &mut Context<'_, facts::Lap>) {
        let (Some(start), Some(cause)) = (self.started_at.value().copied(), self.started_at.cause()) else { return };
        if self.has_race_begun || !self.rules.is_race() {
            return;
        }
        self.has_race_begun = true;
        let is_snapshot = context.now().since(start) > START_TOLD_AFTER_MAX;
        for driver_number in self.driver_numbers() {
            let Some(car) = self.cars.get_mut(driver_number) else { continue };
            if !is_snapshot {
                car.settle(2, context.now());
            }
            let has_changed = car.laps.get_mut(&1).is_some_and(|lap| lap.started_at.take(Some(start), cause));
            self.say(driver_number, 1, has_changed, context);
        }
    }

    /// Says anew which laps are interrupted, now that the session stands still: race control may have told that after their ends.
    fn interrupt_laps(&mut self, context: &mut Context<'_, facts::Lap>) {
        for driver_number in self.driver_numbers() {
            let Some(car) = self.cars.get(driver_number) else { continue };
            for lap_number in self.rules.newly_interrupted(car) {
                if let Some(car) = self.cars.get_mut(driver_number) {
                    car.forget_time(lap_number, &self.rules);
                }
                self.say(driver_number, lap_number, false, context);
            }
        }
    }

    /// Takes that the session, or the segment of qualifying, has ended at `at`.
    fn finish(&mut self, at: Micros, context: &mut Context<'_, facts::Lap>) {
        if self.rules.finished_at.is_some() {
            return;
        }
        self.rules.finished_at = Some(at);
        let starts = self.cars.iter().flat_map(|(_, car)| car.laps.iter());
        let starts = starts.filter_map(|(number, lap)| lap.started_at.value().map(|start| (*start, *number)));
        let finish = starts.filter(|(start, number)| self.is_the_finish(*number, *start)).min();
        if let Some((start, _)) = finish {
            self.rules.finished_at = Some(start);
        }
        self.take_back_laps(context);
    }

    /// Whether the lap began as the leader finished: shortly before race control said so, and no car had begun a lap of that number.
    fn is_the_finish(&self, lap_number: i32, start: Micros) -> bool {
        if !self.rules.is_race() || !self.rules.may_be_the_finish(start) {
            return false;
        }
        let has_begun = |lap: &LapState| lap.started_at.value().is_some_and(|start| !self.rules.may_be_the_finish(*start));
        let known = self.cars.iter().flat_map(|(_, car)| car.laps.iter());
        let last = known.filter(|(_, lap)| has_begun(lap)).map(|(number, _)| *number).max();
        last.is_some_and(|last| last < lap_number)
    }

    /// Takes back every lap that began when the race was over.
    fn take_back_laps(&mut self, context: &mut Context<'_, facts::Lap>) {
        for driver_number in self.driver_numbers() {
            let Some(car) = self.cars.get_mut(driver_number) else { continue };
            let is_over = |lap: &LapState| lap.started_at.value().is_some_and(|start| self.rules.is_over(*start));
            let over: Vec<i32> = car.laps.iter().filter(|(_, lap)| is_over(lap)).map(|(number, _)| *number).collect();
            for &lap_number in over.iter().rev() {
                self.rules.withdraw_one(car, driver_number, lap_number, context);
                car.remove(lap_number, &self.rules);
            }
            if let Some(first) = over.first() {
                self.say(driver_number, first - 1, false, context);
            }
        }
    }

    /// Takes a document of a lap that began when the race was over, which may carry late times of the lap before.
    fn take_in_lap(&mut self, document: &Lap, start: Option<Micros>, lap_number: i32, context: &mut Context<'_, facts::Lap>) {
        let (driver_number, seq) = (document.driver_number, context.seq());
        let car = self.cars.entry(driver_number);
        let in_lap = car.in_lap.get_or_insert_with(|| (lap_number, Known::default()));
        if in_lap.0 == lap_number {
            in_lap.1.take(start, seq);
        }
        let mut times = times(document);
        let is_late = times[SECTOR_1].is_none() && self.rules.is_early(start, context.now());
        let has_changed = is_late && car.move_late_times(lap_number, &mut times, seq);
        self.say(driver_number, lap_number - 1, has_changed, context);
    }

    /// Puts all lap numbers right if race control's count tells that OpenF1's are off: the car that is the first to begin a lap is the
    /// leader, and `document` begins one at `start`.
    fn count_laps(&mut self, document: &Lap, start: Option<Micros>, context: &mut Context<'_, facts::Lap>) {
        let lap_before = document.lap_number + self.count.offset - 1;
        let Some(car) = self.cars.get(document.driver_number).filter(|_| self.count.has_joined_late) else { return };
        let begun_at = car.laps.get(&lap_before).and_then(|lap| lap.started_at.value().copied());
        let Some((begun_at, start)) = begun_at.zip(start) else { return };
        let is_leader = self.cars.iter().all(|(_, other)| other.newest() <= Some(lap_before));
        let Some(offset) = self.count.offset_told(lap_before, begun_at, start).filter(|_| is_leader) else { return };
        let change = offset - self.count.offset;
        self.count.offset = offset;
        for driver_number in self.driver_numbers() {
            self.renumber(driver_number, change, context);
        }
    }

    fn renumber(&mut self, driver_number: i32, change: i32, context: &mut Context<'_, facts::Lap>) {
        let Some(car) = self.cars.get_mut(driver_number) else { return };
        let is_left = |number: &&i32| !car.laps.contains_key(&(**number - change));
        let left: Vec<i32> = car.laps.keys().filter(is_left).copied().collect();
        for lap_number in left {
            self.rules.withdraw_one(car, driver_number, lap_number, context);
        }
        car.renumber(change, &self.rules);
        let numbers: Vec<i32> = car.laps.keys().copied().collect();
        for lap_number in numbers {
            self.say(driver_number, lap_number, true, context);
        }
    }

    /// Folds a version of a lap, and says what is new of it and of the laps beside it.
    fn take(&mut self, document: &Lap, start: Option<Micros>, lap_number: i32, context: &mut Context<'_, facts::Lap>) {
        let (driver_number, seq, now) = (document.driver_number, context.seq(), context.now());
        let car = self.cars.entry(driver_number);
        let lap = car.laps.entry(lap_number).or_insert_with(|| LapState::new(now));
        if !lap.version.take(document.id) {
            return;
        }
        let mut times = times(document);
        for (time, late) in times.iter_mut().zip(lap.late) {
            *time = time.filter(|time| Some(*time) != late);
        }
        let began = start.or(lap.started_at.value().copied());
        let is_late = times[SECTOR_1].is_none() && self.rules.is_early(began, now);
        let previous_has_changed = is_late && car.move_late_times(lap_number, &mut times, seq);
        if car.is_repeated(lap_number, &times, self.rules.late_time(), began.zip(Some(now))) {
            times[LAP] = None;
        }
        let Some(lap) = car.laps.get_mut(&lap_number) else { return };
        // Lap 1 of a race begins with the race, whatever its document says.
        let (start, start_cause) = match (lap_number, self.started_at.value(), self.started_at.cause()) {
            (1, Some(start), Some(cause)) if self.has_race_begun => (Some(*start), cause),
            _ => (start, seq),
        };
        let has_changed = lap.started_at.take(start, start_cause) | lap.fold(document, times, seq, now);
        // The lap before may have got a late time, and ends where this one begins; the one after may be known before.
        for (number, has_changed) in [(lap_number - 1, previous_has_changed), (lap_number, has_changed), (lap_number + 1, false)] {
            let Some(car) = self.cars.get_mut(driver_number) else { return };
            let is_news = car.delete_pending(number) | car.see_pit_lane(number, &self.rules) | car.sort_into_segment(number, &self.rules);
            if number <= lap_number || is_news {
                self.say(driver_number, number, has_changed | is_news, context);
            }
        }
    }

    /// Deletes or reinstates the lap of each car that the message names, or lets that wait until the lap is known.
    fn delete(&mut self, message: &RaceControlMessage, is_deleted: bool, context: &mut Context<'_, facts::Lap>) {
        for &driver_number in &message.driver_numbers {
            let deletion = Deletion {
                time_ms: message.concerned_time_ms,
                lap_number: message.concerned_lap,
                happened_at: message.concerned_at,
                reason: message.reason.clone(),
                cause: context.seq(),
            };
            let car = self.cars.entry(driver_number);
            match car.find(&deletion) {
                Some(lap_number) => {
                    let has_changed = car.set_deleted(lap_number, is_deleted, &deletion, &self.rules);
                    self.say(driver_number, lap_number, has_changed, context);
                }
                None => car.wait(deletion, is_deleted),
            }
        }
    }

    /// Says the lap if anything in it changed, with the times that changed compared; and the laps that the personal best goes from and
    /// to, so that no two laps are it at once.
    fn say(&mut self, driver_number: i32, lap_number: i32, has_changed: bool, context: &mut Context<'_, facts::Lap>) {
        let Some(car) = self.cars.get(driver_number) else { return };
        let Some(lap) = car.laps.get(&lap_number) else { return };
        let told = self.rules.tell(car, lap_number, lap);
        let has_changed = has_changed || told.times != lap.said || !lap.is_said;
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
        let Some(lap) = car.laps.get_mut(&lap_number) else { return };
        if lap.said[index] == time {
            return;
        }
        let before = std::mem::replace(&mut lap.said[index], time);
        if !self.rules.is_of_this_segment(lap) {
            // What it compared with is gone: the mark stays as it was set.
            return;
        }
        let may_be_best = car.laps.get(&lap_number).is_some_and(|lap| self.rules.may_be_best(car, lap_number, lap, index));
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

/// Whether race control says in these words that the start was aborted (sporting regulations: the cars form up again).
fn tells_of_aborted_start(words: &str) -> bool {
    let is_said = |said: &str| words.contains(said);
    is_said("ABORTED START") || is_said("START ABORTED") || is_said("EXTRA FORMATION LAP")
}

impl Operator for LapsOperator {
    const NAME: &'static str = "laps";
    const VERSION: u32 = 4;
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

impl LapsOperator {
    /// Why the document says nothing that can be of a lap.
    fn refusal(&self, document: &Lap) -> Option<String> {
        let driver_number = document.driver_number;
        if document.lap_number < 1 {
            return Some(format!("car {driver_number}'s lap {}: laps count from 1", document.lap_number));
        }
        let sectors = [&document.segments_sector_1, &document.segments_sector_2, &document.segments_sector_3];
        let codes = sectors.into_iter().flatten().find(|codes| codes.len() > self.mini_sectors_max)?;
        let (count, limit) = (codes.len(), self.mini_sectors_max);
        Some(format!("a sector of car {driver_number}'s lap {} has {count} mini-sectors, more than {limit}", document.lap_number))
    }
}

impl Handle<Lap> for LapsOperator {
    fn apply(&self, state: &mut State, document: &Lap, context: &mut Context<'_, facts::Lap>) {
        if let Some(reason) = self.refusal(document) {
            return context.reject(reason);
        }
        let (driver_number, now) = (document.driver_number, context.now());
        let start = document.date_start.filter(|start| !is_ahead(*start, now));
        state.rules.set(self);
        state.count_laps(document, start, context);
        let lap_number = document.lap_number + state.count.offset;
        let others = state.cars.iter().filter(|(other, _)| *other != driver_number && state.rules.is_race());
        let of_others = others.filter_map(|(_, car)| car.newest_and_arrival()).max_by_key(|(number, _)| *number);
        let car = state.cars.entry(driver_number);
        if !car.can_have_reached(lap_number, of_others, document, start, now) {
            return context.reject(format!("car {driver_number}'s lap {lap_number}: no car drives that far since its last document"));
        }
        if let Some(start) = start.filter(|start| state.is_the_finish(lap_number, *start)) {
            state.rules.finished_at = Some(start);
            state.take_back_laps(context);
        }
        let car = state.cars.entry(driver_number);
        let is_new = car.newest() < Some(lap_number);
        let begins_at = start.or(Some(now).filter(|_| is_new && document.lap_number > 1));
        let is_after_finish = car.in_lap.as_ref().is_some_and(|(number, _)| lap_number >= *number);
        if is_after_finish || begins_at.is_some_and(|start| state.rules.is_over(start)) {
            return state.take_in_lap(document, start, lap_number, context);
        }
        let is_lap_1 = state.has_race_begun && state.count.highest(now) <= Some(1);
        state.count.has_joined_late |= car.laps.is_empty() && document.lap_number > 1;
        let place = Place { lap_number, is_lap_1, now, seq: context.seq() };
        let Some((lap_number, document)) = car.place(document, place) else { return };
        car.note(lap_number, now);
        state.take(&document, start, lap_number, context);
    }
}

impl Handle<TrackStatus> for LapsOperator {
    fn apply(&self, state: &mut State, status: &TrackStatus, context: &mut Context<'_, facts::Lap>) {
        let at = context.event_time();
        state.rules.set(self);
        state.rules.kind.take_status(status, at);
        if let Some(lap_number) = status.lap_number.filter(|_| status.message.is_some()) {
            state.count.take(at, lap_number);
        }
        let is_stopped = state.rules.is_stopped();
        let is_news = state.session.replace(status.session) != Some(status.session);
        state.rules.take_status(status, at);
        if state.rules.is_stopped() && !is_stopped {
            state.interrupt_laps(context);
        }
        match status.session {
            SessionState::Started => {
                let segment = status.qualifying_phase.or_else(|| if is_news { state.next_segment(at) } else { None });
                if let Some(segment) = segment {
                    state.begin_segment(segment, at, context);
                }
                state.rules.finished_at = None;
                if is_news {
                    state.start(status, context);
                }
            }
            SessionState::Finished => state.finish(at, context),
            SessionState::Aborted => state.has_been_aborted = true,
            SessionState::Inactive => {}
        }
    }
}

impl Handle<RaceControlMessage> for LapsOperator {
    fn apply(&self, state: &mut State, message: &RaceControlMessage, context: &mut Context<'_, facts::Lap>) {
        let at = context.event_time();
        state.rules.set(self);
        if let Some(lap_number) = message.lap_number {
            state.rules.kind.take_count_of_laps(at);
            state.count.take(at, lap_number);
            state.begin_race(context);
        }
        state.is_start_aborted |= tells_of_aborted_start(&message.text);
        match message.kind {
            MessageKind::LapDeleted => state.delete(message, true, context),
            MessageKind::LapReinstated => state.delete(message, false, context),
            // After an aborted start the session may not be told as stopped in between.
            MessageKind::SessionStatus
                if message.text == "SESSION STARTED" && state.started_at.value().is_some_and(|start| *start < at) =>
            {
                state.start_again(context);
            }
            _ => {}
        }
    }
}

impl Handle<Pit> for LapsOperator {
    fn apply(&self, state: &mut State, pass: &Pit, context: &mut Context<'_, facts::Lap>) {
        state.rules.set(self);
        let car = state.cars.entry(pass.driver_number);
        car.pass_through_pit_lane(pass.lap_number, context.seq());
        for lap_number in [pass.lap_number, pass.lap_number + 1] {
            let Some(car) = state.cars.get_mut(pass.driver_number) else { return };
            if car.see_pit_lane(lap_number, &state.rules) {
                state.say(pass.driver_number, lap_number, true, context);
            }
        }
    }
}

impl Handle<Stint> for LapsOperator {
    fn apply(&self, state: &mut State, document: &Stint, context: &mut Context<'_, facts::Lap>) {
        state.rules.set(self);
        let car = state.cars.entry(document.driver_number);
        for lap_number in car.take_stint(document, context.seq()).into_iter().flatten() {
            let Some(car) = state.cars.get_mut(document.driver_number) else { return };
            if !state.rules.is_race() {
                car.forget_time(lap_number, &state.rules);
            }
            state.say(document.driver_number, lap_number, false, context);
        }
    }
}

impl Handle<Session> for LapsOperator {
    fn apply(&self, state: &mut State, document: &Session, context: &mut Context<'_, facts::Lap>) {
        state.rules.set(self);
        state.rules.kind.take_document(document);
        state.begin_race(context);
    }
}
