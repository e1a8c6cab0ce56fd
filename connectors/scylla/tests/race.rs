//! A whole race in the store on CQL: what it answers is what the embedded store answers; purged, it can be stored again.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use pitwall_embedded::data::{DataDirectory, Options as DataOptions};
use pitwall_engine::log::{StateStore, StoredFact};
use pitwall_scylla::store::ScyllaStore;
use support::Keyspace;
use support::race::{self, Facts, SESSION};

fn store_all(store: &mut impl StateStore, facts: &Facts) {
    for batch in &facts.batches {
        store.store(SESSION, 0, batch).unwrap();
    }
    assert_eq!(store.next_fact_seq(SESSION, 0).unwrap(), facts.len);
}

fn by_pages(store: &mut impl StateStore, kind: &str, facts_max: usize) -> Vec<StoredFact> {
    let mut all: Vec<StoredFact> = Vec::new();
    loop {
        let from = all.last().map_or(0, |last| last.fact_seq + 1);
        let page = store.history(SESSION, 0, kind, from..u64::MAX, facts_max).unwrap();
        if page.is_empty() {
            return all;
        }
        assert!(page.len() <= facts_max);
        all.extend(page);
    }
}

#[test]
fn a_race_is_read_as_the_embedded_store_reads_it() {
    let facts = race::facts(8_192);
    let folder = tempfile::tempdir().unwrap();
    let mut embedded = DataDirectory::open(folder.path(), &facts.kinds, DataOptions::default()).unwrap().store;
    store_all(&mut embedded, &facts);
    let keyspace = Keyspace::new("race");
    let mut store = keyspace.open();
    store_all(&mut store, &facts);

    let mut reader = store.clone();
    let mut total = 0;
    for kind in &facts.kinds {
        let name = kind.name;
        let all = embedded.history(SESSION, 0, name, 0..u64::MAX, usize::MAX).unwrap();
        total += all.len() as u64;
        assert!(reader.history(SESSION, 0, name, 0..u64::MAX, usize::MAX).unwrap() == all, "history of {name}");
        assert!(by_pages(&mut reader, name, 10_000) == all, "history of {name} by pages");
        let (from, until) = (facts.len / 3, facts.len / 2);
        let expected = embedded.history(SESSION, 0, name, from..until, 500).unwrap();
        assert!(reader.history(SESSION, 0, name, from..until, 500).unwrap() == expected, "a stretch of {name}");
        for before in [1, 1_000, facts.len / 4, facts.len / 2, facts.len - 1, u64::MAX] {
            let expected = embedded.latest(SESSION, 0, name, before).unwrap();
            assert!(reader.latest(SESSION, 0, name, before).unwrap() == expected, "newest of {name} before {before}");
        }
    }
    assert_eq!(total, facts.len, "every fact is of a kind that was looked at");
}

/// How many facts a reader sees.
fn seen(store: &mut ScyllaStore, facts: &Facts) -> usize {
    facts.kinds.iter().map(|kind| store.history(SESSION, 0, kind.name, 0..u64::MAX, usize::MAX).unwrap().len()).sum()
}

#[test]
fn a_session_that_was_purged_can_be_stored_again_with_the_same_times() {
    let mut facts = race::facts(2_000);
    facts.batches.truncate(4);
    facts.len = facts.batches.iter().map(|batch| batch.len() as u64).sum();
    let keyspace = Keyspace::new("purge");
    let mut store = keyspace.open();
    for round in 0..3 {
        store_all(&mut store, &facts);
        assert_eq!(seen(&mut store, &facts) as u64, facts.len, "round {round}");
        store.purge(SESSION).unwrap();
        assert_eq!((seen(&mut store, &facts), store.next_fact_seq(SESSION, 0).unwrap()), (0, 0), "round {round}");
        let rows = keyspace.count("history") + keyspace.count("latest") + keyspace.count("places") + keyspace.count("progress");
        assert_eq!(rows, 0, "a purge leaves no rows, round {round}");
    }
}

#[test]
fn what_a_writer_sends_after_a_purge_it_has_not_heard_of_is_seen_by_nobody() {
    let facts = race::facts(2_000);
    let keyspace = Keyspace::new("late");
    let (mut writer, mut purger) = (keyspace.open(), keyspace.open());
    writer.next_fact_seq(SESSION, 0).unwrap();
    writer.store(SESSION, 0, &facts.batches[0]).unwrap();
    purger.purge(SESSION).unwrap();
    writer.store(SESSION, 0, &facts.batches[1]).unwrap();
    assert_eq!((seen(&mut purger, &facts), purger.next_fact_seq(SESSION, 0).unwrap()), (0, 0), "facts behind a hole are not read");
    purger.purge(SESSION).unwrap();
    assert_eq!(keyspace.count("history"), 0, "and the next purge removes them");
    assert_eq!(writer.next_fact_seq(SESSION, 0).unwrap(), 0, "the writer begins anew");
    writer.store(SESSION, 0, &facts.batches[0]).unwrap();
    assert_eq!(seen(&mut purger, &facts), facts.batches[0].len());
}
