//! The WebSocket's rules, each over a real socket.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking, in their helpers too")]

mod support;

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use support::{Feeder, SESSION, Server, clock, options, position_of};
use tokio_tungstenite::tungstenite::Message;

#[tokio::test]
async fn a_late_joiner_gets_every_keys_newest_row_and_then_the_frames() {
    let mut feeder = Feeder::new(options());
    feeder.position(4, 1);
    feeder.position(81, 2);
    let newest = feeder.position(4, 3);
    let server = Server::start(&feeder).await;
    let mut client = server.connect("/ws/positions/9920").await;
    let snapshot = client.hear().await;
    assert_eq!((&snapshot["type"], &snapshot["seq"], &snapshot["prev"]), (&json!("snapshot"), &json!(newest), &json!(null)));
    let places: Vec<_> = snapshot["rows"].as_array().unwrap().iter().map(|row| (&row["driver_number"], &row["position"])).collect();
    assert_eq!(places, [(&json!(4), &json!(3)), (&json!(81), &json!(2))]);
    let next = feeder.position(81, 1);
    let frame = client.hear().await;
    assert_eq!((&frame["type"], &frame["seq"], &frame["prev"]), (&json!("frame"), &json!(next), &json!(newest)));
    assert_eq!(frame["rows"][0]["fact_id"], "9920-0-3");
}

#[tokio::test]
async fn a_late_joiner_of_what_happened_is_told_all_that_happened_before_and_then_each_fact_once() {
    let mut feeder = Feeder::new(support::Options { ring_frames_max: 2, ..options() });
    for number in 1..=9 {
        feeder.commit().fact(&support::radio(4, number)).done();
    }
    let server = Server::start(&feeder).await;
    let mut client = server.connect("/ws/team_radio/9920").await;
    let snapshot = client.hear().await;
    let told = |message: &serde_json::Value| -> Vec<String> {
        message["rows"].as_array().unwrap().iter().map(|row| row["recording_url"].as_str().unwrap().to_owned()).collect()
    };
    let expected: Vec<String> = (1..=9).map(|number| format!("https://radio.example/{number}.mp3")).collect();
    assert_eq!((&snapshot["type"], told(&snapshot)), (&json!("snapshot"), expected));
    feeder.commit().fact(&support::radio(4, 10)).fact(&support::radio(81, 11)).done();
    let frame = client.hear().await;
    assert_eq!(told(&frame), ["https://radio.example/10.mp3", "https://radio.example/11.mp3"]);
}

#[tokio::test]
async fn a_frame_of_a_latest_wins_channel_holds_each_key_once_and_of_laps_every_fact() {
    let mut feeder = Feeder::new(options());
    let server = Server::start(&feeder).await;
    feeder.commit().done();
    let mut client = server.connect("/ws").await;
    for channel in ["positions", "laps"] {
        client.say(json!({"type": "subscribe", "channel": channel, "session": "latest"}).to_string()).await;
        assert_eq!(client.hear().await["session"], SESSION);
    }
    let position = |position| position_of(4, position);
    feeder.commit().fact(&position(2)).fact(&position(1)).fact(&support::lap(4, 1)).fact(&support::lap(4, 1)).done();
    for _ in 0..2 {
        let frame = client.hear().await;
        let expected = if frame["channel"] == "laps" { 2 } else { 1 };
        assert_eq!(frame["rows"].as_array().unwrap().len(), expected, "{frame}");
    }
}

#[tokio::test]
async fn resuming_inside_the_ring_misses_and_repeats_nothing() {
    let mut feeder = Feeder::new(options());
    for position in 1..=10 {
        feeder.position(4, position);
        feeder.lap(4, position);
    }
    let server = Server::start(&feeder).await;
    // Record 5 is a lap's: the channel's newest frame by then is record 4's.
    let mut client = server.connect("/ws/positions/9920?epoch=0&seq=5").await;
    let recovered = client.hear().await;
    assert_eq!((&recovered["type"], &recovered["seq"]), (&json!("recovered"), &json!(4)));
    let mut last = recovered["seq"].clone();
    for position in 4..=10 {
        let frame = client.hear().await;
        assert_eq!((&frame["prev"], &frame["rows"][0]["position"]), (&last, &json!(position)));
        last = frame["seq"].clone();
    }
}

#[tokio::test]
async fn resuming_outside_the_ring_gives_a_snapshot_of_what_is_latest() {
    let mut feeder = Feeder::new(support::Options { ring_frames_max: 3, ..options() });
    for position in 1..=10 {
        feeder.position(4, position);
    }
    let server = Server::start(&feeder).await;
    for target in ["/ws/positions/9920?epoch=0&seq=2", "/ws/positions/9920?epoch=1&seq=9", "/ws/positions/9920?epoch=0&seq=99"] {
        assert_eq!(server.connect(target).await.hear().await["type"], "snapshot", "{target}");
    }
    assert_eq!(server.connect("/ws/positions/9920?epoch=0&seq=6").await.hear().await["type"], "recovered");
}

