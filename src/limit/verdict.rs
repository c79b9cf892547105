//! From a decision to what callers are told: how much is left, and why not.

use std::time::Duration;

use super::book::{Answer, Outcome, Standing};
use super::bucket::Bucket;
use super::plan::{BucketAsk, BudgetPlan, Kind, Plan};
use super::{Allowance, Caller, Denied, Left};
use crate::clock::UnixMs;
use crate::config::NanoUsd;

/// The tightest of the limits that headers tell.
pub(super) fn allowance<'a>(asks: impl Iterator<Item = (&'a BucketAsk, Bucket)>) -> Allowance {
    let mut found = Allowance::default();
    for (ask, bucket) in asks {
        let place = match ask.kind {
            Kind::Requests => &mut found.requests,
            Kind::Tokens => &mut found.tokens,
            Kind::TokensOfDay => continue,
        };
        let left = Left {
            limit: ask.rate.limit.unsigned_abs(),
            remaining: bucket.level.clamp(0, ask.rate.limit).unsigned_abs(),
            reset: bucket.wait(ask.rate.limit, ask.rate).unwrap_or_default(),
        };
        if place.is_none_or(|tightest| left.remaining < tightest.remaining) {
            *place = Some(left);
        }
    }
    found
}

/// The allowance of an answer, or why the request may not go on. `Unseeded` is for whoever asked, and no answer to it here.
pub(super) fn told(caller: &Caller<'_>, plan: &Plan, answer: &Answer, now: UnixMs) -> Result<Allowance, Denied> {
    let allowance = allowance(plan.buckets.iter().zip(answer.buckets.iter().map(|(bucket, _)| *bucket)));
    match &answer.outcome {
        Outcome::Admitted => Ok(allowance),
        Outcome::Short => Err(short(plan, answer, allowance)),
        Outcome::Full(place) => {
            let seat = plan.seats.get(*place);
            let (whose, limit) = seat.map_or(("key", 0), |seat| (seat.whose.as_str(), seat.limit));
            Err(Denied::Concurrency { whose, limit })
        }
        Outcome::Poor(place) => match plan.budgets.get(*place) {
            Some(budget) => Err(poor(caller, budget, answer.budgets.get(*place).copied().unwrap_or_default(), now)),
            None => Err(unavailable()),
        },
        Outcome::Unseeded(_) => Err(unavailable()),
    }
}

/// A budget has no room.
pub(super) fn poor(caller: &Caller<'_>, budget: &BudgetPlan, standing: Standing, now: UnixMs) -> Denied {
    let spec = caller.terms.tenant.budgets.get(budget.place);
    Denied::Budget {
        name: spec.map(|spec| spec.name.clone()).unwrap_or_default(),
        usd: NanoUsd(budget.ask.limit),
        used: narrow(standing.spent + standing.held),
        resets_in: budget.span.resets_in(now, standing.first),
    }
}

/// The counters cannot be reached.
pub(super) fn unavailable() -> Denied {
    Denied::Unavailable { retry_after: Duration::from_secs(1) }
}

/// Of all buckets that are short, the one that takes longest.
fn short(plan: &Plan, answer: &Answer, allowance: Allowance) -> Denied {
    let waits = plan.buckets.iter().zip(&answer.buckets).filter(|(ask, (bucket, _))| bucket.level < ask.least);
    let longest = waits
        .map(|(ask, (bucket, _))| (bucket.wait(ask.least, ask.rate), ask))
        .max_by_key(|(wait, _)| wait.unwrap_or(Duration::MAX));
    let Some((retry_after, ask)) = longest else { return unavailable() };
    let (whose, limit) = (ask.whose.as_str(), ask.rate.limit.unsigned_abs());
    let per = match ask.kind {
        Kind::Requests => {
            return Denied::Requests { whose, limit, retry_after: retry_after.unwrap_or_default(), allowance };
        }
        Kind::Tokens => "minute",
        Kind::TokensOfDay => "day",
    };
    Denied::Tokens { whose, per, limit, asked: ask.least.unsigned_abs(), retry_after, allowance }
}

/// The nearest amount that is one.
pub(super) fn narrow(amount: i128) -> NanoUsd {
    NanoUsd(i64::try_from(amount).unwrap_or(if amount < 0 { i64::MIN } else { i64::MAX }))
}

impl Denied {
    /// As in metrics: the limit, or `None` for money.
    pub(super) fn limit(&self) -> Option<&'static str> {
        match self {
            Self::Requests { .. } => Some("rpm"),
            Self::Tokens { per: "day", .. } => Some("tpd"),
            Self::Tokens { .. } => Some("tpm"),
            Self::Concurrency { .. } => Some("concurrency"),
            Self::Budget { .. } | Self::Unavailable { .. } => None,
        }
    }
}
