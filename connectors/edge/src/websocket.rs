//! WebSockets: one task for each connection, a cursor for each of its subscriptions.
//!
//! The task waits for the heads of its sessions, for its client and for its next ping. When a head moves it takes what lies behind its
//! cursors out of the rings, writes it in one go, and only then looks again: a slow client delays nobody and holds nothing but its place.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use pitwall_schemas::moment::{Moment, NotAMoment};
use tokio::sync::watch;
use tokio::time::sleep_until;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::CapacityError;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use crate::channel::Channel;
use crate::delayed::{Delayed, Told};
use crate::hub::{Feed, Step};
use crate::message::{self, Envelope, Position, Request as Asked, SessionName};
use crate::past::CaughtUp;
use crate::problem::Problem;
use crate::query::{Parameters, decode, shown};
use crate::rest::{Answer, named};
use crate::ring::Next;
use crate::server::{Edge, Place, stopping};

/// Unknown session or channel.
const CLOSE_UNKNOWN: u16 = 4404;
/// Another subscription of the same channel and session.
const CLOSE_TWICE: u16 = 4409;
/// Bytes a connection's buffers for reading and writing begin with: clients say little, and frames are a few kilobytes.
const BUFFER_BYTES: usize = 4 * 1_024;
/// How long a client has to answer a close, so that it is not cut off before it has read why.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// What a connection's URL asks for at once.
struct Opening {
    channel: String,
    session: String,
    since: Option<Position>,
    as_of: Option<String>,
    delay_ms: Option<i64>,
}

/// Turns a request into a WebSocket; what it asks for is looked at afterwards, since browsers show pages a close code but no status.
pub(crate) fn upgrade(edge: &Arc<Edge>, mut request: Request<Incoming>, place: Arc<Place>) -> Result<Answer, Problem> {
    if request.method() != Method::GET {
        return Err(Problem::method("GET"));
    }
    let headers = request.headers();
    if !has_token(headers, &CONNECTION, "upgrade") || !has_token(headers, &UPGRADE, "websocket") {
        return Err(Problem::new(StatusCode::UPGRADE_REQUIRED, "this is a WebSocket: connect with ws://"));
    }
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(Problem::bad_request("this is a WebSocket of version 13: send Sec-WebSocket-Version: 13"));
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).ok_or_else(|| Problem::bad_request("Sec-WebSocket-Key is missing"))?;
    let accept = derive_accept_key(key.as_bytes());
    edge.check_origin(headers)?;
    let opening = opening(request.uri())?;
    let upgraded = hyper::upgrade::on(&mut request);
    let edge = edge.clone();
    tokio::spawn(async move {
        match upgraded.await {
            Ok(upgraded) => Client::serve(edge, upgraded, opening, place).await,
            Err(error) => tracing::debug!(%error, "a connection ended before it became a WebSocket"),
        }
    });
    let mut answer = Response::new(Full::<Bytes>::default());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(&accept) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    Ok(answer)
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|value| value.trim().eq_ignore_ascii_case(token))
}

/// `/ws` or `/ws/{channel}/{session}`.
fn opening(uri: &hyper::Uri) -> Result<Option<Opening>, Problem> {
    let path = decode(uri.path())?;
    let mut parameters = Parameters::read(uri.query())?;
    let segments: Vec<&str> = path.split('/').skip(2).collect();
    let opening = match segments.as_slice() {
        [] => None,
        [channel, session] => {
            let epoch = parameters.one::<i32>("epoch", "an epoch")?;
            let seq = parameters.one::<u64>("seq", "a ledger record's number")?;
            let since = match (epoch, seq) {
                (Some(epoch), Some(seq)) => Some(Position { epoch, seq }),
                (None, None) => None,
                _ => return Err(Problem::bad_request("`epoch` and `seq` make a position together: give both")),
            };
            let as_of = parameters.one("as_of", "a moment")?;
            let delay_ms = parameters.one::<i64>("delay_ms", "a time in milliseconds")?;
            Some(Opening { channel: (*channel).to_owned(), session: (*session).to_owned(), since, as_of, delay_ms })
        }
        _ => return Err(Problem::not_found("a WebSocket is /ws or /ws/{channel}/{session}")),
    };
    parameters.finish()?;
    Ok(opening)
}

