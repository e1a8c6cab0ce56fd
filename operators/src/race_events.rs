//! Race events: what other operators say, reduced to what is worth telling, each with a priority and told once.
//!
//! Rules:
//! * Priority: 1 stops the session or ends it (red flag, chequered flag); 2 changes the race (start, safety car, lead, disqualification,
//!   rain); 3 changes a driver's race (penalty, retirement, an undercut that worked) or lets the race go on; 4 is good to know (overtake,
//!   pit stop, battle, fastest lap, investigation); 5 is background (deleted laps). What concerns one of the first three is one more
//!   urgent, but only a flag is 1.
//! * Duplicates: an event of the same kind about the same cars less than [`RaceEventsOperator::fold_ms`] after the last is that one; a
//!   battle of two cars, whoever is in front, less than [`RaceEventsOperator::battle_fold_ms`] after.
//! * Fastest lap: a personal best faster than every one told so far, afresh in each segment of qualifying; one that is deleted no
//!   longer counts. Not told during the first [`RaceEventsOperator::quiet_laps`] laps of a race, when almost every lap is one.
//! * Lead: another car is first after the race began. Retirement is [`timing`](crate::timing)'s, some laps late.
//! * Overtake: a swap that Pirelli's rule counts, told [`RaceEventsOperator::settle_ms`] after it: by then it is known whether either car
//!   was in the pit lane, and a place handed back at once was none. For the lead there is the change of the lead.
//! * Pit stop: a pass through the pit lane, once. Fastest pit stop: the shortest time in the lane of a stop, of those not slowed to serve a
//!   penalty, once [`RaceEventsOperator::quiet_stops`] are known.
//!
//! Another source of events is another `Handle` here and another stream in `join`.

use std::collections::{BTreeMap, BTreeSet};

use pitwall_engine::Micros;
use pitwall_engine::operator::{Context, Handle, Operator};
use pitwall_schemas::facts::{
    Battle, BattlePhase, CarState, EventKind, Lap, MessageKind, Overtake, OvertakeCause, PitPassKind, PitStop, Position,
    RaceControlMessage, RaceEvent, SessionState, Status, Timing, TrackStatus, Undercut, UndercutKind, UndercutOutcome, Weather,
};
use serde::{Deserialize, Serialize};

use crate::by_driver::ByDriver;

/// Tells events.
#[derive(Debug, Clone, Copy)]
pub struct RaceEventsOperator {
    /// How long an event stands for others of its kind and cars, ms.
    pub fold_ms: i64,
    /// How long a battle stands for others between the same cars, ms: some laps.
    pub battle_fold_ms: i64,
    /// Laps of a race in which no fastest lap is told.
    pub quiet_laps: i32,
    /// Stops of a race before which none is told to be the fastest.
    pub quiet_stops: i32,
    /// How long after an overtake it is told, ms: longer than a stop takes.
    pub settle_ms: i64,
    /// Events that stand for others at a time. Of more, the one that would end soonest is forgotten.
    pub recent_max: usize,
    /// Overtakes that wait to be told. One more is not told: 20 cars make some ten in half a minute.
    pub unsettled_max: usize,
}

impl Default for RaceEventsOperator {
    fn default() -> Self {
        Self {
            fold_ms: 30_000,
            battle_fold_ms: 300_000,
            quiet_laps: 3,
            quiet_stops: 5,
            settle_ms: 30_000,
            recent_max: 1_024,
            unsettled_max: 1_024,
        }
    }
}

/// What has been told, and what tells news from repetition.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    events: i32,
    /// Kind and cars of what was told, and until when it stands for others.
    recent: BTreeMap<(EventKind, Vec<i32>), Micros>,
    /// Overtakes that are not yet told, as known so far, by number.
    unsettled: BTreeMap<i32, Unsettled>,
    /// Lap and number on that lap of every pass through the pit lane told, by car.
    passes: ByDriver<BTreeSet<(i32, i32)>>,
    /// Cars, laps and passes of the stops known, and the shortest time in the lane.
    stops: BTreeSet<(i32, i32, i32)>,
    fastest_stop_ms: Option<i32>,
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

