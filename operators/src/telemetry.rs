//! Telemetry: `car_data` and `location` joined, one fact per driver and arrival packet.
//!
//! The feed sends both channels in packets of about a second, each with some four samples of every car. A packet is what arrives
//! within [`TelemetryOperator::packet_window_ms`] of its first sample; when that has passed, each car's samples become one fact. Every
//! row carries the other channel's latest reading at or before its own date (FastF1 interpolates instead, which needs the sample
//! after it and so would wait for the future).
//!
//! A throttle or brake of 104 and a location of (0, 0, 0) mean "no reading" (OpenF1). A channel out of its range, such as gear 128, is no
//! reading either: it is null, the rest of its sample is kept, and the fact counts it.
//!
//! A sample whose date is among the last ones kept is a duplicate and dropped. One older than all of those is late or replayed after a
//! reconnect, and rejected; so is one dated well after its arrival, which cannot be placed and would make all that follow late. A packet is
//! bounded by its window, since at most one record is known in a microsecond.

use std::collections::VecDeque;

use pitwall_engine::Micros;
use pitwall_engine::operator::{Context, Handle, Operator};
use pitwall_schemas::facts::{Channel, Telemetry, TelemetrySample};
use pitwall_schemas::openf1::NO_READING;
use pitwall_schemas::raw::{CarData, Location};
use serde::{Deserialize, Serialize};

use crate::by_driver::ByDriver;
use crate::known::is_ahead;

/// Readings kept of each car and channel: some four seconds, more than a packet and its lag.
const RECENT_MAX: usize = 16;

/// Joins the two telemetry channels.
#[derive(Debug, Clone, Copy)]
pub struct TelemetryOperator {
    /// How long after its first sample a packet ends, ms.
    pub packet_window_ms: i64,
    /// A reading older than this, ms, is not joined: the other channel has gone silent.
    pub join_age_ms_max: i64,
}

impl Default for TelemetryOperator {
    fn default() -> Self {
        Self { packet_window_ms: 2, join_age_ms_max: 1_000 }
    }
}

