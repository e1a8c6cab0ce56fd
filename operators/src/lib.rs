//! Formula 1 derivations: one operator a file, and the [`graph`] that joins them.
//!
//! Each module says in its first sentence what it derives from what, and where the rule comes from.

pub mod battles;
pub mod by_driver;
pub mod championship;
pub mod circuit;
pub mod classification;
pub mod completeness;
pub mod degradation;
pub mod drivers;
pub mod estimated_laps;
pub mod estimated_order;
pub mod gaps;
pub mod known;
pub mod laps;
pub mod line_crossings;
pub mod odometer;
pub mod overtakes;
pub mod pit_passes;
pub mod pit_stops;
pub mod position_check;
pub mod positions;
pub mod probability;
pub mod race_clock;
pub mod race_control;
pub mod race_events;
pub mod session_kind;
pub mod starting_grid;
pub mod stints;
pub mod team_radio;
pub mod telemetry;
#[cfg(test)]
mod testing;
pub mod timing;
pub mod timing_line;
pub mod track_status;
pub mod undercuts;
pub mod weather;
mod win_by_position;

use pitwall_engine::graph::{Graph, GraphBuilder, GraphError};
use pitwall_engine::limits::Limits;
use pitwall_schemas::raw::{
    CarData, ChampionshipDriver, ChampionshipTeam, Driver, Interval, Lap, Location, Pit, Position, RaceControl, Sample, Session,
    SessionResult, StartingGrid, Stint, TeamRadio, Weather,
};

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
    let drivers = graph.publish(drivers::DriversOperator, |inputs| inputs.samples::<Driver>());
    let track_status = graph.publish(track_status::TrackStatusOperator, |inputs| inputs.samples::<RaceControl>().samples::<Lap>());
    let race_control = graph.publish(race_control::RaceControlOperator::default(), |inputs| inputs.samples::<RaceControl>());
    let laps = graph.publish(laps::LapsOperator::default(), |inputs| {
        inputs.samples::<Lap>().samples::<Pit>().stream(track_status).stream(race_control)
    });
    let race_clock = graph.publish(race_clock::RaceClockOperator, |inputs| inputs.stream(track_status).stream(laps));
    let positions = graph.publish(positions::PositionsOperator::default(), |inputs| inputs.samples::<Position>());
    let gaps = graph.publish(gaps::GapsOperator, |inputs| inputs.samples::<Interval>().stream(positions));
    let stints = graph.publish(stints::StintsOperator::default(), |inputs| inputs.samples::<Stint>().samples::<Pit>().stream(laps));
    graph.publish(degradation::DegradationOperator::default(), |inputs| inputs.stream(laps).stream(stints));
    let pit_stops = graph.publish(pit_stops::PitStopsOperator::default(), |inputs| {
        let inputs = inputs.samples::<Pit>().stream(track_status).stream(race_control).stream(stints);
        inputs.stream(laps).stream(positions).stream(gaps)
    });
    let timing = graph.publish(timing::TimingOperator::default(), |inputs| {
        let inputs = inputs.stream(drivers).stream(track_status).stream(laps).stream(positions).stream(gaps).stream(stints);
        inputs.stream(pit_stops)
    });
    graph.publish(probability::ProbabilityOperator::default(), |inputs| {
        let inputs = inputs.stream(race_clock).stream(track_status).stream(positions).stream(gaps).stream(timing);
        inputs.samples::<Session>()
    });
    let circuit = graph.publish(circuit::CircuitOperator::default(), |inputs| inputs.samples::<Location>());
    let weather = graph.publish(weather::WeatherOperator, |inputs| inputs.samples::<Weather>());
    let telemetry = graph.publish(telemetry::TelemetryOperator::default(), |inputs| inputs.samples::<CarData>().samples::<Location>());
    graph.publish(team_radio::TeamRadioOperator::default(), |inputs| inputs.samples::<TeamRadio>().stream(laps));
    graph.publish(starting_grid::StartingGridOperator, |inputs| inputs.samples::<StartingGrid>());
    let classification = graph.publish(classification::ClassificationOperator, |inputs| {
        let inputs = inputs.stream(drivers).stream(track_status).stream(race_control).stream(laps).stream(timing).stream(circuit);
        inputs.samples::<Session>().samples::<SessionResult>()
    });
    graph.publish(championship::ChampionshipOperator::default(), |inputs| {
        inputs.samples::<ChampionshipDriver>().samples::<ChampionshipTeam>().stream(drivers).stream(classification)
    });
    graph.publish(completeness::CompletenessOperator::default(), |inputs| {
        let inputs = inputs.stream(drivers).stream(track_status).stream(race_control).stream(laps).stream(positions);
        inputs.stream(gaps).stream(stints).stream(weather).stream(telemetry)
    });
    let overtakes = graph.publish(overtakes::OvertakesOperator::default(), |inputs| {
        let inputs = inputs.stream(track_status).stream(race_control).stream(laps).stream(positions).stream(gaps);
        inputs.stream(timing).stream(pit_stops)
    });
    let battles = graph.publish(battles::BattlesOperator::default(), |inputs| {
        let inputs = inputs.stream(track_status).stream(laps).stream(positions).stream(gaps);
        inputs.stream(pit_stops).stream(overtakes)
    });
    let undercuts = graph.publish(undercuts::UndercutsOperator::default(), |inputs| {
        inputs.stream(track_status).stream(laps).stream(positions).stream(gaps).stream(pit_stops)
    });
    graph.publish(race_events::RaceEventsOperator::default(), |inputs| {
        let inputs = inputs.stream(track_status).stream(race_control).stream(laps).stream(positions).stream(timing).stream(weather);
        inputs.stream(pit_stops).stream(overtakes).stream(battles).stream(undercuts)
    });
    let timing_line =
        graph.publish(timing_line::TimingLineOperator::default(), |inputs| inputs.samples::<Lap>().stream(track_status).stream(telemetry));
    let line_crossings =
        graph.publish(line_crossings::LineCrossingsOperator::default(), |inputs| inputs.stream(timing_line).stream(telemetry));
    let estimated_laps = graph.publish(estimated_laps::EstimatedLapsOperator::default(), |inputs| {
        inputs.stream(track_status).stream(timing_line).stream(line_crossings)
    });
    let estimated_order = graph.publish(estimated_order::EstimatedOrderOperator::default(), |inputs| inputs.stream(estimated_laps));
    graph.publish(position_check::PositionCheckOperator::default(), |inputs| inputs.stream(estimated_order).stream(positions));
    graph.publish(pit_passes::PitPassesOperator::default(), |inputs| inputs.stream(estimated_laps).stream(telemetry));
}
