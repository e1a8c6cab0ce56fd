//! The dashboard in a real browser, against a running demo: what the tower and every panel show is what the API says at the same ledger
//! record, now and when looking back; a dropped connection is survived, and a browser that joins late sees the same.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "these tests wait for a browser")]

mod live;
mod race;

use std::collections::BTreeMap;
use std::ops::ControlFlow::Continue;
use std::path::Path;
use std::time::Instant;

use fantoccini::Client;
use live::browser::{Driver, eventually};
use live::proxy::Proxy;
use live::{DUTCH, Demo, PATIENCE};
use pitwall_archive::archive::ArchiveWriter;
use pitwall_schemas::raw::Sample;
use pitwall_schemas::time::Micros;
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

    assert_eq!(driver.errors(&browser).await, Vec::<String>::new(), "errors in the page");
    assert_eq!(driver.errors(&late).await, Vec::<String>::new(), "errors in the late page");
    browser.close().await.unwrap();
    late.close().await.unwrap();
}

/// One row of a panel: the fact it tells, and what its cells say, hidden words included.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    fact: String,
    text: String,
}

/// Reads the rows of a panel's table.
async fn lines(browser: &Client, table: &str) -> Vec<Line> {
    let script = "
        return [...document.querySelectorAll(arguments[0] + ' tbody tr')].map((row) => [
            row.dataset.fact ?? '', [...row.cells].map((cell) => cell.textContent.trim()).join(' | '),
        ]);";
    let read = browser.execute(script, vec![table.into()]).await.unwrap();
    let lines = read.as_array().unwrap().iter();
    lines.map(|line| Line { fact: line[0].as_str().unwrap().to_owned(), text: line[1].as_str().unwrap().to_owned() }).collect()
}

/// Opens the tab that a panel stands behind, once it is there; the panel must be there to be seen.
async fn open(browser: &Client, tab: &str) {
    let script = format!(
        "const tab = document.getElementById('{tab}');
        if (tab.hidden) return false;
        tab.click();
        return document.getElementById(tab.getAttribute('aria-controls')).getBoundingClientRect().height > 40;"
    );
    eventually(browser, &script, &Value::Bool(true)).await;
}

/// What a panel must say of one row of the API.
type Words = fn(&Value, &Names) -> Vec<String>;

/// Three letters of each car.
type Names = BTreeMap<i64, String>;

fn names(demo: &Demo) -> Names {
    let rows = demo.rows("drivers", "");
    rows.iter().map(|row| (row["driver_number"].as_i64().unwrap(), row["acronym"].as_str().unwrap().to_owned())).collect()
}

fn name(names: &Names, number: &Value) -> String {
    names[&number.as_i64().unwrap()].clone()
}

/// `18740` as panels write it: `18.7 s`.
fn seconds(milliseconds: &Value) -> String {
    milliseconds.as_i64().map_or_else(String::new, |ms| format!("{:.1} s", ms as f64 / 1_000.0))
}

