//! `pitwall backtest`: session archives through the whole graph, facts into a folder.

use std::cmp::Reverse;
use std::ffi::OsString;
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
use pitwall_engine::backtest::{self, Outcome, Sink};
use pitwall_engine::graph::Graph;
use pitwall_engine::hash::Digest;
use pitwall_engine::session::{Output, Session};
use pitwall_kafka::log::KafkaLog;
use pitwall_schemas::raw::Sample;

use crate::settings::{Override, Settings};
use crate::{kafka, progress, report, source};

/// Derive every fact of one or more sessions.
///
/// Reads each ARCHIVE through the whole operator graph and leaves a folder: facts/ with a file for each kind, keyframes.avro to look
/// back from, and last of all manifest.json with the hashes of graph, input and facts. Several archives run side by side, each into a
/// folder of its own under DIR. What an earlier run left in such a folder is replaced.
///
/// With --from-topics the sessions' raw topics on Kafka are read instead, up to where they stand when the command begins. The same records
/// give the same facts.
///
/// Of a damaged archive the whole blocks are used: the run is complete up to there, its manifest says so, and the command fails.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pitwall backtest dutch.avro --out race
  pitwall backtest *.avro --jobs 4 --out season --format parquet
  pitwall backtest --from-topics 9920 --out race

Afterwards: pitwall state race --at lap:30, pitwall explain FACT_ID race, pitwall verify race, pitwall compare race other")]
pub(crate) struct Arguments {
    /// Session archives, as `pitwall import` makes them.
    #[arg(required_unless_present = "from_topics", value_name = "ARCHIVE")]
    archives: Vec<PathBuf>,
    /// Sessions in Kafka's raw topics, by number, instead of archives.
    #[arg(long, value_name = "SESSION", num_args = 1.., conflicts_with = "archives")]
    from_topics: Vec<i32>,
    #[command(flatten)]
    kafka: kafka::Flags,
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
        flags.into_iter().flatten().chain(self.kafka.overrides()).collect()
    }
}

/// What one session is read from.
#[derive(Debug, Clone)]
enum Input {
    Archive(PathBuf),
    Topics(i32),
}

impl Input {
    /// Name of its folder under `--out` when there are several.
    fn stem(&self) -> Result<OsString> {
        match self {
            Self::Archive(path) => Ok(path.file_stem().with_context(|| format!("{}: not a file name", path.display()))?.to_owned()),
            Self::Topics(session_key) => Ok(session_key.to_string().into()),
        }
    }

    /// How long it is, as far as that is known before it is opened.
    fn size(&self) -> u64 {
        match self {
            Self::Archive(path) => std::fs::metadata(path).map_or(0, |metadata| metadata.len()),
            Self::Topics(_) => 0,
        }
    }
}

/// One session's run.
struct Done {
    manifest: Manifest,
    summary: Summary,
}

