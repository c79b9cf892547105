//! The admin plane: health, metrics, and questions about requests and the cache.
//!
//! Served by our own listener on its own port; axum only routes. Needs the admin token unless none is configured, which
//! the configuration allows on loopback only. Errors are RFC 9457 problem details.

mod audit;
mod cache;
mod decisions;
mod health;
mod invalidate;
mod requests;
mod shadow;
mod store;
mod tenants;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use bytes::Bytes;
use http::{StatusCode, header};
use serde_json::json;
use subtle::ConstantTimeEq;

use crate::cache::{Cache, Standing};
use crate::clock::Clock;
use crate::config::{Limits, Secret, StoreUrl};
use crate::pipeline::DataPlane;
use crate::server::{BodyError, RequestBody};
use crate::store::{Sealed, ShadowHandle, Stores};
use crate::telemetry::metrics::Metrics;

/// Bytes of an admin request body.
const BODY_BYTES: usize = 1 << 20;
/// Content type of a problem document.
pub const PROBLEM_TYPE: &str = "application/problem+json";

/// Whether requests are served: false until the cache is loaded, and again once the drain begins.
#[derive(Clone, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// Sets it.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Release);
    }

    /// Reads it.
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// What the admin plane can see.
#[derive(Clone)]
pub struct Admin {
    /// Whether requests are served.
    pub readiness: Readiness,
    /// How this replica stands to the others, where the store is shared.
    pub standing: Option<Arc<Standing>>,
    /// The series.
    pub metrics: Arc<Metrics>,
    /// The cache.
    pub cache: Arc<Cache>,
    /// The stores.
    pub stores: Stores,
    /// Where they are; shown without a password.
    pub store_url: StoreUrl,
    /// The second store, if every write goes to one.
    pub shadow: Option<ShadowHandle>,
    /// The layer that seals, where there is one.
    pub sealed: Option<Sealed>,
    /// For `explain`.
    pub plane: Arc<DataPlane>,
    /// Wall-clock time.
    pub clock: Clock,
    /// Bearer token.
    pub token: Option<Secret>,
}

impl Admin {
    /// Who makes changes, for the audit: the start of the token's keyed hash, which tells tokens apart and gives none away.
    fn actor(&self) -> String {
        let Some(token) = &self.token else { return "loopback".to_owned() };
        let hash = blake3::Hash::from_bytes(self.cache.secret().digest("admin token", token.expose().as_bytes()));
        hash.to_hex().chars().take(8).collect()
    }
}

/// An error as RFC 9457 problem details.
#[derive(Debug)]
struct Problem {
    status: StatusCode,
    detail: String,
}

impl Problem {
    fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into() }
    }

    fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("no such {what}"))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = problem(self.status, "", &self.detail);
        (self.status, [(header::CONTENT_TYPE, PROBLEM_TYPE)], body).into_response()
    }
}

impl From<crate::store::StoreError> for Problem {
    fn from(error: crate::store::StoreError) -> Self {
        tracing::error!(%error, "an admin request found the store failing");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "the store cannot be read or written now; see the log")
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(rejection.status(), rejection.body_text())
    }
}

impl From<JsonRejection> for Problem {
    fn from(rejection: JsonRejection) -> Self {
        // axum does not know our body's errors and calls each of them 400.
        let first = std::error::Error::source(&rejection);
        let mut chain = std::iter::successors(first, |error| error.source());
        match chain.find_map(|error| error.downcast_ref::<BodyError>()) {
            Some(error @ BodyError::TooLarge) => Self::new(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()),
            Some(error @ (BodyError::Idle | BodyError::Timeout)) => {
                Self::new(StatusCode::REQUEST_TIMEOUT, error.to_string())
            }
            _ => Self::new(rejection.status(), rejection.body_text()),
        }
    }
}

