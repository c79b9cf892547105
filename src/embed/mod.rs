//! Text to vector. Used once in the life of a request, after the exact tier has missed: the last user turn becomes a
//! vector, and the index is asked for its neighbours.
//!
//! One [`Embedder`], two kinds: the model inside the binary (`builtin`, computed by `workers`) and a remote
//! OpenAI-compatible endpoint (`remote`). Both sit behind one cache by text hash, which also makes sure that equal
//! texts asked for at the same time are embedded once.
//!
//! Invariants:
//! - every vector is finite, has [`Space::dimensions`] numbers and norm 1;
//! - equal texts give equal bits within a process, whatever else is being embedded;
//! - what a vector does not stand for is reported in [`Embedded::truncated`], and the caller makes it match exactly;
//! - every wait ends at the configured deadline, or at the caller's, every queue is bounded, and every failure is an [`EmbedError`], which
//!   can cost the semantic tier but never the request.
//!
//! Must never run the model on an async thread, and never fetch a model.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

mod breaker;
mod builtin;
mod error;
mod reading;
mod remote;
mod space;
mod workers;

pub use error::EmbedError;
pub use space::Space;

use tokio::sync::Semaphore;

use crate::config::{Embedding, EmbeddingKind};
use reading::{Key, Memory, Reading, unit};
use remote::{Endpoint, Remote};
use workers::{Infer, Workers};

/// What an endpoint bills for a vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bill {
    /// Tokens of the text.
    pub tokens: u64,
    /// The endpoint has said so; otherwise they are counted by length.
    pub told: bool,
}

/// A text's vector.
#[derive(Debug, Clone)]
pub struct Embedded {
    /// [`Space::dimensions`] numbers, norm 1.
    pub vector: Arc<[f32]>,
    /// BLAKE3 of what the model did not see, if anything: the whole text when it is longer than the model's window, or
    /// the words the model has no pieces for. It belongs into the partition: two texts whose digests differ must not
    /// match, however close their vectors.
    pub truncated: Option<[u8; 32]>,
    /// Nothing was computed for this call: the vector was remembered, or another call for the same text made it.
    pub cached: bool,
    /// What it is billed for; nothing if the model is inside the program, or nothing was computed.
    pub bill: Option<Bill>,
    /// Microseconds from the call to the vector, waiting included.
    pub micros: u64,
}

/// What has happened since the start.
#[derive(Default)]
struct Counters {
    depth: AtomicUsize,
    inferences: AtomicU64,
    cache_hits: AtomicU64,
}

enum Engine {
    Builtin(Workers),
    // Boxed: a client is ten times the size of the others.
    Remote(Box<Remote>),
    Fixed(Box<FixedFn>),
}

type FixedFn = dyn Fn(&str) -> Result<Vec<f32>, EmbedError> + Send + Sync;

struct Inner {
    space: Space,
    engine: Engine,
    memory: Arc<Memory>,
    deadline: Duration,
    /// Places of [`Embedder::embed_within`].
    patient: Semaphore,
    counters: Arc<Counters>,
}

/// Calls at a time of callers who have time: however long they wait, nearly all of the queue stays for requests.
const PATIENT: usize = 2;
/// How long such a caller leaves a full queue alone.
const PAUSE: Duration = Duration::from_millis(10);

/// Turns texts into vectors. A clone is the same embedder.
#[derive(Clone)]
pub struct Embedder(Arc<Inner>);

impl Embedder {
    /// The configured embedder. The built-in model is loaded by [`Self::warm`] or by the first text.
    ///
    /// # Errors
    /// [`EmbedError::Model`]: a thread cannot be started, or the remote endpoint's URL or key is malformed.
    pub fn new(config: &Embedding) -> Result<Self, EmbedError> {
        let counters = Arc::<Counters>::default();
        let memory = Arc::new(Memory::new(config.cache_entries.max(1)));
        let (space, engine) = match &config.kind {
            EmbeddingKind::Builtin => {
                let (threads, queue) = (config.threads, config.queue);
                let workers = Workers::start(threads, queue, &memory, Arc::clone(&counters), builtin_infer)?;
                (Space::builtin(), Engine::Builtin(workers))
            }
            EmbeddingKind::OpenAi { url, model, api_key, dimensions } => {
                let endpoint = Endpoint { url, model, api_key: api_key.as_ref(), dimensions: *dimensions };
                let remote = Remote::new(&endpoint, config.queue, config.deadline, Arc::clone(&counters))?;
                (Space::remote(url, model, *dimensions), Engine::Remote(Box::new(remote)))
            }
        };
        Ok(Self::over(space, engine, memory, config.deadline, counters))
    }

    fn over(space: Space, engine: Engine, memory: Arc<Memory>, deadline: Duration, counters: Arc<Counters>) -> Self {
        Self(Arc::new(Inner { space, engine, memory, deadline, patient: Semaphore::new(PATIENT), counters }))
    }

    /// An embedder that calls `make` on the caller's task, for tests of what uses one. Vectors are checked and scaled as
    /// for any other kind.
    #[doc(hidden)]
    pub fn fixed<F>(dimensions: usize, make: F) -> Self
    where
        F: Fn(&str) -> Result<Vec<f32>, EmbedError> + Send + Sync + 'static,
    {
        let space = Space { model: "fixed".to_owned(), revision: "0".to_owned(), dimensions };
        Self::over(
            space,
            Engine::Fixed(Box::new(make)),
            Arc::new(Memory::new(1024)),
            Duration::from_secs(60),
            Arc::default(),
        )
    }

