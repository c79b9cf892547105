use serde_json::json;

use super::*;
use crate::ids::{KeyId, RemId, TenantId};
use crate::rem::ingest::entities;
use crate::store::rem::{Owner, RemRow, RemTable, RemWrite, Scope};
use crate::store::sample::{delete, put, row};
use crate::store::{DirectoryWrite, EntryFilter, TenantRecord};

#[tokio::test]
async fn a_name_with_something_left_is_given_only_to_who_says_that_it_is_meant() {
    let plane = Plane::new().await;
    plane.post("/tenants", json!({ "name": "acme" })).await;
    plane.post("/tenants/acme/keys", json!({ "name": "default" })).await;
    // The sample is written by the key `acme/default`.
    plane.stores.entries.apply(&[put("acme", 1)]).await.unwrap();
    plane.ask(Method::DELETE, "/tenants/acme/keys/default", &Value::Null).await;
    let key = || json!({ "name": "default" });
    let told = plane.refused(409, Method::POST, "/tenants/acme/keys", key()).await;
    assert!(told.contains("acme/default") && told.contains("adopt_data"), "{told}");
    let both = |adopt: bool| json!({ "tenants": [{ "name": "acme", "keys": [key()] }], "adopt_data": adopt });
    let told = plane.refused(409, Method::POST, "/tenants/apply", both(false)).await;
    assert!(told.starts_with("tenants[0]: ") && told.contains("acme/default"), "{told}");
    plane.post("/tenants/acme/keys", json!({ "name": "other" })).await;
    plane.post("/tenants/acme/keys", json!({ "name": "default", "adopt_data": true })).await;

    plane.ask(Method::DELETE, "/tenants/acme", &Value::Null).await;
    let told = plane.refused(409, Method::POST, "/tenants", json!({ "name": "acme" })).await;
    assert!(told.contains("DELETE /admin/v1/tenants/acme/data") && told.contains("adopt_data"), "{told}");
    let mut dry = both(false);
    dry["dry_run"] = json!(true);
    plane.refused(409, Method::POST, "/tenants/apply", dry).await;
    plane.stores.entries.apply(&[delete("acme", 1)]).await.unwrap();
    plane.stores.ledger.append(&[row("acme", 1)]).await.unwrap();
    plane.refused(409, Method::POST, "/tenants", json!({ "name": "acme" })).await;
    plane.post("/tenants/apply", both(true)).await;
    plane.post("/tenants/apply", both(false)).await;
    plane.ask(Method::DELETE, "/tenants/acme", &Value::Null).await;
    plane.post("/tenants", json!({ "name": "acme", "adopt_data": true })).await;
    plane.post("/tenants", json!({ "name": "globex" })).await;
}

#[tokio::test]
async fn what_a_revoked_key_has_left_can_be_deleted_and_nothing_else_goes() {
    let plane = Plane::new().await;
    plane.post("/tenants", json!({ "name": "acme" })).await;
    plane.post("/tenants/acme/keys", json!({ "name": "default" })).await;
    // The sample is written by the key `acme/default`.
    plane.stores.entries.apply(&[put("acme", 1)]).await.unwrap();
    let (acme, rem) = (TenantId::new("acme"), plane.stores.rem.clone().unwrap());
    let key = |name: &str| Owner::Key(KeyId::new(format!("acme/{name}")));
    let row = |number: u8, owner: Owner| RemWrite::Put {
        row: Box::new(RemRow {
            id: RemId::from_bytes([number; 16]),
            table: RemTable::Entities,
            owner,
            name: "diary".to_owned(),
            text: String::new(),
            label: String::new(),
            uri: None,
            tags: Vec::new(),
            data: serde_json::Map::new(),
            aliases: Vec::new(),
            starts_at: None,
            ends_at: None,
            previous: None,
            part_of: None,
            entry: None,
            writer: None,
            made: false,
            created_at: START,
            updated_at: START,
            deleted_at: None,
        }),
        vector: None,
        edges: None,
    };
    let writes = [row(1, key("default")), row(2, key("default")), row(3, key("other")), row(4, Owner::Public)];
    rem.rem_apply(&acme, &writes).await.unwrap();
    plane.ask(Method::DELETE, "/tenants/acme/keys/default", &Value::Null).await;
    assert!(rem.rem_owns(&acme, &key("default")).await.unwrap(), "a key may be revoked to be made anew");
    let told = plane.refused(409, Method::POST, "/tenants/acme/keys", json!({ "name": "default" })).await;
    assert!(told.contains("DELETE /admin/v1/tenants/acme/keys/default/data"), "{told}");

    plane.refused(404, Method::DELETE, "/tenants/acme/keys/nobody/data", Value::Null).await;
    let (status, told) = plane.ask(Method::DELETE, "/tenants/acme/keys/default/data", &Value::Null).await;
    assert_eq!((status, &told["rem"]), (200, &json!(2)), "{told}");
    assert!(!rem.rem_owns(&acme, &key("default")).await.unwrap());
    for owner in [key("other"), Owner::Public] {
        assert!(rem.rem_owns(&acme, &owner).await.unwrap(), "{owner}");
    }
    assert!(plane.stores.entries.list(Some(&acme), &EntryFilter::default(), None, 1).await.unwrap().is_empty());
    plane.refused(404, Method::DELETE, "/tenants/acme/keys/default/data", Value::Null).await;
    plane.post("/tenants/acme/keys", json!({ "name": "default" })).await;
}

