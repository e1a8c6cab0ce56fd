//! Sessions and facts as files.
//!
//! [`archive`] reads and writes a session's raw samples as one Avro object container file; [`import`] makes one from JSON lines.
//! [`facts`] writes what a backtest derives, [`run`] is the folder it leaves behind. [`container`] is the file format below all of them.
//! [`replay`] goes to a moment of a session; [`ledger`] finds the sample behind a ledger number.
//! [`backtest`] runs an archive as far as it is whole, [`verify`] runs it again, [`summary`] is what it came to.
//! [`compare`] tells where two runs differ, [`oracle`] where a run differs from what others say of the race.

pub mod archive;
pub mod backtest;
pub mod compare;
pub mod container;
pub mod facts;
pub mod import;
pub mod ledger;
pub mod oracle;
pub mod parquet;
pub mod replay;
pub mod run;
pub mod summary;
pub mod verify;
