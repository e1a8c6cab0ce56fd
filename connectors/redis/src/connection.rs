//! One connection to Redis that is asked only while it answers.

use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, FromRedisValue, IntoConnectionInfo, Pipeline};

use crate::metrics;
use crate::options::Options;
use crate::share::ShareError;

/// Requests go over one connection side by side. After a failure nothing is asked for a while, so that a server that is away costs its
/// users one wait and not one for each request.
pub(crate) struct Connection {
    client: Client,
    timeout: Duration,
    retry: Duration,
    state: Mutex<State>,
}

enum State {
    /// Not tried yet.
    Untried,
    /// It failed, and is not to be tried before then.
    Away(Instant),
    Open(MultiplexedConnection),
}

impl Connection {
    /// A connection that is made when it is first needed.
    pub(crate) fn new(options: &Options) -> Result<Self, ShareError> {
        let setting = |setting, reason: String| ShareError { setting, reason };
        let info = options.url.as_str().into_connection_info().map_err(|error| {
            let told = error.detail().map_or_else(|| error.to_string(), str::to_owned);
            setting("url", format!("{told}: write redis://HOST:PORT"))
        })?;
        let mut redis = info.redis_settings().clone();
        if !options.user.is_empty() {
            redis = redis.set_username(&options.user);
        }
        if !options.password_file.is_empty() {
            let password = fs::read_to_string(&options.password_file)
                .map_err(|error| setting("password_file", format!("{}: {error}: name a file that holds it", options.password_file)))?;
            redis = redis.set_password(password.trim_end());
        }
        let client = Client::open(info.set_redis_settings(redis)).map_err(|error| setting("url", error.to_string()))?;
        Ok(Self {
            client,
            timeout: Duration::from_millis(options.timeout_ms),
            retry: Duration::from_millis(options.retry_ms),
            state: Mutex::new(State::Untried),
        })
    }

    /// The answer of Redis; `None` while it is away.
    pub(crate) async fn ask<T: FromRedisValue>(&self, commands: &Pipeline) -> Option<T> {
        let begun_at = Instant::now();
        let open = match &*self.state() {
            State::Away(until) if *until > begun_at => {
                ::metrics::counter!(metrics::REQUESTS, "result" => "left_out").increment(1);
                return None;
            }
            State::Away(_) | State::Untried => None,
            State::Open(connection) => Some(connection.clone()),
        };
        let asked = async {
            let mut connection = match open {
                Some(connection) => connection,
                None => self.connect().await?,
            };
            commands.query_async(&mut connection).await
        };
        let answer: Result<T, String> = match tokio::time::timeout(self.timeout, asked).await {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer in {} ms", self.timeout.as_millis())),
        };
        match answer {
            Ok(answer) => {
                ::metrics::gauge!(metrics::AVAILABLE).set(1.0);
                ::metrics::counter!(metrics::REQUESTS, "result" => "answered").increment(1);
                ::metrics::histogram!(metrics::REQUEST_SECONDS).record(begun_at.elapsed().as_secs_f64());
                Some(answer)
            }
            Err(error) => {
                let before = std::mem::replace(&mut *self.state(), State::Away(Instant::now() + self.retry));
                ::metrics::gauge!(metrics::AVAILABLE).set(0.0);
                ::metrics::counter!(metrics::REQUESTS, "result" => "failed").increment(1);
                // Said once, not every time it is tried again.
                if !matches!(before, State::Away(_)) {
                    tracing::warn!(%error, "Redis is away: the edge goes on without");
                }
                None
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn connect(&self) -> Result<MultiplexedConnection, redis::RedisError> {
        let config = AsyncConnectionConfig::new().set_connection_timeout(Some(self.timeout)).set_response_timeout(Some(self.timeout));
        let connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        *self.state() = State::Open(connection.clone());
        tracing::info!("Redis answers");
        Ok(connection)
    }
}
