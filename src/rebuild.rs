//! `pitwall rebuild`: sessions that other operators derived, derived anew.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use pitwall_embedded::data::DataDirectory;
use pitwall_embedded::sink::Sink;
use pitwall_engine::commit::Engine;

use crate::logged;
use crate::settings::{Override, Settings};

/// Derive sessions anew that other operators derived.
///
/// The whole ledger of a session is replayed through this program's operators, and all facts of the next epoch become visible at once;
/// those of the epochs before stay readable. A session that these operators derived already is left as it is. A session that goes on is
/// derived anew when it is started, so this is for finished ones.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pitwall rebuild
  pitwall rebuild 9920 --data-dir pitwall-data
  pitwall compare pitwall-data --epochs 0 1             what that has changed")]
pub(crate) struct Arguments {
    /// The sessions, by number [default: all].
    #[arg(value_name = "SESSION")]
    sessions: Vec<i32>,
    /// A data directory that no process uses [default: setting live.directory, pitwall-data].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl Arguments {
    pub(crate) fn overrides(&self) -> Vec<Override> {
        Override::of("live.directory", "--data-dir", self.data_dir.as_ref()).into_iter().collect()
    }
}

pub(crate) fn run(arguments: &Arguments, settings: &Settings, out: &mut impl Write) -> Result<()> {
    let directory = &settings.live.directory;
    if !DataDirectory::is_one(directory) {
        bail!("{}: this is no data directory: name one with --data-dir", directory.display());
    }
    let kinds = pitwall_operators::graph(&settings.limits)?.kinds().to_vec();
    let data = DataDirectory::open(directory, &kinds, settings.data.clone())?;
    let catalogue = data.log.catalogue()?;
    let held: Vec<i32> = catalogue.iter().map(|session| session.session_key).collect();
    if let Some(missing) = arguments.sessions.iter().find(|session| !held.contains(session)) {
        bail!("{}: there is no session {missing}; there are {held:?}", directory.display());
    }
    for session in catalogue.iter().filter(|session| arguments.sessions.is_empty() || arguments.sessions.contains(&session.session_key)) {
        let (session_key, before) = (session.session_key, session.head);
        let quality = logged::quality(&data.log, session_key, before.epoch)?;
        let limits = settings.limits.clone();
        let graph = move || {
            let graph = pitwall_operators::graph(&limits).expect("a test builds the graph, so a released one is built");
            graph.for_session(session_key, 0, quality)
        };
        let engine = Engine::start(data.log.clone(), session_key, graph, settings.limits.clone())?;
        let head = engine.head().context("a catalogued session has a commit")?;
        if head.epoch == before.epoch {
            writeln!(out, "session {session_key}: epoch {} is of these operators already", head.epoch)?;
        } else {
            let (epoch, facts, hash) = (head.epoch, head.next_fact_seq, head.facts_hash);
            writeln!(out, "session {session_key}: epoch {} -> {epoch}, {facts} facts, facts hash {hash}", before.epoch)?;
        }
    }
    // What readers ask for by key is stored before this ends.
    Sink::start(data.log, data.store)?.flush();
    Ok(())
}
