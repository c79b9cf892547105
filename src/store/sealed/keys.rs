//! Data keys: one for each tenant, random, wrapped by the master key and kept as a note of the database.
//!
//! ```text
//! data key HASH     v1 ID-OF-MASTER ID-OF-KEY WRAPPED      HASH is the BLAKE3 hash of the tenant's name
//! data key HASH     shredded MILLISECONDS                  from then on there is no key for this tenant
//! data key master   ID-OF-MASTER                           which master key wraps
//! ```
//!
//! Invariants: all replicas come to the same key, because a note is written once; what is shredded stays so; unwrapped
//! keys are in memory only, and forgotten whenever another replica may have shredded one.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};

use zeroize::Zeroizing;

use super::super::{NoteStore, StoreError};
use super::crypto::{Key, Kind, Place, base64, random, unbase64};
use crate::clock::UnixMs;
use crate::config::MasterKey;
use crate::ids::TenantId;

/// Begins the names of all notes about keys.
pub const KEY_NOTES: &str = "data key ";
/// The note that says which master key wraps.
pub const MASTER_NOTE: &str = "data key master";
const SHREDDED: &str = "shredded";
const VERSION: &str = "v1";
/// Unwrapped keys held. In passthrough anybody may become a tenant.
const MOST: usize = 65_536;

type Hash = [u8; 32];

pub(super) fn hash(tenant: &TenantId) -> Hash {
    *blake3::hash(tenant.as_str().as_bytes()).as_bytes()
}

/// Name of the note with the key of a tenant.
pub(super) fn note_name(tenant: &TenantId) -> String {
    name_of(&blake3::Hash::from_bytes(hash(tenant)).to_hex())
}

fn name_of(hex: &str) -> String {
    format!("{KEY_NOTES}{hex}")
}

/// What stands in the place of a key that was shredded.
pub(super) fn tombstone(now: UnixMs) -> String {
    format!("{SHREDDED} {now}")
}

/// The key of a tenant.
#[derive(Clone)]
pub(super) enum Held {
    /// There is none yet.
    None,
    /// The key.
    Key(Arc<Key>),
    /// It was shredded.
    Shredded,
    /// There is one that none of the master keys at hand opens.
    Broken,
}

/// A note about a key, taken apart.
pub(super) enum Note<'a> {
    Shredded,
    Wrapped { master: &'a str, key: &'a str, wrapped: &'a str },
    Unknown,
}

impl<'a> Note<'a> {
    pub(super) fn read(text: &'a str) -> Self {
        let mut words = text.split(' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some(SHREDDED), ..) => Self::Shredded,
            (Some(VERSION), Some(master), Some(key), Some(wrapped)) => Self::Wrapped { master, key, wrapped },
            _ => Self::Unknown,
        }
    }
}

/// Whether the note of a key says that it was shredded.
pub fn is_shredded(text: &str) -> bool {
    matches!(Note::read(text), Note::Shredded)
}

/// What tells the key in a note from others, however it is wrapped; empty if there is none.
pub fn key_id(text: &str) -> &str {
    match Note::read(text) {
        Note::Wrapped { key, .. } => key,
        Note::Shredded | Note::Unknown => "",
    }
}

/// Wraps a key for the note of this name.
pub(super) fn wrap(master: &Key, name: &str, bytes: &[u8; 32]) -> Result<String, StoreError> {
    let place = Place { kind: Kind::DataKey, tenant: name, id: [0; 16] };
    let wrapped = base64(&master.seal(place, bytes)?);
    Ok(format!("{VERSION} {} {} {wrapped}", master.id, Key::new(bytes).id))
}

/// The key in a note, if one of the master keys opens it.
pub(super) fn unwrap(masters: &[Key], name: &str, wrapped: &str) -> Option<Zeroizing<[u8; 32]>> {
    let sealed = unbase64(wrapped)?;
    let place = Place { kind: Kind::DataKey, tenant: name, id: [0; 16] };
    let opened = masters.iter().find_map(|master| master.open(place, &sealed))?;
    <[u8; 32]>::try_from(opened.as_slice()).ok().map(Zeroizing::new)
}

