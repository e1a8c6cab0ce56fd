//! From a sample handed to the engine to its frame at a WebSocket client, synced commit included, at the race's own pace; and how fast
//! the same path goes when nothing is waited for.

use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures_util::{SinkExt, StreamExt};
use pitwall_archive::archive::Archive;
use pitwall_edge::channel::Channel;
use pitwall_edge::reader::{Cause, ReadError, Reader, Span, Verified};
use pitwall_edge::{Hub, Options};
use pitwall_embedded::data::DataDirectory;
use pitwall_embedded::runtime::{Ingest, Runtime as SessionRuntime, SessionOptions};
use pitwall_engine::Micros;
use pitwall_engine::backtest::RawSource;
use pitwall_engine::limits::Limits;
use pitwall_engine::log::{Committed, NewRaw, StoredFact};
use tokio::runtime::Runtime;
use tokio_tungstenite::tungstenite::Message;

/// Samples taken in before anything is measured: some twenty minutes of the race.
const BEFORE: usize = 200_000;
/// How long frames are measured at the race's own pace.
const MEASURED: Duration = Duration::from_secs(45);

/// An edge without a past: nothing here asks for it.
struct NoPast;

impl Reader for NoPast {
    fn latest(&self, _: i32, _: i32, _: Channel, _: Option<Micros>) -> Result<Vec<StoredFact>, ReadError> {
        Ok(Vec::new())
    }
    fn history(&self, _: i32, _: i32, _: Channel, _: Span, _: usize) -> Result<Vec<StoredFact>, ReadError> {
        Ok(Vec::new())
    }
    fn fact(&self, _: i32, _: i32, _: u64) -> Result<Option<(Channel, StoredFact)>, ReadError> {
        Ok(None)
    }
    fn known_at(&self, _: i32, _: u64) -> Result<Option<Micros>, ReadError> {
        Ok(None)
    }
    fn last_known_by(&self, _: i32, _: Micros) -> Result<Option<u64>, ReadError> {
        Ok(None)
    }
    fn records(&self, _: i32, _: &[u64]) -> Result<Vec<Cause>, ReadError> {
        Ok(Vec::new())
    }
    fn verify(&self, _: i32) -> Result<Verified, ReadError> {
        Err(ReadError::Unsupported("a measurement has no past"))
    }
}

/// Every record of an archive, as it goes into a log.
pub(crate) fn raw_records(archive: &mut Archive) -> Result<Vec<NewRaw>> {
    let mut records = Vec::new();
    while let Some(block) = archive.next_block()? {
        for raw in block {
            let raw = raw?;
            records.push(NewRaw { stream: raw.stream, received_at: raw.received_at, payload: raw.payload.to_vec() });
        }
    }
    Ok(records)
}

/// Hands over `records` in batches and waits until the last is committed.
fn hand_over(ingest: &Ingest, first: usize, records: &[NewRaw]) -> Result<()> {
    let (send, committed) = mpsc::channel();
    for (number, batch) in records.chunks(2_000).enumerate() {
        let send = send.clone();
        let acknowledge = move |next| {
            let _ = send.send(next);
        };
        ingest.send((first + number * 2_000) as i64, batch.to_vec(), Some(Box::new(acknowledge)))?;
    }
    drop(send);
    committed.iter().last().context("nothing was committed")?;
    Ok(())
}

/// Frames as a client receives them: the time of the last record each covers, and when it came.
pub(crate) type Frames = mpsc::Receiver<(Option<Micros>, Instant)>;

