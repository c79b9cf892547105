//! The parts of a store that the writer never asks.

use super::tests::Fake;
use crate::clock::UnixMs;
use crate::ids::{AuditId, RequestId, TenantId};
use crate::store::{
    AlertRow, AlertStore, AuditHead, AuditRow, AuditStore, BoxFuture, Chained, Correction, DeliveryRow, DirectoryImage,
    DirectoryStore, DirectoryWrite, EntryWrite, LedgerRow, NoteStore, Rated, TenantRow, TenantStore, Tried, UsageAsk,
    UsageRow, UsageStore,
};

impl TenantStore for Fake {
    fn upsert<'a>(&'a self, _: &'a [TenantRow]) -> BoxFuture<'a, ()> {
        unreachable!()
    }

    fn list(&self) -> BoxFuture<'_, Vec<TenantRow>> {
        unreachable!()
    }
}

impl AuditStore for Fake {
    fn record<'a>(&'a self, _: &'a AuditRow, _: &'a [EntryWrite]) -> BoxFuture<'a, ()> {
        unreachable!()
    }

    fn trail(&self, _: Option<AuditId>, _: u32) -> BoxFuture<'_, Vec<AuditRow>> {
        unreachable!()
    }

    fn audit_page(&self, _: Option<AuditId>, _: u32) -> BoxFuture<'_, Vec<AuditRow>> {
        unreachable!()
    }

    fn audit_head(&self) -> BoxFuture<'_, Option<AuditHead>> {
        unreachable!()
    }

    fn audit_chain(&self, _: u64, _: u32) -> BoxFuture<'_, Vec<Chained>> {
        unreachable!()
    }

    fn audit_unchained(&self) -> BoxFuture<'_, u64> {
        unreachable!()
    }
}

impl NoteStore for Fake {
    fn note<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Option<String>> {
        unreachable!()
    }

    fn note_once<'a>(&'a self, _: &'a str, _: &'a str) -> BoxFuture<'a, String> {
        unreachable!()
    }

    fn set_note<'a>(&'a self, _: &'a str, _: Option<&'a str>) -> BoxFuture<'a, ()> {
        unreachable!()
    }

    fn swap_note<'a>(&'a self, _: &'a str, _: &'a str, _: &'a str) -> BoxFuture<'a, bool> {
        unreachable!()
    }

    fn notes_of<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Vec<(String, String)>> {
        unreachable!()
    }
}

impl DirectoryStore for Fake {
    fn directory_version(&self) -> BoxFuture<'_, u64> {
        unreachable!()
    }

    fn directory(&self) -> BoxFuture<'_, DirectoryImage> {
        unreachable!()
    }

    fn change_directory<'a>(
        &'a self,
        _: u64,
        _: &'a [DirectoryWrite],
        _: &'a [AuditRow],
    ) -> BoxFuture<'a, Option<u64>> {
        unreachable!()
    }

    fn note_used<'a>(&'a self, _: &'a [(String, UnixMs)]) -> BoxFuture<'a, ()> {
        unreachable!()
    }
}

impl AlertStore for Fake {
    fn raise<'a>(&'a self, _: &'a AlertRow, _: &'a [String]) -> BoxFuture<'a, bool> {
        unreachable!()
    }

    fn claim<'a>(&'a self, _: &'a str, _: UnixMs, _: UnixMs, _: u32) -> BoxFuture<'a, Vec<(AlertRow, DeliveryRow)>> {
        unreachable!()
    }

    fn tried<'a>(&'a self, _: &'a str, _: &'a str, _: &'a Tried, _: UnixMs) -> BoxFuture<'a, ()> {
        unreachable!()
    }

    fn alerts<'a>(
        &'a self,
        _: Option<&'a TenantId>,
        _: Option<UnixMs>,
        _: u32,
    ) -> BoxFuture<'a, Vec<(AlertRow, Vec<DeliveryRow>)>> {
        unreachable!()
    }

    fn outbox_depth(&self) -> BoxFuture<'_, Vec<(String, u64)>> {
        unreachable!()
    }

    fn forget_alerts(&self, _: UnixMs, _: u32) -> BoxFuture<'_, u64> {
        unreachable!()
    }
}

impl UsageStore for Fake {
    fn usage<'a>(&'a self, _: &'a UsageAsk) -> BoxFuture<'a, Vec<UsageRow>> {
        unreachable!()
    }

    fn correct<'a>(&'a self, _: &'a [Correction]) -> BoxFuture<'a, u64> {
        unreachable!()
    }

    fn corrections(&self, _: RequestId) -> BoxFuture<'_, Vec<Correction>> {
        unreachable!()
    }

    fn correction_page(&self, _: Option<(RequestId, UnixMs)>, _: u32) -> BoxFuture<'_, Vec<Correction>> {
        unreachable!()
    }

    fn rated_page<'a>(
        &'a self,
        _: Option<&'a TenantId>,
        _: UnixMs,
        _: UnixMs,
        _: Option<RequestId>,
        _: u32,
    ) -> BoxFuture<'a, Vec<(LedgerRow, Rated)>> {
        unreachable!()
    }
}