/// `SAFETY_CAR` as panels write it: `Safety car`.
fn words(symbol: &Value) -> String {
    let text = symbol.as_str().unwrap_or_default().to_lowercase().replace('_', " ");
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// Panels whose rows are a channel's rows one by one: tab, table, channel, and what each row must say.
const PANELS: [(&str, &str, &str, Words); 11] = [
    ("tab-race-control", ".rows-race-control", "race_control", |row, _| vec![row["text"].as_str().unwrap().to_owned()]),
    ("tab-race-control", ".rows-events", "race_events", |row, names| {
        let mut said = vec![row["priority"].to_string()];
        // Race control's own words may name the cars otherwise.
        if row["text"].is_null() {
            said.extend(row["driver_numbers"].as_array().unwrap().first().map(|first| name(names, first)));
        }
        if row["kind"] == "FASTEST_LAP" {
            said.push(lap_time(&row["time_ms"]));
        }
        said
    }),
    ("tab-pit-stops", ".rows-pit-stops", "pit_stops", |row, names| {
        vec![format!("L{}", row["lap_number"]), name(names, &row["driver_number"]), seconds(&row["lane_ms"])]
    }),
    ("tab-overtakes", ".rows-overtakes", "overtakes", |row, names| {
        let cars = [&row["overtaking_driver_number"], &row["overtaken_driver_number"]].map(|number| name(names, number));
        vec![cars.join(" | "), format!("P{}", row["position"]), words(&row["cause"])]
    }),
    ("tab-battles", ".rows-battles", "battles", |row, names| {
        let cars = [&row["driver_number"], &row["driver_number_ahead"]].map(|number| name(names, number));
        let state = if row["phase"] == "ENDED" { words(&row["end"]) } else { "Goes on".to_owned() };
        vec![format!("P{}", row["position"]), cars.join(" | "), state]
    }),
    ("tab-battles", ".rows-undercuts", "undercuts", |row, names| {
        vec![words(&row["kind"]), name(names, &row["driver_number"]), words(&row["outcome"])]
    }),
    ("tab-classification", ".rows-classification", "classification", |row, names| {
        vec![
            row["position"].as_i64().map_or_else(|| "–".to_owned(), |place| place.to_string()),
            name(names, &row["driver_number"]),
            words(&row["status"]),
        ]
    }),
    ("tab-location", ".rows-position-checks", "position_check", |row, names| {
        let places = ["position", "estimated_position"].map(|place| format!("P{}", row[place]));
        vec![format!("L{}", row["lap_number"]), name(names, &row["driver_number"]), places.join(" | ")]
    }),
    ("tab-location", ".rows-estimated-laps", "estimated_laps", |row, names| {
        vec![
            format!("L{}", row["lap_number"]),
            name(names, &row["driver_number"]),
            lap_time(&row["lap_ms"]),
            format!("±{} ms", row["error_ms"]),
        ]
    }),
    ("tab-location", ".rows-pit-passes", "pit_passes", |row, names| {
        let stood = format!("~{} | ±{} ms", seconds(&row["stationary_ms"]), row["stationary_error_ms"]);
        vec![format!("L{}", row["lap_number"]), name(names, &row["driver_number"]), format!("~{}", seconds(&row["lane_ms"])), stood]
    }),
    ("tab-location", ".rows-line-crossings", "line_crossings", |row, names| {
        vec![name(names, &row["driver_number"]), row["crossed_at"].as_str().unwrap()[11..23].to_owned(), format!("{} km/h", row["speed"])]
    }),
];

/// Waits until a table tells exactly these rows of the API, each once, and holds its words against them. Answers how many there are.
async fn assert_told(browser: &Client, table: &str, rows: &[Value], names: &Names, expected: Words) -> usize {
    let mut facts: Vec<&str> = rows.iter().map(|row| row["fact_id"].as_str().unwrap()).collect();
    facts.sort_unstable();
    let begun = Instant::now();
    let shown = loop {
        let shown = lines(browser, table).await;
        let mut told: Vec<&str> = shown.iter().map(|line| line.fact.as_str()).collect();
        told.sort_unstable();
        if told == facts {
            break shown;
        }
        assert!(begun.elapsed() < PATIENCE, "{table} tells {told:?}, the API {facts:?}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    for row in rows {
        let line = shown.iter().find(|line| row["fact_id"] == line.fact.as_str()).unwrap();
        for text in expected(row, names) {
            assert!(line.text.contains(&text), "{table}: {:?} does not say {text:?} of {row}", line.text);
        }
    }
    rows.len()
}

/// Rows that a panel writes at most.
const ROWS_MAX: usize = 200;

/// What a panel writes of a channel's rows: those of the highest numbers.
fn newest(mut rows: Vec<Value>, number: &str) -> Vec<Value> {
    rows.sort_by_key(|row| std::cmp::Reverse(row[number].as_i64()));
    rows.truncate(ROWS_MAX);
    rows
}

/// Every panel of a race against the API, at a moment or now (`query`).
async fn assert_panels_equal_the_api(browser: &Client, demo: &Demo, query: &str) -> BTreeMap<&'static str, usize> {
    let names = names(demo);
    let mut told = BTreeMap::new();
    for (tab, table, channel, expected) in PANELS {
        open(browser, tab).await;
        let number = match channel {
            "race_control" => "message_number",
            "race_events" => "event_number",
            "overtakes" => "overtake_number",
            _ => "fact_seq",
        };
        let rows = newest(demo.rows(channel, query), number);
        told.insert(channel, assert_told(browser, table, &rows, &names, expected).await);
    }
    told.insert("stints", assert_stints_equal_the_api(browser, demo, query).await);
    told.insert("gaps", assert_gaps_equal_the_api(browser, demo, query, &names).await);
    told
}

async fn assert_stints_equal_the_api(browser: &Client, demo: &Demo, query: &str) -> usize {
    open(browser, "tab-stints").await;
    let begun = demo.rows("stints", query).into_iter().filter(|row| !row["lap_start"].is_null());
    let mut expected: Vec<String> = begun.map(|row| row["fact_id"].as_str().unwrap().to_owned()).collect();
    expected.sort_unstable();
    let script = "return [...document.querySelectorAll('.stint')].map((bar) => bar.dataset.fact).sort();";
    eventually(browser, script, &Value::from(expected.clone())).await;
    expected.len()
}

/// The gaps at the end of every fifth lap, as the chart's table has them, against gaps made of the API's laps.
async fn assert_gaps_equal_the_api(browser: &Client, demo: &Demo, query: &str, names: &Names) -> usize {
    open(browser, "tab-gaps").await;
    let laps = demo.rows("laps", query);
    let completed = demo.rows("race_clock", query)[0]["laps_completed"].as_i64().unwrap();
    let end_of = |lap: &Value| {
        let started_at: Micros = lap["started_at"].as_str()?.parse().ok()?;
        Some(started_at.0 + lap["lap_ms"].as_i64()? * 1_000)
    };
    let mut expected = BTreeMap::new();
    for number in (1..=completed).filter(|number| *number == 1 || number % 5 == 0) {
        let ends = laps.iter().filter(|lap| lap["lap_number"] == number);
        let ends: Vec<(i64, i64)> = ends.filter_map(|lap| Some((lap["driver_number"].as_i64()?, end_of(lap)?))).collect();
        let first = ends.iter().map(|(_, end)| *end).min().unwrap();
        for (driver, end) in ends {
            expected.insert(format!("{} {number}", names[&driver]), format!("{:.3}", ((end - first + 500) / 1_000) as f64 / 1_000.0));
        }
    }
    let script = "
        const [head, ...rows] = document.querySelectorAll('#chart-gaps table tr');
        if (!head) return null; // the chart is drawn with the page's next frame
        const laps = [...head.cells].slice(1).map((cell) => cell.textContent.replace('Lap ', ''));
        return Object.fromEntries(rows.flatMap((row) => [...row.cells].slice(1).map((cell, index) => [`${row.cells[0].textContent} ${laps[index]}`, cell.textContent]))
            .filter(([, gap]) => gap !== '–'));";
    eventually(browser, script, &serde_json::to_value(&expected).unwrap()).await;
    expected.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_panel_of_a_race_equals_the_api_now_and_looking_back() {
    let folder = tempfile::tempdir().unwrap();
    let demo = Demo::start(folder.path(), &["--speed", "600"]);
    demo.wait_for("lap 26, behind the safety car", |session| session["laps_completed"].as_i64() >= Some(26));
    demo.steer(r#"{"is_paused":true}"#);

    // The page opens now, so whatever it tells of before it was told to a page that comes late.
    let driver = Driver::start();
    let browser = driver.browser(1_280, 1_100).await;
    browser.goto(&demo.url).await.unwrap();
    let shown = tower_when(&browser, "twenty cars in the tower", |shown| shown.rows.len() == 20).await;
    let now = assert_panels_equal_the_api(&browser, &demo, "").await;
    // The feed's order and the crossings first differ on lap 52.
    for (channel, rows) in now.iter().filter(|(channel, _)| **channel != "position_check") {
        assert!(*rows > 0, "nothing is told of {channel}: {now:?}");
    }
    eventually(&browser, "return document.querySelector('#weather').textContent.includes('°C');", &Value::Bool(true)).await;

    // The evidence of a row is the raw samples behind it.
    open(&browser, "tab-pit-stops").await;
    let fact = lines(&browser, ".rows-pit-stops").await[0].fact.clone();
    browser.execute("document.querySelector('.rows-pit-stops .why').click();", Vec::new()).await.unwrap();
    let causes = demo.get(&format!("/api/v1/sessions/{DUTCH}/facts/{fact}"))["causes"].as_array().unwrap().len();
    assert!(causes > 0);
    eventually(&browser, "return document.querySelectorAll('#evidence[open] li code').length;", &Value::from(causes)).await;
    browser.execute("document.querySelector('#evidence [data-part=close]').click();", Vec::new()).await.unwrap();

    // Looking back, every panel and chart shows the past, and nothing moves there.
    look_back(&browser, 12).await;
    let past = tower_when(&browser, "the tower of lap 12", |past| past.seq < shown.seq && past.rows.len() == 20).await;
    assert_equals_the_api(&demo, &past);
    let then = assert_panels_equal_the_api(&browser, &demo, &format!("?as_of=seq:{}", past.seq)).await;
    assert!(then["race_events"] < now["race_events"] && then["stints"] < now["stints"], "then {then:?}, now {now:?}");
    eventually(&browser, "return document.querySelectorAll('tr.rise, tr.fall').length;", &Value::from(0)).await;

    browser.execute("document.getElementById('past-live').click();", Vec::new()).await.unwrap();
    tower_when(&browser, "the tower of now", |live| live.seq == shown.seq).await;
    assert_eq!(assert_panels_equal_the_api(&browser, &demo, "").await, now);
    assert_eq!(driver.errors(&browser).await, Vec::<String>::new(), "errors in the page");
    browser.close().await.unwrap();
}

/// Moves the scrubber as a hand does.
async fn look_back(browser: &Client, to: i64) {
    let script = "
        const scrubber = document.getElementById('scrubber');
        scrubber.value = String(arguments[0]);
        scrubber.dispatchEvent(new Event('input', { bubbles: true }));";
    browser.execute(script, vec![to.into()]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn mini_sectors_classification_and_radio_of_a_qualifying_equal_the_api() {
    let folder = tempfile::tempdir().unwrap();
    let demo = Demo::start_qualifying(folder.path(), &["--speed", "600"]);
    demo.wait_for("the middle of the second segment", |session| {
        let rows = demo.rows("track_status", "");
        session["seq"].as_i64() > Some(450_000) && rows.first().is_some_and(|row| row["qualifying_phase"] == 2)
    });
    demo.steer(r#"{"is_paused":true}"#);
    let driver = Driver::start();
    let browser = driver.browser(1_280, 1_100).await;
    browser.goto(&demo.url).await.unwrap();
    tower_when(&browser, "twenty cars in the tower", |shown| shown.rows.len() == 20).await;

    // The newest lap with mini-sectors of each car: codes in the panel and in the tower.
    let mut newest = BTreeMap::new();
    for lap in demo.rows("laps", "") {
        let codes: Vec<Value> = (1..=3).flat_map(|sector| lap[format!("segments_{sector}")].as_array().unwrap().clone()).collect();
        if codes.iter().any(|code| code.as_i64() != Some(0)) {
            let number = lap["lap_number"].as_i64().unwrap();
            let kept = newest.entry(lap["driver_number"].to_string()).or_insert((0, Vec::new()));
            if number >= kept.0 {
                *kept = (number, codes);
            }
        }
    }
    let expected: BTreeMap<String, Vec<Value>> = newest.into_iter().map(|(driver, (_, codes))| (driver, codes)).collect();
    assert_eq!(expected.len(), 20);
    let expected = serde_json::to_value(&expected).unwrap();
    open(&browser, "tab-mini-sectors").await;
    for (rows, driver) in [(".rows-mini-sectors tbody tr", "id"), ("#tower-rows tr", "driver")] {
        let script = format!(
            "return Object.fromEntries([...document.querySelectorAll('{rows}')].map((row) => [row.dataset.{driver},
                [...row.querySelectorAll('.segment')].map((block) => Number(/segment-(\\d+)/.exec(block.className)[1]))]));"
        );
        eventually(&browser, &script, &expected).await;
    }

    let names = names(&demo);
    open(&browser, "tab-classification").await;
    let rows = demo.rows("classification", "");
    let times: Words =
        |row, names| vec![name(names, &row["driver_number"]), lap_time(&row["segment_1_ms"]), lap_time(&row["segment_2_ms"])];
    assert!(assert_told(&browser, ".rows-classification-qualifying", &rows, &names, times).await == 20);
    let radio = demo.rows("team_radio", "");
    assert!(!radio.is_empty());
    open(&browser, "tab-radio").await;
    assert_told(&browser, ".rows-team-radio", &radio, &names, |row, names| vec![name(names, &row["driver_number"])]).await;
    let mut links: Vec<String> = radio.iter().map(|row| row["recording_url"].as_str().unwrap().to_owned()).collect();
    links.sort_unstable();
    eventually(
        &browser,
        "return [...document.querySelectorAll('.rows-team-radio a')].map((link) => link.href).sort();",
        &Value::from(links),
    )
    .await;
    eventually(&browser, "return document.getElementById('lap').textContent;", &Value::from("Q2")).await;
    eventually(&browser, "return document.querySelectorAll('#tower-rows tr.cut').length;", &Value::from(1)).await;
    assert_eq!(driver.errors(&browser).await, Vec::<String>::new(), "errors in the page");
    browser.close().await.unwrap();
}

/// The Dutch race without telemetry, with what was published before and after it: the bundled stream holds no grid, standings or result.
fn write_race_with_what_was_published(path: &Path) {
    let mut archive = race::dutch();
    let mut writer = ArchiveWriter::create(path, DUTCH, archive.quality()).unwrap();
    let mut before = [race::official::starting_grid(), race::official::standings_before()].concat();
    let mut last = Micros(0);
    race::for_each(&mut archive, |_, raw| {
        for document in before.drain(..) {
            writer.append(raw.received_at, &document).unwrap();
        }
        last = raw.received_at;
        let sample = raw.event.unwrap();
        if !matches!(sample, Sample::CarData(_) | Sample::Location(_)) {
            writer.append(last, &sample).unwrap();
        }
        Continue(())
    });
    for (minutes, document) in (1..).zip([race::official::penalties(last), race::official::session_result()].concat()) {
        writer.append(last.plus(minutes * 60_000_000), &document).unwrap();
    }
    writer.finish().unwrap();
}

/// The panels that the bundled sessions leave empty, against the API and against what was published: grid, official classification, standings.
#[tokio::test(flavor = "multi_thread")]
async fn starting_grid_official_classification_and_championship_are_those_published() {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("dutch_2025_race_with_what_was_published.avro");
    write_race_with_what_was_published(&archive);
    let demo = Demo::replay(&archive, DUTCH, &folder.path().join("data"), &["--speed", "inf"]);
    demo.wait_for("the official classification", |_| {
        demo.rows("classification", "").iter().filter(|row| row["basis"] == "OFFICIAL").count() == 20
    });
    let driver = Driver::start();
    let browser = driver.browser(1_280, 1_100).await;
    browser.goto(&demo.url).await.unwrap();
    tower_when(&browser, "twenty cars in the tower", |shown| shown.rows.len() == 20).await;
    let mut names = names(&demo);
    // He drove before this race, and is not in its list of drivers.
    names.insert(7, "Car 7".to_owned());
    let told = |shown: Vec<Line>| shown.into_iter().map(|line| line.text).collect::<Vec<_>>();

    open(&browser, "tab-data").await;
    let grid_of: Words = |row, names| vec![format!("P{}", row["position"]), name(names, &row["driver_number"]), lap_time(&row["lap_ms"])];
    assert_eq!(assert_told(&browser, ".rows-grid", &demo.rows("starting_grid", ""), &names, grid_of).await, 20);
    let expected: Vec<String> = race::official::grid()
        .into_iter()
        .map(|(car, place, lap)| {
            let lap = lap.map_or_else(|| "–".to_owned(), |lap| lap_time(&Value::from((lap * 1_000.0).round() as i64)));
            let qualified = match car {
                18 => "– | –".to_owned(),
                87 => "P19 | 1".to_owned(),
                _ => format!("P{place} | 0"),
            };
            format!("P{place} | {} | {qualified} | {lap}", names[&i64::from(car)])
        })
        .collect();
    assert_eq!(told(lines(&browser, ".rows-grid").await), expected);

    open(&browser, "tab-classification").await;
    eventually(&browser, "return document.querySelectorAll('.rows-classification tbody tr').length;", &Value::from(20)).await;
    let shown = told(lines(&browser, ".rows-classification").await);
    let mut published = race::official::session_result().into_iter().map(|document| match document {
        Sample::SessionResult(line) => (line.driver_number, line.position, line.number_of_laps.unwrap(), line.points.unwrap()),
        other => panic!("{other:?} is no result"),
    });
    assert_eq!(shown.len(), 20);
    for (line, (car, place, laps, points)) in shown.iter().zip(published.by_ref()) {
        let place = place.map_or_else(|| "–".to_owned(), |place| place.to_string());
        let name = &names[&i64::from(car)];
        assert!(line.starts_with(&place) && line.contains(&format!(" | {place} | {name} | ")), "{line:?} is not {place} {name}");
        assert!(
            line.contains(&format!(" | {laps} | ")) && line.contains(&format!(" | {points} | ")),
            "{line:?}: {laps} laps, {points} points"
        );
    }
    let antonelli = shown.iter().find(|line| line.contains("ANT")).unwrap();
    assert!(antonelli.starts_with("16 | 16 | ANT | Finished | 6 | 72 | +15 s | 0 | "), "{antonelli:?}");
    eventually(&browser, "return document.querySelector('#panel-classification .chip strong').textContent;", &Value::from("official"))
        .await;

    let stand = |row: &Value| row["points_as_it_stands"].as_f64().unwrap();
    let standing_of: Words = |row, names| {
        let who =
            if row["driver_number"].is_null() { row["name"].as_str().unwrap().to_owned() } else { name(names, &row["driver_number"]) };
        vec![who, row["points_start"].as_f64().unwrap().to_string(), row["points_as_it_stands"].as_f64().unwrap().to_string()]
    };
    let rows = demo.rows("championship", "");
    assert_eq!(assert_told(&browser, ".rows-championship", &rows, &names, standing_of).await, 31);
    for (who, _, [_, after]) in race::official::standings() {
        assert!(rows.iter().any(|row| row["name"] == who.as_str() && (stand(row) - after).abs() < 1e-9), "{who}: {after} points");
    }
    assert_eq!(driver.errors(&browser).await, Vec::<String>::new(), "errors in the page");
    browser.close().await.unwrap();
}
