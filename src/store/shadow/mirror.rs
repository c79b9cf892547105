//! The task that writes to the second store and compares it.
//!
//! A job that fails is tried again for some seconds and then given up. From then on the store counts as away: each job is
//! tried once, so that the queue is emptied rather than kept full of what is lost anyway, until one succeeds.

use std::future::Future;
use std::pin::Pin;
use std::sync::PoisonError;

use tokio::sync::{Notify, RwLock};
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::store::rem::{Owner, RemWrite};
use crate::store::{Correction, Database, StoreError};

/// Tries of one job while the second store does not count as away: about ten seconds.
const TRIES: u32 = 8;
const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const LAST_BACKOFF: Duration = Duration::from_secs(5);
/// Longest wait for one write or for the opening.
pub(super) const DEADLINE: Duration = Duration::from_secs(10);
/// Shortest time between two tries to open the second store.
const REOPEN: Duration = Duration::from_secs(1);
/// Tries of a comparison, with a pause before each: the write may be under way still.
const LOOKS: u32 = 6;
const PAUSE: Duration = Duration::from_millis(250);

/// Opens the second store and makes sure that it can take the rows; the text says why not.
pub type Opener = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<Database, String>> + Send>> + Send + Sync>;

/// One transaction of the first store.
pub(in crate::store) enum Work {
    Tenants(Vec<TenantRow>),
    Entries(Vec<EntryWrite>),
    Requests(Vec<LedgerRow>),
    Decisions(Vec<DecisionWrite>),
    Forget(UnixMs, u32),
    Learned(Vec<LearnedRow>),
    Audit(Box<AuditRow>, Vec<EntryWrite>),
    Purge,
    ForgetTenant(TenantId, u32),
    Note(String, Option<String>),
    Directory(Vec<DirectoryWrite>, Vec<AuditRow>),
    Corrections(Vec<Correction>),
    Rem(TenantId, Vec<RemWrite>),
    ForgetRem(UnixMs, u32),
    ForgetRemOf(TenantId, Option<Owner>, u32),
}

impl Work {
    /// How much it counts.
    pub(super) fn rows(&self) -> u64 {
        let rows = match self {
            Self::Tenants(rows) => rows.len(),
            Self::Entries(writes) => writes.len(),
            Self::Requests(rows) => rows.len(),
            Self::Decisions(writes) => writes.len(),
            Self::Learned(rows) => rows.len(),
            Self::Corrections(rows) => rows.len(),
            Self::Rem(_, writes) => writes.len(),
            Self::Audit(_, writes) => writes.len() + 1,
            Self::Directory(writes, audit) => writes.len() + audit.len(),
            Self::Forget(..)
            | Self::Purge
            | Self::ForgetTenant(..)
            | Self::Note(..)
            | Self::ForgetRem(..)
            | Self::ForgetRemOf(..) => 1,
        };
        rows as u64
    }

    async fn write(&self, stores: &Stores) -> Result<(), StoreError> {
        let done = self.write_once(stores).await;
        if let (Err(StoreError::Behind), Some(changes)) = (&done, &stores.changes) {
            // The invalidations there came from here, or from whoever else writes there, which is not our concern.
            let head = changes.feed(u64::MAX >> 1, 1).await?.head;
            changes.obeyed(head);
            return self.write_once(stores).await;
        }
        done
    }

    async fn write_once(&self, stores: &Stores) -> Result<(), StoreError> {
        match self {
            Self::Tenants(rows) => stores.tenants.upsert(rows).await,
            Self::Entries(writes) => stores.entries.apply(writes).await,
            Self::Requests(rows) => stores.ledger.append(rows).await,
            Self::Decisions(writes) => stores.decisions.write(writes).await,
            Self::Forget(before, limit) => stores.decisions.forget(*before, *limit).await.map(|_| ()),
            Self::Learned(rows) => stores.decisions.save_learned(rows).await,
            Self::Audit(row, writes) => stores.audit.record(row, writes).await,
            Self::Purge => stores.entries.purge().await,
            // One whose row the second store lacks is left out there, as the row is, until a copy brings both.
            Self::Corrections(rows) => stores.usage.correct(rows).await.map(|_| ()),
            Self::ForgetTenant(tenant, limit) => stores.decisions.forget_tenant(tenant, *limit).await.map(|_| ()),
            Self::Rem(tenant, writes) => match &stores.rem {
                Some(rem) => rem.rem_apply(tenant, writes).await,
                None => Ok(()),
            },
            Self::ForgetRem(before, limit) => match &stores.rem {
                Some(rem) => rem.rem_forget(*before, *limit).await.map(|_| ()),
                None => Ok(()),
            },
            Self::ForgetRemOf(tenant, owner, limit) => match &stores.rem {
                Some(rem) => rem.rem_forget_tenant(tenant, owner.as_ref(), *limit).await.map(|_| ()),
                None => Ok(()),
            },
            Self::Note(name, text) => stores.notes.set_note(name, text.as_deref()).await,
            // The second store numbers its changes by itself; only a copy may come in between.
            Self::Directory(writes, audit) => {
                let mut done = None;
                while done.is_none() {
                    let seen = stores.directory.directory_version().await?;
                    done = stores.directory.change_directory(seen, writes, audit).await?;
                }
                Ok(())
            }
        }
    }
}

