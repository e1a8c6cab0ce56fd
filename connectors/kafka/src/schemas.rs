//! The schema of each topic and its id: Confluent framing needs one before every record.

use std::collections::BTreeMap;

use pitwall_engine::facts::Kind;
use pitwall_engine::hash::Digest;
use pitwall_schemas::codec::Record;
use pitwall_schemas::log::{DeadLetter, Keyframe, LedgerBlock, RawHeader, SourceProgress};
use pitwall_schemas::topics;
use serde_json::{Value, json};

use crate::client::KafkaLogError;
use crate::options::Options;

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
    /// # Errors
    /// When the registry cannot be reached, or refuses a schema: an incompatible one must not be written.
    pub fn register(options: &Options, streams: &Streams) -> Result<Self, KafkaLogError> {
        let register = |topic: &str, schema: &str| match options.registry.as_str() {
            "" => Ok(id_of_text(schema)),
            url => post(url, &format!("{}{topic}-value", options.prefix), schema),
        };
        let ids = streams.schemas().into_iter().map(|(topic, schema)| register(&topic, &schema).map(|id| (topic, id)));
        ids.collect::<Result<_, _>>().map(Self)
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

/// Registers a schema as the newest version of its subject; one that is registered already keeps its id.
fn post(url: &str, subject: &str, schema: &str) -> Result<u32, KafkaLogError> {
    let refused =
        |reason: String| KafkaLogError::Registry { url: url.to_owned(), subject: subject.to_owned(), reason: reason.trim().to_owned() };
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let mut response = agent
        .post(format!("{}/subjects/{subject}/versions", url.trim_end_matches('/')))
        .header("Content-Type", "application/vnd.schemaregistry.v1+json")
        .send(json!({"schemaType": "AVRO", "schema": schema}).to_string())
        .map_err(|error| refused(error.to_string()))?;
    let text = response.body_mut().read_to_string().map_err(|error| refused(error.to_string()))?;
    let answer: Value = serde_json::from_str(&text).unwrap_or_default();
    if !response.status().is_success() {
        let words = answer["message"].as_str().map_or(text, str::to_owned);
        return Err(refused(format!("{}: {words}", response.status())));
    }
    let id = answer["id"].as_u64().and_then(|id| u32::try_from(id).ok());
    id.ok_or_else(|| refused(format!("it answered without an id: {text}")))
}
