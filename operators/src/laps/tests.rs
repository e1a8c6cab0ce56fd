use super::*;
use crate::race_control::RaceControlOperator;
use crate::testing::pit;
use crate::testing::{Bench, at_ms, lap, race_control};
use crate::track_status::TrackStatusOperator;
use pitwall_schemas::raw::{RaceControl, Sample};
use pitwall_schemas::shared::FactHeader;
use proptest::prelude::*;

fn bench() -> Bench {
    Bench::new(|graph| {
        let track_status = graph.publish(TrackStatusOperator, |inputs| inputs.samples::<RaceControl>());
        let race_control = graph.publish(RaceControlOperator::default(), |inputs| inputs.samples::<RaceControl>());
        graph.publish(LapsOperator::default(), |inputs| {
            inputs.samples::<Lap>().samples::<Pit>().samples::<Stint>().samples::<Session>().stream(track_status).stream(race_control)
        });
    })
}

/// A version of a lap: when it began, in ms, and its times in s.
fn version(driver_number: i32, lap_number: i32, start: i64, times: [Option<f64>; 4]) -> Lap {
    let [duration_sector_1, duration_sector_2, duration_sector_3, lap_duration] = times;
    let date_start = Some(at_ms(start));
    Lap { date_start, duration_sector_1, duration_sector_2, duration_sector_3, lap_duration, ..lap(driver_number, lap_number) }
}

/// A whole lap with sectors of 25 s, 27 s and what is left.
fn whole(driver_number: i32, lap_number: i32, start: i64, lap: f64) -> Lap {
    version(driver_number, lap_number, start, [Some(25.0), Some(27.0), Some(lap - 52.0), Some(lap)])
}

fn session(ms: i64, words: &str, lap_number: Option<i32>, qualifying_phase: Option<i32>) -> Sample {
    let category = Some("SessionStatus".into());
    Sample::from(RaceControl { category, lap_number, qualifying_phase, ..race_control(at_ms(ms), words) })
}

fn race_starts(ms: i64) -> Sample {
    session(ms, "SESSION STARTED", Some(1), None)
}

/// A flag for the whole track on the leader's lap.
fn flag(ms: i64, flag: &str, lap_number: i32) -> Sample {
    let (category, scope) = (Some("Flag".into()), Some("Track".into()));
    let (flag, lap_number) = (Some(flag.to_owned()), Some(lap_number));
    Sample::from(RaceControl { category, scope, flag, lap_number, ..race_control(at_ms(ms), "FLAG") })
}

fn play(samples: impl IntoIterator<Item = (i64, Sample)>) -> Bench {
    let mut bench = bench();
    for (ms, sample) in samples {
        bench.arrive(ms, sample);
    }
    bench
}

fn newest(bench: &Bench, driver_number: i32, lap_number: i32) -> (FactHeader, facts::Lap) {
    let is_meant = |fact: &facts::Lap| (fact.driver_number, fact.lap_number) == (driver_number, lap_number);
    bench.facts::<facts::Lap>().into_iter().rfind(|(_, fact)| is_meant(fact)).unwrap()
}

#[test]
fn each_change_corrects_what_was_said_of_that_lap_and_names_the_versions_that_hold() {
    let bench = play([
        (0, Sample::from(version(1, 5, 0, [None; 4]))),
        (1, Sample::from(version(4, 5, 0, [None; 4]))),
        (2, Sample::from(version(1, 5, 0, [Some(25.1), None, None, None]))),
        (3, Sample::from(version(1, 5, 0, [Some(25.0), Some(27.0), None, None]))),
    ]);
    let (header, fact) = newest(&bench, 1, 5);
    assert_eq!((header.revision, header.supersedes), (2, Some(2)));
    assert_eq!(header.causes, [0, 3], "the first sector 1 time was replaced");
    assert_eq!((fact.sector_1_ms, fact.sector_2_ms, fact.is_complete), (Some(25_000), Some(27_000), false));
}

#[test]
fn a_version_sent_again_says_nothing_and_a_stale_one_neither() {
    let taken = Lap { id: Some(7), ..version(1, 5, 0, [Some(25.0), None, None, None]) };
    let stale = Lap { id: Some(6), ..version(1, 5, 0, [Some(24.0), None, None, None]) };
    let bench = play([(25_000, taken.clone()), (25_001, taken), (25_002, stale)].map(|(ms, lap)| (ms, Sample::from(lap))));
    assert_eq!(bench.facts::<facts::Lap>().len(), 1);
    assert!(bench.rejections().is_empty());
}

#[test]
fn a_null_in_a_newer_version_erases_nothing() {
    let bench = play([
        (25_000, Sample::from(version(1, 5, 0, [Some(25.0), None, None, None]))),
        (52_000, Sample::from(version(1, 5, 0, [None, Some(27.0), None, None]))),
    ]);
    assert_eq!(newest(&bench, 1, 5).1.sector_1_ms, Some(25_000));
}

#[test]
fn a_lap_time_that_was_not_sent_is_the_sum_of_its_sectors_until_it_is() {
    let mut bench = play([(80_000, Sample::from(version(1, 5, 0, [Some(25.001), Some(27.002), Some(23.003), None])))]);
    let (_, fact) = newest(&bench, 1, 5);
    assert_eq!((fact.lap_ms, fact.lap_inferred, fact.is_complete), (Some(75_006), true, true));
    bench.arrive(80_100, Sample::from(version(1, 5, 0, [Some(25.001), Some(27.002), Some(23.003), Some(75.007)])));
    let (_, fact) = newest(&bench, 1, 5);
    assert_eq!((fact.lap_ms, fact.lap_inferred), (Some(75_007), false));
}

/// Case 2.
#[test]
fn lap_1_of_a_race_lasts_from_the_session_start_to_lap_2_and_is_marked_as_inferred() {
    let mut bench = play([
        (200, race_starts(0)),
        (300, Sample::from(version(1, 1, 100, [None; 4]))),
        (82_000, Sample::from(version(1, 1, 100, [None, Some(27.0), Some(23.0), None]))),
    ]);
    assert_eq!(newest(&bench, 1, 1).1.lap_ms, None);
    bench.arrive(82_100, Sample::from(version(1, 2, 81_500, [None; 4])));
    let (header, fact) = newest(&bench, 1, 1);
    assert_eq!((fact.started_at, fact.lap_ms, fact.sector_1_ms), (Some(at_ms(0)), Some(81_500), Some(31_500)));
    assert_eq!((fact.lap_inferred, fact.sector_1_inferred), (true, true));
    assert_eq!((fact.lap_mark, fact.sector_1_mark, fact.sector_2_mark), (Mark::Yellow, Mark::Yellow, Mark::Purple));
    // The session start, both versions of lap 1, and lap 2's.
    assert_eq!(header.causes.len(), 4, "{:?}", header.causes);
    assert_eq!(header.causes[3], newest(&bench, 1, 2).0.causes[0]);
}

#[test]
fn lap_1_without_a_session_start_lasts_from_its_documents_start() {
    let bench = play([
        (0, session(0, "SESSION STARTED", Some(2), None)),
        (300, Sample::from(version(1, 1, 100, [None; 4]))),
        (82_100, Sample::from(version(1, 2, 81_500, [None; 4]))),
    ]);
    assert_eq!(newest(&bench, 1, 1).1.lap_ms, Some(81_400));
}