/// Why a connection ends.
enum End {
    /// The server closes it.
    Close(u16, String),
    /// It is closed already, or its client is gone.
    Gone,
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        match error {
            Error::Capacity(CapacityError::MessageTooLong { .. }) => Self::Close(1009, "the message is too large".to_owned()),
            _ => Self::Gone,
        }
    }
}

/// Why a message is refused: its answer, and whether the connection ends with it.
struct Refusal {
    status: u16,
    detail: String,
    closes: Option<u16>,
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self { status: problem.status.as_u16(), detail: problem.detail, closes: None }
    }
}

struct Subscription {
    feed: Arc<Feed>,
    position: Position,
    /// A cursor of its own when it is delayed.
    delayed: Option<Delayed>,
}

/// Whether the client has shown life since the last ping.
#[derive(Clone, Copy)]
enum Life {
    /// No ping is open.
    Shown,
    /// A ping is open, and nothing has come since.
    Awaited,
    /// Something has come since.
    Answered,
}

struct Client {
    edge: Arc<Edge>,
    socket: WebSocketStream<TokioIo<Upgraded>>,
    subscriptions: BTreeMap<(i32, Channel), Subscription>,
    heads: BTreeMap<i32, watch::Receiver<u64>>,
    life: Life,
    wakes_at: tokio::time::Instant,
    /// When a delayed subscription looks again.
    looks_at: Option<tokio::time::Instant>,
    messages: usize,
    errors: usize,
}

impl Client {
    async fn serve(edge: Arc<Edge>, upgraded: Upgraded, opening: Option<Opening>, place: Arc<Place>) {
        let options = edge.hub.options().clone();
        let config = WebSocketConfig::default()
            .read_buffer_size(BUFFER_BYTES)
            .write_buffer_size(BUFFER_BYTES)
            .max_message_size(Some(options.message_bytes_max))
            .max_frame_size(Some(options.message_bytes_max));
        let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
        let wakes_at = tokio::time::Instant::now() + Duration::from_millis(options.ping_interval_ms);
        let mut client = Self {
            edge,
            socket,
            subscriptions: BTreeMap::new(),
            heads: BTreeMap::new(),
            life: Life::Shown,
            wakes_at,
            looks_at: None,
            messages: 0,
            errors: 0,
        };
        metrics::gauge!(crate::metrics::CONNECTIONS, "protocol" => "websocket").increment(1);
        let Err(end) = client.run(opening).await;
        if let End::Close(code, reason) = end {
            client.close(code, reason).await;
        }
        metrics::gauge!(crate::metrics::CONNECTIONS, "protocol" => "websocket").decrement(1);
        drop(place);
    }

    async fn run(&mut self, opening: Option<Opening>) -> Result<std::convert::Infallible, End> {
        if let Some(opening) = opening {
            let session = SessionName::read(&opening.session);
            let subscribed = match session {
                Some(session) => {
                    let Opening { channel, since, as_of, delay_ms, .. } = &opening;
                    self.subscribe(channel, session, *since, as_of.as_deref(), *delay_ms).await
                }
                None => Err(Refusal {
                    status: 404,
                    detail: format!("`{}` is no session: write its number or `latest`", shown(&opening.session)),
                    closes: Some(CLOSE_UNKNOWN),
                }),
            };
            self.answer(subscribed).await?;
        }
        let mut stops = self.edge.stops.clone();
        loop {
            let has_more = self.deliver().await?;
            let Self { socket, heads, wakes_at, looks_at, .. } = self;
            tokio::select! {
                message = socket.next() => match message {
                    Some(message) => self.hear(message?).await?,
                    None => return Err(End::Gone),
                },
                () = moved(heads, has_more) => {}
                () = sleep_until(*wakes_at) => self.ping().await?,
                () = sleep_until(looks_at.unwrap_or(*wakes_at)), if looks_at.is_some() => {}
                () = stopping(&mut stops) => return Err(End::Close(1001, "the server stops".to_owned())),
            }
        }
    }

