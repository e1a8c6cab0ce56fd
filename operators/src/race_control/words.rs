//! The words of a message of race control, taken apart: which kind of message they make and what they name.
//!
//! Words are compared in capitals and with single spaces. What stands behind the first dash is the reason, and a reason never decides the
//! kind: `INCIDENT INVOLVING CAR 5 NOTED - FAILING TO SERVE TIME PENALTY` is no penalty. Only a verdict may stand behind a dash, too.

use pitwall_engine::Micros;
use pitwall_schemas::facts::{Flag, MessageKind, PenaltyKind};
use pitwall_schemas::raw::RaceControl;

/// How race control and its readers write a stop-and-go penalty.
pub(super) const STOP_AND_GO: [&str; 6] = ["STOP AND GO", "STOP-AND-GO", "STOP & GO", "STOP/GO", "STOP-GO", "STOP GO"];

/// How the end of a penalty or of a disqualification is told.
const TAKEN_BACK: [&str; 8] = ["RESCINDED", "WITHDRAWN", "CANCELLED", "REVOKED", "OVERTURNED", "ANNULLED", "SET ASIDE", "NO LONGER"];

/// How a penalty is told to become another one: which words, and whether the new penalty stands behind them.
const CONVERSIONS: [(&str, bool); 8] = [
    (" CONVERTED FROM ", false),
    (" IN LIEU OF ", false),
    (" INSTEAD OF ", false),
    (" IN PLACE OF ", false),
    (" REPLACES ", false),
    (" CONVERTED ", true),
    (" REPLACED BY ", true),
    (" REPLACED WITH ", true),
];

/// What local times differ from UTC by multiples of, µs.
const CLOCK_STEP: i64 = 1_800_000_000;

/// What a message says about an incident or a lap, with the words that say so; of several that fit the first is meant.
const VERDICTS: [(&str, MessageKind); 7] = [
    ("NO FURTHER", MessageKind::NoFurtherAction),
    ("NO ACTION", MessageKind::NoFurtherAction),
    ("NO INFRINGEMENT", MessageKind::NoFurtherAction),
    ("INVESTIGATED AFTER THE", MessageKind::InvestigatedAfterwards),
    ("INVESTIGATED AFTERWARDS", MessageKind::InvestigatedAfterwards),
    ("UNDER INVESTIGATION", MessageKind::UnderInvestigation),
    ("NOTED", MessageKind::IncidentNoted),
];

