//! The sidecar for assistants: three tools over MCP (streamable HTTP), by the official SDK.
//!
//! There are no sessions: every message is a request of its own, with a key of its own, so none can be taken over and nothing is
//! kept between two. That a key is needed on every message is also what keeps web pages out that reach this listener under a
//! foreign host name; so any `Host` will do, and a reverse proxy in front changes nothing. A browser's `Origin` must be ours.
//!
//! A query that is wrong is the result of a tool, marked as an error, so that the model reads it and mends the query.

mod tools;

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};

use self::tools::Tools;
use super::http::{Problem, Shared, distinct, json_bytes};
use super::{Code, Fault};

/// Most bytes of an error of the SDK that are read to be told in our form.
const SHORT: usize = 4096;

/// The endpoint.
#[derive(Clone)]
pub(super) struct Mcp(StreamableHttpService<Tools, NeverSessionManager>, Shared);

impl Mcp {
    /// Over the parts of the sidecar.
    pub(super) fn new(shared: &Shared) -> Self {
        let config = StreamableHttpServerConfig::default()
            .with_legacy_session_mode(false)
            .with_json_response(true)
            .with_sse_keep_alive(None)
            .with_max_request_body_bytes(shared.limits.body_bytes)
            .disable_allowed_hosts();
        let for_tools = Arc::clone(shared);
        let make = move || Ok(Tools::new(Arc::clone(&for_tools)));
        Self(StreamableHttpService::new(make, Arc::default(), config), Arc::clone(shared))
    }

    /// Answers one message. The caller's scope is among the extensions of the request.
    pub(super) async fn serve(&self, request: Request) -> Response {
        if of_another_origin(&request) {
            let fault = Fault::new(Code::Forbidden, "a web page of another origin may not speak to this endpoint");
            return Problem::from(fault).into_response();
        }
        let (head, body) = request.into_parts();
        let whole = json_bytes(Request::from_parts(head.clone(), body), self.0.config.max_request_body_bytes).await;
        let bytes = match whole {
            Ok(bytes) => bytes,
            Err(problem) => return problem.into_response(),
        };
        if let Err(fault) = distinct(&bytes, &self.1.limits) {
            return Problem::from(fault).into_response();
        }
        let response = self.0.handle(Request::from_parts(head, Body::from(bytes))).await.map(Body::new);
        let json = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
        if response.status().is_success() || json {
            return response;
        }
        // The type of the body was right: what is refused for it is no message.
        let status = match response.status() {
            StatusCode::UNSUPPORTED_MEDIA_TYPE => StatusCode::BAD_REQUEST,
            status => status,
        };
        let text = to_bytes(response.into_body(), SHORT).await.unwrap_or_default();
        let code = match status {
            StatusCode::NOT_ACCEPTABLE => "not_acceptable",
            StatusCode::PAYLOAD_TOO_LARGE => Code::TooLarge.as_str(),
            _ => Code::ParseError.as_str(),
        };
        Problem::new(status, code, String::from_utf8_lossy(&text)).into_response()
    }
}

/// A browser says where the page comes from that asks.
fn of_another_origin(request: &Request) -> bool {
    let Some(origin) = request.headers().get(header::ORIGIN) else { return false };
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let host = request.uri().authority().map(http::uri::Authority::as_str).or(host).unwrap_or_default();
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
    !origin.is_some_and(|origin| origin.eq_ignore_ascii_case(host))
}
