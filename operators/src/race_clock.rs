//! Race clock: when the session started and how many laps its leader has completed, from race control and laps.
//!
//! * A car has completed lap N when lap N + 1 of it begins (OpenF1 opens the next lap's document then) or when lap N has a time. The
//!   first car to do so is the leader in a race; in practice and qualifying it is the car with most laps, which is all `lap:N` can mean
//!   there. Before any car has completed one it is 0.
//! * The session starts when [`track_status`](crate::track_status) says so: an aborted start is none, and a resumed race keeps its start.
//! * Without a session status the session starts when the first car begins lap 1 other than out of the pit lane, as races do.
//! * A lap that proved to be none counts no more.

use pitwall_engine::Micros;
use pitwall_engine::operator::{Context, Handle, Issued, Operator};
use pitwall_schemas::facts::{Lap, RaceClock, TrackStatus};
use serde::{Deserialize, Serialize};

use crate::by_driver::ByDriver;

/// Counts the leader's laps.
#[derive(Debug, Clone, Copy, Default)]
pub struct RaceClockOperator;

/// How far the session is.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    started_at: Option<Micros>,
    laps_completed: i32,
    driver_number: Option<i32>,
    cars: ByDriver<Laps>,
    issued: Option<Issued>,
}

/// The newest laps of a car.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Laps {
    begun: i32,
    /// With a time.
    timed: i32,
}

impl Laps {
    fn take(&mut self, lap: &Lap) {
        self.begun = self.begun.max(lap.lap_number);
        if lap.is_complete {
            self.timed = self.timed.max(lap.lap_number);
        }
    }

    /// Forgets a lap that proved to be none; the one before had been completed when it began.
    fn forget(&mut self, lap_number: i32) {
        self.begun = if self.begun == lap_number { lap_number - 1 } else { self.begun };
        self.timed = if self.timed == lap_number { lap_number - 1 } else { self.timed };
    }

    fn completed(self) -> i32 {
        self.timed.max(self.begun - 1).max(0)
    }
}

impl State {
    /// When the session started, if that was seen.
    #[must_use]
    pub const fn started_at(&self) -> Option<Micros> {
        self.started_at
    }

    /// Laps completed by the leader.
    #[must_use]
    pub const fn laps_completed(&self) -> i32 {
        self.laps_completed
    }

    const fn fact(&self) -> RaceClock {
        RaceClock { started_at: self.started_at, laps_completed: self.laps_completed, driver_number: self.driver_number }
    }

    fn say(&mut self, context: &mut Context<'_, RaceClock>) {
        self.issued = Some(context.emit(self.fact()));
    }

    /// The session started at that moment, as far as is known by now.
    fn start(&mut self, started_at: Micros, context: &mut Context<'_, RaceClock>) {
        if self.started_at != Some(started_at) {
            self.started_at = Some(started_at);
            self.say(context);
        }
    }

    /// Counts again after a lap proved to be none.
    fn recount(&mut self, context: &mut Context<'_, RaceClock>) {
        let completed = self.cars.iter().map(|(_, laps)| laps.completed()).max().unwrap_or(0);
        if completed < self.laps_completed {
            self.laps_completed = completed;
            let mut leaders = self.cars.iter().filter(|(_, laps)| completed > 0 && laps.completed() == completed);
            self.driver_number = leaders.next().map(|(driver_number, _)| driver_number);
            self.issued = Some(context.draft(self.fact()).correcting(self.issued).emit());
        }
    }
}

impl Operator for RaceClockOperator {
    const NAME: &'static str = "race_clock";
    const VERSION: u32 = 2;
    type Output = RaceClock;
    type State = State;
}

impl Handle<TrackStatus> for RaceClockOperator {
    fn apply(&self, state: &mut State, status: &TrackStatus, context: &mut Context<'_, RaceClock>) {
        if let Some(started_at) = status.started_at {
            state.start(started_at, context);
        }
    }
}

