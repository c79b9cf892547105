//! What limits and budgets add to a request: CPU time of exact hits and of misses, without any, in process, and with Redis.
//!
//! `cargo bench --bench limits`; with `REDIS_URL` (see `scripts/services.sh`) also through Redis. The data path is driven without client
//! sockets on one thread, the simulated upstream in the same process; what is compared is the CPU time of the whole process, and the
//! cases take turns so that all meet the same noise. Best of the rounds. `LIMITS_REQUESTS` and `LIMITS_ROUNDS` change how many.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use remora::cache::decide::Guards;
use remora::cache::{self, Cache};
use remora::call::SecretKey;
use remora::clock::Clock;
use remora::config::{
    Budget, Config, KeySpec, NanoUsd, Overrides, Period, RateLimits, Secret, Tenant, TenantKey, TenantSpec,
};
use remora::embed::Embedder;
use remora::limit::{Limiter, LimiterParts};
use remora::pipeline::{DataPlane, Parts};
use remora::price::PriceBook;
use remora::server::{RequestBody, Shutdown};
use remora::shared::Shared;
use remora::simulate::{self, Options};
use remora::store::{SqliteStore, Writer, WriterSizes};
use remora::telemetry::metrics::Metrics;
use remora::tenant::Directory;
use remora::upstream::Upstream;

type Fault = Box<dyn Error>;

const KEY: &str = "rk-bench-0123456789abcdef";

fn main() -> Result<(), Fault> {
    // Without it a test runner has started this together with the tests.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run())
}

/// One way to be limited.
struct Case {
    name: &'static str,
    plane: Arc<DataPlane>,
    metrics: Arc<Metrics>,
    asked: usize,
    _dir: tempfile::TempDir,
}

/// Everything there is: limits of tenant and key, and two budgets. None of them is ever met.
fn terms() -> (TenantSpec, KeySpec) {
    let limits = RateLimits {
        rpm: Some(1_000_000_000),
        tpm: Some(100_000_000_000),
        tpd: Some(1_000_000_000_000),
        concurrency: Some(1_000_000),
    };
    let budget = |name: &str, period| Budget {
        name: name.to_owned(),
        period,
        usd: NanoUsd::dollars(1_000_000),
        hard: true,
        alert_at: Vec::new(),
        key: None,
        model: None,
        tag: None,
    };
    let budgets = vec![budget("day", Period::Day), budget("month", Period::Month)];
    (TenantSpec { limits, budgets, ..TenantSpec::default() }, KeySpec { limits, ..KeySpec::default() })
}

