//! How clients are configured, and what their troubles are called.

use std::fs;
use std::time::Duration;

use pitwall_schemas::topics;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::options::Options;

/// Why the log on Kafka cannot answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KafkaLogError {
    /// No broker answers, or one refused.
    #[error("Kafka at {brokers}: {doing}: {reason}: is it running and is kafka.brokers right?")]
    Unreachable {
        /// The brokers asked.
        brokers: String,
        /// What was being done.
        doing: String,
        /// Why it failed.
        reason: String,
    },
    /// The log holds no such session.
    #[error("the log holds no session {0}")]
    NoSession(i32),
    /// A session never had this epoch.
    #[error("session {session_key} has no epoch {epoch}: its current one is {current}")]
    NoEpoch {
        /// The session.
        session_key: i32,
        /// The epoch asked for.
        epoch: i32,
        /// The one it has.
        current: i32,
    },
    /// A setting is none of librdkafka's.
    #[error("kafka.{setting}: {reason}")]
    Property {
        /// Where it stands.
        setting: &'static str,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A topic is not there.
    #[error("topic {0} is not there: make all topics with `pitwall topics create`")]
    NoTopic(String),
    /// A topic is not set up as it must be.
    #[error("topic {topic}: {what} is {found}, it must be {needed}: {remedy}")]
    Topic {
        /// The topic.
        topic: String,
        /// What is wrong about it.
        what: &'static str,
        /// What was found.
        found: String,
        /// What is needed.
        needed: String,
        /// What to do.
        remedy: &'static str,
    },
    /// Records that are still needed have been deleted.
    #[error(
        "topic {topic}, partition {partition}: offset {offset} is needed, but retention has deleted everything before {first}: set retention.ms=-1 and ingest the session again under another number with --as-session"
    )]
    Deleted {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The record needed.
        offset: i64,
        /// The first one left.
        first: i64,
    },
    /// A message is not what it should be.
    #[error("topic {topic}, partition {partition}, offset {offset}: {reason}: was it written by another program?")]
    Damaged {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The message.
        offset: i64,
        /// What is wrong with it.
        reason: String,
    },
    /// Another process feeds the session.
    #[error("another process has begun to ingest session {0}: this one stops")]
    IngestFenced(i32),
    /// A record could leave its ledger block larger than a message may be.
    #[error("a raw record of {bytes} bytes is larger than half of kafka.message_bytes_max, which leaves room for the block it goes into")]
    TooLarge {
        /// Its length.
        bytes: usize,
    },
    /// The registry does not take a schema.
    #[error("schema registry {url}: subject {subject}: {reason}")]
    Registry {
        /// The registry.
        url: String,
        /// The subject.
        subject: String,
        /// Its words.
        reason: String,
    },
}

/// Passes librdkafka's words on to `tracing`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Context;

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
                tracing::error!(target: "librdkafka", fac, message);
            }
            RDKafkaLogLevel::Warning => tracing::warn!(target: "librdkafka", fac, message),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => tracing::info!(target: "librdkafka", fac, message),
            RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", fac, message),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // The end of a partition is no trouble: readers ask to be told of it.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::PartitionEOF) {
            tracing::warn!(target: "librdkafka", %error, reason);
        }
    }
}

impl ConsumerContext for Context {}

impl Options {
    /// How long a request may take.
    #[must_use]
    pub const fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    /// Bytes that a ledger block may have before its last record, and that record: together they fit in a message, with all that is
    /// around them.
    #[must_use]
    pub const fn half_a_message(&self) -> usize {
        self.message_bytes_max.saturating_sub(4_096) / 2
    }

    /// How long a transaction may stay open.
    pub(crate) const fn transaction_timeout(&self) -> Duration {
        Duration::from_millis(self.transaction_timeout_ms)
    }

    /// The engines' consumer group as brokers know it.
    #[must_use]
    pub fn group_id(&self) -> String {
        format!("{}{}", self.prefix, self.group)
    }

    /// The whole name of a topic.
    pub(crate) fn topic(&self, topic: &str) -> String {
        format!("{}{topic}", self.prefix)
    }

    /// The whole name of a raw stream's topic.
    pub(crate) fn raw_topic(&self, stream: &str) -> String {
        self.topic(&topics::raw(stream))
    }

