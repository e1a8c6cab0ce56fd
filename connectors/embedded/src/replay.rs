//! An archive as a live source: its records are released by their arrival times, faster or slower, and can be held.
//!
//! What comes before the race's start goes in at once, silences are shortened, and the thread wakes at most a hundred times a second.
//! Pace changes when a record is handed over, never what it says, so any speed comes to the same facts.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pitwall_engine::backtest::RawSource;
use pitwall_engine::log::NewRaw;
use pitwall_engine::session::{Output, RawRecord, Session};
use pitwall_engine::{Event, Micros};
use pitwall_schemas::raw::Sample;

use crate::runtime::Ingest;

/// Records handed over at a time.
const BATCH_RECORDS: usize = 2_000;

/// How an archive is replayed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// Session seconds a second; `f64::INFINITY` waits for nothing.
    pub speed: f64,
    /// Silences longer than this are shortened to it, ms of session time.
    pub silence_ms_max: i64,
    /// Records numbered below this go in at once.
    pub at_once_before: u64,
    /// Shortest sleep between two releases.
    pub wake_interval: Duration,
}

impl Pace {
    /// Session time `speed` times as fast, silences over 5 s skipped.
    #[must_use]
    pub const fn at(speed: f64) -> Self {
        Self { speed, silence_ms_max: 5_000, at_once_before: 0, wake_interval: Duration::from_millis(10) }
    }

    /// The same with everything before record `ingest_seq` at once.
    #[must_use]
    pub const fn starting_at(mut self, ingest_seq: u64) -> Self {
        self.at_once_before = ingest_seq;
        self
    }
}

/// How far a replay is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Session seconds a second.
    pub speed: f64,
    /// Whether it is held.
    pub is_paused: bool,
    /// Samples of the archive.
    pub samples: u64,
    /// Samples handed over so far, in this run and earlier ones.
    pub ingested: u64,
}

/// A speed that is no speed.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("a replay's speed is a number above 0, not {0}")]
pub struct NotASpeed(pub f64);

/// Steers a replay from other threads.
#[derive(Clone)]
pub struct ReplayHandle(Arc<Shared>);

struct Shared {
    steering: Mutex<Steering>,
    changed: Condvar,
    samples: u64,
    ingested: AtomicU64,
}

struct Steering {
    speed: f64,
    is_paused: bool,
    is_stopping: bool,
}

impl ReplayHandle {
    /// Changes the speed from now on.
    ///
    /// # Errors
    /// When it is not above 0.
    pub fn set_speed(&self, speed: f64) -> Result<(), NotASpeed> {
        if speed.is_nan() || speed <= 0.0 {
            return Err(NotASpeed(speed));
        }
        self.steering().speed = speed;
        self.0.changed.notify_all();
        Ok(())
    }

    /// Holds the replay or lets it go on.
    pub fn set_paused(&self, is_paused: bool) {
        self.steering().is_paused = is_paused;
        self.0.changed.notify_all();
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let steering = self.steering();
        Progress {
            speed: steering.speed,
            is_paused: steering.is_paused,
            samples: self.0.samples,
            ingested: self.0.ingested.load(Ordering::Relaxed),
        }
    }

    fn stop(&self) {
        self.steering().is_stopping = true;
        self.0.changed.notify_all();
    }

    fn steering(&self) -> MutexGuard<'_, Steering> {
        self.0.steering.lock().expect("no thread panics while it steers")
    }
}

/// A running replay. Dropping it stops it where it is.
pub struct Replay {
    handle: ReplayHandle,
    thread: Option<JoinHandle<Result<(), String>>>,
}

/// Files a sample under another session.
pub type Rename<S> = Box<dyn Fn(S) -> Vec<u8> + Send>;

/// Files OpenF1 samples under `session_key`.
#[must_use]
pub fn filed_under(session_key: i32) -> Rename<Sample> {
    Box::new(move |mut sample| {
        let mut payload = Vec::new();
        sample.set_session_key(session_key);
        sample.encode(&mut payload);
        payload
    })
}

impl Replay {
    /// Starts to replay `source`, which stands at the session's next record. `samples` is the archive's length.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start<S: Event, R: RawSource<S> + Send + 'static>(
        source: R,
        samples: u64,
        next_ingest_seq: i64,
        ingest: Ingest,
        pace: Pace,
        rename: Option<Rename<S>>,
    ) -> io::Result<Self>
    where
        R::Error: std::fmt::Display,
    {
        let steering = Steering { speed: pace.speed, is_paused: false, is_stopping: false };
        let ingested = AtomicU64::new(next_ingest_seq as u64);
        let handle = ReplayHandle(Arc::new(Shared { steering: Mutex::new(steering), changed: Condvar::new(), samples, ingested }));
        let mut releaser = Releaser { handle: handle.clone(), ingest, pace, clock: None, last: None, next_ingest_seq, waiting: Vec::new() };
        let thread = thread::Builder::new().name("replay".to_owned()).spawn(move || releaser.run(source, rename.as_ref()))?;
        Ok(Self { handle, thread: Some(thread) })
    }

    /// Steers this replay.
    #[must_use]
    pub fn handle(&self) -> ReplayHandle {
        self.handle.clone()
    }

    /// Whether everything has been handed over, or the session has stopped.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// When the source could not be read to its end, in its own words.
    pub fn join(mut self) -> Result<(), String> {
        self.thread
            .take()
            .map_or(Ok(()), |thread| thread.join().unwrap_or_else(|_| Err("the replay stopped because of a defect".to_owned())))
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        self.handle.stop();
        if let Some(thread) = self.thread.take() {
            // Its error is the caller's to ask for with `join`.
            let _ = thread.join();
        }
    }
}

