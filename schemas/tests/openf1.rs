//! OpenF1's JSON as it really is: quirks are read, one odd field is null or no reading, and what makes a document what it is refuses it
//! with a reason that names the field.
//!
//! Documents come from recorded sessions (`tests/data/openf1_samples.jsonl`) and, for collections that are published after a session,
//! from OpenF1's documentation. Single quirks start from a small good document and change one field.

use std::collections::BTreeSet;

use pitwall_schemas::codec::{Reader, Reading};
use pitwall_schemas::event::Carries;
use pitwall_schemas::raw::{self, Collection, Sample};
use pitwall_schemas::time::Micros;
use serde_json::{Map, Value, json};

const SAMPLES: &str = include_str!("data/openf1_samples.jsonl");

fn object(document: Value) -> Map<String, Value> {
    let Value::Object(document) = document else { panic!("{document} is not an object") };
    document
}

fn read(collection: Collection, document: &Value) -> Result<Sample, String> {
    Sample::from_json(collection, &object(document.clone())).map_err(|refusal| refusal.to_string())
}

/// What a document is read as, and the reasons of its odd fields.
fn read_noting(collection: Collection, document: &Value) -> (Result<Sample, String>, Vec<String>) {
    let mut odd = Vec::new();
    let sample = Sample::from_json_noting(collection, &object(document.clone()), &mut |refusal| odd.push(refusal.to_string()));
    (sample.map_err(|refusal| refusal.to_string()), odd)
}

/// `document` with some fields set, and those set to `"missing"` taken away.
fn with(document: &Value, changes: &Value) -> Value {
    let mut changed = object(document.clone());
    for (field, value) in object(changes.clone()) {
        if value == "missing" {
            changed.remove(&field);
        } else {
            changed.insert(field, value);
        }
    }
    changed.into()
}

/// Defines a reader of one collection that starts from a good document.
macro_rules! collection {
    ($name:ident, $variant:ident, $document:tt) => {
        fn $name(changes: Value) -> Result<raw::$variant, String> {
            let collection = Collection::named(stringify!($name)).expect("a collection of that name");
            let sample = read(collection, &with(&json!($document), &changes))?;
            Ok(Carries::<raw::$variant>::get(&sample).expect("its own collection").clone())
        }
    };
}

collection!(car_data, CarData, {"meeting_key": 1267, "session_key": 9920, "driver_number": 4, "date": "2025-08-31T13:03:21.220000+00:00",
    "rpm": 9691, "speed": 285, "n_gear": 7, "throttle": 99, "brake": 0, "drs": 12, "_id": 1_756_645_402_232_i64});
collection!(location, Location, {"meeting_key": 1267, "session_key": 9920, "driver_number": 1, "date": "2025-08-31T13:03:22.453000+00:00",
    "x": 583, "y": -3960, "z": 537});
collection!(intervals, Interval, {"meeting_key": 1267, "session_key": 9920, "driver_number": 30, "date": "2025-08-31T13:04:45+00:00",
    "gap_to_leader": 4.908, "interval": 0.493});
collection!(laps, Lap, {"meeting_key": 1267, "session_key": 9920, "driver_number": 81, "lap_number": 2,
    "date_start": "2025-08-31T13:04:40.692000+00:00", "i1_speed": 285, "is_pit_out_lap": true, "segments_sector_1": [2048, null, 2051]});
collection!(session_result, SessionResult, {"meeting_key": 1267, "session_key": 9920, "driver_number": 81, "position": 1,
    "number_of_laps": 72, "dnf": false, "dns": false, "dsq": false, "duration": 5909.849, "gap_to_leader": 0, "points": 25.0});
collection!(meetings, Meeting, {"meeting_key": 1267, "session_key": 9920, "meeting_name": "Dutch Grand Prix",
    "meeting_official_name": "FORMULA 1 HEINEKEN DUTCH GRAND PRIX 2025", "location": "Zandvoort", "country_key": 133,
    "country_code": "NED", "country_name": "Netherlands", "circuit_key": 55, "circuit_short_name": "Zandvoort",
    "date_start": "2025-08-29T10:30:00+00:00", "gmt_offset": "02:00:00", "year": 2025});