/// What is remembered of all cars.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    cars: ByDriver<Car>,
    /// Whether a packet of `car_data`, of `location` is being collected.
    is_open: [bool; 2],
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Car {
    car_data: Recent<CarReading>,
    location: Recent<Point>,
    /// Rows of the packets being collected, `car_data` and `location`.
    packets: [Packet; 2],
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Packet {
    rows: Vec<Row>,
    causes: Vec<u64>,
    /// Readings of these rows' own channel that were refused.
    refused: i32,
}

/// X, y and z.
type Point = [Option<i32>; 3];

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Row {
    date: Micros,
    car_data: Option<CarReading>,
    location: Option<Point>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct CarReading {
    rpm: Option<i32>,
    speed: Option<i32>,
    gear: Option<i32>,
    throttle: Option<i32>,
    brake: Option<bool>,
    drs: Option<i32>,
}

impl CarReading {
    /// The readings of a sample, and how many of its channels hold something else.
    fn of(sample: &CarData) -> (Self, i32) {
        let (throttle, brake, drs) = (sample.throttle_reading(), sample.brake_reading(), sample.drs_reading());
        let reading = Self {
            rpm: sample.rpm_reading(),
            speed: sample.speed_reading(),
            gear: sample.n_gear_reading(),
            throttle,
            brake: brake.map(|brake| brake > 0),
            drs,
        };
        let refused = [
            reading.rpm.is_none(),
            reading.speed.is_none(),
            reading.gear.is_none(),
            throttle.is_none() && sample.throttle != NO_READING,
            brake.is_none() && sample.brake != NO_READING,
            drs.is_none() && sample.drs.is_some(),
        ];
        (reading, count(refused))
    }
}

fn count<const N: usize>(refused: [bool; N]) -> i32 {
    refused.into_iter().map(i32::from).sum()
}

/// The newest readings of one channel of one car, by date.
#[derive(Debug, Serialize, Deserialize)]
struct Recent<T> {
    readings: VecDeque<(Micros, T)>,
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self { readings: VecDeque::new() }
    }
}

enum Kept {
    New,
    Duplicate,
    TooOld,
}

impl<T: Copy> Recent<T> {
    fn keep(&mut self, date: Micros, reading: T) -> Kept {
        let mut at = self.readings.len();
        while at > 0 && self.readings[at - 1].0 > date {
            at -= 1;
        }
        if at > 0 && self.readings[at - 1].0 == date {
            return Kept::Duplicate;
        }
        if self.readings.len() == RECENT_MAX {
            if at == 0 {
                return Kept::TooOld;
            }
            self.readings.pop_front();
            at -= 1;
        }
        self.readings.insert(at, (date, reading));
        Kept::New
    }

    /// The latest reading at or before `date`, if it is at most `age_ms_max` old.
    fn at(&self, date: Micros, age_ms_max: i64) -> Option<T> {
        let (measured_at, reading) = self.readings.iter().rev().find(|(measured_at, _)| *measured_at <= date)?;
        (date.since(*measured_at) <= age_ms_max * 1_000).then_some(*reading)
    }
}

impl Operator for TelemetryOperator {
    const NAME: &'static str = "telemetry";
    const VERSION: u32 = 2;
    type Output = Telemetry;
    type State = State;

    fn parameters(&self) -> Vec<(&'static str, String)> {
        vec![("packet_window_ms", self.packet_window_ms.to_string()), ("join_age_ms_max", self.join_age_ms_max.to_string())]
    }

    fn on_timer(&self, state: &mut State, token: u64, context: &mut Context<'_, Telemetry>) {
        let channel = if token == Channel::CarData as u64 { Channel::CarData } else { Channel::Location };
        state.is_open[channel as usize] = false;
        for (driver_number, car) in state.cars.iter_mut() {
            let packet = &mut car.packets[channel as usize];
            if packet.rows.is_empty() {
                continue;
            }
            packet.rows.sort_by_key(|row| row.date);
            let event_time = packet.rows[packet.rows.len() - 1].date;
            let samples = packet.rows.iter().map(Row::sample).collect();
            let fact = Telemetry { driver_number, channel, samples, readings_refused: packet.refused };
            context.draft(fact).because(&packet.causes).at(event_time).emit();
            packet.rows.clear();
            packet.causes.clear();
            packet.refused = 0;
        }
    }
}

impl Handle<CarData> for TelemetryOperator {
    fn apply(&self, state: &mut State, sample: &CarData, context: &mut Context<'_, Telemetry>) {
        if is_ahead(sample.date, context.now()) {
            return reject_ahead(sample.driver_number, sample.date, context);
        }
        let (reading, refused) = CarReading::of(sample);
        let car = state.cars.entry(sample.driver_number);
        let kept = car.car_data.keep(sample.date, reading);
        let row = Row { date: sample.date, car_data: Some(reading), location: car.location.at(sample.date, self.join_age_ms_max) };
        self.collect(state, Channel::CarData, sample.driver_number, &kept, (row, refused), context);
    }
}

impl Handle<Location> for TelemetryOperator {
    fn apply(&self, state: &mut State, sample: &Location, context: &mut Context<'_, Telemetry>) {
        if (sample.x, sample.y, sample.z) == (0, 0, 0) {
            return;
        }
        if is_ahead(sample.date, context.now()) {
            return reject_ahead(sample.driver_number, sample.date, context);
        }
        let point = [sample.x_reading(), sample.y_reading(), sample.z_reading()];
        let refused = count(point.map(|coordinate| coordinate.is_none()));
        let car = state.cars.entry(sample.driver_number);
        let kept = car.location.keep(sample.date, point);
        let row = Row { date: sample.date, car_data: car.car_data.at(sample.date, self.join_age_ms_max), location: Some(point) };
        self.collect(state, Channel::Location, sample.driver_number, &kept, (row, refused), context);
    }
}

fn reject_ahead(driver_number: i32, date: Micros, context: &mut Context<'_, Telemetry>) {
    context.reject(format!("car {driver_number}'s sample is dated {date}, well after its arrival: the date is wrong"));
}

impl TelemetryOperator {
    fn collect(
        &self,
        state: &mut State,
        channel: Channel,
        driver_number: i32,
        kept: &Kept,
        (row, refused): (Row, i32),
        context: &mut Context<'_, Telemetry>,
    ) {
        match kept {
            Kept::Duplicate => return,
            Kept::TooOld => {
                return context.reject(format!(
                    "car {driver_number}'s sample of {} is older than the last {RECENT_MAX}: late, or sent again",
                    row.date
                ));
            }
            Kept::New => {}
        }
        if !state.is_open[channel as usize] {
            state.is_open[channel as usize] = true;
            context.set_timer(context.now().plus(self.packet_window_ms * 1_000), channel as u64);
        }
        let packet = &mut state.cars.entry(driver_number).packets[channel as usize];
        packet.rows.push(row);
        packet.refused += refused;
        packet.causes.push(context.seq());
    }
}

impl Row {
    fn sample(&self) -> TelemetrySample {
        let (car, location) = (self.car_data, self.location);
        TelemetrySample {
            date: self.date,
            rpm: car.and_then(|reading| reading.rpm),
            speed: car.and_then(|reading| reading.speed),
            gear: car.and_then(|reading| reading.gear),
            throttle: car.and_then(|reading| reading.throttle),
            brake: car.and_then(|reading| reading.brake),
            drs: car.and_then(|reading| reading.drs),
            x: location.and_then(|[x, _, _]| x),
            y: location.and_then(|[_, y, _]| y),
            z: location.and_then(|[_, _, z]| z),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bench, at_ms, car_data, location, without_drs};

    fn bench() -> Bench {
        Bench::new(|graph| {
            graph.publish(TelemetryOperator::default(), |inputs| inputs.samples::<CarData>().samples::<Location>());
        })
    }

    #[test]
    fn a_packet_becomes_one_fact_per_driver_with_all_its_samples_as_causes() {
        let mut bench = bench();
        for (driver, ms) in [(1, 0), (1, 250), (4, 0), (4, 250)] {
            bench.arrive(1_000, car_data(driver, at_ms(ms), 300));
        }
        bench.idle(1_500);
        let facts = bench.facts::<Telemetry>();
        assert_eq!(
            facts.iter().map(|(header, fact)| (fact.driver_number, fact.samples.len(), header.causes.clone())).collect::<Vec<_>>(),
            [(1, 2, vec![0, 1]), (4, 2, vec![2, 3])]
        );
    }

    #[test]
    fn a_row_carries_the_other_channels_latest_reading_at_or_before_its_date_and_never_a_later_one() {
        let mut bench = bench();
        bench.arrive(1_000, location(1, at_ms(100), [10, 20, 30]));
        bench.arrive(1_000, location(1, at_ms(300), [11, 21, 31]));
        bench.arrive(1_500, car_data(1, at_ms(50), 300));
        bench.arrive(1_500, car_data(1, at_ms(200), 301));
        bench.arrive(1_500, car_data(1, at_ms(5_000), 302));
        bench.idle(2_500);
        let facts = bench.facts::<Telemetry>();
        let rows: Vec<_> = facts[1].1.samples.iter().map(|row| (row.speed, row.x)).collect();
        assert_eq!(rows, [(Some(300), None), (Some(301), Some(10)), (Some(302), None)]);
    }

    #[test]
    fn throttle_and_brake_of_104_and_a_location_of_zeros_are_no_reading() {
        let mut bench = bench();
        bench.arrive(1_000, location(1, at_ms(0), [0, 0, 0]));
        let mut sample = car_data(1, at_ms(10), 0);
        if let pitwall_schemas::raw::Sample::CarData(sample) = &mut sample {
            (sample.throttle, sample.brake) = (104, 104);
        }
        bench.arrive(1_000, sample);
        bench.idle(2_500);
        let facts = bench.facts::<Telemetry>();
        assert_eq!(facts.len(), 1);
        let row = &facts[0].1.samples[0];
        assert_eq!((row.throttle, row.brake, row.x, row.speed), (None, None, None, Some(0)));
        assert_eq!(facts[0].1.readings_refused, 0, "the feed says so itself");
    }

    #[test]
    fn a_channel_out_of_its_range_is_null_and_counted_and_the_rest_of_its_sample_kept() {
        let mut bench = bench();
        let changes: [fn(&mut CarData); 6] = [
            |sample| sample.rpm = 30_001,
            |sample| sample.speed = 501,
            |sample| sample.n_gear = 128,
            |sample| sample.throttle = 105,
            |sample| sample.brake = -1,
            |sample| sample.drs = Some(255),
        ];
        for (ms, change) in (0..).step_by(300).zip(changes) {
            let pitwall_schemas::raw::Sample::CarData(mut sample) = car_data(1, at_ms(ms), 300) else { panic!("a sample of car_data") };
            change(&mut sample);
            bench.arrive(2_000, pitwall_schemas::raw::Sample::from(sample));
        }
        bench.idle(2_500);
        let facts = bench.facts::<Telemetry>();
        assert_eq!((facts.len(), facts[0].1.readings_refused), (1, 6));
        for (index, row) in facts[0].1.samples.iter().enumerate() {
            let known = [row.rpm, row.speed, row.gear, row.throttle, row.brake.map(i32::from), row.drs].map(|channel| channel.is_some());
            let expected: [bool; 6] = std::array::from_fn(|channel| channel != index);
            assert_eq!(known, expected, "{row:?}");
        }
        assert!(bench.rejections().is_empty());
    }

    #[test]
    fn a_coordinate_out_of_its_range_is_null_and_counted_and_the_others_kept() {
        let mut bench = bench();
        bench.arrive(1_000, location(1, at_ms(0), [10, 20, 10_000_001]));
        bench.arrive(1_000, location(1, at_ms(300), [i32::MIN, 20, 30]));
        bench.idle(2_500);
        let (_, fact) = &bench.facts::<Telemetry>()[0];
        let rows: Vec<_> = fact.samples.iter().map(|row| (row.x, row.y, row.z)).collect();
        assert_eq!((rows, fact.readings_refused), (vec![(Some(10), Some(20), None), (None, Some(20), Some(30))], 2));
    }

    #[test]
    fn samples_dated_a_day_ahead_are_rejected_and_do_not_make_later_ones_late() {
        let mut bench = bench();
        let day = 86_400_000;
        for ms in 0..20 {
            bench.arrive(1_000 + ms, car_data(1, at_ms(day + ms), 300));
            bench.arrive(1_000 + ms, location(1, at_ms(day + ms), [1, 2, 3]));
        }
        bench.arrive(2_000, car_data(1, at_ms(1_800), 300));
        bench.arrive(2_000, location(1, at_ms(1_700), [1, 2, 3]));
        bench.idle(3_000);
        let rows: Vec<_> = bench.facts::<Telemetry>().iter().map(|(_, fact)| (fact.samples.len(), fact.samples[0].date)).collect();
        assert_eq!(rows, [(1, at_ms(1_800)), (1, at_ms(1_700))]);
        assert_eq!(bench.rejections().len(), 40);
        assert_eq!(bench.rejections()[0], "car 1's sample is dated 2025-09-01T13:00:00.000000Z, well after its arrival: the date is wrong");
    }

    /// Case 25: from 2026 on there is no DRS.
    #[test]
    fn without_drs_a_row_holds_all_else() {
        let mut bench = bench();
        bench.arrive(1_000, without_drs(car_data(1, at_ms(10), 300)));
        bench.idle(2_500);
        let row = &bench.facts::<Telemetry>()[0].1.samples[0];
        assert_eq!((row.drs, row.speed, row.gear, row.throttle, row.brake), (None, Some(300), Some(8), Some(100), Some(false)));
        assert!(bench.rejections().is_empty());
    }

    #[test]
    fn a_sample_sent_again_changes_nothing_and_an_old_one_is_rejected() {
        let mut bench = bench();
        for ms in 0..20 {
            bench.arrive(1_000 + ms, car_data(1, at_ms(ms), 300));
            bench.arrive(1_000 + ms, car_data(1, at_ms(ms), 300));
        }
        bench.arrive(2_000, car_data(1, at_ms(1), 300));
        bench.idle(3_000);
        let rows: usize = bench.facts::<Telemetry>().iter().map(|(_, fact)| fact.samples.len()).sum();
        assert_eq!(rows, 20);
        assert_eq!(bench.rejections().len(), 1);
        assert!(bench.rejections()[0].contains("late, or sent again"), "{:?}", bench.rejections());
    }
}
