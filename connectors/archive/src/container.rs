//! Avro object container files, written and read block by block.
//!
//! `apache-avro` reads and writes these too, one dynamic value a record; here records are already encoded bytes, which go in and out
//! untouched. The tests hold both together. The sync marker comes from the header, so the same records always make the same file.

use std::io::{self, Write};

use pitwall_schemas::codec::{DecodeError, Reader, write_bytes, write_long};

const MAGIC: &[u8; 4] = b"Obj\x01";
const SYNC_LENGTH: usize = 16;

/// Largest block accepted, in bytes, compressed or not: far above what is written, far below harm.
pub const BLOCK_BYTES_MAX: usize = 64 << 20;

/// How blocks are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// Not at all.
    Null,
    /// Zstandard at this level, with a checksum, so that a damaged block is seen before it is used.
    Zstandard(i32),
}

impl Codec {
    const fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Zstandard(_) => "zstandard",
        }
    }
}

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// It is no container file.
    #[error("this is not an Avro object container file")]
    NotAContainer,
    /// Its header is damaged.
    #[error("the header is damaged: {0}")]
    Header(DecodeError),
    /// It uses a codec that is not supported.
    #[error("codec `{0}` is not supported; null and zstandard are")]
    Codec(String),
    /// A block is cut short or damaged.
    #[error("block {block} is {problem}: the {block} whole blocks before it hold {records} records")]
    Block {
        /// Number of the block, from 0; also how many whole ones come before it.
        block: usize,
        /// Records in those.
        records: u64,
        /// What is wrong.
        problem: String,
    },
}

/// Writes a container file.
pub struct ContainerWriter<W: Write> {
    file: W,
    codec: Codec,
    block_bytes: usize,
    sync: [u8; SYNC_LENGTH],
    pending: Vec<u8>,
    count: i64,
    frame: Vec<u8>,
}

impl<W: Write> ContainerWriter<W> {
    /// Begins a file of records of `schema`; a block is closed when it reaches `block_bytes`.
    ///
    /// # Errors
    /// When the header cannot be written.
    pub fn new(mut file: W, schema: &str, metadata: &[(&str, &str)], codec: Codec, block_bytes: usize) -> io::Result<Self> {
        let mut header = MAGIC.to_vec();
        write_long(metadata.len() as i64 + 2, &mut header);
        for (key, value) in [("avro.schema", schema), ("avro.codec", codec.name())].iter().chain(metadata) {
            write_bytes(key.as_bytes(), &mut header);
            write_bytes(value.as_bytes(), &mut header);
        }
        write_long(0, &mut header);
        let mut sync = [0; SYNC_LENGTH];
        sync.copy_from_slice(&blake3::hash(&header).as_bytes()[..SYNC_LENGTH]);
        header.extend_from_slice(&sync);
        file.write_all(&header)?;
        Ok(Self { file, codec, block_bytes, sync, pending: Vec::with_capacity(block_bytes + 4_096), count: 0, frame: Vec::new() })
    }

    /// Adds one encoded record.
    ///
    /// # Errors
    /// When a full block cannot be written.
    #[inline]
    pub fn append(&mut self, record: &[u8]) -> io::Result<()> {
        self.pending.extend_from_slice(record);
        self.count += 1;
        if self.pending.len() >= self.block_bytes { self.close_block() } else { Ok(()) }
    }

    /// Writes what is left and returns the file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(mut self) -> io::Result<W> {
        self.close_block()?;
        self.file.flush()?;
        Ok(self.file)
    }

    fn close_block(&mut self) -> io::Result<()> {
        if self.count == 0 {
            return Ok(());
        }
        let compressed;
        let data = match self.codec {
            Codec::Null => &self.pending,
            Codec::Zstandard(level) => {
                compressed = compress(&self.pending, level)?;
                &compressed
            }
        };
        self.frame.clear();
        write_long(self.count, &mut self.frame);
        write_long(data.len() as i64, &mut self.frame);
        self.file.write_all(&self.frame)?;
        self.file.write_all(data)?;
        self.file.write_all(&self.sync)?;
        self.pending.clear();
        self.count = 0;
        Ok(())
    }
}

fn compress(data: &[u8], level: i32) -> io::Result<Vec<u8>> {
    let mut compressor = zstd::bulk::Compressor::new(level)?;
    compressor.include_checksum(true)?;
    compressor.compress(data)
}

/// Where one block lies in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockSpan {
    /// Number of the block's first record in the file.
    pub first_record: u64,
    /// Records in it.
    pub records: u64,
    start: usize,
    end: usize,
}

/// A container file in memory.
pub struct Container {
    bytes: Vec<u8>,
    schema: String,
    metadata: Vec<(String, String)>,
    codec: Codec,
    blocks: Vec<BlockSpan>,
    damage: Option<(usize, String)>,
}

