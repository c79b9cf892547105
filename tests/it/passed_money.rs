//! Requests of other dialects are passed on byte for byte, and yet held to budgets and priced by what their answers tell.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use remora::config::{Budget, Config, KeySpec, NanoUsd, Period, Secret, Tenant, TenantKey, TenantSpec, UnknownPrice};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::canned::{Canned, chunk, response, stream_head};
use crate::child::until;
use crate::rig::{Answer, Plan, Rig, chat};
use crate::scripted::metric;

const KEY: &str = "rk-app-0123456789abcdef";

/// Dollars for a million tokens.
const PRICES: &str = r#"{"version":"test","models":[
    {"names":["claude-test"],"input":"3","cache_read":"0.30","cache_write":"3.75","output":"15"},
    {"names":["gpt-test"],"input":"3","cache_read":"0.30","output":"15"}]}"#;

/// A proxy with one tenant in front of an upstream, at fixed prices.
async fn rig(upstream: &Canned, spec: TenantSpec) -> Rig {
    rig_with(upstream, spec, |_| {}).await
}

async fn rig_with(upstream: &Canned, spec: TenantSpec, more: fn(&mut Config)) -> Rig {
    let url = format!("http://{}/v1", upstream.addr);
    let prices = Arc::new(tempfile::tempdir().unwrap());
    let path = prices.path().join("prices.json");
    std::fs::write(&path, PRICES).unwrap();
    let change = move |config: &mut Config| {
        let _kept = &prices;
        config.prices.file = Some(path.clone());
        config.upstream.url.clone_from(&url);
        config.upstream.api_key = Some(Secret::new("sk-upstream".to_owned()));
        config.server.passthrough = false;
        let key = TenantKey { name: "app".into(), secret: Secret::new(KEY.to_owned()), spec: KeySpec::default() };
        let tenant = Tenant { name: "acme".into(), keys: vec![key], upstream_api_key: None, spec: spec.clone() };
        config.tenants = vec![tenant];
        more(config);
    };
    Rig::with(Plan { change: Arc::new(change), ..Plan::default() }).await
}

fn budget(usd: &str) -> TenantSpec {
    let budget = Budget {
        name: "month".to_owned(),
        period: Period::Month,
        usd: usd.parse().unwrap(),
        hard: true,
        alert_at: Vec::new(),
        key: None,
        model: None,
        tag: None,
    };
    TenantSpec { budgets: vec![budget], ..TenantSpec::default() }
}

fn messages(stream: bool) -> Value {
    json!({"model": "claude-test", "max_tokens": 100, "stream": stream,
        "messages": [{"role": "user", "content": "Hello"}]})
}

fn responses(stream: bool) -> Value {
    json!({"model": "gpt-test", "max_output_tokens": 100, "stream": stream, "input": "Hello"})
}

async fn post(rig: &Rig, path: &str, body: &Value) -> Answer {
    rig.send(Method::POST, path, KEY, &[], Bytes::from(body.to_string())).await
}

fn events(events: &[Value]) -> String {
    events.iter().map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap())).collect()
}

fn message_start() -> Value {
    json!({"type": "message_start", "message": {"type": "message", "role": "assistant", "content": [],
        "model": "claude-test-1", "usage": {"input_tokens": 3, "cache_creation_input_tokens": 12_304,
        "cache_read_input_tokens": 1_000, "output_tokens": 1}}})
}

fn text_delta(text: &str) -> Value {
    json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}})
}

