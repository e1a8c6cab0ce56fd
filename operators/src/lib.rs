//! Formula 1 derivations: one operator a file, and the [`graph`] that joins them.
//!
//! Each module says in its first sentence what it derives from what, and where the rule comes from.

pub mod by_driver;
pub mod drivers;
pub mod known;
pub mod laps;
pub mod race_clock;
pub mod telemetry;
#[cfg(test)]
mod testing;
pub mod track_status;

use pitwall_engine::graph::{Graph, GraphBuilder, GraphError};
use pitwall_engine::limits::Limits;
use pitwall_schemas::raw::{CarData, Driver, Lap, Location, RaceControl, Sample};

/// The graph of all operators.
///
/// # Errors
/// When the operators do not fit together; a test builds it, so a released graph does.
pub fn graph(limits: &Limits) -> Result<Graph<Sample>, GraphError> {
    let mut graph = GraphBuilder::default();
    join(&mut graph);
    graph.build(limits.clone())
}

/// Adds every operator, in topological order, and joins it to its inputs.
pub fn join(graph: &mut GraphBuilder<Sample>) {
    graph.publish(drivers::DriversOperator, |inputs| inputs.samples::<Driver>());
    let track_status = graph.publish(track_status::TrackStatusOperator, |inputs| inputs.samples::<RaceControl>().samples::<Lap>());
    let laps = graph.publish(laps::LapsOperator::default(), |inputs| inputs.samples::<Lap>().stream(track_status));
    graph.publish(race_clock::RaceClockOperator, |inputs| inputs.stream(track_status).stream(laps));
    graph.publish(telemetry::TelemetryOperator::default(), |inputs| inputs.samples::<CarData>().samples::<Location>());
}
