//! `pitwall migrate`: the tables of the state store on CQL.

use std::io::Write;

use anyhow::Result;
use clap::Args;
use pitwall_scylla::migrations;

use crate::settings::{Override, Settings};

/// Bring the tables of the CQL store to what this program needs.
///
/// Makes the keyspace and its tables, or changes those of an older program. Each step is recorded in the keyspace and done once, so a
/// second run does nothing. Steps never go back: the tables of a newer program are refused.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pitwall migrate
  pitwall migrate --contact-points cql-1:9042,cql-2:9042 --keyspace race_weekend")]
pub(crate) struct Arguments {
    #[command(flatten)]
    flags: CqlFlags,
}

/// Flags of every command that talks to a CQL server.
#[derive(Debug, Args)]
pub(crate) struct CqlFlags {
    /// CQL servers, HOST:PORT, several with commas between [default: setting scylla.contact_points, 127.0.0.1:19042].
    #[arg(long, value_name = "HOSTS")]
    contact_points: Option<String>,
    /// The keyspace [default: setting scylla.keyspace, pitwall].
    #[arg(long, value_name = "NAME")]
    keyspace: Option<String>,
}

impl CqlFlags {
    pub(crate) fn overrides(&self) -> Vec<Override> {
        let flags = [
            Override::of("scylla.contact_points", "--contact-points", self.contact_points.as_ref()),
            Override::of("scylla.keyspace", "--keyspace", self.keyspace.as_ref()),
        ];
        flags.into_iter().flatten().collect()
    }
}

impl Arguments {
    pub(crate) fn overrides(&self) -> Vec<Override> {
        self.flags.overrides()
    }
}

pub(crate) fn run(_arguments: &Arguments, settings: &Settings, out: &mut impl Write) -> Result<()> {
    let applied = migrations::migrate(settings.scylla.clone())?;
    for migration in &applied {
        writeln!(out, "applied {:04} {}", migration.version, migration.name)?;
    }
    let keyspace = &settings.scylla.keyspace;
    writeln!(out, "keyspace {keyspace} is at migration {}, {} applied now", migrations::ALL.len(), applied.len())?;
    Ok(())
}
