//! What a request cost: its record while it runs and the ledger row it leaves.
//!
//! The cost in the row is what the hold of the request is settled with, so that budgets count what the ledger says.

mod record;

pub use record::Record;
