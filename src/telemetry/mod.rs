//! Metrics and logs.

pub mod log;