impl Container {
    /// Reads header and block index. A file whose tail is cut short or damaged keeps the whole blocks before it; [`damage`](Self::damage)
    /// says what is wrong.
    ///
    /// # Errors
    /// When the header cannot be read.
    pub fn open(bytes: Vec<u8>) -> Result<Self, ContainerError> {
        let mut reader = Reader::new(&bytes);
        if reader.take(MAGIC.len()).ok() != Some(MAGIC) {
            return Err(ContainerError::NotAContainer);
        }
        let (mut schema, mut codec, mut metadata) = (None, Codec::Null, Vec::new());
        loop {
            let entries = reader.block().map_err(ContainerError::Header)?;
            if entries == 0 {
                break;
            }
            for _ in 0..entries {
                let key = read_text(&mut reader)?;
                let value = read_text(&mut reader)?;
                match key.as_str() {
                    "avro.schema" => schema = Some(value),
                    "avro.codec" => codec = codec_named(&value)?,
                    _ => metadata.push((key, value)),
                }
            }
        }
        let schema = schema.ok_or(ContainerError::NotAContainer)?;
        let sync = reader.take(SYNC_LENGTH).map_err(ContainerError::Header)?.to_vec();
        let (blocks, damage) = index_blocks(reader, bytes.len(), &sync);
        Ok(Self { bytes, schema, metadata, codec, blocks, damage })
    }

    /// The schema its records were written with.
    #[must_use]
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// A metadata entry.
    #[must_use]
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// The file's bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The whole blocks.
    #[must_use]
    pub fn blocks(&self) -> &[BlockSpan] {
        &self.blocks
    }

    /// Records in all whole blocks.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.blocks.last().map_or(0, |block| block.first_record + block.records)
    }

    /// The error to report after the whole blocks, when the file's tail is damaged.
    #[must_use]
    pub fn damage(&self) -> Option<ContainerError> {
        self.damage.as_ref().map(|(block, problem)| ContainerError::Block {
            block: *block,
            records: self.records(),
            problem: problem.clone(),
        })
    }

    /// Unpacks block number `block` into `into`.
    ///
    /// # Errors
    /// When its data is damaged.
    pub fn unpack(&self, block: usize, into: &mut Vec<u8>) -> Result<(), ContainerError> {
        let span = self.blocks[block];
        let data = &self.bytes[span.start..span.end];
        into.clear();
        let damaged = |problem: String| ContainerError::Block { block, records: span.first_record, problem };
        match self.codec {
            Codec::Null => into.extend_from_slice(data),
            Codec::Zstandard(_) => {
                let length = zstd::zstd_safe::get_frame_content_size(data).ok().flatten().and_then(|length| usize::try_from(length).ok());
                let length = length
                    .filter(|&length| length <= BLOCK_BYTES_MAX)
                    .ok_or_else(|| damaged("damaged: it does not say its length".to_owned()))?;
                into.reserve(length);
                zstd::bulk::Decompressor::new()
                    .and_then(|mut decompressor| decompressor.decompress_to_buffer(data, into))
                    .map_err(|error| damaged(format!("damaged: {error}")))?;
            }
        }
        Ok(())
    }
}

fn codec_named(name: &str) -> Result<Codec, ContainerError> {
    match name {
        "null" => Ok(Codec::Null),
        "zstandard" => Ok(Codec::Zstandard(0)),
        other => Err(ContainerError::Codec(other.chars().take(64).collect())),
    }
}

fn read_text(reader: &mut Reader<'_>) -> Result<String, ContainerError> {
    let length = reader.length().map_err(ContainerError::Header)?;
    let bytes = reader.take(length).map_err(ContainerError::Header)?;
    String::from_utf8(bytes.to_vec()).map_err(|_| ContainerError::Header(DecodeError::Utf8))
}

/// Walks the block headers; the first one that is not whole ends the walk.
fn index_blocks(mut reader: Reader<'_>, length: usize, sync: &[u8]) -> (Vec<BlockSpan>, Option<(usize, String)>) {
    let mut blocks = Vec::new();
    let mut first_record = 0;
    while !reader.is_empty() {
        let mut next = || -> Result<BlockSpan, DecodeError> {
            let records = reader.long()?;
            let records = u64::try_from(records).map_err(|_| DecodeError::Length(records))?;
            let size = reader.long()?;
            let size = usize::try_from(size).ok().filter(|&size| size <= BLOCK_BYTES_MAX).ok_or(DecodeError::Length(size))?;
            let start = length - reader.rest().len();
            reader.take(size)?;
            let marker = reader.take(SYNC_LENGTH)?;
            if marker == sync { Ok(BlockSpan { first_record, records, start, end: start + size }) } else { Err(DecodeError::Utf8) }
        };
        match next() {
            Ok(span) => {
                first_record += span.records;
                blocks.push(span);
            }
            Err(DecodeError::Truncated) => return (blocks.clone(), Some((blocks.len(), "cut short".to_owned()))),
            Err(DecodeError::Utf8) => return (blocks.clone(), Some((blocks.len(), "damaged: its sync marker does not match".to_owned()))),
            Err(error) => return (blocks.clone(), Some((blocks.len(), format!("damaged: {error}")))),
        }
    }
    (blocks, None)
}
