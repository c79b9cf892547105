//! HTTP/2 through hyper's client, and raw frames where a client would not send them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{Log, Server, deadlines, eventually, limits, local, ok};
use crate::config::{Deadlines, Limits};
use crate::server::{Listener, Refusal};

type Client = SendRequest<Full<Bytes>>;

async fn client(server: &Server, window: u32) -> Client {
    let io = TokioIo::new(server.connect().await);
    let (client, connection) =
        Builder::new(TokioExecutor::new()).initial_stream_window_size(window).handshake(io).await.unwrap();
    tokio::spawn(connection);
    client
}

fn request(method: Method, target: &str, fields: &[(&str, &str)], body: &str) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(target);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(Full::from(body.to_owned())).unwrap()
}

async fn text(response: Response<hyper::body::Incoming>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[tokio::test]
async fn requests_are_served_and_bad_ones_refused_without_harm_to_the_connection() {
    let server = Server::start(&limits(), &deadlines());
    let mut client = client(&server, 65_535).await;
    let get = |target: &str, fields: &[(&str, &str)]| request(Method::GET, target, fields, "");
    let many: Vec<String> = (0..21).map(|at| format!("x-{at}")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "1")).collect();
    let uri = |len: usize| format!("http://a/{}", "a".repeat(len - 1));
    for (request, want) in [
        (request(Method::POST, "http://a/x", &[], "hi"), 200),
        (get("http://a/x", &[("host", "A")]), 200),
        (get("http://a/x", &[("host", "b")]), 400),
        (request(Method::TRACE, "http://a/x", &[], ""), 405),
        (get("http://u@a/x", &[]), 400),
        (get("http://a/x", &many[..20]), 200),
        (get("http://a/x", &many), 431),
        (get(&uri(500), &[]), 200),
        (get(&uri(501), &[]), 414),
        (get("http://a/x", &[("upgrade-insecure-requests", "1")]), 200),
    ] {
        let shown = format!("{request:?}");
        let response = client.send_request(request).await.unwrap();
        assert_eq!(response.status().as_u16(), want, "{shown}");
        if want >= 400 {
            assert!(text(response).await.starts_with(r#"{"error":{"message":"#));
        }
    }
    assert_eq!(server.log.lock().unwrap().len(), 5);
    assert_eq!(server.stats.refused(Refusal::HostMismatch), 1);
    assert_eq!(server.stats.accepted(), 1);
}

#[tokio::test]
async fn header_list_size_is_held_by_h2() {
    let server = Server::start(&limits(), &deadlines());
    let mut client = client(&server, 65_535).await;
    let big = "x".repeat(limits().head_bytes);
    let answer = client.send_request(request(Method::GET, "http://a/x", &[("x-big", &big)], "")).await;
    assert!(answer.is_err() || answer.unwrap().status() == StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    assert_eq!(server.log.lock().unwrap().len(), 0);
}

#[tokio::test]
async fn streams_run_side_by_side_up_to_the_limit() {
    let (gate, running, most) =
        (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (open, now, peak) = (Arc::clone(&gate), Arc::clone(&running), Arc::clone(&most));
    let listener = Listener::bind(local(), None, &Limits { h2_streams: 4, ..limits() }, &deadlines()).unwrap();
    let server = Server::with(listener, Log::default(), move |request, _| {
        let (gate, now, peak) = (Arc::clone(&open), Arc::clone(&now), Arc::clone(&peak));
        async move {
            peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            gate.acquire().await.unwrap().forget();
            now.fetch_sub(1, Ordering::SeqCst);
            ok(request).unwrap()
        }
    });
    let mut client = client(&server, 65_535).await;
    assert_eq!(client.send_request(request(Method::GET, "http://u@a/warm-up", &[], "")).await.unwrap().status(), 400);
    for (count, at_once) in [(3, 3), (4, 4), (5, 4)] {
        most.store(0, Ordering::SeqCst);
        let mut answers = JoinSet::new();
        for _ in 0..count {
            answers.spawn(client.send_request(request(Method::GET, "http://a/x", &[], "")));
        }
        eventually("the limit is reached", || running.load(Ordering::SeqCst) == at_once).await;
        tokio::time::sleep(Duration::from_millis(30)).await;
        gate.add_permits(count);
        for answer in answers.join_all().await {
            assert_eq!(answer.unwrap().status(), 200);
        }
        assert_eq!(most.load(Ordering::SeqCst), at_once);
    }
}

#[tokio::test]
async fn a_stream_whose_client_opens_no_window_is_reset_and_its_neighbours_go_on() {
    let listener =
        Listener::bind(local(), None, &limits(), &Deadlines { write_stall: Duration::from_millis(200), ..deadlines() });
    let held = Arc::new(());
    let watch = Arc::clone(&held);
    let server = Server::with(listener.unwrap(), Log::default(), move |request, _| {
        let held = Arc::clone(&held);
        async move {
            let big = request.uri().path() == "/big";
            let bytes = if big { Bytes::from_owner(Big(held, vec![b'x'; 400_000])) } else { Bytes::from("small") };
            Response::new(Full::from(bytes))
        }
    });
    let mut client = client(&server, 1_000).await;
    // The answer's head is read, its body is not: the window stays shut.
    let stalled = client.send_request(request(Method::GET, "http://a/big", &[], "")).await.unwrap();
    let neighbour = client.send_request(request(Method::GET, "http://a/small", &[], "")).await.unwrap();
    assert_eq!(text(neighbour).await, "small");
    eventually("the big answer is freed", || Arc::strong_count(&watch) == 2).await;
    assert!(stalled.into_body().collect().await.is_err());
    let later = client.send_request(request(Method::GET, "http://a/small", &[], "")).await.unwrap();
    assert_eq!(text(later).await, "small");
}

/// A buffer that tells when it is freed.
struct Big(#[expect(dead_code, reason = "held for its count")] Arc<()>, Vec<u8>);

impl AsRef<[u8]> for Big {
    fn as_ref(&self) -> &[u8] {
        &self.1
    }
}

#[tokio::test]
async fn a_panic_is_a_500_of_its_stream_only() {
    let listener = Listener::bind(local(), None, &limits(), &deadlines()).unwrap();
    let server = Server::with(listener, Log::default(), |request, _| async move {
        assert!(request.uri().path() != "/boom", "a panic");
        ok(request).unwrap()
    });
    let mut client = client(&server, 65_535).await;
    let answer = client.send_request(request(Method::GET, "http://a/boom", &[], "")).await.unwrap();
    assert_eq!(answer.status(), 500);
    let answer = client.send_request(request(Method::GET, "http://a/fine", &[], "")).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!((server.stats.panics(), server.stats.accepted()), (1, 1));
}

#[tokio::test]
async fn a_length_that_disagrees_with_the_data_fails_its_stream() {
    let server = Server::start(&limits(), &deadlines());
    let mut client = client(&server, 65_535).await;
    for length in ["1", "9"] {
        let answer =
            client.send_request(request(Method::POST, "http://a/x", &[("content-length", length)], "hi")).await;
        assert!(answer.is_err() || answer.unwrap().status() == 400, "{length}");
    }
    assert!(server.log.lock().unwrap().iter().all(|seen| seen.body.is_err()));
    let over = client.send_request(request(Method::POST, "http://a/x", &[], &"x".repeat(1001))).await.unwrap();
    assert_eq!(over.status(), 400);
    assert_eq!(server.log.lock().unwrap().last().unwrap().body, Err("body_too_large"));
}

/// One HTTP/2 frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Preface, empty settings, and these frames.
fn raw(frames: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let start = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(4, 0, 0, &[])];
    start.into_iter().chain(frames).flatten().collect()
}

/// `GET /` over http, as indexes into HPACK's static table; without authority.
const GET: &[u8] = &[0x82, 0x86, 0x84];
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const END_STREAM_AND_HEADERS: u8 = 5;

#[tokio::test]
async fn a_request_without_authority_is_refused_and_one_with_host_is_not() {
    let quick = Deadlines { keep_alive: Duration::from_millis(300), head: Duration::from_millis(300), ..deadlines() };
    let server = Server::start(&limits(), &quick);
    let with_host = [GET, &[0x0f, 0x17, 1, b'a']].concat();
    let payload =
        raw([frame(HEADERS, END_STREAM_AND_HEADERS, 1, GET), frame(HEADERS, END_STREAM_AND_HEADERS, 3, &with_host)]);
    let (_, seen) = server.exchange(&payload).await;
    assert_eq!(seen.len(), 1);
    assert_eq!(server.stats.refused(Refusal::MissingHost), 1);
}

#[tokio::test]
async fn a_client_that_opens_and_resets_streams_in_haste_loses_its_connection() {
    let server = Server::start(&limits(), &deadlines());
    let hasty = (0..5_000).flat_map(|at| {
        let stream = 2 * at + 1;
        [frame(HEADERS, END_STREAM_AND_HEADERS, stream, GET), frame(RESET, 0, stream, &[0, 0, 0, 8])]
    });
    let payload = raw(hasty);
    let mut socket = server.connect().await;
    let (mut reader, mut writer) = tokio::io::split(&mut socket);
    use tokio::io::AsyncWriteExt;
    let (_, _) = tokio::join!(super::read_all(&mut reader), writer.write_all(&payload));
    eventually("the connection is gone", || server.stats.open() == 0).await;
    assert!(server.stats.refused(Refusal::MissingHost) < 1_000);
}
