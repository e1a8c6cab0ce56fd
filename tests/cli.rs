//! The command line as people meet it: the built binary on the bundled sessions and on damaged copies of them.
//!
//! Every failure must be one line on standard error that says what to do; [`Told::fails`] holds each of them to that.

#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test fails by panicking, and these run a program on files")]

mod race;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use pitwall_archive::archive::{Archive, ArchiveWriter};
use pitwall_archive::container::Container;
use pitwall_archive::facts::FactReader;
use pitwall_archive::ledger;
use pitwall_archive::run::Run;
use pitwall_engine::limits::Limits;
use pitwall_engine::memory::Seeded;
use pitwall_schemas::raw::Sample;
use pitwall_schemas::time::Micros;
use race::{data, dutch, for_each};
use serde_json::{Value, json};
use tempfile::TempDir;

/// What the program said.
struct Told {
    status: i32,
    out: String,
    errors: String,
}

impl Told {
    #[track_caller]
    fn succeeds(self) -> String {
        assert_eq!(self.status, 0, "{}", self.errors);
        self.out
    }

    /// The one line that says why it failed.
    #[track_caller]
    fn fails(self, status: i32) -> String {
        assert_eq!(self.status, status, "{}{}", self.out, self.errors);
        let lines: Vec<&str> = self.errors.lines().collect();
        assert_eq!(lines.len(), 1, "one line says why: {}", self.errors);
        assert!(lines[0].starts_with("pitwall: "), "{}", self.errors);
        lines[0].to_owned()
    }
}

fn pitwall<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Told {
    pitwall_in(Path::new(env!("CARGO_TARGET_TMPDIR")), &[], arguments)
}

fn pitwall_in<A: AsRef<OsStr>>(folder: &Path, variables: &[(&str, &str)], arguments: impl IntoIterator<Item = A>) -> Told {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pitwall"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PITWALL_")) {
        command.env_remove(name);
    }
    let output = command.current_dir(folder).args(arguments).envs(variables.iter().copied()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Told { status: output.status.code().unwrap(), out: text(output.stdout), errors: text(output.stderr) }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn backtest(archive: &Path, out: &Path) -> Told {
    pitwall(["backtest", text(archive), "--out", text(out)])
}

fn manifest(run: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(run.join("manifest.json")).unwrap()).unwrap()
}

fn json(told: Told) -> Value {
    serde_json::from_str(&told.succeeds()).unwrap()
}

/// A run of the Dutch race that the tests only read.
static DUTCH: LazyLock<(TempDir, String)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let out = backtest(&data("dutch_2025_race.avro"), folder.path()).succeeds();
    (folder, out)
});

fn dutch_run() -> &'static Path {
    DUTCH.0.path()
}

/// The first `count` samples of the Dutch race.
fn first_samples(count: usize) -> Vec<(Micros, Sample)> {
    let mut samples = Vec::new();
    for_each(&mut dutch(), |_, raw| {
        samples.push((raw.received_at, raw.event.unwrap()));
        if samples.len() == count { std::ops::ControlFlow::Break(()) } else { std::ops::ControlFlow::Continue(()) }
    });
    samples
}

/// An archive of session 9920 with these samples.
fn write_archive(path: &Path, samples: &[(Micros, Sample)]) {
    let mut archive = ArchiveWriter::create(path, 9_920, dutch().quality()).unwrap();
    for (received_at, sample) in samples {
        archive.append(*received_at, sample).unwrap();
    }
    archive.finish().unwrap();
}

/// A small archive: the start of the race without telemetry's bulk behind it.
fn small_archive(folder: &Path) -> PathBuf {
    let path = folder.join("small.avro");
    write_archive(&path, &first_samples(SMALL));
    path
}

const SMALL: usize = 40_000;
/// A moment after the end of every archive here.
const END: &str = "2030-01-01T00:00:00Z";

// Backtest.

#[test]
fn a_backtest_leaves_a_manifest_with_hashes_and_shows_order_laps_fastest_laps_and_stints() {
    let manifest = manifest(dutch_run());
    for hash in ["graph_hash", "input_hash", "facts_hash", "source_id"] {
        assert_eq!(manifest[hash].as_str().unwrap().len(), 64, "{hash}");
    }
    assert_eq!(manifest["samples"], 870_167);
    assert!(manifest["samples_per_second"].as_f64().unwrap() > 0.0);
    assert_eq!(manifest["incomplete"], Value::Null);
    let words: Vec<Vec<&str>> = DUTCH.1.lines().map(|line| line.split_whitespace().collect()).collect();
    let row = |begin: &[&str]| words.iter().find(|row| row.starts_with(begin)).unwrap_or_else(|| panic!("{begin:?} in {}", DUTCH.1));
    row(&["1", "81", "PIA", "72", "1:12.271", "60", "M", "1-23", "H", "24-53", "H", "54-72"]);
    row(&["18", "4", "NOR", "64"]);
    row(&["1:12.271", "81", "PIA", "60"]);
    let kinds = manifest["kinds"].as_array().unwrap();
    let laps = kinds.iter().find(|kind| kind["kind"] == "laps").unwrap();
    row(&["laps", &laps["facts"].to_string()]);
}

