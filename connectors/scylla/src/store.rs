//! The store: what its tables hold of a session, and which generation of it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use pitwall_engine::facts::FactBatch;
use pitwall_engine::log::{StateStore, StoredFact};

use crate::client::Client;
use crate::error::ScyllaError;
use crate::migrations;
use crate::options::Options;
use crate::place::Place;
use crate::statements::Statements;
use crate::write;

/// A client of the store. Clones share its connection; they may read while another one writes. Its calls block, and none may be made
/// on a thread that drives async tasks.
pub struct ScyllaStore {
    shared: Arc<Connected>,
    /// What this client is writing, by session.
    writing: BTreeMap<i32, Writing>,
}

/// A connection to a keyspace that has its tables.
pub(crate) struct Connected {
    pub(crate) client: Client,
    pub(crate) statements: Statements,
}

/// Where a client writes a session.
#[derive(Default)]
struct Writing {
    generation: i32,
    /// Partitions that `places` is known to name, by epoch.
    places: BTreeSet<(i32, Place)>,
}

/// An epoch of a session as its tables stand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standing {
    pub(crate) session_key: i32,
    pub(crate) generation: i32,
    pub(crate) epoch: i32,
    /// The fact that must be stored next.
    pub(crate) next_fact_seq: u64,
}

impl Clone for ScyllaStore {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), writing: BTreeMap::new() }
    }
}

impl ScyllaStore {
    /// Connects to the keyspace.
    ///
    /// # Errors
    /// When no server answers, a setting cannot be used, or the tables are not those that this program needs.
    pub fn open(options: Options) -> Result<Self, ScyllaError> {
        let client = Client::connect(options)?;
        let statements = client.wait_for(async {
            migrations::check(&client).await?;
            client.enter_keyspace().await?;
            Statements::prepare(&client).await
        })?;
        Ok(Self { shared: Arc::new(Connected { client, statements }), writing: BTreeMap::new() })
    }
}

/// A number as CQL has it; no session reaches those that it has not.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number that CQL has kept for us.
pub(crate) fn unsigned(number: i64) -> u64 {
    number.max(0).unsigned_abs()
}

impl Connected {
    /// A session's generation.
    async fn generation(&self, session_key: i32) -> Result<Option<i32>, ScyllaError> {
        let rows: Vec<(i32,)> = self.client.all(&self.statements.generation, (session_key,)).await?;
        Ok(rows.first().map(|(generation,)| *generation))
    }

    pub(crate) async fn standing(&self, session_key: i32, epoch: i32) -> Result<Standing, ScyllaError> {
        let generation = self.generation(session_key).await?.unwrap_or_default();
        let rows: Vec<(i64,)> = self.client.all(&self.statements.progress, (session_key, generation, epoch)).await?;
        let next_fact_seq = rows.first().map_or(0, |(next,)| unsigned(*next));
        Ok(Standing { session_key, generation, epoch, next_fact_seq })
    }

    /// Moves a session to its next generation and removes the rows of all before. Returns the generation it is in then.
    async fn purge(&self, session_key: i32) -> Result<i32, ScyllaError> {
        let Self { client, statements } = self;
        let doing = "moving a session to its next generation";
        // Whoever purges at the same time moves it just as well.
        match self.generation(session_key).await? {
            None => client.execute(doing, &statements.first_generation, (session_key, 1)).await?,
            Some(old) => client.execute(doing, &statements.next_generation, (old.saturating_add(1), session_key, old)).await?,
        }
        let generation = self.generation(session_key).await?.unwrap_or_default();
        for old in 0..generation {
            self.clear(session_key, old).await?;
        }
        Ok(generation)
    }

