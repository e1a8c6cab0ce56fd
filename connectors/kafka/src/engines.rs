//! The engines of one process: a [membership](crate::members) gives it partitions, and each partition's thread runs its sessions in turn.
//!
//! A session is begun when its source shows up among the sources and left when its source has ended and everything is committed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pitwall_engine::Event;
use pitwall_engine::commit::{Engine, EngineError, Step};
use pitwall_engine::graph::Graph;
use pitwall_engine::limits::Limits;
use pitwall_engine::log::Committed;
use pitwall_schemas::log::SourceProgress;

use crate::client::KafkaLogError;
use crate::log::KafkaLog;
use crate::members::{self, MemberError, Trouble};
use crate::metrics;

/// How often a partition is looked at for new sessions.
const SOURCES_INTERVAL: Duration = Duration::from_millis(100);
/// How long a partition without input rests.
const REST: Duration = Duration::from_millis(2);

/// Makes the graph of a session, given where its source stands.
pub type MakeGraph<S> = Arc<dyn Fn(&SourceProgress) -> Graph<S> + Send + Sync>;
/// Is told of every commit, on the thread of its partition.
pub type Tell = Arc<dyn Fn(&Committed<'_>) + Send + Sync>;

/// What the threads of all partitions share.
struct Common<S> {
    log: KafkaLog,
    limits: Limits,
    graph: MakeGraph<S>,
    tell: Tell,
}

impl Trouble for EngineError<KafkaLogError> {
    fn is_passing(&self) -> bool {
        match self {
            Self::Log(error) => error.is_passing(),
            Self::Fenced(_) => true,
            // Sessions with these are set aside; they do not get this far.
            Self::Ledger(_) | Self::NotRebuilt { .. } | Self::FactsDiffer { .. } => false,
        }
    }
}

/// Runs engines until `is_stopping` is set: what has been taken is committed then.
///
/// # Errors
/// When the group cannot be joined, the system gives no thread, or the log has trouble that does not pass, such as a topic that is gone.
/// Passing trouble is logged and tried again; trouble of one session stops that session alone.
pub fn run<S: Event>(
    log: KafkaLog,
    limits: Limits,
    graph: MakeGraph<S>,
    tell: Tell,
    is_stopping: &AtomicBool,
) -> Result<(), MemberError<EngineError<KafkaLogError>>> {
    let (options, topics) = (log.options().clone(), log.member_topics());
    let common = Common { log, limits, graph, tell };
    let work = move |partition, is_stopping: &AtomicBool| {
        Sessions::new(partition, &common).run(is_stopping).map_err(|error| match error {
            EngineError::Log(error) => EngineError::Log(common.log.certain(error)),
            other => other,
        })
    };
    members::run(&options, &options.group_id(), &topics, work, is_stopping)
}

/// The sessions of one partition, run in turn.
struct Sessions<'a, S> {
    partition: i32,
    common: &'a Common<S>,
    running: BTreeMap<i32, (SourceProgress, Engine<S, KafkaLog>)>,
    /// Sessions that cannot go on until this process or its operators change.
    broken: BTreeSet<i32>,
    /// Sources whose sessions are complete: nothing is to do until one of them has more.
    done: BTreeMap<i32, SourceProgress>,
    /// How far a session's source was known to go, and since when, until the ledger gets there.
    marks: BTreeMap<i32, (i64, Instant)>,
}

impl<'a, S: Event> Sessions<'a, S> {
    const fn new(partition: i32, common: &'a Common<S>) -> Self {
        Self { partition, common, running: BTreeMap::new(), broken: BTreeSet::new(), done: BTreeMap::new(), marks: BTreeMap::new() }
    }

    fn run(&mut self, is_stopping: &AtomicBool) -> Result<(), EngineError<KafkaLogError>> {
        let mut looked: Option<Instant> = None;
        while !is_stopping.load(Ordering::Relaxed) {
            if looked.is_none_or(|looked| looked.elapsed() >= SOURCES_INTERVAL) {
                self.look_for_sessions()?;
                self.measure();
                looked = Some(Instant::now());
            }
            if !self.step_all()? {
                thread::sleep(REST);
            }
        }
        Ok(())
    }

    fn look_for_sessions(&mut self) -> Result<(), EngineError<KafkaLogError>> {
        for source in self.common.log.sources(self.partition).map_err(EngineError::Log)? {
            let session_key = source.session_key;
            if let Some((known, _)) = self.running.get_mut(&session_key) {
                *known = source;
            } else if self.broken.contains(&session_key) || self.done.get(&session_key) == Some(&source) {
                // Nothing to do.
            } else if self.is_done(&source)? {
                self.done.insert(session_key, source);
            } else {
                self.begin(source)?;
            }
        }
        Ok(())
    }