/// Counters that both ends see.
pub(in crate::store) struct Shared {
    url: StoreUrl,
    /// Rows that wait for the second store.
    pub(super) pending: AtomicU64,
    /// Read while something is written to the first store and queued.
    pub(super) under_way: RwLock<()>,
    mirrored: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
    compared: AtomicU64,
    different: AtomicU64,
    connected: AtomicBool,
    closing: AtomicBool,
    close: Notify,
    problem: std::sync::Mutex<Option<String>>,
    second: std::sync::Mutex<Option<Stores>>,
}

impl Shared {
    pub(super) fn new(url: StoreUrl) -> Self {
        Self {
            url,
            pending: AtomicU64::new(0),
            under_way: RwLock::default(),
            mirrored: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            compared: AtomicU64::new(0),
            different: AtomicU64::new(0),
            connected: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            close: Notify::new(),
            problem: std::sync::Mutex::default(),
            second: std::sync::Mutex::default(),
        }
    }

    /// Counts rows that the second store will not get.
    pub(super) fn lose(&self, rows: u64) {
        let before = self.dropped.fetch_add(rows, Ordering::Relaxed);
        if before == 0 {
            tracing::error!(rows, "the shadow store lacks writes; run `remora copy` once it is back");
        }
    }

    pub(super) fn second(&self) -> Option<Stores> {
        self.second.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn trouble(&self, problem: &str) {
        self.connected.store(false, Ordering::Relaxed);
        let mut last = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_deref() != Some(problem) {
            tracing::warn!(shadow = %self.url, problem, "the shadow store cannot be written");
            *last = Some(problem.to_owned());
        }
    }
}

/// What became of the shadow so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShadowStats {
    /// Where it is; shown without a password.
    pub url: StoreUrl,
    /// The last write succeeded.
    pub connected: bool,
    /// Why the last one that failed did.
    pub problem: Option<String>,
    /// Rows that wait.
    pub pending: u64,
    /// Rows written.
    pub mirrored: u64,
    /// Tries that failed.
    pub failed: u64,
    /// Rows that the second store did not get.
    pub dropped: u64,
    /// Reads compared.
    pub compared: u64,
    /// Of these, those that differed.
    pub different: u64,
}

impl ShadowStats {
    /// The counters by their names in the metrics.
    pub fn totals(&self) -> [(&'static str, u64); 5] {
        [
            ("mirrored", self.mirrored),
            ("failed", self.failed),
            ("dropped", self.dropped),
            ("compared", self.compared),
            ("different", self.different),
        ]
    }

    /// The second store lacks writes: a copy must catch up.
    pub fn catch_up_needed(&self) -> bool {
        self.dropped > 0
    }
}

/// The program's end of the shadow; cheap to clone.
#[derive(Clone)]
pub struct ShadowHandle(pub(super) Arc<Shared>);

impl ShadowHandle {
    /// Counters now.
    pub fn stats(&self) -> ShadowStats {
        let shared = &self.0;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ShadowStats {
            url: shared.url.clone(),
            connected: shared.connected.load(Ordering::Relaxed),
            problem: shared.problem.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            pending: count(&shared.pending),
            mirrored: count(&shared.mirrored),
            failed: count(&shared.failed),
            dropped: count(&shared.dropped),
            compared: count(&shared.compared),
            different: count(&shared.different),
        }
    }

    /// Ends when what is being written to the first store has been queued for the second.
    pub async fn settled(&self) {
        drop(self.0.under_way.write().await);
    }

    /// Accepts nothing more; [`Mirror::run`] ends once what waits is written or, on the first failure, dropped.
    pub fn close(&self) {
        self.0.closing.store(true, Ordering::Release);
        self.0.close.notify_one();
    }
}

/// The end that writes.
pub struct Mirror {
    first: Stores,
    open: Opener,
    jobs: mpsc::Receiver<Work>,
    checks: mpsc::Receiver<Check>,
    shared: Arc<Shared>,
}

impl Mirror {
    pub(super) fn new(
        first: Stores,
        open: Opener,
        jobs: mpsc::Receiver<Work>,
        checks: mpsc::Receiver<Check>,
        shared: Arc<Shared>,
    ) -> Self {
        Self { first, open, jobs, checks, shared }
    }

