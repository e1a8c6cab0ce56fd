//! Raw topics to committed facts through engine processes of the released program, the broker beside them: `-- kafka`. Needs a broker
//! (`docker/services up kafka`) and the program (`cargo build --release`). Its topics are deleted again: a broker that keeps those of many
//! runs spends its time collecting garbage. It also slows down from run to run, so `-- kafka 4 2` measures four sessions and two engines
//! alone: compare on a broker with no data (`docker/services down --data`).

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use pitwall_archive::archive::Archive;
use pitwall_embedded::replay::filed_under;
use pitwall_engine::backtest::RawSource;
use pitwall_engine::limits::Limits;
use pitwall_engine::log::{NewRaw, RawLog};
use pitwall_kafka::log::KafkaLog;
use pitwall_kafka::options::Options;
use pitwall_kafka::schemas::{RawStream, Streams};
use pitwall_kafka::{partition, topics};
use pitwall_schemas::raw::{Collection, RECORDS};
use pitwall_schemas::shared::KnownAtQuality;

use crate::live;

/// The port of `docker/services`.
const PORT: &str = "19092";
const PARTITIONS: i32 = 4;
/// Records of one transaction of ingest.
const BATCH: usize = 20_000;
/// How often is looked how far the engines are.
const LOOK: Duration = Duration::from_millis(5);
/// Far more than it takes.
const PATIENCE: Duration = Duration::from_secs(300);
/// Ticks of a second in `/proc`: what Linux shows to programs, whatever it uses itself.
const TICKS: f64 = 100.0;

/// What is measured unless the command line names one: sessions, and engine processes.
const RUNS: [(usize, usize); 3] = [(1, 1), (4, 1), (4, 2)];

/// Measures as many sessions and engines as `only` says, or each of [`RUNS`].
pub(crate) fn kafka(archive: &Path, only: Option<(usize, usize)>) -> Result<()> {
    let program = program()?;
    println!("Kafka, raw topics to committed facts, {}", archive.file_name().unwrap_or_default().display());
    println!("  sessions  engines     samples/s   from start     CPU us/sample (librdkafka included)   peak MiB");
    for (sessions, engines) in only.map_or_else(|| RUNS.to_vec(), |run| vec![run]) {
        let Measured { samples, worked, working, whole, cpu, peak_mib } = measure(&program, archive, sessions, engines)?;
        println!(
            "  {sessions:>8}{engines:>9}{:>14.0}{:>13.0}{:>22.2}{peak_mib:>34.0}",
            worked as f64 / working.as_secs_f64(),
            samples as f64 / whole.as_secs_f64(),
            cpu.as_secs_f64() * 1e6 / samples as f64,
        );
    }
    Ok(())
}

/// Samples taken in before anything is measured: some twenty minutes of the race.
const BEFORE: usize = 200_000;
/// How long frames are measured, and how many times the race's pace.
const MEASURED: Duration = Duration::from_secs(45);
const SPEED: f64 = 10.0;
/// How long before the end of a second measurement the engine is killed.
const AFTER_KILL: Duration = Duration::from_secs(15);