/// An overtake that may still turn out to be none.
#[derive(Debug, Serialize, Deserialize)]
struct Unsettled {
    overtake: Overtake,
    at: Micros,
    causes: Vec<u64>,
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
        | EventKind::Undercut
        | EventKind::Overcut
        | EventKind::RainEnded => 3,
        EventKind::Overtake
        | EventKind::PitStop
        | EventKind::FastestPitStop
        | EventKind::Battle
        | EventKind::FastestLap
        | EventKind::Investigation
        | EventKind::PenaltyServed
        | EventKind::LapReinstated => 4,
        EventKind::LapDeleted => 5,
    }
}

impl State {
    fn tell(&mut self, event: Event, operator: &RaceEventsOperator, context: &mut Context<'_, RaceEvent>) {
        let (at, causes) = (context.event_time(), context.causes().to_vec());
        self.tell_of(event, at, &causes, operator, context);
    }

    /// Tells an event that happened at `at`, because of `causes`.
    fn tell_of(&mut self, event: Event, at: Micros, causes: &[u64], operator: &RaceEventsOperator, context: &mut Context<'_, RaceEvent>) {
        let now = context.now();
        self.recent.retain(|_, until| now < *until);
        let mut key = (event.kind, event.driver_numbers.clone());
        let fold_ms = if event.kind == EventKind::Battle {
            key.1.sort_unstable();
            operator.battle_fold_ms
        } else {
            operator.fold_ms
        };
        if self.recent.contains_key(&key) {
            return;
        }
        if self.recent.len() >= operator.recent_max
            && let Some(soonest) = self.recent.iter().min_by_key(|(_, until)| **until).map(|(key, _)| key.clone())
        {
            self.recent.remove(&soonest);
        }
        self.recent.insert(key, now.plus(fold_ms * 1_000));
        self.events += 1;
        let is_in_front = |driver_number: &i32| self.places.get(*driver_number).is_some_and(|place| *place <= 3);
        let usual = priority(event.kind);
        let priority = if usual > 2 && event.driver_numbers.iter().any(is_in_front) { usual - 1 } else { usual };
        let Event { kind, driver_numbers, lap_number, time_ms, text } = event;
        let fact = RaceEvent { event_number: self.events, kind, priority, driver_numbers, lap_number, time_ms, text };
        context.draft(fact).because(causes).at(at).emit();
    }
}

impl Operator for RaceEventsOperator {
    const NAME: &'static str = "race_events";
    const VERSION: u32 = 2;
    type Output = RaceEvent;
    type State = State;

    fn parameters(&self) -> Vec<(&'static str, String)> {
        vec![
            ("fold_ms", self.fold_ms.to_string()),
            ("battle_fold_ms", self.battle_fold_ms.to_string()),
            ("quiet_laps", self.quiet_laps.to_string()),
            ("quiet_stops", self.quiet_stops.to_string()),
            ("settle_ms", self.settle_ms.to_string()),
            ("recent_max", self.recent_max.to_string()),
            ("unsettled_max", self.unsettled_max.to_string()),
        ]
    }

    fn on_timer(&self, state: &mut State, token: u64, context: &mut Context<'_, RaceEvent>) {
        let Some(Unsettled { overtake, at, causes }) = i32::try_from(token).ok().and_then(|number| state.unsettled.remove(&number)) else {
            return;
        };
        if !overtake.counts_pirelli || overtake.position == 1 {
            return;
        }
        let driver_numbers = vec![overtake.overtaking_driver_number, overtake.overtaken_driver_number];
        let event = Event { driver_numbers, ..Event::of_all(EventKind::Overtake, overtake.lap_number, None) };
        state.tell_of(event, at, &causes, self, context);
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
            state.tell(Event::of_all(kind, status.lap_number, status.message.clone()), self, context);
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
        state.tell(event, self, context);
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
        state.tell(Event { kind: EventKind::FastestLap, driver_numbers, lap_number, time_ms: Some(time_ms), text: None }, self, context);
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
            state.tell(Event { driver_numbers, ..Event::of_all(EventKind::LeadChange, None, None) }, self, context);
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
                state.tell(Event { driver_numbers, ..Event::of_all(EventKind::Retirement, row.lap_number, None) }, self, context);
            }
        }
    }
}

