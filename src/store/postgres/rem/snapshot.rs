//! One moment of the database, to be read from. A statement that nobody waits for any more is ended on the server too: else
//! whoever asks and goes away would hold the few connections until the server's own timeout.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use sqlx::postgres::{PgConnection, PgPool, PgTransaction};
use sqlx::{AssertSqlSafe, query};
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::super::super::StoreError;
use super::super::{PostgresStore, SNAPSHOT};
use super::PLAN_EACH;

/// Longest wait for the end of a statement.
const STOPPING: Duration = Duration::from_secs(5);
/// The name is that of one transaction, so nobody else's statement is ended.
const STOP: &str = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity \
    WHERE application_name = $1 AND usename = current_user AND state = 'active'";

/// A snapshot. It goes away with its connection if it is not brought to its end.
pub(super) struct Snapshot {
    transaction: PgTransaction<'static>,
    running: Running,
}

/// A transaction that has not ended yet.
struct Running {
    /// What it is called on the server; `None` when it has ended.
    name: Option<String>,
    /// Where to end it from.
    pool: PgPool,
}

impl PostgresStore {
    /// A snapshot with settings that end with it.
    pub(super) async fn begin_rem(&self, settings: &str) -> Result<Snapshot, StoreError> {
        let name = format!("remora rem {:032x}", fastrand::u128(..));
        let begin =
            AssertSqlSafe(format!("{SNAPSHOT}; {PLAN_EACH}; SET LOCAL application_name = '{name}'; {settings}"));
        let transaction =
            self.rem_readers.begin_with(begin).await.map_err(|error| self.pool_fault(&self.rem_readers, error))?;
        Ok(Snapshot { transaction, running: Running { name: Some(name), pool: self.readers.clone() } })
    }
}

impl Snapshot {
    /// Gives the connection back.
    pub(super) async fn end(self, store: &PostgresStore) -> Result<(), StoreError> {
        let Self { transaction, mut running } = self;
        let done = store.commit(transaction).await;
        running.name = None;
        done
    }
}

impl Deref for Snapshot {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.transaction
    }
}

impl DerefMut for Snapshot {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.transaction
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let (Some(name), Ok(runtime)) = (self.name.take(), Handle::try_current()) else { return };
        let pool = self.pool.clone();
        drop(runtime.spawn(async move {
            let stop = query(STOP).bind(name).execute(&pool);
            if !matches!(timeout(STOPPING, stop).await, Ok(Ok(_))) {
                tracing::debug!("a read that nobody waits for could not be ended; the server's own timeout ends it");
            }
        }));
    }
}
