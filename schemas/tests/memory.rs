//! A length is a claim of the sender's: decoders take memory for what is there, not for what is announced.
//!
//! Alone in its binary, since it watches the memory of the whole process.

use std::alloc::System;

use cap::Cap;
use pitwall_schemas::codec::{Avro, LENGTH_MAX, Reader, write_long};
use pitwall_schemas::facts::Telemetry;
use pitwall_schemas::log::LedgerBlock;

#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, usize::MAX);

const FILLER: usize = 4 << 20;

/// Far above what is taken in advance, far below the hundred bytes for each byte of filler that a lie would cost.
const PEAK_BYTES_MAX: usize = 1 << 20;

/// Decodes `prefix`, an array's count of as many items as filler follows in bytes, and filler that is no item.
fn peak_bytes<T: Avro>(prefix: &[u8]) -> usize {
    let mut bytes = prefix.to_vec();
    write_long(FILLER as i64, &mut bytes);
    bytes.resize(bytes.len() + FILLER, 0xff);
    let peak = MEMORY.max_allocated();
    assert!(peak - MEMORY.allocated() < PEAK_BYTES_MAX, "an earlier peak would hide this one");
    assert!(T::decode(&mut Reader::new(&bytes)).is_err());
    MEMORY.max_allocated() - peak
}

#[test]
fn a_count_that_lies_takes_memory_only_for_what_is_there() {
    // The block up to `records`, whose items take a hundred bytes each in memory.
    let mut block = Vec::new();
    write_long(1, &mut block);
    write_long(9920, &mut block);
    write_long(0, &mut block);
    block.extend([0; 32]);
    write_long(0, &mut block);
    assert!(peak_bytes::<LedgerBlock>(&block) < PEAK_BYTES_MAX);

    // Driver 81, channel CAR_DATA, up to `samples`.
    let mut telemetry = Vec::new();
    write_long(81, &mut telemetry);
    write_long(0, &mut telemetry);
    assert!(peak_bytes::<Telemetry>(&telemetry) < PEAK_BYTES_MAX);

    let mut text = Vec::new();
    write_long(LENGTH_MAX as i64, &mut text);
    let before = MEMORY.max_allocated();
    assert!(String::decode(&mut Reader::new(&text)).is_err());
    assert!(MEMORY.max_allocated() - before < 1 << 10);
}
