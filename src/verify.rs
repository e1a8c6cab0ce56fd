//! `pitwall verify`: the same input again, in other ways, must come to the same facts.

use std::io::Write;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use indicatif::ProgressBar;
use pitwall_archive::run::Run;
use pitwall_archive::verify::{self, Again, Check, Rerun, RerunError};
use pitwall_engine::backtest::run_jobs;
use pitwall_engine::limits::Limits;
use pitwall_engine::session::Session;
use pitwall_schemas::log::Keyframe;
use serde_json::Value;

use crate::progress;
use crate::server::Server;
use crate::settings::{Override, Settings};
use crate::source::{self, From};

/// Batch sizes it is run again with, besides the setting's: single samples, a number that divides nothing, and nearly everything at once.
const BATCHES: [usize; 3] = [1, 997, 1 << 20];

/// Prove that a session comes out the same every time.
///
/// Replays the archive from its start with several batch sizes and from several keyframes, and holds each result's facts hash against the
/// run's. Of a backtest's folder the fact files, the keyframes and the archive are checked as well; of a data directory the ledger is
/// replayed and the facts in the log are checked. Anything that does not hold is named, and the command fails.
#[derive(Debug, Args)]
#[command(after_help = "Exit status: 0 everything holds, 1 something does not or could not be checked.

Examples:
  pitwall verify race
  pitwall verify race --jobs 4 --restarts 20
  pitwall verify dutch.avro
  pitwall verify pitwall-data
  pitwall verify --server http://localhost:8080 --session 9920")]
pub(crate) struct Arguments {
    #[command(flatten)]
    from: From,
    /// Session of the server or data directory: a number or `latest` [default: latest].
    #[arg(long, value_name = "KEY")]
    session: Option<String>,
    /// Replays at a time, a thread each; changes no result [default: setting backtest.jobs, 1].
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    /// Keyframes to take the session up from, spread over the whole of it.
    #[arg(long, value_name = "N", default_value_t = 5)]
    restarts: usize,
}

impl Arguments {
    pub(crate) fn overrides(&self) -> Vec<Override> {
        Override::of("backtest.jobs", "--jobs", self.jobs).into_iter().collect()
    }
}

pub(crate) fn run(arguments: &Arguments, settings: &Settings, out: &mut impl Write) -> Result<()> {
    let checks = match arguments.from.server()? {
        Some(server) => of_server(&server, arguments.session.as_deref().unwrap_or("latest"))?,
        None => match arguments.from.logged(arguments.session.as_deref(), settings)? {
            Some(mut logged) => logged.verify(arguments.restarts).with_context(|| arguments.from.name())?,
            None => of_files(arguments, settings)?,
        },
    };
    for check in &checks {
        writeln!(out, "{} {:<34}{}", if check.holds { "holds" } else { "FAILS" }, check.name, check.found)?;
    }
    match checks.iter().filter(|check| !check.holds).count() {
        0 => Ok(()),
        failed => {
            let first = checks.iter().find(|check| !check.holds).expect("there is one");
            bail!("{failed} of {} checks fail: {}: {}", checks.len(), first.name, first.found)
        }
    }
}

fn of_server(server: &Server, session: &str) -> Result<Vec<Check>> {
    let answer = server.get(&format!("sessions/{session}/verify"), &[])?;
    let text =
        |name: &str| answer.get(name).and_then(Value::as_str).map(str::to_owned).with_context(|| format!("the server names no {name}"));
    let mut check = Check::same("the server's ledger, replayed", &text("facts_hash")?, &text("recomputed_hash")?);
    // The server may know of a reason that the two hashes do not show.
    check.holds &= answer.get("holds").and_then(Value::as_bool).unwrap_or(false);
    Ok(vec![check])
}

fn of_files(arguments: &Arguments, settings: &Settings) -> Result<Vec<Check>> {
    let path = arguments.from.path();
    if path.is_dir() {
        let run = Run::open(path)?;
        let archive = source::find_archive(path, &run, arguments.from.archive.as_deref())?;
        let limits = run.manifest().limits.clone();
        return Verification { archive, limits, settings, restarts: arguments.restarts }.of_run(&run);
    }
    Verification { archive: path.to_owned(), limits: settings.limits.clone(), settings, restarts: arguments.restarts }.of_archive()
}

