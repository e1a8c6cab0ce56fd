//! PitWall's measurements: `cargo run --release -p pitwall-bench`.
//!
//! Every figure is the median of several runs on one core unless it says otherwise. Machines differ and are noisy, so each table has
//! a baseline from the same run to compare with; quote ratios.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use pitwall_archive::archive::Archive;
use pitwall_archive::facts::Format;
use pitwall_archive::replay::{Keyframes, Recording, take_race_clock};
use pitwall_archive::run::{Findings, Origin, Run, RunWriter};
use pitwall_engine::backtest::{self, Discard, RawSource, Sink};
use pitwall_engine::limits::Limits;
use pitwall_engine::session::{Output, Session};
use pitwall_schemas::codec::{Avro, Reader, Record};
use pitwall_schemas::log::Keyframe;
use pitwall_schemas::moment::{Clock, Moment};
use pitwall_schemas::raw::{CarData, Collection, Sample};

const RUNS: usize = 7;
const BATCH: usize = 8_192;

mod cost;
mod kafka;
mod live;
mod sink;
mod stops;

fn main() -> Result<()> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data");
    let (dutch, mexico) = (data.join("dutch_2025_race.avro"), data.join("mexico_2025_qualifying.avro"));
    match std::env::args().nth(1).as_deref() {
        Some("live") => return live::live(&dutch),
        Some("kafka") => {
            let number = |at: usize| std::env::args().nth(at).map(|text| text.parse()).transpose();
            let engines = number(3)?.unwrap_or(1);
            return kafka::kafka(&dutch, number(2)?.map(|sessions| (sessions, engines)));
        }
        Some("kafka-live") => return kafka::live(&dutch),
        Some("sink") => return sink::sink(&dutch),
        Some("stops") => {
            let arguments: Vec<PathBuf> = std::env::args_os().skip(2).map(PathBuf::from).collect();
            let [laps, f1db, ergast] = arguments.as_slice() else { anyhow::bail!("stops LAPS.parquet F1DB_DIR ERGAST_DIR") };
            return stops::stops(laps, f1db, ergast);
        }
        Some("cost") => return cost::cost(&dutch, std::env::args().nth(2).as_deref().map(Path::new)),
        _ => {}
    }
    println!("{} cores; Dutch race, 2025, every operator; medians of {RUNS} runs\n", std::thread::available_parallelism()?);
    backtest_stages(&dutch)?;
    two_jobs(&dutch, &mexico)?;
    restore(&dutch)?;
    state_at_every_lap(&dutch)?;
    cost::cost(&dutch, None)?;
    codecs(&dutch)?;
    live::live(&dutch)
}

/// The median of [`RUNS`] runs, after one that is not counted.
fn median(mut run: impl FnMut() -> Result<()>) -> Result<Duration> {
    medians([()], |()| run()).map(|[time]| time)
}

/// The medians of the same work done in several ways, in turn, so that a machine that grows faster or slower does so for all of them.
fn medians<W: Copy, const N: usize>(ways: [W; N], mut run: impl FnMut(W) -> Result<()>) -> Result<[Duration; N]> {
    let mut times = [const { Vec::new() }; N];
    for counted in 0..=RUNS {
        for (times, way) in times.iter_mut().zip(ways) {
            let begun = Instant::now();
            run(way)?;
            if counted > 0 {
                times.push(begun.elapsed());
            }
        }
    }
    Ok(times.map(|mut times| {
        times.sort();
        times[RUNS / 2]
    }))
}

fn session(archive: &Archive) -> Result<Session<Sample>> {
    let limits = Limits::default();
    let graph = pitwall_operators::graph(&limits)?.for_session(archive.session_key(), 0, archive.quality());
    Ok(Session::new(archive.session_key(), graph, limits))
}

fn batch() -> NonZeroUsize {
    NonZeroUsize::new(BATCH).expect("a batch is not empty")
}

/// What `pitwall backtest` does: open, decode, derive, encode, hash, write facts and keyframes.
fn whole_backtest(path: &Path, out: &Path) -> Result<u64> {
    let mut archive = Archive::open(path)?;
    let mut session = session(&archive)?;
    let mut run = RunWriter::create(out, session.graph().kinds(), Format::Avro)?;
    Ok(backtest::run(&mut archive, &mut session, &mut run, batch())?.samples)
}

fn decode_only(path: &Path) -> Result<u64> {
    let mut archive = Archive::open(path)?;
    let mut touched = 0;
    while let Some(block) = archive.next_block()? {
        for raw in block {
            touched += u64::from(std::hint::black_box(raw?).event.is_ok());
        }
    }
    Ok(touched)
}

