//! Generates the Rust types of every schema under `avsc/`.
//!
//! The `.avsc` files are the only place a record is declared: adding a fact or a field is an edit there, and its struct, its Avro
//! codec, its JSON reading and its place in [`Sample`] or [`FactBody`] follow. `apache-avro` checks every schema and computes its
//! fingerprint, so what is generated agrees with the authority or the build fails.
//!
//! Four directories, four kinds of record:
//! * `shared/`: types that several records use, by their full name.
//! * `raw/`: OpenF1's collections. The generated struct also reads OpenF1's JSON and checks its ranges.
//! * `facts/`: derived facts. Their first field is the `pitwall.FactHeader`, which the engine writes, so the struct omits it.
//! * `log/`: what the engine itself stores: ledger blocks, keyframes, dead letters, control.
//!
//! Properties of ours that Avro readers ignore: `collection`, `key` (fields that identify a document), `event_time` (field that says
//! when it happened), and on a field `range` (inclusive), `reading` (inclusive; what is outside is kept and is no reading), `openf1` (its
//! JSON name), `default_json`, `scalar_or_array`, `colour`.

#![expect(clippy::disallowed_methods, reason = "cargo tells a build script through the environment where to write")]

#[path = "self_contained.rs"]
mod self_contained;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

use self_contained::{Named, self_contained};
use serde_json::{Value, json};

fn main() {
    println!("cargo::rerun-if-changed=avsc");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=self_contained.rs");
    let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR for build scripts");
    let shared_schemas = load("avsc/shared");
    let named: Named = shared_schemas.iter().map(|(_, schema)| (full_name(schema), schema.clone())).collect();
    let shared = generate_module(&shared_schemas, &Named::new(), false);
    let log = generate_module(&load("avsc/log"), &named, false);

    let raw = load("avsc/raw");
    let mut raw_code = generate_module(&raw, &named, true);
    raw_code.push_str(&generate_samples(&raw, &named));

    let facts = load("avsc/facts");
    let mut facts_code = generate_module(&facts, &named, false);
    facts_code.push_str(&generate_facts(&facts));

    for (file, code) in [("shared.rs", shared), ("log.rs", log), ("raw.rs", raw_code), ("facts.rs", facts_code)] {
        fs::write(Path::new(&out).join(file), code).expect("OUT_DIR is writable");
    }
}

/// The schemas of one directory as (file stem, schema), by name.
fn load(directory: &str) -> Vec<(String, Value)> {
    let mut paths: Vec<_> = fs::read_dir(directory)
        .unwrap_or_else(|error| panic!("{directory}: {error}"))
        .map(|entry| entry.expect("a readable directory entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "avsc"))
        .collect();
    paths.sort();
    paths
        .iter()
        .map(|path| {
            let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let schema = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let stem = path.file_stem().and_then(|stem| stem.to_str()).expect("a UTF-8 file name");
            (stem.to_owned(), schema)
        })
        .collect()
}

fn text<'a>(value: &'a Value, property: &str) -> &'a str {
    value[property].as_str().unwrap_or_else(|| panic!("`{property}` is missing in {value}"))
}

fn full_name(schema: &Value) -> String {
    format!("{}.{}", text(schema, "namespace"), text(schema, "name"))
}

/// The type of a fact's first field, which the engine writes and the struct omits.
const FACT_HEADER: &str = "pitwall.FactHeader";

fn fields(record: &Value) -> Vec<&Value> {
    record["fields"].as_array().expect("a record has fields").iter().filter(|field| field["type"] != FACT_HEADER).collect()
}

/// The first line of a type's documentation.
fn summary(schema: &Value) -> &str {
    text(schema, "doc").lines().next().unwrap_or_default()
}

fn docs(code: &mut String, indent: &str, schema: &Value) {
    for line in text(schema, "doc").lines() {
        writeln!(code, "{indent}/// {line}").expect("writing to a String");
    }
}

