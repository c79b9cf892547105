//! Chat and text completions: the stages between reading the body and the reply.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Response, StatusCode};
use tokio::time::Instant;

use super::forward::Job;
use super::limits::Needs;
use super::refusal::Refusal;
use super::reply::{AnswerHead, Body, Served, Shared, Whole, json, stream_headers};
use super::{DataPlane, End, Exchange, Head};
use crate::cache::flight::{Joined, Pilot, Seat};
use crate::cache::outcome::{Outcome, Reason};
use crate::cache::policy::{Plan, Traits, share};
use crate::cache::{self, Ask, Considered, Fresh, Hit, Query, Turn, Vector};
use crate::call::{Call, Keys, Scope};
use crate::config::{CacheMode, Right};
use crate::dialect::{Finish, SseOptions};
use crate::ids::RequestId;
use crate::server::RequestBody;
use crate::shared::LeaseGuard;
use crate::store::Tokens;
use crate::task;
use crate::telemetry::trace::{Open, Stage};

/// Leaders that may fail before a request goes by itself.
const LEADERS: usize = 3;

/// A completion request with everything that has been decided about it.
pub(super) struct Asked {
    pub(super) exchange: Exchange,
    pub(super) call: Call,
    pub(super) keys: Keys,
    pub(super) plan: Plan,
    pub(super) namespace: String,
    pub(super) choices: usize,
}

/// What the look-up before forwarding left behind.
#[derive(Default)]
struct Missed {
    reason: Option<Reason>,
    vector: Option<Vector>,
    considered: Option<Box<Considered>>,
    /// Keeps other replicas waiting for this answer.
    lease: Option<LeaseGuard>,
}

impl DataPlane {
    pub(super) async fn completion(
        self: &Arc<Self>,
        exchange: Exchange,
        body: RequestBody,
    ) -> Result<Response<Body>, Refusal> {
        let asked = self.understand(exchange, body).await?;
        if asked.plan.is_bypass() {
            return self.forward(asked, Outcome::Bypass, None).await;
        }
        if asked.plan.read == CacheMode::Off {
            return self.forward(asked, Outcome::Refresh, None).await;
        }
        let ask = Ask { token_limit: asked.call.token_limit, max_age: asked.plan.max_age };
        let stage = asked.exchange.record.stage(Stage::Lookup);
        let exact = self.cache.exact(&asked.exchange.principal.tenant, &asked.keys.fingerprint, ask).await;
        drop(stage);
        let missed = match exact {
            Ok(hit) => return self.replay(&asked, &hit),
            Err(reason) => reason,
        };
        if !asked.plan.store {
            return self.alone(asked, missed).await;
        }
        self.together(asked, missed).await
    }

    /// Reads the body, checks it, and plans what the cache may do.
    async fn understand(&self, exchange: Exchange, body: RequestBody) -> Result<Asked, Refusal> {
        let stage = exchange.record.stage(Stage::Read);
        let body = self.read(&exchange.headers, body).await?;
        let settings = self.cache.settings();
        let call = Call::read(exchange.dialect, &body, &self.limits, settings.max_temperature)?;
        exchange.principal.may_use(&call.model)?;
        let (asked, _) = self.decide(exchange, call);
        drop(stage);
        self.may_hit(&asked.exchange, &asked.call.model).await?;
        let record = &asked.exchange.record;
        record.with(|row| {
            row.model_asked = Some(asked.call.model.clone());
            row.stream = asked.call.stream;
            row.user.clone_from(&asked.exchange.controls.user);
        });
        if asked.plan.why_not.is_none() || asked.plan.refresh {
            record.cacheable();
        }
        Ok(asked)
    }

