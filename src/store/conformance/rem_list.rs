//! Promises about REM rows that are read page by page.

use super::rem::{apply, id, owner, put, resource, row, scope, store};
use crate::ids::{KeyId, RemId};
use crate::store::Stores;
use crate::store::rem::*;
use crate::store::sample::tenant;

pub(super) async fn rows_are_listed_by_id_within_what_the_caller_sees(stores: &Stores) {
    let hidden = RemRow { deleted_at: Some(9), ..resource("a", 6, "hidden") };
    let mine = [resource("a", 5, "five"), resource("public", 2, "two"), resource("a", 3, "three"), hidden];
    let others = [resource("b", 1, "b's"), row(RemTable::Entities, "a", 4, "entity")];
    let writes: Vec<RemWrite> = mine.into_iter().chain(others).map(put).collect();
    apply(stores, "acme", &writes).await;
    apply(stores, "globex", &[put(resource("public", 7, "globex's")), put(resource("a", 8, "globex's too"))]).await;

    let scope = scope("acme", "a");
    let listed = async |after: Option<RemId>, limit| {
        let rows = store(stores).rem_list(&scope, RemTable::Resources, after, limit).await.unwrap();
        rows.into_iter().map(|row| row.id).collect::<Vec<_>>()
    };
    assert_eq!(listed(None, 10).await, [id(2), id(3), id(5)]);
    assert_eq!(listed(None, 2).await, [id(2), id(3)]);
    assert_eq!(listed(Some(id(3)), 2).await, [id(5)]);
    assert_eq!(listed(Some(id(5)), 2).await, []);
    let entities = store(stores).rem_list(&scope, RemTable::Entities, None, 10).await.unwrap();
    assert_eq!(entities.len(), 1);
    let found = store(stores).rem_rows(&scope, &[id(4)]).await.unwrap();
    assert_eq!(entities, found, "with all that they have");
    let mut stored = store(stores).rem_stored(&scope, &(1..=8).map(id).collect::<Vec<_>>()).await.unwrap();
    stored.sort_by_key(|row| row.id);
    let stored: Vec<_> = stored.iter().map(|row| (row.id, row.deleted_at)).collect();
    let owns = async |key: &str| store(stores).rem_owns(&tenant("acme"), &owner(key)).await.unwrap();
    assert_eq!((owns("a").await, owns("w").await, owns("public").await), (true, false, true));
    let of_w = RemRow { writer: Some(KeyId::new("w")), ..resource("public", 2, "two") };
    apply(stores, "acme", &[put(of_w)]).await;
    assert!(owns("w").await, "it may change a public row");
    assert_eq!(stored, [(2, None), (3, None), (4, None), (5, None), (6, Some(9))].map(|(of, at)| (id(of), at)));
}

pub(super) async fn of_names_that_many_rows_have_the_first_are_read(stores: &Stores) {
    let mut writes: Vec<RemWrite> = (1..=30).map(|number| put(resource("a", number, "notes"))).collect();
    writes.push(put(RemRow { aliases: vec!["notes".into()], ..resource("a", 40, "alias") }));
    writes.push(put(resource("a", 50, "other")));
    apply(stores, "acme", &writes).await;
    let scope = scope("acme", "a");
    let keys = ["other".to_owned(), "notes".to_owned()];
    let read = async |limit| {
        let found = store(stores).rem_named(&scope, &keys, &[], limit).await.unwrap();
        let aliases = found.iter().filter(|found| found.alias).count();
        (found.len(), found[0].asked, found[0].row.id == id(50), aliases)
    };
    assert_eq!(read(100).await, (32, 0, true, 1));
    assert_eq!(read(31).await, (31, 0, true, 0), "names come before aliases");
    assert_eq!(read(5).await, (5, 0, true, 0), "and the first key before the second");
}
