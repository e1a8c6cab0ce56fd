//! The deployment on Kafka as whole processes: engines, edges and ingest come to what a backtest comes to, and every edge serves the same.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod deployment;

use std::path::{Path, PathBuf};

use deployment::{Deployment, Process, wait_for};

const DUTCH: i32 = 9_920;

fn race() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/dutch_2025_race.avro")
}

/// The manifest that a backtest leaves in `folder`.
fn manifest(folder: &Path) -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(folder.join("manifest.json")).unwrap()).unwrap()
}

/// Everything but the first line, which names the source.
fn rows(table: &str) -> Vec<&str> {
    table.lines().skip(1).collect()
}

/// Every role tells how it does, and docs/operations.md says of every metric what it means.
fn check_metrics(engines: &[Process], edge: &Process, facts: f64) {
    let sum = |name: &str| engines.iter().filter_map(|engine| engine.metric(name)).sum::<f64>();
    wait_for("nothing is left to take", || (sum("pitwall_engine_lag_records") == 0.0).then_some(()));
    wait_for("the session is left", || (sum("pitwall_engine_sessions") == 0.0).then_some(()));
    assert_eq!(sum("pitwall_engine_facts_total"), facts, "every fact is counted once");
    assert_eq!(sum("pitwall_group_partitions"), 2.0, "each partition is given to one engine");
    assert_eq!(sum("pitwall_engine_restore_duration_seconds_count"), 1.0);
    let commits = sum("pitwall_engine_commit_duration_seconds_count");
    assert!(commits > 1.0 && sum("pitwall_engine_commits_total") == commits, "every commit succeeded");
    assert_eq!(sum("pitwall_engine_watermark_delay_seconds"), 0.0);
    assert_eq!(edge.metric("pitwall_follow_commits_total"), Some(commits), "an edge follows every commit");
    assert_eq!(edge.metric("pitwall_follow_behind_partitions"), Some(0.0));

    let documented = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md")).unwrap();
    for process in engines.iter().chain([edge]) {
        let text = process.metrics();
        for name in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()) {
            assert!(documented.contains(name) || name.starts_with("pitwall_edge_"), "{name} is not in docs/operations.md");
        }
    }
}

#[test]
fn two_engines_and_an_edge_come_to_a_backtests_facts_and_a_late_edge_serves_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let (archive, of_files) = (race(), folder.path().join("files"));
    let (archive, of_files) = (archive.to_str().unwrap(), of_files.to_str().unwrap());
    let deployment = Deployment::new("distributed", 2);
    deployment.told(&["backtest", archive, "--out", of_files, "--quiet"]);
    let expected = manifest(Path::new(of_files));
    let facts_hash = expected["facts_hash"].as_str().unwrap();

    let engines = [deployment.start("engine"), deployment.start("engine")];
    for engine in &engines {
        wait_for("each engine has a partition", || engine.metric("pitwall_group_partitions").filter(|given| *given == 1.0));
    }
    let early = deployment.start("edge");
    early.wait_until_ready();
    assert_eq!(early.get("/api/v1/sessions").unwrap()["sessions"].as_array().map(Vec::len), Some(0), "there is no session yet");
    let said = deployment.told(&["ingest", "archive", archive]);
    assert!(said.contains(&format!("{} samples ingested, 0 were there", expected["samples"])), "{said}");
    let shown = early.wait_until_complete(DUTCH);
    assert_eq!(shown["facts_hash"].as_str(), Some(facts_hash), "two engines and an edge");
    assert_eq!(shown["facts"], expected["facts"]);
    let said = deployment.told(&["ingest", "archive", archive]);
    assert!(said.contains("0 samples ingested"), "the same archive again changes nothing: {said}");

    check_metrics(&engines, &early, expected["facts"].as_f64().unwrap());

    // The raw topics are as good an input as the archive.
    let of_topics = folder.path().join("topics");
    deployment.told(&["backtest", "--from-topics", "9920", "--out", of_topics.to_str().unwrap(), "--quiet"]);
    let derived = manifest(&of_topics);
    for hash in ["samples", "facts", "ledger_records", "input_hash", "facts_hash", "graph_hash", "source_id"] {
        assert_eq!(derived[hash], expected[hash], "{hash} of a backtest from the topics");
    }

    // An edge that comes when all is over has nothing but the log to build its view from.
    let late = deployment.start("edge");
    late.wait_until_ready();
    assert_eq!(late.get(&format!("/api/v1/sessions/{DUTCH}")).unwrap(), shown);
    for edge in [&early, &late] {
        let verified = deployment.told(&["verify", "--server", edge.url()]);
        assert!(verified.contains(facts_hash), "{verified}");
        for moment in ["lap:1", "lap:30", "+0:42:10", "seq:400000"] {
            let of_edge = deployment.told(&["state", "--server", edge.url(), "--at", moment]);
            assert_eq!(rows(&of_edge), rows(&deployment.told(&["state", of_files, "--at", moment])), "the tower at {moment}");
        }
        for channel in ["laps", "overtakes", "pit_stops", "race_control", "timing", "stints"] {
            let path = format!("/api/v1/sessions/{DUTCH}/{channel}");
            assert_eq!(edge.get(&path), early.get(&path), "{channel}");
        }
    }
    for process in engines.into_iter().chain([early, late]) {
        assert!(process.stop().success(), "a process that is told to stop ends well");
    }
}
