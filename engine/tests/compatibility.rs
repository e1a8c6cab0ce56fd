//! Ledgers and keyframes of format 1 load for ever, and give the facts they gave when they were written.
//!
//! The fixtures were written once by the code of their time and are never written again; `UPDATE_EXPECT=1` makes missing ones only.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "fixtures are files")]

mod toy;

use std::fs;
use std::path::{Path, PathBuf};

use pitwall_engine::Event;
use pitwall_engine::commit::Engine;
use pitwall_engine::keyframe::KeyframeError;
use pitwall_engine::ledger::{Chain, LedgerError};
use pitwall_engine::limits::Limits;
use pitwall_engine::log::EventLog;
use pitwall_engine::memory::{Faults, MemoryLog};
use pitwall_engine::session::{Output, Session};
use pitwall_schemas::codec::{Avro, Reader};
use pitwall_schemas::log::Keyframe;
use toy::{SESSION, Toy};

/// Hash of the facts of the fixtures' session, as published when they were written.
const FACTS_HASH: &str = include_str!("fixtures/format_1/facts_hash.txt");
const ARRIVALS: usize = 120;

fn fixture(name: &str, make: impl FnOnce() -> Vec<u8>) -> Vec<u8> {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/format_1")).join(name);
    if !Path::exists(&path) && std::env::var("UPDATE_EXPECT").is_ok() {
        fs::write(&path, make()).unwrap();
    }
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; UPDATE_EXPECT=1 makes a missing fixture", path.display()))
}

/// The ledger blocks of a session in which everything happens: samples, ticks, timers, corrections, refusals.
fn written_today() -> Vec<Vec<u8>> {
    let mut log = MemoryLog::new(Toy::STREAMS, Faults::default(), 1);
    toy::fill(&log, &toy::arrivals(1, ARRIVALS));
    let limits = Limits { commit_records_live_max: 40, commit_records_behind_max: 40, ..Limits::default() };
    let mut engine = Engine::start(log.clone(), SESSION, toy::graph, limits).unwrap();
    while engine.step(None).unwrap().records > 0 {}
    log.ledger(SESSION, 0).unwrap()
}

fn blocks() -> Vec<Vec<u8>> {
    (0..written_today().len()).map(|index| fixture(&format!("ledger_block_{index}.bin"), || written_today().remove(index))).collect()
}

#[test]
fn a_ledger_of_format_1_replays_to_the_facts_it_was_published_with() {
    let (mut chain, mut session, mut output) = (Chain::from_start(), toy::session(), Output::default());
    for bytes in blocks() {
        let block = chain.read(&bytes).unwrap();
        session.replay(&block, &mut output).unwrap();
        assert_eq!(session.facts_hash().0, block.facts_hash);
    }
    assert_eq!(session.facts_hash().to_string(), FACTS_HASH.trim());
}

#[test]
fn a_keyframe_of_format_1_is_restored_and_goes_on_to_the_same_facts() {
    let arrivals = toy::arrivals(1, ARRIVALS);
    let half = ARRIVALS / 2;
    let bytes = fixture("keyframe.bin", || {
        let mut bytes = Vec::new();
        toy::run(&arrivals[..half]).0.keyframe().encode(&mut bytes);
        bytes
    });
    let keyframe = Keyframe::decode(&mut Reader::new(&bytes)).unwrap();
    let mut session = Session::restore(SESSION, toy::graph(), Limits::default(), &keyframe).unwrap();
    let mut output = Output::default();
    for (ingest_seq, &arrival) in arrivals.iter().enumerate().skip(half) {
        toy::take(&mut session, ingest_seq as i64, arrival, &mut output).unwrap();
    }
    assert_eq!(session.facts_hash().to_string(), FACTS_HASH.trim());
}

#[test]
fn formats_of_a_later_version_are_refused_by_name() {
    let mut block = blocks().remove(0);
    block[0] = 4;
    assert_eq!(Chain::from_start().read(&block).unwrap_err(), LedgerError::Format(2));
    let mut keyframe = toy::run(&toy::arrivals(1, 10)).0.keyframe();
    keyframe.format = 2;
    let refused = Session::restore(SESSION, toy::graph(), Limits::default(), &keyframe).err().unwrap();
    assert_eq!(refused, KeyframeError::Format(2));
}

#[test]
fn a_missing_doubled_or_changed_block_breaks_the_chain() {
    let blocks = blocks();
    assert!(blocks.len() >= 3);
    let read = |order: &[usize]| {
        let mut chain = Chain::from_start();
        order.iter().try_for_each(|&index| chain.read(&blocks[index]).map(drop))
    };
    assert_eq!(read(&[0, 1, 2]), Ok(()));
    assert!(matches!(read(&[0, 2]), Err(LedgerError::Chain { .. })), "missing");
    assert!(matches!(read(&[0, 1, 1]), Err(LedgerError::Chain { .. })), "doubled");
    let mut changed = blocks[0].clone();
    let last = changed.len() - 1;
    changed[last] ^= 1;
    let mut chain = Chain::from_start();
    chain.read(&changed).unwrap();
    assert!(matches!(chain.read(&blocks[1]), Err(LedgerError::Chain { .. })), "changed");
}

#[test]
fn a_keyframe_with_a_damaged_byte_is_refused_unless_it_holds_the_same_state_all_the_same() {
    let mut session = toy::run(&toy::arrivals(1, 60)).0;
    let keyframe = session.keyframe();
    let mut refused = 0;
    for index in 0..keyframe.bytes.len() {
        let mut damaged = keyframe.clone();
        damaged.bytes[index] ^= 0x10;
        match Session::restore(SESSION, toy::graph(), Limits::default(), &damaged) {
            Ok(mut restored) => assert_eq!(restored.keyframe().state_hash, keyframe.state_hash, "byte {index}"),
            Err(error) => {
                assert!(matches!(error, KeyframeError::Damaged(_)), "byte {index}: {error}");
                refused += 1;
            }
        }
    }
    assert!(refused * 10 > keyframe.bytes.len() * 9, "{refused} of {} bytes matter", keyframe.bytes.len());
}
