//! Identifiers. Each is its own type, so that one cannot be passed where another is meant.
//!
//! The tenant is part of every key type in this program; [`TenantId`] is therefore cheap to clone.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use ulid::Ulid;

macro_rules! ulid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Ulid);

        impl $name {
            /// A new identifier for the given wall-clock time in milliseconds since the Unix epoch.
            pub fn at(unix_ms: u64) -> Self {
                Self(Ulid::from_parts(unix_ms, tail()))
            }

            /// The 16 bytes, big-endian, in time order.
            pub fn to_bytes(self) -> [u8; 16] {
                self.0.to_bytes()
            }

            /// The inverse of [`Self::to_bytes`].
            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Ulid::from_bytes(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = BadId;

            fn from_str(text: &str) -> Result<Self, BadId> {
                Ulid::from_string(text).map(Self).map_err(|_| BadId)
            }
        }
    };
}

ulid_id! {
    /// One request to the data plane. Sent to the client as `x-remora-request-id`.
    RequestId
}
ulid_id! {
    /// One cached answer. Sent to the client as `x-remora-entry`.
    EntryId
}
ulid_id! {
    /// One stored prompt that belongs to an answer.
    PointId
}

ulid_id! {
    /// One row of the audit of admin changes.
    AuditId
}

ulid_id! {
    /// One row of the REM data: a resource, an entity or a moment; or a request, whose id it then is.
    RemId
}

/// The text is not a ULID (26 characters of Crockford's base 32).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an id: expected 26 characters of base 32, as in 01J9ZQ4W7Y8N3T5V6X0A1B2C3D")]
pub struct BadId;

/// The 80 bits behind the time: a counter, so that ids made in the same millisecond keep their order, then chance, so
/// that two processes do not make the same id.
fn tail() -> u128 {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    (u128::from(count) << 48) | u128::from(fastrand::u64(..) >> 16)
}

/// Who owns the data: a configured tenant's name, or in passthrough mode the keyed hash of the caller's credential.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantId(Arc<str>);

/// Which credential of the tenant was used. In passthrough mode it equals the tenant.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(Arc<str>);

macro_rules! text_id {
    ($name:ident) => {
        impl $name {
            /// Takes the text as it is; callers have validated it (configuration) or made it (hash).
            pub fn new(text: impl Into<Arc<str>>) -> Self {
                Self(text.into())
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id!(TenantId);
text_id!(KeyId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_time_and_round_trip_as_text_and_bytes() {
        let early = EntryId::at(1_000);
        let late = EntryId::at(2_000);
        assert!(early < late);
        let same_time: Vec<EntryId> = (0..100).map(|_| EntryId::at(1_000)).collect();
        assert!(same_time.is_sorted());
        assert_eq!(early.to_string().parse::<EntryId>(), Ok(early));
        assert_eq!(EntryId::from_bytes(late.to_bytes()), late);
        assert_eq!("nonsense".parse::<EntryId>(), Err(BadId));
    }
}
