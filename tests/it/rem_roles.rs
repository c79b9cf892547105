//! The roles that callers' SQL runs as on PostgreSQL: there while they are needed, gone with their key or tenant.
//!
//! Needs PostgreSQL at DATABASE_URL.

use std::sync::Arc;

use http::{Method, StatusCode};
use remora::config::{Config, Secret};
use serde_json::{Value, json};

use crate::fleet::Database;
use crate::rem_http::{with_key, write};
use crate::rig::{Plan, Rig};

async fn admin(rig: &Rig, method: Method, path: &str, body: Option<Value>) -> Value {
    let answer = rig.admin(method, &format!("/admin/v1{path}"), body).await;
    assert!(answer.status.is_success(), "{path}: {}", answer.text());
    answer.json()
}

/// A key of a tenant that may ask REM; its secret.
async fn key(rig: &Rig, tenant: &str, name: &str) -> String {
    let body = json!({ "name": name, "rights": ["rem"] });
    let told = admin(rig, Method::POST, &format!("/tenants/{tenant}/keys"), Some(body)).await;
    told["secret"].as_str().unwrap().to_owned()
}

/// Asks in SQL and says which role that runs as, by its number.
async fn role(rig: &Rig, database: &Database, secret: &str, caller: &str) -> i64 {
    let body = json!({ "query": "SELECT name FROM entities" });
    let answer = with_key(rig, Method::POST, "/rem/v1/query", secret, Some(body)).await;
    assert_eq!((answer.status, &answer.json()["count"]), (StatusCode::OK, &json!(1)), "{}", answer.text());
    let of = format!(
        "SELECT r.oid::bigint FROM pg_roles r JOIN rem_callers c ON c.role = r.rolname WHERE c.key = '{caller}'"
    );
    database.number(&of).await
}

#[tokio::test(flavor = "multi_thread")]
async fn rem_roles_of_callers_go_with_their_key_and_with_their_tenant() {
    let database = Database::new().await;
    let url = database.url().parse::<remora::config::StoreUrl>().unwrap();
    let change = move |config: &mut Config| {
        config.store.url = url.clone();
        config.server.passthrough = false;
        config.upstream.api_key = Some(Secret::new("sk-upstream".to_owned()));
    };
    let rig = Rig::with(Plan { change: Arc::new(change), ..Plan::default() }).await;
    let mut roles = Vec::new();
    for (tenant, name) in [("acme", "one"), ("acme", "two"), ("globex", "one")] {
        if name == "one" {
            admin(&rig, Method::POST, "/tenants", Some(json!({ "name": tenant }))).await;
        }
        let secret = key(&rig, tenant, name).await;
        write(&rig, &secret, "entities", json!({ "name": "diary" })).await;
        roles.push(role(&rig, &database, &secret, &format!("{tenant}/{name}")).await);
    }
    let there = async || {
        let mut there = Vec::new();
        for role in &roles {
            there.push(database.number(&format!("SELECT count(*) FROM pg_roles WHERE oid = {role}")).await == 1);
        }
        there
    };
    assert_eq!(there().await, [true; 3]);
    admin(&rig, Method::DELETE, "/tenants/acme/keys/one", None).await;
    assert_eq!(there().await, [false, true, true]);
    admin(&rig, Method::DELETE, "/tenants/acme", None).await;
    assert_eq!(there().await, [false, false, true]);
    admin(&rig, Method::DELETE, "/tenants/globex/data", None).await;
    assert_eq!(there().await, [false; 3]);
    assert_eq!(database.number("SELECT count(*) FROM rem_callers").await, 0);
}
