//! What the layer promises: nothing clear below it, everything as it was above it, and nothing moved or shredded opens.

use bytes::Bytes;
use proptest::prelude::*;

use super::super::conformance::Fixture;
use super::super::postgres::tests::{EmptyDatabase, TempDatabase};
use super::super::sample::{
    LATER, decision, entry, entry_id, learned, new_decision, point, put, put_entry, request_id, tenant,
};
use super::super::sqlite::files::TempStore;
use super::super::{Cursor, EntryWrite, Question, Search};
use super::cells::{Closed, open_decision, open_entry, open_point, seal_decision, seal_entry, seal_point};
use super::crypto::Key;
use super::keys::note_name;
use super::*;
use crate::config::MasterKey;

pub(in crate::store) fn master(byte: char) -> MasterKey {
    MasterKey::parse(&byte.to_string().repeat(64)).unwrap()
}

/// A database behind the layer, every tenant sealed.
pub(in crate::store) struct SealedOver<F> {
    inner: F,
    sealed: Sealed,
}

impl<F: Fixture> Fixture for SealedOver<F> {
    async fn open() -> Self {
        let inner = F::open().await;
        let sealed = layer(&inner.stores(), 'a').await;
        Self { inner, sealed }
    }

    fn stores(&self) -> Stores {
        self.sealed.stores()
    }
}

async fn layer(stores: &Stores, key: char) -> Sealed {
    Sealed::over(stores, &Seal::All, Some(&master(key)), None).await.unwrap().unwrap()
}

async fn over_sqlite() -> SealedOver<TempStore> {
    SealedOver::open().await
}

fn key(byte: u8) -> Key {
    Key::new(&[byte; 32])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_is_sealed_opens_to_the_same_and_nothing_of_it_shows(
        body in prop::collection::vec(any::<u8>(), 0..400),
        prompt in prop::option::of(".{0,80}"),
        vector in prop::option::of(prop::collection::vec(any::<u32>().prop_map(f32::from_bits), 0..40)),
        space in prop::option::of("[a-z@/0-9]{0,20}"),
        flip in any::<prop::sample::Index>(),
    ) {
        let key = key(1);
        let clear = Entry { body: Bytes::from(body), ..entry("t", 1) };
        let sealed = seal_entry(&key, &clear).unwrap();
        prop_assert_eq!(sealed.body.len() as u64, clear.body.len() as u64 + crypto::OVERHEAD);
        let mut opened = sealed.clone();
        prop_assert_eq!(open_entry(&key, &mut opened), Ok(()));
        prop_assert_eq!(&opened, &clear);
        let mut damaged = sealed.body.to_vec();
        let at = flip.index(damaged.len());
        damaged[at] ^= 1;
        prop_assert_eq!(open_entry(&key, &mut Entry { body: damaged.into(), ..sealed }), Err(Closed));

        let clear = Point { prompt, vector, space, ..point("t", 1, 0) };
        let sealed = seal_point(&key, &clear).unwrap();
        if clear.prompt.is_some() || clear.vector.is_some() {
            prop_assert!(sealed.vector.is_none() && sealed.space.is_none());
            let mut opened = sealed;
            prop_assert_eq!(open_point(&key, &mut opened), Ok(()));
            let bits = |point: &Point| point.vector.as_ref().map(|v| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>());
            prop_assert_eq!((&opened.prompt, &opened.space, bits(&opened)), (&clear.prompt, &clear.space, bits(&clear)));
        } else {
            prop_assert_eq!(&sealed.prompt, &None);
        }
    }
}

