//! The embedded event log: ledger, facts, dead letters and keyframes in one fjall database.
//!
//! Raw records wait in memory until a commit takes them; the commit writes them once, inside its ledger block, where their payloads are
//! unchanged. So "accepted" means "durable", nothing is stored twice, and after a kill a source simply goes on from
//! [`RawLog::ingest_end`]. Facts are stored a commit at a time: they are written together and read together.
//!
//! Of a session that was derived anew every epoch stays, and readers see the newest unless they were [rolled back](EmbeddedLog::roll_back).

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use fjall::{Database, Keyspace, PersistMode};
use pitwall_engine::Micros;
use pitwall_engine::facts::{EncodedFact, FactBatch, Kind};
use pitwall_engine::hash::Digest;
use pitwall_engine::ledger;
use pitwall_engine::log::{AppendError, CommitError, CommitUnit, EventLog, Fence, Head, NewRaw, RawLog, SessionState, StoredRaw};
use pitwall_schemas::codec::{Avro, DecodeError, Reader, write_bytes, write_long};
use pitwall_schemas::log::{DeadLetter, Keyframe, LedgerBlock, RawPosition};

use crate::data::{Durability, EmbeddedError, Place, keyspace_options};
use crate::keys;

/// Facts stored as one value. A session derived anew commits all of its facts at once, and a reader of one must not have to read them all.
const FACTS_PER_VALUE_MAX: usize = 4_096;

/// A client of the log. Clones are further clients; they may read while another one commits.
#[derive(Clone)]
pub struct EmbeddedLog {
    shared: Arc<Shared>,
}

struct Shared {
    place: Arc<Place>,
    database: Database,
    kinds: Vec<Kind>,
    /// Session and last record to its block.
    ledger: Keyspace,
    /// Session, epoch and last fact to facts of one commit.
    facts: Keyspace,
    /// Session and time of a block's last record to that record's number.
    moments: Keyspace,
    /// Session, last record and index to a dead letter.
    dead_letters: Keyspace,
    /// Session, graph and record to a keyframe.
    keyframes: Keyspace,
    /// Session to where it stands.
    heads: Keyspace,
    /// Session and an epoch that is over to where it ended.
    ended: Keyspace,
    /// Session to the epoch that readers were rolled back to, and the one they would see otherwise.
    readers: Keyspace,
    sessions: Mutex<Sessions>,
}

#[derive(Default)]
struct Sessions {
    staged: BTreeMap<i32, Staged>,
    /// Why the log accepts nothing any more.
    failure: Option<EmbeddedError>,
}

/// What a session's writers share.
#[derive(Default)]
struct Staged {
    fence: u64,
    source_id: Option<Digest>,
    /// Raw records from the last commit on, dense.
    records: VecDeque<StoredRaw>,
    next_ingest_seq: i64,
}

/// A session of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CataloguedSession {
    /// Its number.
    pub session_key: i32,
    /// Its source.
    pub source_id: Digest,
    /// Where it stands.
    pub head: Head,
}

/// A record's place in time, as `as_of` needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// The ledger record.
    pub seq: u64,
    /// Its time: facts known later were unknown then.
    pub known_at: Micros,
}

/// What readers of a session see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readers {
    /// Where the epoch they see stands.
    pub head: Head,
    /// The epoch they would see had they not been rolled back from it.
    pub instead_of: Option<i32>,
}

impl EmbeddedLog {
    pub(crate) fn open(place: Arc<Place>, database: Database, kinds: &[Kind]) -> Result<Self, EmbeddedError> {
        let keyspace =
            |name| database.keyspace(name, || keyspace_options(&place.options)).map_err(|error| crate::data::opening(&place.path, &error));
        let shared = Shared {
            ledger: keyspace("ledger")?,
            facts: keyspace("facts")?,
            moments: keyspace("moments")?,
            dead_letters: keyspace("dead_letters")?,
            keyframes: keyspace("keyframes")?,
            heads: keyspace("heads")?,
            ended: keyspace("ended")?,
            readers: keyspace("readers")?,
            kinds: kinds.to_vec(),
            sessions: Mutex::default(),
            place,
            database,
        };
        let log = Self { shared: Arc::new(shared) };
        for session in log.catalogue()? {
            let staged = Staged { source_id: Some(session.source_id), next_ingest_seq: session.head.next_ingest_seq, ..Staged::default() };
            log.sessions().staged.insert(session.session_key, staged);
        }
        Ok(log)
    }

