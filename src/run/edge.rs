//! The role `edge`: dashboard, REST and WebSocket over what engines commit. It keeps nothing that the log does not have.
//!
//! It mirrors the log's committed blocks and facts in an embedded data directory that goes when it ends, and serves from there, as `demo`
//! does from its own: memory stays bounded however many sessions the log holds, and a look at the past asks no broker. A new edge reads the
//! log from its beginning, then announces each block as it comes: a frame is one block's worth, the same on every edge.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use pitwall_edge::{Bound, Hub, Shared};
use pitwall_embedded::data::{self, DataDirectory, Durability};
use pitwall_embedded::log::EmbeddedLog;
use pitwall_embedded::sink::{Pending, Sink};
use pitwall_engine::log::{CommitUnit, Committed, EventLog, Fence};
use pitwall_kafka::follow::{Followed, Follower};
use pitwall_kafka::log::KafkaLog;
use pitwall_kafka::members::Trouble;
use pitwall_redis::share::Share;
use pitwall_schemas::log::ReadersEpoch;
use tokio::runtime::Runtime;

use super::Prepared;
use crate::kafka;
use crate::reader::LogReader;
use crate::settings::Settings;

/// How often is looked whether the process is told to stop.
const STOP_POLL: Duration = Duration::from_millis(50);
/// How long is waited after trouble before the log is asked again.
const RETRY: Duration = Duration::from_secs(1);
/// How often is looked which epochs readers are to see.
const READERS_INTERVAL: Duration = Duration::from_secs(1);

pub(super) fn prepare(settings: &Settings) -> Result<Prepared> {
    let log = kafka::open(settings)?;
    let folder = tempfile::Builder::new().prefix("pitwall-edge-").tempdir().context("the edge's mirror of the log cannot be made")?;
    let options = data::Options { durability: Durability::System, ..settings.data.clone() };
    let data = DataDirectory::open(folder.path(), log.kinds(), options)?;
    let sink = Arc::new(Sink::start(data.log.clone(), data.store.clone())?);
    let reader = Arc::new(LogReader { log: data.log.clone(), store: data.store, sink: sink.clone(), limits: settings.limits.clone() });
    let hub = Hub::new(settings.edge.clone());
    let asynchronous = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let bound = asynchronous.block_on(pitwall_edge::bind_sharing(hub.clone(), reader.clone(), shared(settings)?))?;
    let notice = format!("open http://{}", bound.address());
    let edge = Edge { log, mirror: data.log, sink: sink.pending(), hub, reader, behind: AtomicUsize::new(0) };
    let run = move |is_stopping: &AtomicBool| {
        let result = edge.run(&asynchronous, bound, is_stopping);
        drop((edge, sink));
        folder.close().context("the edge's mirror of the log cannot be removed")?;
        result
    };
    Ok(Prepared { notice: Some(notice), run: Box::new(run) })
}

/// What edges share, where settings name a server for it.
fn shared(settings: &Settings) -> Result<Option<Arc<dyn Shared>>> {
    if settings.redis.url.is_empty() {
        return Ok(None);
    }
    pitwall_redis::metrics::describe();
    Ok(Some(Arc::new(Share::new(settings.redis.clone(), &settings.kafka.prefix)?)))
}

struct Edge {
    log: KafkaLog,
    mirror: EmbeddedLog,
    sink: Pending,
    hub: Arc<Hub>,
    reader: Arc<LogReader>,
    /// Partitions whose history is not read yet.
    behind: AtomicUsize,
}

impl Edge {
    fn run(&self, asynchronous: &Runtime, bound: Bound, is_stopping: &AtomicBool) -> Result<()> {
        let partitions = self.log.options().partitions;
        self.behind.store(partitions as usize, Ordering::Release);
        metrics::gauge!(pitwall_kafka::metrics::BEHIND).set(f64::from(partitions));
        thread::scope(|scope| {
            let follow = |partition| {
                let thread = thread::Builder::new().name(format!("follow-{partition}"));
                thread.spawn_scoped(scope, move || {
                    self.follow(partition, is_stopping).inspect_err(|_| is_stopping.store(true, Ordering::Relaxed))
                })
            };
            let followers: Vec<_> = (0..partitions).map(follow).collect();
            asynchronous.block_on(bound.serve(async {
                while !is_stopping.load(Ordering::Relaxed) {
                    tokio::time::sleep(STOP_POLL).await;
                }
            }));
            is_stopping.store(true, Ordering::Relaxed);
            let ends = followers.into_iter().map(|follower| match follower {
                Ok(thread) => thread.join().unwrap_or_else(|_| Err(anyhow!("a follower stopped because of a defect: start again"))),
                Err(error) => Err(anyhow!(error).context("a follower's thread cannot be started")),
            });
            ends.fold(Ok(()), Result::and)
        })
    }

