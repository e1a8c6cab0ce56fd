//! The ledger: every record a session's facts may depend on, in one total order.
//!
//! A log stores it in blocks, one for each commit. A block carries the hash of the one before it, so a lost, doubled or changed block
//! is seen, and the facts hash that its commit reached, so a recovery can prove that it arrived at the same facts.

use pitwall_schemas::codec::{Avro, DecodeError, Reader, write_bytes, write_long};
use pitwall_schemas::log::{LedgerBlock, LedgerKind, LedgerRecord, RawPosition, Upgrade};

use crate::graph::Moment;
use crate::hash::Digest;

/// Version of the block layout written.
pub const FORMAT: i32 = 1;

/// Where a ledger record came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// Number of the raw stream; `None` for records that came from no raw stream.
    pub stream: Option<u16>,
    /// Partition of the raw topic.
    pub partition: i32,
    /// Offset in the raw topic, or line of an archive.
    pub offset: i64,
    /// Number that ingest gave the record.
    pub ingest_seq: i64,
}

impl Origin {
    /// No raw stream: ticks, idle records, gaps.
    pub const NONE: Self = Self { stream: None, partition: -1, offset: -1, ingest_seq: -1 };
}

/// One ledger record, its payload borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its number and times.
    pub moment: Moment,
    /// What it is.
    pub kind: LedgerKind,
    /// Where it came from.
    pub origin: Origin,
    /// The raw record's bytes, unchanged.
    pub payload: &'a [u8],
}

/// Packs records into a block.
#[derive(Debug, Clone, Default)]
pub struct BlockBuilder {
    first_seq: Option<u64>,
    count: usize,
    records: Vec<u8>,
}

/// What a block says besides its records.
#[derive(Debug, Clone, PartialEq)]
pub struct Seal<'a> {
    /// The session.
    pub session_key: i32,
    /// Hash of the block before.
    pub previous_hash: Digest,
    /// Names of the raw streams, by number.
    pub streams: &'a [&'static str],
    /// Where reading of the raw streams goes on.
    pub positions: &'a [RawPosition],
    /// The `ingest_seq` that must come next.
    pub next_ingest_seq: i64,
    /// Epoch of the facts committed with it.
    pub epoch: i32,
    /// The graph that derived them.
    pub graph_hash: Digest,
    /// The `fact_seq` that comes next.
    pub next_fact_seq: u64,
    /// Running hash of all facts so far.
    pub facts_hash: Digest,
}

impl BlockBuilder {
    /// Adds a record.
    pub fn push(&mut self, record: &Record<'_>) {
        self.first_seq.get_or_insert(record.moment.seq);
        self.count += 1;
        let out = &mut self.records;
        write_long(record.moment.seq as i64, out);
        record.moment.known_at.encode(out);
        record.moment.event_time.encode(out);
        record.kind.encode(out);
        write_long(record.origin.stream.map_or(-1, i64::from), out);
        record.origin.partition.encode(out);
        record.origin.offset.encode(out);
        record.origin.ingest_seq.encode(out);
        write_bytes(record.payload, out);
    }

    /// Number of records in it.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether it holds none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of its records.
    #[must_use]
    pub const fn byte_len(&self) -> usize {
        self.records.len()
    }

    /// The encoded block, in the layout of `ledger_block.avsc`, and its hash; the builder is empty afterwards.
    pub fn seal(&mut self, seal: &Seal<'_>) -> (Vec<u8>, Digest) {
        let mut block = Vec::with_capacity(self.records.len() + 512);
        FORMAT.encode(&mut block);
        seal.session_key.encode(&mut block);
        write_long(self.first_seq.unwrap_or(0) as i64, &mut block);
        seal.previous_hash.0.encode(&mut block);
        write_long(seal.streams.len() as i64, &mut block);
        for name in seal.streams {
            write_bytes(name.as_bytes(), &mut block);
        }
        write_long(0, &mut block);
        if self.count > 0 {
            write_long(self.count as i64, &mut block);
            block.extend_from_slice(&self.records);
        }
        write_long(0, &mut block);
        pitwall_schemas::codec::write_array(seal.positions, &mut block);
        seal.next_ingest_seq.encode(&mut block);
        seal.epoch.encode(&mut block);
        seal.graph_hash.0.encode(&mut block);
        write_long(seal.next_fact_seq as i64, &mut block);
        seal.facts_hash.0.encode(&mut block);
        let hash = Digest::of(&block);
        *self = Self::default();
        (block, hash)
    }
}

/// Whether a session whose ledger ends with this record is closed: its source has ended and the closing record is in the ledger.
#[must_use]
pub fn is_closing(last: &LedgerRecord) -> bool {
    match last.kind {
        LedgerKind::Idle => true,
        LedgerKind::Upgrade => Upgrade::decode(&mut Reader::new(&last.payload)).is_ok_and(|upgrade| upgrade.is_closed),
        _ => false,
    }
}

/// Why a block cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// It cannot be read.
    #[error("a ledger block cannot be read: {0}")]
    Encoding(#[from] DecodeError),
    /// It was written by a later version.
    #[error("ledger block format {0} is newer than {FORMAT}: use a newer pitwall")]
    Format(i32),
    /// It does not follow the block before it.
    #[error("the ledger's chain is broken before record {first_seq}: a block is missing, doubled or changed")]
    Chain {
        /// First record of the block that does not fit.
        first_seq: i64,
    },
    /// It names a raw stream this version does not know.
    #[error("the ledger names raw stream `{0}`, which this version does not know")]
    UnknownStream(String),
}

/// Reads the blocks of one session in order and checks that each follows the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain {
    hash: Digest,
    /// `None` until a first block says where the reading began.
    next_seq: Option<i64>,
}

impl Chain {
    /// A reading from the session's first block on.
    #[must_use]
    pub const fn from_start() -> Self {
        Self { hash: Digest([0; 32]), next_seq: Some(0) }
    }

    /// A reading from some later block on, whose own place is not checked.
    #[must_use]
    pub const fn from_any() -> Self {
        Self { hash: Digest([0; 32]), next_seq: None }
    }

    /// Hash of the last block read.
    #[must_use]
    pub const fn hash(&self) -> Digest {
        self.hash
    }

    /// Reads the next block.
    ///
    /// # Errors
    /// When it cannot be read or does not follow the one before.
    pub fn read(&mut self, bytes: &[u8]) -> Result<LedgerBlock, LedgerError> {
        let block = decode_block(bytes)?;
        if self.next_seq.is_some_and(|next_seq| block.previous_hash != self.hash.0 || block.first_seq != next_seq) {
            return Err(LedgerError::Chain { first_seq: block.first_seq });
        }
        self.hash = Digest::of(bytes);
        self.next_seq = Some(block.first_seq + block.records.len() as i64);
        Ok(block)
    }
}

/// Reads one block without its place in the chain.
///
/// # Errors
/// When it cannot be read, its format is newer, or its records are not numbered densely.
pub fn decode_block(bytes: &[u8]) -> Result<LedgerBlock, LedgerError> {
    let format = i32::decode(&mut Reader::new(bytes))?;
    if format != FORMAT {
        return Err(LedgerError::Format(format));
    }
    let mut reader = Reader::new(bytes);
    let block = LedgerBlock::decode(&mut reader)?;
    reader.finish()?;
    let is_dense = (block.first_seq..).zip(&block.records).all(|(seq, record)| record.seq == seq);
    if is_dense { Ok(block) } else { Err(LedgerError::Chain { first_seq: block.first_seq }) }
}
