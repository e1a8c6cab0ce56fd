//! Penalties: race control's messages about one car, in the order of their dates, read into what is left to be served and whether the
//! car is disqualified.
//!
//! Rules, with their source where there is one:
//! * A penalty is to be served until `PENALTY SERVED` names it: of several of the kind the one of the same seconds, then that of the same
//!   reason, then the oldest. One of other seconds and for another reason is not meant.
//! * `CORRECTION` and `UPDATE` replace a penalty and do not add one: that for the same reason, else the newest. One that was served stays so.
//!   Where a car has none, and another has exactly that penalty, the number was corrected.
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
const TAKEN_BACK: [&str; 9] =
    ["RESCINDED", "REVOKED", "OVERTURNED", "ANNULLED", "CANCELLED", "WITHDRAWN", "SET ASIDE", "NO LONGER", "NO PENALTY FOR"];

/// Words between two penalties, and whether the new one stands behind them. Of several that fit the first is meant.
const CONVERSIONS: [(&str, bool); 8] = [
    ("CONVERTED FROM", false),
    ("IN LIEU OF", false),
    ("INSTEAD OF", false),
    ("IN PLACE OF", false),
    ("REPLACES", false),
    ("CONVERTED", true),
    ("REPLACED BY", true),
    ("REPLACED WITH", true),
];

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
        let text = message.text.to_uppercase();
        let says = |words: &str| text.contains(words);
        let is_taken_back = TAKEN_BACK.iter().any(|words| says(words));
        let is_about_a_lap = matches!(message.kind, MessageKind::LapDeleted | MessageKind::LapReinstated);
        if says("DISQUALIF") && (is_taken_back || says("REINSTATED")) {
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
            _ => match conversion(&text, &penalty) {
                Some(converted) => converted,
                None if ["CORRECTION", "CORRECTED", "AMENDED", "UPDATE:"].iter().any(|words| says(words)) => Self::Corrected(penalty),
                None => Self::Given(penalty),
            },
        })
    }
}

