//! Servers that fail, refuse and vanish: nothing is half written, and nothing that was not written counts as written.

use sqlx::query_scalar;

use super::super::super::sample::{entry, put, put_entry, row};
use super::super::super::{Counts, LedgerRow, Point, sample};
use super::*;

#[tokio::test]
async fn a_transaction_that_fails_half_way_leaves_nothing() {
    let temp = TempDatabase::open().await;
    temp.database
        .sql(
            "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$;
             CREATE TRIGGER a BEFORE INSERT ON points FOR EACH ROW WHEN (NEW.prompt = 'bad') EXECUTE FUNCTION no();
             CREATE TRIGGER b BEFORE INSERT ON requests FOR EACH ROW WHEN (NEW.status = 1) EXECUTE FUNCTION no();
             CREATE TRIGGER c BEFORE INSERT ON admin_audit FOR EACH ROW EXECUTE FUNCTION no();",
        )
        .await;
    let stores = temp.stores();
    let bad = Point { prompt: Some("bad".into()), ..sample::point("t", 2, 0) };
    let writes = [put("t", 1), put_entry(entry("t", 2), vec![bad])];
    assert_eq!(stores.entries.apply(&writes).await.unwrap_err().as_str(), "failed");
    assert_eq!(stores.audit.record(&audit_row(1), &[put("t", 3)]).await.unwrap_err().as_str(), "failed");
    assert_eq!(stores.entries.counts().await.unwrap(), Counts::default());
    assert_eq!(stores.changes.clone().unwrap().feed(0, 10).await.unwrap().head, 0);

    let rows = [row("t", 1), LedgerRow { status: 1, ..row("t", 2) }];
    assert_eq!(stores.ledger.append(&rows).await.unwrap_err().as_str(), "failed");
    assert_eq!(stores.ledger.count().await.unwrap(), 0);
    // The connection is usable again.
    stores.ledger.append(&rows[..1]).await.unwrap();
    assert_eq!(stores.ledger.count().await.unwrap(), 1);
}

