//! Asking a hit again, and learning from fresh answers: all in the background, after the reply has gone.
//!
//! An audit sends the request of a served hit upstream as the caller would have, with the caller's credential, and
//! compares the fresh answer with the one that was served. It has a ledger row of its own, so that its cost is seen, and a
//! cap by rate, by hour and by tokens.
//!
//! It must never delay a reply, and never be the reason that a request fails.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;

use super::DataPlane;
use super::completion::Asked;
use super::forward::Job;
use super::limits::Needs;
use crate::account::Record;
use crate::cache::flight::Next;
use crate::cache::outcome::Outcome;
use crate::cache::{Considered, FreshAnswer, Vector};
use crate::clock::UnixMs;
use crate::config;
use crate::ids::{RequestId, TenantId};
use crate::store::AUDIT_OF;
use crate::task;

/// Fresh answers that may be learnt from at one time; what comes beyond is not.
const LESSONS: usize = 64;
/// Audits under way at one time.
const AUDITS: usize = 8;
/// Tenants whose audits are counted.
const TENANTS: usize = 10_000;
const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;

/// What audits and lessons may take.
pub(super) struct Background {
    lessons: Arc<Semaphore>,
    audits: Arc<Semaphore>,
    spent: Mutex<HashMap<TenantId, Spent>>,
}

/// What a tenant's audits have cost.
#[derive(Default)]
struct Spent {
    hour: u64,
    audits: u32,
    day: u64,
    tokens: u64,
}

impl Default for Background {
    fn default() -> Self {
        let permits = |count| Arc::new(Semaphore::new(count));
        Self { lessons: permits(LESSONS), audits: permits(AUDITS), spent: Mutex::default() }
    }
}

impl Background {
    /// Whether this hit is to be audited; if so it is counted. The choice depends on the request's id alone, so that it
    /// can be told afterwards.
    fn chooses(&self, settings: &config::Audit, tenant: &TenantId, request: RequestId, now: UnixMs) -> bool {
        if draw(request) >= settings.rate {
            return false;
        }
        let mut spent = self.spent();
        if spent.len() >= TENANTS {
            spent.retain(|_, spent| spent.day == now / DAY_MS);
        }
        let own = spent.entry(tenant.clone()).or_default();
        own.roll(now);
        let allowed = own.audits < settings.per_hour && own.tokens < settings.tokens_per_day;
        own.audits += u32::from(allowed);
        allowed
    }

    /// An audit has cost this many tokens.
    pub(super) fn spend(&self, tenant: &TenantId, tokens: u64, now: UnixMs) {
        let mut spent = self.spent();
        let own = spent.entry(tenant.clone()).or_default();
        own.roll(now);
        own.tokens = own.tokens.saturating_add(tokens);
    }

    fn spent(&self) -> MutexGuard<'_, HashMap<TenantId, Spent>> {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Spent {
    fn roll(&mut self, now: UnixMs) {
        if self.hour != now / HOUR_MS {
            (self.hour, self.audits) = (now / HOUR_MS, 0);
        }
        if self.day != now / DAY_MS {
            (self.day, self.tokens) = (now / DAY_MS, 0);
        }
    }
}

/// A number from 0 to below 1 that belongs to the request.
fn draw(request: RequestId) -> f64 {
    let hash = blake3::hash(&request.to_bytes());
    let bits = hash.as_bytes().first_chunk::<4>().map_or(0, |bytes| u32::from_le_bytes(*bytes));
    f64::from(bits) / (f64::from(u32::MAX) + 1.0)
}

