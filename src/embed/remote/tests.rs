//! The remote embedder against a small server on the loopback interface.

use std::convert::Infallible;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

use http::Response;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::*;
use crate::config::{Embedding, EmbeddingKind};
use crate::embed::Embedder;

const KEY: &str = "sk-not-to-be-seen";
const GOOD: &str = r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[3.0,4.0]}],"model":"m","usage":{"prompt_tokens":1}}"#;

/// What the server does, and what it has seen.
#[derive(Default)]
struct Script {
    status: Mutex<u16>,
    body: Mutex<String>,
    hang: std::sync::atomic::AtomicBool,
    requests: AtomicUsize,
    last: Mutex<(http::HeaderMap, serde_json::Value)>,
}

impl Script {
    fn say(&self, status: u16, body: impl Into<String>) {
        *self.status.lock().unwrap() = status;
        *self.body.lock().unwrap() = body.into();
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        assert_eq!(request.uri().path(), "/v1/embeddings");
        let headers = request.headers().clone();
        let body = request.into_body().collect().await.unwrap().to_bytes();
        *self.last.lock().unwrap() = (headers, serde_json::from_slice(&body).unwrap());
        if self.hang.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        let body = self.body.lock().unwrap().clone();
        Response::builder().status(*self.status.lock().unwrap()).body(Full::from(body)).unwrap()
    }
}

