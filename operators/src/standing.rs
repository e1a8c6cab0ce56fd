//! Whether a car stood still, from the speeds that `car_data` gives.
//!
//! Samples are some 0.3 s apart, so that a stop for tyres of 2 s leaves several of them at rest. That a car did *not* stand can be said
//! only of a time that its samples cover.

use std::collections::VecDeque;

use pitwall_engine::Micros;
use serde::{Deserialize, Serialize};

/// Fastest that still counts as standing, km/h.
const SPEED_MAX: i32 = 2;

/// Longest time between two samples within which a stop cannot hide, µs.
const GAP_MAX: i64 = 1_500_000;

/// Shortest stop, from its first to its last sample at rest, µs: tyres take 1.8 s and more.
const STOP_MIN: i64 = 1_000_000;

/// Newest times at rest kept of one car: more than a pass through the pit lane has.
const SPELLS_MAX: usize = 8;

/// The newest times at rest of one car.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Since when there has been no gap between samples, and the date of the newest.
    covered: Option<(Micros, Micros)>,
    /// First and last sample at rest of each time.
    spells: VecDeque<(Micros, Micros)>,
    stands: bool,
}

impl Standing {
    /// Takes a sample; one that is not newer than the newest is late and says nothing here.
    pub fn take(&mut self, date: Micros, speed: i32) {
        let covered_from = match self.covered {
            Some((_, newest)) if date <= newest => return,
            Some((from, newest)) if date.since(newest) <= GAP_MAX => from,
            _ => {
                self.stands = false;
                date
            }
        };
        self.covered = Some((covered_from, date));
        let stood = std::mem::replace(&mut self.stands, speed <= SPEED_MAX);
        match self.spells.back_mut() {
            Some(spell) if stood && self.stands => spell.1 = date,
            _ if self.stands => {
                if self.spells.len() >= SPELLS_MAX {
                    self.spells.pop_front();
                }
                self.spells.push_back((date, date));
            }
            _ => {}
        }
    }

    /// Date of the newest sample.
    #[must_use]
    pub fn newest(&self) -> Option<Micros> {
        self.covered.map(|(_, newest)| newest)
    }

    /// Whether the car stood between two moments; `None` when it was not seen to and samples are missing.
    #[must_use]
    pub fn between(&self, from: Micros, until: Micros) -> Option<bool> {
        let is_stop = |(first, last): &(Micros, Micros)| (*last).min(until).since((*first).max(from)) >= STOP_MIN;
        if self.spells.iter().any(is_stop) {
            return Some(true);
        }
        self.covered.filter(|(covered_from, newest)| *covered_from <= from && until <= *newest).map(|_| false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn second(second: i64) -> Micros {
        Micros(second * 1_000_000)
    }

    /// A car whose speed is sampled every half second.
    fn drive(speeds: &[i32]) -> Standing {
        let mut standing = Standing::default();
        for (half, speed) in (0..).zip(speeds) {
            standing.take(Micros(half * 500_000), *speed);
        }
        standing
    }

    #[test]
    fn a_car_at_rest_for_a_second_stood_and_one_at_the_limit_did_not() {
        assert_eq!(drive(&[80, 40, 0, 0, 0, 0, 40, 80, 80]).between(second(0), second(4)), Some(true));
        assert_eq!(drive(&[80, 80, 80, 80, 80, 80, 80, 80, 80]).between(second(0), second(4)), Some(false));
        assert_eq!(drive(&[80, 80, 0, 80, 80, 80, 80, 80, 80]).between(second(0), second(4)), Some(false), "one odd sample");
    }

    #[test]
    fn without_samples_nothing_is_said() {
        assert_eq!(Standing::default().between(second(0), second(4)), None);
        let mut standing = drive(&[80, 80, 80]);
        assert_eq!(standing.between(second(0), second(4)), None, "not yet");
        standing.take(second(4), 80);
        assert_eq!(standing.between(second(0), second(4)), None, "three seconds are missing");
    }
}
