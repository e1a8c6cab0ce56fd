//! What the graph promises: order, time, causes, corrections, refusals, limits, and what it refuses to build.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod toy;

use pitwall_engine::Micros;
use pitwall_engine::graph::{GraphBuilder, GraphError};
use pitwall_engine::limits::Limits;
use pitwall_engine::operator::{Context, Handle, Issued, Operator, Tick};
use pitwall_engine::session::{Output, RawRecord, Session};
use pitwall_schemas::codec::Avro;
use pitwall_schemas::shared::{FactHeader, KnownAtQuality};
use toy::{Number, PerSecond, Rate, SESSION, Sum, Total, Toy};

fn headers(output: &Output) -> Vec<(&'static str, FactHeader)> {
    output.facts.iter().map(|fact| (fact.kind.name, fact.header().unwrap().0)).collect()
}

#[test]
fn facts_are_numbered_densely_in_the_order_of_record_operator_and_emission() {
    let (_, output) = toy::run(&toy::arrivals(1, 500));
    let headers = headers(&output);
    assert!(headers.len() > 150, "the run says something: {}", headers.len());
    let mut kinds = std::collections::BTreeMap::new();
    for (index, (kind, header)) in headers.iter().enumerate() {
        assert_eq!(header.fact_seq, index as i64);
        let next = kinds.entry(kind).or_insert(0);
        assert_eq!(header.kind_seq, *next, "{kind}");
        *next += 1;
    }
    assert!(headers.windows(2).all(|pair| pair[0].1.known_at <= pair[1].1.known_at), "known_at never falls");
}

#[test]
fn a_correction_supersedes_the_fact_before_it_and_counts_revisions() {
    let (_, output) = toy::run(&[(0, 0, 1), (0, 10, 2), (0, 20, 3)]);
    let said: Vec<_> = headers(&output).into_iter().map(|(_, header)| (header.fact_seq, header.revision, header.supersedes)).collect();
    assert_eq!(said, [(0, 0, None), (1, 1, Some(0)), (2, 2, Some(1))]);
}

/// Says each number, and takes the one before back when the next is negative; the next operator counts what stands.
struct Claims;

impl Operator for Claims {
    const NAME: &'static str = "claims";
    const VERSION: u32 = 1;
    type Output = Total;
    type State = Option<(Issued, i64)>;
}

impl Handle<Number> for Claims {
    fn apply(&self, claim: &mut Option<(Issued, i64)>, number: &Number, context: &mut Context<'_, Total>) {
        let total = |value| Total { name: "claim".into(), value };
        match claim.take().filter(|_| number.value < 0) {
            Some((issued, value)) => {
                context.draft(total(value)).withdrawing(issued).emit();
            }
            None => *claim = Some((context.emit(total(number.value)), number.value)),
        }
    }
}

struct Standing;

impl Operator for Standing {
    const NAME: &'static str = "standing";
    const VERSION: u32 = 1;
    type Output = Rate;
    type State = i64;
}

impl Handle<Total> for Standing {
    fn apply(&self, standing: &mut i64, _claim: &Total, context: &mut Context<'_, Rate>) {
        *standing += if context.is_withdrawn() { -1 } else { 1 };
        context.emit(Rate(*standing));
    }
}

#[test]
fn a_fact_taken_back_repeats_what_it_supersedes_and_operators_behind_see_that_it_is_gone() {
    let mut builder = GraphBuilder::<Toy>::default();
    let claims = builder.publish(Claims, |inputs| inputs.samples::<Number>());
    builder.publish(Standing, |inputs| inputs.stream(claims));
    let graph = builder.build(Limits::default()).unwrap().for_session(SESSION, 0, KnownAtQuality::Received);
    let (mut session, mut output) = (Session::new(SESSION, graph, Limits::default()), Output::default());
    for (ms, value) in [(0, 5), (10, 6), (20, -1)] {
        toy::take(&mut session, ms, (0, ms, value), &mut output).unwrap();
    }
    let said: Vec<_> = output.facts.iter().map(|fact| fact.header().unwrap()).collect();
    let claims: Vec<_> = said.iter().step_by(2).map(|(header, _)| (header.fact_seq, header.supersedes, header.withdrawn)).collect();
    assert_eq!(claims, [(0, None, false), (2, None, false), (4, Some(2), true)]);
    assert_eq!(Total::decode(&mut said[4].1.clone()).unwrap().value, 6, "the body repeats what goes");
    let standing: Vec<_> = said.iter().skip(1).step_by(2).map(|(_, body)| Rate::decode(&mut body.clone()).unwrap().0).collect();
    assert_eq!(standing, [1, 2, 1]);
}