    /// Every session that the log holds, by number.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn catalogue(&self) -> Result<Vec<CataloguedSession>, EmbeddedError> {
        let mut sessions = Vec::new();
        for row in self.shared.heads.iter() {
            let (key, value) = row.into_inner().map_err(|error| self.unreadable(&error))?;
            let session_key = keys::session_of(&key).unwrap_or_default();
            let (source_id, head) = decode_head(&value).map_err(|error| self.unreadable(&error))?;
            sessions.push(CataloguedSession { session_key, source_id, head });
        }
        Ok(sessions)
    }

    /// Where a session stands; `None` when it has no commit.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn head(&self, session_key: i32) -> Result<Option<Head>, EmbeddedError> {
        let row = self.shared.heads.get(keys::session(session_key)).map_err(|error| self.unreadable(&error))?;
        row.map(|row| decode_head(&row).map(|(_, head)| head)).transpose().map_err(|error| self.unreadable(&error))
    }

    /// What readers of a session see; `None` when it has no commit.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn readers(&self, session_key: i32) -> Result<Option<Readers>, EmbeddedError> {
        let Some(head) = self.head(session_key)? else { return Ok(None) };
        let row = self.shared.readers.get(keys::session(session_key)).map_err(|error| self.unreadable(&error))?;
        let rolled_back = row.map(|row| decode_rollback(&row)).transpose().map_err(|error| self.unreadable(&error))?;
        match rolled_back {
            Some((epoch, instead_of)) => {
                let ended = self.ended(session_key, epoch)?.ok_or(EmbeddedError::NoEpoch { session_key, epoch, current: head.epoch })?;
                Ok(Some(Readers { head: ended, instead_of: Some(instead_of) }))
            }
            None => Ok(Some(Readers { head, instead_of: None })),
        }
    }

    /// Has readers see the epoch `epoch` from their next start on, until the session is derived anew once more; the current one has them go
    /// forward again. Facts stay as they are. Returns where that epoch stands.
    ///
    /// # Errors
    /// When the session has no such epoch, or the log cannot be written.
    pub fn roll_back(&self, session_key: i32, epoch: i32) -> Result<Head, EmbeddedError> {
        self.refuse_after_failure()?;
        let current = self.head(session_key)?.ok_or(EmbeddedError::NoSession(session_key))?;
        let mut batch = self.shared.database.batch().durability(Some(self.persistence()));
        let head = if epoch == current.epoch {
            batch.remove(&self.shared.readers, keys::session(session_key));
            current
        } else {
            let ended = self.ended(session_key, epoch)?;
            let ended = ended.ok_or(EmbeddedError::NoEpoch { session_key, epoch, current: current.epoch })?;
            batch.insert(&self.shared.readers, keys::session(session_key), encode_rollback(epoch, current.epoch));
            ended
        };
        batch.commit().map_err(|error| self.fail(&error))?;
        Ok(head)
    }

    /// Where an epoch that is over ended.
    fn ended(&self, session_key: i32, epoch: i32) -> Result<Option<Head>, EmbeddedError> {
        let row = self.shared.ended.get(keys::epoch(session_key, epoch)).map_err(|error| self.unreadable(&error))?;
        row.map(|row| decode_head(&row).map(|(_, head)| head)).transpose().map_err(|error| self.unreadable(&error))
    }

    /// The committed block that holds record `seq`.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn block(&self, session_key: i32, seq: u64) -> Result<Option<LedgerBlock>, EmbeddedError> {
        let bytes = self.encoded_block(session_key, seq)?;
        bytes.map(|bytes| ledger::decode_block(&bytes)).transpose().map_err(|error| self.unreadable(&error))
    }

    /// The same as it was committed, for whoever checks the ledger's chain.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn encoded_block(&self, session_key: i32, seq: u64) -> Result<Option<Vec<u8>>, EmbeddedError> {
        let range = keys::numbered(session_key, seq)..=keys::numbered(session_key, u64::MAX);
        let row = self.shared.ledger.range(range).next();
        row.map(|row| row.value().map(|bytes| bytes.to_vec())).transpose().map_err(|error| self.unreadable(&error))
    }

    /// Where record `seq` lies in time; `None` when it is not committed. A look at one block.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn place_of(&self, session_key: i32, seq: u64) -> Result<Option<Placed>, EmbeddedError> {
        let Some(block) = self.block(session_key, seq)? else { return Ok(None) };
        let Some(record) = block.records.get((seq as i64 - block.first_seq) as usize) else { return Ok(None) };
        Ok(Some(Placed { seq: record.seq as u64, known_at: record.known_at }))
    }

    /// The last record known at `known_at`; `None` when none was.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn place_at(&self, session_key: i32, known_at: Micros) -> Result<Option<Placed>, EmbeddedError> {
        let from = keys::numbered(session_key, keys::time(known_at.0));
        let later = self.shared.moments.range(from..=keys::numbered(session_key, u64::MAX)).next();
        let seq = match later {
            Some(row) => decode_moment(&row.value().map_err(|error| self.unreadable(&error))?).map_err(|error| self.unreadable(&error))?,
            None => match self.head(session_key)? {
                Some(head) => head.last_seq,
                None => return Ok(None),
            },
        };
        let Some(block) = self.block(session_key, seq)? else { return Ok(None) };
        let known = block.records.partition_point(|record| record.known_at <= known_at);
        match known.checked_sub(1).and_then(|index| block.records.get(index)) {
            Some(record) => Ok(Some(Placed { seq: record.seq as u64, known_at: record.known_at })),
            // The whole block came later: the last record of the one before it.
            None => match u64::try_from(block.first_seq - 1) {
                Ok(seq) => self.place_of(session_key, seq),
                Err(_) => Ok(None),
            },
        }
    }

    /// The number of an epoch's first fact that was not known yet at `known_at`; behind its last fact when all were.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn first_fact_after(&self, session_key: i32, epoch: i32, known_at: Micros) -> Result<u64, EmbeddedError> {
        let of_epoch = keys::fact(session_key, epoch, 0)..=keys::fact(session_key, epoch, u64::MAX);
        let Some(last) = self.shared.facts.range(of_epoch).next_back() else { return Ok(0) };
        let last = last.key().map_err(|error| self.unreadable(&error))?;
        // Facts are numbered as they became known, so the place is between these.
        let (mut low, mut high) = (0, keys::last_number(&last).unwrap_or_default() + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            let range = keys::fact(session_key, epoch, middle)..=keys::fact(session_key, epoch, u64::MAX);
            let Some(row) = self.shared.facts.range(range).next() else { break };
            let facts = self.decode_facts(&row.value().map_err(|error| self.unreadable(&error))?)?;
            let known = facts.iter().take_while(|fact| fact.known_at <= known_at).count();
            let first = facts.iter().next().map_or(low, |fact| fact.fact_seq);
            match (known, facts.len() - known) {
                (0, _) => high = first,
                (_, 0) => low = first + facts.len() as u64,
                (known, _) => return Ok(first + known as u64),
            }
        }
        Ok(low)
    }

    /// The committed fact with this number.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn fact(&self, session_key: i32, epoch: i32, fact_seq: u64) -> Result<Option<FactBatch>, EmbeddedError> {
        let facts = self.read_facts(session_key, epoch, fact_seq, 1)?;
        let is_found = facts.iter().next().is_some_and(|fact| fact.fact_seq == fact_seq);
        Ok(is_found.then_some(facts))
    }

    /// Committed dead letters of a session, in order, at most `dead_letters_max`.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn dead_letters(&self, session_key: i32, dead_letters_max: usize) -> Result<Vec<DeadLetter>, EmbeddedError> {
        let rows = self.shared.dead_letters.prefix(keys::session(session_key)).take(dead_letters_max);
        rows.map(|row| {
            let bytes = row.value().map_err(|error| self.unreadable(&error))?;
            DeadLetter::decode(&mut Reader::new(&bytes)).map_err(|error| self.unreadable(&error))
        })
        .collect()
    }

    /// Raw records of a session waiting for a commit.
    #[must_use]
    pub fn staged(&self, session_key: i32) -> usize {
        self.sessions().staged.get(&session_key).map_or(0, |staged| staged.records.len())
    }

    fn read_facts(&self, session_key: i32, epoch: i32, from_fact_seq: u64, facts_max: usize) -> Result<FactBatch, EmbeddedError> {
        let mut facts = FactBatch::default();
        let range = keys::fact(session_key, epoch, from_fact_seq)..=keys::fact(session_key, epoch, u64::MAX);
        for row in self.shared.facts.range(range) {
            let bytes = row.value().map_err(|error| self.unreadable(&error))?;
            for fact in self.decode_facts(&bytes)?.iter().skip_while(|fact| fact.fact_seq < from_fact_seq) {
                if facts.len() == facts_max {
                    return Ok(facts);
                }
                facts.push_encoded(fact).map_err(|error| self.unreadable(&error))?;
            }
        }
        Ok(facts)
    }

    fn decode_facts(&self, bytes: &[u8]) -> Result<FactBatch, EmbeddedError> {
        let mut facts = FactBatch::default();
        let mut reader = Reader::new(bytes);
        let mut read = || -> Result<Result<(), String>, DecodeError> {
            let names = Vec::<String>::decode(&mut reader)?;
            let mut fact_seq = reader.long()? as u64;
            while !reader.rest().is_empty() {
                let name = usize::try_from(reader.long()?).ok().and_then(|index| names.get(index)).cloned().unwrap_or_default();
                let Some(kind) = self.shared.kinds.iter().find(|kind| kind.name == name) else { return Ok(Err(name)) };
                let known_at = Micros::decode(&mut reader)?;
                let length = reader.length()?;
                let bytes = reader.take(length)?;
                facts.push_encoded(EncodedFact { kind: *kind, fact_seq, known_at, bytes })?;
                fact_seq += 1;
            }
            Ok(Ok(()))
        };
        read().map_err(|error| self.unreadable(&error))?.map_err(EmbeddedError::UnknownKind)?;
        Ok(facts)
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.shared.sessions.lock().expect("no thread panics while it holds the sessions")
    }

    fn unreadable(&self, error: &dyn std::fmt::Display) -> EmbeddedError {
        EmbeddedError::Read { path: self.shared.place.path.clone(), reason: error.to_string() }
    }

    fn refuse_after_failure(&self) -> Result<(), EmbeddedError> {
        self.sessions().failure.clone().map_or(Ok(()), Err)
    }

    /// After a failed write only the disk knows what it holds: nothing is accepted until the directory is opened again.
    fn fail(&self, error: &fjall::Error) -> EmbeddedError {
        let failure = EmbeddedError::Write { path: self.shared.place.path.clone(), reason: reason(error) };
        self.sessions().failure.get_or_insert(failure).clone()
    }

    fn persistence(&self) -> PersistMode {
        match self.shared.place.options.durability {
            Durability::Disk => PersistMode::SyncData,
            Durability::System => PersistMode::Buffer,
        }
    }
}

