//! A session of made-up facts: announced to a hub, and kept for the reader behind it.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use pitwall_edge::channel::Channel;
use pitwall_edge::hub::Hub;
pub use pitwall_edge::options::Options;
use pitwall_edge::reader::{Cause, ReadError, Reader, Span, Verified};
use pitwall_engine::Micros;
use pitwall_engine::facts::{EncodedFact, FactBatch, Kind};
use pitwall_engine::hash::Digest;
use pitwall_engine::log::{Committed, Head, SessionState, StoredFact};
use pitwall_schemas::codec::{Avro, Fact};
use pitwall_schemas::facts::{Lap, Position, RaceClock, TeamRadio};
use pitwall_schemas::log::{LedgerKind, LedgerRecord};
use pitwall_schemas::raw::{Collection, Sample};
use pitwall_schemas::shared::{FactHeader, KnownAtQuality, Mark};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

pub const SESSION: i32 = 9920;
/// When ledger record 0 of a made-up session becomes known; each further one follows a second later.
pub const START: Micros = Micros(1_756_645_200_000_000);

pub fn known_at(seq: u64) -> Micros {
    START.plus(seq as i64 * Micros::SECOND)
}

/// Facts kept as a log keeps them.
#[derive(Default)]
pub struct Kept {
    facts: Mutex<Vec<(Channel, StoredFact, Vec<u8>)>>,
    /// Looks at the past so far.
    pub looks_back: AtomicU64,
    /// How long each look takes.
    pub slowness: Mutex<Duration>,
}

impl Kept {
    fn of(&self, channel: Channel) -> Vec<(StoredFact, Vec<u8>)> {
        let facts = self.facts.lock().unwrap();
        facts.iter().filter(|(of, ..)| *of == channel).map(|(_, fact, key)| (fact.clone(), key.clone())).collect()
    }
}

impl Reader for Kept {
    fn latest(&self, _: i32, _: i32, channel: Channel, known_by: Option<Micros>) -> Result<Vec<StoredFact>, ReadError> {
        if known_by.is_some() {
            self.looks_back.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(*self.slowness.lock().unwrap());
        }
        let known = self.of(channel).into_iter().filter(|(fact, _)| known_by.is_none_or(|by| fact.known_at <= by));
        let newest: std::collections::BTreeMap<_, _> = known.map(|(fact, key)| (key, fact)).collect();
        Ok(newest.into_values().collect())
    }

    fn history(&self, _: i32, _: i32, channel: Channel, span: Span, facts_max: usize) -> Result<Vec<StoredFact>, ReadError> {
        let facts = self.of(channel).into_iter().map(|(fact, _)| fact).filter(|fact| {
            fact.fact_seq >= span.from_fact_seq
                && span.known_after.is_none_or(|after| fact.known_at > after)
                && span.known_by.is_none_or(|by| fact.known_at <= by)
        });
        Ok(facts.take(facts_max).collect())
    }

    fn fact(&self, _: i32, _: i32, fact_seq: u64) -> Result<Option<(Channel, StoredFact)>, ReadError> {
        let facts = self.facts.lock().unwrap();
        Ok(facts.iter().find(|(_, fact, _)| fact.fact_seq == fact_seq).map(|(channel, fact, _)| (*channel, fact.clone())))
    }

    fn known_at(&self, _: i32, seq: u64) -> Result<Option<Micros>, ReadError> {
        Ok(Some(known_at(seq)))
    }

    fn last_known_by(&self, _: i32, time: Micros) -> Result<Option<u64>, ReadError> {
        Ok(u64::try_from(time.since(START).div_euclid(Micros::SECOND)).ok())
    }

    fn records(&self, session_key: i32, seqs: &[u64]) -> Result<Vec<Cause>, ReadError> {
        let document =
            serde_json::json!({"session_key": session_key, "meeting_key": 1, "driver_number": 4, "date": known_at(0), "position": 3});
        let sample = Sample::from_json(Collection::Position, document.as_object().unwrap()).unwrap();
        let mut payload = Vec::new();
        sample.encode(&mut payload);
        let record = |&seq: &u64| LedgerRecord {
            seq: seq as i64,
            known_at: known_at(seq),
            event_time: known_at(seq),
            kind: LedgerKind::Sample,
            stream: 0,
            partition: 0,
            offset: seq as i64,
            ingest_seq: seq as i64,
            payload: payload.clone(),
        };
        Ok(seqs.iter().map(|seq| Cause { record: record(seq), stream: Some("position".to_owned()) }).collect())
    }

