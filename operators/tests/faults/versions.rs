//! Corrections and documents sent again.

use pitwall_schemas::facts::{Basis, Classification};

use crate::support::derive;

#[test]
fn a_result_corrected_without_an_id_supersedes_the_one_before() {
    let derived = derive("r19-result-corrected-without-an-id");
    let official = derived.standing::<Classification>().into_iter().filter(|(_, line)| line.basis == Basis::Official);
    let mut lines: Vec<_> = official.map(|(header, line)| (line.position, line.driver_number, header.revision)).collect();
    lines.sort_unstable();
    assert_eq!(lines, [(Some(1), 1, 0), (Some(2), 81, 1), (Some(3), 4, 1)]);
}
