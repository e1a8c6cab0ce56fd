//! Data written with an older schema stays readable under the current one.
//!
//! `compatibility/vN` holds the schema files of every version that data was written with. For each, values are generated, written with
//! the old schema by apache-avro, resolved to the current schema by apache-avro, and read by the generated types. `can_read` is asked
//! too, since generated values might miss the one symbol that is gone. The checker itself is proven with planted schemas.

mod support;

// A build script shares it, so it is no module of the library.
#[path = "../self_contained.rs"]
mod self_contained;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::schema_compatibility::{Compatibility, SchemaCompatibility};
use apache_avro::types::Value as Datum;
use pitwall_schemas::codec::{Avro as _, Reader};
use pitwall_schemas::facts::FactBody;
use pitwall_schemas::raw::{ARCHIVE_SCHEMA, Collection, Sample};
use pitwall_schemas::shared::FactHeader;
use pitwall_schemas::time::Micros;
use self_contained::{Named, self_contained};
use serde_json::{Value, json};
use support::{decode, encode, every_record, expanded, for_values, parsed};

const CASES: u32 = 32;

/// Schemas by directory and file stem, e.g. `("raw", "car_data")`.
type Files = BTreeMap<(String, String), Value>;

/// Reads the encoding of a record under its current schema.
type Read<'a> = &'a dyn Fn(&[u8]) -> Result<(), String>;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn load(folder: &Path) -> Files {
    let mut files = Files::new();
    for directory in ["shared", "raw", "facts", "log"] {
        let Ok(entries) = fs::read_dir(folder.join(directory)) else { continue };
        for entry in entries {
            let path = entry.expect("a readable folder").path();
            if path.extension().is_some_and(|extension| extension == "avsc") {
                let text = fs::read_to_string(&path).expect("a readable schema");
                let schema = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                let stem = path.file_stem().and_then(|stem| stem.to_str()).expect("a UTF-8 file name");
                files.insert((directory.to_owned(), stem.to_owned()), schema);
            }
        }
    }
    files
}

/// The committed versions, first first.
fn versions() -> Vec<Files> {
    (1..).map(version_folder).take_while(|folder| folder.is_dir()).map(|folder| load(&folder)).collect()
}

fn version_folder(number: usize) -> PathBuf {
    root().join(format!("compatibility/v{number}"))
}

/// The shared types of `files` by full name.
fn shared_types(files: &Files) -> Named {
    files
        .iter()
        .filter(|((directory, _), _)| directory == "shared")
        .map(|(_, schema)| (format!("{}.{}", text(schema, "namespace"), text(schema, "name")), schema.clone()))
        .collect()
}

fn text<'a>(schema: &'a Value, property: &str) -> &'a str {
    schema[property].as_str().unwrap_or_else(|| panic!("`{property}` is missing in {schema}"))
}

fn alone(schema: &Value, shared: &Named) -> Schema {
    parsed(&self_contained(schema, shared, &mut BTreeSet::new()).to_string())
}

/// Whether all that was written with `older` can be read with `current`, and then by `read`.
fn stays_readable(older: &Schema, current: &Schema, read: Read<'_>) -> Result<(), String> {
    match SchemaCompatibility::can_read(&expanded(older), &expanded(current)) {
        Ok(Compatibility::Full) => {}
        Ok(Compatibility::Partial) => return Err("some values cannot be read: a symbol or a union's branch is gone".into()),
        Err(error) => return Err(error.to_string()),
    }
    let reader = GenericDatumReader::builder(older).reader_schema(current).build().map_err(|error| error.to_string())?;
    for_values(older, CASES, |value| {
        let written = encode(older, value)?;
        let resolved = reader.read_value(&mut written.as_slice()).map_err(|error| error.to_string())?;
        read(&encode(current, resolved)?)
    })
}

