//! Four roles in four processes from one configuration file: ingest, engine, sink and edge. Topics, CQL server, edge and page hold what a
//! backtest derives; `tests/demo.rs` holds the embedded deployment to the same hash.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod deployment;
mod examples;
mod live;

use std::fs;

use deployment::keyspace::Keyspace;
use deployment::{Deployment, wait_for};
use live::DUTCH;
use live::browser::{Driver, eventually};
use pitwall_engine::log::StateStore;
use serde_json::Value;

#[test]
fn topics_store_edge_and_page_hold_what_a_backtest_derives() {
    let folder = tempfile::tempdir().unwrap();
    let archive = live::race();
    let mut deployment = Deployment::new("roles", 2);
    let keyspace = Keyspace::new(&mut deployment);
    let file = folder.path().join("pitwall.toml");
    fs::write(&file, format!("[ingest]\narchives = [{archive:?}]\nbatch_records_max = 20000\n[edge]\nlisten = \"127.0.0.1:0\"\n")).unwrap();
    deployment.set("PITWALL_CONFIG", file.to_str().unwrap());
    let out = folder.path().join("files");
    deployment.told(&["backtest", archive.to_str().unwrap(), "--out", out.to_str().unwrap(), "--quiet"]);
    let manifest: Value = serde_json::from_str(&fs::read_to_string(out.join("manifest.json")).unwrap()).unwrap();
    let (facts, facts_hash) = (manifest["facts"].as_u64().unwrap(), manifest["facts_hash"].as_str().unwrap());

    let [edge, engine, sink, ingest] = ["edge", "engine", "sink", "ingest"].map(|role| deployment.start(role));
    edge.wait_until_ready();
    let shown = edge.wait_until_complete(DUTCH);
    assert_eq!(shown["facts_hash"].as_str(), Some(facts_hash), "the edge");
    let mut store = keyspace.open();
    wait_for("every fact is stored", || (store.next_fact_seq(DUTCH, 0).unwrap() == facts).then_some(()));
    assert_eq!(keyspace.hash_of_facts(DUTCH), (facts, facts_hash.to_owned()), "the CQL server");

    let kinds = manifest["kinds"].as_array().unwrap();
    let names: Vec<&str> = kinds.iter().map(|entry| entry["kind"].as_str().unwrap()).collect();
    let counts: String = kinds.iter().map(|entry| format!("{} {}\n", entry["facts"], entry["kind"].as_str().unwrap())).collect();
    let environment = [
        ("BROKERS", deployment.address.clone()),
        ("PREFIX", deployment.prefix.clone()),
        ("SESSION", DUTCH.to_string()),
        ("EPOCH", "0".to_owned()),
    ];
    assert_eq!(examples::kcat(&names, &environment), counts, "kcat reads every fact topic");

    let winner = edge.get(&format!("/api/v1/sessions/{DUTCH}/classification")).unwrap();
    let winner = winner["rows"].as_array().unwrap().iter().find(|row| row["position"] == 1).unwrap()["driver_number"].as_i64().unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(assert_page_shows(edge.url(), winner));

    // Told to stop, each ends well; started again, ingest finds that topics have everything.
    for process in [ingest, sink, engine, edge] {
        assert!(process.stop().success(), "a process that is told to stop ends well");
    }
    let said = deployment.told(&["ingest", "archive", archive.to_str().unwrap()]);
    assert!(said.contains("0 samples ingested"), "{said}");
}

/// The page's tower has twenty cars, this one first.
async fn assert_page_shows(url: &str, winner: i64) {
    let driver = Driver::start();
    let page = driver.browser(1_280, 1_100).await;
    page.goto(url).await.unwrap();
    let script = "const rows = document.querySelectorAll('#tower-rows tr'); return [rows.length, Number(rows[0]?.dataset.driver)];";
    eventually(&page, script, &Value::from(vec![20, winner])).await;
    assert_eq!(driver.errors(&page).await, Vec::<String>::new(), "errors in the page");
    page.close().await.unwrap();
}

#[test]
fn an_ingest_without_archives_says_what_to_set() {
    let deployment = Deployment::new("fed-nothing", 1);
    let complaint = deployment.complaint(&["run", "--roles", "ingest"]);
    assert!(complaint.contains("ingest.archives names no archive to feed: set it"), "{complaint}");
    assert_eq!(complaint.trim_end().lines().count(), 1, "{complaint}");
}
