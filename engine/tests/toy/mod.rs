//! A small world for the engine's own tests: numbers on two streams, and operators that add them up. No Formula 1.
#![allow(dead_code, reason = "each test file uses a part of it")]

use pitwall_engine::graph::{Graph, GraphBuilder};
use pitwall_engine::limits::Limits;
use pitwall_engine::memory::{MemoryLog, Seeded};
use pitwall_engine::operator::{Context, Handle, Issued, Operator, Tick};
use pitwall_engine::session::{Output, RawRecord, Session};
use pitwall_engine::{Carries, Event, Micros};
use pitwall_schemas::codec::{Avro, DecodeError, Fact, Item, Keyed, Reader, Record};
use pitwall_schemas::openf1::Refusal;
use pitwall_schemas::shared::KnownAtQuality;
use serde::{Deserialize, Serialize};

pub(crate) const SESSION: i32 = 7;

/// A number that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Number {
    pub(crate) session_key: i32,
    pub(crate) value: i64,
}

/// An event of the toy world: a number on one of two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Toy {
    Left(Number),
    Right(Number),
}

impl Event for Toy {
    const STREAMS: &'static [&'static str] = &["left", "right"];

    fn decode(stream: u16, payload: &[u8]) -> Result<Self, Refusal> {
        let mut reader = Reader::new(payload);
        let number = Number { session_key: i32::decode(&mut reader)?, value: i64::decode(&mut reader)? };
        reader.finish()?;
        Ok(if stream == 0 { Self::Left(number) } else { Self::Right(number) })
    }
    fn stream(&self) -> u16 {
        u16::from(matches!(self, Self::Right(_)))
    }
    fn session_key(&self) -> i32 {
        let (Self::Left(number) | Self::Right(number)) = self;
        number.session_key
    }
    fn event_time(&self) -> Option<Micros> {
        None
    }
}

impl Carries<Number> for Toy {
    const STREAM: u16 = 0;
    fn get(&self) -> Option<&Number> {
        if let Self::Left(number) = self { Some(number) } else { None }
    }
}

pub(crate) fn payload(session_key: i32, value: i64) -> Vec<u8> {
    let mut bytes = Vec::new();
    session_key.encode(&mut bytes);
    value.encode(&mut bytes);
    bytes
}

/// A fact about a total.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Total {
    pub(crate) name: String,
    pub(crate) value: i64,
}

impl Item for Total {}
impl Avro for Total {
    fn encode(&self, out: &mut Vec<u8>) {
        self.name.encode(out);
        self.value.encode(out);
    }
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { name: String::decode(reader)?, value: i64::decode(reader)? })
    }
}
impl Record for Total {
    const NAME: &'static str = "toy.Total";
    const SCHEMA: &'static str = "{}";
    const FINGERPRINT: u64 = 1;
}
impl Keyed for Total {
    fn encode_key(&self, out: &mut Vec<u8>) {
        self.name.encode(out);
    }
}
impl Fact for Total {
    const KIND: &'static str = "totals";
}

/// A fact about a second.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rate(pub(crate) i64);

impl Avro for Rate {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        i64::decode(reader).map(Self)
    }
}
impl Record for Rate {
    const NAME: &'static str = "toy.Rate";
    const SCHEMA: &'static str = "{}";
    const FINGERPRINT: u64 = 2;
}
impl Keyed for Rate {
    fn encode_key(&self, _out: &mut Vec<u8>) {}
}
impl Fact for Rate {
    const KIND: &'static str = "rates";
}

/// The running total of a stream, each statement correcting the one before. Rejects negative numbers; halts at 666.
pub(crate) struct Sum;

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct SumState {
    pub(crate) total: i64,
    previous: Option<Issued>,
}

impl Operator for Sum {
    const NAME: &'static str = "sum";
    const VERSION: u32 = 1;
    type Output = Total;
    type State = SumState;

    fn on_timer(&self, state: &mut SumState, token: u64, context: &mut Context<'_, Total>) {
        context.emit_because(&[token], Total { name: "later".into(), value: state.total });
    }
}

