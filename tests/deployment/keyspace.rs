//! A keyspace of its own on the CQL server that tests share.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::TcpStream;
use std::time::{Duration, SystemTime};

use pitwall_engine::facts::{EncodedFact, FactBatch};
use pitwall_engine::hash::RunningHash;
use pitwall_engine::limits::Limits;
use pitwall_engine::log::StateStore;
use pitwall_scylla::options::Options;
use pitwall_scylla::store::ScyllaStore;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;

use super::Deployment;

/// The port of `docker/services`.
const PORT: u16 = 19_042;

/// A keyspace with its tables; gone with the test.
pub(crate) struct Keyspace {
    options: Options,
}

impl Keyspace {
    /// Has `deployment` make it on the server that tests share.
    pub(crate) fn new(deployment: &mut Deployment) -> Self {
        Self::on(std::env::var("SERVICES_CQL_PORT").map_or(PORT, |port| port.parse().unwrap()), deployment)
    }

    /// Has `deployment` make it on the server at `port`.
    pub(crate) fn on(port: u16, deployment: &mut Deployment) -> Self {
        let address = format!("127.0.0.1:{port}");
        let server = TcpStream::connect_timeout(&address.parse().unwrap(), Duration::from_secs(2));
        assert!(server.is_ok(), "no CQL server at {address}: start it with `docker/services up cassandra`");
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos();
        let keyspace = format!("test_{now}");
        deployment.set("PITWALL_SCYLLA__CONTACT_POINTS", &address);
        deployment.set("PITWALL_SCYLLA__KEYSPACE", &keyspace);
        let made = Self { options: Options { contact_points: vec![address], keyspace: keyspace.clone(), ..Options::default() } };
        let said = deployment.told(&["migrate"]);
        assert!(said.contains(&format!("keyspace {keyspace} is at migration 1, 1 applied now")), "{said}");
        let said = deployment.told(&["migrate"]);
        assert!(said.contains("0 applied now"), "a second time there is nothing to do: {said}");
        made
    }

    pub(crate) fn open(&self) -> ScyllaStore {
        ScyllaStore::open(self.options.clone()).unwrap()
    }

    /// Number and hash of a session's facts as readers of the store see them.
    pub(crate) fn hash_of_facts(&self, session_key: i32) -> (u64, String) {
        let mut store = self.open();
        let kinds = pitwall_operators::graph(&Limits::default()).unwrap().kinds().to_vec();
        let mut stored = Vec::new();
        for kind in kinds {
            let history = store.history(session_key, 0, kind.name, 0..u64::MAX, usize::MAX).unwrap();
            stored.extend(history.into_iter().map(|fact| (kind, fact)));
        }
        stored.sort_by_key(|(_, fact)| fact.fact_seq);
        let mut facts = FactBatch::default();
        for ((kind, fact), expected) in stored.iter().zip(0..) {
            assert_eq!(fact.fact_seq, expected, "facts are numbered densely: none lost, none doubled");
            let encoded = EncodedFact { kind: *kind, fact_seq: fact.fact_seq, known_at: fact.known_at, bytes: &fact.bytes };
            facts.push_encoded(encoded).unwrap();
        }
        let mut hash = RunningHash::default();
        facts.hash_into(0, &mut hash);
        (stored.len() as u64, hash.digest().to_string())
    }
}

impl Drop for Keyspace {
    fn drop(&mut self) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let session: Session = SessionBuilder::new().known_nodes(&self.options.contact_points).build().await.unwrap();
            let drop = format!("DROP KEYSPACE IF EXISTS {}", self.options.keyspace);
            // What cannot be removed now is in nobody's way: no other test uses the name.
            let _ = session.query_unpaged(drop, ()).await;
        });
    }
}
