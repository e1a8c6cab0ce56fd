//! The role `ingest`: the archives that the settings name into raw topics, once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, bail};
use pitwall_kafka::members::rest;

use super::Prepared;
use crate::ingest::{Fed, Feeder};
use crate::settings::Settings;
use crate::source;

pub(super) fn prepare(settings: &Settings) -> Result<Prepared> {
    let archives = settings.ingest.archives.clone();
    if archives.is_empty() {
        bail!("ingest.archives names no archive to feed: set it, or feed archives with `pitwall ingest archive FILE`");
    }
    for archive in &archives {
        source::open_archive(archive)?;
    }
    let mut feeder = Feeder::open(settings)?;
    let notice = format!("{} archives are fed at speed {}", archives.len(), settings.ingest.speed);
    let run = move |is_stopping: &AtomicBool| {
        for archive in &archives {
            if is_stopping.load(Ordering::Relaxed) {
                break;
            }
            let Fed { session_key, ingested, there_before } = feeder.feed(archive, None, is_stopping)?;
            tracing::info!(session_key, ingested, there_before, archive = %archive.display(), "fed");
        }
        // The end of a role ends its process: others may go on.
        while !is_stopping.load(Ordering::Relaxed) {
            rest(Duration::from_secs(1), is_stopping);
        }
        Ok(())
    };
    Ok(Prepared { notice: Some(notice), run: Box::new(run) })
}
