//! Promises about points that move between entries, and about points that are dropped.

use crate::store::sample::{delete, drop_point, entry, entry_id, link, merge, point, put, put_entry, tenant};
use crate::store::{Counts, Entry, EntryWrite, Loaded, Point, Stores};

/// Everything that is stored.
async fn all(stores: &Stores) -> Vec<Loaded> {
    stores.entries.scan(0, None, 100).await.unwrap()
}

/// The point `number` of entry `of` as it is after [`link`] moved it to entry `to`.
fn moved(owner: &str, of: u64, number: u64, to: u64) -> Point {
    Point { entry: entry_id(to), contradicts: 0b101, ..point(owner, of, number) }
}

fn tags(value: &str) -> Vec<(String, String)> {
    vec![("team".into(), value.into())]
}

pub(super) async fn a_link_moves_the_point_notes_the_guards_and_sets_the_tags(stores: &Stores) {
    let owner = tenant("t");
    stores.entries.apply(&[put("t", 1), put("t", 2), link("t", 2, 1, 1)]).await.unwrap();
    assert_eq!(
        stores.entries.points_of(&owner, entry_id(1)).await.unwrap(),
        [point("t", 1, 0), point("t", 1, 1), moved("t", 2, 1, 1)]
    );
    assert_eq!(stores.entries.points_of(&owner, entry_id(2)).await.unwrap(), [point("t", 2, 0)]);
    let target = Entry { tags: tags("linked 2.1"), ..entry("t", 1) };
    assert_eq!(stores.entries.entry(&owner, entry_id(1)).await.unwrap(), Some(target));
    assert_eq!(stores.entries.entry(&owner, entry_id(2)).await.unwrap(), Some(entry("t", 2)), "it has a point left");
}

pub(super) async fn a_link_of_the_last_point_deletes_the_entry_it_left(stores: &Stores) {
    let owner = tenant("t");
    stores.entries.apply(&[put("t", 1), put("t", 2), link("t", 2, 0, 1), link("t", 2, 1, 1)]).await.unwrap();
    assert_eq!(stores.entries.entry(&owner, entry_id(2)).await.unwrap(), None);
    assert_eq!(stores.entries.counts().await.unwrap(), Counts { entries: 1, points: 4 });
}

pub(super) async fn a_link_to_an_entry_that_is_gone_leaves_the_point_where_it_is(stores: &Stores) {
    // Never there, deleted, and there only for another tenant.
    stores.entries.apply(&[put("t", 1), put("t", 2), delete("t", 2), put("u", 3)]).await.unwrap();
    let before = all(stores).await;
    for to in [9, 2, 3] {
        stores.entries.apply(&[link("t", 1, 0, to), merge("t", 1, to)]).await.unwrap();
        assert_eq!(all(stores).await, before, "to {to}");
    }
}

pub(super) async fn links_and_drops_reach_nothing_of_another_tenant(stores: &Stores) {
    stores.entries.apply(&[put("t", 1), put("u", 1), put("u", 2)]).await.unwrap();
    let before = all(stores).await;
    // Entry 2 and its points are those of the other tenant.
    stores.entries.apply(&[drop_point("t", 2, 0), drop_point("t", 2, 1)]).await.unwrap();
    assert_eq!(all(stores).await, before);
    stores.entries.apply(&[link("t", 2, 0, 1), merge("t", 2, 1)]).await.unwrap();
    let owner = tenant("t");
    assert_eq!(
        stores.entries.points_of(&owner, entry_id(1)).await.unwrap(),
        [point("t", 1, 0), point("t", 1, 1)],
        "nothing came over"
    );
    let others: Vec<Loaded> = before.into_iter().filter(|each| each.meta.entry.tenant != owner).collect();
    let now: Vec<Loaded> = all(stores).await.into_iter().filter(|each| each.meta.entry.tenant != owner).collect();
    assert_eq!(now, others);
}

pub(super) async fn a_link_replayed_changes_nothing(stores: &Stores) {
    stores.entries.apply(&[put("t", 1), put("t", 2)]).await.unwrap();
    for write in [link("t", 2, 1, 1), link("t", 2, 0, 1)] {
        stores.entries.apply(std::slice::from_ref(&write)).await.unwrap();
        let once = all(stores).await;
        stores.entries.apply(&[write]).await.unwrap();
        assert_eq!(all(stores).await, once);
    }
    assert_eq!(stores.entries.counts().await.unwrap(), Counts { entries: 1, points: 4 });
}

