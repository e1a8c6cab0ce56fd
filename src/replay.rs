//! `pitwall replay`: any archive through the live engine.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::live::{self, Flags};
use crate::settings::Settings;
use crate::source;

/// Replay a session archive through the live engine and serve it.
///
/// As `pitwall demo`, for an archive of your own. The same archive again goes on where it was; another archive of the same session is
/// refused unless it is filed under a number of its own.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pitwall replay tests/data/mexico_2025_qualifying.avro --speed 5
  pitwall replay dutch.avro --as-session 9000001 --data-dir other")]
pub(crate) struct Arguments {
    /// The archive, as `pitwall import` makes it.
    archive: PathBuf,
    /// File its samples under this session.
    #[arg(long, value_name = "KEY")]
    as_session: Option<i32>,
    #[command(flatten)]
    pub(crate) flags: Flags,
}

pub(crate) fn run(arguments: &Arguments, settings: &Settings, out: &mut impl Write) -> Result<()> {
    live::run(source::open_archive(&arguments.archive)?, arguments.as_session, &arguments.flags, settings, out)
}
