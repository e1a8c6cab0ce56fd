//! Penalties: race control's messages about one car, in the order of their dates, read into what is left to be served and whether the
//! car is disqualified.
//!
//! Rules, with their source where there is one:
//! * A penalty is to be served until `PENALTY SERVED` names it: of several of the kind the one of the same seconds, then that of the same
//!   reason, then the oldest. One of other seconds and for another reason is not meant.
//! * `CORRECTION` and `UPDATE` replace a penalty and do not add one: that for the same reason, else the newest. One that was served stays so.
//! * A penalty `CONVERTED` into another is replaced by it. Race control also says it without the word: a time penalty of what a drive-through
//!   (20 s) or a stop-and-go (30 s) counts at the end, for the same reason as one that was not served (sporting regulations).
//! * What is `RESCINDED`, `REVOKED` or the like is gone, and a car that is `REINSTATED` is no longer disqualified.
//! * Messages count in the order of their dates, so that one that arrives late takes nothing back that was said after it.

use pitwall_engine::Micros;
use pitwall_schemas::facts::{MessageKind, PenaltyKind, RaceControlMessage};
use serde::{Deserialize, Serialize};

/// Messages about one car that are kept. Of more, the oldest is forgotten.
const NOTICES_MAX: usize = 64;

/// What a drive-through and a stop-and-go that were not served add to the time, s (sporting regulations).
const DRIVE_THROUGH_SECONDS: i32 = 20;
const STOP_AND_GO_SECONDS: i32 = 30;

/// Words that take back what was decided.
const TAKEN_BACK: [&str; 8] = ["RESCINDED", "REVOKED", "OVERTURNED", "ANNULLED", "CANCELLED", "WITHDRAWN", "SET ASIDE", "NO PENALTY FOR"];

/// A penalty that race control has announced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Penalty {
    kind: PenaltyKind,
    seconds: Option<i32>,
    reason: Option<String>,
}

/// What one message says of a car.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Notice {
    /// A new penalty.
    Given(Penalty),
    /// A penalty as it is after a correction.
    Corrected(Penalty),
    /// A penalty into which one of the kind `from` was converted; without a kind, one that is served by driving.
    Converted {
        /// The kind that is gone.
        from: Option<PenaltyKind>,
        /// What counts instead.
        to: Penalty,
    },
    /// A penalty that was served.
    Served(Penalty),
    /// A penalty that was taken back.
    Rescinded(Penalty),
    /// The car is disqualified.
    Disqualified,
    /// The car is no longer disqualified.
    Reinstated,
}

impl Notice {
    /// What the message says of each car that it names, if it is about penalties at all.
    #[must_use]
    pub fn read(message: &RaceControlMessage) -> Option<Self> {
        let says = |words: &str| message.text.contains(words);
        let is_taken_back = TAKEN_BACK.iter().any(|words| says(words));
        let is_about_a_lap = matches!(message.kind, MessageKind::LapDeleted | MessageKind::LapReinstated);
        if says("DISQUALIF") && (is_taken_back || says("NO LONGER") || says("REINSTATED")) {
            return Some(Self::Reinstated);
        }
        if message.kind == MessageKind::Disqualified {
            return Some(Self::Disqualified);
        }
        let Some(kind) = message.penalty else {
            return (says("REINSTATED") && !is_about_a_lap).then_some(Self::Reinstated);
        };
        let penalty = Penalty { kind, seconds: message.penalty_seconds, reason: message.reason.clone() };
        Some(match message.kind {
            MessageKind::PenaltyServed => Self::Served(penalty),
            _ if is_taken_back => Self::Rescinded(penalty),
            _ => match conversion(&message.text, &penalty) {
                Some(converted) => converted,
                None if ["CORRECTION", "CORRECTED", "AMENDED", "UPDATE:"].iter().any(|words| says(words)) => Self::Corrected(penalty),
                None => Self::Given(penalty),
            },
        })
    }
}

/// What `text` converts into what: `DRIVE THROUGH PENALTY FOR CAR 1 (VER) CONVERTED TO 20 SECOND TIME PENALTY`.
fn conversion(text: &str, penalty: &Penalty) -> Option<Notice> {
    let (from, to) = if let Some((before, after)) = text.split_once("CONVERTED") {
        if after.trim_start().starts_with("FROM") { (after, before) } else { (before, after) }
    } else {
        let (to, from) = ["IN LIEU OF", "INSTEAD OF", "IN PLACE OF"].iter().find_map(|words| text.split_once(words))?;
        (from, to)
    };
    let from = named(from).map(|(kind, _)| kind);
    let (kind, seconds) = named(to).unwrap_or((penalty.kind, penalty.seconds));
    let seconds = seconds.or_else(|| from.and_then(seconds_at_the_end)).filter(|_| kind == PenaltyKind::Time);
    Some(Notice::Converted { from, to: Penalty { kind, seconds, reason: penalty.reason.clone() } })
}

