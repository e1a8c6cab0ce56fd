//! Presence: what shows that a car still takes part in the race and what shows that it stands, from which
//! [`timing`](crate::timing) tells which cars have stopped, retired or not started.
//!
//! OpenF1's documents never say that a car is out, so it has to be seen from what the car itself sends. All times are times of arrival:
//! they say since when the feed is silent about a car, and a late document is no silence.
//!
//! * A sign of life: a lap begun or a time on it, a gap in seconds that changed, a place gained, a way out of the pit lane, two packets of
//!   `car_data` in a row at [`PresenceRules::driving_speed_min`] or more. A `+1 LAP` is none: the leader's laps change it.
//! * An `intervals` document with seconds that are the same as before keeps a car in the race, but brings none back.
//! * A car stands while its `car_data` says at most [`PresenceRules::standing_speed_max`], and goes on standing when they cease: a car
//!   that is switched off sends no more (Dutch race 2025: cars 4 and 44).
//! * It stands in the pit lane, where cars are repaired, when it drove at the limit of 60 or 80 km/h before (sporting regulations). In the
//!   Dutch race 2025 a car did so before each of 40 stops at its box, and before neither stop on the track.
//! * Silence is evidence only against a feed that goes on. Cars that fall silent within [`PresenceRules::together_ms_max`] of each other
//!   are a hole of the feed unless more cars go on than fell silent.

use std::collections::VecDeque;

use pitwall_engine::Micros;
use pitwall_schemas::facts::TelemetrySample;
use serde::{Deserialize, Serialize};

use crate::known::in_order;

/// Speeds of a car at the limit of the pit lane, km/h: 60 or 80, and what drivers stay below or exceed it by.
const LIMITER_SPEEDS: [std::ops::RangeInclusive<i32>; 2] = [57..=61, 76..=82];

/// For how long a car drives at the limit at least, µs: a corner of that speed is shorter.
const LIMITER_MIN: i64 = Micros::SECOND;

/// How long after driving at the limit a car stands at its box at most, µs.
const BOX_MAX: i64 = 20 * Micros::SECOND;

/// How long after a car came to stand documents from before may arrive, µs.
const LAG_MAX: i64 = 5 * Micros::SECOND;

/// What counts as silence, standing and driving.
#[derive(Debug, Clone, Copy)]
pub struct PresenceRules {
    /// Laps that another car begins while a car shows no sign of life, after which the other has gone on without it.
    pub laps_missed_max: usize,
    /// Shortest silence, ms. Documents that come all at once, as after a join, are no laps missed.
    pub silence_ms_min: i64,
    /// Cars that fell silent at most this far apart, ms, may have done so together.
    pub together_ms_max: i64,
    /// How long a car stands before it is said, ms: less than the 30 s within which it has to be, more than a spin or a stop takes.
    pub standing_ms_min: i64,
    /// Fastest that still counts as standing, km/h.
    pub standing_speed_max: i32,
    /// Slowest car that shows by its speed that it takes part, km/h. Slower ones may be pushed or towed.
    pub driving_speed_min: i32,
    /// Oldest packet that tells what a car does now, ms.
    pub packet_age_ms_max: i64,
    /// For how long a car without `car_data` is taken to go on after a sign of life, ms: longer than a lap.
    pub lap_ms_max: i64,
}

impl Default for PresenceRules {
    fn default() -> Self {
        Self {
            laps_missed_max: 3,
            silence_ms_min: 90_000,
            together_ms_max: 60_000,
            standing_ms_min: 20_000,
            standing_speed_max: 5,
            driving_speed_min: 60,
            packet_age_ms_max: 5_000,
            lap_ms_max: 150_000,
        }
    }
}

