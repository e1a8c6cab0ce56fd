//! A transactional producer: everything sent between [`begin`](Writer::begin) and [`commit`](Writer::commit) becomes visible together.

use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use pitwall_engine::log::CommitError;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::topic_partition_list::TopicPartitionList;

use crate::client::{Context, KafkaLogError};
use crate::options::Options;

/// How long is waited at a time for the broker's answers. Never in the client's own poll: what is left of its timeout below a millisecond
/// it spends turning in circles.
const ANSWER_POLL: Duration = Duration::from_micros(200);

/// Takes answers that have come, or waits a moment when none has.
fn serve(producer: &BaseProducer<Deliveries>) {
    let before = producer.in_flight_count();
    producer.poll(Duration::ZERO);
    if producer.in_flight_count() == before {
        thread::sleep(ANSWER_POLL);
    }
}

/// Remembers the first message that could not be delivered: its topic, and why.
#[derive(Default)]
struct Deliveries {
    failure: Mutex<Option<(String, KafkaError)>>,
}

impl Deliveries {
    fn failure(&self) -> MutexGuard<'_, Option<(String, KafkaError)>> {
        self.failure.lock().expect("no thread panics while it holds the failure")
    }
}

/// Waits until everything that was sent is there, or the time for an answer is over. Returns what could not be delivered.
fn await_deliveries(producer: &BaseProducer<Deliveries>, options: &Options) -> Option<(String, KafkaError)> {
    let end = deadline(options);
    while producer.in_flight_count() > 0 && is_before(end) {
        serve(producer);
    }
    producer.context().failure().take()
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        Context.log(level, fac, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        Context.error(error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, delivery: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = delivery {
            self.failure().get_or_insert_with(|| (message.topic().to_owned(), error.clone()));
        }
    }
}

/// A message on its way out.
pub(crate) struct Outgoing<'a> {
    pub(crate) topic: &'a str,
    pub(crate) partition: i32,
    pub(crate) key: &'a str,
    /// Milliseconds, so that Kafka's own tools can find a moment.
    pub(crate) timestamp: i64,
    pub(crate) payload: &'a [u8],
    pub(crate) headers: Option<OwnedHeaders>,
}

/// Writes single messages that need no transaction: no fence either, so what it writes must be right whoever writes it, and however often.
pub(crate) struct Keeper {
    producer: BaseProducer<Deliveries>,
    options: Options,
}

impl Keeper {
    pub(crate) fn open(options: &Options) -> Result<Self, KafkaLogError> {
        let mut config = options.writer()?;
        // Not idempotent: the number for that takes half a second to get over a new connection, and what is written twice is not wrong.
        config.set("acks", "all");
        let producer = config.create_with_context(Deliveries::default()).map_err(|error| options.trouble("making a producer", &error))?;
        Ok(Self { producer, options: options.clone() })
    }

    /// Sends a message once all before it are there.
    pub(crate) fn send(&self, outgoing: &Outgoing<'_>) -> Result<(), KafkaLogError> {
        self.settle()?;
        let record = BaseRecord::to(outgoing.topic)
            .partition(outgoing.partition)
            .key(outgoing.key)
            .timestamp(outgoing.timestamp)
            .payload(outgoing.payload);
        self.producer.send(record).map_err(|(error, _)| self.options.trouble(outgoing.topic, &error))
    }

    /// Waits until everything that was sent is there.
    pub(crate) fn settle(&self) -> Result<(), KafkaLogError> {
        match await_deliveries(&self.producer, &self.options) {
            Some((topic, error)) => Err(self.options.trouble(topic, &error)),
            None if self.producer.in_flight_count() > 0 => Err(self.options.silence("writing a message")),
            None => Ok(()),
        }
    }
}

impl Drop for Keeper {
    /// What was sent last still gets its time.
    fn drop(&mut self) {
        let _ = self.producer.flush(Duration::from_millis(self.options.revocation_ms));
    }
}

/// The one writer under its transactional id: opening it has fenced every earlier one.
pub(crate) struct Writer {
    producer: BaseProducer<Deliveries>,
    options: Options,
    /// Whether the last commit got no answer.
    is_in_doubt: bool,
}

