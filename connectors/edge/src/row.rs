//! Rows: facts as readers get them, flat JSON, encoded once.

use std::sync::Arc;

use pitwall_engine::Micros;
use pitwall_schemas::codec::{Avro, DecodeError, Reader};
use pitwall_schemas::facts::FactBody;
use pitwall_schemas::shared::{FactHeader, KnownAtQuality};
use serde::{Deserialize, Serialize};

use crate::channel::Channel;

/// One fact as JSON, and what the edge itself needs of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Its number in session and epoch.
    pub fact_seq: u64,
    /// When it could first be known.
    pub known_at: Micros,
    /// Whether arrival times were observed.
    pub quality: KnownAtQuality,
    /// Whether it takes back what was said under its key: readers are told, and nothing stands there any more.
    pub is_withdrawn: bool,
    /// What it is about: a later row of the same key replaces it.
    pub key: Vec<u8>,
    /// Ledger records it came from.
    pub causes: Vec<u64>,
    /// The JSON object.
    pub json: Arc<str>,
}

/// Why bytes are no row.
#[derive(Debug, thiserror::Error)]
pub enum RowError {
    /// They are not a fact of that kind.
    #[error("a fact of `{0}` cannot be read: {1}")]
    Encoding(&'static str, DecodeError),
    /// The fact cannot be written as JSON.
    #[error("a fact of `{0}` cannot be written as JSON: {1}")]
    Json(&'static str, serde_json::Error),
}

#[derive(Serialize)]
struct Flat<'a> {
    fact_id: String,
    fact_seq: i64,
    known_at: Micros,
    event_time: Micros,
    revision: i32,
    supersedes: Option<i64>,
    withdrawn: bool,
    known_at_quality: KnownAtQuality,
    causes: &'a [i64],
    #[serde(flatten)]
    body: &'a FactBody,
}

impl Row {
    /// Reads an encoded fact, header and body, of the channel's kind; also its body, for what the edge derives from it.
    ///
    /// # Errors
    /// When the bytes are not such a fact.
    pub fn read(channel: Channel, bytes: &[u8]) -> Result<(Self, FactBody), RowError> {
        let kind = channel.name();
        let encoding = |error| RowError::Encoding(kind, error);
        let mut reader = Reader::new(bytes);
        let header = FactHeader::decode(&mut reader).map_err(encoding)?;
        let body = FactBody::decode(kind, &mut reader).unwrap_or(Err(DecodeError::Truncated)).map_err(encoding)?;
        let mut key = Vec::new();
        body.encode_key(&mut key);
        let flat = Flat {
            fact_id: format!("{}-{}-{}", header.session_key, header.epoch, header.fact_seq),
            fact_seq: header.fact_seq,
            known_at: header.known_at,
            event_time: header.event_time,
            revision: header.revision,
            supersedes: header.supersedes,
            withdrawn: header.withdrawn,
            known_at_quality: header.known_at_quality,
            causes: &header.causes,
            body: &body,
        };
        let json = serde_json::to_string(&flat).map_err(|error| RowError::Json(kind, error))?;
        let row = Self {
            fact_seq: header.fact_seq as u64,
            known_at: header.known_at,
            quality: header.known_at_quality,
            is_withdrawn: header.withdrawn,
            key,
            causes: header.causes.iter().map(|&seq| seq as u64).collect(),
            json: json.into(),
        };
        Ok((row, body))
    }
}

/// Which rows of a channel an answer holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// Cars; all when empty.
    pub drivers: Vec<i32>,
    /// First lap.
    pub from_lap: Option<i32>,
    /// Last lap.
    pub to_lap: Option<i32>,
}

#[derive(Deserialize)]
struct Filtered {
    #[serde(default)]
    driver_number: Option<i32>,
    #[serde(default)]
    lap_number: Option<i32>,
}

impl Filter {
    /// Whether it lets everything pass.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.drivers.is_empty() && self.from_lap.is_none() && self.to_lap.is_none()
    }

    /// Whether a row passes. A row that does not say its car or lap passes no filter on it.
    #[must_use]
    pub fn passes(&self, row: &Row) -> bool {
        if self.is_open() {
            return true;
        }
        let Ok(fields) = serde_json::from_str::<Filtered>(&row.json) else { return false };
        let is_car = self.drivers.is_empty() || fields.driver_number.is_some_and(|driver| self.drivers.contains(&driver));
        let starts = self.from_lap.is_none_or(|from| fields.lap_number.is_some_and(|lap| lap >= from));
        let ends = self.to_lap.is_none_or(|to| fields.lap_number.is_some_and(|lap| lap <= to));
        is_car && starts && ends
    }
}