/// Measures the way of a sample over ingest, engine and edge, each a process or this one, to a WebSocket; and a takeover.
pub(crate) fn live(path: &Path) -> Result<()> {
    let program = program()?;
    let deployment = deployment()?;
    let options = &deployment.options;
    let mut log = KafkaLog::open(options.clone(), deployment.streams.clone())?;
    let mut archive = Archive::open(path)?;
    let (session_key, source_id) = (archive.session_key(), archive.source_id());
    let records = live::raw_records(&mut archive)?;
    log.describe_source(session_key, source_id, archive.quality() == KnownAtQuality::Reconstructed, false)?;
    let engine = start_watched(&program, options, "engine", "metrics at http://")?;
    let (edge, address) = start_watched(&program, options, "edge", "open http://")?;
    for (number, batch) in records[..BEFORE].chunks(BATCH).enumerate() {
        log.append(session_key, source_id, (number * BATCH) as i64, batch.to_vec())?;
    }
    until(|| Ok(log.standing(session_key)?.filter(|standing| standing.next_ingest_seq as usize >= BEFORE)))?;
    let asynchronous = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let frames = live::watch(&asynchronous, address, session_key);
    thread::sleep(Duration::from_secs(1));
    let mut feeder = log.clone();
    let handed = live::at_pace(&records, BEFORE, SPEED, MEASURED, |first, records| {
        Ok(feeder.append(session_key, source_id, first, records.to_vec())?)
    })?;
    thread::sleep(Duration::from_secs(1));
    println!("Kafka, sample given to ingest to frame received, {SPEED} times the race's pace, {} s:", MEASURED.as_secs());
    live::tell(&live::latencies(&frames, &handed))?;

    // A second engine joins; the one that has the session then is killed while the race goes on.
    let mut engines = [engine, start_watched(&program, options, "engine", "metrics at http://")?];
    thread::sleep(Duration::from_secs(5));
    let open: Vec<f64> = engines.iter().map(|(_, address)| sessions_of(*address)).collect::<Result<_>>()?;
    let victim = open.iter().position(|sessions| *sessions > 0.0).context("an engine has the session")?;
    let next = log.source(session_key)?.map_or(BEFORE, |source| source.next_ingest_seq as usize);
    let mut killed = None;
    live::at_pace(&records, next, SPEED, 2 * AFTER_KILL, |first, records| {
        if killed.is_none() && first as usize > next + 1_000 {
            engines[victim].0.0.kill()?;
            killed = Some(Instant::now());
        }
        Ok(feeder.append(session_key, source_id, first, records.to_vec())?)
    })?;
    thread::sleep(Duration::from_secs(1));
    let killed = killed.context("nothing was killed")?;
    let received: Vec<Instant> = frames.try_iter().map(|(_, received)| received).filter(|received| *received > killed).collect();
    let silences = std::iter::once(&killed).chain(&received).zip(&received).map(|(before, after)| *after - *before);
    let silence = silences.max().context("no frame came after the engine was killed")?;
    let timeout = Duration::from_millis(options.session_timeout_ms);
    println!(
        "  takeover after SIGKILL: {:.2} s without a frame, {:.2} s of it beyond the session timeout of {:.1} s\n",
        silence.as_secs_f64(),
        silence.saturating_sub(timeout).as_secs_f64(),
        timeout.as_secs_f64()
    );
    drop(edge);
    Ok(())
}

struct Measured {
    samples: u64,
    /// Samples behind the first commit seen.
    worked: u64,
    /// From that commit to the last.
    working: Duration,
    /// From the start of the processes, joining the group included.
    whole: Duration,
    /// Of all engine processes, user and system.
    cpu: Duration,
    /// Of the largest.
    peak_mib: f64,
}

pub(crate) fn program() -> Result<PathBuf> {
    let program = std::env::current_exe()?.with_file_name("pitwall");
    if !program.is_file() {
        bail!("{} is not there: build it with `cargo build --release`", program.display());
    }
    Ok(program)
}

fn streams() -> Result<Streams> {
    let schema = |name: &str| RECORDS.iter().find(|(record, _)| *record == name).map_or("", |(_, record)| record.schema);
    let raw = Collection::ALL.iter().map(|collection| RawStream { name: collection.name(), schema: schema(collection.name()) }).collect();
    Ok(Streams { raw, kinds: pitwall_operators::graph(&Limits::default())?.kinds().to_vec() })
}

/// Topics that nobody else uses; deleted with this.
pub(crate) struct Deployment {
    pub(crate) options: Options,
    pub(crate) streams: Streams,
}

impl Drop for Deployment {
    fn drop(&mut self) {
        // What is left is in nobody's way: no other run uses the names.
        let _ = topics::delete(&self.options, &self.streams);
    }
}

/// Makes the topics of a deployment.
pub(crate) fn deployment() -> Result<Deployment> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_nanos();
    let port = std::env::var("SERVICES_KAFKA_PORT").unwrap_or_else(|_| PORT.to_owned());
    let options = Options {
        brokers: vec![format!("127.0.0.1:{port}")],
        prefix: format!("bench-{now}."),
        partitions: PARTITIONS,
        ..Options::default()
    };
    let streams = streams()?;
    topics::create(&options, &streams).context("start a broker with `docker/services up kafka`")?;
    Ok(Deployment { options, streams })
}