#[test]
fn neither_jobs_nor_batch_size_nor_format_changes_the_hashes() {
    let folder = tempfile::tempdir().unwrap();
    let small = small_archive(folder.path());
    let twin = folder.path().join("twin.avro");
    fs::copy(&small, &twin).unwrap();
    let expected = {
        let out = folder.path().join("alone");
        backtest(&small, &out).succeeds();
        manifest(&out)
    };
    for (number, flags) in [
        ["--jobs", "1", "--batch", "1"],
        ["--jobs", "2", "--batch", "997"],
        ["--jobs", "2", "--format", "jsonl"],
        ["--jobs", "8", "--format", "parquet"],
    ]
    .into_iter()
    .enumerate()
    {
        let out = folder.path().join(number.to_string());
        let arguments = ["backtest", text(&small), text(&twin), "--out", text(&out)];
        pitwall(arguments.into_iter().chain(flags)).succeeds();
        for name in ["small", "twin"] {
            let manifest = manifest(&out.join(name));
            for hash in ["graph_hash", "input_hash", "facts_hash"] {
                assert_eq!(manifest[hash], expected[hash], "{name} {hash} {flags:?}");
            }
        }
    }
    let facts = folder.path().join("2/small/facts");
    for kind in expected["kinds"].as_array().unwrap() {
        let (name, count) = (kind["kind"].as_str().unwrap(), kind["facts"].as_u64().unwrap());
        let lines = fs::read_to_string(facts.join(format!("{name}.jsonl"))).unwrap();
        assert_eq!(lines.lines().count() as u64, count, "{name}");
        assert!(lines.lines().all(|line| serde_json::from_str::<Value>(line).unwrap()["fact_kind"] == name), "{name}");
        let parquet = fs::read(folder.path().join(format!("3/small/facts/{name}.parquet"))).unwrap();
        assert!(parquet.starts_with(b"PAR1") && parquet.ends_with(b"PAR1"), "{name}");
    }
    // JSON lines and Parquet are read as well as Avro is: their facts are those that were hashed, and compare with any other run's.
    let [lines, parquet] = ["2/small", "3/small"].map(|run| folder.path().join(run));
    for run in [&lines, &parquet] {
        let checks = pitwall(["verify", text(run), "--restarts", "0"]).succeeds();
        let files = checks.lines().find(|line| line.contains("fact files")).unwrap();
        assert!(files.contains(expected["facts_hash"].as_str().unwrap()), "{checks}");
        pitwall(["compare", text(&folder.path().join("alone")), text(run)]).succeeds();
    }
    pitwall(["compare", text(&lines), text(&parquet)]).succeeds();
}

#[test]
fn two_archives_of_one_name_are_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let archive = data("dutch_2025_race.avro");
    let why = pitwall(["backtest", text(&archive), text(&archive), "--out", text(&out)]).fails(1);
    assert!(why.contains("rename one"), "{why}");
    assert!(!out.exists());
}

#[test]
fn a_run_replaces_what_an_earlier_one_left_in_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let (small, out) = (small_archive(folder.path()), folder.path().join("out"));
    pitwall(["backtest", text(&small), "--out", text(&out), "--format", "jsonl"]).succeeds();
    backtest(&small, &out).succeeds();
    let files = fs::read_dir(out.join("facts")).unwrap().map(|file| file.unwrap().path());
    assert!(files.into_iter().all(|file| file.extension() == Some(OsStr::new("avro"))), "no fact file of the earlier run is left");
    pitwall(["verify", text(&out), "--restarts", "0"]).succeeds();
}

// Bad input.

/// Checks that `damaged`, a copy of the small archive, gives the facts of its whole blocks and names the first that is not whole.
fn keeps_whole_blocks(folder: &Path, damaged: &[u8], whole: &Container, block: usize) {
    let (path, out) = (folder.join("damaged.avro"), folder.join("out"));
    fs::write(&path, damaged).unwrap();
    let why = backtest(&path, &out).fails(1);
    assert!(why.contains(&format!("block {block} is ")), "{why}");
    assert!(why.contains(text(&path)) && why.contains(text(&out)), "{why}");
    let samples = whole.blocks()[block].first_record;
    assert!(why.contains(&format!("hold {samples} records")), "{why}");
    let manifest = manifest(&out);
    assert_eq!(manifest["samples"], samples);
    assert!(manifest["incomplete"].as_str().unwrap().contains(&format!("block {block} is ")));

    let first = folder.join("first.avro");
    write_archive(&first, &first_samples(samples as usize));
    let undisturbed = folder.join("undisturbed");
    backtest(&first, &undisturbed).succeeds();
    for hash in ["input_hash", "facts_hash"] {
        assert_eq!(manifest[hash], self::manifest(&undisturbed)[hash], "{hash}");
    }
    pitwall(["verify", text(&out)]).succeeds();
}

#[test]
fn of_a_truncated_archive_the_whole_blocks_are_used_and_the_first_that_is_not_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = fs::read(small_archive(folder.path())).unwrap();
    let whole = Container::open(bytes.clone()).unwrap();
    let last = whole.blocks().len() - 1;
    assert!(last >= 1, "the archive has several blocks");
    keeps_whole_blocks(folder.path(), &bytes[..bytes.len() - 5], &whole, last);
}

#[test]
fn of_a_corrupt_archive_the_whole_blocks_are_used_and_the_first_that_is_not_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = fs::read(small_archive(folder.path())).unwrap();
    let whole = Container::open(bytes.clone()).unwrap();
    let last = whole.blocks().len() - 1;
    let at = bytes.len() - 1_000;
    bytes[at] ^= 0x10;
    keeps_whole_blocks(folder.path(), &bytes, &whole, last);
}

#[test]
fn what_is_no_session_archive_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let garbage = folder.path().join("garbage.avro");
    fs::write(&garbage, "{\"collection\": \"laps\"}\n").unwrap();
    let of_another_schema = dutch_run().join("facts/laps.avro");
    for (path, words) in [
        (garbage.as_path(), "pitwall import"),
        (of_another_schema.as_path(), "no session archive"),
        (folder.path(), "is a folder"),
        (Path::new("/nowhere/race.avro"), "No such file"),
    ] {
        for command in
            [vec!["backtest", text(path), "--out", text(&out)], vec!["verify", text(path)], vec!["state", text(path), "--at", "lap:1"]]
        {
            let why = pitwall(&command).fails(1);
            let is_named = why.contains(text(path));
            // To commands that read runs, a folder is an unfinished run.
            assert!(is_named && (why.contains(words) || why.contains("manifest.json")), "{command:?}: {why}");
        }
    }
}

