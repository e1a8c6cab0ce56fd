//! Archives: what goes in comes out, other Avro tools read them, old ones load, damaged ones say where.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use apache_avro::types::Value;
use pitwall_archive::archive::{Archive, ArchiveError, ArchiveWriter};
use pitwall_archive::container::{Codec, Container, ContainerError, ContainerWriter};
use pitwall_archive::import;
use pitwall_engine::backtest::RawSource;
use pitwall_schemas::log::DeadLetter;
use pitwall_schemas::raw::{ARCHIVE_SCHEMA, Collection, Sample};
use pitwall_schemas::shared::KnownAtQuality;
use pitwall_schemas::time::Micros;

/// A few documents of every collection, in OpenF1's JSON.
const LINES: &str = include_str!("fixtures/documents.jsonl");
const SESSION: i32 = 9_920;

fn import_to(path: &Path, lines: &str) -> (import::Counts, Vec<DeadLetter>) {
    let mut writer = ArchiveWriter::create(path, SESSION, KnownAtQuality::Received).unwrap();
    let mut dead_letters = Vec::new();
    let counts = import::import(&mut lines.as_bytes(), SESSION, &[], &mut writer, |letter| dead_letters.push(letter)).unwrap();
    writer.finish().unwrap();
    (counts, dead_letters)
}

fn read_all(archive: &mut Archive) -> Result<Vec<(Micros, Sample)>, ArchiveError> {
    let mut samples = Vec::new();
    while let Some(block) = archive.next_block()? {
        for raw in block {
            let raw = raw?;
            samples.push((raw.received_at, raw.event.unwrap()));
        }
    }
    Ok(samples)
}

/// An archive of many small blocks.
fn in_small_blocks(path: &Path, copies: usize) -> usize {
    let mut writer = ArchiveWriter::create(path, SESSION, KnownAtQuality::Received).unwrap();
    let lines = LINES.repeat(copies);
    let counts = import::import(&mut lines.as_bytes(), SESSION, &[], &mut writer, |_| {}).unwrap();
    writer.finish().unwrap();
    counts.total() as usize
}

#[test]
fn documents_of_every_collection_come_out_as_they_went_in() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("session.avro");
    let (counts, dead_letters) = import_to(&path, LINES);
    assert_eq!(dead_letters, []);
    assert_eq!(
        counts.samples.len(),
        pitwall_schemas::raw::Collection::ALL.len(),
        "every collection is in the fixture: {:?}",
        counts.samples
    );
    let mut archive = Archive::open(&path).unwrap();
    assert_eq!((archive.session_key(), archive.samples()), (SESSION, counts.total()));
    let read = read_all(&mut archive).unwrap();
    for (line, (received_at, sample)) in LINES.lines().zip(&read) {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["received_at"].as_str().unwrap().parse(), Ok(*received_at));
        assert_eq!(line["collection"], sample.collection().name());
    }
    assert_eq!(read.len() as u64, counts.total());
}

#[test]
fn the_sessions_document_says_which_collections_were_reconstructed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("session.avro");
    let reconstructed = [Collection::Position, Collection::Intervals];
    let mut writer = ArchiveWriter::create(&path, SESSION, KnownAtQuality::Reconstructed).unwrap();
    import::import(&mut LINES.as_bytes(), SESSION, &reconstructed, &mut writer, |_| {}).unwrap();
    writer.finish().unwrap();
    let samples = read_all(&mut Archive::open(&path).unwrap()).unwrap();
    let said =
        samples.into_iter().find_map(|(_, sample)| if let Sample::Sessions(session) = sample { session.reconstructed } else { None });
    assert_eq!(said.unwrap(), ["position", "intervals"]);

    let others: String = LINES.lines().filter(|line| !line.contains(r#""sessions""#)).map(|line| format!("{line}\n")).collect();
    let mut writer = ArchiveWriter::create(&path, SESSION, KnownAtQuality::Reconstructed).unwrap();
    let refused = import::import(&mut others.as_bytes(), SESSION, &reconstructed, &mut writer, |_| {});
    assert!(matches!(refused, Err(import::ImportError::NoSessionDocument)));
}

#[test]
fn another_avro_library_reads_an_archive() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("session.avro");
    let (counts, _) = import_to(&path, LINES);
    let bytes = fs::read(&path).unwrap();
    let values: Vec<Value> = apache_avro::Reader::new(bytes.as_slice()).unwrap().collect::<Result<_, _>>().unwrap();
    assert_eq!(values.len() as u64, counts.total());
    let Value::Record(fields) = &values[0] else { panic!("{:?}", values[0]) };
    assert_eq!(fields.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["received_at", "document"]);
}

