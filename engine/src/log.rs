//! What a log and a state store must promise. Connectors keep these promises with fjall, Kafka and CQL; [`crate::memory`] models them.

use std::ops::Range;

use pitwall_schemas::log::{DeadLetter, Keyframe, RawPosition};

use crate::Micros;
use crate::facts::FactBatch;
use crate::graph::Halted;
use crate::hash::Digest;

/// A raw record as a log holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRaw {
    /// Number of its raw stream.
    pub stream: u16,
    /// Partition of the raw topic.
    pub partition: i32,
    /// Offset in the raw topic.
    pub offset: i64,
    /// Number that ingest gave it: dense per session and source.
    pub ingest_seq: i64,
    /// When the ingest host received it.
    pub received_at: Micros,
    /// Its Avro bytes.
    pub payload: Vec<u8>,
}

/// A raw record on its way into a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRaw {
    /// Number of its raw stream.
    pub stream: u16,
    /// When the ingest host received it.
    pub received_at: Micros,
    /// Its Avro bytes.
    pub payload: Vec<u8>,
}

/// The right to write a session's ledger. A later one makes all earlier ones void.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fence(pub u64);

/// How a session is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionState {
    /// More input may come.
    Live,
    /// Its source has ended and the closing record is in the ledger.
    Complete,
    /// Its graph stands still; its ledger goes on.
    Halted,
}

/// Where a session stands after a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Epoch of its facts.
    pub epoch: i32,
    /// Its last ledger record.
    pub last_seq: u64,
    /// That record's time.
    pub known_at: Micros,
    /// The `ingest_seq` that must come next.
    pub next_ingest_seq: i64,
    /// The graph that derived its facts.
    pub graph_hash: Digest,
    /// The `fact_seq` that comes next.
    pub next_fact_seq: u64,
    /// Running hash of all its facts.
    pub facts_hash: Digest,
    /// How it is doing.
    pub state: SessionState,
}

/// Everything that one commit makes visible, all of it or nothing.
#[derive(Debug, Clone, Copy)]
pub struct CommitUnit<'a> {
    /// The session.
    pub session_key: i32,
    /// The sealed ledger block.
    pub block: &'a [u8],
    /// Where the session stands with it.
    pub head: Head,
    /// The facts derived from it.
    pub facts: &'a FactBatch,
    /// The input it refused.
    pub dead_letters: &'a [DeadLetter],
    /// Where reading of the raw streams goes on.
    pub positions: &'a [RawPosition],
}

/// Why a commit did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// Nothing of it is visible; it may be tried again from the last commit.
    #[error("the commit was aborted")]
    Aborted,
    /// Whether it is visible is unknown: the ledger's end tells.
    #[error("the commit's acknowledgement was lost")]
    Unknown,
    /// Another engine has taken the session; nothing of it is visible and this engine must stop.
    #[error("another engine has taken over this session")]
    Fenced,
}

/// A log: raw streams in, ledger and facts out.
///
/// Promises: [`commit`](Self::commit) is atomic and durable; readers see only committed blocks and facts, in order, each once; after
/// [`acquire`](Self::acquire) no commit under an earlier fence becomes visible. Raw fetches may repeat and reorder records; they never
/// lose one.
pub trait EventLog {
    /// Why the log cannot answer.
    type Error: std::error::Error + 'static;

    /// Takes the session over. Only then may its ledger be read for recovery.
    ///
    /// # Errors
    /// When the log cannot be reached.
    fn acquire(&mut self, session_key: i32) -> Result<Fence, Self::Error>;

    /// Sequence number of the last committed ledger record.
    ///
    /// # Errors
    /// When the log cannot be reached.
    fn ledger_end(&mut self, session_key: i32) -> Result<Option<u64>, Self::Error>;

    /// The committed blocks from the one that holds record `from_seq` on, in order.
    ///
    /// # Errors
    /// When the log cannot be reached.
    fn ledger(&mut self, session_key: i32, from_seq: u64) -> Result<Vec<Vec<u8>>, Self::Error>;

