//! The record of one request: begun when its head has been read, it becomes exactly one ledger row when the last part
//! that works on the request is done. Before the last byte of the reply is handed over the row is in the journal, where it
//! outlives the process.
//!
//! Clones share the record. The client's reply holds one and the task that owns the upstream call another, because
//! what upstream bills is known to the task even when the client has left.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use http::HeaderMap;

use crate::cache::outcome::{Outcome, Reason, Tier};
use crate::clock::{Clock, UnixMs};
use crate::config::NanoUsd;
use crate::ids::{EntryId, RequestId};
use crate::limit::{Allowance, Hold, Used};
use crate::price::{Price, PromptCache, Service};
use crate::store::{Attempt, LedgerRow, LedgerSlot, Tokens, WriterHandle};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::trace::{Marks, Open, Stage, Trace};

/// A request under way.
#[derive(Clone)]
pub struct Record(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    started: Instant,
    metrics: Arc<Metrics>,
    /// Where its stages are marked, if spans are made of them.
    trace: OnceLock<Trace>,
}

struct State {
    row: LedgerRow,
    slot: Option<LedgerSlot>,
    price: Option<Arc<Price>>,
    /// Calls upstream are checks of a hit.
    check: bool,
    /// What was not paid because the cache answered; not known (`None`) if there is no price or nobody told the usage.
    saved: Option<NanoUsd>,
    clock: Clock,
    hold: Option<Hold>,
    allowance: Allowance,
    cacheable: bool,
    upstream_wait: Duration,
    upstream_sent: Option<Instant>,
    replied: Option<Duration>,
    finished: Option<Duration>,
    first_byte: Option<Duration>,
}

impl Record {
    /// Begins a record and keeps a place in the ledger queue for its row.
    pub fn begin(route: String, clock: &Clock, writer: &WriterHandle, metrics: &Arc<Metrics>) -> Self {
        Self::with_slot(route, clock, writer.ledger_slot(), metrics)
    }

    /// A record that leaves no row, for a request that is only thought through.
    pub fn detached(clock: &Clock, metrics: &Arc<Metrics>) -> Self {
        Self::with_slot(String::new(), clock, None, metrics)
    }

    fn with_slot(route: String, clock: &Clock, slot: Option<LedgerSlot>, metrics: &Arc<Metrics>) -> Self {
        let now = clock.now_ms();
        metrics.in_flight().fetch_add(1, Ordering::Relaxed);
        let row = LedgerRow {
            request: RequestId::at(now),
            started_at: now,
            tenant: None,
            key: None,
            user: None,
            tags: Vec::new(),
            route,
            dialect: "other".into(),
            model_asked: None,
            model_answered: None,
            stream: false,
            outcome: Outcome::Refused.as_str().into(),
            tier: None,
            reason: None,
            similarity: None,
            entry: None,
            status: 0,
            upstream: None,
            upstream_status: None,
            tokens: Tokens::default(),
            tokens_source: None,
            latency_us: 0,
            ttft_us: None,
            overhead_us: 0,
            cost_nano_usd: None,
            embedding_nano_usd: None,
            saved_gross_nano_usd: None,
            saved_nano_usd: None,
            price_version: None,
            service: None,
            attempts: Vec::new(),
        };
        let state = State {
            row,
            slot,
            price: None,
            check: false,
            saved: Some(NanoUsd(0)),
            clock: clock.clone(),
            hold: None,
            allowance: Allowance::default(),
            cacheable: false,
            upstream_wait: Duration::ZERO,
            upstream_sent: None,
            replied: None,
            finished: None,
            first_byte: None,
        };
        let (metrics, started, trace) = (Arc::clone(metrics), Instant::now(), OnceLock::new());
        Self(Arc::new(Inner { state: Mutex::new(state), started, metrics, trace }))
    }

    /// Decides whether spans are made of the request, by its headers or by chance.
    pub fn trace(&self, headers: &HeaderMap) {
        let tracer = self.0.metrics.tracer();
        if let Some(trace) = tracer.and_then(|tracer| tracer.begin(self.id(), headers, self.0.started)) {
            let _ = self.0.trace.set(trace);
        }
    }

