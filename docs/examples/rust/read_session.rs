//! Reads a session's facts in their order and says what stands at its end.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::path::Path;
use std::time::Duration;
use std::{env, fmt, fs};

use anyhow::{Context, Result, bail, ensure};
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::{Schema, from_value};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use serde::Deserialize;

/// What to read, and where.
pub struct Settings {
    pub brokers: String,
    pub prefix: String,
    pub session: String,
    pub epoch: String,
    pub schemas: String,
}

pub fn main() -> Result<()> {
    let setting = |name: &str, otherwise: &str| env::var(name).unwrap_or_else(|_| otherwise.to_owned());
    let settings = Settings {
        brokers: setting("BROKERS", "127.0.0.1:19092"),
        prefix: setting("PREFIX", ""),
        session: setting("SESSION", "9920"),
        epoch: setting("EPOCH", "0"),
        schemas: setting("SCHEMAS", "schemas/avsc"),
    };
    print!("{}", read(&settings)?);
    Ok(())
}

/// Any fact; Avro's other fields are left out.
#[derive(Deserialize)]
struct Fact {
    header: Header,
}

#[derive(Deserialize)]
struct Header {
    kind_seq: u64,
    supersedes: Option<i64>,
    withdrawn: bool,
}

#[derive(Clone, Copy, Deserialize)]
struct Lap {
    driver_number: i32,
    lap_number: i32,
    lap_ms: Option<i32>,
    is_deleted: bool,
}

/// The kinds of which this program reads more than their number.
const DECODED: [&str; 3] = ["laps", "pit_stops", "overtakes"];

pub fn read(settings: &Settings) -> Result<Summary> {
    let shared: Vec<String> = avsc(settings, "shared")?.into_values().collect();
    let mut schemas = BTreeMap::new();
    for (kind, text) in avsc(settings, "facts")? {
        schemas.insert(kind, Schema::parse_str_with_list(&text, &shared)?);
    }
    let mut kind_of = BTreeMap::new();
    let mut decoders = BTreeMap::new();
    for (kind, (schema, shared)) in &schemas {
        kind_of.insert(format!("{}pitwall.{kind}.v1", settings.prefix), kind.as_str());
        decoders.insert(kind.as_str(), GenericDatumReader::builder(schema).writer_schemata(shared.iter().collect())?.build()?);
    }

    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &settings.brokers)
        .set("group.id", format!("{}read-session-rust", settings.prefix))
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        // What a transaction left behind that was aborted is not there.
        .set("isolation.level", "read_committed")
        // Partition p of every topic comes to the same reader, and a session is in the same partition of all.
        .set("partition.assignment.strategy", "range")
        .set("enable.partition.eof", "true")
        .create()?;
    consumer.subscribe(&kind_of.keys().map(String::as_str).collect::<Vec<_>>())?;

    let mut summary = Summary::default();
    let mut waiting = BinaryHeap::new();
    let mut ended = 0;
    // Every partition says once that it is at its end.
    while ended == 0 || ended < consumer.assignment()?.count() {
        let message = match consumer.poll(Duration::from_secs(1)) {
            None => continue,
            Some(Err(KafkaError::PartitionEOF(_))) => {
                ended += 1;
                continue;
            }
            Some(message) => message?,
        };
        let is_ours = message.key() == Some(settings.session.as_bytes()) && header(&message, "epoch")? == settings.epoch;
        if !is_ours {
            continue;
        }
        let fact_seq: u64 = header(&message, "fact_seq")?.parse()?;
        waiting.push(Reverse((fact_seq, kind_of[message.topic()], message.payload().unwrap_or_default().to_vec())));
        // Topics are read at their own pace; a fact is passed on when all before it were.
        while waiting.peek().is_some_and(|Reverse((fact_seq, ..))| *fact_seq == summary.facts) {
            let Some(Reverse((_, kind, message))) = waiting.pop() else { break };
            summary.take(kind, &message, &decoders[kind])?;
        }
    }
    ensure!(waiting.is_empty(), "fact {} is missing", summary.facts);
    Ok(summary)
}

/// The schemas of a directory, by file name.
fn avsc(settings: &Settings, directory: &str) -> Result<BTreeMap<String, String>> {
    let folder = Path::new(&settings.schemas).join(directory);
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if let Some(name) = path.file_stem().and_then(|name| name.to_str()).filter(|_| path.extension().is_some_and(|end| end == "avsc")) {
            found.insert(name.to_owned(), fs::read_to_string(&path)?);
        }
    }
    Ok(found)
}

fn header<'a>(message: &'a BorrowedMessage<'_>, name: &str) -> Result<&'a str> {
    let headers = message.headers().context("a fact has headers")?;
    let value = headers.iter().find(|header| header.key == name).and_then(|header| header.value);
    Ok(std::str::from_utf8(value.with_context(|| format!("a fact has a header {name}"))?)?)
}

/// What stands at the end of what was read.
#[derive(Default)]
pub struct Summary {
    facts: u64,
    counts: BTreeMap<String, u64>,
    corrections: u64,
    laps: BTreeMap<(i32, i32), Lap>,
}

impl Summary {
    /// One fact after the other, of all kinds, in the order in which the engine said them.
    fn take(&mut self, kind: &str, message: &[u8], decoder: &GenericDatumReader<'_>) -> Result<()> {
        let count = self.counts.entry(kind.to_owned()).or_default();
        if DECODED.contains(&kind) {
            // Confluent framing: a zero byte and the schema's id in four, then the Avro record.
            let Some((&[0, _, _, _, _], record)) = message.split_first_chunk() else { bail!("{kind}: a fact without a frame") };
            let fact = decoder.read_value(&mut &*record)?;
            let Fact { header } = from_value(&fact)?;
            ensure!(header.kind_seq == *count, "{kind}: fact {count} of this kind is missing");
            self.corrections += u64::from(header.supersedes.is_some());
            if kind == "laps" {
                let lap: Lap = from_value(&fact)?;
                // A later fact about the same lap replaces the earlier one, or takes it back.
                if header.withdrawn {
                    self.laps.remove(&(lap.driver_number, lap.lap_number));
                } else {
                    self.laps.insert((lap.driver_number, lap.lap_number), lap);
                }
            }
        }
        *count += 1;
        self.facts += 1;
        Ok(())
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{} facts", self.facts)?;
        for kind in DECODED {
            writeln!(out, "{} {kind}", self.counts.get(kind).unwrap_or(&0))?;
        }
        writeln!(out, "{} of them corrections", self.corrections)?;
        let timed = self.laps.values().filter(|lap| !lap.is_deleted).filter_map(|lap| Some((lap.lap_ms?, lap)));
        match timed.min_by_key(|(lap_ms, _)| *lap_ms) {
            Some((lap_ms, lap)) => writeln!(out, "fastest lap: car {}, lap {}, {lap_ms} ms", lap.driver_number, lap.lap_number),
            None => Ok(()),
        }
    }
}
