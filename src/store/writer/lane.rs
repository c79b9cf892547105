//! One bounded queue and the loop that empties it into the store, a batch at a time.
//!
//! Invariants: items are written in the order in which they were accepted, and at least once; a batch is kept until
//! the store confirms it, patience ends, or it has found [`Shelter`] in the journal, from where it reaches the store later;
//! memory is bounded by the queue and one batch.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::super::journal::{Journal, Receipt};
use super::super::{BoxFuture, StoreError, Stores};

/// Most items in one transaction.
const BATCH: usize = 512;
/// Longest wait for one transaction before it counts as failed.
const WRITE_DEADLINE: Duration = Duration::from_secs(30);
/// Wait before the first retry; it doubles with each failure.
const FIRST_BACKOFF: Duration = Duration::from_millis(50);
/// Longest wait between two tries.
const LAST_BACKOFF: Duration = Duration::from_secs(5);
/// Tries, and longest time for them, before a batch takes shelter.
const SHELTER_TRIES: u32 = 3;
const SHELTER_AFTER: Duration = Duration::from_secs(5);
/// A replica that has not yet obeyed an invalidation will in a moment: for this long that is no failure.
const BEHIND: Duration = Duration::from_secs(30);
/// Wait between two tries while the replica is behind.
const BEHIND_WAIT: Duration = Duration::from_millis(100);

/// What a lane does with its items.
pub(super) struct Work<T> {
    /// Name in logs.
    pub(super) name: &'static str,
    pub(super) stores: Stores,
    /// Writes a batch in one transaction; writing it again changes nothing.
    pub(super) write: for<'a> fn(&'a Stores, &'a [T]) -> BoxFuture<'a, ()>,
    pub(super) patience: Patience,
    /// Longest time that an item waits for others to share its transaction.
    pub(super) flush: Duration,
    /// Where items go while the store keeps failing.
    pub(super) shelter: Option<Shelter<T>>,
}

/// A journal in which items outlive an outage of the store.
pub(super) struct Shelter<T> {
    pub(super) journal: Journal,
    /// Sees to it that the item as it is now stands in the journal; whether it does.
    pub(super) note: fn(&Journal, &T, &mut Option<Receipt>) -> bool,
}

/// How often a batch is tried.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    /// While items may still come and the store is away; `None` is for ever.
    pub(super) open: Option<NonZeroU32>,
    /// While items may still come and the store refuses them.
    pub(super) refused: Option<NonZeroU32>,
    /// After the lane was closed.
    pub(super) closing: u32,
}

/// An item in the queue.
pub(super) struct Stamped<T> {
    accepted: Instant,
    item: T,
    /// Where it stands in the journal.
    receipt: Option<Receipt>,
}

#[derive(Default)]
struct Shared {
    accepted: AtomicU64,
    failures: AtomicU64,
    given_up: AtomicU64,
    sheltered: AtomicU64,
    /// Wakes the loop to write what it has.
    nudge: Notify,
}

/// The end at which items come in.
pub(super) struct Entrance<T> {
    queue: mpsc::Sender<Stamped<T>>,
    shared: Arc<Shared>,
    /// Items that have left the lane: written, sheltered or given up.
    done: watch::Receiver<u64>,
    /// When the oldest item of the batch at hand was accepted.
    oldest: watch::Receiver<Option<Instant>>,
    closing: Arc<watch::Sender<bool>>,
}

// Not derived: that would ask for `T: Clone`.
impl<T> Clone for Entrance<T> {
    fn clone(&self) -> Self {
        Self {
            queue: self.queue.clone(),
            shared: self.shared.clone(),
            done: self.done.clone(),
            oldest: self.oldest.clone(),
            closing: self.closing.clone(),
        }
    }
}

/// Room for one item.
pub(super) struct Permit<T> {
    permit: mpsc::OwnedPermit<Stamped<T>>,
    shared: Arc<Shared>,
}

impl<T> Permit<T> {
    pub(super) fn send(self, item: T, receipt: Option<Receipt>) {
        // Counted before it is sent, so that a flush that begins now waits for it.
        self.shared.accepted.fetch_add(1, Ordering::AcqRel);
        self.permit.send(Stamped { accepted: Instant::now(), item, receipt });
    }
}

