//! Everything that is tested from outside: one binary, a module for each behaviour.

#![cfg(test)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

mod arrows;
mod badinput;
mod canned;
mod coalesce;
mod controls;
mod embeddings;
mod isolation;
mod line;
mod passthrough;
mod peers;
mod rig;
mod streams;