    /// Where stages of the request are marked.
    pub fn marks(&self) -> Marks {
        Marks::of(self.0.trace.get())
    }

    /// Begins a stage, which ends when what is returned is dropped.
    #[must_use = "a stage ends when this is dropped"]
    pub fn stage(&self, stage: Stage) -> Open {
        self.marks().stage(stage)
    }

    /// Identity of the request.
    pub fn id(&self) -> RequestId {
        self.state().row.request
    }

    /// When it began.
    pub fn started_at(&self) -> UnixMs {
        self.state().row.started_at
    }

    /// Fills in parts of the row.
    pub fn with(&self, change: impl FnOnce(&mut LedgerRow)) {
        change(&mut self.state().row);
    }

    /// Says what became of the request. A client that leaves later makes it [`Outcome::Cancelled`].
    pub fn outcome(&self, outcome: Outcome, tier: Option<Tier>, reason: Option<Reason>) {
        let mut state = self.state();
        state.row.outcome = outcome.as_str().into();
        state.row.tier = tier.map(|t| t.as_str().into());
        state.row.reason = reason.map(|r| r.as_str().into());
    }

    /// The request has to do with the cache and counts in its hit rate.
    pub fn cacheable(&self) {
        self.state().cacheable = true;
    }

    /// The entry served or stored.
    pub fn entry(&self, entry: EntryId) {
        self.state().row.entry = Some(entry);
    }

    /// How much of its limits the caller has left, for the reply's headers. What is not told now stays as it was.
    pub fn allow(&self, allowance: Allowance) {
        let mut state = self.state();
        let before = state.allowance;
        state.allowance =
            Allowance { requests: allowance.requests.or(before.requests), tokens: allowance.tokens.or(before.tokens) };
    }

    /// What was said by [`Record::allow`].
    pub fn allowance(&self) -> Allowance {
        self.state().allowance
    }

    /// What upstream takes for this request, and what is held for it. The hold is settled with the cost in the row, when the
    /// row is written: so counters and ledger say the same.
    pub fn charge(&self, price: Option<Arc<Price>>, hold: Hold) {
        self.allow(hold.allowance());
        let mut state = self.state();
        state.row.price_version = price.as_ref().map(|price| price.version.to_string());
        state.price = price;
        state.hold = Some(hold);
    }

    /// What upstream takes for this request, if that is known.
    pub fn price(&self) -> Option<Arc<Price>> {
        self.state().price.clone()
    }

    /// Whether a hard budget holds what it may cost at most.
    pub fn is_held(&self) -> bool {
        let state = self.state();
        state.price.is_some() && state.hold.as_ref().is_some_and(Hold::is_hard)
    }

    /// The price of a request that was let through without one, once its answer has told what it was for.
    pub fn priced(&self, price: Arc<Price>) {
        let mut state = self.state();
        if state.price.is_none() {
            state.row.price_version = Some(price.version.to_string());
            state.price = Some(price);
        }
    }

    /// All calls upstream are checks of a hit.
    pub fn check(&self) {
        self.state().check = true;
    }

    /// The request goes upstream now.
    pub fn upstream_sent(&self, name: &str) {
        let mut state = self.state();
        state.row.upstream = Some(name.to_owned());
        state.upstream_sent = Some(Instant::now());
        let kind = if state.check { "check" } else { "completion" };
        let model = state.row.model_asked.clone();
        state.attempt(kind, name, model);
    }

    /// Upstream's head came, or its failure (`None`).
    pub fn upstream_answered(&self, status: Option<u16>) {
        let mut state = self.state();
        let waited = state.upstream_sent.map_or(Duration::ZERO, |sent| sent.elapsed());
        state.upstream_wait += waited;
        state.row.upstream_status = status;
        if let Some(attempt) = state.row.attempts.last_mut() {
            attempt.status = status;
            attempt.latency_us = micros(waited);
        }
        if let Some(name) = &state.row.upstream {
            self.0.metrics.upstream(name, status, waited);
        }
    }