    /// Removes every row of a generation, those included that a slow writer has yet to send to the partitions there are. What names the
    /// partitions goes last, and only what was there to begin with: the next purge finishes one that stopped half way and finds the
    /// partitions that a slow writer has yet to begin.
    async fn clear(&self, session_key: i32, generation: i32) -> Result<(), ScyllaError> {
        let Self { client, statements } = self;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let (now, until) = (timestamp(now), timestamp(now + DELETED_AHEAD));
        let rows: Vec<(i32, String, i32, i32)> = client.all(&statements.all_places, (session_key, generation)).await?;
        let kinds: BTreeSet<(i32, &str)> = rows.iter().map(|(epoch, kind, ..)| (*epoch, kind.as_str())).collect();
        let history = rows.iter().map(|(epoch, kind, bucket, driver_number)| {
            client.execute(
                "removing facts",
                &statements.delete_history,
                (until, session_key, generation, *epoch, kind, *driver_number, *bucket),
            )
        });
        write::together(client.options.in_flight_max, history).await?;
        let latest = kinds.into_iter().map(|(epoch, kind)| {
            client.execute("removing facts", &statements.delete_latest, (until, session_key, generation, epoch, kind))
        });
        write::together(client.options.in_flight_max, latest).await?;
        client.execute("removing progress", &statements.delete_progress, (until, session_key, generation)).await?;
        client.execute("removing places", &statements.delete_places, (now, session_key, generation)).await
    }
}

/// How far ahead of the clock the timestamp of a deletion lies. A generation is never used again, so it may reach arrival times ahead of
/// this clock and rows that come late; ScyllaDB takes no timestamp more than three days ahead.
const DELETED_AHEAD: Duration = Duration::from_hours(24);

/// A moment since 1970 as CQL has it: microseconds.
fn timestamp(moment: Duration) -> i64 {
    i64::try_from(moment.as_micros()).unwrap_or(i64::MAX)
}

impl StateStore for ScyllaStore {
    type Error = ScyllaError;

    /// Writes go to the generation that [`next_fact_seq`](Self::next_fact_seq) was told of: facts that follow what a purge removed must
    /// not stand in the session that begins anew.
    fn store(&mut self, session_key: i32, epoch: i32, facts: &FactBatch) -> Result<(), ScyllaError> {
        if facts.is_empty() {
            return Ok(());
        }
        if !self.writing.contains_key(&session_key) {
            self.next_fact_seq(session_key, epoch)?;
        }
        let Self { shared, writing } = self;
        let Writing { generation, places } = writing.entry(session_key).or_default();
        let into = Standing { session_key, generation: *generation, epoch, next_fact_seq: 0 };
        let writes = write::Writes::of(&into, facts, &shared.client.options)?;
        let new: Vec<Place> = writes.places().filter(|place| !places.contains(&(epoch, *place))).collect();
        shared.client.wait_for(shared.write(&into, &writes, &new))?;
        places.extend(new.into_iter().map(|place| (epoch, place)));
        Ok(())
    }

    fn next_fact_seq(&mut self, session_key: i32, epoch: i32) -> Result<u64, ScyllaError> {
        let standing = self.shared.client.wait_for(self.shared.standing(session_key, epoch))?;
        let writing = self.writing.entry(session_key).or_default();
        if writing.generation != standing.generation {
            *writing = Writing { generation: standing.generation, places: BTreeSet::new() };
        }
        Ok(standing.next_fact_seq)
    }

    fn latest(&mut self, session_key: i32, epoch: i32, kind: &str, before: u64) -> Result<Vec<StoredFact>, ScyllaError> {
        self.shared.client.wait_for(self.shared.latest(session_key, epoch, kind, before))
    }

    fn history(
        &mut self,
        session_key: i32,
        epoch: i32,
        kind: &str,
        fact_seqs: Range<u64>,
        facts_max: usize,
    ) -> Result<Vec<StoredFact>, ScyllaError> {
        self.shared.client.wait_for(self.shared.history(session_key, epoch, kind, fact_seqs, facts_max))
    }

    fn purge(&mut self, session_key: i32) -> Result<(), ScyllaError> {
        let generation = self.shared.client.wait_for(self.shared.purge(session_key))?;
        self.writing.insert(session_key, Writing { generation, places: BTreeSet::new() });
        Ok(())
    }
}
