//! A session archive: raw samples in arrival order, with the moment each arrived.
//!
//! The file is an Avro object container whose records are `{received_at, document}`, the document a union of all raw collections, so
//! any Avro reader can open it. Its blocks are zstd with a checksum. An archive written with an older version of a schema is read
//! through Avro's schema resolution, slower but whole.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use pitwall_engine::backtest::RawSource;
use pitwall_engine::hash::Digest;
use pitwall_engine::session::RawRecord;
use pitwall_schemas::codec::{Avro, Reader, write_long};
use pitwall_schemas::openf1::Refusal;
use pitwall_schemas::raw::{ARCHIVE_SCHEMA, Collection, Sample};
use pitwall_schemas::shared::KnownAtQuality;
use pitwall_schemas::time::Micros;

use crate::container::{Codec, Container, ContainerError, ContainerWriter};

/// Bytes of a block before compression: large enough to compress well, small enough to step into.
const BLOCK_BYTES: usize = 1 << 20;
/// Archives are written once and read often, so compression may take its time.
const COMPRESSION_LEVEL: i32 = 19;
const SESSION_KEY: &str = "pitwall.session_key";
const QUALITY: &str = "pitwall.known_at_quality";

/// Why an archive cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is no archive, or a damaged one.
    #[error("{path}: {source}")]
    Container {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: ContainerError,
    },
    /// The container holds something else.
    #[error("{path}: this Avro file is no session archive: {reason}. `pitwall import` makes one")]
    OtherSchema {
        /// The file.
        path: PathBuf,
        /// What is different.
        reason: String,
    },
    /// A record cannot be read although its block is whole.
    #[error("{path}: record {record} in block {block} cannot be read: {refusal}")]
    Record {
        /// The file.
        path: PathBuf,
        /// The block, from 0.
        block: usize,
        /// The record, from 0.
        record: u64,
        /// Why.
        refusal: Refusal,
    },
}

/// Writes an archive. The file appears under its name only when it is whole.
pub struct ArchiveWriter {
    path: PathBuf,
    container: ContainerWriter<BufWriter<tempfile::NamedTempFile>>,
    record: Vec<u8>,
    samples: u64,
}

impl ArchiveWriter {
    /// Begins the archive of one session.
    ///
    /// # Errors
    /// When no file can be made in the folder of `path`.
    pub fn create(path: &Path, session_key: i32, quality: KnownAtQuality) -> Result<Self, ArchiveError> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        let session = session_key.to_string();
        let metadata = [(SESSION_KEY, session.as_str()), (QUALITY, quality.symbol())];
        tempfile::NamedTempFile::new_in(folder)
            .and_then(|file| {
                ContainerWriter::new(BufWriter::new(file), ARCHIVE_SCHEMA, &metadata, Codec::Zstandard(COMPRESSION_LEVEL), BLOCK_BYTES)
            })
            .map(|container| Self { path: path.to_owned(), container, record: Vec::new(), samples: 0 })
            .map_err(|source| ArchiveError::File { path: path.to_owned(), source })
    }

    /// Adds the sample that arrived next.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn append(&mut self, received_at: Micros, sample: &Sample) -> Result<(), ArchiveError> {
        self.record.clear();
        received_at.encode(&mut self.record);
        write_long(i64::from(sample.collection() as u16), &mut self.record);
        sample.encode(&mut self.record);
        self.samples += 1;
        self.container.append(&self.record).map_err(|source| ArchiveError::File { path: self.path.clone(), source })
    }

    /// Completes the file; returns its length in bytes.
    ///
    /// # Errors
    /// When it cannot be written or moved to its name.
    pub fn finish(self) -> Result<u64, ArchiveError> {
        let file = |source: io::Error| ArchiveError::File { path: self.path.clone(), source };
        let mut buffered = self.container.finish().map_err(file)?;
        buffered.flush().map_err(file)?;
        let temporary = buffered.into_inner().map_err(|error| file(error.into_error()))?;
        temporary.as_file().sync_all().map_err(file)?;
        let length = temporary.as_file().metadata().map_err(file)?.len();
        temporary.persist(&self.path).map_err(|error| file(error.error))?;
        readable_by_all(&self.path).map_err(file)?;
        Ok(length)
    }
}

/// A temporary file is private; an archive is an ordinary file.
pub(crate) fn readable_by_all(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path, fs::Permissions::from_mode(0o644))?;
    }
    let _ = path;
    Ok(())
}

