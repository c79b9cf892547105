//! Keeping up with other replicas: what they store is found here, what they take out is gone here.
//!
//! Stands beside the life of a request. One task reads the order of changes from where it left off; wake-ups only make
//! it look sooner. A change says which entry changed and never how: what the entry is now is read from the store, so a
//! change that is read late or twice cannot bring back what is gone.
//!
//! Invariants: changes are taken in their order, and an invalidation between them at its place, so that what was stored
//! before it goes and what was stored after it stays; the store learns how far this replica has obeyed only after it
//! has; a replica that has missed changes compares everything before it counts as caught up.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::commit::Committed;
use super::invalidate::{Filter, Selector};
use super::{Cache, LoadError, Meta};
use crate::clock::{Clock, UnixMs};
use crate::ids::{EntryId, TenantId};
use crate::store::{Change, ChangeStore, Loaded, Seq, StoreError, What};

/// Changes read at a time.
const BATCH: u32 = 1_000;
/// Longest time without looking, in case a wake-up is lost.
const POLL: Duration = Duration::from_millis(250);
/// Longest wait for the store.
const READ_DEADLINE: Duration = Duration::from_secs(5);
/// Longest wait for a page of everything.
pub(super) const SCAN_DEADLINE: Duration = Duration::from_secs(30);
/// How often partitions are looked after.
const SETTLE: Duration = Duration::from_secs(1);
/// Wait after a failure.
const BACKOFF: Duration = Duration::from_millis(500);
/// Invalidations of this time are entered at start, milliseconds: an answer that was under way elsewhere may still come.
const RECENT_MS: u64 = 15 * 60 * 1_000;
/// Without word from the store for longer than this, milliseconds, a replica counts as cut off.
const CUT_OFF_MS: u64 = 2_000;

/// How a replica stands to the others; read by health checks and metrics.
#[derive(Debug, Default)]
pub struct Standing {
    /// When the store last answered.
    contact: AtomicU64,
    /// When what it said was last obeyed.
    heeded: AtomicU64,
    /// Whether an invalidation is known that cannot be obeyed now.
    disobeys: AtomicBool,
    /// The latest invalidation of others that requests under way are compared with.
    entered: AtomicU64,
    /// When all changes were last known.
    current: AtomicU64,
    /// Changes known and not yet obeyed.
    behind: AtomicU64,
    /// Whether changes were missed that have not been made up for.
    catching_up: AtomicBool,
    /// Changes obeyed.
    obeyed: AtomicU64,
    /// Up to which number.
    at: AtomicU64,
    /// Times that everything was compared because changes were missed.
    resyncs: AtomicU64,
}

impl Standing {
    /// Whether this replica knows all that it should.
    pub fn is_current(&self) -> bool {
        !self.catching_up.load(Ordering::Acquire)
    }

    /// How long nothing that the store says has been obeyed.
    pub fn silence(&self, now: UnixMs) -> Duration {
        Duration::from_millis(now.saturating_sub(self.heeded.load(Ordering::Acquire)))
    }

    /// How long not all changes have been known.
    pub fn lag(&self, now: UnixMs) -> Duration {
        Duration::from_millis(now.saturating_sub(self.current.load(Ordering::Acquire)))
    }

    fn heeds(&self, now: UnixMs) {
        self.heeded.store(now, Ordering::Release);
        self.disobeys.store(false, Ordering::Release);
    }

    fn is_up_to_date(&self, now: UnixMs) {
        self.current.store(now, Ordering::Release);
        self.catching_up.store(false, Ordering::Release);
    }

    /// Changes known and not yet obeyed.
    pub fn behind(&self) -> u64 {
        self.behind.load(Ordering::Relaxed)
    }

    /// Changes obeyed so far.
    pub fn obeyed(&self) -> u64 {
        self.obeyed.load(Ordering::Relaxed)
    }

    /// How often everything was compared because changes were missed.
    pub fn resyncs(&self) -> u64 {
        self.resyncs.load(Ordering::Relaxed)
    }
}

/// See the module. One for each process whose store is shared.
pub struct Follower {
    cache: Arc<Cache>,
    changes: Arc<dyn ChangeStore>,
    clock: Clock,
    at: Seq,
    standing: Arc<Standing>,
    /// When partitions were last looked after.
    settled: Instant,
}

