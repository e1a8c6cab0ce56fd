//! Laps that race control deletes and reinstates: which lap it means, and those that it deletes before they are known.

use pitwall_engine::Micros;
use serde::{Deserialize, Serialize};

use super::car::Car;
use super::lap_state::{LAP, LapState};
use super::rules::Rules;

/// Deletions of one car that wait for their lap. Of more, the oldest is forgotten.
const PENDING_DELETIONS_MAX: usize = 64;

/// What race control has deleted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Deletion {
    pub(super) time_ms: Option<i32>,
    pub(super) lap_number: Option<i32>,
    pub(super) happened_at: Option<Micros>,
    pub(super) reason: Option<String>,
    pub(super) cause: u64,
}

impl Car {
    /// The lap under way at that moment, as far as starts are known.
    fn under_way(&self, moment: Micros) -> Option<i32> {
        let has_begun = |lap: &LapState| lap.started_at.value().is_some_and(|start| *start <= moment);
        self.laps.iter().rev().find(|(_, lap)| has_begun(lap)).map(|(number, _)| *number)
    }

    /// Whether race control means the lap: the one of that time, or, when the words name none, of that moment or else of that number.
    fn is_meant(&self, deletion: &Deletion, lap_number: i32) -> bool {
        match (deletion.time_ms, deletion.happened_at) {
            (Some(time_ms), _) => {
                let lap = self.laps.get(&lap_number);
                lap.is_some_and(|lap| lap.sent[LAP].value() == Some(&time_ms) || lap.said[LAP] == Some(time_ms))
            }
            (None, Some(moment)) => self.under_way(moment) == Some(lap_number),
            (None, None) => deletion.lap_number == Some(lap_number),
        }
    }

    /// The lap that race control means, if it is known: of several with that time the one of that moment or number, else the newest.
    pub(super) fn find(&self, deletion: &Deletion) -> Option<i32> {
        let meant = || self.laps.keys().rev().copied().filter(|number| self.is_meant(deletion, *number));
        let named = deletion.happened_at.and_then(|moment| self.under_way(moment)).or(deletion.lap_number);
        meant().find(|number| Some(*number) == named).or_else(|| meant().next())
    }

    /// Deletes or reinstates a lap, and tells whether that is news. Its time is then compared as if it came now.
    pub(super) fn set_deleted(&mut self, lap_number: i32, is_deleted: bool, deletion: &Deletion, rules: &Rules) -> bool {
        let Some(lap) = self.laps.get_mut(&lap_number) else { return false };
        if lap.is_deleted() == is_deleted {
            return false;
        }
        lap.is_deleted.take(Some(is_deleted), deletion.cause);
        lap.deleted_reason = deletion.reason.clone().filter(|_| is_deleted);
        self.forget_time(lap_number, rules);
        true
    }

    /// Keeps a deletion until its lap is known; a reinstatement takes it back.
    pub(super) fn wait(&mut self, deletion: Deletion, is_deleted: bool) {
        let lap = |deletion: &Deletion| (deletion.time_ms, deletion.lap_number, deletion.happened_at);
        self.pending_deletions.retain(|other| lap(other) != lap(&deletion));
        if is_deleted {
            if self.pending_deletions.len() >= PENDING_DELETIONS_MAX {
                self.pending_deletions.remove(0);
            }
            self.pending_deletions.push(deletion);
        }
    }

    /// Deletes the lap if race control said so before it was known.
    pub(super) fn delete_pending(&mut self, lap_number: i32) -> bool {
        let Some(index) = self.pending_deletions.iter().position(|deletion| self.is_meant(deletion, lap_number)) else { return false };
        let Some(lap) = self.laps.get_mut(&lap_number) else { return false };
        let deletion = self.pending_deletions.remove(index);
        lap.is_deleted.take(Some(true), deletion.cause);
        lap.deleted_reason = deletion.reason;
        true
    }
}
