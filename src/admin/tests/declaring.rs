use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::json;

use super::*;
use crate::store::{AuditRow, BoxFuture, DirectoryImage, DirectoryStore, DirectoryWrite, StoreError};

/// A store that can be read whole only so often.
struct Tiring(Arc<dyn DirectoryStore>, AtomicU32);

impl DirectoryStore for Tiring {
    fn directory_version(&self) -> BoxFuture<'_, u64> {
        self.0.directory_version()
    }

    fn directory(&self) -> BoxFuture<'_, DirectoryImage> {
        match self.1.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)) {
            Ok(_) => self.0.directory(),
            Err(_) => Box::pin(async { Err(StoreError::Failed("tired".into())) }),
        }
    }

    fn change_directory<'a>(
        &'a self,
        seen: u64,
        writes: &'a [DirectoryWrite],
        audit: &'a [AuditRow],
    ) -> BoxFuture<'a, Option<u64>> {
        self.0.change_directory(seen, writes, audit)
    }

    fn note_used<'a>(&'a self, used: &'a [(String, u64)]) -> BoxFuture<'a, ()> {
        self.0.note_used(used)
    }
}

#[tokio::test]
async fn what_is_declared_is_taken_over_although_the_store_fails_after_the_commit() {
    let plane = Plane::new().await;
    let made = plane.post("/tenants/filed/keys", json!({ "name": "batch" })).await;
    let store = Tiring(Arc::clone(&plane.stores.directory), AtomicU32::new(2));
    let directory =
        Directory::new(&plane.config, plane.secret.clone()).with_store(Arc::new(store), plane.clock.clone());
    directory.look().await.unwrap();
    assert_eq!(refusal(&directory, text(&made["secret"])), None);
    let without = Config { tenants: Vec::new(), ..plane.config.clone() };
    assert_eq!(directory.declare(&without, "test").await.unwrap().undeclared, 1);
    assert_eq!(refusal(&directory, WEB), Some(AuthError::Unknown));
    assert_eq!(refusal(&directory, text(&made["secret"])), Some(AuthError::TenantDisabled));
    assert!(!directory.look().await.unwrap(), "it has what the store has");
    let stored = plane.replica().await;
    assert_eq!(stored.tenants().len(), directory.tenants().len());
    // One that fails before the commit changes nothing.
    assert!(directory.declare(&plane.config, "test").await.is_err());
    assert_eq!(refusal(&directory, WEB), Some(AuthError::Unknown));
}

#[tokio::test]
async fn a_key_that_a_declared_one_takes_the_place_of_does_not_come_back_to_life() {
    let plane = Plane::new().await;
    let made = plane.post("/tenants/filed/keys", json!({ "name": "batch" })).await;
    let old = text(&made["secret"]);
    let mut config = plane.config.clone();
    let secret = Secret::new("rk-batch-0123456789abcdef".to_owned());
    config.tenants[0].keys.push(TenantKey { name: "batch".to_owned(), secret, spec: KeySpec::default() });
    plane.directory.declare(&config, "test").await.unwrap();
    assert_eq!(refusal(&plane.directory, "rk-batch-0123456789abcdef"), None);
    plane.directory.declare(&plane.config, "test").await.unwrap();
    assert_eq!(refusal(&plane.directory, old), Some(AuthError::Unknown));
    let rows = plane.get("/audit").await;
    let row = rows["data"].as_array().unwrap().iter().find(|row| row["action"] == "key.revoke").unwrap().clone();
    assert_eq!((&row["actor"], &row["what"]["id"]), (&json!("test"), &made["key"]["id"]));
    assert!(plane.stores.directory.directory().await.unwrap().keys.is_empty());
}

#[test]
fn what_is_declared_otherwise_is_told_by_name_and_without_secrets() {
    let secret = |text: &str| Secret::new(format!("rk-canary-{text}"));
    let key = |name: &str, secret: Secret| TenantKey { name: name.to_owned(), secret, spec: KeySpec::default() };
    let declared = |config: &Config| (*Directory::new(config, SecretKey::new([7; 32])).declared()).clone();
    let mut config = Config::load(None, std::iter::empty(), &Overrides::default()).unwrap_or_else(|p| panic!("{p}"));
    config.server.passthrough = false;
    config.tenants = vec![super::declared()];
    config.tenants[0].keys = vec![key("a", secret("a")), key("b", secret("b")), key("c", secret("c"))];
    let before = declared(&config);
    assert_eq!(before.differences(&before), [""; 0]);
    config.server.passthrough = true;
    config.upstream.api_key = Some(secret("shared"));
    config.tenants[0].upstream_api_key = Some(secret("own"));
    config.tenants[0].keys = vec![key("b", secret("other")), key("c", secret("c")), key("d", secret("d"))];
    config.tenants[0].keys[1].spec.enabled = false;
    let told = before.differences(&declared(&config));
    let expected = [
        "shared upstream credential: new",
        "passthrough: new",
        "upstream credential of filed: new",
        "key filed/a: gone",
        "secret of key filed/b: changed",
        "terms of key filed/c: changed",
        "key filed/d: new",
    ];
    assert_eq!(told, expected);
}
