//! Track status: `race_control` messages folded into one status, with `laps` to tell when the safety car's last lap has ended, and that a
//! session has started when race control does not say so.
//!
//! The status is one of the feed's codes (FastF1): a safety car and a virtual one are different statuses, and only "clear" ends either.
//! * `SAFETY CAR IN THIS LAP` keeps `SAFETY_CAR`, marked as ending, until the leader begins the next lap: until the line there is no
//!   passing (sporting regulations). A `TRACK CLEAR` before that ends it too, and `SAFETY CAR DEPLOYED` takes the end back.
//! * A race resumed with a `ROLLING START` is behind the safety car until the first car begins a lap: cars leave the pit lane in a queue
//!   behind it (sporting regulations).
//! * `VIRTUAL SAFETY CAR ENDING` is its own status until `TRACK CLEAR`, some 10 to 15 s later.
//! * A red flag ends with `TRACK CLEAR`, with the pit exit's green light, with a safety car, or when the session starts again. It ends
//!   the yellow flags of the sectors, and so does its own end (sporting code, appendix H).
//! * While nothing covers the whole track, the status is `YELLOW` as long as any marshalling sector is.
//!
//! The session, in race control's words (OpenF1: `SESSION` and the feed's Inactive, Started, Aborted, Finished, Finalised or Ends):
//! * `SESSION STARTED` is the start unless the session was going before: then it is resumed, and keeps its start. It was going when it was
//!   stopped by a red flag, when race control counts a second lap or announces a resumption, as a late join sees it.
//! * A race that was stopped on its first lap without a red flag, or whose start race control calls aborted, starts with its next start. So
//!   does one that is said to start again a minute later and still counts lap 1: that the first start was aborted is said then.
//! * `WILL RESUME` tells that the session stands still, `WILL NOT BE RESUMED` that it has finished. What has finished is neither aborted
//!   nor inactive afterwards.
//! * The lap that race control counts, compared with the leader's in `laps`, tells by how much OpenF1's numbers are behind after a late
//!   join. It counts when the next lap's document shows that it was sent while that lap was under way.
//! * Without a session status a lap that has begun tells that the session has started: lap 1 of a race with its date.
//!
//! A message is news of its sector, of the whole track or of the session when it is as new as the newest about that
//! ([`known`](crate::known)). Of one date each words are taken once, whatever their `_id`. Unknown words change nothing.

use std::collections::{BTreeMap, BTreeSet};

use pitwall_engine::Micros;
use pitwall_engine::operator::{Context, Handle, Operator};
use pitwall_schemas::facts::{Flag, MessageKind, SessionState, Status, TrackStatus};
use pitwall_schemas::raw::{Lap, RaceControl};
use serde::{Deserialize, Serialize};

use crate::known::{Known, Version, in_order, is_ahead};
use crate::race_control::{MESSAGE_BYTES_MAX, is_about_another_series, kind, session_status};

/// Highest marshalling sector; the longest circuit has about 30.
const SECTOR_MAX: i32 = 64;

/// The place of a yellow flag that is shown on the whole track among those of the sectors, which count from 1.
const WHOLE_TRACK: i32 = 0;

/// Messages of one date that are remembered. Of more the first in alphabetical order is forgotten.
const SAME_MOMENT_MAX: usize = 64;

/// How long after a start another one is a start of its own, µs: longer than a message takes that is sent twice, shorter than a lap.
const START_AGAIN_MIN: i64 = 60 * Micros::SECOND;

/// How far the number of a lap may lie above that of the safety car's last lap to be the one that follows it.
const LAPS_AHEAD_MAX: i32 = 3;

/// No car drives a lap faster, µs: a number that it cannot have reached yet is an error of the feed.
const LAP_MIN: i64 = 50 * Micros::SECOND;

/// How exact race control's dates are, µs: most are whole seconds, cut off.
const DATE_STEP: i64 = Micros::SECOND;

/// Folds race control's messages.
#[derive(Debug, Clone, Copy, Default)]
pub struct TrackStatusOperator;

/// What race control has said so far.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    /// What covers the whole track; never `YELLOW`, which is in `yellow`.
    whole_track: Known<Status>,
    /// When the red flag was shown that covers it, or covered it last.
    red_at: Option<Micros>,
    /// When everything was last said to be clear, or red: a yellow flag from before no longer counts.
    cleared_at: Option<Micros>,
    /// The safety car's announced end.
    ending: Option<Ending>,
    /// Sectors under yellow.
    yellow: BTreeMap<i32, Yellow>,
    session: Known<SessionState>,
    qualifying_phase: Known<i32>,
    start: Start,
    /// Whether the whole session is over.
    is_over: Known<bool>,
    laps: Laps,
    /// The newest message about the whole track, about each sector and about the session.
    track_news: News,
    sector_news: BTreeMap<i32, News>,
    session_news: News,
    /// When the newest status of the session was sent.
    session_at: Option<Micros>,
    /// The newest words that imply one.
    implied_news: News,
}

/// A yellow flag, and the ledger record that showed it.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Yellow {
    shown_at: Micros,
    cause: u64,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Ending {
    announced_at: Micros,
    last_lap: LastLap,
    cause: u64,
}

/// At whose end the safety car comes in.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum LastLap {
    /// The leader's lap, by race control's count; unknown when the message has none.
    Leader(Option<i32>),
    /// The lap of the queue behind the safety car: the first car that begins another one leads it.
    Queue,
}

/// When the session started, and what tells whether it is the start.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Start {
    at: Known<Micros>,
    /// Whether race control has called it aborted since.
    is_aborted: bool,
    /// Since when the session is known to be going, or to have been: a start after that is none.
    going_since: Option<Micros>,
}

/// Race control's count of laps, and OpenF1's numbers of the leader's.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Laps {
    /// Date and lap of the newest message that has one; only those of races have.
    counted: Option<(Micros, i32)>,
    /// When race control first counted a second lap.
    second_at: Option<Micros>,
    /// The highest lap begun, and when.
    begun: Option<(i32, Micros)>,
    /// A count that was sent while that lap was under way, until the next one shows that it was: date, lap, ledger record.
    pending: Option<(Micros, i32, u64)>,
    /// How many laps OpenF1's numbers are behind the count.
    behind: Known<i32>,
}

