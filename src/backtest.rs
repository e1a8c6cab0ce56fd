//! `pitwall backtest`: session archives through the whole graph, facts into a folder.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;
use indicatif::ProgressBar;
use pitwall_archive::archive::Archive;
use pitwall_archive::facts::{FactsError, Format};
use pitwall_archive::run::{Findings, Manifest, Origin, RunWriter};
use pitwall_engine::backtest::{self, Sink};
use pitwall_engine::limits::Limits;
use pitwall_engine::session::{Output, Session};

use crate::progress;

/// Derive every fact of one or more sessions.
///
/// Reads each ARCHIVE through the whole operator graph and leaves a folder of facts, keyframes and a manifest with the hashes of
/// graph, input and facts. Several archives run side by side, each into a folder of its own under DIR.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Session archives, as `pitwall import` makes them.
    #[arg(required = true)]
    archives: Vec<PathBuf>,
    /// Sessions at a time.
    #[arg(long, value_name = "N", default_value = "1")]
    jobs: NonZeroUsize,
    /// Where the facts go.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// How facts are written: avro, jsonl or parquet.
    #[arg(long, default_value = "avro")]
    format: Format,
    /// Samples handed over at a time; changes memory, never a result.
    #[arg(long, value_name = "N", default_value = "8192", hide = true)]
    batch: NonZeroUsize,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let mut folders = Vec::new();
    for archive in &arguments.archives {
        folders.push((archive.clone(), folder_for(arguments, archive)?));
    }
    let mut by_size: Vec<usize> = (0..folders.len()).collect();
    by_size.sort_by_key(|&index| std::cmp::Reverse(std::fs::metadata(&folders[index].0).map_or(0, |metadata| metadata.len())));
    let progress = progress::bar(0, "samples").with_message("backtest");
    let items = by_size.iter().map(|&index| folders[index].clone()).collect();
    let results =
        backtest::run_jobs(items, arguments.jobs, |(archive, folder): (PathBuf, PathBuf)| one(&archive, &folder, arguments, &progress));
    progress.finish_and_clear();
    let mut ordered: Vec<(usize, Result<Manifest>)> = by_size.into_iter().zip(results).collect();
    ordered.sort_by_key(|(index, _)| *index);
    let mut failure = None;
    for (index, result) in ordered {
        match result {
            Ok(manifest) => println!(
                "{}: {} samples, {} facts, {:.0} samples/s, facts hash {}",
                folders[index].0.display(),
                manifest.samples,
                manifest.facts,
                manifest.samples_per_second,
                manifest.facts_hash
            ),
            Err(error) => {
                if let Some(earlier) = failure.replace(error) {
                    eprintln!("pitwall: {earlier:#}");
                }
            }
        }
    }
    failure.map_or(Ok(()), Err)
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

/// A run folder that also moves the progress bar.
struct Watched<'a> {
    run: RunWriter,
    progress: &'a ProgressBar,
    samples: u64,
}

impl Sink for Watched<'_> {
    type Error = FactsError;

    fn take(&mut self, output: &Output, samples: u64) -> Result<(), FactsError> {
        self.progress.inc(samples - self.samples);
        self.samples = samples;
        self.run.take(output, samples)
    }
}

fn one(path: &Path, folder: &Path, arguments: &Arguments, progress: &ProgressBar) -> Result<Manifest> {
    let begun = Instant::now();
    let mut archive = Archive::open(path)?;
    progress.inc_length(archive.samples());
    let limits = Limits::default();
    let session_key = archive.session_key();
    let graph = pitwall_operators::graph(&limits)?.for_session(session_key, 0, archive.quality());
    let origin = Origin {
        binary: concat!("pitwall ", env!("CARGO_PKG_VERSION")).to_owned(),
        archive: path.to_owned(),
        source_id: archive.source_id().to_string(),
        session_key,
        graph_hash: graph.hash().to_string(),
    };
    let run = RunWriter::create(folder, graph.kinds(), arguments.format)?;
    let mut session = Session::new(session_key, graph, limits);
    let mut sink = Watched { run, progress, samples: 0 };
    let outcome = backtest::run(&mut archive, &mut session, &mut sink, arguments.batch)?;
    let findings = Findings { samples_per_second: outcome.samples as f64 / begun.elapsed().as_secs_f64(), ..Findings::default() };
    Ok(sink.run.finish(origin, &outcome, findings)?)
}