#[test]
fn a_cell_opens_in_its_own_row_of_its_own_tenant_with_its_own_key_only() {
    let sealed = seal_entry(&key(1), &entry("t", 1)).unwrap();
    let opens = |key: &Key, mut entry: Entry| open_entry(key, &mut entry).is_ok();
    assert!(opens(&key(1), sealed.clone()));
    assert!(!opens(&key(2), sealed.clone()));
    assert!(!opens(&key(1), Entry { id: entry_id(2), ..sealed.clone() }));
    assert!(!opens(&key(1), Entry { tenant: tenant("u"), ..sealed }));

    let sealed_point = seal_point(&key(1), &point("t", 1, 0)).unwrap();
    let opens = |key: &Key, mut point: Point| open_point(key, &mut point).is_ok();
    assert!(opens(&key(1), sealed_point.clone()));
    assert!(opens(&key(1), Point { entry: entry_id(9), ..sealed_point.clone() }), "a point may move to another entry");
    assert!(!opens(&key(2), sealed_point.clone()));
    assert!(!opens(&key(1), Point { id: point("t", 1, 1).id, ..sealed_point.clone() }));
    assert!(!opens(&key(1), Point { tenant: tenant("u"), ..sealed_point.clone() }));

    let row = seal_decision(&key(1), &decision("t", 1)).unwrap();
    let opens = |mut row: DecisionRow| open_decision(&key(1), &mut row).is_ok();
    assert!(opens(row.clone()));
    assert!(!opens(DecisionRow { request: request_id(2), ..row.clone() }));
    // The same row and key, another column.
    let as_decision = DecisionRow {
        request: crate::ids::RequestId::from_bytes(sealed_point.id.to_bytes()),
        prompt: sealed_point.prompt,
        ..row
    };
    assert!(!opens(as_decision));
}

#[tokio::test]
async fn two_sealings_of_one_row_differ() {
    let bodies: Vec<Bytes> = (0..50).map(|_| seal_entry(&key(1), &entry("t", 1)).unwrap().body).collect();
    let distinct: std::collections::HashSet<_> = bodies.iter().collect();
    assert_eq!(distinct.len(), 50, "a nonce was used twice");
}

#[tokio::test]
async fn the_database_below_sees_neither_prompt_nor_answer_nor_vector() {
    let store = over_sqlite().await;
    let (above, below) = (store.stores(), store.inner.stores());
    above.entries.apply(&[put("t", 1), EntryWrite::AddPoint(point("t", 1, 2))]).await.unwrap();
    above.decisions.write(&[new_decision(decision("t", 1))]).await.unwrap();
    let clear = above.entries.export(None, 10).await.unwrap();
    assert_eq!(clear[0].points, [point("t", 1, 0), point("t", 1, 1), point("t", 1, 2)]);
    assert_eq!(clear[0].entry, entry("t", 1));
    let sealed = below.entries.export(None, 10).await.unwrap();
    assert!(sealed[0].entry.body.starts_with(&crypto::MAGIC));
    assert_eq!(sealed[0].points.len(), 3);
    for point in &sealed[0].points {
        assert!(point.vector.is_none() && point.space.is_none());
        assert!(point.prompt.as_deref().unwrap().starts_with(crypto::PREFIX));
    }
    let row = below.decisions.decision(request_id(1)).await.unwrap().unwrap();
    assert!(row.prompt.unwrap().starts_with(crypto::PREFIX));
    assert_eq!(above.decisions.decision(request_id(1)).await.unwrap(), Some(decision("t", 1)));
    assert!(below.entries.search(None, "prompt 1", 10).await.unwrap().is_empty());
    assert_eq!(above.entries.search(None, "PROMPT 1", 10).await.unwrap().len(), 3);
}

