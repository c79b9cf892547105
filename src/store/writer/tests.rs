//! The writer against a store that fails, hangs and counts.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;
use crate::clock::UnixMs;
use crate::ids::{EntryId, RequestId, TenantId};
use crate::store::sample::{bare_decision, delete, label, new_decision, put, request_id, row};
use crate::store::{
    BoxFuture, Counts, Cursor, DecisionRow, DecisionStore, Entry, EntryFilter, EntryMeta, EntryStore, Exported, Found,
    LearnedRow, LedgerStore, Loaded, Point, Spend, StoreError,
};

pub(super) const LONG: Duration = Duration::from_secs(3600);

/// Remembers what it was given; fails or hangs as told.
#[derive(Default)]
pub(super) struct Fake {
    ledger_failures: AtomicU32,
    pub(super) entry_failures: AtomicU32,
    decision_failures: AtomicU32,
    ledger_hangs: AtomicBool,
    /// As long as it is set, no row is taken.
    pub(super) ledger_down: AtomicBool,
    /// How often entries are told that the replica is behind.
    pub(super) behind: AtomicU32,
    /// Batches with these are not taken.
    pub(super) refused: Mutex<HashSet<RequestId>>,
    pub(super) appends: AtomicU32,
    applies: AtomicU32,
    rows: Mutex<Vec<RequestId>>,
    /// What a store keeps: the first version of each row.
    pub(super) kept: Mutex<HashMap<RequestId, LedgerRow>>,
    pub(super) writes: Mutex<Vec<EntryWrite>>,
    decisions: Mutex<Vec<DecisionWrite>>,
}

fn fails(left: &AtomicU32) -> Result<(), StoreError> {
    match left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)) {
        Ok(_) => Err(StoreError::DiskFull { place: "test.db".into() }),
        Err(_) => Ok(()),
    }
}

impl LedgerStore for Fake {
    fn append<'a>(&'a self, rows: &'a [LedgerRow]) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            self.appends.fetch_add(1, Ordering::SeqCst);
            if self.ledger_hangs.swap(false, Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
            fails(&self.ledger_failures)?;
            if self.ledger_down.load(Ordering::SeqCst)
                || rows.iter().any(|row| self.refused.lock().unwrap().contains(&row.request))
            {
                return Err(StoreError::DiskFull { place: "test.db".into() });
            }
            for row in rows {
                self.kept.lock().unwrap().entry(row.request).or_insert_with(|| row.clone());
            }
            self.rows.lock().unwrap().extend(rows.iter().map(|row| row.request));
            Ok(())
        })
    }

    fn request(&self, _: RequestId) -> BoxFuture<'_, Option<LedgerRow>> {
        unreachable!()
    }

    fn count(&self) -> BoxFuture<'_, u64> {
        unreachable!()
    }

    fn recent<'a>(&'a self, _: Option<&'a TenantId>, _: u32) -> BoxFuture<'a, Vec<LedgerRow>> {
        unreachable!()
    }

    fn page(&self, _: Option<RequestId>, _: u32) -> BoxFuture<'_, Vec<LedgerRow>> {
        unreachable!()
    }

    fn spend<'a>(&'a self, _: Option<&'a TenantId>, _: UnixMs, _: UnixMs, _: u64) -> BoxFuture<'a, Vec<Spend>> {
        unreachable!()
    }

    fn served<'a>(&'a self, _: &'a TenantId, _: EntryId, _: UnixMs, _: u32) -> BoxFuture<'a, Vec<LedgerRow>> {
        unreachable!()
    }
}

impl EntryStore for Fake {
    fn apply<'a>(&'a self, writes: &'a [EntryWrite]) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            self.applies.fetch_add(1, Ordering::SeqCst);
            if fails(&self.behind).is_err() {
                return Err(StoreError::Behind);
            }
            fails(&self.entry_failures)?;
            self.writes.lock().unwrap().extend_from_slice(writes);
            Ok(())
        })
    }

    fn entry<'a>(&'a self, _: &'a TenantId, _: EntryId) -> BoxFuture<'a, Option<Entry>> {
        unreachable!()
    }

    fn points_of<'a>(&'a self, _: &'a TenantId, _: EntryId) -> BoxFuture<'a, Vec<Point>> {
        unreachable!()
    }

    fn scan<'a>(&'a self, _: UnixMs, _: Option<&'a Cursor>, _: u32) -> BoxFuture<'a, Vec<Loaded>> {
        unreachable!()
    }

    fn list<'a>(
        &'a self,
        _: Option<&'a TenantId>,
        _: &'a EntryFilter,
        _: Option<&'a Cursor>,
        _: u32,
    ) -> BoxFuture<'a, Vec<EntryMeta>> {
        unreachable!()
    }

    fn search<'a>(&'a self, _: Option<&'a TenantId>, _: &'a str, _: u32) -> BoxFuture<'a, Vec<Found>> {
        unreachable!()
    }

    fn expired(&self, _: UnixMs, _: u32) -> BoxFuture<'_, Vec<(TenantId, EntryId)>> {
        unreachable!()
    }

    fn load<'a>(&'a self, _: &'a [(TenantId, EntryId)]) -> BoxFuture<'a, Vec<Loaded>> {
        unreachable!()
    }

    fn export<'a>(&'a self, _: Option<&'a Cursor>, _: u32) -> BoxFuture<'a, Vec<Exported>> {
        unreachable!()
    }

    fn counts(&self) -> BoxFuture<'_, Counts> {
        unreachable!()
    }

    fn purge(&self) -> BoxFuture<'_, ()> {
        unreachable!()
    }
}