/// A lane at one moment.
pub(super) struct Gauges {
    pub(super) depth: u64,
    pub(super) lag: Duration,
    pub(super) written: u64,
    pub(super) given_up: u64,
    pub(super) failures: u64,
}

impl<T> Entrance<T> {
    /// `None` if the queue is full or closed.
    pub(super) fn reserve(&self) -> Option<Permit<T>> {
        let permit = self.queue.clone().try_reserve_owned().ok()?;
        Some(Permit { permit, shared: self.shared.clone() })
    }

    /// Ends when everything accepted before the call has left the lane; `false` if the loop ended before.
    pub(super) fn flushed(&self) -> impl Future<Output = bool> + Send + use<T> {
        let accepted = self.shared.accepted.load(Ordering::Acquire);
        let mut done = self.done.clone();
        self.shared.nudge.notify_one();
        async move { done.wait_for(|done| *done >= accepted).await.is_ok() }
    }

    pub(super) fn close(&self) {
        self.closing.send_replace(true);
    }

    pub(super) fn gauges(&self) -> Gauges {
        let done = *self.done.borrow();
        let given_up = self.shared.given_up.load(Ordering::Relaxed);
        Gauges {
            depth: self.shared.accepted.load(Ordering::Relaxed).saturating_sub(done),
            lag: self.oldest.borrow().map_or(Duration::ZERO, |oldest| oldest.elapsed()),
            written: done.saturating_sub(given_up).saturating_sub(self.shared.sheltered.load(Ordering::Relaxed)),
            given_up,
            failures: self.shared.failures.load(Ordering::Relaxed),
        }
    }
}

/// The end at which items are written.
pub(super) struct Lane<T> {
    work: Work<T>,
    queue: mpsc::Receiver<Stamped<T>>,
    batch: Vec<Stamped<T>>,
    shared: Arc<Shared>,
    done: watch::Sender<u64>,
    oldest: watch::Sender<Option<Instant>>,
    closing: watch::Receiver<bool>,
}

/// A queue with its two ends.
pub(super) type Queue<T> = (mpsc::Sender<Stamped<T>>, mpsc::Receiver<Stamped<T>>);

/// The two ends of a lane over `queue`.
pub(super) fn lane<T>(work: Work<T>, queue: Queue<T>) -> (Entrance<T>, Lane<T>) {
    let (sender, receiver) = queue;
    let (done, done_out) = watch::channel(0);
    let (oldest, oldest_out) = watch::channel(None);
    let (closing, closing_out) = watch::channel(false);
    let shared = Arc::new(Shared::default());
    let entrance = Entrance {
        queue: sender,
        shared: shared.clone(),
        done: done_out,
        oldest: oldest_out,
        closing: Arc::new(closing),
    };
    let lane =
        Lane { work, queue: receiver, batch: Vec::with_capacity(BATCH), shared, done, oldest, closing: closing_out };
    (entrance, lane)
}

impl<T> Lane<T> {
    /// Writes until the queue is closed and empty; returns how many items were given up.
    pub(super) async fn run(mut self) -> u64 {
        while self.collect().await {
            self.write().await;
        }
        self.shared.given_up.load(Ordering::Relaxed)
    }

    /// Fills the batch: waits for a first item, then for more until the flush time is over, the batch is full or
    /// someone asks for a flush. `false` when nothing is left to come.
    async fn collect(&mut self) -> bool {
        let mut due: Option<Instant> = None;
        while self.batch.len() < BATCH {
            let room = BATCH - self.batch.len();
            tokio::select! {
                // Items first, so that a nudge finds those that were accepted before it.
                biased;
                count = self.queue.recv_many(&mut self.batch, room) => {
                    if count == 0 {
                        return !self.batch.is_empty();
                    }
                    let first = self.batch.first().map(|stamped| stamped.accepted);
                    self.oldest.send_if_modified(|oldest| std::mem::replace(oldest, first) != first);
                    due = due.or_else(|| Some(Instant::now() + self.work.flush));
                }
                // An error means that every handle is gone, and then the queue is closed as well.
                _ = self.closing.wait_for(|closing| *closing), if !self.queue.is_closed() => self.queue.close(),
                () = self.shared.nudge.notified() => break,
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => break,
            }
        }
        true
    }

