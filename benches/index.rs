//! The vector index: one search and one insert at 1,000 to 100,000 points, flat and graph.
//!
//! `cargo bench --bench index`. Before the timings it prints, for each size, what criterion cannot: recall against the
//! flat scan, bytes a vector (growth of the process and the index's own account), time of an insert, and nanoseconds a
//! vector. Building the graph of 100,000 takes minutes; `INDEX_BENCH_MAX=10000` leaves it out.

#[path = "../src/index/testing.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod testing;

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion};
use remora::ids::PointId;
use remora::index::Partition;
use testing::Points;

const DIM: usize = 384;
const SIZES: [usize; 4] = [1_000, 10_000, 20_000, 100_000];
const QUERIES: usize = 500;
const K: usize = 10;

fn main() {
    let most = std::env::var("INDEX_BENCH_MAX").ok().and_then(|text| text.parse().ok()).unwrap_or(usize::MAX);
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
        .sample_size(20)
        .configure_from_args();
    for size in SIZES.into_iter().filter(|size| *size <= most) {
        let mut points = Points::clustered(1, size + QUERIES, DIM).vectors;
        let queries = points.split_off(size);
        let flat = build("flat", &points, usize::MAX);
        let graph = build("hnsw", &points, 1);
        report(size, &flat, &graph, &queries);
        measure(&mut criterion, "flat", &flat, &queries);
        measure(&mut criterion, "hnsw", &graph, &queries);
    }
    criterion.final_summary();
}

/// Fills a partition, moves all of it into the graph if it has one, and prints what that took.
fn build(name: &str, points: &[Vec<f32>], hnsw_from: usize) -> Partition {
    let before = resident_bytes();
    let partition = Partition::new(DIM, hnsw_from);
    let begun = Instant::now();
    for (number, vector) in (0_u128..).zip(points) {
        let refused = partition.insert(PointId::from_bytes(number.to_be_bytes()), vector);
        assert!(refused.is_ok(), "{refused:?}");
    }
    let inserted = begun.elapsed();
    while partition.maintain().is_some() {}
    let moved = begun.elapsed() - inserted;
    println!(
        "{name} {}: insert {:.2} µs, upkeep {:.2} µs a vector; resident {} B, by its own account {} B a vector",
        points.len(),
        per(inserted, points.len()) / 1e3,
        per(moved, points.len()) / 1e3,
        resident_bytes().saturating_sub(before) / points.len(),
        partition.memory_bytes() / points.len(),
    );
    partition
}

fn report(size: usize, flat: &Partition, graph: &Partition, queries: &[Vec<f32>]) {
    let mut common = 0;
    for query in queries {
        let exact = flat.search(query, K);
        let found = graph.search(query, K);
        common += exact.iter().filter(|n| found.iter().any(|other| other.id == n.id)).count();
    }
    let recall = common as f64 / (queries.len() * K) as f64;
    let (scan, walk) = (time(flat, queries), time(graph, queries));
    println!(
        "{size}: flat {:.1} µs ({:.1} ns a vector), hnsw {:.1} µs at recall@{K} {recall:.4}",
        scan / 1e3,
        scan / size as f64,
        walk / 1e3
    );
}

fn measure(criterion: &mut Criterion, name: &str, partition: &Partition, queries: &[Vec<f32>]) {
    let mut next = queries.iter().cycle();
    criterion.bench_with_input(BenchmarkId::new(name, partition.len()), partition, |bencher, partition| {
        bencher.iter(|| next.next().map(|query| black_box(partition.search(query, K))));
    });
}

/// Nanoseconds of a search.
fn time(partition: &Partition, queries: &[Vec<f32>]) -> f64 {
    let begun = Instant::now();
    for query in queries {
        black_box(partition.search(query, K));
    }
    per(begun.elapsed(), queries.len())
}

fn per(whole: Duration, count: usize) -> f64 {
    whole.as_nanos() as f64 / count as f64
}

/// Memory of this process that is in use, where the system tells (Linux); otherwise 0.
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4_096
}
