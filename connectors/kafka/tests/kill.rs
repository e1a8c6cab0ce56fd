//! Two engines of one group over four sessions on two partitions, killed with SIGKILL at seeded moments while input arrives, half of them
//! left dead for a while so that the other takes over: the facts equal an undisturbed backtest's.
//!
//! The test starts itself as child processes. `PITWALL_KILLS` changes how often (default 8), `PITWALL_KILL_SEED` when and whom; a failure
//! prints both.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use pitwall_engine::backtest::Outcome;
use pitwall_engine::limits::Limits;
use pitwall_engine::log::{NewRaw, RawLog};
use pitwall_engine::memory::Seeded;
use pitwall_kafka::log::KafkaLog;
use pitwall_kafka::options::Options;
use pitwall_kafka::{engines, partition};
use pitwall_schemas::log::SourceProgress;
use pitwall_schemas::shared::KnownAtQuality;
use support::Deployment;
use support::race::{self, MEXICO, SILVERSTONE};

/// Far more than all of it takes; what is not there then will not come.
const PATIENCE: Duration = Duration::from_secs(400);

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |value| value.parse().unwrap())
}

/// The child: an engine of the group, until it is killed.
#[test]
#[ignore = "the kill loop starts it as a process of its own"]
fn child() {
    let options: Options = serde_json::from_str(&std::env::var("PITWALL_KILL_OPTIONS").unwrap()).unwrap();
    let graph = |source: &SourceProgress| {
        let quality = if source.is_reconstructed { KnownAtQuality::Reconstructed } else { KnownAtQuality::Received };
        race::graph(source.session_key, quality)
    };
    let log = KafkaLog::open(options, support::formula_1_streams()).unwrap();
    engines::run(log, Limits::default(), Arc::new(graph), Arc::new(|_: &_| {}), &AtomicBool::new(false)).unwrap();
}

/// A child that goes when the test does, however that ends.
struct Engine(Child);

impl Engine {
    fn start(options: &Options) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "child", "--nocapture"])
            .env("PITWALL_KILL_OPTIONS", serde_json::to_string(options).unwrap())
            .stdout(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }
}

impl Drop for Engine {
    /// SIGKILL: nothing is committed, nobody is told.
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

struct Fed {
    session_key: i32,
    archive: &'static str,
    records: Vec<NewRaw>,
    expected: Outcome,
    next: usize,
}

impl Fed {
    fn feed(&mut self, log: &mut KafkaLog, until: usize) {
        let source_id = race::open(self.archive).source_id();
        for batch in self.records[self.next..until].chunks(5_000) {
            log.append(self.session_key, source_id, self.next as i64, batch.to_vec()).unwrap();
            self.next += batch.len();
        }
    }
}

/// Four sessions, two on each partition.
fn sessions(log: &mut KafkaLog) -> Vec<Fed> {
    let mut sessions = Vec::new();
    for (archive, partitions) in [(MEXICO, [0, 1]), (SILVERSTONE, [0, 1])] {
        let expected = race::backtest(archive);
        let opened = race::open(archive);
        for number in partitions {
            let taken = |key: &i32| sessions.iter().any(|fed: &Fed| fed.session_key == *key);
            let session_key = (19_000..).find(|key| partition::of(*key, 2) == number && !taken(key)).unwrap();
            log.describe_source(session_key, opened.source_id(), opened.quality() == KnownAtQuality::Reconstructed, false).unwrap();
            sessions.push(Fed { session_key, archive, records: race::records(archive, session_key), expected, next: 0 });
        }
    }
    sessions
}

#[test]
fn engines_killed_at_any_moment_lose_nothing_and_count_nothing_twice() {
    let (seed, kills) = (setting("PITWALL_KILL_SEED", 20_250_831), setting("PITWALL_KILLS", 8));
    let mut deployment = Deployment::new("kill", support::formula_1_streams());
    deployment.options.session_timeout_ms = 1_500;
    let options = &deployment.options;
    let mut log = KafkaLog::open(options.clone(), deployment.streams.clone()).unwrap();
    let mut sessions = sessions(&mut log);
    let mut seeded = Seeded::new(seed);
    let mut engines = [Some(Engine::start(options)), Some(Engine::start(options))];
    for kill in 0..kills {
        for fed in &mut sessions {
            let until = fed.records.len() * (kill as usize + 1) / kills as usize;
            fed.feed(&mut log, until);
        }
        thread::sleep(Duration::from_millis(seeded.below(1_000)));
        let victim = seeded.below(2) as usize;
        engines[victim] = None;
        // The other one is there now, and works alone for a while every second time.
        engines[1 - victim].get_or_insert_with(|| Engine::start(options));
        if seeded.below(2) == 0 {
            engines[victim] = Some(Engine::start(options));
        }
    }
    for fed in &sessions {
        let opened = race::open(fed.archive);
        let is_reconstructed = opened.quality() == KnownAtQuality::Reconstructed;
        log.describe_source(fed.session_key, opened.source_id(), is_reconstructed, true).unwrap();
    }
    let end = Instant::now() + PATIENCE;
    for fed in &sessions {
        let is_done = |log: &KafkaLog| log.standing(fed.session_key).unwrap().is_some_and(|standing| standing.is_closed);
        while !is_done(&log) {
            assert!(Instant::now() < end, "seed {seed}, {kills} kills: session {} is not finished", fed.session_key);
            thread::sleep(Duration::from_millis(100));
        }
    }
    drop(engines);
    for fed in &sessions {
        let Outcome { facts, facts_hash, .. } = fed.expected;
        let read = race::hash_of_facts(&mut log, fed.session_key);
        assert_eq!(read, (facts, facts_hash), "seed {seed}, {kills} kills: session {}", fed.session_key);
    }
}
