//! Connections: accept, speak HTTP/1.1 or HTTP/2 with prior knowledge, end with a TCP reset when one was ordered.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::State;
use super::route;

/// The pause after a failed accept (for example: no file descriptors left), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Asks the connection it belongs to for a TCP reset instead of an orderly close.
#[derive(Clone, Debug, Default)]
pub(super) struct ResetSwitch(Arc<AtomicBool>);

impl ResetSwitch {
    /// Orders the reset; it happens when the connection is dropped.
    pub(super) fn press(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn pressed(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Accepts and serves until dropped; dropping it closes every connection.
///
/// The connections are tasks of this loop's own set: the simulator is a program of its own and has no supervisor.
pub(super) async fn accept_loop(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    state.counters.connection();
                    connections.spawn(serve(stream, Arc::clone(&state)));
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(stream: TcpStream, state: Arc<State>) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let switch = ResetSwitch::default();
    let wire = Wire { stream, switch: switch.clone() };
    let service = service_fn(move |request| route::answer(Arc::clone(&state), switch.clone(), request));
    let builder = auto::Builder::new(TokioExecutor::new());
    // How a connection ends is the client's business or an ordered fault; both are counted elsewhere.
    let _ = builder.serve_connection(TokioIo::new(wire), service).await;
}

/// A TCP stream that ends with a reset when its switch was pressed.
struct Wire {
    stream: TcpStream,
    switch: ResetSwitch,
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.switch.pressed() {
            // If this fails the peer sees an orderly close in the middle of a message, which is a fault as well.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.switch.pressed() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
