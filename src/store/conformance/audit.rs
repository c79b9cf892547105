//! Promises about the audit of admin changes.

use crate::store::sample::{audit_id, audit_row, delete, entry_id, put, tenant};
use crate::store::{AuditRow, Stores};

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