    /// Plan and keys of a call. Without a reply in sight it is also what `explain` asks for.
    pub(super) fn decide(&self, mut exchange: Exchange, call: Call) -> (Asked, String) {
        let settings = self.cache.settings();
        let mut controls = std::mem::take(&mut exchange.controls).or(call.controls.clone());
        controls.user = controls.user.or_else(|| call.user.clone());
        exchange.controls = controls;
        let principal = &exchange.principal;
        let traits = Traits { uncacheable: call.uncacheable, exact_only: call.exact_only };
        let mut plan = Plan::of(settings, principal, &exchange.controls, traits);
        let kind = principal.cache().share.unwrap_or(settings.share);
        let share = share(kind, &principal.key, exchange.controls.user.as_deref());
        if share.is_none() {
            plan = Plan { read: CacheMode::Off, store: false, refresh: false, why_not: Some(Reason::Off), ..plan };
        }
        let share = share.unwrap_or_default();
        let namespace = exchange.controls.namespace.clone().unwrap_or_default();
        let variant = exchange.variant();
        let upstream = self.upstream.place();
        let scope = Scope {
            tenant: &principal.tenant,
            namespace: &namespace,
            share: &share,
            upstream: &upstream,
            dialect: call.dialect,
            variant: &variant,
        };
        let keys = Keys::of(self.cache.secret(), &scope, &call);
        let choices = call.choices;
        (Asked { exchange, call, keys, plan, namespace, choices }, share)
    }

    /// Shares the look-up and the upstream call with equal requests in flight.
    async fn together(self: &Arc<Self>, asked: Asked, missed: Reason) -> Result<Response<Body>, Refusal> {
        let mut terms = asked.terms();
        // What was asked before an invalidation is no answer to what is asked after it.
        let since = self.cache.last_concerning(&asked.exchange.principal.tenant, &asked.call.model, &asked.namespace);
        terms.extend_from_slice(&since.to_le_bytes());
        let key = asked.keys.flight(self.cache.secret(), &terms);
        for _ in 0..LEADERS {
            match self.flights.join(key) {
                Joined::Lead(pilot, seat) => return self.lead(asked, missed, pilot, seat).await,
                Joined::Follow(seat) => {
                    let began = Instant::now();
                    let stage = asked.exchange.record.stage(Stage::Coalesce);
                    let head = seat.head().await;
                    drop(stage);
                    // What the leader waits for is not time that this program adds.
                    asked.exchange.record.upstream_waited(began.elapsed());
                    if let Ok(head) = head {
                        asked.exchange.record.outcome(Outcome::Coalesced, None, None);
                        return self.land(&asked, head, seat, Outcome::Coalesced, Some(missed));
                    }
                }
            }
        }
        self.forward(asked, Outcome::Miss, Some(Missed { reason: Some(Reason::LeaderFailed), ..Missed::default() }))
            .await
    }

    async fn lead(
        self: &Arc<Self>,
        asked: Asked,
        missed: Reason,
        pilot: Pilot<Head, End>,
        seat: Seat<Head, End>,
    ) -> Result<Response<Body>, Refusal> {
        // An equal request may have come to its end between this one's look-up and its lead.
        let ask = Ask { token_limit: asked.call.token_limit, max_age: asked.plan.max_age };
        let (tenant, fingerprint) = (&asked.exchange.principal.tenant, &asked.keys.fingerprint);
        let found = match self.cache.exact(tenant, fingerprint, ask).await {
            Ok(hit) => Ok(hit),
            Err(_) => match self.cache.exact_shared(tenant, fingerprint, ask).await {
                Ok(hit) => Ok(hit),
                Err(_) => self.similar(&asked, missed).await,
            },
        };
        let missed = match found {
            Ok(hit) => return self.share_hit(&asked, hit, pilot),
            Err(missed) => missed,
        };
        if asked.plan.only_if_cached {
            return Err(Refusal::only_if_cached());
        }
        // Another replica may be asking upstream for the same. What it waits for is not time that this program adds.
        let began = Instant::now();
        let stage = asked.exchange.record.stage(Stage::Turn);
        let turn = self.cache.turn(tenant, fingerprint, ask, began + self.total(&asked.exchange)).await;
        drop(stage);
        asked.exchange.record.upstream_waited(began.elapsed());
        match turn {
            Turn::Answered(hit) => self.share_hit(&asked, *hit, pilot),
            Turn::Ask(lease) => self.launch(asked, Outcome::Miss, Missed { lease, ..missed }, pilot, seat).await,
        }
    }

    /// Replies with a hit and gives it to all who wait for the same.
    fn share_hit(&self, asked: &Asked, hit: Hit, pilot: Pilot<Head, End>) -> Result<Response<Body>, Refusal> {
        let reply = self.replay(asked, &hit);
        pilot.head(Head::Hit(Arc::new(hit)));
        pilot.end(End::Complete);
        reply
    }

