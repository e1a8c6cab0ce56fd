//! Estimated order: places and gaps at the end of each lap of a race, from estimated laps alone.
//!
//! Cars are in the order in which they completed the same lap, and gaps are differences of those moments at the one line. A crossing
//! may become known after that of a car that crossed later; the places said by then are corrected.

use std::collections::BTreeMap;

use pitwall_engine::Micros;
use pitwall_engine::operator::{Context, Handle, Issued, Operator};
use pitwall_schemas::facts::{EstimatedLap, EstimatedPlace};
use serde::{Deserialize, Serialize};

/// Orders cars.
#[derive(Debug, Clone, Copy)]
pub struct EstimatedOrderOperator {
    /// Laps kept behind the leader's; a car farther back has no place.
    pub laps_kept: usize,
}

impl Default for EstimatedOrderOperator {
    fn default() -> Self {
        Self { laps_kept: 10 }
    }
}

/// Who completed the latest laps.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    laps: BTreeMap<i32, Vec<Finish>>,
    /// The highest lap that is no longer kept.
    forgotten: i32,
}

#[derive(Debug, Serialize, Deserialize)]
struct Finish {
    driver_number: i32,
    at: Micros,
    said: Option<(EstimatedPlace, Issued)>,
}

impl Operator for EstimatedOrderOperator {
    const NAME: &'static str = "estimated_order";
    const VERSION: u32 = 1;
    type Output = EstimatedPlace;
    type State = State;

    fn parameters(&self) -> Vec<(&'static str, String)> {
        vec![("laps_kept", self.laps_kept.to_string())]
    }
}

impl Handle<EstimatedLap> for EstimatedOrderOperator {
    fn apply(&self, state: &mut State, lap: &EstimatedLap, context: &mut Context<'_, EstimatedPlace>) {
        let Some(lap_number) = lap.lap_number.filter(|lap_number| *lap_number > state.forgotten) else { return };
        let finishes = state.laps.entry(lap_number).or_default();
        let at = finishes.partition_point(|finish| (finish.at, finish.driver_number) < (lap.ended_at, lap.driver_number));
        finishes.insert(at, Finish { driver_number: lap.driver_number, at: lap.ended_at, said: None });

        let first = finishes[0].at;
        let mut ahead = None;
        for (position, finish) in (1..).zip(finishes.iter_mut()) {
            let fact = EstimatedPlace {
                driver_number: finish.driver_number,
                lap_number,
                position,
                gap_ms: (finish.at.since(first) / 1_000) as i32,
                interval_ms: ahead.map(|ahead| (finish.at.since(ahead) / 1_000) as i32),
            };
            ahead = Some(finish.at);
            if finish.said.as_ref().is_some_and(|(said, _)| *said == fact) {
                continue;
            }
            let previous = finish.said.as_ref().map(|(_, issued)| *issued);
            let issued = context.draft(fact.clone()).at(finish.at).correcting(previous).emit();
            finish.said = Some((fact, issued));
        }
        while state.laps.len() > self.laps_kept {
            if let Some((lap_number, _)) = state.laps.pop_first() {
                state.forgotten = lap_number;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use pitwall_engine::graph::GraphBuilder;
    use pitwall_schemas::raw::{Location, Sample};

    use super::*;
    use crate::testing::{Bench, at_ms, location};

    /// Turns locations into laps: x is the lap, y when it ended, ms.
    struct Laps;

    impl Operator for Laps {
        const NAME: &'static str = "laps_of_the_test";
        const VERSION: u32 = 1;
        type Output = EstimatedLap;
        type State = ();
    }

    impl Handle<Location> for Laps {
        fn apply(&self, (): &mut (), sample: &Location, context: &mut Context<'_, EstimatedLap>) {
            context.emit(EstimatedLap {
                driver_number: sample.driver_number,
                lap_number: Some(sample.x),
                started_at: at_ms(0),
                ended_at: at_ms(i64::from(sample.y)),
                lap_ms: sample.y,
                error_ms: 1,
                is_in_lap: None,
            });
        }
    }

    fn bench() -> Bench {
        Bench::new(|graph: &mut GraphBuilder<Sample>| {
            let laps = graph.add(Laps, |inputs| inputs.samples::<Location>());
            graph.publish(EstimatedOrderOperator::default(), |inputs| inputs.stream(laps));
        })
    }

    /// Case 12: half a second behind the leader over the line, but a lap down.
    #[test]
    fn a_lapped_car_is_behind_all_that_completed_the_same_lap_before() {
        let mut bench = bench();
        for (car, lap, ms) in [(4, 9, 675_000), (81, 9, 685_000), (4, 10, 750_000), (30, 9, 750_500), (81, 10, 761_000)] {
            bench.arrive(i64::from(ms), location(car, at_ms(i64::from(ms)), [lap, ms, 1]));
        }
        let said: Vec<_> = bench
            .facts::<EstimatedPlace>()
            .into_iter()
            .map(|(_, place)| (place.driver_number, place.lap_number, place.position, place.gap_ms))
            .collect();
        assert_eq!(said, [(4, 9, 1, 0), (81, 9, 2, 10_000), (4, 10, 1, 0), (30, 9, 3, 75_500), (81, 10, 2, 11_000)]);
    }

    #[test]
    fn a_crossing_that_becomes_known_late_corrects_the_places_behind_it() {
        let mut bench = bench();
        for (car, ms) in [(4, 75_000), (81, 74_000)] {
            bench.arrive(80_000, location(car, at_ms(i64::from(ms)), [1, ms, 1]));
        }
        let said: Vec<_> = bench
            .facts::<EstimatedPlace>()
            .into_iter()
            .map(|(header, place)| (place.driver_number, place.position, place.gap_ms, place.interval_ms, header.revision))
            .collect();
        assert_eq!(said, [(4, 1, 0, None, 0), (81, 1, 0, None, 0), (4, 2, 1_000, Some(1_000), 1)]);
    }
}
