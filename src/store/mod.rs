//! Durable storage: answers with the points that lead to them, the requests ledger, tenants with their keys and budgets, the
//! audit of admin changes, alerts on their way, and decisions of the semantic tier with what was learnt from them.
//!
//! In the life of a request the store is asked once at most, for the body of an answer that memory no longer holds.
//! Everything is written off the request path: the pipeline hands rows to the [`Writer`], which batches them.
//!
//! Invariants:
//! - The store is the truth; indexes in memory are views that [`EntryStore::scan`] rebuilds.
//! - The tenant is part of every key. Nothing of one tenant is ever returned for another.
//! - Applying the same write twice changes nothing, so a batch whose fate is unknown is simply written again.
//! - A file that is not ours, is damaged or is newer than this program is refused and left as it was.
//!
//! It must never: choose an HTTP status, know a provider's JSON, decide whether an answer may be served.
//!
//! SQL lives below `sqlite/` and `postgres/` alone, behind the same traits and the same conformance suite; what both
//! say to the letter stands beside them: lists of columns in `read/`, with what reads them, and the end of a report in `report.rs`.

mod alerts;
mod audit;
mod corrections;
mod counters;
mod database;
mod directory;
mod error;
mod feed;
mod forms;
mod journal;
pub mod migrate;
mod model;
pub mod postgres;
mod read;
pub mod rem;
mod report;
mod rollup;
pub mod sealed;
pub mod shadow;
pub mod sqlite;
mod traits;
mod usage;
mod writer;

#[cfg(test)]
mod chain_tests;
#[cfg(test)]
mod conformance;
#[cfg(test)]
mod rollup_tests;
#[cfg(test)]
pub(crate) mod sample;

pub use alerts::*;
pub use audit::{AuditHead, AuditVerdict, Chained, audit_hash, verify_audit};
pub use counters::*;
pub use database::Database;
pub use directory::*;
pub use error::StoreError;
pub use feed::*;
pub use journal::{Journal, JournalError, JournalSettings, JournalStats};
pub use model::*;
pub use postgres::PostgresStore;
pub use sealed::{SealError, SealStats, Sealed};
pub use shadow::{Mirror, ShadowHandle, ShadowStats, shadow};
pub use sqlite::SqliteStore;
pub use traits::*;
pub use usage::*;
pub use writer::{FlushError, Full, LedgerSlot, Unwritten, Writer, WriterHandle, WriterSizes, WriterStats};
