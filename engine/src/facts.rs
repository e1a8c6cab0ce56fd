//! Facts on their way out: encoded once, numbered, ready to be hashed, written and sent.

use pitwall_schemas::codec::{Avro, DecodeError, Fact, Reader, write_long};
use pitwall_schemas::shared::{FactHeader, KnownAtQuality};
use pitwall_schemas::time::Micros;

use crate::hash::RunningHash;

/// A fact kind as the graph publishes it.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// Name, e.g. `laps`.
    pub name: &'static str,
    /// Avro schema of header and body together.
    pub schema: &'static str,
    /// The schema's Rabin fingerprint.
    pub fingerprint: u64,
    key: fn(&mut Reader<'_>) -> Result<Vec<u8>, DecodeError>,
}

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.fingerprint == other.fingerprint
    }
}

impl Eq for Kind {}

impl Kind {
    /// The kind of a fact type.
    #[must_use]
    pub const fn of<F: Fact>() -> Self {
        let key = |body: &mut Reader<'_>| {
            let mut key = Vec::new();
            F::decode(body)?.encode_key(&mut key);
            Ok(key)
        };
        Self { name: F::KIND, schema: F::SCHEMA, fingerprint: F::FINGERPRINT, key }
    }
}

/// One encoded fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncodedFact<'a> {
    /// Its kind.
    pub kind: Kind,
    /// Its number in the session and epoch.
    pub fact_seq: u64,
    /// When it could first be known.
    pub known_at: Micros,
    /// Header and body in Avro.
    pub bytes: &'a [u8],
}

impl<'a> EncodedFact<'a> {
    /// Reads the header and leaves a reader at the body.
    ///
    /// # Errors
    /// When the bytes are not a fact.
    pub fn header(&self) -> Result<(FactHeader, Reader<'a>), DecodeError> {
        let mut reader = Reader::new(self.bytes);
        let header = FactHeader::decode(&mut reader)?;
        Ok((header, reader))
    }

    /// What the fact is about, Avro-encoded: a later fact of the same kind and key replaces this one in tables of latest values.
    ///
    /// # Errors
    /// When the bytes are not a fact.
    pub fn key(&self) -> Result<Vec<u8>, DecodeError> {
        let (_, mut body) = self.header()?;
        (self.kind.key)(&mut body)
    }

    /// Adds this fact to the running hash: all of it but the epoch and the session key, which are given from outside and would make a
    /// rebuilt or renamed session look different.
    ///
    /// # Errors
    /// When the bytes are not a fact.
    pub fn hash_into(&self, hash: &mut RunningHash) -> Result<(), DecodeError> {
        let mut reader = Reader::new(self.bytes);
        let is_withdrawn = skip_to_hashed(&mut reader)?;
        hash_fact(self.kind.fingerprint, is_withdrawn, reader.rest(), hash);
        Ok(())
    }
}

fn write_causes(causes: &[u64], out: &mut Vec<u8>) {
    if !causes.is_empty() {
        write_long(causes.len() as i64, out);
        for &seq in causes {
            write_long(seq as i64, out);
        }
    }
    write_long(0, out);
}

/// Leaves the reader behind epoch, session key and `withdrawn`, the last of which it gives.
fn skip_to_hashed(reader: &mut Reader<'_>) -> Result<bool, DecodeError> {
    reader.long()?;
    reader.long()?;
    bool::decode(reader)
}

/// `withdrawn` is the frame's highest bit: so a fact that is not taken back has the hash that it had before facts could be.
fn hash_fact(fingerprint: u64, is_withdrawn: bool, bytes: &[u8], hash: &mut RunningHash) {
    let mut frame = [0; 16];
    frame[..8].copy_from_slice(&fingerprint.to_le_bytes());
    frame[8..].copy_from_slice(&(bytes.len() as u64 | u64::from(is_withdrawn) << 63).to_le_bytes());
    hash.update(&frame);
    hash.update(bytes);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    kind: Kind,
    fact_seq: u64,
    known_at: Micros,
    is_withdrawn: bool,
    start: usize,
    hashed_from: usize,
    end: usize,
}

/// Facts of one or more ledger records, in order, in one buffer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FactBatch {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

/// What the engine knows of a fact besides its body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stamp<'a> {
    pub(crate) epoch: i32,
    pub(crate) session_key: i32,
    pub(crate) fact_seq: u64,
    pub(crate) kind_seq: u64,
    pub(crate) known_at: Micros,
    pub(crate) event_time: Micros,
    pub(crate) causes: &'a [u64],
    pub(crate) revision: u32,
    pub(crate) supersedes: Option<u64>,
    pub(crate) quality: KnownAtQuality,
    pub(crate) is_withdrawn: bool,
}

impl FactBatch {
    /// Number of facts.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Encoded bytes of all facts together.
    #[must_use]
    pub const fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    /// The facts, in order.
    pub fn iter(&self) -> impl Iterator<Item = EncodedFact<'_>> {
        self.entries.iter().map(|entry| EncodedFact {
            kind: entry.kind,
            fact_seq: entry.fact_seq,
            known_at: entry.known_at,
            bytes: &self.bytes[entry.start..entry.end],
        })
    }

    /// Adds the facts from number `from` on to the running hash.
    pub fn hash_into(&self, from: usize, hash: &mut RunningHash) {
        for entry in &self.entries[from..] {
            hash_fact(entry.kind.fingerprint, entry.is_withdrawn, &self.bytes[entry.hashed_from..entry.end], hash);
        }
    }

    /// Takes all facts out, keeping the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
    }

    /// Drops every fact from number `length` on.
    pub fn truncate(&mut self, length: usize) {
        if let Some(first) = self.entries.get(length) {
            self.bytes.truncate(first.start);
            self.entries.truncate(length);
        }
    }

    /// Adds an already encoded fact, as read from a log.
    ///
    /// # Errors
    /// When the bytes do not begin with a fact header.
    pub fn push_encoded(&mut self, fact: EncodedFact<'_>) -> Result<(), DecodeError> {
        let mut reader = Reader::new(fact.bytes);
        let is_withdrawn = skip_to_hashed(&mut reader)?;
        let start = self.bytes.len();
        let hashed_from = start + fact.bytes.len() - reader.rest().len();
        self.bytes.extend_from_slice(fact.bytes);
        self.entries.push(Entry {
            kind: fact.kind,
            fact_seq: fact.fact_seq,
            known_at: fact.known_at,
            is_withdrawn,
            start,
            hashed_from,
            end: self.bytes.len(),
        });
        Ok(())
    }

    /// Encodes one fact: the header's fields in the order of `fact_header.avsc`, then the body.
    pub(crate) fn push<F: Avro>(&mut self, kind: Kind, stamp: Stamp<'_>, body: &F) {
        let start = self.bytes.len();
        let out = &mut self.bytes;
        stamp.epoch.encode(out);
        stamp.session_key.encode(out);
        stamp.is_withdrawn.encode(out);
        let hashed_from = out.len();
        write_long(stamp.fact_seq as i64, out);
        write_long(stamp.kind_seq as i64, out);
        stamp.known_at.encode(out);
        stamp.event_time.encode(out);
        write_causes(stamp.causes, out);
        write_long(i64::from(stamp.revision), out);
        stamp.supersedes.map(|fact_seq| fact_seq as i64).encode(out);
        stamp.quality.encode(out);
        body.encode(out);
        let Stamp { fact_seq, known_at, is_withdrawn, .. } = stamp;
        self.entries.push(Entry { kind, fact_seq, known_at, is_withdrawn, start, hashed_from, end: self.bytes.len() });
    }
}