#[test]
fn every_fact_names_the_ledger_records_it_came_from() {
    let (_, output) = toy::run(&[(0, 100, 1), (1, 200, 5), (0, 300, 2), (0, 1_000_100, 3)]);
    let said: Vec<_> = headers(&output).into_iter().map(|(kind, header)| (kind, header.causes)).collect();
    // Ledger: 0 = first, 1 = the right stream's, 2 = third, 3 = the tick, 4 = the last.
    assert_eq!(said, [("totals", vec![0]), ("totals", vec![2]), ("rates", vec![0, 2]), ("totals", vec![4])]);
}

#[test]
fn a_timer_fires_before_the_record_that_reaches_it_with_its_own_moment_as_now() {
    let (_, output) = toy::run(&[(0, 0, 10), (0, 300_000, 7)]);
    let said: Vec<_> = output
        .facts
        .iter()
        .map(|fact| {
            let (header, mut body) = fact.header().unwrap();
            (header.known_at, Total::decode(&mut body).unwrap().value, header.causes)
        })
        .collect();
    assert_eq!(said, [(Micros(0), 10, vec![0]), (Micros(300_000), 10, vec![0]), (Micros(300_000), 17, vec![1])]);
}

#[test]
fn refused_input_becomes_a_dead_letter_and_the_session_goes_on() {
    let (mut session, mut output) = (toy::session(), Output::default());
    toy::take(&mut session, 0, (0, 0, -4), &mut output).unwrap();
    let garbage = RawRecord {
        stream: 0,
        partition: 2,
        offset: 77,
        ingest_seq: 1,
        received_at: Micros(5),
        payload: b"\xff",
        event: <Toy as pitwall_engine::Event>::decode(0, b"\xff"),
    };
    session.take(&garbage, &mut output).unwrap();
    let other = toy::payload(8, 1);
    let stranger = RawRecord {
        stream: 0,
        partition: 0,
        offset: 2,
        ingest_seq: 2,
        received_at: Micros(6),
        payload: &other,
        event: <Toy as pitwall_engine::Event>::decode(0, &other),
    };
    session.take(&stranger, &mut output).unwrap();
    toy::take(&mut session, 3, (0, 7, 4), &mut output).unwrap();
    let reasons: Vec<_> =
        output.dead_letters.iter().map(|letter| (letter.seq, letter.offset, letter.operator.as_deref(), letter.reason.as_str())).collect();
    assert_eq!(
        reasons,
        [
            (0, 0, Some("sum"), "a number is negative"),
            (1, 77, None, "the record is cut short"),
            (2, 2, None, "the document belongs to session 8, not 7")
        ]
    );
    assert_eq!(output.facts.len(), 1);
}

#[test]
fn a_dead_letter_keeps_no_more_of_its_input_than_the_limit() {
    let limits = Limits { dead_letter_payload_bytes_max: 3, ..Limits::default() };
    let mut session = Session::new(SESSION, toy::graph(), limits);
    let mut output = Output::default();
    let garbage = RawRecord {
        stream: 0,
        partition: 0,
        offset: 0,
        ingest_seq: 0,
        received_at: Micros(5),
        payload: &[0xff; 9],
        event: <Toy as pitwall_engine::Event>::decode(0, &[0xff; 9]),
    };
    session.take(&garbage, &mut output).unwrap();
    assert_eq!(output.dead_letters[0].payload, [0xff; 3]);
}

#[test]
fn a_broken_invariant_halts_the_session_withholds_the_records_facts_and_leaves_the_ledger_going() {
    let (mut session, mut output) = (toy::session(), Output::with_ledger());
    toy::take(&mut session, 0, (0, 0, 1), &mut output).unwrap();
    let halted = toy::take(&mut session, 1, (0, 10, 666), &mut output).unwrap_err();
    assert_eq!(halted.to_string(), "operator `sum` halted the session at ledger record 1: the number of the beast");
    toy::take(&mut session, 2, (0, 20, 1), &mut output).unwrap();
    assert_eq!((output.facts.len(), output.ledger.as_ref().unwrap().len()), (1, 3));
    assert_eq!(session.halted(), Some(&halted));
}

