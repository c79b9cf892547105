//! Telling people: what is worth it, once, and until it has arrived.
//!
//! Beside the life of a request, never in it. Every replica looks at everything (`watch`): budgets every few seconds, pace,
//! refusals and unusual hours every minute. What it finds it stores together with one delivery for each channel; the id of
//! an alert is made from what it is about, so the store keeps one of it however many replicas saw it. Deliveries are then
//! claimed by whichever replica is first (`outbox`) and tried until they arrive or are given up.
//!
//! Invariants:
//! - Stored before sent: a crash at any moment loses no alert. It may send one twice, with the same idempotency key.
//! - Decisions are functions of what is seen (`threshold`, `forecast`, `rejection`, `anomaly`); none asks a clock.
//! - A channel that does not answer delays nothing but its own deliveries.
//!
//! Must never refuse a request, nor put a secret into an alert, an error or a log line.

mod anomaly;
mod channel;
mod forecast;
mod live;
mod news;
mod outbox;
mod rejection;
mod source;
#[cfg(test)]
mod tests;
mod threshold;
mod watch;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use self::channel::Channels;
pub use self::channel::SetupError;
pub use self::live::Live;
pub use self::news::Kind;
use self::news::News;
pub use self::source::{Pending, Source, Watched};
use self::watch::Watch;
use crate::clock::{Clock, UnixMs};
use crate::config;
use crate::ids::{AuditId, TenantId};
use crate::server::Shutdown;
use crate::store::{AlertRow, AlertStore, DeliveryRow, NoteStore, StoreError};
use crate::telemetry::metrics::Metrics;

/// How long an alert that was not seen any more is remembered as told, so that the store need not be asked.
const REMEMBERED_MS: u64 = 60 * 60 * 1_000;
/// How long a test waits for what becomes of it: a little longer than a try may take.
const TEST_WAIT: Duration = Duration::from_secs(11);
/// How often a test looks.
const TEST_LOOK: Duration = Duration::from_millis(100);
/// Alerts among which a test looks for its own.
const TEST_PAGE: u32 = 200;

/// What alerts need.
pub struct Parts {
    /// `[alerts]`
    pub settings: config::Alerts,
    /// The alerts and their outbox.
    pub store: Arc<dyn AlertStore>,
    /// For what replicas must agree on besides.
    pub notes: Arc<dyn NoteStore>,
    /// What is looked at.
    pub source: Arc<dyn Source>,
    /// Wall-clock time.
    pub clock: Clock,
    /// The series.
    pub metrics: Arc<Metrics>,
}

/// See the module.
pub struct Alerts {
    settings: config::Alerts,
    store: Arc<dyn AlertStore>,
    notes: Arc<dyn NoteStore>,
    source: Arc<dyn Source>,
    channels: Channels,
    clock: Clock,
    metrics: Arc<Metrics>,
    /// Ids that are in the store, and when each was last seen.
    told: Mutex<HashMap<String, UnixMs>>,
    /// Wakes the outbox: one for each configured channel, and one for what goes to others.
    due: Vec<Notify>,
}

/// Why no test was sent.
#[derive(Debug, thiserror::Error)]
pub enum TestError {
    /// There is no such channel.
    #[error("there is no channel `{asked}`; configured in [alerts]: {known}")]
    NoSuchChannel {
        /// What was asked for.
        asked: String,
        /// What there is.
        known: String,
    },
    /// The store cannot be reached.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Alerts {
    /// Prepares the channels; tells nobody anything yet.
    ///
    /// # Errors
    /// A channel that cannot be used as configured.
    pub fn new(parts: Parts) -> Result<Arc<Self>, SetupError> {
        let Parts { settings, store, notes, source, clock, metrics } = parts;
        let channels = Channels::new(&settings)?;
        let (told, due) = (Mutex::default(), (0..=channels.names().len()).map(|_| Notify::new()).collect());
        Ok(Arc::new(Self { settings, store, notes, source, channels, clock, metrics, told, due }))
    }

