//! REM data in a database: resources, entities, moments, their names, edges and vectors.
//!
//! Two seams. [`RemStore`] finds rows in ways that both databases have an index for: by name, by trigrams, by words, by vector, by
//! edge. [`SqlGuarded`] runs a checked statement of a caller. What a query means is decided above, in `rem`, in one place for
//! both databases.
//!
//! Invariants:
//! - The tenant and the caller's scope are part of every read; nothing outside is returned, counted or compared.
//! - Names, words, trigrams, edges and vectors are changed in the transaction of their row.
//! - A row that belongs to a cache entry goes in the transaction that deletes the entry.
//! - Scores are computed here in Rust from what is stored, so both databases give the same number.

#[cfg(test)]
pub(in crate::store) mod canaries;
mod compile;
mod cond;
mod grams;
mod guarded;
mod model;
mod names;
pub(super) mod passed;
mod places;
mod rows;
mod words;

pub(super) use compile::{Bind, Dialect, compile};
pub use cond::*;
pub use grams::{Grams, words as gram_words};
pub use guarded::*;
pub use model::*;
pub use names::{key_digest, normalise, split_camel_case};
pub(super) use places::{SqlPlace, SqlPlaces};
pub(super) use rows::*;
pub use words::{relevance, tokens};

use super::BoxFuture;
use crate::clock::UnixMs;
use crate::ids::{EntryId, KeyId, RemId, TenantId};

/// Prefix of notes that say when all REM data of a tenant was deleted: milliseconds. What lies before is not filled again.
pub const FORGOTTEN_NOTES: &str = "rem: forgotten ";
/// The same of one key, behind its tenant and a blank.
pub const FORGOTTEN_KEY_NOTES: &str = "rem: key forgotten ";
/// Name of the note with the last ledger row that was filled from.
pub const FILLED_NOTE: &str = "rem: filled up to";

/// Name of the note that says when the REM data of a tenant, or of one of its keys, was deleted.
pub fn forgotten_note(tenant: &TenantId, key: Option<&KeyId>) -> String {
    match key {
        None => format!("{FORGOTTEN_NOTES}{tenant}"),
        Some(key) => format!("{FORGOTTEN_KEY_NOTES}{tenant} {key}"),
    }
}

/// A row found under a name.
#[derive(Clone, Debug, PartialEq)]
pub struct RemNamed {
    /// Which of the keys asked for: its place.
    pub asked: usize,
    /// It was found by an alias, not by its name.
    pub alias: bool,
    /// The name or alias as it is written.
    pub name: String,
    /// The row.
    pub row: RemRow,
}

/// A name that may be similar enough.
#[derive(Clone, Debug, PartialEq)]
pub struct RemSimilar {
    /// The row.
    pub id: RemId,
    /// Where it belongs.
    pub table: RemTable,
    /// The name or alias.
    pub name: String,
}

/// A question for the nearest rows.
#[derive(Clone, Debug)]
pub struct RemQuestion<'a> {
    /// Where to look.
    pub table: RemTable,
    /// Rows must fulfil it.
    pub cond: Option<&'a Cond>,
    /// Exact category, or kind.
    pub label: Option<&'a str>,
    /// Most rows.
    pub limit: u32,
}

/// A row with the similarity of its vector to the one asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct RemNear {
    /// The row.
    pub row: RemRow,
    /// Cosine, -1 to 1.
    pub cosine: f64,
}

/// Which way edges are followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// From source to target.
    #[default]
    Outbound,
    /// From target to source.
    Inbound,
    /// Both.
    Both,
}

/// Which edges are wanted.
#[derive(Clone, Copy, Debug)]
pub struct RemEdges<'a> {
    /// Their types; empty is any.
    pub kinds: &'a [String],
    /// Least weight.
    pub min_weight: f64,
    /// Most edges; the heaviest are given.
    pub limit: u32,
}

/// A way of [`RemStore`] to find something, for whoever wants to see how that is done.
#[derive(Clone, Copy, Debug)]
pub enum RemRead<'a> {
    /// [`RemStore::rem_named`]
    Named,
    /// [`RemStore::rem_similar`]
    Similar,
    /// [`RemStore::rem_nearest`]
    Nearest(&'a RemQuestion<'a>),
    /// [`RemStore::rem_worded`]
    Worded(&'a RemQuestion<'a>),
    /// [`RemStore::rem_cosines`]
    Cosines,
    /// [`RemStore::rem_rows`]
    Rows,
    /// [`RemStore::rem_edges_from`]
    EdgesFrom,
    /// [`RemStore::rem_edges_to`]
    EdgesTo,
}

