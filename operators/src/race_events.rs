//! Race events: what other operators say, reduced to what is worth telling, each with a priority and told once; what proves not to have
//! been is taken back.
//!
//! Rules:
//! * Priority: 1 stops the session or ends it (red flag, chequered flag); 2 changes the race (start, safety car, lead, disqualification,
//!   rain); 3 changes a driver's race (penalty, retirement, an undercut that worked) or lets the race go on; 4 is good to know (overtake,
//!   pit stop, battle, fastest lap, investigation); 5 is background (deleted laps). What concerns one of the first three is one more
//!   urgent, but only a flag is 1.
//! * Duplicates: an event of the same kind about the same cars less than [`RaceEventsOperator::fold_ms`] after the last is that one; a
//!   battle of two cars, whoever is in front, less than [`RaceEventsOperator::battle_fold_ms`] after.
//! * An event rests on the fact that told it, and on those folded into it. When that fact is withdrawn, or no longer says what the event
//!   tells, and nothing else bears the event, it is withdrawn. When the fact says the same with another time or words, the event is corrected.
//! * Fastest lap: the newest lap of a car, shorter than every standing personal best, afresh in each segment of qualifying. Not told of the
//!   first [`RaceEventsOperator::quiet_laps`] laps of a race or after a late join, when almost every lap is one; nor of a lap driven while
//!   the race was slowed or stopped, or the one after a safety car or red flag. Such laps are bests to beat all the same.
//! * Lead: another car is first after the race began, as its start, laps or gaps tell, and before its end. A place that is disputed
//!   ([`positions`](crate::positions)) is no lead; if it becomes so on the lap on which it was taken, the change never was, as when the
//!   swap is a correction. Why, when [`overtakes`](crate::overtakes) tells it, stands in the words.
//! * Retirement is [`timing`](crate::timing)'s, which takes it back.
//! * Overtake: a swap that Pirelli's rule counts, told [`RaceEventsOperator::settle_ms`] after it: by then it is mostly known whether either
//!   car was in the pit lane, and a place handed back at once was none. For the lead there is the change of the lead.
//! * Pit stop: a pass through the pit lane, once. Fastest pit stop: the shortest time in the lane of a stop, of those not slowed to serve a
//!   penalty, once [`RaceEventsOperator::quiet_stops`] are known.
//! * Battle: one that begins between cars of the first [`RaceEventsOperator::battle_places`], or that ends with a pass. The others stand in
//!   [`battles`](crate::battles).
//! * Penalty: withdrawn when race control corrects, converts or takes it back; served, it was one.
//! * Disqualification: race control's message, or the published result's, whichever comes first, once for each car. It is withdrawn when
//!   the result no longer says so.
//!
//! Another source of events is another `Handle` here and another stream in `join`.

use std::collections::{BTreeMap, VecDeque};

use pitwall_engine::Micros;
use pitwall_engine::operator::{Context, Handle, Issued, Operator};
use pitwall_schemas::facts::{
    Basis, Battle, BattleEnd, BattlePhase, CarState, Classification, EventKind, Gap, Lap, MessageKind, Neutralisation, Overtake,
    OvertakeCause, PitPassKind, PitStop, Position, RaceControlMessage, RaceEvent, ResultStatus, SessionState, Status, Timing, TrackStatus,
    Undercut, UndercutKind, UndercutOutcome, Weather,
};
use serde::{Deserialize, Serialize};

use crate::by_driver::ByDriver;
use crate::known::in_order;
use crate::pit_stops::neutralisation;

/// Newest changes of track status kept, to know what slowed a lap.
const STATUSES_MAX: usize = 64;

/// Starts of a car's newest laps kept: of the one driven, the one timed, the one before, and one more.
const STARTS_MAX: usize = 4;

/// Tells events.
#[derive(Debug, Clone, Copy)]
pub struct RaceEventsOperator {
    /// How long an event stands for others of its kind and cars, ms.
    pub fold_ms: i64,
    /// How long a battle stands for others between the same cars, ms: some laps.
    pub battle_fold_ms: i64,
    /// Cars of the first this many places whose battles are told when they begin.
    pub battle_places: i32,
    /// Laps of a race, from the first one seen, in which no fastest lap is told.
    pub quiet_laps: i32,
    /// Stops of a race before which none is told to be the fastest.
    pub quiet_stops: usize,
    /// How long after an overtake it is told, ms: longer than a stop takes.
    pub settle_ms: i64,
    /// Events that stand for others at a time. Of more, the one that would end soonest is forgotten.
    pub recent_max: usize,
    /// Overtakes that wait to be told. One more is not told: 20 cars make some ten in half a minute.
    pub unsettled_max: usize,
    /// Facts remembered that events rest on. Of more, those of the oldest event are forgotten, which then stays as it was told: a race has
    /// some hundreds.
    pub grounds_max: usize,
}

impl Default for RaceEventsOperator {
    fn default() -> Self {
        Self {
            fold_ms: 30_000,
            battle_fold_ms: 300_000,
            battle_places: 10,
            quiet_laps: 3,
            quiet_stops: 5,
            settle_ms: 30_000,
            recent_max: 1_024,
            unsettled_max: 1_024,
            grounds_max: 4_096,
        }
    }
}

/// What has been told, and what tells news from repetition.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    told: Told,
    race: Race,
    cars: ByDriver<Car>,
    lead: Option<Lead>,
    /// Overtakes that are not yet told, as known so far, by number.
    unsettled: BTreeMap<i32, Unsettled>,
    /// Time in the lane of every stop known, by car, lap and pass.
    stops: BTreeMap<(i32, i32, i32), i32>,
}

/// The events told, and what they rest on.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Told {
    events: i32,
    /// Kind and cars of what was told, until when it stands for others, and its number.
    recent: BTreeMap<(EventKind, Vec<i32>), (Micros, i32)>,
    /// By number.
    standing: BTreeMap<i32, Standing>,
    /// Numbers of the events that rest on something.
    grounds: BTreeMap<(EventKind, Ground), i32>,
}

/// An event that can be taken back.
#[derive(Debug, Serialize, Deserialize)]
struct Standing {
    fact: RaceEvent,
    /// The first of its grounds, which decides what it says.
    ground: Ground,
    at: Micros,
    causes: Vec<u64>,
    issued: Issued,
}

/// What an event rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Ground {
    /// A change of the track's status or the weather, by the ledger record that told it.
    Record(u64),
    /// A message of race control, by number.
    Message(i32),
    /// A car's lap: car and number.
    Lap(i32, i32),
    /// A car's retirement, or its disqualification.
    Car(i32),
    /// A change of the lead: the car that took it, the one that lost it, and when.
    Lead(i32, i32, Micros),
    /// A swap, by number.
    Overtake(i32),
    /// A pass through the pit lane: car, lap and number on that lap.
    Pass(i32, i32, i32),
    /// A battle, by number.
    Battle(i32),
    /// An attempt at an undercut, by number.
    Undercut(i32),
}

