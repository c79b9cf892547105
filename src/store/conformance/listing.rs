//! Promises about scans, listings and searches.

use crate::ids::{EntryId, KeyId, TenantId};
use crate::store::sample::{LATER, delete, entry, entry_id, point, put, put_entry, tenant};
use crate::store::{Cursor, Entry, EntryFilter, EntryMeta, EntryWrite, Exported, Loaded, Point, Stores};

type Key = (TenantId, EntryId);

fn key(meta: &EntryMeta) -> Key {
    (meta.entry.tenant.clone(), meta.entry.id)
}

/// Entries 10, 20, 30 … of two tenants, in an order that is not theirs.
async fn fill(stores: &Stores) -> Vec<Key> {
    let numbers = [70, 10, 90, 30, 50, 20, 80, 60, 40];
    let writes: Vec<EntryWrite> =
        numbers.iter().flat_map(|number| [put("bob", *number), put("ann", *number)]).collect();
    stores.entries.apply(&writes).await.unwrap();
    let mut keys: Vec<Key> =
        numbers.iter().flat_map(|number| ["ann", "bob"].map(|owner| (tenant(owner), entry_id(*number)))).collect();
    keys.sort();
    keys
}

/// New entries before, between and behind those of [`fill`], a deletion of one of them, and more points.
async fn disturb(stores: &Stores, round: u64) {
    let mut writes: Vec<EntryWrite> = [0, 35, 55, 95].map(|base| put("ann", base + round)).into();
    writes.push(delete("ann", 35 + round - 1));
    writes.push(EntryWrite::AddPoint(point("bob", 90, 100 + round)));
    stores.entries.apply(&writes).await.unwrap();
}

async fn scan_all(stores: &Stores, now: u64, page: u32, disturbed: bool) -> Vec<Loaded> {
    let mut all: Vec<Loaded> = Vec::new();
    let mut after: Option<Cursor> = None;
    for round in 1.. {
        let loaded = stores.entries.scan(now, after.as_ref(), page).await.unwrap();
        assert!(loaded.len() <= page as usize);
        let Some(last) = loaded.last() else { break };
        after = Some(last.meta.cursor());
        all.extend(loaded);
        if disturbed && round < 5 {
            disturb(stores, round).await;
        }
    }
    all
}

pub(super) async fn a_scan_yields_each_live_entry_once_with_its_points_in_order(stores: &Stores) {
    let expected = fill(stores).await;
    let expired = Entry { expires_at: 5, ..entry("ann", 45) };
    let pointless = entry("bob", 45);
    let writes = [put_entry(expired, vec![point("ann", 45, 0)]), put_entry(pointless, Vec::new())];
    stores.entries.apply(&writes).await.unwrap();
    for page in [1, 4, 100] {
        let mut loaded = scan_all(stores, 5, page, false).await;
        let without = loaded.iter().position(|each| each.meta.entry.id == entry_id(45)).unwrap();
        assert_eq!(loaded.remove(without).points, []);
        assert_eq!(loaded.iter().map(|each| key(&each.meta)).collect::<Vec<_>>(), expected);
        for each in &loaded {
            let owner = each.meta.entry.tenant.as_str();
            let number = each.meta.entry.created_at;
            assert_eq!(each.points, [point(owner, number, 0), point(owner, number, 1)]);
            let whole = entry(owner, number);
            assert_eq!(each.meta.body_len, whole.body.len() as u64);
            assert_eq!(each.meta.entry, Entry { body: bytes::Bytes::new(), ..whole });
        }
    }
}

pub(super) async fn a_scan_is_complete_and_without_duplicates_while_others_write(stores: &Stores) {
    let expected = fill(stores).await;
    let seen: Vec<Key> = scan_all(stores, 0, 3, true).await.iter().map(|each| key(&each.meta)).collect();
    assert!(seen.is_sorted() && seen.windows(2).all(|pair| pair[0] != pair[1]), "out of order or twice: {seen:?}");
    assert!(seen.len() > expected.len(), "the disturbance was not seen, so nothing was tested");
    assert!(expected.iter().all(|key| seen.contains(key)), "{seen:?}");
}

