//! A second store that receives every write after the first, for moving from one database to another.
//!
//! Reads come from the first. Writes are made there, and what succeeded is handed to a queue, from which [`Mirror`] writes
//! it to the second in the same order. A sample of reads is compared in the background.
//!
//! Invariants:
//! - The second store can never fail, slow or block the first: the queue is bounded, and what finds no room, or cannot be
//!   written for too long, is dropped and counted. A count above zero means that a catch-up `remora copy` is due.
//! - Changes to entries are queued in the order in which the first store made them.
//! - Notes are not mirrored, each database has its own; but for those about data keys (see `notes`). Neither are alerts and
//!   counters of budgets: who is told, and what is left, is a matter of the first store.
//!
//! It must never make two stores equal by itself: what was there before the shadow was switched on is for `remora copy`.

mod directory;
mod mirror;
mod notes;
mod rem;
#[cfg(test)]
mod tests;
mod usage;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, mpsc};

pub use self::mirror::{Mirror, Opener, ShadowHandle, ShadowStats};
use self::mirror::{Shared, Work};
use super::{
    AuditHead, AuditRow, AuditStore, BoxFuture, Chained, Counts, Cursor, DecisionRow, DecisionStore, DecisionWrite,
    DirectoryWrite, Entry, EntryFilter, EntryMeta, EntryStore, EntryWrite, Exported, Found, LearnedRow, LedgerRow,
    LedgerStore, Loaded, Point, Spend, StoreError, Stores, TenantRow, TenantStore,
};
use crate::clock::UnixMs;
use crate::config::StoreUrl;
use crate::ids::{AuditId, EntryId, RequestId, TenantId};

/// Jobs that may wait for the second store; each is one transaction of the first.
const JOBS: usize = 8_192;
/// Rows that may wait in them.
const ROWS: u64 = 65_536;
/// Comparisons that may wait.
const CHECKS: usize = 64;
/// One in so many reads of an entry is compared; every read of a ledger row is, for those are few.
const SAMPLE: u64 = 16;

/// What is compared.
#[derive(Clone, Debug)]
pub(super) enum Check {
    /// An entry with its body.
    Entry(TenantId, EntryId),
    /// A ledger row.
    Request(RequestId),
}

/// The first store, with the second behind it. Clones are one.
#[derive(Clone)]
struct Shadow {
    first: Stores,
    jobs: mpsc::Sender<Work>,
    checks: mpsc::Sender<Check>,
    shared: Arc<Shared>,
    reads: Arc<AtomicU64>,
    /// Held while a change is made and queued, so that both have the same order.
    entries: Arc<Mutex<()>>,
    decisions: Arc<Mutex<()>>,
    directory: Arc<Mutex<()>>,
}

/// Puts a second store behind `first`. Nothing reaches it until [`Mirror::run`] is polled. `url` is for showing.
pub fn shadow(first: &Stores, url: StoreUrl, open: Opener) -> (Stores, ShadowHandle, Mirror) {
    let (jobs, jobs_out) = mpsc::channel(JOBS);
    let (checks, checks_out) = mpsc::channel(CHECKS);
    let shared = Arc::new(Shared::new(url));
    let mirror = Mirror::new(first.clone(), open, jobs_out, checks_out, Arc::clone(&shared));
    let shadow = Arc::new(Shadow {
        first: first.clone(),
        jobs,
        checks,
        shared: Arc::clone(&shared),
        reads: Arc::default(),
        entries: Arc::default(),
        decisions: Arc::default(),
        directory: Arc::default(),
    });
    let stores = Stores {
        entries: shadow.clone(),
        ledger: shadow.clone(),
        tenants: shadow.clone(),
        directory: shadow.clone(),
        audit: shadow.clone(),
        decisions: shadow.clone(),
        notes: shadow.clone(),
        usage: shadow.clone(),
        rem: first.rem.is_some().then_some(shadow as _),
        ..first.clone()
    };
    (stores, ShadowHandle(shared), mirror)
}

impl Shadow {
    /// Queues what the first store has done, or counts it as dropped.
    fn mirror(&self, work: Work) {
        let rows = work.rows();
        if rows == 0 {
            return;
        }
        let waiting = self.shared.pending.fetch_add(rows, Ordering::AcqRel);
        let fits = waiting == 0 || waiting.saturating_add(rows) <= ROWS;
        if !fits || self.jobs.try_send(work).is_err() {
            self.shared.pending.fetch_sub(rows, Ordering::AcqRel);
            self.shared.lose(rows);
        }
    }

