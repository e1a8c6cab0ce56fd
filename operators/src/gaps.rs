//! Gaps: `intervals` documents as gaps to the leader and to the car ahead, with the running order to tell who leads.
//!
//! Rules, with their source:
//! * The leader is the first of the running order, which is the timing line's; its gap is 0 and it has no interval, whatever its
//!   documents say (OpenF1). Before an order is known, the car whose own document gives a gap of 0 leads; afterwards a gap of 0 in the
//!   document of another is none. A lead that is disputed stays with the car that had it ([`running_order`](crate::running_order)).
//! * `+1 LAP`, `+2 LAPS` and `1L` are whole laps behind (OpenF1, the feed). Any other text is rejected.
//! * A null is a gap that is not known. But a lapped car's gap to the leader stops being sent: the last one of whole laps holds, marked
//!   as held, until the car gets a time or other laps, or the lead (OpenF1).
//! * A car that loses the lead has no gap until the feed gives it one. A car that never had a document has no gap either: outside
//!   races there are none (OpenF1), and the first of a qualifying leads nobody.
//! * A running car's time changes with every document, so a car that has had none for a minute while most others
//!   had some within 15 s is out: its times are not known until it is heard of again. Whole laps may not change
//!   for long and hold. When all are silent, as under a red flag, and after the flag nothing ages.
//! * Gaps are the feed's alone, never counted from laps or lap times: the lap counter rises before the line.
//! * A document older than the newest of its car is replayed and ignored, and so is the newest itself.

use pitwall_engine::Micros;
use pitwall_engine::operator::{Context, Handle, Operator, Tick};
use pitwall_schemas::codec::Reading;
use pitwall_schemas::facts::{Gap, Position, SessionState, TrackStatus};
use pitwall_schemas::raw::Interval;
use serde::{Deserialize, Serialize};

use crate::by_driver::ByDriver;
use crate::known::{Version, in_order};
use crate::running_order::RunningOrder;

/// Longest gap accepted, s: a day, more than any session lasts.
const SECONDS_MAX: f64 = 86_400.0;

/// Most laps behind accepted; the shortest circuit's race has 78.
const LAPS_MAX: i32 = 200;

/// How long after its newest document a car's times are believed, µs. The feed sends one every four seconds or so.
const SILENCE_MAX: i64 = 60 * Micros::SECOND;

/// How long after its newest document a car is heard of now, µs.
const HEARD_MAX: i64 = 15 * Micros::SECOND;

/// Reads gaps and intervals.
#[derive(Debug, Clone, Copy, Default)]
pub struct GapsOperator;

/// The gaps of all cars.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    order: RunningOrder,
    leader: Option<Leader>,
    cars: ByDriver<Car>,
    /// Ledger record of the newest document of any car.
    newest: Option<u64>,
    is_over: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Leader {
    driver_number: i32,
    /// Ledger records that put it first.
    causes: Vec<u64>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Car {
    newest: Version,
    /// What the newest document said, and when it arrived.
    document: Option<Document>,
    heard_at: Option<Micros>,
    to_leader: Measured,
    to_car_ahead: Measured,
    is_held: bool,
    said: Option<Gap>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Document {
    to_leader: Distance,
    to_car_ahead: Distance,
}

/// A distance and the ledger record that gave it.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Measured {
    distance: Distance,
    cause: Option<u64>,
}

/// How far behind a car is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Distance {
    #[default]
    Unknown,
    Milliseconds(i32),
    /// Whole laps, from 1.
    Laps(i32),
}

impl Distance {
    /// What a document says, or why it is no distance.
    fn read(reading: &Reading) -> Result<Self, String> {
        match reading {
            Reading::Missing => Ok(Self::Unknown),
            Reading::Number(seconds) if (0.0..=SECONDS_MAX).contains(seconds) => Ok(Self::Milliseconds((seconds * 1_000.0).round() as i32)),
            Reading::Number(seconds) => Err(format!("{seconds} s is outside 0 to {SECONDS_MAX} s")),
            Reading::Text(text) => laps(text).map(Self::Laps).ok_or_else(|| format!("`{text}` is no number of laps such as `+1 LAP`")),
        }
    }

    /// Milliseconds, when that is what separates the cars.
    const fn milliseconds(self) -> Option<i32> {
        if let Self::Milliseconds(milliseconds) = self { Some(milliseconds) } else { None }
    }

