//! Tests of what is particular to PostgreSQL, on a real server: schema, faults, the order of changes, searches.
//!
//! Each test has a database of its own on the server at DATABASE_URL, which is dropped at its end.

mod bulk;
mod counters;
mod faults;
mod feed;
mod ledger;
mod schema;
mod search;
mod usage;

use std::env;
use std::sync::Arc;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, raw_sql};

use super::super::conformance::Fixture;
use super::super::rem::{Owner, RemEdge, RemRow, RemTable, RemVector, RemWrite};
use super::super::sample::{
    alert_row, audit_row, decision, delete, key_row, learned, link, new_decision, put, row, tenant, tenant_record,
    token_row,
};
use super::super::{Correction, DirectoryWrite, Rated, Stores, TenantRow, UsageAsk};
use super::PostgresStore;
use crate::config::{Migrate, StoreUrl};
use crate::ids::RemId;

/// A new database on the server at `DATABASE_URL`.
pub(crate) struct EmptyDatabase {
    name: String,
    options: PgConnectOptions,
    pub(crate) url: StoreUrl,
}

impl EmptyDatabase {
    pub(crate) async fn new() -> Self {
        Self::with("").await
    }

    /// A new database with these options of `CREATE DATABASE`.
    pub(crate) async fn with(options_of_it: &str) -> Self {
        let server = env::var("DATABASE_URL").expect(
            "DATABASE_URL is not set: this test needs PostgreSQL; run `eval \"$(scripts/services.sh start)\"` first",
        );
        let options: PgConnectOptions = server.parse().expect("DATABASE_URL is not a PostgreSQL URL");
        let name = format!("remora_test_{:016x}", fastrand::u64(..));
        on(&options, &format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8' {options_of_it}")).await;
        let (head, parameters) = server.split_once('?').map_or((&*server, ""), |(head, tail)| (head, tail));
        let base = &head[..head.rfind('/').expect("DATABASE_URL names no database")];
        let url = format!("{base}/{name}?{parameters}").parse().unwrap();
        Self { options: options.database(&name), name, url }
    }

    /// Runs SQL in it, as somebody else would.
    pub(crate) async fn sql(&self, text: &str) {
        on(&self.options, text).await;
    }

    pub(crate) async fn connect(&self) -> PgConnection {
        self.options.connect().await.unwrap()
    }

    pub(crate) async fn open(&self) -> Arc<PostgresStore> {
        PostgresStore::open(&self.url, Migrate::Auto).await.unwrap()
    }

    async fn refusal(&self, migrate: Migrate) -> super::StoreError {
        match PostgresStore::open(&self.url, migrate).await {
            Ok(_) => panic!("{} was opened", self.url),
            Err(error) => error,
        }
    }
}

impl Drop for EmptyDatabase {
    fn drop(&mut self) {
        // The test's runtime cannot be waited on here.
        let (options, drop) = (self.options.clone(), format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(on(&options.database("postgres"), &drop));
        });
        let _joined = dropping.join();
    }
}

/// A new database that is open.
pub(crate) struct TempDatabase {
    pub(crate) store: Arc<PostgresStore>,
    pub(crate) database: EmptyDatabase,
}

impl Fixture for TempDatabase {
    async fn open() -> Self {
        let database = EmptyDatabase::new().await;
        Self { store: database.open().await, database }
    }

    fn stores(&self) -> Stores {
        self.store.stores()
    }
}

async fn on(options: &PgConnectOptions, text: &str) {
    let mut connection = options.connect().await.unwrap();
    raw_sql(AssertSqlSafe(text)).execute(&mut connection).await.unwrap();
    sqlx::Connection::close(connection).await.unwrap();
}

