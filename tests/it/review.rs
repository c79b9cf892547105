//! Defects found by reading the data path, each with the scenario that showed it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use remora::clock::Clock;
use remora::config::Config;
use remora::simulate::{self, Options};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::rig::{Answer, Plan, Rig, chat, chat_stream};

async fn rig_with(change: impl Fn(&mut Config) + Send + Sync + 'static) -> Rig {
    Rig::with(Plan { change: Arc::new(change), ..Plan::default() }).await
}

async fn post(rig: &Rig, path: &str, body: &Value) -> Answer {
    rig.send(Method::POST, path, "sk-a", &[], Bytes::from(body.to_string())).await
}

/// An upstream that answers every request with these bytes and closes.
async fn canned(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let answer = Arc::clone(&answer);
            tokio::spawn(async move {
                let mut bytes = Vec::new();
                loop {
                    let text = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
                    if let Some((head, body)) = text.split_once("\r\n\r\n") {
                        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                        if body.len() >= length.map_or(0, |length| length.trim().parse().unwrap()) {
                            break;
                        }
                    }
                    if socket.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                let reply = answer(&String::from_utf8_lossy(&bytes));
                let _ = socket.write_all(reply.as_bytes()).await;
                let _ = socket.shutdown().await;
            });
        }
    });
    url
}

fn response(content_type: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}

/// The simulator first, then the real thing, on the same database: its answers must not come from the simulator.
#[tokio::test(flavor = "multi_thread")]
async fn another_upstream_does_not_inherit_the_answers_of_the_last_one() {
    let place = Arc::new(std::sync::Mutex::new(None::<String>));
    let other = Arc::clone(&place);
    let mut rig = rig_with(move |config| {
        if let Some(url) = &*other.lock().unwrap() {
            config.upstream.url.clone_from(url);
        }
    })
    .await;
    assert_eq!(rig.chat("sk-a", &chat("Hello")).await.cache(), "MISS");
    rig.settle().await;
    let second = simulate::spawn(Options::default(), "127.0.0.1:0".parse().unwrap()).await.unwrap();
    *place.lock().unwrap() = Some(format!("{}/v1", second.url()));
    rig.restart().await;
    assert_eq!(rig.chat("sk-a", &chat("Hello")).await.cache(), "MISS");
    assert_eq!(second.stats().requests, 1);
    // The same place in another spelling is the same upstream.
    *place.lock().unwrap() = Some(format!("{}/v1/", second.url()));
    rig.settle().await;
    rig.restart().await;
    assert_eq!(rig.chat("sk-a", &chat("Hello")).await.cache(), "HIT");
}

/// With `only-if-cached` the time of a refusal is the time of a look-up; a vector shared between tenants would show in
/// it what others have asked.
#[tokio::test(flavor = "multi_thread")]
async fn what_one_tenant_had_embedded_is_embedded_again_for_another() {
    let rig = Rig::start().await;
    let embedder = rig.app().cache.embedder().clone();
    rig.chat("sk-a", &chat("A secret plan")).await;
    assert_eq!((embedder.inferences(), embedder.cache_hits()), (1, 0));
    let probe = rig.chat_with("sk-b", &[("cache-control", "only-if-cached")], &chat("A secret plan")).await;
    assert_eq!(probe.status, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!((embedder.inferences(), embedder.cache_hits()), (2, 0));
}

fn answer_with_usage(usage: &Value) -> String {
    let answer = json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{ "index": 0, "message": { "role": "assistant", "content": "a long text" }, "finish_reason": "stop" }],
        "usage": usage,
    });
    response("application/json", &answer.to_string())
}

/// Usage without `completion_tokens` counted as an answer of no tokens, which fits into any limit.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_unknown_length_is_not_served_to_a_smaller_limit() {
    let url = canned(|_| answer_with_usage(&json!({ "prompt_tokens": 5, "total_tokens": 900 }))).await;
    let rig = rig_with(move |config| config.upstream.url.clone_from(&url)).await;
    assert_eq!(rig.chat("sk-a", &chat("Hello")).await.cache(), "MISS");
    assert_eq!(rig.chat("sk-a", &chat("Hello")).await.cache(), "HIT");
    let mut short = chat("Hello");
    short["max_tokens"] = 1.into();
    let answer = rig.chat("sk-a", &short).await;
    assert_eq!((answer.cache(), answer.reason()), ("MISS", "token_limit"));
}

