//! The conformance suite over the embedded log and store. The log is closed and opened again in the middle.

use pitwall_embedded::data::{DataDirectory, Options};
use pitwall_engine::conformance;

#[test]
fn the_embedded_log_keeps_every_promise() {
    let folder = tempfile::tempdir().unwrap();
    conformance::log(|before| {
        drop(before);
        DataDirectory::open(folder.path(), &conformance::kinds(), Options::default()).unwrap().log
    });
}

#[test]
fn the_embedded_store_keeps_every_promise() {
    let folder = tempfile::tempdir().unwrap();
    conformance::store(|| DataDirectory::open(folder.path(), &conformance::kinds(), Options::default()).unwrap().store);
}