/// Case 9: at Monaco in 2024 it was over half an hour.
#[test]
fn lap_1_with_a_red_flag_lasts_until_lap_2_however_long() {
    let bench = play([
        (0, race_starts(0)),
        (100, Sample::from(version(1, 1, 0, [None; 4]))),
        (60_000, flag(60_000, "RED", 1)),
        (60_000, session(60_000, "SESSION ABORTED", Some(1), None)),
        (2_400_000, session(2_400_000, "SESSION STARTED", Some(1), None)),
        (2_500_000, Sample::from(version(1, 2, 2_490_000, [None; 4]))),
    ]);
    assert_eq!(newest(&bench, 1, 1).1.lap_ms, Some(2_490_000));
}

#[test]
fn lap_1_of_qualifying_is_not_inferred() {
    let bench = play([
        (0, session(0, "SESSION STARTED", None, Some(1))),
        (300_000, Sample::from(Lap { is_pit_out_lap: true, ..version(1, 1, 299_000, [None; 4]) })),
        (400_000, Sample::from(version(1, 2, 399_000, [None; 4]))),
    ]);
    assert_eq!(newest(&bench, 1, 1).1.lap_ms, None);
}

#[test]
fn a_race_start_learned_late_begins_lap_1_of_every_car() {
    let bench = play([
        (0, Sample::from(version(1, 1, 100, [None; 4]))),
        (0, Sample::from(version(4, 1, 120, [None; 4]))),
        (90_000, Sample::from(version(1, 2, 80_000, [None; 4]))),
        (91_000, race_starts(0)),
    ]);
    let (header, fact) = newest(&bench, 1, 1);
    assert_eq!((fact.lap_ms, header.revision), (Some(80_000), 1));
    assert_eq!(newest(&bench, 4, 1).1.started_at, Some(at_ms(0)));
}

/// Case 1.
#[test]
fn late_sector_three_belongs_to_the_previous_lap() {
    let bench = play([
        (53_000, Sample::from(version(1, 5, 0, [Some(25.0), Some(27.0), None, None]))),
        (77_000, Sample::from(version(1, 6, 75_000, [None, None, Some(23.0), None]))),
        // The feed's document keeps the time where it does not belong, until the lap's own comes.
        (100_000, Sample::from(version(1, 6, 75_000, [Some(25.0), None, Some(23.0), None]))),
    ]);
    let (header, fact) = newest(&bench, 1, 5);
    assert_eq!((fact.sector_3_ms, fact.lap_ms, fact.lap_inferred), (Some(23_000), Some(75_000), true));
    assert_eq!(header.revision, 1);
    let (_, fact) = newest(&bench, 1, 6);
    assert_eq!((fact.sector_1_ms, fact.sector_3_ms), (Some(25_000), None));
}

#[test]
fn late_lap_time_belongs_to_the_previous_lap_even_when_it_is_there_already() {
    let bench =
        play([(75_500, Sample::from(whole(1, 5, 0, 75.0))), (77_000, Sample::from(version(1, 6, 75_000, [None, None, None, Some(75.0)])))]);
    // Its one revision says that it is accurate, now that the next lap has begun where it ended.
    let (header, fact) = newest(&bench, 1, 5);
    assert_eq!((header.revision, fact.lap_ms, fact.is_accurate), (1, Some(75_000), true));
    assert_eq!(newest(&bench, 1, 6).1.lap_ms, None);
}

#[test]
fn a_time_known_ten_seconds_into_a_lap_is_that_laps_own() {
    let bench = play([
        (53_000, Sample::from(version(1, 5, 0, [Some(25.0), Some(27.0), None, None]))),
        (85_000, Sample::from(version(1, 6, 75_000, [None, None, Some(23.0), None]))),
    ]);
    assert_eq!(newest(&bench, 1, 5).1.sector_3_ms, None);
    assert_eq!(newest(&bench, 1, 6).1.sector_3_ms, Some(23_000));
}

#[test]
fn a_late_time_of_a_lap_that_a_late_join_never_saw_goes_nowhere() {
    let bench = play([(77_000, Sample::from(version(1, 6, 75_000, [None, None, Some(23.0), None])))]);
    assert_eq!(bench.facts::<facts::Lap>().len(), 1);
    assert_eq!(newest(&bench, 1, 6).1.sector_3_ms, None);
}

#[test]
fn marks_tell_how_a_time_compared_when_it_was_set() {
    let bench = play([
        (80_000, Sample::from(whole(1, 2, 0, 76.0))),
        (80_001, Sample::from(whole(4, 2, 0, 77.0))),
        (160_000, Sample::from(whole(4, 3, 80_000, 76.5))),
        (160_001, Sample::from(whole(1, 3, 80_000, 76.0))),
        (240_000, Sample::from(whole(4, 4, 160_000, 75.0))),
    ]);
    let marks = [(1, 2), (4, 2), (4, 3), (1, 3), (4, 4)].map(|(driver, lap)| newest(&bench, driver, lap).1.lap_mark);
    assert_eq!(marks, [Mark::Purple, Mark::Green, Mark::Green, Mark::Yellow, Mark::Purple]);
}

#[test]
fn lap_1_of_a_race_is_never_the_best() {
    let bench =
        play([(0, race_starts(0)), (80_000, Sample::from(whole(1, 1, 0, 70.0))), (160_000, Sample::from(whole(1, 2, 80_000, 76.0)))]);
    let (_, fact) = newest(&bench, 1, 1);
    assert_eq!((fact.lap_mark, fact.lap_inferred), (Mark::Yellow, true));
    assert_eq!(newest(&bench, 1, 2).1.lap_mark, Mark::Purple);
}

#[test]
fn a_best_time_taken_back_gives_way_to_the_next_best() {
    let bench = play([
        (80_000, Sample::from(whole(1, 2, 0, 76.0))),
        (160_000, Sample::from(whole(1, 3, 80_000, 74.0))),
        (160_100, Sample::from(whole(1, 3, 80_000, 80.0))),
        (240_000, Sample::from(whole(1, 4, 160_000, 75.0))),
    ]);
    assert_eq!([3, 4].map(|lap| newest(&bench, 1, lap).1.lap_mark), [Mark::Yellow, Mark::Purple]);
}

#[test]
fn bests_start_afresh_with_each_segment_of_qualifying() {
    let bench = play([
        (0, session(0, "SESSION STARTED", None, Some(1))),
        (80_000, Sample::from(whole(1, 2, 0, 76.0))),
        (90_000, session(90_000, "SESSION FINISHED", None, Some(1))),
        (100_000, session(100_000, "SESSION STARTED", None, Some(2))),
        // Known of before the second segment: of the first.
        (100_100, Sample::from(whole(1, 2, 0, 75.9))),
        (180_000, Sample::from(whole(1, 3, 101_000, 77.0))),
    ]);
    assert_eq!(newest(&bench, 1, 3).1.lap_mark, Mark::Purple);
}

#[test]
fn a_qualifying_lap_finished_after_the_flag_counts_and_one_begun_after_it_does_not() {
    let bench = play([
        (0, session(0, "SESSION STARTED", None, Some(3))),
        (50_000, session(50_000, "SESSION FINISHED", None, Some(3))),
        (80_000, Sample::from(whole(1, 2, 4_000, 76.0))),
        (160_000, Sample::from(whole(1, 3, 80_000, 75.0))),
    ]);
    assert_eq!([2, 3].map(|lap| newest(&bench, 1, lap).1.lap_mark), [Mark::Purple, Mark::Yellow]);
}

#[test]
fn a_pit_out_lap_can_be_the_best_in_a_race_only() {
    let pit_out = |start| Lap { is_pit_out_lap: true, ..whole(1, 2, start, 95.0) };
    let race = play([(0, race_starts(0)), (180_000, Sample::from(pit_out(80_000)))]);
    assert_eq!(newest(&race, 1, 2).1.lap_mark, Mark::Purple);
    let qualifying = play([(0, session(0, "SESSION STARTED", None, Some(1))), (180_000, Sample::from(pit_out(80_000)))]);
    assert_eq!(newest(&qualifying, 1, 2).1.lap_mark, Mark::Yellow);
}