    /// Looks up without company, for requests whose answer must not be stored.
    async fn alone(self: &Arc<Self>, asked: Asked, missed: Reason) -> Result<Response<Body>, Refusal> {
        match self.similar(&asked, missed).await {
            Ok(hit) => self.replay(&asked, &hit),
            Err(missed) => self.forward(asked, Outcome::Miss, Some(missed)).await,
        }
    }

    /// The semantic tier, where it is allowed.
    async fn similar(self: &Arc<Self>, asked: &Asked, missed: Reason) -> Result<Hit, Missed> {
        let allowed = asked.plan.read >= CacheMode::Shadow;
        let Some(text) = asked.call.text.as_deref().filter(|_| allowed) else {
            let reason = match (missed, asked.call.exact_only) {
                (Reason::NotStored, Some(why)) => Reason::ExactOnly(why),
                _ => missed,
            };
            return Err(Missed { reason: Some(reason), ..Missed::default() });
        };
        let marks = asked.exchange.record.marks();
        let query = Query {
            tenant: &asked.exchange.principal.tenant,
            keys: &asked.keys,
            text,
            request: asked.exchange.record.id(),
            key: &asked.exchange.principal.key,
            model: &asked.call.model,
            floor: asked.plan.floor,
            budget: asked.plan.budget,
            shadow: asked.plan.read == CacheMode::Shadow,
            ask: Ask { token_limit: asked.call.token_limit, max_age: asked.plan.max_age },
            marks: &marks,
        };
        let searched = self.cache.semantic(query).await;
        asked.exchange.record.with(|row| row.similarity = searched.best);
        self.pay_vector(asked, searched.vector.as_ref());
        match (searched.found, searched.considered) {
            (Ok(hit), Some(considered)) => {
                self.audit(asked, searched.vector, considered);
                Ok(hit)
            }
            (Ok(hit), None) => Ok(hit),
            (Err(reason), considered) => {
                // Why an equal entry could not be served says more than what was found beside it.
                let reason = if missed == Reason::NotStored { reason } else { missed };
                Err(Missed { reason: Some(reason), vector: searched.vector, considered, lease: None })
            }
        }
    }

    /// Forwards in a flight that nobody else can join.
    async fn forward(
        self: &Arc<Self>,
        asked: Asked,
        outcome: Outcome,
        missed: Option<Missed>,
    ) -> Result<Response<Body>, Refusal> {
        if asked.plan.only_if_cached {
            return Err(Refusal::only_if_cached());
        }
        let mut missed = missed.unwrap_or(Missed { reason: asked.plan.why_not, ..Missed::default() });
        if outcome == Outcome::Refresh && asked.plan.store && self.cache.settings().mode >= CacheMode::Shadow {
            // A fresh answer must be found by its neighbours as any other.
            if let Some(text) = &asked.call.text {
                let _stage = asked.exchange.record.stage(Stage::Embed);
                missed.vector = self.cache.vector(&asked.exchange.principal.tenant, &asked.keys, text).await.ok();
                self.pay_vector(&asked, missed.vector.as_ref());
            }
        }
        let (pilot, seat) = self.flights.alone();
        self.launch(asked, outcome, missed, pilot, seat).await
    }

    /// Starts the task that owns the upstream call, and waits for the head of its answer.
    async fn launch(
        self: &Arc<Self>,
        asked: Asked,
        outcome: Outcome,
        missed: Missed,
        pilot: Pilot<Head, End>,
        seat: Seat<Head, End>,
    ) -> Result<Response<Body>, Refusal> {
        let outcome = if missed.reason == Some(Reason::Shadow) { Outcome::Shadow } else { outcome };
        self.admit(&asked.exchange, &asked.call.model, Needs::of(&asked.call)).await?;
        asked.exchange.record.outcome(outcome, None, missed.reason);
        self.prefixes.seen(asked.keys.prefix(), self.clock.now_ms());
        let job = Job { lease: missed.lease, ..self.job(&asked, missed.vector, missed.considered) };
        task::spawn("forward", &self.metrics, Arc::clone(self).fly(pilot, job));
        let head = seat.head().await.unwrap_or(Head::Failed(crate::upstream::UpstreamError::Closed));
        self.land(&asked, head, seat, outcome, missed.reason)
    }