    fn verify(&self, _: i32) -> Result<Verified, ReadError> {
        let hash = Digest::default().to_string();
        Ok(Verified { epoch: 0, seq: 1, facts: 2, facts_hash: hash.clone(), recomputed_hash: hash })
    }
}

/// One commit in the making.
pub struct Commit<'a> {
    feeder: &'a mut Feeder,
    facts: FactBatch,
}

/// Makes commits of a session, a ledger record each.
pub struct Feeder {
    pub hub: Arc<Hub>,
    pub kept: Arc<Kept>,
    pub session_key: i32,
    pub epoch: i32,
    pub next_seq: u64,
    next_fact_seq: u64,
}

impl Feeder {
    pub fn new(options: Options) -> Self {
        let hub = Hub::new(options);
        hub.set_ready();
        Self { hub, kept: Arc::default(), session_key: SESSION, epoch: 0, next_seq: 0, next_fact_seq: 0 }
    }

    pub fn commit(&mut self) -> Commit<'_> {
        Commit { feeder: self, facts: FactBatch::default() }
    }

    /// A commit with one car's position.
    pub fn position(&mut self, driver_number: i32, position: i32) -> u64 {
        self.commit().fact(&position_of(driver_number, position)).done()
    }

    /// A commit with one lap.
    pub fn lap(&mut self, driver_number: i32, lap_number: i32) -> u64 {
        self.commit().fact(&lap(driver_number, lap_number)).done()
    }
}

pub fn position_of(driver_number: i32, position: i32) -> Position {
    Position { driver_number, position, previous_position: None, cars: 20, disputed: false, undisputed_position: None }
}

pub fn lap(driver_number: i32, lap_number: i32) -> Lap {
    let mark = Mark::Yellow;
    Lap {
        driver_number,
        lap_number,
        started_at: None,
        lap_ms: Some(72_000 + lap_number),
        lap_inferred: false,
        sector_1_ms: None,
        sector_2_ms: None,
        sector_3_ms: None,
        sector_1_inferred: false,
        sector_1_mark: mark,
        sector_2_mark: mark,
        sector_3_mark: mark,
        lap_mark: mark,
        i1_speed: None,
        i2_speed: None,
        st_speed: None,
        is_pit_out_lap: false,
        segments_1: Vec::new(),
        segments_2: Vec::new(),
        segments_3: Vec::new(),
        is_complete: true,
        is_deleted: false,
        deleted_reason: None,
        is_pit_in_lap: false,
        is_accurate: true,
        is_interrupted: false,
        is_personal_best: false,
        qualifying_segment: None,
        was_personal_best: false,
    }
}

/// A recording, one of many of the same car.
pub fn radio(driver_number: i32, number: i64) -> TeamRadio {
    let recording_url = format!("https://radio.example/{number}.mp3");
    TeamRadio { driver_number, recorded_at: START.plus(number), recording_url, lap_number: None }
}

pub fn clock(laps_completed: i32) -> RaceClock {
    RaceClock { started_at: Some(START), laps_completed, driver_number: Some(4) }
}

