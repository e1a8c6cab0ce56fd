//! `cargo +nightly fuzz run wire_frame`; see `src/lib.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    pitwall_schemas_fuzz::wire_frame(bytes);
});