fn measure(program: &Path, archive: &Path, sessions: usize, engines: usize) -> Result<Measured> {
    let deployment = deployment()?;
    let options = &deployment.options;
    let mut log = KafkaLog::open(options.clone(), deployment.streams.clone())?;
    // A session on each partition, so that a second engine has something to do.
    let keys: Vec<i32> = (0..sessions as i32)
        .filter_map(|number| (19_000..29_000).find(|key| partition::of(*key, PARTITIONS) == number % PARTITIONS))
        .collect();
    let mut samples = 0;
    for key in &keys {
        samples += ingest(archive, *key, &mut log)?;
    }
    let begun = Instant::now();
    let children = (0..engines).map(|_| start(program, options)).collect::<Result<Vec<_>>>()?;
    let mut first = None;
    until(|| {
        let standings = keys.iter().map(|key| log.standing(*key)).collect::<Result<Vec<_>, _>>()?;
        let committed: i64 = standings.iter().flatten().map(|standing| standing.next_ingest_seq).sum();
        if committed > 0 {
            first.get_or_insert_with(|| (Instant::now(), committed as u64));
        }
        Ok(standings.iter().all(|standing| standing.is_some_and(|standing| standing.is_closed)).then_some(()))
    })?;
    let ended = Instant::now();
    let mut cpu = Duration::ZERO;
    let mut peak_mib: f64 = 0.0;
    for Engine(child) in &children {
        cpu += cpu_of(child.id())?;
        peak_mib = peak_mib.max(peak_of(child.id())?);
    }
    let (first, before) = first.unwrap_or((begun, 0));
    Ok(Measured { samples, worked: samples - before, working: ended - first, whole: ended - begun, cpu, peak_mib })
}

pub(crate) fn ingest(archive: &Path, session_key: i32, log: &mut KafkaLog) -> Result<u64> {
    let mut archive = Archive::open(archive)?;
    let (source_id, is_reconstructed) = (archive.source_id(), archive.quality() == KnownAtQuality::Reconstructed);
    let rename = filed_under(session_key);
    let (mut next, mut batch) = (0, Vec::new());
    log.describe_source(session_key, source_id, is_reconstructed, false)?;
    while let Some(block) = archive.next_block()? {
        for raw in block {
            let raw = raw?;
            let payload = raw.event.map_or_else(|_| raw.payload.to_vec(), &rename);
            batch.push(NewRaw { stream: raw.stream, received_at: raw.received_at, payload });
        }
        if batch.len() >= BATCH {
            let count = batch.len() as i64;
            log.append(session_key, source_id, next, std::mem::take(&mut batch))?;
            next += count;
        }
    }
    let count = batch.len() as i64;
    log.append(session_key, source_id, next, batch)?;
    log.describe_source(session_key, source_id, is_reconstructed, true)?;
    Ok((next + count) as u64)
}

/// Asks until there is an answer.
pub(crate) fn until<T>(mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        anyhow::ensure!(begun.elapsed() < PATIENCE, "what is measured is not done after {PATIENCE:?}");
        thread::sleep(LOOK);
    }
}

/// A process of the program; ends with this.
pub(crate) struct Engine(pub(crate) Child);

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn command(program: &Path, options: &Options, role: &str) -> Command {
    let mut command = Command::new(program);
    command
        .args(["run", "--roles", role, "--listen", "127.0.0.1:0"])
        .env("PITWALL_KAFKA__BROKERS", options.brokers.join(","))
        .env("PITWALL_KAFKA__PREFIX", &options.prefix)
        .env("PITWALL_KAFKA__PARTITIONS", options.partitions.to_string());
    command
}

pub(crate) fn start(program: &Path, options: &Options) -> Result<Engine> {
    Ok(Engine(command(program, options, "engine").stdout(Stdio::null()).spawn()?))
}

/// A process and the address that it says behind `words`.
fn start_watched(program: &Path, options: &Options, role: &str, words: &str) -> Result<(Engine, SocketAddr)> {
    let mut child = command(program, options, role).args(["--monitor", "127.0.0.1:0"]).stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("its output is piped")?).lines();
    let process = Engine(child);
    let address = lines.by_ref().map_while(Result::ok).find_map(|line| line.strip_prefix(words)?.split('/').next()?.parse().ok());
    thread::spawn(move || lines.for_each(drop));
    Ok((process, address.context("the process says where it serves")?))
}

/// The sessions that an engine has open.
fn sessions_of(monitor: SocketAddr) -> Result<f64> {
    let mut connection = TcpStream::connect(monitor)?;
    write!(connection, "GET /metrics HTTP/1.1\r\nHost: {monitor}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    Ok(answer
        .lines()
        .filter(|line| line.starts_with("pitwall_engine_sessions"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum())
}

/// User and system time of a process, all its threads included.
fn cpu_of(id: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
    // The name, in brackets, may hold anything; the numbers come behind it.
    let numbers: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| numbers.get(index).and_then(|number| number.parse::<f64>().ok()).context("/proc/PID/stat is short");
    Ok(Duration::from_secs_f64((ticks(11)? + ticks(12)?) / TICKS))
}

fn peak_of(id: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).context("/proc/PID/status has no VmHWM")?;
    let kib: f64 = line.split_whitespace().nth(1).unwrap_or_default().parse()?;
    Ok(kib / 1_024.0)
}
