//! `pitwall ingest`: sources into Kafka's raw topics.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread;
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
use pitwall_kafka::members::Trouble;
use pitwall_schemas::shared::KnownAtQuality;

use crate::settings::{Override, Settings};
use crate::{kafka, progress, source};

/// Raw records of one transaction.
const BATCH_RECORDS: usize = 10_000;
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
    /// Session seconds a second; `inf` waits for nothing.
    #[arg(long, value_name = "N", default_value_t = f64::INFINITY)]
    speed: f64,
    /// File the archive under another session; one archive only.
    #[arg(long, value_name = "KEY")]
    as_session: Option<i32>,
    #[command(flatten)]
    kafka: kafka::Flags,
}

impl Arguments {
    pub(crate) fn overrides(&self) -> Vec<Override> {
        let Verb::Archive(arguments) = &self.verb;
        arguments.kafka.overrides()
    }
}

pub(crate) fn run(arguments: &Arguments, settings: &Settings, out: &mut impl Write) -> Result<()> {
    let Verb::Archive(arguments) = &arguments.verb;
    if arguments.speed.is_nan() || arguments.speed <= 0.0 {
        bail!("--speed {}: a speed is a number above 0", arguments.speed);
    }
    if arguments.as_session.is_some() && arguments.files.len() > 1 {
        bail!("--as-session names one session: give one archive");
    }
    let mut log = Patient { log: kafka::open(settings)?, outage: Duration::from_millis(settings.kafka.outage_ms_max) };
    for file in &arguments.files {
        let pace = Pace { speed: arguments.speed, silence_ms_max: settings.live.silence_ms_max, clock: None, last: None };
        archive(file, arguments.as_session, pace, &mut log, out).with_context(|| file.display().to_string())?;
    }
    Ok(())
}

fn archive(file: &Path, as_session: Option<i32>, mut pace: Pace, log: &mut Patient, out: &mut impl Write) -> Result<()> {
    let mut archive = source::open_archive(file)?;
    let session_key = as_session.unwrap_or_else(|| archive.session_key());
    let (source_id, samples) = (archive.source_id(), archive.samples());
    let is_reconstructed = archive.quality() == KnownAtQuality::Reconstructed;
    let first = log.insist(|log| log.ingest_end(session_key, source_id))?;
    // Before the first record, so that an engine knows what it begins.
    log.insist(|log| log.describe_source(session_key, source_id, is_reconstructed, false))?;
    archive.seek(first as u64);
    let rename = as_session.map(filed_under);
    let mut batch = Batch { session_key, source_id, next: first, records: Vec::new() };
    let progress = progress::bar(samples, "samples").with_message("ingest");
    progress.inc(first as u64);
    while let Some(block) = archive.next_block()? {
        for raw in block {
            let raw = raw?;
            if pace.is_early(raw.received_at) {
                batch.append(log)?;
                pace.wait_for(raw.received_at);
            }
            let payload = match (&rename, raw.event) {
                (Some(rename), Ok(event)) => rename(event),
                _ => raw.payload.to_vec(),
            };
            batch.records.push(NewRaw { stream: raw.stream, received_at: raw.received_at, payload });
            if batch.records.len() >= BATCH_RECORDS {
                batch.append(log)?;
            }
            progress.inc(1);
        }
    }
    batch.append(log)?;
    log.insist(|log| log.describe_source(session_key, source_id, is_reconstructed, true))?;
    progress.finish_and_clear();
    writeln!(out, "{}: session {session_key}, {} samples ingested, {first} were there", file.display(), batch.next - first)?;
    Ok(())
}

struct Batch {
    session_key: i32,
    source_id: Digest,
    next: i64,
    records: Vec<NewRaw>,
}

impl Batch {
    fn append(&mut self, log: &mut Patient) -> Result<()> {
        let records = std::mem::take(&mut self.records);
        log.insist(|log| log.append(self.session_key, self.source_id, self.next, records.clone()))?;
        self.next += records.len() as i64;
        Ok(())
    }
}

/// A log that is asked again while the broker is away. What became of a batch in doubt is read from the log, which leaves out what it has.
struct Patient {
    log: KafkaLog,
    /// How long the broker may be away.
    outage: Duration,
}

impl Patient {
    fn insist<T>(&mut self, mut ask: impl FnMut(&mut KafkaLog) -> Result<T, AppendError<KafkaLogError>>) -> Result<T> {
        let end = Instant::now() + self.outage;
        loop {
            match ask(&mut self.log) {
                Ok(answer) => return Ok(answer),
                Err(AppendError::Log(error)) => {
                    let error = self.log.certain(error);
                    if !error.is_passing() || Instant::now() >= end {
                        return Err(error.into());
                    }
                    tracing::warn!(%error, "the broker is asked again");
                    thread::sleep(RETRY);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
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

    fn wait_for(&self, received_at: Micros) {
        thread::sleep(self.left(received_at));
    }
}
