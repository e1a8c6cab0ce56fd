//! The folder a backtest leaves behind: `manifest.json`, a file for each fact kind, keyframes and dead letters.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use pitwall_engine::backtest::{Outcome, Sink};
use pitwall_engine::facts::Kind;
use pitwall_engine::graph::NodeDescription;
use pitwall_engine::limits::Limits;
use pitwall_engine::session::Output;
use pitwall_schemas::codec::{Avro, DecodeError, Reader, Record};
use pitwall_schemas::log::Keyframe;
use pitwall_schemas::time::Micros;
use serde::{Deserialize, Serialize};

use crate::archive::readable_by_all;
use crate::container::{Codec, Container, ContainerWriter};
use crate::facts::{FactFiles, FactsError, Format};
use pitwall_schemas::moment::Clock;

/// Version of the folder's layout.
pub const FORMAT: u32 = 1;

const MANIFEST: &str = "manifest.json";
const FACTS: &str = "facts";
const KEYFRAMES: &str = "keyframes.avro";
const DEAD_LETTERS: &str = "dead_letters.jsonl";
const KEYFRAME_BLOCK_BYTES: usize = 256 << 10;

/// What a run was made of and what it came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the folder's layout.
    pub format: u32,
    /// The program that made it.
    pub binary: String,
    /// The archive it was made from, as it was named.
    pub archive: PathBuf,
    /// Hash of the archive file.
    pub source_id: String,
    /// The session.
    pub session_key: i32,
    /// The epoch of its facts.
    pub epoch: i32,
    /// The graph that derived them.
    pub graph_hash: String,
    /// Hash of the samples.
    pub input_hash: String,
    /// Hash of the facts.
    pub facts_hash: String,
    /// Samples read.
    pub samples: u64,
    /// Ledger records, ticks included.
    pub ledger_records: u64,
    /// Facts derived.
    pub facts: u64,
    /// Input refused.
    pub dead_letters: u64,
    /// Samples a second, from opening the archive to the last fact written.
    pub samples_per_second: f64,
    /// How facts are written.
    pub fact_format: Format,
    /// Facts of each kind.
    pub kinds: Vec<KindCount>,
    /// When the race clock began and when the leader completed each lap.
    #[serde(flatten)]
    pub clock: Clock,
    /// The limits it ran with.
    #[serde(default)]
    pub limits: Limits,
    /// The operators of the graph, in order.
    #[serde(default)]
    pub operators: Vec<NodeDescription>,
    /// Why it covers only a part of the archive: where that is damaged, or the operator that halted. Absent when it covers all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incomplete: Option<String>,
}

/// Facts of one kind in a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindCount {
    /// The kind.
    pub kind: String,
    /// How many.
    pub facts: u64,
}

/// What a run's manifest says besides its [`Outcome`].
#[derive(Debug, Clone, PartialEq)]
pub struct Origin {
    /// The program.
    pub binary: String,
    /// The archive, as it was named.
    pub archive: PathBuf,
    /// Hash of the archive file.
    pub source_id: String,
    /// The session.
    pub session_key: i32,
    /// The graph.
    pub graph_hash: String,
}

/// What only the graph's caller knows at the end of a run.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Findings {
    /// Samples a second.
    pub samples_per_second: f64,
    /// When the race clock began and when the leader completed each lap.
    pub clock: Clock,
    /// The limits of the run.
    pub limits: Limits,
    /// The operators of the graph, in order.
    pub operators: Vec<NodeDescription>,
    /// Why the run covers only a part of the archive.
    pub incomplete: Option<String>,
}

/// Writes a run folder. The manifest comes last: a folder without one is unfinished.
pub struct RunWriter {
    folder: PathBuf,
    format: Format,
    facts: FactFiles,
    keyframes: ContainerWriter<File>,
    keyframe: Vec<u8>,
    dead_letters: Option<BufWriter<File>>,
}