#[test]
fn lines_of_garbage_become_dead_letters_and_a_stream_of_nothing_else_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let document = json!({"collection": "weather", "received_at": "2025-08-31T13:00:00Z", "doc": {
        "meeting_key": 1267, "session_key": 9920, "date": "2025-08-31T13:00:00+00:00", "air_temperature": 20.1, "humidity": 60.0,
        "pressure": 1010.0, "rainfall": 0, "track_temperature": 30.0, "wind_direction": 10, "wind_speed": 1.0}});
    let mut of_another_session = document.clone();
    of_another_session["doc"]["session_key"] = 9_999.into();
    let (stream, archive) = (folder.path().join("stream.jsonl"), folder.path().join("session.avro"));
    fs::write(&stream, format!("{document}\n{{\"collection\n[1,2]\n\u{0}\u{1}\n{of_another_session}\n{document}\n")).unwrap();
    let told = pitwall(["import", text(&stream), "--out", text(&archive)]).succeeds();
    assert!(told.contains("2 samples"), "{told}");
    let letters = fs::read_to_string(folder.path().join("session.avro.dead_letters.jsonl")).unwrap();
    let letters: Vec<Value> = letters.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(letters.iter().map(|letter| letter["offset"].as_i64().unwrap()).collect::<Vec<_>>(), [2, 3, 4, 5]);
    assert!(letters[3]["reason"].as_str().unwrap().contains("belongs to session 9999"), "{}", letters[3]);

    fs::write(&stream, "nothing\nbut garbage\n").unwrap();
    let why = pitwall(["import", text(&stream), "--out", text(&archive)]).fails(1);
    assert!(why.contains("--session KEY"), "{why}");
}

#[test]
fn samples_of_another_session_are_dead_letters_and_change_no_fact() {
    let folder = tempfile::tempdir().unwrap();
    let samples = first_samples(SMALL);
    let mut strange = Vec::new();
    for_each(&mut race::mexico(), |_, raw| {
        strange.push(raw.event.unwrap());
        if strange.len() == 100 { std::ops::ControlFlow::Break(()) } else { std::ops::ControlFlow::Continue(()) }
    });
    // They come last, since a ledger record more in between would move the facts behind it.
    let (last, mixed) = (samples[SMALL - 1].0, folder.path().join("mixed.avro"));
    let all: Vec<_> = samples.iter().cloned().chain(strange.into_iter().map(|sample| (last, sample))).collect();
    write_archive(&mixed, &all);
    let (out, pure) = (folder.path().join("out"), folder.path().join("pure"));
    backtest(&mixed, &out).succeeds();
    backtest(&small_archive(folder.path()), &pure).succeeds();
    let manifest = manifest(&out);
    assert_eq!(manifest["dead_letters"], 100);
    let letters = fs::read_to_string(out.join("dead_letters.jsonl")).unwrap();
    assert_eq!(letters.lines().count(), 100);
    assert!(letters.lines().all(|letter| letter.contains("session 9873")), "{}", letters.lines().next().unwrap());
    assert_eq!(manifest["facts"], self::manifest(&pure)["facts"]);
}

/// The tower's rows at the end of an archive, after its backtest and verification.
fn rows_at_end(folder: &Path, name: &str, samples: &[(Micros, Sample)]) -> Value {
    let (archive, out) = (folder.join(format!("{name}.avro")), folder.join(name));
    write_archive(&archive, samples);
    backtest(&archive, &out).succeeds();
    pitwall(["verify", text(&out), "--restarts", "2"]).succeeds();
    assert_eq!(manifest(&out)["samples"], samples.len());
    json(pitwall(["state", text(&out), "--at", END, "--format", "json"]))["rows"].clone()
}

#[test]
fn a_doubled_stream_gives_the_same_tower() {
    let folder = tempfile::tempdir().unwrap();
    let samples = first_samples(SMALL);
    let doubled: Vec<_> = samples.iter().flat_map(|sample| [sample.clone(), sample.clone()]).collect();
    assert_eq!(rows_at_end(folder.path(), "doubled", &doubled), rows_at_end(folder.path(), "plain", &samples));
}

#[test]
fn a_shuffled_stream_gives_the_same_tower() {
    let folder = tempfile::tempdir().unwrap();
    let samples = first_samples(SMALL);
    let plain = rows_at_end(folder.path(), "plain", &samples);
    for seed in 1..=3 {
        let (mut seeded, mut shuffled) = (Seeded::new(seed), samples.clone());
        // Documents change places within packets of 50; arrival times stay, as a feed would give them.
        for packet in shuffled.chunks_mut(50) {
            for index in (1..packet.len()).rev() {
                let other = seeded.below(index as u64 + 1) as usize;
                let (left, right) = packet.split_at_mut(index);
                if let Some(other) = left.get_mut(other) {
                    std::mem::swap(&mut other.1, &mut right[0].1);
                }
            }
        }
        assert_eq!(rows_at_end(folder.path(), &format!("shuffled{seed}"), &shuffled), plain, "seed {seed}");
    }
}

