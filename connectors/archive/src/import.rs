//! Import: OpenF1 documents as JSON lines become a session archive.
//!
//! Each line is `{"collection", "received_at", "doc"}`; the order of lines is the order of arrival. A line that is not such a document
//! is a dead letter with its line number and reason, and the import goes on. A single odd field of a document is null or no reading, and
//! counted.
//!
//! That documents of a collection were not observed but made afterwards of other data stands in the session's own document, so that
//! every reader of its facts can be told.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Read};

use pitwall_schemas::arrival::Arrivals;
use pitwall_schemas::log::DeadLetter;
use pitwall_schemas::raw::{Collection, Sample};
use pitwall_schemas::time::Micros;
use serde_json::{Map, Value};

use crate::archive::{ArchiveError, ArchiveWriter};

/// Longest line accepted, bytes. A longer one is a dead letter; its end is searched without keeping it.
pub const LINE_BYTES_MAX: usize = 1 << 20;

/// Bytes of a refused line kept in its dead letter.
const KEPT_BYTES_MAX: usize = 4_096;

/// What an import came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Samples written, by collection.
    pub samples: BTreeMap<&'static str, u64>,
    /// Lines refused.
    pub dead_letters: u64,
    /// Arrival times that lay beyond those of the lines behind them and were replaced ([`Arrivals`]).
    pub arrivals_repaired: u64,
    /// Fields that could not be read in documents that were, by collection and field.
    pub odd_fields: BTreeMap<(&'static str, &'static str), u64>,
}

impl Counts {
    /// Samples written.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.samples.values().sum()
    }
}

/// Why an import stopped.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The stream cannot be read.
    #[error("line {line}: {source}")]
    Read {
        /// The line being read.
        line: u64,
        /// Why.
        source: io::Error,
    },
    /// The archive cannot be written.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// It cannot be said what was reconstructed.
    #[error("no `sessions` document says which collections were reconstructed: add one to the stream, or give no list of them")]
    NoSessionDocument,
}

/// Reads JSON lines into an archive of session `session_key` and hands every refused line to `bury`. Documents of the collections
/// `reconstructed` were made afterwards of other data.
///
/// # Errors
/// When the stream cannot be read, has no document to say in what was reconstructed, or the archive cannot be written; refused lines are
/// no error.
pub fn import(
    lines: &mut impl BufRead,
    session_key: i32,
    reconstructed: &[Collection],
    archive: &mut ArchiveWriter,
    mut bury: impl FnMut(DeadLetter),
) -> Result<Counts, ImportError> {
    let mut counts = Counts::default();
    let mut line = Vec::new();
    let mut arrivals = Arrivals::default();
    let mut last_received_at = Micros(0);
    for number in 1.. {
        if !read_line(lines, &mut line).map_err(|source| ImportError::Read { line: number, source })? {
            break;
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        match read_document(&line, session_key, &mut counts.odd_fields) {
            Ok((received_at, mut sample)) => {
                last_received_at = received_at;
                if let Sample::Sessions(session) = &mut sample
                    && !reconstructed.is_empty()
                {
                    session.reconstructed = Some(reconstructed.iter().map(|collection| collection.name().to_owned()).collect());
                }
                *counts.samples.entry(sample.collection().name()).or_default() += 1;
                if let Some((received_at, sample)) = arrivals.take(received_at, sample) {
                    archive.append(received_at, &sample)?;
                }
            }
            Err(refused) => {
                counts.dead_letters += 1;
                line.truncate(KEPT_BYTES_MAX);
                bury(DeadLetter {
                    session_key,
                    seq: -1,
                    stream: refused.collection.unwrap_or_default(),
                    partition: -1,
                    offset: number as i64,
                    operator: None,
                    reason: refused.reason,
                    known_at: last_received_at,
                    payload: line.clone(),
                });
            }
        }
    }
    while let Some((received_at, sample)) = arrivals.give() {
        archive.append(received_at, &sample)?;
    }
    counts.arrivals_repaired = arrivals.repaired();
    if !reconstructed.is_empty() && !counts.samples.contains_key(Collection::Sessions.name()) {
        return Err(ImportError::NoSessionDocument);
    }
    Ok(counts)
}

/// The session of the first readable line, so that an import need not be told.
#[must_use]
pub fn session_of(line: &[u8]) -> Option<i32> {
    let value: Value = serde_json::from_slice(line).ok()?;
    i32::try_from(value.get("doc")?.get("session_key")?.as_i64()?).ok()
}

struct Refused {
    collection: Option<String>,
    reason: String,
}

fn read_document(
    line: &[u8],
    session_key: i32,
    odd_fields: &mut BTreeMap<(&'static str, &'static str), u64>,
) -> Result<(Micros, Sample), Refused> {
    let refuse = |reason: String| Refused { collection: None, reason };
    if line.len() > LINE_BYTES_MAX {
        return Err(refuse(format!("the line is longer than {LINE_BYTES_MAX} bytes")));
    }
    let value: Value = serde_json::from_slice(line).map_err(|error| refuse(format!("not JSON: {error}")))?;
    let Value::Object(mut envelope) = value else { return Err(refuse("not a JSON object".to_owned())) };
    let name = envelope.get("collection").and_then(Value::as_str).ok_or_else(|| refuse("field `collection` is missing".to_owned()))?;
    let collection =
        Collection::named(name).ok_or_else(|| refuse(format!("there is no collection `{}`", name.chars().take(64).collect::<String>())))?;
    let refuse = |reason: String| Refused { collection: Some(collection.name().to_owned()), reason };
    let received_at =
        envelope.get("received_at").and_then(Value::as_str).ok_or_else(|| refuse("field `received_at` is missing".to_owned()))?;
    let received_at: Micros = received_at.parse().map_err(|error| refuse(format!("field `received_at`: {error}")))?;
    let Some(Value::Object(document)) = envelope.get_mut("doc") else { return Err(refuse("field `doc` must be a JSON object".to_owned())) };
    file_under_session(collection, document, session_key);
    let mut odd = Vec::new();
    let sample = Sample::from_json_noting(collection, document, &mut |refusal| odd.extend(refusal.field()))
        .map_err(|refusal| refuse(refusal.to_string()))?;
    if sample.session_key() != session_key {
        return Err(refuse(format!("the document belongs to session {}, not {session_key}", sample.session_key())));
    }
    for field in odd {
        *odd_fields.entry((collection.name(), field)).or_default() += 1;
    }
    Ok((received_at, sample))
}

/// A meeting belongs to several sessions and names none; it is filed with the one it arrived in.
fn file_under_session(collection: Collection, document: &mut Map<String, Value>, session_key: i32) {
    if collection == Collection::Meetings {
        document.entry("session_key").or_insert_with(|| session_key.into());
    }
}

/// Reads one line without its end into `line`; false at the end of the stream. Of an overlong line only the beginning is kept.
fn read_line(lines: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let read = lines.by_ref().take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', line)?;
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if read > LINE_BYTES_MAX {
        skip_line(lines)?;
    }
    Ok(read > 0)
}

fn skip_line(lines: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = lines.fill_buf()?;
        if buffer.is_empty() {
            return Ok(());
        }
        let end = buffer.iter().position(|&byte| byte == b'\n');
        let used = end.map_or(buffer.len(), |end| end + 1);
        lines.consume(used);
        if end.is_some() {
            return Ok(());
        }
    }
}
