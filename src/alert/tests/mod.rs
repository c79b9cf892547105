//! From what is seen to who has been told, over real databases, a real web server and a manual clock.

pub(super) mod mail_server;
mod outbox;
pub(super) mod receiver;
mod watch;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;

use self::receiver::Receiver;
use super::watch::Watch;
use super::{Alerts, Parts, Pending, Source, Watched};
use crate::clock::{Clock, UnixMs};
use crate::config::{self, Budget, Migrate, NanoUsd, Period, Secret, StoreUrl, TenantSpec, Webhook, WebhookFormat};
use crate::ids::TenantId;
use crate::limit::BudgetStanding;
use crate::store::{AlertRow, Database, DeliveryRow, Spend, StoreError};
use crate::telemetry::metrics::Metrics;

/// 1 November 2026, 12:00 UTC, a Sunday.
const NOON: UnixMs = 1_793_534_400_000;
const HOUR: u64 = 3_600_000;
pub(super) const SECRET: &str = "canary-webhook-secret";

/// A world in which tenants spend what the test says.
#[derive(Default)]
struct World {
    standings: Mutex<BTreeMap<String, Vec<BudgetStanding>>>,
    spends: Mutex<Vec<Spend>>,
    since: Mutex<HashMap<TenantId, UnixMs>>,
}

impl World {
    fn budget(&self, tenant: &str, period: Period, alert_at: &[f64], dollars: i64, spent: i64) {
        let budget = Budget {
            name: period.to_string(),
            period,
            usd: NanoUsd::dollars(dollars),
            hard: true,
            alert_at: alert_at.to_vec(),
            key: None,
            model: None,
            tag: None,
        };
        let (from, until) = (NOON - 12 * HOUR, NOON + 12 * HOUR);
        let standing =
            BudgetStanding { budget, from, until, spent: NanoUsd::dollars(spent), held: NanoUsd(0), drift: NanoUsd(0) };
        self.standings.lock().unwrap().insert(tenant.to_owned(), vec![standing]);
    }

    fn spend(&self, tenant: &str, slot: UnixMs, dollars: i64) {
        self.spends.lock().unwrap().push(Spend {
            tenant: Some(TenantId::new(tenant)),
            slot,
            key: None,
            model: Some("gpt-4o".into()),
            tags: Vec::new(),
            nano_usd: NanoUsd::dollars(dollars).0,
            requests: 1,
            unpriced: 0,
        });
    }
}

impl Source for World {
    fn known_since(&self) -> Pending<'_, Result<HashMap<TenantId, UnixMs>, StoreError>> {
        Box::pin(async { Ok(self.since.lock().unwrap().clone()) })
    }

    fn tenants(&self) -> Vec<Watched> {
        let watched = |(name, standings): (&String, &Vec<BudgetStanding>)| Watched {
            tenant: TenantId::new(name.as_str()),
            spec: Arc::new(TenantSpec {
                budgets: standings.iter().map(|standing| standing.budget.clone()).collect(),
                ..TenantSpec::default()
            }),
        };
        self.standings.lock().unwrap().iter().map(watched).collect()
    }

    fn budgets<'a>(&'a self, watched: &'a Watched, _: UnixMs) -> Pending<'a, Vec<BudgetStanding>> {
        Box::pin(async { self.standings.lock().unwrap()[watched.tenant.as_str()].clone() })
    }

    fn spend<'a>(
        &'a self,
        tenant: Option<&'a TenantId>,
        since: UnixMs,
        until: UnixMs,
        _: u64,
    ) -> Pending<'a, Result<Vec<Spend>, StoreError>> {
        let wanted = move |spend: &&Spend| {
            (since..until).contains(&spend.slot) && tenant.is_none_or(|tenant| spend.tenant.as_ref() == Some(tenant))
        };
        Box::pin(async move { Ok(self.spends.lock().unwrap().iter().filter(wanted).cloned().collect()) })
    }
}

/// `[alerts]` with nothing in it.
pub(super) fn silent() -> config::Alerts {
    config::Alerts {
        webhook: None,
        slack: None,
        email: None,
        rejections: None,
        forecast: true,
        anomaly: Some(3.0),
        anomaly_floor: NanoUsd::dollars(5),
        retry: Duration::from_secs(24 * 3600),
        keep: Duration::from_secs(90 * 24 * 3600),
    }
}

/// A webhook to this server.
pub(super) fn webhook(url: &str, format: WebhookFormat) -> Webhook {
    Webhook { url: format!("{url}/hook"), format, secret: Secret::new(SECRET.to_owned()) }
}

/// One replica.
struct Replica {
    alerts: Arc<Alerts>,
    watch: Watch,
    metrics: Arc<Metrics>,
}

/// A receiver, a database and a clock, for any number of replicas.
struct Rig {
    receiver: Arc<Receiver>,
    settings: config::Alerts,
    world: Arc<World>,
    clock: Clock,
    database: Database,
    _directory: TempDir,
}

async fn open(url: &StoreUrl) -> Database {
    Database::open(url, Migrate::Auto).await.unwrap()
}

impl Rig {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = StoreUrl::Sqlite(Path::new(directory.path()).join("alerts.db"));
        let (receiver, url_of) = Receiver::start().await;
        Self {
            receiver,
            settings: config::Alerts { webhook: Some(webhook(&url_of, WebhookFormat::Remora)), ..silent() },
            world: Arc::default(),
            clock: Clock::manual(NOON),
            database: open(&url).await,
            _directory: directory,
        }
    }

    fn replica(&self) -> Replica {
        self.replica_on(&self.database)
    }

    fn replica_on(&self, database: &Database) -> Replica {
        let stores = database.stores();
        let metrics = Arc::new(Metrics::new(["acme".to_owned()], []).unwrap());
        let alerts = Alerts::new(Parts {
            settings: self.settings.clone(),
            store: stores.alerts,
            notes: stores.notes,
            source: Arc::clone(&self.world) as Arc<dyn Source>,
            clock: self.clock.clone(),
            metrics: Arc::clone(&metrics),
        });
        Replica { alerts: alerts.unwrap_or_else(|error| panic!("{error}")), watch: Watch::new(), metrics }
    }

    async fn listed(&self) -> Vec<(AlertRow, Vec<DeliveryRow>)> {
        self.database.stores().alerts.alerts(None, None, 1_000).await.unwrap()
    }

    /// Ids of all alerts, oldest first, and whether somebody is told of them.
    async fn ids(&self) -> Vec<(String, bool)> {
        let mut ids: Vec<_> =
            self.listed().await.into_iter().map(|(alert, deliveries)| (alert.id, !deliveries.is_empty())).collect();
        ids.sort();
        ids
    }
}

impl Replica {
    async fn look(&mut self) {
        self.watch.budgets(&self.alerts).await.unwrap();
    }
}
