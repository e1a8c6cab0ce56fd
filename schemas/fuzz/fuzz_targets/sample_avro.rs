//! `cargo +nightly fuzz run sample_avro`; see `src/lib.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    pitwall_schemas_fuzz::sample_avro(bytes);
});
