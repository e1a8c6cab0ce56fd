//! A session in the log of a data directory that no process uses, as reading commands read it.
//!
//! Everything here is a replay of the ledger, from the newest keyframe of this program's graph or from the start: what a restart does.

use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context, Result, bail};
use pitwall_archive::facts::{FactFiles, Format as FactFormat};
use pitwall_archive::replay::take_race_clock;
use pitwall_archive::verify::Check;
use pitwall_edge::message::SessionName;
use pitwall_edge::reader::Cause;
use pitwall_embedded::data::{DataDirectory, EmbeddedError};
use pitwall_embedded::log::{CataloguedSession, EmbeddedLog};
use pitwall_embedded::store::EmbeddedStore;
use pitwall_engine::facts::FactBatch;
use pitwall_engine::graph::Graph;
use pitwall_engine::hash::RunningHash;
use pitwall_engine::ledger::Chain;
use pitwall_engine::limits::Limits;
use pitwall_engine::log::{EventLog, StateStore};
use pitwall_engine::session::{Output, Session};
use pitwall_schemas::codec::{Avro, Fact, Reader};
use pitwall_schemas::facts::{Completeness, FactBody, Subject};
use pitwall_schemas::log::{Keyframe, LedgerBlock};
use pitwall_schemas::moment::{Bound, Clock, Moment, NoSuchMoment};
use pitwall_schemas::raw::Sample;
use pitwall_schemas::shared::{FactHeader, KnownAtQuality};

use crate::settings::Settings;

/// Facts read at a time.
const PAGE_FACTS: usize = 20_000;

/// A fact as the log holds it.
pub(crate) struct LoggedFact {
    pub(crate) kind: &'static str,
    pub(crate) header: FactHeader,
    pub(crate) body: FactBody,
    /// The ledger records that it came from.
    pub(crate) causes: Vec<Cause>,
}

/// A session of an idle data directory. The directory is locked as long as this lives.
pub(crate) struct LoggedSession {
    log: EmbeddedLog,
    session: CataloguedSession,
    quality: KnownAtQuality,
    limits: Limits,
}

impl LoggedSession {
    /// Opens a session of the data directory `path`: the one of this number, or the one latest by its own time.
    pub(crate) fn open(path: &Path, name: SessionName, settings: &Settings) -> Result<Self> {
        let kinds = pitwall_operators::graph(&settings.limits)?.kinds().to_vec();
        let DataDirectory { log, mut store, .. } = DataDirectory::open(path, &kinds, settings.data.clone())?;
        let sessions = log.catalogue()?;
        let found = match name {
            SessionName::Key(session_key) => sessions.iter().find(|session| session.session_key == session_key),
            SessionName::Latest => latest(&sessions, &mut store)?,
        };
        let Some(&session) = found else {
            let held: Vec<String> = sessions.iter().map(|session| session.session_key.to_string()).collect();
            let held = if held.is_empty() { "no session yet".to_owned() } else { format!("these sessions: {}", held.join(", ")) };
            bail!("{}: the data directory holds {held}", path.display());
        };
        let quality = quality(&log, session.session_key, session.head.epoch)?;
        Ok(Self { log, session, quality, limits: settings.limits.clone() })
    }

    /// Its number.
    pub(crate) const fn session_key(&self) -> i32 {
        self.session.session_key
    }

    /// Writes the facts of an epoch to fact files in `folder`.
    pub(crate) fn export(&mut self, epoch: i32, folder: &Path) -> Result<()> {
        let mut files = FactFiles::create(folder, self.graph().kinds(), FactFormat::Avro)?;
        self.each_page(epoch, |facts| Ok(files.append(facts)?))?;
        files.finish()?;
        Ok(())
    }

    /// Its current epoch.
    pub(crate) const fn epoch(&self) -> i32 {
        self.session.head.epoch
    }

    /// The session at `moment`.
    pub(crate) fn at(&mut self, moment: Moment) -> Result<Session<Sample>> {
        let seq = self.seq_of(moment)?;
        let mut session = self.newest_by(seq);
        self.replay(&mut session, seq, |_| ControlFlow::Continue(()))?;
        Ok(session)
    }

    /// A fact of it, of any epoch.
    pub(crate) fn explain(&self, epoch: i32, fact_seq: u64) -> Result<Option<LoggedFact>> {
        let Some(facts) = self.log.fact(self.session_key(), epoch, fact_seq)? else { return Ok(None) };
        let Some(fact) = facts.iter().next() else { return Ok(None) };
        let (header, mut body) = fact.header()?;
        let body = FactBody::decode(fact.kind.name, &mut body).context("the fact's kind has no body in this version")??;
        let seqs: Vec<u64> = header.causes.iter().map(|&seq| seq as u64).collect();
        let causes = records(&self.log, self.session_key(), &seqs)?;
        Ok(Some(LoggedFact { kind: fact.kind.name, header, body, causes }))
    }

