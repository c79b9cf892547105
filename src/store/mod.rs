//! Durable storage.

mod model;

pub use model::*;
