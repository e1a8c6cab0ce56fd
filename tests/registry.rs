//! A schema registry killed with SIGKILL while a session runs: nobody asks it for more than a start, so nothing notices; it is needed again
//! for the next start, and readers decode with what it holds.

mod deployment;
mod examples;

use std::path::Path;

use deployment::service::Service;
use deployment::{Deployment, wait_for};
use serde_json::Value;

const DUTCH: i32 = 9_920;

#[test]
fn a_registry_killed_after_the_start_is_missed_by_nobody_but_the_next_start() {
    let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/dutch_2025_race.avro");
    let (archive, folder) = (archive.to_str().unwrap(), tempfile::tempdir().unwrap());
    let registry = Service::registry();
    let mut deployment = Deployment::new("registry", 2);
    let url = format!("http://127.0.0.1:{}/apis/ccompat/v7", registry.port);
    deployment.set("PITWALL_KAFKA__REGISTRY", &url);
    deployment.told(&["backtest", archive, "--out", folder.path().to_str().unwrap(), "--quiet"]);
    let manifest: Value = serde_json::from_str(&std::fs::read_to_string(folder.path().join("manifest.json")).unwrap()).unwrap();

    let roles = [deployment.start("engine"), deployment.start("edge")];
    let [engine, edge] = &roles;
    edge.wait_until_ready();
    let mut ingest = deployment.begin(&["ingest", "archive", archive, "--speed", "600"]);
    let session = format!("/api/v1/sessions/{DUTCH}");
    wait_for("the edge shows it live", || edge.get(&session).filter(|session| session["state"] == "LIVE"));
    registry.kill();
    assert!(ingest.is_running(), "the registry is killed in the middle");
    let complaint = deployment.complaint(&["run", "--roles", "engine"]);
    assert!(complaint.contains(&format!("schema registry {url}")), "who starts meanwhile is told why it cannot: {complaint}");
    assert!(ingest.wait().success());
    let shown = edge.wait_until_complete(DUTCH);
    assert_eq!((&shown["facts"], &shown["facts_hash"]), (&manifest["facts"], &manifest["facts_hash"]));
    assert_eq!(engine.metric("pitwall_group_retries_total"), None, "no engine had any trouble");

    registry.up();
    let another = deployment.start("edge");
    another.wait_until_ready();
    assert_eq!(another.get(&session), Some(shown), "with the registry back, who starts next has all");
    let environment = [("BROKERS", deployment.address.clone()), ("PREFIX", deployment.prefix.clone()), ("REGISTRY", url)];
    // As it was published: tests/consuming.rs holds the other examples against the official results.
    assert_eq!(examples::python("read_laps.py", &environment), "fastest lap: car 81, lap 60, 72271 ms\n");
    for process in roles.into_iter().chain([another]) {
        assert!(process.stop().success(), "a process that is told to stop ends well");
    }
}
