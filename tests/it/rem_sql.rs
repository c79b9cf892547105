//! SQL of callers as a whole: what a person writes, checked, run on both databases, with equal answers; and hostile statements,
//! which the check keeps from both.

use std::sync::Arc;
use std::time::Duration;

use remora::config::{Migrate, StoreUrl};
use remora::ids::{KeyId, TenantId};
use remora::rem::guard::check;
use remora::store::rem::{Scope, SqlCaps, SqlGuarded};
use remora::store::{PostgresStore, SqliteStore};

use crate::fleet::Database;

const CAPS: SqlCaps = SqlCaps { rows: 1_000, bytes: 1 << 20, time: Duration::from_secs(30) };

struct Both {
    sqlite: Arc<SqliteStore>,
    postgres: Arc<PostgresStore>,
    path: std::path::PathBuf,
    database: Database,
    _directory: tempfile::TempDir,
}

impl Both {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("remora.db");
        let sqlite = SqliteStore::open(&path, Migrate::Auto).await.unwrap();
        let database = Database::new().await;
        let url: StoreUrl = database.url().parse().unwrap();
        let postgres = PostgresStore::open(&url, Migrate::Auto).await.unwrap();
        Self { sqlite, postgres, path, database, _directory: directory }
    }

    /// A row of `rem_rows` in both.
    async fn row(&self, number: u32, tenant: &str, owner: &str, tab: u8, name: &str, text: &str) {
        let row = |id: String, no: &str| {
            format!(
                "INSERT INTO rem_rows (tenant, id, tab, owner, name, text, label, tags, data, aliases, part, made, created_at, updated_at) \
                 VALUES ('{tenant}', {id}, {tab}, '{owner}', '{name}', '{text}', 'label', '[]', '{{}}', '[]', {number}, {no}, \
                 {number}000, {number}500)"
            )
        };
        self.database.run(&row(format!("'\\x{number:032x}'::bytea"), "false")).await;
        let file = rusqlite::Connection::open(&self.path).unwrap();
        file.execute(&row(format!("x'{number:032x}'"), "0"), []).unwrap();
    }
}

fn scope(tenant: &str, key: &str) -> Scope {
    Scope { tenant: TenantId::new(tenant), key: KeyId::new(key) }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_write_gives_equal_answers_on_both_databases() {
    let both = Both::new().await;
    both.row(1, "a", "public", 0, "guide", "What everybody knows").await;
    both.row(2, "a", "key:k1", 0, "Über uns", "ä 100%").await;
    both.row(3, "a", "key:k1", 1, "Sarah Chen", "").await;
    both.row(4, "a", "key:k2", 0, "CANARY", "CANARY").await;
    both.row(5, "b", "key:k1", 0, "CANARY", "CANARY").await;
    let mut rows = 0;
    for text in [
        "SELECT * FROM resources ORDER BY name",
        "select r.name, length(content) as n from resources r where owner like 'key:%' or content like '%every%' order by 1",
        "select count(*), sum(part), avg(part), min(name), max(created_at) from resources",
        "select name from resources union all select name from entities order by 1 desc",
        "select category, count(*) as n from resources group by category having count(*) >= 1",
        "select 7 / 2, 7 % 4, -7 / 2, 7 / 0, 7.0 / 2, 1.5 * 2, 10 / 4.0",
        "select round(2.5), round(1.25, 1), cast(2.5 as int), cast('12' as integer) + 1, abs(-3)",
        "select substr(name, 1, 3), upper(name), lower(name), trim('  x '), name || '-' || lower(name) || 1 from entities",
        "select coalesce(uri, 'none'), nullif(part, 1), case when part > 1 then 'b' else 'a' end from resources order by part",
        "select name, row_number() over (order by part desc), lag(name) over (order by part) from resources order by part",
        "with x as (select name, part from resources) select a.name, b.name from x a join x b on a.part < b.part order by 1, 2",
        "select name, (select count(*) from entities) from resources where part in (1, 2, 3) order by name limit 1 offset 1",
        "select e.name from entities e where exists (select 1 from resources r where r.id < e.id) and not e.name is null",
        "select distinct category from resources where uri is null and part between 1 and 9",
        "select a.name, b.name from resources a left join entities b on b.part_of = a.id",
        "select a.name, b.name from resources a left join entities b on b.id = a.id order by a.name",
        "select count(distinct owner), count(*) filter (where part = 1) from resources",
        "select uri from resources order by uri desc, name",
    ] {
        // One of them names a column that is not there.
        let Ok(text) = check(text) else {
            assert!(text.contains("part_of"), "{text}: {:?}", check(text));
            continue;
        };
        let file = both.sqlite.select(&scope("a", "k1"), &text, CAPS).await;
        let server = both.postgres.select(&scope("a", "k1"), &text, CAPS).await;
        assert_eq!(file, server, "{text}");
        let answer = file.unwrap_or_else(|fault| panic!("{text}: {fault}"));
        assert!(!format!("{answer:?}").contains("CANARY"), "{text}: {answer:?}");
        rows += answer.rows.len();
    }
    assert!(rows > 20, "{rows}");
    both.postgres.forget(&TenantId::new("a"), None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_statements_reach_neither_database() {
    for line in include_str!("../data/hostile.sql").lines() {
        let (_, text) = line.split_once('\t').unwrap();
        if let Ok(printed) = check(text) {
            panic!("{text}: {printed}");
        }
    }
}
