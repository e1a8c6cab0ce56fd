//! Membership of a consumer group that gives partitions to this process, and a thread for each partition given.
//!
//! Members subscribe to every raw topic and to the sources. All have the same partitions and the assignment is by range, so partition p of
//! each of them sits on one member, and with it partition p of every other topic. What is assigned is paused at once: the group only says
//! who should work where, and the threads read for themselves. What keeps two of them apart is the fence of a partition's transactions, so
//! a process that has not heard yet that it lost a partition can do no harm.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::KafkaError;

use crate::client::{Context, KafkaLogError, is_unknown_topic};
use crate::metrics;
use crate::options::Options;
use crate::scan::is_passing;
use crate::topics;

/// How often the group is listened to.
const POLL: Duration = Duration::from_millis(50);
/// Members learn at a heartbeat that partitions are to be shared out anew: a takeover waits for the slowest, ms.
const HEARTBEAT_MS_MAX: u64 = 300;
/// How often a thread that was told to stop is looked after.
const STOP_POLL: Duration = Duration::from_millis(2);
/// How long is waited after trouble before a partition is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Why a partition's thread cannot go on.
pub trait Trouble: Display + Send + 'static {
    /// Whether it may go away by itself. The partition is then tried again; else the membership ends with it.
    fn is_passing(&self) -> bool;
}

impl Trouble for KafkaLogError {
    fn is_passing(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

/// Why a membership ended without being told to.
#[derive(Debug, thiserror::Error)]
pub enum MemberError<E> {
    /// The group cannot be joined or heard.
    #[error(transparent)]
    Group(#[from] KafkaLogError),
    /// The work of a partition cannot go on.
    #[error("partition {partition}: {trouble}")]
    Work {
        /// The partition.
        partition: i32,
        /// Why.
        trouble: E,
    },
    /// The system gives no thread.
    #[error("a partition's thread cannot be started: {0}")]
    Thread(io::Error),
    /// The thread of a partition panicked.
    #[error("partition {0} stopped because of a defect; the log is whole: start again to go on")]
    Panicked(i32),
}

/// A running partition.
struct Worker<E> {
    is_stopping: Arc<AtomicBool>,
    thread: JoinHandle<Result<(), E>>,
}

impl<E> Worker<E> {
    fn tell_to_stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }

    /// Whether it has been told to stop: its partition is another member's.
    fn is_leaving(&self) -> bool {
        self.is_stopping.load(Ordering::Relaxed)
    }
}

/// The partitions that the group has given to this process and the threads of them, those that are on their way out included.
struct Membership<E> {
    given: Mutex<BTreeSet<i32>>,
    workers: Mutex<BTreeMap<i32, Worker<E>>>,
    /// How long a revocation waits for threads to commit.
    revocation: Duration,
    /// The group's name, for metrics.
    group: String,
}

impl<E> Membership<E> {
    fn given(&self) -> MutexGuard<'_, BTreeSet<i32>> {
        self.given.lock().expect("no thread panics while it holds the partitions given")
    }

    fn workers(&self) -> MutexGuard<'_, BTreeMap<i32, Worker<E>>> {
        self.workers.lock().expect("no thread panics while it holds the workers")
    }

    fn count_rebalance(&self) {
        ::metrics::counter!(metrics::REBALANCES, "group" => self.group.clone()).increment(1);
        ::metrics::gauge!(metrics::PARTITIONS, "group" => self.group.clone()).set(self.given().len() as f64);
    }

    /// Tells the threads of `partitions` to stop and waits a bounded time, so that what they have taken is committed before another member
    /// takes over. One that is not done by then, since it is still restoring, is left to itself: the other member's fence stops it.
    fn leave(&self, partitions: &BTreeSet<i32>) {
        let workers = self.workers();
        let leaving = || workers.iter().filter(|(partition, _)| partitions.contains(*partition)).map(|(_, worker)| worker);
        leaving().for_each(Worker::tell_to_stop);
        let end = Instant::now() + self.revocation;
        while leaving().any(|worker| !worker.thread.is_finished()) && Instant::now() < end {
            thread::sleep(STOP_POLL);
        }
    }
}

impl<E: Send> ClientContext for Membership<E> {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        Context.log(level, fac, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        Context.error(error, reason);
    }
}

