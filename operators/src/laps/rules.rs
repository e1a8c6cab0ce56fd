//! What decides which laps and times count: the kind of session, its segments, when it stood still, when it ended.

use pitwall_engine::Micros;
use pitwall_engine::operator::Context;
use pitwall_schemas::facts::{self, SessionState, Status, TrackStatus};
use serde::{Deserialize, Serialize};

use super::LapsOperator;
use super::car::Car;
use super::lap_state::{Flags, LAP, LapState, SECTOR_1, Told};
use super::segments::Segments;
use crate::known::in_order;
use crate::session_kind::{Evidence, SessionKind};

/// Spells of red flag, safety car or virtual safety car that are kept. Of more, the oldest is forgotten.
const SPELLS_MAX: usize = 64;

/// How long after the leader's finish race control may date the chequered flag, µs: a second or two as a rule.
const FLAG_LAG_MAX: i64 = 10 * Micros::SECOND;

/// A red flag may have fallen this long after its date, µs: dates of flags are whole seconds.
const RED_FLAG_LAG_MAX: i64 = Micros::SECOND;

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Rules {
    pub(super) kind: Evidence,
    pub(super) segments: Segments,
    /// When the session, or the segment of qualifying, ended; in a race, when the leader finished.
    pub(super) finished_at: Option<Micros>,
    /// When the session stood still.
    stops: Vec<Spell>,
    /// Whether a red flag has fallen since the race started.
    pub(super) has_been_red: bool,
    /// When the track was under more than yellow.
    neutralised: Vec<Spell>,
    /// When the safety car was out.
    safety_car: Vec<Spell>,
    late_time_ms: i64,
    sector_sum_ms_max: i32,
    boundary_ms_max: i64,
}

/// From when until when; still so without an end.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Spell {
    from: Micros,
    until: Option<Micros>,
}

impl Rules {
    pub(super) const fn set(&mut self, operator: &LapsOperator) {
        self.late_time_ms = operator.late_time_ms;
        self.sector_sum_ms_max = operator.sector_sum_ms_max;
        self.boundary_ms_max = operator.boundary_ms_max;
    }

    /// What is known less than this after a lap began is of the lap before, µs.
    pub(super) const fn late_time(&self) -> i64 {
        self.late_time_ms * 1_000
    }

    /// Whether a lap that began at `start` has run for so short a time that what becomes known is of the lap before.
    pub(super) fn is_early(&self, start: Option<Micros>, now: Micros) -> bool {
        start.is_some_and(|start| now.since(start) < self.late_time())
    }

    /// Whether the session is a race or a sprint.
    pub(super) const fn is_race(&self) -> bool {
        self.kind.is_race_or_sprint()
    }

    /// Whether the session is a qualifying, as far as known.
    pub(super) fn is_qualifying(&self) -> bool {
        self.kind.kind(0) == Some(SessionKind::Qualifying)
    }

    /// Whether the session is a practice, as far as known.
    pub(super) fn is_practice(&self) -> bool {
        self.kind.kind(0) == Some(SessionKind::Practice)
    }

    /// Whether the lap belongs to the segment that began last; outside qualifying every lap does.
    pub(super) fn is_of_this_segment(&self, lap: &LapState) -> bool {
        lap.qualifying_segment == self.segments.current()
    }

    /// The segment of qualifying in which the lap was driven: a lap out of the pit lane may have been opened in the one before.
    pub(super) fn segment_of(&self, lap: &LapState) -> Option<i32> {
        let start = lap.started_at.value().copied().filter(|_| !lap.is_pit_out_lap());
        self.segments.at(start.unwrap_or(lap.driven_at))
    }

    /// Whether the time in place `index` of a lap can be a best time at all.
    pub(super) fn may_be_best(&self, car: &Car, lap_number: i32, lap: &LapState, index: usize) -> bool {
        let is_race = self.is_race();
        let is_from_the_grid = is_race && lap_number == 1 && matches!(index, SECTOR_1 | LAP);
        let is_from_the_garage = !is_race && index == LAP && (lap.is_pit_out_lap() || car.is_on_new_tyres(lap_number));
        let is_into_the_pit_lane = !is_race && lap.ended_in_pit_lane.value().is_some();
        let is_interrupted = || self.is_interrupted(car, lap_number, lap, lap.said[LAP]);
        let is_no_lap_time = index == LAP && (is_into_the_pit_lane || lap.is_deleted() || is_interrupted());
        let is_after_the_end = lap.began_after_the_end || self.is_after_the_end(lap.started_at.value().copied());
        !is_from_the_grid && !is_from_the_garage && !is_no_lap_time && !is_after_the_end
    }