async fn case(name: &'static str, upstream: &str, limited: bool, redis: Option<&str>) -> Result<Case, Fault> {
    let dir = tempfile::tempdir()?;
    let overrides = Overrides {
        upstream: Some(format!("{upstream}/v1")),
        store: Some(format!("sqlite://{}", dir.path().join("remora.db").display())),
        redis: redis.map(str::to_owned),
        ..Overrides::default()
    };
    let mut config = Config::load(None, std::iter::empty(), &overrides).map_err(|problems| problems.to_string())?;
    let (spec, key) = if limited { terms() } else { Default::default() };
    config.tenants = vec![Tenant {
        name: "bench".to_owned(),
        keys: vec![TenantKey { name: "key".to_owned(), secret: Secret::new(KEY.to_owned()), spec: key }],
        upstream_api_key: Some(Secret::new("sk-upstream".to_owned())),
        spec,
    }];
    config.cache.mode = remora::config::CacheMode::Exact;
    config.cache.writes_per_minute = u32::MAX;
    let path = config.store.url.file().ok_or("not a file")?.to_owned();
    let store = SqliteStore::open(&path, config.store.migrate).await?;
    let stores = store.stores();
    let sizes = WriterSizes { ledger: 65_536, entries: 65_536, decisions: 8, flush: Duration::from_millis(50) };
    let (writer, _) = Writer::spawn(&stores, sizes);
    let metrics = Arc::new(Metrics::new(std::iter::empty(), std::iter::empty())?);
    // A space of its own in Redis for each run.
    let (secret, clock) = (SecretKey::new(std::array::from_fn(|_| fastrand::u8(..))), Clock::default());
    let shared = match &config.redis {
        Some(settings) => Some(Shared::connect(settings, &secret.digest("shared", b""))?),
        None => None,
    };
    let limiter = Arc::new(Limiter::new(LimiterParts {
        redis: shared.clone(),
        counters: None,
        ledger: Arc::clone(&stores.ledger),
        clock: clock.clone(),
        metrics: Arc::clone(&metrics),
        settings: config.limits.clone(),
        pending: Arc::new(|| false),
    }));
    tokio::spawn(Arc::clone(&limiter).run(Shutdown::new()));
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
    let plane = Arc::new(DataPlane::new(Parts {
        directory: Arc::new(Directory::new(&config, secret)),
        cache,
        upstream: Arc::new(Upstream::new(&config.upstream)?),
        limits: config.server.limits.clone(),
        clock,
        ledger: Arc::clone(&stores.ledger),
        writer,
        metrics: Arc::clone(&metrics),
        limiter,
        prices: Arc::new(PriceBook::load(None)?),
        pricing: config.prices.clone(),
        savings: config.savings.clone(),
        shutdown: Shutdown::new(),
    }));
    if redis.is_some() {
        // Connecting happens in the background.
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Ok(Case { name, plane, metrics, asked: 0, _dir: dir })
}

impl Case {
    /// One request; says what the cache did with it.
    async fn ask(&self, prompt: &str, store: bool) -> Result<String, Fault> {
        let body = serde_json::json!({ "model": "gpt-4o-mini", "max_tokens": 64,
            "messages": [{ "role": "user", "content": prompt }] });
        let mut request = Request::post("/v1/chat/completions").header("authorization", format!("Bearer {KEY}"));
        if !store {
            request = request.header("cache-control", "no-store");
        }
        let request = request.body(RequestBody::from_bytes(Bytes::from(body.to_string())))?;
        let reply = Arc::clone(&self.plane).serve(request).await;
        let (head, body) = reply.into_parts();
        let body = body.collect().await?.to_bytes();
        if head.status != 200 {
            return Err(format!("{}: {} {}", self.name, head.status, String::from_utf8_lossy(&body)).into());
        }
        Ok(head.headers.get("x-remora-cache").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned())
    }

    async fn hits(&self, count: usize) -> Result<f64, Fault> {
        let before = busy()?;
        for _ in 0..count {
            if self.ask("the same", true).await? != "HIT" {
                return Err(format!("{}: not a hit; this would measure something else", self.name).into());
            }
        }
        per(busy()? - before, count)
    }

    async fn misses(&mut self, count: usize) -> Result<f64, Fault> {
        let before = busy()?;
        for _ in 0..count {
            self.asked += 1;
            if self.ask(&format!("miss {}", self.asked), false).await? == "HIT" {
                return Err(format!("{}: a hit; this would measure something else", self.name).into());
            }
        }
        per(busy()? - before, count)
    }

    /// Questions to Redis so far, by kind.
    fn trips(&self) -> Vec<(String, f64)> {
        let text = String::from_utf8_lossy(&self.metrics.render()).into_owned();
        let lines = text.lines().filter_map(|line| line.strip_prefix("remora_limit_redis_calls_total{kind=\""));
        let parsed = lines.filter_map(|line| line.split_once("\"} "));
        parsed.filter_map(|(kind, count)| Some((kind.to_owned(), count.parse().ok()?))).collect()
    }
}

/// CPU time of all threads of this process, nanoseconds.
fn busy() -> Result<u64, Fault> {
    let mut total = 0;
    for task in std::fs::read_dir("/proc/self/task")? {
        let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
        total += text.split(' ').next().unwrap_or_default().parse::<u64>()?;
    }
    Ok(total)
}

#[expect(clippy::cast_precision_loss, reason = "nanoseconds of a benchmark are far below 2^53")]
fn per(nanos: u64, count: usize) -> Result<f64, Fault> {
    Ok(nanos as f64 / 1_000.0 / count as f64)
}

fn setting(name: &str, usual: usize) -> Result<usize, Fault> {
    Ok(std::env::var(name).map_or(Ok(usual), |text| text.parse())?)
}

#[expect(clippy::cast_precision_loss, reason = "counts of a benchmark are far below 2^53")]
async fn run() -> Result<(), Fault> {
    let (count, rounds) = (setting("LIMITS_REQUESTS", 4_000)?, setting("LIMITS_ROUNDS", 7)?);
    let upstream = simulate::spawn(Options::default(), "127.0.0.1:0".parse()?).await?;
    let mut cases = vec![
        case("no limits", &upstream.url(), false, None).await?,
        case("limits and budgets, in process", &upstream.url(), true, None).await?,
    ];
    match std::env::var("REDIS_URL") {
        Ok(url) => cases.push(case("limits and budgets, Redis", &upstream.url(), true, Some(&url)).await?),
        Err(_) => eprintln!("REDIS_URL is not set: without Redis"),
    }
    let mut best = vec![(f64::MAX, f64::MAX); cases.len()];
    let mut trips = vec![(Vec::new(), Vec::new()); cases.len()];
    for case in &cases {
        case.ask("the same", true).await?;
    }
    for _ in 0..rounds {
        for ((case, best), trips) in cases.iter_mut().zip(&mut best).zip(&mut trips) {
            let before = case.trips();
            best.0 = best.0.min(case.hits(count).await?);
            let between = case.trips();
            best.1 = best.1.min(case.misses(count / 4).await?);
            let after = case.trips();
            *trips = (less(&between, &before), less(&after, &between));
        }
    }
    let base = best.first().copied().unwrap_or_default();
    println!("{:<32}{:>12}{:>10}{:>12}{:>10}", "CPU µs a request", "exact hit", "added", "miss", "added");
    for (case, (hit, miss)) in cases.iter().zip(&best) {
        println!("{:<32}{hit:>12.1}{:>10.1}{miss:>12.1}{:>10.1}", case.name, hit - base.0, miss - base.1);
    }
    println!("\nquestions to Redis a request, last round");
    for (case, (hits, misses)) in cases.iter().zip(&trips) {
        let show = |trips: &[(String, f64)], count: usize| {
            let each = trips.iter().filter(|(_, calls)| *calls > 0.0);
            each.map(|(kind, calls)| format!("{kind} {:.3}", calls / count as f64)).collect::<Vec<_>>().join(", ")
        };
        println!("{:<32}hit: {}\n{:<32}miss: {}", case.name, show(hits, count), "", show(misses, count / 4));
    }
    Ok(())
}

fn less(now: &[(String, f64)], before: &[(String, f64)]) -> Vec<(String, f64)> {
    let was = |kind: &str| before.iter().find(|(known, _)| known == kind).map_or(0.0, |(_, count)| *count);
    now.iter().map(|(kind, count)| (kind.clone(), count - was(kind))).collect()
}
