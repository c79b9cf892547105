//! REM data behind the layer: indexes need clear text, so there is none of a tenant that is sealed.
//!
//! Whoever writes asks [`RemStore::rem_keeps_texts`] first and says so to its caller. What comes all the same is dropped here and
//! counted: names, texts, vectors and edges are all made of what was said.
//!
//! What was written before its tenant was sealed is not found from then on, and the task that fills deletes it. Requests of the ledger,
//! which is in the clear, are still found.

use std::pin::Pin;

use super::super::rem::passed::{ask_inner, rem_others, rem_searches};
use super::super::rem::*;
use super::super::{BoxFuture, Cursor, Exported, StoreError};
use super::Sealed;
use crate::clock::UnixMs;
use crate::ids::{EntryId, KeyId, RemId, TenantId};

impl Sealed {
    fn rem(&self) -> Result<&dyn RemStore, StoreError> {
        self.0.inner.rem.as_deref().ok_or(StoreError::Closed)
    }

    /// The rows, where this caller may be shown any.
    fn rem_of(&self, scope: &Scope) -> Result<Option<&dyn RemStore>, StoreError> {
        if self.rem_keeps_texts(&scope.tenant) { self.rem().map(Some) } else { Ok(None) }
    }

    /// The statements of a caller, if there is nothing that they must not find.
    async fn sql_of(&self, scope: &Scope) -> Result<&dyn SqlGuarded, SqlFault> {
        let away = || SqlFault::Unavailable("the database does not answer".to_owned());
        if !self.rem_keeps_texts(&scope.tenant) {
            let before = (scope.tenant.clone(), RemId::from_bytes([0; 16]));
            let rem = self.rem().map_err(|_| away())?;
            let left = rem.rem_export(Some(&before), 1).await.map_err(|_| away())?;
            if left.iter().any(|row| row.tenant == scope.tenant) {
                let text = "the data of this tenant is sealed, and what was stored for REM before is being deleted; try again later";
                return Err(SqlFault::Unavailable(text.to_owned()));
            }
        }
        self.0.inner.sql.as_deref().ok_or_else(away)
    }
}

impl SqlGuarded for Sealed {
    fn select<'a>(
        &'a self,
        scope: &'a Scope,
        text: &'a str,
        caps: SqlCaps,
    ) -> Pin<Box<dyn Future<Output = Result<SqlAnswer, SqlFault>> + Send + 'a>> {
        Box::pin(async move { self.sql_of(scope).await?.select(scope, text, caps).await })
    }

    fn plan<'a>(
        &'a self,
        scope: &'a Scope,
        text: &'a str,
        caps: SqlCaps,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<String>, SqlFault>> + Send + 'a>> {
        Box::pin(async move { self.sql_of(scope).await?.plan(scope, text, caps).await })
    }

    fn forget<'a>(&'a self, tenant: &'a TenantId, key: Option<&'a KeyId>) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            match &self.0.inner.sql {
                Some(sql) => sql.forget(tenant, key).await,
                None => Ok(()),
            }
        })
    }
}

/// Whether a write brings something that a database of a sealed tenant must not have.
fn brings(write: &RemWrite) -> bool {
    match write {
        RemWrite::Put { .. } | RemWrite::Link { .. } | RemWrite::Embed { .. } => true,
        RemWrite::Unlink { .. } | RemWrite::Hide { .. } | RemWrite::Purge { .. } | RemWrite::ForgetRequest { .. } => {
            false
        }
    }
}

/// A search, where this caller may be shown something.
macro_rules! ask_where_shown {
    ($self:ident, $own:ident, $read:ident($scope:ident, $($arg:ident),+)) => {
        Box::pin(async move {
            match $self.rem_of($scope)? {
                Some(rem) => rem.$read($scope, $($arg),+).await,
                None => Ok(Vec::new()),
            }
        })
    };
}

impl RemStore for Sealed {
    fn rem_apply<'a>(&'a self, tenant: &'a TenantId, writes: &'a [RemWrite]) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            if self.rem_keeps_texts(tenant) {
                return self.rem()?.rem_apply(tenant, writes).await;
            }
            let (dropped, kept): (Vec<RemWrite>, Vec<RemWrite>) = writes.iter().cloned().partition(brings);
            dropped.iter().for_each(|_| self.0.count_dropped());
            if kept.is_empty() { Ok(()) } else { self.rem()?.rem_apply(tenant, &kept).await }
        })
    }

    /// Also not of one that was sealed once and is no more, or whose key was shredded.
    fn rem_keeps_texts(&self, tenant: &TenantId) -> bool {
        !self.0.may_be_sealed(tenant) && self.0.inner.rem.as_ref().is_some_and(|rem| rem.rem_keeps_texts(tenant))
    }

    fn rem_seals(&self) -> bool {
        true
    }

    fn rem_statements(&self, scope: &Scope, read: RemRead<'_>) -> Vec<String> {
        self.0.inner.rem.as_ref().map(|rem| rem.rem_statements(scope, read)).unwrap_or_default()
    }

    rem_searches!(ask_where_shown);
    rem_others!(ask_inner);

    fn rem_rows<'a>(&'a self, scope: &'a Scope, ids: &'a [RemId]) -> BoxFuture<'a, Vec<RemRow>> {
        Box::pin(async move {
            let mut rows = self.rem()?.rem_rows(scope, ids).await?;
            if !self.rem_keeps_texts(&scope.tenant) {
                rows.retain(|row| row.table == RemTable::Requests);
            }
            Ok(rows)
        })
    }

    fn rem_forget(&self, before: UnixMs, limit: u32) -> BoxFuture<'_, u64> {
        Box::pin(async move { self.rem()?.rem_forget(before, limit).await })
    }

    fn rem_forget_tenant<'a>(
        &'a self,
        tenant: &'a TenantId,
        owner: Option<&'a Owner>,
        limit: u32,
    ) -> BoxFuture<'a, u64> {
        Box::pin(async move { self.rem()?.rem_forget_tenant(tenant, owner, limit).await })
    }

    /// Those of sealed tenants are left out: they never get a row. A page that was left empty so is passed over.
    fn rem_entries_without_row<'a>(
        &'a self,
        now: UnixMs,
        since: Option<EntryId>,
        after: Option<&'a Cursor>,
        limit: u32,
    ) -> BoxFuture<'a, Vec<Exported>> {
        Box::pin(async move {
            let mut after = after.cloned();
            loop {
                let mut page = self.rem()?.rem_entries_without_row(now, since, after.as_ref(), limit).await?;
                let Some(last) = page.last() else { return Ok(page) };
                // Nothing of a tenant that is sealed is of use, so the rest of it is not read.
                let kept = self.rem_keeps_texts(&last.entry.tenant);
                let entry = if kept { last.entry.id } else { EntryId::from_bytes([u8::MAX; 16]) };
                after = Some(Cursor { tenant: last.entry.tenant.clone(), entry });
                page.retain(|exported| self.rem_keeps_texts(&exported.entry.tenant));
                if !page.is_empty() {
                    return Ok(page);
                }
            }
        })
    }
}