    /// Mirrors a partition: its history first, then block by block as it is committed.
    fn follow(&self, partition: i32, is_stopping: &AtomicBool) -> Result<()> {
        let mut follower = Follower::new(&self.log, partition);
        let mut mirror = Mirror { log: self.mirror.clone(), fences: BTreeMap::new() };
        let mut sessions = BTreeSet::new();
        let mut is_live = false;
        let mut rollbacks = Rollbacks::default();
        while !is_stopping.load(Ordering::Relaxed) {
            match follower.next_commit() {
                Ok(Some(followed)) => {
                    mirror.take(&followed)?;
                    self.sink.tell(followed.session_key, followed.head.epoch);
                    if is_live {
                        self.announce(&followed);
                    } else {
                        sessions.insert(followed.session_key);
                    }
                }
                Ok(None) if !is_live && follower.has_caught_up() => {
                    self.turn_readers(partition, &mut rollbacks, |_| Ok(()))?;
                    self.show(&sessions)?;
                    is_live = true;
                }
                Ok(None) if is_live => self.turn_readers(partition, &mut rollbacks, |session_key| self.show_session(session_key))?,
                Ok(None) => {}
                Err(error) => {
                    let error = self.log.certain(error);
                    if !error.is_passing() {
                        return Err(error.into());
                    }
                    tracing::warn!(partition, %error, "the edge shows what it has until the log answers again");
                    thread::sleep(RETRY);
                }
            }
        }
        Ok(())
    }

    /// Shows the sessions that a partition held when the edge began. The edge is ready when it has those of all partitions.
    fn show(&self, sessions: &BTreeSet<i32>) -> Result<()> {
        for &session_key in sessions {
            self.show_session(session_key)?;
        }
        let behind = self.behind.fetch_sub(1, Ordering::AcqRel) - 1;
        metrics::gauge!(pitwall_kafka::metrics::BEHIND).set(behind as f64);
        if behind == 0 {
            self.hub.set_ready();
        }
        Ok(())
    }

    fn show_session(&self, session_key: i32) -> Result<()> {
        if let Some(readers) = self.mirror.readers(session_key)? {
            self.hub.open(session_key, &readers.head, &*self.reader)?;
            self.hub.roll_back(session_key, readers.instead_of);
        }
        Ok(())
    }

    /// Takes over, now and then, which epochs readers were told to see, and hands every session where that is news to `show`.
    fn turn_readers(&self, partition: i32, rollbacks: &mut Rollbacks, show: impl Fn(i32) -> Result<()>) -> Result<()> {
        if rollbacks.looked.is_some_and(|looked| looked.elapsed() < READERS_INTERVAL) {
            return Ok(());
        }
        rollbacks.looked = Some(Instant::now());
        let readers = match self.log.readers(partition) {
            Ok(readers) => readers,
            Err(error) => {
                tracing::warn!(partition, %error, "readers stay at the epochs they see until the log answers again");
                return Ok(());
            }
        };
        for ReadersEpoch { session_key, epoch, instead_of } in readers {
            // One written before the newest epoch began is void.
            let is_void = self.mirror.head(session_key)?.is_none_or(|head| head.epoch != instead_of);
            if !is_void && rollbacks.taken.insert(session_key, (epoch, instead_of)) != Some((epoch, instead_of)) {
                self.mirror.roll_back(session_key, epoch)?;
                show(session_key)?;
            }
        }
        Ok(())
    }

    fn announce(&self, followed: &Followed) {
        let Followed { session_key, head, records, facts, .. } = followed;
        self.hub.committed(&Committed { session_key: *session_key, head: *head, facts, records: *records, halted: None });
    }
}

/// Which epochs a partition's readers were told to see, as far as that has been taken over.
#[derive(Default)]
struct Rollbacks {
    looked: Option<Instant>,
    /// Epoch, and the newest one then, by session.
    taken: BTreeMap<i32, (i32, i32)>,
}

/// Writes what was committed elsewhere.
struct Mirror {
    log: EmbeddedLog,
    fences: BTreeMap<i32, Fence>,
}

impl Mirror {
    fn take(&mut self, followed: &Followed) -> Result<()> {
        let session_key = followed.session_key;
        let fence = match self.fences.get(&session_key) {
            Some(fence) => *fence,
            None => *self.fences.entry(session_key).or_insert(self.log.acquire(session_key)?),
        };
        let unit = CommitUnit {
            session_key,
            block: &followed.block,
            head: followed.head,
            facts: &followed.facts,
            dead_letters: &[],
            positions: &[],
        };
        self.log.commit(fence, &unit).map_err(|error| match self.log.ledger_end(session_key) {
            Err(failed) => anyhow!(failed),
            Ok(_) => anyhow!(error),
        })
    }
}