/// What concerns all cars.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Race {
    is_race: bool,
    /// Whether laps or gaps tell that cars race.
    has_begun: bool,
    session: Option<SessionState>,
    was_started: bool,
    status: Option<(Status, bool)>,
    qualifying_phase: Option<i32>,
    /// The lowest lap number seen.
    first_lap: Option<i32>,
    /// What slowed the field from when on, in order of arrival.
    neutralisations: VecDeque<(Micros, Neutralisation)>,
    is_raining: Option<bool>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Car {
    acronym: Option<String>,
    /// Newest place that is not disputed.
    place: Option<i32>,
    lap_number: Option<i32>,
    /// When its newest laps began, by number.
    starts: BTreeMap<i32, Micros>,
    /// Its best lap: time and number.
    best: Option<(i32, i32)>,
    /// Number and time of the lap that was told to be the fastest and is not: it may be given back, or get another number.
    taken_back: Option<(i32, i32)>,
    is_retired: bool,
    /// Whether the provisional classification says that it is disqualified, and the published one.
    is_disqualified: [bool; 2],
}

/// Who leads, undisputed.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Lead {
    driver_number: i32,
    /// The car that led before.
    former: Option<i32>,
    at: Micros,
    /// The lap on which it took the lead.
    lap_number: Option<i32>,
}

/// An overtake that may still turn out to be none.
#[derive(Debug, Serialize, Deserialize)]
struct Unsettled {
    /// When it is told.
    due: Micros,
    overtake: Overtake,
    at: Micros,
    causes: Vec<u64>,
}

