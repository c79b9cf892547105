//! Provider wire formats.
mod kind;
pub use kind::Dialect;
