//! Looks at the past: bounded in number, each computed once however many ask, the last ones kept, here and where edges share them.
//!
//! A channel at a moment is the newest fact of each key known by then; nothing is derived again.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use pitwall_engine::Micros;
use pitwall_engine::log::StoredFact;
use pitwall_schemas::moment::{Bound, Moment, NoSuchMoment};
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};

use crate::channel::Channel;
use crate::hub::{Feed, Table, read_clock};
use crate::message::Position;
use crate::options::Options;
use crate::problem::Problem;
use crate::reader::{ReadError, Reader, Span};
use crate::row::Row;
use crate::shared::{Found, Shared};

type Key = (i32, i32, u64, Channel);
type Look = Arc<OnceCell<Arc<Vec<Row>>>>;

#[derive(Debug, Default)]
struct Cache {
    looks: BTreeMap<Key, Look>,
    order: VecDeque<Key>,
}

/// Reads of the log and the store, each within its bound.
pub(crate) struct Past {
    reader: Arc<dyn Reader>,
    options: Arc<Options>,
    looks: Arc<Semaphore>,
    reads: Arc<Semaphore>,
    delayed: Arc<Semaphore>,
    cache: Mutex<Cache>,
    shared: Option<Arc<dyn Shared>>,
}

/// A ledger record and its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) seq: u64,
    pub(crate) known_at: Micros,
}

/// What a delayed subscription sees.
#[derive(Debug)]
pub(crate) enum Seen {
    /// No record more than before.
    Nothing,
    /// Rows, and the last record they cover.
    Rows(Place, Vec<Row>),
    /// More facts than a client may catch up.
    TooFar,
}

/// Facts that a client missed.
#[derive(Debug)]
pub(crate) enum CaughtUp {
    /// All of them, and when the last record they cover became known.
    Rows(Vec<Row>, Micros),
    /// More than a client may catch up.
    TooFar,
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Unavailable(detail) => Self::busy(detail),
            ReadError::Unsupported(detail) => Self::new(hyper::StatusCode::NOT_IMPLEMENTED, detail),
        }
    }
}

impl From<NoSuchMoment> for Problem {
    fn from(error: NoSuchMoment) -> Self {
        Self::bad_request(error.to_string())
    }
}

impl Past {
    pub(crate) fn new(reader: Arc<dyn Reader>, options: Arc<Options>, shared: Option<Arc<dyn Shared>>) -> Self {
        Self {
            reader,
            looks: Arc::new(Semaphore::new(options.looks_back_max)),
            reads: Arc::new(Semaphore::new(options.reads_max)),
            delayed: Arc::new(Semaphore::new(options.delayed_max)),
            options,
            cache: Mutex::default(),
            shared,
        }
    }

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    /// A place among the delayed subscriptions.
    pub(crate) fn delayed_permit(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let permit = self.delayed.clone().try_acquire_owned();
        permit.map_err(|_| Problem::busy(format!("there are {} delayed subscriptions already", self.options.delayed_max)))
    }