    /// Makes a write to its end, even if whoever asked for it waits no longer: a task that ends with the program, a client that
    /// has gone. Else the first store might have it and the second never hear of it.
    fn whole<'a, T, F, W>(&self, write: F) -> BoxFuture<'a, T>
    where
        T: Send + 'static,
        F: FnOnce(Self) -> W,
        W: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let (write, shared) = (write(self.clone()), Arc::clone(&self.shared));
        Box::pin(async move {
            let write = async move {
                let _under_way = shared.under_way.read().await;
                write.await
            };
            tokio::spawn(write).await.map_err(|_| StoreError::Closed)?
        })
    }

    fn compare(&self, check: Check) {
        // A full queue skips the sample.
        let _ = self.checks.try_send(check);
    }
}

impl EntryStore for Shadow {
    fn apply<'a>(&'a self, writes: &'a [EntryWrite]) -> BoxFuture<'a, ()> {
        let writes = writes.to_vec();
        self.whole(|this| async move {
            let _order = this.entries.lock().await;
            this.first.entries.apply(&writes).await?;
            this.mirror(Work::Entries(writes));
            Ok(())
        })
    }

    fn entry<'a>(&'a self, tenant: &'a TenantId, id: EntryId) -> BoxFuture<'a, Option<Entry>> {
        Box::pin(async move {
            let entry = self.first.entries.entry(tenant, id).await?;
            if self.reads.fetch_add(1, Ordering::Relaxed).is_multiple_of(SAMPLE) {
                self.compare(Check::Entry(tenant.clone(), id));
            }
            Ok(entry)
        })
    }

    fn points_of<'a>(&'a self, tenant: &'a TenantId, id: EntryId) -> BoxFuture<'a, Vec<Point>> {
        self.first.entries.points_of(tenant, id)
    }

    fn scan<'a>(&'a self, now: UnixMs, after: Option<&'a Cursor>, limit: u32) -> BoxFuture<'a, Vec<Loaded>> {
        self.first.entries.scan(now, after, limit)
    }

    fn list<'a>(
        &'a self,
        tenant: Option<&'a TenantId>,
        filter: &'a EntryFilter,
        after: Option<&'a Cursor>,
        limit: u32,
    ) -> BoxFuture<'a, Vec<EntryMeta>> {
        self.first.entries.list(tenant, filter, after, limit)
    }

    fn search<'a>(&'a self, tenant: Option<&'a TenantId>, text: &'a str, limit: u32) -> BoxFuture<'a, Vec<Found>> {
        self.first.entries.search(tenant, text, limit)
    }

    fn expired(&self, now: UnixMs, limit: u32) -> BoxFuture<'_, Vec<(TenantId, EntryId)>> {
        self.first.entries.expired(now, limit)
    }

    fn load<'a>(&'a self, keys: &'a [(TenantId, EntryId)]) -> BoxFuture<'a, Vec<Loaded>> {
        self.first.entries.load(keys)
    }

    fn export<'a>(&'a self, after: Option<&'a Cursor>, limit: u32) -> BoxFuture<'a, Vec<Exported>> {
        self.first.entries.export(after, limit)
    }

    fn counts(&self) -> BoxFuture<'_, Counts> {
        self.first.entries.counts()
    }

    fn purge(&self) -> BoxFuture<'_, ()> {
        self.whole(|this| async move {
            this.first.entries.purge().await?;
            this.mirror(Work::Purge);
            Ok(())
        })
    }
}

impl LedgerStore for Shadow {
    fn append<'a>(&'a self, rows: &'a [LedgerRow]) -> BoxFuture<'a, ()> {
        let rows = rows.to_vec();
        self.whole(|this| async move {
            this.first.ledger.append(&rows).await?;
            this.mirror(Work::Requests(rows));
            Ok(())
        })
    }

    fn request(&self, id: RequestId) -> BoxFuture<'_, Option<LedgerRow>> {
        Box::pin(async move {
            let row = self.first.ledger.request(id).await?;
            self.compare(Check::Request(id));
            Ok(row)
        })
    }

    fn count(&self) -> BoxFuture<'_, u64> {
        self.first.ledger.count()
    }

    fn recent<'a>(&'a self, tenant: Option<&'a TenantId>, limit: u32) -> BoxFuture<'a, Vec<LedgerRow>> {
        self.first.ledger.recent(tenant, limit)
    }

    fn page(&self, after: Option<RequestId>, limit: u32) -> BoxFuture<'_, Vec<LedgerRow>> {
        self.first.ledger.page(after, limit)
    }

    fn served<'a>(
        &'a self,
        tenant: &'a TenantId,
        entry: EntryId,
        since: UnixMs,
        limit: u32,
    ) -> BoxFuture<'a, Vec<LedgerRow>> {
        self.first.ledger.served(tenant, entry, since, limit)
    }

    fn spend<'a>(
        &'a self,
        tenant: Option<&'a TenantId>,
        since: UnixMs,
        until: UnixMs,
        slot_ms: u64,
    ) -> BoxFuture<'a, Vec<Spend>> {
        self.first.ledger.spend(tenant, since, until, slot_ms)
    }
}

