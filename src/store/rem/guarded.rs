//! The second seam: SQL that a caller wrote, checked by `rem::guard`, run where it can see nothing else and change nothing.
//!
//! The check is one layer; what runs it does not trust it. See `docs/rem-sql.md` for all layers and which test removes which.

use std::time::Duration;

use serde_json::Value;

use super::super::BoxFuture;
use super::model::Scope;
use crate::ids::{KeyId, TenantId};

/// The views that a statement may name, each with its columns in order. Times are RFC 3339 texts in UTC, money is dollars,
/// lists and objects are JSON texts; so both databases answer alike.
pub const VIEWS: [(&str, &[&str]); 6] = [
    (
        "resources",
        &["id", "name", "uri", "content", "category", "tags", "metadata", "part", "owner", "created_at", "updated_at"],
    ),
    (
        "entities",
        &["id", "name", "kind", "description", "attributes", "aliases", "tags", "owner", "created_at", "updated_at"],
    ),
    (
        "moments",
        &[
            "id",
            "name",
            "kind",
            "starts_at",
            "ends_at",
            "summary",
            "previous",
            "tags",
            "metadata",
            "owner",
            "created_at",
            "updated_at",
        ],
    ),
    (
        "edges",
        &["source_table", "source_id", "source", "type", "target", "weight", "properties", "owner", "created_at"],
    ),
    ("names", &["name", "key", "table_name", "id", "alias", "owner"]),
    (
        "requests",
        &[
            "id",
            "started_at",
            "user_name",
            "model",
            "answered_by",
            "route",
            "dialect",
            "outcome",
            "tier",
            "reason",
            "similarity",
            "entry",
            "status",
            "upstream",
            "input_tokens",
            "output_tokens",
            "cost_usd",
            "saved_usd",
            "latency_ms",
        ],
    ),
];

/// What a statement may take, counted and enforced from outside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SqlCaps {
    /// Rows of the answer; one more makes it `truncated`.
    pub rows: u32,
    /// Bytes of the answer as JSON; more make it `truncated`.
    pub bytes: u64,
    /// From the first to the last moment.
    pub time: Duration,
}

/// What a statement gave.
#[derive(Clone, Debug, PartialEq)]
pub struct SqlAnswer {
    /// Names of the columns, in order.
    pub columns: Vec<String>,
    /// One value for each column; numbers, texts, true and false, or null.
    pub rows: Vec<Vec<Value>>,
    /// A cap cut it.
    pub truncated: bool,
}

/// Why a statement gave nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SqlFault {
    /// The database did not take it: a type that does not fit, a division by zero. The text is ours, and says nothing about
    /// other rows.
    #[error("{0}")]
    Statement(String),
    /// A layer below the check refused it.
    #[error("the statement does something that is not allowed here")]
    NotAllowed,
    /// Its time was over.
    #[error("the statement took too long and was stopped")]
    Timeout,
    /// It needed too much memory.
    #[error("the statement needs too much memory and was stopped")]
    TooLarge,
    /// All places are taken.
    #[error("too many statements run at this moment")]
    Busy,
    /// There is no safe place to run it; the text says what whoever runs this program must do.
    #[error("{0}")]
    Unavailable(String),
}

/// Runs checked statements.
pub trait SqlGuarded: Send + Sync {
    /// Runs one statement for a caller. `text` has been printed from the tree that was checked; it still is treated as if it
    /// had not been checked.
    fn select<'a>(
        &'a self,
        scope: &'a Scope,
        text: &'a str,
        caps: SqlCaps,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<SqlAnswer, SqlFault>> + Send + 'a>>;

    /// How the database would run it, as lines of text.
    fn plan<'a>(
        &'a self,
        scope: &'a Scope,
        text: &'a str,
        caps: SqlCaps,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Vec<String>, SqlFault>> + Send + 'a>>;

    /// Takes away what was set up for a tenant, or for one of its keys. Where nothing is set up, nothing happens.
    fn forget<'a>(&'a self, tenant: &'a TenantId, key: Option<&'a KeyId>) -> BoxFuture<'a, ()>;
}

/// A float as answers show it, with 15 significant digits: the databases add up floats in different ways, which shows in the
/// digits after that. What is no number is null.
pub fn sql_float(number: f64) -> Value {
    let shown = format!("{number:.14e}").parse().unwrap_or(number);
    // No minus before a zero.
    let shown = if shown == 0.0 { 0.0 } else { shown };
    serde_json::Number::from_f64(shown).map_or(Value::Null, Value::Number)
}

/// Random bytes of the system.
///
/// # Errors
/// The system gives none.
pub(in crate::store) fn random_bytes() -> std::io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    std::fs::File::open("/dev/urandom").and_then(|mut file| std::io::Read::read_exact(&mut file, &mut bytes))?;
    Ok(bytes)
}
