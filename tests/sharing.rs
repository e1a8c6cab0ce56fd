//! Edges that share on a real Redis server: what one has looked up the other need not, a limit holds across them, and while Redis is killed
//! or hangs both serve without it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "a test asks from several threads")]

mod deployment;

use std::path::Path;
use std::thread;

use deployment::service::Service;
use deployment::{Deployment, Process, wait_for};
use serde_json::Value;

const SILVERSTONE: i32 = 9_551;

fn laps_at(seq: u64) -> String {
    format!("/api/v1/sessions/latest/laps?as_of=seq:{seq}")
}

/// A metric with this label, 0 when there is none.
fn counted(edge: &Process, name: &str, label: &str) -> f64 {
    let text = edge.metrics();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(&format!("{{{label}}} "))?.parse().ok());
    value.unwrap_or(0.0)
}

fn looks(edges: &[Process], result: &str) -> f64 {
    edges.iter().map(|edge| counted(edge, "pitwall_edge_looks_back_total", &format!("result=\"{result}\""))).sum()
}

/// Status and `Retry-After` of an answer.
fn asked(edge: &Process, path: &str) -> (u16, Option<String>) {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let answer = agent.get(format!("{}{path}", edge.url())).call().unwrap();
    (answer.status().as_u16(), answer.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned()))
}

#[test]
fn edges_share_what_they_have_looked_up_and_their_limits_and_serve_without_redis() {
    let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/silverstone_2024_practice_1.avro");
    let mut redis = Some(Service::redis());
    let port = redis.as_ref().unwrap().port;
    let mut deployment = Deployment::new("sharing", 1);
    deployment.set("PITWALL_REDIS__URL", &format!("redis://127.0.0.1:{port}"));
    deployment.set("PITWALL_REDIS__RETRY_MS", "100");
    // Longer than a busy machine stands still.
    deployment.set("PITWALL_REDIS__TIMEOUT_MS", "2000");
    deployment.set("PITWALL_REDIS__WAIT_MS_MAX", "8000");
    let engine = deployment.start("engine");
    deployment.told(&["ingest", "archive", archive.to_str().unwrap()]);
    let edges = [deployment.start("edge"), deployment.start("edge")];
    for edge in &edges {
        edge.wait_until_ready();
        edge.wait_until_complete(SILVERSTONE);
    }
    let [one, other] = &edges;

    let looked_up = one.get(&laps_at(1_000)).unwrap();
    assert_eq!((looks(&edges, "computed"), looks(&edges, "shared")), (1.0, 0.0));
    assert_eq!(other.get(&laps_at(1_000)).unwrap(), looked_up);
    assert_eq!((looks(&edges, "computed"), looks(&edges, "shared")), (1.0, 1.0), "the second edge took the first one's");
    let at_once: Vec<Value> = thread::scope(|scope| {
        let asking: Vec<_> = (0..12).map(|number| scope.spawn(move || [one, other][number % 2].get(&laps_at(2_000)).unwrap())).collect();
        asking.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    assert!(at_once.iter().all(|answer| *answer == at_once[0]));
    assert_eq!(looks(&edges, "computed"), 2.0, "twelve who ask two edges at once, one look");

    // Killed, and later hanging: both look for themselves, and the metrics say why it takes longer.
    let (mut seq, available) = (3_000, "pitwall_redis_available");
    let mut check_alone = |what: &str| {
        seq += 100;
        let computed = looks(&edges, "computed");
        let alone = one.get(&laps_at(seq)).unwrap_or_else(|| panic!("{what}: it is answered"));
        assert_eq!(other.get(&laps_at(seq)).unwrap(), alone, "{what}");
        assert_eq!(looks(&edges, "computed"), computed + 2.0, "{what}");
        for edge in &edges {
            assert_eq!(edge.metric(available), Some(0.0), "{what}");
            assert_eq!(asked(edge, "/readyz").0, 200, "{what}: it is as ready as before");
        }
    };
    let server = redis.as_ref().unwrap();
    server.kill();
    check_alone("Redis is killed");
    server.up();
    // It goes on without a hand; nothing that was kept has to be there.
    let mut seq_again = 4_000;
    wait_for("they share again", || {
        seq_again += 1;
        let shared = looks(&edges, "shared");
        assert_eq!(one.get(&laps_at(seq_again)).unwrap(), other.get(&laps_at(seq_again)).unwrap());
        (looks(&edges, "shared") > shared).then_some(())
    });
    assert_eq!((one.metric(available), other.metric(available)), (Some(1.0), Some(1.0)));
    server.signal("STOP");
    check_alone("Redis hangs");
    server.signal("CONT");

    deployment.set("PITWALL_EDGE__REQUESTS_PER_WINDOW_MAX", "6");
    deployment.set("PITWALL_EDGE__REQUEST_WINDOW_MS", "600000");
    let limited = [deployment.start("edge"), deployment.start("edge")];
    for edge in &limited {
        wait_for("the edge answers whoever watches it", || (asked(edge, "/readyz").0 == 200).then_some(()));
    }
    let statuses: Vec<u16> = (0..8).map(|number| asked(&limited[number % 2], "/api/v1/sessions").0).collect();
    assert_eq!(statuses, [200, 200, 200, 200, 200, 200, 429, 429], "six across both");
    let (status, retry_after) = asked(&limited[0], "/api/v1/sessions");
    assert!(status == 429 && (1..=600).contains(&retry_after.unwrap().parse::<u64>().unwrap()));
    assert_eq!(asked(&limited[0], "/healthz").0, 200, "whoever watches it is never refused");
    drop(redis.take());
    for edge in &limited {
        let statuses: Vec<u16> = (0..7).map(|_| asked(edge, "/api/v1/sessions").0).collect();
        assert_eq!(statuses, [200, 200, 200, 200, 200, 200, 429], "each counts for itself while Redis is away");
    }
    for process in edges.into_iter().chain(limited).chain([engine]) {
        assert!(process.stop().success(), "a process that is told to stop ends well");
    }
}
