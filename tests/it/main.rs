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
mod adversarial;
mod arrows;
mod audits;
mod bad_start;
mod badinput;
mod budget;
mod canned;
mod chaos;
mod child;
mod coalesce;
mod controls;
mod conversations;
mod crowd;
mod embeddings;
mod feedback;
mod fleet;
mod groups;
mod holds;
mod invalidate;
mod isolation;
mod journal;
mod lifecycle;
mod line;
mod line_cut;
mod onboarding;
mod outage;
mod passthrough;
mod peers;
mod peers_money;
mod process;
mod races;
mod replay;
mod replicas;
mod review;
mod rig;
mod rollout;
mod scripted;
mod sealed;
mod second_level;
mod servers;
mod shadow;
mod streams;
mod tenant_cli;
mod writers;
