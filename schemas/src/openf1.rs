//! Reading OpenF1's JSON documents, quirks included.
//!
//! Accepted, since OpenF1 sends them: dates without fraction or offset, throttle and brake 104 and location (0, 0, 0) for "no
//! reading", gaps as a number, text or null, a null `drs`, whole numbers written as floats, and fields we do not know. Anything else
//! is a [`Refusal`], whose text becomes the dead letter's reason.

use serde_json::{Map, Value};

use crate::codec::{DecodeError, Reading};
use crate::raw::Collection;
use crate::time::Micros;

/// Why a document is not accepted.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// A field that must be there is not.
    #[error("field `{0}` is missing")]
    Missing(&'static str),
    /// A field has another type than its schema says.
    #[error("field `{field}` must be {expected}, not {found}")]
    Type {
        /// The field.
        field: &'static str,
        /// What its schema asks for.
        expected: &'static str,
        /// What stood there, shortened.
        found: String,
    },
    /// A field's value cannot be right.
    #[error("field `{field}` is {found}, outside {low} to {high}")]
    Range {
        /// The field.
        field: &'static str,
        /// Its value.
        found: f64,
        /// Least value accepted.
        low: f64,
        /// Greatest value accepted.
        high: f64,
    },
    /// A number that has no range is infinite or no number at all.
    #[error("field `{field}` is {found}, not a finite number")]
    NotFinite {
        /// The field.
        field: &'static str,
        /// Its value.
        found: f64,
    },
    /// The bytes are not the collection's Avro encoding.
    #[error(transparent)]
    Encoding(#[from] DecodeError),
    /// No stream has this number.
    #[error("there is no raw stream number {0}")]
    UnknownStream(u16),
    /// The document belongs to another session.
    #[error("the document belongs to session {found}, not {expected}")]
    OtherSession {
        /// The session being read.
        expected: i32,
        /// The session named by the document.
        found: i32,
    },
}

/// A generated record of a raw collection.
pub trait Document: Sized {
    /// Reads OpenF1's JSON.
    ///
    /// # Errors
    /// When a field is missing or has the wrong type.
    fn from_json(document: &Map<String, Value>) -> Result<Self, Refusal>;

    /// Checks each field against the range its schema declares, and numbers without a range for being finite.
    ///
    /// # Errors
    /// For the first field that fails.
    fn check_ranges(&self) -> Result<(), Refusal>;
}

impl Collection {
    /// The collection of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|collection| collection.name() == name)
    }
}

/// Throttle and brake value that stands for "no reading".
pub const NO_READING: i32 = 104;

/// A type that a JSON value can be read as.
pub trait FromJson: Sized {
    /// What is asked for, for the refusal.
    const EXPECTED: &'static str;

    /// The value, if it has the type.
    fn from_json(value: &Value) -> Option<Self>;

    /// What a missing field stands for; `None` when it must be there.
    #[must_use]
    fn when_missing() -> Option<Self> {
        None
    }
}

/// Reads a field.
///
/// # Errors
/// When it has the wrong type, or is missing and its type has no null.
pub fn field<T: FromJson>(document: &Map<String, Value>, name: &'static str) -> Result<T, Refusal> {
    optional_field(document, name)?.or_else(T::when_missing).ok_or(Refusal::Missing(name))
}

/// Reads a field that may be missing.
///
/// # Errors
/// When it is there with the wrong type.
pub fn optional_field<T: FromJson>(document: &Map<String, Value>, name: &'static str) -> Result<Option<T>, Refusal> {
    let Some(value) = document.get(name) else { return Ok(None) };
    match T::from_json(value) {
        Some(read) => Ok(Some(read)),
        None if value.is_null() => Ok(None),
        None => Err(Refusal::Type { field: name, expected: T::EXPECTED, found: value.to_string().chars().take(64).collect() }),
    }
}

/// Reads a field that OpenF1 sends as one value in races and as a list in qualifying.
///
/// # Errors
/// When it is neither.
pub fn scalar_or_array<T: FromJson>(document: &Map<String, Value>, name: &'static str) -> Result<Option<Vec<T>>, Refusal> {
    match document.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(_)) => field(document, name).map(Some),
        Some(_) => field(document, name).map(|value| Some(vec![value])),
    }
}

