//! Draining: nothing new, what is open finishes or is cut at the deadline.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{Empty, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::{Log, Server, deadlines, eventually, limits, local, read_all, read_until, statuses};
use crate::server::{DrainReport, Listener, Shutdown};

const LONG: Duration = Duration::from_secs(600);
const REQUEST: &[u8] = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n";

/// Answers when told to; counts the requests that wait.
fn waiting_server() -> (Server, Arc<Notify>, Arc<()>) {
    let (go, running) = (Arc::new(Notify::new()), Arc::new(()));
    let (until, count) = (Arc::clone(&go), Arc::clone(&running));
    let listener = Listener::bind(local(), None, &limits(), &deadlines()).unwrap();
    let server = Server::with(listener, Log::default(), move |_, _| {
        let (until, running) = (Arc::clone(&until), Arc::clone(&count));
        async move {
            until.notified().await;
            drop(running);
            Response::new(Full::from("done"))
        }
    });
    (server, go, running)
}

#[tokio::test]
async fn idle_connections_close_at_once_and_new_ones_are_not_taken() {
    let server = Server::start(&limits(), &deadlines());
    let mut fresh = server.connect().await;
    let mut used = server.connect().await;
    used.write_all(REQUEST).await.unwrap();
    read_until(&mut used, "[/x]").await;
    eventually("both are open", || server.stats.open() == 2).await;
    server.shutdown.trigger(LONG);
    assert_eq!(read_all(&mut used).await, "");
    assert_eq!(read_all(&mut fresh).await, "");
    let address = server.address;
    assert_eq!(server.drained().await, DrainReport { finished: 2, cut: 0 });
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn an_open_request_finishes_and_its_connection_closes() {
    let (server, go, running) = waiting_server();
    let mut socket = server.connect().await;
    socket.write_all(&REQUEST.repeat(2)).await.unwrap();
    eventually("it runs", || Arc::strong_count(&running) == 3).await;
    server.shutdown.trigger(LONG);
    assert!(server.shutdown.is_draining());
    go.notify_one();
    let answer = read_all(&mut socket).await;
    assert_eq!(statuses(&answer), [200]);
    assert!(answer.contains("connection: close") && answer.ends_with("done"), "{answer}");
    assert_eq!(server.drained().await, DrainReport { finished: 1, cut: 0 });
}

#[tokio::test]
async fn a_request_that_outlives_the_deadline_is_dropped() {
    let (server, _go, running) = waiting_server();
    let mut socket = server.connect().await;
    socket.write_all(REQUEST).await.unwrap();
    eventually("it runs", || Arc::strong_count(&running) == 3).await;
    server.shutdown.trigger(Duration::from_millis(50));
    assert_eq!(read_all(&mut socket).await, "");
    assert_eq!(server.drained().await, DrainReport { finished: 0, cut: 1 });
    assert_eq!(Arc::strong_count(&running), 1, "the service and its request are gone");
}

#[tokio::test]
async fn a_request_hears_of_the_deadline_and_can_still_answer() {
    let listener = Listener::bind(local(), None, &limits(), &deadlines()).unwrap();
    let (shutdown, running) = (Shutdown::new(), Arc::new(()));
    let address = listener.local_addr();
    let (heard, count) = (shutdown.clone(), Arc::clone(&running));
    let service = move |_, _| {
        let (passed, running) = (heard.deadline_passed(), Arc::clone(&count));
        async move {
            passed.await;
            drop(running);
            Response::new(Full::<Bytes>::from("server_shutdown"))
        }
    };
    let done = tokio::spawn(listener.serve(service, shutdown.clone()));
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(REQUEST).await.unwrap();
    eventually("it runs", || Arc::strong_count(&running) == 3).await;
    shutdown.trigger(Duration::from_millis(50));
    assert!(read_all(&mut socket).await.ends_with("server_shutdown"));
    assert_eq!(done.await.unwrap(), DrainReport { finished: 1, cut: 0 });
}

#[tokio::test]
async fn http2_streams_finish_and_new_ones_go_elsewhere() {
    let (server, go, running) = waiting_server();
    let socket = server.connect().await;
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = || Request::get("http://a/x").body(Empty::<Bytes>::new()).unwrap();
    let first = tokio::spawn(client.send_request(request()));
    eventually("it runs", || Arc::strong_count(&running) == 3).await;
    server.shutdown.trigger(LONG);
    go.notify_one();
    assert_eq!(first.await.unwrap().unwrap().status(), 200);
    connection.await.unwrap().unwrap();
    assert!(client.send_request(request()).await.is_err());
    assert_eq!(server.drained().await, DrainReport { finished: 1, cut: 0 });
}

#[tokio::test]
async fn http2_requests_are_dropped_at_the_deadline() {
    let (server, _go, running) = waiting_server();
    let socket = server.connect().await;
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await.unwrap();
    tokio::spawn(connection);
    let pending = tokio::spawn(client.send_request(Request::get("http://a/x").body(Empty::<Bytes>::new()).unwrap()));
    eventually("it runs", || Arc::strong_count(&running) == 3).await;
    server.shutdown.trigger(Duration::from_millis(50));
    assert!(pending.await.unwrap().is_err());
    assert_eq!(server.drained().await, DrainReport { finished: 0, cut: 1 });
    eventually("the stream's task has ended", || Arc::strong_count(&running) == 1).await;
}

#[tokio::test]
async fn an_http2_client_that_ignores_the_goodbye_does_not_hold_up_the_drain() {
    let server = Server::start(&limits(), &deadlines());
    let mut socket = server.connect().await;
    socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    eventually("it is open", || server.stats.open() == 1).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    server.shutdown.trigger(LONG);
    assert_eq!(server.drained().await, DrainReport { finished: 1, cut: 0 });
}
