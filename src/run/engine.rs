//! The role `engine`: facts from raw records.

use std::sync::Arc;

use anyhow::Result;
use pitwall_engine::log::Committed;
use pitwall_kafka::engines;

use super::Prepared;
use crate::kafka;
use crate::settings::Settings;

pub(super) fn prepare(settings: &Settings) -> Result<Prepared> {
    let log = kafka::open(settings)?;
    let limits = settings.limits.clone();
    let graph = kafka::graph_of(&limits);
    let run = move |is_stopping: &_| Ok(engines::run(log, limits, Arc::new(graph), Arc::new(tell), is_stopping)?);
    Ok(Prepared { notice: None, run: Box::new(run) })
}

fn tell(committed: &Committed<'_>) {
    let Committed { session_key, head, records, .. } = committed;
    tracing::debug!(session_key, records, last_seq = head.last_seq, facts = committed.facts.len(), "committed");
    if committed.halted.is_some() {
        tracing::error!(session_key, "the session's graph stands still; its ledger goes on");
    }
}
