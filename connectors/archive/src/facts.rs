//! Facts as files: one a kind, as Avro, JSON lines or Parquet.
//!
//! Avro is what the engine encodes and goes out unchanged; the other two are made from it, for people and for tools that read them. All
//! three hold the same: [`FactReader`] gives a fact's Avro bytes from any of them.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use pitwall_engine::facts::{EncodedFact, FactBatch, Kind};
use pitwall_engine::graph::Graph;
use pitwall_engine::hash::{Digest, RunningHash};
use pitwall_schemas::codec::{Avro, DecodeError, Reader};
use pitwall_schemas::facts::FactBody;
use pitwall_schemas::raw::Sample;
use pitwall_schemas::shared::FactHeader;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::container::{Codec, Container, ContainerError, ContainerWriter};

/// Bytes of a block of a fact file.
const BLOCK_BYTES: usize = 256 << 10;

/// How facts are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Avro object container files: what the engine encodes, unchanged.
    #[default]
    Avro,
    /// JSON lines: header and body in one object.
    Jsonl,
    /// Parquet, zstd.
    Parquet,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Avro, Self::Jsonl, Self::Parquet];

    /// The ending of its files.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Avro => "avro",
            Self::Jsonl => "jsonl",
            Self::Parquet => "parquet",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.extension())
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|format| format.extension() == text)
            .ok_or_else(|| format!("`{text}` is no fact format; avro, jsonl and parquet are"))
    }
}

/// Why fact files cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    /// A file cannot be written or read.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is damaged.
    #[error("{path}: {source}")]
    Container {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: ContainerError,
    },
    /// A fact cannot be read.
    #[error("{path}: a fact cannot be read: {source}")]
    Fact {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: DecodeError,
    },
    /// A file in another format than Avro cannot be made or read.
    #[error("{path}: {reason}")]
    Format {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The file is of a kind or schema that this version does not know.
    #[error("{path}: no fact kind of this version has that name and schema")]
    UnknownKind {
        /// The file.
        path: PathBuf,
    },
}

enum FactFile {
    Avro(ContainerWriter<File>),
    Jsonl(BufWriter<File>),
}

/// The fact files of one run, being written.
pub struct FactFiles {
    folder: PathBuf,
    format: Format,
    files: Vec<(Kind, u64, FactFile)>,
}

impl FactFiles {
    /// Makes one file for each of `kinds` in `folder`. Files of another format that an earlier run left there are removed.
    ///
    /// # Errors
    /// When a file cannot be made.
    pub fn create(folder: &Path, kinds: &[Kind], format: Format) -> Result<Self, FactsError> {
        fs::create_dir_all(folder).map_err(|source| FactsError::File { path: folder.to_owned(), source })?;
        for (kind, other) in kinds.iter().flat_map(|kind| Format::ALL.map(|other| (kind, other))).filter(|(_, other)| *other != format) {
            let path = folder.join(format!("{}.{other}", kind.name));
            match fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(FactsError::File { path, source }),
                _ => {}
            }
        }
        let files = kinds.iter().map(|&kind| Self::open(folder, kind, format).map(|file| (kind, 0, file))).collect::<Result<_, _>>()?;
        Ok(Self { folder: folder.to_owned(), format, files })
    }

    fn open(folder: &Path, kind: Kind, format: Format) -> Result<FactFile, FactsError> {
        // Parquet is made at the end, of Avro.
        let written = if format == Format::Jsonl { Format::Jsonl } else { Format::Avro };
        let path = folder.join(format!("{}.{written}", kind.name));
        let file = |source| FactsError::File { path: path.clone(), source };
        let created = File::create(&path).map_err(file)?;
        match written {
            Format::Jsonl => Ok(FactFile::Jsonl(BufWriter::new(created))),
            _ => ContainerWriter::new(created, kind.schema, &[("pitwall.kind", kind.name)], Codec::Null, BLOCK_BYTES)
                .map(FactFile::Avro)
                .map_err(file),
        }
    }

    /// Adds facts in order.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn append(&mut self, facts: &FactBatch) -> Result<(), FactsError> {
        for fact in facts.iter() {
            let (kind, count, file) = self
                .files
                .iter_mut()
                .find(|(kind, _, _)| kind.fingerprint == fact.kind.fingerprint)
                .expect("the graph publishes only its own kinds");
            *count += 1;
            let written = match file {
                FactFile::Avro(container) => container.append(fact.bytes),
                FactFile::Jsonl(lines) => json_line(&fact).map_err(io::Error::other).and_then(|line| lines.write_all(&line)),
            };
            written.map_err(|source| FactsError::File { path: self.folder.join(format!("{}.{}", kind.name, self.format)), source })?;
        }
        Ok(())
    }

    /// Completes the files; returns the number of facts of each kind.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn finish(self) -> Result<Vec<(&'static str, u64)>, FactsError> {
        let mut counts = Vec::new();
        for (kind, count, file) in self.files {
            let path = self.folder.join(format!("{}.{}", kind.name, self.format));
            let finished = match file {
                FactFile::Avro(container) => container.finish().map(drop),
                FactFile::Jsonl(mut lines) => lines.flush(),
            };
            finished.map_err(|source| FactsError::File { path: path.clone(), source })?;
            if self.format == Format::Parquet {
                crate::parquet::from_avro(&path.with_extension("avro"), &path)?;
            }
            counts.push((kind.name, count));
        }
        Ok(counts)
    }
}

