//! The hub: what every session last committed, for all clients at once.
//!
//! An engine announces each commit once; the hub flattens its facts to rows, keeps the newest of each key and a ring of the last frames,
//! and moves the session's head. Clients are cursors into the rings: the hub holds nothing for any one of them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Instant;

use pitwall_engine::Micros;
use pitwall_engine::facts::EncodedFact;
use pitwall_engine::hash::Digest;
use pitwall_engine::log::{Committed, Head, SessionState};
use pitwall_schemas::codec::Fact as _;
use pitwall_schemas::facts::{FactBody, RaceClock, Subject};
use pitwall_schemas::moment::Clock;
use pitwall_schemas::shared::KnownAtQuality;
use serde::Serialize;
use tokio::sync::watch;

use crate::channel::{Channel, Delivery};
use crate::message::{Envelope, Position, SessionName};
use crate::options::Options;
use crate::reader::{ReadError, Reader, Span};
use crate::replay::{Replay, ReplayControl};
use crate::ring::{ChannelState, Next};
use crate::row::Row;

#[derive(Debug)]
struct State {
    position: Position,
    known_at: Micros,
    facts_hash: Digest,
    graph_hash: Digest,
    next_fact_seq: u64,
    quality: KnownAtQuality,
    /// Whether it was called off.
    is_cancelled: bool,
    state: SessionState,
    /// Why its graph stands still, where that is known.
    halted: Option<String>,
    clock: Clock,
    channels: BTreeMap<Channel, ChannelState>,
}

impl State {
    /// Takes what a fact says of the session as a whole.
    fn learn(&mut self, row: &Row, body: &FactBody) {
        self.quality = row.quality;
        match body {
            FactBody::RaceClock(clock) => self.clock.take(row.known_at, clock),
            FactBody::Completeness(fact) if fact.subject == Subject::Session => self.is_cancelled = fact.is_missing,
            _ => {}
        }
    }

    /// Takes over where the session stands.
    fn stand(&mut self, head: &Head) {
        self.position = Position { epoch: head.epoch, seq: head.last_seq };
        self.known_at = head.known_at;
        self.facts_hash = head.facts_hash;
        self.graph_hash = head.graph_hash;
        self.next_fact_seq = head.next_fact_seq;
        self.state = head.state;
    }

    fn new(epoch: i32) -> Self {
        Self {
            position: Position { epoch, seq: 0 },
            known_at: Micros(0),
            facts_hash: Digest::default(),
            graph_hash: Digest::default(),
            next_fact_seq: 0,
            quality: KnownAtQuality::Received,
            is_cancelled: false,
            state: SessionState::Live,
            halted: None,
            clock: Clock::default(),
            channels: Channel::all().map(|channel| (channel, ChannelState::new(channel))).collect(),
        }
    }
}

/// One session as its readers see it.
pub(crate) struct Feed {
    session_key: i32,
    options: Arc<Options>,
    state: RwLock<State>,
    /// Counts changes; clients wait on it.
    head: watch::Sender<u64>,
    replay: RwLock<Option<Arc<dyn ReplayControl>>>,
    /// The newest epoch that readers do not see, having been rolled back from it; -1 for none.
    rolled_back_from: AtomicI64,
}

/// A channel's newest rows and the position they stand at.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub(crate) position: Position,
    pub(crate) known_at: Micros,
    pub(crate) rows: Vec<Row>,
}

/// `SESSION` of the protocol.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    session: i32,
    epoch: i32,
    seq: u64,
    known_at: Micros,
    started_at: Option<Micros>,
    laps_completed: i32,
    graph_hash: String,
    facts_hash: String,
    facts: u64,
    known_at_quality: KnownAtQuality,
    state: &'static str,
    halted: Option<String>,
    channels: Vec<ChannelSummary>,
    replay: Option<Replay>,
}

#[derive(Debug, Serialize)]
struct ChannelSummary {
    channel: &'static str,
    delivery: Delivery,
    key: &'static [String],
}

/// How a subscription begins.
#[derive(Debug)]
pub(crate) struct Start {
    /// What the client is told.
    pub(crate) text: String,
    /// Where its cursor stands.
    pub(crate) position: Position,
}

/// What comes next for a cursor.
#[derive(Debug)]
pub(crate) enum Step {
    /// As the ring says.
    Next(Next),
    /// The session has another epoch: the client begins anew.
    OtherEpoch,
}

