//! The event log on Kafka.
//!
//! A session is a partition of every topic ([`partition`](crate::partition)). Whoever takes one of a partition's sessions over takes the
//! partition: the transactional id `{group}-{partition}` fences the writer before, and only then is the ledger's end read, read
//! committed, so it can no longer move. A commit is one transaction: ledger block, facts, dead letters and, for lag monitoring, the raw
//! offsets as the group's. Where reading goes on is never asked of the group, whose offsets expire, but of the last ledger block.
//!
//! Ingest writes each batch in a transaction of its own, under an id for each session, together with a record of how far the source got.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use pitwall_engine::Micros;
use pitwall_engine::facts::{EncodedFact, FactBatch, Kind};
use pitwall_engine::hash::Digest;
use pitwall_engine::ledger;
use pitwall_engine::log::{AppendError, CommitError, CommitUnit, EventLog, Fence, NewRaw, RawLog, SessionState, StoredRaw};
use pitwall_schemas::codec::{Avro, Reader};
use pitwall_schemas::log::{DeadLetter, Keyframe, RawBeginning, RawHeader, RawPosition, ReadersEpoch, SourceProgress};
use pitwall_schemas::shared::FactHeader;
use pitwall_schemas::{topics, wire};
use rdkafka::Offset;
use rdkafka::consumer::Consumer;
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};
use rdkafka::topic_partition_list::TopicPartitionList;

use crate::client::KafkaLogError;
use crate::lanes::{Holes, Lanes, Start};
use crate::metrics;
use crate::options::Options;
use crate::partition;
use crate::raw::{RawReader, RecordedSession};
use crate::scan::{Scan, bounds, starts_after};
use crate::schemas::{SchemaIds, Streams};
use crate::topics as deployment;
use crate::writer::{Keeper, Outgoing, Writer, deadline, is_before};

/// How often the ledger is read again while a commit of this process cannot be seen yet.
const VISIBLE_POLL: Duration = Duration::from_millis(2);

/// A client of the log. Clones share its fences and what it knows of the ledger; each has readers of its own.
pub struct KafkaLog {
    shared: Arc<Shared>,
    raw: BTreeMap<i32, RawReader>,
    facts: BTreeMap<i32, FactReader>,
}

impl Clone for KafkaLog {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), raw: BTreeMap::new(), facts: BTreeMap::new() }
    }
}

struct Shared {
    options: Options,
    streams: Streams,
    ids: SchemaIds,
    partitions: Mutex<BTreeMap<i32, Arc<Mutex<Partition>>>>,
}

/// What this process knows of one partition, and its writers there.
struct Partition {
    /// Present as long as no other engine is known to have taken the partition.
    writer: Option<Writer>,
    /// Whether a commit has failed since the topics were looked for.
    has_failed: bool,
    /// Writes keyframes, once there is one.
    keeper: Option<Keeper>,
    /// The number of each session's last fence.
    fences: BTreeMap<i32, u64>,
    /// Writers of raw records, by session.
    ingests: BTreeMap<i32, Writer>,
    ledger: Scan,
    sessions: BTreeMap<i32, Blocks>,
    /// The last record of each session that this process has committed and not yet read.
    committed: BTreeMap<i32, u64>,
    keyframes: Scan,
    /// Session, graph and record of every keyframe, and its offset.
    keyframe_offsets: BTreeMap<(i32, [u8; 32], u64), i64>,
    sources: Scan,
    progress: BTreeMap<i32, SourceProgress>,
    /// How far this process has fed each session.
    fed: BTreeMap<i32, i64>,
    readers: Scan,
    readers_epochs: BTreeMap<i32, ReadersEpoch>,
}

/// How far a session's ledger goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Its last record.
    pub last_seq: u64,
    /// The raw record that comes next.
    pub next_ingest_seq: i64,
    /// Whether its last record is the one that closes a session whose source has ended.
    pub is_closed: bool,
    /// Running hash of the facts up to it.
    pub facts_hash: Digest,
    /// The epoch of its facts.
    pub epoch: i32,
}

/// The blocks of one session's ledger.
#[derive(Default)]
struct Blocks {
    standing: Option<Standing>,
    /// Last record and offset of each.
    offsets: Vec<(u64, i64)>,
    /// How far the facts went with each block, by epoch.
    facts: BTreeMap<i32, Vec<FactsUntil>>,
}

/// How far a session's facts go at the end of a block.
#[derive(Debug, Clone, Copy)]
struct FactsUntil {
    next_fact_seq: u64,
    /// When the block's last record was known: facts of later blocks are known later.
    known_at: Micros,
}

/// How far the facts of a session's epoch go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FactEnd {
    /// The session.
    pub session_key: i32,
    /// The epoch.
    pub epoch: i32,
    /// The fact number that comes next.
    pub next_fact_seq: u64,
}

/// Reads a session's facts of one epoch.
struct FactReader {
    lanes: Lanes<Vec<u8>>,
    epoch: i32,
    next: u64,
}

