//! REM: five ways to ask the cache's own data, LOOKUP, FUZZY, SEARCH, TRAVERSE and SQL.
//!
//! ```text
//! text or typed JSON → grammar: one tree (query) → execute, above the two seams of store::rem → answer
//!                              SQL → guard: parsed, checked against lists, printed again → SqlGuarded
//! ```
//!
//! The sidecar has its own listener and the same keys as the data plane; it is no stage of a request. What traffic leaves
//! behind is brought here by a task in the background (`fill`).
//!
//! It must never: show a row outside the caller's scope, run text that was not printed from a checked tree, answer 200 with an
//! error, or slow the data plane.

mod answer;
mod execute;
mod fault;
pub mod fill;
mod grammar;
pub mod guard;
pub mod http;
pub mod ingest;
mod mcp;
mod query;
mod schema;

pub use answer::*;
pub use execute::*;
pub use fault::{Code, Fault};
pub use grammar::{GRAMMAR, batch_from_json, condition, from_json, parse, parse_stage};
pub use query::*;
