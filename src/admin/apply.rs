//! Many tenants at once: what is named is brought to what is asked for, all in one transaction, and nothing else is touched.
//!
//! Asking again changes nothing. Of a tenant or key that exists, a member that is given takes the place of the one it has,
//! whole; a member that is left out stays. A dry run is the same comparison without the change.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::auth::Who;
use super::change::{Note, Now, Plan, change, declared, image};
use super::forms::{Body, Members, checked, name, tenant_name, unprocessable};
use super::keys::{self, new_row, not_declared};
use super::tenants::{about, audited, no_chance, stored, text};
use super::{Admin, Problem, leftovers};
use crate::config::{KeySpec, Secret, TenantSpec, Wrong};
use crate::ids::TenantId;
use crate::store::{DirectoryWrite, KeyRow, TenantRecord};
use crate::tenant::{Kind, Minted, Unsealed, mint};

/// Most tenants of one request.
const MOST: usize = 10_000;

/// A tenant as it is asked for.
struct Wanted {
    tenant: TenantId,
    credential: Option<Secret>,
    keys: Vec<WantedKey>,
    spec: Value,
}

/// A key as it is asked for.
struct WantedKey {
    name: String,
    /// Counts when the key is made.
    expires_at: Option<u64>,
    spec: Value,
}

/// What is planned, and what is told of it.
#[derive(Default)]
struct Told {
    changes: Vec<Value>,
    secrets: Vec<Value>,
}

/// `POST /admin/v1/tenants/apply`
pub(super) async fn apply(State(state): State<Admin>, who: Who, body: Body) -> Result<Json<Value>, Problem> {
    let mut members = Members::of(body)?;
    let dry_run: bool = members.take("dry_run")?.unwrap_or_default();
    let adopt: bool = members.take("adopt_data")?.unwrap_or_default();
    let tenants: Vec<Value> = members.need("tenants")?;
    members.end()?;
    let wanted = read(tenants, state.clock.now_ms())?;
    if !adopt {
        let names = wanted.iter().map(|one| (&one.tenant, one.keys.iter().map(|key| key.name.as_str()).collect()));
        leftovers::none(&state, names).await?;
    }
    let mut made = BTreeMap::new();
    let mut told = if dry_run {
        let image = image(&state).await?;
        plan(&state, &Now { image: &image, at: state.clock.now_ms() }, &wanted, &mut made)?.answer
    } else {
        change(&state, &who, |now| plan(&state, now, &wanted, &mut made)).await?
    };
    if dry_run {
        told.secrets.clear();
    }
    Ok(Json(json!({ "dry_run": dry_run, "changes": told.changes, "secrets": told.secrets })))
}

/// Reads what is asked for, as far as that can be done without knowing what is there.
fn read(tenants: Vec<Value>, now: u64) -> Result<Vec<Wanted>, Problem> {
    if tenants.len() > MOST {
        return Err(unprocessable(&format!("`tenants` has {} elements; send at most {MOST} at a time", tenants.len())));
    }
    let mut names = BTreeSet::new();
    let mut wanted = Vec::with_capacity(tenants.len());
    for (index, tenant) in tenants.into_iter().enumerate() {
        let at = |problem: Problem| problem.at(&format!("tenants[{index}]"));
        let one = read_tenant(tenant, now).map_err(at)?;
        if !names.insert(one.tenant.clone()) {
            return Err(at(unprocessable(&format!("`name`: `{}` comes twice", one.tenant))));
        }
        wanted.push(one);
    }
    Ok(wanted)
}

fn read_tenant(tenant: Value, now: u64) -> Result<Wanted, Problem> {
    let object = || unprocessable("each must be a JSON object");
    let mut members = Members::from(tenant).ok_or_else(object)?;
    let called: String = members.need("name")?;
    tenant_name(&called)?;
    let credential = members.credential("upstream_api_key")?;
    let mut names = BTreeSet::new();
    let mut keys = Vec::new();
    for (index, key) in members.take::<Vec<Value>>("keys")?.unwrap_or_default().into_iter().enumerate() {
        let at = |problem: Problem| problem.at(&format!("keys[{index}]"));
        let mut members = Members::from(key).ok_or_else(object).map_err(at)?;
        let called: String = members.need("name").map_err(at)?;
        name(&called).map_err(at)?;
        if !names.insert(called.clone()) {
            return Err(at(unprocessable(&format!("`name`: `{called}` comes twice"))));
        }
        let expires_at = members.expiry(now).map_err(at)?;
        keys.push(WantedKey { name: called, expires_at, spec: members.rest() });
    }
    Ok(Wanted { tenant: TenantId::new(called), credential, keys, spec: members.rest() })
}

/// Compares what is asked for with what is there. `made` keeps the secrets of new keys when it has to be done again.
fn plan(
    state: &Admin,
    now: &Now<'_>,
    wanted: &[Wanted],
    made: &mut BTreeMap<(TenantId, String), Minted>,
) -> Result<Plan<Told>, Problem> {
    let (mut plan, mut wrong) = (Plan::<Told>::default(), Vec::new());
    for (index, tenant) in wanted.iter().enumerate() {
        let place = format!("tenants[{index}]");
        // By this replica's file, or by that of another.
        let by_another = now.record(&tenant.tenant).is_some_and(|record| record.declared);
        if by_another || state.directory.declared().tenant(&tenant.tenant).is_some() {
            return Err(declared(&format!("tenant `{}`", tenant.tenant)));
        }
        plan_tenant(state, now, tenant, &mut plan)?.unwrap_or_else(|found| wrong.extend(placed(&place, found)));
        for (number, key) in tenant.keys.iter().enumerate() {
            let found = plan_key(state, now, &tenant.tenant, key, made, &mut plan)?;
            found.unwrap_or_else(|found| wrong.extend(placed(&format!("{place}.keys[{number}]"), found)));
        }
    }
    if wrong.is_empty() { Ok(plan) } else { Err(wrong.into()) }
}

