//! The newest values of something that changes, each since when it held, so that what held at a moment can be looked up.

use std::collections::VecDeque;

use pitwall_engine::Micros;
use serde::{Deserialize, Serialize};

/// A value, since when it holds, and the ledger record that gave it.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct At<T> {
    /// Since when it holds.
    pub at: Micros,
    /// What holds.
    pub value: T,
    /// Ledger sequence number of the record that gave it.
    pub cause: u64,
}

/// What held at `moment`.
#[must_use]
pub fn newest<T: Copy>(history: &VecDeque<At<T>>, moment: Micros) -> Option<At<T>> {
    history.iter().rev().find(|entry| entry.at <= moment).copied()
}

/// Adds the newest of at most `values_max` values. Of more, the oldest is forgotten.
pub fn keep<T>(queue: &mut VecDeque<T>, value: T, values_max: usize) {
    if queue.len() >= values_max {
        queue.pop_front();
    }
    queue.push_back(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_held_at_a_moment_is_the_newest_value_by_then_and_the_oldest_is_forgotten() {
        let mut history = VecDeque::new();
        for second in 0..5 {
            keep(&mut history, At { at: Micros(second), value: second, cause: 0 }, 3);
        }
        assert_eq!([1, 2, 3, 9].map(|moment| newest(&history, Micros(moment)).map(|entry| entry.value)), [None, Some(2), Some(3), Some(4)]);
    }
}
