//! The yardstick: the least that a reverse proxy of the same crates can be.
//!
//! hyper's HTTP/1 server, hyper-util's pooled client, `TCP_NODELAY` on both sides, bodies passed on as they come. It
//! reads nothing, checks nothing and has no deadlines, so the distance to it is what Remora's work costs.

use std::net::SocketAddr;
use std::time::Duration;

use http::{Request, Response, Uri, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpListener;

use crate::Fault;

type Upstream = Client<HttpConnector, Incoming>;

/// Forwards everything to `upstream` (address and port) until the process is killed. Says where it listens.
pub(crate) fn run(upstream: &str) -> Result<(), Fault> {
    let upstream: SocketAddr = upstream.parse()?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(serve(upstream))
}

async fn serve(upstream: SocketAddr) -> Result<(), Fault> {
    let mut tcp = HttpConnector::new();
    tcp.set_nodelay(true);
    let client: Upstream = Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_secs(30))
        .pool_max_idle_per_host(1_024)
        .build(tcp);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    eprintln!("bare proxy: http://{}/", listener.local_addr()?);
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let client = client.clone();
        let service = service_fn(move |request| forward(client.clone(), upstream, request));
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), service));
    }
}

async fn forward(
    client: Upstream,
    upstream: SocketAddr,
    mut request: Request<Incoming>,
) -> Result<Response<Incoming>, Fault> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = format!("http://{upstream}{path}").parse::<Uri>()?;
    request.headers_mut().remove(header::HOST);
    Ok(client.request(request).await?)
}
