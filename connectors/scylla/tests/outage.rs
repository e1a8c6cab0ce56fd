//! A server that stops while facts are being stored: the writer stalls, goes on when it is back, and loses nothing.
//!
//! The server is one of this test's own, so that others are not disturbed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use pitwall_engine::log::StateStore;
use pitwall_scylla::migrations;
use pitwall_scylla::options::Options;
use pitwall_scylla::store::ScyllaStore;
use support::race::{self, Facts, SESSION};

/// Batches stored in all.
const BATCHES: usize = 30;

/// A Cassandra that `docker/services` starts natively; stopped and emptied when it goes.
struct Server {
    state: tempfile::TempDir,
    port: u16,
}

impl Server {
    fn start() -> Self {
        let server = Self { state: tempfile::tempdir().unwrap(), port: support::port() + 20 };
        server.services("up");
        server
    }

    fn services(&self, verb: &str) {
        let root: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let status = Command::new(root.join("docker/services"))
            .args([verb, "cassandra"])
            .env("SERVICES_NATIVE", "1")
            .env("SERVICES_STATE", self.state.path())
            .env("SERVICES_CQL_PORT", self.port.to_string())
            .env("SERVICES_CASSANDRA_JMX_PORT", (self.port + 1).to_string())
            .status()
            .unwrap();
        assert!(status.success() || thread::panicking(), "docker/services {verb} cassandra: its message is above");
    }

    /// Sends the server a signal.
    fn signal(&self, name: &str) {
        let pid = std::fs::read_to_string(self.state.path().join("cassandra/pid")).unwrap_or_default();
        let sent = Command::new("kill").args([name, pid.trim()]).status();
        assert!(sent.is_ok_and(|status| status.success()) || thread::panicking(), "the server runs");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that stands still does not hear that it shall end.
        self.signal("-CONT");
        self.services("down");
    }
}

/// What the writer says of itself.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    /// It has come as far as the server may stop now.
    Ready,
    /// The server does not answer.
    Failed,
}

/// Stores everything. At a third and at two thirds it says so and stores the same again until that fails, which it also says. Each failure
/// is followed by another try from where the store says it stands, as the sink does it.
fn store_through(mut store: ScyllaStore, facts: &Facts, say: &mpsc::Sender<Said>) -> ScyllaStore {
    for next in 0..BATCHES {
        let mut waits_for_failure = next == BATCHES / 3 || next == 2 * BATCHES / 3;
        let mut is_ready = false;
        loop {
            let result = store.next_fact_seq(SESSION, 0).and_then(|_| store.store(SESSION, 0, &facts.batches[next]));
            match result {
                Ok(()) if !waits_for_failure => break,
                Ok(()) if is_ready => thread::sleep(Duration::from_millis(5)),
                Ok(()) => {
                    is_ready = true;
                    say.send(Said::Ready).unwrap();
                }
                Err(error) => {
                    assert!(error.is_passing() && error.to_string().starts_with("CQL at 127.0.0.1:"), "{error}");
                    if waits_for_failure {
                        waits_for_failure = false;
                        say.send(Said::Failed).unwrap();
                    }
                }
            }
        }
    }
    store
}

#[test]
fn a_server_that_stands_still_and_one_that_is_stopped_stall_the_writer_and_lose_nothing() {
    let facts = race::facts(1_000);
    let server = Server::start();
    let options =
        Options { contact_points: vec![format!("127.0.0.1:{}", server.port)], timeout_ms: 1_000, attempts_max: 2, ..Options::default() };
    migrations::migrate(Options { timeout_ms: 10_000, attempts_max: 5, ..options.clone() }).unwrap();
    let store = ScyllaStore::open(options).unwrap();
    let (say, said) = mpsc::channel();
    thread::scope(|scope| {
        let facts = &facts;
        let writer = scope.spawn(move || store_through(store, facts, &say));
        assert_eq!(said.recv(), Ok(Said::Ready));
        server.signal("-STOP");
        assert_eq!(said.recv(), Ok(Said::Failed));
        server.signal("-CONT");
        assert_eq!(said.recv(), Ok(Said::Ready));
        server.services("down");
        assert_eq!(said.recv(), Ok(Said::Failed));
        server.services("up");
        let mut store = writer.join().unwrap();
        let stored: Vec<u64> = facts.batches[..BATCHES].iter().flat_map(|batch| batch.iter().map(|fact| fact.fact_seq)).collect();
        assert_eq!(store.next_fact_seq(SESSION, 0).unwrap(), stored.len() as u64);
        let mut found: Vec<u64> = Vec::new();
        for kind in &facts.kinds {
            found.extend(store.history(SESSION, 0, kind.name, 0..u64::MAX, usize::MAX).unwrap().iter().map(|fact| fact.fact_seq));
        }
        found.sort_unstable();
        assert!(found == stored, "every fact is there once");
    });
}
