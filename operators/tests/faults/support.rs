//! A session from a file under `tests/data/faults`, derived by the whole graph as a backtest does.

#![allow(dead_code, reason = "each file of tests uses a part of it")]

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use pitwall_engine::Micros;
use pitwall_engine::backtest::CLOSING_IDLE;
use pitwall_engine::limits::Limits;
use pitwall_engine::session::{Output, RawRecord, Session};
use pitwall_schemas::arrival::Arrivals;
use pitwall_schemas::codec::Fact;
use pitwall_schemas::openf1::Refusal;
use pitwall_schemas::raw::{Collection, Sample};
use pitwall_schemas::shared::{FactHeader, KnownAtQuality};
use serde_json::{Map, Value};

/// A document as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Arrival {
    pub(crate) collection: Collection,
    pub(crate) received_at: Micros,
    pub(crate) document: Map<String, Value>,
}

/// The documents of `tests/data/faults/NAME.jsonl`, in order of arrival.
pub(crate) fn arrivals(name: &str) -> Vec<Arrival> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/faults").join(name);
    let compressed = path.with_added_extension("jsonl.zst");
    let reader: Box<dyn Read> = if compressed.exists() {
        Box::new(zstd::Decoder::new(File::open(compressed).unwrap()).unwrap())
    } else {
        Box::new(File::open(path.with_added_extension("jsonl")).unwrap())
    };
    let lines = BufReader::new(reader).lines().map(Result::unwrap);
    lines.filter(|line| !line.trim().is_empty()).map(|line| arrival(serde_json::from_str(&line).unwrap())).collect()
}

fn arrival(mut line: Value) -> Arrival {
    let collection = Collection::named(line["collection"].as_str().unwrap()).unwrap();
    let received_at = line["received_at"].as_str().unwrap().parse().unwrap();
    let Value::Object(document) = line["doc"].take() else { panic!("`doc` is an object") };
    Arrival { collection, received_at, document }
}

/// Everything that was said of a session.
pub(crate) struct Derived {
    output: Output,
    /// Why documents could not be read.
    pub(crate) refusals: Vec<Refusal>,
}

/// What the whole graph says of `tests/data/faults/NAME.jsonl`.
pub(crate) fn derive(name: &str) -> Derived {
    derive_from(&arrivals(name))
}

/// What the whole graph says of `arrivals`, closed a second after the last one as a backtest closes its source.
pub(crate) fn derive_from(arrivals: &[Arrival]) -> Derived {
    let session_key = arrivals.iter().find_map(|arrival| arrival.document.get("session_key")?.as_i64()).unwrap() as i32;
    let graph = pitwall_operators::graph(&Limits::default()).unwrap().for_session(session_key, 0, KnownAtQuality::Received);
    let mut session = Session::new(session_key, graph, Limits::default()).without_keyframes();
    let (mut output, mut refusals) = (Output::default(), Vec::new());
    let mut last = Micros(0);
    for (ingest_seq, (received_at, arrival)) in (0..).zip(as_imported(arrivals)) {
        let mut document = arrival.document.clone();
        document.entry("session_key").or_insert(session_key.into());
        let sample = match Sample::from_json(arrival.collection, &document) {
            Ok(sample) => sample,
            Err(refusal) => {
                refusals.push(refusal);
                continue;
            }
        };
        last = last.max(received_at);
        let raw = RawRecord {
            stream: arrival.collection as u16,
            partition: 0,
            offset: ingest_seq,
            ingest_seq,
            received_at,
            payload: &[],
            event: Ok(sample),
        };
        session.take(&raw, &mut output).unwrap();
    }
    session.take_idle(last.plus(CLOSING_IDLE), &mut output).unwrap();
    Derived { output, refusals }
}

/// The documents with the arrival times that an import gives them.
fn as_imported(arrivals: &[Arrival]) -> Vec<(Micros, &Arrival)> {
    let mut settled = Arrivals::default();
    let mut imported: Vec<_> = arrivals.iter().filter_map(|arrival| settled.take(arrival.received_at, arrival)).collect();
    imported.extend(std::iter::from_fn(|| settled.give()));
    imported
}

impl Derived {
    /// All facts of one kind in order, those that take another back among them.
    pub(crate) fn facts<F: Fact>(&self) -> Vec<(FactHeader, F)> {
        let of_kind = self.output.facts.iter().filter(|fact| fact.kind.name == F::KIND);
        let read = of_kind.map(|fact| {
            let (header, mut body) = fact.header().unwrap();
            (header, F::decode(&mut body).unwrap())
        });
        read.collect()
    }

    /// What stands at the end: the newest fact about each thing, without those taken back, in the order in which they were said.
    pub(crate) fn standing<F: Fact>(&self) -> Vec<(FactHeader, F)> {
        let key = |fact: &F| {
            let mut key = Vec::new();
            fact.encode_key(&mut key);
            key
        };
        let facts = self.facts::<F>();
        let newest: std::collections::BTreeMap<Vec<u8>, i64> = facts.iter().map(|(header, fact)| (key(fact), header.fact_seq)).collect();
        let stands = |(header, fact): &(FactHeader, F)| newest[&key(fact)] == header.fact_seq && !header.withdrawn;
        facts.into_iter().filter(stands).collect()
    }

    /// Reasons of all documents that the graph refused.
    pub(crate) fn rejections(&self) -> Vec<&str> {
        self.output.dead_letters.iter().map(|letter| letter.reason.as_str()).collect()
    }
}
