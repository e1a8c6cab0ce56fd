//! The Avro binary encoding, for types known at compile time.
//!
//! `apache-avro` is the authority on schemas and reads whatever another schema version wrote; on the hot path it would build one
//! dynamic value per record, so the generated types read and write their bytes directly. `tests/avro.rs` holds both together.

use crate::time::Micros;

/// Longest array, string or byte sequence accepted, in items or bytes: far above any real record, far below harm.
pub const LENGTH_MAX: usize = 16 << 20;

/// Why bytes are not a valid encoding.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end inside a value.
    #[error("the record is cut short")]
    Truncated,
    /// Bytes are left after the last field.
    #[error("{0} bytes are left after the record's last field")]
    Trailing(usize),
    /// A variable-length number goes on beyond its type.
    #[error("a number does not fit its type")]
    NumberTooLong,
    /// A union names a branch that its schema lacks.
    #[error("a union has no branch {0}")]
    Branch(i64),
    /// An enum names a symbol that its schema lacks.
    #[error("enum {name} has no symbol {index}")]
    Symbol {
        /// The enum.
        name: &'static str,
        /// The index read.
        index: i64,
    },
    /// A boolean is neither 0 nor 1.
    #[error("a boolean is {0}, neither 0 nor 1")]
    Boolean(u8),
    /// A string is not UTF-8.
    #[error("a string is not UTF-8")]
    Utf8,
    /// A length is negative or above [`LENGTH_MAX`].
    #[error("length {0} is negative or above the limit of {LENGTH_MAX}")]
    Length(i64),
}

/// A cursor over encoded bytes.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the beginning of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read yet.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether everything has been read.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// When bytes are left.
    pub const fn finish(&self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::Trailing(self.rest.len())) }
    }

    /// The next `length` bytes.
    ///
    /// # Errors
    /// When fewer are left.
    #[inline]
    pub fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    /// The next zigzag variable-length number.
    ///
    /// # Errors
    /// When the bytes end inside it or it exceeds 64 bits.
    #[inline]
    pub fn long(&mut self) -> Result<i64, DecodeError> {
        let mut value = 0_u64;
        let mut shift = 0;
        for (index, &byte) in self.rest.iter().enumerate() {
            if shift == 63 && byte > 1 {
                return Err(DecodeError::NumberTooLong);
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                self.rest = &self.rest[index + 1..];
                return Ok(((value >> 1) as i64) ^ -((value & 1) as i64));
            }
            shift += 7;
        }
        Err(DecodeError::Truncated)
    }

    /// The next length of a string or byte sequence.
    ///
    /// # Errors
    /// When it is negative or above [`LENGTH_MAX`].
    #[inline]
    pub fn length(&mut self) -> Result<usize, DecodeError> {
        let length = self.long()?;
        usize::try_from(length).ok().filter(|&length| length <= LENGTH_MAX).ok_or(DecodeError::Length(length))
    }

    /// The number of items in the next block of an array; 0 ends the array.
    ///
    /// # Errors
    /// When the count is out of bounds. A negative count is Avro's way to add the block's size in bytes, which is skipped.
    pub fn block(&mut self) -> Result<usize, DecodeError> {
        let count = self.long()?;
        if count < 0 {
            self.long()?;
        }
        let count = count.checked_abs().ok_or(DecodeError::Length(count))?;
        usize::try_from(count).ok().filter(|&count| count <= LENGTH_MAX).ok_or(DecodeError::Length(count))
    }
}

/// Appends `value` as a zigzag variable-length number.
#[inline]
pub fn write_long(value: i64, out: &mut Vec<u8>) {
    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
    while zigzag >= 0x80 {
        out.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
}

/// Appends `bytes` with their length before them.
pub fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    write_long(bytes.len() as i64, out);
    out.extend_from_slice(bytes);
}

/// A value with an Avro binary encoding.
pub trait Avro: Sized {
    /// Appends the encoding.
    fn encode(&self, out: &mut Vec<u8>);

    /// Reads one value and leaves `reader` behind it.
    ///
    /// # Errors
    /// When the bytes are not a valid encoding.
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError>;
}

/// A record that has a schema of its own.
pub trait Record: Avro {
    /// Full name, e.g. `openf1.CarData`.
    const NAME: &'static str;
    /// The Avro schema, complete in itself.
    const SCHEMA: &'static str;
    /// The schema's Rabin fingerprint (CRC-64-AVRO of its canonical form).
    const FINGERPRINT: u64;
}

/// A generated record or enum, which may be an array's item.
pub trait Item: Avro {}

