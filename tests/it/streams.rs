//! Streams: equal to whole answers once put together, honest about how they end, and given up when nobody listens.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use remora::clock::Clock;
use remora::config::Config;
use remora::simulate::Options;
use serde_json::{Map, Value, json};

use crate::canned::{Canned, chunk, stream_head};
use crate::rig::{Answer, Plan, Rig, chat, chat_stream};

/// The JSON of all events but the terminator.
pub(crate) fn events(answer: &Answer) -> Vec<Value> {
    data(answer).iter().filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).unwrap()).collect()
}

/// The data of all events, as a client that knows the standard reads them.
fn data(answer: &Answer) -> Vec<String> {
    let text = answer.text().replace("\r\n", "\n");
    let event = |event: &str| {
        let lines: Vec<&str> = event.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
        (!lines.is_empty()).then(|| lines.join("\n"))
    };
    text.split("\n\n").filter_map(event).collect()
}

fn is_done(answer: &Answer) -> bool {
    data(answer).last().is_some_and(|last| last == "[DONE]")
}

/// Puts the choices of a chat stream together as an SDK does.
fn assemble(events: &[Value]) -> Value {
    let mut choices: BTreeMap<u64, Map<String, Value>> = BTreeMap::new();
    let mut usage = Value::Null;
    for event in events {
        if !event["usage"].is_null() {
            usage = event["usage"].clone();
        }
        for choice in event["choices"].as_array().unwrap() {
            let whole = choices.entry(choice["index"].as_u64().unwrap()).or_default();
            for (name, value) in choice["delta"].as_object().into_iter().flatten() {
                grow(whole.entry(name.clone()).or_insert(Value::Null), value);
            }
            if !choice["finish_reason"].is_null() {
                whole.insert("finish_reason".into(), choice["finish_reason"].clone());
            }
            if let Some(content) = choice["logprobs"]["content"].as_array() {
                let all = whole.entry("logprobs").or_insert_with(|| json!([]));
                all.as_array_mut().unwrap().extend(content.iter().cloned());
            }
        }
    }
    for choice in choices.values_mut() {
        choice.retain(|_, value| !value.is_null());
    }
    json!({ "choices": choices.into_values().collect::<Vec<_>>(), "usage": usage })
}