/// Reads a record of ours as the program does, ranges checked.
fn read_as_now(directory: &str, stem: &str, bytes: &[u8]) -> Result<(), String> {
    let mut reader = Reader::new(bytes);
    match directory {
        "raw" => {
            let collection = Collection::named(stem).ok_or("the collection is gone")?;
            Sample::decode(collection, &mut reader).map_err(|error| error.to_string())?;
        }
        "facts" => {
            FactHeader::decode(&mut reader).map_err(|error| error.to_string())?;
            FactBody::decode(stem, &mut reader).ok_or("the kind is gone")?.map_err(|error| error.to_string())?;
        }
        _ => {
            let Some((_, _, record)) = every_record().find(|known| (known.0, known.1) == (directory, stem)) else {
                return Ok(()); // An enum, which only stands inside records.
            };
            (record.decode)(&mut reader).map_err(|error| error.to_string())?;
        }
    }
    reader.finish().map_err(|error| error.to_string())
}

/// The schema without what readers do not see.
fn without_docs(schema: &Value) -> Value {
    match schema {
        Value::Object(properties) => {
            properties.iter().filter(|(key, _)| *key != "doc").map(|(key, value)| (key.clone(), without_docs(value))).collect()
        }
        Value::Array(items) => items.iter().map(without_docs).collect(),
        other => other.clone(),
    }
}

/// The versions of shared types that a record of some version may have been written with: those of each version, the newest up to it.
fn shared_of_each(versions: &[Files]) -> Vec<Named> {
    let mut known = Named::new();
    versions
        .iter()
        .map(|files| {
            known.extend(shared_types(files));
            known.clone()
        })
        .collect()
}

#[test]
fn every_current_schema_has_a_committed_copy() {
    let current = load(&root().join("avsc"));
    let mut committed = versions();
    let mut missing = Vec::new();
    for (key, schema) in &current {
        if committed.iter().filter_map(|files| files.get(key)).any(|copy| without_docs(copy) == without_docs(schema)) {
            continue;
        }
        if std::env::var_os("UPDATE_EXPECT").is_none() {
            missing.push(format!("{}/{}", key.0, key.1));
            continue;
        }
        let free = committed.iter().position(|files| !files.contains_key(key)).unwrap_or_else(|| {
            committed.push(Files::new());
            committed.len() - 1
        });
        let folder = version_folder(free + 1).join(&key.0);
        let name = format!("{}.avsc", key.1);
        fs::create_dir_all(&folder).expect("a writable folder");
        fs::copy(root().join("avsc").join(&key.0).join(&name), folder.join(&name)).expect("a schema is copied");
        committed[free].insert(key.clone(), schema.clone());
    }
    assert_eq!(
        missing,
        Vec::<String>::new(),
        "no copy under compatibility/: once the change is meant to stay, UPDATE_EXPECT=1 cargo test -p pitwall-schemas --test compatibility"
    );
}

