//! Provider wire formats: the only place that knows a provider's JSON.
//!
//! In the life of a request this module stands at both ends of the upstream call. An answer comes in as bytes: [`sse`]
//! cuts a stream into whole events, [`StreamReader`] observes them (what to show the client, what the finished document
//! is, whether it may be stored), [`inspect_whole`] does the same for a plain JSON body, and [`Replay`] turns a stored
//! document back into either form. [`PassedReader`] only looks for the usage of what is passed on unread. [`embeddings`]
//! splits and joins embedding lists, [`error_body`] writes refusals.
//!
//! Invariants: bytes are forwarded, not re-encoded, unless a whole event has to change; number text and member order are
//! kept; whatever is doubtful is reported as a [`NotStorable`] and never as an error that could fail the request.
//! It must never pick an HTTP status, touch the network or the store, or look at more than one tenant's data.

pub mod embeddings;
pub mod sse;

mod assemble;
mod error;
mod field;
mod glean;
mod kind;
mod members;
mod passed;
mod replay;
mod stream;
mod text;
mod tool_call;
mod usage;
mod verdict;

#[cfg(test)]
mod tests;

pub use error::{ErrorKind, error_body, error_event};
pub use kind::Dialect;
pub use passed::PassedReader;
pub use replay::{BadBody, Replay, SseOptions};
pub use stream::{Rendered, StreamReader, UsageView, Written};
pub use text::answer_text;
pub use usage::Usage;
pub use verdict::{Finish, Finished, NotStorable, inspect_whole};
