//! Configuration: what people write → what runs.

mod model;
mod secret;

pub use model::*;
pub use secret::Secret;
