//! Promises of the index, on made-up prompts and against a plain list.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;

use super::testing::{Points, dot_f64, unit};
use super::*;

const DIM: usize = 384;

fn id(number: usize) -> PointId {
    PointId::from_bytes((number as u128).to_be_bytes())
}

fn number(id: PointId) -> usize {
    usize::try_from(u128::from_be_bytes(id.to_bytes())).unwrap()
}

fn filled(points: &[Vec<f32>], hnsw_from: usize) -> Partition {
    let partition = Partition::new(points[0].len(), hnsw_from);
    for (i, vector) in points.iter().enumerate() {
        partition.insert(id(i), vector).unwrap();
    }
    partition
}

fn settle(partition: &Partition) {
    while partition.maintain().is_some() {}
}

fn exact(points: &[Vec<f32>], query: &[f32], k: usize) -> Vec<usize> {
    let mut all: Vec<(f64, usize)> = points.iter().enumerate().map(|(i, p)| (dot_f64(p, query), i)).collect();
    all.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    all.into_iter().take(k).map(|(_, i)| i).collect()
}

/// The share of `expected` that was found.
fn recall(found: &[Neighbour], expected: &[usize]) -> f64 {
    let found: HashSet<usize> = found.iter().map(|n| number(n.id)).collect();
    expected.iter().filter(|i| found.contains(i)).count() as f64 / expected.len() as f64
}

#[test]
fn flat_finds_what_a_plain_f32_scan_finds() {
    let all = Points::clustered(2, 2_100, DIM).vectors;
    let (points, queries) = all.split_at(2_000);
    let partition = filled(points, usize::MAX);
    let mut sum = 0.0;
    for query in queries {
        let found = partition.search(query, 10);
        let expected = exact(points, query, 10);
        assert_eq!(number(found[0].id), expected[0]);
        for neighbour in &found {
            let true_cosine = dot_f64(&points[number(neighbour.id)], query);
            assert!((f64::from(neighbour.cosine) - true_cosine).abs() < 2e-5);
        }
        sum += recall(&found, &expected);
    }
    let recall = sum / queries.len() as f64;
    assert!(recall >= 0.999, "recall at 10: {recall}");
    assert_eq!(partition.kind(), Kind::Flat);
}

#[test]
fn the_graph_finds_nearly_all_that_flat_finds() {
    let all = Points::clustered(3, 5_200, DIM).vectors;
    let (points, queries) = all.split_at(5_000);
    let flat = filled(points, usize::MAX);
    let graph = filled(points, 5_000);
    settle(&graph);
    assert_eq!((graph.kind(), graph.len()), (Kind::Hnsw, 5_000));
    let mut sum = 0.0;
    for query in queries {
        let expected: Vec<usize> = flat.search(query, 10).iter().map(|n| number(n.id)).collect();
        sum += recall(&graph.search(query, 10), &expected);
    }
    let recall = sum / queries.len() as f64;
    assert!(recall >= 0.98, "recall at 10: {recall}");

    let own = points.iter().enumerate().filter(|(i, p)| graph.search(p, 1)[0].id == id(*i)).count();
    assert!(own >= 4_995, "{own} of 5,000 points are found by their own vector");
}

#[test]
fn unusable_vectors_are_refused_and_find_nothing() {
    let partition = Partition::new(2, 100);
    partition.insert(id(1), &[0.6, 0.8]).unwrap();
    for (vector, reason) in [
        (&[0.6_f32, 0.8, 0.0][..], IndexError::Dimension { expected: 2, found: 3 }),
        (&[f32::NAN, 1.0], IndexError::NotFinite),
        (&[0.0, 0.0], IndexError::NotUnit),
        (&[0.6, 0.9], IndexError::NotUnit),
    ] {
        assert_eq!(partition.insert(id(2), vector), Err(reason));
        assert_eq!(partition.search(vector, 5), []);
    }
    assert_eq!(partition.len(), 1);
    assert_eq!(partition.search(&[0.6, 0.8], 0), []);
    assert_eq!(partition.search(&[0.6, 0.8], usize::MAX).len(), 1);
}

