//! The cache.

pub mod decide;
