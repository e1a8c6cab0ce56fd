//! Weather: the station's readings, a fact whenever one differs from the reading before.
//!
//! The station reports once a minute (OpenF1 `weather`), changed or not. A reading no newer than the newest was sent again after a
//! reconnect and is ignored ([`Version`]).

use pitwall_engine::operator::{Context, Handle, Operator};
use pitwall_schemas::facts;
use pitwall_schemas::raw::Weather;
use serde::{Deserialize, Serialize};

use crate::known::Version;

/// Passes on what changed.
#[derive(Debug, Clone, Copy, Default)]
pub struct WeatherOperator;

/// The newest reading.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    newest: Version,
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
        if !state.newest.take_dated(reading.date, reading.id, context.now()) {
            return;
        }
        let fact = facts::Weather {
            air_temperature: reading.air_temperature,
            track_temperature: reading.track_temperature,
            humidity: reading.humidity,
            is_raining: reading.rainfall.map(|rainfall| rainfall > 0.0),
            wind_speed: reading.wind_speed,
            wind_direction: reading.wind_direction,
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

    fn reading(ms: i64, rainfall: Option<f64>) -> Sample {
        Sample::from(Weather {
            meeting_key: 1267,
            session_key: SESSION,
            date: at_ms(ms),
            air_temperature: Some(20.6),
            track_temperature: Some(29.3),
            humidity: None,
            pressure: None,
            rainfall,
            wind_direction: None,
            wind_speed: None,
            id: None,
        })
    }

    fn play(readings: impl IntoIterator<Item = (i64, Sample)>) -> Vec<Option<bool>> {
        let mut bench = Bench::new(|graph| {
            graph.publish(WeatherOperator, |inputs| inputs.samples::<Weather>());
        });
        for (ms, reading) in readings {
            bench.arrive(ms, reading);
        }
        bench.facts::<facts::Weather>().into_iter().map(|(_, fact)| fact.is_raining).collect()
    }

    #[test]
    fn a_reading_that_says_nothing_new_is_silent() {
        assert_eq!(play([0, 10, 20].map(|ms| (ms, reading(ms, Some(0.0))))), [Some(false)]);
    }

    #[test]
    fn rain_that_the_station_does_not_tell_of_is_unknown() {
        assert_eq!(play([(0, reading(0, None)), (10, reading(10, Some(1.0)))]), [None, Some(true)]);
    }

    #[test]
    fn a_reading_sent_again_does_not_undo_what_came_since() {
        assert_eq!(
            play([(0, reading(0, Some(0.0))), (10, reading(10, Some(1.0))), (20, reading(0, Some(0.0)))]),
            [Some(false), Some(true)]
        );
    }
}
