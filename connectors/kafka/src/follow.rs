//! Following a partition: every committed ledger block with its facts, in the order of the commits.
//!
//! A commit is one transaction, so a block that can be read has its facts beside it; they lie in a topic for each kind and are put in order
//! by `fact_seq`. One writer at a time commits to a partition, so what lies in a fact topic before a block's facts belongs to blocks before.

use std::collections::BTreeMap;
use std::time::Instant;

use pitwall_engine::facts::{EncodedFact, FactBatch};
use pitwall_engine::hash::Digest;
use pitwall_engine::ledger;
use pitwall_engine::log::{Head, SessionState};
use pitwall_schemas::codec::{Avro, Reader};
use pitwall_schemas::log::{LedgerBlock, LedgerKind};
use pitwall_schemas::shared::FactHeader;
use pitwall_schemas::topics;
use rdkafka::message::{BorrowedMessage, Message};

use crate::client::KafkaLogError;
use crate::lanes::{Lanes, POLL, Start};
use crate::log::{KafkaLog, damaged, record_of};
use crate::metrics;

/// The lane of the ledger; those of the fact kinds follow.
const LEDGER: usize = 0;

/// A commit as its readers see it.
#[derive(Debug, Clone, PartialEq)]
pub struct Followed {
    /// The session.
    pub session_key: i32,
    /// Where it stands now.
    pub head: Head,
    /// Ledger records of the commit.
    pub records: usize,
    /// The sealed ledger block.
    pub block: Vec<u8>,
    /// The facts of the commit.
    pub facts: FactBatch,
}

/// What lies in a lane.
enum Item {
    Block(Vec<u8>, LedgerBlock),
    Fact(FactHeader, Vec<u8>),
}

/// A block whose facts are being collected.
struct Pending {
    bytes: Vec<u8>,
    block: LedgerBlock,
    first_fact_seq: u64,
    /// Kind and bytes of each fact so far, by number.
    facts: BTreeMap<u64, (usize, FactHeader, Vec<u8>)>,
    /// Until when the rest is waited for.
    end: Option<Instant>,
}

/// Reads one partition from its beginning on and never ends.
pub struct Follower {
    log: KafkaLog,
    partition: i32,
    lanes: Option<Lanes<Item>>,
    /// Where each lane goes on after trouble.
    offsets: Vec<i64>,
    /// The fact number that comes next, by session and epoch.
    next_fact_seq: BTreeMap<(i32, i32), u64>,
    pending: Option<Pending>,
}

impl Follower {
    /// A follower of a partition, before its first block.
    #[must_use]
    pub fn new(log: &KafkaLog, partition: i32) -> Self {
        let lanes = log.kinds().len() + 1;
        Self { log: log.clone(), partition, lanes: None, offsets: vec![0; lanes], next_fact_seq: BTreeMap::new(), pending: None }
    }

    /// Whether everything has been handed over that was committed when the follower began.
    #[must_use]
    pub fn has_caught_up(&self) -> bool {
        let is_at_end = |lanes: &Lanes<Item>| lanes.has_ended(LEDGER) && lanes.head(LEDGER).is_none();
        self.pending.is_none() && self.lanes.as_ref().is_some_and(is_at_end)
    }

    /// The next commit; `None` when none is there yet, after a short wait for one.
    ///
    /// # Errors
    /// When the log cannot be reached, or holds what PitWall did not write. Asked again, it goes on where it was.
    pub fn next_commit(&mut self) -> Result<Option<Followed>, KafkaLogError> {
        let result = self.advance();
        if result.is_err() {
            self.lanes = None;
        }
        result
    }

