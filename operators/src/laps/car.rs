//! One car: its laps by number, which lap a document is of, and what pit lane and tyres tell of where its laps begin and end.

use std::borrow::Cow;
use std::collections::BTreeMap;

use pitwall_engine::Micros;
use pitwall_engine::operator::Issued;
use pitwall_schemas::raw::{Lap, Stint};
use serde::{Deserialize, Serialize};

use super::deletions::Deletion;
use super::lap_state::{LAP, LapState, SECTOR_1, SECTOR_2, SECTOR_3, Times, times};
use super::rules::Rules;
use crate::known::{Known, Version};
use crate::reach::LAP_MIN;

/// Highest lap number there can be (schema).
const LAP_MAX: i32 = 200;

/// How many laps beyond all others a car may be in a race.
const LAPS_APART_MAX: i64 = 10;

/// A lap time is told this long after the lap's end at most, µs: within 2 s as a rule.
const TOLD_AFTER_END_MAX: i64 = 30 * Micros::SECOND;

/// Stints of one car that are kept; more than ten are an error of the feed.
const STINTS_MAX: usize = 32;

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Car {
    /// By number; the schema ends at 200.
    pub(super) laps: BTreeMap<i32, LapState>,
    /// The newest fact about each lap, by the number under which it was said.
    pub(super) issued: BTreeMap<i32, Issued>,
    /// Best times so far, ms; in qualifying those of this segment.
    pub(super) bests: Times,
    /// The best lap of each segment of qualifying; of the session, elsewhere.
    pub(super) personal_bests: BTreeMap<Option<i32>, i32>,
    pub(super) pending_deletions: Vec<Deletion>,
    /// What stands as lap 1 without a start, if it may be or is another lap.
    pub(super) joined: Option<Box<Joined>>,
    /// The highest lap of which a document was taken, and when its first one arrived.
    newest: Option<(i32, Micros)>,
    /// The first document of a lap that the car cannot have reached.
    out_of_reach: Option<Box<Lap>>,
    /// The lap that began with the finish of the race, and when: it is none.
    pub(super) in_lap: Option<(i32, Known<Micros>)>,
    /// Laps that `pit` says ended in the pit lane, with the ledger record that said so.
    pit_laps: BTreeMap<i32, u64>,
    /// By number, with the lap on which each begins.
    stints: BTreeMap<i32, (Version, Known<i32>)>,
}

/// Where a document stands that is to be placed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// The number that it carries, put right by race control's count.
    pub(super) lap_number: i32,
    /// Whether a lap 1 without a start is the race's first lap: the race has begun, and its leader is still on lap 1.
    pub(super) is_lap_1: bool,
    pub(super) now: Micros,
    pub(super) seq: u64,
}

/// The lap under way at a join in mid-session, which OpenF1 calls lap 1.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Joined {
    first: Lap,
    newest: Lap,
    /// The ledger record of the newest document.
    cause: u64,
    /// Its real number, once that can be told.
    pub(super) number: Option<i32>,
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

impl Car {
    /// Whether the car can be on that lap now, or at its `start` if that is known; a second document that says so is believed. `of_others`
    /// is the highest lap of any other car, and when it was first known, where that tells something of this one.
    pub(super) fn can_have_reached(
        &mut self,
        lap_number: i32,
        of_others: Option<(i32, Micros)>,
        document: &Lap,
        start: Option<Micros>,
        now: Micros,
    ) -> bool {
        let laps_since = |moment: Micros| now.since(moment).max(0) / LAP_MIN;
        let is_within = |reach: i64| i64::from(lap_number) <= reach;
        let is_near_others = of_others.is_none_or(|(highest, at)| is_within(i64::from(highest) + LAPS_APART_MAX + laps_since(at)));
        let can_have = self.newest.map_or(is_near_others, |(newest, at)| {
            let began_at = self.laps.get(&newest).and_then(|lap| lap.started_at.value().copied());
            let by_dates = start.zip(began_at).map_or(0, |(start, began_at)| start.since(began_at) / LAP_MIN);
            let next = i64::from(newest) + 1;
            is_within(next) || (is_near_others && is_within(next + laps_since(at).max(by_dates)))
        });
        if can_have {
            self.out_of_reach = None;
            return true;
        }
        let is_second = self.out_of_reach.as_ref().is_some_and(|first| {
            let laps_on = document.lap_number - first.lap_number;
            (0..=1).contains(&laps_on) && **first != *document
        });
        self.out_of_reach = if is_second { None } else { Some(Box::new(document.clone())) };
        is_second
    }

    /// Notes that a document of the lap was taken.
    pub(super) fn note(&mut self, lap_number: i32, now: Micros) {
        if self.newest.is_none_or(|(newest, _)| newest < lap_number) {
            self.newest = Some((lap_number, now));
        }
    }

