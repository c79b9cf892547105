//! Clients that are slow at each stage are let go, and those that wait for us are not.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Log, Server, deadlines, eventually, limits, local, read_all, read_until, statuses};
use crate::config::Deadlines;
use crate::server::{Listener, Refusal};

const SHORT: Duration = Duration::from_millis(200);
const REQUEST: &[u8] = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test]
async fn a_connection_that_sends_nothing_is_closed_without_a_word() {
    let server = Server::start(&limits(), &Deadlines { head: SHORT, ..deadlines() });
    let (answer, _) = server.exchange(b"").await;
    assert_eq!(answer, "");
    eventually("the connection is gone", || server.stats.open() == 0).await;
}

#[tokio::test]
async fn half_a_head_is_answered_with_408() {
    let server = Server::start(&limits(), &Deadlines { head: SHORT, ..deadlines() });
    for half in ["G", "GET /x HTTP/1.1\r\n", "GET /x HTTP/1.1\r\nHost: a\r\nX-A"] {
        let (answer, seen) = server.exchange(half.as_bytes()).await;
        assert_eq!((statuses(&answer), seen.len()), (vec![408], 0), "{half:?}");
    }
    assert_eq!(server.stats.refused(Refusal::HeadTimeout), 3);
}

#[tokio::test]
async fn a_head_that_trickles_in_has_no_more_time_than_any_other() {
    let server = Server::start(&limits(), &Deadlines { head: SHORT, ..deadlines() });
    let mut socket = server.connect().await;
    let (mut reader, mut writer) = socket.split();
    let trickle = async {
        writer.write_all(b"GET /").await.unwrap();
        while writer.write_all(b"a").await.is_ok() {
            tokio::time::sleep(SHORT / 10).await;
        }
    };
    let answer = tokio::select! {
        answer = read_until(&mut reader, "\r\n\r\n") => answer,
        () = trickle => panic!("the socket failed"),
    };
    assert_eq!(statuses(&answer), [408]);
}

#[tokio::test]
async fn a_later_head_is_held_to_the_head_deadline_too() {
    let server = Server::start(&limits(), &Deadlines { head: SHORT, ..deadlines() });
    let mut socket = server.connect().await;
    socket.write_all(REQUEST).await.unwrap();
    read_until(&mut socket, "[/x]").await;
    socket.write_all(b"GET /").await.unwrap();
    assert_eq!(statuses(&read_all(&mut socket).await), [408]);
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_the_keep_alive_deadline_and_not_the_heads() {
    let server = Server::start(&limits(), &Deadlines { head: SHORT, keep_alive: SHORT * 5, ..deadlines() });
    let mut socket = server.connect().await;
    for _ in 0..3 {
        socket.write_all(REQUEST).await.unwrap();
        read_until(&mut socket, "[/x]").await;
        tokio::time::sleep(SHORT * 2).await;
    }
    assert_eq!(read_all(&mut socket).await, "");
}

#[tokio::test]
async fn half_an_http2_preface_is_let_go_at_the_head_deadline() {
    let server = Server::start(&limits(), &Deadlines { head: SHORT, ..deadlines() });
    let (answer, seen) = server.exchange(b"PRI * HTTP/2.0\r\n\r\nSM").await;
    assert_eq!((answer.as_str(), seen.len()), ("", 0));
    let (answer, seen) = server.exchange(b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n").await;
    assert_eq!((statuses(&answer), seen.len()), (vec![505], 0));
}

#[tokio::test]
async fn an_http2_connection_without_a_request_is_let_go() {
    let server = Server::start(&limits(), &Deadlines { head: SHORT, keep_alive: SHORT, ..deadlines() });
    server.exchange(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    server.exchange(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    eventually("both are gone", || server.stats.open() == 0).await;
}

#[tokio::test]
async fn a_body_that_stops_or_never_ends_fails_with_its_own_reason() {
    let head = "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc";
    let server = Server::start(&limits(), &Deadlines { body_idle: SHORT, ..deadlines() });
    let (answer, seen) = server.exchange(head.as_bytes()).await;
    assert_eq!((statuses(&answer), seen[0].body.clone()), (vec![400], Err("body_idle")));

    let slow = Deadlines { body_idle: SHORT * 5, body: SHORT * 6, ..deadlines() };
    let server = Server::start(&limits(), &slow);
    let mut socket = server.connect().await;
    let peer = socket.local_addr().unwrap();
    socket.write_all(head.replace("10", "900").as_bytes()).await.unwrap();
    let (mut reader, mut writer) = socket.split();
    let trickle = async {
        while writer.write_all(b"a").await.is_ok() {
            tokio::time::sleep(SHORT / 2).await;
        }
    };
    tokio::select! {
        answer = read_until(&mut reader, "\r\n\r\n") => assert_eq!(statuses(&answer), [400]),
        () = trickle => panic!("the socket failed"),
    }
    assert_eq!(server.seen(peer)[0].body, Err("body_timeout"));
}

#[tokio::test]
async fn a_request_may_take_longer_than_all_deadlines_of_its_client() {
    let listener = Listener::bind(
        local(),
        None,
        &limits(),
        &Deadlines { head: SHORT, keep_alive: SHORT, write_stall: SHORT, body_idle: SHORT, body: SHORT, ..deadlines() },
    );
    let server = Server::with(listener.unwrap(), Log::default(), |request, _| async move {
        drop(request);
        tokio::time::sleep(SHORT * 5).await;
        Response::new(Full::from("slow but fine"))
    });
    let mut socket = server.connect().await;
    socket.write_all(REQUEST).await.unwrap();
    let answer = read_all(&mut socket).await;
    assert!(answer.ends_with("slow but fine"), "{answer}");
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_and_one_that_reads_slowly_is_not() {
    const BYTES: usize = 8 * 1024 * 1024;
    let listener = Listener::bind(local(), None, &limits(), &Deadlines { write_stall: SHORT * 4, ..deadlines() });
    let big = Bytes::from(vec![b'x'; BYTES]);
    let server = Server::with(listener.unwrap(), Log::default(), move |_, _| {
        let body = big.clone();
        async move { Response::new(Full::from(body)) }
    });
    let mut deaf = server.connect().await;
    deaf.write_all(REQUEST).await.unwrap();
    let mut slow = server.connect().await;
    slow.write_all(b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut got = 0;
    let mut part = vec![0; 512 * 1024];
    loop {
        let len = slow.read(&mut part).await.unwrap();
        if len == 0 {
            break;
        }
        got += len;
        tokio::time::sleep(SHORT / 4).await;
    }
    assert!(got > BYTES, "only {got}");
    eventually("the deaf client is gone", || server.stats.open() == 0).await;
    assert!(read_all(&mut deaf).await.len() < BYTES);
}

#[tokio::test]
async fn a_client_that_goes_away_takes_its_request_with_it() {
    let gone = Arc::new(());
    let watch = Arc::clone(&gone);
    let listener = Listener::bind(local(), None, &limits(), &deadlines()).unwrap();
    let server = Server::with(listener, Log::default(), move |_, _| {
        let held = Arc::clone(&gone);
        async move {
            let _held = held;
            std::future::pending().await
        }
    });
    let mut socket = server.connect().await;
    socket.write_all(REQUEST).await.unwrap();
    eventually("the request runs", || Arc::strong_count(&watch) == 3).await;
    drop(socket);
    eventually("the request is given up", || Arc::strong_count(&watch) == 2).await;
}
