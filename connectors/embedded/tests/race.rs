//! The whole Dutch race through the live runtime: what it comes to is what a backtest comes to.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::mpsc;

use pitwall_embedded::pace::Pace;
use pitwall_embedded::replay::filed_under;
use pitwall_embedded::runtime::{Runtime, RuntimeError, SessionOptions};
use pitwall_embedded::sink::Sink;
use pitwall_engine::hash::Digest;
use pitwall_engine::log::{AppendError, Committed, SessionState, StateStore};
use pitwall_schemas::shared::KnownAtQuality;

const AS_SESSION: i32 = 77;

#[test]
fn a_live_replay_stopped_and_resumed_comes_to_the_facts_of_a_backtest_and_again_changes_nothing() {
    let expected = support::backtest();
    let folder = tempfile::tempdir().unwrap();
    // Once up to about the middle, then to the end, then once more.
    for run in 0..3 {
        let mut data = support::open(folder.path());
        let sink = Sink::start(data.log.clone(), data.store.clone()).unwrap();
        let (send, told) = mpsc::channel();
        let observer = move |committed: &Committed<'_>| {
            // Only the first run listens.
            let _ = send.send((committed.head.last_seq, committed.facts.len(), committed.records));
        };
        let (runtime, replay) = support::start(&data.log, 9_920, Pace::at(f64::INFINITY), Some(sink.pending()), None, observer);
        if run == 0 {
            assert!(runtime.resumed_at().is_none());
            while told.recv().unwrap().0 < 400_000 {}
            drop(replay);
            let head = runtime.stop().unwrap().unwrap();
            assert_eq!(head.state, SessionState::Live);
            continue;
        }
        assert!(runtime.resumed_at().is_some_and(|head| head.last_seq >= 400_000));
        replay.join().unwrap();
        let head = runtime.stop().unwrap().unwrap();
        assert_eq!(head.facts_hash, expected.facts_hash, "run {run}");
        assert_eq!((head.last_seq + 1, head.next_fact_seq), (expected.ledger_records, expected.facts), "run {run}");
        assert_eq!(head.state, SessionState::Complete);
        assert_eq!(support::hash_of_facts(&mut data.log, 9_920), (expected.facts, expected.facts_hash), "readers see the same");
        if run == 2 {
            assert_eq!(told.try_iter().count(), 0, "a finished session is not closed twice");
        }
        sink.flush();
        assert_eq!(data.store.next_fact_seq(9_920, 0).unwrap(), expected.facts, "the store has them all");
        assert_eq!(data.store.latest(9_920, 0, "drivers", u64::MAX).unwrap().len(), 20);
        let catalogue = data.log.catalogue().unwrap();
        assert_eq!(catalogue.len(), 1);
        assert_eq!((catalogue[0].session_key, catalogue[0].head), (9_920, head));
        places_agree_with_the_ledger(&data.log, head.last_seq);
    }
}

/// Every way to place a record in time gives what a walk over the ledger gives.
fn places_agree_with_the_ledger(log: &pitwall_embedded::log::EmbeddedLog, last_seq: u64) {
    let mut reader = log.clone();
    for seq in (0..=last_seq).step_by(last_seq as usize / 40) {
        let placed = log.place_of(9_920, seq).unwrap().unwrap();
        assert_eq!(placed.seq, seq);
        assert_eq!(log.place_at(9_920, placed.known_at).unwrap(), Some(placed), "a record is known at its own time");
        if seq > 0 {
            let before = log.place_of(9_920, seq - 1).unwrap().unwrap();
            assert_eq!(log.place_at(9_920, placed.known_at.plus(-1)).unwrap(), Some(before), "and not before");
        }
        use pitwall_engine::log::EventLog;
        let first_unknown = log.first_fact_after(9_920, 0, placed.known_at).unwrap();
        let from = first_unknown.saturating_sub(1);
        let around = reader.facts(9_920, 0, from, 2).unwrap();
        for fact in around.iter() {
            assert_eq!(fact.known_at > placed.known_at, fact.fact_seq >= first_unknown, "fact {}", fact.fact_seq);
        }
    }
    assert_eq!(log.place_of(9_920, last_seq + 1).unwrap(), None);
    assert_eq!(log.place_at(9_920, pitwall_engine::Micros(0)).unwrap(), None);
}

#[test]
fn the_same_archive_under_another_number_is_another_session_with_the_same_facts() {
    let expected = support::backtest();
    let folder = tempfile::tempdir().unwrap();
    let data = support::open(folder.path());
    let (runtime, replay) =
        support::start(&data.log, AS_SESSION, Pace::at(f64::INFINITY), None, Some(filed_under(AS_SESSION)), |_: &Committed<'_>| {});
    replay.join().unwrap();
    assert_eq!(runtime.stop().unwrap().unwrap().facts_hash, expected.facts_hash);
    let options = SessionOptions::replayed(AS_SESSION, Digest([1; 32]));
    let other = Runtime::start(data.log, options, || support::graph(AS_SESSION, KnownAtQuality::Received), |_: &Committed<'_>| {}, None);
    assert!(matches!(other, Err(RuntimeError::Append(AppendError::OtherSource { .. }))), "another source of the session is refused");
}
