//! Tenants: list, show, create, change, delete, and the credential they use upstream.

use axum::Json;
use axum::extract::{Path, State};
use http::StatusCode;
use serde_json::{Value, json};

use super::auth::Who;
use super::change::{Note, Now, Plan, change, image, taken};
use super::forms::{Body, Members, checked, tenant_name, unprocessable};
use super::tenant_data::forget_sql;
use super::{Admin, Problem, leftovers};
use crate::clock::UnixMs;
use crate::config::TenantSpec;
use crate::ids::TenantId;
use crate::store::{DirectoryImage, DirectoryWrite, TenantRecord};

/// `GET /admin/v1/tenants`
pub(super) async fn list(State(state): State<Admin>, who: Who) -> Result<Json<Value>, Problem> {
    let image = image(&state).await?;
    let mut names: Vec<TenantId> = state.directory.tenants().into_iter().map(|(tenant, _)| tenant).collect();
    names.extend(image.tenants.iter().map(|record| record.tenant.clone()));
    names.sort_unstable();
    names.dedup();
    let seen = names.iter().filter(|tenant| who.sees(Some(tenant)));
    let tenants: Vec<Value> = seen.filter_map(|tenant| view(&state, &image, tenant)).collect();
    Ok(Json(json!({ "tenants": tenants, "next": null })))
}

/// `GET /admin/v1/tenants/{name}`
pub(super) async fn one(State(state): State<Admin>, Path(name): Path<String>) -> Result<Json<Value>, Problem> {
    let image = image(&state).await?;
    view(&state, &image, &TenantId::new(name)).map(Json).ok_or_else(|| Problem::not_found("tenant"))
}

/// `POST /admin/v1/tenants`
pub(super) async fn create(
    State(state): State<Admin>,
    who: Who,
    body: Body,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let mut members = Members::of(body)?;
    let name: String = members.need("name")?;
    tenant_name(&name)?;
    let credential = members.credential("upstream_api_key")?;
    let adopt: bool = members.take("adopt_data")?.unwrap_or_default();
    let spec = checked(members.merged(&TenantSpec::default())?)?;
    let tenant = TenantId::new(name);
    if !adopt {
        leftovers::no_tenant(&state, &tenant).await?;
    }
    let sealed = credential.map(|own| state.directory.seal().seal(&tenant, &own)).transpose().map_err(no_chance)?;
    change(&state, &who, |now| {
        if state.directory.declared().tenant(&tenant).is_some() || now.record(&tenant).is_some() {
            return Err(taken("tenant"));
        }
        let record = TenantRecord {
            tenant: tenant.clone(),
            declared: false,
            spec: text(&spec),
            credential: sealed.clone(),
            created_at: now.at,
            updated_at: now.at,
        };
        let after = audited(&spec, sealed.is_some());
        let note = Note { action: "tenant.create", what: about(&tenant), before: Value::Null, after };
        Ok(Plan { writes: vec![DirectoryWrite::PutTenant(record)], audit: vec![note], answer: () })
    })
    .await?;
    shown(&state, &tenant).await.map(|view| (StatusCode::CREATED, view))
}