    /// Writes what lies behind the cursors, once round; says whether there may be more already.
    async fn deliver(&mut self) -> Result<bool, End> {
        let mut messages = Vec::new();
        let mut committed_at: Vec<Instant> = Vec::new();
        let mut has_more = false;
        let mut bytes = 0;
        let bytes_max = self.edge.hub.options().write_bytes_max;
        self.looks_at = None;
        for ((session_key, channel), subscription) in &mut self.subscriptions {
            if bytes > bytes_max {
                has_more = true;
                break;
            }
            if let Some(delayed) = &mut subscription.delayed {
                match delayed.next(&self.edge.past, &subscription.feed, *channel).await {
                    Ok(Told::Nothing) => {}
                    Ok(Told::Later(at)) => self.looks_at = Some(self.looks_at.map_or(at, |before| before.min(at))),
                    Ok(Told::Message(text)) => {
                        bytes += text.len();
                        messages.push(text.into());
                    }
                    Ok(Told::TooFar) => return Err(too_far()),
                    Err(problem) => return Err(End::Close(1013, problem.detail)),
                }
                continue;
            }
            match subscription.feed.after(*channel, subscription.position) {
                Step::Next(Next::Nothing) => {}
                Step::Next(Next::Frames(frames)) => {
                    for frame in frames {
                        subscription.position.seq = frame.seq;
                        bytes += frame.text.len();
                        committed_at.push(frame.committed_at);
                        messages.push(frame.text);
                    }
                    has_more = true;
                }
                Step::Next(Next::Log(through)) => {
                    let text = catch_up(&self.edge, *session_key, *channel, subscription.position, through).await?;
                    subscription.position.seq = through;
                    bytes += text.len();
                    messages.push(text);
                    has_more = true;
                }
                Step::OtherEpoch => {
                    let start = subscription.feed.start(*channel, None);
                    subscription.position = start.position;
                    bytes += start.text.len();
                    messages.push(start.text.into());
                    has_more = true;
                }
            }
        }
        if messages.is_empty() {
            return Ok(false);
        }
        self.write(messages).await?;
        for committed_at in committed_at {
            metrics::histogram!(crate::metrics::COMMIT_TO_SEND_SECONDS).record(committed_at.elapsed());
        }
        Ok(has_more)
    }

    /// Writes messages in one go, within the time allowed.
    async fn write(&mut self, messages: Vec<Utf8Bytes>) -> Result<(), End> {
        let write_timeout = Duration::from_millis(self.edge.hub.options().write_timeout_ms);
        let (count, bytes) = (messages.len(), messages.iter().map(|text| text.len()).sum::<usize>());
        let written = tokio::time::timeout(write_timeout, async {
            for text in messages {
                self.socket.feed(Message::Text(text)).await?;
            }
            self.socket.flush().await
        });
        written.await.map_err(|_| End::Close(1013, "the client does not read".to_owned()))??;
        metrics::counter!(crate::metrics::MESSAGES_SENT).increment(count as u64);
        metrics::counter!(crate::metrics::SENT_BYTES).increment(bytes as u64);
        Ok(())
    }

    async fn hear(&mut self, message: Message) -> Result<(), End> {
        if matches!(self.life, Life::Awaited) {
            self.life = Life::Answered;
        }
        self.messages += 1;
        if self.messages > self.edge.hub.options().messages_per_ping_max {
            return Err(End::Close(1008, "too many messages".to_owned()));
        }
        let text = match message {
            Message::Text(text) => text,
            Message::Binary(_) => return self.answer(Err(Refusal::from(Problem::bad_request("send text, not binary")))).await,
            Message::Close(_) => {
                // The answer to it is queued: reading on sends it.
                while let Ok(Some(Ok(_))) = tokio::time::timeout(CLOSE_TIMEOUT, self.socket.next()).await {}
                return Err(End::Gone);
            }
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => return Ok(()),
        };
        let answer = match serde_json::from_str::<Asked>(&text) {
            Ok(Asked::Subscribe { channel, session, since, as_of, delay_ms }) => {
                self.subscribe(&channel, session, since, as_of.as_deref(), delay_ms).await
            }
            Ok(Asked::Unsubscribe { channel, session }) => self.unsubscribe(&channel, session).map(|()| None),
            Err(error) => Err(Refusal::from(Problem::bad_request(format!("the message cannot be read: {error}")))),
        };
        self.answer(answer).await
    }