impl Laps {
    const fn is_race(&self) -> bool {
        self.counted.is_some()
    }

    /// Whether a car has begun a second lap since `start`.
    fn has_begun_a_second(&self, start: Micros) -> bool {
        self.begun.is_some_and(|(number, since)| number >= 2 && since > start)
    }

    /// Takes race control's count at `date`.
    fn count(&mut self, date: Micros, lap_number: Option<i32>, seq: u64) {
        let Some(lap_number) = lap_number else { return };
        if self.counted.is_none_or(|(newest, _)| newest <= date) {
            self.counted = Some((date, lap_number));
        }
        if lap_number >= 2 {
            self.second_at = Some(self.second_at.map_or(date, |first| first.min(date)));
        }
        if self.begun.is_some_and(|(_, since)| since.plus(DATE_STEP) <= date) {
            self.pending = Some((date, lap_number, seq));
        }
    }

    /// Takes that a car began a lap. The count that was pending is compared when it was sent on the lap that the leader ends now.
    fn begin(&mut self, number: i32, since: Micros, seq: u64) -> Option<[u64; 2]> {
        let (last, last_since) = *self.begun.get_or_insert((number, since));
        let time = since.since(last_since);
        if number <= last || time < 0 || i64::from(number - last - 1) * LAP_MIN > time {
            return None;
        }
        self.begun = Some((number, since));
        let (date, counted, cause) = self.pending.take()?;
        let was_under_way = number == last + 1 && last_since.plus(DATE_STEP) <= date && date.plus(DATE_STEP) <= since;
        let is_news = was_under_way && counted >= last && self.behind.take(Some(counted - last), seq);
        is_news.then_some([cause, seq])
    }
}

/// Which messages about one thing are news.
#[derive(Debug, Default, Serialize, Deserialize)]
struct News {
    version: Version,
    /// Date, words and `_id` of those of the newest date, and of those dated ahead.
    taken: BTreeSet<(Micros, String)>,
}

impl News {
    /// Takes the message, and tells whether it is news: as new as the newest, and not sent before.
    fn take(&mut self, message: &RaceControl, now: Micros) -> bool {
        let said = (message.date, text(message).to_owned());
        if self.taken.contains(&said) || !self.version.take_dated(message.date, message.id, now) {
            return false;
        }
        if !is_ahead(message.date, now) {
            self.taken.retain(|(date, _)| *date >= message.date);
        }
        self.taken.insert(said);
        if self.taken.len() > SAME_MOMENT_MAX {
            self.taken.pop_first();
        }
        true
    }
}

/// The parts of the status whose change is worth a fact.
#[derive(PartialEq, Eq)]
struct Standing {
    status: Status,
    is_ending: bool,
    session: SessionState,
    qualifying_phase: Option<i32>,
    started_at: Option<Micros>,
    is_over: bool,
    lap_numbers_behind: Option<i32>,
}

impl State {
    /// The track's status now.
    #[must_use]
    pub fn status(&self) -> Status {
        self.standing().status
    }

    fn standing(&self) -> Standing {
        let whole_track = self.whole_track.value().copied().unwrap_or(Status::Clear);
        Standing {
            status: if whole_track == Status::Clear && !self.yellow.is_empty() { Status::Yellow } else { whole_track },
            is_ending: self.ending.is_some(),
            session: self.session_state(),
            qualifying_phase: self.qualifying_phase.value().copied(),
            started_at: self.start.at.value().copied(),
            is_over: self.is_over.value() == Some(&true),
            lap_numbers_behind: self.laps.behind.value().copied(),
        }
    }

    fn session_state(&self) -> SessionState {
        self.session.value().copied().unwrap_or(SessionState::Inactive)
    }

    fn cover(&mut self, status: Status, seq: u64) {
        self.whole_track.take(Some(status), seq);
        self.ending = None;
    }

    /// Takes the flags of all sectors in at `date`.
    fn clear_sectors(&mut self, date: Micros) {
        self.cleared_at = self.cleared_at.max(Some(date));
        self.yellow.retain(|_, yellow| yellow.shown_at > date);
    }

    fn take_flag(&mut self, flag: Flag, message: &Message<'_>, sector: i32) {
        let Message { date, seq, .. } = *message;
        match flag {
            Flag::Yellow | Flag::DoubleYellow if Some(date) >= self.cleared_at => {
                self.yellow.entry(sector).or_insert(Yellow { shown_at: date, cause: seq });
            }
            Flag::Red => {
                self.cover(Status::Red, seq);
                self.red_at = Some(date);
                self.clear_sectors(date);
            }
            // The pit exit's light tells that cars may go out again; it says nothing of a safety car on the track.
            Flag::Green if text(message.raw).contains("PIT EXIT") => self.end_red(date, seq),
            Flag::Clear | Flag::Green if sector == WHOLE_TRACK => {
                self.cover(Status::Clear, seq);
                self.clear_sectors(date);
            }
            Flag::Clear | Flag::Green => {
                self.yellow.remove(&sector);
            }
            _ => {}
        }
    }

    fn take_safety_car(&mut self, kind: MessageKind, message: &Message<'_>) {
        let Message { date, seq, raw } = *message;
        match kind {
            MessageKind::VscDeployed => self.cover(Status::Vsc, seq),
            MessageKind::VscEnding => self.cover(Status::VscEnding, seq),
            MessageKind::SafetyCarDeployed => self.cover(Status::SafetyCar, seq),
            MessageKind::SafetyCarInThisLap => {
                self.end_safety_car(LastLap::Leader(raw.lap_number.or_else(|| self.lap_number())), date, seq);
            }
            MessageKind::RollingStart if self.ending.is_none() && self.is_behind_the_safety_car() => {
                self.end_safety_car(LastLap::Queue, date, seq);
            }
            _ => {}
        }
    }

