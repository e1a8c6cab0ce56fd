//! A session that another graph derived is derived anew: readers see one switch, and nothing of the epoch before is lost.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod toy;

use pitwall_engine::commit::{Engine, EngineError};
use pitwall_engine::facts::FactBatch;
use pitwall_engine::graph::{Graph, GraphBuilder};
use pitwall_engine::ledger::decode_block;
use pitwall_engine::limits::Limits;
use pitwall_engine::log::{EventLog, SessionState};
use pitwall_engine::memory::{Faults, MemoryLog, Seeded};
use pitwall_engine::operator::{Context, Handle, Operator};
use pitwall_engine::session::{Output, Session};
use pitwall_engine::{Event, Micros};
use pitwall_schemas::log::{LedgerKind, Upgrade};
use pitwall_schemas::shared::KnownAtQuality;
use toy::{Arrival, Number, SESSION, Sum, SumState, Total, Toy};

/// The next version of [`Sum`]: it says twice the total, and negative numbers are welcome.
struct Twice;

impl Operator for Twice {
    const NAME: &'static str = Sum::NAME;
    const VERSION: u32 = Sum::VERSION + 1;
    type Output = Total;
    type State = SumState;
}

impl Handle<Number> for Twice {
    fn apply(&self, state: &mut SumState, number: &Number, context: &mut Context<'_, Total>) {
        state.total += number.value;
        context.emit(Total { name: "sum".into(), value: 2 * state.total });
    }
}

fn next_graph() -> Graph<Toy> {
    let mut graph = GraphBuilder::default();
    graph.publish(Twice, |inputs| inputs.samples::<Number>());
    graph.build(Limits::default()).unwrap().for_session(SESSION, 0, KnownAtQuality::Received)
}

fn limits() -> Limits {
    Limits { commit_records_live_max: 20, commit_records_behind_max: 60, keyframe_records: 50, ..Limits::default() }
}

fn start(log: &MemoryLog, graph: fn() -> Graph<Toy>) -> Result<Engine<Toy, MemoryLog>, EngineError<std::convert::Infallible>> {
    Engine::start(log.clone(), SESSION, graph, limits())
}

fn drain(engine: &mut Engine<Toy, MemoryLog>) {
    while engine.step(None).unwrap().records > 0 {}
}

fn facts(log: &MemoryLog, epoch: i32) -> FactBatch {
    log.clone().facts(SESSION, epoch, 0, usize::MAX).unwrap()
}

/// What the next graph says of these arrivals when it takes over after the first `before` of them; made without a log.
fn undisturbed(arrivals: &[Arrival], before: usize) -> Output {
    let (mut session, mut output) = (Session::new(SESSION, next_graph().in_epoch(1), limits()), Output::default());
    for (ingest_seq, &arrival) in arrivals.iter().enumerate() {
        if ingest_seq == before {
            session.take_upgrade(&Upgrade { epoch: 1, graph_hash: [0; 32], is_closed: false }, &mut output).unwrap();
        }
        toy::take(&mut session, ingest_seq as i64, arrival, &mut output).unwrap();
    }
    output
}

#[test]
fn another_graph_derives_the_session_anew_and_goes_on_from_there() {
    let arrivals = toy::arrivals(1, 300);
    let log = MemoryLog::new(Toy::STREAMS, Faults::default(), 1);
    toy::fill(&log, &arrivals[..200]);
    let mut engine = start(&log, toy::graph).unwrap();
    drain(&mut engine);
    let (before, buried) = (facts(&log, 0), log.dead_letters(SESSION));
    assert!(!buried.is_empty(), "the first version refuses negative numbers");

    let mut next = start(&log, next_graph).unwrap();
    let head = *next.head().unwrap();
    assert_eq!((head.epoch, head.graph_hash), (1, next_graph().hash()));
    assert!(matches!(engine.step(None), Err(EngineError::Fenced(SESSION)) | Ok(pitwall_engine::commit::Step { records: 0, .. })));
    let told = next.step(None).unwrap();
    assert_eq!(told.facts, facts(&log, 1), "observers are told of all facts of the new epoch");
    assert_eq!(next.committed(&told).unwrap().head, head);
    assert_eq!(log.dead_letters(SESSION), buried, "nothing is buried twice");

    toy::fill(&log, &arrivals[200..]);
    drain(&mut next);
    assert_eq!(facts(&log, 1), undisturbed(&arrivals, 200).facts);
    assert_eq!(facts(&log, 0), before, "the epoch before can still be read, and nothing was added to it");

    let again = start(&log, next_graph).unwrap();
    assert_eq!(again.head(), next.head(), "a restart of the same graph changes nothing");
    let upgrades =
        log.clone().ledger(SESSION, 0).unwrap().iter().flat_map(|block| decode_block(block).unwrap().records).collect::<Vec<_>>();
    assert_eq!(upgrades.iter().filter(|record| record.kind == LedgerKind::Upgrade).count(), 1);
}

