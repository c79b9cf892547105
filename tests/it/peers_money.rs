//! Mistakes that other gateways have made with limits, budgets and keys, each as a test under the name of its report.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use http_body_util::BodyExt;
use remora::config::{Budget, Config, KeySpec, NanoUsd, Period, RateLimits, Secret, Tenant, TenantKey, TenantSpec};
use remora::simulate::Options;
use serde_json::{Value, json};

use crate::canned::{Canned, chunk, stream_head};
use crate::child::{chat_request, until};
use crate::fleet::{Fleet, service};
use crate::rig::{Answer, Plan, Rig, chat, chat_stream};

const KEY: &str = "rk-app-0123456789abcdef";
const OTHER: &str = "rk-other-0123456789abcdef";

fn budget(usd: &str) -> Budget {
    Budget {
        name: "month".to_owned(),
        period: Period::Month,
        usd: usd.parse().unwrap(),
        hard: true,
        alert_at: Vec::new(),
        key: None,
        model: None,
        tag: None,
    }
}

fn tenant(name: &str, keys: &[(&str, &str)], spec: TenantSpec) -> Tenant {
    let key = |(name, secret): &(&str, &str)| TenantKey {
        name: (*name).to_owned(),
        secret: Secret::new((*secret).to_owned()),
        spec: KeySpec::default(),
    };
    Tenant { name: name.to_owned(), keys: keys.iter().map(key).collect(), upstream_api_key: None, spec }
}

fn declare(config: &mut Config, tenants: Vec<Tenant>) {
    config.tenants = tenants;
    config.upstream.api_key = Some(Secret::new("sk-upstream".to_owned()));
}

async fn rig(simulate: Options, spec: TenantSpec) -> Rig {
    let change = move |config: &mut Config| {
        declare(config, vec![tenant("acme", &[("app", KEY)], spec.clone())]);
        config.server.passthrough = false;
        config.server.limits.connections_per_ip = 10_000;
    };
    Rig::with(Plan { simulate, change: Arc::new(change), ..Plan::default() }).await
}

async fn standing(rig: &Rig) -> (i64, i64) {
    let told = rig.admin(Method::GET, "/admin/v1/tenants/acme/budgets", None).await.json();
    let amount = |name: &str| told["budgets"][0][name].as_str().unwrap().parse::<NanoUsd>().unwrap().0;
    (amount("spent"), amount("held"))
}

/// Waits until nothing is held, and says what is spent.
async fn settled(rig: &Rig) -> i64 {
    rig.settle().await;
    until("nothing is held", || async {
        let (spent, held) = standing(rig).await;
        (held == 0).then_some(spent)
    })
    .await
}

fn limited(prompt: &str, tokens: u64) -> Value {
    let mut body = chat(prompt);
    body["max_tokens"] = tokens.into();
    body
}

fn code(answer: &Answer) -> String {
    answer.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
}

async fn ledger(rig: &Rig) -> i64 {
    let rows = rig.admin(Method::GET, "/admin/v1/requests?limit=1000", None).await.json();
    rows["data"].as_array().unwrap().iter().map(|row| row["cost_nano_usd"].as_i64().unwrap_or(0)).sum()
}

/// Requests that came together all saw room in the budget: 99 dollars were spent of 30.
#[tokio::test(flavor = "multi_thread")]
async fn litellm_26672_34732_40095_requests_at_once_do_not_slip_past_the_budget() {
    let latency = Options { latency: Duration::from_millis(1_500), ..Options::default() };
    // A worst case is some 75 micro-dollars (about 130 bytes, 40 tokens of answer, in the dearest service): room for two.
    let rig = Arc::new(rig(latency, TenantSpec { budgets: vec![budget("0.00018")], ..TenantSpec::default() }).await);
    let asked: Vec<_> = (0..60)
        .map(|n| {
            let rig = Arc::clone(&rig);
            tokio::spawn(async move { rig.chat(KEY, &limited(&format!("question {n}"), 40)).await })
        })
        .collect();
    let mut served = 0;
    for answer in asked {
        let answer = answer.await.unwrap();
        if answer.status == StatusCode::OK {
            served += 1;
            continue;
        }
        assert_eq!((answer.status.as_u16(), code(&answer).as_str()), (429, "budget_exceeded"));
        assert_eq!(answer.json()["error"]["type"], "insufficient_quota");
        assert_eq!(answer.header("x-should-retry"), "false");
        assert!(answer.header("retry-after").parse::<u64>().unwrap() > 0);
    }
    assert!((1..=3).contains(&served), "{served}");
    let spent = settled(&rig).await;
    assert!(spent > 0 && spent <= 180_000, "{spent}");
    assert_eq!(spent, ledger(&rig).await);
}