#[test]
fn data_written_with_any_older_schema_stays_readable() {
    let current = load(&root().join("avsc"));
    let current_shared = shared_types(&current);
    let versions = versions();
    assert!(!versions.is_empty(), "compatibility/v1 is missing");
    let shared = shared_of_each(&versions);
    let mut failures = Vec::new();
    for (number, files) in versions.iter().enumerate() {
        for ((directory, stem), older) in files {
            let Some(now) = current.get(&(directory.clone(), stem.clone())) else {
                failures.push(format!("v{}/{directory}/{stem}: the schema is gone, its data is not", number + 1));
                continue;
            };
            let now = alone(now, &current_shared);
            for shared in &shared {
                let outcome = stays_readable(&alone(older, shared), &now, &|bytes| read_as_now(directory, stem, bytes));
                failures.extend(outcome.err().map(|error| format!("v{}/{directory}/{stem}: {error}", number + 1)));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// A union of records must be resolved branch by branch, by name: apache-avro takes the first record that fits, and a driver fits a
/// championship standing, whose other fields may all be null.
#[test]
fn an_archive_of_an_older_version_is_read_by_its_branches_names() {
    let current = parsed(ARCHIVE_SCHEMA);
    let mut known = Files::new();
    for files in versions() {
        known.extend(files);
        let shared = shared_types(&known);
        let mut met = BTreeSet::new();
        let union: Vec<Value> = known
            .iter()
            .filter(|((directory, _), _)| directory == "raw")
            .map(|(_, schema)| self_contained(schema, &shared, &mut met))
            .collect();
        let stems: Vec<&str> = known.keys().filter(|(directory, _)| directory == "raw").map(|(_, stem)| stem.as_str()).collect();
        let older = parsed(
            &json!({"type": "record", "name": "ArchivedSample", "namespace": "pitwall", "fields": [
                {"name": "received_at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
                {"name": "document", "type": union}
            ]})
            .to_string(),
        );
        assert_eq!(SchemaCompatibility::can_read(&expanded(&older), &expanded(&current)), Ok(Compatibility::Full));
        for_values(&older, CASES * 8, |line| {
            let Datum::Record(fields) = decode(&older, &encode(&older, line)?)? else { return Err("a line is a record".into()) };
            let [(_, Datum::TimestampMicros(received_at)), (_, Datum::Union(branch, document))] = fields.as_slice() else {
                return Err("a line is an arrival and a document".into());
            };
            let collection = Collection::named(stems[*branch as usize]).ok_or("the collection is gone")?;
            let schema = parsed(collection.schema());
            let resolved = document.as_ref().clone().resolve(&schema).map_err(|error| error.to_string())?;
            let sample = Sample::decode(collection, &mut Reader::new(&encode(&schema, resolved)?)).map_err(|error| error.to_string())?;

            let mut bytes = Vec::new();
            Micros(*received_at).encode(&mut bytes);
            pitwall_schemas::codec::write_long(collection as i64, &mut bytes);
            sample.encode(&mut bytes);
            decode(&current, &bytes).map(drop)
        })
        .unwrap_or_else(|error| panic!("{error}"));
    }
}

/// A schema with everything that may change, with one change made by each planted case.
fn base() -> Value {
    json!({"type": "record", "name": "Thing", "fields": [
        {"name": "number", "type": "long"},
        {"name": "text", "type": ["null", "string"], "default": null},
        {"name": "gap", "type": ["null", "double", "string"], "default": null},
        {"name": "state", "type": {"type": "enum", "name": "State", "symbols": ["ON", "OFF", "UNKNOWN"]}},
        {"name": "hash", "type": {"type": "fixed", "name": "Hash", "size": 4}},
        {"name": "list", "type": {"type": "array", "items": {"type": "record", "name": "Part", "fields": [
            {"name": "size", "type": "int"}
        ]}}}
    ]})
}

fn outcome_of(change: impl FnOnce(&mut Value)) -> Result<(), String> {
    let mut changed = base();
    change(&mut changed["fields"]);
    assert_ne!(changed, base());
    stays_readable(&parsed(&base().to_string()), &parsed(&changed.to_string()), &|_| Ok(()))
}

fn push(fields: &mut Value, field: Value) {
    fields.as_array_mut().expect("fields are a list").push(field);
}

#[test]
fn a_change_that_keeps_old_data_readable_is_accepted() {
    assert_eq!(outcome_of(|fields| push(fields, json!({"name": "new", "type": ["null", "int"], "default": null}))), Ok(()), "a new field");
    assert_eq!(outcome_of(|fields| push(fields, json!({"name": "new", "type": "int", "default": 7}))), Ok(()), "a new field");
    assert_eq!(outcome_of(|fields| fields[3]["type"]["symbols"] = json!(["ON", "OFF", "UNKNOWN", "BROKEN"])), Ok(()), "a new symbol");
    assert_eq!(outcome_of(|fields| fields[3]["type"]["symbols"] = json!(["OFF", "ON", "UNKNOWN"])), Ok(()), "symbols in another order");
    assert_eq!(outcome_of(|fields| fields[0]["type"] = json!(["null", "long"])), Ok(()), "a field that may now be null");
    assert_eq!(outcome_of(|fields| fields[5]["type"]["items"]["fields"][0]["type"] = json!("long")), Ok(()), "a wider number");
    assert_eq!(outcome_of(|fields| fields.as_array_mut().expect("a list").swap(0, 4)), Ok(()), "fields in another order");
    assert_eq!(outcome_of(|fields| drop(fields.as_array_mut().expect("a list").remove(0))), Ok(()), "a field that nobody reads");
}

#[test]
fn a_change_that_loses_old_data_is_refused() {
    type Change = (&'static str, fn(&mut Value));
    let changes: &[Change] = &[
        ("a new field without a default", |fields| push(fields, json!({"name": "new", "type": "int"}))),
        ("a removed symbol", |fields| fields[3]["type"]["symbols"] = json!(["ON", "OFF"])),
        ("a renamed symbol", |fields| fields[3]["type"]["symbols"] = json!(["ON", "OFF", "NOT_KNOWN"])),
        ("a narrower number", |fields| fields[0]["type"] = json!("int")),
        ("another type", |fields| fields[0]["type"] = json!("string")),
        ("a field that may no longer be null", |fields| fields[1] = json!({"name": "text", "type": "string"})),
        ("a union without one of its branches", |fields| fields[2]["type"] = json!(["null", "double"])),
        ("a renamed field", |fields| fields[0]["name"] = json!("count")),
        // Avro allows it and `can_read` believes in it, but apache-avro's resolution does not look at aliases.
        ("a renamed field with an alias", |fields| fields[0] = json!({"name": "count", "aliases": ["number"], "type": "long"})),
        ("a renamed type", |fields| fields[3]["type"]["name"] = json!("Condition")),
        ("another size", |fields| fields[4]["type"]["size"] = json!(8)),
        ("a new field without a default in a list's items", |fields| {
            push(&mut fields[5]["type"]["items"]["fields"], json!({"name": "new", "type": "int"}));
        }),
    ];
    for (what, change) in changes {
        assert!(outcome_of(change).is_err(), "{what} is accepted");
    }
}

#[test]
fn a_range_that_becomes_narrower_is_refused() {
    let wider = Collection::Position.schema().replace(r#""range":[1,40]"#, r#""range":[1,4000]"#);
    assert_ne!(wider, Collection::Position.schema());
    let current = parsed(Collection::Position.schema());
    let read = |bytes: &[u8]| read_as_now("raw", "position", bytes);
    assert_eq!(stays_readable(&current, &current, &read), Ok(()));
    let refusal = stays_readable(&parsed(&wider), &current, &read).expect_err("places up to 4000 were accepted");
    assert!(refusal.contains("field `position` is "), "{refusal}");
}

#[test]
fn a_change_of_a_shared_type_is_seen_in_every_record_that_uses_it() {
    let current = load(&root().join("avsc"));
    let mut shared = shared_types(&current);
    let stint = &current[&("facts".to_owned(), "stints".to_owned())];
    let older = alone(stint, &shared);
    assert_eq!(stays_readable(&older, &older, &|_| Ok(())), Ok(()));
    shared.get_mut("pitwall.Compound").expect("a shared enum")["symbols"] = json!(["SOFT", "MEDIUM", "HARD"]);
    assert!(stays_readable(&older, &alone(stint, &shared), &|_| Ok(())).is_err());
}

#[test]
fn a_schema_that_differs_in_its_docs_only_is_the_same() {
    let with = |doc: &str, kind: &str| json!({"type": "record", "doc": doc, "fields": [{"name": "a", "doc": doc, "type": kind}]});
    assert_eq!(without_docs(&with("old", "int")), without_docs(&with("new", "int")));
    assert_ne!(without_docs(&with("old", "int")), without_docs(&with("old", "long")));
}
