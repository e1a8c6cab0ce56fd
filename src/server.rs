//! A running server as a source: plain `GET`s of the REST interface that docs/protocol.md describes.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

/// Largest answer read, bytes.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// Longest wait for a whole answer: a verification replays a session.
const ANSWER_WAIT: Duration = Duration::from_secs(120);

/// A client of one server.
pub(crate) struct Server {
    address: String,
    agent: ureq::Agent,
}

impl Server {
    /// A client of the server at `url`, such as `http://localhost:8080`. Nothing is sent yet.
    pub(crate) fn new(url: &str) -> Result<Self> {
        let address = url.trim_end_matches('/');
        if address.strip_prefix("http://").is_none_or(str::is_empty) {
            bail!("--server {url}: write http://HOST:PORT; encryption is a proxy's work");
        }
        let config = ureq::Agent::config_builder().timeout_global(Some(ANSWER_WAIT)).http_status_as_error(false).build();
        Ok(Self { address: address.to_owned(), agent: config.into() })
    }

    /// The answer to a `GET` of `path` below `/api/v1`, with these query parameters.
    pub(crate) fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Value> {
        let url = format!("{}/api/v1/{path}", self.address);
        let mut request = self.agent.get(&url).header("Accept", "application/json");
        for (name, value) in query {
            request = request.query(*name, *value);
        }
        let mut response = request.call().map_err(|error| anyhow!("{url}: {error}: is a pitwall server running there?"))?;
        let status = response.status();
        let text = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string().with_context(|| url.clone())?;
        let answer: Option<Value> = serde_json::from_str(&text).ok();
        if status.is_success() {
            return answer.with_context(|| format!("{url}: the answer is no JSON: is this a pitwall server?"));
        }
        let told = answer.as_ref().and_then(|problem| problem.get("detail")).and_then(Value::as_str);
        bail!("{url}: {}", told.map_or_else(|| format!("the server answers {status}"), str::to_owned))
    }
}
