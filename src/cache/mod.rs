//! The cache.
pub mod flight;

