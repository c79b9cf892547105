//! The table of routes: method, path, what it needs, and what answers. The router is made of it and of nothing else, so no
//! route can be without a role.

use axum::Json;
use axum::Router;
use axum::handler::Handler;
use axum::middleware;
use axum::routing::{self, MethodRouter};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::auth::{Gate, Need, Scope, authorise};
use super::{
    Admin, Problem, alerts, apply, audit, budgets, cache, decisions, health, invalidate, keys, prices, reload,
    requests, shadow, store, tenant_data, tenants, tokens, usage,
};
use crate::tenant::Role::{self, Operator, Owner, Viewer};

/// One line of the table.
pub(super) struct Route {
    pub(super) method: Method,
    pub(super) path: &'static str,
    /// `None` if nobody need be known.
    pub(super) need: Option<Need>,
    handler: MethodRouter<Admin>,
}

fn line<H, T>(method: Method, path: &'static str, role: Role, scope: Scope, handler: H) -> Route
where
    H: Handler<T, Admin>,
    T: 'static,
{
    let need = Some(Need { role, scope });
    let handler = match method {
        Method::POST => routing::post(handler),
        Method::PUT => routing::put(handler),
        Method::PATCH => routing::patch(handler),
        Method::DELETE => routing::delete(handler),
        _ => routing::get(handler),
    };
    Route { method, path, need, handler }
}

fn get<H: Handler<T, Admin>, T: 'static>(path: &'static str, role: Role, scope: Scope, handler: H) -> Route {
    line(Method::GET, path, role, scope, handler)
}

fn post<H: Handler<T, Admin>, T: 'static>(path: &'static str, role: Role, scope: Scope, handler: H) -> Route {
    line(Method::POST, path, role, scope, handler)
}

fn put<H: Handler<T, Admin>, T: 'static>(path: &'static str, role: Role, scope: Scope, handler: H) -> Route {
    line(Method::PUT, path, role, scope, handler)
}

fn patch<H: Handler<T, Admin>, T: 'static>(path: &'static str, role: Role, scope: Scope, handler: H) -> Route {
    line(Method::PATCH, path, role, scope, handler)
}

fn delete<H: Handler<T, Admin>, T: 'static>(path: &'static str, role: Role, scope: Scope, handler: H) -> Route {
    line(Method::DELETE, path, role, scope, handler)
}

fn open<H: Handler<T, Admin>, T: 'static>(path: &'static str, handler: H) -> Route {
    Route { need: None, ..line(Method::GET, path, Viewer, Scope::All, handler) }
}