impl Follower {
    /// Takes its place in the order of changes. To be called before the cache is loaded, so that nothing falls between.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn begin(cache: Arc<Cache>, changes: Arc<dyn ChangeStore>, clock: Clock) -> Result<Self, StoreError> {
        let now = clock.now_ms();
        let mut at = changes.before(now.saturating_sub(RECENT_MS)).await?;
        let mut recent = HashSet::new();
        loop {
            let feed = changes.feed(at, BATCH).await?;
            for change in &feed.changes {
                match &change.what {
                    What::Entry { entry, .. } => {
                        recent.insert(*entry);
                    }
                    What::Invalidated { at, filter } => {
                        if let Some(selector) = cache.selector_of(filter).await {
                            cache.invalidations.enter(selector, *at);
                        }
                    }
                }
            }
            match feed.changes.last() {
                Some(last) => at = last.seq,
                None => {
                    at = feed.head;
                    break;
                }
            }
        }
        // Which of them are gone is not known; copies of none are served.
        recent.into_iter().for_each(|entry| cache.removed.note(entry, now));
        changes.obeyed(at);
        let standing = Arc::new(Standing::default());
        standing.at.store(at, Ordering::Release);
        standing.contact.store(now, Ordering::Release);
        standing.heeded.store(now, Ordering::Release);
        standing.current.store(now, Ordering::Release);
        // There is one follower for each cache.
        let _ = cache.follows.set((Arc::clone(&standing), Arc::clone(&changes)));
        Ok(Self { cache, changes, clock, at, standing, settled: Instant::now() })
    }

    /// How this replica stands.
    pub fn standing(&self) -> Arc<Standing> {
        Arc::clone(&self.standing)
    }

    /// Follows for ever. `woken` resolves when something else than the store says that there may be changes.
    pub async fn run<W: Future<Output = ()>>(mut self, woken: impl Fn() -> W) {
        loop {
            match self.step().await {
                Ok(true) => continue,
                Ok(false) => {
                    if self.settled.elapsed() < SETTLE {
                        // Moving partitions is not urgent.
                    } else if let Err(error) = self.settle().await {
                        tracing::debug!(%error, "partitions cannot be moved now");
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "changes of other replicas cannot be read now");
                    sleep(BACKOFF).await;
                }
            }
            let told = async {
                if self.changes.changed().await.is_err() {
                    // Nothing to wait on; the poll goes on.
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = told => {}
                () = woken() => {}
                () = sleep(POLL) => {}
            }
        }
    }

    /// Moves partitions in and out of memory.
    async fn settle(&mut self) -> Result<(), LoadError> {
        self.settled = Instant::now();
        self.cache.settle_residency().await
    }

    /// Reads and obeys what there is.
    ///
    /// # Errors
    /// The store cannot be read; what was obeyed stays so.
    pub async fn catch_up(&mut self) -> Result<(), StoreError> {
        while self.step().await? {}
        Ok(())
    }

    /// Reads and obeys one batch; says whether there may be more.
    async fn step(&mut self) -> Result<bool, StoreError> {
        let now = self.clock.now_ms();
        let feed = timeout(READ_DEADLINE, self.changes.feed(self.at, BATCH));
        let feed = feed.await.map_err(|_| StoreError::Closed)??;
        let contact = self.standing.contact.swap(now, Ordering::AcqRel);
        if now.saturating_sub(contact) > CUT_OFF_MS && feed.head > self.at {
            tracing::info!(behind = feed.head - self.at, "in touch with the store again; catching up");
            self.standing.catching_up.store(true, Ordering::Release);
        }
        self.standing.behind.store(feed.head.saturating_sub(self.at), Ordering::Relaxed);
        // A head that has gone back is that of another database, restored from a backup.
        if feed.head < self.at || (feed.head > self.at && feed.oldest > self.at + 1) {
            self.resync(feed.head).await?;
            return Ok(true);
        }
        let Some(last) = feed.changes.last().map(|change| change.seq) else {
            self.standing.heeds(now);
            self.standing.is_up_to_date(now);
            return Ok(false);
        };
        if !consecutive(self.at, &feed.changes) {
            self.resync(feed.head).await?;
            return Ok(true);
        }
        let understood = self.cache.obey_all(&feed.changes).await.inspect_err(|_| {
            // An invalidation is known and cannot be obeyed now. Doubt is a miss.
            let known = feed.changes.iter().any(|change| matches!(change.what, What::Invalidated { .. }));
            self.standing.disobeys.fetch_or(known, Ordering::AcqRel);
        })?;
        if !understood {
            self.resync(last).await?;
            return Ok(true);
        }
        self.arrived(last, feed.changes.len());
        self.standing.heeds(now);
        if last >= feed.head {
            self.standing.is_up_to_date(now);
        }
        Ok(true)
    }

    fn arrived(&mut self, at: Seq, obeyed: usize) {
        self.at = at;
        self.changes.obeyed(at);
        self.standing.at.store(at, Ordering::Release);
        self.standing.obeyed.fetch_add(obeyed as u64, Ordering::Relaxed);
        let behind = self.standing.behind.load(Ordering::Relaxed);
        self.standing.behind.store(behind.saturating_sub(obeyed as u64), Ordering::Relaxed);
    }

    /// Changes were missed for good, or not understood: everything is compared with the store.
    async fn resync(&mut self, head: Seq) -> Result<(), StoreError> {
        self.standing.catching_up.store(true, Ordering::Release);
        self.standing.resyncs.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(
            at = self.at,
            head,
            "changes of other replicas were missed or not understood; comparing everything"
        );
        self.cache.compare_all().await?;
        // Of another database the numbers may be lower.
        self.standing.entered.store(head, Ordering::Release);
        self.arrived(head, 0);
        Ok(())
    }
}