    /// The number of the last fact published.
    pub(crate) const fn last_fact_seq(&self) -> u64 {
        self.session.head.next_fact_seq.saturating_sub(1)
    }

    /// Holds the facts in the log, a replay of the ledger, and replays from `restarts` keyframes against the published hash.
    pub(crate) fn verify(&mut self, restarts: usize) -> Result<Vec<Check>> {
        let head = self.session.head;
        let published = head.facts_hash.to_string();
        let mut checks = vec![Check::same("facts, as stored", &published, &self.hash_of_facts()?)];
        let graph = self.graph();
        checks.push(Check::same("graph", &head.graph_hash.to_string(), &graph.hash().to_string()));
        if graph.hash() != head.graph_hash {
            // Other operators derive other facts, and nothing would be wrong with that.
            return Ok(checks);
        }
        let new = Session::new(self.session_key(), graph, self.limits.clone()).without_keyframes();
        checks.push(self.check_replay("ledger, replayed".to_owned(), new, &published));
        let mut before = Some(head.last_seq);
        for number in (1..=restarts as u64).rev() {
            let part = head.last_seq / (restarts as u64 + 1) * number;
            let Some(keyframe) = before.and_then(|before| self.keyframe(part.min(before))) else { break };
            let name = format!("restart after seq:{}", keyframe.seq);
            before = u64::try_from(keyframe.seq - 1).ok();
            match Session::restore(self.session_key(), self.graph(), self.limits.clone(), &keyframe) {
                Ok(session) => checks.push(self.check_replay(name, session.without_keyframes(), &published)),
                Err(error) => checks.push(Check { name, holds: false, found: error.to_string() }),
            }
        }
        Ok(checks)
    }

    fn check_replay(&self, name: String, mut session: Session<Sample>, published: &str) -> Check {
        match self.replay(&mut session, self.session.head.last_seq, |_| ControlFlow::Continue(())) {
            Ok(()) => Check::same(name, published, &session.facts_hash().to_string()),
            Err(error) => Check { name, holds: false, found: format!("{error:#}") },
        }
    }

    fn hash_of_facts(&mut self) -> Result<String> {
        let mut hash = RunningHash::default();
        self.each_page(self.epoch(), |facts| {
            facts.hash_into(0, &mut hash);
            Ok(())
        })?;
        Ok(hash.digest().to_string())
    }

    /// Shows `each` the facts of an epoch, in order, some at a time.
    fn each_page(&mut self, epoch: i32, mut each: impl FnMut(&FactBatch) -> Result<()>) -> Result<()> {
        let mut next = 0;
        loop {
            let facts = self.log.facts(self.session_key(), epoch, next, PAGE_FACTS)?;
            let Some(last) = facts.iter().last() else { return Ok(()) };
            next = last.fact_seq + 1;
            each(&facts)?;
        }
    }

    fn graph(&self) -> Graph<Sample> {
        let graph = pitwall_operators::graph(&self.limits).expect("a test builds the graph, so a released one is built");
        graph.for_session(self.session_key(), self.epoch(), self.quality)
    }

    /// The newest keyframe of this program's graph up to record `seq`.
    fn keyframe(&mut self, seq: u64) -> Option<Keyframe> {
        // Keyframes only save time; one that cannot be read is as good as none.
        self.log.keyframe(self.session.session_key, self.graph().hash(), seq).ok().flatten()
    }

    /// A session taken up at the newest usable keyframe up to record `seq`, or at the start.
    fn newest_by(&mut self, seq: u64) -> Session<Sample> {
        let mut until = Some(seq);
        while let Some(keyframe) = until.and_then(|until| self.keyframe(until)) {
            if let Ok(session) = Session::restore(self.session_key(), self.graph(), self.limits.clone(), &keyframe) {
                return session.without_keyframes();
            }
            until = u64::try_from(keyframe.seq - 1).ok();
        }
        Session::new(self.session_key(), self.graph(), self.limits.clone()).without_keyframes()
    }

    /// The last record that counts at `moment`.
    fn seq_of(&self, moment: Moment) -> Result<u64> {
        let (session_key, last_seq) = (self.session_key(), self.session.head.last_seq);
        let seq = match self.clock_for(moment)?.bound(moment)? {
            Bound::Seq(seq) => Some(seq),
            Bound::KnownAt(time) => self.log.place_at(session_key, time)?.map(|placed| placed.seq),
            Bound::Reached(time) => Some(self.log.place_at(session_key, time.plus(-1))?.map_or(0, |placed| placed.seq + 1)),
        };
        match seq {
            Some(seq) if seq <= last_seq => Ok(seq),
            Some(_) => Err(NoSuchMoment::AfterEnd(last_seq).into()),
            None => {
                Err(NoSuchMoment::BeforeStart(self.log.place_of(session_key, 0)?.map(|first| first.known_at).unwrap_or_default()).into())
            }
        }
    }