impl Handle<Number> for Sum {
    fn apply(&self, state: &mut SumState, number: &Number, context: &mut Context<'_, Total>) {
        if number.value < 0 {
            return context.reject("a number is negative");
        }
        if number.value == 666 {
            return context.halt("the number of the beast");
        }
        state.total += number.value;
        if number.value % 10 == 0 {
            context.set_timer(context.now().plus(300_000), context.seq());
        }
        state.previous = Some(context.draft(Total { name: "sum".into(), value: state.total }).correcting(state.previous).emit());
    }
}

/// Each second, how many totals were said since the last.
pub(crate) struct PerSecond;

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct PerSecondState {
    said: i64,
    causes: Vec<u64>,
}

impl Operator for PerSecond {
    const NAME: &'static str = "per_second";
    const VERSION: u32 = 1;
    type Output = Rate;
    type State = PerSecondState;
}

impl Handle<Total> for PerSecond {
    fn apply(&self, state: &mut PerSecondState, _total: &Total, context: &mut Context<'_, Rate>) {
        state.said += 1;
        state.causes.extend_from_slice(context.causes());
    }
}

impl Handle<Tick> for PerSecond {
    fn apply(&self, state: &mut PerSecondState, _tick: &Tick, context: &mut Context<'_, Rate>) {
        if state.said > 0 {
            context.emit_because(&state.causes, Rate(state.said));
            *state = PerSecondState::default();
        }
    }
}

pub(crate) fn join(graph: &mut GraphBuilder<Toy>) {
    let totals = graph.publish(Sum, |inputs| inputs.samples::<Number>());
    graph.publish(PerSecond, |inputs| inputs.stream(totals).ticks());
}

pub(crate) fn graph_with(limits: Limits, more: impl FnOnce(&mut GraphBuilder<Toy>)) -> Graph<Toy> {
    let mut graph = GraphBuilder::default();
    join(&mut graph);
    more(&mut graph);
    graph.build(limits).unwrap().for_session(SESSION, 0, KnownAtQuality::Received)
}

pub(crate) fn graph() -> Graph<Toy> {
    graph_with(Limits::default(), |_| {})
}

pub(crate) fn session() -> Session<Toy> {
    Session::new(SESSION, graph(), Limits::default())
}

/// One arrival: stream, arrival time in µs, value.
pub(crate) type Arrival = (u16, i64, i64);

/// Arrivals that a seed determines, about 40 ms apart.
pub(crate) fn arrivals(seed: u64, count: usize) -> Vec<Arrival> {
    let mut seeded = Seeded::new(seed);
    let mut at = 0;
    (0..count)
        .map(|_| {
            at += seeded.below(80_000) as i64;
            (seeded.below(3).min(1) as u16, at, seeded.below(100) as i64 - 5)
        })
        .collect()
}

pub(crate) fn take(
    session: &mut Session<Toy>,
    ingest_seq: i64,
    (stream, at, value): Arrival,
    output: &mut Output,
) -> Result<(), pitwall_engine::graph::Halted> {
    let bytes = payload(SESSION, value);
    let raw = RawRecord {
        stream,
        partition: 0,
        offset: ingest_seq,
        ingest_seq,
        received_at: Micros(at),
        payload: &bytes,
        event: Toy::decode(stream, &bytes),
    };
    session.take(&raw, output)
}

/// All arrivals through one session, undisturbed.
pub(crate) fn run(arrivals: &[Arrival]) -> (Session<Toy>, Output) {
    let (mut session, mut output) = (session(), Output::default());
    for (ingest_seq, &arrival) in arrivals.iter().enumerate() {
        take(&mut session, ingest_seq as i64, arrival, &mut output).unwrap();
    }
    (session, output)
}

pub(crate) fn fill(log: &MemoryLog, arrivals: &[Arrival]) {
    for &(stream, at, value) in arrivals {
        log.append_raw(SESSION, stream, Micros(at), &payload(SESSION, value));
    }
}
