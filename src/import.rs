//! `pitwall import`: JSON lines become a session archive.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use pitwall_archive::archive::ArchiveWriter;
use pitwall_archive::import::{self, LINE_BYTES_MAX};
use pitwall_schemas::raw::Collection;
use pitwall_schemas::shared::KnownAtQuality;

use crate::progress;

/// Make a session archive from OpenF1 documents.
///
/// STREAM holds one JSON object a line, {"collection", "received_at", "doc"}, in order of arrival, plain or compressed with zstd
/// (.zst). Lines that are no such document go to FILE.dead_letters.jsonl with their line number and the reason; the import goes on. An
/// arrival time well beyond those of the lines that follow is replaced by theirs, and counted.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The JSON lines to read.
    stream: PathBuf,
    /// The archive to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Session the documents belong to; that of the first document when not given.
    #[arg(long, value_name = "KEY")]
    session: Option<i32>,
    /// The arrival times in STREAM were reconstructed, not observed; with a list, so were the documents of these collections, as in
    /// --reconstructed=position,intervals.
    #[arg(long, value_name = "COLLECTIONS", num_args = 0.., require_equals = true, value_delimiter = ',', value_parser = collection)]
    reconstructed: Option<Vec<Collection>>,
}

fn collection(name: &str) -> Result<Collection, String> {
    let names = || Collection::ALL.iter().map(|collection| collection.name()).collect::<Vec<_>>().join(", ");
    Collection::named(name).ok_or_else(|| format!("there is no such collection; there are {}", names()))
}

pub(crate) fn run(arguments: &Arguments, out: &mut impl Write) -> Result<()> {
    let path = &arguments.stream;
    let named = || path.display().to_string();
    let file = File::open(path).with_context(named)?;
    let progress = progress::bar(file.metadata().with_context(named)?.len(), "bytes").with_message("import");
    let mut lines = open_lines(path, progress.wrap_read(file)).with_context(named)?;
    let session_key = match arguments.session {
        Some(session_key) => session_key,
        None => first_session(&mut lines).with_context(named)?,
    };
    let quality = if arguments.reconstructed.is_some() { KnownAtQuality::Reconstructed } else { KnownAtQuality::Received };
    let mut archive = ArchiveWriter::create(&arguments.out, session_key, quality)?;
    let mut graves = Graves { path: dead_letters_path(&arguments.out), file: None, error: None };
    let reconstructed = arguments.reconstructed.as_deref().unwrap_or_default();
    let counts = import::import(&mut lines, session_key, reconstructed, &mut archive, |letter| graves.bury(&letter)).with_context(named)?;
    let dead_letters_file = graves.close()?;
    let length = archive.finish()?;
    progress.finish_and_clear();

    writeln!(out, "session {session_key}: {} samples in {} ({length} bytes)", counts.total(), arguments.out.display())?;
    for (collection, count) in &counts.samples {
        writeln!(out, "  {collection:<22}{count:>9}")?;
    }
    if counts.arrivals_repaired > 0 {
        writeln!(out, "  {:<22}{:>9}  beyond those of the lines that follow: replaced", "arrival times", counts.arrivals_repaired)?;
    }
    match dead_letters_file {
        Some(path) => writeln!(out, "  {:<22}{:>9}  see {}", "dead letters", counts.dead_letters, path.display())?,
        None => writeln!(out, "  {:<22}{:>9}", "dead letters", 0)?,
    }
    for ((collection, field), count) in &counts.odd_fields {
        writeln!(out, "  {:<22}{count:>9}  could not be read: null, or no reading", format!("{collection}.{field}"))?;
    }
    Ok(())
}

fn open_lines<'a>(path: &Path, file: impl Read + 'a) -> Result<Box<dyn BufRead + 'a>> {
    if path.extension().is_some_and(|extension| extension == "zst") {
        Ok(Box::new(BufReader::with_capacity(LINE_BYTES_MAX, zstd::Decoder::new(file)?)))
    } else {
        Ok(Box::new(BufReader::with_capacity(LINE_BYTES_MAX, file)))
    }
}

/// The session of the first document, found without taking it from the reader.
fn first_session(lines: &mut impl BufRead) -> Result<i32> {
    let buffer = lines.fill_buf()?;
    let found = buffer.split(|&byte| byte == b'\n').find_map(import::session_of);
    found.context("no document names a session within the first lines: is this {\"collection\", \"received_at\", \"doc\"} a line? Otherwise give --session KEY")
}

fn dead_letters_path(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".dead_letters.jsonl");
    PathBuf::from(name)
}

/// Where refused lines go; the file is made when there is a first one.
struct Graves {
    path: PathBuf,
    file: Option<BufWriter<File>>,
    error: Option<std::io::Error>,
}

impl Graves {
    fn bury(&mut self, letter: &pitwall_schemas::log::DeadLetter) {
        if self.error.is_none() {
            self.error = self.write(letter).err();
        }
    }

    fn write(&mut self, letter: &pitwall_schemas::log::DeadLetter) -> std::io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(BufWriter::new(File::create(&self.path)?)),
        };
        serde_json::to_writer(&mut *file, letter)?;
        file.write_all(b"\n")
    }

    fn close(mut self) -> Result<Option<PathBuf>> {
        let named = || self.path.display().to_string();
        if let Some(error) = self.error.take() {
            return Err(error).with_context(named);
        }
        let Some(mut file) = self.file.take() else { return Ok(None) };
        file.flush().with_context(named)?;
        Ok(Some(self.path))
    }
}
