//! Starting grid: `starting_grid` documents as the place each car starts from, beside its place by qualifying laps; a penalty is the
//! difference, so both are kept.
//!
//! A document sent again says nothing; one that differs corrects what was said. As the grid grows, the places by qualifying laps move.

use pitwall_engine::operator::{Context, Handle, Issued, Operator};
use pitwall_schemas::facts;
use pitwall_schemas::raw::StartingGrid;
use serde::{Deserialize, Serialize};

use crate::by_driver::ByDriver;

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
    /// `_id` of the newest version taken.
    version: Option<i64>,
    position: i32,
    lap_ms: Option<i32>,
    said: Option<facts::StartingGrid>,
    cause: u64,
    issued: Option<Issued>,
}

impl Operator for StartingGridOperator {
    const NAME: &'static str = "starting_grid";
    const VERSION: u32 = 1;
    type Output = facts::StartingGrid;
    type State = State;
}

impl Handle<StartingGrid> for StartingGridOperator {
    fn apply(&self, state: &mut State, document: &StartingGrid, context: &mut Context<'_, facts::StartingGrid>) {
        let seq = context.seq();
        let place = state.cars.entry(document.driver_number);
        let lap_ms = document.lap_duration.map(|seconds| (seconds * 1_000.0).round() as i32).filter(|time| *time > 0);
        if document.id < place.version || (place.said.is_some() && (document.position, lap_ms) == (place.position, place.lap_ms)) {
            return;
        }
        (place.version, place.position, place.lap_ms, place.cause) = (document.id, document.position, lap_ms, seq);
        let mut laps: Vec<i32> = state.cars.iter().filter_map(|(_, place)| place.lap_ms).collect();
        laps.sort_unstable();
        for (driver_number, place) in state.cars.iter_mut() {
            // Two equal laps share a place here; the grid tells which came first.
            let qualifying_position = place
                .lap_ms
                .and_then(|lap| laps.binary_search(&lap).ok())
                .map(|_| laps.iter().filter(|other| Some(**other) < place.lap_ms).count() as i32 + 1);
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

    #[test]
    fn a_grid_penalty_is_the_difference_to_the_place_in_qualifying() {
        let mut bench = Bench::new(|graph| {
            graph.publish(StartingGridOperator, |inputs| inputs.samples::<StartingGrid>());
        });
        // As at Imola in 2024: second in qualifying, three places back for impeding would be fifth.
        for (ms, (driver_number, position, lap)) in (0..).zip([(1, 1, 74.746), (81, 5, 74.820), (4, 2, 74.837), (4, 2, 74.837)]) {
            let lap_duration = Some(lap);
            bench.arrive(
                ms,
                Sample::from(StartingGrid { meeting_key: 1235, session_key: SESSION, driver_number, position, lap_duration, id: None }),
            );
        }
        let said: Vec<_> = bench
            .facts::<facts::StartingGrid>()
            .iter()
            .map(|(_, fact)| (fact.driver_number, fact.position, fact.qualifying_position, fact.places_lost))
            .collect();
        assert_eq!(said, [(1, 1, Some(1), Some(0)), (81, 5, Some(2), Some(3)), (4, 2, Some(3), Some(-1))]);
    }
}