/// Checks a value against an inclusive range.
///
/// # Errors
/// When it lies outside, or is not a number.
#[inline]
pub fn in_range<N: PartialOrd + Into<f64> + Copy>(field: &'static str, value: N, low: N, high: N) -> Result<(), Refusal> {
    if value >= low && value <= high {
        return Ok(());
    }
    Err(Refusal::Range { field, found: value.into(), low: low.into(), high: high.into() })
}

/// A value that may hold floats. JSON has no infinite ones, Avro does.
pub trait Floats {
    /// The first float that is infinite or no number at all.
    fn first_not_finite(&self) -> Option<f64>;
}

impl Floats for f64 {
    #[inline]
    fn first_not_finite(&self) -> Option<f64> {
        (!self.is_finite()).then_some(*self)
    }
}

impl Floats for Reading {
    #[inline]
    fn first_not_finite(&self) -> Option<f64> {
        if let Self::Number(number) = self { number.first_not_finite() } else { None }
    }
}

impl<T: Floats> Floats for Option<T> {
    #[inline]
    fn first_not_finite(&self) -> Option<f64> {
        self.as_ref().and_then(T::first_not_finite)
    }
}

impl<T: Floats> Floats for Vec<T> {
    fn first_not_finite(&self) -> Option<f64> {
        self.iter().find_map(T::first_not_finite)
    }
}

/// Checks that a field holds finite numbers only.
///
/// # Errors
/// When one is not.
#[inline]
pub fn finite(field: &'static str, value: &impl Floats) -> Result<(), Refusal> {
    value.first_not_finite().map_or(Ok(()), |found| Err(Refusal::NotFinite { field, found }))
}

impl FromJson for i64 {
    const EXPECTED: &'static str = "a whole number";
    fn from_json(value: &Value) -> Option<Self> {
        // 2^53: from here on a float no longer tells whole numbers apart.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        value.as_i64().or_else(|| value.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < EXACT).map(|float| float as Self))
    }
}

impl FromJson for i32 {
    const EXPECTED: &'static str = "a whole number of 32 bits";
    fn from_json(value: &Value) -> Option<Self> {
        <i64 as FromJson>::from_json(value).and_then(|number| number.try_into().ok())
    }
}

impl FromJson for f64 {
    const EXPECTED: &'static str = "a number";
    fn from_json(value: &Value) -> Option<Self> {
        value.as_f64()
    }
}

impl FromJson for bool {
    const EXPECTED: &'static str = "true or false";
    fn from_json(value: &Value) -> Option<Self> {
        value.as_bool()
    }
}

impl FromJson for String {
    const EXPECTED: &'static str = "a text";
    fn from_json(value: &Value) -> Option<Self> {
        value.as_str().map(Self::from)
    }
}

impl FromJson for Micros {
    const EXPECTED: &'static str = "an ISO 8601 date and time";
    fn from_json(value: &Value) -> Option<Self> {
        value.as_str()?.parse().ok()
    }
}

impl FromJson for Reading {
    const EXPECTED: &'static str = "a number, a text or null";
    fn from_json(value: &Value) -> Option<Self> {
        match value {
            Value::Null => Some(Self::Missing),
            Value::Number(number) => number.as_f64().map(Self::Number),
            Value::String(text) => Some(Self::Text(text.clone())),
            _ => None,
        }
    }
    fn when_missing() -> Option<Self> {
        Some(Self::Missing)
    }
}

impl<T: FromJson> FromJson for Option<T> {
    const EXPECTED: &'static str = T::EXPECTED;
    fn from_json(value: &Value) -> Option<Self> {
        if value.is_null() { Some(None) } else { T::from_json(value).map(Some) }
    }
    fn when_missing() -> Option<Self> {
        Some(None)
    }
}

impl<T: FromJson> FromJson for Vec<T> {
    const EXPECTED: &'static str = "a list of what its schema declares";
    fn from_json(value: &Value) -> Option<Self> {
        value.as_array()?.iter().map(T::from_json).collect()
    }
}