    pub(super) fn job(&self, asked: &Asked, vector: Option<Vector>, considered: Option<Box<Considered>>) -> Job {
        let Asked { exchange, call, plan, .. } = asked;
        let total = self.total(exchange);
        let fresh = plan.store.then(|| Fresh {
            tenant: exchange.principal.tenant.clone(),
            writer: exchange.principal.key.clone(),
            keys: asked.keys,
            namespace: asked.namespace.clone(),
            dialect: call.dialect,
            model: call.model.clone(),
            body: Bytes::new(),
            finish: Finish::Stop,
            completion_tokens: None,
            token_limit: call.token_limit,
            tags: exchange.controls.tags.clone(),
            ttl: plan.ttl,
            text: call.text.clone(),
            vector,
            epoch: self.cache.epoch(),
        });
        Job {
            dialect: call.dialect,
            model: call.model.clone(),
            needs: Needs::of(call),
            path: exchange.path.clone(),
            headers: self.towards_upstream(exchange, true),
            body: call.body.clone(),
            stream: call.stream,
            hide_usage: call.stream && !call.include_usage,
            usage_added: call.usage_added.clone(),
            again: false,
            choices: asked.choices,
            deadline: Instant::now() + total,
            fresh,
            considered,
            epoch: self.cache.epoch(),
            audit: false,
            lease: None,
            open: Open::default(),
            record: exchange.record.clone(),
        }
    }

    /// Makes the reply from the head of a flight.
    fn land(
        &self,
        asked: &Asked,
        head: Head,
        seat: Seat<Head, End>,
        outcome: Outcome,
        reason: Option<Reason>,
    ) -> Result<Response<Body>, Refusal> {
        let served = Served { outcome: Some(outcome), reason, ..Served::default() };
        match head {
            Head::Hit(hit) => self.replay(asked, &hit),
            Head::Failed(error) => Err(error.into()),
            Head::Whole(whole) => {
                if outcome == Outcome::Coalesced && whole.head.status.is_success() {
                    self.saved(asked, whole.usage);
                }
                Ok(whole_reply(asked, &whole, served))
            }
            Head::Stream(head) => Ok(self.stream_reply(asked, &head, seat, &served)),
        }
    }

    fn stream_reply(&self, asked: &Asked, head: &AnswerHead, seat: Seat<Head, End>, served: &Served) -> Response<Body> {
        let record = &asked.exchange.record;
        let plain = asked.call.stream && !asked.call.include_usage;
        let mut body = Body::stream(seat, plain, record.clone(), self.shutdown.deadline_passed());
        if served.outcome == Some(Outcome::Coalesced) {
            let now = self.clock.now_ms();
            let price = self.prices.price(&asked.call.model, now);
            let cache = self.prefixes.seen(asked.keys.prefix(), now);
            body = body.sharing(Shared { usage: Arc::clone(&head.usage), price, service: asked.call.service, cache });
        }
        let mut reply = Response::new(body);
        *reply.status_mut() = head.status;
        reply.headers_mut().clone_from(&head.headers);
        stream_headers(reply.headers_mut());
        served.write(reply.headers_mut(), record);
        reply
    }

    /// The caller gets an answer that nobody is paid for now.
    fn saved(&self, asked: &Asked, usage: Option<Tokens>) {
        let now = self.clock.now_ms();
        let cache = self.prefixes.seen(asked.keys.prefix(), now);
        let price = self.prices.price(&asked.call.model, now);
        asked.exchange.record.replayed(usage, price.as_deref(), asked.call.service, cache);
    }

    fn pay_vector(&self, asked: &Asked, vector: Option<&Vector>) {
        let Some(bill) = vector.and_then(|vector| vector.bill) else { return };
        let model = &self.cache.embedder().space().model;
        let price = self.prices.price(model, self.clock.now_ms());
        asked.exchange.record.embedded(model, bill.tokens, bill.told, price.as_deref());
    }