impl KafkaLog {
    /// Opens the log of a deployment: registers the schemas and looks whether its topics are there.
    ///
    /// # Errors
    /// When Kafka or the registry cannot be reached, the registry refuses a schema, or a topic is missing or has other partitions.
    pub fn open(options: Options, streams: Streams) -> Result<Self, KafkaLogError> {
        deployment::check_partitions(&options, &streams)?;
        let ids = SchemaIds::register(&options, &streams)?;
        let shared = Shared { options, streams, ids, partitions: Mutex::default() };
        Ok(Self { shared: Arc::new(shared), raw: BTreeMap::new(), facts: BTreeMap::new() })
    }

    /// `error`, once it is certain: a topic is said to be gone only when the cluster's own list does not have it.
    #[must_use]
    pub fn certain(&self, error: KafkaLogError) -> KafkaLogError {
        match (&error, self.shared.expect_topics()) {
            (KafkaLogError::NoTopic(_), Err(certain)) => certain,
            (KafkaLogError::NoTopic(topic), Ok(())) => KafkaLogError::Unreachable {
                brokers: self.shared.options.brokers.join(","),
                doing: format!("asking for {topic}"),
                reason: "a broker did not know it yet".to_owned(),
            },
            _ => error,
        }
    }

    /// What the log was opened with.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.shared.options
    }

    /// The whole name of a topic.
    pub(crate) fn topic(&self, topic: &str) -> String {
        self.shared.topic(topic)
    }

    /// The fact kinds it was opened with.
    #[must_use]
    pub fn kinds(&self) -> &[Kind] {
        &self.shared.streams.kinds
    }

    /// The topics that [members](crate::members) of a group subscribe to: those of all raw streams and that of the sources.
    #[must_use]
    pub fn member_topics(&self) -> Vec<String> {
        let raw = (0..self.shared.streams.raw.len()).map(|stream| self.shared.raw_topic(stream));
        raw.chain([self.shared.topic(topics::SOURCES)]).collect()
    }

    /// Which sessions of a partition readers were told to see another epoch of.
    ///
    /// # Errors
    /// When the log cannot be reached.
    pub fn readers(&self, partition: i32) -> Result<Vec<ReadersEpoch>, KafkaLogError> {
        let partition = self.shared.partition(partition)?;
        let mut partition = lock(&partition);
        partition.know_readers()?;
        Ok(partition.readers_epochs.values().cloned().collect())
    }

    /// Has readers of a session see this epoch until a newer one than its newest begins; the newest itself has them go forward again.
    ///
    /// # Errors
    /// When the session has no such epoch, or the log cannot be reached.
    pub fn roll_back(&self, session_key: i32, epoch: i32) -> Result<ReadersEpoch, KafkaLogError> {
        let standing = self.standing(session_key)?.ok_or(KafkaLogError::NoSession(session_key))?;
        if !(0..=standing.epoch).contains(&epoch) {
            return Err(KafkaLogError::NoEpoch { session_key, epoch, current: standing.epoch });
        }
        let readers_epoch = ReadersEpoch { session_key, epoch, instead_of: standing.epoch };
        let mut payload = Vec::new();
        wire::write_frame(self.shared.ids.of(topics::READERS), &mut payload);
        readers_epoch.encode(&mut payload);
        let (number, _) = self.shared.partition_of(session_key)?;
        let (topic, key) = (self.shared.topic(topics::READERS), partition::key(session_key));
        let outgoing = Outgoing { topic: &topic, partition: number, key: &key, timestamp: 0, payload: &payload, headers: None };
        let keeper = Keeper::open(&self.shared.options)?;
        keeper.send(&outgoing)?;
        keeper.settle()?;
        Ok(readers_epoch)
    }

    /// The sources of the sessions in a partition, and how far each got.
    ///
    /// # Errors
    /// When the log cannot be reached.
    pub fn sources(&self, partition: i32) -> Result<Vec<SourceProgress>, KafkaLogError> {
        let partition = self.shared.partition(partition)?;
        let mut partition = lock(&partition);
        partition.know_sources()?;
        Ok(partition.progress.values().cloned().collect())
    }

    /// How far a session's ledger goes; `None` when it has none.
    ///
    /// # Errors
    /// When the log cannot be reached.
    pub fn standing(&self, session_key: i32) -> Result<Option<Standing>, KafkaLogError> {
        let (_, partition) = self.shared.partition_of(session_key)?;
        let mut partition = lock(&partition);
        partition.know_ledger(&self.shared)?;
        Ok(partition.sessions.get(&session_key).and_then(|blocks| blocks.standing))
    }

    /// How far the committed facts of a partition's sessions go.
    ///
    /// # Errors
    /// When the log cannot be reached.
    pub fn fact_ends(&self, partition: i32) -> Result<Vec<FactEnd>, KafkaLogError> {
        let partition = self.shared.partition(partition)?;
        let mut partition = lock(&partition);
        partition.know_ledger(&self.shared)?;
        let ends = partition.sessions.iter().flat_map(|(&session_key, blocks)| {
            blocks
                .facts
                .iter()
                .filter_map(move |(&epoch, facts)| Some(FactEnd { session_key, epoch, next_fact_seq: facts.last()?.next_fact_seq }))
        });
        Ok(ends.collect())
    }

    /// Where a session's source stands; `None` when it has none.
    ///
    /// # Errors
    /// When the log cannot be reached.
    pub fn source(&self, session_key: i32) -> Result<Option<SourceProgress>, KafkaLogError> {
        let (_, partition) = self.shared.partition_of(session_key)?;
        let mut partition = lock(&partition);
        partition.know_sources()?;
        Ok(partition.progress.get(&session_key).cloned())
    }

    /// A session's raw records up to what is ingested now; `None` when it has no source.
    ///
    /// # Errors
    /// When the log cannot be reached, or has deleted some of them.
    pub fn recorded(&self, session_key: i32) -> Result<Option<RecordedSession>, KafkaLogError> {
        let open = |progress| RecordedSession::open(&self.shared.options, &self.shared.streams.raw, progress);
        self.source(session_key)?.map(open).transpose()
    }

    /// Says of a session's source what its records do not: whether its arrival times are reconstructed and whether it has ended.
    ///
    /// # Errors
    /// As [`append`](RawLog::append).
    pub fn describe_source(
        &mut self,
        session_key: i32,
        source_id: Digest,
        is_reconstructed: bool,
        has_ended: bool,
    ) -> Result<(), AppendError<KafkaLogError>> {
        self.ingest(session_key, source_id, |progress| {
            let is_news = progress.is_reconstructed != is_reconstructed || (has_ended && !progress.has_ended);
            progress.is_reconstructed = is_reconstructed;
            progress.has_ended |= has_ended;
            Ok(is_news.then(Vec::new))
        })
    }

    /// One transaction of ingest: `change` moves the session's progress and says which raw records go with it; `None` for nothing to do.
    fn ingest(
        &mut self,
        session_key: i32,
        source_id: Digest,
        change: impl FnOnce(&mut SourceProgress) -> Result<Option<Vec<NewRaw>>, AppendError<KafkaLogError>>,
    ) -> Result<(), AppendError<KafkaLogError>> {
        let shared = self.shared.clone();
        let (number, partition) = shared.partition_of(session_key).map_err(AppendError::Log)?;
        let mut partition = lock(&partition);
        let mut progress = shared.progress_of(&mut partition, session_key, source_id)?;
        let is_new = !partition.progress.contains_key(&session_key);
        let first = progress.next_ingest_seq;
        let Some(records) = change(&mut progress)? else { return Ok(()) };
        if is_new {
            progress.begins = shared.raw_ends(&partition, number).map_err(AppendError::Log)?;
        }
        let begun = Instant::now();
        let written = match partition.ingests.get_mut(&session_key) {
            Some(writer) => shared.write_raw(writer, number, &progress, first, &records),
            None => Err(CommitError::Fenced),
        };
        match written {
            Ok(()) => {
                partition.fed.insert(session_key, progress.next_ingest_seq);
                partition.progress.insert(session_key, progress);
                Ok(())
            }
            Err(error) => {
                // A writer opened anew brings what is in doubt to its end, and the log then tells what is there.
                partition.ingests.remove(&session_key);
                let trouble = match error {
                    // The broker itself fences the writer of a transaction that was open for too long.
                    CommitError::Fenced if begun.elapsed() < shared.options.transaction_timeout() => {
                        KafkaLogError::IngestFenced(session_key)
                    }
                    _ => shared.options.untaken(format!("ingesting session {session_key}"), begun.elapsed()),
                };
                Err(AppendError::Log(trouble))
            }
        }
    }
}

