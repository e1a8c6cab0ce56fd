//! `pitwall explain`: the raw samples behind a fact.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use clap::Args;
use pitwall_archive::ledger::{self, LedgerLine, LineOrigin};
use pitwall_edge::message::SessionName;
use pitwall_edge::reader::Cause;
use pitwall_schemas::facts::FactBody;
use pitwall_schemas::shared::FactHeader;
use serde_json::{Map, Value, json};

use crate::format::Format;
use crate::logged::LoggedSession;
use crate::server::Server;
use crate::settings::Settings;
use crate::source::{self, From};

/// Show the raw samples behind a fact.
///
/// Prints the fact and every ledger record that it names as its cause, with the document that OpenF1 sent, when it arrived and which line
/// of the archive it is. Fact ids stand in fact files, in what `compare` prints and in the server's answers.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pitwall explain 9920-0-4711 race
  pitwall explain 9920-0-4711 dutch.avro --format json
  pitwall explain 9920-0-4711 pitwall-data
  pitwall explain 9920-0-4711 --server http://localhost:8080")]
pub(crate) struct Arguments {
    /// The fact, {session}-{epoch}-{fact_seq}.
    fact_id: FactId,
    #[command(flatten)]
    from: From,
    /// For reading, or JSON as the server answers it.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// A fact's name: `{session}-{epoch}-{fact_seq}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FactId {
    session_key: i32,
    epoch: i32,
    fact_seq: u64,
}

impl fmt::Display for FactId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}-{}", self.session_key, self.epoch, self.fact_seq)
    }
}

impl FromStr for FactId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
            let mut parts = text.splitn(3, '-');
            let mut next = || parts.next().filter(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
            Some(Self { session_key: next()?.parse().ok()?, epoch: next()?.parse().ok()?, fact_seq: next()?.parse().ok()? })
        };
        read().ok_or_else(|| "a fact id is {session}-{epoch}-{fact_seq}, such as 9920-0-4711".to_owned())
    }
}

pub(crate) fn run(arguments: &Arguments, settings: &Settings, out: &mut impl Write) -> Result<()> {
    let explained = match arguments.from.server()? {
        Some(server) => of_server(&server, arguments.fact_id)?,
        None => match arguments.from.logged_as(SessionName::Key(arguments.fact_id.session_key), settings)? {
            Some(logged) => of_log(&logged, arguments)?,
            None => of_files(arguments, settings)?,
        },
    };
    match arguments.format {
        Format::Text => write_text(&explained, out)?,
        Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(&explained)?)?,
    }
    Ok(())
}

fn of_server(server: &Server, fact_id: FactId) -> Result<Value> {
    server.get(&format!("sessions/{}/facts/{fact_id}", fact_id.session_key), &[])
}

fn of_log(logged: &LoggedSession, arguments: &Arguments) -> Result<Value> {
    let fact_id = arguments.fact_id;
    let named = || arguments.from.name();
    if fact_id.epoch > logged.epoch() {
        bail!("{}: this is session {}, epoch {}: it holds no fact {fact_id}", named(), logged.session_key(), logged.epoch());
    }
    let Some(fact) = logged.explain(fact_id.epoch, fact_id.fact_seq).with_context(named)? else {
        bail!("{}: there is no fact {fact_id}: the last one of epoch {} is {}", named(), logged.epoch(), logged.last_fact_seq());
    };
    explained(fact_id, fact.kind, &fact.header, &fact.body, fact.causes.iter().map(Cause::to_json))
}

