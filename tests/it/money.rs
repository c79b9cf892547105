//! What a request costs and what a hit saves, told four ways: to the caller, in the ledger, in its sums, and as metrics. All must be
//! the same to the nano-dollar.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full};
use remora::config::{
    Budget, Config, EmbeddingKind, KeySpec, NanoUsd, Period, RateLimits, Secret, Tenant, TenantKey, TenantSpec,
};
use remora::ids::RequestId;
use remora::simulate::Options;
use remora::store::{Dimension, LedgerRow, Slot, Sums, Tokens, UsageAsk};
use serde_json::Value;

use crate::child::until;
use crate::rig::{Plan, Rig, chat, chat_stream};
use crate::scripted::{Scripted, by_topic, metric};

fn nano(text: &str) -> i64 {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    sign * digits.parse::<NanoUsd>().unwrap().0
}

fn told(headers: &HeaderMap, name: &str) -> i64 {
    nano(headers.get(name).unwrap_or_else(|| panic!("no {name} in {headers:?}")).to_str().unwrap())
}

async fn row_of(rig: &Rig, headers: &HeaderMap) -> LedgerRow {
    let id: RequestId = headers["x-remora-request-id"].to_str().unwrap().parse().unwrap();
    until("the row", || async {
        rig.settle().await;
        rig.app().stores.ledger.request(id).await.unwrap()
    })
    .await
}

