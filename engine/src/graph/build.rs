//! Joining operators into a graph, by type.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::marker::PhantomData;

use pitwall_schemas::codec::Fact;
use pitwall_schemas::log::Control;
use pitwall_schemas::shared::KnownAtQuality;
use serde::{Deserialize, Serialize};

use super::node::{FromStream, FromTrigger, Node, OperatorNode, Publication};
use super::{Graph, Trigger};
use crate::facts::{FactBatch, Kind, Stamp};
use crate::hash::Digest;
use crate::limits::Limits;
use crate::operator::{Emission, Handle, Operator, Tick};
use crate::turn::Turn;
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
                operator.apply(state, &emission.value, &mut own.context_of(emission));
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
            saved_length: Cell::default(),
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
