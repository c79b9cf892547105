//! Composition root: the only place that builds, wires and owns everything.
//!
//! Start: bind the listeners (so that a taken port is told before anything else happens), open the store, load the
//! cache beside warming the embedder, then serve. Stop: not ready → the data plane drains while the admin plane still
//! answers → the admin plane closes → queued writes reach the store.

mod fault;
mod month;
mod open;
mod reload;
mod rem;
mod secret;
mod semantic;
mod shadow;
mod traces;
mod upkeep;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

pub use self::fault::StartError;
use self::month::MonthWatch;
use self::reload::Reloader;
pub use self::reload::Source;
use self::secret::Held;
pub use self::secret::SecretError;
use self::semantic::{embedder, guards, warm, weights};
use self::shadow::Mirroring;
use self::traces::Tracing;
use self::upkeep::{Gauges, Replicas, sweep, upkeep};
use crate::admin::{self, Admin, Guesses, Readiness, Reload};
use crate::alert::{self, Alerts, Live};
use crate::cache::{self, Cache, Follower, SharedTier};
use crate::clock::Clock;
use crate::config::Config;
use crate::embed::Embedder;
use crate::ids::TenantId;
use crate::limit::{Limiter, LimiterParts, Pending};
use crate::pipeline::{self, DataPlane};
use crate::price::PriceBook;
use crate::server::{DrainReport, Listener, Shutdown};
use crate::shared::Shared;
use crate::store::{
    Database, Journal, JournalSettings, Sealed, StoreError, Stores, TenantRow, Unwritten, Writer, WriterHandle,
    WriterSizes,
};
use crate::task;
use crate::telemetry::metrics::Metrics;
use crate::tenant::{Directory, Noted};
use crate::upstream::Upstream;

/// Ledger rows that may wait to be written: over a minute of the fastest traffic measured.
const LEDGER_QUEUE: usize = 65_536;
/// Entries that may wait to be written.
const ENTRY_QUEUE: usize = 8_192;
/// Decisions of the semantic tier that may wait.
const DECISION_QUEUE: usize = 8_192;
/// Time left for open requests to the admin plane once the data plane has drained.
const ADMIN_DRAIN: Duration = Duration::from_secs(1);

/// Time for counting what the last requests have used.
const SETTLE: Duration = Duration::from_secs(2);

/// Age of a ledger row that waits, from which on rows are missing in the ledger rather than on their way.
const LATE: Duration = Duration::from_secs(5);

/// Whether rows of the ledger wait for the store longer than usual, those of an earlier life in the journal included.
fn pending(writer: &WriterHandle) -> Pending {
    let writer = writer.clone();
    Arc::new(move || {
        let stats = writer.stats();
        let late = stats.store_away || stats.ledger_lag > LATE;
        stats.spool_bytes > 0 || (stats.ledger_depth > 0 && late)
    })
}

/// A running program.
pub struct App {
    /// Address of the data plane.
    pub data: SocketAddr,
    /// Address of the admin plane.
    pub admin: SocketAddr,
    /// Address of the REM sidecar, if there is one.
    pub rem: Option<SocketAddr>,
    /// The series.
    pub metrics: Arc<Metrics>,
    /// The cache.
    pub cache: Arc<Cache>,
    /// The stores.
    pub stores: Stores,
    shutdown: Shutdown,
    /// Of the admin plane, which tells how the drain goes and so ends after it.
    admin_shutdown: Shutdown,
    readiness: Readiness,
    drain: Duration,
    data_plane: JoinHandle<DrainReport>,
    admin_plane: JoinHandle<DrainReport>,
    rem_plane: Option<JoinHandle<DrainReport>>,
    tasks: Vec<JoinHandle<()>>,
    limiter: Arc<Limiter>,
    writer: WriterHandle,
    writing: JoinHandle<Unwritten>,
    mirroring: Option<Mirroring>,
    traces: Option<Tracing>,
    directory: Arc<Directory>,
    reloader: Option<Arc<Reloader>>,
    database: Database,
    /// Held until everything else has stopped.
    _secret: Held,
}

/// What a test may put in place of the real thing.
#[derive(Default)]
pub struct Replacements {
    /// Wall-clock time.
    pub clock: Option<Clock>,
    /// Embedder.
    pub embedder: Option<Embedder>,
    /// Where the configuration can be read again; nowhere if `None`.
    pub source: Option<Source>,
}

