//! What a crash, a power cut or a bad disk leaves behind, and what becomes of it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use pitwall_embedded::data::{DataDirectory, EmbeddedError, Options};
use pitwall_engine::conformance::{self, Writer};
use pitwall_engine::log::EventLog;

const SESSION: i32 = 7;
const COMMITS: u64 = 6;
const RECORDS: u64 = 5;

fn open(folder: &Path) -> Result<DataDirectory, EmbeddedError> {
    DataDirectory::open(folder, &conformance::kinds(), Options::default())
}

/// A closed data directory with six commits, and where its journal stood after each.
fn written(folder: &Path) -> (PathBuf, Vec<usize>) {
    let mut data = open(folder).unwrap();
    let mut writer = Writer::new(&mut data.log, SESSION);
    let path = fs::read_dir(folder.join("log")).unwrap().map(|entry| entry.unwrap().path());
    let path = path.filter(|path| path.extension().is_some_and(|extension| extension == "jnl")).max().unwrap();
    let ends = (0..COMMITS)
        .map(|_| {
            writer.commit(&mut data.log, RECORDS).unwrap();
            used(&fs::read(&path).unwrap())
        })
        .collect();
    (path, ends)
}

fn used(journal: &[u8]) -> usize {
    journal.iter().rposition(|byte| *byte != 0).unwrap() + 1
}

#[test]
fn a_log_cut_at_any_byte_recovers_to_the_last_whole_commit_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let (path, ends) = written(folder.path());
    let journal = fs::read(&path).unwrap();
    let (from, to) = (ends[3], ends[5]);
    for cut in (from..=to).step_by((to - from) / 23).chain([ends[4] - 1, ends[4], ends[4] + 1, to - 1]) {
        let copy = tempfile::tempdir().unwrap();
        copy_folder(folder.path(), copy.path());
        let path = copy.path().join(path.strip_prefix(folder.path()).unwrap());
        fs::write(&path, &journal[..cut]).unwrap();
        let mut data = open(copy.path()).unwrap();
        let whole = ends.iter().filter(|end| **end <= cut).count() as u64;
        assert_eq!(data.log.ledger_end(SESSION).unwrap(), Some(whole * RECORDS - 1), "cut at byte {cut}");
        assert_eq!(data.log.facts(SESSION, 0, 0, usize::MAX).unwrap().len() as u64, whole * RECORDS, "cut at byte {cut}");
        assert_eq!(data.cut.is_some(), !ends.contains(&cut), "a damaged end is said, a whole one is not: byte {cut}");
    }
}

#[test]
fn a_wrong_byte_in_the_last_commit_takes_that_commit_only() {
    let folder = tempfile::tempdir().unwrap();
    let (path, ends) = written(folder.path());
    let mut journal = fs::read(&path).unwrap();
    journal[(ends[4] + ends[5]) / 2] ^= 0x10;
    fs::write(&path, &journal).unwrap();
    let mut data = open(folder.path()).unwrap();
    assert!(data.cut.is_some_and(|cut| cut.whole == ends[4] as u64));
    assert_eq!(data.log.ledger_end(SESSION).unwrap(), Some(5 * RECORDS - 1));
}

#[test]
fn a_wrong_byte_before_the_last_commit_is_refused_with_the_place() {
    let folder = tempfile::tempdir().unwrap();
    let (path, ends) = written(folder.path());
    let mut journal = fs::read(&path).unwrap();
    journal[(ends[1] + ends[2]) / 2] ^= 0x10;
    fs::write(&path, &journal).unwrap();
    let error = open(folder.path()).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains(&format!("damaged at byte {}", ends[1])) && error.contains("--fresh"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), journal, "and nothing was changed");
}

#[test]
fn a_second_opener_of_a_data_directory_is_refused_and_told_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let data = open(folder.path()).unwrap();
    let error = open(folder.path()).map(|_| ()).unwrap_err();
    assert!(matches!(error, EmbeddedError::InUse(_)) && error.to_string().contains("--data-dir"), "{error}");
    assert!(matches!(DataDirectory::remove(folder.path()), Err(EmbeddedError::InUse(_))));
    drop(data);
    open(folder.path()).unwrap();
}

#[test]
fn a_directory_that_cannot_be_made_or_is_something_else_is_refused_with_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "x").unwrap();
    let error = open(&file.join("data")).map(|_| ()).unwrap_err();
    assert!(matches!(error, EmbeddedError::Folder { .. }) && error.to_string().contains("--data-dir"), "{error}");
    assert!(DataDirectory::remove(folder.path()).is_err(), "a folder of other files is never removed");
    assert!(file.exists());
}

#[test]
fn a_removed_data_directory_starts_empty() {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path());
    DataDirectory::remove(folder.path()).unwrap();
    assert_eq!(open(folder.path()).unwrap().log.ledger_end(SESSION).unwrap(), None);
}

fn copy_folder(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir_all(&target).unwrap();
            copy_folder(&entry.path(), &target);
        } else if entry.path().extension().is_none_or(|extension| extension != "jnl") {
            fs::copy(entry.path(), target).unwrap();
        } else {
            // Journals are allocated ahead; their used part is enough.
            let journal = fs::read(entry.path()).unwrap();
            fs::write(target, &journal[..journal.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)]).unwrap();
        }
    }
}
