//! Opens the database at start, and waits for a server that is not there yet: where everything is started together, the
//! database is often the last to be ready.
//!
//! Only what passes by itself is waited for. Whatever somebody must mend ends the start at once, with the reason.

use std::fmt::Display;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::secret::SecretError;
use crate::config::{Store, StoreUrl};
use crate::store::{Database, SealError, StoreError};

/// Wait before the second try; it doubles with each.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// Longest wait between two tries.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// Opens the database, trying again for as long as the configuration says.
///
/// # Errors
/// What the last try said.
pub(super) async fn database(settings: &Store) -> Result<Database, StoreError> {
    patiently(settings, || Database::open(&settings.url, settings.migrate)).await
}

/// A step of the start that needs the database and may be made again from its beginning: a server that is there may yet
/// have no connection to spare for a moment.
///
/// # Errors
/// What the last try said.
pub(super) async fn patiently<T, E, F>(settings: &Store, mut step: impl FnMut() -> F) -> Result<T, E>
where
    E: MayPass,
    F: Future<Output = Result<T, E>>,
{
    let began = Instant::now();
    let mut wait = FIRST_WAIT;
    loop {
        let error = match step().await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        let left = settings.start_wait.saturating_sub(began.elapsed());
        if left.is_zero() || !error.of_store().is_some_and(|error| passes(&settings.url, error)) {
            return Err(error);
        }
        tracing::warn!(%error, left_s = left.as_secs(), "the start waits for the database");
        sleep(wait.min(left)).await;
        wait = (wait * 2).min(LAST_WAIT);
    }
}

/// An error that the database may have caused.
pub(super) trait MayPass: Display {
    /// What the database said.
    fn of_store(&self) -> Option<&StoreError>;
}

impl MayPass for StoreError {
    fn of_store(&self) -> Option<&StoreError> {
        Some(self)
    }
}

impl MayPass for SecretError {
    fn of_store(&self) -> Option<&StoreError> {
        if let Self::Store(error) = self { Some(error) } else { None }
    }
}

impl MayPass for SealError {
    fn of_store(&self) -> Option<&StoreError> {
        if let Self::Store(error) = self { Some(error) } else { None }
    }
}

/// Whether it may be over in a moment without anybody doing anything about it. A busy file is in use by another program.
fn passes(url: &StoreUrl, error: &StoreError) -> bool {
    matches!(url, StoreUrl::Postgres(_)) && matches!(error, StoreError::Unreachable { .. } | StoreError::Busy { .. })
}
