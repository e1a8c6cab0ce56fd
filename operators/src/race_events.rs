//! Race events: what other operators say, reduced to what is worth telling, each with a priority and told once.
//!
//! Rules:
//! * Priority: 1 stops the session or ends it (red flag, chequered flag); 2 changes the race (start, safety car, lead, disqualification,
//!   rain); 3 changes a driver's race (penalty, retirement) or lets the race go on; 4 is good to know (fastest lap, investigation);
//!   5 is background (deleted laps). What concerns one of the first three is one more urgent, but only a flag is 1.
//! * Duplicates: an event of the same kind about the same cars less than [`RaceEventsOperator::fold_ms`] after the last is that one.
//! * Fastest lap: a personal best faster than every one told so far, afresh in each segment of qualifying; one that is deleted no
//!   longer counts. Not told during the first [`RaceEventsOperator::quiet_laps`] laps of a race, when almost every lap is one.
//! * Lead: another car is first after the race began. Retirement is [`timing`](crate::timing)'s, some laps late.
//!
//! Another source of events is another `Handle` here and another stream in `join`.

use std::collections::BTreeMap;

use pitwall_engine::Micros;
use pitwall_engine::operator::{Context, Handle, Operator};
use pitwall_schemas::facts::{
    CarState, EventKind, Lap, MessageKind, Position, RaceControlMessage, RaceEvent, SessionState, Status, Timing, TrackStatus, Weather,
};
use serde::{Deserialize, Serialize};

use crate::by_driver::ByDriver;

/// Tells events.
#[derive(Debug, Clone, Copy)]
pub struct RaceEventsOperator {
    /// How long an event stands for others of its kind and cars, ms.
    pub fold_ms: i64,
    /// Laps of a race in which no fastest lap is told.
    pub quiet_laps: i32,
}

impl Default for RaceEventsOperator {
    fn default() -> Self {
        Self { fold_ms: 30_000, quiet_laps: 3 }
    }
}

/// What has been told, and what tells news from repetition.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    events: i32,
    /// Kind and cars of what was told less than [`RaceEventsOperator::fold_ms`] ago.
    recent: BTreeMap<(EventKind, Vec<i32>), Micros>,
    places: ByDriver<i32>,
    leader: Option<i32>,
    is_race: bool,
    session: Option<SessionState>,
    status: Option<(Status, bool)>,
    qualifying_phase: Option<i32>,
    fastest_ms: Option<i32>,
    retired: ByDriver<bool>,
    is_raining: Option<bool>,
}

/// An event being told.
struct Event {
    kind: EventKind,
    driver_numbers: Vec<i32>,
    lap_number: Option<i32>,
    time_ms: Option<i32>,
    text: Option<String>,
}

impl Event {
    const fn of_all(kind: EventKind, lap_number: Option<i32>, text: Option<String>) -> Self {
        Self { kind, driver_numbers: Vec::new(), lap_number, time_ms: None, text }
    }
}

/// How urgent an event of that kind is, whoever it concerns.
const fn priority(kind: EventKind) -> i32 {
    match kind {
        EventKind::RedFlag | EventKind::SessionStopped | EventKind::ChequeredFlag => 1,
        EventKind::SessionStarted
        | EventKind::SafetyCar
        | EventKind::Vsc
        | EventKind::LeadChange
        | EventKind::Disqualified
        | EventKind::RainBegan => 2,
        EventKind::SafetyCarEnding
        | EventKind::VscEnding
        | EventKind::TrackClear
        | EventKind::Penalty
        | EventKind::Retirement
        | EventKind::RainEnded => 3,
        EventKind::FastestLap | EventKind::Investigation | EventKind::PenaltyServed | EventKind::LapReinstated => 4,
        EventKind::LapDeleted => 5,
    }
}

impl State {
    fn tell(&mut self, event: Event, fold_ms: i64, context: &mut Context<'_, RaceEvent>) {
        let now = context.now();
        self.recent.retain(|_, told_at| now.since(*told_at) < fold_ms * 1_000);
        let key = (event.kind, event.driver_numbers.clone());
        if self.recent.contains_key(&key) {
            return;
        }
        self.recent.insert(key, now);
        self.events += 1;
        let is_in_front = |driver_number: &i32| self.places.get(*driver_number).is_some_and(|place| *place <= 3);
        let usual = priority(event.kind);
        let priority = if usual > 2 && event.driver_numbers.iter().any(is_in_front) { usual - 1 } else { usual };
        let Event { kind, driver_numbers, lap_number, time_ms, text } = event;
        context.emit(RaceEvent { event_number: self.events, kind, priority, driver_numbers, lap_number, time_ms, text });
    }
}

impl Operator for RaceEventsOperator {
    const NAME: &'static str = "race_events";
    const VERSION: u32 = 1;
    type Output = RaceEvent;
    type State = State;

    fn parameters(&self) -> Vec<(&'static str, String)> {
        vec![("fold_ms", self.fold_ms.to_string()), ("quiet_laps", self.quiet_laps.to_string())]
    }
}

