//! Counters and times of the store and its sink. Names end in their unit; every name stands here and in docs/store.md.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// Committed facts that the store does not have yet, by `partition`.
pub const BACKLOG: &str = "pitwall_sink_backlog_facts";
/// Facts stored.
pub const STORED: &str = "pitwall_sink_facts_total";
/// Time of storing one page of facts, and how far it got.
pub const STORE_SECONDS: &str = "pitwall_sink_store_duration_seconds";
/// Pages that could not be stored and are tried again.
pub const STALLS: &str = "pitwall_sink_stalls_total";
/// Requests to the servers that were tried again.
pub const RETRIES: &str = "pitwall_store_retries_total";

/// Says what each metric means, for whoever reads `/metrics`.
pub fn describe() {
    describe_gauge!(BACKLOG, "Committed facts that the store does not have yet.");
    describe_counter!(STORED, "Facts stored.");
    describe_histogram!(STORE_SECONDS, Unit::Seconds, "Time of storing one page of facts, and how far it got.");
    describe_counter!(STALLS, "Pages that could not be stored and are tried again.");
    describe_counter!(RETRIES, "Requests to the CQL servers that were tried again.");
}
