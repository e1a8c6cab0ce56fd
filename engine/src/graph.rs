//! The operator graph: joined by type, run to completion for each ledger record on one thread.
//!
//! A [`GraphBuilder`] adds operators in order. An operator can only be joined to a [`Stream`] that exists already, so a cycle cannot be
//! written; a stream of another type does not compile; a name used twice and an output that nobody takes fail at
//! [`build`](GraphBuilder::build). The order in which operators were added is their topological order, and facts come out in the order
//! (ledger record, operator, emission).

mod build;
mod node;

use std::collections::{BTreeMap, BTreeSet};

use pitwall_schemas::log::Control;
use pitwall_schemas::shared::KnownAtQuality;
use serde::{Deserialize, Serialize};

use self::node::{Node, Publisher, SavedNode};
use crate::facts::{FactBatch, Kind};
use crate::hash::Digest;
use crate::operator::{Operator, Tick};
use crate::turn::Turn;
use crate::{Event, Micros};

pub use self::build::{GraphBuilder, GraphError, Inputs, NodeDescription, OPERATORS_MAX, Stream};
pub use crate::turn::{Halted, Rejection};

/// What sets the graph in motion.
pub enum Trigger<'a, S> {
    /// A raw sample.
    Sample(&'a S),
    /// A whole second.
    Tick(Tick),
    /// A parameter, model switch or effect's answer.
    Control(&'a Control),
    /// Nothing but time: due timers fire.
    Time,
}

/// One ledger record as the graph takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The record's number.
    pub seq: u64,
    /// The record's time.
    pub known_at: Micros,
    /// When it happened.
    pub event_time: Micros,
}

/// A session's operators with their state.
pub struct Graph<S> {
    nodes: Vec<Box<dyn Node<S>>>,
    descriptions: Vec<NodeDescription>,
    kinds: Vec<Kind>,
    by_stream: Vec<Vec<(u16, u16)>>,
    on_tick: Vec<(u16, u16)>,
    on_control: Vec<(u16, u16)>,
    consumers: Vec<u64>,
    turn: Turn,
    hash: Digest,
    epoch: i32,
    session_key: i32,
    quality: KnownAtQuality,
}

impl<S: Event> Graph<S> {
    /// Files the facts under this session and epoch, with this quality of arrival times. An engine gives its session's epoch itself.
    #[must_use]
    pub const fn for_session(mut self, session_key: i32, epoch: i32, quality: KnownAtQuality) -> Self {
        self.session_key = session_key;
        self.epoch = epoch;
        self.quality = quality;
        self
    }

    /// Files the facts under this epoch.
    #[must_use]
    pub const fn in_epoch(mut self, epoch: i32) -> Self {
        self.epoch = epoch;
        self
    }

    /// Identity of the graph: operator names, versions, parameters, edges and the schemas they publish.
    #[must_use]
    pub const fn hash(&self) -> Digest {
        self.hash
    }

    /// Its operators, in topological order.
    #[must_use]
    pub fn description(&self) -> &[NodeDescription] {
        &self.descriptions
    }

    /// The fact kinds it publishes, in the order of their operators.
    #[must_use]
    pub fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    /// The `fact_seq` that the next fact gets.
    #[must_use]
    pub const fn next_fact_seq(&self) -> u64 {
        self.turn.next_fact_seq
    }

    /// When the next timer is due, for a live session that has to let time pass.
    #[must_use]
    pub const fn next_due(&self) -> Option<Micros> {
        self.turn.next_due
    }

    /// The state of the operator of type `O`, for looking at a moment.
    #[must_use]
    pub fn state_of<O: Operator>(&self) -> Option<&O::State> {
        let index = self.turn.names.iter().position(|&name| name == O::NAME)?;
        self.nodes[index].state().downcast_ref()
    }

    /// Whether input was refused since [`take_rejections`](Self::take_rejections).
    #[must_use]
    pub const fn has_rejections(&self) -> bool {
        !self.turn.rejections.is_empty()
    }

    /// Input refused since the last call.
    pub fn take_rejections(&mut self) -> Vec<Rejection> {
        std::mem::take(&mut self.turn.rejections)
    }

    /// Notes that a record could not be decoded.
    pub(crate) fn refuse(&mut self, moment: Moment, reason: String) {
        self.turn.rejections.push(Rejection { operator: None, seq: moment.seq, known_at: moment.known_at, reason });
    }

    /// Takes one ledger record: due timers first, then the record, operator after operator, and appends the facts.
    ///
    /// # Errors
    /// When an operator finds an invariant broken. What the record would have published is withheld.
    #[inline]
    pub fn take(&mut self, moment: Moment, trigger: &Trigger<'_, S>, facts: &mut FactBatch) -> Result<(), Halted> {
        if self.turn.next_due.is_some_and(|due| due <= moment.known_at) {
            self.fire_timers(moment, facts)?;
        }
        self.turn.begin(moment.known_at, moment.seq);
        let listeners = match trigger {
            Trigger::Sample(sample) => &self.by_stream[usize::from(sample.stream())],
            Trigger::Tick(_) => &self.on_tick,
            Trigger::Control(_) => &self.on_control,
            Trigger::Time => return Ok(()),
        };
        if listeners.is_empty() {
            return Ok(());
        }
        self.turn.add_causes(&[moment.seq]);
        let first_fact = facts.len();
        let mut waiting = 0_u64;
        for &(node, _) in listeners {
            waiting |= 1 << node;
        }
        let mut listener = 0;
        let mut ran = 0_u64;
        while waiting != 0 {
            let index = waiting.trailing_zeros() as usize;
            waiting &= waiting - 1;
            let (before, rest) = self.nodes.split_at_mut(index);
            let node = &mut rest[0];
            // Listeners stand in node order, so those of this node are next.
            while let Some(&(_, edge)) = listeners.get(listener).filter(|(candidate, _)| usize::from(*candidate) == index) {
                node.trigger(edge, trigger, moment.event_time, &mut self.turn);
                listener += 1;
            }
            node.upstream(before, &mut self.turn);
            if node.has_output() {
                ran |= 1 << index;
                waiting |= self.consumers[index];
                let mut publisher = Publisher { epoch: self.epoch, session_key: self.session_key, quality: self.quality, facts };
                node.publish(&mut self.turn, &mut publisher);
            }
        }
        self.finish_turn(ran, first_fact, facts)
    }

