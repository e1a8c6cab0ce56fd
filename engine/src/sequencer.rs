//! Where order and time are decided, once.
//!
//! Order is `ingest_seq`, which ingest gave each raw record densely: whatever the fetches brought first, and however often, [`Reorder`]
//! hands records on in that order, each once. Time is `known_at`: [`Sequencer`] makes arrival times strictly rising and puts a tick
//! before the record that crosses a whole second. Neither reads a clock; where a live source needs one, its reading is an argument.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Micros;
use crate::graph::Moment;

/// How far after its arrival an event may be dated, µs: clocks of feed and receiver differ by less. A later date is an error of the feed, and
/// the event happened when it arrived.
pub const AHEAD_OF_ARRIVAL_MAX: i64 = 10 * Micros::SECOND;

/// Numbers and times of a session's ledger.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Sequencer {
    next_seq: u64,
    last_known_at: Option<Micros>,
    next_ingest_seq: i64,
    clamped: u64,
}

/// What a raw record becomes in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamped {
    /// The tick that goes before it, when it crosses a whole second.
    pub tick: Option<Moment>,
    /// The record itself.
    pub record: Moment,
}

impl Sequencer {
    /// The number of the next ledger record.
    #[must_use]
    pub const fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// The `ingest_seq` that must come next.
    #[must_use]
    pub const fn next_ingest_seq(&self) -> i64 {
        self.next_ingest_seq
    }

    /// The last ledger record's time.
    #[must_use]
    pub const fn last_known_at(&self) -> Option<Micros> {
        self.last_known_at
    }

    /// How many live arrival times lay too far ahead of the clock.
    #[must_use]
    pub const fn clamped(&self) -> u64 {
        self.clamped
    }

    /// Numbers the raw record that is next in order.
    ///
    /// A clock that stepped back is absorbed: time then advances by 1 µs a record until arrivals catch up.
    #[inline]
    pub fn stamp(&mut self, received_at: Micros, event_time: Option<Micros>) -> Stamped {
        self.next_ingest_seq += 1;
        self.advance(received_at, event_time)
    }

    /// Limits a live arrival time to `ahead_ms_max` after the sequencer's own clock. Replayed sources never pass here.
    pub fn clamp(&mut self, received_at: Micros, clock: Micros, ahead_ms_max: i64) -> Micros {
        let latest = clock.plus(ahead_ms_max.saturating_mul(1_000));
        if received_at > latest {
            self.clamped += 1;
        }
        received_at.min(latest)
    }

    /// Numbers a record that stands for raw records given up: `missing` of them.
    pub fn stamp_gap(&mut self, missing: i64, at: Micros) -> Stamped {
        self.next_ingest_seq += missing;
        self.advance(at, None)
    }

    /// Numbers a record that came from no raw stream.
    pub fn stamp_own(&mut self, at: Micros) -> Stamped {
        self.advance(at, None)
    }

    /// Takes over the numbers of a record read back from the ledger.
    pub fn observe(&mut self, moment: Moment, ingest_seq: Option<i64>) {
        self.next_seq = moment.seq + 1;
        self.last_known_at = Some(moment.known_at);
        if let Some(ingest_seq) = ingest_seq {
            self.next_ingest_seq = ingest_seq + 1;
        }
    }

    /// Takes over where a block says that ingest stands.
    pub const fn resume_ingest_at(&mut self, next_ingest_seq: i64) {
        self.next_ingest_seq = next_ingest_seq;
    }

    #[inline]
    fn advance(&mut self, at: Micros, event_time: Option<Micros>) -> Stamped {
        let mut known_at = at;
        let mut tick = None;
        if let Some(last) = self.last_known_at {
            known_at = known_at.max(last.plus(1));
            let second = known_at.whole_second();
            if second > last {
                tick = Some(self.number(second, second));
                known_at = known_at.max(second.plus(1));
            }
        }
        let event_time = event_time.filter(|event_time| event_time.since(known_at) <= AHEAD_OF_ARRIVAL_MAX);
        Stamped { tick, record: self.number(known_at, event_time.unwrap_or(known_at)) }
    }

    #[inline]
    const fn number(&mut self, known_at: Micros, event_time: Micros) -> Moment {
        let seq = self.next_seq;
        self.next_seq += 1;
        self.last_known_at = Some(known_at);
        Moment { seq, known_at, event_time }
    }
}

/// Raw records that came before their turn.
#[derive(Debug, Clone)]
pub struct Reorder<R> {
    held: BTreeMap<i64, R>,
    missing_since: Option<Micros>,
    duplicates: u64,
}

impl<R> Default for Reorder<R> {
    fn default() -> Self {
        Self { held: BTreeMap::new(), missing_since: None, duplicates: 0 }
    }
}

impl<R> Reorder<R> {
    /// Takes a raw record in whatever order it was fetched; one that was taken already is counted and dropped.
    pub fn offer(&mut self, next_ingest_seq: i64, ingest_seq: i64, record: R) {
        if ingest_seq < next_ingest_seq || self.held.contains_key(&ingest_seq) {
            self.duplicates += 1;
        } else {
            self.held.insert(ingest_seq, record);
        }
    }

    /// The record whose turn it is, if it has come.
    pub fn take(&mut self, next_ingest_seq: i64) -> Option<R> {
        let record = self.held.remove(&next_ingest_seq)?;
        self.missing_since = None;
        Some(record)
    }