collection!(sessions, Session, {"meeting_key": 1267, "session_key": 9920, "session_name": "Race", "session_type": "Race",
    "circuit_key": 55, "date_start": "2025-08-31T13:00:00+00:00", "date_end": "2025-08-31T15:00:00+00:00", "gmt_offset": "02:00:00",
    "year": 2025, "is_cancelled": false});
collection!(starting_grid, StartingGrid, {"meeting_key": 1267, "session_key": 9920, "driver_number": 81, "position": 1,
    "lap_duration": 68.662});
collection!(championship_drivers, ChampionshipDriver, {"meeting_key": 1267, "session_key": 9920, "driver_number": 81,
    "position_start": 1, "position_current": 1, "points_start": 284, "points_current": 309.0});
collection!(championship_teams, ChampionshipTeam, {"meeting_key": 1267, "session_key": 9920, "team_name": "McLaren",
    "position_start": 1, "position_current": 1, "points_start": 559, "points_current": 584});
collection!(weather, Weather, {"meeting_key": 1267, "session_key": 9920, "date": "2025-08-31T13:03:45.432000+00:00",
    "air_temperature": 20.6, "rainfall": 0, "wind_direction": 296});
collection!(race_control, RaceControl, {"meeting_key": 1267, "session_key": 9920, "date": "2025-08-31T13:03:45+00:00"});
collection!(drivers, Driver, {"meeting_key": 1267, "session_key": 9920, "driver_number": 1, "name_acronym": "VER"});

fn refused<T: std::fmt::Debug>(document: Result<T, String>) -> String {
    document.expect_err("it is refused")
}

/// A date or a number in OpenF1's writing and in ours is the same.
fn normal(value: &Value) -> Value {
    match value {
        Value::Number(number) => number.as_f64().into(),
        Value::String(text) => text.parse::<Micros>().map_or_else(|_| value.clone(), |time| time.to_string().into()),
        Value::Array(items) => items.iter().map(normal).collect(),
        other => other.clone(),
    }
}

#[test]
fn every_recorded_document_is_read_field_by_field_and_reads_back_from_avro() {
    let mut met = BTreeSet::new();
    for line in SAMPLES.lines() {
        let line: Value = serde_json::from_str(line).expect("a line is JSON");
        let collection = line["collection"].as_str().and_then(Collection::named).expect("a line names a collection");
        met.insert(collection);
        let sample = read(collection, &line["doc"]).unwrap_or_else(|refusal| panic!("{refusal}: {line}"));

        let fields = object(serde_json::to_value(&sample).expect("a sample is JSON"));
        for (field, value) in object(line["doc"].clone()) {
            let ours = match field.as_str() {
                "_key" => continue,
                "_id" => &fields["id"],
                known => &fields[known],
            };
            assert_eq!(normal(ours), normal(&value), "{field}: {line}");
        }

        let mut bytes = Vec::new();
        sample.encode(&mut bytes);
        let mut reader = Reader::new(&bytes);
        assert_eq!(Sample::decode(collection, &mut reader), Ok(sample), "{line}");
        assert!(reader.is_empty());
    }

    let published_afterwards = [
        session_result(json!({})).map(|_| Collection::SessionResult),
        meetings(json!({})).map(|_| Collection::Meetings),
        sessions(json!({})).map(|_| Collection::Sessions),
        starting_grid(json!({})).map(|_| Collection::StartingGrid),
        championship_drivers(json!({})).map(|_| Collection::ChampionshipDrivers),
        championship_teams(json!({})).map(|_| Collection::ChampionshipTeams),
    ];
    met.extend(published_afterwards.map(|read| read.expect("a good document")));
    let all: BTreeSet<Collection> = Collection::ALL.iter().copied().collect();
    assert_eq!(met, all, "every collection has a document here");
}