#[test]
fn a_race_lap_begun_after_the_chequered_flag_is_dropped() {
    let bench = play([
        (0, race_starts(0)),
        (100_000, session(100_000, "SESSION FINISHED", Some(72), None)),
        (100_500, Sample::from(version(1, 73, 100_400, [None; 4]))),
        (110_000, Sample::from(whole(4, 72, 34_000, 76.0))),
    ]);
    let laps: Vec<_> = bench.facts::<facts::Lap>().iter().map(|(_, fact)| (fact.driver_number, fact.lap_number)).collect();
    assert_eq!(laps, [(4, 72)]);
}

/// Race control's words at `ms`.
fn words(ms: i64, words: &str) -> (i64, Sample) {
    (ms, Sample::from(race_control(at_ms(ms), words)))
}

fn personal_bests(bench: &Bench, driver_number: i32) -> Vec<(i32, bool)> {
    let of_car = bench.facts::<facts::Lap>().into_iter().filter(|(_, fact)| fact.driver_number == driver_number);
    of_car.map(|(_, fact)| (fact.lap_number, fact.is_personal_best)).collect()
}

/// Cases 3 and 4.
#[test]
fn the_personal_best_goes_with_a_deleted_lap_and_returns_with_it() {
    let mut bench = play([
        (80_000, Sample::from(whole(4, 2, 0, 76.0))),
        (80_001, Sample::from(whole(44, 3, 0, 75.0))),
        (160_000, Sample::from(whole(4, 3, 80_000, 75.0))),
        words(165_000, "CAR 4 (NOR) TIME 1:15.000 DELETED - TRACK LIMITS AT TURN 18 LAP 3 16:03:19"),
    ]);
    // Lap 3 takes it from lap 2, and lap 2 gets it back.
    assert_eq!(personal_bests(&bench, 4), [(2, true), (2, false), (3, true), (3, false), (2, true)]);
    let (header, fact) = newest(&bench, 4, 3);
    assert_eq!((fact.is_deleted, fact.lap_ms, fact.lap_mark), (true, Some(75_000), Mark::Yellow));
    assert_eq!(fact.deleted_reason.as_deref(), Some("TRACK LIMITS AT TURN 18 LAP 3 16:03:19"));
    assert_eq!(header.revision, 1);
    assert!(header.supersedes.is_some());
    assert!(!newest(&bench, 44, 3).1.is_deleted, "car 44's lap 3 has the same number and time");

    bench.arrive(170_000, words(170_000, "CAR 4 (NOR) TIME 1:15.000 REINSTATED").1);
    assert_eq!(personal_bests(&bench, 4)[5..], [(2, false), (3, true)]);
    let (_, fact) = newest(&bench, 4, 3);
    assert_eq!((fact.is_deleted, fact.deleted_reason.as_deref(), fact.lap_mark), (false, None, Mark::Green));
}

#[test]
fn a_lap_deleted_before_its_time_is_known_is_never_the_best() {
    let bench = play([
        words(75_000, "CAR 4 (NOR) TIME 1:15.000 DELETED - TRACK LIMITS AT TURN 18 LAP 2 16:03:19"),
        (80_000, Sample::from(whole(4, 2, 0, 75.0))),
    ]);
    let (header, fact) = newest(&bench, 4, 2);
    assert_eq!((fact.is_deleted, fact.is_personal_best, fact.lap_mark), (true, false, Mark::Yellow));
    assert_eq!(header.causes.len(), 2, "the document and race control's message");
}

#[test]
fn a_deletion_whose_time_no_lap_has_deletes_nothing() {
    let bench = play([
        (80_000, Sample::from(whole(4, 2, 0, 75.0))),
        words(85_000, "CAR 4 (NOR) TIME 1:15.001 DELETED - TRACK LIMITS AT TURN 18 LAP 2 16:03:19"),
    ]);
    assert!(bench.facts::<facts::Lap>().iter().all(|(_, fact)| !fact.is_deleted));
}

#[test]
fn a_lap_deleted_without_a_time_is_the_one_under_way_then_and_without_a_moment_the_one_of_that_number() {
    let deletes = |words: &str| {
        let laps = [(1, whole(4, 5, 0, 80.0)), (80_000, whole(4, 6, 80_000, 80.0)), (160_000, whole(4, 7, 160_000, 80.0))];
        let mut bench = play(laps.map(|(ms, lap)| (ms, Sample::from(lap))));
        bench.arrive(300_000, Sample::from(race_control(at_ms(300_000), words)));
        [5, 6, 7].map(|lap| newest(&bench, 4, lap).1.is_deleted)
    };
    // Two hours ahead of UTC, 3 minutes before the message, and race control's count is one ahead.
    assert_eq!(deletes("CAR 4 (NOR) LAP DELETED - TRACK LIMITS AT TURN 6 LAP 7 15:02:00 (PIT)"), [false, true, false]);
    assert_eq!(deletes("CAR 4 (NOR) LAP DELETED - TRACK LIMITS AT TURN 6 LAP 7 18:32:40 (PIT)"), [false, false, true]);
    assert_eq!(deletes("CAR 4 (NOR) LAP DELETED - TRACK LIMITS AT TURN 6 LAP 5 (PIT)"), [true, false, false]);
}

#[test]
fn of_two_laps_with_the_deleted_time_the_one_of_that_moment_is_meant() {
    let bench = play([
        (80_000, Sample::from(whole(4, 6, 0, 80.0))),
        (160_000, Sample::from(whole(4, 7, 80_000, 80.0))),
        words(170_000, "CAR 4 (NOR) TIME 1:20.000 DELETED - TRACK LIMITS AT TURN 6 LAP 7 15:01:10"),
    ]);
    assert_eq!([6, 7].map(|lap| newest(&bench, 4, lap).1.is_deleted), [true, false]);
}

#[test]
fn outside_races_a_lap_ended_in_the_pit_lane_is_no_best() {
    let segments_sector_3 = Some(vec![Some(2_048), Some(2_064)]);
    let told_by_segments = Lap { segments_sector_3, ..whole(1, 3, 80_000, 70.0) };
    let told_by_next = [whole(1, 3, 80_000, 70.0), Lap { is_pit_out_lap: true, ..version(1, 4, 150_000, [None; 4]) }];
    for third_lap in [vec![told_by_segments], told_by_next.to_vec()] {
        for (is_race, expected) in [(false, [true, false]), (true, [false, true])] {
            let start = if is_race { race_starts(0) } else { session(0, "SESSION STARTED", None, Some(1)) };
            let mut bench = play([(0, start), (80_000, Sample::from(whole(1, 2, 0, 76.0)))]);
            for (ms, version) in (150_000..).zip(third_lap.clone()) {
                bench.arrive(ms, Sample::from(version));
            }
            let laps = [2, 3].map(|lap| newest(&bench, 1, lap).1);
            assert_eq!(laps.each_ref().map(|lap| lap.is_personal_best), expected);
            assert!(laps[1].is_pit_in_lap);
        }
    }
}

