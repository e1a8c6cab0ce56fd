//! The Dutch race without `laps`, `position`, `intervals`, `overtakes`, `pit` and `stints`: laps, order, gaps and pit passes are derived
//! from `location` and `car_data`, and agree with what the removed collections said. The rates stand in `docs/derivations.md`.
//!
//! Lap times and pit-lane times of the reference are real; the reference's order is the sum of its lap times.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "oracles are files")]

mod race;

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow::Continue;
use std::sync::LazyLock;

use pitwall_engine::backtest::CLOSING_IDLE;
use pitwall_engine::session::Output;
use pitwall_schemas::codec::{Avro, Fact};
use pitwall_schemas::facts::{EstimatedLap, EstimatedPlace, LineSource, PitPass, PositionCheck, TimingLine};
use pitwall_schemas::raw::{Collection, Sample};

/// What the race says with and without the removed collections.
struct Said {
    lines: Vec<TimingLine>,
    laps: BTreeMap<(i32, i32), EstimatedLap>,
    places: BTreeMap<(i32, i32), EstimatedPlace>,
    checks: Vec<PositionCheck>,
    passes: Vec<PitPass>,
}

/// What the feed said of a pass: car, lap, time in the lane in ms.
type Pit = (i32, i32, i32);

fn run(keeps: impl Fn(&Sample) -> bool) -> (Said, Vec<Pit>) {
    let mut archive = race::dutch();
    let (mut session, mut output) = (race::session(&archive), Output::default());
    let mut said = Said { lines: Vec::new(), laps: BTreeMap::new(), places: BTreeMap::new(), checks: Vec::new(), passes: Vec::new() };
    let mut pits = Vec::new();
    let mut keep = |output: &mut Output| {
        for fact in output.facts.iter() {
            let (_, mut body) = fact.header().unwrap();
            match fact.kind.name {
                name if name == TimingLine::KIND => said.lines.push(TimingLine::decode(&mut body).unwrap()),
                name if name == EstimatedLap::KIND => {
                    let lap = EstimatedLap::decode(&mut body).unwrap();
                    said.laps.insert((lap.driver_number, lap.lap_number.unwrap()), lap);
                }
                name if name == EstimatedPlace::KIND => {
                    let place = EstimatedPlace::decode(&mut body).unwrap();
                    said.places.insert((place.driver_number, place.lap_number), place);
                }
                name if name == PositionCheck::KIND => said.checks.push(PositionCheck::decode(&mut body).unwrap()),
                name if name == PitPass::KIND => said.passes.push(PitPass::decode(&mut body).unwrap()),
                _ => {}
            }
        }
        output.clear();
    };
    let mut ingest_seq = 0;
    race::for_each(&mut archive, |_, mut raw| {
        let sample = raw.event.as_ref().unwrap();
        if let Sample::Pit(pit) = sample {
            pits.push((pit.driver_number, pit.lap_number, (pit.lane_duration.unwrap() * 1_000.0).round() as i32));
        }
        if keeps(sample) {
            raw.ingest_seq = ingest_seq;
            ingest_seq += 1;
            session.take(&raw, &mut output).unwrap();
            keep(&mut output);
        }
        Continue(())
    });
    let last = session.sequencer().last_known_at().unwrap();
    session.take_idle(last.plus(CLOSING_IDLE), &mut output).unwrap();
    keep(&mut output);
    (said, pits)
}

/// The race without what it could be copied from.
static FROM_RAW: LazyLock<(Said, Vec<Pit>)> = LazyLock::new(|| {
    use Collection::{Intervals, Laps, Overtakes, Pit, Position, Stints};
    run(|sample| ![Intervals, Laps, Overtakes, Pit, Position, Stints].contains(&sample.collection()))
});

/// The whole race.
static WITH_ALL: LazyLock<(Said, Vec<Pit>)> = LazyLock::new(|| run(|_| true));

