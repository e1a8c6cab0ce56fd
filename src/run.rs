//! `pitwall run`: the parts of a deployment on Kafka, each in as many processes as wanted.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, Result, anyhow};
use clap::{Args, ValueEnum};
use pitwall_engine::log::Committed;
use pitwall_kafka::engines;
use pitwall_schemas::log::SourceProgress;
use pitwall_schemas::shared::KnownAtQuality;

use crate::kafka;
use crate::settings::{Override, Settings};

/// Run parts of a deployment on Kafka until told to stop.
///
/// Start one more process to scale out: the group shares its partitions out anew, and a process that dies is taken over by the others
/// within kafka.session_timeout_ms. Ctrl-C and SIGTERM commit what has been taken and leave the group.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pitwall topics create && pitwall run --roles engine")]
pub(crate) struct Arguments {
    /// What this process does.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "engine")]
    roles: Vec<Role>,
    #[command(flatten)]
    kafka: kafka::Flags,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Role {
    /// Derive facts from raw records: a thread for each partition that the group gives to this process.
    Engine,
}

impl Arguments {
    pub(crate) fn overrides(&self) -> Vec<Override> {
        self.kafka.overrides()
    }
}

pub(crate) fn run(arguments: &Arguments, settings: &Settings, out: &mut impl Write) -> Result<()> {
    let log = kafka::open(settings)?;
    let is_stopping = Arc::new(AtomicBool::new(false));
    stop_on_signal(is_stopping.clone())?;
    let roles: Vec<String> = arguments.roles.iter().filter_map(|role| Some(role.to_possible_value()?.get_name().to_owned())).collect();
    writeln!(out, "PitWall: {} on Kafka at {}", roles.join(", "), settings.kafka.brokers.join(","))?;
    out.flush()?;
    let limits = settings.limits.clone();
    let for_graph = limits.clone();
    let graph = move |source: &SourceProgress| {
        let quality = if source.is_reconstructed { KnownAtQuality::Reconstructed } else { KnownAtQuality::Received };
        let graph = pitwall_operators::graph(&for_graph).expect("a test builds the graph, so a released one is built");
        graph.for_session(source.session_key, 0, quality)
    };
    let tell = |committed: &Committed<'_>| {
        let Committed { session_key, head, records, .. } = committed;
        tracing::debug!(session_key, records, last_seq = head.last_seq, facts = committed.facts.len(), "committed");
        if committed.halted.is_some() {
            tracing::error!(session_key, "the session's graph stands still; its ledger goes on");
        }
    };
    engines::run(log, &settings.kafka, limits, Arc::new(graph), Arc::new(tell), &is_stopping)?;
    Ok(())
}

/// Sets `is_stopping` at the first Ctrl-C or SIGTERM.
fn stop_on_signal(is_stopping: Arc<AtomicBool>) -> Result<()> {
    let signals = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let wait = move || {
        signals.block_on(async {
            let terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate());
            let Ok(mut terminated) = terminated else { return };
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminated.recv() => {}
            }
        });
        is_stopping.store(true, Ordering::Relaxed);
    };
    let thread = thread::Builder::new().name("signals".to_owned()).spawn(wait);
    thread.map(drop).map_err(|error| anyhow!(error)).context("the thread that waits for signals cannot be started")
}