/// What each of four requests gets, all with 3 tokens of input, 1,000 read, 12,304 written (not told by Responses) and 550 of output.
fn told(path: &str, stream: bool) -> String {
    let responses_usage = json!({"input_tokens": 1_003, "input_tokens_details": {"cached_tokens": 1_000},
        "output_tokens": 550, "output_tokens_details": {"reasoning_tokens": 50}, "total_tokens": 1_553});
    match (path, stream) {
        ("/v1/messages", false) => json!({"type": "message", "model": "claude-test-1",
            "content": [{"type": "text", "text": "Hi, {\"usage\":{}}"}], "usage": {"input_tokens": 3,
            "cache_creation_input_tokens": 12_304, "cache_read_input_tokens": 1_000, "output_tokens": 550}})
        .to_string(),
        ("/v1/messages", true) => events(&[
            message_start(),
            text_delta("Hi"),
            json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 550}}),
            json!({"type": "message_stop"}),
        ]),
        (_, false) => json!({"object": "response", "model": "gpt-test-1", "output": [{"usage": 1}],
            "usage": responses_usage})
        .to_string(),
        (_, true) => events(&[
            json!({"type": "response.created", "response": {"model": "gpt-test-1", "usage": null}}),
            json!({"type": "response.output_text.delta", "delta": "Hi"}),
            json!({"type": "response.completed", "response": {"model": "gpt-test-1", "usage": responses_usage}}),
        ]),
    }
}

/// The path and the body of a request as it came in.
fn parse(request: &str) -> (String, Value) {
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().to_owned(), serde_json::from_str(body).unwrap_or_default())
}

