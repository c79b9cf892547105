//! The writer with its journal: outages, sudden ends and what the next life finds.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::tests::{Fake, LONG, sizes, stores};
use super::*;
use crate::store::sample::{put, request_id, row};
use crate::store::{Journal, JournalSettings};

fn open(directory: &Path, bytes: u64) -> Journal {
    Journal::open(&JournalSettings { directory: directory.join("journal"), bytes, sync: false }).unwrap()
}

fn start(directory: &TempDir, fake: &Arc<Fake>, queue: usize) -> (WriterHandle, JoinHandle<Unwritten>) {
    let (handle, writer) = Writer::new(&stores(fake), sizes(queue), Some(open(directory.path(), 1 << 30)));
    (handle, tokio::spawn(writer.run()))
}

/// Files of the journal by the end of their names.
fn files(directory: &TempDir, end: &str) -> usize {
    let names = directory.path().join("journal").read_dir().unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_str().unwrap().ends_with(end)).count()
}

fn kept(fake: &Fake) -> usize {
    fake.kept.lock().unwrap().len()
}

/// What a killed process leaves: the rows were noted, nobody has written them.
fn killed(directory: &TempDir, rows: impl IntoIterator<Item = LedgerRow>) {
    let fake = Arc::new(Fake::default());
    let (handle, _writer) = Writer::new(&stores(&fake), sizes(10_000), Some(open(directory.path(), 1 << 30)));
    let mut slots = Vec::new();
    for row in rows {
        let mut slot = handle.ledger_slot().unwrap();
        slot.note(&row);
        slots.push(slot);
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_costs_no_row_and_no_slot_and_memory_stays_bounded() {
    const ROWS: u64 = 20_000;
    let (directory, fake) = (tempfile::tempdir().unwrap(), Arc::new(Fake::default()));
    fake.ledger_down.store(true, Ordering::SeqCst);
    // A twentieth of the rows, so that most must leave memory.
    let (handle, task) = start(&directory, &fake, 1_000);
    for number in 0..ROWS {
        handle.ledger_slot().expect("a slot for every request").send(row("t", number));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(handle.flush(Duration::from_secs(1)).await, Err(FlushError::Deadline), "the store does not have them");
    let stats = handle.stats();
    assert_eq!((stats.ledger_depth, stats.spooled_rows, stats.rows_written), (ROWS, ROWS, 0), "{stats:?}");
    assert!(stats.store_away && stats.spool_bytes > 0 && stats.slots_refused == 0, "{stats:?}");
    assert!(stats.ledger_lag >= Duration::from_secs(20), "the first row waits since the outage began: {stats:?}");
    assert!(files(&directory, ".journal") > 3);

    fake.ledger_down.store(false, Ordering::SeqCst);
    handle.flush(LONG).await.unwrap();
    let stats = handle.stats();
    assert_eq!((stats.ledger_depth, stats.spooled_rows, stats.spool_bytes, stats.rows_written), (0, 0, 0, ROWS));
    assert!(!stats.store_away && stats.rows_lost == 0 && stats.ledger_lag.is_zero(), "{stats:?}");
    assert!((0..ROWS).all(|number| fake.kept.lock().unwrap().get(&request_id(number)) == Some(&row("t", number))));
    assert_eq!(kept(&fake), 20_000);

    handle.ledger_slot().unwrap().send(row("t", ROWS));
    handle.close();
    assert_eq!(task.await.unwrap(), Unwritten::default());
    assert_eq!((kept(&fake), files(&directory, ".journal")), (20_001, 0), "nothing is left for a next life");
}

#[tokio::test(start_paused = true)]
async fn what_a_killed_process_knew_is_written_by_the_next_one_in_its_last_version() {
    let (directory, fake) = (tempfile::tempdir().unwrap(), Arc::new(Fake::default()));
    let later = LedgerRow { outcome: "cancelled".into(), ..row("t", 3) };
    killed(&directory, (0..5_000).map(|number| row("t", number)).chain([later.clone()]));
    let (handle, task) = start(&directory, &fake, 10);
    handle.close();
    assert_eq!(task.await.unwrap(), Unwritten::default());
    assert_eq!(kept(&fake), 5_000);
    assert_eq!(fake.kept.lock().unwrap().get(&request_id(4_999)), Some(&row("t", 4_999)));
    assert_eq!(files(&directory, ".journal"), 0);
    assert_eq!(handle.stats().rows_written, 5_001 - 1);
}

#[tokio::test(start_paused = true)]
async fn of_two_versions_of_a_row_the_last_is_written_also_across_files() {
    for between in [0, 5_000] {
        let (directory, fake) = (tempfile::tempdir().unwrap(), Arc::new(Fake::default()));
        let later = LedgerRow { outcome: "cancelled".into(), ..row("t", 0) };
        let others = (1..=between).map(|number| row("t", number));
        killed(&directory, [row("t", 0)].into_iter().chain(others).chain([later.clone()]));
        let (handle, task) = start(&directory, &fake, 10);
        handle.close();
        task.await.unwrap();
        assert_eq!(fake.kept.lock().unwrap().get(&request_id(0)), Some(&later), "{between} rows between them");
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_while_the_store_is_away_serves_and_catches_up_later() {
    let (directory, fake) = (tempfile::tempdir().unwrap(), Arc::new(Fake::default()));
    killed(&directory, (0..100).map(|number| row("t", number)));
    fake.ledger_down.store(true, Ordering::SeqCst);
    let (handle, _task) = start(&directory, &fake, 10);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(handle.stats().spooled_rows, 100);
    assert!(handle.stats().ledger_lag >= Duration::from_secs(60), "rows of an earlier life wait too");
    handle.ledger_slot().unwrap().send(row("t", 100));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((handle.stats().spooled_rows, kept(&fake)), (101, 0));
    fake.ledger_down.store(false, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((handle.stats().spooled_rows, kept(&fake)), (0, 101));
}

#[tokio::test(start_paused = true)]
async fn closing_during_an_outage_leaves_the_rows_to_the_next_life() {
    let (directory, fake) = (tempfile::tempdir().unwrap(), Arc::new(Fake::default()));
    fake.ledger_down.store(true, Ordering::SeqCst);
    let (handle, task) = start(&directory, &fake, 10);
    for number in 0..3 {
        handle.ledger_slot().unwrap().send(row("t", number));
    }
    handle.close();
    assert_eq!(task.await.unwrap(), Unwritten { spooled: 3, ..Unwritten::default() });
    drop(handle);
    fake.ledger_down.store(false, Ordering::SeqCst);
    let (handle, task) = start(&directory, &fake, 10);
    handle.close();
    assert_eq!((task.await.unwrap(), kept(&fake)), (Unwritten::default(), 3));
}

#[tokio::test(start_paused = true)]
async fn a_full_journal_is_counted_and_then_slots_are_refused_and_no_accepted_row_is_lost() {
    let (directory, fake) = (tempfile::tempdir().unwrap(), Arc::new(Fake::default()));
    fake.ledger_down.store(true, Ordering::SeqCst);
    let (handle, writer) = Writer::new(&stores(&fake), sizes(20), Some(open(directory.path(), 4 << 10)));
    let task = tokio::spawn(writer.run());
    let mut accepted = 0;
    for number in 0..200 {
        if let Some(slot) = handle.ledger_slot() {
            slot.send(row("t", number));
            accepted += 1;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let stats = handle.stats();
    assert!(stats.journal.full > 0 && stats.slots_refused > 0 && stats.spooled_rows > 0, "{stats:?}");
    assert_eq!((stats.slots_refused + accepted, stats.ledger_depth), (200, accepted));
    fake.ledger_down.store(false, Ordering::SeqCst);
    handle.flush(LONG).await.unwrap();
    assert_eq!(kept(&fake) as u64, accepted);
    handle.close();
    assert_eq!(task.await.unwrap(), Unwritten::default());
}

#[tokio::test(start_paused = true)]
async fn a_row_that_the_store_refuses_holds_up_no_other_and_is_set_aside() {
    let (directory, fake) = (tempfile::tempdir().unwrap(), Arc::new(Fake::default()));
    fake.refused.lock().unwrap().insert(request_id(7));
    let (handle, _task) = start(&directory, &fake, 100);
    for number in 0..20 {
        handle.ledger_slot().unwrap().send(row("t", number));
    }
    handle.flush(LONG).await.unwrap();
    assert_eq!(kept(&fake), 19);
    assert_eq!((handle.stats().journal.damaged, files(&directory, ".damaged")), (1, 1));
    assert!(!handle.stats().store_away);
}

#[tokio::test(start_paused = true)]
async fn a_damaged_file_gives_what_can_be_read_and_is_set_aside() {
    let (directory, fake) = (tempfile::tempdir().unwrap(), Arc::new(Fake::default()));
    killed(&directory, (0..10).map(|number| row("t", number)));
    let path = directory.path().join("journal/ledger-000000000001.journal");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    bytes.truncate(bytes.len() - 5);
    std::fs::write(&path, bytes).unwrap();
    let (handle, task) = start(&directory, &fake, 10);
    handle.close();
    assert_eq!(task.await.unwrap(), Unwritten::default());
    assert_eq!(kept(&fake), 8, "one was damaged and the last one torn");
    let faults = handle.stats().journal;
    assert_eq!((faults.damaged, faults.torn), (1, 1));
    assert_eq!((files(&directory, ".journal"), files(&directory, ".damaged")), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_is_behind_for_a_moment_is_no_failing_store() {
    let fake = Arc::new(Fake::default());
    fake.behind.store(200, Ordering::SeqCst);
    let (handle, _task) = Writer::spawn(&stores(&fake), sizes(10));
    handle.entry(put("t", 1)).unwrap();
    handle.flush(LONG).await.unwrap();
    assert_eq!(*fake.writes.lock().unwrap(), [put("t", 1)]);
    assert_eq!((handle.stats().failures, handle.stats().entries_dropped), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_two_minutes_costs_no_entry() {
    let fake = Arc::new(Fake::default());
    fake.entry_failures.store(u32::MAX, Ordering::SeqCst);
    let (handle, _task) = Writer::spawn(&stores(&fake), sizes(10));
    handle.entry(put("t", 1)).unwrap();
    tokio::time::sleep(Duration::from_secs(120)).await;
    fake.entry_failures.store(0, Ordering::SeqCst);
    handle.flush(LONG).await.unwrap();
    assert_eq!(*fake.writes.lock().unwrap(), [put("t", 1)]);
    assert_eq!(handle.stats().entries_dropped, 0);
}
