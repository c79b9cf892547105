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
mod line;
mod review;
mod rig;