/// Whether no number is missing after `at`.
fn consecutive(at: Seq, changes: &[Change]) -> bool {
    changes.iter().zip(at + 1..).all(|(change, expected)| change.seq == expected)
}

impl Cache {
    /// Obeys changes in their order; whether all could be understood.
    async fn obey_all(&self, changes: &[Change]) -> Result<bool, StoreError> {
        let (mut changed, mut understood) = (HashSet::new(), true);
        let now = self.clock.now_ms();
        for change in changes {
            if let What::Entry { entry, .. } = &change.what {
                self.pending.arrived(*entry);
            }
            match &change.what {
                What::Entry { entry, .. } if change.own && !self.has_come_back(*entry) => {}
                What::Entry { tenant, entry } => {
                    // Changed more than once: a copy may be of a state in between.
                    if !changed.insert((tenant.clone(), *entry)) {
                        self.removed.note(*entry, now);
                    }
                }
                What::Invalidated { at, filter } => {
                    self.read_again(std::mem::take(&mut changed)).await?;
                    understood &= self.obey(change.seq, *at, filter, change.own).await;
                }
            }
        }
        self.read_again(changed).await?;
        Ok(understood)
    }

    /// Brings entries to what they are in the store now.
    async fn read_again(&self, changed: HashSet<(TenantId, EntryId)>) -> Result<(), StoreError> {
        let keys: Vec<_> = changed.into_iter().collect();
        for some in keys.chunks(BATCH as usize) {
            let loaded = timeout(READ_DEADLINE, self.store.load(some)).await.map_err(|_| StoreError::Closed)??;
            // All go before any comes: a point may have moved from one of them to another. What was known has changed, and
            // what is not there has gone; copies of neither are served any more.
            let entries = loaded.iter().map(|loaded| &loaded.meta.entry);
            let new: HashSet<EntryId> =
                entries.filter(|entry| self.is_resident(&entry.partition)).map(|entry| entry.id).collect();
            let now = self.clock.now_ms();
            for (tenant, entry) in some {
                if self.let_go(tenant, *entry) || !new.contains(entry) {
                    self.removed.note(*entry, now);
                }
            }
            self.take_over(&loaded);
        }
        Ok(())
    }

    /// Whether an entry is there that was taken out: what was being read from the store then may have brought it back.
    fn has_come_back(&self, entry: EntryId) -> bool {
        self.shelf.has(entry) && self.removed.knows(entry)
    }

    /// Takes an entry out of memory alone.
    pub(super) fn let_go(&self, tenant: &TenantId, entry: EntryId) -> bool {
        let Some(meta) = self.shelf.forget(tenant, entry) else { return false };
        self.points.remove(&meta.points);
        true
    }

    /// Whether this replica may serve from memory: it is up to date, or has not been cut off for long.
    pub(super) fn is_informed(&self) -> bool {
        let Some(standing) = self.standing() else { return true };
        let obeys = !standing.disobeys.load(Ordering::Acquire);
        obeys && standing.is_current() && standing.silence(self.clock.now_ms()) <= self.blind
    }

