//! What client and server say to each other over a WebSocket.

use std::fmt::Write as _;

use pitwall_engine::Micros;
use serde::{Deserialize, Deserializer, Serialize};

/// A place in one derivation of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// The derivation.
    pub epoch: i32,
    /// The last ledger record covered.
    pub seq: u64,
}

/// A session as a client names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionName {
    /// By number.
    Key(i32),
    /// The one that received input last.
    Latest,
}

impl SessionName {
    /// Reads a number or `latest`.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        if text == "latest" {
            return Some(Self::Latest);
        }
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| text.parse().ok().map(Self::Key)).flatten()
    }
}

impl<'de> Deserialize<'de> for SessionName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Key(i32),
            Name(String),
        }
        match Either::deserialize(deserializer)? {
            Either::Key(key) => Ok(Self::Key(key)),
            Either::Name(name) => Self::read(&name).ok_or_else(|| serde::de::Error::custom("a session is a number or \"latest\"")),
        }
    }
}

/// What a client says.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Begin a channel of a session, or look at its past.
    Subscribe {
        /// The channel's name.
        channel: String,
        /// The session.
        session: SessionName,
        /// Position of the last frame the client has.
        #[serde(default)]
        since: Option<Position>,
        /// A moment: one snapshot of it and no frames.
        #[serde(default)]
        as_of: Option<String>,
        /// Session time by which everything comes later, ms.
        #[serde(default)]
        delay_ms: Option<i64>,
    },
    /// End a channel of a session.
    Unsubscribe {
        /// The channel's name.
        channel: String,
        /// The session.
        session: SessionName,
    },
}

/// The beginning of every snapshot, frame and recovery.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Envelope<'a> {
    pub(crate) channel: &'a str,
    pub(crate) session_key: i32,
    pub(crate) position: Position,
    pub(crate) known_at: Micros,
}

impl Envelope<'_> {
    /// A message with rows, given as the inside of a JSON array.
    pub(crate) fn write(&self, kind: &str, prev: Option<u64>, rows: &str) -> String {
        let Self { channel, session_key, position: Position { epoch, seq }, known_at } = self;
        let mut text = String::with_capacity(rows.len() + 160);
        let _ = write!(
            text,
            r#"{{"type":"{kind}","channel":"{channel}","session":{session_key},"epoch":{epoch},"seq":{seq},"known_at":"{known_at}","prev":"#
        );
        let _ = match prev {
            Some(prev) => write!(text, "{prev}"),
            None => write!(text, "null"),
        };
        text.push_str(r#","rows":["#);
        text.push_str(rows);
        text.push_str("]}");
        text
    }
}

/// That frames go on after a position.
pub(crate) fn recovered(channel: &str, session_key: i32, position: Position) -> String {
    let Position { epoch, seq } = position;
    format!(r#"{{"type":"recovered","channel":"{channel}","session":{session_key},"epoch":{epoch},"seq":{seq}}}"#)
}

/// What was wrong with a client's message.
pub(crate) fn error(status: u16, detail: &str) -> String {
    serde_json::json!({"type": "error", "status": status, "detail": detail}).to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_session_is_a_number_or_latest() {
        assert_eq!(SessionName::read("9920"), Some(SessionName::Key(9920)));
        assert_eq!(SessionName::read("latest"), Some(SessionName::Latest));
        for text in ["", "-1", "+1", "99999999999", "Latest", "9920 "] {
            assert_eq!(SessionName::read(text), None, "{text}");
        }
    }

    #[test]
    fn an_unknown_field_of_a_request_is_refused() {
        assert!(serde_json::from_str::<Request>(r#"{"type":"subscribe","channel":"timing","session":1}"#).is_ok());
        assert!(serde_json::from_str::<Request>(r#"{"type":"subscribe","channel":"timing","session":1,"from":3}"#).is_err());
        assert!(serde_json::from_str::<Request>(r#"{"type":"subscribe","channel":"timing","session":1,"since":{"epoch":0}}"#).is_err());
    }

    proptest! {
        #[test]
        fn no_message_makes_reading_panic(text in ".{0,200}") {
            let _ = serde_json::from_str::<Request>(&text);
        }

        #[test]
        fn no_shape_of_json_makes_reading_panic(channel in ".{0,20}", session in any::<i64>(), seq in any::<i64>()) {
            let text = serde_json::json!({"type": "subscribe", "channel": channel, "session": session, "since": {"epoch": 0, "seq": seq}});
            let is_valid = i32::try_from(session).is_ok() && seq >= 0;
            prop_assert_eq!(serde_json::from_str::<Request>(&text.to_string()).is_ok(), is_valid);
        }
    }
}
