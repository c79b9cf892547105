//! What this replica knows of the shared buckets: how they were when it last asked, and requests that it has on lease.
//!
//! A lease is a few requests taken out of the shared bucket at once, so that hits do not ask Redis for each. It is at most
//! a hundredth of the limit and used within a second; what is left of it goes back. So all replicas together let through
//! what the bucket allows, at most that much later.

use std::collections::HashMap;
use std::sync::Mutex;

use super::book::lock;
use super::bucket::{Bucket, Rate};
use super::plan::{BucketAsk, Kind, Plan, Whose};
use crate::clock::UnixMs;
use crate::ids::{KeyId, TenantId};

/// How long a lease may be used, milliseconds.
const FRESH_MS: u64 = 1_000;
/// While one question for a lease is under way, others ask for themselves only; as long as a question may take.
const ASKING_MS: u64 = 100;
/// What nobody has asked for so long is forgotten.
const FORGET_MS: u64 = 10 * 60 * 1_000;

#[derive(Default)]
struct Seen {
    buckets: HashMap<Kind, (Rate, Bucket)>,
    /// Requests on lease, since when, and until when somebody asks for more.
    lease: i64,
    leased_at: UnixMs,
    asking_until: UnixMs,
    used_at: UnixMs,
}

#[derive(Default)]
struct Known {
    tenant: Seen,
    keys: HashMap<KeyId, Seen>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Mirror(Mutex<HashMap<TenantId, Known>>);

/// A lease that is to go back.
pub(super) struct Unused {
    pub(super) tenant: TenantId,
    pub(super) key: KeyId,
    pub(super) whose: Whose,
    pub(super) rate: Rate,
    pub(super) tokens: i64,
}

impl Known {
    fn seen(&mut self, whose: Whose, key: &KeyId) -> &mut Seen {
        match whose {
            Whose::Tenant => &mut self.tenant,
            Whose::Key => self.keys.entry(key.clone()).or_default(),
        }
    }
}

impl Seen {
    /// Requests that may be used now.
    fn fresh(&self, now: UnixMs) -> i64 {
        if now.abs_diff(self.leased_at) <= FRESH_MS { self.lease } else { 0 }
    }
}

impl Mirror {
    /// Serves a request from leases: how the buckets are then. If not all limits have a lease, the plan says afterwards
    /// what to ask for: nothing where there is one, which is taken, and a new lease where there is none.
    pub(super) fn lease(&self, plan: &mut Plan, now: UnixMs) -> Option<Vec<Bucket>> {
        let mut all = lock(&self.0);
        let known = all.entry(plan.tenant.clone()).or_default();
        let served = plan.buckets.iter().all(|ask| known.seen(ask.whose, &plan.key).fresh(now) > 0);
        let mut buckets = Vec::with_capacity(plan.buckets.len());
        for ask in &mut plan.buckets {
            let seen = known.seen(ask.whose, &plan.key);
            seen.used_at = now;
            if seen.fresh(now) > 0 {
                seen.lease -= 1;
                (ask.least, ask.want) = (0, 0);
            } else {
                // What is too old goes back with the question for more.
                ask.credit += std::mem::take(&mut seen.lease);
                if seen.asking_until <= now || seen.asking_until > now + ASKING_MS {
                    seen.asking_until = now + ASKING_MS;
                    ask.want = (ask.rate.limit / 100).max(1);
                }
            }
            if served {
                let bucket = seen
                    .buckets
                    .get(&ask.kind)
                    .map_or_else(|| Bucket::full(ask.rate, now), |(rate, bucket)| bucket.refilled(*rate, now));
                buckets.push(Bucket { level: bucket.level.saturating_add(seen.lease), ..bucket });
            }
        }
        served.then_some(buckets)
    }

    /// Takes in the answer to a plan that [`Mirror::lease`] made, `admitted` or not: how the buckets are with what is on
    /// lease.
    pub(super) fn leased(&self, plan: &Plan, answer: &[(Bucket, i64)], admitted: bool, now: UnixMs) -> Vec<Bucket> {
        let mut all = lock(&self.0);
        let mut buckets = Vec::with_capacity(answer.len());
        let known = all.entry(plan.tenant.clone()).or_default();
        for (ask, (bucket, taken)) in plan.buckets.iter().zip(answer) {
            let seen = known.seen(ask.whose, &plan.key);
            if ask.want == 0 {
                // The request was taken from the lease, and is given back if it may not go on.
                seen.lease += i64::from(!admitted);
            } else {
                seen.asking_until = 0;
                seen.lease += (taken - 1).max(0);
                if *taken > 1 {
                    seen.leased_at = now;
                }
            }
            seen.buckets.insert(ask.kind, (ask.rate, *bucket));
            buckets.push(Bucket { level: bucket.level.saturating_add(seen.lease), ..*bucket });
        }
        buckets
    }

    /// The plan of [`Mirror::lease`] was not answered: what was to go back may have, and is lost.
    pub(super) fn unanswered(&self, plan: &Plan) {
        let mut all = lock(&self.0);
        let Some(known) = all.get_mut(&plan.tenant) else { return };
        for ask in plan.buckets.iter().filter(|ask| ask.want == 0) {
            known.seen(ask.whose, &plan.key).lease += 1;
        }
    }

    /// Notes how buckets are.
    pub(super) fn note(&self, plan: &Plan, answer: &[(Bucket, i64)]) {
        let mut all = lock(&self.0);
        let known = all.entry(plan.tenant.clone()).or_default();
        for (ask, (bucket, _)) in plan.buckets.iter().zip(answer) {
            let seen = known.seen(ask.whose, &plan.key);
            seen.used_at = bucket.at;
            seen.buckets.insert(ask.kind, (ask.rate, *bucket));
        }
    }

    /// This replica's share of a bucket, as far as it knows it: `ask` has the share of the limit.
    pub(super) fn share(&self, plan: &Plan, ask: &BucketAsk, replicas: i64, now: UnixMs) -> Bucket {
        let mut all = lock(&self.0);
        let known = all.get_mut(&plan.tenant).map(|known| known.seen(ask.whose, &plan.key));
        let bucket = known.and_then(|seen| seen.buckets.get(&ask.kind).copied());
        let Some((rate, bucket)) = bucket else { return Bucket::full(ask.rate, now) };
        let level = bucket.refilled(rate, now).level / replicas.max(1);
        Bucket { level: level.min(ask.rate.limit), carry: 0, at: now }
    }

    /// Leases that are too old, which are taken out; forgets who has not been here for long.
    pub(super) fn sweep(&self, now: UnixMs) -> Vec<Unused> {
        let mut all = lock(&self.0);
        let mut unused = Vec::new();
        for (tenant, known) in all.iter_mut() {
            let nobody = KeyId::new("");
            let sides = known.keys.iter_mut().map(|(key, seen)| (Whose::Key, key, seen));
            for (whose, key, seen) in std::iter::once((Whose::Tenant, &nobody, &mut known.tenant)).chain(sides) {
                let rate = seen.buckets.get(&Kind::Requests).map(|(rate, _)| *rate);
                let Some(rate) = rate.filter(|_| seen.lease > 0 && seen.fresh(now) == 0) else { continue };
                let tokens = std::mem::take(&mut seen.lease);
                unused.push(Unused { tenant: tenant.clone(), key: key.clone(), whose, rate, tokens });
            }
            known.keys.retain(|_, seen| seen.used_at.abs_diff(now) < FORGET_MS);
        }
        all.retain(|_, known| !known.keys.is_empty() || known.tenant.used_at.abs_diff(now) < FORGET_MS);
        unused
    }
}
