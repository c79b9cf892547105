//! Corrections of the ledger, which the second store gets too; reports are made from the first.

use tokio::time::timeout;

use super::Shadow;
use super::mirror::{DEADLINE, Work};
use crate::clock::UnixMs;
use crate::ids::{RequestId, TenantId};
use crate::store::{BoxFuture, Correction, LedgerRow, Rated, UsageAsk, UsageRow, UsageStore};

impl UsageStore for Shadow {
    fn usage<'a>(&'a self, ask: &'a UsageAsk) -> BoxFuture<'a, Vec<UsageRow>> {
        self.first.usage.usage(ask)
    }

    fn correct<'a>(&'a self, corrections: &'a [Correction]) -> BoxFuture<'a, u64> {
        let corrections = corrections.to_vec();
        self.whole(|this| async move {
            let made = this.first.usage.correct(&corrections).await?;
            if made > 0 {
                this.mirror(Work::Corrections(corrections));
            }
            Ok(made)
        })
    }

    fn corrections(&self, request: RequestId) -> BoxFuture<'_, Vec<Correction>> {
        self.first.usage.corrections(request)
    }

    fn correction_page(&self, after: Option<(RequestId, UnixMs)>, limit: u32) -> BoxFuture<'_, Vec<Correction>> {
        self.first.usage.correction_page(after, limit)
    }

    fn rated_page<'a>(
        &'a self,
        tenant: Option<&'a TenantId>,
        since: UnixMs,
        until: UnixMs,
        after: Option<RequestId>,
        limit: u32,
    ) -> BoxFuture<'a, Vec<(LedgerRow, Rated)>> {
        self.first.usage.rated_page(tenant, since, until, after, limit)
    }

    fn fold(&self) -> BoxFuture<'_, u64> {
        Box::pin(async move {
            let folded = self.first.usage.fold().await?;
            // Nobody else does it for the second store, and it must not hold up the first.
            if let (0, Some(second)) = (folded, self.shared.second()) {
                return Ok(match timeout(DEADLINE, second.usage.fold()).await {
                    Ok(Ok(folded)) => folded,
                    Ok(Err(error)) => {
                        tracing::debug!(%error, "sums of the shadow store cannot be brought together now");
                        0
                    }
                    Err(_) => 0,
                });
            }
            Ok(folded)
        })
    }
}
