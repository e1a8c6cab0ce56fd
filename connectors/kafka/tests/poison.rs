//! What other programs put into topics, or take from under them: random bytes in every raw topic become dead letters and change no fact; a
//! fact topic that is gone ends the engine with its name; a session whose raw records were deleted is refused and others go on.
//!
//! `PITWALL_POISON_SEED` changes the bytes; it is printed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;

use futures_executor::block_on;
use pitwall_engine::Micros;
use pitwall_engine::hash::Digest;
use pitwall_engine::limits::Limits;
use pitwall_engine::log::{EventLog, NewRaw, RawLog};
use pitwall_engine::memory::Seeded;
use pitwall_kafka::log::KafkaLog;
use pitwall_kafka::options::Options;
use pitwall_kafka::partition;
use pitwall_schemas::codec::{Avro, Reader};
use pitwall_schemas::log::DeadLetter;
use pitwall_schemas::{topics, wire};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use support::Deployment;
use support::engine::{Engines, wait_for, wait_until_closed};
use support::fed::Fed;
use support::race::SILVERSTONE;

const SESSION: i32 = 19_000;

fn client(options: &Options) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", options.brokers.join(","));
    config
}

/// Bytes that no ingest writes: none, noise, or noise that is framed and of a possible length.
fn poison(seeded: &mut Seeded) -> Vec<u8> {
    let length = seeded.below(200) as usize;
    let mut bytes: Vec<u8> = (0..length).map(|_| seeded.below(256) as u8).collect();
    if seeded.below(3) == 0 {
        bytes.resize(200, 0x42);
        bytes[0] = 0;
    }
    bytes
}

