//! Rows that callers write, read one by one and page by page, change and delete.

use std::time::Duration;

use axum::extract::State;
use axum::{Extension, Json};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::Shared;
use super::body::Sent;
use super::params::{Id, Params};
use super::problem::Problem;
use crate::clock::UnixMs;
use crate::ids::RemId;
use crate::rem::{Code, Fault, ingest, row_found};
use crate::store::StoreError;
use crate::store::rem::{RemRow, RemStore, RemTable, RemWrite, Scope};

/// Longest time of a write: a long document is many rows.
const WRITE: Duration = Duration::from_secs(60);
/// Rows of a page: default and most.
const PAGE: (u32, u32) = (50, 1_000);
/// Bytes of texts after which a page ends, and rows that are read at a time.
const PAGE_BYTES: usize = 8 << 20;
const AT_ONCE: u32 = 50;
/// Said of what is not there and of what is another's.
const NOTHING: &str = "there is nothing of that id for this API key";

/// What became of a write.
type Done = Result<(StatusCode, Json<Value>), Problem>;

/// `POST /rem/v1/{table}`
pub(super) async fn create(
    table: RemTable,
    State(shared): State<Shared>,
    Extension(scope): Extension<Scope>,
    Sent(body): Sent,
) -> Done {
    let now = shared.rem.parts().clock.now_ms();
    let store = keeper(&shared, &scope)?;
    within(WRITE, async {
        let writes = taken_apart(table, body, scope.clone(), now).await?;
        let writes = ingest::settle(store, &scope, writes).await?;
        apply(store, &scope, &writes).await
    })
    .await?
    .map(|told| (StatusCode::CREATED, Json(told)))
}

/// Bodies that are taken apart at once.
static TAKING_APART: Semaphore = Semaphore::const_new(2);

/// Reads a body and cuts its documents, beside the threads that serve: a long one takes a while. Whoever gives up waiting leaves the
/// work to its end, and its place is taken until then.
async fn taken_apart(table: RemTable, body: Value, scope: Scope, now: UnixMs) -> Result<Vec<RemWrite>, Problem> {
    // It is never closed; if it were, nobody would wait.
    let place = TAKING_APART.acquire().await.ok();
    let work = tokio::task::spawn_blocking(move || {
        let _place = place;
        match table {
            RemTable::Resources => ingest::resources(&body, &scope, now),
            RemTable::Entities => ingest::entities(&body, &scope, now),
            RemTable::Moments | RemTable::Requests => ingest::moments(&body, &scope, now),
        }
    });
    let unfinished = |_| Fault::new(Code::Unavailable, "this could not be read now; try again");
    Ok(work.await.map_err(unfinished)??)
}

/// `POST /rem/v1/edges`
pub(super) async fn link(State(shared): State<Shared>, Extension(scope): Extension<Scope>, Sent(body): Sent) -> Done {
    let now = shared.rem.parts().clock.now_ms();
    let store = keeper(&shared, &scope)?;
    within(WRITE, async {
        let writes = ingest::edges(store, &scope, &body, now).await?;
        apply(store, &scope, &writes).await
    })
    .await?
    .map(|told| (StatusCode::CREATED, Json(told)))
}

/// `PATCH /rem/v1/{table}/{id}`
pub(super) async fn change(
    table: RemTable,
    State(shared): State<Shared>,
    Extension(scope): Extension<Scope>,
    Id(id): Id,
    Sent(body): Sent,
) -> Result<Json<Value>, Problem> {
    let now = shared.rem.parts().clock.now_ms();
    let store = keeper(&shared, &scope)?;
    within(WRITE, async {
        let row = one(store, &scope, table, &id).await?;
        let writes = ingest::patch(&row, &body, &scope, now)?;
        apply(store, &scope, &writes).await?;
        let row = one(store, &scope, table, &id).await?;
        Ok(Json(json!(row_found(&row))))
    })
    .await?
}

/// `DELETE /rem/v1/{table}/{id}?purge=true`
pub(super) async fn delete(
    table: RemTable,
    State(shared): State<Shared>,
    Extension(scope): Extension<Scope>,
    Id(id): Id,
    params: Params,
) -> Result<StatusCode, Problem> {
    params.known(&["purge"])?;
    let purge = params.flag("purge")?;
    let now = shared.rem.parts().clock.now_ms();
    let store = shared.rem.parts().store.as_ref();
    within(WRITE, async {
        let id = id.parse::<RemId>().map_err(|_| Problem::not_found(NOTHING))?;
        let writes = ingest::delete(store, &scope, table, id, purge, now).await.map_err(|fault| {
            // One text, whoever asks for whatever.
            if fault.code == Code::NotFound { Problem::not_found(NOTHING) } else { fault.into() }
        })?;
        store.rem_apply(&scope.tenant, &writes).await?;
        Ok(StatusCode::NO_CONTENT)
    })
    .await?
}