#[test]
fn the_same_documents_always_make_the_same_file() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first.avro"), folder.path().join("second.avro"));
    import_to(&first, LINES);
    import_to(&second, LINES);
    assert_eq!(fs::read(&first).unwrap(), fs::read(&second).unwrap());
    assert_eq!(Archive::open(&first).unwrap().source_id(), Archive::open(&second).unwrap().source_id());
}

#[test]
fn reading_goes_on_at_any_sample() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("session.avro");
    let total = in_small_blocks(&path, 2_000);
    let all = read_all(&mut Archive::open(&path).unwrap()).unwrap();
    assert_eq!(all.len(), total);
    for from in [0, 1, total / 3, total / 2, total - 1, total] {
        let mut archive = Archive::open(&path).unwrap();
        archive.seek(from as u64);
        assert_eq!(read_all(&mut archive).unwrap(), all[from..], "from {from}");
    }
}

#[test]
fn a_truncated_archive_gives_its_whole_blocks_and_names_the_block_that_is_cut_short() {
    let folder = tempfile::tempdir().unwrap();
    let (path, cut) = (folder.path().join("session.avro"), folder.path().join("cut.avro"));
    in_small_blocks(&path, 2_000);
    let bytes = fs::read(&path).unwrap();
    let whole = Container::open(bytes.clone()).unwrap();
    assert!(whole.blocks().len() >= 3, "the fixture has several blocks: {}", whole.blocks().len());
    fs::write(&cut, &bytes[..bytes.len() - 1]).unwrap();
    let mut archive = Archive::open(&cut).unwrap();
    let (mut samples, error) = (
        0,
        loop {
            match archive.next_block() {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the damage is reported"),
                Err(error) => break error,
            }
        },
    );
    samples += archive.samples();
    let last = whole.blocks().len() - 1;
    assert_eq!(samples, whole.blocks()[last].first_record);
    assert_eq!(
        error.to_string(),
        format!("{}: block {last} is cut short: the {last} whole blocks before it hold {samples} records", cut.display())
    );
}

#[test]
fn a_flipped_byte_in_a_block_is_noticed_before_any_of_it_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let (path, changed) = (folder.path().join("session.avro"), folder.path().join("changed.avro"));
    in_small_blocks(&path, 2_000);
    let mut bytes = fs::read(&path).unwrap();
    // In the last block, before its sync marker.
    let at = bytes.len() - 40;
    bytes[at] ^= 1;
    fs::write(&changed, &bytes).unwrap();
    let error = read_all(&mut Archive::open(&changed).unwrap()).unwrap_err();
    assert!(matches!(error, ArchiveError::Container { source: ContainerError::Block { .. }, .. }), "{error}");
}

#[test]
fn what_is_no_archive_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let refused = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        Archive::open(&path).err().unwrap().to_string().replace(&path.display().to_string(), "FILE")
    };
    assert_eq!(refused(b""), "FILE: this is not an Avro object container file");
    assert_eq!(refused(b"{\"collection\":\"laps\"}"), "FILE: this is not an Avro object container file");
    let other = ContainerWriter::new(Vec::new(), "\"string\"", &[], Codec::Null, 100).unwrap().finish().unwrap();
    assert_eq!(refused(&other), "FILE: this Avro file is no session archive: it names no session. `pitwall import` makes one");
    let named = ContainerWriter::new(Vec::new(), "\"string\"", &[("pitwall.session_key", "1")], Codec::Null, 100).unwrap();
    let named = {
        let mut named = named;
        named.append(b"\x02x").unwrap();
        named.finish().unwrap()
    };
    assert!(refused(&named).starts_with("FILE: this Avro file is no session archive: "), "{}", refused(&named));
}

/// The archive schema without the `id` of car data, as a version before that field would have written it.
fn older_schema() -> String {
    let mut schema: serde_json::Value = serde_json::from_str(ARCHIVE_SCHEMA).unwrap();
    let car_data = schema["fields"][1]["type"].as_array_mut().unwrap().iter_mut().find(|branch| branch["name"] == "CarData").unwrap();
    car_data["fields"].as_array_mut().unwrap().retain(|field| field["name"] != "id");
    schema.to_string()
}