    /// Whether a rolling start is announced to cars that follow the safety car.
    fn is_behind_the_safety_car(&self) -> bool {
        let is_resumed = self.start.at.value().is_none_or(|start| self.red_at.max(self.start.going_since) > Some(*start));
        self.session_state() == SessionState::Started && is_resumed || self.whole_track.value() == Some(&Status::SafetyCar)
    }

    fn end_safety_car(&mut self, last_lap: LastLap, announced_at: Micros, cause: u64) {
        self.cover(Status::SafetyCar, cause);
        self.ending = Some(Ending { announced_at, last_lap, cause });
    }

    /// Takes what is said about the session: its status, or words that imply it.
    fn take_session(&mut self, kind: MessageKind, message: &Message<'_>) {
        let Message { date, seq, raw } = *message;
        let has_finished = self.session_state() == SessionState::Finished;
        let status = session_status(raw).filter(|_| kind == MessageKind::SessionStatus);
        match (kind, status.as_deref()) {
            (_, Some("STARTED")) => self.begin(message, false),
            (_, Some("RESUMED")) => self.begin(message, true),
            (MessageKind::Resumption, _) if !has_finished => {
                self.stand_still(seq);
                self.start.going_since.get_or_insert(date);
            }
            (MessageKind::StartAborted, _) if self.session_state() == SessionState::Started && !self.has_second_lap(date) => {
                self.stand_still(seq);
                self.start.is_aborted = true;
            }
            (_, Some("ABORTED")) if !has_finished => self.stand_still(seq),
            (_, Some("INACTIVE")) if self.session.value().is_none() => {
                self.session.take(Some(SessionState::Inactive), seq);
            }
            (_, Some("FINISHED")) | (MessageKind::Flag | MessageKind::NotResumed, _) => self.finish(seq),
            (_, Some("FINALISED" | "ENDS")) => {
                self.finish(seq);
                self.is_over.take(Some(true), seq);
            }
            (MessageKind::NotHeld, _) if has_finished => {
                self.is_over.take(Some(true), seq);
            }
            _ => {}
        }
    }

    fn finish(&mut self, seq: u64) {
        self.session.take(Some(SessionState::Finished), seq);
    }

    fn stand_still(&mut self, seq: u64) {
        self.session.take(Some(SessionState::Aborted), seq);
    }

    /// Whether race control has counted a second lap since the start and before `date`.
    fn has_second_lap(&self, date: Micros) -> bool {
        self.laps.second_at.is_some_and(|second| second <= date && self.start.at.value().is_none_or(|start| second > *start))
    }

    /// The session starts, or goes on.
    fn begin(&mut self, message: &Message<'_>, is_said_to_resume: bool) {
        let Message { date, seq, raw } = *message;
        if !is_said_to_resume && self.is_start(date, raw.qualifying_phase) {
            self.start = Start::default();
            self.laps.second_at = self.laps.second_at.filter(|second| *second > date);
            self.start.at.take(Some(date), seq);
            self.is_over = Known::default();
        }
        self.session.take(Some(SessionState::Started), seq);
        self.qualifying_phase.take(raw.qualifying_phase, seq);
        self.end_red(date, seq);
    }

    /// Whether the message says that a race that is going starts again.
    fn starts_anew(&self, message: &Message<'_>) -> bool {
        session_status(message.raw).as_deref() == Some("STARTED")
            && self.session_state() == SessionState::Started
            && self.start.at.value().is_some_and(|start| message.date.since(*start) >= START_AGAIN_MIN)
            && self.is_start(message.date, message.raw.qualifying_phase)
    }

    /// Whether a session that is said to start at `date` does so for the first time, or anew.
    fn is_start(&self, date: Micros, qualifying_phase: Option<i32>) -> bool {
        let known = self.start.at.value().copied();
        let is_next_phase =
            qualifying_phase.is_some() && self.qualifying_phase.value().is_some_and(|phase| Some(*phase) != qualifying_phase);
        let was_red = self.red_at.is_some_and(|red| red < date && known.is_none_or(|start| red > start));
        let was_going = self.start.going_since.is_some_and(|since| since < date) || was_red || self.has_second_lap(date);
        match (self.session_state(), known) {
            _ if is_next_phase => true,
            (SessionState::Finished, _) => !self.laps.is_race(),
            (_, None) => !was_going,
            (state, Some(start)) => {
                let was_stopped = state == SessionState::Aborted;
                let is_another = was_stopped || date.since(start) >= START_AGAIN_MIN;
                // Outside races, where laps are not counted, only a stop before anybody's second lap tells of an aborted start.
                let counts = self.laps.is_race() || (was_stopped && !self.laps.has_begun_a_second(start));
                is_another && counts && !self.has_second_lap(date) && (self.start.is_aborted || !was_red)
            }
        }
    }

    fn end_red(&mut self, date: Micros, seq: u64) {
        if self.whole_track.value() == Some(&Status::Red) && self.red_at <= Some(date) {
            self.cover(Status::Clear, seq);
            self.clear_sectors(date);
        }
    }

    /// Whether a car that begins lap `number` at `since` ends the safety car's last lap.
    fn ends_last_lap(&self, ending: &Ending, number: i32, since: Micros) -> bool {
        let has_number = |last: i32| {
            let last = last - self.laps.behind.value().copied().unwrap_or(0);
            (last + 1..=last + LAPS_AHEAD_MAX).contains(&number)
        };
        since >= ending.announced_at
            && match ending.last_lap {
                // Cars behind the leader begin their own laps meanwhile, but only the leader's can have a higher number.
                LastLap::Leader(last) => last.is_some_and(has_number),
                LastLap::Queue => true,
            }
    }