impl Handle<TrackStatus> for RaceEventsOperator {
    fn apply(&self, state: &mut State, status: &TrackStatus, context: &mut Context<'_, RaceEvent>) {
        state.is_race |= status.lap_number.is_some();
        if status.qualifying_phase != state.qualifying_phase {
            (state.qualifying_phase, state.fastest_ms) = (status.qualifying_phase, None);
        }
        let session = state.session.replace(status.session);
        let (before, was_ending) = state.status.replace((status.status, status.is_ending)).unwrap_or((Status::Clear, false));
        let of_session = match status.session {
            _ if session == Some(status.session) => None,
            SessionState::Started => Some(EventKind::SessionStarted),
            SessionState::Aborted if status.status != Status::Red => Some(EventKind::SessionStopped),
            SessionState::Finished => Some(EventKind::ChequeredFlag),
            SessionState::Aborted | SessionState::Inactive => None,
        };
        let of_track = match status.status {
            Status::SafetyCar if status.is_ending && !was_ending => Some(EventKind::SafetyCarEnding),
            now if now == before => None,
            Status::Red => Some(EventKind::RedFlag),
            Status::SafetyCar => Some(EventKind::SafetyCar),
            Status::Vsc => Some(EventKind::Vsc),
            Status::VscEnding => Some(EventKind::VscEnding),
            // A yellow flag of one sector follows and precedes a clear track all the time.
            Status::Clear if before != Status::Yellow => Some(EventKind::TrackClear),
            Status::Clear | Status::Yellow => None,
        };
        for kind in [of_session, of_track].into_iter().flatten() {
            state.tell(Event::of_all(kind, status.lap_number, status.message.clone()), self.fold_ms, context);
        }
    }
}

impl Handle<RaceControlMessage> for RaceEventsOperator {
    fn apply(&self, state: &mut State, message: &RaceControlMessage, context: &mut Context<'_, RaceEvent>) {
        let kind = match message.kind {
            MessageKind::LapDeleted => EventKind::LapDeleted,
            MessageKind::LapReinstated => EventKind::LapReinstated,
            MessageKind::Penalty => EventKind::Penalty,
            MessageKind::PenaltyServed => EventKind::PenaltyServed,
            MessageKind::Disqualified => EventKind::Disqualified,
            MessageKind::IncidentNoted | MessageKind::UnderInvestigation | MessageKind::InvestigatedAfterwards => EventKind::Investigation,
            _ => return,
        };
        let event = Event {
            kind,
            driver_numbers: message.driver_numbers.clone(),
            lap_number: message.concerned_lap.or(message.lap_number),
            time_ms: message.concerned_time_ms,
            text: Some(message.text.clone()),
        };
        state.tell(event, self.fold_ms, context);
    }
}

impl Handle<Lap> for RaceEventsOperator {
    fn apply(&self, state: &mut State, lap: &Lap, context: &mut Context<'_, RaceEvent>) {
        if lap.is_deleted && lap.lap_ms == state.fastest_ms {
            state.fastest_ms = None;
        }
        let Some(time_ms) = lap.lap_ms.filter(|_| lap.is_personal_best) else { return };
        let is_of_now = lap.qualifying_segment == state.qualifying_phase;
        if !is_of_now || state.fastest_ms.is_some_and(|fastest| time_ms >= fastest) {
            return;
        }
        state.fastest_ms = Some(time_ms);
        if state.is_race && lap.lap_number <= self.quiet_laps {
            return;
        }
        let (driver_numbers, lap_number) = (vec![lap.driver_number], Some(lap.lap_number));
        state.tell(
            Event { kind: EventKind::FastestLap, driver_numbers, lap_number, time_ms: Some(time_ms), text: None },
            self.fold_ms,
            context,
        );
    }
}

impl Handle<Position> for RaceEventsOperator {
    fn apply(&self, state: &mut State, position: &Position, context: &mut Context<'_, RaceEvent>) {
        *state.places.entry(position.driver_number) = position.position;
        if position.position != 1 {
            return;
        }
        let former = state.leader.replace(position.driver_number);
        let has_begun = state.is_race && state.session == Some(SessionState::Started);
        if let Some(former) = former.filter(|former| *former != position.driver_number && has_begun) {
            let driver_numbers = vec![position.driver_number, former];
            state.tell(Event { driver_numbers, ..Event::of_all(EventKind::LeadChange, None, None) }, self.fold_ms, context);
        }
    }
}

impl Handle<Timing> for RaceEventsOperator {
    fn apply(&self, state: &mut State, row: &Timing, context: &mut Context<'_, RaceEvent>) {
        let is_retired = row.state == CarState::Retired;
        let was_retired = state.retired.get(row.driver_number).copied().unwrap_or(false);
        if is_retired != was_retired {
            *state.retired.entry(row.driver_number) = is_retired;
            if is_retired {
                let driver_numbers = vec![row.driver_number];
                state.tell(Event { driver_numbers, ..Event::of_all(EventKind::Retirement, row.lap_number, None) }, self.fold_ms, context);
            }
        }
    }
}