    /// What laps and the race clock mean, as far as `moment` needs it.
    fn clock_for(&self, moment: Moment) -> Result<Clock> {
        let mut clock = Clock::default();
        if !clock.places(moment) {
            let mut session = Session::new(self.session_key(), self.graph(), self.limits.clone()).without_keyframes();
            self.replay(&mut session, self.session.head.last_seq, |output| {
                take_race_clock(&mut clock, output);
                if clock.places(moment) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
        }
        Ok(clock)
    }

    fn replay(&self, session: &mut Session<Sample>, through: u64, each: impl FnMut(&Output) -> ControlFlow<()>) -> Result<()> {
        replay(&self.log, self.session_key(), session, through, each)
    }
}

/// Replays a session's ledger from where `session` stands up to and including record `through`; shows `each` what every block derived.
///
/// # Errors
/// When the ledger cannot be read, its chain is broken, or an operator halts the session.
pub(crate) fn replay(
    log: &EmbeddedLog,
    session_key: i32,
    session: &mut Session<Sample>,
    through: u64,
    mut each: impl FnMut(&Output) -> ControlFlow<()>,
) -> Result<()> {
    let mut chain = Chain::from_any();
    let mut output = Output::default();
    while session.sequencer().next_seq() <= through {
        let next = session.sequencer().next_seq();
        let bytes = log.encoded_block(session_key, next)?;
        let bytes = bytes.with_context(|| format!("ledger record {next} of session {session_key} is missing"))?;
        let mut block = chain.read(&bytes)?;
        let wanted = (through as i64 + 1 - block.first_seq) as usize;
        block.records.truncate(wanted);
        session.replay(&block, &mut output)?;
        if each(&output).is_break() {
            break;
        }
        output.clear();
    }
    Ok(())
}

/// These ledger records of a session, in order; those that do not exist are left out.
pub(crate) fn records(log: &EmbeddedLog, session_key: i32, seqs: &[u64]) -> Result<Vec<Cause>, EmbeddedError> {
    let mut causes = Vec::new();
    let mut block: Option<LedgerBlock> = None;
    for &seq in seqs {
        let is_in = |block: &LedgerBlock| (block.first_seq..block.first_seq + block.records.len() as i64).contains(&(seq as i64));
        if !block.as_ref().is_some_and(is_in) {
            block = log.block(session_key, seq)?;
        }
        if let Some(block) = block.as_ref().filter(|block| is_in(block)) {
            let record = block.records[(seq as i64 - block.first_seq) as usize].clone();
            let stream = usize::try_from(record.stream).ok().and_then(|stream| block.streams.get(stream)).cloned();
            causes.push(Cause { record, stream });
        }
    }
    Ok(causes)
}

/// The session latest by its own time; one that was called off only when there is no other.
fn latest<'a>(sessions: &'a [CataloguedSession], store: &mut EmbeddedStore) -> Result<Option<&'a CataloguedSession>> {
    let mut latest = None;
    for session in sessions {
        let rank = (!is_cancelled(session, store)?, session.head.known_at, session.session_key);
        if latest.as_ref().is_none_or(|(highest, _)| rank > *highest) {
            latest = Some((rank, session));
        }
    }
    Ok(latest.map(|(_, session)| session))
}

fn is_cancelled(session: &CataloguedSession, store: &mut EmbeddedStore) -> Result<bool> {
    for fact in store.latest(session.session_key, session.head.epoch, Completeness::KIND, u64::MAX)? {
        let mut reader = Reader::new(&fact.bytes);
        let (_, completeness) = (FactHeader::decode(&mut reader)?, Completeness::decode(&mut reader)?);
        if completeness.subject == Subject::Session {
            return Ok(completeness.is_missing);
        }
    }
    Ok(false)
}

/// Whether a session's arrival times were observed, as its first fact says.
pub(crate) fn quality(log: &EmbeddedLog, session_key: i32, epoch: i32) -> Result<KnownAtQuality, EmbeddedError> {
    let first = log.fact(session_key, epoch, 0)?;
    let header = first.as_ref().and_then(|facts| facts.iter().next()).and_then(|fact| fact.header().ok());
    Ok(header.map_or(KnownAtQuality::Received, |(header, _)| header.known_at_quality))
}
