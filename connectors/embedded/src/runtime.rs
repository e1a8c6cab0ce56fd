//! One session, live: a thread that takes raw records in, runs the engine, commits as soon as nothing more is waiting, and tells.
//!
//! Records come through a bounded channel, so a source that is faster than the disk waits. A batch is acknowledged when all of it is
//! committed. Stopping takes what is in the channel, commits it and leaves; the next start goes on there.

use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use pitwall_engine::commit::{Engine, EngineError, Step};
use pitwall_engine::graph::Graph;
use pitwall_engine::hash::Digest;
use pitwall_engine::limits::Limits;
use pitwall_engine::log::{AppendError, Head, NewRaw, Observer, RawLog};
use pitwall_engine::{Event, Micros};

use crate::data::EmbeddedError;
use crate::log::EmbeddedLog;
use crate::sink::Pending;

/// What a session's thread needs to know.
pub struct SessionOptions {
    /// The session.
    pub session_key: i32,
    /// The source whose records it takes.
    pub source_id: Digest,
    /// Bounds of the engine.
    pub limits: Limits,
    /// Batches waiting in the channel. One more waits at its sender.
    pub batches_max: usize,
    /// The clock, for live sources only; a replayed session sees no time but its records'.
    pub clock: Option<fn() -> Micros>,
}

impl SessionOptions {
    /// A replayed session with every bound at its default.
    #[must_use]
    pub fn replayed(session_key: i32, source_id: Digest) -> Self {
        Self { session_key, source_id, limits: Limits::default(), batches_max: 8, clock: None }
    }
}

/// How often a live session looks at the clock while nothing arrives.
const CLOCK_INTERVAL: Duration = Duration::from_millis(100);

/// Why a session's thread stopped.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The engine cannot go on.
    #[error(transparent)]
    Engine(#[from] EngineError<EmbeddedError>),
    /// The log does not take the source's records.
    #[error(transparent)]
    Append(#[from] AppendError<EmbeddedError>),
    /// The system gives no thread.
    #[error("a session's thread cannot be started: {0}")]
    Thread(io::Error),
    /// The session's thread panicked.
    #[error("session {0} stopped because of a defect; its log is whole: start again to go on")]
    Panicked(i32),
}

/// Called with the `ingest_seq` behind a batch once all of the batch is committed.
pub type Acknowledge = Box<dyn FnOnce(i64) + Send>;

enum Message {
    Batch { first_ingest_seq: i64, records: Vec<NewRaw>, acknowledge: Option<Acknowledge> },
    End,
    Stop,
}

/// A running session.
pub struct Runtime {
    session_key: i32,
    send: SyncSender<Message>,
    thread: JoinHandle<Result<Option<Head>, RuntimeError>>,
    next_ingest_seq: i64,
    resumed_at: Option<Head>,
}

/// Hands raw records to a session's thread.
#[derive(Clone)]
pub struct Ingest {
    send: SyncSender<Message>,
}

/// The session's thread has stopped; [`Runtime::join`] says why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the session has stopped")]
pub struct Stopped;

impl Ingest {
    /// Hands over records numbered from `first_ingest_seq` on; waits while the channel is full.
    ///
    /// # Errors
    /// When the session has stopped.
    pub fn send(&self, first_ingest_seq: i64, records: Vec<NewRaw>, acknowledge: Option<Acknowledge>) -> Result<(), Stopped> {
        self.send.send(Message::Batch { first_ingest_seq, records, acknowledge }).map_err(|_| Stopped)
    }

    /// Says that the source has ended: the session is closed once everything before is committed.
    ///
    /// # Errors
    /// When the session has stopped.
    pub fn end(&self) -> Result<(), Stopped> {
        self.send.send(Message::End).map_err(|_| Stopped)
    }
}

impl Runtime {
    /// Recovers the session and starts its thread. `graph` makes the session's graph anew, filed under the session; `observer` is
    /// told of every commit on the session's thread.
    ///
    /// # Errors
    /// When the session belongs to another source, or cannot be recovered.
    pub fn start<S: Event>(
        log: EmbeddedLog,
        options: SessionOptions,
        graph: impl Fn() -> Graph<S> + Send + 'static,
        observer: impl Observer + Send + 'static,
        sink: Option<Pending>,
    ) -> Result<Self, RuntimeError> {
        let session_key = options.session_key;
        let next_ingest_seq = log.clone().ingest_end(session_key, options.source_id)?;
        let (send, receive) = mpsc::sync_channel(options.batches_max);
        let (started, has_started) = mpsc::sync_channel(1);
        let run = move || {
            let engine = Engine::start(log, session_key, graph, options.limits.clone())?;
            // The starter waits for this; if it has gone, so has the session's reason to be.
            let _ = started.send(engine.head().copied());
            Worker { engine, options, observer, sink, receive }.run()
        };
        let thread = thread::Builder::new().name(format!("session-{session_key}")).spawn(run).map_err(RuntimeError::Thread)?;
        match has_started.recv() {
            Ok(resumed_at) => Ok(Self { session_key, send, thread, next_ingest_seq, resumed_at }),
            Err(_) => match thread.join() {
                Ok(Err(error)) => Err(error),
                _ => Err(RuntimeError::Panicked(session_key)),
            },
        }
    }

    /// Where the source must go on.
    #[must_use]
    pub const fn next_ingest_seq(&self) -> i64 {
        self.next_ingest_seq
    }

    /// Where the session stood when it was started; `None` for a new one.
    #[must_use]
    pub const fn resumed_at(&self) -> Option<&Head> {
        self.resumed_at.as_ref()
    }

    /// Hands records to the session; clones go to other threads.
    #[must_use]
    pub fn ingest(&self) -> Ingest {
        Ingest { send: self.send.clone() }
    }

    /// Whether the thread has stopped.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.thread.is_finished()
    }

    /// Commits what has been handed over, then stops. Returns where the session stands.
    ///
    /// # Errors
    /// Why the thread stopped, if it did so earlier.
    pub fn stop(self) -> Result<Option<Head>, RuntimeError> {
        // Refused only by a thread that has stopped, and `join` says why.
        let _ = self.send.send(Message::Stop);
        self.join()
    }

    /// Waits until the thread stops: because of an error or because every [`Ingest`] is gone.
    ///
    /// # Errors
    /// Why it stopped.
    pub fn join(self) -> Result<Option<Head>, RuntimeError> {
        drop(self.send);
        self.thread.join().unwrap_or(Err(RuntimeError::Panicked(self.session_key)))
    }
}