/// What is verified and how.
struct Verification<'a> {
    archive: PathBuf,
    limits: Limits,
    settings: &'a Settings,
    restarts: usize,
}

impl Verification<'_> {
    fn of_run(&self, run: &Run) -> Result<Vec<Check>> {
        let manifest = run.manifest();
        let archive = source::open_archive(&self.archive)?;
        let graph = source::graph_of(&archive, manifest.epoch, &self.limits);
        let mut checks =
            vec![Check::same("archive", &manifest.source_id, &archive.source_id().to_string()), verify::check_graph(run, &graph)];
        if checks.iter().any(|check| !check.holds) {
            // Nothing else could hold, and it would not be this that is wrong with it.
            return Ok(checks);
        }
        checks.extend(verify::check_files(run, &graph));
        let progress = self.progress(archive.samples());
        let first = self.rerun(self.settings.backtest.batch, None, &progress)?;
        checks.push(Check::same("input hash", &manifest.input_hash, &first.outcome.input_hash.to_string()));
        checks.push(Check::same("facts hash, replayed", &manifest.facts_hash, &first.outcome.facts_hash.to_string()));
        checks.push(Check::same("facts", &manifest.facts.to_string(), &first.outcome.facts.to_string()));
        let can_restore = |keyframe: &Keyframe| {
            let graph = source::graph_of(&archive, manifest.epoch, &self.limits);
            Session::restore(archive.session_key(), graph, self.limits.clone(), keyframe).is_ok()
        };
        let keyframes = match run.keyframes() {
            Ok(stored) => {
                let (check, whole) = verify::check_keyframes(stored, &first.keyframes, can_restore);
                checks.push(check);
                whole
            }
            Err(error) => {
                checks.push(Check { name: "keyframes".to_owned(), holds: false, found: error.to_string() });
                Vec::new()
            }
        };
        checks.extend(self.again(&first, &keyframes, &progress));
        progress.finish_and_clear();
        Ok(checks)
    }

    fn of_archive(&self) -> Result<Vec<Check>> {
        let progress = self.progress(source::open_archive(&self.archive)?.samples());
        let first = self.rerun(self.settings.backtest.batch, None, &progress)?;
        let mut checks = Vec::new();
        if let Some(reason) = &first.incomplete {
            checks.push(Check { name: "archive".to_owned(), holds: false, found: reason.clone() });
        }
        checks.extend(self.again(&first, &first.keyframes, &progress));
        progress.finish_and_clear();
        Ok(checks)
    }

    fn progress(&self, samples: u64) -> ProgressBar {
        progress::bar(samples * (1 + BATCHES.len() as u64), "samples").with_message("verify")
    }

    fn rerun(&self, batch: NonZeroUsize, from: Option<Keyframe>, progress: &ProgressBar) -> Result<Rerun, RerunError> {
        let again = Again { archive: self.archive.clone(), limits: self.limits.clone(), batch, from };
        verify::rerun(&again, |archive| source::graph_of(archive, 0, &self.limits), |samples| progress.inc(samples))
    }

    /// Everything again with other batch sizes, and from keyframes; `first` is what must come out.
    fn again(&self, first: &Rerun, keyframes: &[Keyframe], progress: &ProgressBar) -> Vec<Check> {
        let mut ways: Vec<(String, NonZeroUsize, Option<Keyframe>)> =
            BATCHES.into_iter().filter_map(NonZeroUsize::new).map(|batch| (format!("batches of {batch}"), batch, None)).collect();
        for keyframe in verify::spread(keyframes, self.restarts) {
            ways.push((format!("restart after seq:{}", keyframe.seq), self.settings.backtest.batch, Some(keyframe)));
        }
        run_jobs(ways, self.settings.backtest.jobs, |(name, batch, from)| {
            verify::check_rerun(name, &self.rerun(batch, from, progress), &first.outcome)
        })
    }
}
