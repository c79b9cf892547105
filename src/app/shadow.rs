//! The shadow store of a running program: opened in the background, given the same secret, closed at the end.
//!
//! It must never hold up or fail the start: what is wrong with it is logged, counted and tried again.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::config;
use crate::store::{Database, ShadowHandle, Stores, shadow};
use crate::task;
use crate::telemetry::metrics::Metrics;
use crate::transfer::{Place, secret};

/// Time for what waits for the second store when the program ends.
const LAST_WRITES: Duration = Duration::from_secs(10);

/// The second store at work.
pub(super) struct Mirroring {
    handle: ShadowHandle,
    task: JoinHandle<()>,
}

impl Mirroring {
    /// Puts the configured shadow behind the stores, if there is one.
    pub(super) fn begin(settings: &config::Store, stores: Stores, metrics: &Arc<Metrics>) -> (Stores, Option<Self>) {
        let Some(url) = settings.shadow.clone() else { return (stores, None) };
        let from = Place { url: settings.url.clone(), secret_file: settings.secret_file.clone() };
        let (to, migrate, first) = (Place::new(url.clone()), settings.migrate, stores.clone());
        let open = move || {
            let (from, to, first) = (from.clone(), to.clone(), first.clone());
            let opened = async move {
                let database = Database::open(&to.url, migrate).await.map_err(|error| error.to_string())?;
                match secret::hand_over(&from, &first, &to, &database.stores()).await {
                    Ok(()) => Ok(database),
                    Err(error) => {
                        database.close().await;
                        Err(error.to_string())
                    }
                }
            };
            Box::pin(opened) as _
        };
        let (stores, handle, mirror) = shadow(&stores, url, Arc::new(open));
        let task = task::spawn("shadow", metrics, mirror.run());
        (stores, Some(Self { handle, task }))
    }

    pub(super) fn handle(&self) -> ShadowHandle {
        self.handle.clone()
    }

    /// Writes what waits, for a while. To be called when nothing more is written to the first store.
    pub(super) async fn end(self) {
        if tokio::time::timeout(LAST_WRITES, self.handle.settled()).await.is_err() {
            tracing::error!(shadow = %self.handle.stats().url, "writes do not end: the shadow store may lack them; run `remora copy`");
        }
        self.handle.close();
        let abort = self.task.abort_handle();
        if tokio::time::timeout(LAST_WRITES, self.task).await.is_err() {
            abort.abort();
        }
        let stats = self.handle.stats();
        let lost = stats.dropped.saturating_add(stats.pending);
        if lost > 0 {
            tracing::error!(rows = lost, shadow = %stats.url, "the shadow store lacks writes; run `remora copy`");
        } else {
            tracing::info!(mirrored = stats.mirrored, shadow = %stats.url, "shadow store closed");
        }
    }
}
