//! Which topics there are, how each must be set up, and making and checking them.

use std::sync::Mutex;
use std::time::Duration;

use futures_executor::block_on;
use rdkafka::ClientContext;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, Producer, ProducerContext};

use crate::client::{Context, KafkaLogError};
use crate::options::Options;
use crate::schemas::Streams;
use pitwall_schemas::topics;

/// What becomes of old records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cleanup {
    /// All are kept: races carry old timestamps, so Kafka's default retention would delete them within minutes.
    Keep,
    /// The newest of each key is kept.
    Compact,
}

impl Cleanup {
    const fn policy(self) -> &'static str {
        match self {
            Self::Keep => "delete",
            Self::Compact => "compact",
        }
    }
}

/// A topic as it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its whole name.
    pub name: String,
    /// What becomes of old records.
    pub cleanup: Cleanup,
    /// The registry's subject of its values.
    pub subject: String,
}

/// Every topic of a deployment, by name.
#[must_use]
pub fn all(options: &Options, streams: &Streams) -> Vec<Topic> {
    let mut all: Vec<Topic> = streams
        .schemas()
        .into_iter()
        .map(|(topic, _)| {
            let is_compact = [topics::KEYFRAMES, topics::SOURCES, topics::READERS].contains(&topic.as_str());
            let name = format!("{}{topic}", options.prefix);
            Topic { subject: format!("{name}-value"), name, cleanup: if is_compact { Cleanup::Compact } else { Cleanup::Keep } }
        })
        .collect();
    all.sort_by(|left, right| left.name.cmp(&right.name));
    all
}

fn admin(options: &Options) -> Result<AdminClient<Context>, KafkaLogError> {
    options.client()?.create_with_context(Context).map_err(|error| options.trouble("making an admin client", &error))
}

fn requests(options: &Options) -> AdminOptions {
    AdminOptions::new().request_timeout(Some(options.timeout())).operation_timeout(Some(options.timeout()))
}

/// Makes the topics that are not there. Returns their names; those that are there are left as they are.
///
/// # Errors
/// When Kafka cannot be reached or refuses.
pub fn create(options: &Options, streams: &Streams) -> Result<Vec<String>, KafkaLogError> {
    let all = all(options, streams);
    let bytes_max = options.message_bytes_max.to_string();
    let new: Vec<NewTopic<'_>> = all
        .iter()
        .map(|topic| {
            NewTopic::new(&topic.name, options.partitions, TopicReplication::Fixed(options.replication))
                .set("cleanup.policy", topic.cleanup.policy())
                .set("retention.ms", "-1")
                .set("retention.bytes", "-1")
                .set("max.message.bytes", &bytes_max)
        })
        .collect();
    let results = block_on(admin(options)?.create_topics(&new, &requests(options)));
    let mut made = Vec::new();
    for result in results.map_err(|error| options.trouble("making topics", &error))? {
        match result {
            Ok(name) => made.push(name),
            Err((_, Code::TopicAlreadyExists)) => {}
            Err((name, code)) => return Err(options.unreachable(format!("making {name}"), code.to_string())),
        }
    }
    await_leaders(options, &all)?;
    made.sort();
    Ok(made)
}

/// Deletes every topic of a deployment and all that is in them. Those that are not there are passed over.
///
/// # Errors
/// When Kafka cannot be reached or refuses.
pub fn delete(options: &Options, streams: &Streams) -> Result<(), KafkaLogError> {
    let all = all(options, streams);
    let names: Vec<&str> = all.iter().map(|topic| topic.name.as_str()).collect();
    let results = block_on(admin(options)?.delete_topics(&names, &requests(options)));
    for result in results.map_err(|error| options.trouble("deleting topics", &error))? {
        match result {
            Ok(_) | Err((_, Code::UnknownTopicOrPartition)) => {}
            Err((name, code)) => return Err(options.unreachable(format!("deleting {name}"), code.to_string())),
        }
    }
    Ok(())
}

/// A new topic takes a moment until its partitions have leaders.
fn await_leaders(options: &Options, topics: &[Topic]) -> Result<(), KafkaLogError> {
    const POLL: Duration = Duration::from_millis(20);
    let attempts = options.timeout_ms / POLL.as_millis() as u64;
    for _ in 0..attempts.max(1) {
        let partitions = partitions_led(options)?;
        if topics.iter().all(|topic| partitions.iter().any(|(name, led)| *name == topic.name && *led > 0)) {
            return Ok(());
        }
        std::thread::sleep(POLL);
    }
    Err(options.silence("waiting for the new topics' leaders"))
}

/// Keeps what librdkafka says of its connections: a request that failed for want of one does not tell why there was none.
#[derive(Default)]
struct Told(Mutex<Option<String>>);