    /// A stored answer, with a new id and time, in the form that was asked for.
    fn replay(&self, asked: &Asked, hit: &Hit) -> Result<Response<Body>, Refusal> {
        let cache::Body::Completion(stored) = hit.body.as_ref() else {
            return Err(Refusal::new(
                StatusCode::BAD_GATEWAY,
                crate::dialect::ErrorKind::Api,
                "cache_fault",
                "the stored answer is of another kind",
            ));
        };
        let now = self.clock.now_ms();
        let record = &asked.exchange.record;
        let id = RequestId::at(now).to_string();
        let wrong = |_| {
            let text = "the stored answer cannot be replayed; send the request with `cache-control: no-cache`";
            Refusal::new(StatusCode::BAD_GATEWAY, crate::dialect::ErrorKind::Api, "cache_fault", text)
        };
        let bytes = if asked.call.stream {
            let options = SseOptions { include_usage: asked.call.include_usage, chunk_chars: CHUNK_CHARS };
            stored.sse(&id, now / 1_000, options).map_err(wrong)?
        } else {
            stored.json(&id, now / 1_000)
        };
        record.outcome(Outcome::Hit, Some(hit.tier), None);
        record.entry(hit.meta.id);
        record.with(|row| {
            row.similarity = hit.cosine.or(row.similarity);
            row.model_answered = Some(hit.meta.model.to_string());
        });
        self.saved(asked, stored.usage().map(|usage| usage.tokens));
        if let Some(tokens) = hit.meta.completion_tokens {
            self.count_hit(&asked.exchange, tokens);
        }
        let mut reply = json(StatusCode::OK, bytes, record);
        if asked.call.stream {
            stream_headers(reply.headers_mut());
        }
        let age = Duration::from_millis(now.saturating_sub(hit.meta.created_at));
        self.metrics.served(hit.tier.as_str(), age);
        let served = Served {
            outcome: Some(Outcome::Hit),
            tier: Some(hit.tier),
            entry: Some(hit.meta.id),
            age: Some(age),
            ttl: Some(Duration::from_millis(hit.meta.expires_at.saturating_sub(now))),
            similarity: hit.cosine.filter(|_| asked.exchange.principal.may(Right::CacheInspect)),
            ..Served::default()
        };
        served.write(reply.headers_mut(), record);
        Ok(reply)
    }
}

/// Characters of text in one event of a replayed stream: about what providers send.
const CHUNK_CHARS: usize = 24;

impl Asked {
    /// What must be equal, besides the request itself, for two requests to share one look-up and one answer.
    fn terms(&self) -> Vec<u8> {
        let mut terms = Vec::with_capacity(64);
        let limit = self.call.token_limit;
        terms.push(u8::from(self.call.stream));
        // Whether upstream is asked for usage, and what of it is shown, follows from the leader's wish.
        terms.push(u8::from(self.call.include_usage));
        // The leader's deadline ends the call for all.
        let timeout = self.exchange.controls.timeout.map_or(u128::MAX, |wait| wait.as_millis());
        terms.extend_from_slice(&timeout.to_le_bytes());
        terms.push(u8::from(limit.is_some()));
        terms.extend_from_slice(&limit.unwrap_or_default().to_le_bytes());
        terms.push(self.plan.read as u8);
        terms.extend_from_slice(&self.plan.budget.to_le_bytes());
        terms.push(u8::from(self.plan.only_if_cached));
        terms.extend_from_slice(&self.plan.floor.to_le_bytes());
        terms.extend_from_slice(&self.plan.ttl.as_millis().to_le_bytes());
        let age = self.plan.max_age.map_or(u128::MAX, |age| age.as_millis());
        terms.extend_from_slice(&age.to_le_bytes());
        terms
    }
}

fn whole_reply(asked: &Asked, whole: &Whole, mut served: Served) -> Response<Body> {
    let record = &asked.exchange.record;
    let mut reply = Response::new(Body::whole(whole.body.clone(), record.clone()));
    *reply.status_mut() = whole.head.status;
    reply.headers_mut().clone_from(&whole.head.headers);
    if served.outcome != Some(Outcome::Coalesced) {
        served.entry = whole.stored;
        served.stored = Some(whole.stored.is_some());
        if let Some(reason) = whole.not_stored {
            served.reason = Some(reason);
            record.with(|row| row.reason = Some(reason.as_str().into()));
        }
    }
    if !whole.head.status.is_success() {
        record.outcome(Outcome::Failed, None, served.reason);
    }
    reply.headers_mut().entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
    served.write(reply.headers_mut(), record);
    reply
}
