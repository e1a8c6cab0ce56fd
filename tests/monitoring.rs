//! What `docker/` asks of Prometheus, every panel of the dashboard and every alert, is asked of metrics that running roles really have; and
//! the container's health check tells a role that answers from one that does not.
//!
//! One process of all roles is brought to do everything that is counted: it derives a session, serves frames and looks at the past, and
//! stores, shares and refuses what it must. Then its `/metrics` is read once.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "a test starts processes and reads files")]

mod deployment;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use deployment::keyspace::Keyspace;
use deployment::{Deployment, PATIENCE, Process, wait_for};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::Value;

const DUTCH: &str = "9920";

/// What expressions are made of besides metrics and labels.
const WORDS: [&str; 12] =
    ["absent", "by", "histogram_quantile", "increase", "max", "min", "offset", "or", "rate", "sum", "unless", "without"];

/// Labels that Prometheus itself gives.
const TARGET_LABELS: [&str; 3] = ["instance", "job", "le"];

fn docker(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docker").join(path)
}

/// Every expression of the dashboard and the alerts, with where it stands.
fn expressions() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(docker("grafana/dashboards/pitwall.json")).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter().flat_map(|panel| {
        let targets = panel["targets"].as_array().into_iter().flatten();
        targets.map(|target| (format!("panel {}", panel["title"]), target["expr"].as_str().unwrap().to_owned()))
    });
    let alerts = fs::read_to_string(docker("prometheus/alerts.yml")).unwrap();
    let mut name = String::new();
    let mut expressions: Vec<(String, String)> = panels.collect();
    for line in alerts.lines().map(str::trim) {
        if let Some(alert) = line.strip_prefix("- alert: ") {
            name = alert.to_owned();
        } else if let Some(expression) = line.strip_prefix("expr: ") {
            expressions.push((format!("alert {name}"), expression.to_owned()));
        }
    }
    expressions
}

/// The names, numbers and signs of an expression, without strings and ranges.
fn tokens(expression: &str) -> Vec<String> {
    let (mut tokens, mut rest) = (Vec::new(), expression);
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' => rest[1..].find('"').expect("a string ends") + 2,
            '[' => rest.find(']').expect("a range ends") + 1,
            _ if first.is_ascii_alphanumeric() || first == '_' => {
                rest.find(|sign: char| !sign.is_ascii_alphanumeric() && sign != '_').unwrap_or(rest.len())
            }
            _ => first.len_utf8(),
        };
        let (token, after) = rest.split_at(length);
        if !token.starts_with(['"', '[', ' ']) {
            tokens.push(token.to_owned());
        }
        rest = after;
    }
    tokens
}

/// The metrics that an expression asks for, each with the labels that it chooses by, and the labels that it groups by.
fn asked(expression: &str) -> (BTreeMap<String, BTreeSet<String>>, BTreeSet<String>) {
    let (mut metrics, mut grouped): (BTreeMap<String, BTreeSet<String>>, BTreeSet<String>) = Default::default();
    let (mut metric, mut is_grouping, mut is_choosing) = (String::new(), false, false);
    for token in tokens(expression) {
        let is_name = token.starts_with(|sign: char| sign.is_ascii_alphabetic() || sign == '_');
        match token.as_str() {
            "{" => is_choosing = true,
            "}" => is_choosing = false,
            ")" => is_grouping = false,
            "by" | "without" => is_grouping = true,
            _ if !is_name => {}
            label if is_choosing => drop(metrics.entry(metric.clone()).or_default().insert(label.to_owned())),
            label if is_grouping => drop(grouped.insert(label.to_owned())),
            name if name.starts_with("pitwall_") || name == "up" => {
                metric = name.to_owned();
                metrics.entry(metric.clone()).or_default();
            }
            word => assert!(WORDS.contains(&word), "{expression}: `{word}` is neither a metric of ours nor a word of PromQL known here"),
        }
    }
    (metrics, grouped)
}

/// Every sample's name in a scrape, with the labels it has.
fn scraped(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut scraped: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (sample, _) = line.rsplit_once(' ').unwrap();
        let (name, labels) = sample.split_once('{').unwrap_or((sample, ""));
        let labels = labels.trim_end_matches('}').split(',').filter_map(|label| label.split_once('=')).map(|(label, _)| label.to_owned());
        scraped.entry(name.to_owned()).or_default().extend(labels);
    }
    scraped
}

/// An ingest that goes on until the test is over.
struct Ingest(Child);

impl Drop for Ingest {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A WebSocket, just enough of one to make the edge count.
struct Socket(TcpStream);

impl Socket {
    fn open(edge: &Process, path: &str) -> Self {
        let address = edge.url().trim_start_matches("http://").to_owned();
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        .unwrap();
        Self(stream)
    }

