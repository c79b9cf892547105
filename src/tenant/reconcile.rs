//! What the configuration declares, brought into the store: at start and at each reload.
//!
//! The store then knows of each tenant whether it is declared, so that no replica changes it by the admin API. A tenant that
//! is declared no longer stays, disabled, until somebody enables or deletes it: a slip in a file must not delete anything.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::json;

use super::directory::Directory;
use super::snapshot::Declared;
use crate::clock::UnixMs;
use crate::config::{Config, TenantSpec};
use crate::ids::{AuditId, TenantId};
use crate::store::{AuditRow, DirectoryImage, DirectoryStore, DirectoryWrite, StoreError, TenantRecord};

/// How often it is tried while others change the directory at the same time.
const TRIES: u32 = 50;

/// What a reconciliation has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// Tenants that are new or were changed.
    pub declared: usize,
    /// Tenants that are declared no longer and are disabled now.
    pub undeclared: usize,
}

impl Directory {
    /// Brings the tenants of a configuration into the store and then into what requests meet, which changes once: what is
    /// declared and what the store then has come together, and nothing can fail between. `actor` is who caused it.
    ///
    /// # Errors
    /// The store cannot be read or written; then requests meet what they met before.
    pub async fn declare(&self, config: &Config, actor: &str) -> Result<Reconciled, StoreError> {
        let declared = Declared::of(config);
        // Held throughout, so that no look brings the one without the other.
        let mut inputs = self.inputs.lock().await;
        let mut reconciled = Reconciled::default();
        if let Some(store) = self.store() {
            let (image, done) = reconcile(&**store, &declared, actor, self.clock.now_ms()).await?;
            inputs.image = Arc::new(image);
            reconciled = done;
        }
        inputs.declared = Arc::new(declared);
        self.rebuild(&inputs);
        Ok(reconciled)
    }
}

async fn reconcile(
    store: &dyn DirectoryStore,
    declared: &Declared,
    actor: &str,
    now: UnixMs,
) -> Result<(DirectoryImage, Reconciled), StoreError> {
    for _ in 0..TRIES {
        let mut image = store.directory().await?;
        let (writes, audit, reconciled) = difference(&image, declared, actor, now);
        if writes.is_empty() {
            return Ok((image, reconciled));
        }
        if let Some(version) = store.change_directory(image.version, &writes, &audit).await? {
            image.version = version;
            writes.into_iter().for_each(|write| carry_over(&mut image, write));
            return Ok((image, reconciled));
        }
    }
    Err(StoreError::Failed("others change the directory of tenants all the time".into()))
}

/// Makes of the image what the store makes of its rows, so that it need not be read again, which could fail.
fn carry_over(image: &mut DirectoryImage, write: DirectoryWrite) {
    match write {
        DirectoryWrite::PutTenant(record) => {
            image.tenants.retain(|other| other.tenant != record.tenant);
            image.tenants.push(record);
            image.tenants.sort_by(|one, other| one.tenant.cmp(&other.tenant));
        }
        DirectoryWrite::DeleteKey(id) => image.keys.retain(|row| row.id != id),
        // No others are made here.
        _ => {}
    }
}

fn difference(
    image: &DirectoryImage,
    declared: &Declared,
    actor: &str,
    now: UnixMs,
) -> (Vec<DirectoryWrite>, Vec<AuditRow>, Reconciled) {
    let (mut writes, mut audit, mut reconciled) = (Vec::new(), Vec::new(), Reconciled::default());
    let noted = |action: &'static str, what: serde_json::Value, result: serde_json::Value| AuditRow {
        id: AuditId::at(now),
        at: now,
        actor: actor.to_owned(),
        action: action.into(),
        reason: None,
        what: what.to_string(),
        result: result.to_string(),
    };
    let mut put = |before: Option<&TenantRecord>, after: TenantRecord, action: &'static str| {
        let spec = |record: &TenantRecord| serde_json::from_str::<serde_json::Value>(&record.spec).unwrap_or_default();
        let what = json!({ "tenant": after.tenant.as_str() });
        audit.push(noted(action, what, json!({ "before": before.map(spec), "after": spec(&after) })));
        writes.push(DirectoryWrite::PutTenant(after));
    };
    for tenant in &declared.tenants {
        let before = image.tenants.iter().find(|record| record.tenant.as_str() == tenant.name);
        if before.is_some_and(|record| record.declared && parsed(record).as_ref() == Some(&tenant.spec)) {
            continue;
        }
        if before.is_some_and(|record| !record.declared) {
            tracing::warn!(
                tenant = tenant.name,
                "a tenant of this name was made by the admin API; what the configuration file declares holds from now on"
            );
        }
        let after = TenantRecord {
            tenant: TenantId::new(tenant.name.as_str()),
            declared: true,
            spec: serde_json::to_string(&tenant.spec).unwrap_or_default(),
            credential: before.and_then(|record| record.credential.clone()),
            created_at: before.map_or(now, |record| record.created_at),
            updated_at: now,
        };
        reconciled.declared += 1;
        put(before, after, "tenant.declare");
    }
    let names: BTreeSet<&str> = declared.tenants.iter().map(|tenant| tenant.name.as_str()).collect();
    for before in image.tenants.iter().filter(|record| record.declared && !names.contains(record.tenant.as_str())) {
        tracing::warn!(tenant = %before.tenant, "the tenant is not declared any more: it is kept, but disabled");
        // One that cannot be read is refused anyway.
        let spec = parsed(before).and_then(|spec| serde_json::to_string(&TenantSpec { enabled: false, ..spec }).ok());
        let spec = spec.unwrap_or_else(|| before.spec.clone());
        let after = TenantRecord { declared: false, spec, updated_at: now, ..before.clone() };
        reconciled.undeclared += 1;
        put(Some(before), after, "tenant.undeclare");
    }
    // One that is not seen behind a declared key of its name must not work again when that is declared no more.
    for row in &image.keys {
        if declared.tenant(&row.tenant).is_some_and(|of| of.keys.iter().any(|key| key.name == row.name)) {
            tracing::warn!(tenant = %row.tenant, key = row.name, id = row.id, "a key of this name is declared now: the stored one is revoked");
            let what = json!({ "tenant": row.tenant.as_str(), "key": row.name, "id": row.id });
            let spec = serde_json::from_str::<serde_json::Value>(&row.spec).unwrap_or_default();
            let before =
                json!({ "id": row.id, "spec": spec, "expires_at": row.expires_at, "replaced_by": row.replaced_by });
            audit.push(noted("key.revoke", what, json!({ "before": before, "after": null })));
            writes.push(DirectoryWrite::DeleteKey(row.id.clone()));
        }
    }
    (writes, audit, reconciled)
}

fn parsed(record: &TenantRecord) -> Option<TenantSpec> {
    serde_json::from_str(&record.spec).ok()
}
