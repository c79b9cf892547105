//! Looking up: exact, then in the same words, then by similarity.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::decide::{Features, Reject, Verdict, judge, normalise};
use super::outcome::{Reason, Tier};
use super::shelf::{Body, Meta};
use super::{Cache, Candidate, NEIGHBOURS, STORE_DEADLINE};
use crate::call::Keys;
use crate::dialect::{Dialect, Replay};
use crate::ids::{EntryId, TenantId};
use crate::store::Digest;

/// Conditions that an answer must meet besides being the right one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ask {
    /// The request's own token limit.
    pub token_limit: Option<u64>,
    /// Oldest entry that may be served.
    pub max_age: Option<Duration>,
}

/// An answer to serve.
#[derive(Debug, Clone)]
pub struct Hit {
    /// All about the entry but its body.
    pub meta: Arc<Meta>,
    /// The body.
    pub body: Arc<Body>,
    /// Which part of the cache found it.
    pub tier: Tier,
    /// Cosine between the two prompts, if that is how it was found.
    pub cosine: Option<f32>,
}

/// A question to the semantic tier.
#[derive(Clone, Copy)]
pub struct Query<'a> {
    /// Owner.
    pub tenant: &'a TenantId,
    /// Keys of the call.
    pub keys: &'a Keys,
    /// The last user turn.
    pub text: &'a str,
    /// Least cosine.
    pub floor: f32,
    /// Other conditions.
    pub ask: Ask,
}

/// The vector of a prompt and where it belongs; made once for each request and kept for storing.
#[derive(Debug, Clone)]
pub struct Vector {
    /// Partition for this prompt.
    pub partition: Digest,
    /// Unit-norm embedding.
    pub values: Arc<[f32]>,
}

/// What the semantic tier found.
#[derive(Debug)]
pub struct Searched {
    /// The answer, or why there is none.
    pub found: Result<Hit, Reason>,
    /// Cosine of the best candidate, served or not.
    pub best: Option<f32>,
    /// The prompt's vector, if one was made.
    pub vector: Option<Vector>,
}