    /// Whole laps.
    const fn laps(self) -> Option<i32> {
        match self {
            Self::Unknown => None,
            Self::Milliseconds(_) => Some(0),
            Self::Laps(laps) => Some(laps),
        }
    }
}

/// The laps of `+1 LAP`, `+2 LAPS` or `1L`.
fn laps(text: &str) -> Option<i32> {
    let text = text.trim();
    let text = text.strip_prefix('+').unwrap_or(text);
    let digits = text.find(|character: char| !character.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let is_laps = ["L", "LAP", "LAPS"].iter().any(|laps| unit.trim_start().eq_ignore_ascii_case(laps));
    number.parse().ok().filter(|laps| is_laps && (1..=LAPS_MAX).contains(laps))
}

impl Car {
    /// Takes what a document says.
    fn take(&mut self, to_leader: Distance, to_car_ahead: Distance, seq: u64) {
        self.is_held = to_leader == Distance::Unknown && matches!(self.to_leader.distance, Distance::Laps(_));
        if !self.is_held {
            self.to_leader = Measured { distance: to_leader, cause: Some(seq) };
        }
        self.to_car_ahead = Measured { distance: to_car_ahead, cause: Some(seq) };
    }

    /// The car is not heard of any more while others are, as ledger record `newest` says. Tells whether anything was known of it.
    fn fall_silent(&mut self, newest: u64) -> bool {
        let is_time = |measured: &Measured| matches!(measured.distance, Distance::Milliseconds(_));
        let had_times = is_time(&self.to_leader) || is_time(&self.to_car_ahead);
        for measured in [&mut self.to_leader, &mut self.to_car_ahead].into_iter().filter(|measured| is_time(measured)) {
            *measured = Measured { distance: Distance::Unknown, cause: Some(newest) };
        }
        had_times
    }

    /// The car leads now.
    const fn lead(&mut self, cause: Option<u64>) {
        self.to_leader = Measured { distance: Distance::Milliseconds(0), cause };
        self.is_held = false;
    }

    /// Another car leads now. A time that came before the new order did is kept; a gap of 0 is the lead's own.
    fn lose_the_lead(&mut self, cause: Option<u64>) {
        if matches!(self.to_leader.distance, Distance::Unknown | Distance::Milliseconds(0)) {
            let unknown = Measured { distance: Distance::Unknown, cause };
            (self.to_leader, self.to_car_ahead) = (unknown, unknown);
        }
    }

    /// Says the car's gaps if they changed. `leader` is the leader if one is known.
    fn say(&mut self, driver_number: i32, leader: Option<&Leader>, context: &mut Context<'_, Gap>) {
        let leads = leader.map_or(self.to_leader.distance == Distance::Milliseconds(0), |leader| leader.driver_number == driver_number);
        let fact = if leads {
            Gap { driver_number, gap_ms: Some(0), laps_behind: Some(0), interval_ms: None, interval_laps: None, is_held: false }
        } else {
            // A gap of 0 is the leader's own.
            let to_leader = if self.to_leader.distance == Distance::Milliseconds(0) { Distance::Unknown } else { self.to_leader.distance };
            Gap {
                driver_number,
                gap_ms: to_leader.milliseconds(),
                laps_behind: to_leader.laps(),
                interval_ms: self.to_car_ahead.distance.milliseconds(),
                interval_laps: self.to_car_ahead.distance.laps(),
                is_held: self.is_held,
            }
        };
        if self.said.as_ref() == Some(&fact) {
            return;
        }
        self.said = Some(fact.clone());
        match leader {
            Some(leader) if leads => context.emit_because(&leader.causes, fact),
            _ => context.emit_because(&in_order([self.to_leader.cause, self.to_car_ahead.cause]), fact),
        };
    }
}

impl Operator for GapsOperator {
    const NAME: &'static str = "gaps";
    const VERSION: u32 = 3;
    type Output = Gap;
    type State = State;
}

impl Handle<Interval> for GapsOperator {
    fn apply(&self, state: &mut State, document: &Interval, context: &mut Context<'_, Gap>) {
        let driver_number = document.driver_number;
        let car = state.cars.entry(driver_number);
        let before = car.newest;
        if !car.newest.take_dated(document.date, document.id, context.now()) {
            return;
        }
        let (to_leader, to_car_ahead) = match (Distance::read(&document.gap_to_leader), Distance::read(&document.interval)) {
            (Ok(to_leader), Ok(to_car_ahead)) => (to_leader, to_car_ahead),
            (Err(reason), _) => return context.reject(format!("car {driver_number}'s gap: {reason}")),
            (_, Err(reason)) => return context.reject(format!("car {driver_number}'s interval: {reason}")),
        };
        let document = Some(Document { to_leader, to_car_ahead });
        if std::mem::replace(&mut car.document, document) == document && car.newest == before {
            return;
        }
        car.heard_at = Some(context.now());
        state.newest = Some(context.seq());
        car.take(to_leader, to_car_ahead, context.seq());
        car.say(driver_number, state.leader.as_ref(), context);
    }
}

impl Handle<Position> for GapsOperator {
    fn apply(&self, state: &mut State, position: &Position, context: &mut Context<'_, Gap>) {
        state.order.take(position);
        let Some(leader) = state.order.leader() else { return };
        if state.leader.as_ref().is_some_and(|former| former.driver_number == leader) {
            return;
        }
        let causes = context.causes().to_vec();
        let cause = causes.last().copied();
        let former = state.leader.replace(Leader { driver_number: leader, causes });
        for (driver_number, car) in state.cars.iter_mut() {
            if driver_number == leader {
                car.lead(cause);
            } else if former.as_ref().is_none_or(|former| former.driver_number == driver_number) {
                car.lose_the_lead(cause);
            } else {
                continue;
            }
            car.say(driver_number, state.leader.as_ref(), context);
        }
    }
}

impl Handle<TrackStatus> for GapsOperator {
    fn apply(&self, state: &mut State, status: &TrackStatus, _context: &mut Context<'_, Gap>) {
        state.is_over = status.session == SessionState::Finished;
    }
}

impl Handle<Tick> for GapsOperator {
    fn apply(&self, state: &mut State, tick: &Tick, context: &mut Context<'_, Gap>) {
        let Some(newest) = state.newest.filter(|_| !state.is_over) else { return };
        let silent_for = |car: &Car| car.heard_at.map(|heard_at| tick.second.since(heard_at));
        let silences = || state.cars.iter().filter_map(|(_, car)| silent_for(car));
        let heard = silences().filter(|silence| *silence <= HEARD_MAX).count();
        if heard * 2 <= silences().count() {
            return;
        }
        for (driver_number, car) in state.cars.iter_mut() {
            let is_silent = silent_for(car).is_some_and(|silence| silence > SILENCE_MAX);
            let leads = state.leader.as_ref().is_some_and(|leader| leader.driver_number == driver_number);
            if is_silent && !leads && car.fall_silent(newest) {
                car.say(driver_number, state.leader.as_ref(), context);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::positions::PositionsOperator;
    use crate::testing::{Bench, at_ms, interval, position};
    use pitwall_schemas::raw::{self, Sample};

    fn bench() -> Bench {
        Bench::new(|graph| {
            let positions = graph.publish(PositionsOperator::default(), |inputs| inputs.samples::<raw::Position>());
            graph.publish(GapsOperator, |inputs| inputs.samples::<Interval>().stream(positions).ticks());
        })
    }

    fn seconds(number: f64) -> Reading {
        Reading::Number(number)
    }

    fn text(words: &str) -> Reading {
        Reading::Text(words.into())
    }

    fn gap(driver_number: i32, ms: i64, gap_to_leader: Reading, to_car_ahead: Reading) -> Sample {
        Sample::from(Interval { gap_to_leader, interval: to_car_ahead, ..interval(driver_number, at_ms(ms)) })
    }

    fn place(driver_number: i32, ms: i64, place: i32) -> Sample {
        Sample::from(position(driver_number, at_ms(ms), place))
    }

    /// Every document or place at the ms given.
    fn play(samples: impl IntoIterator<Item = (i64, Sample)>) -> Bench {
        bench().play(samples)
    }

    /// Gap, laps behind and whether it is held of every fact about a car.
    fn said(bench: &Bench, driver_number: i32) -> Vec<(Option<i32>, Option<i32>, bool)> {
        let facts = bench.facts::<Gap>().into_iter().map(|(_, fact)| fact);
        facts.filter(|fact| fact.driver_number == driver_number).map(|fact| (fact.gap_ms, fact.laps_behind, fact.is_held)).collect()
    }

    #[test]
    fn the_leader_has_a_gap_of_0_and_no_interval_whatever_its_documents_say() {
        for said_of_leader in [Reading::Missing, seconds(0.0), seconds(3.2), text("+1 LAP")] {
            let bench = play([(0, place(1, 0, 1)), (10, gap(1, 10, said_of_leader.clone(), said_of_leader))]);
            let facts = bench.facts::<Gap>();
            assert_eq!(facts.len(), 1);
            assert_eq!((facts[0].1.gap_ms, facts[0].1.laps_behind, facts[0].1.interval_ms), (Some(0), Some(0), None));
        }
    }

    #[test]
    fn before_an_order_is_known_the_car_with_a_gap_of_0_leads() {
        let bench = play([(0, gap(1, 0, seconds(0.0), seconds(0.0))), (1, gap(4, 1, seconds(1.5), seconds(1.5)))]);
        let intervals: Vec<_> = bench.facts::<Gap>().into_iter().map(|(_, fact)| (fact.gap_ms, fact.interval_ms)).collect();
        assert_eq!(intervals, [(Some(0), None), (Some(1_500), Some(1_500))]);
    }

    #[test]
    fn a_car_without_a_document_has_no_gap() {
        let bench = play([(0, place(1, 0, 1)), (0, place(4, 0, 2)), (50, place(4, 50, 1)), (50, place(1, 50, 2))]);
        assert!(bench.facts::<Gap>().is_empty(), "the first of a qualifying leads nobody");
    }

    /// Case 13.
    #[test]
    fn a_lapped_cars_last_laps_are_held_while_the_feed_is_silent() {
        let bench = play([
            (0, place(1, 0, 1)),
            (10, gap(44, 10, text("+1 LAP"), seconds(2.0))),
            (20, gap(44, 20, Reading::Missing, seconds(2.1))),
            (30, gap(44, 30, Reading::Missing, Reading::Missing)),
            (40, gap(44, 40, text("+2 LAPS"), Reading::Missing)),
        ]);
        assert_eq!(said(&bench, 44), [(None, Some(1), false), (None, Some(1), true), (None, Some(1), true), (None, Some(2), false)]);
        let facts = bench.facts::<Gap>();
        assert_eq!(facts[1].0.causes, [1, 2], "the record that said it and the record that went silent");
    }

    /// Case 13.
    #[test]
    fn held_laps_end_with_unlapping() {
        let bench = play([
            (0, place(1, 0, 1)),
            (10, gap(44, 10, text("1L"), seconds(2.0))),
            (20, gap(44, 20, Reading::Missing, seconds(2.0))),
            (30, gap(44, 30, seconds(84.2), seconds(2.0))),
            (40, gap(44, 40, Reading::Missing, seconds(2.0))),
        ]);
        assert_eq!(said(&bench, 44)[2..], [(Some(84_200), Some(0), false), (None, None, false)], "a time is not held");
    }

    #[test]
    fn a_car_that_loses_the_lead_has_no_gap_until_the_feed_gives_it_one() {
        let bench = play([
            (0, place(1, 0, 1)),
            (0, place(4, 0, 2)),
            (10, gap(1, 10, seconds(0.0), Reading::Missing)),
            (10, gap(4, 10, seconds(0.8), seconds(0.8))),
            (50, place(4, 50, 1)),
            (50, place(1, 50, 2)),
            (90, gap(1, 90, seconds(0.4), seconds(0.4))),
        ]);
        assert_eq!(said(&bench, 1), [(Some(0), Some(0), false), (None, None, false), (Some(400), Some(0), false)]);
        assert_eq!(said(&bench, 4), [(Some(800), Some(0), false), (Some(0), Some(0), false)]);
    }

    #[test]
    fn a_gap_that_came_before_the_new_order_is_kept() {
        let bench = play([
            (0, place(1, 0, 1)),
            (0, place(4, 0, 2)),
            (10, gap(1, 10, seconds(0.4), seconds(0.4))),
            (20, place(4, 20, 1)),
            (20, place(1, 20, 2)),
        ]);
        assert_eq!(said(&bench, 1), [(Some(0), Some(0), false), (Some(400), Some(0), false)]);
    }

    #[test]
    fn the_document_of_a_lead_that_was_lost_gives_it_back_to_nobody_when_it_is_replayed() {
        let lead = || gap(1, 10, seconds(0.0), Reading::Missing);
        let before = [(0, place(1, 0, 1)), (0, place(4, 0, 2)), (10, lead()), (50, place(4, 50, 1)), (50, place(1, 50, 2))];
        let bench = play(before.into_iter().chain([(60, lead())]));
        assert_eq!(said(&bench, 1), [(Some(0), Some(0), false), (None, None, false)]);
    }

    #[test]
    fn a_gap_sent_again_says_nothing_and_an_older_document_neither() {
        let document = || gap(4, 20, seconds(1.0), seconds(1.0));
        let bench = play([(20, document()), (21, document()), (22, gap(4, 10, seconds(9.0), seconds(9.0)))]);
        assert_eq!(said(&bench, 4), [(Some(1_000), Some(0), false)]);
        assert!(bench.rejections().is_empty());
    }

    #[test]
    fn a_text_that_is_no_number_of_laps_is_rejected_and_changes_nothing() {
        for words in ["LAP", "+0 LAPS", "+1 CAR", "", "+ LAP", "+999 LAPS"] {
            let bench = play([(0, gap(4, 0, text(words), Reading::Missing))]);
            assert_eq!(bench.rejections().len(), 1, "{words}");
            assert!(bench.facts::<Gap>().is_empty(), "{words}");
        }
        assert_eq!(play([(0, gap(4, 0, Reading::Missing, seconds(-1.0)))]).rejections().len(), 1);
    }

    /// Documents of cars 1, 4 and 44 every five seconds from `from` to `until`, s; car 44's until `out`.
    fn race(from: i64, until: i64, out: i64) -> Vec<(i64, Sample)> {
        let grid = [(1, 1), (4, 2), (44, 3)].map(|(car, stated)| (0, place(car, 0, stated)));
        let of_second = |second: i64| {
            let documents = [(1, 0.0), (4, 2.0 + second as f64 / 1_000.0), (44, 0.0)].into_iter();
            let ms = second * 1_000;
            documents
                .filter(move |(car, _)| *car != 44 || second <= out)
                .map(move |(car, behind)| (ms, gap(car, ms, seconds(behind), seconds(behind))))
        };
        grid.into_iter().chain((from..until).step_by(5).flat_map(of_second)).collect()
    }

    #[test]
    fn a_gap_of_0_is_the_leaders_alone() {
        let bench = play(race(1, 20, 20));
        assert_eq!(said(&bench, 1), [(Some(0), Some(0), false)]);
        assert_eq!(said(&bench, 44), [(None, None, false)]);
    }

    #[test]
    fn the_gaps_of_a_car_that_falls_silent_while_others_are_heard_are_unknown() {
        let mut samples = race(1, 200, 0);
        samples.push((2_000, gap(44, 2_000, seconds(3.5), seconds(1.5))));
        samples.push((190_500, gap(44, 190_500, seconds(9.5), seconds(7.5))));
        samples.sort_by_key(|(ms, _)| *ms);
        let bench = play(samples);
        assert_eq!(said(&bench, 44), [(Some(3_500), Some(0), false), (None, None, false), (Some(9_500), Some(0), false)]);
        let facts = bench.facts::<Gap>();
        let (header, silent) = facts.iter().find(|(_, fact)| fact.driver_number == 44 && fact.gap_ms.is_none()).unwrap();
        assert_eq!((silent.interval_ms, header.known_at.since(at_ms(0)) / 1_000_000), (None, 66));
        assert!(said(&bench, 1).len() == 1 && said(&bench, 4).iter().all(|(gap_ms, ..)| gap_ms.is_some()));
    }

    #[test]
    fn gaps_hold_while_all_cars_are_silent_and_whole_laps_hold_always() {
        let mut samples = race(1, 100, 10);
        samples.retain(|(ms, _)| !(20_000..90_000).contains(ms));
        samples.push((2_000, gap(44, 2_000, text("+1 LAP"), Reading::Missing)));
        samples.push((11_000, gap(44, 11_000, text("+1 LAP"), Reading::Missing)));
        samples.sort_by_key(|(ms, _)| *ms);
        let bench = play(samples);
        assert!(said(&bench, 4).iter().all(|(gap_ms, ..)| gap_ms.is_some()));
        assert_eq!(said(&bench, 44).last(), Some(&(None, Some(1), false)));
    }
}
