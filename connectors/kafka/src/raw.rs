//! Reading a session's raw records: its topics as the one sequence that ingest numbered.
//!
//! A message that ingest did not write has no place in that sequence. It never reaches the ledger and can change no fact; it becomes a dead
//! letter in the commit that takes the reading past it, or in the session's last one.

use std::collections::BTreeMap;

use pitwall_engine::backtest::RawSource;
use pitwall_engine::hash::Digest;
use pitwall_engine::log::{CommitUnit, SessionState, StoredRaw};
use pitwall_engine::session::RawRecord;
use pitwall_engine::{Event, Micros};
use pitwall_schemas::codec::{Avro, Reader};
use pitwall_schemas::log::{DeadLetter, RawHeader, SourceProgress};
use pitwall_schemas::wire;
use rdkafka::message::{BorrowedMessage, Message};

use crate::client::KafkaLogError;
use crate::lanes::{Holes, Lanes, Start};
use crate::metrics;
use crate::options::Options;
use crate::partition;
use crate::schemas::RawStream;

/// Records that a backtest from the topics takes at a time.
const BLOCK_RECORDS: usize = 8_192;

/// Reads one session's raw records.
pub(crate) struct RawReader {
    lanes: Lanes<StoredRaw>,
    /// The offset behind the last record handed over, by stream.
    delivered: BTreeMap<u16, i64>,
    session: Wanted,
    /// Messages of the session that ingest did not write, until a commit has taken them in.
    foreign: Vec<DeadLetter>,
}

/// How a session's messages are known.
struct Wanted {
    key: String,
    progress: SourceProgress,
    streams: Vec<RawStream>,
    options: Options,
}

impl RawReader {
    /// Begins to read from `asked`, by stream; a stream that is not in it begins where the session does. `next` is the first number, if holes
    /// are to be waited out.
    pub(crate) fn open(
        options: &Options,
        streams: &[RawStream],
        progress: &SourceProgress,
        asked: BTreeMap<u16, i64>,
        next: Option<i64>,
    ) -> Result<Self, KafkaLogError> {
        let starts = streams.iter().enumerate().map(|(index, stream)| {
            let begins = progress.begins.iter().find(|begin| begin.stream == stream.name).map_or(0, |begin| begin.offset);
            Start { topic: options.raw_topic(stream.name), offset: asked.get(&(index as u16)).copied().unwrap_or(begins) }
        });
        let number = partition::of(progress.session_key, options.partitions);
        let lanes = Lanes::open(options, number, starts.collect(), next, options.read_ahead_bytes_max)?;
        let session = Wanted {
            key: partition::key(progress.session_key),
            progress: progress.clone(),
            streams: streams.to_vec(),
            options: options.clone(),
        };
        Ok(Self { lanes, delivered: asked, session, foreign: Vec::new() })
    }

    /// The offset behind the last record handed over, by stream.
    pub(crate) const fn delivered(&self) -> &BTreeMap<u16, i64> {
        &self.delivered
    }

    /// The next records, at most `records_max`.
    pub(crate) fn read(&mut self, holes: Holes, records_max: usize) -> Result<Vec<StoredRaw>, KafkaLogError> {
        let Self { lanes, delivered, session, foreign } = self;
        let mut records = Vec::new();
        while records.len() < records_max {
            let next = lanes.next(holes, |lane, message| {
                if message.key() != Some(session.key.as_bytes()) {
                    return Ok(None);
                }
                match session.record(lane as u16, message) {
                    Ok(raw) => Ok(Some((raw.ingest_seq, raw))),
                    Err(reason) => {
                        session.bury(lane, message, &reason, foreign);
                        Ok(None)
                    }
                }
            })?;
            let Some((_, raw)) = next else { break };
            delivered.insert(raw.stream, raw.offset + 1);
            records.push(raw);
        }
        Ok(records)
    }

    /// Looks for foreign messages behind the last record, up to where the topics end now: no later commit would.
    pub(crate) fn look_behind(&mut self) -> Result<(), KafkaLogError> {
        let Wanted { options, streams, progress, .. } = &self.session;
        // Only a new reader is told again where each topic ends.
        let mut anew = Self::open(options, streams, progress, self.delivered.clone(), None)?;
        anew.read(Holes::Pass, usize::MAX)?;
        let number_of = |name: &str| self.session.streams.iter().position(|stream| stream.name == name).map(|number| number as u16);
        let is_before = |letter: &DeadLetter| {
            number_of(&letter.stream).and_then(|number| self.delivered.get(&number)).is_some_and(|offset| letter.offset < *offset)
        };
        anew.foreign.extend(self.foreign.iter().filter(|letter| is_before(letter)).cloned());
        *self = anew;
        Ok(())
    }

