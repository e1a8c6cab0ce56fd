//! Session kind: practice, qualifying, a sprint or a race, from the session's document or from what else tells it.
//!
//! Rules, with their source:
//! * The document says it. A session named `Sprint` is a sprint whatever its type: OpenF1 has it as `Race` and, in 2025, as `Sprint
//!   Qualifying` (openf1#303). One of the type `Race` whose name begins with `Sprint` is one too; else what says `Qualifying` or
//!   `Shootout` is qualifying. A document without a type is told by its name.
//! * Without one: race control counts laps in races and sprints only, segments in qualifying only.
//! * A race and a sprint differ by the day: every sprint so far was held on a Saturday, all but a few races on a Sunday, UTC (f1db). A
//!   race on another day is known as one once its leader has completed more laps than any sprint has.

use pitwall_engine::Micros;
use pitwall_schemas::facts::TrackStatus;
use pitwall_schemas::raw::Session;
use serde::{Deserialize, Serialize};

/// No sprint is longer: 100 km at Monaco, the shortest circuit, would be 30 laps.
pub const SPRINT_LAPS_MAX: i32 = 30;

/// How many of `cars` entered go on from the first and from the second segment of qualifying: ten, and before that half of the others,
/// rounded up (sporting regulations; with 19 cars in Australia in 2024 it was 15, f1db).
#[must_use]
pub const fn qualifying_cuts(cars: usize) -> [usize; 2] {
    [10 + cars.saturating_sub(10).div_ceil(2), 10]
}

/// What a session can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionKind {
    /// Free practice.
    Practice,
    /// Qualifying, also that of a sprint.
    Qualifying,
    /// A race over the full distance.
    Race,
    /// A sprint.
    Sprint,
}

/// What has told of the session's kind so far.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Evidence {
    documented: Option<SessionKind>,
    counts_laps: bool,
    has_segments: bool,
    is_on_sunday: bool,
}

impl Evidence {
    /// Takes the session's document.
    pub fn take_document(&mut self, document: &Session) {
        let (kind, name) = (document.session_type.as_deref(), document.session_name.as_deref());
        self.documented = documented(kind.unwrap_or_default(), name.unwrap_or_default()).or(self.documented);
    }

    /// Takes what race control says at `at`.
    pub fn take_status(&mut self, status: &TrackStatus, at: Micros) {
        self.has_segments |= status.qualifying_phase.is_some();
        if status.lap_number.is_some() {
            self.take_count_of_laps(at);
        }
    }

    /// Takes that laps are counted, or gaps sent, at `at`: it is a race or a sprint.
    pub const fn take_count_of_laps(&mut self, at: Micros) {
        self.counts_laps = true;
        self.is_on_sunday = is_sunday(at);
    }

    /// The kind as far as it can be told; `leaders_laps` are the laps that the leader has completed.
    #[must_use]
    pub fn kind(&self, leaders_laps: i32) -> Option<SessionKind> {
        let is_race = self.is_on_sunday || leaders_laps > SPRINT_LAPS_MAX;
        self.documented.or(match (self.counts_laps, self.has_segments) {
            (true, _) => is_race.then_some(SessionKind::Race),
            (false, true) => Some(SessionKind::Qualifying),
            (false, false) => None,
        })
    }

    /// Whether cars race each other: in a race or a sprint.
    #[must_use]
    pub const fn is_race_or_sprint(&self) -> bool {
        match self.documented {
            Some(kind) => matches!(kind, SessionKind::Race | SessionKind::Sprint),
            None => self.counts_laps,
        }
    }
}

/// The kind that a document's type and name tell.
fn documented(session_type: &str, name: &str) -> Option<SessionKind> {
    let says = |words: &[&str]| [session_type, name].iter().any(|text| words.iter().any(|word| text.contains(word)));
    match (session_type, name) {
        (_, "Sprint" | "Sprint Race") => Some(SessionKind::Sprint),
        ("Race", name) if name.starts_with("Sprint") => Some(SessionKind::Sprint),
        ("Race", _) => Some(SessionKind::Race),
        _ if says(&["Qualifying", "Shootout"]) => Some(SessionKind::Qualifying),
        _ if says(&["Practice"]) => Some(SessionKind::Practice),
        ("Sprint", _) => Some(SessionKind::Sprint),
        (_, "Race") => Some(SessionKind::Race),
        _ => None,
    }
}

/// Whether it is Sunday, UTC.
const fn is_sunday(moment: Micros) -> bool {
    // 1970-01-01 was a Thursday.
    (moment.0.div_euclid(86_400_000_000) + 4).rem_euclid(7) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Micros {
        text.parse().unwrap()
    }

    #[test]
    fn a_sprint_is_told_by_its_name_and_qualifying_for_it_is_none() {
        let kinds = [
            ("Race", "Race", Some(SessionKind::Race)),
            ("Race", "Sprint", Some(SessionKind::Sprint)),
            ("Sprint Qualifying", "Sprint", Some(SessionKind::Sprint)),
            ("Sprint", "Sprint", Some(SessionKind::Sprint)),
            ("", "Sprint", Some(SessionKind::Sprint)),
            ("Race", "Sprint Qualifying", Some(SessionKind::Sprint)),
            ("Qualifying", "Sprint Qualifying", Some(SessionKind::Qualifying)),
            ("Sprint Qualifying", "Sprint Qualifying", Some(SessionKind::Qualifying)),
            ("Qualifying", "Sprint Shootout", Some(SessionKind::Qualifying)),
            ("Sprint Shootout", "Sprint Shootout", Some(SessionKind::Qualifying)),
            ("", "Race", Some(SessionKind::Race)),
            ("Practice", "Practice 1", Some(SessionKind::Practice)),
            ("", "", None),
        ];
        for (session_type, name, kind) in kinds {
            assert_eq!(documented(session_type, name), kind, "{session_type}, {name}");
        }
    }

    #[test]
    fn ten_go_on_and_before_that_half_of_the_others_rounded_up() {
        assert_eq!([22, 21, 20, 19, 18, 12, 10, 4].map(|cars| qualifying_cuts(cars)[0]), [16, 16, 15, 15, 14, 11, 10, 10]);
    }

    #[test]
    fn a_sunday_is_a_sunday_until_midnight() {
        assert!(!is_sunday(at("2025-08-30T23:59:59+00:00")));
        assert!(is_sunday(at("2025-08-31T00:00:00+00:00")) && is_sunday(at("2025-08-31T23:59:59+00:00")));
        assert!(!is_sunday(at("2025-09-01T00:00:00+00:00")));
    }

    #[test]
    fn counted_laps_on_a_saturday_are_a_sprint_or_a_race_until_there_are_too_many_for_a_sprint() {
        let kinds = |day: &str| {
            let mut evidence = Evidence::default();
            evidence.take_count_of_laps(at(day));
            [0, SPRINT_LAPS_MAX, SPRINT_LAPS_MAX + 1].map(|laps| evidence.kind(laps))
        };
        assert_eq!(kinds("2025-05-03T16:00:00+00:00"), [None, None, Some(SessionKind::Race)]);
        assert_eq!(kinds("2025-05-04T20:00:00+00:00"), [Some(SessionKind::Race); 3]);
    }
}
