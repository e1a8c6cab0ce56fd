//! Moments: how a point in a session is written, everywhere the same.
//!
//! `seq:N` is a ledger record, `lap:N` the leader's completion of a lap, `+H:MM:SS` a reading of the race clock, and a date and time
//! with an offset (RFC 3339) is ledger time. A bare number could mean three of them and is refused. The state at a moment is the state
//! after every ledger record known by then.

use std::fmt;
use std::str::FromStr;

use crate::facts::RaceClock;
use crate::time::Micros;
use serde::{Deserialize, Serialize};

/// A point in a session, as people write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// After this ledger record.
    Seq(u64),
    /// When the leader's completion of this lap became known.
    Lap(i32),
    /// This moment of ledger time.
    Time(Micros),
    /// So many microseconds after the race clock started.
    RaceClock(i64),
}

/// A text that is no moment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAMoment {
    /// A number without a word about what it counts.
    #[error("`{0}` may be a record, a lap or a time: write seq:{0}, lap:{0} or +0:00:{0}")]
    BareNumber(String),
    /// Anything else.
    #[error("`{0}` is no moment: write seq:123456, lap:30, +0:42:10 (race clock) or 2025-08-31T13:42:10Z")]
    Unreadable(String),
}

impl FromStr for Moment {
    type Err = NotAMoment;

    fn from_str(text: &str) -> Result<Self, NotAMoment> {
        let shown = || text.chars().take(64).collect::<String>();
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(NotAMoment::BareNumber(shown()));
        }
        let read = if let Some(seq) = text.strip_prefix("seq:") {
            digits(seq).map(Self::Seq)
        } else if let Some(lap) = text.strip_prefix("lap:") {
            digits(lap).and_then(|lap| i32::try_from(lap).ok()).filter(|&lap| lap > 0).map(Self::Lap)
        } else if let Some(clock) = text.strip_prefix('+') {
            race_clock(clock).map(Self::RaceClock)
        } else {
            has_offset(text).then(|| text.parse().ok()).flatten().map(Self::Time)
        };
        read.ok_or_else(|| NotAMoment::Unreadable(shown()))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Seq(seq) => write!(formatter, "seq:{seq}"),
            Self::Lap(lap) => write!(formatter, "lap:{lap}"),
            Self::Time(time) => write!(formatter, "{time}"),
            Self::RaceClock(micros) => {
                let (seconds, fraction) = (micros / Micros::SECOND, micros % Micros::SECOND);
                write!(formatter, "+{}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60)?;
                if fraction > 0 { write!(formatter, ".{fraction:06}") } else { Ok(()) }
            }
        }
    }
}

/// Digits only: no sign, no blanks.
fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// `H:MM:SS` with up to six fractional digits, in µs.
fn race_clock(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let [hours, minutes, seconds] = <[&str; 3]>::try_from(whole.split(':').collect::<Vec<_>>()).ok()?;
    if minutes.len() != 2 || seconds.len() != 2 || !(1..=6).contains(&fraction.len()) {
        return None;
    }
    let (hours, minutes, seconds) = (digits(hours)?, digits(minutes)?, digits(seconds)?);
    if hours > 999 || minutes > 59 || seconds > 59 {
        return None;
    }
    let micros = digits(&format!("{fraction:0<6}"))?;
    i64::try_from((hours * 3_600 + minutes * 60 + seconds) * 1_000_000 + micros).ok()
}

/// Whether a date and time says how far from UTC it is, as RFC 3339 demands.
fn has_offset(text: &str) -> bool {
    let Some((_, time)) = text.split_once(['T', 't', ' ']) else { return false };
    time.ends_with(['Z', 'z']) || time.contains(['+', '-'])
}

/// What laps and the race clock of one session mean in ledger time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    /// When the race clock began, if it did.
    pub started_at: Option<Micros>,
    /// The leader's laps, in order.
    pub leader_laps: Vec<LeaderLap>,
}

/// The leader's completion of a lap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderLap {
    /// The lap.
    pub lap_number: i32,
    /// When it became known, in ledger time.
    pub known_at: Micros,
}

impl Clock {
    /// Takes a fact of the race clock, in order.
    pub fn take(&mut self, known_at: Micros, fact: &RaceClock) {
        // An aborted start is none, and laps that proved to be none are counted back.
        self.started_at = fact.started_at.or(self.started_at);
        self.leader_laps.retain(|lap| lap.lap_number <= fact.laps_completed);
        if fact.laps_completed > self.laps_completed() {
            self.leader_laps.push(LeaderLap { lap_number: fact.laps_completed, known_at });
        }
    }

    /// Laps the leader has completed.
    #[must_use]
    pub fn laps_completed(&self) -> i32 {
        self.leader_laps.last().map_or(0, |lap| lap.lap_number)
    }

    /// Whether it says enough to place `moment`; more of the session may be needed otherwise.
    #[must_use]
    pub fn places(&self, moment: Moment) -> bool {
        match moment {
            Moment::Seq(_) | Moment::Time(_) => true,
            Moment::Lap(lap) => self.laps_completed() >= lap,
            Moment::RaceClock(_) => self.started_at.is_some(),
        }
    }

