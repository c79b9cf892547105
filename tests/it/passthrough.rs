//! Routes that are not understood pass as they are, both ways.

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::canned::{Canned, response};
use crate::rig::Rig;

#[tokio::test(flavor = "multi_thread")]
async fn bodies_pass_byte_for_byte() {
    let rig = Rig::start().await;
    let binary: Vec<u8> = (0..300_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[2]).collect();
    let multipart =
        b"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\n\x00\xff\r\n\r\n--b--\r\n"
            .to_vec();
    for (path, kind, body) in [
        ("/v1/audio/transcriptions", "multipart/form-data; boundary=b", multipart),
        ("/v1/files", "application/octet-stream", binary),
        ("/v1/rerank", "application/json", br#"{ "model":"m" ,"input":"\u0041", "n":1.0 }"#.to_vec()),
    ] {
        let request = Request::post(format!("http://{}{path}", rig.app().data))
            .header("authorization", "Bearer sk-a")
            .header("content-type", kind)
            .body(Full::new(Bytes::from(body.clone())))
            .unwrap();
        let answer = rig.exchange(request).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        assert_eq!(answer.body, body, "{path}: back as it was");
        assert_eq!(rig.sim.last().unwrap().body, body, "{path}: there as it was");
        assert_eq!(answer.header("content-type"), kind);
        assert_eq!((answer.cache(), answer.reason()), ("BYPASS", "route"));
        assert_eq!(answer.header("cache-status"), "remora; fwd=bypass; detail=route");
        let row = rig.row(&answer).await;
        assert_eq!((&row["outcome"], &row["route"]), (&json!("bypass"), &json!(format!("POST {path}"))));
        assert_eq!((&row["status"], &row["upstream_status"]), (&json!(200), &json!(200)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn methods_paths_and_queries_pass() {
    let rig = Rig::start().await;
    for (method, path) in [
        (Method::GET, "/v1/files?limit=2&after=a%2Fb+c&x"),
        (Method::DELETE, "/v1/files/file-abc"),
        (Method::PUT, "/v1/anything/at/all"),
        (Method::PATCH, "/v1/%7Euser/a%20b"),
        (Method::OPTIONS, "/v1/files"),
    ] {
        let answer = rig.send(method.clone(), path, "sk-a", &[], Bytes::new()).await;
        assert_eq!((answer.status, answer.header("x-echo-method")), (StatusCode::OK, method.as_str()), "{path}");
        assert_eq!(answer.header("x-echo-path"), path);
        assert_eq!(rig.row(&answer).await["outcome"], "bypass", "{method} {path}");
    }
    let head = rig.send(Method::HEAD, "/v1/files", "sk-a", &[], Bytes::new()).await;
    assert_eq!((head.status, head.header("x-echo-method")), (StatusCode::OK, "HEAD"));
    assert!(head.body.is_empty());
    assert_eq!(rig.row(&head).await["outcome"], "bypass");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_head_request_is_in_the_ledger_as_refused() {
    let rig = Rig::start().await;
    let head = rig.send(Method::HEAD, "/v2/files", "sk-a", &[], Bytes::new()).await;
    assert_eq!(head.status, StatusCode::NOT_FOUND);
    let row = rig.row(&head).await;
    assert_eq!((&row["outcome"], &row["reason"]), (&json!("refused"), &json!("unknown_endpoint")));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_of_models_is_upstreams() {
    let rig = Rig::start().await;
    let list = rig.send(Method::GET, "/v1/models", "sk-a", &[], Bytes::new()).await;
    assert_eq!((list.status, list.cache()), (StatusCode::OK, "BYPASS"));
    assert_eq!(list.json()["data"].as_array().unwrap().len(), 7);
    let one = rig.send(Method::GET, "/v1/models/gpt-4o", "sk-a", &[], Bytes::new()).await;
    assert_eq!(one.json()["id"], "gpt-4o");
    let none = rig.send(Method::GET, "/v1/models/no-such-model", "sk-a", &[], Bytes::new()).await;
    assert_eq!((none.status, &none.json()["error"]["code"]), (StatusCode::NOT_FOUND, &json!("model_not_found")));
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_one_connection_stay_on_it() {
    let upstream = Canned::start(|_| {
        let headers = "x-hop: 1\r\nset-cookie: a=b\r\nserver: up\r\nx-remora-cache: HIT\r\nopenai-version: 1\r\n";
        vec![response("text/plain", headers, b"ok")]
    })
    .await;
    let rig = upstream.rig().await;
    let sent = [("te", "trailers"), ("x-keep", "1"), ("accept-encoding", "br"), ("accept", "text/plain")];
    let answer = rig.send(Method::GET, "/v1/files", "sk-a", &sent, Bytes::new()).await;
    assert_eq!((answer.status, answer.text().as_str()), (StatusCode::OK, "ok"));
    assert_eq!(answer.header("openai-version"), "1");
    for name in ["set-cookie", "server"] {
        assert_eq!(answer.header(name), "", "{name}");
    }
    assert_eq!(answer.cache(), "BYPASS", "upstream cannot speak for us");
    let request = upstream.requests()[0].to_ascii_lowercase();
    assert!(request.contains("\r\nx-keep: 1\r\n") && request.contains("\r\naccept-encoding: br\r\n"), "{request}");
    assert!(!request.contains("\r\nte:"), "{request}");
    assert!(request.contains(&format!("\r\nhost: {}\r\n", upstream.addr)), "{request}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_outside_v1_is_refused_with_advice() {
    let rig = Rig::start().await;
    for path in ["/", "/chat/completions", "/v1", "/v10/models", "/V1/models"] {
        let answer = rig.send(Method::GET, path, "sk-a", &[], Bytes::new()).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        let error: Value = answer.json()["error"].clone();
        assert!(error["message"].as_str().unwrap().contains("/v1"), "{error}");
    }
    assert_eq!(rig.sim.stats().requests, 0);
}
