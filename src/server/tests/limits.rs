//! Sizes and counts, each just below, at and just above its limit.

use super::{Server, deadlines, eventually, limits, local, ok, read_until, statuses};
use crate::config::Limits;
use crate::server::{Listener, Refusal};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const START: &str = "GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n";

async fn status(server: &Server, payload: &str) -> u16 {
    let (answer, seen) = server.exchange(payload.as_bytes()).await;
    let statuses = statuses(&answer);
    assert_eq!(statuses.len(), 1, "{answer:?}");
    assert_eq!(seen.len(), usize::from(statuses[0] == 200), "{answer:?}");
    statuses[0]
}

#[tokio::test]
async fn head_bytes_are_counted_with_the_final_line_end() {
    let server = Server::start(&limits(), &deadlines());
    let head = |len: usize| format!("{START}X: {}\r\n\r\n", "a".repeat(len - START.len() - "X: \r\n\r\n".len()));
    let limit = limits().head_bytes;
    assert_eq!(head(limit).len(), limit);
    for (len, want) in [(limit - 1, 200), (limit, 200), (limit + 1, 431), (limit * 40, 431)] {
        assert_eq!(status(&server, &head(len)).await, want, "{len}");
    }
    assert_eq!(server.stats.refused(Refusal::HeadTooLarge), 2);
}

#[tokio::test]
async fn a_head_without_line_ends_is_refused_as_soon_as_it_is_too_long() {
    let server = Server::start(&limits(), &deadlines());
    let endless_field = format!("{START}X: {}", "a".repeat(limits().head_bytes));
    assert_eq!(status(&server, &endless_field).await, 431);
    assert_eq!(status(&server, &format!("GET /{}", "a".repeat(5000))).await, 414);
}

#[tokio::test]
async fn headers_are_counted() {
    let server = Server::start(&limits(), &deadlines());
    for (count, want) in [(19, 200), (20, 200), (21, 431)] {
        let fields: String = (2..count).map(|at| format!("X-{at}: 1\r\n")).collect();
        assert_eq!(status(&server, &format!("{START}{fields}\r\n")).await, want, "{count}");
    }
}

#[tokio::test]
async fn more_headers_than_hyper_takes_by_default_pass_when_configured() {
    let server = Server::start(&Limits { headers: 150, ..limits() }, &deadlines());
    for (count, want) in [(149, 200), (150, 200), (151, 431)] {
        let fields: String = (2..count).map(|at| format!("X{at}:\r\n")).collect();
        assert_eq!(status(&server, &format!("{START}{fields}\r\n")).await, want, "{count}");
    }
}

#[tokio::test]
async fn the_target_is_measured_in_bytes() {
    let server = Server::start(&limits(), &deadlines());
    for (len, want) in [(499, 200), (500, 200), (501, 414)] {
        let target = format!("/{}", "a".repeat(len - 1));
        assert_eq!(status(&server, &(START.replace("/x", &target) + "\r\n")).await, want, "{len}");
    }
}

#[tokio::test]
async fn body_bytes_are_capped_with_and_without_a_declared_length() {
    let server = Server::start(&limits(), &deadlines());
    for (len, fits) in [(999, true), (1000, true), (1001, false)] {
        let body = "b".repeat(len);
        let sized = format!("POST /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {len}\r\n\r\n{body}");
        let chunked = format!(
            "POST /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{}\r\n{:x}\r\n{}\r\n0\r\n\r\n",
            len - 500,
            "b".repeat(len - 500),
            500,
            "b".repeat(500)
        );
        for payload in [sized, chunked] {
            let (answer, seen) = server.exchange(payload.as_bytes()).await;
            assert_eq!(statuses(&answer), [if fits { 200 } else { 400 }], "{len}");
            assert_eq!(seen[0].body, if fits { Ok(body.clone()) } else { Err("body_too_large") });
        }
    }
}

#[tokio::test]
async fn a_declared_length_over_the_cap_fails_before_the_body_is_asked_for() {
    let server = Server::start(&limits(), &deadlines());
    let head = "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\nExpect: 100-continue\r\n\r\n";
    let (answer, seen) = server.exchange(head.as_bytes()).await;
    assert_eq!(statuses(&answer), [400]);
    assert_eq!(seen[0].body, Err("body_too_large"));
    let (answer, _) = server.exchange(format!("{}x", head.replace("1001", "1\r\nConnection: close")).as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 100 Continue"), "{answer}");
}

/// Opens connections one after the other; how many of them are served while all stay open.
async fn served(server: &Server, count: usize) -> usize {
    let mut open = Vec::new();
    let mut served = 0;
    for _ in 0..count {
        let mut socket = server.connect().await;
        let _ = socket.write_all(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let mut first = [0; 8];
        served += usize::from(socket.read_exact(&mut first).await.is_ok());
        open.push(socket);
    }
    served
}

#[tokio::test]
async fn connections_are_capped_in_all_and_the_seats_come_back() {
    let server = Server::start(&Limits { connections: 3, ..limits() }, &deadlines());
    for _ in 0..2 {
        for (count, want) in [(2, 2), (3, 3), (4, 3)] {
            assert_eq!(served(&server, count).await, want);
            eventually("all seats are free", || server.stats.open() == 0).await;
        }
    }
    assert_eq!((server.stats.refused_total(), server.stats.refused_per_ip()), (2, 0));
    assert_eq!(server.stats.accepted(), 16);
}

#[tokio::test]
async fn connections_are_capped_per_address() {
    let server = Server::start(&Limits { connections_per_ip: 3, ..limits() }, &deadlines());
    for (count, want) in [(2, 2), (3, 3), (4, 3)] {
        assert_eq!(served(&server, count).await, want);
        eventually("all seats are free", || server.stats.open() == 0).await;
    }
    assert_eq!((server.stats.refused_total(), server.stats.refused_per_ip()), (0, 1));
}

#[tokio::test]
async fn an_address_in_use_is_named_with_what_to_do() {
    let listener = Listener::bind(local(), None, &limits(), &deadlines()).unwrap();
    let address = listener.local_addr();
    let error = Listener::bind(address, None, &limits(), &deadlines()).err().unwrap().to_string();
    assert!(error.contains(&address.to_string()) && error.contains("choose another address"), "{error}");
    let foreign = "192.0.2.1:0".parse().unwrap();
    let error = Listener::bind(foreign, None, &limits(), &deadlines()).err().unwrap().to_string();
    assert!(error.contains("192.0.2.1:0 is not an address of this machine"), "{error}");
}

#[tokio::test]
async fn error_bodies_are_openais_shape_unless_the_caller_gives_another() {
    let server = Server::start(&limits(), &deadlines());
    let (answer, _) = server.exchange(b"GET / HTTP/1.1\r\n\r\n").await;
    let body: serde_json::Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    let want = serde_json::json!({"error": {
        "message": "The Host header is missing.", "type": "invalid_request_error", "param": null, "code": "missing_host"
    }});
    assert_eq!(body, want);

    let listener = Listener::bind(local(), None, &limits(), &deadlines()).unwrap();
    let listener =
        listener.with_error_body(|status, code, _| format!("{} {code}", status.as_u16()).into(), "text/plain");
    let server = Server::with(listener, super::Log::default(), |request, _| async { ok(request).unwrap() });
    let mut socket = server.connect().await;
    socket.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    read_until(&mut socket, "\r\n\r\n400 missing_host").await;
}
