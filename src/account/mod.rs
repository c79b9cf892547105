//! What a request cost: its record while it runs and the ledger row it leaves.
//!
//! Prices come with a later version; the row has the columns.

mod record;

pub use record::Record;
