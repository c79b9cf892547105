//! One request and its answer: the layer between hyper and the service.
//!
//! Answers the heads that were refused, makes the checks that HTTP/2 needs, and keeps a panic to its own request.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, HOST, UPGRADE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body;
use hyper::body::Incoming;

use super::body::RequestBody;
use super::reply::{BoxError, InFlight, ReplyBody};
use super::stats::Stats;
use super::strict::{Refusal, is_authority};
use super::tally::Tally;
use crate::config::{Deadlines, Limits};

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub struct ConnInfo {
    /// Address of the client.
    pub peer: SocketAddr,
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// Whether it speaks HTTP/2.
    pub http2: bool,
}

/// Makes the JSON body of an error that the front door answers itself: status, code, message.
pub type ErrorBody = fn(StatusCode, &'static str, &str) -> Bytes;

/// OpenAI's error shape.
pub fn openai_error_body(status: StatusCode, code: &'static str, message: &str) -> Bytes {
    let kind = if status.is_server_error() { "server_error" } else { "invalid_request_error" };
    let error = serde_json::json!({ "message": message, "type": kind, "param": null, "code": code });
    Bytes::from(serde_json::json!({ "error": error }).to_string())
}

/// What all connections of a listener share.
pub(super) struct Rules {
    pub(super) limits: Limits,
    pub(super) deadlines: Deadlines,
    pub(super) error_body: ErrorBody,
    /// Its content type.
    pub(super) error_type: &'static str,
    pub(super) stats: Arc<Stats>,
}

/// The service as one connection calls it.
pub(super) struct Front<S> {
    pub(super) service: Arc<S>,
    pub(super) rules: Arc<Rules>,
    pub(super) info: Arc<ConnInfo>,
    pub(super) tally: Arc<Tally>,
}

impl<S> Clone for Front<S> {
    fn clone(&self) -> Self {
        Self {
            service: Arc::clone(&self.service),
            rules: Arc::clone(&self.rules),
            info: Arc::clone(&self.info),
            tally: Arc::clone(&self.tally),
        }
    }
}

impl<S, F, B> Front<S>
where
    S: Fn(Request<RequestBody>, Arc<ConnInfo>) -> F,
    F: Future<Output = Response<B>>,
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    /// Counts the request as open at once, and answers it.
    pub(super) fn call(
        &self,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<ReplyBody<B>>, Infallible>> + use<S, F, B> {
        let front = self.clone();
        let number = front.tally.call();
        let in_flight = InFlight(Arc::clone(&front.tally));
        async move { Ok(front.answer(request, number, in_flight).await) }
    }

    async fn answer(self, mut request: Request<Incoming>, number: u64, open: InFlight) -> Response<ReplyBody<B>> {
        let refusal = if self.info.http2 { self.check_http2(&request) } else { self.tally.refusal(number) };
        if let Some(refusal) = refusal {
            return self.refuse(refusal, open);
        }
        // Upgrades are not offered. A client that asked may already be sending in the other protocol, so what
        // follows is not read as a request.
        let upgrade = !self.info.http2 && request.headers_mut().remove(UPGRADE).is_some();
        let tally = Arc::clone(&self.tally);
        let request = request.map(|body| RequestBody::new(body, &self.rules.limits, &self.rules.deadlines, tally));
        let reply = caught(|| (self.service)(request, Arc::clone(&self.info))).await;
        let mut response = match reply {
            Ok(response) => response.map(|body| ReplyBody::service(body, Arc::clone(&self.rules.stats), open)),
            Err(Panicked) => return self.panicked(open),
        };
        // hyper closes after a body that was not read; a client that is not told would send its next request into that.
        if upgrade || (!self.info.http2 && self.tally.body_left()) {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// What h2 leaves to the application; HTTP/1 heads were checked as bytes.
    fn check_http2(&self, request: &Request<Incoming>) -> Option<Refusal> {
        let limits = &self.rules.limits;
        if matches!(*request.method(), Method::TRACE | Method::CONNECT) {
            return Some(Refusal::Method);
        }
        if request.uri().path_and_query().is_some_and(|target| target.as_str().len() > limits.uri_bytes) {
            return Some(Refusal::UriTooLong);
        }
        if request.headers().len() > limits.headers {
            return Some(Refusal::TooManyHeaders);
        }
        let mut hosts = request.headers().get_all(HOST).iter();
        let host = hosts.next().map(HeaderValue::as_bytes);
        if hosts.next().is_some() {
            return Some(Refusal::DuplicateHost);
        }
        let authority = request.uri().authority().map(|authority| authority.as_str().as_bytes());
        match (authority.or(host), host) {
            (None, _) => Some(Refusal::MissingHost),
            (Some(authority), _) if !is_authority(authority) => Some(Refusal::BadHost),
            (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => Some(Refusal::HostMismatch),
            _ => None,
        }
    }

    fn refuse(&self, refusal: Refusal, open: InFlight) -> Response<ReplyBody<B>> {
        self.rules.stats.count_refused(refusal);
        tracing::debug!(peer = %self.info.peer, reason = refusal.as_str(), "request refused");
        let mut response = self.own(refusal.status(), refusal.as_str(), refusal.message(), open);
        if refusal == Refusal::Method {
            let methods = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
            response.headers_mut().insert(ALLOW, methods);
        }
        response
    }

    fn panicked(&self, open: InFlight) -> Response<ReplyBody<B>> {
        self.rules.stats.count_panic();
        tracing::error!(peer = %self.info.peer, "a request ended in a panic");
        let message = "The request failed because of a fault in this server.";
        self.own(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", message, open)
    }

    fn own(&self, status: StatusCode, code: &'static str, message: &str, open: InFlight) -> Response<ReplyBody<B>> {
        let body = (self.rules.error_body)(status, code, message);
        let mut response = Response::new(ReplyBody::own(body, Arc::clone(&self.rules.stats), open));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(self.rules.error_type));
        if !self.info.http2 {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

struct Panicked;

/// Runs the call and its future; a panic in either is an error. State that the panic may have left half changed is
/// the request's own: the service gets no mutable access to anything shared.
async fn caught<F: Future>(call: impl FnOnce() -> F) -> Result<F::Output, Panicked> {
    let future = catch_unwind(AssertUnwindSafe(call)).map_err(|_| Panicked)?;
    let mut future = pin!(future);
    std::future::poll_fn(move |cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(polled) => polled.map(Ok),
        Err(_) => std::task::Poll::Ready(Err(Panicked)),
    })
    .await
}
