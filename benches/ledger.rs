//! Storage off the request path: ledger rows and entries written in batches, and the scan at start-up.
//!
//! `cargo bench --bench ledger`; the scan alone: `cargo bench --bench ledger -- scan`. Files go to the temporary
//! directory; point `TMPDIR` at the disk to be measured.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark may stop at the first fault")]

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use remora::config::Migrate;
use remora::ids::{EntryId, KeyId, PointId, RequestId, TenantId};
use remora::store::{Entry, EntryWrite, LedgerRow, Point, SqliteStore, Stores, Tokens};
use tokio::runtime::Runtime;

const DIMENSIONS: usize = 384;
const SCANNED: u64 = 100_000;
const SCAN_PAGE: u32 = 1_000;

/// Ids come in the order of time, as in life; out of order each would land on another page.
fn next() -> u64 {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    NUMBER.fetch_add(1, Ordering::Relaxed)
}

fn row(number: u64) -> LedgerRow {
    LedgerRow {
        request: RequestId::at(1_700_000_000_000 + number),
        started_at: 1_700_000_000_000 + number,
        tenant: Some(TenantId::new("acme")),
        key: Some(KeyId::new("acme/search")),
        user: None,
        tags: vec![("team".into(), "search".into())],
        route: "POST /v1/chat/completions".into(),
        dialect: Cow::Borrowed("chat"),
        model_asked: Some("gpt-4o-mini".into()),
        model_answered: Some("gpt-4o-mini-2024-07-18".into()),
        stream: true,
        outcome: Cow::Borrowed("hit"),
        tier: Some(Cow::Borrowed("semantic")),
        reason: None,
        similarity: Some(0.93),
        entry: Some(EntryId::at(1_700_000_000_000)),
        status: 200,
        upstream: Some("openai".into()),
        upstream_status: Some(200),
        tokens: Tokens { input: 412, output: 230, ..Tokens::default() },
        tokens_source: Some(Cow::Borrowed("replayed")),
        latency_us: 1_840,
        ttft_us: Some(1_790),
        overhead_us: 1_840,
        cost_nano_usd: None,
        embedding_nano_usd: None,
        saved_gross_nano_usd: None,
        saved_nano_usd: None,
        price_version: None,
        service: None,
        attempts: Vec::new(),
    }
}

fn put(number: u64) -> EntryWrite {
    let (tenant, writer) = (TenantId::new("acme"), KeyId::new("acme/search"));
    let id = EntryId::at(1_700_000_000_000 + number);
    let entry = Entry {
        id,
        tenant: tenant.clone(),
        partition: [7; 32],
        namespace: String::new(),
        dialect: Cow::Borrowed("chat"),
        model: "gpt-4o-mini".into(),
        body: Bytes::from(vec![b'x'; 1_500]),
        finish: Cow::Borrowed("stop"),
        completion_tokens: Some(230),
        token_limit: None,
        writer: writer.clone(),
        tags: Vec::new(),
        created_at: number,
        expires_at: u64::MAX >> 1,
    };
    let point = Point {
        id: PointId::at(1_700_000_000_000 + number),
        entry: id,
        tenant,
        partition: [7; 32],
        fingerprint: [8; 32],
        normalised: Some([9; 32]),
        prompt: Some(format!("How do I change the delivery address of order number {number} before it ships?")),
        space: Some("all-MiniLM-L6-v2-int8@1/384".into()),
        vector: Some(vec![0.05; DIMENSIONS]),
        contradicts: 0,
        writer,
        created_at: number,
    };
    EntryWrite::Put { entry: Arc::new(entry), points: vec![point] }
}

fn open(runtime: &Runtime) -> (tempfile::TempDir, Stores) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("remora.db");
    let store = runtime.block_on(SqliteStore::open(&path, Migrate::Auto)).unwrap();
    (directory, store.stores())
}

fn appends(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let (_directory, stores) = open(&runtime);
    let mut group = criterion.benchmark_group("ledger_append");
    group.measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_secs(1)).sample_size(20);
    for batch in [1u64, 32, 512] {
        group.throughput(Throughput::Elements(batch));
        group.bench_function(BenchmarkId::from_parameter(batch), |bencher| {
            bencher.iter_batched(
                || (0..batch).map(|_| row(next())).collect::<Vec<_>>(),
                |rows| runtime.block_on(stores.ledger.append(&rows)).unwrap(),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

fn puts(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let (_directory, stores) = open(&runtime);
    let mut group = criterion.benchmark_group("entry_put");
    group.measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_secs(1)).sample_size(20);
    for batch in [1u64, 32, 512] {
        group.throughput(Throughput::Elements(batch));
        group.bench_function(BenchmarkId::from_parameter(batch), |bencher| {
            bencher.iter_batched(
                || (0..batch).map(|_| put(next())).collect::<Vec<_>>(),
                |writes| runtime.block_on(stores.entries.apply(&writes)).unwrap(),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

/// Opens the file and reads all entries with their points, as a start does.
async fn start(path: &std::path::Path) -> u64 {
    let store = SqliteStore::open(path, Migrate::Manual).await.unwrap();
    let stores = store.stores();
    let (mut seen, mut after) = (0, None);
    loop {
        let page = stores.entries.scan(0, after.as_ref(), SCAN_PAGE).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.meta.cursor());
        seen += page.iter().map(|loaded| loaded.points.len() as u64).sum::<u64>();
    }
    store.close().await;
    seen
}

fn scan(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let (directory, stores) = open(&runtime);
    let mut group = criterion.benchmark_group("open_and_scan");
    group.measurement_time(Duration::from_secs(10)).warm_up_time(Duration::from_secs(1)).sample_size(10);
    group.throughput(Throughput::Elements(SCANNED));
    let path = directory.path().join("remora.db");
    let mut filled = false;
    group.bench_function(BenchmarkId::from_parameter(SCANNED), |bencher| {
        // Filled here, so that running the other benchmarks alone does not pay for it.
        if !std::mem::replace(&mut filled, true) {
            for first in (0..SCANNED).step_by(1_000) {
                let writes: Vec<_> = (first..first + 1_000).map(put).collect();
                runtime.block_on(stores.entries.apply(&writes)).unwrap();
            }
        }
        bencher.iter_custom(|times| {
            let begin = Instant::now();
            for _ in 0..times {
                assert_eq!(runtime.block_on(start(&path)), SCANNED);
            }
            begin.elapsed()
        });
    });
    group.finish();
}

criterion_group!(benches, appends, puts, scan);
criterion_main!(benches);