/// `PATCH /admin/v1/tenants/{name}`, an RFC 7396 merge patch over the spec. Who made it from what they have seen may say when
/// that was last changed (`if_updated_at`), so that it is not laid over what somebody else has changed since.
async fn change_spec(state: &Admin, who: &Who, tenant: &TenantId, patch: &Value) -> Result<(), Problem> {
    let mut patch = patch.clone();
    let seen = patch.as_object_mut().and_then(|members| members.shift_remove("if_updated_at"));
    let seen = seen.filter(|seen| !seen.is_null());
    let seen: Option<UnixMs> = seen.map(serde_json::from_value).transpose().map_err(|error| {
        unprocessable(&format!("`if_updated_at`: {error}; send `updated_at` as the tenant was shown with it"))
    })?;
    change(state, who, |now| {
        let record = now.changeable(state, tenant)?;
        if seen.is_some_and(|seen| seen != record.updated_at) {
            let text = "the tenant was changed since it was looked at; look again, and repeat the change";
            return Err(Problem::new(StatusCode::PRECONDITION_FAILED, text));
        }
        let before = stored(record)?;
        let patch = Members::from(patch.clone()).ok_or_else(|| unprocessable("the body must be a JSON object"))?;
        let after = checked(patch.merged(&before)?)?;
        if after == before {
            return Ok(Plan::default());
        }
        let note = Note {
            action: "tenant.change",
            what: about(tenant),
            before: json!({ "spec": before }),
            after: json!({ "spec": after }),
        };
        let record = TenantRecord { spec: text(&after), updated_at: now.after(record), ..record.clone() };
        Ok(Plan { writes: vec![DirectoryWrite::PutTenant(record)], audit: vec![note], answer: () })
    })
    .await
}

/// `PATCH /admin/v1/tenants/{name}`
pub(super) async fn change_one(
    State(state): State<Admin>,
    Path(name): Path<String>,
    who: Who,
    body: Body,
) -> Result<Json<Value>, Problem> {
    let Json(patch) = body?;
    let tenant = TenantId::new(name);
    change_spec(&state, &who, &tenant, &patch).await?;
    shown(&state, &tenant).await
}

/// `DELETE /admin/v1/tenants/{name}`: the tenant, its keys and the admin tokens that are good for it alone. Tokens go, too,
/// so that they do not open a later tenant of the same name.
pub(super) async fn delete(
    State(state): State<Admin>,
    Path(name): Path<String>,
    who: Who,
) -> Result<Json<Value>, Problem> {
    let tenant = TenantId::new(name);
    let (keys, tokens) = change(&state, &who, |now| {
        let record = now.changeable(&state, &tenant)?;
        let tokens: Vec<_> = now.image.tokens.iter().filter(|row| row.tenant.as_ref() == Some(&tenant)).collect();
        let keys = now.image.keys.iter().filter(|row| row.tenant == tenant).count();
        let mut writes = vec![DirectoryWrite::DeleteTenant(tenant.clone())];
        writes.extend(tokens.iter().map(|row| DirectoryWrite::DeleteToken(row.id.clone())));
        let spec: Value = serde_json::from_str(&record.spec).unwrap_or_default();
        let names: Vec<&str> = tokens.iter().map(|row| row.name.as_str()).collect();
        let note = Note {
            action: "tenant.delete",
            what: about(&tenant),
            before: json!({ "spec": spec, "keys": keys, "tokens": names }),
            after: Value::Null,
        };
        Ok(Plan { writes, audit: vec![note], answer: (keys, names.len()) })
    })
    .await?;
    forget_sql(&state, &tenant, None).await;
    Ok(Json(json!({
        "deleted": tenant.as_str(),
        "keys": keys,
        "tokens": tokens,
        "data": format!("kept; DELETE /admin/v1/tenants/{tenant}/data removes what the cache holds"),
    })))
}

/// `PUT /admin/v1/tenants/{name}/upstream-key`
pub(super) async fn set_upstream_key(
    State(state): State<Admin>,
    Path(name): Path<String>,
    who: Who,
    body: Body,
) -> Result<Json<Value>, Problem> {
    let mut members = Members::of(body)?;
    let credential = members.credential("api_key")?.ok_or_else(|| unprocessable("`api_key` is missing"))?;
    members.end()?;
    let tenant = TenantId::new(name);
    let sealed = state.directory.seal().seal(&tenant, &credential).map_err(no_chance)?;
    change(&state, &who, |now| {
        let record = now.changeable(&state, &tenant)?;
        let after = TenantRecord { credential: Some(sealed.clone()), updated_at: now.after(record), ..record.clone() };
        Ok(credential_plan("tenant.upstream_key.set", record, after))
    })
    .await?;
    shown(&state, &tenant).await
}

