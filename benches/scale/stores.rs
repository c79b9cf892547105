//! Databases of the run: made, filled, measured, dropped.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use remora::config::{Migrate, Secret, StoreUrl};
use remora::store::{EntryStore, PostgresStore, SqliteStore};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, query_scalar, raw_sql};

use crate::Fault;
use crate::data::Data;

/// Entries of one transaction.
const BATCH: usize = 512;

/// Bytes on disk of the tables with their indexes; of the vector index; of the tables that hold vectors, without it.
const DISK: [(&str, &str); 3] = [
    (
        "all",
        "SELECT sum(pg_total_relation_size(c.oid))::bigint FROM pg_class AS c JOIN pg_namespace AS n \
            ON n.oid = c.relnamespace WHERE c.relkind = 'r' AND n.nspname = 'public'",
    ),
    (
        "vector index",
        "SELECT coalesce(sum(pg_relation_size(oid)), 0)::bigint FROM pg_class WHERE relkind = 'i' AND relname LIKE 'vectors%nearest'",
    ),
    (
        "vectors",
        "SELECT coalesce(sum(pg_table_size(oid)), 0)::bigint FROM pg_class WHERE relkind = 'r' AND relname LIKE 'vectors%'",
    ),
];

/// A PostgreSQL database of its own.
pub(crate) struct Postgres {
    server: PgConnectOptions,
    name: String,
    pub(crate) url: String,
}

impl Postgres {
    pub(crate) async fn create() -> Result<Self, Fault> {
        let server = std::env::var("DATABASE_URL")
            .map_err(|_| "DATABASE_URL is not set: run `eval \"$(scripts/services.sh start)\"` first")?;
        let name = format!("remora_bench_{:016x}", fastrand::u64(..));
        let url = format!("{}/{name}", server.rsplit_once('/').ok_or("DATABASE_URL without a database")?.0);
        let this = Self { server: server.parse()?, name, url };
        this.run(&this.server, &format!("CREATE DATABASE {}", this.name)).await?;
        Ok(this)
    }

    pub(crate) async fn open(&self) -> Result<Arc<PostgresStore>, Fault> {
        let url = StoreUrl::Postgres(Secret::new(self.url.clone()));
        Ok(PostgresStore::open(&url, Migrate::Auto).await?)
    }

    /// What a server does by itself in time: statistics, visibility.
    pub(crate) async fn settle(&self) -> Result<(), Fault> {
        self.run(&self.of_database(), "VACUUM ANALYZE").await?;
        self.run(&self.of_database(), "CHECKPOINT").await
    }

    /// Bytes on disk by kind.
    pub(crate) async fn disk(&self) -> Result<[(&'static str, f64); 3], Fault> {
        let mut connection: PgConnection = self.of_database().connect().await?;
        let mut sizes = DISK.map(|(kind, _)| (kind, 0.0));
        for ((_, statement), size) in DISK.into_iter().zip(&mut sizes) {
            size.1 = query_scalar::<_, i64>(statement).fetch_one(&mut connection).await? as f64;
        }
        Ok(sizes)
    }

    pub(crate) async fn drop(self) -> Result<(), Fault> {
        self.run(&self.server, &format!("DROP DATABASE {} WITH (FORCE)", self.name)).await
    }

    fn of_database(&self) -> PgConnectOptions {
        self.server.clone().database(&self.name)
    }

    async fn run(&self, to: &PgConnectOptions, sql: &str) -> Result<(), Fault> {
        let mut connection = to.connect().await?;
        raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await?;
        Ok(())
    }
}

/// Stores these entries; returns the time that the store took, without making them.
pub(crate) async fn fill(
    store: &dyn EntryStore,
    data: &Data,
    numbers: std::ops::Range<usize>,
) -> Result<Duration, Fault> {
    let mut took = Duration::ZERO;
    let end = numbers.end;
    for from in numbers.step_by(BATCH) {
        let writes: Vec<_> = (from..end.min(from + BATCH)).map(|number| data.put(number)).collect();
        let began = Instant::now();
        store.apply(&writes).await?;
        took += began.elapsed();
    }
    Ok(took)
}

/// A SQLite file with the first `count` entries: how long the store took, and the bytes of the file.
pub(crate) async fn sqlite(path: &Path, data: &Data, count: usize) -> Result<(Duration, f64), Fault> {
    let store = SqliteStore::open(path, Migrate::Auto).await?;
    let took = fill(&*store, data, 0..count).await?;
    store.close().await;
    let bytes = std::fs::metadata(path)?.len();
    Ok((took, bytes as f64))
}
