//! Engines of a deployment in this process, as a group's members.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pitwall_engine::commit::EngineError;
use pitwall_engine::limits::Limits;
use pitwall_kafka::client::KafkaLogError;
use pitwall_kafka::engines;
use pitwall_kafka::log::KafkaLog;
use pitwall_kafka::members::MemberError;
use pitwall_kafka::options::Options;
use pitwall_schemas::log::SourceProgress;
use pitwall_schemas::shared::KnownAtQuality;

use super::race;

/// Far more than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(400);

type End = Result<(), MemberError<EngineError<KafkaLogError>>>;

/// Runs engines until told to stop.
pub(crate) fn run(options: &Options, limits: Limits, is_stopping: &AtomicBool) -> End {
    let graph = |source: &SourceProgress| {
        let quality = if source.is_reconstructed { KnownAtQuality::Reconstructed } else { KnownAtQuality::Received };
        race::graph(source.session_key, quality)
    };
    let log = KafkaLog::open(options.clone(), super::formula_1_streams()).unwrap();
    engines::run(log, limits, Arc::new(graph), Arc::new(|_: &_| {}), is_stopping)
}

/// A member of the group on a thread of its own.
pub(crate) struct Engines {
    is_stopping: Arc<AtomicBool>,
    thread: JoinHandle<End>,
}

impl Engines {
    pub(crate) fn start(options: &Options, limits: Limits) -> Self {
        let is_stopping = Arc::new(AtomicBool::new(false));
        let (options, told) = (options.clone(), is_stopping.clone());
        let thread = thread::spawn(move || run(&options, limits, &told));
        Self { is_stopping, thread }
    }

    pub(crate) fn stop(self) -> End {
        self.is_stopping.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }

    /// Waits until it ends by itself.
    pub(crate) fn wait(self) -> End {
        wait_for("the engine ends", || self.thread.is_finished());
        self.thread.join().unwrap()
    }
}

/// Waits until a session is closed.
pub(crate) fn wait_until_closed(log: &KafkaLog, session_key: i32, what: &str) {
    wait_for(what, || log.standing(session_key).unwrap().is_some_and(|standing| standing.is_closed));
}

/// Fails when it takes too long.
pub(crate) fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "{what}: not after {PATIENCE:?}");
        thread::sleep(Duration::from_millis(20));
    }
}
