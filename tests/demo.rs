//! The demo as a whole process: its facts are a backtest's, it goes on after `kill -9`, what it answers is what the files say, and what is
//! wrong is said in one line.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod live;

use std::path::Path;
use std::process::{Command, Output};

use live::{DUTCH, Demo};

fn pitwall(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pitwall")).args(arguments).output().unwrap()
}

/// Standard output of a command that succeeds.
fn told(arguments: &[&str]) -> String {
    let output = pitwall(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The one line of a command that fails.
fn complaint(arguments: &[&str]) -> String {
    let output = pitwall(arguments);
    assert!(!output.status.success(), "{arguments:?} succeeds");
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(line.trim_end().lines().count(), 1, "{line}");
    line
}

/// The facts hash of a backtest of the bundled race.
fn backtest_hash(folder: &Path) -> String {
    let race = live::race();
    told(&["backtest", race.to_str().unwrap(), "--out", folder.to_str().unwrap(), "--quiet"]);
    let manifest = std::fs::read_to_string(folder.join("manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    manifest["facts_hash"].as_str().unwrap().to_owned()
}

#[test]
fn the_demo_comes_to_a_backtests_facts_though_killed_on_the_way_and_answers_what_the_files_say() {
    let folder = tempfile::tempdir().unwrap();
    let (data, run) = (folder.path().join("data"), folder.path().join("run"));
    let expected = backtest_hash(&run);

    let demo = Demo::start(&data, &["--speed", "400"]);
    let killed_at = demo.wait_for("twenty laps", |session| session["laps_completed"].as_i64() >= Some(20))["seq"].as_i64().unwrap();
    demo.kill();
    let demo = Demo::start(&data, &["--speed", "inf"]);
    assert!(demo.get(&format!("/api/v1/sessions/{DUTCH}"))["seq"].as_i64() >= Some(killed_at), "what was shown is still there");
    let end = demo.wait_for("the end of the race", |session| session["state"] == "COMPLETE");
    assert_eq!(end["facts_hash"].as_str(), Some(expected.as_str()));

    // The commands that read say the same of the server as of the files.
    let run = run.to_str().unwrap();
    for moment in ["lap:1", "lap:30", "+0:42:10", "seq:400000"] {
        let (of_server, of_files) = (told(&["state", "--server", &demo.url, "--at", moment]), told(&["state", run, "--at", moment]));
        assert_eq!(rows(&of_server), rows(&of_files), "the tower at {moment}");
    }
    assert!(told(&["verify", "--server", &demo.url]).contains(&expected));
    let fact = format!("{DUTCH}-0-40000");
    assert_eq!(samples(&told(&["explain", &fact, "--server", &demo.url])), samples(&told(&["explain", &fact, run])));

    // And of the data directory, which is refused while the server has it.
    let directory = data.to_str().unwrap();
    for command in [vec!["state", directory, "--at", "lap:30"], vec!["explain", &fact, directory], vec!["verify", directory]] {
        let line = complaint(&command);
        assert!(line.contains(directory) && line.contains("--server"), "{command:?}: {line}");
    }
    demo.kill();
    for moment in ["lap:1", "lap:30", "+0:42:10", "seq:400000", "2030-01-01T00:00:00Z"] {
        let tower = |source| told(&["state", source, "--at", moment, "--format", "json"]);
        assert_eq!(tower(directory), tower(run), "the tower at {moment}");
    }
    assert_eq!(samples(&told(&["explain", &fact, directory])), samples(&told(&["explain", &fact, run])));
    let verified = told(&["verify", directory, "--restarts", "3"]);
    assert_eq!(verified.matches(&expected).count(), 5, "stored facts, the ledger and three restarts: {verified}");
    for (command, words) in [
        (vec!["state", directory, "--at", "lap:73"], "the leader completed 72"),
        (vec!["state", directory, "--at", "seq:99999999"], "its last ledger record is seq:"),
        (vec!["state", directory, "--at", "2001-01-01T00:00:00Z"], "begins later"),
        (vec!["state", directory, "--session", "7", "--at", "lap:1"], "these sessions: 9920"),
        (vec!["explain", "9920-0-99999999", directory], "the last one of epoch 0 is"),
        (vec!["explain", "9920-1-1", directory], "epoch 0"),
        (vec!["state", run, "--session", "9920", "--at", "lap:1"], "holds one session"),
    ] {
        let line = complaint(&command);
        assert!(line.contains(words), "{command:?}: {line}");
    }
}

/// The lines of the tower, without what stands above it.
fn rows(told: &str) -> Vec<String> {
    let is_row = |line: &&str| line.split_whitespace().next().is_some_and(|word| word.parse::<u8>().is_ok());
    let rows: Vec<String> = told.lines().filter(is_row).map(|line| line.trim().to_owned()).collect();
    assert_eq!(rows.len(), 20, "{told}");
    rows
}

/// How many lines tell of `car_data`, `location`, … behind a fact.
fn samples(told: &str) -> usize {
    let samples = told.lines().filter(|line| line.contains("date") || line.contains("seq")).count();
    assert!(samples > 0, "{told}");
    samples
}

#[test]
fn the_latest_session_of_a_data_directory_is_not_one_that_was_called_off() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    for (session_key, year, is_cancelled) in [(1, 2024, false), (2, 2025, true)] {
        let received_at = format!("{year}-05-19T13:00:00Z");
        let document = serde_json::json!({"meeting_key": 1, "session_key": session_key, "year": year, "is_cancelled": is_cancelled});
        let line = serde_json::json!({"collection": "sessions", "received_at": received_at, "doc": document});
        let [stream, archive] = ["stream.jsonl", "session.avro"].map(|name| folder.path().join(name));
        std::fs::write(&stream, format!("{line}\n")).unwrap();
        told(&["import", stream.to_str().unwrap(), "--out", archive.to_str().unwrap()]);
        let demo = Demo::replay(&archive, session_key, &data, &["--speed", "inf"]);
        demo.wait_for("the end of the session", |session| session["state"] == "COMPLETE");
        demo.kill();
    }
    let tower = told(&["state", data.to_str().unwrap(), "--at", "seq:0", "--format", "json"]);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&tower).unwrap()["session"], 1);
}

#[test]
fn a_port_in_use_is_said_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let line = complaint(&["demo", "--listen", &address, "--data-dir", folder.path().to_str().unwrap()]);
    assert!(line.contains(&address) && line.contains("--listen"), "{line}");
}

#[test]
fn a_second_process_on_one_data_directory_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let _demo = Demo::start(folder.path(), &[]);
    let line = complaint(&["demo", "--listen", "127.0.0.1:0", "--data-dir", folder.path().to_str().unwrap()]);
    assert!(line.contains("another") && line.contains(folder.path().to_str().unwrap()), "{line}");
}

#[test]
fn a_data_directory_that_cannot_be_made_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let below = file.join("data");
    let line = complaint(&["demo", "--listen", "127.0.0.1:0", "--data-dir", below.to_str().unwrap()]);
    assert!(line.contains(below.to_str().unwrap()), "{line}");
}

#[test]
fn a_speed_that_is_no_speed_is_refused() {
    for speed in ["0", "-1", "nan"] {
        assert!(complaint(&["demo", "--listen", "127.0.0.1:0", &format!("--speed={speed}")]).contains("above 0"));
    }
}
