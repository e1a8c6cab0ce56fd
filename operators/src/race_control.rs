//! Race control: each `race_control` message read into what it says, the cars it names and what then holds; its words are kept.
//!
//! Rules, with their source:
//! * A message whose words are none of those below is `UNKNOWN`: kept, counted, never guessed.
//! * A car's number is the whole number after `CAR`, `CARS`, a comma or `AND`, so `CAR 4` is not car 44 (FastF1 `CAR (\d{1,2})`).
//! * `TIME 1:17.188 DELETED` and `LAP DELETED` take back a lap, `REINSTATED` gives it back (FastF1). [`laps`](crate::laps) finds it.
//! * Local time of day in the words is that of the last half hour before the message: clocks of circuits differ from UTC by half hours.
//! * An incident at the track limits is told by car, turn and clock: reported for this lap and for the next, as at the last turn, it
//!   counts once. Without a clock it is told by car, turn and lap.
//! * An incident is open from `NOTED` until `NO FURTHER ACTION`, `NO FURTHER INVESTIGATION` or a penalty for one of its cars and the same
//!   reason. One that is to be investigated after the session stays open.
//! * A penalty is to be served until `PENALTY SERVED` names its car and kind; the oldest such is meant.
//! * A sector's flag holds until `CLEAR` for it or for the track.
//! * A message sent again after a reconnect has the same date and words, and says nothing.

use std::collections::{BTreeMap, BTreeSet};

use pitwall_engine::Micros;
use pitwall_engine::operator::{Context, Handle, Operator};
use pitwall_schemas::facts::{Flag, MessageKind, PenaltyKind, RaceControlMessage};
use pitwall_schemas::raw::RaceControl;
use serde::{Deserialize, Serialize};

/// How race control and its readers write a stop-and-go penalty.
const STOP_AND_GO: [&str; 6] = ["STOP AND GO", "STOP-AND-GO", "STOP & GO", "STOP/GO", "STOP-GO", "STOP GO"];

/// What local times differ from UTC by multiples of, µs.
const CLOCK_STEP: i64 = 1_800_000_000;

/// Reads race control's messages.
#[derive(Debug, Clone, Copy)]
pub struct RaceControlOperator {
    /// Messages of one session at most. Another is rejected: long sessions have 300.
    pub messages_max: usize,
    /// Longest message, bytes. A longer one is rejected: one that names every car has 400.
    pub message_bytes_max: usize,
}

impl Default for RaceControlOperator {
    fn default() -> Self {
        Self { messages_max: 4_096, message_bytes_max: 1_024 }
    }
}

/// What race control has said so far.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    /// Date, words, car and sector of every message.
    seen: BTreeSet<(Micros, String, Option<i32>, Option<i32>)>,
    unknown_messages: i32,
    /// Flags by sector; yellow ones only.
    sectors: BTreeMap<i32, bool>,
    is_drs_enabled: Option<bool>,
    /// Car, turn and clock or lap of every incident at the track limits.
    track_limits: BTreeSet<(i32, Option<i32>, String)>,
    open: Vec<Investigation>,
    to_serve: Vec<Penalty>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Investigation {
    driver_numbers: Vec<i32>,
    reason: Option<String>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Penalty {
    driver_number: i32,
    kind: PenaltyKind,
    seconds: Option<i32>,
}

/// The words of a message, taken apart.
struct Words<'a> {
    /// Without what stands before: `FIA STEWARDS:`, `CORRECTION:`, `UPDATE:`.
    text: &'a str,
    words: Vec<&'a str>,
}

impl<'a> Words<'a> {
    fn new(text: &'a str) -> Self {
        let mut text = text.trim();
        while let Some(rest) = ["FIA STEWARDS:", "CORRECTION:", "UPDATE:"].iter().find_map(|prefix| text.strip_prefix(prefix)) {
            text = rest.trim_start();
        }
        Self { text, words: text.split_whitespace().collect() }
    }

