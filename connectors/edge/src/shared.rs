//! What the edges of a deployment can share, so that work is done once for all of them and limits hold across them.
//!
//! Nothing depends on it: an edge that shares nothing, or whose companion is away, computes and counts for itself.

use std::net::IpAddr;
use std::pin::Pin;
use std::time::Duration;

/// A result that may take a while. It must come within the request's own time: whoever implements it bounds its waits.
pub type Eventually<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The right to compute an answer that others wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// What is computed.
    pub key: String,
    /// Whose turn it is; `None` when nobody keeps turns.
    pub token: Option<String>,
}

/// What was found of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The answer.
    Answer(Vec<u8>),
    /// None: compute it, then [`hand_in`](Shared::hand_in).
    Mine(Turn),
}

/// Requests that an address has made in a window of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// How many, this one included.
    pub requests: u64,
    /// Until the window ends.
    pub left: Duration,
}

/// A cache of answers with turns, and counters of requests. Its troubles are its own: it logs and counts them.
pub trait Shared: Send + Sync + 'static {
    /// The answer under `key`; without one, the turn to compute it. While another edge has the turn its answer is waited for, not long.
    fn find(&self, key: String) -> Eventually<'_, Found>;

    /// Takes the answer of a turn; `None` when it could not be computed, so that another may try.
    fn hand_in(&self, turn: Turn, answer: Option<Vec<u8>>) -> Eventually<'_, ()>;

    /// Counts a request of an address; `None` when nobody counts just now.
    fn count(&self, address: IpAddr, window: Duration) -> Eventually<'_, Option<Counted>>;
}
