//! One connection, from its first byte to its last.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use http_body::Body;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, interval, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;

use super::body::RequestBody;
use super::exchange::{ConnInfo, Front, Rules};
use super::guard::{Guard, ReadDeadlines};
use super::paced::Paced;
use super::reply::BoxError;
use super::shutdown::{LAST_WORD, Shutdown};
use super::streams::Streams;
use super::strict::HeadLimits;
use super::tally::Tally;
use super::tls::Certificate;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// hyper's buffers of one HTTP/1 connection, each way. Larger bodies pass through in pieces of this size.
const BUFFER_BYTES: usize = 64 * 1024;
const H2_STREAM_WINDOW: u32 = 64 * 1024;
const H2_CONNECTION_WINDOW: u32 = 1024 * 1024;
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_ANSWER: Duration = Duration::from_secs(10);
/// Streams that a client may open and reset before we have looked at them (the "rapid reset" attack).
const H2_PENDING_RESETS: usize = 20;
/// Streams that may be reset by us because of the client's errors, before the connection is closed.
const H2_LOCAL_RESETS: usize = 100;
/// Seconds without a request or a write after which an HTTP/2 connection that was told to go is closed.
const QUIET_SECONDS: u32 = 3;

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It had nothing left to do, or its client or an error ended it.
    Closed,
    /// The drain's deadline passed with a request open.
    Cut,
}

/// What every connection of a listener needs.
pub(super) struct Gate<S> {
    pub(super) service: Arc<S>,
    pub(super) rules: Arc<Rules>,
    pub(super) shutdown: Shutdown,
}

