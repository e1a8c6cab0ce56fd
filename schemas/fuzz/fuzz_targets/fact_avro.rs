//! `cargo +nightly fuzz run fact_avro`; see `src/lib.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    pitwall_schemas_fuzz::fact_avro(bytes);
});
