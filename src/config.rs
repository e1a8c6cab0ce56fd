//! `pitwall config`: every setting, its value, and where that came from.

use std::io::Write;

use anyhow::Result;
use clap::{Args, ValueEnum};
use serde_json::json;

use crate::settings::{self, Effective};
use crate::table::Table;

/// Show every setting, its value and where that came from.
///
/// Settings come from one TOML file (--config FILE or PITWALL_CONFIG, else pitwall.toml in the working directory), environment variables
/// PITWALL_SECTION__KEY and flags; each of these goes above the one before.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pitwall config
  PITWALL_LIMITS__HOLD_MS=500 pitwall config
  pitwall config --format toml > pitwall.toml")]
pub(crate) struct Arguments {
    /// How to print: a table with origins, TOML to begin a file with, or JSON.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Format {
    #[default]
    Text,
    Toml,
    Json,
}

pub(crate) fn run(arguments: &Arguments, effective: &Effective, out: &mut impl Write) -> Result<()> {
    match arguments.format {
        Format::Toml => write!(out, "{}", toml::to_string_pretty(&effective.settings)?)?,
        Format::Json => {
            let settings: Vec<_> = effective
                .origins
                .iter()
                .map(|(key, (value, origin))| {
                    json!({"key": key, "value": value, "origin": origin.to_string(), "variable": settings::variable_of(key)})
                })
                .collect();
            writeln!(out, "{}", serde_json::to_string_pretty(&settings)?)?;
        }
        Format::Text => {
            let mut table = Table::new(&["setting", "value", "from", "variable"]);
            for (key, (value, origin)) in &effective.origins {
                table.row([key.clone(), value.to_string(), origin.to_string(), settings::variable_of(key)]);
            }
            table.write(out)?;
        }
    }
    Ok(())
}
