//! A panic is the end of one request, not of the listener.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame};
use http_body_util::Full;
use tokio::io::AsyncWriteExt;

use super::{Log, Server, deadlines, eventually, limits, local, ok, read_all, statuses};
use crate::server::{Listener, Shutdown};

#[tokio::test]
async fn a_panic_is_a_500_that_closes_its_connection_and_nothing_else() {
    let listener = Listener::bind(local(), None, &limits(), &deadlines()).unwrap();
    let server = Server::with(listener, Log::default(), |request, _| {
        assert!(request.uri().path() != "/at-once", "a panic before the future");
        async move {
            assert!(request.uri().path() != "/boom", "a panic inside the future");
            ok(request).unwrap()
        }
    });
    let mut bystander = server.connect().await;
    let good = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    bystander.write_all(&good[..20]).await.unwrap();
    for path in ["/at-once", "/boom"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").repeat(2);
        let (answer, _) = server.exchange(request.as_bytes()).await;
        assert_eq!(statuses(&answer), [500], "{answer}");
        assert!(answer.contains(r#""code":"internal_error""#), "{answer}");
        assert!(!answer.contains("a panic"), "{answer}");
    }
    assert_eq!(server.stats.panics(), 2);
    bystander.write_all(&good[20..]).await.unwrap();
    assert_eq!(statuses(&read_all(&mut bystander).await), [200]);
}

struct Boom;

impl Body for Boom {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        panic!("a panic in the body")
    }
}

#[tokio::test]
async fn a_panic_in_the_body_of_an_answer_breaks_it_off_visibly() {
    let listener = Listener::bind(local(), None, &limits(), &deadlines()).unwrap();
    let (address, stats) = (listener.local_addr(), listener.stats());
    tokio::spawn(listener.serve(|_, _| async { Response::new(Boom) }, Shutdown::new()));
    for _ in 0..2 {
        let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
        socket.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let answer = read_all(&mut socket).await;
        assert!(!answer.contains("0\r\n\r\n"), "it must not look complete: {answer}");
    }
    eventually("both are counted", || stats.panics() == 2 && stats.open() == 0).await;
}

#[tokio::test]
async fn what_the_service_says_about_its_length_reaches_the_client() {
    let listener = Listener::bind(local(), None, &limits(), &deadlines()).unwrap();
    let server = Server::with(listener, Log::default(), |_, _| async { Response::new(Full::from("four")) });
    let (answer, _) = server.exchange(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(answer.contains("content-length: 4\r\n") && answer.ends_with("four"), "{answer}");
    let (answer, _) = server.exchange(b"HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(answer.contains("content-length: 4\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
}
