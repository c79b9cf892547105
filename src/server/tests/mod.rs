//! The front door from outside: raw bytes in, what the service saw and what came back out.

mod bodies;
mod corpus;
mod deadlines;
mod drain;
mod faults;
mod http2;
mod limits;
mod secure;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::stats::Stats;
use super::{ConnInfo, DrainReport, Listener, RequestBody, Shutdown};
use crate::config::{Deadlines, Limits};

/// Far longer than any test needs; only there so that a fault fails instead of hanging.
const PATIENCE: Duration = Duration::from_secs(20);

fn limits() -> Limits {
    Limits {
        connections: 2000,
        connections_per_ip: 2000,
        h2_streams: 10,
        head_bytes: 2000,
        headers: 20,
        uri_bytes: 500,
        body_bytes: 1000,
        json_depth: 8,
        json_keys: 8,
        json_array: 8,
        json_string: 8,
        messages: 8,
        tools: 8,
        choices: 8,
        stop: 8,
        response_bytes: 8,
        sse_line_bytes: 8,
        sse_event_bytes: 8,
    }
}

fn deadlines() -> Deadlines {
    Deadlines {
        tls: Duration::from_secs(10),
        head: Duration::from_secs(10),
        body_idle: Duration::from_secs(10),
        body: Duration::from_secs(10),
        keep_alive: Duration::from_secs(10),
        write_stall: Duration::from_secs(10),
    }
}

/// A request as the service saw it: who sent it, method, target, body or why there was none.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    peer: SocketAddr,
    method: String,
    target: String,
    body: Result<String, &'static str>,
}

type Log = Arc<Mutex<Vec<Seen>>>;

struct Server {
    address: SocketAddr,
    stats: Arc<Stats>,
    shutdown: Shutdown,
    done: JoinHandle<DrainReport>,
    log: Log,
}

impl Server {
    /// Reads every body, notes every request and answers 200, or 400 when the body fails.
    fn start(limits: &Limits, deadlines: &Deadlines) -> Self {
        Self::on(Listener::bind(local(), None, limits, deadlines).unwrap())
    }

    fn on(listener: Listener) -> Self {
        let log = Log::default();
        let noted = Arc::clone(&log);
        Self::with(listener, log, move |request, info| note(Arc::clone(&noted), request, info))
    }

    fn with<S, F>(listener: Listener, log: Log, service: S) -> Self
    where
        S: Fn(Request<RequestBody>, Arc<ConnInfo>) -> F + Send + Sync + 'static,
        F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
    {
        let (address, stats, shutdown) = (listener.local_addr(), listener.stats(), Shutdown::new());
        let done = tokio::spawn(listener.serve(service, shutdown.clone()));
        Self { address, stats, shutdown, done, log }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends the bytes on a new connection and reads until the server closes. Also what the service saw from it.
    async fn exchange(&self, bytes: &[u8]) -> (String, Vec<Seen>) {
        let mut socket = self.connect().await;
        let peer = socket.local_addr().unwrap();
        socket.write_all(bytes).await.unwrap();
        let answer = read_all(&mut socket).await;
        (answer, self.seen(peer))
    }

    fn seen(&self, peer: SocketAddr) -> Vec<Seen> {
        self.log.lock().unwrap().iter().filter(|seen| seen.peer == peer).cloned().collect()
    }

    async fn drained(self) -> DrainReport {
        timeout(PATIENCE, self.done).await.unwrap().unwrap()
    }
}

async fn note(log: Log, request: Request<RequestBody>, info: Arc<ConnInfo>) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let body = body.collect(usize::MAX).await.map_err(super::BodyError::as_str);
    let failed = body.is_err();
    log.lock().unwrap().push(Seen {
        peer: info.peer,
        method: parts.method.to_string(),
        target: parts.uri.to_string(),
        body: body.map(|body| String::from_utf8_lossy(&body).into_owned()),
    });
    let mut response = Response::new(Full::from(format!("[{}]", parts.uri.path())));
    if failed {
        *response.status_mut() = StatusCode::BAD_REQUEST;
    }
    response
}

fn local() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// Everything until the end, or until a reset; so far as it came.
async fn read_all(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut all = Vec::new();
    let mut part = [0; 4096];
    loop {
        match timeout(PATIENCE, stream.read(&mut part)).await {
            Ok(Ok(len @ 1..)) => all.extend_from_slice(&part[..len]),
            Ok(_) => return String::from_utf8_lossy(&all).into_owned(),
            Err(_) => panic!("the server should close after {:?}", String::from_utf8_lossy(&all)),
        }
    }
}

/// Reads until `end` has come.
async fn read_until(stream: &mut (impl AsyncRead + Unpin), end: &str) -> String {
    let mut all = String::new();
    let mut part = [0; 4096];
    while !all.contains(end) {
        let len = timeout(PATIENCE, stream.read(&mut part)).await.expect("the server should answer").unwrap();
        assert!(len > 0, "closed before {end:?}: {all:?}");
        all.push_str(&String::from_utf8_lossy(&part[..len]));
    }
    all
}

/// Waits until the condition holds.
async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// The status of each answer, in order.
fn statuses(answers: &str) -> Vec<u16> {
    let status = |(at, _)| {
        let line = answers[at..].lines().next()?;
        line.get("HTTP/1.1 ".len()..)?.get(..3)?.parse().ok()
    };
    answers.match_indices("HTTP/1.").filter_map(status).collect()
}

fn ok(request: Request<RequestBody>) -> Result<Response<Full<Bytes>>, Infallible> {
    drop(request);
    Ok(Response::new(Full::from("ok")))
}
