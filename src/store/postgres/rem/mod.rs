//! REM data in this database.
//!
//! The scope is part of every statement: the tenant, and the owners that the caller sees. Reads see one moment each; a write that
//! met others on the same rows is tried again.

mod edges;
mod filter;
mod found;
mod keep;
mod listing;
mod near;
mod puts;
mod rows;
mod similar;
mod snapshot;
mod spaces;
mod told;
mod writes;

#[cfg(test)]
mod tests;

use sqlx::raw_sql;

use self::snapshot::Snapshot;
pub(super) use self::spaces::index_sql;
use super::super::rem::passed::{ask_own, rem_others, rem_searches};
use super::super::rem::*;
use super::super::{BoxFuture, Cursor, Exported, StoreError};
use super::{PostgresStore, pause};
use crate::clock::UnixMs;
use crate::ids::{EntryId, RemId, TenantId};

/// A plan made for other parameters, or while a table was small, would later read all of it.
const PLAN_EACH: &str = "SET LOCAL plan_cache_mode = force_custom_plan";

impl PostgresStore {
    async fn rem_set(&self, snapshot: &mut Snapshot, setting: &'static str) -> Result<(), StoreError> {
        raw_sql(setting).execute(&mut **snapshot).await.map(drop).map_err(|error| self.fault(error))
    }
}

impl RemStore for PostgresStore {
    fn rem_apply<'a>(&'a self, tenant: &'a TenantId, writes: &'a [RemWrite]) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let mut round = 0;
            while !writes.is_empty() {
                match self.rem_apply_once(tenant, writes).await {
                    Err(error) => pause(&mut round, error).await?,
                    done => return done,
                }
            }
            Ok(())
        })
    }

    fn rem_statements(&self, _: &Scope, read: RemRead<'_>) -> Vec<String> {
        Self::statements(read)
    }

    rem_searches!(ask_own);
    rem_others!(ask_own);

    fn rem_rows<'a>(&'a self, scope: &'a Scope, ids: &'a [RemId]) -> BoxFuture<'a, Vec<RemRow>> {
        Box::pin(self.rows_of_ids(scope, ids))
    }

    fn rem_forget(&self, before: UnixMs, limit: u32) -> BoxFuture<'_, u64> {
        Box::pin(async move {
            let mut round = 0;
            loop {
                match self.forget_once(before, limit).await {
                    Err(error) => pause(&mut round, error).await?,
                    done => return done,
                }
            }
        })
    }

    fn rem_forget_tenant<'a>(
        &'a self,
        tenant: &'a TenantId,
        owner: Option<&'a Owner>,
        limit: u32,
    ) -> BoxFuture<'a, u64> {
        Box::pin(async move {
            let mut round = 0;
            loop {
                match self.forget_of_once(tenant, owner, limit).await {
                    Err(error) => pause(&mut round, error).await?,
                    done => return done,
                }
            }
        })
    }

    fn rem_entries_without_row<'a>(
        &'a self,
        now: UnixMs,
        since: Option<EntryId>,
        after: Option<&'a Cursor>,
        limit: u32,
    ) -> BoxFuture<'a, Vec<Exported>> {
        Box::pin(self.entries_without_row(now, since, after, limit))
    }
}