impl Shared {
    fn topic(&self, topic: &str) -> String {
        self.options.topic(topic)
    }

    fn raw_topic(&self, stream: usize) -> String {
        self.options.raw_topic(self.streams.raw.get(stream).map_or("", |stream| stream.name))
    }

    /// Looks whether every topic is still there.
    fn expect_topics(&self) -> Result<(), KafkaLogError> {
        let names: Vec<String> = deployment::all(&self.options, &self.streams).into_iter().map(|topic| topic.name).collect();
        deployment::expect_there(&self.options, &names)
    }

    fn stream_named(&self, name: &str) -> Option<usize> {
        self.streams.raw.iter().position(|stream| stream.name == name)
    }

    fn partition_of(&self, session_key: i32) -> Result<(i32, Arc<Mutex<Partition>>), KafkaLogError> {
        let number = partition::of(session_key, self.options.partitions);
        Ok((number, self.partition(number)?))
    }

    fn partition(&self, number: i32) -> Result<Arc<Mutex<Partition>>, KafkaLogError> {
        let mut partitions = self.partitions.lock().expect("no thread panics while it holds the partitions");
        if let Some(partition) = partitions.get(&number) {
            return Ok(partition.clone());
        }
        let scan = |topic| Scan::new(&self.options, &self.topic(topic), number);
        let partition = Partition {
            writer: None,
            has_failed: false,
            keeper: None,
            fences: BTreeMap::new(),
            ingests: BTreeMap::new(),
            ledger: scan(topics::LEDGER)?,
            sessions: BTreeMap::new(),
            committed: BTreeMap::new(),
            keyframes: scan(topics::KEYFRAMES)?,
            keyframe_offsets: BTreeMap::new(),
            sources: scan(topics::SOURCES)?,
            readers: scan(topics::READERS)?,
            readers_epochs: BTreeMap::new(),
            progress: BTreeMap::new(),
            fed: BTreeMap::new(),
        };
        Ok(partitions.entry(number).or_insert_with(|| Arc::new(Mutex::new(partition))).clone())
    }