impl PresenceRules {
    /// Names and values, as the graph's hash takes them.
    #[must_use]
    pub fn parameters(&self) -> Vec<(&'static str, String)> {
        vec![
            ("laps_missed_max", self.laps_missed_max.to_string()),
            ("silence_ms_min", self.silence_ms_min.to_string()),
            ("together_ms_max", self.together_ms_max.to_string()),
            ("standing_ms_min", self.standing_ms_min.to_string()),
            ("standing_speed_max", self.standing_speed_max.to_string()),
            ("driving_speed_min", self.driving_speed_min.to_string()),
            ("packet_age_ms_max", self.packet_age_ms_max.to_string()),
            ("lap_ms_max", self.lap_ms_max.to_string()),
        ]
    }
}

/// What one car has shown.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Presence {
    /// When its laps last showed a sign of life, and when anything else did.
    lap_at: Option<Micros>,
    seen_at: Option<Micros>,
    /// When its last long silence began that is over.
    was_silent_from: Option<Micros>,
    /// When its newest laps were begun.
    begun: VecDeque<Micros>,
    /// Whether it has shown since the start that it moves.
    pub has_driven: bool,
    packet: Option<Packet>,
    limiter: Limiter,
    stand: Option<Stand>,
    /// When race control said that it stopped, and the ledger record.
    told_stopped: Option<(Micros, u64)>,
}

/// The newest packet of `car_data`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Packet {
    arrived_at: Micros,
    newest: Micros,
    speed: i32,
}

/// A car that stands.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Stand {
    since: Micros,
    cause: u64,
    is_in_pit_lane: bool,
}

/// Whether a car drives at the limit of the pit lane, by dates of samples.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Limiter {
    since: Option<Micros>,
    held_at: Option<Micros>,
}

impl Limiter {
    fn take(&mut self, date: Micros, speed: i32) {
        if !LIMITER_SPEEDS.iter().any(|speeds| speeds.contains(&speed)) {
            self.since = None;
            return;
        }
        let since = *self.since.get_or_insert(date);
        if date.since(since) >= LIMITER_MIN {
            self.held_at = Some(date);
        }
    }
}

/// What a packet of `car_data` changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// Nothing.
    Nothing,
    /// The car has come to stand.
    Stands,
    /// It moves again after it stood.
    Moves,
    /// It drives as cars in the race do.
    Drives,
}

impl Presence {
    /// A sign of life is about to be taken: it may end a long silence.
    fn end_silence(&mut self, now: Micros, rules: &PresenceRules) {
        let silent_from = self.alive_at().filter(|alive_at| now.since(*alive_at) >= rules.silence_ms_min * 1_000);
        self.was_silent_from = silent_from.or(self.was_silent_from);
    }

    /// A lap began to be known.
    pub fn begin_lap(&mut self, now: Micros, rules: &PresenceRules) {
        self.end_silence(now, rules);
        if self.begun.len() >= rules.laps_missed_max {
            self.begun.pop_front();
        }
        self.begun.push_back(now);
        self.lap_at = Some(now);
        self.told_stopped = None;
    }

    /// The car's laps showed a sign of life.
    pub fn show_lap(&mut self, now: Micros, rules: &PresenceRules) {
        self.end_silence(now, rules);
        self.lap_at = Some(now);
        self.has_driven = true;
    }

    /// Something other than its laps showed a sign of life.
    pub fn show(&mut self, now: Micros, rules: &PresenceRules) {
        self.end_silence(now, rules);
        self.seen_at = Some(now);
        self.has_driven = true;
        self.told_stopped.take_if(|(told_at, _)| now.since(*told_at) > LAG_MAX);
    }

    /// Race control said that the car stopped.
    pub const fn tell_stopped(&mut self, now: Micros, cause: u64) {
        self.told_stopped = Some((now, cause));
    }

    /// The race goes on after it stood still: silence counts from now.
    pub fn go_on(&mut self, now: Micros) {
        self.lap_at = self.lap_at.map(|_| now);
    }

    /// When the car last showed a sign of life.
    pub fn alive_at(&self) -> Option<Micros> {
        self.lap_at.max(self.seen_at)
    }

    /// Whether something other than its laps showed a sign of life after `moment`.
    pub fn was_seen_after(&self, moment: Micros) -> bool {
        self.seen_at.is_some_and(|seen_at| seen_at > moment)
    }

