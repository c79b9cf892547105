//! `remora copy` from SQLite to PostgreSQL: time, rate of each table, and peak memory of the copying process.
//!
//! `eval "$(scripts/services.sh start)"; cargo bench --bench copy`. Needs DATABASE_URL; a database of its own is made there
//! and dropped. `COPY_ENTRIES` (200000) and `COPY_REQUESTS` (1000000) set the sizes, `TMPDIR` the disk of the source.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::indexing_slicing,
    reason = "a benchmark may stop at the first fault"
)]

use std::borrow::Cow;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use remora::config::Migrate;
use remora::ids::{EntryId, KeyId, PointId, RequestId, TenantId};
use remora::store::{Entry, EntryWrite, LedgerRow, Point, SqliteStore, Tokens};
use serde_json::Value;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, raw_sql};

const DIMENSIONS: usize = 384;
const START_MS: u64 = 1_700_000_000_000;
/// Rows of one transaction while the source is made.
const BATCH: u64 = 1_000;

fn size(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}: a number")))
}

fn put(number: u64, random: &mut fastrand::Rng) -> EntryWrite {
    let (tenant, writer) = (TenantId::new("acme"), KeyId::new("acme/search"));
    let id = EntryId::at(START_MS + number);
    let entry = Entry {
        id,
        tenant: tenant.clone(),
        partition: [7; 32],
        namespace: String::new(),
        dialect: Cow::Borrowed("chat"),
        model: "gpt-4o-mini".into(),
        body: Bytes::from((0..600).map(|_| random.alphanumeric() as u8).collect::<Vec<_>>()),
        finish: Cow::Borrowed("stop"),
        completion_tokens: Some(230),
        token_limit: None,
        writer: writer.clone(),
        tags: Vec::new(),
        created_at: START_MS + number,
        expires_at: u64::MAX >> 1,
    };
    let raw: Vec<f32> = (0..DIMENSIONS).map(|_| random.f32() - 0.5).collect();
    let norm = raw.iter().map(|x| x * x).sum::<f32>().sqrt();
    let point = Point {
        id: PointId::at(START_MS + number),
        entry: id,
        tenant,
        partition: [7; 32],
        fingerprint: *blake3::hash(&number.to_le_bytes()).as_bytes(),
        normalised: Some(*blake3::hash(&(number + 1).to_be_bytes()).as_bytes()),
        prompt: Some(format!("How do I reset the password of account number {number}?")),
        space: Some("minilm@1/384".into()),
        vector: Some(raw.iter().map(|x| x / norm).collect()),
        contradicts: 0,
        writer,
        created_at: START_MS + number,
    };
    EntryWrite::Put { entry: entry.into(), points: vec![point] }
}

fn row(number: u64) -> LedgerRow {
    // Three months of requests.
    let at = START_MS + number * 7_776;
    LedgerRow {
        request: RequestId::at(at),
        started_at: at,
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
        entry: Some(EntryId::at(START_MS)),
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

async fn fill(path: &std::path::Path, entries: u64, requests: u64) {
    let store = SqliteStore::open(path, Migrate::Auto).await.unwrap();
    let stores = store.stores();
    let mut random = fastrand::Rng::with_seed(1);
    for from in (0..entries).step_by(BATCH as usize) {
        let writes: Vec<_> = (from..entries.min(from + BATCH)).map(|number| put(number, &mut random)).collect();
        stores.entries.apply(&writes).await.unwrap();
    }
    for from in (0..requests).step_by(BATCH as usize) {
        let rows: Vec<_> = (from..requests.min(from + BATCH)).map(row).collect();
        stores.ledger.append(&rows).await.unwrap();
    }
    store.close().await;
    let mut key = path.as_os_str().to_owned();
    key.push(".key");
    std::fs::write(key, [7; 32]).unwrap();
}

/// Peak resident memory of a process so far, bytes; `None` once it has ended.
fn peak(child: &Child) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Runs `remora copy` to its end: what it printed, how long it took, and its peak memory.
fn copy(arguments: &[&str]) -> (Value, Duration, u64) {
    let began = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_remora"))
        .args(["copy", "--json"])
        .args(arguments)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut most = 0;
    while child.try_wait().unwrap().is_none() {
        most = most.max(peak(&child).unwrap_or(0));
        std::thread::sleep(Duration::from_millis(20));
    }
    let took = began.elapsed();
    let output = child.wait_with_output().unwrap();
    (serde_json::from_slice(&output.stdout).expect("the copy failed"), took, most)
}

async fn run(server: &PgConnectOptions, sql: String) {
    let mut connection = server.connect().await.unwrap();
    raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

fn measure(entries: u64, requests: u64, source: &str, to: &str) {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!("pass       seconds   rows/s   peak MiB   added entries / requests");
    for (name, more) in [("first", &[][..]), ("catch-up", &["--since", "1h"][..]), ("full again", &[][..])] {
        let (report, took, most) = copy(&[&["--from", source, "--to", to], more].concat());
        let added = |table: &str| report["tables"][table]["added"].as_u64().unwrap();
        let read: u64 =
            report["tables"].as_object().unwrap().values().map(|tally| tally["read"].as_u64().unwrap()).sum();
        println!(
            "{name:10} {:7.1} {:8.0} {:10.1}   {} / {}",
            took.as_secs_f64(),
            read as f64 / took.as_secs_f64(),
            mib(most),
            added("entries"),
            added("requests"),
        );
        if name == "first" {
            for table in ["entries", "requests"] {
                let seconds = report["tables"][table]["took_ms"].as_f64().unwrap() / 1_000.0;
                println!("  {table:8} {seconds:7.1} {:8.0}", added(table) as f64 / seconds);
            }
            assert_eq!((added("entries"), added("requests")), (entries, requests));
        }
    }
    let (report, took, most) = copy(&["--from", source, "--to", to, "--dry-run", "--verify"]);
    assert_eq!(report["verify"]["equal"], true, "{report:#}");
    println!("verify     {:7.1}            {:8.1}   equal", took.as_secs_f64(), mib(most));
}

fn main() {
    // `cargo test --benches` only looks whether it runs.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let server = std::env::var("DATABASE_URL").expect("run `eval \"$(scripts/services.sh start)\"` first");
    let (entries, requests) = (size("COPY_ENTRIES", 200_000), size("COPY_REQUESTS", 1_000_000));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let name = format!("remora_bench_{:016x}", fastrand::u64(..));
    let options: PgConnectOptions = server.parse().unwrap();
    runtime.block_on(run(&options, format!("CREATE DATABASE {name}")));
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("remora.db");
    let began = Instant::now();
    runtime.block_on(fill(&path, entries, requests));
    println!(
        "source: {entries} entries, {requests} ledger rows, {:.0} MiB, made in {:.0} s",
        std::fs::metadata(&path).unwrap().len() as f64 / f64::from(1 << 20),
        began.elapsed().as_secs_f64()
    );
    let to = format!("{}/{name}", server.rsplit_once('/').unwrap().0);
    measure(entries, requests, &format!("sqlite://{}", path.display()), &to);
    runtime.block_on(run(&options, format!("DROP DATABASE {name} WITH (FORCE)")));
}
