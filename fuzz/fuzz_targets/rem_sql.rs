//! SQL of callers on real databases that hold canaries of another tenant, of another key, and hidden ones. Any text is refused by the check
//! or printed as its own print; the print, and the text as if there were no check, is run as a caller; no answer holds a canary and no
//! table changes. On SQLite, and on PostgreSQL in the empty database `FUZZ_DATABASE_URL` if there is one.

#![no_main]

use std::sync::OnceLock;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use remora::config::Migrate;
use remora::ids::{KeyId, RemId, TenantId};
use remora::rem::guard::check;
use remora::store::rem::{Owner, RemEdge, RemRow, RemTable, RemWrite, Scope, SqlCaps};
use remora::store::{Database, Stores};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};

const CANARY: &str = "CANARY";
const CAPS: SqlCaps = SqlCaps { rows: 200, bytes: 1 << 16, time: Duration::from_millis(200) };

/// What must not change: every table whose rows a statement might reach.
const CONTENTS: &str = "SELECT md5(string_agg(r::text, '|' ORDER BY r::text)) || (SELECT count(*) FROM pg_class WHERE relkind = 'r' \
    AND relnamespace = 'public'::regnamespace) FROM (SELECT r::text FROM rem_rows AS r UNION ALL SELECT e::text FROM rem_edges AS e \
    UNION ALL SELECT n::text FROM rem_names AS n UNION ALL SELECT q::text FROM requests AS q) AS r";

/// Ledger rows of the caller, of another key and of another tenant. `BLOB` and `FALSE` are written by each database in its own way.
const REQUESTS: &str = "INSERT INTO requests (id, started_at, tenant, key, \"user\", tags, route, dialect, model_asked, stream, outcome, \
    similarity, status, tokens_input, tokens_cache_read, tokens_cache_write, tokens_output, tokens_reasoning, latency_us, overhead_us, \
    cost_nano_usd, saved_nano_usd, tokens_cache_write_1h) VALUES (BLOB, 1700000000000, 'TENANT', 'KEY', 'USER', '[]', 'chat', 'openai', 'm', \
    FALSE, 'miss', 0.9, 200, 10, 5, 0, 7, 1, 1500, 10, 100000000, 25, 0)";

fn requests(blob: fn(u8) -> String, no: &str) -> String {
    let rows = [("a", "a/k1", "me"), ("a", "k1", "me"), ("a", "k2", CANARY), ("b", "k1", CANARY)];
    let each = (1_u8..).zip(rows).map(|(number, (tenant, key, user))| {
        let text = REQUESTS.replace("BLOB", &blob(number)).replace("FALSE", no);
        text.replace("TENANT", tenant).replace("KEY", key).replace("USER", user)
    });
    each.collect::<Vec<_>>().join(";")
}

struct World {
    runtime: tokio::runtime::Runtime,
    scope: Scope,
    sqlite: Stores,
    /// Sees whether anybody has written to the file.
    file: std::sync::Mutex<rusqlite::Connection>,
    version: i64,
    postgres: Option<(Stores, tokio::sync::Mutex<PgConnection>, String)>,
    _open: (Database, Option<Database>, tempfile::TempDir),
}

fn row(number: u8, key: &str, table: RemTable, name: &str, hidden: bool) -> RemRow {
    RemRow {
        id: RemId::from_bytes([number; 16]),
        table,
        owner: if key == "public" { Owner::Public } else { Owner::Key(KeyId::new(key)) },
        name: name.to_owned(),
        text: format!("{name} says what it knows"),
        label: "label".to_owned(),
        uri: None,
        tags: vec!["tag".to_owned()],
        data: serde_json::Map::new(),
        aliases: vec![format!("{name} too")],
        starts_at: None,
        ends_at: None,
        previous: None,
        part_of: None,
        entry: None,
        writer: None,
        made: false,
        created_at: 1_700_000_000_000,
        updated_at: 1_700_000_000_000,
        deleted_at: hidden.then_some(1_700_000_000_000),
    }
}

