//! Values folded from the versions of a document, each with the ledger record that gave it.
//!
//! OpenF1 sends a document again whenever something in it becomes known, so a later version repeats what earlier ones said. The cause
//! of a value is the first version that gave it as it is now.

use pitwall_engine::Micros;
use pitwall_engine::sequencer::AHEAD_OF_ARRIVAL_MAX;
use serde::{Deserialize, Serialize};

/// A value that is unknown at first, and the ledger record that gave it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known<T>(Option<(T, u64)>);

impl<T> Default for Known<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Known<T> {
    /// The value, if known.
    #[must_use]
    pub fn value(&self) -> Option<&T> {
        self.0.as_ref().map(|(value, _)| value)
    }

    /// Ledger sequence number of the record that gave the value.
    #[must_use]
    pub fn cause(&self) -> Option<u64> {
        self.0.as_ref().map(|(_, cause)| *cause)
    }
}

impl<T: PartialEq> Known<T> {
    /// Takes what ledger record `cause` says and tells whether the value changed. What the record does not say stays as it was: a
    /// null is the absence of news, not news of absence.
    pub fn take(&mut self, value: Option<T>, cause: u64) -> bool {
        match value {
            Some(value) if self.value() != Some(&value) => {
                self.0 = Some((value, cause));
                true
            }
            _ => false,
        }
    }
}

/// Whether `date` lies so far after the arrival `now` that it is an error of the feed.
#[must_use]
pub const fn is_ahead(date: Micros, now: Micros) -> bool {
    date.since(now) > AHEAD_OF_ARRIVAL_MAX
}

/// Which version of a document is the newest that was taken: the test that every operator uses to tell news from what is sent again.
///
/// * Of two versions with an `_id` the higher is the newer (OpenF1).
/// * A version without an `_id`, as REST answers and corrections by hand are, is as new as its arrival.
/// * Of readings with a date an earlier one is stale. A date well after its arrival is an error of the feed: the reading is taken, but it
///   does not make later ones stale.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    date: Option<Micros>,
    id: Option<i64>,
}

impl Version {
    /// Takes a version by its `_id` alone, and tells whether it is as new as the newest or newer.
    pub fn take(&mut self, id: Option<i64>) -> bool {
        if id.is_some() && id < self.id {
            return false;
        }
        self.id = id.or(self.id);
        true
    }

    /// Takes a reading of `date` that arrived at `now`, and tells whether it is as new as the newest or newer: by date, then by `_id`.
    pub fn take_dated(&mut self, date: Micros, id: Option<i64>, now: Micros) -> bool {
        if is_ahead(date, now) {
            return true;
        }
        if Some(date) < self.date {
            return false;
        }
        if Some(date) > self.date {
            *self = Self { date: Some(date), id };
            return true;
        }
        self.take(id)
    }
}

/// Ledger sequence numbers as a fact names them: rising, each once.
#[must_use]
pub fn in_order(causes: impl IntoIterator<Item = Option<u64>>) -> Vec<u64> {
    let mut causes: Vec<u64> = causes.into_iter().flatten().collect();
    causes.sort_unstable();
    causes.dedup();
    causes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_is_the_first_record_that_gave_the_present_value() {
        let mut known = Known::default();
        assert!(known.take(Some(27), 3));
        assert!(!known.take(Some(27), 4));
        assert_eq!(known.cause(), Some(3));
        assert!(known.take(Some(28), 5));
        assert_eq!((known.value(), known.cause()), (Some(&28), Some(5)));
    }

    #[test]
    fn a_null_does_not_erase_a_known_value() {
        let mut known = Known::default();
        known.take(Some(27), 3);
        assert!(!known.take(None, 4));
        assert_eq!(known.value(), Some(&27));
    }

    #[test]
    fn a_version_without_an_id_is_as_new_as_its_arrival() {
        let mut version = Version::default();
        assert!([None, Some(7), Some(7), None, Some(9)].into_iter().all(|id| version.take(id)));
        assert!(!version.take(Some(8)), "sent again after a reconnect");
    }

    #[test]
    fn a_reading_dated_well_after_its_arrival_makes_no_later_one_stale() {
        let mut version = Version::default();
        let [now, tomorrow] = [Micros(0), Micros(86_400 * Micros::SECOND)];
        assert!(version.take_dated(now, None, now));
        assert!(version.take_dated(tomorrow, None, now));
        assert!(version.take_dated(now.plus(1), None, now.plus(1)));
        assert!(!version.take_dated(now, None, now.plus(2)));
    }

    #[test]
    fn causes_are_named_once_and_in_order() {
        assert_eq!(in_order([Some(9), None, Some(2), Some(9)]), [2, 9]);
    }
}