impl DecisionStore for Fake {
    fn write<'a>(&'a self, writes: &'a [DecisionWrite]) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            fails(&self.decision_failures)?;
            self.decisions.lock().unwrap().extend_from_slice(writes);
            Ok(())
        })
    }

    fn decision(&self, _: RequestId) -> BoxFuture<'_, Option<DecisionRow>> {
        unreachable!()
    }

    fn since<'a>(
        &'a self,
        _: Option<&'a TenantId>,
        _: UnixMs,
        _: Option<RequestId>,
        _: u32,
    ) -> BoxFuture<'a, Vec<DecisionRow>> {
        unreachable!()
    }

    fn forget(&self, _: UnixMs, _: u32) -> BoxFuture<'_, u64> {
        unreachable!()
    }

    fn forget_tenant<'a>(&'a self, _: &'a TenantId, _: u32) -> BoxFuture<'a, u64> {
        unreachable!()
    }

    fn save_learned<'a>(&'a self, _: &'a [LearnedRow]) -> BoxFuture<'a, ()> {
        unreachable!()
    }

    fn learned(&self) -> BoxFuture<'_, Vec<LearnedRow>> {
        unreachable!()
    }
}

pub(super) fn stores(fake: &Arc<Fake>) -> Stores {
    Stores {
        entries: fake.clone(),
        ledger: fake.clone(),
        tenants: fake.clone(),
        directory: fake.clone(),
        audit: fake.clone(),
        decisions: fake.clone(),
        notes: fake.clone(),
        usage: fake.clone(),
        alerts: fake.clone(),
        counters: None,
        changes: None,
        search: None,
        rem: None,
        sql: None,
    }
}

pub(super) fn sizes(queue: usize) -> WriterSizes {
    WriterSizes { ledger: queue, entries: queue, decisions: queue, flush: Duration::from_millis(50) }
}

fn send(handle: &WriterHandle, numbers: std::ops::Range<u64>) {
    for number in numbers {
        handle.ledger_slot().unwrap().send(row("t", number));
    }
}

fn ids(numbers: std::ops::Range<u64>) -> Vec<RequestId> {
    numbers.map(request_id).collect()
}

#[tokio::test(start_paused = true)]
async fn rows_and_writes_arrive_in_order_and_share_transactions() {
    let fake = Arc::new(Fake::default());
    let (handle, _task) = Writer::spawn(&stores(&fake), sizes(2000));
    send(&handle, 0..1000);
    let writes = vec![put("t", 1), delete("t", 1), put("t", 2)];
    for write in &writes {
        handle.entry(write.clone()).unwrap();
    }
    let decisions = vec![label(1, true, "miss"), new_decision(bare_decision("t", 1)), label(1, false, "audit")];
    for write in &decisions {
        handle.decision(write.clone()).unwrap();
    }
    let stats = handle.stats();
    assert_eq!((stats.ledger_depth, stats.entries_depth, stats.decisions_depth), (1000, 3, 3));
    handle.flush(LONG).await.unwrap();

    assert_eq!(*fake.rows.lock().unwrap(), ids(0..1000));
    assert_eq!(*fake.writes.lock().unwrap(), writes);
    assert_eq!(*fake.decisions.lock().unwrap(), decisions);
    assert_eq!((fake.appends.load(Ordering::SeqCst), fake.applies.load(Ordering::SeqCst)), (2, 1));
    assert_eq!(handle.stats(), WriterStats { rows_written: 1000, entries_written: 3, ..WriterStats::default() });
}

