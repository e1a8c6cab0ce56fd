//! What a deployment on CQL can set.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Where the CQL servers are and how they are used. Reaching a bound has a defined result, named beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Some servers of the cluster, HOST:PORT; the others are learnt from them.
    pub contact_points: Vec<String>,
    /// The keyspace that holds the tables: a letter, then letters, digits and `_`, in lower case.
    pub keyspace: String,
    /// Copies of every row, for a keyspace that is made.
    pub replication: i32,
    /// Who logs in; empty for nobody.
    pub user: String,
    /// The file that holds the password, so that no setting shows it.
    pub password_file: String,
    /// How many copies must answer: one, quorum, `local_quorum` or all.
    pub consistency: Consistency,
    /// How long a connection may take to be made, ms.
    pub connect_timeout_ms: u64,
    /// How long a request may take, ms. Then it is tried again.
    pub timeout_ms: u64,
    /// How often a request is tried before the store says that it cannot be reached.
    pub attempts_max: u32,
    /// The first pause before a request is tried again, ms; each next one is twice as long.
    pub retry_ms_min: u64,
    /// The longest pause before a request is tried again, ms.
    pub retry_ms_max: u64,
    /// Writes of this process under way at a time. More wait until one is answered.
    pub in_flight_max: usize,
    /// Rows of one write. More go with the next.
    pub batch_rows_max: usize,
    /// Bytes of one write. More go with the next; a larger row goes alone. Cassandra refuses batches above 50 KiB unless it is told not to.
    pub batch_bytes_max: usize,
    /// Facts that a sink stores at a time. More wait in the log. An engine's commit is stored in one go when it has fewer.
    pub sink_facts_max: usize,
    /// How often a sink looks for new facts when it has stored all, ms.
    pub sink_interval_ms: u64,
    /// Rows of one page of a read.
    pub page_rows_max: i32,
}

/// How many copies must answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Consistency {
    /// Any one.
    One,
    /// Most of them.
    Quorum,
    /// Most of them in this data centre.
    LocalQuorum,
    /// Every one.
    All,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            contact_points: vec!["127.0.0.1:19042".to_owned()],
            keyspace: "pitwall".to_owned(),
            replication: 1,
            user: String::new(),
            password_file: String::new(),
            consistency: Consistency::LocalQuorum,
            connect_timeout_ms: 5_000,
            timeout_ms: 10_000,
            attempts_max: 5,
            retry_ms_min: 50,
            retry_ms_max: 2_000,
            in_flight_max: 64,
            batch_rows_max: 100,
            batch_bytes_max: 32 << 10,
            sink_facts_max: 8_192,
            sink_interval_ms: 50,
            page_rows_max: 5_000,
        }
    }
}

impl Options {
    /// The pause before a request is tried again that has failed `failures` times.
    pub(crate) fn pause(&self, failures: u32) -> Duration {
        let doubled = self.retry_ms_min.saturating_mul(1_u64.checked_shl(failures.saturating_sub(1)).unwrap_or(u64::MAX));
        Duration::from_millis(doubled.min(self.retry_ms_max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let options = Options { retry_ms_min: 50, retry_ms_max: 300, ..Options::default() };
        let pauses = [1, 2, 3, 4, 5, 200].map(|failures| options.pause(failures).as_millis());
        assert_eq!(pauses, [50, 100, 200, 300, 300, 300]);
    }
}
