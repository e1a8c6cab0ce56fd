//! A connection to the cluster: requests that are tried again, and answers a page at a time.

use std::collections::VecDeque;
use std::fs;
use std::ops::ControlFlow;

use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::deserialize::row::DeserializeRow;
use scylla::response::PagingState;
use scylla::serialize::row::SerializeRow;
use scylla::statement::Consistency as Answers;
use scylla::statement::prepared::PreparedStatement;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;

use crate::error::{Failure, ScyllaError};
use crate::metrics;
use crate::options::{Consistency, Options};

/// A connection and the threads that serve it. The calls of a store block, so the connection has a runtime of its own.
pub(crate) struct Client {
    pub(crate) options: Options,
    pub(crate) session: Session,
    /// As many permits as writes may be under way.
    pub(crate) in_flight: Semaphore,
    /// Present until it is dropped.
    runtime: Option<Runtime>,
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Requests under way are nobody's any more, and the last owner may be on a thread that must not wait.
            runtime.shutdown_background();
        }
    }
}

impl Client {
    /// Connects to the cluster, to no keyspace yet.
    pub(crate) fn connect(options: Options) -> Result<Self, ScyllaError> {
        check(&options)?;
        let profile = ExecutionProfile::builder()
            .consistency(match options.consistency {
                Consistency::One => Answers::One,
                Consistency::Quorum => Answers::Quorum,
                Consistency::LocalQuorum => Answers::LocalQuorum,
                Consistency::All => Answers::All,
            })
            .request_timeout(Some(std::time::Duration::from_millis(options.timeout_ms)))
            .build();
        let mut builder = SessionBuilder::new()
            .known_nodes(&options.contact_points)
            .connection_timeout(std::time::Duration::from_millis(options.connect_timeout_ms))
            .keyspaces_to_fetch([&options.keyspace])
            .default_execution_profile_handle(profile.into_handle());
        if !options.user.is_empty() {
            let password = fs::read_to_string(&options.password_file).map_err(|error| ScyllaError::Setting {
                setting: "password_file",
                reason: format!("{}: {error}: name a file that holds the password of {}", options.password_file, options.user),
            })?;
            builder = builder.user(&options.user, password.trim_end());
        }
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("cql").enable_all().build();
        let runtime = runtime.map_err(|error| ScyllaError::Threads(error.to_string()))?;
        let session = runtime.block_on(attempt(&options, "connecting", async || Ok(builder.build().await?)))?;
        let in_flight = Semaphore::new(options.in_flight_max.clamp(1, Semaphore::MAX_PERMITS));
        Ok(Self { options, session, in_flight, runtime: Some(runtime) })
    }

    /// Waits for work on the connection.
    pub(crate) fn wait_for<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.as_ref().expect("it is taken when the client is dropped").block_on(work)
    }

    /// Makes the keyspace the one that statements mean.
    pub(crate) async fn enter_keyspace(&self) -> Result<(), ScyllaError> {
        self.attempt("entering the keyspace", async || Ok(self.session.use_keyspace(&self.options.keyspace, false).await?)).await
    }

    pub(crate) async fn prepare(&self, text: &str) -> Result<PreparedStatement, ScyllaError> {
        let mut statement = self.attempt("preparing a statement", async || Ok(self.session.prepare(text).await?)).await?;
        statement.set_is_idempotent(true);
        statement.set_page_size(self.options.page_rows_max);
        Ok(statement)
    }

    /// Runs a statement that answers with nothing or with rows that do not matter.
    pub(crate) async fn execute(
        &self,
        doing: &'static str,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<(), ScyllaError> {
        self.attempt(doing, async || Ok(self.session.execute_unpaged(statement, &values).await.map(drop)?)).await
    }

    /// The rows of a query.
    pub(crate) const fn rows<R, V>(&self, statement: PreparedStatement, values: V) -> Rows<'_, R, V> {
        Rows { client: self, statement, values, page: VecDeque::new(), goes_on_at: Some(None) }
    }

    /// All rows of a query.
    pub(crate) async fn all<R, V>(&self, statement: &PreparedStatement, values: V) -> Result<Vec<R>, ScyllaError>
    where
        R: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata>,
        V: SerializeRow,
    {
        let mut rows = self.rows(statement.clone(), values);
        let mut all = Vec::new();
        while rows.fill().await? {
            all.extend(rows.page.drain(..));
        }
        Ok(all)
    }

    /// Does a request until it succeeds, is refused for good, or has failed too often.
    pub(crate) async fn attempt<T>(&self, doing: &'static str, request: impl AsyncFnMut() -> Result<T, Failure>) -> Result<T, ScyllaError> {
        attempt(&self.options, doing, request).await
    }
}

