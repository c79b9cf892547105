use serde_json::json;

use super::*;
use crate::ids::TenantId;
use crate::store::sample::{delete, put, row};
use crate::store::{DirectoryWrite, TenantRecord};

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
