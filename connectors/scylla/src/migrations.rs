//! The tables and how they came to be: migrations, applied once each, in order, never backwards.
//!
//! A migration is a file of statements under `migrations/`. Which ones a keyspace has had is recorded in it, each with the hash of its
//! text, so a change of an applied file is noticed. Every statement may be run again: a migration that was interrupted is run from its
//! start.

use pitwall_engine::hash::Digest;
use scylla::client::session::Session;

use crate::client::Client;
use crate::error::ScyllaError;
use crate::options::Options;

/// A step from one shape of the tables to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migration {
    /// Its number: dense, from 1.
    pub version: i32,
    /// What it is about.
    pub name: &'static str,
    /// Its statements, each ended by `;`.
    text: &'static str,
}

/// All migrations, in order.
pub const ALL: &[Migration] = &[Migration { version: 1, name: "facts", text: include_str!("../migrations/0001_facts.cql") }];

impl Migration {
    fn hash(&self) -> String {
        Digest::of(self.text.as_bytes()).to_string()
    }

    /// Its statements, comments left out.
    fn statements(&self) -> Vec<String> {
        let code: Vec<&str> = self.text.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
        code.join("\n").split(';').map(str::trim).filter(|statement| !statement.is_empty()).map(str::to_owned).collect()
    }
}

/// A migration as a keyspace records it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Applied {
    version: i32,
    name: String,
    hash: String,
}

/// Brings a keyspace to the newest migration, making it if it is not there. Returns those that were applied; none when it has them all.
///
/// # Errors
/// When no server answers or it refuses, a newer program has changed the tables, or an applied migration is not the one known here.
pub fn migrate(options: Options) -> Result<Vec<Migration>, ScyllaError> {
    let client = Client::connect(options)?;
    client.wait_for(async {
        make_keyspace(&client).await?;
        client.enter_keyspace().await?;
        const RECORD: &str = "CREATE TABLE IF NOT EXISTS migrations (version int PRIMARY KEY, name text, hash text)";
        run(&client, "making the record of migrations", RECORD).await?;
        let pending = pending(&client.options.keyspace, &applied(&client).await?, ALL)?;
        for migration in pending {
            for statement in migration.statements() {
                run(&client, "applying a migration", &statement).await?;
            }
            let record = client.prepare("INSERT INTO migrations (version, name, hash) VALUES (?, ?, ?) IF NOT EXISTS").await?;
            client.execute("recording a migration", &record, (migration.version, migration.name, migration.hash())).await?;
        }
        Ok(pending.to_vec())
    })
}

/// Finds whether the keyspace has exactly the migrations known here.
pub(crate) async fn check(client: &Client) -> Result<(), ScyllaError> {
    let keyspace = &client.options.keyspace;
    let of_keyspace = client.prepare("SELECT table_name FROM system_schema.tables WHERE keyspace_name = ? AND table_name = ?").await?;
    let recorded: Vec<(String,)> = client.all(&of_keyspace, (keyspace, "migrations")).await?;
    let applied = if recorded.is_empty() { Vec::new() } else { applied(client).await? };
    if pending(keyspace, &applied, ALL)?.is_empty() {
        return Ok(());
    }
    Err(ScyllaError::NotMigrated { keyspace: keyspace.clone(), found: applied.len() as i32, needed: ALL.len() as i32 })
}

/// The migrations still to be applied.
fn pending<'a>(keyspace: &str, applied: &[Applied], known: &'a [Migration]) -> Result<&'a [Migration], ScyllaError> {
    if let Some(newest) = applied.last().filter(|newest| newest.version as usize > known.len()) {
        return Err(ScyllaError::Newer { keyspace: keyspace.to_owned(), found: newest.version, known: known.len() as i32 });
    }
    for (recorded, migration) in applied.iter().zip(known) {
        if recorded.version != migration.version || recorded.hash != migration.hash() {
            let Applied { version, name, .. } = recorded.clone();
            return Err(ScyllaError::Changed { keyspace: keyspace.to_owned(), version, name });
        }
    }
    Ok(&known[applied.len()..])
}

/// The migrations that the keyspace records, in order.
async fn applied(client: &Client) -> Result<Vec<Applied>, ScyllaError> {
    let select = format!("SELECT version, name, hash FROM {}.migrations", client.options.keyspace);
    let rows: Vec<(i32, String, String)> = client.all(&client.prepare(&select).await?, ()).await?;
    let mut applied: Vec<Applied> = rows.into_iter().map(|(version, name, hash)| Applied { version, name, hash }).collect();
    applied.sort_by_key(|migration| migration.version);
    Ok(applied)
}

/// Makes the keyspace, unless it is there: one that was made by hand stays as it is.
async fn make_keyspace(client: &Client) -> Result<(), ScyllaError> {
    let Options { keyspace, replication, .. } = &client.options;
    let tablets = if is_scylla(&client.session) {
        // Lightweight transactions need a keyspace without tablets on the versions that have both.
        " AND tablets = {'enabled': false}"
    } else {
        ""
    };
    let text = format!(
        "CREATE KEYSPACE IF NOT EXISTS {keyspace} WITH replication = {{'class': 'NetworkTopologyStrategy', 'replication_factor': {replication}}}{tablets}"
    );
    run(client, "making the keyspace", &text).await
}

/// Whether the servers are ScyllaDB: only those have shards.
fn is_scylla(session: &Session) -> bool {
    session.get_cluster_state().get_nodes_info().iter().any(|node| node.sharder().is_some())
}

/// Runs a statement that changes the schema.
async fn run(client: &Client, doing: &'static str, statement: &str) -> Result<(), ScyllaError> {
    client.attempt(doing, async || Ok(client.session.query_unpaged(statement, ()).await.map(drop)?)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(migrations: &[Migration]) -> Vec<Applied> {
        migrations
            .iter()
            .map(|migration| Applied { version: migration.version, name: migration.name.to_owned(), hash: migration.hash() })
            .collect()
    }

    const TWO: &[Migration] =
        &[Migration { version: 1, name: "one", text: "CREATE;" }, Migration { version: 2, name: "two", text: "ALTER;" }];

    #[test]
    fn what_is_not_applied_is_pending_in_order() {
        for applied in 0..=2 {
            assert_eq!(pending("k", &recorded(&TWO[..applied]), TWO).unwrap(), &TWO[applied..]);
        }
    }

    #[test]
    fn a_keyspace_of_a_newer_program_is_refused() {
        let error = pending("k", &recorded(TWO), &TWO[..1]).unwrap_err();
        assert_eq!(error, ScyllaError::Newer { keyspace: "k".to_owned(), found: 2, known: 1 });
        assert!(error.to_string().contains("never go back"));
    }

    #[test]
    fn an_applied_migration_that_has_changed_since_is_refused() {
        let changed = [Migration { text: "CREATE OTHER;", ..TWO[0] }, TWO[1]];
        let error = pending("k", &recorded(&TWO[..1]), &changed).unwrap_err();
        assert_eq!(error, ScyllaError::Changed { keyspace: "k".to_owned(), version: 1, name: "one".to_owned() });
    }

    #[test]
    fn migrations_are_numbered_densely_and_may_be_run_again() {
        for (migration, version) in ALL.iter().zip(1..) {
            assert_eq!(migration.version, version);
            assert!(!migration.statements().is_empty());
            assert!(migration.statements().iter().all(|statement| statement.contains("IF NOT EXISTS")), "{}", migration.name);
        }
    }
}
