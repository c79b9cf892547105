use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;

use super::*;
use crate::admin::auth::Scope;
use crate::admin::routes::{Route, table};
use crate::ids::TenantId;
use crate::store::{DirectoryWrite, KeyRow, TenantRecord, TokenRow};
use crate::tenant::{Kind, Minted, Role, mint};

/// Somebody with a stored token.
struct Caller {
    minted: Minted,
    role: Role,
    tenant: Option<&'static str>,
}

fn callers() -> Vec<Caller> {
    let scopes = [None, Some("own"), Some("foreign")];
    let pairs = scopes.into_iter().flat_map(|tenant| Role::ALL.map(|role| (role, tenant)));
    pairs.map(|(role, tenant)| Caller { minted: mint(Kind::Token).unwrap(), role, tenant }).collect()
}

/// Brings the directory back to: tenants `own` and `foreign`, each with a key `app`, and the callers.
async fn set(plane: &Plane, callers: &[Caller]) {
    let mut writes = Vec::new();
    for name in ["own", "foreign"] {
        let tenant = TenantId::new(name);
        writes.push(DirectoryWrite::PutTenant(TenantRecord {
            tenant: tenant.clone(),
            declared: false,
            spec: "{}".to_owned(),
            credential: None,
            created_at: START,
            updated_at: START,
        }));
        writes.push(DirectoryWrite::PutKey(KeyRow {
            id: format!("{name:0<8}"),
            tenant,
            name: "app".to_owned(),
            hash: [1; 32],
            spec: "{}".to_owned(),
            expires_at: None,
            replaced_by: None,
            created_at: START,
            updated_at: START,
            used_at: None,
        }));
    }
    writes.extend(callers.iter().map(|caller| {
        DirectoryWrite::PutToken(TokenRow {
            id: caller.minted.id.clone(),
            name: format!("t-{}", caller.minted.id),
            hash: plane.directory.hash(Kind::Token, &caller.minted.secret),
            role: caller.role.as_str().to_owned(),
            tenant: caller.tenant.map(TenantId::new),
            expires_at: None,
            created_at: START,
            used_at: None,
        })
    }));
    let seen = plane.stores.directory.directory_version().await.unwrap();
    plane.stores.directory.change_directory(seen, &writes, &[]).await.unwrap().unwrap();
    plane.directory.look().await.unwrap();
}

fn path_of(route: &Route) -> String {
    let id = crate::ids::RequestId::at(START).to_string();
    let path = route.path.replace("{name}", "own").replace("{key}", "app");
    path.replace("{id}", &id).replace("{request}", &id)
}

/// Whether the table says that this caller gets in.
fn may(route: &Route, role: Role, tenant: Option<&str>) -> bool {
    let Some(need) = route.need else { return true };
    let in_scope = match (need.scope, tenant) {
        (_, None) | (Scope::Filtered, _) => true,
        (Scope::Tenant, Some(tenant)) => tenant == "own",
        (Scope::All, Some(_)) => false,
    };
    role >= need.role && in_scope
}

#[tokio::test]
async fn every_route_lets_in_whom_its_line_says_and_nobody_else() {
    let (plane, callers) = (Plane::new().await, callers());
    let mut let_in = BTreeMap::new();
    for route in table() {
        let path = path_of(&route);
        let at = format!("{} {}", route.method, route.path);
        for nobody in [None, Some("nonsense"), Some("ra-nonsense"), Some("")] {
            let (status, _) = plane.request(nobody, route.method.clone(), &path, Some(&json!({}))).await;
            assert_eq!(status == StatusCode::UNAUTHORIZED, route.need.is_some(), "{at} as {nobody:?}: {status}");
        }
        for caller in &callers {
            set(&plane, &callers).await;
            let token = caller.minted.secret.expose();
            let (status, body) = plane.request(Some(token), route.method.clone(), &path, Some(&json!({}))).await;
            let who = format!("{at} as {} of {:?}: {status} {body}", caller.role, caller.tenant);
            assert_ne!(status, StatusCode::UNAUTHORIZED, "{who}");
            let expected = may(&route, caller.role, caller.tenant);
            assert_eq!(status != StatusCode::FORBIDDEN, expected, "{who}");
            if caller.tenant == Some("own") {
                assert!(!body.contains("foreign"), "{who}");
            }
            *let_in.entry((caller.role, caller.tenant)).or_insert(0) += usize::from(expected);
        }
    }
    // The table itself could be wrong in the same way; so much must be true of it.
    for tenant in [None, Some("own")] {
        let count = |role| let_in[&(role, tenant)];
        assert!(
            count(Role::Viewer) < count(Role::Operator) && count(Role::Operator) < count(Role::Owner),
            "{let_in:?}"
        );
    }
}

