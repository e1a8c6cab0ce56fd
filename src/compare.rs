//! `pitwall compare`: where two runs, or a run and an oracle, differ.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use pitwall_archive::compare::{Difference, KindComparison, compare_kind};
use pitwall_archive::oracle::{self, Aspect, Oracle};
use pitwall_archive::run::Run;
use pitwall_edge::message::SessionName;
use pitwall_embedded::data::DataDirectory;
use pitwall_engine::facts::Kind;
use serde_json::{Value, json};

use crate::format::Format;
use crate::logged::LoggedSession;
use crate::settings::Settings;
use crate::table::Table;

/// Exit status when nothing could be compared; 1 says that there are differences.
pub(crate) const EXIT_TROUBLE: u8 = 2;

/// Show where two runs differ, two epochs of a session, or a run and an oracle.
///
/// A and B are folders that `pitwall backtest` made. Facts are held against each other kind by kind: what they say, about what, and when
/// it was known. Their numbers are not compared, so that one more sample at the start is not a difference in everything after it.
///
/// B may also be an oracle: what somebody else says of the same session. f1db's JSON of a race (order on the road, laps, pit stops, fastest
/// laps), a CSV of laps with OpenF1's columns, or FastF1's JSON of lap times, each also compressed with zstd (.zst).
///
/// With --epochs, A is a data directory that no process uses, and two epochs of one of its sessions are held against each other: what a
/// change of the operators has changed.
#[derive(Debug, Args)]
#[command(after_help = "Exit status: 0 no differences, 1 differences, 2 it could not be compared.

Examples:
  pitwall compare race race_with_new_operator
  pitwall compare race dutch_2025_official_f1db.json --first 20
  pitwall compare race dutch_2025_openf1_laps.csv --format json
  pitwall compare pitwall-data --epochs 0 1")]
pub(crate) struct Arguments {
    /// A run, or with --epochs a data directory.
    #[arg(value_name = "A")]
    a: PathBuf,
    /// Another run, or an oracle file.
    #[arg(value_name = "B", required_unless_present = "epochs", conflicts_with = "epochs")]
    b: Option<PathBuf>,
    /// Two epochs of a session in the data directory A.
    #[arg(long, num_args = 2, value_names = ["A", "B"])]
    epochs: Option<Vec<i32>>,
    /// The session of the data directory: a number or `latest` [default: latest].
    #[arg(long, value_name = "KEY", requires = "epochs")]
    session: Option<String>,
    /// Only these fact kinds (two runs); repeatable.
    #[arg(long, value_name = "KIND")]
    kind: Vec<String>,
    /// Differences shown of each kind.
    #[arg(long, value_name = "N", default_value_t = 3)]
    first: usize,
    /// For reading, or JSON.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// The two differ. What differs has been shown.
#[derive(Debug, thiserror::Error)]
#[error("they differ in {different} of {compared} {things}")]
pub(crate) struct Differ {
    different: usize,
    compared: usize,
    things: &'static str,
}

pub(crate) fn run(arguments: &Arguments, settings: &Settings, out: &mut impl Write) -> Result<()> {
    let graph = pitwall_operators::graph(&settings.limits)?;
    let Some(b) = &arguments.b else { return epochs(arguments, settings, graph.kinds(), out) };
    let a = open(&arguments.a)?;
    if b.is_dir() { runs(arguments, &a, &open(b)?, graph.kinds(), out) } else { with_oracle(arguments, &a, b, graph.kinds(), out) }
}

fn epochs(arguments: &Arguments, settings: &Settings, kinds: &[Kind], out: &mut impl Write) -> Result<()> {
    let name = arguments.session.as_deref().unwrap_or("latest");
    let name = SessionName::read(name).with_context(|| format!("--session {name}: write a session's number or `latest`"))?;
    if !DataDirectory::is_one(&arguments.a) {
        bail!("{}: this is no data directory: --epochs compares two epochs of a session in one", arguments.a.display());
    }
    let mut logged = LoggedSession::open(&arguments.a, name, settings)?;
    let folder = tempfile::tempdir()?;
    let mut folders = Vec::new();
    for epoch in arguments.epochs.iter().flatten() {
        if !(0..=logged.epoch()).contains(epoch) {
            bail!("session {} has no epoch {epoch}: its current one is {}", logged.session_key(), logged.epoch());
        }
        let facts = folder.path().join(format!("{}-{epoch}", folders.len()));
        logged.export(*epoch, &facts)?;
        folders.push(facts);
    }
    let [a, b] = folders.as_slice() else { bail!("--epochs takes two epochs") };
    facts(arguments, a, b, kinds, |_| Ok(()), out)
}

fn open(folder: &Path) -> Result<Run> {
    if folder.is_file() {
        bail!("{}: this is a file: name a folder that `pitwall backtest ARCHIVE --out DIR` made", folder.display());
    }
    Ok(Run::open(folder)?)
}

fn runs(arguments: &Arguments, a: &Run, b: &Run, kinds: &[Kind], out: &mut impl Write) -> Result<()> {
    let origins = |out: &mut dyn Write| write_origins(a, b, out);
    facts(arguments, &a.facts_folder(), &b.facts_folder(), kinds, origins, out)
}

/// Holds two folders of facts against each other; `origins` tells what they were made of.
fn facts(
    arguments: &Arguments,
    a: &Path,
    b: &Path,
    kinds: &[Kind],
    origins: impl Fn(&mut dyn Write) -> io::Result<()>,
    out: &mut impl Write,
) -> Result<()> {
    if let Some(unknown) = arguments.kind.iter().find(|name| kinds.iter().all(|kind| kind.name != **name)) {
        let names: Vec<&str> = kinds.iter().map(|kind| kind.name).collect();
        bail!("--kind {unknown}: there is no such fact kind; there are {}", names.join(", "));
    }
    let mut comparisons = Vec::new();
    for kind in kinds.iter().filter(|kind| arguments.kind.is_empty() || arguments.kind.iter().any(|name| name == kind.name)) {
        comparisons.push(compare_kind(a, b, *kind, arguments.first)?);
    }
    match arguments.format {
        Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(&json!({"kinds": comparisons}))?)?,
        Format::Text => {
            origins(out)?;
            write_kinds(&comparisons, out)?;
        }
    }
    let different = comparisons.iter().filter(|comparison| !comparison.is_equal()).count();
    end(different, comparisons.len(), "fact kinds")
}