/// Reads a stream to its end: its head, and what comes after its end.
async fn stream(rig: &Rig, body: &Value) -> (HeaderMap, HeaderMap) {
    let request = Request::post(format!("http://{}/v1/chat/completions", rig.app().data))
        .header("authorization", "Bearer sk-a")
        .header("te", "trailers")
        .body(Full::new(Bytes::from(body.to_string())))
        .unwrap();
    let (head, body) = rig.client.request(request).await.unwrap().into_parts();
    let trailers = body.collect().await.unwrap().trailers().cloned().unwrap_or_default();
    (head.headers, trailers)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hit_saves_what_the_miss_has_cost_and_both_are_told() {
    let rig = Rig::start().await;
    let (miss, hit) = (rig.chat("sk-a", &chat("one")).await, rig.chat("sk-a", &chat("one")).await);
    let cost = told(&miss.headers, "x-remora-cost-usd");
    assert!(cost > 0);
    assert_eq!(told(&miss.headers, "x-remora-saved-usd"), 0);
    assert_eq!(told(&hit.headers, "x-remora-cost-usd"), 0);
    assert_eq!(told(&hit.headers, "x-remora-saved-usd"), cost);

    let (missed, served) = (row_of(&rig, &miss.headers).await, row_of(&rig, &hit.headers).await);
    assert_eq!(
        (missed.cost_nano_usd, missed.saved_gross_nano_usd, missed.saved_nano_usd),
        (Some(cost), Some(0), Some(0))
    );
    assert_eq!(
        (served.cost_nano_usd, served.saved_gross_nano_usd, served.saved_nano_usd),
        (Some(0), Some(cost), Some(cost))
    );
    assert_eq!(served.tokens, missed.tokens, "a hit tells the usage of the answer that it repeats");
    let [attempt] = &missed.attempts[..] else { panic!("{:?}", missed.attempts) };
    assert_eq!((attempt.number, &*attempt.kind, attempt.status), (1, "completion", Some(200)));
    assert_eq!((attempt.cost_nano_usd, attempt.tokens), (Some(cost), missed.tokens));
    assert_eq!(served.attempts, []);
    let money = &rig.app().metrics.money;
    assert_eq!(
        (money.cost("completion"), money.saved("gross"), money.saved("net")),
        (cost.into(), cost.into(), cost.into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stream_costs_is_told_after_its_end() {
    let rig = Rig::start().await;
    let (head, after) = stream(&rig, &chat_stream("two")).await;
    assert_eq!(head["trailer"], "x-remora-cost-usd, x-remora-saved-usd");
    let cost = told(&after, "x-remora-cost-usd");
    assert_eq!((Some(cost), Some(told(&after, "x-remora-saved-usd"))), {
        let row = row_of(&rig, &head).await;
        (row.cost_nano_usd, row.saved_nano_usd)
    });
    // The answer is there from the first byte on, so what it saved stands in the head.
    let (head, _) = stream(&rig, &chat_stream("two")).await;
    assert_eq!(told(&head, "x-remora-saved-usd"), cost);
    let plain = rig.chat("sk-a", &chat_stream("three")).await;
    assert!(plain.headers.get("trailer").is_none(), "to a client that does not say that it reads them");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_joins_a_call_saves_what_its_leader_pays() {
    let simulate = Options { latency: Duration::from_millis(400), ..Options::default() };
    for body in [chat("shared"), chat_stream("shared")] {
        let rig = Arc::new(Rig::with(Plan { simulate: simulate.clone(), ..Plan::default() }).await);
        let asking: Vec<_> = (0..4)
            .map(|_| {
                let (rig, body) = (Arc::clone(&rig), body.clone());
                tokio::spawn(async move { rig.chat("sk-a", &body).await })
            })
            .collect();
        let mut rows = Vec::new();
        for answer in asking {
            rows.push(row_of(&rig, &answer.await.unwrap().headers).await);
        }
        let (led, followed): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.outcome == "miss");
        assert_eq!((led.len(), followed.len()), (1, 3));
        let cost = led[0].cost_nano_usd.unwrap();
        assert!(cost > 0);
        for row in followed {
            assert_eq!((row.cost_nano_usd, row.saved_gross_nano_usd), (Some(0), Some(cost)), "{row:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_check_is_a_cost_of_the_cache_and_is_taken_off_what_it_saves() {
    let upstream = Scripted::start(&[]).await;
    let rig = upstream.rig(|config| config.cache.audit.rate = 1.0).await;
    rig.chat("sk-a", &chat("Tell me about the tides")).await;
    let hit = rig.chat("sk-a", &chat("Please tell me about the tides")).await;
    assert_eq!(hit.header("x-remora-tier"), "semantic");
    let rows = until("the check's row", || async {
        rig.settle().await;
        let rows = rig.app().stores.ledger.recent(None, 10).await.unwrap();
        rows.iter().any(LedgerRow::is_check).then_some(rows)
    })
    .await;
    let check = rows.iter().find(|row| row.is_check()).unwrap();
    let cost = check.cost_nano_usd.unwrap();
    assert!(cost > 0);
    assert_eq!((check.saved_gross_nano_usd, check.saved_nano_usd), (Some(0), Some(-cost)));
    let (gross, net): (i64, i64) = rows.iter().fold((0, 0), |(gross, net), row| {
        (gross + row.saved_gross_nano_usd.unwrap(), net + row.saved_nano_usd.unwrap())
    });
    assert_eq!((net, i128::from(cost)), (gross - cost, rig.app().metrics.money.cost("check")));
    assert_eq!(rig.app().metrics.money.saved("net"), net.into());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vector_that_is_paid_for_makes_the_saving_smaller() {
    let sim = remora::simulate::spawn(Options::default(), "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let url = format!("{}/v1", sim.url());
    let change = move |config: &mut Config| {
        let model = "text-embedding-3-small".to_owned();
        let api_key = Some(Secret::new("sk-embedder".to_owned()));
        config.embedding.kind = EmbeddingKind::OpenAi { url: url.clone(), model, api_key, dimensions: 64 };
        config.embedding.deadline = Duration::from_secs(20);
    };
    let rig = Rig::with(Plan { change: Arc::new(change), embedder: None, ..Plan::default() }).await;
    let answer = rig.chat("sk-a", &chat(&"A question of some length about the tides. ".repeat(40))).await;
    let row = row_of(&rig, &answer.headers).await;
    let kinds: Vec<&str> = row.attempts.iter().map(|attempt| &*attempt.kind).collect();
    assert_eq!(kinds, ["embedding", "completion"]);
    let (embedding, completion) = (row.embedding_nano_usd.unwrap(), row.cost_nano_usd.unwrap());
    assert!(embedding > 0 && completion > embedding, "{row:?}");
    assert_eq!(row.attempts[0].tokens_source.as_deref(), Some("billed"));
    assert_eq!(row.tokens, row.attempts[1].tokens, "the vector's tokens are not the answer's");
    assert_eq!(row.saved_nano_usd, Some(-embedding));
    assert_eq!(rig.app().metrics.money.cost("embedding"), embedding.into());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_prompt_that_the_provider_still_knows_saves_only_its_cached_price() {
    let rig = Rig::start().await;
    let long = chat(&"All of this stands at the beginning of every request. ".repeat(200));
    let (miss, hit) = (rig.chat("sk-a", &long).await, rig.chat("sk-a", &long).await);
    let (cost, saved) = (told(&miss.headers, "x-remora-cost-usd"), told(&hit.headers, "x-remora-saved-usd"));
    // gpt-4o-mini: cached input costs half of the other.
    assert!(saved > 0 && saved < cost, "{saved} of {cost}");
    let input = row_of(&rig, &miss.headers).await.tokens.input;
    let cached = i64::try_from(input / 128 * 128).unwrap();
    assert_eq!(cost - saved, cached * 75);
}

/// Requests that a test may take. With so many, chance leaves no kind of them out.
const USUAL: usize = 3_000;

/// Requests of the test below: the usual number, or as many as somebody has patience for.
fn how_many() -> usize {
    std::env::var("REMORA_SUMS").ok().and_then(|count| count.parse().ok()).unwrap_or(USUAL)
}

const KEYS: [&str; 2] = ["rk-one-0123456789abcdef", "rk-two-0123456789abcdef"];

fn tenant(number: usize) -> Tenant {
    let budget = Budget {
        name: "month".to_owned(),
        period: Period::Month,
        usd: "1000000".parse().unwrap(),
        hard: true,
        alert_at: Vec::new(),
        key: None,
        model: None,
        tag: None,
    };
    // The second is held to so few at a time that some of its requests are refused.
    let limits = RateLimits { concurrency: (number == 1).then_some(4), ..RateLimits::default() };
    Tenant {
        name: format!("tenant{number}"),
        keys: vec![TenantKey {
            name: "app".to_owned(),
            secret: Secret::new(KEYS[number].to_owned()),
            spec: KeySpec::default(),
        }],
        upstream_api_key: None,
        spec: TenantSpec { budgets: vec![budget], limits, ..TenantSpec::default() },
    }
}

/// One request of any kind, read to its end or left in the middle.
async fn any(rig: &Rig, data: SocketAddr) {
    let topic = ["tides", "parcel", "garden", "invoice", "museum"][fastrand::usize(0..5)];
    let prompt = match fastrand::usize(0..10) {
        0 => format!("Tell me about the {topic}"),
        // So much like the one above that it is a hit.
        1 => format!("Please tell me about the {topic}"),
        _ => format!("question {}", fastrand::usize(0..400)),
    };
    let mut body = if fastrand::bool() { chat(&prompt) } else { chat_stream(&prompt) };
    let model = ["gpt-4o-mini", "gpt-4o", "o4-mini", "nobody-knows-its-price"][fastrand::usize(0..4)];
    body["model"] = model.into();
    let faults =
        ["status=500", "status=429", "reset", "cut=2", "no-usage", "usage-every-chunk", "truncate", "error-event=1"];
    let mut request = Request::post(format!("http://{data}/v1/chat/completions"))
        .header("authorization", format!("Bearer {}", KEYS[fastrand::usize(0..2)]))
        .header("x-remora-tags", format!("team=t{}", fastrand::usize(0..3)))
        .header("x-remora-user", format!("u{}", fastrand::usize(0..5)));
    let kind = fastrand::usize(0..12);
    if kind > 1 && fastrand::usize(0..5) == 0 {
        request = request.header("x-simulate", faults[fastrand::usize(0..faults.len())]);
        // Otherwise most of them would be hits.
        request = request.header("cache-control", "no-cache");
    }
    match kind {
        // Both at a time, and slow enough for the second to join the first.
        0 => {
            request = request.header("x-simulate", "latency=20ms");
            let request = request.body(Full::new(Bytes::from(body.to_string()))).unwrap();
            tokio::join!(read(rig, request.clone(), usize::MAX), read(rig, request, usize::MAX));
        }
        // Nobody waits for the answer.
        1 => {
            request = request.header("x-simulate", "latency=300ms").header("cache-control", "no-cache");
            let request = request.body(Full::new(Bytes::from(body.to_string()))).unwrap();
            let _ = tokio::time::timeout(Duration::from_millis(30), read(rig, request, usize::MAX)).await;
        }
        _ => {
            let request = request.body(Full::new(Bytes::from(body.to_string()))).unwrap();
            read(rig, request, if kind == 2 { fastrand::usize(0..3) } else { usize::MAX }).await;
        }
    }
}

/// Sends a request and reads so many parts of its answer.
async fn read(rig: &Rig, request: Request<Full<Bytes>>, parts: usize) {
    let Ok(response) = rig.client.request(request).await else { return };
    let mut body = response.into_body();
    for _ in 0..parts {
        let Some(Ok(_)) = body.frame().await else { return };
    }
}

fn add(sums: &mut Sums, row: &LedgerRow) {
    let check = row.is_check();
    *if check { &mut sums.check } else { &mut sums.cost } += row.cost_nano_usd.unwrap_or(0);
    if check {
        sums.checks += 1;
    } else {
        sums.requests += 1;
        match (&*row.outcome, row.tier.as_deref()) {
            ("hit", Some("semantic")) => sums.hits_semantic += 1,
            ("hit", _) => sums.hits_exact += 1,
            ("coalesced", _) => sums.coalesced += 1,
            ("refused", _) => sums.refused += 1,
            ("failed" | "cancelled", _) => sums.failed += 1,
            _ => {}
        }
    }
    sums.estimated += u64::from(row.tokens_source.as_deref() == Some("estimated"));
    sums.embedding += row.embedding_nano_usd.unwrap_or(0);
    sums.saved_gross += row.saved_gross_nano_usd.unwrap_or(0);
    sums.saved_net += row.saved_nano_usd.unwrap_or(0);
    sums.unpriced += u64::from(row.is_unpriced());
    let tokens = if row.tokens_source.as_deref() == Some("replayed") { &mut sums.replayed } else { &mut sums.billed };
    *tokens = tokens.plus(&row.tokens);
}

/// Every row of the ledger: how many there are by outcome, and their sums.
async fn rows(rig: &Rig) -> (BTreeMap<String, u64>, Sums) {
    let (mut after, mut outcomes, mut sums) = (None, BTreeMap::new(), Sums::default());
    loop {
        let page = rig.app().stores.ledger.page(after, 5_000).await.unwrap();
        let Some(last) = page.last() else { return (outcomes, sums) };
        after = Some(last.request);
        for row in &page {
            *outcomes.entry(row.outcome.to_string()).or_default() += 1;
            add(&mut sums, row);
            let calls: Option<i64> = row.attempts.iter().map(|attempt| attempt.cost_nano_usd).sum();
            assert_eq!(
                calls,
                row.cost_nano_usd.zip(row.embedding_nano_usd).map(|(cost, vector)| cost + vector),
                "{row:?}"
            );
            let billed = row.attempts.iter().fold(Tokens::default(), |sum, attempt| sum.plus(&attempt.tokens));
            assert!(row.tokens_source.as_deref() == Some("replayed") || billed == row.tokens, "{row:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_roll_ups_budgets_and_metrics_say_the_same_after_all_that_can_happen_to_requests() {
    let change = |config: &mut Config| {
        config.tenants = vec![tenant(0), tenant(1)];
        config.upstream.api_key = Some(Secret::new("sk-upstream".to_owned()));
        config.server.passthrough = false;
        config.server.limits.connections_per_ip = 10_000;
        config.cache.audit.rate = 0.2;
        config.cache.max_entries = 500;
    };
    let embedder = Some(by_topic());
    let rig = Arc::new(Rig::with(Plan { change: Arc::new(change), embedder, ..Plan::default() }).await);
    let left = Arc::new(AtomicUsize::new(how_many()));
    let clients: Vec<_> = (0..16)
        .map(|_| {
            let (rig, left, data) = (Arc::clone(&rig), Arc::clone(&left), rig.app().data);
            tokio::spawn(async move {
                while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                    any(&rig, data).await;
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    let held = |standing: &Value| nano(standing["budgets"][0]["held"].as_str().unwrap());
    let mut spent = 0;
    for number in 0..2 {
        let path = format!("/admin/v1/tenants/tenant{number}/budgets");
        let standing = until("nothing is held", || async {
            rig.settle().await;
            let standing = rig.admin(Method::GET, &path, None).await.json();
            (held(&standing) == 0).then_some(standing)
        })
        .await;
        spent += nano(standing["budgets"][0]["spent"].as_str().unwrap());
    }
    let (outcomes, sums) = rows(&rig).await;
    println!("{outcomes:?}: {sums:?}");
    assert!(outcomes.values().sum::<u64>() >= how_many() as u64, "{outcomes:?}");
    if how_many() >= USUAL {
        for outcome in ["hit", "miss", "coalesced", "refresh", "cancelled", "failed", "refused", "audit"] {
            assert!(outcomes.contains_key(outcome), "none is {outcome}: {outcomes:?}");
        }
        let Sums { hits_exact, hits_semantic, checks, unpriced, estimated, .. } = sums;
        assert!(
            [hits_exact, hits_semantic, checks, unpriced, estimated].into_iter().all(|count| count > 0),
            "{sums:?}"
        );
        assert!(sums.cost > 0 && sums.check > 0 && sums.saved_gross > 0, "{sums:?}");
    }

    let ask = UsageAsk { since: 0, until: 4_102_444_800_000, ..UsageAsk::default() };
    use Dimension::{Key, Model, Route, Tag, Tenant as Of, User};
    let days = Some(Slot::Day);
    let groups = [vec![], vec![Of], vec![Of, Key, Model], vec![Route], vec![Of, User]];
    for (by, slot) in groups.into_iter().flat_map(|by| [(by.clone(), None), (by, days)]) {
        let mut all = Sums::default();
        for group in rig.app().stores.usage.usage(&UsageAsk { by: by.clone(), slot, ..ask.clone() }).await.unwrap() {
            all = all.plus(&group.sums);
        }
        assert_eq!(all, sums, "by {by:?}");
    }
    let tags = rig.app().stores.usage.usage(&UsageAsk { by: vec![Tag], ..ask }).await.unwrap();
    assert!(tags.len() >= 3, "{tags:?}");

    assert_eq!(spent, sums.cost + sums.check, "what the budgets count");
    let money = &rig.app().metrics.money;
    let metrics = ["completion", "check", "embedding"].map(|kind| money.cost(kind));
    assert_eq!(metrics, [sums.cost, sums.check, sums.embedding].map(i128::from));
    assert_eq!(["gross", "net"].map(|basis| money.saved(basis)), [sums.saved_gross, sums.saved_net].map(i128::from));
    // What a Prometheus sees: doubles, near enough to tell one nano-dollar from the next.
    for (outcome, count) in &outcomes {
        let label = format!("outcome=\"{outcome}\"");
        assert_eq!(metric(&rig, "remora_requests_total", &[&label]).await, *count as f64, "{outcome}");
    }
    assert_eq!(metric(&rig, "remora_requests_total", &[]).await, outcomes.values().sum::<u64>() as f64);
    for (kind, cost) in [("completion", sums.cost), ("check", sums.check), ("embedding", sums.embedding)] {
        let label = format!("kind=\"{kind}\"");
        assert_eq!(nano_of(metric(&rig, "remora_cost_usd_total", &[&label]).await), cost, "cost of kind {kind}");
    }
    let gross = metric(&rig, "remora_saved_usd_total", &["basis=\"gross\""]).await;
    assert_eq!(nano_of(gross), sums.saved_gross);
    // A counter must not fall, so that of the net shows the highest sum of each series.
    let net = metric(&rig, "remora_saved_usd_total", &["basis=\"net\""]).await;
    assert!((sums.saved_net..=sums.saved_gross).contains(&nano_of(net)), "{net}: {sums:?}");
    assert_eq!(sums.saved_gross - sums.check - sums.embedding, sums.saved_net);
    assert_eq!(metric(&rig, "remora_unpriced_requests_total", &[]).await, sums.unpriced as f64);
    for (kind, (billed, replayed)) in
        Tokens::KINDS.into_iter().zip(sums.billed.counts().into_iter().zip(sums.replayed.counts()))
    {
        let label = format!("type=\"{kind}\"");
        let told = metric(&rig, "remora_tokens_total", &[&label]).await;
        assert_eq!(told, (billed + replayed) as f64, "tokens of kind {kind}");
    }
}

/// Dollars of a metric as nano-dollars.
#[expect(clippy::cast_possible_truncation, reason = "sums of a test are far below the limit")]
fn nano_of(usd: f64) -> i64 {
    (usd * 1e9).round() as i64
}
