//! Alerts and their deliveries: shapes and trait.
//!
//! An alert is stored before it is sent, together with one delivery for each channel it goes to. Its id is made from what it
//! is about, so that the same crossing seen by three replicas is one alert. A delivery is claimed for a while by the replica
//! that sends it; a replica that dies leaves a claim that runs out.

use super::BoxFuture;
use crate::clock::UnixMs;
use crate::ids::TenantId;

/// Member of a payload, `true` in that of an alert that is only stored: a larger one at the same moment tells it as well.
pub const QUIET: &str = "quiet";

/// Something to tell somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertRow {
    /// What makes it the same alert, as in `budget:acme:month:1793491200000:80`. At most 200 bytes.
    pub id: String,
    /// When it was raised.
    pub at: UnixMs,
    /// Whom it is about; `None` for the whole installation.
    pub tenant: Option<TenantId>,
    /// `budget_threshold`, `budget_forecast`, `limit_rejections`, `spend_anomaly`, `test`.
    pub kind: String,
    /// One line for people.
    pub title: String,
    /// Everything about it, as JSON in the form of whoever sends it.
    pub payload: String,
}

/// One alert on its way to one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryRow {
    /// The alert's id.
    pub alert: String,
    /// Name of the channel, as in `webhook`.
    pub channel: String,
    /// `pending`, `sent` or `failed` (given up).
    pub state: String,
    /// Tries so far.
    pub attempts: u32,
    /// When it is due; while it is claimed, when the claim runs out.
    pub next_at: UnixMs,
    /// Why the last try failed.
    pub error: Option<String>,
    /// When it was sent.
    pub sent_at: Option<UnixMs>,
}

/// What became of one try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tried {
    /// Delivered.
    Sent,
    /// To be tried again at this time.
    Later(UnixMs, String),
    /// Given up.
    Failed(String),
}

/// The alerts and their outbox.
pub trait AlertStore: Send + Sync {
    /// Stores an alert with a delivery, due at once, for each channel, in one transaction; false if there is an alert of
    /// that id already, and then nothing is changed.
    fn raise<'a>(&'a self, alert: &'a AlertRow, channels: &'a [String]) -> BoxFuture<'a, bool>;

    /// Claims up to `limit` deliveries to one channel that are pending and due at `now`, the longest due first, until
    /// `until`. What one caller has claimed no other gets before then. The try that now begins is counted.
    fn claim<'a>(
        &'a self,
        channel: &'a str,
        now: UnixMs,
        until: UnixMs,
        limit: u32,
    ) -> BoxFuture<'a, Vec<(AlertRow, DeliveryRow)>>;

    /// Notes what became of a delivery.
    fn tried<'a>(&'a self, alert: &'a str, channel: &'a str, tried: &'a Tried, now: UnixMs) -> BoxFuture<'a, ()>;

    /// Up to `limit` alerts raised before `before` (or the newest), newest first, of one tenant or for the operator of all,
    /// each with its deliveries by channel.
    fn alerts<'a>(
        &'a self,
        tenant: Option<&'a TenantId>,
        before: Option<UnixMs>,
        limit: u32,
    ) -> BoxFuture<'a, Vec<(AlertRow, Vec<DeliveryRow>)>>;

    /// Number of deliveries that are pending, by channel; channels without any are left out.
    fn outbox_depth(&self) -> BoxFuture<'_, Vec<(String, u64)>>;

    /// Deletes up to `limit` alerts raised before `before` that have no pending delivery; returns how many.
    fn forget_alerts(&self, before: UnixMs, limit: u32) -> BoxFuture<'_, u64>;
}
