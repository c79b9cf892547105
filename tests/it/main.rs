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
mod dashboards;
mod directory;
mod embeddings;
mod exposition;
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
mod money;
mod no_usage;
mod onboarding;
mod outage;
mod passed_money;
mod passthrough;
mod peers;
mod peers_money;
mod printing;
mod process;
mod races;
mod rem_cases;
mod rem_cli;
mod rem_fill;
mod rem_http;
mod rem_mcp;
mod rem_planning;
mod rem_property;
mod rem_roles;
mod rem_sql;
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
mod traces;
mod usage;
mod writers;