#[test]
fn the_table_gives_changes_to_operators_and_what_raises_somebody_to_owners() {
    for route in table() {
        let at = format!("{} {}", route.method, route.path);
        let Some(need) = route.need else {
            assert!(matches!(route.path, "/livez" | "/readyz"), "{at} needs nobody");
            continue;
        };
        let reads = route.method == Method::GET || route.path == "/admin/v1/cache/explain";
        assert!(reads || need.role >= Role::Operator, "{at}");
        let raising =
            route.path.contains("/tokens") || route.path.ends_with("/reload") || route.path.ends_with("/data");
        assert!(!raising || need.role == Role::Owner, "{at}");
        let ends_a_tenant = route.method == Method::DELETE && route.path.ends_with("/tenants/{name}");
        assert!(!ends_a_tenant || need.role == Role::Owner, "{at}");
        assert!(need.scope != Scope::Tenant || route.path.contains("/tenants/{name}"), "{at}");
        assert!(need.scope != Scope::Filtered || reads, "{at}");
    }
}

/// Read from the source text, because a router cannot be asked what it has.
#[tokio::test]
async fn no_route_is_made_anywhere_but_from_the_table() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/admin");
    let mut made = Vec::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if [".route(", ".nest(", ".merge(", ".route_service(", ".nest_service("]
                .iter()
                .any(|call| code.contains(call))
            {
                made.push(format!("{}:{}", path.file_name().unwrap().display(), number + 1));
            }
        }
    }
    assert_eq!(made.len(), 1, "{made:?}");
    assert!(made[0].starts_with("routes.rs:"), "{made:?}");
    let plane = Plane::new().await;
    let shown = plane.get("/routes").await["routes"].as_array().unwrap().len();
    assert_eq!(shown, table().len());
}

#[tokio::test]
async fn an_operator_cannot_raise_anybody_and_a_tenants_own_token_cannot_raise_its_tenant() {
    let (plane, callers) = (Plane::new().await, callers());
    set(&plane, &callers).await;
    let of =
        |role, tenant| callers.iter().find(|c| c.role == role && c.tenant == tenant).unwrap().minted.secret.expose();
    let before = plane.stores.directory.directory().await.unwrap();
    let more = json!({ "limits": { "rpm": 1_000_000 }, "budgets": [] });
    for (token, method, path, body) in [
        (of(Role::Operator, None), Method::POST, "/admin/v1/tokens", json!({ "name": "me", "role": "owner" })),
        (of(Role::Owner, Some("own")), Method::POST, "/admin/v1/tokens", json!({ "name": "me", "role": "owner" })),
        (of(Role::Owner, Some("own")), Method::PATCH, "/admin/v1/tenants/own", more.clone()),
        (
            of(Role::Owner, Some("own")),
            Method::PATCH,
            "/admin/v1/tenants/foreign/keys/app",
            json!({ "enabled": false }),
        ),
        (of(Role::Owner, Some("own")), Method::POST, "/admin/v1/tenants/apply", json!({ "tenants": [] })),
        (of(Role::Owner, Some("own")), Method::POST, "/admin/v1/tenants/own/budgets/rebuild", json!({})),
        (of(Role::Viewer, None), Method::PATCH, "/admin/v1/tenants/own", more),
    ] {
        let (status, body) = plane.request(Some(token), method, path, Some(&body)).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{path}: {body}");
    }
    assert_eq!(plane.stores.directory.directory().await.unwrap(), before);
    // An encoded name is the same name; one that only begins alike is not.
    for (path, allowed) in [("/admin/v1/tenants/o%77n/keys", true), ("/admin/v1/tenants/own2/keys", false)] {
        let (status, body) = plane.request(Some(of(Role::Viewer, Some("own"))), Method::GET, path, None).await;
        assert_eq!(status == StatusCode::OK, allowed, "{path}: {status} {body}");
        assert_eq!(status == StatusCode::FORBIDDEN, !allowed, "{path}: {status} {body}");
    }
}

