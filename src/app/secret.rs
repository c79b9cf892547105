//! The secret that keys all hashes: of credentials, of prompts, of tenants in passthrough mode.
//!
//! Beside a SQLite file it is in a file of its own, which stays locked while the program runs, so that no second program
//! works on the same database with a cache that drifts apart. In PostgreSQL it is in the database, where every replica
//! finds it, unless the configuration names a file. Either way the database notes which secret it is, so that a replica
//! with another one is refused before it stores anything that nobody else could find.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use crate::call::SecretKey;
use crate::config::Store;
use crate::store::{StoreError, Stores};
use crate::transfer::secret::{CHECK_NOTE, SECRET_NOTE, hex, unhex, write_private};

/// Why there is no secret to work with.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Another program holds the secret file and with it the database.
    #[error("{path} is in use: another remora runs on this database; stop it, or give this one its own `[store] url`")]
    InUse {
        /// The secret file.
        path: PathBuf,
    },
    /// The file cannot be read or made.
    #[error(
        "secret file {path}: {problem}; set [store] secret_file to a file of 32 bytes that only this user can read"
    )]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// What the database holds is no secret.
    #[error("the database holds a secret that cannot be read; restore the database from a backup")]
    Note,
    /// There is no randomness to make one from.
    #[error("no secret can be made: {0}")]
    Random(#[from] std::io::Error),
    /// The other replicas use another secret.
    #[error(
        "the hashes in this database were made with another secret: give [store] secret_file the file that the other \
         replicas use, or leave it out where they have none"
    )]
    Other,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The secret, held for as long as the program runs.
pub(super) struct Held {
    secret: SecretKey,
    /// Locked.
    _file: Option<File>,
}

impl Held {
    /// Reads the secret, or makes one where there is none yet.
    pub(super) async fn obtain(settings: &Store, stores: &Stores) -> Result<Self, SecretError> {
        let Some(path) = &settings.secret_file else {
            let fresh = hex(&random_secret()?);
            let text = stores.notes.note_once(SECRET_NOTE, &fresh).await?;
            let secret = SecretKey::new(unhex(&text).ok_or(SecretError::Note)?);
            return Self::checked(secret, None, stores).await;
        };
        let (secret, file, made) = from_file(path, !settings.url.is_shared())?;
        if !settings.url.is_shared() {
            if made && stores.entries.counts().await?.entries > 0 {
                tracing::warn!(
                    secret_file = %path.display(),
                    "the secret file was missing and a new one was made: what was cached before cannot be found any more"
                );
            }
            return Ok(Self { secret, _file: Some(file) });
        }
        Self::checked(secret, Some(file), stores).await
    }

    async fn checked(secret: SecretKey, file: Option<File>, stores: &Stores) -> Result<Self, SecretError> {
        let check = hex(&secret.digest(CHECK_NOTE, b""));
        if stores.notes.note_once(CHECK_NOTE, &check).await? != check {
            return Err(SecretError::Other);
        }
        Ok(Self { secret, _file: file })
    }

    /// The secret.
    pub(super) fn secret(&self) -> &SecretKey {
        &self.secret
    }
}

/// The secret in the file, the file, and whether it was made now because there was none.
fn from_file(path: &Path, lock: bool) -> Result<(SecretKey, File, bool), SecretError> {
    let failed = |problem: String| SecretError::File { path: path.to_owned(), problem };
    let io = |error: std::io::Error| failed(error.to_string());
    let made = !path.exists();
    if made {
        write_private(path, &random_secret().map_err(io)?).map_err(io)?;
    }
    let mut file = File::open(path).map_err(io)?;
    if lock {
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(SecretError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(error)) => return Err(io(error)),
        }
    }
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut file, &mut bytes).map_err(io)?;
    match <[u8; 32]>::try_from(bytes.as_slice()) {
        Ok(secret) => Ok((SecretKey::new(secret), file, made)),
        Err(_) => Err(failed(format!("has {} bytes, not 32", bytes.len()))),
    }
}

fn random_secret() -> std::io::Result<[u8; 32]> {
    use std::io::Read;
    let mut secret = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut secret)?;
    Ok(secret)
}
