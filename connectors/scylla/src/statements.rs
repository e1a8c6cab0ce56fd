//! Every statement that the store runs, prepared once.

use scylla::statement::prepared::PreparedStatement;

use crate::client::Client;
use crate::error::ScyllaError;

/// The statements, by what they do.
pub(crate) struct Statements {
    pub(crate) generation: PreparedStatement,
    pub(crate) first_generation: PreparedStatement,
    pub(crate) next_generation: PreparedStatement,
    pub(crate) progress: PreparedStatement,
    pub(crate) write_progress: PreparedStatement,
    pub(crate) delete_progress: PreparedStatement,
    pub(crate) all_places: PreparedStatement,
    pub(crate) places: PreparedStatement,
    pub(crate) write_place: PreparedStatement,
    pub(crate) delete_places: PreparedStatement,
    pub(crate) history: PreparedStatement,
    pub(crate) history_backwards: PreparedStatement,
    pub(crate) write_history: PreparedStatement,
    pub(crate) delete_history: PreparedStatement,
    pub(crate) latest: PreparedStatement,
    pub(crate) write_latest: PreparedStatement,
    pub(crate) delete_latest: PreparedStatement,
}

impl Statements {
    pub(crate) async fn prepare(client: &Client) -> Result<Self, ScyllaError> {
        const PLACE: &str = "session_key = ? AND generation = ? AND epoch = ? AND kind = ? AND driver_number = ? AND bucket = ?";
        let of_place = |statement: &str| statement.replace("PLACE", PLACE);
        Ok(Self {
            generation: client.prepare("SELECT generation FROM sessions WHERE session_key = ?").await?,
            first_generation: client.prepare("INSERT INTO sessions (session_key, generation) VALUES (?, ?) IF NOT EXISTS").await?,
            next_generation: client.prepare("UPDATE sessions SET generation = ? WHERE session_key = ? IF generation = ?").await?,
            progress: client.prepare("SELECT next_fact_seq FROM progress WHERE session_key = ? AND generation = ? AND epoch = ?").await?,
            write_progress: client
                .prepare("INSERT INTO progress (session_key, generation, epoch, next_fact_seq) VALUES (?, ?, ?, ?) USING TIMESTAMP ?")
                .await?,
            delete_progress: client.prepare("DELETE FROM progress USING TIMESTAMP ? WHERE session_key = ? AND generation = ?").await?,
            all_places: client
                .prepare("SELECT epoch, kind, bucket, driver_number FROM places WHERE session_key = ? AND generation = ?")
                .await?,
            places: client
                .prepare("SELECT bucket, driver_number FROM places WHERE session_key = ? AND generation = ? AND epoch = ? AND kind = ?")
                .await?,
            write_place: client
                .prepare("INSERT INTO places (session_key, generation, epoch, kind, bucket, driver_number) VALUES (?, ?, ?, ?, ?, ?)")
                .await?,
            delete_places: client.prepare("DELETE FROM places USING TIMESTAMP ? WHERE session_key = ? AND generation = ?").await?,
            history: client
                .prepare(&of_place(
                    "SELECT fact_seq, known_at, fact FROM history WHERE PLACE AND fact_seq >= ? AND fact_seq < ? ORDER BY fact_seq LIMIT ?",
                ))
                .await?,
            history_backwards: client
                .prepare(&of_place(
                    "SELECT fact_seq, known_at, key, fact FROM history WHERE PLACE AND fact_seq < ? ORDER BY fact_seq DESC",
                ))
                .await?,
            write_history: client
                .prepare(
                    "INSERT INTO history (session_key, generation, epoch, kind, driver_number, bucket, fact_seq, known_at, key, fact) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?",
                )
                .await?,
            delete_history: client.prepare(&of_place("DELETE FROM history USING TIMESTAMP ? WHERE PLACE")).await?,
            latest: client
                .prepare("SELECT key, newest FROM latest WHERE session_key = ? AND generation = ? AND epoch = ? AND kind = ?")
                .await?,
            write_latest: client
                .prepare(
                    "INSERT INTO latest (session_key, generation, epoch, kind, key, newest) VALUES (?, ?, ?, ?, ?, ?) USING TIMESTAMP ?",
                )
                .await?,
            delete_latest: client
                .prepare("DELETE FROM latest USING TIMESTAMP ? WHERE session_key = ? AND generation = ? AND epoch = ? AND kind = ?")
                .await?,
        })
    }
}
