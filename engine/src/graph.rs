//! The operator graph: joined by type, run to completion for each ledger record on one thread.
//!
//! A [`GraphBuilder`] adds operators in order. An operator can only be joined to a [`Stream`] that exists already, so a cycle cannot be
//! written; a stream of another type does not compile; a name used twice and an output that nobody takes fail at
//! [`build`](GraphBuilder::build). The order in which operators were added is their topological order, and facts come out in the order
//! (ledger record, operator, emission).

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;

use pitwall_schemas::codec::Fact;
use pitwall_schemas::log::Control;
use pitwall_schemas::shared::KnownAtQuality;
use serde::{Deserialize, Serialize};

use crate::facts::{FactBatch, Kind, Stamp};
use crate::hash::Digest;
use crate::limits::Limits;
use crate::operator::{CauseRange, Context, Emission, Handle, Operator, Tick};
use crate::{Carries, Event, Micros};

/// Operators in one graph at most: one bit each in a machine word.
pub const OPERATORS_MAX: usize = 64;

/// What is wrong with a graph.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// Two operators have one name.
    #[error("two operators are named `{0}`: give one another NAME")]
    DuplicateName(&'static str),
    /// Two operators publish one fact kind.
    #[error("two operators publish `{0}`: a fact kind has one author")]
    DuplicateKind(&'static str),
    /// An operator's output goes nowhere.
    #[error("nobody takes what `{0}` says: publish it or join another operator to it")]
    Unconsumed(&'static str),
    /// An operator is joined to nothing.
    #[error("`{0}` takes no input: join it to a stream")]
    NoInput(&'static str),
    /// Too many operators.
    #[error("{0} operators, more than {OPERATORS_MAX}")]
    TooMany(usize),
}

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

/// A typed output of one operator in a graph being built.
pub struct Stream<T> {
    node: u16,
    value: PhantomData<fn() -> T>,
}

impl<T> Clone for Stream<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Stream<T> {}

type TimerKey = (Micros, u16, u64);

/// What all operators share while one ledger record is taken.
pub struct Turn {
    pub(crate) now: Micros,
    pub(crate) seq: u64,
    causes: Vec<u64>,
    timers: BTreeMap<TimerKey, u64>,
    next_due: Option<Micros>,
    next_registration: u64,
    next_fact_seq: u64,
    rejections: Vec<Rejection>,
    halted: Option<Halted>,
    names: Vec<&'static str>,
    limits: Limits,
    facts_before: u64,
}

impl Turn {
    fn begin(&mut self, now: Micros, seq: u64) {
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

/// Where published facts go while one record is taken.
struct Publisher<'a> {
    epoch: i32,
    session_key: i32,
    quality: KnownAtQuality,
    facts: &'a mut FactBatch,
}

type FromTrigger<S, O> = fn(&O, &mut <O as Operator>::State, &Trigger<'_, S>, &mut Context<'_, <O as Operator>::Output>);
type FromStream<S, O> = fn(&O, &mut <O as Operator>::State, &dyn Node<S>, &mut NodeContext<'_, O>);

/// A node's own parts of a [`Context`], from which one is made for each upstream emission.
struct NodeContext<'a, O: Operator> {
    turn: &'a mut Turn,
    output: &'a mut Vec<Emission<O::Output>>,
    node: u16,
    is_published: bool,
}

trait Node<S> {
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

struct OperatorNode<S, O: Operator> {
    operator: O,
    state: O::State,
    output: Vec<Emission<O::Output>>,
    triggers: Vec<FromTrigger<S, O>>,
    streams: Vec<(u16, FromStream<S, O>)>,
    publication: Option<Publication<O::Output>>,
    kind_seq: u64,
    node: u16,
}

struct Publication<T> {
    kind: Kind,
    push: fn(&mut FactBatch, Kind, Stamp<'_>, &T),
}

impl<S: Event, O: Operator> OperatorNode<S, O> {
    fn context<'a>(&'a mut self, turn: &'a mut Turn) -> (&'a O, &'a mut O::State, NodeContext<'a, O>) {
        let context = NodeContext { turn, output: &mut self.output, node: self.node, is_published: self.publication.is_some() };
        (&self.operator, &mut self.state, context)
    }
}

impl<O: Operator> NodeContext<'_, O> {
    const fn context(&mut self, causes: CauseRange, event_time: Micros) -> Context<'_, O::Output> {
        Context { turn: self.turn, output: self.output, node: self.node, is_published: self.is_published, causes, event_time }
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
            let causes = &turn.causes[emission.causes.start as usize..emission.causes.end as usize];
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
        let state = postcard::to_stdvec(&self.state).expect("operator states hold only serialisable values");
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

/// Joins one operator to its inputs; given to the closure of [`GraphBuilder::add`].
pub struct Inputs<S, O: Operator> {
    triggers: Vec<(EdgeSource, FromTrigger<S, O>)>,
    streams: Vec<(u16, FromStream<S, O>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EdgeSource {
    Sample(u16),
    Tick,
    Control,
}

impl<S: Event, O: Operator> Inputs<S, O> {
    /// Takes the raw samples of type `E`.
    #[must_use]
    pub fn samples<E>(mut self) -> Self
    where
        S: Carries<E>,
        O: Handle<E>,
    {
        self.triggers.push((EdgeSource::Sample(<S as Carries<E>>::STREAM), |operator, state, trigger, context| {
            if let Trigger::Sample(sample) = trigger
                && let Some(event) = <S as Carries<E>>::get(sample)
            {
                operator.apply(state, event, context);
            }
        }));
        self
    }

    /// Takes a [`Tick`] each whole second of ledger time.
    #[must_use]
    pub fn ticks(mut self) -> Self
    where
        O: Handle<Tick>,
    {
        self.triggers.push((EdgeSource::Tick, |operator, state, trigger, context| {
            if let Trigger::Tick(tick) = trigger {
                operator.apply(state, tick, context);
            }
        }));
        self
    }

    /// Takes parameters, model switches and effects' answers.
    #[must_use]
    pub fn control(mut self) -> Self
    where
        O: Handle<Control>,
    {
        self.triggers.push((EdgeSource::Control, |operator, state, trigger, context| {
            if let Trigger::Control(control) = trigger {
                operator.apply(state, control, context);
            }
        }));
        self
    }

    /// Takes what another operator says.
    #[must_use]
    pub fn stream<T: 'static>(mut self, stream: Stream<T>) -> Self
    where
        O: Handle<T>,
    {
        self.streams.push((stream.node, |operator, state, source, own| {
            let emissions = source.output().downcast_ref::<Vec<Emission<T>>>().expect("a stream's type is its operator's output type");
            for emission in emissions {
                operator.apply(state, &emission.value, &mut own.context(emission.causes, emission.event_time));
            }
        }));
        self
    }
}

/// One operator of a graph, as [`Graph::description`] tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeDescription {
    /// Operator name.
    pub name: String,
    /// Operator version.
    pub version: u32,
    /// Its parameters.
    pub parameters: Vec<(String, String)>,
    /// Its inputs: `sample:laps`, `operator:laps`, `tick` or `control`.
    pub inputs: Vec<String>,
    /// The fact kind it publishes, with the schema's fingerprint.
    pub publishes: Option<(String, String)>,
}

/// Builds a [`Graph`].
pub struct GraphBuilder<S> {
    nodes: Vec<Box<dyn Node<S>>>,
    descriptions: Vec<NodeDescription>,
    names: Vec<&'static str>,
    kinds: Vec<Kind>,
    edges: Vec<(EdgeSource, u16, u16)>,
    consumers: Vec<u64>,
    published: u64,
    error: Option<GraphError>,
}

impl<S: Event> Default for GraphBuilder<S> {
    fn default() -> Self {
        Self {
            nodes: Vec::new(),
            descriptions: Vec::new(),
            names: Vec::new(),
            kinds: Vec::new(),
            edges: Vec::new(),
            consumers: Vec::new(),
            published: 0,
            error: None,
        }
    }
}

impl<S: Event> GraphBuilder<S> {
    /// Adds an operator whose output other operators take.
    pub fn add<O: Operator>(&mut self, operator: O, join: impl FnOnce(Inputs<S, O>) -> Inputs<S, O>) -> Stream<O::Output> {
        self.add_node(operator, join, None)
    }

    /// Adds an operator whose output becomes facts; other operators may take it too.
    pub fn publish<O: Operator>(&mut self, operator: O, join: impl FnOnce(Inputs<S, O>) -> Inputs<S, O>) -> Stream<O::Output>
    where
        O::Output: Fact,
    {
        let push: fn(&mut FactBatch, Kind, Stamp<'_>, &O::Output) = |batch, kind, stamp, body| batch.push(kind, stamp, body);
        self.add_node(operator, join, Some(Publication { kind: Kind::of::<O::Output>(), push }))
    }

    fn add_node<O: Operator>(
        &mut self,
        operator: O,
        join: impl FnOnce(Inputs<S, O>) -> Inputs<S, O>,
        publication: Option<Publication<O::Output>>,
    ) -> Stream<O::Output> {
        let index = self.nodes.len();
        let node = index as u16;
        if index >= OPERATORS_MAX {
            self.error.get_or_insert(GraphError::TooMany(index + 1));
            return Stream { node, value: PhantomData };
        }
        if self.names.contains(&O::NAME) {
            self.error.get_or_insert(GraphError::DuplicateName(O::NAME));
        }
        let inputs = join(Inputs { triggers: Vec::new(), streams: Vec::new() });
        if inputs.triggers.is_empty() && inputs.streams.is_empty() {
            self.error.get_or_insert(GraphError::NoInput(O::NAME));
        }
        if let Some(publication) = &publication {
            if self.kinds.iter().any(|kind| kind.name == publication.kind.name) {
                self.error.get_or_insert(GraphError::DuplicateKind(publication.kind.name));
            }
            self.kinds.push(publication.kind);
            self.published |= 1 << index;
        }
        let mut described = Vec::new();
        for (edge, &(source, _)) in inputs.triggers.iter().enumerate() {
            self.edges.push((source, node, edge as u16));
            described.push(match source {
                EdgeSource::Sample(stream) => format!("sample:{}", S::STREAMS[usize::from(stream)]),
                EdgeSource::Tick => "tick".to_owned(),
                EdgeSource::Control => "control".to_owned(),
            });
        }
        self.consumers.push(0);
        for &(source, _) in &inputs.streams {
            self.consumers[usize::from(source)] |= 1 << index;
            described.push(format!("operator:{}", self.names[usize::from(source)]));
        }
        self.descriptions.push(NodeDescription {
            name: O::NAME.to_owned(),
            version: O::VERSION,
            parameters: operator.parameters().into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            inputs: described,
            publishes: publication
                .as_ref()
                .map(|publication| (publication.kind.name.to_owned(), format!("{:016x}", publication.kind.fingerprint))),
        });
        self.names.push(O::NAME);
        let triggers = inputs.triggers.into_iter().map(|(_, take)| take).collect();
        self.nodes.push(Box::new(OperatorNode {
            operator,
            state: O::State::default(),
            output: Vec::new(),
            triggers,
            streams: inputs.streams,
            publication,
            kind_seq: 0,
            node,
        }));
        Stream { node, value: PhantomData }
    }

    /// The finished graph.
    ///
    /// # Errors
    /// When a name or fact kind is used twice, an operator takes no input, or an output goes nowhere.
    pub fn build(self, limits: Limits) -> Result<Graph<S>, GraphError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        for (index, name) in self.names.iter().enumerate() {
            if self.consumers[index] == 0 && self.published & (1 << index) == 0 {
                return Err(GraphError::Unconsumed(name));
            }
        }
        let listeners = |wanted: EdgeSource| -> Vec<(u16, u16)> {
            self.edges.iter().filter(|(source, _, _)| *source == wanted).map(|&(_, node, edge)| (node, edge)).collect()
        };
        let description = serde_json::to_vec(&self.descriptions).expect("a description is plain data");
        Ok(Graph {
            hash: Digest::of(&description),
            by_stream: (0..S::STREAMS.len()).map(|stream| listeners(EdgeSource::Sample(stream as u16))).collect(),
            on_tick: listeners(EdgeSource::Tick),
            on_control: listeners(EdgeSource::Control),
            nodes: self.nodes,
            descriptions: self.descriptions,
            kinds: self.kinds,
            consumers: self.consumers,
            turn: Turn {
                now: Micros(i64::MIN),
                seq: 0,
                causes: Vec::new(),
                timers: BTreeMap::new(),
                next_due: None,
                next_registration: 0,
                next_fact_seq: 0,
                rejections: Vec::new(),
                halted: None,
                names: self.names,
                limits,
                facts_before: 0,
            },
            epoch: 0,
            session_key: 0,
            quality: KnownAtQuality::Received,
        })
    }
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
    /// Files the facts under this session and epoch, with this quality of arrival times.
    #[must_use]
    pub const fn for_session(mut self, session_key: i32, epoch: i32, quality: KnownAtQuality) -> Self {
        self.session_key = session_key;
        self.epoch = epoch;
        self.quality = quality;
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

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SavedNode {
    name: String,
    version: u32,
    kind_seq: u64,
    #[serde(with = "serde_bytes")]
    state: Vec<u8>,
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
