//! Disputes: which places of a race's order the cars' own laps and locations refute; a part of [`positions`](crate::positions).
//!
//! A car that comes before another in the order claims to have passed it. Of a claim the [`road`](crate::road) says one of these:
//! * **Confirmed**, and forgotten: the other is behind on the road, or the car began a lap before the other.
//! * **Refuted**: the car is behind on the road by [`BEHIND_MIN`] while the other goes on at racing speed, measured after the pass or so
//!   shortly before that the car cannot have come up; it gained while it stood and the other raced; or it does not begin the lap that the
//!   other began since the claim, [`LINE_LAG`] ago. The car's place is disputed until the feed takes the gain back, or the road confirms
//!   it after all.
//! * Nothing: after [`CLAIM_AGE_MAX`] it is forgotten.
//!
//! A car that stops keeps its place until the feed drops it, a lap later or so. That is the feed's habit and refutes no place, but the
//! leader's: a leader that has been behind the second for [`LEADER_LAG`] does not lead. Where the car stands refutes nobody who is placed before
//! it.
//!
//! A place is disputed as it is said when the evidence is there, and corrected when it comes later. Nothing is decided during a red
//! flag, before the start, or after the flag.

use std::collections::BTreeMap;

use pitwall_engine::Micros;
use serde::{Deserialize, Serialize};

use crate::road::{Behind, Road};

/// How far behind on the road a car's place is refuted, µs: more than a place can be won by before the locations tell of it.
pub(crate) const BEHIND_MIN: i64 = 1_500_000;

/// How far ahead on the road a car's place is confirmed, µs.
const AHEAD_MIN: i64 = 500_000;

/// How long after another a car that is ahead of it in the order must have begun the lap, µs.
pub(crate) const LINE_LAG: i64 = 10 * Micros::SECOND;

/// How long a leader must have been behind the second, µs: the feed has a pass in its order at the next of its loops.
pub(crate) const LEADER_LAG: i64 = 10 * Micros::SECOND;

/// How long a claim is remembered of which nothing is known, µs: the slowest lap behind a safety car and more.
pub(crate) const CLAIM_AGE_MAX: i64 = 180 * Micros::SECOND;

/// Passes claimed by the order and not confirmed, by the car that claims and the car passed.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Disputes {
    claims: BTreeMap<(i32, i32), Claim>,
    leader_behind: Option<LeaderBehind>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Claim {
    /// When the pass was, by the feed, and when it became known.
    at: Micros,
    known_at: Micros,
    /// The ledger records that refute it.
    refuted_by: Option<[u64; 2]>,
}

/// Since when a leader is seen behind the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct LeaderBehind {
    leader: i32,
    second: i32,
    since: Micros,
}

impl Disputes {
    /// The order changes: passes become claims, and claims of cars that fell back again are gone.
    pub(crate) fn reorder(&mut self, before: &[i32], after: &[i32], at: Micros, now: Micros) {
        let place = |car: i32| after.iter().position(|other| *other == car);
        for (index, &ahead) in before.iter().enumerate() {
            for &behind in &before[index + 1..] {
                if place(behind) < place(ahead) {
                    self.claims.remove(&(ahead, behind));
                    self.claims.insert((behind, ahead), Claim { at, known_at: now, refuted_by: None });
                }
            }
        }
    }

    /// Forgets what is not decided.
    pub(crate) fn forget_claims(&mut self) {
        self.claims.retain(|_, claim| claim.refuted_by.is_some());
        self.leader_behind = None;
    }

    /// Forgets all about passes of the cars in `order`, which race control has put in that order.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Decides claims by what is known of the road now, and tells which were confirmed: the car, and the ledger records that say so.
    pub(crate) fn judge(&mut self, road: &Road, now: Micros) -> Vec<(i32, [u64; 2])> {
        let mut confirmed = Vec::new();
        self.claims.retain(|(car, other), claim| {
            let by_locations = road.behind(*other, *car, now).filter(|behind| behind.by >= AHEAD_MIN).map(|behind| behind.causes);
            let by_laps = || road.began_first(*car, *other, claim.at.plus(-LINE_LAG));
            if let Some(causes) = by_locations.or_else(by_laps) {
                confirmed.push((*car, causes));
                return false;
            }
            if claim.refuted_by.is_none() {
                claim.refuted_by = refutation(road, *car, *other, claim, now);
            }
            claim.refuted_by.is_some() || now.since(claim.at) <= CLAIM_AGE_MAX
        });
        confirmed
    }

