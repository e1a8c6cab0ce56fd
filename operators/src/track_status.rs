//! Track status: `race_control` messages folded into one status, with `laps` to tell when the safety car's last lap has ended.
//!
//! The status is one of the feed's codes (FastF1): a safety car and a virtual one are different statuses, and only "clear" ends either.
//! * `SAFETY CAR IN THIS LAP` keeps `SAFETY_CAR`, marked as ending, until the leader begins the next lap: until the line there is no
//!   passing (sporting regulations). A `TRACK CLEAR` before that ends it too.
//! * `VIRTUAL SAFETY CAR ENDING` is its own status until `TRACK CLEAR`, some 10 to 15 s later.
//! * A red flag ends with `TRACK CLEAR`, with the pit exit's green light, with a safety car, or when the session starts again.
//! * While nothing covers the whole track, the status is `YELLOW` as long as any marshalling sector is.
//!
//! Messages sent again after a reconnect are known by their date, and change nothing; so do unknown texts.

use std::collections::BTreeMap;

use pitwall_engine::Micros;
use pitwall_engine::operator::{Context, Handle, Operator};
use pitwall_schemas::facts::{SessionState, Status, TrackStatus};
use pitwall_schemas::raw::{Lap, RaceControl};
use serde::{Deserialize, Serialize};

use crate::known::{Known, in_order};

/// Highest marshalling sector; the longest circuit has about 30.
const SECTOR_MAX: i32 = 64;

/// The place of a yellow flag that is shown on the whole track among those of the sectors, which count from 1.
const WHOLE_TRACK: i32 = 0;

/// Folds race control's messages.
#[derive(Debug, Clone, Copy, Default)]
pub struct TrackStatusOperator;

/// What race control has said so far.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    /// What covers the whole track; never `YELLOW`, which is in `yellow`.
    whole_track: Known<Status>,
    /// The safety car's announced end.
    ending: Option<Ending>,
    /// Sectors under yellow, with the ledger record that said so.
    yellow: BTreeMap<i32, u64>,
    session: Known<SessionState>,
    qualifying_phase: Known<i32>,
    /// The newest message about the track, and the newest about the session: older ones are replayed.
    track_at: MessageOrder,
    session_at: MessageOrder,
}

/// Messages in the order race control sent them: by date and, since most dates are whole seconds, by OpenF1's `_id`.
type MessageOrder = Option<(Micros, Option<i64>)>;

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Ending {
    announced_at: Micros,
    /// The leader's lap, at whose end the safety car comes in.
    lap_number: Option<i32>,
    cause: u64,
}

/// The parts of the status whose change is worth a fact.
#[derive(PartialEq, Eq)]
struct Standing {
    status: Status,
    is_ending: bool,
    session: SessionState,
    qualifying_phase: Option<i32>,
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
            session: self.session.value().copied().unwrap_or(SessionState::Inactive),
            qualifying_phase: self.qualifying_phase.value().copied(),
        }
    }

    fn cover(&mut self, status: Status, seq: u64) {
        self.whole_track.take(Some(status), seq);
        self.ending = None;
    }

    fn take_flag(&mut self, flag: &str, message: &RaceControl, context: &mut Context<'_, TrackStatus>) {
        let sector = match (message.scope.as_deref(), message.sector) {
            (Some("Sector"), Some(sector)) if (1..=SECTOR_MAX).contains(&sector) => sector,
            (Some("Sector"), sector) => {
                return context.reject(format!("marshalling sector {sector:?} is outside 1 to {SECTOR_MAX}"));
            }
            (Some("Driver"), _) => return,
            _ => WHOLE_TRACK,
        };
        let seq = context.seq();
        match flag {
            "YELLOW" | "DOUBLE YELLOW" => {
                self.yellow.entry(sector).or_insert(seq);
            }
            "RED" => self.cover(Status::Red, seq),
            // The pit exit's light tells that cars may go out again; it says nothing of a safety car on the track.
            "GREEN" if text(message).contains("PIT EXIT") => self.end_red(seq),
            "CLEAR" | "GREEN" if sector == WHOLE_TRACK => {
                self.cover(Status::Clear, seq);
                self.yellow.clear();
            }
            "CLEAR" | "GREEN" => {
                self.yellow.remove(&sector);
            }
            _ => {}
        }
    }

    fn take_safety_car(&mut self, message: &RaceControl, seq: u64) {
        let words = text(message);
        let is_virtual = words.contains("VIRTUAL") || words.contains("VSC");
        match (is_virtual, words) {
            (true, words) if words.contains("DEPLOYED") => self.cover(Status::Vsc, seq),
            (true, words) if words.contains("ENDING") => self.cover(Status::VscEnding, seq),
            (false, words) if words.contains("DEPLOYED") => self.cover(Status::SafetyCar, seq),
            (false, words) if words.contains("IN THIS LAP") => {
                self.cover(Status::SafetyCar, seq);
                self.ending = Some(Ending { announced_at: message.date, lap_number: message.lap_number, cause: seq });
            }
            _ => {}
        }
    }

    fn take_session_status(&mut self, message: &RaceControl, seq: u64) {
        let session = match text(message) {
            "SESSION STARTED" | "SESSION RESUMED" => SessionState::Started,
            "SESSION ABORTED" => SessionState::Aborted,
            "SESSION FINISHED" | "SESSION FINALISED" | "SESSION ENDS" => SessionState::Finished,
            "SESSION INACTIVE" => SessionState::Inactive,
            _ => return,
        };
        self.session.take(Some(session), seq);
        if session == SessionState::Started {
            self.qualifying_phase.take(message.qualifying_phase, seq);
            if self.track_at.is_none_or(|(newest, _)| newest <= message.date) {
                self.end_red(seq);
            }
        }
    }

    fn end_red(&mut self, seq: u64) {
        if self.whole_track.value() == Some(&Status::Red) {
            self.cover(Status::Clear, seq);
        }
    }

    /// Says the status if it is another than `before`; `reasons` are the ledger records that changed it.
    fn say(
        &self,
        before: &Standing,
        message: Option<String>,
        lap_number: Option<i32>,
        reasons: &[u64],
        context: &mut Context<'_, TrackStatus>,
    ) {
        let standing = self.standing();
        if standing == *before {
            return;
        }
        let yellow = self.yellow.values().filter(|_| standing.status == Status::Yellow);
        let causes = in_order(
            [self.whole_track.cause(), self.session.cause(), self.qualifying_phase.cause()]
                .into_iter()
                .chain(yellow.chain(reasons).map(|cause| Some(*cause))),
        );
        let Standing { status, is_ending, session, qualifying_phase } = standing;
        context.draft(TrackStatus { status, is_ending, session, qualifying_phase, lap_number, message }).because(&causes).emit();
    }
}