    /// Fires every timer due at or before the record, in order, each with its own moment as `now`.
    fn fire_timers(&mut self, moment: Moment, facts: &mut FactBatch) -> Result<(), Halted> {
        while let Some((&(due, node, registration), &token)) =
            self.turn.timers.first_key_value().filter(|((due, _, _), _)| *due <= moment.known_at)
        {
            self.turn.timers.remove(&(due, node, registration));
            self.turn.begin(due, moment.seq);
            let first_fact = facts.len();
            let mut waiting = 1_u64 << node;
            let mut ran = 0_u64;
            let mut is_timer = true;
            while waiting != 0 {
                let index = waiting.trailing_zeros() as usize;
                waiting &= waiting - 1;
                let (before, rest) = self.nodes.split_at_mut(index);
                let next = &mut rest[0];
                if std::mem::take(&mut is_timer) {
                    next.timer(token, &mut self.turn);
                } else {
                    next.upstream(before, &mut self.turn);
                }
                if next.has_output() {
                    ran |= 1 << index;
                    waiting |= self.consumers[index];
                    let mut publisher = Publisher { epoch: self.epoch, session_key: self.session_key, quality: self.quality, facts };
                    next.publish(&mut self.turn, &mut publisher);
                }
            }
            self.finish_turn(ran, first_fact, facts)?;
        }
        self.turn.next_due = self.turn.timers.first_key_value().map(|((due, _, _), _)| *due);
        Ok(())
    }

    #[inline]
    fn finish_turn(&mut self, mut ran: u64, first_fact: usize, facts: &mut FactBatch) -> Result<(), Halted> {
        while ran != 0 {
            self.nodes[ran.trailing_zeros() as usize].clear();
            ran &= ran - 1;
        }
        if self.turn.next_fact_seq - self.turn.facts_before > self.turn.limits.facts_per_record_max as u64 {
            self.turn.halt(0, format!("one ledger record caused more than {} facts", self.turn.limits.facts_per_record_max));
        }
        match &self.turn.halted {
            None => Ok(()),
            Some(halted) => {
                facts.truncate(first_fact);
                Err(halted.clone())
            }
        }
    }

    /// The whole state, for a keyframe.
    #[must_use]
    pub fn save(&self) -> SavedGraph {
        SavedGraph {
            now: self.turn.now,
            next_registration: self.turn.next_registration,
            next_fact_seq: self.turn.next_fact_seq,
            timers: self
                .turn
                .timers
                .iter()
                .map(|(&(due, node, registration), &token)| (due, self.turn.names[usize::from(node)].to_owned(), registration, token))
                .collect(),
            nodes: self.nodes.iter().map(|node| node.save()).collect(),
        }
    }

    /// Takes up a saved state.
    ///
    /// # Errors
    /// When it is of other operators or cannot be read.
    pub fn load(&mut self, saved: &SavedGraph) -> Result<(), LoadError> {
        let expected: BTreeSet<(&str, u32)> = self.descriptions.iter().map(|node| (node.name.as_str(), node.version)).collect();
        let found: BTreeSet<(&str, u32)> = saved.nodes.iter().map(|node| (node.name.as_str(), node.version)).collect();
        if expected != found {
            return Err(LoadError::OtherOperators);
        }
        let position = |name: &str| self.turn.names.iter().position(|&known| known == name).ok_or(LoadError::OtherOperators);
        let mut timers = BTreeMap::new();
        for (due, name, registration, token) in &saved.timers {
            timers.insert((*due, position(name)? as u16, *registration), *token);
        }
        for node in &saved.nodes {
            let index = position(&node.name)?;
            self.nodes[index].load(node).map_err(|error| LoadError::State(node.name.clone(), error))?;
        }
        self.turn.now = saved.now;
        self.turn.next_registration = saved.next_registration;
        self.turn.next_fact_seq = saved.next_fact_seq;
        self.turn.next_due = timers.first_key_value().map(|((due, _, _), _)| *due);
        self.turn.timers = timers;
        Ok(())
    }
}

/// A graph's whole state as a keyframe stores it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedGraph {
    now: Micros,
    next_registration: u64,
    next_fact_seq: u64,
    timers: Vec<(Micros, String, u64, u64)>,
    nodes: Vec<SavedNode>,
}

/// Why a saved state cannot be taken up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// It was saved by operators of other names or versions.
    #[error("the state is of other operators or versions")]
    OtherOperators,
    /// One operator's state cannot be read.
    #[error("the state of operator `{0}` cannot be read: {1}")]
    State(String, postcard::Error),
}
