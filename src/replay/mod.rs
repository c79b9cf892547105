//! Judging the cache on recorded data: the embedder, the index and the decision of the product, run over a file instead
//! of over requests, beside other policies.
//!
//! Stands outside the life of a request; `cli` calls it. A file, or what a store has recorded, is read into a
//! [`Recording`], its texts are embedded once
//! ([`prompt`]), and each [`Policy`] is run over them with a [`memory`] of its own: over a [`stream`] that fills an empty
//! cache, or over [`pairs`] in a cold cache each. The outcomes become a [`Report`], and a [`plot`].
//!
//! Invariants: a run is a function of the file, the seed and the settings, whatever else runs beside it; an answer is
//! judged by the intent it belongs to, never by the prompt it was stored under; no time of day is read. It must never
//! open a store or write to one (`cli` opens it, for reading), call an upstream, or write a file.

pub mod answers;
pub mod link;
pub mod memory;
pub mod pairs;
pub mod plot;
pub mod policy;
pub mod prompt;
pub mod recording;
pub mod report;
pub mod stats;
pub mod stream;

use std::sync::Arc;

pub use answers::Answers;
pub use link::Linker;
pub use policy::{Policy, Settings, Spec};
pub use recording::Recording;
pub use report::Report;

/// Points looked at for one decision; the same as in the product.
pub const NEIGHBOURS: usize = crate::cache::NEIGHBOURS;

/// What is being done, for a progress display.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Texts are being embedded.
    Embedding,
    /// Requests are being decided, those of all policies and seeds together.
    Deciding,
}

/// Is told how many of how many are done. Called from several threads.
pub type Progress = Arc<dyn Fn(Phase, usize, usize) + Send + Sync>;

/// Why a replay cannot go on. The text says what, where, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ReplayError(pub String);

impl ReplayError {
    /// From whatever says what is wrong.
    pub fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}
