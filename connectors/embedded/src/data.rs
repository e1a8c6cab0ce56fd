//! The data directory: one lock, one log, one store.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use fjall::{Database, KeyspaceCreateOptions};
use pitwall_engine::facts::Kind;

use crate::journal::{self, CutTail, JournalError};
use crate::log::EmbeddedLog;
use serde::{Deserialize, Serialize};

use crate::store::EmbeddedStore;

/// The bounds of a data directory's memory, and how sure a commit is. Reaching one has a defined result, named beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Bytes of blocks kept in memory for reading, for the log and again for the store. Older ones are read from disk again.
    pub cache_bytes: u64,
    /// Bytes written to one keyspace before they are sorted into a file. Reaching it starts the sorting in the background.
    pub memtable_bytes: u64,
    /// Bytes of one database's journals, at least 64 MiB. Reaching it forces the oldest keyspace into files.
    pub journal_bytes: u64,
    /// Raw records of one session waiting for a commit. More are refused until a commit has made room.
    pub staged_records_max: usize,
    /// When a commit is acknowledged.
    pub durability: Durability,
}

/// When a commit is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// When it is on the disk (`fdatasync`): survives a power cut.
    Disk,
    /// When the operating system has it: survives the process, not the machine.
    System,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cache_bytes: 8 << 20,
            memtable_bytes: 4 << 20,
            journal_bytes: 64 << 20,
            staged_records_max: 65_536,
            durability: Durability::Disk,
        }
    }
}

