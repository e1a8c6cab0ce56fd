//! Facts out of the tables. Nothing behind a session's progress is read: rows there may be some of a write that is not finished.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use futures_util::future;
use pitwall_engine::Micros;
use pitwall_engine::log::StoredFact;

use crate::client::Rows;
use crate::error::ScyllaError;
use crate::place::{bucket_of, driver_of};
use crate::store::{Connected, Standing, signed, unsigned};

/// A partition of `history`, all of it, and the numbers wanted of it.
type OfPlace<'a> = (i32, i32, i32, &'a str, i32, i32, i64, i64, i32);
/// `fact_seq`, `known_at` and the fact.
type FactRow = (i64, i64, Vec<u8>);

/// Rows that a page of a divided kind has more than its share, since drivers do not take turns.
const PAGE_ROWS_SPARE: usize = 64;

fn fact((fact_seq, known_at, bytes): FactRow) -> StoredFact {
    StoredFact { fact_seq: unsigned(fact_seq), known_at: Micros(known_at), bytes }
}

impl Connected {
    /// The partitions of a kind, in order: bucket and driver.
    async fn places(&self, at: &Standing, kind: &str) -> Result<Vec<(i32, i32)>, ScyllaError> {
        self.client.all(&self.statements.places, (at.session_key, at.generation, at.epoch, kind)).await
    }

    pub(crate) async fn history(
        &self,
        session_key: i32,
        epoch: i32,
        kind: &str,
        fact_seqs: Range<u64>,
        facts_max: usize,
    ) -> Result<Vec<StoredFact>, ScyllaError> {
        let at = self.standing(session_key, epoch).await?;
        let Range { start, end } = fact_seqs.start..fact_seqs.end.min(at.next_fact_seq);
        let mut facts = Vec::new();
        if start >= end {
            return Ok(facts);
        }
        let mut places = self.places(&at, kind).await?;
        places.retain(|(bucket, _)| (bucket_of(start)..=bucket_of(end - 1)).contains(bucket));
        for places in places.chunk_by(|(left, _), (right, _)| left == right) {
            let left = facts_max - facts.len();
            if left == 0 {
                break;
            }
            let limit = i32::try_from(left).unwrap_or(i32::MAX);
            let mut statement = self.statements.history.clone();
            let page = (left / places.len()).saturating_add(PAGE_ROWS_SPARE);
            statement.set_page_size(i32::try_from(page).unwrap_or(i32::MAX).min(self.client.options.page_rows_max));
            let rows = places.iter().map(|(bucket, driver_number)| {
                let values = (session_key, at.generation, epoch, kind, *driver_number, *bucket, signed(start), signed(end), limit);
                self.client.rows(statement.clone(), values)
            });
            merge(rows.collect(), left, &mut facts).await?;
        }
        Ok(facts)
    }

    pub(crate) async fn latest(&self, session_key: i32, epoch: i32, kind: &str, before: u64) -> Result<Vec<StoredFact>, ScyllaError> {
        let at = self.standing(session_key, epoch).await?;
        let before = before.min(at.next_fact_seq);
        if before == 0 {
            return Ok(Vec::new());
        }
        let rows: Vec<(Vec<u8>, FactRow)> = self.client.all(&self.statements.latest, (session_key, at.generation, epoch, kind)).await?;
        let mut facts = BTreeMap::new();
        // Keys whose newest fact is too new, by the driver whose partitions have the others.
        let mut older: BTreeMap<i32, BTreeSet<Vec<u8>>> = BTreeMap::new();
        for (key, row) in rows {
            if unsigned(row.0) < before {
                facts.insert(key, fact(row));
            } else {
                older.entry(driver_of(kind, &key)).or_default().insert(key);
            }
        }
        if !older.is_empty() {
            let places = self.places(&at, kind).await?;
            let searches = older.into_iter().map(|(driver_number, keys)| {
                let buckets = places.iter().filter(move |(_, driver)| *driver == driver_number).map(|(bucket, _)| *bucket);
                self.newest_before(at, kind, driver_number, buckets.rev(), before, keys)
            });
            facts.extend(future::try_join_all(searches).await?.into_iter().flatten());
        }
        Ok(facts.into_values().collect())
    }

    /// The newest fact before `before` of each key that has one: history read backwards until all are found. A moment of a session asks
    /// for keys that have just changed and soon will again, so that is not far.
    async fn newest_before(
        &self,
        at: Standing,
        kind: &str,
        driver_number: i32,
        buckets: impl Iterator<Item = i32>,
        before: u64,
        mut keys: BTreeSet<Vec<u8>>,
    ) -> Result<Vec<(Vec<u8>, StoredFact)>, ScyllaError> {
        let mut found = Vec::new();
        for bucket in buckets.filter(|bucket| *bucket <= bucket_of(before - 1)) {
            let values = (at.session_key, at.generation, at.epoch, kind, driver_number, bucket, signed(before));
            let mut rows: Rows<'_, (i64, i64, Vec<u8>, Vec<u8>), _> = self.client.rows(self.statements.history_backwards.clone(), values);
            while !keys.is_empty() && rows.fill().await? {
                let Some((fact_seq, known_at, key, bytes)) = rows.take() else { break };
                if keys.remove(&key) {
                    found.push((key, fact((fact_seq, known_at, bytes))));
                }
            }
        }
        Ok(found)
    }
}

/// Takes the rows of several partitions in the order of their numbers.
async fn merge(
    mut partitions: Vec<Rows<'_, FactRow, OfPlace<'_>>>,
    rows_max: usize,
    facts: &mut Vec<StoredFact>,
) -> Result<(), ScyllaError> {
    for _ in 0..rows_max {
        // Only those without a row at hand ask for a page.
        future::try_join_all(partitions.iter_mut().filter(|rows| rows.peek().is_none()).map(Rows::fill)).await?;
        let heads = partitions.iter_mut().filter_map(|rows| Some((rows.peek()?.0, rows)));
        let Some((_, lowest)) = heads.min_by_key(|(fact_seq, _)| *fact_seq) else { break };
        facts.extend(lowest.take().map(fact));
    }
    Ok(())
}
