//! Reads queries: the text form and the typed JSON form become one tree through one set of checks.
//!
//! ```text
//! text → scan, text  ┐
//!                    ├ draft: clauses, each once → checks (condition for WHERE, guard for SQL) → Query
//! JSON → json        ┘
//! ```
//!
//! It must never panic, drop a clause that it does not know, or take a text for something that it was not said to be.

mod clause;
mod condition;
mod draft;
mod json;
mod scan;
#[cfg(test)]
mod tests;
mod text;

use serde_json::Value;

pub(super) use self::scan::quote;
use super::{BatchStage, Fault, Query, Written};
use crate::store::rem::RemTable;

/// The grammar, for people and models.
pub const GRAMMAR: &str = r#"query    = lookup | fuzzy | search | traverse | sql
lookup   = ("LOOKUP"|"GET") key {"," key} [IN tables] [LIMIT n]
fuzzy    = "FUZZY" text [IN tables] [THRESHOLD f] [LIMIT n] [AFTER cursor]
search   = "SEARCH" text [IN tables] [FIELD f] [WHERE cond] [CATEGORY s] [MIN_SIMILARITY f] [MODE vector|text|hybrid]
           [LIMIT n] [AFTER cursor]
traverse = "TRAVERSE" ( key | "FROM" key | [types] "WITH" (lookup|fuzzy|search|$stage) ) [TYPE types]
           [OUTBOUND|INBOUND|BOTH] [DEPTH n | PLAN] [MIN_WEIGHT f] [LOAD|LAZY|KEYS]
           [ORDER BY depth|weight|name|created_at [ASC|DESC]] [LIMIT n] [MEMO text]
sql      = "SQL" select | "SQL" table [WHERE cond] [ORDER BY …] [LIMIT n] | select
tables   = ("IN"|"FROM"|"TABLE") table {"," table}        types = type {"," type}
key,text = "…" | '…' | bare words up to a clause; in quotes \" and "" are a quote, \\ is a backslash, a comma splits nothing
Clauses come in any order, each once, in upper or lower case, or as name=value. A name with a word of the grammar in it is
quoted. The clauses of a query after WITH are its own until one follows that it has not, or has already.
cond     = column (=|<>|<|<=|>|>=) literal, IN (…), BETWEEN, LIKE, IS NULL, with AND, OR, NOT and parentheses
Limits: limit 1-1000, threshold, min_similarity and min_weight 0-1, depth 0-10, keys at most 100."#;

/// Reads a query as people write it.
///
/// # Errors
/// What is wrong, with its position.
pub fn parse(text: &str) -> Result<Query, Fault> {
    text::read(text, false)
}

/// Reads a query of a batch, which may start at an earlier stage: `TRAVERSE WITH $people`.
///
/// # Errors
/// What is wrong, with its position.
pub fn parse_stage(text: &str) -> Result<Query, Fault> {
    text::read(text, true)
}

/// Reads `{"query": "…"}` or the typed form, as in `{"type": "lookup", "keys": ["sarah chen"]}`.
///
/// # Errors
/// What is wrong, and the member.
pub fn from_json(value: &Value) -> Result<Query, Fault> {
    json::query(value)
}

/// Reads `{"stages": [{"name": "a", "query": "…"}, …]}`; a stage may also be typed, and may start at an earlier one.
///
/// # Errors
/// What is wrong, and the member, as in `stages[1].limit`.
pub fn batch_from_json(value: &Value) -> Result<Vec<BatchStage>, Fault> {
    json::batch(value)
}

/// Checks a condition for the tables that are searched.
///
/// # Errors
/// It cannot be read, or names a column or does something that conditions do not know.
pub fn condition(text: &str, tables: &[RemTable]) -> Result<Written, Fault> {
    if let Some(at) = text.chars().position(|letter| letter == '\0') {
        return Err(text::no_nul().at(at));
    }
    condition::read(text, tables, |_| None)
}

/// Whether a stage of a batch may be called so.
fn is_stage_name(name: &str) -> bool {
    let fits = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    fits && (1..=64).contains(&name.len()) && !name.starts_with(|letter: char| letter.is_ascii_digit())
}
