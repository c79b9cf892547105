//! Counters in Redis, shared by all replicas: one script a decision, on the clock of Redis.
//!
//! All keys of a tenant lie together in a cluster, because a decision is about all of them at once. Every key expires: what
//! is lost is rebuilt from the ledger (money) or starts anew (rates). Every call has the deadline of [`Shared`] and is
//! counted, because the number of them is what limits cost a request.
//!
//! A crowd waits for its turn instead of being sent away: Redis runs one script at a time anyway, and whoever waits while
//! Redis goes away is told so at once. So too many at the same time are never taken for a Redis that is lost.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::book::{Answer, Outcome, Settlement, Standing, lock};
use super::bucket::Bucket;
use super::period::Span;
use super::plan::{Plan, Whose};
use crate::clock::UnixMs;
use crate::ids::{KeyId, TenantId};
use crate::shared::{Script, Shared, Unanswered};
use crate::telemetry::metrics::Metrics;

/// How long a settlement is remembered, so that one that is tried again counts once.
const REMEMBER_MS: u64 = 5 * 60 * 1_000;
/// How long a sign of life counts.
const ALIVE_MS: u64 = 60_000;
/// How long that a replica lacks rows in the ledger is remembered after it last said so: it may have died with them in its
/// journal.
const BEHIND_MS: u64 = 60 * 60 * 1_000;
/// Calls under way at once, at most half of what all may have together.
const AT_ONCE: usize = 32;
/// Longest wait for a turn.
const TURN: Duration = Duration::from_secs(2);
/// Tags that are remembered.
const TAGS: usize = 10_000;

const DECIDE: &str = concat!(include_str!("lua/prelude.lua"), include_str!("lua/decide.lua"));
const SETTLE: &str = concat!(include_str!("lua/prelude.lua"), include_str!("lua/settle.lua"));
const RENEW: &str = concat!(include_str!("lua/prelude.lua"), include_str!("lua/renew.lua"));
const SEED: &str = concat!(include_str!("lua/prelude.lua"), include_str!("lua/seed.lua"));
const CORRECT: &str = concat!(include_str!("lua/prelude.lua"), include_str!("lua/correct.lua"));
const READ: &str = concat!(include_str!("lua/prelude.lua"), include_str!("lua/read.lua"));
const REPLICAS: &str = concat!(include_str!("lua/prelude.lua"), include_str!("lua/replicas.lua"));

/// See the module.
pub(super) struct Door {
    shared: Shared,
    turns: Semaphore,
    decide: Script,
    settle: Script,
    renew: Script,
    seed: Script,
    correct: Script,
    read: Script,
    replicas: Script,
    metrics: Arc<Metrics>,
    /// Digests of tenants, which are asked for with each request.
    tags: Mutex<HashMap<TenantId, Arc<str>>>,
    /// Instead of the clock of Redis.
    #[cfg(test)]
    pub(super) time: Option<crate::clock::Clock>,
}

/// What a budget's counters say, slot by slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BySlot {
    /// Whether all the slots asked for are known.
    pub(super) known: bool,
    pub(super) held: i128,
    pub(super) spent: Vec<i128>,
}

/// What a decision answers: outcome, places, buckets, sums.
type Reply = (i64, Vec<usize>, Vec<i64>, Vec<String>);

impl Door {
    pub(super) fn new(shared: Shared, metrics: Arc<Metrics>) -> Self {
        Self {
            turns: Semaphore::new((shared.width() / 2).clamp(1, AT_ONCE)),
            shared,
            decide: Script::new(DECIDE),
            settle: Script::new(SETTLE),
            renew: Script::new(RENEW),
            seed: Script::new(SEED),
            correct: Script::new(CORRECT),
            read: Script::new(READ),
            replicas: Script::new(REPLICAS),
            metrics,
            tags: Mutex::default(),
            #[cfg(test)]
            time: None,
        }
    }

    /// Whether it is likely to answer.
    pub(super) fn is_up(&self) -> bool {
        let stats = self.shared.stats();
        stats.up && !stats.open
    }

