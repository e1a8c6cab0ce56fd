//! The embedded state store: the newest fact of each key and the history of each kind, in a fjall database of its own.
//!
//! It is not synced: whatever a crash takes from it is in the log, and the [`sink`](crate::sink) stores it again. A store that cannot be
//! opened is thrown away for the same reason.

use std::fs;
use std::ops::Range;
use std::sync::Arc;

use fjall::{Database, Keyspace};
use pitwall_engine::Micros;
use pitwall_engine::facts::FactBatch;
use pitwall_engine::log::{StateStore, StoredFact};
use pitwall_schemas::codec::{Avro, Reader};

use crate::data::{EmbeddedError, Place, keyspace_options, open_database, opening};
use crate::keys;
use crate::log::reason;

/// Rows removed at a time by a purge.
const PURGED_ROWS: usize = 4_096;

/// A client of the store. Clones are further clients; they may read while another one writes.
#[derive(Clone)]
pub struct EmbeddedStore {
    place: Arc<Place>,
    database: Database,
    /// Session, epoch, kind and fact number to the fact.
    history: Keyspace,
    /// Session, epoch, kind, key and fact number: which facts are about one key.
    versions: Keyspace,
    /// Session, epoch, kind and key to the number of its newest fact.
    latest: Keyspace,
    /// Session and epoch to the fact that must be stored next.
    progress: Keyspace,
}

impl EmbeddedStore {
    pub(crate) fn open(place: Arc<Place>) -> Result<Self, EmbeddedError> {
        let folder = place.path.join("store");
        let database = match open_database(&folder, &place.options) {
            Err(fjall::Error::Io(error)) => Err(fjall::Error::Io(error)),
            Err(error) => {
                tracing::warn!(%error, "the state store was damaged: filling a new one from the log");
                fs::remove_dir_all(&folder).map_err(fjall::Error::Io).and_then(|()| open_database(&folder, &place.options))
            }
            opened => opened,
        };
        let database = database.map_err(|error| opening(&place.path, &error))?;
        let keyspace = |name| database.keyspace(name, || keyspace_options(&place.options)).map_err(|error| opening(&place.path, &error));
        Ok(Self {
            history: keyspace("history")?,
            versions: keyspace("versions")?,
            latest: keyspace("latest")?,
            progress: keyspace("progress")?,
            database,
            place,
        })
    }

    fn unreadable(&self, error: &dyn std::fmt::Display) -> EmbeddedError {
        EmbeddedError::Read { path: self.place.path.join("store"), reason: error.to_string() }
    }

    fn unwritable(&self, error: &fjall::Error) -> EmbeddedError {
        EmbeddedError::Write { path: self.place.path.join("store"), reason: reason(error) }
    }

    fn fact(&self, of_kind: &[u8], fact_seq: u64) -> Result<Option<StoredFact>, EmbeddedError> {
        let mut key = of_kind.to_vec();
        key.extend_from_slice(&fact_seq.to_be_bytes());
        let row = self.history.get(key).map_err(|error| self.unreadable(&error))?;
        row.map(|row| self.decode(fact_seq, &row)).transpose()
    }

    fn decode(&self, fact_seq: u64, row: &[u8]) -> Result<StoredFact, EmbeddedError> {
        let mut reader = Reader::new(row);
        let known_at = Micros::decode(&mut reader).map_err(|error| self.unreadable(&error))?;
        Ok(StoredFact { fact_seq, known_at, bytes: reader.rest().to_vec() })
    }
}

impl StateStore for EmbeddedStore {
    type Error = EmbeddedError;