/// Reads an archive.
pub struct Archive {
    path: PathBuf,
    container: Container,
    session_key: i32,
    quality: KnownAtQuality,
    next_block: usize,
    next_ingest_seq: u64,
    block: Vec<u8>,
}

impl Archive {
    /// Opens an archive and reads its index.
    ///
    /// # Errors
    /// When the file cannot be read or is no archive. Damage behind whole blocks is reported only when reading gets there.
    pub fn open(path: &Path) -> Result<Self, ArchiveError> {
        let bytes = fs::read(path).map_err(|source| ArchiveError::File { path: path.to_owned(), source })?;
        Self::from_bytes(path, bytes)
    }

    /// Reads the archive that `bytes` are; errors call it `path`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_bytes(path: &Path, bytes: Vec<u8>) -> Result<Self, ArchiveError> {
        let mut container = Container::open(bytes).map_err(|source| ArchiveError::Container { path: path.to_owned(), source })?;
        let other = |reason: &str| ArchiveError::OtherSchema { path: path.to_owned(), reason: reason.to_owned() };
        let session_key = container.metadata(SESSION_KEY).and_then(|key| key.parse().ok()).ok_or_else(|| other("it names no session"))?;
        let quality = match container.metadata(QUALITY) {
            Some("RECONSTRUCTED") => KnownAtQuality::Reconstructed,
            _ => KnownAtQuality::Received,
        };
        if container.schema() != ARCHIVE_SCHEMA {
            container = resolve(&container).map_err(|reason| other(&reason))?;
        }
        Ok(Self { path: path.to_owned(), container, session_key, quality, next_block: 0, next_ingest_seq: 0, block: Vec::new() })
    }

    /// The session it holds.
    #[must_use]
    pub const fn session_key(&self) -> i32 {
        self.session_key
    }

    /// Whether its arrival times were observed or reconstructed.
    #[must_use]
    pub const fn quality(&self) -> KnownAtQuality {
        self.quality
    }

    /// Samples in its whole blocks.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.container.records()
    }

    /// Length of the file, bytes.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.container.bytes().len()
    }

    /// What it is known by as a source: the hash of its bytes.
    #[must_use]
    pub fn source_id(&self) -> Digest {
        Digest::of(self.container.bytes())
    }

    /// Goes on reading at the sample with this number.
    pub fn seek(&mut self, ingest_seq: u64) {
        self.next_ingest_seq = ingest_seq;
        self.next_block = self.container.blocks().partition_point(|block| block.first_record + block.records <= ingest_seq);
    }
}

impl RawSource<Sample> for Archive {
    type Error = ArchiveError;
    type Block<'a> = ArchiveBlock<'a>;

    fn next_block(&mut self) -> Result<Option<ArchiveBlock<'_>>, ArchiveError> {
        let Some(&span) = self.container.blocks().get(self.next_block) else {
            return match self.container.damage() {
                None => Ok(None),
                Some(source) => Err(ArchiveError::Container { path: self.path.clone(), source }),
            };
        };
        self.container
            .unpack(self.next_block, &mut self.block)
            .map_err(|source| ArchiveError::Container { path: self.path.clone(), source })?;
        let number = self.next_block;
        self.next_block += 1;
        let mut block = ArchiveBlock {
            path: &self.path,
            number,
            reader: Reader::new(&self.block),
            next: span.first_record,
            end: span.first_record + span.records,
        };
        while block.next < self.next_ingest_seq {
            if let Some(Err(error)) = block.next() {
                return Err(error);
            }
        }
        self.next_ingest_seq = block.end;
        Ok(Some(block))
    }
}

/// The samples of one block, in arrival order.
pub struct ArchiveBlock<'a> {
    path: &'a Path,
    number: usize,
    reader: Reader<'a>,
    next: u64,
    end: u64,
}

impl<'a> ArchiveBlock<'a> {
    #[inline]
    fn read(&mut self) -> Result<RawRecord<'a, Sample>, Refusal> {
        let received_at = Micros::decode(&mut self.reader)?;
        let branch = self.reader.long()?;
        let collection = usize::try_from(branch).ok().and_then(|branch| Collection::ALL.get(branch).copied());
        let collection = collection.ok_or(pitwall_schemas::codec::DecodeError::Branch(branch))?;
        let start = self.reader.rest();
        let event = match Sample::decode(collection, &mut self.reader) {
            Err(Refusal::Encoding(error)) => return Err(error.into()),
            event => event,
        };
        let payload = &start[..start.len() - self.reader.rest().len()];
        Ok(RawRecord {
            stream: collection as u16,
            partition: 0,
            offset: self.next as i64,
            ingest_seq: self.next as i64,
            received_at,
            payload,
            event,
        })
    }
}

