//! What a deployment on Kafka can set.

use serde::{Deserialize, Serialize};

/// Where Kafka is and how it is used. Reaching a bound has a defined result, named beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Addresses of brokers, HOST:PORT.
    pub brokers: Vec<String>,
    /// The engine's consumer group; its name is in the id of every transaction, so engines that share work share it.
    pub group: String,
    /// This process's name in the group, if it shall keep its partitions over a quick restart; empty for none.
    pub instance: String,
    /// How long an engine may be silent before its partitions go to others, ms.
    pub session_timeout_ms: u64,
    /// How long a member of a group that loses partitions waits until what it has taken is committed, ms. Then the new owner fences it.
    pub revocation_ms: u64,
    /// Goes before every topic's and group's name, so that several deployments can share a cluster.
    pub prefix: String,
    /// Partitions of every topic: at most this many engines work at a time. It cannot change later, since sessions would move.
    pub partitions: i32,
    /// Copies of every partition, for topics that are made.
    pub replication: i32,
    /// Confluent-compatible schema registry, http://HOST:PORT and its path; empty for none, and schema ids are then the schemas' own.
    pub registry: String,
    /// How long a request may take before the log says that Kafka cannot be reached, ms.
    pub timeout_ms: u64,
    /// How long a transaction may stay open before the broker aborts it, ms. A paused engine is fenced by then.
    pub transaction_timeout_ms: u64,
    /// How long a reader waits at the end of a topic for more, ms. Less is faster to see the end, more costs the broker less.
    pub fetch_wait_ms: u64,
    /// The largest message, bytes: ledger blocks and keyframes. A larger keyframe is not kept. A raw record may have half of it, so that one
    /// that fills a block up always finds room; a larger one is not ingested.
    pub message_bytes_max: usize,
    /// Bytes read ahead of each partition. Beyond it nothing more is fetched until some was taken.
    pub read_ahead_bytes_max: usize,
    /// Bytes that an edge reads ahead of each topic of a partition. Beyond it nothing more is fetched until some was taken.
    pub follow_ahead_bytes_max: usize,
    /// Messages of one session in raw topics that ingest did not write, waiting for the commit that makes them dead letters. More are only
    /// counted.
    pub foreign_messages_max: usize,
    /// Bytes of such a message kept in its dead letter. The rest is cut.
    pub foreign_bytes_max: usize,
    /// How long an ingest waits for a broker that does not answer, ms. Then it ends with the error; started again, it goes on.
    pub outage_ms_max: u64,
    /// Messages waiting to be sent. Beyond it a commit waits for the broker.
    pub queued_messages_max: usize,
    /// How messages are compressed: none, lz4 or zstd.
    pub compression: String,
    /// librdkafka's own settings as NAME=VALUE. They go above those of every client; what exactly-once needs is set after them.
    pub properties: Vec<String>,
    /// The same as NAME=FILE: the file holds the value, so that no setting shows a password.
    pub property_files: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            brokers: vec!["127.0.0.1:19092".to_owned()],
            group: "pitwall".to_owned(),
            instance: String::new(),
            session_timeout_ms: 10_000,
            revocation_ms: 2_000,
            prefix: String::new(),
            partitions: 8,
            replication: 1,
            registry: String::new(),
            timeout_ms: 30_000,
            transaction_timeout_ms: 10_000,
            fetch_wait_ms: 20,
            message_bytes_max: 8 << 20,
            read_ahead_bytes_max: 2 << 20,
            follow_ahead_bytes_max: 256 << 10,
            foreign_messages_max: 4_096,
            foreign_bytes_max: 4_096,
            outage_ms_max: 600_000,
            queued_messages_max: 500_000,
            compression: "lz4".to_owned(),
            properties: Vec::new(),
            property_files: Vec::new(),
        }
    }
}