impl RunWriter {
    /// Begins a run in `folder`, which is made if need be; what an earlier run left there is replaced.
    ///
    /// # Errors
    /// When a file cannot be made.
    pub fn create(folder: &Path, kinds: &[Kind], format: Format) -> Result<Self, FactsError> {
        let at = |path: &Path, source: io::Error| FactsError::File { path: path.to_owned(), source };
        fs::create_dir_all(folder).map_err(|source| at(folder, source))?;
        for old in [MANIFEST, DEAD_LETTERS] {
            let path = folder.join(old);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&path, error)),
                _ => {}
            }
        }
        let facts = FactFiles::create(&folder.join(FACTS), kinds, format)?;
        let path = folder.join(KEYFRAMES);
        let keyframes = File::create(&path)
            .and_then(|file| ContainerWriter::new(file, Keyframe::SCHEMA, &[], Codec::Null, KEYFRAME_BLOCK_BYTES))
            .map_err(|source| at(&path, source))?;
        Ok(Self { folder: folder.to_owned(), format, facts, keyframes, keyframe: Vec::new(), dead_letters: None })
    }

    /// Completes the run.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn finish(self, origin: Origin, outcome: &Outcome, findings: Findings) -> Result<Manifest, FactsError> {
        let at = |name: &str, source: io::Error| FactsError::File { path: self.folder.join(name), source };
        let kinds = self.facts.finish()?;
        self.keyframes.finish().map_err(|source| at(KEYFRAMES, source))?;
        if let Some(mut dead_letters) = self.dead_letters {
            dead_letters.flush().map_err(|source| at(DEAD_LETTERS, source))?;
        }
        let manifest = Manifest {
            format: FORMAT,
            binary: origin.binary,
            archive: origin.archive,
            source_id: origin.source_id,
            session_key: origin.session_key,
            epoch: 0,
            graph_hash: origin.graph_hash,
            input_hash: outcome.input_hash.to_string(),
            facts_hash: outcome.facts_hash.to_string(),
            samples: outcome.samples,
            ledger_records: outcome.ledger_records,
            facts: outcome.facts,
            dead_letters: outcome.dead_letters,
            samples_per_second: findings.samples_per_second,
            fact_format: self.format,
            kinds: kinds.into_iter().map(|(kind, facts)| KindCount { kind: kind.to_owned(), facts }).collect(),
            clock: findings.clock,
            limits: findings.limits,
            operators: findings.operators,
            incomplete: findings.incomplete,
        };
        let mut text = serde_json::to_string_pretty(&manifest).expect("a manifest is plain data");
        text.push('\n');
        write_whole(&self.folder, MANIFEST, text.as_bytes()).map_err(|source| at(MANIFEST, source))?;
        Ok(manifest)
    }
}

/// Writes a file that is there whole or not at all.
fn write_whole(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut temporary = tempfile::NamedTempFile::new_in(folder)?;
    temporary.write_all(bytes)?;
    temporary.as_file().sync_all()?;
    let path = folder.join(name);
    temporary.persist(&path).map_err(|error| error.error)?;
    readable_by_all(&path)
}

impl Sink for RunWriter {
    type Error = FactsError;

    fn take(&mut self, output: &Output, _samples: u64) -> Result<(), FactsError> {
        self.facts.append(&output.facts)?;
        for keyframe in &output.keyframes {
            self.keyframe.clear();
            keyframe.encode(&mut self.keyframe);
            self.keyframes.append(&self.keyframe).map_err(|source| FactsError::File { path: self.folder.join(KEYFRAMES), source })?;
        }
        if output.dead_letters.is_empty() {
            return Ok(());
        }
        let path = self.folder.join(DEAD_LETTERS);
        let at = |source: io::Error| FactsError::File { path: path.clone(), source };
        if self.dead_letters.is_none() {
            self.dead_letters = Some(BufWriter::new(File::create(&path).map_err(at)?));
        }
        let Some(lines) = &mut self.dead_letters else { return Ok(()) };
        for letter in &output.dead_letters {
            serde_json::to_writer(&mut *lines, letter).map_err(|error| at(error.into()))?;
            lines.write_all(b"\n").map_err(at)?;
        }
        Ok(())
    }
}

/// Why a run folder cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It has no manifest.
    #[error("{0} holds no manifest.json: it is no finished backtest output")]
    NoManifest(PathBuf),
    /// Its manifest cannot be read.
    #[error("{0}: {1}")]
    Manifest(PathBuf, String),
    /// Its keyframes or facts cannot be read.
    #[error(transparent)]
    Facts(#[from] FactsError),
}

/// A finished run folder.
#[derive(Debug, Clone)]
pub struct Run {
    folder: PathBuf,
    manifest: Manifest,
}

