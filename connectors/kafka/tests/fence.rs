//! Two engines on one partition: the later one has it, whatever the earlier one still believes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use pitwall_engine::Micros;
use pitwall_engine::conformance::Writer;
use pitwall_engine::hash::Digest;
use pitwall_engine::log::{AppendError, CommitError, EventLog, NewRaw, RawLog};
use pitwall_kafka::client::KafkaLogError;
use pitwall_kafka::log::KafkaLog;
use support::Deployment;

const SESSION: i32 = 9_920;

fn open(deployment: &Deployment) -> KafkaLog {
    KafkaLog::open(deployment.options.clone(), deployment.streams.clone()).unwrap()
}

#[test]
fn an_engine_in_another_process_fences_this_one() {
    let deployment = Deployment::new("fence", support::conformance_streams());
    let (mut one, mut other) = (open(&deployment), open(&deployment));
    let mut zombie = Writer::new(&mut one, SESSION);
    zombie.commit(&mut one, 3).unwrap();
    let _taken_over = Writer::new(&mut other, SESSION);
    assert_eq!(other.ledger_end(SESSION).unwrap(), Some(2), "what was committed before is there for the one that takes over");
    assert_eq!(zombie.commit(&mut one, 3), Err(CommitError::Fenced), "the zombie is told");
    assert_eq!(zombie.commit(&mut one, 3), Err(CommitError::Fenced), "however often it tries");
    assert_eq!(other.ledger_end(SESSION).unwrap(), Some(2), "nothing of it is visible");
    assert_eq!(open(&deployment).facts(SESSION, 0, 0, usize::MAX).unwrap().len(), 3, "nor its facts");
}

#[test]
fn a_second_ingest_of_a_session_fences_the_first_and_goes_on_at_its_end() {
    let deployment = Deployment::new("ingest", support::conformance_streams());
    let (mut one, mut other) = (open(&deployment), open(&deployment));
    let source = Digest([1; 32]);
    let records = |range: std::ops::Range<i64>| -> Vec<NewRaw> {
        range.map(|number| NewRaw { stream: 0, received_at: Micros(number), payload: number.to_le_bytes().to_vec() }).collect()
    };
    one.append(SESSION, source, 0, records(0..5)).unwrap();
    assert_eq!(other.ingest_end(SESSION, source).unwrap(), 5);
    let fenced = one.append(SESSION, source, 5, records(5..6));
    assert_eq!(fenced, Err(AppendError::Log(KafkaLogError::IngestFenced(SESSION))));
    other.append(SESSION, source, 5, records(5..8)).unwrap();
    let fetched = open(&deployment).fetch(SESSION, &[], 100).unwrap();
    let numbers: Vec<i64> = fetched.iter().map(|raw| raw.ingest_seq).collect();
    assert_eq!(numbers, (0..8).collect::<Vec<_>>(), "raw holds no hole and nothing twice");
}