    /// Decides and, if all has room, takes. `at` is the time here, for what is remembered of the buckets.
    pub(super) async fn decide(&self, plan: &Plan, at: UnixMs) -> Result<Answer, Unanswered> {
        let keys = self.keys(&plan.tenant, &plan.key, plan.seats.iter().map(|seat| seat.whose), plan.counters());
        let mut words = self.words(plan.request.map(|request| request.to_string()).unwrap_or_default());
        words.push(plan.hold_ms.to_string());
        words.push(plan.buckets.len().to_string());
        for ask in &plan.buckets {
            words.push(side(ask.whose).to_owned());
            words.push(ask.kind.as_str().to_owned());
            let numbers = [ask.rate.limit, ask.rate.window, ask.credit, ask.least, ask.want];
            words.extend(numbers.iter().map(ToString::to_string));
        }
        words.push(plan.seats.len().to_string());
        words.extend(plan.seats.iter().map(|seat| seat.limit.to_string()));
        words.push(plan.budgets.len().to_string());
        for budget in &plan.budgets {
            words.push(if budget.hard { budget.ask.limit.to_string() } else { String::new() });
            words.push(budget.ask.amount.to_string());
            words.push(budget.span.kept().to_string());
            words.push(budget.ask.slots.len().to_string());
            words.extend(budget.ask.slots.iter().map(ToString::to_string));
        }
        let reply: Reply = self.run("decide", &self.decide, &keys, &words).await?;
        answer(&reply, at).ok_or(Unanswered { may_be_done: true, hopeless: true })
    }

    /// Ends what a request holds and counts what it took; whether this was the first time.
    pub(super) async fn settle(&self, end: &Settlement) -> Result<bool, Unanswered> {
        let counters = end.budgets.iter().map(|charge| charge.key.as_str());
        let keys = self.keys(&end.tenant, &end.key, end.seats.iter().copied(), counters);
        let mut words = self.words(end.request.map(|request| request.to_string()).unwrap_or_default());
        words.push(REMEMBER_MS.to_string());
        words.push(end.buckets.len().to_string());
        for (whose, kind, rate, tokens) in &end.buckets {
            words.push(side(*whose).to_owned());
            words.push(kind.as_str().to_owned());
            words.extend([rate.limit, rate.window, *tokens].iter().map(ToString::to_string));
        }
        words.push(end.seats.len().to_string());
        words.push(end.budgets.len().to_string());
        for charge in &end.budgets {
            words.extend([charge.slot.to_string(), charge.held.to_string()]);
            words.extend([charge.cost.to_string(), charge.kept.to_string()]);
        }
        Ok(self.run::<i64>("settle", &self.settle, &keys, &words).await? == 1)
    }

    /// Puts off the expiry of what the request of a plan holds.
    pub(super) async fn renew(&self, plan: &Plan) -> Result<(), Unanswered> {
        let keys = self.keys(&plan.tenant, &plan.key, plan.seats.iter().map(|seat| seat.whose), plan.counters());
        let mut words = self.words(plan.request.map(|request| request.to_string()).unwrap_or_default());
        words.push(plan.hold_ms.to_string());
        words.push(plan.seats.len().to_string());
        words.push(plan.budgets.len().to_string());
        for budget in &plan.budgets {
            words.extend([budget.ask.amount.to_string(), budget.span.kept().to_string()]);
        }
        self.run::<i64>("renew", &self.renew, &keys, &words).await.map(drop)
    }

    /// Brings slots up to at least what is given; all are known from the first on.
    pub(super) async fn seed(
        &self,
        tenant: &TenantId,
        key: &str,
        span: &Span,
        slots: &[(UnixMs, i64)],
    ) -> Result<(), Unanswered> {
        let mut words = self.words(span.kept().to_string());
        words.push(slots.len().to_string());
        words.extend(slots.iter().flat_map(|(slot, spent)| [slot.to_string(), spent.to_string()]));
        let (amounts, _) = self.budget(&self.tag(tenant), key);
        self.run::<i64>("seed", &self.seed, &[amounts], &words).await.map(drop)
    }

    /// Sets a slot if it is `seen` now.
    pub(super) async fn correct(
        &self,
        tenant: &TenantId,
        key: &str,
        slot: UnixMs,
        seen: i64,
        spent: i64,
    ) -> Result<bool, Unanswered> {
        let mut words = self.words(slot.to_string());
        words.extend([seen.to_string(), spent.to_string()]);
        let (amounts, _) = self.budget(&self.tag(tenant), key);
        Ok(self.run::<i64>("correct", &self.correct, &[amounts], &words).await? == 1)
    }

    /// What a budget's counters say.
    pub(super) async fn read(&self, tenant: &TenantId, key: &str, slots: &[UnixMs]) -> Result<BySlot, Unanswered> {
        let mut words = vec![self.now()];
        words.extend(slots.iter().map(ToString::to_string));
        let (amounts, holds) = self.budget(&self.tag(tenant), key);
        let reply: Vec<String> = self.run("read", &self.read, &[amounts, holds], &words).await?;
        let mut reply = reply.iter();
        let from = reply.next().and_then(|from| from.parse::<UnixMs>().ok());
        let held = reply.next().and_then(|held| held.parse().ok()).unwrap_or(0);
        let known = from.zip(slots.first()).is_some_and(|(from, first)| from <= *first);
        Ok(BySlot { known, held, spent: reply.map(|spent| spent.parse().unwrap_or(0)).collect() })
    }

