//! Request bodies that nobody reads, and requests behind them.

use tokio::io::AsyncWriteExt;

use super::{Log, Server, deadlines, limits, local, note, ok, read_all, read_until, statuses};
use crate::config::Limits;
use crate::server::Listener;

/// Answers `/skip` without a look at its body, and anything else as usual.
fn server(limits: &Limits) -> Server {
    let log = Log::default();
    let noted = log.clone();
    let listener = Listener::bind(local(), None, limits, &deadlines()).unwrap();
    Server::with(listener, log, move |request, info| {
        let log = noted.clone();
        async move { if request.uri().path() == "/skip" { ok(request).unwrap() } else { note(log, request, info).await } }
    })
}

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn what_follows_an_unread_body_is_either_framed_right_or_not_read_at_all() {
    let server = server(&Limits { body_bytes: 1 << 20, ..limits() });
    // The body itself looks like a request. Its size decides whether hyper can skip it in one go.
    for size in [SMUGGLED.len(), 5_000, 100_000, 900_000] {
        let body = SMUGGLED.repeat(1 + size / SMUGGLED.len());
        let chunk = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
        let next = "GET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        for payload in [
            format!("POST /skip HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}{next}", body.len()),
            format!("POST /skip HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}{next}"),
        ] {
            let mut socket = server.connect().await;
            let peer = socket.local_addr().unwrap();
            let (mut reader, mut writer) = socket.split();
            let (answer, _) = tokio::join!(read_all(&mut reader), writer.write_all(payload.as_bytes()));
            let seen = server.seen(peer);
            let targets: Vec<_> = seen.iter().map(|seen| seen.target.as_str()).collect();
            assert!(statuses(&answer).iter().all(|status| *status == 200), "{answer}");
            assert!(targets.is_empty() || targets == ["/next"], "{targets:?}");
            assert_eq!(statuses(&answer).len(), 1 + targets.len());
        }
    }
}

#[tokio::test]
async fn the_answer_to_an_early_reply_arrives_although_the_client_is_still_sending() {
    let server = server(&limits());
    for _ in 0..20 {
        let mut socket = server.connect().await;
        let head = "POST /skip HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\n";
        socket.write_all(head.as_bytes()).await.unwrap();
        let (mut reader, mut writer) = socket.split();
        let sent = async { writer.write_all(&[b'x'; 200_000]).await };
        let (answer, _) = tokio::join!(read_until(&mut reader, "\r\n\r\nok"), sent);
        assert_eq!(statuses(&answer), [200]);
    }
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_body_says_that_the_connection_closes() {
    let server = server(&Limits { body_bytes: 1000, ..limits() });
    let read = "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n";
    // Not looked at, larger than the limit as it says itself, and larger as it turns out.
    for head in [
        "POST /skip HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\n",
        "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\n",
        "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n",
    ] {
        let mut socket = server.connect().await;
        let (mut reader, mut writer) = socket.split();
        writer.write_all(format!("{read}{}", "x".repeat(1000)).as_bytes()).await.unwrap();
        let open = read_until(&mut reader, "\r\n\r\n").await.to_ascii_lowercase();
        assert!(!open.contains("connection: close"), "{open}");
        writer.write_all(format!("{head}{}", "x".repeat(1001)).as_bytes()).await.unwrap();
        let closing = read_all(&mut reader).await.to_ascii_lowercase();
        assert!(closing.contains("connection: close"), "{head}{closing}");
    }
}

#[tokio::test]
async fn a_body_in_many_pieces_is_put_together() {
    let server = server(&Limits { body_bytes: 1 << 20, ..limits() });
    let body: String = (0..40_000).map(|at| format!("{at},")).collect();
    let payload =
        format!("POST /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let (_, seen) = server.exchange(payload.as_bytes()).await;
    assert_eq!(seen[0].body.as_ref(), Ok(&body));
}

#[tokio::test]
async fn many_requests_on_one_connection_are_answered_in_order() {
    let server = server(&limits());
    let payload: String = (0..200)
        .map(|at| format!("POST /{at} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n{at:03}"))
        .chain(["GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".to_owned()])
        .collect();
    let (answer, seen) = server.exchange(payload.as_bytes()).await;
    assert_eq!(seen.len(), 201);
    for (at, seen) in seen.iter().take(200).enumerate() {
        assert_eq!((seen.target.clone(), seen.body.clone()), (format!("/{at}"), Ok(format!("{at:03}"))));
        assert!(answer.contains(&format!("[/{at}]")));
    }
}
