//! The conformance suite over a real broker. The client is closed and opened again in the middle.

mod support;

use pitwall_engine::conformance;
use pitwall_kafka::log::KafkaLog;
use support::Deployment;

#[test]
fn the_log_on_kafka_keeps_every_promise() {
    let deployment = Deployment::new("conformance", support::conformance_streams());
    conformance::log(|before: Option<KafkaLog>| {
        drop(before);
        KafkaLog::open(deployment.options.clone(), deployment.streams.clone()).unwrap()
    });
}