/// `DELETE /admin/v1/tenants/{name}/upstream-key`: the shared one is used from then on.
pub(super) async fn remove_upstream_key(
    State(state): State<Admin>,
    Path(name): Path<String>,
    who: Who,
) -> Result<Json<Value>, Problem> {
    let tenant = TenantId::new(name);
    change(&state, &who, |now| {
        let record = now.changeable(&state, &tenant)?;
        if record.credential.is_none() {
            return Ok(Plan::default());
        }
        let after = TenantRecord { credential: None, updated_at: now.after(record), ..record.clone() };
        Ok(credential_plan("tenant.upstream_key.remove", record, after))
    })
    .await?;
    shown(&state, &tenant).await
}

fn credential_plan(action: &'static str, before: &TenantRecord, after: TenantRecord) -> Plan<()> {
    let said = |record: &TenantRecord| json!({ "has_upstream_key": record.credential.is_some() });
    let note = Note { action, what: about(&after.tenant), before: said(before), after: said(&after) };
    Plan { writes: vec![DirectoryWrite::PutTenant(after)], audit: vec![note], answer: () }
}

/// A tenant as the API shows it.
pub(super) fn view(state: &Admin, image: &DirectoryImage, tenant: &TenantId) -> Option<Value> {
    let now = Now { image, at: 0 };
    let record = now.record(tenant);
    let declared = state.directory.declared();
    let declared = declared.tenant(tenant);
    let (spec, own) = match (declared, record) {
        (Some(declared), _) => (json!(declared.spec), declared.upstream_api_key.is_some()),
        // What cannot be read is shown as it is; the tenant is refused until it is set again.
        (None, Some(record)) => {
            let spec = stored(record).map_or_else(|_| json!(record.spec), |spec| json!(spec));
            (spec, record.credential.is_some())
        }
        (None, None) => return None,
    };
    let in_force = image.keys.iter().filter(|row| row.tenant == *tenant && row.replaced_by.is_none());
    Some(json!({
        "name": tenant.as_str(),
        "declared": declared.is_some() || record.is_some_and(|record| record.declared),
        "spec": spec,
        "has_upstream_key": own,
        "keys": in_force.count() + declared.map_or(0, |tenant| tenant.keys.len()),
        "created_at": record.map(|record| record.created_at),
        "updated_at": record.map(|record| record.updated_at),
    }))
}

async fn shown(state: &Admin, tenant: &TenantId) -> Result<Json<Value>, Problem> {
    let image = image(state).await?;
    view(state, &image, tenant).map(Json).ok_or_else(|| Problem::not_found("tenant"))
}

/// The spec of a record. One that cannot be read must not be overwritten with what a change makes of nothing.
pub(super) fn stored(record: &TenantRecord) -> Result<TenantSpec, Problem> {
    serde_json::from_str(&record.spec).map_err(|error| {
        tracing::error!(tenant = %record.tenant, %error, "a stored spec cannot be read");
        let text = "what is stored of this tenant cannot be read by this version, see the log; delete the tenant to make \
                    it anew, or run the version that wrote it";
        Problem::new(StatusCode::CONFLICT, text)
    })
}

pub(super) fn text(spec: &impl serde::Serialize) -> String {
    serde_json::to_string(spec).unwrap_or_default()
}

pub(super) fn about(tenant: &TenantId) -> Value {
    json!({ "tenant": tenant.as_str() })
}

pub(super) fn audited(spec: &TenantSpec, own: bool) -> Value {
    json!({ "spec": spec, "has_upstream_key": own })
}

#[expect(clippy::needless_pass_by_value, reason = "as map_err gives it")]
pub(super) fn no_chance(error: std::io::Error) -> Problem {
    tracing::error!(%error, "no secret can be made or sealed");
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "no secret can be made or sealed now; see the log")
}
