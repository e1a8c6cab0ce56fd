//! The conformance suite over the store on a real CQL server.

mod support;

use pitwall_engine::conformance;
use pitwall_scylla::error::ScyllaError;
use pitwall_scylla::options::Options;
use pitwall_scylla::store::ScyllaStore;
use support::Keyspace;

#[test]
fn the_store_on_cql_keeps_every_promise() {
    let keyspace = Keyspace::new("conformance");
    conformance::store(|| keyspace.open());
}

#[test]
fn writes_of_one_row_and_pages_of_one_row_keep_them_too() {
    let keyspace = Keyspace::new("rows");
    let options = Options { batch_rows_max: 1, page_rows_max: 1, in_flight_max: 1, ..keyspace.options.clone() };
    conformance::store(|| ScyllaStore::open(options.clone()).unwrap());
}

#[test]
fn no_server_is_an_error_that_names_it() {
    let options = Options { contact_points: vec!["127.0.0.1:1".to_owned()], attempts_max: 2, ..Options::default() };
    let error = ScyllaStore::open(options).err().unwrap();
    assert!(error.to_string().starts_with("CQL at 127.0.0.1:1: connecting: "), "{error}");
    assert!(error.is_passing());
}

#[test]
fn settings_that_cannot_be_used_are_named() {
    for (options, expected) in [
        (Options { contact_points: Vec::new(), ..Options::default() }, "scylla.contact_points: name at least one server"),
        (Options { keyspace: "x; DROP".to_owned(), ..Options::default() }, "scylla.keyspace: `x; DROP` is no name"),
        (Options { user: "who".to_owned(), password_file: "/none".to_owned(), ..Options::default() }, "scylla.password_file: /none: "),
    ] {
        let error: ScyllaError = ScyllaStore::open(options).err().unwrap();
        assert!(error.to_string().starts_with(expected), "{error}");
    }
}