    /// Runs a blocking read off the async threads. The permit lives as long as the read, even when nobody waits for it any more.
    async fn blocking<T: Send + 'static>(
        &self,
        permit: OwnedSemaphorePermit,
        read: impl FnOnce(&dyn Reader) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, Problem> {
        let reader = self.reader.clone();
        let read = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            read(&*reader)
        });
        read.await.map_err(|_| Problem::new(hyper::StatusCode::INTERNAL_SERVER_ERROR, "a read of the log failed"))?.map_err(Problem::from)
    }

    /// A short read: waits for its turn.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn Reader) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, Problem> {
        let permit = self.reads.clone().acquire_owned().await.map_err(|_| Problem::busy("the server stops"))?;
        self.blocking(permit, read).await
    }

    /// A long read: refused when too many run.
    pub(crate) async fn look<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn Reader) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, Problem> {
        let Ok(permit) = self.looks.clone().try_acquire_owned() else {
            metrics::counter!(crate::metrics::LOOKS_BACK, "result" => "refused").increment(1);
            return Err(Problem::busy(format!("{} looks at the past run already: try again in a second", self.options.looks_back_max)));
        };
        self.blocking(permit, read).await
    }

    /// Where in the ledger a moment is, in a session's epoch.
    pub(crate) async fn place(&self, feed: &Feed, epoch: i32, moment: Moment) -> Result<(Position, Micros), Problem> {
        let (current, now, mut clock) = feed.clock();
        let session_key = feed.session_key();
        if epoch != current.epoch && matches!(moment, Moment::Lap(_) | Moment::RaceClock(_)) {
            let page = self.options.look_back_page_facts;
            clock = self.read(move |reader| read_clock(reader, session_key, epoch, page)).await?;
        }
        let bound = clock.bound(moment)?;
        let place = self.read(move |reader| {
            let seq = match bound {
                Bound::Seq(seq) => Some(seq),
                Bound::KnownAt(time) if time >= now => Some(current.seq),
                Bound::KnownAt(time) => reader.last_known_by(session_key, time)?,
                // Of the records at or after that time the first one counts.
                Bound::Reached(time) => Some(reader.last_known_by(session_key, time.plus(-1))?.map_or(0, |seq| seq + 1)),
            };
            let Some(seq) = seq.filter(|&seq| seq <= current.seq) else { return Ok(Err(seq)) };
            Ok(reader.known_at(session_key, seq)?.map(|known_at| (seq, known_at)).ok_or(Some(seq)))
        });
        match place.await? {
            Ok((seq, known_at)) => Ok((Position { epoch, seq }, known_at)),
            Err(Some(_)) => Err(NoSuchMoment::AfterEnd(current.seq).into()),
            Err(None) => Err(Problem::bad_request("the session begins later: nothing of it was known then")),
        }
    }

    /// A channel at a place in the ledger.
    pub(crate) async fn table(&self, feed: &Feed, channel: Channel, (position, known_at): (Position, Micros)) -> Result<Table, Problem> {
        let session_key = feed.session_key();
        let key = (session_key, position.epoch, position.seq, channel);
        let look = self.kept(key);
        if look.initialized() {
            metrics::counter!(crate::metrics::LOOKS_BACK, "result" => "cached").increment(1);
        }
        let rows = look.get_or_try_init(|| async { self.find_or_compute(feed, channel, position, known_at).await.map(Arc::new) }).await?;
        Ok(Table { position, known_at, rows: rows.to_vec() })
    }

    /// What another edge has read already, or what is read here, for the others too.
    async fn find_or_compute(&self, feed: &Feed, channel: Channel, position: Position, known_at: Micros) -> Result<Vec<Row>, Problem> {
        let Some(shared) = &self.shared else { return Ok(self.compute(feed, channel, position, known_at).await?.1) };
        let turn = match shared.find(shared_key(feed, channel, position, known_at)).await {
            Found::Answer(answer) => match kept::read(&answer).ok_or(()).and_then(|facts| standing(channel, facts).map_err(drop)) {
                Ok(rows) => {
                    metrics::counter!(crate::metrics::LOOKS_BACK, "result" => "shared").increment(1);
                    return Ok(rows);
                }
                // Whatever lies there is none of ours.
                Err(()) => return Ok(self.compute(feed, channel, position, known_at).await?.1),
            },
            Found::Mine(turn) => turn,
        };
        let computed = self.compute(feed, channel, position, known_at).await;
        let answer = computed.as_ref().ok().map(|(facts, _)| kept::write(facts));
        shared.hand_in(turn, answer).await;
        computed.map(|(_, rows)| rows)
    }

    async fn compute(
        &self,
        feed: &Feed,
        channel: Channel,
        position: Position,
        known_at: Micros,
    ) -> Result<(Vec<StoredFact>, Vec<Row>), Problem> {
        let session_key = feed.session_key();
        let read = move |reader: &dyn Reader| {
            let facts = reader.latest(session_key, position.epoch, channel, Some(known_at))?;
            let rows = standing(channel, facts.iter().map(|fact| fact.bytes.as_slice()))?;
            Ok((facts, rows))
        };
        let computed = self.look(read).await?;
        metrics::counter!(crate::metrics::LOOKS_BACK, "result" => "computed").increment(1);
        Ok(computed)
    }

    fn kept(&self, key: Key) -> Look {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(look) = cache.looks.get(&key) {
            return look.clone();
        }
        let look = Look::default();
        cache.looks.insert(key, look.clone());
        cache.order.push_back(key);
        while cache.order.len() > self.options.looks_back_cached_max {
            let Some(oldest) = cache.order.pop_front() else { break };
            cache.looks.remove(&oldest);
        }
        look
    }

    /// The facts of a channel that belong to the ledger records after `after` up to `through`.
    pub(crate) async fn catch_up(&self, session_key: i32, channel: Channel, after: Position, through: u64) -> Result<CaughtUp, Problem> {
        let facts_max = self.options.catch_up_facts_max;
        let caught_up = self.read(move |reader| {
            let known_at = |seq| {
                let missing = || ReadError::Unavailable(format!("ledger record {seq} of session {session_key} cannot be read"));
                reader.known_at(session_key, seq)?.ok_or_else(missing)
            };
            let (known_after, known_by) = (known_at(after.seq)?, known_at(through)?);
            let span = Span { from_fact_seq: 0, known_after: Some(known_after), known_by: Some(known_by) };
            let rows = every_fact(reader, session_key, after.epoch, channel, span, facts_max)?;
            Ok(rows.map_or(CaughtUp::TooFar, |rows| CaughtUp::Rows(rows, known_by)))
        });
        caught_up.await
    }

    /// A channel as of the last record known by then, if that is another than `before`: every fact since, or the newest of each key.
    pub(crate) async fn seen(
        &self,
        session_key: i32,
        epoch: i32,
        channel: Channel,
        before: Option<Place>,
        known_by: Micros,
        reads_all: bool,
    ) -> Result<Seen, Problem> {
        let facts_max = self.options.catch_up_facts_max;
        let seen = self.read(move |reader| {
            let Some(seq) = reader.last_known_by(session_key, known_by)? else { return Ok(Seen::Nothing) };
            if before.is_some_and(|before| before.seq >= seq) {
                return Ok(Seen::Nothing);
            }
            let Some(known_at) = reader.known_at(session_key, seq)? else { return Ok(Seen::Nothing) };
            let place = Place { seq, known_at };
            if !reads_all {
                return Ok(Seen::Rows(place, table_at(reader, session_key, epoch, channel, known_at)?));
            }
            let span = Span { from_fact_seq: 0, known_after: before.map(|before| before.known_at), known_by: Some(known_at) };
            let rows = every_fact(reader, session_key, epoch, channel, span, facts_max)?;
            Ok(rows.map_or(Seen::TooFar, |rows| Seen::Rows(place, rows)))
        });
        seen.await
    }
}

