//! An archive as a live source: its records are released by their arrival times, faster or slower, and can be held.
//!
//! What comes before the race's start goes in at once, silences are shortened, and the thread wakes at most a hundred times a second.
//! Pace changes when a record is handed over, never what it says, so any speed comes to the same facts.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use pitwall_engine::backtest::RawSource;
use pitwall_engine::log::NewRaw;
use pitwall_engine::session::{Output, RawRecord, Session};
use pitwall_engine::{Event, Micros};
use pitwall_schemas::raw::Sample;

use crate::pace::{Pace, Pacer};
use crate::runtime::Ingest;

/// Records handed over at a time.
const BATCH_RECORDS: usize = 2_000;

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
        let mut releaser = Releaser { handle: handle.clone(), ingest, pacer: Pacer::new(pace), next_ingest_seq, waiting: Vec::new() };
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
    pacer: Pacer,
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
        self.pacer.released(received_at);
        if self.waiting.len() >= BATCH_RECORDS { self.flush() } else { Ok(()) }
    }

    /// Waits until a record that arrived at `received_at` is due; what was due earlier goes out before any sleep.
    fn wait_for(&mut self, received_at: Micros) -> Result<(), Cancelled> {
        let ingest_seq = self.next_ingest_seq as u64 + self.waiting.len() as u64;
        loop {
            let steering = self.handle.steering();
            if steering.is_stopping {
                return Err(Cancelled);
            }
            if steering.is_paused {
                drop(steering);
                self.flush()?;
                self.pacer.rest();
                let steering = self.handle.steering();
                let held = self.handle.0.changed.wait_while(steering, |steering| steering.is_paused && !steering.is_stopping);
                drop(held.expect("no thread panics while it steers"));
                continue;
            }
            let speed = steering.speed;
            drop(steering);
            let wait = self.pacer.wait(ingest_seq, received_at, speed, Instant::now());
            if wait.is_zero() {
                return Ok(());
            }
            self.flush()?;
            let steering = self.handle.steering();
            if steering.is_stopping || steering.is_paused {
                continue;
            }
            // Woken early by steering, it looks again.
            drop(self.handle.0.changed.wait_timeout(steering, wait).expect("no thread panics while it steers"));
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
