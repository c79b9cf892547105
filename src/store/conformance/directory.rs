//! Promises about tenants with their specs, virtual keys and admin tokens.

use bytes::Bytes;

use crate::store::DirectoryWrite::{DeleteKey, DeleteTenant, DeleteToken, PutKey, PutTenant, PutToken};
use crate::store::sample::{audit_row, key_row, tenant, tenant_record, token_row};
use crate::store::{DirectoryImage, DirectoryWrite, KeyRow, Stores, TenantRecord, TokenRow};

async fn changed(stores: &Stores, writes: &[DirectoryWrite]) -> DirectoryImage {
    let seen = stores.directory.directory_version().await.unwrap();
    let version = stores.directory.change_directory(seen, writes, &[]).await.unwrap();
    assert_eq!(version, Some(seen + 1));
    let image = stores.directory.directory().await.unwrap();
    assert_eq!((Some(image.version), stores.directory.directory_version().await.unwrap()), (version, seen + 1));
    image
}

pub(super) async fn a_directory_comes_back_with_every_field(stores: &Stores) {
    assert_eq!(stores.directory.directory().await.unwrap(), DirectoryImage::default());
    let odd = "{\"a\":\"\\u0000 ☃\"} \0 \u{10}\u{1}";
    let bare_tenant = TenantRecord { credential: None, spec: odd.into(), ..tenant_record("bob") };
    let bare_key = KeyRow { expires_at: None, replaced_by: None, used_at: None, ..key_row("bob", 1) };
    let bare_token = TokenRow { tenant: None, expires_at: None, used_at: None, ..token_row(1) };
    let writes = [
        PutKey(key_row("ann", 2)),
        PutTenant(bare_tenant.clone()),
        PutToken(token_row(2)),
        PutTenant(tenant_record("ann")),
        PutToken(bare_token.clone()),
        PutKey(bare_key.clone()),
    ];
    let image = changed(stores, &writes).await;
    assert_eq!(image.tenants, [tenant_record("ann"), bare_tenant]);
    assert_eq!(image.keys, [bare_key, key_row("ann", 2)]);
    assert_eq!(image.tokens, [bare_token, token_row(2)]);
    let known: Vec<_> = stores.tenants.list().await.unwrap().into_iter().map(|row| row.tenant).collect();
    assert_eq!(known, [tenant("ann"), tenant("bob")], "whoever has a spec is known");
}

pub(super) async fn a_change_made_from_an_old_number_does_nothing(stores: &Stores) {
    let directory = &stores.directory;
    let put = |name: &str| [PutTenant(tenant_record(name))];
    assert_eq!(directory.change_directory(0, &put("ann"), &[audit_row(1)]).await.unwrap(), Some(1));
    let before = directory.directory().await.unwrap();
    for seen in [0, 2] {
        assert_eq!(directory.change_directory(seen, &put("bob"), &[audit_row(2)]).await.unwrap(), None);
    }
    assert_eq!(directory.directory().await.unwrap(), before);
    assert_eq!(stores.audit.trail(None, 10).await.unwrap(), [audit_row(1)], "nor does it leave an audit row");
    assert_eq!(directory.change_directory(1, &put("bob"), &[audit_row(2), audit_row(3)]).await.unwrap(), Some(2));
    assert_eq!(stores.audit.trail(None, 10).await.unwrap().len(), 3);
}

pub(super) async fn what_is_put_again_is_replaced_and_keeps_when_it_was_used(stores: &Stores) {
    let puts = [PutTenant(tenant_record("ann")), PutKey(key_row("ann", 1)), PutToken(token_row(1))];
    changed(stores, &puts).await;
    let changed_tenant = TenantRecord { credential: Some(Bytes::from_static(b"x")), ..tenant_record("ann") };
    let rotated = KeyRow {
        replaced_by: Some("next".into()),
        hash: [9; 32],
        spec: "{}".into(),
        updated_at: 99,
        used_at: Some(1_000),
        ..key_row("ann", 1)
    };
    let demoted = TokenRow { role: "viewer".into(), used_at: None, ..token_row(1) };
    let puts = [PutTenant(changed_tenant.clone()), PutKey(rotated.clone()), PutToken(demoted.clone())];
    let image = changed(stores, &puts).await;
    assert_eq!(image.tenants, [changed_tenant]);
    assert_eq!(image.keys, [KeyRow { used_at: key_row("ann", 1).used_at, ..rotated }]);
    assert_eq!(image.tokens, [TokenRow { used_at: token_row(1).used_at, ..demoted }]);
}

pub(super) async fn a_deleted_tenant_takes_its_keys_along_and_nothing_else(stores: &Stores) {
    let mut puts: Vec<_> = (1..=2).map(|n| PutKey(key_row("ann", n))).collect();
    puts.extend((3..=4).map(|n| PutKey(key_row("bob", n))));
    puts.extend([PutTenant(tenant_record("ann")), PutTenant(tenant_record("bob"))]);
    puts.extend([PutToken(token_row(1)), PutToken(token_row(2))]);
    changed(stores, &puts).await;
    let deletes = [DeleteTenant(tenant("ann")), DeleteKey(key_row("bob", 3).id), DeleteToken(token_row(1).id)];
    for _ in 0..2 {
        let image = changed(stores, &deletes).await;
        assert_eq!(image.tenants, [tenant_record("bob")]);
        assert_eq!(image.keys, [key_row("bob", 4)]);
        assert_eq!(image.tokens, [token_row(2)]);
        assert_eq!(stores.tenants.list().await.unwrap().len(), 1);
    }
}

pub(super) async fn the_time_of_use_only_goes_forward_and_is_no_change(stores: &Stores) {
    let unused = KeyRow { used_at: None, ..key_row("ann", 2) };
    let puts = [PutKey(key_row("ann", 1)), PutKey(unused.clone()), PutToken(token_row(7))];
    let before = changed(stores, &puts).await;
    let [first, second, token] = [key_row("ann", 1).id, unused.id, token_row(7).id];
    let used = [(first, 1), (second.clone(), 500), (second, 400), (token, 900), ("gone".to_owned(), 900)];
    for _ in 0..2 {
        stores.directory.note_used(&used).await.unwrap();
    }
    stores.directory.note_used(&[]).await.unwrap();
    let image = stores.directory.directory().await.unwrap();
    let times: Vec<_> = image.keys.iter().map(|row| row.used_at).collect();
    assert_eq!((times, image.tokens[0].used_at), (vec![key_row("ann", 1).used_at, Some(500)], Some(900)));
    assert_eq!(image.version, before.version);
}