fn generate_module(schemas: &[(String, Value)], named: &Named, from_json: bool) -> String {
    let mut code = String::new();
    let mut records = String::new();
    for (stem, schema) in schemas {
        let full = self_contained(schema, named, &mut BTreeSet::new());
        let parsed = apache_avro::Schema::parse(&full).unwrap_or_else(|error| panic!("{}: {error}", full_name(schema)));
        let digest = parsed.fingerprint::<apache_avro::rabin::Rabin>();
        let fingerprint = u64::from_le_bytes(digest.bytes[..8].try_into().expect("a Rabin fingerprint has 8 bytes"));
        generate_type(&mut code, schema, from_json);
        if text(schema, "type") != "record" {
            continue;
        }
        let name = text(schema, "name");
        let full = serde_json::to_string(&full).expect("a JSON value prints");
        writeln!(
            code,
            "impl crate::codec::Record for {name} {{\n    const NAME: &'static str = {:?};\n    const SCHEMA: &'static str = r####\"{full}\"####;\n    const FINGERPRINT: u64 = {fingerprint:#018x};\n}}\n",
            full_name(schema)
        )
        .expect("writing to a String");
        let _ = writeln!(records, "    ({stem:?}, crate::codec::RecordType::of::<{name}>()),");
    }
    let _ = writeln!(
        code,
        "/// Every record declared here by its file's name, in alphabetical order; of a fact, its body.\npub const RECORDS: &[(&str, crate::codec::RecordType)] = &[\n{records}];"
    );
    code
}

/// The Rust type of an Avro type; named types met on the way are generated too.
fn rust_type(code: &mut String, schema: &Value, from_json: bool) -> String {
    match schema {
        Value::String(name) => match name.as_str() {
            "int" => "i32".into(),
            "long" => "i64".into(),
            "double" => "f64".into(),
            "boolean" => "bool".into(),
            "string" => "String".into(),
            "bytes" => "Vec<u8>".into(),
            other => other.rsplit('.').next().expect("rsplit yields at least one part").into(),
        },
        Value::Array(branches) => match branches.as_slice() {
            [null, item] if null == "null" => format!("Option<{}>", rust_type(code, item, from_json)),
            [null, number, text] if null == "null" && number == "double" && text == "string" => "crate::codec::Reading".into(),
            _ => panic!("the unions are [null, T] and [null, double, string], not {schema}"),
        },
        Value::Object(object) => match text(schema, "type") {
            "array" => format!("Vec<{}>", rust_type(code, &object["items"], from_json)),
            "long" if object.get("logicalType").is_some_and(|logical| logical == "timestamp-micros") => "crate::time::Micros".into(),
            "fixed" => format!("[u8; {}]", object["size"]),
            "record" | "enum" => {
                generate_type(code, schema, from_json);
                text(schema, "name").to_owned()
            }
            other => panic!("{other} is not supported: teach build.rs or use a supported type"),
        },
        other => panic!("not an Avro type: {other}"),
    }
}

fn generate_type(code: &mut String, schema: &Value, from_json: bool) {
    match text(schema, "type") {
        "record" => generate_record(code, schema, from_json),
        "enum" => generate_enum(code, schema),
        other => panic!("a top-level schema is a record or an enum, not {other}"),
    }
}

fn generate_enum(code: &mut String, schema: &Value) {
    let name = text(schema, "name");
    let symbols: Vec<&str> = schema["symbols"].as_array().expect("an enum has symbols").iter().filter_map(Value::as_str).collect();
    let mut body = String::new();
    docs(&mut body, "", schema);
    let _ = writeln!(
        body,
        "#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]\npub enum {name} {{"
    );
    for symbol in &symbols {
        let _ = writeln!(body, "    /// `{symbol}`\n    #[serde(rename = \"{symbol}\")]\n    {},", camel(symbol));
    }
    let _ = writeln!(body, "}}\nimpl crate::codec::Item for {name} {{}}\nimpl crate::codec::Avro for {name} {{");
    let _ = writeln!(body, "    fn encode(&self, out: &mut Vec<u8>) {{\n        crate::codec::write_long(*self as i64, out);\n    }}");
    let _ = writeln!(
        body,
        "    fn decode(reader: &mut crate::codec::Reader<'_>) -> Result<Self, crate::codec::DecodeError> {{\n        match reader.long()? {{"
    );
    for (index, symbol) in symbols.iter().enumerate() {
        let _ = writeln!(body, "            {index} => Ok(Self::{}),", camel(symbol));
    }
    let _ = writeln!(
        body,
        "            other => Err(crate::codec::DecodeError::Symbol {{ name: \"{name}\", index: other }}),\n        }}\n    }}\n}}"
    );
    let _ = writeln!(
        body,
        "impl {name} {{\n    /// The symbol as it stands in the schema.\n    #[must_use]\n    pub const fn symbol(self) -> &'static str {{\n        match self {{"
    );
    for symbol in &symbols {
        let _ = writeln!(body, "            Self::{} => \"{symbol}\",", camel(symbol));
    }
    let _ = writeln!(body, "        }}\n    }}\n}}\n");
    code.push_str(&body);
}