    /// Says the status if it is another than `before`; `reasons` are the ledger records that changed it.
    fn say(&self, before: &Standing, change: Change, reasons: &[u64], context: &mut Context<'_, TrackStatus>) {
        let standing = self.standing();
        if standing == *before {
            return;
        }
        let yellow = self.yellow.values().filter(|_| standing.status == Status::Yellow).map(|yellow| yellow.cause);
        let known = [self.whole_track.cause(), self.session.cause(), self.qualifying_phase.cause(), self.start.at.cause()];
        let more = [self.is_over.cause(), self.laps.behind.cause()];
        let causes = in_order(known.into_iter().chain(more).chain(yellow.chain(reasons.iter().copied()).map(Some)));
        let Standing { status, is_ending, session, qualifying_phase, started_at, is_over, lap_numbers_behind } = standing;
        let Change { at, lap_number, message } = change;
        let fact =
            TrackStatus { status, is_ending, session, qualifying_phase, lap_number, message, started_at, is_over, lap_numbers_behind };
        context.draft(fact).because(&causes).at(at).emit();
    }

    /// The leader's lap now, by race control's count.
    fn lap_number(&self) -> Option<i32> {
        self.laps.counted.map(|(_, lap_number)| lap_number)
    }
}

/// When and by what the status changed.
struct Change {
    at: Micros,
    lap_number: Option<i32>,
    message: Option<String>,
}

/// A message being taken: its date, which is that of its arrival when it is dated well ahead of it, and its ledger record.
#[derive(Clone, Copy)]
struct Message<'a> {
    raw: &'a RaceControl,
    date: Micros,
    seq: u64,
}

/// What a message changes, as said.
fn change(state: &State, message: &Message<'_>) -> Change {
    let lap_number = message.raw.lap_number.or_else(|| state.lap_number());
    Change { at: message.date, lap_number, message: message.raw.message.clone() }
}

fn text(message: &RaceControl) -> &str {
    message.message.as_deref().unwrap_or_default()
}

/// The sector that a flag is shown in, [`WHOLE_TRACK`] for all of them, `None` for a flag that is shown to one driver.
fn sector(message: &RaceControl) -> Result<Option<i32>, String> {
    match (message.scope.as_deref(), message.sector) {
        (Some("Driver"), _) => Ok(None),
        (Some("Sector"), Some(sector)) if (1..=SECTOR_MAX).contains(&sector) => Ok(Some(sector)),
        (Some("Sector"), sector) => Err(format!("marshalling sector {sector:?} is outside 1 to {SECTOR_MAX}")),
        _ => Ok(Some(WHOLE_TRACK)),
    }
}

impl Operator for TrackStatusOperator {
    const NAME: &'static str = "track_status";
    const VERSION: u32 = 2;
    type Output = TrackStatus;
    type State = State;
}

impl Handle<RaceControl> for TrackStatusOperator {
    fn apply(&self, state: &mut State, raw: &RaceControl, context: &mut Context<'_, TrackStatus>) {
        if text(raw).len() > MESSAGE_BYTES_MAX || is_about_another_series(raw) {
            return;
        }
        let (mut before, now) = (state.standing(), context.now());
        let date = if is_ahead(raw.date, now) { now } else { raw.date };
        let message = Message { raw, date, seq: context.seq() };
        state.laps.count(date, raw.lap_number, message.seq);
        let (kind, flag) = kind(raw);
        match (kind, flag) {
            (MessageKind::Flag, Some(Flag::Chequered)) | (MessageKind::SessionStatus, _) if state.session_news.take(raw, now) => {
                state.session_at = state.session_at.max(Some(date));
                if state.starts_anew(&message) {
                    state.stand_still(message.seq);
                    state.say(&before, change(state, &message), &[message.seq], context);
                    before = state.standing();
                }
                state.take_session(kind, &message);
            }
            (MessageKind::Flag, Some(flag)) if flag != Flag::Chequered => match sector(raw) {
                Err(reason) => return context.reject(reason),
                Ok(None) => {}
                Ok(Some(sector)) => {
                    let news = if sector == WHOLE_TRACK { &mut state.track_news } else { state.sector_news.entry(sector).or_default() };
                    if news.take(raw, now) {
                        state.take_flag(flag, &message, sector);
                    }
                }
            },
            (
                MessageKind::SafetyCarDeployed
                | MessageKind::SafetyCarInThisLap
                | MessageKind::VscDeployed
                | MessageKind::VscEnding
                | MessageKind::RollingStart,
                _,
            ) if state.track_news.take(raw, now) => state.take_safety_car(kind, &message),
            // A late join gets them before the session's statuses, which must not pass for old then.
            (MessageKind::Resumption | MessageKind::NotResumed | MessageKind::NotHeld | MessageKind::StartAborted, _)
                if Some(date) >= state.session_at && state.implied_news.take(raw, now) =>
            {
                state.take_session(kind, &message);
            }
            _ => {}
        }
        state.say(&before, change(state, &message), &[message.seq], context);
    }
}

impl Handle<Lap> for TrackStatusOperator {
    fn apply(&self, state: &mut State, lap: &Lap, context: &mut Context<'_, TrackStatus>) {
        let Some(since) = lap.date_start.filter(|since| !is_ahead(*since, context.now())) else { return };
        let (before, seq) = (state.standing(), context.seq());
        let mut reasons = vec![seq];
        let mut lap_number = state.lap_number();
        if matches!(state.session.value(), None | Some(SessionState::Inactive)) {
            state.session.take(Some(SessionState::Started), seq);
            if state.laps.is_race() && lap.lap_number == 1 && lap_number == Some(1) {
                state.start.at.take(Some(since), seq);
            }
        }
        reasons.extend(state.laps.begin(lap.lap_number, since, seq).into_iter().flatten());
        if let Some(ending) = state.ending.filter(|ending| state.ends_last_lap(ending, lap.lap_number, since)) {
            state.cover(Status::Clear, seq);
            reasons.push(ending.cause);
            lap_number = Some(lap.lap_number + state.laps.behind.value().copied().unwrap_or(0));
        }
        state.say(&before, Change { at: since, lap_number, message: None }, &reasons, context);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bench, at_ms, lap, race_control};
    use pitwall_schemas::raw::Sample;
    use proptest::prelude::*;

