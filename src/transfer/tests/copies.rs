//! What `copy` and `verify` promise.

use proptest::prelude::*;

use super::samples::Chance;
use super::*;
use crate::ids::RequestId;
use crate::store::DirectoryWrite::{self, DeleteKey, DeleteTenant, PutKey, PutTenant, PutToken};
use crate::store::sample::{
    audit_row, decision, delete, entry, entry_id, key_row, label, learned, link, merge, new_decision, point, put,
    put_entry, row, tenant, tenant_record, token_row,
};
use crate::store::{DecisionRow, KeyRow, LearnedRow, LedgerRow, TenantRow, verify_audit};
use crate::transfer::Tally;
use crate::transfer::records::Requests;
use crate::transfer::walk::Walk;

/// Some of everything.
async fn some(stores: Stores) {
    let entries: Vec<_> = (1..=40).map(|number| put("t", number)).collect();
    stores.entries.apply(&entries).await.unwrap();
    let rows: Vec<_> = (1..=100).map(|number| row("t", number)).collect();
    stores.ledger.append(&rows).await.unwrap();
    let decisions = (1..=30).map(|n| new_decision(DecisionRow { right: None, label: None, ..decision("t", n) }));
    stores.decisions.write(&decisions.collect::<Vec<_>>()).await.unwrap();
    stores.decisions.save_learned(&[learned("t", "gpt-4o", 5)]).await.unwrap();
    stores.audit.record(&audit_row(1), &[]).await.unwrap();
    let t = TenantRow { tenant: tenant("t"), declared: true, created_at: 1, updated_at: 1 };
    stores.tenants.upsert(&[t]).await.unwrap();
    stores.directory.change_directory(0, &directory(), &[audit_row(7)]).await.unwrap();
}

fn directory() -> Vec<DirectoryWrite> {
    let mut writes: Vec<_> = (1..=5).map(|number| PutKey(key_row("t", number))).collect();
    writes.extend([PutTenant(tenant_record("t")), PutToken(token_row(1)), PutToken(token_row(2))]);
    writes
}

fn tally(report: &CopyReport, table: Table) -> Tally {
    report.tables[&table]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_copy_of_a_copy_is_the_same(seed in any::<u64>(), most in 0_usize..400) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let home = tempfile::tempdir().unwrap();
            let (a, b, c) = (sqlite(home.path(), "a.db"), sqlite(home.path(), "b.db"), sqlite(home.path(), "c.db"));
            with(&a, |stores| async move { Chance::new(seed).fill(&stores, most).await }).await;
            copied(&a, &b).await;
            copied(&b, &c).await;
            assert_equal(&a, &b).await;
            assert_equal(&a, &c).await;
            let again = copied(&c, &a).await;
            assert!(again.tables.values().all(|t| t.added + t.changed + t.deleted + t.different == 0), "{again:?}");
        });
    }

    #[test]
    fn a_destination_that_has_drifted_is_brought_back(seed in any::<u64>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let home = tempfile::tempdir().unwrap();
            let (a, b) = (sqlite(home.path(), "a.db"), sqlite(home.path(), "b.db"));
            with(&a, |stores| async move { Chance::new(seed).fill(&stores, 300).await }).await;
            copied(&a, &b).await;
            // Entries of its own, which the source does not have, between those that it has and in one lump.
            with(&b, |stores| async move {
                let mut chance = Chance::new(seed.wrapping_add(1));
                let own: Vec<_> = (0..50).map(|_| chance.entry()).chain((1..900).map(|n| put("zz", n))).collect();
                stores.entries.apply(&own).await.unwrap();
            })
            .await;
            let report = copied(&a, &b).await;
            assert_eq!(tally(&report, Table::Entries).deleted, 949);
            assert_equal(&a, &b).await;
        });
    }
}

