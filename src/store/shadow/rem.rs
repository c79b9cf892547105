//! REM data, which the second store gets too; it is read from the first.

use super::Shadow;
use super::mirror::Work;
use crate::clock::UnixMs;
use crate::ids::{EntryId, RemId, TenantId};
use crate::store::rem::passed::{ask_inner, rem_others, rem_searches};
use crate::store::rem::*;
use crate::store::{BoxFuture, Cursor, Exported, StoreError};

impl Shadow {
    fn rem(&self) -> Result<&dyn RemStore, StoreError> {
        self.first.rem.as_deref().ok_or(StoreError::Closed)
    }
}

impl RemStore for Shadow {
    /// In the order of changes to entries, for a row may belong to one.
    fn rem_apply<'a>(&'a self, tenant: &'a TenantId, writes: &'a [RemWrite]) -> BoxFuture<'a, ()> {
        let (tenant, writes) = (tenant.clone(), writes.to_vec());
        self.whole(|this| async move {
            let _order = this.entries.lock().await;
            this.rem()?.rem_apply(&tenant, &writes).await?;
            this.mirror(Work::Rem(tenant, writes));
            Ok(())
        })
    }

    fn rem_keeps_texts(&self, tenant: &TenantId) -> bool {
        self.first.rem.as_ref().is_some_and(|rem| rem.rem_keeps_texts(tenant))
    }

    fn rem_seals(&self) -> bool {
        self.first.rem.as_ref().is_some_and(|rem| rem.rem_seals())
    }

    fn rem_statements(&self, scope: &Scope, read: RemRead<'_>) -> Vec<String> {
        self.first.rem.as_ref().map(|rem| rem.rem_statements(scope, read)).unwrap_or_default()
    }

    rem_searches!(ask_inner);
    rem_others!(ask_inner);

    fn rem_rows<'a>(&'a self, scope: &'a Scope, ids: &'a [RemId]) -> BoxFuture<'a, Vec<RemRow>> {
        Box::pin(async move { self.rem()?.rem_rows(scope, ids).await })
    }

    fn rem_forget(&self, before: UnixMs, limit: u32) -> BoxFuture<'_, u64> {
        self.whole(move |this| async move {
            let _order = this.entries.lock().await;
            let gone = this.rem()?.rem_forget(before, limit).await?;
            this.mirror(Work::ForgetRem(before, limit));
            Ok(gone)
        })
    }

    fn rem_forget_tenant<'a>(
        &'a self,
        tenant: &'a TenantId,
        owner: Option<&'a Owner>,
        limit: u32,
    ) -> BoxFuture<'a, u64> {
        let (tenant, owner) = (tenant.clone(), owner.cloned());
        self.whole(move |this| async move {
            let _order = this.entries.lock().await;
            let gone = this.rem()?.rem_forget_tenant(&tenant, owner.as_ref(), limit).await?;
            this.mirror(Work::ForgetRemOf(tenant, owner, limit));
            Ok(gone)
        })
    }

    fn rem_entries_without_row<'a>(
        &'a self,
        now: UnixMs,
        since: Option<EntryId>,
        after: Option<&'a Cursor>,
        limit: u32,
    ) -> BoxFuture<'a, Vec<Exported>> {
        Box::pin(async move { self.rem()?.rem_entries_without_row(now, since, after, limit).await })
    }
}