#[test]
fn a_clock_that_jumps_an_hour_ahead_or_back_stops_nothing_and_verifies() {
    let folder = tempfile::tempdir().unwrap();
    let samples = first_samples(SMALL);
    let plain = rows_at_end(folder.path(), "plain", &samples);
    for (name, jump) in [("ahead", 3_600 * Micros::SECOND), ("back", -3_600 * Micros::SECOND)] {
        let mut jumped = samples.clone();
        for (received_at, _) in &mut jumped[SMALL / 3..SMALL / 2] {
            *received_at = received_at.plus(jump);
        }
        assert_eq!(rows_at_end(folder.path(), name, &jumped), plain, "{name}");
        let mut laps = Vec::new();
        let run = Run::open(&folder.path().join(name)).unwrap();
        let kind = *pitwall_operators::graph(&Limits::default()).unwrap().kinds().iter().find(|kind| kind.name == "telemetry").unwrap();
        let mut facts = FactReader::open(&run.facts_folder(), kind).unwrap();
        while let Some(fact) = facts.next() {
            laps.push(fact.unwrap().1.known_at);
        }
        assert!(laps.is_sorted(), "{name}: ledger time never goes back");
    }
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let in_the_way = folder.path().join("file");
    fs::write(&in_the_way, "").unwrap();
    for out in [in_the_way.clone(), in_the_way.join("below"), PathBuf::from("/proc/pitwall")] {
        let why = backtest(&data("mexico_2025_qualifying.avro"), &out).fails(1);
        assert!(why.contains(text(&in_the_way)) || why.contains("/proc/pitwall"), "{why}");
        let stream = folder.path().join("stream.jsonl");
        fs::write(&stream, "{}\n").unwrap();
        let archive = out.join("session.avro");
        let why = pitwall(["import", text(&stream), "--session", "1", "--out", text(&archive)]).fails(1);
        assert!(why.contains(text(&archive)), "{why}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_told_and_leaves_no_manifest() {
    let folder = tempfile::tempdir().unwrap();
    let small = small_archive(folder.path());
    for (file, format) in [("facts/telemetry.avro", "avro"), ("keyframes.avro", "avro"), ("facts/laps.jsonl", "jsonl")] {
        let out = folder.path().join(file.replace('/', "_"));
        fs::create_dir_all(out.join("facts")).unwrap();
        // A device on which every write finds no space left.
        std::os::unix::fs::symlink("/dev/full", out.join(file)).unwrap();
        let why = pitwall(["backtest", text(&small), "--out", text(&out), "--format", format]).fails(1);
        assert!(why.contains(file) && why.contains("No space left"), "{why}");
        assert!(!out.join("manifest.json").exists(), "{file}");
        let why = pitwall(["state", text(&out), "--at", "lap:1"]).fails(1);
        assert!(why.contains("no finished backtest output"), "{why}");
    }
    let (stream, archive) = (folder.path().join("stream.jsonl"), folder.path().join("imported.avro"));
    fs::write(&stream, "garbage\n").unwrap();
    std::os::unix::fs::symlink("/dev/full", folder.path().join("imported.avro.dead_letters.jsonl")).unwrap();
    let why = pitwall(["import", text(&stream), "--session", "9920", "--out", text(&archive)]).fails(1);
    assert!(why.contains("dead_letters.jsonl") && why.contains("No space left"), "{why}");
    assert!(!archive.exists(), "an import that cannot keep what it refuses leaves no archive");
}

// Verify.

#[test]
fn a_run_and_its_archive_verify() {
    let told = pitwall(["verify", text(dutch_run()), "--jobs", "2", "--restarts", "3"]).succeeds();
    assert_eq!(told.lines().filter(|line| line.starts_with("holds")).count(), told.lines().count(), "{told}");
    assert_eq!(told.matches("restart after seq:").count(), 3, "{told}");
    assert_eq!(told.matches("batches of").count(), 3, "{told}");
    pitwall(["verify", text(&data("mexico_2025_qualifying.avro")), "--restarts", "1"]).succeeds();
}

#[test]
fn every_planted_fault_breaks_the_verification() {
    let folder = tempfile::tempdir().unwrap();
    let small = small_archive(folder.path());
    let sound = folder.path().join("sound");
    backtest(&small, &sound).succeeds();
    pitwall(["verify", text(&sound)]).succeeds();
    let flip = |path: &Path, from_end: usize| {
        let mut bytes = fs::read(path).unwrap();
        let at = bytes.len() - from_end;
        bytes[at] ^= 1;
        fs::write(path, bytes).unwrap();
    };
    let edit = |run: &Path, field: &str, value: Value| {
        let mut edited = manifest(run);
        edited[field] = value;
        fs::write(run.join("manifest.json"), edited.to_string()).unwrap();
    };
    type Plant<'a> = Box<dyn Fn(&Path) + 'a>;
    let plants: [(&str, Plant<'_>); 6] = [
        ("fact files", Box::new(|run| flip(&run.join("facts/telemetry.avro"), 40))),
        ("keyframes", Box::new(|run| flip(&run.join("keyframes.avro"), 200))),
        ("facts hash", Box::new(|run| edit(run, "facts_hash", "0".repeat(64).into()))),
        ("input hash", Box::new(|run| edit(run, "input_hash", "0".repeat(64).into()))),
        ("graph", Box::new(|run| edit(run, "graph_hash", "0".repeat(64).into()))),
        ("archive", Box::new(|run| edit(run, "source_id", "0".repeat(64).into()))),
    ];
    for (what, plant) in plants {
        let run = folder.path().join(what.replace(' ', "_"));
        fs::create_dir_all(run.join("facts")).unwrap();
        for file in fs::read_dir(&sound).unwrap().chain(fs::read_dir(sound.join("facts")).unwrap()) {
            let path = file.unwrap().path();
            if path.is_file() {
                fs::copy(&path, run.join(path.strip_prefix(&sound).unwrap())).unwrap();
            }
        }
        plant(&run);
        let told = pitwall(["verify", text(&run)]);
        let failed: Vec<&str> = told.out.lines().filter(|line| line.starts_with("FAILS")).collect();
        assert!(failed.iter().any(|line| line.contains(what)), "{what}: {}", told.out);
        let why = told.fails(1);
        assert!(why.contains("checks fail"), "{why}");
    }
}

// Explain.

#[test]
fn every_fact_of_a_race_names_causes_and_each_is_in_the_archive() {
    let run = Run::open(dutch_run()).unwrap();
    let (mut facts, mut causes) = (0, BTreeSet::new());
    for kind in pitwall_operators::graph(&Limits::default()).unwrap().kinds() {
        let mut reader = FactReader::open(&run.facts_folder(), *kind).unwrap();
        while let Some(fact) = reader.next() {
            let (_, header, _) = fact.unwrap();
            assert!(!header.causes.is_empty(), "{} {}", kind.name, header.fact_seq);
            causes.extend(header.causes.iter().map(|&seq| seq as u64));
            facts += 1;
        }
    }
    assert_eq!(facts, run.manifest().facts);
    let found = ledger::find(&mut Archive::open(&data("dutch_2025_race.avro")).unwrap(), &causes).unwrap();
    assert!(found.iter().map(|line| line.seq).eq(causes.iter().copied()), "{} of {}", found.len(), causes.len());
}

#[test]
fn a_fact_of_any_kind_is_explained_by_the_documents_that_caused_it() {
    let run = Run::open(dutch_run()).unwrap();
    let archive = data("dutch_2025_race.avro");
    let kinds = &run.manifest().kinds;
    let mut explained_kinds = 0;
    for kind in pitwall_operators::graph(&Limits::default()).unwrap().kinds() {
        let mut reader = FactReader::open(&run.facts_folder(), *kind).unwrap();
        let mut headers = Vec::new();
        while let Some(fact) = reader.next() {
            headers.push(fact.unwrap().1);
        }
        let count = kinds.iter().find(|counted| counted.kind == kind.name).unwrap().facts;
        assert_eq!(headers.len() as u64, count, "{}", kind.name);
        if headers.is_empty() {
            continue;
        }
        explained_kinds += 1;
        for header in [&headers[0], &headers[headers.len() / 2], &headers[headers.len() - 1]] {
            let id = format!("9920-0-{}", header.fact_seq);
            let explained = json(pitwall(["explain", &id, text(dutch_run()), "--format", "json"]));
            assert_eq!(explained["fact"]["fact_id"], id);
            assert_eq!(explained["channel"], kind.name);
            let causes = explained["causes"].as_array().unwrap();
            let mut expected = header.causes.clone();
            expected.sort_unstable();
            expected.dedup();
            assert_eq!(causes.iter().map(|cause| cause["seq"].as_i64().unwrap()).collect::<Vec<_>>(), expected, "{id}");
            for cause in causes.iter().filter(|cause| cause["kind"] == "SAMPLE") {
                assert_eq!(cause["document"]["session_key"], 9_920, "{id}: {cause}");
            }
        }
        let id = format!("9920-0-{}", headers[0].fact_seq);
        let from_archive = pitwall(["explain", &id, text(&archive)]).succeeds();
        assert_eq!(from_archive, pitwall(["explain", &id, text(dutch_run())]).succeeds(), "a run and its archive explain alike");
        assert!(from_archive.contains("follows from"), "{from_archive}");
    }
    assert!(explained_kinds > kinds.len() / 2, "{explained_kinds} of {} kinds have facts in a race", kinds.len());
}

#[test]
fn a_fact_that_is_not_there_is_refused_with_what_is() {
    let why = |id: &str, status| pitwall(["explain", id, text(dutch_run())]).fails(status);
    let last = manifest(dutch_run())["facts"].as_u64().unwrap() - 1;
    assert!(why("9920-0-99999999", 1).contains(&format!("the last one is {last}")));
    assert!(why("9873-0-1", 1).contains("session 9920"));
    assert!(why("9920-1-1", 1).contains("epoch 0"));
    for malformed in ["4711", "9920-0", "9920-0-x", "9920--1", "9920-0-+1"] {
        assert!(why(malformed, 2).contains("{session}-{epoch}-{fact_seq}"), "{malformed}");
    }
}

// State.

#[test]
fn a_run_and_its_archive_show_the_same_tower_at_every_moment() {
    let archive = data("dutch_2025_race.avro");
    let at = |source: &Path, moment: &str| json(pitwall(["state", text(source), "--at", moment, "--format", "json"]));
    for moment in
        ["seq:0", "seq:5000", "seq:400001", "lap:1", "lap:30", "lap:72", "+0:00:00", "+1:02:03.5", "2025-08-31T15:40:00+02:00", END]
    {
        let tower = at(dutch_run(), moment);
        assert_eq!(tower, at(&archive, moment), "{moment}");
        if let Some(lap) = moment.strip_prefix("lap:") {
            assert_eq!(tower["laps_completed"].to_string(), lap);
            assert_eq!(tower["rows"].as_array().unwrap().len(), 20);
        }
        if let Some(seq) = moment.strip_prefix("seq:") {
            assert_eq!(tower["seq"].to_string(), seq);
        }
    }
    let told = pitwall(["state", text(dutch_run()), "--at", "lap:72"]).succeeds();
    let first: Vec<&str> = told.lines().nth(3).unwrap().split_whitespace().collect();
    assert_eq!(first[..3], ["1", "81", "PIA"], "{told}");
}

#[test]
fn damaged_keyframes_cost_time_and_change_no_tower() {
    let folder = tempfile::tempdir().unwrap();
    let (small, out) = (small_archive(folder.path()), folder.path().join("out"));
    backtest(&small, &out).succeeds();
    let tower = |run: &Path| json(pitwall(["state", text(run), "--at", "seq:39000", "--format", "json"]));
    let expected = tower(&out);
    let keyframes = out.join("keyframes.avro");
    let whole = fs::read(&keyframes).unwrap();
    for length in [0, 10, whole.len() / 2, whole.len() - 1] {
        fs::write(&keyframes, &whole[..length]).unwrap();
        assert_eq!(tower(&out), expected, "{length} bytes of keyframes");
    }
    fs::remove_file(&keyframes).unwrap();
    assert_eq!(tower(&out), expected, "no keyframes");
}

#[test]
fn a_moment_that_is_none_or_not_in_the_session_is_refused() {
    let why = |moment: &str, status| pitwall(["state", text(dutch_run()), "--at", moment]).fails(status);
    assert!(why("30", 2).contains("seq:30, lap:30 or +0:00:30"));
    assert!(why("half past three", 2).contains("is no moment"));
    assert!(why("lap:73", 1).contains("the leader completed 72"));
    assert!(why("seq:99999999", 1).contains("its last ledger record is seq:"));
    assert!(why("2001-01-01T00:00:00Z", 1).contains("begins later"));
}

// Compare.

#[test]
fn compare_says_whether_and_where_two_runs_differ() {
    let folder = tempfile::tempdir().unwrap();
    let mut samples = first_samples(SMALL);
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    backtest(&small_archive(folder.path()), &a).succeeds();
    let told = pitwall(["compare", text(&a), text(&a)]).succeeds();
    assert!(told.contains("the same"), "{told}");

    let driver = samples.iter_mut().find_map(|(_, sample)| if let Sample::Drivers(driver) = sample { Some(driver) } else { None }).unwrap();
    driver.team_name = Some("Another Team".to_owned());
    let changed = folder.path().join("changed.avro");
    write_archive(&changed, &samples);
    backtest(&changed, &b).succeeds();
    let told = pitwall(["compare", text(&a), text(&b), "--format", "json"]);
    let compared: Value = serde_json::from_str(&told.out).unwrap();
    for kind in compared["kinds"].as_array().unwrap() {
        let differs = kind["changed"] != 0 || kind["only_in_a"] != 0 || kind["only_in_b"] != 0;
        assert_eq!(differs, kind["kind"] == "drivers", "{kind}");
    }
    assert!(told.fails(1).contains("they differ in 1 of"));
    let told = pitwall(["compare", text(&a), text(&b)]);
    assert!(told.out.contains("Another Team"), "{}", told.out);
    pitwall(["compare", text(&a), text(&b), "--kind", "laps"]).succeeds();
}

#[test]
fn compare_holds_a_run_against_oracles() {
    let laps = pitwall(["compare", text(dutch_run()), text(&data("dutch_2025_openf1_laps.csv")), "--format", "json"]);
    for aspect in json(laps)["aspects"].as_array().unwrap() {
        assert!(aspect["compared"].as_u64().unwrap() > 1_000, "{aspect}");
    }
    // Leclerc stopped and crashed on the lap after: the official list counts the stop, no stint began.
    let official = pitwall(["compare", text(dutch_run()), text(&data("dutch_2025_official_f1db.json")), "--format", "json"]);
    let aspects: Value = serde_json::from_str(&official.out).unwrap();
    for aspect in aspects["aspects"].as_array().unwrap() {
        let expected = u64::from(aspect["aspect"].as_str().unwrap().starts_with("pit stops"));
        assert_eq!(aspect["different"], expected, "{aspect}");
    }
    official.fails(1);
}

#[test]
fn what_cannot_be_compared_is_another_status_than_a_difference() {
    let folder = tempfile::tempdir().unwrap();
    let why = |a: &Path, b: &Path| pitwall(["compare", text(a), text(b)]).fails(2);
    assert!(why(dutch_run(), folder.path()).contains("manifest.json"));
    assert!(why(&data("dutch_2025_race.avro"), dutch_run()).contains("pitwall backtest"));
    assert!(why(dutch_run(), &data("README.md")).contains("no known oracle"));
    assert!(why(dutch_run(), Path::new("/nowhere.csv")).contains("No such file"));
    let why = pitwall(["compare", text(dutch_run()), text(dutch_run()), "--kind", "lapse"]).fails(2);
    assert!(why.contains("there are") && why.contains("laps"), "{why}");
}

// Graph, config, logging, completions.

#[test]
fn the_graph_is_drawn_three_ways_under_one_hash() {
    let hash = manifest(dutch_run())["graph_hash"].as_str().unwrap().to_owned();
    let described = json(pitwall(["graph", "--format", "json"]));
    assert_eq!(described["graph_hash"], hash.as_str());
    for format in ["mermaid", "dot"] {
        let drawn = pitwall(["graph", "--format", format]).succeeds();
        assert!(drawn.contains(&hash), "{format}");
        for operator in described["operators"].as_array().unwrap() {
            let name = operator["name"].as_str().unwrap();
            assert!(drawn.contains(&format!("\"{name} v{}\"", operator["version"])), "{format}: {name}");
            for input in operator["inputs"].as_array().unwrap() {
                let arrow = if format == "dot" { "->" } else { "-->" };
                let edge = format!("{} {arrow} operator_{name}", input.as_str().unwrap().replace(':', "_"));
                assert!(drawn.contains(&edge), "{format}: {edge}");
            }
        }
    }
}

#[test]
fn flags_go_above_the_environment_above_the_file_above_defaults() {
    let folder = tempfile::tempdir().unwrap();
    let setting = |variables: &[(&str, &str)], more: &[&str], key: &str| {
        let told = json(pitwall_in(folder.path(), variables, ["config", "--format", "json"].iter().chain(more)));
        let found = told.as_array().unwrap().iter().find(|setting| setting["key"] == key).unwrap().clone();
        (found["value"].clone(), found["origin"].as_str().unwrap().to_owned())
    };
    assert_eq!(setting(&[], &[], "log.level"), (json!("warn"), "default".to_owned()));
    fs::write(folder.path().join("pitwall.toml"), "[log]\nlevel = \"error\"\n\n[limits]\nhold_ms = 7\n").unwrap();
    assert_eq!(setting(&[], &[], "log.level"), (json!("error"), "pitwall.toml".to_owned()));
    let variable = [("PITWALL_LOG__LEVEL", "info")];
    assert_eq!(setting(&variable, &[], "log.level"), (json!("info"), "PITWALL_LOG__LEVEL".to_owned()));
    assert_eq!(setting(&variable, &["--log-level", "debug"], "log.level"), (json!("debug"), "--log-level".to_owned()));
    assert_eq!(setting(&variable, &[], "limits.hold_ms"), (json!(7), "pitwall.toml".to_owned()));
    fs::write(folder.path().join("other.toml"), "[backtest]\njobs = 3\n").unwrap();
    assert_eq!(setting(&[("PITWALL_CONFIG", "other.toml")], &[], "backtest.jobs"), (json!(3), "other.toml".to_owned()));
    assert_eq!(setting(&[], &["--config", "other.toml"], "limits.hold_ms"), (json!(2_000), "default".to_owned()));

    let table = pitwall_in(folder.path(), &variable, ["config"]).succeeds();
    assert!(
        table.lines().any(|line| line.split_whitespace().eq(["log.level", "\"info\"", "PITWALL_LOG__LEVEL", "PITWALL_LOG__LEVEL"])),
        "{table}"
    );
    let toml = pitwall_in(folder.path(), &variable, ["config", "--format", "toml"]).succeeds();
    fs::write(folder.path().join("printed.toml"), toml).unwrap();
    assert_eq!(setting(&[], &["--config", "printed.toml"], "log.level"), (json!("info"), "printed.toml".to_owned()));
}

#[test]
fn unknown_and_unreadable_settings_are_errors_that_say_where() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pitwall.toml");
    for (toml, words) in [
        ("[limits]\nhold_m = 1\n", "did you mean `limits.hold_ms`"),
        ("[limit]\nhold_ms = 1\n", "did you mean `limits.hold_ms`"),
        ("hold_ms = 1\n", "did you mean `limits.hold_ms`"),
        ("[limits]\nhold_ms = \"soon\"\n", "integer"),
        ("[backtest]\njobs = 0\n", "1 or more"),
        ("[log]\nlevel = \"loud\"\n", "loud"),
        ("[limits\n", "line 1"),
    ] {
        fs::write(&file, toml).unwrap();
        let why = pitwall_in(folder.path(), &[], ["config"]).fails(1);
        assert!(why.contains("pitwall.toml") && why.contains(words), "{toml}: {why}");
    }
    fs::remove_file(&file).unwrap();
    let why = pitwall_in(folder.path(), &[("PITWALL_LOG__LEVLE", "info")], ["config"]).fails(1);
    assert!(why.contains("PITWALL_LOG__LEVLE") && why.contains("PITWALL_LOG__LEVEL?"), "{why}");
    let why = pitwall_in(folder.path(), &[("PITWALL_BACKTEST__JOBS", "many")], ["config"]).fails(1);
    assert!(why.contains("PITWALL_BACKTEST__JOBS"), "{why}");
    let why = pitwall_in(folder.path(), &[], ["config", "--config", "missing.toml"]).fails(1);
    assert!(why.contains("missing.toml"), "{why}");
}

#[test]
fn a_ledger_block_that_could_become_larger_than_a_message_is_refused_before_a_broker_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let variables = [("PITWALL_KAFKA__BROKERS", "127.0.0.1:1"), ("PITWALL_KAFKA__MESSAGE_BYTES_MAX", "1000000")];
    let why = pitwall_in(folder.path(), &variables, ["run", "--roles", "engine"]).fails(1);
    assert!(why.contains("limits.block_bytes_max") && why.contains("kafka.message_bytes_max") && !why.contains("127.0.0.1:1"), "{why}");
}

#[test]
fn a_secret_is_no_setting_and_is_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pitwall.toml");
    for (toml, words) in [
        (
            "[kafka]\nproperties = [\"sasl.username=wall\", \"sasl.password = hunter2\"]\n",
            "kafka.property_files = [\"sasl.password=FILE\"]",
        ),
        ("[kafka]\nproperties = \"sasl.password=hunter2\"\n", "kafka.property_files"),
        ("[kafka]\nproperties = [\"sasl.oauthbearer.client.secret=hunter2\"]\n", "kafka.property_files"),
        ("[redis]\nurl = \"redis://wall:hunter2@localhost\"\n", "redis.password_file"),
    ] {
        fs::write(&file, toml).unwrap();
        for command in [&["config"][..], &["config", "--format", "toml"], &["topics", "check"]] {
            let why = pitwall_in(folder.path(), &[], command).fails(1);
            assert!(why.contains("pitwall.toml") && why.contains(words) && !why.contains("hunter2"), "{toml}: {why}");
        }
    }
    fs::remove_file(&file).unwrap();
    let variable = [("PITWALL_KAFKA__PROPERTIES", "sasl.username=wall,sasl.password=hunter2")];
    let why = pitwall_in(folder.path(), &variable, ["config"]).fails(1);
    assert!(why.contains("PITWALL_KAFKA__PROPERTIES") && !why.contains("hunter2"), "{why}");
    let variable = [("PITWALL_KAFKA__PROPERTY_FILES", "sasl.password=/no/such/file")];
    let why = pitwall_in(folder.path(), &variable, ["topics", "check"]).fails(1);
    assert!(why.contains("kafka.property_files: sasl.password: /no/such/file: "), "{why}");
}