fn end(different: usize, compared: usize, things: &'static str) -> Result<()> {
    if different == 0 { Ok(()) } else { Err(Differ { different, compared, things }.into()) }
}

/// What the runs were made of, where that is not the same.
fn write_origins(a: &Run, b: &Run, mut out: &mut dyn Write) -> io::Result<()> {
    let (a, b) = (a.manifest(), b.manifest());
    let mut table = Table::new(&["", "A", "B"]);
    let same = "the same".to_owned();
    for (name, a, b) in
        [("input", &a.input_hash, &b.input_hash), ("graph", &a.graph_hash, &b.graph_hash), ("facts", &a.facts_hash, &b.facts_hash)]
    {
        table.row([name.to_owned(), a.clone(), if a == b { same.clone() } else { b.clone() }]);
    }
    table.write(&mut out)?;
    writeln!(out)
}

fn write_kinds(comparisons: &[KindComparison], out: &mut impl Write) -> io::Result<()> {
    let mut table = Table::new(&["facts", ">in A", ">in B", ">equal", ">changed", ">retimed", ">only in A", ">only in B"]);
    for comparison in comparisons {
        let counts = [
            comparison.in_a,
            comparison.in_b,
            comparison.equal,
            comparison.changed,
            comparison.retimed,
            comparison.only_in_a,
            comparison.only_in_b,
        ];
        let [in_a, in_b, equal, changed, retimed, only_in_a, only_in_b] = counts.map(|count| count.to_string());
        table.row([comparison.kind.clone(), in_a, in_b, equal, changed, retimed, only_in_a, only_in_b]);
    }
    table.write(out)?;
    for comparison in comparisons.iter().filter(|comparison| !comparison.first.is_empty()) {
        writeln!(out, "\n  {}: the first differences", comparison.kind)?;
        for difference in &comparison.first {
            write_difference(difference, out)?;
        }
    }
    Ok(())
}

fn write_difference(difference: &Difference, out: &mut impl Write) -> io::Result<()> {
    let id =
        |told: &Option<pitwall_archive::compare::Told>| told.as_ref().map_or_else(|| "nothing".to_owned(), |told| told.fact_id.clone());
    writeln!(out, "    {}: {} in A, {} in B", difference.what, id(&difference.a), id(&difference.b))?;
    match (&difference.a, &difference.b) {
        (Some(a), Some(b)) => {
            for (name, of_a) in a.fact.as_object().into_iter().flatten() {
                let of_b = b.fact.get(name).unwrap_or(&Value::Null);
                if of_a != of_b {
                    writeln!(out, "      {name:<22}{of_a} in A, {of_b} in B")?;
                }
            }
        }
        (Some(only), None) | (None, Some(only)) => writeln!(out, "      {}", only.fact)?,
        (None, None) => {}
    }
    Ok(())
}

fn with_oracle(arguments: &Arguments, run: &Run, oracle: &Path, kinds: &[Kind], out: &mut impl Write) -> Result<()> {
    if !arguments.kind.is_empty() {
        bail!("--kind {}: an oracle has no fact kinds; leave it out", arguments.kind[0]);
    }
    let aspects = oracle::compare(run, kinds, &Oracle::open(oracle)?, arguments.first)?;
    aspects.first().with_context(|| format!("{}: it says nothing of this session's cars", oracle.display()))?;
    match arguments.format {
        Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(&json!({"aspects": aspects}))?)?,
        Format::Text => write_aspects(&aspects, out)?,
    }
    end(aspects.iter().filter(|aspect| aspect.different > 0).count(), aspects.len(), "aspects")
}

fn write_aspects(aspects: &[Aspect], out: &mut impl Write) -> io::Result<()> {
    let mut table = Table::new(&["", ">compared", ">equal", ">different"]);
    for aspect in aspects {
        let equal = aspect.compared - aspect.different;
        table.row([aspect.aspect.to_owned(), aspect.compared.to_string(), equal.to_string(), aspect.different.to_string()]);
    }
    table.write(out)?;
    for aspect in aspects.iter().filter(|aspect| !aspect.first.is_empty()) {
        writeln!(out, "\n  {}: the first differences", aspect.aspect)?;
        for mismatch in &aspect.first {
            let fact = mismatch.fact_id.as_ref().map(|id| format!(" ({id})")).unwrap_or_default();
            writeln!(out, "    {}: {} here{fact}, {} there", mismatch.subject, mismatch.run, mismatch.oracle)?;
        }
    }
    Ok(())
}