/// What `text` converts into what: `DRIVE THROUGH PENALTY FOR CAR 1 (VER) CONVERTED TO 20 SECOND TIME PENALTY`.
fn conversion(text: &str, penalty: &Penalty) -> Option<Notice> {
    let (from, to) = CONVERSIONS.iter().find_map(|(words, is_new_behind)| {
        let (before, behind) = text.split_once(words)?;
        Some(if *is_new_behind { (before, behind) } else { (behind, before) })
    })?;
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

    /// Whether a correction of `penalty` that names a car without one can mean this car: it has exactly that one to serve.
    #[must_use]
    pub fn has(&self, penalty: &Penalty) -> bool {
        self.to_serve.contains(penalty)
    }

    /// Whether the car ever got a penalty that was not taken back.
    #[must_use]
    pub const fn has_any(&self) -> bool {
        !self.to_serve.is_empty() || !self.served.is_empty()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::race_control::RaceControlOperator;
    use crate::testing::{Bench, at_ms, race_control};
    use pitwall_schemas::raw::{RaceControl, Sample};

    /// What is left of messages about car 1, each a minute after the one before.
    fn after(messages: &[&str]) -> Penalties {
        after_arrivals(messages.iter().zip(0..).map(|(words, minute)| (60 * minute, *words)))
    }

    fn after_arrivals<'a>(messages: impl IntoIterator<Item = (i64, &'a str)>) -> Penalties {
        let mut bench = Bench::new(|graph| {
            graph.publish(RaceControlOperator::default(), |inputs| inputs.samples::<RaceControl>());
        });
        for ((second, words), arrival) in messages.into_iter().zip(1_000..) {
            bench.arrive(arrival * 60_000, Sample::from(race_control(at_ms(second * 1_000), words)));
        }
        let mut penalties = Penalties::default();
        for (header, message) in bench.facts::<RaceControlMessage>() {
            if let Some(notice) = Notice::read(&message) {
                assert_eq!(message.driver_numbers, [1], "{}", message.text);
                penalties.take(header.event_time, notice);
            }
        }
        penalties
    }

    fn seconds(messages: &[&str]) -> i32 {
        after(messages).seconds(true)
    }

    #[test]
    fn a_corrected_penalty_counts_as_it_is_after_the_correction() {
        let given = "FIA STEWARDS: 10 SECOND TIME PENALTY FOR CAR 1 (VER) - CAUSING A COLLISION";
        let other = "FIA STEWARDS: 5 SECOND TIME PENALTY FOR CAR 1 (VER) - SPEEDING IN THE PIT LANE";
        let corrected = "FIA STEWARDS: CORRECTION: 5 SECOND TIME PENALTY FOR CAR 1 (VER) - CAUSING A COLLISION";
        assert_eq!(seconds(&[given, corrected]), 5);
        assert_eq!(seconds(&[given, "CORRECTION: FIA STEWARDS: 5 SECOND TIME PENALTY FOR CAR 1 (VER) - CAUSING A COLLISION"]), 5);
        assert_eq!(seconds(&[given, other, corrected]), 10, "of two that for the same reason");
        let for_another_reason = "CORRECTION: 10 SECOND TIME PENALTY FOR CAR 1 (VER) - FORCING ANOTHER DRIVER OFF THE TRACK";
        assert_eq!(seconds(&[given, for_another_reason]), 10, "the reason was corrected");
        assert_eq!(seconds(&[corrected]), 5, "the first message was not received");
        let served = "FIA STEWARDS: PENALTY SERVED - 10 SECOND TIME PENALTY FOR CAR 1 (VER) - CAUSING A COLLISION";
        assert_eq!(seconds(&[given, served, corrected]), 0, "it was served");
    }

    #[test]
    fn two_penalties_are_two() {
        let given = "FIA STEWARDS: 5 SECOND TIME PENALTY FOR CAR 1 (VER) - TRACK LIMITS";
        assert_eq!(seconds(&[given, given]), 10);
    }

    #[test]
    fn a_converted_penalty_is_replaced_by_what_it_became() {
        let drive_through = "FIA STEWARDS: DRIVE THROUGH PENALTY FOR CAR 1 (VER) - SPEEDING IN THE PIT LANE";
        let stop_and_go = "FIA STEWARDS: 10 SECOND STOP/GO PENALTY FOR CAR 1 (VER) - SPEEDING IN THE PIT LANE";
        for conversion in [
            "FIA STEWARDS: DRIVE THROUGH PENALTY FOR CAR 1 (VER) CONVERTED TO 20 SECOND TIME PENALTY - SPEEDING IN THE PIT LANE",
            "FIA STEWARDS: DRIVE THROUGH PENALTY FOR CAR 1 (VER) CONVERTED TO A TIME PENALTY",
            "FIA STEWARDS: 20 SECOND TIME PENALTY FOR CAR 1 (VER) - CONVERTED FROM DRIVE THROUGH PENALTY",
            "FIA STEWARDS: 20 SECOND TIME PENALTY FOR CAR 1 (VER) IN LIEU OF DRIVE THROUGH PENALTY",
            "FIA STEWARDS: 20 SECOND TIME PENALTY FOR CAR 1 (VER) - SPEEDING IN THE PIT LANE",
        ] {
            let penalties = after(&[drive_through, conversion]);
            assert_eq!((penalties.seconds(false), penalties.seconds(true)), (20, 20), "{conversion}");
        }
        let as_time = "FIA STEWARDS: 10 SECOND STOP/GO PENALTY FOR CAR 1 (VER) CONVERTED TO 30 SECOND TIME PENALTY";
        assert_eq!(seconds(&[stop_and_go, as_time]), 30);
        assert_eq!(seconds(&[as_time]), 30, "the first message was not received");
        assert_eq!(seconds(&[drive_through, "20 SECOND TIME PENALTY FOR CAR 1 (VER) - CAUSING A COLLISION"]), 40, "for something else");
        let time = "FIA STEWARDS: 5 SECOND TIME PENALTY FOR CAR 1 (VER) - UNSAFE RELEASE";
        assert_eq!(seconds(&[time, "5 SECOND TIME PENALTY FOR CAR 1 (VER) CONVERTED TO A 5 PLACE GRID PENALTY"]), 0);
    }

    #[test]
    fn what_is_taken_back_is_gone() {
        let given = "FIA STEWARDS: 5 SECOND TIME PENALTY FOR CAR 1 (VER) - TRACK LIMITS";
        let other = "FIA STEWARDS: 10 SECOND TIME PENALTY FOR CAR 1 (VER) - UNSAFE RELEASE";
        assert_eq!(seconds(&[given, other, "FIA STEWARDS: 5 SECOND TIME PENALTY FOR CAR 1 (VER) RESCINDED - TRACK LIMITS"]), 10);
        assert_eq!(seconds(&[given, "FIA STEWARDS: PENALTY FOR CAR 1 (VER) REVOKED"]), 0);
    }

    #[test]
    fn of_several_penalties_seconds_and_reason_tell_which_was_served() {
        let five = "FIA STEWARDS: 5 SECOND TIME PENALTY FOR CAR 1 (VER) - SPEEDING IN THE PIT LANE";
        let ten = "FIA STEWARDS: 10 SECOND TIME PENALTY FOR CAR 1 (VER) - CAUSING A COLLISION";
        let served = |words: &str| format!("FIA STEWARDS: PENALTY SERVED - {}", words.trim_start_matches("FIA STEWARDS: "));
        for (given, first, left) in [([five, ten], ten, 5), ([ten, five], ten, 5), ([five, ten], five, 10), ([ten, five], five, 10)] {
            assert_eq!(seconds(&[given[0], given[1], &served(first)]), left);
        }
        let limits = "FIA STEWARDS: 5 SECOND TIME PENALTY FOR CAR 1 (VER) - TRACK LIMITS";
        let penalties = after(&[five, limits, &served(limits)]);
        assert_eq!(penalties.to_serve[0].reason.as_deref(), Some("SPEEDING IN THE PIT LANE"), "of two of five seconds by the reason");
        assert_eq!(seconds(&[five, &served(ten)]), 5, "that of which no message was received");
        assert_eq!(seconds(&[five, "FIA STEWARDS: PENALTY SERVED - TIME PENALTY FOR CAR 1 (VER)"]), 0, "nothing says that it is another");
    }

    #[test]
    fn a_reinstated_car_is_no_longer_disqualified() {
        let out = "FIA STEWARDS: CAR 1 (VER) DISQUALIFIED - TECHNICAL NON COMPLIANCE";
        assert!(after(&[out]).is_disqualified());
        for back in [
            "FIA STEWARDS: CAR 1 (VER) REINSTATED",
            "FIA STEWARDS: DISQUALIFICATION OF CAR 1 (VER) OVERTURNED",
            "CORRECTION: CAR 1 (VER) IS NO LONGER DISQUALIFIED",
            "FIA STEWARDS: CAR 1 (VER) REINSTATED - DISQUALIFICATION RESCINDED",
        ] {
            assert!(!after(&[out, back]).is_disqualified(), "{back}");
            assert!(!after_arrivals([(5, back), (0, out)]).is_disqualified(), "{back}: the first message arrives last");
            assert!(after(&[out, back, "FIA STEWARDS: CAR 1 (VER) DISQUALIFIED - AFTER APPEAL"]).is_disqualified());
        }
        assert!(after(&[out, "CAR 1 (VER) TIME 1:25.936 WILL BE REINSTATED"]).is_disqualified(), "a lap was");
    }

    #[test]
    fn messages_beyond_the_limit_push_out_the_oldest() {
        let words: Vec<String> = (0..NOTICES_MAX + 3).map(|number| format!("1 SECOND TIME PENALTY FOR CAR 1 (VER) - {number}")).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        assert_eq!(seconds(&words), NOTICES_MAX as i32);
    }
}
