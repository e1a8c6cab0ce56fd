//! Answers and counters on Redis, as the edge asks for them.

use std::net::IpAddr;
use std::time::Duration;

use pitwall_edge::shared::{Counted, Eventually, Found, Shared, Turn};
use redis::pipe;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::connection::Connection;
use crate::keys::Keys;
use crate::metrics;
use crate::options::Options;

/// Gives a turn back if it is still the asker's: by then it may have expired and be another's.
const GIVE_BACK: &str = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0";

/// A setting that edges cannot share with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("redis.{setting}: {reason}")]
pub struct ShareError {
    /// The setting.
    pub setting: &'static str,
    /// What is wrong with it, and what to do.
    pub reason: String,
}

/// What edges share on one Redis server.
pub struct Share {
    connection: Connection,
    keys: Keys,
    options: Options,
}

impl Share {
    /// What the edges of the deployment whose topics begin with `prefix` share. Nothing is asked yet: a server that is away does not matter.
    ///
    /// # Errors
    /// When a setting is none: the URL, or a password file that cannot be read.
    pub fn new(options: Options, prefix: &str) -> Result<Self, ShareError> {
        Ok(Self { connection: Connection::new(&options)?, keys: Keys::new(prefix), options })
    }

    /// Takes the turn to compute an answer, unless another has it: then `false`. `None` while Redis is away.
    async fn take_turn(&self, key: &str, token: &str) -> Option<bool> {
        let mut commands = pipe();
        commands.cmd("SET").arg(self.keys.turn(key)).arg(token).arg("NX").arg("PX").arg(self.options.turn_ms);
        let (taken,): (Option<String>,) = self.connection.ask(&commands).await?;
        Some(taken.is_some())
    }

    async fn answer(&self, key: &str) -> Option<Option<Vec<u8>>> {
        let mut commands = pipe();
        commands.cmd("GET").arg(self.keys.answer(key));
        let (answer,): (Option<Vec<u8>>,) = self.connection.ask(&commands).await?;
        Some(answer)
    }

    async fn find_or_take_turn(&self, key: String) -> Found {
        let nobody_keeps_turns = |key| Found::Mine(Turn { key, token: None });
        let token = Uuid::new_v4().simple().to_string();
        let end = Instant::now() + Duration::from_millis(self.options.wait_ms_max);
        let mut has_waited = false;
        let told = |result: &'static str| ::metrics::counter!(metrics::WAITS, "result" => result).increment(1);
        loop {
            match self.answer(&key).await {
                None => return nobody_keeps_turns(key),
                Some(Some(answer)) => {
                    if has_waited {
                        told("answer");
                    }
                    return Found::Answer(answer);
                }
                Some(None) => {}
            }
            match self.take_turn(&key, &token).await {
                None => return nobody_keeps_turns(key),
                Some(true) => return Found::Mine(Turn { key, token: Some(token) }),
                Some(false) if Instant::now() >= end => {
                    told("expired");
                    return nobody_keeps_turns(key);
                }
                Some(false) => has_waited = true,
            }
            sleep(Duration::from_millis(self.options.poll_ms)).await;
        }
    }

    async fn keep(&self, Turn { key, token }: Turn, answer: Option<Vec<u8>>) {
        let mut commands = pipe();
        if let Some(answer) = answer.filter(|answer| answer.len() <= self.options.answer_bytes_max) {
            commands.cmd("SET").arg(self.keys.answer(&key)).arg(answer).arg("EX").arg(self.options.answer_ttl_s).ignore();
        }
        if let Some(token) = token {
            commands.cmd("EVAL").arg(GIVE_BACK).arg(1).arg(self.keys.turn(&key)).arg(token).ignore();
        }
        if !commands.is_empty() {
            let _: Option<()> = self.connection.ask(&commands).await;
        }
    }

    /// One more in the address's window, which begins with its first request.
    async fn one_more(&self, address: IpAddr, window: Duration) -> Option<Counted> {
        let (key, window_ms) = (self.keys.requests(address), window.as_millis() as u64);
        let mut commands = pipe();
        commands.atomic();
        commands.cmd("SET").arg(&key).arg(0).arg("NX").arg("PX").arg(window_ms).ignore();
        commands.cmd("INCR").arg(&key);
        commands.cmd("PTTL").arg(&key);
        let (requests, left_ms): (u64, i64) = self.connection.ask(&commands).await?;
        Some(Counted { requests, left: Duration::from_millis(u64::try_from(left_ms).unwrap_or(0)) })
    }
}

impl Shared for Share {
    fn find(&self, key: String) -> Eventually<'_, Found> {
        Box::pin(self.find_or_take_turn(key))
    }

    fn hand_in(&self, turn: Turn, answer: Option<Vec<u8>>) -> Eventually<'_, ()> {
        Box::pin(self.keep(turn, answer))
    }

    fn count(&self, address: IpAddr, window: Duration) -> Eventually<'_, Option<Counted>> {
        Box::pin(self.one_more(address, window))
    }
}