#[test]
fn a_join_in_mid_session_does_not_call_the_lap_under_way_the_first_nor_take_the_snapshot_for_it() {
    let joined = |times| Lap { date_start: None, ..version(1, 1, 0, times) };
    // The snapshot holds the time of the lap before, and sectors of both.
    let snapshot = joined([Some(25.0), Some(28.0), Some(24.0), Some(81.0)]);
    let bench = play([
        (0, Sample::from(snapshot.clone())),
        (20_000, Sample::from(joined([Some(25.0), Some(27.0), Some(24.0), Some(81.0)]))),
        (45_000, Sample::from(version(1, 48, 45_000, [None; 4]))),
        // The lap before is still called 1.
        (45_100, Sample::from(joined([Some(25.0), Some(27.0), Some(25.0), Some(80.0)]))),
    ]);
    let said: Vec<_> = bench.facts::<facts::Lap>().into_iter().map(|(_, fact)| (fact.lap_number, fact.sector_2_ms, fact.lap_ms)).collect();
    assert_eq!(said, [(47, Some(27_000), None), (48, None, None), (47, Some(27_000), Some(80_000))]);
    let later_first = play([(0, Sample::from(version(1, 8, 0, [None; 4]))), (1, Sample::from(snapshot))]);
    assert_eq!(later_first.facts::<facts::Lap>().len(), 1, "of lap 7 nothing is known");
}

#[test]
fn a_first_lap_without_a_start_is_the_first_when_it_gets_one_the_second_follows_or_the_race_starts() {
    let first = || Sample::from(Lap { date_start: None, ..version(1, 1, 0, [None; 4]) });
    let laps = |bench: &Bench| bench.facts::<facts::Lap>().iter().map(|(_, fact)| fact.lap_number).collect::<Vec<_>>();
    assert_eq!(laps(&play([(0, first()), (80_000, Sample::from(whole(1, 2, 80_000, 76.0)))])), [1, 2]);
    assert_eq!(laps(&play([(0, first()), (1, Sample::from(version(1, 1, 1, [None; 4])))])), [1]);
    assert_eq!(laps(&play([(0, race_starts(0)), (1, first())])), [1]);
    assert!(laps(&play([(0, session(0, "SESSION STARTED", None, Some(1))), (1, first())])).is_empty());
    assert_eq!(laps(&play([(0, first()), (1, race_starts(1))])), [1]);
}

#[test]
fn a_lap_of_an_earlier_segment_deleted_later_gives_that_segments_best_to_another() {
    let bench = play([
        (0, session(0, "SESSION STARTED", None, Some(1))),
        (80_000, Sample::from(whole(1, 2, 0, 76.0))),
        (160_000, Sample::from(whole(1, 3, 80_000, 75.0))),
        (200_000, session(200_000, "SESSION STARTED", None, Some(2))),
        (290_000, Sample::from(whole(1, 4, 210_000, 77.0))),
        words(300_000, "CAR 1 (VER) TIME 1:15.000 DELETED - TRACK LIMITS AT TURN 18 LAP 3 16:03:19"),
    ]);
    let laps = [2, 3, 4].map(|lap| newest(&bench, 1, lap).1);
    let best = laps.map(|lap| (lap.qualifying_segment, lap.is_personal_best));
    assert_eq!(best, [(Some(1), true), (Some(1), false), (Some(2), true)]);
}

/// Case 10.
#[test]
fn the_lap_of_a_restart_is_interrupted_and_never_the_best() {
    let bench = play([
        (0, race_starts(0)),
        (160_000, Sample::from(whole(1, 2, 80_000, 76.0))),
        (170_000, session(170_000, "SESSION ABORTED", Some(3), None)),
        // Begun while the race stood still, in the pit lane or on the grid, and timed from the restart.
        (200_000, Sample::from(version(1, 4, 190_000, [None; 4]))),
        (2_000_000, session(2_000_000, "SESSION STARTED", Some(4), None)),
        (2_075_000, Sample::from(whole(1, 4, 190_000, 70.0))),
        (2_150_000, Sample::from(whole(1, 5, 2_075_000, 75.0))),
    ]);
    let (_, restart) = newest(&bench, 1, 4);
    assert_eq!((restart.is_interrupted, restart.lap_mark, restart.is_personal_best), (true, Mark::Yellow, false));
    let (_, next) = newest(&bench, 1, 5);
    assert_eq!((next.is_interrupted, next.lap_mark, next.is_personal_best), (false, Mark::Purple, true));
}

#[test]
fn the_lap_before_a_pit_out_lap_ended_in_the_pit_lane_and_so_did_the_one_that_pit_names() {
    let bench = play([
        (80_000, Sample::from(whole(1, 2, 0, 80.0))),
        (80_100, Sample::from(Lap { is_pit_out_lap: true, ..version(1, 3, 80_000, [None; 4]) })),
        (81_000, Sample::from(whole(4, 2, 0, 80.0))),
        (82_000, Sample::from(pit(4, 2, at_ms(82_000)))),
    ]);
    assert!(newest(&bench, 1, 2).1.is_pit_in_lap && newest(&bench, 4, 2).1.is_pit_in_lap);
    assert!(!newest(&bench, 1, 3).1.is_pit_in_lap);
}

/// Whether lap 2 of a race turns out accurate, with lap 3 begun `gap_ms` after its end, and with `change` made to it.
fn is_accurate(gap_ms: i64, change: impl FnOnce(&mut Lap), more: Option<Sample>) -> bool {
    let mut bench = play([(0, race_starts(0))]);
    if let Some(sample) = more {
        bench.arrive(90_000, sample);
    }
    let mut lap = whole(1, 2, 80_000, 76.0);
    change(&mut lap);
    bench.arrive(156_100, Sample::from(lap));
    assert!(!newest(&bench, 1, 2).1.is_accurate, "the next lap has not begun");
    bench.arrive(157_000, Sample::from(version(1, 3, 156_000 + gap_ms, [None; 4])));
    newest(&bench, 1, 2).1.is_accurate
}

#[test]
fn a_lap_is_accurate_when_nothing_speaks_against_it() {
    assert!(is_accurate(0, |_| {}, None));
    assert!(is_accurate(250, |_| {}, None));
    assert!(!is_accurate(251, |_| {}, None), "the next lap begins elsewhere");
    assert!(is_accurate(0, |lap| lap.duration_sector_3 = Some(24.003), None));
    assert!(!is_accurate(0, |lap| lap.duration_sector_3 = Some(24.004), None), "sectors that add up to another time");
    assert!(!is_accurate(0, |lap| lap.lap_duration = None, None), "an inferred time");
    assert!(!is_accurate(0, |lap| lap.is_pit_out_lap = true, None), "a pit-out lap");
    let (category, lap_number) = (Some("SafetyCar".into()), Some(2));
    let safety_car = RaceControl { category, lap_number, ..race_control(at_ms(90_000), "SAFETY CAR DEPLOYED") };
    assert!(!is_accurate(0, |_| {}, Some(Sample::from(safety_car))), "under safety car");
}

#[test]
fn the_lap_after_one_under_the_safety_car_is_not_accurate_and_the_next_is() {
    let mut bench = play([(0, race_starts(0))]);
    for (ms, words) in [(90_000, "SAFETY CAR DEPLOYED"), (150_000, "SAFETY CAR IN THIS LAP")] {
        let (category, lap_number) = (Some("SafetyCar".into()), Some(2));
        bench.arrive(ms, Sample::from(RaceControl { category, lap_number, ..race_control(at_ms(ms), words) }));
    }
    let clear = RaceControl { category: Some("Flag".into()), flag: Some("CLEAR".into()), ..race_control(at_ms(155_000), "TRACK CLEAR") };
    bench.arrive(155_000, Sample::from(clear));
    for number in 2..=5 {
        let start = i64::from(number - 1) * 80_000;
        bench.arrive(start + 80_000, Sample::from(whole(1, number, start, 80.0)));
    }
    assert_eq!([2, 3, 4].map(|lap| newest(&bench, 1, lap).1.is_accurate), [false, false, true]);
}