    /// The session's progress, once this process may write it; a session without one begins now.
    fn progress_of(
        &self,
        partition: &mut Partition,
        session_key: i32,
        source_id: Digest,
    ) -> Result<SourceProgress, AppendError<KafkaLogError>> {
        if !partition.ingests.contains_key(&session_key) {
            // Fence first, then read, as engines do.
            let id = format!("{}-ingest-{session_key}", self.options.group_id());
            let writer = Writer::open(&self.options, &id).map_err(AppendError::Log)?;
            partition.know_sources().map_err(AppendError::Log)?;
            partition.ingests.insert(session_key, writer);
        }
        match partition.progress.get(&session_key) {
            Some(progress) if progress.source_id != source_id.0 => {
                Err(AppendError::OtherSource { session_key, found: Digest(progress.source_id), offered: source_id })
            }
            Some(progress) => Ok(progress.clone()),
            None => Ok(SourceProgress {
                session_key,
                source_id: source_id.0,
                next_ingest_seq: 0,
                has_ended: false,
                is_reconstructed: false,
                begins: Vec::new(),
            }),
        }
    }

    /// Where each raw topic ends now: a session that begins has nothing before.
    fn raw_ends(&self, partition: &Partition, number: i32) -> Result<Vec<RawBeginning>, KafkaLogError> {
        let ends = self.streams.raw.iter().enumerate().map(|(index, stream)| {
            let topic = self.raw_topic(index);
            let (_, end) = bounds(&self.options, partition.sources.consumer(), &topic, number)?;
            Ok(RawBeginning { stream: stream.name.to_owned(), offset: end })
        });
        ends.collect()
    }

    fn write_raw(
        &self,
        writer: &mut Writer,
        partition: i32,
        progress: &SourceProgress,
        first: i64,
        records: &[NewRaw],
    ) -> Result<(), CommitError> {
        let key = partition::key(progress.session_key);
        let raw_topics: Vec<(String, u32)> =
            self.streams.raw.iter().map(|stream| topics::raw(stream.name)).map(|topic| (self.topic(&topic), self.ids.of(&topic))).collect();
        writer.begin()?;
        let mut payload = Vec::new();
        for (ingest_seq, record) in (first..).zip(records) {
            let (topic, id) = raw_topics.get(usize::from(record.stream)).expect("append has looked at every stream number");
            payload.clear();
            wire::write_frame(*id, &mut payload);
            RawHeader { source_id: progress.source_id, ingest_seq, received_at: record.received_at }.encode(&mut payload);
            payload.extend_from_slice(&record.payload);
            let timestamp = record.received_at.0 / 1_000;
            writer.send(Outgoing { topic, partition, key: &key, timestamp, payload: &payload, headers: None })?;
        }
        payload.clear();
        wire::write_frame(self.ids.of(topics::SOURCES), &mut payload);
        progress.encode(&mut payload);
        let timestamp = records.last().map_or(0, |record| record.received_at.0 / 1_000);
        let topic = self.topic(topics::SOURCES);
        writer.send(Outgoing { topic: &topic, partition, key: &key, timestamp, payload: &payload, headers: None })?;
        writer.commit(None)
    }

    /// Sends everything of a commit and commits it.
    fn write_unit(
        &self,
        writer: &mut Writer,
        partition: i32,
        ledger: &Scan,
        unit: &CommitUnit<'_>,
        foreign: &[DeadLetter],
    ) -> Result<(), CommitError> {
        let key = partition::key(unit.session_key);
        let timestamp = unit.head.known_at.0 / 1_000;
        writer.begin()?;
        let mut payload = Vec::with_capacity(unit.block.len() + wire::HEADER_LENGTH);
        wire::write_frame(self.ids.of(topics::LEDGER), &mut payload);
        payload.extend_from_slice(unit.block);
        writer.send(Outgoing { topic: ledger.topic(), partition, key: &key, timestamp, payload: &payload, headers: None })?;

        let fact_topics: BTreeMap<&str, (String, u32)> = self
            .streams
            .kinds
            .iter()
            .map(|kind| (kind.name, topics::facts(kind.name)))
            .map(|(name, topic)| (name, (self.topic(&topic), self.ids.of(&topic))))
            .collect();
        let epoch = unit.head.epoch.to_string();
        for fact in unit.facts.iter() {
            let Some((topic, id)) = fact_topics.get(fact.kind.name) else {
                tracing::error!(kind = fact.kind.name, "a fact of a kind that this log was not opened with");
                return Err(CommitError::Aborted);
            };
            payload.clear();
            wire::write_frame(*id, &mut payload);
            payload.extend_from_slice(fact.bytes);
            let fact_seq = fact.fact_seq.to_string();
            let headers = OwnedHeaders::new_with_capacity(2)
                .insert(Header { key: EPOCH, value: Some(&epoch) })
                .insert(Header { key: FACT_SEQ, value: Some(&fact_seq) });
            let timestamp = fact.known_at.0 / 1_000;
            writer.send(Outgoing { topic, partition, key: &key, timestamp, payload: &payload, headers: Some(headers) })?;
        }
        let topic = self.topic(topics::DEAD_LETTERS);
        for dead_letter in unit.dead_letters.iter().chain(foreign) {
            payload.clear();
            wire::write_frame(self.ids.of(topics::DEAD_LETTERS), &mut payload);
            dead_letter.encode(&mut payload);
            writer.send(Outgoing { topic: &topic, partition, key: &key, timestamp, payload: &payload, headers: None })?;
        }
        let mut offsets = TopicPartitionList::new();
        for position in unit.positions {
            if let Some(stream) = self.stream_named(&position.stream) {
                // Only a negative offset is refused, and a position is none.
                let _ = offsets.add_partition_offset(&self.raw_topic(stream), position.partition, Offset::Offset(position.offset));
            }
        }
        let group = ledger.consumer().group_metadata().filter(|_| offsets.count() > 0);
        writer.commit(group.as_ref().map(|group| (&offsets, group)))
    }
}

