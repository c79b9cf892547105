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

pub(super) async fn a_note_is_swapped_only_for_what_stands_there(stores: &Stores) {
    let notes = &stores.notes;
    assert!(!notes.swap_note("a swap", "", "x").await.unwrap(), "there is no note");
    notes.set_note("a swap", Some("one")).await.unwrap();
    assert!(!notes.swap_note("a swap", "two", "three").await.unwrap());
    assert_eq!(notes.note("a swap").await.unwrap().as_deref(), Some("one"));
    assert!(notes.swap_note("a swap", "one", "two").await.unwrap());
    assert_eq!(notes.note("a swap").await.unwrap().as_deref(), Some("two"));
}

pub(super) async fn notes_are_found_by_the_beginning_of_their_names(stores: &Stores) {
    let notes = &stores.notes;
    for name in ["some%thing b", "some%thing a", "someXthing c", "other"] {
        notes.set_note(name, Some(name)).await.unwrap();
    }
    let found = notes.notes_of("some%").await.unwrap();
    let expected = ["some%thing a", "some%thing b"].map(|name| (name.to_owned(), name.to_owned()));
    assert_eq!(found, expected);
    assert!(notes.notes_of("nothing").await.unwrap().is_empty());
}
