//! Race control: each `race_control` message read into what it says, the cars it names and what then holds; its words are kept.
//!
//! Rules, with their source:
//! * A message is read by its words, whatever its category. One whose words are none of those in [`words`] is `UNKNOWN`: kept, counted,
//!   never guessed.
//! * A car's number is the whole number after `CAR`, `CARS`, a comma or `AND`, so `CAR 4` is not car 44 (FastF1 `CAR (\d{1,2})`). The order
//!   for a restart and the cars that may unlap themselves are lists without that word.
//! * `TIME 1:17.188 DELETED` and `LAP DELETED` take back a lap, `REINSTATED` gives it back (FastF1). [`laps`](crate::laps) finds it.
//! * Local time of day in the words is that of the last half hour before the message: clocks of circuits differ from UTC by half hours.
//! * An incident at the track limits is told by car, turn and clock: reported for this lap and for the next, as at the last turn, it
//!   counts once. Without a clock it is told by car, turn and lap.
//! * An incident is open from `NOTED` until `NO FURTHER ACTION`, `NO FURTHER INVESTIGATION` or a penalty for one of its cars. Two messages
//!   are about one incident when they name the same cars, in whatever order, and what both name of time of day, reason, turn and lap is the
//!   same; what one leaves out the other may say. One that is to be investigated after the session stays open.
//! * A penalty is to be served until `PENALTY SERVED` names its car and kind; of several the seconds and the reason decide, then the oldest
//!   is meant.
//! * A penalty marked `CORRECTION` or `UPDATE` stands in place of the car's newest one, rather of one of its reason; when the car has none,
//!   of the same penalty for another car. One converted stands in place of the one of the kind that the words name. A time penalty of
//!   20 s, or 30 s, for the reason of a drive-through, or a stop-and-go, that was not served stands in its place (sporting regulations:
//!   what is added when it can no longer be served).
//! * A sector's flag holds until `CLEAR` for it or for the track, or until a red flag is shown: then the whole track has but one flag, and
//!   none when the red flag ends (sporting code, appendix H).
//! * A message sent again after a reconnect has the same date and words, and says nothing; nor does one about cars whose words were
//!   sent less than [`RaceControlOperator::doubled_ms`] before.

use std::collections::{BTreeMap, BTreeSet};

use pitwall_engine::Micros;
use pitwall_engine::operator::{Context, Handle, Operator};
use pitwall_schemas::facts::{Flag, MessageKind, PenaltyKind, RaceControlMessage};
use pitwall_schemas::raw::RaceControl;
use serde::{Deserialize, Serialize};

use crate::known::is_ahead;

mod words;

use words::{Words, moment};

/// Seconds that stand in place of a drive-through and of a stop-and-go that can no longer be served (sporting regulations).
const IN_PLACE_OF: [(PenaltyKind, i32); 2] = [(PenaltyKind::DriveThrough, 20), (PenaltyKind::StopAndGo, 30)];

/// Longest message that is read, bytes: one that names every car has 400.
pub(crate) const MESSAGE_BYTES_MAX: usize = 1_024;

/// Reads race control's messages.
#[derive(Debug, Clone, Copy)]
pub struct RaceControlOperator {
    /// Messages of one session at most. Another is rejected: long sessions have 300.
    pub messages_max: usize,
    /// Longest message, bytes. A longer one is rejected.
    pub message_bytes_max: usize,
    /// How soon after it a message about cars with the same words is the same one, ms.
    pub doubled_ms: i64,
}

impl Default for RaceControlOperator {
    fn default() -> Self {
        Self { messages_max: 4_096, message_bytes_max: MESSAGE_BYTES_MAX, doubled_ms: 10_000 }
    }
}

/// What race control has said so far.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    /// Date, words, car and sector of every message; the car only where the words name none.
    seen: BTreeSet<(Micros, String, Option<i32>, Option<i32>)>,
    /// When the words of each message about cars were sent last.
    about_cars: BTreeMap<String, Micros>,
    /// Messages said.
    messages: i32,
    unknown_messages: i32,
    /// Flags by sector; yellow ones only.
    sectors: BTreeMap<i32, bool>,
    is_red: bool,
    is_drs_enabled: Option<bool>,
    is_overtake_enabled: Option<bool>,
    /// Car, turn and clock or lap of every incident at the track limits.
    track_limits: BTreeSet<(i32, Option<i32>, String)>,
    open: Vec<Incident>,
    /// Penalties given and not taken back, the oldest first.
    penalties: Vec<Penalty>,
}

/// What a message names of an incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Incident {
    /// Its cars in rising order.
    driver_numbers: Vec<i32>,
    reason: Option<String>,
    turn: Option<i32>,
    lap: Option<i32>,
    /// Time of day behind the words.
    stamp: Option<String>,
}

impl Incident {
    fn new(fact: &RaceControlMessage, words: &Words) -> Self {
        let mut driver_numbers = fact.driver_numbers.clone();
        driver_numbers.sort_unstable();
        let reason = fact.reason.as_deref().map(comparable);
        Self { driver_numbers, reason, turn: fact.turn, lap: fact.concerned_lap, stamp: words.stamp().map(ToOwned::to_owned) }
    }

