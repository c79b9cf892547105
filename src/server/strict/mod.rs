//! Strict HTTP/1 framing, checked on the raw bytes before hyper reads them.
//!
//! hyper accepts heads that other programs read differently (`Content-Length` with `Transfer-Encoding`, doubled
//! fields, bare line feeds, no `Host`), and after its parse the evidence is gone. So [`Framing`] follows the byte
//! stream itself: head, body by length or by chunks, next head. It copies nothing and keeps no bytes.
//!
//! Invariant: whatever this module lets pass, hyper frames in the same way. It must never repair a request.

mod chunk;
mod framing;
mod head;
mod refusal;

pub(super) use framing::{Framing, Then};
pub(super) use head::{HeadLimits, is_authority};
pub use refusal::Refusal;
