//! Members of a group come and go, and partition p of every raw topic sits on one member after each join and leave: as the broker says it,
//! and as their threads run.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pitwall_kafka::client::KafkaLogError;
use pitwall_kafka::log::KafkaLog;
use pitwall_kafka::members;
use pitwall_kafka::options::Options;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use support::Deployment;

const PARTITIONS: i32 = 8;
/// Far more than a rebalance takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Which member runs which partition, by its number.
type Running = Arc<Mutex<BTreeMap<i32, usize>>>;

struct Member {
    is_stopping: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Member {
    fn join(number: usize, options: &Options, topics: &[String], running: &Running) -> Self {
        let is_stopping = Arc::new(AtomicBool::new(false));
        let (options, topics, running, told) = (options.clone(), topics.to_vec(), running.clone(), is_stopping.clone());
        let work = move |partition: i32, is_stopping: &AtomicBool| -> Result<(), KafkaLogError> {
            let other = running.lock().unwrap().insert(partition, number);
            assert_eq!(other, None, "partition {partition} has one thread at a time");
            while !is_stopping.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(1));
            }
            running.lock().unwrap().remove(&partition);
            Ok(())
        };
        let thread = thread::spawn(move || members::run(&options, &options.group_id(), &topics, work, &told).unwrap());
        Self { is_stopping, thread }
    }

    fn leave(self) {
        self.is_stopping.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
    }
}

/// What the broker has assigned: topics and partitions of each member. `None` while the group is still finding out.
fn assigned(consumer: &BaseConsumer, group: &str) -> Option<Vec<BTreeMap<String, BTreeSet<i32>>>> {
    // A broker that has just started has no coordinator yet.
    let groups = consumer.fetch_group_list(Some(group), Duration::from_secs(10)).ok()?;
    let group = groups.groups().first().filter(|group| group.state() == "Stable")?;
    group.members().iter().map(|member| member.assignment().filter(|bytes| !bytes.is_empty()).map(decode)).collect()
}

/// Kafka's consumer protocol: version, then for each topic its name and partitions.
fn decode(bytes: &[u8]) -> BTreeMap<String, BTreeSet<i32>> {
    fn take<'a>(bytes: &mut &'a [u8], length: usize) -> &'a [u8] {
        let (head, rest) = bytes.split_at(length);
        *bytes = rest;
        head
    }
    fn number(bytes: &mut &[u8]) -> i32 {
        i32::from_be_bytes(take(bytes, 4).try_into().unwrap())
    }
    fn short(bytes: &mut &[u8]) -> i16 {
        i16::from_be_bytes(take(bytes, 2).try_into().unwrap())
    }
    let mut rest = bytes;
    short(&mut rest);
    let topics = number(&mut rest);
    (0..topics)
        .map(|_| {
            let length = short(&mut rest) as usize;
            let topic = String::from_utf8(take(&mut rest, length).to_vec()).unwrap();
            let partitions = number(&mut rest);
            (topic, (0..partitions).map(|_| number(&mut rest)).collect())
        })
        .collect()
}

#[test]
fn partition_p_of_every_raw_topic_sits_on_one_member_after_each_join_and_leave() {
    let deployment = Deployment::with_partitions("assignment", support::formula_1_streams(), PARTITIONS);
    let options = Options { session_timeout_ms: 6_000, ..deployment.options.clone() };
    let topics = KafkaLog::open(options.clone(), deployment.streams.clone()).unwrap().member_topics();
    assert_eq!(topics.len(), deployment.streams.raw.len() + 1);
    let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", options.brokers.join(",")).create().unwrap();
    let running = Running::default();

    let check = |members: &[usize]| {
        let end = Instant::now() + PATIENCE;
        let wanted = |assigned: &Vec<BTreeMap<String, BTreeSet<i32>>>| assigned.len() == members.len();
        // Threads follow what their members were assigned within a poll.
        let shares = loop {
            let is_settled = |running: &BTreeMap<i32, usize>| {
                running.len() == PARTITIONS as usize && members.iter().all(|member| running.values().any(|of| of == member))
            };
            match assigned(&consumer, &options.group_id()).filter(wanted) {
                Some(shares) if is_settled(&running.lock().unwrap()) => break shares,
                _ => assert!(Instant::now() < end, "{} members do not settle: {:?}", members.len(), running.lock().unwrap()),
            }
            thread::sleep(Duration::from_millis(20));
        };
        let mut seen = BTreeSet::new();
        for share in &shares {
            let of_first = share.values().next().unwrap();
            for topic in &topics {
                assert_eq!(share.get(topic), Some(of_first), "{topic}: a member has the same partitions of every topic");
            }
            assert_eq!(share.len(), topics.len());
            for partition in of_first {
                assert!(seen.insert(*partition), "partition {partition} has one member");
            }
        }
        assert_eq!(seen, (0..PARTITIONS).collect(), "every partition has a member");
        let mut by_member: BTreeMap<usize, BTreeSet<i32>> = BTreeMap::new();
        for (partition, member) in running.lock().unwrap().iter() {
            by_member.entry(*member).or_default().insert(*partition);
        }
        let of_threads: BTreeSet<BTreeSet<i32>> = by_member.into_values().collect();
        let of_broker: BTreeSet<BTreeSet<i32>> = shares.iter().map(|share| share.values().next().unwrap().clone()).collect();
        assert_eq!(of_threads, of_broker, "threads run what the broker has assigned");
    };

    let join = |number| Member::join(number, &options, &topics, &running);
    let first = join(1);
    check(&[1]);
    let second = join(2);
    check(&[1, 2]);
    let third = join(3);
    check(&[1, 2, 3]);
    first.leave();
    check(&[2, 3]);
    let fourth = join(4);
    check(&[2, 3, 4]);
    third.leave();
    second.leave();
    check(&[4]);
    fourth.leave();
}
