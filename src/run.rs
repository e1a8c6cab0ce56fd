//! `pitwall run`: the roles of a deployment on Kafka, each in as many processes as wanted.

use std::io::Write;
use std::net::SocketAddr;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, Result, anyhow};
use clap::{Args, ValueEnum};

use crate::kafka;
use crate::migrate;
use crate::monitor::Monitor;
use crate::settings::{Override, Settings};

mod edge;
mod engine;
mod ingest;
mod sink;

/// Run roles of a deployment on Kafka until told to stop.
///
/// Each role scales by starting one more process with it: a group shares its partitions out anew, and a process that dies is taken over
/// by the others within kafka.session_timeout_ms. Ctrl-C and SIGTERM commit what has been taken and leave the groups. A role that fails
/// ends the process with its error.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pitwall topics create && pitwall run --roles engine
  pitwall run --roles engine --monitor 127.0.0.1:9100
  pitwall migrate && pitwall run --roles engine,sink
  PITWALL_INGEST__ARCHIVES=dutch.avro pitwall run --roles ingest,engine,edge
  pitwall run --roles edge --listen 0.0.0.0:8080")]
pub(crate) struct Arguments {
    /// What this process does.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "engine")]
    roles: Vec<Role>,
    /// Address that an edge serves on; port 0 takes any free one [default: setting edge.listen, 127.0.0.1:8080].
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<SocketAddr>,
    /// Address that serves this process's metrics at /metrics; port 0 takes any free one. An edge has them at its own address too.
    #[arg(long, value_name = "HOST:PORT")]
    monitor: Option<SocketAddr>,
    #[command(flatten)]
    kafka: kafka::Flags,
    #[command(flatten)]
    store: migrate::CqlFlags,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Role {
    /// Feed the archives that ingest.archives names into raw topics, at ingest.speed. What topics have already is left out.
    Ingest,
    /// Derive facts from raw records: a thread for each partition that the group gives to this process.
    Engine,
    /// Store committed facts on a CQL server. While that cannot be reached they wait in the log.
    Sink,
    /// Serve dashboard, REST and WebSocket from what engines commit. A new edge reads the log from its beginning and is ready then.
    Edge,
}

impl Role {
    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Makes everything ready, so that what is wrong is said before anything runs.
    fn prepare(self, settings: &Settings) -> Result<Prepared> {
        match self {
            Self::Ingest => ingest::prepare(settings),
            Self::Engine => engine::prepare(settings),
            Self::Sink => sink::prepare(settings),
            Self::Edge => edge::prepare(settings),
        }
    }
}

/// A role that is ready to run.
struct Prepared {
    /// What is said of it when all are ready; nothing for what its name says already.
    notice: Option<String>,
    run: Run,
}

/// Runs until the flag is set; then it finishes what it has begun.
type Run = Box<dyn FnOnce(&AtomicBool) -> Result<()> + Send>;

impl Arguments {
    pub(crate) fn overrides(&self) -> Vec<Override> {
        let mut overrides = self.kafka.overrides();
        overrides.extend(self.store.overrides());
        overrides.extend(Override::of("edge.listen", "--listen", self.listen));
        overrides
    }
}

pub(crate) fn run(arguments: &Arguments, settings: &Settings, out: &mut impl Write) -> Result<()> {
    let mut roles = arguments.roles.clone();
    roles.sort_unstable();
    roles.dedup();
    let is_stopping = Arc::new(AtomicBool::new(false));
    stop_on_signal(is_stopping.clone())?;
    let monitor = arguments.monitor.map(Monitor::bind).transpose()?;
    let prepare = |role: &Role| role.prepare(settings).map(|prepared| (role.name(), prepared));
    let prepared = roles.iter().map(prepare).collect::<Result<Vec<_>>>()?;
    pitwall_kafka::metrics::describe();
    pitwall_scylla::metrics::describe();
    let names: Vec<&str> = prepared.iter().map(|(name, _)| name.as_str()).collect();
    writeln!(out, "PitWall: {} on Kafka at {}", names.join(", "), settings.kafka.brokers.join(","))?;
    for notice in prepared.iter().filter_map(|(_, prepared)| prepared.notice.as_ref()) {
        writeln!(out, "{notice}")?;
    }
    if let Some(monitor) = monitor {
        writeln!(out, "metrics at http://{}/metrics", monitor.address())?;
        monitor.serve()?;
    }
    out.flush()?;
    run_all(prepared, &is_stopping)
}

/// Runs every role on a thread of its own until the flag is set. The first that ends stops the others; the first error is returned.
fn run_all(prepared: Vec<(String, Prepared)>, is_stopping: &AtomicBool) -> Result<()> {
    thread::scope(|scope| {
        let start = |(name, Prepared { run, .. }): (String, Prepared)| {
            let spawned = thread::Builder::new().name(name.clone()).spawn_scoped(scope, move || {
                let _stop_others = Stop(is_stopping);
                run(is_stopping).with_context(|| format!("the role {name}"))
            });
            spawned.map_err(|error| {
                is_stopping.store(true, Ordering::Relaxed);
                anyhow!(error).context("a role's thread cannot be started")
            })
        };
        let threads: Vec<_> = prepared.into_iter().map(start).collect();
        let ends = threads.into_iter().map(|thread| thread.and_then(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic))));
        ends.fold(Ok(()), Result::and)
    })
}

/// Sets the flag when its role ends, however that happens.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn role(name: &str, run: impl FnOnce(&AtomicBool) -> Result<()> + Send + 'static) -> (String, Prepared) {
        (name.to_owned(), Prepared { notice: None, run: Box::new(run) })
    }

    fn until_told(is_stopping: &AtomicBool) -> Result<()> {
        while !is_stopping.load(Ordering::Relaxed) {
            thread::yield_now();
        }
        Ok(())
    }

    #[test]
    fn a_role_that_fails_stops_the_others_and_names_itself() {
        let roles = vec![role("sink", until_told), role("engine", |_| Err(anyhow!("topic gone"))), role("edge", until_told)];
        let error = run_all(roles, &AtomicBool::new(false)).unwrap_err();
        assert_eq!(format!("{error:#}"), "the role engine: topic gone");
    }

    #[test]
    fn all_roles_end_when_told() {
        let is_stopping = AtomicBool::new(false);
        let tell = |flag: &AtomicBool| {
            flag.store(true, Ordering::Relaxed);
            Ok(())
        };
        run_all(vec![role("engine", until_told), role("edge", tell)], &is_stopping).unwrap();
    }
}