pub(crate) fn run(arguments: &Arguments, settings: &Settings, out: &mut impl Write) -> Result<()> {
    let archives = arguments.archives.iter().cloned().map(Input::Archive);
    let inputs: Vec<Input> = archives.chain(arguments.from_topics.iter().copied().map(Input::Topics)).collect();
    let mut folders = Vec::new();
    for input in &inputs {
        folders.push((input.clone(), folder_for(&arguments.out, input, &inputs)?));
    }
    let log = if arguments.from_topics.is_empty() { None } else { Some(kafka::open(settings)?) };
    check_writable(&arguments.out)?;
    // The largest first, so that none is left alone at the end.
    let mut by_size: Vec<usize> = (0..folders.len()).collect();
    by_size.sort_by_key(|&index| Reverse(folders[index].0.size()));
    let progress = progress::bar(0, "samples").with_message("backtest");
    let items = by_size.iter().map(|&index| folders[index].clone()).collect();
    let results = backtest::run_jobs(items, settings.backtest.jobs, |(input, folder): (Input, PathBuf)| match (&input, &log) {
        (Input::Topics(session_key), Some(log)) => of_topics(*session_key, log, &folder, settings, &progress),
        (Input::Topics(_), None) => unreachable!("the log is open when sessions are read from it"),
        (Input::Archive(archive), _) => of_archive(archive, &folder, settings, &progress),
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

fn folder_for(out: &Path, input: &Input, all: &[Input]) -> Result<PathBuf> {
    if all.len() == 1 {
        return Ok(out.to_owned());
    }
    let stem = input.stem()?;
    if all.iter().filter(|other| other.stem().is_ok_and(|other| other == stem)).count() > 1 {
        bail!("two archives are named {}: their facts would go to one folder; rename one", stem.display());
    }
    Ok(out.join(stem))
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

fn of_archive(path: &Path, folder: &Path, settings: &Settings, progress: &ProgressBar) -> Result<Done> {
    let begun = Instant::now();
    let mut archive = source::open_archive(path)?;
    progress.inc_length(archive.samples());
    let graph = source::graph_of(&archive, 0, &settings.limits);
    let origin = origin(path.to_owned(), archive.source_id(), archive.session_key(), &graph);
    derive(begun, origin, graph, folder, settings, progress, |session, sink| {
        let (outcome, incomplete) = pitwall_archive::backtest::run(&mut archive, session, sink, settings.backtest.batch)?;
        Ok((outcome, incomplete.map(|reason| reason.to_string())))
    })
}

fn of_topics(session_key: i32, log: &KafkaLog, folder: &Path, settings: &Settings, progress: &ProgressBar) -> Result<Done> {
    let begun = Instant::now();
    let mut recorded = log.recorded(session_key)?.with_context(|| format!("session {session_key} has never been ingested"))?;
    let source = recorded.progress().clone();
    progress.inc_length(source.next_ingest_seq as u64);
    let graph = kafka::graph_of(&settings.limits)(&source);
    let topics = PathBuf::from(format!("the raw topics of session {session_key} on Kafka at {}", settings.kafka.brokers.join(",")));
    let origin = origin(topics, Digest(source.source_id), session_key, &graph);
    let done = derive(begun, origin, graph, folder, settings, progress, |session, sink| {
        Ok((backtest::run(&mut recorded, session, sink, settings.backtest.batch)?, None))
    })?;
    if recorded.foreign() > 0 {
        tracing::warn!(session_key, messages = recorded.foreign(), "messages that ingest did not write were passed over");
    }
    Ok(done)
}

fn origin(archive: PathBuf, source_id: Digest, session_key: i32, graph: &Graph<Sample>) -> Origin {
    Origin {
        binary: concat!("pitwall ", env!("CARGO_PKG_VERSION")).to_owned(),
        archive,
        source_id: source_id.to_string(),
        session_key,
        graph_hash: graph.hash().to_string(),
    }
}

/// Derives one session into its folder. `run` comes to an outcome, and says why it covers only a part of its input if it does.
fn derive(
    begun: Instant,
    origin: Origin,
    graph: Graph<Sample>,
    folder: &Path,
    settings: &Settings,
    progress: &ProgressBar,
    run: impl FnOnce(&mut Session<Sample>, &mut Watched<'_>) -> Result<(Outcome, Option<String>)>,
) -> Result<Done> {
    let operators = graph.description().to_vec();
    let writer = RunWriter::create(folder, graph.kinds(), settings.backtest.format)?;
    let mut session = Session::new(origin.session_key, graph, settings.limits.clone());
    let mut sink = Watched { run: writer, summary: Summary::default(), progress, samples: 0 };
    let (outcome, incomplete) = run(&mut session, &mut sink)?;
    let findings = Findings {
        samples_per_second: outcome.samples as f64 / begun.elapsed().as_secs_f64(),
        clock: sink.summary.clock.clone(),
        limits: settings.limits.clone(),
        operators,
        incomplete,
    };
    if outcome.dead_letters > 0 {
        tracing::warn!(folder = %folder.display(), dead_letters = outcome.dead_letters, "input was refused: see dead_letters.jsonl");
    }
    let manifest = sink.run.finish(origin, &outcome, findings)?;
    Ok(Done { manifest, summary: sink.summary })
}
