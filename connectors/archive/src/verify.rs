//! Verification: the same archive again, cut into other batches and taken up again from keyframes, must come to the same hashes.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use pitwall_engine::backtest::{Outcome, Sink};
use pitwall_engine::graph::{Graph, NodeDescription};
use pitwall_engine::limits::Limits;
use pitwall_engine::session::{Output, Session};
use pitwall_schemas::log::Keyframe;
use pitwall_schemas::raw::Sample;

use crate::archive::{Archive, ArchiveError};
use crate::backtest;
use crate::facts::hash_files;
use crate::run::Run;

/// One thing that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What.
    pub name: String,
    /// Whether it holds.
    pub holds: bool,
    /// What was found.
    pub found: String,
}

impl Check {
    /// A check that compares two texts.
    #[must_use]
    pub fn same(name: impl Into<String>, expected: &str, found: &str) -> Self {
        let holds = expected == found;
        let found = if holds { found.to_owned() } else { format!("{found} instead of {expected}") };
        Self { name: name.into(), holds, found }
    }

    const fn fails(name: String, found: String) -> Self {
        Self { name, holds: false, found }
    }
}

/// How an archive is read again.
#[derive(Debug, Clone)]
pub struct Again {
    /// The archive.
    pub archive: PathBuf,
    /// The limits to run with.
    pub limits: Limits,
    /// Samples handed over at a time.
    pub batch: NonZeroUsize,
    /// The keyframe to take it up from; the start when there is none.
    pub from: Option<Keyframe>,
}

/// What reading it again came to.
#[derive(Debug)]
pub struct Rerun {
    /// Counts and hashes; those of the input count only from where it was taken up.
    pub outcome: Outcome,
    /// Every keyframe on the way.
    pub keyframes: Vec<Keyframe>,
    /// Why it covers only a part of the archive.
    pub incomplete: Option<String>,
}

/// Why an archive cannot be read again.
#[derive(Debug, thiserror::Error)]
pub enum RerunError {
    /// It cannot be opened.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The keyframe cannot be restored.
    #[error("the keyframe after seq {seq}: {reason}")]
    Keyframe {
        /// Its ledger record.
        seq: i64,
        /// Why.
        reason: String,
    },
}

/// Reads an archive again. `progress` hears how many samples were taken since it was last told.
///
/// # Errors
/// When the archive cannot be opened or the keyframe cannot be restored.
pub fn rerun(again: &Again, graph: impl FnOnce(&Archive) -> Graph<Sample>, progress: impl FnMut(u64)) -> Result<Rerun, RerunError> {
    let mut archive = Archive::open(&again.archive)?;
    let graph = graph(&archive);
    let mut session = match &again.from {
        None => Session::new(archive.session_key(), graph, again.limits.clone()),
        Some(keyframe) => Session::restore(archive.session_key(), graph, again.limits.clone(), keyframe)
            .map_err(|error| RerunError::Keyframe { seq: keyframe.seq, reason: error.to_string() })?,
    };
    archive.seek(session.sequencer().next_ingest_seq() as u64);
    let mut sink = Collect { keyframes: Vec::new(), samples: 0, progress };
    let (outcome, incomplete) = match backtest::run(&mut archive, &mut session, &mut sink, again.batch) {
        Ok(done) => done,
        Err(impossible) => match impossible {},
    };
    Ok(Rerun { outcome, keyframes: sink.keyframes, incomplete: incomplete.map(|reason| reason.to_string()) })
}

struct Collect<P> {
    keyframes: Vec<Keyframe>,
    samples: u64,
    progress: P,
}

impl<P: FnMut(u64)> Sink for Collect<P> {
    type Error = Infallible;

    fn take(&mut self, output: &Output, samples: u64) -> Result<(), Infallible> {
        self.keyframes.extend_from_slice(&output.keyframes);
        if samples - self.samples >= 65_536 || output.facts.is_empty() {
            (self.progress)(samples - self.samples);
            self.samples = samples;
        }
        Ok(())
    }
}

/// Checks a run's fact files against its manifest.
#[must_use]
pub fn check_files(run: &Run, graph: &Graph<Sample>) -> Vec<Check> {
    let manifest = run.manifest();
    let name = "fact files";
    let kinds: Vec<_> = graph.kinds().iter().copied().filter(|kind| manifest.kinds.iter().any(|known| known.kind == kind.name)).collect();
    match hash_files(&run.facts_folder(), &kinds) {
        Ok(hash) => vec![Check::same(name, &manifest.facts_hash, &hash.to_string())],
        Err(error) => vec![Check::fails(name.to_owned(), error.to_string())],
    }
}

