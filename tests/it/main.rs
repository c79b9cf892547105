//! Everything that is tested from outside: one binary, a module for each behaviour.

#![cfg(test)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

mod admin_api;
mod arrows;
mod bad_start;
mod child;
mod lifecycle;
mod line;
mod process;
mod review;
mod rig;