impl Feed {
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.head.send_modify(|count| *count += 1);
    }

    pub(crate) const fn session_key(&self) -> i32 {
        self.session_key
    }

    fn rolled_back_from(&self) -> Option<i32> {
        i32::try_from(self.rolled_back_from.load(Ordering::Acquire)).ok().filter(|epoch| *epoch >= 0)
    }

    /// Wakes whoever waits for the session's next commit.
    pub(crate) fn head(&self) -> watch::Receiver<u64> {
        self.head.subscribe()
    }

    pub(crate) fn position(&self) -> Position {
        self.read().position
    }

    /// The session's position and time, and whether it is complete.
    pub(crate) fn standing(&self) -> (Position, Micros, bool) {
        let state = self.read();
        (state.position, state.known_at, state.state == SessionState::Complete)
    }

    /// The session's position, time and clock.
    pub(crate) fn clock(&self) -> (Position, Micros, Clock) {
        let state = self.read();
        (state.position, state.known_at, state.clock.clone())
    }

    /// The graph whose facts the current epoch holds.
    pub(crate) fn graph_hash(&self) -> Digest {
        self.read().graph_hash
    }

    pub(crate) fn replay(&self) -> Option<Arc<dyn ReplayControl>> {
        self.replay.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn summary(&self) -> Summary {
        let replay = self.replay().map(|replay| replay.status());
        let state = self.read();
        let name = match state.state {
            SessionState::Live => "LIVE",
            SessionState::Complete => "COMPLETE",
            SessionState::Halted => "HALTED",
        };
        Summary {
            session: self.session_key,
            epoch: state.position.epoch,
            seq: state.position.seq,
            known_at: state.known_at,
            started_at: state.clock.started_at,
            laps_completed: state.clock.laps_completed(),
            graph_hash: state.graph_hash.to_string(),
            facts_hash: state.facts_hash.to_string(),
            facts: state.next_fact_seq,
            known_at_quality: state.quality,
            state: name,
            halted: state.halted.clone(),
            channels: Channel::all()
                .map(|channel| ChannelSummary { channel: channel.name(), delivery: channel.delivery(), key: channel.key() })
                .collect(),
            replay,
        }
    }

    pub(crate) fn table(&self, channel: Channel) -> Table {
        let state = self.read();
        let rows = state.channels.get(&channel).into_iter().flat_map(ChannelState::rows).cloned().collect();
        Table { position: state.position, known_at: state.known_at, rows }
    }

    /// Begins a subscription: at `since` when frames can be continued from there, else with a snapshot.
    pub(crate) fn start(&self, channel: Channel, since: Option<Position>) -> Start {
        let state = self.read();
        let channel_state = &state.channels[&channel];
        let epoch = state.position.epoch;
        if let Some(since) = since.filter(|since| since.epoch == epoch && since.seq <= state.position.seq) {
            let is_held = channel_state.holds_after(since.seq);
            if is_held || channel.delivery() == Delivery::Every {
                let seq = if is_held { channel_state.stand(since.seq) } else { since.seq };
                let position = Position { epoch, seq };
                return Start { text: crate::message::recovered(channel.name(), self.session_key, position), position };
            }
        }
        let (seq, known_at) = channel_state.last().unwrap_or((state.position.seq, state.known_at));
        let position = Position { epoch, seq };
        let envelope = Envelope { channel: channel.name(), session_key: self.session_key, position, known_at };
        let joined = channel_state.joined();
        drop(state);
        Start { text: envelope.write("snapshot", None, &joined), position }
    }

    /// What comes after a cursor's position, about `write_bytes_max` of it.
    pub(crate) fn after(&self, channel: Channel, position: Position) -> Step {
        let state = self.read();
        if position.epoch != state.position.epoch {
            return Step::OtherEpoch;
        }
        let bytes_max = self.options.write_bytes_max;
        Step::Next(state.channels[&channel].after(position.seq, position.epoch, self.session_key, bytes_max))
    }

    /// Takes the commit with which another epoch begins: all facts of the session at once, of which only the newest of each key are shown.
    fn begin_epoch(&self, committed: &Committed<'_>) {
        let head = &committed.head;
        let mut state = State::new(head.epoch);
        let mut newest: BTreeMap<(Channel, Vec<u8>), EncodedFact<'_>> = BTreeMap::new();
        for fact in committed.facts.iter() {
            match (Channel::named(fact.kind.name), fact.key()) {
                (Some(channel), Ok(key)) => drop(newest.insert((channel, key), fact)),
                _ => metrics::counter!(crate::metrics::FACTS_UNREADABLE).increment(1),
            }
            if fact.kind.name == RaceClock::KIND
                && let Some(channel) = Channel::named(fact.kind.name)
                && let Ok((row, FactBody::RaceClock(clock))) = Row::read(channel, fact.bytes)
            {
                state.clock.take(row.known_at, &clock);
            }
        }
        let mut rows: BTreeMap<Channel, Vec<Row>> = BTreeMap::new();
        for ((channel, _), fact) in newest {
            match Row::read(channel, fact.bytes) {
                Ok((row, body)) => {
                    state.learn(&row, &body);
                    rows.entry(channel).or_default().push(row);
                }
                Err(error) => tracing::error!(session_key = self.session_key, fact_seq = fact.fact_seq, %error, "a fact is not shown"),
            }
        }
        for channel in Channel::all() {
            let rows = rows.remove(&channel).unwrap_or_default();
            state.channels.insert(channel, ChannelState::restored(channel, head.last_seq, head.known_at, rows, &self.options));
        }
        state.stand(head);
        state.halted = committed.halted.map(ToString::to_string);
        *self.write() = state;
        self.changed();
    }

    fn commit(&self, committed: &Committed<'_>) {
        let committed_at = Instant::now();
        let mut by_channel: BTreeMap<Channel, Vec<Row>> = BTreeMap::new();
        let (mut quality, mut learnt) = (None, Vec::new());
        for fact in committed.facts.iter() {
            let Some(channel) = Channel::named(fact.kind.name) else {
                metrics::counter!(crate::metrics::FACTS_UNREADABLE).increment(1);
                continue;
            };
            match Row::read(channel, fact.bytes) {
                Ok((row, body)) => {
                    quality = Some(row.quality);
                    learnt.extend(Some(body).filter(tells_of_session).map(|body| (row.clone(), body)));
                    by_channel.entry(channel).or_default().push(row);
                }
                Err(error) => {
                    metrics::counter!(crate::metrics::FACTS_UNREADABLE).increment(1);
                    tracing::error!(session_key = self.session_key, fact_seq = fact.fact_seq, %error, "a fact is not shown");
                }
            }
        }
        let head = &committed.head;
        let position = Position { epoch: head.epoch, seq: head.last_seq };
        let mut state = self.write();
        state.stand(head);
        state.halted = committed.halted.map(ToString::to_string);
        state.quality = quality.unwrap_or(state.quality);
        for (row, body) in &learnt {
            state.learn(row, body);
        }
        for (channel, rows) in by_channel {
            let envelope = Envelope { channel: channel.name(), session_key: self.session_key, position, known_at: head.known_at };
            if let Some(channel_state) = state.channels.get_mut(&channel) {
                channel_state.commit(&envelope, rows, committed_at, &self.options);
            }
        }
        drop(state);
        self.changed();
    }
}

