//! Parquet of an Avro fact file, through Arrow.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::Path;

use arrow_avro::reader::ReaderBuilder;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use crate::facts::FactsError;

/// Rows turned at a time.
const BATCH_ROWS: usize = 8_192;

/// Turns the Avro file `from` into the Parquet file `to` and removes `from`.
pub(crate) fn from_avro(from: &Path, to: &Path) -> Result<(), FactsError> {
    convert(from, to)
        .and_then(|()| fs::remove_file(from).map_err(Into::into))
        .map_err(|error| FactsError::Parquet { path: to.to_owned(), reason: error.to_string() })
}

fn convert(from: &Path, to: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let reader = ReaderBuilder::new().with_batch_size(BATCH_ROWS).build(BufReader::new(File::open(from)?))?;
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
    let mut writer = ArrowWriter::try_new(File::create(to)?, reader.schema(), Some(properties))?;
    for batch in reader {
        writer.write(&batch?)?;
    }
    writer.close()?;
    Ok(())
}
