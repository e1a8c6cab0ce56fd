//! Turns, answers and counters on a real Redis server.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use pitwall_edge::shared::{Found, Shared, Turn};
use pitwall_redis::options::Options;
use pitwall_redis::share::Share;
use redis::Commands;

/// The port of `docker/services`.
const PORT: u16 = 16_379;
const WINDOW: Duration = Duration::from_secs(60);

/// Two edges of a deployment of its own.
struct Edges {
    prefix: String,
    options: Options,
}

impl Edges {
    fn new(options: Options) -> Self {
        let port = std::env::var("SERVICES_REDIS_PORT").map_or(PORT, |port| port.parse().unwrap());
        let address = format!("127.0.0.1:{port}");
        let server = TcpStream::connect_timeout(&address.parse().unwrap(), Duration::from_secs(2));
        assert!(server.is_ok(), "no Redis at {address}: start it with `docker/services up redis`");
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos();
        // A busy machine may take its time to answer.
        Self { prefix: format!("test-{now}."), options: Options { url: format!("redis://{address}"), timeout_ms: 10_000, ..options } }
    }

    fn edge(&self) -> Arc<Share> {
        Arc::new(Share::new(self.options.clone(), &self.prefix).unwrap())
    }

    /// Seconds until what an edge has kept under `key` goes.
    fn seconds_left(&self, key: &str) -> i64 {
        let mut connection = redis::Client::open(self.options.url.as_str()).unwrap().get_connection().unwrap();
        connection.ttl(format!("{}pitwall:answer:1:{key}", self.prefix)).unwrap()
    }
}

fn turn(found: Found) -> Turn {
    match found {
        Found::Mine(turn) => turn,
        Found::Answer(answer) => panic!("nobody has answered, yet there is {answer:?}"),
    }
}

