//! What the edge asks of the embedded log and store.

use std::ops::ControlFlow;
use std::sync::Arc;

use pitwall_edge::channel::Channel;
use pitwall_edge::reader::{Cause, ReadError, Reader, Span, Verified};
use pitwall_embedded::log::EmbeddedLog;
use pitwall_embedded::sink::Sink;
use pitwall_embedded::store::EmbeddedStore;
use pitwall_engine::Micros;
use pitwall_engine::limits::Limits;
use pitwall_engine::log::{StateStore, StoredFact};
use pitwall_engine::session::Session;

use crate::logged;

/// Reads committed facts and ledger records of the data directory.
pub(crate) struct LogReader {
    pub(crate) log: EmbeddedLog,
    pub(crate) store: EmbeddedStore,
    /// Fills the store; a reader waits for what was committed before it asked.
    pub(crate) sink: Arc<Sink>,
    pub(crate) limits: Limits,
}

fn unavailable(error: impl std::fmt::Display) -> ReadError {
    ReadError::Unavailable(error.to_string())
}

impl LogReader {
    fn store(&self) -> EmbeddedStore {
        self.sink.flush();
        self.store.clone()
    }

    /// The first fact that was not known yet at `time`.
    fn first_unknown_at(&self, session_key: i32, epoch: i32, time: Micros) -> Result<u64, ReadError> {
        self.log.first_fact_after(session_key, epoch, time).map_err(unavailable)
    }
}

impl Reader for LogReader {
    fn latest(&self, session_key: i32, epoch: i32, channel: Channel, known_by: Option<Micros>) -> Result<Vec<StoredFact>, ReadError> {
        let before = known_by.map_or(Ok(u64::MAX), |time| self.first_unknown_at(session_key, epoch, time))?;
        self.store().latest(session_key, epoch, channel.name(), before).map_err(unavailable)
    }

    fn history(&self, session_key: i32, epoch: i32, channel: Channel, span: Span, facts_max: usize) -> Result<Vec<StoredFact>, ReadError> {
        let after = span.known_after.map_or(Ok(0), |time| self.first_unknown_at(session_key, epoch, time))?;
        let before = span.known_by.map_or(Ok(u64::MAX), |time| self.first_unknown_at(session_key, epoch, time))?;
        let fact_seqs = span.from_fact_seq.max(after)..before;
        self.store().history(session_key, epoch, channel.name(), fact_seqs, facts_max).map_err(unavailable)
    }

    fn fact(&self, session_key: i32, epoch: i32, fact_seq: u64) -> Result<Option<(Channel, StoredFact)>, ReadError> {
        let facts = self.log.fact(session_key, epoch, fact_seq).map_err(unavailable)?;
        Ok(facts.as_ref().and_then(|facts| facts.iter().next()).and_then(|fact| {
            let stored = StoredFact { fact_seq, known_at: fact.known_at, bytes: fact.bytes.to_vec() };
            Channel::named(fact.kind.name).map(|channel| (channel, stored))
        }))
    }

    fn known_at(&self, session_key: i32, seq: u64) -> Result<Option<Micros>, ReadError> {
        Ok(self.log.place_of(session_key, seq).map_err(unavailable)?.map(|placed| placed.known_at))
    }

    fn last_known_by(&self, session_key: i32, known_at: Micros) -> Result<Option<u64>, ReadError> {
        Ok(self.log.place_at(session_key, known_at).map_err(unavailable)?.map(|placed| placed.seq))
    }

    fn records(&self, session_key: i32, seqs: &[u64]) -> Result<Vec<Cause>, ReadError> {
        logged::records(&self.log, session_key, seqs).map_err(unavailable)
    }

    fn verify(&self, session_key: i32) -> Result<Verified, ReadError> {
        let Some(head) = self.log.head(session_key).map_err(unavailable)? else {
            return Err(ReadError::Unavailable(format!("session {session_key} has no committed record yet: try again")));
        };
        let quality = logged::quality(&self.log, session_key, head.epoch).map_err(unavailable)?;
        let graph = pitwall_operators::graph(&self.limits).map_err(unavailable)?.for_session(session_key, head.epoch, quality);
        let mut session = Session::new(session_key, graph, self.limits.clone()).without_keyframes();
        logged::replay(&self.log, session_key, &mut session, head.last_seq, |_| ControlFlow::Continue(())).map_err(unavailable)?;
        Ok(Verified {
            epoch: head.epoch,
            seq: head.last_seq,
            facts: session.graph().next_fact_seq(),
            facts_hash: head.facts_hash.to_string(),
            recomputed_hash: session.facts_hash().to_string(),
        })
    }
}
