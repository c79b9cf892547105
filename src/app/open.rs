//! Opens the database at start, and waits for a server that is not there yet: where everything is started together, the
//! database is often the last to be ready.
//!
//! Only what passes by itself is waited for. Whatever somebody must mend ends the start at once, with the reason.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::config::{Store, StoreUrl};
use crate::store::{Database, StoreError};

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
pub(super) async fn patiently<T, F>(settings: &Store, mut step: impl FnMut() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let began = Instant::now();
    let mut wait = FIRST_WAIT;
    loop {
        let error = match step().await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        let left = settings.start_wait.saturating_sub(began.elapsed());
        if left.is_zero() || !passes(&settings.url, &error) {
            return Err(error);
        }
        tracing::warn!(%error, left_s = left.as_secs(), "the start waits for the database");
        sleep(wait.min(left)).await;
        wait = (wait * 2).min(LAST_WAIT);
    }
}

/// Whether it may be over in a moment without anybody doing anything about it. A busy file is in use by another program.
fn passes(url: &StoreUrl, error: &StoreError) -> bool {
    matches!(url, StoreUrl::Postgres(_)) && matches!(error, StoreError::Unreachable { .. } | StoreError::Busy { .. })
}