    fn says(&self, words: &str) -> bool {
        self.text.contains(words)
    }

    /// The numbers of all cars named, each once.
    fn cars(&self) -> Vec<i32> {
        let mut cars = Vec::new();
        let mut words = self.words.iter().copied().peekable();
        while let Some(word) = words.next() {
            if !matches!(word, "CAR" | "CARS") {
                continue;
            }
            // `81 (PIA), 27 (HUL) AND 5 (BOR)`
            while let Some(number) = words.peek().and_then(|word| car_number(word)) {
                if !cars.contains(&number) {
                    cars.push(number);
                }
                words.next();
                while words.next_if(|word| word.starts_with('(') || *word == "AND").is_some() {}
            }
        }
        cars
    }

    /// The number after the last `name`, e.g. of `TURN 18`.
    fn number_after(&self, name: &str) -> Option<i32> {
        self.words.windows(2).rev().find_map(|pair| if pair[0] == name { pair[1].parse().ok() } else { None })
    }

    /// The lap time after `TIME`, ms.
    fn time_ms(&self) -> Option<i32> {
        self.words.windows(2).find_map(|pair| if pair[0] == "TIME" { lap_time_ms(pair[1]) } else { None })
    }

    /// Local time of day at which it happened, when the words name one.
    fn clock(&self) -> Option<&'a str> {
        let is_clock = |word: &&&str| {
            word.len() == 8 && word.bytes().enumerate().all(|(at, byte)| if at % 3 == 2 { byte == b':' } else { byte.is_ascii_digit() })
        };
        self.words.iter().rev().find(is_clock).copied()
    }

    /// What stands behind the first dash.
    fn reason(&self) -> Option<String> {
        let text = self.text.strip_prefix("PENALTY SERVED - ").unwrap_or(self.text);
        text.split_once(" - ").map(|(_, reason)| reason.trim().to_owned())
    }

    fn penalty(&self) -> (PenaltyKind, Option<i32>) {
        let kind = if self.says("DRIVE THROUGH") || self.says("DRIVE-THROUGH") {
            PenaltyKind::DriveThrough
        } else if STOP_AND_GO.iter().any(|words| self.says(words)) {
            PenaltyKind::StopAndGo
        } else if self.says("GRID") {
            PenaltyKind::Grid
        } else if self.says("TIME PENALTY") {
            PenaltyKind::Time
        } else if self.says("REPRIMAND") {
            PenaltyKind::Reprimand
        } else {
            PenaltyKind::Other
        };
        let seconds =
            self.words.windows(2).find_map(|pair| if matches!(pair[1], "SECOND" | "SECONDS") { pair[0].parse().ok() } else { None });
        (kind, seconds)
    }
}

/// The car number that a word is, without what separates it from the next.
fn car_number(word: &str) -> Option<i32> {
    word.trim_end_matches(',').parse().ok().filter(|number| (1..=99).contains(number))
}

/// `1:17.188` as ms.
fn lap_time_ms(word: &str) -> Option<i32> {
    let (minutes, seconds) = word.split_once(':')?;
    let (seconds, thousandths) = seconds.split_once('.')?;
    if seconds.len() != 2 || thousandths.len() != 3 {
        return None;
    }
    let [minutes, seconds, thousandths]: [u16; 3] = [minutes.parse().ok()?, seconds.parse().ok()?, thousandths.parse().ok()?];
    Some((i32::from(minutes) * 60 + i32::from(seconds)) * 1_000 + i32::from(thousandths))
}

/// When it was `clock` (`16:03:19`) at the circuit, last before `date`.
fn moment(clock: &str, date: Micros) -> Option<Micros> {
    let seconds = clock.split(':').try_fold(0, |seconds, part| part.parse::<i64>().ok().map(|part| seconds * 60 + part))?;
    Some(date.plus(-(date.0 - seconds * 1_000_000).rem_euclid(CLOCK_STEP)))
}

