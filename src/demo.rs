//! `pitwall demo`: a real race, live, in a browser.

use std::io::Write;
use std::path::Path;

use anyhow::Result;
use clap::Args;
use pitwall_archive::archive::Archive;

use crate::live::{self, Flags};
use crate::settings::Settings;

/// The 2025 Dutch Grand Prix, in the program itself.
const RACE: &[u8] = include_bytes!("../tests/data/dutch_2025_race.avro");

/// Show a real race live in a browser.
///
/// Replays the 2025 Dutch Grand Prix through the live engine from lights out on and serves the dashboard, REST and WebSocket. One
/// process, no service. Stopped by Ctrl-C or killed, it goes on where it was when started again.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pitwall demo
  pitwall demo --speed 60 --fresh
  pitwall state --server http://127.0.0.1:8080 --at lap:10")]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) flags: Flags,
}

pub(crate) fn run(arguments: &Arguments, settings: &Settings, out: &mut impl Write) -> Result<()> {
    let archive = Archive::from_bytes(Path::new("dutch_2025_race.avro"), RACE.to_vec())?;
    live::run(archive, None, &arguments.flags, settings, out)
}
