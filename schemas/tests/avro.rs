//! `apache-avro` is the authority on Avro: whatever one of it and our generated codec writes, the other reads as the same values.
//!
//! Values are generated from the schemas themselves, so a new schema file is covered without a line here. One direction is enough for
//! both: if our reading of apache-avro's bytes has the same fields, and our writing of that gives the same bytes, each reads the other.

mod support;

use apache_avro::Schema;
use apache_avro::rabin::Rabin;
use apache_avro::types::Value;
use pitwall_schemas::codec::{Avro, Reader, Reading, RecordType, write_long};
use pitwall_schemas::event::Event as _;
use pitwall_schemas::facts::{self, FactBody};
use pitwall_schemas::raw::{self, ARCHIVE_SCHEMA, Collection, Sample};
use pitwall_schemas::shared::FactHeader;
use pitwall_schemas::time::Micros;
use pitwall_schemas::{log, shared};
use support::{decode, encode, every_record, expanded, for_values, json, parsed};

const CASES: u32 = 256;

fn same<T: PartialEq + std::fmt::Debug>(what: &str, ours: &T, authority: &T) -> Result<(), String> {
    if ours == authority { Ok(()) } else { Err(format!("{what}: {ours:?} is not {authority:?}")) }
}

/// Holds one of our record types against a schema.
fn agreement(record: RecordType, schema: &Schema) -> Result<(), String> {
    for_values(schema, CASES, |value| {
        let bytes = encode(schema, value.clone())?;
        let mut reader = Reader::new(&bytes);
        let read = (record.decode)(&mut reader).map_err(|error| error.to_string())?;
        reader.finish().map_err(|error| error.to_string())?;
        same("fields", &read.to_json().map_err(|error| error.to_string())?, &json(&value))?;
        same("bytes", &read.to_avro(), &bytes)?;
        same("apache-avro's reading", &decode(schema, &read.to_avro())?, &value)
    })
}

#[test]
fn every_schema_is_valid_and_its_fingerprint_is_apache_avros() {
    for (directory, stem, record) in every_record() {
        let schema = parsed(record.schema);
        let digest = schema.fingerprint::<Rabin>();
        assert_eq!(digest.bytes, record.fingerprint.to_le_bytes(), "{directory}/{stem}");
        let name = schema.name().expect("a record has a name").fullname(None);
        assert_eq!(name, record.name, "{directory}/{stem}");
    }
}

#[test]
fn every_log_and_shared_record_is_read_and_written_as_apache_avro_does() {
    assert!(!log::RECORDS.is_empty() && !shared::RECORDS.is_empty());
    for (stem, record) in log::RECORDS.iter().chain(shared::RECORDS) {
        agreement(*record, &parsed(record.schema)).unwrap_or_else(|error| panic!("{stem}: {error}"));
    }
}

#[test]
fn every_sample_is_read_and_written_as_apache_avro_does() {
    for (&collection, &(stem, record)) in Collection::ALL.iter().zip(raw::RECORDS) {
        assert_eq!((collection.name(), collection.schema()), (stem, record.schema));
        let schema = parsed(collection.schema());
        for_values(&schema, CASES, |value| {
            let bytes = encode(&schema, value.clone())?;
            let sample =
                <Sample as pitwall_schemas::event::Event>::decode(collection as u16, &bytes).map_err(|refusal| refusal.to_string())?;
            same("collection", &sample.collection(), &collection)?;
            same("stream", &Sample::STREAMS[usize::from(sample.stream())], &stem)?;
            same("fields", &serde_json::to_value(&sample).map_err(|error| error.to_string())?, &json(&value))?;
            let mut ours = Vec::new();
            sample.encode(&mut ours);
            same("bytes", &ours, &bytes)?;
            same("apache-avro's reading", &decode(&schema, &ours)?, &value)
        })
        .unwrap_or_else(|error| panic!("{stem}: {error}"));
    }
    assert_eq!(Collection::ALL.len(), raw::RECORDS.len());
}

#[test]
fn every_fact_is_its_header_followed_by_its_body() {
    for (&(kind, text), &(stem, record)) in facts::KINDS.iter().zip(facts::RECORDS) {
        assert_eq!((kind, text), (stem, record.schema));
        let schema = parsed(text);
        for_values(&schema, CASES, |value| {
            let bytes = encode(&schema, value.clone())?;
            let mut reader = Reader::new(&bytes);
            let header = FactHeader::decode(&mut reader).map_err(|error| error.to_string())?;
            let body_bytes = reader.rest();
            let body = FactBody::decode(kind, &mut reader).ok_or("the kind is unknown")?.map_err(|error| error.to_string())?;
            reader.finish().map_err(|error| error.to_string())?;
            same("kind", &body.kind(), &kind)?;

            let mut read = serde_json::to_value(&body).map_err(|error| error.to_string())?;
            read["header"] = serde_json::to_value(&header).map_err(|error| error.to_string())?;
            same("fields", &read, &json(&value))?;

            let mut ours = Vec::new();
            header.encode(&mut ours);
            let typed = (record.decode)(&mut Reader::new(body_bytes)).map_err(|error| error.to_string())?;
            ours.extend(typed.to_avro());
            same("bytes", &ours, &bytes)?;
            same("apache-avro's reading", &decode(&schema, &ours)?, &value)
        })
        .unwrap_or_else(|error| panic!("{kind}: {error}"));
    }
    assert_eq!(facts::KINDS.len(), facts::RECORDS.len());
    assert!(FactBody::decode("no_such_kind", &mut Reader::new(&[])).is_none());
}

