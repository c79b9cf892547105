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
mod considered;
mod explain;
mod feedback;
mod follow;
mod gate;
mod invalidate;
mod learners;
mod likeness;
mod lookup;
mod manage;
mod pending;
mod points;
mod replicas;
mod residency;
mod sharing;
mod shelf;
mod writers;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

pub use commit::{Committed, Fresh, FreshItem};
pub use considered::{Chosen, Considered};
pub use explain::{DecisionReport, Explanation, LearnerReport, NeighbourReport};
pub use feedback::{Consequences, Feedback, FeedbackError, Opinion};
pub use follow::{Fresh as FreshAnswer, Lessons};
pub use invalidate::{
    DEFAULT_RADIUS, Epoch, Filter, InvalidateError, Near, Order, Removed, Selected, Selection, Selector,
};
pub use likeness::Likeness;
pub use lookup::{Ask, Hit, Query, Searched, Vector};
pub use manage::{LoadError, Sizes};
pub use outcome::Tier;
pub use points::{Candidate, IndexSize, PointMeta};
pub use replicas::{Follower, Standing};
pub use residency::Elsewhere;
pub use sharing::Turn;
pub use shelf::{Body, Meta};
pub use writers::Probing;

use self::decide::{Guards, Weights};
use self::gate::Gate;
use self::invalidate::Invalidations;
use self::learners::Learners;
use self::pending::Pending;
use self::points::Points;
use self::residency::Residency;
use self::sharing::Distrusted;
use self::shelf::Shelf;
use self::writers::Writers;
use crate::call::SecretKey;
use crate::clock::Clock;
use crate::config;
use crate::embed::Embedder;
use crate::shared::Shared;
use crate::store::{ChangeStore, DecisionStore, EntryStore, SearchStore, WriterHandle};
use crate::telemetry::metrics::Metrics;

/// Points looked at for one decision (`decision.md`: the ten nearest).
pub const NEIGHBOURS: usize = 10;

/// Longest wait for a body that is not in memory.
const STORE_DEADLINE: Duration = Duration::from_millis(100);

/// How long it is remembered that an entry was removed, at least: longer than anything that was read from the store before
/// can be on its way into memory.
const REMOVED: Duration = Duration::from_mins(10);

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
    decisions: Arc<dyn DecisionStore>,
    writer: WriterHandle,
    metrics: Arc<Metrics>,
    invalidations: Invalidations,
    learners: Learners,
    writers: Writers,
    residency: Residency,
    gate: Gate,
    shared: Option<Shared>,
    lease_wait: Duration,
    removed: Distrusted,
    blind: Duration,
    /// How this replica stands to others, and the order of changes that it follows; none with a store of its own.
    follows: OnceLock<(Arc<Standing>, Arc<dyn ChangeStore>)>,
    pending: Pending,
    loaded: AtomicBool,
    /// Held while groups change shape.
    reshaping: Mutex<()>,
}

/// Redis as the cache uses it.
pub struct SharedTier {
    /// The connection.
    pub redis: Shared,
    /// Longest life of a copy of an answer.
    pub longest_ttl: Duration,
    /// Longest wait for another replica's answer to an equal prompt.
    pub lease_wait: Duration,
}

/// What a cache is made of.
pub struct Parts {
    /// Searches for what is not in memory, where the store can.
    pub search: Option<Arc<dyn SearchStore>>,
    /// Redis, where replicas share it besides the store.
    pub shared: Option<SharedTier>,
    /// Longest time to serve from memory without word from a shared store.
    pub blind: Duration,
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
    /// Weights for the embedder's space; none, if nobody has fitted any.
    pub weights: Option<Weights>,
    /// The truth.
    pub store: Arc<dyn EntryStore>,
    /// What was decided, and what was learnt from it.
    pub decisions: Arc<dyn DecisionStore>,
    /// Writes to the truth, off the request path.
    pub writer: WriterHandle,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

impl Cache {
    /// An empty cache; [`Cache::load`] fills it.
    pub fn new(parts: Parts) -> Self {
        let Parts {
            settings,
            secret,
            clock,
            guards,
            embedder,
            weights,
            store,
            search,
            shared,
            decisions,
            writer,
            metrics,
            blind,
        } = parts;
        Self {
            shelf: Shelf::new(&settings),
            points: Points::new(settings.hnsw_from),
            learners: Learners::new(weights, embedder.space().to_string()),
            writers: Writers::new(settings.writes_per_minute, settings.probe_alarm),
            reshaping: Mutex::default(),
            residency: Residency::new(search, settings.index_bytes, embedder.space().dimensions),
            gate: Gate::new(),
            removed: Distrusted::new(shared.as_ref().map_or(Duration::ZERO, |shared| shared.longest_ttl).max(REMOVED)),
            lease_wait: shared.as_ref().map_or(Duration::ZERO, |shared| shared.lease_wait),
            shared: shared.map(|shared| shared.redis),
            follows: OnceLock::new(),
            pending: Pending::default(),
            loaded: AtomicBool::new(false),
            blind,
            settings,
            secret,
            clock,
            guards,
            embedder,
            store,
            decisions,
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

    /// How this replica stands to others; none with a store of its own.
    fn standing(&self) -> Option<&Standing> {
        self.follows.get().map(|(standing, _)| standing.as_ref())
    }

    /// The order of changes that replicas share; none with a store of its own.
    fn changes(&self) -> Option<&dyn ChangeStore> {
        self.follows.get().map(|(_, changes)| changes.as_ref())
    }

    fn reshaping(&self) -> MutexGuard<'_, ()> {
        self.reshaping.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The embedder.
    pub fn embedder(&self) -> &Embedder {
        &self.embedder
    }
}