fn generate_record(code: &mut String, schema: &Value, from_json: bool) {
    let name = text(schema, "name");
    let typed: Vec<(&Value, String)> =
        fields(schema).into_iter().map(|field| (field, rust_type(code, &field["type"], from_json))).collect();
    let mut body = String::new();
    docs(&mut body, "", schema);
    let _ = writeln!(body, "#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]\npub struct {name} {{");
    for (field, kind) in &typed {
        docs(&mut body, "    ", field);
        // A field that came later: JSON that an earlier version wrote is without it.
        if field.get("default").is_some_and(is_empty) {
            body.push_str("    #[serde(default)]\n");
        }
        let _ = writeln!(body, "    pub {}: {kind},", text(field, "name"));
    }
    let _ = writeln!(
        body,
        "}}\nimpl crate::codec::Item for {name} {{}}\nimpl crate::codec::Avro for {name} {{\n    #[inline]\n    fn encode(&self, out: &mut Vec<u8>) {{"
    );
    for (field, _) in &typed {
        let _ = writeln!(body, "        crate::codec::Avro::encode(&self.{}, out);", text(field, "name"));
    }
    let _ = writeln!(
        body,
        "    }}\n    #[inline]\n    fn decode(reader: &mut crate::codec::Reader<'_>) -> Result<Self, crate::codec::DecodeError> {{\n        Ok(Self {{"
    );
    for (field, _) in &typed {
        let _ = writeln!(body, "            {}: crate::codec::Avro::decode(reader)?,", text(field, "name"));
    }
    let _ = writeln!(body, "        }})\n    }}\n}}");
    if from_json {
        generate_openf1(&mut body, name, &typed);
    }
    generate_key(&mut body, schema);
    code.push_str(&body);
}

/// Reading of OpenF1's JSON, and the check of ranges and of finite numbers that both JSON and Avro input pass.
///
/// A field that cannot be null is part of what makes the document what it is: when it is odd the document is refused. Any other odd field
/// is null, and the document stays.
fn generate_openf1(body: &mut String, name: &str, typed: &[(&Value, String)]) {
    let _ = writeln!(
        body,
        "impl crate::openf1::Document for {name} {{\n    fn from_json(document: &serde_json::Map<String, serde_json::Value>, odd: &mut dyn FnMut(crate::openf1::Refusal)) -> Result<Self, crate::openf1::Refusal> {{\n        Ok(Self {{"
    );
    for (field, kind) in typed {
        let _ = writeln!(body, "            {}: {},", text(field, "name"), json_reading(field, kind));
    }
    let _ = writeln!(
        body,
        "        }})\n    }}\n    #[inline]\n    fn check(&mut self, odd: &mut dyn FnMut(crate::openf1::Refusal)) -> Result<(), crate::openf1::Refusal> {{\n        let _ = &odd;"
    );
    for (field, kind) in typed {
        generate_check(body, field, kind);
    }
    let _ = writeln!(body, "        Ok(())\n    }}\n}}");
    let channels: Vec<_> = typed.iter().filter(|(field, _)| field.get("reading").is_some()).collect();
    if channels.is_empty() {
        return;
    }
    let _ = writeln!(body, "impl {name} {{");
    for (field, kind) in channels {
        generate_channel(body, field, kind);
    }
    let _ = writeln!(body, "}}");
}

