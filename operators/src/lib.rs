//! Formula 1 derivations: one operator a file, and the [`graph`] that joins them.
//!
//! Each module says in its first sentence what it derives from what, and where the rule comes from.

pub mod by_driver;
pub mod race_clock;
pub mod telemetry;
#[cfg(test)]
mod testing;

use pitwall_engine::graph::{Graph, GraphBuilder, GraphError};
use pitwall_engine::limits::Limits;
use pitwall_schemas::raw::{CarData, Location, Sample};

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
    graph.publish(telemetry::TelemetryOperator::default(), |inputs| inputs.samples::<CarData>().samples::<Location>());
}