/// The flag of OpenF1's name.
fn flag(name: &str) -> Option<Flag> {
    match name {
        "GREEN" => Some(Flag::Green),
        "CLEAR" => Some(Flag::Clear),
        "YELLOW" => Some(Flag::Yellow),
        "DOUBLE YELLOW" => Some(Flag::DoubleYellow),
        "RED" => Some(Flag::Red),
        "BLUE" => Some(Flag::Blue),
        "BLACK AND WHITE" => Some(Flag::BlackAndWhite),
        "BLACK AND ORANGE" => Some(Flag::BlackAndOrange),
        "BLACK" => Some(Flag::Black),
        "CHEQUERED" => Some(Flag::Chequered),
        _ => None,
    }
}

/// What the message says.
fn kind(message: &RaceControl, words: &Words<'_>, names_a_car: bool) -> MessageKind {
    match message.category.as_deref() {
        Some("Flag") => {
            return match message.flag.as_deref().and_then(flag) {
                Some(Flag::Black) => MessageKind::Disqualified,
                Some(_) => MessageKind::Flag,
                None => MessageKind::Unknown,
            };
        }
        Some("SessionStatus") => {
            let known = ["STARTED", "RESUMED", "ABORTED", "FINISHED", "FINALISED", "ENDS", "INACTIVE"];
            let is_known = words.text.strip_prefix("SESSION ").is_some_and(|status| known.contains(&status));
            return if is_known { MessageKind::SessionStatus } else { MessageKind::Unknown };
        }
        _ => {}
    }
    let about_a_car = |kind| if names_a_car { kind } else { MessageKind::Unknown };
    let safety_car = ["SAFETY CAR ", "VIRTUAL SAFETY CAR ", "VSC "].iter().find_map(|name| words.text.strip_prefix(name));
    match (safety_car, words.text.starts_with('S')) {
        (Some("DEPLOYED"), true) => return MessageKind::SafetyCarDeployed,
        (Some("IN THIS LAP"), true) => return MessageKind::SafetyCarInThisLap,
        (Some("DEPLOYED"), false) => return MessageKind::VscDeployed,
        (Some("ENDING"), false) => return MessageKind::VscEnding,
        _ => {}
    }
    // Of several that fit the first is meant: a penalty served names the penalty, a deleted lap may have been under investigation.
    let known: &[(&[&str], MessageKind)] = &[
        (&["DRS ENABLED"], MessageKind::DrsEnabled),
        (&["DRS DISABLED"], MessageKind::DrsDisabled),
        (&["TIME", "REINSTATED"], about_a_car(MessageKind::LapReinstated)),
        (&["LAP", "REINSTATED"], about_a_car(MessageKind::LapReinstated)),
        (&["TIME", "DELETED"], about_a_car(MessageKind::LapDeleted)),
        (&["LAP DELETED"], about_a_car(MessageKind::LapDeleted)),
        (&["PENALTY SERVED"], about_a_car(MessageKind::PenaltyServed)),
        (&["PENALTY FOR CAR"], MessageKind::Penalty),
        (&["REPRIMAND FOR"], about_a_car(MessageKind::Penalty)),
        (&["DISQUALIFIED"], about_a_car(MessageKind::Disqualified)),
        (&["INCIDENT", "NO FURTHER ACTION"], MessageKind::NoFurtherAction),
        (&["INCIDENT", "NO FURTHER INVESTIGATION"], MessageKind::NoFurtherAction),
        (&["INCIDENT", "WILL BE INVESTIGATED AFTER THE"], MessageKind::InvestigatedAfterwards),
        (&["INCIDENT", "UNDER INVESTIGATION"], MessageKind::UnderInvestigation),
        (&["INCIDENT", "NOTED"], MessageKind::IncidentNoted),
        (&["FIRST CAR TO TAKE THE FLAG"], about_a_car(MessageKind::FirstCarToTakeTheFlag)),
        (&["PIT EXIT"], MessageKind::PitLane),
        (&["PIT LANE ENTRY"], MessageKind::PitLane),
        (&["TRACK SURFACE SLIPPERY"], MessageKind::Slippery),
        (&["RISK OF RAIN"], MessageKind::RainRisk),
        (&["WILL RESUME AT"], MessageKind::Resumption),
        (&["PASS HOLDERS MAY ACCESS THE PIT LANE"], MessageKind::Notice),
        (&["LAPPED CARS MAY NOW OVERTAKE"], MessageKind::Notice),
    ];
    let found = known.iter().find(|(parts, _)| parts.iter().all(|part| words.says(part)));
    found.map_or(MessageKind::Unknown, |(_, kind)| *kind)
}