    async fn write(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let (items, receipts) = self.batch.drain(..).map(|stamped| (stamped.item, stamped.receipt)).unzip();
        let mut batch = Batch { items, receipts };
        if self.write_with_retries(&mut batch).await {
            self.confirm(&batch.receipts);
        } else {
            self.shared.given_up.fetch_add(batch.len(), Ordering::Relaxed);
            tracing::error!(lane = self.work.name, items = batch.len(), "given up: the store kept failing");
        }
        self.oldest.send_replace(None);
        self.done.send_modify(|done| *done += batch.len());
    }

    /// Whether what is then left of the batch was written before patience ended; what has found shelter is not in it any
    /// more.
    async fn write_with_retries(&self, batch: &mut Batch<T>) -> bool {
        let (mut backoff, began) = (FIRST_BACKOFF, Instant::now());
        let (mut tries, mut closing_tries) = (0u32, 0u32);
        loop {
            self.take_shelter(batch, tries, began);
            if batch.items.is_empty() {
                return true;
            }
            let deadline = if self.work.shelter.is_some() { SHELTER_AFTER } else { WRITE_DEADLINE };
            let mut refused = false;
            let reason = match timeout(deadline, (self.work.write)(&self.work.stores, &batch.items)).await {
                Ok(Ok(())) => return true,
                Ok(Err(StoreError::Behind)) if began.elapsed() < BEHIND && !self.is_closing() => {
                    sleep(BEHIND_WAIT).await;
                    continue;
                }
                Ok(Err(error)) => {
                    tracing::warn!(lane = self.work.name, items = batch.len(), %error, "not written yet");
                    refused = !error.is_outage();
                    error.as_str()
                }
                Err(_) => "deadline",
            };
            self.shared.failures.fetch_add(1, Ordering::Relaxed);
            tries = tries.saturating_add(1);
            closing_tries += u32::from(self.is_closing());
            tracing::debug!(lane = self.work.name, reason, tries, "will try again");
            let most = if refused { self.work.patience.refused } else { self.work.patience.open };
            let given_up = most.is_some_and(|most| tries >= most.get()) || closing_tries >= self.work.patience.closing;
            if given_up {
                return false;
            }
            sleep(backoff).await;
            backoff = (backoff * 2).min(LAST_BACKOFF);
        }
    }

    /// Leaves to the journal what stands there, if the store keeps failing or is known to be away.
    fn take_shelter(&self, batch: &mut Batch<T>, tries: u32, began: Instant) {
        let Some(Shelter { journal, note }) = &self.work.shelter else { return };
        let failing = tries >= SHELTER_TRIES || (tries > 0 && began.elapsed() >= SHELTER_AFTER);
        if !failing && !journal.is_away() {
            return;
        }
        journal.set_away(true);
        let mut left = Batch { items: Vec::new(), receipts: Vec::new() };
        let mut sheltered = Vec::with_capacity(batch.items.len());
        for (item, mut receipt) in batch.items.drain(..).zip(batch.receipts.drain(..)) {
            match (note(journal, &item, &mut receipt), receipt) {
                (true, Some(receipt)) => sheltered.push(receipt),
                _ => {
                    left.items.push(item);
                    left.receipts.push(receipt);
                }
            }
        }
        *batch = left;
        let count = sheltered.len() as u64;
        journal.spool(sheltered, self.oldest.borrow().unwrap_or(began));
        self.shared.sheltered.fetch_add(count, Ordering::Relaxed);
        self.done.send_modify(|done| *done += count);
    }

    /// The store has what was written now.
    fn confirm(&self, receipts: &[Option<Receipt>]) {
        if let Some(Shelter { journal, .. }) = &self.work.shelter
            && !receipts.is_empty()
        {
            journal.set_away(false);
            journal.confirm(receipts.iter().copied().flatten());
        }
    }

    fn is_closing(&self) -> bool {
        *self.closing.borrow() || self.queue.is_closed()
    }
}

/// Items with where they stand in the journal; both are of one length.
struct Batch<T> {
    items: Vec<T>,
    receipts: Vec<Option<Receipt>>,
}

impl<T> Batch<T> {
    fn len(&self) -> u64 {
        self.items.len() as u64
    }
}