impl<'a> Iterator for ArchiveBlock<'a> {
    type Item = Result<RawRecord<'a, Sample>, ArchiveError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.next == self.end {
            return None;
        }
        let read = self.read().map_err(|refusal| {
            let record = self.next;
            self.end = self.next + 1;
            ArchiveError::Record { path: self.path.to_owned(), block: self.number, record, refusal }
        });
        self.next += 1;
        Some(read)
    }
}

/// Rewrites an archive of an older schema version in memory, record by record through Avro's schema resolution.
///
/// The document's branch is found by its record's name, as the Avro specification says; `apache-avro` alone would take the first
/// branch that happens to fit.
fn resolve(container: &Container) -> Result<Container, String> {
    let text = |error: apache_avro::Error| error.to_string();
    let written = Schema::parse_str(container.schema()).map_err(text)?;
    let branches = branch_names(&written).ok_or("its records are not {received_at, document}")?;
    let current =
        Collection::ALL.iter().map(|collection| Schema::parse_str(collection.schema()).map_err(text)).collect::<Result<Vec<_>, _>>()?;
    let reader = GenericDatumReader::builder(&written).build().map_err(text)?;
    let metadata: Vec<(&str, &str)> =
        [SESSION_KEY, QUALITY].into_iter().filter_map(|key| container.metadata(key).map(|value| (key, value))).collect();
    let mut rewritten =
        ContainerWriter::new(Vec::new(), ARCHIVE_SCHEMA, &metadata, Codec::Null, BLOCK_BYTES).map_err(|error| error.to_string())?;
    let (mut block, mut record) = (Vec::new(), Vec::new());
    for (number, span) in container.blocks().iter().enumerate() {
        container.unpack(number, &mut block).map_err(|error| error.to_string())?;
        let mut rest = block.as_slice();
        for _ in 0..span.records {
            let (received_at, branch, document) =
                split_line(reader.read_value(&mut rest).map_err(text)?).ok_or("a record is not {received_at, document}")?;
            let name = branches.get(branch).map(String::as_str).unwrap_or_default();
            let number = current
                .iter()
                .position(|schema| schema.name().is_some_and(|known| known.to_string() == name))
                .ok_or_else(|| format!("it holds `{name}`, which this version does not know"))?;
            let resolved = document.resolve(&current[number]).map_err(text)?;
            record.clear();
            received_at.encode(&mut record);
            write_long(number as i64, &mut record);
            record.extend(
                GenericDatumWriter::builder(&current[number])
                    .build()
                    .and_then(|writer| writer.write_value_to_vec(resolved))
                    .map_err(text)?,
            );
            rewritten.append(&record).map_err(|error| error.to_string())?;
        }
    }
    let bytes = rewritten.finish().map_err(|error| error.to_string())?;
    Container::open(bytes).map_err(|error| error.to_string())
}

/// Full names of the document's branches in an archive schema.
fn branch_names(schema: &Schema) -> Option<Vec<String>> {
    let Schema::Record(line) = schema else { return None };
    let Schema::Union(document) = &line.fields.get(1)?.schema else { return None };
    document.variants().iter().map(|branch| branch.name().map(ToString::to_string)).collect()
}

fn split_line(line: Value) -> Option<(Micros, usize, Value)> {
    let Value::Record(fields) = line else { return None };
    let [(_, Value::TimestampMicros(received_at)), (_, Value::Union(branch, document))] = <[_; 2]>::try_from(fields).ok()? else {
        return None;
    };
    Some((Micros(received_at), branch as usize, *document))
}

/// Makes an empty file in `folder` and removes it again, to learn early that a folder cannot be written.
///
/// # Errors
/// When it cannot be made.
pub fn check_writable(folder: &Path) -> Result<(), ArchiveError> {
    let file = |source: io::Error| ArchiveError::File { path: folder.to_owned(), source };
    fs::create_dir_all(folder).map_err(file)?;
    let probe = tempfile::NamedTempFile::new_in(folder).map_err(file)?;
    File::sync_all(probe.as_file()).map_err(file)
}
