//! `pitwall topics`: make, check and describe the topics of a deployment on Kafka.

use std::io::Write;

use anyhow::Result;
use clap::{Args, Subcommand};
use pitwall_kafka::topics::{self, Cleanup};

use crate::kafka;
use crate::settings::{Override, Settings};
use crate::table::Table;

/// Make, check and describe the topics on Kafka.
///
/// There is a raw topic for each OpenF1 collection, the ledger, a topic for each kind of fact, dead letters, keyframes and sources. All
/// have the same partitions (kafka.partitions) and keep their records for ever: races carry old timestamps, so Kafka's default retention
/// would delete them within minutes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pitwall topics create
  pitwall topics check --brokers kafka-1:9092,kafka-2:9092")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make the topics that are not there.
    Create(kafka::Flags),
    /// Find a topic that is missing or not set up as it must be.
    Check(kafka::Flags),
    /// List the topics and how each must be set up; asks no broker.
    Describe(kafka::Flags),
}

impl Arguments {
    pub(crate) fn overrides(&self) -> Vec<Override> {
        match &self.verb {
            Verb::Create(flags) | Verb::Check(flags) | Verb::Describe(flags) => flags.overrides(),
        }
    }
}

pub(crate) fn run(arguments: &Arguments, settings: &Settings, out: &mut impl Write) -> Result<()> {
    let (options, streams) = (&settings.kafka, kafka::streams(settings)?);
    let all = topics::all(options, &streams);
    match arguments.verb {
        Verb::Create(_) => {
            let made = topics::create(options, &streams)?;
            for name in &made {
                writeln!(out, "made {name}")?;
            }
            writeln!(out, "{} topics made, {} were there", made.len(), all.len() - made.len())?;
        }
        Verb::Check(_) => {
            topics::check(options, &streams)?;
            writeln!(out, "all {} topics are as they must be", all.len())?;
        }
        Verb::Describe(_) => {
            let mut table = Table::new(&["topic", "partitions", "old records", "key", "schema's subject"]);
            for topic in all {
                let (kept, key) = match topic.cleanup {
                    Cleanup::Keep => ("all kept", "session_key"),
                    Cleanup::Compact if topic.name.ends_with(pitwall_schemas::topics::KEYFRAMES) => {
                        ("newest of each key", "session_key:graph_hash:seq")
                    }
                    Cleanup::Compact => ("newest of each key", "session_key"),
                };
                table.row([topic.name, options.partitions.to_string(), kept.to_owned(), key.to_owned(), topic.subject]);
            }
            table.write(out)?;
        }
    }
    Ok(())
}