impl State {
    fn take_flag(&mut self, flag: Flag, sector: Option<i32>) {
        match (flag, sector) {
            (Flag::Yellow | Flag::DoubleYellow, Some(sector)) => {
                self.sectors.insert(sector, flag == Flag::DoubleYellow);
            }
            (Flag::Clear | Flag::Green, Some(sector)) => {
                self.sectors.remove(&sector);
            }
            (Flag::Clear, None) => self.sectors.clear(),
            _ => {}
        }
    }

    /// Takes what the message changes; the fact is not yet said.
    fn take(&mut self, fact: &RaceControlMessage) {
        match fact.kind {
            MessageKind::Flag => {
                if let Some(flag) = fact.flag.filter(|_| fact.driver_numbers.is_empty()) {
                    self.take_flag(flag, fact.sector);
                }
            }
            // A zone of its own is closed and opened while the rest stays as it is.
            MessageKind::DrsEnabled if fact.sector.is_none() => self.is_drs_enabled = Some(true),
            MessageKind::DrsDisabled if fact.sector.is_none() => self.is_drs_enabled = Some(false),
            MessageKind::IncidentNoted | MessageKind::UnderInvestigation | MessageKind::InvestigatedAfterwards => {
                let incident = Investigation { driver_numbers: fact.driver_numbers.clone(), reason: fact.reason.clone() };
                // The reason may come with a later message about the same cars.
                self.open.retain(|open| open.driver_numbers != incident.driver_numbers || open.reason.is_some());
                if !self.open.contains(&incident) {
                    self.open.push(incident);
                }
            }
            MessageKind::NoFurtherAction => {
                self.open.retain(|open| (&open.driver_numbers, &open.reason) != (&fact.driver_numbers, &fact.reason));
            }
            MessageKind::Penalty => self.take_penalty(fact),
            MessageKind::PenaltyServed => {
                let served = |penalty: &Penalty| fact.driver_numbers.contains(&penalty.driver_number) && Some(penalty.kind) == fact.penalty;
                if let Some(index) = self.to_serve.iter().position(served) {
                    self.to_serve.remove(index);
                }
            }
            MessageKind::Unknown => self.unknown_messages += 1,
            _ => {}
        }
    }

    fn take_penalty(&mut self, fact: &RaceControlMessage) {
        for &driver_number in &fact.driver_numbers {
            self.open.retain(|open| !(open.driver_numbers.contains(&driver_number) && open.reason == fact.reason));
            if let Some(kind @ (PenaltyKind::Time | PenaltyKind::DriveThrough | PenaltyKind::StopAndGo)) = fact.penalty {
                self.to_serve.push(Penalty { driver_number, kind, seconds: fact.penalty_seconds });
            }
        }
    }

    /// Counts the incident at the track limits and tells how many the car has had.
    fn count_track_limits(&mut self, driver_number: i32, turn: Option<i32>, moment: String) -> i32 {
        self.track_limits.insert((driver_number, turn, moment));
        self.track_limits.iter().filter(|(of, _, _)| *of == driver_number).count() as i32
    }
}

