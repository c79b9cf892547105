//! Searches in the store: through the index and vector by vector.

use std::collections::HashSet;

use sqlx::query_scalar;

use super::super::super::sample::{LATER, entry, entry_id, point, put, put_entry, tenant};
use super::super::super::{Digest, Entry, EntryWrite, NearPoint, PartitionSize, Point, Question, Search};
use super::*;

const SPACE: &str = "test@1/64";
const DIMENSIONS: usize = 64;
const PARTITION: Digest = [7; 32];

/// A random number from about a normal distribution.
fn normal(random: &mut fastrand::Rng) -> f32 {
    (0..6).map(|_| random.f32()).sum::<f32>() - 3.0
}

fn unit(mut vector: Vec<f32>) -> Vec<f32> {
    let norm = vector.iter().map(|number| number * number).sum::<f32>().sqrt();
    vector.iter_mut().for_each(|number| *number /= norm);
    vector
}

/// Unit vectors around so many centres.
fn clustered(random: &mut fastrand::Rng, centres: usize, count: usize) -> Vec<Vec<f32>> {
    let centres: Vec<Vec<f32>> =
        (0..centres).map(|_| unit((0..DIMENSIONS).map(|_| normal(random)).collect())).collect();
    (0..count)
        .map(|at| {
            let centre = &centres[at % centres.len()];
            unit(centre.iter().map(|number| number + 0.08 * normal(random)).collect())
        })
        .collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Entry `number` with one point that has this vector.
fn one(owner: &str, number: u64, partition: Digest, vector: Vec<f32>, expires_at: u64) -> EntryWrite {
    let point = Point { partition, space: Some(SPACE.into()), vector: Some(vector), ..point(owner, number, 0) };
    put_entry(Entry { partition, expires_at, ..entry(owner, number) }, vec![point])
}

/// A store that uses the index from so many points on.
async fn open_with(database: &EmptyDatabase, fast_from: i64) -> Arc<PostgresStore> {
    let mut store = Arc::into_inner(database.open().await).unwrap();
    store.fast_from = fast_from;
    Arc::new(store)
}

fn ask<'a>(owner: &'a crate::ids::TenantId, query: &'a [f32], how: Search) -> Question<'a> {
    Question { tenant: owner, partition: &PARTITION, space: SPACE, query, k: 10, now: 100, how }
}

fn ids(found: &[NearPoint]) -> Vec<[u8; 16]> {
    found.iter().map(|near| near.point.id.to_bytes()).collect()
}

#[tokio::test]
async fn the_index_finds_what_looking_at_every_vector_finds_and_nothing_of_others() {
    let database = EmptyDatabase::new().await;
    let store = open_with(&database, 100).await;
    let stores = store.stores();
    let search = stores.search.clone().unwrap();
    let mut random = fastrand::Rng::with_seed(4);
    let vectors = clustered(&mut random, 60, 3_200);
    let mut writes = Vec::new();
    for (number, vector) in (1..).zip(&vectors) {
        // Every eighth belongs to somebody else, to another partition or to the past, and is as near as the others.
        writes.push(match number % 16 {
            3 => one("other", number, PARTITION, vector.clone(), LATER),
            7 => one("t", number, [8; 32], vector.clone(), LATER),
            11 => one("t", number, PARTITION, vector.clone(), 100),
            _ => one("t", number, PARTITION, vector.clone(), LATER),
        });
    }
    stores.entries.apply(&writes).await.unwrap();
    database.sql("ANALYZE").await;
    let is_ours = |number: u64| !matches!(number % 16, 3 | 7 | 11);
    let owner = tenant("t");
    let (mut found_both, mut asked) = (0, 0);
    for query in clustered(&mut random, 60, 20).iter().chain(&vectors[..40]) {
        let exact = search.nearest(&ask(&owner, query, Search::Exact)).await.unwrap();
        let mut known: Vec<(f32, u64)> =
            (1..).zip(&vectors).map(|(number, vector)| (cosine(query, vector), number)).collect();
        known.retain(|(_, number)| is_ours(*number));
        known.sort_by(|a, b| b.0.total_cmp(&a.0));
        for (near, (cosine, _)) in exact.iter().zip(&known) {
            assert!((near.cosine - cosine).abs() < 1e-5, "{} {cosine}", near.cosine);
        }
        assert_eq!(exact.len(), 10);
        let fast = search.nearest(&ask(&owner, query, Search::Fast)).await.unwrap();
        for found in [&exact, &fast] {
            assert!(found.windows(2).all(|pair| pair[0].cosine >= pair[1].cosine), "not best first");
            for near in found {
                let number = near.meta.entry.created_at;
                assert!(is_ours(number), "entry {number} leaked");
                assert_eq!(
                    (&near.point.tenant, near.point.partition, near.point.entry),
                    (&owner, PARTITION, entry_id(number))
                );
                let of_vector = cosine(query, &vectors[usize::try_from(number).unwrap() - 1]);
                assert!((near.cosine - of_vector).abs() < 1e-5, "not the cosine of the full vectors");
            }
        }
        let exact: HashSet<_> = ids(&exact).into_iter().collect();
        found_both += ids(&fast).iter().filter(|id| exact.contains(*id)).count();
        asked += 10;
    }
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let recall = found_both as f64 / f64::from(asked);
    assert!(recall >= 0.95, "recall {recall}");
    let used: i64 = query_scalar("SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'vectors_1_nearest'")
        .fetch_one(&mut database.connect().await)
        .await
        .unwrap();
    let mut used = used;
    // The counters of a connection are told to all a little later.
    while used < 60 {
        store.readers.acquire().await.unwrap().close().await.unwrap();
        used = query_scalar("SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'vectors_1_nearest'")
            .fetch_one(&mut database.connect().await)
            .await
            .unwrap();
    }
    assert_eq!(used, 60, "each fast search goes through the index, and no exact one");
}

#[tokio::test]
async fn a_search_through_the_index_that_meets_too_few_looks_at_every_vector() {
    let database = EmptyDatabase::new().await;
    let store = open_with(&database, 1).await;
    let search = store.stores().search.unwrap();
    let mut random = fastrand::Rng::with_seed(5);
    let vectors = clustered(&mut random, 10, 40);
    let writes: Vec<_> =
        (1..).zip(&vectors).map(|(number, vector)| one("t", number, PARTITION, vector.clone(), LATER)).collect();
    store.stores().entries.apply(&writes[..4]).await.unwrap();
    let owner = tenant("t");
    for how in [Search::Fast, Search::Exact] {
        assert_eq!(search.nearest(&ask(&owner, &vectors[0], how)).await.unwrap().len(), 4, "{how:?}");
    }
    // A point that moved is found with the entry it leads to now, and one that is gone is not.
    let link = sample_link(1, 2);
    store.stores().entries.apply(&[link, super::super::super::sample::delete("t", 3)]).await.unwrap();
    for how in [Search::Fast, Search::Exact] {
        let found = search.nearest(&ask(&owner, &vectors[0], how)).await.unwrap();
        assert_eq!(found.len(), 3);
        assert_eq!((found[0].point.id, found[0].meta.entry.id), (point("t", 1, 0).id, entry_id(2)), "{how:?}");
        assert!((found[0].cosine - 1.0).abs() < 1e-5);
        let unknown = Question { space: "another@1/64", ..ask(&owner, &vectors[0], how) };
        assert_eq!(search.nearest(&unknown).await.unwrap(), []);
        assert_eq!(search.nearest(&ask(&tenant("u"), &vectors[0], how)).await.unwrap(), []);
        assert_eq!(search.nearest(&ask(&owner, &vectors[0][..3], how)).await.unwrap(), [], "other dimensions");
    }
}

fn sample_link(from: u64, to: u64) -> EntryWrite {
    super::super::super::sample::link("t", from, 0, to)
}

#[tokio::test]
async fn vectors_of_three_sizes_have_tables_of_their_own_and_come_back_exactly() {
    let temp = TempDatabase::open().await;
    let stores = temp.stores();
    let mut random = fastrand::Rng::with_seed(6);
    let mut with = |number, dimensions: usize| {
        let vector = unit((0..dimensions).map(|_| normal(&mut random)).collect());
        let point = Point { space: Some(format!("m@1/{dimensions}")), vector: Some(vector), ..point("t", number, 0) };
        (put_entry(entry("t", number), vec![point.clone()]), point)
    };
    for (number, dimensions) in [(1, 384), (2, 1_536), (3, 4_001), (4, 384)] {
        let (write, point) = with(number, dimensions);
        stores.entries.apply(&[write]).await.unwrap();
        assert!(stores.entries.points_of(&tenant("t"), entry_id(number)).await.unwrap() == [point.clone()]);
        let (space, query) = (point.space.as_deref().unwrap(), point.vector.as_deref().unwrap());
        let owner = tenant("t");
        let question = Question { tenant: &owner, partition: &[1; 32], space, query, k: 1, now: 0, how: Search::Fast };
        let found = stores.search.as_ref().unwrap().nearest(&question).await.unwrap();
        assert_eq!((found.len(), found[0].meta.entry.id), (1, entry_id(number)));
    }
    let indexes: Vec<String> =
        query_scalar("SELECT indexname::text FROM pg_indexes WHERE indexdef LIKE '%hnsw%' ORDER BY 1")
            .fetch_all(&mut temp.database.connect().await)
            .await
            .unwrap();
    assert_eq!(indexes, ["vectors_1_nearest", "vectors_2_nearest"], "none above 4000 dimensions");
}

#[tokio::test]
async fn replicas_that_meet_a_new_space_at_once_make_one_table() {
    let database = EmptyDatabase::new().await;
    let mut writing = Vec::new();
    for writer in 0..6u64 {
        let store = database.open().await;
        writing.push(tokio::spawn(async move {
            for number in 0..5 {
                store.stores().entries.apply(&[put("t", 1 + writer * 10 + number)]).await.unwrap();
            }
        }));
    }
    for each in writing {
        each.await.unwrap();
    }
    let spaces: i64 =
        query_scalar("SELECT count(*) FROM spaces").fetch_one(&mut database.connect().await).await.unwrap();
    let vectors: i64 =
        query_scalar("SELECT count(*) FROM vectors_1").fetch_one(&mut database.connect().await).await.unwrap();
    assert_eq!((spaces, vectors), (1, 60));
}

#[tokio::test]
async fn partitions_are_listed_newest_first_and_read_page_by_page() {
    let temp = TempDatabase::open().await;
    let stores = temp.stores();
    let search = stores.search.clone().unwrap();
    let in_partition = |owner: &str, number: u64, partition: Digest, expires_at| {
        let points = [0, 1].map(|each| Point { partition, created_at: number, ..point(owner, number, each) });
        put_entry(Entry { partition, expires_at, ..entry(owner, number) }, points.into())
    };
    let writes = [
        in_partition("t", 1, [5; 32], LATER),
        in_partition("t", 2, [5; 32], LATER),
        in_partition("t", 3, [6; 32], LATER),
        in_partition("u", 4, [5; 32], LATER),
        in_partition("t", 5, [5; 32], LATER),
        in_partition("t", 6, [5; 32], 50),
        in_partition("t", 7, [9; 32], 50),
    ];
    stores.entries.apply(&writes).await.unwrap();
    let size = |owner: &str, partition: Digest, points, newest| PartitionSize {
        tenant: tenant(owner),
        partition,
        points,
        newest,
    };
    let expected = [size("t", [5; 32], 6, 5), size("u", [5; 32], 2, 4), size("t", [6; 32], 2, 3)];
    assert_eq!(search.partitions(50).await.unwrap(), expected);
    let owner = tenant("t");
    let page = async |after: Option<u64>, limit| -> Vec<u64> {
        let loaded = search.scan_partition(&owner, &[5; 32], 50, after.map(entry_id), limit).await.unwrap();
        assert!(loaded.iter().all(|each| each.points.len() == 2 && each.points[0].vector.is_some()));
        loaded.iter().map(|each| each.meta.entry.created_at).collect()
    };
    assert_eq!(page(None, 2).await, [1, 2]);
    assert_eq!(page(Some(2), 2).await, [5]);
    assert_eq!(page(Some(5), 2).await, [0; 0]);
}

#[tokio::test]
async fn a_fingerprint_leads_to_the_newest_live_entry_of_its_tenant() {
    let temp = TempDatabase::open().await;
    let stores = temp.stores();
    let search = stores.search.clone().unwrap();
    let with = |owner: &str, number, fingerprint: Digest, expires_at| {
        let point = Point { fingerprint, ..point(owner, number, 0) };
        put_entry(Entry { expires_at, ..entry(owner, number) }, vec![point])
    };
    let writes = [
        with("t", 1, [4; 32], LATER),
        with("t", 3, [4; 32], LATER),
        with("t", 5, [4; 32], 50),
        with("u", 7, [4; 32], LATER),
        with("t", 9, [3; 32], LATER),
    ];
    stores.entries.apply(&writes).await.unwrap();
    let by = async |owner: &str, fingerprint: Digest| {
        let found = search.by_fingerprint(&tenant(owner), &fingerprint, 50).await.unwrap();
        found.map(|loaded| (loaded.meta.entry.created_at, loaded.points.len()))
    };
    assert_eq!(by("t", [4; 32]).await, Some((3, 1)));
    assert_eq!(by("u", [4; 32]).await, Some((7, 1)));
    assert_eq!((by("u", [3; 32]).await, by("t", [1; 32]).await), (None, None));
}