impl<S, F, B> Gate<S>
where
    S: Fn(Request<RequestBody>, Arc<ConnInfo>) -> F + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Into<BoxError>,
{
    /// Serves one connection.
    pub(super) async fn serve(
        self: Arc<Self>,
        socket: TcpStream,
        peer: SocketAddr,
        tls: Option<Arc<Certificate>>,
    ) -> End {
        // Fails only on a socket that is dead already; the next read says so.
        let _ = socket.set_nodelay(true);
        let start = Instant::now();
        match tls {
            None => self.clear_text(socket, peer, start).await,
            Some(certificate) => self.encrypted(socket, peer, certificate, start).await,
        }
    }

    async fn clear_text(&self, mut socket: TcpStream, peer: SocketAddr, start: Instant) -> End {
        let sniffed = tokio::select! {
            sniffed = timeout_at(start + self.rules.deadlines.head, sniff(&mut socket)) => sniffed,
            () = self.shutdown.draining() => return End::Closed,
        };
        let Ok(Ok(Some((http2, first)))) = sniffed else { return End::Closed };
        self.run(socket, ConnInfo { peer, tls: false, http2 }, first, start).await
    }

    async fn encrypted(
        &self,
        socket: TcpStream,
        peer: SocketAddr,
        certificate: Arc<Certificate>,
        start: Instant,
    ) -> End {
        let handshake = TlsAcceptor::from(certificate.current()).accept(socket);
        let socket = tokio::select! {
            socket = timeout(self.rules.deadlines.tls, handshake) => socket,
            () = self.shutdown.draining() => return End::Closed,
        };
        let Ok(Ok(socket)) = socket else {
            self.rules.stats.count_tls_failed();
            tracing::debug!(%peer, "TLS handshake failed");
            return End::Closed;
        };
        let http2 = socket.get_ref().1.alpn_protocol() == Some(b"h2");
        self.run(socket, ConnInfo { peer, tls: true, http2 }, Bytes::new(), start).await
    }

    async fn run<T>(&self, io: T, info: ConnInfo, first: Bytes, start: Instant) -> End
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let tally = Arc::new(Tally::default());
        let http2 = info.http2;
        let front = Front {
            service: Arc::clone(&self.service),
            rules: Arc::clone(&self.rules),
            info: Arc::new(info),
            tally: Arc::clone(&tally),
        };
        let service = service_fn(move |request| front.call(request));
        let io = Paced::new(io, first, self.rules.deadlines.write_stall, Arc::clone(&tally));
        if http2 {
            let connection = self.http2_builder().serve_connection(TokioIo::new(io), service);
            self.drive_http2(connection, &tally).await
        } else {
            let stats = Arc::clone(&self.rules.stats);
            let guard = Guard::new(io, self.head_limits(), self.read_deadlines(start), Arc::clone(&tally), stats);
            let connection = self.http1_builder().serve_connection(TokioIo::new(guard), service);
            self.drive_http1(connection, &tally).await
        }
    }

    fn head_limits(&self) -> HeadLimits {
        let limits = &self.rules.limits;
        HeadLimits { head_bytes: limits.head_bytes, headers: limits.headers, uri_bytes: limits.uri_bytes }
    }

    fn read_deadlines(&self, start: Instant) -> ReadDeadlines {
        let deadlines = &self.rules.deadlines;
        ReadDeadlines { first_head: start + deadlines.head, head: deadlines.head, keep_alive: deadlines.keep_alive }
    }

    fn http1_builder(&self) -> http1::Builder {
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            // The guard has the deadlines: hyper's would also end idle connections, and cannot answer 408.
            .header_read_timeout(None)
            .max_buf_size(BUFFER_BYTES.max(self.rules.limits.head_bytes + 8 * 1024));
        // Up to 100 hyper keeps them on the stack; the strict check holds the real limit.
        if self.rules.limits.headers > 100 {
            builder.max_headers(self.rules.limits.headers);
        }
        builder
    }

    fn http2_builder(&self) -> http2::Builder<Streams> {
        let limits = &self.rules.limits;
        let mut builder = http2::Builder::new(Streams { stall: self.rules.deadlines.write_stall });
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.h2_streams)
            .max_pending_accept_reset_streams(H2_PENDING_RESETS)
            .max_local_error_reset_streams(H2_LOCAL_RESETS)
            .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
            .initial_stream_window_size(H2_STREAM_WINDOW)
            .initial_connection_window_size(H2_CONNECTION_WINDOW)
            .max_send_buf_size(BUFFER_BYTES)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_ANSWER);
        builder
    }

    async fn drive_http1<C>(&self, connection: C, tally: &Tally) -> End
    where
        C: GracefulConnection<Error = hyper::Error>,
    {
        let mut connection = pin!(connection);
        // The order to drain is looked at first, so that an answer that is ready already says `Connection: close`.
        tokio::select! {
            biased;
            () = self.shutdown.draining() => {}
            result = connection.as_mut() => return closed(result),
        }
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            biased;
            result = connection.as_mut() => closed(result),
            () = self.shutdown.passed(LAST_WORD) => cut(tally),
        }
    }

    async fn drive_http2<C>(&self, connection: C, tally: &Tally) -> End
    where
        C: GracefulConnection<Error = hyper::Error>,
    {
        let mut connection = pin!(connection);
        tokio::select! {
            biased;
            () = self.shutdown.draining() => {}
            result = connection.as_mut() => return closed(result),
            () = self.idle(tally) => {}
        }
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            biased;
            result = connection.as_mut() => closed(result),
            () = self.shutdown.passed(LAST_WORD) => cut(tally),
            () = quiet(tally) => End::Closed,
        }
    }

    /// Resolves when an HTTP/2 connection has been without requests for the keep-alive deadline (at the latest after
    /// twice that), or has sent none within the head deadline.
    async fn idle(&self, tally: &Tally) {
        tokio::time::sleep(self.rules.deadlines.head).await;
        let mut before = 0;
        while tally.busy() || tally.called() != before {
            before = tally.called();
            tokio::time::sleep(self.rules.deadlines.keep_alive).await;
        }
    }
}

/// Resolves when a connection that was told to go has nothing more to do but does not go. Its last bytes may still
/// wait in h2 for the client's window, so it is not enough that no request is open.
async fn quiet(tally: &Tally) {
    let mut ticks = interval(Duration::from_secs(1));
    let mut writes = tally.writes();
    let mut seconds = 0;
    while seconds < QUIET_SECONDS {
        ticks.tick().await;
        let now = tally.writes();
        let still = !tally.busy() && std::mem::replace(&mut writes, now) == now;
        seconds = if still { seconds + 1 } else { 0 };
    }
}

fn closed(result: Result<(), hyper::Error>) -> End {
    if let Err(error) = result {
        tracing::debug!(%error, "connection ended");
    }
    End::Closed
}

fn cut(tally: &Tally) -> End {
    if tally.busy() { End::Cut } else { End::Closed }
}

/// Whether a clear-text client speaks HTTP/2 at once ("prior knowledge"), and what was read to find out. `None` if
/// it closes before that is clear.
async fn sniff(socket: &mut TcpStream) -> std::io::Result<Option<(bool, Bytes)>> {
    let mut first = BytesMut::with_capacity(4096);
    loop {
        if socket.read_buf(&mut first).await? == 0 {
            return Ok(None);
        }
        let compared = first.len().min(PREFACE.len());
        if first.get(..compared) != PREFACE.get(..compared) {
            return Ok(Some((false, first.freeze())));
        }
        if compared == PREFACE.len() {
            return Ok(Some((true, first.freeze())));
        }
    }
}