impl EventLog for EmbeddedLog {
    type Error = EmbeddedError;

    /// The lock of the data directory keeps other processes out, so a fence need not outlive this one.
    fn acquire(&mut self, session_key: i32) -> Result<Fence, EmbeddedError> {
        self.refuse_after_failure()?;
        let mut sessions = self.sessions();
        let staged = sessions.staged.entry(session_key).or_default();
        staged.fence += 1;
        Ok(Fence(staged.fence))
    }

    fn ledger_end(&mut self, session_key: i32) -> Result<Option<u64>, EmbeddedError> {
        self.refuse_after_failure()?;
        Ok(self.head(session_key)?.map(|head| head.last_seq))
    }

    fn ledger(&mut self, session_key: i32, from_seq: u64) -> Result<Vec<Vec<u8>>, EmbeddedError> {
        let range = keys::numbered(session_key, from_seq)..=keys::numbered(session_key, u64::MAX);
        let rows = self.shared.ledger.range(range);
        rows.map(|row| row.value().map(|block| block.to_vec()).map_err(|error| self.unreadable(&error))).collect()
    }

    /// An offset is the record's `ingest_seq`: one source, one order, so the furthest position tells where to go on.
    fn fetch(&mut self, session_key: i32, positions: &[RawPosition], records_max: usize) -> Result<Vec<StoredRaw>, EmbeddedError> {
        let from = positions.iter().map(|position| position.offset).max().unwrap_or(0);
        let sessions = self.sessions();
        let Some(staged) = sessions.staged.get(&session_key) else { return Ok(Vec::new()) };
        let first = staged.records.partition_point(|raw| raw.offset < from);
        Ok(staged.records.iter().skip(first).take(records_max).cloned().collect())
    }