/// Somebody with access to the database puts one tenant's answer into another's row, and one point into another's place.
#[tokio::test]
async fn rows_that_were_swapped_below_are_refused_and_do_not_stop_a_scan() {
    let store = over_sqlite().await;
    let (above, below) = (store.stores(), store.inner.stores());
    above.entries.apply(&[put("ann", 1), put("bob", 2), put("bob", 3)]).await.unwrap();
    let all = below.entries.export(None, 10).await.unwrap();
    let [ann, bob, _] = &all[..] else { panic!("{all:?}") };
    let stolen = Entry { body: ann.entry.body.clone(), ..bob.entry.clone() };
    let place = Point { prompt: ann.points[0].prompt.clone(), ..bob.points[0].clone() };
    let swap = [EntryWrite::Delete { tenant: tenant("bob"), entry: entry_id(2) }, put_entry(stolen, vec![place])];
    below.entries.apply(&swap).await.unwrap();
    let refused = above.entries.entry(&tenant("bob"), entry_id(2)).await.unwrap_err();
    assert!(matches!(refused, StoreError::BadRow { .. }), "{refused}");
    assert_eq!(store.sealed.stats().unreadable, 1);
    let ids = |page: &[Loaded]| page.iter().map(|loaded| loaded.meta.entry.id).collect::<Vec<_>>();
    assert_eq!(ids(&above.entries.scan(0, None, 10).await.unwrap()), [entry_id(1), entry_id(3)]);
    assert!(above.entries.points_of(&tenant("bob"), entry_id(2)).await.unwrap().is_empty());
    assert_eq!(store.sealed.stats().unreadable, 3);
    // A page with nothing on it that opens is not the end.
    let after = Cursor { tenant: tenant("ann"), entry: entry_id(1) };
    assert_eq!(ids(&above.entries.scan(0, Some(&after), 1).await.unwrap()), [entry_id(3)]);
    let exported = above.entries.export(Some(&after), 1).await.unwrap();
    assert_eq!(exported[0].entry.id, entry_id(3));
}

#[tokio::test]
async fn what_was_stored_in_the_clear_before_is_still_read_and_stays_as_it_is() {
    let store = TempStore::open().await;
    let below = store.stores();
    below.entries.apply(&[put("t", 1), put("u", 1)]).await.unwrap();
    let some = Seal::Tenants(vec!["t".into()]);
    let sealed = Sealed::over(&below, &some, Some(&master('a')), None).await.unwrap().unwrap();
    let above = sealed.stores();
    above.entries.apply(&[put("t", 2), put("u", 2)]).await.unwrap();
    for (owner, number) in [("t", 1), ("t", 2), ("u", 1), ("u", 2)] {
        let found = above.entries.entry(&tenant(owner), entry_id(number)).await.unwrap();
        assert_eq!(found, Some(entry(owner, number)), "{owner} {number}");
        let raw = below.entries.entry(&tenant(owner), entry_id(number)).await.unwrap().unwrap();
        assert_eq!(raw.body.starts_with(&crypto::MAGIC), (owner, number) == ("t", 2));
    }
    assert_eq!(above.entries.scan(0, None, 10).await.unwrap().len(), 4);
    assert_eq!(above.entries.search(Some(&tenant("t")), "prompt", 10).await.unwrap().len(), 4);
}

#[tokio::test]
async fn two_programs_come_to_the_same_key() {
    let store = TempStore::open().await;
    let layers: Vec<Sealed> = [layer(&store.stores(), 'a').await, layer(&store.stores(), 'a').await].into();
    let puts = layers.iter().zip(1..).map(|(layer, number)| {
        let stores = layer.stores();
        tokio::spawn(async move { stores.entries.apply(&[put("t", number)]).await })
    });
    for done in puts.collect::<Vec<_>>() {
        done.await.unwrap().unwrap();
    }
    for layer in &layers {
        assert_eq!(layer.stores().entries.export(None, 10).await.unwrap().len(), 2);
        assert_eq!(layer.stats().unreadable, 0);
    }
    assert_eq!(store.stores().notes.notes_of(KEY_NOTES).await.unwrap().len(), 2, "one key, and the check");
}

#[tokio::test]
async fn a_wrong_master_key_is_refused_and_so_is_none_where_something_is_sealed() {
    let store = over_sqlite().await;
    let below = store.inner.stores();
    let over = async |key: Option<char>, before: Option<char>| {
        let (key, before) = (key.map(master), before.map(master));
        Sealed::over(&below, &Seal::None, key.as_ref(), before.as_ref()).await
    };
    assert!(over(None, None).await.unwrap().is_none(), "nothing is sealed yet");
    store.stores().entries.apply(&[put("t", 1)]).await.unwrap();
    assert!(matches!(over(None, None).await, Err(SealError::NoMaster)));
    assert!(matches!(over(Some('b'), None).await, Err(SealError::WrongMaster)));
    assert!(over(Some('a'), None).await.unwrap().is_some());
    assert!(over(Some('b'), Some('a')).await.unwrap().is_some(), "while it is rotated");
}