    /// What all clients share.
    pub(crate) fn client(&self) -> Result<ClientConfig, KafkaLogError> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", self.brokers.join(","))
            .set("client.id", "pitwall")
            .set("message.max.bytes", self.message_bytes_max.to_string());
        for property in &self.properties {
            let (name, value) = named(property, "properties", "VALUE")?;
            config.set(name, value);
        }
        for property in &self.property_files {
            let (name, file) = named(property, "property_files", "FILE")?;
            let value = fs::read_to_string(file).map_err(|error| KafkaLogError::Property {
                setting: "property_files",
                reason: format!("{name}: {file}: {error}: name a file that holds it"),
            })?;
            config.set(name, value.trim_end_matches(['\r', '\n']));
        }
        Ok(config)
    }

    /// A reader of committed messages that is told where each partition ends. It belongs to the group only by name: partitions are given
    /// to it, not shared out.
    pub(crate) fn consumer(&self) -> Result<ClientConfig, KafkaLogError> {
        let mut config = self.client()?;
        config
            .set("group.id", self.group_id())
            .set("isolation.level", "read_committed")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "error")
            .set("fetch.wait.max.ms", self.fetch_wait_ms.to_string())
            .set("fetch.queue.backoff.ms", "1")
            .set("fetch.message.max.bytes", (1 << 20).to_string())
            .set("fetch.max.bytes", (self.message_bytes_max.max(16 << 20)).to_string())
            .set("queued.min.messages", "20000")
            .set("queued.max.messages.kbytes", (self.read_ahead_bytes_max / 1_024).max(1).to_string());
        Ok(config)
    }

    /// A writer of transactions under `transactional_id`.
    pub(crate) fn transactional(&self, transactional_id: &str) -> Result<ClientConfig, KafkaLogError> {
        let mut config = self.writer()?;
        config.set("transactional.id", transactional_id).set("transaction.timeout.ms", self.transaction_timeout_ms.to_string());
        Ok(config)
    }

    /// What all writers share.
    pub(crate) fn writer(&self) -> Result<ClientConfig, KafkaLogError> {
        let mut config = self.client()?;
        config
            .set("partitioner", "murmur2_random")
            .set("compression.type", &self.compression)
            .set("linger.ms", "1")
            .set("batch.size", (1 << 20).to_string())
            .set("queue.buffering.max.messages", self.queued_messages_max.to_string())
            .set("queue.buffering.max.kbytes", (1 << 20).to_string());
        Ok(config)
    }

    /// An error of the client in our words.
    pub(crate) fn trouble(&self, doing: impl Into<String>, error: &KafkaError) -> KafkaLogError {
        let doing = doing.into();
        match is_unknown_topic(error) {
            true => KafkaLogError::NoTopic(doing),
            false => self.unreachable(doing, error.to_string()),
        }
    }

    /// A transaction that came to nothing, or nobody knows to what.
    pub(crate) fn untaken(&self, doing: impl Into<String>, elapsed: Duration) -> KafkaLogError {
        self.unreachable(doing, format!("the transaction is not known to be committed after {} ms", elapsed.as_millis()))
    }

    /// No answer in time.
    pub(crate) fn silence(&self, doing: impl Into<String>) -> KafkaLogError {
        self.unreachable(doing, format!("no answer in {} ms", self.timeout_ms))
    }

    pub(crate) fn unreachable(&self, doing: impl Into<String>, reason: String) -> KafkaLogError {
        KafkaLogError::Unreachable { brokers: self.brokers.join(","), doing: doing.into(), reason }
    }
}

/// Name and value of one of librdkafka's settings.
fn named<'a>(property: &'a str, setting: &'static str, value: &str) -> Result<(&'a str, &'a str), KafkaLogError> {
    let parts = property.split_once('=').map(|(name, value)| (name.trim(), value.trim()));
    // What it says instead is not told again: it may be a secret in the wrong place.
    parts.ok_or_else(|| KafkaLogError::Property {
        setting,
        reason: format!("an entry has no `=`: give librdkafka's settings as NAME={value}"),
    })
}

/// Whether a broker says that it knows no such topic. One that has just started may say so of a topic that is there.
pub(crate) fn is_unknown_topic(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(error.rdkafka_error_code(), Some(Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition))
}
