//! Sessions and facts as files.
//!
//! [`archive`] reads and writes a session's raw samples as one Avro object container file; [`import`] makes one from JSON lines.
//! [`facts`] writes what a backtest derives, [`run`] is the folder it leaves behind. [`container`] is the file format below all of them.

pub mod archive;
pub mod container;
pub mod facts;
pub mod import;
pub mod parquet;
pub mod run;