    /// Waited this long for something upstream besides the head.
    pub fn upstream_waited(&self, waited: Duration) {
        self.state().upstream_wait += waited;
    }

    /// Tokens of the call upstream that is under way, and where their number comes from: `billed`, `estimated`, or `unknown` if
    /// upstream bills and nobody can tell. Where upstream is asked twice for one request, both count.
    pub fn tokens(&self, tokens: Tokens, source: &'static str) {
        let mut state = self.state();
        state.row.tokens = state.row.tokens.plus(&tokens);
        state.row.tokens_source = Some(source.into());
        let service = state.row.service.clone();
        if let Some(attempt) = state.row.attempts.last_mut() {
            attempt.tokens = attempt.tokens.plus(&tokens);
            attempt.tokens_source = Some(source.into());
            attempt.service = service;
        }
    }

    /// The answer comes from the cache, or from a call that another request pays for. `usage` is what that was billed for, if
    /// anybody told; at `price`, for the service that was asked for, and with what the provider's prompt cache would have taken
    /// off, it was saved now.
    pub fn replayed(&self, usage: Option<Tokens>, price: Option<&Price>, service: Service, cache: PromptCache) {
        let mut state = self.state();
        if let Some(tokens) = usage {
            state.row.tokens = tokens;
            state.row.tokens_source = Some("replayed".into());
        }
        state.row.price_version = price.map(|price| price.version.to_string());
        state.row.service = service.as_str().map(Into::into);
        state.saved = usage.zip(price).map(|(told, price)| price.cost(&price.without_us(&told, cache), service));
    }

    /// A vector of the prompt was paid for.
    pub fn embedded(&self, model: &str, tokens: u64, told: bool, price: Option<&Price>) {
        let mut state = self.state();
        let tokens = Tokens { input: tokens, ..Tokens::default() };
        state.attempt("embedding", "embedding", Some(model.to_owned()));
        if let Some(attempt) = state.row.attempts.last_mut() {
            attempt.tokens = tokens;
            attempt.tokens_source = Some(if told { "billed" } else { "estimated" }.into());
            attempt.status = Some(200);
            attempt.cost_nano_usd = price.map(|price| price.cost(&tokens, Service::Standard).0);
            attempt.price_version = price.map(|price| price.version.to_string());
        }
    }

    /// What the request has cost and saved, as far as it is known by now, net and in nano-dollars.
    pub fn money(&self) -> (Option<i64>, Option<i64>) {
        let mut state = self.state();
        state.rate();
        (state.row.cost_nano_usd, state.row.saved_nano_usd)
    }

    /// The head of the reply is ready.
    pub fn replied(&self, status: u16) {
        let mut state = self.state();
        state.row.status = status;
        state.replied = Some(self.0.started.elapsed());
    }

    /// The first byte of the reply's body is handed over.
    pub fn first_byte(&self) {
        let mut state = self.state();
        if state.first_byte.is_none() {
            state.first_byte = Some(self.0.started.elapsed());
        }
    }