async fn teller() -> Canned {
    Canned::start(|request| {
        let (path, body) = parse(request);
        let stream = body["stream"] == true;
        let text = told(&path, stream);
        if !stream {
            return vec![response("application/json", "", text.as_bytes())];
        }
        // Cut where no event ends.
        let (one, two) = text.split_at(text.len() / 2);
        vec![stream_head(), chunk(one), chunk(two), b"0\r\n\r\n".to_vec()]
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_and_responses_are_priced_to_the_nano_dollar() {
    let upstream = teller().await;
    let rig = rig(&upstream, budget("10")).await;
    let mut sum = 0;
    for (path, body, cost) in [
        ("/v1/messages", messages(false), 3 * 3_000 + 1_000 * 300 + 12_304 * 3_750 + 550 * 15_000),
        ("/v1/messages", messages(true), 3 * 3_000 + 1_000 * 300 + 12_304 * 3_750 + 550 * 15_000),
        ("/v1/responses", responses(false), 3 * 3_000 + 1_000 * 300 + 550 * 15_000),
        ("/v1/responses", responses(true), 3 * 3_000 + 1_000 * 300 + 550 * 15_000),
    ] {
        let stream = body["stream"] == true;
        let headers = [("accept-encoding", "gzip"), ("anthropic-version", "2023-06-01")];
        let answer = rig.send(Method::POST, path, KEY, &headers, Bytes::from(body.to_string())).await;
        assert_eq!((answer.status, answer.text()), (StatusCode::OK, told(path, stream)), "as upstream said it");
        let seen = upstream.requests().pop().unwrap();
        assert_eq!(parse(&seen).1, body, "as the client said it");
        assert!(!seen.contains("gzip"), "{seen}");
        let row = rig.row(&answer).await;
        assert_eq!(row["cost_nano_usd"], cost, "{path} {stream}: {row}");
        assert_eq!((&row["tokens"]["source"], &row["stream"]), (&json!("billed"), &json!(stream)));
        assert_eq!((&row["model_asked"], &row["outcome"]), (&body["model"], &json!("bypass")));
        assert_eq!(row["model_answered"], format!("{}-1", body["model"].as_str().unwrap()));
        sum += cost;
    }
    until("all of it is spent", || async {
        let told = rig.admin(Method::GET, "/admin/v1/tenants/acme/budgets", None).await.json();
        let spent = told["budgets"][0]["spent"].as_str().unwrap().parse::<NanoUsd>().unwrap();
        (spent.0 == sum && told["budgets"][0]["held"] == "0.00").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hard_budget_binds_on_messages_and_responses() {
    let upstream = teller().await;
    let rig = rig(&upstream, budget("0.05")).await;
    let mut long = messages(false);
    long["max_tokens"] = 100_000.into();
    let refused = post(&rig, "/v1/messages", &long).await;
    assert_eq!(refused.json()["error"]["code"], "budget_exceeded", "what it may cost at most is held first");
    assert_eq!(post(&rig, "/v1/messages", &messages(true)).await.status, StatusCode::OK);
    rig.settle().await;
    for (path, body) in [("/v1/messages", messages(false)), ("/v1/responses", responses(true))] {
        let refused = post(&rig, path, &body).await;
        assert_eq!(
            (refused.status, &refused.json()["error"]["code"]),
            (StatusCode::TOO_MANY_REQUESTS, &json!("budget_exceeded"))
        );
    }
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_streamed_before_the_client_left_or_the_upstream_broke_off_is_paid_for() {
    let upstream = Canned::start(|request| {
        let start = chunk(&events(&[message_start()]));
        let mut parts = vec![stream_head(), start];
        if parse(request).1["messages"][0]["content"] == "Hello" {
            parts.extend(["Once upon a time", " there was a fish"].map(|text| chunk(&events(&[text_delta(text)]))));
        } else {
            parts.extend((0..2_000).map(|_| chunk(&events(&[text_delta(" word")]))));
        }
        parts
    })
    .await;
    let rig = rig(&upstream, budget("1")).await;
    let request = |body: &Value| {
        Request::post(format!("http://{}/v1/messages", rig.app().data))
            .header("x-api-key", KEY)
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body.to_string())))
            .unwrap()
    };
    let input = 3 * 3_000 + 1_000 * 300 + 12_304 * 3_750;

    let response = rig.client.request(request(&messages(true))).await.unwrap();
    let id = response.headers()["x-remora-request-id"].to_str().unwrap().to_owned();
    assert!(response.into_body().collect().await.is_err(), "the client can tell that it was broken off");
    let row = row_of(&rig, &id).await;
    assert_eq!((&row["outcome"], &row["tokens"]["source"]), (&json!("failed"), &json!("estimated")), "{row}");
    assert_eq!(row["tokens"]["output"], 8, "`Once upon a time there was a fish` has eight tokens");
    assert_eq!(row["cost_nano_usd"], input + 8 * 15_000);

    let mut long = messages(true);
    long["messages"][0]["content"] = "Tell me a long story".into();
    let response = rig.client.request(request(&long)).await.unwrap();
    let id = response.headers()["x-remora-request-id"].to_str().unwrap().to_owned();
    let mut body = response.into_body();
    let mut seen = 0;
    while seen < 2_000 {
        seen += body.frame().await.unwrap().unwrap().into_data().unwrap().len();
    }
    drop(body);
    let row = row_of(&rig, &id).await;
    assert_eq!((&row["outcome"], &row["tokens"]["source"]), (&json!("cancelled"), &json!("estimated")), "{row}");
    let output = row["tokens"]["output"].as_i64().unwrap();
    assert!((5..2_000).contains(&output), "{row}");
    assert_eq!(row["cost_nano_usd"], input + output * 15_000);
}

/// What nobody has seen may have been written and billed: a budget that counted nothing for it could be got around by leaving.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_whole_answer_that_did_not_arrive_counts_as_the_most_under_a_hard_budget() {
    let upstream = Canned::start(|request| {
        let head =
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 50000\r\nconnection: close\r\n\r\n";
        match parse(request).1["messages"][0]["content"].as_str().unwrap() {
            "rubbish" => vec![response("application/json", "", b"no JSON")],
            "broken" => vec![head.into(), vec![b' '; 1_000]],
            _ => {
                std::thread::sleep(Duration::from_secs(3));
                Vec::new()
            }
        }
    })
    .await;
    let ask = |path: &str, prompt: &str| {
        let model = if path == "/v1/messages" { "claude-test" } else { "gpt-test" };
        json!({"model": model, "max_tokens": 700, "messages": [{"role": "user", "content": prompt}]})
    };
    let (chat, messages) = ("/v1/chat/completions", "/v1/messages");
    for (spec, unseen) in [(budget("1"), 700), (TenantSpec::default(), 0)] {
        let rig = rig(&upstream, spec).await;
        let send = async |path: &str, prompt: &str| {
            let request = Request::post(format!("http://{}{path}", rig.app().data))
                .header("x-api-key", KEY)
                .header("authorization", format!("Bearer {KEY}"))
                .header("x-remora-timeout", if prompt == "slow" { "200ms" } else { "10s" })
                .body(Full::new(Bytes::from(ask(path, prompt).to_string())))
                .unwrap();
            let response = rig.client.request(request).await.unwrap();
            let id = response.headers()["x-remora-request-id"].to_str().unwrap().to_owned();
            let _ = response.into_body().collect().await;
            id
        };
        for (path, prompt, output) in [
            (chat, "slow", unseen),
            (messages, "slow", unseen),
            (chat, "rubbish", 700),
            (chat, "broken", 250),
            (messages, "broken", 250),
        ] {
            let id = send(path, prompt).await;
            let row = row_of(&rig, &id).await;
            assert_eq!((&row["outcome"], &row["tokens"]["source"]), (&json!("failed"), &json!("estimated")), "{row}");
            assert_eq!(row["tokens"]["output"], output, "{path} {prompt}: {row}");
        }
        for path in [chat, messages] {
            assert!(timeout(Duration::from_millis(300), send(path, "left")).await.is_err());
            let row = until("the row of the request that was left", || async {
                rig.settle().await;
                let rows = rig.app().stores.ledger.recent(None, 10).await.unwrap();
                rows.into_iter().find(|row| row.outcome == "cancelled" && row.route.ends_with(path))
            })
            .await;
            assert_eq!((row.tokens_source.as_deref(), row.tokens.output), (Some("estimated"), unseen), "{row:?}");
        }
    }
}

/// Who leaves while the request waits for a place upstream has cost nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_request_that_never_reached_the_upstream_costs_nothing_under_a_hard_budget_too() {
    let arrived = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&arrived);
    let upstream = Canned::start(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_secs(3));
        Vec::new()
    })
    .await;
    let rig = rig_with(&upstream, budget("1"), |config| config.upstream.max_in_flight = 1).await;
    let ask = |path: &str| {
        let model = if path == "/v1/messages" { "claude-test" } else { "gpt-test" };
        json!({"model": model, "max_tokens": 700, "messages": [{"role": "user", "content": path}]})
    };
    let paths = ["/v1/chat/completions", "/v1/messages"];
    let first = async { post(&rig, "/v1/responses", &responses(false)).await };
    let left = async {
        until("the first is there", || async { (arrived.load(Ordering::SeqCst) == 1).then_some(()) }).await;
        for path in paths {
            assert!(timeout(Duration::from_millis(200), post(&rig, path, &ask(path))).await.is_err());
        }
    };
    tokio::join!(first, left);
    assert_eq!(arrived.load(Ordering::SeqCst), 1);
    let rows = until("both rows", || async {
        rig.settle().await;
        let rows = rig.app().stores.ledger.recent(None, 10).await.unwrap();
        let rows: Vec<_> = rows.into_iter().filter(|row| row.outcome == "cancelled").collect();
        (rows.len() == 2).then_some(rows)
    })
    .await;
    for row in rows {
        assert_eq!((row.tokens_source.as_deref(), row.cost_nano_usd), (None, Some(0)), "{row:?}");
    }
}