/// Whether a schema's default is what its Rust type's default is.
fn is_empty(default: &Value) -> bool {
    default.is_null() || *default == json!(false) || *default == json!(0) || *default == json!([])
}

/// The expression that reads a field of `document`.
fn json_reading(field: &Value, kind: &str) -> String {
    let json = field["openf1"].as_str().unwrap_or_else(|| text(field, "name"));
    let is_nullable = kind.starts_with("Option") || kind.ends_with("Reading");
    if let Some(default) = field.get("default_json") {
        format!("crate::openf1::nullable(crate::openf1::optional_field(document, {json:?}), odd).unwrap_or({default})")
    } else if field.get("scalar_or_array").is_some() {
        format!("crate::openf1::nullable(crate::openf1::scalar_or_array(document, {json:?}), odd)")
    } else if field.get("colour").is_some() {
        format!("crate::openf1::nullable(crate::openf1::colour(document, {json:?}), odd)")
    } else if field.get("reading").is_some() {
        let read = format!("crate::openf1::channel(document, {json:?}, odd)");
        if is_nullable { read } else { format!("{read}.unwrap_or(crate::openf1::UNREADABLE)") }
    } else if is_nullable {
        format!("crate::openf1::nullable(crate::openf1::field(document, {json:?}).map(Some), odd).unwrap_or_default()")
    } else {
        format!("crate::openf1::field(document, {json:?})?")
    }
}

/// The statement that checks a field's range, or that it is finite where it has none.
fn generate_check(body: &mut String, field: &Value, kind: &str) {
    let rust = text(field, "name");
    let is_option = kind.starts_with("Option");
    let check = |value: &str| match field.get("range") {
        Some(range) if kind.contains("f64") => format!("crate::openf1::in_range({rust:?}, {value}, {}_f64, {}_f64)", range[0], range[1]),
        Some(range) => format!("crate::openf1::in_range({rust:?}, {value}, {}, {})", range[0], range[1]),
        None => format!("crate::openf1::finite({rust:?}, &self.{rust})"),
    };
    let has_range = field.get("range").is_some();
    let _ = match (has_range, is_option) {
        (false, _) if !kind.contains("f64") && !kind.contains("Reading") => Ok(()),
        (true, true) => writeln!(
            body,
            "        if let Some(value) = self.{rust}\n            && let Err(refusal) = {}\n        {{\n            self.{rust} = None;\n            odd(refusal);\n        }}",
            check("value")
        ),
        (true, false) => writeln!(body, "        {}?;", check(&format!("self.{rust}"))),
        (false, _) if is_option || kind.ends_with("Reading") => writeln!(
            body,
            "        if let Err(refusal) = {} {{\n            self.{rust} = Default::default();\n            odd(refusal);\n        }}",
            check("")
        ),
        (false, _) => writeln!(body, "        {}?;", check("")),
    };
}

/// The method that gives a channel of a sample as a reading.
fn generate_channel(body: &mut String, field: &Value, kind: &str) {
    let (rust, low, high) = (text(field, "name"), &field["reading"][0], &field["reading"][1]);
    let sent = if kind.starts_with("Option") { format!("self.{rust}") } else { format!("Some(self.{rust})") };
    let _ = writeln!(
        body,
        "    /// `{rust}` as a reading; `None` when it is none, or outside {low} to {high}.\n    #[must_use]\n    #[inline]\n    pub fn {rust}_reading(&self) -> Option<i32> {{\n        {sent}.filter(|value| ({low}..={high}).contains(value))\n    }}"
    );
}

fn generate_key(body: &mut String, schema: &Value) {
    let Some(key) = schema["key"].as_array() else { return };
    // A fact with an empty key is the only one of its kind, such as the track's status.
    let _ = writeln!(
        body,
        "impl crate::codec::Keyed for {} {{\n    fn encode_key(&self, out: &mut Vec<u8>) {{\n        let _ = &out;",
        text(schema, "name")
    );
    for field in key {
        let _ = writeln!(body, "        crate::codec::Avro::encode(&self.{}, out);", field.as_str().expect("a key names fields"));
    }
    let _ = writeln!(body, "    }}\n}}\n");
}

