//! The wrapped data keys of sealed tenants, carried to another database together with what is sealed with them.
//!
//! They are of use only with the master key, which does not travel. Invariants: a tombstone at the destination stays, so
//! that no copy brings back a tenant whose key was shredded; a tombstone at the source is carried; a key under which the
//! destination may hold data is never replaced by another one.

use std::collections::BTreeMap;

use super::TransferError;
use super::secret::Place;
use crate::store::sealed::{KEY_NOTES, MASTER_NOTE, is_shredded, key_id};
use crate::store::{StoreError, Stores};

/// Notes by name.
pub(super) type Notes = BTreeMap<String, String>;

pub(super) async fn read(stores: &Stores) -> Result<Notes, StoreError> {
    Ok(stores.notes.notes_of(KEY_NOTES).await?.into_iter().collect())
}

/// Whether a database can take these keys.
///
/// # Errors
/// It has other keys for the same tenants, or keys of tenants that are wrapped by another master key.
pub(super) async fn fits(place: &Place, stores: &Stores, keys: &Notes) -> Result<(), TransferError> {
    let there = read(stores).await?;
    let lost = |name: &String, text: &String| {
        name != MASTER_NOTE
            && !is_shredded(text)
            && match keys.get(name) {
                Some(new) => !is_shredded(new) && key_id(new) != key_id(text),
                None => keys.get(MASTER_NOTE) != there.get(MASTER_NOTE) && keys.contains_key(MASTER_NOTE),
            }
    };
    if there.iter().any(|(name, text)| lost(name, text)) {
        return Err(TransferError::OtherKeys(place.url.clone()));
    }
    Ok(())
}

/// Gives a database these keys.
///
/// # Errors
/// As [`fits`]; nothing has been changed then.
pub(super) async fn give(place: &Place, stores: &Stores, keys: &Notes) -> Result<(), TransferError> {
    fits(place, stores, keys).await?;
    let there = read(stores).await?;
    for (name, text) in keys {
        match there.get(name) {
            Some(same) if same == text => {}
            Some(stone) if is_shredded(stone) => {}
            Some(old) => {
                stores.notes.swap_note(name, old, text).await?;
            }
            None => {
                stores.notes.note_once(name, text).await?;
            }
        }
    }
    Ok(())
}
