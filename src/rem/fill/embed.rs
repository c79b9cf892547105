//! Gives rows their vectors, a few at a time and only while nothing else wants one, and links resources that turn out to be near.

use super::super::rounded;
use super::entries::name_of;
use super::{Filler, edge};
use crate::clock::UnixMs;
use crate::embed::EmbedError;
use crate::ids::{KeyId, TenantId};
use crate::store::StoreError;
use crate::store::rem::{Owner, RemQuestion, RemRow, RemTable, RemVector, RemWrite, SIMILAR_TO, Scope};

/// Texts of one step.
const TEXTS: u32 = 4;
/// A text that could not be embedded is tried again after this time.
const AGAIN_MS: u64 = 10 * 60_000;
/// A moment that the program makes is embedded when it has not changed for this long: a session goes on.
const SETTLED_MS: u64 = 60_000;
/// Least cosine of two resources that are similar, and most that one is linked to.
const SIMILAR: f64 = 0.8;
const LINKS: usize = 3;

impl Filler {
    /// Embeds some rows; whether there may be more.
    pub(super) async fn embed(&mut self, now: UnixMs) -> Result<bool, StoreError> {
        let Some(embedder) = self.parts.embedder.clone().filter(|embedder| embedder.queue_depth() == 0) else {
            return Ok(false);
        };
        self.unembeddable.retain(|_, again| *again > now);
        let skipped = u32::try_from(self.unembeddable.len()).unwrap_or(u32::MAX);
        let space = embedder.space().to_string();
        let rows = self.rem.rem_unembedded(&space, TEXTS.saturating_add(skipped).min(1_000)).await?;
        let full = u32::try_from(rows.len()).is_ok_and(|len| len >= TEXTS);
        let mut done = 0;
        for (tenant, row) in rows {
            let goes_on = row.made && row.table == RemTable::Moments && row.updated_at.saturating_add(SETTLED_MS) > now;
            if goes_on || self.unembeddable.contains_key(&row.id) || !self.rem.rem_keeps_texts(&tenant) {
                continue;
            }
            if done >= TEXTS || embedder.queue_depth() > 0 {
                break;
            }
            done += 1;
            match embedder.embed_for(tenant.as_str(), &row.text).await {
                Ok(embedded) => {
                    let vector = RemVector { space: space.clone(), vector: embedded.vector.to_vec() };
                    self.embedded(&tenant, &row, vector).await?;
                }
                // It has more to do than this: all of it later.
                Err(EmbedError::QueueFull | EmbedError::Deadline | EmbedError::BreakerOpen) => break,
                Err(error) => {
                    tracing::debug!(%error, "a text of REM data cannot be embedded now");
                    self.unembeddable.insert(row.id, now.saturating_add(AGAIN_MS));
                }
            }
        }
        self.bound();
        Ok(full && done > 0)
    }

    async fn embedded(&self, tenant: &TenantId, row: &RemRow, vector: RemVector) -> Result<(), StoreError> {
        let mut writes = vec![RemWrite::Embed { id: row.id, updated_at: row.updated_at, vector: vector.clone() }];
        if row.table == RemTable::Resources {
            let key = match &row.owner {
                Owner::Key(key) => key.clone(),
                Owner::Public => KeyId::new(""),
            };
            let scope = Scope { tenant: tenant.clone(), key };
            let question = RemQuestion { table: RemTable::Resources, cond: None, label: None, limit: 20 };
            let near = self.rem.rem_nearest(&scope, &vector, SIMILAR, &question).await?;
            let near = near.into_iter().filter(|near| near.row.id != row.id && near.row.owner == row.owner);
            let edges: Vec<_> = near
                .take(LINKS)
                .map(|near| {
                    let weight = rounded(near.cosine.clamp(0.0, 1.0));
                    let mut edge = edge(row.id, row.table, SIMILAR_TO, "", weight, row.updated_at);
                    edge.target = near.row.entry.map_or(near.row.name, name_of);
                    edge
                })
                .collect();
            // Those to what was near the text of before are over.
            let (kind, others) = (SIMILAR_TO.to_owned(), false);
            writes.push(RemWrite::Unlink { owner: row.owner.clone(), sources: vec![row.id], kind, others });
            if !edges.is_empty() {
                writes.push(RemWrite::Link { owner: row.owner.clone(), edges });
            }
        }
        self.rem.rem_apply(tenant, &writes).await
    }
}