/// The row of a request that was left.
async fn row_of(rig: &Rig, id: &str) -> Value {
    until("the row", || async {
        let told = rig.admin(Method::GET, &format!("/admin/v1/requests/{id}"), None).await;
        (told.status == StatusCode::OK).then(|| told.json())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_tells_no_usage_counts_as_the_most_or_is_unpriced_and_what_is_not_billed_costs_nothing() {
    let usage = r#"{"model":"claude-test","usage":{"input_tokens":10,"output_tokens":10}}"#;
    let upstream = Canned::start(move |request| {
        let (path, body) = parse(request);
        let queued = br#"{"status":"queued","usage":null}"#;
        match path.as_str() {
            _ if body["background"] == true => vec![response("application/json", "", queued)],
            "/v1/audio/speech" => vec![response("audio/mpeg", "", b"\x00\xff\x00")],
            "/v1/messages" => {
                let head = "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close\r\n";
                vec![format!("{head}content-length: {}\r\n\r\n{usage}", usage.len()).into_bytes()]
            }
            _ => vec![response("application/json", "", usage.as_bytes())],
        }
    })
    .await;
    let rig = rig(&upstream, budget("1")).await;
    let speech = |model: &str| json!({"model": model, "input": "Hello", "voice": "alloy"});
    let (mut background, hello, assumed) = (responses(false), 3_000, 32_768);
    background["background"] = true.into();
    for (method, path, body, cost, source) in [
        (Method::POST, "/v1/audio/speech", speech("unpriced"), Value::Null, json!("unknown")),
        (Method::POST, "/v1/audio/speech", speech("gpt-test"), json!(hello + assumed * 15_000), json!("estimated")),
        (Method::POST, "/v1/responses", background, json!(hello + 100 * 15_000), json!("estimated")),
        (Method::POST, "/v1/messages", messages(false), json!(0), Value::Null),
        (Method::POST, "/v1/messages/count_tokens", messages(false), json!(0), Value::Null),
        // The same answer, told again.
        (Method::GET, "/v1/responses/resp_1", Value::Null, json!(0), Value::Null),
        (Method::POST, "/v1/responses/resp_1/cancel", json!({}), json!(0), Value::Null),
        (Method::POST, "/v1/chat/completions/chatcmpl-1", json!({"metadata": {}}), json!(0), Value::Null),
        // A request that is not read has the price of what answered.
        (Method::POST, "/v1/images/edits", json!("--b\r\n"), json!(10 * 3_000 + 10 * 15_000), json!("billed")),
    ] {
        let bytes = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        let answer = rig.send(method, path, KEY, &[], bytes).await;
        let row = rig.row(&answer).await;
        assert_eq!((&row["cost_nano_usd"], &row["tokens"]["source"]), (&cost, &source), "{path}: {row}");
    }
    assert_eq!(metric(&rig, "remora_unpriced_requests_total", &[]).await, 1.0);
}

/// Who is held to nothing that depends on the request is not kept from compressing it.
#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_request_is_passed_on_unless_something_depends_on_what_it_says() {
    let upstream = Canned::start(|_| {
        let usage = r#"{"model":"claude-test","usage":{"input_tokens":10,"output_tokens":10}}"#;
        vec![response("application/json", "", usage.as_bytes())]
    })
    .await;
    let deny = TenantSpec { unknown_price: Some(UnknownPrice::Deny), ..TenantSpec::default() };
    for (spec, status) in [(TenantSpec::default(), 200), (deny.clone(), 415), (budget("1"), 415)] {
        let rig = rig(&upstream, spec).await;
        let headers = [("content-encoding", "gzip")];
        let answer = rig.send(Method::POST, "/v1/messages", KEY, &headers, Bytes::from_static(b"squeezed")).await;
        assert_eq!(answer.status.as_u16(), status, "{}", answer.text());
        if status == 200 {
            assert!(upstream.requests().pop().unwrap().ends_with("squeezed"));
            assert_eq!(rig.row(&answer).await["cost_nano_usd"], 10 * 3_000 + 10 * 15_000);
        }
    }
    // What nobody bills for needs no price.
    let rig = rig(&upstream, deny).await;
    for (path, status) in [("/v1/files", 200), ("/v1/messages/count_tokens", 200), ("/v1/images/edits", 403)] {
        assert_eq!(post(&rig, path, &json!({})).await.status.as_u16(), status, "{path}");
    }
    assert_eq!(upstream.requests().len(), 3);
}

/// A picture is large and its usage stands behind it.
#[tokio::test(flavor = "multi_thread")]
async fn usage_behind_a_large_picture_is_found() {
    let picture = "A".repeat(6 << 20);
    let text = format!(
        r#"{{"created":1,"data":[{{"b64_json":"{picture}"}}],"usage":{{"total_tokens":100,"input_tokens":50,"output_tokens":50}}}}"#
    );
    let length = text.len();
    let upstream = Canned::start(move |_| vec![response("application/json", "", text.as_bytes())]).await;
    let rig = rig(&upstream, budget("1")).await;
    let answer = post(&rig, "/v1/images/generations", &json!({"model": "gpt-test", "prompt": "A fish"})).await;
    assert_eq!(answer.body.len(), length, "{} {:.300}", answer.status, answer.text());
    assert_eq!(rig.row(&answer).await["cost_nano_usd"], 50 * 3_000 + 50 * 15_000);
}

/// A model without a price cost nothing, so that no budget ever bit.
#[tokio::test(flavor = "multi_thread")]
async fn litellm_30715_a_model_without_a_price_does_not_slip_past_a_budget() {
    let upstream = teller().await;
    let routes = [
        ("/v1/chat/completions", chat("Hello")),
        ("/v1/messages", messages(false)),
        ("/v1/responses", responses(false)),
    ];
    for (policy, code) in [(UnknownPrice::Deny, "model_not_priced"), (UnknownPrice::AssumeMax, "budget_exceeded")] {
        let rig = rig(&upstream, TenantSpec { unknown_price: Some(policy), ..budget("0.0001") }).await;
        for (path, mut body) in routes.clone() {
            body["model"] = "made-up-by-nobody".into();
            let refused = post(&rig, path, &body).await;
            assert_eq!(refused.json()["error"]["code"], code, "{path}: {}", refused.text());
        }
    }
    assert!(upstream.requests().is_empty());
}

/// The discount of a provider's own prompt cache was shown as a saving of the gateway.
#[tokio::test(flavor = "multi_thread")]
async fn litellm_37760_what_the_provider_caches_is_no_saving_of_ours() {
    let upstream = Canned::start(|request| {
        let (path, _) = parse(request);
        let text = match path.as_str() {
            "/v1/chat/completions" => json!({"id": "c", "object": "chat.completion", "created": 1, "model": "gpt-test",
                "service_tier": "flex",
                "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 2_006, "completion_tokens": 300, "total_tokens": 2_306,
                    "prompt_tokens_details": {"cached_tokens": 1_920}}})
            .to_string(),
            _ => told(&path, false),
        };
        vec![response("application/json", "", text.as_bytes())]
    })
    .await;
    let rig = rig(&upstream, budget("10")).await;
    let mut asked = chat("Hello");
    asked["model"] = "gpt-test".into();
    for (path, body, read) in [("/v1/chat/completions", &asked, 1_920), ("/v1/messages", &messages(false), 1_000)] {
        let answer = post(&rig, path, body).await;
        let row = rig.row(&answer).await;
        assert_eq!((&row["tokens"]["cache_read"], &row["saved_nano_usd"]), (&json!(read), &json!(0)), "{path}: {row}");
    }
    let hit = post(&rig, "/v1/chat/completions", &asked).await;
    assert_eq!(hit.cache(), "HIT");
    let saved = rig.row(&hit).await["saved_nano_usd"].as_i64().unwrap();
    let plain = 2_006 * 3_000 + 300 * 15_000;
    assert!(saved > 0 && saved < plain, "{saved}: no more than the provider would have billed now, its cache included");
}

/// Keys are held by the proxy, and Anthropic takes one in a header of its own only.
#[tokio::test(flavor = "multi_thread")]
async fn a_held_key_goes_upstream_in_the_header_of_the_dialect() {
    let upstream = teller().await;
    let rig = rig(&upstream, TenantSpec::default()).await;
    let headers = [("x-api-key", KEY), ("anthropic-version", "2023-06-01")];
    let body = Bytes::from(messages(false).to_string());
    assert_eq!(rig.send(Method::POST, "/v1/messages", "", &headers, body).await.status, StatusCode::OK);
    let seen = upstream.requests().pop().unwrap().to_ascii_lowercase();
    assert!(seen.contains("\r\nx-api-key: sk-upstream\r\n") && !seen.contains("authorization"), "{seen}");
}