/// What a request had reserved stayed reserved when it failed, and in the end nobody could ask any more.
#[tokio::test(flavor = "multi_thread")]
async fn litellm_27639_36926_no_way_out_of_a_request_leaves_its_money_held() {
    let spec = TenantSpec {
        budgets: vec![budget("0.01")],
        limits: RateLimits { concurrency: Some(50), ..RateLimits::default() },
        ..TenantSpec::default()
    };
    let options =
        Options { latency: Duration::from_millis(20), chunk_delay: Duration::from_millis(5), ..Options::default() };
    let rig = rig(options, spec).await;
    let faults = [
        ("/v1/chat/completions", limited("no-such-model", 10)),
        (
            "/v1/chat/completions",
            json!({ "model": "no-such-model-x", "messages": [{ "role": "user", "content": "x" }] }),
        ),
        ("/v1/chat/completions", json!({ "model": "gpt-4o-mini", "messages": "wrong" })),
        ("/v1/embeddings", json!({ "model": "no-such-model-e", "input": ["a", "b"] })),
        ("/v1/embeddings", json!({ "model": "text-embedding-3-small", "input": ["a", "b"] })),
        ("/v1/moderations", json!({ "input": "x" })),
    ];
    for round in 0..20 {
        for (path, body) in &faults {
            rig.send(Method::POST, path, KEY, &[("x-remora-namespace", &round.to_string())], body.to_string().into())
                .await;
        }
        // Clients that leave: before the head, after it, and in the middle of a stream.
        for (n, wait) in [0, 5, 15, 25, 40, 60].into_iter().enumerate() {
            // A whole answer that nobody waited for counts as the most.
            let prompt = format!("left {round} {n}");
            let body = if n % 2 == 0 { limited(&prompt, 10) } else { chat_stream(&prompt) };
            let request = chat_request(rig.app().data, KEY, &[], &body);
            let asked = async {
                let mut body = rig.client.request(request).await.unwrap().into_body();
                while let Some(Ok(_)) = body.frame().await {}
            };
            let _ = tokio::time::timeout(Duration::from_millis(wait), asked).await;
        }
    }
    let spent = settled(&rig).await;
    assert_eq!(spent, ledger(&rig).await);
    // Nothing is held, so a request that needs nearly all that is left has room, and so have as many at once as there are seats.
    let left = 10_000_000 - spent;
    assert!(left > 5_000_000, "the test spends too much: {spent}");
    // A token of output at the dearest service costs a thousandth of a thousandth of a dollar.
    let body = limited("the rest", u64::try_from((left - 200_000) / 1_000).unwrap());
    let answer = rig.chat(KEY, &body).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
}

