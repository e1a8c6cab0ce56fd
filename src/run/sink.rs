//! The role `sink`: committed facts from the log to the store.
//!
//! Where it goes on is what the store says it has; the group only says which partitions are this process's. Facts are stored at least once
//! and idempotently, so two sinks that both hold a partition for a moment do no harm. While the store cannot be reached the facts wait in
//! the log.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use pitwall_engine::log::{SinkError, store_next};
use pitwall_kafka::client::KafkaLogError;
use pitwall_kafka::log::{FactEnd, KafkaLog};
use pitwall_kafka::members::{self, Trouble, rest};
use pitwall_scylla::error::ScyllaError;
use pitwall_scylla::metrics::{BACKLOG, RETRIES, STALLS, STORE_SECONDS, STORED};
use pitwall_scylla::options::Options;
use pitwall_scylla::store::ScyllaStore;

use super::Prepared;
use crate::kafka;
use crate::settings::Settings;

/// How long is waited after the store could not be written before it is tried again.
const RETRY: Duration = Duration::from_secs(1);

pub(super) fn prepare(settings: &Settings) -> Result<Prepared> {
    let log = kafka::open(settings)?;
    let store = ScyllaStore::open(settings.scylla.clone())?;
    let options = settings.scylla.clone();
    let notice = format!("facts are stored on CQL at {}, keyspace {}", options.contact_points.join(","), options.keyspace);
    let (group, subscribed) = (format!("{}-sink", log.options().group_id()), log.member_topics());
    let run = move |is_stopping: &AtomicBool| {
        // There from the beginning: an alert on what has never been 0 cannot see it rise.
        for counter in [STALLS, RETRIES] {
            metrics::counter!(counter).increment(0);
        }
        let kafka = log.options().clone();
        let work = move |partition: i32, is_stopping: &AtomicBool| {
            let mut sink = Sink { partition, log: log.clone(), store: store.clone(), options: options.clone(), stored: BTreeMap::new() };
            let result = sink.run(is_stopping);
            metrics::gauge!(BACKLOG, "partition" => partition.to_string()).set(0.0);
            result
        };
        Ok(members::run(&kafka, &group, &subscribed, work, is_stopping)?)
    };
    Ok(Prepared { notice: Some(notice), run: Box::new(run) })
}

/// Why a partition's facts cannot be stored.
#[derive(Debug)]
enum SinkTrouble {
    Log(KafkaLogError),
    Store(ScyllaError),
}

impl fmt::Display for SinkTrouble {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log(error) => error.fmt(formatter),
            Self::Store(error) => error.fmt(formatter),
        }
    }
}

impl std::error::Error for SinkTrouble {}

impl Trouble for SinkTrouble {
    fn is_passing(&self) -> bool {
        match self {
            Self::Log(error) => error.is_passing(),
            Self::Store(error) => error.is_passing(),
        }
    }
}

/// The sink of one partition.
struct Sink {
    partition: i32,
    log: KafkaLog,
    store: ScyllaStore,
    options: Options,
    /// The fact that must be stored next, by session and epoch.
    stored: BTreeMap<(i32, i32), u64>,
}

impl Sink {
    fn run(&mut self, is_stopping: &AtomicBool) -> Result<(), SinkTrouble> {
        while !is_stopping.load(Ordering::Relaxed) {
            let ends = self.log.fact_ends(self.partition).map_err(|error| SinkTrouble::Log(self.log.certain(error)))?;
            match self.store_a_page_of_each(&ends, is_stopping) {
                Ok(true) => {}
                Ok(false) => rest(Duration::from_millis(self.options.sink_interval_ms), is_stopping),
                Err(SinkTrouble::Store(error)) if error.is_passing() => {
                    metrics::counter!(STALLS).increment(1);
                    tracing::warn!(partition = self.partition, %error, "facts wait in the log until the store answers again");
                    rest(RETRY, is_stopping);
                }
                Err(trouble) => return Err(trouble),
            }
        }
        Ok(())
    }

    /// Every session that the store is behind with comes a step forward. Says whether any was.
    fn store_a_page_of_each(&mut self, ends: &[FactEnd], is_stopping: &AtomicBool) -> Result<bool, SinkTrouble> {
        self.tell_backlog(ends);
        let mut has_moved = false;
        for end in ends {
            if is_stopping.load(Ordering::Relaxed) {
                break;
            }
            let FactEnd { session_key, epoch, next_fact_seq } = *end;
            if self.stored.get(&(session_key, epoch)).is_some_and(|stored| *stored >= next_fact_seq) {
                continue;
            }
            let begun = Instant::now();
            let stored = store_next(&mut self.log, &mut self.store, session_key, epoch, self.options.sink_facts_max);
            let stored = stored.map_err(|error| match error {
                SinkError::Log(error) => SinkTrouble::Log(self.log.certain(error)),
                SinkError::Store(error) => SinkTrouble::Store(error),
            })?;
            if !stored.is_empty() {
                has_moved = true;
                metrics::histogram!(STORE_SECONDS).record(begun.elapsed());
                metrics::counter!(STORED).increment(stored.end - stored.start);
            }
            self.stored.insert((session_key, epoch), stored.end);
            self.tell_backlog(ends);
        }
        Ok(has_moved)
    }

    fn tell_backlog(&self, ends: &[FactEnd]) {
        let behind = ends.iter().map(|end| {
            let stored = self.stored.get(&(end.session_key, end.epoch)).copied().unwrap_or_default();
            end.next_fact_seq.saturating_sub(stored)
        });
        metrics::gauge!(BACKLOG, "partition" => self.partition.to_string()).set(behind.sum::<u64>() as f64);
    }
}