#[test]
fn laps_count_from_1() {
    let bench = play([(0, Sample::from(lap(1, 0)))]);
    assert_eq!(bench.rejections(), ["car 1's lap 0: laps count from 1"]);
    assert!(bench.facts::<facts::Lap>().is_empty());
}

#[test]
fn mini_sectors_without_a_code_are_0_and_a_duration_of_0_is_no_time() {
    let document = Lap { segments_sector_1: Some(vec![None, Some(2_049)]), ..version(1, 5, 0, [Some(0.0), None, None, None]) };
    let bench = play([(25_000, Sample::from(document))]);
    let (_, fact) = newest(&bench, 1, 5);
    assert_eq!((fact.segments_1, fact.segments_2, fact.sector_1_ms), (vec![0, 2_049], vec![], None));
}

#[test]
fn a_sector_of_more_mini_sectors_than_the_limit_is_rejected() {
    let document = Lap { segments_sector_2: Some(vec![Some(2_049); 65]), ..version(1, 5, 0, [None; 4]) };
    let bench = play([(25_000, Sample::from(document))]);
    assert_eq!(bench.rejections(), ["a sector of car 1's lap 5 has 65 mini-sectors, more than 64"]);
    assert!(bench.facts::<facts::Lap>().is_empty());
}

/// A session's document.
fn document(session_type: &str) -> Sample {
    Sample::from(Session {
        session_name: Some(session_type.into()),
        session_type: Some(session_type.into()),
        ..crate::testing::session_at(None, None)
    })
}

fn begins(driver_number: i32, lap_number: i32, ms: i64) -> (i64, Sample) {
    (ms, Sample::from(version(driver_number, lap_number, ms, [None; 4])))
}

/// What stands: car and number of each lap that was not taken back.
fn standing(bench: &Bench) -> Vec<(i32, i32)> {
    let mut laps = std::collections::BTreeMap::new();
    for (header, fact) in bench.facts::<facts::Lap>() {
        laps.insert((fact.driver_number, fact.lap_number), header.withdrawn);
    }
    laps.into_iter().filter(|(_, is_withdrawn)| !is_withdrawn).map(|(lap, _)| lap).collect()
}

#[test]
fn a_lap_was_the_best_when_it_was_set_though_a_later_one_is_faster_unless_it_is_deleted() {
    let mut bench = play([
        (80_000, Sample::from(whole(4, 2, 0, 76.0))),
        (160_000, Sample::from(whole(4, 3, 80_000, 77.0))),
        (240_000, Sample::from(whole(4, 4, 160_000, 75.0))),
    ]);
    let bests = |bench: &Bench| [2, 3, 4].map(|lap| newest(bench, 4, lap).1).map(|lap| (lap.was_personal_best, lap.is_personal_best));
    assert_eq!(bests(&bench), [(true, false), (false, false), (true, true)]);
    bench.arrive(250_000, words(250_000, "CAR 4 (NOR) TIME 1:15.000 DELETED - TRACK LIMITS AT TURN 18 LAP 4 16:03:19").1);
    assert_eq!(bests(&bench), [(true, true), (false, false), (false, false)]);
}

#[test]
fn a_version_without_an_id_after_one_with_an_id_is_taken() {
    let with_id = Lap { id: Some(7), ..version(1, 5, 0, [Some(25.0), None, None, None]) };
    let without = version(1, 5, 0, [Some(24.5), None, None, None]);
    let bench = play([(25_000, Sample::from(with_id)), (600_000, Sample::from(without))]);
    assert_eq!(newest(&bench, 1, 5).1.sector_1_ms, Some(24_500));
}

#[test]
fn a_start_dated_far_ahead_is_no_start_and_the_rest_of_its_document_is_taken() {
    let day = 86_400_000;
    let ahead = version(1, 3, day, [Some(25.0), None, None, None]);
    let bench = play([(0, race_starts(0)), begins(1, 2, 80_000), (185_000, Sample::from(ahead)), begins(1, 3, 186_000)]);
    let (_, fact) = newest(&bench, 1, 3);
    assert_eq!((fact.started_at, fact.sector_1_ms), (Some(at_ms(186_000)), Some(25_000)));
}

#[test]
fn a_lap_number_out_of_reach_waits_for_a_second_document() {
    let jump = |number, ms| Sample::from(version(1, number, ms, [None; 4]));
    let mut bench = play([begins(1, 4, 0), (30_000, jump(54, 0)), (30_100, jump(54, 0)), begins(1, 5, 90_000), (91_000, jump(55, 90_000))]);
    assert_eq!(standing(&bench), [(1, 4), (1, 5)], "the same document again is no second one");
    assert_eq!(bench.rejections().len(), 3);
    bench.arrive(92_000, jump(56, 91_000));
    assert_eq!(standing(&bench), [(1, 4), (1, 5), (1, 56)]);
}

#[test]
fn laps_that_were_not_sent_do_not_put_the_next_one_out_of_reach() {
    let missing = play([begins(1, 4, 0), begins(1, 9, 400_000)]);
    assert_eq!(standing(&missing), [(1, 4), (1, 9)]);
    // Documents of the past that come all at once tell by their dates.
    let at_once = play([4, 9].map(|number| (1_000_000, Sample::from(version(1, number, i64::from(number) * 80_000, [None; 4])))));
    assert_eq!(standing(&at_once), [(1, 4), (1, 9)]);
}

#[test]
fn a_car_first_known_of_in_mid_race_is_not_far_beyond_all_others() {
    let first = |number| play([(0, race_starts(0)), begins(1, 2, 80_000), begins(4, number, 80_500)]);
    assert_eq!(standing(&first(57)), [(1, 2)]);
    assert_eq!(standing(&first(3)), [(1, 2), (4, 3)]);
}

/// Two attempts to start, 1,500 s apart, and what race control says between them.
fn second_start(between: impl IntoIterator<Item = (i64, Sample)>) -> facts::Lap {
    let mut bench = play([
        (0, race_starts(0)),
        (100, Sample::from(Lap { date_start: None, ..version(1, 1, 0, [None; 4]) })),
        (40_000, Sample::from(Lap { date_start: None, ..version(1, 1, 0, [None, Some(40.0), None, None]) })),
    ]);
    for (ms, sample) in between {
        bench.arrive(ms, sample);
    }
    bench.arrive(1_500_000, session(1_500_000, "SESSION STARTED", Some(1), None));
    bench.arrive(1_583_000, begins(1, 2, 1_583_000).1);
    newest(&bench, 1, 1).1
}

#[test]
fn after_an_aborted_start_lap_1_begins_with_the_second_one() {
    let aborted = || (60_000, session(60_000, "SESSION ABORTED", Some(1), None));
    for between in [vec![aborted()], vec![words(60_000, "ABORTED START"), aborted()], vec![words(60_000, "START ABORTED")]] {
        let lap = second_start(between);
        assert_eq!((lap.started_at, lap.lap_ms, lap.is_interrupted), (Some(at_ms(1_500_000)), Some(83_000), false));
        assert_eq!(lap.sector_2_ms, None, "nothing of the first attempt is of the race");
    }
}

#[test]
fn a_red_flag_on_lap_1_or_a_lap_completed_makes_the_second_start_a_resumption() {
    let aborted = || (60_000, session(60_000, "SESSION ABORTED", Some(1), None));
    let lap = second_start([aborted(), (60_500, flag(60_000, "RED", 1))]);
    assert_eq!((lap.started_at, lap.lap_ms, lap.is_interrupted), (Some(at_ms(0)), Some(1_583_000), true));
    let bench = play([
        (0, race_starts(0)),
        begins(1, 1, 10),
        begins(1, 2, 80_000),
        (90_000, session(90_000, "SESSION ABORTED", Some(2), None)),
        (1_500_000, session(1_500_000, "SESSION STARTED", Some(2), None)),
    ]);
    assert_eq!(newest(&bench, 1, 1).1.lap_ms, Some(80_000));
}

