//! What the store's troubles are called.

use scylla::errors::{
    DbError, DeserializationError, ExecutionError, IntoRowsResultError, NewSessionError, PrepareError, RequestAttemptError, RowsError,
    UseKeyspaceError,
};

/// Why the store on CQL cannot answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScyllaError {
    /// No server answers.
    #[error("CQL at {contact_points}: {doing}: {reason}: is it running and is scylla.contact_points right?")]
    Unreachable {
        /// The servers asked first.
        contact_points: String,
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        reason: String,
    },
    /// The server refuses, and would again.
    #[error("CQL at {contact_points}: {doing}: {reason}")]
    Refused {
        /// The servers asked first.
        contact_points: String,
        /// What was being done.
        doing: &'static str,
        /// Its words.
        reason: String,
    },
    /// A setting cannot be used.
    #[error("scylla.{setting}: {reason}")]
    Setting {
        /// Its name.
        setting: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The tables are missing or old.
    #[error("keyspace {keyspace} is at migration {found}, this program needs {needed}: run `pitwall migrate`")]
    NotMigrated {
        /// The keyspace.
        keyspace: String,
        /// The last migration applied; 0 for none.
        found: i32,
        /// The one needed.
        needed: i32,
    },
    /// A newer program has changed the tables.
    #[error(
        "keyspace {keyspace} is at migration {found}, this program knows only {known}: use the newer program; migrations never go back"
    )]
    Newer {
        /// The keyspace.
        keyspace: String,
        /// The last migration applied.
        found: i32,
        /// The last one this program knows.
        known: i32,
    },
    /// An applied migration is not the one this program carries.
    #[error(
        "migration {version} ({name}) of keyspace {keyspace} is not the one this program has: changes need a migration of their own, so use the program that applied it or another keyspace"
    )]
    Changed {
        /// The keyspace.
        keyspace: String,
        /// The migration.
        version: i32,
        /// Its name.
        name: String,
    },
    /// A fact that was to be stored is none.
    #[error("fact {fact_seq} of session {session_key} cannot be read: {reason}")]
    Fact {
        /// The session.
        session_key: i32,
        /// The fact.
        fact_seq: u64,
        /// What is wrong.
        reason: String,
    },
    /// The system gives no threads.
    #[error("the store's threads cannot be started: {0}")]
    Threads(String),
}

impl ScyllaError {
    /// Whether the same call may succeed later without anybody changing anything.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

/// Why one attempt of a request failed.
pub(crate) struct Failure {
    pub(crate) reason: String,
    /// Whether another attempt may succeed.
    pub(crate) is_passing: bool,
}

impl From<ExecutionError> for Failure {
    fn from(error: ExecutionError) -> Self {
        let is_passing = match &error {
            ExecutionError::LastAttemptError(RequestAttemptError::DbError(answer, _)) => is_passing(answer),
            ExecutionError::LastAttemptError(
                RequestAttemptError::SerializationError(_) | RequestAttemptError::CqlRequestSerialization(_),
            )
            | ExecutionError::BadQuery(_) => false,
            _ => true,
        };
        Self { reason: error.to_string(), is_passing }
    }
}

/// Whether the server may answer otherwise later.
const fn is_passing(answer: &DbError) -> bool {
    !matches!(
        answer,
        DbError::SyntaxError
            | DbError::Invalid
            | DbError::AlreadyExists { .. }
            | DbError::FunctionFailure { .. }
            | DbError::AuthenticationError
            | DbError::Unauthorized
            | DbError::ConfigError
            | DbError::ProtocolError
    )
}

impl From<PrepareError> for Failure {
    fn from(error: PrepareError) -> Self {
        let is_passing = match &error {
            PrepareError::AllAttemptsFailed { first_attempt: RequestAttemptError::DbError(answer, _) } => is_passing(answer),
            _ => true,
        };
        Self { reason: error.to_string(), is_passing }
    }
}

impl From<UseKeyspaceError> for Failure {
    fn from(error: UseKeyspaceError) -> Self {
        let is_passing = match &error {
            UseKeyspaceError::RequestError(RequestAttemptError::DbError(answer, _)) => is_passing(answer),
            _ => true,
        };
        Self { reason: error.to_string(), is_passing }
    }
}

impl From<NewSessionError> for Failure {
    fn from(error: NewSessionError) -> Self {
        Self { reason: error.to_string(), is_passing: true }
    }
}

/// An answer that is not what was asked for will not be another time.
macro_rules! lasting {
    ($($error:ty),*) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self { reason: error.to_string(), is_passing: false }
            }
        }
    )*};
}
lasting!(DeserializationError, IntoRowsResultError, RowsError);