fn read(message: &RaceControl, text: &str, message_number: i32) -> RaceControlMessage {
    let words = Words::new(text);
    let mut driver_numbers = words.cars();
    if let Some(driver_number) = message.driver_number.filter(|number| !driver_numbers.contains(number)) {
        driver_numbers.push(driver_number);
    }
    let kind = kind(message, &words, !driver_numbers.is_empty());
    let is_about_a_lap = matches!(kind, MessageKind::LapDeleted | MessageKind::LapReinstated);
    let is_penalty = matches!(kind, MessageKind::Penalty | MessageKind::PenaltyServed);
    let is_judged = is_about_a_lap
        || is_penalty
        || matches!(
            kind,
            MessageKind::IncidentNoted
                | MessageKind::UnderInvestigation
                | MessageKind::InvestigatedAfterwards
                | MessageKind::NoFurtherAction
                | MessageKind::Disqualified
        );
    let zone = || words.number_after("ZONE").filter(|_| matches!(kind, MessageKind::DrsEnabled | MessageKind::DrsDisabled));
    let (penalty, penalty_seconds) = if is_penalty {
        let (penalty, seconds) = words.penalty();
        (Some(penalty), seconds)
    } else {
        (None, None)
    };
    RaceControlMessage {
        message_number,
        kind,
        flag: message.flag.as_deref().and_then(flag),
        sector: message.sector.or_else(zone),
        driver_numbers,
        lap_number: message.lap_number,
        qualifying_phase: message.qualifying_phase,
        concerned_lap: words.number_after("LAP").filter(|_| is_judged),
        concerned_time_ms: words.time_ms().filter(|_| is_about_a_lap),
        concerned_at: words.clock().filter(|_| is_judged).and_then(|clock| moment(clock, message.date)),
        turn: words.number_after("TURN").filter(|_| is_judged),
        penalty,
        penalty_seconds,
        reason: words.reason().filter(|_| is_judged),
        text: text.to_owned(),
        track_limits: None,
        yellow_sectors: Vec::new(),
        double_yellow_sectors: Vec::new(),
        is_drs_enabled: None,
        open_investigations: 0,
        penalties_to_serve: 0,
        unknown_messages: 0,
    }
}

impl Operator for RaceControlOperator {
    const NAME: &'static str = "race_control";
    const VERSION: u32 = 3;
    type Output = RaceControlMessage;
    type State = State;

    fn parameters(&self) -> Vec<(&'static str, String)> {
        vec![("messages_max", self.messages_max.to_string()), ("message_bytes_max", self.message_bytes_max.to_string())]
    }
}

impl Handle<RaceControl> for RaceControlOperator {
    fn apply(&self, state: &mut State, message: &RaceControl, context: &mut Context<'_, RaceControlMessage>) {
        let text = message.message.as_deref().unwrap_or_default();
        if text.len() > self.message_bytes_max {
            return context.reject(format!("a message of race control has {} bytes, more than {}", text.len(), self.message_bytes_max));
        }
        let key = (message.date, text.to_owned(), message.driver_number, message.sector);
        if state.seen.contains(&key) {
            return;
        }
        if state.seen.len() >= self.messages_max {
            return context.reject(format!("race control has sent more than {} messages", self.messages_max));
        }
        state.seen.insert(key);
        let mut fact = read(message, text, state.seen.len() as i32);
        state.take(&fact);
        if let (MessageKind::LapDeleted, [driver_number]) = (fact.kind, fact.driver_numbers.as_slice())
            && text.contains("TRACK LIMITS")
        {
            let moment = Words::new(text).clock().map_or_else(|| format!("lap {:?}", fact.concerned_lap), ToOwned::to_owned);
            fact.track_limits = Some(state.count_track_limits(*driver_number, fact.turn, moment));
        }
        let sectors =
            |is_double: bool| state.sectors.iter().filter(|(_, double)| **double == is_double).map(|(sector, _)| *sector).collect();
        fact.yellow_sectors = sectors(false);
        fact.double_yellow_sectors = sectors(true);
        fact.is_drs_enabled = state.is_drs_enabled;
        fact.open_investigations = state.open.len() as i32;
        fact.penalties_to_serve = state.to_serve.len() as i32;
        fact.unknown_messages = state.unknown_messages;
        context.emit(fact);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bench, at_ms, race_control};
    use pitwall_schemas::raw::Sample;

