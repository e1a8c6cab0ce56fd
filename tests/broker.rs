//! The broker killed with SIGKILL while sessions run, and started again: engines, ingest and edge go on without a hand, and nothing is lost.
//!
//! `BROKER_SEED` changes when; it is printed.

#![expect(clippy::disallowed_methods, reason = "this test starts processes and waits for them")]

mod deployment;

use std::path::Path;
use std::thread;
use std::time::Duration;

use deployment::Deployment;
use deployment::service::Service;
use pitwall_engine::memory::Seeded;

const MEXICO: i32 = 9_873;
const KILLS: usize = 3;

#[test]
fn a_broker_killed_while_sessions_run_costs_time_and_nothing_else() {
    let seed = std::env::var("BROKER_SEED").ok().map_or(20_250_831, |seed| seed.parse().unwrap());
    println!("seed {seed}");
    let folder = tempfile::tempdir().unwrap();
    let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/mexico_2025_qualifying.avro");
    let (archive, run) = (archive.to_str().unwrap(), folder.path().join("run"));
    let broker = Service::kafka();
    let deployment = Deployment::on(broker.port, "broker", 2);
    deployment.told(&["backtest", archive, "--out", run.to_str().unwrap(), "--quiet"]);
    let manifest: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(run.join("manifest.json")).unwrap()).unwrap();

    let engines = [deployment.start("engine"), deployment.start("engine")];
    let edge = deployment.start("edge");
    edge.wait_until_ready();
    let mut ingest = deployment.begin(&["ingest", "archive", archive, "--speed", "300"]);
    let mut seeded = Seeded::new(seed);
    for _ in 0..KILLS {
        thread::sleep(Duration::from_millis(1_000 + seeded.below(3_000)));
        broker.kill();
        thread::sleep(Duration::from_millis(seeded.below(2_000)));
        assert!(edge.get("/api/v1/sessions").is_some(), "the edge shows what it has while the broker is away");
        broker.up();
    }
    assert!(ingest.wait().success(), "seed {seed}: ingest waits the broker out");
    let shown = edge.wait_until_complete(MEXICO);
    assert_eq!(shown["facts_hash"], manifest["facts_hash"], "seed {seed}");
    assert_eq!(shown["facts"], manifest["facts"], "seed {seed}");
    for process in engines.into_iter().chain([edge]) {
        assert!(process.stop().success(), "seed {seed}: a process that is told to stop ends well");
    }
}