    /// Raw records of the session from `positions` on, at most about `records_max` but at least the next of each stream that has one; a
    /// stream without a position starts at its beginning. What has been appended may take a moment to come.
    ///
    /// # Errors
    /// When the log cannot be reached.
    fn fetch(&mut self, session_key: i32, positions: &[RawPosition], records_max: usize) -> Result<Vec<StoredRaw>, Self::Error>;

    /// Makes a unit visible.
    ///
    /// # Errors
    /// As [`CommitError`] says.
    fn commit(&mut self, fence: Fence, unit: &CommitUnit<'_>) -> Result<(), CommitError>;

    /// Keeps a keyframe. Advisory: a log may lose it.
    ///
    /// # Errors
    /// When the log cannot be reached.
    fn keep_keyframe(&mut self, keyframe: &Keyframe) -> Result<(), Self::Error>;

    /// The newest keyframe of the session and graph that includes no record after `last_seq`.
    ///
    /// # Errors
    /// When the log cannot be reached.
    fn keyframe(&mut self, session_key: i32, graph_hash: Digest, last_seq: u64) -> Result<Option<Keyframe>, Self::Error>;

    /// Committed facts of an epoch from `fact_seq` on, at most about `facts_max`.
    ///
    /// # Errors
    /// When the log cannot be reached.
    fn facts(&mut self, session_key: i32, epoch: i32, from_fact_seq: u64, facts_max: usize) -> Result<FactBatch, Self::Error>;
}

/// A log that takes raw records in.
///
/// One source is authoritative for a session: the first that appended to it. A source is known by its content, so the same archive again
/// is the same source and changes nothing.
pub trait RawLog: EventLog {
    /// The `ingest_seq` that the source must append next.
    ///
    /// # Errors
    /// When another source has the session, or the log cannot be reached.
    fn ingest_end(&mut self, session_key: i32, source_id: Digest) -> Result<i64, AppendError<Self::Error>>;

    /// Appends records numbered from `first_ingest_seq` on. Those that the log has already are left out. Whether accepted records are
    /// durable now or with the commit that takes them is the log's choice; a source goes on from [`ingest_end`](Self::ingest_end) after
    /// a restart either way.
    ///
    /// # Errors
    /// When another source has the session, records before `first_ingest_seq` are missing, the log holds as many uncommitted records as
    /// it may, or cannot be reached. Nothing was appended then.
    fn append(
        &mut self,
        session_key: i32,
        source_id: Digest,
        first_ingest_seq: i64,
        records: Vec<NewRaw>,
    ) -> Result<(), AppendError<Self::Error>>;
}

/// Why raw records were not taken in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError<E> {
    /// The log cannot be reached.
    #[error(transparent)]
    Log(E),
    /// The session belongs to another source.
    #[error(
        "session {session_key} was recorded from source {found}, this is source {offered}: give it another number with --as-session, or start with an empty data directory"
    )]
    OtherSource {
        /// The session.
        session_key: i32,
        /// The source it has.
        found: Digest,
        /// The source that was refused.
        offered: Digest,
    },
    /// Records are missing before the first one.
    #[error("session {session_key} must go on with raw record {expected}, {found} was offered")]
    Hole {
        /// The session.
        session_key: i32,
        /// The next `ingest_seq`.
        expected: i64,
        /// The one offered.
        found: i64,
    },
    /// Too many records wait for a commit.
    #[error("{0} raw records wait for a commit already: commit first")]
    Full(usize),
}

/// A commit that readers may see.
#[derive(Debug, Clone, Copy)]
pub struct Committed<'a> {
    /// The session.
    pub session_key: i32,
    /// Where it stands now.
    pub head: Head,
    /// The facts of this commit.
    pub facts: &'a FactBatch,
    /// Ledger records of this commit.
    pub records: usize,
    /// Why the session's graph stands still, if it does.
    pub halted: Option<&'a Halted>,
}