fn is_held(turn: &Turn) -> bool {
    turn.token.is_some()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_ask_one_computes_and_all_get_its_answer_for_as_long_as_it_is_kept() {
    let edges = Edges::new(Options { answer_ttl_s: 100, wait_ms_max: 60_000, turn_ms: 60_000, ..Options::default() });
    let computed = Arc::new(AtomicUsize::new(0));
    let ask = |edge: Arc<Share>| {
        let computed = computed.clone();
        tokio::spawn(async move {
            match edge.find("lap:30".to_owned()).await {
                Found::Answer(answer) => answer,
                Found::Mine(turn) => {
                    computed.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    edge.hand_in(turn, Some(b"rows".to_vec())).await;
                    b"rows".to_vec()
                }
            }
        })
    };
    let (one, other) = (edges.edge(), edges.edge());
    let asked: Vec<_> = (0..16).map(|number| ask(if number % 2 == 0 { one.clone() } else { other.clone() })).collect();
    for answer in asked {
        assert_eq!(answer.await.unwrap(), b"rows");
    }
    assert_eq!(computed.load(Ordering::SeqCst), 1);
    assert!((1..=100).contains(&edges.seconds_left("lap:30")));
}

#[tokio::test]
async fn a_turn_that_failed_or_expired_is_the_next_ones_and_is_never_given_back_by_another() {
    let edges = Edges::new(Options { turn_ms: 300, wait_ms_max: 60_000, ..Options::default() });
    let (one, other) = (edges.edge(), edges.edge());
    let failed = turn(one.find("a".to_owned()).await);
    assert!(is_held(&failed));
    one.hand_in(failed, None).await;
    let expires = turn(other.find("a".to_owned()).await);
    assert!(is_held(&expires), "it was given back");
    // Nothing is handed in: the turn passes on by itself.
    let late = turn(one.find("a".to_owned()).await);
    assert!(is_held(&late));
    other.hand_in(expires, None).await;
    one.hand_in(late.clone(), Some(vec![1])).await;
    assert_eq!(other.find("a".to_owned()).await, Found::Answer(vec![1]));

    let edges = Edges::new(Options { turn_ms: 60_000, ..Options::default() });
    let (one, other) = (edges.edge(), edges.edge());
    let held = turn(one.find("b".to_owned()).await);
    other.hand_in(Turn { token: Some("another".to_owned()), ..held }, None).await;
    let edges = Edges { options: Options { wait_ms_max: 50, ..edges.options.clone() }, ..edges };
    assert!(!is_held(&turn(edges.edge().find("b".to_owned()).await)), "the turn is still the first one's");
}

#[tokio::test]
async fn who_has_waited_long_enough_computes_too_and_answers_too_large_are_not_kept() {
    let edges = Edges::new(Options { turn_ms: 60_000, wait_ms_max: 50, answer_bytes_max: 4, ..Options::default() });
    let (one, other) = (edges.edge(), edges.edge());
    let held = turn(one.find("c".to_owned()).await);
    let impatient = turn(other.find("c".to_owned()).await);
    assert!(is_held(&held) && !is_held(&impatient));
    other.hand_in(impatient, Some(vec![0; 5])).await;
    one.hand_in(held, Some(vec![0; 5])).await;
    let again = turn(one.find("c".to_owned()).await);
    assert!(is_held(&again), "nothing was kept, and the turn was given back");
    one.hand_in(again, Some(vec![7; 4])).await;
    assert_eq!(other.find("c".to_owned()).await, Found::Answer(vec![7; 4]));
}

#[tokio::test]
async fn deployments_see_nothing_of_one_another() {
    let (edges, others) = (Edges::new(Options::default()), Edges::new(Options::default()));
    let (one, other) = (edges.edge(), others.edge());
    one.hand_in(turn(one.find("d".to_owned()).await), Some(vec![1])).await;
    assert!(is_held(&turn(other.find("d".to_owned()).await)));
}

#[tokio::test]
async fn requests_of_an_address_are_counted_across_edges_until_the_window_ends() {
    let edges = Edges::new(Options::default());
    let (one, other) = (edges.edge(), edges.edge());
    let (address, another) = ("10.0.0.1".parse().unwrap(), "2001:db8::1".parse().unwrap());
    for requests in 1..=6 {
        let edge = if requests % 2 == 0 { &one } else { &other };
        let counted = edge.count(address, WINDOW).await.unwrap();
        assert_eq!(counted.requests, requests);
        assert!(counted.left > Duration::from_secs(1) && counted.left <= WINDOW, "the window is not begun anew: {counted:?}");
    }
    assert_eq!(one.count(another, Duration::from_millis(50)).await.unwrap().requests, 1);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(one.count(another, WINDOW).await.unwrap().requests, 1, "the window has ended");
}

#[tokio::test]
async fn without_redis_everyone_computes_and_counts_alone_and_waits_once() {
    let options = Options { url: "redis://127.0.0.1:1".to_owned(), retry_ms: 3_600_000, ..Options::default() };
    let edge = Share::new(options, "").unwrap();
    let alone = turn(edge.find("e".to_owned()).await);
    assert!(!is_held(&alone));
    edge.hand_in(alone, Some(vec![1])).await;
    assert_eq!(edge.count("10.0.0.1".parse().unwrap(), WINDOW).await, None);
    // Whoever does not answer at all costs one wait too.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}", silent.local_addr().unwrap());
    let edge = Share::new(Options { url, timeout_ms: 200, retry_ms: 3_600_000, ..Options::default() }, "").unwrap();
    assert!(!is_held(&turn(edge.find("e".to_owned()).await)));
    let begun = Instant::now();
    for _ in 0..1_000 {
        assert_eq!(edge.count("10.0.0.1".parse().unwrap(), WINDOW).await, None);
    }
    assert!(begun.elapsed() < Duration::from_secs(100), "it was asked each time");
}

#[test]
fn a_setting_that_is_none_is_named() {
    let told = |options| Share::new(options, "").err().unwrap().to_string();
    let no_url = told(Options { url: "localhost".to_owned(), ..Options::default() });
    assert!(no_url.starts_with("redis.url: ") && no_url.ends_with("write redis://HOST:PORT"), "{no_url}");
    let no_file = told(Options { url: "redis://localhost".to_owned(), password_file: "/none".to_owned(), ..Options::default() });
    assert!(no_file.starts_with("redis.password_file: /none: "), "{no_file}");
}