/// Everything the admin plane answers.
///
/// What a tenant is held to (its own line below `/tenants/{name}`) is not for tokens of that tenant: who has a budget must
/// not be able to raise it, nor to have what is spent counted anew. What is below it, keys and the upstream credential, is.
#[rustfmt::skip]
pub(super) fn table() -> Vec<Route> {
    use Scope::{All, Filtered, Tenant};
    vec![
        open("/livez", health::live),
        open("/readyz", health::ready),
        get("/metrics", Viewer, All, health::metrics),

        get("/admin/v1/usage", Viewer, Filtered, usage::report),
        get("/admin/v1/savings", Viewer, Filtered, usage::savings),
        get("/admin/v1/requests", Viewer, Filtered, requests::list),
        get("/admin/v1/requests/{id}", Viewer, Filtered, requests::one),

        get("/admin/v1/cache/stats", Viewer, All, cache::stats),
        get("/admin/v1/cache/entries", Viewer, All, cache::entries),
        get("/admin/v1/cache/entries/{id}", Viewer, All, cache::entry),
        delete("/admin/v1/cache/entries/{id}", Operator, All, invalidate::delete),
        get("/admin/v1/cache/search", Viewer, All, cache::search),
        post("/admin/v1/cache/explain", Viewer, All, cache::explain),
        post("/admin/v1/cache/invalidate", Operator, All, invalidate::invalidate),
        post("/admin/v1/cache/feedback", Operator, All, decisions::feedback),
        get("/admin/v1/cache/learners", Viewer, All, decisions::learners),
        get("/admin/v1/cache/decisions", Viewer, All, decisions::list),
        get("/admin/v1/cache/decisions/{request}", Viewer, All, decisions::one),
        get("/admin/v1/cache/probing", Viewer, All, decisions::probing),
        get("/admin/v1/cache/shadow", Viewer, All, shadow::report),
        get("/admin/v1/store", Viewer, All, store::report),

        get("/admin/v1/tenants", Viewer, Filtered, tenants::list),
        post("/admin/v1/tenants", Operator, All, tenants::create),
        post("/admin/v1/tenants/apply", Operator, All, apply::apply),
        get("/admin/v1/tenants/{name}", Viewer, Tenant, tenants::one),
        patch("/admin/v1/tenants/{name}", Operator, All, tenants::change_one),
        delete("/admin/v1/tenants/{name}", Owner, All, tenants::delete),
        delete("/admin/v1/tenants/{name}/data", Owner, Tenant, tenant_data::delete),
        put("/admin/v1/tenants/{name}/upstream-key", Operator, Tenant, tenants::set_upstream_key),
        delete("/admin/v1/tenants/{name}/upstream-key", Operator, Tenant, tenants::remove_upstream_key),
        get("/admin/v1/tenants/{name}/limits", Viewer, Tenant, budgets::limits),
        get("/admin/v1/tenants/{name}/budgets", Viewer, Tenant, budgets::budgets),
        post("/admin/v1/tenants/{name}/budgets/rebuild", Operator, All, budgets::rebuild),
        get("/admin/v1/tenants/{name}/keys", Viewer, Tenant, keys::list),
        post("/admin/v1/tenants/{name}/keys", Operator, Tenant, keys::create),
        get("/admin/v1/tenants/{name}/keys/{key}", Viewer, Tenant, keys::one),
        patch("/admin/v1/tenants/{name}/keys/{key}", Operator, Tenant, keys::change_one),
        delete("/admin/v1/tenants/{name}/keys/{key}", Operator, Tenant, keys::revoke),
        delete("/admin/v1/tenants/{name}/keys/{key}/data", Owner, Tenant, tenant_data::delete_of_key),
        post("/admin/v1/tenants/{name}/keys/{key}/rotate", Operator, Tenant, keys::rotate),

        get("/admin/v1/tokens", Owner, All, tokens::list),
        post("/admin/v1/tokens", Owner, All, tokens::create),
        delete("/admin/v1/tokens/{name}", Owner, All, tokens::delete),

        get("/admin/v1/audit", Viewer, All, audit::trail),
        get("/admin/v1/audit/verify", Viewer, All, audit::verify),
        get("/admin/v1/alerts", Viewer, Filtered, alerts::list),
        post("/admin/v1/alerts/test", Operator, All, alerts::test),

        get("/admin/v1/prices", Viewer, All, prices::list),
        post("/admin/v1/prices/rerate", Operator, All, prices::rerate),
        post("/admin/v1/reload", Owner, All, reload::reload),
        get("/admin/v1/routes", Viewer, All, list),
    ]
}

/// The router. Each line of the table gets its own gate.
pub(super) fn router(state: Admin) -> Router {
    let mut router = Router::new();
    for Route { path, need, handler, .. } in table() {
        let guarded = match need {
            Some(need) => {
                handler.route_layer(middleware::from_fn_with_state(Gate { state: state.clone(), need }, authorise))
            }
            None => handler,
        };
        router = router.route(path, guarded);
    }
    router
        .fallback(|| async { Problem::not_found("page; see /livez, /readyz, /metrics and /admin/v1/routes") })
        .method_not_allowed_fallback(|| async {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this page does not take that method; see the `allow` header")
        })
        .with_state(state)
}

/// `GET /admin/v1/routes`
async fn list() -> Json<Value> {
    let line = |route: Route| {
        json!({
            "method": route.method.as_str(),
            "path": route.path,
            "role": route.need.map(|need| need.role),
            "scope": route.need.map(|need| need.scope.as_str()),
        })
    };
    Json(json!({ "routes": table().into_iter().map(line).collect::<Vec<_>>(), "next": null }))
}
