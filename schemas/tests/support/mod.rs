//! Values of any schema, for tests that hold for every record and so must not list them.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::collections::BTreeMap;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::schema::UnionSchema;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use pitwall_schemas::codec::RecordType;
use pitwall_schemas::time::Micros;
use pitwall_schemas::{facts, log, raw, shared};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::{Union, ValueTree as _};
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

/// Every record type of every directory: (directory, file stem, type).
pub(crate) fn every_record() -> impl Iterator<Item = (&'static str, &'static str, RecordType)> {
    [("shared", shared::RECORDS), ("raw", raw::RECORDS), ("facts", facts::RECORDS), ("log", log::RECORDS)]
        .into_iter()
        .flat_map(|(directory, records)| records.iter().map(move |&(stem, record)| (directory, stem, record)))
}

pub(crate) fn parsed(schema: &str) -> Schema {
    Schema::parse_str(schema).unwrap_or_else(|error| panic!("{error}: {schema}"))
}

/// A runner that draws the same values on every machine and every run.
pub(crate) fn runner(cases: u32) -> TestRunner {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

/// Runs `test` over `cases` values of `schema`.
pub(crate) fn for_values(schema: &Schema, cases: u32, test: impl Fn(Value) -> Result<(), String>) -> Result<(), String> {
    runner(cases).run(&values(schema), |value| test(value).map_err(TestCaseError::fail)).map_err(|error| error.to_string())
}

/// `count` encodings of values of `schema`, made by apache-avro.
pub(crate) fn encodings(schema: &Schema, count: u32) -> Vec<Vec<u8>> {
    let mut runner = runner(count);
    let strategy = values(schema);
    (0..count)
        .map(|_| {
            let value = strategy.new_tree(&mut runner).expect("nothing is filtered").current();
            encode(schema, value).expect("a generated value fits its schema")
        })
        .collect()
}

/// apache-avro's encoding of `value`.
pub(crate) fn encode(schema: &Schema, value: Value) -> Result<Vec<u8>, String> {
    let writer = GenericDatumWriter::builder(schema).build().map_err(|error| error.to_string())?;
    writer.write_value_to_vec(value).map_err(|error| error.to_string())
}

/// apache-avro's reading of `bytes`, which must be one value and nothing more.
pub(crate) fn decode(schema: &Schema, bytes: &[u8]) -> Result<Value, String> {
    let reader = GenericDatumReader::builder(schema).build().map_err(|error| error.to_string())?;
    let mut rest = bytes;
    let value = reader.read_value(&mut rest).map_err(|error| error.to_string())?;
    if rest.is_empty() { Ok(value) } else { Err(format!("apache-avro leaves {} bytes", rest.len())) }
}

/// `schema` with every name replaced by its definition. No schema of ours is recursive.
pub(crate) fn expanded(schema: &Schema) -> Schema {
    fn expand(schema: &Schema, known: &mut BTreeMap<String, Schema>) -> Schema {
        match schema {
            Schema::Ref { name } => known[&name.fullname(None)].clone(),
            Schema::Record(record) => {
                let mut record = record.clone();
                for field in &mut record.fields {
                    field.schema = expand(&field.schema, known);
                }
                known.insert(record.name.fullname(None), Schema::Record(record.clone()));
                Schema::Record(record)
            }
            Schema::Enum(definition) => {
                known.insert(definition.name.fullname(None), schema.clone());
                schema.clone()
            }
            Schema::Fixed(definition) => {
                known.insert(definition.name.fullname(None), schema.clone());
                schema.clone()
            }
            Schema::Array(array) => {
                let mut array = array.clone();
                array.items = Box::new(expand(&array.items, known));
                Schema::Array(array)
            }
            Schema::Union(union) => {
                let branches = union.variants().iter().map(|branch| expand(branch, known)).collect();
                Schema::Union(UnionSchema::new(branches).expect("the same branches as before"))
            }
            other => other.clone(),
        }
    }
    expand(schema, &mut BTreeMap::new())
}

/// Values of `schema`, edges included; those of fields with a `range` lie in it.
pub(crate) fn values(schema: &Schema) -> BoxedStrategy<Value> {
    in_range(&expanded(schema), None)
}

fn in_range(schema: &Schema, range: Option<(f64, f64)>) -> BoxedStrategy<Value> {
    match schema {
        Schema::Null => Just(Value::Null).boxed(),
        Schema::Boolean => any::<bool>().prop_map(Value::Boolean).boxed(),
        Schema::Int => {
            let (low, high) = range.map_or((i32::MIN, i32::MAX), |(low, high)| (low as i32, high as i32));
            prop_oneof![1 => Just(low), 1 => Just(high), 2 => low.max(-200)..=high.min(200), 2 => low..=high].prop_map(Value::Int).boxed()
        }
        Schema::Long => longs().prop_map(Value::Long).boxed(),
        Schema::TimestampMicros => longs().prop_map(Value::TimestampMicros).boxed(),
        Schema::Double => {
            use proptest::num::f64::{NEGATIVE, NORMAL, POSITIVE, SUBNORMAL, ZERO};
            let doubles = match range {
                Some((low, high)) => prop_oneof![Just(low), Just(high), low..=high].boxed(),
                None => (POSITIVE | NEGATIVE | NORMAL | SUBNORMAL | ZERO).boxed(),
            };
            doubles.prop_map(Value::Double).boxed()
        }
        Schema::Bytes => vec(any::<u8>(), 0..100).prop_map(Value::Bytes).boxed(),
        Schema::String => vec(any::<char>(), 0..40).prop_map(|letters| Value::String(letters.into_iter().collect())).boxed(),
        Schema::Fixed(fixed) => {
            let size = fixed.size;
            vec(any::<u8>(), size).prop_map(move |bytes| Value::Fixed(size, bytes)).boxed()
        }
        Schema::Enum(definition) => {
            let symbols: Vec<(usize, String)> = definition.symbols.iter().cloned().enumerate().collect();
            select(symbols).prop_map(|(index, symbol)| Value::Enum(index as u32, symbol)).boxed()
        }
        Schema::Union(union) => {
            Union::new(
                union.variants().iter().enumerate().map(|(index, branch)| {
                    in_range(branch, range).prop_map(move |value| Value::Union(index as u32, Box::new(value))).boxed()
                }),
            )
            .boxed()
        }
        Schema::Array(array) => {
            let item = in_range(&array.items, None);
            prop_oneof![4 => vec(item.clone(), 0..4), 1 => vec(item, 60..70)].prop_map(Value::Array).boxed()
        }
        Schema::Record(record) => {
            let fields: Vec<_> = record
                .fields
                .iter()
                .map(|field| {
                    let bound = |index: usize| field.custom_attributes.get("range").and_then(|range| range[index].as_f64());
                    let name = field.name.clone();
                    in_range(&field.schema, bound(0).zip(bound(1))).prop_map(move |value| (name.clone(), value))
                })
                .collect();
            fields.prop_map(Value::Record).boxed()
        }
        other => panic!("no values for {other:?}: teach the tests"),
    }
}

fn longs() -> impl Strategy<Value = i64> {
    prop_oneof![
        1 => select(vec![i64::MIN, -1, 0, 1, i64::MAX]),
        2 => 1_500_000_000_000_000..1_900_000_000_000_000_i64,
        1 => any::<i64>(),
    ]
}

/// What [`pitwall_schemas::codec::AnyRecord::to_json`] makes of `value`: fields by name, symbols as text, times in RFC 3339.
pub(crate) fn json(value: &Value) -> serde_json::Value {
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Boolean(value) => (*value).into(),
        Value::Int(value) => (*value).into(),
        Value::Long(value) => (*value).into(),
        Value::Double(value) => (*value).into(),
        Value::TimestampMicros(value) => Micros(*value).to_string().into(),
        Value::String(text) | Value::Enum(_, text) => text.as_str().into(),
        Value::Bytes(bytes) | Value::Fixed(_, bytes) => bytes.as_slice().into(),
        Value::Union(_, value) => json(value),
        Value::Array(items) => items.iter().map(json).collect(),
        Value::Record(fields) => fields.iter().map(|(name, value)| (name.clone(), json(value))).collect(),
        other => panic!("no JSON for {other:?}: teach the tests"),
    }
}
