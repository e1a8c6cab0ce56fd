//! Delayed subscriptions: a session as it was known some session time ago, for whoever watches pictures that come later than the timing.
//!
//! They read committed facts and never run a graph. Session time is the time of the ledger's last record: while nothing is committed
//! nothing becomes older, and once a session is complete all of it is told.

use std::time::Duration;

use pitwall_engine::Micros;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::channel::{Channel, Delivery};
use crate::hub::Feed;
use crate::message::{Envelope, Position};
use crate::past::{Past, Place, Seen};
use crate::problem::Problem;
use crate::ring::join;

/// A delayed subscription's cursor.
pub(crate) struct Delayed {
    delay_ms: i64,
    epoch: i32,
    /// Up to where facts have been looked at.
    seen: Option<Place>,
    /// `seq` of the last message; none before the snapshot.
    told: Option<u64>,
    /// The facts in the last table told of a latest-wins channel.
    rows: Vec<u64>,
    looks_at: Instant,
    /// Its place among the delayed subscriptions of this process.
    _permit: OwnedSemaphorePermit,
}

/// What a delayed subscription says next.
pub(crate) enum Told {
    /// Nothing became old enough.
    Nothing,
    /// It has looked just now, and looks again then.
    Later(Instant),
    /// A message.
    Message(String),
    /// More facts than a client may catch up.
    TooFar,
}

impl Delayed {
    /// A subscription that has told nothing yet.
    ///
    /// # Errors
    /// When the delay is out of bounds or there are too many of them.
    pub(crate) fn begin(past: &Past, delay_ms: i64) -> Result<Self, Problem> {
        let delay_ms_max = past.options().delay_ms_max;
        if !(0..=delay_ms_max).contains(&delay_ms) {
            return Err(Problem::bad_request(format!("`delay_ms` is between 0 and {delay_ms_max}, not {delay_ms}")));
        }
        let permit = past.delayed_permit()?;
        Ok(Self { delay_ms, epoch: 0, seen: None, told: None, rows: Vec::new(), looks_at: Instant::now(), _permit: permit })
    }

    /// Looks at what has become old enough: a snapshot first, then frames.
    ///
    /// # Errors
    /// When log or store cannot be read.
    pub(crate) async fn next(&mut self, past: &Past, feed: &Feed, channel: Channel) -> Result<Told, Problem> {
        let now = Instant::now();
        if now < self.looks_at {
            return Ok(Told::Later(self.looks_at));
        }
        self.looks_at = now + Duration::from_millis(past.options().delayed_look_interval_ms);
        let (position, known_at, is_complete) = feed.standing();
        if self.told.is_some() && position.epoch != self.epoch {
            (self.seen, self.told) = (None, None);
            self.rows.clear();
        }
        self.epoch = position.epoch;
        let known_by = if is_complete { known_at } else { known_at.plus(-self.delay_ms * 1_000) };
        let is_first = self.told.is_none();
        let reads_all = !is_first && channel.delivery() == Delivery::Every;
        let session_key = feed.session_key();
        let (place, rows) = match past.seen(session_key, position.epoch, channel, self.seen, known_by, reads_all).await? {
            Seen::Rows(place, rows) => {
                self.seen = Some(place);
                (place, rows)
            }
            Seen::TooFar => return Ok(Told::TooFar),
            // The session is younger than the delay.
            Seen::Nothing if is_first => (Place { seq: 0, known_at: Micros(0) }, Vec::new()),
            Seen::Nothing => return Ok(Told::Nothing),
        };
        let numbers: Vec<u64> = rows.iter().map(|row| row.fact_seq).collect();
        let is_news = if reads_all { !numbers.is_empty() } else { numbers != self.rows };
        if !is_first && !is_news {
            return Ok(Told::Nothing);
        }
        // A table stands on its own; what happened follows the message before.
        let (kind, prev) = if is_first { ("snapshot", None) } else { ("frame", self.told.filter(|_| reads_all)) };
        if !reads_all {
            self.rows = numbers;
        }
        self.told = Some(place.seq);
        let position = Position { epoch: position.epoch, seq: place.seq };
        let envelope = Envelope { channel: channel.name(), session_key, position, known_at: place.known_at };
        Ok(Told::Message(envelope.write(kind, prev, &join(&rows))))
    }
}
