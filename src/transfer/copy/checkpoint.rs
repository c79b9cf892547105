//! How far a copy came, noted at its destination for each table and source.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::super::secret::Place;
use super::super::table::Table;
use crate::clock::Clock;
use crate::store::{StoreError, Stores};

/// Shortest time between two notes.
const EVERY: Duration = Duration::from_millis(500);
/// A checkpoint that is older is not gone on from: by then a catch-up from the start is the better use of the time.
const KEPT_MS: u64 = 24 * 3_600_000;

/// See the module.
pub(in crate::transfer) struct Checkpoints {
    source: String,
    written: Option<(Table, Instant)>,
}

/// Tells sources apart without giving their secrets away.
pub(super) fn source_name(from: &Place, secret: Option<&[u8; 32]>) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(from.url.to_string().as_bytes());
    hasher.update(secret.map_or(&[][..], |secret| &secret[..]));
    hasher.finalize().to_hex().chars().take(12).collect()
}

impl Checkpoints {
    pub(in crate::transfer) fn new(source: String) -> Self {
        Self { source, written: None }
    }

    fn name(&self, table: Table) -> String {
        format!("copy {table} {}", self.source)
    }

    /// The key after which an earlier run stopped.
    pub(super) async fn read(&self, stores: &Stores, table: Table) -> Result<Option<String>, StoreError> {
        let Some(text) = stores.notes.note(&self.name(table)).await? else { return Ok(None) };
        let note: Value = serde_json::from_str(&text).unwrap_or_default();
        let fresh = |at: u64| Clock::system().now_ms().saturating_sub(at) < KEPT_MS;
        let at = note.get("at").and_then(Value::as_u64);
        Ok(at.filter(|at| fresh(*at)).and_then(|_| Some(note.get("after")?.as_str()?.to_owned())))
    }

    /// Notes a key, now and then.
    pub(super) async fn write(&mut self, stores: &Stores, table: Table, key: &str) -> Result<(), StoreError> {
        if self.written.is_some_and(|(of, written)| of == table && written.elapsed() < EVERY) {
            return Ok(());
        }
        let note = json!({ "after": key, "at": Clock::system().now_ms() }).to_string();
        stores.notes.set_note(&self.name(table), Some(&note)).await?;
        self.written = Some((table, Instant::now()));
        Ok(())
    }

    pub(super) async fn forget(&self, stores: &Stores, table: Table) -> Result<(), StoreError> {
        stores.notes.set_note(&self.name(table), None).await
    }
}