struct Releaser {
    handle: ReplayHandle,
    ingest: Ingest,
    pace: Pace,
    /// A real moment and the session time it stands for.
    clock: Option<(Instant, Micros)>,
    /// Arrival of the last record released.
    last: Option<Micros>,
    next_ingest_seq: i64,
    waiting: Vec<NewRaw>,
}

/// The session or the replay is being stopped.
struct Cancelled;

impl Releaser {
    fn run<S: Event, R: RawSource<S>>(&mut self, mut source: R, rename: Option<&Rename<S>>) -> Result<(), String>
    where
        R::Error: std::fmt::Display,
    {
        while let Some(block) = source.next_block().map_err(|error| error.to_string())? {
            for raw in block {
                let raw = raw.map_err(|error| error.to_string())?;
                if self.release(raw, rename).is_err() {
                    return Ok(());
                }
            }
        }
        if self.flush().is_ok() {
            // A session that has stopped says why itself.
            let _ = self.ingest.end();
        }
        Ok(())
    }

    fn release<S>(&mut self, raw: RawRecord<'_, S>, rename: Option<&Rename<S>>) -> Result<(), Cancelled> {
        let RawRecord { stream, received_at, payload, event, .. } = raw;
        self.wait_for(received_at)?;
        let payload = match (rename, event) {
            (Some(rename), Ok(event)) => rename(event),
            _ => payload.to_vec(),
        };
        self.waiting.push(NewRaw { stream, received_at, payload });
        self.last = Some(received_at);
        if self.waiting.len() >= BATCH_RECORDS { self.flush() } else { Ok(()) }
    }

    /// Waits until a record that arrived at `received_at` is due; what was due earlier goes out before any sleep.
    fn wait_for(&mut self, received_at: Micros) -> Result<(), Cancelled> {
        let is_at_once = (self.next_ingest_seq as u64 + self.waiting.len() as u64) < self.pace.at_once_before;
        loop {
            let steering = self.handle.steering();
            if steering.is_stopping {
                return Err(Cancelled);
            }
            if steering.is_paused {
                drop(steering);
                self.flush()?;
                self.clock = None;
                let steering = self.handle.steering();
                let held = self.handle.0.changed.wait_while(steering, |steering| steering.is_paused && !steering.is_stopping);
                drop(held.expect("no thread panics while it steers"));
                continue;
            }
            if is_at_once || !steering.speed.is_finite() {
                self.clock = None;
                return Ok(());
            }
            let speed = steering.speed;
            drop(steering);
            let now = Instant::now();
            let from = self.last.unwrap_or(received_at);
            let (since, mut at) = self.clock.unwrap_or((now, from));
            at = at.plus((now.duration_since(since).as_secs_f64() * speed * 1e6) as i64);
            // A silence is shortened: session time jumps so close that only the permitted wait is left.
            let silence = self.pace.silence_ms_max.saturating_mul(1_000);
            if received_at.since(from) > silence {
                at = at.max(received_at.plus(-silence));
            }
            self.clock = Some((now, at));
            if received_at <= at {
                return Ok(());
            }
            self.flush()?;
            let due = Duration::from_secs_f64((received_at.since(at) as f64 / 1e6 / speed).min(1.0));
            let steering = self.handle.steering();
            if steering.is_stopping || steering.is_paused {
                continue;
            }
            // Woken early by steering, it looks again.
            drop(self.handle.0.changed.wait_timeout(steering, due.max(self.pace.wake_interval)).expect("no thread panics while it steers"));
        }
    }

    fn flush(&mut self) -> Result<(), Cancelled> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let records = std::mem::take(&mut self.waiting);
        let first = self.next_ingest_seq;
        self.next_ingest_seq += records.len() as i64;
        self.ingest.send(first, records, None).map_err(|_| Cancelled)?;
        self.handle.0.ingested.store(self.next_ingest_seq as u64, Ordering::Relaxed);
        Ok(())
    }
}

/// The number of the first sample after which `is_reached` holds for the session, in a run of its own; `None` when it never does. So a
/// replay finds the race's start.
///
/// # Errors
/// When the source cannot be read.
pub fn first_sample_where<S: Event, R: RawSource<S>>(
    source: &mut R,
    session: Session<S>,
    is_reached: impl Fn(&Session<S>) -> bool,
) -> Result<Option<u64>, R::Error> {
    let (mut session, mut output) = (session.without_keyframes(), Output::default());
    while let Some(block) = source.next_block()? {
        for raw in block {
            let raw = raw?;
            let ingest_seq = raw.ingest_seq as u64;
            let halted = session.take(&raw, &mut output).is_err();
            output.clear();
            if halted || is_reached(&session) {
                return Ok((!halted).then_some(ingest_seq));
            }
        }
    }
    Ok(None)
}
