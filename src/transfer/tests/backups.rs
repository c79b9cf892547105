//! What `backup` and `restore` promise.

use std::fs;

use super::samples::Chance;
use super::*;
use crate::ids::KeyId;
use crate::store::DirectoryWrite::{DeleteToken, PutKey, PutTenant, PutToken};
use crate::store::rem::{FILLED_NOTE, forgotten_note};
use crate::store::sample::{audit_row, entry_id, key_row, learned, put, request_id, tenant, tenant_record, token_row};
use crate::store::{KeyRow, verify_audit};
use crate::transfer::{RestoreOptions, backup, check, restore};

const WRITE: RestoreOptions = RestoreOptions { dry_run: false, merge: false };

#[tokio::test]
async fn a_backup_restores_to_the_same() {
    let home = tempfile::tempdir().unwrap();
    let (a, b, file) = (sqlite(home.path(), "a.db"), sqlite(home.path(), "b.db"), home.path().join("all.backup"));
    with(&a, |stores| async move { Chance::new(1).fill(&stores, 3_000).await }).await;
    let written = backup(&a, &file, &quiet()).await.unwrap();
    assert_eq!(written.bytes, fs::metadata(&file).unwrap().len());
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    assert!(!home.path().join("all.backup.part").exists());

    let dry = RestoreOptions { dry_run: true, merge: false };
    let found = restore(&file, &b, &dry, &quiet()).await.unwrap();
    assert_eq!((&found.tables, &found.source[..]), (&written.tables, "sqlite"));
    assert!(!home.path().join("b.db").exists(), "a dry run writes nothing");

    restore(&file, &b, &WRITE, &quiet()).await.unwrap();
    assert_equal(&a, &b).await;
    let refused = restore(&file, &b, &WRITE, &quiet()).await.unwrap_err();
    assert!(matches!(refused, TransferError::NotEmpty(_)), "{refused}");
    let refused = restore(&file, &b, &dry, &quiet()).await.unwrap_err();
    assert!(matches!(refused, TransferError::NotEmpty(_)), "{refused}");
}

#[tokio::test]
async fn a_merge_adds_what_is_missing_and_keeps_what_is_there() {
    let home = tempfile::tempdir().unwrap();
    let (a, file) = (sqlite(home.path(), "a.db"), home.path().join("all.backup"));
    with(&a, |stores| async move {
        stores.entries.apply(&[put("t", 1), put("t", 2)]).await.unwrap();
        stores.decisions.save_learned(&[learned("t", "m", 1)]).await.unwrap();
    })
    .await;
    backup(&a, &file, &quiet()).await.unwrap();
    with(&a, |stores| async move {
        stores.entries.apply(&[crate::store::sample::delete("t", 1), put("t", 3)]).await.unwrap();
        stores.decisions.save_learned(&[learned("t", "m", 2)]).await.unwrap();
    })
    .await;
    restore(&file, &a, &RestoreOptions { dry_run: false, merge: true }, &quiet()).await.unwrap();
    with(&a, |stores| async move {
        for number in 1..=3 {
            assert!(stores.entries.entry(&tenant("t"), entry_id(number)).await.unwrap().is_some(), "{number}");
        }
        assert_eq!(stores.decisions.learned().await.unwrap(), [learned("t", "m", 2)], "the newer one stays");
    })
    .await;
}

#[tokio::test]
async fn whose_rem_data_was_deleted_is_known_in_a_copy_and_after_a_restore() {
    let home = tempfile::tempdir().unwrap();
    let [a, b, c, d] = ["a.db", "b.db", "c.db", "d.db"].map(|name| sqlite(home.path(), name));
    let file = home.path().join("all.backup");
    let names = [
        forgotten_note(&tenant("t"), None),
        forgotten_note(&tenant("t"), Some(&KeyId::new("t/app"))),
        FILLED_NOTE.to_owned(),
    ];
    let names = &names;
    let place = |number| request_id(number).to_string();
    let note = async |at: &Place, texts: [&str; 3]| {
        with(at, |stores| async move {
            stores.entries.apply(&[put("t", 1)]).await.unwrap();
            for (name, text) in names.iter().zip(texts) {
                stores.notes.set_note(name, Some(text)).await.unwrap();
            }
        })
        .await;
    };
    let noted = async |at: &Place| {
        let mut told = Vec::new();
        with(at, |stores| {
            let told = &mut told;
            async move {
                for name in names {
                    told.push(stores.notes.note(name).await.unwrap().unwrap_or_default());
                }
            }
        })
        .await;
        told
    };
    note(&a, ["1000", "6", &place(9)]).await;
    copied(&a, &b).await;
    assert_eq!(noted(&b).await, ["1000", "6", &place(9)]);
    // The later deletion counts, and the earlier place.
    note(&c, ["999", "7", &place(3)]).await;
    copied(&a, &c).await;
    assert_eq!(noted(&c).await, ["1000", "7", &place(3)]);
    backup(&a, &file, &quiet()).await.unwrap();
    restore(&file, &d, &WRITE, &quiet()).await.unwrap();
    assert_eq!(noted(&d).await, ["1000", "6", &place(9)]);
    note(&d, ["5", "8", &place(12)]).await;
    restore(&file, &d, &RestoreOptions { dry_run: false, merge: true }, &quiet()).await.unwrap();
    assert_eq!(noted(&d).await, ["1000", "8", &place(12)]);
}