    /// A text of one letter; a client's frames are masked, here with zeroes.
    fn say_nonsense(&mut self) {
        self.0.write_all(&[0x81, 0x81, 0, 0, 0, 0, b'x']).unwrap();
    }

    /// Reads until the edge has said `text`.
    fn wait_for(&mut self, text: &str) {
        let (begun, mut heard, mut buffer) = (Instant::now(), Vec::new(), [0; 65_536]);
        loop {
            match self.0.read(&mut buffer) {
                Ok(0) => panic!("the edge closes before it says {text}: {}", String::from_utf8_lossy(&heard)),
                Ok(length) => heard.extend_from_slice(&buffer[..length]),
                Err(error) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()) => {}
                Err(error) => panic!("{error}"),
            }
            if heard.windows(text.len()).any(|window| window == text.as_bytes()) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "the edge does not say {text}");
        }
    }
}

/// A message in a raw topic that ingest did not write.
fn say_something_foreign(deployment: &Deployment) {
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", &deployment.address).set("partitioner", "murmur2_random").create().unwrap();
    let topic = format!("{}openf1.weather.v1", deployment.prefix);
    producer.send(BaseRecord::to(&topic).key(DUTCH).payload("not Avro")).unwrap();
    producer.flush(PATIENCE).unwrap();
}

fn is_healthy(url: &str, path: &str) -> bool {
    let port = url.trim_end_matches("/metrics").rsplit(':').next().unwrap();
    Command::new("bash").arg(docker("healthcheck")).args([port, path]).output().unwrap().status.success()
}

#[test]
fn every_metric_and_label_that_dashboard_and_alerts_ask_for_is_one_that_running_roles_have() {
    let mut deployment = Deployment::new("monitoring", 1);
    let _keyspace = Keyspace::new(&mut deployment);
    deployment.set("PITWALL_REDIS__URL", &deployment::redis_url());
    let process = deployment.start("engine,sink,edge");
    process.wait_until_ready();
    let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/dutch_2025_race.avro");
    let _ingest = Ingest(deployment.command(&["ingest", "archive", archive.to_str().unwrap(), "--speed", "60"]).spawn().unwrap());
    let session = format!("/api/v1/sessions/{DUTCH}");
    wait_for("the session is there", || process.get(&session));
    let mut timing = Socket::open(&process, &format!("/ws/timing/{DUTCH}"));
    timing.wait_for("\"type\":\"frame\"");
    timing.say_nonsense();
    timing.wait_for("\"type\":\"error\"");
    Socket::open(&process, &format!("/ws/no_channel/{DUTCH}")).wait_for("\"type\":\"error\"");
    assert!(process.get(&format!("{session}/timing?as_of=seq:1")).is_some(), "a look at the past");
    wait_for("facts are stored", || process.metric("pitwall_sink_facts_total").filter(|facts| *facts > 0.0));
    say_something_foreign(&deployment);
    wait_for("the foreign message is counted", || process.metric("pitwall_kafka_foreign_messages_total"));
    wait_for("the closed connection is counted", || process.metric("pitwall_edge_closes_total"));

    let has = scraped(&process.metrics());
    let expressions = expressions();
    assert!(expressions.len() > 30, "{} expressions: are dashboard and alerts read?", expressions.len());
    for (place, expression) in &expressions {
        let (metrics, grouped) = asked(expression);
        assert!(!metrics.is_empty(), "{place}: {expression} asks for no metric");
        for (metric, chosen) in metrics.iter().filter(|(metric, _)| *metric != "up") {
            let labels = has.get(metric).unwrap_or_else(|| panic!("{place}: no process has {metric}; there are {:?}", has.keys()));
            for label in chosen.iter().chain(&grouped).filter(|label| !TARGET_LABELS.contains(&label.as_str())) {
                assert!(labels.contains(label), "{place}: {metric} has no label {label}, only {labels:?}");
            }
        }
    }

    assert!(is_healthy(&process.monitor, "/metrics") && is_healthy(process.url(), "/readyz"), "roles that answer are healthy");
    assert!(!is_healthy(&process.monitor, "/nothing"), "what answers 404 is not healthy");
    let monitor = process.monitor.clone();
    assert!(process.stop().success());
    assert!(!is_healthy(&monitor, "/metrics"), "what is gone is not healthy");
}

#[test]
fn a_metric_is_told_from_labels_and_words() {
    let (metrics, grouped) =
        asked(r#"histogram_quantile(0.99, sum by (le, route) (rate(pitwall_a_bucket{status=~"5..",x!="y"}[$__rate_interval]))) > 1"#);
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(metrics, BTreeMap::from([("pitwall_a_bucket".to_owned(), set(&["status", "x"]))]));
    assert_eq!(grouped, set(&["le", "route"]));
}

#[test]
#[should_panic(expected = "`pitwal_a` is neither")]
fn a_misspelt_metric_is_noticed() {
    asked("sum(rate(pitwal_a[5m]))");
}