/// The newest fact of each key known by then, in order of the keys.
fn table_at(reader: &dyn Reader, session_key: i32, epoch: i32, channel: Channel, known_at: Micros) -> Result<Vec<Row>, ReadError> {
    standing(channel, reader.latest(session_key, epoch, channel, Some(known_at))?.iter().map(|fact| fact.bytes.as_slice()))
}

/// Every fact of a stretch, in order; `None` when there are more than `facts_max`.
fn every_fact(
    reader: &dyn Reader,
    session_key: i32,
    epoch: i32,
    channel: Channel,
    span: Span,
    facts_max: usize,
) -> Result<Option<Vec<Row>>, ReadError> {
    let facts = reader.history(session_key, epoch, channel, span, facts_max + 1)?;
    if facts.len() > facts_max { Ok(None) } else { rows_of(channel, facts.iter().map(|fact| fact.bytes.as_slice())).map(Some) }
}

/// Of the newest fact of each key, the rows that stand: what was taken back is in the history only.
fn standing<'a>(channel: Channel, newest: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<Row>, ReadError> {
    let mut rows = rows_of(channel, newest)?;
    rows.retain(|row| !row.is_withdrawn);
    Ok(rows)
}

fn rows_of<'a>(channel: Channel, facts: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<Row>, ReadError> {
    let rows = facts.into_iter().map(|fact| Row::read(channel, fact).map(|(row, _)| row));
    rows.collect::<Result<_, _>>().map_err(|error| ReadError::Unavailable(error.to_string()))
}

/// The name of a look among all edges. What lies there is what the log has, whichever version of the edge reads it; graph and moment tell a
/// session that was derived or ingested anew from the one before.
fn shared_key(feed: &Feed, channel: Channel, Position { epoch, seq }: Position, known_at: Micros) -> String {
    let (session_key, graph, name) = (feed.session_key(), feed.graph_hash(), channel.name());
    format!("{session_key}:{epoch}:{seq}:{}:{graph}:{name}", known_at.0)
}

/// Facts as edges keep them for one another: each with its length, four bytes, little-endian, before it.
mod kept {
    use pitwall_engine::log::StoredFact;

    pub(super) fn write(facts: &[StoredFact]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(facts.iter().map(|fact| fact.bytes.len() + 4).sum());
        for fact in facts {
            bytes.extend_from_slice(&(fact.bytes.len() as u32).to_le_bytes());
            bytes.extend_from_slice(&fact.bytes);
        }
        bytes
    }

    /// The facts; `None` when these bytes are something else.
    pub(super) fn read(mut bytes: &[u8]) -> Option<Vec<&[u8]>> {
        let mut facts = Vec::new();
        while !bytes.is_empty() {
            let (length, rest) = bytes.split_first_chunk()?;
            let (fact, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            facts.push(fact);
            bytes = rest;
        }
        Some(facts)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn facts_are_read_as_they_were_written_and_anything_shorter_is_refused() {
            let bytes = [b"laps".to_vec(), Vec::new(), vec![7; 300]];
            let facts: Vec<StoredFact> =
                bytes.iter().map(|bytes| StoredFact { fact_seq: 0, known_at: Default::default(), bytes: bytes.clone() }).collect();
            let written = write(&facts);
            assert_eq!(read(&written).unwrap(), bytes.iter().map(Vec::as_slice).collect::<Vec<_>>());
            assert_eq!(read(&[]).unwrap(), Vec::<&[u8]>::new());
            for length in (1..written.len()).filter(|length| ![8, 12].contains(length)) {
                assert_eq!(read(&written[..length]), None, "{length} bytes");
            }
        }
    }
}
