//! Deliveries: claimed, tried, noted.
//!
//! A claim lasts longer than a try can take, so nobody else sends meanwhile; a replica that dies leaves a claim that runs
//! out. What was sent and could not be noted is sent again: at least once, and the idempotency key tells.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::Alerts;
use super::channel::{Failure, PATIENCE};
use super::news::Kind;
use crate::clock::UnixMs;
use crate::store::{AlertRow, DeliveryRow, StoreError, Tried};

/// How long a claim lasts, milliseconds: a try, the note of it, and room.
pub(super) const CLAIM_MS: u64 = 60_000;
/// Deliveries tried at once.
const AT_ONCE: u32 = 8;
/// How often the outbox is looked at without being woken.
const LOOK: Duration = Duration::from_secs(2);
/// The first pause; each next one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30 * 60);

const _: () = assert!(CLAIM_MS as u128 > 2 * PATIENCE.as_millis());

impl Alerts {
    /// Delivers what is due, for ever: each channel by itself, so that none waits for one that does not answer.
    pub(super) async fn deliver(self: &Arc<Self>) {
        let mut lanes = JoinSet::new();
        for lane in 0..self.due.len() {
            let alerts = Arc::clone(self);
            lanes.spawn(async move { alerts.deliver_in(lane).await });
        }
        // Whoever drops this ends them.
        while lanes.join_next().await.is_some() {}
    }

    async fn deliver_in(self: &Arc<Self>, lane: usize) {
        let Some(due) = self.due.get(lane) else { return };
        loop {
            match self.deliver_due(lane).await {
                // There may be more.
                Ok(tried) if tried >= AT_ONCE as usize => continue,
                Ok(_) => self.metrics.task_done("alerts", self.clock.now_ms()),
                Err(error) => tracing::debug!(%error, "alerts cannot be delivered while the store does not answer"),
            }
            tokio::select! {
                () = due.notified() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// Tries each delivery of a lane that is due, some at once; returns how many. A lane is a configured channel by its
    /// place; the one after these is for channels that are configured no more, whose deliveries have to end, too.
    pub(super) async fn deliver_due(self: &Arc<Self>, lane: usize) -> Result<usize, StoreError> {
        // Reading is cheaper than claiming, and mostly there is nothing.
        let pending = self.store.outbox_depth().await?;
        let depth = pending.iter().map(|(_, depth)| depth).sum::<u64>();
        self.metrics.alerts.outbox_depth.set(i64::try_from(depth).unwrap_or(i64::MAX));
        let names = self.channels.names();
        let mine = |channel: &str| names.iter().position(|name| name == channel).unwrap_or(names.len()) == lane;
        let mut claimed = Vec::new();
        for (channel, _) in pending.iter().filter(|(channel, _)| mine(channel)) {
            let now = self.clock.now_ms();
            match self.store.claim(channel, now, now.saturating_add(CLAIM_MS), AT_ONCE).await {
                Ok(more) => claimed.extend(more),
                // What is claimed is tried all the same.
                Err(error) if claimed.is_empty() => return Err(error),
                Err(_) => break,
            }
        }
        let count = claimed.len();
        let mut tries = JoinSet::new();
        for (alert, delivery) in claimed {
            let alerts = Arc::clone(self);
            tries.spawn(async move { alerts.attempt(&alert, &delivery).await });
        }
        // All of them end, whatever the store says to one: to break off would send again what has arrived.
        let mut done = Ok(count);
        while let Some(tried) = tries.join_next().await {
            if let Ok(Err(error)) = tried {
                done = Err(error);
            }
        }
        done
    }

    async fn attempt(&self, alert: &AlertRow, delivery: &DeliveryRow) -> Result<(), StoreError> {
        let channel = delivery.channel.as_str();
        let sent = self.channels.send(channel, alert, self.clock.now_ms()).await;
        let now = self.clock.now_ms();
        let tried = match sent {
            Ok(()) => {
                self.metrics.alerts.deliveries.inc();
                Tried::Sent
            }
            Err(failure) => {
                self.metrics.alerts.delivery_failed(self.channels.label(channel));
                after(alert, delivery.attempts, self.settings.retry, failure, now, fastrand::f64())
            }
        };
        match &tried {
            Tried::Sent => tracing::info!(alert = alert.id, channel, attempts = delivery.attempts, "alert delivered"),
            Tried::Later(at, why) => {
                let in_s = at.saturating_sub(now) / 1_000;
                tracing::warn!(
                    alert = alert.id,
                    channel,
                    attempts = delivery.attempts,
                    in_s,
                    why,
                    "alert not delivered"
                );
            }
            Tried::Failed(why) => {
                tracing::error!(alert = alert.id, channel, attempts = delivery.attempts, why, "alert given up");
            }
        }
        self.store.tried(&alert.id, channel, &tried, now).await
    }
}

/// What to do after a try that failed. `chance` is from 0 to 1 and spreads those who fail together.
fn after(alert: &AlertRow, attempts: u32, retry: Duration, failure: Failure, now: UnixMs, chance: f64) -> Tried {
    let Failure { what, retry_after } = failure;
    // Whoever tests waits for the outcome, not for the next try.
    if alert.kind == Kind::Test.as_str() {
        return Tried::Failed(what);
    }
    let wait = pause(attempts, chance).max(retry_after.unwrap_or_default());
    let next = now.saturating_add(millis(wait));
    if next > alert.at.saturating_add(millis(retry)) { Tried::Failed(what) } else { Tried::Later(next, what) }
}

/// From half of the full pause to all of it.
fn pause(attempts: u32, chance: f64) -> Duration {
    let doublings = attempts.saturating_sub(1).min(16);
    let full = FIRST_PAUSE.saturating_mul(1 << doublings).min(LONGEST_PAUSE);
    full.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(kind: Kind) -> AlertRow {
        AlertRow {
            id: "a".into(),
            at: 1_000_000,
            tenant: None,
            kind: kind.as_str().into(),
            title: String::new(),
            payload: String::new(),
        }
    }

    fn failed(retry_after: Option<u64>) -> Failure {
        Failure { what: "why".into(), retry_after: retry_after.map(Duration::from_secs) }
    }

    #[test]
    fn pauses_double_are_spread_and_have_an_end() {
        let full: Vec<u64> = [1, 2, 3, 9, 10, 11, u32::MAX].map(|attempts| pause(attempts, 1.0).as_secs()).into();
        assert_eq!(full, [5, 10, 20, 1_280, 1_800, 1_800, 1_800]);
        assert_eq!(pause(2, 0.0), Duration::from_secs(5));
    }

    #[test]
    fn a_delivery_is_tried_until_its_time_is_over_and_a_test_once() {
        let (alert_of, retry) = (alert(Kind::BudgetThreshold), Duration::from_secs(60));
        let next = |attempts, wait, now| after(&alert_of, attempts, retry, failed(wait), now, 1.0);
        assert_eq!(next(1, None, 1_000_000), Tried::Later(1_005_000, "why".into()));
        assert_eq!(next(1, Some(30), 1_000_000), Tried::Later(1_030_000, "why".into()), "the other side asks for it");
        assert_eq!(next(4, None, 1_020_000), Tried::Later(1_060_000, "why".into()));
        assert_eq!(next(4, None, 1_020_001), Tried::Failed("why".into()));
        let test = after(&alert(Kind::Test), 1, retry, failed(None), 1_000_000, 0.0);
        assert_eq!(test, Tried::Failed("why".into()));
    }
}