    fn is_done(&self, source: &SourceProgress) -> Result<bool, EngineError<KafkaLogError>> {
        let standing = self.common.log.standing(source.session_key).map_err(EngineError::Log)?;
        Ok(source.has_ended && standing.is_some_and(|at| at.is_closed && at.next_ingest_seq >= source.next_ingest_seq))
    }

    fn begin(&mut self, source: SourceProgress) -> Result<(), EngineError<KafkaLogError>> {
        let (session_key, graph, limits) = (source.session_key, self.common.graph.clone(), self.common.limits.clone());
        let known = source.clone();
        let begun = Instant::now();
        match Engine::start(self.common.log.clone(), session_key, move || graph(&known), limits) {
            Ok(engine) => {
                ::metrics::histogram!(metrics::RESTORE_SECONDS).record(begun.elapsed().as_secs_f64());
                tracing::info!(
                    session_key,
                    partition = self.partition,
                    next_seq = engine.head().map_or(0, |head| head.last_seq + 1),
                    "begun"
                );
                self.running.insert(session_key, (source, engine));
                Ok(())
            }
            Err(error) => self.keep_going(session_key, error),
        }
    }

    /// Lets every session take what has come. Says whether any did.
    fn step_all(&mut self) -> Result<bool, EngineError<KafkaLogError>> {
        let mut has_moved = false;
        for session_key in self.running.keys().copied().collect::<Vec<_>>() {
            let Some((source, engine)) = self.running.get_mut(&session_key) else { continue };
            let mut step = engine.step(None);
            let has_all = |engine: &Engine<S, KafkaLog>| engine.head().is_some_and(|head| head.next_ingest_seq >= source.next_ingest_seq);
            let is_quiet = |step: &Step| step.records == 0 && !step.has_recovered;
            if source.has_ended && step.as_ref().is_ok_and(is_quiet) && has_all(engine) {
                step = engine.close();
            }
            match step {
                Ok(step) => {
                    has_moved |= !is_quiet(&step);
                    if let Some(committed) = engine.committed(&step) {
                        ::metrics::counter!(metrics::RECORDS).increment(committed.records as u64);
                        (self.common.tell)(&committed);
                    }
                    if source.has_ended && engine.is_closed() && has_all(engine) {
                        self.running.remove(&session_key);
                    }
                }
                Err(error) => self.keep_going(session_key, error)?,
            }
        }
        Ok(has_moved)
    }

    /// Tells the metrics how far behind the partition's sessions are.
    fn measure(&mut self) {
        let mut lag = 0;
        for (session_key, (source, engine)) in &self.running {
            let taken = engine.head().map_or(0, |head| head.next_ingest_seq);
            lag += (source.next_ingest_seq - taken).max(0);
            if self.marks.get(session_key).is_none_or(|(mark, _)| taken >= *mark) {
                self.marks.insert(*session_key, (source.next_ingest_seq, Instant::now()));
            }
            if taken >= source.next_ingest_seq {
                self.marks.remove(session_key);
            }
        }
        self.marks.retain(|session_key, _| self.running.contains_key(session_key));
        let oldest = self.marks.values().map(|(_, since)| since.elapsed()).max().unwrap_or_default();
        tell(self.partition, lag, oldest, self.running.len(), self.broken.len());
    }

    /// Trouble of one session, as records that retention has deleted, stops that session; trouble of the log, or another engine's fence,
    /// begins the partition again.
    fn keep_going(&mut self, session_key: i32, error: EngineError<KafkaLogError>) -> Result<(), EngineError<KafkaLogError>> {
        match error {
            EngineError::Log(KafkaLogError::Deleted { .. })
            | EngineError::Ledger(_)
            | EngineError::NotRebuilt { .. }
            | EngineError::FactsDiffer { .. } => {
                tracing::error!(session_key, %error, "this session stands still");
                self.running.remove(&session_key);
                self.broken.insert(session_key);
                Ok(())
            }
            EngineError::Log(_) | EngineError::Fenced(_) => Err(error),
        }
    }
}

impl<S> Drop for Sessions<'_, S> {
    /// What another process does with the partition is its own to tell.
    fn drop(&mut self) {
        tell(self.partition, 0, Duration::ZERO, 0, 0);
    }
}

fn tell(partition: i32, lag: i64, oldest: Duration, running: usize, broken: usize) {
    let partition = partition.to_string();
    ::metrics::gauge!(metrics::LAG, "partition" => partition.clone()).set(lag as f64);
    ::metrics::gauge!(metrics::WATERMARK_DELAY_SECONDS, "partition" => partition.clone()).set(oldest.as_secs_f64());
    ::metrics::gauge!(metrics::SESSIONS, "partition" => partition.clone(), "state" => "running").set(running as f64);
    ::metrics::gauge!(metrics::SESSIONS, "partition" => partition, "state" => "broken").set(broken as f64);
}