    /// An embedder that always fails, for tests of what must go on without one.
    #[doc(hidden)]
    pub fn failing(error: EmbedError) -> Self {
        Self::fixed(1, move |_| Err(error.clone()))
    }

    /// The space its vectors live in.
    pub fn space(&self) -> &Space {
        &self.0.space
    }

    /// Loads the built-in model and runs it once, on the calling thread: about a quarter of a second. The other kinds
    /// have nothing to load.
    ///
    /// # Errors
    /// [`EmbedError::Model`] if the model cannot be used.
    pub fn warm(&self) -> Result<(), EmbedError> {
        match self.0.engine {
            Engine::Builtin(_) => builtin_infer()("warm").map(drop),
            Engine::Remote(_) | Engine::Fixed(_) => Ok(()),
        }
    }

    /// The vector of `text`, within the configured deadline. Dropping the future withdraws the work if it has not begun.
    ///
    /// # Errors
    /// Any [`EmbedError`]; none is remembered, the next call tries again.
    pub async fn embed(&self, text: &str) -> Result<Embedded, EmbedError> {
        self.embed_for("", text).await
    }

    /// [`Self::embed`], remembered for `owner` only. A vector remembered for all would tell one tenant, by the time it
    /// takes, what another has asked.
    ///
    /// # Errors
    /// As [`Self::embed`].
    pub async fn embed_for(&self, owner: &str, text: &str) -> Result<Embedded, EmbedError> {
        self.timed(text, self.0.deadline, self.remembered_or_made(&[owner], text)).await
    }

    /// [`Self::embed_for`], with another deadline than the configured one: for callers who can wait, as a request in the data
    /// plane cannot. Few of them are at the queue at a time, and a queue that is full is tried again. Remembered for all the
    /// names of `owner` together, as for a key of a tenant, and for none of them alone.
    ///
    /// # Errors
    /// As [`Self::embed`], but never that the queue is full.
    pub async fn embed_within(&self, most: Duration, owner: &[&str], text: &str) -> Result<Embedded, EmbedError> {
        let work = async {
            if let Some(reading) = self.0.memory.get(&self.key(owner, text)) {
                self.0.counters.cache_hits.fetch_add(1, Ordering::Relaxed);
                return Ok((reading, true));
            }
            // It is never closed; if it were, nobody would wait.
            let _place = self.0.patient.acquire().await.ok();
            loop {
                match self.remembered_or_made(owner, text).await {
                    Err(EmbedError::QueueFull) => tokio::time::sleep(PAUSE).await,
                    made => return made,
                }
            }
        };
        self.timed(text, most, work).await
    }

    async fn timed(
        &self,
        text: &str,
        most: Duration,
        work: impl Future<Output = Result<(Reading, bool), EmbedError>>,
    ) -> Result<Embedded, EmbedError> {
        let began = Instant::now();
        if text.trim().is_empty() {
            return Err(EmbedError::Empty);
        }
        let (reading, cached) = tokio::time::timeout(most, work).await.map_err(|_| EmbedError::Deadline)??;
        let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let bill = reading.bill.filter(|_| !cached);
        Ok(Embedded { vector: reading.vector, truncated: reading.unseen, cached, bill, micros })
    }

    async fn remembered_or_made(&self, owner: &[&str], text: &str) -> Result<(Reading, bool), EmbedError> {
        // The slot is held while the vector is made; others who want it wait. If we fail or are dropped, the next of
        // them takes our place.
        let key = self.key(owner, text);
        match self.0.memory.get_value_or_guard_async(&key).await {
            Ok(reading) => {
                self.0.counters.cache_hits.fetch_add(1, Ordering::Relaxed);
                Ok((reading, true))
            }
            Err(slot) => {
                let reading = self.make(key, text).await?;
                // Refused only if the slot was cleared meanwhile; the vector is good all the same.
                let _ = slot.insert(reading.clone());
                Ok((reading, false))
            }
        }
    }

    async fn make(&self, key: Key, text: &str) -> Result<Reading, EmbedError> {
        match &self.0.engine {
            Engine::Builtin(workers) => workers.run(key, text).await,
            Engine::Remote(remote) => remote.run(text).await,
            Engine::Fixed(make) => {
                self.0.counters.inferences.fetch_add(1, Ordering::Relaxed);
                Ok(Reading { vector: unit(make(text)?, self.0.space.dimensions)?, unseen: None, bill: None })
            }
        }
    }

    fn key(&self, owner: &[&str], text: &str) -> Key {
        let space = self.0.space.to_string();
        reading::digest([space.as_str()].into_iter().chain(owner.iter().copied()).chain([text]))
    }

    /// Texts that wait for a thread, or are at the remote endpoint.
    pub fn queue_depth(&self) -> usize {
        match &self.0.engine {
            Engine::Remote(remote) => remote.in_flight(),
            Engine::Builtin(_) | Engine::Fixed(_) => self.0.counters.depth.load(Ordering::Relaxed),
        }
    }

    /// Texts for which a vector was computed or asked for, failures included.
    pub fn inferences(&self) -> u64 {
        self.0.counters.inferences.load(Ordering::Relaxed)
    }

    /// Calls answered without a computation of their own.
    pub fn cache_hits(&self) -> u64 {
        self.0.counters.cache_hits.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Embedder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Embedder({})", self.0.space)
    }
}

/// The built-in model on a pool of one thread. Handing parts of a two-millisecond job between threads costs more than
/// they save; several texts at once come from several workers.
fn builtin_infer() -> Infer {
    let pool = Arc::new(rten::ThreadPool::with_num_threads(1));
    Box::new(move |text| builtin::model()?.read(text, &pool))
}

#[cfg(test)]
mod tests;