#[test]
fn equal_cosines_are_ordered_by_id_whatever_the_order_of_insertion() {
    let same = [0.6_f32, 0.8];
    let mut index = Index::new(2);
    for i in [7, 3, 90, 1, 50, 4, 60, 2] {
        index.insert(id(i), &same).unwrap();
    }
    for i in 100..200 {
        index.insert(id(i), &same).unwrap();
    }
    index.remove(id(3));
    let found: Vec<usize> = index.search(&same, 5).iter().map(|n| number(n.id)).collect();
    assert_eq!(found, [1, 2, 4, 7, 50]);
}

#[test]
fn an_inserted_id_takes_its_new_vector() {
    for hnsw_from in [2, usize::MAX] {
        let partition = filled(&Points::clustered(4, 8, 4).vectors, hnsw_from);
        settle(&partition);
        partition.insert(id(3), &[0.0, 0.0, 0.0, 1.0]).unwrap();
        assert_eq!(partition.len(), 8);
        let found = partition.search(&[0.0, 0.0, 0.0, 1.0], 8);
        assert_eq!((found[0].id, found.len()), (id(3), 8));
        assert!(found[0].cosine > 0.9999);
    }
}

#[test]
fn an_empty_partition_costs_bytes_and_a_small_one_what_it_holds() {
    assert!(Partition::new(DIM, 20_000).memory_bytes() < 400, "{}", Partition::new(DIM, 20_000).memory_bytes());
    let three = filled(&Points::clustered(5, 3, DIM).vectors, 20_000);
    assert!(three.memory_bytes() < 3 * 2 * DIM + 1_024, "{}", three.memory_bytes());
}

#[test]
fn flat_accounts_for_its_rows_and_gives_memory_back() {
    let count = 1_000;
    let partition = filled(&Points::clustered(6, count, 64).vectors, usize::MAX);
    let payload = count * (2 * 64 + size_of::<f32>() + size_of::<PointId>());
    // Rows grow by a quarter; the table of ids has up to twice as many buckets as points, of 33 bytes.
    let (least, most) = (payload + count * 33, payload * 5 / 4 + count * 2 * 8 / 7 * 33 + 1_024);
    let bytes = partition.memory_bytes();
    assert!((least..most).contains(&bytes), "{least} <= {bytes} < {most}");
    for i in 0..count {
        assert!(partition.remove(id(i)));
    }
    assert!(partition.memory_bytes() < 600, "{}", partition.memory_bytes());
}

#[test]
fn a_rebuild_drops_tombstones_and_keeps_what_happened_meanwhile() {
    let points = Points::clustered(7, 600, 32).vectors;
    let partition = filled(&points, 600);
    settle(&partition);
    let left = partition.len();
    for i in (0..600).step_by(2) {
        assert!(partition.remove(id(i)));
        assert!(!partition.remove(id(i)));
    }
    assert_eq!(partition.needs_maintenance(), Some(Maintenance::Rebuild));
    assert!(partition.tombstones() > 0 && partition.len() == left - 300);
    // Between the steps of a rebuild the old graph serves, and what happens meanwhile is kept.
    partition.maintain();
    partition.remove(id(1));
    partition.remove(id(599));
    partition.insert(id(1_000), &points[0]).unwrap();
    settle(&partition);
    assert_eq!(partition.len(), 299);
    assert!(partition.tombstones() <= 2, "only what was removed after it had been copied");
    let found: HashSet<usize> = partition.search(&points[0], 299).iter().map(|n| number(n.id)).collect();
    let expected: HashSet<usize> = (3..599).step_by(2).chain([1_000]).collect();
    assert_eq!(found, expected);
}