    /// The last byte of the reply is about to be handed over. The row as it is known by now goes to the journal, so that
    /// no client has a whole reply without its row; what comes to light later makes a later version of it.
    pub fn finished(&self) {
        let mut state = self.state();
        let total = self.0.started.elapsed();
        state.finished.get_or_insert(total);
        state.complete(total);
        let State { row, slot, .. } = &mut *state;
        if let Some(slot) = slot {
            slot.note(row);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn attempt(&mut self, kind: &'static str, upstream: &str, model: Option<String>) {
        let number = u16::try_from(self.row.attempts.len()).unwrap_or(u16::MAX).saturating_add(1);
        self.row.attempts.push(Attempt {
            number,
            kind: kind.into(),
            started_at: self.clock.now_ms(),
            upstream: upstream.to_owned(),
            model,
            status: None,
            latency_us: 0,
            tokens: Tokens::default(),
            tokens_source: None,
            service: None,
            cost_nano_usd: Some(0),
            price_version: None,
        });
    }

    /// Fills in what is money: of each call, and of the row as their sum.
    fn rate(&mut self) {
        let row = &mut self.row;
        let (mut cost, mut embedding) = (Some(0_i64), Some(0_i64));
        for attempt in &mut row.attempts {
            if attempt.kind == "embedding" {
                embedding = embedding.zip(attempt.cost_nano_usd).map(|(sum, more)| sum.saturating_add(more));
                continue;
            }
            if let Some(source) = attempt.tokens_source.as_deref() {
                let price = self.price.as_deref().filter(|_| source != "unknown");
                let billed = |price: &Price| price.billed(&attempt.tokens, attempt.service.as_deref());
                attempt.cost_nano_usd = price.and_then(billed).map(|cost| cost.0);
                attempt.price_version = price.map(|price| price.version.to_string());
            }
            cost = cost.zip(attempt.cost_nano_usd).map(|(sum, more)| sum.saturating_add(more));
        }
        let gross = self.saved.map(|saved| saved.0);
        let check = if self.check { cost } else { Some(0) };
        row.cost_nano_usd = cost;
        row.embedding_nano_usd = embedding;
        row.saved_gross_nano_usd = gross;
        row.saved_nano_usd = gross
            .zip(embedding)
            .zip(check)
            .map(|((gross, embedding), check)| gross.saturating_sub(embedding).saturating_sub(check));
    }

    /// Fills in what follows from the times, and shortens what callers and upstream may have made long.
    fn complete(&mut self, total: Duration) {
        let Self { row, .. } = self;
        row.latency_us = micros(self.finished.unwrap_or(total));
        row.ttft_us = self.first_byte.map(micros);
        row.overhead_us = micros(self.replied.unwrap_or(total).saturating_sub(self.upstream_wait));
        self.rate();
        let Self { row, .. } = self;
        if self.slot.is_some() {
            for text in [&mut row.user, &mut row.model_asked, &mut row.model_answered].into_iter().flatten() {
                shorten(text);
            }
            row.tags.iter_mut().for_each(|(name, value)| {
                shorten(name);
                shorten(value);
            });
        }
    }
}

impl Drop for Inner {
    /// Writes the row. This is the one place, so that no path can leave a request without a row or with two.
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if state.finished.is_none() && state.row.outcome != Outcome::Failed.as_str() {
            state.row.outcome = Outcome::Cancelled.as_str().into();
        }
        let total = self.started.elapsed();
        state.complete(total);
        self.metrics.in_flight().fetch_sub(1, Ordering::Relaxed);
        // The word of a caller who is not known decides nothing: anybody could fill the queue.
        let trace = self.trace.take().filter(|trace| state.row.tenant.is_some() || trace.is_by_chance());
        self.metrics.request_of(&state.row, state.cacheable, trace.as_ref().map(Trace::id));
        if let Some(trace) = trace {
            trace.end(&state.row, state.replied, state.finished.unwrap_or(total));
        }
        if let Some(slot) = state.slot.take() {
            slot.send(state.row.clone());
        }
        // After the row is in the journal: what is counted as spent has a row, whenever the process ends.
        if let Some(hold) = state.hold.take() {
            let cost = NanoUsd(state.row.cost_nano_usd.unwrap_or(0));
            hold.settle(Used { tokens: upstream_tokens(&state.row), cost });
        }
    }
}

/// Tokens that upstream has worked on.
fn upstream_tokens(row: &LedgerRow) -> u64 {
    if row.upstream.is_none() { 0 } else { row.tokens.sum() }
}

/// Longest text of callers or of upstream in a row, bytes. Anybody may send megabytes as the `user` of a request; a row
/// must not be larger for that.
const TEXT: usize = 256;

fn shorten(text: &mut String) {
    if text.len() > TEXT {
        text.truncate(text.floor_char_boundary(TEXT));
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
