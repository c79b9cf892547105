//! Audit, decisions, changes and searches behind the layer.

use super::super::{
    AuditHead, AuditRow, AuditStore, BoxFuture, Chained, ChangeStore, DecisionRow, DecisionStore, DecisionWrite,
    Digest, EntryWrite, Feed, LearnedRow, Loaded, NearPoint, PartitionSize, Question, SearchStore, Seq, StoreError,
    What,
};
use super::Sealed;
use super::cells::seal_decision;
use super::entries::Way;
use crate::clock::UnixMs;
use crate::ids::{AuditId, EntryId, PointId, RequestId, TenantId};

impl AuditStore for Sealed {
    fn record<'a>(&'a self, row: &'a AuditRow, changes: &'a [EntryWrite]) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let sealed = self.0.sealed(changes).await?;
            self.0.inner.audit.record(row, &sealed).await
        })
    }

    fn trail(&self, before: Option<AuditId>, limit: u32) -> BoxFuture<'_, Vec<AuditRow>> {
        self.0.inner.audit.trail(before, limit)
    }

    fn audit_page(&self, after: Option<AuditId>, limit: u32) -> BoxFuture<'_, Vec<AuditRow>> {
        self.0.inner.audit.audit_page(after, limit)
    }

    fn audit_head(&self) -> BoxFuture<'_, Option<AuditHead>> {
        self.0.inner.audit.audit_head()
    }

    fn audit_chain(&self, after: u64, limit: u32) -> BoxFuture<'_, Vec<Chained>> {
        self.0.inner.audit.audit_chain(after, limit)
    }

    fn audit_unchained(&self) -> BoxFuture<'_, u64> {
        self.0.inner.audit.audit_unchained()
    }
}

impl DecisionStore for Sealed {
    fn write<'a>(&'a self, writes: &'a [DecisionWrite]) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let mut out = Vec::with_capacity(writes.len());
            for write in writes {
                let DecisionWrite::New(row) = write else {
                    out.push(write.clone());
                    continue;
                };
                match self.0.way(&row.tenant).await? {
                    Way::Clear => out.push(write.clone()),
                    Way::Drop => self.0.count_dropped(),
                    Way::Seal(key) => out.push(DecisionWrite::New(Box::new(seal_decision(&key, row)?))),
                }
            }
            self.0.inner.decisions.write(&out).await
        })
    }

    fn decision(&self, request: RequestId) -> BoxFuture<'_, Option<DecisionRow>> {
        Box::pin(async move {
            let mut row = self.0.inner.decisions.decision(request).await?;
            self.0.open_decisions(row.as_mut_slice()).await?;
            Ok(row)
        })
    }

    fn since<'a>(
        &'a self,
        tenant: Option<&'a TenantId>,
        since: UnixMs,
        after: Option<RequestId>,
        limit: u32,
    ) -> BoxFuture<'a, Vec<DecisionRow>> {
        Box::pin(async move {
            let mut rows = self.0.inner.decisions.since(tenant, since, after, limit).await?;
            self.0.open_decisions(&mut rows).await?;
            Ok(rows)
        })
    }

    fn forget(&self, before: UnixMs, limit: u32) -> BoxFuture<'_, u64> {
        self.0.inner.decisions.forget(before, limit)
    }

    fn forget_tenant<'a>(&'a self, tenant: &'a TenantId, limit: u32) -> BoxFuture<'a, u64> {
        self.0.inner.decisions.forget_tenant(tenant, limit)
    }

    fn save_learned<'a>(&'a self, rows: &'a [LearnedRow]) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let mut kept = Vec::with_capacity(rows.len());
            for row in rows {
                match self.0.way(&row.tenant).await? {
                    Way::Clear | Way::Seal(_) => kept.push(row.clone()),
                    Way::Drop => self.0.count_dropped(),
                }
            }
            self.0.inner.decisions.save_learned(&kept).await
        })
    }

    fn learned(&self) -> BoxFuture<'_, Vec<LearnedRow>> {
        self.0.inner.decisions.learned()
    }
}

impl Sealed {
    fn changes(&self) -> Result<&dyn ChangeStore, StoreError> {
        self.0.inner.changes.as_deref().ok_or(StoreError::Closed)
    }

    fn searching(&self) -> Result<&dyn SearchStore, StoreError> {
        self.0.inner.search.as_deref().ok_or(StoreError::Closed)
    }
}

impl ChangeStore for Sealed {
    /// Another replica may have shredded a key before it told of an invalidation. Nothing can be stored here before that is
    /// read, so what is stored after it is sealed with a key that is read anew, or dropped.
    fn feed(&self, after: Seq, limit: u32) -> BoxFuture<'_, Feed> {
        Box::pin(async move {
            let feed = self.changes()?.feed(after, limit).await?;
            let gap = feed.oldest > after.saturating_add(1);
            if gap || feed.changes.iter().any(|change| matches!(change.what, What::Invalidated { .. })) {
                self.0.keys.forget();
            }
            Ok(feed)
        })
    }

    fn before(&self, at: UnixMs) -> BoxFuture<'_, Seq> {
        Box::pin(async move { self.changes()?.before(at).await })
    }

    fn changed(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move { self.changes()?.changed().await })
    }

    fn obeyed(&self, seq: Seq) {
        if let Some(changes) = &self.0.inner.changes {
            changes.obeyed(seq);
        }
    }

    fn withdraw(&self, entries: &[EntryId], points: &[PointId]) {
        if let Some(changes) = &self.0.inner.changes {
            changes.withdraw(entries, points);
        }
    }

    fn forget_changes(&self, before: UnixMs, limit: u32) -> BoxFuture<'_, u64> {
        Box::pin(async move { self.changes()?.forget_changes(before, limit).await })
    }
}

impl SearchStore for Sealed {
    fn searches(&self, tenant: &TenantId) -> bool {
        !self.0.may_be_sealed(tenant)
    }

    fn partitions(&self, now: UnixMs) -> BoxFuture<'_, Vec<PartitionSize>> {
        Box::pin(async move { self.searching()?.partitions(now).await })
    }

    fn scan_partition<'a>(
        &'a self,
        tenant: &'a TenantId,
        partition: &'a Digest,
        now: UnixMs,
        after: Option<EntryId>,
        limit: u32,
    ) -> BoxFuture<'a, Vec<Loaded>> {
        Box::pin(async move {
            let mut after = after;
            loop {
                let page = self.searching()?.scan_partition(tenant, partition, now, after, limit).await?;
                let Some(last) = page.last() else { return Ok(page) };
                after = Some(last.meta.entry.id);
                let opened = self.0.open_loaded(page).await?;
                if !opened.is_empty() {
                    return Ok(opened);
                }
            }
        })
    }

    fn by_fingerprint<'a>(
        &'a self,
        tenant: &'a TenantId,
        fingerprint: &'a Digest,
        now: UnixMs,
    ) -> BoxFuture<'a, Option<Loaded>> {
        Box::pin(async move {
            let found = self.searching()?.by_fingerprint(tenant, fingerprint, now).await?;
            Ok(self.0.open_loaded(found.into_iter().collect()).await?.into_iter().next())
        })
    }

    /// Finds nothing of a tenant that is sealed: there are no vectors.
    fn nearest<'a>(&'a self, question: &'a Question<'a>) -> BoxFuture<'a, Vec<NearPoint>> {
        Box::pin(async move { self.searching()?.nearest(question).await })
    }
}