    fn bench() -> Bench {
        Bench::new(|graph| {
            graph.publish(TrackStatusOperator, |inputs| inputs.samples::<RaceControl>().samples::<Lap>());
        })
    }

    fn safety_car(ms: i64, lap_number: i32, words: &str) -> Sample {
        let lap_number = Some(lap_number);
        Sample::from(RaceControl { category: Some("SafetyCar".into()), lap_number, ..race_control(at_ms(ms), words) })
    }

    fn session(ms: i64, words: &str) -> Sample {
        Sample::from(RaceControl { category: Some("SessionStatus".into()), ..race_control(at_ms(ms), words) })
    }

    fn flag(ms: i64, flag: &str, sector: Option<i32>, words: &str) -> Sample {
        let scope = if sector.is_some() { "Sector" } else { "Track" };
        let (category, flag, scope) = (Some("Flag".into()), Some(flag.into()), Some(scope.into()));
        Sample::from(RaceControl { category, flag, scope, sector, ..race_control(at_ms(ms), words) })
    }

    fn lap_begins(driver_number: i32, lap_number: i32, ms: i64) -> Sample {
        Sample::from(Lap { date_start: Some(at_ms(ms)), ..lap(driver_number, lap_number) })
    }

    fn play(samples: impl IntoIterator<Item = (i64, Sample)>) -> Bench {
        let mut bench = bench();
        for (ms, sample) in samples {
            bench.arrive(ms, sample);
        }
        bench
    }

    fn statuses(bench: &Bench) -> Vec<(Status, bool)> {
        bench.facts::<TrackStatus>().iter().map(|(_, fact)| (fact.status, fact.is_ending)).collect()
    }

    /// Case 15.
    #[test]
    fn safety_car_in_this_lap_stays_until_the_leader_begins_the_next_lap() {
        let bench = play([
            (0, session(-9, "SESSION STARTED")),
            (0, safety_car(0, 23, "SAFETY CAR DEPLOYED")),
            (10, safety_car(10, 27, "SAFETY CAR IN THIS LAP")),
            // A car behind the leader begins the lap that the leader is on.
            (50, lap_begins(44, 27, 50)),
            // The leader's next lap, but a version of it from before the announcement cannot be meant.
            (55, lap_begins(81, 28, 5)),
            (60, lap_begins(81, 28, 60)),
        ]);
        assert_eq!(statuses(&bench)[1..], [(Status::SafetyCar, false), (Status::SafetyCar, true), (Status::Clear, false)]);
        let facts = bench.facts::<TrackStatus>();
        let (header, fact) = &facts[3];
        assert_eq!((header.causes.as_slice(), fact.lap_number, fact.message.as_deref()), ([0, 2, 5].as_slice(), Some(28), None));
    }

    /// Case 16.
    #[test]
    fn virtual_safety_car_ending_is_not_clear_until_clear() {
        let bench = play([
            (0, session(-9, "SESSION STARTED")),
            (0, safety_car(0, 70, "VIRTUAL SAFETY CAR DEPLOYED")),
            (1, safety_car(1, 71, "VIRTUAL SAFETY CAR ENDING")),
            (2, lap_begins(1, 72, 2)),
            (3, flag(3, "GREEN", None, "GREEN LIGHT - PIT EXIT OPEN")),
            (4, flag(4, "CLEAR", None, "TRACK CLEAR")),
        ]);
        assert_eq!(statuses(&bench)[1..], [(Status::Vsc, false), (Status::VscEnding, false), (Status::Clear, false)]);
    }

    /// Case 15.
    #[test]
    fn safety_car_and_virtual_safety_car_are_different_statuses() {
        let bench = play([(0, safety_car(0, 3, "VIRTUAL SAFETY CAR DEPLOYED")), (1, safety_car(1, 4, "SAFETY CAR DEPLOYED"))]);
        assert_eq!(statuses(&bench), [(Status::Vsc, false), (Status::SafetyCar, false)]);
    }

    #[test]
    fn the_track_is_yellow_while_any_sector_is() {
        let bench = play([
            (0, flag(0, "YELLOW", Some(7), "YELLOW IN TRACK SECTOR 7")),
            (1, flag(1, "DOUBLE YELLOW", Some(8), "DOUBLE YELLOW IN TRACK SECTOR 8")),
            (2, flag(2, "CLEAR", Some(7), "CLEAR IN TRACK SECTOR 7")),
            (3, flag(3, "CLEAR", Some(8), "CLEAR IN TRACK SECTOR 8")),
        ]);
        assert_eq!(statuses(&bench), [(Status::Yellow, false), (Status::Clear, false)]);
    }

    #[test]
    fn a_red_flag_ends_the_yellow_flags_of_the_sectors_and_so_does_its_end() {
        let bench = play([
            (0, flag(0, "YELLOW", Some(7), "YELLOW IN TRACK SECTOR 7")),
            (1, flag(1, "RED", None, "RED FLAG")),
            (2, flag(2, "YELLOW", Some(8), "YELLOW IN TRACK SECTOR 8")),
            (3, session(3, "SESSION STARTED")),
            (4, flag(4, "YELLOW", Some(9), "YELLOW IN TRACK SECTOR 9")),
        ]);
        let expected = [Status::Yellow, Status::Red, Status::Clear, Status::Yellow].map(|status| (status, false));
        assert_eq!(statuses(&bench), expected);
        assert_eq!(bench.facts::<TrackStatus>()[2].0.causes, [3]);
    }

    #[test]
    fn a_red_flag_counts_though_a_later_flag_of_a_sector_came_before_it() {
        let bench = play([
            (10, flag(8, "CLEAR", Some(3), "CLEAR IN TRACK SECTOR 3")),
            (11, flag(7, "RED", None, "RED FLAG")),
            (12, flag(6, "YELLOW", Some(4), "YELLOW IN TRACK SECTOR 4")),
        ]);
        assert_eq!(statuses(&bench), [(Status::Red, false)]);
        assert_eq!(bench.facts::<TrackStatus>()[0].0.event_time, at_ms(7));
    }

