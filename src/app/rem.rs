//! The REM sidecar: bound with the other listeners, over the stores and keys of the data plane, and drained beside it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::config::Config;
use crate::embed::Embedder;
use crate::limit::Limiter;
use crate::rem::fill::{self, FillParts, FillSettings};
use crate::rem::http::{PROBLEM_TYPE, Sidecar, SidecarParts, limits, refusal};
use crate::rem::{Rem, RemParts};
use crate::server::{BindError, DrainReport, Listener, Shutdown};
use crate::store::Stores;
use crate::store::rem::SqlCaps;
use crate::telemetry::metrics::Metrics;
use crate::tenant::Directory;

/// What the sidecar shares with the rest of the program.
pub(super) struct Beside<'a> {
    pub(super) config: &'a Config,
    pub(super) stores: &'a Stores,
    pub(super) embedder: &'a Embedder,
    pub(super) directory: &'a Arc<Directory>,
    pub(super) limiter: &'a Arc<Limiter>,
    pub(super) metrics: &'a Arc<Metrics>,
    pub(super) clock: &'a Clock,
    pub(super) shutdown: &'a Shutdown,
}

/// The sidecar, serving.
pub(super) struct Serving {
    pub(super) address: SocketAddr,
    pub(super) plane: JoinHandle<DrainReport>,
}

/// Binds its listener; none if it is switched off.
///
/// # Errors
/// The address cannot be had.
pub(super) fn bind(config: &Config) -> Result<Option<Listener>, BindError> {
    let rem = &config.rem;
    if !rem.enabled {
        return Ok(None);
    }
    let limits = limits(&config.server.limits);
    let listener = Listener::bind(rem.listen, rem.tls.as_ref(), &limits, &config.server.deadlines)?;
    Ok(Some(listener.with_error_body(refusal, PROBLEM_TYPE)))
}

/// Pause of the task that fills while there is nothing to do.
const PAUSE: Duration = Duration::from_secs(1);

/// Fills REM data from traffic, and forgets what is old, until the drain begins. If the sidecar is switched off, it only deletes what may
/// not be kept of tenants that are sealed.
pub(super) fn filling(beside: &Beside<'_>) -> Option<impl Future<Output = ()> + Send + use<>> {
    let rem = &beside.config.rem;
    let seals = beside.stores.rem.as_ref().is_some_and(|rem| rem.rem_seals());
    if !rem.enabled && !seals {
        return None;
    }
    let parts = FillParts {
        stores: beside.stores.clone(),
        embedder: rem.embed.uses(&beside.config.embedding.kind).then(|| beside.embedder.clone()),
        settings: FillSettings { enabled: rem.enabled, fill: rem.fill, keep: rem.keep, pause: PAUSE },
        clock: beside.clock.clone(),
    };
    Some(fill::run(parts, beside.shutdown.clone()))
}

/// Serves, where there is a listener and the stores have REM data.
pub(super) fn serve(listener: Option<Listener>, beside: &Beside<'_>) -> Option<Serving> {
    let Beside { config, stores, embedder, directory, limiter, metrics, clock, shutdown } = *beside;
    let (listener, store, sql) = (listener?, stores.rem.clone()?, stores.sql.clone()?);
    let rem = &config.rem;
    let embedder = rem.embed.uses(&config.embedding.kind).then(|| embedder.clone());
    let caps = SqlCaps { rows: rem.sql_rows, bytes: rem.sql_bytes, time: rem.sql_time };
    let parts = RemParts { store, sql, embedder, caps, deadline: rem.deadline, clock: clock.clone() };
    let sidecar = Sidecar::new(SidecarParts {
        rem: Arc::new(Rem::new(parts)),
        directory: Arc::clone(directory),
        limiter: Arc::clone(limiter),
        metrics: Arc::clone(metrics),
        limits: config.server.limits.clone(),
    });
    let address = listener.local_addr();
    let plane = listener.serve(move |request, _| sidecar.clone().serve(request), shutdown.clone());
    Some(Serving { address, plane: tokio::spawn(plane) })
}