/// A client left in the middle of a stream: the provider billed, the gateway booked nothing.
#[tokio::test(flavor = "multi_thread")]
async fn litellm_14457_30630_what_was_streamed_before_the_client_left_is_paid_for() {
    let options = Options { chunk_delay: Duration::from_millis(20), tokens: 200, ..Options::default() };
    let rig = rig(options, TenantSpec { budgets: vec![budget("1")], ..TenantSpec::default() }).await;
    let request = chat_request(rig.app().data, KEY, &[], &chat_stream("Tell me a long story"));
    let response = rig.client.request(request).await.unwrap();
    let id = response.headers()["x-remora-request-id"].to_str().unwrap().to_owned();
    let mut body = response.into_body();
    let mut seen = Vec::new();
    while seen.windows(6).filter(|part| part == b"data: ").count() < 20 {
        seen.extend_from_slice(&body.frame().await.unwrap().unwrap().into_data().unwrap());
    }
    drop(body);
    let row = until("the row of the stream that was left", || async {
        let told = rig.admin(Method::GET, &format!("/admin/v1/requests/{id}"), None).await;
        (told.status == StatusCode::OK).then(|| told.json())
    })
    .await;
    assert_eq!(
        (row["outcome"].as_str(), row["tokens"]["source"].as_str()),
        (Some("cancelled"), Some("estimated")),
        "{row}"
    );
    let output = row["tokens"]["output"].as_u64().unwrap();
    assert!((10..150).contains(&output), "some of 200 tokens of four bytes: {row}");
    let cost = row["cost_nano_usd"].as_i64().unwrap();
    assert_eq!(cost, (row["tokens"]["input"].as_i64().unwrap() * 150) + i64::try_from(output).unwrap() * 600);
    assert_eq!(settled(&rig).await, cost);
}

/// The same for an upstream that breaks off, which bills what it has sent.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_streamed_before_the_upstream_broke_off_is_paid_for() {
    let upstream = Canned::start(|_| {
        let event = |text: &str| {
            let choice = json!({ "index": 0, "delta": { "content": text }, "finish_reason": null });
            chunk(&format!("data: {}\n\n", json!({ "id": "c", "model": "m", "created": 1, "choices": [choice] })))
        };
        vec![stream_head(), event("Once upon a time"), event(" there was a fish")]
    })
    .await;
    let address: SocketAddr = upstream.addr;
    let change = move |config: &mut Config| {
        declare(
            config,
            vec![tenant("acme", &[("app", KEY)], TenantSpec { budgets: vec![budget("1")], ..TenantSpec::default() })],
        );
        config.upstream.url = format!("http://{address}/v1");
    };
    let rig = Rig::with(Plan { change: Arc::new(change), ..Plan::default() }).await;
    let answer = rig.chat(KEY, &chat_stream("Tell me a story")).await;
    let row = rig.row(&answer).await;
    assert_eq!(
        (row["outcome"].as_str(), row["tokens"]["source"].as_str()),
        (Some("failed"), Some("estimated")),
        "{row}"
    );
    assert_eq!(row["tokens"]["output"], 8, "`Once upon a time there was a fish` has eight tokens");
    assert!(row["cost_nano_usd"].as_i64().unwrap() > 8 * 600);
}

/// Answers were shared between teams, and two keys that named one cache key got each other's.
#[tokio::test(flavor = "multi_thread")]
async fn litellm_29955_bifrost_5769_nobody_chooses_to_see_the_answers_of_others() {
    let change = |config: &mut Config| {
        declare(
            config,
            vec![
                tenant("acme", &[("app", KEY), ("batch", OTHER)], TenantSpec::default()),
                tenant("rival", &[("app", "rk-rival-0123456789abcdef")], TenantSpec::default()),
            ],
        );
    };
    let rig = Rig::with(Plan { change: Arc::new(change), ..Plan::default() }).await;
    let named = [("x-remora-namespace", "shared"), ("x-remora-user", "same"), ("x-bf-cache-key", "same")];
    let first = rig.chat_with(KEY, &named, &chat("What is our margin?")).await;
    assert_eq!(first.cache(), "MISS");
    for key in [OTHER, "rk-rival-0123456789abcdef"] {
        let answer = rig.chat_with(key, &named, &chat("What is our margin?")).await;
        assert_eq!(answer.cache(), "MISS", "{key}");
    }
    assert_eq!(rig.chat_with(KEY, &named, &chat("What is our margin?")).await.cache(), "HIT");
}

/// A caller could lower the similarity below the floor of the operator.
#[tokio::test(flavor = "multi_thread")]
async fn bifrost_5769_a_caller_does_not_lower_the_threshold() {
    let change = |config: &mut Config| {
        config.cache.similarity = 0.999;
        config.cache.max_error_rate = 0.0;
    };
    let rig = Rig::with(Plan { change: Arc::new(change), ..Plan::default() }).await;
    rig.chat("sk-a", &chat("What is the capital of France?")).await;
    for header in ["x-remora-similarity", "x-bf-cache-threshold"] {
        let near = rig
            .chat_with("sk-a", &[(header, "0.1")], &chat(&format!("Which is the capital of France, {header}?")))
            .await;
        assert_eq!(near.cache(), "MISS", "{header}: {}", near.reason());
    }
}

