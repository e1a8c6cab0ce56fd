//! Counters and times of the edge, for `/metrics`. Names end in their unit; every name of the edge stands here.

use std::sync::OnceLock;

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// Connections open now, by `protocol` (`http`, `websocket`).
pub const CONNECTIONS: &str = "pitwall_edge_connections";
/// Connections refused, by `reason`.
pub const CONNECTIONS_REFUSED: &str = "pitwall_edge_connections_refused_total";
/// Answers, by `status`.
pub const REQUESTS: &str = "pitwall_edge_requests_total";
/// Requests refused because their address asks too often.
pub const REQUESTS_LIMITED: &str = "pitwall_edge_requests_limited_total";
/// Time from a request's head to its answer's, by `route`.
pub const REQUEST_SECONDS: &str = "pitwall_edge_request_duration_seconds";
/// Frames, snapshots and other messages written to WebSockets.
pub const MESSAGES_SENT: &str = "pitwall_edge_messages_sent_total";
/// Bytes of those messages.
pub const SENT_BYTES: &str = "pitwall_edge_sent_bytes_total";
/// Time from the announcement of a commit to its frame's leaving for a client's socket.
pub const COMMIT_TO_SEND_SECONDS: &str = "pitwall_edge_commit_to_send_seconds";
/// Times that a slow client skipped frames of a latest-wins channel, by `channel`.
pub const LAG_JUMPS: &str = "pitwall_edge_lag_jumps_total";
/// Facts that clients caught up from the fact log.
pub const CAUGHT_UP_FACTS: &str = "pitwall_edge_caught_up_facts_total";
/// WebSockets that the server closed, by `code`.
pub const CLOSES: &str = "pitwall_edge_closes_total";
/// Messages of clients that were unreadable or impossible.
pub const PROTOCOL_ERRORS: &str = "pitwall_edge_protocol_errors_total";
/// Looks at the past, by `result` (`computed`, `cached`, `shared`, `refused`).
pub const LOOKS_BACK: &str = "pitwall_edge_looks_back_total";
/// Facts that could not be shown.
pub const FACTS_UNREADABLE: &str = "pitwall_edge_facts_unreadable_total";
/// Rows that left a full table, by `channel`.
pub const ROWS_DROPPED: &str = "pitwall_edge_rows_dropped_total";

/// Buckets of all times, seconds.
const SECONDS: [f64; 14] = [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0];

/// Makes this process's metrics ready for `/metrics`. Called again, it gives the same; `None` when another recorder was there before.
pub fn install() -> Option<PrometheusHandle> {
    static HANDLE: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    HANDLE
        .get_or_init(|| {
            let builder = PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS).ok()?;
            let handle = builder.install_recorder().ok()?;
            describe();
            Some(handle)
        })
        .clone()
}

fn describe() {
    describe_gauge!(CONNECTIONS, "Connections open now.");
    describe_counter!(CONNECTIONS_REFUSED, "Connections refused.");
    describe_counter!(REQUESTS, "HTTP answers.");
    describe_counter!(REQUESTS_LIMITED, "Requests refused because their address asks too often.");
    describe_histogram!(REQUEST_SECONDS, Unit::Seconds, "Time from a request's head to its answer's.");
    describe_counter!(MESSAGES_SENT, "Messages written to WebSockets.");
    describe_counter!(SENT_BYTES, Unit::Bytes, "Bytes of messages written to WebSockets.");
    describe_histogram!(COMMIT_TO_SEND_SECONDS, Unit::Seconds, "Time from a commit's announcement to its frame's leaving.");
    describe_counter!(LAG_JUMPS, "Times a slow client skipped frames.");
    describe_counter!(CAUGHT_UP_FACTS, "Facts that clients caught up from the fact log.");
    describe_counter!(CLOSES, "WebSockets closed by the server.");
    describe_counter!(PROTOCOL_ERRORS, "Unreadable or impossible messages of clients.");
    describe_counter!(LOOKS_BACK, "Looks at the past.");
    describe_counter!(FACTS_UNREADABLE, "Facts that could not be shown.");
    describe_counter!(ROWS_DROPPED, "Rows that left a full table.");
}