impl Handle<Weather> for RaceEventsOperator {
    fn apply(&self, state: &mut State, weather: &Weather, context: &mut Context<'_, RaceEvent>) {
        let Some(is_raining) = weather.is_raining else { return };
        if state.is_raining.replace(is_raining).is_some_and(|before| before != is_raining) {
            let kind = if is_raining { EventKind::RainBegan } else { EventKind::RainEnded };
            state.tell(Event::of_all(kind, None, None), self, context);
        }
    }
}

impl Handle<Overtake> for RaceEventsOperator {
    fn apply(&self, state: &mut State, overtake: &Overtake, context: &mut Context<'_, RaceEvent>) {
        let number = overtake.overtake_number;
        let (at, causes) = (context.event_time(), context.causes().to_vec());
        if let Some(unsettled) = state.unsettled.get_mut(&number) {
            *unsettled = Unsettled { overtake: overtake.clone(), at, causes };
        } else if overtake.cause == OvertakeCause::OnTrack && overtake.counts_pirelli && state.unsettled.len() < self.unsettled_max {
            state.unsettled.insert(number, Unsettled { overtake: overtake.clone(), at, causes });
            context.set_timer(context.now().plus(self.settle_ms * 1_000), number.unsigned_abs().into());
        }
    }
}

impl Handle<PitStop> for RaceEventsOperator {
    fn apply(&self, state: &mut State, stop: &PitStop, context: &mut Context<'_, RaceEvent>) {
        let (driver_numbers, lap_number, time_ms) = (vec![stop.driver_number], Some(stop.lap_number), stop.lane_ms);
        let event = |kind| Event { kind, driver_numbers: driver_numbers.clone(), lap_number, time_ms, text: None };
        if state.is_race && state.passes.entry(stop.driver_number).insert((stop.lap_number, stop.pass)) {
            state.tell(event(EventKind::PitStop), self, context);
        }
        let Some(lane_ms) = stop.lane_ms.filter(|_| state.is_race && stop.kind == PitPassKind::Stop) else { return };
        let is_new = state.stops.insert((stop.driver_number, stop.lap_number, stop.pass));
        if is_new && state.fastest_stop_ms.is_none_or(|fastest| lane_ms < fastest) {
            state.fastest_stop_ms = Some(lane_ms);
            if state.stops.len() as i32 > self.quiet_stops {
                state.tell(event(EventKind::FastestPitStop), self, context);
            }
        }
    }
}

impl Handle<Battle> for RaceEventsOperator {
    fn apply(&self, state: &mut State, battle: &Battle, context: &mut Context<'_, RaceEvent>) {
        if battle.phase == BattlePhase::Began {
            let driver_numbers = vec![battle.driver_number, battle.driver_number_ahead];
            let time_ms = Some(battle.interval_ms);
            let event = Event { driver_numbers, time_ms, ..Event::of_all(EventKind::Battle, battle.lap_number, None) };
            state.tell(event, self, context);
        }
    }
}

