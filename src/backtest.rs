//! `pitwall backtest`: session archives through the whole graph, facts into a folder.

use std::cmp::Reverse;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use indicatif::ProgressBar;
use pitwall_archive::archive::check_writable;
use pitwall_archive::facts::{FactsError, Format};
use pitwall_archive::run::{Findings, Manifest, Origin, RunWriter};
use pitwall_archive::summary::Summary;
use pitwall_engine::backtest::{self, Sink};
use pitwall_engine::session::{Output, Session};

use crate::settings::{Override, Settings};
use crate::{progress, report, source};

/// Derive every fact of one or more sessions.
///
/// Reads each ARCHIVE through the whole operator graph and leaves a folder: facts/ with a file for each kind, keyframes.avro to look
/// back from, and last of all manifest.json with the hashes of graph, input and facts. Several archives run side by side, each into a
/// folder of its own under DIR. What an earlier run left in such a folder is replaced.
///
/// Of a damaged archive the whole blocks are used: the run is complete up to there, its manifest says so, and the command fails.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pitwall backtest dutch.avro --out race
  pitwall backtest *.avro --jobs 4 --out season --format parquet

Afterwards: pitwall state race --at lap:30, pitwall explain FACT_ID race, pitwall verify race, pitwall compare race other")]
pub(crate) struct Arguments {
    /// Session archives, as `pitwall import` makes them.
    #[arg(required = true, value_name = "ARCHIVE")]
    archives: Vec<PathBuf>,
    /// Sessions at a time, a thread each; changes no result [default: setting backtest.jobs, 1].
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    /// Where the facts go.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// How facts are written: avro, jsonl (JSON lines) or parquet [default: setting backtest.format, avro].
    #[arg(long)]
    format: Option<Format>,
    /// Samples handed over at a time; changes memory, never a result [default: setting backtest.batch, 8192].
    #[arg(long, value_name = "N")]
    batch: Option<NonZeroUsize>,
    /// One line for each session, without the summary.
    #[arg(long, short)]
    quiet: bool,
}

impl Arguments {
    pub(crate) fn overrides(&self) -> Vec<Override> {
        let flags = [
            Override::of("backtest.jobs", "--jobs", self.jobs),
            Override::of("backtest.format", "--format", self.format),
            Override::of("backtest.batch", "--batch", self.batch),
        ];
        flags.into_iter().flatten().collect()
    }
}

/// One session's run.
struct Done {
    manifest: Manifest,
    summary: Summary,
}

pub(crate) fn run(arguments: &Arguments, settings: &Settings, out: &mut impl Write) -> Result<()> {
    let mut folders = Vec::new();
    for archive in &arguments.archives {
        folders.push((archive.clone(), folder_for(arguments, archive)?));
    }
    check_writable(&arguments.out)?;
    // The largest first, so that none is left alone at the end.
    let mut by_size: Vec<usize> = (0..folders.len()).collect();
    by_size.sort_by_key(|&index| Reverse(std::fs::metadata(&folders[index].0).map_or(0, |metadata| metadata.len())));
    let progress = progress::bar(0, "samples").with_message("backtest");
    let items = by_size.iter().map(|&index| folders[index].clone()).collect();
    let results = backtest::run_jobs(items, settings.backtest.jobs, |(archive, folder): (PathBuf, PathBuf)| {
        one(&archive, &folder, settings, &progress)
    });
    progress.finish_and_clear();
    let mut ordered: Vec<(usize, Result<Done>)> = by_size.into_iter().zip(results).collect();
    ordered.sort_by_key(|(index, _)| *index);

    let mut failures = Vec::new();
    for (index, result) in ordered {
        let folder = &folders[index].1;
        match result {
            Err(error) => failures.push(error),
            Ok(Done { manifest, summary }) => {
                write_line(folder, &manifest, out)?;
                if !arguments.quiet {
                    report::write(&manifest, &summary, out)?;
                }
                if let Some(reason) = manifest.incomplete {
                    failures.push(anyhow!("{reason}. The facts up to there are in {}", folder.display()));
                }
            }
        }
    }
    match failures.len() {
        0 => Ok(()),
        1 => Err(failures.remove(0)),
        count => {
            let reasons: Vec<String> = failures.iter().map(|error| format!("{error:#}")).collect();
            bail!("{count} of {} sessions failed: {}", folders.len(), reasons.join("; "))
        }
    }
}

fn write_line(folder: &Path, manifest: &Manifest, out: &mut impl Write) -> std::io::Result<()> {
    writeln!(
        out,
        "{}: session {}, {} samples, {} facts, {} dead letters, {:.0} samples/s, facts hash {}",
        folder.display(),
        manifest.session_key,
        manifest.samples,
        manifest.facts,
        manifest.dead_letters,
        manifest.samples_per_second,
        manifest.facts_hash
    )
}

fn folder_for(arguments: &Arguments, archive: &Path) -> Result<PathBuf> {
    if arguments.archives.len() == 1 {
        return Ok(arguments.out.clone());
    }
    let stem = archive.file_stem().with_context(|| format!("{}: not a file name", archive.display()))?;
    let folder = arguments.out.join(stem);
    if arguments.archives.iter().filter(|other| other.file_stem() == Some(stem)).count() > 1 {
        bail!("two archives are named {}: their facts would go to one folder; rename one", stem.display());
    }
    Ok(folder)
}

/// A run folder that also moves the progress bar and sums up.
struct Watched<'a> {
    run: RunWriter,
    summary: Summary,
    progress: &'a ProgressBar,
    samples: u64,
}

impl Sink for Watched<'_> {
    type Error = FactsError;

    fn take(&mut self, output: &Output, samples: u64) -> Result<(), FactsError> {
        self.progress.inc(samples - self.samples);
        self.samples = samples;
        self.summary.take(&output.facts);
        self.run.take(output, samples)
    }
}

fn one(path: &Path, folder: &Path, settings: &Settings, progress: &ProgressBar) -> Result<Done> {
    let begun = Instant::now();
    let mut archive = source::open_archive(path)?;
    progress.inc_length(archive.samples());
    let session_key = archive.session_key();
    let graph = source::graph_of(&archive, 0, &settings.limits);
    let origin = Origin {
        binary: concat!("pitwall ", env!("CARGO_PKG_VERSION")).to_owned(),
        archive: path.to_owned(),
        source_id: archive.source_id().to_string(),
        session_key,
        graph_hash: graph.hash().to_string(),
    };
    let operators = graph.description().to_vec();
    let run = RunWriter::create(folder, graph.kinds(), settings.backtest.format)?;
    let mut session = Session::new(session_key, graph, settings.limits.clone());
    let mut sink = Watched { run, summary: Summary::default(), progress, samples: 0 };
    let (outcome, incomplete) = pitwall_archive::backtest::run(&mut archive, &mut session, &mut sink, settings.backtest.batch)?;
    let findings = Findings {
        samples_per_second: outcome.samples as f64 / begun.elapsed().as_secs_f64(),
        clock: sink.summary.clock.clone(),
        limits: settings.limits.clone(),
        operators,
        incomplete: incomplete.map(|reason| reason.to_string()),
    };
    if outcome.dead_letters > 0 {
        tracing::warn!(archive = %path.display(), dead_letters = outcome.dead_letters, "input was refused: see dead_letters.jsonl");
    }
    let manifest = sink.run.finish(origin, &outcome, findings)?;
    Ok(Done { manifest, summary: sink.summary })
}
