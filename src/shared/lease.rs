//! Leases: at most one replica at a time fetches the value of a key, and the others wait for it.
//!
//! A lease is a key with a random token that expires by itself, so a replica that dies holds others up for at most
//! [`TTL`]. It saves calls and decides nothing: two holders at once (after a pause longer than the expiry, or a failover)
//! cost a second call upstream, never a wrong answer. Invariants: the guard never waits; whoever sees the lease gone has
//! been able to see the value before, because it is let go behind the value's own write.

use std::sync::Arc;
use std::time::Duration;

use redis::Script;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::link::{Ask, Link, Trouble};
use super::names::Names;
use super::outbox::{Outbox, millis};
use crate::store::Digest;

/// How long a lease outlives its holder.
pub(super) const TTL: Duration = Duration::from_secs(2);

/// Takes the lease unless somebody has it or the value is there already: between our look-up of the value and now,
/// another holder may have come and gone.
const TAKE: &str = "if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end \
    if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end return 0";
/// Puts the expiry off if the lease is still ours.
const RENEW: &str =
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0";

/// The answer to [`super::Shared::lease`].
#[derive(Debug)]
pub enum Lease {
    /// This process fetches the value.
    Held(LeaseGuard),
    /// Another replica fetches it, or has just done so: [`super::Shared::await_holder`] has it then.
    Taken,
    /// Redis is in trouble: go on as if alone.
    Unavailable,
}

/// The scripts, hashed once.
pub(super) struct Leases {
    take: Script,
    renew: Script,
    link: Arc<Link>,
    outbox: Arc<Outbox>,
    names: Arc<Names>,
}

/// A lease that is held, or may be. Renewed until dropped; dropping queues the release and returns at once.
pub struct LeaseGuard {
    outbox: Arc<Outbox>,
    key: Digest,
    token: Arc<str>,
    /// Whether the token may be in Redis, and is to be taken out of it.
    armed: bool,
    renewal: Option<JoinHandle<()>>,
}

impl Leases {
    pub(super) fn new(link: &Arc<Link>, outbox: &Arc<Outbox>, names: &Arc<Names>) -> Arc<Self> {
        Arc::new(Self {
            take: Script::new(TAKE),
            renew: Script::new(RENEW),
            link: Arc::clone(link),
            outbox: Arc::clone(outbox),
            names: Arc::clone(names),
        })
    }

    pub(super) async fn take(self: &Arc<Self>, key: &Digest) -> Lease {
        let token: Arc<str> = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..)).into();
        // Armed while the question is under way: when the caller leaves or the answer comes too late, the token may be
        // in Redis all the same.
        let outbox = Arc::clone(&self.outbox);
        let mut guard = LeaseGuard { outbox, key: *key, token, armed: true, renewal: None };
        let mut take = self.take.key(self.names.lease(key));
        take.key(self.names.value(key)).arg(&*guard.token).arg(millis(TTL));
        let counters = &self.link.counters;
        match self.link.ask::<i64>(Ask::Script(take)).await {
            Ok(1) => {
                counters.leases_held.inc();
                guard.renewal = Some(tokio::spawn(Arc::clone(self).renew(*key, Arc::clone(&guard.token))));
                Lease::Held(guard)
            }
            Ok(_) => {
                guard.armed = false;
                counters.leases_taken.inc();
                Lease::Taken
            }
            Err(trouble) => {
                guard.armed = trouble.may_be_done();
                Lease::Unavailable
            }
        }
    }

    /// Puts the expiry off three times per [`TTL`] until the lease turns out to be lost, or the guard ends this task.
    async fn renew(self: Arc<Self>, key: Digest, token: Arc<str>) {
        let mut pause = TTL / 3;
        loop {
            sleep(pause).await;
            let mut renew = self.renew.key(self.names.lease(&key));
            renew.arg(&*token).arg(millis(TTL));
            pause = match self.link.ask::<i64>(Ask::Script(renew)).await {
                Ok(1) => TTL / 3,
                Ok(_) | Err(Trouble::WrongType) => {
                    self.link.counters.leases_lost.inc();
                    return;
                }
                Err(_) => TTL / 10,
            };
        }
    }
}

impl LeaseGuard {
    /// Lets go of the lease, behind the writes that this process has queued for the same key.
    pub fn release(self) {
        drop(self);
    }

    /// As if the process had died: no renewal, no release.
    #[cfg(test)]
    pub(super) fn die(mut self) {
        self.armed = false;
    }
}

impl Drop for LeaseGuard {
    fn drop(&mut self) {
        if let Some(renewal) = &self.renewal {
            renewal.abort();
        }
        if self.armed {
            self.outbox.release(self.key, Arc::clone(&self.token));
        }
    }
}

impl std::fmt::Debug for LeaseGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LeaseGuard").finish_non_exhaustive()
    }
}