#[test]
fn an_archive_of_an_older_schema_version_is_read_through_schema_resolution() {
    let folder = tempfile::tempdir().unwrap();
    let (path, old) = (folder.path().join("session.avro"), folder.path().join("old.avro"));
    import_to(&path, LINES);
    let current = fs::read(&path).unwrap();
    let older = apache_avro::Schema::parse_str(&older_schema()).unwrap();
    let writer = apache_avro::writer::datum::GenericDatumWriter::builder(&older).build().unwrap();
    let mut container =
        ContainerWriter::new(Vec::new(), &older_schema(), &[("pitwall.session_key", "9920")], Codec::Zstandard(3), 4_096).unwrap();
    for value in apache_avro::Reader::new(current.as_slice()).unwrap() {
        let Value::Record(mut fields) = value.unwrap() else { panic!("an archive holds records") };
        if let Value::Union(_, document) = &mut fields[1].1
            && let Value::Record(document) = document.as_mut()
            && document.iter().any(|(name, _)| name == "n_gear")
        {
            document.retain(|(name, _)| name != "id");
        }
        container.append(&writer.write_value_to_vec(Value::Record(fields)).unwrap()).unwrap();
    }
    fs::write(&old, container.finish().unwrap()).unwrap();
    let mut expected = read_all(&mut Archive::open(&path).unwrap()).unwrap();
    for (_, sample) in &mut expected {
        if let Sample::CarData(sample) = sample {
            assert!(sample.id.take().is_some(), "the fixture has ids");
        }
    }
    assert_eq!(read_all(&mut Archive::open(&old).unwrap()).unwrap(), expected);
}

#[test]
fn an_archive_of_format_1_loads_for_ever() {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/format_1/session.avro"));
    if !path.exists() && std::env::var("UPDATE_EXPECT").is_ok() {
        import_to(&path, LINES);
    }
    let folder = tempfile::tempdir().unwrap();
    let today = folder.path().join("session.avro");
    import_to(&today, LINES);
    assert_eq!(read_all(&mut Archive::open(&path).unwrap()).unwrap(), read_all(&mut Archive::open(&today).unwrap()).unwrap());
}

#[test]
fn a_line_that_is_no_document_is_a_dead_letter_with_its_number_and_reason_and_the_import_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let first = LINES.lines().next().unwrap();
    let other_session = first.replace("\"session_key\":9920", "\"session_key\":1");
    let lines = format!(
        "{first}\nnot json\n[]\n{{\"collection\":\"lapses\"}}\n{{\"collection\":\"laps\"}}\n{{\"collection\":\"laps\",\"received_at\":\"x\"}}\n{{\"collection\":\"laps\",\"received_at\":\"2025-08-31T13:00:00\",\"doc\":7}}\n{{\"collection\":\"laps\",\"received_at\":\"2025-08-31T13:00:00\",\"doc\":{{}}}}\n{other_session}\n\n{first}\n"
    );
    let (counts, dead_letters) = import_to(&folder.path().join("session.avro"), &lines);
    assert_eq!((counts.total(), counts.dead_letters), (2, 8));
    let reasons: Vec<_> = dead_letters.iter().map(|letter| (letter.offset, letter.stream.as_str(), letter.reason.as_str())).collect();
    assert_eq!(
        reasons,
        [
            (2, "", "not JSON: expected ident at line 1 column 2"),
            (3, "", "not a JSON object"),
            (4, "", "there is no collection `lapses`"),
            (5, "laps", "field `received_at` is missing"),
            (6, "laps", "field `received_at`: `x` is not an ISO 8601 date and time such as 2025-08-31T13:03:21.22+00:00"),
            (7, "laps", "field `doc` must be a JSON object"),
            (8, "laps", "field `meeting_key` is missing"),
            (9, "drivers", "the document belongs to session 1, not 9920"),
        ]
    );
}

#[test]
fn an_odd_field_is_counted_and_its_document_kept() {
    let folder = tempfile::tempdir().unwrap();
    let first = LINES.lines().next().unwrap();
    assert!(first.contains("\"drivers\""), "{first}");
    let mut odd: serde_json::Value = serde_json::from_str(first).unwrap();
    odd["doc"]["country_code"] = serde_json::json!(["GBR"]);
    let path = folder.path().join("session.avro");
    let (counts, dead_letters) = import_to(&path, &format!("{first}\n{odd}\n"));
    assert_eq!((counts.total(), dead_letters.len()), (2, 0));
    assert_eq!(counts.odd_fields.into_iter().collect::<Vec<_>>(), [(("drivers", "country_code"), 1)]);
    assert_eq!(read_all(&mut Archive::open(&path).unwrap()).unwrap().len(), 2);
}

#[test]
fn an_overlong_line_is_a_dead_letter_and_the_next_line_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let first = LINES.lines().next().unwrap();
    let lines = format!("{}\n{first}\n", "x".repeat(3 * import::LINE_BYTES_MAX));
    let (counts, dead_letters) = import_to(&folder.path().join("session.avro"), &lines);
    assert_eq!((counts.total(), counts.dead_letters), (1, 1));
    assert_eq!(dead_letters[0].reason, "the line is longer than 1048576 bytes");
    assert!(dead_letters[0].payload.len() <= 4_096);
}