/// OpenF1's lap times, ms, by car and lap.
fn reference() -> BTreeMap<(i32, i32), i32> {
    let text = fs::read_to_string(race::data("dutch_2025_openf1_laps.csv")).unwrap();
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap().split(',').collect();
    let column = |name: &str| names.iter().position(|found| *found == name).unwrap();
    let (car, lap, time) = (column("driver_number"), column("lap_number"), column("lap_duration"));
    let row = |line: &str| {
        let fields: Vec<&str> = line.split(',').collect();
        let seconds: f64 = fields[time].parse().unwrap();
        ((fields[car].parse().unwrap(), fields[lap].parse().unwrap()), (seconds * 1_000.0).round() as i32)
    };
    lines.map(row).collect()
}

/// The value that `percent` of the sorted values do not exceed.
fn percentile(values: &[i32], percent: usize) -> i32 {
    let mut values = values.to_vec();
    values.sort_unstable();
    values[(values.len() * percent).div_ceil(100).saturating_sub(1)]
}

/// Errors of lap times in ms, and how many of them are within their bounds; lap 1 apart, whose start no location tells.
fn errors(said: &Said, is_first: bool) -> (Vec<i32>, usize) {
    let reference = reference();
    let pairs = said.laps.iter().filter(|((_, lap), _)| (*lap == 1) == is_first);
    let pairs: Vec<(i32, i32)> =
        pairs.filter_map(|(key, lap)| reference.get(key).map(|time| ((lap.lap_ms - time).abs(), lap.error_ms))).collect();
    let within = pairs.iter().filter(|(error, bound)| error <= bound).count();
    (pairs.into_iter().map(|(error, _)| error).collect(), within)
}

#[test]
fn laps_are_found_and_timed_from_locations_alone() {
    let (said, _) = &*FROM_RAW;
    assert_eq!(said.lines.len(), 1);
    assert_eq!(said.lines[0].source, LineSource::Grid);

    let reference = reference();
    let found = reference.keys().filter(|key| said.laps.contains_key(key)).count();
    let invented = said.laps.keys().filter(|key| !reference.contains_key(key)).count();
    let (errors_of_laps, within) = errors(said, false);
    let (median, p90) = (percentile(&errors_of_laps, 50), percentile(&errors_of_laps, 90));
    let (first, first_within) = errors(said, true);
    println!(
        "laps {found} of {}, {invented} invented; error median {median} ms, p90 {p90} ms, p99 {} ms; {within} of {} within bounds; \
         lap 1: median {} ms, {first_within} of {} within bounds",
        reference.len(),
        percentile(&errors_of_laps, 99),
        errors_of_laps.len(),
        percentile(&first, 50),
        first.len(),
    );
    assert!(found * 100 >= reference.len() * 99, "{found} of {} laps found", reference.len());
    assert_eq!(invented, 0);
    assert!(median <= 60 && p90 <= 200, "lap-time error: median {median} ms, p90 {p90} ms");
    assert!(within * 100 >= errors_of_laps.len() * 95, "{within} of {} laps within their error bounds", errors_of_laps.len());
    assert_eq!(first_within, first.len(), "lap 1 is within its error bound");
}

#[test]
fn the_order_at_lap_ends_follows_from_locations_alone() {
    let (said, _) = &*FROM_RAW;
    let reference = reference();
    let mut totals = BTreeMap::<i32, Vec<(i32, i32)>>::new();
    let mut total = BTreeMap::<i32, i32>::new();
    for ((car, lap), time) in &reference {
        let so_far = total.entry(*car).or_default();
        *so_far += time;
        totals.entry(*lap).or_default().push((*so_far, *car));
    }
    let (mut equal, mut whole, mut gap_errors) = (0, 0, Vec::new());
    for (lap, cars) in &mut totals {
        cars.sort_unstable();
        let first = cars[0].0;
        let mut is_whole = true;
        for (position, (time, car)) in (1..).zip(cars.iter()) {
            let place = said.places.get(&(*car, *lap));
            let is_equal = place.is_some_and(|place| place.position == position);
            equal += usize::from(is_equal);
            is_whole &= is_equal;
            gap_errors.extend(place.map(|place| (place.gap_ms - (time - first)).abs()));
        }
        whole += usize::from(is_whole);
    }
    println!(
        "places {equal} of {}, whole orders {whole} of {}; gap error median {} ms, p90 {} ms",
        reference.len(),
        totals.len(),
        percentile(&gap_errors, 50),
        percentile(&gap_errors, 90)
    );
    assert!(equal * 100 >= reference.len() * 98, "{equal} of {} places at lap ends are equal", reference.len());
    assert!(percentile(&gap_errors, 90) <= 500, "gaps at lap ends");
}

