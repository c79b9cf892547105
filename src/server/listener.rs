//! A listening socket: binds, takes connections in, and drains.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;

use super::accept::Backoff;
use super::body::RequestBody;
use super::caps::{Caps, Full};
use super::connection::{End, Gate};
use super::exchange::{ConnInfo, ErrorBody, Rules, openai_error_body};
use super::reply::BoxError;
use super::shutdown::{DrainReport, LAST_WORD, Shutdown};
use super::stats::Stats;
use super::tls::{Certificate, TlsError};
use crate::config::{Deadlines, Limits, Tls};

/// Connections that the kernel may queue for us.
const BACKLOG: u32 = 1024;

/// Why a listener cannot start. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody listens there already.
    #[error(
        "{0} is already in use: another program (or another copy of this one) listens there. Stop it, or choose \
         another address with the listener's `listen` key or flag"
    )]
    InUse(SocketAddr),
    /// The system does not allow it.
    #[error(
        "not allowed to listen on {0}: ports below 1024 need a privilege (CAP_NET_BIND_SERVICE). Choose a higher \
         port with the listener's `listen` key or flag"
    )]
    Permission(SocketAddr),
    /// The address is not one of this machine's.
    #[error("{0} is not an address of this machine. Use 127.0.0.1 (this machine only) or 0.0.0.0 (all networks)")]
    NotLocal(SocketAddr),
    /// Anything else.
    #[error("cannot listen on {address}: {source}")]
    Other {
        /// The address that was asked for.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// The certificate files cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl BindError {
    fn new(address: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::InUse(address),
            io::ErrorKind::PermissionDenied => Self::Permission(address),
            io::ErrorKind::AddrNotAvailable => Self::NotLocal(address),
            _ => Self::Other { address, source },
        }
    }
}

/// A bound socket with the rules for its connections.
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    tls: Option<Arc<Certificate>>,
    rules: Rules,
}

impl Listener {
    /// Binds `address` (port 0 takes any free one) and loads the certificate. Needs a tokio runtime.
    pub fn bind(
        address: SocketAddr,
        tls: Option<&Tls>,
        limits: &Limits,
        deadlines: &Deadlines,
    ) -> Result<Self, BindError> {
        let tls = tls.map(Certificate::load).transpose()?.map(Arc::new);
        let socket = listen(address).map_err(|source| BindError::new(address, source))?;
        let address = socket.local_addr().map_err(|source| BindError::new(address, source))?;
        let rules = Rules {
            limits: limits.clone(),
            deadlines: deadlines.clone(),
            error_body: openai_error_body,
            error_type: "application/json",
            stats: Arc::default(),
        };
        Ok(Self { socket, address, tls, rules })
    }

    /// The same with another shape of error bodies, and their content type.
    #[must_use]
    pub fn with_error_body(mut self, error_body: ErrorBody, content_type: &'static str) -> Self {
        self.rules.error_body = error_body;
        self.rules.error_type = content_type;
        self
    }

    /// Looks for new certificate files at another pace.
    #[cfg(test)]
    pub(super) fn with_certificate(mut self, certificate: Certificate) -> Self {
        self.tls = Some(Arc::new(certificate));
        self
    }

    /// The address that was bound, with the real port.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The counters; they stay readable after [`Self::serve`] took the listener.
    pub fn stats(&self) -> Arc<Stats> {
        Arc::clone(&self.rules.stats)
    }

