//! What the edge must be able to ask of a log and a state store.

use pitwall_engine::Micros;
use pitwall_engine::log::StoredFact;
use pitwall_schemas::log::LedgerRecord;
use pitwall_schemas::raw::{Collection, Sample};

use crate::channel::Channel;

/// A stretch of a channel's facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// First `fact_seq`.
    pub from_fact_seq: u64,
    /// Only facts known after this.
    pub known_after: Option<Micros>,
    /// Only facts known by this.
    pub known_by: Option<Micros>,
}

/// A ledger record behind a fact, with the name of the raw stream it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Cause {
    /// The record.
    pub record: LedgerRecord,
    /// The raw stream.
    pub stream: Option<String>,
}

impl Cause {
    /// `CAUSE` of the protocol.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let record = &self.record;
        let collection = self.stream.as_deref().and_then(|name| Collection::ALL.iter().find(|collection| collection.name() == name));
        let document = collection.and_then(|&collection| {
            let sample = Sample::decode(collection, &mut pitwall_schemas::codec::Reader::new(&record.payload)).ok()?;
            serde_json::to_value(&sample).ok()
        });
        serde_json::json!({
            "seq": record.seq,
            "kind": record.kind,
            "known_at": record.known_at,
            "collection": self.stream,
            "partition": record.partition,
            "offset": record.offset,
            "ingest_seq": record.ingest_seq,
            "document": document,
        })
    }
}

/// What replaying a session's ledger gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Epoch replayed.
    pub epoch: i32,
    /// Last ledger record replayed.
    pub seq: u64,
    /// Facts it gave.
    pub facts: u64,
    /// Hash of the facts that were published.
    pub facts_hash: String,
    /// Hash of the facts that the replay gave.
    pub recomputed_hash: String,
}

/// Why a read failed; says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The log or the store cannot be read now.
    #[error("{0}")]
    Unavailable(String),
    /// This deployment cannot do it.
    #[error("{0}")]
    Unsupported(&'static str),
}

/// Reads committed facts and ledger records. Calls block; the edge makes them off its async threads, several at once.
///
/// Only committed data is seen. A session or epoch that does not exist reads as empty.
pub trait Reader: Send + Sync + 'static {
    /// The newest fact of each key, in order of the keys; with `known_by` the newest one known by then.
    ///
    /// # Errors
    /// When store or log cannot be read.
    fn latest(&self, session_key: i32, epoch: i32, channel: Channel, known_by: Option<Micros>) -> Result<Vec<StoredFact>, ReadError>;

    /// Facts of a stretch in order, at most `facts_max`; fewer only at its end.
    ///
    /// # Errors
    /// When store or log cannot be read.
    fn history(&self, session_key: i32, epoch: i32, channel: Channel, span: Span, facts_max: usize) -> Result<Vec<StoredFact>, ReadError>;

    /// One fact and its channel.
    ///
    /// # Errors
    /// When store or log cannot be read.
    fn fact(&self, session_key: i32, epoch: i32, fact_seq: u64) -> Result<Option<(Channel, StoredFact)>, ReadError>;

    /// When a ledger record became known.
    ///
    /// # Errors
    /// When the log cannot be read.
    fn known_at(&self, session_key: i32, seq: u64) -> Result<Option<Micros>, ReadError>;

    /// The last ledger record known by then.
    ///
    /// # Errors
    /// When the log cannot be read.
    fn last_known_by(&self, session_key: i32, known_at: Micros) -> Result<Option<u64>, ReadError>;

    /// These ledger records, in order; those that do not exist are left out.
    ///
    /// # Errors
    /// When the log cannot be read.
    fn records(&self, session_key: i32, seqs: &[u64]) -> Result<Vec<Cause>, ReadError>;

    /// Replays the session's ledger and compares the facts' hash with the published one.
    ///
    /// # Errors
    /// When the log cannot be read, or this process has no operators.
    fn verify(&self, session_key: i32) -> Result<Verified, ReadError>;
}
