//! Counters and times of the roles on Kafka. Names end in their unit; every name stands here and in docs/operations.md.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// Raw records ingested and not yet committed to the ledger, by `partition`.
pub const LAG: &str = "pitwall_engine_lag_records";
/// How long the oldest raw record not yet committed has been known of, by `partition`.
pub const WATERMARK_DELAY_SECONDS: &str = "pitwall_engine_watermark_delay_seconds";
/// Time of a commit, from the first message sent to the broker's answer.
pub const COMMIT_SECONDS: &str = "pitwall_engine_commit_duration_seconds";
/// Commits, by `result` (`committed`, `aborted`, `unknown`, `fenced`).
pub const COMMITS: &str = "pitwall_engine_commits_total";
/// Facts committed.
pub const FACTS: &str = "pitwall_engine_facts_total";
/// Ledger records committed.
pub const RECORDS: &str = "pitwall_engine_ledger_records_total";
/// Input committed as dead letters.
pub const DEAD_LETTERS: &str = "pitwall_engine_dead_letters_total";
/// Time from taking a session over to its being restored.
pub const RESTORE_SECONDS: &str = "pitwall_engine_restore_duration_seconds";
/// Sessions of this process, by `partition` and `state` (`running`, `broken`).
pub const SESSIONS: &str = "pitwall_engine_sessions";
/// Messages in raw topics that ingest did not write.
pub const FOREIGN: &str = "pitwall_kafka_foreign_messages_total";
/// Partitions that the group has given to this process, by `group`.
pub const PARTITIONS: &str = "pitwall_group_partitions";
/// Times that the group gave or took partitions, by `group`.
pub const REBALANCES: &str = "pitwall_group_rebalances_total";
/// Partitions given up after trouble and tried again, by `group`.
pub const RETRIES: &str = "pitwall_group_retries_total";
/// Commits that an edge has mirrored.
pub const FOLLOWED: &str = "pitwall_follow_commits_total";
/// Partitions whose history an edge has not read yet.
pub const BEHIND: &str = "pitwall_follow_behind_partitions";

/// Says what each metric means, for whoever reads `/metrics`.
pub fn describe() {
    describe_gauge!(LAG, "Raw records ingested and not yet committed to the ledger.");
    describe_gauge!(WATERMARK_DELAY_SECONDS, Unit::Seconds, "How long the oldest raw record not yet committed has been known of.");
    describe_histogram!(COMMIT_SECONDS, Unit::Seconds, "Time of a commit, from the first message sent to the broker's answer.");
    describe_counter!(COMMITS, "Commits, by result.");
    describe_counter!(FACTS, "Facts committed.");
    describe_counter!(RECORDS, "Ledger records committed.");
    describe_counter!(DEAD_LETTERS, "Input committed as dead letters.");
    describe_histogram!(RESTORE_SECONDS, Unit::Seconds, "Time from taking a session over to its being restored.");
    describe_gauge!(SESSIONS, "Sessions of this process, by state.");
    describe_counter!(FOREIGN, "Messages in raw topics that ingest did not write.");
    describe_gauge!(PARTITIONS, "Partitions that the group has given to this process.");
    describe_counter!(REBALANCES, "Times that the group gave or took partitions.");
    describe_counter!(RETRIES, "Partitions given up after trouble and tried again.");
    describe_counter!(FOLLOWED, "Commits that an edge has mirrored.");
    describe_gauge!(BEHIND, "Partitions whose history an edge has not read yet.");
}