    /// Where in the ledger `moment` is.
    ///
    /// # Errors
    /// When the session has no such moment.
    pub fn bound(&self, moment: Moment) -> Result<Bound, NoSuchMoment> {
        match moment {
            Moment::Seq(seq) => Ok(Bound::Seq(seq)),
            Moment::Time(time) => Ok(Bound::KnownAt(time)),
            Moment::Lap(lap) => {
                // A leader's lap may have been missed by the feed; the next one completes it too.
                let completed = self.leader_laps.iter().find(|known| known.lap_number >= lap);
                completed.map(|known| Bound::Reached(known.known_at)).ok_or(NoSuchMoment::Lap(lap, self.laps_completed()))
            }
            Moment::RaceClock(micros) => {
                self.started_at.map(|started_at| Bound::KnownAt(started_at.plus(micros))).ok_or(NoSuchMoment::NoRaceClock)
            }
        }
    }
}

/// Why a session has no such moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoSuchMoment {
    /// The leader never completed that lap.
    #[error("lap {0} was never completed: the leader completed {1}")]
    Lap(i32, i32),
    /// The race clock never started.
    #[error("the race clock never starts in this session: write seq:N or a date and time instead")]
    NoRaceClock,
    /// The ledger ends before.
    #[error("the session ends before: its last ledger record is seq:{0}")]
    AfterEnd(u64),
    /// The ledger begins later.
    #[error("the session begins later: its first ledger record is known at {0}")]
    BeforeStart(Micros),
}

/// A moment as a place in one session's ledger; the records up to and including it count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// Up to this record.
    Seq(u64),
    /// Every record known by this time.
    KnownAt(Micros),
    /// Every record before this time and the first one at or after it: what a fact known at this time followed from.
    Reached(Micros),
}

impl Bound {
    /// Whether a ledger record counts that comes after one known at `previous`.
    #[must_use]
    pub fn includes(self, seq: u64, known_at: Micros, previous: Option<Micros>) -> bool {
        match self {
            Self::Seq(last) => seq <= last,
            Self::KnownAt(last) => known_at <= last,
            Self::Reached(reached) => previous.is_none_or(|previous| previous < reached),
        }
    }

    /// Whether everything up to and including a record may count. A keyframe taken there is then a place to start from.
    #[must_use]
    pub fn may_start_after(self, seq: u64, known_at: Micros) -> bool {
        match self {
            Self::Seq(last) => seq <= last,
            Self::KnownAt(last) => known_at <= last,
            // A keyframe at the time itself may stand right behind the record that counts last, so it counts too; one behind it may not.
            Self::Reached(reached) => known_at <= reached,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_four_ways_to_write_a_moment_are_read_and_print_back() {
        for (text, expected) in [
            ("seq:0", Moment::Seq(0)),
            ("lap:30", Moment::Lap(30)),
            ("+1:02:03", Moment::RaceClock(3_723_000_000)),
            ("+0:00:00.250000", Moment::RaceClock(250_000)),
        ] {
            assert_eq!(text.parse(), Ok(expected));
            assert_eq!(expected.to_string(), text);
        }
        let time = Moment::Time(Micros(1_756_645_401_500_000));
        for text in ["2025-08-31T13:03:21.5Z", "2025-08-31T15:03:21.500+02:00", "2025-08-31T13:03:21.500000Z"] {
            assert_eq!(text.parse(), Ok(time), "{text}");
        }
    }

    #[test]
    fn a_bare_number_is_refused_with_what_it_may_have_meant() {
        let refused = "30".parse::<Moment>().unwrap_err();
        assert_eq!(refused.to_string(), "`30` may be a record, a lap or a time: write seq:30, lap:30 or +0:00:30");
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for text in [
            "",
            "lap:",
            "lap:0",
            "lap:-3",
            "lap:+3",
            "lap:x",
            "seq:",
            "seq:-1",
            "seq:1.5",
            "+30",
            "+1:2:3",
            "+0:60:00",
            "+0:00:60",
            "+0:00:00.",
            "+0:00:00.1234567",
            "+:00:00",
            "2025-08-31",
            "2025-08-31T13:03:21",
            "13:03:21Z",
            "now",
        ] {
            assert!(matches!(text.parse::<Moment>(), Err(NotAMoment::Unreadable(_))), "{text}");
        }
    }

    #[test]
    fn a_lap_that_the_feed_skipped_is_reached_with_the_next_one() {
        let mut clock = Clock::default();
        let fact = |laps_completed| RaceClock { started_at: None, laps_completed, driver_number: None };
        clock.take(Micros(10), &fact(1));
        clock.take(Micros(20), &fact(3));
        assert_eq!(clock.bound(Moment::Lap(2)), Ok(Bound::Reached(Micros(20))));
        assert_eq!(clock.bound(Moment::Lap(4)), Err(NoSuchMoment::Lap(4, 3)));
        assert_eq!(clock.bound(Moment::RaceClock(0)), Err(NoSuchMoment::NoRaceClock));
    }
}
