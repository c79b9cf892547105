//! The simulator over real sockets, byte by byte where framing is the point.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Handle, KeyRule, Options, spawn};

const CHAT: &str = "/v1/chat/completions";

async fn started(options: Options) -> Handle {
    spawn(options, SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap()
}

async fn simulator() -> Handle {
    started(Options { tokens: 16, ..Options::default() }).await
}

/// What came back, as far as it came.
struct Got {
    status: u16,
    head: String,
    body: Vec<u8>,
    /// The body ended as its framing says.
    complete: bool,
    error: Option<std::io::ErrorKind>,
}

impl Got {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value)
    }

    fn events(&self) -> Vec<Value> {
        let lines = self.text().lines().filter_map(|line| line.strip_prefix("data: "));
        lines.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).unwrap()).collect()
    }
}

async fn connect(handle: &Handle, request: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(handle.addr).await.unwrap();
    stream.write_all(request).await.unwrap();
    stream
}

fn request(method: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

async fn send(handle: &Handle, method: &str, path: &str, headers: &str, body: &[u8]) -> Got {
    let mut stream = connect(handle, &request(method, path, headers, body)).await;
    let mut bytes = Vec::new();
    let error = stream.read_to_end(&mut bytes).await.err().map(|error| error.kind());
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Got { status: 0, head: String::new(), body: bytes, complete: false, error };
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let status = head[9..12].parse().unwrap();
    let rest = &bytes[end + 4..];
    let mut got = Got { status, head, body: rest.to_vec(), complete: true, error };
    if got.header("transfer-encoding") == Some("chunked") {
        (got.body, got.complete) = dechunk(rest);
    } else if let Some(length) = got.header("content-length") {
        got.complete = length.parse() == Ok(rest.len());
    }
    got
}

fn dechunk(mut rest: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    while let Some(line) = rest.windows(2).position(|two| two == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        if size == 0 {
            return (body, true);
        }
        body.extend_from_slice(&rest[line + 2..line + 2 + size]);
        rest = &rest[line + 4 + size..];
    }
    (body, false)
}

async fn post(handle: &Handle, path: &str, headers: &str, body: Value) -> Got {
    let headers = format!("authorization: Bearer sk-1\r\ncontent-type: application/json\r\n{headers}");
    send(handle, "POST", path, &headers, body.to_string().as_bytes()).await
}

async fn get(handle: &Handle, path: &str) -> Got {
    send(handle, "GET", path, "authorization: Bearer sk-1\r\n", b"").await
}

fn chat(model: &str, stream: bool) -> Value {
    json!({"model": model, "stream": stream, "messages": [{"role": "user", "content": "Où est la gare?"}]})
}

async fn faulty(handle: &Handle, fault: &str, stream: bool) -> Got {
    post(handle, CHAT, &format!("x-simulate: {fault}\r\n"), chat("sim", stream)).await
}

/// Waits until `done` holds of the statistics; fails after ten seconds.
async fn until(handle: &Handle, done: impl Fn(&super::Stats) -> bool) {
    let wait = async {
        while !done(&handle.stats()) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait).await.expect("the statistics did not get there");
}

#[tokio::test]
async fn a_chat_answer_has_openai_shape_and_headers() {
    let handle = simulator().await;
    let got = post(&handle, CHAT, "", chat("gpt-4o", false)).await;
    assert_eq!(got.status, 200);
    for name in ["x-request-id", "openai-processing-ms", "x-ratelimit-limit-requests", "x-ratelimit-reset-tokens"] {
        assert!(got.header(name).is_some(), "{name}");
    }
    let body = got.json();
    assert_eq!((&body["object"], &body["model"]), (&json!("chat.completion"), &json!("gpt-4o")));
    let choice = &body["choices"][0];
    assert!(choice["message"]["content"].as_str().unwrap().starts_with("You asked: \"Où est la gare?\"."));
    assert_eq!(choice["message"]["refusal"], Value::Null);
    assert_eq!(choice["finish_reason"], "stop");
    let usage = &body["usage"];
    assert_eq!(usage["prompt_tokens"], 4);
    let total = usage["prompt_tokens"].as_u64().unwrap() + usage["completion_tokens"].as_u64().unwrap();
    assert_eq!(usage["total_tokens"], total);
    assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], 0);
    let again = post(&handle, CHAT, "", chat("gpt-4o", false)).await.json();
    assert_eq!(again["choices"], body["choices"]);
    assert_ne!(again["id"], body["id"]);
}

