//! The secret of a database that is not running: where it is, and how it is carried to another.
//!
//! All stored hashes are keyed by it, so data without its secret can never be found again, and two secrets in one database
//! would hide the one half from the other. So it is written before any row, and only where there is no data under
//! another one.
//!
//! It must never be printed or logged.

use std::fs::{File, TryLockError};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use super::{TransferError, data_keys};
use crate::call::SecretKey;
use crate::config::StoreUrl;
use crate::ids::TenantId;
use crate::store::{DirectoryImage, StoreError, Stores};

/// Note that says which secret the hashes in a database were made with.
pub(crate) const CHECK_NOTE: &str = "secret check";
/// Note with the secret itself, where there is no file.
pub(crate) const SECRET_NOTE: &str = "secret";

/// A database and where its secret is.
#[derive(Clone, Debug)]
pub struct Place {
    /// The database.
    pub url: StoreUrl,
    /// The file with the secret, where it is not where it belongs by default: beside a SQLite file, in a PostgreSQL
    /// database.
    pub secret_file: Option<PathBuf>,
}

impl Place {
    /// A database with its secret where it belongs.
    pub fn new(url: StoreUrl) -> Self {
        Self { url, secret_file: None }
    }

    /// The file with the secret; `None` if it is in the database.
    pub fn key_file(&self) -> Option<PathBuf> {
        self.secret_file.clone().or_else(|| {
            let mut beside = self.url.file()?.as_os_str().to_owned();
            beside.push(".key");
            Some(beside.into())
        })
    }
}

/// The check of a secret, which gives nothing of it away.
pub(crate) fn check(secret: &[u8; 32]) -> String {
    hex(&SecretKey::new(*secret).digest(CHECK_NOTE, b""))
}

pub(crate) fn hex(bytes: &[u8; 32]) -> String {
    blake3::Hash::from_bytes(*bytes).to_hex().to_string()
}

pub(crate) fn unhex(text: &str) -> Option<[u8; 32]> {
    blake3::Hash::from_hex(text).ok().map(|hash| *hash.as_bytes())
}

/// Writes a file that only its owner can read; it must not exist.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// The secret of a database; `None` if it has none yet.
///
/// # Errors
/// It cannot be read, or the database says that its hashes were made with another one.
pub(super) async fn read(place: &Place, stores: &Stores) -> Result<Option<[u8; 32]>, TransferError> {
    let found = match place.key_file() {
        Some(path) => from_file(&path)?,
        None => match stores.notes.note(SECRET_NOTE).await? {
            Some(text) => Some(unhex(&text).ok_or(TransferError::BadSecret)?),
            None => None,
        },
    };
    let noted = stores.notes.note(CHECK_NOTE).await?;
    match (&found, noted) {
        (Some(secret), Some(noted)) if noted != check(secret) => Err(TransferError::WrongSecret(place.url.clone())),
        (None, Some(_)) if has_data(stores).await? => Err(TransferError::NoSecret(place.url.clone())),
        _ => Ok(found),
    }
}

fn from_file(path: &Path) -> Result<Option<[u8; 32]>, TransferError> {
    let failed = |problem: String| TransferError::SecretFile { path: path.to_owned(), problem };
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(33).read_to_end(&mut bytes).map_err(|error| failed(error.to_string()))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error.to_string())),
    };
    match <[u8; 32]>::try_from(bytes.as_slice()) {
        Ok(secret) => Ok(Some(secret)),
        Err(_) => Err(failed("it does not have 32 bytes".to_owned())),
    }
}

/// Whether anything is stored whose hashes need the secret.
pub(super) async fn has_data(stores: &Stores) -> Result<bool, StoreError> {
    Ok(stores.entries.counts().await?.entries > 0
        || !stores.ledger.page(None, 1).await?.is_empty()
        || !stores.decisions.since(None, 0, None, 1).await?.is_empty()
        || has_keys(&stores.directory.directory().await?))
}

/// Whether there are tokens or virtual keys. Those of tenants that the configuration declares are made from it anew.
fn has_keys(directory: &DirectoryImage) -> bool {
    let declared = |name: &TenantId| directory.tenants.iter().any(|row| row.declared && row.tenant == *name);
    !directory.tokens.is_empty() || directory.keys.iter().any(|row| !declared(&row.tenant))
}

/// Whether a database can take rows that were made with this secret.
///
/// # Errors
/// It holds data that was made with another one, or with one that is not there.
pub(super) async fn fits(place: &Place, stores: &Stores, secret: &[u8; 32]) -> Result<(), TransferError> {
    let other = match place.key_file() {
        Some(path) => from_file(&path)?,
        None => stores.notes.note(SECRET_NOTE).await?.as_deref().and_then(unhex),
    };
    let noted = stores.notes.note(CHECK_NOTE).await?.is_none_or(|noted| noted == check(secret));
    if (other.as_ref() == Some(secret) && noted) || !has_data(stores).await? {
        return Ok(());
    }
    Err(match other {
        None => TransferError::NoSecret(place.url.clone()),
        Some(_) => TransferError::OtherSecret(place.url.clone()),
    })
}

/// Gives a database this secret, unless it has it. Where the database is empty another one gives way; a file with
/// another one is kept beside the new one.
///
/// # Errors
/// As [`fits`], or it cannot be written. Nothing has been changed then.
pub(super) async fn give(place: &Place, stores: &Stores, secret: &[u8; 32]) -> Result<(), TransferError> {
    fits(place, stores, secret).await?;
    let shared = place.url.is_shared();
    match place.key_file() {
        Some(path) => {
            let failed =
                |error: std::io::Error| TransferError::SecretFile { path: path.clone(), problem: error.to_string() };
            match from_file(&path)? {
                Some(same) if same == *secret => {}
                // Named by hand, so it may be the secret of others too.
                Some(_) if place.secret_file.is_some() => {
                    return Err(TransferError::OtherSecret(place.url.clone()));
                }
                Some(_) => {
                    let mut aside = path.as_os_str().to_owned();
                    aside.push(".old");
                    std::fs::rename(&path, aside).map_err(failed)?;
                    write_private(&path, secret).map_err(failed)?;
                }
                None => write_private(&path, secret).map_err(failed)?,
            }
        }
        None => stores.notes.set_note(SECRET_NOTE, Some(&hex(secret))).await?,
    }
    if shared {
        stores.notes.set_note(CHECK_NOTE, Some(&check(secret))).await?;
    }
    Ok(())
}

/// Gives the second database the secret of the first, and its data keys.
///
/// # Errors
/// As [`give`], or the first has none.
pub(crate) async fn hand_over(from: &Place, first: &Stores, to: &Place, second: &Stores) -> Result<(), TransferError> {
    let secret = read(from, first).await?.ok_or_else(|| TransferError::NoSecret(from.url.clone()))?;
    give(to, second, &secret).await?;
    let keys = data_keys::read(first).await?;
    data_keys::give(to, second, &keys).await
}

/// Locks the secret of a SQLite database as a running program does, so that no program serves from it while rows are
/// written behind its back.
///
/// # Errors
/// A program is running on it.
pub(super) fn lock(place: &Place) -> Result<Option<File>, TransferError> {
    let Some(path) = place.key_file().filter(|path| !place.url.is_shared() && path.exists()) else { return Ok(None) };
    let failed = |problem: String| TransferError::SecretFile { path: path.clone(), problem };
    let file = File::open(&path).map_err(|error| failed(error.to_string()))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(TransferError::InUse(place.url.clone())),
        Err(TryLockError::Error(error)) => Err(failed(error.to_string())),
    }
}