impl Handle<Undercut> for RaceEventsOperator {
    fn apply(&self, state: &mut State, attempt: &Undercut, context: &mut Context<'_, RaceEvent>) {
        if attempt.outcome != UndercutOutcome::Succeeded {
            return;
        }
        let kind = match attempt.kind {
            UndercutKind::Undercut => EventKind::Undercut,
            UndercutKind::Overcut => EventKind::Overcut,
        };
        let driver_numbers = vec![attempt.driver_number, attempt.driver_number_ahead];
        state.tell(Event { driver_numbers, ..Event::of_all(kind, attempt.answer_lap_number, None) }, self, context);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bench, at_ms, interval, lap, pit, position, race_control, stint};
    use pitwall_schemas::codec::Reading;
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
    fn of_more_events_than_stand_at_a_time_the_one_that_ends_soonest_is_forgotten() {
        let mut bench = Bench::new(|graph| {
            let messages = graph.publish(crate::race_control::RaceControlOperator::default(), |inputs| inputs.samples::<RaceControl>());
            let operator = RaceEventsOperator { recent_max: 2, ..RaceEventsOperator::default() };
            graph.publish(operator, |inputs| inputs.stream(messages));
        });
        for (ms, car) in [(0, 44), (1, 16), (2, 44), (3, 4), (4, 44), (5, 16)] {
            bench.arrive(ms, message(ms, "Other", &format!("TURN {ms} INCIDENT INVOLVING CAR {car} (XXX) NOTED - SPEEDING"), Some(3)));
        }
        let cars: Vec<_> = told(&bench).into_iter().map(|(_, _, cars)| cars[0]).collect();
        // Car 44's second is folded; car 4's makes the first forgotten, and so on.
        assert_eq!(cars, [44, 16, 4, 44, 16]);
        assert_eq!(bench.state::<RaceEventsOperator>().recent.len(), 2);
    }

