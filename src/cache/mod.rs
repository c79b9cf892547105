//! The cache: finds an answer for a request, or says by name why there is none, and takes in new answers.
//!
//! Stands between reading a request and forwarding it. The store is the truth; what is here is a view that is loaded
//! at start-up and written through a queue.
//!
//! A look-up never fails: a fault in the embedder, the index or the store is a miss with a reason. Doubt is a miss.

pub mod decide;
pub mod flight;
pub mod outcome;
pub mod policy;

mod commit;
mod explain;
mod invalidate;
mod lookup;
mod manage;
mod points;
mod shelf;

use std::sync::Arc;
use std::time::Duration;

pub use commit::{Fresh, FreshItem};
pub use explain::{Explanation, NeighbourReport};
pub use invalidate::{
    DEFAULT_RADIUS, Epoch, Filter, InvalidateError, Near, Order, Removed, Selected, Selection, Selector,
};
pub use lookup::{Ask, Hit, Query, Searched, Vector};
pub use manage::{LoadError, Sizes};
pub use points::{Candidate, IndexSize, PointMeta};
pub use shelf::{Body, Meta};

use self::decide::Guards;
use self::invalidate::Invalidations;
use self::points::Points;
use self::shelf::Shelf;
use crate::call::SecretKey;
use crate::clock::Clock;
use crate::config;
use crate::embed::Embedder;
use crate::store::{EntryStore, WriterHandle};
use crate::telemetry::metrics::Metrics;

/// Points looked at for one decision (`decision.md`: the ten nearest).
pub const NEIGHBOURS: usize = 10;

/// Longest wait for a body that is not in memory.
const STORE_DEADLINE: Duration = Duration::from_millis(100);

/// See the module. One for each process.
pub struct Cache {
    settings: config::Cache,
    secret: SecretKey,
    clock: Clock,
    shelf: Shelf,
    points: Points,
    guards: Guards,
    embedder: Embedder,
    store: Arc<dyn EntryStore>,
    writer: WriterHandle,
    metrics: Arc<Metrics>,
    invalidations: Invalidations,
}

/// What a cache is made of.
pub struct Parts {
    /// Policy and sizes.
    pub settings: config::Cache,
    /// Keys all hashes.
    pub secret: SecretKey,
    /// Wall-clock time.
    pub clock: Clock,
    /// Guards in use.
    pub guards: Guards,
    /// Makes vectors.
    pub embedder: Embedder,
    /// The truth.
    pub store: Arc<dyn EntryStore>,
    /// Writes to the truth, off the request path.
    pub writer: WriterHandle,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

impl Cache {
    /// An empty cache; [`Cache::load`] fills it.
    pub fn new(parts: Parts) -> Self {
        let Parts { settings, secret, clock, guards, embedder, store, writer, metrics } = parts;
        Self {
            shelf: Shelf::new(&settings),
            points: Points::new(settings.hnsw_from),
            settings,
            secret,
            clock,
            guards,
            embedder,
            store,
            writer,
            metrics,
            invalidations: Invalidations::default(),
        }
    }

    /// Policy and sizes.
    pub fn settings(&self) -> &config::Cache {
        &self.settings
    }

    /// The secret that keys all hashes.
    pub fn secret(&self) -> &SecretKey {
        &self.secret
    }

    /// The embedder.
    pub fn embedder(&self) -> &Embedder {
        &self.embedder
    }
}