/// Headers of a fact's message.
const EPOCH: &str = "epoch";
const FACT_SEQ: &str = "fact_seq";

impl Partition {
    /// Reads the ledger up to its committed end; a commit whose answer was lost is brought to its end before.
    fn know_ledger(&mut self, shared: &Shared) -> Result<(), KafkaLogError> {
        let options = &shared.options;
        if self.has_failed {
            // A commit to a topic that is gone fails however often it is tried: this says which.
            shared.expect_topics()?;
            self.has_failed = false;
        }
        if let Some(writer) = self.writer.as_mut().filter(|writer| writer.is_in_doubt()) {
            match writer.settle() {
                Ok(()) | Err(CommitError::Aborted) => {}
                Err(CommitError::Fenced) => self.writer = None,
                Err(CommitError::Unknown) => return Err(options.silence("asking what became of a commit")),
            }
        }
        let end = deadline(options);
        loop {
            self.read_ledger()?;
            // The broker answers a commit before readers see it.
            let is_visible = |(session_key, last_seq): (&i32, &u64)| {
                self.sessions.get(session_key).and_then(|blocks| blocks.standing).is_some_and(|standing| standing.last_seq >= *last_seq)
            };
            if self.committed.iter().all(is_visible) {
                self.committed.clear();
                return Ok(());
            }
            if !is_before(end) {
                return Err(options.silence("waiting until a commit can be read"));
            }
            thread::sleep(VISIBLE_POLL);
        }
    }

    fn read_ledger(&mut self) -> Result<(), KafkaLogError> {
        let sessions = &mut self.sessions;
        let topic = self.ledger.topic().to_owned();
        self.ledger.catch_up(|message| {
            let bytes = record_of(&topic, message)?;
            let block = ledger::decode_block(bytes).map_err(|error| damaged(&topic, message, error.to_string()))?;
            let blocks = sessions.entry(block.session_key).or_default();
            let last_seq = (block.first_seq + block.records.len() as i64 - 1).max(0) as u64;
            blocks.offsets.push((last_seq, message.offset()));
            blocks.standing = Some(Standing {
                last_seq,
                next_ingest_seq: block.next_ingest_seq,
                is_closed: block.records.last().is_some_and(ledger::is_closing),
                facts_hash: Digest(block.facts_hash),
                epoch: block.epoch,
            });
            blocks.facts.entry(block.epoch).or_default().push(FactsUntil {
                next_fact_seq: block.next_fact_seq as u64,
                known_at: block.records.last().map(|record| record.known_at).unwrap_or_default(),
            });
            Ok(())
        })
    }

    fn know_keyframes(&mut self) -> Result<(), KafkaLogError> {
        if let Some(keeper) = &self.keeper {
            keeper.settle()?;
        }
        let offsets = &mut self.keyframe_offsets;
        let topic = self.keyframes.topic().to_owned();
        self.keyframes.catch_up(|message| {
            // Advisory: one that cannot be read is as good as none.
            if let Ok(keyframe) = record_of(&topic, message).map(|bytes| Keyframe::decode(&mut Reader::new(bytes)))
                && let Ok(keyframe) = keyframe
            {
                offsets.insert((keyframe.session_key, keyframe.graph_hash, keyframe.seq as u64), message.offset());
            }
            Ok(())
        })
    }

    fn know_readers(&mut self) -> Result<(), KafkaLogError> {
        let Self { readers, readers_epochs, .. } = self;
        let topic = readers.topic().to_owned();
        readers.catch_up(|message| {
            let readers_epoch: ReadersEpoch = decode(&topic, message)?;
            readers_epochs.insert(readers_epoch.session_key, readers_epoch);
            Ok(())
        })
    }

    fn know_sources(&mut self) -> Result<(), KafkaLogError> {
        let Self { progress, fed, sources, .. } = self;
        let topic = sources.topic().to_owned();
        sources.catch_up(|message| {
            let source: SourceProgress = decode(&topic, message)?;
            // The broker answers a commit before readers see it: what this process has committed is newer than what is read.
            if fed.get(&source.session_key).is_none_or(|fed| source.next_ingest_seq >= *fed) {
                progress.insert(source.session_key, source);
            }
            Ok(())
        })
    }
}

