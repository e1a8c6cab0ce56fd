//! Reading one partition of many topics side by side.
//!
//! Each topic is a lane with a queue of its own, so a lane that is ahead is simply not asked and librdkafka stops reading ahead for it.
//!
//! A session's raw records lie in a topic for each collection, its facts in one for each kind; `ingest_seq` and `fact_seq` say in what
//! order. The lowest number at the head of a lane is [`next`](Lanes::next) once no other lane can bring a lower one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::BorrowedMessage;
use rdkafka::topic_partition_list::TopicPartitionList;

use crate::client::{Context, KafkaLogError};
use crate::options::Options;
use crate::scan::{bounds, is_passing};

/// How long is waited at a time while a lane has nothing yet.
pub(crate) const POLL: Duration = Duration::from_millis(1);

/// Where a lane begins.
pub(crate) struct Start {
    pub(crate) topic: String,
    pub(crate) offset: i64,
}

struct Lane<T> {
    topic: String,
    queue: PartitionQueue<Context>,
    head: Option<(i64, T)>,
    is_at_end: bool,
}

/// Makes an item and its number of a message of a lane, or `None` of one that is not wanted.
pub(crate) trait Read<T>: FnMut(usize, &BorrowedMessage<'_>) -> Result<Option<(i64, T)>, KafkaLogError> {}

impl<T, F: FnMut(usize, &BorrowedMessage<'_>) -> Result<Option<(i64, T)>, KafkaLogError>> Read<T> for F {}

/// The lanes of one session.
pub(crate) struct Lanes<T> {
    // The queues go before the consumer that they are parts of.
    lanes: Vec<Lane<T>>,
    consumer: Arc<BaseConsumer<Context>>,
    options: Options,
    /// The number that comes next.
    next: i64,
    /// The lane that the last item came from: it alone has no head that it had before.
    last: usize,
}

/// What becomes of a hole in the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holes {
    /// The record behind it is handed over when every lane has ended: another may come later.
    Pass,
    /// There can be none: what is missing is waited for.
    Wait,
}

impl<T> Lanes<T> {
    /// Begins to read `starts`, all in `partition`; `next` is the first number if it is known. Read ahead of each are `ahead_bytes_max`.
    ///
    /// # Errors
    /// When Kafka cannot be reached, a topic is not there, or what lies where one starts has been deleted: reading on from what is left
    /// would be silent loss.
    pub(crate) fn open(
        options: &Options,
        partition: i32,
        starts: Vec<Start>,
        next: Option<i64>,
        ahead_bytes_max: usize,
    ) -> Result<Self, KafkaLogError> {
        let trouble = |topic: &str, error: &KafkaError| options.trouble(topic, error);
        let mut config = options.consumer()?;
        config
            .set("fetch.message.max.bytes", ahead_bytes_max.min(1 << 20).to_string())
            .set("queued.max.messages.kbytes", (ahead_bytes_max / 1_024).max(1).to_string());
        let consumer: BaseConsumer<Context> = config.create_with_context(Context).map_err(|error| trouble("making a consumer", &error))?;
        let consumer = Arc::new(consumer);
        let mut assignment = TopicPartitionList::new();
        let mut lanes = Vec::new();
        for Start { topic, offset } in starts {
            let (first, _) = bounds(options, &consumer, &topic, partition)?;
            if offset < first {
                return Err(KafkaLogError::Deleted { topic, partition, offset, first });
            }
            let added = assignment.add_partition_offset(&topic, partition, Offset::Offset(offset));
            added.map_err(|error| trouble(&topic, &error))?;
            // Split off before it is assigned: a queue that is split later may have given messages to the consumer's own by then.
            let queue = consumer.split_partition_queue(&topic, partition).ok_or_else(|| KafkaLogError::NoTopic(topic.clone()))?;
            lanes.push(Lane { topic, queue, head: None, is_at_end: false });
        }
        consumer.assign(&assignment).map_err(|error| trouble("assigning partitions", &error))?;
        Ok(Self { lanes, consumer, options: options.clone(), next: next.unwrap_or(i64::MIN), last: 0 })
    }

    /// The item whose number is next, and its lane. `None` when nothing more is there yet.
    pub(crate) fn next(&mut self, holes: Holes, mut read: impl Read<T>) -> Result<Option<(usize, T)>, KafkaLogError> {
        let mut end = None;
        loop {
            // Lanes that ended long ago are asked only when the next number is at no head: asking costs as much as a message.
            self.fill(self.last, &mut read)?;
            let lowest = self.lowest();
            if let Some((number, lane)) = lowest
                && number <= self.next
            {
                return Ok(self.take(number, lane));
            }
            let (has_come, is_settled) = self.fill_all(&mut read)?;
            if has_come {
                continue;
            }
            if is_settled && holes == Holes::Pass {
                return Ok(lowest.and_then(|(number, lane)| self.take(number, lane)));
            }
            if Instant::now() >= *end.get_or_insert_with(|| Instant::now() + self.options.timeout()) {
                return Err(self.options.silence(format!("waiting for number {} of {}", self.next, self.names())));
            }
            self.serve(POLL)?;
        }
    }

    fn take(&mut self, number: i64, lane: usize) -> Option<(usize, T)> {
        self.next = self.next.max(number + 1);
        self.last = lane;
        self.lanes[lane].head.take().map(|(_, item)| (lane, item))
    }

    fn lowest(&self) -> Option<(i64, usize)> {
        let heads = self.lanes.iter().enumerate().filter_map(|(index, lane)| Some((lane.head.as_ref()?.0, index)));
        heads.min()
    }

    /// Asks every lane without a head. Says whether any brought one, and whether all others are at their end.
    fn fill_all(&mut self, read: &mut impl Read<T>) -> Result<(bool, bool), KafkaLogError> {
        let (mut has_come, mut is_settled) = (false, true);
        for lane in 0..self.lanes.len() {
            if self.lanes[lane].head.is_some() {
                continue;
            }
            let has_head = self.fill(lane, read)?;
            has_come |= has_head;
            is_settled &= has_head || self.lanes[lane].is_at_end;
        }
        Ok((has_come, is_settled))
    }

    /// Asks one lane, if it has no head. Says whether it has one now.
    pub(crate) fn fill(&mut self, index: usize, read: &mut impl Read<T>) -> Result<bool, KafkaLogError> {
        let Some(lane) = self.lanes.get_mut(index) else { return Ok(false) };
        while lane.head.is_none() {
            match lane.queue.poll(Duration::ZERO) {
                Some(Ok(message)) => lane.head = read(index, &message)?,
                Some(Err(KafkaError::PartitionEOF(_))) => lane.is_at_end = true,
                Some(Err(error)) if is_passing(&error) => {}
                Some(Err(error)) => return Err(self.options.trouble(&lane.topic, &error)),
                None => break,
            }
        }
        Ok(lane.head.is_some())
    }

    /// The number and item at the head of a lane.
    pub(crate) fn head(&self, lane: usize) -> Option<&(i64, T)> {
        self.lanes.get(lane)?.head.as_ref()
    }

    /// Takes the head of a lane, its number left out of account.
    pub(crate) fn take_head(&mut self, lane: usize) -> Option<T> {
        self.lanes.get_mut(lane)?.head.take().map(|(_, item)| item)
    }

    /// Whether a lane has once been read to its end.
    pub(crate) fn has_ended(&self, lane: usize) -> bool {
        self.lanes.get(lane).is_some_and(|lane| lane.is_at_end)
    }

    /// Lets the consumer do what it must; messages come through the lanes.
    pub(crate) fn serve(&self, wait: Duration) -> Result<(), KafkaLogError> {
        match self.consumer.poll(wait) {
            Some(Err(error)) if !is_passing(&error) => Err(self.options.trouble(self.names(), &error)),
            _ => Ok(()),
        }
    }

    fn names(&self) -> String {
        self.lanes.iter().map(|lane| lane.topic.as_str()).collect::<Vec<_>>().join(", ")
    }
}
