//! One channel of one session: its table of newest rows and the ring of its last frames.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use pitwall_engine::Micros;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::channel::{Channel, Delivery};
use crate::message::{Envelope, Position};
use crate::options::Options;
use crate::row::Row;

/// One commit's worth of a channel, encoded once and shared.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    /// The last ledger record it covers.
    pub(crate) seq: u64,
    /// `seq` of the channel's frame before it.
    pub(crate) prev: Option<u64>,
    /// When the commit was announced: where its latency is measured from.
    pub(crate) committed_at: Instant,
    /// The message.
    pub(crate) text: Utf8Bytes,
}

/// What comes next for a reader that has everything up to a record.
#[derive(Debug, Clone)]
pub(crate) enum Next {
    /// Nothing yet.
    Nothing,
    /// These frames.
    Frames(Vec<Frame>),
    /// The ring has moved on, and every fact is due: those up to this record come from the log.
    Log(u64),
}

/// Table and ring of one channel.
#[derive(Debug)]
pub(crate) struct ChannelState {
    channel: Channel,
    rows: BTreeMap<Vec<u8>, Row>,
    /// All rows joined, made when first asked for.
    joined: OnceLock<Arc<str>>,
    ring: VecDeque<Frame>,
    ring_bytes: usize,
    /// `seq` of the newest frame; of a restored session, the record it was restored at.
    last_seq: Option<u64>,
    /// When that record became known.
    known_at: Micros,
    committed_at: Instant,
}

impl ChannelState {
    pub(crate) fn new(channel: Channel) -> Self {
        Self {
            channel,
            rows: BTreeMap::new(),
            joined: OnceLock::new(),
            ring: VecDeque::new(),
            ring_bytes: 0,
            last_seq: None,
            known_at: Micros(0),
            committed_at: Instant::now(),
        }
    }

    /// A channel restored with these rows: its ring begins after record `seq`.
    pub(crate) fn restored(channel: Channel, seq: u64, known_at: Micros, rows: Vec<Row>, options: &Options) -> Self {
        let mut state = Self::new(channel);
        state.last_seq = Some(seq);
        state.known_at = known_at;
        for row in rows {
            state.keep(row, options);
        }
        state
    }

    /// The newest frame's `seq` and time.
    pub(crate) fn last(&self) -> Option<(u64, Micros)> {
        self.last_seq.map(|seq| (seq, self.known_at))
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.values()
    }

    /// Every key's newest row, as the inside of a JSON array.
    pub(crate) fn joined(&self) -> Arc<str> {
        self.joined.get_or_init(|| join(self.rows.values()).into()).clone()
    }

    /// Takes a commit's rows, in order, and makes the frame of them.
    pub(crate) fn commit(&mut self, envelope: &Envelope<'_>, rows: Vec<Row>, committed_at: Instant, options: &Options) {
        let frame_rows = match self.channel.delivery() {
            Delivery::Every => join(&rows),
            Delivery::Latest => {
                let newest: BTreeMap<&[u8], &Row> = rows.iter().map(|row| (row.key.as_slice(), row)).collect();
                join(newest.into_values())
            }
        };
        let prev = self.last_seq;
        let text = Utf8Bytes::from(envelope.write("frame", prev, &frame_rows));
        let frame = Frame { seq: envelope.position.seq, prev, committed_at, text };
        self.joined = OnceLock::new();
        self.last_seq = Some(frame.seq);
        self.known_at = envelope.known_at;
        self.committed_at = committed_at;
        for row in rows {
            self.keep(row, options);
        }
        self.ring_bytes += frame.text.len();
        self.ring.push_back(frame);
        while self.ring.len() > options.ring_frames_max || self.ring_bytes > options.ring_bytes_max {
            let Some(oldest) = self.ring.pop_front() else { return };
            self.ring_bytes -= oldest.text.len();
        }
    }

    fn keep(&mut self, row: Row, options: &Options) {
        if row.is_withdrawn {
            self.rows.remove(&row.key);
            return;
        }
        self.rows.insert(row.key.clone(), row);
        if self.rows.len() > options.table_rows_max {
            let oldest = self.rows.values().min_by_key(|row| row.fact_seq).map(|row| row.key.clone());
            self.rows.remove(&oldest.unwrap_or_default());
            metrics::counter!(crate::metrics::ROWS_DROPPED, "channel" => self.channel.name()).increment(1);
        }
    }

    /// The record up to which frames have left the ring; `None` while it holds all of them.
    fn gone(&self) -> Option<u64> {
        self.ring.front().map_or(self.last_seq, |oldest| oldest.prev)
    }

    /// Whether the ring still holds everything after record `seq`.
    pub(crate) fn holds_after(&self, seq: u64) -> bool {
        self.gone().is_none_or(|gone| seq >= gone)
    }

    /// Where a reader that has everything up to record `seq`, which the ring holds on from, stands among the channel's frames.
    pub(crate) fn stand(&self, seq: u64) -> u64 {
        let behind = self.ring.partition_point(|frame| frame.seq <= seq);
        let newest = behind.checked_sub(1).and_then(|index| self.ring.get(index)).map(|frame| frame.seq);
        newest.or_else(|| self.gone()).unwrap_or(seq)
    }

    /// What comes after record `seq`, about `bytes_max` of it.
    pub(crate) fn after(&self, seq: u64, epoch: i32, session_key: i32, bytes_max: usize) -> Next {
        let Some(last_seq) = self.last_seq.filter(|&last_seq| last_seq > seq) else { return Next::Nothing };
        if !self.holds_after(seq) {
            return match self.channel.delivery() {
                Delivery::Every => Next::Log(self.gone().unwrap_or(last_seq)),
                Delivery::Latest => {
                    metrics::counter!(crate::metrics::LAG_JUMPS, "channel" => self.channel.name()).increment(1);
                    let position = Position { epoch, seq: last_seq };
                    let envelope = Envelope { channel: self.channel.name(), session_key, position, known_at: self.known_at };
                    let text = Utf8Bytes::from(envelope.write("frame", None, &self.joined()));
                    Next::Frames(vec![Frame { seq: last_seq, prev: None, committed_at: self.committed_at, text }])
                }
            };
        }
        let mut bytes = 0;
        let from = self.ring.partition_point(|frame| frame.seq <= seq);
        let frames = self.ring.iter().skip(from).take_while(|frame| {
            let is_first = bytes == 0;
            bytes += frame.text.len();
            is_first || bytes <= bytes_max
        });
        Next::Frames(frames.cloned().collect())
    }
}

/// Rows as the inside of a JSON array.
pub(crate) fn join<'a>(rows: impl IntoIterator<Item = &'a Row>) -> String {
    let mut joined = String::new();
    for row in rows {
        if !joined.is_empty() {
            joined.push(',');
        }
        joined.push_str(&row.json);
    }
    joined
}
