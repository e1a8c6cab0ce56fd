//! The dashboard in a real browser, against a running demo: what it shows is what the API says at the same ledger record, a dropped
//! connection is survived, and a browser that joins late sees the same.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "these tests wait for a browser")]

mod live;

use std::collections::BTreeMap;
use std::time::Instant;

use fantoccini::Client;
use live::browser::Driver;
use live::proxy::Proxy;
use live::{DUTCH, Demo, PATIENCE};
use serde_json::Value;

/// What the tower shows: its ledger record, and each car's cells by field, in the order of the rows.
#[derive(Debug, PartialEq)]
struct Tower {
    seq: i64,
    rows: Vec<(i64, BTreeMap<String, String>)>,
}

/// Reads the tower between two paints, so that its rows belong to one ledger record.
async fn tower(browser: &Client) -> Tower {
    let script = "
        const rows = [...document.querySelectorAll('tr[data-driver]')].map((row) => ({
            driver: Number(row.dataset.driver),
            cells: Object.fromEntries([...row.querySelectorAll('[data-field]')].map((cell) => [cell.dataset.field, cell.textContent.trim()])),
        }));
        return { seq: Number(document.documentElement.dataset.seq ?? -1), rows };";
    let read = browser.execute(script, Vec::new()).await.unwrap();
    let rows = read["rows"].as_array().unwrap().iter().map(|row| {
        let cells = row["cells"].as_object().unwrap().iter().map(|(field, text)| (field.clone(), text.as_str().unwrap().to_owned()));
        (row["driver"].as_i64().unwrap(), cells.collect())
    });
    Tower { seq: read["seq"].as_i64().unwrap(), rows: rows.collect() }
}

/// Waits until the tower is as `is_so` wants it.
async fn tower_when(browser: &Client, what: &str, is_so: impl Fn(&Tower) -> bool) -> Tower {
    let begun = Instant::now();
    loop {
        let shown = tower(browser).await;
        if is_so(&shown) {
            return shown;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}: not after {PATIENCE:?}; the tower shows {shown:?}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// `73456` as the tower writes it: `1:13.456`.
fn lap_time(milliseconds: &Value) -> String {
    milliseconds.as_i64().map_or_else(String::new, |ms| format!("{}:{:02}.{:03}", ms / 60_000, ms / 1_000 % 60, ms % 1_000))
}

/// Compares the tower with the API's rows at the tower's own ledger record.
fn assert_equals_the_api(demo: &Demo, shown: &Tower) {
    let answer = demo.get(&format!("/api/v1/sessions/{DUTCH}/timing?as_of=seq:{}", shown.seq));
    let mut rows = answer["rows"].as_array().unwrap().clone();
    rows.sort_by_key(|row| row["position"].as_i64().unwrap_or(i64::MAX));
    let order: Vec<i64> = rows.iter().map(|row| row["driver_number"].as_i64().unwrap()).collect();
    assert_eq!(shown.rows.iter().map(|(driver, _)| *driver).collect::<Vec<_>>(), order, "order at seq {}", shown.seq);
    for (row, (driver, cells)) in rows.iter().zip(&shown.rows) {
        let expected = [
            ("position", row["position"].to_string()),
            ("driver", row["acronym"].as_str().unwrap().to_owned()),
            ("last_lap", lap_time(&row["last_lap_ms"])),
            ("best_lap", lap_time(&row["best_lap_ms"])),
            ("stops", row["stops"].to_string()),
        ];
        for (field, text) in expected {
            assert!(
                cells[field].contains(&text),
                "car {driver}, {field}, seq {}: shown {:?}, the API says {text:?}",
                shown.seq,
                cells[field]
            );
        }
    }
}

async fn errors_of(browser: &Client) -> Vec<String> {
    let script = "return window.pitwallErrors ?? [];";
    let errors = browser.execute(script, Vec::new()).await.unwrap();
    errors.as_array().unwrap().iter().map(ToString::to_string).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tower_equals_the_api_at_the_same_record_survives_a_dropped_socket_and_is_the_same_for_a_late_client() {
    let folder = tempfile::tempdir().unwrap();
    let demo = Demo::start(folder.path(), &["--speed", "60"]);
    let (proxy, driver) = (Proxy::before(&demo.url), Driver::start());
    let browser = driver.browser(1_280, 900).await;
    browser.goto(&proxy.url()).await.unwrap();

    // Live, while everything moves.
    tower_when(&browser, "twenty cars in the tower", |shown| shown.rows.len() == 20).await;
    demo.wait_for("a lap completed", |session| session["laps_completed"].as_i64() >= Some(3));
    for _ in 0..5 {
        let shown = tower_when(&browser, "a tower of some ledger record", |shown| shown.seq > 0 && shown.rows.len() == 20).await;
        assert_equals_the_api(&demo, &shown);
    }

    // The connection drops in the middle; what was missed is caught up.
    let before = tower(&browser).await;
    proxy.cut();
    let after = tower_when(&browser, "frames after the drop", |shown| shown.seq > before.seq + 5_000).await;
    assert_equals_the_api(&demo, &after);

    // A second browser joins late; with the replay paused both come to rest at the same record.
    let late = driver.browser(390, 844).await;
    late.goto(&demo.url).await.unwrap();
    demo.steer(r#"{"is_paused":true}"#);
    tower_when(&late, "twenty cars in the late tower", |shown| shown.rows.len() == 20).await;
    let begun = Instant::now();
    let (early, joined) = loop {
        let (early, joined) = (tower(&browser).await, tower(&late).await);
        if early.seq == joined.seq {
            break (early, joined);
        }
        assert!(begun.elapsed() < PATIENCE, "at rest the two stand at {} and {}", early.seq, joined.seq);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    assert_equals_the_api(&demo, &early);
    assert_eq!(early, joined);

    assert_eq!(errors_of(&browser).await, Vec::<String>::new(), "errors in the page");
    assert_eq!(errors_of(&late).await, Vec::<String>::new(), "errors in the late page");
    browser.close().await.unwrap();
    late.close().await.unwrap();
}