/// Without `max_tokens` a text completion has 16 tokens at OpenAI, not as many as it likes.
#[tokio::test(flavor = "multi_thread")]
async fn a_text_completion_without_a_limit_is_not_answered_by_a_longer_one() {
    let rig = Rig::start().await;
    let limited = json!({ "model": "gpt-3.5-turbo-instruct", "prompt": "Once", "max_tokens": 500 });
    let open = json!({ "model": "gpt-3.5-turbo-instruct", "prompt": "Once" });
    assert_eq!(post(&rig, "/v1/completions", &limited).await.cache(), "MISS");
    let answer = post(&rig, "/v1/completions", &open).await;
    assert_eq!((answer.cache(), answer.reason()), ("MISS", "token_limit"));
    assert_eq!(post(&rig, "/v1/completions", &open).await.cache(), "HIT", "its own answer serves it again");
}

async fn slow(latency_ms: u64, chunk_ms: u64) -> Arc<Rig> {
    let (latency, chunk_delay) = (Duration::from_millis(latency_ms), Duration::from_millis(chunk_ms));
    Arc::new(
        Rig::with(Plan { simulate: Options { latency, chunk_delay, ..Options::default() }, ..Plan::default() }).await,
    )
}

/// Waits until the simulator works on so many requests.
async fn busy(rig: &Rig, requests: u64) {
    while rig.sim.stats().in_flight < requests {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leaders_deadline_is_not_its_followers() {
    let rig = slow(0, 30).await;
    let leading = {
        let rig = Arc::clone(&rig);
        tokio::spawn(async move {
            rig.chat_with("sk-a", &[("x-remora-timeout", "500ms")], &chat_stream("A long story")).await
        })
    };
    busy(&rig, 1).await;
    let patient = rig.chat("sk-a", &chat_stream("A long story")).await;
    assert!(patient.text().ends_with("data: [DONE]\n\n"), "{}", patient.text());
    assert!(leading.await.unwrap().text().contains("deadline_exceeded"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_did_not_ask_for_usage_sees_none() {
    let rig = slow(300, 0).await;
    let mut asking = chat_stream("Who pays?");
    asking["stream_options"] = json!({ "include_usage": true });
    let leading = {
        let (rig, asking) = (Arc::clone(&rig), asking.clone());
        tokio::spawn(async move { rig.chat("sk-a", &asking).await })
    };
    busy(&rig, 1).await;
    let plain = rig.chat("sk-a", &chat_stream("Who pays?")).await;
    assert!(leading.await.unwrap().text().contains("\"choices\":[]"));
    assert!(!plain.text().contains("\"choices\":[]") && !plain.text().contains("\"usage\""), "{}", plain.text());
}

/// `metadata` is not in the key, so a request with a bad one may lead others whose is good.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_does_not_get_the_refusal_of_a_member_that_only_the_leader_has() {
    let url = canned(|request| {
        std::thread::sleep(Duration::from_millis(150));
        if request.contains("too_long") {
            let body =
                r#"{"error":{"message":"metadata","type":"invalid_request_error","param":"metadata","code":null}}"#;
            return response("application/json", body).replace("200 OK", "400 Bad Request");
        }
        answer_with_usage(&json!({ "prompt_tokens": 5, "completion_tokens": 3 }))
    })
    .await;
    let rig = Arc::new(rig_with(move |config| config.upstream.url.clone_from(&url)).await);
    let mut bad = chat("Hello");
    bad["metadata"] = json!({ "k": "too_long" });
    let leading = {
        let rig = Arc::clone(&rig);
        tokio::spawn(async move { rig.chat("sk-a", &bad).await })
    };
    tokio::time::sleep(Duration::from_millis(40)).await;
    assert_eq!(rig.chat("sk-a", &chat("Hello")).await.status, StatusCode::OK);
    assert_eq!(leading.await.unwrap().status, StatusCode::BAD_REQUEST);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_under_another_content_type_is_still_a_stream() {
    for kind in ["Text/Event-Stream; charset=UTF-8", "text/plain", "application/octet-stream"] {
        let url = canned(move |_| {
            let delta = r#"{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":"hi"},"finish_reason":"stop"}]}"#;
            response(kind, &format!("data: {delta}\n\ndata: [DONE]\n\n"))
        })
        .await;
        let rig = rig_with(move |config| config.upstream.url.clone_from(&url)).await;
        let answer = rig.chat("sk-a", &chat_stream("Hello")).await;
        assert_eq!((answer.status, answer.streamed().as_str()), (StatusCode::OK, "hi"), "{kind}: {}", answer.text());
        assert_eq!(rig.chat("sk-a", &chat_stream("Hello")).await.cache(), "HIT", "{kind}");
    }
}

/// An upstream that goes on after `[DONE]` was read on, and kept in memory, until the deadline of the whole request.
#[tokio::test(flavor = "multi_thread")]
async fn what_comes_after_the_terminator_is_not_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 4096];
                let _ = socket.read(&mut request).await;
                let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n").await;
                let _ = socket.write_all(b"data: [DONE]\n\n").await;
                while socket.write_all(b": still here\n\n").await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            });
        }
    });
    let rig = rig_with(move |config| config.upstream.url.clone_from(&url)).await;
    let answer = tokio::time::timeout(Duration::from_secs(20), rig.chat("sk-a", &chat_stream("Hello"))).await;
    assert!(answer.expect("the answer has ended").text().contains("data: [DONE]\n\n"));
}