fn placed(place: &str, found: Vec<Wrong>) -> impl Iterator<Item = Wrong> {
    found.into_iter().map(move |wrong| Wrong { place: format!("{place}.{}", wrong.place), ..wrong })
}

fn plan_tenant(
    state: &Admin,
    now: &Now<'_>,
    wanted: &Wanted,
    plan: &mut Plan<Told>,
) -> Result<Result<(), Vec<Wrong>>, Problem> {
    let tenant = &wanted.tenant;
    let record = now.record(tenant);
    let before = record.map(stored).transpose()?;
    let members = Members::from(wanted.spec.clone()).ok_or_else(|| unprocessable("each must be a JSON object"))?;
    let spec = match members.replaced(&before.clone().unwrap_or_default()).and_then(checked) {
        Ok(spec) => spec,
        Err(found) => return Ok(Err(found)),
    };
    let sealed = record.and_then(|record| record.credential.clone());
    let opened = sealed.as_ref().map(|sealed| state.directory.seal().open(tenant, sealed));
    let new = wanted.credential.as_ref().filter(|own| !matches!(&opened, Some(Unsealed::Open(old)) if old == *own));
    let credential = match new {
        Some(own) => Some(state.directory.seal().seal(tenant, own).map_err(no_chance)?),
        None => sealed.clone(),
    };
    let action = match &before {
        None => "create",
        Some(before) if *before != spec || new.is_some() => "change",
        Some(_) => "unchanged",
    };
    plan.answer.changes.push(json!({
        "kind": "tenant",
        "tenant": tenant.as_str(),
        "name": tenant.as_str(),
        "action": action,
        "before": before.as_ref().map(|spec| seen(spec, new.map(|_| if sealed.is_some() { "set" } else { "none" }))),
        "after": seen(&spec, new.map(|_| if sealed.is_some() { "set anew" } else { "set" })),
    }));
    if action == "unchanged" {
        return Ok(Ok(()));
    }
    plan.audit.push(Note {
        action: if before.is_some() { "tenant.change" } else { "tenant.create" },
        what: about(tenant),
        before: before.as_ref().map(|spec| audited(spec, sealed.is_some())).unwrap_or_default(),
        after: audited(&spec, credential.is_some()),
    });
    plan.writes.push(DirectoryWrite::PutTenant(TenantRecord {
        tenant: tenant.clone(),
        declared: false,
        spec: text(&spec),
        credential,
        created_at: record.map_or(now.at, |record| record.created_at),
        updated_at: record.map_or(now.at, |record| now.after(record)),
    }));
    Ok(Ok(()))
}

/// A spec, with what becomes of the upstream credential if that changes.
fn seen(spec: &TenantSpec, upstream_key: Option<&str>) -> Value {
    let mut value = json!(spec);
    if let (Some(state), Some(members)) = (upstream_key, value.as_object_mut()) {
        members.insert("upstream_key".to_owned(), state.into());
    }
    value
}

fn plan_key(
    state: &Admin,
    now: &Now<'_>,
    tenant: &TenantId,
    wanted: &WantedKey,
    made: &mut BTreeMap<(TenantId, String), Minted>,
    plan: &mut Plan<Told>,
) -> Result<Result<(), Vec<Wrong>>, Problem> {
    not_declared(state, tenant, &wanted.name)?;
    let rows: Vec<&KeyRow> =
        now.image.keys.iter().filter(|row| row.tenant == *tenant && row.name == wanted.name).collect();
    let in_force = rows.iter().find(|row| row.replaced_by.is_none()).or_else(|| rows.first());
    let before = in_force.map(|row| keys::stored(row)).transpose()?;
    let asked = || Members::from(wanted.spec.clone()).ok_or_else(|| unprocessable("each must be a JSON object"));
    let spec: KeySpec = match asked()?.replaced(&before.clone().unwrap_or_default()).and_then(keys::checked) {
        Ok(spec) => spec,
        Err(found) => return Ok(Err(found)),
    };
    let action = match &before {
        None => "create",
        Some(before) if *before != spec => "change",
        Some(_) => "unchanged",
    };
    plan.answer.changes.push(json!({
        "kind": "key",
        "tenant": tenant.as_str(),
        "name": wanted.name,
        "action": action,
        "before": before,
        "after": spec,
    }));
    if before.is_none() {
        let minted = match made.entry((tenant.clone(), wanted.name.clone())) {
            std::collections::btree_map::Entry::Occupied(there) => there.into_mut(),
            std::collections::btree_map::Entry::Vacant(place) => place.insert(mint(Kind::Key).map_err(no_chance)?),
        };
        let row = new_row(state, tenant, &wanted.name, minted, &spec, wanted.expires_at, now.at);
        let secret = minted.secret.expose();
        plan.answer.secrets.push(json!({ "tenant": tenant.as_str(), "key": wanted.name, "secret": secret }));
        let (what, after) = (keys::about(&row), keys::audited(&row));
        plan.audit.push(Note { action: "key.create", what, before: Value::Null, after });
        plan.writes.push(DirectoryWrite::PutKey(row));
    } else if action == "change" {
        // Keys that this one has replaced are the same key to whoever still uses them.
        for row in rows {
            let after = KeyRow { spec: text(&spec), updated_at: now.at, ..row.clone() };
            plan.audit.push(Note {
                action: "key.change",
                what: keys::about(row),
                before: json!({ "spec": before }),
                after: json!({ "spec": spec }),
            });
            plan.writes.push(DirectoryWrite::PutKey(after));
        }
    }
    Ok(Ok(()))
}
