//! What the simulated upstream has seen: counts by route and status, requests that the client gave up, the last request.
//!
//! A [`Flight`] rides with every request under `/v1/` until its last byte is handed over. Dropped before [`Flight::finish`], it
//! counts as cancelled by the client, with the time; that is how a test sees that a proxy passes a disconnect on.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::request::Parts;
use serde::Serialize;
use serde_json::{Value, json};

use crate::clock::Clock;

/// Cancellations kept in full; older ones are only counted.
const MAX_ABORTS: usize = 256;
/// Distinct nonces kept; more are not told apart.
const MAX_NONCES: usize = 1_000_000;

/// Which part of the API a request went to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Chat,
    Completions,
    Embeddings,
    Messages,
    Responses,
    Models,
    Echo,
}

impl Route {
    const ALL: [Self; 7] =
        [Self::Chat, Self::Completions, Self::Embeddings, Self::Messages, Self::Responses, Self::Models, Self::Echo];

    /// The name in `GET /stats`.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat_completions",
            Self::Completions => "completions",
            Self::Embeddings => "embeddings",
            Self::Messages => "messages",
            Self::Responses => "responses",
            Self::Models => "models",
            Self::Echo => "other",
        }
    }
}

/// Counts since the start or the last reset. `GET /stats` has the same members.
#[derive(Clone, Debug, Serialize)]
pub struct Stats {
    /// Requests under `/v1/`.
    pub requests: u64,
    /// Of these, those by route: `chat_completions`, `completions`, `embeddings`, `messages`, `responses`,
    /// `models`, `other`.
    pub routes: BTreeMap<&'static str, u64>,
    /// Response heads sent, by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Streamed answers begun.
    pub streams: u64,
    /// Requests being answered now.
    pub in_flight: u64,
    /// The most there were at once.
    pub max_in_flight: u64,
    /// Connections accepted.
    pub connections: u64,
    /// Requests that the client gave up before the last byte.
    pub aborted: u64,
    /// The last 256 of them, oldest first.
    pub aborts: Vec<Abort>,
    /// Different values of the header `x-nonce` or the query parameter `nonce`.
    pub distinct_nonces: u64,
    /// Requests whose nonce had been seen before.
    pub repeated_nonces: u64,
}

/// A request that the client gave up.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Abort {
    /// As in [`Stats::routes`].
    pub route: &'static str,
    /// `head`: before the response head; `body`: within the body.
    pub phase: &'static str,
    /// Milliseconds from the arrival of the request's head.
    pub after_ms: u64,
    /// Wall clock of the cancellation, in milliseconds since the Unix epoch.
    pub at_unix_ms: u64,
    /// Stream events handed over before it.
    pub events: u64,
}

/// The last request under `/v1/`, as received.
#[derive(Clone, Debug)]
pub struct LastRequest {
    /// Method, for example `POST`.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Header names in lower case, values as text (lossy), in order of arrival.
    pub headers: Vec<(String, String)>,
    /// The body's bytes.
    pub body: Bytes,
}

impl LastRequest {
    /// The first value of a header, by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The form of `GET /last`: `body` as text, or `null` when it is not UTF-8, and always `body_base64`.
    pub(super) fn to_json(&self) -> Value {
        json!({
            "method": self.method, "path": self.path, "headers": self.headers, "bytes": self.body.len(),
            "body": std::str::from_utf8(&self.body).ok(), "body_base64": STANDARD.encode(&self.body),
        })
    }
}

/// The live counters.
#[derive(Debug)]
pub(super) struct Counters {
    clock: Clock,
    routes: [AtomicU64; Route::ALL.len()],
    statuses: Mutex<BTreeMap<u16, u64>>,
    streams: AtomicU64,
    in_flight: AtomicU64,
    max_in_flight: AtomicU64,
    connections: AtomicU64,
    aborted: AtomicU64,
    repeated_nonces: AtomicU64,
    aborts: Mutex<VecDeque<Abort>>,
    nonces: Mutex<HashSet<Box<[u8]>>>,
    last: Mutex<Option<(Parts, Bytes)>>,
}