    /// The number of the highest lap of which a document was taken.
    pub(super) fn newest(&self) -> Option<i32> {
        self.newest.map(|(newest, _)| newest)
    }

    /// The same, and when its first document arrived.
    pub(super) const fn newest_and_arrival(&self) -> Option<(i32, Micros)> {
        self.newest
    }

    /// Adds `change` to the number of every lap.
    pub(super) fn renumber(&mut self, change: i32, rules: &Rules) {
        let numbered = std::mem::take(&mut self.laps).into_iter().map(|(number, lap)| (number + change, lap));
        self.laps = numbered.filter(|(number, _)| (1..=LAP_MAX).contains(number)).collect();
        for number in self.personal_bests.values_mut() {
            *number += change;
        }
        if let Some((newest, _)) = &mut self.newest {
            *newest += change;
        }
        if let Some((number, _)) = &mut self.in_lap {
            *number += change;
        }
        if let Some(number) = self.joined.as_mut().and_then(|joined| joined.number.as_mut()) {
            *number += change;
        }
        let numbers: Vec<i32> = self.laps.keys().copied().collect();
        for lap in self.laps.values_mut() {
            (lap.ended_in_pit_lane, lap.began_in_pit_lane) = (Known::default(), Known::default());
        }
        for number in numbers {
            self.see_pit_lane(number, rules);
        }
    }

    /// Removes a lap that began when the race was over: it is none, and its times are no best.
    pub(super) fn remove(&mut self, lap_number: i32, rules: &Rules) {
        let Some(lap) = self.laps.remove(&lap_number) else { return };
        for index in [SECTOR_1, SECTOR_2, SECTOR_3, LAP] {
            if lap.said[index].is_some() && lap.said[index] == self.bests[index] {
                self.bests[index] = rules.next_best(self, lap_number, index);
            }
        }
        self.personal_bests.retain(|_, best| *best != lap_number);
        self.in_lap = Some((lap_number, lap.started_at));
    }

    /// Puts the lap into the segment of qualifying to which it belongs, and tells whether that is another than before.
    pub(super) fn sort_into_segment(&mut self, lap_number: i32, rules: &Rules) -> bool {
        let Some(lap) = self.laps.get_mut(&lap_number) else { return false };
        let segment = rules.segment_of(lap);
        if lap.qualifying_segment == segment {
            return false;
        }
        // A lap opened after the end of one segment and driven in the next began in time.
        lap.began_after_the_end &= lap.qualifying_segment.is_none();
        lap.qualifying_segment = segment;
        self.personal_bests.retain(|_, best| *best != lap_number);
        true
    }

    /// When the lap after this one began, whether that is a lap of the race or the way back after it.
    pub(super) fn next_start(&self, lap_number: i32) -> Option<Micros> {
        let in_lap = self.in_lap.as_ref().filter(|(number, _)| *number == lap_number + 1).map(|(_, start)| start);
        self.laps.get(&(lap_number + 1)).map(|next| &next.started_at).or(in_lap).and_then(|start| start.value().copied())
    }

    /// Takes the times out of `times` that the lap before `lap_number` had driven, and tells whether that lap learned something.
    pub(super) fn move_late_times(&mut self, lap_number: i32, times: &mut Times, seq: u64) -> bool {
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

    /// Whether the lap time of `times` is that of an earlier lap, sent again: it comes without the lap's own three sectors, and neither the
    /// moment at which it is known nor the next lap's start is the end of a lap so long. `began_and_now` are the lap's start and that moment.
    pub(super) fn is_repeated(&self, lap_number: i32, times: &Times, tolerance: i64, began_and_now: Option<(Micros, Micros)>) -> bool {
        let Some(time_ms) = times[LAP] else { return false };
        let lap = self.laps.get(&lap_number);
        let is_known = |index: usize| times[index].is_some() || lap.is_some_and(|lap| lap.sent[index].value().is_some());
        let has_sectors = [SECTOR_1, SECTOR_2, SECTOR_3].into_iter().all(is_known);
        let is_taken = lap.is_some_and(|lap| lap.sent[LAP].value() == Some(&time_ms));
        let is_of_earlier = || self.laps.range(..lap_number).any(|(_, earlier)| earlier.sent[LAP].value() == Some(&time_ms));
        let is_told_in_time = began_and_now.is_some_and(|(began, now)| {
            let end = began.plus(i64::from(time_ms) * 1_000);
            let meets_next = self.next_start(lap_number).is_some_and(|next| next.since(end).abs() < tolerance);
            meets_next || (-tolerance..TOLD_AFTER_END_MAX).contains(&now.since(end))
        });
        !has_sectors && !is_taken && is_of_earlier() && !is_told_in_time
    }

    /// The number of the lap that a document is of, and what it says of it; `None` while that cannot be told.
    pub(super) fn place<'a>(&mut self, document: &'a Lap, at: Place) -> Option<(i32, Cow<'a, Lap>)> {
        let first_known = self.laps.keys().next().copied();
        match (&mut self.joined, document.lap_number == 1 && document.date_start.is_none()) {
            (Some(joined), true) => {
                (joined.newest, joined.cause) = (document.clone(), at.seq);
                joined.number.map(|number| (number, Cow::Owned(joined.news())))
            }
            (None, true) if !at.is_lap_1 && first_known.is_none_or(|first| first > 2) => {
                let number = first_known.map(|first| first - 1);
                self.joined = Some(Box::new(Joined { first: document.clone(), newest: document.clone(), cause: at.seq, number }));
                None
            }
            _ => {
                self.settle(at.lap_number, at.now);
                Some((at.lap_number, Cow::Borrowed(document)))
            }
        }
    }

