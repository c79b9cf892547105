//! What the program says about itself: logs and metrics.
//!
//! Beside the data path, never in it: a log line or a counter that cannot be written is lost, the request goes on. Must
//! never contain a prompt, an answer or a credential.

pub mod alerts;
pub mod learning;
pub mod limits;
pub mod log;
pub mod metrics;
pub mod replicas;