/// A record that says which thing it is about.
pub trait Keyed {
    /// Appends the identifying fields, Avro-encoded.
    fn encode_key(&self, out: &mut Vec<u8>);
}

/// A derived fact's body. The engine writes the [`crate::shared::FactHeader`] before it; both together are the schema's record.
pub trait Fact: Record + Keyed {
    /// The kind's name, e.g. `laps`: its topic is `pitwall.laps.v1`.
    const KIND: &'static str;
}

/// A value that OpenF1 sends as a number or as text, such as a gap of `12.3` or `+1 LAP`.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize, serde::Deserialize)]
#[serde(untagged)]
pub enum Reading {
    /// Nothing known.
    #[default]
    Missing,
    /// A number, in the field's unit.
    Number(f64),
    /// A text.
    Text(String),
}

impl Avro for i64 {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        write_long(*self, out);
    }
    #[inline]
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.long()
    }
}

impl Avro for i32 {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        write_long(i64::from(*self), out);
    }
    #[inline]
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::try_from(reader.long()?).map_err(|_| DecodeError::NumberTooLong)
    }
}

impl Avro for Micros {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        write_long(self.0, out);
    }
    #[inline]
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.long().map(Self)
    }
}

impl Avro for f64 {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_le_bytes());
    }
    #[inline]
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self::from_le_bytes(<[u8; 8]>::decode(reader)?))
    }
}

impl Avro for bool {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
    #[inline]
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match reader.take(1)? {
            [0] => Ok(false),
            [1] => Ok(true),
            other => Err(DecodeError::Boolean(other[0])),
        }
    }
}

impl Avro for String {
    fn encode(&self, out: &mut Vec<u8>) {
        write_bytes(self.as_bytes(), out);
    }
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let length = reader.length()?;
        std::str::from_utf8(reader.take(length)?).map(Self::from).map_err(|_| DecodeError::Utf8)
    }
}

/// `bytes`. No schema of ours has an array of a type that Rust would call `u8`, so this cannot be mistaken for one.
impl Avro for Vec<u8> {
    fn encode(&self, out: &mut Vec<u8>) {
        write_bytes(self, out);
    }
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let length = reader.length()?;
        reader.take(length).map(<[u8]>::to_vec)
    }
}

impl<const N: usize> Avro for [u8; N] {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
    #[inline]
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.take(N)?.try_into().map_err(|_| DecodeError::Truncated)
    }
}

impl<T: Avro> Avro for Option<T> {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            None => out.push(0),
            Some(value) => {
                out.push(2);
                value.encode(out);
            }
        }
    }
    #[inline]
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match reader.long()? {
            0 => Ok(None),
            1 => T::decode(reader).map(Some),
            other => Err(DecodeError::Branch(other)),
        }
    }
}

impl Avro for Reading {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Missing => out.push(0),
            Self::Number(number) => {
                out.push(2);
                number.encode(out);
            }
            Self::Text(text) => {
                out.push(4);
                text.encode(out);
            }
        }
    }
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match reader.long()? {
            0 => Ok(Self::Missing),
            1 => f64::decode(reader).map(Self::Number),
            2 => String::decode(reader).map(Self::Text),
            other => Err(DecodeError::Branch(other)),
        }
    }
}

macro_rules! array {
    ($($item:ty),*) => {$(
        impl Avro for Vec<$item> {
            fn encode(&self, out: &mut Vec<u8>) {
                write_array(self, out);
            }
            fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                read_array(reader)
            }
        }
    )*};
}
array!(i32, i64, f64, String, Reading);

impl<T: Avro> Avro for Vec<Option<T>> {
    fn encode(&self, out: &mut Vec<u8>) {
        write_array(self, out);
    }
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        read_array(reader)
    }
}

impl<T: Item> Avro for Vec<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        write_array(self, out);
    }
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        read_array(reader)
    }
}

/// Appends `items` as one Avro array block.
#[inline]
pub fn write_array<T: Avro>(items: &[T], out: &mut Vec<u8>) {
    if !items.is_empty() {
        write_long(items.len() as i64, out);
        for item in items {
            item.encode(out);
        }
    }
    out.push(0);
}

fn read_array<T: Avro>(reader: &mut Reader<'_>) -> Result<Vec<T>, DecodeError> {
    let mut items = Vec::new();
    loop {
        let count = reader.block()?;
        if count == 0 {
            return Ok(items);
        }
        // Every item we declare takes at least one byte, so a count above what is left is a lie; checked before memory is taken.
        if count > reader.rest().len() {
            return Err(DecodeError::Truncated);
        }
        items.reserve(count);
        for _ in 0..count {
            items.push(T::decode(reader)?);
        }
    }
}
