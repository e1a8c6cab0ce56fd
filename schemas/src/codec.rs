//! The Avro binary encoding, for types known at compile time.
//!
//! `apache-avro` is the authority on schemas and reads whatever another schema version wrote; on the hot path it would build one
//! dynamic value per record, so the generated types read and write their bytes directly. `tests/avro.rs` holds both together.

use std::fmt;

use serde::Serialize;

use crate::time::Micros;

/// Longest array, string or byte sequence accepted, in items or bytes: far above any real record, far below harm.
pub const LENGTH_MAX: usize = 16 << 20;

/// Most array items that memory is taken for before they are read: an item can need a hundred times the byte that announces it.
const ITEMS_RESERVED_MAX: usize = 1024;

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
        if let [byte @ 0..0x80, rest @ ..] = self.rest {
            self.rest = rest;
            return Ok(zigzag(u64::from(*byte)));
        }
        if let Some(head) = self.rest.first_chunk() {
            let word = u64::from_le_bytes(*head);
            let last_bytes = !word & 0x8080_8080_8080_8080;
            if last_bytes != 0 {
                let bits = last_bytes.trailing_zeros() + 1;
                self.rest = &self.rest[bits as usize / 8..];
                return Ok(zigzag(without_top_bits(word & (u64::MAX >> (64 - bits)))));
            }
        }
        self.long_by_byte()
    }

    /// A number of more than eight bytes, or one of the last eight bytes.
    #[cold]
    fn long_by_byte(&mut self) -> Result<i64, DecodeError> {
        let mut value = 0_u64;
        let mut shift = 0;
        for (index, &byte) in self.rest.iter().enumerate() {
            if shift == 63 && byte > 1 {
                return Err(DecodeError::NumberTooLong);
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                self.rest = &self.rest[index + 1..];
                return Ok(zigzag(value));
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

const fn zigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Eight bytes, least first, without the top bit of each: their 56 bits close together, joined by pairs.
const fn without_top_bits(word: u64) -> u64 {
    let pairs = word & 0x007f_007f_007f_007f | (word & 0x7f00_7f00_7f00_7f00) >> 1;
    let fours = pairs & 0x0000_3fff_0000_3fff | (pairs & 0x3fff_0000_3fff_0000) >> 2;
    fours & 0x0000_0000_0fff_ffff | (fours & 0x0fff_ffff_0000_0000) >> 4
}

/// The reverse of [`without_top_bits`], for numbers of at most 56 bits.
const fn with_top_bits(number: u64) -> u64 {
    let fours = number & 0x0000_0000_0fff_ffff | (number & 0x00ff_ffff_f000_0000) << 4;
    let pairs = fours & 0x0000_3fff_0000_3fff | (fours & 0x0fff_c000_0fff_c000) << 2;
    pairs & 0x007f_007f_007f_007f | (pairs & 0x3f80_3f80_3f80_3f80) << 1
}

/// Appends `value` as a zigzag variable-length number.
#[inline]
pub fn write_long(value: i64, out: &mut Vec<u8>) {
    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
    if zigzag < 0x80 {
        return out.push(zigzag as u8);
    }
    if zigzag < 1 << 56 {
        // All eight bytes at once, and those not needed taken off again: most numbers of more than one byte are moments.
        let unused = zigzag.leading_zeros() as usize - 8;
        let unused_bytes = unused / 7;
        let more_follow = 0x8080_8080_8080_8080 >> (8 * (unused_bytes + 1));
        out.extend_from_slice(&(with_top_bits(zigzag) | more_follow).to_le_bytes());
        return out.truncate(out.len() - unused_bytes);
    }
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

/// A record whose Rust type is not known where it is used.
pub trait AnyRecord: fmt::Debug {
    /// Its Avro encoding.
    fn to_avro(&self) -> Vec<u8>;

    /// Its fields as JSON, by name.
    ///
    /// # Errors
    /// Never for generated records; `serde_json` cannot know.
    fn to_json(&self) -> serde_json::Result<serde_json::Value>;
}

impl<T: Avro + Serialize + fmt::Debug> AnyRecord for T {
    fn to_avro(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }

    fn to_json(&self) -> serde_json::Result<serde_json::Value> {
        serde_json::to_value(self)
    }
}

/// A record type as a value, for what treats all of them alike: schema registries, printing, checks.
#[derive(Debug, Clone, Copy)]
pub struct RecordType {
    /// Its [`Record::NAME`].
    pub name: &'static str,
    /// Its [`Record::SCHEMA`].
    pub schema: &'static str,
    /// Its [`Record::FINGERPRINT`].
    pub fingerprint: u64,
    /// Reads one record and leaves the reader behind it.
    pub decode: fn(&mut Reader<'_>) -> Result<Box<dyn AnyRecord>, DecodeError>,
}

impl RecordType {
    /// The type `T` as a value.
    #[must_use]
    pub const fn of<T: Record + AnyRecord + 'static>() -> Self {
        Self {
            name: T::NAME,
            schema: T::SCHEMA,
            fingerprint: T::FINGERPRINT,
            decode: |reader| T::decode(reader).map(|record| Box::new(record) as Box<dyn AnyRecord>),
        }
    }
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
        if count > LENGTH_MAX - items.len() {
            return Err(DecodeError::Length((items.len() + count) as i64));
        }
        // Every item we declare takes at least one byte, so a count above what is left is a lie; checked before memory is taken.
        if count > reader.rest().len() {
            return Err(DecodeError::Truncated);
        }
        items.reserve(count.min(ITEMS_RESERVED_MAX));
        for _ in 0..count {
            items.push(T::decode(reader)?);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw::CarData;
    use crate::shared::{Compound, FactHeader};

    fn long(bytes: &[u8]) -> Result<i64, DecodeError> {
        let mut reader = Reader::new(bytes);
        let number = reader.long()?;
        reader.finish()?;
        Ok(number)
    }

    fn decode<T: Avro>(bytes: &[u8]) -> Result<T, DecodeError> {
        T::decode(&mut Reader::new(bytes))
    }

    fn number(value: i64) -> Vec<u8> {
        let mut out = Vec::new();
        write_long(value, &mut out);
        out
    }

    #[test]
    fn numbers_at_the_edge_of_every_length_read_back() {
        let mut edges = vec![0, i64::MIN, i64::MAX, i64::from(i32::MIN), i64::from(i32::MAX)];
        for bits in (6..63).step_by(7) {
            edges.extend([(1 << bits) - 1, 1 << bits, -(1 << bits), -(1 << bits) - 1]);
        }
        for value in edges {
            assert_eq!(long(&number(value)), Ok(value), "{value}");
            // Alone a number is read byte by byte, before others in one go.
            for next in [0x00, 0xff] {
                let mut followed = number(value);
                followed.extend([next; 10]);
                let mut reader = Reader::new(&followed);
                assert_eq!((reader.long(), reader.rest()), (Ok(value), &[next; 10][..]), "{value}");
            }
        }
    }

    #[test]
    fn the_number_furthest_from_zero_takes_ten_bytes() {
        assert_eq!(number(i64::MIN), [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
        assert_eq!(number(i64::MAX), [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
        assert_eq!(number(-1), [0x01]);
        assert_eq!(number(63), [0x7e]);
        assert_eq!(number(64), [0x80, 0x01]);
    }

    #[test]
    fn a_number_of_more_than_64_bits_is_too_long() {
        let mut bits_65 = [0xff; 10];
        bits_65[9] = 0x02;
        assert_eq!(long(&bits_65), Err(DecodeError::NumberTooLong));
        assert_eq!(long(&[0x80; 11]), Err(DecodeError::NumberTooLong));
        let mut eleven_bytes = [0x80; 11];
        eleven_bytes[10] = 0x00;
        assert_eq!(long(&eleven_bytes), Err(DecodeError::NumberTooLong));
    }

    #[test]
    fn a_number_padded_to_ten_bytes_is_still_that_number() {
        let mut padded = [0x80; 10];
        padded[0] = 0x82;
        padded[9] = 0x00;
        assert_eq!(long(&padded), Ok(1));
    }

    #[test]
    fn a_number_that_the_bytes_end_in_is_cut_short_and_nothing_is_taken() {
        for length in 0..10 {
            let bytes = vec![0xff; length];
            let mut reader = Reader::new(&bytes);
            assert_eq!(reader.long(), Err(DecodeError::Truncated));
            assert_eq!(reader.rest().len(), length);
        }
    }

    #[test]
    fn an_int_of_more_than_32_bits_is_refused() {
        assert_eq!(decode(&number(i64::from(i32::MIN))), Ok(i32::MIN));
        assert_eq!(decode(&number(i64::from(i32::MAX))), Ok(i32::MAX));
        assert_eq!(decode::<i32>(&number(i64::from(i32::MAX) + 1)), Err(DecodeError::NumberTooLong));
        assert_eq!(decode::<i32>(&number(i64::from(i32::MIN) - 1)), Err(DecodeError::NumberTooLong));
    }

    #[test]
    fn a_negative_block_count_is_followed_by_its_size_in_bytes() {
        let with_size = [number(-2), number(2), number(7), number(-8), number(0)].concat();
        let mut reader = Reader::new(&with_size);
        assert_eq!(Vec::<i64>::decode(&mut reader), Ok(vec![7, -8]));
        assert!(reader.is_empty());
    }

    #[test]
    fn an_array_may_come_in_several_blocks() {
        let blocks = [number(1), number(7), number(-1), number(1), number(8), number(1), number(9), number(0)].concat();
        assert_eq!(decode(&blocks), Ok(vec![7_i64, 8, 9]));
        assert_eq!(decode::<Vec<i64>>(&blocks[..blocks.len() - 1]), Err(DecodeError::Truncated));
    }

    #[test]
    fn a_block_count_beyond_the_limit_is_refused_in_either_sign() {
        let beyond = LENGTH_MAX as i64 + 1;
        assert_eq!(decode::<Vec<i64>>(&number(beyond)), Err(DecodeError::Length(beyond)));
        assert_eq!(decode::<Vec<i64>>(&[number(-beyond), number(0)].concat()), Err(DecodeError::Length(beyond)));
        assert_eq!(decode::<Vec<i64>>(&[number(i64::MIN), number(0)].concat()), Err(DecodeError::Length(i64::MIN)));
    }

    #[test]
    fn blocks_that_add_up_beyond_the_limit_are_refused() {
        let limit = LENGTH_MAX as i64;
        let bytes = [number(1), number(7), number(limit)].concat();
        assert_eq!(decode::<Vec<i64>>(&bytes), Err(DecodeError::Length(limit + 1)));
    }

    #[test]
    fn a_count_of_more_items_than_bytes_are_left_is_cut_short() {
        assert_eq!(decode::<Vec<FactHeader>>(&number(LENGTH_MAX as i64)), Err(DecodeError::Truncated));
    }

    #[test]
    fn a_text_or_byte_length_below_zero_or_beyond_the_limit_is_refused() {
        for length in [-1, i64::MIN, LENGTH_MAX as i64 + 1, i64::MAX] {
            assert_eq!(decode::<String>(&number(length)), Err(DecodeError::Length(length)));
            assert_eq!(decode::<Vec<u8>>(&number(length)), Err(DecodeError::Length(length)));
        }
        assert_eq!(decode::<String>(&number(LENGTH_MAX as i64)), Err(DecodeError::Truncated));
    }

    #[test]
    fn what_no_schema_of_ours_can_mean_is_refused() {
        assert_eq!(decode::<bool>(&[2]), Err(DecodeError::Boolean(2)));
        assert_eq!(decode::<Option<i32>>(&number(2)), Err(DecodeError::Branch(2)));
        assert_eq!(decode::<Option<i32>>(&number(-1)), Err(DecodeError::Branch(-1)));
        assert_eq!(decode::<Reading>(&number(3)), Err(DecodeError::Branch(3)));
        assert_eq!(decode::<String>(&[2, 0xff]), Err(DecodeError::Utf8));
        assert_eq!(decode::<Compound>(&number(6)), Err(DecodeError::Symbol { name: "Compound", index: 6 }));
        assert_eq!(decode::<Compound>(&number(-1)), Err(DecodeError::Symbol { name: "Compound", index: -1 }));
    }

    #[test]
    fn bytes_after_the_last_field_are_trailing() {
        let mut reader = Reader::new(&[0, 0, 0]);
        assert_eq!(reader.long(), Ok(0));
        assert_eq!(reader.finish(), Err(DecodeError::Trailing(2)));
    }

    #[test]
    fn every_cut_of_a_record_is_cut_short() {
        let record = CarData {
            meeting_key: 1267,
            session_key: 9920,
            driver_number: 81,
            date: Micros(1_756_645_401_220_000),
            rpm: 9691,
            speed: 0,
            n_gear: 1,
            throttle: 104,
            brake: 104,
            drs: Some(8),
            id: None,
        };
        let whole = record.to_avro();
        assert_eq!(decode(&whole), Ok(record));
        for length in 0..whole.len() {
            assert_eq!(decode::<CarData>(&whole[..length]), Err(DecodeError::Truncated), "{length}");
        }
    }
}