#[tokio::test]
async fn what_changes_at_the_source_between_two_passes_is_followed() {
    let home = tempfile::tempdir().unwrap();
    let (a, b) = (sqlite(home.path(), "a.db"), sqlite(home.path(), "b.db"));
    with(&a, some).await;
    let first = copied(&a, &b).await;
    assert_eq!(tally(&first, Table::Entries), Tally { read: 40, added: 40, ..Tally::default() });
    assert_eq!(tally(&first, Table::Requests).added, 100);
    with(&a, |stores| async move {
        let writes = [link("t", 4, 0, 3), link("t", 6, 1, 5), merge("t", 8, 7), delete("t", 20), put("t", 41)];
        stores.entries.apply(&writes).await.unwrap();
        stores.ledger.append(&[row("t", 101)]).await.unwrap();
        stores.decisions.write(&[label(3, true, "miss"), new_decision(decision("t", 31))]).await.unwrap();
        stores.decisions.save_learned(&[learned("t", "gpt-4o", 6)]).await.unwrap();
        stores.audit.record(&audit_row(2), &[]).await.unwrap();
    })
    .await;
    let expected =
        vec![(Table::Entries, 8), (Table::Requests, 1), (Table::Decisions, 2), (Table::Learned, 1), (Table::Audit, 1)];
    assert_eq!(differences(&a, &b).await, expected, "3 to 7 without 8, and 8, 20, 41 on one side only");
    let second = copied(&a, &b).await;
    let entries = Tally { read: 39, added: 1, changed: 5, deleted: 2, different: 0 };
    assert_eq!(tally(&second, Table::Entries), entries);
    let decisions = tally(&second, Table::Decisions);
    assert_eq!((decisions.added, decisions.changed), (1, 1));
    assert_equal(&a, &b).await;
    with(&b, |stores| async move {
        assert_eq!(stores.entries.points_of(&tenant("t"), entry_id(3)).await.unwrap().len(), 3);
        assert_eq!(stores.entries.entry(&tenant("t"), entry_id(20)).await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn a_walk_does_not_run_after_a_source_that_grows_as_fast() {
    let home = tempfile::tempdir().unwrap();
    with(&sqlite(home.path(), "a.db"), |stores| async move {
        let rows: Vec<_> = (1..=200).map(|number| row("t", number)).collect();
        stores.ledger.append(&rows).await.unwrap();
        let mut walk: Walk<'_, Requests> = Walk::new(&stores, None, None, None, u32::MAX);
        let mut read = 0;
        while let Some(window) = walk.next().await.unwrap() {
            read += window.source.len() as u64;
            assert!(read < 1_000, "it does not end");
            stores.ledger.append(&[row("t", 10_000 + read)]).await.unwrap();
        }
        assert!(read >= 200, "what was there at the beginning is read: {read}");
    })
    .await;
}

#[tokio::test]
async fn a_single_changed_row_of_any_table_is_found() {
    let home = tempfile::tempdir().unwrap();
    let a = sqlite(home.path(), "a.db");
    with(&a, some).await;
    let other = |name: &str| sqlite(home.path(), name);

    // One byte of one body, of the same length.
    let b = other("body.db");
    copied(&a, &b).await;
    with(&b, |stores| async move {
        let mut changed = entry("t", 7);
        changed.body = changed.body.iter().map(|byte| if *byte == b'7' { b'8' } else { *byte }).collect();
        let points = vec![point("t", 7, 0), point("t", 7, 1)];
        stores.entries.apply(&[delete("t", 7), put_entry(changed, points)]).await.unwrap();
    })
    .await;
    assert_eq!(differences(&a, &b).await, [(Table::Entries, 1)]);
    let shallow = copied(&a, &b).await;
    assert_eq!(tally(&shallow, Table::Entries).changed, 0, "the length is the same");
    let deep = CopyOptions { deep: true, ..CopyOptions::default() };
    assert_eq!(tally(&copy(&a, &b, &deep, &quiet()).await.unwrap(), Table::Entries).changed, 1);
    assert_equal(&a, &b).await;

    let c = other("rows.db");
    with(&c, |stores| async move {
        stores.ledger.append(&[LedgerRow { status: 201, ..row("t", 50) }]).await.unwrap();
        stores.decisions.write(&[new_decision(decision("other", 5))]).await.unwrap();
        stores.audit.record(&crate::store::AuditRow { at: 9, ..audit_row(1) }, &[]).await.unwrap();
        let newer = LearnedRow { state: "{}".into(), ..learned("t", "gpt-4o", 9) };
        stores.decisions.save_learned(&[newer]).await.unwrap();
    })
    .await;
    let report = copied(&a, &c).await;
    let left: Vec<_> = report.tables.iter().map(|(table, tally)| (*table, tally.different)).collect();
    let ones = [Table::Requests, Table::Decisions, Table::Learned, Table::Audit];
    assert_eq!(left.iter().filter(|(_, n)| *n > 0).copied().collect::<Vec<_>>(), ones.map(|table| (table, 1)));
    assert_eq!(differences(&a, &c).await, ones.map(|table| (table, 1)), "told, and not overwritten");
}

#[tokio::test]
async fn the_catch_up_pass_looks_at_what_is_new_only() {
    let home = tempfile::tempdir().unwrap();
    let (a, b) = (sqlite(home.path(), "a.db"), sqlite(home.path(), "b.db"));
    const HOUR: u64 = 3_600_000;
    let at = |hour: u64| LedgerRow { request: RequestId::at(100_000 * HOUR + hour * HOUR), ..row("t", hour) };
    with(&a, |stores| async move { stores.ledger.append(&(0..50).map(at).collect::<Vec<_>>()).await.unwrap() }).await;
    let since = CopyOptions { since: Some(100_045 * HOUR), ..CopyOptions::default() };
    let report = copy(&a, &b, &since, &quiet()).await.unwrap();
    assert_eq!(tally(&report, Table::Requests).read, 6, "45 to 49, and one hour of margin");
    assert_eq!(tally(&copied(&a, &b).await, Table::Requests).added, 44, "a full pass completes it");
    assert_equal(&a, &b).await;
}

#[tokio::test]
async fn a_dry_run_says_what_would_be_done_and_writes_nothing() {
    let home = tempfile::tempdir().unwrap();
    let (a, b) = (sqlite(home.path(), "a.db"), sqlite(home.path(), "b.db"));
    with(&a, some).await;
    let look = CopyOptions { dry_run: true, ..CopyOptions::default() };
    let report = copy(&a, &b, &look, &quiet()).await.unwrap();
    assert_eq!((tally(&report, Table::Entries).added, tally(&report, Table::Requests).added), (40, 100));
    assert!(!home.path().join("b.db").exists() && !home.path().join("b.db.key").exists());
    copied(&a, &b).await;
    with(&a, |stores| async move { stores.entries.apply(&[delete("t", 1)]).await.unwrap() }).await;
    let report = copy(&a, &b, &look, &quiet()).await.unwrap();
    assert_eq!(tally(&report, Table::Entries).deleted, 1);
    assert_eq!(differences(&a, &b).await, [(Table::Entries, 1)], "nothing was done");
}

#[tokio::test]
async fn the_secret_goes_along_and_another_one_with_data_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let (a, b, c) = (sqlite(home.path(), "a.db"), sqlite(home.path(), "b.db"), sqlite(home.path(), "c.db"));
    with(&a, some).await;
    copied(&a, &b).await;
    assert_eq!(std::fs::read(b.key_file().unwrap()).unwrap(), SECRET);

    write_private(&c.key_file().unwrap(), &[9; 32]).unwrap();
    with(&c, |stores| async move { stores.entries.apply(&[put("t", 1)]).await.unwrap() }).await;
    let refused = copy(&a, &c, &CopyOptions::default(), &quiet()).await.unwrap_err();
    assert!(matches!(refused, TransferError::OtherSecret(_)), "{refused}");
    with(&c, |stores| async move {
        assert_eq!(stores.ledger.count().await.unwrap(), 0, "nothing was written");
        stores.entries.apply(&[delete("t", 1)]).await.unwrap();
    })
    .await;
    copied(&a, &c).await;
    assert_eq!(std::fs::read(c.key_file().unwrap()).unwrap(), SECRET, "an empty database takes the secret");
    assert_eq!(std::fs::read(home.path().join("c.db.key.old")).unwrap(), [9; 32], "the other one is kept");

    std::fs::remove_file(a.key_file().unwrap()).unwrap();
    let lost = copy(&a, &sqlite(home.path(), "d.db"), &CopyOptions::default(), &quiet()).await.unwrap_err();
    assert!(matches!(lost, TransferError::NoSecret(_)), "{lost}");
}

#[tokio::test]
async fn a_database_is_not_copied_onto_itself_nor_under_a_running_program() {
    let home = tempfile::tempdir().unwrap();
    let (a, b) = (sqlite(home.path(), "a.db"), sqlite(home.path(), "b.db"));
    with(&a, some).await;
    std::os::unix::fs::symlink(home.path().join("a.db"), home.path().join("alias.db")).unwrap();
    for name in ["a.db", "alias.db"] {
        let to = sqlite(home.path(), name);
        let refused = copy(&a, &to, &CopyOptions::default(), &quiet()).await.unwrap_err();
        assert!(matches!(refused, TransferError::Same(_)), "{refused}");
    }
    copied(&a, &b).await;
    let key = std::fs::File::open(b.key_file().unwrap()).unwrap();
    key.try_lock().unwrap();
    let refused = copy(&a, &b, &CopyOptions::default(), &quiet()).await.unwrap_err();
    assert!(matches!(refused, TransferError::InUse(_)), "{refused}");
}

#[tokio::test]
async fn a_checkpoint_is_gone_on_from_and_taken_away_at_the_end() {
    let home = tempfile::tempdir().unwrap();
    let (a, b) = (sqlite(home.path(), "a.db"), sqlite(home.path(), "b.db"));
    with(&a, |stores| async move {
        stores.entries.apply(&(1..=2_000).map(|number| put("t", number)).collect::<Vec<_>>()).await.unwrap();
        some(stores).await;
    })
    .await;
    // Stops in the middle of the entries.
    let stop: Progress = Arc::new(|table, done, _| assert!(table != Table::Entries || done < 700, "stopped"));
    let (from, to) = (a.clone(), b.clone());
    let stopped = tokio::spawn(async move { copy(&from, &to, &CopyOptions::default(), &stop).await }).await;
    assert!(stopped.is_err());
    with(&a, |stores| async move { stores.entries.apply(&[delete("t", 3)]).await.unwrap() }).await;
    let second = copied(&a, &b).await;
    assert!(second.resumed);
    assert_eq!(tally(&second, Table::Entries).deleted, 1, "what changed before the checkpoint is followed too");
    assert_equal(&a, &b).await;
    assert!(!copied(&a, &b).await.resumed, "a finished copy has no checkpoint");
}

#[tokio::test]
async fn keys_that_were_revoked_at_the_source_do_not_live_on_at_the_destination() {
    let home = tempfile::tempdir().unwrap();
    let (a, b) = (sqlite(home.path(), "a.db"), sqlite(home.path(), "b.db"));
    with(&a, some).await;
    let first = copied(&a, &b).await;
    assert_eq!((tally(&first, Table::Keys).added, tally(&first, Table::Tokens).added), (5, 2));
    assert_equal(&a, &b).await;
    with(&a, |stores| async move {
        let less = KeyRow { spec: "{}".into(), ..key_row("t", 2) };
        let other = PutTenant(tenant_record("u"));
        let writes = [DeleteKey(key_row("t", 1).id), PutKey(less), other, PutKey(key_row("u", 9))];
        stores.directory.change_directory(1, &writes, &[audit_row(8)]).await.unwrap();
        stores.directory.note_used(&[(key_row("t", 3).id, 9_999)]).await.unwrap();
    })
    .await;
    let expected = vec![(Table::Audit, 1), (Table::Specs, 1), (Table::Keys, 3)];
    let told = differences(&a, &b).await.into_iter().filter(|(table, _)| *table != Table::Tenants).collect::<Vec<_>>();
    assert_eq!(told, expected, "a key was only used: that is none");
    let second = tally(&copied(&a, &b).await, Table::Keys);
    assert_eq!(second, Tally { read: 5, added: 1, changed: 1, deleted: 1, different: 0 });
    assert_equal(&a, &b).await;

    // The tenant ends at the destination, and nobody there has noticed that it has keys at the source.
    with(&b, |stores| async move {
        let version = stores.directory.directory_version().await.unwrap();
        stores
            .directory
            .change_directory(version, &[PutTenant(tenant_record("z")), PutKey(key_row("z", 50))], &[])
            .await
            .unwrap();
    })
    .await;
    assert_eq!(tally(&copied(&a, &b).await, Table::Specs).deleted, 1);
    assert_equal(&a, &b).await;
    with(&b, |stores| async move {
        let verdict = verify_audit(&*stores.audit).await.unwrap();
        assert_eq!((verdict.ok, verdict.rows), (true, 3), "the audit has a whole chain there");
        stores
            .directory
            .change_directory(stores.directory.directory_version().await.unwrap(), &[DeleteTenant(tenant("t"))], &[])
            .await
            .unwrap();
    })
    .await;
    copied(&a, &b).await;
    assert_equal(&a, &b).await;
}
