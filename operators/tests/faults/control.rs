//! Race control's words, and what they tell of the session and the track.

use pitwall_engine::Micros;
use pitwall_schemas::facts::{EstimatedLap, MessageKind, RaceControlMessage, SessionState, Status, TrackStatus};

use crate::support::{Derived, derive};

fn at(text: &str) -> Micros {
    text.parse().unwrap()
}

/// What was said of the session, each once in a row, with its start.
fn sessions(derived: &Derived) -> Vec<(SessionState, Option<Micros>)> {
    let mut said: Vec<_> = derived.facts::<TrackStatus>().iter().map(|(_, fact)| (fact.session, fact.started_at)).collect();
    said.dedup();
    said
}

#[test]
fn every_message_of_a_restart_is_read_and_the_order_for_it_names_every_car() {
    let facts = derive("15-sprint-red-flag-and-order-for-restart").facts::<RaceControlMessage>();
    let kinds: Vec<_> = facts.iter().map(|(_, fact)| fact.kind).collect();
    assert_eq!(
        kinds,
        [
            MessageKind::Resumption,
            MessageKind::OrderForRestart,
            MessageKind::InvestigatedAfterwards,
            MessageKind::SafetyCarLights,
            MessageKind::Flag,
            MessageKind::RollingStartProcedure,
            MessageKind::SessionStatus,
            MessageKind::RollingStart,
            MessageKind::DrsEnabled,
        ]
    );
    assert_eq!(facts.last().unwrap().1.unknown_messages, 0);
    assert_eq!(facts[1].1.driver_numbers, [4, 12, 63, 1, 14, 16, 44, 18, 10, 23, 6, 5, 30, 31, 87, 22, 55, 27]);
}

#[test]
fn a_resumption_that_a_late_join_sees_is_not_the_start() {
    let derived = derive("15-sprint-red-flag-and-order-for-restart");
    assert_eq!(sessions(&derived), [(SessionState::Aborted, None), (SessionState::Started, None)]);
    let resumed = derived.facts::<TrackStatus>().into_iter().find(|(_, fact)| fact.session == SessionState::Started).unwrap();
    assert_eq!((resumed.0.event_time, resumed.1.lap_number), (at("2025-11-08T14:35:00.174+00:00"), Some(8)));
    assert!(derived.facts::<EstimatedLap>().is_empty());
}

#[test]
fn race_controls_count_of_laps_tells_that_a_late_joins_lap_numbers_are_one_behind() {
    let facts = derive("15-sprint-red-flag-and-order-for-restart").facts::<TrackStatus>();
    let (header, last) = facts.last().unwrap();
    assert_eq!((last.lap_numbers_behind, header.event_time), (Some(1), at("2025-11-08T14:38:33.041+00:00")));
}

#[test]
fn a_rolling_start_is_behind_the_safety_car_until_the_leader_crosses_the_line() {
    let facts = derive("15-sprint-red-flag-and-order-for-restart").facts::<TrackStatus>();
    let statuses: Vec<_> = facts.iter().map(|(header, fact)| (fact.status, fact.is_ending, header.event_time)).collect();
    assert!(statuses.contains(&(Status::SafetyCar, true, at("2025-11-08T14:35:41+00:00"))));
    assert!(statuses.contains(&(Status::Clear, false, at("2025-11-08T14:37:19.463+00:00"))));
}

#[test]
fn no_further_action_closes_the_incident_whatever_the_order_of_its_cars_and_without_its_reason() {
    let facts = derive("r17-no-further-action-in-other-words").facts::<RaceControlMessage>();
    let open: Vec<_> = facts.iter().map(|(_, fact)| fact.open_investigations).collect();
    assert_eq!(open, [0, 1, 0, 1, 0]);
}

#[test]
fn lap_1_tells_when_a_race_without_session_status_started() {
    let derived = derive("s28-race-without-session-status");
    let start = at("2025-03-16T04:18:00+00:00");
    let expected = [SessionState::Started, SessionState::Finished].map(|session| (session, Some(start)));
    assert_eq!(sessions(&derived), expected);
    let (header, started) = &derived.facts::<TrackStatus>()[0];
    assert_eq!((header.event_time, started.lap_number, started.message.as_deref()), (start, Some(1), None));
}

#[test]
fn a_race_that_is_not_resumed_has_finished_and_tells_when_the_red_flag_was_shown() {
    let derived = derive("r09-red-flag-not-resumed");
    let start = Some(at("2025-11-30T14:00:00+00:00"));
    let expected = [SessionState::Started, SessionState::Aborted, SessionState::Finished].map(|session| (session, start));
    assert_eq!(sessions(&derived), expected);
    let facts = derived.facts::<TrackStatus>();
    let red = facts.iter().find(|(_, fact)| fact.status == Status::Red).unwrap();
    assert_eq!((red.0.event_time, red.1.lap_number), (at("2025-11-30T14:08:33+00:00"), Some(7)));
    let (finished, _) = facts.iter().find(|(_, fact)| fact.session == SessionState::Finished).unwrap();
    assert_eq!(finished.event_time, at("2025-11-30T14:38:33+00:00"), "it is told that the race will not be resumed");
    assert!(facts.last().unwrap().1.is_over);
}

#[test]
fn a_qualifying_whose_third_segment_is_not_held_is_over() {
    let derived = derive("r16-third-segment-never-held");
    let facts = derived.facts::<TrackStatus>();
    let (header, last) = facts.last().unwrap();
    assert_eq!((last.session, last.is_over, last.qualifying_phase), (SessionState::Finished, true, Some(2)));
    assert_eq!(header.event_time, at("2025-11-29T14:40:00+00:00"), "race control says that it is not started");
    assert!(facts[..facts.len() - 1].iter().all(|(_, fact)| !fact.is_over), "not with a segment");
    assert_eq!(derived.facts::<RaceControlMessage>().last().unwrap().1.unknown_messages, 0);
}

#[test]
fn all_words_of_the_sessions_on_which_something_was_wrong_are_known() {
    for name in ["r04-disqualified-from-qualifying", "r06-safety-car-through-the-pit-lane", "s09-two-time-penalties-one-served"] {
        let facts = derive(name).facts::<RaceControlMessage>();
        assert!(facts.iter().all(|(_, fact)| fact.kind != MessageKind::Unknown), "{name}");
    }
}
