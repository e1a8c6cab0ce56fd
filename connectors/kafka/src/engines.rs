//! The engines of one process: a consumer group gives it partitions, and each partition has a thread that runs its sessions.
//!
//! The group only says who should work where. What keeps two engines apart is the fence of a partition's transactions, so a process that
//! has not heard yet that it lost a partition can do no harm. All topics have the same partitions, so the group's members subscribe to
//! one of them, that of the sources, and have the same partition of all others with it. A session is begun when its source shows up there
//! and left when its source has ended and everything is committed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pitwall_engine::Event;
use pitwall_engine::commit::{Engine, EngineError, Step};
use pitwall_engine::graph::Graph;
use pitwall_engine::limits::Limits;
use pitwall_engine::log::Committed;
use pitwall_schemas::log::SourceProgress;
use pitwall_schemas::topics;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::TopicPartitionList;

use crate::client::{Context, KafkaLogError};
use crate::log::KafkaLog;
use crate::options::Options;
use crate::scan::is_passing;

/// How often the group is listened to.
const POLL: Duration = Duration::from_millis(50);
/// How often a partition is looked at for new sessions.
const SOURCES_INTERVAL: Duration = Duration::from_millis(100);
/// How long a partition without input rests.
const REST: Duration = Duration::from_millis(2);
/// How long is waited after trouble before a partition is tried again.
const RETRY: Duration = Duration::from_secs(1);

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

impl<S> Clone for Common<S> {
    fn clone(&self) -> Self {
        let Self { log, limits, graph, tell } = self;
        Self { log: log.clone(), limits: limits.clone(), graph: graph.clone(), tell: tell.clone() }
    }
}

/// The partitions that the group has given to this process.
#[derive(Default)]
struct Membership {
    given: Mutex<BTreeSet<i32>>,
}

impl Membership {
    fn given(&self) -> MutexGuard<'_, BTreeSet<i32>> {
        self.given.lock().expect("no thread panics while it holds the partitions given")
    }
}

impl ClientContext for Membership {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        Context.log(level, fac, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        Context.error(error, reason);
    }
}

impl ConsumerContext for Membership {
    fn pre_rebalance(&self, _consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Revoke(partitions) = rebalance {
            let mut given = self.given();
            for element in partitions.elements() {
                given.remove(&element.partition());
            }
        }
    }

    fn post_rebalance(&self, _consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(partitions) = rebalance {
            self.given().extend(partitions.elements().iter().map(rdkafka::topic_partition_list::TopicPartitionListElem::partition));
        }
    }
}

