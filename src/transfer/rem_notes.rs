//! What notes say about REM data, carried to another database together with it: whose data was deleted, so that it is not filled again
//! from the ledger there, and how far the ledger was filled from.
//!
//! Invariants: of two times of a deletion the later one counts; of two places in the ledger the earlier one, for what is filled
//! twice is the same as once.

use std::collections::BTreeMap;

use crate::clock::UnixMs;
use crate::ids::RequestId;
use crate::store::rem::{FILLED_NOTE, FORGOTTEN_KEY_NOTES, FORGOTTEN_NOTES};
use crate::store::{StoreError, Stores};

/// Notes by name.
pub(super) type Notes = BTreeMap<String, String>;

pub(super) async fn read(stores: &Stores) -> Result<Notes, StoreError> {
    let mut notes = Notes::new();
    for prefix in [FORGOTTEN_NOTES, FORGOTTEN_KEY_NOTES] {
        notes.extend(stores.notes.notes_of(prefix).await?);
    }
    notes.extend(stores.notes.note(FILLED_NOTE).await?.map(|place| (FILLED_NOTE.to_owned(), place)));
    Ok(notes)
}

/// Says whose data was deleted: before rows are carried, and again after them.
pub(super) async fn give_forgotten(stores: &Stores, notes: &Notes) -> Result<(), StoreError> {
    let forgotten = |name: &str| name.starts_with(FORGOTTEN_NOTES) || name.starts_with(FORGOTTEN_KEY_NOTES);
    let at = |text: &str| text.parse::<UnixMs>().ok();
    for (name, text) in notes.iter().filter(|(name, _)| forgotten(name)) {
        give(stores, name, text, |old| at(text) > at(old)).await?;
    }
    Ok(())
}

/// Says how far the ledger was filled from: after the rows that came of it.
pub(super) async fn give_place(stores: &Stores, notes: &Notes) -> Result<(), StoreError> {
    let Some(text) = notes.get(FILLED_NOTE) else { return Ok(()) };
    let place = |text: &str| text.parse::<RequestId>().ok();
    let earlier = |old: &str| place(text).is_some_and(|new| place(old).is_none_or(|old| new < old));
    give(stores, FILLED_NOTE, text, earlier).await
}

/// Writes a note unless what stands there is to stay, whoever else writes it meanwhile.
async fn give(stores: &Stores, name: &str, text: &str, replaces: impl Fn(&str) -> bool) -> Result<(), StoreError> {
    loop {
        let stands = stores.notes.note_once(name, text).await?;
        if !replaces(&stands) || stores.notes.swap_note(name, &stands, text).await? {
            return Ok(());
        }
    }
}
