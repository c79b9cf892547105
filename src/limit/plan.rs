//! One question to the counters: which buckets, seats and budgets a request meets, and how much of each it wants.
//!
//! A plan is the same for every place where counters are kept ([`super::book`] in process, [`super::door`] in Redis).
//! Whether a budget is met is decided by [`meets`] alone, for requests and for rows of the ledger.

use super::bucket::{MOST, Rate};
use super::period::Span;
use super::{Caller, Wish};
use crate::clock::UnixMs;
use crate::config::{Budget, RateLimits, glob_matches};
use crate::ids::{KeyId, RequestId, TenantId};
use crate::store::BudgetAsk;

const MINUTE: i64 = 60_000;
const DAY: i64 = 86_400_000;

/// Whose limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Whose {
    Tenant,
    Key,
}

impl Whose {
    pub(super) const BOTH: [Self; 2] = [Self::Tenant, Self::Key];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Key => "key",
        }
    }

    /// The limits of this one.
    pub(super) fn limits<'a>(self, caller: &Caller<'a>) -> &'a RateLimits {
        match self {
            Self::Tenant => &caller.terms.tenant.limits,
            Self::Key => &caller.terms.key,
        }
    }
}

/// Which bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Requests,
    Tokens,
    TokensOfDay,
}

impl Kind {
    /// Those of upstream's tokens.
    pub(super) const OF_TOKENS: [Self; 2] = [Self::Tokens, Self::TokensOfDay];

    /// As in configuration and metrics.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "rpm",
            Self::Tokens => "tpm",
            Self::TokensOfDay => "tpd",
        }
    }

    /// The bucket of a limit, at most of the size that the arithmetic is exact for.
    pub(super) fn rate(self, limits: &RateLimits, replicas: u64) -> Option<Rate> {
        let (limit, window) = match self {
            Self::Requests => (limits.rpm, MINUTE),
            Self::Tokens => (limits.tpm, MINUTE),
            Self::TokensOfDay => (limits.tpd, DAY),
        };
        let limit = (limit? / replicas.max(1)).clamp(1, 1_000_000_000_000);
        Some(Rate { limit: i64::try_from(limit).ok()?, window })
    }
}

/// One bucket of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BucketAsk {
    pub(super) whose: Whose,
    pub(super) kind: Kind,
    pub(super) rate: Rate,
    /// Put in first (taken out, when negative), whatever is decided then.
    pub(super) credit: i64,
    /// The request needs so many.
    pub(super) least: i64,
    /// It takes up to so many.
    pub(super) want: i64,
}

/// One limit of concurrency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SeatAsk {
    pub(super) whose: Whose,
    pub(super) limit: u64,
}

/// One budget that is met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BudgetPlan {
    /// As the counters know it.
    pub(super) ask: BudgetAsk,
    /// Its period.
    pub(super) span: Span,
    /// Its place in the list of the tenant.
    pub(super) place: usize,
    pub(super) hard: bool,
}

impl BudgetPlan {
    /// What the terms say of it. A plan that is older than the terms may mean another one.
    pub(super) fn spec<'a>(&self, caller: &Caller<'a>) -> Option<&'a Budget> {
        let spec = caller.terms.tenant.budgets.get(self.place);
        spec.filter(|spec| counter_key(caller.tenant, spec) == self.ask.key)
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) tenant: TenantId,
    pub(super) key: KeyId,
    /// Who holds; `None` holds nothing and only looks whether there is room.
    pub(super) request: Option<RequestId>,
    /// How long holds and seats outlive their renewal, milliseconds.
    pub(super) hold_ms: u64,
    pub(super) buckets: Vec<BucketAsk>,
    pub(super) seats: Vec<SeatAsk>,
    pub(super) budgets: Vec<BudgetPlan>,
}

impl Plan {
    fn empty(caller: &Caller<'_>) -> Self {
        Self {
            tenant: caller.tenant.clone(),
            key: caller.key.clone(),
            request: None,
            hold_ms: 0,
            buckets: Vec::new(),
            seats: Vec::new(),
            budgets: Vec::new(),
        }
    }

    /// One request from each bucket of requests per minute.
    pub(super) fn request(caller: &Caller<'_>) -> Self {
        let mut plan = Self::empty(caller);
        plan.ask(caller, Kind::Requests, 1);
        plan
    }

