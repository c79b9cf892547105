//! What an older program adds is in the sums after the next start, and nothing is there twice.

use super::super::conformance::Fixture as _;
use super::super::sample::{request_id, row};
use super::super::{Correction, LedgerRow, Rated, Stores, Sums, UsageAsk};
use super::files::TempStore;
use super::{SqliteStore, migrate_down, migrate_up};
use crate::config::Migrate;

/// A row as the program before wrote it.
fn old_row(number: u64) -> String {
    format!(
        "INSERT INTO requests (id, started_at, tags, route, dialect, stream, outcome, status, tokens_input, tokens_cache_read, \
         tokens_cache_write, tokens_output, tokens_reasoning, tokens_source, latency_us, overhead_us, cost_nano_usd) \
         VALUES (x'{number:032x}', {number}, '[]', 'GET /', 'chat', 0, 'miss', 200, 3, 0, 0, 4, 0, 'billed', 1, 1, 50)"
    )
}

async fn sums(stores: &Stores) -> Sums {
    let all = UsageAsk { until: 86_400_000, ..UsageAsk::default() };
    stores.usage.usage(&all).await.unwrap().first().map_or(Sums::default(), |row| row.sums)
}

#[tokio::test]
async fn rows_of_an_older_program_are_summed_once_however_they_came() {
    let temp = TempStore::open().await;
    let path = temp.path();
    let mut expected = Sums::default();
    let old = |sums: Sums| Sums {
        requests: sums.requests + 1,
        cost: sums.cost + 50,
        billed: sums.billed.plus(&super::super::Tokens { input: 3, output: 4, ..Default::default() }),
        ..sums
    };
    // Beside this program, as after going back without a step down.
    temp.run(&old_row(1)).await;
    expected = old(expected);
    assert_eq!(sums(&temp.stores()).await, Sums::default());
    temp.again().await.close().await;
    assert_eq!(sums(&temp.stores()).await, expected);

    let own = LedgerRow { cost_nano_usd: Some(1), tokens_source: Some("billed".into()), ..row("t", 2) };
    temp.stores().ledger.append(std::slice::from_ref(&own)).await.unwrap();
    let before = Rated::of(&own);
    let after = Rated { cost: Some(9), ..before.clone() };
    let made = Correction { request: own.request, started_at: 2, at: 3, before, after };
    assert_eq!(temp.stores().usage.correct(&[made]).await.unwrap(), 1);
    let with_own = sums(&temp.stores()).await;
    assert_eq!((with_own.requests, with_own.cost), (2, 59));
    temp.store.close().await;

    // Down to a program that knows nothing of sums, and up again.
    migrate_down(&path, 5).await.unwrap();
    temp.run(&old_row(3)).await;
    migrate_up(&path, None).await.unwrap();
    temp.run(&old_row(4)).await;
    let again = SqliteStore::open(&path, Migrate::Manual).await.unwrap();
    assert_eq!(sums(&again.stores()).await, old(old(with_own)));
    assert_eq!(again.stores().ledger.request(request_id(2)).await.unwrap(), Some(own));
    again.close().await;
}

#[tokio::test]
async fn rows_from_before_there_were_sums_are_summed_at_the_first_start() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("remora.db");
    SqliteStore::open(&path, Migrate::Auto).await.unwrap().close().await;
    migrate_down(&path, 5).await.unwrap();
    // As in a database that never had this step.
    super::files::sql(
        &path,
        "DROP TABLE usage_missed; DROP TABLE usage_sums; DROP TRIGGER requests_of_an_older_program; \
         DELETE FROM meta WHERE key = 'roll-ups'; DROP TABLE attempts; DROP TABLE corrections; DROP TABLE requests_money",
    )
    .await;
    let many: Vec<String> = (1..=7).map(old_row).collect();
    super::files::sql(&path, &many.join(";")).await;
    let store = SqliteStore::open(&path, Migrate::Auto).await.unwrap();
    let found = sums(&store.stores()).await;
    assert_eq!((found.requests, found.cost, found.billed.sum()), (7, 350, 49));
    store.close().await;
}
