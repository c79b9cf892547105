//! Promises about the audit of admin changes.

use crate::store::sample::{audit_id, audit_row, delete, entry_id, put, tenant};
use crate::store::{AuditHead, AuditRow, AuditVerdict, Stores, verify_audit};

pub(super) async fn an_audit_row_comes_back_with_every_field(stores: &Stores) {
    let bare = AuditRow { reason: None, ..audit_row(2) };
    stores.audit.record(&audit_row(1), &[]).await.unwrap();
    stores.audit.record(&bare, &[]).await.unwrap();
    assert_eq!(stores.audit.trail(None, 10).await.unwrap(), [bare, audit_row(1)]);
}

pub(super) async fn a_change_and_its_audit_row_are_stored_together(stores: &Stores) {
    stores.entries.apply(&[put("t", 1), put("t", 2), put("u", 3)]).await.unwrap();
    stores.audit.record(&audit_row(1), &[delete("t", 1), delete("u", 3), delete("t", 9)]).await.unwrap();
    assert_eq!(stores.entries.counts().await.unwrap().entries, 1);
    assert!(stores.entries.entry(&tenant("t"), entry_id(2)).await.unwrap().is_some());
    assert_eq!(stores.audit.trail(None, 10).await.unwrap(), [audit_row(1)]);
}

pub(super) async fn a_second_audit_row_with_the_same_id_is_ignored(stores: &Stores) {
    let changed = AuditRow { actor: "other".into(), ..audit_row(1) };
    stores.audit.record(&audit_row(1), &[]).await.unwrap();
    stores.audit.record(&changed, &[]).await.unwrap();
    assert_eq!(stores.audit.trail(None, 10).await.unwrap(), [audit_row(1)], "the first row stays");
}

pub(super) async fn the_trail_is_read_newest_first_page_by_page(stores: &Stores) {
    for number in [2, 5, 1, 4, 3] {
        stores.audit.record(&audit_row(number), &[]).await.unwrap();
    }
    assert_eq!(stores.audit.trail(None, 2).await.unwrap(), [audit_row(5), audit_row(4)]);
    assert_eq!(stores.audit.trail(Some(audit_id(4)), 2).await.unwrap(), [audit_row(3), audit_row(2)]);
    assert_eq!(stores.audit.trail(Some(audit_id(2)), 2).await.unwrap(), [audit_row(1)]);
    assert_eq!(stores.audit.trail(Some(audit_id(1)), 2).await.unwrap(), []);
}

pub(super) async fn the_audit_is_read_oldest_first_page_by_page(stores: &Stores) {
    for number in [2, 5, 1, 4, 3] {
        stores.audit.record(&audit_row(number), &[]).await.unwrap();
    }
    assert_eq!(stores.audit.audit_page(None, 2).await.unwrap(), [audit_row(1), audit_row(2)]);
    assert_eq!(stores.audit.audit_page(Some(audit_id(2)), 2).await.unwrap(), [audit_row(3), audit_row(4)]);
    assert_eq!(stores.audit.audit_page(Some(audit_id(4)), 2).await.unwrap(), [audit_row(5)]);
    assert_eq!(stores.audit.audit_page(Some(audit_id(5)), 2).await.unwrap(), []);
}

pub(super) async fn an_audit_row_has_odd_text_back(stores: &Stores) {
    let odd = AuditRow { reason: Some("\0 \u{10}\u{1} ☃".into()), what: "{\"\0\":1}".into(), ..audit_row(1) };
    stores.audit.record(&odd, &[]).await.unwrap();
    assert_eq!(stores.audit.trail(None, 10).await.unwrap(), [odd]);
}

pub(super) async fn the_chain_has_every_row_once_in_the_order_it_was_recorded(stores: &Stores) {
    let nothing = AuditVerdict { ok: true, rows: 0, head: None, broken_at: None, why: None };
    assert_eq!(verify_audit(&*stores.audit).await.unwrap(), nothing);
    let odd = AuditRow { reason: None, what: "\0 ☃ \u{10}".into(), at: u64::MAX, ..audit_row(5) };
    for row in [audit_row(2), odd, audit_row(2), audit_row(1)] {
        stores.audit.record(&row, &[]).await.unwrap();
    }
    stores.directory.change_directory(0, &[], &[audit_row(4), audit_row(2), audit_row(3)]).await.unwrap();
    let chain = stores.audit.audit_chain(0, 10).await.unwrap();
    let numbers: Vec<_> = chain.iter().map(|link| (link.seq, link.row.id)).collect();
    assert_eq!(
        numbers,
        [2, 5, 1, 4, 3].map(audit_id).into_iter().zip(1..).map(|(id, seq)| (seq, id)).collect::<Vec<_>>()
    );
    let page = stores.audit.audit_chain(3, 1).await.unwrap();
    assert_eq!(page, chain[3..4]);
    let verdict = verify_audit(&*stores.audit).await.unwrap();
    let head = AuditHead { seq: 5, hash: chain[4].hash };
    assert_eq!(verdict, AuditVerdict { ok: true, rows: 5, head: Some(head), broken_at: None, why: None });
}
