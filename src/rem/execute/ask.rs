//! One query while it is answered: for whom, from what, and where the time goes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::super::{Answer, Code, Fault, Suggestion, Timing};
use super::RemParts;
use crate::embed::EmbedError;
use crate::store::BoxFuture;
use crate::store::rem::{RemRow, RemTable, RemVector, Scope};

/// A query being answered.
pub(super) struct Ask<'a> {
    /// What it is answered from.
    pub(super) parts: &'a RemParts,
    /// For whom.
    pub(super) scope: &'a Scope,
    /// What earlier stages of the batch have given.
    pub(super) stages: &'a [(String, Answer)],
    began: Instant,
    store_micros: AtomicU64,
    embed_micros: AtomicU64,
}

/// Of the time that a query has left, what a vector may take: so much that words can still be searched without it.
const FOR_VECTOR: (u32, u32) = (4, 5);

/// Behind tenant and key, what vectors of searches are remembered for.
const SEARCHED: &str = "rem search";

/// A row that was found.
pub(super) struct Hit {
    pub(super) row: RemRow,
    /// Not yet rounded.
    pub(super) score: Option<f64>,
}

/// What LOOKUP, FUZZY and SEARCH find.
#[derive(Default)]
pub(super) struct Hits {
    pub(super) rows: Vec<Hit>,
    pub(super) truncated: bool,
    pub(super) next: Option<String>,
    pub(super) missing: Vec<String>,
    pub(super) suggestions: Vec<Suggestion>,
    pub(super) degraded: bool,
}

impl<'a> Ask<'a> {
    pub(super) fn new(parts: &'a RemParts, scope: &'a Scope, stages: &'a [(String, Answer)]) -> Self {
        let (store_micros, embed_micros) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { parts, scope, stages, began: Instant::now(), store_micros, embed_micros }
    }

    /// Waits for the store. What it says when it fails is for the log; callers get a text of ours.
    pub(super) async fn store<T>(&self, work: BoxFuture<'_, T>) -> Result<T, Fault> {
        let began = Instant::now();
        let done = work.await;
        self.store_micros.fetch_add(micros(began.elapsed()), Ordering::Relaxed);
        done.map_err(|error| {
            tracing::warn!(kind = error.as_str(), %error, "rem: the store did not answer a query");
            Fault::new(Code::Unavailable, "the data store did not answer").hint("try again in a moment")
        })
    }

    /// Waits for checked SQL.
    pub(super) async fn guarded<T, E>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let began = Instant::now();
        let done = work.await;
        self.store_micros.fetch_add(micros(began.elapsed()), Ordering::Relaxed);
        done
    }

    /// The vector of a text. It may take longer than requests in the data plane wait for one.
    ///
    /// It is remembered for this key only, and apart from those that the data plane and rows have needed: those are remembered for
    /// the whole tenant, and the time that a vector takes would tell that another key has asked exactly that, or was answered so.
    pub(super) async fn vector(&self, text: &str) -> Result<RemVector, Fault> {
        let Some(embedder) = &self.parts.embedder else {
            let detail = "texts are not turned into vectors here, so nothing can be found by meaning";
            let hint = "search by words alone, without MODE and MIN_SIMILARITY or with MODE text; whoever runs this can switch \
                        vectors on with `embed = \"on\"` in section [rem]";
            return Err(Fault::new(Code::EmbeddingUnavailable, detail).hint(hint));
        };
        let began = Instant::now();
        let left = self.parts.deadline.saturating_sub(self.began.elapsed());
        let most = left * FOR_VECTOR.0 / FOR_VECTOR.1;
        let asks = [self.scope.tenant.as_str(), self.scope.key.as_str(), SEARCHED];
        let made = embedder.embed_within(most, &asks, text).await;
        self.embed_micros.fetch_add(micros(began.elapsed()), Ordering::Relaxed);
        match made {
            Ok(made) => Ok(RemVector { space: embedder.space().to_string(), vector: made.vector.to_vec() }),
            Err(EmbedError::Empty) => {
                Err(Fault::new(Code::InvalidArgument, "there is nothing to search for in this text").of("text"))
            }
            Err(error) => {
                tracing::warn!(reason = error.reason(), %error, "rem: no vector for a search");
                let detail =
                    "the text cannot be turned into a vector at this moment, so nothing can be found by meaning";
                let hint = "try again in a moment, or search by words alone with MODE text";
                Err(Fault::new(Code::EmbeddingUnavailable, detail).hint(hint))
            }
        }
    }

    /// Where the time went, of a query that took this long.
    pub(super) fn timing(&self, total: Duration) -> Timing {
        let of = |counter: &AtomicU64| millis(counter.load(Ordering::Relaxed));
        Timing {
            parse: 0.0,
            embed: of(&self.embed_micros),
            store: of(&self.store_micros),
            total: millis(micros(total)),
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn millis(micros: u64) -> f64 {
    // Whole microseconds below 2^53 are exact; nothing here takes 285 years.
    micros as f64 / 1_000.0
}

/// The tables, if names and texts of all of them are kept here. The ledger has neither.
pub(super) fn written(tables: &[RemTable]) -> Result<&[RemTable], Fault> {
    if tables.contains(&RemTable::Requests) {
        let detail =
            "rows of `requests` have no names and no texts; they are found by TRAVERSE from their id, and by SQL";
        return Err(Fault::new(Code::InvalidArgument, detail).of("table").hint("use resources, entities or moments"));
    }
    Ok(tables)
}