#[tokio::test]
async fn after_a_rotation_the_new_key_opens_everything_and_the_old_one_nothing() {
    let store = over_sqlite().await;
    let below = store.inner.stores();
    store.stores().entries.apply(&[put("t", 1), put("u", 2), put("v", 3)]).await.unwrap();
    store.sealed.shred(&tenant("v"), 7).await.unwrap();
    let before = below.notes.note(&note_name(&tenant("t"))).await.unwrap().unwrap();
    let wrong = rotate(&below, &master('c'), &master('d')).await.unwrap_err();
    assert!(matches!(wrong, RotateError::WrongMaster), "{wrong}");

    // As if a rotation had been killed after the first key.
    let bytes = keys::unwrap(&[Key::of(&master('a'))], &note_name(&tenant("t")), before.rsplit(' ').next().unwrap());
    let again = keys::wrap(&Key::of(&master('b')), &note_name(&tenant("t")), &bytes.unwrap()).unwrap();
    assert!(below.notes.swap_note(&note_name(&tenant("t")), &before, &again).await.unwrap());
    let between = Sealed::over(&below, &Seal::All, Some(&master('b')), Some(&master('a'))).await.unwrap().unwrap();
    assert_eq!(between.stores().entries.export(None, 10).await.unwrap().len(), 2);

    let done = rotate(&below, &master('a'), &master('b')).await.unwrap();
    assert_eq!(done, Rotated { wrapped: 1, before: 1, shredded: 1 });
    let repeated = rotate(&below, &master('a'), &master('b')).await.unwrap();
    assert_eq!(repeated, Rotated { wrapped: 0, before: 2, shredded: 1 });
    let new = layer(&below, 'b').await;
    let all = new.stores().entries.export(None, 10).await.unwrap();
    assert_eq!(all.iter().map(|each| each.entry.clone()).collect::<Vec<_>>(), [entry("t", 1), entry("u", 2)]);
    let old = Sealed::over(&below, &Seal::All, Some(&master('a')), None).await;
    assert!(matches!(old, Err(SealError::WrongMaster)));
    for (name, text) in below.notes.notes_of(KEY_NOTES).await.unwrap() {
        assert!(keys::unwrap(&[Key::of(&master('a'))], &name, text.rsplit(' ').next().unwrap()).is_none());
    }
}

#[tokio::test]
async fn a_shredded_tenant_is_unreadable_and_stores_nothing_until_it_is_reopened() {
    let store = over_sqlite().await;
    let (above, below) = (store.stores(), store.inner.stores());
    above.entries.apply(&[put("t", 1), put("u", 2)]).await.unwrap();
    let wrapped = below.notes.note(&note_name(&tenant("t"))).await.unwrap().unwrap();
    assert!(store.sealed.shred(&tenant("t"), 7).await.unwrap());
    assert!(store.sealed.shred(&tenant("t"), 8).await.unwrap(), "it may be repeated");
    assert!(above.entries.entry(&tenant("t"), entry_id(1)).await.is_err());
    assert_eq!(above.entries.scan(0, None, 10).await.unwrap().len(), 1, "the other tenant is as it was");
    above.entries.apply(&[put("t", 3), put("u", 4)]).await.unwrap();
    above.decisions.write(&[new_decision(decision("t", 1)), new_decision(decision("u", 2))]).await.unwrap();
    above.decisions.save_learned(&[learned("t", "m", 1), learned("u", "m", 1)]).await.unwrap();
    assert_eq!(store.sealed.stats().dropped, 3);
    assert_eq!(below.entries.counts().await.unwrap().entries, 3);
    assert!(below.decisions.decision(request_id(1)).await.unwrap().is_none());
    assert_eq!(below.decisions.learned().await.unwrap(), [learned("u", "m", 1)]);
    let note = below.notes.note(&note_name(&tenant("t"))).await.unwrap().unwrap();
    assert!(is_shredded(&note) && !note.contains(wrapped.rsplit(' ').next().unwrap()), "{note}");

    assert!(reopen(&below, &tenant("t")).await.unwrap());
    assert!(!reopen(&below, &tenant("u")).await.unwrap());
    above.entries.apply(&[put("t", 5)]).await.unwrap();
    assert_eq!(above.entries.entry(&tenant("t"), entry_id(5)).await.unwrap(), Some(entry("t", 5)));
    assert!(above.entries.entry(&tenant("t"), entry_id(1)).await.is_err(), "the old key is gone for good");
}