#[test]
fn a_start_without_a_lap_number_begins_a_race_that_the_sessions_document_tells() {
    let start = || (0, session(0, "SESSION STARTED", None, None));
    let lap_1 = |samples: Vec<(i64, Sample)>| {
        let bench = play(samples.into_iter().chain([begins(1, 1, 150), begins(1, 2, 82_000)]));
        newest(&bench, 1, 1).1.lap_ms
    };
    assert_eq!(lap_1(vec![(0, document("Race")), start()]), Some(82_000));
    assert_eq!(lap_1(vec![start(), (10, document("Race"))]), Some(82_000));
    assert_eq!(lap_1(vec![(0, document("Practice")), start()]), None);
}

#[test]
fn a_join_whose_snapshot_tells_the_start_does_not_take_the_lap_under_way_for_lap_1() {
    let first = || Sample::from(Lap { date_start: None, ..version(1, 1, 0, [None; 4]) });
    let at = 3_600_000;
    let race_control_first = [(at, race_starts(0)), (at, flag(3_500_000, "BLUE", 40)), (at, first())];
    let laps_first = [(at, first()), (at, race_starts(0)), (at, flag(3_500_000, "BLUE", 40))];
    for snapshot in [race_control_first, laps_first] {
        let bench = play(snapshot.into_iter().chain([begins(1, 41, at + 50_000)]));
        assert_eq!(standing(&bench), [(1, 40), (1, 41)]);
    }
}

/// A join on lap 48 by race control's count, 47 by OpenF1's, with a lapped car; the count comes with a blue flag on each lap.
fn join(counted: [i32; 3]) -> Bench {
    let mut bench = play([(0, document("Race")), (0, flag(-100_000, "BLUE", counted[0] - 1))]);
    let mut laps = vec![begins(4, 46, 500), begins(1, 47, 1_000)];
    for (index, lap_number) in (0..).zip(counted) {
        laps.push((index * 90_000 + 40_000, flag(index * 90_000 + 40_000, "BLUE", lap_number)));
        laps.push(begins(1, 48 + index as i32, (index + 1) * 90_000));
        laps.push(begins(4, 47 + index as i32, (index + 1) * 90_000 + 5_000));
    }
    for (ms, sample) in laps {
        bench.arrive(ms, sample);
    }
    bench
}

#[test]
fn after_a_join_numbers_that_are_one_too_low_are_put_right_for_every_car() {
    assert_eq!(standing(&join([47, 48, 49])), [(1, 47), (1, 48), (1, 49), (1, 50), (4, 46), (4, 47), (4, 48), (4, 49)]);
    assert_eq!(standing(&join([48, 49, 50])), [(1, 48), (1, 49), (1, 50), (1, 51), (4, 47), (4, 48), (4, 49), (4, 50)]);
}

#[test]
fn one_wrong_count_of_race_control_does_not_move_the_numbers_for_good() {
    assert_eq!(standing(&join([47, 49, 49])), [(1, 47), (1, 48), (1, 49), (1, 50), (4, 46), (4, 47), (4, 48), (4, 49)]);
    assert_eq!(standing(&join([47, 12, 49])), standing(&join([47, 48, 49])));
}

#[test]
fn a_race_seen_from_its_start_is_not_renumbered() {
    let laps = (1..=4).map(|number| begins(1, number, i64::from(number - 1) * 80_000));
    let counts = (1..=4).map(|number| i64::from(number) * 80_000 - 40_000).map(|ms| (ms, flag(ms, "BLUE", 9)));
    let mut samples: Vec<_> = laps.chain(counts).chain([(0, race_starts(0))]).collect();
    samples.sort_by_key(|(ms, _)| *ms);
    assert_eq!(standing(&play(samples)), [(1, 1), (1, 2), (1, 3), (1, 4)]);
}

/// A race of two laps: car 1 ends its second at 160 s, car 4 at 162 s and car 44, a lap down, its first at `lapped`; the flag is dated
/// `lag` ms after the leader's finish. What arrives when is the test's.
fn finish(lapped: i64, lag: i64, is_flag_first: bool) -> Bench {
    let flag = (160_000 + lag, session(160_000 + lag, "SESSION FINISHED", Some(2), None));
    let mut samples = vec![
        (0, race_starts(0)),
        begins(1, 1, 10),
        begins(4, 1, 20),
        begins(44, 1, 30),
        begins(1, 2, 80_000),
        begins(4, 2, 81_000),
        begins(44, 2, lapped),
        begins(1, 3, 160_000),
        begins(4, 3, 162_000),
        flag,
    ];
    samples.sort_by_key(|(ms, _)| *ms);
    if is_flag_first {
        let flag = samples.iter().position(|(ms, _)| *ms == 160_000 + lag).unwrap();
        let flag = samples.remove(flag);
        let line = samples.iter().position(|(ms, _)| *ms == 160_000).unwrap();
        samples[line].0 = flag.0;
        samples.insert(line, flag);
    }
    samples.sort_by_key(|(ms, _)| *ms);
    play(samples)
}

#[test]
fn laps_begun_with_or_after_the_leaders_finish_are_none_whenever_the_flag_is_told() {
    let race = [(1, 1), (1, 2), (4, 1), (4, 2), (44, 1)];
    for lag in [1, 600, 4_000] {
        let lapped_before = standing(&finish(159_500, lag, false));
        assert_eq!(lapped_before, [race.as_slice(), &[(44, 2)]].concat(), "{lag}");
        assert_eq!(standing(&finish(160_300, lag, false)), race, "a lapped car behind the leader has finished too: {lag}");
    }
    assert_eq!(standing(&finish(160_300, 600, true)), race);
}

#[test]
fn a_late_time_in_the_document_of_the_way_back_is_of_the_last_lap() {
    let mut bench = play([
        (0, race_starts(0)),
        begins(1, 1, 10),
        begins(1, 2, 80_000),
        (140_000, Sample::from(version(1, 2, 80_000, [Some(25.0), Some(27.0), None, None]))),
        (156_500, session(156_500, "SESSION FINISHED", Some(2), None)),
    ]);
    bench.arrive(158_000, Sample::from(version(1, 3, 156_000, [None, None, Some(24.0), Some(76.0)])));
    let (_, last) = newest(&bench, 1, 2);
    assert_eq!((last.lap_ms, last.sector_3_ms, last.is_accurate), (Some(76_000), Some(24_000), true));
    assert_eq!(standing(&bench), [(1, 1), (1, 2)]);
}

#[test]
fn a_quick_sector_of_the_way_back_is_no_best() {
    let mut bench = play([
        (0, race_starts(0)),
        begins(1, 1, 10),
        (156_000, Sample::from(whole(1, 2, 80_000, 76.0))),
        (157_000, Sample::from(version(1, 3, 156_000, [Some(1.0), None, None, None]))),
        (157_500, session(157_500, "SESSION FINISHED", Some(2), None)),
    ]);
    bench.arrive(160_000, Sample::from(version(4, 2, 82_000, [Some(24.0), None, None, None])));
    assert_eq!(newest(&bench, 4, 2).1.sector_1_mark, Mark::Purple);
    bench.arrive(200_000, Sample::from(Lap { date_start: None, ..version(1, 3, 0, [Some(1.0), None, None, None]) }));
    assert_eq!(standing(&bench), [(1, 1), (1, 2), (4, 2)]);
}