/// Every dead letter of messages that ingest did not write, by stream and offset.
fn dead_letters(options: &Options) -> BTreeMap<(String, i64), DeadLetter> {
    let topic = format!("{}{}", options.prefix, topics::DEAD_LETTERS);
    let mut config = client(options);
    config.set("group.id", "test").set("isolation.level", "read_committed").set("enable.partition.eof", "true");
    let consumer: BaseConsumer = config.create().unwrap();
    let mut assignment = rdkafka::TopicPartitionList::new();
    assignment.add_partition_offset(&topic, partition::of(SESSION, options.partitions), rdkafka::Offset::Beginning).unwrap();
    consumer.assign(&assignment).unwrap();
    let mut found = BTreeMap::new();
    loop {
        match consumer.poll(options.timeout()).expect("the broker answers") {
            Ok(message) => {
                let (_, record) = wire::split_frame(message.payload().unwrap()).unwrap();
                let letter = DeadLetter::decode(&mut Reader::new(record)).unwrap();
                if letter.seq < 0 {
                    let place = (letter.stream.clone(), letter.offset);
                    let twice = found.insert(place, letter);
                    assert_eq!(twice, None, "a foreign message is buried once");
                }
            }
            Err(KafkaError::PartitionEOF(_)) => return found,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn random_bytes_in_every_raw_topic_become_dead_letters_and_the_session_goes_on() {
    let seed = std::env::var("PITWALL_POISON_SEED").ok().map_or(20_250_831, |seed| seed.parse().unwrap());
    println!("seed {seed}");
    let mut seeded = Seeded::new(seed);
    let deployment = Deployment::new("poison", support::formula_1_streams());
    let Deployment { options, streams } = &deployment;
    let mut log = KafkaLog::open(options.clone(), streams.clone()).unwrap();
    let mut fed = Fed::new(SILVERSTONE, SESSION, &mut log);
    let samples = fed.records.len();
    let number = partition::of(SESSION, options.partitions);
    let producer: BaseProducer = client(options).create().unwrap();
    let mut expected = BTreeMap::new();

    let mut engines = Some(Engines::start(options, Limits::default()));
    for part in 1..=4 {
        fed.feed(&mut log, samples * part / 4);
        for stream in &streams.raw {
            let topic = format!("{}{}", options.prefix, topics::raw(stream.name));
            let bytes = poison(&mut seeded);
            producer.send(BaseRecord::to(&topic).partition(number).key(&partition::key(SESSION)).payload(&bytes)).unwrap();
            producer.flush(options.timeout()).unwrap();
            // Nobody else writes just now, so it is the last message.
            let (_, end) = producer.client().fetch_watermarks(&topic, number, options.timeout()).unwrap();
            expected.insert((stream.name.to_owned(), end - 1), bytes);
        }
        if part == 2 {
            // One that is restored in the middle buries nothing twice.
            let has_taken = |log: &KafkaLog| log.standing(SESSION).unwrap().is_some_and(|at| at.next_ingest_seq >= samples as i64 / 2);
            wait_for("the first half is committed", || has_taken(&log));
            engines.take().unwrap().stop().unwrap();
            engines = Some(Engines::start(options, Limits::default()));
        }
    }
    fed.end(&mut log);
    wait_until_closed(&log, SESSION, &format!("seed {seed}"));
    engines.take().unwrap().stop().unwrap();
    fed.check(&mut log, &format!("seed {seed}"));

    let found = dead_letters(options);
    let places = |letters: &BTreeMap<(String, i64), _>| letters.keys().cloned().collect::<Vec<_>>();
    let expected_places: Vec<_> = expected.keys().cloned().collect();
    assert_eq!(places(&found), expected_places, "seed {seed}");
    for (place, letter) in &found {
        assert_eq!(letter.partition, number);
        assert_eq!(&letter.payload, &expected[place], "its bytes are kept");
        assert!(letter.reason.starts_with("PitWall's ingest did not write this: "), "{}", letter.reason);
    }
}

#[test]
fn the_largest_record_that_ingest_takes_finds_room_in_the_block_that_it_fills_up() {
    let deployment = Deployment::new("largest", support::formula_1_streams());
    let options = &deployment.options;
    let (half, source_id) = (options.half_a_message(), Digest([7; 32]));
    let record = |bytes: usize| NewRaw { stream: 0, received_at: Micros(1_000_000), payload: vec![0xff; bytes] };
    let mut log = KafkaLog::open(options.clone(), deployment.streams.clone()).unwrap();
    log.describe_source(SESSION, source_id, true, false).unwrap();
    let refused = log.append(SESSION, source_id, 0, vec![record(half + 1)]).unwrap_err().to_string();
    assert!(refused.contains(&format!("a raw record of {} bytes", half + 1)) && refused.contains("kafka.message_bytes_max"), "{refused}");
    // The first leaves the block just short of full, so the second goes into it as well.
    log.append(SESSION, source_id, 0, vec![record(half - 128), record(half)]).unwrap();
    log.describe_source(SESSION, source_id, true, true).unwrap();
    let engines = Engines::start(options, Limits { block_bytes_max: half, ..Limits::default() });
    wait_until_closed(&log, SESSION, "a session of the largest records");
    engines.stop().unwrap();
    let blocks: Vec<usize> = log.ledger(SESSION, 0).unwrap().iter().map(Vec::len).collect();
    assert!(blocks[0] > 2 * half - 128 && blocks[0] < options.message_bytes_max, "{blocks:?}");
}

#[test]
fn a_fact_topic_that_is_deleted_ends_the_engine_with_its_name() {
    let mut deployment = Deployment::new("deleted", support::formula_1_streams());
    (deployment.options.transaction_timeout_ms, deployment.options.timeout_ms) = (3_000, 10_000);
    let options = &deployment.options;
    let mut log = KafkaLog::open(options.clone(), deployment.streams.clone()).unwrap();
    let mut fed = Fed::new(SILVERSTONE, SESSION, &mut log);
    let engines = Engines::start(options, Limits::default());
    fed.feed(&mut log, fed.records.len() / 2);
    wait_for("the engine works", || log.standing(SESSION).unwrap().is_some());
    let topic = format!("{}{}", options.prefix, topics::facts("timing"));
    let admin: AdminClient<DefaultClientContext> = client(options).create().unwrap();
    for result in block_on(admin.delete_topics(&[&topic], &AdminOptions::new())).unwrap() {
        result.unwrap();
    }
    fed.end(&mut log);
    let error = engines.wait().unwrap_err().to_string();
    assert!(error.contains(&format!("topic {topic} is not there")) && error.contains("pitwall topics create"), "{error}");
}

#[test]
fn a_session_whose_raw_records_retention_has_deleted_is_refused_and_others_of_its_partition_go_on() {
    let deployment = Deployment::new("retention", support::formula_1_streams());
    let options = &deployment.options;
    let mut log = KafkaLog::open(options.clone(), deployment.streams.clone()).unwrap();
    let number = partition::of(SESSION, options.partitions);
    let again = (SESSION + 1..).find(|session_key| partition::of(*session_key, options.partitions) == number).unwrap();
    let mut fed = Fed::new(SILVERSTONE, SESSION, &mut log);
    fed.feed(&mut log, fed.records.len() / 2);
    // Its first message is gone: one is enough.
    let topic = format!("{}{}", options.prefix, topics::raw("weather"));
    let admin: AdminClient<DefaultClientContext> = client(options).create().unwrap();
    let mut until = rdkafka::TopicPartitionList::new();
    until.add_partition_offset(&topic, number, rdkafka::Offset::Offset(1)).unwrap();
    for deleted in block_on(admin.delete_records(&until, &AdminOptions::new())).unwrap().elements() {
        deleted.error().unwrap();
    }

    let engines = Engines::start(options, Limits::default());
    // What the error says to do: the session once more, under another number.
    let mut fed_again = Fed::new(SILVERSTONE, again, &mut log);
    fed_again.end(&mut log);
    wait_until_closed(&log, again, "a session beside one that lacks records");
    fed_again.check(&mut log, "a session beside one that lacks records");
    assert_eq!(log.standing(SESSION).unwrap(), None, "nothing is derived from what is left");
    engines.stop().unwrap();

    let told = log.fetch(SESSION, &[], 1).unwrap_err().to_string();
    let expected = format!("topic {topic}, partition {number}: offset 0 is needed, but retention has deleted everything before 1");
    assert!(told.starts_with(&expected) && told.contains("--as-session"), "{told}");
    let told = log.recorded(SESSION).map(drop).unwrap_err().to_string();
    assert!(told.starts_with(&expected), "a backtest is told the same: {told}");
}
