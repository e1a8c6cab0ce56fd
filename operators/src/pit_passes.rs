//! Pit passes: a way through the pit lane, from crossings of the timing line in it and from the car's speed.
//!
//! A lap that ended in the pit lane says that the car was there; the time around that at or below the limit, as `car_data` gives it, is
//! the pass. Drivers brake to the limit before the lane's first line, so the estimate is some 0.9 s longer than the lane time timed by
//! loops (Dutch race, `docs/derivations.md`). A car stands from the first to the last sample of at most
//! [`PitPassesOperator::standing_speed_max`]; half of what the samples before and after leave open is added, and is the error bound.
//!
//! These are estimates for sessions whose feed sends no `pit` documents, and a check on those that do. What the documents say is
//! [`pit_stops`](crate::pit_stops)'.
//!
//! Stops on a lap that is not timed, as after a late join's first crossing, are not seen. Nor are those during which no speed came for longer
//! than [`PitPassesOperator::silence_ms_max`]: when the car was in the lane is not known then.

use pitwall_engine::Micros;
use pitwall_engine::operator::{Context, Handle, Operator};
use pitwall_schemas::facts::{Channel, EstimatedLap, PitPass, Telemetry};
use serde::{Deserialize, Serialize};

use crate::by_driver::ByDriver;
use crate::known::in_order;

/// Finds passes.
#[derive(Debug, Clone, Copy)]
pub struct PitPassesOperator {
    /// Fastest in the pit lane, km/h: the limit of 80 and what drivers exceed it by.
    pub lane_speed_max: i32,
    /// Fastest that still counts as standing, km/h.
    pub standing_speed_max: i32,
    /// How long before it has slowed down a car may cross the line, ms: where the lane begins at the line, drivers brake on it.
    pub entry_ms_max: i64,
    /// Longest time between two speeds of a pass, ms.
    pub silence_ms_max: i64,
}

impl Default for PitPassesOperator {
    fn default() -> Self {
        Self { lane_speed_max: 82, standing_speed_max: 2, entry_ms_max: 3_000, silence_ms_max: 5_000 }
    }
}

/// The slow spells of all cars.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    cars: ByDriver<Car>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Car {
    /// Date and speed of the newest sample.
    last: Option<(Micros, i32)>,
    slow: Option<Spell>,
    /// The last spell that ended: its lap may become known after it.
    ended: Option<Spell>,
    /// A lap that ended in the pit lane before a spell was known.
    lap: Option<InLap>,
}

/// A lap that ended in the pit lane, and the ledger records it came from.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct InLap {
    ended_at: Micros,
    number: Option<i32>,
    causes: Vec<u64>,
}

/// A time at or below the limit.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Spell {
    began_at: Micros,
    ended_at: Option<Micros>,
    standing: Option<Standing>,
    cause: u64,
    end_cause: u64,
    /// Whether speeds were missing, so that its times are not known.
    is_broken: bool,
    lap: Option<InLap>,
}

/// The dates of the last sample before, the first and the last while the car stood, and of the first after.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Standing {
    moved_until: Micros,
    from: Micros,
    until: Micros,
    moved_from: Option<Micros>,
}

impl Spell {
    /// Takes the lap if it ended during the spell or up to `entry_us_max` before.
    fn take(&mut self, lap: &mut Option<InLap>, entry_us_max: i64) -> bool {
        let is_of_spell = |lap: &InLap| {
            self.lap.is_none()
                && self.began_at.since(lap.ended_at) <= entry_us_max
                && self.ended_at.is_none_or(|left_at| lap.ended_at <= left_at)
        };
        if lap.as_ref().is_some_and(is_of_spell) {
            self.lap = lap.take();
            return true;
        }
        false
    }

    fn say(&self, driver_number: i32, context: &mut Context<'_, PitPass>) {
        let (Some(left_at), Some(lap), false) = (self.ended_at, &self.lap, self.is_broken) else { return };
        let (stationary, error) = self.standing.map_or((0, 0), |standing| {
            let shortest = standing.until.since(standing.from);
            let longest = standing.moved_from.unwrap_or(standing.until).since(standing.moved_until);
            (i64::midpoint(shortest, longest), (longest - shortest) / 2)
        });
        let fact = PitPass {
            driver_number,
            lap_number: lap.number,
            entered_at: self.began_at,
            left_at,
            lane_ms: (left_at.since(self.began_at) / 1_000) as i32,
            stationary_ms: (stationary / 1_000) as i32,
            stationary_error_ms: (error / 1_000) as i32,
        };
        let causes = in_order(lap.causes.iter().chain([&self.cause, &self.end_cause]).map(|cause| Some(*cause)));
        context.draft(fact).because(&causes).at(left_at).emit();
    }
}

impl Operator for PitPassesOperator {
    const NAME: &'static str = "pit_passes";
    const VERSION: u32 = 2;
    type Output = PitPass;
    type State = State;

    fn parameters(&self) -> Vec<(&'static str, String)> {
        vec![
            ("lane_speed_max", self.lane_speed_max.to_string()),
            ("standing_speed_max", self.standing_speed_max.to_string()),
            ("entry_ms_max", self.entry_ms_max.to_string()),
            ("silence_ms_max", self.silence_ms_max.to_string()),
        ]
    }
}

