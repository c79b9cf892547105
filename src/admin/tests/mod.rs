mod access;
mod applying;
mod declaring;
mod directory;
mod leftovers;
mod prices;
mod usage;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tower_service::Service as _;

use super::{Admin, Guesses, Readiness};
use crate::alert::{self, Alerts, Live};
use crate::cache::decide::Guards;
use crate::cache::{self, Cache};
use crate::call::SecretKey;
use crate::clock::Clock;
use crate::config::{Config, KeySpec, Overrides, Secret, Tenant, TenantKey, TenantSpec};
use crate::embed::Embedder;
use crate::limit::{Limiter, LimiterParts};
use crate::pipeline::{DataPlane, Parts};
use crate::price::PriceBook;
use crate::server::Shutdown;
use crate::store::{Database, Stores, Writer, WriterSizes};
use crate::telemetry::metrics::Metrics;
use crate::tenant::{AuthError, Directory, Principal};
use crate::upstream::Upstream;

/// The token of the configuration.
const TOKEN: &str = "a-token-of-the-configuration";
const START: u64 = 1_800_000_000_000;

/// The admin plane over a new database, without a socket. Tenant `filed` with key `web` is declared.
struct Plane {
    router: Router,
    directory: Arc<Directory>,
    stores: Stores,
    clock: Clock,
    config: Config,
    secret: SecretKey,
    _dir: tempfile::TempDir,
}

/// The declared key.
const WEB: &str = "rk-web-0123456789abcdef";

fn declared() -> Tenant {
    Tenant {
        name: "filed".to_owned(),
        keys: vec![TenantKey { name: "web".to_owned(), secret: Secret::new(WEB.to_owned()), spec: KeySpec::default() }],
        upstream_api_key: None,
        spec: TenantSpec::default(),
    }
}

