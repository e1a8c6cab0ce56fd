//! Channels: fact kinds, and how each is delivered.

use std::sync::LazyLock;

use pitwall_schemas::facts::KINDS;
use serde::Serialize;

/// What a client that falls behind gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Delivery {
    /// The newest row of each key: frames in between are skipped.
    Latest,
    /// Every fact once, in order: what it missed comes from the fact log.
    Every,
}

/// The kinds whose newest row says all that a reader needs. Every other kind is delivered fact by fact.
const LATEST_WINS: [&str; 10] =
    ["circuit", "drivers", "gaps", "positions", "probability", "race_clock", "stints", "telemetry", "timing", "track_status"];

/// A fact kind as readers subscribe to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Channel(&'static str);

static FIELDS: LazyLock<Vec<(&'static str, Vec<String>)>> = LazyLock::new(|| {
    KINDS
        .iter()
        .map(|&(kind, schema)| {
            let schema: serde_json::Value = serde_json::from_str(schema).unwrap_or_default();
            let fields = schema["fields"].as_array().into_iter().flatten();
            (kind, fields.filter_map(|field| field["name"].as_str().map(str::to_owned)).collect())
        })
        .collect()
});

impl Channel {
    /// Every channel, in alphabetical order.
    pub fn all() -> impl Iterator<Item = Self> {
        KINDS.iter().map(|(kind, _)| Self(kind))
    }

    /// The channel of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::all().find(|channel| channel.0 == name)
    }

    /// Its name: the fact kind.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.0
    }

    /// How it is delivered.
    #[must_use]
    pub fn delivery(self) -> Delivery {
        if LATEST_WINS.contains(&self.0) { Delivery::Latest } else { Delivery::Every }
    }

    /// Whether its rows have a field of this name.
    #[must_use]
    pub fn has_field(self, name: &str) -> bool {
        FIELDS.iter().any(|(kind, fields)| *kind == self.0 && fields.iter().any(|field| field == name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tower_is_latest_wins_and_laps_come_one_by_one() {
        assert_eq!(Channel::named("timing").unwrap().delivery(), Delivery::Latest);
        assert_eq!(Channel::named("laps").unwrap().delivery(), Delivery::Every);
        assert_eq!(Channel::named("car_data"), None);
    }

    #[test]
    fn a_channel_knows_the_fields_of_its_rows() {
        assert!(Channel::named("laps").unwrap().has_field("lap_number"));
        assert!(!Channel::named("positions").unwrap().has_field("sector_1_ms"));
    }
}
