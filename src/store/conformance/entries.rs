//! Promises about single entries and points.

use std::borrow::Cow;

use bytes::Bytes;

use crate::ids::{EntryId, KeyId, PointId};
use crate::store::sample::{LATER, delete, entry, entry_id, point, put, put_entry, tenant};
use crate::store::{Counts, Entry, EntryFilter, EntryWrite, Point, Stores};

const ODD_TEXT: &str = "naïve \"quotes\" \\ % _ ' 雪 👩‍👩‍👧 \u{0} \u{202e} end";

pub(super) async fn an_entry_comes_back_with_every_field(stores: &Stores) {
    let full = Entry {
        id: EntryId::at(1_700_000_000_000),
        tenant: tenant("α/β"),
        partition: std::array::from_fn(|at| u8::try_from(at).unwrap() ^ 0xa5),
        namespace: ODD_TEXT.into(),
        dialect: Cow::Borrowed("something-new"),
        model: "modèle".into(),
        body: Bytes::from(vec![0, 255, b'\'', 0, 10]),
        finish: Cow::Borrowed("tool_calls"),
        completion_tokens: Some(0),
        token_limit: Some(1 << 40),
        writer: KeyId::new("α/β/key"),
        tags: vec![("a".into(), ODD_TEXT.into()), ("a".into(), String::new())],
        created_at: 0,
        expires_at: u64::MAX >> 1,
    };
    let empty = Entry {
        namespace: String::new(),
        body: Bytes::new(),
        finish: Cow::Borrowed(""),
        completion_tokens: None,
        token_limit: None,
        tags: Vec::new(),
        ..entry("t", 1)
    };
    for each in [full, empty] {
        stores.entries.apply(&[put_entry(each.clone(), Vec::new())]).await.unwrap();
        assert_eq!(stores.entries.entry(&each.tenant, each.id).await.unwrap(), Some(each));
    }
}

pub(super) async fn a_point_comes_back_with_every_field(stores: &Stores) {
    let full = Point {
        id: PointId::at(1_700_000_000_000),
        prompt: Some(ODD_TEXT.into()),
        vector: Some(vec![f32::MAX, f32::MIN, -0.0, f32::EPSILON, 1.0e-40]),
        contradicts: u16::MAX,
        ..point("t", 1, 0)
    };
    let exact_only = Point { normalised: None, prompt: None, space: None, vector: None, ..point("t", 1, 1) };
    let empty = Point { prompt: Some(String::new()), vector: Some(Vec::new()), ..point("t", 1, 2) };
    let mut points = vec![full, exact_only, empty];
    stores.entries.apply(&[put_entry(entry("t", 1), points.clone())]).await.unwrap();
    points.sort_by_key(|point| point.id);
    assert_eq!(stores.entries.points_of(&tenant("t"), entry_id(1)).await.unwrap(), points);
}

pub(super) async fn a_body_of_many_megabytes_comes_back_whole(stores: &Stores) {
    let body: Vec<u8> = (0..20_000_000u32).map(|at| (at % 251) as u8).collect();
    let big = Entry { body: Bytes::from(body), ..entry("t", 1) };
    stores.entries.apply(&[put_entry(big.clone(), Vec::new())]).await.unwrap();
    let found = stores.entries.entry(&big.tenant, big.id).await.unwrap().unwrap();
    assert!(found.body == big.body, "the body changed");
    let listed = stores.entries.scan(0, None, 10).await.unwrap();
    assert_eq!(listed[0].meta.body_len, 20_000_000);
}