    /// One batch, so a row of progress never runs ahead of its facts.
    fn store(&mut self, session_key: i32, epoch: i32, facts: &FactBatch) -> Result<(), EmbeddedError> {
        let mut batch = self.database.batch();
        let mut next = self.next_fact_seq(session_key, epoch)?;
        let mut newest = std::collections::BTreeMap::new();
        for fact in facts.iter() {
            let number = fact.fact_seq.to_be_bytes();
            let mut key = keys::kind(session_key, epoch, fact.kind.name);
            let mut of_key = key.clone();
            of_key.extend(fact.key().map_err(|error| self.unreadable(&error))?);
            key.extend_from_slice(&number);
            let mut row = Vec::with_capacity(fact.bytes.len() + 10);
            fact.known_at.encode(&mut row);
            row.extend_from_slice(fact.bytes);
            batch.insert(&self.history, key, row);
            let mut version = of_key.clone();
            version.extend_from_slice(&number);
            batch.insert(&self.versions, version, []);
            let at = newest.entry(of_key).or_insert(fact.fact_seq);
            *at = fact.fact_seq.max(*at);
            next = next.max(fact.fact_seq + 1);
        }
        for (of_key, fact_seq) in newest {
            let stored = self.latest.get(&of_key).map_err(|error| self.unreadable(&error))?;
            if stored.and_then(|row| keys::last_number(&row)).is_none_or(|stored| stored < fact_seq) {
                batch.insert(&self.latest, of_key, fact_seq.to_be_bytes());
            }
        }
        batch.insert(&self.progress, keys::epoch(session_key, epoch), next.to_be_bytes());
        batch.commit().map_err(|error| self.unwritable(&error))
    }

    fn next_fact_seq(&mut self, session_key: i32, epoch: i32) -> Result<u64, EmbeddedError> {
        let row = self.progress.get(keys::epoch(session_key, epoch)).map_err(|error| self.unreadable(&error))?;
        Ok(row.and_then(|row| keys::last_number(&row)).unwrap_or(0))
    }

    fn latest(&mut self, session_key: i32, epoch: i32, kind: &str, before: u64) -> Result<Vec<StoredFact>, EmbeddedError> {
        let of_kind = keys::kind(session_key, epoch, kind);
        let mut facts = Vec::new();
        for row in self.latest.prefix(&of_kind) {
            let (of_key, newest) = row.into_inner().map_err(|error| self.unreadable(&error))?;
            let mut fact_seq = keys::last_number(&newest).filter(|newest| *newest < before);
            if fact_seq.is_none() {
                // The newest is too new: the last one about this key before the bound. Keys end in their fact number, so those of
                // another key that begins alike are told apart by their length.
                let bound = |number: u64| [of_key.as_ref(), &number.to_be_bytes()].concat();
                for version in self.versions.range(bound(0)..bound(before)).rev() {
                    let version = version.key().map_err(|error| self.unreadable(&error))?;
                    if version.len() == of_key.len() + 8 {
                        fact_seq = keys::last_number(&version);
                        break;
                    }
                }
            }
            if let Some(fact_seq) = fact_seq {
                facts.extend(self.fact(&of_kind, fact_seq)?);
            }
        }
        Ok(facts)
    }

    fn history(
        &mut self,
        session_key: i32,
        epoch: i32,
        kind: &str,
        fact_seqs: Range<u64>,
        facts_max: usize,
    ) -> Result<Vec<StoredFact>, EmbeddedError> {
        let bound = |number: u64| [keys::kind(session_key, epoch, kind), number.to_be_bytes().to_vec()].concat();
        if fact_seqs.is_empty() {
            return Ok(Vec::new());
        }
        let rows = self.history.range(bound(fact_seqs.start)..bound(fact_seqs.end)).take(facts_max);
        rows.map(|row| {
            let (key, row) = row.into_inner().map_err(|error| self.unreadable(&error))?;
            self.decode(keys::last_number(&key).unwrap_or_default(), &row)
        })
        .collect()
    }

    fn purge(&mut self, session_key: i32) -> Result<(), EmbeddedError> {
        // Progress goes first: a purge that stops half way leaves a store that will be filled again.
        for keyspace in [&self.progress, &self.latest, &self.versions, &self.history] {
            loop {
                let mut batch = self.database.batch();
                for row in keyspace.prefix(keys::session(session_key)).take(PURGED_ROWS) {
                    batch.remove(keyspace, row.key().map_err(|error| self.unreadable(&error))?);
                }
                if batch.is_empty() {
                    break;
                }
                batch.commit().map_err(|error| self.unwritable(&error))?;
            }
        }
        Ok(())
    }
}
