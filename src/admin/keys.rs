//! Virtual keys: made, shown once, changed, rotated with an overlap, revoked.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::{Path, State};
use http::StatusCode;
use serde_json::{Value, json};

use super::auth::Who;
use super::change::{Note, Plan, change, declared, image, taken};
use super::forms::{Body, Members, duration_ms, name, unprocessable};
use super::tenant_data::forget_sql;
use super::tenants::{no_chance, text};
use super::{Admin, Problem, leftovers};
use crate::clock::UnixMs;
use crate::config::{KeySpec, Secret, TenantKey, Wrong};
use crate::ids::{KeyId, TenantId};
use crate::store::{DirectoryWrite, KeyRow};
use crate::tenant::{Kind, Minted, mint};

/// How long a replaced key works if the caller does not say.
const OVERLAP_MS: u64 = 24 * 60 * 60 * 1_000;
/// Longest overlap.
const LONGEST_OVERLAP_MS: u64 = 90 * 24 * 60 * 60 * 1_000;

/// `GET /admin/v1/tenants/{name}/keys`
pub(super) async fn list(State(state): State<Admin>, Path(tenant): Path<String>) -> Result<Json<Value>, Problem> {
    let (tenant, image) = (TenantId::new(tenant), image(&state).await?);
    let configured = state.directory.declared();
    let configured = configured.tenant(&tenant);
    if configured.is_none() && !image.tenants.iter().any(|record| record.tenant == tenant) {
        return Err(Problem::not_found("tenant"));
    }
    let declared = configured.into_iter().flat_map(|of| &of.keys).map(|key| declared_view(&tenant, key));
    let mut rows: Vec<&KeyRow> = image.keys.iter().filter(|row| row.tenant == tenant).collect();
    rows.sort_by(|one, other| (&one.name, one.created_at).cmp(&(&other.name, other.created_at)));
    let keys: Vec<Value> = declared.chain(rows.into_iter().map(view)).collect();
    Ok(Json(json!({ "keys": keys, "next": null })))
}

/// `GET /admin/v1/tenants/{name}/keys/{key}`
pub(super) async fn one(
    State(state): State<Admin>,
    Path((tenant, key)): Path<(String, String)>,
) -> Result<Json<Value>, Problem> {
    let tenant = TenantId::new(tenant);
    let configured = state.directory.declared();
    if let Some(found) = configured.tenant(&tenant).and_then(|of| of.keys.iter().find(|known| known.name == key)) {
        return Ok(Json(declared_view(&tenant, found)));
    }
    let image = image(&state).await?;
    let mut of_tenant: Vec<&KeyRow> = image.keys.iter().filter(|row| row.tenant == tenant).collect();
    of_tenant.sort_by_key(|row| row.replaced_by.is_some());
    let named = of_tenant.iter().find(|row| row.name == key).or_else(|| of_tenant.iter().find(|row| row.id == key));
    named.map(|row| Json(view(row))).ok_or_else(|| Problem::not_found("key"))
}

/// `POST /admin/v1/tenants/{name}/keys`
pub(super) async fn create(
    State(state): State<Admin>,
    Path(tenant): Path<String>,
    who: Who,
    body: Body,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let mut members = Members::of(body)?;
    let called: String = members.need("name")?;
    name(&called)?;
    let expires_at = members.expiry(state.clock.now_ms())?;
    let adopt: bool = members.take("adopt_data")?.unwrap_or_default();
    let spec = checked(members.merged(&KeySpec::default())?)?;
    let tenant = TenantId::new(tenant);
    if !adopt {
        leftovers::no_key(&state, &tenant, &called).await?;
    }
    let minted = mint(Kind::Key).map_err(no_chance)?;
    let row = change(&state, &who, |now| {
        now.known(&state, &tenant)?;
        let mut of_tenant = now.image.keys.iter().filter(|row| row.tenant == tenant);
        if is_declared(&state, &tenant, &called) || of_tenant.any(|row| row.name == called) {
            return Err(taken("key"));
        }
        let row = new_row(&state, &tenant, &called, &minted, &spec, expires_at, now.at);
        let note = Note { action: "key.create", what: about(&row), before: Value::Null, after: audited(&row) };
        Ok(Plan { writes: vec![DirectoryWrite::PutKey(row.clone())], audit: vec![note], answer: row })
    })
    .await?;
    Ok((StatusCode::CREATED, Json(once(&row, &minted.secret))))
}