#[tokio::test]
async fn laps_missed_outside_the_ring_come_from_the_log_each_once_and_in_order() {
    let mut feeder = Feeder::new(support::Options { ring_frames_max: 3, ..options() });
    for lap in 1..=20 {
        feeder.lap(4, lap);
    }
    let server = Server::start(&feeder).await;
    let mut client = server.connect("/ws/laps/9920?epoch=0&seq=4").await;
    let mut last = client.hear().await;
    assert_eq!((&last["type"], &last["seq"]), (&json!("recovered"), &json!(4)));
    let mut laps = Vec::new();
    while laps.len() < 15 {
        let frame = client.hear().await;
        assert_eq!((&frame["type"], &frame["prev"]), (&json!("frame"), &last["seq"]));
        laps.extend(laps_of(&frame));
        last = frame;
    }
    assert_eq!(laps, (6..=20).collect::<Vec<i64>>());
}

#[tokio::test]
async fn a_client_too_many_laps_behind_is_closed_with_1013() {
    let mut feeder = Feeder::new(support::Options { ring_frames_max: 3, catch_up_facts_max: 5, ..options() });
    for lap in 1..=20 {
        feeder.lap(4, lap);
    }
    let server = Server::start(&feeder).await;
    assert_eq!(server.connect("/ws/laps/9920?epoch=0&seq=4").await.close_code().await, 1013);
}

#[tokio::test]
async fn a_slow_client_skips_to_the_newest_full_frame_and_delays_nobody() {
    let mut feeder = Feeder::new(support::Options { ring_frames_max: 8, ..options() });
    feeder.position(4, 1);
    let server = Server::start(&feeder).await;
    let mut slow = server.connect("/ws/positions/9920").await;
    let mut quick = server.connect("/ws/positions/9920").await;
    assert_eq!(slow.hear().await["type"], "snapshot");
    assert_eq!(quick.hear().await["type"], "snapshot");
    // Far more than the sockets' buffers hold, while `slow` reads nothing.
    let cars: Vec<i32> = (1..=500).collect();
    for round in 0..400 {
        let mut commit = feeder.commit();
        for &driver_number in &cars {
            commit = commit.fact(&position_of(driver_number, round));
        }
        let seq = commit.done();
        while quick.hear().await["seq"] != seq {}
    }
    let newest = feeder.next_seq - 1;
    let mut has_jumped = false;
    loop {
        let frame = slow.hear().await;
        if frame["prev"].is_null() {
            has_jumped = true;
            assert_eq!(frame["rows"].as_array().unwrap().len(), cars.len(), "a frame without prev holds every key");
        }
        if frame["seq"] == newest {
            break;
        }
    }
    assert!(has_jumped);
}

