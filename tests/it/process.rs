//! How long the real program takes to start and how much memory it needs. Measured by hand, on an optimised build:
//!
//! ```text
//! cargo build --release
//! REMORA_BIN=target/release/remora cargo test --test it process:: -- --ignored --nocapture
//! ```

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use remora::clock::Clock;
use remora::config::{Config, Migrate, Overrides};
use remora::embed::Embedder;
use remora::ids::{EntryId, KeyId, PointId, TenantId};
use remora::store::{Entry, EntryWrite, Point, SqliteStore};
use serde_json::json;

use crate::child::{Home, resident};

const ENTRIES: usize = 100_000;
const DIMENSIONS: usize = 384;

/// The optimised program, if `REMORA_BIN` names one.
fn home(config: &str) -> Home {
    let home = Home::nowhere().with(config);
    match std::env::var_os("REMORA_BIN") {
        Some(program) => home.program(std::fs::canonicalize(PathBuf::from(program)).unwrap()),
        None => home,
    }
}

/// A database of [`ENTRIES`] answers over so many partitions.
async fn fill(home: &Home, partitions: usize) {
    let store = SqliteStore::open(&home.database(), Migrate::Auto).await.unwrap();
    let entries = store.stores().entries;
    let config = Config::load(None, std::iter::empty(), &Overrides::default()).unwrap_or_else(|p| panic!("{p}"));
    let space = Embedder::new(&config.embedding).unwrap().space().to_string();
    let now = Clock::system().now_ms();
    let mut random = fastrand::Rng::with_seed(7);
    let answer = "A remora holds on to a larger fish with the disc on its head and is carried along. ".repeat(6);
    for batch in 0..ENTRIES / 1_000 {
        let writes: Vec<EntryWrite> = (0..1_000)
            .map(|n| {
                let nth = batch * 1_000 + n;
                one(nth, now, nth % partitions, &space, &answer, &mut random)
            })
            .collect();
        entries.apply(&writes).await.unwrap();
    }
    store.close().await;
}

fn one(nth: usize, now: u64, partition: usize, space: &str, answer: &str, random: &mut fastrand::Rng) -> EntryWrite {
    let made = now - (ENTRIES - nth) as u64;
    let mut vector: Vec<f32> = (0..DIMENSIONS).map(|_| random.f32() - 0.5).collect();
    let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    vector.iter_mut().for_each(|x| *x /= norm);
    let digest = |kind: &str, n: usize| *blake3_of(&format!("{kind} {n}")).as_bytes();
    let tenant = TenantId::new(format!("tenant-{}", partition % 100));
    let writer = KeyId::new("key");
    let body = json!({
        "id": "x", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini",
        "choices": [{ "index": 0, "finish_reason": "stop", "message": { "role": "assistant", "content": answer } }],
        "usage": { "prompt_tokens": 20, "completion_tokens": 120, "total_tokens": 140 },
    });
    let entry = Entry {
        id: EntryId::at(made),
        tenant: tenant.clone(),
        partition: digest("partition", partition),
        namespace: String::new(),
        dialect: "chat".into(),
        model: "gpt-4o-mini".to_owned(),
        body: Bytes::from(body.to_string()),
        finish: "stop".into(),
        completion_tokens: Some(120),
        token_limit: None,
        writer: writer.clone(),
        tags: Vec::new(),
        created_at: made,
        expires_at: now + 86_400_000,
    };
    let point = Point {
        id: PointId::at(made),
        entry: entry.id,
        tenant,
        partition: entry.partition,
        fingerprint: digest("fingerprint", nth),
        normalised: Some(digest("normalised", nth)),
        prompt: Some(format!("How long does a delivery of order number {nth} to the north of the country take?")),
        space: Some(space.to_owned()),
        vector: Some(vector),
        contradicts: 0,
        writer,
        created_at: made,
    };
    EntryWrite::Put { entry: Arc::new(entry), points: vec![point] }
}

fn blake3_of(text: &str) -> blake3::Hash {
    blake3::hash(text.as_bytes())
}

/// Starts it, prints how long it took until `/readyz` said yes and what it needs, and what the log says about it.
async fn measure(what: &str, home: &Home, entries: usize) {
    for round in 0..3 {
        let began = Instant::now();
        let running = home.start().await;
        let ready = began.elapsed();
        let memory = resident(running.child.pid()) >> 20;
        let stats = running.told("/admin/v1/cache/stats").await;
        let loaded = stats["entries"].as_u64().unwrap();
        println!(
            "{what}, start {round}: ready after {ready:.2?}, {memory} MiB resident, {loaded} of {entries} entries"
        );
        if round == 2 && entries > 0 {
            println!("    index {}", stats["index"]);
            tokio::time::sleep(Duration::from_secs(60)).await;
            assert_eq!(running.admin(Method::GET, "/readyz", None).await.status, 200);
            println!("    {} MiB resident a minute later", resident(running.child.pid()) >> 20);
            println!("    index {}", running.told("/admin/v1/cache/stats").await["index"]);
        }
        let log = running.stop().await;
        for line in log.lines().filter(|line| ["loaded", "ready", "WARN", "ERROR"].iter().any(|w| line.contains(w))) {
            println!("    {line}");
        }
        // Some may go: the cap is as many, and is held in parts.
        assert!(loaded >= entries as u64 * 98 / 100);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures; run by hand"]
async fn start_up_and_memory_with_no_entries_and_with_a_hundred_thousand() {
    measure("no model, empty", &home("[cache]\nmode = \"exact\""), 0).await;
    measure("empty", &home(""), 0).await;
    for partitions in [1_000, 1] {
        let home = home("");
        fill(&home, partitions).await;
        let size = std::fs::metadata(home.database()).unwrap().len() >> 20;
        measure(&format!("{ENTRIES} entries in {partitions} partitions ({size} MiB)"), &home, ENTRIES).await;
    }
}