/// A problem document; also used for what the listener refuses by itself.
pub fn problem(status: StatusCode, code: &'static str, detail: &str) -> Bytes {
    let title = status.canonical_reason().unwrap_or("error");
    let mut body = json!({ "type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail });
    if let (false, Some(members)) = (code.is_empty(), body.as_object_mut()) {
        members.insert("code".to_owned(), code.into());
    }
    body.to_string().into()
}

/// Limits of the admin listener: those of the data plane with few connections and small bodies.
pub fn limits(data: &Limits) -> Limits {
    Limits { connections: 256, connections_per_ip: 256, body_bytes: BODY_BYTES, ..data.clone() }
}

/// All routes.
pub fn router(state: Admin) -> Router {
    let api = Router::new()
        .route("/requests", get(requests::recent))
        .route("/requests/{id}", get(requests::one))
        .route("/cache/stats", get(cache::stats))
        .route("/cache/entries", get(cache::entries))
        .route("/cache/entries/{id}", get(cache::entry).delete(invalidate::delete))
        .route("/cache/search", get(cache::search))
        .route("/cache/explain", post(cache::explain))
        .route("/cache/invalidate", post(invalidate::invalidate))
        .route("/cache/feedback", post(decisions::feedback))
        .route("/cache/learners", get(decisions::learners))
        .route("/cache/decisions", get(decisions::list))
        .route("/cache/decisions/{request}", get(decisions::one))
        .route("/cache/probing", get(decisions::probing))
        .route("/cache/shadow", get(shadow::report))
        .route("/store", get(store::report))
        .route("/tenants/{name}/data", delete(tenants::delete))
        .route("/audit", get(audit::trail));
    Router::new()
        .route("/metrics", get(health::metrics))
        .nest("/admin/v1", api)
        .route_layer(middleware::from_fn_with_state(state.clone(), authorise))
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .fallback(|| async { Problem::not_found("page; see /livez, /readyz, /metrics and /admin/v1/…") })
        .method_not_allowed_fallback(|| async {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this page does not take that method; see the `allow` header")
        })
        .with_state(state)
}

/// Serves one request of our listener.
pub async fn serve(router: Router, request: http::Request<RequestBody>) -> Response {
    use tower_service::Service;
    let mut router = router;
    match router.call(request.map(Body::new)).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// The token, where one is configured. Without one the listener is on loopback, where a web page must still not get in:
/// it could only do so under a foreign host name.
async fn authorise(State(state): State<Admin>, request: Request, next: Next) -> Response {
    let allowed = match &state.token {
        Some(token) => bearer(&request).is_some_and(|sent| sent.as_bytes().ct_eq(token.expose().as_bytes()).into()),
        None => local_host(&request),
    };
    if allowed {
        return next.run(request).await;
    }
    let hint = match state.token {
        Some(_) => "send the admin token as `Authorization: Bearer …`",
        None => "without an admin token this listener answers to a loopback address or `localhost` only",
    };
    let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
    (challenge, Problem::new(StatusCode::UNAUTHORIZED, hint)).into_response()
}

fn bearer(request: &Request) -> Option<&str> {
    let value = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    value.strip_prefix("Bearer ").map(str::trim)
}

fn local_host(request: &Request) -> bool {
    let header = request.headers().get(header::HOST).and_then(|h| h.to_str().ok());
    let host = request.uri().authority().map(http::uri::Authority::as_str).or(header).unwrap_or_default();
    let name = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(host: &str) -> bool {
        local_host(&Request::builder().header(header::HOST, host).body(Body::empty()).unwrap())
    }

    #[test]
    fn a_web_page_under_a_foreign_name_does_not_get_in() {
        for good in ["localhost:8081", "127.0.0.1:8081", "127.0.0.1", "[::1]:8081", "localhost"] {
            assert!(host(good), "{good}");
        }
        for bad in ["evil.example", "evil.example:8081", "localhost.evil.example", ""] {
            assert!(!host(bad), "{bad}");
        }
    }
}
