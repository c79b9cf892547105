//! What a query gives: one shape for all types.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One row of an answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Found {
    /// Where it belongs; `sql` for a row of SQL.
    pub table: String,
    /// What it is called.
    pub name: String,
    /// Normal form of the name.
    pub key: String,
    /// Identity; empty for a row of SQL.
    pub id: String,
    /// Similarity, 0 to 1, six decimals; FUZZY and SEARCH.
    pub score: Option<f64>,
    /// Steps from the start; TRAVERSE.
    pub depth: Option<u8>,
    /// Type of the edge by which it was reached; TRAVERSE.
    pub via: Option<String>,
    /// Weight of that edge.
    pub weight: Option<f64>,
    /// Names from the start to here; TRAVERSE.
    pub path: Vec<String>,
    /// All columns of the row, or those that SQL selected.
    pub data: Map<String, Value>,
}

/// The edges of one type that leave, or lead to, one entry point or all nodes of a walk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EdgeSummary {
    /// Name of the entry point; empty in the summary of a whole walk.
    pub from: String,
    /// Type.
    #[serde(rename = "type")]
    pub kind: String,
    /// `outbound` or `inbound`.
    pub direction: String,
    /// How many.
    pub count: u64,
    /// Up to five names at their other ends, heaviest edge first.
    pub samples: Vec<String>,
    /// How many of them lead to a name that the caller finds nothing under.
    pub dangling: u64,
}

/// One level of a walk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stage {
    /// Steps from the start.
    pub depth: u8,
    /// Nodes first reached at this depth.
    pub nodes: u64,
    /// Edges followed from the level before.
    pub edges: u64,
    /// Their types, sorted.
    pub types: Vec<String>,
}

/// A name close to one that was not found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Suggestion {
    /// The key that was not found.
    pub missing: String,
    /// A name that is.
    pub name: String,
    /// Where.
    pub table: String,
    /// Trigram similarity, six decimals.
    pub score: f64,
}

/// Milliseconds, three decimals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Timing {
    /// Reading and checking.
    pub parse: f64,
    /// Text to vector.
    pub embed: f64,
    /// Waiting for the store.
    pub store: f64,
    /// All.
    pub total: f64,
}

/// An answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Answer {
    /// Type of the query.
    #[serde(rename = "type")]
    pub kind: String,
    /// The query in its normal form.
    pub query: String,
    /// Rows, best or first ones first.
    pub results: Vec<Found>,
    /// Number of `results`.
    pub count: u64,
    /// A cap cut the answer.
    pub truncated: bool,
    /// For `AFTER`, if there is more.
    pub next: Option<String>,
    /// Keys of LOOKUP that nothing was found under.
    pub missing: Vec<String>,
    /// Edges of a walk, or of its entry points.
    pub edge_summary: Vec<EdgeSummary>,
    /// Levels of a walk.
    pub stages: Vec<Stage>,
    /// MEMO.
    pub memo: Option<String>,
    /// Names close to `missing`.
    pub suggestions: Vec<Suggestion>,
    /// Something was not asked because it did not answer, and the rest was.
    pub degraded: bool,
    /// Where the time went.
    pub timing_ms: Timing,
}

pub use crate::store::rem::rounded;
