//! Which laps the cars can have reached, to tell a lap number that is an error of the feed.

use pitwall_engine::Micros;
use serde::{Deserialize, Serialize};

/// Shortest time in which a lap can be driven, µs: the fastest ever of a race took 54 s (Sakhir's outer circuit, 2020).
pub const LAP_MIN: i64 = 45 * Micros::SECOND;

/// The highest lap that the cars are known to have reached, and since when.
///
/// Documents of other collections lie at most two laps beyond, and further by as many laps as can have been driven since without being
/// sent (OpenF1 #283).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    /// 0 when no lap is known; then every lap can be reached.
    lap: i32,
    since: Micros,
}

impl Reach {
    /// Takes a lap that a car is on at `now`.
    pub fn take(&mut self, lap: i32, now: Micros) {
        if lap > self.lap {
            *self = Self { lap, since: now };
        }
    }

    /// Whether no car can be on `lap` at `now`.
    #[must_use]
    pub const fn is_beyond(&self, lap: i32, now: Micros) -> bool {
        self.lap > 0 && (lap - self.lap - 2) as i64 > now.since(self.since) / LAP_MIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lap_is_beyond_reach_until_there_was_time_to_drive_there() {
        let minute = |minute: i64| Micros(minute * 60 * Micros::SECOND);
        let mut reach = Reach::default();
        assert!(!reach.is_beyond(57, minute(0)), "when no lap is known");
        reach.take(6, minute(0));
        assert_eq!([8, 9, 57].map(|lap| reach.is_beyond(lap, minute(0))), [false, true, true]);
        assert_eq!([11, 12, 57].map(|lap| reach.is_beyond(lap, minute(3))), [false, false, true]);
        reach.take(5, minute(4));
        assert!(reach.is_beyond(57, minute(4)));
    }
}