#[test]
fn a_list_in_a_variable_may_be_written_as_in_the_file_when_its_items_have_commas() {
    let folder = tempfile::tempdir().unwrap();
    for (text, items) in [
        ("debug=broker,topic", json!(["debug=broker", "topic"])),
        ("[\"debug=broker,topic\", \"client.rack=a\"]", json!(["debug=broker,topic", "client.rack=a"])),
    ] {
        let told = json(pitwall_in(folder.path(), &[("PITWALL_KAFKA__PROPERTIES", text)], ["config", "--format", "json"]));
        let found = told.as_array().unwrap().iter().find(|setting| setting["key"] == "kafka.properties").unwrap();
        assert_eq!(found["value"], items);
    }
}

#[test]
fn logs_are_json_on_demand_and_never_on_standard_output() {
    let archive = data("dutch_2025_race.avro");
    let quiet = pitwall(["state", text(&archive), "--at", "lap:1", "--format", "json"]);
    let told = pitwall(["state", text(&archive), "--at", "lap:1", "--format", "json", "--log-level", "info", "--log-format", "json"]);
    assert_eq!(told.out, quiet.out);
    assert_eq!(quiet.errors, "");
    let lines: Vec<Value> = told.errors.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().any(|line| line["fields"]["message"] == "replayed"), "{}", told.errors);
}

