//! The Dutch race over an embedded log, as tests run it.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use pitwall_archive::archive::Archive;
use pitwall_embedded::data::{DataDirectory, Options};
use pitwall_embedded::log::EmbeddedLog;
use pitwall_embedded::pace::Pace;
use pitwall_embedded::replay::{Rename, Replay};
use pitwall_embedded::runtime::{Runtime, SessionOptions};
use pitwall_embedded::sink::Pending;
use pitwall_engine::backtest::{self, Discard, Outcome};
use pitwall_engine::facts::Kind;
use pitwall_engine::graph::Graph;
use pitwall_engine::hash::{Digest, RunningHash};
use pitwall_engine::limits::Limits;
use pitwall_engine::log::{Committed, EventLog};
use pitwall_engine::session::Session;
use pitwall_schemas::raw::Sample;
use pitwall_schemas::shared::KnownAtQuality;

pub(crate) fn dutch() -> Archive {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/dutch_2025_race.avro");
    Archive::open(&path).unwrap()
}

pub(crate) fn graph(session_key: i32, quality: KnownAtQuality) -> Graph<Sample> {
    pitwall_operators::graph(&Limits::default()).unwrap().for_session(session_key, 0, quality)
}

pub(crate) fn kinds() -> Vec<Kind> {
    graph(0, KnownAtQuality::Received).kinds().to_vec()
}

pub(crate) fn open(folder: &Path) -> DataDirectory {
    DataDirectory::open(folder, &kinds(), Options::default()).unwrap()
}

/// What an undisturbed backtest of the race comes to.
pub(crate) fn backtest() -> Outcome {
    let mut archive = dutch();
    let graph = graph(archive.session_key(), archive.quality());
    let mut session = Session::new(archive.session_key(), graph, Limits::default()).without_keyframes();
    backtest::run(&mut archive, &mut session, &mut Discard, NonZeroUsize::new(8_192).unwrap()).unwrap()
}

/// Starts the race as session `session_key`, where the log left it.
pub(crate) fn start(
    log: &EmbeddedLog,
    session_key: i32,
    pace: Pace,
    sink: Option<Pending>,
    rename: Option<Rename<Sample>>,
    observer: impl FnMut(&Committed<'_>) + Send + 'static,
) -> (Runtime, Replay) {
    let mut archive = dutch();
    let quality = archive.quality();
    let options = SessionOptions::replayed(session_key, archive.source_id());
    let runtime = Runtime::start(log.clone(), options, move || graph(session_key, quality), observer, sink).unwrap();
    archive.seek(runtime.next_ingest_seq() as u64);
    let samples = archive.samples();
    let replay = Replay::start(archive, samples, runtime.next_ingest_seq(), runtime.ingest(), pace, rename).unwrap();
    (runtime, replay)
}

/// Hash of the session's facts as readers of the log see them; they must be dense.
pub(crate) fn hash_of_facts(log: &mut EmbeddedLog, session_key: i32) -> (u64, Digest) {
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