impl Told {
    fn reason(&self) -> Option<String> {
        self.0.lock().expect("no thread panics while it holds a text").take()
    }
}

impl ClientContext for Told {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        Context.log(level, fac, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // That all brokers are down says less than why the last of them is.
        if error.rdkafka_error_code() != Some(Code::AllBrokersDown) {
            *self.0.lock().expect("no thread panics while it holds a text") = Some(reason.to_owned());
        }
    }
}

impl ProducerContext for Told {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

/// Every topic of the cluster and how many partitions with a leader it has; 0 when one has none.
fn partitions_led(options: &Options) -> Result<Vec<(String, i32)>, KafkaLogError> {
    const DOING: &str = "asking for the topics";
    let client: BaseProducer<Told> =
        options.client()?.create_with_context(Told::default()).map_err(|error| options.trouble("making a client", &error))?;
    let metadata = client.client().fetch_metadata(None, options.timeout()).map_err(|error| {
        client.poll(Duration::ZERO);
        client.context().reason().map_or_else(|| options.trouble(DOING, &error), |reason| options.unreachable(DOING, reason))
    })?;
    let led = |topic: &rdkafka::metadata::MetadataTopic| match topic.partitions().iter().any(|partition| partition.leader() < 0) {
        true => 0,
        false => topic.partitions().len() as i32,
    };
    Ok(metadata.topics().iter().map(|topic| (topic.name().to_owned(), led(topic))).collect())
}

/// Looks whether these topics are there.
///
/// # Errors
/// The first that is not; or that Kafka cannot be reached.
pub(crate) fn expect_there(options: &Options, names: &[String]) -> Result<(), KafkaLogError> {
    let found = partitions_led(options)?;
    let missing = names.iter().find(|name| !found.iter().any(|(found, _)| found == *name));
    missing.map_or(Ok(()), |name| Err(KafkaLogError::NoTopic(name.clone())))
}

/// Finds the first topic that is missing or not set up as it must be.
///
/// # Errors
/// That topic, and what to do about it; or that Kafka cannot be reached.
pub fn check(options: &Options, streams: &Streams) -> Result<(), KafkaLogError> {
    let all = all(options, streams);
    check_partitions(options, streams)?;
    let resources: Vec<ResourceSpecifier<'_>> = all.iter().map(|topic| ResourceSpecifier::Topic(&topic.name)).collect();
    let described = block_on(admin(options)?.describe_configs(&resources, &requests(options)));
    for (topic, described) in all.iter().zip(described.map_err(|error| options.trouble("asking for the topics' settings", &error))?) {
        let described = described.map_err(|code| match code {
            Code::UnknownTopicOrPartition | Code::UnknownTopic => KafkaLogError::NoTopic(topic.name.clone()),
            code => KafkaLogError::Unreachable {
                brokers: options.brokers.join(","),
                doing: format!("asking for the settings of {}", topic.name),
                reason: code.to_string(),
            },
        })?;
        let value = |name: &str| described.get(name).and_then(|entry| entry.value.clone()).unwrap_or_default();
        let wrong = |what, found: String, needed: String| KafkaLogError::Topic {
            topic: topic.name.clone(),
            what,
            found,
            needed,
            remedy: "set it with kafka-configs --alter",
        };
        if value("cleanup.policy") != topic.cleanup.policy() {
            return Err(wrong("cleanup.policy", value("cleanup.policy"), topic.cleanup.policy().to_owned()));
        }
        for name in ["retention.ms", "retention.bytes"] {
            if topic.cleanup == Cleanup::Keep && value(name) != "-1" {
                return Err(wrong(name, value(name), "-1".to_owned()));
            }
        }
        if value("max.message.bytes").parse::<usize>().is_ok_and(|bytes| bytes < options.message_bytes_max) {
            return Err(wrong("max.message.bytes", value("max.message.bytes"), options.message_bytes_max.to_string()));
        }
    }
    Ok(())
}

/// The quick half of [`check`]: every topic is there and has the partitions that sessions are placed by.
///
/// # Errors
/// As [`check`].
pub fn check_partitions(options: &Options, streams: &Streams) -> Result<(), KafkaLogError> {
    let found = partitions_led(options)?;
    for topic in all(options, streams) {
        match found.iter().find(|(name, _)| *name == topic.name) {
            None => return Err(KafkaLogError::NoTopic(topic.name)),
            Some((_, partitions)) if *partitions != options.partitions => {
                return Err(KafkaLogError::Topic {
                    topic: topic.name,
                    what: "its partition count",
                    found: partitions.to_string(),
                    needed: options.partitions.to_string(),
                    remedy: "set kafka.partitions to what the topics have, or begin under another kafka.prefix",
                });
            }
            Some(_) => {}
        }
    }
    Ok(())
}
