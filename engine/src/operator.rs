//! What an operator is: a pure state machine over typed events.
//!
//! An operator names its state and output and implements [`Handle`] for each event type it takes. It sees ledger time and sequence
//! numbers through [`Context`] and nothing else of the world: no clock, no randomness, no I/O. It returns no `Result`: bad input is
//! [rejected](Context::reject), a broken invariant [halts](Context::halt) this session only.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Micros;
use crate::turn::{CauseRange, Turn};

/// A derivation: what it is called, what it remembers, what it says.
pub trait Operator: 'static {
    /// Stable name; state and graph hash go by it, never by position.
    const NAME: &'static str;
    /// Rises with every change that can alter output or state.
    const VERSION: u32;
    /// What it says.
    type Output: 'static;
    /// What it remembers, all of it: a keyframe stores this and nothing else. Only ordered collections, so that the same state always
    /// has the same bytes.
    type State: Serialize + DeserializeOwned + Default + 'static;

    /// Settings that change the output, as (name, value); they are part of the graph's hash.
    fn parameters(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// A timer set by [`Context::set_timer`] is due; `now()` is the moment it was set for.
    fn on_timer(&self, _state: &mut Self::State, _token: u64, _context: &mut Context<'_, Self::Output>) {}
}

/// An operator that takes events of type `E`.
pub trait Handle<E>: Operator {
    /// Takes one event.
    fn apply(&self, state: &mut Self::State, event: &E, context: &mut Context<'_, Self::Output>);
}

/// A whole second of ledger time has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tick {
    /// The whole second.
    pub second: Micros,
}

/// A published emission, kept by an operator that may have to correct it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issued {
    /// The fact's number.
    pub fact_seq: u64,
    /// 0 for a first statement.
    pub revision: u32,
}

/// One output of an operator, on its way to the operators behind it and to the facts.
#[derive(Debug)]
pub struct Emission<T> {
    /// What was said.
    pub value: T,
    pub(crate) causes: CauseRange,
    pub(crate) event_time: Micros,
    pub(crate) issued: Issued,
    pub(crate) supersedes: Option<u64>,
    pub(crate) is_withdrawn: bool,
}

/// What an operator sees of the world while it takes one event.
pub struct Context<'a, O> {
    pub(crate) turn: &'a mut Turn,
    pub(crate) output: &'a mut Vec<Emission<O>>,
    pub(crate) node: u16,
    pub(crate) is_published: bool,
    pub(crate) causes: CauseRange,
    pub(crate) event_time: Micros,
    pub(crate) is_withdrawn: bool,
}

impl<O> Context<'_, O> {
    /// Ledger time: the record's `known_at`, or for a timer the moment it was set for.
    #[must_use]
    pub const fn now(&self) -> Micros {
        self.turn.now
    }

    /// Sequence number of the ledger record being taken; in a timer, of the record it fires before.
    #[must_use]
    pub const fn seq(&self) -> u64 {
        self.turn.seq
    }

    /// When the event happened.
    #[must_use]
    pub const fn event_time(&self) -> Micros {
        self.event_time
    }

    /// Ledger sequence numbers the event came from; empty in a timer.
    #[must_use]
    pub fn causes(&self) -> &[u64] {
        self.turn.causes(self.causes)
    }

    /// The newest ledger record that the event came from; in a timer, the record it fires before.
    #[must_use]
    pub fn newest_cause(&self) -> u64 {
        self.causes().last().copied().unwrap_or(self.turn.seq)
    }

    /// Whether the event being taken is one that its operator takes back: it repeats what has proved wrong, and nothing takes its place.
    #[must_use]
    pub const fn is_withdrawn(&self) -> bool {
        self.is_withdrawn
    }

    /// Says `value`, because of the event being taken.
    pub fn emit(&mut self, value: O) -> Issued {
        self.draft(value).emit()
    }

    /// Says `value`, because of the ledger records `causes`.
    pub fn emit_because(&mut self, causes: &[u64], value: O) -> Issued {
        self.draft(value).because(causes).emit()
    }

    /// Begins a statement that needs more said about it than [`emit`](Self::emit) does.
    pub fn draft(&mut self, value: O) -> Draft<'_, O> {
        Draft {
            causes: self.causes,
            event_time: self.event_time,
            previous: None,
            is_withdrawn: false,
            value,
            turn: self.turn,
            output: self.output,
            is_published: self.is_published,
        }
    }

    /// Asks for [`Operator::on_timer`] at `due`, or at once when that has passed. Timers due together fire in the order (due,
    /// operator, registration).
    pub fn set_timer(&mut self, due: Micros, token: u64) {
        self.turn.set_timer(due, self.node, token);
    }

    /// Refuses the event: it becomes a dead letter with this reason.
    pub fn reject(&mut self, reason: impl Into<String>) {
        self.turn.reject(self.node, reason.into());
    }

    /// Stops this session: an invariant is broken and going on would publish nonsense. The ledger goes on; a repaired operator replays.
    pub fn halt(&mut self, reason: impl Into<String>) {
        self.turn.halt(self.node, reason.into());
    }
}

/// A statement being prepared; nothing is said before [`emit`](Draft::emit).
#[must_use = "nothing is said before `emit`"]
pub struct Draft<'a, O> {
    turn: &'a mut Turn,
    output: &'a mut Vec<Emission<O>>,
    is_published: bool,
    value: O,
    causes: CauseRange,
    event_time: Micros,
    previous: Option<Issued>,
    is_withdrawn: bool,
}

impl<O> Draft<'_, O> {
    /// Because of these ledger records instead of the event being taken.
    pub fn because(mut self, causes: &[u64]) -> Self {
        self.causes = self.turn.add_causes(causes);
        self
    }

    /// It happened at `event_time` instead of when the event did.
    pub const fn at(mut self, event_time: Micros) -> Self {
        self.event_time = event_time;
        self
    }

    /// It corrects what was said before; with `None` it is a first statement.
    pub const fn correcting(mut self, previous: Option<Issued>) -> Self {
        self.previous = previous;
        self
    }

    /// It takes `previous` back, which has proved wrong: nothing takes its place. The value repeats what was said, so that its key tells
    /// readers what goes.
    pub const fn withdrawing(mut self, previous: Issued) -> Self {
        (self.previous, self.is_withdrawn) = (Some(previous), true);
        self
    }

    /// Says it.
    pub fn emit(self) -> Issued {
        let fact_seq = if self.is_published { self.turn.next_fact_seq() } else { 0 };
        let revision = self.previous.map_or(0, |previous| previous.revision + 1);
        let issued = Issued { fact_seq, revision };
        let supersedes = self.previous.map(|previous| previous.fact_seq);
        let Self { value, causes, event_time, is_withdrawn, .. } = self;
        self.output.push(Emission { value, causes, event_time, issued, supersedes, is_withdrawn });
        issued
    }
}