impl App {
    /// Starts everything; returns when requests are served.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(config: Config) -> Result<Self, StartError> {
        Self::start_with(config, Replacements::default()).await
    }

    /// [`App::start`] with replacements.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start_with(config: Config, replace: Replacements) -> Result<Self, StartError> {
        let began = Instant::now();
        let clock = replace.clock.unwrap_or_default();
        let guards = guards(&config.cache.guards_off)?;
        let limits = &config.server.limits;
        let data = Listener::bind(config.server.listen, config.server.tls.as_ref(), limits, &config.server.deadlines)?;
        let admin_limits = admin::limits(limits);
        let admin =
            Listener::bind(config.admin.listen, config.admin.tls.as_ref(), &admin_limits, &config.server.deadlines)?
                .with_error_body(admin::problem, admin::PROBLEM_TYPE);
        let sidecar = rem::bind(&config)?;
        let upstream = Arc::new(Upstream::new(&config.upstream)?);
        let prices = Arc::new(PriceBook::load(config.prices.file.as_deref())?);
        let metrics = Arc::new(Metrics::new(
            config.tenants.iter().map(|tenant| tenant.name.clone()),
            config.telemetry.models.iter().cloned(),
        )?);
        let traces = Tracing::begin(&config, &clock, &metrics)?;

        let database = open::database(&config.store).await?;
        let stores = database.stores();
        let held = open::patiently(&config.store, || Held::obtain(&config.store, &stores)).await?;
        let secret = held.secret().clone();
        let (stores, mirroring) = Mirroring::begin(&config.store, stores, &metrics);
        let shadow = mirroring.as_ref().map(Mirroring::handle);
        let keys = (config.store.master_key.as_ref(), config.store.previous_master_key.as_ref());
        let over = || Sealed::over(&stores, &config.store.seal, keys.0, keys.1);
        let sealed = open::patiently(&config.store, over).await?;
        let stores = sealed.as_ref().map_or(stores, Sealed::stores);
        let sizes = WriterSizes {
            ledger: LEDGER_QUEUE,
            entries: ENTRY_QUEUE,
            decisions: DECISION_QUEUE,
            flush: config.store.flush,
        };
        let journal = Journal::open(&JournalSettings {
            directory: config.store.journal_dir.clone(),
            bytes: config.store.journal_bytes,
            sync: config.store.journal_sync,
        })?;
        let (writer, writing) = Writer::new(&stores, sizes, Some(journal));
        let writing = tokio::spawn(writing.run());
        let embedder = match replace.embedder {
            Some(embedder) => embedder,
            None => embedder(&config),
        };
        // Without a shared store there is nobody to share with, and nobody to say what is gone.
        let shared = match config.redis.as_ref().filter(|_| stores.changes.is_some()) {
            Some(settings) => Some(Shared::connect(settings, &secret.digest("shared", b""))?),
            None => None,
        };
        let weights = weights(&config, &embedder)?;
        let cache = Arc::new(Cache::new(cache::Parts {
            settings: config.cache.clone(),
            secret: secret.clone(),
            clock: clock.clone(),
            guards,
            embedder: embedder.clone(),
            weights,
            store: Arc::clone(&stores.entries),
            search: stores.search.clone(),
            shared: shared.clone().zip(config.redis.as_ref()).map(|(redis, settings)| SharedTier {
                redis,
                longest_ttl: settings.exact_ttl,
                lease_wait: settings.lease_wait,
            }),
            blind: config.store.blind,
            decisions: Arc::clone(&stores.decisions),
            writer: writer.clone(),
            metrics: Arc::clone(&metrics),
        }));
        let (shutdown, admin_shutdown) = (Shutdown::new(), Shutdown::new());
        let readiness = Readiness::default();
        let directory = Directory::new(&config, secret)
            .with_store(Arc::clone(&stores.directory), clock.clone())
            .with_labels(metrics.tenants.clone());
        let directory = Arc::new(directory);
        let reloader = replace.source.map(|source| {
            let (directory, audit) = (Arc::clone(&directory), Arc::clone(&stores.audit));
            Arc::new(Reloader::new(source, config.clone(), directory, Arc::clone(&prices), audit, clock.clone()))
        });
        let limiter = Arc::new(Limiter::new(LimiterParts {
            redis: shared.clone(),
            counters: stores.counters.clone(),
            ledger: Arc::clone(&stores.ledger),
            clock: clock.clone(),
            metrics: Arc::clone(&metrics),
            settings: config.limits.clone(),
            pending: pending(&writer),
        }));
        let plane = Arc::new(DataPlane::new(pipeline::Parts {
            directory: Arc::clone(&directory),
            cache: Arc::clone(&cache),
            upstream,
            limits: limits.clone(),
            clock: clock.clone(),
            ledger: Arc::clone(&stores.ledger),
            writer: writer.clone(),
            metrics: Arc::clone(&metrics),
            limiter: Arc::clone(&limiter),
            prices,
            pricing: config.prices.clone(),
            savings: config.savings.clone(),
            shutdown: shutdown.clone(),
        }));
        // Before the cache is loaded, so that no change falls between.
        let mut follower = match &stores.changes {
            Some(changes) => {
                let begin = || Follower::begin(Arc::clone(&cache), Arc::clone(changes), clock.clone());
                Some(open::patiently(&config.store, begin).await?)
            }
            None => None,
        };
        let alerts = Alerts::new(alert::Parts {
            settings: config.alerts.clone(),
            store: Arc::clone(&stores.alerts),
            notes: Arc::clone(&stores.notes),
            source: Arc::new(Live::new(Arc::clone(&directory), Arc::clone(&limiter), &stores)),
            clock: clock.clone(),
            metrics: Arc::clone(&metrics),
        })?;
        let admin_state = Admin {
            readiness: readiness.clone(),
            standing: follower.as_ref().map(Follower::standing),
            metrics: Arc::clone(&metrics),
            cache: Arc::clone(&cache),
            stores: stores.clone(),
            store_url: config.store.url.clone(),
            shadow: shadow.clone(),
            sealed,
            plane: Arc::clone(&plane),
            clock: clock.clone(),
            token: config.admin.token.clone(),
            directory: Arc::clone(&directory),
            limiter: Arc::clone(&limiter),
            savings: config.savings.clone(),
            alerts: Arc::clone(&alerts),
            reload: reloader.clone().map(|reloader| reloader as Arc<dyn Reload>),
            guesses: Arc::new(Guesses::default()),
        };
        let (data_address, admin_address) = (data.local_addr(), admin.local_addr());
        let (data_stats, admin_stats, rem_stats) = (data.stats(), admin.stats(), sidecar.as_ref().map(Listener::stats));
        let admin_plane = serve_admin(admin, admin_state, admin_shutdown.clone());

        open::patiently(&config.store, || declare(&config, &stores, &clock)).await?;
        open::patiently(&config.store, || directory.declare(&config, "start")).await?;
        let warming = warm(&config, embedder.clone());
        let learners = cache.load_learners().await?;
        let loaded = cache.load().await?;
        if let Some(warming) = warming {
            warming.await;
        }
        if let Some(follower) = &mut follower {
            follower.catch_up().await?;
        }
        tracing::info!(entries = loaded, learners, took_ms = began.elapsed().as_millis(), "cache loaded");

        let beside = rem::Beside {
            config: &config,
            stores: &stores,
            embedder: &embedder,
            directory: &directory,
            limiter: &limiter,
            metrics: &metrics,
            clock: &clock,
            shutdown: &shutdown,
        };
        let filling = rem::filling(&beside);
        let sidecar = rem::serve(sidecar, &beside);
        let (rem, rem_plane) = sidecar.map(|serving| (serving.address, serving.plane)).unzip();
        let data_plane = serve_data(data, plane, shutdown.clone());
        let mut tasks = vec![
            task::spawn("index", &metrics, upkeep(Arc::clone(&cache), shutdown.clone())),
            task::spawn(
                "sweep",
                &metrics,
                sweep(Gauges {
                    cache: Arc::clone(&cache),
                    metrics: Arc::clone(&metrics),
                    directory: Arc::clone(&directory),
                    writer: writer.clone(),
                    server: data_stats,
                    admin: admin_stats,
                    rem: rem_stats,
                    server_panics: 0,
                    shadow,
                    replicas: Replicas {
                        standing: follower.as_ref().map(Follower::standing),
                        changes: stores.changes.clone(),
                        shared: shared.clone(),
                    },
                    usage: Arc::clone(&stores.usage),
                    clock: clock.clone(),
                    shutdown: admin_shutdown.clone(),
                }),
            ),
        ];
        tasks.extend(filling.map(|filling| task::spawn("rem", &metrics, filling)));
        tasks.push(task::spawn("limits", &metrics, Arc::clone(&limiter).run(admin_shutdown.clone())));
        // Until the admin plane ends, for a drain may take long.
        tasks.push(task::spawn("alerts", &metrics, alerts.run(admin_shutdown.clone())));
        let month = MonthWatch::new(&stores, Arc::clone(&metrics), clock, config.savings.target);
        tasks.push(task::spawn("month", &metrics, month.run(admin_shutdown.clone())));
        tasks.push(task::spawn("directory", &metrics, Arc::clone(&directory).run()));
        if let Some(reloader) = &reloader {
            tasks.push(task::spawn("reload", &metrics, Arc::clone(reloader).watch()));
        }
        if let Some(follower) = follower {
            let woken = move || {
                let shared = shared.clone();
                async move {
                    match shared {
                        Some(shared) => shared.woken().await,
                        None => std::future::pending().await,
                    }
                }
            };
            tasks.push(task::spawn("replicas", &metrics, follower.run(woken)));
        }
        readiness.set(true);
        let (took_ms, sidecar) = (began.elapsed().as_millis(), rem.map(tracing::field::display));
        tracing::info!(data = %data_address, admin = %admin_address, rem = sidecar, took_ms, "ready");
        Ok(Self {
            data: data_address,
            admin: admin_address,
            rem,
            metrics,
            cache,
            stores,
            shutdown,
            admin_shutdown,
            readiness,
            drain: config.server.drain,
            data_plane,
            admin_plane,
            rem_plane,
            tasks,
            limiter,
            writer,
            writing,
            mirroring,
            traces,
            directory,
            reloader,
            database,
            _secret: held,
        })
    }

    /// Stops everything in order. One log line for each step.
    pub async fn stop(self) {
        let drain = self.drain;
        self.stop_within(drain).await;
    }

    /// Tells everything to end; a later call brings the deadline forward.
    pub fn trigger(&self, drain: Duration) {
        self.readiness.set(false);
        self.shutdown.trigger(drain);
    }

    /// Waits until what is queued for the store has been written; false if that took too long.
    pub async fn flush(&self) -> bool {
        self.writer.flush(Duration::from_secs(10)).await.is_ok()
    }

    /// Reads the configuration again; the log says what came of it.
    pub async fn reload(&self, actor: &str) {
        match &self.reloader {
            // What came of it is in the log.
            Some(reloader) => drop(reloader.reload(actor).await),
            None => tracing::warn!(actor, "there is no configuration to read again"),
        }
    }

    /// The handle that ends everything, for whoever waits for signals.
    pub fn shutdown(&self) -> Shutdown {
        self.shutdown.clone()
    }

    /// [`App::stop`] with another bound than the configured one.
    pub async fn stop_within(self, drain: Duration) {
        let began = Instant::now();
        self.trigger(drain);
        tracing::info!(bound_s = drain.as_secs(), "draining: no new connections, open requests run on");
        closed("data", self.data_plane).await;
        if let Some(plane) = self.rem_plane {
            closed("rem", plane).await;
        }
        // What has ended is counted where the others see it; what is not now, they learn from the ledger.
        if !self.limiter.flush(SETTLE).await {
            tracing::warn!("not all that requests have used is counted yet; the ledger has it");
        }
        self.admin_shutdown.trigger(ADMIN_DRAIN);
        closed("admin", self.admin_plane).await;
        for task in self.tasks {
            task.abort();
        }
        self.cache.save_learners().await;
        if let Err(error) = self.directory.note_used(&mut Noted::default()).await {
            tracing::warn!(%error, "it could not be noted which keys were used last");
        }
        self.writer.close();
        if let Ok(unwritten) = self.writing.await {
            let Unwritten { rows, entries, decisions, spooled } = unwritten;
            tracing::info!(
                rows_lost = rows,
                entries_lost = entries,
                decisions_lost = decisions,
                rows_left_in_journal = spooled,
                "write queue emptied"
            );
        }
        if let Some(traces) = self.traces {
            traces.end().await;
        }
        if let Some(mirroring) = self.mirroring {
            mirroring.end().await;
        }
        self.database.close().await;
        tracing::info!(took_ms = began.elapsed().as_millis(), "store closed, bye");
    }
}

async fn closed(plane: &'static str, serving: JoinHandle<DrainReport>) {
    if let Ok(report) = serving.await {
        tracing::info!(plane, finished = report.finished, cut = report.cut, "connections closed");
    }
}

async fn declare(config: &Config, stores: &Stores, clock: &Clock) -> Result<(), StoreError> {
    let now = clock.now_ms();
    let row = |name: &str| TenantRow { tenant: TenantId::new(name), declared: true, created_at: now, updated_at: now };
    let rows: Vec<TenantRow> = config.tenants.iter().map(|tenant| row(&tenant.name)).collect();
    stores.tenants.upsert(&rows).await
}

fn serve_data(listener: Listener, plane: Arc<DataPlane>, shutdown: Shutdown) -> JoinHandle<DrainReport> {
    tokio::spawn(listener.serve(move |request, _| Arc::clone(&plane).serve(request), shutdown))
}

fn serve_admin(listener: Listener, state: Admin, shutdown: Shutdown) -> JoinHandle<DrainReport> {
    let router = admin::router(state);
    tokio::spawn(listener.serve(move |request, from| admin::serve(router.clone(), request, from.peer.ip()), shutdown))
}
