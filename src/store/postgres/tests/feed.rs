//! The order of changes, with several replicas on one database.

use std::collections::HashSet;
use std::time::Duration;

use sqlx::query_scalar;

use super::super::super::sample::{delete, drop_point, entry_id, link, merge, point, put, tenant};
use super::super::super::{Change, EntryFilter, EntryWrite, Feed, What};
use super::*;

async fn feed(stores: &Stores, after: u64) -> Feed {
    stores.changes.as_ref().unwrap().feed(after, 10_000).await.unwrap()
}

/// Which entries changed, and whether this replica knows it.
fn told(feed: &Feed) -> Vec<(u64, bool)> {
    let entry = |change: &Change| match &change.what {
        What::Entry { entry, .. } => (u64::try_from(u128::from_be_bytes(entry.to_bytes())).unwrap(), change.own),
        What::Invalidated { .. } => (0, change.own),
    };
    feed.changes.iter().map(entry).collect()
}

fn invalidated(at: u64) -> EntryWrite {
    EntryWrite::Invalidated { at, filter: "{\"all\":\"\0\"}".into() }
}

#[tokio::test]
async fn a_change_is_told_once_for_each_entry_and_batch_and_known_to_who_made_it() {
    let database = EmptyDatabase::new().await;
    let (one, two) = (database.open().await, database.open().await);
    let (one, two) = (one.stores(), two.stores());
    assert_eq!(feed(&one, 0).await, Feed { changes: vec![], oldest: 1, head: 0 });

    one.entries.apply(&[put("t", 1), put("t", 2), EntryWrite::AddPoint(point("t", 1, 5)), put("u", 1)]).await.unwrap();
    let seen = feed(&one, 0).await;
    let mut names: Vec<_> = told(&seen);
    names.sort_unstable();
    assert_eq!(names, [(1, true), (1, true), (2, true)]);
    assert_eq!(seen.changes.iter().map(|change| change.seq).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(told(&feed(&two, 0).await).iter().all(|(_, own)| !own), "to the other replica they are news");

    // Nothing changed, so nothing is told.
    one.entries.apply(&[put("t", 1), delete("t", 9), drop_point("t", 9, 0), link("t", 1, 0, 9)]).await.unwrap();
    assert_eq!(feed(&one, 0).await.head, 3);

    // What moves must be read again by everybody.
    two.entries.apply(&[put("t", 3), link("t", 2, 0, 1), delete("u", 1)]).await.unwrap();
    let mut after: Vec<_> = told(&feed(&two, 3).await);
    after.sort_unstable();
    assert_eq!(after, [(1, false), (1, true), (2, false), (3, true)]);
    two.entries.apply(&[merge("t", 2, 1), drop_point("t", 1, 5)]).await.unwrap();
    let mut after: Vec<_> = told(&feed(&two, 7).await);
    after.sort_unstable();
    assert_eq!(after, [(1, false), (2, false)]);
}

/// Writes as the writer does: again, when too many others were at the same rows.
async fn write(stores: &Stores, batch: &[EntryWrite]) {
    while let Err(error) = stores.entries.apply(batch).await {
        assert_eq!(error.as_str(), "conflict", "{error}");
    }
}

#[tokio::test]
async fn numbers_have_no_gaps_under_eight_writers() {
    let database = EmptyDatabase::new().await;
    let (one, two) = (database.open().await, database.open().await);
    let mut writing = Vec::new();
    for writer in 0..8u64 {
        let stores = if writer % 2 == 0 { one.stores() } else { two.stores() };
        writing.push(tokio::spawn(async move {
            for round in 0..12 {
                let base = writer * 1_000 + round * 3;
                // One entry that all writers fight for, and one batch that fails: it must take no number.
                let batch =
                    [put("t", base), put("t", base + 1), EntryWrite::AddPoint(point("t", 7, base)), put("t", 7)];
                write(&stores, &batch).await;
                write(&stores, &[delete("t", base), delete("t", 7)]).await;
                let odd = EntryWrite::Put {
                    entry: Arc::new(super::super::super::Entry {
                        tenant: tenant("no\0t"),
                        ..super::super::super::sample::entry("t", 5)
                    }),
                    points: vec![],
                };
                assert_eq!(stores.entries.apply(&[put("t", base + 2), odd]).await.unwrap_err().as_str(), "failed");
            }
        }));
    }
    // A reader that follows sees every number once and in order, whatever commits in between.
    let reading = tokio::spawn({
        let stores = two.stores();
        async move {
            let mut last = 0;
            let mut seen = Vec::new();
            loop {
                let feed = stores.changes.as_ref().unwrap().feed(last, 50).await.unwrap();
                for change in &feed.changes {
                    assert_eq!(change.seq, last + 1, "a gap");
                    last = change.seq;
                    if let What::Entry { entry, .. } = change.what {
                        seen.push((entry, change.own));
                    }
                }
                if seen.iter().any(|(entry, _)| *entry == entry_id(999_999)) {
                    return seen;
                }
            }
        }
    });
    for each in writing {
        each.await.unwrap();
    }
    one.stores().entries.apply(&[put("t", 999_999)]).await.unwrap();
    let seen = reading.await.unwrap();
    let own: HashSet<bool> = seen.iter().filter(|(entry, _)| *entry != entry_id(7)).map(|(_, own)| *own).collect();
    assert_eq!(own.len(), 2, "both replicas wrote");
    for writer in 0..8u64 {
        for round in 0..12 {
            let base = writer * 1_000 + round * 3;
            let told = seen.iter().filter(|(entry, _)| *entry == entry_id(base)).collect::<Vec<_>>();
            assert_eq!(told.len(), 2, "put and deleted");
            assert!(told.iter().all(|(_, own)| *own == (writer % 2 == 1)));
            assert!(!seen.iter().any(|(entry, _)| *entry == entry_id(base + 2)), "what was rolled back was told");
        }
    }
}

#[tokio::test]
async fn a_replica_that_has_not_obeyed_an_invalidation_stores_nothing() {
    let database = EmptyDatabase::new().await;
    let (one, two) = (database.open().await, database.open().await);
    let (one, two) = (one.stores(), two.stores());
    let changes = two.changes.clone().unwrap();
    changes.obeyed(0);
    two.entries.apply(&[put("t", 1), put("t", 2), put("t", 8)]).await.unwrap();
    changes.obeyed(3);

    one.entries.apply(&[delete("t", 1), invalidated(77)]).await.unwrap();
    for write in [put("t", 3), EntryWrite::AddPoint(point("t", 2, 7)), link("t", 2, 1, 8), merge("t", 2, 8)] {
        assert_eq!(two.entries.apply(&[write]).await.unwrap_err().as_str(), "behind");
    }
    assert_eq!(feed(&two, 0).await.head, 5, "what was refused has no number");
    assert_eq!(two.entries.points_of(&tenant("t"), entry_id(2)).await.unwrap().len(), 2);
    // What stores nothing is not refused, nor is a store that nobody reads for.
    two.entries.apply(&[delete("t", 2)]).await.unwrap();
    one.entries.apply(&[put("t", 5)]).await.unwrap();

    let seen = feed(&two, 3).await;
    let what = What::Invalidated { at: 77, filter: "{\"all\":\"\0\"}".into() };
    assert_eq!((seen.changes[1].seq, &seen.changes[1].what, seen.changes[1].own), (5, &what, false));
    changes.obeyed(4);
    assert_eq!(two.entries.apply(&[put("t", 3)]).await.unwrap_err().as_str(), "behind");
    changes.obeyed(5);
    two.entries.apply(&[put("t", 3)]).await.unwrap();
    // Its own invalidation is not before its own batch.
    two.entries.apply(&[put("t", 6), invalidated(78)]).await.unwrap();
    assert_eq!(two.entries.apply(&[put("t", 7)]).await.unwrap_err().as_str(), "behind");
}

#[tokio::test]
async fn what_was_withdrawn_is_not_stored_and_the_rest_of_its_batch_is() {
    let database = EmptyDatabase::new().await;
    let opened = database.open().await;
    let stores = opened.stores();
    let changes = stores.changes.clone().unwrap();
    stores.entries.apply(&[put("t", 1), put("t", 2)]).await.unwrap();
    // 2 is in the store already; the point of 4 has joined another entry, and was withdrawn with that one.
    let EntryWrite::Put { points, .. } = put("t", 4) else { unreachable!() };
    changes.withdraw(&[entry_id(2), entry_id(3)], &[points[0].id, point("t", 1, 8).id]);
    let batch = [put("t", 3), put("t", 4), put("t", 5), EntryWrite::AddPoint(point("t", 1, 8)), delete("t", 1)];
    stores.entries.apply(&batch[..4]).await.unwrap();
    let seen = feed(&stores, 2).await;
    let told: Vec<_> = seen.changes.iter().map(|change| change.what.clone()).collect();
    assert_eq!(told, [What::Entry { tenant: tenant("t"), entry: entry_id(5) }]);
    let left = stores.entries.list(None, &EntryFilter::default(), None, 10).await.unwrap();
    assert_eq!(left.len(), 3);
    stores.entries.apply(&batch[4..]).await.unwrap();
    assert_eq!(feed(&stores, 3).await.changes.len(), 1, "what takes out is done");
    // What was withdrawn joins nothing, and nothing joins it.
    for write in [link("t", 2, 1, 5), link("t", 5, 1, 2), merge("t", 2, 5), merge("t", 5, 2)] {
        stores.entries.apply(&[write]).await.unwrap();
    }
    assert_eq!(feed(&stores, 4).await.changes.len(), 0);
    // Another replica is not concerned.
    let other = database.open().await;
    other.stores().entries.apply(&[put("t", 3)]).await.unwrap();
    assert_eq!(feed(&stores, 4).await.changes.len(), 1);
}

#[tokio::test]
async fn old_changes_are_forgotten_from_the_oldest_on_and_leave_no_hole() {
    let temp = TempDatabase::open().await;
    let stores = temp.stores();
    let changes = stores.changes.clone().unwrap();
    for number in 1..=6 {
        stores.entries.apply(&[put("t", number)]).await.unwrap();
    }
    temp.database.sql("UPDATE changes SET at = seq * 100; UPDATE changes SET at = 350 WHERE seq = 2").await;
    assert_eq!(changes.before(150).await.unwrap(), 1);
    assert_eq!(changes.before(400).await.unwrap(), 3);
    assert_eq!(changes.before(601).await.unwrap(), 6, "the newest, if there is none");
    // 3 is older than 340 but 2 is not: 3 stays with it.
    assert_eq!(changes.forget_changes(340, 10).await.unwrap(), 1);
    assert_eq!(changes.forget_changes(500, 2).await.unwrap(), 2);
    let seen = feed(&stores, 0).await;
    assert_eq!((seen.oldest, seen.head, seen.changes.len()), (4, 6, 3));
    assert_eq!(changes.forget_changes(u64::MAX, 10).await.unwrap(), 3);
    let seen = feed(&stores, 0).await;
    assert_eq!((seen.oldest, seen.head, seen.changes.len()), (7, 6, 0));
    assert_eq!(changes.before(0).await.unwrap(), 6);
    assert_eq!(stores.changes.unwrap().feed(3, 1).await.unwrap().changes.len(), 0);
}

#[tokio::test]
async fn a_reader_is_woken_by_another_replica_and_told_when_the_connection_is_lost() {
    let database = EmptyDatabase::new().await;
    let (one, two) = (database.open().await, database.open().await);
    let (writer, reader) = (one.stores(), two.stores().changes.unwrap());
    let soon = Duration::from_secs(30);
    // The first call only connects: something may have happened before.
    tokio::time::timeout(soon, reader.changed()).await.unwrap().unwrap();
    for number in 1..=2 {
        writer.entries.apply(&[put("t", number)]).await.unwrap();
        tokio::time::timeout(soon, reader.changed()).await.expect("nobody was woken").unwrap();
    }
    // A call that is given up loses no later wake-up.
    assert!(tokio::time::timeout(Duration::from_millis(20), reader.changed()).await.is_err());

    let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
        WHERE datname = current_database() AND query LIKE 'LISTEN%'";
    let killed: i64 = query_scalar(kill).fetch_one(&mut database.connect().await).await.unwrap();
    assert_eq!(killed, 1);
    let error = tokio::time::timeout(soon, reader.changed()).await.unwrap().unwrap_err();
    assert_eq!(error.as_str(), "unreachable", "{error}");

    tokio::time::timeout(soon, reader.changed()).await.unwrap().unwrap();
    writer.entries.apply(&[put("t", 3)]).await.unwrap();
    tokio::time::timeout(soon, reader.changed()).await.expect("nobody was woken after the loss").unwrap();
}
