//! Weather: `weather` documents as the newest reading, with the beginning of the rain.
//!
//! Rules: a reading older than the newest is replayed and ignored; one that says the same is silent; a value that is not sent is not
//! known, since each document is a reading of its own. Rain falls when `rainfall` is above 0 (OpenF1).

use pitwall_engine::Micros;
use pitwall_engine::operator::{Context, Handle, Operator};
use pitwall_schemas::facts;
use pitwall_schemas::raw::Weather;
use serde::{Deserialize, Serialize};

/// Reads the weather station.
#[derive(Debug, Clone, Copy, Default)]
pub struct WeatherOperator;

/// The newest reading.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    newest: Option<Micros>,
    said: Option<facts::Weather>,
}

impl Operator for WeatherOperator {
    const NAME: &'static str = "weather";
    const VERSION: u32 = 1;
    type Output = facts::Weather;
    type State = State;
}

impl Handle<Weather> for WeatherOperator {
    fn apply(&self, state: &mut State, reading: &Weather, context: &mut Context<'_, facts::Weather>) {
        if state.newest.is_some_and(|newest| reading.date <= newest) {
            return;
        }
        state.newest = Some(reading.date);
        let is_raining = reading.rainfall.map(|rainfall| rainfall > 0.0);
        let began = state.said.as_ref().and_then(|said| said.rain_began_at);
        let fact = facts::Weather {
            air_temperature: reading.air_temperature,
            track_temperature: reading.track_temperature,
            humidity: reading.humidity,
            pressure: reading.pressure,
            is_raining,
            wind_direction: reading.wind_direction.map(|degrees| degrees.round() as i32),
            wind_speed: reading.wind_speed,
            rain_began_at: if is_raining == Some(true) { began.or(Some(reading.date)) } else { None },
        };
        if state.said.as_ref() != Some(&fact) {
            state.said = Some(fact.clone());
            context.emit(fact);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bench, SESSION, at_ms};
    use pitwall_schemas::raw::Sample;

    fn play(readings: &[(i64, Option<f64>)]) -> Vec<facts::Weather> {
        let mut bench = Bench::new(|graph| {
            graph.publish(WeatherOperator, |inputs| inputs.samples::<Weather>());
        });
        for (ms, rainfall) in readings {
            let date = at_ms(*ms);
            bench.arrive(
                100_000 + ms,
                Sample::from(Weather {
                    meeting_key: 1267,
                    session_key: SESSION,
                    date,
                    air_temperature: Some(20.5),
                    track_temperature: None,
                    humidity: None,
                    pressure: None,
                    rainfall: *rainfall,
                    wind_direction: Some(359.0),
                    wind_speed: None,
                    id: None,
                }),
            );
        }
        bench.facts().into_iter().map(|(_, fact)| fact).collect()
    }

    #[test]
    fn rain_began_with_the_first_reading_of_it_and_ends_with_the_first_without() {
        let facts = play(&[(0, Some(0.0)), (60_000, Some(1.0)), (120_000, Some(1.0)), (180_000, Some(0.0))]);
        let rain: Vec<_> = facts.iter().map(|fact| (fact.is_raining, fact.rain_began_at)).collect();
        assert_eq!(rain, [(Some(false), None), (Some(true), Some(at_ms(60_000))), (Some(false), None)]);
    }

    #[test]
    fn what_the_station_does_not_send_is_not_known() {
        let facts = play(&[(0, None)]);
        assert_eq!((facts[0].is_raining, facts[0].humidity, facts[0].wind_direction), (None, None, Some(359)));
    }

    #[test]
    fn a_reading_replayed_after_a_reconnect_says_nothing() {
        assert_eq!(play(&[(0, Some(0.0)), (60_000, Some(1.0)), (0, Some(0.0))]).len(), 2);
    }
}