impl Counters {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            clock,
            routes: Default::default(),
            statuses: Mutex::default(),
            streams: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            max_in_flight: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            aborted: AtomicU64::new(0),
            repeated_nonces: AtomicU64::new(0),
            aborts: Mutex::default(),
            nonces: Mutex::default(),
            last: Mutex::default(),
        }
    }

    pub(super) fn connection(&self) {
        add(&self.connections);
    }

    pub(super) fn status(&self, status: u16) {
        *locked(&self.statuses).entry(status).or_default() += 1;
    }

    pub(super) fn stream(&self) {
        add(&self.streams);
    }

    /// Notes a nonce.
    pub(super) fn nonce(&self, nonce: &[u8]) {
        let mut nonces = locked(&self.nonces);
        if nonces.contains(nonce) {
            add(&self.repeated_nonces);
        } else if nonces.len() < MAX_NONCES {
            nonces.insert(nonce.into());
        }
    }

    pub(super) fn keep_last(&self, parts: Parts, body: Bytes) {
        *locked(&self.last) = Some((parts, body));
    }

    pub(super) fn last(&self) -> Option<LastRequest> {
        let last = locked(&self.last);
        let (parts, body) = last.as_ref()?;
        let header = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        Some(LastRequest {
            method: parts.method.to_string(),
            path: parts.uri.path_and_query().map_or_else(String::new, ToString::to_string),
            headers: parts.headers.iter().map(header).collect(),
            body: body.clone(),
        })
    }

    pub(super) fn snapshot(&self) -> Stats {
        let routes = Route::ALL.iter().zip(&self.routes).map(|(route, count)| (route.as_str(), get(count)));
        let routes: BTreeMap<_, _> = routes.collect();
        Stats {
            requests: routes.values().sum(),
            routes,
            statuses: locked(&self.statuses).clone(),
            streams: get(&self.streams),
            in_flight: get(&self.in_flight),
            max_in_flight: get(&self.max_in_flight),
            connections: get(&self.connections),
            aborted: get(&self.aborted),
            aborts: locked(&self.aborts).iter().copied().collect(),
            distinct_nonces: locked(&self.nonces).len() as u64,
            repeated_nonces: get(&self.repeated_nonces),
        }
    }

    /// Forgets everything but the requests in flight.
    pub(super) fn reset(&self) {
        let plain = [&self.streams, &self.connections, &self.aborted, &self.repeated_nonces, &self.max_in_flight];
        self.routes.iter().chain(plain).for_each(|count| count.store(0, Ordering::Relaxed));
        locked(&self.statuses).clear();
        locked(&self.aborts).clear();
        locked(&self.nonces).clear();
        *locked(&self.last) = None;
    }
}

/// One request on its way; see the module.
#[derive(Debug)]
pub(super) struct Flight {
    counters: Arc<Counters>,
    route: Route,
    began: Instant,
    in_body: bool,
    events: u64,
    finished: bool,
}

impl Flight {
    /// Counts a request that has arrived.
    pub(super) fn begin(counters: Arc<Counters>, route: Route) -> Self {
        if let Some(count) = counters.routes.get(route as usize) {
            add(count);
        }
        let now = counters.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        counters.max_in_flight.fetch_max(now, Ordering::Relaxed);
        Self { counters, route, began: Instant::now(), in_body: false, events: 0, finished: false }
    }

    /// Milliseconds since the request arrived.
    pub(super) fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The response head goes out.
    pub(super) fn head_sent(&mut self, status: u16) {
        self.in_body = true;
        self.counters.status(status);
    }

    /// Stream events handed over.
    pub(super) fn sent(&mut self, events: u64) {
        self.events += events;
    }

    /// The last byte was handed over, or the simulator itself broke off.
    pub(super) fn finish(&mut self) {
        self.finished = true;
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.counters.in_flight.fetch_sub(1, Ordering::Relaxed);
        if self.finished {
            return;
        }
        add(&self.counters.aborted);
        let phase = if self.in_body { "body" } else { "head" };
        let at_unix_ms = self.counters.clock.now_ms();
        let abort =
            Abort { route: self.route.as_str(), phase, after_ms: self.elapsed_ms(), at_unix_ms, events: self.events };
        let mut aborts = locked(&self.counters.aborts);
        if aborts.len() == MAX_ABORTS {
            aborts.pop_front();
        }
        aborts.push_back(abort);
    }
}

fn add(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

fn get(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

/// Takes a lock that only counters stand behind: after a panic elsewhere they are still good enough.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flight_that_does_not_finish_is_an_abort_with_its_phase() {
        let counters = Arc::new(Counters::new(Clock::manual(5_000)));
        let mut done = Flight::begin(counters.clone(), Route::Chat);
        let mut lost = Flight::begin(counters.clone(), Route::Embeddings);
        done.head_sent(200);
        done.finish();
        drop(done);
        lost.head_sent(200);
        lost.sent(3);
        drop(lost);
        let stats = counters.snapshot();
        assert_eq!((stats.requests, stats.in_flight, stats.max_in_flight, stats.aborted), (2, 0, 2, 1));
        assert_eq!((stats.aborts[0].route, stats.aborts[0].phase), ("embeddings", "body"));
        assert_eq!((stats.aborts[0].at_unix_ms, stats.aborts[0].events), (5_000, 3));
        assert_eq!(stats.statuses, BTreeMap::from([(200, 2)]));
    }

    #[test]
    fn nonces_are_told_apart_and_a_reset_forgets_them() {
        let counters = Counters::new(Clock::system());
        for nonce in ["a", "b", "a"] {
            counters.nonce(nonce.as_bytes());
        }
        let stats = counters.snapshot();
        assert_eq!((stats.distinct_nonces, stats.repeated_nonces), (2, 1));
        counters.reset();
        assert_eq!(counters.snapshot().distinct_nonces, 0);
    }
}
