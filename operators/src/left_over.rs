//! Left over: whose the one place is that the feed gives to nobody; a part of [`positions`](crate::positions).
//!
//! A car that never changes place may get no `position` document (openf1#410). When one place is left over and one car without a place
//! drives, it is that car's; before any laps are known, the one car of the driver list without a place. It is said only when the cars add
//! up: with the driver list, or at a start that was seen, where each car begins lap 1. A stray number in the driver list drives no laps.

use serde::{Deserialize, Serialize};

use crate::by_driver::ByDriver;

/// The cars of a session, by what tells of them.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Entries {
    cars: ByDriver<Entry>,
    is_start_seen: bool,
    /// What was left over at the last look. Documents of one moment may be on both sides of a look.
    seen: Option<LeftOver>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Entry {
    listed_by: Option<u64>,
    driven_by: Option<u64>,
}

/// A car without a place, the place without a car, and the ledger record that told of the car.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LeftOver {
    pub(crate) driver_number: i32,
    pub(crate) place: i32,
    pub(crate) cause: u64,
}

impl Entries {
    /// The driver list has the car.
    pub(crate) fn list(&mut self, driver_number: i32, seq: u64) {
        self.cars.entry(driver_number).listed_by.get_or_insert(seq);
    }

    /// The car drives.
    pub(crate) fn drive(&mut self, driver_number: i32, seq: u64) {
        self.cars.entry(driver_number).driven_by.get_or_insert(seq);
    }

    /// The session starts, which in a race is before any car's second lap.
    pub(crate) const fn start(&mut self) {
        self.is_start_seen = true;
    }

    /// What is left over besides `places`, the car of each place, when the last look found the same.
    pub(crate) fn look(&mut self, places: &std::collections::BTreeMap<i32, i32>) -> Option<LeftOver> {
        let found = self.find(places);
        let seen = std::mem::replace(&mut self.seen, found);
        found.filter(|_| seen == found)
    }

    fn find(&self, places: &std::collections::BTreeMap<i32, i32>) -> Option<LeftOver> {
        let last = *places.last_key_value()?.0;
        let holes = last - places.len() as i32;
        let without_place = || self.cars.iter().filter(|(number, _)| !places.values().any(|placed| placed == number));
        let mut driving = without_place().filter_map(|(number, entry)| Some((number, entry.driven_by?)));
        let mut listed = without_place().filter_map(|(number, entry)| Some((number, entry.listed_by?)));
        let is_complete = self.cars.iter().filter(|(_, entry)| entry.listed_by.is_some()).count() == places.len() + 1;
        let car = match (driving.next(), driving.next()) {
            (Some(car), None) if is_complete || self.is_start_seen => car,
            (None, None) if is_complete && holes == 1 => listed.next()?,
            _ => return None,
        };
        let place = match holes {
            0 => last + 1,
            1 => (1..last).find(|place| !places.contains_key(place))?,
            _ => return None,
        };
        Some(LeftOver { driver_number: car.0, place, cause: car.1 })
    }
}
