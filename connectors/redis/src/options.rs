//! What edges that share on Redis can set.

use serde::{Deserialize, Serialize};

/// Where Redis is and how it is used. Reaching a bound has a defined result, named beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The server, `redis://HOST:PORT/DATABASE`; empty for none, and every edge computes and counts for itself.
    pub url: String,
    /// Who logs in; empty for the server's default user.
    pub user: String,
    /// The file that holds the password, so that no setting shows it; empty for none.
    pub password_file: String,
    /// How long a connection or a request may take, ms. Then the edge goes on without.
    pub timeout_ms: u64,
    /// How long a server that failed is not asked again, ms.
    pub retry_ms: u64,
    /// How long an answer is kept, s. It cannot become wrong, only unwanted: Redis's own `maxmemory` policy may drop it any time.
    pub answer_ttl_s: u64,
    /// The largest answer kept, bytes. A larger one is computed by each edge.
    pub answer_bytes_max: usize,
    /// How long an edge has the turn to compute an answer, ms. Then another may.
    pub turn_ms: u64,
    /// How long another edge's turn is waited for, ms. Then the answer is computed here too.
    pub wait_ms_max: u64,
    /// How often is looked for another edge's answer, ms.
    pub poll_ms: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            url: String::new(),
            user: String::new(),
            password_file: String::new(),
            timeout_ms: 100,
            retry_ms: 1_000,
            answer_ttl_s: 3_600,
            answer_bytes_max: 4 << 20,
            turn_ms: 5_000,
            wait_ms_max: 3_000,
            poll_ms: 20,
        }
    }
}