    /// How many records must be given up: those before the first one held, once `hold_ms` have passed since they were first missed or
    /// more than `held_max` wait behind them. Live sources only: a replayed source is whole.
    pub fn give_up(&mut self, next_ingest_seq: i64, clock: Micros, hold_ms: i64, held_max: usize) -> Option<i64> {
        let (&first, _) = self.held.first_key_value()?;
        if first <= next_ingest_seq {
            return None;
        }
        let since = *self.missing_since.get_or_insert(clock);
        if self.held.len() <= held_max && clock.since(since) < hold_ms.saturating_mul(1_000) {
            return None;
        }
        self.missing_since = None;
        Some(first - next_ingest_seq)
    }

    /// Records waiting for an earlier one.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Records that came again.
    #[must_use]
    pub const fn duplicates(&self) -> u64 {
        self.duplicates
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: i64 = Micros::SECOND;

    fn moment(seq: u64, known_at: i64) -> Moment {
        Moment { seq, known_at: Micros(known_at), event_time: Micros(known_at) }
    }

    #[test]
    fn a_tick_goes_before_the_record_that_crosses_a_whole_second() {
        let mut sequencer = Sequencer::default();
        assert_eq!(sequencer.stamp(Micros(1_500_000), None), Stamped { tick: None, record: moment(0, 1_500_000) });
        assert_eq!(sequencer.stamp(Micros(1_900_000), None), Stamped { tick: None, record: moment(1, 1_900_000) });
        assert_eq!(sequencer.stamp(Micros(2_000_000), None), Stamped { tick: Some(moment(2, 2_000_000)), record: moment(3, 2_000_001) });
    }

    #[test]
    fn an_hour_of_silence_or_a_jump_ahead_is_one_tick_not_3600() {
        let mut sequencer = Sequencer::default();
        sequencer.stamp(Micros(0), None);
        let stamped = sequencer.stamp(Micros(3_600 * SECOND + 5), None);
        assert_eq!(stamped, Stamped { tick: Some(moment(1, 3_600 * SECOND)), record: moment(2, 3_600 * SECOND + 5) });
    }

    #[test]
    fn a_clock_that_steps_back_an_hour_is_absorbed() {
        let mut sequencer = Sequencer::default();
        sequencer.stamp(Micros(3_600 * SECOND), None);
        let stamped = sequencer.stamp(Micros(0), None);
        assert_eq!(stamped.record, moment(1, 3_600 * SECOND + 1));
    }

    #[test]
    fn a_live_arrival_far_ahead_of_the_clock_is_clamped_and_counted() {
        let mut sequencer = Sequencer::default();
        assert_eq!(sequencer.clamp(Micros(4 * SECOND), Micros(0), 5_000), Micros(4 * SECOND));
        assert_eq!(sequencer.clamp(Micros(3_600 * SECOND), Micros(0), 5_000), Micros(5 * SECOND));
        assert_eq!(sequencer.clamped(), 1);
    }

    #[test]
    fn an_event_dated_well_after_its_arrival_happened_when_it_arrived() {
        let mut sequencer = Sequencer::default();
        let stamp = |sequencer: &mut Sequencer, at, date| sequencer.stamp(Micros(at), Some(Micros(date))).record.event_time;
        assert_eq!(stamp(&mut sequencer, 0, 86_400 * SECOND), Micros(0));
        assert_eq!(stamp(&mut sequencer, 2, 2 * SECOND), Micros(2 * SECOND), "clocks differ by seconds");
    }

    #[test]
    fn missing_records_are_given_up_after_the_hold_or_when_too_many_wait() {
        let mut reorder = Reorder::default();
        reorder.offer(0, 2, ());
        assert_eq!(reorder.give_up(0, Micros(0), 2_000, 10), None);
        assert_eq!(reorder.give_up(0, Micros(2 * SECOND - 1), 2_000, 10), None);
        assert_eq!(reorder.give_up(0, Micros(2 * SECOND), 2_000, 10), Some(2));
        reorder.offer(0, 3, ());
        assert_eq!(reorder.give_up(0, Micros(0), 2_000, 1), Some(2));
    }

    proptest! {
        #[test]
        fn known_at_rises_strictly_and_seq_is_dense_whatever_the_arrival_times(arrivals in prop::collection::vec(-5_000_000_i64..20_000_000, 1..200)) {
            let mut sequencer = Sequencer::default();
            let mut last: Option<Moment> = None;
            for at in arrivals {
                let stamped = sequencer.stamp(Micros(at), None);
                for moment in stamped.tick.into_iter().chain([stamped.record]) {
                    prop_assert_eq!(moment.seq, last.map_or(0, |last| last.seq + 1));
                    prop_assert!(last.is_none_or(|last| moment.known_at > last.known_at));
                    last = Some(moment);
                }
            }
        }

        #[test]
        fn order_is_ingest_seq_whatever_the_fetches_bring(order in Just((0_i64..50).collect::<Vec<_>>()).prop_shuffle(), again in prop::collection::vec(0_i64..50, 0..50)) {
            let mut reorder = Reorder::default();
            let mut taken = Vec::new();
            for ingest_seq in order.into_iter().chain(again) {
                reorder.offer(taken.len() as i64, ingest_seq, ingest_seq);
                while let Some(record) = reorder.take(taken.len() as i64) {
                    taken.push(record);
                }
            }
            prop_assert_eq!(taken, (0..50).collect::<Vec<_>>());
        }
    }
}