pub(super) async fn a_tenant_reaches_nothing_of_another(stores: &Stores) {
    let (ann, bob) = (tenant("ann"), tenant("bob"));
    let entries = &stores.entries;
    entries.apply(&[put("ann", 1), put("ann", 2)]).await.unwrap();

    assert_eq!(entries.entry(&bob, entry_id(1)).await.unwrap(), None);
    assert_eq!(entries.points_of(&bob, entry_id(1)).await.unwrap(), []);
    assert_eq!(entries.list(Some(&bob), &EntryFilter::default(), None, 10).await.unwrap(), []);
    assert_eq!(entries.search(Some(&bob), "prompt", 10).await.unwrap(), []);

    // The same entry id of another tenant is another entry.
    let bobs = Entry { model: "bobs".into(), ..entry("bob", 1) };
    entries.apply(&[put_entry(bobs.clone(), Vec::new()), delete("bob", 2)]).await.unwrap();
    entries.apply(&[EntryWrite::AddPoint(point("bob", 2, 9))]).await.unwrap();
    assert_eq!(entries.entry(&ann, entry_id(1)).await.unwrap(), Some(entry("ann", 1)));
    assert_eq!(entries.entry(&ann, entry_id(2)).await.unwrap(), Some(entry("ann", 2)));
    assert_eq!(entries.points_of(&ann, entry_id(2)).await.unwrap().len(), 2);
    assert_eq!(entries.points_of(&bob, entry_id(1)).await.unwrap(), []);

    entries.apply(&[delete("ann", 1)]).await.unwrap();
    assert_eq!(entries.entry(&bob, entry_id(1)).await.unwrap(), Some(bobs));
}

pub(super) async fn applying_the_same_writes_twice_changes_nothing(stores: &Stores) {
    let writes =
        [put("t", 1), put("t", 2), EntryWrite::AddPoint(point("t", 1, 7)), put("t", 3), delete("t", 3), delete("t", 9)];
    stores.entries.apply(&writes).await.unwrap();
    let once = stores.entries.scan(0, None, 10).await.unwrap();
    stores.entries.apply(&writes).await.unwrap();
    assert_eq!(stores.entries.scan(0, None, 10).await.unwrap(), once);
    assert_eq!(stores.entries.counts().await.unwrap(), Counts { entries: 2, points: 5 });
}

pub(super) async fn a_second_put_of_an_entry_leaves_the_first_and_adds_its_points(stores: &Stores) {
    stores.entries.apply(&[put("t", 1)]).await.unwrap();
    let other = Entry { body: Bytes::from_static(b"other"), expires_at: 5, ..entry("t", 1) };
    stores.entries.apply(&[put_entry(other, vec![point("t", 1, 5)])]).await.unwrap();
    assert_eq!(stores.entries.entry(&tenant("t"), entry_id(1)).await.unwrap(), Some(entry("t", 1)));
    assert_eq!(stores.entries.points_of(&tenant("t"), entry_id(1)).await.unwrap().len(), 3);
}

pub(super) async fn deleting_an_entry_deletes_its_points_and_nothing_else(stores: &Stores) {
    let owner = tenant("t");
    stores.entries.apply(&[put("t", 1), put("t", 2)]).await.unwrap();
    stores.entries.apply(&[delete("t", 1)]).await.unwrap();
    assert_eq!(stores.entries.entry(&owner, entry_id(1)).await.unwrap(), None);
    assert_eq!(stores.entries.points_of(&owner, entry_id(1)).await.unwrap(), []);
    assert_eq!(stores.entries.search(Some(&owner), "prompt 1.", 10).await.unwrap(), []);
    assert_eq!(stores.entries.entry(&owner, entry_id(2)).await.unwrap(), Some(entry("t", 2)));
    assert_eq!(stores.entries.counts().await.unwrap(), Counts { entries: 1, points: 2 });
}

pub(super) async fn a_point_without_its_entry_is_ignored_and_the_batch_goes_on(stores: &Stores) {
    stores.entries.apply(&[EntryWrite::AddPoint(point("t", 1, 0)), put("t", 2)]).await.unwrap();
    assert_eq!(stores.entries.counts().await.unwrap(), Counts { entries: 1, points: 2 });
}

pub(super) async fn a_point_of_another_entry_or_tenant_is_not_stored_with_a_put(stores: &Stores) {
    stores.entries.apply(&[put("ann", 1), put("bob", 2)]).await.unwrap();
    let strays = vec![point("ann", 1, 5), point("bob", 2, 5), point("ann", 3, 5)];
    stores.entries.apply(&[put_entry(entry("ann", 3), strays)]).await.unwrap();
    assert_eq!(stores.entries.points_of(&tenant("ann"), entry_id(1)).await.unwrap().len(), 2);
    assert_eq!(stores.entries.points_of(&tenant("bob"), entry_id(2)).await.unwrap().len(), 2);
    assert_eq!(stores.entries.points_of(&tenant("ann"), entry_id(3)).await.unwrap(), [point("ann", 3, 5)]);
}

