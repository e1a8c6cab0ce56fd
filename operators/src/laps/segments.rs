//! Segments of qualifying: which ones have begun, and which one a lap belongs to.

use std::collections::BTreeMap;

use pitwall_engine::Micros;
use serde::{Deserialize, Serialize};

/// Segments of a qualifying (sporting regulations). Another number is an error of the feed.
const SEGMENTS_MAX: i32 = 3;

/// When each segment began.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Segments {
    starts: BTreeMap<i32, Micros>,
}

impl Segments {
    /// The segment that began last.
    pub(super) fn current(&self) -> Option<i32> {
        self.starts.last_key_value().map(|(segment, _)| *segment)
    }

    /// Begins a segment, and tells whether that is news: one that is resumed after a red flag began before.
    pub(super) fn begin(&mut self, segment: i32, at: Micros) -> bool {
        let is_news = (1..=SEGMENTS_MAX).contains(&segment) && !self.starts.contains_key(&segment);
        if is_news {
            self.starts.insert(segment, at);
        }
        is_news
    }

    /// The segment of that moment. What happened before the first one belongs to it; before a later one, as after a late join, it cannot
    /// be told.
    pub(super) fn at(&self, moment: Micros) -> Option<i32> {
        let begun = self.starts.iter().rev().find(|(_, start)| **start <= moment).map(|(segment, _)| *segment);
        begun.or_else(|| self.starts.contains_key(&1).then_some(1))
    }
}