/// Records of raw samples above this many bytes are boxed in [`Sample`], so that the small ones that come by the hundred thousand are
/// cheap to move.
const UNBOXED_BYTES_MAX: usize = 72;

/// Whether `Sample` holds a record in a box.
fn is_boxed(schema: &Value) -> bool {
    fields(schema).into_iter().map(|field| size_of_type(&field["type"])).sum::<usize>() > UNBOXED_BYTES_MAX
}

/// About how many bytes a value of this Avro type takes in Rust.
fn size_of_type(schema: &Value) -> usize {
    match schema {
        Value::String(name) => match name.as_str() {
            "null" => 0,
            "boolean" => 1,
            "int" => 4,
            "long" | "double" => 8,
            _ => 24,
        },
        Value::Array(branches) => branches
            .iter()
            .map(|branch| size_of_type(branch).next_multiple_of(8))
            .max()
            .map_or(0, |widest| widest.max(8) + if widest < 24 { 8 } else { 0 }),
        Value::Object(object) if object.get("logicalType").is_some() => 8,
        _ => 24,
    }
}

/// `Collection` and `Sample`: the raw collections as one enum.
fn generate_samples(raw: &[(String, Value)], named: &Named) -> String {
    let mut code = String::new();
    let each = |code: &mut String, template: &dyn Fn(&str, &str, &Value) -> String| {
        for (stem, schema) in raw {
            code.push_str(&template(&camel(stem), text(schema, "name"), schema));
        }
    };
    code.push_str("/// A raw collection of OpenF1, in alphabetical order; never stored as a number, always by name.\n#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]\n#[repr(u16)]\npub enum Collection {\n");
    each(&mut code, &|variant, _, schema| format!("    /// {}\n    {variant},\n", summary(schema)));
    code.push_str("}\nimpl Collection {\n    /// Every collection, in order of its number.\n    pub const ALL: &'static [Self] = &[");
    each(&mut code, &|variant, _, _| format!("Self::{variant}, "));
    code.push_str("];\n    /// OpenF1's name, e.g. `car_data`.\n    #[must_use]\n    pub const fn name(self) -> &'static str {\n        match self {\n");
    for (stem, _) in raw {
        let _ = writeln!(code, "            Self::{} => {stem:?},", camel(stem));
    }
    code.push_str("        }\n    }\n    /// The Avro schema of its documents.\n    #[must_use]\n    pub const fn schema(self) -> &'static str {\n        match self {\n");
    each(&mut code, &|variant, name, _| format!("            Self::{variant} => <{name} as crate::codec::Record>::SCHEMA,\n"));
    code.push_str("        }\n    }\n}\n");

    code.push_str("/// One raw document of any collection.\n#[derive(Debug, Clone, PartialEq, serde::Serialize)]\n#[serde(untagged)]\npub enum Sample {\n");
    each(&mut code, &|variant, name, schema| {
        let record = if is_boxed(schema) { format!("Box<{name}>") } else { name.to_owned() };
        format!("    /// {}\n    {variant}({record}),\n", summary(schema))
    });
    code.push_str("}\nimpl Sample {\n    /// Its collection.\n    #[must_use]\n    pub const fn collection(&self) -> Collection {\n        match self {\n");
    each(&mut code, &|variant, _, _| format!("            Self::{variant}(_) => Collection::{variant},\n"));
    code.push_str("        }\n    }\n    /// OpenF1's number of the session it belongs to.\n    #[must_use]\n    pub const fn session_key(&self) -> i32 {\n        match self {\n");
    each(&mut code, &|variant, _, _| format!("            Self::{variant}(document) => document.session_key,\n"));
    code.push_str("        }\n    }\n    /// The same document filed under another session.\n    pub fn set_session_key(&mut self, session_key: i32) {\n        match self {\n");
    each(&mut code, &|variant, _, _| format!("            Self::{variant}(document) => document.session_key = session_key,\n"));
    code.push_str("        }\n    }\n    /// When it happened, UTC; `None` for documents that do not say.\n    #[must_use]\n    pub const fn event_time(&self) -> Option<crate::time::Micros> {\n        match self {\n");
    each(&mut code, &|variant, _, schema| {
        let Some(field) = schema["event_time"].as_str() else { return format!("            Self::{variant}(_) => None,\n") };
        let declared = fields(schema).into_iter().find(|candidate| text(candidate, "name") == field);
        let nullable = declared.is_some_and(|declared| declared["type"].is_array());
        if nullable {
            format!("            Self::{variant}(document) => document.{field},\n")
        } else {
            format!("            Self::{variant}(document) => Some(document.{field}),\n")
        }
    });
    code.push_str("        }\n    }\n    /// Its Avro encoding, without framing.\n    pub fn encode(&self, out: &mut Vec<u8>) {\n        use crate::codec::Avro;\n        match self {\n");
    each(&mut code, &|variant, _, _| format!("            Self::{variant}(document) => document.encode(out),\n"));
    code.push_str("        }\n    }\n    /// Reads one document of `collection` and leaves `reader` behind it.\n    ///\n    /// # Errors\n    /// When the bytes are not that collection's Avro encoding, or a value that cannot be null is out of its range.\n    #[inline]\n    pub fn decode(collection: Collection, reader: &mut crate::codec::Reader<'_>) -> Result<Self, crate::openf1::Refusal> {\n        match collection {\n");
    each(&mut code, &|variant, name, _| {
        format!(
            "            Collection::{variant} => {{\n                let mut document = <{name} as crate::codec::Avro>::decode(reader)?;\n                crate::openf1::Document::check(&mut document, &mut |_| {{}})?;\n                Ok(Self::from(document))\n            }}\n"
        )
    });
    code.push_str("        }\n    }\n    /// Reads one OpenF1 JSON document of `collection`.\n    ///\n    /// # Errors\n    /// When a field that cannot be null is missing, has the wrong type or is out of its range; the reason names it.\n    pub fn from_json(collection: Collection, document: &serde_json::Map<String, serde_json::Value>) -> Result<Self, crate::openf1::Refusal> {\n        Self::from_json_noting(collection, document, &mut |_| {})\n    }\n    /// The same, and tells `odd` of every other field that cannot be read: it is null, or no reading, and the document stays.\n    ///\n    /// # Errors\n    /// As [`from_json`](Self::from_json).\n    pub fn from_json_noting(collection: Collection, document: &serde_json::Map<String, serde_json::Value>, odd: &mut dyn FnMut(crate::openf1::Refusal)) -> Result<Self, crate::openf1::Refusal> {\n        match collection {\n");
    each(&mut code, &|variant, name, _| {
        format!(
            "            Collection::{variant} => {{\n                let mut document = <{name} as crate::openf1::Document>::from_json(document, odd)?;\n                crate::openf1::Document::check(&mut document, odd)?;\n                Ok(Self::from(document))\n            }}\n"
        )
    });
    code.push_str("        }\n    }\n}\n");
    each(&mut code, &|variant, name, schema| {
        let (get, make) = if is_boxed(schema) { ("&**document", "Box::new(document)") } else { ("document", "document") };
        format!(
            "impl crate::event::Carries<{name}> for Sample {{\n    const STREAM: u16 = Collection::{variant} as u16;\n    #[inline]\n    fn get(&self) -> Option<&{name}> {{\n        if let Self::{variant}(document) = self {{ Some({get}) }} else {{ None }}\n    }}\n}}\nimpl From<{name}> for Sample {{\n    #[inline]\n    fn from(document: {name}) -> Self {{\n        Self::{variant}({make})\n    }}\n}}\n"
        )
    });

    let mut met = BTreeSet::new();
    let union: Vec<Value> = raw.iter().map(|(_, schema)| self_contained(schema, named, &mut met)).collect();
    let archive = serde_json::json!({
        "type": "record", "name": "ArchivedSample", "namespace": "pitwall",
        "doc": "One line of a session archive: a raw document and when it arrived. Lines stand in arrival order.",
        "fields": [
            {"name": "received_at", "type": {"type": "long", "logicalType": "timestamp-micros"}, "doc": "When the ingest host received it, UTC."},
            {"name": "document", "type": union, "doc": "The document."},
        ]
    });
    apache_avro::Schema::parse(&archive).unwrap_or_else(|error| panic!("the archive schema: {error}"));
    let _ = writeln!(
        code,
        "/// The schema of a session archive's lines: when a document arrived, and the document as a union of all collections.\npub const ARCHIVE_SCHEMA: &str = r####\"{archive}\"####;"
    );
    code
}

