//! Sums of the ledger while several replicas, and an older program, add to it.

use super::super::super::conformance::usage::any_row;
use super::super::super::sample::{row, tenant};
use super::super::super::{Dimension, LedgerRow, Sums, UsageStore as _, migrate};
use super::*;

/// A row as the program before wrote it.
fn old_row(number: u64) -> String {
    format!(
        "INSERT INTO requests (id, started_at, tags, route, dialect, stream, outcome, status, tokens_input, tokens_cache_read, \
         tokens_cache_write, tokens_output, tokens_reasoning, tokens_source, latency_us, overhead_us, cost_nano_usd) \
         VALUES ('\\x{number:032x}', {number}, '[]', 'GET /', 'chat', false, 'miss', 200, 3, 0, 0, 4, 0, 'billed', 1, 1, 50)"
    )
}

async fn sums(stores: &Stores) -> (u64, i64) {
    let all = UsageAsk { until: 86_400_000, ..UsageAsk::default() };
    let found = stores.usage.usage(&all).await.unwrap();
    found.first().map_or((0, 0), |row| (row.sums.requests, row.sums.cost))
}

async fn fold(stores: &Stores) {
    while stores.usage.fold().await.unwrap() > 0 {}
}

#[tokio::test]
async fn rows_of_an_older_program_are_summed_once_however_they_came() {
    let temp = TempDatabase::open().await;
    let stores = temp.stores();
    // A replica of the version before, still at work after the step up.
    temp.database.sql(&old_row(1)).await;
    temp.database.sql(&old_row(2)).await;
    assert_eq!(sums(&stores).await, (0, 0));
    fold(&stores).await;
    assert_eq!(sums(&stores).await, (2, 100));
    stores.ledger.append(&[LedgerRow { cost_nano_usd: Some(1), ..row("t", 3) }]).await.unwrap();
    migrate::down(&temp.database.url, 4).await.unwrap();
    temp.database.sql(&old_row(4)).await;
    migrate::up(&temp.database.url, None).await.unwrap();
    let again = temp.database.open().await;
    assert_eq!(sums(&again.stores()).await, (4, 151), "the start has summed it");

    // A database that has never been summed.
    migrate::down(&temp.database.url, 5).await.unwrap();
    temp.database
        .sql(
            "DROP TABLE usage_sums, usage_deltas, usage_missed; DELETE FROM meta WHERE key = 'roll-ups'; \
             DROP INDEX corrections_by_time; DROP TRIGGER keeps_its_rows ON attempts; \
             DROP TRIGGER is_not_emptied ON attempts; DROP TRIGGER keeps_its_rows ON corrections; \
             DROP TRIGGER is_not_emptied ON corrections; DELETE FROM remora_schema WHERE version = 5",
        )
        .await;
    let first = temp.database.open().await;
    assert_eq!(sums(&first.stores()).await, (4, 151));
}

#[tokio::test]
async fn replicas_that_add_and_fold_at_once_lose_nothing_and_sum_nothing_twice() {
    let database = EmptyDatabase::new().await;
    let mut writing = Vec::new();
    for replica in 0..3u64 {
        let store = database.open().await;
        writing.push(tokio::spawn(async move {
            let mut random = fastrand::Rng::with_seed(replica);
            for round in 0..15 {
                // Each row is written by two of them.
                let first = round * 100 + replica * 20;
                let rows: Vec<_> =
                    (first..first + 40).map(|number| any_row(&mut fastrand::Rng::with_seed(number), number)).collect();
                store.stores().ledger.append(&rows).await.unwrap();
                if random.bool() {
                    store.fold().await.unwrap();
                }
            }
        }));
    }
    for each in writing {
        each.await.unwrap();
    }
    let store = database.open().await;
    let stores = store.stores();
    let rows = stores.ledger.page(None, 10_000).await.unwrap();
    let wanted = rows.iter().fold((0, 0, 0), |(count, tokens, net), row| {
        (
            count + 1,
            tokens + row.tokens_source.as_ref().map_or(0, |_| row.tokens.sum()),
            net + row.saved_nano_usd.unwrap_or(0),
        )
    });
    assert_eq!(wanted.0, 15 * 80);
    for by in [vec![], vec![Dimension::Tenant, Dimension::User]] {
        let ask = UsageAsk { until: 30_000 * 86_400_000, by, ..UsageAsk::default() };
        let told = stores.usage.usage(&ask).await.unwrap();
        let all = told.iter().fold(Sums::default(), |all, row| all.plus(&row.sums));
        let told = (all.requests + all.checks, all.billed.sum() + all.replayed.sum(), all.saved_net);
        assert_eq!(told, wanted, "{ask:?}");
    }
    let left = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM usage_deltas");
    assert_eq!(left.fetch_one(&mut database.connect().await).await.unwrap(), 0, "the last start folded all");
    assert!(rows.iter().any(|row| row.tenant == Some(tenant("ann"))));
}
