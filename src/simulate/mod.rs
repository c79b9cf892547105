//! A simulated upstream: an OpenAI-compatible server that answers deterministically, for trying Remora out, for tests and for
//! benchmarks. It stands where a provider would and shares no code with the data path it tests.
//!
//! It is honest: its banner, its answers and `GET /` say that it is a simulation. Every answer names its prompt and a digest of
//! the conversation, so an answer that was given to the wrong question can be seen; only what `--answers` lists is said as listed. Faults are ordered, never accidental: by
//! the header `x-simulate`, by a model name `sim-fault-…`, by a script, or by `--error-rate`; the words are in [`FAULT_HELP`].
//!
//! | route | what |
//! |---|---|
//! | `POST /v1/chat/completions`, `/v1/completions` | JSON and server-sent events |
//! | `POST /v1/embeddings` | unit vectors from a hash |
//! | `GET /v1/models`, `/v1/models/{id}` | any model exists but `no-such-model…` |
//! | anything else under `/v1/` | the request's own bytes, described in `x-echo-*` |
//! | `GET /stats`, `GET /last`, `POST /reset`, `POST /script` | for tests |
//!
//! Invariants: the same request gets the same answer but for `id`, `created` and `x-request-id`; one token is four bytes
//! (see `tokens`). It must never call a model or another host, and must not be the bottleneck of a benchmark.

mod answer;
mod body;
mod book;
mod connection;
mod control;
mod embeddings;
mod error;
mod events;
mod fault;
mod foreign;
mod models;
mod options;
mod prefixes;
mod reply;
mod request;
mod route;
mod schema;
mod stats;
mod tokens;
mod wire;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub use self::fault::FAULT_HELP;
pub use self::options::{BadDuration, KeyRule, Options};
pub use self::stats::{Abort, LastRequest, Stats};

use self::book::Book;
use self::fault::{BeforeHead, Fault, Script};
use self::prefixes::Prefixes;
use self::stats::{Counters, locked};
use self::wire::Head;
use crate::clock::Clock;

/// What everybody who meets the simulator should know.
const NOTE: &str = "This is a simulation, not a model: answers are made up from the question.";
/// Conversations whose requests are counted for the directive `times`; beyond that the count begins anew.
const MAX_OCCURRENCES: usize = 100_000;

/// What all connections share.
struct State {
    options: Options,
    counters: Arc<Counters>,
    script: ArcSwap<Script>,
    book: Book,
    prefixes: Prefixes,
    clock: Clock,
    /// Answers begun; makes ids unique.
    serial: AtomicU64,
    /// Requests that chance decided on; makes the choice repeatable.
    chances: AtomicU64,
    occurrences: Mutex<HashMap<[u8; 32], u32>>,
}

impl State {
    fn new(options: Options) -> io::Result<Self> {
        let script = of_file(options.script.as_deref(), Script::parse)?;
        let book = of_file(options.answers.as_deref(), Book::parse)?;
        let clock = Clock::system();
        Ok(Self {
            options,
            counters: Arc::new(Counters::new(clock.clone())),
            script: ArcSwap::from_pointee(script),
            book,
            prefixes: Prefixes::default(),
            clock,
            serial: AtomicU64::new(0),
            chances: AtomicU64::new(0),
            occurrences: Mutex::default(),
        })
    }

    /// A short text that no other answer of this process has.
    fn unique(&self) -> String {
        format!("sim{:016x}", self.serial.fetch_add(1, Ordering::Relaxed))
    }

    fn head(&self, prefix: &str, model: &str) -> Head {
        let id = format!("{prefix}{}", self.unique());
        Head { id, created: self.clock.now_ms() / 1000, model: model.to_owned() }
    }

