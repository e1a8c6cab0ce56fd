//! `pitwall rebuild`: sessions that other operators derived, derived anew.

use std::io::Write;

use anyhow::{Context, Result, bail};
use clap::Args;
use pitwall_embedded::sink::Sink;
use pitwall_engine::commit::Engine;
use pitwall_engine::log::Head;

use crate::deployment;
use crate::kafka;
use crate::logged;
use crate::settings::{Override, Settings};

/// Derive sessions anew that other operators derived.
///
/// The whole ledger of a session is replayed through this program's operators, and all facts of the next epoch become visible at once;
/// those of the epochs before stay readable. A session that these operators derived already is left as it is. A session that goes on is
/// derived anew when it is started, so this is for finished ones. On Kafka whoever has its partition gives it up for that long.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pitwall rebuild
  pitwall rebuild 9920 --data-dir pitwall-data
  pitwall rebuild --on-kafka
  pitwall compare pitwall-data --epochs 0 1             what that has changed")]
pub(crate) struct Arguments {
    /// The sessions, by number [default: all].
    #[arg(value_name = "SESSION")]
    sessions: Vec<i32>,
    #[command(flatten)]
    deployment: deployment::Flags,
}

impl Arguments {
    pub(crate) fn overrides(&self) -> Vec<Override> {
        self.deployment.overrides()
    }
}

impl Arguments {
    /// The sessions named, or all that are there.
    fn chosen(&self, mut there: Vec<i32>) -> Result<Vec<i32>> {
        if let Some(missing) = self.sessions.iter().find(|session| !there.contains(session)) {
            bail!("there is no session {missing}; there are {there:?}");
        }
        there.retain(|session| self.sessions.is_empty() || self.sessions.contains(session));
        Ok(there)
    }
}

pub(crate) fn run(arguments: &Arguments, settings: &Settings, out: &mut impl Write) -> Result<()> {
    if arguments.deployment.on_kafka { on_kafka(arguments, settings, out) } else { in_directory(arguments, settings, out) }
}

fn in_directory(arguments: &Arguments, settings: &Settings, out: &mut impl Write) -> Result<()> {
    let data = deployment::open(settings)?;
    let catalogue = data.log.catalogue()?;
    for session_key in arguments.chosen(catalogue.iter().map(|session| session.session_key).collect())? {
        let Some(before) = data.log.head(session_key)? else { continue };
        let quality = logged::quality(&data.log, session_key, before.epoch)?;
        let limits = settings.limits.clone();
        let graph = move || {
            let graph = pitwall_operators::graph(&limits).expect("a test builds the graph, so a released one is built");
            graph.for_session(session_key, 0, quality)
        };
        let engine = Engine::start(data.log.clone(), session_key, graph, settings.limits.clone())?;
        tell(session_key, before.epoch, engine.head(), out)?;
    }
    // What readers ask for by key is stored before this ends.
    Sink::start(data.log, data.store)?.flush();
    Ok(())
}

fn on_kafka(arguments: &Arguments, settings: &Settings, out: &mut impl Write) -> Result<()> {
    let log = kafka::open(settings)?;
    let mut sources = Vec::new();
    for partition in 0..settings.kafka.partitions {
        sources.extend(log.sources(partition)?);
    }
    for session_key in arguments.chosen(sources.iter().map(|source| source.session_key).collect())? {
        let Some(source) = sources.iter().find(|source| source.session_key == session_key) else { continue };
        let Some(before) = log.standing(session_key)? else { continue };
        let (graph, known) = (kafka::graph_of(&settings.limits), source.clone());
        let engine = Engine::start(log.clone(), session_key, move || graph(&known), settings.limits.clone())?;
        tell(session_key, before.epoch, engine.head(), out)?;
    }
    Ok(())
}

fn tell(session_key: i32, before: i32, head: Option<&Head>, out: &mut impl Write) -> Result<()> {
    let Head { epoch, next_fact_seq, facts_hash, .. } = head.context("a session that is there has a commit")?;
    if *epoch == before {
        writeln!(out, "session {session_key}: epoch {epoch} is of these operators already")?;
    } else {
        writeln!(out, "session {session_key}: epoch {before} -> {epoch}, {next_fact_seq} facts, facts hash {facts_hash}")?;
    }
    Ok(())
}
