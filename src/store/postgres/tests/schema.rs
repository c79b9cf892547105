//! The schema goes both ways and keeps all data, however many programs start at once.

use std::collections::BTreeSet;

use sqlx::{Row, query, query_scalar};

use super::super::super::migrate::{self, Way};
use super::super::super::sample::{put, row};
use super::super::{LATEST, STEPS};
use super::*;

/// Tables, columns and indexes with their definitions, but for what exists once only by its time.
async fn schema(database: &EmptyDatabase) -> BTreeSet<String> {
    let sql = "SELECT 'column ' || table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable AS line
            FROM information_schema.columns WHERE table_schema = 'public'
        UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'
        UNION ALL SELECT 'trigger ' || tgrelid::regclass || ' ' || tgname FROM pg_trigger";
    let rows = query(sql).fetch_all(&mut database.connect().await).await.unwrap();
    rows.iter().map(|row| row.get::<Option<String>, _>(0).unwrap_or_default()).collect()
}

#[tokio::test]
async fn down_and_up_again_leaves_schema_and_data_equal() {
    let temp = TempDatabase::open().await;
    fill(&temp.stores()).await;
    let (url, before) = (&temp.database.url, (schema(&temp.database).await, everything(&temp.stores()).await));
    assert!(before.1.contains("prompt 50.1") && before.1.contains("\"test\""));

    assert_eq!(migrate::down(url, 1).await.unwrap(), ["rem", "money", "tenancy", "changes", "indexes"]);
    let lower = schema(&temp.database).await;
    assert!(!lower.iter().any(|line| line.contains("hnsw")), "the step down did nothing");
    assert_eq!(everything(&temp.stores()).await, before.1, "one step down everything is there");
    let status = migrate::status(url).await.unwrap();
    assert_eq!((status.current, status.pending), (1, vec!["indexes", "changes", "tenancy", "money", "rem"]));

    assert_eq!(migrate::up(url, Some(2)).await.unwrap(), ["indexes"]);
    assert_eq!(migrate::up(url, None).await.unwrap(), ["changes", "tenancy", "money", "rem"]);
    assert_eq!(migrate::up(url, None).await.unwrap(), [""; 0], "a second time there is nothing to do");
    assert_eq!((schema(&temp.database).await, everything(&temp.stores()).await), before);
    assert!(before.0.iter().any(|line| line.contains("hnsw") && line.contains("halfvec")));
}

#[tokio::test]
async fn a_reader_of_changes_sees_a_gap_after_the_way_down_and_up() {
    let temp = TempDatabase::open().await;
    let stores = temp.stores();
    stores.entries.apply(&[put("t", 1)]).await.unwrap();
    let changes = stores.changes.clone().unwrap();
    assert_eq!(changes.feed(0, 10).await.unwrap().head, 1);
    migrate::down(&temp.database.url, 2).await.unwrap();
    migrate::up(&temp.database.url, None).await.unwrap();
    let feed = changes.feed(1, 10).await.unwrap();
    assert_eq!((feed.head, feed.oldest, feed.changes.len()), (2, 3, 0), "number 2 is nobody's");
    stores.entries.apply(&[put("t", 2)]).await.unwrap();
    assert_eq!(changes.feed(1, 10).await.unwrap().oldest, 3);
}

#[tokio::test]
async fn ten_programs_that_start_together_migrate_once() {
    let database = EmptyDatabase::new().await;
    let starting: Vec<_> = (0..10)
        .map(|_| {
            let url = database.url.clone();
            tokio::spawn(async move { PostgresStore::open(&url, Migrate::Auto).await.map(|_| ()) })
        })
        .collect();
    for started in starting {
        started.await.unwrap().unwrap();
    }
    let sql = "SELECT string_agg(version || ' ' || name, ', ' ORDER BY version) FROM remora_schema";
    let taken: String = query_scalar(sql).fetch_one(&mut database.connect().await).await.unwrap();
    assert_eq!(taken, "1 tables, 2 indexes, 3 changes, 4 tenancy, 5 money, 6 rem");
}

