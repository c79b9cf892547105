//! Looking up: exact, then in the same words, then by similarity.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::considered::Considered;
use super::decide::{Features, Near, Reject, normalise, weigh};
use super::outcome::{Reason, Tier};
use super::shelf::{Body, Meta};
use super::{Cache, NEIGHBOURS, PointMeta, STORE_DEADLINE};
use crate::call::Keys;
use crate::dialect::{Dialect, Replay};
use crate::embed::Bill;
use crate::ids::{EntryId, KeyId, PointId, RequestId, TenantId};
use crate::store::{DecisionWrite, Digest};
use crate::telemetry::trace::{Marks, Stage};

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
    /// The request.
    pub request: RequestId,
    /// Who asks.
    pub key: &'a KeyId,
    /// Model asked for.
    pub model: &'a str,
    /// Least cosine.
    pub floor: f32,
    /// The error budget.
    pub budget: f64,
    /// Only watch: nothing may be served.
    pub shadow: bool,
    /// Other conditions.
    pub ask: Ask,
    /// Where the stages are marked.
    pub marks: &'a Marks,
}

/// A point near a query, with the answer it leads to.
#[derive(Debug, Clone)]
pub(super) struct Neighbour {
    pub(super) id: PointId,
    pub(super) cosine: f32,
    pub(super) point: Arc<PointMeta>,
    pub(super) entry: Arc<Meta>,
}

/// The vector of a prompt and where it belongs; made once for each request and kept for storing.
#[derive(Debug, Clone)]
pub struct Vector {
    /// Partition for this prompt.
    pub partition: Digest,
    /// Unit-norm embedding.
    pub values: Arc<[f32]>,
    /// What it was billed for, if an endpoint was asked.
    pub bill: Option<Bill>,
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
    /// What was near and what became of it, to learn from once the right answer is known.
    pub considered: Option<Box<Considered>>,
}