impl Handle<Lap> for RaceClockOperator {
    fn apply(&self, state: &mut State, lap: &Lap, context: &mut Context<'_, RaceClock>) {
        let laps = state.cars.entry(lap.driver_number);
        if context.is_withdrawn() {
            laps.forget(lap.lap_number);
            return state.recount(context);
        }
        laps.take(lap);
        let completed = laps.completed();
        if let Some(began_at) = lap.started_at.filter(|_| lap.lap_number == 1 && !lap.is_pit_out_lap && state.started_at.is_none()) {
            state.start(began_at, context);
        }
        if completed > state.laps_completed {
            state.laps_completed = completed;
            state.driver_number = Some(lap.driver_number);
            state.say(context);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laps::LapsOperator;
    use crate::testing::{Bench, at_ms, lap, race_control};
    use crate::track_status::TrackStatusOperator;
    use pitwall_schemas::raw::{self, RaceControl, Sample};

    fn play(samples: impl IntoIterator<Item = (i64, Sample)>) -> Vec<RaceClock> {
        let bench = Bench::new(|graph| {
            let track_status = graph.publish(TrackStatusOperator, |inputs| inputs.samples::<RaceControl>().samples::<raw::Lap>());
            let laps = graph.publish(LapsOperator::default(), |inputs| inputs.samples::<raw::Lap>().stream(track_status));
            graph.publish(RaceClockOperator, |inputs| inputs.stream(track_status).stream(laps));
        });
        bench.play(samples).facts::<RaceClock>().into_iter().map(|(_, clock)| clock).collect()
    }

    fn session(ms: i64, words: &str) -> (i64, Sample) {
        session_on_lap(1, ms, words)
    }

    fn session_on_lap(lap_number: i32, ms: i64, words: &str) -> (i64, Sample) {
        let category = Some("SessionStatus".into());
        (ms, Sample::from(RaceControl { category, lap_number: Some(lap_number), ..race_control(at_ms(ms), words) }))
    }

    fn red_flag(ms: i64) -> (i64, Sample) {
        let (category, flag, scope) = (Some("Flag".into()), Some("RED".into()), Some("Track".into()));
        (ms, Sample::from(RaceControl { category, flag, scope, lap_number: Some(1), ..race_control(at_ms(ms), "RED FLAG") }))
    }

    fn begins(driver_number: i32, lap_number: i32, ms: i64) -> (i64, Sample) {
        (ms, Sample::from(raw::Lap { date_start: Some(at_ms(ms)), ..lap(driver_number, lap_number) }))
    }

    #[test]
    fn no_lap_completed_is_0_and_then_the_first_car_to_complete_one_leads() {
        let clocks =
            play([session(0, "SESSION STARTED"), begins(1, 1, 100), begins(4, 1, 200), begins(4, 2, 90_000), begins(1, 2, 91_000)]);
        let said: Vec<_> = clocks.iter().map(|clock| (clock.started_at, clock.laps_completed, clock.driver_number)).collect();
        assert_eq!(said, [(Some(at_ms(0)), 0, None), (Some(at_ms(0)), 1, Some(4))]);
    }

    #[test]
    fn after_an_aborted_start_the_race_begins_with_the_next_start() {
        let clocks = play([session(0, "SESSION STARTED"), session(20_000, "SESSION ABORTED"), session(1_500_000, "SESSION STARTED")]);
        assert_eq!(clocks.last().unwrap().started_at, Some(at_ms(1_500_000)));
    }

    #[test]
    fn a_race_resumed_after_a_red_flag_on_lap_1_has_begun_with_its_first_start() {
        let stopped = [session(0, "SESSION STARTED"), red_flag(60_000), session(61_000, "SESSION ABORTED")];
        let clocks = play(stopped.into_iter().chain([session(1_800_000, "SESSION STARTED"), begins(1, 2, 1_900_000)]));
        assert_eq!(clocks.last().map(|clock| (clock.started_at, clock.laps_completed)), Some((Some(at_ms(0)), 1)));
    }

    #[test]
    fn a_race_resumed_later_keeps_its_start() {
        let laps = [session(0, "SESSION STARTED"), begins(1, 1, 100), begins(1, 2, 90_000), session_on_lap(2, 100_000, "SESSION ABORTED")];
        let clocks = play(laps.into_iter().chain([session_on_lap(2, 1_800_000, "SESSION STARTED")]));
        assert!(clocks.iter().all(|clock| clock.started_at == Some(at_ms(0))));
    }

    #[test]
    fn a_race_without_session_status_starts_with_lap_1_and_a_late_join_tells_no_start() {
        assert_eq!(play([begins(1, 1, 1_000), begins(1, 2, 90_000)])[0].started_at, Some(at_ms(1_000)));
        assert!(play([begins(1, 31, 1_000), begins(1, 32, 90_000)]).iter().all(|clock| clock.started_at.is_none()));
        let out_lap = Sample::from(raw::Lap { date_start: Some(at_ms(9_000)), is_pit_out_lap: true, ..lap(1, 1) });
        assert!(play([(9_000, out_lap)]).is_empty(), "in practice cars go out when they like");
    }

    #[test]
    fn a_lap_that_proved_to_be_none_counts_no_more() {
        let mut laps = Laps { begun: 6, timed: 5 };
        laps.forget(6);
        assert_eq!(laps.completed(), 5);
        laps = Laps { begun: 6, timed: 4 };
        laps.forget(6);
        assert_eq!(laps.completed(), 4);
    }
}