/// REM data: the first seam. Hidden rows are found by nothing but [`RemStore::rem_stored`] and [`RemStore::rem_export`].
pub trait RemStore: Send + Sync {
    /// Applies all writes in order and in one transaction: all or none. Applying them again changes nothing.
    fn rem_apply<'a>(&'a self, tenant: &'a TenantId, writes: &'a [RemWrite]) -> BoxFuture<'a, ()>;

    /// Whether texts of this tenant may be kept in the clear, as indexes need them. False for a tenant whose data is sealed.
    fn rem_keeps_texts(&self, tenant: &TenantId) -> bool {
        let _ = tenant;
        true
    }

    /// Whether there may be tenants whose texts may not be kept. Of those, no row is found, and what is left of before they were sealed
    /// is to be deleted.
    fn rem_seals(&self) -> bool {
        false
    }

    /// The statements that a read may ask of the database, as it runs them, with parameters in the place of values: the same text
    /// whatever is in the database. Nothing from a store that has no statements.
    fn rem_statements(&self, scope: &Scope, read: RemRead<'_>) -> Vec<String> {
        let _ = (scope, read);
        Vec::new()
    }

    /// Rows that the caller sees under these normal forms, in the order of `keys`, then by table, name, and id: one probe
    /// of an index for each key. `tables` empty is all. Of more than `limit`, those of the first keys, and of one key names
    /// before aliases; nothing else of them is read.
    fn rem_named<'a>(
        &'a self,
        scope: &'a Scope,
        keys: &'a [String],
        tables: &'a [RemTable],
        limit: u32,
    ) -> BoxFuture<'a, Vec<RemNamed>>;

    /// Names that the caller sees and whose trigram similarity to `text` may be `least` or more: all that reach it, and perhaps
    /// others; found through an index. A name without a common trigram is similar to nothing, whatever `least` is. Of more than `limit`, the most similar ones. Best first, ties by name, then
    /// id. The caller computes the score.
    fn rem_similar<'a>(
        &'a self,
        scope: &'a Scope,
        text: &'a str,
        tables: &'a [RemTable],
        least: f64,
        limit: u32,
    ) -> BoxFuture<'a, Vec<RemSimilar>>;

    /// The rows nearest to a vector of length 1 in a space, best first, ties by name and id, all with a cosine of `least` or more:
    /// exactly `min(limit, number of such rows that fulfil the question)`.
    fn rem_nearest<'a>(
        &'a self,
        scope: &'a Scope,
        vector: &'a RemVector,
        least: f64,
        question: &'a RemQuestion<'a>,
    ) -> BoxFuture<'a, Vec<RemNear>>;

    /// Rows that have one of these words in name or text, in any order. Of more than `limit`, first those that have all the
    /// words, then others; of these the ones that came last into this database. The caller computes the relevance.
    fn rem_worded<'a>(
        &'a self,
        scope: &'a Scope,
        words: &'a [String],
        question: &'a RemQuestion<'a>,
    ) -> BoxFuture<'a, Vec<RemRow>>;

    /// Cosines of these rows' vectors to one; rows without a vector in its space are left out.
    fn rem_cosines<'a>(
        &'a self,
        scope: &'a Scope,
        vector: &'a RemVector,
        ids: &'a [RemId],
    ) -> BoxFuture<'a, Vec<(RemId, f64)>>;

    /// Those of these rows that the caller sees, in any order. Ids of requests give rows of the ledger that were made with
    /// the caller's key, as [`RemTable::Requests`] with the id as name.
    fn rem_rows<'a>(&'a self, scope: &'a Scope, ids: &'a [RemId]) -> BoxFuture<'a, Vec<RemRow>>;

    /// As [`RemStore::rem_rows`], hidden rows too, but no requests: for whoever deletes what is hidden.
    fn rem_stored<'a>(&'a self, scope: &'a Scope, ids: &'a [RemId]) -> BoxFuture<'a, Vec<RemRow>>;

    /// Up to `limit` rows of a table that the caller sees, by id, those that follow `after`.
    fn rem_list<'a>(
        &'a self,
        scope: &'a Scope,
        table: RemTable,
        after: Option<RemId>,
        limit: u32,
    ) -> BoxFuture<'a, Vec<RemRow>>;

    /// Edges that leave these rows, by weight descending, then type, then target. Only of owners that the caller sees, and not of
    /// hidden rows.
    fn rem_edges_from<'a>(
        &'a self,
        scope: &'a Scope,
        sources: &'a [RemId],
        wanted: RemEdges<'a>,
    ) -> BoxFuture<'a, Vec<RemEdge>>;

    /// Edges that lead to names of these normal forms, by weight descending, then type, then source. Only of owners that the
    /// caller sees, and not of hidden rows.
    fn rem_edges_to<'a>(
        &'a self,
        scope: &'a Scope,
        keys: &'a [String],
        wanted: RemEdges<'a>,
    ) -> BoxFuture<'a, Vec<RemEdge>>;

    /// Up to `limit` rows without a vector in this space whose text is not empty, of any tenant, oldest change first: for the
    /// task that embeds.
    fn rem_unembedded<'a>(&'a self, space: &'a str, limit: u32) -> BoxFuture<'a, Vec<(TenantId, RemRow)>>;

    /// Deletes up to `limit` rows that the program made from traffic (moments and entities, and edges of requests) and that were last
    /// written before `before`, and rows hidden before it; returns how many.
    fn rem_forget(&self, before: UnixMs, limit: u32) -> BoxFuture<'_, u64>;

    /// Deletes up to `limit` rows and edges of one tenant, or of one of its owners; returns how many. 0 is the end.
    fn rem_forget_tenant<'a>(
        &'a self,
        tenant: &'a TenantId,
        owner: Option<&'a Owner>,
        limit: u32,
    ) -> BoxFuture<'a, u64>;

    /// Whether this owner has a row, hidden ones included, or an edge, or has written a public row. Databases have a shorter way than
    /// this walk.
    fn rem_owns<'a>(&'a self, tenant: &'a TenantId, owner: &'a Owner) -> BoxFuture<'a, bool> {
        Box::pin(async move {
            let mut after = (tenant.clone(), RemId::from_bytes([0; 16]));
            loop {
                let page = self.rem_export(Some(&after), 100).await?;
                for whole in &page {
                    if whole.tenant != *tenant {
                        return Ok(false);
                    }
                    let edges = whole.edges.iter().any(|(of, _)| of == owner);
                    let wrote = |row: &RemRow| row.writer.is_some() && row.writer.as_ref() == owner.key();
                    if edges || whole.row.as_ref().is_some_and(|row| row.owner == *owner || wrote(row)) {
                        return Ok(true);
                    }
                    let edge = || whole.edges.first().map(|(_, edge)| edge.source);
                    after.1 = whole.row.as_ref().map(|row| row.id).or_else(edge).unwrap_or(after.1);
                }
                if page.is_empty() {
                    return Ok(false);
                }
            }
        })
    }

    /// Up to `limit` rows and requests with edges, hidden ones included, with all that belongs to them, by tenant and id. An empty
    /// page is the end.
    fn rem_export<'a>(&'a self, after: Option<&'a (TenantId, RemId)>, limit: u32) -> BoxFuture<'a, Vec<RemExported>>;

    /// Up to `limit` entries of all tenants that have no row here yet, by tenant and id, those that follow `after`: for the task
    /// that fills. Expired ones and embeddings are left out. With `since`, those of this identity or a later one only, and no older
    /// ones are read to find them.
    fn rem_entries_without_row<'a>(
        &'a self,
        now: UnixMs,
        since: Option<EntryId>,
        after: Option<&'a super::Cursor>,
        limit: u32,
    ) -> BoxFuture<'a, Vec<super::Exported>>;
}

/// Six decimals: what scores are rounded to when they are shown, and weights when they are written, so that SQL shows them alike.
pub fn rounded(score: f64) -> f64 {
    let rounded = (score * 1e6).round() / 1e6;
    // No minus before a zero.
    if rounded == 0.0 { 0.0 } else { rounded }
}

/// Cosine of two vectors of the same length, in double precision: the one number that every store shows.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let (mut dot, mut left, mut right) = (0.0_f64, 0.0_f64, 0.0_f64);
    for (x, y) in a.iter().zip(b) {
        let (x, y) = (f64::from(*x), f64::from(*y));
        dot += x * y;
        left += x * x;
        right += y * y;
    }
    let length = (left * right).sqrt();
    if length > 0.0 && a.len() == b.len() { (dot / length).clamp(-1.0, 1.0) } else { 0.0 }
}