    /// Sends an answer, or an error; too many errors end the connection.
    async fn answer(&mut self, answer: Result<Option<String>, Refusal>) -> Result<(), End> {
        let refusal = match answer {
            Ok(None) => return Ok(()),
            Ok(Some(text)) => return self.write(vec![text.into()]).await,
            Err(refusal) => refusal,
        };
        metrics::counter!(crate::metrics::PROTOCOL_ERRORS).increment(1);
        self.write(vec![message::error(refusal.status, &refusal.detail).into()]).await?;
        self.errors += 1;
        if let Some(code) = refusal.closes {
            return Err(End::Close(code, refusal.detail));
        }
        if self.errors > self.edge.hub.options().protocol_errors_max {
            return Err(End::Close(1008, "too many errors".to_owned()));
        }
        Ok(())
    }

    fn find(&self, channel: &str, session: SessionName) -> Result<(Arc<Feed>, Channel), Refusal> {
        let unknown = |detail| Refusal { status: 404, detail, closes: Some(CLOSE_UNKNOWN) };
        let channel = named(channel).map_err(|problem| unknown(problem.detail))?;
        let feed = self.edge.hub.named(session).ok_or_else(|| {
            let (status, closes) = if self.edge.hub.is_ready() { (404, CLOSE_UNKNOWN) } else { (503, 1013) };
            let name = match session {
                SessionName::Key(session_key) => session_key.to_string(),
                SessionName::Latest => "latest".to_owned(),
            };
            Refusal { status, detail: format!("there is no session `{name}` (yet)"), closes: Some(closes) }
        })?;
        Ok((feed, channel))
    }