    #[test]
    fn a_flag_dated_a_day_ahead_is_taken_as_of_now_and_freezes_nothing() {
        let day = 86_400_000;
        let bench = play([
            (1, flag(day, "YELLOW", None, "YELLOW FLAG")),
            (2, session(day + 1, "SESSION STARTED")),
            (3, flag(3, "CLEAR", None, "TRACK CLEAR")),
            (4, session(4, "SESSION ABORTED")),
        ]);
        let said: Vec<_> =
            bench.facts::<TrackStatus>().iter().map(|(header, fact)| (header.event_time, fact.status, fact.session)).collect();
        use SessionState::{Aborted, Inactive, Started};
        assert_eq!(
            said,
            [
                (at_ms(1), Status::Yellow, Inactive),
                (at_ms(2), Status::Yellow, Started),
                (at_ms(3), Status::Clear, Started),
                (at_ms(4), Status::Clear, Aborted)
            ]
        );
    }

    #[test]
    fn a_message_sent_twice_with_another_id_or_category_changes_nothing() {
        let red = |id, category: &str| {
            let flag = Some("RED".into()).filter(|_| category == "Flag");
            let scope = Some("Track".into());
            Sample::from(RaceControl { category: Some(category.into()), flag, scope, id: Some(id), ..race_control(at_ms(5), "RED FLAG") })
        };
        let bench = play([(5, red(1, "Flag")), (9, session(9, "SESSION STARTED")), (10, red(2, "Flag")), (11, red(3, "Other"))]);
        assert_eq!(statuses(&bench), [(Status::Red, false), (Status::Clear, false)]);
    }

    #[test]
    fn a_safety_car_sent_out_again_while_ending_is_not_ending() {
        let bench = play([
            (0, session(0, "SESSION STARTED")),
            (1, safety_car(1, 23, "SAFETY CAR DEPLOYED")),
            (2, safety_car(2, 27, "SAFETY CAR IN THIS LAP")),
            (3, safety_car(3, 27, "SAFETY CAR DEPLOYED")),
            (4, lap_begins(81, 28, 4)),
        ]);
        assert_eq!(statuses(&bench)[1..], [(Status::SafetyCar, false), (Status::SafetyCar, true), (Status::SafetyCar, false)]);
    }

    #[test]
    fn a_lap_out_of_reach_does_not_end_the_safety_car() {
        let bench = play([(0, session(0, "SESSION STARTED")), (1, safety_car(1, 23, "SAFETY CAR IN THIS LAP")), (2, lap_begins(4, 57, 2))]);
        assert_eq!(statuses(&bench).last(), Some(&(Status::SafetyCar, true)));
    }

    #[test]
    fn a_red_flag_ends_with_the_pit_exits_green_light() {
        let bench = play([(0, flag(0, "RED", None, "RED FLAG")), (1, flag(1, "GREEN", None, "GREEN LIGHT - PIT EXIT OPEN"))]);
        assert_eq!(statuses(&bench), [(Status::Red, false), (Status::Clear, false)]);
    }

    #[test]
    fn the_session_starts_is_aborted_and_finishes_with_the_chequered_flag() {
        let bench = play([
            (0, session(0, "SESSION STARTED")),
            (1, session(1, "SESSION ABORTED")),
            (2, session(2, "SESSION STARTED")),
            (3, flag(3, "CHEQUERED", None, "CHEQUERED FLAG")),
            (4, session(4, "SESSION FINISHED")),
        ]);
        let sessions: Vec<_> = bench.facts::<TrackStatus>().iter().map(|(_, fact)| fact.session).collect();
        use SessionState::{Aborted, Finished, Started};
        assert_eq!(sessions, [Started, Aborted, Started, Finished]);
    }

    #[test]
    fn unknown_words_change_nothing() {
        let bench = play([
            (0, safety_car(0, 3, "SAFETY CAR WILL USE START FINISH STRAIGHT")),
            (1, session(1, "SESSION UPSIDE DOWN")),
            (2, flag(2, "BLUE", None, "WAVED BLUE FLAG FOR CAR 30")),
            (3, Sample::from(race_control(at_ms(3), "RISK OF RAIN FOR F1 RACE IS 0%"))),
        ]);
        assert!(statuses(&bench).is_empty() && bench.rejections().is_empty());
    }

    #[test]
    fn a_sector_that_no_circuit_has_is_rejected() {
        let bench = play([(0, flag(0, "YELLOW", Some(65), "YELLOW IN TRACK SECTOR 65"))]);
        assert!(statuses(&bench).is_empty());
        assert_eq!(bench.rejections(), ["marshalling sector Some(65) is outside 1 to 64"]);
    }

    #[test]
    fn a_message_of_before_the_red_flag_does_not_end_it_when_a_late_join_replays_it() {
        let bench = play([
            (9_000, flag(5_000, "RED", None, "RED FLAG")),
            (9_000, session(1_000, "SESSION STARTED")),
            (9_000, session(5_100, "SESSION ABORTED")),
        ]);
        assert_eq!(statuses(&bench).last(), Some(&(Status::Red, false)));
    }

    fn counted(lap_number: i32, sample: Sample) -> Sample {
        let Sample::RaceControl(message) = sample else { unreachable!("a message") };
        Sample::from(RaceControl { lap_number: Some(lap_number), ..*message })
    }

    fn words(ms: i64, lap_number: i32, words: &str) -> Sample {
        counted(lap_number, Sample::from(race_control(at_ms(ms), words)))
    }

    /// What is said of the session, and when it started, ms.
    fn starts(bench: &Bench) -> Vec<(SessionState, Option<i64>)> {
        let ms = |at: Micros| at.since(at_ms(0)) / 1_000;
        let mut starts: Vec<_> = bench.facts::<TrackStatus>().iter().map(|(_, fact)| (fact.session, fact.started_at.map(ms))).collect();
        starts.dedup();
        starts
    }