fn decode_and_derive(path: &Path, keeps_keyframes: bool) -> Result<u64> {
    let mut archive = Archive::open(path)?;
    let mut session = session(&archive)?;
    if !keeps_keyframes {
        session = session.without_keyframes();
    }
    Ok(backtest::run(&mut archive, &mut session, &mut Discard, batch())?.samples)
}

fn backtest_stages(dutch: &Path) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let samples = whole_backtest(dutch, folder.path())?;
    let peak = peak_memory_mib().map_or_else(|| "unknown here".to_owned(), |peak| format!("{peak:.0} MiB"));
    let decode = median(|| decode_only(dutch).map(drop))?;
    let derive = median(|| decode_and_derive(dutch, false).map(drop))?;
    let keyframes = median(|| decode_and_derive(dutch, true).map(drop))?;
    let whole = median(|| whole_backtest(dutch, folder.path()).map(drop))?;
    println!("backtest, {samples} samples                    time     samples/s   ns a sample");
    let row = |name: &str, time: Duration| {
        println!(
            "  {name:<38}{:>7.1} ms{:>13.0}{:>14.0}",
            time.as_secs_f64() * 1e3,
            samples as f64 / time.as_secs_f64(),
            time.as_secs_f64() * 1e9 / samples as f64
        );
    };
    row("decode (unpack, decode, baseline)", decode);
    row("graph (derive, encode, hash)", derive.saturating_sub(decode));
    row("keyframes (store, hash, compress)", keyframes.saturating_sub(derive));
    row("write (facts, keyframes)", whole.saturating_sub(keyframes));
    row("whole backtest", whole);
    println!("  whole / decode alone: {:.2}; peak memory of one backtest: {peak}\n", whole.as_secs_f64() / decode.as_secs_f64());
    Ok(())
}

fn two_jobs(dutch: &Path, mexico: &Path) -> Result<()> {
    let folder = tempfile::tempdir()?;
    println!("two archives, jobs 1 → 2                     one job     two jobs    ratio");
    for (name, second) in [("Dutch race and Mexico qualifying", mexico), ("Dutch race twice", dutch)] {
        let [one, two] = medians([1, 2], |jobs| {
            let items = vec![(dutch.to_owned(), folder.path().join("first")), (second.to_owned(), folder.path().join("second"))];
            let jobs = NonZeroUsize::new(jobs).context("no jobs")?;
            backtest::run_jobs(items, jobs, |(archive, out): (PathBuf, PathBuf)| whole_backtest(&archive, &out))
                .into_iter()
                .try_for_each(|result| result.map(drop))
        })?
        .map(|time| time.as_secs_f64());
        println!("  {name:<38}{:>9.1} ms{:>10.1} ms{:>9.2}", one * 1e3, two * 1e3, one / two);
    }
    println!();
    Ok(())
}

fn keyframes(path: &Path) -> Result<(Vec<Keyframe>, Session<Sample>)> {
    let mut archive = Archive::open(path)?;
    let mut session = session(&archive)?;
    let (mut output, mut keyframes) = (Output::default(), Vec::new());
    while let Some(block) = archive.next_block()? {
        for raw in block {
            session.take(&raw?, &mut output)?;
        }
        keyframes.append(&mut output.keyframes);
        output.clear();
    }
    Ok((keyframes, session))
}

fn restore(dutch: &Path) -> Result<()> {
    let (keyframes, session) = keyframes(dutch)?;
    let newest = keyframes.last().context("a race has keyframes")?;
    let expected = session.facts_hash();
    let limits = Limits::default();
    let time = median(|| {
        let mut archive = Archive::open(dutch)?;
        let graph = pitwall_operators::graph(&limits)?.for_session(archive.session_key(), 0, archive.quality());
        let mut restored = Session::restore(archive.session_key(), graph, limits.clone(), newest)?;
        archive.seek(restored.sequencer().next_ingest_seq() as u64);
        let mut output = Output::default();
        while let Some(block) = archive.next_block()? {
            for raw in block {
                restored.take(&raw?, &mut output)?;
            }
        }
        anyhow::ensure!(restored.facts_hash() == expected, "the restored session reaches other facts");
        Ok(())
    })?;
    let sizes: Vec<usize> = keyframes.iter().map(|keyframe| keyframe.bytes.len()).collect();
    println!("restore from the newest keyframe at the race's end, and replay to the end: {:.1} ms", time.as_secs_f64() * 1e3);
    println!("  {} keyframes, {} to {} bytes\n", keyframes.len(), sizes.iter().min().context("none")?, sizes.iter().max().context("none")?);
    Ok(())
}