impl Commit<'_> {
    pub fn fact<F: Fact>(self, body: &F) -> Self {
        self.say(body, None)
    }

    /// Takes the fact `fact_seq` back, which said this.
    pub fn withdrawn<F: Fact>(self, body: &F, fact_seq: i64) -> Self {
        self.say(body, Some(fact_seq))
    }

    fn say<F: Fact>(mut self, body: &F, withdraws: Option<i64>) -> Self {
        let feeder = &mut *self.feeder;
        let (fact_seq, time) = (feeder.next_fact_seq, known_at(feeder.next_seq));
        feeder.next_fact_seq += 1;
        let header = FactHeader {
            epoch: feeder.epoch,
            session_key: feeder.session_key,
            fact_seq: fact_seq as i64,
            kind_seq: 0,
            known_at: time,
            event_time: time,
            causes: vec![feeder.next_seq as i64],
            revision: i32::from(withdraws.is_some()),
            supersedes: withdraws,
            withdrawn: withdraws.is_some(),
            known_at_quality: KnownAtQuality::Received,
        };
        let mut bytes = Vec::new();
        header.encode(&mut bytes);
        body.encode(&mut bytes);
        let fact = EncodedFact { kind: Kind::of::<F>(), fact_seq, known_at: time, bytes: &bytes };
        self.facts.push_encoded(fact).unwrap();
        let stored = StoredFact { fact_seq, known_at: time, bytes: bytes.clone() };
        feeder.kept.facts.lock().unwrap().push((Channel::named(F::KIND).unwrap(), stored, fact.key().unwrap()));
        self
    }

    /// Announces it; gives its ledger record.
    pub fn done(self) -> u64 {
        let Self { feeder, facts } = self;
        let seq = feeder.next_seq;
        feeder.next_seq += 1;
        let head = Head {
            epoch: feeder.epoch,
            last_seq: seq,
            known_at: known_at(seq),
            next_ingest_seq: 0,
            graph_hash: Digest::default(),
            next_fact_seq: feeder.next_fact_seq,
            facts_hash: Digest::of(&seq.to_le_bytes()),
            state: SessionState::Live,
        };
        feeder.hub.committed(&Committed { session_key: feeder.session_key, head, facts: &facts, records: 1, halted: None });
        seq
    }
}

/// Options that suit tests: any free port.
pub fn options() -> Options {
    Options { listen: ([127, 0, 0, 1], 0).into(), ..Options::default() }
}

/// A server that stops when it is dropped.
pub struct Server {
    pub address: std::net::SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    served: Option<tokio::task::JoinHandle<()>>,
}

impl Server {
    pub async fn start(feeder: &Feeder) -> Self {
        Self::of(pitwall_edge::bind(feeder.hub.clone(), feeder.kept.clone()).await.unwrap())
    }

    pub fn of(bound: pitwall_edge::Bound) -> Self {
        let address = bound.address();
        let (stop, stopped) = oneshot::channel::<()>();
        let served = tokio::spawn(bound.serve(async move {
            let _ = stopped.await;
        }));
        Self { address, stop: Some(stop), served: Some(served) }
    }

    pub async fn stop(mut self) {
        drop(self.stop.take());
        self.served.take().unwrap().await.unwrap();
    }

    /// Sends these bytes and reads until the server closes.
    pub async fn raw(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let _ = stream.write_all(request).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    pub async fn request(&self, method: &str, target: &str, headers: &str, body: &str) -> Answer {
        let host = if headers.contains("Host:") { String::new() } else { format!("Host: {}\r\n", self.address) };
        let length = body.len();
        let request = format!("{method} {target} HTTP/1.1\r\n{host}Connection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}");
        Answer::read(&self.raw(request.as_bytes()).await)
    }

    pub async fn get(&self, target: &str) -> Answer {
        self.request("GET", target, "", "").await
    }

    pub async fn connect(&self, target: &str) -> Client {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let url = format!("ws://{}{target}", self.address);
        let (socket, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
        Client { socket }
    }
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    fn read(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Self { status, head: head.to_owned(), body: body.to_owned() }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let of_name = |line: &&str| line.split_once(':').is_some_and(|(given, _)| given.eq_ignore_ascii_case(name));
        self.head.lines().find(of_name).and_then(|line| line.split_once(':')).map(|(_, value)| value.trim())
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

pub struct Client {
    pub socket: WebSocketStream<TcpStream>,
}

/// Longest that a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

impl Client {
    pub async fn say(&mut self, text: impl Into<String>) {
        self.socket.send(Message::Text(text.into().into())).await.unwrap();
    }

    /// The next message of the server, or its close code.
    pub async fn next(&mut self) -> Result<Value, u16> {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.socket.next()).await.expect("the server says something");
            match message {
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(frame))) => return Err(frame.map_or(1005, |frame| frame.code.into())),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(1006),
            }
        }
    }

    pub async fn hear(&mut self) -> Value {
        self.next().await.unwrap_or_else(|code| panic!("closed with {code}"))
    }

    /// The code the server closes with, whatever it says before.
    pub async fn close_code(&mut self) -> u16 {
        loop {
            if let Err(code) = self.next().await {
                return code;
            }
        }
    }
}