impl DataPlane {
    /// Asks a hit again if the draw falls on it.
    pub(super) fn audit(self: &Arc<Self>, asked: &Asked, vector: Option<Vector>, considered: Box<Considered>) {
        let principal = &asked.exchange.principal;
        let settings = &self.cache.settings().audit;
        let request = asked.exchange.record.id();
        if !self.background.chooses(settings, &principal.tenant, request, self.clock.now_ms()) {
            return;
        }
        let Ok(permit) = Arc::clone(&self.background.audits).try_acquire_owned() else { return };
        let record = Record::begin(asked.exchange.route(), &self.clock, &self.writer, &self.metrics);
        record.check();
        record.with(|row| {
            row.tenant = Some(principal.tenant.clone());
            row.key = Some(principal.key.clone());
            row.user.clone_from(&asked.exchange.controls.user);
            row.tags.clone_from(&asked.exchange.controls.tags);
            row.tags.push((AUDIT_OF.to_owned(), request.to_string()));
            row.dialect = asked.call.dialect.as_str().into();
            row.model_asked = Some(asked.call.model.clone());
            row.stream = asked.call.stream;
        });
        let job = Job { record: record.clone(), audit: true, ..self.job(asked, vector, Some(considered)) };
        let (pilot, seat) = self.flights.alone();
        let plane = Arc::clone(self);
        let (principal, tags) = (principal.clone(), asked.exchange.controls.tags.clone());
        let (model, needs) = (asked.call.model.clone(), Needs::of(&asked.call));
        task::spawn("audit", &self.metrics, async move {
            // An audit is paid for like any other call; without room for it the hit goes unchecked, and nobody was refused.
            if let Err(refusal) = plane.admit_unasked(&principal, &tags, &record, &model, needs).await {
                record.outcome(Outcome::Audit, None, None);
                record.with(|row| {
                    row.reason = Some(refusal.code().into());
                    row.status = refusal.status.as_u16();
                });
                record.finished();
                return;
            }
            let drained = async {
                // An event that is read is forgotten; nobody else has a seat.
                while let Next::Frame(_) = poll_fn(|cx| seat.poll_next(cx)).await {}
            };
            tokio::join!(Arc::clone(&plane).fly(pilot, job), drained);
            record.with(|row| {
                if row.outcome != Outcome::Failed.as_str() {
                    row.outcome = Outcome::Audit.as_str().into();
                }
                row.status = row.upstream_status.unwrap_or(0);
                // As the ledger has it, whether it was told or estimated.
                let tokens = row.tokens.sum();
                plane.background.spend(&principal.tenant, tokens, plane.clock.now_ms());
            });
            record.finished();
            drop(permit);
        });
    }

    /// Learns from a fresh answer, if there is room for it.
    pub(super) fn learn(&self, fresh: FreshAnswer) {
        let Ok(permit) = Arc::clone(&self.background.lessons).try_acquire_owned() else {
            self.metrics.learning.lessons_skipped.inc();
            return;
        };
        let cache = Arc::clone(&self.cache);
        task::spawn("learn", &self.metrics, async move {
            let lessons = cache.follow(fresh).await;
            tracing::trace!(?lessons, "learnt from a fresh answer");
            drop(permit);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(background: &Background, settings: &config::Audit, tenant: &TenantId, now: UnixMs) -> usize {
        (0..10_000).filter(|n| background.chooses(settings, tenant, RequestId::at(*n), now)).count()
    }

    #[test]
    fn audits_keep_to_their_rate_and_their_caps() {
        let settings = config::Audit { rate: 0.02, per_hour: 1_000, tokens_per_day: 5_000 };
        let (a, b) = (TenantId::new("a"), TenantId::new("b"));
        let background = Background::default();
        let count = chosen(&background, &settings, &a, 0);
        // 200 are expected, with a standard deviation of 14.
        assert!((130..270).contains(&count), "{count}");
        background.spend(&a, 5_000, 0);
        assert_eq!((chosen(&background, &settings, &a, 1), chosen(&background, &settings, &b, 1) > 0), (0, true));
        assert!(chosen(&background, &settings, &a, DAY_MS) > 0, "a new day");
        let few = config::Audit { per_hour: 5, ..settings };
        assert_eq!(chosen(&Background::default(), &few, &a, 0), 5);
        let off = config::Audit { rate: 0.0, ..few };
        assert_eq!(chosen(&Background::default(), &off, &a, 0), 0);
    }
}
