//! The table of routes: method, path, type in the metrics, and what answers. The router is made of it and of nothing else.

use axum::Router;
use axum::extract::{FromRef, Request, State};
use axum::handler::Handler;
use axum::response::Response;
use axum::routing::{self, MethodRouter};
use http::{Method, StatusCode, header};

use super::params::Id;
use super::problem::Problem;
use super::{Shared, ask, rows};
use crate::rem::mcp::Mcp;
use crate::store::rem::RemTable;

/// The description of the API.
pub(super) const OPENAPI: &str = "/rem/openapi.json";
/// It, as a file.
const DOCUMENT: &str = include_str!("../openapi.json");
const MCP: &str = "/rem/mcp";

/// What the router knows.
#[derive(Clone)]
pub(super) struct Front {
    pub(super) shared: Shared,
    pub(super) mcp: Mcp,
}

impl FromRef<Front> for Shared {
    fn from_ref(front: &Front) -> Self {
        Self::clone(&front.shared)
    }
}

/// One line of the table.
pub(super) struct Route {
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "the test that compares the table with its description reads it")
    )]
    pub(super) method: Method,
    pub(super) path: String,
    handler: MethodRouter<Front>,
}

fn line<H, T>(method: Method, path: impl Into<String>, handler: H) -> Route
where
    H: Handler<T, Front>,
    T: 'static,
{
    let handler = match method {
        Method::POST => routing::post(handler),
        Method::PATCH => routing::patch(handler),
        Method::DELETE => routing::delete(handler),
        _ => routing::get(handler),
    };
    Route { method, path: path.into(), handler }
}

/// Everything the sidecar answers.
pub(super) fn table() -> Vec<Route> {
    let mut table = vec![
        line(Method::POST, "/rem/v1/query", ask::post_query),
        line(Method::POST, "/rem/v1/batch", ask::post_batch),
        line(Method::POST, "/rem/v1/explain", ask::post_explain),
        line(Method::GET, "/rem/v1/schema", ask::get_schema),
        line(Method::POST, "/rem/v1/edges", rows::link),
        line(Method::POST, MCP, mcp),
        line(Method::GET, OPENAPI, || async { ([(header::CONTENT_TYPE, "application/json")], DOCUMENT) }),
    ];
    for of in RemTable::WRITTEN {
        let all = format!("/rem/v1/{}", of.as_str());
        let one = format!("{all}/{{id}}");
        table.push(line(Method::POST, all.clone(), move |shared: State<Shared>, scope, body| {
            rows::create(of, shared, scope, body)
        }));
        table.push(line(Method::GET, all, move |shared: State<Shared>, scope, page| {
            rows::list(of, shared, scope, page)
        }));
        table.push(line(Method::GET, one.clone(), move |shared: State<Shared>, scope, id: Id| {
            rows::read(of, shared, scope, id)
        }));
        table.push(line(Method::PATCH, one.clone(), move |shared: State<Shared>, scope, id: Id, body| {
            rows::change(of, shared, scope, id, body)
        }));
        table.push(line(Method::DELETE, one, move |shared: State<Shared>, scope, id: Id, end| {
            rows::delete(of, shared, scope, id, end)
        }));
    }
    table
}

/// The router.
pub(super) fn router(front: Front) -> Router {
    let mut router = Router::new();
    for Route { path, handler, .. } in table() {
        router = router.route(&path, handler);
    }
    router.fallback(no_page).method_not_allowed_fallback(no_method).with_state(front)
}

async fn mcp(State(front): State<Front>, request: Request) -> Response {
    front.mcp.serve(request).await
}

async fn no_page() -> Problem {
    Problem::no_page()
}

async fn no_method() -> Problem {
    let text = "this page does not take that method; see the `allow` header";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", text)
}

/// Type of a request in the metrics, as far as its path says. A query says more when it has been read.
pub(super) fn kind(method: &Method, path: &str) -> &'static str {
    match path.strip_prefix("/rem/v1/").map(|rest| rest.split('/').next().unwrap_or_default()) {
        Some("batch") => "batch",
        Some("explain") => "explain",
        Some("schema") => "schema",
        Some("resources" | "entities" | "moments" | "edges") if method == Method::GET => "read",
        Some("resources" | "entities" | "moments" | "edges") => "write",
        None if path == MCP => "mcp",
        _ => ask::UNREAD,
    }
}
