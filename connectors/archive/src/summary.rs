//! What a run came to, folded from its facts as they pass: drivers, best laps, stints and the race clock.

use std::collections::BTreeMap;

use pitwall_engine::facts::FactBatch;
use pitwall_schemas::codec::Fact;
use pitwall_schemas::facts::{Driver, FactBody, Lap, Position, RaceClock, Stint};

use pitwall_schemas::moment::Clock;

use crate::facts::keep;

/// The latest of each thing a reader asks about first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Summary {
    /// Start and laps of the session.
    pub clock: Clock,
    /// Drivers, by car number.
    pub drivers: BTreeMap<i32, Driver>,
    /// Laps, by car number and lap.
    pub laps: BTreeMap<(i32, i32), Lap>,
    /// Stints, by car number and stint.
    pub stints: BTreeMap<(i32, i32), Stint>,
    /// Places, by car number.
    pub positions: BTreeMap<i32, i32>,
}

impl Summary {
    /// Takes facts in order. Only the rare kinds are read; telemetry and rows of the tower pass untouched.
    pub fn take(&mut self, facts: &FactBatch) {
        for fact in facts.iter().filter(|fact| is_summed(fact.kind.name)) {
            let Ok((header, mut body)) = fact.header() else { continue };
            match FactBody::decode(fact.kind.name, &mut body) {
                Some(Ok(FactBody::RaceClock(clock))) => self.clock.take(header.known_at, &clock),
                Some(Ok(FactBody::Drivers(driver))) => keep(&mut self.drivers, driver.driver_number, driver, &header),
                Some(Ok(FactBody::Laps(lap))) => keep(&mut self.laps, (lap.driver_number, lap.lap_number), lap, &header),
                Some(Ok(FactBody::Stints(stint))) => keep(&mut self.stints, (stint.driver_number, stint.stint_number), stint, &header),
                Some(Ok(FactBody::Positions(place))) => keep(&mut self.positions, place.driver_number, place.position, &header),
                _ => {}
            }
        }
    }

    /// What a car is called: the driver's three letters, or the car's number.
    #[must_use]
    pub fn name(&self, driver_number: i32) -> String {
        let acronym = self.drivers.get(&driver_number).and_then(|driver| driver.acronym.clone());
        acronym.unwrap_or_else(|| driver_number.to_string())
    }

    /// Cars in their final order; those without a place come last, most laps first.
    #[must_use]
    pub fn order(&self) -> Vec<i32> {
        let cars: std::collections::BTreeSet<i32> =
            self.drivers.keys().chain(self.positions.keys()).copied().chain(self.laps.keys().map(|(car, _)| *car)).collect();
        let mut cars: Vec<i32> = cars.into_iter().collect();
        cars.sort_by_key(|car| (self.positions.get(car).copied().unwrap_or(i32::MAX), -self.laps_completed(*car)));
        cars
    }

    /// The last lap that a car completed; 0 when none.
    #[must_use]
    pub fn laps_completed(&self, driver_number: i32) -> i32 {
        self.laps_of(driver_number).filter(|lap| lap.is_complete).map(|lap| lap.lap_number).max().unwrap_or(0)
    }

    /// A car's fastest lap; the earlier one when two are equal.
    #[must_use]
    pub fn best_lap(&self, driver_number: i32) -> Option<&Lap> {
        self.laps_of(driver_number).filter(|lap| lap.lap_ms.is_some()).min_by_key(|lap| (lap.lap_ms, lap.lap_number))
    }

    /// The fastest lap of each car, fastest first.
    #[must_use]
    pub fn fastest_laps(&self) -> Vec<&Lap> {
        let mut laps: Vec<&Lap> = self.order().into_iter().filter_map(|car| self.best_lap(car)).collect();
        laps.sort_by_key(|lap| (lap.lap_ms, lap.started_at, lap.driver_number));
        laps
    }

    /// A car's stints, in order.
    pub fn stints_of(&self, driver_number: i32) -> impl Iterator<Item = &Stint> {
        self.stints.range((driver_number, i32::MIN)..=(driver_number, i32::MAX)).map(|(_, stint)| stint)
    }

    fn laps_of(&self, driver_number: i32) -> impl Iterator<Item = &Lap> {
        self.laps.range((driver_number, i32::MIN)..=(driver_number, i32::MAX)).map(|(_, lap)| lap)
    }
}

fn is_summed(kind: &str) -> bool {
    [RaceClock::KIND, Driver::KIND, Lap::KIND, Stint::KIND, Position::KIND].contains(&kind)
}
