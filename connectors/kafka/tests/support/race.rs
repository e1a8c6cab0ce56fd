//! Sessions fed to Kafka from archives, as tests run them.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::num::NonZeroUsize;
use std::path::Path;

use pitwall_archive::archive::Archive;
use pitwall_engine::Event;
use pitwall_engine::backtest::{self, Discard, Outcome, RawSource};
use pitwall_engine::graph::Graph;
use pitwall_engine::hash::{Digest, RunningHash};
use pitwall_engine::limits::Limits;
use pitwall_engine::log::{EventLog, NewRaw};
use pitwall_engine::session::Session;
use pitwall_kafka::log::KafkaLog;
use pitwall_schemas::raw::Sample;
use pitwall_schemas::shared::KnownAtQuality;

pub(crate) const DUTCH: &str = "dutch_2025_race.avro";
pub(crate) const MEXICO: &str = "mexico_2025_qualifying.avro";
pub(crate) const SILVERSTONE: &str = "silverstone_2024_practice_1.avro";

pub(crate) fn open(archive: &str) -> Archive {
    Archive::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data").join(archive)).unwrap()
}

pub(crate) fn graph(session_key: i32, quality: KnownAtQuality) -> Graph<Sample> {
    pitwall_operators::graph(&Limits::default()).unwrap().for_session(session_key, 0, quality)
}

/// What an undisturbed backtest of an archive comes to.
pub(crate) fn backtest(archive: &str) -> Outcome {
    let mut archive = open(archive);
    let graph = graph(archive.session_key(), archive.quality());
    let mut session = Session::new(archive.session_key(), graph, Limits::default()).without_keyframes();
    backtest::run(&mut archive, &mut session, &mut Discard, NonZeroUsize::new(8_192).unwrap()).unwrap()
}

/// Every record of an archive, filed under `session_key`.
pub(crate) fn records(archive: &str, session_key: i32) -> Vec<NewRaw> {
    let mut archive = open(archive);
    let is_same = archive.session_key() == session_key;
    let mut records = Vec::new();
    while let Some(block) = archive.next_block().unwrap() {
        for raw in block {
            let raw = raw.unwrap();
            let mut payload = raw.payload.to_vec();
            if !is_same {
                let mut sample = Sample::decode(
                    pitwall_schemas::raw::Collection::ALL[usize::from(raw.stream)],
                    &mut pitwall_schemas::codec::Reader::new(raw.payload),
                )
                .unwrap();
                assert_eq!(Event::stream(&sample), raw.stream);
                sample.set_session_key(session_key);
                payload.clear();
                sample.encode(&mut payload);
            }
            records.push(NewRaw { stream: raw.stream, received_at: raw.received_at, payload });
        }
    }
    records
}

/// Number and hash of a session's facts as readers of the topics see them; they must be dense.
pub(crate) fn hash_of_facts(log: &mut KafkaLog, session_key: i32) -> (u64, Digest) {
    let (mut hash, mut next) = (RunningHash::default(), 0);
    loop {
        let facts = log.facts(session_key, 0, next, 20_000).unwrap();
        if facts.is_empty() {
            return (next, hash.digest());
        }
        for fact in facts.iter() {
            assert_eq!(fact.fact_seq, next, "facts are numbered densely: none lost, none doubled");
            next += 1;
        }
        facts.hash_into(0, &mut hash);
    }
}
