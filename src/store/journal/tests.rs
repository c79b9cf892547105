//! The journal's files: one owner, deleted when confirmed, given up when the disk refuses.

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::store::sample::row;

fn settings(directory: &Path) -> JournalSettings {
    JournalSettings { directory: directory.join("journal"), bytes: 1 << 30, sync: false }
}

fn files(directory: &Path) -> usize {
    let names = directory.join("journal").read_dir().unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_str().unwrap().ends_with(".journal")).count()
}

fn noted(journal: &Journal, number: u64) -> Receipt {
    let mut receipt = None;
    assert!(journal.note(&row("t", number), &mut receipt));
    receipt.unwrap()
}

#[test]
fn one_process_at_a_time_works_on_a_directory() {
    let directory = tempfile::tempdir().unwrap();
    let first = Journal::open(&settings(directory.path())).unwrap();
    let second = Journal::open(&settings(directory.path())).err().unwrap();
    assert!(matches!(second, JournalError::InUse { .. }), "{second}");
    assert!(second.to_string().contains("journal_dir"), "{second}");
    drop(first);
    Journal::open(&settings(directory.path())).unwrap();
}

#[test]
fn a_directory_that_cannot_be_made_is_told_with_its_path() {
    let directory = tempfile::tempdir().unwrap();
    let nowhere = JournalSettings { directory: directory.path().join("no/such"), ..settings(directory.path()) };
    let said = Journal::open(&nowhere).err().unwrap().to_string();
    assert!(said.contains("no/such") && said.contains("journal_dir"), "{said}");
}

#[test]
fn files_whose_rows_are_all_confirmed_are_deleted_and_nothing_is_remembered_of_them() {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::open(&settings(directory.path())).unwrap();
    let kept = noted(&journal, 0);
    let mut batch = Vec::new();
    for number in 1..=20_000 {
        batch.push(noted(&journal, number));
        if batch.len() == 500 {
            journal.confirm(std::mem::take(&mut batch));
        }
    }
    let known = journal.state().segments.len();
    assert!(known <= 2 && files(directory.path()) <= 2, "the first one and the last");
    journal.confirm([kept]);
    assert!(files(directory.path()) <= 1);
    let state = journal.state();
    assert_eq!(state.bytes, state.segments.values().map(|segment| segment.bytes).sum::<u64>());
}

#[test]
fn the_same_version_of_a_row_is_appended_once_and_another_takes_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::open(&settings(directory.path())).unwrap();
    let mut receipt = None;
    assert!(journal.note(&row("t", 1), &mut receipt) && journal.note(&row("t", 1), &mut receipt));
    let bytes_and_rows = || {
        let state = journal.state();
        (state.bytes, state.segments[&1].held)
    };
    let once = segment::frame(&row("t", 1)).unwrap().0.len() as u64;
    assert_eq!(bytes_and_rows(), (once, 1));
    assert!(journal.note(&LedgerRow { latency_us: 9, ..row("t", 1) }, &mut receipt));
    let (bytes, held) = bytes_and_rows();
    assert!(bytes > once && held == 1, "{bytes} {held}");
}

#[test]
fn a_file_that_cannot_be_written_is_given_up_and_the_row_goes_to_another() {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::open(&settings(directory.path())).unwrap();
    let first = noted(&journal, 1);
    // Opened to read, so that the next write fails.
    let file = File::open(journal.0.directory.file(first.segment)).unwrap();
    journal.state().active.as_mut().unwrap().file = Arc::new(file);
    let second = noted(&journal, 2);
    assert_ne!(first.segment, second.segment);
    assert_eq!(journal.stats().write_faults, 0, "no row was refused");
    journal.sync_failed(second.segment, &std::io::Error::other("gone"));
    assert_ne!(noted(&journal, 3).segment, second.segment, "not used after a failed sync");
    assert_eq!((journal.stats().sync_faults, files(directory.path())), (1, 3));
    journal.confirm([first, second]);
    assert_eq!(files(directory.path()), 1);
}

/// Nothing on the way of a request waits for more than a `write`.
#[tokio::test]
async fn files_and_their_names_are_synced_apart_from_what_is_appended() {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::open(&JournalSettings { sync: true, ..settings(directory.path()) }).unwrap();
    let waits = || journal.state().new_name;
    let first = noted(&journal, 1).segment;
    assert_eq!(waits(), Some(first), "begun and not synced");
    journal.sync_now().await;
    noted(&journal, 2);
    assert_eq!(waits(), None, "synced, and the same file goes on");
    journal.sync_failed(first, &std::io::Error::other("gone"));
    let second = noted(&journal, 3).segment;
    assert_eq!(waits(), Some(second));
    // A directory that cannot be synced counts as a fault, and its last file is used no more.
    let place = directory.path().join("journal");
    std::fs::rename(&place, directory.path().join("away")).unwrap();
    journal.sync_now().await;
    assert_eq!(journal.stats().sync_faults, 2);
    std::fs::rename(directory.path().join("away"), &place).unwrap();
    assert_ne!(noted(&journal, 4).segment, second);
}

#[test]
fn a_disk_that_refuses_is_counted_and_used_again_when_it_is_back() {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::open(&settings(directory.path())).unwrap();
    std::fs::remove_dir_all(directory.path().join("journal")).unwrap();
    let mut receipt = None;
    for _ in 0..3 {
        assert!(!journal.note(&row("t", 1), &mut receipt));
    }
    assert_eq!((receipt, journal.stats().write_faults), (None, 3));
    std::fs::create_dir(directory.path().join("journal")).unwrap();
    std::thread::sleep(PAUSE + Duration::from_millis(10));
    assert!(journal.note(&row("t", 1), &mut receipt));
    assert_eq!(files(directory.path()), 1);
}

/// `cargo test --release -- --ignored --nocapture nanoseconds`
#[test]
#[ignore = "a measurement"]
fn nanoseconds_of_a_row() {
    const ROWS: u64 = 200_000;
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::open(&settings(directory.path())).unwrap();
    let (began, mut batch) = (Instant::now(), Vec::new());
    let sample = row("t", 0);
    for number in 0..ROWS {
        let row = LedgerRow { started_at: number, ..sample.clone() };
        let mut receipt = None;
        assert!(journal.note(&row, &mut receipt));
        batch.extend(receipt);
        if batch.len() == 512 {
            journal.confirm(std::mem::take(&mut batch));
        }
    }
    println!("{} ns for each row, confirming included", began.elapsed().as_nanos() / u128::from(ROWS));
}