    /// Writes and compares until [`ShadowHandle::close`].
    pub async fn run(self) {
        let Self { first, open, jobs, checks, shared } = self;
        let mut writing = Writing { open, shared: Arc::clone(&shared), database: None, tried: None, away: false };
        tokio::select! {
            () = writing.run(jobs) => {}
            () = compare_all(first, checks, &shared) => {}
        }
        *shared.second.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if let Some(database) = writing.database {
            // What is in use elsewhere is not waited for long.
            let _ = timeout(DEADLINE, database.close()).await;
        }
    }
}

struct Writing {
    open: Opener,
    shared: Arc<Shared>,
    database: Option<Database>,
    /// The last try to open the second store, and why it failed.
    tried: Option<(Instant, String)>,
    away: bool,
}

impl Writing {
    async fn run(&mut self, mut jobs: mpsc::Receiver<Work>) {
        let shared = Arc::clone(&self.shared);
        // Found out at once, not at the first write.
        let opened = self.stores().await;
        if let Err(problem) = opened {
            shared.trouble(&problem);
        }
        loop {
            let job = tokio::select! {
                job = jobs.recv() => job,
                () = shared.close.notified() => {
                    jobs.close();
                    continue;
                }
            };
            let Some(job) = job else { return };
            self.write(&job).await;
            shared.pending.fetch_sub(job.rows(), Ordering::AcqRel);
        }
    }

    async fn write(&mut self, job: &Work) {
        let mut backoff = FIRST_BACKOFF;
        for tries in 1.. {
            let problem = match self.write_once(job).await {
                Ok(()) => {
                    self.away = false;
                    self.shared.connected.store(true, Ordering::Relaxed);
                    self.shared.mirrored.fetch_add(job.rows(), Ordering::Relaxed);
                    return;
                }
                Err(problem) => problem,
            };
            self.shared.failed.fetch_add(1, Ordering::Relaxed);
            self.shared.trouble(&problem);
            if self.away || tries >= TRIES || self.shared.closing.load(Ordering::Acquire) {
                self.away = true;
                self.shared.lose(job.rows());
                return;
            }
            sleep(backoff).await;
            backoff = (backoff * 2).min(LAST_BACKOFF);
        }
    }

    async fn write_once(&mut self, job: &Work) -> Result<(), String> {
        let stores = self.stores().await?;
        match timeout(DEADLINE, job.write(&stores)).await {
            Ok(done) => done.map_err(|error| error.to_string()),
            Err(_) => Err("a write took too long".to_owned()),
        }
    }

    /// The second store, opened if it is not yet.
    async fn stores(&mut self) -> Result<Stores, String> {
        if let Some(stores) = self.shared.second() {
            return Ok(stores);
        }
        if let Some((tried, problem)) = &self.tried
            && tried.elapsed() < REOPEN
        {
            return Err(problem.clone());
        }
        let opened = timeout(DEADLINE, (self.open)()).await;
        let opened = match opened.unwrap_or_else(|_| Err("opening took too long".to_owned())) {
            Ok(opened) => opened,
            Err(problem) => {
                self.tried = Some((Instant::now(), problem.clone()));
                return Err(problem);
            }
        };
        let stores = opened.stores();
        self.database = Some(opened);
        self.shared.connected.store(true, Ordering::Relaxed);
        tracing::info!(shadow = %self.shared.url, "the shadow store is open");
        *self.shared.second.lock().unwrap_or_else(PoisonError::into_inner) = Some(stores.clone());
        Ok(stores)
    }
}

async fn compare_all(first: Stores, mut checks: mpsc::Receiver<Check>, shared: &Shared) {
    while let Some(check) = checks.recv().await {
        let Some(second) = shared.second() else { continue };
        match differs(&first, &second, &check).await {
            Ok(differs) => {
                shared.compared.fetch_add(1, Ordering::Relaxed);
                if differs {
                    shared.different.fetch_add(1, Ordering::Relaxed);
                    tracing::debug!(?check, "the shadow store holds something else");
                }
            }
            // A store that cannot be read says nothing about what is in it.
            Err(error) => tracing::debug!(%error, "the shadow store could not be compared"),
        }
    }
    // Writing goes on.
    std::future::pending::<()>().await;
}

/// Whether both still differ after a while.
async fn differs(first: &Stores, second: &Stores, check: &Check) -> Result<bool, StoreError> {
    for look in 0..LOOKS {
        if look > 0 {
            sleep(PAUSE).await;
        }
        let same = match check {
            Check::Entry(tenant, id) => {
                first.entries.entry(tenant, *id).await? == second.entries.entry(tenant, *id).await?
            }
            Check::Request(id) => first.ledger.request(*id).await? == second.ledger.request(*id).await?,
        };
        if same {
            return Ok(false);
        }
    }
    Ok(true)
}