#[tokio::test]
async fn every_truncation_and_every_flipped_bit_is_refused_before_anything_is_written() {
    let home = tempfile::tempdir().unwrap();
    let (a, file) = (sqlite(home.path(), "a.db"), home.path().join("all.backup"));
    with(&a, |stores| async move { Chance::new(2).fill(&stores, 30).await }).await;
    backup(&a, &file, &quiet()).await.unwrap();
    let whole = fs::read(&file).unwrap();
    let bad = home.path().join("bad.backup");
    let refused = |bytes: &[u8], what: &str| {
        fs::write(&bad, bytes).unwrap();
        let error = check(&bad).expect_err(what);
        assert!(matches!(error, TransferError::Damaged { .. } | TransferError::NotABackup { .. }), "{what}: {error}");
    };
    for length in (0..whole.len()).step_by(37) {
        refused(&whole[..length], &format!("cut at {length}"));
    }
    for at in (0..whole.len()).step_by(23) {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        refused(&flipped, &format!("flipped at {at}"));
    }
    refused(&[&whole[..], b"x"].concat(), "a byte too many");
    refused(&[&whole[..], &whole[..]].concat(), "twice");

    // The last one through the whole of `restore`: there is no database afterwards.
    let to = sqlite(home.path(), "b.db");
    assert!(restore(&bad, &to, &WRITE, &quiet()).await.is_err());
    assert!(!home.path().join("b.db").exists() && !home.path().join("b.db.key").exists());
    assert_eq!(check(&file).unwrap().tables.len(), Table::ALL.len(), "and whole it is accepted");
}

#[tokio::test]
async fn a_backup_that_fails_leaves_the_old_one() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("all.backup");
    fs::write(&file, "the old one").unwrap();
    let a = sqlite(home.path(), "a.db");
    with(&a, |stores| async move { stores.entries.apply(&[put("t", 1)]).await.unwrap() }).await;
    fs::remove_file(a.key_file().unwrap()).unwrap();
    assert!(matches!(backup(&a, &file, &quiet()).await.unwrap_err(), TransferError::NoSecret(_)));
    assert_eq!(fs::read(&file).unwrap(), b"the old one");
    assert_eq!(
        fs::read_dir(home.path()).unwrap().filter(|f| f.as_ref().unwrap().path().ends_with("all.backup.part")).count(),
        0
    );
}

#[tokio::test]
async fn keys_tokens_and_a_whole_chain_of_the_audit_come_back_from_a_backup() {
    let home = tempfile::tempdir().unwrap();
    let (a, b, file) = (sqlite(home.path(), "a.db"), sqlite(home.path(), "b.db"), home.path().join("all.backup"));
    let puts = [PutTenant(tenant_record("t")), PutKey(key_row("t", 1)), PutToken(token_row(1))];
    with(&a, |stores| async move {
        stores.directory.change_directory(0, &puts, &[audit_row(1), audit_row(2)]).await.unwrap();
    })
    .await;
    let written = backup(&a, &file, &quiet()).await.unwrap();
    assert_eq!(written.tables[&Table::Keys].rows, 1);
    restore(&file, &b, &WRITE, &quiet()).await.unwrap();
    assert_equal(&a, &b).await;
    with(&b, |stores| async move {
        let verdict = verify_audit(&*stores.audit).await.unwrap();
        assert_eq!((verdict.ok, verdict.rows), (true, 2));
        let changed = [PutKey(KeyRow { spec: "{}".into(), ..key_row("t", 1) }), DeleteToken(token_row(1).id)];
        stores.directory.change_directory(3, &changed, &[]).await.unwrap().unwrap();
    })
    .await;
    restore(&file, &b, &RestoreOptions { dry_run: false, merge: true }, &quiet()).await.unwrap();
    with(&b, |stores| async move {
        let directory = stores.directory.directory().await.unwrap();
        assert_eq!((&*directory.keys[0].spec, directory.tokens), ("{}", vec![token_row(1)]), "what is there stays");
    })
    .await;
    let refused = restore(&file, &b, &WRITE, &quiet()).await.unwrap_err();
    assert!(matches!(refused, TransferError::NotEmpty(_)), "a token is data: {refused}");
}
