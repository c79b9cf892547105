//! Promises about notes.

use crate::store::Stores;

pub(super) async fn a_note_is_written_replaced_and_taken_away(stores: &Stores) {
    let notes = &stores.notes;
    assert_eq!(notes.note("a").await.unwrap(), None);
    notes.set_note("a", Some("one")).await.unwrap();
    notes.set_note("b", Some("")).await.unwrap();
    notes.set_note("a", Some("two ☃")).await.unwrap();
    assert_eq!(notes.note("a").await.unwrap().as_deref(), Some("two ☃"));
    assert_eq!(notes.note("b").await.unwrap().as_deref(), Some(""));
    notes.set_note("a", None).await.unwrap();
    notes.set_note("never", None).await.unwrap();
    assert_eq!(notes.note("a").await.unwrap(), None);
}

pub(super) async fn a_note_written_once_stays(stores: &Stores) {
    let notes = &stores.notes;
    assert_eq!(notes.note_once("a", "first").await.unwrap(), "first");
    assert_eq!(notes.note_once("a", "second").await.unwrap(), "first");
    assert_eq!(notes.note("a").await.unwrap().as_deref(), Some("first"));
}