    fn commit(&mut self, fence: Fence, unit: &CommitUnit<'_>) -> Result<(), CommitError> {
        let source_id = {
            let mut sessions = self.sessions();
            if sessions.failure.is_some() {
                return Err(CommitError::Unknown);
            }
            let staged = sessions.staged.entry(unit.session_key).or_default();
            if staged.fence != fence.0 {
                return Err(CommitError::Fenced);
            }
            staged.source_id.unwrap_or_default()
        };
        let shared = &self.shared;
        let (session_key, head) = (unit.session_key, &unit.head);
        let mut batch = shared.database.batch().durability(Some(self.persistence()));
        batch.insert(&shared.ledger, keys::numbered(session_key, head.last_seq), unit.block);
        let facts: Vec<EncodedFact<'_>> = unit.facts.iter().collect();
        for facts in facts.chunks(FACTS_PER_VALUE_MAX) {
            let last = facts.last().map_or(0, |fact| fact.fact_seq);
            batch.insert(&shared.facts, keys::fact(session_key, head.epoch, last), encode_facts(facts));
        }
        batch.insert(&shared.moments, keys::numbered(session_key, keys::time(head.known_at.0)), encode_moment(head.last_seq));
        match self.head(session_key) {
            Ok(Some(before)) if before.epoch != head.epoch => {
                batch.insert(&shared.ended, keys::epoch(session_key, before.epoch), encode_head(source_id, &before));
                batch.remove(&shared.readers, keys::session(session_key));
            }
            Ok(_) => {}
            Err(_) => return Err(CommitError::Unknown),
        }
        for (index, dead_letter) in (0_u64..).zip(unit.dead_letters) {
            let mut key = keys::numbered(session_key, head.last_seq);
            key.extend_from_slice(&index.to_be_bytes());
            let mut bytes = Vec::new();
            dead_letter.encode(&mut bytes);
            batch.insert(&shared.dead_letters, key, bytes);
        }
        batch.insert(&shared.heads, keys::session(session_key), encode_head(source_id, head));
        if let Err(error) = batch.commit() {
            self.fail(&error);
            return Err(CommitError::Unknown);
        }
        let mut sessions = self.sessions();
        let staged = sessions.staged.entry(session_key).or_default();
        let taken = staged.records.partition_point(|raw| raw.ingest_seq < head.next_ingest_seq);
        staged.records.drain(..taken);
        staged.next_ingest_seq = staged.next_ingest_seq.max(head.next_ingest_seq);
        Ok(())
    }

