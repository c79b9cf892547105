//! What requests have cost, summed in the database.

use sqlx::query;

use super::super::{Spend, StoreError, read};
use super::SqliteStore;
use super::cells::stored;
use crate::clock::UnixMs;
use crate::ids::TenantId;

/// The sums over `r`, by all that a budget can be narrowed by, with what corrections `c` of rows `q` have added since. A request
/// is unpriced if upstream billed for it and nobody knows how much; one that was refused or served from the cache has no price
/// to lack.
macro_rules! sums {
    ($from:literal, $where:literal, $corrected:literal) => {
        concat!(
            "SELECT tenant, slot, key, model_asked, tags, sum(nano_usd), sum(requests), sum(unpriced) FROM (",
            "SELECT r.tenant, r.started_at - r.started_at % ?3 AS slot, r.key, r.model_asked, r.tags, ",
            "coalesce(sum(r.cost_nano_usd), 0) AS nano_usd, count(*) AS requests, ",
            "count(*) FILTER (WHERE r.cost_nano_usd IS NULL AND r.tokens_source <> 'replayed') AS unpriced FROM ",
            $from,
            " WHERE r.started_at >= ?1 AND r.started_at < ?2 AND ",
            $where,
            " GROUP BY r.tenant, slot, r.key, r.model_asked, r.tags UNION ALL ",
            "SELECT q.tenant, q.started_at - q.started_at % ?3, q.key, q.model_asked, q.tags, ",
            "coalesce(c.after_cost, 0) - coalesce(c.before_cost, 0), 0, ",
            "iif(q.tokens_source <> 'replayed', (c.after_cost IS NULL) - (c.before_cost IS NULL), 0) ",
            "FROM corrections AS c CROSS JOIN requests AS q ON q.id = c.request ",
            "WHERE c.started_at >= ?1 AND c.started_at < ?2",
            $corrected,
            ") GROUP BY tenant, slot, key, model_asked, tags"
        )
    };
}

pub(super) const OF_TENANT: &str = sums!("requests AS r", "r.tenant = ?4", " AND q.tenant = ?4");
// The index begins with the tenant, so each tenant is looked up in it: first its name, by a step from name to name, then
// its rows. NULL is the tenant of callers that are not known, and with it the steps end.
pub(super) const OF_ALL: &str = concat!(
    "WITH RECURSIVE known (tenant) AS (SELECT min(tenant) FROM requests UNION ALL ",
    "SELECT (SELECT min(s.tenant) FROM requests AS s WHERE s.tenant > k.tenant) FROM known AS k ",
    "WHERE k.tenant IS NOT NULL) ",
    sums!("known AS k CROSS JOIN requests AS r", "r.tenant IS k.tenant", "")
);

impl SqliteStore {
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

#[cfg(test)]
mod tests {
    use sqlx::{AssertSqlSafe, Row};

    use super::super::files::TempStore;
    use super::*;
    use crate::store::conformance::Fixture as _;

    #[tokio::test]
    async fn only_rows_of_the_time_asked_for_are_read() {
        let temp = TempStore::open().await;
        let again = temp.again().await;
        for statement in [OF_TENANT, OF_ALL] {
            let plan = query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}")));
            let rows = plan.fetch_all(&again.readers).await.unwrap();
            let steps: Vec<String> = rows.iter().map(|row| row.get("detail")).collect();
            let searched = "SEARCH r USING INDEX requests_by_time (tenant=? AND started_at>? AND started_at<?)";
            assert!(steps.iter().any(|step| step == searched), "{steps:?}");
            let whole = ["SCAN r", "SCAN s", "SCAN q", "SCAN c"];
            assert!(steps.iter().all(|step| !whole.iter().any(|scan| step.starts_with(scan))), "{steps:?}");
        }
    }
}
