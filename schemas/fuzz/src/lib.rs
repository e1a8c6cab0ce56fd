//! What every decoder owes to any bytes: a value or a typed error, never a panic, and a value that it wrote itself it reads again.
//!
//! Each function takes any input, says whether some decoder accepted it, and panics when a rule is broken. The fuzz targets call them
//! with what libFuzzer makes up, `tests/fuzz_corpora.rs` with the corpora and seeded mutations:
//!
//! ```text
//! cd schemas && cargo +nightly fuzz run sample_avro -- -max_total_time=600 -malloc_limit_mb=64 -max_len=65536
//! ```
//!
//! Targets: `sample_avro`, `sample_json`, `fact_avro`, `wire_frame`, `ledger`, `time`. A new finding belongs into
//! `fuzz/corpus/<target>/`, where it is replayed from then on.

use pitwall_schemas::codec::{Avro, DecodeError, Reader, RecordType};
use pitwall_schemas::facts::{self, FactBody};
use pitwall_schemas::log::{self, Keyframe, LedgerBlock};
use pitwall_schemas::raw::{Collection, Sample};
use pitwall_schemas::shared::FactHeader;
use pitwall_schemas::time::Micros;
use pitwall_schemas::wire;
use serde_json::{Map, Value};

/// A target by name.
pub type Target = (&'static str, fn(&[u8]) -> bool);

/// Every target.
pub const TARGETS: &[Target] = &[
    ("sample_avro", sample_avro),
    ("sample_json", sample_json),
    ("fact_avro", fact_avro),
    ("wire_frame", wire_frame),
    ("ledger", ledger),
    ("time", time),
];

/// The bytes as a document of each collection.
pub fn sample_avro(bytes: &[u8]) -> bool {
    let mut accepted = false;
    for &collection in Collection::ALL {
        if let Ok(sample) = Sample::decode(collection, &mut Reader::new(bytes)) {
            accepted = true;
            sample_reads_back(collection, &sample);
        }
    }
    accepted
}

/// The bytes as a JSON document of each collection.
pub fn sample_json(bytes: &[u8]) -> bool {
    let Ok(document) = serde_json::from_slice::<Map<String, Value>>(bytes) else { return false };
    let mut accepted = false;
    for &collection in Collection::ALL {
        match Sample::from_json(collection, &document) {
            Ok(sample) => {
                accepted = true;
                sample_reads_back(collection, &sample);
            }
            Err(refusal) => assert!(refusal.to_string().contains('`'), "a refusal of JSON names the field: {refusal}"),
        }
    }
    accepted
}

fn sample_reads_back(collection: Collection, sample: &Sample) {
    let mut bytes = Vec::new();
    sample.encode(&mut bytes);
    let mut reader = Reader::new(&bytes);
    assert_eq!(Sample::decode(collection, &mut reader).as_ref(), Ok(sample));
    assert_eq!(reader.finish(), Ok(()));
    assert_eq!(sample.collection(), collection);
    let _ = (sample.event_time(), sample.session_key());
}

/// The bytes as a fact of each kind: header, then body.
pub fn fact_avro(bytes: &[u8]) -> bool {
    let mut reader = Reader::new(bytes);
    let Ok(header) = FactHeader::decode(&mut reader) else { return false };
    let mut written = Vec::new();
    header.encode(&mut written);
    assert_eq!(FactHeader::decode(&mut Reader::new(&written)), Ok(header));
    let body = reader.rest();
    let mut accepted = false;
    for (kind, record) in facts::RECORDS {
        let read = FactBody::decode(kind, &mut Reader::new(body)).expect("a kind of ours");
        accepted |= read.is_ok();
        assert_eq!(read.is_ok(), record_reads_back(record, body).is_ok(), "{kind}");
        if let Ok(fact) = read {
            fact.encode_key(&mut Vec::new());
        }
    }
    accepted
}

/// The bytes as each record that the engine stores.
pub fn ledger(bytes: &[u8]) -> bool {
    let _ = LedgerBlock::decode(&mut Reader::new(bytes));
    let _ = Keyframe::decode(&mut Reader::new(bytes));
    log::RECORDS.iter().filter(|(_, record)| record_reads_back(record, bytes).is_ok()).count() > 0
}

/// Compared as bytes, since of two facts that are not a number neither equals the other.
fn record_reads_back(record: &RecordType, bytes: &[u8]) -> Result<(), DecodeError> {
    let written = (record.decode)(&mut Reader::new(bytes))?.to_avro();
    let mut reader = Reader::new(&written);
    let again = (record.decode)(&mut reader).unwrap_or_else(|error| panic!("{}: {error}", record.name));
    assert_eq!(reader.finish(), Ok(()), "{}", record.name);
    assert_eq!(again.to_avro(), written, "{}", record.name);
    Ok(())
}

/// The bytes as a framed message.
pub fn wire_frame(bytes: &[u8]) -> bool {
    let Ok((id, record)) = wire::split_frame(bytes) else { return false };
    let mut written = Vec::new();
    wire::write_frame(id, &mut written);
    written.extend_from_slice(record);
    assert_eq!(written, bytes);
    true
}

/// The bytes as a text with a date, and their first eight as a time.
pub fn time(bytes: &[u8]) -> bool {
    if let Some(first) = bytes.first_chunk() {
        let time = Micros(i64::from_le_bytes(*first));
        let second = time.whole_second();
        assert!(second <= time && time.since(second) < Micros::SECOND);
        assert!(time.plus(1) >= time && time.plus(-1) <= time);
        if let Ok(read) = time.to_string().parse::<Micros>() {
            assert_eq!(read, time);
        }
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let Ok(time) = text.parse::<Micros>() else { return false };
    assert_eq!(time.to_string().parse(), Ok(time), "{text}");
    true
}
