//! Pit stops: `pit` documents folded into one pass through the pit lane each, with stints to tell whether tyres were changed, and order,
//! gaps, laps and track status to tell what it cost.
//!
//! These are the feed's own passes, timed by the loops of the pit lane. [`pit_passes`](crate::pit_passes) finds passes from samples alone,
//! for sessions without such documents; its times are estimates.
//!
//! Rules, with their source:
//! * OpenF1 numbers its documents by car and lap, but a car can pass twice on one lap. A document dated within
//!   [`PitStopsOperator::same_pass_ms`] of a known pass is a version of that pass, any other is another pass: no two passes can
//!   end so close together. A version with a lower `_id` is stale, and a null does not erase. One that gives the pass another lap moves
//!   it: what was said of the other lap is withdrawn. A lap that no car can have reached ([`stints`](crate::stints)) is rejected.
//! * `date` is when the car left the lane, and the entry lies the time in the lane before it. A date well after the document's arrival is
//!   an error of the feed: then it left when the document came. `pit_duration` is OpenF1's former name of
//!   `lane_duration` and stands in for it only. The time standing still is what the feed reports; it is unknown otherwise (OpenF1).
//! * New tyres: a later stint than the first begins on the lap after, as [`stints`](crate::stints) puts it, and with another set. With the
//!   same set, as behind a safety car that leads the field through the pit lane, there were none; nor if the stint of the lap before goes
//!   on two laps after, since a stint can lag a lap. But nothing is said if the feed reports that the car stood still, or it was in the
//!   lane for as long as the session's stops take ([`STANDING_MIN`]): the feed misses a change now and then (Spa 2025). Of several
//!   passes on one lap the tyres belong to the last one reported to have stood still, or else to the last. Nothing is said of the others'.
//! * A stint's document comes with its first lap. A car that left the lane, so that its time there is known, and then completed no lap
//!   before the leader began [`PitStopsOperator::laps_missed_max`] more has none: it is presumed to have stopped for tyres, which the
//!   official lists do as well (Leclerc, Zandvoort 2025), and `has_new_tyres` stays unknown.
//! * A pass while the race is stopped by a red flag is no stop, whatever happens to the tyres: `PASS`, with what is known of them.
//! * In a race a stint that begins with another set, and no pass before it, is a stop whose document the feed did not send (f1db #91). It
//!   is presumed once the car has begun the lap after, if its laps say that it was in the pit lane. Where the feed tells of no passes at
//!   all, neither by `pit` nor by laps, it is presumed when the stint has lasted for three laps, from lap 2 on, since sets changed
//!   before the start have stints too (Spa 2025). A presumed stop is withdrawn when its stint proves to begin elsewhere, or the feed to
//!   tell of passes. Only laps that were seen are presumed upon: not those before a late join.
//! * A drive-through and a stop-and-go are told by the stewards' penalty, as [`race_control`](crate::race_control) reads it: it belongs to
//!   the car's first pass after it without new tyres, since a penalty may not be served with a stop, nor behind a safety car
//!   (sporting regulations).
//! * Place before: [`PitStopsOperator::braking_ms`] before the entry, since a car that brakes for the pit lane lets others by before its
//!   line. Place after: with the first gap measured [`PitStopsOperator::rejoin_ms`] or more after the exit.
//! * Loss: in-lap and out-lap less twice the median of the car's last three laps before, of which none is a first or an out-lap, and
//!   during none of which the field was slowed.
//! * Predicted place: the place before, and one more for every car behind whose gap then was less than the pit loss. The pit loss is
//!   the median of all stops measured before. Nothing is predicted while the field is slowed, as the gaps do not hold then.

use std::collections::{BTreeMap, VecDeque};

use pitwall_engine::Micros;
use pitwall_engine::operator::{Context, Handle, Issued, Operator};
use pitwall_schemas::facts::{
    Gap, Lap, MessageKind, Neutralisation, PenaltyKind, PitPassKind, PitStop, Position, RaceControlMessage, Status, Stint, TrackStatus,
};
use pitwall_schemas::raw::Pit;
use pitwall_schemas::shared::Compound;
use serde::{Deserialize, Serialize};

use crate::by_driver::ByDriver;
use crate::history::{At, keep, newest};
use crate::known::{Known, Version, in_order};
use crate::reach::Reach;
use crate::stints::{CHANGES_MIN, STANDING_MIN};

/// Passes kept of one car: more than a session has laps. Another is rejected.
const PASSES_MAX: usize = 256;

/// Drive-throughs and stop-and-gos kept of one car: three are a disqualification. Another is rejected.
const PENALTIES_MAX: usize = 16;

/// Newest places and gaps kept of one car, to look up those before its entry: a minute and more of a race.
const HISTORY_MAX: usize = 32;

/// Newest laps kept of one car, to know its pace before a stop.
const LAPS_MAX: usize = 12;

/// Newest changes of track status kept.
const STATUSES_MAX: usize = 64;

/// Laps whose median is a car's pace.
const PACE_LAPS: usize = 3;

/// A gap older than this before the entry, µs, is no gap then.
const GAP_AGE_MAX: i64 = 15_000_000;

/// How far after its document's arrival a pass may be dated to have ended, µs.
const AHEAD_MAX: i64 = 60 * Micros::SECOND;

/// How long before its entry a car begins to brake for the pit lane, ms.
pub const BRAKING_MS: i64 = 5_000;

/// Folds passes through the pit lane.
#[derive(Debug, Clone, Copy)]
pub struct PitStopsOperator {
    /// Documents of one lap dated closer together than this, ms, are of one pass. Shorter than any pit lane takes.
    pub same_pass_ms: i64,
    /// How long after the exit a car's place is that after its stop, ms: the timing loop behind the exit has it by then.
    pub rejoin_ms: i64,
    /// How long before the entry a car begins to brake for the pit lane, ms: from then on others pass it for that reason.
    pub braking_ms: i64,
    /// Laps that the leader begins after a pass while the car completes none, after which no stint will tell of tyres.
    pub laps_missed_max: i32,
}

impl Default for PitStopsOperator {
    fn default() -> Self {
        Self { same_pass_ms: 10_000, rejoin_ms: 5_000, braking_ms: BRAKING_MS, laps_missed_max: 3 }
    }
}

/// Every pass of the session, and what is needed to judge the next.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    cars: ByDriver<Car>,
    field: Field,
    /// Highest lap that any car has begun.
    leaders_lap: i32,
    reach: Reach,
}

/// What concerns all cars' passes.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Field {
    /// What slowed the field from when on, in order of arrival.
    neutralisations: VecDeque<At<Neutralisation>>,
    /// Whether the feed tells of passes, by `pit` or by laps.
    tells_of_passes: bool,
    /// Whether race control counts laps or gaps are sent: OpenF1 does neither elsewhere.
    is_race: bool,
}

impl Field {
    /// What slowed the field at `moment`, and what it was told by.
    fn slowed(&self, moment: Micros) -> Option<At<Neutralisation>> {
        newest(&self.neutralisations, moment).filter(|found| found.value != Neutralisation::None)
    }

    /// Changes from `start` to `end`, with what held at the start.
    fn during(&self, start: Micros, end: Micros) -> impl Iterator<Item = At<Neutralisation>> {
        let meanwhile = self.neutralisations.iter().filter(move |entry| entry.at > start && entry.at <= end).copied();
        newest(&self.neutralisations, start).into_iter().chain(meanwhile)
    }