/// A running partition.
struct Worker {
    is_stopping: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// Runs engines until `is_stopping` is set: what has been taken is committed then.
///
/// # Errors
/// When the group cannot be joined, or the system gives no thread. Trouble of a partition or session is logged and tried again.
pub fn run<S: Event>(
    log: KafkaLog,
    options: &Options,
    limits: Limits,
    graph: MakeGraph<S>,
    tell: Tell,
    is_stopping: &AtomicBool,
) -> Result<(), KafkaLogError> {
    let topic = format!("{}{}", options.prefix, topics::SOURCES);
    let consumer = join(options, &topic)?;
    let common = Common { log, limits, graph, tell };
    let mut workers: BTreeMap<i32, Worker> = BTreeMap::new();
    while !is_stopping.load(Ordering::Relaxed) {
        match consumer.poll(POLL) {
            // Partitions are read by their threads; here only the group is listened to.
            Some(Ok(message)) => {
                let mut partition = TopicPartitionList::new();
                partition.add_partition(&topic, rdkafka::Message::partition(&message));
                consumer.pause(&partition).map_err(|error| options.trouble(&topic, &error))?;
            }
            Some(Err(KafkaError::PartitionEOF(_))) | None => {}
            Some(Err(error)) if is_passing(&error) => {}
            Some(Err(error)) => return Err(options.trouble(&topic, &error)),
        }
        let given = consumer.context().given().clone();
        let lost: Vec<i32> = workers.keys().filter(|partition| !given.contains(partition)).copied().collect();
        stop(lost.into_iter().filter_map(|partition| workers.remove(&partition)).collect());
        for partition in given {
            if workers.get(&partition).is_none_or(|worker| worker.thread.is_finished()) {
                workers.insert(partition, start(partition, common.clone()).map_err(|error| KafkaLogError::Thread(error.to_string()))?);
            }
        }
    }
    stop(workers.into_values().collect());
    Ok(())
}

fn join(options: &Options, topic: &str) -> Result<BaseConsumer<Membership>, KafkaLogError> {
    let mut config = options.consumer()?;
    config
        .set("partition.assignment.strategy", "range")
        .set("auto.offset.reset", "latest")
        .set("session.timeout.ms", options.session_timeout_ms.to_string());
    if !options.instance.is_empty() {
        config.set("group.instance.id", &options.instance);
    }
    let consumer: BaseConsumer<Membership> =
        config.create_with_context(Membership::default()).map_err(|error| options.trouble("joining the group", &error))?;
    consumer.subscribe(&[topic]).map_err(|error| options.trouble(topic, &error))?;
    Ok(consumer)
}

/// All are told first, so that they stop side by side.
fn stop(workers: Vec<Worker>) {
    for worker in &workers {
        worker.is_stopping.store(true, Ordering::Relaxed);
    }
    for worker in workers {
        // A panic has been printed; the log is whole whatever happened.
        let _ = worker.thread.join();
    }
}

fn start<S: Event>(partition: i32, common: Common<S>) -> std::io::Result<Worker> {
    let is_stopping = Arc::new(AtomicBool::new(false));
    let told = is_stopping.clone();
    let thread = thread::Builder::new().name(format!("partition-{partition}")).spawn(move || {
        while !told.load(Ordering::Relaxed) {
            let Err(trouble) = Sessions::new(partition, &common).run(&told) else { return };
            tracing::warn!(partition, %trouble, "a partition is tried again");
            rest(RETRY, &told);
        }
    })?;
    Ok(Worker { is_stopping, thread })
}

/// Waits, but not longer than until the thread is told to stop.
fn rest(time: Duration, is_stopping: &AtomicBool) {
    let end = Instant::now() + time;
    while Instant::now() < end && !is_stopping.load(Ordering::Relaxed) {
        thread::sleep(REST.max(time / 100));
    }
}

/// The sessions of one partition, run in turn.
struct Sessions<'a, S> {
    partition: i32,
    common: &'a Common<S>,
    running: BTreeMap<i32, (SourceProgress, Engine<S, KafkaLog>)>,
    /// Sessions that cannot go on until this process or its operators change.
    broken: BTreeSet<i32>,
}

impl<'a, S: Event> Sessions<'a, S> {
    const fn new(partition: i32, common: &'a Common<S>) -> Self {
        Self { partition, common, running: BTreeMap::new(), broken: BTreeSet::new() }
    }

    fn run(&mut self, is_stopping: &AtomicBool) -> Result<(), EngineError<KafkaLogError>> {
        let mut looked: Option<Instant> = None;
        while !is_stopping.load(Ordering::Relaxed) {
            if looked.is_none_or(|looked| looked.elapsed() >= SOURCES_INTERVAL) {
                self.look_for_sessions()?;
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
            } else if !self.broken.contains(&session_key) && !self.is_done(&source)? {
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
        match Engine::start(self.common.log.clone(), session_key, move || graph(&known), limits) {
            Ok(engine) => {
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

    /// Trouble of one session stops that session; trouble of the log, or another engine's fence, begins the partition again.
    fn keep_going(&mut self, session_key: i32, error: EngineError<KafkaLogError>) -> Result<(), EngineError<KafkaLogError>> {
        match error {
            EngineError::Log(_) | EngineError::Fenced(_) => Err(error),
            EngineError::Ledger(_) | EngineError::NotRebuilt { .. } | EngineError::FactsDiffer { .. } => {
                tracing::error!(session_key, %error, "this session stands still");
                self.running.remove(&session_key);
                self.broken.insert(session_key);
                Ok(())
            }
        }
    }
}
