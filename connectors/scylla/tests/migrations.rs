//! Making and changing the tables on a real CQL server.

mod support;

use pitwall_scylla::error::ScyllaError;
use pitwall_scylla::migrations::{self, ALL};
use pitwall_scylla::store::ScyllaStore;
use support::Keyspace;

#[test]
fn migrations_are_applied_once_and_a_store_without_them_is_refused() {
    let keyspace = Keyspace::unmade("migrations");
    let options = &keyspace.options;
    let error = ScyllaStore::open(options.clone()).err().unwrap();
    assert!(error.to_string().ends_with("run `pitwall migrate`"), "{error}");
    assert_eq!(migrations::migrate(options.clone()).unwrap(), ALL, "all are applied to a new keyspace");
    assert_eq!(migrations::migrate(options.clone()).unwrap(), [], "a second time there is nothing to do");
    drop(keyspace.open());
}

#[test]
fn a_migration_that_was_interrupted_is_finished() {
    let keyspace = Keyspace::new("interrupted");
    let name = &keyspace.options.keyspace;
    // As if the program had ended between two statements.
    keyspace.run(&format!("DROP TABLE {name}.latest"));
    keyspace.run(&format!("TRUNCATE {name}.migrations"));
    assert_eq!(migrations::migrate(keyspace.options.clone()).unwrap(), ALL);
    drop(keyspace.open());
}

#[test]
fn migrations_never_go_back_and_applied_ones_never_change() {
    let keyspace = Keyspace::new("newer");
    let name = &keyspace.options.keyspace;
    let next = ALL.len() as i32 + 1;
    let refuse = |is_expected: &dyn Fn(&ScyllaError) -> bool| {
        for error in [ScyllaStore::open(keyspace.options.clone()).err(), migrations::migrate(keyspace.options.clone()).err()] {
            let error = error.unwrap();
            assert!(is_expected(&error), "{error}");
        }
    };
    keyspace.run(&format!("INSERT INTO {name}.migrations (version, name, hash) VALUES ({next}, 'from the future', 'x')"));
    refuse(&|error| matches!(error, ScyllaError::Newer { found, .. } if *found == next));
    keyspace.run(&format!("DELETE FROM {name}.migrations WHERE version = {next}"));
    keyspace.run(&format!("UPDATE {name}.migrations SET hash = 'another' WHERE version = 1"));
    refuse(&|error| matches!(error, ScyllaError::Changed { version: 1, .. }));
}