    fn play(messages: impl IntoIterator<Item = RaceControl>) -> Bench {
        let mut bench = Bench::new(|graph| {
            graph.publish(RaceControlOperator::default(), |inputs| inputs.samples::<RaceControl>());
        });
        for (ms, message) in (0..).zip(messages) {
            bench.arrive(ms, Sample::from(message));
        }
        bench
    }

    fn said(texts: &[&str]) -> Vec<RaceControlMessage> {
        let messages = (0..).zip(texts).map(|(ms, text)| race_control(at_ms(ms), text));
        play(messages).facts().into_iter().map(|(_, fact)| fact).collect()
    }

    fn flag(ms: i64, name: &str, sector: Option<i32>) -> RaceControl {
        RaceControl { category: Some("Flag".into()), flag: Some(name.into()), sector, ..race_control(at_ms(ms), name) }
    }

    /// Case 4.
    #[test]
    fn car_4_is_not_car_44() {
        let facts = said(&[
            "CAR 4 (NOR) TIME 1:17.188 DELETED - TRACK LIMITS AT TURN 18 LAP 3 16:03:19",
            "CAR 44 (HAM) LAP DELETED - TRACK LIMITS AT TURN 4 LAP 6 16:11:47 (PIT)",
        ]);
        assert_eq!(facts[0].driver_numbers, [4]);
        assert_eq!((facts[0].kind, facts[0].concerned_time_ms, facts[0].concerned_lap), (MessageKind::LapDeleted, Some(77_188), Some(3)));
        assert_eq!(facts[1].driver_numbers, [44]);
        assert_eq!(
            (facts[1].kind, facts[1].concerned_time_ms, facts[1].concerned_lap, facts[1].turn),
            (MessageKind::LapDeleted, None, Some(6), Some(4))
        );
    }

    #[test]
    fn every_car_of_an_incident_is_named_in_order() {
        let facts = said(&[
            "FIA STEWARDS: Q1 INCIDENT INVOLVING CARS 81 (PIA), 27 (HUL), 22 (TSU), 55 (SAI) AND 5 (BOR) NOTED - FAILING TO FOLLOW RACE DIRECTORS INSTRUCTIONS - MAXIMUM DELTA TIME",
        ]);
        assert_eq!(facts[0].driver_numbers, [81, 27, 22, 55, 5]);
        assert_eq!(facts[0].reason.as_deref(), Some("FAILING TO FOLLOW RACE DIRECTORS INSTRUCTIONS - MAXIMUM DELTA TIME"));
    }

    /// Case 5.
    #[test]
    fn one_incident_at_the_track_limits_reported_for_two_laps_counts_once() {
        let facts = said(&[
            "CAR 14 (ALO) TIME 1:31.123 DELETED - TRACK LIMITS AT TURN 19 LAP 5 17:05:23",
            "CAR 14 (ALO) LAP DELETED - TRACK LIMITS AT TURN 19 LAP 6 17:05:23",
            "CAR 14 (ALO) TIME 1:31.201 DELETED - TRACK LIMITS AT TURN 19 LAP 7 17:08:26",
            "CAR 1 (VER) TIME 1:31.201 DELETED - TRACK LIMITS AT TURN 19 LAP 7 17:08:26",
        ]);
        assert_eq!(facts.iter().map(|fact| fact.track_limits).collect::<Vec<_>>(), [Some(1), Some(1), Some(2), Some(1)]);
    }

