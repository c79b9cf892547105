//! Between SQLite and PostgreSQL, on a real server.

use super::samples::Chance;
use super::*;
use crate::store::postgres::tests::EmptyDatabase;
use crate::store::sample::{delete, link, put};
use crate::transfer::{RestoreOptions, backup, restore};

#[tokio::test]
async fn a_copy_to_postgres_and_back_is_the_same() {
    for seed in 1..=4 {
        let home = tempfile::tempdir().unwrap();
        let (a, c) = (sqlite(home.path(), "a.db"), sqlite(home.path(), "c.db"));
        let postgres = EmptyDatabase::new().await;
        let b = Place::new(postgres.url.clone());
        with(&a, |stores| async move { Chance::new(seed).fill(&stores, 400).await }).await;
        copied(&a, &b).await;
        assert_equal(&a, &b).await;
        copied(&b, &c).await;
        assert_equal(&b, &c).await;
        assert_equal(&a, &c).await;
        assert_eq!(std::fs::read(c.key_file().unwrap()).unwrap(), SECRET, "through a note and into a file");
        let again = copied(&a, &b).await;
        assert!(again.tables.values().all(|t| t.added + t.changed + t.deleted + t.different == 0), "{again:?}");
    }
}

#[tokio::test]
async fn postgres_follows_links_and_deletes_and_keeps_its_own_secret() {
    let home = tempfile::tempdir().unwrap();
    let a = sqlite(home.path(), "a.db");
    let postgres = EmptyDatabase::new().await;
    let b = Place::new(postgres.url.clone());
    with(&a, |stores| async move {
        stores.entries.apply(&(1..=700).map(|number| put("t", number)).collect::<Vec<_>>()).await.unwrap();
    })
    .await;
    copied(&a, &b).await;
    with(&a, |stores| async move {
        let writes: Vec<_> = (1..=100).flat_map(|n| [link("t", 7 * n, 0, 7 * n - 1), delete("t", 7 * n - 3)]).collect();
        stores.entries.apply(&writes).await.unwrap();
    })
    .await;
    assert_eq!(differences(&a, &b).await, [(Table::Entries, 300)]);
    copied(&a, &b).await;
    assert_equal(&a, &b).await;

    let c = sqlite(home.path(), "c.db");
    write_private(&c.key_file().unwrap(), &[9; 32]).unwrap();
    with(&c, |stores| async move { stores.entries.apply(&[put("t", 1)]).await.unwrap() }).await;
    let refused = copy(&c, &b, &CopyOptions::default(), &quiet()).await.unwrap_err();
    assert!(matches!(refused, TransferError::OtherSecret(_)), "{refused}");
    assert!(!refused.to_string().contains("0909"), "{refused}");
    assert_equal(&a, &b).await;
    let itself = copy(&b, &b, &CopyOptions::default(), &quiet()).await.unwrap_err();
    assert!(matches!(itself, TransferError::Same(_)), "{itself}");
}

#[tokio::test]
async fn a_database_under_two_names_is_found_out() {
    let postgres = EmptyDatabase::new().await;
    let b = Place::new(postgres.url.clone());
    with(&b, |stores| async move { stores.entries.apply(&[put("t", 1)]).await.unwrap() }).await;
    let crate::config::StoreUrl::Postgres(url) = &postgres.url else { panic!("not PostgreSQL") };
    let other = url.expose().replace("127.0.0.1", "localhost");
    assert_ne!(&other, url.expose());
    let itself = copy(&b, &Place::new(other.parse().unwrap()), &CopyOptions::default(), &quiet()).await.unwrap_err();
    assert!(matches!(itself, TransferError::Same(_)), "{itself}");
}

#[tokio::test]
async fn a_backup_of_either_restores_into_the_other() {
    const WRITE: RestoreOptions = RestoreOptions { dry_run: false, merge: false };
    let home = tempfile::tempdir().unwrap();
    let (a, c) = (sqlite(home.path(), "a.db"), sqlite(home.path(), "c.db"));
    let (one, two) = (home.path().join("one.backup"), home.path().join("two.backup"));
    let postgres = EmptyDatabase::new().await;
    let b = Place::new(postgres.url.clone());
    with(&a, |stores| async move { Chance::new(9).fill(&stores, 1_000).await }).await;
    let from_sqlite = backup(&a, &one, &quiet()).await.unwrap();
    restore(&one, &b, &WRITE, &quiet()).await.unwrap();
    assert_equal(&a, &b).await;
    let refused = restore(&one, &b, &WRITE, &quiet()).await.unwrap_err();
    assert!(matches!(refused, TransferError::NotEmpty(_)), "{refused}");
    let from_postgres = backup(&b, &two, &quiet()).await.unwrap();
    assert_eq!(from_sqlite.tables, from_postgres.tables, "the same rows, the same digests");
    restore(&two, &c, &WRITE, &quiet()).await.unwrap();
    assert_equal(&a, &c).await;
}
