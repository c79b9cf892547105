//! What is wrong, on either side, is told in OpenAI's shape with a text that helps, and leaves exactly one ledger row.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use remora::config::Config;
use remora::embed::{EmbedError, Embedder};
use serde_json::{Value, json};
use sqlx::Connection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

use crate::canned::Canned;
use crate::rig::{Answer, Plan, Rig, chat, chat_stream};

const CHAT: &str = "/v1/chat/completions";

async fn rig_with(change: impl Fn(&mut Config) + Send + Sync + 'static) -> Rig {
    Rig::with(Plan { change: Arc::new(change), ..Plan::default() }).await
}

async fn post(rig: &Rig, path: &str, body: &str) -> Answer {
    rig.send(Method::POST, path, "sk-a", &[], Bytes::from(body.to_owned())).await
}

/// Checks shape, status and ledger of an error of our own.
async fn is_ours(rig: &Rig, answer: &Answer, status: u16, outcome: &str, reason: &str) -> Value {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(answer.header("content-type"), "application/json");
    let error = answer.json()["error"].clone();
    let members: Vec<&str> = error.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, ["message", "type", "param", "code"]);
    assert!(error["message"].as_str().unwrap().len() > 10 && error["type"].is_string(), "{error}");
    assert!(!error["message"].as_str().unwrap().contains("simulated"), "our own words: {error}");
    assert_eq!(answer.reason(), reason);
    let row = rig.row(answer).await;
    assert_eq!((&row["outcome"], &row["reason"], &row["status"]), (&json!(outcome), &json!(reason), &json!(status)));
    error
}

