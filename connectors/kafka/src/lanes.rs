//! Reading one partition of many topics as the one numbered sequence they were written in.
//!
//! A session's raw records lie in a topic for each collection, its facts in one for each kind; `ingest_seq` and `fact_seq` say in what
//! order. Each topic is a lane with a queue of its own, so a lane that is ahead is simply not asked and librdkafka stops reading ahead
//! for it. The lowest number at the head of a lane is next once no other lane can bring a lower one.

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
use crate::scan::is_passing;

/// How long is waited at a time while a lane has nothing yet.
const POLL: Duration = Duration::from_millis(1);

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

/// The lanes of one session.
pub(crate) struct Lanes<T> {
    // The queues go before the consumer that they are parts of.
    lanes: Vec<Lane<T>>,
    consumer: Arc<BaseConsumer<Context>>,
    options: Options,
    /// The number that comes next.
    next: i64,
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
    /// Begins to read `starts`, all in `partition`; `next` is the first number if it is known.
    pub(crate) fn open(options: &Options, partition: i32, starts: Vec<Start>, next: Option<i64>) -> Result<Self, KafkaLogError> {
        let trouble = |topic: &str, error: &KafkaError| options.trouble(topic, error);
        let consumer: BaseConsumer<Context> =
            options.consumer()?.create_with_context(Context).map_err(|error| trouble("making a consumer", &error))?;
        let consumer = Arc::new(consumer);
        let mut assignment = TopicPartitionList::new();
        let mut lanes = Vec::new();
        for Start { topic, offset } in starts {
            let (first, _) = consumer.fetch_watermarks(&topic, partition, options.timeout()).map_err(|error| trouble(&topic, &error))?;
            if offset < first && offset > 0 {
                return Err(KafkaLogError::Deleted { topic, partition, offset, first });
            }
            let added = assignment.add_partition_offset(&topic, partition, Offset::Offset(offset.max(first)));
            added.map_err(|error| trouble(&topic, &error))?;
            // Split off before it is assigned: a queue that is split later may have given messages to the consumer's own by then.
            let queue = consumer.split_partition_queue(&topic, partition).ok_or_else(|| KafkaLogError::NoTopic(topic.clone()))?;
            lanes.push(Lane { topic, queue, head: None, is_at_end: false });
        }
        consumer.assign(&assignment).map_err(|error| trouble("assigning partitions", &error))?;
        Ok(Self { lanes, consumer, options: options.clone(), next: next.unwrap_or(i64::MIN) })
    }

    /// The next item and its lane. `read` makes an item and its number of a message, or `None` of one that belongs to another session.
    /// `None` when nothing more is there yet.
    pub(crate) fn next(
        &mut self,
        holes: Holes,
        mut read: impl FnMut(usize, &BorrowedMessage<'_>) -> Result<Option<(i64, T)>, KafkaLogError>,
    ) -> Result<Option<(usize, T)>, KafkaLogError> {
        let end = Instant::now() + self.options.timeout();
        loop {
            let lowest = self.lowest();
            if let Some((number, lane)) = lowest
                && number <= self.next
            {
                return Ok(self.take(number, lane));
            }
            let (has_come, is_settled) = self.fill(&mut read)?;
            if has_come {
                continue;
            }
            if is_settled && holes == Holes::Pass {
                return Ok(lowest.and_then(|(number, lane)| self.take(number, lane)));
            }
            if Instant::now() >= end {
                return Err(self.options.silence(format!("waiting for number {} of {}", self.next, self.names())));
            }
            self.serve(POLL)?;
        }
    }

    fn take(&mut self, number: i64, lane: usize) -> Option<(usize, T)> {
        self.next = self.next.max(number + 1);
        self.lanes[lane].head.take().map(|(_, item)| (lane, item))
    }

    fn lowest(&self) -> Option<(i64, usize)> {
        let heads = self.lanes.iter().enumerate().filter_map(|(index, lane)| Some((lane.head.as_ref()?.0, index)));
        heads.min()
    }

    /// Asks every lane without a head. Says whether any brought one, and whether all others are at their end.
    fn fill(
        &mut self,
        read: &mut impl FnMut(usize, &BorrowedMessage<'_>) -> Result<Option<(i64, T)>, KafkaLogError>,
    ) -> Result<(bool, bool), KafkaLogError> {
        let (mut has_come, mut is_settled) = (false, true);
        for (index, lane) in self.lanes.iter_mut().enumerate() {
            while lane.head.is_none() {
                match lane.queue.poll(Duration::ZERO) {
                    Some(Ok(message)) => lane.head = read(index, &message)?,
                    Some(Err(KafkaError::PartitionEOF(_))) => lane.is_at_end = true,
                    Some(Err(error)) if is_passing(&error) => {}
                    Some(Err(error)) => return Err(self.options.trouble(&lane.topic, &error)),
                    None => {
                        is_settled &= lane.is_at_end;
                        break;
                    }
                }
                has_come |= lane.head.is_some();
            }
        }
        Ok((has_come, is_settled))
    }

    /// Lets the consumer do what it must; messages come through the lanes.
    fn serve(&self, wait: Duration) -> Result<(), KafkaLogError> {
        match self.consumer.poll(wait) {
            Some(Err(error)) if !is_passing(&error) => Err(self.options.trouble(self.names(), &error)),
            _ => Ok(()),
        }
    }

    fn names(&self) -> String {
        self.lanes.iter().map(|lane| lane.topic.as_str()).collect::<Vec<_>>().join(", ")
    }
}