/// The other replica still has the key in memory when it is shredded.
#[tokio::test]
async fn another_replica_drops_what_comes_late_for_a_shredded_tenant() {
    let database = EmptyDatabase::new().await;
    let (a, b) = (database.open().await, database.open().await);
    let (here, there) = (layer(&a.stores(), 'a').await, layer(&b.stores(), 'a').await);
    let (first, second) = (here.stores(), there.stores());
    second.entries.apply(&[put("t", 1)]).await.unwrap();
    // As whoever follows the changes does at its start.
    let changes = second.changes.as_ref().unwrap();
    changes.obeyed(changes.feed(0, 100).await.unwrap().head);
    here.shred(&tenant("t"), 7).await.unwrap();
    let row = crate::store::sample::audit_row(1);
    let gone =
        [crate::store::sample::delete("t", 1), EntryWrite::Invalidated { at: 7, filter: r#"{"tenant":"t"}"#.into() }];
    first.audit.record(&row, &gone).await.unwrap();
    let early = second.entries.apply(&[put("t", 2)]).await;
    assert!(matches!(early, Err(StoreError::Behind)), "{early:?}");
    let feed = changes.feed(0, 100).await.unwrap();
    changes.obeyed(feed.head);
    second.entries.apply(&[put("t", 2)]).await.unwrap();
    assert_eq!((there.stats().dropped, a.stores().entries.counts().await.unwrap().entries), (1, 0));
    a.close().await;
    b.close().await;
    drop(database);
}

#[tokio::test]
async fn the_database_is_not_asked_for_neighbours_of_a_sealed_tenant() {
    let store = TempDatabase::open().await;
    let some = Seal::Tenants(vec!["sealed".into()]);
    let layer = Sealed::over(&store.stores(), &some, Some(&master('a')), None).await.unwrap().unwrap();
    let above = layer.stores();
    let vector = vec![1.0, 0.0, 0.0, 0.0];
    for owner in ["sealed", "clear"] {
        let unit = Point { vector: Some(vector.clone()), ..point(owner, 1, 0) };
        above.entries.apply(&[put_entry(entry(owner, 1), vec![unit])]).await.unwrap();
    }
    let search = above.search.clone().unwrap();
    assert!(search.searches(&tenant("clear")) && !search.searches(&tenant("sealed")));
    for (owner, found) in [("clear", 1), ("sealed", 0)] {
        let question = Question {
            tenant: &tenant(owner),
            partition: &[1; 32],
            space: "minilm@1/4",
            query: &vector,
            k: 3,
            now: 0,
            how: Search::Exact,
        };
        assert_eq!(search.nearest(&question).await.unwrap().len(), found, "{owner}");
        let loaded = search.by_fingerprint(&tenant(owner), &[2; 32], 0).await.unwrap().unwrap();
        assert_eq!(loaded.points[0].vector.as_ref(), Some(&vector));
        let page = search.scan_partition(&tenant(owner), &[1; 32], 0, None, 10).await.unwrap();
        assert_eq!(page[0].points[0].vector.as_ref(), Some(&vector));
        assert_eq!(page[0].meta.entry.expires_at, LATER);
    }
    assert_eq!(search.partitions(0).await.unwrap().len(), 2);
}
