//! What a reading command reads: an archive, a run's folder together with the archive it was made from, an idle data directory, or a
//! server.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use pitwall_archive::archive::{Archive, ArchiveError};
use pitwall_archive::container::ContainerError;
use pitwall_archive::replay::{Keyframes, Recording};
use pitwall_archive::run::Run;
use pitwall_edge::message::SessionName;
use pitwall_embedded::data::DataDirectory;
use pitwall_engine::graph::Graph;
use pitwall_engine::limits::Limits;
use pitwall_schemas::raw::Sample;

use crate::logged::LoggedSession;
use crate::server::Server;
use crate::settings::Settings;

/// Where a reading command reads.
#[derive(Debug, Args)]
pub(crate) struct From {
    /// A session archive, a folder that `pitwall backtest` made, or a data directory that no process uses.
    #[arg(required_unless_present = "server", value_name = "ARCHIVE|DIR")]
    source: Option<PathBuf>,
    /// The archive a folder was made from, when it is no longer where it was.
    #[arg(long, value_name = "FILE", conflicts_with = "server")]
    pub(crate) archive: Option<PathBuf>,
    /// A running server instead, http://HOST:PORT.
    #[arg(long, value_name = "URL", conflicts_with = "source")]
    server: Option<String>,
}

impl From {
    /// The server, if one was named.
    pub(crate) fn server(&self) -> Result<Option<Server>> {
        self.server.as_deref().map(Server::new).transpose()
    }

    /// The session of the data directory, if it is one that was named: that of the number `session`, or the latest.
    pub(crate) fn logged(&self, session: Option<&str>, settings: &Settings) -> Result<Option<LoggedSession>> {
        match session {
            Some(session) if !DataDirectory::is_one(self.path()) => {
                bail!("--session {session}: {} holds one session: leave it out", self.name())
            }
            None => self.logged_as(SessionName::Latest, settings),
            Some(session) => match SessionName::read(session) {
                Some(name) => self.logged_as(name, settings),
                None => bail!("--session {session}: write a session's number or `latest`"),
            },
        }
    }

    /// The same of a session whose name is known.
    pub(crate) fn logged_as(&self, name: SessionName, settings: &Settings) -> Result<Option<LoggedSession>> {
        if !DataDirectory::is_one(self.path()) {
            return Ok(None);
        }
        if self.archive.is_some() {
            bail!("--archive: {} is a data directory and needs none", self.name());
        }
        LoggedSession::open(self.path(), name, settings).map(Some)
    }

    /// The archive or folder.
    pub(crate) fn path(&self) -> &Path {
        self.source.as_deref().expect("it is required where no server is named")
    }

    /// What errors call it.
    pub(crate) fn name(&self) -> String {
        self.path().display().to_string()
    }
}

/// Makes graphs filed under one session.
pub(crate) type MakeGraph = Box<dyn Fn() -> Graph<Sample>>;

/// An archive, and the run if there is one.
pub(crate) struct Source {
    pub(crate) recording: Recording<MakeGraph>,
    pub(crate) run: Option<Run>,
    pub(crate) session_key: i32,
    pub(crate) epoch: i32,
    /// Whether the run, if there is one, was derived by the operators of this program.
    pub(crate) is_of_this_graph: bool,
}

/// Opens an archive.
pub(crate) fn open_archive(path: &Path) -> Result<Archive> {
    Archive::open(path).map_err(|error| match error {
        ArchiveError::Container { source: ContainerError::NotAContainer, .. } => {
            anyhow!("{}: this is no session archive: make one with `pitwall import STREAM --out FILE`", path.display())
        }
        ArchiveError::File { source, .. } if source.kind() == std::io::ErrorKind::IsADirectory => {
            anyhow!("{}: this is a folder: name an archive file, as `pitwall import` makes it", path.display())
        }
        other => other.into(),
    })
}

/// The graph of an archive's session.
pub(crate) fn graph_of(archive: &Archive, epoch: i32, limits: &Limits) -> Graph<Sample> {
    let graph = pitwall_operators::graph(limits).expect("a test builds the graph, so a released one is built");
    graph.for_session(archive.session_key(), epoch, archive.quality())
}

/// Opens a run's folder or an archive for replay. A run's limits are its own; `limits` are for an archive.
pub(crate) fn open(from: &From, limits: &Limits) -> Result<Source> {
    let path = from.path();
    if !path.is_dir() {
        return open_with(open_archive(path)?, None, limits.clone());
    }
    let run = Run::open(path)?;
    let archive_path = find_archive(path, &run, from.archive.as_deref())?;
    let archive = open_archive(&archive_path)?;
    if archive.source_id().to_string() != run.manifest().source_id {
        bail!(
            "{}: this is not the archive that {} was made from: name that with --archive FILE, or run the backtest again",
            archive_path.display(),
            path.display()
        );
    }
    let limits = run.manifest().limits.clone();
    open_with(archive, Some(run), limits)
}

fn open_with(archive: Archive, run: Option<Run>, limits: Limits) -> Result<Source> {
    let (session_key, quality) = (archive.session_key(), archive.quality());
    let epoch = run.as_ref().map_or(0, |run| run.manifest().epoch);
    let for_graph = limits.clone();
    let graph: MakeGraph = Box::new(move || {
        let graph = pitwall_operators::graph(&for_graph).expect("a test builds the graph, so a released one is built");
        graph.for_session(session_key, epoch, quality)
    });
    let keyframes = match &run {
        None => Keyframes::None,
        // Keyframes only save time; without them everything is replayed.
        Some(run) => run.keyframe_file().map_or_else(
            |error| {
                tracing::warn!(%error, "no keyframes: replaying from the start");
                Keyframes::None
            },
            Keyframes::File,
        ),
    };
    let is_of_this_graph = run.as_ref().is_none_or(|run| run.manifest().graph_hash == graph().hash().to_string());
    if !is_of_this_graph {
        tracing::warn!("the run is of other operators than this program's: replaying from the start with these");
    }
    Ok(Source { recording: Recording::new(archive, keyframes, graph, limits), run, session_key, epoch, is_of_this_graph })
}

/// The archive of a run: the one given, else where the manifest says, as named or beside the run.
pub(crate) fn find_archive(folder: &Path, run: &Run, given: Option<&Path>) -> Result<PathBuf> {
    if let Some(given) = given {
        return Ok(given.to_owned());
    }
    let named = &run.manifest().archive;
    let candidates = [named.clone(), folder.join(named), folder.join(named.file_name().unwrap_or_default())];
    let found = candidates.into_iter().find(|candidate| candidate.is_file());
    found.with_context(|| format!("{}: its archive {} is not there: say where with --archive FILE", folder.display(), named.display()))
}