async fn list_all(stores: &Stores, owner: Option<&TenantId>, page: u32, disturbed: bool) -> Vec<EntryMeta> {
    let mut all: Vec<EntryMeta> = Vec::new();
    let mut after: Option<Cursor> = None;
    for round in 1.. {
        let listed = stores.entries.list(owner, &EntryFilter::default(), after.as_ref(), page).await.unwrap();
        assert!(listed.len() <= page as usize);
        let Some(last) = listed.last() else { break };
        after = Some(last.cursor());
        all.extend(listed);
        if disturbed && round < 5 {
            disturb(stores, round).await;
        }
    }
    all
}

fn newest_first(mut keys: Vec<Key>) -> Vec<Key> {
    keys.sort_by(|a, b| (b.1, &b.0).cmp(&(a.1, &a.0)));
    keys
}

pub(super) async fn a_listing_shows_the_newest_first_page_by_page(stores: &Stores) {
    let expected = newest_first(fill(stores).await);
    let ann = tenant("ann");
    let anns: Vec<Key> = expected.iter().filter(|(owner, _)| *owner == ann).cloned().collect();
    for page in [1, 4, 100] {
        let all: Vec<Key> = list_all(stores, None, page, false).await.iter().map(key).collect();
        assert_eq!(all, expected);
        let own: Vec<Key> = list_all(stores, Some(&ann), page, false).await.iter().map(key).collect();
        assert_eq!(own, anns);
    }
}

pub(super) async fn a_listing_is_complete_and_without_duplicates_while_others_write(stores: &Stores) {
    let expected = fill(stores).await;
    let seen: Vec<Key> = list_all(stores, None, 3, true).await.iter().map(key).collect();
    assert_eq!(seen, newest_first(seen.clone()));
    assert!(seen.windows(2).all(|pair| pair[0] != pair[1]), "twice: {seen:?}");
    assert!(seen.len() > expected.len(), "the disturbance was not seen, so nothing was tested");
    assert!(expected.iter().all(|key| seen.contains(key)), "{seen:?}");
}

pub(super) async fn a_listing_shows_what_passes_every_filter(stores: &Stores) {
    let tagged = |name: &str, value: &str| vec![("x".to_owned(), "y".to_owned()), (name.to_owned(), value.to_owned())];
    let variants = [
        Entry { model: "small".into(), ..entry("t", 1) },
        Entry { model: "small".into(), namespace: "docs".into(), ..entry("t", 2) },
        Entry { tags: tagged("team", "a\"b"), ..entry("t", 3) },
        Entry { tags: tagged("team", "other"), writer: KeyId::new("t/second"), ..entry("t", 4) },
    ];
    let writes: Vec<EntryWrite> = variants.into_iter().map(|each| put_entry(each, Vec::new())).collect();
    stores.entries.apply(&writes).await.unwrap();

    let small = EntryFilter { model: Some("small".into()), ..EntryFilter::default() };
    let default_namespace = EntryFilter { namespace: Some(String::new()), ..EntryFilter::default() };
    let both = EntryFilter { model: Some("small".into()), namespace: Some("docs".into()), ..EntryFilter::default() };
    let tag = EntryFilter { tag: Some(("team".into(), "a\"b".into())), ..EntryFilter::default() };
    let swapped = EntryFilter { tag: Some(("a\"b".into(), "team".into())), ..EntryFilter::default() };
    let writer = EntryFilter { writer: Some(KeyId::new("t/second")), ..EntryFilter::default() };
    let cases: [(EntryFilter, &[u64]); 6] =
        [(small, &[2, 1]), (default_namespace, &[4, 3, 1]), (both, &[2]), (tag, &[3]), (swapped, &[]), (writer, &[4])];
    for (filter, expected) in cases {
        for owner in [None, Some(&tenant("t"))] {
            let listed = stores.entries.list(owner, &filter, None, 10).await.unwrap();
            let numbers: Vec<u64> = listed.iter().map(|meta| meta.entry.created_at).collect();
            assert_eq!(numbers, expected, "{filter:?}");
        }
    }
}

