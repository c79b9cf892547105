//! What replicas share through Redis, besides the store: values under a digest, leases on them, and wake-ups.
//!
//! It knows nothing of entries: keys are 32 bytes, values are opaque. No truth lives here: every key expires, all of it
//! may vanish at any time, and each replica then works as if it were alone.
//!
//! Invariants: nothing here fails a request, and nothing makes one wait for longer than `deadline`, apart from
//! [`Shared::await_holder`], which is there to wait. An operation that cannot be answered is `None` or `Unavailable`,
//! with the kind of trouble counted. At most `in_flight` operations at once, more are refused; writes go through a
//! bounded queue (`outbox`). After five failures in a row Redis is left alone, and a probe in the background, not a
//! request, finds out when it is well again (`link`).

mod breaker;
mod lease;
mod link;
mod names;
mod outbox;
mod script;
mod seal;
mod stats;
mod target;
#[cfg(test)]
pub(crate) mod tests;
mod wake;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

pub use lease::{Lease, LeaseGuard};
pub use script::{Script, Unanswered};
pub use stats::SharedStats;
pub use target::SharedError;

use crate::config;
use crate::store::Digest;
use lease::Leases;
use link::{Ask, Link, Trouble};
use names::Names;
use outbox::Outbox;
use seal::Seal;
use target::Target;
use wake::Wake;

/// Shortest and longest pause between two looks for a holder's value; it grows with the time waited.
const LOOK: (Duration, Duration) = (Duration::from_millis(15), Duration::from_millis(100));
/// Looks in a row that may fail before a waiter goes on alone.
const FAILED_LOOKS: u32 = 3;

/// The part of Redis that belongs to one space. Cheap to clone; the last clone ends its tasks.
#[derive(Clone)]
pub struct Shared(Arc<Inner>);

struct Inner {
    link: Arc<Link>,
    names: Arc<Names>,
    seal: Arc<Seal>,
    outbox: Arc<Outbox>,
    leases: Arc<Leases>,
    wake: Arc<Wake>,
    longest_ttl: Duration,
    tasks: Vec<JoinHandle<()>>,
}

impl Shared {
    /// Starts connecting in the background, inside a Tokio runtime, and keeps trying for ever. `space` separates programs
    /// with different secrets: they neither see nor understand each other's values.
    ///
    /// # Errors
    /// The URL or the file of certificate authorities cannot be used. A server that is away is no error.
    pub fn connect(settings: &config::Redis, space: &Digest) -> Result<Self, SharedError> {
        let target = Target::new(settings)?;
        let link = Arc::new(Link::new(target, settings.deadline, settings.in_flight));
        let (names, seal) = (Arc::new(Names::of(space)), Arc::new(Seal::of(space)));
        let (outbox, mut tasks) = Outbox::start(&link, &names, &seal, settings.queue);
        let outbox = Arc::new(outbox);
        let leases = Leases::new(&link, &outbox, &names);
        let wake = Arc::new(Wake::new(&link, names.channel()));
        tasks.push(tokio::spawn(Arc::clone(&link).keep()));
        tasks.push(tokio::spawn(Arc::clone(&wake).speak()));
        tasks.push(tokio::spawn(Arc::clone(&wake).listen()));
        let longest_ttl = settings.exact_ttl;
        Ok(Self(Arc::new(Inner { link, names, seal, outbox, leases, wake, longest_ttl, tasks })))
    }

    /// The value of `key`. `None` when there is none, when it is not what [`Shared::put`] wrote (it is deleted then), and
    /// in any trouble.
    pub async fn get(&self, key: &Digest) -> Option<Bytes> {
        let Inner { link, names, .. } = &*self.0;
        let mut get = redis::cmd("GET");
        get.arg(names.value(key));
        match link.ask::<Option<Vec<u8>>>(Ask::Command(get)).await {
            Ok(Some(sealed)) => self.open(key, sealed),
            Ok(None) => {
                link.counters.misses.inc();
                None
            }
            Err(Trouble::WrongType) => {
                self.forget(vec![*key]);
                None
            }
            Err(_) => None,
        }
    }

