//! What stands behind a ledger number of an archive's session: the numbers follow from the arrival times alone, so no log is needed.

use std::collections::BTreeSet;

use pitwall_engine::backtest::{CLOSING_IDLE, RawSource};
use pitwall_engine::graph::Moment;
use pitwall_engine::sequencer::Sequencer;
use pitwall_schemas::openf1::Refusal;
use pitwall_schemas::raw::{Collection, Sample};
use pitwall_schemas::time::Micros;

use crate::archive::{Archive, ArchiveError};

/// A ledger record and where it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct LedgerLine {
    /// Its number.
    pub seq: u64,
    /// Its time.
    pub known_at: Micros,
    /// What it is.
    pub origin: LineOrigin,
}

/// Where a ledger record came from.
#[derive(Debug, Clone, PartialEq)]
pub enum LineOrigin {
    /// A raw sample.
    Sample {
        /// Its collection.
        collection: &'static str,
        /// When it arrived.
        received_at: Micros,
        /// Its number in the archive, from 0.
        line: u64,
        /// What it says, or why it was refused.
        sample: Result<Sample, Refusal>,
    },
    /// The tick of a whole second.
    Tick,
    /// The record that closes the archive.
    Closing,
}

/// Finds the records with these numbers, in order; a number the ledger does not reach is left out.
///
/// # Errors
/// When the archive is damaged before the last of them.
pub fn find(archive: &mut Archive, seqs: &BTreeSet<u64>) -> Result<Vec<LedgerLine>, ArchiveError> {
    let mut found = Vec::new();
    let Some(&last) = seqs.last() else { return Ok(found) };
    let mut sequencer = Sequencer::default();
    archive.seek(0);
    while let Some(block) = archive.next_block()? {
        for raw in block {
            let raw = raw?;
            let stamped = sequencer.stamp(raw.received_at, None);
            note(&mut found, seqs, stamped.tick, || LineOrigin::Tick);
            note(&mut found, seqs, Some(stamped.record), || LineOrigin::Sample {
                collection: Collection::ALL[usize::from(raw.stream)].name(),
                received_at: raw.received_at,
                line: raw.ingest_seq as u64,
                sample: raw.event,
            });
            if stamped.record.seq >= last {
                return Ok(found);
            }
        }
    }
    if let Some(end) = sequencer.last_known_at() {
        let stamped = sequencer.stamp_own(end.plus(CLOSING_IDLE));
        note(&mut found, seqs, stamped.tick, || LineOrigin::Tick);
        note(&mut found, seqs, Some(stamped.record), || LineOrigin::Closing);
    }
    Ok(found)
}

fn note(found: &mut Vec<LedgerLine>, seqs: &BTreeSet<u64>, moment: Option<Moment>, origin: impl FnOnce() -> LineOrigin) {
    if let Some(moment) = moment.filter(|moment| seqs.contains(&moment.seq)) {
        found.push(LedgerLine { seq: moment.seq, known_at: moment.known_at, origin: origin() });
    }
}