#[test]
fn pit_passes_follow_from_locations_and_speed_alone() {
    let (said, pits) = &*FROM_RAW;
    let passes: BTreeMap<(i32, i32), &PitPass> =
        said.passes.iter().map(|pass| ((pass.driver_number, pass.lap_number.unwrap()), pass)).collect();
    assert_eq!(passes.len(), said.passes.len());
    let (mut errors, mut missing) = (Vec::new(), Vec::new());
    for (car, lap, lane_ms) in pits {
        match passes.get(&(*car, *lap)) {
            Some(pass) => errors.push(pass.lane_ms - lane_ms),
            None => missing.push((*car, *lap)),
        }
    }
    let invented: Vec<_> = passes.keys().filter(|(car, lap)| !pits.iter().any(|pit| (pit.0, pit.1) == (*car, *lap))).collect();
    println!(
        "passes {} of {}, missing {missing:?}, invented {invented:?}; lane time longer by: median {} ms, p90 {} ms, max {} ms",
        errors.len(),
        pits.len(),
        percentile(&errors, 50),
        percentile(&errors, 90),
        percentile(&errors, 100)
    );
    assert!(errors.len() >= pits.len() - 1, "missing {missing:?}");
    assert!(invented.is_empty(), "{invented:?}");
    assert!(errors.iter().all(|error| error.abs() <= 2_500), "{errors:?}");
    assert!(said.passes.iter().all(|pass| pass.stationary_ms > 1_000), "every pass of this race was a stop");
}

#[test]
fn the_line_learned_from_laps_is_the_one_from_the_grid() {
    let (said, _) = &*WITH_ALL;
    let (grid, laps) = (&said.lines[0], said.lines.last().unwrap());
    assert_eq!((grid.source, laps.source), (LineSource::Grid, LineSource::Laps));
    let along = f64::from(laps.x - grid.x) * grid.heading_x + f64::from(laps.y - grid.y) * grid.heading_y;
    println!(
        "{} lines; the last is {along:.0} dm beyond the grid's, error {} m, {:?} ms",
        said.lines.len(),
        laps.error_m,
        laps.clock_offset_ms
    );
    assert!(along.abs() <= f64::from(laps.error_m * 10), "{along} dm apart");
    assert!(said.lines.windows(2).all(|lines| lines[1].error_m < lines[0].error_m), "a line is corrected by a better one only");
}

/// They differ where the feed is between two orders: on laps with pit stops and retirements, whose cars it drops later.
#[test]
fn the_feeds_order_and_the_locations_order_agree() {
    let (said, _) = &*WITH_ALL;
    let last = said.checks.last().unwrap();
    println!("feed and locations disagree on {} of {} places at lap ends", said.checks.len(), last.comparisons);
    assert!(last.comparisons > 1_300);
    assert!(said.checks.len() * 100 <= last.comparisons as usize * 7, "{} of {} places disagree", said.checks.len(), last.comparisons);
    let (errors, within) = errors(said, false);
    println!(
        "with laps: error median {} ms, p90 {} ms, {within} of {} within bounds",
        percentile(&errors, 50),
        percentile(&errors, 90),
        errors.len()
    );
    assert!(within * 100 >= errors.len() * 95);
}