/// All sessions of this process, as their readers see them.
pub struct Hub {
    options: Arc<Options>,
    feeds: RwLock<BTreeMap<i32, Arc<Feed>>>,
    /// The session that received input last; -1 for none.
    is_ready: AtomicBool,
}

impl Hub {
    /// A hub without sessions, not ready yet.
    #[must_use]
    pub fn new(options: Options) -> Arc<Self> {
        Arc::new(Self { options: Arc::new(options), feeds: RwLock::default(), is_ready: AtomicBool::new(false) })
    }

    pub(crate) const fn options(&self) -> &Arc<Options> {
        &self.options
    }

    /// Shows a session that stands in the log already. Must come before its first commit is announced.
    ///
    /// # Errors
    /// When its rows cannot be read.
    pub fn open(&self, session_key: i32, head: &Head, reader: &dyn Reader) -> Result<(), ReadError> {
        let Head { epoch, last_seq, known_at, .. } = *head;
        let mut state = State::new(epoch);
        for channel in Channel::all() {
            let mut rows = Vec::new();
            for fact in reader.latest(session_key, epoch, channel, None)? {
                let (row, body) = Row::read(channel, &fact.bytes).map_err(|error| ReadError::Unavailable(error.to_string()))?;
                state.learn(&row, &body);
                rows.push(row);
            }
            state.channels.insert(channel, ChannelState::restored(channel, last_seq, known_at, rows, &self.options));
        }
        state.clock = read_clock(reader, session_key, epoch, self.options.look_back_page_facts)?;
        state.stand(head);
        let feed = self.feed_or_new(session_key, epoch);
        *feed.write() = state;
        feed.changed();
        Ok(())
    }