impl EventLog for KafkaLog {
    type Error = KafkaLogError;

    /// Takes over the partition of the session, and with it every other session there.
    fn acquire(&mut self, session_key: i32) -> Result<Fence, KafkaLogError> {
        let (number, partition) = self.shared.partition_of(session_key)?;
        let mut partition = lock(&partition);
        partition.writer = None;
        let options = &self.shared.options;
        partition.writer = Some(Writer::open(options, &format!("{}-{number}", options.group_id()))?);
        let fence = partition.fences.entry(session_key).or_default();
        *fence += 1;
        Ok(Fence(*fence))
    }

    fn ledger_end(&mut self, session_key: i32) -> Result<Option<u64>, KafkaLogError> {
        let (_, partition) = self.shared.partition_of(session_key)?;
        let mut partition = lock(&partition);
        partition.know_ledger(&self.shared)?;
        Ok(partition.sessions.get(&session_key).and_then(|blocks| blocks.offsets.last()).map(|(last_seq, _)| *last_seq))
    }

    fn ledger(&mut self, session_key: i32, from_seq: u64) -> Result<Vec<Vec<u8>>, KafkaLogError> {
        let (_, partition) = self.shared.partition_of(session_key)?;
        let mut partition = lock(&partition);
        partition.know_ledger(&self.shared)?;
        let Some(blocks) = partition.sessions.get(&session_key) else { return Ok(Vec::new()) };
        let first = blocks.offsets.partition_point(|(last_seq, _)| *last_seq < from_seq);
        let Some(&(_, offset)) = blocks.offsets.get(first) else { return Ok(Vec::new()) };
        let key = partition::key(session_key);
        let topic = partition.ledger.topic().to_owned();
        let mut found = Vec::new();
        partition.ledger.again(offset, |message| {
            if message.key() == Some(key.as_bytes()) {
                found.push(record_of(&topic, message)?.to_vec());
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// Hands records over in the order of `ingest_seq`. Behind a hole it does so only when no topic has more: then another reader of the
    /// topics would not know better either.
    fn fetch(&mut self, session_key: i32, positions: &[RawPosition], records_max: usize) -> Result<Vec<StoredRaw>, KafkaLogError> {
        let asked = self.shared.asked(positions);
        if self.raw.get(&session_key).is_none_or(|reader| *reader.delivered() != asked) {
            self.raw.remove(&session_key);
            let Some(reader) = self.shared.raw_reader(session_key, asked)? else { return Ok(Vec::new()) };
            self.raw.insert(session_key, reader);
        }
        let Some(reader) = self.raw.get_mut(&session_key) else { return Ok(Vec::new()) };
        let result = reader.read(Holes::Pass, records_max.max(1));
        if result.is_err() {
            self.raw.remove(&session_key);
        }
        result
    }

    fn commit(&mut self, fence: Fence, unit: &CommitUnit<'_>) -> Result<(), CommitError> {
        let Ok((number, partition)) = self.shared.partition_of(unit.session_key) else { return Err(CommitError::Aborted) };
        let mut partition = lock(&partition);
        if partition.fences.get(&unit.session_key) != Some(&fence.0) {
            return Err(CommitError::Fenced);
        }
        let Partition { writer, ledger, committed, has_failed, .. } = &mut *partition;
        let Some(open) = writer else { return Err(CommitError::Fenced) };
        if unit.head.state == SessionState::Complete
            && let Some(reader) = self.raw.get_mut(&unit.session_key)
            && let Err(error) = reader.look_behind()
        {
            tracing::warn!(session_key = unit.session_key, %error, "a session cannot be closed yet");
            return Err(CommitError::Aborted);
        }
        let foreign = self.raw.get(&unit.session_key).map_or_else(Vec::new, |reader| reader.foreign_in(unit));
        let begun = Instant::now();
        let result = self.shared.write_unit(open, number, ledger, unit, &foreign);
        count_commit(unit, foreign.len(), begun, result.as_ref().err());
        match result {
            Ok(()) => {
                committed.insert(unit.session_key, unit.head.last_seq);
                if let Some(reader) = self.raw.get_mut(&unit.session_key) {
                    reader.forget_foreign_in(unit);
                }
            }
            Err(CommitError::Fenced) => *writer = None,
            Err(CommitError::Aborted | CommitError::Unknown) => *has_failed = true,
        }
        result
    }

    /// Outside every transaction, and under no fence: the state after a committed record is the same whoever writes it down.
    fn keep_keyframe(&mut self, keyframe: &Keyframe) -> Result<(), KafkaLogError> {
        let shared = &self.shared;
        let (number, partition) = shared.partition_of(keyframe.session_key)?;
        let mut payload = Vec::with_capacity(keyframe.bytes.len() + 256);
        wire::write_frame(shared.ids.of(topics::KEYFRAMES), &mut payload);
        keyframe.encode(&mut payload);
        let session_key = keyframe.session_key;
        if payload.len() + 1_024 > shared.options.message_bytes_max {
            tracing::warn!(session_key, bytes = payload.len(), "a keyframe is larger than kafka.message_bytes_max and is not kept");
            return Ok(());
        }
        let topic = shared.topic(topics::KEYFRAMES);
        let key = format!("{session_key}:{}:{}", Digest(keyframe.graph_hash), keyframe.seq);
        let timestamp = keyframe.known_at.0 / 1_000;
        let outgoing = Outgoing { topic: &topic, partition: number, key: &key, timestamp, payload: &payload, headers: None };
        let mut partition = lock(&partition);
        if partition.keeper.is_none() {
            partition.keeper = Some(Keeper::open(&shared.options)?);
        }
        partition.keeper.as_ref().map_or(Ok(()), |keeper| keeper.send(&outgoing))
    }

    fn keyframe(&mut self, session_key: i32, graph_hash: Digest, last_seq: u64) -> Result<Option<Keyframe>, KafkaLogError> {
        let (_, partition) = self.shared.partition_of(session_key)?;
        let mut partition = lock(&partition);
        partition.know_keyframes()?;
        let range = (session_key, graph_hash.0, 0)..=(session_key, graph_hash.0, last_seq);
        let Some((_, &offset)) = partition.keyframe_offsets.range(range).next_back() else { return Ok(None) };
        let topic = partition.keyframes.topic().to_owned();
        partition.keyframes.one(offset, |message| decode(&topic, message))
    }

    fn facts(&mut self, session_key: i32, epoch: i32, from_fact_seq: u64, facts_max: usize) -> Result<FactBatch, KafkaLogError> {
        let end = self.shared.facts_end(session_key, epoch, from_fact_seq)?;
        let until = from_fact_seq.saturating_add(facts_max as u64).min(end);
        let mut facts = FactBatch::default();
        if until <= from_fact_seq {
            if self.standing(session_key)?.is_some_and(|standing| standing.is_closed) {
                // Nobody waits for more.
                self.facts.remove(&session_key);
            }
            return Ok(facts);
        }
        if self.facts.get(&session_key).is_none_or(|reader| reader.epoch != epoch || reader.next != from_fact_seq) {
            self.facts.remove(&session_key);
            self.facts.insert(session_key, self.shared.fact_reader(session_key, epoch, from_fact_seq)?);
        }
        let reader = self.facts.get_mut(&session_key).expect("it was inserted above");
        let result = self.shared.read_facts(reader, session_key, until, &mut facts);
        if let Err(error) = result {
            self.facts.remove(&session_key);
            return Err(error);
        }
        Ok(facts)
    }
}

impl Shared {
    /// Positions by stream number.
    fn asked(&self, positions: &[RawPosition]) -> BTreeMap<u16, i64> {
        positions.iter().filter_map(|position| Some((self.stream_named(&position.stream)? as u16, position.offset))).collect()
    }

    fn raw_reader(&self, session_key: i32, asked: BTreeMap<u16, i64>) -> Result<Option<RawReader>, KafkaLogError> {
        let (_, partition) = self.partition_of(session_key)?;
        let progress = {
            let mut partition = lock(&partition);
            if !partition.progress.contains_key(&session_key) {
                partition.know_sources()?;
            }
            partition.progress.get(&session_key).cloned()
        };
        progress.map(|progress| RawReader::open(&self.options, &self.streams.raw, &progress, asked, None)).transpose()
    }

    /// The first fact number of an epoch that is not committed.
    fn facts_end(&self, session_key: i32, epoch: i32, from_fact_seq: u64) -> Result<u64, KafkaLogError> {
        let (_, partition) = self.partition_of(session_key)?;
        let mut partition = lock(&partition);
        let known = |partition: &Partition| {
            let facts = partition.sessions.get(&session_key).and_then(|blocks| blocks.facts.get(&epoch)?.last());
            facts.map_or(0, |until| until.next_fact_seq)
        };
        if known(&partition) <= from_fact_seq {
            partition.know_ledger(self)?;
        }
        Ok(known(&partition))
    }

    /// A reader of the facts from `next` on. It begins where they may first lie, so that going on costs no reading from the start.
    fn fact_reader(&self, session_key: i32, epoch: i32, next: u64) -> Result<FactReader, KafkaLogError> {
        let partition = partition::of(session_key, self.options.partitions);
        let known_after = {
            let partition = self.partition(partition)?;
            let partition = lock(&partition);
            let facts = partition.sessions.get(&session_key).and_then(|blocks| blocks.facts.get(&epoch));
            facts.and_then(|facts| {
                let before = facts.partition_point(|until| until.next_fact_seq <= next).checked_sub(1)?;
                facts.get(before).map(|until| until.known_at)
            })
        };
        let topics = self.streams.kinds.iter().map(|kind| self.topic(&topics::facts(kind.name))).collect();
        let starts = match known_after {
            Some(known_after) => starts_after(&self.options, partition, topics, known_after)?,
            None => topics.into_iter().map(|topic| Start { topic, offset: 0 }).collect(),
        };
        let lanes = Lanes::open(&self.options, partition, starts, Some(next as i64), self.options.read_ahead_bytes_max)?;
        Ok(FactReader { lanes, epoch, next })
    }

    fn read_facts(&self, reader: &mut FactReader, session_key: i32, until: u64, facts: &mut FactBatch) -> Result<(), KafkaLogError> {
        let key = partition::key(session_key);
        let epoch = reader.epoch.to_string();
        while reader.next < until {
            let first = reader.next;
            let next = reader.lanes.next(Holes::Wait, |_, message| {
                let is_ours = message.key() == Some(key.as_bytes()) && header(message, EPOCH) == Some(epoch.as_bytes());
                if !is_ours {
                    return Ok(None);
                }
                let number = header(message, FACT_SEQ).and_then(|text| std::str::from_utf8(text).ok()).and_then(|text| text.parse().ok());
                let number: i64 = number.ok_or_else(|| damaged(message.topic(), message, "it has no fact_seq".to_owned()))?;
                Ok((number >= first as i64).then_some((number, record_of(message.topic(), message)?.to_vec())))
            })?;
            let Some((lane, bytes)) = next else { return Ok(()) };
            let kind = self.streams.kinds[lane];
            let pushed = FactHeader::decode(&mut Reader::new(&bytes)).and_then(|header| {
                facts.push_encoded(EncodedFact { kind, fact_seq: reader.next, known_at: header.known_at, bytes: &bytes })
            });
            pushed.map_err(|error| KafkaLogError::Damaged {
                topic: self.topic(&topics::facts(kind.name)),
                partition: partition::of(session_key, self.options.partitions),
                offset: -1,
                reason: format!("fact {}: {error}", reader.next),
            })?;
            reader.next += 1;
        }
        Ok(())
    }
}

impl RawLog for KafkaLog {
    /// Takes the session's ingest over: another process that feeds it is fenced.
    fn ingest_end(&mut self, session_key: i32, source_id: Digest) -> Result<i64, AppendError<KafkaLogError>> {
        let (_, partition) = self.shared.partition_of(session_key).map_err(AppendError::Log)?;
        let progress = self.shared.progress_of(&mut lock(&partition), session_key, source_id)?;
        Ok(progress.next_ingest_seq)
    }

    /// One transaction across all topics, so a hole is never visible; durable when this returns.
    fn append(
        &mut self,
        session_key: i32,
        source_id: Digest,
        first_ingest_seq: i64,
        records: Vec<NewRaw>,
    ) -> Result<(), AppendError<KafkaLogError>> {
        let (half, streams) = (self.shared.options.half_a_message(), self.shared.streams.raw.len());
        if let Some(record) = records.iter().find(|record| record.payload.len() > half) {
            return Err(AppendError::Log(KafkaLogError::TooLarge { bytes: record.payload.len() }));
        }
        debug_assert!(records.iter().all(|record| usize::from(record.stream) < streams), "streams are numbered as the log was opened");
        self.ingest(session_key, source_id, |progress| {
            let expected = progress.next_ingest_seq;
            if first_ingest_seq > expected {
                return Err(AppendError::Hole { session_key, expected, found: first_ingest_seq });
            }
            let new: Vec<NewRaw> = records.into_iter().skip((expected - first_ingest_seq) as usize).collect();
            progress.next_ingest_seq += new.len() as i64;
            Ok((!new.is_empty()).then_some(new))
        })
    }
}

fn count_commit(unit: &CommitUnit<'_>, foreign: usize, begun: Instant, error: Option<&CommitError>) {
    let result = match error {
        None => "committed",
        Some(CommitError::Aborted) => "aborted",
        Some(CommitError::Unknown) => "unknown",
        Some(CommitError::Fenced) => "fenced",
    };
    ::metrics::counter!(metrics::COMMITS, "result" => result).increment(1);
    if error.is_none() {
        ::metrics::histogram!(metrics::COMMIT_SECONDS).record(begun.elapsed().as_secs_f64());
        ::metrics::counter!(metrics::FACTS).increment(unit.facts.len() as u64);
        ::metrics::counter!(metrics::DEAD_LETTERS).increment((unit.dead_letters.len() + foreign) as u64);
    }
}

fn lock(partition: &Mutex<Partition>) -> MutexGuard<'_, Partition> {
    partition.lock().expect("no thread panics while it holds a partition")
}

fn header<'a>(message: &'a BorrowedMessage<'_>, name: &str) -> Option<&'a [u8]> {
    message.headers()?.iter().find(|header| header.key == name)?.value
}

/// A message's record, without its frame.
pub(crate) fn record_of<'a>(topic: &str, message: &'a BorrowedMessage<'_>) -> Result<&'a [u8], KafkaLogError> {
    let framed = message.payload().unwrap_or_default();
    wire::split_frame(framed).map(|(_, record)| record).map_err(|error| damaged(topic, message, error.to_string()))
}

fn decode<T: Avro>(topic: &str, message: &BorrowedMessage<'_>) -> Result<T, KafkaLogError> {
    T::decode(&mut Reader::new(record_of(topic, message)?)).map_err(|error| damaged(topic, message, error.to_string()))
}

pub(crate) fn damaged(topic: &str, message: &BorrowedMessage<'_>, reason: String) -> KafkaLogError {
    KafkaLogError::Damaged { topic: topic.to_owned(), partition: message.partition(), offset: message.offset(), reason }
}