    /// Whether the car has begun a lap.
    pub fn has_laps(&self) -> bool {
        !self.begun.is_empty()
    }

    /// Whether the car has begun so many laps since that one without a sign of life since then has been left behind.
    pub fn has_gone_on_since(&self, moment: Micros, rules: &PresenceRules) -> bool {
        self.begun.len() >= rules.laps_missed_max && self.begun.front().is_some_and(|first| *first > moment)
    }

    /// Whether the car's own last sign of life came about `moment`, or the last before a long silence did.
    pub fn fell_silent_about(&self, moment: Micros, rules: &PresenceRules) -> bool {
        let is_about = |silent_from: Micros| silent_from.since(moment).abs() <= rules.together_ms_max * 1_000;
        self.alive_at().is_some_and(is_about) || self.was_silent_from.is_some_and(is_about)
    }

    /// Whether `car_data` have told since `moment` and never that the car moves.
    pub fn never_moved_since(&self, moment: Micros) -> bool {
        !self.has_driven && self.packet.is_some_and(|packet| packet.arrived_at >= moment)
    }

    /// Takes a packet of `car_data` that came from ledger record `cause`.
    pub fn take_packet(&mut self, samples: &[TelemetrySample], cause: u64, now: Micros, rules: &PresenceRules) -> Heard {
        for sample in samples {
            if let Some(speed) = sample.speed {
                self.limiter.take(sample.date, speed);
            }
        }
        let Some((newest, speed)) = samples.last().and_then(|sample| Some((sample.date, sample.speed?))) else { return Heard::Nothing };
        if self.packet.is_some_and(|packet| packet.newest > newest) {
            return Heard::Nothing;
        }
        let before = self.packet.replace(Packet { arrived_at: now, newest, speed });
        if speed <= rules.standing_speed_max {
            if self.stand.is_some() {
                return Heard::Nothing;
            }
            let is_in_pit_lane = self.limiter.held_at.is_some_and(|held_at| newest.since(held_at) <= BOX_MAX);
            self.stand = Some(Stand { since: now, cause, is_in_pit_lane });
            return Heard::Stands;
        }
        if speed >= rules.driving_speed_min && before.is_some_and(|before| before.speed >= rules.driving_speed_min) {
            self.stand = None;
            return Heard::Drives;
        }
        // A car that is pushed rolls at a walking pace.
        if speed > 4 * rules.standing_speed_max && self.stand.take().is_some() { Heard::Moves } else { Heard::Nothing }
    }

    /// The ledger records that say that the car stands.
    pub fn standing_causes(&self) -> Vec<u64> {
        in_order([self.stand.map(|stand| stand.cause), self.told_stopped.map(|(_, cause)| cause)])
    }

    /// Whether the car stands, for however short a time.
    pub const fn stands(&self) -> bool {
        self.stand.is_some() || self.told_stopped.is_some()
    }

    /// Whether the car has stood on the track for long enough to be said, in a race that goes on since `on_since`.
    pub fn has_stopped(&self, on_since: Micros, now: Micros, rules: &PresenceRules) -> bool {
        let has_stood = |stand: Stand| {
            let long_enough = now.since(stand.since.max(on_since)) >= rules.standing_ms_min * 1_000;
            let is_refuted = self.alive_at().is_some_and(|alive_at| alive_at > stand.since.plus(LAG_MAX));
            long_enough && !stand.is_in_pit_lane && !is_refuted
        };
        self.told_stopped.is_some() || self.stand.is_some_and(has_stood)
    }

    /// Since when the car stands.
    pub fn stands_since(&self) -> Option<Micros> {
        self.stand.map(|stand| stand.since)
    }

    /// Whether the car goes on now, as far as can be told.
    pub fn goes_on(&self, now: Micros, rules: &PresenceRules) -> bool {
        match self.packet {
            Some(packet) => self.stand.is_none() && now.since(packet.arrived_at) <= rules.packet_age_ms_max * 1_000,
            None => self.alive_at().is_some_and(|alive_at| now.since(alive_at) <= rules.lap_ms_max * 1_000),
        }
    }
}
