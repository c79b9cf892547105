//! Tenants, the ledger with its corrections, decisions, what was learnt and the audit as tables.

use super::codec::{BadBytes, Reader, Writer};
use super::table::{Rows, Table};
use super::{ledger_rows, rows};
use crate::clock::UnixMs;
use crate::ids::{AuditId, RequestId, TenantId};
use crate::store::{
    AuditRow, BoxFuture, Correction, DecisionRow, DecisionWrite, LearnedRow, LedgerRow, Stores, TenantRow,
};

pub(super) enum Tenants {}

impl Rows for Tenants {
    type Row = TenantRow;
    type Key = TenantId;
    const TABLE: Table = Table::Tenants;
    const PAGE: u32 = 10_000;

    fn key(row: &TenantRow) -> TenantId {
        row.tenant.clone()
    }

    fn show(key: &TenantId) -> String {
        key.to_string()
    }

    fn parse(text: &str) -> Option<TenantId> {
        Some(TenantId::new(text))
    }

    fn encode(out: &mut Writer, row: &TenantRow) {
        rows::put_tenant(out, row);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<TenantRow, BadBytes> {
        rows::tenant(reader)
    }

    /// Not the times, which say when this database first and last heard of the tenant.
    fn compared(out: &mut Writer, row: &TenantRow) {
        rows::put_tenant(out, &TenantRow { created_at: 0, updated_at: 0, ..row.clone() });
    }

    fn page<'a>(stores: &'a Stores, after: Option<&'a TenantId>, limit: u32) -> BoxFuture<'a, Vec<TenantRow>> {
        Box::pin(async move {
            let mut rows = stores.tenants.list().await?;
            rows.sort_by(|a, b| a.tenant.cmp(&b.tenant));
            rows.retain(|row| after.is_none_or(|after| row.tenant > *after));
            rows.truncate(limit as usize);
            Ok(rows)
        })
    }

    fn one<'a>(stores: &'a Stores, key: &'a TenantId) -> BoxFuture<'a, Option<TenantRow>> {
        Box::pin(async move { Ok(stores.tenants.list().await?.into_iter().find(|row| row.tenant == *key)) })
    }

    fn mends(_: &TenantRow, _: &TenantRow) -> bool {
        true
    }

    fn write<'a>(stores: &'a Stores, rows: &'a [TenantRow]) -> BoxFuture<'a, ()> {
        stores.tenants.upsert(rows)
    }
}

pub(super) enum Requests {}

impl Rows for Requests {
    type Row = LedgerRow;
    type Key = RequestId;
    const TABLE: Table = Table::Requests;
    const PAGE: u32 = 2_000;

    fn key(row: &LedgerRow) -> RequestId {
        row.request
    }

    fn show(key: &RequestId) -> String {
        key.to_string()
    }

    fn parse(text: &str) -> Option<RequestId> {
        text.parse().ok()
    }

    fn encode(out: &mut Writer, row: &LedgerRow) {
        ledger_rows::put_request(out, row);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<LedgerRow, BadBytes> {
        ledger_rows::request(reader)
    }

    fn page<'a>(stores: &'a Stores, after: Option<&'a RequestId>, limit: u32) -> BoxFuture<'a, Vec<LedgerRow>> {
        stores.ledger.page(after.copied(), limit)
    }

    fn one<'a>(stores: &'a Stores, key: &'a RequestId) -> BoxFuture<'a, Option<LedgerRow>> {
        stores.ledger.request(*key)
    }

    fn mends(_: &LedgerRow, _: &LedgerRow) -> bool {
        false
    }

    fn write<'a>(stores: &'a Stores, rows: &'a [LedgerRow]) -> BoxFuture<'a, ()> {
        stores.ledger.append(rows)
    }
}

pub(super) enum Corrections {}

impl Rows for Corrections {
    type Row = Correction;
    type Key = (RequestId, UnixMs);
    const TABLE: Table = Table::Corrections;
    const PAGE: u32 = 2_000;

    fn key(row: &Correction) -> (RequestId, UnixMs) {
        (row.request, row.at)
    }

    fn show(key: &(RequestId, UnixMs)) -> String {
        format!("{}/{}", key.0, key.1)
    }

    fn parse(text: &str) -> Option<(RequestId, UnixMs)> {
        let (request, at) = text.split_once('/')?;
        Some((request.parse().ok()?, at.parse().ok()?))
    }

    fn encode(out: &mut Writer, row: &Correction) {
        ledger_rows::put_correction(out, row);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Correction, BadBytes> {
        ledger_rows::correction(reader)
    }

    fn page<'a>(
        stores: &'a Stores,
        after: Option<&'a (RequestId, UnixMs)>,
        limit: u32,
    ) -> BoxFuture<'a, Vec<Correction>> {
        stores.usage.correction_page(after.copied(), limit)
    }

    fn one<'a>(stores: &'a Stores, key: &'a (RequestId, UnixMs)) -> BoxFuture<'a, Option<Correction>> {
        Box::pin(async move { Ok(stores.usage.corrections(key.0).await?.into_iter().find(|row| row.at == key.1)) })
    }

    fn mends(_: &Correction, _: &Correction) -> bool {
        false
    }

