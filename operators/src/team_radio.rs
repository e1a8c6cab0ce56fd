//! Team radio: `team_radio` documents, each recording once, with the lap that its car was driving when it became known.

use std::collections::BTreeSet;

use pitwall_engine::Micros;
use pitwall_engine::operator::{Context, Handle, Operator};
use pitwall_schemas::facts::{self, Lap};
use pitwall_schemas::raw::TeamRadio;
use serde::{Deserialize, Serialize};

use crate::by_driver::ByDriver;

/// Lists the recordings.
#[derive(Debug, Clone, Copy)]
pub struct TeamRadioOperator {
    /// Recordings of one session at most. Another is rejected: long sessions have 200.
    pub recordings_max: usize,
}

impl Default for TeamRadioOperator {
    fn default() -> Self {
        Self { recordings_max: 4_096 }
    }
}

/// The recordings so far.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    recordings: BTreeSet<(i32, Micros)>,
    /// Laps that are known, by car; a car has at most some 80.
    laps: ByDriver<BTreeSet<i32>>,
}

impl Operator for TeamRadioOperator {
    const NAME: &'static str = "team_radio";
    const VERSION: u32 = 2;
    type Output = facts::TeamRadio;
    type State = State;

    fn parameters(&self) -> Vec<(&'static str, String)> {
        vec![("recordings_max", self.recordings_max.to_string())]
    }
}

impl Handle<Lap> for TeamRadioOperator {
    fn apply(&self, state: &mut State, lap: &Lap, context: &mut Context<'_, facts::TeamRadio>) {
        let laps = state.laps.entry(lap.driver_number);
        if context.is_withdrawn() {
            laps.remove(&lap.lap_number);
        } else {
            laps.insert(lap.lap_number);
        }
    }
}

impl Handle<TeamRadio> for TeamRadioOperator {
    fn apply(&self, state: &mut State, recording: &TeamRadio, context: &mut Context<'_, facts::TeamRadio>) {
        let key = (recording.driver_number, recording.date);
        if state.recordings.contains(&key) {
            return;
        }
        if state.recordings.len() >= self.recordings_max {
            return context.reject(format!("more than {} recordings of team radio", self.recordings_max));
        }
        state.recordings.insert(key);
        context.emit(facts::TeamRadio {
            driver_number: recording.driver_number,
            recorded_at: recording.date,
            recording_url: recording.recording_url.clone(),
            lap_number: state.laps.get(recording.driver_number).and_then(BTreeSet::last).copied(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laps::LapsOperator;
    use crate::testing::{Bench, SESSION, at_ms, lap};
    use pitwall_schemas::raw::{self, Sample};

    #[test]
    fn each_recording_is_said_once_with_the_lap_of_its_car() {
        let mut bench = Bench::new(|graph| {
            let laps = graph.publish(LapsOperator::default(), |inputs| inputs.samples::<raw::Lap>());
            graph.publish(TeamRadioOperator { recordings_max: 2 }, |inputs| inputs.samples::<TeamRadio>().stream(laps));
        });
        let recording = |ms| {
            let recording_url = "https://example.org/recording.mp3".into();
            Sample::from(TeamRadio { meeting_key: 1267, session_key: SESSION, driver_number: 4, date: at_ms(ms), recording_url, id: None })
        };
        bench.arrive(0, recording(0));
        bench.arrive(10, Sample::from(lap(4, 7)));
        for ms in [20, 20, 30] {
            bench.arrive(ms, recording(ms));
        }
        let laps: Vec<_> = bench.facts::<facts::TeamRadio>().iter().map(|(_, fact)| fact.lap_number).collect();
        assert_eq!(laps, [None, Some(7)]);
        assert_eq!(bench.rejections(), ["more than 2 recordings of team radio"]);
    }
}
