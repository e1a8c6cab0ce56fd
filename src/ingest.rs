//! Sources into Kafka's raw topics: `pitwall ingest`, and what the role of that name does.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use pitwall_embedded::replay::filed_under;
use pitwall_engine::Micros;
use pitwall_engine::backtest::RawSource;
use pitwall_engine::hash::Digest;
use pitwall_engine::log::{AppendError, NewRaw, RawLog};
use pitwall_kafka::client::KafkaLogError;
use pitwall_kafka::log::KafkaLog;
use pitwall_kafka::members::{Trouble, rest};
use pitwall_schemas::shared::KnownAtQuality;

use crate::settings::{Ingest, Override, Settings};
use crate::{kafka, progress, source};

/// How long is waited after trouble before the broker is asked again.
const RETRY: Duration = Duration::from_secs(1);

/// Feed sources into Kafka's raw topics.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Archive(ArchiveArguments),
}

/// Feed session archives, one after the other.
///
/// Each batch is one transaction across all topics, so a reader never sees a hole. An archive that was fed before, wholly or in part, goes
/// on where it ended: the same archive twice changes nothing. While the broker is away it waits, up to kafka.outage_ms_max.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pitwall ingest archive dutch.avro
  pitwall ingest archive dutch.avro --speed 60 --as-session 19920")]
struct ArchiveArguments {
    /// Session archives, as `pitwall import` makes them.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Session seconds a second; `inf` waits for nothing [default: setting ingest.speed, inf].
    #[arg(long, value_name = "N")]
    speed: Option<f64>,
    /// File the archive under another session; one archive only.
    #[arg(long, value_name = "KEY")]
    as_session: Option<i32>,
    #[command(flatten)]
    kafka: kafka::Flags,
}

impl Arguments {
    pub(crate) fn overrides(&self) -> Vec<Override> {
        let Verb::Archive(arguments) = &self.verb;
        let mut overrides = arguments.kafka.overrides();
        overrides.extend(Override::of("ingest.speed", "--speed", arguments.speed));
        overrides
    }
}

pub(crate) fn run(arguments: &Arguments, settings: &Settings, out: &mut impl Write) -> Result<()> {
    let Verb::Archive(arguments) = &arguments.verb;
    if arguments.as_session.is_some() && arguments.files.len() > 1 {
        bail!("--as-session names one session: give one archive");
    }
    let is_stopping = AtomicBool::new(false);
    let mut feeder = Feeder::open(settings)?;
    for file in &arguments.files {
        let Fed { session_key, ingested, there_before } = feeder.feed(file, arguments.as_session, &is_stopping)?;
        writeln!(out, "{}: session {session_key}, {ingested} samples ingested, {there_before} were there", file.display())?;
    }
    Ok(())
}

/// What became of an archive.
#[derive(Debug)]
pub(crate) struct Fed {
    pub(crate) session_key: i32,
    /// Samples that raw topics have got now.
    pub(crate) ingested: i64,
    /// Samples that they had.
    pub(crate) there_before: i64,
}

/// Feeds archives into the log's raw topics.
pub(crate) struct Feeder {
    log: KafkaLog,
    /// How long the broker may be away.
    outage: Duration,
    ingest: Ingest,
    silence_ms_max: i64,
}

impl Feeder {
    /// # Errors
    /// When the log cannot be opened or the speed is none.
    pub(crate) fn open(settings: &Settings) -> Result<Self> {
        let ingest = settings.ingest.clone();
        if ingest.speed.is_nan() || ingest.speed <= 0.0 {
            bail!("ingest.speed = {}: a speed is a number above 0", ingest.speed);
        }
        let (log, outage) = (kafka::open(settings)?, Duration::from_millis(settings.kafka.outage_ms_max));
        Ok(Self { log, outage, ingest, silence_ms_max: settings.live.silence_ms_max })
    }

    /// Feeds what raw topics do not have of an archive, under another session's key if one is named. Told to stop, it has committed what it
    /// took; the source then stays open, and goes on from there the next time.
    ///
    /// # Errors
    /// When the archive cannot be read, or the log does not take it for longer than the broker may be away.
    pub(crate) fn feed(&mut self, file: &Path, as_session: Option<i32>, is_stopping: &AtomicBool) -> Result<Fed> {
        self.feed_archive(file, as_session, is_stopping).with_context(|| file.display().to_string())
    }

