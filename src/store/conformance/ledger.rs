//! Promises about the requests ledger and the directory of tenants.

use std::borrow::Cow;

use crate::store::sample::{bare_row, entry_id, request_id, row, tenant};
use crate::store::{LedgerRow, Stores, TenantRow, Tokens};

pub(super) async fn a_row_comes_back_with_every_field(stores: &Stores) {
    stores.ledger.append(&[row("t", 1)]).await.unwrap();
    assert_eq!(stores.ledger.request(request_id(1)).await.unwrap(), Some(row("t", 1)));
    assert_eq!(stores.ledger.request(request_id(2)).await.unwrap(), None);
}

pub(super) async fn a_row_with_nothing_optional_comes_back(stores: &Stores) {
    stores.ledger.append(&[bare_row(1)]).await.unwrap();
    assert_eq!(stores.ledger.request(request_id(1)).await.unwrap(), Some(bare_row(1)));
}

pub(super) async fn a_request_has_exactly_one_row_however_often_it_is_written(stores: &Stores) {
    stores.ledger.append(&[row("t", 1), row("t", 2), row("t", 1)]).await.unwrap();
    let changed = LedgerRow { status: 500, ..row("other", 1) };
    stores.ledger.append(&[changed, row("t", 3)]).await.unwrap();
    assert_eq!(stores.ledger.count().await.unwrap(), 3);
    assert_eq!(stores.ledger.request(request_id(1)).await.unwrap(), Some(row("t", 1)), "the first row stays");
}

pub(super) async fn values_beyond_63_bits_are_clamped_and_do_not_fail_the_row(stores: &Stores) {
    let tokens = Tokens { input: u64::MAX, ..Tokens::default() };
    stores.ledger.append(&[LedgerRow { tokens, latency_us: u64::MAX, ..row("t", 1) }]).await.unwrap();
    let found = stores.ledger.request(request_id(1)).await.unwrap().unwrap();
    assert_eq!((found.tokens.input, found.latency_us), (u64::MAX >> 1, u64::MAX >> 1));
}

pub(super) async fn recent_rows_are_those_of_the_tenant_newest_first(stores: &Stores) {
    let rows = [row("ann", 2), row("bob", 4), row("ann", 3), bare_row(5), row("ann", 1)];
    stores.ledger.append(&rows).await.unwrap();
    assert_eq!(stores.ledger.recent(Some(&tenant("ann")), 2).await.unwrap(), [row("ann", 3), row("ann", 2)]);
    assert_eq!(stores.ledger.recent(Some(&tenant("eve")), 2).await.unwrap(), []);
    assert_eq!(stores.ledger.recent(None, 2).await.unwrap(), [bare_row(5), row("bob", 4)]);
}

pub(super) async fn hits_on_an_entry_are_those_of_its_tenant_newest_first(stores: &Stores) {
    let hit = |owner: &str, number| LedgerRow { entry: Some(entry_id(7)), ..row(owner, number) };
    let miss = LedgerRow { outcome: Cow::Borrowed("miss"), ..hit("ann", 6) };
    let rows = [hit("ann", 2), hit("bob", 4), hit("ann", 5), miss, row("ann", 8), bare_row(9), hit("ann", 3)];
    stores.ledger.append(&rows).await.unwrap();
    let ann = tenant("ann");
    let served = async |since, limit| stores.ledger.served(&ann, entry_id(7), since, limit).await.unwrap();
    assert_eq!(served(0, 10).await, [hit("ann", 5), hit("ann", 3), hit("ann", 2)]);
    assert_eq!(served(0, 2).await, [hit("ann", 5), hit("ann", 3)]);
    assert_eq!(served(3, 10).await, [hit("ann", 5), hit("ann", 3)], "`since` itself is in");
    assert_eq!(stores.ledger.served(&tenant("eve"), entry_id(7), 0, 10).await.unwrap(), []);
    assert_eq!(stores.ledger.served(&ann, entry_id(1), 0, 10).await.unwrap(), []);
}

pub(super) async fn the_ledger_is_read_oldest_first_page_by_page(stores: &Stores) {
    let rows = [row("ann", 2), row("bob", 4), bare_row(3), row("ann", 1), row("ann", 5)];
    stores.ledger.append(&rows).await.unwrap();
    let page = async |after: Option<u64>, limit| stores.ledger.page(after.map(request_id), limit).await.unwrap();
    assert_eq!(page(None, 3).await, [row("ann", 1), row("ann", 2), bare_row(3)]);
    assert_eq!(page(Some(3), 3).await, [row("bob", 4), row("ann", 5)]);
    assert_eq!(page(Some(5), 3).await, []);
}

pub(super) async fn thousands_of_rows_in_one_batch_are_all_there(stores: &Stores) {
    let rows: Vec<LedgerRow> = (1..=5_000).map(|number| row("t", number)).collect();
    stores.ledger.append(&rows[100..200]).await.unwrap();
    stores.ledger.append(&rows).await.unwrap();
    assert_eq!(stores.ledger.count().await.unwrap(), 5_000);
    assert_eq!(stores.ledger.page(Some(request_id(4_998)), 10).await.unwrap(), rows[4_998..]);
}

pub(super) async fn a_tenant_keeps_its_creation_time_and_gets_the_new_flag(stores: &Stores) {
    let at =
        |name: &str, declared, time| TenantRow { tenant: tenant(name), declared, created_at: time, updated_at: time };
    stores.tenants.upsert(&[at("bob", true, 1), at("ann", false, 1)]).await.unwrap();
    stores.tenants.upsert(&[at("bob", false, 2), at("carol", true, 2)]).await.unwrap();
    let bob = TenantRow { created_at: 1, ..at("bob", false, 2) };
    assert_eq!(stores.tenants.list().await.unwrap(), [at("ann", false, 1), bob, at("carol", true, 2)]);
}