/// Messages that are told by words anywhere in them; of several that fit the first is meant. Sources: OpenF1 and the feed, 2023 to 2026.
const NOTICES: [(&str, MessageKind); 62] = [
    ("DRS ENABLED", MessageKind::DrsEnabled),
    ("DRS DISABLED", MessageKind::DrsDisabled),
    ("OVERTAKE ENABLED", MessageKind::OvertakeEnabled),
    ("OVERTAKE DISABLED", MessageKind::OvertakeDisabled),
    ("STRAIGHT MODE", MessageKind::StraightMode),
    ("GRIP CONDITIONS", MessageKind::Grip),
    ("GRIP DELTA", MessageKind::Grip),
    ("ORDER FOR RESTART", MessageKind::OrderForRestart),
    ("RESTART ORDER", MessageKind::OrderForRestart),
    ("RESUMPTION ORDER", MessageKind::OrderForRestart),
    ("WILL NOT BE RESUMED", MessageKind::NotResumed),
    ("WILL NOT RESUME", MessageKind::NotResumed),
    ("WILL NOT BE STARTED", MessageKind::NotHeld),
    ("WILL NOT TAKE PLACE", MessageKind::NotHeld),
    ("WILL NOT BE HELD", MessageKind::NotHeld),
    ("SESSION CANCELLED", MessageKind::NotHeld),
    ("HAS BEEN CANCELLED", MessageKind::NotHeld),
    ("WILL RESUME", MessageKind::Resumption),
    ("WILL BE RESUMED", MessageKind::Resumption),
    ("ESTIMATED RESUMPTION", MessageKind::Resumption),
    ("START FROM THE PIT LANE", MessageKind::PitLaneStart),
    ("ABORTED START", MessageKind::StartAborted),
    ("START ABORTED", MessageKind::StartAborted),
    ("STARTING PROCEDURE SUSPENDED", MessageKind::StartAborted),
    ("START PROCEDURE SUSPENDED", MessageKind::StartAborted),
    ("EXTRA FORMATION LAP", MessageKind::StartAborted),
    ("FORMATION LAP", MessageKind::FormationLap),
    ("ROLLING START PROCEDURE", MessageKind::RollingStartProcedure),
    ("STANDING START PROCEDURE", MessageKind::StandingStartProcedure),
    ("ROLLING START", MessageKind::RollingStart),
    ("STANDING START", MessageKind::StandingStart),
    ("THROUGH THE PIT LANE", MessageKind::SafetyCarThroughPitLane),
    ("USE START/FINISH STRAIGHT", MessageKind::SafetyCarOnStraight),
    ("USE START FINISH STRAIGHT", MessageKind::SafetyCarOnStraight),
    ("MAY NOW OVERTAKE", MessageKind::LappedCarsMayOvertake),
    ("LAPPED CARS", MessageKind::Notice),
    ("PIT EXIT", MessageKind::PitLane),
    ("PIT ENTRY", MessageKind::PitLane),
    ("PIT LANE ENTRY", MessageKind::PitLane),
    ("PIT LANE OPEN", MessageKind::PitLane),
    ("PIT LANE CLOSED", MessageKind::PitLane),
    ("PIT LANE CLEAR", MessageKind::PitLane),
    ("IN PIT LANE", MessageKind::PitLane),
    ("SLIPPERY", MessageKind::Slippery),
    ("WET TRACK", MessageKind::Slippery),
    ("RISK OF RAIN", MessageKind::RainRisk),
    ("MARSHALS", MessageKind::Hazard),
    ("PERSONNEL ON TRACK", MessageKind::Hazard),
    ("RECOVERY VEHICLE", MessageKind::Hazard),
    ("MEDICAL CAR", MessageKind::Hazard),
    ("DEBRIS", MessageKind::Hazard),
    ("WILL START", MessageKind::Schedule),
    ("WILL BE STARTED", MessageKind::Schedule),
    ("DELAYED", MessageKind::Schedule),
    ("EXTENDED", MessageKind::Schedule),
    ("WILL END AT", MessageKind::Schedule),
    ("ESTIMATED", MessageKind::Schedule),
    ("TEMPORARILY STOPPED", MessageKind::Schedule),
    ("SUSPENDED", MessageKind::Schedule),
    ("RACE START", MessageKind::RaceStart),
    ("SPRINT START", MessageKind::RaceStart),
    ("HAZARD DECLARED", MessageKind::Notice),
];

/// Messages that ask nothing of those who follow the session; told by their first words.
const BACKGROUND: [&str; 14] = [
    "ALL PASS HOLDERS",
    "ALL CARS",
    "AWNINGS",
    "AIR TEMPERATURE",
    "SESSION TEMPERATURE",
    "CHANGE IN CLIMATIC CONDITIONS",
    "WEATHER RADAR",
    "TRACK TEST",
    "TRACK INSPECTION",
    "NO PRACTICE STARTS",
    "PRACTICE STARTS",
    "PUSH CARS",
    "START ORDER",
    "THIS IS A TEST MESSAGE",
];

/// The words of a message.
pub(super) struct Words {
    /// In capitals, without what stands before them (`FIA STEWARDS:`, `CORRECTION:`, `UPDATE:`) and without the time of day that stands
    /// behind those of an incident.
    text: String,
    /// The time of day behind them.
    stamp: Option<String>,
    corrects: bool,
    is_update: bool,
}

impl Words {
    pub(super) fn new(text: &str) -> Self {
        let mut text = text.split_whitespace().collect::<Vec<_>>().join(" ").to_uppercase();
        let (mut corrects, mut is_update) = (false, false);
        while let Some((prefix, rest)) = ["FIA STEWARDS", "CORRECTION", "UPDATE"].iter().find_map(|prefix| {
            let rest = text.strip_prefix(prefix)?.trim_start();
            rest.starts_with([':', '-']).then(|| (*prefix, rest.trim_start_matches([':', '-', ' ']).to_owned()))
        }) {
            corrects |= prefix == "CORRECTION";
            is_update |= prefix == "UPDATE";
            text = rest;
        }
        let stamp = text
            .strip_suffix(')')
            .and_then(|words| words.rsplit_once(" ("))
            .and_then(|(before, clock)| is_clock(clock).then(|| (before.len(), clock.to_owned())));
        if let Some((length, _)) = &stamp {
            text.truncate(*length);
        }
        corrects |= text.split(' ').any(|word| matches!(word, "CORRECTION" | "CORRECTED" | "AMENDED"));
        Self { text, stamp: stamp.map(|(_, clock)| clock), corrects, is_update }
    }