/// Who is told of each commit, in order, after it is durable and before its input is acknowledged.
pub trait Observer {
    /// Takes note of a commit. It must not wait: the session's thread does.
    fn committed(&mut self, committed: &Committed<'_>);
}

impl<F: FnMut(&Committed<'_>)> Observer for F {
    fn committed(&mut self, committed: &Committed<'_>) {
        self(committed);
    }
}

/// A fact as a store holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFact {
    /// Its number.
    pub fact_seq: u64,
    /// When it could first be known.
    pub known_at: Micros,
    /// Header and body in Avro.
    pub bytes: Vec<u8>,
}

/// Materialised state: the latest fact of each key and the history of each kind.
///
/// Writes are idempotent: the same facts again change nothing, and an older fact never replaces a newer one. `epoch` is part of every
/// key, so a rebuilt session stands beside the old one until readers move.
pub trait StateStore {
    /// Why the store cannot answer.
    type Error: std::error::Error + 'static;

    /// Stores facts and then how far it got.
    ///
    /// # Errors
    /// When the store cannot be reached; some of the facts may be stored, so the caller stores them all again.
    fn store(&mut self, session_key: i32, epoch: i32, facts: &FactBatch) -> Result<(), Self::Error>;

    /// The `fact_seq` that must be stored next.
    ///
    /// # Errors
    /// When the store cannot be reached.
    fn next_fact_seq(&mut self, session_key: i32, epoch: i32) -> Result<u64, Self::Error>;

    /// The latest fact of each key of a kind, by key, among the facts numbered below `before`; `u64::MAX` asks for the present.
    ///
    /// # Errors
    /// When the store cannot be reached.
    fn latest(&mut self, session_key: i32, epoch: i32, kind: &str, before: u64) -> Result<Vec<StoredFact>, Self::Error>;

    /// The facts of a kind whose numbers lie in `fact_seqs`, in order, at most `facts_max`.
    ///
    /// # Errors
    /// When the store cannot be reached.
    fn history(
        &mut self,
        session_key: i32,
        epoch: i32,
        kind: &str,
        fact_seqs: Range<u64>,
        facts_max: usize,
    ) -> Result<Vec<StoredFact>, Self::Error>;

    /// Forgets a session.
    ///
    /// # Errors
    /// When the store cannot be reached.
    fn purge(&mut self, session_key: i32) -> Result<(), Self::Error>;
}

/// Brings a store up to the log: at least once, in order, from where the store says it stands. Returns how many facts it stored.
///
/// # Errors
/// When log or store cannot be reached; calling again goes on.
pub fn bring_up_to_date<L: EventLog, T: StateStore>(
    log: &mut L,
    store: &mut T,
    session_key: i32,
    epoch: i32,
    facts_max: usize,
) -> Result<usize, SinkError<L::Error, T::Error>> {
    let mut stored = 0;
    loop {
        let facts = store_next(log, store, session_key, epoch, facts_max)?;
        if facts.is_empty() {
            return Ok(stored);
        }
        stored += facts.end.abs_diff(facts.start) as usize;
    }
}

/// One step of [`bring_up_to_date`]. Returns the numbers of the facts it stored, an empty range when the store has all.
///
/// # Errors
/// As [`bring_up_to_date`].
pub fn store_next<L: EventLog, T: StateStore>(
    log: &mut L,
    store: &mut T,
    session_key: i32,
    epoch: i32,
    facts_max: usize,
) -> Result<Range<u64>, SinkError<L::Error, T::Error>> {
    let next = store.next_fact_seq(session_key, epoch).map_err(SinkError::Store)?;
    let facts = log.facts(session_key, epoch, next, facts_max).map_err(SinkError::Log)?;
    if !facts.is_empty() {
        store.store(session_key, epoch, &facts).map_err(SinkError::Store)?;
    }
    Ok(next..next + facts.len() as u64)
}

/// Why a store could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum SinkError<L, T> {
    /// The log could not be read.
    #[error(transparent)]
    Log(L),
    /// The store could not be written.
    #[error(transparent)]
    Store(T),
}