    async fn subscribe(
        &mut self,
        channel: &str,
        session: SessionName,
        since: Option<Position>,
        as_of: Option<&str>,
        delay_ms: Option<i64>,
    ) -> Result<Option<String>, Refusal> {
        let (feed, channel) = self.find(channel, session)?;
        if usize::from(since.is_some()) + usize::from(as_of.is_some()) + usize::from(delay_ms.is_some()) > 1 {
            return Err(Problem::bad_request("`since` goes on, `as_of` looks back, `delay_ms` comes later: give one of them").into());
        }
        if let Some(as_of) = as_of {
            return look_back(&self.edge.clone(), &feed, channel, as_of).await.map(Some);
        }
        let key = (feed.session_key(), channel);
        if self.subscriptions.contains_key(&key) {
            let detail = format!("{} of session {} is subscribed to on this connection already", channel.name(), feed.session_key());
            return Err(Refusal { status: 409, detail, closes: Some(CLOSE_TWICE) });
        }
        let subscriptions_max = self.edge.hub.options().subscriptions_per_connection_max;
        if self.subscriptions.len() >= subscriptions_max {
            let detail = format!("a connection has at most {subscriptions_max} subscriptions: open another one");
            return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).into());
        }
        let delayed = delay_ms.map(|delay_ms| Delayed::begin(&self.edge.past, delay_ms)).transpose()?;
        self.heads.entry(key.0).or_insert_with(|| feed.head());
        if delayed.is_some() {
            // Its snapshot is what it delivers first.
            let position = feed.position();
            self.subscriptions.insert(key, Subscription { feed, position, delayed });
            return Ok(None);
        }
        let start = feed.start(channel, since);
        self.subscriptions.insert(key, Subscription { feed, position: start.position, delayed: None });
        Ok(Some(start.text))
    }

    fn unsubscribe(&mut self, channel: &str, session: SessionName) -> Result<(), Refusal> {
        let (feed, channel) = self.find(channel, session)?;
        let session_key = feed.session_key();
        if self.subscriptions.remove(&(session_key, channel)).is_none() {
            let detail = format!("{} of session {session_key} is not subscribed to", channel.name());
            return Err(Problem::bad_request(detail).into());
        }
        if self.subscriptions.keys().all(|(subscribed, _)| *subscribed != session_key) {
            self.heads.remove(&session_key);
        }
        Ok(())
    }

    async fn ping(&mut self) -> Result<(), End> {
        let options = self.edge.hub.options().clone();
        match self.life {
            Life::Awaited => return Err(End::Close(1008, "no answer to a ping".to_owned())),
            Life::Answered => {
                // The time for the answer is over and it has come: the next ping is due an interval after the last.
                self.life = Life::Shown;
                let rest = options.ping_interval_ms.saturating_sub(options.pong_timeout_ms);
                self.wakes_at = tokio::time::Instant::now() + Duration::from_millis(rest);
                return Ok(());
            }
            Life::Shown => {}
        }
        let write_timeout = Duration::from_millis(options.write_timeout_ms);
        let sent = tokio::time::timeout(write_timeout, self.socket.send(Message::Ping(Bytes::new())));
        sent.await.map_err(|_| End::Gone)??;
        self.life = Life::Awaited;
        self.messages = 0;
        self.wakes_at = tokio::time::Instant::now() + Duration::from_millis(options.pong_timeout_ms);
        Ok(())
    }

    /// Says goodbye, and leaves the client a moment to hear it.
    async fn close(&mut self, code: u16, reason: String) {
        metrics::counter!(crate::metrics::CLOSES, "code" => code.to_string()).increment(1);
        // A control frame carries 125 bytes, two of them the code.
        let mut reason = reason;
        while reason.len() > 123 {
            reason.pop();
        }
        let frame = CloseFrame { code: CloseCode::from(code), reason: reason.into() };
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, async {
            if self.socket.send(Message::Close(Some(frame))).await.is_ok() {
                while let Some(Ok(_)) = self.socket.next().await {}
            }
        })
        .await;
    }
}

/// Waits until one of the sessions commits.
async fn moved(heads: &mut BTreeMap<i32, watch::Receiver<u64>>, is_due: bool) {
    if is_due {
        return;
    }
    if heads.is_empty() {
        return std::future::pending().await;
    }
    let changes = heads.values_mut().map(|head| Box::pin(head.changed()));
    let _ = futures_util::future::select_all(changes).await;
}

/// The snapshot of a moment.
async fn look_back(edge: &Edge, feed: &Feed, channel: Channel, as_of: &str) -> Result<String, Refusal> {
    let moment: Moment = as_of.parse().map_err(|error: NotAMoment| Problem::bad_request(error.to_string()))?;
    let place = edge.past.place(feed, feed.position().epoch, moment).await?;
    let table = edge.past.table(feed, channel, place).await?;
    let envelope =
        Envelope { channel: channel.name(), session_key: feed.session_key(), position: table.position, known_at: table.known_at };
    Ok(envelope.write("snapshot", None, &crate::ring::join(&table.rows)))
}

/// More facts are missing than a client may catch up.
fn too_far() -> End {
    End::Close(1013, "too far behind: begin again without `since`".to_owned())
}

/// The frame of all facts of a must-deliver channel that have left the ring.
async fn catch_up(edge: &Edge, session_key: i32, channel: Channel, position: Position, through: u64) -> Result<Utf8Bytes, End> {
    match edge.past.catch_up(session_key, channel, position, through).await {
        Ok(CaughtUp::Rows(rows, known_at)) => {
            metrics::counter!(crate::metrics::CAUGHT_UP_FACTS).increment(rows.len() as u64);
            let covered = Position { epoch: position.epoch, seq: through };
            let envelope = Envelope { channel: channel.name(), session_key, position: covered, known_at };
            Ok(envelope.write("frame", Some(position.seq), &crate::ring::join(&rows)).into())
        }
        Ok(CaughtUp::TooFar) => Err(too_far()),
        Err(problem) => Err(End::Close(1013, problem.detail)),
    }
}