impl TenantStore for Shadow {
    fn upsert<'a>(&'a self, tenants: &'a [TenantRow]) -> BoxFuture<'a, ()> {
        let tenants = tenants.to_vec();
        self.whole(|this| async move {
            this.first.tenants.upsert(&tenants).await?;
            this.mirror(Work::Tenants(tenants));
            Ok(())
        })
    }

    fn list(&self) -> BoxFuture<'_, Vec<TenantRow>> {
        self.first.tenants.list()
    }
}

impl AuditStore for Shadow {
    fn record<'a>(&'a self, row: &'a AuditRow, changes: &'a [EntryWrite]) -> BoxFuture<'a, ()> {
        let (row, changes) = (Box::new(row.clone()), changes.to_vec());
        self.whole(|this| async move {
            let _order = this.entries.lock().await;
            this.first.audit.record(&row, &changes).await?;
            this.mirror(Work::Audit(row, changes));
            Ok(())
        })
    }

    fn trail(&self, before: Option<AuditId>, limit: u32) -> BoxFuture<'_, Vec<AuditRow>> {
        self.first.audit.trail(before, limit)
    }

    fn audit_page(&self, after: Option<AuditId>, limit: u32) -> BoxFuture<'_, Vec<AuditRow>> {
        self.first.audit.audit_page(after, limit)
    }

    fn audit_head(&self) -> BoxFuture<'_, Option<AuditHead>> {
        self.first.audit.audit_head()
    }

    fn audit_chain(&self, after: u64, limit: u32) -> BoxFuture<'_, Vec<Chained>> {
        self.first.audit.audit_chain(after, limit)
    }

    fn audit_unchained(&self) -> BoxFuture<'_, u64> {
        self.first.audit.audit_unchained()
    }
}

impl DecisionStore for Shadow {
    fn write<'a>(&'a self, writes: &'a [DecisionWrite]) -> BoxFuture<'a, ()> {
        let writes = writes.to_vec();
        self.whole(|this| async move {
            let _order = this.decisions.lock().await;
            this.first.decisions.write(&writes).await?;
            this.mirror(Work::Decisions(writes));
            Ok(())
        })
    }

    fn decision(&self, request: RequestId) -> BoxFuture<'_, Option<DecisionRow>> {
        self.first.decisions.decision(request)
    }

    fn since<'a>(
        &'a self,
        tenant: Option<&'a TenantId>,
        since: UnixMs,
        after: Option<RequestId>,
        limit: u32,
    ) -> BoxFuture<'a, Vec<DecisionRow>> {
        self.first.decisions.since(tenant, since, after, limit)
    }

    fn forget(&self, before: UnixMs, limit: u32) -> BoxFuture<'_, u64> {
        self.whole(move |this| async move {
            let _order = this.decisions.lock().await;
            let forgotten = this.first.decisions.forget(before, limit).await?;
            if forgotten > 0 {
                this.mirror(Work::Forget(before, limit));
            }
            Ok(forgotten)
        })
    }

    fn forget_tenant<'a>(&'a self, tenant: &'a TenantId, limit: u32) -> BoxFuture<'a, u64> {
        let tenant = tenant.clone();
        self.whole(move |this| async move {
            let _order = this.decisions.lock().await;
            let forgotten = this.first.decisions.forget_tenant(&tenant, limit).await?;
            this.mirror(Work::ForgetTenant(tenant, limit));
            Ok(forgotten)
        })
    }

    fn save_learned<'a>(&'a self, rows: &'a [LearnedRow]) -> BoxFuture<'a, ()> {
        let rows = rows.to_vec();
        self.whole(|this| async move {
            let _order = this.decisions.lock().await;
            this.first.decisions.save_learned(&rows).await?;
            this.mirror(Work::Learned(rows));
            Ok(())
        })
    }

    fn learned(&self) -> BoxFuture<'_, Vec<LearnedRow>> {
        self.first.decisions.learned()
    }
}