#[test]
fn recorded_documents_hold_the_quirks_they_were_chosen_for() {
    let has = |text: &str| SAMPLES.lines().any(|line| line.contains(text));
    for quirk in [
        r#""throttle":104"#,
        r#""brake":104"#,
        r#""x":0,"y":0,"z":0"#,
        r#""+1 LAP""#,
        r#":45+00:00""#,
        r#"[null,2064"#,
        r#""i1_speed":278.0"#,
        r#""i1_speed":240,"#,
        r#""compound":null"#,
        r#""date_start":null"#,
    ] {
        assert!(has(quirk), "{quirk}");
    }
}

#[test]
fn dates_come_with_and_without_fraction_and_offset() {
    let at = |date: &str| car_data(json!({"date": date})).map(|sample| sample.date.0);
    assert_eq!(at("2025-08-31T13:03:21.220000+00:00"), Ok(1_756_645_401_220_000));
    assert_eq!(at("2025-08-31T13:03:21+00:00"), Ok(1_756_645_401_000_000));
    assert_eq!(at("2025-08-31T13:03:21.22"), Ok(1_756_645_401_220_000));
    assert_eq!(at("2025-08-31T13:03:21"), Ok(1_756_645_401_000_000));
}

#[test]
fn no_reading_is_a_value_and_not_an_error() {
    let sample = car_data(json!({"throttle": 104, "brake": 104})).expect("104 means no reading");
    assert_eq!((sample.throttle, sample.brake), (pitwall_schemas::openf1::NO_READING, pitwall_schemas::openf1::NO_READING));
    let sample = location(json!({"x": 0, "y": 0, "z": 0})).expect("the origin means no reading");
    assert_eq!((sample.x, sample.y, sample.z), (0, 0, 0));
}

#[test]
fn drs_may_be_null_or_missing() {
    assert_eq!(car_data(json!({})).map(|sample| sample.drs), Ok(Some(12)));
    assert_eq!(car_data(json!({"drs": null})).map(|sample| sample.drs), Ok(None));
    assert_eq!(car_data(json!({"drs": "missing"})).map(|sample| sample.drs), Ok(None));
}

#[test]
fn a_gap_is_a_number_a_text_null_or_missing() {
    let gap = |value: Value| intervals(json!({"gap_to_leader": value})).map(|sample| sample.gap_to_leader);
    assert_eq!(gap(json!(4.908)), Ok(Reading::Number(4.908)));
    assert_eq!(gap(json!(5)), Ok(Reading::Number(5.0)));
    assert_eq!(gap(json!("+1 LAP")), Ok(Reading::Text("+1 LAP".into())));
    assert_eq!(gap(json!(null)), Ok(Reading::Missing));
    assert_eq!(gap(json!("missing")), Ok(Reading::Missing));
    assert_eq!(gap(json!(true)), Ok(Reading::Missing), "one odd field does not cost the document");
    assert_eq!(gap(json!([1.0])), Ok(Reading::Missing));
}

#[test]
fn fields_we_do_not_know_are_ignored() {
    let known = car_data(json!({})).expect("a good document");
    assert_eq!(car_data(json!({"_key": "1756645401220_4", "tyre_pressure": {"front": [1, 2]}, "id": "theirs"})), Ok(known));
}

#[test]
fn whole_numbers_may_be_written_as_floats_and_floats_as_whole_numbers() {
    assert_eq!(car_data(json!({"speed": 285.0})).map(|sample| sample.speed), Ok(285));
    assert_eq!(laps(json!({"i1_speed": 346})).map(|lap| lap.i1_speed), Ok(Some(346.0)));
    assert_eq!(laps(json!({"i1_speed": 285.0})).map(|lap| lap.i1_speed), Ok(Some(285.0)));
    assert_eq!(weather(json!({"wind_direction": 296})).map(|weather| weather.wind_direction), Ok(Some(296.0)));
    assert_eq!(car_data(json!({"speed": 285.5})).map(|sample| sample.speed_reading()), Ok(None));
}