/// Subscribes to timing, gaps and laps of a session.
pub(crate) fn watch(asynchronous: &Runtime, address: SocketAddr, session_key: i32) -> Frames {
    let (send, frames) = mpsc::channel();
    asynchronous.spawn(async move {
        let (mut socket, _) = tokio_tungstenite::connect_async(format!("ws://{address}/ws")).await?;
        for channel in ["timing", "gaps", "laps"] {
            let subscribe = serde_json::json!({"type": "subscribe", "channel": channel, "session": session_key});
            socket.send(Message::text(subscribe.to_string())).await?;
        }
        while let Some(Ok(message)) = socket.next().await {
            let received = Instant::now();
            if let Message::Text(text) = message
                && text.contains(r#""type":"frame""#)
            {
                let frame: serde_json::Value = serde_json::from_str(&text)?;
                let known_at = frame["known_at"].as_str().and_then(|time| time.parse::<Micros>().ok());
                let _ = send.send((known_at, received));
            }
        }
        anyhow::Ok(())
    });
    frames
}

/// Gives `records` from number `next` on as they arrived, `speed` times as fast. Answers the time of the last record given, and when.
pub(crate) fn at_pace(
    records: &[NewRaw],
    mut next: usize,
    speed: f64,
    time: Duration,
    mut give: impl FnMut(i64, &[NewRaw]) -> Result<()>,
) -> Result<Vec<(Micros, Instant)>> {
    let (begun, origin) = (Instant::now(), records[next].received_at);
    let now = || origin.plus((begun.elapsed().as_secs_f64() * speed * 1e6) as i64);
    let mut handed = Vec::new();
    while begun.elapsed() < time && next < records.len() {
        let due = now();
        let end = next + records[next..].partition_point(|record| record.received_at <= due);
        if end > next {
            handed.push((records[end - 1].received_at, Instant::now()));
            give(next as i64, &records[next..end])?;
            next = end;
        }
        let wait = records.get(next).map_or(0, |record| (record.received_at.since(now()) as f64 / speed) as i64);
        std::thread::sleep(Duration::from_micros(wait.max(200) as u64));
    }
    Ok(handed)
}

/// How long after it was given the last record that each frame covers had come, shortest first.
pub(crate) fn latencies(frames: &Frames, handed: &[(Micros, Instant)]) -> Vec<Duration> {
    let mut latencies: Vec<Duration> = frames
        .try_iter()
        .filter_map(|(known_at, received)| {
            let known_at = known_at?;
            let batch = handed.partition_point(|(received_at, _)| *received_at <= known_at).checked_sub(1)?;
            received.checked_duration_since(handed[batch].1)
        })
        .collect();
    latencies.sort_unstable();
    latencies
}

/// Prints percentiles.
pub(crate) fn tell(latencies: &[Duration]) -> Result<()> {
    anyhow::ensure!(latencies.len() > 100, "only {} frames came", latencies.len());
    let percentile = |part: f64| latencies[((latencies.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3;
    let [p50, p90, p99, most] = [0.5, 0.9, 0.99, 1.0].map(percentile);
    println!("  {} frames: p50 {p50:.2} ms, p90 {p90:.2} ms, p99 {p99:.2} ms, max {most:.2} ms", latencies.len());
    Ok(())
}

/// Measures and prints.
pub(crate) fn live(path: &std::path::Path) -> Result<()> {
    let mut archive = Archive::open(path)?;
    let (session_key, quality, source_id) = (archive.session_key(), archive.quality(), archive.source_id());
    let records = raw_records(&mut archive)?;
    let folder = tempfile::tempdir()?;
    let limits = Limits::default();
    let graph = move || pitwall_operators::graph(&limits).expect("a test builds the graph").for_session(session_key, 0, quality);
    let data = DataDirectory::open(folder.path(), graph().kinds(), pitwall_embedded::data::Options::default())?;
    let asynchronous = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let hub = Hub::new(Options { listen: ([127, 0, 0, 1], 0).into(), ..Options::default() });
    let bound = asynchronous.block_on(pitwall_edge::bind(hub.clone(), Arc::new(NoPast)))?;
    let address = bound.address();
    hub.set_ready();
    asynchronous.spawn(bound.serve(std::future::pending()));
    let observer = move |committed: &Committed<'_>| hub.committed(committed);
    let runtime = SessionRuntime::start(data.log, SessionOptions::replayed(session_key, source_id), graph, observer, None)?;
    let ingest = runtime.ingest();

    let begun = Instant::now();
    hand_over(&ingest, 0, &records[..BEFORE])?;
    let rate = BEFORE as f64 / begun.elapsed().as_secs_f64();
    let at_live_pace = BEFORE as f64 / ((records[BEFORE].received_at.since(records[0].received_at)) as f64 / 1e6);

    let frames = watch(&asynchronous, address, session_key);
    std::thread::sleep(Duration::from_millis(500));
    let handed = at_pace(&records, BEFORE, 1.0, MEASURED, |first, records| Ok(ingest.send(first, records.to_vec(), None)?))?;
    std::thread::sleep(Duration::from_millis(200));
    println!("live: sample handed over to frame received, frames of timing, gaps and laps in {} s, synced commits", MEASURED.as_secs());
    tell(&latencies(&frames, &handed))?;
    println!("  without waiting: {rate:.0} samples/s, {:.0} times the race's own pace of {at_live_pace:.0}/s\n", rate / at_live_pace);
    runtime.stop()?;
    Ok(())
}