    /// Synced like a commit, so that at most one batch of the journal is ever in doubt; once in thousands of records.
    fn keep_keyframe(&mut self, keyframe: &Keyframe) -> Result<(), EmbeddedError> {
        let mut bytes = Vec::with_capacity(keyframe.bytes.len() + 256);
        keyframe.encode(&mut bytes);
        let mut batch = self.shared.database.batch().durability(Some(self.persistence()));
        batch.insert(&self.shared.keyframes, keys::keyframe(keyframe.session_key, &keyframe.graph_hash, keyframe.seq as u64), bytes);
        batch.commit().map_err(|error| self.fail(&error))
    }

    fn keyframe(&mut self, session_key: i32, graph_hash: Digest, last_seq: u64) -> Result<Option<Keyframe>, EmbeddedError> {
        let range = keys::keyframe(session_key, &graph_hash.0, 0)..=keys::keyframe(session_key, &graph_hash.0, last_seq);
        for row in self.shared.keyframes.range(range).rev() {
            let bytes = row.value().map_err(|error| self.unreadable(&error))?;
            // One that cannot even be decoded is as good as none.
            if let Ok(keyframe) = Keyframe::decode(&mut Reader::new(&bytes)) {
                return Ok(Some(keyframe));
            }
        }
        Ok(None)
    }

    fn facts(&mut self, session_key: i32, epoch: i32, from_fact_seq: u64, facts_max: usize) -> Result<FactBatch, EmbeddedError> {
        self.read_facts(session_key, epoch, from_fact_seq, facts_max)
    }
}

impl RawLog for EmbeddedLog {
    fn ingest_end(&mut self, session_key: i32, source_id: Digest) -> Result<i64, AppendError<EmbeddedError>> {
        self.refuse_after_failure().map_err(AppendError::Log)?;
        end_of(&mut self.sessions(), session_key, source_id)
    }

    fn append(
        &mut self,
        session_key: i32,
        source_id: Digest,
        first_ingest_seq: i64,
        records: Vec<NewRaw>,
    ) -> Result<(), AppendError<EmbeddedError>> {
        self.refuse_after_failure().map_err(AppendError::Log)?;
        let mut sessions = self.sessions();
        let expected = end_of(&mut sessions, session_key, source_id)?;
        if first_ingest_seq > expected {
            return Err(AppendError::Hole { session_key, expected, found: first_ingest_seq });
        }
        let staged = sessions.staged.entry(session_key).or_default();
        let known = (expected - first_ingest_seq) as usize;
        let room = self.shared.place.options.staged_records_max.saturating_sub(staged.records.len());
        if records.len().saturating_sub(known) > room {
            return Err(AppendError::Full(staged.records.len()));
        }
        staged.source_id = Some(source_id);
        for raw in records.into_iter().skip(known) {
            let ingest_seq = staged.next_ingest_seq;
            staged.next_ingest_seq += 1;
            let NewRaw { stream, received_at, payload } = raw;
            staged.records.push_back(StoredRaw { stream, partition: 0, offset: ingest_seq, ingest_seq, received_at, payload });
        }
        Ok(())
    }
}