/// Why a data directory cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EmbeddedError {
    /// Another process has it.
    #[error(
        "{0}: another pitwall process uses this data directory: stop it, choose another with --data-dir, or read it through --server URL"
    )]
    InUse(PathBuf),
    /// It cannot be made or written.
    #[error("{path}: {reason}: choose a data directory that this user can write with --data-dir")]
    Folder {
        /// The directory.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Its journal has lost data.
    #[error("{0}")]
    Damaged(String),
    /// It was written by a later version.
    #[error("{path}: the data directory's format {found} is newer than {FORMAT}: use a newer pitwall")]
    Format {
        /// The directory.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// A write failed; nothing is accepted any more, nothing accepted is lost.
    #[error("{path}: a write failed ({reason}): make room or repair the disk, then start again; nothing accepted is lost")]
    Write {
        /// The directory.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Something could not be read.
    #[error("{path}: cannot be read: {reason}")]
    Read {
        /// The directory.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// It holds no such session.
    #[error("the log holds no session {0}")]
    NoSession(i32),
    /// A session never had this epoch.
    #[error("session {session_key} has no epoch {epoch}: its current one is {current}")]
    NoEpoch {
        /// The session.
        session_key: i32,
        /// The epoch asked for.
        epoch: i32,
        /// The one it has.
        current: i32,
    },
    /// It holds facts of a kind that this version does not publish.
    #[error("the log holds facts of kind `{0}`, which this version does not publish: use the version that wrote it")]
    UnknownKind(String),
}

/// Version of the layout written.
const FORMAT: u32 = 1;

/// An open data directory. It is locked as long as this or anything made from it lives.
pub struct DataDirectory {
    /// The event log.
    pub log: EmbeddedLog,
    /// The state store.
    pub store: EmbeddedStore,
    /// The damaged end that the last process left and that was cut off: nobody had been told of it.
    pub cut: Option<CutTail>,
}

/// What is written where, for [`EmbeddedLog`] and [`EmbeddedStore`].
pub(crate) struct Place {
    pub(crate) path: PathBuf,
    pub(crate) options: Options,
    /// Held for its lock.
    _lock: File,
}

impl DataDirectory {
    /// Opens the data directory `path`, makes it when there is none, and repairs what a power cut may have left. `kinds` are all fact
    /// kinds that the running graph publishes.
    ///
    /// # Errors
    /// When another process uses it, it cannot be written, or it is damaged in a way that loses committed data.
    pub fn open(path: &Path, kinds: &[Kind], options: Options) -> Result<Self, EmbeddedError> {
        let folder = |source: io::Error| EmbeddedError::Folder { path: path.to_owned(), reason: source.to_string() };
        fs::create_dir_all(path).map_err(folder)?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(path.join("lock")).map_err(folder)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(EmbeddedError::InUse(path.to_owned())),
            Err(TryLockError::Error(source)) => return Err(folder(source)),
        }
        check_format(path)?;
        let log_folder = path.join("log");
        let cut = match log_folder.try_exists().map_err(folder)? {
            true => journal::check(&log_folder).map_err(|error| match error {
                JournalError::File { .. } => EmbeddedError::Read { path: path.to_owned(), reason: error.to_string() },
                JournalError::Middle { .. } => EmbeddedError::Damaged(error.to_string()),
            })?,
            false => None,
        };
        let place = std::sync::Arc::new(Place { path: path.to_owned(), options, _lock: lock });
        let log =
            EmbeddedLog::open(place.clone(), open_database(&log_folder, &place.options).map_err(|error| opening(path, &error))?, kinds)?;
        let store = EmbeddedStore::open(place)?;
        if let Some(cut) = &cut {
            tracing::warn!(journal = %cut.path.display(), bytes = cut.cut, "the log's end was damaged: recovered to the last whole commit");
        }
        Ok(Self { log, store, cut })
    }

    /// Whether `path` is a data directory, in use or not.
    #[must_use]
    pub fn is_one(path: &Path) -> bool {
        path.join("lock").is_file()
    }

    /// Removes the data directory `path` and everything in it; a directory that is no data directory is refused.
    ///
    /// # Errors
    /// When another process uses it, it is something else, or it cannot be removed.
    pub fn remove(path: &Path) -> Result<(), EmbeddedError> {
        let folder = |source: io::Error| EmbeddedError::Folder { path: path.to_owned(), reason: source.to_string() };
        if !path.try_exists().map_err(folder)? {
            return Ok(());
        }
        let is_empty = fs::read_dir(path).map_err(folder)?.next().is_none();
        if !is_empty && !path.join("lock").try_exists().map_err(folder)? {
            return Err(EmbeddedError::Folder { path: path.to_owned(), reason: "this is no data directory and is left alone".to_owned() });
        }
        if !is_empty {
            let lock = OpenOptions::new().write(true).open(path.join("lock")).map_err(folder)?;
            lock.try_lock().map_err(|_| EmbeddedError::InUse(path.to_owned()))?;
        }
        for part in ["log", "store"] {
            match fs::remove_dir_all(path.join(part)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(folder(error)),
                _ => {}
            }
        }
        Ok(())
    }
}

fn check_format(path: &Path) -> Result<(), EmbeddedError> {
    let file = path.join("format");
    let folder = |source: io::Error| EmbeddedError::Folder { path: path.to_owned(), reason: source.to_string() };
    match fs::read_to_string(&file) {
        Ok(text) => match text.trim().parse() {
            Ok(FORMAT) => Ok(()),
            Ok(found) => Err(EmbeddedError::Format { path: path.to_owned(), found }),
            Err(_) => Err(EmbeddedError::Damaged(format!("{}: this is no format number: is this a data directory?", file.display()))),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs::write(&file, format!("{FORMAT}\n")).map_err(folder),
        Err(error) => Err(folder(error)),
    }
}

pub(crate) fn open_database(path: &Path, options: &Options) -> fjall::Result<Database> {
    Database::builder(path).cache_size(options.cache_bytes).max_journaling_size(options.journal_bytes).worker_threads(1).open()
}

pub(crate) fn keyspace_options(options: &Options) -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default().max_memtable_size(options.memtable_bytes)
}

pub(crate) fn opening(path: &Path, error: &fjall::Error) -> EmbeddedError {
    match error {
        fjall::Error::Locked => EmbeddedError::InUse(path.to_owned()),
        fjall::Error::Io(source) => EmbeddedError::Folder { path: path.to_owned(), reason: source.to_string() },
        other => EmbeddedError::Damaged(format!("{}: the log cannot be opened: {other}", path.display())),
    }
}
