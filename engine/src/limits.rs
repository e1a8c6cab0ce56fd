//! Every bound of the core, by name.

use serde::{Deserialize, Serialize};

/// The bounds of one session. Reaching one has a defined result, named beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Raw records held while an earlier one is missing. Beyond it the missing ones are given up as a `gap` record.
    pub held_records_max: usize,
    /// How long a live source's missing record is waited for, ms. Then a `gap` record stands for it.
    pub hold_ms: i64,
    /// How far ahead of the sequencer's clock a live arrival time may lie, ms. Beyond it the time is clamped and counted.
    pub clock_ahead_ms_max: i64,
    /// Timers waiting in one session. One more halts the session.
    pub timers_max: usize,
    /// Facts that one ledger record may cause. One more halts the session: an operator is running away.
    pub facts_per_record_max: usize,
    /// Causes one fact names. Of more, the newest are kept.
    pub causes_max: usize,
    /// Bytes of bad input kept in its dead letter. The rest is cut.
    pub dead_letter_payload_bytes_max: usize,
    /// Records of one commit while live. More wait for the next commit.
    pub commit_records_live_max: usize,
    /// Records of one commit while catching up. More wait for the next commit.
    pub commit_records_behind_max: usize,
    /// Payload bytes of one ledger block. The commit is cut there.
    pub block_bytes_max: usize,
    /// Ledger records between two keyframes.
    pub keyframe_records: i64,
    /// Ledger time between two keyframes, ms.
    pub keyframe_interval_ms: i64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            held_records_max: 65_536,
            hold_ms: 2_000,
            clock_ahead_ms_max: 5_000,
            timers_max: 65_536,
            facts_per_record_max: 65_536,
            causes_max: 1_024,
            dead_letter_payload_bytes_max: 4_096,
            commit_records_live_max: 2_000,
            commit_records_behind_max: 32_768,
            block_bytes_max: 3_600 * 1_024,
            keyframe_records: 32_768,
            keyframe_interval_ms: 120_000,
        }
    }
}