impl Run {
    /// Opens a run folder.
    ///
    /// # Errors
    /// When it has no readable manifest or its layout is newer.
    pub fn open(folder: &Path) -> Result<Self, RunError> {
        let path = folder.join(MANIFEST);
        let text = fs::read_to_string(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => RunError::NoManifest(folder.to_owned()),
            _ => RunError::Manifest(path.clone(), error.to_string()),
        })?;
        let manifest: Manifest = serde_json::from_str(&text).map_err(|error| RunError::Manifest(path.clone(), error.to_string()))?;
        if manifest.format > FORMAT {
            return Err(RunError::Manifest(path, format!("format {} is newer than {FORMAT}: use a newer pitwall", manifest.format)));
        }
        Ok(Self { folder: folder.to_owned(), manifest })
    }

    /// Its manifest.
    #[must_use]
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Where its fact files are.
    #[must_use]
    pub fn facts_folder(&self) -> PathBuf {
        self.folder.join(FACTS)
    }

    /// Its keyframes, oldest first. One that cannot be read ends the list: keyframes are advisory, and an older one serves as well.
    ///
    /// # Errors
    /// When the file cannot be read at all.
    pub fn keyframes(&self) -> Result<Vec<Keyframe>, RunError> {
        let file = self.keyframe_file()?;
        Ok((0..file.heads().len()).map_while(|number| file.read(number)).collect())
    }

    /// Its keyframes, each read only when asked for.
    ///
    /// # Errors
    /// When the file cannot be read at all.
    pub fn keyframe_file(&self) -> Result<KeyframeFile, RunError> {
        KeyframeFile::open(&self.folder.join(KEYFRAMES))
    }
}

/// What a keyframe says of itself besides its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyframeHead {
    /// The ledger record it was taken after.
    pub seq: u64,
    /// When that was known.
    pub known_at: Micros,
    /// The `fact_seq` that comes next.
    pub next_fact_seq: u64,
}

impl KeyframeHead {
    /// The head of a keyframe.
    #[must_use]
    pub const fn of(keyframe: &Keyframe) -> Self {
        Self { seq: keyframe.seq as u64, known_at: keyframe.known_at, next_fact_seq: keyframe.next_fact_seq as u64 }
    }
}

/// A file of keyframes: their heads in memory, their states read one at a time.
pub struct KeyframeFile {
    blocks: Vec<Vec<u8>>,
    heads: Vec<KeyframeHead>,
    places: Vec<(usize, usize)>,
}

impl KeyframeFile {
    /// Opens a file and reads the heads. One that cannot be read ends the list: keyframes are advisory, and an older one serves as well.
    ///
    /// # Errors
    /// When the file cannot be read at all.
    pub fn open(path: &Path) -> Result<Self, RunError> {
        let bytes = fs::read(path).map_err(|source| FactsError::File { path: path.to_owned(), source })?;
        let container = Container::open(bytes).map_err(|source| FactsError::Container { path: path.to_owned(), source })?;
        let mut file = Self { blocks: Vec::new(), heads: Vec::new(), places: Vec::new() };
        for (number, span) in container.blocks().iter().enumerate() {
            let mut block = Vec::new();
            if container.unpack(number, &mut block).is_err() {
                break;
            }
            let mut reader = Reader::new(&block);
            for _ in 0..span.records {
                let start = block.len() - reader.rest().len();
                let Ok(head) = read_head(&mut reader) else { break };
                file.heads.push(head);
                file.places.push((number, start));
            }
            file.blocks.push(block);
        }
        Ok(file)
    }

    /// The heads, oldest first.
    #[must_use]
    pub fn heads(&self) -> &[KeyframeHead] {
        &self.heads
    }

    /// One keyframe, whole; `None` when there is none of that number or it cannot be read.
    #[must_use]
    pub fn read(&self, number: usize) -> Option<Keyframe> {
        let &(block, start) = self.places.get(number)?;
        Keyframe::decode(&mut Reader::new(&self.blocks[block][start..])).ok()
    }
}

/// Reads a keyframe's fields and steps over its state.
fn read_head(reader: &mut Reader<'_>) -> Result<KeyframeHead, DecodeError> {
    let _format = i32::decode(reader)?;
    let _session_key = i32::decode(reader)?;
    let _graph_hash = reader.take(32)?;
    let (seq, known_at, next_fact_seq) = (reader.long()?, Micros::decode(reader)?, reader.long()?);
    let _hashes = reader.take(64)?;
    let state = reader.length()?;
    reader.take(state)?;
    Ok(KeyframeHead { seq: seq as u64, known_at, next_fact_seq: next_fact_seq as u64 })
}
