//! What requests hold: an amount each, until a time that is put off while the request lives.

use std::collections::HashMap;

use crate::clock::UnixMs;
use crate::ids::RequestId;

/// Amounts by request, with their sum.
pub(super) struct Expiring {
    held: HashMap<RequestId, (i64, UnixMs)>,
    sum: i128,
    /// Nothing expires before this, so that most looks cost nothing.
    soonest: UnixMs,
}

impl Default for Expiring {
    fn default() -> Self {
        Self { held: HashMap::new(), sum: 0, soonest: UnixMs::MAX }
    }
}

impl Expiring {
    /// Holds an amount, or puts its expiry off; the amount of what is held already stays.
    pub(super) fn put(&mut self, request: RequestId, amount: i64, expires: UnixMs) {
        let entry = self.held.entry(request).or_insert_with(|| {
            self.sum += i128::from(amount);
            (amount, expires)
        });
        entry.1 = expires;
        self.soonest = self.soonest.min(expires);
    }

    pub(super) fn remove(&mut self, request: RequestId) {
        if let Some((amount, _)) = self.held.remove(&request) {
            self.sum -= i128::from(amount);
        }
    }

    pub(super) fn has(&self, request: RequestId) -> bool {
        self.held.contains_key(&request)
    }

    pub(super) fn count(&self) -> u64 {
        u64::try_from(self.held.len()).unwrap_or(u64::MAX)
    }

    pub(super) fn sum(&self) -> i128 {
        self.sum
    }

    /// Lets go of what has expired.
    pub(super) fn expire(&mut self, now: UnixMs) {
        if now < self.soonest {
            return;
        }
        let sum = &mut self.sum;
        let mut soonest = UnixMs::MAX;
        self.held.retain(|_, (amount, expires)| {
            let lives = *expires > now;
            if lives {
                soonest = soonest.min(*expires);
            } else {
                *sum -= i128::from(*amount);
            }
            lives
        });
        self.soonest = soonest;
    }
}
