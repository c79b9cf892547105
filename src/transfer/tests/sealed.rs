//! Sealed cells travel sealed, and their wrapped keys with them.

use super::*;
use crate::config::{MasterKey, Seal};
use crate::store::Sealed;
use crate::store::sample::{entry_id, put, tenant};
use crate::store::sealed::{KEY_NOTES, shred};
use crate::transfer::{RestoreOptions, backup, restore};

async fn layer(stores: &Stores, byte: &str) -> Sealed {
    let master = MasterKey::parse(&byte.repeat(64)).unwrap();
    Sealed::over(stores, &Seal::All, Some(&master), None).await.unwrap().unwrap()
}

async fn readable(place: &Place, byte: &str, numbers: &[u64]) {
    with(place, |stores| async move {
        let above = layer(&stores, byte).await.stores();
        for number in numbers {
            let found = above.entries.entry(&tenant("t"), entry_id(*number)).await.unwrap();
            assert_eq!(found, Some(crate::store::sample::entry("t", *number)));
            let raw = stores.entries.entry(&tenant("t"), entry_id(*number)).await.unwrap().unwrap();
            assert_ne!(Some(raw), found, "it is sealed there too");
        }
    })
    .await;
}

async fn fill(place: &Place, byte: &str, number: u64) {
    with(place, |stores| async move {
        layer(&stores, byte).await.stores().entries.apply(&[put("t", number)]).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_copy_and_a_backup_of_sealed_data_are_read_with_the_same_master_key() {
    let home = tempfile::tempdir().unwrap();
    let (a, b, c) = (sqlite(home.path(), "a.db"), sqlite(home.path(), "b.db"), sqlite(home.path(), "c.db"));
    let file = home.path().join("all.backup");
    fill(&a, "a", 1).await;
    copied(&a, &b).await;
    readable(&b, "a", &[1]).await;
    backup(&a, &file, &quiet()).await.unwrap();
    restore(&file, &c, &RestoreOptions { dry_run: false, merge: false }, &quiet()).await.unwrap();
    readable(&c, "a", &[1]).await;
    // A second pass carries a tombstone, and a third does not take it away.
    fill(&a, "a", 2).await;
    copied(&a, &b).await;
    readable(&b, "a", &[1, 2]).await;
    with(&b, |stores| async move { assert!(shred(&stores, &tenant("t"), false, 7).await.unwrap()) }).await;
    copied(&a, &b).await;
    with(&b, |stores| async move {
        let above = layer(&stores, "a").await.stores();
        assert!(above.entries.entry(&tenant("t"), entry_id(1)).await.is_err(), "shredded stays shredded");
    })
    .await;
    with(&a, |stores| async move { assert!(shred(&stores, &tenant("t"), false, 7).await.unwrap()) }).await;
    copied(&a, &c).await;
    with(&c, |stores| async move {
        let notes = stores.notes.notes_of(KEY_NOTES).await.unwrap();
        assert_eq!(notes.iter().filter(|(_, text)| text.starts_with("shredded")).count(), 1, "{notes:?}");
    })
    .await;
}

#[tokio::test]
async fn a_destination_with_data_under_other_data_keys_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let (a, b) = (sqlite(home.path(), "a.db"), sqlite(home.path(), "b.db"));
    fill(&a, "a", 1).await;
    fill(&b, "a", 2).await;
    let refused = copy(&a, &b, &CopyOptions::default(), &quiet()).await.unwrap_err();
    assert!(matches!(refused, TransferError::OtherKeys(_)), "{refused}");
    readable(&b, "a", &[2]).await;
}