/// `GET /rem/v1/{table}/{id}`
pub(super) async fn read(
    table: RemTable,
    State(shared): State<Shared>,
    Extension(scope): Extension<Scope>,
    Id(id): Id,
) -> Result<Json<Value>, Problem> {
    let parts = shared.rem.parts();
    within(parts.deadline, async {
        let row = one(parts.store.as_ref(), &scope, table, &id).await?;
        Ok(Json(json!(row_found(&row))))
    })
    .await?
}

/// `GET /rem/v1/{table}?limit=50&after=…`
pub(super) async fn list(
    table: RemTable,
    State(shared): State<Shared>,
    Extension(scope): Extension<Scope>,
    params: Params,
) -> Result<Json<Value>, Problem> {
    params.known(&["limit", "after"])?;
    let limit = params.number("limit", 1, PAGE.1)?.unwrap_or(PAGE.0);
    let after = params.text("after")?.map(|after| after.parse::<RemId>()).transpose().map_err(|_| {
        let fault = Fault::new(Code::InvalidArgument, "after is no place in this list");
        Problem::from(fault.of("after").hint("take it from `next` of the page before"))
    })?;
    let parts = shared.rem.parts();
    within(parts.deadline, async {
        let (rows, more) = page(parts.store.as_ref(), &scope, table, after, limit).await?;
        let next = rows.last().filter(|_| more).map(|row| row.id.to_string());
        let results: Vec<Value> = rows.iter().map(|row| json!(row_found(row))).collect();
        Ok(Json(json!({ "count": results.len(), "results": results, "next": next })))
    })
    .await?
}

/// Rows of a table, and whether there are more. A page that has become heavy ends before its length.
pub(super) async fn page(
    store: &dyn RemStore,
    scope: &Scope,
    table: RemTable,
    mut after: Option<RemId>,
    limit: u32,
) -> Result<(Vec<RemRow>, bool), StoreError> {
    let (mut page, mut bytes) = (Vec::new(), 0_usize);
    let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
    loop {
        let asked = AT_ONCE.min(limit.saturating_add(1));
        let read = store.rem_list(scope, table, after, asked).await?;
        let end = u32::try_from(read.len()).is_ok_and(|len| len < asked);
        for row in read {
            if page.len() == wanted || bytes >= PAGE_BYTES {
                return Ok((page, true));
            }
            bytes = bytes.saturating_add(row.text.len());
            after = Some(row.id);
            page.push(row);
        }
        if end {
            return Ok((page, false));
        }
    }
}

/// The store, if it may keep what this tenant writes.
fn keeper<'a>(shared: &'a Shared, scope: &Scope) -> Result<&'a dyn RemStore, Problem> {
    let store = shared.rem.parts().store.as_ref();
    if store.rem_keeps_texts(&scope.tenant) {
        return Ok(store);
    }
    let text = "the data of this tenant is sealed, and what is to be found by its text cannot be sealed";
    Err(Fault::new(Code::Sealed, text).hint("write it under a tenant that is not sealed").into())
}

/// Writes, and tells what was written: rows, and how many edges were added.
async fn apply(store: &dyn RemStore, scope: &Scope, writes: &[RemWrite]) -> Result<Value, Problem> {
    store.rem_apply(&scope.tenant, writes).await?;
    let row = |row: &RemRow| json!({ "table": row.table.as_str(), "id": row.id.to_string(), "name": row.name });
    let mut rows = Vec::new();
    let mut edges = 0;
    for write in writes {
        match write {
            RemWrite::Put { row: put, edges: put_edges, .. } => {
                rows.push(row(put));
                edges += put_edges.as_ref().map_or(0, Vec::len);
            }
            RemWrite::Link { edges: linked, .. } => edges += linked.len(),
            _ => {}
        }
    }
    Ok(json!({ "count": rows.len(), "rows": rows, "edges": edges }))
}

async fn one(store: &dyn RemStore, scope: &Scope, table: RemTable, id: &str) -> Result<RemRow, Problem> {
    let id = id.parse::<RemId>().map_err(|_| Problem::not_found(NOTHING))?;
    let rows: Result<Vec<RemRow>, StoreError> = store.rem_rows(scope, &[id]).await;
    rows?.into_iter().find(|row| row.table == table).ok_or_else(|| Problem::not_found(NOTHING))
}

/// Bounds a step in time.
async fn within<T>(most: Duration, step: impl Future<Output = T>) -> Result<T, Problem> {
    tokio::time::timeout(most, step).await.map_err(|_| {
        Fault::new(Code::Timeout, "this took too long and was given up").hint("send less at once, or try again").into()
    })
}
