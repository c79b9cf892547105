//! What is done to keys from outside: shredding one, taking a tombstone away, wrapping all of them anew.
//!
//! Works on the database as it is, below the layer. Invariant: a key that was shredded meanwhile is not brought back,
//! because a note is replaced only if it is still the one that was read.

use super::super::{StoreError, Stores};
use super::crypto::Key;
use super::keys::{KEY_NOTES, MASTER_NOTE, Note, note_name, tombstone, unwrap, wrap};
use crate::clock::UnixMs;
use crate::config::MasterKey;
use crate::ids::TenantId;

/// Tries against others who change the same note.
const TRIES: u32 = 16;

/// Why master keys cannot be rotated.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// Nothing is sealed here.
    #[error("the database holds no sealed data; nothing was changed")]
    Nothing,
    /// The database is under neither of the two.
    #[error("neither the old nor the new master key is the one of this database; nothing was changed")]
    WrongMaster,
    /// Some keys are opened by neither.
    #[error(
        "{0} data keys are opened by neither master key and were left as they are; the others are wrapped by the new one"
    )]
    Unopened(u64),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a rotation did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rotated {
    /// Keys that are wrapped by the new master key now.
    pub wrapped: u64,
    /// Keys that were already.
    pub before: u64,
    /// Tombstones.
    pub shredded: u64,
}

/// Wraps all data keys by the new master key. May be interrupted and repeated at any time.
///
/// # Errors
/// See [`RotateError`].
pub async fn rotate(stores: &Stores, old: &MasterKey, new: &MasterKey) -> Result<Rotated, RotateError> {
    let masters = [Key::of(new), Key::of(old)];
    let [fresh, _] = &masters;
    let noted = stores.notes.note(MASTER_NOTE).await?.ok_or(RotateError::Nothing)?;
    if !masters.iter().any(|key| key.id == noted) {
        return Err(RotateError::WrongMaster);
    }
    let mut done = Rotated::default();
    let mut unopened = 0;
    for (name, text) in stores.notes.notes_of(KEY_NOTES).await? {
        if name == MASTER_NOTE {
            continue;
        }
        match Note::read(&text) {
            Note::Shredded => done.shredded += 1,
            Note::Wrapped { master, .. } if master == fresh.id => done.before += 1,
            Note::Wrapped { wrapped, .. } => match unwrap(&masters, &name, wrapped) {
                // Whoever came in between has wrapped it too, or shredded it.
                Some(bytes) => {
                    let again = wrap(fresh, &name, &bytes)?;
                    done.wrapped += u64::from(stores.notes.swap_note(&name, &text, &again).await?);
                }
                None => unopened += 1,
            },
            Note::Unknown => unopened += 1,
        }
    }
    if unopened > 0 {
        return Err(RotateError::Unopened(unopened));
    }
    stores.notes.set_note(MASTER_NOTE, Some(&fresh.id)).await?;
    Ok(done)
}

/// Puts a tombstone in the place of a tenant's key; where there is no key only if `always`. Returns whether there is one
/// now.
///
/// # Errors
/// The database failed; the same call completes it.
pub async fn shred(stores: &Stores, tenant: &TenantId, always: bool, now: UnixMs) -> Result<bool, StoreError> {
    let (name, stone) = (note_name(tenant), tombstone(now));
    for _ in 0..TRIES {
        match stores.notes.note(&name).await? {
            None if !always => return Ok(false),
            None => {
                if stores.notes.note_once(&name, &stone).await? == stone {
                    return Ok(true);
                }
            }
            Some(text) if matches!(Note::read(&text), Note::Shredded) => return Ok(true),
            Some(text) => {
                if stores.notes.swap_note(&name, &text, &stone).await? {
                    return Ok(true);
                }
            }
        }
    }
    Err(StoreError::Failed("the key of the tenant is changed by others again and again".into()))
}

/// Takes the tombstone of a tenant away, so that it gets a new key when something is stored for it; returns whether there
/// was one.
///
/// # Errors
/// The database failed.
pub async fn reopen(stores: &Stores, tenant: &TenantId) -> Result<bool, StoreError> {
    let name = note_name(tenant);
    match stores.notes.note(&name).await? {
        Some(text) if matches!(Note::read(&text), Note::Shredded) => {
            stores.notes.set_note(&name, None).await?;
            Ok(true)
        }
        _ => Ok(false),
    }
}
