//! What a backtest came to, for people: order, laps, fastest laps and stints.

use std::io::{self, Write};

use pitwall_archive::run::Manifest;
use pitwall_archive::summary::Summary;
use pitwall_schemas::facts::Stint;
use pitwall_schemas::shared::Compound;

use crate::table::Table;

/// Fastest laps shown.
const FASTEST_LAPS: usize = 5;

pub(crate) fn write(manifest: &Manifest, summary: &Summary, out: &mut impl Write) -> io::Result<()> {
    let clock = &summary.clock;
    let started_at = clock.started_at.map_or_else(|| "not seen".to_owned(), |started_at| started_at.to_string());
    writeln!(out, "\n  session start {started_at}, laps completed by the leader {}\n", clock.laps_completed())?;
    let mut order = Table::new(&[">place", ">car", "", ">laps", ">fastest", ">on lap", "stints: compound, laps, age of a used set"]);
    for car in summary.order() {
        let best = summary.best_lap(car);
        order.row([
            summary.positions.get(&car).map(ToString::to_string).unwrap_or_default(),
            car.to_string(),
            summary.name(car),
            summary.laps_completed(car).to_string(),
            best.and_then(|lap| lap.lap_ms).map(lap_time).unwrap_or_default(),
            best.map(|lap| lap.lap_number.to_string()).unwrap_or_default(),
            summary.stints_of(car).map(stint).collect::<Vec<_>>().join("  "),
        ]);
    }
    order.write(out)?;
    let mut fastest = Table::new(&[">fastest laps", ">car", "", ">on lap"]);
    for lap in summary.fastest_laps().into_iter().take(FASTEST_LAPS) {
        let car = lap.driver_number;
        fastest.row([lap.lap_ms.map(lap_time).unwrap_or_default(), car.to_string(), summary.name(car), lap.lap_number.to_string()]);
    }
    writeln!(out)?;
    fastest.write(out)?;
    let mut kinds = Table::new(&["facts", ">count"]);
    for kind in &manifest.kinds {
        kinds.row([kind.kind.clone(), kind.facts.to_string()]);
    }
    writeln!(out)?;
    kinds.write(out)
}

fn stint(stint: &Stint) -> String {
    let lap = |lap: Option<i32>| lap.map_or_else(|| "?".to_owned(), |lap| lap.to_string());
    let age = stint.tyre_age_at_start.filter(|&age| age > 0).map(|age| format!(" +{age}")).unwrap_or_default();
    format!("{} {}-{}{age}", compound(stint.compound), lap(stint.lap_start), lap(stint.lap_end))
}

/// The letter on a tyre's sidewall; `?` when the compound is not known.
pub(crate) const fn compound(compound: Compound) -> &'static str {
    match compound {
        Compound::Soft => "S",
        Compound::Medium => "M",
        Compound::Hard => "H",
        Compound::Intermediate => "I",
        Compound::Wet => "W",
        Compound::Unknown => "?",
    }
}

/// A lap time as the tower shows it.
pub(crate) fn lap_time(ms: i32) -> String {
    format!("{}:{:02}.{:03}", ms / 60_000, ms / 1_000 % 60, ms % 1_000)
}
