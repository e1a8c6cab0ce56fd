//! A deployment of its own on the real broker for each test, removed at its end.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

pub(crate) mod engine;
pub(crate) mod fed;
pub(crate) mod race;

use std::net::TcpStream;
use std::time::{Duration, SystemTime};

use pitwall_engine::conformance;
use pitwall_kafka::options::Options;
use pitwall_kafka::schemas::{RawStream, Streams};
use pitwall_kafka::topics;
use pitwall_schemas::raw::{Collection, RECORDS};
use pitwall_schemas::shared::KnownAtQuality;

/// The port of `docker/services`.
const PORT: u16 = 19_092;

/// A deployment whose topics go when it does.
pub(crate) struct Deployment {
    pub(crate) options: Options,
    pub(crate) streams: Streams,
}

impl Deployment {
    /// Makes the topics of `streams` under a prefix of their own, with two partitions.
    pub(crate) fn new(name: &str, streams: Streams) -> Self {
        Self::with_partitions(name, streams, 2)
    }

    /// The same with as many partitions as wanted.
    pub(crate) fn with_partitions(name: &str, streams: Streams, partitions: i32) -> Self {
        let port = std::env::var("SERVICES_KAFKA_PORT").map_or(PORT, |port| port.parse().unwrap());
        let address = format!("127.0.0.1:{port}");
        let broker = TcpStream::connect_timeout(&address.parse().unwrap(), Duration::from_secs(2));
        assert!(broker.is_ok(), "no Kafka at {address}: start it with `docker/services up kafka`");
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos();
        let prefix = format!("test-{name}-{}-{now}.", std::process::id());
        let options = Options { brokers: vec![address], prefix, partitions, ..Options::default() };
        topics::create(&options, &streams).unwrap();
        Self { options, streams }
    }
}

impl Drop for Deployment {
    fn drop(&mut self) {
        // What cannot be removed now is in nobody's way: no other test uses the prefix.
        let _ = topics::delete(&self.options, &self.streams);
    }
}

/// The streams of the conformance suite: its records are eight bytes.
pub(crate) fn conformance_streams() -> Streams {
    let schema = |name: &'static str| match name {
        "left" => {
            r#"{"type":"record","name":"Left","namespace":"conformance","fields":[{"name":"value","type":{"type":"fixed","name":"LeftValue","size":8}}]}"#
        }
        _ => {
            r#"{"type":"record","name":"Right","namespace":"conformance","fields":[{"name":"value","type":{"type":"fixed","name":"RightValue","size":8}}]}"#
        }
    };
    let raw = conformance::STREAMS.iter().map(|&name| RawStream { name, schema: schema(name) }).collect();
    Streams { raw, kinds: conformance::kinds() }
}

/// The streams and facts of Formula 1.
pub(crate) fn formula_1_streams() -> Streams {
    let schema = |name: &str| RECORDS.iter().find(|(record, _)| *record == name).unwrap().1.schema;
    let raw = Collection::ALL.iter().map(|collection| RawStream { name: collection.name(), schema: schema(collection.name()) }).collect();
    Streams { raw, kinds: race::graph(0, KnownAtQuality::Received).kinds().to_vec() }
}
