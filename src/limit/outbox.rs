//! What has ended and must still be counted elsewhere: a bounded queue that is emptied in the background.
//!
//! A settlement is kept until it is acknowledged, and tried again when nobody knows whether it was done: settling twice
//! counts once. When the queue is full the oldest goes, and the ledger, which has its row, makes it good.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prometheus::IntCounter;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::book::lock;

const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// What became of a try.
pub(super) enum Sent {
    Done,
    /// Nobody knows, or it was not.
    Again,
    /// It never will be.
    Hopeless,
}

/// See the module.
pub(super) struct Outbox<T> {
    jobs: Mutex<VecDeque<Arc<T>>>,
    /// Taken out and not acknowledged.
    under_way: AtomicUsize,
    ready: Notify,
    /// Ever put in.
    pushed: AtomicU64,
    room: usize,
    /// Under way at once.
    at_once: usize,
    dropped: IntCounter,
}

impl<T: Send + Sync + 'static> Outbox<T> {
    pub(super) fn new(room: usize, at_once: usize, dropped: IntCounter) -> Self {
        Self {
            jobs: Mutex::default(),
            under_way: AtomicUsize::new(0),
            ready: Notify::new(),
            pushed: AtomicU64::new(0),
            room,
            at_once,
            dropped,
        }
    }

    /// Queues; never waits.
    pub(super) fn push(&self, job: T) {
        let mut jobs = lock(&self.jobs);
        if jobs.len() >= self.room {
            jobs.pop_front();
            self.dropped.inc();
        }
        jobs.push_back(Arc::new(job));
        self.pushed.fetch_add(1, Ordering::Release);
        drop(jobs);
        self.ready.notify_one();
    }

    /// What is not acknowledged.
    pub(super) fn waiting(&self) -> usize {
        // In this order, because a job is under way before it leaves the queue.
        let jobs = lock(&self.jobs);
        jobs.len() + self.under_way.load(Ordering::Acquire)
    }

    /// How many have left, acknowledged or given up, and how many were ever put in. They leave in order, but for tries.
    pub(super) fn progress(&self) -> (u64, u64) {
        let jobs = lock(&self.jobs);
        let pushed = self.pushed.load(Ordering::Acquire);
        let waiting = jobs.len() + self.under_way.load(Ordering::Acquire);
        (pushed.saturating_sub(u64::try_from(waiting).unwrap_or(u64::MAX)), pushed)
    }

    /// Sends for ever.
    pub(super) async fn drain<F: Future<Output = Sent> + Send + 'static>(&self, send: impl Fn(Arc<T>) -> F) {
        let mut pause = PAUSE.0;
        loop {
            let batch = self.take();
            if batch.is_empty() {
                self.ready.notified().await;
                continue;
            }
            let mut tries = JoinSet::new();
            for job in batch {
                let sending = send(Arc::clone(&job));
                tries.spawn(async move { (job, sending.await) });
            }
            let mut again = Vec::new();
            while let Some(tried) = tries.join_next().await {
                match tried {
                    Ok((_, Sent::Done)) => {}
                    Ok((job, Sent::Again)) => again.push(job),
                    Ok((_, Sent::Hopeless)) | Err(_) => self.dropped.inc(),
                }
            }
            pause = if again.is_empty() { PAUSE.0 } else { (pause * 2).min(PAUSE.1) };
            let failed = !again.is_empty();
            self.put_back(again);
            if failed {
                sleep(pause).await;
            }
        }
    }

    fn take(&self) -> Vec<Arc<T>> {
        let mut jobs = lock(&self.jobs);
        let batch: Vec<_> = (0..self.at_once).map_while(|_| jobs.pop_front()).collect();
        self.under_way.store(batch.len(), Ordering::Release);
        batch
    }

    fn put_back(&self, again: Vec<Arc<T>>) {
        let mut jobs = lock(&self.jobs);
        for job in again {
            if jobs.len() < self.room {
                jobs.push_front(job);
            } else {
                self.dropped.inc();
            }
        }
        self.under_way.store(0, Ordering::Release);
    }
}