impl Writer {
    /// Fences whoever wrote under this id; what they had not committed is aborted before this returns.
    pub(crate) fn open(options: &Options, transactional_id: &str) -> Result<Self, KafkaLogError> {
        let producer: BaseProducer<Deliveries> = options
            .transactional(transactional_id)?
            .create_with_context(Deliveries::default())
            .map_err(|error| options.trouble("making a producer", &error))?;
        let end = deadline(options);
        loop {
            match producer.init_transactions(options.timeout()) {
                Ok(()) => break,
                Err(error) if is_retriable(&error) && is_before(end) => {}
                Err(error) => return Err(options.trouble(format!("taking over {transactional_id}"), &error)),
            }
        }
        Ok(Self { producer, options: options.clone(), is_in_doubt: false })
    }

    /// Begins a transaction.
    pub(crate) fn begin(&mut self) -> Result<(), CommitError> {
        self.settle()?;
        *self.producer.context().failure() = None;
        self.producer.begin_transaction().map_err(|error| self.give_up(&error))
    }

    /// Sends a message within the transaction; waits while too many are on their way.
    pub(crate) fn send(&self, outgoing: Outgoing<'_>) -> Result<(), CommitError> {
        let mut record = BaseRecord::to(outgoing.topic)
            .partition(outgoing.partition)
            .key(outgoing.key)
            .timestamp(outgoing.timestamp)
            .payload(outgoing.payload);
        if let Some(headers) = outgoing.headers {
            record = record.headers(headers);
        }
        let end = deadline(&self.options);
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(Code::QueueFull), back)) if is_before(end) => record = back,
                Err((error, _)) => return Err(self.give_up(&error)),
            }
            serve(&self.producer);
        }
    }

    /// Commits, with the offsets given. Messages are waited for first: a commit that finds some on their way waits in steps of 100 ms.
    pub(crate) fn commit(&mut self, offsets: Option<(&TopicPartitionList, &ConsumerGroupMetadata)>) -> Result<(), CommitError> {
        let end = deadline(&self.options);
        if let Some((_, error)) = await_deliveries(&self.producer, &self.options) {
            return Err(self.give_up(&error));
        }
        if let Some((offsets, group)) = offsets {
            loop {
                match self.producer.send_offsets_to_transaction(offsets, group, self.options.timeout()) {
                    Ok(()) => break,
                    Err(error) if is_retriable(&error) && is_before(end) => {}
                    Err(error) => return Err(self.give_up(&error)),
                }
            }
        }
        self.is_in_doubt = true;
        self.settle()
    }

    /// Brings a commit whose answer was lost to its end: asking again is safe, the coordinator knows.
    pub(crate) fn settle(&mut self) -> Result<(), CommitError> {
        let end = deadline(&self.options);
        while self.is_in_doubt {
            match self.producer.commit_transaction(self.options.timeout()) {
                Ok(()) => self.is_in_doubt = false,
                Err(error) if is_retriable(&error) => {
                    if !is_before(end) {
                        return Err(CommitError::Unknown);
                    }
                }
                Err(error) => {
                    self.is_in_doubt = false;
                    return Err(self.give_up(&error));
                }
            }
        }
        Ok(())
    }

    /// Whether the broker has still to say what became of the last commit.
    pub(crate) const fn is_in_doubt(&self) -> bool {
        self.is_in_doubt
    }

    /// Aborts after `error`, unless this writer has been fenced.
    fn give_up(&self, error: &KafkaError) -> CommitError {
        tracing::warn!(%error, "a transaction is given up");
        if is_fenced(error) {
            return CommitError::Fenced;
        }
        match self.producer.abort_transaction(self.options.timeout()) {
            Ok(()) => CommitError::Aborted,
            Err(error) if is_fenced(&error) => CommitError::Fenced,
            Err(error) if is_retriable(&error) => CommitError::Aborted,
            Err(error) => {
                tracing::error!(%error, "a transaction cannot be aborted: its writer is of no use any more");
                CommitError::Fenced
            }
        }
    }
}

/// Until when an answer of the broker is waited for.
pub(crate) fn deadline(options: &Options) -> Instant {
    Instant::now() + options.timeout()
}

pub(crate) fn is_before(end: Instant) -> bool {
    Instant::now() < end
}

fn is_retriable(error: &KafkaError) -> bool {
    matches!(error, KafkaError::Transaction(error) if error.is_retriable())
}

/// Whether another writer has the transactional id. An epoch that is only out of date, after a transaction timed out, can be aborted.
fn is_fenced(error: &KafkaError) -> bool {
    matches!(error.rdkafka_error_code(), Some(Code::Fenced | Code::ProducerFenced))
}