/// `FactBody`: every fact kind as one enum, for readers that meet any of them.
fn generate_facts(facts: &[(String, Value)]) -> String {
    let mut code = String::new();
    for (stem, schema) in facts {
        let name = text(schema, "name");
        assert!(schema["fields"][0]["type"] == FACT_HEADER, "{stem}: a fact's first field is the {FACT_HEADER}");
        let _ = writeln!(code, "impl crate::codec::Fact for {name} {{\n    const KIND: &'static str = {stem:?};\n}}");
    }
    code.push_str("/// Every fact kind: its name and its Avro schema, in alphabetical order.\npub const KINDS: &[(&str, &str)] = &[\n");
    for (stem, schema) in facts {
        let _ = writeln!(code, "    ({stem:?}, <{} as crate::codec::Record>::SCHEMA),", text(schema, "name"));
    }
    code.push_str("];\n/// The body of a fact of any kind.\n#[derive(Debug, Clone, PartialEq, serde::Serialize)]\n#[serde(untagged)]\npub enum FactBody {\n");
    for (stem, schema) in facts {
        let _ = writeln!(code, "    /// {}\n    {}({}),", summary(schema), camel(stem), text(schema, "name"));
    }
    code.push_str("}\nimpl FactBody {\n    /// Reads the body of a fact of `kind`; `None` when no such kind exists.\n    ///\n    /// # Errors\n    /// When the bytes are not that kind's Avro encoding.\n    pub fn decode(kind: &str, reader: &mut crate::codec::Reader<'_>) -> Option<Result<Self, crate::codec::DecodeError>> {\n        match kind {\n");
    for (stem, _) in facts {
        let _ = writeln!(code, "            {stem:?} => Some(crate::codec::Avro::decode(reader).map(Self::{})),", camel(stem));
    }
    code.push_str("            _ => None,\n        }\n    }\n    /// Reads the body of a fact of `kind` from a JSON object, which may hold more; `None` when no such kind exists.\n    ///\n    /// # Errors\n    /// When the object is no body of that kind.\n    pub fn from_json(kind: &str, object: &serde_json::Value) -> Option<Result<Self, serde_json::Error>> {\n        use serde::Deserialize as _;\n        match kind {\n");
    for (stem, schema) in facts {
        let _ = writeln!(code, "            {stem:?} => Some({}::deserialize(object).map(Self::{})),", text(schema, "name"), camel(stem));
    }
    code.push_str("            _ => None,\n        }\n    }\n    /// Appends the body in Avro.\n    pub fn encode(&self, out: &mut Vec<u8>) {\n        match self {\n");
    for (stem, _) in facts {
        let _ = writeln!(code, "            Self::{}(body) => crate::codec::Avro::encode(body, out),", camel(stem));
    }
    code.push_str("        }\n    }\n    /// The kind's name.\n    #[must_use]\n    pub const fn kind(&self) -> &'static str {\n        match self {\n");
    for (stem, _) in facts {
        let _ = writeln!(code, "            Self::{}(_) => {stem:?},", camel(stem));
    }
    code.push_str("        }\n    }\n    /// What identifies the thing the fact is about, Avro-encoded: later facts of one kind and key replace earlier ones.\n    pub fn encode_key(&self, out: &mut Vec<u8>) {\n        match self {\n");
    for (stem, _) in facts {
        let _ = writeln!(code, "            Self::{}(body) => crate::codec::Keyed::encode_key(body, out),", camel(stem));
    }
    code.push_str("        }\n    }\n}\n");
    code
}

/// `VSC_ENDING` or `car_data` as `VscEnding`, `CarData`.
fn camel(symbol: &str) -> String {
    symbol
        .split('_')
        .map(|word| {
            let mut letters = word.chars();
            letters.next().map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + &letters.as_str().to_ascii_lowercase())
        })
        .collect()
}
