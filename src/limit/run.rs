//! What the limiter does in the background: settlements out, holds renewed, replicas counted, counters compared.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::book::Settlement;
use super::hold::{Money, Places, Rates, Record};
use super::limiter::Limiter;
use super::mirror::Unused;
use super::outbox::Sent;
use super::period::ms;
use super::plan::Kind;
use crate::ids::RequestId;
use crate::server::Shutdown;

/// Between two signs of life, and two looks at leases that nobody uses.
const BEAT: Duration = Duration::from_secs(1);
/// Longest wait of the background for the counters in the database.
const PATIENCE: Duration = Duration::from_secs(5);
/// Renewals at once.
const AT_ONCE: usize = 64;
/// How long counters in the database are kept, milliseconds: longer than any period, twice.
const KEEP_MS: u64 = 2 * 370 * 24 * 60 * 60 * 1_000;
/// How long a request that was counted is remembered there, and a hold that has expired: longer than any try to count it.
const KEEP_REQUESTS_MS: u64 = 24 * 60 * 60 * 1_000;
/// Beats between two deletions of old ones.
const FORGET_EVERY: u64 = 60 * 60;

impl Limiter {
    /// Works until the drain's deadline has passed. Without it nothing that was taken in Redis is given back.
    pub async fn run(self: Arc<Self>, shutdown: Shutdown) {
        let work = async {
            tokio::join!(
                self.send_to_redis(),
                self.send_to_counters(),
                self.renew(),
                self.beat(),
                self.compare_for_ever()
            );
        };
        tokio::select! {
            () = work => {}
            () = shutdown.deadline_passed() => {}
        }
        if let Some(door) = &self.door {
            // The others have this replica's share from now on.
            let _ = door.replicas(&self.name, false, (self.pending)()).await;
        }
    }

    /// Waits until everything that has ended is counted, at most for `patience`. Whether it is. Needs [`Limiter::run`].
    pub async fn flush(&self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        while self.to_redis.waiting() + self.to_counters.waiting() > 0 {
            if Instant::now() >= until {
                return false;
            }
            sleep(Duration::from_millis(5)).await;
        }
        true
    }

    async fn send_to_redis(self: &Arc<Self>) {
        self.to_redis
            .drain(|end: Arc<Settlement>| {
                let limiter = Arc::clone(self);
                async move {
                    let Some(door) = &limiter.door else { return Sent::Hopeless };
                    match door.settle(&end).await {
                        Ok(_) => Sent::Done,
                        Err(error) if error.hopeless => Sent::Hopeless,
                        Err(_) => Sent::Again,
                    }
                }
            })
            .await;
    }

    async fn send_to_counters(self: &Arc<Self>) {
        self.to_counters
            .drain(|end| {
                let limiter = Arc::clone(self);
                async move {
                    let Some(counters) = &limiter.counters else { return Sent::Hopeless };
                    let now = limiter.clock.now_ms();
                    match timeout(PATIENCE, counters.settle(end.request, &end.budgets, end.cost, now)).await {
                        Ok(Ok(())) => Sent::Done,
                        Ok(Err(_)) | Err(_) => Sent::Again,
                    }
                }
            })
            .await;
    }

    /// Puts off the expiry of all that is held, three times in the life of a hold.
    async fn renew(self: &Arc<Self>) {
        let mut ticks = ticks(self.settings.hold / 3);
        loop {
            ticks.tick().await;
            self.renew_all().await;
        }
    }

    pub(super) async fn renew_all(self: &Arc<Self>) {
        let records = self.live.all();
        let now = self.clock.now_ms();
        for record in &records {
            let places = record.places();
            if places.rates == Rates::Local || places.money == Money::Local {
                let plan = places.share.as_ref().unwrap_or(&record.plan);
                self.books.with(&plan.tenant, |book| book.renew(plan, now));
            }
        }
        let counted: Vec<RequestId> = records
            .iter()
            .filter(|record| holds_there(&record.places()))
            .filter_map(|record| record.plan.request)
            .collect();
        if let (Some(counters), false) = (&self.counters, counted.is_empty()) {
            let expires = now.saturating_add(ms(self.settings.hold));
            // The next round tries again, well before they expire.
            let _ = timeout(PATIENCE, counters.renew(&counted, expires)).await;
        }
        if self.door.is_some() {
            self.renew_in_redis(records).await;
        }
    }

    /// Also what was held elsewhere while Redis was away, so that nothing is held twice over when it is back.
    pub(super) async fn renew_in_redis(self: &Arc<Self>, records: Vec<Arc<Record>>) {
        let held =
            records.into_iter().filter(|record| !record.plan.seats.is_empty() || !record.plan.budgets.is_empty());
        let mut under_way = JoinSet::new();
        for record in held {
            if under_way.len() >= AT_ONCE {
                under_way.join_next().await;
            }
            let limiter = Arc::clone(self);
            under_way.spawn(async move {
                if let Some(door) = &limiter.door {
                    let _ = door.renew(&record.plan).await;
                }
            });
        }
        while under_way.join_next().await.is_some() {}
    }

    async fn beat(&self) {
        let mut ticks = ticks(BEAT);
        let mut beats: u64 = 0;
        loop {
            ticks.tick().await;
            self.beat_once().await;
            if let (Some(counters), true) = (&self.counters, beats.is_multiple_of(FORGET_EVERY)) {
                let before = |keep| self.clock.now_ms().saturating_sub(keep);
                // What is not done in time is done in the next hour.
                let forget = counters.forget_counters(before(KEEP_MS), before(KEEP_REQUESTS_MS));
                let _ = timeout(PATIENCE, forget).await;
            }
            beats += 1;
        }
    }

    pub(super) async fn beat_once(&self) {
        let now = self.clock.now_ms();
        if let Some(door) = &self.door {
            match door.replicas(&self.name, true, (self.pending)()).await {
                Ok((replicas, behind)) => {
                    self.behind.store(behind > 0, Ordering::Relaxed);
                    self.replicas.store(replicas.max(1), Ordering::Relaxed);
                    self.degraded(false);
                }
                // The number that was seen last holds.
                Err(_) => self.degraded(true),
            }
            for unused in self.mirror.sweep(now) {
                self.to_redis.push(unused.settlement());
            }
        }
        let empty = self.books.sweep(now);
        if empty && self.metrics.limits.degraded.get() == 0 {
            self.alone.store(false, Ordering::Relaxed);
        }
        let waiting = self.to_redis.waiting() + self.to_counters.waiting();
        self.metrics.limits.unsettled.set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }

    async fn compare_for_ever(&self) {
        let mut ticks = ticks(self.settings.reconcile);
        loop {
            tokio::select! {
                _ = ticks.tick() => self.reconcile().await,
                () = self.newcomers.notified() => {
                    let watched = self.take_newcomers();
                    self.compare_all(&watched, false).await;
                    // What only waited to be counted is counted by now.
                    sleep(BEAT).await;
                    self.compare_all(&watched, false).await;
                }
            }
        }
    }
}

/// Whether money is held in the database, perhaps beside Redis.
fn holds_there(places: &Places) -> bool {
    places.money == Money::Counters || (places.money == Money::Redis && places.maybe_counters)
}

impl Unused {
    /// Puts the requests back.
    fn settlement(self) -> Settlement {
        let Self { tenant, key, whose, rate, tokens } = self;
        let buckets = vec![(whose, Kind::Requests, rate, tokens)];
        Settlement { tenant, key, request: None, buckets, seats: Vec::new(), budgets: Vec::new() }
    }
}

fn ticks(every: Duration) -> tokio::time::Interval {
    let mut ticks = interval(every.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