/// Entries that ended while the program was down are not loaded, so nothing ever removed them: the database only grew.
#[tokio::test(flavor = "multi_thread")]
async fn what_expired_while_the_program_was_down_is_removed_from_the_store() {
    let clock = Clock::manual(1_700_000_000_000);
    let mut rig = Rig::with(Plan { clock: clock.clone(), ..Plan::default() }).await;
    rig.chat("sk-a", &chat("Hello")).await;
    rig.settle().await;
    assert_eq!(rig.app().stores.entries.counts().await.unwrap().entries, 1);
    rig.app.take().unwrap().stop_within(Duration::from_secs(5)).await;
    clock.advance_ms(48 * 3_600 * 1_000);
    rig.launch_again().await;
    for _ in 0..200 {
        rig.app().flush().await;
        if rig.app().stores.entries.counts().await.unwrap().entries == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the expired entry is still in the store");
}

/// An entry that is in the store only, as after an eviction that found the write queue full.
#[tokio::test(flavor = "multi_thread")]
async fn an_invalidation_reaches_entries_that_are_in_the_store_only() {
    let mut rig = rig_with(|config| config.cache.max_entries = 100).await;
    rig.chat("sk-a", &chat("Hello")).await;
    rig.settle().await;
    let kept = rig.app().stores.entries.scan(0, None, 10).await.unwrap().remove(0);
    let whole = rig.app().stores.entries.entry(&kept.meta.entry.tenant, kept.meta.entry.id).await.unwrap().unwrap();
    let clear = json!({ "all": true });
    rig.admin(Method::POST, "/admin/v1/cache/invalidate", Some(clear.clone())).await;
    let put = remora::store::EntryWrite::Put { entry: Arc::new(whole), points: kept.points };
    rig.app().stores.entries.apply(&[put]).await.unwrap();
    assert_eq!(rig.chat("sk-b", &chat("Another")).await.cache(), "MISS");
    rig.settle().await;
    rig.admin(Method::POST, "/admin/v1/cache/invalidate", Some(clear)).await;
    assert_eq!(rig.app().stores.entries.counts().await.unwrap().entries, 0);
    rig.restart().await;
    assert_eq!(rig.chat("sk-a", &chat("Hello")).await.cache(), "MISS");
}

fn vectors(request: &str, model: &str, tokens: u64) -> String {
    let body: Value = serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap();
    let count = body["input"].as_array().map_or(1, Vec::len);
    let data: Vec<Value> =
        (0..count).map(|i| json!({ "object": "embedding", "index": i, "embedding": [0.5] })).collect();
    let usage = json!({ "prompt_tokens": tokens, "total_tokens": tokens });
    response("application/json", &json!({ "object": "list", "data": data, "model": model, "usage": usage }).to_string())
}

/// A name that has been moved to another model: its old vectors and its new ones cannot be compared.
#[tokio::test(flavor = "multi_thread")]
async fn vectors_of_two_models_never_stand_in_one_list() {
    let model = Arc::new(std::sync::Mutex::new("one"));
    let now = Arc::clone(&model);
    let url = canned(move |request| vectors(request, *now.lock().unwrap(), 4)).await;
    let rig = rig_with(move |config| config.upstream.url.clone_from(&url)).await;
    let ask = |input: Value| json!({ "model": "alias", "input": input });
    assert_eq!(post(&rig, "/v1/embeddings", &ask(json!(["a", "b"]))).await.cache(), "MISS");
    *model.lock().unwrap() = "two";
    let mixed = post(&rig, "/v1/embeddings", &ask(json!(["a", "c"]))).await;
    assert_eq!((mixed.status, &mixed.json()["model"]), (StatusCode::OK, &json!("two")));
    assert_eq!(mixed.json()["data"].as_array().unwrap().len(), 2);
    assert_eq!(rig.row(&mixed).await["tokens"]["input"], 8, "asked twice, billed twice");
    // "b" is the old model's still, "a" the new one's.
    let both = post(&rig, "/v1/embeddings", &ask(json!(["a", "b"]))).await;
    assert_eq!((both.cache(), &both.json()["model"]), ("MISS", &json!("two")));
    assert_eq!(post(&rig, "/v1/embeddings", &ask(json!(["a", "b"]))).await.cache(), "HIT");
}

/// The sum overflowed, which is a panic.
#[tokio::test(flavor = "multi_thread")]
async fn absurd_token_counts_do_not_end_in_a_panic() {
    let url = canned(|request| vectors(request, "m", u64::MAX)).await;
    let rig = rig_with(move |config| config.upstream.url.clone_from(&url)).await;
    let ask = |input: Value| json!({ "model": "m", "input": input });
    for input in [json!("a"), json!("b"), json!(["a", "b"])] {
        assert_eq!(post(&rig, "/v1/embeddings", &ask(input)).await.status, StatusCode::OK);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_passed_on_and_too_large_is_413_and_not_upstreams_fault() {
    let rig = rig_with(|config| config.server.limits.body_bytes = 10_000).await;
    let answer = rig.send(Method::POST, "/v1/files", "sk-a", &[], Bytes::from(vec![b'x'; 20_000])).await;
    assert_eq!((answer.status, answer.reason()), (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"));
    let row = rig.row(&answer).await;
    assert_eq!((&row["outcome"], &row["status"]), (&json!("refused"), &json!(413)));

    // The length is not known beforehand.
    let mut socket = tokio::net::TcpStream::connect(rig.app().data).await.unwrap();
    let head = "POST /v1/files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk-a\r\ntransfer-encoding: chunked\r\n\r\n";
    socket.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..4 {
        socket.write_all(format!("{:x}\r\n{}\r\n", 4_000, "x".repeat(4_000)).as_bytes()).await.unwrap();
    }
    let mut reply = [0; 12];
    socket.read_exact(&mut reply).await.unwrap();
    assert_eq!(&reply, b"HTTP/1.1 413");
}

/// The time in which the client did not read counted as a pause of upstream.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_slowly_does_not_make_upstream_idle() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    const SIZE: usize = 64 << 20;
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        let _ = socket.read(&mut request).await;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: a/b\r\ncontent-length: {SIZE}\r\n\r\n");
        let _ = socket.write_all(head.as_bytes()).await;
        let piece = vec![b'x'; 1 << 20];
        for _ in 0..SIZE >> 20 {
            if socket.write_all(&piece).await.is_err() {
                return;
            }
        }
        tokio::time::sleep(Duration::from_secs(30)).await;
    });
    let rig = rig_with(move |config| {
        config.upstream.url.clone_from(&url);
        config.upstream.idle = Duration::from_millis(300);
    })
    .await;
    let mut socket = tokio::net::TcpStream::connect(rig.app().data).await.unwrap();
    socket.write_all(b"GET /v1/files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk-a\r\n\r\n").await.unwrap();
    let mut got = 0;
    let mut buffer = vec![0; 1 << 20];
    for pause in [700, 700] {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        got += socket.read(&mut buffer).await.unwrap();
    }
    while got < SIZE {
        let read = socket.read(&mut buffer).await.unwrap();
        assert!(read > 0, "cut after {got} bytes");
        got += read;
    }
}

/// A host that accepts and never speaks TLS; only TCP was under the deadline.
#[tokio::test(flavor = "multi_thread")]
async fn the_deadline_for_connecting_covers_the_tls_handshake() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/v1", listener.local_addr().unwrap());
    let held = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((socket, _)) = listener.accept().await {
            held.push(socket);
        }
    });
    let rig = rig_with(move |config| {
        config.upstream.url.clone_from(&url);
        config.upstream.connect = Duration::from_millis(200);
    })
    .await;
    let answer =
        tokio::time::timeout(Duration::from_secs(20), rig.chat("sk-a", &chat("Hello"))).await.expect("in time");
    assert_eq!((answer.status, answer.reason()), (StatusCode::BAD_GATEWAY, "upstream_connect_timeout"));
    held.abort();
}

