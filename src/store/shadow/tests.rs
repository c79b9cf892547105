//! The shadow between two real databases, and one that is not there.

use std::path::{Path, PathBuf};

use super::mirror::Opener;
use super::*;
use crate::config::Migrate;
use crate::store::sample::{
    audit_row, decision, delete, entry_id, key_row, label, learned, link, new_decision, put, request_id, row, tenant,
    tenant_record,
};
use crate::store::{Database, SqliteStore};

fn opener(path: PathBuf) -> Opener {
    Arc::new(move || {
        let url = StoreUrl::Sqlite(path.clone());
        Box::pin(async move { Database::open(&url, Migrate::Auto).await.map_err(|error| error.to_string()) })
    })
}

async fn sqlite(path: &Path) -> (Arc<SqliteStore>, Stores) {
    let store = SqliteStore::open(path, Migrate::Auto).await.unwrap();
    let stores = store.stores();
    (store, stores)
}

/// Waits for a state of the counters.
async fn until(handle: &ShadowHandle, what: &str, holds: impl Fn(&ShadowStats) -> bool) {
    for _ in 0..6_000 {
        if holds(&handle.stats()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited in vain: {what}: {:?}", handle.stats());
}

async fn everything(stores: &Stores) -> String {
    let entries = stores.entries.export(None, 1_000).await.unwrap();
    let rows = stores.ledger.page(None, 1_000).await.unwrap();
    let decisions = stores.decisions.since(None, 0, None, 1_000).await.unwrap();
    let learned = stores.decisions.learned().await.unwrap();
    let audit = stores.audit.audit_page(None, 1_000).await.unwrap();
    let tenants = stores.tenants.list().await.unwrap();
    let (directory, chain) =
        (stores.directory.directory().await.unwrap(), stores.audit.audit_chain(0, 1_000).await.unwrap());
    format!("{entries:?} {rows:?} {decisions:?} {learned:?} {audit:?} {tenants:?} {directory:?} {chain:?}")
}

#[tokio::test]
async fn every_write_reaches_the_second_store_in_order() {
    let home = tempfile::tempdir().unwrap();
    let (_a, first) = sqlite(&home.path().join("a.db")).await;
    let (stores, handle, mirror) = shadow(&first, StoreUrl::Sqlite("b.db".into()), opener(home.path().join("b.db")));
    let task = tokio::spawn(mirror.run());
    stores
        .tenants
        .upsert(&[TenantRow { tenant: tenant("t"), declared: true, created_at: 1, updated_at: 1 }])
        .await
        .unwrap();
    for number in 1..=50 {
        stores.entries.apply(&[put("t", number)]).await.unwrap();
        if number % 5 == 0 {
            stores.entries.apply(&[link("t", number, 0, number - 1), delete("t", number - 2)]).await.unwrap();
        }
        if number % 7 == 0 {
            stores.audit.record(&audit_row(number), &[delete("t", number)]).await.unwrap();
        }
    }
    stores.ledger.append(&(1..=100).map(|number| row("t", number)).collect::<Vec<_>>()).await.unwrap();
    stores.decisions.write(&[new_decision(decision("t", 1)), label(1, true, "miss")]).await.unwrap();
    stores.decisions.write(&[new_decision(decision("t", 2))]).await.unwrap();
    assert_eq!(stores.decisions.forget(2, 10).await.unwrap(), 1);
    stores.decisions.save_learned(&[learned("t", "m", 1)]).await.unwrap();
    let puts = [DirectoryWrite::PutTenant(tenant_record("t")), DirectoryWrite::PutKey(key_row("t", 1))];
    assert_eq!(stores.directory.change_directory(0, &puts, &[audit_row(90)]).await.unwrap(), Some(1));
    let delete = [DirectoryWrite::PutKey(key_row("t", 2)), DirectoryWrite::DeleteKey(key_row("t", 1).id)];
    assert_eq!(stores.directory.change_directory(1, &delete, &[audit_row(91)]).await.unwrap(), Some(2));
    assert_eq!(stores.directory.change_directory(1, &puts, &[audit_row(92)]).await.unwrap(), None);
    stores.entries.purge().await.unwrap();
    until(&handle, "all written", |stats| stats.pending == 0 && stats.mirrored > 0).await;
    let (_b, second) = sqlite(&home.path().join("b.db")).await;
    let all = everything(&first).await;
    assert!(all.len() > 10_000, "there is something to compare");
    assert_eq!(everything(&second).await, all);
    let stats = handle.stats();
    assert_eq!((stats.failed, stats.dropped, stats.catch_up_needed()), (0, 0, false), "{stats:?}");
    assert!(stats.connected);
    handle.close();
    task.await.unwrap();
}

#[tokio::test]
async fn a_second_store_that_is_away_costs_the_first_nothing_and_is_counted() {
    let home = tempfile::tempdir().unwrap();
    let (_a, first) = sqlite(&home.path().join("a.db")).await;
    // The directory is missing, so it cannot be opened until it is made.
    let there = home.path().join("later");
    let (stores, handle, mirror) = shadow(&first, StoreUrl::Sqlite("b.db".into()), opener(there.join("b.db")));
    let task = tokio::spawn(mirror.run());
    for number in 1..=20 {
        stores.ledger.append(&[row("t", number)]).await.unwrap();
    }
    assert_eq!(first.ledger.count().await.unwrap(), 20, "the first has them");
    // More than may wait.
    let rows: Vec<_> = (100..1_100).map(|number| row("t", number)).collect();
    for _ in 0..=ROWS / 1_000 {
        stores.ledger.append(&rows).await.unwrap();
    }
    let stats = handle.stats();
    assert!(stats.pending <= ROWS && stats.dropped >= 1_000 && stats.mirrored == 0, "{stats:?}");
    until(&handle, "what waited is given up", |stats| stats.pending == 0).await;
    let stats = handle.stats();
    assert!(stats.catch_up_needed() && stats.failed > 0 && !stats.connected, "{stats:?}");
    assert!(stats.problem.as_deref().is_some_and(|problem| problem.contains("does not exist")), "{stats:?}");

    std::fs::create_dir(&there).unwrap();
    let dropped = stats.dropped;
    let mut number = 5_000;
    while !handle.stats().connected {
        number += 1;
        assert!(number < 5_500, "it does not come back: {:?}", handle.stats());
        stores.ledger.append(&[row("t", number)]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    until(&handle, "written again", |stats| stats.pending == 0 && stats.mirrored > 0).await;
    assert!(handle.stats().dropped >= dropped, "what was lost stays counted");
    handle.close();
    task.await.unwrap();
}

#[tokio::test]
async fn reads_are_compared_and_differences_counted() {
    let home = tempfile::tempdir().unwrap();
    let (_a, first) = sqlite(&home.path().join("a.db")).await;
    first.entries.apply(&[put("t", 1)]).await.unwrap();
    first.ledger.append(&[row("t", 1)]).await.unwrap();
    let (stores, handle, mirror) = shadow(&first, StoreUrl::Sqlite("b.db".into()), opener(home.path().join("b.db")));
    let task = tokio::spawn(mirror.run());
    until(&handle, "open", |stats| stats.connected).await;
    stores.ledger.append(&[row("t", 2)]).await.unwrap();
    assert!(stores.ledger.request(request_id(2)).await.unwrap().is_some());
    until(&handle, "one compared", |stats| stats.compared == 1).await;
    assert_eq!(handle.stats().different, 0);
    // What was there before the shadow is not in it.
    assert!(stores.entries.entry(&tenant("t"), entry_id(1)).await.unwrap().is_some());
    assert!(stores.ledger.request(request_id(1)).await.unwrap().is_some());
    until(&handle, "three compared", |stats| stats.compared == 3).await;
    assert_eq!(handle.stats().different, 2);
    handle.close();
    task.await.unwrap();
}

#[tokio::test]
async fn rem_data_reaches_the_second_store_and_goes_there_too() {
    use crate::ids::RemId;
    use crate::store::rem::{Owner, RemRow, RemTable, RemWrite, forgotten_note};
    let home = tempfile::tempdir().unwrap();
    let (_a, first) = sqlite(&home.path().join("a.db")).await;
    let (stores, handle, mirror) = shadow(&first, StoreUrl::Sqlite("b.db".into()), opener(home.path().join("b.db")));
    let task = tokio::spawn(mirror.run());
    let row = |number: u8, entry| RemRow {
        id: RemId::from_bytes([number; 16]),
        table: RemTable::Resources,
        owner: Owner::Public,
        name: format!("row {number}"),
        text: "text".into(),
        label: String::new(),
        uri: None,
        tags: Vec::new(),
        data: serde_json::Map::new(),
        aliases: Vec::new(),
        starts_at: None,
        ends_at: None,
        previous: None,
        part_of: None,
        entry,
        made: entry.is_some(),
        writer: None,
        created_at: 1,
        updated_at: 1,
        deleted_at: None,
    };
    let put_row = |number, entry| RemWrite::Put { row: Box::new(row(number, entry)), vector: None, edges: None };
    let rem = stores.rem.as_ref().unwrap();
    stores.entries.apply(&[put("t", 1), put("t", 2)]).await.unwrap();
    let writes = [put_row(1, Some(entry_id(1))), put_row(2, Some(entry_id(2))), put_row(3, None), put_row(4, None)];
    rem.rem_apply(&tenant("t"), &writes).await.unwrap();
    rem.rem_apply(&tenant("u"), &writes[2..]).await.unwrap();
    stores.entries.apply(&[delete("t", 1)]).await.unwrap();
    rem.rem_apply(&tenant("t"), &[RemWrite::Purge { id: RemId::from_bytes([3; 16]), owner: Owner::Public }])
        .await
        .unwrap();
    assert_eq!(rem.rem_forget_tenant(&tenant("u"), None, 10).await.unwrap(), 2);
    stores.notes.set_note(&forgotten_note(&tenant("u"), None), Some("7")).await.unwrap();
    until(&handle, "nothing waits", |stats| stats.pending == 0 && stats.mirrored > 0).await;
    assert_eq!(handle.stats().dropped, 0);
    let (_b, second) = sqlite(&home.path().join("b.db")).await;
    let all = rem.rem_export(None, 100).await.unwrap();
    assert_eq!(
        all.iter().filter_map(|row| row.row.as_ref()).map(|row| &*row.name).collect::<Vec<_>>(),
        ["row 2", "row 4"]
    );
    assert_eq!(second.rem.as_ref().unwrap().rem_export(None, 100).await.unwrap(), all);
    let note = second.notes.note(&forgotten_note(&tenant("u"), None)).await.unwrap();
    assert_eq!(note.as_deref(), Some("7"), "what was deleted is not filled again there either");
    handle.close();
    task.await.unwrap();
}

#[tokio::test]
async fn a_write_that_nobody_waits_for_any_more_reaches_both_stores_or_none() {
    let home = tempfile::tempdir().unwrap();
    let (_a, first) = sqlite(&home.path().join("a.db")).await;
    let (stores, handle, mirror) = shadow(&first, StoreUrl::Sqlite("b.db".into()), opener(home.path().join("b.db")));
    let task = tokio::spawn(mirror.run());
    for number in 1..=200 {
        // Given up after a few polls, which may be before, in or after the write to the first store.
        let (writes, rows) = ([put("t", number)], [row("t", number)]);
        let write = async { tokio::join!(stores.entries.apply(&writes), stores.ledger.append(&rows)) };
        let mut write = std::pin::pin!(write);
        for _ in 0..number % 5 {
            let polled = std::future::poll_fn(|context| std::task::Poll::Ready(write.as_mut().poll(context)));
            if polled.await.is_ready() {
                break;
            }
            tokio::time::sleep(Duration::from_micros(number * 10)).await;
        }
    }
    handle.settled().await;
    handle.close();
    task.await.unwrap();
    assert_eq!(handle.stats().dropped, 0);
    let (_b, second) = sqlite(&home.path().join("b.db")).await;
    assert_eq!(everything(&first).await, everything(&second).await);
    assert!(first.entries.counts().await.unwrap().entries >= 100, "most were begun");
}