    #[test]
    fn of_more_overtakes_than_may_wait_the_last_are_not_told() {
        let mut bench = Bench::new(|graph| {
            let status = graph.publish(crate::track_status::TrackStatusOperator, |inputs| inputs.samples::<RaceControl>());
            let laps = graph.publish(crate::laps::LapsOperator::default(), |inputs| inputs.samples::<raw::Lap>().stream(status));
            let positions = graph.publish(crate::positions::PositionsOperator::default(), |inputs| inputs.samples::<raw::Position>());
            let overtakes = graph
                .publish(crate::overtakes::OvertakesOperator::default(), |inputs| inputs.stream(status).stream(laps).stream(positions));
            let operator = RaceEventsOperator { unsettled_max: 1, ..RaceEventsOperator::default() };
            graph.publish(operator, |inputs| inputs.stream(status).stream(overtakes));
        });
        bench.arrive(0, message(0, "SessionStatus", "SESSION STARTED", Some(1)));
        for (place, car) in (1..).zip([1, 4, 16, 44]) {
            bench.arrive(10, Sample::from(position(car, at_ms(10), place)));
        }
        lap_10(&mut bench);
        swap(&mut bench, 1_010_000, [(16, 2), (4, 3)]);
        swap(&mut bench, 1_020_000, [(44, 3), (4, 4)]);
        bench.idle(1_100_000);
        assert_eq!(told(&bench)[1..], [(EventKind::Overtake, 4, vec![16, 4])]);
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

    /// All cars begin lap 10 at second 1,000.
    fn lap_10(bench: &mut Bench) {
        for car in [1, 4, 16, 44] {
            bench.arrive(1_000_000, Sample::from(raw::Lap { date_start: Some(at_ms(1_000_000)), ..lap(car, 10) }));
        }
    }

    fn swap(bench: &mut Bench, ms: i64, cars: [(i32, i32); 2]) {
        for (car, place) in cars {
            bench.arrive(ms, Sample::from(position(car, at_ms(ms), place)));
        }
        bench.idle(ms + 100);
    }

    fn leaves_lane(bench: &mut Bench, ms: i64, car: i32, lap_number: i32, seconds: f64) {
        let document = raw::Pit { lane_duration: Some(seconds), ..pit(car, lap_number, at_ms(ms)) };
        bench.arrive(ms, Sample::from(document));
    }

    #[test]
    fn an_overtake_is_told_when_it_has_settled_with_its_own_time() {
        let mut bench = race();
        lap_10(&mut bench);
        swap(&mut bench, 1_010_000, [(44, 3), (16, 4)]);
        bench.idle(1_039_000);
        assert_eq!(told(&bench).len(), 1);
        bench.idle(1_041_000);
        assert_eq!(told(&bench)[1..], [(EventKind::Overtake, 3, vec![44, 16])]);
        assert_eq!(bench.facts::<RaceEvent>()[1].0.event_time, at_ms(1_010_000));
    }

    #[test]
    fn an_overtake_that_was_a_pit_stop_or_was_handed_back_is_not_told() {
        let mut bench = race();
        lap_10(&mut bench);
        swap(&mut bench, 1_010_000, [(44, 3), (16, 4)]);
        leaves_lane(&mut bench, 1_025_000, 16, 10, 20.0);
        swap(&mut bench, 1_060_000, [(4, 3), (44, 2)]);
        swap(&mut bench, 1_070_000, [(4, 2), (44, 3)]);
        bench.idle(1_200_000);
        let kinds: Vec<_> = told(&bench).into_iter().map(|(kind, ..)| kind).collect();
        assert_eq!(kinds, [EventKind::SessionStarted, EventKind::PitStop]);
    }

    #[test]
    fn a_pit_stop_is_told_once_whatever_becomes_known_of_it() {
        let mut bench = race();
        lap_10(&mut bench);
        leaves_lane(&mut bench, 1_025_000, 44, 10, 20.0);
        let tyres = raw::Stint { lap_start: Some(11), lap_end: Some(11), ..stint(44, 2) };
        bench.arrive(1_100_000, Sample::from(tyres));
        assert_eq!(told(&bench)[1..], [(EventKind::PitStop, 4, vec![44])]);
        assert_eq!(bench.facts::<RaceEvent>()[1].1.time_ms, Some(20_000));
    }

    #[test]
    fn the_fastest_pit_stop_is_told_once_enough_are_known() {
        let mut bench = race();
        for (number, seconds) in (0..).zip([20.0, 19.0, 18.0, 21.0, 22.0, 18.5, 17.5]) {
            let (lap_number, ms) = (10 + number, 1_000_000 + 100_000 * i64::from(number));
            leaves_lane(&mut bench, ms, 44, lap_number, seconds);
            let tyres = raw::Stint { lap_start: Some(lap_number + 1), lap_end: Some(lap_number + 1), ..stint(44, number + 2) };
            bench.arrive(ms + 50_000, Sample::from(tyres));
        }
        let facts = bench.facts::<RaceEvent>();
        let fastest: Vec<_> =
            facts.iter().filter(|(_, event)| event.kind == EventKind::FastestPitStop).map(|(_, event)| event.time_ms).collect();
        assert_eq!(fastest, [Some(17_500)]);
    }

    #[test]
    fn a_battle_of_two_cars_is_told_once_in_five_minutes_whoever_is_in_front() {
        let mut bench = race();
        lap_10(&mut bench);
        let measure = |bench: &mut Bench, from: i64, car: i32| {
            for number in 0..3 {
                let ms = from + 4_000 * number;
                let (gap_to_leader, ahead) = (Reading::Number(9.0 + number as f64), Reading::Number(0.5 + number as f64 / 10.0));
                bench.arrive(
                    ms,
                    Sample::from(raw::Interval { gap_to_leader: gap_to_leader.clone(), interval: ahead, ..interval(car, at_ms(ms)) }),
                );
            }
        };
        for car in [16, 44] {
            let gap_to_leader = Reading::Number(9.0);
            bench.arrive(1_001_000, Sample::from(raw::Interval { gap_to_leader, ..interval(car, at_ms(1_001_000)) }));
        }
        measure(&mut bench, 1_010_000, 44);
        swap(&mut bench, 1_050_000, [(44, 3), (16, 4)]);
        measure(&mut bench, 1_060_000, 16);
        measure(&mut bench, 1_060_100, 44);
        let battles = |bench: &Bench| told(bench).into_iter().filter(|(kind, ..)| *kind == EventKind::Battle).collect::<Vec<_>>();
        assert_eq!(battles(&bench), [(EventKind::Battle, 3, vec![44, 16])]);
        swap(&mut bench, 1_350_000, [(16, 3), (44, 4)]);
        measure(&mut bench, 1_360_000, 44);
        assert_eq!(battles(&bench).len(), 2);
    }
}