    /// Serves until `shutdown` is triggered and all connections are closed. Dropping the future drops them all.
    ///
    /// `service` is called for every request that passed the checks, concurrently.
    pub async fn serve<S, F, B>(self, service: S, shutdown: Shutdown) -> DrainReport
    where
        S: Fn(Request<RequestBody>, Arc<ConnInfo>) -> F + Send + Sync + 'static,
        F: Future<Output = Response<B>> + Send + 'static,
        B: Body<Data = Bytes> + Unpin + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let Self { socket, address, tls, rules } = self;
        tracing::info!(%address, tls = tls.is_some(), "listening");
        let caps = Caps::new(rules.limits.connections, rules.limits.connections_per_ip);
        let gate = Arc::new(Gate { service: Arc::new(service), rules: Arc::new(rules), shutdown: shutdown.clone() });
        let mut open = JoinSet::new();
        let take_in = async {
            let mut backoff = Backoff::default();
            loop {
                tokio::select! {
                    accepted = socket.accept() => {
                        let Some((socket, peer)) = checked(accepted, &mut backoff, &gate.rules.stats).await else {
                            continue;
                        };
                        admit(&gate, &caps, &mut open, socket, peer, tls.clone());
                    }
                    // Ended connections are cleared away, so that the set does not grow.
                    Some(_) = open.join_next() => {}
                }
            }
        };
        let follow = async {
            match &tls {
                Some(certificate) => certificate.follow_files().await,
                None => std::future::pending().await,
            }
        };
        // The order to drain first: a connection that it closes belongs in the report.
        tokio::select! {
            biased;
            () = shutdown.draining() => {}
            () = take_in => {}
            () = follow => {}
        }
        drop(socket);
        drain(address, open, &shutdown).await
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Without it a restart would have to wait for the old connections' TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// The connection, or a pause if `accept` failed.
async fn checked(
    accepted: io::Result<(TcpStream, SocketAddr)>,
    backoff: &mut Backoff,
    stats: &Stats,
) -> Option<(TcpStream, SocketAddr)> {
    match accepted {
        Ok(accepted) => {
            backoff.reset();
            Some(accepted)
        }
        Err(error) => {
            stats.count_accept_error();
            let quiet = backoff.is_quiet();
            if let Some(pause) = backoff.pause(&error) {
                if quiet {
                    tracing::error!(%error, "cannot accept connections; waiting (is the limit of open files too low?)");
                }
                tokio::time::sleep(pause).await;
            }
            None
        }
    }
}

fn admit<S, F, B>(
    gate: &Arc<Gate<S>>,
    caps: &Arc<Caps>,
    open: &mut JoinSet<End>,
    socket: TcpStream,
    peer: SocketAddr,
    tls: Option<Arc<Certificate>>,
) where
    S: Fn(Request<RequestBody>, Arc<ConnInfo>) -> F + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Into<BoxError>,
{
    let stats = Arc::clone(&gate.rules.stats);
    let seat = match caps.admit(peer.ip()) {
        Ok(seat) => seat,
        Err(full) => {
            match full {
                Full::Total => stats.count_refused_total(),
                Full::PerIp => stats.count_refused_per_ip(),
            }
            tracing::debug!(%peer, ?full, "connection refused");
            return;
        }
    };
    stats.count_accepted();
    let open_connection = OpenConnection { stats, _seat: seat };
    let connection = Arc::clone(gate).serve(socket, peer, tls);
    open.spawn(async move {
        let end = connection.await;
        drop(open_connection);
        end
    });
}

/// Counts the connection as closed on drop, whichever way it ended.
struct OpenConnection {
    stats: Arc<Stats>,
    _seat: super::caps::Seat,
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.stats.count_closed();
    }
}

/// Waits for the connections, which know the deadline themselves.
async fn drain(address: SocketAddr, mut open: JoinSet<End>, shutdown: &Shutdown) -> DrainReport {
    tracing::info!(%address, connections = open.len(), "draining: no new connections");
    let mut report = DrainReport::default();
    let all_closed = async {
        while let Some(end) = open.join_next().await {
            match end {
                Ok(End::Closed) => report.finished += 1,
                Ok(End::Cut) | Err(_) => report.cut += 1,
            }
        }
    };
    // The second half is for a connection that is stuck in a poll; it should never be needed.
    let in_time = tokio::select! {
        () = all_closed => true,
        () = shutdown.passed(LAST_WORD * 3) => false,
    };
    if !in_time {
        report.cut += open.len();
        open.shutdown().await;
    }
    tracing::info!(%address, finished = report.finished, cut = report.cut, "drained: all connections are closed");
    report
}