pub(super) async fn a_search_finds_text_inside_prompts_and_knows_no_wildcards(stores: &Stores) {
    let prompts = ["Is 100% safe?", "is 100 percent safe", r"C:\temp", "snake_case", "snakeXcase", "Ünïcode ☃"];
    for (number, prompt) in (1..).zip(prompts) {
        let point = Point { prompt: Some(prompt.into()), ..point("t", number, 0) };
        let exact_only = Point { prompt: None, ..self::point("t", number, 1) };
        stores.entries.apply(&[put_entry(entry("t", number), vec![point, exact_only])]).await.unwrap();
    }
    let cases: [(&str, &[&str]); 7] = [
        ("SAFE", &["is 100 percent safe", "Is 100% safe?"]),
        ("100% ", &["Is 100% safe?"]),
        ("e_c", &["snake_case"]),
        (r"\t", &[r"C:\temp"]),
        ("☃", &["Ünïcode ☃"]),
        ("' OR 1=1 --", &[]),
        ("%", &["Is 100% safe?"]),
    ];
    for (text, expected) in cases {
        for owner in [None, Some(&tenant("t"))] {
            let found = stores.entries.search(owner, text, 10).await.unwrap();
            assert_eq!(found.iter().map(|each| each.prompt.as_str()).collect::<Vec<_>>(), expected, "{text}");
            assert!(found.iter().all(|each| each.meta.entry.expires_at == LATER && each.meta.body_len > 0));
        }
    }
    assert_eq!(stores.entries.search(None, "", 2).await.unwrap().len(), 2);
}

pub(super) async fn loading_yields_those_asked_for_that_are_there_with_their_points(stores: &Stores) {
    fill(stores).await;
    let expired = Entry { expires_at: 5, ..entry("ann", 45) };
    stores.entries.apply(&[put_entry(expired.clone(), vec![point("ann", 45, 0)])]).await.unwrap();
    let asked = [("bob", 30), ("ann", 45), ("ann", 90), ("eve", 10), ("bob", 45), ("ann", 1)];
    let keys: Vec<Key> = asked.iter().map(|(owner, number)| (tenant(owner), entry_id(*number))).collect();
    let mut loaded = stores.entries.load(&keys).await.unwrap();
    loaded.sort_by_key(|each| key(&each.meta));
    let whole = |entry: Entry, points| {
        let body_len = entry.body.len() as u64;
        Loaded { meta: EntryMeta { entry: Entry { body: bytes::Bytes::new(), ..entry }, body_len }, points }
    };
    let two = |owner, number| vec![point(owner, number, 0), point(owner, number, 1)];
    let expected = [
        whole(expired, vec![point("ann", 45, 0)]),
        whole(entry("ann", 90), two("ann", 90)),
        whole(entry("bob", 30), two("bob", 30)),
    ];
    assert_eq!(loaded, expected);
    assert_eq!(stores.entries.load(&[]).await.unwrap(), []);
}

pub(super) async fn an_export_yields_everything_of_every_entry_page_by_page(stores: &Stores) {
    let keys = fill(stores).await;
    let odd = Point { vector: Some(vec![f32::MAX, -0.0, 1.0e-40]), prompt: Some("\0".into()), ..point("ann", 45, 0) };
    let expired = Exported { entry: Entry { expires_at: 5, ..entry("ann", 45) }, points: vec![odd] };
    let pointless = Exported { entry: entry("bob", 45), points: Vec::new() };
    for each in [&expired, &pointless] {
        stores.entries.apply(&[put_entry(each.entry.clone(), each.points.clone())]).await.unwrap();
    }
    let mut expected: Vec<Exported> = keys
        .iter()
        .map(|(owner, id)| {
            let number = u64::try_from(u128::from_be_bytes(id.to_bytes())).unwrap();
            let points = vec![point(owner.as_str(), number, 0), point(owner.as_str(), number, 1)];
            Exported { entry: entry(owner.as_str(), number), points }
        })
        .chain([expired, pointless])
        .collect();
    expected.sort_by_key(|each| (each.entry.tenant.clone(), each.entry.id));
    for page in [1, 4, 100] {
        let mut all: Vec<Exported> = Vec::new();
        let mut after: Option<Cursor> = None;
        loop {
            let exported = stores.entries.export(after.as_ref(), page).await.unwrap();
            assert!(exported.len() <= page as usize);
            let Some(last) = exported.last() else { break };
            after = Some(Cursor { tenant: last.entry.tenant.clone(), entry: last.entry.id });
            all.extend(exported);
        }
        assert_eq!(all, expected, "pages of {page}");
    }
}