/// Each part came in time, the whole never.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_drips_ends_at_the_total_deadline_on_every_route() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 4096];
                let _ = socket.read(&mut request).await;
                let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n").await;
                while socket.write_all(b" ").await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            });
        }
    });
    let rig = rig_with(move |config| config.upstream.url.clone_from(&url)).await;
    let wait = [("x-remora-timeout", "300ms")];
    let body = Bytes::from_static(br#"{"model":"m","input":"x"}"#);
    for (method, path, body) in [(Method::POST, "/v1/embeddings", body), (Method::GET, "/v1/models", Bytes::new())] {
        let sent = rig.send(method, path, "sk-a", &wait, body);
        let answer = tokio::time::timeout(Duration::from_secs(20), sent).await.expect("in time");
        assert_eq!((answer.status, answer.reason()), (StatusCode::GATEWAY_TIMEOUT, "deadline_exceeded"), "{path}");
        assert_eq!(rig.row(&answer).await["outcome"], "failed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_of_the_ledger_is_not_as_large_as_the_caller_likes() {
    let rig = Rig::start().await;
    let mut body = chat("Hello");
    body["user"] = "é".repeat(500_000).into();
    let answer = rig.chat("sk-a", &body).await;
    let user = rig.row(&answer).await["user"].as_str().unwrap().to_owned();
    assert!(user.len() <= 256 && user.starts_with("éé"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_a_follower_waits_for_upstream_is_not_called_overhead() {
    let rig = slow(600, 0).await;
    let leading = {
        let rig = Arc::clone(&rig);
        tokio::spawn(async move { rig.chat("sk-a", &chat("Hello")).await })
    };
    busy(&rig, 1).await;
    let follower = rig.chat("sk-a", &chat("Hello")).await;
    leading.await.unwrap();
    assert_eq!(follower.cache(), "COALESCED");
    let row = rig.row(&follower).await;
    assert!(row["overhead_us"].as_u64().unwrap() * 2 < row["latency_us"].as_u64().unwrap(), "{row}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_path_climbs_out_of_the_base_url() {
    let rig = Rig::start().await;
    for path in ["/v1/../stats", "/v1/files/../../x", "/v1/%2e%2E/stats", "/v1/..%2Fstats", "/v1/./files", "/v1/a/.."] {
        let mut socket = tokio::net::TcpStream::connect(rig.app().data).await.unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk-a\r\nconnection: close\r\n\r\n");
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut reply = String::new();
        socket.read_to_string(&mut reply).await.unwrap();
        assert!(reply.starts_with("HTTP/1.1 400"), "{path}: {reply}");
    }
    assert_eq!(rig.sim.stats().requests, 0);
    let dots = rig.send(Method::GET, "/v1/files/...a..b.json", "sk-a", &[], Bytes::new()).await;
    assert_eq!(dots.status, StatusCode::OK);
}
