//! Race control's count of the leader's laps: by how much OpenF1's lap numbers are off after a join.
//!
//! OpenF1 adds 1 to the feed's count of completed laps once it knows that the session is a race. Joined in mid-session it may not know,
//! and all its lap numbers are one too low (Abu Dhabi 2025: 57 laps of 58).

use pitwall_engine::Micros;
use serde::{Deserialize, Serialize};

/// Counts that are kept. Of more, the oldest is forgotten.
const COUNTS_MAX: usize = 64;

/// By how much OpenF1's numbers can be too low.
const OFF_MAX: i32 = 1;

/// A count this close to where a lap begins or ends may be of the lap beside it, µs: race control's dates are whole seconds.
const MARGIN: i64 = 2 * Micros::SECOND;

/// What race control has counted.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Count {
    /// The leader's lap by date.
    counts: Vec<(Micros, i32)>,
    /// What is added to OpenF1's lap numbers.
    pub(super) offset: i32,
    /// Whether laps before the first ones known are missing, so that OpenF1's numbers may be off.
    pub(super) has_joined_late: bool,
}

impl Count {
    /// Takes that the leader was on `lap_number` at `at`.
    pub(super) fn take(&mut self, at: Micros, lap_number: i32) {
        if self.counts.contains(&(at, lap_number)) {
            return;
        }
        if self.counts.len() >= COUNTS_MAX {
            self.counts.remove(0);
        }
        self.counts.push((at, lap_number));
    }

    /// The highest lap counted up to `at`.
    pub(super) fn highest(&self, at: Micros) -> Option<i32> {
        self.counts.iter().filter(|(date, _)| *date <= at).map(|(_, lap_number)| *lap_number).max()
    }

    /// What has to be added to OpenF1's numbers instead, when the leader drove the lap numbered `lap_number` between `start` and `end`.
    pub(super) fn offset_told(&self, lap_number: i32, start: Micros, end: Micros) -> Option<i32> {
        let is_within = |date: Micros| date.since(start) >= MARGIN && end.since(date) >= MARGIN;
        let (_, counted) = self.counts.iter().rev().find(|(date, _)| is_within(*date))?;
        let offset = self.offset + counted - lap_number;
        ((0..=OFF_MAX).contains(&offset) && offset != self.offset).then_some(offset)
    }
}
