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
mod disputes;
pub mod drivers;
pub mod estimated_laps;
pub mod estimated_order;
pub mod gaps;
pub mod history;
pub mod known;
pub mod laps;
mod left_over;
pub mod line_crossings;
pub mod odometer;
pub mod overtakes;
pub mod penalties;
pub mod pit_passes;
pub mod pit_stops;
pub mod position_check;
pub mod positions;
pub mod presence;
pub mod probability;
pub mod race_clock;
pub mod race_control;
pub mod race_events;
pub mod reach;
mod road;
pub mod running_order;
pub mod session_kind;
pub mod standing;
pub mod start_lines;
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
    let drivers = graph.publish(drivers::DriversOperator::default(), |inputs| inputs.samples::<Driver>());
    let track_status = graph.publish(track_status::TrackStatusOperator, |inputs| inputs.samples::<RaceControl>().samples::<Lap>());
    let race_control = graph.publish(race_control::RaceControlOperator::default(), |inputs| inputs.samples::<RaceControl>());
    let laps = graph.publish(laps::LapsOperator::default(), |inputs| {
        inputs.samples::<Lap>().samples::<Pit>().samples::<Stint>().samples::<Session>().stream(track_status).stream(race_control)
    });
    let race_clock = graph.publish(race_clock::RaceClockOperator, |inputs| inputs.stream(track_status).stream(laps));
    let telemetry = graph.publish(telemetry::TelemetryOperator::default(), |inputs| inputs.samples::<CarData>().samples::<Location>());
    let timing_line = graph.publish(timing_line::TimingLineOperator::default(), |inputs| {
        inputs.samples::<Lap>().samples::<Session>().stream(track_status).stream(telemetry)
    });
    let line_crossings =
        graph.publish(line_crossings::LineCrossingsOperator::default(), |inputs| inputs.stream(timing_line).stream(telemetry));
    let estimated_laps = graph.publish(estimated_laps::EstimatedLapsOperator::default(), |inputs| {
        inputs.stream(track_status).stream(timing_line).stream(line_crossings)
    });
    let estimated_order = graph.publish(estimated_order::EstimatedOrderOperator::default(), |inputs| inputs.stream(estimated_laps));
    let positions = graph.publish(positions::PositionsOperator::default(), |inputs| {
        let inputs = inputs.samples::<Position>().samples::<Interval>().ticks();
        let inputs = inputs.stream(drivers).stream(track_status).stream(race_control).stream(laps);
        inputs.stream(telemetry).stream(estimated_laps)
    });
    graph.publish(position_check::PositionCheckOperator::default(), |inputs| inputs.stream(laps).stream(estimated_order).stream(positions));
    let gaps = graph.publish(gaps::GapsOperator, |inputs| inputs.samples::<Interval>().stream(track_status).stream(positions).ticks());
    let stints = graph.publish(stints::StintsOperator::default(), |inputs| {
        inputs.samples::<Stint>().samples::<Pit>().samples::<Lap>().stream(laps).stream(telemetry)
    });
    graph.publish(degradation::DegradationOperator::default(), |inputs| inputs.stream(laps).stream(stints));
    let pit_stops = graph.publish(pit_stops::PitStopsOperator::default(), |inputs| {
        let inputs = inputs.samples::<Pit>().stream(track_status).stream(race_control).stream(stints);
        inputs.stream(laps).stream(positions).stream(gaps)
    });
    let timing = graph.publish(timing::TimingOperator::default(), |inputs| {
        let inputs = inputs.stream(drivers).stream(track_status).stream(race_control).stream(laps).stream(positions);
        inputs.samples::<Interval>().stream(gaps).stream(stints).stream(pit_stops).stream(telemetry)
    });
    graph.publish(probability::ProbabilityOperator::default(), |inputs| {
        let inputs = inputs.stream(race_clock).stream(track_status).stream(positions).stream(gaps).stream(timing);
        inputs.samples::<Session>()
    });
    let circuit = graph.publish(circuit::CircuitOperator::default(), |inputs| inputs.samples::<Location>());
    let weather = graph.publish(weather::WeatherOperator, |inputs| inputs.samples::<Weather>());
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
        let inputs = inputs.samples::<Session>().samples::<Pit>().ticks();
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
        inputs.stream(gaps).stream(classification).stream(pit_stops).stream(overtakes).stream(battles).stream(undercuts)
    });
    graph.publish(pit_passes::PitPassesOperator::default(), |inputs| inputs.stream(estimated_laps).stream(telemetry));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bench, at_ms, car_data, driver, interval, lap, location, pit, position, race_control, stint, without_drs};
    use pitwall_schemas::codec::Reading;
    use pitwall_schemas::facts::{Classification, Telemetry, Timing};

    /// Two cars through a race of two laps without DRS and team radio, each document with an `_id` where the feed gives one.
    fn race_of_two_laps() -> Vec<(i64, Sample)> {
        let mut id = 0;
        let mut next = || {
            id += 1;
            Some(id)
        };
        let status = |ms, words: &str, lap_number| {
            let category = Some("SessionStatus".into());
            Sample::from(RaceControl { category, lap_number: Some(lap_number), ..race_control(at_ms(ms), words) })
        };
        let mut race = vec![(0, status(0, "SESSION STARTED", 1))];
        for (place, car) in [(1, 1), (2, 4)] {
            race.push((5, Sample::from(Driver { name_acronym: Some(format!("C{car}")), id: next(), ..driver(car) })));
            race.push((10, Sample::from(Position { id: next(), ..position(car, at_ms(10), place) })));
            let (lap_start, lap_end, compound) = (Some(1), Some(1), Some("SOFT".into()));
            race.push((20, Sample::from(Stint { lap_start, lap_end, compound, tyre_age_at_start: Some(3), id: next(), ..stint(car, 1) })));
            race.push((30, Sample::from(Lap { date_start: Some(at_ms(0)), id: next(), ..lap(car, 1) })));
            // The feed's samples come in packets, and not in order of their dates.
            race.extend([120, 360, 240, 600, 480].map(|ms| (1_000, without_drs(car_data(car, at_ms(ms), 290)))));
            race.extend([100, 300, 200].map(|ms| (1_500, location(car, at_ms(ms), [ms as i32, 50, 7]))));
            for number in [1, 2] {
                let (begun, behind) = (i64::from(number - 1) * 80_000, i64::from(place - 1) * 2_000);
                let times = |sector_3: Option<f64>| Lap {
                    date_start: Some(at_ms(if number == 1 { 0 } else { begun + behind })),
                    duration_sector_1: Some(25.0),
                    duration_sector_2: Some(30.0),
                    duration_sector_3: sector_3,
                    ..lap(car, number)
                };
                race.push((begun + behind + 60_000, Sample::from(Lap { id: next(), ..times(None) })));
                race.push((begun + behind + 80_000, Sample::from(Lap { id: next(), lap_duration: Some(80.0), ..times(Some(25.0)) })));
                let distance = Reading::Number(behind as f64 / 1_000.0);
                let at = begun + behind + 79_000;
                let gap = Interval { gap_to_leader: distance.clone(), interval: distance, id: next(), ..interval(car, at_ms(at)) };
                race.push((at, Sample::from(gap)));
            }
        }
        race.push((90_000, Sample::from(Position { id: next(), ..position(4, at_ms(90_000), 1) })));
        race.push((90_000, Sample::from(Position { id: next(), ..position(1, at_ms(90_000), 2) })));
        race.push((110_000, Sample::from(Pit { lane_duration: Some(20.0), id: next(), ..pit(1, 1, at_ms(110_000)) })));
        race.push((120_000, Sample::from(race_control(at_ms(120_000), "FIA STEWARDS: 5 SECOND TIME PENALTY FOR CAR 4 (C4) - SPEEDING"))));
        race.push((163_000, status(163_000, "SESSION FINISHED", 2)));
        race.sort_by_key(|(ms, _)| *ms);
        race
    }

    fn play(race: impl IntoIterator<Item = (i64, Sample)>) -> Bench {
        let mut bench = Bench::new(join);
        for (ms, sample) in race {
            bench.arrive(ms, sample);
        }
        bench.idle(300_000);
        bench
    }

    /// Case 25.
    #[test]
    fn duplicated_out_of_order_and_replayed_documents_without_drs_and_radio_give_the_same_projection_byte_for_byte() {
        let race = race_of_two_laps();
        let undisturbed = play(race.clone());
        let expected = undisturbed.projection();
        let rows = undisturbed.facts::<Timing>();
        assert!(rows.iter().any(|(_, row)| (row.driver_number, row.position, row.last_lap_ms) == (4, Some(1), Some(80_000))));
        assert!(undisturbed.facts::<Classification>().iter().any(|(_, line)| line.penalty_seconds == 5));
        assert!(undisturbed.facts::<Telemetry>().iter().all(|(_, packet)| packet.samples.iter().all(|row| row.drs.is_none())));
        assert!(expected.keys().all(|(kind, _)| *kind != "team_radio"));
        let different = play(race.iter().filter(|(ms, _)| *ms != 160_000).cloned()).projection();
        assert!(different != expected, "one document less is noticed");

        let twice = race.iter().flat_map(|arrival| [arrival.clone(), arrival.clone()]);
        assert_eq!(play(twice).projection(), expected, "each document twice");

        let reversed = race.chunk_by(|one, other| one.0 == other.0).flat_map(|packet| packet.iter().rev().cloned());
        assert_eq!(play(reversed).projection(), expected, "each packet in reverse");

        for from in 1..=race.len() {
            let again = race[..from].iter().map(|(_, sample)| (race[from - 1].0, sample.clone()));
            let replayed = race[..from].iter().cloned().chain(again).chain(race[from..].iter().cloned());
            let projection = play(replayed).projection();
            let different: Vec<_> = expected.iter().filter(|(key, body)| projection.get(*key) != Some(*body)).collect();
            assert!(projection == expected, "everything so far again after document {from}: {different:?}");
        }
    }
}