#[derive(Default)]
struct Memory {
    keys: HashMap<Hash, Arc<Key>>,
    /// Tenants of whom a key or a tombstone is known.
    known: HashSet<Hash>,
    /// Grows when keys are forgotten, so that one that was read before is not remembered after.
    round: u64,
}

/// The data keys of a database.
pub(super) struct Keys {
    notes: Arc<dyn NoteStore>,
    /// The one that wraps first.
    masters: Vec<Key>,
    memory: RwLock<Memory>,
}

/// The master key is not the one that the data keys are wrapped with.
pub(super) struct WrongMaster;

impl Keys {
    /// Checks the master key against the database, and notes it there if it is the first.
    pub(super) async fn open(
        notes: Arc<dyn NoteStore>,
        master: &MasterKey,
        previous: Option<&MasterKey>,
    ) -> Result<Result<Self, WrongMaster>, StoreError> {
        let masters: Vec<Key> = std::iter::once(master).chain(previous).map(Key::of).collect();
        let current = masters.first().map_or("", |key| key.id.as_str());
        let noted = notes.note_once(MASTER_NOTE, current).await?;
        if !masters.iter().any(|key| key.id == noted) {
            return Ok(Err(WrongMaster));
        }
        if noted != current {
            tracing::warn!("data keys are still wrapped by the previous master key: run `remora rotate-master`");
        }
        let known = notes.notes_of(KEY_NOTES).await?;
        let hashes = known.iter().filter_map(|(name, _)| {
            let hash = blake3::Hash::from_hex(name.strip_prefix(KEY_NOTES)?).ok()?;
            Some(*hash.as_bytes())
        });
        let memory = RwLock::new(Memory { known: hashes.collect(), ..Memory::default() });
        Ok(Ok(Self { notes, masters, memory }))
    }

    /// Whether this tenant has, or had, a key.
    pub(super) fn knows(&self, tenant: &TenantId) -> bool {
        self.read().known.contains(&hash(tenant))
    }

    pub(super) fn known(&self) -> usize {
        self.read().known.len()
    }

    /// The key of a tenant; where there is none it is made if `make`.
    pub(super) async fn of(&self, tenant: &TenantId, make: bool) -> Result<Held, StoreError> {
        let hash = hash(tenant);
        let round = {
            let memory = self.read();
            if let Some(key) = memory.keys.get(&hash) {
                return Ok(Held::Key(Arc::clone(key)));
            }
            memory.round
        };
        let name = note_name(tenant);
        let text = match self.notes.note(&name).await? {
            Some(text) => text,
            None if !make => return Ok(Held::None),
            None => {
                let Some(master) = self.masters.first() else { return Ok(Held::None) };
                let fresh = Zeroizing::new(random::<32>()?);
                self.notes.note_once(&name, &wrap(master, &name, &fresh)?).await?
            }
        };
        let key = match Note::read(&text) {
            Note::Shredded => None,
            Note::Wrapped { wrapped, .. } => match unwrap(&self.masters, &name, wrapped) {
                Some(bytes) => Some(Arc::new(Key::new(&bytes))),
                None => return Ok(Held::Broken),
            },
            Note::Unknown => return Ok(Held::Broken),
        };
        let mut memory = self.memory.write().unwrap_or_else(PoisonError::into_inner);
        memory.known.insert(hash);
        let Some(key) = key else { return Ok(Held::Shredded) };
        if memory.round == round {
            if memory.keys.len() >= MOST {
                memory.keys.clear();
            }
            memory.keys.insert(hash, Arc::clone(&key));
        }
        Ok(Held::Key(key))
    }

    /// Forgets what is unwrapped; it is read again when it is needed.
    pub(super) fn forget(&self) {
        let mut memory = self.memory.write().unwrap_or_else(PoisonError::into_inner);
        memory.keys.clear();
        memory.round += 1;
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Memory> {
        self.memory.read().unwrap_or_else(PoisonError::into_inner)
    }
}
