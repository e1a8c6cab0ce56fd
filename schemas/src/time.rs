//! Points in time, in integer microseconds.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Microseconds since 1970-01-01T00:00:00Z: the resolution of every time PitWall keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Micros(pub i64);

impl Micros {
    /// One second in microseconds.
    pub const SECOND: i64 = 1_000_000;

    /// The time `micros` later; saturates at the end of the range.
    #[must_use]
    pub const fn plus(self, micros: i64) -> Self {
        Self(self.0.saturating_add(micros))
    }

    /// Microseconds from `earlier` to this moment; saturates.
    #[must_use]
    pub const fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The last whole second not after this moment; the start of the range when it holds none.
    #[must_use]
    pub const fn whole_second(self) -> Self {
        Self(self.0.div_euclid(Self::SECOND).saturating_mul(Self::SECOND))
    }
}

impl fmt::Display for Micros {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(timestamp) => write!(formatter, "{timestamp:.6}"),
            Err(_) => write!(formatter, "{}µs", self.0),
        }
    }
}

/// A text that is not a date and time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an ISO 8601 date and time such as 2025-08-31T13:03:21.22+00:00")]
pub struct NotATime(pub String);

impl FromStr for Micros {
    type Err = NotATime;

    /// Reads an ISO 8601 date and time as OpenF1 writes them: the fraction may be missing, and so may the offset, which then is UTC
    /// (OpenF1's REST documents carry `+00:00`, its MQTT documents often nothing).
    fn from_str(text: &str) -> Result<Self, NotATime> {
        let refuse = || NotATime(text.chars().take(64).collect());
        if let Ok(timestamp) = text.parse::<jiff::Timestamp>() {
            return Ok(Self(timestamp.as_microsecond()));
        }
        // jiff would take a bare date as midnight; a sample that says no time of day is not a sample. It would also drop the time zone
        // of `[Asia/Tokyo]`, and what is left is not UTC.
        if !text.contains(['T', ' ']) || text.contains('[') {
            return Err(refuse());
        }
        let civil: jiff::civil::DateTime = text.parse().map_err(|_| refuse())?;
        let zoned = civil.to_zoned(jiff::tz::TimeZone::UTC).map_err(|_| refuse())?;
        Ok(Self(zoned.timestamp().as_microsecond()))
    }
}

impl Serialize for Micros {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { serializer.serialize_i64(self.0) }
    }
}

impl<'de> Deserialize<'de> for Micros {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
            text.parse().map_err(serde::de::Error::custom)
        } else {
            i64::deserialize(deserializer).map(Self)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_with_and_without_fraction_and_offset() {
        let expected = Micros(1_756_645_401_000_000);
        for text in [
            "2025-08-31T13:03:21+00:00",
            "2025-08-31T13:03:21",
            "2025-08-31T13:03:21.000000",
            "2025-08-31T13:03:21Z",
            "2025-08-31T15:03:21+02:00",
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        assert_eq!("2025-08-31T13:03:21.22".parse(), Ok(expected.plus(220_000)));
    }

    #[test]
    fn what_is_not_a_date_and_time_is_refused() {
        for text in ["", "yesterday", "2025-08-31", "1756645401", "2025-13-31T13:03:21", "2025-08-31T13:03:21+99:00"] {
            assert!(text.parse::<Micros>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_time_zone_by_name_is_never_taken_for_utc() {
        assert!("2025-08-31T13:03:21[Asia/Tokyo]".parse::<Micros>().is_err());
        assert_eq!("2025-08-31T22:03:21+09:00[Asia/Tokyo]".parse(), Ok(Micros(1_756_645_401_000_000)));
    }

    #[test]
    fn a_time_prints_as_rfc_3339_and_reads_back() {
        let time = Micros(1_756_645_401_220_001);
        assert_eq!(time.to_string(), "2025-08-31T13:03:21.220001Z");
        assert_eq!(time.to_string().parse(), Ok(time));
    }

    #[test]
    fn a_whole_second_is_never_after_the_moment_even_before_1970() {
        assert_eq!(Micros(1_999_999).whole_second(), Micros(1_000_000));
        assert_eq!(Micros(-1).whole_second(), Micros(-1_000_000));
        assert_eq!(Micros(i64::MIN).whole_second(), Micros(i64::MIN));
    }
}