#[tokio::test]
async fn a_backend_killed_in_mid_transaction_leaves_nothing_and_the_batch_is_written_whole_when_tried_again() {
    let temp = TempDatabase::open().await;
    let stores = temp.stores();
    stores.entries.apply(&[put("t", 1)]).await.unwrap();
    // Held by us, so that the transaction stands still after its first statement.
    let mut holder = temp.database.connect().await;
    raw_sql("BEGIN; LOCK TABLE bodies IN ACCESS EXCLUSIVE MODE").execute(&mut holder).await.unwrap();
    let writing = tokio::spawn({
        let stores = temp.stores();
        async move { stores.entries.apply(&[put("t", 2), put("t", 3)]).await }
    });
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
        WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE 'INSERT INTO bodies%'";
    let mut other = temp.database.connect().await;
    loop {
        let killed: Option<bool> = query_scalar(kill).fetch_optional(&mut other).await.unwrap();
        if killed.is_some() {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(writing.await.unwrap().unwrap_err().as_str(), "unreachable");
    raw_sql("ROLLBACK").execute(&mut holder).await.unwrap();
    assert_eq!(stores.entries.counts().await.unwrap(), Counts { entries: 1, points: 2 });
    for _ in 0..2 {
        stores.entries.apply(&[put("t", 2), put("t", 3)]).await.unwrap();
        assert_eq!(stores.entries.counts().await.unwrap(), Counts { entries: 3, points: 6 });
    }
    assert_eq!(stores.changes.unwrap().feed(0, 10).await.unwrap().head, 3);
}

#[tokio::test]
async fn all_connections_killed_at_rest_are_replaced_without_a_fault() {
    let temp = TempDatabase::open().await;
    let stores = temp.stores();
    stores.entries.apply(&[put("t", 1)]).await.unwrap();
    assert_eq!(stores.entries.counts().await.unwrap().entries, 1);
    let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name = 'remora'";
    let killed: i64 = query_scalar(kill).fetch_one(&mut temp.database.connect().await).await.unwrap();
    assert!(killed >= 2, "{killed}");
    stores.entries.apply(&[put("t", 2)]).await.unwrap();
    assert_eq!(stores.entries.counts().await.unwrap().entries, 2);
}

#[tokio::test]
async fn a_server_that_became_read_only_never_counts_a_write_as_done() {
    let temp = TempDatabase::open().await;
    let stores = temp.stores();
    stores.entries.apply(&[put("t", 1)]).await.unwrap();
    let name = temp.database.name.clone();
    temp.database.sql(&format!("ALTER DATABASE {name} SET default_transaction_read_only = on")).await;
    // New connections have the setting; those that are open are closed, as a fail-over does.
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
        WHERE datname = current_database() AND pid <> pg_backend_pid()";
    temp.database.sql(kill).await;
    let writes: [&[_]; 3] = [&[put("t", 2)], &[sample::delete("t", 1)], &[sample::delete("t", 9)]];
    for write in writes {
        assert_eq!(stores.entries.apply(write).await.unwrap_err().as_str(), "read_only");
    }
    assert_eq!(stores.ledger.append(&[row("t", 1)]).await.unwrap_err().as_str(), "read_only");
    assert_eq!(stores.audit.record(&audit_row(1), &[]).await.unwrap_err().as_str(), "read_only");
    assert_eq!(stores.notes.set_note("a", None).await.unwrap_err().as_str(), "read_only");
    let error = temp.database.refusal(Migrate::Auto).await;
    assert_eq!(error.as_str(), "read_only");
    assert!(error.to_string().contains("primary"), "{error}");
    assert_eq!(stores.entries.counts().await.unwrap(), Counts { entries: 1, points: 2 }, "reading goes on");

    // The connections of that time are not used again, so the next write finds the server that takes it.
    temp.database
        .sql(&format!("BEGIN; SET LOCAL transaction_read_only = off; ALTER DATABASE {name} RESET ALL; COMMIT"))
        .await;
    stores.entries.apply(&[put("t", 2)]).await.unwrap();
    stores.ledger.append(&[row("t", 1)]).await.unwrap();
    assert_eq!(stores.entries.counts().await.unwrap(), Counts { entries: 2, points: 4 });
}

#[tokio::test]
async fn a_server_that_is_not_there_or_does_not_let_us_in_is_named_without_the_password() {
    let server = env::var("DATABASE_URL").unwrap();
    let options: PgConnectOptions = server.parse().unwrap();
    let (host, port) = (options.get_host(), options.get_port());
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let cases = [
        (format!("postgres://me:hunter2@127.0.0.1:{free}/remora"), "unreachable"),
        (format!("postgres://{}:hunter2@{host}:{port}/no_such_database", options.get_username()), "missing"),
        (format!("postgres://no_such_user:hunter2@{host}:{port}/postgres"), "denied"),
    ];
    for (url, name) in cases {
        let url: StoreUrl = url.parse().unwrap();
        for error in [
            PostgresStore::open(&url, Migrate::Auto).await.map(|_| ()).unwrap_err(),
            PostgresStore::open_to_read(&url).await.map(|_| ()).unwrap_err(),
            super::super::status(&url).await.map(|_| ()).unwrap_err(),
        ] {
            assert_eq!(error.as_str(), name, "{error}");
            let text = format!("{error} {error:?}");
            assert!(text.contains(&url.to_string()) && !text.contains("hunter2"), "{text}");
        }
    }
}

#[tokio::test]
async fn a_database_in_another_encoding_is_refused_with_advice() {
    let database = EmptyDatabase::new().await;
    let name = database.name.clone();
    let options = database.options.clone().database("postgres");
    on(&options, &format!("DROP DATABASE {name}")).await;
    let create = format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'");
    on(&options, &create).await;
    let error = database.refusal(Migrate::Auto).await;
    assert_eq!(error.as_str(), "unsuitable");
    assert!(error.to_string().contains("SQL_ASCII") && error.to_string().contains("createdb"), "{error}");
}

#[tokio::test]
async fn a_user_who_may_not_set_up_pgvector_is_told_who_can() {
    let database = EmptyDatabase::new().await;
    let role = format!("{}_user", database.name);
    let options = database.options.clone();
    on(&options, &format!("CREATE ROLE {role} LOGIN; GRANT CREATE ON SCHEMA public TO {role}")).await;
    let url = format!("postgres://{role}@{}:{}/{}", options.get_host(), options.get_port(), database.name);
    let url: StoreUrl = url.parse().unwrap();
    let error = PostgresStore::open(&url, Migrate::Auto).await.map(|_| ()).unwrap_err();
    assert_eq!(error.as_str(), "unsuitable");
    assert!(error.to_string().contains("CREATE EXTENSION vector"), "{error}");
    database.sql("CREATE EXTENSION vector").await;
    PostgresStore::open(&url, Migrate::Auto).await.unwrap().close().await;
    on(&options, &format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

#[tokio::test]
async fn writes_that_meet_on_the_same_rows_are_tried_again_and_all_made() {
    let database = EmptyDatabase::new().await;
    let (one, two) = (database.open().await, database.open().await);
    let mut writing = Vec::new();
    for writer in 0..4u64 {
        let stores = if writer % 2 == 0 { one.stores() } else { two.stores() };
        writing.push(tokio::spawn(async move {
            for _ in 0..3 {
                // Half of them in the other order, as it makes deadlocks.
                let mut batch: Vec<_> =
                    (1..=5).flat_map(|number| [put("t", number), sample::link("t", number, 0, 6)]).collect();
                if writer % 2 == 0 {
                    batch.reverse();
                }
                stores.entries.apply(&batch).await?;
                let mut gone: Vec<_> = (1..=5).map(|number| sample::delete("t", number)).collect();
                if writer % 2 == 1 {
                    gone.reverse();
                }
                stores.entries.apply(&gone).await?;
            }
            Ok::<_, super::super::StoreError>(())
        }));
    }
    let mut conflicts = 0;
    for each in writing {
        if let Err(error) = each.await.unwrap() {
            // Given up after three times, or after the wait for a lock.
            assert!(["conflict", "busy"].contains(&error.as_str()), "{error}");
            conflicts += 1;
        }
    }
    assert!(conflicts < 4, "none of four got through");
    let feed = one.stores().changes.unwrap().feed(0, 100_000).await.unwrap();
    assert_eq!(feed.changes.len() as u64, feed.head, "no number without its change");
}