    /// A 500 for the share of requests that `error_rate` names. The n-th request has the same fate for the same seed.
    fn fault_by_chance(&self) -> Fault {
        if self.options.error_rate <= 0.0 {
            return Fault::default();
        }
        let n = self.chances.fetch_add(1, Ordering::Relaxed);
        let mut random = fastrand::Rng::with_seed(blake3_u64(self.options.seed, n));
        let fails = random.f64() < self.options.error_rate;
        Fault { before_head: fails.then_some(BeforeHead::Status(500)), ..Fault::default() }
    }

    /// How many times this conversation has been asked of this model, this time included.
    fn occurrence(&self, model: &str, conversation: blake3::Hash) -> u32 {
        let mut hasher = blake3::Hasher::new();
        hasher.update(conversation.as_bytes()).update(model.as_bytes());
        let mut occurrences = locked(&self.occurrences);
        if occurrences.len() >= MAX_OCCURRENCES {
            occurrences.clear();
        }
        let count = occurrences.entry(*hasher.finalize().as_bytes()).or_default();
        *count = count.saturating_add(1);
        *count
    }

    fn reset(&self) {
        self.counters.reset();
        locked(&self.occurrences).clear();
        self.chances.store(0, Ordering::Relaxed);
    }
}

/// What a file says, or nothing if none is named.
fn of_file<T: Default>(path: Option<&Path>, parse: impl FnOnce(&str) -> Result<T, String>) -> io::Result<T> {
    let Some(path) = path else { return Ok(T::default()) };
    let told = |wrong: String| io::Error::new(io::ErrorKind::InvalidInput, format!("{}: {wrong}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| told(error.to_string()))?;
    parse(&text).map_err(told)
}

/// Spreads two numbers over a seed: neighbouring seeds of a small generator would give neighbouring first numbers.
fn blake3_u64(seed: u64, n: u64) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes()).update(&n.to_le_bytes());
    let mut out = [0; 8];
    hasher.finalize_xof().fill(&mut out);
    u64::from_le_bytes(out)
}

/// A running simulator; dropping it closes the listener and every connection.
pub struct Handle {
    /// Where it listens.
    pub addr: SocketAddr,
    state: Arc<State>,
    task: JoinHandle<()>,
}

impl Handle {
    /// `http://ADDR`, without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Counts since the start or the last reset.
    pub fn stats(&self) -> Stats {
        self.state.counters.snapshot()
    }

    /// The last request under `/v1/`, as received.
    pub fn last(&self) -> Option<LastRequest> {
        self.state.counters.last()
    }

    /// Forgets all counts.
    pub fn reset(&self) {
        self.state.reset();
    }

    /// Replaces the fault script; the text is that of a script file, empty for none.
    ///
    /// # Errors
    /// What is wrong with it; the script in force then stays.
    pub fn script(&self, toml: &str) -> Result<(), String> {
        Script::parse(toml).map(|script| self.state.script.store(Arc::new(script)))
    }

    /// Closes the listener and every connection.
    pub async fn stop(mut self) {
        self.task.abort();
        // It was cancelled, so the only result is that it has ended.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts a simulator on `listen` (port 0: a free one) in the background of the current runtime.
///
/// # Errors
/// The address cannot be bound, or a file cannot be read.
pub async fn spawn(options: Options, listen: SocketAddr) -> io::Result<Handle> {
    let listener = TcpListener::bind(listen).await?;
    let addr = listener.local_addr()?;
    let state = Arc::new(State::new(options)?);
    let task = tokio::spawn(connection::accept_loop(listener, Arc::clone(&state)));
    Ok(Handle { addr, state, task })
}

/// Runs a simulator on `options.listen` until Ctrl-C: the command `remora simulate`.
///
/// # Errors
/// The address cannot be bound, or a file cannot be read.
pub async fn run(options: Options) -> io::Result<()> {
    let listen = options.listen;
    let handle = spawn(options, listen).await?;
    eprintln!("remora simulate: listening on {}/v1\n{NOTE}\nCounts: GET {}/stats", handle.url(), handle.url());
    tokio::signal::ctrl_c().await?;
    handle.stop().await;
    Ok(())
}

#[cfg(test)]
mod tests;