/// Limits held for each process, so that two of them gave twice as much; so did budgets.
#[tokio::test(flavor = "multi_thread")]
async fn litellm_27736_bifrost_3547_two_replicas_have_one_limit_and_one_budget() {
    let spec = TenantSpec {
        limits: RateLimits { rpm: Some(30), tpm: Some(2_000), ..RateLimits::default() },
        budgets: vec![budget("1")],
        ..TenantSpec::default()
    };
    let redis = service("REDIS_URL");
    let fleet = Fleet::start(2, Options::default(), move |_, config: &mut Config| {
        declare(config, vec![tenant("acme", &[("app", KEY)], spec.clone())]);
        let overrides = remora::config::Overrides { redis: Some(redis.clone()), ..Default::default() };
        config.redis = Config::load(None, std::iter::empty(), &overrides).ok().and_then(|config| config.redis);
    })
    .await;
    let (mut served, mut tokens) = (0, 0);
    for n in 0..80 {
        let answer = fleet.chat_with(n % 2, KEY, &[], &limited(&format!("question {n}"), 100)).await;
        if answer.status == StatusCode::OK {
            served += 1;
            tokens += answer.json()["usage"]["total_tokens"].as_u64().unwrap();
        } else {
            assert_eq!(
                (answer.status.as_u16(), code(&answer).as_str()),
                (429, "rate_limit_exceeded"),
                "{}",
                answer.text()
            );
        }
    }
    // What refills while the test runs comes on top: a request in two seconds, 33 tokens in one.
    assert!((10..=45).contains(&served), "{served} requests");
    assert!(tokens <= 3_500, "{tokens} tokens");
    let spent = until("both replicas say the same", || async {
        let mut said = Vec::new();
        for replica in 0..2 {
            let told = fleet.admin(replica, Method::GET, "/admin/v1/tenants/acme/budgets", None).await.json();
            said.push((told["budgets"][0]["spent"].clone(), told["budgets"][0]["held"].clone()));
        }
        (said[0] == said[1] && said[0].1 == "0.00").then(|| said[0].0.clone())
    })
    .await;
    assert!(spent.as_str().unwrap().parse::<NanoUsd>().unwrap().0 > 0, "{spent}");
}

/// Redis was away and every request hung with it.
#[tokio::test(flavor = "multi_thread")]
async fn litellm_34299_without_redis_requests_go_on_and_limits_still_hold() {
    // Nobody ever accepts: a connection to it is neither made nor refused for long.
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let redis = format!("redis://{}", deaf.local_addr().unwrap());
    let spec = TenantSpec {
        limits: RateLimits { rpm: Some(20), ..RateLimits::default() },
        budgets: vec![budget("1")],
        ..TenantSpec::default()
    };
    let fleet = Fleet::start(1, Options::default(), move |_, config: &mut Config| {
        declare(config, vec![tenant("acme", &[("app", KEY)], spec.clone())]);
        let overrides = remora::config::Overrides { redis: Some(redis.clone()), ..Default::default() };
        config.redis = Config::load(None, std::iter::empty(), &overrides).ok().and_then(|config| config.redis);
    })
    .await;
    let mut answers = Vec::new();
    for n in 0..40 {
        answers.push(fleet.chat_with(0, KEY, &[], &chat(&format!("question {n}"))).await);
    }
    let served = answers.iter().filter(|answer| answer.status == StatusCode::OK).count();
    assert!(
        (15..=30).contains(&served),
        "{served}: {:?}",
        answers.iter().map(|a| a.status.as_u16()).collect::<Vec<_>>()
    );
    let others: Vec<String> = answers.iter().filter(|answer| answer.status != StatusCode::OK).map(code).collect();
    assert!(others.iter().all(|code| code == "rate_limit_exceeded"), "{others:?}");
    let metrics = fleet.admin(0, Method::GET, "/metrics", None).await.text();
    assert!(metrics.lines().any(|line| line == "remora_ratelimit_degraded 1"), "degraded is not told");
}

