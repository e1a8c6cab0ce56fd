//! Position check: the feed's running order against the order by crossings of the timing line, at the end of each lap.
//!
//! The feed's order lags the line (OpenF1), so both are compared [`PositionCheckOperator::settle_ms`] after the estimate became known;
//! a place corrected by then is compared as corrected. Agreement is silent; a disagreement says both places and how many there were.

use std::collections::BTreeMap;

use pitwall_engine::operator::{Context, Handle, Operator};
use pitwall_schemas::facts::{EstimatedPlace, Position, PositionCheck};
use serde::{Deserialize, Serialize};

use crate::by_driver::ByDriver;
use crate::known::in_order;

/// Compares orders.
#[derive(Debug, Clone, Copy)]
pub struct PositionCheckOperator {
    /// How long after the estimate they are compared, ms.
    pub settle_ms: i64,
}

impl Default for PositionCheckOperator {
    fn default() -> Self {
        Self { settle_ms: 2_000 }
    }
}

/// Places to compare.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    /// Place of each car by the feed, and the ledger record that gave it.
    feed: ByDriver<Option<(i32, u64)>>,
    /// Estimates not yet compared, by car and lap.
    pending: BTreeMap<(i32, i32), (i32, Vec<u64>)>,
    comparisons: i32,
    disagreements: i32,
}

impl Operator for PositionCheckOperator {
    const NAME: &'static str = "position_check";
    const VERSION: u32 = 1;
    type Output = PositionCheck;
    type State = State;

    fn parameters(&self) -> Vec<(&'static str, String)> {
        vec![("settle_ms", self.settle_ms.to_string())]
    }

    fn on_timer(&self, state: &mut State, token: u64, context: &mut Context<'_, PositionCheck>) {
        let (driver_number, lap_number) = ((token / 1_000) as i32, (token % 1_000) as i32);
        let Some((estimated_position, causes)) = state.pending.remove(&(driver_number, lap_number)) else { return };
        let Some((position, cause)) = state.feed.get(driver_number).copied().flatten() else { return };
        state.comparisons += 1;
        if position == estimated_position {
            return;
        }
        state.disagreements += 1;
        let (disagreements, comparisons) = (state.disagreements, state.comparisons);
        let fact = PositionCheck { driver_number, lap_number, position, estimated_position, disagreements, comparisons };
        context.emit_because(&in_order(causes.into_iter().chain([cause]).map(Some)), fact);
    }
}

impl Handle<Position> for PositionCheckOperator {
    fn apply(&self, state: &mut State, position: &Position, context: &mut Context<'_, PositionCheck>) {
        let cause = context.causes().last().copied().unwrap_or(context.seq());
        *state.feed.entry(position.driver_number) = Some((position.position, cause));
    }
}

impl Handle<EstimatedPlace> for PositionCheckOperator {
    fn apply(&self, state: &mut State, place: &EstimatedPlace, context: &mut Context<'_, PositionCheck>) {
        let key = (place.driver_number, place.lap_number);
        let before = state.pending.insert(key, (place.position, context.causes().to_vec()));
        if before.is_none() {
            let token = place.driver_number as u64 * 1_000 + place.lap_number as u64;
            context.set_timer(context.now().plus(self.settle_ms * 1_000), token);
        }
    }
}
