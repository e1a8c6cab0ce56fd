//! A keyspace of its own on the real server for each test, removed at its end.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

pub(crate) mod race;

use std::net::TcpStream;
use std::time::{Duration, SystemTime};

use pitwall_scylla::migrations;
use pitwall_scylla::options::Options;
use pitwall_scylla::store::ScyllaStore;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::response::query_result::QueryResult;

/// The port of `docker/services`.
const PORT: u16 = 19_042;

/// The port that the tests' server listens on.
pub(crate) fn port() -> u16 {
    std::env::var("SERVICES_CQL_PORT").map_or(PORT, |port| port.parse().unwrap())
}

/// A keyspace that goes when this does.
pub(crate) struct Keyspace {
    pub(crate) options: Options,
}

impl Keyspace {
    /// The name of a keyspace that is not there yet.
    pub(crate) fn unmade(name: &str) -> Self {
        let address = format!("127.0.0.1:{}", port());
        let server = TcpStream::connect_timeout(&address.parse().unwrap(), Duration::from_secs(2));
        assert!(server.is_ok(), "no CQL server at {address}: start it with `docker/services up cassandra`");
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos();
        let keyspace = format!("test_{name}_{}_{now}", std::process::id() % 10_000);
        Self { options: Options { contact_points: vec![address], keyspace, ..Options::default() } }
    }

    /// A keyspace with its tables.
    pub(crate) fn new(name: &str) -> Self {
        let keyspace = Self::unmade(name);
        migrations::migrate(keyspace.options.clone()).unwrap();
        keyspace
    }

    pub(crate) fn open(&self) -> ScyllaStore {
        ScyllaStore::open(self.options.clone()).unwrap()
    }

    /// Runs a statement as somebody else would.
    pub(crate) fn run(&self, statement: &str) -> QueryResult {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let session: Session = SessionBuilder::new().known_nodes(&self.options.contact_points).build().await.unwrap();
            session.query_unpaged(statement, ()).await.unwrap()
        })
    }

    /// Rows of a table.
    pub(crate) fn count(&self, table: &str) -> i64 {
        let answer = self.run(&format!("SELECT count(*) FROM {}.{table}", self.options.keyspace));
        answer.into_rows_result().unwrap().first_row::<(i64,)>().unwrap().0
    }
}

impl Drop for Keyspace {
    fn drop(&mut self) {
        self.run(&format!("DROP KEYSPACE IF EXISTS {}", self.options.keyspace));
    }
}