    /// The lap's times, lap 1 of a race with what its end tells.
    pub(super) fn tell(&self, car: &Car, lap_number: i32, lap: &LapState) -> Told {
        lap.tell(self.is_race() && lap_number == 1, car.laps.get(&2).map(|next| &next.started_at))
    }

    /// Says one lap if it or one of its flags changed.
    pub(super) fn say_one(
        &self,
        car: &mut Car,
        driver_number: i32,
        lap_number: i32,
        has_changed: bool,
        context: &mut Context<'_, facts::Lap>,
    ) {
        let Some(lap) = car.laps.get(&lap_number) else { return };
        let told = self.tell(car, lap_number, lap);
        let flags = self.flags(car, lap_number, lap, &told);
        let Some(lap) = car.laps.get_mut(&lap_number) else { return };
        lap.is_said = true;
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
        let before = car.issued.get(&lap_number).copied();
        car.issued.insert(lap_number, context.draft(fact).because(&causes).at(happened_at).correcting(before).emit());
    }

    /// Takes back what was said of a lap that has proved to be none.
    pub(super) fn withdraw_one(&self, car: &mut Car, driver_number: i32, lap_number: i32, context: &mut Context<'_, facts::Lap>) {
        let Some(lap) = car.laps.get(&lap_number).filter(|lap| lap.is_said) else { return };
        let Some(issued) = car.issued.get(&lap_number).copied() else { return };
        let told = self.tell(car, lap_number, lap);
        let causes = in_order(lap.causes(&told).into_iter().chain(context.causes().iter().copied()).map(Some));
        let happened_at = lap.started_at.value().copied().unwrap_or(context.event_time());
        let fact = lap.fact(driver_number, lap_number, &told);
        car.issued.insert(lap_number, context.draft(fact).because(&causes).at(happened_at).withdrawing(issued).emit());
    }

    fn flags(&self, car: &Car, lap_number: i32, lap: &LapState, told: &Told) -> Flags {
        let is_pit_in_lap = lap.ended_in_pit_lane.value().is_some();
        let start = lap.started_at.value().copied();
        let end = start.zip(told.times[LAP]).map(|(start, time_ms)| start.plus(i64::from(time_ms) * 1_000));
        let sectors: Option<i32> = told.times[..LAP].iter().copied().sum();
        let sums_up = sectors.zip(told.times[LAP]).is_some_and(|(sectors, lap)| (sectors - lap).abs() <= self.sector_sum_ms_max);
        let next_start = car.next_start(lap_number);
        let meets_next = end.zip(next_start).is_some_and(|(end, next)| end.since(next).abs() <= self.boundary_ms_max * 1_000);
        let is_as_sent = !told.is_lap_inferred && !told.is_sector_1_inferred;
        let is_on_track = !is_pit_in_lap && !lap.is_pit_out_lap() && !car.is_on_new_tyres(lap_number);
        let previous = car.laps.get(&(lap_number - 1)).and_then(|previous| previous.started_at.value().copied());
        let is_undisturbed = !is_during(&self.neutralised, start, end) && !is_during(&self.safety_car, previous, start);
        Flags {
            is_pit_in_lap,
            is_accurate: sums_up && meets_next && is_as_sent && is_on_track && is_undisturbed,
            is_interrupted: self.is_interrupted(car, lap_number, lap, told.times[LAP]),
            is_personal_best: car.personal_bests.get(&lap.qualifying_segment) == Some(&lap_number),
        }
    }

