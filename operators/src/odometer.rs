//! Odometer: how far a car has gone, from its speeds.
//!
//! Locations of a slow car lag by tens of metres and catch up in jumps, in the pit lane most of all; its wheels are exact to a percent.

use pitwall_engine::Micros;

/// Longest gap between two speeds that still tells how far the car went, µs.
const GAP_MAX: i64 = 1_000_000;

/// Way gone by each of some dates, from the first of them.
#[derive(Debug)]
pub struct Odometer {
    /// Date and way, dm.
    marks: Vec<(Micros, f64)>,
}

impl Odometer {
    /// Adds up speeds, km/h, of rising dates.
    #[must_use]
    pub fn new(speeds: &[(Micros, i32)]) -> Self {
        let mut way = 0.0;
        let first = speeds.first().map(|(date, _)| (*date, way));
        let rest = speeds.windows(2).map(|pair| {
            let [(before, speed_before), (after, speed_after)] = [pair[0], pair[1]];
            // One km/h is 1 dm in 360,000 µs.
            way += after.since(before) as f64 * f64::from(speed_before + speed_after) / 2.0 / 360_000.0;
            (after, way)
        });
        Self { marks: first.into_iter().chain(rest).collect() }
    }

    /// Way gone by `date`, dm; `None` where no speeds tell.
    #[must_use]
    pub fn way(&self, date: Micros) -> Option<f64> {
        let index = self.marks.partition_point(|(mark, _)| *mark < date);
        let (after, way_after) = *self.marks.get(index)?;
        if after == date {
            return Some(way_after);
        }
        let (before, way) = *self.marks.get(index.checked_sub(1)?)?;
        let span = after.since(before);
        (span <= GAP_MAX).then(|| way + (way_after - way) * date.since(before) as f64 / span as f64)
    }

    /// When the car had gone `way` dm, and its speed there in dm/µs; `None` where no speeds tell, or the car stood.
    #[must_use]
    pub fn passed(&self, way: f64) -> Option<(Micros, f64)> {
        let index = self.marks.partition_point(|(_, mark)| *mark < way);
        let (before, way_before) = *self.marks.get(index.checked_sub(1)?)?;
        let (after, way_after) = *self.marks.get(index)?;
        let span = after.since(before);
        let speed = (way_after - way_before) / span as f64;
        (span <= GAP_MAX).then(|| (before.plus(((way - way_before) / speed).round() as i64), speed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 72 km/h is 200 dm a second; half a second of braking to 36 follows.
    fn odometer() -> Odometer {
        Odometer::new(&[(Micros(0), 72), (Micros(1_000_000), 72), (Micros(1_500_000), 36)])
    }

    #[test]
    fn way_is_the_sum_of_speeds() {
        let odometer = odometer();
        let ways: Vec<Option<f64>> = [0, 500_000, 1_500_000].map(|date| odometer.way(Micros(date)).map(f64::round)).to_vec();
        assert_eq!(ways, [Some(0.0), Some(100.0), Some(275.0)]);
        assert_eq!((odometer.way(Micros(-1)), odometer.way(Micros(1_500_001))), (None, None));
        assert_eq!(odometer.passed(100.0).map(|(date, _)| date), Some(Micros(500_000)));
        assert!(odometer.passed(300.0).is_none());
    }

    #[test]
    fn a_silence_tells_no_way() {
        let odometer = Odometer::new(&[(Micros(0), 72), (Micros(1_000_001), 72)]);
        assert!(odometer.way(Micros(500_000)).is_none() && odometer.passed(100.0).is_none());
    }
}
