//! Parquet of an Avro fact file and back, through Arrow.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::Path;

use arrow_avro::reader::ReaderBuilder;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use parquet::file::reader::SerializedFileReader;
use parquet::record::{Field, Row};
use pitwall_schemas::time::Micros;
use serde_json::Value;

use crate::facts::FactsError;

/// Rows turned at a time.
const BATCH_ROWS: usize = 8_192;

/// Turns the Avro file `from` into the Parquet file `to` and removes `from`.
pub(crate) fn from_avro(from: &Path, to: &Path) -> Result<(), FactsError> {
    convert(from, to)
        .and_then(|()| fs::remove_file(from).map_err(Into::into))
        .map_err(|error| FactsError::Format { path: to.to_owned(), reason: error.to_string() })
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

/// The rows of a Parquet file, each as a JSON object as its Avro schema names the fields.
pub(crate) fn rows(path: &Path) -> Result<impl Iterator<Item = Result<Value, FactsError>>, FactsError> {
    let refused = |path: &Path, error: &dyn std::error::Error| FactsError::Format { path: path.to_owned(), reason: error.to_string() };
    let file = File::open(path).map_err(|source| FactsError::File { path: path.to_owned(), source })?;
    let reader = SerializedFileReader::new(file).map_err(|error| refused(path, &error))?;
    let path = path.to_owned();
    Ok(reader.into_iter().map(move |row| row.map(|row| object(&row)).map_err(|error| refused(&path, &error))))
}

fn object(row: &Row) -> Value {
    row.get_column_iter().map(|(name, field)| (name.clone(), value(field))).collect()
}

fn value(field: &Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Bool(value) => (*value).into(),
        Field::Int(value) => (*value).into(),
        Field::Long(value) => (*value).into(),
        Field::Double(value) => (*value).into(),
        Field::Str(text) => text.as_str().into(),
        Field::TimestampMicros(micros) => Micros(*micros).to_string().into(),
        Field::Group(row) => object(row),
        Field::ListInternal(list) => list.elements().iter().map(value).collect(),
        // Facts hold nothing else; what reads them refuses a value of another type.
        other => other.to_string().into(),
    }
}
