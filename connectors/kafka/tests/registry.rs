//! Schemas in a real registry: registered when the log is opened, and only those that can read what was written before.

mod support;

use std::net::TcpStream;
use std::time::Duration;

use pitwall_kafka::client::KafkaLogError;
use pitwall_kafka::log::KafkaLog;
use pitwall_kafka::options::Options;
use pitwall_kafka::schemas::{RawStream, SchemaIds, Streams};
use support::Deployment;

/// The port of `docker/services`.
const PORT: u16 = 18_081;

/// The deployment's settings, with the registry that tests share.
fn options(deployment: &Deployment) -> Options {
    let port = std::env::var("SERVICES_REGISTRY_PORT").map_or(PORT, |port| port.parse().expect("a port"));
    let address = format!("127.0.0.1:{port}");
    let registry = TcpStream::connect_timeout(&address.parse().expect("an address"), Duration::from_secs(2));
    assert!(registry.is_ok(), "no schema registry at {address}: start it with `docker/services up registry`");
    Options { registry: format!("http://{address}/apis/ccompat/v7"), ..deployment.options.clone() }
}

/// The deployment's streams, with another schema of the left one's records.
fn changed(deployment: &Deployment, schema: &'static str) -> Streams {
    let raw = deployment
        .streams
        .raw
        .iter()
        .map(|stream| RawStream { schema: if stream.name == "left" { schema } else { stream.schema }, ..*stream });
    Streams { raw: raw.collect(), ..deployment.streams.clone() }
}

const OLD: &str = r#"{"type":"record","name":"Left","namespace":"conformance","fields":[{"name":"value","type":"int"}]}"#;
const WIDER: &str = r#"{"type":"record","name":"Left","namespace":"conformance","fields":[{"name":"value","type":"long"}]}"#;
const LARGER: &str = r#"{"type":"record","name":"Left","namespace":"conformance","fields":[{"name":"value","type":"long"},{"name":"more","type":"int","default":0}]}"#;
/// Reads what the newest schema writes but not what the first has written: the rule is transitive.
const FORGETFUL: &str =
    r#"{"type":"record","name":"Left","namespace":"conformance","fields":[{"name":"value","type":"long"},{"name":"more","type":"int"}]}"#;
const OTHER: &str = r#"{"type":"record","name":"Left","namespace":"conformance","fields":[{"name":"value","type":"string"}]}"#;

#[test]
fn every_schema_is_registered_once_and_keeps_its_id() {
    let deployment = Deployment::new("registered", support::formula_1_streams());
    let options = options(&deployment);
    let ids = SchemaIds::register(&options, &deployment.streams).unwrap();
    assert_eq!(SchemaIds::register(&options, &deployment.streams).unwrap(), ids, "a second process gets the same ids");
    let subjects = ureq::get(format!("{}/subjects", options.registry)).call().unwrap().body_mut().read_to_string().unwrap();
    for topic in pitwall_kafka::topics::all(&options, &deployment.streams) {
        assert!(subjects.contains(&format!("\"{}\"", topic.subject)), "{}", topic.subject);
        let rule = ureq::get(format!("{}/config/{}", options.registry, topic.subject)).call().unwrap().body_mut().read_to_string().unwrap();
        assert!(rule.contains("BACKWARD_TRANSITIVE"), "{}: {rule}", topic.subject);
    }
}

#[test]
fn a_schema_that_cannot_read_what_was_written_stops_the_start_with_the_registrys_reason() {
    let deployment = Deployment::new("incompatible", support::conformance_streams());
    let options = options(&deployment);
    let open = |schema| KafkaLog::open(options.clone(), changed(&deployment, schema)).map(drop);
    for compatible in [OLD, WIDER, LARGER] {
        open(compatible).unwrap();
    }
    open(OLD).expect("a program that has not been replaced yet still starts");
    for (incompatible, reason) in [(OTHER, "STRING not compatible"), (FORGETFUL, "more")] {
        let error = open(incompatible).unwrap_err();
        assert!(matches!(&error, KafkaLogError::Registry { subject, .. } if subject.ends_with("openf1.left.v1-value")), "{error}");
        let line = error.to_string();
        assert!(line.contains("409") && line.contains(reason), "{line}");
    }
}

#[test]
fn no_registry_is_an_error_that_names_it() {
    let deployment = Deployment::new("unregistered", support::conformance_streams());
    let options = Options { registry: "http://127.0.0.1:1".to_owned(), ..deployment.options.clone() };
    let error = KafkaLog::open(options, deployment.streams.clone()).err().unwrap();
    assert!(error.to_string().starts_with("schema registry http://127.0.0.1:1: subject "), "{error}");
}