#[tokio::test(start_paused = true)]
async fn without_a_flush_rows_are_written_when_their_time_is_over() {
    let fake = Arc::new(Fake::default());
    let (handle, _task) = Writer::spawn(&stores(&fake), sizes(10));
    send(&handle, 0..1);
    tokio::time::sleep(Duration::from_millis(30)).await;
    send(&handle, 1..2);
    assert_eq!(fake.appends.load(Ordering::SeqCst), 0, "the first waits for company");
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert_eq!(*fake.rows.lock().unwrap(), ids(0..2));
    assert_eq!(fake.appends.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn no_accepted_row_is_lost_while_the_store_fails() {
    let fake = Arc::new(Fake { ledger_failures: AtomicU32::new(40), ..Fake::default() });
    let (handle, _task) = Writer::spawn(&stores(&fake), sizes(30));
    let mut accepted = Vec::new();
    for number in 0..100 {
        if let Some(slot) = handle.ledger_slot() {
            slot.send(row("t", number));
            accepted.push(request_id(number));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let stats = handle.stats();
    assert!(stats.failures > 0 && stats.slots_refused > 0 && stats.rows_written == 0, "{stats:?}");
    assert_eq!(stats.slots_refused + accepted.len() as u64, 100);
    assert!(stats.ledger_lag >= Duration::from_millis(90), "{stats:?}");
    handle.flush(LONG).await.unwrap();
    assert_eq!(*fake.rows.lock().unwrap(), accepted);
    let stats = handle.stats();
    assert_eq!((stats.failures, stats.rows_lost, stats.ledger_depth, stats.ledger_lag), (40, 0, 0, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_write_that_hangs_is_tried_again() {
    let fake = Arc::new(Fake { ledger_hangs: AtomicBool::new(true), ..Fake::default() });
    let (handle, _task) = Writer::spawn(&stores(&fake), sizes(10));
    send(&handle, 0..1);
    assert_eq!(handle.flush(Duration::from_secs(1)).await, Err(FlushError::Deadline));
    handle.flush(LONG).await.unwrap();
    assert_eq!(*fake.rows.lock().unwrap(), ids(0..1));
    assert_eq!(handle.stats().failures, 1);
}

#[tokio::test(start_paused = true)]
async fn failing_entries_are_given_up_counted_and_do_not_hold_up_the_ledger() {
    let fake = Arc::new(Fake { entry_failures: AtomicU32::new(DROP_TRIES), ..Fake::default() });
    let (handle, _task) = Writer::spawn(&stores(&fake), sizes(10));
    handle.entry(put("t", 1)).unwrap();
    tokio::time::sleep(Duration::from_millis(60)).await;
    handle.entry(put("t", 2)).unwrap();
    send(&handle, 0..1);
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert_eq!(*fake.rows.lock().unwrap(), ids(0..1), "the ledger goes on");
    assert_eq!(*fake.writes.lock().unwrap(), []);

    handle.flush(LONG).await.unwrap();
    assert_eq!(*fake.writes.lock().unwrap(), [put("t", 2)], "what came later is written");
    let stats = handle.stats();
    assert_eq!((stats.entries_dropped, stats.entries_written, stats.entries_depth), (1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn failing_decisions_are_given_up_counted_and_hold_up_nothing_else() {
    let fake = Arc::new(Fake { decision_failures: AtomicU32::new(DROP_TRIES), ..Fake::default() });
    let (handle, _task) = Writer::spawn(&stores(&fake), sizes(10));
    handle.decision(label(1, true, "miss")).unwrap();
    tokio::time::sleep(Duration::from_millis(60)).await;
    handle.decision(label(2, true, "miss")).unwrap();
    handle.entry(put("t", 1)).unwrap();
    send(&handle, 0..1);
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert_eq!((fake.rows.lock().unwrap().len(), fake.writes.lock().unwrap().len()), (1, 1), "the others go on");
    assert_eq!(*fake.decisions.lock().unwrap(), []);

    handle.flush(LONG).await.unwrap();
    assert_eq!(*fake.decisions.lock().unwrap(), [label(2, true, "miss")], "what came later is written");
    let stats = handle.stats();
    assert_eq!((stats.decisions_dropped, stats.decisions_depth, stats.failures), (1, 0, u64::from(DROP_TRIES)));
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses_and_a_dropped_slot_makes_room() {
    let fake = Arc::new(Fake::default());
    // Never polled, so that nothing leaves the queues.
    let (handle, _writer) = Writer::new(&stores(&fake), sizes(2), None);
    let first = handle.ledger_slot().unwrap();
    let _second = handle.ledger_slot().unwrap();
    assert!(handle.ledger_slot().is_none());
    drop(first);
    assert!(handle.ledger_slot().is_some());
    for _ in 0..2 {
        handle.entry(delete("t", 1)).unwrap();
    }
    assert_eq!(handle.entry(delete("t", 1)), Err(Full));
    for _ in 0..2 {
        handle.decision(label(1, true, "miss")).unwrap();
    }
    assert_eq!(handle.decision(label(1, true, "miss")), Err(Full));
    let stats = handle.stats();
    assert_eq!((stats.slots_refused, stats.entries_dropped, stats.ledger_depth), (1, 1, 0));
    assert_eq!((stats.decisions_dropped, stats.decisions_depth), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn after_closing_reserved_slots_still_count_and_nothing_new_is_accepted() {
    let fake = Arc::new(Fake::default());
    let (handle, task) = Writer::spawn(&stores(&fake), sizes(10));
    let reserved = handle.ledger_slot().unwrap();
    handle.entry(put("t", 1)).unwrap();
    handle.decision(label(1, true, "miss")).unwrap();
    handle.close();
    tokio::time::sleep(LONG).await;
    assert!(!task.is_finished(), "a slot is still out");
    assert!(handle.ledger_slot().is_none());
    assert_eq!(handle.entry(put("t", 2)), Err(Full));
    assert_eq!(handle.decision(label(2, true, "miss")), Err(Full));

    reserved.send(row("t", 7));
    assert_eq!(task.await.unwrap(), Unwritten::default());
    assert_eq!(*fake.rows.lock().unwrap(), [request_id(7)]);
    assert_eq!(*fake.writes.lock().unwrap(), [put("t", 1)]);
    assert_eq!(*fake.decisions.lock().unwrap(), [label(1, true, "miss")]);
    handle.flush(LONG).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_writer_ends_when_all_handles_and_slots_are_gone() {
    let fake = Arc::new(Fake::default());
    let (handle, task) = Writer::spawn(&stores(&fake), sizes(10));
    let slot = handle.ledger_slot().unwrap();
    drop(handle);
    slot.send(row("t", 1));
    assert_eq!(task.await.unwrap(), Unwritten::default());
    assert_eq!(*fake.rows.lock().unwrap(), ids(1..2));
}

#[tokio::test(start_paused = true)]
async fn closing_on_a_store_that_keeps_failing_ends_and_tells_the_loss() {
    let fake = Arc::new(Fake {
        ledger_failures: AtomicU32::new(u32::MAX),
        entry_failures: AtomicU32::new(u32::MAX),
        decision_failures: AtomicU32::new(u32::MAX),
        ..Fake::default()
    });
    let (handle, task) = Writer::spawn(&stores(&fake), sizes(10));
    send(&handle, 0..3);
    handle.entry(put("t", 1)).unwrap();
    handle.decision(label(1, true, "miss")).unwrap();
    handle.decision(label(2, true, "miss")).unwrap();
    handle.close();
    assert_eq!(task.await.unwrap(), Unwritten { rows: 3, entries: 1, decisions: 2, spooled: 0 });
    assert_eq!((handle.stats().rows_lost, handle.stats().rows_written), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn a_flush_of_a_writer_that_died_says_so() {
    let fake = Arc::new(Fake::default());
    let (handle, task) = Writer::spawn(&stores(&fake), sizes(10));
    send(&handle, 0..1);
    task.abort();
    let _ = task.await;
    assert_eq!(handle.flush(LONG).await, Err(FlushError::Ended));
}

#[tokio::test]
async fn many_tasks_writing_to_a_real_file_lose_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("remora.db");
    let store = crate::store::SqliteStore::open(&path, crate::config::Migrate::Auto).await.unwrap();
    let (handle, task) = Writer::spawn(&store.stores(), sizes(5_000));
    let senders = (0..10u64).map(|sender| {
        let handle = handle.clone();
        tokio::spawn(async move {
            for number in sender * 200..(sender + 1) * 200 {
                let slot = handle.ledger_slot().unwrap();
                tokio::task::yield_now().await;
                slot.send(row("t", number));
                handle.entry(put("t", number)).unwrap();
            }
        })
    });
    for sender in senders.collect::<Vec<_>>() {
        sender.await.unwrap();
    }
    handle.close();
    assert_eq!(task.await.unwrap(), Unwritten::default());
    let rows = store.stores().ledger.recent(None, 5_000).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.request).collect::<HashSet<_>>().len(), 2000);
    assert_eq!(store.stores().entries.counts().await.unwrap(), Counts { entries: 2000, points: 4000 });
    store.close().await;
}
