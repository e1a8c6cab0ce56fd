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
const LATEST_WINS: [&str; 17] = [
    "championship",
    "circuit",
    "classification",
    "completeness",
    "degradation",
    "drivers",
    "gaps",
    "positions",
    "probability",
    "race_clock",
    "starting_grid",
    "stints",
    "telemetry",
    "timing",
    "timing_line",
    "track_status",
    "weather",
];

/// A fact kind as readers subscribe to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Channel(&'static str);

/// What a kind's schema says that readers need.
struct Described {
    kind: &'static str,
    fields: Vec<String>,
    key: Vec<String>,
}

static DESCRIBED: LazyLock<Vec<Described>> = LazyLock::new(|| {
    let strings = |values: &serde_json::Value| {
        values.as_array().into_iter().flatten().filter_map(|value| value.as_str().map(str::to_owned)).collect()
    };
    KINDS
        .iter()
        .map(|&(kind, schema)| {
            let schema: serde_json::Value = serde_json::from_str(schema).unwrap_or_default();
            let fields = schema["fields"].as_array().into_iter().flatten();
            let fields = fields.filter_map(|field| field["name"].as_str().map(str::to_owned)).collect();
            Described { kind, fields, key: strings(&schema["key"]) }
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
        DESCRIBED.iter().any(|described| described.kind == self.0 && described.fields.iter().any(|field| field == name))
    }

    /// Fields by which a row replaces the one before it; none when the channel has one row.
    #[must_use]
    pub fn key(self) -> &'static [String] {
        DESCRIBED.iter().find(|described| described.kind == self.0).map_or(&[], |described| &described.key)
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
    fn every_kind_that_is_latest_wins_is_a_kind() {
        for kind in LATEST_WINS {
            assert!(Channel::named(kind).is_some(), "{kind}");
        }
    }

    #[test]
    fn what_happened_is_delivered_fact_by_fact() {
        for kind in ["battles", "laps", "overtakes", "pit_stops", "race_control", "race_events", "team_radio", "undercuts"] {
            assert_eq!(Channel::named(kind).unwrap().delivery(), Delivery::Every, "{kind}");
        }
    }

    #[test]
    fn a_channel_knows_by_which_fields_its_rows_replace_one_another() {
        assert_eq!(Channel::named("laps").unwrap().key(), ["driver_number", "lap_number"]);
        assert_eq!(Channel::named("classification").unwrap().key(), ["basis", "driver_number"]);
        assert!(Channel::named("weather").unwrap().key().is_empty());
        for channel in Channel::all() {
            assert!(channel.key().iter().all(|field| channel.has_field(field)), "{}", channel.name());
        }
    }

    #[test]
    fn a_channel_knows_the_fields_of_its_rows() {
        assert!(Channel::named("laps").unwrap().has_field("lap_number"));
        assert!(!Channel::named("positions").unwrap().has_field("sector_1_ms"));
    }
}
