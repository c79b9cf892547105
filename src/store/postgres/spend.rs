//! What requests have cost, summed in the database.

use sqlx::query;

use super::super::{Spend, StoreError, read};
use super::PostgresStore;
use super::cells::stored;
use crate::clock::UnixMs;
use crate::ids::TenantId;

/// The sums, by all that a budget can be narrowed by, with what corrections `c` have added since. A request is unpriced if upstream
/// billed for it and nobody knows how much; one that was refused or served from the cache has no price to lack. What exceeds 63
/// bits is no real sum.
macro_rules! sums {
    ($where:literal) => {
        concat!(
            "SELECT tenant, slot, key, model_asked, tags, least(sum(nano_usd), 9223372036854775807)::bigint, ",
            "sum(requests)::bigint, sum(unpriced)::bigint FROM (",
            "SELECT tenant, started_at - started_at % $3 AS slot, key, model_asked, tags, ",
            "coalesce(sum(cost_nano_usd), 0) AS nano_usd, count(*) AS requests, ",
            "count(*) FILTER (WHERE cost_nano_usd IS NULL AND tokens_source <> 'replayed') AS unpriced ",
            "FROM requests WHERE started_at >= $1 AND started_at < $2",
            $where,
            " GROUP BY tenant, slot, key, model_asked, tags UNION ALL ",
            "SELECT tenant, r.started_at - r.started_at % $3, key, model_asked, tags, ",
            "coalesce(after_cost, 0) - coalesce(before_cost, 0), 0, ",
            "CASE WHEN tokens_source <> 'replayed' THEN (after_cost IS NULL)::integer - (before_cost IS NULL)::integer ELSE 0 END ",
            "FROM corrections AS c JOIN requests AS r ON r.id = c.request AND r.started_at = c.started_at ",
            "WHERE c.started_at >= $1 AND c.started_at < $2",
            $where,
            ") AS both_sums GROUP BY tenant, slot, key, model_asked, tags"
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
        rows.iter().map(read::spend).collect()
    }
}
