//! Budgets under fire: more requests at once than there is money for, on one and on several replicas.
//!
//! All requests are of one size, so that the worst case of each is the same and the budget is an exact number of them. The
//! upstream keeps all answers back for longer than it takes to decide about every request.
//!
//! `REMORA_RACES=100 cargo nextest run --test it races::` runs as many races as the name says; three otherwise.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use remora::config::{Budget, Config, KeySpec, NanoUsd, Period, RedisUrl, Secret, Tenant, TenantKey, TenantSpec};
use remora::ids::TenantId;
use remora::price::PriceBook;
use remora::simulate::Options;
use serde_json::{Value, json};

use crate::child::until;
use crate::fleet::{Fleet, service};

/// Requests of a race, and how many of them there is money for.
const REQUESTS: usize = 1_000;
const ROOM: i64 = 100;
/// Longest answer of each request, tokens.
const ANSWER: u64 = 40;

fn races() -> usize {
    std::env::var("REMORA_RACES").map_or(3, |count| count.parse().unwrap())
}

fn body(number: usize) -> Value {
    json!({ "model": "gpt-4o-mini", "max_tokens": ANSWER, "messages": [
        { "role": "user", "content": format!("Question number {number:06} of the race") } ] })
}

/// What one request may cost at most, by the price list: a token of input for each byte, and the whole answer.
fn worst() -> i64 {
    let bytes = body(0).to_string().len() as u64;
    PriceBook::load(None).unwrap().price("gpt-4o-mini", 0).unwrap().worst(bytes, ANSWER).0
}

fn key(race: usize) -> String {
    format!("rk-race-{race:04}-0123456789abcdef")
}

fn tenant(race: usize) -> Tenant {
    let budget = Budget {
        name: "day".to_owned(),
        period: Period::Day,
        usd: NanoUsd(ROOM * worst()),
        hard: true,
        alert_at: vec![0.5, 0.8, 1.0],
        key: None,
        model: None,
        tag: None,
    };
    Tenant {
        name: format!("race-{race}"),
        keys: vec![TenantKey { name: "one".to_owned(), secret: Secret::new(key(race)), spec: KeySpec::default() }],
        upstream_api_key: None,
        spec: TenantSpec { budgets: vec![budget], ..TenantSpec::default() },
    }
}

#[derive(Clone, Copy)]
enum Shared {
    /// Through Redis.
    Redis,
    /// Through PostgreSQL alone.
    Postgres,
}

async fn fleet(replicas: usize, shared: Shared) -> Fleet {
    let tenants: Vec<Tenant> = (0..races()).map(tenant).collect();
    let redis: RedisUrl = service("REDIS_URL").parse().unwrap();
    let options = Options { latency: Duration::from_secs(6), ..Options::default() };
    Fleet::start(replicas, options, move |_, config: &mut Config| {
        config.tenants.clone_from(&tenants);
        config.upstream.api_key = Some(Secret::new("sk-upstream".to_owned()));
        config.server.limits.connections_per_ip = 10_000;
        config.upstream.max_in_flight = 10_000;
        // Everybody asks at once; what a busy machine takes for a decision is not what is tested.
        config.server.deadlines.head = Duration::from_secs(60);
        config.server.deadlines.body_idle = Duration::from_secs(60);
        config.limits.deadline = Duration::from_secs(60);
        config.redis = match shared {
            Shared::Redis => Some(redis_settings(&redis)),
            Shared::Postgres => None,
        };
    })
    .await
}

fn redis_settings(url: &RedisUrl) -> remora::config::Redis {
    let overrides = remora::config::Overrides { redis: Some(url.to_string()), ..Default::default() };
    let config = Config::load(None, std::iter::empty(), &overrides).unwrap_or_else(|problems| panic!("{problems}"));
    let mut settings = config.redis.unwrap();
    // Unoptimised builds with a thousand requests at once.
    settings.deadline = Duration::from_secs(60);
    settings.in_flight = 4_096;
    settings
}

/// Sends all requests of a race at once, spread over the replicas; returns how many had which status and code.
async fn run(fleet: &Arc<Fleet>, replicas: usize, race: usize) -> BTreeMap<(u16, String), usize> {
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..REQUESTS {
        let fleet = Arc::clone(fleet);
        tasks.spawn(async move {
            let answer = fleet.chat_with(number % replicas, &key(race), &[], &body(number)).await;
            let code = if answer.status == StatusCode::OK {
                String::new()
            } else {
                answer.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
            };
            (answer.status.as_u16(), code)
        });
    }
    let mut seen = BTreeMap::new();
    while let Some(answer) = tasks.join_next().await {
        *seen.entry(answer.unwrap()).or_default() += 1;
    }
    seen
}

/// What a replica says of the budget.
async fn budget(fleet: &Fleet, replica: usize, race: usize) -> Value {
    let path = format!("/admin/v1/tenants/race-{race}/budgets");
    let answer = fleet.admin(replica, Method::GET, &path, None).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    answer.json()["budgets"][0].clone()
}

fn nano(value: &Value) -> i64 {
    value.as_str().unwrap_or_else(|| panic!("{value}")).parse::<NanoUsd>().unwrap().0
}

async fn races_on(replicas: usize, shared: Shared) {
    let fleet = Arc::new(fleet(replicas, shared).await);
    for race in 0..races() {
        let seen = run(&fleet, replicas, race).await;
        let admitted = seen.get(&(200, String::new())).copied().unwrap_or(0);
        let refused = seen.get(&(429, "budget_exceeded".to_owned())).copied().unwrap_or(0);
        assert_eq!(admitted + refused, REQUESTS, "race {race}: {seen:?}");
        assert_eq!(admitted as i64, ROOM, "race {race}: {seen:?}");
        fleet.settle().await;
        let tenant = TenantId::new(format!("race-{race}"));
        let rows = fleet.app(0).stores.ledger.recent(Some(&tenant), 10_000).await.unwrap();
        assert_eq!(rows.len(), REQUESTS, "one row for each request");
        let ledger: i64 = rows.iter().map(|row| row.cost_nano_usd.unwrap()).sum();
        assert!(0 < ledger && ledger <= ROOM * worst(), "spent {ledger} of {}", ROOM * worst());
        for replica in 0..replicas {
            let settled = until("all holds are settled", || async {
                let budget = budget(&fleet, replica, race).await;
                (nano(&budget["held"]) == 0 && nano(&budget["spent"]) == ledger).then_some(budget)
            })
            .await;
            assert_eq!(nano(&settled["usd"]), ROOM * worst());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_requests_at_once_on_two_replicas_spend_no_more_than_there_is() {
    races_on(2, Shared::Redis).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_do_they_without_redis() {
    races_on(2, Shared::Postgres).await;
}