    use SessionState::{Aborted, Finished, Inactive, Started};

    #[test]
    fn a_race_resumed_after_a_red_flag_keeps_its_start_also_on_lap_1() {
        let bench = play([
            (0, counted(1, session(0, "SESSION STARTED"))),
            (50_000, counted(1, flag(50_000, "RED", None, "RED FLAG"))),
            (50_500, counted(1, session(50_500, "SESSION ABORTED"))),
            (1_800_000, counted(1, session(1_800_000, "SESSION STARTED"))),
        ]);
        assert_eq!(starts(&bench), [(Started, Some(0)), (Aborted, Some(0)), (Started, Some(0))]);
    }

    #[test]
    fn a_race_whose_start_was_aborted_starts_with_the_next_one_however_it_is_told() {
        let start = |ms| (ms, counted(1, session(ms, "SESSION STARTED")));
        let told: [&[(i64, Sample)]; 4] = [
            &[],
            &[(60_000, counted(1, session(60_000, "SESSION ABORTED")))],
            &[(60_000, words(60_000, 1, "ABORTED START"))],
            &[(60_000, words(60_000, 1, "START ABORTED - EXTRA FORMATION LAP"))],
        ];
        for between in told {
            let bench = play([start(0)].into_iter().chain(between.iter().cloned()).chain([start(1_583_000)]));
            assert_eq!(starts(&bench), [(Started, Some(0)), (Aborted, Some(0)), (Started, Some(1_583_000))], "{between:?}");
        }
    }

    #[test]
    fn a_start_sent_again_is_the_same_start() {
        let bench = play([(0, counted(1, session(0, "SESSION STARTED"))), (1_500, counted(1, session(1_000, "SESSION STARTED")))]);
        assert_eq!(starts(&bench), [(Started, Some(0))]);
        let bench = play([
            (0, counted(1, session(0, "SESSION STARTED"))),
            (300_000, counted(4, flag(300_000, "CLEAR", None, "TRACK CLEAR"))),
            (400_000, counted(5, session(400_000, "SESSION STARTED"))),
        ]);
        assert_eq!(starts(&bench), [(Started, Some(0))], "a race on lap 5 is going");
    }

    #[test]
    fn a_late_join_takes_no_resumption_for_the_start() {
        let bench = play([
            (0, words(0, 8, "RACE WILL RESUME AT 11:35")),
            (9_000, session(9_000, "SESSION STARTED")),
            (20_000, session(20_000, "SESSION FINISHED")),
        ]);
        assert_eq!(starts(&bench), [(Aborted, None), (Started, None), (Finished, None)]);
        assert_eq!(bench.facts::<TrackStatus>()[1].1.lap_number, Some(8));
        let bench = play([(0, flag(0, "RED", None, "RED FLAG")), (9_000, session(9_000, "SESSION STARTED"))]);
        assert_eq!(starts(&bench), [(Inactive, None), (Started, None)]);
    }

    #[test]
    fn a_late_join_that_gets_the_flags_before_the_session_finds_the_start() {
        let bench = play([
            (9_000_000, flag(1_000_000, "RED", None, "RED FLAG")),
            (9_000_000, Sample::from(race_control(at_ms(1_500_000), "SESSION WILL RESUME AT 12:46"))),
            (9_000_000, flag(1_800_000, "GREEN", None, "GREEN LIGHT - PIT EXIT OPEN")),
            (9_000_000, session(0, "SESSION STARTED")),
            (9_000_000, session(1_000_500, "SESSION ABORTED")),
            (9_000_000, session(1_800_100, "SESSION STARTED")),
        ]);
        assert_eq!(starts(&bench), [(Inactive, None), (Aborted, None), (Started, Some(0)), (Aborted, Some(0)), (Started, Some(0))]);
    }

    #[test]
    fn each_segment_of_qualifying_has_its_start_with_and_without_its_number() {
        for phases in [[Some(1), Some(2)], [None, None]] {
            let start = |ms, phase: Option<i32>| {
                let Sample::RaceControl(message) = session(ms, "SESSION STARTED") else { unreachable!("a message") };
                (ms, Sample::from(RaceControl { qualifying_phase: phase, ..*message }))
            };
            let bench = play([
                start(0, phases[0]),
                (100, flag(100, "RED", None, "RED FLAG")),
                (101, session(101, "SESSION ABORTED")),
                start(300, phases[0]),
                (400, flag(400, "CHEQUERED", None, "CHEQUERED FLAG")),
                (450, session(450, "SESSION INACTIVE")),
                start(500, phases[1]),
            ]);
            let expected = [(Started, Some(0)), (Aborted, Some(0)), (Started, Some(0)), (Finished, Some(0)), (Started, Some(500))];
            assert_eq!(starts(&bench), expected);
        }
    }

    #[test]
    fn the_session_is_over_when_race_control_says_so_and_not_with_a_segment() {
        for (last, is_over) in [("SESSION FINISHED", false), ("SESSION FINALISED", true), ("SESSION ENDS", true), ("Ends", true)] {
            let bench = play([(0, session(0, "SESSION STARTED")), (1, session(1, last))]);
            let (_, fact) = bench.facts::<TrackStatus>().pop().unwrap();
            assert_eq!((fact.session, fact.is_over), (Finished, is_over), "{last}");
        }
        let third = Sample::from(race_control(at_ms(2), "Q3 WILL NOT BE STARTED"));
        let bench = play([(0, session(0, "SESSION STARTED")), (1, session(1, "SESSION FINISHED")), (2, third)]);
        assert!(bench.facts::<TrackStatus>().pop().unwrap().1.is_over);
    }