    /// Judges the leader, and the second that may be ahead of it.
    pub(crate) fn judge_leader(&mut self, road: &Road, leader: i32, second: i32, now: Micros) {
        if self.claims.contains_key(&(leader, second)) {
            return;
        }
        let by_laps = road.has_not_begun(leader, second, Micros(0), now.plus(-LINE_LAG)).filter(|_| !road.is_heard(leader, now));
        let by_locations = left_behind(road, leader, second, now).map(|behind| behind.causes);
        let seen = self.leader_behind.filter(|seen| (seen.leader, seen.second) == (leader, second));
        self.leader_behind = by_locations.map(|_| seen.unwrap_or(LeaderBehind { leader, second, since: now }));
        let is_long = self.leader_behind.is_some_and(|seen| now.since(seen.since) >= LEADER_LAG);
        if let Some(causes) = by_laps.or_else(|| by_locations.filter(|_| is_long)) {
            self.claims.insert((leader, second), Claim { at: now, known_at: now, refuted_by: Some(causes) });
        }
    }

    /// How many cars that the order has behind `driver_number` are ahead of it, and the ledger records that say so; `None` when its place
    /// is not disputed.
    pub(crate) fn of(&self, driver_number: i32) -> Option<(i32, Vec<u64>)> {
        let claims = self.claims.range((driver_number, i32::MIN)..=(driver_number, i32::MAX));
        let causes: Vec<[u64; 2]> = claims.filter_map(|(_, claim)| claim.refuted_by).collect();
        (!causes.is_empty()).then(|| (causes.len() as i32, causes.concat()))
    }
}

fn left_behind(road: &Road, car: i32, other: i32, now: Micros) -> Option<Behind> {
    road.behind(car, other, now).filter(|behind| behind.by >= BEHIND_MIN && road.goes_on(other, now))
}

fn refutation(road: &Road, car: i32, other: i32, claim: &Claim, now: Micros) -> Option<[u64; 2]> {
    // What was measured before the pass refutes it when the car could not come up since.
    let is_too_far = |behind: &Behind| behind.at >= claim.at || !behind.can_be_level(claim.at);
    let by_locations = left_behind(road, car, other, now).filter(is_too_far).map(|behind| behind.causes);
    let stood = || road.stands(car, other, now).filter(|_| claim.known_at == now);
    let by_laps = || road.has_not_begun(car, other, claim.at, now.plus(-LINE_LAG));
    by_locations.or_else(stood).or_else(by_laps)
}

#[cfg(test)]
mod tests {
    use crate::testing::{Bench, at_ms, car_data, interval, lap, location, position, race_control};
    use pitwall_schemas::facts::Position;
    use pitwall_schemas::raw::{self, Sample};

    const LAP_MS: i64 = 80_000;

    /// Where a car is on a circuit of 4 km that goes round a square, `ms` after it began a lap at 50 m/s.
    fn on_the_circuit(ms: i64) -> [i32; 3] {
        let way = (ms.rem_euclid(LAP_MS) / 2) as i32;
        let (side, along) = (way / 10_000, way % 10_000);
        match side {
            0 => [along, 0, 1],
            1 => [10_000, along, 1],
            2 => [10_000 - along, 10_000, 1],
            _ => [0, 10_000 - along, 1],
        }
    }

