//! Starting grid: `starting_grid` documents as the place each car starts from, beside its place by qualifying laps; a penalty is the
//! difference, so both are kept.
//!
//! Rules, with their source:
//! * Laps compare within a segment of qualifying only: who went out in the second may have been faster than some who drove in the third. So
//!   the place by laps is that among the first ten of the grid, the next five (of 22 cars six), or the others (sporting regulations). Of
//!   equal laps the one set first is ahead, which the grid tells.
//! * A penalty that takes a car over one of these limits makes the places by laps on either side of it uncertain by one.
//! * A document sent again says nothing; one that differs corrects what was said. As the grid grows, the places by qualifying laps move.

use pitwall_engine::operator::{Context, Handle, Issued, Operator};
use pitwall_schemas::facts;
use pitwall_schemas::raw::StartingGrid;
use serde::{Deserialize, Serialize};

use crate::by_driver::ByDriver;
use crate::known::Version;
use crate::session_kind::qualifying_cuts;

/// Reads the grid.
#[derive(Debug, Clone, Copy, Default)]
pub struct StartingGridOperator;

/// The grid so far.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    cars: ByDriver<Place>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Place {
    version: Version,
    position: i32,
    lap_ms: Option<i32>,
    said: Option<facts::StartingGrid>,
    cause: u64,
    issued: Option<Issued>,
}

impl Operator for StartingGridOperator {
    const NAME: &'static str = "starting_grid";
    const VERSION: u32 = 3;
    type Output = facts::StartingGrid;
    type State = State;
}

impl Handle<StartingGrid> for StartingGridOperator {
    fn apply(&self, state: &mut State, document: &StartingGrid, context: &mut Context<'_, facts::StartingGrid>) {
        let seq = context.seq();
        let place = state.cars.entry(document.driver_number);
        let lap_ms = document.lap_duration.map(|seconds| (seconds * 1_000.0).round() as i32).filter(|time| *time > 0);
        if !place.version.take(document.id) || (place.said.is_some() && (document.position, lap_ms) == (place.position, place.lap_ms)) {
            return;
        }
        (place.position, place.lap_ms, place.cause) = (document.position, lap_ms, seq);
        let cuts = qualifying_cuts(state.cars.len()).map(|cut| cut as i32);
        let first_of_part = |position: i32| cuts.into_iter().find(|cut| position > *cut).unwrap_or(0) + 1;
        let laps: Vec<(i32, i32)> =
            state.cars.iter().filter_map(|(_, place)| place.lap_ms.map(|lap_ms| (lap_ms, place.position))).collect();
        for (driver_number, place) in state.cars.iter_mut() {
            let first = first_of_part(place.position);
            let is_faster = |own: i32| {
                let others = laps.iter().filter(move |(_, position)| first_of_part(*position) == first);
                others.filter(|other| **other < (own, place.position)).count() as i32
            };
            let qualifying_position = place.lap_ms.map(|own| first + is_faster(own));
            let fact = facts::StartingGrid {
                driver_number,
                position: place.position,
                lap_ms: place.lap_ms,
                qualifying_position,
                places_lost: qualifying_position.map(|qualifying| place.position - qualifying),
            };
            if place.said.as_ref() != Some(&fact) {
                let causes = if place.cause == seq { vec![seq] } else { vec![place.cause, seq] };
                place.said = Some(fact.clone());
                place.issued = Some(context.draft(fact).because(&causes).correcting(place.issued).emit());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bench, SESSION};
    use pitwall_schemas::raw::Sample;

    fn grid(cars: impl IntoIterator<Item = (i32, i32, Option<f64>)>) -> Bench {
        let mut bench = Bench::new(|graph| {
            graph.publish(StartingGridOperator, |inputs| inputs.samples::<StartingGrid>());
        });
        for (ms, (driver_number, position, lap_duration)) in (0..).zip(cars) {
            bench.arrive(
                ms,
                Sample::from(StartingGrid { meeting_key: 1235, session_key: SESSION, driver_number, position, lap_duration, id: None }),
            );
        }
        bench
    }

    #[test]
    fn who_went_out_in_the_second_segment_with_a_faster_lap_has_no_place_among_the_first_ten() {
        // As at Zandvoort in 2025: the eleventh was faster in the second segment than the eighth in the third; two laps are equal.
        let laps =
            [70.1, 70.2, 70.3, 70.4, 70.5, 70.6, 70.7, 70.8, 70.9, 71.0, 70.75, 71.1, 71.1, 71.3, 71.4, 72.0, 72.1, 72.2, 72.3, 72.4];
        let bench = grid((1..).zip(laps).map(|(place, lap)| (place, place, Some(lap))));
        let newest: std::collections::BTreeMap<i32, _> = bench
            .facts::<facts::StartingGrid>()
            .into_iter()
            .map(|(_, fact)| (fact.driver_number, (fact.qualifying_position, fact.places_lost)))
            .collect();
        assert_eq!(newest, (1..=20).map(|place| (place, (Some(place), Some(0)))).collect());
    }

    #[test]
    fn a_grid_penalty_is_the_difference_to_the_place_in_qualifying() {
        // As at Imola in 2024: second in qualifying, three places back for impeding would be fifth.
        let bench = grid([(1, 1, Some(74.746)), (81, 5, Some(74.820)), (4, 2, Some(74.837)), (4, 2, Some(74.837))]);
        let said: Vec<_> = bench
            .facts::<facts::StartingGrid>()
            .iter()
            .map(|(_, fact)| (fact.driver_number, fact.position, fact.qualifying_position, fact.places_lost))
            .collect();
        assert_eq!(said, [(1, 1, Some(1), Some(0)), (81, 5, Some(2), Some(3)), (4, 2, Some(3), Some(-1))]);
    }
}
