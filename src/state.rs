//! `pitwall state`: the timing tower as it was at a moment.

use std::io::Write;

use anyhow::{Context, Result};
use clap::Args;
use pitwall_schemas::moment::Moment;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::format::Format;
use crate::logged::LoggedSession;
use crate::server::Server;
use crate::settings::Settings;
use crate::source::{self, From};
use crate::tower::Tower;

/// Show the timing tower at a moment.
///
/// The tower holds exactly what was known then, corrections made later left out. From a backtest's folder or a data directory this takes
/// the newest keyframe before the moment and the little that follows; from an archive, a replay from its start.
#[derive(Debug, Args)]
#[command(after_help = "Moments:
  lap:30                   when the leader's completion of lap 30 became known
  seq:123456               after this ledger record
  +0:42:10                 this reading of the race clock
  2025-08-31T13:42:10Z     this moment of ledger time (RFC 3339, with an offset)
A bare number is refused, since it could be any of them.

Examples:
  pitwall state race --at lap:30
  pitwall state dutch.avro --at +1:02:03 --format json
  pitwall state pitwall-data --at lap:10
  pitwall state --server http://localhost:8080 --session 9920 --at lap:30")]
pub(crate) struct Arguments {
    #[command(flatten)]
    from: From,
    /// Session of the server or data directory: a number or `latest` [default: latest].
    #[arg(long, value_name = "KEY")]
    session: Option<String>,
    /// The moment.
    #[arg(long, value_name = "MOMENT", allow_hyphen_values = true)]
    at: Moment,
    /// A table, or JSON as the server answers it.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(crate) fn run(arguments: &Arguments, settings: &Settings, out: &mut impl Write) -> Result<()> {
    let tower = match arguments.from.server()? {
        Some(server) => of_server(&server, arguments.session.as_deref().unwrap_or("latest"), arguments.at)?,
        None => match arguments.from.logged(arguments.session.as_deref(), settings)? {
            Some(logged) => of_log(logged, arguments)?,
            None => of_files(arguments, settings)?,
        },
    };
    match arguments.format {
        Format::Text => tower.write(out)?,
        Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(&tower)?)?,
    }
    Ok(())
}

fn of_log(mut logged: LoggedSession, arguments: &Arguments) -> Result<Tower> {
    let session = logged.at(arguments.at).with_context(|| arguments.from.name())?;
    Ok(Tower::of(&session, logged.session_key(), logged.epoch()))
}

fn of_files(arguments: &Arguments, settings: &Settings) -> Result<Tower> {
    let mut source = source::open(&arguments.from, &settings.limits)?;
    let named = || arguments.from.name();
    let clock = match &source.run {
        // A run of another graph may have placed laps elsewhere.
        Some(run) if source.is_of_this_graph => run.manifest().clock.clone(),
        _ => source.recording.clock_for(arguments.at).with_context(named)?,
    };
    let replay = source.recording.at(arguments.at, &clock).with_context(named)?;
    tracing::info!(from_keyframe = ?replay.started_from(), records = replay.records(), "replayed");
    Ok(Tower::of(replay.session(), source.session_key, source.epoch))
}

fn of_server(server: &Server, session: &str, at: Moment) -> Result<Tower> {
    let asked = at.to_string();
    let timing = server.get(&format!("sessions/{session}/timing"), &[("as_of", &asked)])?;
    let mut tower: Tower = serde_json::from_value(timing).context("the server's answer is no tower")?;
    // The other channels are asked about the very record that the tower is of.
    let (session, pinned, epoch) = (tower.session, format!("seq:{}", tower.seq), tower.epoch.to_string());
    let channel = |name: &str| server.get(&format!("sessions/{session}/{name}"), &[("as_of", &pinned), ("epoch", &epoch)]);
    tower.join(first_row(&channel("race_clock")?).as_ref(), first_row(&channel("track_status")?).as_ref());
    Ok(tower)
}

fn first_row<T: DeserializeOwned>(answer: &Value) -> Option<T> {
    serde_json::from_value(answer.get("rows")?.get(0)?.clone()).ok()
}