    /// One whose row is not there, or says something else, is left out; a comparison then shows it.
    fn write<'a>(stores: &'a Stores, rows: &'a [Correction]) -> BoxFuture<'a, ()> {
        Box::pin(async move { stores.usage.correct(rows).await.map(|_| ()) })
    }
}

pub(super) enum Decisions {}

impl Rows for Decisions {
    type Row = DecisionRow;
    type Key = RequestId;
    const TABLE: Table = Table::Decisions;
    const PAGE: u32 = 1_000;

    fn key(row: &DecisionRow) -> RequestId {
        row.request
    }

    fn show(key: &RequestId) -> String {
        key.to_string()
    }

    fn parse(text: &str) -> Option<RequestId> {
        text.parse().ok()
    }

    fn encode(out: &mut Writer, row: &DecisionRow) {
        rows::put_decision(out, row);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<DecisionRow, BadBytes> {
        rows::decision(reader)
    }

    fn page<'a>(stores: &'a Stores, after: Option<&'a RequestId>, limit: u32) -> BoxFuture<'a, Vec<DecisionRow>> {
        stores.decisions.since(None, 0, after.copied(), limit)
    }

    fn one<'a>(stores: &'a Stores, key: &'a RequestId) -> BoxFuture<'a, Option<DecisionRow>> {
        stores.decisions.decision(*key)
    }

    /// A label can be given and replaced; it cannot be taken back, and nothing else changes.
    fn mends(source: &DecisionRow, destination: &DecisionRow) -> bool {
        let decided = |row: &DecisionRow| {
            let mut out = Writer::default();
            rows::put_decided(&mut out, row);
            out.into_bytes()
        };
        source.right.is_some() && source.label.is_some() && decided(source) == decided(destination)
    }

    fn write<'a>(stores: &'a Stores, rows: &'a [DecisionRow]) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let mut writes = Vec::with_capacity(rows.len());
            for row in rows {
                writes.push(DecisionWrite::New(Box::new(row.clone())));
                if let (Some(right), Some(label)) = (row.right, row.label.clone()) {
                    writes.push(DecisionWrite::Label { request: row.request, right, label });
                }
            }
            stores.decisions.write(&writes).await
        })
    }
}

pub(super) enum Learned {}

impl Rows for Learned {
    type Row = LearnedRow;
    type Key = (TenantId, String);
    const TABLE: Table = Table::Learned;
    const PAGE: u32 = 10_000;

    fn key(row: &LearnedRow) -> (TenantId, String) {
        (row.tenant.clone(), row.model.clone())
    }

    fn show(key: &(TenantId, String)) -> String {
        format!("{}/{}", key.0, key.1)
    }

    fn parse(_: &str) -> Option<(TenantId, String)> {
        None
    }

    fn encode(out: &mut Writer, row: &LearnedRow) {
        rows::put_learned(out, row);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<LearnedRow, BadBytes> {
        rows::learned(reader)
    }

    fn page<'a>(
        stores: &'a Stores,
        after: Option<&'a (TenantId, String)>,
        limit: u32,
    ) -> BoxFuture<'a, Vec<LearnedRow>> {
        Box::pin(async move {
            let mut rows = stores.decisions.learned().await?;
            rows.sort_by_cached_key(Self::key);
            rows.retain(|row| after.is_none_or(|after| Self::key(row) > *after));
            rows.truncate(limit as usize);
            Ok(rows)
        })
    }

    fn one<'a>(stores: &'a Stores, key: &'a (TenantId, String)) -> BoxFuture<'a, Option<LearnedRow>> {
        Box::pin(async move { Ok(stores.decisions.learned().await?.into_iter().find(|row| Self::key(row) == *key)) })
    }

    /// Not what a shadow has brought up to date meanwhile.
    fn mends(source: &LearnedRow, destination: &LearnedRow) -> bool {
        source.updated_at >= destination.updated_at
    }

    fn write<'a>(stores: &'a Stores, rows: &'a [LearnedRow]) -> BoxFuture<'a, ()> {
        stores.decisions.save_learned(rows)
    }
}

pub(super) enum Audit {}

impl Rows for Audit {
    type Row = AuditRow;
    type Key = AuditId;
    const TABLE: Table = Table::Audit;
    const PAGE: u32 = 1_000;

    fn key(row: &AuditRow) -> AuditId {
        row.id
    }

    fn show(key: &AuditId) -> String {
        key.to_string()
    }

    fn parse(text: &str) -> Option<AuditId> {
        text.parse().ok()
    }

    fn encode(out: &mut Writer, row: &AuditRow) {
        rows::put_audit(out, row);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<AuditRow, BadBytes> {
        rows::audit(reader)
    }

    fn page<'a>(stores: &'a Stores, after: Option<&'a AuditId>, limit: u32) -> BoxFuture<'a, Vec<AuditRow>> {
        stores.audit.audit_page(after.copied(), limit)
    }

    fn one<'a>(stores: &'a Stores, key: &'a AuditId) -> BoxFuture<'a, Option<AuditRow>> {
        Box::pin(async move {
            let before = u128::from_be_bytes(key.to_bytes()).checked_sub(1);
            let before = before.map(|before| AuditId::from_bytes(before.to_be_bytes()));
            Ok(stores.audit.audit_page(before, 1).await?.into_iter().find(|row| row.id == *key))
        })
    }

    fn mends(_: &AuditRow, _: &AuditRow) -> bool {
        false
    }

    fn write<'a>(stores: &'a Stores, rows: &'a [AuditRow]) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            for row in rows {
                stores.audit.record(row, &[]).await?;
            }
            Ok(())
        })
    }
}
