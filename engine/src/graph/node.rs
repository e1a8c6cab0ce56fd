//! One operator in a graph: its state, its output of this turn, and the joints that feed it.

use std::any::Any;
use std::cell::Cell;

use pitwall_schemas::shared::KnownAtQuality;
use serde::{Deserialize, Serialize};

use super::Trigger;
use crate::facts::{FactBatch, Kind, Stamp};
use crate::keyframe::write_state;
use crate::operator::{Context, Emission, Operator};
use crate::turn::{CauseRange, Turn};
use crate::{Event, Micros};

/// Where published facts go while one record is taken.
pub(super) struct Publisher<'a> {
    pub(super) epoch: i32,
    pub(super) session_key: i32,
    pub(super) quality: KnownAtQuality,
    pub(super) facts: &'a mut FactBatch,
}

pub(super) type FromTrigger<S, O> = fn(&O, &mut <O as Operator>::State, &Trigger<'_, S>, &mut Context<'_, <O as Operator>::Output>);
pub(super) type FromStream<S, O> = fn(&O, &mut <O as Operator>::State, &dyn Node<S>, &mut NodeContext<'_, O>);

/// A node's own parts of a [`Context`], from which one is made for each upstream emission.
pub(super) struct NodeContext<'a, O: Operator> {
    turn: &'a mut Turn,
    output: &'a mut Vec<Emission<O::Output>>,
    node: u16,
    is_published: bool,
}

pub(super) trait Node<S> {
    fn trigger(&mut self, edge: u16, trigger: &Trigger<'_, S>, event_time: Micros, turn: &mut Turn);
    fn upstream(&mut self, before: &[Box<dyn Node<S>>], turn: &mut Turn);
    fn timer(&mut self, token: u64, turn: &mut Turn);
    fn publish(&mut self, turn: &mut Turn, publisher: &mut Publisher<'_>);
    fn output(&self) -> &dyn Any;
    fn has_output(&self) -> bool;
    fn clear(&mut self);
    fn save(&self) -> SavedNode;
    fn load(&mut self, saved: &SavedNode) -> Result<(), postcard::Error>;
    fn state(&self) -> &dyn Any;
}

pub(super) struct OperatorNode<S, O: Operator> {
    pub(super) operator: O,
    pub(super) state: O::State,
    pub(super) output: Vec<Emission<O::Output>>,
    pub(super) triggers: Vec<FromTrigger<S, O>>,
    pub(super) streams: Vec<(u16, FromStream<S, O>)>,
    pub(super) publication: Option<Publication<O::Output>>,
    pub(super) kind_seq: u64,
    pub(super) node: u16,
    /// Bytes of the state when it was last saved.
    pub(super) saved_length: Cell<usize>,
}

pub(super) struct Publication<T> {
    pub(super) kind: Kind,
    pub(super) push: fn(&mut FactBatch, Kind, Stamp<'_>, &T),
}

impl<S: Event, O: Operator> OperatorNode<S, O> {
    fn context<'a>(&'a mut self, turn: &'a mut Turn) -> (&'a O, &'a mut O::State, NodeContext<'a, O>) {
        let context = NodeContext { turn, output: &mut self.output, node: self.node, is_published: self.publication.is_some() };
        (&self.operator, &mut self.state, context)
    }
}

impl<O: Operator> NodeContext<'_, O> {
    pub(super) const fn context(&mut self, causes: CauseRange, event_time: Micros) -> Context<'_, O::Output> {
        let is_withdrawn = false;
        Context { turn: self.turn, output: self.output, node: self.node, is_published: self.is_published, causes, event_time, is_withdrawn }
    }

    /// The context of an event that another operator said.
    pub(super) const fn context_of<T>(&mut self, emission: &Emission<T>) -> Context<'_, O::Output> {
        Context { is_withdrawn: emission.is_withdrawn, ..self.context(emission.causes, emission.event_time) }
    }
}

impl<S: Event, O: Operator> Node<S> for OperatorNode<S, O> {
    #[inline]
    fn trigger(&mut self, edge: u16, trigger: &Trigger<'_, S>, event_time: Micros, turn: &mut Turn) {
        let take = self.triggers[usize::from(edge)];
        let (operator, state, mut context) = self.context(turn);
        take(operator, state, trigger, &mut context.context(CauseRange { start: 0, end: 1 }, event_time));
    }

    fn upstream(&mut self, before: &[Box<dyn Node<S>>], turn: &mut Turn) {
        for index in 0..self.streams.len() {
            let (source, take) = self.streams[index];
            let source = &before[usize::from(source)];
            if source.has_output() {
                let (operator, state, mut context) = self.context(turn);
                take(operator, state, source.as_ref(), &mut context);
            }
        }
    }

    fn timer(&mut self, token: u64, turn: &mut Turn) {
        let now = turn.now;
        let (operator, state, mut context) = self.context(turn);
        operator.on_timer(state, token, &mut context.context(CauseRange { start: 0, end: 0 }, now));
    }

    fn publish(&mut self, turn: &mut Turn, publisher: &mut Publisher<'_>) {
        let Some(publication) = &self.publication else { return };
        for emission in &self.output {
            let causes = turn.causes(emission.causes);
            if causes.is_empty() {
                return turn.halt(self.node, format!("a fact of kind `{}` names no causes", publication.kind.name));
            }
            let stamp = Stamp {
                epoch: publisher.epoch,
                session_key: publisher.session_key,
                fact_seq: emission.issued.fact_seq,
                kind_seq: self.kind_seq,
                known_at: turn.now,
                event_time: emission.event_time,
                causes,
                revision: emission.issued.revision,
                supersedes: emission.supersedes,
                quality: publisher.quality,
                is_withdrawn: emission.is_withdrawn,
            };
            (publication.push)(publisher.facts, publication.kind, stamp, &emission.value);
            self.kind_seq += 1;
        }
    }

    fn output(&self) -> &dyn Any {
        &self.output
    }

    #[inline]
    fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    #[inline]
    fn clear(&mut self) {
        self.output.clear();
    }

    fn save(&self) -> SavedNode {
        // A little longer than the last time, as states mostly are.
        let state = write_state(&self.state, Vec::with_capacity(self.saved_length.get() / 8 * 9 + 64));
        self.saved_length.set(state.len());
        SavedNode { name: O::NAME.to_owned(), version: O::VERSION, kind_seq: self.kind_seq, state }
    }

    fn load(&mut self, saved: &SavedNode) -> Result<(), postcard::Error> {
        self.state = postcard::from_bytes(&saved.state)?;
        self.kind_seq = saved.kind_seq;
        Ok(())
    }

    fn state(&self) -> &dyn Any {
        &self.state
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SavedNode {
    pub(super) name: String,
    pub(super) version: u32,
    pub(super) kind_seq: u64,
    #[serde(with = "serde_bytes")]
    pub(super) state: Vec<u8>,
}
