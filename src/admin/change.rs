//! A change to the directory: planned from what is there, made with its audit rows in one transaction, and planned anew if
//! somebody else changed the directory in between.

use http::StatusCode;
use serde_json::Value;

use super::auth::Who;
use super::{Admin, Problem};
use crate::clock::UnixMs;
use crate::ids::{AuditId, TenantId};
use crate::store::{AuditRow, DirectoryImage, DirectoryWrite, KeyRow, TenantRecord};
use crate::tenant::Known;

/// How often a change is planned.
const TRIES: u32 = 20;

/// What a change would do.
#[derive(Default)]
pub(super) struct Plan<T> {
    pub(super) writes: Vec<DirectoryWrite>,
    pub(super) audit: Vec<Note>,
    /// What the caller is told.
    pub(super) answer: T,
}

/// One row of the audit. Must never hold a secret.
pub(super) struct Note {
    pub(super) action: &'static str,
    /// Whom or what it is about.
    pub(super) what: Value,
    pub(super) before: Value,
    pub(super) after: Value,
}

/// What there is when a change is planned.
pub(super) struct Now<'a> {
    pub(super) image: &'a DirectoryImage,
    pub(super) at: UnixMs,
}

/// The whole directory, from the store.
pub(super) async fn image(state: &Admin) -> Result<DirectoryImage, Problem> {
    Ok(state.stores.directory.directory().await?)
}

/// Makes a change. `plan` may run several times and must not have effects of its own.
pub(super) async fn change<T>(
    state: &Admin,
    who: &Who,
    mut plan: impl FnMut(&Now<'_>) -> Result<Plan<T>, Problem>,
) -> Result<T, Problem> {
    for _ in 0..TRIES {
        let image = image(state).await?;
        let at = state.clock.now_ms();
        let Plan { writes, audit, answer } = plan(&Now { image: &image, at })?;
        if writes.is_empty() {
            return Ok(answer);
        }
        let audit: Vec<AuditRow> = audit.into_iter().map(|note| note.row(&who.actor, at)).collect();
        if state.stores.directory.change_directory(image.version, &writes, &audit).await?.is_some() {
            for row in &audit {
                tracing::info!(action = %row.action, actor = row.actor, what = row.what, "the directory was changed");
            }
            // This replica obeys at once; if it cannot read now, the task that looks will.
            if let Err(error) = state.directory.look().await {
                tracing::warn!(%error, "the change is made, but cannot be read back yet");
            }
            return Ok(answer);
        }
    }
    Err(Problem::new(StatusCode::CONFLICT, "others change the directory all the time; repeat the request"))
}

impl Note {
    fn row(self, actor: &str, at: UnixMs) -> AuditRow {
        AuditRow {
            id: AuditId::at(at),
            at,
            actor: actor.to_owned(),
            action: self.action.into(),
            reason: None,
            what: self.what.to_string(),
            result: serde_json::json!({ "before": self.before, "after": self.after }).to_string(),
        }
    }
}

impl Now<'_> {
    pub(super) fn record(&self, tenant: &TenantId) -> Option<&TenantRecord> {
        self.image.tenants.iter().find(|record| record.tenant == *tenant)
    }

    /// The time of a change to a record: later than that of any before, so that it tells one state from another.
    pub(super) fn after(&self, record: &TenantRecord) -> UnixMs {
        self.at.max(record.updated_at.saturating_add(1))
    }

    /// The stored tenant, which the configuration must not own.
    pub(super) fn changeable(&self, state: &Admin, tenant: &TenantId) -> Result<&TenantRecord, Problem> {
        let record = self.record(tenant);
        if state.directory.declared().tenant(tenant).is_some() || record.is_some_and(|record| record.declared) {
            return Err(declared(&format!("tenant `{tenant}`")));
        }
        record.ok_or_else(|| Problem::not_found("tenant"))
    }

    /// A tenant that is declared or stored, so that it may have keys.
    pub(super) fn known(&self, state: &Admin, tenant: &TenantId) -> Result<Option<Known>, Problem> {
        let known = state.directory.tenant(tenant);
        match known.is_some() || self.record(tenant).is_some() {
            true => Ok(known),
            false => Err(Problem::not_found("tenant")),
        }
    }

    /// The stored keys that a path means by a name or a public id, and whether it was the id. By name these are the key in
    /// force and those it has replaced, for to whoever uses it they are one.
    pub(super) fn keys(&self, state: &Admin, tenant: &TenantId, key: &str) -> Result<(Vec<&KeyRow>, bool), Problem> {
        let tenants = state.directory.declared();
        if tenants.tenant(tenant).is_some_and(|tenant| tenant.keys.iter().any(|declared| declared.name == key)) {
            return Err(declared(&format!("key `{key}` of tenant `{tenant}`")));
        }
        let of_tenant = || self.image.keys.iter().filter(|row| row.tenant == *tenant);
        let named: Vec<&KeyRow> = of_tenant().filter(|row| row.name == key).collect();
        if !named.is_empty() {
            return Ok((named, false));
        }
        let found = of_tenant().find(|row| row.id == key).ok_or_else(|| Problem::not_found("key"))?;
        Ok((vec![found], true))
    }
}

pub(super) fn declared(what: &str) -> Problem {
    let text = format!("{what} is declared in the configuration file; change it there");
    Problem::new(StatusCode::CONFLICT, text)
}

pub(super) fn taken(what: &str) -> Problem {
    Problem::new(
        StatusCode::CONFLICT,
        format!("there is a {what} of this name already; choose another, or change that one"),
    )
}