#[tokio::test]
async fn a_right_token_is_taken_whatever_others_of_its_address_have_guessed() {
    let plane = Plane::new().await;
    let ask = async |token: &str| {
        let request =
            Request::builder().uri("/admin/v1/tenants").header(header::AUTHORIZATION, format!("Bearer {token}"));
        let mut request = request.body(Body::empty()).unwrap();
        request.extensions_mut().insert(crate::admin::Peer("192.0.2.1".parse().unwrap()));
        plane.router.clone().call(request).await.unwrap().status().as_u16()
    };
    for _ in 0..20 {
        assert_eq!(ask("wrong").await, 401);
    }
    assert_eq!((ask("wrong").await, ask(TOKEN).await), (429, 200));
}

#[tokio::test]
async fn a_token_is_shown_once_and_ends_when_it_expires_or_is_deleted() {
    let plane = Plane::new().await;
    let made = plane.post("/tokens", json!({ "name": "ci", "role": "viewer", "expires_in": "1h" })).await;
    let lasting = plane.post("/tokens", json!({ "name": "grafana", "role": "viewer" })).await;
    let (token, other) = (text(&made["secret"]).to_owned(), text(&lasting["secret"]).to_owned());
    let ask = async |token: &str| plane.request(Some(token), Method::GET, "/admin/v1/tenants", None).await;
    assert_eq!(ask(&token).await.0, StatusCode::OK);
    assert!(!plane.everything_stored().await.contains(&token), "only a hash is kept");
    assert!(!plane.get("/tokens").await.to_string().contains(&token[11..]));
    plane.clock.advance_ms(3_600_000);
    let (status, body) = ask(&token).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(body.contains("expired"), "{body}");
    assert_eq!(ask(&other).await.0, StatusCode::OK);
    plane.ask(Method::DELETE, "/tokens/grafana", &Value::Null).await;
    assert_eq!(ask(&other).await.0, StatusCode::UNAUTHORIZED);
    let last = if other.ends_with('x') { 'y' } else { 'x' };
    let (_, mistyped) = ask(&format!("{}{last}", &other[..other.len() - 1])).await;
    assert!(mistyped.contains("mistyped"), "{mistyped}");
    assert!(
        plane.refused(409, Method::POST, "/tokens", json!({ "name": "ci", "role": "owner" })).await.contains("already")
    );
    for bad in [
        json!({ "name": "x", "role": "root" }),
        json!({ "name": "loopback", "role": "viewer" }),
        json!({ "name": "start", "role": "viewer" }),
        json!({ "name": "SIGHUP", "role": "viewer" }),
        json!({ "name": "configuration file", "role": "viewer" }),
        json!({ "name": "0123abcd", "role": "viewer" }),
        json!({ "name": "x", "role": "viewer", "tenant": "nobody" }),
        json!({ "name": "x", "role": "viewer", "hash": "x" }),
        json!({ "name": "x" }),
    ] {
        plane.refused(422, Method::POST, "/tokens", bad).await;
    }
}
