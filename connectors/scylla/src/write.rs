//! Facts into the tables: grouped by partition, many rows a write, many writes under way.

use std::collections::BTreeMap;

use futures_util::future;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use pitwall_engine::facts::FactBatch;
use scylla::serialize::row::SerializeRow;
use scylla::statement::batch::{Batch, BatchStatement, BatchType};
use scylla::statement::prepared::PreparedStatement;

use crate::error::ScyllaError;
use crate::options::Options;
use crate::place::{Place, bucket_of, driver_of};
use crate::store::{Connected, Standing, signed};

/// Bytes that a row takes besides its key and its fact, roughly.
const ROW_BYTES: usize = 100;

/// A row of `history`: its partition, its fact, and its timestamp.
type HistoryRow<'a> = (i32, i32, i32, &'static str, i32, i32, i64, i64, Vec<u8>, &'a [u8], i64);
/// A row of `latest`.
type LatestRow<'a> = (i32, i32, i32, &'static str, Vec<u8>, (i64, i64, &'a [u8]), i64);

/// What one call stores, cut into writes.
pub(crate) struct Writes<'a> {
    history: Vec<(Place, Vec<HistoryRow<'a>>)>,
    latest: Vec<Vec<LatestRow<'a>>>,
    next_fact_seq: u64,
}

impl<'a> Writes<'a> {
    pub(crate) fn of(into: &Standing, facts: &'a FactBatch, options: &Options) -> Result<Self, ScyllaError> {
        let Standing { session_key, generation, epoch, .. } = *into;
        let mut history: BTreeMap<Place, Vec<(usize, HistoryRow<'a>)>> = BTreeMap::new();
        let mut latest: BTreeMap<&'static str, BTreeMap<Vec<u8>, LatestRow<'a>>> = BTreeMap::new();
        let mut next_fact_seq = 0;
        for fact in facts.iter() {
            let kind = fact.kind.name;
            let key = fact.key().map_err(|error| ScyllaError::Fact { session_key, fact_seq: fact.fact_seq, reason: error.to_string() })?;
            let (fact_seq, known_at) = (signed(fact.fact_seq), fact.known_at.0);
            let place = Place { kind, bucket: bucket_of(fact.fact_seq), driver_number: driver_of(kind, &key) };
            let Place { bucket, driver_number, .. } = place;
            let bytes = ROW_BYTES + key.len() + fact.bytes.len();
            let row = (session_key, generation, epoch, kind, driver_number, bucket, fact_seq, known_at, key.clone(), fact.bytes, known_at);
            history.entry(place).or_default().push((bytes, row));
            // Facts come in order: the last one about a key is its newest.
            let newest = (session_key, generation, epoch, kind, key.clone(), (fact_seq, known_at, fact.bytes), known_at);
            latest.entry(kind).or_default().insert(key, newest);
            next_fact_seq = next_fact_seq.max(fact.fact_seq.saturating_add(1));
        }
        let history = history.into_iter().flat_map(|(place, rows)| cut(rows, options).into_iter().map(move |rows| (place, rows)));
        let latest = latest.into_values().flat_map(|rows| {
            let sized = rows.into_values().map(|row| (ROW_BYTES + row.4.len() + row.5.2.len(), row)).collect();
            cut(sized, options)
        });
        Ok(Self { history: history.collect(), latest: latest.collect(), next_fact_seq })
    }

    /// The partitions of `history` written to.
    pub(crate) fn places(&self) -> impl Iterator<Item = Place> {
        let mut last = None;
        self.history.iter().map(|(place, _)| *place).filter(move |place| last.replace(*place) != Some(*place))
    }
}

/// Cuts rows of one partition into writes.
fn cut<R>(rows: Vec<(usize, R)>, options: &Options) -> Vec<Vec<R>> {
    let mut writes: Vec<Vec<R>> = Vec::new();
    let mut size = 0;
    for (bytes, row) in rows {
        match writes.last_mut() {
            Some(write) if write.len() < options.batch_rows_max && size + bytes <= options.batch_bytes_max => {
                write.push(row);
                size += bytes;
            }
            _ => {
                writes.push(vec![row]);
                size = bytes;
            }
        }
    }
    writes
}

/// Runs requests side by side, at most `in_flight_max` at a time.
pub(crate) async fn together(
    in_flight_max: usize,
    requests: impl Iterator<Item = impl Future<Output = Result<(), ScyllaError>>>,
) -> Result<(), ScyllaError> {
    stream::iter(requests).buffer_unordered(in_flight_max.max(1)).try_for_each(|()| future::ready(Ok(()))).await
}

impl Connected {
    /// Stores facts, and how far they go when all of them are there. `new` are the partitions that `places` does not name yet.
    pub(crate) async fn write(&self, into: &Standing, writes: &Writes<'_>, new: &[Place]) -> Result<(), ScyllaError> {
        let Standing { session_key, generation, epoch, .. } = *into;
        let Self { client, statements } = self;
        let in_flight_max = client.options.in_flight_max;
        // Before their rows: a purge finds every row through them.
        let places = new.iter().map(|Place { kind, bucket, driver_number }| {
            client.execute("writing places", &statements.write_place, (session_key, generation, epoch, *kind, *bucket, *driver_number))
        });
        together(in_flight_max, places).await?;
        together(in_flight_max, writes.history.iter().map(|(_, rows)| self.send(&statements.write_history, rows))).await?;
        together(in_flight_max, writes.latest.iter().map(|rows| self.send(&statements.write_latest, rows))).await?;
        // Its own number is its timestamp, so that it never goes back.
        let next = signed(writes.next_fact_seq);
        client.execute("writing progress", &statements.write_progress, (session_key, generation, epoch, next, next)).await
    }

    /// One write of rows that lie in one partition: an unlogged batch of these is applied as one mutation.
    async fn send<R: SerializeRow>(&self, statement: &PreparedStatement, rows: &[R]) -> Result<(), ScyllaError> {
        let _permit = self.client.in_flight.acquire().await;
        if let [row] = rows {
            return self.client.execute("writing facts", statement, row).await;
        }
        let statements = rows.iter().map(|_| BatchStatement::PreparedStatement(statement.clone())).collect();
        let mut batch = Batch::new_with_statements(BatchType::Unlogged, statements);
        batch.set_is_idempotent(true);
        self.client.attempt("writing facts", async || Ok(self.client.session.batch(&batch, rows).await.map(drop)?)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_has_no_more_rows_and_bytes_than_it_may_and_a_larger_row_goes_alone() {
        let options = Options { batch_rows_max: 3, batch_bytes_max: 10, ..Options::default() };
        let cut_sizes = |sizes: &[usize]| -> Vec<Vec<usize>> { cut(sizes.iter().map(|&size| (size, size)).collect(), &options) };
        assert_eq!(cut_sizes(&[1, 1, 1, 1]), [vec![1, 1, 1], vec![1]]);
        assert_eq!(cut_sizes(&[4, 6, 1]), [vec![4, 6], vec![1]]);
        assert_eq!(cut_sizes(&[4, 50, 4, 4]), [vec![4], vec![50], vec![4, 4]]);
        assert!(cut_sizes(&[]).is_empty());
    }
}
