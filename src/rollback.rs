//! `pitwall rollback`: readers of a session go back to an epoch before.

use std::io::Write;

use anyhow::Result;
use clap::Args;

use crate::deployment;
use crate::kafka;
use crate::settings::{Override, Settings};

/// Have readers of a session see an epoch before, or the current one again.
///
/// Only readers move: no fact is changed, and the session's derivation goes on in its current epoch, unseen. They go forward again when the
/// session is derived anew, or when the current epoch is named here. Edges on Kafka follow within a second.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pitwall rollback 9920 0
  pitwall rollback 9920 1 --data-dir pitwall-data
  pitwall rollback 9920 0 --on-kafka")]
pub(crate) struct Arguments {
    /// The session, by number.
    #[arg(value_name = "SESSION")]
    session: i32,
    /// The epoch that readers are to see.
    #[arg(value_name = "EPOCH")]
    epoch: i32,
    #[command(flatten)]
    deployment: deployment::Flags,
}

impl Arguments {
    pub(crate) fn overrides(&self) -> Vec<Override> {
        self.deployment.overrides()
    }
}

pub(crate) fn run(arguments: &Arguments, settings: &Settings, out: &mut impl Write) -> Result<()> {
    if arguments.deployment.on_kafka {
        let readers = kafka::open(settings)?.roll_back(arguments.session, arguments.epoch)?;
        writeln!(out, "readers of session {} see epoch {} of 0 to {}", readers.session_key, readers.epoch, readers.instead_of)?;
        return Ok(());
    }
    let data = deployment::open(settings)?;
    let head = data.log.roll_back(arguments.session, arguments.epoch)?;
    writeln!(
        out,
        "readers of session {} see epoch {}: {} facts, up to record {}, facts hash {}",
        arguments.session, head.epoch, head.next_fact_seq, head.last_seq, head.facts_hash
    )?;
    Ok(())
}