/// Rows in every table.
async fn fill(stores: &Stores) {
    let mut writes: Vec<_> = (1..=50).map(|number| put("t", number)).collect();
    writes.extend([link("t", 4, 0, 3), link("t", 6, 1, 5), delete("t", 7)]);
    stores.entries.apply(&writes).await.unwrap();
    let rows: Vec<_> = (1..=50).map(|number| row("t", number)).collect();
    stores.ledger.append(&rows).await.unwrap();
    let before = Rated::of(&rows[0]);
    let after = Rated { cost: Some(77), ..before.clone() };
    let made = Correction { request: rows[0].request, started_at: 1, at: 9, before, after };
    assert_eq!(stores.usage.correct(&[made]).await.unwrap(), 1);
    stores.audit.record(&audit_row(1), &[]).await.unwrap();
    let decisions: Vec<_> = (1..=20).map(|number| new_decision(decision("t", number))).collect();
    stores.decisions.write(&decisions).await.unwrap();
    stores.decisions.save_learned(&[learned("t", "gpt-4o", 1)]).await.unwrap();
    let known = TenantRow { tenant: tenant("t"), declared: true, created_at: 1, updated_at: 2 };
    stores.tenants.upsert(&[known]).await.unwrap();
    stores.notes.set_note("made by", Some("test")).await.unwrap();
    let writes = [
        DirectoryWrite::PutTenant(tenant_record("ann")),
        DirectoryWrite::PutKey(key_row("ann", 1)),
        DirectoryWrite::PutToken(token_row(1)),
    ];
    stores.directory.change_directory(0, &writes, &[audit_row(2)]).await.unwrap();
    stores.alerts.raise(&alert_row("ann", 1), &["webhook".to_owned()]).await.unwrap();
    stores.rem.as_ref().unwrap().rem_apply(&tenant("t"), &rem_writes()).await.unwrap();
}

/// A row of REM data with a name, a vector and an edge, and one that is hidden.
fn rem_writes() -> [RemWrite; 2] {
    let id = |number: u128| RemId::from_bytes(number.to_be_bytes());
    let row = |number, deleted_at| RemRow {
        id: id(number),
        table: RemTable::Resources,
        owner: Owner::Public,
        name: format!("Document {number}"),
        text: "some text".into(),
        label: "note".into(),
        uri: None,
        tags: vec!["tag".into()],
        data: serde_json::Map::new(),
        aliases: vec!["another name".into()],
        starts_at: None,
        ends_at: None,
        previous: None,
        part_of: None,
        entry: None,
        made: true,
        writer: None,
        created_at: 1,
        updated_at: 2,
        deleted_at,
    };
    let vector = RemVector { space: "minilm@1/3".into(), vector: vec![0.6, 0.8, 0.0] };
    let edge = RemEdge {
        source: id(1),
        source_table: RemTable::Resources,
        kind: "references".into(),
        target: "Document 2".into(),
        weight: 0.5,
        properties: serde_json::Map::new(),
        created_at: 1,
    };
    [
        RemWrite::Put { row: Box::new(row(1, None)), vector: Some(vector), edges: Some(vec![edge]) },
        RemWrite::Put { row: Box::new(row(2, Some(3))), vector: None, edges: None },
    ]
}

/// All that the storage traits tell of a database.
async fn everything(stores: &Stores) -> String {
    format!(
        "{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}",
        stores.entries.export(None, 1_000).await.unwrap(),
        stores.ledger.page(None, 1_000).await.unwrap(),
        stores.audit.audit_page(None, 1_000).await.unwrap(),
        stores.decisions.since(None, 0, None, 1_000).await.unwrap(),
        stores.decisions.learned().await.unwrap(),
        stores.tenants.list().await.unwrap(),
        stores.notes.note("made by").await.unwrap(),
        stores.directory.directory().await.unwrap(),
        stores.audit.audit_chain(0, 1_000).await.unwrap(),
        stores.alerts.alerts(None, None, 1_000).await.unwrap(),
        stores.usage.correction_page(None, 1_000).await.unwrap(),
        stores.usage.usage(&UsageAsk { until: 86_400_000, ..UsageAsk::default() }).await.unwrap(),
        stores.rem.as_ref().unwrap().rem_export(None, 1_000).await.unwrap(),
    )
}
