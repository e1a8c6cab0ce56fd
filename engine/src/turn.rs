//! What all operators share while one ledger record is taken: its number and time, causes, timers, refusals.

use std::collections::BTreeMap;

use crate::Micros;
use crate::limits::Limits;

/// Why a session's graph stands still.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("operator `{operator}` halted the session at ledger record {seq}: {reason}")]
pub struct Halted {
    /// Who found the broken invariant.
    pub operator: &'static str,
    /// At which ledger record.
    pub seq: u64,
    /// What is broken.
    pub reason: String,
}

/// Input that was refused, with what is needed to make a dead letter of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The operator that refused it; `None` when it could not be decoded.
    pub operator: Option<&'static str>,
    /// Its ledger record.
    pub seq: u64,
    /// When it was refused, in ledger time.
    pub known_at: Micros,
    /// Why.
    pub reason: String,
}

/// A range of the turn's cause arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CauseRange {
    pub(crate) start: u32,
    pub(crate) end: u32,
}

type TimerKey = (Micros, u16, u64);

/// What all operators share while one ledger record is taken.
pub(crate) struct Turn {
    pub(crate) now: Micros,
    pub(crate) seq: u64,
    pub(crate) causes: Vec<u64>,
    pub(crate) timers: BTreeMap<TimerKey, u64>,
    pub(crate) next_due: Option<Micros>,
    pub(crate) next_registration: u64,
    pub(crate) next_fact_seq: u64,
    pub(crate) rejections: Vec<Rejection>,
    pub(crate) halted: Option<Halted>,
    pub(crate) names: Vec<&'static str>,
    pub(crate) limits: Limits,
    pub(crate) facts_before: u64,
}

impl Turn {
    pub(crate) fn begin(&mut self, now: Micros, seq: u64) {
        self.now = now;
        self.seq = seq;
        self.causes.clear();
        self.facts_before = self.next_fact_seq;
    }

    pub(crate) fn causes(&self, range: CauseRange) -> &[u64] {
        &self.causes[range.start as usize..range.end as usize]
    }

    pub(crate) fn add_causes(&mut self, causes: &[u64]) -> CauseRange {
        let newest = &causes[causes.len().saturating_sub(self.limits.causes_max)..];
        let start = self.causes.len() as u32;
        self.causes.extend_from_slice(newest);
        CauseRange { start, end: self.causes.len() as u32 }
    }

    pub(crate) fn set_timer(&mut self, due: Micros, node: u16, token: u64) {
        if self.timers.len() >= self.limits.timers_max {
            return self.halt(node, format!("more than {} timers wait", self.limits.timers_max));
        }
        let due = due.max(self.now);
        self.timers.insert((due, node, self.next_registration), token);
        self.next_registration += 1;
        self.next_due = Some(self.next_due.map_or(due, |next| next.min(due)));
    }

    pub(crate) fn reject(&mut self, node: u16, reason: String) {
        self.rejections.push(Rejection { operator: Some(self.names[usize::from(node)]), seq: self.seq, known_at: self.now, reason });
    }

    pub(crate) fn halt(&mut self, node: u16, reason: String) {
        if self.halted.is_none() {
            self.halted = Some(Halted { operator: self.names[usize::from(node)], seq: self.seq, reason });
        }
    }

    pub(crate) const fn next_fact_seq(&mut self) -> u64 {
        let fact_seq = self.next_fact_seq;
        self.next_fact_seq += 1;
        fact_seq
    }
}