impl Handle<Weather> for RaceEventsOperator {
    fn apply(&self, state: &mut State, weather: &Weather, context: &mut Context<'_, RaceEvent>) {
        let Some(is_raining) = weather.is_raining else { return };
        if state.is_raining.replace(is_raining).is_some_and(|before| before != is_raining) {
            let kind = if is_raining { EventKind::RainBegan } else { EventKind::RainEnded };
            state.tell(Event::of_all(kind, None, None), self.fold_ms, context);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bench, at_ms, lap, position, race_control};
    use pitwall_schemas::raw::{self, RaceControl, Sample};

    fn bench() -> Bench {
        Bench::new(crate::join)
    }

    fn message(ms: i64, category: &str, words: &str, lap_number: Option<i32>) -> Sample {
        Sample::from(RaceControl { category: Some(category.into()), lap_number, ..race_control(at_ms(ms), words) })
    }

    fn told(bench: &Bench) -> Vec<(EventKind, i32, Vec<i32>)> {
        bench.facts::<RaceEvent>().into_iter().map(|(_, event)| (event.kind, event.priority, event.driver_numbers)).collect()
    }

    fn timed(driver_number: i32, lap_number: i32, ms: i64, seconds: f64) -> Sample {
        Sample::from(raw::Lap { date_start: Some(at_ms(ms)), lap_duration: Some(seconds), ..lap(driver_number, lap_number) })
    }

    /// A bench in a race that has begun, with cars 1, 4, 16 and 44 in that order.
    fn race() -> Bench {
        let mut bench = bench();
        bench.arrive(0, message(0, "SessionStatus", "SESSION STARTED", Some(1)));
        for (place, car) in (1..).zip([1, 4, 16, 44]) {
            bench.arrive(10, Sample::from(position(car, at_ms(10), place)));
        }
        bench.idle(1_000);
        bench
    }

    #[test]
    fn a_safety_car_is_told_when_it_comes_when_it_ends_and_when_the_track_is_clear() {
        let mut bench = race();
        bench.arrive(90_000, message(90_000, "SafetyCar", "SAFETY CAR DEPLOYED", Some(2)));
        bench.arrive(180_000, message(180_000, "SafetyCar", "SAFETY CAR IN THIS LAP", Some(3)));
        bench.arrive(260_000, Sample::from(raw::Lap { date_start: Some(at_ms(259_000)), ..lap(1, 4) }));
        let kinds: Vec<_> = told(&bench).into_iter().map(|(kind, priority, _)| (kind, priority)).collect();
        assert_eq!(
            kinds,
            [(EventKind::SessionStarted, 2), (EventKind::SafetyCar, 2), (EventKind::SafetyCarEnding, 3), (EventKind::TrackClear, 3)]
        );
    }

    #[test]
    fn another_leader_is_told_once_the_race_began_and_the_grid_is_none() {
        let mut bench = race();
        bench.arrive(100_000, Sample::from(position(4, at_ms(100_000), 1)));
        bench.arrive(100_000, Sample::from(position(1, at_ms(100_000), 2)));
        bench.idle(101_000);
        assert_eq!(told(&bench)[1..], [(EventKind::LeadChange, 2, vec![4, 1])]);
    }

    #[test]
    fn a_penalty_of_one_of_the_first_three_is_more_urgent() {
        let mut bench = race();
        for (ms, car) in [(100_000, 1), (101_000, 44)] {
            bench.arrive(ms, message(ms, "Other", &format!("FIA STEWARDS: 5 SECOND TIME PENALTY FOR CAR {car} (XXX) - SPEEDING"), Some(3)));
        }
        assert_eq!(told(&bench)[1..], [(EventKind::Penalty, 2, vec![1]), (EventKind::Penalty, 3, vec![44])]);
    }

    #[test]
    fn an_event_of_the_same_kind_and_cars_within_the_window_is_folded() {
        let mut bench = race();
        let noted = "TURN 4 INCIDENT INVOLVING CAR 44 (HAM) NOTED - SPEEDING";
        let investigated = "FIA STEWARDS: TURN 4 INCIDENT INVOLVING CAR 44 (HAM) UNDER INVESTIGATION - SPEEDING";
        bench.arrive(100_000, message(100_000, "Other", noted, Some(3)));
        bench.arrive(129_999, message(129_999, "Other", investigated, Some(3)));
        assert_eq!(told(&bench).len(), 2);
        bench.arrive(130_000, message(130_000, "Other", &format!("{investigated} AGAIN"), Some(3)));
        assert_eq!(told(&bench).len(), 3);
    }

    #[test]
    fn a_fastest_lap_is_told_after_the_quiet_laps_and_once() {
        let mut bench = race();
        for (number, seconds) in [(2, 80.0), (3, 79.0), (4, 79.5), (5, 78.0)] {
            let begun = i64::from(number) * 100_000;
            for ms in [90_000, 90_001] {
                bench.arrive(begun + ms, timed(44, number, begun, seconds));
            }
        }
        let events = bench.facts::<RaceEvent>();
        assert_eq!(events.len(), 2);
        let (_, event) = &events[1];
        assert_eq!((event.kind, event.lap_number, event.time_ms, event.priority), (EventKind::FastestLap, Some(5), Some(78_000), 4));
    }
}
