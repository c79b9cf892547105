//! Promises about what requests have cost together.

use std::borrow::Cow;

use crate::ids::KeyId;
use crate::store::sample::{bare_row, row, tenant};
use crate::store::{LedgerRow, Spend, Stores};

fn priced(owner: &str, number: u64, cost: Option<i64>) -> LedgerRow {
    let source = if cost.is_some() { "replayed" } else { "billed" };
    LedgerRow { cost_nano_usd: cost, tokens_source: Some(Cow::Borrowed(source)), ..row(owner, number) }
}

fn of(like: &LedgerRow, slot: u64, nano_usd: i64, requests: u64, unpriced: u64) -> Spend {
    Spend {
        tenant: like.tenant.clone(),
        slot,
        key: like.key.clone(),
        model: like.model_asked.clone(),
        tags: like.tags.clone(),
        nano_usd,
        requests,
        unpriced,
    }
}

async fn spend(stores: &Stores, owner: Option<&str>, since: u64, until: u64, slot: u64) -> Vec<Spend> {
    let owner = owner.map(tenant);
    let mut found = stores.ledger.spend(owner.as_ref(), since, until, slot).await.unwrap();
    found.sort_by_key(|sum| (sum.tenant.clone(), sum.slot, sum.key.clone(), sum.model.clone(), sum.tags.clone()));
    found
}

pub(super) async fn spend_is_summed_by_slot_key_model_and_tags(stores: &Stores) {
    let at = |number, cost| priced("ann", number, Some(cost));
    let other_key = LedgerRow { key: Some(KeyId::new("ann/other")), ..at(13, 1_000) };
    let other_model = LedgerRow { model_asked: None, ..at(14, 2_000) };
    let other_tags = LedgerRow { tags: vec![("\0\u{10}".into(), "☃".into())], ..at(15, 4_000) };
    let rows = [
        at(9, 1),
        at(10, 2),
        at(19, 4),
        at(20, i64::from(u32::MAX) * 1_000_000),
        at(30, 16),
        other_key.clone(),
        other_model.clone(),
        other_tags.clone(),
        priced("bob", 12, Some(32)),
    ];
    stores.ledger.append(&rows).await.unwrap();
    let mut expected = [
        of(&rows[0], 10, 6, 2, 0),
        of(&rows[0], 20, i64::from(u32::MAX) * 1_000_000, 1, 0),
        of(&other_key, 10, 1_000, 1, 0),
        of(&other_model, 10, 2_000, 1, 0),
        of(&other_tags, 10, 4_000, 1, 0),
    ];
    expected.sort_by_key(|sum| (sum.slot, sum.key.clone(), sum.model.clone(), sum.tags.clone()));
    assert_eq!(spend(stores, Some("ann"), 10, 30, 10).await, expected, "`since` is in, `until` is not");
    let all = spend(stores, Some("ann"), 0, 100, 1_000_000).await;
    assert_eq!(all.iter().map(|sum| sum.requests).sum::<u64>(), 8);
    assert_eq!(spend(stores, Some("eve"), 0, 100, 10).await, []);
}

pub(super) async fn the_spend_of_all_is_that_of_each_and_of_callers_that_are_not_known(stores: &Stores) {
    assert_eq!(spend(stores, None, 0, 100, 10).await, []);
    let unknown = LedgerRow { cost_nano_usd: Some(7), ..bare_row(3) };
    let rows = [priced("ann", 1, Some(1)), priced("bob", 2, Some(2)), unknown.clone(), priced("carol", 200, Some(8))];
    stores.ledger.append(&rows).await.unwrap();
    let expected = [of(&unknown, 0, 7, 1, 0), of(&rows[0], 0, 1, 1, 0), of(&rows[1], 0, 2, 1, 0)];
    assert_eq!(spend(stores, None, 0, 100, 100).await, expected);
}

pub(super) async fn a_request_is_unpriced_if_it_was_billed_and_nobody_knows_how_much(stores: &Stores) {
    let estimated = LedgerRow { tokens_source: Some(Cow::Borrowed("estimated")), ..priced("ann", 3, None) };
    let hit = LedgerRow { tokens_source: Some(Cow::Borrowed("replayed")), ..priced("ann", 4, None) };
    let refused = LedgerRow { tokens_source: None, ..priced("ann", 5, None) };
    let rows = [priced("ann", 1, Some(5)), priced("ann", 2, None), estimated, hit, refused];
    stores.ledger.append(&rows).await.unwrap();
    assert_eq!(spend(stores, Some("ann"), 0, 100, 0).await.iter().map(|sum| sum.unpriced).sum::<u64>(), 2);
    assert_eq!(spend(stores, Some("ann"), 0, 100, 100).await, [of(&rows[0], 0, 5, 5, 2)]);
}
