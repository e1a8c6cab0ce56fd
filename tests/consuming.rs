//! `docs/consuming.md` holds: its examples in kcat, Python, Java and Rust are run against a real broker and come to what a backtest and the
//! official results say, and every line of code on the page is a line of theirs.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod deployment;
mod examples;
mod race;

/// The Rust example, compiled as it stands.
#[path = "../docs/examples/rust/read_session.rs"]
#[allow(dead_code, missing_docs, unreachable_pub, clippy::disallowed_methods, reason = "it is a program of its own")]
mod read_session;

use std::fs;
use std::path::Path;

use deployment::{Deployment, wait_for};
use serde_json::Value;

const DUTCH: i32 = 9_920;

/// The kinds of which the examples read every fact.
const DECODED: [&str; 3] = ["laps", "pit_stops", "overtakes"];

fn facts(manifest: &Value, kind: &str) -> u64 {
    let kinds = manifest["kinds"].as_array().unwrap();
    kinds.iter().find(|entry| entry["kind"] == kind).unwrap_or_else(|| panic!("no facts of kind {kind}"))["facts"].as_u64().unwrap()
}

/// How many facts of a kind a backtest's folder holds that correct another.
fn corrections(folder: &Path, kind: &str) -> usize {
    let lines = fs::read_to_string(folder.join("facts").join(format!("{kind}.jsonl"))).unwrap();
    lines.lines().filter(|line| !serde_json::from_str::<Value>(line).unwrap()["supersedes"].is_null()).count()
}

/// The race's fastest lap as it was published.
fn fastest_lap() -> String {
    let row = &race::official::published("fastest_laps")[0];
    let seconds = row["time"].as_str().unwrap().split(':').fold(0.0, |total, part| total * 60.0 + part.parse::<f64>().unwrap());
    format!("fastest lap: car {}, lap {}, {:.0} ms\n", race::official::car(row), row["lap"], seconds * 1_000.0)
}

#[test]
fn every_example_comes_to_what_a_backtest_and_the_official_results_say() {
    let folder = tempfile::tempdir().unwrap();
    let deployment = Deployment::new("consuming", 2);
    let backtest = |name: &str| {
        let (archive, out) = (race::data(name), folder.path().join(name));
        let (archive, into) = (archive.to_str().unwrap().to_owned(), out.to_str().unwrap());
        deployment.told(&["backtest", &archive, "--out", into, "--format", "jsonl", "--quiet"]);
        let manifest: Value = serde_json::from_str(&fs::read_to_string(out.join("manifest.json")).unwrap()).unwrap();
        (archive, out, manifest)
    };
    let (archive, out, manifest) = backtest("dutch_2025_race.avro");
    // Another session in the same topics: an example must leave it out.
    let (other, _, of_other) = backtest("silverstone_2024_practice_1.avro");
    let engine = deployment.start("engine");
    deployment.told(&["ingest", "archive", &archive, &other]);
    let (all, of_others) = (manifest["facts"].as_u64().unwrap(), of_other["facts"].as_u64().unwrap());
    wait_for("every fact of both sessions is committed", || {
        (engine.metric("pitwall_engine_facts_total") == Some((all + of_others) as f64)).then_some(())
    });
    assert!(engine.stop().success());

    let environment = [
        ("BROKERS", deployment.address.clone()),
        ("PREFIX", deployment.prefix.clone()),
        ("SESSION", DUTCH.to_string()),
        ("EPOCH", manifest["epoch"].to_string()),
        ("SCHEMAS", Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/avsc").to_str().unwrap().to_owned()),
    ];
    let kinds: Vec<&str> = manifest["kinds"].as_array().unwrap().iter().map(|entry| entry["kind"].as_str().unwrap()).collect();
    let counts: String = kinds.iter().map(|kind| format!("{} {kind}\n", facts(&manifest, kind))).collect();
    assert_eq!(examples::kcat(&kinds, &environment), counts, "kcat");

    let counts: String = DECODED.iter().map(|kind| format!("{} {kind}\n", facts(&manifest, kind))).collect();
    let corrections: usize = DECODED.iter().map(|kind| corrections(&out, kind)).sum();
    let expected = format!("{all} facts\n{counts}{corrections} of them corrections\n{}", fastest_lap());
    assert_eq!(examples::python("read_session.py", &environment), expected, "Python");
    assert_eq!(examples::java(&environment), expected, "Java");
    let [brokers, prefix, session, epoch, schemas] = environment.map(|(_, value)| value);
    let summary = read_session::read(&read_session::Settings { brokers, prefix, session, epoch, schemas }).unwrap();
    assert_eq!(summary.to_string(), expected, "Rust");
}

/// The blocks of code on the page, each with the file that the last link before it names.
fn blocks(page: &str) -> Vec<(String, Vec<&str>)> {
    let (mut blocks, mut file, mut open) = (Vec::new(), None, None);
    for line in page.lines() {
        match &mut open {
            None => {
                if let Some((path, _)) = line.split_once("](examples/").and_then(|(_, rest)| rest.split_once(')')) {
                    file = Some(path.to_owned());
                }
                let language = line.strip_prefix("```").unwrap_or_default();
                if ["sh", "python", "java", "rust", "xml"].contains(&language) {
                    open = Some(Vec::new());
                }
            }
            Some(_) if line == "```" => blocks.extend(file.clone().zip(open.take())),
            Some(block) => block.push(line),
        }
    }
    assert_eq!(open, None, "a block does not end");
    blocks
}

#[test]
fn every_line_of_code_on_the_page_stands_in_the_example_it_links() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/consuming.md")).unwrap();
    let blocks = blocks(&page);
    let mut shown: Vec<&str> = blocks.iter().map(|(file, _)| file.as_str()).collect();
    shown.dedup();
    let files = [
        "kcat/count_facts.sh",
        "python/read_session.py",
        "python/read_laps.py",
        "java/src/main/java/ReadSession.java",
        "rust/read_session.rs",
    ];
    assert_eq!(shown, files, "the page shows something of each example");
    for (file, block) in blocks {
        let text = fs::read_to_string(examples::examples().join(&file)).unwrap();
        assert!(is_in(&block, &text), "{file} does not hold:\n{}", block.join("\n"));
    }
}

/// Whether `text` holds these lines, one after the other, whatever depth they stand at there.
fn is_in(block: &[&str], text: &str) -> bool {
    let lines: Vec<&str> = text.lines().collect();
    let depth = |line: &str| line.len() - line.trim_start().len();
    let is_at = |window: &[&str]| {
        let deeper = depth(window[0]).checked_sub(depth(block[0]));
        let is_same = |(line, shown): (&&str, &&str)| {
            line.is_empty() && shown.is_empty() || deeper.is_some_and(|deeper| line.get(deeper..) == Some(*shown))
        };
        window.iter().zip(block).all(is_same)
    };
    !block.is_empty() && lines.windows(block.len()).any(is_at)
}
