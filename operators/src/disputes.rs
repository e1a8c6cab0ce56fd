//! Disputes: which places of a race's order the cars' own laps and locations refute; a part of [`positions`](crate::positions).
//!
//! A car that comes before another in the order claims to have passed it. Of a claim the [`road`](crate::road) says one of these:
//! * **Confirmed**, and forgotten: the other is behind on the road, or the car began a lap before the other.
//! * **Refuted**: the car is behind on the road by [`BEHIND_MIN`] while the other goes on at racing speed; it gained while it stood
//!   and the other raced; or it does not begin the lap that the other began since the claim, [`LINE_LAG`] ago. The car's place is disputed until the
//!   feed takes the gain back, or the road confirms it after all.
//! * Nothing: after [`CLAIM_AGE_MAX`] it is forgotten.
//!
//! A car that stops keeps its place until the feed drops it, a lap later or so. That is the feed's habit and refutes no place, but the
//! leader's: a leader that has been behind the second for [`LEADER_LAG`] does not lead. A car that does not go on has not been passed
//! in vain: when the feed drops it, the others' claims are not refuted by where it stands.
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
        let by_locations = left_behind(road, leader, second, now).map(|behind| behind.causes);
        let by_laps = || road.has_not_begun(leader, second, Micros(0), now.plus(-LINE_LAG)).filter(|_| !road.is_heard(leader, now));
        let Some(causes) = by_locations.or_else(by_laps) else {
            self.leader_behind = None;
            return;
        };
        let seen = self.leader_behind.filter(|seen| (seen.leader, seen.second) == (leader, second));
        let seen = seen.unwrap_or(LeaderBehind { leader, second, since: now });
        self.leader_behind = Some(seen);
        if now.since(seen.since) >= LEADER_LAG {
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
    // What was measured before the pass refutes it when the car could not come up since, were it twice as fast as the other.
    let is_too_far = |behind: &Behind| behind.by >= 2 * claim.at.since(behind.at);
    let by_locations = left_behind(road, car, other, now).filter(is_too_far).map(|behind| behind.causes);
    let stood = || road.stands(car, other, now).filter(|_| claim.known_at == now);
    let by_laps = || road.has_not_begun(car, other, claim.at, now.plus(-LINE_LAG));
    by_locations.or_else(stood).or_else(by_laps)
}