    pub(super) fn says(&self, words: &str) -> bool {
        self.text.contains(words)
    }

    /// Whether it says to replace an earlier message, or a penalty by another one. An update of a penalty is the penalty as it is now.
    pub(super) fn corrects(&self, is_penalty: bool) -> bool {
        self.corrects || (is_penalty && (self.is_update || self.conversion().is_some()))
    }

    fn words(&self) -> impl Iterator<Item = &str> {
        self.text.split(' ')
    }

    /// What stands before the reason, without the announcement that a penalty was served.
    fn head(&self) -> &str {
        let text = self.text.strip_prefix("PENALTY SERVED - ").unwrap_or(&self.text);
        text.split(" - ").next().unwrap_or_default()
    }

    /// The numbers of all cars named, each once. A list behind a colon names cars without the word.
    pub(super) fn cars(&self, is_list: bool) -> Vec<i32> {
        let mut cars = Vec::new();
        if is_list {
            let list = self.text.rsplit_once(':').map_or(self.text.as_str(), |(_, list)| list);
            for number in list.split([',', ' ']).filter_map(car_number) {
                if !cars.contains(&number) {
                    cars.push(number);
                }
            }
            return cars;
        }
        let mut words = self.words().peekable();
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
                while words.next_if(|word| word.starts_with('(') || matches!(*word, "AND" | "&" | ",")).is_some() {}
            }
        }
        cars
    }

    /// The number after the last `name`, e.g. of `TURN 18`.
    pub(super) fn number_after(&self, name: &str) -> Option<i32> {
        let words: Vec<&str> = self.words().collect();
        let number = |word: &str| word.trim_end_matches([',', ':', ')', '.']).parse().ok();
        words.windows(2).rev().find_map(|pair| if pair[0] == name { number(pair[1]) } else { None })
    }

    /// The lap time after `TIME`, ms.
    pub(super) fn time_ms(&self) -> Option<i32> {
        let words: Vec<&str> = self.words().collect();
        words.windows(2).find_map(|pair| if pair[0] == "TIME" { lap_time_ms(pair[1]) } else { None })
    }

    /// Local time of day at which it happened, when the words name one.
    pub(super) fn clock(&self) -> Option<&str> {
        self.stamp.as_deref().or_else(|| self.text.rsplit(' ').find(|word| is_clock(word)))
    }

    /// The time of day behind the words, by which an incident is told from others.
    pub(super) fn stamp(&self) -> Option<&str> {
        self.stamp.as_deref()
    }

    /// What stands behind the first dash; a verdict that stands there is no reason.
    pub(super) fn reason(&self) -> Option<String> {
        let text = self.text.strip_prefix("PENALTY SERVED - ").unwrap_or(&self.text);
        let mut reason = text.split_once(" - ")?.1;
        while VERDICTS.iter().any(|(verdict, _)| reason.split(" - ").next().is_some_and(|part| part.contains(verdict))) {
            reason = reason.split_once(" - ")?.1;
        }
        Some(reason.trim().to_owned())
    }

    /// The penalty that is given or served, and its seconds.
    pub(super) fn penalty(&self) -> (PenaltyKind, Option<i32>) {
        penalty_of(self.conversion().map_or(self.head(), |(_, new)| new))
    }

    /// The penalty that is replaced, when the words name it.
    pub(super) fn replaced_penalty(&self) -> Option<PenaltyKind> {
        self.conversion().map(|(old, _)| penalty_of(old).0)
    }

    /// The words of the penalty that was and of the one that it becomes.
    fn conversion(&self) -> Option<(&str, &str)> {
        let head = self.head();
        CONVERSIONS.iter().find_map(|(words, is_new_behind)| {
            let (before, behind) = head.split_once(words).filter(|_| head.contains("PENALTY"))?;
            Some(if *is_new_behind { (before, behind) } else { (behind, before) })
        })
    }

    fn is_taken_back(&self) -> bool {
        TAKEN_BACK.iter().any(|words| self.head().contains(words))
    }

    /// What the message says, with its flag.
    pub(super) fn kind(&self, message: &RaceControl, names_a_car: bool) -> (MessageKind, Option<Flag>) {
        let sent = message.flag.as_deref().and_then(flag);
        match message.category.as_deref() {
            Some("Flag") => return flag_kind(sent.or_else(|| self.flag()), sent),
            Some("SessionStatus") => return (self.session_status().map_or(MessageKind::Unknown, |_| MessageKind::SessionStatus), sent),
            _ => {}
        }
        let found = self.safety_car().or_else(|| self.judgement(names_a_car));
        match found.or_else(|| self.flag().is_none().then(|| self.notice(names_a_car)).flatten()) {
            Some(kind) => (kind, sent),
            None => flag_kind(self.flag(), sent),
        }
    }

    /// The status that a session status names, with or without the word before it.
    pub(super) fn session_status(&self) -> Option<&str> {
        const KNOWN: [&str; 7] = ["STARTED", "RESUMED", "ABORTED", "FINISHED", "FINALISED", "ENDS", "INACTIVE"];
        Some(self.text.strip_prefix("SESSION ").unwrap_or(&self.text)).filter(|status| KNOWN.contains(status))
    }

    fn safety_car(&self) -> Option<MessageKind> {
        let (is_virtual, rest) = ["VIRTUAL SAFETY CAR ", "VSC ", "SAFETY CAR "]
            .iter()
            .find_map(|name| self.text.strip_prefix(name).map(|rest| (!name.starts_with("SAFETY"), rest)))?;
        match (is_virtual, rest) {
            (false, rest) if rest.starts_with("DEPLOYED") => Some(MessageKind::SafetyCarDeployed),
            (false, rest) if rest.starts_with("IN THIS LAP") => Some(MessageKind::SafetyCarInThisLap),
            (false, rest) if rest.starts_with("LIGHTS O") => Some(MessageKind::SafetyCarLights),
            (true, rest) if rest.starts_with("DEPLOYED") => Some(MessageKind::VscDeployed),
            (true, rest) if rest.starts_with("ENDING") => Some(MessageKind::VscEnding),
            _ => None,
        }
    }

    /// What it says about cars, their laps and their penalties.
    fn judgement(&self, names_a_car: bool) -> Option<MessageKind> {
        let head = self.head();
        let says = |words: &str| head.contains(words);
        let is_incident = self.says("INCIDENT");
        if says("FIRST CAR TO TAKE THE FLAG") {
            return names_a_car.then_some(MessageKind::FirstCarToTakeTheFlag);
        }
        // A penalty served names the penalty, a deleted lap may have been under investigation.
        if !is_incident && names_a_car {
            let of_lap = says("TIME") || says("LAP");
            let is_penalty = says("PENALTY") && !says("NO PENALTY");
            let is_served = (self.text.starts_with("PENALTY SERVED") || says("PENALTY SERVED")) && !self.says("INCORRECT");
            let kind = match () {
                () if of_lap && says("REINSTATED") => Some(MessageKind::LapReinstated),
                () if of_lap && says("DELETED") => Some(MessageKind::LapDeleted),
                () if is_served => Some(MessageKind::PenaltyServed),
                () if is_penalty && self.is_taken_back() => Some(MessageKind::PenaltyWithdrawn),
                () if is_penalty && (says("PENALTY FOR CAR") || penalty_of(head).0 != PenaltyKind::Other) => Some(MessageKind::Penalty),
                () if says("REPRIMAND") => Some(MessageKind::Penalty),
                () if says("WARNING FOR") => Some(MessageKind::Warning),
                () if says("REINSTATED") => Some(MessageKind::Reinstated),
                () if says("DISQUALIF") && self.is_taken_back() => Some(MessageKind::Reinstated),
                () if says("DISQUALIFIED") => Some(MessageKind::Disqualified),
                () if says("LAP TIME UNDER") || says("LAP UNDER") => Some(MessageKind::LapUnderReview),
                () => None,
            };
            if kind.is_some() {
                return kind;
            }
        }
        let verdict = VERDICTS.iter().find(|(words, _)| self.says(words)).filter(|_| is_incident || names_a_car);
        if let Some((_, kind)) = verdict {
            return Some(*kind);
        }
        let stopped = ["STOPPED", "RETIRED", "SLOW CAR"].iter().any(|words| says(words));
        let off = ["OFF TRACK", "OFF THE TRACK", "SPUN", "MISSED THE APEX", "RAN WIDE"].iter().any(|words| says(words));
        match (names_a_car, stopped, off) {
            (true, true, _) => Some(MessageKind::CarStopped),
            (true, false, true) => Some(MessageKind::CarOffTrack),
            _ => None,
        }
    }

    /// What it says about the track and the session.
    fn notice(&self, names_a_car: bool) -> Option<MessageKind> {
        let needs_a_car = |kind| matches!(kind, MessageKind::PitLaneStart);
        let found = NOTICES.iter().find(|(words, kind)| self.says(words) && (names_a_car || !needs_a_car(*kind)));
        let is_background = || BACKGROUND.iter().any(|words| self.text.starts_with(words)) || self.says("HEAD PADDING");
        found.map(|(_, kind)| *kind).or_else(|| is_background().then_some(MessageKind::Notice))
    }

    /// The flag that the words name.
    fn flag(&self) -> Option<Flag> {
        const BY_WORDS: [(&str, Flag); 13] = [
            ("RED FLAG", Flag::Red),
            ("CHEQUERED FLAG", Flag::Chequered),
            ("TRACK CLEAR", Flag::Clear),
            ("CLEAR IN TRACK", Flag::Clear),
            ("DOUBLE YELLOW", Flag::DoubleYellow),
            ("YELLOW IN TRACK", Flag::Yellow),
            ("YELLOW FLAG", Flag::Yellow),
            ("GREEN LIGHT", Flag::Green),
            ("GREEN FLAG", Flag::Green),
            ("WAVED BLUE FLAG", Flag::Blue),
            ("BLUE FLAG", Flag::Blue),
            ("BLACK AND WHITE FLAG", Flag::BlackAndWhite),
            ("BLACK AND ORANGE FLAG", Flag::BlackAndOrange),
        ];
        let found = BY_WORDS.iter().find(|(words, _)| self.text.starts_with(words)).map(|(_, flag)| *flag);
        found.or_else(|| self.text.starts_with("BLACK FLAG").then_some(Flag::Black))
    }

    /// Whether it is about a race of another series of the weekend, whose messages come in the same feed.
    pub(super) fn is_about_another_series(&self) -> bool {
        self.words().any(|word| matches!(word, "F2" | "F3" | "PORSCHE" | "ACADEMY"))
    }
}

