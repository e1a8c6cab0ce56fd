//! Confluent framing: how an Avro record travels in a Kafka message.
//!
//! One zero byte, the schema's registry id as four big-endian bytes, then the record. Only log boundaries frame; hashes and identity
//! are over the record alone, since ids differ from registry to registry.

const MAGIC: u8 = 0;

/// Length of the frame before the record.
pub const HEADER_LENGTH: usize = 5;

/// Why a message is not framed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    /// Too short for a frame.
    #[error("a framed record has at least {HEADER_LENGTH} bytes, this one has {0}")]
    Short(usize),
    /// Another first byte.
    #[error("a framed record begins with byte 0, this one with {0}: was it written without a schema registry serializer?")]
    Magic(u8),
}

/// Appends the frame that goes before a record of schema `id`.
pub fn write_frame(id: u32, out: &mut Vec<u8>) {
    out.push(MAGIC);
    out.extend_from_slice(&id.to_be_bytes());
}

/// Splits a message into the schema's registry id and the record.
///
/// # Errors
/// When the message is not framed.
pub fn split_frame(message: &[u8]) -> Result<(u32, &[u8]), FramingError> {
    let Some((&[magic, a, b, c, d], record)) = message.split_first_chunk::<HEADER_LENGTH>() else {
        return Err(FramingError::Short(message.len()));
    };
    if magic != MAGIC {
        return Err(FramingError::Magic(magic));
    }
    Ok((u32::from_be_bytes([a, b, c, d]), record))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_framed_record_is_the_magic_byte_the_big_endian_id_and_the_record() {
        let mut message = Vec::new();
        write_frame(0x0102_0304, &mut message);
        message.extend_from_slice(b"record");
        assert_eq!(message, b"\0\x01\x02\x03\x04record");
        assert_eq!(split_frame(&message), Ok((0x0102_0304, b"record".as_slice())));
    }

    #[test]
    fn what_is_not_framed_is_refused() {
        assert_eq!(split_frame(b"\0\0\0\0"), Err(FramingError::Short(4)));
        assert_eq!(split_frame(b"{\"a\":1}"), Err(FramingError::Magic(b'{')));
    }
}
