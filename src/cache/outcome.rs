//! What came of a request, by name. Each `as_str` is at once the header value, the metric label, the ledger column and
//! the log field, so that the four can never disagree.

use super::decide::Reject;
use crate::call::{ExactOnly, Uncacheable};
use crate::dialect::NotStorable;

/// What happened to a request, as in RFC 9211 and the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Answered from the cache.
    Hit,
    /// Looked up, not found, forwarded.
    Miss,
    /// Not looked up, forwarded.
    Bypass,
    /// Not looked up on the caller's wish, forwarded, may be stored.
    Refresh,
    /// Joined an equal request in flight.
    Coalesced,
    /// Refused by this program.
    Refused,
    /// Upstream failed.
    Failed,
    /// The client left before the end.
    Cancelled,
    /// The semantic tier would have answered, but only watches.
    Shadow,
    /// A hit asked again in the background; no client waits for it.
    Audit,
}

impl Outcome {
    /// All values.
    pub const ALL: [Self; 10] = [
        Self::Hit,
        Self::Miss,
        Self::Bypass,
        Self::Refresh,
        Self::Coalesced,
        Self::Refused,
        Self::Failed,
        Self::Cancelled,
        Self::Shadow,
        Self::Audit,
    ];

    /// Name in ledger, metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Bypass => "bypass",
            Self::Refresh => "refresh",
            Self::Coalesced => "coalesced",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Shadow => "shadow",
            Self::Audit => "audit",
        }
    }
}

/// Which part of the cache answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tier {
    /// An equal request.
    Exact,
    /// A request that asks the same in other words.
    Semantic,
}

impl Tier {
    /// Name in headers, ledger and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Semantic => "semantic",
        }
    }
}

/// Why a request was not a hit, or its answer not stored: the closed list behind `x-remora-reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The cache is switched off, by configuration or by the caller.
    Off,
    /// The route is passed through.
    Route,
    /// The request must not be cached at all.
    Uncacheable(Uncacheable),
    /// The caller asked for a fresh answer.
    NoCache,
    /// No equal request is stored, and similarity is not allowed for this one.
    ExactOnly(ExactOnly),
    /// No equal request is stored, and the semantic tier is not in use for this request.
    NotStored,
    /// The candidates were turned down.
    Rejected(Reject),
    /// An entry was found but is older than the caller accepts.
    TooOld,
    /// An entry was found but is longer than the caller's token limit.
    TokenLimit,
    /// No vector could be made.
    Embedding(&'static str),
    /// The index or the store failed.
    CacheFault,
    /// An equal request in flight failed; this one went by itself.
    LeaderFailed,
    /// The caller asked not to store the answer.
    NoStore,
    /// The answer may not be stored.
    NotStorable(NotStorable),
    /// The answer is larger than the limit for one entry.
    EntryTooLarge,
    /// The semantic tier would have answered, but only watches.
    Shadow,
    /// The key stores more answers than it may.
    WriteRate,
    /// The answer was invalidated while it was under way.
    Invalidated,
    /// This replica does not know what others have invalidated.
    Behind,
}

impl Reason {
    /// Name in headers, ledger, metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Route => "route",
            Self::Uncacheable(why) => why.as_str(),
            Self::NoCache => "no_cache",
            Self::ExactOnly(why) => why.as_str(),
            Self::NotStored => "not_stored",
            Self::Rejected(why) => why.as_str(),
            Self::TooOld => "too_old",
            Self::TokenLimit => "token_limit",
            Self::Embedding(why) => why,
            Self::CacheFault => "cache_fault",
            Self::LeaderFailed => "leader_failed",
            Self::NoStore => "no_store",
            Self::NotStorable(why) => why.as_str(),
            Self::EntryTooLarge => "entry_too_large",
            Self::Shadow => "shadow",
            Self::WriteRate => "write_rate",
            Self::Invalidated => "invalidated",
            Self::Behind => "behind",
        }
    }
}
