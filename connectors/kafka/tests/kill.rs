//! Two engines of one group over four sessions on two partitions, killed with SIGKILL at seeded moments while input arrives, half of them
//! left dead for a while so that the other takes over; and one that is paused for longer than its group waits. The facts equal an undisturbed
//! backtest's.
//!
//! The test starts itself as child processes. `PITWALL_KILLS` changes how often (default 8), `PITWALL_KILL_SPEED` at how many session seconds
//! a second (default 600), `PITWALL_KILL_SEED` when and whom; all three are printed. `just kill-loop` is the long version.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use pitwall_engine::limits::Limits;
use pitwall_engine::memory::Seeded;
use pitwall_kafka::log::KafkaLog;
use pitwall_kafka::options::Options;
use pitwall_kafka::partition;
use support::Deployment;
use support::engine::{self, wait_for, wait_until_closed};
use support::fed::Fed;
use support::race::{MEXICO, SILVERSTONE};

/// How often sessions are fed.
const FEED_INTERVAL: Duration = Duration::from_millis(20);

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |value| value.parse().unwrap())
}

/// The child: an engine of the group, until it is killed.
#[test]
#[ignore = "the kill loop starts it as a process of its own"]
fn child() {
    let options: Options = serde_json::from_str(&std::env::var("PITWALL_KILL_OPTIONS").unwrap()).unwrap();
    engine::run(&options, Limits::default(), &AtomicBool::new(false)).unwrap();
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

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.0.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }
}

impl Drop for Engine {
    /// SIGKILL: nothing is committed, nobody is told.
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Four sessions, two on each partition.
fn sessions(log: &mut KafkaLog) -> Vec<Fed> {
    let mut sessions: Vec<Fed> = Vec::new();
    for (archive, number) in [(MEXICO, 0), (MEXICO, 1), (SILVERSTONE, 0), (SILVERSTONE, 1)] {
        let is_free = |key: &i32| partition::of(*key, 2) == number && sessions.iter().all(|fed| fed.session_key != *key);
        let session_key = (19_000..).find(is_free).unwrap();
        sessions.push(Fed::new(archive, session_key, log));
    }
    sessions
}

/// Feeds every session at `speed`, all from now on.
fn feed(mut sessions: Vec<Fed>, log: &mut KafkaLog, speed: u64) -> Vec<Fed> {
    let begun = Instant::now();
    let mut is_done = false;
    while !is_done {
        let passed = begun.elapsed().as_micros() as i64 * speed as i64;
        is_done = true;
        for fed in &mut sessions {
            let first = fed.records[0].received_at;
            let until = fed.records.partition_point(|record| record.received_at.since(first) <= passed);
            is_done &= until == fed.records.len();
            fed.feed(log, until);
        }
        thread::sleep(FEED_INTERVAL);
    }
    for fed in &mut sessions {
        fed.end(log);
    }
    sessions
}

/// How long the longest session takes at `speed`.
fn length(sessions: &[Fed], speed: u64) -> Duration {
    let micros = sessions.iter().map(|fed| fed.records[fed.records.len() - 1].received_at.since(fed.records[0].received_at)).max();
    Duration::from_micros(micros.unwrap_or(0) as u64 / speed)
}

#[test]
fn engines_killed_at_any_moment_lose_nothing_and_count_nothing_twice() {
    let (seed, kills) = (setting("PITWALL_KILL_SEED", 20_250_831), setting("PITWALL_KILLS", 8));
    let speed = setting("PITWALL_KILL_SPEED", 600);
    let mut deployment = Deployment::new("kill", support::formula_1_streams());
    deployment.options.session_timeout_ms = 1_500;
    let options = &deployment.options;
    let mut log = KafkaLog::open(options.clone(), deployment.streams.clone()).unwrap();
    let sessions = sessions(&mut log);
    let between_ms = length(&sessions, speed).as_millis() as u64 / kills;
    let what = format!("seed {seed}, {kills} kills, {speed} x, one in about {between_ms} ms");
    println!("{what}");

    let mut seeded = Seeded::new(seed);
    let mut engines = [Some(Engine::start(options)), Some(Engine::start(options))];
    let mut for_feed = log.clone();
    let feeder = thread::spawn(move || feed(sessions, &mut for_feed, speed));
    for _ in 0..kills {
        thread::sleep(Duration::from_millis(seeded.below(2 * between_ms + 1)));
        let victim = seeded.below(2) as usize;
        engines[victim] = None;
        // The other one is there now, and works alone for a while every second time.
        engines[1 - victim].get_or_insert_with(|| Engine::start(options));
        if seeded.below(2) == 0 {
            engines[victim] = Some(Engine::start(options));
        }
    }
    let sessions = feeder.join().unwrap();
    for fed in &sessions {
        wait_until_closed(&log, fed.session_key, &what);
    }
    drop(engines);
    for fed in &sessions {
        fed.check(&mut log, &what);
    }
}

#[test]
fn an_engine_paused_for_longer_than_its_group_waits_is_fenced_and_writes_nothing_that_is_seen() {
    let seed = setting("PITWALL_KILL_SEED", 20_250_831);
    let mut deployment = Deployment::new("zombie", support::formula_1_streams());
    deployment.options.session_timeout_ms = 1_500;
    let options = &deployment.options;
    let mut log = KafkaLog::open(options.clone(), deployment.streams.clone()).unwrap();
    let mut fed = Fed::new(MEXICO, 19_000, &mut log);
    let samples = fed.records.len();
    let last_seq = |log: &KafkaLog| log.standing(19_000).unwrap().map_or(0, |standing| standing.last_seq);
    let mut seeded = Seeded::new(seed);

    let zombie = Engine::start(options);
    fed.feed(&mut log, samples / 4);
    wait_for("the engine works", || last_seq(&log) > 0);
    fed.feed(&mut log, samples / 2);
    // In the middle of that.
    thread::sleep(Duration::from_millis(seeded.below(300)));
    zombie.signal("STOP");
    let heir = Engine::start(options);
    fed.feed(&mut log, samples * 3 / 4);
    wait_for("the other engine takes over", || log.standing(19_000).unwrap().is_some_and(|at| at.next_ingest_seq > samples as i64 / 2));
    zombie.signal("CONT");
    fed.end(&mut log);
    let what = format!("seed {seed}");
    wait_until_closed(&log, 19_000, &what);
    drop((zombie, heir));
    fed.check(&mut log, &what);
}
