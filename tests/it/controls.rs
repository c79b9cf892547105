//! What a caller may say about caching, and what it is told: headers, aliases, ages, keys.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, StatusCode};
use remora::clock::Clock;
use remora::config::{CacheMode, Config, KeySpec, Right, Secret, Share, Tenant, TenantCache, TenantKey, TenantSpec};
use remora::embed::Embedder;
use serde_json::{Value, json};

use crate::rig::{Answer, Plan, Rig, chat, chat_stream};

const START: u64 = 1_800_000_000_000;
const TIDES: &str = "Tell me about the tides of the sea";
/// The same with a word more; 0.96 from the first by [`leaning`].
const TIDES_PLEASE: &str = "Please tell me about the tides of the sea";

/// Texts with "please" in them are 0.96 from those without.
fn leaning() -> Embedder {
    Embedder::fixed(2, |text| {
        Ok(if text.to_lowercase().contains("please") { vec![0.96, 0.28] } else { vec![1.0, 0.0] })
    })
}

async fn rig_with(change: impl Fn(&mut Config) + Send + Sync + 'static) -> (Rig, Clock) {
    let clock = Clock::manual(START);
    let plan = Plan { clock: clock.clone(), embedder: Some(leaning()), change: Arc::new(change), ..Plan::default() };
    (Rig::with(plan).await, clock)
}

async fn rig() -> (Rig, Clock) {
    rig_with(|_| {}).await
}

