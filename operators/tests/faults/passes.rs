//! Places taken and lost, and the events that tell of them.

use pitwall_schemas::facts::{EventKind, Overtake, OvertakeCause, RaceEvent, Undercut, UndercutKind, UndercutOutcome};

use crate::support::{Derived, derive};

/// Overtaking car, overtaken car, why, and whether Formula 1's award and Pirelli count it, of every swap as it stands.
fn swaps(derived: &Derived) -> Vec<(i32, i32, OvertakeCause, bool, bool)> {
    let swaps = derived.standing::<Overtake>().into_iter();
    let pair = |swap: &Overtake| (swap.overtaking_driver_number, swap.overtaken_driver_number);
    swaps.map(|(_, swap)| (pair(&swap).0, pair(&swap).1, swap.cause, swap.counts_f1_2021, swap.counts_pirelli)).collect()
}

/// Cars of every standing event of that kind.
fn events(derived: &Derived, kind: EventKind) -> Vec<Vec<i32>> {
    let events = derived.standing::<RaceEvent>().into_iter();
    events.filter(|(_, event)| event.kind == kind).map(|(_, event)| event.driver_numbers).collect()
}

#[test]
fn a_swap_is_the_pit_lanes_until_the_timing_loop_behind_its_exit() {
    let derived = derive("03-swap-six-seconds-after-the-pit-exit");
    let expected =
        [(81, 4, OvertakeCause::Pit, false, false), (63, 4, OvertakeCause::Pit, false, false), (4, 63, OvertakeCause::OnTrack, true, true)];
    assert_eq!(swaps(&derived), expected);
}

#[test]
fn the_event_of_an_overtake_is_withdrawn_when_it_was_a_retirement() {
    let derived = derive("09-overtake-event-never-withdrawn");
    let retirement = OvertakeCause::Retirement;
    assert_eq!(swaps(&derived), [(10, 14, retirement, false, false), (18, 14, retirement, false, false)]);
    assert!(events(&derived, EventKind::Overtake).is_empty());
    let told: Vec<_> = derived.facts::<RaceEvent>().into_iter().filter(|(_, event)| event.kind == EventKind::Overtake).collect();
    assert_eq!(told.iter().map(|(header, _)| header.withdrawn).collect::<Vec<_>>(), [false, true]);
    assert_eq!((told[1].0.supersedes, told[0].1.clone()), (Some(told[0].0.fact_seq), told[1].1.clone()));
    assert_eq!(events(&derived, EventKind::LeadChange), [[10, 14]], "it led all the same");
}

#[test]
fn behind_the_safety_car_no_lap_is_told_to_be_the_fastest() {
    assert!(events(&derive("13-fastest-laps-behind-the-safety-car"), EventKind::FastestLap).is_empty());
}

#[test]
fn a_disqualification_in_the_published_result_is_one_event_of_priority_2() {
    let derived = derive("16-disqualification-makes-no-event");
    let told: Vec<_> = derived.facts::<RaceEvent>().into_iter().filter(|(_, event)| event.kind == EventKind::Disqualified).collect();
    assert_eq!(told.iter().map(|(_, event)| (event.priority, event.driver_numbers.clone())).collect::<Vec<_>>(), [(2, vec![16])]);
}

#[test]
fn cars_that_pass_a_leader_which_stops_on_the_last_lap_have_overtaken_nobody() {
    let derived = derive("r13-leader-stops-on-the-last-lap");
    let retirement = OvertakeCause::Retirement;
    assert_eq!(swaps(&derived), [(4, 1, retirement, false, false), (81, 1, retirement, false, false)]);
    assert!(events(&derived, EventKind::Overtake).is_empty());
}

#[test]
fn without_a_session_status_laps_and_gaps_tell_that_the_race_is_on() {
    let derived = derive("s28-race-without-session-status");
    assert_eq!(events(&derived, EventKind::LeadChange), [[1, 4]]);
    let laps: Vec<_> = derived.facts::<RaceEvent>().into_iter().filter(|(_, event)| event.kind == EventKind::FastestLap).collect();
    assert!(laps.is_empty(), "{laps:?}");
}

#[test]
fn a_place_given_up_while_braking_for_the_pit_lane_makes_no_undercut() {
    let derived = derive("08-place-before-the-stop");
    let attempts: Vec<_> = derived.standing::<Undercut>().into_iter().map(|(_, attempt)| (attempt.kind, attempt.outcome)).collect();
    assert!(!attempts.contains(&(UndercutKind::Undercut, UndercutOutcome::Succeeded)), "{attempts:?}");
    assert!(events(&derived, EventKind::Undercut).is_empty());
}
