//! Counters and times of what edges share. Names end in their unit; every name stands here and in docs/operations.md.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// Whether Redis answered when it was last asked: 1 or 0.
pub const AVAILABLE: &str = "pitwall_redis_available";
/// Requests to Redis, by `result` (`answered`, `failed`, `left_out` while it is not asked).
pub const REQUESTS: &str = "pitwall_redis_requests_total";
/// Time of a request that was answered.
pub const REQUEST_SECONDS: &str = "pitwall_redis_request_duration_seconds";
/// Times that another edge's turn was waited for, by `result` (`answer`, `expired`).
pub const WAITS: &str = "pitwall_redis_turn_waits_total";

/// Says what each metric means, for whoever reads `/metrics`.
pub fn describe() {
    describe_gauge!(AVAILABLE, "Whether Redis answered when it was last asked.");
    describe_counter!(REQUESTS, "Requests to Redis.");
    describe_histogram!(REQUEST_SECONDS, Unit::Seconds, "Time of a request that Redis answered.");
    describe_counter!(WAITS, "Times that another edge's turn was waited for.");
}