#[test]
fn the_lap_after_one_ended_in_the_pit_lane_is_a_pit_out_lap_without_its_flag() {
    let in_pit_lane = Lap { segments_sector_3: Some(vec![Some(2_048), Some(2_064)]), ..whole(1, 2, 0, 80.0) };
    let by_segments = play([(80_000, Sample::from(in_pit_lane)), begins(1, 3, 80_000)]);
    let by_pit =
        play([(80_000, Sample::from(whole(1, 2, 0, 80.0))), begins(1, 3, 80_000), (95_000, Sample::from(pit(1, 2, at_ms(95_000))))]);
    let pit_first =
        play([(79_000, Sample::from(pit(1, 2, at_ms(79_000)))), (80_000, Sample::from(whole(1, 2, 0, 80.0))), begins(1, 3, 80_000)]);
    for bench in [by_segments, by_pit, pit_first] {
        assert_eq!(
            [2, 3].map(|lap| newest(&bench, 1, lap).1).map(|lap| (lap.is_pit_in_lap, lap.is_pit_out_lap)),
            [(true, false), (false, true)]
        );
    }
}

#[test]
fn in_qualifying_an_out_lap_without_its_flag_is_never_a_best() {
    let stint = |number, lap_start| Sample::from(Stint { lap_start: Some(lap_start), ..crate::testing::stint(1, number) });
    let told = [
        vec![(61_000, Sample::from(pit(1, 2, at_ms(61_000))))],
        vec![(300_000, Sample::from(pit(1, 2, at_ms(61_000))))],
        vec![(62_000, stint(2, 3))],
        vec![(62_000, stint(2, 2)), (300_000, stint(2, 3))],
    ];
    for evidence in told {
        let mut samples = vec![
            (0, session(0, "SESSION STARTED", None, Some(1))),
            (60_000, Sample::from(whole(1, 2, 1_000, 80.0))),
            (140_000, Sample::from(whole(1, 3, 61_000, 75.0))),
            (230_000, Sample::from(whole(1, 4, 140_000, 81.0))),
        ];
        samples.extend(evidence);
        samples.sort_by_key(|(ms, _)| *ms);
        let mut bench = play(samples);
        let out_lap = newest(&bench, 1, 3).1;
        assert_eq!((out_lap.is_personal_best, out_lap.is_accurate, out_lap.lap_mark), (false, false, Mark::Yellow));
        bench.arrive(400_000, Sample::from(whole(1, 5, 320_000, 76.0)));
        assert_eq!(newest(&bench, 1, 5).1.lap_mark, Mark::Purple);
    }
}

#[test]
fn in_a_race_the_first_lap_of_a_stint_is_not_accurate_and_neither_the_cars_first_stint_nor_one_of_a_join_says_so() {
    let accurate = |number, lap_start, first_lap| {
        let stint = Stint { lap_start: Some(lap_start), ..crate::testing::stint(1, number) };
        let laps = (first_lap..=5).map(|lap| (i64::from(lap) * 80_000, Sample::from(whole(1, lap, i64::from(lap - 1) * 80_000, 80.0))));
        let mut bench = play([(0, race_starts(0))].into_iter().chain(laps));
        bench.arrive(410_000, Sample::from(stint));
        newest(&bench, 1, 4).1.is_accurate
    };
    assert!(!accurate(2, 4, 1));
    assert!(accurate(1, 4, 1) && accurate(2, 3, 1) && accurate(2, 4, 4));
}

#[test]
fn in_qualifying_a_lap_ended_after_the_red_flag_is_no_best() {
    let stopped = |ms| (ms, session(ms, "SESSION ABORTED", None, Some(1)));
    let lap = |red_ms| {
        let mut bench = play([
            (0, session(0, "SESSION STARTED", None, Some(1))),
            (86_000, Sample::from(whole(1, 2, 10_000, 76.0))),
            stopped(red_ms),
            (166_000, Sample::from(whole(1, 3, 90_000, 75.0))),
            (600_000, session(600_000, "SESSION STARTED", None, Some(1))),
        ]);
        bench.arrive(700_000, Sample::from(whole(1, 5, 620_000, 75.5)));
        [2, 3, 5].map(|number| newest(&bench, 1, number).1).map(|lap| (lap.is_interrupted, lap.is_personal_best))
    };
    assert_eq!(lap(150_000), [(false, false), (true, false), (false, true)]);
    assert_eq!(lap(165_800), [(false, false), (false, true), (false, false)], "ended just before: race control's dates are whole seconds");
}

#[test]
fn a_red_flag_told_after_the_lap_takes_its_time_back_as_a_best() {
    let mut bench = play([
        (0, session(0, "SESSION STARTED", None, Some(1))),
        (86_000, Sample::from(whole(1, 2, 10_000, 76.0))),
        (161_500, Sample::from(whole(1, 3, 86_000, 75.0))),
    ]);
    assert!(newest(&bench, 1, 3).1.is_personal_best);
    bench.arrive(170_000, session(150_000, "SESSION ABORTED", None, Some(1)));
    let laps = [2, 3].map(|number| newest(&bench, 1, number).1);
    assert_eq!(laps.each_ref().map(|lap| (lap.is_interrupted, lap.is_personal_best)), [(false, true), (true, false)]);
    assert_eq!((laps[1].lap_mark, laps[1].was_personal_best), (Mark::Yellow, false));
}

#[test]
fn a_car_that_was_silent_for_long_is_not_far_beyond_the_leader() {
    let leader = (2..=30).map(|number| begins(1, number, i64::from(number) * 90_000));
    let bench = play([(0, race_starts(0)), begins(4, 2, 90_000)].into_iter().chain(leader).chain([begins(4, 57, 2_700_500)]));
    assert!(standing(&bench).iter().all(|(car, lap)| *car == 1 || *lap == 2));
}

#[test]
fn an_out_lap_belongs_to_the_segment_in_which_it_is_driven_and_a_late_lap_to_the_one_in_which_it_began() {
    let out_lap = |times| Sample::from(Lap { is_pit_out_lap: true, ..version(1, 4, 1_190_000, times) });
    let bench = play([
        (0, session(0, "SESSION STARTED", None, Some(1))),
        (1_000_000, session(1_000_000, "SESSION FINISHED", None, Some(1))),
        (1_075_000, Sample::from(whole(1, 2, 999_000, 76.0))),
        begins(1, 3, 1_075_000),
        // Opened when the car comes in; it goes out again in the next segment.
        begins(1, 4, 1_190_000),
        (1_400_000, session(1_400_000, "SESSION STARTED", None, Some(2))),
        (1_500_000, out_lap([None; 4])),
        (1_560_000, out_lap([None, Some(33.0), None, None])),
        // Not known of before.
        (1_570_000, Sample::from(whole(4, 2, 900_000, 77.0))),
    ]);
    let segments = [(1, 2), (1, 3), (1, 4), (4, 2)].map(|(car, lap)| newest(&bench, car, lap).1.qualifying_segment);
    assert_eq!(segments, [Some(1), Some(1), Some(2), Some(1)]);
    assert_eq!(newest(&bench, 1, 4).1.sector_2_mark, Mark::Purple, "the first of its segment");
    assert!(newest(&bench, 1, 2).1.is_personal_best && newest(&bench, 4, 2).1.is_personal_best);
}