pub(super) async fn writes_are_applied_in_order(stores: &Stores) {
    let writes = [put("t", 1), delete("t", 1), delete("t", 2), put("t", 2)];
    stores.entries.apply(&writes).await.unwrap();
    assert_eq!(stores.entries.entry(&tenant("t"), entry_id(1)).await.unwrap(), None);
    assert_eq!(stores.entries.entry(&tenant("t"), entry_id(2)).await.unwrap(), Some(entry("t", 2)));
}

pub(super) async fn a_point_before_its_entry_in_a_batch_is_ignored(stores: &Stores) {
    stores.entries.apply(&[put("t", 1), EntryWrite::AddPoint(point("t", 2, 7)), put("t", 2)]).await.unwrap();
    assert_eq!(stores.entries.points_of(&tenant("t"), entry_id(2)).await.unwrap().len(), 2);
    assert_eq!(stores.entries.counts().await.unwrap(), Counts { entries: 2, points: 4 });
}

pub(super) async fn thousands_of_writes_in_one_batch_are_all_made(stores: &Stores) {
    let mut writes: Vec<EntryWrite> = (1..=1_200).map(|number| put("t", number)).collect();
    writes.extend((1..=1_200).map(|number| EntryWrite::AddPoint(point("t", number, 9))));
    writes.extend((1..=1_100).map(|number| delete("t", number)));
    stores.entries.apply(&writes).await.unwrap();
    assert_eq!(stores.entries.counts().await.unwrap(), Counts { entries: 100, points: 300 });
    let last = stores.entries.points_of(&tenant("t"), entry_id(1_200)).await.unwrap();
    assert_eq!(last, [point("t", 1_200, 0), point("t", 1_200, 1), point("t", 1_200, 9)]);
    assert_eq!(stores.entries.entry(&tenant("t"), entry_id(1_200)).await.unwrap(), Some(entry("t", 1_200)));
}

pub(super) async fn an_entry_expires_at_its_time_and_not_before(stores: &Stores) {
    let until = |number, expires_at| put_entry(Entry { expires_at, ..entry("t", number) }, vec![point("t", number, 0)]);
    stores.entries.apply(&[until(1, 300), until(2, 100), until(3, 200), until(4, LATER)]).await.unwrap();
    let key = |number| (tenant("t"), entry_id(number));

    assert_eq!(stores.entries.expired(99, 10).await.unwrap(), []);
    assert_eq!(stores.entries.expired(200, 10).await.unwrap(), [key(2), key(3)]);
    assert_eq!(stores.entries.expired(300, 2).await.unwrap(), [key(2), key(3)], "the longest expired come first");
    let live = |loaded: Vec<crate::store::Loaded>| -> Vec<EntryId> {
        assert!(loaded.iter().all(|each| each.points.len() == 1));
        loaded.iter().map(|each| each.meta.entry.id).collect()
    };
    assert_eq!(live(stores.entries.scan(199, None, 10).await.unwrap()), [entry_id(1), entry_id(3), entry_id(4)]);
    assert_eq!(live(stores.entries.scan(200, None, 10).await.unwrap()), [entry_id(1), entry_id(4)]);
}

pub(super) async fn purging_keeps_what_was_not_deleted(stores: &Stores) {
    stores.entries.apply(&[put("t", 1), put("t", 2)]).await.unwrap();
    stores.entries.apply(&[delete("t", 1)]).await.unwrap();
    stores.entries.purge().await.unwrap();
    assert_eq!(stores.entries.counts().await.unwrap(), Counts { entries: 1, points: 2 });
    assert_eq!(stores.entries.entry(&tenant("t"), entry_id(2)).await.unwrap(), Some(entry("t", 2)));
}