fn check(options: &Options) -> Result<(), ScyllaError> {
    if options.contact_points.is_empty() {
        return Err(ScyllaError::Setting { setting: "contact_points", reason: "name at least one server as HOST:PORT".to_owned() });
    }
    let is_name = options.keyspace.starts_with(|first: char| first.is_ascii_lowercase())
        && options.keyspace.len() <= KEYSPACE_LENGTH_MAX
        && options.keyspace.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_');
    if !is_name {
        let reason = format!("`{}` is no name: a lower-case letter, then at most 47 letters, digits and `_`", options.keyspace);
        return Err(ScyllaError::Setting { setting: "keyspace", reason });
    }
    Ok(())
}

/// The longest name that the servers take.
const KEYSPACE_LENGTH_MAX: usize = 48;

async fn attempt<T>(
    options: &Options,
    doing: &'static str,
    mut request: impl AsyncFnMut() -> Result<T, Failure>,
) -> Result<T, ScyllaError> {
    let mut failures = 0;
    loop {
        let Failure { reason, is_passing } = match request().await {
            Ok(answer) => return Ok(answer),
            Err(failure) => failure,
        };
        failures += 1;
        let contact_points = || options.contact_points.join(",");
        if !is_passing {
            return Err(ScyllaError::Refused { contact_points: contact_points(), doing, reason });
        }
        if failures >= options.attempts_max {
            return Err(ScyllaError::Unreachable { contact_points: contact_points(), doing, reason });
        }
        ::metrics::counter!(metrics::RETRIES).increment(1);
        tracing::debug!(doing, reason, failures, "a request is tried again");
        tokio::time::sleep(options.pause(failures)).await;
    }
}

/// The rows of a query, fetched a page at a time. A page that cannot be had is asked for again, not the whole query.
pub(crate) struct Rows<'a, R, V> {
    client: &'a Client,
    statement: PreparedStatement,
    values: V,
    page: VecDeque<R>,
    /// Where the next page begins: nowhere when there is none, at the start when nothing has been read.
    goes_on_at: Option<Option<PagingState>>,
}

impl<R, V> Rows<'_, R, V>
where
    R: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata>,
    V: SerializeRow,
{
    /// Fetches pages until there is a row; false when there is none left.
    pub(crate) async fn fill(&mut self) -> Result<bool, ScyllaError> {
        while self.page.is_empty() {
            let Some(state) = self.goes_on_at.take() else { return Ok(false) };
            let Self { client, statement, values, .. } = self;
            let state = state.unwrap_or_else(PagingState::start);
            let (page, next) = client
                .attempt("reading", async || {
                    let (answer, next) = client.session.execute_single_page(statement, &*values, state.clone()).await?;
                    let rows = answer.into_rows_result()?;
                    Ok((rows.rows::<R>()?.collect::<Result<VecDeque<R>, _>>()?, next))
                })
                .await?;
            self.page = page;
            self.goes_on_at = match next.into_paging_control_flow() {
                ControlFlow::Continue(state) => Some(Some(state)),
                ControlFlow::Break(()) => None,
            };
        }
        Ok(true)
    }

    /// The next row of the page that [`fill`](Self::fill) fetched.
    pub(crate) fn peek(&self) -> Option<&R> {
        self.page.front()
    }

    /// Takes that row.
    pub(crate) fn take(&mut self) -> Option<R> {
        self.page.pop_front()
    }
}
