//! Start lines: how far beyond the timing line the start line of a known circuit is.
//!
//! A race begins at the start line and ends at the timing line, so the distance between them is what a race's published distance is shorter
//! than its laps: laps × length − distance. All three are exact to the metre. The figures are those of the races of 2022 to 2026 (f1db:
//! `scheduledLaps`, `courseLength`, `scheduledDistance`; they agree between the years, but for two metres at Spielberg). Numbers and names of
//! the circuits are OpenF1's.

use pitwall_schemas::raw::Session;

/// OpenF1's number and short name of a circuit, and how far its start line is beyond the timing line, m.
const START_LINES: [(i32, &str, i32); 24] = [
    (2, "Silverstone", 134),
    (4, "Hungaroring", 40),
    (6, "Imola", 218),
    (7, "Spa-Francorchamps", 124),
    (9, "Austin", 323),
    (10, "Melbourne", 0),
    (14, "Interlagos", 60),
    (15, "Catalunya", 126),
    (19, "Spielberg", 128),
    (22, "Monte Carlo", 0),
    (23, "Montreal", 0),
    (39, "Monza", 309),
    (46, "Suzuka", 300),
    (49, "Shanghai", 190),
    (55, "Zandvoort", 61),
    (61, "Singapore", 137),
    (63, "Sakhir", 246),
    (65, "Mexico City", 230),
    (70, "Yas Marina Circuit", 115),
    (144, "Baku", 104),
    (149, "Jeddah", 250),
    (150, "Lusail", 272),
    (151, "Miami", 158),
    (152, "Las Vegas", 92),
];

/// How far the start line is beyond the timing line, m, where the session's circuit is a known one: by its name, or by its number where the
/// name is missing or written otherwise.
#[must_use]
pub fn beyond_timing_line_m(session: &Session) -> Option<i32> {
    let is_named = |name: &str| session.circuit_short_name.as_deref().is_some_and(|given| given.eq_ignore_ascii_case(name));
    let by_name = START_LINES.iter().find(|(_, name, _)| is_named(name));
    let by_number = || START_LINES.iter().find(|(number, ..)| session.circuit_key == Some(*number));
    by_name.or_else(by_number).map(|(.., beyond_m)| *beyond_m)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::session_at;

    fn beyond(circuit_key: Option<i32>, name: Option<&str>) -> Option<i32> {
        beyond_timing_line_m(&session_at(circuit_key, name))
    }

    #[test]
    fn a_circuit_is_known_by_its_name_or_by_its_number() {
        assert_eq!(beyond(None, Some("Shanghai")), Some(190));
        assert_eq!(beyond(Some(49), None), Some(190));
        assert_eq!(beyond(Some(70), Some("Yas Marina")), Some(115));
        assert_eq!(beyond(Some(1), Some("Melbourne")), Some(0));
        assert_eq!((beyond(Some(1), Some("X")), beyond(None, None)), (None, None));
    }

    #[test]
    fn every_circuit_stands_once_and_in_order() {
        assert!(START_LINES.windows(2).all(|pair| pair[0].0 < pair[1].0));
        let names: std::collections::BTreeSet<_> = START_LINES.iter().map(|(_, name, _)| name).collect();
        assert_eq!(names.len(), START_LINES.len());
    }
}
