//! What is said about the work itself: text on a terminal, JSON on demand, always on standard error.

use std::io::{self, IsTerminal};

use tracing::level_filters::LevelFilter;

use crate::settings::{Log, LogFormat, LogLevel};

/// Begins to log.
pub(crate) fn start(log: Log) {
    let level = match log.level {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let lines = tracing_subscriber::fmt().with_max_level(level).with_writer(io::stderr);
    match log.format {
        LogFormat::Json => lines.json().init(),
        LogFormat::Text => lines.with_ansi(false).init(),
        LogFormat::Auto => lines.with_ansi(io::stderr().is_terminal()).init(),
    }
}
