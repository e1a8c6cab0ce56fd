//! `pitwall`: the command line. One file a subcommand; everything else is wiring.
#![expect(clippy::disallowed_methods, reason = "the binary is where files, clocks and the environment are")]

use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

mod backtest;
mod compare;
mod completions;
mod config;
mod demo;
mod deployment;
mod explain;
mod format;
mod graph;
mod import;
mod ingest;
mod kafka;
mod live;
mod logged;
mod logging;
mod migrate;
mod monitor;
mod progress;
mod reader;
mod rebuild;
mod replay;
mod report;
mod rollback;
mod run;
mod server;
mod settings;
mod source;
mod state;
mod table;
mod topics;
mod tower;
mod verify;

use settings::{Effective, LogFormat, LogLevel, Override};

/// Event-sourced stream processing for Formula 1 timing.
///
/// Raw OpenF1 samples go in, laps, positions, gaps, stints, telemetry and the timing tower come out, each fact naming the samples it
/// came from. The same input gives byte-identical facts, live or in a backtest.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, max_term_width = 120)]
#[command(after_help = "A first tour:
  pitwall demo                                          a real race, live, in a browser
  pitwall backtest dutch_2025_race.avro --out race      derive every fact of a race
  pitwall state race --at lap:30                        the tower when the leader completed lap 30
  pitwall explain 9920-0-4711 race                      the samples behind a fact
  pitwall verify race                                   prove that it comes out the same every time

Settings: `pitwall config` shows each one, its value and where that came from.
Exit status: 0 success, 1 failure, 2 a wrong command line; `compare` and `verify` say more in their own help.")]
struct Cli {
    /// The file of settings; else PITWALL_CONFIG, else pitwall.toml in the working directory if there is one.
    #[arg(long, global = true, value_name = "FILE", help_heading = "Settings")]
    config: Option<PathBuf>,
    /// What is said about the work itself, on standard error.
    #[arg(long, global = true, value_enum, value_name = "LEVEL", help_heading = "Settings")]
    log_level: Option<LogLevel>,
    /// How it is said.
    #[arg(long, global = true, value_enum, value_name = "FORMAT", help_heading = "Settings")]
    log_format: Option<LogFormat>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Arguments),
    Replay(replay::Arguments),
    Import(import::Arguments),
    Backtest(backtest::Arguments),
    State(state::Arguments),
    Explain(explain::Arguments),
    Verify(verify::Arguments),
    Compare(compare::Arguments),
    Rebuild(rebuild::Arguments),
    Rollback(rollback::Arguments),
    Graph(graph::Arguments),
    Config(config::Arguments),
    Topics(topics::Arguments),
    Migrate(migrate::Arguments),
    Ingest(ingest::Arguments),
    Run(run::Arguments),
    Completions(completions::Arguments),
}

impl Command {
    /// The settings that this command's flags set.
    fn overrides(&self) -> Vec<Override> {
        match self {
            Self::Demo(arguments) => arguments.flags.overrides(),
            Self::Replay(arguments) => arguments.flags.overrides(),
            Self::Backtest(arguments) => arguments.overrides(),
            Self::Verify(arguments) => arguments.overrides(),
            Self::Rebuild(arguments) => arguments.overrides(),
            Self::Rollback(arguments) => arguments.overrides(),
            Self::Topics(arguments) => arguments.overrides(),
            Self::Migrate(arguments) => arguments.overrides(),
            Self::Ingest(arguments) => arguments.overrides(),
            Self::Run(arguments) => arguments.overrides(),
            _ => Vec::new(),
        }
    }

    fn run(&self, effective: &Effective, out: &mut impl Write) -> Result<()> {
        let settings = &effective.settings;
        match self {
            Self::Demo(arguments) => demo::run(arguments, settings, out),
            Self::Replay(arguments) => replay::run(arguments, settings, out),
            Self::Import(arguments) => import::run(arguments, out),
            Self::Backtest(arguments) => backtest::run(arguments, settings, out),
            Self::State(arguments) => state::run(arguments, settings, out),
            Self::Explain(arguments) => explain::run(arguments, settings, out),
            Self::Verify(arguments) => verify::run(arguments, settings, out),
            Self::Compare(arguments) => compare::run(arguments, settings, out),
            Self::Rebuild(arguments) => rebuild::run(arguments, settings, out),
            Self::Rollback(arguments) => rollback::run(arguments, settings, out),
            Self::Graph(arguments) => graph::run(arguments, settings, out),
            Self::Config(arguments) => config::run(arguments, effective, out),
            Self::Topics(arguments) => topics::run(arguments, settings, out),
            Self::Migrate(arguments) => migrate::run(arguments, settings, out),
            Self::Ingest(arguments) => ingest::run(arguments, settings, out),
            Self::Run(arguments) => run::run(arguments, settings, out),
            Self::Completions(arguments) => completions::run(arguments, out),
        }
    }
}

/// Exit status of a command line that makes no sense.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return end_of_parsing(&error),
    };
    let mut out = BufWriter::new(io::stdout().lock());
    let result = run(&cli, &mut out).and(out.flush().map_err(Into::into));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads the output has seen enough of it.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pitwall: {}", one_line(&error));
            let is_trouble_of_compare = matches!(cli.command, Command::Compare(_)) && !error.is::<compare::Differ>();
            ExitCode::from(if is_trouble_of_compare { compare::EXIT_TROUBLE } else { 1 })
        }
    }
}

/// Help and version as they are; what is wrong with a command line, on one line.
fn end_of_parsing(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        return ExitCode::from(EXIT_USAGE);
    }
    let text = error.to_string();
    let told = text.split("\n\nUsage:").next().unwrap_or_default().split("\n\nFor more").next().unwrap_or_default();
    let told: Vec<&str> = told.trim_start_matches("error: ").split_whitespace().collect();
    eprintln!("pitwall: {} (--help tells more)", told.join(" "));
    ExitCode::from(EXIT_USAGE)
}

fn run(cli: &Cli, out: &mut impl Write) -> Result<()> {
    let mut flags = cli.command.overrides();
    flags.extend(Override::of("log.level", "--log-level", cli.log_level));
    flags.extend(Override::of("log.format", "--log-format", cli.log_format));
    let effective = settings::load(cli.config.as_deref(), std::env::vars(), flags)?;
    logging::start(effective.settings.log);
    let result = cli.command.run(&effective, out);
    // What was found before a failure is still shown, and before the failure.
    out.flush()?;
    result
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe))
}

/// An error on one line, each cause after the one it led to. Causes that their effect already told are left out.
fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !line.contains(&cause) {
            if !line.is_empty() {
                line.push_str(": ");
            }
            line.push_str(&cause);
        }
    }
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}
