//! Why the program cannot start.

use super::SecretError;
use crate::alert;
use crate::cache::LoadError;
use crate::cache::decide::{UnknownGuard, WeightsError};
use crate::price::PriceError;
use crate::server::BindError;
use crate::shared::SharedError;
use crate::store::{JournalError, SealError, StoreError};
use crate::telemetry::metrics::MetricsError;
use crate::upstream::SetupError;

/// Why the program cannot start. Every text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener cannot be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The cache cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The upstream cannot be used as configured.
    #[error(transparent)]
    Upstream(#[from] SetupError),
    /// `[prices] file` cannot be used.
    #[error(transparent)]
    Prices(#[from] PriceError),
    /// The metrics cannot be set up.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// `cache.guards_off` names a guard that does not exist.
    #[error("cache.guards_off: {0}")]
    Guard(#[from] UnknownGuard),
    /// `cache.weights_file` cannot be used.
    #[error("cache.weights_file: {0}")]
    Weights(#[from] WeightsError),
    /// Somebody cannot be told as configured.
    #[error(transparent)]
    Alerts(#[from] alert::SetupError),
    /// Redis cannot be used as configured.
    #[error("[redis] {0}")]
    Shared(#[from] SharedError),
    /// The ledger journal cannot be kept.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Data cannot be sealed or opened.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The secret that keys all hashes cannot be had.
    #[error(transparent)]
    Secret(#[from] SecretError),
}