    /// All that a request to upstream needs. `hold_ms` is how long it is held without renewal.
    pub(super) fn admit(caller: &Caller<'_>, wish: &Wish<'_>, hold_ms: u64) -> Self {
        let mut plan = Self { request: Some(wish.request), hold_ms, ..Self::empty(caller) };
        let tokens = i64::try_from(wish.tokens).unwrap_or(MOST).min(MOST);
        plan.ask(caller, Kind::Tokens, tokens);
        plan.ask(caller, Kind::TokensOfDay, tokens);
        for whose in Whose::BOTH {
            if let Some(limit) = whose.limits(caller).concurrency {
                plan.seats.push(SeatAsk { whose, limit });
            }
        }
        plan.budgets = budgets(caller, wish.at, wish.model, wish.tags, wish.worst.0.max(0));
        plan
    }

    /// Whether the hard budgets that a request meets have anything left.
    pub(super) fn look(caller: &Caller<'_>, now: UnixMs, model: &str, tags: &[(String, String)]) -> Self {
        let mut plan = Self::empty(caller);
        plan.budgets = budgets(caller, now, model, tags, 1);
        plan.budgets.retain(|budget| budget.hard);
        plan
    }

    /// Whether nothing limits it.
    pub(super) fn is_empty(&self) -> bool {
        self.buckets.is_empty() && self.seats.is_empty() && self.budgets.is_empty()
    }

    /// The same with limits shared by so many replicas, and without budgets.
    pub(super) fn share(&self, caller: &Caller<'_>, replicas: u64) -> Self {
        let mut plan = Self { budgets: Vec::new(), ..self.clone() };
        for ask in &mut plan.buckets {
            let whole = ask.rate;
            ask.rate = ask.kind.rate(ask.whose.limits(caller), replicas).unwrap_or(whole);
            ask.credit = 0;
            // A request may be larger than a share of what it may be: it takes all that there is, and is settled with more.
            if ask.least <= whole.limit {
                ask.least = ask.least.min(ask.rate.limit);
                ask.want = ask.want.min(ask.rate.limit);
            }
        }
        for seat in &mut plan.seats {
            seat.limit = (seat.limit / replicas.max(1)).max(1);
        }
        plan
    }

    fn ask(&mut self, caller: &Caller<'_>, kind: Kind, tokens: i64) {
        for whose in Whose::BOTH {
            if let Some(rate) = kind.rate(whose.limits(caller), 1) {
                self.buckets.push(BucketAsk { whose, kind, rate, credit: 0, least: tokens, want: tokens });
            }
        }
    }
}

/// The budgets that a request meets.
fn budgets(caller: &Caller<'_>, at: UnixMs, model: &str, tags: &[(String, String)], amount: i64) -> Vec<BudgetPlan> {
    let all = caller.terms.tenant.budgets.iter().enumerate();
    all.filter(|(_, budget)| meets(budget, Some(&caller.terms.key_name), Some(model), tags))
        .map(|(place, budget)| {
            let span = Span::of(budget.period, at);
            let limit = if budget.hard { budget.usd.0 } else { i64::MAX };
            let ask = BudgetAsk { key: counter_key(caller.tenant, budget), slots: span.slots.clone(), limit, amount };
            BudgetPlan { ask, span, place, hard: budget.hard }
        })
        .collect()
}

/// Whether what a request costs counts towards a budget.
pub(super) fn meets(budget: &Budget, key: Option<&str>, model: Option<&str>, tags: &[(String, String)]) -> bool {
    let key_fits = budget.key.as_deref().is_none_or(|wanted| key == Some(wanted));
    let model_fits = budget.model.as_deref().is_none_or(|glob| model.is_some_and(|model| glob_matches(glob, model)));
    let tag_fits = budget.tag.as_deref().is_none_or(|wanted| {
        let (name, value) = wanted.split_once('=').unwrap_or((wanted, ""));
        tags.iter().any(|(n, v)| n == name && v == value)
    });
    key_fits && model_fits && tag_fits
}

/// Name of the key, from its id as the ledger has it: `tenant/name`.
pub(super) fn key_name<'a>(tenant: &TenantId, key: &'a KeyId) -> &'a str {
    let rest = key.as_str().strip_prefix(tenant.as_str()).and_then(|rest| rest.strip_prefix('/'));
    rest.unwrap_or(key.as_str())
}

/// The name of a budget's counters: `tenant/name/` and a digest of what counts towards it. A budget whose period or target
/// was changed has new counters, which start from the ledger.
pub(super) fn counter_key(tenant: &TenantId, budget: &Budget) -> String {
    let mut hash = blake3::Hasher::new();
    hash.update(budget.period.to_string().as_bytes());
    for part in [&budget.key, &budget.model, &budget.tag] {
        hash.update(&[0, u8::from(part.is_some())]).update(part.as_deref().unwrap_or_default().as_bytes());
    }
    let hex = hash.finalize().to_hex();
    format!("{tenant}/{}/{}", budget.name, hex.get(..8).unwrap_or_default())
}
