//! Members of the group come and go while others are still restoring their sessions: nothing is lost and nothing doubled.
//!
//! `PITWALL_REBALANCE_SEED` changes when; it is printed.

mod support;

use std::thread;
use std::time::Duration;

use pitwall_engine::limits::Limits;
use pitwall_engine::memory::Seeded;
use pitwall_kafka::log::KafkaLog;
use pitwall_kafka::partition;
use support::Deployment;
use support::engine::{Engines, wait_for, wait_until_closed};
use support::fed::Fed;
use support::race::MEXICO;

const ROUNDS: usize = 6;

#[test]
fn a_rebalance_while_sessions_are_restored_loses_nothing_and_doubles_nothing() {
    let seed = std::env::var("PITWALL_REBALANCE_SEED").ok().map_or(20_250_831, |seed| seed.parse().unwrap());
    println!("seed {seed}");
    let mut deployment = Deployment::new("rebalance", support::formula_1_streams());
    deployment.options.session_timeout_ms = 3_000;
    // One round's thread must not be waited for by the next: what is still restoring is left behind.
    deployment.options.revocation_ms = 50;
    let options = &deployment.options;
    let mut log = KafkaLog::open(options.clone(), deployment.streams.clone()).unwrap();
    // Without keyframes every restore replays the whole ledger: long enough to be in the middle of.
    let limits = Limits { keyframe_records: i64::MAX, keyframe_interval_ms: i64::MAX / 1_000, ..Limits::default() };
    let key = |number| (19_000..).find(|key| partition::of(*key, 2) == number).unwrap();
    let mut sessions = [0, 1].map(|number| Fed::new(MEXICO, key(number), &mut log));

    let mut seeded = Seeded::new(seed);
    let mut members = vec![Engines::start(options, limits.clone())];
    for fed in &mut sessions {
        fed.feed(&mut log, fed.records.len() / 2);
    }
    let halves: Vec<_> = sessions.iter().map(|fed| (fed.session_key, fed.records.len() as i64 / 2)).collect();
    wait_for("the first half is committed", || {
        halves.iter().all(|(key, half)| log.standing(*key).unwrap().is_some_and(|standing| standing.next_ingest_seq >= *half))
    });
    for round in 1..=ROUNDS {
        members.push(Engines::start(options, limits.clone()));
        thread::sleep(Duration::from_millis(seeded.below(800)));
        for fed in &mut sessions {
            let until = fed.records.len() / 2 + fed.records.len() / 2 * round / ROUNDS;
            fed.feed(&mut log, until);
        }
        let leaves = seeded.below(members.len() as u64) as usize;
        members.remove(leaves).stop().unwrap();
        thread::sleep(Duration::from_millis(seeded.below(800)));
    }
    for fed in &mut sessions {
        fed.end(&mut log);
        wait_until_closed(&log, fed.session_key, &format!("seed {seed}"));
    }
    for member in members {
        member.stop().unwrap();
    }
    for fed in &sessions {
        fed.check(&mut log, &format!("seed {seed}"));
    }
}