    /// Whether the session stood still while the lap was driven, or the lap is the one of a race's restart. The start of a lap that was
    /// under way at a join is told by its end.
    fn is_interrupted(&self, car: &Car, lap_number: i32, lap: &LapState, time_ms: Option<i32>) -> bool {
        let time = time_ms.map(|time_ms| i64::from(time_ms) * 1_000);
        let next_start = car.next_start(lap_number);
        let start = lap.started_at.value().copied().or_else(|| next_start.zip(time).map(|(end, time)| end.plus(-time)));
        let end = start.zip(time).map(|(start, time)| start.plus(time));
        if self.is_race() {
            return is_during(&self.stops, start, end);
        }
        // The time of a lap out of the garage counts the wait there.
        let end = end.into_iter().chain(next_start).min();
        self.is_qualifying() && is_during(&self.stops, start, end.map(|end| end.plus(-RED_FLAG_LAG_MAX)))
    }

    /// Timed laps of the car that turn out to be interrupted and were not said to be.
    pub(super) fn newly_interrupted(&self, car: &Car) -> Vec<i32> {
        let is_new = |number: i32, lap: &LapState| {
            lap.said[LAP].is_some() && !lap.flags.is_interrupted && self.is_interrupted(car, number, lap, lap.said[LAP])
        };
        car.laps.iter().filter(|(number, lap)| is_new(**number, lap)).map(|(number, _)| *number).collect()
    }

    /// Whether the session stands still.
    pub(super) fn is_stopped(&self) -> bool {
        self.stops.last().is_some_and(|spell| spell.until.is_none())
    }

    /// The car's best lap of that segment.
    pub(super) fn personal_best(&self, car: &Car, segment: Option<i32>) -> Option<i32> {
        let of_segment = car.laps.iter().filter(|(_, lap)| lap.qualifying_segment == segment);
        let can_be_best = of_segment.filter(|(number, lap)| self.may_be_best(car, **number, lap, LAP));
        can_be_best.filter_map(|(number, lap)| lap.said[LAP].map(|time_ms| (time_ms, *number))).min().map(|(_, number)| number)
    }

    /// Takes when the session stands still and when the track is under more than yellow.
    pub(super) fn take_status(&mut self, status: &TrackStatus, at: Micros) {
        let is_red = status.status == Status::Red;
        self.has_been_red |= is_red;
        follow(&mut self.stops, status.session == SessionState::Aborted || is_red, at);
        follow(&mut self.neutralised, !matches!(status.status, Status::Clear | Status::Yellow), at);
        follow(&mut self.safety_car, status.status == Status::SafetyCar, at);
    }

    /// Takes that a race was resumed at `at`, of whose stop nothing else is known.
    pub(super) fn resume(&mut self, at: Micros) {
        if self.stops.is_empty() {
            self.stops.push(Spell { from: Micros(i64::MIN), until: Some(at) });
        }
    }

    /// Takes that the race starts: what stood still before was no part of it.
    pub(super) fn start(&mut self) {
        self.stops.clear();
        self.has_been_red = false;
    }

    fn is_after_the_end(&self, start: Option<Micros>) -> bool {
        self.finished_at.is_some_and(|finish| start.is_some_and(|start| start > finish))
    }

    /// Marks the lap if it began after the end of the segment before.
    pub(super) fn mark_the_end(&self, lap: &mut LapState) {
        lap.began_after_the_end |= self.is_after_the_end(lap.started_at.value().copied());
    }

    /// Whether a lap that begins at `start` is no lap of the race any more: its leader has finished.
    pub(super) fn is_over(&self, start: Micros) -> bool {
        self.is_race() && self.finished_at.is_some_and(|finish| start >= finish)
    }

    /// Whether a lap that begins at `start` may have begun with the leader's finish, which race control tells up to some seconds later.
    pub(super) fn may_be_the_finish(&self, start: Micros) -> bool {
        self.finished_at.is_some_and(|finish| start < finish && finish.since(start) < FLAG_LAG_MAX)
    }

    /// The car's best time in place `index` of this segment's laps other than `lap_number`. Runs over the car's laps, of which there
    /// are at most 200, and only when its best time was taken back.
    pub(super) fn next_best(&self, car: &Car, lap_number: i32, index: usize) -> Option<i32> {
        car.laps
            .iter()
            .filter(|(number, lap)| **number != lap_number && self.is_of_this_segment(lap) && self.may_be_best(car, **number, lap, index))
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
