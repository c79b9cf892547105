//! Several replicas in this process on one PostgreSQL and one Redis, behind one simulated upstream.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use remora::app::{App, Replacements};
use remora::config::{Config, Overrides};
use remora::embed::Embedder;
use remora::simulate::{self, Options};
use serde_json::Value;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, raw_sql};

use crate::child::{Http, chat_request, request, try_exchange, until};
use crate::rig::{Answer, bag_of_letters};

/// The value of a variable that names a service.
pub(crate) fn service(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!("{variable} is not set: this test needs a service; run `eval \"$(scripts/services.sh start)\"` first")
    })
}

/// A database of its own, dropped at the end.
pub(crate) struct Database {
    server: String,
    name: String,
}

impl Database {
    pub(crate) async fn new() -> Self {
        Self::on(&service("DATABASE_URL")).await
    }

    /// On another server than that of `DATABASE_URL`.
    pub(crate) async fn on(server: &str) -> Self {
        let name = format!("remora_it_{:016x}", fastrand::u64(..));
        run(server, &format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'")).await.unwrap();
        Self { server: server.to_owned(), name }
    }

    /// Its URL.
    pub(crate) fn url(&self) -> String {
        let (head, parameters) = match self.server.split_once('?') {
            Some((head, tail)) => (head, format!("?{tail}")),
            None => (self.server.as_str(), String::new()),
        };
        format!("{}/{}{parameters}", &head[..head.rfind('/').unwrap()], self.name)
    }

    /// The same with another address of the server, as of a proxy in between.
    pub(crate) fn url_at(&self, address: SocketAddr) -> String {
        format!("postgres://postgres@{address}/{}", self.name)
    }

    /// Runs a statement.
    pub(crate) async fn run(&self, sql: &str) {
        run(&self.url(), sql).await.unwrap();
    }

    /// The one number that a statement gives.
    pub(crate) async fn number(&self, sql: &str) -> i64 {
        let options: PgConnectOptions = self.url().parse().unwrap();
        let mut connection = options.connect().await.unwrap();
        let number = sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        number
    }
}

async fn run(server: &str, sql: &str) -> Result<(), sqlx::Error> {
    let options: PgConnectOptions = server.parse().unwrap();
    let mut connection = options.connect().await?;
    raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await?;
    connection.close().await
}

/// Roles for the SQL of callers belong to the server, not to the database.
const DROP_ROLES: &str = "DO $$ DECLARE r text; BEGIN IF to_regclass('rem_callers') IS NOT NULL THEN \
    FOR r IN SELECT role FROM rem_callers LOOP EXECUTE format('DROP ROLE IF EXISTS %I', r); END LOOP; END IF; END $$";

impl Drop for Database {
    fn drop(&mut self) {
        let url = self.url();
        let (server, sql) = (self.server.clone(), format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            // A server of the test's own may be gone already.
            let _ = runtime.block_on(run(&url, DROP_ROLES));
            let _ = runtime.block_on(run(&server, &sql));
        });
        let _joined = dropping.join();
    }
}

type Change = Arc<dyn Fn(usize, &mut Config) + Send + Sync>;

/// See the module. Dropping it stops everything.
pub(crate) struct Fleet {
    pub(crate) sim: simulate::Handle,
    pub(crate) database: Database,
    replicas: Vec<Option<App>>,
    client: Http,
    change: Change,
    dir: tempfile::TempDir,
}

impl Fleet {
    /// `count` replicas without Redis, at their defaults but for `change`, which also gets the replica's number.
    pub(crate) async fn start(
        count: usize,
        simulate: Options,
        change: impl Fn(usize, &mut Config) + Send + Sync + 'static,
    ) -> Self {
        Self::on(Database::new().await, count, simulate, change).await
    }

    /// The same on a given database.
    pub(crate) async fn on(
        database: Database,
        count: usize,
        simulate: Options,
        change: impl Fn(usize, &mut Config) + Send + Sync + 'static,
    ) -> Self {
        let sim = simulate::spawn(simulate, "127.0.0.1:0".parse().unwrap()).await.unwrap();
        let client = Client::builder(TokioExecutor::new()).build_http();
        let dir = tempfile::tempdir().unwrap();
        let replicas = (0..count).map(|_| None).collect();
        let mut fleet = Self { sim, database, replicas, client, change: Arc::new(change), dir };
        for number in 0..count {
            fleet.launch(number).await;
        }
        fleet
    }

    /// Starts a replica that does not run.
    pub(crate) async fn launch(&mut self, number: usize) {
        let overrides = Overrides {
            listen: Some("127.0.0.1:0".to_owned()),
            admin_listen: Some("127.0.0.1:0".to_owned()),
            rem_listen: Some("127.0.0.1:0".to_owned()),
            upstream: Some(format!("{}/v1", self.sim.url())),
            store: Some(self.database.url()),
            redis: None,
        };
        let mut config = Config::load(None, std::iter::empty(), &overrides).unwrap_or_else(|p| panic!("{p}"));
        config.cache.audit.rate = 0.0;
        config.store.journal_dir = self.dir.path().join(format!("journal-{number}"));
        (self.change)(number, &mut config);
        let replace = Replacements { embedder: Some(Embedder::fixed(8, bag_of_letters)), ..Replacements::default() };
        let app = App::start_with(config, replace).await.unwrap_or_else(|error| panic!("{error}"));
        self.replicas[number] = Some(app);
    }

    /// Stops a replica in order.
    pub(crate) async fn stop(&mut self, number: usize) {
        self.replicas[number].take().unwrap().stop_within(Duration::from_secs(10)).await;
    }

    pub(crate) fn app(&self, number: usize) -> &App {
        self.replicas[number].as_ref().unwrap()
    }

    /// A chat request to a replica.
    pub(crate) async fn chat(&self, number: usize, body: &Value) -> Answer {
        self.chat_with(number, "sk-fleet", &[], body).await
    }

    pub(crate) async fn chat_with(&self, number: usize, key: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        try_exchange(&self.client, chat_request(self.app(number).data, key, headers, body)).await.unwrap()
    }

    /// What a replica has in its cache for the request; asks nobody else.
    pub(crate) async fn cached(&self, number: usize, body: &Value) -> Option<Answer> {
        let answer = self.chat_with(number, "sk-fleet", &[("cache-control", "only-if-cached")], body).await;
        (answer.status == StatusCode::OK).then_some(answer)
    }

    /// Waits until a replica has an answer to the request.
    pub(crate) async fn learns(&self, number: usize, body: &Value) -> Answer {
        until("the replica has the answer", || self.cached(number, body)).await
    }

    /// Waits until a replica has no answer to the request.
    pub(crate) async fn forgets(&self, number: usize, body: &Value) {
        until("the replica has no answer", || async { self.cached(number, body).await.is_none().then_some(()) }).await;
    }

    /// A question to a replica's admin plane.
    pub(crate) async fn admin(&self, number: usize, method: Method, path: &str, body: Option<Value>) -> Answer {
        let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        try_exchange(&self.client, request(method, self.app(number).admin, path, &[], body)).await.unwrap()
    }

    /// Waits until all that the replicas have queued is in the store.
    pub(crate) async fn settle(&self) {
        for app in self.replicas.iter().flatten() {
            until("requests end", || async { (app.metrics.in_flight_now() == 0).then_some(()) }).await;
            assert!(app.flush().await, "the store does not take what is queued");
        }
    }
}
