//! What the admin API writes and shows: tenants, keys, tokens, the audit and alerts.

use bytes::Bytes;

use super::super::{AlertRow, AuditHead, AuditRow, Chained, KeyRow, StoreError, TenantRecord, TenantRow, TokenRow};
use super::cells::{Cells, StoredRow};
use crate::ids::{AuditId, TenantId};

pub(in crate::store) fn tenant<'r>(row: &'r impl StoredRow<'r>) -> Result<TenantRecord, StoreError> {
    let mut cells = Cells::of("tenant_specs", row);
    Ok(TenantRecord {
        tenant: TenantId::new(cells.take::<&str>()?),
        declared: cells.take()?,
        spec: cells.string()?,
        credential: cells.take::<Option<Vec<u8>>>()?.map(Bytes::from),
        created_at: cells.count()?,
        updated_at: cells.count()?,
    })
}

pub(in crate::store) fn key<'r>(row: &'r impl StoredRow<'r>) -> Result<KeyRow, StoreError> {
    let mut cells = Cells::of("virtual_keys", row);
    Ok(KeyRow {
        id: cells.string()?,
        tenant: TenantId::new(cells.take::<&str>()?),
        name: cells.string()?,
        hash: cells.digest()?,
        spec: cells.string()?,
        expires_at: cells.count_or_null()?,
        replaced_by: cells.text_or_null()?,
        created_at: cells.count()?,
        updated_at: cells.count()?,
        used_at: cells.count_or_null()?,
    })
}

pub(in crate::store) fn token<'r>(row: &'r impl StoredRow<'r>) -> Result<TokenRow, StoreError> {
    let mut cells = Cells::of("admin_tokens", row);
    Ok(TokenRow {
        id: cells.string()?,
        name: cells.string()?,
        hash: cells.digest()?,
        role: cells.string()?,
        tenant: cells.take::<Option<&str>>()?.map(TenantId::new),
        expires_at: cells.count_or_null()?,
        created_at: cells.count()?,
        used_at: cells.count_or_null()?,
    })
}

/// A tenant that is known, be it without a spec.
pub(in crate::store) fn known_tenant<'r>(row: &'r impl StoredRow<'r>) -> Result<TenantRow, StoreError> {
    let mut cells = Cells::of("tenants", row);
    Ok(TenantRow {
        tenant: TenantId::new(cells.take::<&str>()?),
        declared: cells.take()?,
        created_at: cells.count()?,
        updated_at: cells.count()?,
    })
}

pub(in crate::store) fn audit_head<'r>(row: &'r impl StoredRow<'r>) -> Result<AuditHead, StoreError> {
    let mut cells = Cells::of("audit_head", row);
    Ok(AuditHead { seq: cells.count()?, hash: cells.digest()? })
}

pub(in crate::store) fn audit<'r>(row: &'r impl StoredRow<'r>) -> Result<AuditRow, StoreError> {
    audit_cells(&mut Cells::of("admin_audit", row))
}

/// A row of the audit with its place in the chain.
pub(in crate::store) fn chained<'r>(row: &'r impl StoredRow<'r>) -> Result<Chained, StoreError> {
    let mut cells = Cells::of("admin_audit", row);
    Ok(Chained { row: audit_cells(&mut cells)?, seq: cells.count()?, hash: cells.digest()? })
}

fn audit_cells<'r>(cells: &mut Cells<'r, impl StoredRow<'r>>) -> Result<AuditRow, StoreError> {
    Ok(AuditRow {
        id: AuditId::from_bytes(cells.id()?),
        at: cells.count()?,
        actor: cells.string()?,
        action: cells.word()?,
        reason: cells.text_or_null()?,
        what: cells.string()?,
        result: cells.string()?,
    })
}

/// An alert, of which the next cell is the first.
pub(in crate::store) fn alert<'r>(cells: &mut Cells<'r, impl StoredRow<'r>>) -> Result<AlertRow, StoreError> {
    Ok(AlertRow {
        id: cells.string()?,
        at: cells.count()?,
        tenant: cells.take::<Option<&str>>()?.map(TenantId::new),
        kind: cells.string()?,
        title: cells.string()?,
        payload: cells.string()?,
    })
}
