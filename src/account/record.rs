//! The record of one request: begun when its head has been read, it becomes exactly one ledger row when the last part
//! that works on the request is done. Before the last byte of the reply is handed over the row is in the journal, where it
//! outlives the process.
//!
//! Clones share the record. The client's reply holds one and the task that owns the upstream call another, because
//! what upstream bills is known to the task even when the client has left.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::cache::outcome::{Outcome, Reason, Tier};
use crate::clock::{Clock, UnixMs};
use crate::config::NanoUsd;
use crate::ids::{EntryId, RequestId};
use crate::limit::{Allowance, Hold, Used};
use crate::price::Price;
use crate::store::{LedgerRow, LedgerSlot, Tokens, WriterHandle};
use crate::telemetry::metrics::Metrics;

/// A request under way.
#[derive(Clone)]
pub struct Record(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    started: Instant,
    metrics: Arc<Metrics>,
}

struct State {
    row: LedgerRow,
    slot: Option<LedgerSlot>,
    price: Option<Price>,
    /// It was asked whether the request may cost something.
    charged: bool,
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
            saved_nano_usd: None,
            price_version: None,
        };
        let state = State {
            row,
            slot,
            price: None,
            charged: false,
            hold: None,
            allowance: Allowance::default(),
            cacheable: false,
            upstream_wait: Duration::ZERO,
            upstream_sent: None,
            replied: None,
            finished: None,
            first_byte: None,
        };
        Self(Arc::new(Inner { state: Mutex::new(state), started: Instant::now(), metrics: Arc::clone(metrics) }))
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
    pub fn charge(&self, price: Option<(Price, &str)>, hold: Hold) {
        self.allow(hold.allowance());
        let mut state = self.state();
        state.price = price.map(|(price, _)| price);
        state.row.price_version = price.map(|(_, version)| version.to_owned());
        state.charged = true;
        state.hold = Some(hold);
    }

    /// The request goes upstream now.
    pub fn upstream_sent(&self, name: &str) {
        let mut state = self.state();
        state.row.upstream = Some(name.to_owned());
        state.upstream_sent = Some(Instant::now());
    }

    /// Upstream's head came, or its failure (`None`).
    pub fn upstream_answered(&self, status: Option<u16>) {
        let mut state = self.state();
        let waited = state.upstream_sent.map_or(Duration::ZERO, |sent| sent.elapsed());
        state.upstream_wait += waited;
        state.row.upstream_status = status;
        if let Some(name) = &state.row.upstream {
            self.0.metrics.upstream(name, status, waited);
        }
    }

    /// Waited this long for something upstream besides the head.
    pub fn upstream_waited(&self, waited: Duration) {
        self.state().upstream_wait += waited;
    }

    /// Tokens and where their number comes from: `billed`, `estimated` or `replayed`. Where upstream is asked twice for
    /// one request, both count.
    pub fn tokens(&self, tokens: Tokens, source: &'static str) {
        let mut state = self.state();
        let before = state.row.tokens;
        state.row.tokens = Tokens {
            input: before.input.saturating_add(tokens.input),
            cache_read: before.cache_read.saturating_add(tokens.cache_read),
            cache_write: before.cache_write.saturating_add(tokens.cache_write),
            output: before.output.saturating_add(tokens.output),
            reasoning: before.reasoning.saturating_add(tokens.reasoning),
        };
        state.row.tokens_source = Some(source.into());
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
    /// Fills in what follows from the times, and shortens what callers and upstream may have made long.
    fn complete(&mut self, total: Duration) {
        let Self { row, .. } = self;
        row.latency_us = micros(self.finished.unwrap_or(total));
        row.ttft_us = self.first_byte.map(micros);
        row.cost_nano_usd = if self.charged { cost(row, self.price) } else { Some(0) };
        row.overhead_us = micros(self.replied.unwrap_or(total).saturating_sub(self.upstream_wait));
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
        state.complete(self.started.elapsed());
        self.metrics.in_flight().fetch_sub(1, Ordering::Relaxed);
        self.metrics.request(&state.row, state.cacheable);
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

/// What the request cost. Nothing if upstream was not asked; not known (`None`) if there is no price.
fn cost(row: &LedgerRow, price: Option<Price>) -> Option<i64> {
    if row.upstream.is_none() {
        return Some(0);
    }
    let used = matches!(row.tokens_source.as_deref(), Some("billed" | "estimated"));
    price.map(|price| if used { price.cost(&row.tokens).0 } else { 0 })
}

/// Tokens that upstream has worked on.
fn upstream_tokens(row: &LedgerRow) -> u64 {
    let t = row.tokens;
    if row.upstream.is_none() {
        return 0;
    }
    [t.input, t.cache_read, t.cache_write, t.output, t.reasoning].into_iter().fold(0, u64::saturating_add)
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