async fn rows(rig: &Rig) -> u64 {
    rig.settle().await;
    rig.app().stores.ledger.count().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_json_is_refused() {
    let rig = Rig::start().await;
    let deep = format!(r#"{{"model":"m","messages":{}1{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    let repeated = r#"{"model":"m","model":"n","messages":[{"role":"user","content":"x"}]}"#;
    let inner = r#"{"model":"m","messages":[{"role":"user","content":"x","content":"y"}]}"#;
    let bad =
        ["", "{", "nonsense", "{\"model\":\"m\",}", "{} {}", "\u{feff}{}", &deep, repeated, inner, "{\"model\":NaN}"];
    for path in [CHAT, "/v1/completions", "/v1/embeddings"] {
        for body in bad {
            let answer = post(&rig, path, body).await;
            is_ours(&rig, &answer, 400, "refused", "invalid_json").await;
        }
    }
    let error = is_ours(&rig, &post(&rig, CHAT, repeated).await, 400, "refused", "invalid_json").await;
    assert!(error["message"].as_str().unwrap().contains("`model`"), "{error}");
    assert_eq!(rig.sim.stats().requests, 0);
    assert_eq!(rows(&rig).await, 3 * bad.len() as u64 + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_types_are_refused_by_the_members_name() {
    let rig = Rig::start().await;
    let messages = r#""messages":[{"role":"user","content":"x"}]"#;
    let cases = [
        (CHAT, format!(r#"{{{messages}}}"#), "model"),
        (CHAT, format!(r#"{{"model":7,{messages}}}"#), "model"),
        (CHAT, r#"{"model":"m"}"#.to_owned(), "messages"),
        (CHAT, r#"{"model":"m","messages":{}}"#.to_owned(), "messages"),
        (CHAT, format!(r#"{{"model":"m",{messages},"stream":"yes"}}"#), "stream"),
        (CHAT, format!(r#"{{"model":"m",{messages},"n":-1}}"#), "n"),
        (CHAT, format!(r#"{{"model":"m",{messages},"n":1000}}"#), "n"),
        (CHAT, format!(r#"{{"model":"m",{messages},"max_tokens":"many"}}"#), "max_tokens"),
        (CHAT, format!(r#"{{"model":"m",{messages},"temperature":"hot"}}"#), "temperature"),
        (CHAT, format!(r#"{{"model":"m",{messages},"stop":["a","b","c","d","e"]}}"#), "stop"),
        (CHAT, "[]".to_owned(), "body"),
        ("/v1/embeddings", r#"{"model":"m"}"#.to_owned(), "input"),
        ("/v1/embeddings", r#"{"model":"m","input":[]}"#.to_owned(), "input"),
        ("/v1/embeddings", r#"{"model":"m","input":["a",{}]}"#.to_owned(), "input"),
        ("/v1/embeddings", r#"{"input":"a"}"#.to_owned(), "model"),
    ];
    for (path, body, param) in &cases {
        let error = is_ours(&rig, &post(&rig, path, body).await, 400, "refused", "invalid_parameter").await;
        assert_eq!(error["param"], *param, "{body}");
        assert!(error["message"].as_str().unwrap().contains(&format!("`{param}`")), "{error}");
        assert_eq!(error["type"], "invalid_request_error");
    }
    assert_eq!((rig.sim.stats().requests, rows(&rig).await), (0, cases.len() as u64));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_the_limit_is_refused() {
    let rig = rig_with(|config| config.server.limits.body_bytes = 1_000).await;
    let fitting = chat(&"x".repeat(1_000 - chat("").to_string().len()));
    assert_eq!(fitting.to_string().len(), 1_000);
    assert_eq!(rig.chat("sk-a", &fitting).await.status, StatusCode::OK);
    let over = chat(&"x".repeat(1_001 - chat("").to_string().len()));
    let error = is_ours(&rig, &rig.chat("sk-a", &over).await, 413, "refused", "body_too_large").await;
    assert_eq!(error["type"], "invalid_request_error");
    assert_eq!((rig.sim.stats().requests, rows(&rig).await), (1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_cannot_be_used_are_refused() {
    let rig = rig_with(|config| config.server.passthrough = false).await;
    for (authorization, code) in [
        ("Bearer rk-wrong", "invalid_api_key"),
        ("Bearer", "malformed_api_key"),
        ("Basic YTpi", "malformed_api_key"),
        ("Bearer ", "malformed_api_key"),
    ] {
        let answer = rig.chat_with("", &[("authorization", authorization)], &chat("x")).await;
        let error = is_ours(&rig, &answer, 401, "refused", code).await;
        assert_eq!(error["type"], "authentication_error");
    }
    let none = rig.chat("", &chat("x")).await;
    is_ours(&rig, &none, 401, "refused", "missing_api_key").await;
    assert_eq!(rig.row(&none).await["tenant"], Value::Null);
    assert_eq!(rig.sim.stats().requests, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_without_a_credential_pass_and_share_nothing() {
    let simulate = remora::simulate::Options {
        require_key: remora::simulate::KeyRule::None,
        ..remora::simulate::Options::default()
    };
    let rig = Rig::with(Plan { simulate, ..Plan::default() }).await;
    for _ in 0..2 {
        let answer = rig.chat("", &chat("x")).await;
        assert_eq!((answer.status, answer.cache()), (StatusCode::OK, "BYPASS"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_of_upstream_pass_unchanged_and_are_not_stored() {
    let rig = Rig::start().await;
    let mut unknown = chat("Hello");
    unknown["model"] = "no-such-model".into();
    for _ in 0..2 {
        let answer = rig.chat("sk-a", &unknown).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
        let error = &answer.json()["error"];
        assert_eq!((&error["code"], &error["param"]), (&json!("model_not_found"), &json!("model")));
        assert!(error["message"].as_str().unwrap().contains("(simulated)"), "upstream's own words");
        assert_eq!(answer.header("x-remora-entry"), "");
        let row = rig.row(&answer).await;
        assert_eq!(
            (&row["outcome"], &row["upstream_status"], &row["entry"]),
            (&json!("failed"), &json!(404), &Value::Null)
        );
    }
    for (status, stream) in [(400, false), (401, true), (429, false), (500, true), (503, false)] {
        let fault = format!("status={status}+retry-after=7");
        let body = if stream { chat_stream("Hello") } else { chat("Hello") };
        let answer = rig.chat_with("sk-a", &[("x-simulate", &fault)], &body).await;
        assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (status, "7"));
        assert_eq!(answer.header("content-type"), "application/json");
        assert_eq!(rig.row(&answer).await["outcome"], "failed");
    }
    assert_eq!(rig.sim.stats().requests, 7);
    assert_eq!(rig.chat("sk-a", &chat("Hello")).await.cache(), "MISS", "none of it was stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_is_down_is_502() {
    let gone = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}/v1", listener.local_addr().unwrap())
    };
    let rig = rig_with(move |config| config.upstream.url.clone_from(&gone)).await;
    let embedding = r#"{"model":"m","input":"x"}"#;
    for (path, body) in [
        (CHAT, chat("x").to_string()),
        (CHAT, chat_stream("x").to_string()),
        ("/v1/embeddings", embedding.to_owned()),
        ("/v1/files", "x".to_owned()),
    ] {
        let answer = post(&rig, path, &body).await;
        let error = is_ours(&rig, &answer, 502, "failed", "upstream_unreachable").await;
        assert_eq!(error["type"], "api_error", "{path}");
    }
    assert_eq!(rows(&rig).await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn rubbish_of_upstream_is_502() {
    let rig = Rig::start().await;
    for (fault, reason) in [
        ("rubbish", "upstream_bad_response"),
        ("empty", "upstream_bad_response"),
        ("truncate", "upstream_broken_off"),
        ("close", "upstream_closed"),
        ("reset", "upstream_closed"),
    ] {
        let answer = rig.chat_with("sk-a", &[("x-simulate", fault)], &chat(fault)).await;
        is_ours(&rig, &answer, 502, "failed", reason).await;
    }
    let html = rig.chat_with("sk-a", &[("x-simulate", "rubbish")], &chat_stream("A page for a stream")).await;
    is_ours(&rig, &html, 502, "failed", "upstream_bad_response").await;
    let body = Bytes::from_static(br#"{"model":"text-embedding-3-small","input":"x"}"#);
    let vectors = rig.send(Method::POST, "/v1/embeddings", "sk-a", &[("x-simulate", "rubbish")], body).await;
    is_ours(&rig, &vectors, 502, "failed", "upstream_bad_response").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_takes_too_long_is_504() {
    let rig = rig_with(|config| {
        config.upstream.first_byte = Duration::from_millis(150);
        config.upstream.first_byte_stream = Duration::from_millis(150);
        config.upstream.idle = Duration::from_millis(150);
    })
    .await;
    let hang = [("x-simulate", "hang")];
    for body in [chat("hang"), chat_stream("hang")] {
        let answer = rig.chat_with("sk-a", &hang, &body).await;
        let error = is_ours(&rig, &answer, 504, "failed", "upstream_timeout").await;
        assert_eq!(error["type"], "timeout_error");
    }
    let stalls = rig.chat_with("sk-a", &[("x-simulate", "stall=0")], &chat("Half a body, then silence")).await;
    is_ours(&rig, &stalls, 504, "failed", "upstream_idle_timeout").await;
    assert_eq!(rig.sim.stats().aborted, 3, "what is too late is given up");

    let rig = Rig::start().await;
    let headers = [("x-simulate", "hang"), ("x-remora-timeout", "150ms")];
    let answer = rig.chat_with("sk-a", &headers, &chat("The caller's own deadline")).await;
    is_ours(&rig, &answer, 504, "failed", "deadline_exceeded").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_over_the_limit_is_not_taken() {
    let rig = rig_with(|config| {
        config.server.limits.response_bytes = 65_536;
        config.cache.max_entry_bytes = 20_000;
    })
    .await;
    // Only equal requests are to meet here.
    let exact = ("x-remora-cache", "exact");
    let sized = async |bytes: &str, body: &Value| rig.chat_with("sk-a", &[exact, ("x-simulate", bytes)], body).await;
    let over = sized("size=70000", &chat("Over the limit of a whole answer")).await;
    is_ours(&rig, &over, 502, "failed", "upstream_response_too_large").await;
    let large = sized("size=30000", &chat("Over the limit of an entry")).await;
    assert_eq!((large.status, large.cache(), large.reason()), (StatusCode::OK, "MISS", "entry_too_large"));
    let long = sized("size=30000", &chat_stream("Over the limit of an entry, streamed")).await;
    assert_eq!(long.streamed().len(), 30_000, "a long stream reaches the client");
    assert_eq!(rig.row(&long).await["reason"], "too_large");
    for body in [chat("Over the limit of an entry"), chat_stream("Over the limit of an entry, streamed")] {
        assert_eq!(rig.chat_with("sk-a", &[exact], &body).await.cache(), "MISS");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_line_of_upstream_ends_with_an_error_event() {
    let upstream = Canned::start(|_| {
        let mut parts = vec![crate::canned::stream_head()];
        parts.extend((0..20).map(|_| crate::canned::chunk(&format!("data: {}", "x".repeat(10_000)))));
        parts
    })
    .await;
    let url = format!("http://{}/v1", upstream.addr);
    let rig = rig_with(move |config| {
        config.upstream.url.clone_from(&url);
        config.server.limits.sse_line_bytes = 50_000;
    })
    .await;
    let answer = rig.chat("sk-a", &chat_stream("x")).await;
    assert!(answer.text().contains("upstream_response_too_large"), "{}", answer.text().len());
    assert_eq!(rig.row(&answer).await["outcome"], "failed");
}

async fn metric(rig: &Rig, line: &str) -> bool {
    rig.settle().await;
    rig.admin(Method::GET, "/metrics", None).await.text().lines().any(|known| known.starts_with(line))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_embedder_costs_the_semantic_tier_and_nothing_else() {
    for error in [EmbedError::Deadline, EmbedError::QueueFull, EmbedError::Model("no".into()), EmbedError::BreakerOpen]
    {
        let reason = error.reason();
        let rig = Rig::with(Plan { embedder: Some(Embedder::failing(error)), ..Plan::default() }).await;
        let first = rig.chat("sk-a", &chat("Hello there")).await;
        assert_eq!((first.status, first.cache(), first.reason()), (StatusCode::OK, "MISS", reason));
        assert!(!first.header("x-remora-entry").is_empty(), "stored for the exact tier");
        assert_eq!(rig.chat("sk-a", &chat("Hello there")).await.header("x-remora-tier"), "exact");
        assert_eq!(rig.chat("sk-a", &chat("hello there!")).await.header("x-remora-tier"), "semantic", "the same words");
        assert!(metric(&rig, &format!("remora_embedding_failures_total{{reason=\"{reason}\"}} 1")).await, "{reason}");
        let counted = format!("reason=\"{reason}\",result=\"miss\"");
        let metrics = rig.admin(Method::GET, "/metrics", None).await.text();
        assert!(
            metrics.lines().any(|l| l.starts_with("remora_cache_requests_total") && l.contains(&counted)),
            "{metrics}"
        );
    }
}

async fn database(rig: &Rig) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(rig.dir.path().join("remora.db"));
    SqliteConnection::connect_with(&options).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_be_read_costs_the_hit_and_nothing_else() {
    // Nothing stays in memory, so every hit reads its body from the store.
    let rig = rig_with(|config| config.cache.memory_bytes = 1).await;
    let first = rig.chat("sk-a", &chat("Hello there")).await;
    rig.settle().await;
    assert_eq!(rig.chat("sk-a", &chat("Hello there")).await.cache(), "HIT", "read from the store");
    let mut database = database(&rig).await;
    let tables: Vec<(String,)> =
        sqlx::query_as("SELECT name FROM sqlite_schema WHERE type = 'table' AND name LIKE '%bod%'")
            .fetch_all(&mut database)
            .await
            .unwrap();
    assert!(!tables.is_empty());
    for (table,) in tables {
        let rename = format!("ALTER TABLE {table} RENAME TO lost_{table}");
        sqlx::query(sqlx::AssertSqlSafe(rename)).execute(&mut database).await.unwrap();
    }
    let answer = rig.chat("sk-a", &chat("Hello there")).await;
    assert_eq!((answer.status, answer.cache(), answer.reason()), (StatusCode::OK, "MISS", "cache_fault"));
    assert_eq!(answer.content(), first.content());
    assert_eq!(rig.row(&answer).await["reason"], "cache_fault");
    let metrics = rig.admin(Method::GET, "/metrics", None).await.text();
    let counted = "reason=\"cache_fault\",result=\"miss\"";
    assert!(metrics.lines().any(|l| l.starts_with("remora_cache_requests_total") && l.contains(counted)), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_be_written_holds_nothing_up_and_catches_up() {
    let rig = Rig::start().await;
    let mut other = database(&rig).await;
    sqlx::query("BEGIN EXCLUSIVE").execute(&mut other).await.unwrap();
    for number in 0..20 {
        let answer = rig.chat("sk-a", &chat(&format!("Question number {number}"))).await;
        assert_eq!((answer.status, answer.cache()), (StatusCode::OK, "MISS"));
        assert_eq!(rig.chat("sk-a", &chat(&format!("Question number {number}"))).await.cache(), "HIT");
    }
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    rig.settle().await;
    assert_eq!(rows(&rig).await, 40, "no row is lost");
    assert_eq!(rig.app().stores.entries.counts().await.unwrap().entries, 20);
}