#[tokio::test]
async fn a_stream_says_the_same_as_the_json_and_ends_with_done() {
    let handle = simulator().await;
    let whole = post(&handle, CHAT, "", chat("gpt-4o", false)).await.json();
    let got = post(&handle, CHAT, "", chat("gpt-4o", true)).await;
    assert_eq!(got.header("content-type"), Some("text/event-stream; charset=utf-8"));
    assert!(got.complete && got.text().ends_with("\n\ndata: [DONE]\n\n"));
    let parts = got.events();
    let text: String = parts.iter().filter_map(|e| e["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, whole["choices"][0]["message"]["content"].as_str().unwrap());
    assert!(parts.iter().all(|event| event.get("usage").is_none()));

    let mut asked = chat("gpt-4o", true);
    asked["stream_options"] = json!({"include_usage": true});
    let with_usage = post(&handle, CHAT, "", asked).await.events();
    assert_eq!(with_usage.last().unwrap()["usage"], whole["usage"]);
    assert_eq!(handle.stats().streams, 2);
}

#[tokio::test]
async fn logprobs_come_when_asked_for() {
    let handle = simulator().await;
    let mut body = chat("sim", false);
    body["logprobs"] = json!(true);
    body["top_logprobs"] = json!(2);
    let got = post(&handle, CHAT, "", body).await.json();
    let content = got["choices"][0]["logprobs"]["content"].as_array().unwrap().clone();
    let text: String = content.iter().map(|token| token["token"].as_str().unwrap()).collect();
    assert_eq!(text, got["choices"][0]["message"]["content"].as_str().unwrap());
    assert_eq!(content[0]["top_logprobs"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn completions_embeddings_and_models_answer() {
    let handle = simulator().await;
    let text = post(&handle, "/v1/completions", "", json!({"model": "sim", "prompt": "p", "logprobs": 1})).await.json();
    assert!(text["choices"][0]["text"].as_str().unwrap().starts_with("You asked: \"p\""));
    assert_eq!(text["choices"][0]["logprobs"]["text_offset"][1], 4);
    let streamed = post(&handle, "/v1/completions", "", json!({"model": "sim", "prompt": "p", "stream": true})).await;
    let joined: String =
        streamed.events().iter().filter_map(|e| e["choices"][0]["text"].as_str().map(str::to_owned)).collect();
    assert_eq!(joined, text["choices"][0]["text"].as_str().unwrap());

    let vectors =
        post(&handle, "/v1/embeddings", "", json!({"model": "e", "input": ["a", "b"], "dimensions": 4})).await.json();
    assert_eq!(vectors["data"][1]["embedding"].as_array().unwrap().len(), 4);

    assert_eq!(get(&handle, "/v1/models").await.json()["object"], "list");
    assert_eq!(get(&handle, "/v1/models/anything").await.json()["id"], "anything");
    let stats = handle.stats();
    assert_eq!((stats.routes["completions"], stats.routes["embeddings"], stats.routes["models"]), (2, 1, 2));
}

#[tokio::test]
async fn errors_have_openai_shape() {
    let handle = simulator().await;
    let no_key = send(&handle, "POST", CHAT, "", chat("sim", false).to_string().as_bytes()).await;
    assert_eq!((no_key.status, &no_key.json()["error"]["code"]), (401, &json!("invalid_api_key")));
    let no_model = post(&handle, CHAT, "", chat("no-such-model", false)).await;
    assert_eq!((no_model.status, &no_model.json()["error"]["code"]), (404, &json!("model_not_found")));
    assert_eq!(get(&handle, "/v1/models/no-such-model").await.status, 404);
    let bad = send(&handle, "POST", CHAT, "authorization: Bearer k\r\n", b"{").await;
    assert_eq!((bad.status, &bad.json()["error"]["type"]), (400, &json!("invalid_request_error")));
    assert_eq!(get(&handle, CHAT).await.status, 405);
    assert_eq!(get(&handle, "/elsewhere").await.status, 404);
    assert_eq!(faulty(&handle, "no-such-fault", false).await.status, 400);
    assert_eq!(handle.stats().statuses.values().sum::<u64>(), handle.stats().requests);
}

#[tokio::test]
async fn a_key_rule_is_enforced_for_both_ways_to_send_a_key() {
    let handle = started(Options { require_key: KeyRule::Exactly("secret".into()), ..Options::default() }).await;
    let status = async |header: &str| send(&handle, "GET", "/v1/models", header, b"").await.status;
    assert_eq!(status("authorization: Bearer wrong\r\n").await, 401);
    assert_eq!(status("authorization: Bearer secret\r\n").await, 200);
    assert_eq!(status("x-api-key: secret\r\n").await, 200);
}

#[tokio::test]
async fn other_routes_return_the_bytes_they_got() {
    let handle = simulator().await;
    let body: Vec<u8> = (0..=255).collect();
    let headers = "authorization: Bearer k\r\ncontent-type: multipart/form-data; boundary=x\r\n";
    let got = send(&handle, "PUT", "/v1/files?purpose=a%20b", headers, &body).await;
    assert_eq!((got.status, &got.body), (200, &body));
    assert_eq!(got.header("content-type"), Some("multipart/form-data; boundary=x"));
    assert_eq!(
        (got.header("x-echo-method"), got.header("x-echo-path")),
        (Some("PUT"), Some("/v1/files?purpose=a%20b"))
    );
    assert_eq!((got.header("x-echo-headers"), got.header("x-echo-bytes")), (Some("5"), Some("256")));
    let last = handle.last().unwrap();
    assert_eq!(
        (last.method.as_str(), last.path.as_str(), &last.body[..]),
        ("PUT", "/v1/files?purpose=a%20b", &body[..])
    );
    assert_eq!(last.header("authorization"), Some("Bearer k"));
    let shown = get(&handle, "/last").await.json();
    assert_eq!((&shown["body"], &shown["bytes"]), (&Value::Null, &json!(256)));
    assert_eq!(get(&handle, "/v1/thing").await.json()["object"], "echo");
}

#[tokio::test]
async fn statuses_on_order_come_by_header_by_model_and_by_script() {
    let handle = simulator().await;
    let limited = faulty(&handle, "status=429;retry-after=2", false).await;
    assert_eq!((limited.status, limited.header("retry-after")), (429, Some("2")));
    assert_eq!(limited.json()["error"]["code"], "rate_limit_exceeded");
    assert_eq!(post(&handle, CHAT, "", chat("sim-fault-status=503", true)).await.status, 503);

    handle.script("[[rule]]\nmodel = \"scripted\"\ntimes = 1\nfault = \"status=500\"").unwrap();
    assert_eq!(post(&handle, CHAT, "", chat("scripted", false)).await.status, 500);
    assert_eq!(post(&handle, CHAT, "", chat("scripted", false)).await.status, 200);
    let bad = send(&handle, "POST", "/script", "", b"[[rule]]\nfault = \"nonsense\"").await;
    assert_eq!(bad.status, 400);
}

#[tokio::test]
async fn a_fault_with_times_ends_for_each_conversation_alone() {
    let handle = simulator().await;
    let ask = async |text: &str| {
        let body = json!({"model": "sim-fault-status=500+times=2", "messages": [{"role": "user", "content": text}]});
        post(&handle, CHAT, "", body).await.status
    };
    assert_eq!([ask("a").await, ask("a").await, ask("a").await, ask("b").await], [500, 500, 200, 500]);
}

#[tokio::test]
async fn a_reset_before_the_head_is_a_tcp_reset_and_a_close_is_not() {
    let handle = simulator().await;
    let reset = faulty(&handle, "reset", false).await;
    assert_eq!((reset.status, reset.error), (0, Some(std::io::ErrorKind::ConnectionReset)));
    let close = faulty(&handle, "close", false).await;
    assert_eq!((close.status, close.error, close.body.len()), (0, None, 0));
    assert_eq!(handle.stats().aborted, 0);
}

#[tokio::test]
async fn streams_break_after_so_many_events() {
    let handle = simulator().await;
    let cut = faulty(&handle, "cut=3", true).await;
    assert_eq!((cut.events().len(), cut.complete, cut.error), (3, false, None));
    let reset = faulty(&handle, "reset-after=3;chunk-delay=1ms", true).await;
    assert_eq!(reset.error, Some(std::io::ErrorKind::ConnectionReset));
    let error = faulty(&handle, "error-event=2", true).await;
    assert!(error.complete && !error.text().contains("[DONE]"));
    assert_eq!(error.events().len(), 3);
    assert_eq!(error.events()[2]["error"]["type"], "server_error");
    assert_eq!(handle.stats().aborted, 0);
}

#[tokio::test]
async fn bodies_break_as_ordered() {
    let handle = simulator().await;
    let rubbish = faulty(&handle, "rubbish", false).await;
    assert_eq!((rubbish.status, rubbish.header("content-type")), (200, Some("text/html")));
    let truncated = faulty(&handle, "truncate", false).await;
    let announced: usize = truncated.header("content-length").unwrap().parse().unwrap();
    assert!(!truncated.body.is_empty() && truncated.body.len() < announced);
    assert_eq!(faulty(&handle, "empty", false).await.body.len(), 0);
    assert!(!faulty(&handle, "cut=0", false).await.complete);
    assert!(faulty(&handle, "error-event=0", false).await.json()["error"].is_object());
    assert!(faulty(&handle, "size=3000000", false).await.body.len() > 3_000_000);
}

#[tokio::test]
async fn framing_faults_change_the_bytes_but_not_the_events() {
    let handle = simulator().await;
    let texts = |got: &Got| -> String {
        got.events().iter().filter_map(|e| e["choices"][0]["delta"]["content"].as_str().map(str::to_owned)).collect()
    };
    let plain = faulty(&handle, "", true).await;
    let crlf = faulty(&handle, "crlf", true).await;
    assert!(crlf.text().ends_with("\r\n\r\ndata: [DONE]\r\n\r\n"));
    let comments = faulty(&handle, "comments", true).await;
    assert!(comments.text().starts_with(": "));
    let unended = faulty(&handle, "no-final-blank", true).await;
    assert!(unended.text().ends_with("data: [DONE]\n") && !unended.text().ends_with("\n\n"));
    let undone = faulty(&handle, "no-done", true).await;
    assert!(!undone.text().contains("[DONE]") && undone.complete);
    let slow = faulty(&handle, "chunk-delay=1ms", true).await;
    let split = faulty(&handle, "split", true).await;
    for got in [&crlf, &comments, &unended, &undone, &slow, &split] {
        assert_eq!(texts(got), texts(&plain));
    }
    let azure = faulty(&handle, "azure", true).await.events();
    assert_eq!(azure[0]["choices"], json!([]));
}

#[tokio::test]
async fn a_split_event_arrives_in_pieces_that_are_not_utf_8() {
    let handle = simulator().await;
    let body = chat("sim-fault-split", true).to_string();
    let mut stream = connect(&handle, &request("POST", CHAT, "authorization: Bearer k\r\n", body.as_bytes())).await;
    let (mut all, mut broken, mut buffer) = (Vec::new(), 0, vec![0; 65536]);
    loop {
        let n = stream.read(&mut buffer).await.unwrap();
        if n == 0 {
            break;
        }
        all.extend_from_slice(&buffer[..n]);
        // The chunked framing ends each write with CRLF; what stands before it is the piece.
        let piece = buffer[..n].strip_suffix(b"\r\n").unwrap_or(&buffer[..n]);
        broken += usize::from(std::str::from_utf8(piece).is_err());
    }
    assert!(broken > 0, "no read ended inside a character in {} bytes", all.len());
}

#[tokio::test]
async fn a_client_that_leaves_is_counted_with_its_phase() {
    let handle = simulator().await;
    let raw = |fault: &str| {
        let headers = format!("authorization: Bearer k\r\nx-simulate: {fault}\r\n");
        request("POST", CHAT, &headers, chat("sim", true).to_string().as_bytes())
    };
    let waiting = connect(&handle, &raw("hang")).await;
    until(&handle, |stats| stats.in_flight == 1).await;
    drop(waiting);
    until(&handle, |stats| stats.aborted == 1).await;

    let mut reading = connect(&handle, &raw("stall=2")).await;
    let mut some = [0; 64];
    reading.read_exact(&mut some).await.unwrap();
    drop(reading);
    until(&handle, |stats| stats.aborted == 2 && stats.in_flight == 0).await;
    let aborts = handle.stats().aborts;
    assert_eq!([aborts[0].phase, aborts[1].phase], ["head", "body"]);
    assert_eq!([aborts[0].events, aborts[1].events], [0, 2]);
}

#[tokio::test]
async fn statistics_count_nonces_and_forget_on_reset() {
    let handle = simulator().await;
    for nonce in ["a", "b", "a"] {
        post(&handle, CHAT, &format!("x-nonce: {nonce}\r\n"), chat("sim", false)).await;
    }
    let stats = get(&handle, "/stats").await.json();
    assert_eq!((&stats["distinct_nonces"], &stats["repeated_nonces"]), (&json!(2), &json!(1)));
    assert_eq!((&stats["requests"], &stats["statuses"]["200"]), (&json!(3), &json!(3)));
    send(&handle, "POST", "/reset", "", b"").await;
    assert_eq!(handle.stats().requests, 0);
    assert_eq!(get(&handle, "/last").await.status, 404);
}

#[tokio::test]
async fn the_error_rate_fails_about_its_share_and_the_same_ones_each_time() {
    let handle = started(Options { error_rate: 0.3, seed: 7, ..Options::default() }).await;
    let run = async || {
        let mut failed = Vec::new();
        for n in 0..60 {
            if post(&handle, CHAT, "", chat("sim", false)).await.status == 500 {
                failed.push(n);
            }
        }
        failed
    };
    let first = run().await;
    assert!((6..30).contains(&first.len()), "{first:?}");
    handle.reset();
    assert_eq!(run().await, first);
}

#[tokio::test]
async fn http_2_with_prior_knowledge_is_spoken() {
    use http_body_util::{BodyExt, Full};
    use hyper_util::client::legacy::Client;
    use hyper_util::rt::TokioExecutor;
    let handle = simulator().await;
    let client: Client<_, Full<bytes::Bytes>> = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let ask = async |fault: &str| {
        let request = http::Request::post(format!("{}{CHAT}", handle.url())).header("authorization", "Bearer k");
        let request = request.header("x-simulate", fault).body(Full::from(chat("sim", true).to_string())).unwrap();
        let response = client.request(request).await.unwrap();
        assert_eq!(response.version(), http::Version::HTTP_2);
        response.into_body().collect().await.map(http_body_util::Collected::to_bytes)
    };
    assert!(ask("").await.unwrap().ends_with(b"data: [DONE]\n\n"));
    assert!(ask("cut=2").await.is_err());
}

#[tokio::test]
async fn a_stopped_simulator_no_longer_accepts() {
    let handle = simulator().await;
    let addr = handle.addr;
    handle.stop().await;
    assert!(TcpStream::connect(addr).await.is_err());
}