/// A fact as one JSON object on a line: kind, header and body.
fn json_line(fact: &EncodedFact<'_>) -> Result<Vec<u8>, DecodeError> {
    let (header, mut reader) = fact.header()?;
    let body = FactBody::decode(fact.kind.name, &mut reader).expect("published kinds have a body")?;
    let mut line = serde_json::to_vec(&FactLine { fact_kind: fact.kind.name, header, body }).expect("facts are plain data");
    line.push(b'\n');
    Ok(line)
}

/// Keeps in a table of newest facts what one says of its key, or takes out what it takes back.
pub(crate) fn keep<K: Ord, V>(table: &mut BTreeMap<K, V>, key: K, value: V, header: &FactHeader) {
    if header.withdrawn {
        table.remove(&key);
    } else {
        table.insert(key, value);
    }
}

/// A fact as JSON shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FactLine {
    /// Its kind; not `kind`, since some facts have a field of that name.
    pub fact_kind: &'static str,
    /// Identity, time and causes.
    #[serde(flatten)]
    pub header: FactHeader,
    /// What it says.
    #[serde(flatten)]
    pub body: FactBody,
}

/// The facts of one fact file of any format, in memory and in Avro.
pub struct FactReader {
    path: PathBuf,
    kind: Kind,
    bytes: Vec<u8>,
    at: usize,
}

impl FactReader {
    /// Opens the file of `kind` in `folder`, whatever its format; `None` when there is none.
    ///
    /// # Errors
    /// When it cannot be read or is of another schema.
    pub fn find(folder: &Path, kind: Kind) -> Result<Option<Self>, FactsError> {
        let path = |format: Format| folder.join(format!("{}.{format}", kind.name));
        let Some(format) = Format::ALL.into_iter().find(|format| path(*format).exists()) else { return Ok(None) };
        let path = path(format);
        let file = |source| FactsError::File { path: path.clone(), source };
        let bytes = match format {
            Format::Avro => unpack(&path, kind, fs::read(&path).map_err(file)?)?,
            Format::Parquet => encode(&path, kind, crate::parquet::rows(&path)?)?,
            Format::Jsonl => {
                let lines = BufReader::new(File::open(&path).map_err(file)?).lines();
                let facts = lines.map(|line| serde_json::from_str(&line.map_err(file)?).map_err(|error| refuse(&path, error.to_string())));
                encode(&path, kind, facts)?
            }
        };
        Ok(Some(Self { path, kind, bytes, at: 0 }))
    }

    /// Opens the file of `kind` in `folder`, whatever its format.
    ///
    /// # Errors
    /// When it is not there, cannot be read or is of another schema.
    pub fn open(folder: &Path, kind: Kind) -> Result<Self, FactsError> {
        let missing = || FactsError::File { path: folder.join(kind.name), source: io::ErrorKind::NotFound.into() };
        Self::find(folder, kind)?.ok_or_else(missing)
    }