/// `PATCH /admin/v1/tenants/{name}/keys/{key}`, a merge patch over the spec. Keys that this one has replaced change with it.
pub(super) async fn change_one(
    State(state): State<Admin>,
    Path((tenant, key)): Path<(String, String)>,
    who: Who,
    body: Body,
) -> Result<Json<Value>, Problem> {
    let Json(patch) = body?;
    let tenant = TenantId::new(tenant);
    let row = change(&state, &who, |now| {
        let found = now.keys(&state, &tenant, &key)?.0;
        let called = found.first().map(|row| row.name.clone()).unwrap_or_default();
        let (rows, _) = now.keys(&state, &tenant, &called)?;
        let (mut writes, mut audit, mut answer) = (Vec::new(), Vec::new(), None);
        for row in rows {
            let patch = Members::from(patch.clone()).ok_or_else(|| unprocessable("the body must be a JSON object"))?;
            let before = stored(row)?;
            let after = checked(patch.merged(&before)?)?;
            let changed = KeyRow { spec: text(&after), updated_at: now.at, ..row.clone() };
            let shown = if after == before { row.clone() } else { changed.clone() };
            if row.replaced_by.is_none() || answer.is_none() {
                answer = Some(shown);
            }
            if after != before {
                audit.push(Note {
                    action: "key.change",
                    what: about(row),
                    before: json!({ "spec": before }),
                    after: json!({ "spec": after }),
                });
                writes.push(DirectoryWrite::PutKey(changed));
            }
        }
        let answer = answer.ok_or_else(|| Problem::not_found("key"))?;
        Ok(Plan { writes, audit, answer })
    })
    .await?;
    Ok(Json(view(&row)))
}

/// `DELETE /admin/v1/tenants/{name}/keys/{key}`: nobody gets in with it any more. By name all of them go, by id that one.
pub(super) async fn revoke(
    State(state): State<Admin>,
    Path((tenant, key)): Path<(String, String)>,
    who: Who,
) -> Result<Json<Value>, Problem> {
    let tenant = TenantId::new(tenant);
    let (ids, names) = change(&state, &who, |now| {
        let (rows, _) = now.keys(&state, &tenant, &key)?;
        let note =
            |row: &&KeyRow| Note { action: "key.revoke", what: about(row), before: audited(row), after: Value::Null };
        let ids: Vec<String> = rows.iter().map(|row| row.id.clone()).collect();
        let names: BTreeSet<String> = rows.iter().map(|row| row.name.clone()).collect();
        let writes = ids.iter().cloned().map(DirectoryWrite::DeleteKey).collect();
        Ok(Plan { writes, audit: rows.iter().map(note).collect(), answer: (ids, names) })
    })
    .await?;
    // What was set up for its SQL. It is set up anew if the key is still there under another id.
    for name in names {
        forget_sql(&state, &tenant, Some(&KeyId::new(format!("{tenant}/{name}")))).await;
    }
    Ok(Json(json!({ "revoked": ids })))
}

/// `POST /admin/v1/tenants/{name}/keys/{key}/rotate`: a new secret; the old one works until the overlap ends. The new key
/// gets as long a life as the old one was given, unless the body says otherwise.
pub(super) async fn rotate(
    State(state): State<Admin>,
    Path((tenant, key)): Path<(String, String)>,
    who: Who,
    body: Body,
) -> Result<Json<Value>, Problem> {
    let mut members = Members::of(body)?;
    let overlap = match members.take::<String>("overlap")? {
        None => OVERLAP_MS,
        Some(text) => duration_ms(&text)
            .filter(|overlap| *overlap <= LONGEST_OVERLAP_MS)
            .ok_or_else(|| unprocessable("`overlap` must be a duration of 0s to 90d, as in \"24h\""))?,
    };
    let expires_at = members.expiry(state.clock.now_ms())?;
    members.end()?;
    let tenant = TenantId::new(tenant);
    let minted = mint(Kind::Key).map_err(no_chance)?;
    let row = change(&state, &who, |now| {
        let (rows, _) = now.keys(&state, &tenant, &key)?;
        let Some(old) = rows.iter().find(|row| row.replaced_by.is_none()) else {
            let by = rows.first().and_then(|row| row.replaced_by.as_deref()).unwrap_or_default();
            let text = format!("this key has been replaced by `{by}` already; rotate that one");
            return Err(Problem::new(StatusCode::CONFLICT, text));
        };
        let life = old.expires_at.map(|end| now.at.saturating_add(end.saturating_sub(old.created_at)));
        let spec = stored(old)?;
        let new = new_row(&state, &tenant, &old.name, &minted, &spec, expires_at.or(life), now.at);
        let ends = now.at.saturating_add(overlap);
        let replaced = KeyRow {
            expires_at: Some(old.expires_at.map_or(ends, |end| end.min(ends))),
            replaced_by: Some(new.id.clone()),
            updated_at: now.at,
            ..(*old).clone()
        };
        let gone =
            rows.iter().filter(|row| row.replaced_by.is_some() && row.expires_at.is_some_and(|end| end <= now.at));
        let mut writes: Vec<DirectoryWrite> = gone.map(|row| DirectoryWrite::DeleteKey(row.id.clone())).collect();
        let note = Note { action: "key.rotate", what: about(old), before: audited(&replaced), after: audited(&new) };
        writes.extend([DirectoryWrite::PutKey(replaced), DirectoryWrite::PutKey(new.clone())]);
        Ok(Plan { writes, audit: vec![note], answer: new })
    })
    .await?;
    Ok(Json(once(&row, &minted.secret)))
}

