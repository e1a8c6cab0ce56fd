//! What a sample costs lap by lap: it must not grow with the session. `-- cost FILE` also draws it.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use pitwall_archive::archive::Archive;
use pitwall_engine::backtest::RawSource;
use pitwall_engine::session::Output;
use pitwall_operators::race_clock::RaceClockOperator;

use crate::{RUNS, session};

/// Prints the cost by lap and, if `drawing` is given, draws it there as SVG.
pub(crate) fn cost(archive: &Path, drawing: Option<&Path>) -> Result<()> {
    let costs = by_lap(archive)?;
    let (early, late) = (median(&costs[..10]), median(&costs[costs.len() - 10..]));
    println!("cost of a sample by lap, decode included, medians of {RUNS} runs: {} laps", costs.len());
    println!("  median of laps 1 to 10: {early:.0} ns, of the last ten: {late:.0} ns, ratio {:.2}\n", late / early);
    if let Some(path) = drawing {
        std::fs::write(path, draw(&costs)?).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// Nanoseconds a sample in each lap of the leader.
fn by_lap(path: &Path) -> Result<Vec<f64>> {
    let ends = lap_ends(path)?;
    let mut runs = vec![Vec::with_capacity(RUNS); ends.len()];
    for _ in 0..RUNS {
        let mut archive = Archive::open(path)?;
        let mut session = session(&archive)?.without_keyframes();
        let mut output = Output::default();
        let (mut taken, mut lap, mut begun, mut first) = (0_u64, 0, Instant::now(), 0);
        while let Some(block) = archive.next_block()? {
            for raw in block {
                session.take(&raw?, &mut output)?;
                taken += 1;
                if ends.get(lap).is_some_and(|end| *end == taken) {
                    runs[lap].push(begun.elapsed().as_secs_f64() * 1e9 / (taken - first) as f64);
                    (lap, begun, first) = (lap + 1, Instant::now(), taken);
                }
            }
            output.clear();
        }
    }
    Ok(runs.iter().map(|lap| median(lap)).collect())
}

/// How many samples had been taken when the leader completed each lap.
fn lap_ends(path: &Path) -> Result<Vec<u64>> {
    let mut archive = Archive::open(path)?;
    let mut session = session(&archive)?.without_keyframes();
    let mut output = Output::default();
    let (mut taken, mut ends) = (0, Vec::new());
    while let Some(block) = archive.next_block()? {
        for raw in block {
            session.take(&raw?, &mut output)?;
            taken += 1;
            let completed = session.state_of::<RaceClockOperator>().map_or(0, |clock| clock.laps_completed());
            if completed as usize > ends.len() {
                ends.push(taken);
            }
        }
        output.clear();
    }
    anyhow::ensure!(ends.len() >= 20, "{}: {} laps are too few to compare", path.display(), ends.len());
    Ok(ends)
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// Bars from zero, one a lap.
fn draw(costs: &[f64]) -> Result<String> {
    const HEIGHT: f64 = 150.0;
    const BAR: f64 = 9.0;
    const LEFT: f64 = 46.0;
    let top = (costs.iter().copied().fold(0.0, f64::max) / 100.0).ceil() * 100.0;
    let width = LEFT + BAR * costs.len() as f64 + 8.0;
    let y = |cost: f64| 10.0 + HEIGHT * (1.0 - cost / top);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} 196\" font-family=\"system-ui, sans-serif\" font-size=\"10\" fill=\"#5b6b80\">\n\
         <title>Cost of a sample by lap, ns</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    for line in [0.0, top / 2.0, top] {
        let at = y(line);
        writeln!(
            svg,
            "<path d=\"M{LEFT} {at:.1}H{width:.0}\" stroke=\"#d6dde6\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{line:.0} ns</text>",
            LEFT - 5.0,
            at + 3.5
        )?;
    }
    for (index, &cost) in costs.iter().enumerate() {
        let (x, lap) = (BAR.mul_add(index as f64, LEFT), index + 1);
        writeln!(
            svg,
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"#1f6feb\"/>",
            x + 1.0,
            y(cost),
            BAR - 2.0,
            y(0.0) - y(cost)
        )?;
        if lap == 1 || lap % 10 == 0 {
            writeln!(svg, "<text x=\"{:.1}\" y=\"174\" text-anchor=\"middle\">{lap}</text>", x + BAR / 2.0)?;
        }
    }
    writeln!(
        svg,
        "<text x=\"{:.0}\" y=\"190\" text-anchor=\"middle\">lap of the leader, Dutch Grand Prix 2025</text>\n</svg>",
        width / 2.0
    )?;
    Ok(svg)
}
