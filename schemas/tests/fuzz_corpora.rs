//! Decoders under hostile input, on stable and in every test run: the fuzz targets' functions over their corpora, and over seeded
//! mutations of the corpora and of valid encodings of every record.
//!
//! `UPDATE_EXPECT=1` writes the small encodings that the corpora begin with, missing files only.

#![expect(clippy::disallowed_methods, reason = "reads the corpora")]

mod support;

#[path = "../fuzz/src/lib.rs"]
#[allow(unreachable_pub, reason = "a crate of its own when it is fuzzed")]
mod decoders;

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use decoders::TARGETS;
use pitwall_schemas::facts;
use pitwall_schemas::raw::Collection;
use support::{encodings, parsed};

const SEED: u64 = 0x5049_5457_414c_4c31;
const MUTATIONS: usize = 20_000;
const SAMPLES: &str = include_str!("data/openf1_samples.jsonl");

/// Steele, Lea and Flood's SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    fn pick<'a>(&mut self, inputs: &'a [Vec<u8>]) -> &'a [u8] {
        &inputs[self.below(inputs.len())]
    }

    /// One to four of: cut the end off, flip a bit, set a byte to an edge, double a part, put another input's end behind this one's start.
    fn mutated(&mut self, inputs: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = self.pick(inputs).to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            match self.below(5) {
                0 => bytes.truncate(at),
                1 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << self.below(8)),
                2 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = [0x00, 0x01, 0x7f, 0x80, 0xff][self.below(5)]),
                3 => {
                    let part = bytes[at..(at + self.below(16)).min(bytes.len())].to_vec();
                    bytes.splice(at..at, part);
                }
                _ => {
                    let other = self.pick(inputs);
                    bytes.truncate(at);
                    bytes.extend_from_slice(&other[self.below(other.len())..]);
                }
            }
        }
        bytes
    }
}

/// Valid inputs by target and name: each record type a few times, each recorded document, frames and dates.
fn valid_inputs() -> BTreeMap<&'static str, Vec<(String, Vec<u8>)>> {
    let mut inputs = BTreeMap::<_, Vec<_>>::new();
    let records = |schema: &str, name: &str| -> Vec<(String, Vec<u8>)> {
        encodings(&parsed(schema), 8).into_iter().enumerate().map(|(number, bytes)| (format!("{name}_{number}"), bytes)).collect()
    };
    for &collection in Collection::ALL {
        inputs.entry("sample_avro").or_default().extend(records(collection.schema(), collection.name()));
    }
    for (kind, schema) in facts::KINDS {
        inputs.entry("fact_avro").or_default().extend(records(schema, kind));
    }
    for (stem, record) in pitwall_schemas::log::RECORDS {
        inputs.entry("ledger").or_default().extend(records(record.schema, stem));
    }
    for (number, line) in SAMPLES.lines().enumerate() {
        let line: serde_json::Value = serde_json::from_str(line).expect("a line is JSON");
        let name = format!("{}_{number}", line["collection"].as_str().expect("a collection"));
        inputs.entry("sample_json").or_default().push((name, line["doc"].to_string().into_bytes()));
    }
    for (name, frame) in [("empty_record", b"\0\0\0\0\x01".as_slice()), ("record", b"\0\0\x01\x86\xa0\x02\x80\x01record")] {
        inputs.entry("wire_frame").or_default().push((name.into(), frame.to_vec()));
    }
    for (name, date) in [
        ("rest", "2025-08-31T13:03:21.220000+00:00"),
        ("no_fraction", "2025-08-31T13:03:21+00:00"),
        ("no_offset", "2025-08-31T13:03:21.22"),
        ("other_offset", "2025-08-31T22:03:21+09:00"),
        ("before_1970", "1969-12-31T23:59:59.999999Z"),
        ("space", "2025-08-31 13:03:21"),
    ] {
        inputs.entry("time").or_default().push((name.into(), date.as_bytes().to_vec()));
    }
    inputs
}

