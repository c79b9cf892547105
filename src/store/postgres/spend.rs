//! What requests have cost, summed in the database.

use sqlx::postgres::PgRow;
use sqlx::query;

use super::super::{Spend, StoreError};
use super::PostgresStore;
use super::cells::{Cells, stored};
use crate::clock::UnixMs;
use crate::ids::{KeyId, TenantId};

/// The sums, by all that a budget can be narrowed by. A request is unpriced if upstream billed for it and nobody knows how
/// much; one that was refused or served from the cache has no price to lack. What exceeds 63 bits is no real sum.
macro_rules! sums {
    ($where:literal) => {
        concat!(
            "SELECT tenant, started_at - started_at % $3 AS slot, key, model_asked, tags, ",
            "least(coalesce(sum(cost_nano_usd), 0), 9223372036854775807)::bigint, count(*), ",
            "count(*) FILTER (WHERE cost_nano_usd IS NULL AND tokens_source <> 'replayed') ",
            "FROM requests WHERE started_at >= $1 AND started_at < $2",
            $where,
            " GROUP BY tenant, slot, key, model_asked, tags"
        )
    };
}

const OF_TENANT: &str = sums!(" AND tenant = $4");
// Only the months asked for are read.
const OF_ALL: &str = sums!("");

impl PostgresStore {
    pub(super) async fn sum_spend(
        &self,
        tenant: Option<&TenantId>,
        since: UnixMs,
        until: UnixMs,
        slot_ms: u64,
    ) -> Result<Vec<Spend>, StoreError> {
        let statement = if tenant.is_some() { OF_TENANT } else { OF_ALL };
        let mut sums = query(statement).bind(stored(since)).bind(stored(until)).bind(stored(slot_ms.max(1)));
        if let Some(tenant) = tenant {
            sums = sums.bind(tenant.as_str());
        }
        let rows = sums.fetch_all(&self.readers).await.map_err(|error| self.fault(error))?;
        rows.iter().map(read).collect()
    }
}

fn read(row: &PgRow) -> Result<Spend, StoreError> {
    let mut cells = Cells::of("requests", row);
    Ok(Spend {
        tenant: cells.take::<Option<&str>>()?.map(TenantId::new),
        slot: cells.count()?,
        key: cells.take::<Option<&str>>()?.map(KeyId::new),
        model: cells.text_or_null()?,
        tags: cells.tags()?,
        nano_usd: cells.take()?,
        requests: cells.count()?,
        unpriced: cells.count()?,
    })
}
