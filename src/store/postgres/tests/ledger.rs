//! The ledger by months.

use jiff::civil::date;
use jiff::tz::Offset;
use sqlx::{Row, query, query_scalar};

use super::super::super::sample::{audit_row, put, request_id, row};
use super::super::super::{Correction, LedgerRow, Rated};
use super::*;

fn at(year: i16, month: i8, day: i8) -> u64 {
    let time = date(year, month, day).at(12, 0, 0, 0);
    u64::try_from(Offset::UTC.to_timestamp(time).unwrap().as_millisecond()).unwrap()
}

async fn partitions(database: &EmptyDatabase) -> Vec<(String, i64)> {
    let sql = "SELECT tableoid::regclass::text, count(*) FROM requests GROUP BY 1 ORDER BY 1";
    let rows = query(sql).fetch_all(&mut database.connect().await).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

#[tokio::test]
async fn rows_of_three_months_are_in_three_partitions_and_written_again_are_ignored() {
    let temp = TempDatabase::open().await;
    let ledger = temp.stores().ledger;
    let in_month = |number, started_at| LedgerRow { started_at, ..row("t", number) };
    let rows = [
        in_month(1, at(2026, 10, 31)),
        in_month(2, at(2026, 11, 1)),
        in_month(3, at(2026, 12, 31)),
        in_month(4, at(2026, 11, 30)),
        in_month(5, 7),
    ];
    for _ in 0..2 {
        ledger.append(&rows).await.unwrap();
        let expected =
            [("requests_2026_10", 1), ("requests_2026_11", 2), ("requests_2026_12", 1), ("requests_default", 1)];
        let expected: Vec<_> = expected.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        assert_eq!(partitions(&temp.database).await, expected);
    }
    // Another time does not make it another request, in one batch or in two.
    let moved = in_month(1, at(2026, 12, 1));
    ledger.append(&[moved, in_month(6, at(2027, 1, 1)), in_month(6, at(2026, 11, 1))]).await.unwrap();
    assert_eq!(ledger.count().await.unwrap(), 6);
    assert_eq!(ledger.request(request_id(1)).await.unwrap().unwrap(), rows[0]);
    assert_eq!(ledger.page(None, 3).await.unwrap(), rows[..3]);

    let next: bool = query_scalar("SELECT to_regclass('requests_2027_02') IS NOT NULL")
        .fetch_one(&mut temp.database.connect().await)
        .await
        .unwrap();
    assert!(next, "the month after the newest is there before it is needed");
}

#[tokio::test]
async fn a_month_that_cannot_get_its_partition_loses_no_row() {
    let temp = TempDatabase::open().await;
    // A row of that month in the default partition keeps the month from getting its own.
    let stray = LedgerRow { started_at: at(2026, 10, 1), ..row("t", 1) };
    let ledger = temp.stores().ledger;
    ledger.append(&[row("t", 9)]).await.unwrap();
    let copy = format!(
        "CREATE TEMP TABLE c AS SELECT * FROM requests; UPDATE c SET id = '\\x01', started_at = {}; \
         INSERT INTO requests SELECT * FROM c",
        at(2026, 10, 2)
    );
    temp.database.sql(&copy).await;
    ledger.append(std::slice::from_ref(&stray)).await.unwrap();
    assert_eq!(ledger.request(request_id(1)).await.unwrap(), Some(stray));
    assert_eq!(partitions(&temp.database).await, [("requests_default".to_owned(), 3)]);
}

#[tokio::test]
async fn four_stores_that_meet_a_new_month_at_once_lose_nothing() {
    let database = EmptyDatabase::new().await;
    let mut writing = Vec::new();
    for writer in 0..4u64 {
        let store = database.open().await;
        writing.push(tokio::spawn(async move {
            for number in 0..20 {
                let number = writer * 100 + number;
                let started_at = at(2026, 1 + i8::try_from(number % 12).unwrap(), 15);
                let rows = [LedgerRow { started_at, ..row("t", number) }];
                store.stores().ledger.append(&rows).await.unwrap();
            }
        }));
    }
    for each in writing {
        each.await.unwrap();
    }
    let parts = partitions(&database).await;
    assert_eq!(parts.iter().map(|(_, count)| count).sum::<i64>(), 80, "{parts:?}");
    assert_eq!(parts.len(), 12, "{parts:?}");
}

#[tokio::test]
async fn rows_of_ledger_and_audit_cannot_be_changed_or_deleted() {
    let temp = TempDatabase::open().await;
    let stores = temp.stores();
    stores.ledger.append(&[LedgerRow { started_at: at(2026, 10, 1), ..row("t", 1) }, row("t", 2)]).await.unwrap();
    let before = Rated::of(&row("t", 2));
    let made = Correction { request: request_id(2), started_at: 2, at: 3, after: before.clone(), before };
    assert_eq!(stores.usage.correct(&[made]).await.unwrap(), 1);
    stores.audit.record(&audit_row(1), &[put("t", 1)]).await.unwrap();
    let mut connection = temp.database.connect().await;
    for statement in [
        "UPDATE requests SET status = 1",
        "DELETE FROM requests",
        "DELETE FROM requests_2026_10",
        "TRUNCATE requests",
        "UPDATE attempts SET number = 9",
        "DELETE FROM attempts_2026_10",
        "TRUNCATE attempts",
        "UPDATE corrections SET at = 1",
        "DELETE FROM corrections",
        "UPDATE admin_audit SET actor = ''",
        "DELETE FROM admin_audit",
        "TRUNCATE admin_audit",
    ] {
        let error = raw_sql(statement).execute(&mut connection).await.unwrap_err();
        assert!(error.to_string().contains("append-only"), "{statement}: {error}");
    }
    assert_eq!((stores.ledger.count().await.unwrap(), stores.audit.trail(None, 9).await.unwrap().len()), (2, 1));
}