#[tokio::test]
async fn a_step_that_was_killed_half_way_is_taken_by_the_next_program() {
    let database = EmptyDatabase::new().await;
    migrate::up(&database.url, Some(1)).await.unwrap();
    // Held by us, so that the step stands still in its middle.
    let mut holder = database.connect().await;
    raw_sql("BEGIN; LOCK TABLE decisions IN ACCESS SHARE MODE").execute(&mut holder).await.unwrap();
    raw_sql("LOCK TABLE decisions IN ACCESS EXCLUSIVE MODE").execute(&mut holder).await.unwrap();
    let url = database.url.clone();
    let stepping = tokio::spawn(async move { migrate::up(&url, None).await });
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
        WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE 'CREATE INDEX%'";
    let mut other = database.connect().await;
    loop {
        let killed: Option<bool> = query_scalar(kill).fetch_optional(&mut other).await.unwrap();
        if killed.is_some() {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(stepping.await.unwrap().unwrap_err().as_str(), "unreachable");
    raw_sql("ROLLBACK").execute(&mut holder).await.unwrap();
    let left: i64 = query_scalar("SELECT count(*) FROM pg_indexes WHERE indexname = 'entries_by_expiry'")
        .fetch_one(&mut other)
        .await
        .unwrap();
    assert_eq!((left, migrate::status(&database.url).await.unwrap().current), (0, 1), "nothing is left of it");
    assert_eq!(migrate::up(&database.url, None).await.unwrap(), ["indexes", "changes", "tenancy", "money", "rem"]);
}

#[tokio::test]
async fn a_newer_schema_is_refused_unless_it_says_that_this_program_can_work_on_it() {
    let temp = TempDatabase::open().await;
    temp.stores().entries.apply(&[put("t", 1)]).await.unwrap();
    let newer = |compatible: u32| {
        format!("INSERT INTO remora_schema (version, name, program, compatible) VALUES (900, 'x', '9', {compatible})")
    };
    let database = &temp.database;
    database.sql(&newer(LATEST + 1)).await;
    let error = database.refusal(Migrate::Auto).await;
    assert_eq!(error.as_str(), "newer_schema");
    assert!(error.to_string().contains("schema 900") && error.to_string().contains("Run the newer program"), "{error}");
    for error in [
        migrate::status(&database.url).await.unwrap_err(),
        migrate::up(&database.url, None).await.unwrap_err(),
        PostgresStore::open_to_read(&database.url).await.map(|_| ()).unwrap_err(),
    ] {
        assert_eq!(error.as_str(), "newer_schema");
    }

    database.sql("DELETE FROM remora_schema WHERE version = 900").await;
    database.sql(&newer(LATEST)).await;
    let store = database.open().await;
    store.stores().entries.apply(&[put("t", 2)]).await.unwrap();
    assert_eq!(store.stores().entries.counts().await.unwrap().entries, 2);
    assert_eq!(migrate::up(&database.url, None).await.unwrap(), [""; 0]);
    assert_eq!(migrate::down(&database.url, 1).await.unwrap_err().as_str(), "newer_schema", "its steps are not known");
}

#[tokio::test]
async fn an_older_schema_is_refused_under_manual_and_migrated_under_auto() {
    let temp = TempDatabase::open().await;
    migrate::down(&temp.database.url, 1).await.unwrap();
    let error = temp.database.refusal(Migrate::Manual).await;
    assert_eq!(error.as_str(), "older_schema");
    assert!(error.to_string().contains("remora migrate up"), "{error}");
    assert_eq!(PostgresStore::open_to_read(&temp.database.url).await.map(|_| ()).unwrap_err().as_str(), "older_schema");
    temp.database.open().await;
    assert_eq!(migrate::status(&temp.database.url).await.unwrap().current, LATEST);
    // An empty database is new, and is set up whatever is said of migrations.
    let empty = EmptyDatabase::new().await;
    assert_eq!(PostgresStore::open_to_read(&empty.url).await.map(|_| ()).unwrap_err().as_str(), "unsuitable");
    PostgresStore::open(&empty.url, Migrate::Manual).await.unwrap();
}

#[tokio::test]
async fn a_plan_shows_the_sql_and_changes_nothing() {
    let database = EmptyDatabase::new().await;
    let plan = migrate::plan(&database.url, None).await.unwrap();
    assert_eq!(
        plan.iter().map(|step| (step.version, step.way)).collect::<Vec<_>>(),
        [(1, Way::Up), (2, Way::Up), (3, Way::Up), (4, Way::Up), (5, Way::Up), (6, Way::Up)]
    );
    assert!(plan[0].sql.contains("CREATE TABLE entries") && plan[1].sql.contains("hnsw"));
    assert_eq!(migrate::status(&database.url).await.unwrap().current, 0);
    database.open().await;
    let down = migrate::plan(&database.url, Some(2)).await.unwrap();
    assert_eq!(
        down.iter().map(|step| (step.name, step.way)).collect::<Vec<_>>(),
        [("rem", Way::Down), ("money", Way::Down), ("tenancy", Way::Down), ("changes", Way::Down)]
    );
    for (asked, name) in [(0, "no_such_version"), (900, "no_such_version")] {
        assert_eq!(migrate::plan(&database.url, Some(asked)).await.unwrap_err().as_str(), name, "{asked}");
    }
    assert_eq!(STEPS.len(), 6);
}

#[tokio::test]
async fn a_database_of_another_program_is_refused_untouched() {
    let database = EmptyDatabase::new().await;
    database.sql("CREATE TABLE entries (theirs text); INSERT INTO entries VALUES ('x')").await;
    let error = database.refusal(Migrate::Auto).await;
    assert_eq!(error.as_str(), "foreign", "{error}");
    assert!(error.to_string().contains("database of its own"), "{error}");
    let tables: i64 = query_scalar("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
        .fetch_one(&mut database.connect().await)
        .await
        .unwrap();
    assert_eq!(tables, 1);
}

#[tokio::test]
async fn what_was_written_is_there_after_closing_and_opening_again() {
    let temp = TempDatabase::open().await;
    fill(&temp.stores()).await;
    let before = everything(&temp.stores()).await;
    temp.store.close().await;
    assert_eq!(temp.stores().ledger.append(&[row("t", 99)]).await.unwrap_err().as_str(), "closed");
    let again = PostgresStore::open(&temp.database.url, Migrate::Manual).await.unwrap();
    assert_eq!(everything(&again.stores()).await, before);
    let reading = PostgresStore::open_to_read(&temp.database.url).await.unwrap();
    assert_eq!(everything(&reading.stores()).await, before);
    assert_eq!(reading.stores().entries.apply(&[put("t", 99)]).await.unwrap_err().as_str(), "read_only");
}