fn line(answer: &Answer) -> (&str, &str, &str) {
    (answer.cache(), answer.header("x-remora-tier"), answer.reason())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_miss_and_a_hit_say_what_they_are() {
    let (rig, clock) = rig_with(|config| config.cache.ttl = std::time::Duration::from_secs(3_600)).await;
    let miss = rig.chat("sk-a", &chat(TIDES)).await;
    assert_eq!(miss.header("cache-status"), "remora; fwd=miss; stored; detail=no_neighbour");
    assert_eq!(line(&miss), ("MISS", "", "no_neighbour"));
    assert!(!miss.headers.contains_key("age"));
    let entry = miss.header("x-remora-entry").to_owned();
    assert_eq!(entry.len(), 26);
    assert_eq!(miss.header("x-request-id"), miss.header("x-remora-request-id"));
    assert_eq!(miss.header("x-request-id").len(), 26);
    assert!(miss.header("x-upstream-request-id").starts_with("req_"), "upstream's own id stays known");

    clock.advance_ms(60_000);
    let hit = rig.chat("sk-a", &chat(TIDES)).await;
    assert_eq!(hit.header("cache-status"), "remora; hit; ttl=3540; detail=exact");
    assert_eq!(line(&hit), ("HIT", "exact", ""));
    assert_eq!((hit.header("age"), hit.header("x-remora-entry")), ("60", entry.as_str()));
    assert_eq!(hit.header("content-type"), "application/json");
    assert_ne!(hit.header("x-request-id"), miss.header("x-request-id"));

    let near = rig.chat("sk-a", &chat(TIDES_PLEASE)).await;
    assert_eq!(near.header("cache-status"), "remora; hit; ttl=3540; detail=semantic");
    assert_eq!(line(&near), ("HIT", "semantic", ""));
    assert!(!near.headers.contains_key("x-remora-similarity"), "not for everyone");
    assert_eq!(hit.json()["usage"], miss.json()["usage"]);
    assert_eq!(hit.json()["model"], miss.json()["model"]);

    let row = rig.row(&near).await;
    assert_eq!((&row["outcome"], &row["tier"], &row["entry"]), (&json!("hit"), &json!("semantic"), &json!(entry)));
    assert!((row["similarity"].as_f64().unwrap() - 0.96).abs() < 0.01);
    assert_eq!((&row["tokens"]["source"], &row["upstream"]), (&json!("replayed"), &Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_cache_goes_upstream_and_replaces_what_was_stored() {
    let (rig, clock) = rig().await;
    let first = rig.chat("sk-a", &chat(TIDES)).await;
    clock.advance_ms(5_000);
    let fresh = rig.chat_with("sk-a", &[("cache-control", "no-cache")], &chat(TIDES)).await;
    assert_eq!(line(&fresh), ("REFRESH", "", "no_cache"));
    assert_eq!(fresh.header("cache-status"), "remora; fwd=request; stored; detail=no_cache");
    assert_ne!(fresh.header("x-remora-entry"), first.header("x-remora-entry"));
    let hit = rig.chat("sk-a", &chat(TIDES)).await;
    assert_eq!((hit.cache(), hit.header("x-remora-entry")), ("HIT", fresh.header("x-remora-entry")));
    assert_eq!(hit.header("age"), "0");
    let near = rig.chat("sk-a", &chat(TIDES_PLEASE)).await;
    assert_eq!(near.header("x-remora-entry"), fresh.header("x-remora-entry"), "a near one finds the fresh answer");
    rig.settle().await;
    assert_eq!(rig.app().stores.entries.counts().await.unwrap().entries, 1, "the old answer is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_store_neither_reads_nor_stores() {
    let (rig, _) = rig().await;
    for _ in 0..2 {
        let answer = rig.chat_with("sk-a", &[("cache-control", "no-store")], &chat(TIDES)).await;
        assert_eq!((answer.cache(), answer.header("x-remora-entry")), ("BYPASS", ""));
        assert!(answer.header("cache-status").starts_with("remora; fwd=bypass; detail="));
    }
    assert_eq!(rig.chat("sk-a", &chat(TIDES)).await.cache(), "MISS");
    let answer = rig.chat_with("sk-a", &[("cache-control", "no-store")], &chat(TIDES)).await;
    assert_eq!(answer.cache(), "BYPASS", "though it is stored by now");
    assert_eq!(rig.sim.stats().requests, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn max_age_takes_young_entries_only() {
    let (rig, clock) = rig().await;
    rig.chat("sk-a", &chat(TIDES)).await;
    clock.advance_ms(30_000);
    let young = rig.chat_with("sk-a", &[("cache-control", "max-age=60")], &chat(TIDES)).await;
    assert_eq!(line(&young), ("HIT", "exact", ""));
    let old = rig.chat_with("sk-a", &[("cache-control", "max-age=10")], &chat(TIDES)).await;
    assert_eq!(line(&old), ("MISS", "", "too_old"));
    let young = rig.chat_with("sk-a", &[("cache-control", "max-age=10")], &chat(TIDES)).await;
    assert_eq!((young.cache(), young.header("age")), ("HIT", "0"), "the fresh answer took its place");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_if_cached_never_goes_upstream() {
    let (rig, _) = rig().await;
    let only = [("cache-control", "only-if-cached")];
    for body in [chat(TIDES), chat_stream(TIDES)] {
        let none = rig.chat_with("sk-a", &only, &body).await;
        assert_eq!(none.status, StatusCode::GATEWAY_TIMEOUT);
        assert_eq!(none.json()["error"]["code"], "not_cached");
        assert_eq!(rig.row(&none).await["outcome"], "refused");
    }
    assert_eq!(rig.sim.stats().requests, 0);
    rig.chat("sk-a", &chat(TIDES)).await;
    assert_eq!(rig.chat_with("sk-a", &only, &chat(TIDES)).await.cache(), "HIT");
    assert_eq!(rig.chat_with("sk-a", &only, &chat(TIDES_PLEASE)).await.cache(), "HIT");
    let both = rig.chat_with("sk-a", &[("cache-control", "only-if-cached, no-cache")], &chat(TIDES)).await;
    assert_eq!(both.status, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(rig.sim.stats().requests, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_may_go_less_far_into_the_cache() {
    let (rig, _) = rig().await;
    rig.chat("sk-a", &chat(TIDES)).await;
    let go = async |how: &str, text: &str| rig.chat_with("sk-a", &[("x-remora-cache", how)], &chat(text)).await;
    assert_eq!(line(&go("off", TIDES).await), ("BYPASS", "", "off"));
    assert_eq!(line(&go("exact", TIDES).await), ("HIT", "exact", ""));
    assert_eq!(line(&go("semantic", TIDES_PLEASE).await), ("HIT", "semantic", ""));
    assert_eq!(line(&go("exact", TIDES_PLEASE).await), ("MISS", "", "not_stored"));
    let wrong = go("on", TIDES).await;
    assert_eq!((wrong.status, &wrong.json()["error"]["param"]), (StatusCode::BAD_REQUEST, &json!("x-remora-cache")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_cannot_go_further_than_configured() {
    let (rig, _) = rig_with(|config| config.cache.mode = CacheMode::Exact).await;
    rig.chat("sk-a", &chat(TIDES)).await;
    let near = rig.chat_with("sk-a", &[("x-remora-cache", "semantic")], &chat(TIDES_PLEASE)).await;
    assert_eq!(line(&near), ("MISS", "", "not_stored"));
    assert_eq!(rig.app().cache.embedder().inferences(), 0, "nothing is embedded for nothing");
    let (rig, _) = rig_with(|config| config.cache.mode = CacheMode::Off).await;
    for _ in 0..2 {
        let answer = rig.chat_with("sk-a", &[("x-remora-cache", "exact")], &chat(TIDES)).await;
        assert_eq!(line(&answer), ("BYPASS", "", "off"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn similarity_only_tightens() {
    let (rig, _) = rig().await;
    rig.chat("sk-a", &chat(TIDES)).await;
    let go =
        async |floor: &str, text: &str| rig.chat_with("sk-a", &[("x-remora-similarity", floor)], &chat(text)).await;
    assert_eq!(line(&go("0.955", TIDES_PLEASE).await), ("HIT", "semantic", ""));
    assert_eq!(line(&go("0.99", TIDES_PLEASE).await), ("MISS", "", "below_threshold"));
    let (rig, _) = rig_with(|config| config.cache.similarity = 0.98).await;
    rig.chat("sk-a", &chat(TIDES)).await;
    let loose = rig.chat_with("sk-a", &[("x-remora-similarity", "0.1")], &chat(TIDES_PLEASE)).await;
    assert_eq!(line(&loose), ("MISS", "", "below_threshold"), "never looser than configured");
    for wrong in ["2", "-1", "high", "NaN"] {
        let answer = rig.chat_with("sk-a", &[("x-remora-similarity", wrong)], &chat(TIDES)).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn expiry_is_absolute_and_reads_do_not_extend_it() {
    let (rig, clock) = rig().await;
    let ttl = [("x-remora-ttl", "10m")];
    rig.chat_with("sk-a", &ttl, &chat(TIDES)).await;
    for minute in 1..=9 {
        clock.advance_ms(60_000);
        let hit = rig.chat("sk-a", &chat(TIDES)).await;
        assert_eq!((hit.cache(), hit.header("age")), ("HIT", (minute * 60).to_string().as_str()));
        assert_eq!(rig.chat("sk-a", &chat(TIDES_PLEASE)).await.cache(), "HIT");
    }
    clock.advance_ms(59_999);
    assert_eq!(rig.chat("sk-a", &chat(TIDES)).await.cache(), "HIT", "the last millisecond");
    clock.advance_ms(1);
    let near = rig.chat_with("sk-a", &[("cache-control", "only-if-cached")], &chat(TIDES_PLEASE)).await;
    assert_eq!(near.status, StatusCode::GATEWAY_TIMEOUT);
    let expired = rig.chat("sk-a", &chat(TIDES)).await;
    assert_eq!(line(&expired), ("MISS", "", "no_neighbour"));
    assert_eq!(rig.sim.stats().requests, 2);

    let capped = rig.chat_with("sk-b", &[("x-remora-ttl", "365d")], &chat("Something else about mountains")).await;
    assert_eq!(capped.cache(), "MISS");
    let hit = rig.chat("sk-b", &chat("Something else about mountains")).await;
    assert!(hit.header("cache-status").contains("ttl=86400;"), "capped: {}", hit.header("cache-status"));
    let wrong = rig.chat_with("sk-a", &[("x-remora-ttl", "soon")], &chat(TIDES)).await;
    assert_eq!(wrong.json()["error"]["param"], "x-remora-ttl");
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_are_separate() {
    let (rig, _) = rig().await;
    let go = async |namespace: &str, text: &str| {
        rig.chat_with("sk-a", &[("x-remora-namespace", namespace)], &chat(text)).await
    };
    assert_eq!(go("one", TIDES).await.cache(), "MISS");
    assert_eq!(go("two", TIDES).await.cache(), "MISS");
    assert_eq!(go("two", TIDES_PLEASE).await.cache(), "HIT");
    assert_eq!(rig.chat("sk-a", &chat(TIDES)).await.cache(), "MISS");
    assert_eq!(go("one", TIDES).await.cache(), "HIT");
    assert_eq!(rig.chat("sk-a", &chat(TIDES_PLEASE)).await.cache(), "HIT");
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_and_users_are_in_the_ledger() {
    let (rig, _) = rig().await;
    let headers = [("x-remora-tags", "team=search, env = prod"), ("x-remora-user", "ann")];
    let row = rig.row(&rig.chat_with("sk-a", &headers, &chat(TIDES)).await).await;
    assert_eq!((&row["tags"], &row["user"]), (&json!({ "team": "search", "env": "prod" }), &json!("ann")));
    let mut body = chat(TIDES);
    body["user"] = "bob".into();
    let row = rig.row(&rig.chat("sk-a", &body).await).await;
    assert_eq!((&row["user"], &row["outcome"]), (&json!("bob"), &json!("hit")), "the body's user if no header");
    let eleven: String = (0..11).map(|n| format!("k{n}=v,")).collect();
    let wrong = rig.chat_with("sk-a", &[("x-remora-tags", &eleven)], &chat(TIDES)).await;
    assert_eq!((wrong.status, &wrong.json()["error"]["param"]), (StatusCode::BAD_REQUEST, &json!("x-remora-tags")));
    assert!(wrong.json()["error"]["message"].as_str().unwrap().contains("10"));
}

/// What each alias of other gateways does, end to end.
#[tokio::test(flavor = "multi_thread")]
async fn every_alias_means_the_same_as_our_own_header() {
    let (rig, clock) = rig().await;
    let mut serial = 0;
    let mut fresh = || {
        serial += 1;
        format!("sk-alias-{serial}")
    };
    let body_cache = |cache: Value| {
        let mut body = chat(TIDES);
        body["cache"] = cache;
        body
    };
    // Do not read, but store.
    for (headers, body) in [
        (vec![("x-portkey-cache-force-refresh", "true")], chat(TIDES)),
        (vec![], body_cache(json!({ "no-cache": true }))),
    ] {
        let key = fresh();
        rig.chat(&key, &chat(TIDES)).await;
        let answer = rig.chat_with(&key, &headers, &body).await;
        assert_eq!((answer.cache(), answer.reason()), ("REFRESH", "no_cache"), "{headers:?} {body}");
        let hit = rig.chat(&key, &chat(TIDES)).await;
        assert_eq!(hit.header("x-remora-entry"), answer.header("x-remora-entry"));
    }
    // Do not store.
    for (headers, body) in
        [(vec![("x-bf-cache-no-store", "true")], chat(TIDES)), (vec![], body_cache(json!({ "no-store": true })))]
    {
        let key = fresh();
        let answer = rig.chat_with(&key, &headers, &body).await;
        assert_eq!((answer.cache(), answer.header("x-remora-entry")), ("MISS", ""), "{headers:?} {body}");
        assert_eq!(rig.chat(&key, &chat(TIDES)).await.cache(), "MISS", "{headers:?} {body}");
    }
    // Neither.
    for header in [("helicone-cache-enabled", "false"), ("cf-aig-skip-cache", "true")] {
        let key = fresh();
        rig.chat(&key, &chat(TIDES)).await;
        let answer = rig.chat_with(&key, &[header], &chat(TIDES)).await;
        assert_eq!((answer.cache(), answer.reason()), ("BYPASS", "off"), "{header:?}");
    }
    // A namespace.
    let key = fresh();
    rig.chat_with(&key, &[("x-remora-namespace", "shop")], &chat(TIDES)).await;
    for (headers, body) in [
        (vec![("x-portkey-cache-namespace", "shop")], chat(TIDES)),
        (vec![("helicone-cache-seed", "shop")], chat(TIDES)),
        (vec![], body_cache(json!({ "namespace": "shop" }))),
    ] {
        let answer = rig.chat_with(&key, &headers, &body).await;
        assert_eq!((answer.cache(), answer.header("x-remora-tier")), ("HIT", "exact"), "{headers:?} {body}");
    }
    // A lifetime.
    for (headers, body) in [
        (vec![("cf-aig-cache-ttl", "60")], chat(TIDES)),
        (vec![("x-bf-cache-ttl", "60s")], chat(TIDES)),
        (vec![], body_cache(json!({ "ttl": 60 }))),
    ] {
        let key = fresh();
        rig.chat_with(&key, &headers, &body).await;
        clock.advance_ms(59_000);
        let hit = rig.chat(&key, &chat(TIDES)).await;
        assert_eq!(hit.header("cache-status"), "remora; hit; ttl=1; detail=exact", "{headers:?} {body}");
        clock.advance_ms(1_000);
        assert_eq!(rig.chat(&key, &chat(TIDES)).await.cache(), "MISS", "{headers:?} {body}");
    }
    // A greatest age.
    for name in ["s-maxage", "s-max-age"] {
        let key = fresh();
        rig.chat(&key, &chat(TIDES)).await;
        clock.advance_ms(30_000);
        let old = rig.chat(&key, &body_cache(json!({ name: 10 }))).await;
        assert_eq!((old.cache(), old.reason()), ("MISS", "too_old"), "{name}");
    }
    // A floor.
    let key = fresh();
    rig.chat(&key, &chat(TIDES)).await;
    let go = async |floor: &str| rig.chat_with(&key, &[("x-bf-cache-threshold", floor)], &chat(TIDES_PLEASE)).await;
    assert_eq!(go("0.2").await.cache(), "HIT");
    assert_eq!(go("0.99").await.reason(), "below_threshold");
    // Attribution.
    let headers = [
        ("helicone-user-id", "ann"),
        ("helicone-property-team", "search"),
        ("cf-aig-metadata", r#"{"env":"prod","build":7}"#),
    ];
    let row = rig.row(&rig.chat_with(&fresh(), &headers, &chat(TIDES)).await).await;
    assert_eq!(row["user"], "ann");
    assert_eq!(row["tags"], json!({ "team": "search", "env": "prod", "build": "7" }));
}

#[tokio::test(flavor = "multi_thread")]
async fn controls_stay_behind_and_every_other_byte_goes_upstream() {
    let (rig, _) = rig().await;
    let headers = [
        ("x-remora-tags", "a=b"),
        ("x-remora-ttl", "1h"),
        ("helicone-user-id", "ann"),
        ("cf-aig-metadata", "{}"),
        ("x-bf-cache-ttl", "1h"),
        ("x-portkey-cache-namespace", "n"),
        ("openai-beta", "assistants=v2"),
        ("x-stainless-lang", "python"),
    ];
    let body = r#"{ "model":"m", "cache" : {"ttl": 60}, "big":12345678901234567890, "f":1.0,
        "messages":[{"role":"user","content":"\u0041é"}]  }"#;
    let sent = Bytes::from_static(body.as_bytes());
    let answer = rig.send(Method::POST, "/v1/chat/completions", "sk-a", &headers, sent).await;
    assert_eq!(answer.cache(), "MISS", "{}", answer.text());
    let last = rig.sim.last().unwrap();
    let arrived = String::from_utf8(last.body.to_vec()).unwrap();
    assert_eq!(arrived, body.replace(r#", "cache" : {"ttl": 60}"#, ""));
    let strange = ["x-remora-", "helicone-", "cf-aig-", "x-bf-cache-", "x-portkey-cache-"];
    for (name, value) in &last.headers {
        assert!(!strange.iter().any(|prefix| name.starts_with(prefix)), "{name}: {value} went upstream");
    }
    assert_eq!(last.header("openai-beta"), Some("assistants=v2"));
    assert_eq!(last.header("x-stainless-lang"), Some("python"));
    assert_eq!(last.header("authorization"), Some("Bearer sk-a"));

    let foreign = r#"{"model":"m","cache":{"type":"ephemeral"},"messages":[{"role":"user","content":"x"}]}"#;
    let sent = Bytes::from_static(foreign.as_bytes());
    rig.send(Method::POST, "/v1/chat/completions", "sk-a", &[], sent).await;
    assert_eq!(rig.sim.last().unwrap().body, foreign, "a `cache` member that is not ours is somebody else's");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_serves_every_limit_that_it_stays_within() {
    let (rig, _) = rig().await;
    let limited = |name: &str, limit: u64| {
        let mut body = chat(TIDES);
        body[name] = limit.into();
        body
    };
    let first = rig.chat("sk-a", &chat(TIDES)).await;
    let length = first.json()["usage"]["completion_tokens"].as_u64().unwrap();
    for name in ["max_tokens", "max_completion_tokens"] {
        for limit in [length, length + 1, 100_000] {
            assert_eq!(rig.chat("sk-a", &limited(name, limit)).await.cache(), "HIT", "{name} {limit}");
        }
        let short = rig.chat("sk-a", &limited(name, length - 1)).await;
        assert_eq!((short.cache(), short.reason()), ("MISS", "finish_length"), "{name}");
        let near = chat(TIDES_PLEASE);
        let mut near_short = near.clone();
        near_short[name] = (length - 1).into();
        assert_eq!(rig.chat("sk-a", &near_short).await.cache(), "MISS", "{name}: nor by similarity");
        assert_eq!(rig.chat("sk-a", &near).await.cache(), "HIT");
    }
    assert_eq!(rig.chat("sk-a", &chat(TIDES)).await.header("x-remora-entry"), first.header("x-remora-entry"));

    // Nobody told its length: only the same limit, or none, is certain to get the same.
    let unknown = rig.chat_with("sk-b", &[("x-simulate", "no-usage")], &limited("max_tokens", 500)).await;
    assert_eq!(unknown.cache(), "MISS");
    assert_eq!(rig.chat("sk-b", &limited("max_tokens", 500)).await.cache(), "HIT");
    assert_eq!(rig.chat("sk-b", &chat(TIDES)).await.cache(), "HIT");
    assert_eq!(rig.chat("sk-b", &limited("max_tokens", 600)).await.cache(), "MISS");
}

fn key(name: &str, models: &[&str], inspect: bool) -> TenantKey {
    TenantKey {
        name: name.to_owned(),
        secret: Secret::new(format!("rk-{name}-0123456789abcdef")),
        spec: KeySpec {
            models: models.iter().map(|model| (*model).to_owned()).collect(),
            rights: if inspect { vec![Right::CacheInspect] } else { Vec::new() },
            ..KeySpec::default()
        },
    }
}

fn two_teams(config: &mut Config) {
    let secret = |text: &str| Some(Secret::new(text.to_owned()));
    config.server.passthrough = false;
    config.upstream.api_key = secret("sk-shared-upstream");
    let shared = TenantCache { share: Some(Share::Tenant), ..TenantCache::default() };
    config.tenants = vec![
        Tenant {
            name: "web".into(),
            keys: vec![key("site", &["gpt-4o*", "text-*"], false), key("desk", &["*"], true)],
            upstream_api_key: None,
            spec: TenantSpec { cache: shared, ..TenantSpec::default() },
        },
        Tenant {
            name: "lab".into(),
            keys: vec![key("notebook", &["*"], false)],
            upstream_api_key: secret("sk-lab-upstream"),
            spec: TenantSpec {
                cache: TenantCache { mode: Some(CacheMode::Exact), ..TenantCache::default() },
                ..TenantSpec::default()
            },
        },
    ];
}

const SITE: &str = "rk-site-0123456789abcdef";
const DESK: &str = "rk-desk-0123456789abcdef";
const NOTEBOOK: &str = "rk-notebook-0123456789abcdef";

#[tokio::test(flavor = "multi_thread")]
async fn a_virtual_key_is_replaced_by_the_credential_we_hold() {
    let (rig, _) = rig_with(two_teams).await;
    let answer = rig.chat_with(SITE, &[("openai-organization", "org-x"), ("cookie", "a=b")], &chat(TIDES)).await;
    assert_eq!(answer.cache(), "MISS");
    let last = rig.sim.last().unwrap();
    assert_eq!(last.header("authorization"), Some("Bearer sk-shared-upstream"));
    for name in ["openai-organization", "cookie", "x-api-key"] {
        assert_eq!(last.header(name), None, "{name}");
    }
    let body = Bytes::from(chat(TIDES).to_string());
    let lab = rig.send(Method::POST, "/v1/chat/completions", "", &[("x-api-key", NOTEBOOK)], body).await;
    assert_eq!((lab.status, lab.cache()), (StatusCode::OK, "MISS"), "as `x-api-key` too, and nothing is shared");
    let last = rig.sim.last().unwrap();
    assert_eq!((last.header("authorization"), last.header("x-api-key")), (Some("Bearer sk-lab-upstream"), None));
    let row = rig.row(&lab).await;
    assert_eq!((&row["tenant"], &row["key"]), (&json!("lab"), &json!("lab/notebook")));
    for (sent, code) in [("rk-unknown-0123456789abcdef", "invalid_api_key"), ("", "missing_api_key")] {
        let refused = rig.chat(sent, &chat(TIDES)).await;
        assert_eq!((refused.status, &refused.json()["error"]["code"]), (StatusCode::UNAUTHORIZED, &json!(code)));
    }
    assert_eq!(rig.sim.stats().requests, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_a_tenant_share_if_told_so_and_only_inspectors_see_similarity() {
    let (rig, _) = rig_with(two_teams).await;
    rig.chat(SITE, &chat(TIDES)).await;
    let near = rig.chat(SITE, &chat(TIDES_PLEASE)).await;
    assert_eq!((near.cache(), near.header("x-remora-similarity")), ("HIT", ""));
    let seen = rig.chat(DESK, &chat(TIDES_PLEASE)).await;
    assert_eq!((seen.cache(), seen.header("x-remora-similarity")), ("HIT", "0.9600"));
    rig.chat(NOTEBOOK, &chat(TIDES)).await;
    let narrow = rig.chat_with(NOTEBOOK, &[("x-remora-cache", "semantic")], &chat(TIDES_PLEASE)).await;
    assert_eq!(line(&narrow), ("MISS", "", "not_stored"), "the tenant's mode holds");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_uses_only_the_models_it_may() {
    let (rig, _) = rig_with(two_teams).await;
    assert_eq!(rig.chat(SITE, &chat(TIDES)).await.status, StatusCode::OK);
    let with_model = |model: &str| {
        let mut body = chat(TIDES);
        body["model"] = model.into();
        Bytes::from(body.to_string())
    };
    for path in ["/v1/chat/completions", "/v1/responses", "/v1/images/generations"] {
        let refused = rig.send(Method::POST, path, SITE, &[], with_model("o3")).await;
        assert_eq!(
            (refused.status, &refused.json()["error"]["code"]),
            (StatusCode::FORBIDDEN, &json!("model_not_allowed"))
        );
        let row = rig.row(&refused).await;
        assert_eq!((&row["outcome"], &row["reason"]), (&json!("refused"), &json!("model_not_allowed")), "{path}");
    }
    let embedding = Bytes::from_static(br#"{"model":"voyage-3","input":"x"}"#);
    assert_eq!(rig.send(Method::POST, "/v1/embeddings", SITE, &[], embedding).await.status, StatusCode::FORBIDDEN);
    assert_eq!(rig.sim.stats().requests, 1);
    let ids = async |key: &str| -> Vec<String> {
        let list = rig.send(Method::GET, "/v1/models", key, &[], Bytes::new()).await.json();
        list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(SITE).await, ["gpt-4o", "gpt-4o-mini", "text-embedding-3-small", "text-embedding-3-large"]);
    assert_eq!(ids(DESK).await.len(), 7);
}