    /// Whether nothing that both name tells them apart.
    fn may_be(&self, other: &Self) -> bool {
        agree(&self.stamp, &other.stamp)
            && agree(&self.reason, &other.reason)
            && agree(&self.turn, &other.turn)
            && agree(&self.lap, &other.lap)
    }

    /// How much both name alike.
    fn likeness(&self, other: &Self) -> usize {
        let alike = [
            self.stamp.is_some() && self.stamp == other.stamp,
            self.reason.is_some() && self.reason == other.reason,
            self.turn.is_some() && self.turn == other.turn,
            self.lap.is_some() && self.lap == other.lap,
        ];
        alike.into_iter().filter(|alike| *alike).count()
    }

    /// Takes what another message about it names.
    fn take(&mut self, other: Self) {
        self.stamp = self.stamp.take().or(other.stamp);
        self.reason = self.reason.take().or(other.reason);
        self.turn = self.turn.or(other.turn);
        self.lap = self.lap.or(other.lap);
    }
}

fn agree<T: PartialEq>(one: &Option<T>, other: &Option<T>) -> bool {
    one.is_none() || other.is_none() || one == other
}

/// A reason without what differs between two messages about one thing: dashes, and how often it has happened.
fn comparable(reason: &str) -> String {
    let reason = reason.replace('\u{2013}', "-");
    reason.split_once(" (").map_or(reason.clone(), |(reason, _)| reason.to_owned())
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Penalty {
    message_number: i32,
    driver_number: i32,
    kind: PenaltyKind,
    seconds: Option<i32>,
    reason: Option<String>,
    is_served: bool,
}

impl Penalty {
    const fn is_to_serve(&self) -> bool {
        !self.is_served && matches!(self.kind, PenaltyKind::Time | PenaltyKind::DriveThrough | PenaltyKind::StopAndGo)
    }

    fn is_same_but_for_the_car(&self, other: &Self) -> bool {
        (self.kind, self.seconds, &self.reason) == (other.kind, other.seconds, &other.reason)
    }

    /// Whether `other` is what is given when this one can no longer be served.
    fn can_become(&self, other: &Self) -> bool {
        let is_so = |(kind, seconds): &(PenaltyKind, i32)| self.kind == *kind && other.seconds == Some(*seconds);
        !self.is_served && other.kind == PenaltyKind::Time && IN_PLACE_OF.iter().any(is_so) && self.reason == other.reason
    }
}

/// What the message says, without what then holds.
pub(crate) fn kind(message: &RaceControl) -> (MessageKind, Option<Flag>) {
    let words = Words::new(message.message.as_deref().unwrap_or_default());
    words.kind(message, message.driver_number.is_some() || !words.cars(false).is_empty())
}

/// The status that a message of the kind `SESSION_STATUS` names.
pub(crate) fn session_status(message: &RaceControl) -> Option<String> {
    Words::new(message.message.as_deref().unwrap_or_default()).session_status().map(ToOwned::to_owned)
}

/// Whether the message is about a race of another series.
pub(crate) fn is_about_another_series(message: &RaceControl) -> bool {
    Words::new(message.message.as_deref().unwrap_or_default()).is_about_another_series()
}

impl State {
    /// Whether the words were sent before: at that date, or about cars a moment ago.
    fn is_known(&mut self, message: &RaceControl, fact: &RaceControlMessage, words: &Words, operator: &RaceControlOperator) -> bool {
        let key = key(message, words);
        if self.seen.contains(&key) {
            return true;
        }
        let (date, text) = (key.0, key.1.clone());
        let is_doubled = is_judged(fact.kind)
            && self.about_cars.get(&text).is_some_and(|before| date.since(*before).abs() <= operator.doubled_ms * 1_000);
        if is_judged(fact.kind) {
            self.about_cars.insert(text, date);
        }
        self.seen.insert(key);
        is_doubled
    }

    fn take_flag(&mut self, flag: Flag, sector: Option<i32>) {
        match (flag, sector) {
            (Flag::Red, _) => self.is_red = true,
            (Flag::Clear | Flag::Green, None) => self.is_red = false,
            _ => {}
        }
        match (flag, sector) {
            (Flag::Yellow | Flag::DoubleYellow, Some(sector)) => {
                self.sectors.insert(sector, flag == Flag::DoubleYellow);
            }
            (Flag::Clear | Flag::Green, Some(sector)) => {
                self.sectors.remove(&sector);
            }
            (Flag::Clear | Flag::Red, None) => self.sectors.clear(),
            _ => {}
        }
    }

    /// Ends a red flag, and with it every other.
    fn end_red(&mut self) {
        if std::mem::take(&mut self.is_red) {
            self.sectors.clear();
        }
    }

    /// Takes what the message changes; the fact is not yet said.
    fn take(&mut self, fact: &mut RaceControlMessage, words: &Words) {
        match fact.kind {
            MessageKind::Flag => {
                if let Some(flag) = fact.flag.filter(|_| fact.driver_numbers.is_empty()) {
                    if self.is_red && flag == Flag::Green {
                        self.end_red();
                    }
                    self.take_flag(flag, fact.sector);
                }
            }
            MessageKind::SessionStatus if matches!(words.session_status(), Some("STARTED" | "RESUMED")) => self.end_red(),
            // A zone of its own is closed and opened while the rest stays as it is.
            MessageKind::DrsEnabled if fact.sector.is_none() => self.is_drs_enabled = Some(true),
            MessageKind::DrsDisabled if fact.sector.is_none() => self.is_drs_enabled = Some(false),
            MessageKind::OvertakeEnabled => self.is_overtake_enabled = Some(true),
            MessageKind::OvertakeDisabled => self.is_overtake_enabled = Some(false),
            MessageKind::IncidentNoted | MessageKind::UnderInvestigation | MessageKind::InvestigatedAfterwards => {
                let incident = Incident::new(fact, words);
                match self.incident(&incident) {
                    Some(index) => self.open[index].take(incident),
                    None => self.open.push(incident),
                }
            }
            MessageKind::NoFurtherAction => {
                let incident = Incident::new(fact, words);
                if let Some(index) = self.incident(&incident).or_else(|| self.wider_incident(&incident)) {
                    self.open.remove(index);
                }
            }
            MessageKind::Penalty => self.take_penalty(fact, words),
            MessageKind::PenaltyWithdrawn => {
                fact.concerned_message = self.find_penalty(fact, |_| true).map(|index| self.penalties.remove(index).message_number);
            }
            MessageKind::PenaltyServed => {
                if let Some(index) = self.find_served(fact) {
                    self.penalties[index].is_served = true;
                    fact.concerned_message = Some(self.penalties[index].message_number);
                }
            }
            MessageKind::Unknown => self.unknown_messages += 1,
            _ => {}
        }
    }

    /// The open incident that `incident` is: of those of the same cars the one with which it has most in common, then the oldest.
    fn incident(&self, incident: &Incident) -> Option<usize> {
        self.most_alike(incident, |open| open.driver_numbers == incident.driver_numbers)
    }

    /// The open incident of more or of fewer cars that is decided by `incident`: it has the reason, or the place, in common with it.
    fn wider_incident(&self, incident: &Incident) -> Option<usize> {
        let is_part = |open: &Incident| {
            let (one, other) = (&open.driver_numbers, &incident.driver_numbers);
            one.iter().all(|car| other.contains(car)) || other.iter().all(|car| one.contains(car))
        };
        self.most_alike(incident, |open| !open.driver_numbers.is_empty() && is_part(open) && open.likeness(incident) > 0)
    }

    fn most_alike(&self, incident: &Incident, is_meant: impl Fn(&Incident) -> bool) -> Option<usize> {
        let found = self.open.iter().enumerate().filter(|(_, open)| is_meant(open) && open.may_be(incident));
        found.rev().max_by_key(|(_, open)| open.likeness(incident)).map(|(index, _)| index)
    }

    fn take_penalty(&mut self, fact: &mut RaceControlMessage, words: &Words) {
        let decided = Incident::new(fact, words);
        // The reason tells which incident of a car is decided; without one it is the only one, if there is but one.
        let of_car = |open: &Incident| open.driver_numbers.iter().any(|car| decided.driver_numbers.contains(car));
        let is_alone = self.open.iter().filter(|open| of_car(open)).count() == 1;
        let is_named = decided.reason.is_some() || decided.stamp.is_some();
        self.open.retain(|open| {
            !(of_car(open) && open.may_be(&decided) && if is_named { open.likeness(&decided) > 0 || is_alone } else { is_alone })
        });
        let Some(kind) = fact.penalty else { return };
        for &driver_number in &fact.driver_numbers {
            let (message_number, seconds, reason) = (fact.message_number, fact.penalty_seconds, decided.reason.clone());
            let penalty = Penalty { message_number, driver_number, kind, seconds, reason, is_served: false };
            let replaced = if fact.corrects {
                let old = words.replaced_penalty();
                self.find_penalty(fact, |given| given.driver_number == driver_number && old.is_none_or(|old| given.kind == old))
                    .or_else(|| self.penalties.iter().rposition(|given| given.is_same_but_for_the_car(&penalty)))
            } else {
                self.penalties.iter().position(|given| given.driver_number == driver_number && given.can_become(&penalty))
            };
            if let Some(index) = replaced {
                fact.corrects = true;
                fact.concerned_message = Some(self.penalties.remove(index).message_number);
            }
            self.penalties.push(penalty);
        }
    }

    /// The newest penalty of the message's cars that it can mean, rather one of its reason.
    fn find_penalty(&self, fact: &RaceControlMessage, is_meant: impl Fn(&Penalty) -> bool) -> Option<usize> {
        let reason = fact.reason.as_deref().map(comparable);
        let of_car = |given: &Penalty| fact.driver_numbers.contains(&given.driver_number) && is_meant(given);
        let find = |is_so: &dyn Fn(&Penalty) -> bool| self.penalties.iter().rposition(|given| of_car(given) && is_so(given));
        find(&|given| given.reason == reason).or_else(|| find(&|_| true))
    }

    /// The penalty that the message tells to be served.
    fn find_served(&self, fact: &RaceControlMessage) -> Option<usize> {
        let reason = fact.reason.as_deref().map(comparable);
        let is_of_kind =
            |given: &Penalty| given.is_to_serve() && fact.driver_numbers.contains(&given.driver_number) && Some(given.kind) == fact.penalty;
        let (seconds, likely) = (fact.penalty_seconds, |given: &Penalty| given.reason == reason);
        let find = |is_so: &dyn Fn(&Penalty) -> bool| self.penalties.iter().position(|given| is_of_kind(given) && is_so(given));
        find(&|given| agree(&given.seconds, &seconds) && likely(given))
            .or_else(|| find(&|given| agree(&given.seconds, &seconds)))
            .or_else(|| find(&likely))
            .or_else(|| find(&|_| true))
    }

    /// Counts the incident at the track limits and tells how many the car has had.
    fn count_track_limits(&mut self, driver_number: i32, turn: Option<i32>, moment: String) -> i32 {
        self.track_limits.insert((driver_number, turn, moment));
        self.track_limits.iter().filter(|(of, _, _)| *of == driver_number).count() as i32
    }
}

/// What tells a message from others: its date and words, its sector, and the car where the words name none.
fn key(message: &RaceControl, words: &Words) -> (Micros, String, Option<i32>, Option<i32>) {
    let driver_number = message.driver_number.filter(|_| words.cars(false).is_empty());
    (message.date, message.message.clone().unwrap_or_default(), driver_number, message.sector)
}

/// Whether the message is about what cars did, so that it is said once.
const fn is_judged(kind: MessageKind) -> bool {
    matches!(
        kind,
        MessageKind::LapDeleted
            | MessageKind::LapReinstated
            | MessageKind::LapUnderReview
            | MessageKind::Penalty
            | MessageKind::PenaltyServed
            | MessageKind::PenaltyWithdrawn
            | MessageKind::Warning
            | MessageKind::IncidentNoted
            | MessageKind::UnderInvestigation
            | MessageKind::InvestigatedAfterwards
            | MessageKind::NoFurtherAction
            | MessageKind::Disqualified
            | MessageKind::Reinstated
    )
}

fn read(message: &RaceControl, date: Micros, words: &Words, message_number: i32) -> RaceControlMessage {
    let mut driver_numbers = words.cars(false);
    if let Some(driver_number) = message.driver_number.filter(|number| !driver_numbers.contains(number)) {
        driver_numbers.push(driver_number);
    }
    let (kind, flag) = words.kind(message, !driver_numbers.is_empty());
    if matches!(kind, MessageKind::OrderForRestart | MessageKind::LappedCarsMayOvertake) {
        driver_numbers = words.cars(true);
    }
    let is_about_a_lap = matches!(kind, MessageKind::LapDeleted | MessageKind::LapReinstated | MessageKind::LapUnderReview);
    let is_penalty = matches!(kind, MessageKind::Penalty | MessageKind::PenaltyServed | MessageKind::PenaltyWithdrawn);
    let is_judged = is_judged(kind);
    let has_turn = is_judged || matches!(kind, MessageKind::Hazard | MessageKind::CarStopped | MessageKind::CarOffTrack);
    let named_sector = || match kind {
        MessageKind::DrsEnabled | MessageKind::DrsDisabled => words.number_after("ZONE"),
        MessageKind::Flag => words.number_after("SECTOR"),
        _ => None,
    };
    let (penalty, penalty_seconds) = if is_penalty {
        let (penalty, seconds) = words.penalty();
        (Some(penalty), seconds)
    } else {
        (None, None)
    };
    RaceControlMessage {
        message_number,
        kind,
        flag,
        sector: message.sector.or_else(named_sector),
        driver_numbers,
        lap_number: message.lap_number,
        qualifying_phase: message.qualifying_phase,
        concerned_lap: words.number_after("LAP").filter(|_| is_judged),
        concerned_time_ms: words.time_ms().filter(|_| is_about_a_lap),
        concerned_at: words.clock().filter(|_| is_judged).and_then(|clock| moment(clock, date)),
        turn: words.number_after("TURN").filter(|_| has_turn),
        penalty,
        penalty_seconds,
        reason: words.reason().filter(|_| is_judged),
        text: message.message.clone().unwrap_or_default(),
        track_limits: None,
        yellow_sectors: Vec::new(),
        double_yellow_sectors: Vec::new(),
        is_drs_enabled: None,
        open_investigations: 0,
        penalties_to_serve: 0,
        unknown_messages: 0,
        corrects: words.corrects(kind == MessageKind::Penalty),
        concerned_message: None,
        is_overtake_enabled: None,
    }
}

impl Operator for RaceControlOperator {
    const NAME: &'static str = "race_control";
    const VERSION: u32 = 4;
    type Output = RaceControlMessage;
    type State = State;

    fn parameters(&self) -> Vec<(&'static str, String)> {
        vec![
            ("messages_max", self.messages_max.to_string()),
            ("message_bytes_max", self.message_bytes_max.to_string()),
            ("doubled_ms", self.doubled_ms.to_string()),
        ]
    }
}

impl Handle<RaceControl> for RaceControlOperator {
    fn apply(&self, state: &mut State, message: &RaceControl, context: &mut Context<'_, RaceControlMessage>) {
        let text = message.message.as_deref().unwrap_or_default();
        if text.len() > self.message_bytes_max {
            return context.reject(format!("a message of race control has {} bytes, more than {}", text.len(), self.message_bytes_max));
        }
        let words = Words::new(text);
        if state.seen.len() >= self.messages_max && !state.seen.contains(&key(message, &words)) {
            return context.reject(format!("race control has sent more than {} messages", self.messages_max));
        }
        // A date well after the arrival is an error of the feed.
        let now = context.now();
        let date = if is_ahead(message.date, now) { now } else { message.date };
        let mut fact = read(message, date, &words, state.messages + 1);
        if state.is_known(message, &fact, &words, self) {
            return;
        }
        state.messages += 1;
        state.take(&mut fact, &words);
        if let (MessageKind::LapDeleted, [driver_number]) = (fact.kind, fact.driver_numbers.as_slice())
            && words.says("TRACK LIMITS")
        {
            let moment = words.clock().map_or_else(|| format!("lap {:?}", fact.concerned_lap), ToOwned::to_owned);
            fact.track_limits = Some(state.count_track_limits(*driver_number, fact.turn, moment));
        }
        let sectors =
            |is_double: bool| state.sectors.iter().filter(|(_, double)| **double == is_double).map(|(sector, _)| *sector).collect();
        fact.yellow_sectors = sectors(false);
        fact.double_yellow_sectors = sectors(true);
        fact.is_drs_enabled = state.is_drs_enabled;
        fact.is_overtake_enabled = state.is_overtake_enabled;
        fact.open_investigations = state.open.len() as i32;
        fact.penalties_to_serve = state.penalties.iter().filter(|penalty| penalty.is_to_serve()).count() as i32;
        fact.unknown_messages = state.unknown_messages;
        context.draft(fact).at(date).emit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bench, at_ms, race_control};
    use pitwall_schemas::raw::Sample;
    use proptest::prelude::*;

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
            "SAFETY CAR UPSIDE DOWN",
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
        for words in words::STOP_AND_GO {
            let penalty = format!("10 SECOND {words} PENALTY FOR CAR 43 (COL) - STARTING PROCEDURE INFRINGEMENT");
            let facts = said(&[&format!("FIA STEWARDS: {penalty}"), &format!("FIA STEWARDS: PENALTY SERVED - {penalty}")]);
            let read: Vec<_> = facts.iter().map(|fact| (fact.kind, fact.penalty, fact.penalty_seconds, fact.penalties_to_serve)).collect();
            let (kind, seconds) = (Some(PenaltyKind::StopAndGo), Some(10));
            assert_eq!(read, [(MessageKind::Penalty, kind, seconds, 1), (MessageKind::PenaltyServed, kind, seconds, 0)], "{words}");
        }
    }

    fn kinds(texts: &[&str]) -> Vec<MessageKind> {
        said(texts).into_iter().map(|fact| fact.kind).collect()
    }

    #[test]
    fn the_order_for_a_restart_names_every_car_in_its_order() {
        let facts = said(&["ORDER FOR RESTART: 4, 12, 63, 1", "RESUMPTION ORDER: 81 (PIA), 4 (NOR) AND 44 (HAM)"]);
        assert!(facts.iter().all(|fact| fact.kind == MessageKind::OrderForRestart));
        assert_eq!([&facts[0].driver_numbers[..], &facts[1].driver_numbers[..]], [&[4, 12, 63, 1][..], &[81, 4, 44][..]]);
    }

    #[test]
    fn a_restart_is_told_from_what_goes_before_it() {
        let texts = [
            "SAFETY CAR LIGHTS ON",
            "ROLLING START PROCEDURE",
            "ROLLING START",
            "STANDING START PROCEDURE",
            "STANDING START",
            "RACE WILL RESUME AT 15:33 - STANDING START PROCEDURE",
            "RACE WILL NOT BE RESUMED",
            "Q3 WILL NOT BE STARTED",
            "START ABORTED - EXTRA FORMATION LAP",
            "FORMATION LAP WILL START AT THE PRESCRIBED TIME",
            "RACE START",
        ];
        let expected = [
            MessageKind::SafetyCarLights,
            MessageKind::RollingStartProcedure,
            MessageKind::RollingStart,
            MessageKind::StandingStartProcedure,
            MessageKind::StandingStart,
            MessageKind::Resumption,
            MessageKind::NotResumed,
            MessageKind::NotHeld,
            MessageKind::StartAborted,
            MessageKind::FormationLap,
            MessageKind::RaceStart,
        ];
        assert_eq!(kinds(&texts), expected);
    }

    #[test]
    fn words_of_2026_are_known_and_the_overtake_mode_holds_until_it_is_disabled() {
        let facts = said(&[
            "OVERTAKE ENABLED",
            "LAPPED CARS MAY NOW OVERTAKE THE SAFETY CAR: 81, 14, 87",
            "STRAIGHT MODE - LOW GRIP",
            "LOW GRIP CONDITIONS",
            "OVERTAKE DISABLED",
            "CAR 43 (COL) WILL START FROM THE PIT LANE",
        ]);
        let read: Vec<_> = facts.iter().map(|fact| (fact.kind, fact.is_overtake_enabled)).collect();
        assert_eq!(
            read,
            [
                (MessageKind::OvertakeEnabled, Some(true)),
                (MessageKind::LappedCarsMayOvertake, Some(true)),
                (MessageKind::StraightMode, Some(true)),
                (MessageKind::Grip, Some(true)),
                (MessageKind::OvertakeDisabled, Some(false)),
                (MessageKind::PitLaneStart, Some(false)),
            ]
        );
        assert_eq!((&facts[1].driver_numbers[..], &facts[5].driver_numbers[..]), (&[81, 14, 87][..], &[43][..]));
    }

    #[test]
    fn a_reason_never_decides_what_a_message_says() {
        let facts = said(&[
            "TURN 1 INCIDENT INVOLVING CAR 5 (BOR) NOTED - FAILING TO SERVE TIME PENALTY CORRECTLY",
            "FIA STEWARDS: INCIDENT INVOLVING CAR 5 (BOR) UNDER INVESTIGATION - PENALTY SERVED INCORRECTLY",
            "FIA STEWARDS: 5 SECOND TIME PENALTY FOR CAR 5 (BOR) - FAILING TO SERVE DRIVE THROUGH PENALTY",
            "INCIDENT INVOLVING CAR 6 (HAD) NOTED - SAFETY CAR INFRINGEMENT (16:26:02)",
            "INCIDENT INVOLVING CAR 7 (DOO) NOTED - CROSSING THE WHITE LINE AT PIT EXIT",
        ]);
        let read: Vec<_> = facts.iter().map(|fact| (fact.kind, fact.penalty, fact.reason.as_deref())).collect();
        assert_eq!(
            read,
            [
                (MessageKind::IncidentNoted, None, Some("FAILING TO SERVE TIME PENALTY CORRECTLY")),
                (MessageKind::UnderInvestigation, None, Some("PENALTY SERVED INCORRECTLY")),
                (MessageKind::Penalty, Some(PenaltyKind::Time), Some("FAILING TO SERVE DRIVE THROUGH PENALTY")),
                (MessageKind::IncidentNoted, None, Some("SAFETY CAR INFRINGEMENT")),
                (MessageKind::IncidentNoted, None, Some("CROSSING THE WHITE LINE AT PIT EXIT")),
            ]
        );
        assert!(facts[3].concerned_at.is_some());
    }

    #[test]
    fn no_further_action_in_other_words_closes_the_incident() {
        let noted = "TURN 2 INCIDENT INVOLVING CARS 1 (VER) AND 63 (RUS) NOTED - CAUSING A COLLISION";
        for closing in [
            "FIA STEWARDS: TURN 2 INCIDENT INVOLVING CARS 63 (RUS) AND 1 (VER) REVIEWED NO FURTHER INVESTIGATION - CAUSING A COLLISION",
            "FIA STEWARDS: TURN 2 INCIDENT INVOLVING CARS 1 (VER) AND 63 (RUS) REVIEWED NO FURTHER INVESTIGATION",
            "FIA STEWARDS: INCIDENT INVOLVING CARS 63 (RUS), 1 (VER) - NO FURTHER ACTION - CAUSING A COLLISION",
            "FIA STEWARDS: TURN 2 INCIDENT INVOLVING CARS 63 (RUS) AND 1 (VER) - NO FURTHER ACTION",
            "FIA STEWARDS: NO FURTHER ACTION FOR CARS 63 (RUS) AND 1 (VER)",
            "FIA STEWARDS: TURN 2 INCIDENT INVOLVING CAR 63 (RUS) NO FURTHER ACTION - CAUSING A COLLISION",
            "FIA STEWARDS: TURN 2 INCIDENT INVOLVING CARS 63 (RUS) AND 1 (VER) REVIEWED NO INFRINGEMENT",
        ] {
            let facts = said(&[noted, closing]);
            let read: Vec<_> = facts.iter().map(|fact| (fact.kind, fact.open_investigations)).collect();
            assert_eq!(read, [(MessageKind::IncidentNoted, 1), (MessageKind::NoFurtherAction, 0)], "{closing}");
        }
        for other in [
            "FIA STEWARDS: TURN 4 INCIDENT INVOLVING CARS 63 (RUS) AND 1 (VER) NO FURTHER ACTION",
            "FIA STEWARDS: TURN 2 INCIDENT INVOLVING CARS 63 (RUS) AND 1 (VER) NO FURTHER ACTION - IMPEDING",
            "FIA STEWARDS: INCIDENT INVOLVING CAR 63 (RUS) NO FURTHER ACTION",
            "FIA STEWARDS: TURN 2 INCIDENT INVOLVING CARS 4 (NOR) AND 1 (VER) NO FURTHER ACTION - CAUSING A COLLISION",
        ] {
            assert_eq!(said(&[noted, other])[1].open_investigations, 1, "{other}");
        }
    }

    #[test]
    fn two_incidents_of_the_same_cars_are_told_apart_by_their_turn_and_time_of_day() {
        let facts = said(&[
            "TURN 1 INCIDENT INVOLVING CARS 1 (VER) AND 44 (HAM) NOTED - CAUSING A COLLISION",
            "TURN 4 INCIDENT INVOLVING CARS 44 (HAM) AND 1 (VER) NOTED - CAUSING A COLLISION",
            "FIA STEWARDS: TURN 4 INCIDENT INVOLVING CARS 1 (VER) AND 44 (HAM) UNDER INVESTIGATION",
            "INCIDENT INVOLVING CAR 6 (HAD) NOTED - TRACK LIMITS (16:26:02)",
            "INCIDENT INVOLVING CAR 6 (HAD) NOTED - TRACK LIMITS (16:31:10)",
            "FIA STEWARDS: 5 SECOND TIME PENALTY FOR CAR 6 (HAD) (16:26:02)",
            "LAP 1 TURN 1 INCIDENT NOTED",
            "FIA STEWARDS: LAP 1 TURN 1 INCIDENT REVIEWED NO FURTHER INVESTIGATION",
        ]);
        assert_eq!(facts.iter().map(|fact| fact.open_investigations).collect::<Vec<_>>(), [1, 2, 2, 3, 4, 3, 4, 3]);
    }

    #[test]
    fn a_corrected_or_converted_penalty_stands_in_place_of_the_one_before() {
        let first = "FIA STEWARDS: 10 SECOND TIME PENALTY FOR CAR 44 (HAM) - SPEEDING IN THE PIT LANE";
        let drive_through = "FIA STEWARDS: DRIVE THROUGH PENALTY FOR CAR 44 (HAM) - SPEEDING IN THE PIT LANE";
        for (given, then, seconds) in [
            (first, "CORRECTION: 5 SECOND TIME PENALTY FOR CAR 44 (HAM) - SPEEDING IN THE PIT LANE", 5),
            (first, "FIA STEWARDS: CORRECTION: 5 SECOND TIME PENALTY FOR CAR 44 (HAM) - SPEEDING IN THE PIT LANE", 5),
            (first, "CORRECTION: FIA STEWARDS: 5 SECOND TIME PENALTY FOR CAR 44 (HAM)", 5),
            (first, "FIA STEWARDS: UPDATE: 5 SECOND TIME PENALTY FOR CAR 44 (HAM) - SPEEDING IN THE PIT LANE", 5),
            (first, "CORRECTION: 10 SECOND TIME PENALTY FOR CAR 4 (NOR) - SPEEDING IN THE PIT LANE", 10),
            (drive_through, "FIA STEWARDS: DRIVE THROUGH PENALTY FOR CAR 44 (HAM) CONVERTED TO 20 SECOND TIME PENALTY", 20),
            (drive_through, "FIA STEWARDS: 20 SECOND TIME PENALTY FOR CAR 44 (HAM) IN LIEU OF DRIVE THROUGH PENALTY", 20),
            (drive_through, "FIA STEWARDS: 20 SECOND TIME PENALTY FOR CAR 44 (HAM) - SPEEDING IN THE PIT LANE", 20),
        ] {
            let facts = said(&["FIA STEWARDS: 5 SECOND TIME PENALTY FOR CAR 44 (HAM) - IMPEDING", given, then]);
            let last = &facts[2];
            let read = (last.kind, last.penalty, last.penalty_seconds, last.corrects, last.concerned_message, last.penalties_to_serve);
            assert_eq!(read, (MessageKind::Penalty, Some(PenaltyKind::Time), Some(seconds), true, Some(2), 2), "{then}");
        }
        let facts = said(&[first, "FIA STEWARDS: 20 SECOND TIME PENALTY FOR CAR 44 (HAM) - SPEEDING IN THE PIT LANE"]);
        assert_eq!((facts[1].corrects, facts[1].penalties_to_serve), (false, 2), "no drive-through was given");
    }

    #[test]
    fn a_penalty_and_a_disqualification_can_be_taken_back() {
        let facts = said(&[
            "FIA STEWARDS: 10 SECOND TIME PENALTY FOR CAR 44 (HAM) - SPEEDING IN THE PIT LANE",
            "FIA STEWARDS: 10 SECOND TIME PENALTY FOR CAR 44 (HAM) RESCINDED",
            "FIA STEWARDS: CAR 44 (HAM) DISQUALIFIED - TECHNICAL NON COMPLIANCE",
            "FIA STEWARDS: CAR 44 (HAM) REINSTATED",
            "FIA STEWARDS: DISQUALIFICATION OF CAR 44 (HAM) OVERTURNED",
            "CAR 44 (HAM) TIME 1:23.456 WILL BE REINSTATED",
        ]);
        let read: Vec<_> = facts.iter().map(|fact| (fact.kind, fact.penalties_to_serve)).collect();
        assert_eq!(
            read,
            [
                (MessageKind::Penalty, 1),
                (MessageKind::PenaltyWithdrawn, 0),
                (MessageKind::Disqualified, 0),
                (MessageKind::Reinstated, 0),
                (MessageKind::Reinstated, 0),
                (MessageKind::LapReinstated, 0),
            ]
        );
        assert_eq!(facts[1].concerned_message, Some(1));
    }

    #[test]
    fn of_two_penalties_the_one_of_those_seconds_and_that_reason_is_served() {
        let facts = said(&[
            "FIA STEWARDS: 5 SECOND TIME PENALTY FOR CAR 44 (HAM) - SPEEDING IN THE PIT LANE",
            "FIA STEWARDS: 10 SECOND TIME PENALTY FOR CAR 44 (HAM) - CAUSING A COLLISION",
            "FIA STEWARDS: PENALTY SERVED - 10 SECOND TIME PENALTY FOR CAR 44 (HAM) - CAUSING A COLLISION",
            "FIA STEWARDS: PENALTY SERVED - 5 SECOND TIME PENALTY FOR CAR 44 (HAM) (15:49:21)",
        ]);
        let read: Vec<_> = facts.iter().map(|fact| (fact.concerned_message, fact.penalties_to_serve)).collect();
        assert_eq!(read, [(None, 1), (None, 2), (Some(2), 1), (Some(1), 0)]);
    }

    #[test]
    fn a_message_about_cars_sent_twice_is_one_and_a_flag_shown_again_is_two() {
        let penalty = "FIA STEWARDS: 5 SECOND TIME PENALTY FOR CAR 44 (HAM) - IMPEDING";
        let as_other = RaceControl { category: Some("CarEvent".into()), driver_number: Some(44), ..race_control(at_ms(0), penalty) };
        let again = |ms| RaceControl { id: Some(7_777), ..race_control(at_ms(ms), penalty) };
        let yellow = |ms| flag(ms, "YELLOW", Some(5));
        let bench = play([again(0), as_other, again(3_000), yellow(4_000), yellow(5_000), again(20_000)]);
        let facts = bench.facts::<RaceControlMessage>();
        let read: Vec<_> = facts.iter().map(|(_, fact)| (fact.message_number, fact.penalties_to_serve)).collect();
        assert_eq!(read, [(1, 1), (2, 1), (3, 1), (4, 2)]);
    }

    #[test]
    fn a_message_is_read_by_its_words_whatever_its_category() {
        let facts =
            said(&["RED FLAG", "TRACK CLEAR", "CHEQUERED FLAG", "DOUBLE YELLOW IN TRACK SECTOR 5", "VSC ENDING", "YELLOW IN PIT LANE"]);
        let read: Vec<_> = facts.iter().map(|fact| (fact.kind, fact.flag, fact.sector)).collect();
        assert_eq!(
            read,
            [
                (MessageKind::Flag, Some(Flag::Red), None),
                (MessageKind::Flag, Some(Flag::Clear), None),
                (MessageKind::Flag, Some(Flag::Chequered), None),
                (MessageKind::Flag, Some(Flag::DoubleYellow), Some(5)),
                (MessageKind::VscEnding, None, None),
                (MessageKind::PitLane, None, None),
            ]
        );
    }

    #[test]
    fn a_red_flag_ends_the_flags_of_the_sectors_and_so_does_its_end() {
        let started = RaceControl { category: Some("SessionStatus".into()), ..race_control(at_ms(3), "SESSION STARTED") };
        let messages =
            [flag(0, "YELLOW", Some(7)), flag(1, "RED", None), flag(2, "DOUBLE YELLOW", Some(8)), started, flag(4, "YELLOW", Some(9))];
        let sectors: Vec<_> = play(messages)
            .facts::<RaceControlMessage>()
            .into_iter()
            .map(|(_, fact)| [fact.yellow_sectors, fact.double_yellow_sectors].concat())
            .collect();
        assert_eq!(sectors, [vec![7], vec![], vec![8], vec![], vec![9]]);
    }

    #[test]
    fn a_session_status_is_known_as_the_feed_names_it_and_as_openf1_does() {
        for words in ["SESSION STARTED", "Started", "Inactive", "SESSION ABORTED", "Finished", "SESSION FINALISED", "Ends"] {
            let message = RaceControl { category: Some("SessionStatus".into()), ..race_control(at_ms(0), words) };
            assert_eq!(play([message]).facts::<RaceControlMessage>()[0].1.kind, MessageKind::SessionStatus, "{words}");
        }
    }

    #[test]
    fn a_message_dated_a_day_ahead_is_of_the_moment_of_its_arrival() {
        let text = "CAR 14 (ALO) LAP DELETED - TRACK LIMITS AT TURN 19 LAP 6 12:55:00";
        let bench = play([race_control(at_ms(86_400_000), text)]);
        let (header, fact) = bench.facts::<RaceControlMessage>().remove(0);
        assert_eq!((header.event_time, fact.concerned_at), (at_ms(0), Some(at_ms(-300_000))));
    }

    proptest! {
        /// Words are data: whatever they are they are read, and read alike however they are written.
        #[test]
        fn any_words_are_read(words in prop::collection::vec(prop::sample::select(WORDS), 0..12), noise in "\\PC{0,12}") {
            let text = format!("{} {noise}", words.join(" "));
            let facts = said(&[&text]);
            prop_assert_eq!(facts.len(), 1);
            prop_assert!(facts[0].driver_numbers.iter().all(|number| (1..=99).contains(number)));
            let spaced = said(&[&words.join("  ").to_lowercase()]);
            prop_assert_eq!(spaced[0].kind, said(&[&words.join(" ")])[0].kind);
        }
    }

    const WORDS: &[&str] = &[
        "FIA",
        "STEWARDS:",
        "FIA STEWARDS:",
        "CORRECTION:",
        "-",
        " - ",
        "CAR",
        "CARS",
        "4",
        "44",
        "(NOR)",
        "AND",
        "PENALTY",
        "TIME",
        "5 SECOND",
        "FOR CAR",
        "SERVED",
        "CONVERTED",
        "TO",
        "FROM",
        "INCIDENT",
        "NOTED",
        "NO FURTHER",
        "(16:26:02)",
        "16:26:02",
        "(",
        ")",
        ":",
        "",
        "LAP",
        "TURN",
        "DELETED",
        "ORDER FOR RESTART:",
        "1:17.188",
        "SAFETY CAR",
        "IN THIS LAP",
        "RED FLAG",
        "SECTOR",
        "99999999999",
    ];
}
