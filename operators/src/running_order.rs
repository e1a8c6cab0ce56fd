//! Running order: the cars by place, folded from [`positions`](crate::positions), with those whose place is disputed behind the cars that are
//! ahead of them by their own laps and locations.

use std::collections::BTreeMap;

use pitwall_schemas::facts::Position;
use serde::{Deserialize, Serialize};

/// The cars' places as last said.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct RunningOrder {
    places: BTreeMap<i32, Place>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Place {
    stated: i32,
    /// The place stated, or where a car whose place is disputed comes instead.
    position: i32,
    is_disputed: bool,
}

impl RunningOrder {
    /// Takes what is said of one car. A car that had the place has none until it is said.
    pub fn take(&mut self, fact: &Position) {
        if !fact.disputed {
            self.places.retain(|number, place| *number == fact.driver_number || place.stated != fact.position);
        }
        let position = fact.undisputed_position.unwrap_or(fact.position);
        self.places.insert(fact.driver_number, Place { stated: fact.position, position, is_disputed: fact.disputed });
    }

    /// Places and car numbers, the leader first.
    #[must_use]
    pub fn places(&self) -> Vec<(i32, i32)> {
        let mut stated: Vec<i32> = self.places.values().map(|place| place.stated).collect();
        let mut cars: Vec<_> = self.places.iter().map(|(number, place)| (place.position, place.is_disputed, *number)).collect();
        stated.sort_unstable();
        cars.sort_unstable();
        stated.into_iter().zip(cars).map(|(place, (_, _, number))| (place, number)).collect()
    }

    /// The car that leads, if the first place is known.
    #[must_use]
    pub fn leader(&self) -> Option<i32> {
        let is_known = self.places.values().any(|place| place.stated == 1);
        let first = self.places.iter().min_by_key(|(number, place)| (place.position, place.is_disputed, **number));
        first.map(|(number, _)| *number).filter(|_| is_known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(driver_number: i32, position: i32, undisputed_position: Option<i32>) -> Position {
        let disputed = undisputed_position.is_some();
        Position { driver_number, position, previous_position: None, cars: 4, disputed, undisputed_position }
    }

    fn order(facts: &[Position]) -> RunningOrder {
        let mut order = RunningOrder::default();
        facts.iter().for_each(|fact| order.take(fact));
        order
    }

    #[test]
    fn a_car_whose_place_is_disputed_is_behind_the_cars_ahead_of_it_on_the_road() {
        let stated = [said(44, 1, Some(3)), said(81, 2, None), said(4, 3, None), said(1, 4, None)];
        assert_eq!(order(&stated).places(), [(1, 81), (2, 4), (3, 44), (4, 1)]);
        assert_eq!(order(&stated).leader(), Some(81));
    }

    #[test]
    fn a_lead_that_is_disputed_leaves_it_with_the_car_that_had_it() {
        let mut order = order(&[said(81, 1, None), said(4, 2, None), said(44, 3, None)]);
        for fact in [said(44, 1, Some(3)), said(81, 2, None), said(4, 3, None)] {
            order.take(&fact);
            assert_eq!(order.leader(), Some(81));
        }
    }

    #[test]
    fn a_swap_changes_the_leader_with_its_first_half() {
        let mut order = order(&[said(4, 1, None), said(81, 2, None)]);
        order.take(&said(81, 1, None));
        assert_eq!(order.leader(), Some(81));
    }

    #[test]
    fn of_an_order_without_a_first_place_nobody_leads() {
        assert_eq!(order(&[said(4, 2, None)]).leader(), None);
    }
}
