//! The schema of each topic and its id: Confluent framing needs one before every record.

use std::collections::BTreeMap;

use pitwall_engine::facts::Kind;
use pitwall_engine::hash::Digest;
use pitwall_schemas::codec::Record;
use pitwall_schemas::log::{DeadLetter, Keyframe, LedgerBlock, RawHeader, ReadersEpoch, SourceProgress};
use pitwall_schemas::topics;
use serde_json::{Value, json};
use ureq::http::StatusCode;
use ureq::typestate::WithBody;

use crate::client::KafkaLogError;
use crate::options::Options;

/// A new schema must read what any of its subject's schemas has written: races are read again years later.
const COMPATIBILITY: &str = "BACKWARD_TRANSITIVE";

/// A raw stream as the log must know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawStream {
    /// Its name, e.g. `car_data`.
    pub name: &'static str,
    /// Avro schema of its records.
    pub schema: &'static str,
}

/// What a Kafka log is opened with besides its options.
#[derive(Debug, Clone, Default)]
pub struct Streams {
    /// All raw streams, in the order that numbers them.
    pub raw: Vec<RawStream>,
    /// All fact kinds that the graph publishes.
    pub kinds: Vec<Kind>,
}

impl Streams {
    /// Every topic without its prefix, and the schema of its records.
    #[must_use]
    pub fn schemas(&self) -> Vec<(String, String)> {
        let raw = self.raw.iter().map(|stream| (topics::raw(stream.name), with_header(stream)));
        let facts = self.kinds.iter().map(|kind| (topics::facts(kind.name), kind.schema.to_owned()));
        let own = [
            (topics::LEDGER, LedgerBlock::SCHEMA),
            (topics::KEYFRAMES, Keyframe::SCHEMA),
            (topics::DEAD_LETTERS, DeadLetter::SCHEMA),
            (topics::SOURCES, SourceProgress::SCHEMA),
            (topics::READERS, ReadersEpoch::SCHEMA),
        ];
        raw.chain(facts).chain(own.map(|(topic, schema)| (topic.to_owned(), schema.to_owned()))).collect()
    }
}

/// The schema of a raw topic: ingest's header, then the record as it was received. Avro writes a record's fields one after the other, so
/// the record's bytes stand unchanged behind the header's.
fn with_header(stream: &RawStream) -> String {
    let parse = |schema: &str| -> Value { serde_json::from_str(schema).expect("the build checks every schema") };
    let record = parse(stream.schema);
    let message = json!({
        "type": "record",
        "name": format!("{}Message", record["name"].as_str().unwrap_or_default()),
        "namespace": record["namespace"].as_str().unwrap_or("openf1"),
        "doc": "A raw record and what ingest knows of it.",
        "fields": [
            {"name": "ingest", "type": parse(RawHeader::SCHEMA), "doc": "What ingest knows of it."},
            {"name": "record", "type": record, "doc": "The record as it was received."},
        ],
    });
    message.to_string()
}

/// Schema ids by topic, the prefix left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SchemaIds(BTreeMap<String, u32>);

impl SchemaIds {
    /// Registers every schema; without a registry a schema's id comes from its text, so that all processes agree on it.
    ///
    /// Each subject is told to take only schemas that can read what any before has written, so the registry refuses one that readers of
    /// old records, or of a log that is read again from its start, could not do with.
    ///
    /// # Errors
    /// When the registry cannot be reached, or refuses a schema: an incompatible one must not be written.
    pub fn register(options: &Options, streams: &Streams) -> Result<Self, KafkaLogError> {
        let url = options.registry.trim_end_matches('/');
        if url.is_empty() {
            let ids = streams.schemas().into_iter().map(|(topic, schema)| (topic, id_of_text(&schema)));
            return Ok(Self(ids.collect()));
        }
        let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(options.timeout())).build();
        let registry = Registry { url, agent: config.into() };
        let register = |(topic, schema): (String, String)| {
            let subject = format!("{}{topic}-value", options.prefix);
            registry.register(&subject, &schema).map(|id| (topic, id))
        };
        streams.schemas().into_iter().map(register).collect::<Result<_, _>>().map(Self)
    }

    /// The id of a topic's schema.
    pub(crate) fn of(&self, topic: &str) -> u32 {
        self.0.get(topic).copied().unwrap_or_default()
    }
}

fn id_of_text(schema: &str) -> u32 {
    let [a, b, c, d, ..] = Digest::of(schema.as_bytes()).0;
    u32::from_be_bytes([a & 0x7f, b, c, d])
}

/// A client of the registry.
struct Registry<'a> {
    url: &'a str,
    agent: ureq::Agent,
}

impl Registry<'_> {
    /// Registers a schema as the newest version of its subject; one that is registered already keeps its id.
    fn register(&self, subject: &str, schema: &str) -> Result<u32, KafkaLogError> {
        let is_guarded = self.guard(subject)?;
        let registration = json!({"schemaType": "AVRO", "schema": schema});
        let (status, answer) = self.send(subject, self.agent.post(format!("{}/subjects/{subject}/versions", self.url)), &registration)?;
        if !status.is_success() {
            return Err(self.refused(subject, &told(status, &answer)));
        }
        // Some registries know a subject only by its first schema.
        if !is_guarded && !self.guard(subject)? {
            return Err(self.refused(subject, "it does not take a rule of compatibility"));
        }
        let id = answer["id"].as_u64().and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| self.refused(subject, &format!("it answered without an id: {answer}")))
    }

    /// Sets the subject's rule of compatibility; false when the registry does not know the subject yet.
    fn guard(&self, subject: &str) -> Result<bool, KafkaLogError> {
        let rule = json!({"compatibility": COMPATIBILITY});
        let (status, answer) = self.send(subject, self.agent.put(format!("{}/config/{subject}", self.url)), &rule)?;
        match status {
            _ if status.is_success() => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(self.refused(subject, &told(status, &answer))),
        }
    }

    fn send(&self, subject: &str, request: ureq::RequestBuilder<WithBody>, body: &Value) -> Result<(StatusCode, Value), KafkaLogError> {
        let request = request.header("Content-Type", "application/vnd.schemaregistry.v1+json");
        let mut response = request.send(body.to_string()).map_err(|error| self.refused(subject, &error.to_string()))?;
        let text = response.body_mut().read_to_string().map_err(|error| self.refused(subject, &error.to_string()))?;
        Ok((response.status(), serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    fn refused(&self, subject: &str, reason: &str) -> KafkaLogError {
        KafkaLogError::Registry { url: self.url.to_owned(), subject: subject.to_owned(), reason: reason.trim().to_owned() }
    }
}

/// What the registry says of a request that it did not do.
fn told(status: StatusCode, answer: &Value) -> String {
    let words = answer["message"].as_str().or_else(|| answer.as_str());
    format!("{status}: {}", words.map_or_else(|| answer.to_string(), str::to_owned))
}