/// Writes some of the valid inputs to the corpora, and the edges of time. A corpus is a start, not a store, so only small ones.
fn write_corpora() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let mut files = Vec::new();
    for (target, inputs) in valid_inputs() {
        let step = inputs.len() / 8 + 1;
        files.extend(inputs.into_iter().filter(|(_, bytes)| bytes.len() <= 256).step_by(step).map(|(name, bytes)| (target, name, bytes)));
    }
    for (name, micros) in [("least", i64::MIN), ("greatest", i64::MAX), ("minus_one", -1)] {
        files.push(("time", name.to_owned(), micros.to_le_bytes().to_vec()));
    }
    for (target, name, bytes) in files {
        let path = folder.join(target).join(name);
        if !path.exists() {
            fs::create_dir_all(folder.join(target)).and_then(|()| fs::write(&path, bytes)).expect("a writable corpus");
        }
    }
}

/// Every file of a target's corpus, by path.
fn corpus_files(target: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| {
            let path = entry.expect("a readable folder").path();
            let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            (path, bytes)
        })
        .collect()
}

#[test]
fn every_corpus_file_is_decoded_or_refused() {
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        write_corpora();
    }
    for (target, decoder) in TARGETS {
        let mut accepted = 0;
        for (path, bytes) in corpus_files(target) {
            let outcome = catch_unwind(|| decoder(&bytes));
            accepted += usize::from(outcome.unwrap_or_else(|_| panic!("{} breaks a decoder", path.display())));
        }
        assert!(accepted > 0, "{target}: no file of the corpus is accepted, so nothing is tested beyond refusal");
    }
}

#[test]
fn every_valid_input_is_accepted() {
    let valid = valid_inputs();
    for (target, decoder) in TARGETS {
        for (name, bytes) in &valid[target] {
            assert!(decoder(bytes), "{target}: {name}");
        }
    }
}

#[test]
fn no_mutation_of_a_valid_input_breaks_a_decoder() {
    let valid = valid_inputs();
    for (target, decoder) in TARGETS {
        let mut random = Random(SEED);
        let inputs: Vec<Vec<u8>> = valid[target].iter().map(|(_, bytes)| bytes.clone()).chain(corpus_files(target).into_values()).collect();
        let (mut accepted, mut refused) = (0, 0);
        for round in 0..MUTATIONS {
            let state = random.0;
            let bytes = random.mutated(&inputs);
            match catch_unwind(AssertUnwindSafe(|| decoder(&bytes))) {
                Ok(true) => accepted += 1,
                Ok(false) => refused += 1,
                Err(_) => panic!("{target}: mutation {round} of seed {SEED:#x} (state {state:#x}) breaks a decoder: {bytes:02x?}"),
            }
        }
        assert!(accepted > 0 && refused > 0, "{target}: of {MUTATIONS} mutations {accepted} are accepted and {refused} refused");
    }
}

#[test]
fn the_same_seed_gives_the_same_mutations() {
    let inputs = [b"2025-08-31T13:03:21".to_vec(), b"1969-12-31".to_vec()];
    let draw = |seed| -> Vec<Vec<u8>> {
        let mut random = Random(seed);
        (0..200).map(|_| random.mutated(&inputs)).collect()
    };
    assert_eq!(draw(SEED), draw(SEED));
    assert_ne!(draw(SEED), draw(SEED + 1));
}

/// Plants a decoder that trusts a length, to prove that the mutations find such a thing.
#[test]
fn a_decoder_that_trusts_a_length_is_found() {
    let inputs: Vec<Vec<u8>> = ["a", "text", "a longer text"].map(|text| [&[text.len() as u8], text.as_bytes()].concat()).to_vec();
    let trusting = |bytes: &[u8]| bytes.first().is_none_or(|&length| bytes[1..=usize::from(length)].is_ascii());
    assert!(inputs.iter().all(|bytes| trusting(bytes)));
    let mut random = Random(SEED);
    let caught = (0..200).any(|_| {
        let bytes = random.mutated(&inputs);
        catch_unwind(AssertUnwindSafe(|| trusting(&bytes))).is_err()
    });
    assert!(caught);
}
