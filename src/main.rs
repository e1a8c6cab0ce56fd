//! `pitwall`: the command line. One file a subcommand; everything else is wiring.
#![expect(clippy::disallowed_methods, reason = "the binary is where files, clocks and the environment are")]

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod backtest;
mod import;
mod progress;

/// Event-sourced stream processing for Formula 1 timing.
///
/// Raw OpenF1 samples go in, laps, positions, gaps, stints, telemetry and the timing tower come out, each fact naming the samples it
/// came from. The same input gives byte-identical facts, live or in a backtest.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Import(import::Arguments),
    Backtest(backtest::Arguments),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Import(arguments) => import::run(&arguments),
        Command::Backtest(arguments) => backtest::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pitwall: {error:#}");
            ExitCode::FAILURE
        }
    }
}