fn end_of(sessions: &mut Sessions, session_key: i32, source_id: Digest) -> Result<i64, AppendError<EmbeddedError>> {
    match sessions.staged.get(&session_key) {
        Some(Staged { source_id: Some(found), .. }) if *found != source_id => {
            Err(AppendError::OtherSource { session_key, found: *found, offered: source_id })
        }
        staged => Ok(staged.map_or(0, |staged| staged.next_ingest_seq)),
    }
}

/// The operating system's words when it has any.
pub(crate) fn reason(error: &fjall::Error) -> String {
    match error {
        fjall::Error::Io(source) => source.to_string(),
        other => other.to_string(),
    }
}

/// Names of the kinds, number of the first fact, then each fact's kind, time and bytes.
fn encode_facts(facts: &[EncodedFact<'_>]) -> Vec<u8> {
    let mut names: Vec<&str> = Vec::new();
    let mut body = Vec::with_capacity(facts.iter().map(|fact| fact.bytes.len() + 12).sum());
    for fact in facts {
        let index = names.iter().position(|name| *name == fact.kind.name).unwrap_or_else(|| {
            names.push(fact.kind.name);
            names.len() - 1
        });
        write_long(index as i64, &mut body);
        fact.known_at.encode(&mut body);
        write_bytes(fact.bytes, &mut body);
    }
    let mut bytes = Vec::with_capacity(body.len() + 256);
    names.iter().map(|name| (*name).to_owned()).collect::<Vec<String>>().encode(&mut bytes);
    write_long(facts.first().map_or(0, |fact| fact.fact_seq) as i64, &mut bytes);
    bytes.extend_from_slice(&body);
    bytes
}

fn encode_moment(last_seq: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_long(last_seq as i64, &mut bytes);
    bytes
}

fn decode_moment(bytes: &[u8]) -> Result<u64, DecodeError> {
    Ok(Reader::new(bytes).long()? as u64)
}

fn encode_rollback(epoch: i32, instead_of: i32) -> Vec<u8> {
    let mut bytes = Vec::new();
    epoch.encode(&mut bytes);
    instead_of.encode(&mut bytes);
    bytes
}

fn decode_rollback(bytes: &[u8]) -> Result<(i32, i32), DecodeError> {
    let mut reader = Reader::new(bytes);
    Ok((i32::decode(&mut reader)?, i32::decode(&mut reader)?))
}

fn encode_head(source_id: Digest, head: &Head) -> Vec<u8> {
    let mut bytes = Vec::new();
    source_id.0.encode(&mut bytes);
    head.epoch.encode(&mut bytes);
    write_long(head.last_seq as i64, &mut bytes);
    head.known_at.encode(&mut bytes);
    head.next_ingest_seq.encode(&mut bytes);
    head.graph_hash.0.encode(&mut bytes);
    write_long(head.next_fact_seq as i64, &mut bytes);
    head.facts_hash.0.encode(&mut bytes);
    let state = match head.state {
        SessionState::Live => 0,
        SessionState::Complete => 1,
        SessionState::Halted => 2,
    };
    write_long(state, &mut bytes);
    bytes
}

fn decode_head(bytes: &[u8]) -> Result<(Digest, Head), DecodeError> {
    let mut reader = Reader::new(bytes);
    let source_id = Digest(<[u8; 32]>::decode(&mut reader)?);
    let head = Head {
        epoch: i32::decode(&mut reader)?,
        last_seq: reader.long()? as u64,
        known_at: Micros::decode(&mut reader)?,
        next_ingest_seq: i64::decode(&mut reader)?,
        graph_hash: Digest(<[u8; 32]>::decode(&mut reader)?),
        next_fact_seq: reader.long()? as u64,
        facts_hash: Digest(<[u8; 32]>::decode(&mut reader)?),
        state: match reader.long()? {
            0 => SessionState::Live,
            1 => SessionState::Complete,
            _ => SessionState::Halted,
        },
    };
    Ok((source_id, head))
}