    fn feed_archive(&mut self, file: &Path, as_session: Option<i32>, is_stopping: &AtomicBool) -> Result<Fed> {
        let mut archive = source::open_archive(file)?;
        let session_key = as_session.unwrap_or_else(|| archive.session_key());
        let (source_id, samples) = (archive.source_id(), archive.samples());
        let is_reconstructed = archive.quality() == KnownAtQuality::Reconstructed;
        let mut pace = Pace { speed: self.ingest.speed, silence_ms_max: self.silence_ms_max, clock: None, last: None };
        let there_before = self.insist(is_stopping, |log| log.ingest_end(session_key, source_id))?;
        // Before the first record, so that an engine knows what it begins.
        self.insist(is_stopping, |log| log.describe_source(session_key, source_id, is_reconstructed, false))?;
        archive.seek(there_before as u64);
        let rename = as_session.map(filed_under);
        let mut batch = Batch { session_key, source_id, next: there_before, records: Vec::new() };
        let progress = progress::bar(samples, "samples").with_message("ingest");
        progress.inc(there_before as u64);
        'blocks: while let Some(block) = archive.next_block()? {
            for raw in block {
                let raw = raw?;
                if pace.is_early(raw.received_at) {
                    self.append(&mut batch, is_stopping)?;
                    pace.wait_for(raw.received_at, is_stopping);
                }
                if is_stopping.load(Ordering::Relaxed) {
                    break 'blocks;
                }
                let payload = match (&rename, raw.event) {
                    (Some(rename), Ok(event)) => rename(event),
                    _ => raw.payload.to_vec(),
                };
                batch.records.push(NewRaw { stream: raw.stream, received_at: raw.received_at, payload });
                if batch.records.len() >= self.ingest.batch_records_max {
                    self.append(&mut batch, is_stopping)?;
                }
                progress.inc(1);
            }
        }
        self.append(&mut batch, is_stopping)?;
        if batch.next as u64 == samples {
            self.insist(is_stopping, |log| log.describe_source(session_key, source_id, is_reconstructed, true))?;
        }
        progress.finish_and_clear();
        Ok(Fed { session_key, ingested: batch.next - there_before, there_before })
    }

    fn append(&mut self, batch: &mut Batch, is_stopping: &AtomicBool) -> Result<()> {
        let records = std::mem::take(&mut batch.records);
        self.insist(is_stopping, |log| log.append(batch.session_key, batch.source_id, batch.next, records.clone()))?;
        batch.next += records.len() as i64;
        Ok(())
    }

    /// Asks the log again while the broker is away. What became of a batch in doubt is read from the log, which leaves out what it has.
    fn insist<T>(
        &mut self,
        is_stopping: &AtomicBool,
        mut ask: impl FnMut(&mut KafkaLog) -> Result<T, AppendError<KafkaLogError>>,
    ) -> Result<T> {
        let end = Instant::now() + self.outage;
        loop {
            match ask(&mut self.log) {
                Ok(answer) => return Ok(answer),
                Err(AppendError::Log(error)) => {
                    let error = self.log.certain(error);
                    if !error.is_passing() || Instant::now() >= end || is_stopping.load(Ordering::Relaxed) {
                        return Err(error.into());
                    }
                    tracing::warn!(%error, "the broker is asked again");
                    rest(RETRY, is_stopping);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Records of one transaction.
struct Batch {
    session_key: i32,
    source_id: Digest,
    next: i64,
    records: Vec<NewRaw>,
}

/// When a record of a replay is due.
struct Pace {
    speed: f64,
    silence_ms_max: i64,
    /// A real moment and the session time it stands for.
    clock: Option<(Instant, Micros)>,
    last: Option<Micros>,
}

impl Pace {
    /// Whether the record that arrived at `received_at` is not due yet. Silences are shortened by moving the clock.
    fn is_early(&mut self, received_at: Micros) -> bool {
        if self.speed.is_infinite() {
            return false;
        }
        let (_, moved) = self.clock.get_or_insert_with(|| (Instant::now(), received_at));
        let silence = self.last.map_or(0, |last| received_at.since(last)) - self.silence_ms_max * 1_000;
        *moved = moved.plus(silence.max(0));
        self.last = Some(received_at);
        !self.left(received_at).is_zero()
    }

    fn left(&self, received_at: Micros) -> Duration {
        let Some((begun, at)) = self.clock else { return Duration::ZERO };
        let due = Duration::from_micros(received_at.since(at).max(0) as u64).div_f64(self.speed);
        due.saturating_sub(begun.elapsed())
    }

    fn wait_for(&self, received_at: Micros, is_stopping: &AtomicBool) {
        rest(self.left(received_at), is_stopping);
    }
}