/// The penalty that a part of a message names, and its seconds.
fn named(text: &str) -> Option<(PenaltyKind, Option<i32>)> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let seconds = words.windows(2).find(|pair| matches!(pair[1], "SECOND" | "SECONDS")).and_then(|pair| pair[0].parse().ok());
    let kind = match text {
        _ if text.contains("DRIVE THROUGH") || text.contains("DRIVE-THROUGH") => PenaltyKind::DriveThrough,
        _ if text.contains("STOP") => PenaltyKind::StopAndGo,
        _ if text.contains("GRID") => PenaltyKind::Grid,
        _ if text.contains("TIME PENALTY") || seconds.is_some() => PenaltyKind::Time,
        _ => return None,
    };
    Some((kind, seconds))
}

/// What an unserved penalty of the kind, which is served by driving, adds at the end.
const fn seconds_at_the_end(kind: PenaltyKind) -> Option<i32> {
    match kind {
        PenaltyKind::DriveThrough => Some(DRIVE_THROUGH_SECONDS),
        PenaltyKind::StopAndGo => Some(STOP_AND_GO_SECONDS),
        _ => None,
    }
}

/// What race control has said of one car.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Penalties {
    /// In the order of their dates.
    notices: Vec<(Micros, Notice)>,
    to_serve: Vec<Penalty>,
    served: Vec<Penalty>,
    is_disqualified: bool,
}

impl Penalties {
    /// Takes what a message of `date` says.
    pub fn take(&mut self, date: Micros, notice: Notice) {
        let after = self.notices.partition_point(|(other, _)| *other <= date);
        self.notices.insert(after, (date, notice));
        if self.notices.len() > NOTICES_MAX {
            self.notices.remove(0);
        }
        (self.to_serve, self.served, self.is_disqualified) = (Vec::new(), Vec::new(), false);
        for (_, notice) in self.notices.clone() {
            self.follow(notice);
        }
    }

    fn follow(&mut self, notice: Notice) {
        match notice {
            Notice::Given(penalty) => {
                let converted = self.to_serve.iter().position(|other| is_converted(other, &penalty));
                self.replace(converted, penalty);
            }
            Notice::Corrected(penalty) => {
                let is_served = self.served.iter().any(|other| has_reason_of(other, &penalty));
                let meant = self.newest(|other| has_reason_of(other, &penalty));
                if meant.is_some() || !is_served {
                    self.replace(meant.or_else(|| self.newest(|_| true)), penalty);
                }
            }
            Notice::Converted { from, to } => {
                let is_meant = |other: &Penalty| from.map_or(seconds_at_the_end(other.kind).is_some(), |kind| other.kind == kind);
                let meant = self.newest(|other| is_meant(other) && has_reason_of(other, &to));
                self.replace(meant.or_else(|| self.newest(is_meant)), to);
            }
            Notice::Served(penalty) => {
                if let Some(index) = self.meant(&penalty) {
                    self.served.push(self.to_serve.remove(index));
                }
            }
            Notice::Rescinded(penalty) => {
                let any = || self.newest(|_| penalty.kind == PenaltyKind::Other);
                if let Some(index) = self.meant(&penalty).or_else(any) {
                    self.to_serve.remove(index);
                }
            }
            Notice::Disqualified => self.is_disqualified = true,
            Notice::Reinstated => self.is_disqualified = false,
        }
    }

    fn newest(&self, is_meant: impl Fn(&Penalty) -> bool) -> Option<usize> {
        self.to_serve.iter().rposition(is_meant)
    }

    /// The penalty that a message means which names it again: the oldest of those that fit best.
    fn meant(&self, penalty: &Penalty) -> Option<usize> {
        let has_seconds = |other: &Penalty| other.seconds == penalty.seconds;
        let fits = |other: &Penalty| {
            other.kind == penalty.kind && (penalty.seconds.is_none() || has_seconds(other) || has_reason_of(other, penalty))
        };
        let fitting = self.to_serve.iter().enumerate().filter(|(_, other)| fits(other));
        fitting.min_by_key(|(index, other)| (!has_seconds(other), !has_reason_of(other, penalty), *index)).map(|(index, _)| index)
    }

    /// Puts the penalty in the place of another; without one it is a new penalty.
    fn replace(&mut self, index: Option<usize>, penalty: Penalty) {
        if let Some(index) = index {
            self.to_serve.remove(index);
        }
        self.to_serve.push(penalty);
    }

    /// Seconds that are added to the car's time: those of unserved time penalties, from the end on also of what is served by driving.
    #[must_use]
    pub fn seconds(&self, has_finished: bool) -> i32 {
        let seconds = |penalty: &Penalty| match penalty.kind {
            PenaltyKind::Time => penalty.seconds,
            kind => seconds_at_the_end(kind).filter(|_| has_finished),
        };
        self.to_serve.iter().filter_map(seconds).sum()
    }

    /// Whether nothing is left to be served.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.to_serve.is_empty()
    }

    /// Whether the car is disqualified.
    #[must_use]
    pub const fn is_disqualified(&self) -> bool {
        self.is_disqualified
    }
}

fn has_reason_of(other: &Penalty, penalty: &Penalty) -> bool {
    penalty.reason.is_some() && other.reason == penalty.reason
}

/// Whether `penalty` is what `other`, which was not served by driving, has become.
fn is_converted(other: &Penalty, penalty: &Penalty) -> bool {
    let at_the_end = seconds_at_the_end(other.kind);
    penalty.kind == PenaltyKind::Time && at_the_end.is_some() && at_the_end == penalty.seconds && has_reason_of(other, penalty)
}
