//! The conformance suite over the model in memory, and planted faults that it must notice.

use pitwall_engine::conformance;
use pitwall_engine::memory::{Faults, MemoryLog, MemoryStore};

#[test]
fn the_log_in_memory_keeps_every_promise() {
    let log = MemoryLog::new(conformance::STREAMS, Faults::default(), 1);
    conformance::log(|_| log.clone());
}

#[test]
fn the_log_in_memory_keeps_every_promise_while_fetches_repeat_and_reorder() {
    for seed in 0..50 {
        let log = MemoryLog::new(conformance::STREAMS, Faults { duplicate: 300, reorder: 300, ..Faults::default() }, seed);
        conformance::log(|_| log.clone());
    }
}

#[test]
fn the_store_in_memory_keeps_every_promise() {
    conformance::store(|| MemoryStore::new(Faults::default(), 1));
}

#[test]
#[should_panic(expected = "the ledger ends with the last commit")]
fn planted_a_log_that_forgets_a_commit_is_noticed() {
    let log = MemoryLog::new(conformance::STREAMS, Faults::default(), 1);
    conformance::log(|before: Option<MemoryLog>| {
        if before.is_some() {
            log.forget_last_block(101);
        }
        log.clone()
    });
}
