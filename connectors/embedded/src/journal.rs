//! A look at fjall's journal before it is opened: is its end whole?
//!
//! The log writes one batch at a time and syncs each, so a power cut can leave at most the last one damaged, and nobody was told of
//! that one. fjall drops a batch whose end is missing, silently; one whose end is there but whose bytes are wrong stops it; and
//! whatever follows a damaged byte in the middle it would drop as well. Here the first two are repaired and said, the third is refused.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

/// fjall's entry tags (fjall 3, `journal/entry.rs`).
const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
/// Closes each batch.
const TRAILER: [u8; 4] = [b'F', b'J', b'L', 3];
/// Items larger than this are damage: no value of the log comes near.
const ITEM_BYTES_MAX: u64 = 1 << 30;

/// The damaged end of a journal, cut off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CutTail {
    /// The journal.
    pub path: PathBuf,
    /// Its length with its last whole batch, bytes.
    pub whole: u64,
    /// Bytes that followed, up to the last that was not zero.
    pub cut: u64,
}

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// It cannot be read or cut.
    #[error("{path}: {source}")]
    File {
        /// The journal.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is damaged before its last batch.
    #[error(
        "{path}: damaged at byte {at}, and committed batches follow: this disk has lost data. Restore a copy of the data directory, or start anew with --fresh"
    )]
    Middle {
        /// The journal.
        path: PathBuf,
        /// Where its last whole batch before the damage ends.
        at: u64,
    },
}

/// Checks every journal in `folder` and cuts a damaged end off the newest. Returns what was cut.
///
/// # Errors
/// When a journal cannot be read, or is damaged where a power cut cannot damage it.
pub fn check(folder: &Path) -> Result<Option<CutTail>, JournalError> {
    let mut journals = Vec::new();
    let file = |source| JournalError::File { path: folder.to_owned(), source };
    for entry in fs::read_dir(folder).map_err(file)? {
        let path = entry.map_err(file)?.path();
        let number = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse::<u64>().ok());
        if let Some(number) = number.filter(|_| path.extension().is_some_and(|extension| extension == "jnl")) {
            journals.push((number, path));
        }
    }
    journals.sort();
    let newest = journals.last().map(|(number, _)| *number);
    let mut cut = None;
    for (number, path) in journals {
        let file = |source| JournalError::File { path: path.clone(), source };
        let scan = scan(&path).map_err(file)?;
        if scan.damaged == 0 {
            continue;
        }
        if newest != Some(number) || scan.is_followed {
            return Err(JournalError::Middle { path, at: scan.whole });
        }
        let journal = OpenOptions::new().write(true).open(&path).map_err(file)?;
        journal.set_len(scan.whole).and_then(|()| journal.sync_all()).map_err(file)?;
        cut = Some(CutTail { path, whole: scan.whole, cut: scan.damaged });
    }
    Ok(cut)
}

struct Scan {
    /// Where the last whole batch ends.
    whole: u64,
    /// Bytes behind it up to the last that is not zero: fjall allocates journals ahead, filled with zeros.
    damaged: u64,
    /// Whether a later batch was completed behind the damaged one.
    is_followed: bool,
}

fn scan(path: &Path) -> io::Result<Scan> {
    let mut reader = Counted { reader: BufReader::with_capacity(1 << 20, File::open(path)?), at: 0 };
    let mut whole = 0;
    while read_batch(&mut reader)? {
        whole = reader.at;
    }
    let mut rest = Tail::default();
    let mut file = File::open(path)?;
    io::Seek::seek(&mut file, io::SeekFrom::Start(whole))?;
    let mut piece = vec![0; 1 << 20];
    loop {
        match file.read(&mut piece)? {
            0 => break,
            length => rest.take(&piece[..length]),
        }
    }
    Ok(Scan { whole, damaged: rest.used, is_followed: rest.trailers > 1 || (rest.trailers == 1 && rest.used > rest.after_trailer) })
}

/// What lies behind the last whole batch.
#[derive(Default)]
struct Tail {
    length: u64,
    /// Up to the last byte that is not zero.
    used: u64,
    /// Closed batches, whole or not.
    trailers: u32,
    /// Where the first of them ends.
    after_trailer: u64,
    last: [u8; 4],
}

impl Tail {
    fn take(&mut self, piece: &[u8]) {
        for &byte in piece {
            self.length += 1;
            self.last.rotate_left(1);
            self.last[3] = byte;
            if byte != 0 {
                self.used = self.length;
            }
            if self.last == TRAILER {
                self.trailers += 1;
                if self.trailers == 1 {
                    self.after_trailer = self.length;
                }
            }
        }
    }
}

struct Counted<R> {
    reader: R,
    at: u64,
}

impl<R: Read> Counted<R> {
    fn bytes<const N: usize>(&mut self) -> io::Result<Option<[u8; N]>> {
        let mut bytes = [0; N];
        Ok(self.fill(&mut bytes)?.then_some(bytes))
    }

    fn fill(&mut self, bytes: &mut [u8]) -> io::Result<bool> {
        match self.reader.read_exact(bytes) {
            Ok(()) => {
                self.at += bytes.len() as u64;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Reads one batch; `false` when none begins here or it is not whole.
fn read_batch<R: Read>(reader: &mut Counted<R>) -> io::Result<bool> {
    let Some([START, a, b, c, d, ..]) = reader.bytes::<13>()? else { return Ok(false) };
    let mut hash = Xxh3::new();
    let mut buffer = Vec::new();
    for _ in 0..u32::from_le_bytes([a, b, c, d]) {
        let Some([tag]) = reader.bytes::<1>()? else { return Ok(false) };
        buffer.clear();
        buffer.push(tag);
        let more = match tag {
            CLEAR => 8,
            ITEM => {
                // Value type, compression, keyspace, length of the key, of the value and of the value as stored.
                let Some(head) = reader.bytes::<20>()? else { return Ok(false) };
                buffer.extend_from_slice(&head);
                u64::from(u16::from_le_bytes([head[10], head[11]]))
                    + u64::from(u32::from_le_bytes([head[16], head[17], head[18], head[19]]))
            }
            _ => return Ok(false),
        };
        if more > ITEM_BYTES_MAX {
            return Ok(false);
        }
        let head = buffer.len();
        let read = (&mut reader.reader).take(more).read_to_end(&mut buffer)? as u64;
        reader.at += read;
        if buffer.len() - head != more as usize {
            return Ok(false);
        }
        hash.update(&buffer);
    }
    let Some(end) = reader.bytes::<13>()? else { return Ok(false) };
    Ok(end[0] == END && end[1..9] == hash.digest().to_le_bytes() && end[9..] == TRAILER)
}