pub(super) async fn a_batch_that_puts_and_then_links_changes_nothing_when_replayed(stores: &Stores) {
    stores.entries.apply(&[put("t", 1)]).await.unwrap();
    let writes = [
        put("t", 2),
        put("t", 3),
        link("t", 2, 0, 1),
        link("t", 2, 1, 1),
        merge("t", 3, 1),
        EntryWrite::AddPoint(point("t", 1, 7)),
        drop_point("t", 1, 7),
    ];
    stores.entries.apply(&writes).await.unwrap();
    let once = all(stores).await;
    assert_eq!((once.len(), once[0].points.len()), (1, 6));
    stores.entries.apply(&writes).await.unwrap();
    assert_eq!(all(stores).await, once);
}

pub(super) async fn a_link_to_the_entry_it_comes_from_only_notes_the_guards_and_the_tags(stores: &Stores) {
    stores.entries.apply(&[put("t", 1), link("t", 1, 1, 1)]).await.unwrap();
    let loaded = all(stores).await;
    assert_eq!(loaded[0].points, [point("t", 1, 0), moved("t", 1, 1, 1)]);
    assert_eq!(loaded[0].meta.entry.tags, tags("linked 1.1"));
}

pub(super) async fn a_merge_moves_all_points_and_deletes_the_entry(stores: &Stores) {
    let owner = tenant("t");
    let marked = Point { contradicts: u16::MAX, ..point("t", 2, 5) };
    stores.entries.apply(&[put("t", 1), put("t", 2), EntryWrite::AddPoint(marked.clone())]).await.unwrap();
    stores.entries.apply(&[merge("t", 2, 1)]).await.unwrap();
    let mut expected = vec![point("t", 1, 0), point("t", 1, 1), point("t", 2, 0), point("t", 2, 1), marked];
    for point in &mut expected {
        point.entry = entry_id(1);
    }
    let target = Entry { tags: tags("merged 2"), ..entry("t", 1) };
    assert_eq!(stores.entries.points_of(&owner, entry_id(1)).await.unwrap(), expected);
    assert_eq!(stores.entries.entry(&owner, entry_id(1)).await.unwrap(), Some(target));
    assert_eq!(stores.entries.entry(&owner, entry_id(2)).await.unwrap(), None);
}

pub(super) async fn a_merge_replayed_changes_nothing(stores: &Stores) {
    stores.entries.apply(&[put("t", 1), put("t", 2), merge("t", 2, 1)]).await.unwrap();
    let once = all(stores).await;
    assert_eq!((once.len(), once[0].points.len()), (1, 4));
    stores.entries.apply(&[merge("t", 2, 1)]).await.unwrap();
    assert_eq!(all(stores).await, once);
}

pub(super) async fn a_merge_of_an_entry_with_itself_changes_nothing(stores: &Stores) {
    stores.entries.apply(&[put("t", 1)]).await.unwrap();
    let before = all(stores).await;
    stores.entries.apply(&[merge("t", 1, 1)]).await.unwrap();
    assert_eq!(all(stores).await, before);
}

pub(super) async fn dropping_the_last_point_deletes_the_entry(stores: &Stores) {
    let owner = tenant("t");
    stores.entries.apply(&[put("t", 1), put("t", 2)]).await.unwrap();
    for _ in 0..2 {
        stores.entries.apply(&[drop_point("t", 1, 0)]).await.unwrap();
        assert_eq!(stores.entries.points_of(&owner, entry_id(1)).await.unwrap(), [point("t", 1, 1)]);
        assert_eq!(stores.entries.entry(&owner, entry_id(1)).await.unwrap(), Some(entry("t", 1)));
    }
    for _ in 0..2 {
        stores.entries.apply(&[drop_point("t", 1, 1)]).await.unwrap();
        assert_eq!(stores.entries.entry(&owner, entry_id(1)).await.unwrap(), None);
        assert_eq!(stores.entries.counts().await.unwrap(), Counts { entries: 1, points: 2 });
    }
}

pub(super) async fn dropping_a_point_that_moved_on_leaves_it_there(stores: &Stores) {
    let lone = put_entry(entry("t", 2), vec![point("t", 2, 0)]);
    stores.entries.apply(&[put("t", 1), lone, link("t", 2, 0, 1), drop_point("t", 2, 0)]).await.unwrap();
    let points = stores.entries.points_of(&tenant("t"), entry_id(1)).await.unwrap();
    assert_eq!(points, [point("t", 1, 0), point("t", 1, 1), moved("t", 2, 0, 1)]);
}
