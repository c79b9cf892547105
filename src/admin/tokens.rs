//! Admin tokens: who may use this API. For owners of everything only, so that nobody can raise themselves.

use axum::Json;
use axum::extract::{Path, State};
use http::StatusCode;
use serde_json::{Value, json};

use super::auth::Who;
use super::change::{Note, Plan, change, image, taken};
use super::forms::{Body, Members, name, unprocessable};
use super::tenants::no_chance;
use super::{Admin, Problem};
use crate::ids::TenantId;
use crate::store::{DirectoryWrite, TokenRow};
use crate::tenant::{Kind, Role, mint};

/// Actors in the audit that are no tokens.
const OTHERS: [&str; 4] = ["loopback", "start", "SIGHUP", "configuration file"];

/// `GET /admin/v1/tokens`
pub(super) async fn list(State(state): State<Admin>) -> Result<Json<Value>, Problem> {
    let mut image = image(&state).await?;
    image.tokens.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(Json(json!({ "tokens": image.tokens.iter().map(view).collect::<Vec<_>>(), "next": null })))
}

/// `POST /admin/v1/tokens`
pub(super) async fn create(
    State(state): State<Admin>,
    who: Who,
    body: Body,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let mut members = Members::of(body)?;
    let called: String = members.need("name")?;
    // The audit calls them so: nobody, what the program does by itself, and the token of the configuration.
    let by_itself = OTHERS.iter().any(|other| called.eq_ignore_ascii_case(other));
    if by_itself || (called.len() == 8 && called.bytes().all(|byte| byte.is_ascii_hexdigit())) {
        return Err(unprocessable("`name`: the audit uses such names for others; choose another"));
    }
    name(&called)?;
    let role: Role = members.need("role")?;
    let tenant = members.take::<String>("tenant")?.map(TenantId::new);
    let expires_at = members.expiry(state.clock.now_ms())?;
    members.end()?;
    let minted = mint(Kind::Token).map_err(no_chance)?;
    let row = change(&state, &who, |now| {
        if now.image.tokens.iter().any(|row| row.name == called) {
            return Err(taken("token"));
        }
        if let Some(tenant) = &tenant
            && now.known(&state, tenant).is_err()
        {
            return Err(unprocessable(&format!("`tenant`: there is no tenant `{tenant}`; create it first")));
        }
        let row = TokenRow {
            id: minted.id.clone(),
            name: called.clone(),
            hash: state.directory.hash(Kind::Token, &minted.secret),
            role: role.as_str().to_owned(),
            tenant: tenant.clone(),
            expires_at,
            created_at: now.at,
            used_at: None,
        };
        let note = Note { action: "token.create", what: about(&row), before: Value::Null, after: audited(&row) };
        Ok(Plan { writes: vec![DirectoryWrite::PutToken(row.clone())], audit: vec![note], answer: row })
    })
    .await?;
    Ok((StatusCode::CREATED, Json(json!({ "token": view(&row), "secret": minted.secret.expose() }))))
}

/// `DELETE /admin/v1/tokens/{name}`
pub(super) async fn delete(
    State(state): State<Admin>,
    Path(name): Path<String>,
    who: Who,
) -> Result<Json<Value>, Problem> {
    change(&state, &who, |now| {
        let found = now.image.tokens.iter().find(|row| row.name == name).ok_or_else(|| Problem::not_found("token"))?;
        let note = Note { action: "token.delete", what: about(found), before: audited(found), after: Value::Null };
        Ok(Plan { writes: vec![DirectoryWrite::DeleteToken(found.id.clone())], audit: vec![note], answer: () })
    })
    .await?;
    Ok(Json(json!({ "deleted": name })))
}

fn view(row: &TokenRow) -> Value {
    json!({
        "id": row.id,
        "name": row.name,
        "role": row.role,
        "tenant": row.tenant.as_ref().map(TenantId::as_str),
        "expires_at": row.expires_at,
        "created_at": row.created_at,
        "used_at": row.used_at,
    })
}

fn about(row: &TokenRow) -> Value {
    json!({ "token": row.name, "id": row.id })
}

fn audited(row: &TokenRow) -> Value {
    json!({ "role": row.role, "tenant": row.tenant.as_ref().map(TenantId::as_str), "expires_at": row.expires_at })
}