impl PitPassesOperator {
    /// When the speed passed the limit between two samples.
    fn limit_passed_at(&self, (before, speed_before): (Micros, i32), (after, speed_after): (Micros, i32)) -> Micros {
        let share = f64::from(self.lane_speed_max - speed_before) / f64::from(speed_after - speed_before);
        before.plus((after.since(before) as f64 * share).round() as i64)
    }

    fn take(&self, car: &mut Car, date: Micros, speed: i32, cause: u64) -> bool {
        let last = car.last.filter(|(last, _)| *last < date);
        car.last = car.last.max(Some((date, speed)));
        let Some(last) = last else { return false };
        let is_silence = date.since(last.0) > self.silence_ms_max * 1_000;
        if speed > self.lane_speed_max {
            let Some(mut spell) = car.slow.take() else { return false };
            (spell.ended_at, spell.end_cause) = (Some(self.limit_passed_at(last, (date, speed))), cause);
            spell.is_broken |= is_silence;
            car.ended = Some(spell);
            return true;
        }
        let began_at = if last.1 > self.lane_speed_max { self.limit_passed_at(last, (date, speed)) } else { last.0 };
        let spell = car.slow.get_or_insert_with(|| Spell { began_at, cause, ..Spell::default() });
        spell.is_broken |= is_silence;
        spell.take(&mut car.lap, self.entry_ms_max * 1_000);
        match &mut spell.standing {
            standing if speed <= self.standing_speed_max => {
                let standing = standing.get_or_insert(Standing { moved_until: last.0, from: date, until: date, moved_from: None });
                (standing.until, standing.moved_from) = (date, None);
            }
            Some(standing) if standing.moved_from.is_none() => standing.moved_from = Some(date),
            _ => {}
        }
        false
    }
}

impl Handle<Telemetry> for PitPassesOperator {
    fn apply(&self, state: &mut State, packet: &Telemetry, context: &mut Context<'_, PitPass>) {
        if packet.channel != Channel::CarData {
            return;
        }
        let car = state.cars.entry(packet.driver_number);
        let cause = context.newest_cause();
        for row in &packet.samples {
            if let Some(speed) = row.speed
                && self.take(car, row.date, speed, cause)
                && let Some(ended) = &car.ended
            {
                ended.say(packet.driver_number, context);
            }
        }
    }
}

impl Handle<EstimatedLap> for PitPassesOperator {
    fn apply(&self, state: &mut State, lap: &EstimatedLap, context: &mut Context<'_, PitPass>) {
        let Some(car) = state.cars.get_mut(lap.driver_number).filter(|_| lap.is_in_lap == Some(true)) else { return };
        car.lap = Some(InLap { ended_at: lap.ended_at, number: lap.lap_number, causes: context.causes().to_vec() });
        let entry_us_max = self.entry_ms_max * 1_000;
        if car.slow.as_mut().is_some_and(|spell| spell.take(&mut car.lap, entry_us_max)) {
            return;
        }
        if let Some(ended) = &mut car.ended
            && ended.take(&mut car.lap, entry_us_max)
        {
            ended.say(lap.driver_number, context);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A car whose speed is sampled every 400 ms; the spell that ended.
    fn drive(speeds: &[i32]) -> Option<Spell> {
        let mut car = Car::default();
        for (ms, speed) in (0..).step_by(400).zip(speeds) {
            PitPassesOperator::default().take(&mut car, Micros(ms * 1_000), *speed, ms as u64);
        }
        car.ended
    }

    #[test]
    fn a_pass_lasts_while_the_car_is_at_the_limit_or_below() {
        let spell = drive(&[102, 62, 80, 80, 62, 102]).unwrap();
        assert_eq!((spell.began_at, spell.ended_at), (Micros(200_000), Some(Micros(1_800_000))));
        assert!(spell.standing.is_none(), "a drive-through is no stop");
    }

    #[test]
    fn standing_time_is_bounded_by_the_samples_around_it() {
        let standing = drive(&[102, 80, 0, 0, 0, 80, 102]).unwrap().standing.unwrap();
        assert_eq!((standing.from, standing.until), (Micros(800_000), Micros(1_600_000)));
        assert_eq!((standing.moved_until, standing.moved_from), (Micros(400_000), Some(Micros(2_000_000))));
    }

    #[test]
    fn a_pass_during_which_speeds_are_missing_has_no_times() {
        for missing in [0, 1, 2] {
            let mut car = Car::default();
            let mut ms = 0;
            for (index, speed) in [102, 62, 80, 102].into_iter().enumerate() {
                PitPassesOperator::default().take(&mut car, Micros(ms * 1_000), speed, 1);
                ms += if index == missing { 5_001 } else { 400 };
            }
            assert!(car.ended.unwrap().is_broken, "after sample {missing}");
        }
        assert!(!drive(&[102, 62, 80, 102]).unwrap().is_broken);
    }

    #[test]
    fn a_lap_that_ends_just_before_the_car_has_slowed_down_is_the_pass_lap() {
        let lap = |ended_at| Some(InLap { ended_at, number: Some(8), causes: vec![1] });
        let mut spell = drive(&[102, 62, 80, 102]).unwrap();
        assert!(!spell.clone().take(&mut lap(Micros(-2_900_000)), 3_000_000));
        assert!(!spell.clone().take(&mut lap(Micros(9_000_000)), 3_000_000));
        assert!(spell.take(&mut lap(Micros(-2_700_000)), 3_000_000));
    }
}