#[test]
fn points_folded_during_a_rebuild_are_in_the_new_graph_with_their_last_vector() {
    let points = Points::clustered(12, 640, 32).vectors;
    let partition = filled(&points[..600], 40);
    settle(&partition);
    for i in 0..300 {
        partition.remove(id(i));
    }
    assert_eq!(partition.maintain(), Some(Maintenance::Rebuild));
    // These are gone from the graph, and come back with other vectors before the rebuild is over.
    for i in 0..40 {
        partition.remove(id(400 + i));
        partition.insert(id(400 + i), &points[600 + i]).unwrap();
    }
    assert_eq!(partition.maintain(), Some(Maintenance::Fold));
    settle(&partition);
    assert_eq!(partition.len(), 300);
    for i in 0..40 {
        assert_eq!(partition.search(&points[600 + i], 1)[0].id, id(400 + i));
        assert!(partition.search(&points[400 + i], 1)[0].id != id(400 + i));
    }
}

#[test]
fn a_graph_emptied_by_removals_becomes_flat_again() {
    let partition = filled(&Points::clustered(8, 64, 16).vectors, 64);
    settle(&partition);
    assert_eq!(partition.kind(), Kind::Hnsw);
    for i in 0..64 {
        partition.remove(id(i));
    }
    settle(&partition);
    assert_eq!((partition.kind(), partition.len(), partition.tombstones()), (Kind::Flat, 0, 0));
}

#[test]
fn points_behind_many_tombstones_are_still_found() {
    let points = Points::clustered(9, 1_000, 32).vectors;
    let partition = filled(&points, 1_000);
    settle(&partition);
    let nearest: Vec<PointId> = partition.search(&points[0], 240).iter().map(|n| n.id).collect();
    for id in &nearest {
        partition.remove(*id);
    }
    assert_eq!(partition.needs_maintenance(), None, "too few tombstones for a rebuild");
    let found = partition.search(&points[0], 10);
    assert_eq!(found.len(), 10);
    assert!(found.iter().all(|n| !nearest.contains(&n.id)));
}

#[test]
fn a_poisoned_lock_is_taken_all_the_same() {
    let partition = filled(&Points::clustered(10, 40, 8).vectors, 16);
    std::thread::scope(|scope| {
        let died = scope.spawn(|| partition.die_under_both_locks()).join();
        assert!(died.is_err());
    });
    assert_eq!(partition.len(), 40);
    settle(&partition);
    assert!(partition.remove(id(3)));
    assert_eq!((partition.len(), partition.kind()), (39, Kind::Hnsw));
}

/// Vectors whose nearest neighbour is never in doubt: one direction each, in eight dimensions, with sixteen signs.
fn direction(number: usize) -> Vec<f32> {
    let mut vector = vec![0.02_f32; 8];
    vector[number % 8] = if number.is_multiple_of(16) { 1.0 } else { -1.0 };
    vector[(number / 16 + number + 1) % 8] += 0.3;
    vector[(number / 16 + number + 3) % 8] -= 0.1;
    unit(vector)
}

#[derive(Clone, Debug)]
enum Step {
    Insert(usize, usize),
    Remove(usize),
    Search(usize),
    Maintain,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => (0usize..60, 0usize..200).prop_map(|(id, at)| Step::Insert(id, at)),
        3 => (0usize..60).prop_map(Step::Remove),
        1 => (0usize..200).prop_map(Step::Search),
        2 => Just(Step::Maintain),
    ];
    prop::collection::vec(step, 1..200)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_steps_leaves_what_a_plain_list_would_hold(steps in steps(), hnsw_from in 1usize..40) {
        let partition = Partition::new(8, hnsw_from);
        let mut model: BTreeMap<usize, Vec<f32>> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Insert(number, at) => {
                    partition.insert(id(number), &direction(at)).unwrap();
                    model.insert(number, direction(at));
                }
                Step::Remove(number) => {
                    prop_assert_eq!(partition.remove(id(number)), model.remove(&number).is_some());
                }
                Step::Search(at) => check_search(&partition, &model, &direction(at))?,
                Step::Maintain => { partition.maintain(); }
            }
            prop_assert_eq!(partition.len(), model.len());
        }
        for vector in model.values() {
            check_search(&partition, &model, vector)?;
        }
        settle(&partition);
        for vector in model.values() {
            check_search(&partition, &model, vector)?;
        }
    }
}

