//! Remora: a semantic-caching reverse proxy for LLM APIs.
//!
//! `ARCHITECTURE.md` tells the life of a request. The modules below stand in the order a request meets them;
//! dependencies point downwards only.

pub mod account;
pub mod admin;
pub mod alert;
pub mod app;
pub mod cache;
pub mod call;
pub mod cli;
pub mod clock;
pub mod config;
pub mod dialect;
pub mod embed;
pub mod ids;
pub mod index;
pub mod json;
pub mod limit;
pub mod pipeline;
pub mod price;
pub mod rem;
pub mod replay;
pub mod server;
pub mod shared;
pub mod simulate;
pub mod store;
pub mod task;
pub mod telemetry;
pub mod tenant;
pub mod transfer;
pub mod upstream;