    /// Says that every session is restored: `/readyz` answers 200 from now on.
    pub fn set_ready(&self) {
        self.is_ready.store(true, Ordering::Release);
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::Acquire)
    }

    /// Takes a commit: rows, frames, head. One that was announced before changes nothing. Called by the session's engine thread.
    pub fn committed(&self, committed: &Committed<'_>) {
        let head = &committed.head;
        let feed = self.feed_or_new(committed.session_key, head.epoch);
        let (is_known, is_of_epoch) = {
            let state = feed.read();
            let is_empty = state.position.seq == 0 && state.next_fact_seq == 0 && state.known_at == Micros(0);
            let is_known = !is_empty && (head.epoch, head.last_seq) <= (state.position.epoch, state.position.seq);
            let is_passed_over = feed.rolled_back_from().is_some_and(|epoch| head.epoch <= epoch);
            (is_known || is_passed_over, head.epoch == state.position.epoch)
        };
        if is_known {
            return;
        }
        if is_of_epoch {
            feed.commit(committed);
        } else {
            feed.begin_epoch(committed);
        }
    }

    /// Keeps readers of a session at the epoch that [`open`](Self::open) showed them, until one comes that is newer than `instead_of`; `None`
    /// lets them go forward.
    pub fn roll_back(&self, session_key: i32, instead_of: Option<i32>) {
        if let Some(feed) = self.feed(session_key) {
            feed.rolled_back_from.store(instead_of.map_or(-1, i64::from), Ordering::Release);
        }
    }

    /// Gives readers the replay that feeds a session, or takes it from them. The session may not have begun yet.
    pub fn set_replay(&self, session_key: i32, replay: Option<Arc<dyn ReplayControl>>) {
        let feed = self.feed_or_new(session_key, 0);
        *feed.replay.write().unwrap_or_else(PoisonError::into_inner) = replay;
    }

    fn feeds(&self) -> RwLockReadGuard<'_, BTreeMap<i32, Arc<Feed>>> {
        self.feeds.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn summaries(&self) -> Vec<Summary> {
        let feeds: Vec<Arc<Feed>> = self.feeds().values().cloned().collect();
        feeds.iter().map(|feed| feed.summary()).collect()
    }

    fn feed(&self, session_key: i32) -> Option<Arc<Feed>> {
        self.feeds().get(&session_key).cloned()
    }

    /// The session that is latest by its own time, whatever came when to this process, so that a restart does not change it: one that
    /// is being replayed here before the others, and one that was called off after them.
    fn latest_feed(&self) -> Option<Arc<Feed>> {
        let feeds = self.feeds();
        let latest = feeds.values().max_by_key(|feed| {
            let (is_replayed, state) = (feed.replay().is_some(), feed.read());
            (is_replayed, !state.is_cancelled, state.known_at, feed.session_key)
        });
        latest.cloned()
    }

    /// The session of this name.
    pub(crate) fn named(&self, name: SessionName) -> Option<Arc<Feed>> {
        match name {
            SessionName::Key(session_key) => self.feed(session_key),
            SessionName::Latest => self.latest_feed(),
        }
    }

    fn feed_or_new(&self, session_key: i32, epoch: i32) -> Arc<Feed> {
        if let Some(feed) = self.feed(session_key) {
            return feed;
        }
        let mut feeds = self.feeds.write().unwrap_or_else(PoisonError::into_inner);
        let new = || {
            Arc::new(Feed {
                session_key,
                options: self.options.clone(),
                state: RwLock::new(State::new(epoch)),
                head: watch::Sender::new(0),
                replay: RwLock::default(),
                rolled_back_from: AtomicI64::new(-1),
            })
        };
        feeds.entry(session_key).or_insert_with(new).clone()
    }
}

/// Whether a fact says something of the session as a whole.
const fn tells_of_session(body: &FactBody) -> bool {
    matches!(body, FactBody::RaceClock(_) | FactBody::Completeness(_))
}

/// The clock of a session's derivation, from its facts.
pub(crate) fn read_clock(reader: &dyn Reader, session_key: i32, epoch: i32, page: usize) -> Result<Clock, ReadError> {
    let mut clock = Clock::default();
    let Some(channel) = Channel::named("race_clock") else { return Ok(clock) };
    let mut span = Span::default();
    loop {
        let facts = reader.history(session_key, epoch, channel, span, page)?;
        for fact in &facts {
            if let Ok((row, FactBody::RaceClock(body))) = Row::read(channel, &fact.bytes) {
                clock.take(row.known_at, &body);
            }
        }
        match facts.last() {
            Some(last) if facts.len() >= page => span.from_fact_seq = last.fact_seq + 1,
            _ => return Ok(clock),
        }
    }
}