impl Plane {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let overrides = Overrides {
            store: Some(format!("sqlite://{}", dir.path().join("remora.db").display())),
            ..Overrides::default()
        };
        let mut config = Config::load(None, std::iter::empty(), &overrides).unwrap_or_else(|p| panic!("{p}"));
        config.server.passthrough = false;
        config.upstream.api_key = Some(Secret::new("sk-shared".to_owned()));
        config.tenants = vec![declared()];
        let database = Database::open(&config.store.url, config.store.migrate).await.unwrap();
        let stores = database.stores();
        let sizes = WriterSizes { ledger: 8, entries: 8, decisions: 8, flush: Duration::from_secs(1) };
        let (writer, _) = Writer::spawn(&stores, sizes);
        let metrics = Arc::new(Metrics::new(std::iter::empty(), std::iter::empty()).unwrap());
        let (secret, clock) = (SecretKey::new([7; 32]), Clock::manual(START));
        let cache = Arc::new(Cache::new(cache::Parts {
            settings: config.cache.clone(),
            secret: secret.clone(),
            clock: clock.clone(),
            guards: Guards::without(&[]),
            embedder: Embedder::fixed(2, |_| Ok(vec![1.0, 0.0])),
            weights: None,
            search: None,
            shared: None,
            blind: config.store.blind,
            store: Arc::clone(&stores.entries),
            decisions: Arc::clone(&stores.decisions),
            writer: writer.clone(),
            metrics: Arc::clone(&metrics),
        }));
        cache.load().await.unwrap();
        let directory =
            Directory::new(&config, secret.clone()).with_store(Arc::clone(&stores.directory), clock.clone());
        let directory = Arc::new(directory.with_labels(metrics.tenants.clone()));
        directory.declare(&config, "start").await.unwrap();
        let limiter = Arc::new(Limiter::new(LimiterParts {
            redis: None,
            counters: None,
            ledger: Arc::clone(&stores.ledger),
            clock: clock.clone(),
            metrics: Arc::clone(&metrics),
            settings: config.limits.clone(),
            pending: Arc::new(|| false),
        }));
        let plane = Arc::new(DataPlane::new(Parts {
            directory: Arc::clone(&directory),
            cache: Arc::clone(&cache),
            upstream: Arc::new(Upstream::new(&config.upstream).unwrap()),
            limits: config.server.limits.clone(),
            clock: clock.clone(),
            ledger: Arc::clone(&stores.ledger),
            writer,
            limiter: Arc::clone(&limiter),
            prices: Arc::new(PriceBook::load(None).unwrap()),
            pricing: config.prices.clone(),
            savings: config.savings.clone(),
            metrics: Arc::clone(&metrics),
            shutdown: Shutdown::new(),
        }));
        let alerts = Alerts::new(alert::Parts {
            settings: config.alerts.clone(),
            store: Arc::clone(&stores.alerts),
            notes: Arc::clone(&stores.notes),
            source: Arc::new(Live::new(Arc::clone(&directory), Arc::clone(&limiter), &stores)),
            clock: clock.clone(),
            metrics: Arc::clone(&metrics),
        });
        let alerts = alerts.unwrap();
        let state = Admin {
            readiness: Readiness::default(),
            standing: None,
            metrics,
            cache,
            stores: stores.clone(),
            store_url: config.store.url.clone(),
            shadow: None,
            sealed: None,
            plane,
            clock: clock.clone(),
            token: Some(Secret::new(TOKEN.to_owned())),
            directory: Arc::clone(&directory),
            limiter: Arc::clone(&limiter),
            savings: config.savings.clone(),
            alerts,
            reload: None,
            guesses: Arc::new(Guesses::default()),
        };
        Self { router: super::router(state), directory, stores, clock, config, secret, _dir: dir }
    }

    /// Another replica on the same store.
    async fn replica(&self) -> Directory {
        let other = Directory::new(&self.config, self.secret.clone())
            .with_store(Arc::clone(&self.stores.directory), self.clock.clone());
        other.look().await.unwrap();
        other
    }

    async fn request(
        &self,
        token: Option<&str>,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> (StatusCode, String) {
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, "localhost");
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        let answer = self.router.clone().call(request.body(body).unwrap()).await.unwrap();
        let status = answer.status();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    }

    /// As the token of the configuration.
    async fn ask(&self, method: Method, path: &str, body: &Value) -> (u16, Value) {
        let body = Some(body).filter(|body| !body.is_null());
        let (status, text) = self.request(Some(TOKEN), method, &format!("/admin/v1{path}"), body).await;
        (status.as_u16(), serde_json::from_str(&text).unwrap())
    }

    async fn get(&self, path: &str) -> Value {
        let (status, value) = self.ask(Method::GET, path, &Value::Null).await;
        assert_eq!(status, 200, "{path}: {value}");
        value
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let (status, value) = self.ask(Method::POST, path, &body).await;
        assert!((200..300).contains(&status), "{path}: {status} {value}");
        value
    }

    /// The detail of a request that must be refused with this status.
    async fn refused(&self, status: u16, method: Method, path: &str, body: Value) -> String {
        let (got, value) = self.ask(method, path, &body).await;
        assert_eq!(got, status, "{path} {body}: {value}");
        value["detail"].as_str().unwrap().to_owned()
    }

    /// All that the store and the audit hold, as text.
    async fn everything_stored(&self) -> String {
        let image = self.stores.directory.directory().await.unwrap();
        let trail = self.stores.audit.trail(None, 1_000).await.unwrap();
        format!("{image:?} {trail:?}")
    }
}

fn call(directory: &Directory, key: &str) -> Result<Principal, AuthError> {
    let mut headers = HeaderMap::new();
    headers.insert(header::AUTHORIZATION, format!("Bearer {key}").parse().unwrap());
    directory.authenticate(&headers)
}

fn refusal(directory: &Directory, key: &str) -> Option<AuthError> {
    call(directory, key).err()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}