#[test]
fn a_time_deleted_after_a_later_segment_began_gives_its_own_segment_the_next_best_and_leaves_the_later_one() {
    let mut bench = play([
        (0, session(0, "SESSION STARTED", None, Some(1))),
        (80_000, Sample::from(whole(4, 2, 0, 76.0))),
        (160_000, Sample::from(whole(4, 3, 80_000, 75.0))),
        (200_000, session(200_000, "SESSION FINISHED", None, Some(1))),
        (400_000, session(400_000, "SESSION STARTED", None, Some(2))),
        (480_000, Sample::from(whole(4, 4, 401_000, 75.0))),
    ]);
    bench.arrive(500_000, words(500_000, "CAR 4 (NOR) TIME 1:15.000 DELETED - TRACK LIMITS AT TURN 18 LAP 3 15:02:00").1);
    let laps = [2, 3, 4].map(|lap| newest(&bench, 4, lap).1);
    assert_eq!(laps.map(|lap| (lap.is_deleted, lap.is_personal_best)), [(false, true), (true, false), (false, true)]);
}

#[test]
fn starts_after_an_end_are_segments_where_nothing_numbers_them_but_not_in_practice_nor_after_a_red_flag() {
    let segments = |kind: Option<&str>, middle: &str| {
        let documents = kind.into_iter().map(|kind| (0, document(kind)));
        let mut bench = play(documents.chain([
            (0, session(0, "SESSION STARTED", None, None)),
            (80_000, Sample::from(whole(1, 2, 1_000, 76.0))),
            (900_000, session(900_000, middle, None, None)),
            (1_200_000, session(1_200_000, "SESSION STARTED", None, None)),
        ]));
        bench.arrive(1_300_000, Sample::from(whole(1, 3, 1_210_000, 77.0)));
        [2, 3].map(|lap| newest(&bench, 1, lap).1).map(|lap| (lap.qualifying_segment, lap.is_personal_best))
    };
    let two = [(Some(1), true), (Some(2), true)];
    assert_eq!(segments(Some("Qualifying"), "SESSION FINISHED"), two);
    assert_eq!(segments(None, "SESSION FINISHED"), two);
    assert_eq!(segments(Some("Qualifying"), "SESSION ABORTED"), [(Some(1), true), (Some(1), false)]);
    assert_eq!(segments(Some("Practice"), "SESSION ABORTED"), [(None, true), (None, false)]);
    assert_eq!(segments(Some("Practice"), "SESSION FINISHED"), [(None, true), (None, false)]);
}

#[test]
fn a_lap_time_sent_again_counts_for_nothing_until_its_own_sectors_come() {
    let time = |start, lap_duration| Sample::from(Lap { lap_duration: Some(lap_duration), ..version(1, 4, start, [None; 4]) });
    let mut bench =
        play([(76_000, Sample::from(whole(1, 2, 0, 76.0))), begins(1, 3, 76_000), begins(1, 4, 200_000), (230_000, time(200_000, 76.0))]);
    assert_eq!(newest(&bench, 1, 4).1.lap_ms, None);
    bench.arrive(276_500, Sample::from(whole(1, 4, 200_000, 76.0)));
    assert_eq!(newest(&bench, 1, 4).1.lap_ms, Some(76_000), "the same time, driven again");
}

#[test]
fn a_lap_as_long_as_the_one_before_counts_without_sectors_when_it_is_told_as_it_ends() {
    let time = |number: i32| {
        let end = i64::from(number) * 76_000;
        (end + 900, Sample::from(Lap { lap_duration: Some(76.0), ..version(1, number, end - 76_000, [None; 4]) }))
    };
    let bench = play([time(2), time(3), time(4)]);
    assert_eq!([2, 3, 4].map(|lap| newest(&bench, 1, lap).1.lap_ms), [Some(76_000); 3]);
}

/// A race of some cars as the feed tells it: four versions of each lap, in order of arrival.
fn race(lap_ms: &[Vec<[i32; 3]>]) -> Vec<(i64, Lap)> {
    let mut versions = Vec::new();
    for (car, laps) in lap_ms.iter().enumerate() {
        let mut start = 0;
        for (number, sectors) in laps.iter().enumerate() {
            let mut times = [None; 4];
            let mut now = start;
            let say = |now: i64, times| (now + 300, version(car as i32 + 1, number as i32 + 1, start, times));
            versions.push(say(now, times));
            for (index, sector) in sectors.iter().enumerate() {
                now += i64::from(*sector);
                times[index] = Some(f64::from(*sector) / 1_000.0);
                if index == SECTOR_3 {
                    times[LAP] = Some(f64::from(sectors.iter().sum::<i32>()) / 1_000.0);
                }
                versions.push(say(now, times));
            }
            start = now;
        }
    }
    versions.sort_by_key(|(arrival, _)| *arrival);
    for (id, (_, lap)) in versions.iter_mut().enumerate() {
        lap.id = Some(id as i64);
    }
    versions
}

fn any_race() -> impl Strategy<Value = Vec<(i64, Lap)>> {
    let sectors = [17_000..40_000, 17_000..40_000, 17_000..40_000];
    prop::collection::vec(prop::collection::vec(sectors, 1..8), 1..5).prop_map(|laps| race(&laps))
}

fn bodies(bench: &Bench) -> Vec<facts::Lap> {
    bench.facts::<facts::Lap>().into_iter().map(|(_, fact)| fact).collect()
}

proptest! {
    #[test]
    fn sectors_add_up_to_the_lap_and_first_statements_rise_in_number(versions in any_race()) {
        let bench = play(versions.into_iter().map(|(ms, lap)| (ms, Sample::from(lap))));
        let mut last = [0; 5];
        for (header, fact) in bench.facts::<facts::Lap>() {
            if let (Some(lap), [Some(one), Some(two), Some(three)]) = (fact.lap_ms, [fact.sector_1_ms, fact.sector_2_ms, fact.sector_3_ms]) {
                prop_assert_eq!(one + two + three, lap);
            }
            if header.revision == 0 {
                let last = &mut last[fact.driver_number as usize];
                prop_assert_eq!(fact.lap_number, *last + 1);
                *last = fact.lap_number;
            }
        }
    }

    /// A reconnect replays versions already taken, some of them out of date by then.
    #[test]
    fn versions_replayed_after_a_reconnect_say_nothing(versions in any_race(), from in 0_usize..100, length in 1_usize..20) {
        let arrivals = |versions: &[(i64, Lap)]| versions.iter().map(|(ms, lap)| (*ms, Sample::from(lap.clone()))).collect::<Vec<_>>();
        let undisturbed = play(arrivals(&versions));
        let from = from % versions.len();
        let replayed = versions[from.saturating_sub(length)..from].iter().map(|(_, lap)| (versions[from].0, lap.clone()));
        let disturbed: Vec<_> = versions[..from].iter().cloned().chain(replayed).chain(versions[from..].iter().cloned()).collect();
        prop_assert_eq!(bodies(&play(arrivals(&disturbed))), bodies(&undisturbed));
    }

    /// Purple times fall from one to the next, and each car's green and purple times do.
    #[test]
    fn marks_follow_the_bests(versions in any_race()) {
        let bench = play(versions.into_iter().map(|(ms, lap)| (ms, Sample::from(lap))));
        let (mut best, mut own, mut compared) = (i32::MAX, [i32::MAX; 5], std::collections::BTreeSet::new());
        for fact in bodies(&bench) {
            let Some(lap) = fact.lap_ms else { continue };
            if !compared.insert((fact.driver_number, fact.lap_number)) {
                continue;
            }
            let own = &mut own[fact.driver_number as usize];
            let expected = if lap < best { Mark::Purple } else if lap < *own { Mark::Green } else { Mark::Yellow };
            prop_assert_eq!(fact.lap_mark, expected);
            (best, *own) = (best.min(lap), (*own).min(lap));
        }
    }
}