async fn fill(stores: &Stores) {
    let rem = stores.rem.as_ref().expect("both databases have REM");
    for (number, (tenant, key, name, hidden)) in [
        ("a", "public", "guide", false),
        ("a", "k1", "mine", false),
        ("a", "k2", "CANARY of a key", false),
        ("b", "public", "CANARY of a tenant", false),
        ("b", "k1", "CANARY of a namesake", false),
        ("a", "k1", "CANARY hidden", true),
    ]
    .into_iter()
    .enumerate()
    {
        for (at, table) in RemTable::WRITTEN.into_iter().enumerate() {
            let row = row(u8::try_from(1 + number * 3 + at).expect("few rows"), key, table, name, hidden);
            let edge = RemEdge {
                source: row.id,
                source_table: table,
                kind: "knows".to_owned(),
                target: name.to_owned(),
                weight: 0.5,
                properties: serde_json::Map::new(),
                created_at: 0,
            };
            let put = RemWrite::Put { row: Box::new(row), vector: None, edges: Some(vec![edge]) };
            rem.rem_apply(&TenantId::new(tenant), &[put]).await.expect("a row is written");
        }
    }
}

async fn postgres() -> Option<(Stores, tokio::sync::Mutex<PgConnection>, String, Database)> {
    let url = std::env::var("FUZZ_DATABASE_URL").ok()?;
    let database = Database::open(&url.parse().expect("a URL"), Migrate::Auto).await.expect("opens");
    let stores = database.stores();
    fill(&stores).await;
    let mut witness = PgConnection::connect(&url).await.expect("FUZZ_DATABASE_URL answers");
    let ledger = requests(|number| format!("'\\x{number:032x}'::bytea"), "false");
    witness.execute(AssertSqlSafe(ledger)).await.expect("ledger rows are written");
    let before = contents(&mut witness).await;
    Some((stores, tokio::sync::Mutex::new(witness), before, database))
}

async fn contents(witness: &mut PgConnection) -> String {
    witness.fetch_one(CONTENTS).await.expect("the tables can be read").get(0)
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("fuzz.db");
        let (sqlite, postgres) = runtime.block_on(async {
            let url = format!("sqlite://{}", path.display()).parse().expect("a URL");
            let database = Database::open(&url, Migrate::Auto).await.expect("opens");
            fill(&database.stores()).await;
            (database, postgres().await)
        });
        let (server, postgres) = match postgres {
            Some((stores, witness, before, database)) => (Some(database), Some((stores, witness, before))),
            None => (None, None),
        };
        let file = rusqlite::Connection::open(&path).expect("opens");
        file.execute_batch(&requests(|number| format!("x'{number:032x}'"), "0")).expect("ledger rows are written");
        World {
            scope: Scope { tenant: TenantId::new("a"), key: KeyId::new("k1") },
            sqlite: sqlite.stores(),
            version: version(&file),
            file: std::sync::Mutex::new(file),
            postgres,
            runtime,
            _open: (sqlite, server, dir),
        }
    })
}

fn version(file: &rusqlite::Connection) -> i64 {
    file.query_row("PRAGMA data_version", [], |row| row.get(0)).expect("a number")
}

impl World {
    fn run(&self, stores: &Stores, text: &str) {
        let sql = stores.sql.as_ref().expect("both databases have SQL");
        if let Ok(answer) = self.runtime.block_on(sql.select(&self.scope, text, CAPS)) {
            let told = format!("{answer:?}");
            // What the statement says itself it may say again.
            assert!(!told.contains(CANARY) || text.contains(CANARY), "{text}\n{told}");
        }
    }
}

fuzz_target!(|text: &str| {
    let world = world();
    let printed = check(text);
    if let Ok(printed) = &printed {
        assert_eq!(check(printed).as_ref(), Ok(printed));
    }
    for stores in std::iter::once(&world.sqlite).chain(world.postgres.iter().map(|(stores, ..)| stores)) {
        world.run(stores, text);
        if let Ok(printed) = &printed {
            world.run(stores, printed);
        }
    }
    assert_eq!(version(&world.file.lock().expect("one thread")), world.version, "the file was written to: {text}");
    if let Some((_, witness, before)) = &world.postgres {
        // Reading all tables is the dearest part, and a change stays to be seen.
        if fastrand::u8(..) == 0 || printed.is_ok() {
            let now = world.runtime.block_on(async { contents(&mut *witness.lock().await).await });
            assert_eq!(&now, before, "a table has changed, at the latest by: {text}");
        }
    }
});
