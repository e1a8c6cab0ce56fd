//! `cargo +nightly fuzz run ledger`; see `src/lib.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    pitwall_schemas_fuzz::ledger(bytes);
});