/// Sets more timers, says more, or names no cause, as its parameter tells.
struct Excess(&'static str);

impl Operator for Excess {
    const NAME: &'static str = "excess";
    const VERSION: u32 = 1;
    type Output = Rate;
    type State = ();
}

impl Handle<Number> for Excess {
    fn apply(&self, (): &mut (), _number: &Number, context: &mut Context<'_, Rate>) {
        match self.0 {
            "timers" => (0..5).for_each(|token| context.set_timer(context.now().plus(1_000_000), token)),
            "facts" => {
                for value in 0..5 {
                    context.emit(Rate(value));
                }
            }
            "causes" => {
                context.emit_because(&[1, 2, 3, 4, 5], Rate(0));
            }
            _ => {
                context.emit_because(&[], Rate(0));
            }
        }
    }
}

fn excess(which: &'static str) -> (Result<(), pitwall_engine::graph::Halted>, Output) {
    let limits = Limits { timers_max: 4, facts_per_record_max: 4, causes_max: 3, ..Limits::default() };
    let mut graph = GraphBuilder::<Toy>::default();
    graph.publish(Excess(which), |inputs| inputs.samples::<Number>());
    let graph = graph.build(limits.clone()).unwrap().for_session(SESSION, 0, pitwall_schemas::shared::KnownAtQuality::Received);
    let (mut session, mut output) = (Session::new(SESSION, graph, limits), Output::default());
    let result = toy::take(&mut session, 0, (0, 0, 1), &mut output);
    (result, output)
}

#[test]
fn an_operator_that_runs_away_halts_its_session_at_the_named_limit() {
    for (which, reason) in [
        ("timers", "more than 4 timers wait"),
        ("facts", "one ledger record caused more than 4 facts"),
        ("none", "a fact of kind `rates` names no causes"),
    ] {
        let (result, output) = excess(which);
        assert_eq!(result.unwrap_err().reason, reason);
        assert!(output.facts.is_empty(), "what the record would have published is withheld");
    }
}

#[test]
fn of_more_causes_than_the_limit_the_newest_are_kept() {
    let (result, output) = excess("causes");
    result.unwrap();
    assert_eq!(headers(&output)[0].1.causes, [3, 4, 5]);
}

#[test]
fn a_graph_with_two_operators_of_one_name_is_refused() {
    let mut graph = GraphBuilder::<Toy>::default();
    graph.publish(Sum, |inputs| inputs.samples::<Number>());
    graph.publish(Sum, |inputs| inputs.samples::<Number>());
    assert_eq!(graph.build(Limits::default()).err(), Some(GraphError::DuplicateName("sum")));
}

#[test]
fn a_graph_with_two_authors_of_one_fact_kind_is_refused() {
    let mut graph = GraphBuilder::<Toy>::default();
    graph.publish(PerSecond, |inputs| inputs.ticks());
    graph.publish(Excess("facts"), |inputs| inputs.samples::<Number>());
    assert_eq!(graph.build(Limits::default()).err(), Some(GraphError::DuplicateKind("rates")));
}

#[test]
fn a_graph_with_an_output_that_nobody_takes_is_refused() {
    let mut graph = GraphBuilder::<Toy>::default();
    graph.add(Sum, |inputs| inputs.samples::<Number>());
    assert_eq!(graph.build(Limits::default()).err(), Some(GraphError::Unconsumed("sum")));
}

#[test]
fn a_graph_with_an_operator_that_takes_nothing_is_refused() {
    let mut graph = GraphBuilder::<Toy>::default();
    graph.publish(Sum, |inputs| inputs);
    assert_eq!(graph.build(Limits::default()).err(), Some(GraphError::NoInput("sum")));
}

struct Renamed;
impl Operator for Renamed {
    const NAME: &'static str = "sum";
    const VERSION: u32 = 2;
    type Output = Total;
    type State = ();
}
impl Handle<Tick> for Renamed {
    fn apply(&self, (): &mut (), _tick: &Tick, _context: &mut Context<'_, Total>) {}
}

#[test]
fn the_graphs_hash_changes_with_names_versions_edges_and_parameters_and_with_nothing_else() {
    let hash = |join: &dyn Fn(&mut GraphBuilder<Toy>)| {
        let mut graph = GraphBuilder::default();
        join(&mut graph);
        graph.build(Limits::default()).unwrap().hash()
    };
    let plain = hash(&toy::join);
    assert_eq!(plain, hash(&toy::join));
    let renamed = hash(&|graph| {
        graph.publish(Renamed, |inputs| inputs.ticks());
    });
    let without_ticks = hash(&|graph| {
        let totals = graph.publish(Sum, |inputs| inputs.samples::<Number>());
        graph.publish(PerSecond, |inputs| inputs.stream(totals));
    });
    assert_ne!(plain, renamed);
    assert_ne!(plain, without_ticks);
}