/// An event being told.
#[derive(Clone)]
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

    /// Whether the fact tells this event.
    fn is_told_by(&self, fact: &RaceEvent) -> bool {
        (self.lap_number, self.time_ms, &self.text) == (fact.lap_number, fact.time_ms, &fact.text)
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

impl Told {
    fn rests_on(&self, kind: EventKind, ground: Ground) -> bool {
        self.grounds.contains_key(&(kind, ground))
    }

    /// Says what rests on `ground`, which happened at `at` because of `causes`: a new event, the one before as it is now, or nothing.
    fn say(
        &mut self,
        event: Event,
        ground: Ground,
        (at, causes): (Micros, &[u64]),
        priority: i32,
        operator: &RaceEventsOperator,
        context: &mut Context<'_, RaceEvent>,
    ) {
        if let Some(number) = self.grounds.get(&(event.kind, ground)).copied() {
            return self.correct(number, event, ground, causes, context);
        }
        let now = context.now();
        self.recent.retain(|_, (until, _)| now < *until);
        let mut key = (event.kind, event.driver_numbers.clone());
        let fold_ms = if event.kind == EventKind::Battle {
            key.1.sort_unstable();
            operator.battle_fold_ms
        } else {
            operator.fold_ms
        };
        self.forget_oldest(operator.grounds_max);
        if let Some((_, number)) = self.recent.get(&key).copied() {
            if self.standing.contains_key(&number) {
                self.grounds.insert((event.kind, ground), number);
            }
            return;
        }
        if self.recent.len() >= operator.recent_max
            && let Some(soonest) = self.recent.iter().min_by_key(|(_, (until, _))| *until).map(|(key, _)| key.clone())
        {
            self.recent.remove(&soonest);
        }
        self.events += 1;
        self.recent.insert(key, (now.plus(fold_ms * 1_000), self.events));
        let Event { kind, driver_numbers, lap_number, time_ms, text } = event;
        let fact = RaceEvent { event_number: self.events, kind, priority, driver_numbers, lap_number, time_ms, text };
        let issued = context.draft(fact.clone()).because(causes).at(at).emit();
        self.grounds.insert((kind, ground), self.events);
        self.standing.insert(self.events, Standing { fact, ground, at, causes: causes.to_vec(), issued });
    }

    /// Says the event anew if the first of its grounds now tells it otherwise.
    fn correct(&mut self, number: i32, event: Event, ground: Ground, causes: &[u64], context: &mut Context<'_, RaceEvent>) {
        let Some(standing) = self.standing.get_mut(&number) else { return };
        if standing.ground != ground || event.is_told_by(&standing.fact) {
            return;
        }
        let Event { lap_number, time_ms, text, .. } = event;
        standing.fact = RaceEvent { lap_number, time_ms, text, ..standing.fact.clone() };
        standing.causes = in_order(standing.causes.iter().chain(causes).map(|cause| Some(*cause)));
        let draft = context.draft(standing.fact.clone()).because(&standing.causes).at(standing.at).correcting(Some(standing.issued));
        standing.issued = draft.emit();
    }

    /// The ground goes because of the event being taken, and with it what rests on it alone.
    fn take_back(&mut self, kind: EventKind, ground: Ground, context: &mut Context<'_, RaceEvent>) {
        let Some(number) = self.grounds.remove(&(kind, ground)) else { return };
        if self.grounds.values().any(|other| *other == number) {
            return;
        }
        let Some(standing) = self.standing.remove(&number) else { return };
        self.recent.retain(|_, (_, other)| *other != number);
        let causes = in_order(standing.causes.iter().chain(context.causes()).map(|cause| Some(*cause)));
        context.draft(standing.fact).because(&causes).at(standing.at).withdrawing(standing.issued).emit();
    }

    /// Makes room for a ground.
    fn forget_oldest(&mut self, grounds_max: usize) {
        while self.grounds.len() >= grounds_max
            && let Some((oldest, _)) = self.standing.pop_first()
        {
            self.grounds.retain(|_, number| *number != oldest);
        }
    }
}

impl Race {
    /// Whether a change of the lead is one: in a race that has begun, is not stopped and not over.
    fn is_on(&self) -> bool {
        let is_on = match self.session {
            Some(SessionState::Started) => true,
            Some(SessionState::Aborted | SessionState::Finished) => false,
            // Nothing was said of the session.
            Some(SessionState::Inactive) | None => self.has_begun && !self.was_started,
        };
        self.is_race && is_on
    }

    /// Whether the field was slowed or stopped between two moments, in a way that `counts`.
    fn was_slowed(&self, from: Micros, to: Micros, counts: impl Fn(Neutralisation) -> bool) -> bool {
        let until = self.neutralisations.iter().skip(1).map(|(at, _)| *at).chain([Micros(i64::MAX)]);
        self.neutralisations.iter().zip(until).any(|((since, kind), until)| counts(*kind) && *since < to && from < until)
    }

    /// Whether a lap's time says nothing of the car's speed: the first laps, and laps slowed or after a restart. A start that is not known is
    /// a lap time before `now`, when the time is known, or before the next start.
    fn is_quiet(&self, lap: &Lap, lap_ms: i32, car: &Car, now: Micros, operator: &RaceEventsOperator) -> bool {
        let a_lap = i64::from(lap_ms) * 1_000;
        let start_of = |lap_number: i32| car.starts.get(&lap_number).copied();
        let start = start_of(lap.lap_number).unwrap_or(now.plus(-a_lap));
        let before = start_of(lap.lap_number - 1).unwrap_or(start.plus(-a_lap));
        let restarts = |kind| matches!(kind, Neutralisation::SafetyCar | Neutralisation::RedFlag);
        let first_laps = self.first_lap.unwrap_or(1).max(1) - 1 + operator.quiet_laps;
        self.was_slowed(start, start.plus(a_lap), |kind| kind != Neutralisation::None)
            || (self.is_race && (self.was_slowed(before, start, restarts) || lap.lap_number <= first_laps))
    }
}

impl State {
    /// Tells an event that the fact being taken bears.
    fn tell(&mut self, event: Event, ground: Ground, operator: &RaceEventsOperator, context: &mut Context<'_, RaceEvent>) {
        let (at, causes) = (context.event_time(), context.causes().to_vec());
        self.tell_of(event, ground, (at, &causes), operator, context);
    }

    /// Tells an event that happened at `at`, because of `causes`.
    fn tell_of(
        &mut self,
        event: Event,
        ground: Ground,
        of: (Micros, &[u64]),
        operator: &RaceEventsOperator,
        context: &mut Context<'_, RaceEvent>,
    ) {
        let is_in_front = |driver_number: &i32| self.cars.get(*driver_number).and_then(|car| car.place).is_some_and(|place| place <= 3);
        let usual = priority(event.kind);
        let priority = if usual > 2 && event.driver_numbers.iter().any(is_in_front) { usual - 1 } else { usual };
        self.told.say(event, ground, of, priority, operator, context);
    }

    /// Tells the event if the fact being taken bears it, and takes it back if not.
    fn tell_or_take_back(
        &mut self,
        event: Event,
        is_borne: bool,
        ground: Ground,
        operator: &RaceEventsOperator,
        context: &mut Context<'_, RaceEvent>,
    ) {
        if is_borne && !context.is_withdrawn() {
            self.tell(event, ground, operator, context);
        } else {
            self.told.take_back(event.kind, ground, context);
        }
    }

    /// The car's three letters, or its number.
    fn name(&self, driver_number: i32) -> String {
        let acronym = self.cars.get(driver_number).and_then(|car| car.acronym.clone());
        acronym.unwrap_or_else(|| format!("car {driver_number}"))
    }

    fn lead_change(&self, lead: &Lead, former: i32, cause: Option<OvertakeCause>) -> Event {
        let (front, behind) = (self.name(lead.driver_number), self.name(former));
        let why = match cause {
            Some(OvertakeCause::Pit) => Some("pit stop".to_owned()),
            Some(OvertakeCause::Retirement) => Some(format!("{behind} stopped")),
            Some(OvertakeCause::OffTrack) => Some(format!("{behind} off the track")),
            Some(OvertakeCause::Penalty) => Some(format!("penalty of {behind}")),
            _ => None,
        };
        let text = why.map(|why| format!("{front} takes the lead from {behind}: {why}"));
        let driver_numbers = vec![lead.driver_number, former];
        Event { driver_numbers, ..Event::of_all(EventKind::LeadChange, lead.lap_number, text) }
    }

    /// The leader's place is disputed: if it took it on the lap that it is on, it never led.
    fn dispute_lead(&mut self, driver_number: i32, context: &mut Context<'_, RaceEvent>) {
        let Some(lead) = self.lead.filter(|lead| lead.driver_number == driver_number) else { return };
        let lap_number = self.cars.get(driver_number).and_then(|car| car.lap_number);
        if let Some(former) = lead.former.filter(|_| lead.lap_number == lap_number) {
            self.told.take_back(EventKind::LeadChange, Ground::Lead(driver_number, former, lead.at), context);
            self.lead = Some(Lead { driver_number: former, former: None, ..lead });
        }
    }

    /// Corrects or takes back the change of the lead that the swap was.
    fn explain_lead(&mut self, swap: &Overtake, operator: &RaceEventsOperator, context: &mut Context<'_, RaceEvent>) {
        let (driver_number, former, at) = (swap.overtaking_driver_number, swap.overtaken_driver_number, context.event_time());
        let ground = Ground::Lead(driver_number, former, at);
        if !self.told.rests_on(EventKind::LeadChange, ground) {
            return;
        }
        let lead = Lead { driver_number, former: Some(former), at, lap_number: swap.lap_number };
        let event = self.lead_change(&lead, former, Some(swap.cause));
        self.tell_or_take_back(event, swap.cause != OvertakeCause::Correction, ground, operator, context);
    }

    /// The shortest time in the lane of the stops known.
    fn fastest_stop_ms(&self) -> Option<i32> {
        self.stops.values().copied().min()
    }
}

impl Operator for RaceEventsOperator {
    const NAME: &'static str = "race_events";
    const VERSION: u32 = 3;
    type Output = RaceEvent;
    type State = State;

    fn parameters(&self) -> Vec<(&'static str, String)> {
        vec![
            ("fold_ms", self.fold_ms.to_string()),
            ("battle_fold_ms", self.battle_fold_ms.to_string()),
            ("battle_places", self.battle_places.to_string()),
            ("quiet_laps", self.quiet_laps.to_string()),
            ("quiet_stops", self.quiet_stops.to_string()),
            ("settle_ms", self.settle_ms.to_string()),
            ("recent_max", self.recent_max.to_string()),
            ("unsettled_max", self.unsettled_max.to_string()),
            ("grounds_max", self.grounds_max.to_string()),
        ]
    }

    fn on_timer(&self, state: &mut State, token: u64, context: &mut Context<'_, RaceEvent>) {
        let Ok(number) = i32::try_from(token) else { return };
        // A swap that counted, did not and counts again waits anew.
        if state.unsettled.get(&number).is_none_or(|unsettled| unsettled.due > context.now()) {
            return;
        }
        let Some(Unsettled { overtake, at, causes, .. }) = state.unsettled.remove(&number) else { return };
        let driver_numbers = vec![overtake.overtaking_driver_number, overtake.overtaken_driver_number];
        let event = Event { driver_numbers, ..Event::of_all(EventKind::Overtake, overtake.lap_number, None) };
        state.tell_of(event, Ground::Overtake(number), (at, &causes), self, context);
    }
}

/// Whether a swap is worth telling.
fn is_news(overtake: &Overtake) -> bool {
    overtake.cause == OvertakeCause::OnTrack && overtake.counts_pirelli && overtake.position != 1
}

impl Handle<TrackStatus> for RaceEventsOperator {
    fn apply(&self, state: &mut State, status: &TrackStatus, context: &mut Context<'_, RaceEvent>) {
        let race = &mut state.race;
        race.is_race |= status.lap_number.is_some();
        if status.qualifying_phase != race.qualifying_phase {
            race.qualifying_phase = status.qualifying_phase;
            state.cars.iter_mut().for_each(|(_, car)| car.best = None);
        }
        let slowed = neutralisation(status.status);
        if race.neutralisations.back().map(|(_, kind)| *kind) != Some(slowed) {
            if race.neutralisations.len() >= STATUSES_MAX {
                race.neutralisations.pop_front();
            }
            race.neutralisations.push_back((context.event_time(), slowed));
        }
        race.was_started |= status.session == SessionState::Started;
        let session = race.session.replace(status.session);
        let (before, was_ending) = race.status.replace((status.status, status.is_ending)).unwrap_or((Status::Clear, false));
        let of_session = match status.session {
            _ if session == Some(status.session) => None,
            // A session that was joined after its start is under way, and nobody knows since when.
            SessionState::Started if status.message.is_none() && status.started_at.is_none() => None,
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
            let event = Event::of_all(kind, status.lap_number, status.message.clone());
            state.tell(event, Ground::Record(context.seq()), self, context);
        }
    }
}

impl Handle<RaceControlMessage> for RaceEventsOperator {
    fn apply(&self, state: &mut State, message: &RaceControlMessage, context: &mut Context<'_, RaceEvent>) {
        state.race.is_race |= message.lap_number.is_some();
        // A penalty that is replaced or taken back is none any more; one that is served was one.
        if let Some(number) = message.concerned_message.filter(|_| message.kind != MessageKind::PenaltyServed) {
            state.told.take_back(EventKind::Penalty, Ground::Message(number), context);
        }
        if message.kind == MessageKind::Reinstated {
            for &driver_number in &message.driver_numbers {
                state.told.take_back(EventKind::Disqualified, Ground::Car(driver_number), context);
            }
        }
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
        if kind != EventKind::Disqualified || message.driver_numbers.is_empty() {
            return state.tell_or_take_back(event, true, Ground::Message(message.message_number), self, context);
        }
        for &driver_number in &message.driver_numbers {
            let of_car = Event { driver_numbers: vec![driver_number], ..event.clone() };
            if context.is_withdrawn() || !state.told.rests_on(kind, Ground::Car(driver_number)) {
                state.tell_or_take_back(of_car, true, Ground::Car(driver_number), self, context);
            }
        }
    }
}

impl Handle<Classification> for RaceEventsOperator {
    fn apply(&self, state: &mut State, line: &Classification, context: &mut Context<'_, RaceEvent>) {
        let is_disqualified = line.status == ResultStatus::Disqualified && !context.is_withdrawn();
        let index = usize::from(line.basis == Basis::Official);
        let before = std::mem::replace(&mut state.cars.entry(line.driver_number).is_disqualified[index], is_disqualified);
        let (kind, ground) = (EventKind::Disqualified, Ground::Car(line.driver_number));
        if is_disqualified && line.basis == Basis::Official && !state.told.rests_on(kind, ground) {
            let event = Event { driver_numbers: vec![line.driver_number], ..Event::of_all(kind, None, None) };
            state.tell(event, ground, self, context);
        }
        // The published result has the last word; until then race control's, which the provisional one follows.
        let is_over = line.basis == Basis::Official || before;
        let still = state.cars.get(line.driver_number).is_some_and(|car| car.is_disqualified[1]);
        if !is_disqualified && is_over && !still {
            state.told.take_back(kind, ground, context);
        }
    }
}

impl Handle<Lap> for RaceEventsOperator {
    fn apply(&self, state: &mut State, lap: &Lap, context: &mut Context<'_, RaceEvent>) {
        let State { race, cars, told, .. } = state;
        let car = cars.entry(lap.driver_number);
        let ground = Ground::Lap(lap.driver_number, lap.lap_number);
        let time_ms = lap.lap_ms.filter(|_| !lap.is_deleted && !lap.is_interrupted && !context.is_withdrawn());
        if car.best.is_some_and(|(best, number)| number == lap.lap_number && (time_ms != Some(best) || !lap.is_personal_best)) {
            car.best = None;
        }
        let of_event = told.grounds.get(&(EventKind::FastestLap, ground)).and_then(|number| told.standing.get(number)?.fact.time_ms);
        if of_event.is_some() && of_event != time_ms {
            told.take_back(EventKind::FastestLap, ground, context);
            car.taken_back = of_event.map(|told_ms| (lap.lap_number, told_ms));
        }
        if context.is_withdrawn() {
            return;
        }
        race.has_begun = true;
        race.first_lap = race.first_lap.map_or(Some(lap.lap_number), |first| Some(first.min(lap.lap_number)));
        if let Some(started_at) = lap.started_at {
            car.starts.insert(lap.lap_number, started_at);
            if car.starts.len() > STARTS_MAX {
                car.starts.pop_first();
            }
        }
        // An earlier lap is a best again when a better one is deleted. That is no news, unless it was taken back itself.
        let is_newest = car.lap_number.is_none_or(|newest| newest <= lap.lap_number + 1);
        let is_given_back = car.taken_back.is_some_and(|(number, told_ms)| number == lap.lap_number || Some(told_ms) == time_ms);
        car.lap_number = car.lap_number.max(Some(lap.lap_number));
        let is_of_now = lap.qualifying_segment == race.qualifying_phase;
        let Some(time_ms) = time_ms.filter(|_| lap.is_personal_best && is_of_now) else { return };
        car.best = Some((time_ms, lap.lap_number));
        let is_quiet = !(is_newest || is_given_back) || race.is_quiet(lap, time_ms, car, context.now(), self);
        let others = state.cars.iter().filter(|(number, _)| *number != lap.driver_number);
        let is_fastest = others.filter_map(|(_, car)| car.best).all(|(best, _)| time_ms < best);
        if is_fastest && !is_quiet {
            let (driver_numbers, lap_number) = (vec![lap.driver_number], Some(lap.lap_number));
            let event = Event { kind: EventKind::FastestLap, driver_numbers, lap_number, time_ms: Some(time_ms), text: None };
            state.tell(event, ground, self, context);
        }
    }
}

impl Handle<Gap> for RaceEventsOperator {
    fn apply(&self, state: &mut State, gap: &Gap, _context: &mut Context<'_, RaceEvent>) {
        state.race.is_race = true;
        state.race.has_begun |= gap.interval_ms.is_some_and(|interval_ms| interval_ms > 0);
    }
}

impl Handle<Position> for RaceEventsOperator {
    fn apply(&self, state: &mut State, position: &Position, context: &mut Context<'_, RaceEvent>) {
        let driver_number = position.driver_number;
        if position.disputed {
            if position.position == 1 {
                state.dispute_lead(driver_number, context);
            }
            return;
        }
        let car = state.cars.entry(driver_number);
        car.place = Some(position.position);
        let lap_number = car.lap_number;
        if position.position != 1 || state.lead.is_some_and(|lead| lead.driver_number == driver_number) {
            return;
        }
        let former = state.lead.map(|lead| lead.driver_number);
        let lead = Lead { driver_number, former, at: context.event_time(), lap_number };
        state.lead = Some(lead);
        if let Some(former) = former.filter(|_| state.race.is_on()) {
            let event = state.lead_change(&lead, former, None);
            state.tell(event, Ground::Lead(driver_number, former, lead.at), self, context);
        }
    }
}

impl Handle<Timing> for RaceEventsOperator {
    fn apply(&self, state: &mut State, row: &Timing, context: &mut Context<'_, RaceEvent>) {
        let car = state.cars.entry(row.driver_number);
        if car.acronym != row.acronym {
            car.acronym.clone_from(&row.acronym);
        }
        let is_retired = row.state == CarState::Retired;
        if std::mem::replace(&mut car.is_retired, is_retired) != is_retired {
            let driver_numbers = vec![row.driver_number];
            let event = Event { driver_numbers, ..Event::of_all(EventKind::Retirement, row.lap_number, None) };
            state.tell_or_take_back(event, is_retired, Ground::Car(row.driver_number), self, context);
        }
    }
}

impl Handle<Weather> for RaceEventsOperator {
    fn apply(&self, state: &mut State, weather: &Weather, context: &mut Context<'_, RaceEvent>) {
        let Some(is_raining) = weather.is_raining else { return };
        if state.race.is_raining.replace(is_raining).is_some_and(|before| before != is_raining) {
            let kind = if is_raining { EventKind::RainBegan } else { EventKind::RainEnded };
            state.tell(Event::of_all(kind, None, None), Ground::Record(context.seq()), self, context);
        }
    }
}

impl Handle<Overtake> for RaceEventsOperator {
    fn apply(&self, state: &mut State, overtake: &Overtake, context: &mut Context<'_, RaceEvent>) {
        state.explain_lead(overtake, self, context);
        let number = overtake.overtake_number;
        let (kind, ground) = (EventKind::Overtake, Ground::Overtake(number));
        let is_news = is_news(overtake) && !context.is_withdrawn();
        let (at, causes) = (context.event_time(), context.causes().to_vec());
        if !is_news {
            state.unsettled.remove(&number);
            state.told.take_back(kind, ground, context);
        } else if let Some(unsettled) = state.unsettled.get_mut(&number) {
            *unsettled = Unsettled { due: unsettled.due, overtake: overtake.clone(), at, causes };
        } else if !state.told.rests_on(kind, ground) && state.unsettled.len() < self.unsettled_max {
            let due = context.now().plus(self.settle_ms * 1_000);
            state.unsettled.insert(number, Unsettled { due, overtake: overtake.clone(), at, causes });
            context.set_timer(due, number.unsigned_abs().into());
        }
    }
}

impl Handle<PitStop> for RaceEventsOperator {
    fn apply(&self, state: &mut State, stop: &PitStop, context: &mut Context<'_, RaceEvent>) {
        let key = (stop.driver_number, stop.lap_number, stop.pass);
        let ground = Ground::Pass(key.0, key.1, key.2);
        let (driver_numbers, lap_number, time_ms) = (vec![stop.driver_number], Some(stop.lap_number), stop.lane_ms);
        let event = |kind| Event { kind, driver_numbers: driver_numbers.clone(), lap_number, time_ms, text: None };
        if state.race.is_race || context.is_withdrawn() {
            state.tell_or_take_back(event(EventKind::PitStop), true, ground, self, context);
        }
        let is_stop = stop.kind == PitPassKind::Stop && state.race.is_race && !context.is_withdrawn();
        let lane_ms = stop.lane_ms.filter(|_| is_stop);
        if state.stops.get(&key).copied() == lane_ms {
            return;
        }
        state.stops.remove(&key);
        state.told.take_back(EventKind::FastestPitStop, ground, context);
        let Some(lane_ms) = lane_ms else { return };
        let is_fastest = state.fastest_stop_ms().is_none_or(|fastest| lane_ms < fastest);
        state.stops.insert(key, lane_ms);
        if is_fastest && state.stops.len() > self.quiet_stops {
            state.tell(event(EventKind::FastestPitStop), ground, self, context);
        }
    }
}

impl Handle<Battle> for RaceEventsOperator {
    fn apply(&self, state: &mut State, battle: &Battle, context: &mut Context<'_, RaceEvent>) {
        let ground = Ground::Battle(battle.battle_number);
        let is_in_front = battle.position < self.battle_places;
        let is_borne = match battle.phase {
            _ if context.is_withdrawn() => false,
            BattlePhase::Began => is_in_front,
            BattlePhase::GoesOn => return,
            BattlePhase::Ended if is_in_front => return,
            BattlePhase::Ended => battle.end == Some(BattleEnd::Overtake),
        };
        let (driver_numbers, time_ms) = (vec![battle.driver_number, battle.driver_number_ahead], Some(battle.interval_ms));
        let event = Event { driver_numbers, time_ms, ..Event::of_all(EventKind::Battle, battle.lap_number, None) };
        state.tell_or_take_back(event, is_borne, ground, self, context);
    }
}

impl Handle<Undercut> for RaceEventsOperator {
    fn apply(&self, state: &mut State, attempt: &Undercut, context: &mut Context<'_, RaceEvent>) {
        let kind = match attempt.kind {
            UndercutKind::Undercut => EventKind::Undercut,
            UndercutKind::Overcut => EventKind::Overcut,
        };
        let driver_numbers = vec![attempt.driver_number, attempt.driver_number_ahead];
        let event = Event { driver_numbers, ..Event::of_all(kind, attempt.answer_lap_number, None) };
        let has_succeeded = attempt.outcome == UndercutOutcome::Succeeded;
        state.tell_or_take_back(event, has_succeeded, Ground::Undercut(attempt.attempt_number), self, context);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bench, Disputes, WithdrawsPasses, at_ms, driver, interval, lap, pit, position, race_control, stint};
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
        assert_eq!(bench.state::<RaceEventsOperator>().told.recent.len(), 2);
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

    /// Kind, cars and whether it is withdrawn, of every event from the second on.
    fn all(bench: &Bench) -> Vec<(EventKind, Vec<i32>, bool)> {
        let events = bench.facts::<RaceEvent>().into_iter().skip(1);
        events.map(|(header, event)| (event.kind, event.driver_numbers, header.withdrawn)).collect()
    }

    #[test]
    fn an_overtake_that_proves_to_be_a_pit_stop_is_withdrawn() {
        let mut bench = race();
        lap_10(&mut bench);
        swap(&mut bench, 1_010_000, [(44, 3), (16, 4)]);
        bench.idle(1_041_000);
        leaves_lane(&mut bench, 1_045_000, 16, 10, 35.0);
        let overtake = |withdrawn| (EventKind::Overtake, vec![44, 16], withdrawn);
        assert_eq!(all(&bench), [overtake(false), (EventKind::PitStop, vec![16], false), overtake(true)]);
        let facts = bench.facts::<RaceEvent>();
        let [(told, _), (taken_back, _)] = [&facts[1], &facts[3]];
        assert_eq!((taken_back.supersedes, taken_back.event_time), (Some(told.fact_seq), told.event_time));
        assert_eq!((facts[3].1.clone(), taken_back.causes.len()), (facts[1].1.clone(), told.causes.len() + 1));
    }

    #[test]
    fn a_retirement_is_withdrawn_when_the_car_goes_on_and_so_is_what_rests_on_it() {
        let mut bench = race();
        lap_10(&mut bench);
        swap(&mut bench, 1_010_000, [(44, 3), (16, 4)]);
        bench.idle(1_041_000);
        for lap_number in 11..=16 {
            for car in [1, 4, 44] {
                let ms = 1_000_000 + 80_000 * i64::from(lap_number - 10);
                bench.arrive(ms, Sample::from(raw::Lap { date_start: Some(at_ms(ms)), ..lap(car, lap_number) }));
            }
        }
        let (overtake, retirement) = (|withdrawn| (EventKind::Overtake, vec![44, 16], withdrawn), EventKind::Retirement);
        let standing = |bench: &Bench| all(bench).into_iter().filter(|(kind, ..)| *kind != EventKind::FastestLap).collect::<Vec<_>>();
        assert_eq!(standing(&bench), [overtake(false), (retirement, vec![16], false), overtake(true)]);
        bench.arrive(1_490_000, Sample::from(raw::Lap { date_start: Some(at_ms(1_490_000)), ..lap(16, 11) }));
        bench.idle(1_521_000);
        assert_eq!(standing(&bench)[3..], [(retirement, vec![16], true), overtake(false)], "it was an overtake after all");
        assert_eq!(bench.facts::<RaceEvent>().last().unwrap().0.event_time, at_ms(1_010_000));
    }

    /// A race like [`race`] in which places can be disputed.
    fn disputed_race() -> Bench {
        let mut bench = Bench::new(|graph| {
            let status = graph.publish(crate::track_status::TrackStatusOperator, |inputs| inputs.samples::<RaceControl>());
            let laps = graph.publish(crate::laps::LapsOperator::default(), |inputs| inputs.samples::<raw::Lap>().stream(status));
            let positions = graph.add(crate::positions::PositionsOperator::default(), |inputs| inputs.samples::<raw::Position>());
            let positions = graph.add(Disputes, |inputs| inputs.stream(positions).samples::<raw::Driver>());
            let operator = crate::overtakes::OvertakesOperator::default();
            let overtakes = graph.publish(operator, |inputs| inputs.stream(status).stream(laps).stream(positions));
            let operator = RaceEventsOperator::default();
            graph.publish(operator, |inputs| inputs.stream(status).stream(laps).stream(positions).stream(overtakes));
        });
        bench.arrive(0, message(0, "SessionStatus", "SESSION STARTED", Some(1)));
        for (place, car) in (1..).zip([1, 4, 16, 44]) {
            bench.arrive(10, Sample::from(position(car, at_ms(10), place)));
        }
        lap_10(&mut bench);
        bench
    }

    #[test]
    fn a_lead_by_a_disputed_place_is_none_and_the_one_that_led_has_not_lost_it() {
        let mut bench = disputed_race();
        bench.arrive(1_005_000, Sample::from(raw::Driver { broadcast_name: Some("X".into()), ..driver(4) }));
        swap(&mut bench, 1_010_000, [(4, 1), (1, 2)]);
        swap(&mut bench, 1_030_000, [(1, 1), (4, 2)]);
        assert!(all(&bench).is_empty());
        swap(&mut bench, 1_050_000, [(4, 1), (1, 2)]);
        assert_eq!(all(&bench), [(EventKind::LeadChange, vec![4, 1], false)]);
    }

    #[test]
    fn a_change_of_the_lead_is_withdrawn_when_the_place_becomes_disputed_and_told_again_when_that_ends() {
        let mut bench = disputed_race();
        swap(&mut bench, 1_010_000, [(4, 1), (1, 2)]);
        bench.arrive(1_020_000, Sample::from(driver(4)));
        let lead = |withdrawn| (EventKind::LeadChange, vec![4, 1], withdrawn);
        assert_eq!(all(&bench), [lead(false), lead(true)]);
        bench.arrive(1_030_000, Sample::from(driver(4)));
        assert_eq!(all(&bench)[2..], [lead(false)]);
        bench.arrive(1_040_000, Sample::from(driver(4)));
        swap(&mut bench, 1_050_000, [(1, 1), (4, 2)]);
        assert_eq!(all(&bench)[3..], [lead(true)], "the one that led before has led all the time");
    }

    #[test]
    fn a_lead_held_over_a_lap_stays_told_when_the_leader_stops_and_keeps_its_place() {
        let mut bench = disputed_race();
        swap(&mut bench, 1_010_000, [(4, 1), (1, 2)]);
        bench.arrive(1_080_000, Sample::from(raw::Lap { date_start: Some(at_ms(1_080_000)), ..lap(4, 11) }));
        bench.arrive(1_090_000, Sample::from(driver(4)));
        assert_eq!(all(&bench), [(EventKind::LeadChange, vec![4, 1], false)]);
    }

    #[test]
    fn a_lead_undone_sooner_than_the_next_timing_loop_was_none() {
        let mut bench = race();
        lap_10(&mut bench);
        swap(&mut bench, 1_010_000, [(4, 1), (1, 2)]);
        swap(&mut bench, 1_011_000, [(1, 1), (4, 2)]);
        let lead = |cars: [i32; 2], withdrawn| (EventKind::LeadChange, cars.to_vec(), withdrawn);
        let mut said = all(&bench);
        said.sort_unstable();
        assert_eq!(said, [lead([1, 4], false), lead([1, 4], true), lead([4, 1], false), lead([4, 1], true)]);
    }

    #[test]
    fn a_change_of_the_lead_says_why_once_that_is_known() {
        let mut bench = race();
        for (car, name) in [(1, "VER"), (4, "NOR")] {
            bench.arrive(1_001, Sample::from(raw::Driver { name_acronym: Some(name.into()), ..driver(car) }));
        }
        lap_10(&mut bench);
        swap(&mut bench, 1_010_000, [(4, 1), (1, 2)]);
        leaves_lane(&mut bench, 1_025_000, 1, 10, 20.0);
        let events = bench.facts::<RaceEvent>();
        let told: Vec<_> = events.iter().filter(|(_, event)| event.kind == EventKind::LeadChange).collect();
        let words: Vec<_> = told.iter().map(|(header, event)| (header.revision, event.text.as_deref())).collect();
        assert_eq!(words, [(0, None), (1, Some("NOR takes the lead from VER: pit stop"))]);
        assert_eq!(told[1].0.supersedes, Some(told[0].0.fact_seq));
    }

    #[test]
    fn laps_or_gaps_tell_that_the_race_is_on_when_nothing_is_said_of_the_session() {
        let mut bench = bench();
        for (place, car) in (1..).zip([1, 4, 16]) {
            bench.arrive(10, Sample::from(position(car, at_ms(10), place)));
        }
        swap(&mut bench, 5_000, [(4, 1), (1, 2)]);
        let apart = Reading::Number(1.5);
        bench.arrive(6_000, Sample::from(raw::Interval { gap_to_leader: apart.clone(), interval: apart, ..interval(1, at_ms(6_000)) }));
        swap(&mut bench, 9_000, [(1, 1), (4, 2)]);
        assert_eq!(told(&bench), [(EventKind::LeadChange, 2, vec![1, 4])], "the grid was corrected before");
    }

    /// Laps of car 44 from lap `first` on, one after the other from second 100 on, with these times, s. Each is known as the next begins.
    fn drive(bench: &mut Bench, first: i32, times: &[f64]) {
        let mut ms = 100_000;
        for (lap_number, seconds) in (first..).zip(times) {
            let end = ms + (seconds * 1_000.0) as i64;
            bench.arrive(ms + 100, Sample::from(raw::Lap { date_start: Some(at_ms(ms)), ..lap(44, lap_number) }));
            bench.arrive(end + 50, Sample::from(raw::Lap { date_start: Some(at_ms(end)), ..lap(44, lap_number + 1) }));
            bench.arrive(end + 200, timed(44, lap_number, ms, *seconds));
            ms = end;
        }
    }

    fn fastest(bench: &Bench) -> Vec<i32> {
        let events = bench.facts::<RaceEvent>().into_iter();
        events.filter(|(_, event)| event.kind == EventKind::FastestLap).filter_map(|(_, event)| event.lap_number).collect()
    }

    #[test]
    fn a_lap_behind_the_safety_car_and_the_one_after_the_restart_are_not_told_to_be_the_fastest() {
        let mut bench = race();
        bench.arrive(2_000, Sample::from(raw::Lap { date_start: Some(at_ms(2_000)), ..lap(44, 1) }));
        bench.arrive(50_000, message(50_000, "SafetyCar", "SAFETY CAR DEPLOYED", Some(4)));
        // Safety car until lap 6 begins, at second 340.
        drive(&mut bench, 4, &[120.0]);
        bench.arrive(230_000, message(230_000, "SafetyCar", "SAFETY CAR IN THIS LAP", Some(5)));
        let mut rest = |from: i64, first: i32, seconds: f64| {
            bench.arrive(from + 100, Sample::from(raw::Lap { date_start: Some(at_ms(from)), ..lap(44, first) }));
            let end = from + (seconds * 1_000.0) as i64;
            bench.arrive(end + 100, Sample::from(raw::Lap { date_start: Some(at_ms(end)), ..lap(44, first + 1) }));
            bench.arrive(end + 200, timed(44, first, from, seconds));
        };
        rest(220_000, 5, 119.0);
        rest(339_000, 6, 90.0);
        rest(429_000, 7, 85.0);
        assert_eq!(fastest(&bench), [7]);
    }

    #[test]
    fn a_lap_partly_under_a_virtual_safety_car_is_not_told_and_the_next_is() {
        let mut bench = race();
        bench.arrive(2_000, Sample::from(raw::Lap { date_start: Some(at_ms(2_000)), ..lap(44, 1) }));
        bench.arrive(50_000, message(50_000, "SafetyCar", "VIRTUAL SAFETY CAR DEPLOYED", Some(4)));
        let clear = RaceControl { flag: Some("CLEAR".into()), scope: Some("Track".into()), ..race_control(at_ms(101_000), "TRACK CLEAR") };
        bench.arrive(99_000, message(99_000, "SafetyCar", "VIRTUAL SAFETY CAR ENDING", Some(5)));
        bench.arrive(100_050, Sample::from(raw::Lap { date_start: Some(at_ms(100_000)), ..lap(44, 5) }));
        bench.arrive(101_000, Sample::from(RaceControl { category: Some("Flag".into()), ..clear }));
        bench.arrive(190_100, Sample::from(raw::Lap { date_start: Some(at_ms(190_000)), ..lap(44, 6) }));
        bench.arrive(190_200, timed(44, 5, 100_000, 90.0));
        bench.arrive(270_200, timed(44, 6, 190_000, 80.0));
        assert_eq!(fastest(&bench), [6]);
    }

    #[test]
    fn laps_whose_starts_are_not_known_are_quiet_by_when_their_times_become_known() {
        let without_start = |lap_number, seconds: f64| Sample::from(raw::Lap { lap_duration: Some(seconds), ..lap(44, lap_number) });
        let mut bench = race();
        bench.arrive(2_000, Sample::from(raw::Lap { date_start: Some(at_ms(2_000)), ..lap(44, 1) }));
        bench.arrive(50_000, message(50_000, "SafetyCar", "SAFETY CAR DEPLOYED", Some(4)));
        bench.arrive(230_000, message(230_000, "SafetyCar", "SAFETY CAR IN THIS LAP", Some(5)));
        bench.arrive(300_000, Sample::from(raw::Lap { date_start: Some(at_ms(300_000)), ..lap(1, 6) }));
        for (ms, lap_number, seconds) in [(300_000, 5, 100.0), (390_000, 6, 89.0), (479_000, 7, 88.0)] {
            bench.arrive(ms, without_start(lap_number, seconds));
        }
        assert_eq!(fastest(&bench), [7]);
    }

    #[test]
    fn after_a_late_join_the_first_laps_seen_are_quiet() {
        let mut bench = race();
        drive(&mut bench, 40, &[80.0, 79.0, 78.0, 77.0]);
        assert_eq!(fastest(&bench), [43]);
    }

    #[test]
    fn a_fastest_lap_is_withdrawn_when_it_is_deleted_and_told_again_when_it_is_given_back() {
        let mut bench = race();
        drive(&mut bench, 1, &[90.0, 89.0, 88.0, 82.0, 80.0]);
        let deleted = "CAR 44 (HAM) TIME 1:20.000 DELETED - TRACK LIMITS AT TURN 9 LAP 5 15:10:00";
        bench.arrive(600_000, message(600_000, "Other", deleted, Some(6)));
        let laps = |bench: &Bench| {
            let events = bench.facts::<RaceEvent>().into_iter().filter(|(_, event)| event.kind == EventKind::FastestLap);
            events.map(|(header, event)| (event.lap_number.unwrap(), header.withdrawn)).collect::<Vec<_>>()
        };
        assert_eq!(laps(&bench), [(4, false), (5, false), (5, true)], "lap 4 is the best again, and no news");
        bench.arrive(700_000, message(700_000, "Other", "CAR 44 (HAM) TIME 1:20.000 REINSTATED", Some(7)));
        assert_eq!(laps(&bench)[3..], [(5, false)]);
    }

    #[test]
    fn a_lap_slower_than_anothers_standing_best_is_not_the_fastest_when_the_fastest_is_deleted() {
        let mut bench = race();
        drive(&mut bench, 1, &[90.0, 89.0, 88.0, 82.0]);
        bench.arrive(500_000, timed(16, 4, 415_000, 80.0));
        let deleted = "CAR 16 (LEC) TIME 1:20.000 DELETED - TRACK LIMITS AT TURN 9 LAP 4 15:10:00";
        bench.arrive(501_000, message(501_000, "Other", deleted, Some(5)));
        bench.arrive(600_000, timed(4, 5, 510_000, 85.0));
        assert_eq!(fastest(&bench), [4, 4, 4], "of car 44, of car 16, and that one withdrawn");
    }

    #[test]
    fn a_pass_through_the_pit_lane_that_never_was_leaves_no_event() {
        let mut bench = Bench::new(|graph| {
            let status = graph.publish(crate::track_status::TrackStatusOperator, |inputs| inputs.samples::<RaceControl>());
            let stops = graph.add(crate::pit_stops::PitStopsOperator::default(), |inputs| inputs.samples::<raw::Pit>());
            let stops = graph.add(WithdrawsPasses, |inputs| inputs.stream(stops).samples::<raw::Driver>());
            graph.publish(RaceEventsOperator::default(), |inputs| inputs.stream(status).stream(stops));
        });
        bench.arrive(0, message(0, "SessionStatus", "SESSION STARTED", Some(1)));
        leaves_lane(&mut bench, 1_025_000, 44, 10, 20.0);
        bench.arrive(1_030_000, Sample::from(driver(44)));
        leaves_lane(&mut bench, 1_425_000, 44, 15, 20.0);
        let pit_stop = |withdrawn| (EventKind::PitStop, vec![44], withdrawn);
        assert_eq!(all(&bench), [pit_stop(false), pit_stop(true), pit_stop(false)]);
    }

    /// A battle as the operator says it, its phase and place, and how it ended.
    fn battle(phase: BattlePhase, position: i32, end: Option<BattleEnd>) -> Battle {
        Battle {
            battle_number: position,
            driver_number: 44,
            driver_number_ahead: 16,
            phase,
            position,
            began_at: at_ms(0),
            began_lap: None,
            lap_number: Some(10),
            measurements: 3,
            interval_ms: 500,
            closest_ms: 400,
            closing_ms_per_lap: None,
            end,
        }
    }

    /// Says the battles, one for each document.
    struct Battles(Vec<(BattlePhase, i32, Option<BattleEnd>)>);

    impl Operator for Battles {
        const NAME: &'static str = "battles_of_the_test";
        const VERSION: u32 = 1;
        type Output = Battle;
        type State = usize;
    }

    impl Handle<raw::Driver> for Battles {
        fn apply(&self, said: &mut usize, _document: &raw::Driver, context: &mut Context<'_, Battle>) {
            let (phase, position, end) = self.0[*said];
            *said += 1;
            context.emit(battle(phase, position, end));
        }
    }

    fn battle_events(apart_ms: i64, battles: &[(BattlePhase, i32, Option<BattleEnd>)]) -> Vec<(i32, bool)> {
        let mut bench = Bench::new(|graph| {
            let battles = graph.add(Battles(battles.to_vec()), |inputs| inputs.samples::<raw::Driver>());
            graph.publish(RaceEventsOperator::default(), |inputs| inputs.stream(battles));
        });
        (0..).zip(battles).for_each(|(number, _)| bench.arrive(apart_ms * number, Sample::from(driver(1))));
        let facts = bench.facts::<RaceEvent>().into_iter();
        facts.map(|(header, event)| (event.event_number, header.withdrawn)).collect()
    }

    #[test]
    fn a_battle_is_told_when_it_begins_between_the_first_ten_or_ends_with_a_pass() {
        use BattlePhase::{Began, Ended, GoesOn};
        let (pass, pit) = (Some(BattleEnd::Overtake), Some(BattleEnd::Pit));
        assert_eq!(battle_events(400_000, &[(Began, 9, None), (GoesOn, 9, None), (Ended, 9, pass)]), [(1, false)]);
        assert_eq!(battle_events(400_000, &[(Began, 10, None), (Ended, 10, Some(BattleEnd::FellBack))]), []);
        assert_eq!(battle_events(400_000, &[(Began, 10, None), (Ended, 10, pass)]), [(1, false)]);
        assert_eq!(battle_events(400_000, &[(Ended, 10, pass), (Ended, 10, pit), (Ended, 10, pass)]), [(1, false), (1, true), (2, false)]);
    }

    fn result(driver_number: i32, dsq: bool) -> Sample {
        Sample::from(raw::SessionResult {
            meeting_key: 1267,
            session_key: crate::testing::SESSION,
            driver_number,
            position: (!dsq).then_some(1),
            number_of_laps: Some(10),
            dnf: Some(false),
            dns: Some(false),
            dsq: Some(dsq),
            duration: None,
            gap_to_leader: None,
            points: None,
            id: None,
        })
    }

    #[test]
    fn a_disqualification_is_told_once_and_withdrawn_when_the_result_no_longer_says_so() {
        let words = "FIA STEWARDS: CAR 44 (HAM) DISQUALIFIED - TECHNICAL INFRINGEMENT";
        let mut bench = race();
        bench.arrive(100_000, message(100_000, "Other", words, Some(10)));
        bench.arrive(200_000, result(44, true));
        bench.arrive(200_001, result(16, true));
        let disqualified = |car: i32, withdrawn| (EventKind::Disqualified, vec![car], withdrawn);
        assert_eq!(all(&bench), [disqualified(44, false), disqualified(16, false)]);
        let priorities: Vec<_> = bench.facts::<RaceEvent>().into_iter().skip(1).map(|(_, event)| event.priority).collect();
        assert_eq!(priorities, [2, 2]);
        bench.arrive(300_000, result(44, false));
        assert_eq!(all(&bench)[2..], [disqualified(44, true)]);
    }

    #[test]
    fn a_penalty_that_is_corrected_and_a_disqualification_that_is_undone_are_withdrawn_and_a_penalty_served_is_not() {
        let mut bench = race();
        let words = [
            "FIA STEWARDS: 10 SECOND TIME PENALTY FOR CAR 44 (HAM) - CAUSING A COLLISION",
            "FIA STEWARDS: CORRECTION: 5 SECOND TIME PENALTY FOR CAR 44 (HAM) - CAUSING A COLLISION",
            "FIA STEWARDS: PENALTY SERVED - 5 SECOND TIME PENALTY FOR CAR 44 (HAM) - CAUSING A COLLISION",
            "FIA STEWARDS: CAR 16 (LEC) DISQUALIFIED - TECHNICAL INFRINGEMENT",
            "FIA STEWARDS: CAR 16 (LEC) REINSTATED",
        ];
        for (ms, words) in (100_000..).step_by(60_000).zip(words) {
            bench.arrive(ms, message(ms, "Other", words, Some(10)));
        }
        use EventKind::{Disqualified, Penalty, PenaltyServed};
        let said = [(Penalty, 44, false), (Penalty, 44, true), (Penalty, 44, false), (PenaltyServed, 44, false)];
        let said = said.into_iter().chain([(Disqualified, 16, false), (Disqualified, 16, true)]);
        assert_eq!(all(&bench), said.map(|(kind, car, is_withdrawn)| (kind, vec![car], is_withdrawn)).collect::<Vec<_>>());
    }

    #[test]
    fn an_event_stands_as_long_as_one_of_the_facts_that_it_rests_on() {
        use BattlePhase::Ended;
        let (pass, pit) = (Some(BattleEnd::Overtake), Some(BattleEnd::Pit));
        let both = &[(Ended, 10, pass), (Ended, 11, pass), (Ended, 10, pit)];
        assert_eq!(battle_events(60_000, both), [(1, false)], "the second is folded into the first");
        let none = &[(Ended, 10, pass), (Ended, 11, pass), (Ended, 10, pit), (Ended, 11, pit)];
        assert_eq!(battle_events(60_000, none), [(1, false), (1, true)]);
    }

    #[test]
    fn of_more_grounds_than_are_kept_the_oldest_events_are_forgotten() {
        let mut bench = Bench::new(|graph| {
            let messages = graph.publish(crate::race_control::RaceControlOperator::default(), |inputs| inputs.samples::<RaceControl>());
            let operator = RaceEventsOperator { grounds_max: 3, ..RaceEventsOperator::default() };
            graph.publish(operator, |inputs| inputs.stream(messages));
        });
        for number in 0..20 {
            let ms = 60_000 * number;
            bench.arrive(ms, message(ms, "Other", &format!("TURN {number} INCIDENT INVOLVING CAR 44 (HAM) NOTED - SPEEDING"), Some(3)));
        }
        let told = &bench.state::<RaceEventsOperator>().told;
        assert_eq!((told.grounds.len(), told.standing.keys().copied().collect::<Vec<_>>()), (3, vec![18, 19, 20]));
    }
}
