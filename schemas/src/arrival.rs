//! Arrival times on their way into an archive: one that lies beyond what follows is no arrival time.
//!
//! Ledger time never falls, so a single record that claims to have arrived an hour later than it did would make time stand still for an
//! hour: no timer would fire, and everything in between would be known at one moment. A recording can be read ahead, so such a time is
//! seen: records behind it have arrived before it. It is replaced by the time of the first of them, but never by one before the record
//! ahead of it.
//!
//! A pause stays as it is, since everything behind it is later too. So does a clock that was set back for good: what arrived since then is
//! earlier than what was before, and ledger time waits for it.

use std::collections::VecDeque;

use crate::time::Micros;

/// How much later than a record behind it one may have arrived, µs: files are written from several threads, which differ by less.
pub const AHEAD_MAX: i64 = 5 * Micros::SECOND;

/// Records read ahead to tell an arrival time that cannot be.
pub const LOOK_AHEAD: usize = 64;

/// Records in order of arrival, held until it is known what arrived next.
#[derive(Debug)]
pub struct Arrivals<T> {
    held: VecDeque<(Micros, T)>,
    /// When the last record given out arrived.
    last: Option<Micros>,
    repaired: u64,
}

impl<T> Default for Arrivals<T> {
    fn default() -> Self {
        Self { held: VecDeque::with_capacity(LOOK_AHEAD + 1), last: None, repaired: 0 }
    }
}

impl<T> Arrivals<T> {
    /// Takes the record that comes next, and gives the one whose arrival time is now certain.
    pub fn take(&mut self, received_at: Micros, record: T) -> Option<(Micros, T)> {
        self.held.push_back((received_at, record));
        if self.held.len() > LOOK_AHEAD { self.give() } else { None }
    }

    /// Gives the next of the records held, when no more come.
    pub fn give(&mut self) -> Option<(Micros, T)> {
        let (received_at, record) = self.held.pop_front()?;
        let earliest = self.held.iter().map(|(received_at, _)| *received_at).min();
        let beyond = earliest.filter(|earliest| received_at.since(*earliest) > AHEAD_MAX);
        let received_at = match beyond {
            Some(earliest) => {
                self.repaired += 1;
                self.last.map_or(earliest, |last| last.max(earliest).min(received_at))
            }
            None => received_at,
        };
        self.last = Some(received_at);
        Some((received_at, record))
    }

    /// Records whose arrival time was replaced so far.
    #[must_use]
    pub const fn repaired(&self) -> u64 {
        self.repaired
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(seconds: &[i64]) -> (Vec<i64>, u64) {
        let mut arrivals = Arrivals::default();
        let mut given: Vec<_> = seconds.iter().filter_map(|second| arrivals.take(Micros(second * Micros::SECOND), ())).collect();
        while let Some(next) = arrivals.give() {
            given.push(next);
        }
        (given.into_iter().map(|(received_at, ())| received_at.0 / Micros::SECOND).collect(), arrivals.repaired())
    }

    #[test]
    fn an_arrival_beyond_what_follows_is_that_of_the_next() {
        assert_eq!(settled(&[0, 1, 3_602, 3_603, 4, 5]), (vec![0, 1, 4, 4, 4, 5], 2));
        assert_eq!(settled(&[3_600, 1, 2]), (vec![1, 1, 2], 1), "the first of all");
    }

    #[test]
    fn a_pause_and_a_small_step_back_stay_as_they_are() {
        let pause = [0, 1, 3_602, 3_603, 3_604];
        assert_eq!(settled(&pause), (pause.to_vec(), 0));
        let steps = [0, 4, 1, 5, 2, 6];
        assert_eq!(settled(&steps), (steps.to_vec(), 0));
    }

    #[test]
    fn a_clock_that_was_ahead_for_longer_than_is_read_ahead_is_not_doubted() {
        let ahead = (0..200).map(|second| 3_600 + second);
        let seconds: Vec<i64> = ahead.chain([200, 201, 202]).collect();
        let (given, _) = settled(&seconds);
        assert_eq!(given[..100], seconds[..100]);
        assert_eq!(given[200..], [200, 201, 202]);
        assert!(given.windows(2).take(199).all(|pair| pair[0] <= pair[1]), "it only stands still before the step");
    }
}
