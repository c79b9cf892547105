//! What the program says about itself: logs, metrics and traces.
//!
//! Beside the data path, never in it: a log line, a counter or a span that cannot be written is lost, the request goes on. Must
//! never contain a prompt, an answer or a credential.

pub mod alerts;
mod catalogue;
pub mod exemplars;
pub mod learning;
pub mod limits;
pub mod log;
pub mod metrics;
pub mod money;
pub mod month;
pub mod openmetrics;
pub mod rem;
mod replicas;
mod replies;
pub mod tenants;
#[cfg(test)]
mod tests;
pub mod trace;