impl Cache {
    /// An answer to an equal request.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn exact(&self, tenant: &TenantId, fingerprint: &Digest, ask: Ask) -> Result<Hit, Reason> {
        let now = self.clock.now_ms();
        match self.shelf.find(tenant, fingerprint, now) {
            Some(meta) => self.open(meta, ask, Tier::Exact, None).await,
            None => self.exact_elsewhere(tenant, fingerprint, ask).await,
        }
    }

    /// An answer to a request that says the same: in the same words, or in others if the error budget allows it.
    pub async fn semantic(&self, query: Query<'_>) -> Searched {
        if let Some(hit) = self.same_words(query).await {
            return Searched { found: Ok(hit), best: None, vector: None, considered: None };
        }
        let stage = query.marks.stage(Stage::Embed);
        let vector = self.vector(query.tenant, query.keys, query.text).await;
        drop(stage);
        let vector = match vector {
            Ok(vector) => vector,
            Err(reason) => return Searched { found: Err(reason), best: None, vector: None, considered: None },
        };
        let stage = query.marks.stage(Stage::Search);
        let nearest = self.nearest_anywhere(query.tenant, &vector).await;
        drop(stage);
        let (neighbours, best) = match nearest {
            Ok(found) => found,
            Err(reason) => return Searched { found: Err(reason), best: None, vector: Some(vector), considered: None },
        };
        if !self.is_resident(&vector.partition)
            && let Some(hit) = self.same_words_near(query, &neighbours).await
        {
            return Searched { found: Ok(hit), best, vector: Some(vector), considered: None };
        }
        let _stage = query.marks.stage(Stage::Decide);
        let considered = self.consider(query, vector.partition, &neighbours);
        self.note(query, &considered);
        let found = match (considered.refused(), considered.chosen()) {
            (None, Some(chosen)) => match neighbours.get(chosen.index) {
                // What could not be served anyway is no loss of watching.
                Some(near) if query.shadow => Err(self.suits(&near.entry, query.ask).err().unwrap_or(Reason::Shadow)),
                Some(near) => self.open(Arc::clone(&near.entry), query.ask, Tier::Semantic, Some(near.cosine)).await,
                None => Err(Reason::Rejected(Reject::NoNeighbour)),
            },
            (refused, _) => Err(Reason::Rejected(refused.unwrap_or(Reject::NoNeighbour))),
        };
        let reason = found.as_ref().err().map_or("accept", |reason| reason.as_str());
        self.metrics.verdict(found.is_ok(), reason, best);
        let worth_keeping = considered.chosen().is_some() || !considered.groups().is_empty();
        Searched { found, best, vector: Some(vector), considered: worth_keeping.then(|| Box::new(considered)) }
    }

    /// Weighs the neighbours and judges the best. Changes nothing.
    pub(super) fn consider(&self, query: Query<'_>, partition: Digest, neighbours: &[Neighbour]) -> Considered {
        let new = Features::of(query.text);
        let mut groups: Vec<EntryId> = Vec::new();
        let near: Vec<Near<'_>> = neighbours
            .iter()
            .map(|neighbour| {
                let id = neighbour.entry.id;
                let group = groups.iter().position(|group| *group == id).unwrap_or_else(|| {
                    groups.push(id);
                    groups.len() - 1
                });
                Near {
                    cosine: neighbour.cosine,
                    group,
                    group_size: neighbour.entry.points.len(),
                    waivers: neighbour.entry.waivers,
                    features: neighbour.point.features(),
                }
            })
            .collect();
        let evidence = weigh(&new, &near, query.floor, self.guards);
        let judgement = evidence.as_ref().map(|evidence| {
            let mut judgement = self.learners.of(query.tenant, query.model).lock().judge(evidence, query.budget);
            let chosen = neighbours.get(evidence.index);
            if judgement.would_serve && !chosen.is_some_and(|near| self.is_vouched(&near.entry, query.key)) {
                (judgement.refused, judgement.would_serve) = (Some(Reject::OneWriter), false);
            }
            judgement
        });
        Considered::new(query, partition, neighbours, groups, evidence.zip(judgement))
    }

    /// Counts the decision, for the threshold and for the record.
    fn note(&self, query: Query<'_>, considered: &Considered) {
        let judgement = considered.chosen().map(|chosen| &chosen.judgement);
        let seat = self.learners.of(query.tenant, query.model);
        seat.lock().note(judgement, query.budget);
        seat.changed(false);
        self.watch_probes(considered);
        if let Some(row) = considered.row(self.clock.now_ms(), self.settings.record_prompts)
            && self.writer.decision(DecisionWrite::New(Box::new(row))).is_err()
        {
            tracing::debug!("the queue of decisions is full: one is not recorded");
        }
    }

    /// Whether enough writers stand behind an answer for this caller.
    fn is_vouched(&self, entry: &Meta, key: &KeyId) -> bool {
        !self.settings.two_writers || entry.writers.len() >= 2 || entry.writers.contains(key)
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
        Ok(Vector { partition, values: embedded.vector, bill: embedded.bill })
    }

    /// The nearest live points of the prompt's partition, in memory or in the store, and the best cosine among them.
    ///
    /// # Errors
    /// The partition is in the store only, and the store does not answer.
    async fn nearest_anywhere(
        &self,
        tenant: &TenantId,
        vector: &Vector,
    ) -> Result<(Vec<Neighbour>, Option<f32>), Reason> {
        let (neighbours, best) = self.nearest(tenant, vector);
        if self.is_resident(&vector.partition) {
            self.residency.touch(&vector.partition, self.clock.now_ms());
            return Ok((neighbours, best));
        }
        let neighbours = self.nearest_elsewhere(tenant, vector, neighbours).await?;
        let best = neighbours.first().map(|near| near.cosine);
        Ok((neighbours, best))
    }

    /// The nearest live points of the prompt's partition in memory, and the best cosine among them.
    pub(super) fn nearest(&self, tenant: &TenantId, vector: &Vector) -> (Vec<Neighbour>, Option<f32>) {
        let began = Instant::now();
        let (candidates, kind) = self.points.nearest(tenant, &vector.partition, &vector.values, NEIGHBOURS);
        self.metrics.search(kind.as_str(), began.elapsed());
        let now = self.clock.now_ms();
        let live = |candidate: super::Candidate| {
            let entry = self.shelf.get(tenant, candidate.meta.entry, now)?;
            Some(Neighbour { id: candidate.id, cosine: candidate.cosine, point: candidate.meta, entry })
        };
        let neighbours: Vec<Neighbour> = candidates.into_iter().filter_map(live).collect();
        let best = neighbours.first().map(|near| near.cosine);
        (neighbours, best)
    }

    /// A point whose prompt differs in case, blanks or final punctuation only. The guards still have their say: in
    /// code, quotes and paths case matters; so has whoever asked for no similarity at all, or only to watch it: then it
    /// is a candidate like any other.
    pub(super) async fn same_words(&self, query: Query<'_>) -> Option<Hit> {
        if query.shadow || query.budget <= 0.0 {
            return None;
        }
        let key = query.keys.normalised(&self.secret, &normalise(query.text));
        let point = self.points.same_words(query.tenant, &key)?;
        let meta = self.shelf.get(query.tenant, point.entry, self.clock.now_ms())?;
        self.in_same_words(query, &point, meta).await
    }

    /// The same among prompts that were found in the store.
    async fn same_words_near(&self, query: Query<'_>, neighbours: &[Neighbour]) -> Option<Hit> {
        if query.shadow || query.budget <= 0.0 {
            return None;
        }
        let key = query.keys.normalised(&self.secret, &normalise(query.text));
        let near = neighbours.iter().find(|near| near.point.normalised == Some(key))?;
        self.in_same_words(query, &near.point, Arc::clone(&near.entry)).await
    }

    async fn in_same_words(&self, query: Query<'_>, point: &PointMeta, meta: Arc<Meta>) -> Option<Hit> {
        self.guards.check(&Features::of(query.text), point.features()).ok()?;
        if !self.is_vouched(&meta, query.key) {
            return None;
        }
        self.open(meta, query.ask, Tier::Semantic, None).await.ok()
    }

    /// Checks the conditions and fetches the body.
    pub(super) async fn open(&self, meta: Arc<Meta>, ask: Ask, tier: Tier, cosine: Option<f32>) -> Result<Hit, Reason> {
        if !self.is_informed() {
            return Err(Reason::Behind);
        }
        self.suits(&meta, ask)?;
        let body = match self.shelf.body(meta.id) {
            Some(body) => body,
            None => self.fetch(&meta.tenant, meta.id).await?,
        };
        Ok(Hit { meta, body, tier, cosine })
    }

    /// Whether an answer meets the conditions besides being the right one.
    pub(super) fn suits(&self, meta: &Meta, ask: Ask) -> Result<(), Reason> {
        let age = Duration::from_millis(self.clock.now_ms().saturating_sub(meta.created_at));
        if ask.max_age.is_some_and(|oldest| age > oldest) {
            return Err(Reason::TooOld);
        }
        if fits(meta, ask.token_limit) { Ok(()) } else { Err(Reason::TokenLimit) }
    }

    pub(super) async fn fetch(&self, tenant: &TenantId, id: EntryId) -> Result<Arc<Body>, Reason> {
        let read = self.gate.ask(STORE_DEADLINE, self.store.entry(tenant, id)).await;
        let Some(Some(entry)) = read else { return Err(Reason::CacheFault) };
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
