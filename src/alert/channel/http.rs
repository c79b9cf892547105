//! One HTTP POST to somebody else's server.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::Failure;
use crate::upstream;

/// Bytes of a complaint that are read.
const COMPLAINT: usize = 4 << 10;
/// Longest pause that the other side may ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(60 * 60);
/// Alerts are rare; a connection is kept for those that come together.
const IDLE: Duration = Duration::from_secs(15);

/// A client that follows no redirects and uses no proxy.
#[derive(Clone)]
pub(super) struct Poster(Arc<Client<HttpsConnector<HttpConnector>, Full<Bytes>>>);

impl Poster {
    pub(super) fn new() -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        let tls = upstream::tls(roots);
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_all_versions().wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(connector);
        Self(Arc::new(client))
    }

    /// Posts JSON; anything but a 2xx is a failure. `secrets` are taken out of what is told of it.
    pub(super) async fn post(
        &self,
        uri: &Uri,
        headers: HeaderMap,
        body: Vec<u8>,
        secrets: &[&str],
    ) -> Result<(), Failure> {
        let mut request = Request::new(Full::from(body));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = uri.clone();
        *request.headers_mut() = headers;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("remora/", env!("CARGO_PKG_VERSION"))));
        let response = match self.0.request(request).await {
            Ok(response) => response,
            Err(error) => return Err(Failure::new(&chain(&error), secrets)),
        };
        let (status, wait) = (response.status(), pause(response.headers()));
        if status.is_success() {
            return Ok(());
        }
        if status.is_redirection() {
            let what = format!("answered {}: redirects are not followed, configure the final URL", status.as_u16());
            return Err(Failure::new(&what, secrets));
        }
        let complaint = Limited::new(response.into_body(), COMPLAINT).collect().await;
        let complaint =
            complaint.map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned()).unwrap_or_default();
        let what = match complaint.trim() {
            "" => format!("answered {}", status.as_u16()),
            said => format!("answered {}: {said}", status.as_u16()),
        };
        Err(Failure { retry_after: wait, ..Failure::new(&what, secrets) })
    }
}

fn pause(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_PAUSE))
}

/// An error with its causes. hyper's errors name neither URLs nor headers nor bodies.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.ends_with(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}