#[tokio::test]
async fn a_client_that_reads_nothing_at_all_is_closed() {
    let mut feeder = Feeder::new(support::Options { write_timeout_ms: 100, ..options() });
    feeder.position(4, 1);
    let server = Server::start(&feeder).await;
    let mut client = server.connect("/ws/positions/9920").await;
    client.hear().await;
    for round in 0..400 {
        let mut commit = feeder.commit();
        for driver_number in 1..=500 {
            commit = commit.fact(&position_of(driver_number, round));
        }
        commit.done();
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    // What was on its way still arrives; the newest does not.
    let mut last = 0;
    while let Ok(frame) = client.next().await {
        last = frame["seq"].as_u64().unwrap();
    }
    assert!(last < feeder.next_seq - 1, "closed before the newest frame, not after it");
}

#[tokio::test]
async fn malformed_and_impossible_messages_are_answered_and_the_connection_stays() {
    let mut feeder = Feeder::new(options());
    feeder.position(4, 1);
    let server = Server::start(&feeder).await;
    let mut client = server.connect("/ws").await;
    for text in [
        "",
        "{",
        "[]",
        r#"{"type":"subscribe"}"#,
        r#"{"type":"subscribe","channel":"positions","session":true}"#,
        r#"{"type":"subscribe","channel":"positions","session":9920,"since":{"epoch":0,"seq":-1}}"#,
        r#"{"type":"subscribe","channel":"positions","session":9920,"as_of":"30"}"#,
        r#"{"type":"unsubscribe","channel":"positions","session":9920}"#,
    ] {
        client.say(text).await;
        let error = client.hear().await;
        assert_eq!((&error["type"], &error["status"]), (&json!("error"), &json!(400)), "{text}");
    }
    client.say(r#"{"type":"subscribe","channel":"positions","session":9920}"#).await;
    assert_eq!(client.hear().await["type"], "snapshot");
}

#[tokio::test]
async fn too_many_errors_close_with_1008() {
    let feeder = Feeder::new(support::Options { protocol_errors_max: 2, ..options() });
    let server = Server::start(&feeder).await;
    let mut client = server.connect("/ws").await;
    for _ in 0..3 {
        client.say("nonsense").await;
    }
    assert_eq!(client.close_code().await, 1008);
}

#[tokio::test]
async fn unknown_sessions_and_channels_close_with_4404_and_a_second_subscription_with_4409() {
    let mut feeder = Feeder::new(options());
    feeder.position(4, 1);
    let server = Server::start(&feeder).await;
    for target in ["/ws/positions/1", "/ws/nonsense/9920", "/ws/positions/nonsense"] {
        let mut client = server.connect(target).await;
        assert_eq!(client.hear().await["status"], 404, "{target}");
        assert_eq!(client.close_code().await, 4404, "{target}");
    }
    let mut client = server.connect("/ws/positions/9920").await;
    client.say(r#"{"type":"subscribe","channel":"positions","session":"latest"}"#).await;
    assert_eq!(client.close_code().await, 4409);
}

#[tokio::test]
async fn a_message_too_large_closes_with_1009_and_a_flood_of_pings_with_1008() {
    let feeder = Feeder::new(support::Options { messages_per_ping_max: 20, ..options() });
    let server = Server::start(&feeder).await;
    let mut client = server.connect("/ws").await;
    client.say("x".repeat(5_000)).await;
    assert_eq!(client.close_code().await, 1009);
    let mut client = server.connect("/ws").await;
    for _ in 0..30 {
        let _ = client.socket.send(Message::Ping(vec![1; 100].into())).await;
    }
    assert_eq!(client.close_code().await, 1008);
}

#[tokio::test]
async fn a_client_that_answers_no_ping_is_closed_and_one_that_does_stays() {
    let mut feeder = Feeder::new(support::Options { ping_interval_ms: 50, pong_timeout_ms: 2_000, ..options() });
    feeder.position(4, 1);
    let server = Server::start(&feeder).await;
    let mut client = server.connect("/ws/positions/9920").await;
    assert_eq!(client.hear().await["type"], "snapshot");
    // Reading answers pings.
    assert!(tokio::time::timeout(Duration::from_millis(300), client.socket.next()).await.is_ok_and(|message| message.unwrap().is_ok()));
    feeder.position(4, 2);
    assert_eq!(client.hear().await["type"], "frame");

    let feeder = Feeder::new(support::Options { ping_interval_ms: 50, pong_timeout_ms: 100, ..options() });
    let server = Server::start(&feeder).await;
    let client = server.connect("/ws").await;
    // Reads the socket itself, so nothing answers for it.
    let mut stream = client.socket.into_inner();
    let mut bytes = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut bytes).await.unwrap();
    let code = 1008_u16.to_be_bytes();
    assert!(bytes.windows(2).any(|pair| pair == code), "{bytes:?}");
}

#[tokio::test]
async fn a_server_that_stops_says_so_with_1001() {
    let mut feeder = Feeder::new(options());
    feeder.position(4, 1);
    let server = Server::start(&feeder).await;
    let mut client = server.connect("/ws/positions/9920").await;
    client.hear().await;
    let stopping = tokio::spawn(server.stop());
    assert_eq!(client.close_code().await, 1001);
    stopping.await.unwrap();
}

#[tokio::test]
async fn a_new_epoch_begins_every_channel_anew_with_a_snapshot() {
    let mut feeder = Feeder::new(options());
    feeder.position(4, 1);
    let server = Server::start(&feeder).await;
    let mut client = server.connect("/ws/positions/9920").await;
    client.hear().await;
    feeder.epoch = 1;
    feeder.position(81, 1);
    let snapshot = client.hear().await;
    assert_eq!((&snapshot["type"], &snapshot["epoch"]), (&json!("snapshot"), &json!(1)));
    assert_eq!(snapshot["rows"].as_array().unwrap().len(), 1, "nothing of the epoch before is left");
}

#[tokio::test]
async fn a_look_back_gives_one_snapshot_and_no_frames() {
    let mut feeder = Feeder::new(options());
    feeder.commit().fact(&clock(0)).done();
    feeder.position(4, 1);
    let lap_1 = feeder.commit().fact(&clock(1)).done();
    feeder.position(4, 2);
    let server = Server::start(&feeder).await;
    let mut client = server.connect("/ws/positions/9920?as_of=lap:1").await;
    let snapshot = client.hear().await;
    assert_eq!((&snapshot["type"], &snapshot["seq"], &snapshot["rows"][0]["position"]), (&json!("snapshot"), &json!(lap_1), &json!(1)));
    feeder.position(4, 3);
    client.say(r#"{"type":"subscribe","channel":"race_clock","session":9920}"#).await;
    assert_eq!(client.hear().await["channel"], "race_clock", "no frame came before the answer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_clients_each_get_every_frame_the_same_bytes() {
    const CLIENTS: usize = 1_000;
    const FRAMES: usize = 20;
    let mut feeder = Feeder::new(options());
    feeder.position(4, 0);
    let server = Server::start(&feeder).await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = server.connect("/ws/positions/9920").await;
        assert_eq!(client.hear().await["type"], "snapshot");
        clients.push(client);
    }
    let received = clients.into_iter().map(|mut client| {
        tokio::spawn(async move {
            let mut frames = Vec::new();
            while frames.len() < FRAMES {
                match client.socket.next().await.unwrap().unwrap() {
                    Message::Text(text) => frames.push(text.to_string()),
                    Message::Close(frame) => panic!("closed: {frame:?}"),
                    _ => {}
                }
            }
            frames
        })
    });
    let received: Vec<_> = received.collect();
    for position in 1..=FRAMES {
        feeder.position(4, position as i32);
    }
    let mut first = None;
    for frames in received {
        let frames = frames.await.unwrap();
        assert_eq!(first.get_or_insert_with(|| frames.clone()), &frames);
    }
    server.stop().await;
}

fn laps_of(message: &serde_json::Value) -> Vec<i64> {
    message["rows"].as_array().unwrap().iter().map(|row| row["lap_number"].as_i64().unwrap()).collect()
}

#[tokio::test]
async fn a_delayed_client_is_told_what_was_known_that_long_ago_each_fact_once() {
    let mut feeder = Feeder::new(support::Options { delayed_look_interval_ms: 1, ..options() });
    for lap in 1..=10 {
        feeder.lap(4, lap);
    }
    let server = Server::start(&feeder).await;
    let mut client = server.connect("/ws/laps/9920?delay_ms=3000").await;
    let snapshot = client.hear().await;
    assert_eq!((&snapshot["type"], &snapshot["seq"], laps_of(&snapshot)), (&json!("snapshot"), &json!(6), (1..=7).collect()));
    for lap in 11..=15 {
        feeder.lap(4, lap);
        let frame = client.hear().await;
        assert_eq!((&frame["type"], &frame["prev"], laps_of(&frame)), (&json!("frame"), &json!(lap - 5), vec![i64::from(lap) - 3]));
    }
}

#[tokio::test]
async fn a_delayed_table_comes_whole_when_it_changes_and_only_then() {
    let mut feeder = Feeder::new(support::Options { delayed_look_interval_ms: 1, ..options() });
    feeder.position(4, 1);
    let server = Server::start(&feeder).await;
    let mut client = server.connect("/ws").await;
    client.say(json!({"type": "subscribe", "channel": "positions", "session": "latest", "delay_ms": 2000}).to_string()).await;
    let snapshot = client.hear().await;
    assert_eq!((&snapshot["type"], &snapshot["rows"]), (&json!("snapshot"), &json!([])), "nothing is that old yet");
    feeder.position(81, 2);
    feeder.lap(4, 1);
    let frame = client.hear().await;
    assert_eq!((&frame["seq"], &frame["prev"], frame["rows"].as_array().unwrap().len()), (&json!(0), &json!(null), 1));
    feeder.lap(4, 2);
    let frame = client.hear().await;
    assert_eq!((&frame["seq"], frame["rows"].as_array().unwrap().len()), (&json!(1), 2));
    // The records after it, which change no place, are silent.
    feeder.lap(4, 3);
    feeder.position(4, 2);
    feeder.lap(4, 4);
    feeder.lap(4, 5);
    assert_eq!(client.hear().await["rows"][0]["position"], 2);
}

#[tokio::test]
async fn a_delay_out_of_bounds_beside_a_position_or_one_too_many_is_refused() {
    let mut feeder = Feeder::new(support::Options { delayed_max: 1, delay_ms_max: 60_000, ..options() });
    feeder.position(4, 1);
    let server = Server::start(&feeder).await;
    for target in ["delay_ms=-1", "delay_ms=60001", "delay_ms=1000&as_of=seq:0", "delay_ms=1000&epoch=0&seq=0"] {
        let refused = server.connect(&format!("/ws/positions/9920?{target}")).await.hear().await;
        assert_eq!((&refused["type"], &refused["status"]), (&json!("error"), &json!(400)), "{target}");
    }
    let mut first = server.connect("/ws/positions/9920?delay_ms=1000").await;
    assert_eq!(first.hear().await["type"], "snapshot");
    let mut second = server.connect("/ws/positions/9920?delay_ms=1000").await;
    assert_eq!(second.hear().await["status"], 503);
}
