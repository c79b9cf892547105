use serde_json::json;

use super::*;
use crate::config::Right;
use crate::ids::TenantId;
use crate::store::{BoxFuture, DirectoryImage, DirectoryStore, DirectoryWrite, StoreError, verify_audit};
use crate::tenant::{Credential, Kind, Noted, mint};

const DAY: u64 = 24 * 60 * 60 * 1_000;

async fn acme(plane: &Plane) -> String {
    plane.post("/tenants", json!({ "name": "acme", "limits": { "rpm": 60 } })).await;
    text(&plane.post("/tenants/acme/keys", json!({ "name": "app" })).await["secret"]).to_owned()
}

#[tokio::test]
async fn a_new_key_works_on_every_replica_and_carries_what_it_is_held_to() {
    let plane = Plane::new().await;
    let other = plane.replica().await;
    plane.post("/tenants", json!({ "name": "acme", "limits": { "rpm": 60 }, "cache": { "mode": "exact" } })).await;
    let made = plane
        .post(
            "/tenants/acme/keys",
            json!({
                "name": "app", "models": ["gpt-4o*"], "routes": ["/v1/chat/*"],
                "rights": ["cache:inspect"], "limits": { "tpm": 9 },
            }),
        )
        .await;
    let key = text(&made["secret"]);
    assert_eq!(refusal(&other, key), Some(AuthError::Unknown), "it has not looked yet");
    assert!(other.look().await.unwrap());
    for directory in [&*plane.directory, &other] {
        let caller = call(directory, key).unwrap();
        assert_eq!((caller.tenant.as_str(), caller.key.as_str()), ("acme", "acme/app"));
        assert_eq!((caller.terms.tenant.limits.rpm, caller.terms.key.tpm), (Some(60), Some(9)));
        assert_eq!(caller.terms.key_name, "app");
        assert!(caller.may(Right::CacheInspect) && !caller.may(Right::Rem) && !caller.anonymous);
        assert_eq!((caller.may_use("gpt-4o-mini"), caller.may_use("o1")), (Ok(()), Err(AuthError::Model)));
        assert_eq!(caller.may_call("/v1/chat/completions"), Ok(()));
        assert_eq!(caller.may_call("/v1/embeddings"), Err(AuthError::Route));
        assert!(matches!(&caller.credential, Credential::Held(held) if held.expose() == "sk-shared"));
    }
    let stored = plane.everything_stored().await;
    assert!(!stored.contains(&key[11..54]), "the secret is nowhere");
    assert!(!plane.get("/tenants/acme/keys").await.to_string().contains(&key[11..54]));
    assert_eq!(refusal(&other, mint(Kind::Key).unwrap().secret.expose()), Some(AuthError::Unknown));
    // The public id alone is worth nothing.
    let mut row = plane.stores.directory.directory().await.unwrap().keys.remove(0);
    row.hash[31] ^= 1;
    let seen = plane.stores.directory.directory_version().await.unwrap();
    plane.stores.directory.change_directory(seen, &[DirectoryWrite::PutKey(row)], &[]).await.unwrap().unwrap();
    other.look().await.unwrap();
    assert_eq!(refusal(&other, key), Some(AuthError::Unknown));
}

#[tokio::test]
async fn a_key_that_is_revoked_or_disabled_is_refused_by_every_replica_after_its_next_look() {
    let plane = Plane::new().await;
    let key = acme(&plane).await;
    let other = plane.replica().await;
    let everywhere = async || {
        other.look().await.unwrap();
        let (here, there) = (refusal(&plane.directory, &key), refusal(&other, &key));
        assert_eq!(here, there);
        here
    };
    assert_eq!(everywhere().await, None);
    for (path, expected) in
        [("/tenants/acme/keys/app", AuthError::KeyDisabled), ("/tenants/acme", AuthError::TenantDisabled)]
    {
        plane.ask(Method::PATCH, path, &json!({ "enabled": false })).await;
        assert_eq!(everywhere().await, Some(expected));
        plane.ask(Method::PATCH, path, &json!({ "enabled": true })).await;
        assert_eq!(everywhere().await, None);
    }
    assert_eq!(plane.ask(Method::DELETE, "/tenants/acme/keys/app", &Value::Null).await.0, 200);
    assert_eq!(everywhere().await, Some(AuthError::Unknown));
    assert_eq!(plane.ask(Method::DELETE, "/tenants/acme/keys/app", &Value::Null).await.0, 404);
}