#[test]
fn an_archive_line_is_its_arrival_the_collections_number_and_the_sample() {
    let schema = parsed(ARCHIVE_SCHEMA);
    let Schema::Record(line) = expanded(&schema) else { panic!("an archive line is a record") };
    let Schema::Union(documents) = &line.fields[1].schema else { panic!("an archive's document is a union") };
    assert_eq!(documents.variants().len(), Collection::ALL.len());
    for (branch, &collection) in Collection::ALL.iter().enumerate() {
        for_values(&documents.variants()[branch], CASES / 4, |document| {
            let received_at = 1_756_645_401_220_000;
            let value = Value::Record(vec![
                ("received_at".into(), Value::TimestampMicros(received_at)),
                ("document".into(), Value::Union(branch as u32, Box::new(document))),
            ]);
            let bytes = encode(&schema, value.clone())?;
            let mut reader = Reader::new(&bytes);
            same("arrival", &Micros::decode(&mut reader), &Ok(Micros(received_at)))?;
            same("collection", &reader.long(), &Ok(collection as i64))?;
            let sample = Sample::decode(collection, &mut reader).map_err(|refusal| refusal.to_string())?;
            reader.finish().map_err(|error| error.to_string())?;

            let mut ours = Vec::new();
            Micros(received_at).encode(&mut ours);
            write_long(collection as i64, &mut ours);
            sample.encode(&mut ours);
            same("bytes", &ours, &bytes)?;
            same("apache-avro's reading", &decode(&schema, &ours)?, &value)
        })
        .unwrap_or_else(|error| panic!("{}: {error}", collection.name()));
    }
}

/// Plants faults in a schema, to prove that the agreement above is not empty.
#[test]
fn a_codec_that_strays_from_its_schema_is_noticed() {
    let location = RecordType::of::<raw::Location>();
    assert_eq!(agreement(location, &parsed(location.schema)), Ok(()));
    let swapped = location.schema.replace(r#""name":"x""#, r#""name":"?""#).replace(r#""name":"y""#, r#""name":"x""#);
    let swapped = swapped.replace(r#""name":"?""#, r#""name":"y""#);
    assert!(agreement(location, &parsed(&swapped)).expect_err("x and y are swapped").contains("fields"));

    let widened = location.schema.replace(r#"{"name":"x","type":"int""#, r#"{"name":"x","type":"double""#);
    assert_ne!(widened, location.schema);
    assert!(agreement(location, &parsed(&widened)).is_err());

    let header = RecordType::of::<FactHeader>();
    let reordered = header.schema.replace(r#"["RECEIVED","RECONSTRUCTED"]"#, r#"["RECONSTRUCTED","RECEIVED"]"#);
    assert_ne!(reordered, header.schema);
    assert!(agreement(header, &parsed(&reordered)).expect_err("the symbols are swapped").contains("fields"));
}

/// A document of `collection` with one field changed, as Avro.
fn with(collection: Collection, field: &str, wrong: &Value) -> Result<Sample, String> {
    let schema = parsed(collection.schema());
    let Ok(Value::Record(mut fields)) = decode(&schema, &support::encodings(&schema, 1)[0]) else { panic!("a record") };
    fields.iter_mut().filter(|(name, _)| name == field).for_each(|(_, value)| *value = wrong.clone());
    let bytes = encode(&schema, Value::Record(fields)).expect("it fits the schema");
    Sample::decode(collection, &mut Reader::new(&bytes)).map_err(|refusal| refusal.to_string())
}

#[test]
fn a_sample_outside_its_range_is_refused_in_avro_too() {
    assert!(with(Collection::Position, "position", &Value::Int(40)).is_ok());
    assert_eq!(with(Collection::Position, "position", &Value::Int(41)), Err("field `position` is 41, outside 1 to 40".into()));
}

#[test]
fn a_channel_out_of_its_range_is_no_reading_in_avro_too() {
    let Ok(Sample::CarData(sample)) = with(Collection::CarData, "speed", &Value::Int(501)) else { panic!("the sample stays") };
    assert_eq!((sample.speed, sample.speed_reading()), (501, None));
}

#[test]
fn a_number_that_json_cannot_hold_is_null_in_avro_too() {
    let double = |number: f64| Value::Union(1, Box::new(Value::Double(number)));
    let Ok(Sample::Weather(weather)) = with(Collection::Weather, "air_temperature", &double(f64::NAN)) else { panic!("it stays") };
    assert_eq!(weather.air_temperature, None);
    let Ok(Sample::Intervals(interval)) = with(Collection::Intervals, "gap_to_leader", &double(f64::INFINITY)) else { panic!("it stays") };
    assert_eq!(interval.gap_to_leader, Reading::Missing);
    let Ok(Sample::Laps(lap)) = with(Collection::Laps, "lap_duration", &double(f64::NAN)) else { panic!("it stays") };
    assert_eq!(lap.lap_duration, None);
    let list = Value::Union(1, Box::new(Value::Array(vec![Value::Union(0, Box::new(Value::Null)), double(f64::NEG_INFINITY)])));
    let Ok(Sample::SessionResult(result)) = with(Collection::SessionResult, "duration", &list) else { panic!("it stays") };
    assert_eq!(result.duration, None);
}