impl<E: Send> ConsumerContext for Membership<E> {
    fn pre_rebalance(&self, _consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Revoke(partitions) = rebalance {
            let lost: BTreeSet<i32> = partitions.elements().iter().map(|element| element.partition()).collect();
            self.given().retain(|partition| !lost.contains(partition));
            self.count_rebalance();
            self.leave(&lost);
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(partitions) = rebalance {
            if let Err(error) = consumer.pause(partitions) {
                // Only costs: what is fetched is thrown away.
                tracing::warn!(%error, "the partitions given are not paused");
            }
            self.given().extend(partitions.elements().iter().map(|element| element.partition()));
            self.count_rebalance();
        }
    }
}

/// Joins the group `group` over the topics `subscribed` and runs `work` for each partition given, on a thread of its own, until `is_stopping` is set.
///
/// `work` is told the partition and when to stop; it returns when it was told and has committed what it has taken. Passing trouble of it is
/// logged and tried again.
///
/// # Errors
/// When the group cannot be joined, the system gives no thread, or `work` has trouble that does not pass. All threads have ended then.
pub fn run<E: Trouble>(
    options: &Options,
    group: &str,
    subscribed: &[String],
    work: impl Fn(i32, &AtomicBool) -> Result<(), E> + Send + Sync + 'static,
    is_stopping: &AtomicBool,
) -> Result<(), MemberError<E>> {
    let consumer = join(options, group, subscribed)?;
    let work = Arc::new(work);
    let result = (|| {
        while !is_stopping.load(Ordering::Relaxed) {
            match consumer.poll(POLL) {
                Some(Ok(_) | Err(KafkaError::PartitionEOF(_))) | None => {}
                Some(Err(error)) if is_passing(&error) => {}
                Some(Err(error)) if is_unknown_topic(&error) => topics::expect_there(options, subscribed)?,
                Some(Err(error)) => return Err(options.trouble(format!("listening to group {group}"), &error).into()),
            }
            tend(consumer.context(), &work)?;
        }
        Ok(())
    })();
    let workers = std::mem::take(&mut *consumer.context().workers());
    // All are told first, so that they stop side by side.
    workers.values().for_each(Worker::tell_to_stop);
    for (partition, worker) in workers {
        if worker.thread.join().is_err() {
            tracing::error!(partition, "the partition's thread panicked while it stopped; the log is whole");
        }
    }
    result
}

fn join<E: Send>(options: &Options, group: &str, topics: &[String]) -> Result<BaseConsumer<Membership<E>>, KafkaLogError> {
    let mut config = options.consumer()?;
    config
        .set("group.id", group)
        .set("partition.assignment.strategy", "range")
        .set("auto.offset.reset", "latest")
        .set("session.timeout.ms", options.session_timeout_ms.to_string())
        .set("heartbeat.interval.ms", (options.session_timeout_ms / 3).clamp(1, HEARTBEAT_MS_MAX).to_string());
    if !options.instance.is_empty() {
        config.set("group.instance.id", &options.instance);
    }
    let membership = Membership {
        given: Mutex::default(),
        workers: Mutex::default(),
        revocation: Duration::from_millis(options.revocation_ms),
        group: group.to_owned(),
    };
    let doing = || format!("joining group {group}");
    let consumer: BaseConsumer<Membership<E>> = config.create_with_context(membership).map_err(|error| options.trouble(doing(), &error))?;
    let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
    consumer.subscribe(&topics).map_err(|error| options.trouble(doing(), &error))?;
    Ok(consumer)
}

/// Takes leave of threads that have ended and starts those of partitions newly given.
fn tend<E: Trouble, W>(membership: &Membership<E>, work: &Arc<W>) -> Result<(), MemberError<E>>
where
    W: Fn(i32, &AtomicBool) -> Result<(), E> + Send + Sync + 'static,
{
    let given = membership.given().clone();
    let mut workers = membership.workers();
    let ended: Vec<i32> = workers.iter().filter(|(_, worker)| worker.thread.is_finished()).map(|(partition, _)| *partition).collect();
    for partition in ended {
        let Some(worker) = workers.remove(&partition) else { continue };
        let is_leaving = worker.is_leaving();
        match worker.thread.join() {
            Ok(Err(trouble)) if !is_leaving => return Err(MemberError::Work { partition, trouble }),
            Ok(_) => {}
            Err(_) => return Err(MemberError::Panicked(partition)),
        }
    }
    // A partition that comes back while its last thread is still leaving waits for that one.
    for partition in given {
        if let Entry::Vacant(place) = workers.entry(partition) {
            place.insert(start(partition, membership.group.clone(), work.clone()).map_err(MemberError::Thread)?);
        }
    }
    Ok(())
}

fn start<E: Trouble, W>(partition: i32, group: String, work: Arc<W>) -> io::Result<Worker<E>>
where
    W: Fn(i32, &AtomicBool) -> Result<(), E> + Send + Sync + 'static,
{
    let is_stopping = Arc::new(AtomicBool::new(false));
    let told = is_stopping.clone();
    let thread = thread::Builder::new().name(format!("partition-{partition}")).spawn(move || {
        while !told.load(Ordering::Relaxed) {
            match work(partition, &told) {
                Ok(()) => return Ok(()),
                Err(trouble) if trouble.is_passing() => {
                    ::metrics::counter!(metrics::RETRIES, "group" => group.clone()).increment(1);
                    tracing::warn!(partition, %trouble, "a partition is tried again");
                    rest(RETRY, &told);
                }
                Err(trouble) => return Err(trouble),
            }
        }
        Ok(())
    })?;
    Ok(Worker { is_stopping, thread })
}

/// Waits, but not longer than until the flag is set.
pub fn rest(time: Duration, is_stopping: &AtomicBool) {
    let end = Instant::now() + time;
    while !is_stopping.load(Ordering::Relaxed) {
        match end.saturating_duration_since(Instant::now()) {
            Duration::ZERO => break,
            left => thread::sleep(left.min(STOP_POLL.max(time / 100))),
        }
    }
}