#[tokio::test]
async fn a_rotated_key_works_until_its_overlap_ends_and_stays_the_same_key() {
    let plane = Plane::new().await;
    plane.post("/tenants", json!({ "name": "acme" })).await;
    let first =
        plane.post("/tenants/acme/keys", json!({ "name": "app", "expires_in": "90d", "limits": { "rpm": 5 } })).await;
    let rotated = plane.post("/tenants/acme/keys/app/rotate", json!({ "overlap": "24h" })).await;
    let (old, new) = (text(&first["secret"]), text(&rotated["secret"]));
    let (before, after) = (call(&plane.directory, old).unwrap(), call(&plane.directory, new).unwrap());
    assert_eq!((before.key, before.terms), (after.key, after.terms), "entries, limits and bills go on");
    assert_eq!(rotated["key"]["expires_at"], START + 90 * DAY);
    // To whoever uses it, it is one key: what is changed by its name is changed for both.
    plane.ask(Method::PATCH, "/tenants/acme/keys/app", &json!({ "limits": { "rpm": 7 } })).await;
    for key in [old, new] {
        assert_eq!(call(&plane.directory, key).unwrap().terms.key.rpm, Some(7));
    }
    let replaced = format!("/tenants/acme/keys/{}/rotate", text(&first["key"]["id"]));
    assert!(plane.refused(409, Method::POST, &replaced, json!({})).await.contains("replaced"));
    plane.clock.advance_ms(DAY - 1);
    assert_eq!(refusal(&plane.directory, old), None);
    plane.clock.advance_ms(1);
    assert_eq!((refusal(&plane.directory, old), refusal(&plane.directory, new)), (Some(AuthError::Expired), None));
    plane.clock.advance_ms(89 * DAY);
    assert_eq!(refusal(&plane.directory, new), Some(AuthError::Expired));
    // A third takes its place, and what has ended is cleared away; revoking by name ends all.
    let third = plane.post("/tenants/acme/keys/app/rotate", json!({ "overlap": "0s" })).await;
    assert_eq!(refusal(&plane.directory, text(&third["secret"])), None);
    assert_eq!(plane.get("/tenants/acme/keys").await["keys"].as_array().unwrap().len(), 2);
    let (_, revoked) = plane.ask(Method::DELETE, "/tenants/acme/keys/app", &Value::Null).await;
    assert_eq!(revoked["revoked"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_tenants_own_upstream_credential_is_used_sealed_and_never_shown() {
    let plane = Plane::new().await;
    let key = acme(&plane).await;
    let held = || match call(&plane.directory, &key).unwrap().credential {
        Credential::Held(held) => held.expose().to_owned(),
        Credential::Caller => String::new(),
    };
    let (status, shown) =
        plane.ask(Method::PUT, "/tenants/acme/upstream-key", &json!({ "api_key": "sk-acme-42" })).await;
    assert_eq!((status, &shown["has_upstream_key"]), (200, &json!(true)));
    assert_eq!(held(), "sk-acme-42");
    assert!(!shown.to_string().contains("sk-acme-42") && !plane.everything_stored().await.contains("sk-acme-42"));
    // Moved to another tenant by whoever has the database, it does not open, and the shared one does not take its place.
    let image = plane.stores.directory.directory().await.unwrap();
    let record = |name: &str| image.tenants.iter().find(|record| record.tenant.as_str() == name).unwrap().clone();
    plane.post("/tenants", json!({ "name": "globex" })).await;
    let other = text(&plane.post("/tenants/globex/keys", json!({ "name": "app" })).await["secret"]).to_owned();
    let seen = plane.stores.directory.directory_version().await.unwrap();
    let moved = crate::store::TenantRecord { tenant: TenantId::new("globex"), ..record("acme") };
    plane.stores.directory.change_directory(seen, &[DirectoryWrite::PutTenant(moved)], &[]).await.unwrap().unwrap();
    plane.directory.look().await.unwrap();
    assert_eq!(refusal(&plane.directory, &other), Some(AuthError::Credential));
    plane.ask(Method::DELETE, "/tenants/acme/upstream-key", &Value::Null).await;
    assert_eq!(held(), "sk-shared");
    for bad in [
        json!({}),
        json!({ "api_key": "" }),
        json!({ "api_key": "a b" }),
        json!({ "api_key": "x\ny" }),
        json!({ "api_key": 1 }),
        json!({ "api_key": "sk-1", "name": "x" }),
    ] {
        let told = plane.refused(422, Method::PUT, "/tenants/acme/upstream-key", bad).await;
        assert!(!told.contains("a b"), "{told}");
    }
}

#[tokio::test]
async fn what_is_declared_belongs_to_the_file_but_its_tenant_may_have_keys_made_here() {
    let plane = Plane::new().await;
    for (method, path, body) in [
        (Method::PATCH, "/tenants/filed", json!({ "enabled": false })),
        (Method::DELETE, "/tenants/filed", Value::Null),
        (Method::PUT, "/tenants/filed/upstream-key", json!({ "api_key": "sk-1" })),
        (Method::PATCH, "/tenants/filed/keys/web", json!({ "enabled": false })),
        (Method::DELETE, "/tenants/filed/keys/web", Value::Null),
        (Method::POST, "/tenants/filed/keys/web/rotate", json!({})),
        (Method::POST, "/tenants/apply", json!({ "tenants": [{ "name": "filed" }] })),
    ] {
        let told = plane.refused(409, method, path, body).await;
        assert!(told.contains("is declared in the configuration file; change it there"), "{path}: {told}");
    }
    plane.refused(409, Method::POST, "/tenants", json!({ "name": "filed" })).await;
    plane.refused(409, Method::POST, "/tenants/filed/keys", json!({ "name": "web" })).await;
    assert_eq!(refusal(&plane.directory, WEB), None);
    let made = plane.post("/tenants/filed/keys", json!({ "name": "batch" })).await;
    assert_eq!(call(&plane.directory, text(&made["secret"])).unwrap().key.as_str(), "filed/batch");
    let shown = plane.get("/tenants/filed").await;
    assert_eq!((&shown["declared"], &shown["keys"]), (&json!(true), &json!(2)));
    let keys = plane.get("/tenants/filed/keys").await;
    assert_eq!((&keys["keys"][0]["declared"], &keys["keys"][1]["declared"]), (&json!(true), &json!(false)));
}

#[tokio::test]
async fn a_declared_tenant_takes_the_place_of_a_stored_one_and_is_disabled_when_it_is_declared_no_more() {
    let plane = Plane::new().await;
    let key = acme(&plane).await;
    let mut config = plane.config.clone();
    let spec = crate::config::TenantSpec {
        limits: crate::config::RateLimits { rpm: Some(7), ..Default::default() },
        ..TenantSpec::default()
    };
    config.tenants.push(Tenant { name: "acme".to_owned(), keys: Vec::new(), upstream_api_key: None, spec });
    let done = plane.directory.declare(&config, "test").await.unwrap();
    assert_eq!((done.declared, done.undeclared), (1, 0));
    assert_eq!(call(&plane.directory, &key).unwrap().terms.tenant.limits.rpm, Some(7));
    plane.refused(409, Method::PATCH, "/tenants/acme", json!({ "enabled": true })).await;
    assert_eq!(plane.directory.declare(&config, "test").await.unwrap(), crate::tenant::Reconciled::default());

    let done = plane.directory.declare(&plane.config, "test").await.unwrap();
    assert_eq!((done.declared, done.undeclared), (0, 1));
    assert_eq!(refusal(&plane.directory, &key), Some(AuthError::TenantDisabled));
    plane.ask(Method::PATCH, "/tenants/acme", &json!({ "enabled": true })).await;
    assert_eq!(refusal(&plane.directory, &key), None, "an operator may take it over");
}

#[tokio::test]
async fn bodies_set_what_they_are_meant_to_set_and_nothing_else() {
    let plane = Plane::new().await;
    acme(&plane).await;
    let before = plane.stores.directory.directory().await.unwrap();
    for member in ["declared", "id", "hash", "tenant", "credential", "created_at", "used_at", "replaced_by", "secret"] {
        for value in [json!("x"), json!(true), Value::Null] {
            for (method, path, base) in [
                (Method::POST, "/tenants", json!({ "name": "new" })),
                (Method::PATCH, "/tenants/acme", json!({})),
                (Method::POST, "/tenants/acme/keys", json!({ "name": "new" })),
                (Method::PATCH, "/tenants/acme/keys/app", json!({})),
                (Method::POST, "/tenants/apply", json!({ "tenants": [{ "name": "new" }] })),
            ] {
                let mut body = base;
                match body.get_mut("tenants") {
                    Some(tenants) => tenants[0][member] = value.clone(),
                    None => body[member] = value.clone(),
                }
                let told = plane.refused(422, method, path, body).await;
                assert!(told.contains(member), "{path} {member}: {told}");
            }
        }
    }
    let (_, problem) = plane
        .ask(
            Method::PATCH,
            "/tenants/acme",
            &json!({ "budgets": [{ "period": "day", "usd": "0" }], "limits": { "rpm": 0 } }),
        )
        .await;
    let places: Vec<&str> = problem["errors"].as_array().unwrap().iter().map(|wrong| text(&wrong["place"])).collect();
    assert_eq!(places, ["limits.rpm", "budgets[0].usd"]);
    for body in
        [json!([]), json!("x"), json!({ "name": "a/b" }), json!({ "name": "p-0123456789abcdef0123456789abcdef" })]
    {
        plane.refused(422, Method::POST, "/tenants", body).await;
    }
    for expiry in [
        json!({ "expires_in": "0s" }),
        json!({ "expires_at": 5 }),
        json!({ "expires_in": "1d", "expires_at": START + DAY }),
    ] {
        let mut body = expiry;
        body["name"] = json!("new");
        plane.refused(422, Method::POST, "/tenants/acme/keys", body).await;
    }
    assert_eq!(plane.stores.directory.directory().await.unwrap(), before);
}

#[tokio::test]
async fn every_change_leaves_a_row_with_who_and_before_and_after() {
    let plane = Plane::new().await;
    acme(&plane).await;
    let made = plane.post("/tokens", json!({ "name": "onboarding", "role": "operator" })).await;
    let patch = json!({ "limits": { "rpm": 99 } });
    plane.request(Some(text(&made["secret"])), Method::PATCH, "/admin/v1/tenants/acme", Some(&patch)).await;
    let trail = plane.get("/audit").await;
    let row = &trail["data"][0];
    assert_eq!((text(&row["actor"]), text(&row["action"])), ("onboarding", "tenant.change"));
    assert_eq!(row["what"]["tenant"], "acme");
    let rpm = |side: &str| row["result"][side]["spec"]["limits"]["rpm"].clone();
    assert_eq!((rpm("before"), rpm("after")), (json!(60), json!(99)));
    plane.ask(Method::PATCH, "/tenants/acme", &patch).await;
    let actions: Vec<String> = plane.get("/audit").await["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| text(&row["action"]).to_owned())
        .collect();
    assert_eq!(
        actions,
        ["tenant.change", "token.create", "key.create", "tenant.create", "tenant.declare"],
        "no change, no row"
    );
    assert!(verify_audit(&*plane.stores.audit).await.unwrap().ok);
    assert_eq!(plane.get("/audit/verify").await["ok"], true);
}

#[tokio::test]
async fn a_tenant_that_is_deleted_takes_its_keys_and_its_tokens_with_it() {
    let plane = Plane::new().await;
    let key = acme(&plane).await;
    let token = plane.post("/tokens", json!({ "name": "theirs", "role": "owner", "tenant": "acme" })).await;
    assert_eq!(plane.ask(Method::DELETE, "/tenants/acme", &Value::Null).await.0, 200);
    assert_eq!(refusal(&plane.directory, &key), Some(AuthError::Unknown));
    acme(&plane).await;
    assert_eq!(refusal(&plane.directory, &key), Some(AuthError::Unknown), "a later tenant of the name is another");
    let (status, _) = plane.request(Some(text(&token["secret"])), Method::GET, "/admin/v1/tenants/acme", None).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
}

/// A store that does not answer.
struct Silent;

impl DirectoryStore for Silent {
    fn directory_version(&self) -> BoxFuture<'_, u64> {
        Box::pin(async { Err(StoreError::Failed("away".into())) })
    }

    fn directory(&self) -> BoxFuture<'_, DirectoryImage> {
        Box::pin(async { Err(StoreError::Failed("away".into())) })
    }

    fn change_directory<'a>(
        &'a self,
        _: u64,
        _: &'a [DirectoryWrite],
        _: &'a [crate::store::AuditRow],
    ) -> BoxFuture<'a, Option<u64>> {
        Box::pin(async { Err(StoreError::Failed("away".into())) })
    }

    fn note_used<'a>(&'a self, _: &'a [(String, u64)]) -> BoxFuture<'a, ()> {
        Box::pin(async { Err(StoreError::Failed("away".into())) })
    }
}

