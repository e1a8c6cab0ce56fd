//! Sessions that other operators derived, in a data directory and on Kafka: `rebuild`, `rollback` and `compare --epochs` of the binary, and
//! what its servers show.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod deployment;
mod live;

use std::path::Path;
use std::process::{Command, Output};

use deployment::{Deployment, wait_for};
use live::{Demo, MEXICO, qualifying};
use pitwall_archive::archive::Archive;
use pitwall_embedded::data::{DataDirectory, Options};
use pitwall_embedded::pace::Pace;
use pitwall_embedded::replay::Replay;
use pitwall_embedded::runtime::{Runtime, SessionOptions};
use pitwall_engine::commit::Engine;
use pitwall_engine::graph::{Graph, GraphBuilder};
use pitwall_engine::limits::Limits;
use pitwall_engine::log::Committed;
use pitwall_kafka::log::KafkaLog;
use pitwall_kafka::schemas::{RawStream, Streams};
use pitwall_operators::telemetry::TelemetryOperator;
use pitwall_operators::weather::WeatherOperator;
use pitwall_schemas::raw::{CarData, Collection, Location, RECORDS, Sample, Weather};
use pitwall_schemas::shared::KnownAtQuality;
use serde_json::Value;

/// Operators of an earlier day: fewer, and telemetry that waits longer for a packet.
fn earlier_graph(session_key: i32, quality: KnownAtQuality) -> Graph<Sample> {
    let mut graph = GraphBuilder::default();
    graph.publish(WeatherOperator, |inputs| inputs.samples::<Weather>());
    let telemetry = TelemetryOperator { packet_window_ms: 40, ..TelemetryOperator::default() };
    graph.publish(telemetry, |inputs| inputs.samples::<CarData>().samples::<Location>());
    graph.build(Limits::default()).unwrap().for_session(session_key, 0, quality)
}

