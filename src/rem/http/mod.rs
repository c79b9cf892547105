//! The sidecar over HTTP: `/rem/v1/…` for queries and rows, `/rem/mcp` for assistants.
//!
//! ```text
//! our listener → who (a key of the data plane) → right `rem` → one request of the key's limits → route → Answer or Problem
//! ```
//!
//! The scope of a query comes from the headers of its own request and from nothing else. Errors are RFC 9457 problem details.
//!
//! It must never: answer 200 with an error, 500 for what a caller sent, or a text that comes from the database.

mod admit;
mod ask;
mod body;
mod params;
mod problem;
mod routes;
mod rows;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};

pub(super) use self::ask::{batch, query};
pub(super) use self::body::{distinct, json_bytes};
pub(super) use self::problem::Problem;
use self::problem::Told;
pub use self::problem::{PROBLEM_TYPE, refusal};
use super::Rem;
use super::mcp::Mcp;
use crate::config::Limits;
use crate::limit::Limiter;
use crate::server::RequestBody;
use crate::telemetry::metrics::Metrics;
use crate::tenant::Directory;

/// What the sidecar is made of.
pub struct SidecarParts {
    /// Answers queries.
    pub rem: Arc<Rem>,
    /// Who may call.
    pub directory: Arc<Directory>,
    /// What they are held to.
    pub limiter: Arc<Limiter>,
    /// The series.
    pub metrics: Arc<Metrics>,
    /// Sizes, those of the data plane.
    pub limits: Limits,
}

/// What handlers share.
pub(super) type Shared = Arc<SidecarParts>;

/// The sidecar, ready to serve.
#[derive(Clone)]
pub struct Sidecar {
    shared: Shared,
    router: Router,
}

impl Sidecar {
    /// Of these parts.
    pub fn new(parts: SidecarParts) -> Self {
        let shared = Arc::new(parts);
        let mcp = Mcp::new(&shared);
        let router = routes::router(routes::Front { shared: Arc::clone(&shared), mcp });
        Self { shared, router }
    }

    /// Serves one request of our listener.
    pub async fn serve(self, request: http::Request<RequestBody>) -> Response {
        let began = Instant::now();
        let kind = routes::kind(request.method(), request.uri().path());
        let response = self.answer(request).await;
        let told = response.extensions().get::<Told>().copied().unwrap_or_default();
        let kind = told.kind.unwrap_or(kind);
        self.shared.metrics.rem.count(kind, told.status.unwrap_or("ok"), began.elapsed());
        response
    }

    async fn answer(&self, request: http::Request<RequestBody>) -> Response {
        use tower_service::Service;
        let mut request = request.map(Body::new);
        // The description of the API is no secret, and tools read it before they have a key.
        if request.uri().path() != routes::OPENAPI {
            match admit::admit(&self.shared, request.headers()).await {
                Ok(scope) => drop(request.extensions_mut().insert(scope)),
                Err(problem) => return problem.into_response(),
            }
        }
        match self.router.clone().call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

/// Limits of the sidecar's listener: those of the data plane.
pub fn limits(data: &Limits) -> Limits {
    Limits { connections: data.connections.min(4096), ..data.clone() }
}

impl Problem {
    /// For a page that does not exist.
    fn no_page() -> Self {
        Self::not_found("no such page; GET /rem/openapi.json describes all of them")
    }
}
