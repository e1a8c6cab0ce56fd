//! Sessions fed to Kafka little by little.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use pitwall_engine::backtest::Outcome;
use pitwall_engine::log::{AppendError, NewRaw, RawLog};
use pitwall_kafka::log::KafkaLog;
use pitwall_kafka::members::Trouble;
use pitwall_schemas::shared::KnownAtQuality;

use super::engine::wait_for;
use super::race;

/// A session, how much of it is in the topics, and what it must come to.
pub(crate) struct Fed {
    pub(crate) session_key: i32,
    pub(crate) records: Vec<NewRaw>,
    archive: &'static str,
    expected: Outcome,
    next: usize,
}

impl Fed {
    pub(crate) fn new(archive: &'static str, session_key: i32, log: &mut KafkaLog) -> Self {
        let fed = Self { session_key, records: race::records(archive, session_key), archive, expected: race::backtest(archive), next: 0 };
        fed.describe(log, false);
        fed
    }

    fn describe(&self, log: &mut KafkaLog, has_ended: bool) {
        let opened = race::open(self.archive);
        let is_reconstructed = opened.quality() == KnownAtQuality::Reconstructed;
        log.describe_source(self.session_key, opened.source_id(), is_reconstructed, has_ended).unwrap();
    }

    /// Feeds the records before number `until`.
    pub(crate) fn feed(&mut self, log: &mut KafkaLog, until: usize) {
        let source_id = race::open(self.archive).source_id();
        for batch in self.records[self.next..until.max(self.next)].chunks(5_000) {
            // As ingest does: what a slow broker did not take is given to it again.
            wait_for("the broker takes raw records", || match log.append(self.session_key, source_id, self.next as i64, batch.to_vec()) {
                Ok(()) => true,
                Err(AppendError::Log(error)) if error.is_passing() => false,
                Err(error) => panic!("{error}"),
            });
            self.next += batch.len();
        }
    }

    /// Feeds what is left and says that there is no more.
    pub(crate) fn end(&mut self, log: &mut KafkaLog) {
        self.feed(log, self.records.len());
        self.describe(log, true);
    }

    /// Holds the facts that readers see against an undisturbed backtest's.
    pub(crate) fn check(&self, log: &mut KafkaLog, what: &str) {
        let Outcome { facts, facts_hash, .. } = self.expected;
        assert_eq!(race::hash_of_facts(log, self.session_key), (facts, facts_hash), "{what}: session {}", self.session_key);
    }
}
