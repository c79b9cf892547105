//! How many connections may be open: in all, and from one address.
//!
//! An IPv6 client usually holds a whole /64, so that is what counts as one address there.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Which cap was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    Total,
    PerIp,
}

/// The caps of one listener.
#[derive(Debug)]
pub(super) struct Caps {
    total: usize,
    per_ip: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    by_ip: HashMap<IpAddr, usize>,
}

/// The right to one open connection; given back on drop.
#[derive(Debug)]
pub(super) struct Seat {
    caps: Arc<Caps>,
    ip: IpAddr,
}

impl Caps {
    pub(super) fn new(total: usize, per_ip: usize) -> Arc<Self> {
        Arc::new(Self { total, per_ip, open: Mutex::default() })
    }

    /// Takes a seat for a connection from `ip`.
    pub(super) fn admit(self: &Arc<Self>, ip: IpAddr) -> Result<Seat, Full> {
        let ip = one_client(ip);
        let mut open = self.lock();
        if open.total >= self.total {
            return Err(Full::Total);
        }
        let from_ip = open.by_ip.get(&ip).copied().unwrap_or(0);
        if from_ip >= self.per_ip {
            return Err(Full::PerIp);
        }
        open.total += 1;
        open.by_ip.insert(ip, from_ip + 1);
        drop(open);
        Ok(Seat { caps: Arc::clone(self), ip })
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        // The counts are whole after every statement, so a panic elsewhere cannot have left them half changed.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut open = self.caps.lock();
        open.total -= 1;
        if let Entry::Occupied(mut count) = open.by_ip.entry(self.ip) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

fn one_client(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => IpAddr::V4(ip),
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_seat_comes_back_when_its_connection_closes() {
        let caps = Caps::new(3, 2);
        let a = caps.admit(ip("10.0.0.1")).unwrap();
        let _b = caps.admit(ip("::ffff:10.0.0.1")).unwrap();
        assert_eq!(caps.admit(ip("10.0.0.1")).unwrap_err(), Full::PerIp);
        let _c = caps.admit(ip("10.0.0.2")).unwrap();
        assert_eq!(caps.admit(ip("10.0.0.3")).unwrap_err(), Full::Total);
        drop(a);
        let _d = caps.admit(ip("10.0.0.1")).unwrap();
        assert_eq!(caps.lock().by_ip.len(), 2);
    }

    #[test]
    fn one_ipv6_network_counts_as_one_client() {
        let caps = Caps::new(9, 1);
        let _a = caps.admit(ip("2001:db8::1")).unwrap();
        assert_eq!(caps.admit(ip("2001:db8::2")).unwrap_err(), Full::PerIp);
        assert!(caps.admit(ip("2001:db8:0:1::1")).is_ok());
    }
}