#[tokio::test]
async fn while_the_store_is_silent_known_keys_are_served_and_others_are_asked_to_come_again() {
    let plane = Plane::new().await;
    let away = Directory::new(&plane.config, plane.secret.clone()).with_store(Arc::new(Silent), plane.clock.clone());
    let perhaps_new = mint(Kind::Key).unwrap();
    let perhaps_new = perhaps_new.secret.expose();
    assert!(away.look().await.is_err());
    assert_eq!(
        (refusal(&away, WEB), refusal(&away, perhaps_new)),
        (None, Some(AuthError::Unknown)),
        "a moment is nothing"
    );
    plane.clock.advance_ms(5_001);
    assert!(away.look().await.is_err());
    assert_eq!((refusal(&away, WEB), refusal(&away, perhaps_new)), (None, Some(AuthError::Unavailable)));
    assert_eq!(refusal(&away, "sk-of-somebody"), Some(AuthError::Unknown), "it is nobody's, whatever the store has");
}

#[tokio::test]
async fn it_is_noted_when_a_key_was_last_used_and_that_is_no_change() {
    let plane = Plane::new().await;
    let key = acme(&plane).await;
    let version = plane.stores.directory.directory_version().await.unwrap();
    plane.clock.advance_ms(60_000);
    call(&plane.directory, &key).unwrap();
    let mut noted = Noted::default();
    plane.directory.note_used(&mut noted).await.unwrap();
    assert_eq!(plane.get("/tenants/acme/keys/app").await["used_at"], START + 60_000);
    assert_eq!(plane.stores.directory.directory_version().await.unwrap(), version);
    // A change in between does not forget what is not noted yet.
    plane.clock.advance_ms(60_000);
    call(&plane.directory, &key).unwrap();
    plane.ask(Method::PATCH, "/tenants/acme/keys/app", &json!({ "limits": { "rpm": 1 } })).await;
    plane.directory.note_used(&mut noted).await.unwrap();
    assert_eq!(plane.get("/tenants/acme/keys/app").await["used_at"], START + 120_000);
}

#[tokio::test]
async fn a_spec_of_a_newer_program_is_refused_instead_of_being_without_limits() {
    let plane = Plane::new().await;
    let key = acme(&plane).await;
    let mut record = plane.stores.directory.directory().await.unwrap().tenants.remove(0);
    record.spec = r#"{"limits":{"rpm":1},"quota_of_2031":7}"#.to_owned();
    let seen = plane.stores.directory.directory_version().await.unwrap();
    plane.stores.directory.change_directory(seen, &[DirectoryWrite::PutTenant(record)], &[]).await.unwrap().unwrap();
    plane.directory.look().await.unwrap();
    assert_eq!(refusal(&plane.directory, &key), Some(AuthError::Unreadable));
    plane.refused(409, Method::PATCH, "/tenants/acme", json!({ "limits": { "rpm": 5 } })).await;
    assert_eq!(plane.get("/tenants/acme").await["spec"].as_str(), Some(r#"{"limits":{"rpm":1},"quota_of_2031":7}"#));
}