    /// Watches and delivers until the program ends. What is under way then is claimed by another replica, or by the next
    /// start.
    pub async fn run(self: Arc<Self>, shutdown: Shutdown) {
        let watching = async {
            let mut watch = Watch::new();
            watch.run(&self).await;
        };
        tokio::select! {
            () = shutdown.draining() => {}
            () = watching => {}
            () = self.deliver() => {}
        }
    }

    /// Names of the configured channels.
    pub fn channels(&self) -> Vec<String> {
        self.channels.names()
    }

    /// Up to `limit` alerts, newest first, with what became of them.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn list(
        &self,
        tenant: Option<&TenantId>,
        before: Option<UnixMs>,
        limit: u32,
    ) -> Result<Vec<(AlertRow, Vec<DeliveryRow>)>, StoreError> {
        self.store.alerts(tenant, before, limit).await
    }

    /// Sends a test to one channel, or to all, and waits for what becomes of it. A test is tried once. What is still
    /// pending at the end has not been answered.
    ///
    /// # Errors
    /// No such channel, or the store cannot be reached.
    pub async fn test(&self, channel: Option<&str>) -> Result<(AlertRow, Vec<DeliveryRow>), TestError> {
        let mut names = self.channels.names();
        if let Some(asked) = channel {
            if !names.iter().any(|name| name == asked) {
                let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
                return Err(TestError::NoSuchChannel { asked: asked.to_owned(), known });
            }
            names.retain(|name| name == asked);
        }
        let now = self.clock.now_ms();
        let news = News {
            id: news::id(&["test", &AuditId::at(now).to_string()]),
            kind: Kind::Test,
            tenant: None,
            title: "Test: alerts of this installation arrive here".to_owned(),
            text: "Somebody asked for this through the admin API. Nothing is wrong.".to_owned(),
            facts: serde_json::json!({}),
            loud: true,
            threshold: None,
        };
        let row = news.row(now);
        self.store.raise(&row, &names).await?;
        self.metrics.alerts.raised(&row.kind);
        self.wake();
        let end = Instant::now() + TEST_WAIT;
        loop {
            let page = self.store.alerts(None, None, TEST_PAGE).await?;
            let mine = page.into_iter().find(|(alert, _)| alert.id == row.id);
            let deliveries = mine.map(|(_, deliveries)| deliveries).unwrap_or_default();
            if Instant::now() >= end || deliveries.iter().all(|delivery| delivery.state != "pending") {
                return Ok((row, deliveries));
            }
            tokio::time::sleep(TEST_LOOK).await;
        }
    }

    /// Stores an alert, and so has it told, unless it is there already.
    async fn raise(&self, news: &News) -> Result<(), StoreError> {
        let now = self.clock.now_ms();
        if self.is_told(&news.id, now) {
            return Ok(());
        }
        let channels = if news.loud { self.channels.names() } else { Vec::new() };
        let is_new = self.store.raise(&news.row(now), &channels).await?;
        self.lock_told().insert(news.id.clone(), now);
        if is_new {
            self.metrics.alerts.raised(news.kind.as_str());
            if let (Some(tenant), Some(percent)) = (&news.tenant, &news.threshold) {
                self.metrics.alerts.budget(tenant.as_str(), percent);
            }
            if news.loud {
                tracing::warn!(alert = news.id, kind = news.kind.as_str(), "{}", news.title);
                self.wake();
            }
        }
        Ok(())
    }

    /// Says that there is something to deliver.
    fn wake(&self) {
        self.due.iter().for_each(Notify::notify_one);
    }

    /// Whether it is known to be stored. What has not been seen for long is forgotten on the way.
    fn is_told(&self, id: &str, now: UnixMs) -> bool {
        let mut told = self.lock_told();
        let known = match told.get_mut(id) {
            Some(seen) => {
                *seen = now;
                true
            }
            None => false,
        };
        if !known {
            told.retain(|_, seen| now.saturating_sub(*seen) < REMEMBERED_MS);
        }
        known
    }

    fn lock_told(&self) -> std::sync::MutexGuard<'_, HashMap<String, UnixMs>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