    /// The foreign messages that a commit takes the reading past; all of them when it is the session's last.
    pub(crate) fn foreign_in(&self, unit: &CommitUnit<'_>) -> Vec<DeadLetter> {
        let known_at = unit.head.known_at;
        self.foreign.iter().filter(|letter| is_past(letter, unit)).map(|letter| DeadLetter { known_at, ..letter.clone() }).collect()
    }

    /// Forgets them, once they are committed.
    pub(crate) fn forget_foreign_in(&mut self, unit: &CommitUnit<'_>) {
        self.foreign.retain(|letter| !is_past(letter, unit));
    }
}

fn is_past(letter: &DeadLetter, unit: &CommitUnit<'_>) -> bool {
    let is_behind = |position: &pitwall_schemas::log::RawPosition| position.stream == letter.stream && letter.offset < position.offset;
    unit.head.state == SessionState::Complete || unit.positions.iter().any(is_behind)
}

impl Wanted {
    /// A message as ingest wrote it, or why it did not.
    fn record(&self, stream: u16, message: &BorrowedMessage<'_>) -> Result<StoredRaw, String> {
        let (_, record) = wire::split_frame(message.payload().unwrap_or_default()).map_err(|error| error.to_string())?;
        let mut body = Reader::new(record);
        let header = RawHeader::decode(&mut body).map_err(|error| error.to_string())?;
        if header.source_id != self.progress.source_id {
            return Err(format!("it is of source {}, the session's is {}", Digest(header.source_id), Digest(self.progress.source_id)));
        }
        Ok(StoredRaw {
            stream,
            partition: message.partition(),
            offset: message.offset(),
            ingest_seq: header.ingest_seq,
            received_at: header.received_at,
            payload: body.rest().to_vec(),
        })
    }

    fn bury(&self, lane: usize, message: &BorrowedMessage<'_>, reason: &str, foreign: &mut Vec<DeadLetter>) {
        ::metrics::counter!(metrics::FOREIGN).increment(1);
        let session_key = self.progress.session_key;
        if foreign.len() >= self.options.foreign_messages_max {
            tracing::warn!(session_key, topic = message.topic(), offset = message.offset(), "one more foreign message");
            return;
        }
        let payload = message.payload().unwrap_or_default();
        foreign.push(DeadLetter {
            session_key,
            seq: -1,
            stream: self.streams.get(lane).map_or("", |stream| stream.name).to_owned(),
            partition: message.partition(),
            offset: message.offset(),
            operator: None,
            reason: format!("PitWall's ingest did not write this: {reason}"),
            known_at: Micros(0),
            payload: payload[..payload.len().min(self.options.foreign_bytes_max)].to_vec(),
        });
    }
}

/// A session's raw topics up to where they stood when this was made: a source for backtests.
pub struct RecordedSession {
    reader: RawReader,
    progress: SourceProgress,
    taken: i64,
    records: Vec<StoredRaw>,
}

impl RecordedSession {
    /// The session up to what `progress` says was ingested.
    pub(crate) fn open(options: &Options, streams: &[RawStream], progress: SourceProgress) -> Result<Self, KafkaLogError> {
        let reader = RawReader::open(options, streams, &progress, BTreeMap::new(), Some(0))?;
        Ok(Self { reader, progress, taken: 0, records: Vec::new() })
    }

    /// Its source, and the end that was captured.
    #[must_use]
    pub const fn progress(&self) -> &SourceProgress {
        &self.progress
    }

    /// Messages passed over that ingest did not write.
    #[must_use]
    pub const fn foreign(&self) -> usize {
        self.reader.foreign.len()
    }
}

impl<S: Event> RawSource<S> for RecordedSession {
    type Error = KafkaLogError;
    type Block<'a> = Box<dyn Iterator<Item = Result<RawRecord<'a, S>, KafkaLogError>> + 'a>;

    /// It ends at the captured number, whatever has been appended since: numbers are dense, offsets are not.
    fn next_block(&mut self) -> Result<Option<Self::Block<'_>>, KafkaLogError> {
        let left = usize::try_from(self.progress.next_ingest_seq - self.taken).unwrap_or(0);
        if left == 0 {
            return Ok(None);
        }
        self.records = self.reader.read(Holes::Wait, left.min(BLOCK_RECORDS))?;
        self.taken += self.records.len() as i64;
        let records = self.records.iter().map(|raw| {
            Ok(RawRecord {
                stream: raw.stream,
                partition: raw.partition,
                offset: raw.offset,
                ingest_seq: raw.ingest_seq,
                received_at: raw.received_at,
                payload: &raw.payload,
                event: S::decode(raw.stream, &raw.payload),
            })
        });
        Ok(Some(Box::new(records)))
    }
}