/// A row for a key that was just made.
pub(super) fn new_row(
    state: &Admin,
    tenant: &TenantId,
    name: &str,
    minted: &Minted,
    spec: &KeySpec,
    expires_at: Option<UnixMs>,
    now: UnixMs,
) -> KeyRow {
    KeyRow {
        id: minted.id.clone(),
        tenant: tenant.clone(),
        name: name.to_owned(),
        hash: state.directory.hash(Kind::Key, &minted.secret),
        spec: text(spec),
        expires_at,
        replaced_by: None,
        created_at: now,
        updated_at: now,
        used_at: None,
    }
}

/// A key with its secret, which is shown this once.
fn once(row: &KeyRow, secret: &Secret) -> Value {
    json!({ "key": view(row), "secret": secret.expose() })
}

fn view(row: &KeyRow) -> Value {
    json!({
        "id": row.id,
        "name": row.name,
        "tenant": row.tenant.as_str(),
        "declared": false,
        "spec": shown_spec(row),
        "expires_at": row.expires_at,
        "replaced_by": row.replaced_by,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
        "used_at": row.used_at,
    })
}

fn declared_view(tenant: &TenantId, key: &TenantKey) -> Value {
    json!({
        "id": null,
        "name": key.name,
        "tenant": tenant.as_str(),
        "declared": true,
        "spec": key.spec,
        "expires_at": null,
        "replaced_by": null,
        "created_at": null,
        "updated_at": null,
        "used_at": null,
    })
}

fn shown_spec(row: &KeyRow) -> Value {
    serde_json::from_str::<KeySpec>(&row.spec).map_or_else(|_| json!(row.spec), |spec| json!(spec))
}

pub(super) fn stored(row: &KeyRow) -> Result<KeySpec, Problem> {
    serde_json::from_str(&row.spec).map_err(|error| {
        tracing::error!(key = row.id, %error, "a stored spec cannot be read");
        let text = "what is stored of this key cannot be read by this version, see the log; revoke the key and make \
                    another, or run the version that wrote it";
        Problem::new(StatusCode::CONFLICT, text)
    })
}

pub(super) fn checked(spec: KeySpec) -> Result<KeySpec, Vec<Wrong>> {
    let wrong = spec.wrong();
    if wrong.is_empty() { Ok(spec) } else { Err(wrong) }
}

pub(super) fn is_declared(state: &Admin, tenant: &TenantId, key: &str) -> bool {
    let configured = state.directory.declared();
    configured.tenant(tenant).is_some_and(|of| of.keys.iter().any(|known| known.name == key))
}

/// 409 for a key that the configuration owns.
pub(super) fn not_declared(state: &Admin, tenant: &TenantId, key: &str) -> Result<(), Problem> {
    if is_declared(state, tenant, key) { Err(declared(&format!("key `{key}` of tenant `{tenant}`"))) } else { Ok(()) }
}

pub(super) fn about(row: &KeyRow) -> Value {
    json!({ "tenant": row.tenant.as_str(), "key": row.name, "id": row.id })
}

pub(super) fn audited(row: &KeyRow) -> Value {
    json!({ "id": row.id, "spec": shown_spec(row), "expires_at": row.expires_at, "replaced_by": row.replaced_by })
}