    fn advance(&mut self) -> Result<Option<Followed>, KafkaLogError> {
        let lanes = match self.lanes.take() {
            Some(lanes) => self.lanes.insert(lanes),
            None => {
                let lanes = self.open()?;
                self.lanes.insert(lanes)
            }
        };
        let mut read = read;
        if self.pending.is_none() {
            if !lanes.fill(LEDGER, &mut read)? {
                lanes.serve(POLL)?;
                return Ok(None);
            }
            let Some(&(offset, _)) = lanes.head(LEDGER) else { return Ok(None) };
            if let Some(Item::Block(bytes, block)) = lanes.take_head(LEDGER) {
                let first_fact_seq = self.next_fact_seq.get(&(block.session_key, block.epoch)).copied().unwrap_or(0);
                self.pending = Some(Pending { bytes, block, first_fact_seq, facts: BTreeMap::new(), end: None });
            }
            self.offsets[LEDGER] = offset + 1;
        }
        let Some(pending) = &mut self.pending else { return Ok(None) };
        let options = self.log.options();
        let end = *pending.end.get_or_insert_with(|| Instant::now() + options.timeout());
        while !pending.is_whole() {
            let mut has_come = false;
            for lane in LEDGER + 1..self.offsets.len() {
                while lanes.fill(lane, &mut read)?
                    && let Some((offset, Item::Fact(header, _))) = lanes.head(lane)
                    && let Some(place) = pending.place(header)
                {
                    self.offsets[lane] = offset + 1;
                    has_come = true;
                    if let (Some(fact_seq), Some(Item::Fact(header, bytes))) = (place, lanes.take_head(lane)) {
                        pending.facts.insert(fact_seq, (lane - LEDGER - 1, header, bytes));
                    }
                }
            }
            if !has_come {
                if Instant::now() >= end {
                    pending.end = None;
                    return Err(pending.silence(&self.log, self.partition));
                }
                lanes.serve(POLL)?;
            }
        }
        let Some(pending) = self.pending.take() else { return Ok(None) };
        self.next_fact_seq.insert((pending.block.session_key, pending.block.epoch), pending.block.next_fact_seq as u64);
        ::metrics::counter!(metrics::FOLLOWED).increment(1);
        Ok(Some(pending.finish(&self.log)))
    }

    fn open(&self) -> Result<Lanes<Item>, KafkaLogError> {
        let facts = self.log.kinds().iter().map(|kind| topics::facts(kind.name));
        let names = std::iter::once(topics::LEDGER.to_owned()).chain(facts);
        let starts = names.zip(&self.offsets).map(|(topic, offset)| Start { topic: self.log.topic(&topic), offset: *offset }).collect();
        let options = self.log.options();
        Lanes::open(options, self.partition, starts, None, options.follow_ahead_bytes_max)
    }
}

impl Pending {
    fn is_whole(&self) -> bool {
        self.facts.len() as u64 >= (self.block.next_fact_seq as u64).saturating_sub(self.first_fact_seq)
    }

    /// Where a fact belongs: `None` for a later block, `Some(None)` for one before, whose facts have all been handed over.
    fn place(&self, header: &FactHeader) -> Option<Option<u64>> {
        let fact_seq = header.fact_seq as u64;
        let is_of_session = (header.session_key, header.epoch) == (self.block.session_key, self.block.epoch);
        match is_of_session && fact_seq < self.block.next_fact_seq as u64 {
            true => Some((fact_seq >= self.first_fact_seq).then_some(fact_seq)),
            false => None,
        }
    }

    fn silence(&self, log: &KafkaLog, partition: i32) -> KafkaLogError {
        let LedgerBlock { session_key, next_fact_seq, .. } = self.block;
        let wanted = next_fact_seq as u64 - self.first_fact_seq;
        let found = self.facts.len();
        log.options().silence(format!(
            "partition {partition}: session {session_key}: waiting for facts {} to {next_fact_seq}: {found} of {wanted} are there",
            self.first_fact_seq
        ))
    }

    fn finish(self, log: &KafkaLog) -> Followed {
        let Self { bytes, block, facts: collected, .. } = self;
        let mut facts = FactBatch::default();
        for (fact_seq, (kind, header, bytes)) in collected {
            let fact = EncodedFact { kind: log.kinds()[kind], fact_seq, known_at: header.known_at, bytes: &bytes };
            facts.push_encoded(fact).expect("its header has been read");
        }
        let last = block.records.last();
        let is_closed = last.is_some_and(|record| record.kind == LedgerKind::Idle);
        let head = Head {
            epoch: block.epoch,
            last_seq: last.map_or(0, |record| record.seq.max(0) as u64),
            known_at: last.map(|record| record.known_at).unwrap_or_default(),
            next_ingest_seq: block.next_ingest_seq,
            graph_hash: Digest(block.graph_hash),
            next_fact_seq: block.next_fact_seq as u64,
            facts_hash: Digest(block.facts_hash),
            state: if is_closed { SessionState::Complete } else { SessionState::Live },
        };
        Followed { session_key: block.session_key, head, records: block.records.len(), block: bytes, facts }
    }
}

/// A message of a lane, numbered by its offset.
fn read(lane: usize, message: &BorrowedMessage<'_>) -> Result<Option<(i64, Item)>, KafkaLogError> {
    let topic = message.topic();
    let bytes = record_of(topic, message)?.to_vec();
    let item = if lane == LEDGER {
        let block = ledger::decode_block(&bytes).map_err(|error| damaged(topic, message, error.to_string()))?;
        Item::Block(bytes, block)
    } else {
        let header = FactHeader::decode(&mut Reader::new(&bytes)).map_err(|error| damaged(topic, message, error.to_string()))?;
        Item::Fact(header, bytes)
    };
    Ok(Some((message.offset(), item)))
}
