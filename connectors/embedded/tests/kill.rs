//! kill -9 at 50 seeded moments of a run at 60 times the race's speed, then restart: the facts equal an undisturbed backtest's.
//!
//! The test starts itself as a child process, which replays the race into a data directory until it is killed. It is one run, killed and
//! started again fifty times, about two minutes of it asleep: a kill loses no more than what was not committed, so each life goes on
//! where the last one ended, and the moments lie all over the race. `PITWALL_KILL_SPEED` changes the speed, `PITWALL_KILL_SEED` the
//! moments; a failure prints both. The planted fault at the end shows that the comparison can fail.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use pitwall_embedded::pace::Pace;
use pitwall_embedded::sink::Sink;
use pitwall_engine::log::{Committed, StateStore};
use pitwall_engine::memory::Seeded;

const KILLS: u32 = 50;
/// Session seconds a second, unless PITWALL_KILL_SPEED says otherwise.
const SPEED: u64 = 60;
/// Session time that the lives add up to, ms: a little less than the race, so that every kill falls into it.
const RACE_MS: u64 = 5_300_000;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |value| value.parse().unwrap())
}

/// The child: replays the race where the log left it and says on its first line where that was.
#[test]
#[ignore = "the kill loop starts it as a process of its own"]
fn child() {
    let folder = std::env::var("PITWALL_KILL_FOLDER").unwrap();
    let data = support::open(Path::new(&folder));
    let sink = Sink::start(data.log.clone(), data.store.clone()).unwrap();
    let speed = setting("PITWALL_KILL_SPEED", SPEED) as f64;
    let (runtime, replay) = support::start(&data.log, 9_920, Pace::at(speed), Some(sink.pending()), None, |_: &Committed<'_>| {});
    println!("\nat {}", runtime.resumed_at().map_or(0, |head| head.last_seq));
    replay.join().unwrap();
    runtime.stop().unwrap();
}

/// Runs the child for `life`, then kills it. Returns the ledger record it went on from.
fn run_and_kill(folder: &Path, life: Duration) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "child", "--nocapture"])
        .env("PITWALL_KILL_FOLDER", folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let at = lines.filter_map(|line| line.strip_prefix("at ").map(|seq| seq.parse().unwrap())).next();
    std::thread::sleep(life);
    child.kill().unwrap();
    child.wait().unwrap();
    at.expect("the child recovers before it is killed")
}

#[test]
fn a_race_killed_fifty_times_comes_to_the_facts_of_a_backtest() {
    let (seed, speed) = (setting("PITWALL_KILL_SEED", 20_250_831), setting("PITWALL_KILL_SPEED", SPEED));
    let expected = support::backtest();
    let folder = tempfile::tempdir().unwrap();
    let mut seeded = Seeded::new(seed);
    // Lives that add up to about the race at this speed.
    let life_ms_max = 2 * RACE_MS / speed / u64::from(KILLS);
    let mut begun_at = Vec::new();
    for _ in 0..KILLS {
        begun_at.push(run_and_kill(folder.path(), Duration::from_millis(seeded.below(life_ms_max) + 1)));
    }
    assert!(begun_at.is_sorted(), "seed {seed}, speed {speed}: nothing committed is lost: {begun_at:?}");
    let moved = begun_at.windows(2).filter(|pair| pair[0] < pair[1]).count();
    assert!(moved > KILLS as usize / 2, "seed {seed}, speed {speed}: the kills fell into the race: {begun_at:?}");
    let mut data = support::open(folder.path());
    let sink = Sink::start(data.log.clone(), data.store.clone()).unwrap();
    let (runtime, replay) = support::start(&data.log, 9_920, Pace::at(f64::INFINITY), Some(sink.pending()), None, |_: &Committed<'_>| {});
    replay.join().unwrap();
    let head = runtime.stop().unwrap().unwrap();
    assert_eq!(head.facts_hash, expected.facts_hash, "seed {seed}, speed {speed}");
    assert_eq!(support::hash_of_facts(&mut data.log, 9_920), (expected.facts, expected.facts_hash), "seed {seed}, speed {speed}");
    sink.flush();
    assert_eq!(data.store.next_fact_seq(9_920, 0).unwrap(), expected.facts, "seed {seed}, speed {speed}");
}

/// Planted fault: the facts of one commit are lost while its ledger block stays, as when the two were not one batch.
#[test]
#[should_panic(expected = "none lost, none doubled")]
fn planted_a_commit_whose_facts_are_lost_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    run_and_kill(folder.path(), Duration::from_millis(1_500));
    {
        let database = fjall::Database::builder(folder.path().join("log")).open().unwrap();
        let facts = database.keyspace("facts", fjall::KeyspaceCreateOptions::default).unwrap();
        let last = facts.last_key_value().unwrap().key().unwrap();
        facts.remove(last).unwrap();
    }
    let mut data = support::open(folder.path());
    let (runtime, replay) = support::start(&data.log, 9_920, Pace::at(f64::INFINITY), None, None, |_: &Committed<'_>| {});
    replay.join().unwrap();
    runtime.stop().unwrap();
    support::hash_of_facts(&mut data.log, 9_920);
}