    /// Writes a value in the background. It lives for `ttl`, at most `exact_ttl`; a `ttl` of zero writes nothing.
    pub fn put(&self, key: Digest, value: Bytes, ttl: Duration) {
        if !ttl.is_zero() {
            self.0.outbox.put(key, value, ttl.min(self.0.longest_ttl));
        }
    }

    /// Deletes values in the background. That may fail like everything here: who reads a value must be able to tell that
    /// it is not valid any more.
    pub fn forget(&self, keys: Vec<Digest>) {
        self.0.outbox.forget(keys);
    }

    /// Asks to be the one who fetches the value of `key`.
    pub async fn lease(&self, key: &Digest) -> Lease {
        self.0.leases.take(key).await
    }

    /// Waits while another replica fetches the value of `key`. `None` when its lease is gone without a value, at `until`,
    /// and when Redis is in trouble: then fetch it yourself.
    pub async fn await_holder(&self, key: &Digest, until: impl Into<Instant>) -> Option<Bytes> {
        let Inner { link, names, .. } = &*self.0;
        let (until, began) = (until.into(), Instant::now());
        let mut failed = 0;
        loop {
            // One snapshot of both: a value that is there has been written before its lease was let go.
            let mut look = redis::cmd("MGET");
            look.arg(names.value(key)).arg(names.lease(key));
            match link.ask::<(Option<Vec<u8>>, Option<Vec<u8>>)>(Ask::Command(look)).await {
                Ok((Some(sealed), _)) => return self.open(key, sealed),
                Ok((None, None)) | Err(Trouble::Away) => return None,
                Ok((None, Some(_))) => failed = 0,
                Err(_) if failed + 1 == FAILED_LOOKS => return None,
                Err(_) => failed += 1,
            }
            let now = Instant::now();
            if now >= until {
                return None;
            }
            // An eighth of the time waited so far, so that a long wait is not many looks.
            let pause = (now.duration_since(began) / 8).clamp(LOOK.0, LOOK.1).mul_f64(1.0 + fastrand::f64() / 2.0);
            sleep(pause.min(until.duration_since(now))).await;
        }
    }

    /// Tells the other replicas in the background that there may be changes.
    pub fn wake(&self) {
        self.0.wake.send();
    }

    /// Ends when another process has called [`Shared::wake`] since the last time, and once after the subscription was
    /// away, because a call may have been missed. Pends while there is no connection. For one waiter.
    pub async fn woken(&self) {
        self.0.wake.heard().await;
    }

    /// The name of a key for [`Shared::script`]. Names of one tag lie on one node of a cluster, as a script needs it; a tag
    /// is of letters and digits.
    pub fn tagged(&self, tag: &str, name: &str) -> String {
        self.0.names.tagged(tag, name)
    }

    /// Runs a script on keys of one tag: atomic, within the deadline, or not at all.
    ///
    /// # Errors
    /// There is no answer; it says whether the script may have been run all the same.
    pub async fn script<T: redis::FromRedisValue>(
        &self,
        script: &Script,
        keys: &[String],
        arguments: &[String],
    ) -> Result<T, Unanswered> {
        let asked = self.0.link.ask(Ask::Script(script.invocation(keys, arguments))).await;
        asked.map_err(Unanswered::of)
    }

    /// Operations that may be under way at once.
    pub fn width(&self) -> usize {
        self.0.link.width()
    }

    /// How Redis is doing.
    pub fn stats(&self) -> SharedStats {
        let Inner { link, outbox, .. } = &*self.0;
        let (up, open) = link.state();
        SharedStats { up, open, in_flight: link.in_flight(), queued: outbox.waiting(), ..link.counters.snapshot() }
    }

    fn open(&self, key: &Digest, sealed: Vec<u8>) -> Option<Bytes> {
        let counters = &self.0.link.counters;
        let value = self.0.seal.open(key, sealed);
        if value.is_some() {
            counters.hits.inc();
        } else {
            counters.corrupted.inc();
            self.forget(vec![*key]);
        }
        value
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}