    #[test]
    fn a_penalty_is_to_be_served_until_it_is() {
        let facts = said(&[
            "TURN 4 INCIDENT INVOLVING CAR 44 (HAM) NOTED - LEAVING THE TRACK AND GAINING AN ADVANTAGE",
            "FIA STEWARDS: TURN 4 INCIDENT INVOLVING CAR 44 (HAM) UNDER INVESTIGATION - LEAVING THE TRACK AND GAINING AN ADVANTAGE",
            "FIA STEWARDS: 10 SECOND TIME PENALTY FOR CAR 44 (HAM) - LEAVING THE TRACK AND GAINING AN ADVANTAGE",
            "FIA STEWARDS: DRIVE THROUGH PENALTY FOR CAR 55 (SAI) - SPEEDING IN THE PIT LANE",
            "FIA STEWARDS: PENALTY SERVED - 10 SECOND TIME PENALTY FOR CAR 44 (HAM) - LEAVING THE TRACK AND GAINING AN ADVANTAGE",
        ]);
        assert_eq!(
            facts.iter().map(|fact| (fact.open_investigations, fact.penalties_to_serve)).collect::<Vec<_>>(),
            [(1, 0), (1, 0), (0, 1), (0, 2), (0, 1)]
        );
        assert_eq!((facts[2].penalty, facts[2].penalty_seconds), (Some(PenaltyKind::Time), Some(10)));
        assert_eq!((facts[3].penalty, facts[3].penalty_seconds), (Some(PenaltyKind::DriveThrough), None));
        assert_eq!(
            (facts[4].kind, facts[4].reason.as_deref()),
            (MessageKind::PenaltyServed, Some("LEAVING THE TRACK AND GAINING AN ADVANTAGE"))
        );
    }

    #[test]
    fn no_further_action_closes_the_incident_of_those_cars_and_that_reason_only() {
        let facts = said(&[
            "TURN 4 INCIDENT INVOLVING CAR 44 (HAM) NOTED - FAILING TO FOLLOW INSTRUCTIONS",
            "TURN 1 INCIDENT INVOLVING CARS 1 (VER) AND 44 (HAM) NOTED - CAUSING A COLLISION",
            "FIA STEWARDS: TURN 1 INCIDENT INVOLVING CARS 1 (VER) AND 44 (HAM) NO FURTHER ACTION - CAUSING A COLLISION",
        ]);
        assert_eq!(facts.iter().map(|fact| fact.open_investigations).collect::<Vec<_>>(), [1, 2, 1]);
    }

    #[test]
    fn an_incident_whose_reason_comes_later_is_one() {
        let facts = said(&[
            "TURN 8 INCIDENT INVOLVING CARS 18 (STR) AND 55 (SAI) NOTED",
            "UPDATE: TURN 8 INCIDENT INVOLVING CARS 18 (STR) AND 55 (SAI) NOTED - MORE THAN ONE CHANGE OF DIRECTION",
            "FIA STEWARDS: 5 SECOND TIME PENALTY FOR CAR 18 (STR) - MORE THAN ONE CHANGE OF DIRECTION",
        ]);
        assert_eq!(facts.iter().map(|fact| fact.open_investigations).collect::<Vec<_>>(), [1, 1, 0]);
    }

    #[test]
    fn flags_hold_by_sector_until_cleared() {
        let messages =
            [flag(0, "YELLOW", Some(13)), flag(1, "DOUBLE YELLOW", Some(14)), flag(2, "CLEAR", Some(13)), flag(3, "CLEAR", None)];
        let sectors: Vec<_> = play(messages)
            .facts::<RaceControlMessage>()
            .into_iter()
            .map(|(_, fact)| (fact.yellow_sectors, fact.double_yellow_sectors))
            .collect();
        assert_eq!(sectors, [(vec![13], vec![]), (vec![13], vec![14]), (vec![], vec![14]), (vec![], vec![])]);
    }

    #[test]
    fn drs_is_enabled_and_disabled_as_a_whole_or_by_zone() {
        let facts = said(&["DRS ENABLED", "DRS DISABLED IN ZONE 2", "DRS DISABLED"]);
        assert_eq!(
            facts.iter().map(|fact| (fact.is_drs_enabled, fact.sector)).collect::<Vec<_>>(),
            [(Some(true), None), (Some(true), Some(2)), (Some(false), None)]
        );
    }