struct Worker<S, O> {
    engine: Engine<S, EmbeddedLog>,
    options: SessionOptions,
    observer: O,
    sink: Option<Pending>,
    receive: Receiver<Message>,
}

impl<S: Event, O: Observer> Worker<S, O> {
    fn run(mut self) -> Result<Option<Head>, RuntimeError> {
        let mut is_stopping = false;
        while !is_stopping {
            let mut acknowledgements = Vec::new();
            let mut has_ended = false;
            let mut taken = 0;
            let mut message = self.next(&mut is_stopping);
            while let Some(received) = message.take() {
                match received {
                    Message::Batch { first_ingest_seq, records, acknowledge } => {
                        taken += records.len();
                        let next = first_ingest_seq + records.len() as i64;
                        let source_id = self.options.source_id;
                        self.engine.log_mut().append(self.options.session_key, source_id, first_ingest_seq, records)?;
                        acknowledgements.extend(acknowledge.map(|acknowledge| (next, acknowledge)));
                        if taken < self.options.limits.commit_records_live_max {
                            message = self.receive.try_recv().ok();
                        }
                    }
                    Message::End => has_ended = true,
                    Message::Stop => is_stopping = true,
                }
            }
            self.commit_all()?;
            for (next, acknowledge) in acknowledgements {
                acknowledge(next);
            }
            while has_ended && !self.engine.is_closed() {
                let step = self.engine.close()?;
                self.tell(&step);
            }
        }
        Ok(self.engine.head().copied())
    }

    /// The next message; `None` when only time has passed or every sender is gone.
    fn next(&mut self, is_stopping: &mut bool) -> Option<Message> {
        let received = match self.options.clock {
            None => self.receive.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(_) => self.receive.recv_timeout(CLOCK_INTERVAL),
        };
        *is_stopping = matches!(received, Err(RecvTimeoutError::Disconnected));
        received.ok()
    }

    fn commit_all(&mut self) -> Result<(), RuntimeError> {
        loop {
            let step = self.engine.step(self.options.clock.map(|clock| clock()))?;
            self.tell(&step);
            if step.records == 0 && !step.has_recovered {
                return Ok(());
            }
        }
    }

    fn tell(&mut self, step: &Step) {
        if let Some(committed) = self.engine.committed(step) {
            self.observer.committed(&committed);
            if let Some(sink) = &self.sink {
                sink.tell(committed.session_key, committed.head.epoch);
            }
        }
    }
}
