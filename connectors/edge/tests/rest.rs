//! REST's rules, each over a real socket.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking, in their helpers too")]

mod support;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pitwall_edge::replay::{Replay, ReplayControl};
use pitwall_schemas::facts::{Completeness, Subject};
use serde_json::json;
use support::{Feeder, SESSION, Server, clock, options};

const BASE: &str = "/api/v1/sessions/9920";

/// Four laps by two cars, a commit each: car 4 leads.
fn race() -> Feeder {
    let mut feeder = Feeder::new(options());
    feeder.commit().fact(&clock(0)).done();
    for lap in 1..=4 {
        feeder.commit().fact(&clock(lap)).fact(&support::lap(4, lap)).done();
        feeder.lap(81, lap);
    }
    feeder
}

fn laps(answer: &support::Answer) -> Vec<(i64, i64)> {
    let rows = answer.json()["rows"].as_array().unwrap().clone();
    rows.iter().map(|row| (row["driver_number"].as_i64().unwrap(), row["lap_number"].as_i64().unwrap())).collect()
}

#[tokio::test]
async fn a_session_tells_where_it_stands_by_number_and_as_latest() {
    let server = Server::start(&race()).await;
    for name in ["9920", "latest"] {
        let session = server.get(&format!("/api/v1/sessions/{name}")).await.json();
        assert_eq!((&session["session"], &session["seq"], &session["laps_completed"]), (&json!(SESSION), &json!(8), &json!(4)));
        assert_eq!((&session["state"], &session["replay"], &session["facts"]), (&json!("LIVE"), &json!(null), &json!(13)));
    }
    assert_eq!(server.get("/api/v1/sessions").await.json()["sessions"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn the_latest_session_is_the_one_latest_by_its_own_time_unless_it_was_called_off() {
    let of_session = |is_missing| Completeness {
        subject: Subject::Session,
        driver_number: 0,
        lap_number: 0,
        is_missing,
        count: 0,
        is_reconstructed: false,
    };
    let mut feeder = race();
    let server = Server::start(&feeder).await;
    feeder.session_key = 9_999;
    feeder.commit().fact(&of_session(true)).done();
    assert_eq!(server.get("/api/v1/sessions/latest").await.json()["session"], json!(SESSION), "9999 was called off");
    feeder.commit().fact(&of_session(false)).done();
    assert_eq!(server.get("/api/v1/sessions/latest").await.json()["session"], json!(9_999), "it is held after all");
    let later = feeder.next_seq;
    (feeder.session_key, feeder.next_seq) = (SESSION, 9);
    feeder.commit().fact(&support::lap(4, 5)).done();
    assert_eq!(server.get("/api/v1/sessions/latest").await.json()["session"], json!(9_999), "whichever session this process heard of last");
    assert!(later > 9);
}

#[tokio::test]
async fn rows_are_chosen_by_car_and_lap() {
    let server = Server::start(&race()).await;
    let chosen = server.get(&format!("{BASE}/laps?driver=81&from=2&to=3")).await;
    assert_eq!(laps(&chosen), [(81, 2), (81, 3)]);
    assert_eq!(laps(&server.get(&format!("{BASE}/laps?driver=4&driver=81")).await).len(), 8);
    let refused = server.get(&format!("{BASE}/positions?from=1")).await;
    assert_eq!(refused.status, 400, "{}", refused.body);
}

#[tokio::test]
async fn a_moment_shows_what_was_known_then_however_it_is_written() {
    let server = Server::start(&race()).await;
    // Record 3 is the leader's completion of lap 2, three seconds after the start.
    for moment in ["seq:3", "lap:2", "%2B0:00:03", "+0:00:03", "2025-08-31T13:00:03Z", "2025-08-31T15:00:03.9%2B02:00"] {
        let answer = server.get(&format!("{BASE}/laps?as_of={moment}")).await;
        assert_eq!(answer.status, 200, "{moment}: {}", answer.body);
        assert_eq!((answer.json()["seq"].as_u64(), laps(&answer)), (Some(3), vec![(4, 1), (4, 2), (81, 1)]), "{moment}");
    }
    for moment in ["3", "lap:5", "seq:9", "2025-08-31T12:59:00Z", "yesterday"] {
        assert_eq!(server.get(&format!("{BASE}/laps?as_of={moment}")).await.status, 400, "{moment}");
    }
}

#[tokio::test]
async fn what_was_taken_back_is_in_the_history_and_stands_nowhere_else() {
    let mut feeder = race();
    // Fact 5 is lap 2 of car 4: clock and lap of the leader, then the other car's lap, thrice.
    feeder.commit().withdrawn(&support::lap(4, 2), 5).done();
    let server = Server::start(&feeder).await;
    for (query, numbers) in [("", vec![1, 3, 4]), ("&as_of=seq:9", vec![1, 3, 4]), ("&as_of=seq:8", vec![1, 2, 3, 4])] {
        let answer = server.get(&format!("{BASE}/laps?driver=4{query}")).await;
        assert_eq!(laps(&answer), numbers.into_iter().map(|lap| (4, lap)).collect::<Vec<_>>(), "{query}: {}", answer.body);
    }
    let history = server.get(&format!("{BASE}/laps?driver=4&history=true")).await.json();
    let last = history["rows"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((&last["lap_number"], &last["withdrawn"], &last["known_at_quality"]), (&json!(2), &json!(true), &json!("RECEIVED")));
}

#[tokio::test]
async fn every_channel_that_a_session_names_answers_now_at_a_moment_and_with_its_history() {
    let server = Server::start(&race()).await;
    let session = server.get(BASE).await.json();
    let channels = session["channels"].as_array().unwrap();
    assert_eq!(channels.len(), pitwall_edge::channel::Channel::all().count());
    for channel in channels {
        let name = channel["channel"].as_str().unwrap();
        for query in ["", "?as_of=seq:3", "?as_of=lap:2&epoch=0", "?history=true", "?history=true&as_of=seq:3"] {
            let answer = server.get(&format!("{BASE}/{name}{query}")).await;
            assert_eq!((answer.status, &answer.json()["channel"]), (200, &channel["channel"]), "{name}{query}: {}", answer.body);
        }
    }
}

#[tokio::test]
async fn a_channels_rows_are_told_apart_by_the_key_that_the_session_names() {
    let server = Server::start(&race()).await;
    let session = server.get(BASE).await.json();
    let key_of = |name: &str| {
        let channel = session["channels"].as_array().unwrap().iter().find(|channel| channel["channel"] == name).unwrap();
        channel["key"].as_array().unwrap().iter().map(|field| field.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    for (name, rows, facts) in [("laps", 8, 8), ("race_clock", 1, 5)] {
        let key = key_of(name);
        let keys = |answer: support::Answer| {
            let rows = answer.json()["rows"].as_array().unwrap().clone();
            let mut keys: Vec<_> = rows.iter().map(|row| key.iter().map(|field| row[field].to_string()).collect::<Vec<_>>()).collect();
            let told = keys.len();
            keys.sort();
            keys.dedup();
            (told, keys.len())
        };
        assert_eq!(keys(server.get(&format!("{BASE}/{name}")).await), (rows, rows), "{name}");
        assert_eq!(keys(server.get(&format!("{BASE}/{name}?history=true")).await), (facts, rows), "{name}");
    }
}

#[tokio::test]
async fn history_pages_through_every_fact_once() {
    let server = Server::start(&race()).await;
    let (mut after, mut seen) = (String::new(), Vec::new());
    loop {
        let page = server.get(&format!("{BASE}/laps?history=true&limit=3{after}")).await;
        seen.extend(laps(&page));
        let Some(next) = page.json()["next_after"].as_u64() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(seen, [(4, 1), (81, 1), (4, 2), (81, 2), (4, 3), (81, 3), (4, 4), (81, 4)]);
}

#[tokio::test]
async fn an_answer_is_immutable_only_when_epoch_and_record_are_pinned() {
    let server = Server::start(&race()).await;
    for (query, is_immutable) in [("epoch=0&as_of=seq:3", true), ("as_of=seq:3", false), ("epoch=0&as_of=lap:2", false), ("epoch=0", false)]
    {
        let answer = server.get(&format!("{BASE}/laps?{query}")).await;
        assert_eq!(answer.header("cache-control").unwrap().contains("immutable"), is_immutable, "{query}");
    }
    let answer = server.get(&format!("{BASE}/laps")).await;
    assert_eq!(answer.header("etag"), Some("\"0:8\""));
    let again = server.request("GET", &format!("{BASE}/laps"), "If-None-Match: \"0:8\"\r\n", "").await;
    assert_eq!((again.status, again.body.as_str()), (304, ""));
}

#[tokio::test]
async fn a_fact_is_explained_by_its_raw_samples_and_a_ledger_is_verified() {
    let server = Server::start(&race()).await;
    let explained = server.get(&format!("{BASE}/facts/9920-0-2")).await.json();
    assert_eq!(explained["fact"]["fact_id"], "9920-0-2");
    let cause = &explained["causes"][0];
    assert_eq!(
        (&cause["kind"], &cause["collection"], &cause["document"]["driver_number"]),
        (&json!("SAMPLE"), &json!("position"), &json!(4))
    );
    for (fact, status) in [("9920-0-99", 404), ("1-0-2", 404), ("2", 400)] {
        assert_eq!(server.get(&format!("{BASE}/facts/{fact}")).await.status, status, "{fact}");
    }
    assert_eq!(server.get(&format!("{BASE}/verify")).await.json()["holds"], true);
}

#[tokio::test]
async fn errors_are_problems_that_say_what_to_do() {
    let server = Server::start(&race()).await;
    for (method, target, status) in [
        ("GET", "/api/v1/sessions/1", 404),
        ("GET", "/api/v1/sessions/nonsense", 404),
        ("GET", "/api/v1/sessions/9920/nonsense", 404),
        ("GET", "/api/v1/nonsense", 404),
        ("GET", "/api/v1/sessions/9920/laps?drivers=4", 400),
        ("GET", "/api/v1/sessions/9920/laps?limit=3", 400),
        ("GET", "/api/v1/sessions/9920/laps?history=true&limit=1000000", 400),
        ("GET", "/api/v1/sessions/9920/laps?epoch=1", 404),
        ("GET", "/api/v1/sessions/9920/%zz", 400),
        ("POST", "/api/v1/sessions/9920/laps", 405),
        ("DELETE", "/healthz", 405),
        ("GET", "/ws", 426),
        ("GET", "/nothing.js", 404),
    ] {
        let answer = server.request(method, target, "", "").await;
        assert_eq!(answer.status, status, "{method} {target}: {}", answer.body);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{target}");
        assert!(!answer.json()["detail"].as_str().unwrap().is_empty());
    }
}

#[tokio::test]
async fn long_heads_and_long_bodies_are_refused() {
    let feeder = race();
    feeder.hub.set_replay(SESSION, Some(Arc::new(Steered::default())));
    let server = Server::start(&feeder).await;
    let long = "x".repeat(20_000);
    assert!([431, 414].contains(&server.get(&format!("/{long}")).await.status));
    assert_eq!(server.request("GET", "/healthz", &format!("X-Long: {long}\r\n"), "").await.status, 431);
    let json = "Content-Type: application/json\r\n";
    assert_eq!(server.request("POST", &format!("{BASE}/replay"), json, &long).await.status, 413);
}

#[derive(Default)]
struct Steered {
    speed: Mutex<f64>,
    paused: AtomicU64,
}

impl ReplayControl for Steered {
    fn status(&self) -> Replay {
        Replay { speed: *self.speed.lock().unwrap(), is_paused: self.paused.load(Ordering::SeqCst) == 1, samples: 10, ingested: 1 }
    }

    fn set_speed(&self, speed: f64) {
        *self.speed.lock().unwrap() = speed;
    }

    fn set_paused(&self, is_paused: bool) {
        self.paused.store(u64::from(is_paused), Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_replay_is_steered_and_nothing_else_is() {
    let feeder = race();
    let server = Server::start(&feeder).await;
    let target = format!("{BASE}/replay");
    let json = "Content-Type: application/json\r\n";
    let body = r#"{"speed":60.0,"is_paused":true}"#;
    assert_eq!(server.request("POST", &target, json, body).await.status, 409);
    feeder.hub.set_replay(SESSION, Some(Arc::new(Steered::default())));
    let steered = server.request("POST", &target, json, body).await.json();
    assert_eq!(steered, json!({"speed": 60.0, "is_paused": true, "samples": 10, "ingested": 1}));
    assert_eq!(server.get(BASE).await.json()["replay"], steered);
    for body in ["", "{}", "[]", r#"{"speed":0}"#, r#"{"speed":1e9}"#, r#"{"speed":"fast"}"#, r#"{"pause":true}"#] {
        assert_eq!(server.request("POST", &target, json, body).await.status, 400, "{body}");
    }
    assert_eq!(server.request("POST", &target, "", body).await.status, 415);
    for (origin, status) in [("https://evil.example", 403), ("null", 403), ("http://localhost:3000", 200)] {
        let headers = format!("{json}Origin: {origin}\r\n");
        assert_eq!(server.request("POST", &target, &headers, body).await.status, status, "{origin}");
    }
}

#[tokio::test]
async fn a_foreign_host_name_is_refused_unless_it_is_configured() {
    let server = Server::start(&race()).await;
    assert_eq!(server.request("GET", BASE, "Host: evil.example\r\n", "").await.status, 403);
    let feeder = Feeder::new(support::Options { hosts: vec!["wall.example".to_owned()], ..options() });
    let server = Server::start(&feeder).await;
    assert_eq!(server.request("GET", "/healthz", "Host: wall.example:80\r\n", "").await.status, 200);
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let feeder = race();
    let server = Server::start(&feeder).await;
    let other = Feeder::new(support::Options { listen: server.address, ..options() });
    let error = pitwall_edge::bind(other.hub.clone(), other.kept.clone()).await.err().unwrap();
    assert_eq!(
        error.to_string(),
        format!("{} is in use: stop what listens there, or choose another address with edge.listen", server.address)
    );
}

#[tokio::test]
async fn connections_beyond_the_bounds_are_refused() {
    let feeder = Feeder::new(support::Options { connections_max: 2, ..options() });
    let server = Server::start(&feeder).await;
    let _one = server.connect("/ws").await;
    let _two = server.connect("/ws").await;
    assert!(server.raw(b"").await.starts_with("HTTP/1.1 503 "));
    let feeder = Feeder::new(support::Options { connections_per_address_max: 1, ..options() });
    let server = Server::start(&feeder).await;
    let _one = server.connect("/ws").await;
    assert!(server.raw(b"").await.starts_with("HTTP/1.1 429 "));
}

#[tokio::test]
async fn requests_of_an_address_beyond_its_limit_are_refused_until_the_window_ends() {
    let feeder = Feeder::new(support::Options { requests_per_window_max: 2, request_window_ms: 1_000_000, ..options() });
    let server = Server::start(&feeder).await;
    for path in ["/", "/api/v1/sessions"] {
        assert_eq!(server.get(path).await.status, 200);
    }
    let refused = server.get("/api/v1/sessions").await;
    assert_eq!((refused.status, refused.header("content-type")), (429, Some("application/problem+json")));
    let retry_after: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=1_000).contains(&retry_after), "{retry_after}");
    assert_eq!(server.get("/healthz").await.status, 200, "whoever watches the server is never refused");
    let feeder = Feeder::new(support::Options { requests_per_window_max: 1, request_window_ms: 1, ..options() });
    let server = Server::start(&feeder).await;
    for _ in 0..3 {
        assert_eq!(server.get("/api/v1/sessions").await.status, 200, "a new window each time");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn readiness_waits_for_the_sessions_and_metrics_and_pages_are_served_with_a_strict_policy() {
    let feeder = race();
    let server = Server::start(&feeder).await;
    assert_eq!(server.get("/healthz").await.json(), json!({"status": "ok"}));
    assert_eq!(server.get("/readyz").await.json(), json!({"status": "ready"}));
    let metrics = server.get("/metrics").await;
    assert!(metrics.body.contains("pitwall_edge_requests_total"), "{}", metrics.body);
    assert!(metrics.header("content-security-policy").unwrap().starts_with("default-src 'self'"));
    let hub = pitwall_edge::Hub::new(options());
    let bound = pitwall_edge::bind(hub, feeder.kept.clone()).await.unwrap();
    let server = Server::of(bound);
    let answer = server.get("/readyz").await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    assert_eq!(server.get(BASE).await.status, 503, "unknown only because it is not restored yet");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn looks_at_the_past_are_computed_once_kept_and_refused_when_too_many_run() {
    let feeder = race();
    let server = Arc::new(Server::start(&feeder).await);
    *feeder.kept.slowness.lock().unwrap() = Duration::from_millis(400);
    let ask = |seq: u64| {
        let server = server.clone();
        tokio::spawn(async move { server.get(&format!("{BASE}/laps?as_of=seq:{seq}")).await })
    };
    let before = feeder.kept.looks_back.load(Ordering::SeqCst);
    let same: Vec<_> = (0..8).map(|_| ask(3)).collect();
    for answer in same {
        assert_eq!(answer.await.unwrap().status, 200);
    }
    assert_eq!(ask(3).await.unwrap().status, 200);
    assert_eq!(feeder.kept.looks_back.load(Ordering::SeqCst) - before, 1, "nine answers, one look");
    let mut statuses = Vec::new();
    for answer in [4, 5, 6, 7].map(ask) {
        let answer = answer.await.unwrap();
        assert_eq!(answer.status == 503, answer.header("retry-after").is_some());
        statuses.push(answer.status);
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 503, 503]);
}

#[tokio::test]
async fn a_session_found_in_the_log_is_shown_as_it_stood_and_goes_on() {
    let mut feeder = race();
    let hub = pitwall_edge::Hub::new(options());
    let head = pitwall_engine::log::Head {
        epoch: 0,
        last_seq: feeder.next_seq - 1,
        known_at: support::known_at(feeder.next_seq - 1),
        next_ingest_seq: 0,
        graph_hash: Default::default(),
        next_fact_seq: 13,
        facts_hash: Default::default(),
        state: pitwall_engine::log::SessionState::Live,
    };
    hub.open(SESSION, &head, &*feeder.kept).unwrap();
    hub.set_ready();
    feeder.hub = hub;
    let server = Server::start(&feeder).await;
    assert_eq!(laps(&server.get(&format!("{BASE}/laps")).await).len(), 8);
    assert_eq!(server.get(BASE).await.json()["laps_completed"], 4);
    let mut client = server.connect("/ws/laps/9920?epoch=0&seq=6").await;
    assert_eq!(client.hear().await["type"], "recovered");
    assert_eq!(client.hear().await["rows"].as_array().unwrap().len(), 2, "records 7 and 8 come from the log");
    feeder.lap(4, 5);
    assert_eq!(client.hear().await["prev"], 8);
}