    /// Case 15.
    #[test]
    fn a_safety_car_and_a_virtual_one_are_different_messages() {
        let facts = said(&[
            "SAFETY CAR DEPLOYED",
            "SAFETY CAR IN THIS LAP",
            "VIRTUAL SAFETY CAR DEPLOYED",
            "VIRTUAL SAFETY CAR ENDING",
            "VSC DEPLOYED",
        ]);
        let kinds: Vec<_> = facts.iter().map(|fact| fact.kind).collect();
        assert_eq!(
            kinds,
            [
                MessageKind::SafetyCarDeployed,
                MessageKind::SafetyCarInThisLap,
                MessageKind::VscDeployed,
                MessageKind::VscEnding,
                MessageKind::VscDeployed
            ]
        );
    }

    #[test]
    fn unknown_words_are_kept_and_counted_and_never_guessed() {
        let facts = said(&[
            "THE QUICK BROWN FOX",
            "SAFETY CAR WILL USE START FINISH STRAIGHT",
            "TIME PENALTY RESCINDED",
            "RISK OF RAIN FOR F1 RACE IS 0%",
            "TIME DELETED",
        ]);
        let kinds: Vec<_> = facts.iter().map(|fact| (fact.kind, fact.unknown_messages)).collect();
        let unknown = MessageKind::Unknown;
        assert_eq!(kinds, [(unknown, 1), (unknown, 2), (unknown, 3), (MessageKind::RainRisk, 3), (unknown, 4)]);
        assert_eq!(facts[0].text, "THE QUICK BROWN FOX");
    }

    #[test]
    fn a_message_sent_again_says_nothing_and_two_of_one_moment_are_two() {
        let (one, two) = (race_control(at_ms(0), "DRS ENABLED"), race_control(at_ms(0), "PIT EXIT CLOSED"));
        let numbers: Vec<_> =
            play([one.clone(), two, one]).facts::<RaceControlMessage>().iter().map(|(_, fact)| fact.message_number).collect();
        assert_eq!(numbers, [1, 2]);
    }

    #[test]
    fn more_messages_than_the_limit_are_rejected() {
        let mut bench = Bench::new(|graph| {
            graph.publish(RaceControlOperator { messages_max: 1, ..RaceControlOperator::default() }, |inputs| {
                inputs.samples::<RaceControl>()
            });
        });
        for ms in 0..2 {
            bench.arrive(ms, Sample::from(race_control(at_ms(ms), "DRS ENABLED")));
        }
        assert_eq!(bench.facts::<RaceControlMessage>().len(), 1);
        assert_eq!(bench.rejections(), ["race control has sent more than 1 messages"]);
    }

    #[test]
    fn a_message_longer_than_the_limit_is_rejected_and_not_kept() {
        let long = "X".repeat(1_025);
        let bench = play([race_control(at_ms(0), &long), race_control(at_ms(1), &long[1..])]);
        assert_eq!(bench.facts::<RaceControlMessage>().len(), 1);
        assert_eq!(bench.rejections(), ["a message of race control has 1025 bytes, more than 1024"]);
    }

    #[test]
    fn a_stop_and_go_is_one_however_it_is_written() {
        for words in STOP_AND_GO {
            let penalty = format!("10 SECOND {words} PENALTY FOR CAR 43 (COL) - STARTING PROCEDURE INFRINGEMENT");
            let facts = said(&[&format!("FIA STEWARDS: {penalty}"), &format!("FIA STEWARDS: PENALTY SERVED - {penalty}")]);
            let read: Vec<_> = facts.iter().map(|fact| (fact.kind, fact.penalty, fact.penalty_seconds, fact.penalties_to_serve)).collect();
            let (kind, seconds) = (Some(PenaltyKind::StopAndGo), Some(10));
            assert_eq!(read, [(MessageKind::Penalty, kind, seconds, 1), (MessageKind::PenaltyServed, kind, seconds, 0)], "{words}");
        }
    }
}