#[tokio::test]
async fn a_key_that_has_asked_something_has_left_it_in_the_ledger() {
    let plane = Plane::new().await;
    plane.post("/tenants", json!({ "name": "acme" })).await;
    let key = || json!({ "name": "default" });
    plane.post("/tenants/acme/keys", key()).await;
    // The sample was asked with the key `acme/default`; those of another tenant's key of this name are another's.
    plane.stores.ledger.append(&[row("globex", 2)]).await.unwrap();
    plane.ask(Method::DELETE, "/tenants/acme/keys/default", &Value::Null).await;
    plane.post("/tenants/acme/keys", key()).await;
    plane.stores.ledger.append(&[row("acme", 1)]).await.unwrap();
    plane.ask(Method::DELETE, "/tenants/acme/keys/default", &Value::Null).await;
    for _ in 0..2 {
        let told = plane.refused(409, Method::POST, "/tenants/acme/keys", key()).await;
        assert!(told.contains("ledger rows") && told.contains("adopt_data"), "{told}");
        let (status, told) = plane.ask(Method::DELETE, "/tenants/acme/keys/default/data", &Value::Null).await;
        assert_eq!(status, 200, "{told}");
    }
    plane.post("/tenants/acme/keys", json!({ "name": "other" })).await;
    plane.post("/tenants/acme/keys", json!({ "name": "default", "adopt_data": true })).await;
}

#[tokio::test]
async fn what_another_replicas_file_declares_is_not_applied_over() {
    let plane = Plane::new().await;
    let record = TenantRecord {
        tenant: TenantId::new("theirs"),
        declared: true,
        spec: "{}".to_owned(),
        credential: None,
        created_at: START,
        updated_at: START,
    };
    let seen = plane.stores.directory.directory_version().await.unwrap();
    plane.stores.directory.change_directory(seen, &[DirectoryWrite::PutTenant(record)], &[]).await.unwrap().unwrap();
    let ask = json!({ "tenants": [{ "name": "theirs", "limits": { "rpm": 5 } }] });
    assert!(plane.refused(409, Method::POST, "/tenants/apply", ask).await.contains("declared in the configuration"));
}

#[tokio::test]
async fn rem_data_of_before_counts_too_whether_it_is_hidden_or_not() {
    let plane = Plane::new().await;
    let rem = plane.stores.rem.clone().unwrap();
    let scope = |key: &str| Scope { tenant: TenantId::new("acme"), key: KeyId::new(format!("acme/{key}")) };
    let said = |scope: &Scope| entities(&json!({ "name": "diary", "kind": "note" }), scope, START).unwrap();
    plane.post("/tenants", json!({ "name": "acme" })).await;
    for key in ["app", "other"] {
        plane.post("/tenants/acme/keys", json!({ "name": key })).await;
    }
    let writes = said(&scope("app"));
    rem.rem_apply(&TenantId::new("acme"), &writes).await.unwrap();
    let [RemWrite::Put { row, .. }] = &writes[..] else { panic!("{writes:?}") };
    let hide = RemWrite::Hide { id: row.id, owner: row.owner.clone(), at: START };
    for key in ["app", "other"] {
        plane.ask(Method::DELETE, &format!("/tenants/acme/keys/{key}"), &Value::Null).await;
    }
    // Once as it was written, once hidden.
    for writes in [&[][..], std::slice::from_ref(&hide)] {
        rem.rem_apply(&TenantId::new("acme"), writes).await.unwrap();
        let told = plane.refused(409, Method::POST, "/tenants/acme/keys", json!({ "name": "app" })).await;
        assert!(told.contains("REM data of a key `acme/app`") && told.contains("adopt_data"), "{told}");
    }
    plane.post("/tenants/acme/keys", json!({ "name": "other" })).await;

    plane.ask(Method::DELETE, "/tenants/acme", &Value::Null).await;
    let told = plane.refused(409, Method::POST, "/tenants", json!({ "name": "acme" })).await;
    assert!(told.contains("REM data of a tenant `acme`"), "{told}");
    // A tenant whose name is near has nothing of it.
    plane.post("/tenants", json!({ "name": "acm" })).await;
    plane.post("/tenants", json!({ "name": "acme2" })).await;
    let told = plane.ask(Method::DELETE, "/tenants/acme/data", &Value::Null).await;
    assert!(told.0 == 200 && told.1["rem"].as_u64().unwrap() > 0, "{told:?}");
    plane.post("/tenants", json!({ "name": "acme" })).await;
    plane.post("/tenants/acme/keys", json!({ "name": "app" })).await;
}