fn text(message: &RaceControl) -> &str {
    message.message.as_deref().unwrap_or_default()
}

/// Whether the message follows the newest one, which it then is itself. Without an `_id` two messages of one second cannot be told
/// from one sent twice, and both are taken.
fn is_news(newest: &mut MessageOrder, message: &RaceControl) -> bool {
    let order = Some((message.date, message.id));
    let is_news = order > *newest || (order == *newest && message.id.is_none());
    if is_news {
        *newest = order;
    }
    is_news
}

impl Operator for TrackStatusOperator {
    const NAME: &'static str = "track_status";
    const VERSION: u32 = 1;
    type Output = TrackStatus;
    type State = State;
}

impl Handle<RaceControl> for TrackStatusOperator {
    fn apply(&self, state: &mut State, message: &RaceControl, context: &mut Context<'_, TrackStatus>) {
        let before = state.standing();
        match (message.category.as_deref(), message.flag.as_deref()) {
            (Some("SessionStatus"), _) if is_news(&mut state.session_at, message) => state.take_session_status(message, context.seq()),
            (Some("Flag"), Some("CHEQUERED")) if is_news(&mut state.session_at, message) => {
                state.session.take(Some(SessionState::Finished), context.seq());
            }
            (Some("SafetyCar"), _) if is_news(&mut state.track_at, message) => state.take_safety_car(message, context.seq()),
            (Some("Flag"), Some(flag)) if flag != "CHEQUERED" && is_news(&mut state.track_at, message) => {
                state.take_flag(flag, message, context);
            }
            _ => return,
        }
        state.say(&before, message.message.clone(), message.lap_number, &[context.seq()], context);
    }
}

impl Handle<Lap> for TrackStatusOperator {
    fn apply(&self, state: &mut State, lap: &Lap, context: &mut Context<'_, TrackStatus>) {
        let Some(Ending { announced_at, lap_number: Some(last_lap), cause }) = state.ending else { return };
        // Cars behind the leader begin their own laps meanwhile, but only the leader's can have a higher number.
        if lap.lap_number > last_lap && lap.date_start.is_some_and(|start| start >= announced_at) {
            let before = state.standing();
            state.cover(Status::Clear, context.seq());
            state.say(&before, None, Some(lap.lap_number), &[cause, context.seq()], context);
        }
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
            (0, safety_car(0, 23, "SAFETY CAR DEPLOYED")),
            (10, safety_car(10, 27, "SAFETY CAR IN THIS LAP")),
            // A car behind the leader begins the lap that the leader is on.
            (50, lap_begins(44, 27, 50)),
            // The leader's next lap, but a version of it from before the announcement cannot be meant.
            (55, lap_begins(81, 28, 5)),
            (60, lap_begins(81, 28, 60)),
        ]);
        assert_eq!(statuses(&bench), [(Status::SafetyCar, false), (Status::SafetyCar, true), (Status::Clear, false)]);
        let facts = bench.facts::<TrackStatus>();
        let (header, fact) = &facts[2];
        assert_eq!((header.causes.as_slice(), fact.lap_number, fact.message.as_deref()), ([1, 4].as_slice(), Some(28), None));
    }

    /// Case 16.
    #[test]
    fn virtual_safety_car_ending_is_not_clear_until_clear() {
        let bench = play([
            (0, safety_car(0, 70, "VIRTUAL SAFETY CAR DEPLOYED")),
            (1, safety_car(1, 71, "VIRTUAL SAFETY CAR ENDING")),
            (2, lap_begins(1, 72, 2)),
            (3, flag(3, "GREEN", None, "GREEN LIGHT - PIT EXIT OPEN")),
            (4, flag(4, "CLEAR", None, "TRACK CLEAR")),
        ]);
        assert_eq!(statuses(&bench), [(Status::Vsc, false), (Status::VscEnding, false), (Status::Clear, false)]);
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
    fn yellow_sectors_show_again_when_the_red_flag_is_over() {
        let bench = play([
            (0, flag(0, "YELLOW", Some(7), "YELLOW IN TRACK SECTOR 7")),
            (1, flag(1, "RED", None, "RED FLAG")),
            (2, session(2, "SESSION STARTED")),
            (3, flag(3, "CLEAR", None, "TRACK CLEAR")),
        ]);
        let expected = [Status::Yellow, Status::Red, Status::Yellow, Status::Clear].map(|status| (status, false));
        assert_eq!(statuses(&bench), expected);
        assert_eq!(bench.facts::<TrackStatus>()[2].0.causes, [0, 2]);
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
