//! Making and checking topics on a real broker.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use futures_executor::block_on;
use pitwall_kafka::client::KafkaLogError;
use pitwall_kafka::log::KafkaLog;
use pitwall_kafka::options::Options;
use pitwall_kafka::{partition, topics};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use support::Deployment;

fn admin(options: &Options) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", options.brokers.join(",")).create().unwrap()
}

#[test]
fn topics_are_made_once_and_keep_everything() {
    let deployment = Deployment::new("topics", support::conformance_streams());
    let Deployment { options, streams } = &deployment;
    assert_eq!(topics::create(options, streams).unwrap(), [""; 0], "a second time makes none");
    topics::check(options, streams).unwrap();
    let short = AlterConfig::new(ResourceSpecifier::Topic("ledger")).set("retention.ms", "60000");
    let name = format!("{}pitwall.ledger.v1", options.prefix);
    let short = AlterConfig { specifier: ResourceSpecifier::Topic(&name), ..short };
    block_on(admin(options).alter_configs([&short], &AdminOptions::new())).unwrap();
    let error = topics::check(options, streams).unwrap_err();
    assert!(error.to_string().contains("retention.ms is 60000, it must be -1"), "{error}");
}

#[test]
fn a_log_without_its_topics_or_with_other_partitions_is_refused_by_name() {
    let deployment = Deployment::new("missing", support::conformance_streams());
    let Deployment { options, streams } = &deployment;
    let elsewhere = Options { prefix: format!("{}none.", options.prefix), ..options.clone() };
    let error = KafkaLog::open(elsewhere, streams.clone()).err().unwrap();
    assert!(matches!(&error, KafkaLogError::NoTopic(_)) && error.to_string().contains("pitwall topics create"), "{error}");
    let wider = Options { partitions: 3, ..options.clone() };
    let error = KafkaLog::open(wider, streams.clone()).err().unwrap();
    assert!(error.to_string().contains("its partition count is 2, it must be 3"), "{error}");
}

#[test]
fn no_broker_is_an_error_that_names_it() {
    let options = Options { brokers: vec!["127.0.0.1:1".to_owned()], timeout_ms: 300, ..Options::default() };
    let error = KafkaLog::open(options, support::conformance_streams()).err().unwrap();
    assert!(error.to_string().starts_with("Kafka at 127.0.0.1:1: "), "{error}");
}

/// The partition is given with every message; this is what another client would have chosen for the same key.
#[test]
fn sessions_lie_where_a_murmur2_partitioner_puts_their_keys() {
    let deployment = Deployment::new("partition", support::conformance_streams());
    let options = &deployment.options;
    let topic = format!("{}openf1.left.v1", options.prefix);
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", options.brokers.join(","));
    let producer: BaseProducer = config.clone().set("partitioner", "murmur2_random").create().unwrap();
    let sessions = 9_900..9_950;
    for session_key in sessions.clone() {
        producer.send(BaseRecord::to(&topic).key(&partition::key(session_key)).payload("")).unwrap();
    }
    producer.flush(options.timeout()).unwrap();
    config.set("group.id", "test").set("auto.offset.reset", "earliest").set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.create().unwrap();
    let mut assignment = rdkafka::TopicPartitionList::new();
    assignment.add_partition_range(&topic, 0, options.partitions - 1);
    assignment.set_all_offsets(rdkafka::Offset::Beginning).unwrap();
    consumer.assign(&assignment).unwrap();
    for _ in sessions {
        let message = consumer.poll(options.timeout()).unwrap().unwrap();
        let session_key = std::str::from_utf8(message.key().unwrap()).unwrap().parse().unwrap();
        assert_eq!(message.partition(), partition::of(session_key, options.partitions), "session {session_key}");
    }
}
