//! The admin plane: health, metrics, and questions about requests and the cache.
//!
//! Served by our own listener on its own port; axum only routes. Every route is a line of one table (`routes`), which says
//! whom it needs; `auth` sees to it. Errors are RFC 9457 problem details.

mod alerts;
mod apply;
mod audit;
mod auth;
mod budgets;
mod cache;
mod change;
mod decisions;
mod forms;
mod health;
mod invalidate;
mod keys;
mod leftovers;
mod prices;
mod reload;
mod requests;
mod routes;
mod shadow;
mod store;
mod tenant_data;
mod tenants;
mod times;
mod tokens;
mod usage;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{StatusCode, header};
use serde_json::json;

pub use self::auth::Guesses;
use self::auth::Peer;
pub use self::reload::{NotReloaded, Reload, Reloaded, Reloading};
use crate::alert::Alerts;
use crate::cache::{Cache, Standing};
use crate::clock::Clock;
use crate::config::{Limits, Savings, Secret, StoreUrl, Wrong};
use crate::limit::Limiter;
use crate::pipeline::DataPlane;
use crate::server::{BodyError, RequestBody};
use crate::store::{Sealed, ShadowHandle, Stores};
use crate::telemetry::metrics::Metrics;
use crate::tenant::Directory;

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
    /// Bearer token of the configuration.
    pub token: Option<Secret>,
    /// Tenants, keys and tokens.
    pub directory: Arc<Directory>,
    /// Budgets as they stand, where they are kept.
    pub limiter: Arc<Limiter>,
    /// What the cache is to save, and how that is counted.
    pub savings: Savings,
    /// Who is told of what.
    pub alerts: Arc<Alerts>,
    /// Reads the configuration again.
    pub reload: Option<Arc<dyn Reload>>,
    /// Wrong tokens.
    pub guesses: Arc<Guesses>,
}

/// An error as RFC 9457 problem details.
#[derive(Debug)]
struct Problem {
    status: StatusCode,
    detail: String,
    /// What is wrong with what was sent, place by place.
    wrong: Vec<Wrong>,
}

impl Problem {
    fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), wrong: Vec::new() }
    }

    /// The same, said of a part of what was sent.
    fn at(mut self, place: &str) -> Self {
        self.detail = format!("{place}: {}", self.detail);
        for wrong in &mut self.wrong {
            wrong.place = format!("{place}.{}", wrong.place);
        }
        self
    }

    fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("no such {what}"))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = document(self.status, "", &self.detail, &self.wrong);
        (self.status, [(header::CONTENT_TYPE, PROBLEM_TYPE)], body).into_response()
    }
}

impl From<crate::store::StoreError> for Problem {
    fn from(error: crate::store::StoreError) -> Self {
        tracing::error!(%error, "an admin request found the store failing");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "the store cannot be read or written now; see the log")
    }
}

impl From<Vec<Wrong>> for Problem {
    fn from(wrong: Vec<Wrong>) -> Self {
        let told = |wrong: &Wrong| format!("`{}`: {}: {}", wrong.place, wrong.what, wrong.fix);
        let detail = wrong.iter().map(told).collect::<Vec<_>>().join("; ");
        Self { status: StatusCode::UNPROCESSABLE_ENTITY, detail, wrong }
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
    document(status, code, detail, &[])
}

fn document(status: StatusCode, code: &'static str, detail: &str, wrong: &[Wrong]) -> Bytes {
    let title = status.canonical_reason().unwrap_or("error");
    let mut body = json!({ "type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail });
    if let (false, Some(members)) = (code.is_empty(), body.as_object_mut()) {
        members.insert("code".to_owned(), code.into());
    }
    if let (false, Some(members)) = (wrong.is_empty(), body.as_object_mut()) {
        let told = |wrong: &Wrong| json!({ "place": wrong.place, "what": wrong.what, "fix": wrong.fix });
        members.insert("errors".to_owned(), wrong.iter().map(told).collect());
    }
    body.to_string().into()
}

/// Limits of the admin listener: those of the data plane with few connections and small bodies.
pub fn limits(data: &Limits) -> Limits {
    Limits { connections: 256, connections_per_ip: 256, body_bytes: BODY_BYTES, ..data.clone() }
}

/// All routes.
pub fn router(state: Admin) -> Router {
    routes::router(state)
}

/// Serves one request of our listener.
pub async fn serve(router: Router, request: http::Request<RequestBody>, peer: IpAddr) -> Response {
    use tower_service::Service;
    let mut router = router;
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(Peer(peer));
    match router.call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

#[cfg(test)]
mod tests;