    /// Whether nothing slowed the field from `start` to `end`.
    fn is_green(&self, start: Micros, end: Micros) -> bool {
        self.during(start, end).all(|entry| entry.value == Neutralisation::None)
    }

    /// The record that told that the race was stopped, if it was at any moment from `start` to `end`.
    fn stopped(&self, start: Micros, end: Micros) -> Option<u64> {
        self.during(start, end).find(|entry| entry.value == Neutralisation::RedFlag).map(|entry| entry.cause)
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Car {
    /// In the order in which they ended.
    passes: Vec<Pass>,
    penalties: Vec<At<PitPassKind>>,
    stints: BTreeMap<i32, KnownStint>,
    positions: VecDeque<At<i32>>,
    /// Gaps to the leader, ms; null when a lap or more behind or unknown.
    gaps: VecDeque<At<Option<i32>>>,
    laps: BTreeMap<i32, TimedLap>,
    /// Whether the newest pass waits for the car to be measured on the track.
    is_awaited: bool,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct KnownStint {
    compound: Compound,
    lap_start: Option<i32>,
    lap_end: Option<i32>,
    is_same_set: bool,
    cause: u64,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct TimedLap {
    started_at: Option<Micros>,
    lap_ms: Option<i32>,
    is_pit_out_lap: bool,
    is_pit_in_lap: bool,
    cause: u64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Pass {
    lap_number: i32,
    number: i32,
    version: Version,
    exited_at: Known<Micros>,
    lane_ms: Known<i32>,
    stationary_ms: Known<i32>,
    /// What slowed the field at entry.
    neutralisation: Known<Neutralisation>,
    position_before: Known<i32>,
    position_after: Known<i32>,
    interval_after_ms: Known<i32>,
    predicted_position: Known<i32>,
    predicted_loss_ms: Option<i32>,
    loss_ms: Known<i32>,
    /// Whether a stint could still tell of new tyres, and if not the record that told so.
    stint_overdue: Known<bool>,
    /// Whether it took as long as stops do, and the record of a stop that tells so.
    is_as_long_as_stops: Known<bool>,
    /// The record that told of the red flag during it.
    stopped_by: Option<u64>,
    /// Whether no document of it has come, and whether laps tell of it.
    is_presumed: bool,
    is_told_by_laps: bool,
    said: Option<PitStop>,
    issued: Option<Issued>,
}

/// What stints and penalties say about a pass.
#[derive(Clone, Copy)]
struct Purpose {
    kind: PitPassKind,
    has_new_tyres: Option<bool>,
    compound: Option<Compound>,
    causes: [Option<u64>; 2],
}

impl Pass {
    fn fold(&mut self, document: &Pit, exited_at: Micros, seq: u64) {
        self.is_presumed = false;
        self.exited_at.take(Some(exited_at), seq);
        self.lane_ms.take(milliseconds(document.lane_duration.or(document.pit_duration)), seq);
        self.stationary_ms.take(milliseconds(document.stop_duration), seq);
    }

    fn exited_at(&self) -> Micros {
        self.exited_at.value().copied().unwrap_or(Micros(0))
    }

    fn entered_at(&self) -> Option<Micros> {
        self.lane_ms.value().map(|lane_ms| self.exited_at().plus(-i64::from(*lane_ms) * 1_000))
    }

    fn fact(&self, driver_number: i32, purpose: Purpose, stop_number: Option<i32>) -> PitStop {
        let [lane_ms, stationary_ms, position_before, position_after, interval_after_ms, predicted_position, loss_ms] = [
            &self.lane_ms,
            &self.stationary_ms,
            &self.position_before,
            &self.position_after,
            &self.interval_after_ms,
            &self.predicted_position,
            &self.loss_ms,
        ]
        .map(|known| known.value().copied());
        PitStop {
            driver_number,
            lap_number: self.lap_number,
            pass: self.number,
            kind: purpose.kind,
            stop_number,
            entered_at: self.entered_at(),
            exited_at: self.exited_at(),
            lane_ms,
            stationary_ms,
            has_new_tyres: purpose.has_new_tyres,
            compound: purpose.compound,
            neutralisation: self.neutralisation.value().copied().unwrap_or(Neutralisation::None),
            position_before,
            position_after,
            positions_lost: position_after.zip(position_before).map(|(after, before)| after - before),
            interval_after_ms,
            predicted_position,
            predicted_loss_ms: self.predicted_loss_ms,
            loss_ms,
            is_presumed: self.is_presumed,
        }
    }

    /// Takes back what was said of it.
    fn withdraw(&mut self, reason: u64, context: &mut Context<'_, PitStop>) {
        if let (Some(fact), Some(issued)) = (self.said.take(), self.issued.take()) {
            let causes = in_order([self.exited_at.cause(), Some(reason)]);
            context.draft(fact).because(&causes).at(self.exited_at()).withdrawing(issued).emit();
        }
    }

    fn causes(&self, purpose: Purpose) -> Vec<u64> {
        let places = [&self.position_before, &self.position_after, &self.interval_after_ms, &self.predicted_position];
        let times = [&self.lane_ms, &self.stationary_ms, &self.loss_ms];
        let numbers = places.into_iter().chain(times).map(Known::cause);
        in_order(numbers.chain([self.exited_at.cause(), self.neutralisation.cause()]).chain(purpose.causes))
    }
}

impl Car {
    /// The pass that a document is about: a known one, or a new one if there is room.
    fn pass_of(&mut self, lap_number: i32, exited_at: Micros, same_pass_ms: i64) -> Option<usize> {
        let apart = |pass: &Pass| pass.exited_at().since(exited_at).abs();
        let is_its_lap = |pass: &Pass| pass.lap_number == lap_number;
        // The feed numbers by lap, so that a pass of this lap is nearer than one of another.
        let nearest = self.passes.iter().enumerate().min_by_key(|(_, pass)| (!is_its_lap(pass), apart(pass)));
        let is_same = |pass: &Pass| apart(pass) < same_pass_ms * 1_000 || (pass.is_presumed && is_its_lap(pass));
        if let Some((index, _)) = nearest.filter(|(_, pass)| is_same(pass)) {
            return Some(index);
        }
        if let Some(index) = self.passes.iter().position(|pass| !pass.is_presumed && apart(pass) < same_pass_ms * 1_000) {
            return Some(index);
        }
        self.add(lap_number, exited_at)
    }

    /// Adds a pass that ended then, if there is room.
    fn add(&mut self, lap_number: i32, exited_at: Micros) -> Option<usize> {
        if self.passes.len() >= PASSES_MAX {
            return None;
        }
        let index = self.passes.partition_point(|pass| pass.exited_at() <= exited_at);
        let number = self.next_number(lap_number);
        self.passes.insert(index, Pass { lap_number, number, ..Pass::default() });
        Some(index)
    }

    /// Number of the next pass on a lap.
    fn next_number(&self, lap_number: i32) -> i32 {
        self.passes.iter().filter(|pass| pass.lap_number == lap_number).map(|pass| pass.number).max().unwrap_or(0) + 1
    }

    /// Adds the stops of which only stints and laps tell, and takes back those of which they do not any more.
    fn presume(&mut self, field: &Field, context: &mut Context<'_, PitStop>) {
        let first = self.stints.keys().next().copied();
        let changes = self.stints.iter().filter(|(number, stint)| Some(**number) != first && !stint.is_same_set);
        let changes: BTreeMap<i32, KnownStint> = changes.filter_map(|(_, stint)| Some((stint.lap_start? - 1, *stint))).collect();
        let reason = context.newest_cause();
        self.passes.retain_mut(|pass| {
            let is_borne_out = pass.is_told_by_laps || !field.tells_of_passes;
            let stays = !pass.is_presumed || (is_borne_out && changes.contains_key(&pass.lap_number));
            if !stays {
                pass.withdraw(reason, context);
            }
            stays
        });
        for (in_lap, stint) in changes {
            let Some(presumed) = self.presumed(in_lap, &stint, field) else { continue };
            if let Some(index) = self.add(in_lap, presumed.exited_at()) {
                let number = self.passes[index].number;
                self.passes[index] = Pass { number, ..presumed };
            }
        }
    }

    /// The pass after lap `in_lap` if no document tells of it and the car's laps bear it out.
    fn presumed(&self, in_lap: i32, stint: &KnownStint, field: &Field) -> Option<Pass> {
        let [before, out_lap, after] = [in_lap, in_lap + 1, in_lap + 2].map(|lap| self.laps.get(&lap));
        let (before, out_lap, after) = (before?, out_lap?, after?);
        let is_told_by_laps = before.is_pit_in_lap || out_lap.is_pit_out_lap;
        let lasts = in_lap > 1 && stint.lap_end.is_some_and(|last| last >= in_lap + 3);
        let exited_at = out_lap.started_at.filter(|_| is_told_by_laps || (lasts && !field.tells_of_passes))?;
        let during = before.started_at.unwrap_or(exited_at)..=after.started_at.unwrap_or(exited_at);
        if self.passes.iter().any(|pass| pass.lap_number == in_lap || during.contains(&pass.exited_at())) {
            return None;
        }
        let stopped_by = field.stopped(*during.start(), *during.end());
        let mut pass = Pass { lap_number: in_lap, stopped_by, is_presumed: true, is_told_by_laps, ..Pass::default() };
        pass.exited_at.take(Some(exited_at), out_lap.cause);
        Some(pass)
    }

    /// What each pass was for.
    fn purposes(&self) -> Vec<Purpose> {
        let mut purposes: Vec<Purpose> = self.passes.iter().enumerate().map(|(index, pass)| self.purpose(index, pass)).collect();
        let mut is_served = [false; PENALTIES_MAX];
        for (pass, purpose) in self.passes.iter().zip(&mut purposes) {
            let is_slowed = pass.stopped_by.is_some() || pass.neutralisation.value().is_some();
            if purpose.has_new_tyres == Some(true) || is_slowed {
                continue;
            }
            let pending =
                self.penalties.iter().zip(&mut is_served).find(|(penalty, is_served)| !**is_served && penalty.at < pass.exited_at());
            if let Some((penalty, is_served)) = pending {
                *is_served = true;
                purpose.kind = penalty.value;
                purpose.causes[1] = Some(penalty.cause);
            }
        }
        purposes
    }

    /// What stints and red flags say about pass number `index`.
    fn purpose(&self, index: usize, pass: &Pass) -> Purpose {
        let purpose = self.tyres(index, pass);
        match pass.stopped_by {
            Some(cause) => Purpose { kind: PitPassKind::Pass, causes: [purpose.causes[0], Some(cause)], ..purpose },
            None => purpose,
        }
    }

    /// What the stints say about pass number `index`.
    fn tyres(&self, index: usize, pass: &Pass) -> Purpose {
        let unknown = Purpose { kind: PitPassKind::Unknown, has_new_tyres: None, compound: None, causes: [None; 2] };
        let of_lap = || self.passes.iter().enumerate().filter(|(_, other)| other.lap_number == pass.lap_number);
        let stood_still = of_lap().rfind(|(_, other)| other.stationary_ms.value().is_some());
        if stood_still.or_else(|| of_lap().next_back()).is_some_and(|(last, _)| last != index) {
            return unknown;
        }
        // Where laps and `pit` count a pass differently, the stint goes by the laps.
        let counts_later = self.passes.iter().all(|other| other.lap_number != pass.lap_number - 1)
            && self.laps.get(&pass.lap_number).is_some_and(|lap| lap.is_pit_out_lap);
        let begins_after =
            |stint: &KnownStint| stint.lap_start == Some(pass.lap_number + 1) || (counts_later && stint.lap_start == Some(pass.lap_number));
        let goes_on = |stint: &KnownStint| {
            stint.lap_start.is_some_and(|first| first <= pass.lap_number) && stint.lap_end.is_some_and(|last| last >= pass.lap_number + 2)
        };
        let no_new_tyres = |cause| Purpose { kind: PitPassKind::Pass, has_new_tyres: Some(false), causes: [Some(cause), None], ..unknown };
        if let Some((_, stint)) = self.stints.iter().find(|(number, stint)| **number > 1 && begins_after(stint)) {
            if stint.is_same_set {
                return no_new_tyres(stint.cause);
            }
            let compound = Some(stint.compound).filter(|compound| *compound != Compound::Unknown);
            Purpose { kind: PitPassKind::Stop, has_new_tyres: Some(true), compound, causes: [Some(stint.cause), None] }
        } else if let Some(stint) = self.stints.values().find(|stint| goes_on(stint)) {
            // The feed may have missed the change.
            let is_stop_like = pass.stationary_ms.value().is_some() || pass.is_as_long_as_stops.value().is_some();
            let causes = [Some(stint.cause), pass.is_as_long_as_stops.cause()];
            if is_stop_like { Purpose { causes, ..unknown } } else { no_new_tyres(stint.cause) }
        } else if !self.stints.is_empty() && pass.stint_overdue.value().is_some() {
            Purpose { kind: PitPassKind::Stop, causes: [pass.stint_overdue.cause(), None], ..unknown }
        } else {
            unknown
        }
    }

    /// Marks the last pass if the car completed no lap after it although the leader went on; tells whether that is news.
    fn miss_stint(&mut self, leaders_lap: i32, laps_missed_max: i32, cause: u64) -> bool {
        let last_lap = self.laps.iter().rev().find(|(_, lap)| lap.lap_ms.is_some()).map(|(number, _)| *number);
        let Some(pass) = self.passes.last_mut() else { return false };
        let has_left = pass.lane_ms.value().is_some();
        let is_overdue = has_left && leaders_lap > pass.lap_number + laps_missed_max && last_lap.is_none_or(|last| last <= pass.lap_number);
        is_overdue && pass.stint_overdue.take(Some(true), cause)
    }

    /// In-lap and out-lap of the stop that ended lap `lap_number` against the car's pace, and the record that timed them last.
    fn loss(&self, lap_number: i32, field: &Field) -> Option<(i32, u64)> {
        let (in_lap, out_lap) = (self.laps.get(&lap_number)?, self.laps.get(&(lap_number + 1))?);
        let is_green = |lap: &TimedLap| {
            let end = lap.started_at.zip(lap.lap_ms).map(|(start, lap_ms)| (start, start.plus(i64::from(lap_ms) * 1_000)));
            end.is_some_and(|(start, end)| field.is_green(start, end))
        };
        let both_are_green = is_green(in_lap) && is_green(out_lap) && !in_lap.is_pit_out_lap && lap_number > 1;
        let before = self.laps.range(2..lap_number.max(2)).rev().map(|(_, lap)| lap).filter(|lap| !lap.is_pit_out_lap && is_green(lap));
        let mut pace: Vec<i32> = before.filter_map(|lap| lap.lap_ms).take(PACE_LAPS).collect();
        if !both_are_green || pace.len() < PACE_LAPS {
            return None;
        }
        pace.sort_unstable();
        let loss_ms = in_lap.lap_ms? + out_lap.lap_ms? - 2 * pace[PACE_LAPS / 2];
        Some((loss_ms, in_lap.cause.max(out_lap.cause)))
    }

    /// Says every pass of which something changed.
    fn say(&mut self, driver_number: i32, context: &mut Context<'_, PitStop>) {
        let purposes = self.purposes();
        let mut stops = 0;
        for (pass, purpose) in self.passes.iter_mut().zip(purposes) {
            stops += i32::from(purpose.kind == PitPassKind::Stop);
            let fact = pass.fact(driver_number, purpose, (purpose.kind == PitPassKind::Stop).then_some(stops));
            if pass.said.as_ref() == Some(&fact) {
                continue;
            }
            let draft = context.draft(fact.clone()).because(&pass.causes(purpose)).at(pass.exited_at()).correcting(pass.issued);
            pass.issued = Some(draft.emit());
            pass.said = Some(fact);
        }
    }
}

impl State {
    /// Looks up what was the case when the car entered the pit lane, once its time in the lane is known.
    fn look_back(&mut self, driver_number: i32, index: usize, braking_ms: i64) {
        let Some(pass) = self.cars.get_mut(driver_number).and_then(|car| car.passes.get_mut(index)) else { return };
        pass.stopped_by = self.field.stopped(pass.entered_at().unwrap_or(pass.exited_at()), pass.exited_at());
        let Some(entered_at) = pass.entered_at() else { return };
        let braked_at = entered_at.plus(-braking_ms * 1_000);
        let neutralisation = self.field.slowed(entered_at);
        let quick_stop = self.quick_stop();
        let (loss_ms, place) = (self.pit_loss_ms(), self.cars.get(driver_number).and_then(|car| newest(&car.positions, braked_at)));
        let predicted = match (loss_ms, place) {
            (Some(loss_ms), Some(place)) if neutralisation.is_none() => self.predict(driver_number, braked_at, place.value, loss_ms),
            _ => None,
        };

        let Some(pass) = self.cars.get_mut(driver_number).and_then(|car| car.passes.get_mut(index)) else { return };
        if let Some(found) = neutralisation {
            pass.neutralisation.take(Some(found.value), found.cause);
        }
        if let Some((_, cause)) = quick_stop.filter(|(shortest_ms, _)| pass.lane_ms.value() >= Some(shortest_ms)) {
            pass.is_as_long_as_stops.take(Some(true), cause);
        }
        if let Some(place) = place {
            pass.position_before.take(Some(place.value), place.cause);
        }
        // What was expected stays what was expected then, whatever later versions say.
        if let Some((predicted, cause)) = predicted.filter(|_| pass.issued.is_none()) {
            pass.predicted_position.take(Some(predicted), cause);
            pass.predicted_loss_ms = loss_ms;
        }
    }

    /// The shortest time in the lane that can be a stop, ms, by the quick ones among the changes of tyres so far, and the record of one.
    fn quick_stop(&self) -> Option<(i32, u64)> {
        let passes = self.cars.iter().flat_map(|(_, car)| &car.passes);
        let is_change =
            |pass: &&Pass| pass.said.as_ref().is_some_and(|said| said.has_new_tyres == Some(true) && said.kind == PitPassKind::Stop);
        let mut times: Vec<(i32, u64)> =
            passes.filter(is_change).filter_map(|pass| pass.lane_ms.value().copied().zip(pass.lane_ms.cause())).collect();
        times.sort_unstable();
        let (lane_ms, cause) = times.get(times.len() / 4).copied().filter(|_| times.len() >= CHANGES_MIN)?;
        Some((lane_ms - (STANDING_MIN / 1_000) as i32, cause))
    }

    /// Median loss of the stops measured so far.
    fn pit_loss_ms(&self) -> Option<i32> {
        let passes = self.cars.iter().flat_map(|(_, car)| &car.passes);
        let is_stop = |pass: &&Pass| pass.said.as_ref().is_some_and(|said| said.kind == PitPassKind::Stop);
        let mut losses: Vec<i32> = passes.filter(is_stop).filter_map(|pass| pass.loss_ms.value().copied()).collect();
        losses.sort_unstable();
        losses.get(losses.len() / 2).copied()
    }

    /// Place of a car that loses `loss_ms` from `moment` on, if its gap then is known, and the record of that gap.
    fn predict(&self, driver_number: i32, moment: Micros, place: i32, loss_ms: i32) -> Option<(i32, u64)> {
        let gap_then = |car: &Car| {
            let At { at, value, cause } = newest(&car.gaps, moment)?;
            // The leader's gap is said once and holds.
            let value = value.filter(|gap_ms| *gap_ms == 0 || moment.since(at) <= GAP_AGE_MAX)?;
            Some(At { at, value, cause })
        };
        let own = gap_then(self.cars.get(driver_number)?)?;
        let others = self.cars.iter().filter(|(number, _)| *number != driver_number);
        let comes_out_ahead =
            others.filter_map(|(_, car)| gap_then(car)).filter(|gap| (own.value..own.value + loss_ms).contains(&gap.value));
        Some((place + comes_out_ahead.count() as i32, own.cause))
    }

    /// Says every pass of the car of which something changed, those that must be presumed among them.
    fn say(&mut self, driver_number: i32, context: &mut Context<'_, PitStop>) {
        let car = self.cars.entry(driver_number);
        if self.field.is_race {
            car.presume(&self.field, context);
        }
        car.say(driver_number, context);
    }
}

/// What a track status means for the whole field.
#[must_use]
pub const fn neutralisation(status: Status) -> Neutralisation {
    match status {
        Status::Clear | Status::Yellow => Neutralisation::None,
        Status::SafetyCar => Neutralisation::SafetyCar,
        Status::Vsc | Status::VscEnding => Neutralisation::Vsc,
        Status::Red => Neutralisation::RedFlag,
    }
}

/// When the car left the lane, by a document that came at `now`.
#[must_use]
pub fn exited_at(document: &Pit, now: Micros) -> Micros {
    if document.date.since(now) > AHEAD_MAX { now } else { document.date }
}

/// A duration as OpenF1 sends it, s, in ms; a duration of nothing is no time.
fn milliseconds(seconds: Option<f64>) -> Option<i32> {
    seconds.map(|seconds| (seconds * 1_000.0).round() as i32).filter(|time| *time > 0)
}

/// The penalty served in the pit lane that the stewards give with this message.
fn penalty(message: &RaceControlMessage) -> Option<PitPassKind> {
    match message.penalty.filter(|_| message.kind == MessageKind::Penalty)? {
        PenaltyKind::DriveThrough => Some(PitPassKind::DriveThrough),
        PenaltyKind::StopAndGo => Some(PitPassKind::StopAndGo),
        _ => None,
    }
}

impl Operator for PitStopsOperator {
    const NAME: &'static str = "pit_stops";
    const VERSION: u32 = 2;
    type Output = PitStop;
    type State = State;

    fn parameters(&self) -> Vec<(&'static str, String)> {
        vec![
            ("same_pass_ms", self.same_pass_ms.to_string()),
            ("rejoin_ms", self.rejoin_ms.to_string()),
            ("braking_ms", self.braking_ms.to_string()),
            ("laps_missed_max", self.laps_missed_max.to_string()),
        ]
    }
}

impl Handle<Pit> for PitStopsOperator {
    fn apply(&self, state: &mut State, document: &Pit, context: &mut Context<'_, PitStop>) {
        let Pit { driver_number, lap_number, .. } = *document;
        if state.reach.is_beyond(lap_number, context.now()) {
            return context.reject(format!("car {driver_number} was in the pit lane on lap {lap_number}, which no car can have reached"));
        }
        let exited_at = exited_at(document, context.now());
        state.field.tells_of_passes = true;
        let car = state.cars.entry(driver_number);
        let Some(index) = car.pass_of(lap_number, exited_at, self.same_pass_ms) else {
            return context.reject(format!("car {driver_number} passed through the pit lane more than {PASSES_MAX} times"));
        };
        if !car.passes[index].version.take(document.id) {
            return;
        }
        if car.passes[index].lap_number != lap_number {
            let number = car.next_number(lap_number);
            let pass = &mut car.passes[index];
            pass.withdraw(context.seq(), context);
            (pass.lap_number, pass.number) = (lap_number, number);
        }
        car.is_awaited |= car.passes[index].issued.is_none() && index + 1 == car.passes.len();
        car.passes[index].fold(document, exited_at, context.seq());
        state.look_back(driver_number, index, self.braking_ms);
        state.say(driver_number, context);
    }
}

impl Handle<RaceControlMessage> for PitStopsOperator {
    fn apply(&self, state: &mut State, message: &RaceControlMessage, context: &mut Context<'_, PitStop>) {
        let Some(value) = penalty(message) else { return };
        let (at, cause) = (context.event_time(), context.newest_cause());
        for &driver_number in &message.driver_numbers {
            let car = state.cars.entry(driver_number);
            if car.penalties.len() >= PENALTIES_MAX {
                context.reject(format!("car {driver_number} has more than {PENALTIES_MAX} penalties to serve in the pit lane"));
                continue;
            }
            car.penalties.push(At { at, value, cause });
            car.say(driver_number, context);
        }
    }
}

impl Handle<TrackStatus> for PitStopsOperator {
    fn apply(&self, state: &mut State, status: &TrackStatus, context: &mut Context<'_, PitStop>) {
        state.field.is_race |= status.lap_number.is_some();
        let value = neutralisation(status.status);
        if state.field.neutralisations.back().is_none_or(|newest| newest.value != value) {
            keep(&mut state.field.neutralisations, At { at: context.event_time(), value, cause: context.newest_cause() }, STATUSES_MAX);
        }
    }
}

impl Handle<Stint> for PitStopsOperator {
    fn apply(&self, state: &mut State, stint: &Stint, context: &mut Context<'_, PitStop>) {
        let Stint { driver_number, stint_number, compound, lap_start, lap_end, is_same_set, .. } = *stint;
        let car = state.cars.entry(driver_number);
        if context.is_withdrawn() {
            car.stints.remove(&stint_number);
        } else {
            car.stints.insert(stint_number, KnownStint { compound, lap_start, lap_end, is_same_set, cause: context.newest_cause() });
            if state.reach != Reach::default() {
                state.reach.take(lap_end.unwrap_or(0), context.now());
            }
        }
        state.say(driver_number, context);
    }
}

impl Handle<Lap> for PitStopsOperator {
    fn apply(&self, state: &mut State, lap: &Lap, context: &mut Context<'_, PitStop>) {
        if context.is_withdrawn() {
            state.cars.entry(lap.driver_number).laps.remove(&lap.lap_number);
            return;
        }
        state.reach.take(lap.lap_number, context.now());
        if lap.lap_number > state.leaders_lap {
            state.leaders_lap = lap.lap_number;
            let cause = context.newest_cause();
            for (driver_number, car) in state.cars.iter_mut() {
                if car.miss_stint(lap.lap_number, self.laps_missed_max, cause) {
                    car.say(driver_number, context);
                }
            }
        }
        let State { cars, field, .. } = state;
        let car = cars.entry(lap.driver_number);
        let Lap { started_at, lap_ms, is_pit_out_lap, is_pit_in_lap, .. } = *lap;
        field.tells_of_passes |= is_pit_in_lap || (is_pit_out_lap && lap.lap_number > 1);
        let timed = TimedLap { started_at, lap_ms, is_pit_out_lap, is_pit_in_lap, cause: context.newest_cause() };
        let is_new = car.laps.insert(lap.lap_number, timed).is_none();
        if car.laps.len() > LAPS_MAX {
            car.laps.pop_first();
        }
        let is_of_stop = |pass: &Pass| pass.lap_number == lap.lap_number || pass.lap_number + 1 == lap.lap_number;
        if lap_ms.is_none() || !car.passes.iter().any(is_of_stop) {
            if is_new {
                state.say(lap.driver_number, context);
            }
            return;
        }
        let losses = [lap.lap_number - 1, lap.lap_number].map(|in_lap| (in_lap, car.loss(in_lap, field)));
        for (in_lap, loss) in losses {
            let Some((loss_ms, cause)) = loss else { continue };
            for pass in car.passes.iter_mut().filter(|pass| pass.lap_number == in_lap) {
                pass.loss_ms.take(Some(loss_ms), cause);
            }
        }
        state.say(lap.driver_number, context);
    }
}

impl Handle<Position> for PitStopsOperator {
    fn apply(&self, state: &mut State, position: &Position, context: &mut Context<'_, PitStop>) {
        let entry = At { at: context.event_time(), value: position.position, cause: context.newest_cause() };
        keep(&mut state.cars.entry(position.driver_number).positions, entry, HISTORY_MAX);
    }
}

impl Handle<Gap> for PitStopsOperator {
    fn apply(&self, state: &mut State, gap: &Gap, context: &mut Context<'_, PitStop>) {
        let (at, cause) = (context.event_time(), context.newest_cause());
        state.field.is_race = true;
        let car = state.cars.entry(gap.driver_number);
        keep(&mut car.gaps, At { at, value: gap.gap_ms, cause }, HISTORY_MAX);
        if !car.is_awaited || gap.laps_behind.is_none() || gap.is_held {
            return;
        }
        let place = car.positions.back().copied();
        let Some(pass) = car.passes.last_mut().filter(|pass| at.since(pass.exited_at()) >= self.rejoin_ms * 1_000) else { return };
        car.is_awaited = false;
        if let Some(place) = place {
            pass.position_after.take(Some(place.value), place.cause);
        }
        pass.interval_after_ms.take(gap.interval_ms, cause);
        car.say(gap.driver_number, context);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bench, at_ms, interval, lap, pit, position, race_control, stint};
    use pitwall_schemas::codec::Reading;
    use pitwall_schemas::raw::{self, Sample};
    use pitwall_schemas::shared::FactHeader;

    fn bench() -> Bench {
        Bench::new(crate::join)
    }

    /// A pass that ends at `second`, with the seconds in the lane.
    fn pass(driver_number: i32, lap_number: i32, second: i64, lane_duration: Option<f64>) -> Pit {
        Pit { lane_duration, ..pit(driver_number, lap_number, at_ms(second * 1_000)) }
    }

    fn arrive(bench: &mut Bench, second: i64, sample: impl Into<Sample>) {
        bench.arrive(second * 1_000, sample.into());
    }

    fn stint_of(driver_number: i32, stint_number: i32, laps: (i32, i32), compound: &str) -> raw::Stint {
        let compound = Some(compound.into());
        raw::Stint { lap_start: Some(laps.0), lap_end: Some(laps.1), compound, ..stint(driver_number, stint_number) }
    }

    fn place(bench: &mut Bench, second: i64, places: &[(i32, i32)]) {
        for (driver_number, place) in places {
            arrive(bench, second, position(*driver_number, at_ms(second * 1_000), *place));
        }
    }

    fn gap(bench: &mut Bench, second: i64, driver_number: i32, gap_to_leader: f64, ahead: f64) {
        let (gap_to_leader, ahead) = (Reading::Number(gap_to_leader), Reading::Number(ahead));
        arrive(bench, second, raw::Interval { gap_to_leader, interval: ahead, ..interval(driver_number, at_ms(second * 1_000)) });
    }

    fn lap_of(driver_number: i32, lap_number: i32, second: i64, lap_duration: Option<f64>) -> raw::Lap {
        raw::Lap { date_start: Some(at_ms(second * 1_000)), lap_duration, ..lap(driver_number, lap_number) }
    }

    fn said(bench: &Bench) -> Vec<(FactHeader, PitStop)> {
        bench.facts::<PitStop>()
    }

    fn last(bench: &Bench) -> PitStop {
        said(bench).pop().unwrap().1
    }

    /// Case 23.
    #[test]
    fn two_passes_on_one_lap_are_two_and_a_new_version_corrects_its_own() {
        let mut bench = bench();
        arrive(&mut bench, 100, pass(4, 7, 100, Some(21.0)));
        arrive(&mut bench, 160, pass(4, 7, 160, None));
        arrive(&mut bench, 161, pass(4, 7, 160, Some(19.5)));
        let facts = said(&bench);
        let said: Vec<_> = facts.iter().map(|(header, fact)| (fact.pass, fact.lane_ms, header.supersedes)).collect();
        assert_eq!(said, [(1, Some(21_000), None), (2, None, None), (2, Some(19_500), Some(facts[1].0.fact_seq))]);
    }

    /// Case 23.
    #[test]
    fn a_drive_through_is_no_stop() {
        let mut bench = bench();
        let words = "FIA STEWARDS: DRIVE THROUGH PENALTY FOR CAR 55 (SAI) - SPEEDING IN THE PIT LANE";
        arrive(&mut bench, 50, race_control(at_ms(50_000), words));
        arrive(&mut bench, 100, pass(55, 7, 100, Some(15.0)));
        arrive(&mut bench, 101, pass(5, 7, 100, Some(15.0)));
        let kinds: Vec<_> = said(&bench).into_iter().map(|(header, fact)| (fact.kind, fact.stop_number, header.causes.len())).collect();
        assert_eq!(kinds, [(PitPassKind::DriveThrough, None, 2), (PitPassKind::Unknown, None, 1)]);
    }

    /// Case 23.
    #[test]
    fn a_pass_without_a_reported_stop_is_no_stop_until_a_stint_tells() {
        let mut bench = bench();
        arrive(&mut bench, 100, pass(4, 7, 100, Some(21.0)));
        assert_eq!((last(&bench).kind, last(&bench).stop_number, last(&bench).stationary_ms), (PitPassKind::Unknown, None, None));
        arrive(&mut bench, 101, stint_of(4, 1, (1, 7), "MEDIUM"));
        arrive(&mut bench, 180, stint_of(4, 2, (8, 8), "HARD"));
        let fact = last(&bench);
        assert_eq!((fact.kind, fact.stop_number, fact.compound), (PitPassKind::Stop, Some(1), Some(Compound::Hard)));
        assert_eq!(said(&bench).len(), 2);
    }

    #[test]
    fn a_car_that_completes_no_lap_after_its_pass_is_presumed_to_have_stopped() {
        let mut bench = bench();
        arrive(&mut bench, 1, stint_of(16, 1, (1, 7), "MEDIUM"));
        arrive(&mut bench, 100, pass(16, 7, 100, Some(17.0)));
        for lap_number in 8..=11 {
            let second = 80 * i64::from(lap_number);
            assert_eq!((last(&bench).kind, last(&bench).stop_number), (PitPassKind::Unknown, None));
            arrive(&mut bench, second, lap_of(1, lap_number, second, None));
        }
        assert_eq!((last(&bench).kind, last(&bench).stop_number, last(&bench).has_new_tyres), (PitPassKind::Stop, Some(1), None));
    }

    #[test]
    fn without_stints_nothing_is_presumed_of_tyres() {
        let mut bench = bench();
        arrive(&mut bench, 100, pass(16, 7, 100, Some(17.0)));
        arrive(&mut bench, 900, lap_of(1, 11, 900, None));
        assert_eq!(last(&bench).kind, PitPassKind::Unknown);
    }

    #[test]
    fn a_pass_whose_stint_goes_on_had_no_new_tyres() {
        let mut bench = bench();
        arrive(&mut bench, 100, pass(4, 7, 100, None));
        arrive(&mut bench, 190, stint_of(4, 1, (1, 8), "MEDIUM"));
        assert_eq!(last(&bench).has_new_tyres, None, "a stint's last lap can lag by one");
        arrive(&mut bench, 280, stint_of(4, 1, (1, 9), "MEDIUM"));
        assert_eq!((last(&bench).kind, last(&bench).has_new_tyres), (PitPassKind::Pass, Some(false)));
    }

    #[test]
    fn a_penalty_that_is_served_or_of_another_car_explains_no_pass() {
        let mut bench = bench();
        arrive(&mut bench, 1, race_control(at_ms(1_000), "FIA STEWARDS: 10 SECOND STOP/GO PENALTY FOR CAR 44 (HAM) - JUMP START"));
        arrive(&mut bench, 2, race_control(at_ms(2_000), "FIA STEWARDS: PENALTY SERVED - DRIVE THROUGH PENALTY FOR CAR 4 (NOR)"));
        arrive(&mut bench, 100, pass(4, 7, 100, None));
        arrive(&mut bench, 101, pass(44, 7, 101, None));
        arrive(&mut bench, 200, pass(44, 8, 200, None));
        let kinds: Vec<_> = said(&bench).into_iter().map(|(_, fact)| fact.kind).collect();
        assert_eq!(kinds, [PitPassKind::Unknown, PitPassKind::StopAndGo, PitPassKind::Unknown]);
    }

    #[test]
    fn a_stop_with_new_tyres_serves_no_drive_through() {
        let mut bench = bench();
        arrive(&mut bench, 50, race_control(at_ms(50_000), "FIA STEWARDS: DRIVE THROUGH PENALTY FOR CAR 55 (SAI)"));
        arrive(&mut bench, 100, pass(55, 7, 100, None));
        arrive(&mut bench, 180, stint_of(55, 2, (8, 8), "HARD"));
        arrive(&mut bench, 200, pass(55, 9, 200, None));
        let facts = said(&bench);
        let kinds: Vec<_> = facts.iter().map(|(_, fact)| (fact.lap_number, fact.kind)).collect();
        assert_eq!(kinds, [(7, PitPassKind::DriveThrough), (7, PitPassKind::Stop), (9, PitPassKind::DriveThrough)]);
    }

    #[test]
    fn the_former_name_of_the_lane_time_stands_in_for_it_only() {
        let mut bench = bench();
        arrive(&mut bench, 100, Pit { pit_duration: Some(22.0), ..pass(4, 7, 100, None) });
        arrive(&mut bench, 101, Pit { pit_duration: Some(22.0), ..pass(4, 7, 100, Some(21.0)) });
        let lane: Vec<_> = said(&bench).into_iter().map(|(_, fact)| fact.lane_ms).collect();
        assert_eq!(lane, [Some(22_000), Some(21_000)]);
    }

    #[test]
    fn a_stop_under_the_safety_car_is_told_by_the_status_at_entry() {
        let mut bench = bench();
        let deployed = raw::RaceControl { category: Some("SafetyCar".into()), ..race_control(at_ms(90_000), "SAFETY CAR DEPLOYED") };
        arrive(&mut bench, 90, deployed);
        arrive(&mut bench, 100, pass(4, 7, 100, Some(20.0)));
        arrive(&mut bench, 120, pass(81, 7, 120, Some(20.0)));
        let slowed: Vec<_> = said(&bench).into_iter().map(|(_, fact)| fact.neutralisation).collect();
        assert_eq!(slowed, [Neutralisation::None, Neutralisation::SafetyCar]);
    }

    #[test]
    fn places_are_counted_from_entry_to_the_first_gap_on_the_track() {
        let mut bench = bench();
        place(&mut bench, 1, &[(1, 1), (4, 2), (16, 3), (44, 4)]);
        // Passed on the way in and in the lane, and once more on the out-lap.
        place(&mut bench, 85, &[(16, 2), (4, 3)]);
        arrive(&mut bench, 100, pass(4, 7, 100, Some(20.0)));
        gap(&mut bench, 102, 4, 25.0, 9.0);
        place(&mut bench, 103, &[(44, 3), (4, 4)]);
        gap(&mut bench, 106, 4, 25.5, 1.5);
        place(&mut bench, 120, &[(44, 4), (4, 3)]);
        let fact = last(&bench);
        assert_eq!((fact.position_before, fact.position_after, fact.positions_lost), (Some(2), Some(4), Some(2)));
        assert_eq!(fact.interval_after_ms, Some(1_500));
    }

    #[test]
    fn without_positions_and_gaps_what_a_stop_cost_is_unknown() {
        let mut bench = bench();
        arrive(&mut bench, 100, pass(4, 7, 100, Some(20.0)));
        let fact = last(&bench);
        assert_eq!((fact.position_before, fact.position_after, fact.positions_lost, fact.predicted_position), (None, None, None, None));
    }

    /// Car 4 laps in 80 s, and in 85 and 95 s around its stop on lap 7.
    fn stop_that_costs_20_s(bench: &mut Bench) {
        for lap_number in 2..=6 {
            arrive(bench, 80 * i64::from(lap_number), lap_of(4, lap_number, 80 * i64::from(lap_number - 1), Some(80.0)));
        }
        arrive(bench, 480, lap_of(4, 7, 480, None));
        arrive(bench, 570, pass(4, 7, 570, Some(18.0)));
        arrive(bench, 571, lap_of(4, 7, 480, Some(85.0)));
        arrive(bench, 571, stint_of(4, 2, (8, 8), "HARD"));
        arrive(bench, 661, lap_of(4, 8, 565, Some(95.0)));
    }

    #[test]
    fn the_loss_is_in_lap_and_out_lap_against_the_pace_before() {
        let mut bench = bench();
        stop_that_costs_20_s(&mut bench);
        assert_eq!(last(&bench).loss_ms, Some(20_000));
    }

    #[test]
    fn cars_less_than_the_pit_loss_behind_are_expected_ahead() {
        let mut bench = bench();
        place(&mut bench, 1, &[(1, 1), (81, 2), (16, 3), (44, 4), (63, 5)]);
        stop_that_costs_20_s(&mut bench);
        for (driver_number, to_leader) in [(81, 3.0), (16, 10.0), (44, 22.9), (63, 23.1)] {
            gap(&mut bench, 700, driver_number, to_leader, 1.0);
        }
        arrive(&mut bench, 725, pass(81, 9, 725, Some(20.0)));
        let fact = last(&bench);
        assert_eq!((fact.position_before, fact.predicted_position, fact.predicted_loss_ms), (Some(2), Some(4), Some(20_000)));
    }

    #[test]
    fn a_stop_at_the_end_of_lap_1_measures_no_loss() {
        let mut bench = bench();
        arrive(&mut bench, 1, lap_of(4, 1, 1, Some(95.0)));
        arrive(&mut bench, 116, pass(4, 1, 116, Some(20.0)));
        arrive(&mut bench, 200, lap_of(4, 2, 96, Some(104.0)));
        arrive(&mut bench, 201, stint_of(4, 2, (2, 2), "HARD"));
        assert_eq!((last(&bench).lap_number, last(&bench).kind, last(&bench).loss_ms), (1, PitPassKind::Stop, None));
    }

    #[test]
    fn a_lap_under_the_safety_car_measures_no_loss() {
        let mut bench = bench();
        let deployed = raw::RaceControl { category: Some("SafetyCar".into()), ..race_control(at_ms(500_000), "SAFETY CAR DEPLOYED") };
        arrive(&mut bench, 1, deployed);
        stop_that_costs_20_s(&mut bench);
        assert_eq!(last(&bench).loss_ms, None);
    }

    #[test]
    fn a_stale_version_is_ignored() {
        let mut bench = bench();
        arrive(&mut bench, 100, Pit { id: Some(2), ..pass(4, 7, 100, Some(21.0)) });
        arrive(&mut bench, 101, Pit { id: Some(1), ..pass(4, 7, 100, Some(2.0)) });
        assert_eq!(said(&bench).len(), 1);
    }

    #[test]
    fn more_passes_than_kept_are_rejected() {
        let mut bench = bench();
        for number in 0..=PASSES_MAX as i64 {
            arrive(&mut bench, 100 * number, pass(4, 7, 100 * number, None));
        }
        assert_eq!((said(&bench).len(), bench.rejections().len()), (PASSES_MAX, 1));
    }

    fn flag(bench: &mut Bench, second: i64, message: &str, flag: &str) {
        let (category, scope) = (Some("Flag".into()), Some("Track".into()));
        let shown = raw::RaceControl { category, scope, flag: Some(flag.into()), ..race_control(at_ms(second * 1_000), message) };
        arrive(bench, second, shown);
    }

    #[test]
    fn a_pass_while_the_race_is_stopped_is_no_stop_whatever_happens_to_the_tyres() {
        let mut bench = bench();
        flag(&mut bench, 90, "RED FLAG", "RED");
        arrive(&mut bench, 1_000, pass(4, 7, 1_000, Some(900.0)));
        arrive(&mut bench, 1_001, stint_of(4, 1, (1, 7), "MEDIUM"));
        arrive(&mut bench, 1_002, stint_of(4, 2, (8, 8), "HARD"));
        let fact = last(&bench);
        assert_eq!((fact.kind, fact.stop_number, fact.neutralisation), (PitPassKind::Pass, None, Neutralisation::RedFlag));
        assert_eq!((fact.has_new_tyres, fact.compound), (Some(true), Some(Compound::Hard)));
    }

    #[test]
    fn a_car_that_entered_before_the_red_flag_and_left_after_it_made_no_stop() {
        let mut bench = bench();
        flag(&mut bench, 110, "RED FLAG", "RED");
        flag(&mut bench, 990, "TRACK CLEAR", "CLEAR");
        arrive(&mut bench, 1_000, pass(4, 7, 1_000, Some(900.0)));
        assert_eq!(last(&bench).kind, PitPassKind::Pass);
    }

    #[test]
    fn a_car_that_stood_although_its_stint_goes_on_may_have_new_tyres_or_not() {
        let mut bench = bench();
        arrive(&mut bench, 100, Pit { stop_duration: Some(2.4), ..pass(4, 7, 100, Some(23.0)) });
        arrive(&mut bench, 280, stint_of(4, 1, (1, 9), "MEDIUM"));
        assert_eq!((last(&bench).kind, last(&bench).has_new_tyres), (PitPassKind::Unknown, None));
    }

    /// Spa 2025: official stops of which no stint tells.
    #[test]
    fn a_pass_as_long_as_the_stops_whose_stint_goes_on_may_have_been_one_and_a_short_one_was_not() {
        for (lane, expected) in [(22.5, (PitPassKind::Unknown, None)), (18.0, (PitPassKind::Pass, Some(false)))] {
            let mut bench = bench();
            for car in 11..=15 {
                arrive(&mut bench, 90, stint_of(car, 1, (1, 7), "MEDIUM"));
                arrive(&mut bench, 95, pass(car, 7, 95, Some(23.0)));
                arrive(&mut bench, 96, stint_of(car, 2, (8, 8), "HARD"));
            }
            arrive(&mut bench, 100, pass(4, 7, 100, Some(lane)));
            arrive(&mut bench, 280, stint_of(4, 1, (1, 9), "MEDIUM"));
            assert_eq!((last(&bench).kind, last(&bench).has_new_tyres), expected, "{lane} s");
        }
    }

    #[test]
    fn a_car_that_never_left_the_pit_lane_is_not_presumed_to_have_stopped_for_tyres() {
        let mut bench = bench();
        arrive(&mut bench, 1, stint_of(16, 1, (1, 7), "MEDIUM"));
        arrive(&mut bench, 100, pass(16, 7, 100, None));
        for lap_number in 8..=12 {
            let second = 80 * i64::from(lap_number);
            arrive(&mut bench, second, lap_of(1, lap_number, second, None));
        }
        assert_eq!((last(&bench).kind, last(&bench).stop_number), (PitPassKind::Unknown, None));
    }

    #[test]
    fn a_version_that_gives_the_pass_another_lap_moves_it() {
        let mut bench = bench();
        arrive(&mut bench, 100, pass(4, 7, 100, Some(21.0)));
        arrive(&mut bench, 101, pass(4, 8, 100, Some(21.0)));
        let said: Vec<_> = said(&bench).into_iter().map(|(header, fact)| (fact.lap_number, header.withdrawn)).collect();
        assert_eq!(said, [(7, false), (7, true), (8, false)]);
    }

    #[test]
    fn a_pass_on_a_lap_out_of_reach_is_rejected() {
        let mut bench = bench();
        arrive(&mut bench, 1, lap_of(1, 6, 1, None));
        arrive(&mut bench, 100, pass(4, 57, 100, Some(21.0)));
        assert_eq!((said(&bench).len(), bench.rejections().len()), (0, 1));
        // Laps may be missing for some minutes.
        arrive(&mut bench, 401, pass(4, 11, 401, Some(21.0)));
        assert_eq!(said(&bench).len(), 1);
    }

    /// Car 4 changes its tyres after lap 7, and no document says so.
    fn undocumented_stop(bench: &mut Bench, is_pit_out_lap: bool, lap_number: Option<i32>) {
        let category = Some("SessionStatus".into());
        let started = raw::RaceControl { category, lap_number, ..race_control(at_ms(0), "SESSION STARTED") };
        arrive(bench, 0, started);
        arrive(bench, 1, stint_of(4, 1, (1, 7), "MEDIUM"));
        for lap_number in 1..=10 {
            let second = 80 * i64::from(lap_number);
            arrive(bench, second, raw::Lap { is_pit_out_lap: is_pit_out_lap && lap_number == 8, ..lap_of(4, lap_number, second, None) });
            if lap_number >= 8 {
                arrive(bench, second + 5, stint_of(4, 2, (8, lap_number), "HARD"));
            }
        }
    }

    #[test]
    fn a_change_of_tyres_without_a_document_is_a_presumed_stop_until_the_document_comes() {
        let mut bench = bench();
        undocumented_stop(&mut bench, true, Some(1));
        let fact = last(&bench);
        assert_eq!((fact.lap_number, fact.kind, fact.compound, fact.is_presumed), (7, PitPassKind::Stop, Some(Compound::Hard), true));
        assert_eq!((fact.exited_at, fact.entered_at), (at_ms(640_000), None));
        arrive(&mut bench, 900, pass(4, 7, 655, Some(22.0)));
        let fact = last(&bench);
        assert_eq!((fact.kind, fact.is_presumed, fact.lane_ms, fact.pass), (PitPassKind::Stop, false, Some(22_000), 1));
        assert!(said(&bench).iter().all(|(header, _)| !header.withdrawn));
    }

    #[test]
    fn a_stop_presumed_from_its_stint_alone_is_withdrawn_when_the_feed_tells_of_passes_after_all() {
        let mut bench = bench();
        undocumented_stop(&mut bench, false, Some(1));
        assert!(last(&bench).is_presumed);
        arrive(&mut bench, 880, pass(16, 10, 880, Some(22.0)));
        arrive(&mut bench, 960, lap_of(4, 12, 960, None));
        let (header, fact) = said(&bench).pop().unwrap();
        assert_eq!((fact.driver_number, fact.lap_number, header.withdrawn), (4, 7, true));
    }

    #[test]
    fn outside_races_and_of_laps_that_were_not_seen_no_stop_is_presumed() {
        let mut qualifying = bench();
        undocumented_stop(&mut qualifying, true, None);
        assert!(said(&qualifying).is_empty());
        let mut joined = bench();
        gap(&mut joined, 1, 1, 0.0, 0.0);
        arrive(&mut joined, 3_000, lap_of(4, 30, 3_000, None));
        arrive(&mut joined, 3_001, stint_of(4, 2, (20, 30), "HARD"));
        arrive(&mut joined, 3_080, lap_of(4, 31, 3_080, None));
        assert!(said(&joined).is_empty());
    }

    #[test]
    fn a_set_that_goes_on_behind_the_safety_car_was_not_changed() {
        let mut bench = bench();
        let aged = |number, laps, age| raw::Stint { tyre_age_at_start: Some(age), ..stint_of(4, number, laps, "SOFT") };
        arrive(&mut bench, 1, aged(1, (1, 7), 0));
        arrive(&mut bench, 100, pass(4, 7, 100, Some(18.0)));
        arrive(&mut bench, 101, aged(2, (8, 8), 7));
        assert_eq!((last(&bench).kind, last(&bench).has_new_tyres, last(&bench).compound), (PitPassKind::Pass, Some(false), None));
    }

    #[test]
    fn no_penalty_is_served_behind_the_safety_car() {
        let mut bench = bench();
        arrive(&mut bench, 50, race_control(at_ms(50_000), "FIA STEWARDS: DRIVE THROUGH PENALTY FOR CAR 55 (SAI)"));
        let deployed = raw::RaceControl { category: Some("SafetyCar".into()), ..race_control(at_ms(60_000), "SAFETY CAR DEPLOYED") };
        arrive(&mut bench, 60, deployed);
        arrive(&mut bench, 100, pass(55, 7, 100, Some(20.0)));
        assert_eq!(last(&bench).kind, PitPassKind::Unknown);
    }

    #[test]
    fn a_pass_dated_a_day_ahead_ended_when_its_document_came() {
        let mut bench = bench();
        arrive(&mut bench, 100, pass(4, 7, 86_500, Some(20.0)));
        assert_eq!((last(&bench).exited_at, last(&bench).entered_at), (at_ms(100_000), Some(at_ms(80_000))));
        arrive(&mut bench, 101, pass(4, 7, 100, Some(20.0)));
        assert_eq!(said(&bench).iter().map(|(_, fact)| fact.pass).max(), Some(1), "the same pass");
    }
}
