//! Reading one partition from somewhere to its committed end.

use std::thread;
use std::time::{Duration, Instant};

use pitwall_engine::Micros;
use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::topic_partition_list::TopicPartitionList;

use crate::client::{Context, KafkaLogError};
use crate::lanes::Start;
use crate::options::Options;

/// One partition of one topic, and how far it has been read.
pub(crate) struct Scan {
    consumer: BaseConsumer<Context>,
    options: Options,
    topic: String,
    partition: i32,
    /// Where [`catch_up`](Self::catch_up) goes on.
    next: i64,
}

impl Scan {
    pub(crate) fn new(options: &Options, topic: &str, partition: i32) -> Result<Self, KafkaLogError> {
        let consumer = options.consumer()?.create_with_context(Context).map_err(|error| options.trouble(topic, &error))?;
        Ok(Self { consumer, options: options.clone(), topic: topic.to_owned(), partition, next: 0 })
    }

    /// The consumer, for what only it can say of its group.
    pub(crate) const fn consumer(&self) -> &BaseConsumer<Context> {
        &self.consumer
    }

    pub(crate) fn topic(&self) -> &str {
        &self.topic
    }

    /// The first offset that is there and the one behind the last committed.
    fn bounds(&self) -> Result<(i64, i64), KafkaLogError> {
        bounds(&self.options, &self.consumer, &self.topic, self.partition)
    }

    /// Hands over everything committed since the last call.
    pub(crate) fn catch_up(&mut self, take: impl FnMut(&BorrowedMessage<'_>) -> Result<(), KafkaLogError>) -> Result<(), KafkaLogError> {
        let (_, end) = self.bounds()?;
        if self.next < end {
            self.read(self.next, end, take)?;
            self.next = end;
        }
        Ok(())
    }

    /// Hands over what is committed from `from` on, up to where [`catch_up`](Self::catch_up) has been.
    pub(crate) fn again(
        &mut self,
        from: i64,
        take: impl FnMut(&BorrowedMessage<'_>) -> Result<(), KafkaLogError>,
    ) -> Result<(), KafkaLogError> {
        self.read(from, self.next, take)
    }

    /// What lies at `offset` and before `end`. Offsets are not dense, so the partition's end says when it is over, not a number.
    fn read(
        &mut self,
        from: i64,
        end: i64,
        mut take: impl FnMut(&BorrowedMessage<'_>) -> Result<(), KafkaLogError>,
    ) -> Result<(), KafkaLogError> {
        if from >= end {
            return Ok(());
        }
        let (first, _) = self.bounds()?;
        let mut assignment = TopicPartitionList::new();
        let assigned = assignment
            .add_partition_offset(&self.topic, self.partition, Offset::Offset(from.max(first)))
            .and_then(|()| self.consumer.assign(&assignment));
        assigned.map_err(|error| self.options.trouble(&self.topic, &error))?;
        let result = loop {
            match self.consumer.poll(self.options.timeout()) {
                Some(Ok(message)) if message.offset() >= end => break Ok(()),
                Some(Ok(message)) => {
                    let is_last = message.offset() + 1 == end;
                    if let Err(error) = take(&message) {
                        break Err(error);
                    }
                    if is_last {
                        break Ok(());
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) => break Ok(()),
                Some(Err(error)) if is_passing(&error) => {}
                Some(Err(error)) => break Err(self.options.trouble(&self.topic, &error)),
                None => break Err(self.options.silence(format!("reading {}", self.topic))),
            }
        };
        self.consumer.unassign().map_err(|error| self.options.trouble(&self.topic, &error))?;
        result
    }

    /// The message at `offset`, if it is still there.
    pub(crate) fn one<T>(
        &mut self,
        offset: i64,
        mut take: impl FnMut(&BorrowedMessage<'_>) -> Result<T, KafkaLogError>,
    ) -> Result<Option<T>, KafkaLogError> {
        let mut found = None;
        self.read(offset, offset + 1, |message| {
            if message.offset() == offset {
                found = Some(take(message)?);
            }
            Ok(())
        })?;
        Ok(found)
    }
}

/// The first offset of a partition that is there and the one behind the last committed. A partition without a leader, as one has that was
/// just made, is asked again.
pub(crate) fn bounds(
    options: &Options,
    consumer: &BaseConsumer<Context>,
    topic: &str,
    partition: i32,
) -> Result<(i64, i64), KafkaLogError> {
    const AGAIN: Duration = Duration::from_millis(20);
    let end = Instant::now() + options.timeout();
    loop {
        match consumer.fetch_watermarks(topic, partition, options.timeout()) {
            Ok(bounds) => return Ok(bounds),
            Err(error) if is_passing(&error) && Instant::now() < end => thread::sleep(AGAIN),
            Err(error) => return Err(options.trouble(topic, &error)),
        }
    }
}

/// Where to begin reading topics whose records wanted were known after `known_after`. None is skipped: messages carry their records' times
/// in milliseconds, and the broker's index of them may pass over others of the very millisecond asked for, so one before is asked for.
/// Sessions of other times in the same partition may only make it begin earlier.
pub(crate) fn starts_after(
    options: &Options,
    partition: i32,
    topics: Vec<String>,
    known_after: Micros,
) -> Result<Vec<Start>, KafkaLogError> {
    let doing = || format!("looking for records after {known_after}");
    let consumer: BaseConsumer<Context> =
        options.consumer()?.create_with_context(Context).map_err(|error| options.trouble(doing(), &error))?;
    let mut wanted = TopicPartitionList::new();
    let mut starts = Vec::new();
    for topic in topics {
        let added = wanted.add_partition_offset(&topic, partition, Offset::Offset((known_after.0 / 1_000 - 1).max(0)));
        added.map_err(|error| options.trouble(doing(), &error))?;
        // A topic that has no such record yet is read from where it ended before it was asked.
        let (_, end) = bounds(options, &consumer, &topic, partition)?;
        starts.push(Start { topic, offset: end });
    }
    let found = consumer.offsets_for_times(wanted, options.timeout()).map_err(|error| options.trouble(doing(), &error))?;
    for start in &mut starts {
        if let Some(element) = found.find_partition(&start.topic, partition)
            && let Offset::Offset(offset) = element.offset()
        {
            start.offset = offset.min(start.offset);
        }
    }
    Ok(starts)
}

/// Whether an error of a consumer passes by itself: connections come and go, and librdkafka goes on.
pub(crate) fn is_passing(error: &KafkaError) -> bool {
    use rdkafka::error::RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::BrokerTransportFailure
                | Code::AllBrokersDown
                | Code::OperationTimedOut
                | Code::RequestTimedOut
                | Code::NetworkException
                | Code::Resolve
                | Code::BrokerNotAvailable
                | Code::LeaderNotAvailable
                | Code::NotLeaderForPartition
                | Code::WaitingForCoordinator
                | Code::CoordinatorLoadInProgress
                | Code::CoordinatorNotAvailable
                | Code::NotCoordinator
        )
    )
}