    #[test]
    fn a_race_that_will_not_be_resumed_has_finished_and_one_that_has_finished_is_not_aborted() {
        let bench = play([
            (0, counted(1, session(0, "SESSION STARTED"))),
            (1, session(1, "SESSION ABORTED")),
            (2, words(2, 7, "F2 RACE WILL NOT BE RESUMED")),
            (3, words(3, 7, "RACE WILL NOT BE RESUMED")),
            (4, session(4, "SESSION ABORTED")),
        ]);
        assert_eq!(starts(&bench), [(Started, Some(0)), (Aborted, Some(0)), (Finished, Some(0))]);
    }

    #[test]
    fn laps_tell_that_a_session_without_status_has_started_and_lap_1_of_a_race_when() {
        let bench = play([(0, words(0, 1, "PIT EXIT CLOSED")), (500, lap_begins(4, 1, 400)), (90_000, lap_begins(4, 2, 90_000))]);
        let facts = bench.facts::<TrackStatus>();
        let [(header, fact)] = facts.as_slice() else { panic!("{facts:?}") };
        assert_eq!((fact.session, fact.started_at, fact.lap_number), (Started, Some(at_ms(400)), Some(1)));
        assert_eq!((header.causes.as_slice(), header.event_time), ([1].as_slice(), at_ms(400)));
        let bench = play([(0, lap_begins(4, 31, 0))]);
        assert_eq!(starts(&bench), [(Started, None)], "a late join does not know when");
        let bench = play([(0, Sample::from(lap(4, 1)))]);
        assert!(starts(&bench).is_empty(), "a document of a lap that has not begun tells nothing");
    }

    #[test]
    fn race_controls_count_tells_how_far_the_numbers_of_laps_are_behind() {
        let behind = |race: Vec<(i64, Sample)>| {
            let bench = play(race);
            bench.facts::<TrackStatus>().last().and_then(|(_, fact)| fact.lap_numbers_behind)
        };
        let laps = |message: i64, counted: i32| {
            vec![
                (0, lap_begins(4, 8, 0)),
                (message, words(message, counted, "DRS ENABLED")),
                (72_000, lap_begins(4, 9, 71_000)),
                (73_000, lap_begins(1, 9, 72_000)),
            ]
        };
        assert_eq!(behind(laps(60_000, 9)), Some(1));
        assert_eq!(behind(laps(60_000, 8)), Some(0));
        assert_eq!(behind(laps(71_500, 9)), None, "the leader had begun the next lap");
        assert_eq!(behind(laps(500, 8)), None, "dates are whole seconds");
    }

    #[test]
    fn the_safety_cars_last_lap_ends_in_time_when_the_numbers_of_laps_are_behind() {
        let bench = play([
            (0, lap_begins(4, 26, 0)),
            (60_000, words(60_000, 27, "DRS DISABLED")),
            (90_000, lap_begins(4, 27, 90_000)),
            (100_000, safety_car(100_000, 28, "SAFETY CAR IN THIS LAP")),
            (180_000, lap_begins(4, 28, 180_000)),
        ]);
        assert_eq!(bench.facts::<TrackStatus>().last().map(|(_, fact)| (fact.status, fact.lap_number)), Some((Status::Clear, Some(29))));
    }

    #[test]
    fn a_rolling_start_after_a_red_flag_is_behind_the_safety_car_until_the_line() {
        let bench = play([
            (0, words(0, 8, "RACE WILL RESUME AT 11:35")),
            (9_000, session(9_000, "SESSION STARTED")),
            (50_000, words(50_000, 8, "ROLLING START")),
            (99_000, lap_begins(4, 8, 99_000)),
        ]);
        let expected = [(Status::Clear, false), (Status::Clear, false), (Status::SafetyCar, true), (Status::Clear, false)];
        assert_eq!(statuses(&bench), expected);
        let bench = play([(0, counted(1, session(0, "SESSION STARTED"))), (1, words(1, 1, "ROLLING START"))]);
        assert_eq!(statuses(&bench), [(Status::Clear, false)], "nothing tells of a safety car");
    }

    fn any_message() -> impl Strategy<Value = fn(i64) -> Sample> {
        prop::sample::select(vec![
            (|ms| safety_car(ms, 3, "SAFETY CAR DEPLOYED")) as fn(i64) -> Sample,
            |ms| safety_car(ms, 3, "VIRTUAL SAFETY CAR DEPLOYED"),
            |ms| safety_car(ms, 3, "VIRTUAL SAFETY CAR ENDING"),
            |ms| flag(ms, "RED", None, "RED FLAG"),
            |ms| flag(ms, "CLEAR", None, "TRACK CLEAR"),
            |ms| flag(ms, "YELLOW", Some(2), "YELLOW IN TRACK SECTOR 2"),
            |ms| flag(ms, "CLEAR", Some(2), "CLEAR IN TRACK SECTOR 2"),
            |ms| session(ms, "SESSION STARTED"),
            |ms| session(ms, "SESSION ABORTED"),
        ])
    }

    proptest! {
        /// A reconnect replays messages already taken; none of them may say anything.
        #[test]
        fn replayed_messages_say_nothing(messages in prop::collection::vec(any_message(), 1..40), from in 0_usize..40) {
            let mut bench = bench();
            for (second, message) in messages.iter().enumerate() {
                bench.arrive(second as i64 * 1_000, message(second as i64 * 1_000));
            }
            let said = bench.facts::<TrackStatus>();
            for (second, message) in messages.iter().enumerate().skip(from) {
                bench.arrive(60_000, message(second as i64 * 1_000));
            }
            prop_assert_eq!(bench.facts::<TrackStatus>(), said);
        }

        /// Two facts in a row differ in more than the words.
        #[test]
        fn only_changes_are_said(messages in prop::collection::vec(any_message(), 1..40)) {
            let mut bench = bench();
            for (second, message) in messages.iter().enumerate() {
                bench.arrive(second as i64 * 1_000, message(second as i64 * 1_000));
            }
            let facts = bench.facts::<TrackStatus>();
            for pair in facts.windows(2) {
                let [(_, one), (_, two)] = pair else { unreachable!("windows of two") };
                prop_assert!((one.status, one.is_ending, one.session) != (two.status, two.is_ending, two.session));
            }
        }
    }
}
