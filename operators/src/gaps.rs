//! Gaps: `intervals` documents as gaps to the leader and to the car ahead, with the running order to tell who leads.
//!
//! Rules, with their source:
//! * The leader is the first of the running order, which is the timing line's; its gap is 0 and it has no interval, whatever its
//!   documents say (OpenF1). Before an order is known, the car whose own document gives a gap of 0 leads.
//! * `+1 LAP`, `+2 LAPS` and `1L` are whole laps behind (OpenF1, the feed). Any other text is rejected.
//! * A null is a gap that is not known. But a lapped car's gap to the leader stops being sent: the last one of whole laps holds, marked
//!   as held, until the car gets a time or other laps, or the lead (OpenF1).
//! * A car that loses the lead has no gap until the feed gives it one. A car that never had a document has no gap either: outside
//!   races there are none (OpenF1), and the first of a qualifying leads nobody.
//! * Gaps are the feed's alone, never counted from laps or lap times: the lap counter rises before the line.
//! * A document older than the newest of its car is replayed and ignored.

use pitwall_engine::Micros;
use pitwall_engine::operator::{Context, Handle, Operator};
use pitwall_schemas::codec::Reading;
use pitwall_schemas::facts::{Gap, Position};
use pitwall_schemas::raw::Interval;
use serde::{Deserialize, Serialize};

use crate::by_driver::ByDriver;
use crate::known::in_order;

/// Longest gap accepted, s: a day, more than any session lasts.
const SECONDS_MAX: f64 = 86_400.0;

/// Most laps behind accepted; the shortest circuit's race has 78.
const LAPS_MAX: i32 = 200;

/// Reads gaps and intervals.
#[derive(Debug, Clone, Copy, Default)]
pub struct GapsOperator;

/// The gaps of all cars.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    leader: Option<Leader>,
    cars: ByDriver<Car>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Leader {
    driver_number: i32,
    /// Ledger records that put it first.
    causes: Vec<u64>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Car {
    /// Date and `_id` of the newest document.
    newest: Option<(Micros, Option<i64>)>,
    to_leader: Measured,
    to_car_ahead: Measured,
    is_held: bool,
    said: Option<Gap>,
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
            Gap {
                driver_number,
                gap_ms: self.to_leader.distance.milliseconds(),
                laps_behind: self.to_leader.distance.laps(),
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
    const VERSION: u32 = 1;
    type Output = Gap;
    type State = State;
}

impl Handle<Interval> for GapsOperator {
    fn apply(&self, state: &mut State, document: &Interval, context: &mut Context<'_, Gap>) {
        let driver_number = document.driver_number;
        let car = state.cars.entry(driver_number);
        let order = Some((document.date, document.id));
        if order < car.newest {
            return;
        }
        let (to_leader, to_car_ahead) = match (Distance::read(&document.gap_to_leader), Distance::read(&document.interval)) {
            (Ok(to_leader), Ok(to_car_ahead)) => (to_leader, to_car_ahead),
            (Err(reason), _) => return context.reject(format!("car {driver_number}'s gap: {reason}")),
            (_, Err(reason)) => return context.reject(format!("car {driver_number}'s interval: {reason}")),
        };
        car.newest = order;
        car.take(to_leader, to_car_ahead, context.seq());
        car.say(driver_number, state.leader.as_ref(), context);
    }
}

impl Handle<Position> for GapsOperator {
    fn apply(&self, state: &mut State, position: &Position, context: &mut Context<'_, Gap>) {
        let is_news = state.leader.as_ref().is_none_or(|leader| leader.driver_number != position.driver_number);
        if position.position != 1 || !is_news {
            return;
        }
        let causes = context.causes().to_vec();
        let cause = causes.last().copied();
        let former = state.leader.replace(Leader { driver_number: position.driver_number, causes });
        for (driver_number, car) in state.cars.iter_mut() {
            if driver_number == position.driver_number {
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
