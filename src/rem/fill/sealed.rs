//! What is left of tenants that were sealed later: it is in the clear, so it is deleted.

use super::{Filler, PAGE};
use crate::clock::UnixMs;
use crate::ids::{RemId, TenantId};
use crate::store::StoreError;

/// Tenants that one step looks at.
const TENANTS: u32 = 50;
/// After a start all tenants are looked at, then again after this time: a replica with older settings may have written since.
const AGAIN_MS: u64 = 60 * 60_000;

/// How far that is.
#[derive(Default)]
pub(super) struct Clearing {
    /// Behind the last tenant of which nothing is to be deleted.
    behind: Option<(TenantId, RemId)>,
    /// The tenant whose rows are being deleted, and how many are.
    of: Option<(TenantId, u64)>,
    /// Something was deleted that the files may still have.
    unpurged: bool,
    /// When all tenants had been looked at.
    done: Option<UnixMs>,
}

impl Filler {
    /// Looks at some tenants, and deletes some of what may not be kept; whether there is more to do.
    pub(super) async fn clear(&mut self, now: UnixMs) -> Result<bool, StoreError> {
        let fresh = self.clearing.done.is_some_and(|done| now.saturating_sub(done) < AGAIN_MS);
        if fresh || !self.rem.rem_seals() {
            return Ok(false);
        }
        for _ in 0..TENANTS {
            let page = self.rem.rem_export(self.clearing.behind.as_ref(), 1).await?;
            let next = page.into_iter().next().map(|whole| whole.tenant);
            if let Some((tenant, rows)) = self.clearing.of.take_if(|(of, _)| next.as_ref() != Some(of)) {
                tracing::info!(%tenant, rows, "REM data from before a tenant was sealed has been deleted");
            }
            let Some(tenant) = next else {
                if self.clearing.unpurged {
                    self.parts.stores.entries.purge().await?;
                }
                self.clearing = Clearing { done: Some(now), ..Clearing::default() };
                return Ok(false);
            };
            if !self.rem.rem_keeps_texts(&tenant) {
                let gone = self.rem.rem_forget_tenant(&tenant, None, PAGE).await?;
                if gone > 0 {
                    self.clearing.unpurged = true;
                    let before = self.clearing.of.take().map_or(0, |(_, rows)| rows);
                    self.clearing.of = Some((tenant, before.saturating_add(gone)));
                    return Ok(true);
                }
            }
            // No id follows this one.
            self.clearing.behind = Some((tenant, RemId::from_bytes([u8::MAX; 16])));
        }
        Ok(true)
    }
}