    /// A race of cars that are `behind` the first by so many ms, from its start to `until` ms, of which the last stops at `stops` ms.
    struct Race<'a> {
        behind: &'a [(i32, i64)],
        until: i64,
        stops: Option<i64>,
        has_locations: bool,
    }

    impl Race<'_> {
        fn samples(&self) -> Vec<(i64, Sample)> {
            let category = Some("SessionStatus".into());
            let mut samples =
                vec![(0, Sample::from(raw::RaceControl { category, lap_number: Some(1), ..race_control(at_ms(0), "SESSION STARTED") }))];
            for (place, &(car, behind)) in (1..).zip(self.behind) {
                samples.push((0, Sample::from(position(car, at_ms(0), place))));
                let end = self.stops.filter(|_| place as usize == self.behind.len()).unwrap_or(self.until);
                for number in 1.. {
                    let start = i64::from(number - 1) * LAP_MS + if number == 1 { 0 } else { behind };
                    if start > end {
                        break;
                    }
                    samples.push((start + 400, Sample::from(raw::Lap { date_start: Some(at_ms(start)), ..lap(car, number) })));
                }
                for ms in (LAP_MS..self.until).step_by(1_000).filter(|_| self.has_locations) {
                    samples.push((ms + 900, location(car, at_ms(ms), on_the_circuit(ms.min(end) - behind))));
                    let speed = if ms > end { 0 } else { 180 };
                    samples.push((ms + 900, car_data(car, at_ms(ms), speed)));
                }
            }
            samples
        }
    }

    /// Facts that dispute a place: ms after the start, car, place and the place that is not disputed.
    fn disputed(mut samples: Vec<(i64, Sample)>) -> Vec<(i64, i32, i32, i32)> {
        samples.sort_by_key(|(ms, _)| *ms);
        let facts = Bench::new(crate::join).play(samples).facts::<Position>();
        let place = |(header, fact): (pitwall_schemas::shared::FactHeader, Position)| {
            let ms = header.known_at.since(at_ms(0)) / 1_000;
            fact.undisputed_position.map(|undisputed| (ms, fact.driver_number, fact.position, undisputed))
        };
        facts.into_iter().filter_map(place).collect()
    }

    fn with(race: &Race<'_>, places: &[(i64, i32, i32)]) -> Vec<(i64, i32, i32, i32)> {
        let stated = places.iter().map(|(ms, car, place)| (*ms, Sample::from(position(*car, at_ms(*ms), *place))));
        disputed(race.samples().into_iter().chain(stated).collect())
    }

    const FIELD: &[(i32, i64)] = &[(81, 0), (4, 2_000), (1, 6_000), (44, 12_000)];

    fn whole_race() -> Race<'static> {
        Race { behind: FIELD, until: 400_000, stops: None, has_locations: true }
    }

    #[test]
    fn a_place_that_the_locations_refute_is_disputed_as_it_is_said() {
        let said = with(&whole_race(), &[(200_000, 44, 1), (200_000, 81, 2), (200_000, 4, 3), (200_000, 1, 4)]);
        assert_eq!(said, [(200_002, 44, 1, 4)]);
    }

    #[test]
    fn a_dispute_ends_when_the_feed_takes_the_gain_back() {
        let back = [(230_000, 44, 4), (230_000, 81, 1), (230_000, 4, 2), (230_000, 1, 3)];
        let said = with(&whole_race(), &[&[(200_000, 44, 1), (200_000, 81, 2), (200_000, 4, 3), (200_000, 1, 4)], &back[..]].concat());
        assert_eq!(said.len(), 1);
    }

    #[test]
    fn a_gain_on_a_car_that_is_just_ahead_is_not_disputed() {
        let race = Race { behind: &[(81, 0), (4, 900), (1, 6_000)], ..whole_race() };
        assert_eq!(with(&race, &[(200_000, 4, 1), (200_000, 81, 2)]), []);
    }

    #[test]
    fn a_gain_on_a_lap_that_the_car_never_completes_is_disputed_by_laps_alone() {
        let race = Race { stops: Some(210_000), has_locations: false, ..whole_race() };
        let said = with(&race, &[(200_000, 44, 2), (200_000, 4, 3), (200_000, 1, 4)]);
        // Cars 4 and 1 begin the next lap at 242 s and 246 s, which is known 0.4 s later, and 10 s make sure.
        assert_eq!(said, [(252_400, 44, 2, 3), (256_400, 44, 2, 4)]);
    }

    #[test]
    fn laps_that_are_missing_for_all_but_one_car_dispute_nothing() {
        let race = Race { has_locations: false, ..whole_race() };
        let mut samples = race.samples();
        samples.retain(|(_, sample)| !matches!(sample, Sample::Laps(lap) if lap.lap_number > 3 && lap.driver_number != 81));
        samples
            .extend([(44, 1), (81, 2), (4, 3), (1, 4)].map(|(car, place)| (230_000, Sample::from(position(car, at_ms(230_000), place)))));
        assert_eq!(disputed(samples), []);
    }

    #[test]
    fn a_car_that_stops_keeps_its_place_and_those_who_are_placed_before_it_are_not_disputed() {
        let race = Race { behind: &[(81, 0), (4, 2_000), (1, 6_000), (44, 4_000)], stops: Some(210_000), ..whole_race() };
        // The feed drops it a lap after it stopped.
        assert_eq!(with(&race, &[(100_000, 44, 3), (100_000, 1, 4), (290_000, 44, 4), (290_000, 1, 3)]), []);
    }

    #[test]
    fn a_leader_that_stops_does_not_lead_once_it_has_been_behind_for_ten_seconds() {
        let race = Race { behind: &[(81, 2_000), (4, 4_000), (44, 0)], stops: Some(210_000), ..whole_race() };
        let first = &[(100, 44, 1), (100, 81, 2), (100, 4, 3)];
        let said = with(&race, first);
        assert_eq!(said.iter().map(|(_, car, place, undisputed)| (*car, *place, *undisputed)).collect::<Vec<_>>(), [(44, 1, 2)]);
        assert!((222_000..228_000).contains(&said[0].0), "{}", said[0].0);
    }

    #[test]
    fn a_leader_without_locations_does_not_lead_when_two_cars_have_begun_the_next_lap() {
        let race = Race { behind: &[(81, 2_000), (4, 4_000), (44, 0)], stops: Some(210_000), has_locations: false, ..whole_race() };
        let said = with(&race, &[(100, 44, 1), (100, 81, 2), (100, 4, 3)]);
        assert_eq!(said, [(252_400, 44, 1, 2)]);
    }

    #[test]
    fn a_car_that_gains_while_it_stands_is_disputed_by_the_wheels_alone() {
        let race = Race { stops: Some(210_000), ..whole_race() };
        let mut samples = race.samples();
        samples.retain(|(_, sample)| !matches!(sample, Sample::Location(_)));
        samples.extend([(44, 3), (1, 4)].map(|(car, place)| (230_000, Sample::from(position(car, at_ms(230_000), place)))));
        assert_eq!(disputed(samples)[0], (230_002, 44, 3, 4));
    }

    #[test]
    fn a_pass_of_a_car_in_the_pit_lane_and_one_on_the_road_are_not_disputed() {
        let race = Race { behind: &[(81, 0), (4, 2_000), (1, 6_000)], until: 200_000, ..whole_race() };
        let mut samples = race.samples();
        // From 200 s on car 81 goes at 72 km/h, and the others go by.
        for ms in (200_000..240_000).step_by(1_000) {
            let slow = 200_000 + (ms - 200_000) * 2 / 5;
            let places =
                [(81, slow), (4, ms - 2_000), (1, ms - 6_000)].map(|(car, way)| (ms + 900, location(car, at_ms(ms), on_the_circuit(way))));
            samples.extend(places);
        }
        let passes = [(203_500, 4, 1), (203_500, 81, 2), (210_500, 1, 2), (210_500, 81, 3)];
        samples.extend(passes.map(|(ms, car, place)| (ms, Sample::from(position(car, at_ms(ms), place)))));
        assert_eq!(disputed(samples), []);
    }

    #[test]
    fn places_by_best_laps_are_won_by_no_pass() {
        let race = whole_race();
        let mut samples = race.samples();
        samples[0].1 = Sample::from(raw::RaceControl {
            category: Some("SessionStatus".into()),
            qualifying_phase: Some(1),
            ..race_control(at_ms(0), "SESSION STARTED")
        });
        samples
            .extend([(44, 1), (81, 2), (4, 3), (1, 4)].map(|(car, place)| (200_000, Sample::from(position(car, at_ms(200_000), place)))));
        assert_eq!(disputed(samples.clone()), []);
        samples.push((150_000, Sample::from(interval(81, at_ms(150_000)))));
        assert_eq!(disputed(samples).len(), 1, "gaps are of races alone");
    }
}
