//! The chain of the audit: what makes a row that was changed or taken away behind the program's back visible.
//!
//! Each row has a number, 1, 2, 3 and so on, and a hash over its content and the hash of the row before. A head says where
//! the chain ends, so that an end that was cut off is missed too. The hash has no key: whoever can write the database can
//! make a whole new chain. Against that helps to note the head's hash elsewhere from time to time and to look for it later.
//!
//! Rows of before there was a chain are taken into it, in their order, when the database is next opened for writing. So are
//! rows that came beside it later, and a row of the chain says which these were.

use serde_json::json;

use super::forms::stored;
use super::{AuditRow, AuditStore, Digest, StoreError};
use crate::clock::Clock;
use crate::ids::AuditId;

/// What every chain begins with in the place of a hash.
pub(super) const NO_HASH: Digest = [0; 32];
/// Rows read at once.
const PAGE: u32 = 1_000;

/// Where the chain ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditHead {
    /// Number of the last row.
    pub seq: u64,
    /// Its hash.
    pub hash: Digest,
}

/// A row in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chained {
    /// Its number.
    pub seq: u64,
    /// The row.
    pub row: AuditRow,
    /// The hash that is stored with it.
    pub hash: Digest,
}

/// What came of walking the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditVerdict {
    /// Nothing was changed, is missing or does not belong there.
    pub ok: bool,
    /// Rows that were found in order.
    pub rows: u64,
    /// The head as it is stored; `None` if nothing was ever recorded.
    pub head: Option<AuditHead>,
    /// Number of the first row that is not what it was; `None` if it has no place in the chain.
    pub broken_at: Option<u64>,
    /// What is wrong there.
    pub why: Option<String>,
}

/// The hash of row number `seq`, which follows one with the hash `prev` (zeros for the first).
pub fn audit_hash(prev: &Digest, seq: u64, row: &AuditRow) -> Digest {
    let AuditRow { id, at, actor, action, reason, what, result } = row;
    let mut hasher = blake3::Hasher::new_derive_key("remora 2026 audit chain");
    hasher.update(prev);
    hasher.update(&seq.to_le_bytes());
    hasher.update(&id.to_bytes());
    // As it will be read again.
    hasher.update(&stored(*at).to_le_bytes());
    // A length before each, so that no text can lend its end to the next.
    let mut text = |text: &str| {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    };
    text(actor);
    text(action);
    text(if reason.is_some() { "because" } else { "" });
    text(reason.as_deref().unwrap_or_default());
    text(what);
    text(result);
    *hasher.finalize().as_bytes()
}

/// The row that says which rows a start has taken into a chain that had begun without them.
pub(super) fn adopted(rows: &[AuditRow]) -> AuditRow {
    let at = Clock::system().now_ms();
    let ids: Vec<String> = rows.iter().map(|row| row.id.to_string()).collect();
    tracing::warn!(
        rows = ids.len(),
        "the audit has rows that were not recorded by this program, perhaps by an older one; they are taken into the chain, \
         and the audit says which (audit.adopted)"
    );
    AuditRow {
        id: AuditId::at(at),
        at,
        actor: "start".to_owned(),
        action: "audit.adopted".into(),
        reason: None,
        what: json!({ "ids": ids }).to_string(),
        result: json!({ "rows": ids.len() }).to_string(),
    }
}

/// Walks the chain from its beginning to its head and tells the first place where it breaks.
///
/// # Errors
/// The database cannot be read.
pub async fn verify_audit(store: &dyn AuditStore) -> Result<AuditVerdict, StoreError> {
    // Read first: what is recorded meanwhile comes after it.
    let head = store.audit_head().await?;
    let end = head.map_or(AuditHead { seq: 0, hash: NO_HASH }, |head| head);
    let mut last = AuditHead { seq: 0, hash: NO_HASH };
    let broken = |rows: u64, at: u64, why: String| {
        Ok(AuditVerdict { ok: false, rows, head, broken_at: Some(at), why: Some(why) })
    };
    while last.seq < end.seq {
        let page = store.audit_chain(last.seq, PAGE).await?;
        if page.is_empty() {
            let why = format!("rows {} to {} are missing from the end", last.seq + 1, end.seq);
            return broken(last.seq, last.seq + 1, why);
        }
        for Chained { seq, row, hash } in page {
            let due = last.seq + 1;
            if seq != due {
                return broken(last.seq, due, format!("row {due} is missing"));
            }
            if audit_hash(&last.hash, seq, &row) != hash {
                return broken(last.seq, seq, format!("row {seq} ({}) is not what was recorded", row.id));
            }
            last = AuditHead { seq, hash };
            if last.seq == end.seq && last.hash != end.hash {
                let why = format!("row {seq} is the last, and the head of the chain has another hash");
                return broken(last.seq, seq, why);
            }
        }
    }
    // Without a head nothing may be there, but for what was recorded since.
    if head.is_none() && !store.audit_chain(0, 1).await?.is_empty() && store.audit_head().await?.is_none() {
        return broken(0, 1, "there are rows, and the head of the chain is gone".to_owned());
    }
    let unchained = store.audit_unchained().await?;
    if unchained > 0 {
        let why = format!("{unchained} rows of the audit are not in the chain: they were added by something else");
        return Ok(AuditVerdict { ok: false, rows: last.seq, head, broken_at: None, why: Some(why) });
    }
    Ok(AuditVerdict { ok: true, rows: last.seq, head, broken_at: None, why: None })
}
