//! How schema files that use shared types become schemas that stand alone. Used by the build script and by the compatibility tests.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Shared types by full name.
pub(crate) type Named = BTreeMap<String, Value>;

/// The schema standing alone: the first reference to each shared type is replaced by its definition, later ones stay names. Types in
/// `met` count as defined already.
pub(crate) fn self_contained(schema: &Value, shared: &Named, met: &mut BTreeSet<String>) -> Value {
    match schema {
        Value::String(name) => match shared.get(name) {
            Some(definition) if met.insert(name.clone()) => self_contained(definition, shared, met),
            _ => schema.clone(),
        },
        Value::Array(branches) => branches.iter().map(|branch| self_contained(branch, shared, met)).collect(),
        Value::Object(properties) => properties
            .iter()
            .map(|(key, value)| {
                // `type` is a type's name inside a definition ("record") and a type itself inside a field; names never collide.
                let expands = matches!(key.as_str(), "type" | "items" | "fields");
                (key.clone(), if expands { self_contained(value, shared, met) } else { value.clone() })
            })
            .collect::<serde_json::Map<_, _>>()
            .into(),
        other => other.clone(),
    }
}