    /// Gives a sign of life, or takes it back, and says whether this replica is behind with rows of the ledger; how many
    /// replicas there are, and how many are behind.
    pub(super) async fn replicas(&self, name: &str, lives: bool, behind: bool) -> Result<(u64, u64), Unanswered> {
        let mut words = self.words(name.to_owned());
        words.push(if lives { ALIVE_MS.to_string() } else { String::new() });
        words.extend([u8::from(behind).to_string(), BEHIND_MS.to_string()]);
        let keys = [self.shared.tagged("replicas", "seen"), self.shared.tagged("replicas", "behind")];
        self.run("replicas", &self.replicas, &keys, &words).await
    }

    async fn run<T: redis::FromRedisValue>(
        &self,
        kind: &'static str,
        script: &Script,
        keys: &[String],
        words: &[String],
    ) -> Result<T, Unanswered> {
        let turn = timeout(TURN, self.turns.acquire()).await;
        let Ok(Ok(_turn)) = turn else { return Err(Unanswered { may_be_done: false, hopeless: false }) };
        self.metrics.limits.redis_calls.with_label_values(&[kind]).inc();
        self.shared.script(script, keys, words).await
    }

    /// The time, if it is not that of Redis, and a first word.
    fn words(&self, first: String) -> Vec<String> {
        let mut words = Vec::with_capacity(24);
        words.extend([self.now(), first]);
        words
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "in tests the time is a member")]
    fn now(&self) -> String {
        String::new()
    }

    #[cfg(test)]
    fn now(&self) -> String {
        self.time.as_ref().map(|time| time.now_ms().to_string()).unwrap_or_default()
    }

    fn keys<'a>(
        &self,
        tenant: &TenantId,
        key: &KeyId,
        seats: impl Iterator<Item = Whose>,
        counters: impl Iterator<Item = &'a str>,
    ) -> Vec<String> {
        let tag = self.tag(tenant);
        let of_key = |what: &str| self.shared.tagged(&tag, &format!("{what}:{key}"));
        let mut keys = Vec::with_capacity(8);
        keys.extend([self.shared.tagged(&tag, "rate"), of_key("rate"), self.shared.tagged(&tag, "done")]);
        keys.extend(seats.map(|whose| match whose {
            Whose::Tenant => self.shared.tagged(&tag, "seats"),
            Whose::Key => of_key("seats"),
        }));
        for counter in counters {
            let (amounts, holds) = self.budget(&tag, counter);
            keys.extend([amounts, holds]);
        }
        keys
    }

    fn budget(&self, tag: &str, counter: &str) -> (String, String) {
        (self.shared.tagged(tag, &format!("spent:{counter}")), self.shared.tagged(tag, &format!("held:{counter}")))
    }

    /// A digest, so that no name of a tenant can end the tag.
    fn tag(&self, tenant: &TenantId) -> Arc<str> {
        let mut tags = lock(&self.tags);
        if let Some(tag) = tags.get(tenant) {
            return Arc::clone(tag);
        }
        if tags.len() >= TAGS {
            tags.clear();
        }
        let hex = blake3::hash(tenant.as_str().as_bytes()).to_hex();
        let tag: Arc<str> = hex.get(..32).unwrap_or_default().into();
        tags.insert(tenant.clone(), Arc::clone(&tag));
        tag
    }
}

impl Plan {
    fn counters(&self) -> impl Iterator<Item = &str> {
        self.budgets.iter().map(|budget| budget.ask.key.as_str())
    }
}

fn side(whose: Whose) -> &'static str {
    match whose {
        Whose::Tenant => "1",
        Whose::Key => "2",
    }
}

/// `None` for what is no answer of ours.
fn answer((outcome, places, levels, sums): &Reply, at: UnixMs) -> Option<Answer> {
    let place = places.first().copied();
    let outcome = match outcome {
        0 => Outcome::Admitted,
        1 => Outcome::Short,
        2 => Outcome::Full(place?),
        3 => Outcome::Unseeded(places.clone()),
        4 => Outcome::Poor(place?),
        _ => return None,
    };
    let bucket = |parts: &[i64]| match parts {
        [level, carry, taken] => Some((Bucket { level: *level, carry: *carry, at }, *taken)),
        _ => None,
    };
    let standing = |parts: &[String]| match parts {
        [spent, held, first] => {
            Some(Standing { spent: spent.parse().ok()?, held: held.parse().ok()?, first: first.parse::<usize>().ok() })
        }
        _ => None,
    };
    let buckets = levels.chunks(3).map(bucket).collect::<Option<Vec<_>>>()?;
    let budgets = sums.chunks(3).map(standing).collect::<Option<Vec<_>>>()?;
    Some(Answer { outcome, buckets, budgets })
}