/// Checks that the graph is the one of a run, naming the operators that are not.
#[must_use]
pub fn check_graph(run: &Run, graph: &Graph<Sample>) -> Check {
    let manifest = run.manifest();
    let mut check = Check::same("graph", &manifest.graph_hash, &graph.hash().to_string());
    if !check.holds {
        check.found = format!("the run is of another graph: {}", graph_differences(&manifest.operators, graph.description()));
    }
    check
}

fn graph_differences(before: &[NodeDescription], now: &[NodeDescription]) -> String {
    let by_name = |nodes: &[NodeDescription]| nodes.iter().map(|node| (node.name.clone(), node.clone())).collect::<BTreeMap<_, _>>();
    let (before, now) = (by_name(before), by_name(now));
    let mut differences = Vec::new();
    for (name, node) in &before {
        match now.get(name) {
            None => differences.push(format!("`{name}` is gone")),
            Some(other) if other.version != node.version => {
                differences.push(format!("`{name}` is version {} instead of {}", other.version, node.version));
            }
            Some(other) if other != node => differences.push(format!("`{name}` has other inputs, parameters or facts")),
            Some(_) => {}
        }
    }
    differences.extend(now.keys().filter(|name| !before.contains_key(*name)).map(|name| format!("`{name}` is new")));
    if differences.is_empty() { "its operators stand in another order".to_owned() } else { differences.join(", ") }
}

/// Checks stored keyframes against those that the same archive made again, and that each holds the state it names. Also returns the
/// stored ones that are whole, to take the session up from.
#[must_use]
pub fn check_keyframes(stored: Vec<Keyframe>, again: &[Keyframe], can_restore: impl Fn(&Keyframe) -> bool) -> (Check, Vec<Keyframe>) {
    let name = "keyframes".to_owned();
    let marks = |keyframe: &Keyframe| {
        (keyframe.seq, keyframe.known_at, keyframe.next_fact_seq, keyframe.graph_hash, keyframe.state_hash, keyframe.facts_hash)
    };
    let mut problems = Vec::new();
    if stored.len() != again.len() {
        problems.push(format!("{} can be read, of {}", stored.len(), again.len()));
    }
    let (count, mut whole) = (stored.len(), Vec::new());
    for (keyframe, expected) in stored.into_iter().zip(again) {
        let same_marks = marks(&keyframe) == marks(expected);
        if same_marks && (keyframe.bytes == expected.bytes || can_restore(&keyframe)) {
            whole.push(keyframe);
        } else if same_marks {
            problems.push(format!("the one after seq {} does not hold the state it names", expected.seq));
        } else {
            problems.push(format!("the one after seq {} names another place, state or facts", expected.seq));
        }
    }
    let check = match problems.as_slice() {
        [] => Check { name, holds: true, found: format!("{count}, each with the same state and facts hash") },
        [first, rest @ ..] if rest.len() > 2 => Check::fails(name, format!("{first}, and {} more", rest.len())),
        problems => Check::fails(name, problems.join("; ")),
    };
    (check, whole)
}

/// At most `count` of `keyframes`, evenly spread, the last one among them.
#[must_use]
pub fn spread(keyframes: &[Keyframe], count: usize) -> Vec<Keyframe> {
    let count = count.min(keyframes.len());
    (1..=count).map(|number| keyframes[number * keyframes.len() / count - 1].clone()).collect()
}

/// Checks that a rerun came to the facts that `expected` came to, and to the same end of the ledger.
#[must_use]
pub fn check_rerun(name: String, rerun: &Result<Rerun, RerunError>, expected: &Outcome) -> Check {
    match rerun {
        Err(error) => Check::fails(name, error.to_string()),
        Ok(rerun) if rerun.outcome.ledger_records != expected.ledger_records => {
            let found = format!("{} ledger records instead of {}", rerun.outcome.ledger_records, expected.ledger_records);
            Check::fails(name, found)
        }
        Ok(rerun) => Check::same(name, &expected.facts_hash.to_string(), &rerun.outcome.facts_hash.to_string()),
    }
}
