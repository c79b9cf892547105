//! What callers are held to: requests and tokens per minute, concurrency, and budgets in dollars.
//!
//! In the life of a request: [`Limiter::request`] at its start takes one request from the buckets of key and tenant; before
//! upstream is asked, [`Limiter::admit`] reserves tokens, a seat and the worst-case cost in one atomic step and returns a
//! [`Hold`]. The hold is settled with what was really used; dropped, it gives everything back.
//!
//! Where the counters are: in Redis if there is one (`door`), else in process (`book`), money in PostgreSQL if that is the
//! store. All three decide alike. Invariants: what is held is kept apart from what was spent and expires by itself, so a
//! process that is killed leaves nothing behind; what was spent can always be rebuilt from the ledger and is compared with
//! it (`reconcile`); nobody waits for a counter beyond its deadline; a settlement counts once, however often it is sent.
//!
//! It must never: know a price or count a token, choose an HTTP status, let a hard budget be overspent because two asked
//! at once.
#![expect(clippy::result_large_err, reason = "a refusal is large by a little, rare, and moved once")]

mod apart;
mod book;
mod bucket;
mod crowd;
mod door;
mod expiring;
mod hits;
mod hold;
mod limiter;
mod live;
mod mirror;
mod offline;
mod outbox;
mod period;
mod place;
mod plan;
mod reconcile;
mod run;
mod seeding;
#[cfg(test)]
mod tests;
mod verdict;

use std::sync::Arc;
use std::time::Duration;

use crate::clock::UnixMs;
use crate::config::{NanoUsd, RateLimits, TenantSpec};
use crate::ids::{KeyId, RequestId, TenantId};

pub use hold::Hold;
pub use limiter::{Limiter, LimiterParts, Pending};
pub use reconcile::{BudgetStanding, NotRebuilt};

/// What one key is held to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Terms {
    /// Limits, budgets and switches of the tenant.
    pub tenant: Arc<TenantSpec>,
    /// Limits of the key alone.
    pub key: RateLimits,
    /// Name of the key, for budgets of one key.
    pub key_name: String,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// The tenant.
    pub tenant: &'a TenantId,
    /// The key.
    pub key: &'a KeyId,
    /// What it is held to.
    pub terms: &'a Terms,
}

/// What a request may need at most.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// The request.
    pub request: RequestId,
    /// When it began; decides which period pays.
    pub at: UnixMs,
    /// Model asked for.
    pub model: &'a str,
    /// Its tags.
    pub tags: &'a [(String, String)],
    /// Tokens that it may take, estimated.
    pub tokens: u64,
    /// What it may cost at most.
    pub worst: NanoUsd,
}

/// How much of a limit is left, as OpenAI's headers tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// The limit.
    pub limit: u64,
    /// What is left of it.
    pub remaining: u64,
    /// Until all of it is there again.
    pub reset: Duration,
}

/// The tightest limits of a caller after a decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowance {
    /// Requests per minute.
    pub requests: Option<Left>,
    /// Tokens per minute.
    pub tokens: Option<Left>,
}

/// Why a request may not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// Too many requests.
    Requests {
        /// Whose limit, as in `tenant` or `key`.
        whose: &'static str,
        /// The limit, per minute.
        limit: u64,
        /// When one request more has room.
        retry_after: Duration,
        /// For the headers.
        allowance: Allowance,
    },
    /// Too many tokens.
    Tokens {
        /// Whose limit.
        whose: &'static str,
        /// `minute` or `day`.
        per: &'static str,
        /// The limit.
        limit: u64,
        /// How many were asked for.
        asked: u64,
        /// When they have room; `None` if they never will, because they are more than the limit.
        retry_after: Option<Duration>,
        /// For the headers.
        allowance: Allowance,
    },
    /// Too many requests at the same time.
    Concurrency {
        /// Whose limit.
        whose: &'static str,
        /// The limit.
        limit: u64,
    },
    /// A hard budget has no room for the worst case.
    Budget {
        /// Name of the budget.
        name: String,
        /// How much there is in a period.
        usd: NanoUsd,
        /// What is spent and held.
        used: NanoUsd,
        /// When the period ends; for a rolling window, when some of it is free again.
        resets_in: Duration,
    },
    /// The counters cannot be reached and the policy is to be safe.
    Unavailable {
        /// When to try again.
        retry_after: Duration,
    },
}

/// What a request really took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Tokens.
    pub tokens: u64,
    /// Money.
    pub cost: NanoUsd,
}
