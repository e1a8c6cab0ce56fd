//! The role `sink` as whole processes, killed and its server killed: what the CQL server holds in the end is what a backtest derives.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "a test waits while its server is away")]

mod deployment;

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use deployment::keyspace::Keyspace;
use deployment::service::Service;
use deployment::{Deployment, wait_for};
use pitwall_engine::log::StateStore;

const DUTCH: i32 = 9_920;
/// Session seconds a second: slow enough to be killed in the middle of.
const SPEED: &str = "600";

fn race() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/dutch_2025_race.avro")
}

/// Number and hash of the facts of a backtest.
fn backtest(deployment: &Deployment, archive: &str) -> (u64, String) {
    let folder = tempfile::tempdir().unwrap();
    deployment.told(&["backtest", archive, "--out", folder.path().to_str().unwrap(), "--quiet"]);
    let manifest: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(folder.path().join("manifest.json")).unwrap()).unwrap();
    (manifest["facts"].as_u64().unwrap(), manifest["facts_hash"].as_str().unwrap().to_owned())
}

#[test]
fn sinks_killed_and_replaced_store_every_fact_of_a_race() {
    let archive = race();
    let archive = archive.to_str().unwrap();
    let mut deployment = Deployment::new("sink", 2);
    let (facts, facts_hash) = backtest(&deployment, archive);
    let keyspace = Keyspace::new(&mut deployment);
    deployment.set("PITWALL_SCYLLA__SINK_FACTS_MAX", "2000");
    let mut store = keyspace.open();

    let engine = deployment.start("engine");
    let first = deployment.start("sink");
    let mut ingest = deployment.begin(&["ingest", "archive", archive, "--speed", SPEED]);
    let is_under_way = |from: u64, store: &mut pitwall_scylla::store::ScyllaStore| {
        let next = store.next_fact_seq(DUTCH, 0).unwrap();
        (next > from).then_some(next)
    };
    let begun = wait_for("facts are stored", || is_under_way(0, &mut store));
    first.signal("KILL");
    drop(first);
    assert!(ingest.is_running(), "the sink is killed in the middle");

    let second = deployment.start("sink");
    wait_for("the second sink goes on", || is_under_way(begun, &mut store));
    second.signal("KILL");
    drop(second);

    let last = deployment.start("sink");
    assert!(ingest.wait().success());
    wait_for("every fact is stored", || (store.next_fact_seq(DUTCH, 0).unwrap() == facts).then_some(()));
    assert_eq!(keyspace.hash_of_facts(DUTCH), (facts, facts_hash));
    wait_for("the back-log is gone", || (last.metric("pitwall_sink_backlog_facts") == Some(0.0)).then_some(()));
    for process in [engine, last] {
        assert!(process.stop().success(), "a process that is told to stop ends well");
    }
}

#[test]
fn a_cql_server_killed_for_a_minute_costs_readers_nothing_and_the_sink_catches_up_by_itself() {
    let archive = race();
    let archive = archive.to_str().unwrap();
    let server = Service::cassandra();
    let mut deployment = Deployment::new("away", 2);
    let (facts, facts_hash) = backtest(&deployment, archive);
    let keyspace = Keyspace::on(server.port, &mut deployment);
    deployment.set("PITWALL_SCYLLA__SINK_FACTS_MAX", "2000");
    deployment.set("PITWALL_SCYLLA__TIMEOUT_MS", "2000");
    deployment.set("PITWALL_SCYLLA__ATTEMPTS_MAX", "2");

    let roles = [deployment.start("engine"), deployment.start("sink"), deployment.start("edge")];
    let [_, sink, edge] = &roles;
    edge.wait_until_ready();
    let mut ingest = deployment.begin(&["ingest", "archive", archive, "--speed", SPEED]);
    wait_for("facts are stored", || sink.metric("pitwall_sink_facts_total").filter(|stored| *stored > 0.0));
    let begun = Instant::now();
    server.kill();
    assert!(ingest.is_running(), "the server is killed in the middle");
    assert!(ingest.wait().success());
    let shown = edge.wait_until_complete(DUTCH);
    assert_eq!((shown["facts"].as_u64(), shown["facts_hash"].as_str()), (Some(facts), Some(facts_hash.as_str())), "readers have it all");
    wait_for("the sink stalls", || sink.metric("pitwall_sink_stalls_total").filter(|stalls| *stalls > 0.0));
    assert!(sink.metric("pitwall_sink_backlog_facts") > Some(0.0), "what is not stored is said");
    thread::sleep(Duration::from_secs(60).saturating_sub(begun.elapsed()));
    server.up();
    wait_for("the back-log is gone", || (sink.metric("pitwall_sink_backlog_facts") == Some(0.0)).then_some(()));
    assert_eq!(keyspace.hash_of_facts(DUTCH), (facts, facts_hash));
    for process in roles {
        assert!(process.stop().success(), "a process that is told to stop ends well");
    }
}

#[test]
fn a_sink_without_its_tables_says_what_to_do() {
    let mut deployment = Deployment::new("untabled", 2);
    let keyspace = Keyspace::new(&mut deployment);
    deployment.set("PITWALL_SCYLLA__KEYSPACE", "nobody_made_this");
    let complaint = deployment.complaint(&["run", "--roles", "sink"]);
    assert!(complaint.contains("run `pitwall migrate`"), "{complaint}");
    drop(keyspace);
    deployment.set("PITWALL_SCYLLA__CONTACT_POINTS", "127.0.0.1:1");
    let complaint = deployment.complaint(&["run", "--roles", "sink"]);
    assert!(complaint.contains("CQL at 127.0.0.1:1: connecting") && complaint.contains("scylla.contact_points"), "{complaint}");
}