/// Replays the bundled qualifying through those operators into a data directory, all of it.
fn derive_earlier(folder: &Path) {
    let archive = Archive::open(&qualifying()).unwrap();
    let (session_key, quality, samples) = (archive.session_key(), archive.quality(), archive.samples());
    let kinds = pitwall_operators::graph(&Limits::default()).unwrap().kinds().to_vec();
    let data = DataDirectory::open(folder, &kinds, Options::default()).unwrap();
    let options = SessionOptions::replayed(session_key, archive.source_id());
    let graph = move || earlier_graph(session_key, quality);
    let runtime = Runtime::start(data.log, options, graph, |_: &Committed<'_>| {}, None).unwrap();
    let replay = Replay::start(archive, samples, 0, runtime.ingest(), Pace::at(f64::INFINITY), None).unwrap();
    replay.join().unwrap();
    runtime.stop().unwrap();
}

fn pitwall(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pitwall")).args(arguments).output().unwrap()
}

fn told(arguments: &[&str]) -> String {
    let output = pitwall(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_finished_session_derived_anew_has_a_backtests_facts_and_readers_can_go_back() {
    let folder = tempfile::tempdir().unwrap();
    let (data, run) = (folder.path().join("data"), folder.path().join("run"));
    let (data_dir, run) = (data.to_str().unwrap(), run.to_str().unwrap());
    derive_earlier(&data);
    told(&["backtest", qualifying().to_str().unwrap(), "--out", run, "--quiet"]);
    let manifest: Value = serde_json::from_str(&std::fs::read_to_string(Path::new(run).join("manifest.json")).unwrap()).unwrap();
    let hash = manifest["facts_hash"].as_str().unwrap();

    let rebuilt = told(&["rebuild", "--data-dir", data_dir]);
    assert_eq!(rebuilt.trim(), format!("session {MEXICO}: epoch 0 -> 1, {} facts, facts hash {hash}", manifest["facts"]));
    assert!(told(&["rebuild", "--data-dir", data_dir]).contains("epoch 1 is of these operators already"));
    assert!(told(&["verify", data_dir]).lines().all(|line| line.starts_with("holds")));

    // What changed, and only that.
    let compared = pitwall(&["compare", data_dir, "--epochs", "0", "1", "--format", "json"]);
    assert_eq!(compared.status.code(), Some(1));
    let compared: Value = serde_json::from_slice(&compared.stdout).unwrap();
    for kind in compared["kinds"].as_array().unwrap() {
        let (before, after) = (kind["in_a"].as_u64().unwrap(), kind["in_b"].as_u64().unwrap());
        match kind["kind"].as_str().unwrap() {
            "weather" => assert_eq!((kind["equal"].as_u64(), before), (Some(after), after), "weather did not change: {kind}"),
            "telemetry" => assert!(kind["retimed"].as_u64().unwrap() > 10_000, "packets are told earlier: {kind}"),
            _ => assert_eq!((before, kind["only_in_b"].as_u64()), (0, Some(after)), "there was none before: {kind}"),
        }
    }
    assert!(told(&["explain", &format!("{MEXICO}-0-0"), data_dir]).contains("0-0"), "a fact of the epoch before still has its causes");

    // The server shows the new epoch, and the one before to whoever asks for it.
    let laps = manifest["kinds"].as_array().unwrap().iter().find(|kind| kind["kind"] == "laps").unwrap()["facts"].as_u64().unwrap();
    assert!(laps > 0);
    let server = Demo::start_qualifying(&data, &["--speed", "1"]);
    let session = server.get(&format!("/api/v1/sessions/{MEXICO}"));
    assert_eq!((&session["epoch"], &session["facts_hash"], &session["state"]), (&1.into(), &hash.into(), &"COMPLETE".into()));
    assert!(!server.rows("laps", "").is_empty());
    assert!(server.rows("laps", "?epoch=0").is_empty());
    let (then, now) = (server.rows("telemetry", "?epoch=0"), server.rows("telemetry", ""));
    assert_eq!(then.len(), now.len(), "the last packet of every car in either epoch");
    // A moment of the past has the facts of the epoch asked for that were known by then.
    for epoch in [0, 1] {
        let rows = server.rows("weather", &format!("?epoch={epoch}&as_of=seq:400000"));
        assert_eq!(rows.len(), 1, "epoch {epoch}");
        assert!(rows[0]["known_at"].as_str() < server.rows("weather", "")[0]["known_at"].as_str());
    }
    server.kill();

    assert!(
        told(&["rollback", &MEXICO.to_string(), "0", "--data-dir", data_dir])
            .starts_with(&format!("readers of session {MEXICO} see epoch 0"))
    );
    let server = Demo::start_qualifying(&data, &["--speed", "1"]);
    assert_eq!(server.get(&format!("/api/v1/sessions/{MEXICO}"))["epoch"], 0);
    assert!(server.rows("laps", "").is_empty() && !server.rows("weather", "").is_empty());
    server.kill();
    told(&["rollback", &MEXICO.to_string(), "1", "--data-dir", data_dir]);
    let server = Demo::start_qualifying(&data, &["--speed", "1"]);
    assert_eq!(server.get(&format!("/api/v1/sessions/{MEXICO}"))["facts_hash"], hash);
    server.kill();

    let refused = pitwall(&["rollback", &MEXICO.to_string(), "7", "--data-dir", data_dir]);
    assert_eq!(
        String::from_utf8(refused.stderr).unwrap().trim(),
        format!("pitwall: session {MEXICO} has no epoch 7: its current one is 1")
    );
}

/// The streams of OpenF1 and the kinds of today's graph, as the binary opens the log with them.
fn kafka_log(deployment: &Deployment) -> KafkaLog {
    let schema = |name: &str| RECORDS.iter().find(|(record, _)| *record == name).unwrap().1.schema;
    let raw = Collection::ALL.iter().map(|collection| RawStream { name: collection.name(), schema: schema(collection.name()) }).collect();
    let kinds = pitwall_operators::graph(&Limits::default()).unwrap().kinds().to_vec();
    let options = pitwall_kafka::options::Options {
        brokers: vec![deployment.address.clone()],
        prefix: deployment.prefix.clone(),
        partitions: 1,
        ..Default::default()
    };
    KafkaLog::open(options, Streams { raw, kinds }).unwrap()
}

/// Takes what has been ingested through the earlier operators, until the session has this many ledger records or is closed.
fn take_earlier(deployment: &Deployment, session_key: i32, records: u64) {
    let log = kafka_log(deployment);
    let source = log.source(session_key).unwrap().unwrap();
    let quality = if source.is_reconstructed { KnownAtQuality::Reconstructed } else { KnownAtQuality::Received };
    let mut engine = Engine::start(log, session_key, move || earlier_graph(session_key, quality), Limits::default()).unwrap();
    wait_for("the earlier operators have taken it", || {
        engine.step(None).unwrap();
        let head = *engine.head()?;
        let has_all = head.next_ingest_seq >= source.next_ingest_seq;
        if has_all {
            engine.close().unwrap();
        }
        (head.last_seq >= records || has_all).then_some(())
    });
}

#[test]
fn on_kafka_an_open_session_is_derived_anew_by_whoever_takes_it_a_finished_one_by_hand_and_edges_see_one_switch() {
    const OPEN: i32 = 77;
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    told(&["backtest", qualifying().to_str().unwrap(), "--out", run.to_str().unwrap(), "--quiet"]);
    let manifest: Value = serde_json::from_str(&std::fs::read_to_string(run.join("manifest.json")).unwrap()).unwrap();
    let (hash, facts) = (manifest["facts_hash"].as_str().unwrap(), manifest["facts"].as_u64().unwrap());
    let deployment = Deployment::new("epochs", 1);
    let archive = qualifying();
    deployment.told(&["ingest", "archive", archive.to_str().unwrap()]);
    deployment.told(&["ingest", "archive", archive.to_str().unwrap(), "--as-session", &OPEN.to_string()]);
    take_earlier(&deployment, MEXICO, u64::MAX);
    take_earlier(&deployment, OPEN, 200_000);

    let edge = deployment.start("edge");
    edge.wait_until_ready();
    let epoch_of = |session: i32| edge.get(&format!("/api/v1/sessions/{session}")).unwrap()["epoch"].as_i64().unwrap();
    assert_eq!((epoch_of(MEXICO), epoch_of(OPEN)), (0, 0));

    // Today's engine finds one session open and one finished.
    let engine = deployment.start("engine");
    let shown = edge.wait_until_complete(OPEN);
    assert_eq!((&shown["epoch"], epoch_of(MEXICO)), (&1.into(), 0));
    let verified = edge.get(&format!("/api/v1/sessions/{OPEN}/verify")).unwrap();
    assert_eq!((&verified["holds"], &verified["facts_hash"]), (&true.into(), &shown["facts_hash"]), "a replay comes to the same");
    let laps = |epoch: i32| edge.get(&format!("/api/v1/sessions/{OPEN}/laps?epoch={epoch}")).unwrap()["rows"].as_array().unwrap().len();
    assert!(laps(0) == 0 && laps(1) > 200, "the earlier operators knew no laps");
    assert!(engine.stop().success());

    let rebuilt = deployment.told(&["rebuild", &MEXICO.to_string(), "--on-kafka"]);
    assert_eq!(rebuilt.trim(), format!("session {MEXICO}: epoch 0 -> 1, {facts} facts, facts hash {hash}"));
    wait_for("the edge shows the new epoch", || (epoch_of(MEXICO) == 1).then_some(()));
    assert_eq!(edge.get(&format!("/api/v1/sessions/{MEXICO}")).unwrap()["facts_hash"], hash);

    // Readers go back and forward again, those of an edge that comes later too.
    deployment.told(&["rollback", &MEXICO.to_string(), "0", "--on-kafka"]);
    wait_for("the edge goes back", || (epoch_of(MEXICO) == 0).then_some(()));
    let late = deployment.start("edge");
    late.wait_until_ready();
    assert_eq!(late.get(&format!("/api/v1/sessions/{MEXICO}")).unwrap()["epoch"], 0);
    deployment.told(&["rollback", &MEXICO.to_string(), "1", "--on-kafka"]);
    wait_for("the edge goes forward", || (epoch_of(MEXICO) == 1).then_some(()));
    let refused = deployment.complaint(&["rollback", &MEXICO.to_string(), "7", "--on-kafka"]);
    assert_eq!(refused.trim(), format!("pitwall: session {MEXICO} has no epoch 7: its current one is 1"));
}
