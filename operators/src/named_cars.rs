//! Cars that a message of race control names.
//!
//! Race control writes a car as its number and the driver's three letters, `CAR 44 (HAM)`, and several as `CARS 55 (SAI) AND 14 (ALO)`.
//! The number stands for itself: `CAR 4` is not in `CAR 44`. OpenF1 names at most one car in `driver_number`.

use pitwall_schemas::raw::RaceControl;

/// Numbers of the cars named in the message, each once, in the order of the words.
#[must_use]
pub fn named_cars(message: &RaceControl) -> Vec<i32> {
    let words: Vec<&str> = message.message.as_deref().unwrap_or_default().split_ascii_whitespace().collect();
    let mut cars: Vec<i32> = message.driver_number.into_iter().collect();
    for (index, word) in words.iter().enumerate() {
        let follows_car = index > 0 && words[index - 1] == "CAR";
        let has_driver = words.get(index + 1).is_some_and(|driver| driver.starts_with('('));
        let number = word.trim_end_matches([',', ':', '.']).parse().ok();
        if let Some(number) = number.filter(|number| (1..=99).contains(number) && (follows_car || has_driver))
            && !cars.contains(&number)
        {
            cars.push(number);
        }
    }
    cars
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at_ms, race_control};

    fn named(message: &str) -> Vec<i32> {
        named_cars(&race_control(at_ms(0), message))
    }

    // Case 4.
    #[test]
    fn car_4_is_not_car_44() {
        assert_eq!(named("FIA STEWARDS: DRIVE THROUGH PENALTY FOR CAR 44 (HAM) - SPEEDING IN THE PIT LANE"), [44]);
        assert_eq!(named("CAR 4 (NOR) STOPPED AT TURN 9"), [4]);
    }

    #[test]
    fn other_numbers_in_the_words_are_no_cars() {
        let message = "FIA STEWARDS: LAP 1 TURN 3 INCIDENT INVOLVING CARS 55 (SAI) AND 14 (ALO) NOTED - 10 SECOND TIME PENALTY";
        assert_eq!(named(message), [55, 14]);
        assert_eq!(named("SAFETY CAR IN THIS LAP"), [0; 0]);
    }
}