impl Cache {
    /// An answer to an equal request.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn exact(&self, tenant: &TenantId, fingerprint: &Digest, ask: Ask) -> Result<Hit, Reason> {
        let now = self.clock.now_ms();
        let meta = self.shelf.find(tenant, fingerprint, now).ok_or(Reason::NotStored)?;
        self.open(meta, ask, Tier::Exact, None).await
    }

    /// An answer to a request that says the same: in the same words, or near enough and past all guards.
    pub async fn semantic(&self, query: Query<'_>) -> Searched {
        if let Some(hit) = self.same_words(query).await {
            return Searched { found: Ok(hit), best: None, vector: None };
        }
        let vector = match self.vector(query.tenant, query.keys, query.text).await {
            Ok(vector) => vector,
            Err(reason) => return Searched { found: Err(reason), best: None, vector: None },
        };
        let (candidates, best) = self.nearest(query.tenant, &vector);
        let (chosen, verdict) = self.judge(query, &candidates);
        let found = match chosen.and_then(|index| candidates.get(index)) {
            Some(candidate) => match self.shelf.get(query.tenant, candidate.meta.entry, self.clock.now_ms()) {
                Some(meta) => self.open(meta, query.ask, Tier::Semantic, Some(candidate.cosine)).await,
                None => Err(Reason::Rejected(Reject::NoNeighbour)),
            },
            None => Err(Reason::Rejected(match verdict {
                Verdict::Reject(why) => why,
                Verdict::Accept => Reject::NoNeighbour,
            })),
        };
        let reason = found.as_ref().err().map_or("accept", |reason| reason.as_str());
        self.metrics.verdict(found.is_ok(), reason, best);
        Searched { found, best, vector: Some(vector) }
    }

    /// The vector of a prompt and its partition.
    ///
    /// # Errors
    /// Why none could be made; the request goes on without the semantic tier.
    pub async fn vector(&self, tenant: &TenantId, keys: &Keys, text: &str) -> Result<Vector, Reason> {
        let began = Instant::now();
        let embedded = self.embedder.embed_for(tenant.as_str(), text).await;
        let failure = embedded.as_ref().err().map(crate::embed::EmbedError::reason);
        self.metrics.embedding(began.elapsed(), failure);
        let embedded = embedded.map_err(|error| Reason::Embedding(error.reason()))?;
        let space = self.embedder.space().to_string();
        let partition = keys.partition(&self.secret, &space, embedded.truncated);
        Ok(Vector { partition, values: embedded.vector })
    }

    /// The nearest live points of the prompt's partition, and the best cosine among them.
    pub(super) fn nearest(&self, tenant: &TenantId, vector: &Vector) -> (Vec<Candidate>, Option<f32>) {
        let began = Instant::now();
        let (candidates, kind) = self.points.nearest(tenant, &vector.partition, &vector.values, NEIGHBOURS);
        self.metrics.search(kind.as_str(), began.elapsed());
        let now = self.clock.now_ms();
        let live = |c: &Candidate| self.shelf.get(tenant, c.meta.entry, now).is_some();
        let candidates: Vec<Candidate> = candidates.into_iter().filter(live).collect();
        let best = candidates.first().map(|c| c.cosine);
        (candidates, best)
    }

    pub(super) fn judge(&self, query: Query<'_>, candidates: &[Candidate]) -> (Option<usize>, Verdict) {
        let new = Features::of(query.text);
        // Candidates come best first; what lies below the floor is turned down for that and needs no features.
        let near = candidates.iter().take_while(|c| c.cosine >= query.floor);
        let features: Vec<Features> = near.map(|c| Features::of(&c.meta.prompt)).collect();
        let pairs = candidates.iter().enumerate().map(|(i, c)| (c.cosine, features.get(i).unwrap_or(&new)));
        judge(pairs, &new, query.floor, self.guards)
    }

    /// A point whose prompt differs in case, blanks or final punctuation only. The guards still have their say: in
    /// code, quotes and paths case matters.
    pub(super) async fn same_words(&self, query: Query<'_>) -> Option<Hit> {
        let key = query.keys.normalised(&self.secret, &normalise(query.text));
        let point = self.points.same_words(query.tenant, &key)?;
        self.guards.check(&Features::of(query.text), &Features::of(&point.prompt)).ok()?;
        let meta = self.shelf.get(query.tenant, point.entry, self.clock.now_ms())?;
        self.open(meta, query.ask, Tier::Semantic, None).await.ok()
    }

    /// Checks the conditions and fetches the body.
    async fn open(&self, meta: Arc<Meta>, ask: Ask, tier: Tier, cosine: Option<f32>) -> Result<Hit, Reason> {
        let age = Duration::from_millis(self.clock.now_ms().saturating_sub(meta.created_at));
        if ask.max_age.is_some_and(|oldest| age > oldest) {
            return Err(Reason::TooOld);
        }
        if !fits(&meta, ask.token_limit) {
            return Err(Reason::TokenLimit);
        }
        let body = match self.shelf.body(meta.id) {
            Some(body) => body,
            None => self.fetch(&meta.tenant, meta.id).await?,
        };
        Ok(Hit { meta, body, tier, cosine })
    }

    async fn fetch(&self, tenant: &TenantId, id: EntryId) -> Result<Arc<Body>, Reason> {
        let read = timeout(STORE_DEADLINE, self.store.entry(tenant, id)).await;
        let Ok(Ok(Some(entry))) = read else { return Err(Reason::CacheFault) };
        let body = body_of(Dialect::from_name(&entry.dialect), entry.body).ok_or(Reason::CacheFault)?;
        let body = Arc::new(body);
        self.shelf.keep_body(id, Arc::clone(&body));
        Ok(body)
    }
}

/// The body in the form that is served. `None` if it is not what the dialect promises.
pub(super) fn body_of(dialect: Dialect, bytes: bytes::Bytes) -> Option<Body> {
    match dialect {
        Dialect::Chat | Dialect::Completions => Replay::new(dialect, bytes).ok().map(Body::Completion),
        _ => Some(Body::Item(bytes)),
    }
}

/// Tokens of a text completion whose request sets no limit, at OpenAI and those who keep to it.
const COMPLETION_TOKENS: u64 = 16;

/// A stored answer ended by itself, so it may serve any request whose limit it stays within. If nobody told its length,
/// only a request with the same limit is certain to get the same.
fn fits(meta: &Meta, limit: Option<u64>) -> bool {
    match (limit, meta.completion_tokens) {
        // Some servers have no limit here, so one without a limit may have made a long answer, for others like it.
        (None, tokens) if meta.dialect == Dialect::Completions.as_str() => {
            limit_equal(meta, None) || tokens.is_some_and(|tokens| tokens <= COMPLETION_TOKENS)
        }
        (None, _) => true,
        (Some(limit), Some(tokens)) => tokens <= limit,
        (Some(_), None) => meta.dialect == Dialect::Embeddings.as_str() || limit_equal(meta, limit),
    }
}

fn limit_equal(meta: &Meta, limit: Option<u64>) -> bool {
    meta.token_limit == limit
}
