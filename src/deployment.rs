//! The deployment that a command changes: a data directory that no process uses, or one on Kafka.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use pitwall_embedded::data::DataDirectory;

use crate::kafka;
use crate::settings::{Override, Settings};

/// Flags of every command that changes what is readable in a deployment.
#[derive(Debug, Args)]
#[group(id = "deployment_flags")]
pub(crate) struct Flags {
    /// A data directory that no process uses [default: setting live.directory, pitwall-data].
    #[arg(long, value_name = "DIR", conflicts_with = "on_kafka")]
    data_dir: Option<PathBuf>,
    /// A deployment on Kafka instead.
    #[arg(long)]
    pub(crate) on_kafka: bool,
    #[command(flatten)]
    kafka: kafka::Flags,
}

impl Flags {
    pub(crate) fn overrides(&self) -> Vec<Override> {
        let mut overrides = self.kafka.overrides();
        overrides.extend(Override::of("live.directory", "--data-dir", self.data_dir.as_ref()));
        overrides
    }
}

/// The data directory of an embedded deployment.
pub(crate) fn open(settings: &Settings) -> Result<DataDirectory> {
    let directory = &settings.live.directory;
    if !DataDirectory::is_one(directory) {
        bail!("{}: this is no data directory: name one with --data-dir", directory.display());
    }
    let kinds = pitwall_operators::graph(&settings.limits)?.kinds().to_vec();
    Ok(DataDirectory::open(directory, &kinds, settings.data.clone())?)
}
