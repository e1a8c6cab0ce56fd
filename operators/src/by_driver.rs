//! State kept for each car, by car number.

use serde::{Deserialize, Serialize};

/// Highest car number; schemas refuse others before they reach an operator.
const NUMBER_MAX: usize = 99;

/// One value for each car that has appeared, in the order of car numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByDriver<T> {
    slots: Vec<Option<T>>,
}

impl<T> Default for ByDriver<T> {
    fn default() -> Self {
        Self { slots: Vec::new() }
    }
}

impl<T> ByDriver<T> {
    /// The car's value, if it has one.
    #[must_use]
    #[inline]
    pub fn get(&self, driver_number: i32) -> Option<&T> {
        self.slots.get(index(driver_number)).and_then(Option::as_ref)
    }

    /// The car's value, if it has one, to change.
    #[inline]
    pub fn get_mut(&mut self, driver_number: i32) -> Option<&mut T> {
        self.slots.get_mut(index(driver_number)).and_then(Option::as_mut)
    }

    /// The car's value; a new car starts with the default.
    #[inline]
    pub fn entry(&mut self, driver_number: i32) -> &mut T
    where
        T: Default,
    {
        let index = index(driver_number);
        if index >= self.slots.len() {
            self.slots.resize_with(index + 1, || None);
        }
        self.slots[index].get_or_insert_default()
    }

    /// Cars and their values, by car number.
    pub fn iter(&self) -> impl Iterator<Item = (i32, &T)> {
        self.slots.iter().enumerate().filter_map(|(number, slot)| slot.as_ref().map(|value| (number as i32, value)))
    }

    /// Cars and their values, by car number, to change.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (i32, &mut T)> {
        self.slots.iter_mut().enumerate().filter_map(|(number, slot)| slot.as_mut().map(|value| (number as i32, value)))
    }

    /// Number of cars.
    #[must_use]
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether no car has appeared.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
}

fn index(driver_number: i32) -> usize {
    usize::try_from(driver_number).map_or(0, |number| number.min(NUMBER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cars_come_in_the_order_of_their_numbers() {
        let mut cars = ByDriver::<u8>::default();
        *cars.entry(81) = 1;
        *cars.entry(4) = 2;
        assert_eq!(cars.iter().collect::<Vec<_>>(), [(4, &2), (81, &1)]);
        assert_eq!(cars.get(44), None);
    }
}