    /// Finds the number of a lap that was held, now that the car's `next` one is known; 2 when it turns out to be lap 1 itself.
    pub(super) fn settle(&mut self, next: i32, now: Micros) {
        let Some(joined) = self.joined.as_mut().filter(|joined| joined.number.is_none()) else { return };
        joined.number = Some((next - 1).max(1));
        let document = if next > 2 { joined.news() } else { joined.newest.clone() };
        let mut lap = LapState::new(now);
        lap.version.take(document.id);
        lap.fold(&document, times(&document), joined.cause, now);
        self.laps.insert((next - 1).max(1), lap);
        if next <= 2 {
            self.joined = None;
        }
    }

    /// Lets the lap's time be compared as if it came now, and gives its place as the best to the next best.
    pub(super) fn forget_time(&mut self, lap_number: i32, rules: &Rules) {
        let time = self.laps.get_mut(&lap_number).and_then(|lap| lap.said[LAP].take());
        if time.is_some() && time == self.bests[LAP] && self.laps.get(&lap_number).is_some_and(|lap| rules.is_of_this_segment(lap)) {
            self.bests[LAP] = rules.next_best(self, lap_number, LAP);
        }
    }

    /// Takes that a pass through the pit lane began on that lap.
    pub(super) fn pass_through_pit_lane(&mut self, lap_number: i32, cause: u64) {
        self.pit_laps.entry(lap_number).or_insert(cause);
    }

    /// Takes what a version of a stint's document says of the lap on which it begins; the laps of which that may be news.
    pub(super) fn take_stint(&mut self, document: &Stint, cause: u64) -> [Option<i32>; 2] {
        if !self.stints.contains_key(&document.stint_number) && self.stints.len() >= STINTS_MAX {
            return [None; 2];
        }
        let (version, begins_on) = self.stints.entry(document.stint_number).or_default();
        let before = begins_on.value().copied();
        if !version.take(document.id) || !begins_on.take(document.lap_start, cause) {
            return [None; 2];
        }
        [before, begins_on.value().copied()]
    }

    /// Whether a set of tyres other than the car's first was fitted where the lap begins or ends. That cannot be told of the first lap
    /// known after a join, nor where the lap before is the one out of the pit lane: OpenF1 lets stints begin with its first lap then.
    pub(super) fn is_on_new_tyres(&self, lap_number: i32) -> bool {
        let begins_here = |(stint, (_, begins_on)): (&i32, &(Version, Known<i32>))| *stint > 1 && begins_on.value() == Some(&lap_number);
        let is_known_before = || self.laps.range(..lap_number).any(|(_, lap)| lap.started_at.value().is_some());
        let is_out_before =
            || self.laps.get(&(lap_number - 1)).is_some_and(|lap| lap.is_pit_out_lap() && lap.ended_in_pit_lane.value().is_none());
        self.stints.iter().any(begins_here) && is_known_before() && !is_out_before()
    }

    /// Takes what `pit`, the mini-sectors and the laps beside it tell of where the lap began and ended, and tells whether that is news.
    pub(super) fn see_pit_lane(&mut self, lap_number: i32, rules: &Rules) -> bool {
        let pass = |lap_number: i32| self.pit_laps.get(&lap_number).copied();
        let in_sector_3 = |lap_number: i32| self.laps.get(&lap_number).and_then(LapState::pit_segment_cause);
        let next_says = || self.laps.get(&(lap_number + 1)).and_then(LapState::pit_out_cause);
        let ended = in_sector_3(lap_number).or_else(|| pass(lap_number)).or_else(next_says);
        let began = in_sector_3(lap_number - 1).or_else(|| pass(lap_number - 1));
        let Some(lap) = self.laps.get_mut(&lap_number) else { return false };
        let is_news = ended.is_some_and(|cause| lap.ended_in_pit_lane.take(Some(true), cause))
            | began.is_some_and(|cause| lap.began_in_pit_lane.take(Some(true), cause));
        if is_news && !rules.is_race() {
            self.forget_time(lap_number, rules);
        }
        is_news
    }
}