#[test]
fn every_shell_gets_completions_and_every_command_help_with_examples() {
    let commands = ["import", "backtest", "state", "explain", "verify", "compare", "graph", "config", "completions"];
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = pitwall(["completions", shell]).succeeds();
        assert!(commands.iter().all(|command| script.contains(command)), "{shell}");
    }
    for command in commands {
        let help = pitwall([command, "--help"]).succeeds();
        assert!(help.contains(&format!("pitwall {command} ")), "{command}: {help}");
    }
    let why = pitwall(["backtest", "race.avro"]).fails(2);
    assert!(why.contains("--out"), "{why}");
}

// Server.

/// Answers each request with what `answers` has for its target, in a thread of its own; returns the address and what was asked.
fn stub(answers: Vec<(&'static str, u16, Value)>) -> (String, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let serving = std::thread::spawn(move || {
        let mut asked = Vec::new();
        for (_, status, answer) in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            asked.push(lines.next().unwrap().unwrap());
            while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
            let body = answer.to_string();
            let head = format!(
                "HTTP/1.1 {status} Status\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(body.as_bytes()).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let _ = stream.read(&mut [0; 1]);
        }
        asked
    });
    (address, serving)
}

#[test]
fn state_of_a_server_is_the_tower_of_one_record() {
    let tower = json(pitwall(["state", text(dutch_run()), "--at", "lap:30", "--format", "json"]));
    let answer = |channel: &str, row: Value| json!({"session": 9920, "epoch": 0, "seq": tower["seq"], "known_at": tower["known_at"], "channel": channel, "rows": [row]});
    let mut timing = answer("timing", Value::Null);
    timing["rows"] = tower["rows"].clone();
    let clock = json!({"fact_id": "9920-0-1", "started_at": tower["started_at"], "laps_completed": 30, "driver_number": 81});
    let track = json!({"fact_id": "9920-0-2", "status": tower["track_status"], "is_ending": false, "session": "STARTED",
        "qualifying_phase": null, "lap_number": 30, "message": null});
    let (address, serving) = stub(vec![
        ("timing", 200, timing),
        ("race_clock", 200, answer("race_clock", clock)),
        ("track_status", 200, answer("track_status", track)),
    ]);
    let told = json(pitwall(["state", "--server", &address, "--at", "lap:30", "--format", "json"]));
    assert_eq!(told, tower);
    let seq = tower["seq"].to_string();
    assert_eq!(
        serving.join().unwrap(),
        [
            "GET /api/v1/sessions/latest/timing?as_of=lap%3A30 HTTP/1.1".to_owned(),
            format!("GET /api/v1/sessions/9920/race_clock?as_of=seq%3A{seq}&epoch=0 HTTP/1.1"),
            format!("GET /api/v1/sessions/9920/track_status?as_of=seq%3A{seq}&epoch=0 HTTP/1.1"),
        ]
    );
}