#[test]
fn a_lap_is_no_pit_out_lap_unless_it_says_so() {
    for (value, expected) in [(json!(true), true), (json!(false), false), (json!(null), false), (json!("missing"), false)] {
        assert_eq!(laps(json!({"is_pit_out_lap": value})).map(|lap| lap.is_pit_out_lap), Ok(expected), "{value}");
    }
    assert_eq!(laps(json!({"is_pit_out_lap": 1})).map(|lap| lap.is_pit_out_lap), Ok(false), "what is neither says nothing");
}

#[test]
fn a_mini_sector_may_have_no_code() {
    assert_eq!(laps(json!({})).map(|lap| lap.segments_sector_1), Ok(Some(vec![Some(2048), None, Some(2051)])));
    assert_eq!(laps(json!({"segments_sector_1": []})).map(|lap| lap.segments_sector_1), Ok(Some(vec![])));
    assert_eq!(laps(json!({"segments_sector_1": null})).map(|lap| lap.segments_sector_1), Ok(None));
    assert_eq!(laps(json!({"segments_sector_1": [2048, "purple"]})).map(|lap| lap.segments_sector_1), Ok(None));
}

#[test]
fn a_result_has_one_duration_in_a_race_and_one_a_segment_in_qualifying() {
    let result = |duration: Value, gap: Value| {
        session_result(json!({"duration": duration, "gap_to_leader": gap})).map(|result| (result.duration, result.gap_to_leader))
    };
    assert_eq!(result(json!(5909.849), json!("+1 LAP")), Ok((Some(vec![Some(5909.849)]), Some(vec![Reading::Text("+1 LAP".into())]))));
    assert_eq!(
        result(json!([69.9, 69.3, null]), json!([0, 0.3, null])),
        Ok((Some(vec![Some(69.9), Some(69.3), None]), Some(vec![Reading::Number(0.0), Reading::Number(0.3), Reading::Missing])))
    );
    assert_eq!(result(json!(null), json!("missing")), Ok((None, None)));
    let gap = Some(vec![Reading::Number(0.0)]);
    assert_eq!(result(json!("an hour"), json!(0)), Ok((None, gap.clone())), "one odd field does not cost the document");
    assert_eq!(result(json!([69.9, "an hour"]), json!(0)), Ok((None, gap)));
}

#[test]
fn a_meeting_is_filed_under_the_session_it_arrived_in() {
    assert_eq!(meetings(json!({})).map(|meeting| (meeting.session_key, meeting.date_end, meeting.year)), Ok((9920, None, Some(2025))));
    assert_eq!(refused(meetings(json!({"session_key": "missing"}))), "field `session_key` is missing");
}

#[test]
fn of_the_fields_that_may_be_null_a_document_needs_none() {
    assert_eq!(race_control(json!({})).map(|message| (message.message, message.driver_number, message.id)), Ok((None, None, None)));
    assert_eq!(drivers(json!({"name_acronym": "missing"})).map(|driver| driver.name_acronym), Ok(None));
    assert_eq!(car_data(json!({})).map(|sample| sample.id), Ok(Some(1_756_645_402_232)));
}

#[test]
fn a_field_that_must_be_there_is_named_when_it_is_missing_or_null() {
    for value in ["missing".into(), Value::Null] {
        for field in ["meeting_key", "session_key", "driver_number", "date"] {
            let mut changes = Map::new();
            changes.insert(field.into(), value.clone());
            assert_eq!(refused(car_data(changes.into())), format!("field `{field}` is missing"));
        }
    }
}