fn grow(whole: &mut Value, piece: &Value) {
    match (&mut *whole, piece) {
        (_, Value::Null) => {}
        (Value::Null, Value::Array(_)) => {
            *whole = json!([]);
            grow(whole, piece);
        }
        (Value::String(text), Value::String(more)) => text.push_str(more),
        (Value::Array(calls), Value::Array(pieces)) => {
            for piece in pieces {
                let index = usize::try_from(piece["index"].as_u64().unwrap_or(calls.len() as u64)).unwrap();
                if calls.len() <= index {
                    calls.resize(index + 1, json!({}));
                }
                for (name, value) in piece.as_object().unwrap().iter().filter(|(name, _)| *name != "index") {
                    let call = calls[index].as_object_mut().unwrap();
                    grow(call.entry(name.clone()).or_insert(Value::Null), value);
                }
            }
        }
        (Value::Object(known), Value::Object(more)) => {
            for (name, value) in more {
                grow(known.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (none, value) => *none = value.clone(),
    }
}

/// The same view of a whole answer.
fn taken_apart(answer: &Answer) -> Value {
    let json = answer.json();
    let choice = |choice: &Value| {
        let mut whole = choice["message"].as_object().unwrap().clone();
        whole.insert("finish_reason".into(), choice["finish_reason"].clone());
        whole.insert("logprobs".into(), choice["logprobs"]["content"].clone());
        whole.retain(|name, value| !value.is_null() && name != "annotations");
        Value::Object(whole)
    };
    let choices: Vec<Value> = json["choices"].as_array().unwrap().iter().map(choice).collect();
    json!({ "choices": choices, "usage": json["usage"] })
}

fn assembled(answer: &Answer) -> Value {
    let mut whole = assemble(&events(answer));
    for choice in whole["choices"].as_array_mut().unwrap() {
        choice.as_object_mut().unwrap().remove("annotations");
    }
    whole
}

fn with(body: &Value, more: &Value) -> Value {
    let mut body = body.clone();
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_stream_and_a_stored_whole_answer_serve_each_other() {
    let rig = Rig::start().await;
    let weather = json!([{ "type": "function", "function": { "name": "get_weather",
        "parameters": { "type": "object", "properties": { "city": { "type": "string" } } } } }]);
    let usage = json!({ "stream": true, "stream_options": { "include_usage": true } });
    let kinds = [
        json!({}),
        json!({ "tools": weather }),
        json!({ "tools": weather, "tool_choice": "required", "parallel_tool_calls": true }),
        json!({ "logprobs": true, "top_logprobs": 2 }),
        json!({ "n": 3 }),
        json!({ "model": "sim-reason" }),
        json!({ "model": "sim-cached" }),
        json!({ "response_format": { "type": "json_object" } }),
    ];
    for (number, kind) in kinds.iter().enumerate() {
        for stream_first in [true, false] {
            let text = format!("Get weather in parallel for 東京 and café, kind {number}, stream first {stream_first}");
            let whole = with(&chat(&text), kind);
            let stream = with(&whole, &usage);
            let (first, second) = if stream_first { (&stream, &whole) } else { (&whole, &stream) };
            let (one, two) = (rig.chat("sk-a", first).await, rig.chat("sk-a", second).await);
            assert_eq!((one.cache(), two.cache()), ("MISS", "HIT"), "{kind}: {} {}", two.reason(), one.text());
            let third = rig.chat("sk-a", first).await;
            let (streamed, plain) = if stream_first { (&one, &two) } else { (&two, &one) };
            assert_eq!(assembled(streamed), taken_apart(plain), "{kind}");
            assert!(is_done(streamed));
            if stream_first {
                assert_eq!(assembled(&third), assembled(&one), "{kind}");
            } else {
                assert_eq!(taken_apart(&third), taken_apart(&one), "{kind}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn text_completions_are_streamed_stored_and_replayed() {
    let rig = Rig::start().await;
    let whole = json!({ "model": "gpt-3.5-turbo-instruct", "prompt": "Once upon a time", "logprobs": 1 });
    let stream = with(&whole, &json!({ "stream": true }));
    let send = async |body: &Value| {
        rig.send(http::Method::POST, "/v1/completions", "sk-a", &[], Bytes::from(body.to_string())).await
    };
    let (first, replayed, json) = (send(&stream).await, send(&stream).await, send(&whole).await);
    assert_eq!((first.cache(), replayed.cache(), json.cache()), ("MISS", "HIT", "HIT"));
    let text = |answer: &Answer| -> String {
        events(answer).iter().map(|event| event["choices"][0]["text"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(text(&first), text(&replayed));
    assert_eq!(json.json()["choices"][0]["text"], *text(&first));
    assert!(!json.json()["choices"][0]["logprobs"]["tokens"].as_array().unwrap().is_empty());
}

fn asked_upstream(rig: &Rig) -> Value {
    let body: Value = serde_json::from_slice(&rig.sim.last().unwrap().body).unwrap();
    body["stream_options"].clone()
}

fn usage_events(answer: &Answer) -> (usize, usize) {
    let events = events(answer);
    let bare = events.iter().filter(|event| event["choices"].as_array().unwrap().is_empty()).count();
    (bare, events.iter().filter(|event| event.get("usage").is_some()).count())
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_is_asked_for_upstream_and_shown_only_to_those_who_asked() {
    let rig = Rig::start().await;
    let asked = with(&chat_stream("Asked"), &json!({ "stream_options": { "include_usage": true } }));
    let silent = chat_stream("Not asked");
    let other = with(&chat_stream("Other option"), &json!({ "stream_options": { "include_obfuscation": false } }));
    let null = with(&chat_stream("Null options"), &json!({ "stream_options": null }));
    let refused = with(&chat_stream("Refused"), &json!({ "stream_options": { "include_usage": false } }));

    let answer = rig.chat("sk-a", &asked).await;
    assert_eq!(asked_upstream(&rig), json!({ "include_usage": true }));
    let (bare, with_usage) = usage_events(&answer);
    assert_eq!((bare, with_usage), (1, events(&answer).len()));
    assert_eq!(rig.row(&answer).await["tokens"]["source"], "billed");
    let replayed = rig.chat("sk-a", &asked).await;
    assert_eq!((replayed.cache(), usage_events(&replayed).0), ("HIT", 1));
    assert_eq!(events(&replayed).last().unwrap()["usage"], events(&answer).last().unwrap()["usage"]);

    for (body, upstream) in [
        (&silent, json!({ "include_usage": true })),
        (&other, json!({ "include_obfuscation": false, "include_usage": true })),
        (&null, json!({ "include_usage": true })),
        // Not to want to see it is no way not to pay for it.
        (&refused, json!({ "include_usage": true })),
    ] {
        let answer = rig.chat("sk-a", body).await;
        assert_eq!(asked_upstream(&rig), upstream);
        assert_eq!(usage_events(&answer), (0, 0), "{}", answer.text());
        assert!(is_done(&answer));
        let row = rig.row(&answer).await;
        assert_eq!(row["tokens"]["source"], "billed", "the ledger knows all the same");
        assert!(row["tokens"]["output"].as_u64().unwrap() > 0);
        let replayed = rig.chat("sk-a", body).await;
        assert_eq!((replayed.cache(), usage_events(&replayed)), ("HIT", (0, 0)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_that_a_provider_sends_on_every_event_is_not_added_up() {
    let rig = Rig::start().await;
    let question = chat_stream("Running usage");
    let answer = rig.chat_with("sk-a", &[("x-simulate", "usage-every-chunk")], &question).await;
    let billed = rig.row(&answer).await["tokens"]["output"].clone();
    let whole = rig.chat("sk-a", &chat("Running usage")).await;
    assert_eq!(whole.cache(), "HIT");
    assert_eq!(whole.json()["usage"]["completion_tokens"], billed);
    assert_eq!(billed, 64);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_in_the_middle_reaches_the_client_and_nothing_is_stored() {
    let rig = Rig::start().await;
    let answer = rig.chat_with("sk-a", &[("x-simulate", "error-event=3")], &chat_stream("Fails")).await;
    let events = events(&answer);
    assert_eq!(events.len(), 4);
    assert_eq!(events[3]["error"]["type"], "server_error", "upstream's own event, unchanged");
    assert!(!is_done(&answer));
    let row = rig.row(&answer).await;
    assert_eq!((&row["outcome"], &row["reason"]), (&json!("failed"), &json!("error_in_answer")));
    assert_eq!(row["entry"], Value::Null);
    assert_eq!(rig.chat("sk-a", &chat_stream("Fails")).await.cache(), "MISS");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_off_ends_with_an_error_event() {
    let rig = Rig::start().await;
    for fault in ["cut=3", "reset-after=3"] {
        let question = chat_stream(&format!("A stream with {fault}"));
        let answer = rig.chat_with("sk-a", &[("x-simulate", fault)], &question).await;
        let events = events(&answer);
        let error = &events.last().unwrap()["error"];
        assert_eq!((&error["type"], &error["code"]), (&json!("api_error"), &json!("upstream_broken_off")), "{fault}");
        assert!(error["message"].as_str().unwrap().contains("broke off"));
        assert!(!is_done(&answer));
        let row = rig.row(&answer).await;
        assert_eq!((&row["outcome"], &row["reason"]), (&json!("failed"), &json!("upstream_broken_off")), "{fault}");
        assert_eq!(row["entry"], Value::Null);
        assert_eq!(rig.chat("sk-a", &question).await.cache(), "MISS", "{fault}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_falls_silent_ends_with_an_error_event() {
    let impatient = |config: &mut Config| config.upstream.idle = Duration::from_millis(200);
    let rig = Rig::with(Plan { change: Arc::new(impatient), ..Plan::default() }).await;
    let answer = rig.chat_with("sk-a", &[("x-simulate", "stall=3")], &chat_stream("Silence")).await;
    let events = events(&answer);
    assert_eq!(events.last().unwrap()["error"]["code"], "upstream_idle_timeout");
    assert_eq!(events.last().unwrap()["error"]["type"], "timeout_error");
    assert_eq!(rig.row(&answer).await["outcome"], "failed");
    assert_eq!(rig.chat("sk-a", &chat_stream("Silence")).await.cache(), "MISS");
    assert_eq!(rig.sim.stats().aborted, 1, "the silent upstream request was given up");
}

fn event(text: &str, finish: Option<&str>) -> String {
    let delta = if text.is_empty() { json!({}) } else { json!({ "content": text }) };
    let choice = json!({ "index": 0, "delta": delta, "finish_reason": finish });
    json!({ "id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice] }).to_string()
}

/// The broken piece must not swallow the error event that follows it.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_cut_inside_an_event_still_ends_with_an_error_event_of_its_own() {
    let upstream = Canned::start(|_| {
        let whole = event("Hello", None);
        let half = &whole[..whole.len() / 2];
        vec![stream_head(), chunk(&format!("data: {whole}\n\n")), chunk(&format!("data: {half}"))]
    })
    .await;
    let rig = upstream.rig().await;
    let answer = rig.chat("sk-a", &chat_stream("Hello")).await;
    let last = data(&answer).pop().unwrap();
    let last: Value = serde_json::from_str(&last).unwrap_or_else(|e| panic!("{e}: {}", answer.text()));
    assert_eq!(last["error"]["code"], "upstream_broken_off", "{}", answer.text());
    assert_eq!(rig.row(&answer).await["outcome"], "failed");
    assert_eq!(rig.chat("sk-a", &chat_stream("Hello")).await.cache(), "MISS");
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_framing_reaches_the_client_whole_and_is_stored_as_the_same_answer() {
    let rig = Rig::start().await;
    let text = "Où est la gare de 東京? 🚉";
    let plain = rig.chat("sk-plain", &chat_stream(text)).await.streamed();
    for (fault, stored) in
        [("crlf", true), ("split", true), ("comments", true), ("azure", true), ("crlf+split+comments", true)]
    {
        let key = format!("sk-{fault}");
        let odd = rig.chat_with(&key, &[("x-simulate", fault)], &chat_stream(text)).await;
        let whole: String = events(&odd)
            .iter()
            .filter_map(|event| event["choices"][0]["delta"]["content"].as_str().map(str::to_owned))
            .collect();
        assert_eq!(whole, plain, "{fault}");
        assert!(is_done(&odd), "{fault}");
        let json = rig.chat(&key, &chat(text)).await;
        assert_eq!(json.cache(), if stored { "HIT" } else { "MISS" }, "{fault}: {}", json.reason());
        assert_eq!(json.content(), plain, "{fault}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_without_its_proper_end_is_passed_on_and_not_stored() {
    let rig = Rig::start().await;
    for (fault, reason) in
        [("no-done", "no_terminator"), ("no-final-blank", "incomplete_event"), ("no-finish", "unfinished")]
    {
        let question = chat_stream(&format!("An end with {fault}"));
        let key = format!("sk-{fault}");
        let answer = rig.chat_with(&key, &[("x-simulate", fault)], &question).await;
        assert!(answer.streamed().contains("An end with"), "{fault}");
        assert!(!answer.text().contains("\"error\""), "{fault}: upstream ended in order");
        assert_eq!(answer.text().contains("[DONE]"), fault != "no-done", "{fault}: nothing is made up");
        let row = rig.row(&answer).await;
        assert_eq!((&row["outcome"], &row["reason"]), (&json!("miss"), &json!(reason)), "{fault}");
        assert_eq!(rig.chat(&key, &question).await.cache(), "MISS", "{fault}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_on_the_way_may_hold_a_stream_back() {
    let rig = Rig::start().await;
    for cache in ["MISS", "HIT"] {
        let answer = rig.chat("sk-a", &chat_stream("Headers")).await;
        assert_eq!(answer.cache(), cache);
        assert_eq!(answer.header("content-type"), "text/event-stream; charset=utf-8");
        assert_eq!(answer.header("cache-control"), "no-cache, no-transform");
        assert_eq!(answer.header("x-accel-buffering"), "no");
        assert!(!answer.header("x-remora-request-id").is_empty());
    }
}

/// Reader and the watch for the last reader's leaving wait on one bell; a ring must not be lost between the two.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_larger_than_the_read_ahead_does_not_stop_the_stream() {
    let upstream = Canned::start(|_| {
        let big = "x".repeat(1_300_000);
        let done = format!("data: {}\n\ndata: [DONE]\n\n", event("", Some("stop")));
        vec![stream_head(), chunk(&format!("data: {}\n\n", event(&big, None))), chunk(&done), b"0\r\n\r\n".to_vec()]
    })
    .await;
    let url = format!("http://{}/v1", upstream.addr);
    let change = move |config: &mut Config| {
        config.upstream.url.clone_from(&url);
        config.server.limits.sse_line_bytes = 2 << 20;
        config.upstream.total = Duration::from_secs(15);
    };
    let rig = Rig::with(Plan { change: Arc::new(change), ..Plan::default() }).await;
    let answer = rig.chat("sk-a", &chat_stream("A big one")).await;
    assert!(is_done(&answer), "the stream stood still until its deadline");
    assert_eq!(answer.streamed().len(), 1_300_000);
}

/// Sends a request and returns as soon as the head of its answer is there.
pub(crate) async fn open(rig: &Rig, key: &str, body: &Value) -> Response<Incoming> {
    rig.client.request(request(rig, key, body)).await.unwrap()
}

fn request(rig: &Rig, key: &str, body: &Value) -> Request<Full<Bytes>> {
    Request::post(format!("http://{}/v1/chat/completions", rig.app().data))
        .header("authorization", format!("Bearer {key}"))
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body.to_string())))
        .unwrap()
}

/// Waits for the `nth` request that was given up and says when that was.
async fn given_up(rig: &Rig, nth: usize) -> u64 {
    for _ in 0..500 {
        if let Some(abort) = rig.sim.stats().aborts.get(nth - 1) {
            return abort.at_unix_ms;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the upstream request goes on");
}

/// The fastest of some tries; a busy machine may delay one of them, but not all.
const TRIES: usize = 5;

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_before_the_head_ends_the_upstream_request() {
    let slow = Options { latency: Duration::from_secs(60), ..Options::default() };
    let rig = Arc::new(Rig::with(Plan { simulate: slow, ..Plan::default() }).await);
    let clock = Clock::system();
    let mut best = u64::MAX;
    for number in 1..=TRIES {
        let (asking, body) = (Arc::clone(&rig), chat(&format!("Question {number}")));
        let client = tokio::spawn(async move { open(&asking, "sk-a", &body).await });
        while rig.sim.stats().in_flight == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let left = clock.now_ms();
        client.abort();
        best = best.min(given_up(&rig, number).await.saturating_sub(left));
    }
    assert!(best <= 100, "{best} ms from leaving to giving up");
    assert!(rig.sim.stats().aborts.iter().all(|abort| abort.phase == "head"));
    rig.settle().await;
    let rows = rig.app().stores.ledger.recent(None, 100).await.unwrap();
    assert_eq!(rows.len(), TRIES, "one row each");
    assert!(rows.iter().all(|row| row.outcome == "cancelled"), "{rows:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_in_the_middle_ends_the_upstream_request() {
    let slow = Options { chunk_delay: Duration::from_millis(20), tokens: 100_000, ..Options::default() };
    let rig = Rig::with(Plan { simulate: slow, ..Plan::default() }).await;
    let clock = Clock::system();
    let mut best = u64::MAX;
    for number in 1..=TRIES {
        let mut response = open(&rig, "sk-a", &chat_stream(&format!("Question {number}"))).await;
        let id = response.headers()["x-remora-request-id"].to_str().unwrap().to_owned();
        for _ in 0..3 {
            response.body_mut().frame().await.unwrap().unwrap();
        }
        let left = clock.now_ms();
        drop(response);
        best = best.min(given_up(&rig, number).await.saturating_sub(left));
        rig.settle().await;
        let row = rig.app().stores.ledger.request(id.parse().unwrap()).await.unwrap().unwrap();
        assert_eq!((row.outcome.as_ref(), row.entry), ("cancelled", None));
    }
    assert!(best <= 100, "{best} ms from leaving to giving up");
    assert!(rig.sim.stats().aborts.iter().all(|abort| abort.phase == "body" && abort.events < 1_000));
    assert_eq!(rig.app().stores.ledger.count().await.unwrap(), TRIES as u64);
}