    /// Takes entries of the store into memory.
    fn take_over(&self, loaded: &[Loaded]) {
        let now = self.clock.now_ms();
        let space = self.embedder.space().to_string();
        let comes = |loaded: &&Loaded| {
            let entry = &loaded.meta.entry;
            entry.expires_at > now && self.is_resident(&entry.partition)
        };
        for entry in loaded.iter().filter(comes) {
            self.learn_of(entry, &space);
        }
    }

    /// Obeys an invalidation that a replica made at `at`; whether it could be understood. One of our own was obeyed as it
    /// was made, but for what others stored meanwhile.
    async fn obey(&self, seq: Seq, at: UnixMs, filter: &str, own: bool) -> bool {
        let Some(selector) = self.selector_of(filter).await else { return false };
        let mut waiting = Vec::new();
        if !own {
            self.enter_once(seq, Arc::clone(&selector), at);
            waiting = self.pending.take(|one| selector.means(&one.entry, std::slice::from_ref(&*one.point), at));
        }
        let now = self.clock.now_ms();
        let mut meant: Vec<_> = if selector.needs_body() {
            // Whoever invalidates reads the answers that are in the store. Their bodies need not be read by all.
            waiting.iter().filter_map(|one| self.shelf.get(&one.entry.tenant, one.entry.id, now)).collect()
        } else {
            self.on_shelf(&selector, at, now).into_iter().map(|selected| selected.meta).collect()
        };
        meant.retain(|meta| !(own && meta.own && meta.created_at >= at));
        self.withdraw(&self.take_out(&meant));
        self.withdraw_waiting(&waiting);
        true
    }

    /// Enters an invalidation, unless it was: a batch that could not be obeyed to its end is read again.
    fn enter_once(&self, seq: Seq, selector: Arc<Selector>, at: UnixMs) {
        let Some(standing) = self.standing() else { return };
        if standing.entered.fetch_max(seq, Ordering::AcqRel) < seq {
            self.invalidations.enter(selector, at);
        }
    }

    /// Keeps what is still on its way from the store, where replicas share it.
    pub(super) fn withdraw(&self, gone: &[Arc<Meta>]) {
        let Some(changes) = self.changes() else { return };
        let mut gone: Vec<_> = gone.iter().collect();
        // The youngest come last, for they are the likeliest to be.
        gone.sort_unstable_by_key(|meta| meta.created_at);
        for meta in gone {
            changes.withdraw(&[meta.id], &meta.points);
        }
    }

    /// The same for what was made here, whether it is still in memory or not.
    fn withdraw_waiting(&self, waiting: &[Committed]) {
        let Some(changes) = self.changes() else { return };
        for one in waiting {
            changes.withdraw(&[one.entry.id], &[one.point.id]);
        }
    }

    /// Up to which change this replica has obeyed; 0 with a store of its own.
    pub(super) fn obeyed_so_far(&self) -> Seq {
        self.standing().map_or(0, |standing| standing.at.load(Ordering::Acquire))
    }

    /// The selector of an invalidation that was made elsewhere. `None` if it cannot be understood.
    async fn selector_of(&self, filter: &str) -> Option<Arc<Selector>> {
        let filter = Filter::from_json(filter)?;
        self.selector(filter).await.ok().map(Arc::new)
    }

    /// Compares memory with the whole store: what is not there goes, what is there comes. Invalidations may be among what
    /// was missed, so neither what is under way nor what waits for the store gets there.
    async fn compare_all(&self) -> Result<(), StoreError> {
        let now = self.clock.now_ms();
        self.invalidations.doubt(now);
        self.withdraw_waiting(&self.pending.take(|_| true));
        let mut there = HashSet::new();
        let mut next = self.read_page(now, None);
        loop {
            let page = timeout(SCAN_DEADLINE, next).await.map_err(|_| StoreError::Closed)?;
            let page = page.map_err(|_| StoreError::Closed)??;
            let Some(last) = page.last() else { break };
            next = self.read_page(now, Some(last.meta.cursor()));
            for loaded in &page {
                let entry = &loaded.meta.entry;
                there.insert(entry.id);
                self.let_go(&entry.tenant, entry.id);
            }
            self.take_over(&page);
        }
        // What was asked for and made since is not there yet.
        let stays = |meta: &Meta| there.contains(&meta.id) || (meta.own && meta.created_at > now);
        for meta in self.shelf.select(|meta| !stays(meta)) {
            self.let_go(&meta.tenant, meta.id);
        }
        Ok(())
    }
}