#[test]
fn a_value_outside_its_range_is_named_with_the_range() {
    let cases = [
        (json!({"driver_number": 0}), "field `driver_number` is 0, outside 1 to 99"),
        (json!({"driver_number": 100}), "field `driver_number` is 100, outside 1 to 99"),
        (json!({"session_key": 0}), "field `session_key` is 0, outside 1 to 2147483647"),
    ];
    for (changes, reason) in cases {
        assert_eq!(refused(car_data(changes)), reason);
    }
    for (changes, at_the_edge) in [(json!({"driver_number": 1}), 1), (json!({"driver_number": 99}), 99)] {
        assert_eq!(car_data(changes).map(|sample| sample.driver_number), Ok(at_the_edge));
    }
    assert_eq!(refused(laps(json!({"lap_number": 201}))), "field `lap_number` is 201, outside 0 to 200");
}

#[test]
fn a_field_that_may_be_null_and_is_out_of_range_is_null_and_the_document_stays() {
    assert_eq!(laps(json!({"lap_duration": -0.001})).map(|lap| (lap.lap_duration, lap.i1_speed)), Ok((None, Some(285.0))));
    assert_eq!(laps(json!({"i1_speed": 500.5})).map(|lap| lap.i1_speed), Ok(None));
    assert_eq!(race_control(json!({"driver_number": 100})).map(|message| message.driver_number), Ok(None));
}

#[test]
fn a_channel_of_a_sample_is_kept_as_sent_and_is_no_reading_out_of_its_range() {
    let readings = |changes: Value| {
        let sample = car_data(changes).expect("one channel does not cost the sample");
        let dynamics = [sample.rpm_reading(), sample.speed_reading(), sample.n_gear_reading()];
        (dynamics, [sample.throttle_reading(), sample.brake_reading(), sample.drs_reading()])
    };
    let (dynamics, pedals) = ([Some(9_691), Some(285), Some(7)], [Some(99), Some(0), Some(12)]);
    assert_eq!(readings(json!({})), (dynamics, pedals));
    for gear in [json!(9), json!(17), json!(128), json!(-1), json!(null), json!("missing"), json!("7"), json!(7.5), json!(1e300)] {
        assert_eq!(readings(json!({"n_gear": gear})), ([Some(9_691), Some(285), None], pedals), "{gear}");
    }
    assert_eq!(readings(json!({"rpm": 30_001, "speed": 501})), ([None, None, Some(7)], pedals));
    assert_eq!(readings(json!({"throttle": 101, "brake": 104, "drs": 15})), (dynamics, [None, None, None]));
    assert_eq!(car_data(json!({"n_gear": 128})).map(|sample| sample.n_gear), Ok(128));
    let place = location(json!({"z": 10_000_001, "y": null})).expect("one coordinate does not cost the sample");
    assert_eq!((place.x_reading(), place.y_reading(), place.z_reading()), (Some(583), None, None));
}

#[test]
fn who_reads_is_told_of_every_odd_field() {
    let document = json!({"meeting_key": 1267, "session_key": 9920, "driver_number": 81, "lap_number": 2, "lap_duration": "1:12.271",
        "st_speed": 501, "duration_sector_1": 25.1, "_id": "new"});
    let (sample, odd) = read_noting(Collection::Laps, &document);
    let Ok(Sample::Laps(lap)) = sample else { panic!("{sample:?}") };
    assert_eq!((lap.lap_duration, lap.st_speed, lap.duration_sector_1, lap.id), (None, None, Some(25.1), None));
    assert_eq!(
        odd,
        [
            r#"field `lap_duration` must be a number, not "1:12.271""#,
            r#"field `_id` must be a whole number, not "new""#,
            "field `st_speed` is 501, outside 0 to 500",
        ]
    );
    let (sample, odd) = read_noting(Collection::Location, &json!({"meeting_key": 1, "session_key": 1, "driver_number": 1, "x": [1]}));
    assert_eq!((sample, odd), (Err("field `date` is missing".into()), vec![]));
}

#[test]
fn a_number_where_a_text_is_due_is_read_as_text() {
    assert_eq!(drivers(json!({"name_acronym": 33})).map(|driver| driver.name_acronym), Ok(Some("33".into())));
    assert_eq!(drivers(json!({"name_acronym": true})).map(|driver| driver.name_acronym), Ok(None));
}