fn of_files(arguments: &Arguments, settings: &Settings) -> Result<Value> {
    let fact_id = arguments.fact_id;
    let mut source = source::open(&arguments.from, &settings.limits)?;
    let named = || arguments.from.name();
    if (source.session_key, source.epoch) != (fact_id.session_key, fact_id.epoch) {
        bail!("{}: this is session {}, epoch {}: it holds no fact {fact_id}", named(), source.session_key, source.epoch);
    }
    if !source.is_of_this_graph {
        bail!("{}: the run is of other operators than this program's, which number facts otherwise: run the backtest again", named());
    }
    let mut replay = source.recording.from_newest(|head| head.next_fact_seq <= fact_id.fact_seq);
    let mut found = None;
    replay
        .run(None, |_, output| {
            let fact = output.facts.iter().find(|fact| fact.fact_seq == fact_id.fact_seq);
            found = fact.map(|fact| {
                let (header, mut body) = fact.header().expect("the graph has just encoded it");
                (fact.kind.name, header, FactBody::decode(fact.kind.name, &mut body).expect("published kinds have a body"))
            });
            if found.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .with_context(named)?;
    let Some((kind, header, body)) = found else {
        bail!("{}: there is no fact {fact_id}: the last one is {}", named(), replay.session().graph().next_fact_seq().saturating_sub(1));
    };
    let causes: BTreeSet<u64> = header.causes.iter().map(|&seq| seq as u64).collect();
    let lines = ledger::find(source.recording.archive(), &causes).with_context(named)?;
    explained(fact_id, kind, &header, &body?, lines.iter().map(cause))
}

/// A fact and its causes as the protocol writes them, with all that stands in the fact's header.
fn explained(fact_id: FactId, kind: &str, header: &FactHeader, body: &FactBody, causes: impl Iterator<Item = Value>) -> Result<Value> {
    let mut fact = Map::new();
    fact.insert("fact_id".to_owned(), fact_id.to_string().into());
    for part in [serde_json::to_value(header)?, serde_json::to_value(body)?] {
        fact.extend(part.as_object().cloned().into_iter().flatten());
    }
    Ok(json!({"channel": kind, "fact": fact, "causes": causes.collect::<Vec<_>>()}))
}

/// A cause as the protocol writes it.
fn cause(line: &LedgerLine) -> Value {
    let mut cause = json!({
        "seq": line.seq, "kind": "TICK", "known_at": line.known_at,
        "collection": null, "partition": -1, "offset": -1, "ingest_seq": -1, "document": null,
    });
    match &line.origin {
        LineOrigin::Tick => {}
        LineOrigin::Closing => cause["kind"] = "IDLE".into(),
        LineOrigin::Sample { collection, received_at, line, sample } => {
            cause["kind"] = "SAMPLE".into();
            cause["collection"] = (*collection).into();
            cause["received_at"] = received_at.to_string().into();
            cause["partition"] = 0.into();
            cause["offset"] = (*line).into();
            cause["ingest_seq"] = (*line).into();
            cause["document"] = sample.as_ref().map_or_else(|refusal| json!({"refused": refusal.to_string()}), |sample| json!(sample));
        }
    }
    cause
}

fn write_text(explained: &Value, out: &mut impl Write) -> io::Result<()> {
    let fact = &explained["fact"];
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    writeln!(
        out,
        "fact {} {}, known at {}, happened at {}",
        text(&fact["fact_id"]),
        text(&explained["channel"]),
        text(&fact["known_at"]),
        text(&fact["event_time"])
    )?;
    let told = ["fact_id", "known_at", "event_time", "causes", "session_key", "epoch", "fact_seq", "kind_seq"];
    write_fields(fact, &told, out)?;
    let none = Vec::new();
    let causes = explained["causes"].as_array().unwrap_or(&none);
    writeln!(out, "\nfollows from {} ledger record{}:", causes.len(), if causes.len() == 1 { "" } else { "s" })?;
    for cause in causes {
        let what = if cause["collection"].is_null() { text(&cause["kind"]).to_lowercase() } else { text(&cause["collection"]) };
        write!(out, "\nseq:{} {what}, known at {}", cause["seq"], text(&cause["known_at"]))?;
        if cause["document"].is_null() {
            writeln!(out)?;
        } else {
            writeln!(out, ", sample {}", cause["ingest_seq"])?;
            write_fields(&cause["document"], &[], out)?;
        }
    }
    Ok(())
}

/// The fields of an object, one a line; nulls and those told already are left out.
fn write_fields(object: &Value, told: &[&str], out: &mut impl Write) -> io::Result<()> {
    let fields = object.as_object().into_iter().flatten();
    for (name, value) in fields.filter(|(name, value)| !value.is_null() && !told.contains(&name.as_str())) {
        match value {
            Value::String(text) => writeln!(out, "  {name:<24}{text}")?,
            Value::Array(rows) if rows.iter().any(Value::is_object) => {
                writeln!(out, "  {name}")?;
                for row in rows {
                    writeln!(out, "    {}", one_row(row))?;
                }
            }
            other => writeln!(out, "  {name:<24}{other}")?,
        }
    }
    Ok(())
}

/// An object on one line; nulls are left out.
fn one_row(row: &Value) -> String {
    let fields = row.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    let fields = fields.map(|(name, value)| value.as_str().map_or_else(|| format!("{name} {value}"), |text| format!("{name} {text}")));
    fields.collect::<Vec<_>>().join("  ")
}
