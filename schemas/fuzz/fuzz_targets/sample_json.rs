//! `cargo +nightly fuzz run sample_json`; see `src/lib.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    pitwall_schemas_fuzz::sample_json(bytes);
});