#[test]
fn a_closed_session_stays_closed_and_has_the_facts_that_its_arrivals_give() {
    let arrivals = toy::arrivals(2, 120);
    let log = MemoryLog::new(Toy::STREAMS, Faults::default(), 1);
    toy::fill(&log, &arrivals);
    let mut engine = start(&log, toy::graph).unwrap();
    drain(&mut engine);
    engine.close().unwrap();
    let mut next = start(&log, next_graph).unwrap();
    assert!(next.is_closed());
    assert_eq!(next.head().unwrap().state, SessionState::Complete);
    next.step(None).unwrap();
    assert_eq!(next.close().unwrap().records, 0, "it is not closed twice");
    assert!(start(&log, next_graph).unwrap().is_closed(), "also after a restart");

    let (mut session, mut output) = (Session::new(SESSION, next_graph(), limits()), Output::default());
    for (ingest_seq, &arrival) in arrivals.iter().enumerate() {
        toy::take(&mut session, ingest_seq as i64, arrival, &mut output).unwrap();
    }
    session.take_idle(session.sequencer().last_known_at().unwrap().plus(Micros::SECOND), &mut output).unwrap();
    assert_eq!(next.head().unwrap().facts_hash, session.facts_hash(), "as if this graph had always been there");
}

#[test]
fn a_session_without_a_ledger_begins_with_epoch_0_whatever_the_graph() {
    let log = MemoryLog::new(Toy::STREAMS, Faults::default(), 1);
    let mut engine = start(&log, next_graph).unwrap();
    toy::fill(&log, &[(0, 0, 1)]);
    engine.step(None).unwrap();
    assert_eq!(engine.head().unwrap().epoch, 0);
}

/// Aborts, lost acknowledgements, damaged keyframes and restarts on both sides of an upgrade.
#[test]
fn a_disturbed_upgrade_comes_to_the_facts_of_an_undisturbed_one() {
    let mut injected = 0;
    for seed in 0..200 {
        let mut seeded = Seeded::new(seed);
        let arrivals = toy::arrivals(seed, 240);
        let before = 1 + seeded.below(200) as usize;
        let log = MemoryLog::new(Toy::STREAMS, Faults::all(60), seed);
        toy::fill(&log, &arrivals[..before]);
        run_disturbed(&log, &mut seeded, toy::graph);
        toy::fill(&log, &arrivals[before..]);
        run_disturbed(&log, &mut seeded, next_graph);
        assert_eq!(facts(&log, 1), undisturbed(&arrivals, before).facts, "seed {seed}");
        assert!(facts(&log, 2).is_empty(), "seed {seed}: one upgrade, one epoch");
        injected += log.injected();
    }
    assert!(injected > 400, "only {injected} faults");
}

fn run_disturbed(log: &MemoryLog, seeded: &mut Seeded, graph: fn() -> Graph<Toy>) {
    // The log may abort every attempt at an upgrade: whoever starts the engine tries again.
    let restart = || loop {
        match start(log, graph) {
            Ok(engine) => return engine,
            Err(EngineError::NotRebuilt { epoch: 1, .. }) => {}
            Err(error) => panic!("{error}"),
        }
    };
    let mut engine = restart();
    let mut idle = 0;
    while idle < 8 {
        if seeded.below(10) == 0 {
            engine = restart();
        } else {
            let step = engine.step(None).unwrap();
            idle = if step.records == 0 && !step.has_recovered { idle + 1 } else { 0 };
        }
    }
}