/// Replicas that added to the same counter rows blocked each other until spend was dropped.
#[tokio::test(flavor = "multi_thread")]
async fn litellm_27989_many_requests_of_one_tenant_on_two_replicas_lose_no_spend() {
    let spec = TenantSpec { budgets: vec![budget("100")], ..TenantSpec::default() };
    let fleet = Fleet::start(2, Options::default(), move |_, config: &mut Config| {
        declare(config, vec![tenant("acme", &[("app", KEY)], spec.clone())]);
    })
    .await;
    let fleet = Arc::new(fleet);
    let asked: Vec<_> = (0..8)
        .map(|client| {
            let fleet = Arc::clone(&fleet);
            tokio::spawn(async move {
                let mut served = 0;
                for n in 0..30 {
                    let body = limited(&format!("client {client} asks {n}"), 20);
                    served += usize::from(fleet.chat_with(client % 2, KEY, &[], &body).await.status == StatusCode::OK);
                }
                served
            })
        })
        .collect();
    let mut served = 0;
    for client in asked {
        served += client.await.unwrap();
    }
    assert_eq!(served, 240);
    fleet.settle().await;
    let ledger = fleet.database.number("SELECT SUM(cost_nano_usd)::bigint FROM requests WHERE tenant = 'acme'").await;
    until("the counters say what the ledger says", || async {
        let told = fleet.admin(0, Method::GET, "/admin/v1/tenants/acme/budgets", None).await.json();
        let spent = told["budgets"][0]["spent"].as_str().unwrap().parse::<NanoUsd>().unwrap().0;
        (spent == ledger && told["budgets"][0]["held"] == "0.00").then_some(())
    })
    .await;
}

/// Hits were counted as spend, and nobody was served from the cache once the budget was gone.
#[tokio::test(flavor = "multi_thread")]
async fn litellm_39057_a_hit_costs_nothing_and_is_served_when_the_budget_is_spent() {
    let options = Options { tokens: 20, ..Options::default() };
    let rig = rig(options, TenantSpec { budgets: vec![budget("0.00015")], ..TenantSpec::default() }).await;
    let first = limited("What is the capital of France?", 60);
    let answer = rig.chat(KEY, &first).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let spent = settled(&rig).await;
    for n in 0..20 {
        rig.chat(KEY, &limited(&format!("spend {n}"), 40)).await;
    }
    let refused = rig.chat(KEY, &limited("one more", 100)).await;
    assert_eq!(code(&refused), "budget_exceeded");
    let before = settled(&rig).await;
    assert!(before >= spent);
    assert_eq!(rig.chat(KEY, &first).await.cache(), "HIT");
    assert_eq!(settled(&rig).await, before);
}

/// Clients that send head and body apart found their connection closed by a refusal, one request later.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_leaves_the_connection_to_the_next_request() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let spec = TenantSpec { limits: RateLimits { rpm: Some(1), ..RateLimits::default() }, ..TenantSpec::default() };
    let rig = rig(Options::default(), spec).await;
    let mut stream = tokio::net::TcpStream::connect(rig.app().data).await.unwrap();
    let body = chat("hello").to_string();
    let mut statuses = Vec::new();
    for key in [KEY, KEY, "rk-unknown-0123456789abcdef", KEY] {
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(30)).await;
        stream.write_all(body.as_bytes()).await.unwrap();
        let mut seen = Vec::new();
        let whole = |seen: &[u8]| {
            let text = String::from_utf8_lossy(seen).into_owned();
            let (head, rest) = text.split_once("\r\n\r\n")?;
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?.parse::<usize>().ok()?;
            (rest.len() >= length).then(|| head.split(' ').nth(1).unwrap().to_owned())
        };
        let status = loop {
            if let Some(status) = whole(&seen) {
                break status;
            }
            let read = stream.read_buf(&mut seen).await.unwrap();
            assert!(read > 0, "closed after {statuses:?}");
        };
        statuses.push(status);
    }
    assert_eq!(statuses, ["200", "429", "401", "429"]);
}