/// What a message that shows `flag` is.
const fn flag_kind(flag: Option<Flag>, sent: Option<Flag>) -> (MessageKind, Option<Flag>) {
    match flag {
        Some(Flag::Black) => (MessageKind::Disqualified, flag),
        Some(_) => (MessageKind::Flag, flag),
        None => (MessageKind::Unknown, sent),
    }
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

/// The penalty that `words` name, and its seconds.
fn penalty_of(words: &str) -> (PenaltyKind, Option<i32>) {
    let says = |part: &str| words.contains(part);
    let kind = if says("DRIVE THROUGH") || says("DRIVE-THROUGH") {
        PenaltyKind::DriveThrough
    } else if STOP_AND_GO.iter().any(|written| says(written)) {
        PenaltyKind::StopAndGo
    } else if says("GRID") {
        PenaltyKind::Grid
    } else if says("TIME PENALTY") {
        PenaltyKind::Time
    } else if says("REPRIMAND") {
        PenaltyKind::Reprimand
    } else {
        PenaltyKind::Other
    };
    let words: Vec<&str> = words.split([' ', '-']).collect();
    let seconds = words.windows(2).find_map(|pair| if matches!(pair[1], "SECOND" | "SECONDS") { pair[0].parse().ok() } else { None });
    (kind, seconds)
}

/// The car number that a word is, without what separates it from the next.
fn car_number(word: &str) -> Option<i32> {
    word.trim_end_matches([',', ':', ';', '.']).parse().ok().filter(|number| (1..=99).contains(number))
}

fn is_clock(word: &str) -> bool {
    word.len() == 8 && word.bytes().enumerate().all(|(at, byte)| if at % 3 == 2 { byte == b':' } else { byte.is_ascii_digit() })
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
pub(super) fn moment(clock: &str, date: Micros) -> Option<Micros> {
    let seconds = clock.split(':').try_fold(0, |seconds, part| part.parse::<i64>().ok().map(|part| seconds * 60 + part))?;
    Some(date.plus(-(date.0 - seconds * 1_000_000).rem_euclid(CLOCK_STEP)))
}