    /// The next fact with its header and body.
    ///
    /// # Errors
    /// When it cannot be read.
    #[expect(clippy::should_implement_trait, reason = "a fact borrows the reader, which an Iterator cannot lend")]
    pub fn next(&mut self) -> Option<Result<(EncodedFact<'_>, FactHeader, FactBody), FactsError>> {
        if self.at == self.bytes.len() {
            return None;
        }
        let start = self.at;
        let mut reader = Reader::new(&self.bytes[start..]);
        let read = FactHeader::decode(&mut reader)
            .and_then(|header| Ok((header, FactBody::decode(self.kind.name, &mut reader).expect("kinds have a body")?)));
        match read {
            Ok((header, body)) => {
                self.at = self.bytes.len() - reader.rest().len();
                let bytes = &self.bytes[start..self.at];
                Some(Ok((
                    EncodedFact { kind: self.kind, fact_seq: header.fact_seq as u64, known_at: header.known_at, bytes },
                    header,
                    body,
                )))
            }
            Err(source) => Some(Err(FactsError::Fact { path: self.path.clone(), source })),
        }
    }

    fn next_fact_seq(&self) -> Option<i64> {
        let mut reader = Reader::new(&self.bytes[self.at..]);
        (self.at < self.bytes.len()).then(|| FactHeader::decode(&mut reader).map_or(i64::MIN, |header| header.fact_seq))
    }
}

/// The facts of a whole Avro file.
fn unpack(path: &Path, kind: Kind, bytes: Vec<u8>) -> Result<Vec<u8>, FactsError> {
    let damaged = |source| FactsError::Container { path: path.to_owned(), source };
    let container = Container::open(bytes).map_err(damaged)?;
    if container.schema() != kind.schema {
        return Err(FactsError::UnknownKind { path: path.to_owned() });
    }
    if let Some(damage) = container.damage() {
        return Err(damaged(damage));
    }
    let (mut facts, mut block) = (Vec::new(), Vec::new());
    for number in 0..container.blocks().len() {
        container.unpack(number, &mut block).map_err(damaged)?;
        facts.extend_from_slice(&block);
    }
    Ok(facts)
}

/// Facts from JSON objects, in Avro. A header stands in the object itself, or in its field of that name.
fn encode(path: &Path, kind: Kind, facts: impl Iterator<Item = Result<Value, FactsError>>) -> Result<Vec<u8>, FactsError> {
    let mut encoded = Vec::new();
    for (number, fact) in (1..).zip(facts) {
        let fact = fact?;
        let refused = |error: serde_json::Error| refuse(path, format!("fact {number}: {error}"));
        FactHeader::deserialize(fact.get("header").unwrap_or(&fact)).map_err(refused)?.encode(&mut encoded);
        let body = FactBody::from_json(kind.name, &fact).ok_or_else(|| FactsError::UnknownKind { path: path.to_owned() })?;
        body.map_err(refused)?.encode(&mut encoded);
    }
    Ok(encoded)
}

fn refuse(path: &Path, reason: String) -> FactsError {
    FactsError::Format { path: path.to_owned(), reason }
}

/// The hash of all facts in a folder of fact files, merged by `fact_seq`: the manifest's `facts_hash` when nothing was changed.
///
/// # Errors
/// When a file cannot be read.
pub fn hash_folder(folder: &Path, graph: &Graph<Sample>) -> Result<Digest, FactsError> {
    hash_files(folder, graph.kinds())
}

/// The hash of all facts of these kinds in a folder of fact files, merged by `fact_seq`.
///
/// # Errors
/// When a file cannot be read.
pub fn hash_files(folder: &Path, kinds: &[Kind]) -> Result<Digest, FactsError> {
    let mut readers = kinds.iter().map(|&kind| FactReader::open(folder, kind)).collect::<Result<Vec<_>, _>>()?;
    let mut hash = RunningHash::default();
    while let Some(first) = (0..readers.len())
        .filter_map(|index| readers[index].next_fact_seq().map(|fact_seq| (fact_seq, index)))
        .min()
        .map(|(_, index)| index)
    {
        let path = readers[first].path.clone();
        if let Some(fact) = readers[first].next() {
            fact?.0.hash_into(&mut hash).map_err(|source| FactsError::Fact { path, source })?;
        }
    }
    Ok(hash.digest())
}