async fn serve() -> (Arc<Script>, String) {
    let script = Arc::new(Script::default());
    script.say(200, GOOD);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1/", listener.local_addr().unwrap());
    let shared = Arc::clone(&script);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let script = Arc::clone(&shared);
            let service = service_fn(move |request| {
                let script = Arc::clone(&script);
                async move { Ok::<_, Infallible>(script.answer(request).await) }
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    (script, url)
}

fn embedder(url: &str, model: &str, deadline: Duration, queue: usize) -> Embedder {
    let kind = EmbeddingKind::OpenAi {
        url: url.to_owned(),
        model: model.to_owned(),
        api_key: Some(Secret::new(KEY.to_owned())),
        dimensions: 2,
    };
    Embedder::new(&Embedding { kind, deadline, threads: 1, queue, cache_entries: 10 }).unwrap()
}

const PATIENT: Duration = Duration::from_secs(120);

#[tokio::test]
async fn a_good_answer_becomes_a_unit_vector_and_is_remembered() {
    let (script, url) = serve().await;
    let embedder = embedder(&url, "m", PATIENT, 4);
    let first = embedder.embed("hello").await.unwrap();
    assert_eq!(first.vector.as_ref(), [0.6, 0.8]);
    assert_eq!((first.truncated, first.cached), (None, false));
    assert!(embedder.embed("hello").await.unwrap().cached);
    assert_eq!(script.requests(), 1);
    let (headers, body) = script.last.lock().unwrap().clone();
    assert_eq!(headers["authorization"], format!("Bearer {KEY}"));
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(body, serde_json::json!({"model": "m", "input": "hello", "encoding_format": "float"}));
}

#[tokio::test]
async fn the_length_is_asked_for_only_where_it_is_understood() {
    let (script, url) = serve().await;
    for (model, expected) in [
        ("text-embedding-3-small", serde_json::json!(2)),
        ("openai/text-embedding-3-large", serde_json::json!(2)),
        ("text-embedding-ada-002", serde_json::Value::Null),
    ] {
        embedder(&url, model, PATIENT, 4).embed("hello").await.unwrap();
        assert_eq!(script.last.lock().unwrap().1["dimensions"], expected, "{model}");
    }
}

#[tokio::test]
async fn a_long_text_is_cut_and_the_whole_of_it_goes_into_the_digest() {
    let (script, url) = serve().await;
    let embedder = embedder(&url, "m", PATIENT, 4);
    let start = "é".repeat(WINDOW_BYTES);
    let yes = embedder.embed(&format!("{start} yes")).await.unwrap();
    assert_eq!(script.last.lock().unwrap().1["input"].as_str().unwrap().len(), WINDOW_BYTES);
    let no = embedder.embed(&format!("{start} no")).await.unwrap();
    assert_eq!(yes.vector, no.vector);
    assert!(yes.truncated.is_some() && yes.truncated != no.truncated);
}

#[tokio::test]
async fn what_is_no_vector_of_this_space_is_refused() {
    let (script, url) = serve().await;
    for (case, body) in [
        ("dimension", r#"{"data":[{"index":0,"embedding":[1.0]}]}"#.to_owned()),
        ("nan", r#"{"data":[{"index":0,"embedding":[NaN,1.0]}]}"#.to_owned()),
        ("infinite", r#"{"data":[{"index":0,"embedding":[1e39,1.0]}]}"#.to_owned()),
        ("null", r#"{"data":[{"index":0,"embedding":[null,1.0]}]}"#.to_owned()),
        ("zero", r#"{"data":[{"index":0,"embedding":[0,0]}]}"#.to_owned()),
        ("none", r#"{"data":[]}"#.to_owned()),
        ("two", r#"{"data":[{"embedding":[1,0]},{"embedding":[1,0]}]}"#.to_owned()),
        ("another text's", r#"{"data":[{"index":1,"embedding":[1,0]}]}"#.to_owned()),
        ("error with status 200", r#"{"error":"overloaded"}"#.to_owned()),
        ("html", "<html>".to_owned()),
        ("huge", format!("{GOOD}{}", " ".repeat(200_000))),
    ] {
        script.say(200, body);
        let error = embedder(&url, "m", PATIENT, 4).embed("hello").await.unwrap_err();
        assert_eq!(error.reason(), "bad_vector", "{case}: {error}");
    }
}

#[tokio::test]
async fn five_failures_open_the_breaker_and_an_error_never_shows_the_key() {
    let (script, url) = serve().await;
    let embedder = embedder(&url, "m", PATIENT, 4);
    script.say(500, format!("your key {KEY} is fine, we are not"));
    for _ in 0..5 {
        let error = embedder.embed("hello").await.unwrap_err();
        assert_eq!(error, EmbedError::RemoteStatus(500));
        assert!(!format!("{error} {error:?}").contains(KEY));
    }
    assert_eq!(embedder.embed("hello").await.unwrap_err(), EmbedError::BreakerOpen);
    assert_eq!(script.requests(), 5, "the sixth was not sent");
    assert_eq!(embedder.inferences(), 5);
}

fn remote(url: &str, patience: Duration, first_wait: Duration) -> Remote {
    let endpoint = Endpoint { url, model: "m", api_key: None, dimensions: 2 };
    let mut remote = Remote::new(&endpoint, 4, patience, Arc::default()).unwrap();
    remote.breaker = Breaker::new(first_wait);
    remote
}

#[tokio::test]
async fn the_breaker_lets_a_probe_through_and_closes_when_it_succeeds() {
    let (script, url) = serve().await;
    let remote = remote(&url, PATIENT, Duration::from_millis(20));
    script.say(503, "");
    for _ in 0..5 {
        remote.run("hello").await.unwrap_err();
    }
    script.say(200, GOOD);
    let mut refused = 0_u32;
    while let Err(error) = remote.run("hello").await {
        assert_eq!(error, EmbedError::BreakerOpen);
        refused += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(refused > 0);
    remote.run("and again").await.unwrap();
    assert_eq!(script.requests(), 7);
}

#[tokio::test]
async fn a_complaint_about_one_text_does_not_open_the_breaker() {
    let (script, url) = serve().await;
    let remote = remote(&url, PATIENT, FIRST_WAIT);
    script.say(400, "too long");
    for _ in 0..6 {
        assert_eq!(remote.run("hello").await.unwrap_err(), EmbedError::RemoteStatus(400));
    }
}

#[tokio::test]
async fn a_hanging_endpoint_costs_the_deadline_and_then_opens_the_breaker() {
    let (script, url) = serve().await;
    let embedder = embedder(&url, "m", Duration::from_millis(40), 4);
    script.hang.store(true, Ordering::Relaxed);
    for _ in 0..5 {
        assert_eq!(embedder.embed("hello").await.unwrap_err(), EmbedError::Deadline);
    }
    assert_eq!(embedder.embed("hello").await.unwrap_err(), EmbedError::BreakerOpen);
    assert_eq!(embedder.queue_depth(), 0, "a dropped call gives its permit back");
}

#[tokio::test]
async fn calls_under_way_are_bounded() {
    let (script, url) = serve().await;
    let embedder = embedder(&url, "m", PATIENT, 2);
    script.hang.store(true, Ordering::Relaxed);
    let hanging: Vec<_> = ["one", "two"]
        .map(|text| {
            let embedder = embedder.clone();
            tokio::spawn(async move { embedder.embed(text).await })
        })
        .into();
    while script.requests() < 2 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(embedder.queue_depth(), 2);
    assert_eq!(embedder.embed("three").await.unwrap_err(), EmbedError::QueueFull);
    for call in hanging {
        call.abort();
    }
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    drop(listener);
    let error = embedder(&url, "m", PATIENT, 4).embed("hello").await.unwrap_err();
    assert_eq!(error.reason(), "remote_unreachable", "{error}");
    assert!(!format!("{error} {error:?}").contains(KEY));
}