/// Programs that guess types take six hex digits for a number when there is no letter among them, or an `E` alone.
#[test]
fn a_colour_that_was_taken_for_a_number_is_found_again() {
    let colour = |value: Value| drivers(json!({"team_colour": value})).map(|driver| driver.team_colour);
    for (value, digits) in [
        (json!("3671C6"), "3671C6"),
        (json!(229_971), "229971"),
        (json!(1_234), "001234"),
        (json!(0), "000000"),
        (json!(5.2e253), "52E252"),
        (json!(1.234e9), "1234E6"),
    ] {
        assert_eq!(colour(value.clone()), Ok(Some(digits.into())), "{value}");
    }
    // 52E100 and 520E99 are one number, as are 065E02 and 65E002.
    for none in [json!(null), json!(1_000_000), json!(-1), json!(0.5), json!(-5.2e253), json!([1]), json!(5.2e101), json!(6.5e3)] {
        assert_eq!(colour(none.clone()), Ok(None), "{none}");
    }
}

#[test]
fn a_value_of_another_type_is_named_with_what_was_expected_and_what_stood_there() {
    let cases = [
        (json!({"driver_number": "4"}), r#"field `driver_number` must be a whole number of 32 bits, not "4""#),
        (json!({"driver_number": [4]}), "field `driver_number` must be a whole number of 32 bits, not [4]"),
        (json!({"driver_number": true}), "field `driver_number` must be a whole number of 32 bits, not true"),
        (json!({"driver_number": 4.5}), "field `driver_number` must be a whole number of 32 bits, not 4.5"),
        (json!({"date": 1_756_645_401}), "field `date` must be an ISO 8601 date and time, not 1756645401"),
        (json!({"date": "yesterday"}), r#"field `date` must be an ISO 8601 date and time, not "yesterday""#),
        (json!({"date": "2025-08-31"}), r#"field `date` must be an ISO 8601 date and time, not "2025-08-31""#),
        (json!({"date": "2025-02-30T13:03:21"}), r#"field `date` must be an ISO 8601 date and time, not "2025-02-30T13:03:21""#),
    ];
    for (changes, reason) in cases {
        assert_eq!(refused(car_data(changes)), reason);
    }
}

#[test]
fn a_number_that_does_not_fit_is_refused_and_never_cut() {
    let meeting = |key: Value| refused(car_data(json!({"meeting_key": key})));
    assert_eq!(meeting(json!(2_147_483_648_i64)), "field `meeting_key` must be a whole number of 32 bits, not 2147483648");
    assert_eq!(meeting(json!(u64::MAX)), "field `meeting_key` must be a whole number of 32 bits, not 18446744073709551615");
    assert_eq!(meeting(json!(1e300)), "field `meeting_key` must be a whole number of 32 bits, not 1e+300");
    let id = |id: Value| car_data(json!({"_id": id})).map(|sample| sample.id);
    assert_eq!(id(json!(u64::MAX)), Ok(None));
    assert_eq!(id(json!(i64::MAX)), Ok(Some(i64::MAX)));
    // As a float it may have been 9007199254740993.
    assert_eq!(id(json!(9_007_199_254_740_992.0)), Ok(None));
    assert_eq!(id(json!(9_007_199_254_740_991.0)), Ok(Some(9_007_199_254_740_991)));
}

#[test]
fn a_long_value_is_shortened_in_the_reason() {
    let reason = refused(car_data(json!({"driver_number": "9".repeat(1000)})));
    assert_eq!(reason, format!(r#"field `driver_number` must be a whole number of 32 bits, not "{}"#, "9".repeat(63)));
}

#[test]
fn a_collection_is_found_by_its_openf1_name_only() {
    for &collection in Collection::ALL {
        assert_eq!(Collection::named(collection.name()), Some(collection));
    }
    for unknown in ["", "CarData", "car-data", "v1/car_data"] {
        assert_eq!(Collection::named(unknown), None, "{unknown}");
    }
}