/// A run that also notes where the leader's laps end.
struct Timed {
    run: RunWriter,
    clock: Clock,
}

impl Sink for Timed {
    type Error = pitwall_archive::facts::FactsError;

    fn take(&mut self, output: &Output, samples: u64) -> Result<(), Self::Error> {
        take_race_clock(&mut self.clock, output);
        self.run.take(output, samples)
    }
}

/// What `pitwall state DIR --at lap:N` does, for every lap: open manifest, archive and keyframes, restore, replay what follows.
fn state_at_every_lap(dutch: &Path) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut archive = Archive::open(dutch)?;
    let mut session = session(&archive)?;
    let mut sink = Timed { run: RunWriter::create(folder.path(), session.graph().kinds(), Format::Avro)?, clock: Clock::default() };
    let outcome = backtest::run(&mut archive, &mut session, &mut sink, batch())?;
    let origin = Origin {
        binary: "bench".to_owned(),
        archive: dutch.to_owned(),
        source_id: archive.source_id().to_string(),
        session_key: archive.session_key(),
        graph_hash: session.graph().hash().to_string(),
    };
    sink.run.finish(origin, &outcome, Findings { clock: sink.clock.clone(), ..Findings::default() })?;
    let mut times = Vec::new();
    for lap in 1..=sink.clock.laps_completed() {
        let begun = Instant::now();
        let run = Run::open(folder.path())?;
        let archive = Archive::open(dutch)?;
        let (session_key, quality, limits) = (archive.session_key(), archive.quality(), Limits::default());
        let graph = || pitwall_operators::graph(&Limits::default()).expect("a test builds it").for_session(session_key, 0, quality);
        let mut recording = Recording::new(archive, Keyframes::File(run.keyframe_file()?), graph, limits);
        let replay = recording.at(Moment::Lap(lap), &run.manifest().clock)?;
        anyhow::ensure!(replay.started_from().is_some(), "lap {lap} was replayed from the start");
        times.push(begun.elapsed());
    }
    times.sort();
    let millis = |time: &Duration| time.as_secs_f64() * 1e3;
    println!(
        "state at every lap, from a run's folder: {} laps, median {:.1} ms, slowest {:.1} ms\n",
        times.len(),
        millis(&times[times.len() / 2]),
        millis(times.last().context("a race has laps")?)
    );
    Ok(())
}

/// The fields of car data, for the Avro libraries that read through serde.
#[derive(serde::Deserialize)]
struct SerdeCarData {
    driver_number: i32,
    date: i64,
    speed: i32,
    drs: Option<i32>,
}

/// Reading car data: the generated codec against the Avro libraries.
fn codecs(dutch: &Path) -> Result<()> {
    let mut bodies = Vec::new();
    let mut archive = Archive::open(dutch)?;
    while let Some(block) = archive.next_block()? {
        for raw in block {
            let raw = raw?;
            if raw.stream == Collection::CarData as u16 {
                bodies.push(raw.payload.to_vec());
            }
        }
    }
    bodies.truncate(100_000);
    let generated = median(|| {
        for body in &bodies {
            std::hint::black_box(CarData::decode(&mut Reader::new(body))?);
        }
        Ok(())
    })?;
    let fast_schema: serde_avro_fast::Schema = CarData::SCHEMA.parse()?;
    let serde_avro_fast = median(|| {
        for body in &bodies {
            let read: SerdeCarData = serde_avro_fast::from_datum_slice(body, &fast_schema)?;
            std::hint::black_box((read.driver_number, read.date, read.speed, read.drs));
        }
        Ok(())
    })?;
    let schema = apache_avro::Schema::parse_str(CarData::SCHEMA)?;
    let reader = apache_avro::reader::datum::GenericDatumReader::builder(&schema).build()?;
    let apache = median(|| {
        for body in &bodies {
            std::hint::black_box(reader.read_value(&mut body.as_slice())?);
        }
        Ok(())
    })?;
    println!("decode of {} car data records         ns a record    times the generated codec", bodies.len());
    for (name, time) in
        [("generated codec", generated), ("serde_avro_fast, four fields", serde_avro_fast), ("apache-avro, schema resolved once", apache)]
    {
        println!(
            "  {name:<38}{:>10.0}{:>24.1}",
            time.as_secs_f64() * 1e9 / bodies.len() as f64,
            time.as_secs_f64() / generated.as_secs_f64()
        );
    }
    Ok(())
}

/// The most memory this process has had, where the system tells.
fn peak_memory_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1_024.0)
}
