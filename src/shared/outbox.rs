//! Writes in the background: a bounded queue in a few lanes.
//!
//! All writes of one key go through one lane in the order they were queued, so a lease is let go after the value that
//! others wait for was written. Invariants: queueing never waits; what does not fit, by number or by bytes, is dropped
//! and counted, and so is what cannot be written because Redis is away. Nothing is tried twice: every key expires.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use redis::Script;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::link::{Ask, Link, Trouble};
use super::names::Names;
use super::seal::Seal;
use crate::store::Digest;

const LANES: usize = 4;
/// Bytes of all values that wait.
const MOST_BYTES: usize = 64 << 20;
/// Keys of one deletion.
const AT_ONCE: usize = 128;

/// Deletes the lease if it is still ours.
const RELEASE: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";

enum Job {
    Put { key: Digest, value: Bytes, ttl: Duration },
    Forget { keys: Vec<Digest> },
    Release { key: Digest, token: Arc<str> },
}

/// Where writes are queued.
pub(super) struct Outbox {
    lanes: Vec<mpsc::Sender<Job>>,
    bytes: Arc<AtomicUsize>,
    link: Arc<Link>,
}

/// Writes what one lane holds.
struct Lane {
    jobs: mpsc::Receiver<Job>,
    bytes: Arc<AtomicUsize>,
    link: Arc<Link>,
    names: Arc<Names>,
    seal: Arc<Seal>,
    release: Script,
}

impl Outbox {
    /// Starts the lanes, which together hold about `room` writes.
    pub(super) fn start(
        link: &Arc<Link>,
        names: &Arc<Names>,
        seal: &Arc<Seal>,
        room: usize,
    ) -> (Self, Vec<JoinHandle<()>>) {
        let bytes = Arc::new(AtomicUsize::new(0));
        let (mut lanes, mut tasks) = (Vec::new(), Vec::new());
        for _ in 0..LANES {
            let (sender, jobs) = mpsc::channel(room.div_ceil(LANES).max(1));
            let lane = Lane {
                jobs,
                bytes: Arc::clone(&bytes),
                link: Arc::clone(link),
                names: Arc::clone(names),
                seal: Arc::clone(seal),
                release: Script::new(RELEASE),
            };
            lanes.push(sender);
            tasks.push(tokio::spawn(lane.run()));
        }
        (Self { lanes, bytes, link: Arc::clone(link) }, tasks)
    }

    pub(super) fn put(&self, key: Digest, value: Bytes, ttl: Duration) {
        let size = value.len();
        let before = self.bytes.fetch_add(size, Ordering::Relaxed);
        if before.saturating_add(size) > MOST_BYTES || !self.queue(lane_of(&key), Job::Put { key, value, ttl }) {
            self.bytes.fetch_sub(size, Ordering::Relaxed);
            self.link.counters.dropped.inc();
        }
    }

    pub(super) fn forget(&self, keys: Vec<Digest>) {
        let mut by_lane = vec![Vec::new(); LANES];
        for key in keys {
            if let Some(lane) = by_lane.get_mut(lane_of(&key)) {
                lane.push(key);
            }
        }
        for (lane, keys) in by_lane.iter().enumerate() {
            for keys in keys.chunks(AT_ONCE) {
                if !self.queue(lane, Job::Forget { keys: keys.to_vec() }) {
                    self.link.counters.dropped.inc();
                }
            }
        }
    }

    pub(super) fn release(&self, key: Digest, token: Arc<str>) {
        if !self.queue(lane_of(&key), Job::Release { key, token }) {
            self.link.counters.dropped.inc();
        }
    }

    /// Writes that wait.
    pub(super) fn waiting(&self) -> usize {
        self.lanes.iter().map(|lane| lane.max_capacity().saturating_sub(lane.capacity())).sum()
    }

    fn queue(&self, lane: usize, job: Job) -> bool {
        self.lanes.get(lane).is_some_and(|lane| lane.try_send(job).is_ok())
    }
}

impl Lane {
    async fn run(mut self) {
        while let Some(job) = self.jobs.recv().await {
            if self.write(job).await.is_err() {
                self.link.counters.dropped.inc();
            }
        }
    }

    async fn write(&self, job: Job) -> Result<(), Trouble> {
        match job {
            Job::Put { key, value, ttl } => {
                self.bytes.fetch_sub(value.len(), Ordering::Relaxed);
                let mut set = redis::cmd("SET");
                set.arg(self.names.value(&key)).arg(self.seal.close(&key, &value)).arg("PX").arg(millis(ttl));
                self.link.ask(Ask::Command(set)).await
            }
            Job::Forget { keys } => {
                let mut unlink = redis::cmd("UNLINK");
                for key in &keys {
                    unlink.arg(self.names.value(key));
                }
                self.link.ask(Ask::Command(unlink)).await
            }
            Job::Release { key, token } => {
                let mut release = self.release.key(self.names.lease(&key));
                release.arg(&*token);
                self.link.ask(Ask::Script(release)).await
            }
        }
    }
}

/// All writes of a key go through one lane.
fn lane_of(key: &Digest) -> usize {
    usize::from(key.first().copied().unwrap_or(0)) % LANES
}

/// For Redis, which takes no expiry of zero.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
}
