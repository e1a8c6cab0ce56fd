//! Reading OpenF1's JSON documents, quirks included.
//!
//! Accepted, since OpenF1 sends them: dates without fraction or offset, throttle and brake 104 and location (0, 0, 0) for "no
//! reading", gaps as a number, text or null, a null `drs`, whole numbers written as floats, numbers where a text is due, and fields we
//! do not know.
//!
//! One odd field never costs the document. A field that may be null is null when it has another type or is out of its range; a channel of a
//! sample is kept as it was sent and is [no reading](crate::raw::CarData::n_gear_reading). Whoever reads is told, and counts. What makes a
//! document what it is (its keys, its date, the place in a `position`) refuses it: the text of the [`Refusal`] becomes the dead letter's
//! reason.

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

impl Refusal {
    /// The field that it is about, if it is about one.
    #[must_use]
    pub const fn field(&self) -> Option<&'static str> {
        match self {
            Self::Missing(field) | Self::Type { field, .. } | Self::Range { field, .. } | Self::NotFinite { field, .. } => Some(field),
            Self::Encoding(_) | Self::UnknownStream(_) | Self::OtherSession { .. } => None,
        }
    }
}

/// A generated record of a raw collection.
pub trait Document: Sized {
    /// Reads OpenF1's JSON. A field that may be null and has the wrong type is null, and `odd` is told why.
    ///
    /// # Errors
    /// When a field that cannot be null is missing or has the wrong type.
    fn from_json(document: &Map<String, Value>, odd: &mut dyn FnMut(Refusal)) -> Result<Self, Refusal>;

    /// Checks each field against the range its schema declares, and numbers without a range for being finite. A field that may be null and
    /// fails becomes null, and `odd` is told why.
    ///
    /// # Errors
    /// For the first field that cannot be null and fails.
    fn check(&mut self, odd: &mut dyn FnMut(Refusal)) -> Result<(), Refusal>;
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

/// What is kept of a sample's channel that was missing, or no whole number of 32 bits: outside the range of every channel.
pub const UNREADABLE: i32 = i32::MIN;

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

/// A field that may be null: null when it cannot be read, and `odd` is told why.
pub fn nullable<T>(read: Result<Option<T>, Refusal>, odd: &mut dyn FnMut(Refusal)) -> Option<T> {
    read.unwrap_or_else(|refusal| {
        odd(refusal);
        None
    })
}

/// A channel of a sample: `None` when it is null or missing, [`UNREADABLE`] when it has the wrong type, of which `odd` is told.
pub fn channel(document: &Map<String, Value>, name: &'static str, odd: &mut dyn FnMut(Refusal)) -> Option<i32> {
    optional_field(document, name).unwrap_or_else(|refusal| {
        odd(refusal);
        Some(UNREADABLE)
    })
}

/// Reads a colour of six hex digits. Programs that guess types take `001234` and `52E252` for numbers; then the digits are found again.
///
/// # Errors
/// When it is neither a text nor a number that six hex digits stand for.
pub fn colour(document: &Map<String, Value>, name: &'static str) -> Result<Option<String>, Refusal> {
    let Some(Value::Number(number)) = document.get(name) else { return optional_field(document, name) };
    let digits = match (number.as_u64(), number.as_f64()) {
        (Some(whole), _) => Some(format!("{whole:06}")),
        (None, Some(float)) => exponential(float),
        (None, None) => None,
    };
    let expected = "a colour of six hex digits";
    let refuse = || Refusal::Type { field: name, expected, found: number.to_string() };
    digits.filter(|digits| digits.len() == COLOUR_DIGITS).map(Some).ok_or_else(refuse)
}

/// Hex digits of a colour.
const COLOUR_DIGITS: usize = 6;

/// The six characters that were read as `float`, digits with an `E` among them; `None` when several writings come to the same number.
fn exponential(float: f64) -> Option<String> {
    let shortest = format!("{float:e}");
    let (mantissa, exponent) = shortest.split_once('e')?;
    let digits = mantissa.replace('.', "");
    let exponent: i64 = exponent.parse().ok()?;
    // The point goes behind the last digit, and then zeros may follow before the `E`.
    let behind_point = i64::try_from(digits.len()).ok()? - 1;
    let writings = (0..).zip(["", "0", "00", "000"]).map(|(zeros, text)| format!("{digits}{text}E{}", exponent - behind_point - zeros));
    // A shorter one could have zeros in front in more than one place.
    let mut possible = writings.filter(|text| text.len() <= COLOUR_DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let only = possible.next()?;
    possible.next().is_none().then_some(only)
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
        match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
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