#[test]
fn explain_and_verify_ask_a_server_and_pass_on_what_it_refuses() {
    let explained = json(pitwall(["explain", "9920-0-4711", text(dutch_run()), "--format", "json"]));
    let (address, serving) = stub(vec![("facts", 200, explained.clone())]);
    assert_eq!(json(pitwall(["explain", "9920-0-4711", "--server", &address, "--format", "json"])), explained);
    assert_eq!(serving.join().unwrap(), ["GET /api/v1/sessions/9920/facts/9920-0-4711 HTTP/1.1"]);

    let verified = |recomputed: &str, holds: bool| json!({"session": 9920, "epoch": 0, "seq": 9, "facts": 3, "facts_hash": "ab", "recomputed_hash": recomputed, "holds": holds});
    let (address, serving) =
        stub(vec![("verify", 200, verified("ab", true)), ("verify", 200, verified("cd", false)), ("verify", 200, verified("ab", false))]);
    let verify = || pitwall(["verify", "--server", &address, "--session", "9920"]);
    verify().succeeds();
    assert!(verify().fails(1).contains("cd instead of ab"));
    verify().fails(1);
    assert_eq!(serving.join().unwrap()[0], "GET /api/v1/sessions/9920/verify HTTP/1.1");

    let problem =
        json!({"type": "about:blank", "title": "Not Found", "status": 404, "detail": "there is no session 7: /api/v1/sessions lists them"});
    let (address, serving) = stub(vec![("timing", 404, problem)]);
    let why = pitwall(["state", "--server", &address, "--session", "7", "--at", "lap:1"]).fails(1);
    assert!(why.contains("/api/v1/sessions lists them"), "{why}");
    serving.join().unwrap();
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let address = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let why = pitwall(["state", "--server", &address, "--at", "lap:1"]).fails(1);
    assert!(why.contains(&address) && why.contains("is a pitwall server running there"), "{why}");
    let why = pitwall(["verify", "--server", "localhost:8080"]).fails(1);
    assert!(why.contains("http://HOST:PORT"), "{why}");
    let why = pitwall(["verify", "somewhere", "--server", &address]).fails(2);
    assert!(why.contains("--server"), "{why}");
}