/// With fewer points than a search of the graph keeps, the graph too must find all, in the right order.
fn check_search(partition: &Partition, model: &BTreeMap<usize, Vec<f32>>, query: &[f32]) -> Result<(), TestCaseError> {
    let found = partition.search(query, 60);
    let ids: HashSet<usize> = found.iter().map(|n| number(n.id)).collect();
    prop_assert_eq!(ids, model.keys().copied().collect::<HashSet<_>>());
    for pair in found.windows(2) {
        prop_assert!(pair[0].cosine > pair[1].cosine || (pair[0].cosine == pair[1].cosine && pair[0].id < pair[1].id));
    }
    for neighbour in found {
        let cosine = dot_f64(&model[&number(neighbour.id)], query);
        prop_assert!((f64::from(neighbour.cosine) - cosine).abs() < 1e-4);
    }
    Ok(())
}

#[test]
fn all_points_within_a_radius_are_found_also_in_a_graph_that_is_half_folded() {
    let all = Points::clustered(7, 2_020, DIM).vectors;
    let (points, queries) = all.split_at(2_000);
    for (hnsw_from, maintained) in [(usize::MAX, 0), (500, 3), (500, usize::MAX)] {
        let partition = filled(points, hnsw_from);
        (0..maintained).find(|_| partition.maintain().is_none());
        assert_eq!(partition.kind(), if hnsw_from == 500 { Kind::Hnsw } else { Kind::Flat });
        for removed in (0..2_000).step_by(3) {
            assert!(partition.remove(id(removed)));
        }
        for query in queries {
            // No cosine lies so near the bound that rounding could decide.
            let cosine = |i: &usize| dot_f64(&points[*i], query);
            let mut expected: Vec<usize> = (0..2_000).filter(|i| i % 3 != 0 && cosine(i) >= 0.7).collect();
            expected.retain(|i| (cosine(i) - 0.7).abs() > 5e-5);
            let mut found: Vec<usize> = partition.within(query, 0.7).iter().map(|n| number(n.id)).collect();
            found.retain(|i| (cosine(i) - 0.7).abs() > 5e-5);
            found.sort_unstable();
            assert_eq!(found, expected);
            assert!(!expected.is_empty());
        }
        let everything = partition.within(&queries[0], -1.0);
        assert_eq!(everything.len(), partition.len());
        assert!(everything.is_sorted_by(|a, b| a.cosine >= b.cosine));
    }
}

#[test]
fn nothing_is_lost_while_inserts_removals_and_searches_run_beside_maintenance() {
    let points = Points::clustered(11, 3_000, 32).vectors;
    let partition = filled(&points[..1_000], 500);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                partition.maintain();
            }
        });
        scope.spawn(|| {
            for query in points.iter().cycle() {
                let found = partition.search(query, 5);
                let distinct: HashSet<PointId> = found.iter().map(|n| n.id).collect();
                assert_eq!(distinct.len(), found.len());
                if done.load(Ordering::Acquire) {
                    break;
                }
            }
        });
        for i in 1_000..3_000 {
            partition.insert(id(i), &points[i]).unwrap();
            assert_eq!(partition.search(&points[i], 1)[0].id, id(i), "found at once");
            let gone = id(i - 1_000);
            assert!(partition.remove(gone));
            assert!(partition.search(&points[i - 1_000], 3).iter().all(|n| n.id != gone), "gone at once");
        }
        done.store(true, Ordering::Release);
    });
    settle(&partition);
    assert_eq!(partition.len(), 1_000);
    let own = (2_000..3_000).filter(|&i| partition.search(&points[i], 1)[0].id == id(i)).count();
    assert!(own >= 999, "{own} of 1,000 points are found by their own vector");
}
