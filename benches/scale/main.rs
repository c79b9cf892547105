//! Storing, searching and starting at 10,000 to 1,000,000 entries: what grows with the number and what does not.
//!
//! `eval "$(scripts/services.sh start)"; cargo bench --bench scale`. Needs DATABASE_URL; databases of its own are made
//! there and dropped. Each size is measured by itself: filling PostgreSQL and SQLite in batches of 512, searching at every
//! level with recall against the exact search, bytes on disk, starts of the real program with its memory.
//!
//! | variable | what | default |
//! |---|---|---|
//! | `SCALE_ENTRIES` | sizes | 10000,100000 |
//! | `SCALE_GRAPH_MAX` | largest partition whose graph is built here, points | 200000 |
//! | `SCALE_SETTLE` | longest wait for a started program to build its graphs, seconds | 600 |
//! | `SCALE_STARTS` | starts from each store; the fastest counts | 3 |
//! | `SCALE_OUT` | where `scale.csv` and `scale.svg` go; rows of other sizes there stay | the build's folder |
#![allow(
    missing_docs,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::indexing_slicing,
    reason = "a benchmark may stop at the first fault"
)]

#[path = "../load/client.rs"]
#[expect(dead_code, reason = "the load bench uses more of it")]
mod client;
mod data;
#[path = "../load/percentile.rs"]
mod percentile;
mod plot;
#[path = "../load/process.rs"]
#[expect(dead_code, reason = "the load bench uses more of it")]
mod process;
mod report;
mod search;
mod start;
mod stores;
#[path = "../../src/index/testing.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod testing;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use remora::store::{PostgresStore, Search};

use data::Data;
use report::Report;
use start::{Figures, start};
use stores::{Postgres, fill};

/// Whatever ends a run.
pub(crate) type Fault = Box<dyn std::error::Error + Send + Sync>;

const MIB: f64 = 1_048_576.0;
/// Entries stored for the rate with the vector index in place.
const MORE: usize = 5_120;

struct Settings {
    sizes: Vec<usize>,
    graph_max: usize,
    settle: Duration,
    starts: usize,
    out: PathBuf,
}

impl Settings {
    fn read() -> Result<Self, Fault> {
        let text = |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
        let sizes = text("SCALE_ENTRIES", "10000,100000");
        Ok(Self {
            sizes: sizes.split(',').map(|size| size.trim().parse()).collect::<Result<_, _>>()?,
            graph_max: text("SCALE_GRAPH_MAX", "200000").parse()?,
            settle: Duration::from_secs(text("SCALE_SETTLE", "600").parse()?),
            starts: text("SCALE_STARTS", "3").parse::<usize>()?.max(1),
            out: text("SCALE_OUT", env!("CARGO_TARGET_TMPDIR")).into(),
        })
    }
}

fn main() -> Result<(), Fault> {
    // `cargo test --benches` only looks whether it runs.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(run(&Settings::read()?))
}

async fn run(settings: &Settings) -> Result<(), Fault> {
    let mut report = Report::open(settings.out.clone())?;
    for size in &settings.sizes {
        eprintln!(
            "{size}: load of the machine {}",
            std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim()
        );
        let data = Data::new(size + MORE);
        measure(settings, &mut report, &data, *size).await?;
    }
    println!("{}", report.table());
    println!("{}", settings.out.display());
    Ok(())
}

async fn measure(settings: &Settings, report: &mut Report, data: &Data, size: usize) -> Result<(), Fault> {
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let home = place.path();
    let database = Postgres::create().await?;
    let store = database.open().await?;

    store.defer_vector_index();
    let took = fill(&*store, data, 0..size).await?;
    report.put(size, "insert into PostgreSQL without vector index", "entries/s", rate(size, took));
    let began = Instant::now();
    store.build_vector_index().await?;
    report.put(size, "vector index build", "s", began.elapsed().as_secs_f64());
    database.settle().await?;
    for (kind, bytes) in database.disk().await? {
        if kind == "all" {
            report.put(size, "PostgreSQL on disk", "MiB", bytes / MIB);
        }
        report.put(size, &format!("disk of an entry in PostgreSQL: {kind}"), "bytes", bytes / size as f64);
    }
    let file = home.join("scale.db");
    let (took, bytes) = stores::sqlite(&file, data, size).await?;
    report.put(size, "insert into SQLite", "entries/s", rate(size, took));
    report.put(size, "SQLite on disk", "MiB", bytes / MIB);
    report.put(size, "disk of an entry in SQLite", "bytes", bytes / size as f64);

    report.write()?;
    searches(settings, report, data, &store, size).await?;
    report.write()?;
    starts(settings, report, (home, &database.url, &file), size).await?;
    report.write()?;

    let took = fill(&*store, data, size..size + MORE).await?;
    report.put(size, "insert into PostgreSQL with vector index", "entries/s", rate(MORE, took));
    report.write()?;
    store.close().await;
    database.drop().await
}

async fn searches(
    settings: &Settings,
    report: &mut Report,
    data: &Data,
    store: &PostgresStore,
    size: usize,
) -> Result<(), Fault> {
    for (name, number) in [("large", 0), ("second", 1)] {
        let queries = &data.queries;
        let points = data.of(number, size).count();
        report.put(size, &format!("{name}: points"), "", points as f64);
        let exact = search::store("pgvector exact", store, number, queries, Search::Exact).await?;
        let fast = search::better(
            search::store("pgvector fast", store, number, queries, Search::Fast).await?,
            search::store("pgvector fast", store, number, queries, Search::Fast).await?,
        );
        let mut levels = vec![fast];
        let kinds = [("memory flat", usize::MAX), ("memory graph", 1)];
        for (kind, hnsw_from) in kinds.into_iter().filter(|(_, from)| *from > 1 || points <= settings.graph_max) {
            let built = search::build(data, number, size, hnsw_from)?;
            let again = || search::memory(kind, &built, queries);
            levels.insert(0, (0..4).fold(again(), |best, _| search::better(best, again())));
            report.put(size, &format!("{name}: {kind} built at"), "points/s", built.rate);
            report.put(size, &format!("{name}: {kind} index"), "bytes/point", built.bytes);
        }
        for level in levels.iter().chain([&exact]) {
            report.put(size, &format!("{name}: {} p50", level.name), "µs", level.p50);
            report.put(size, &format!("{name}: {} p99", level.name), "µs", level.p99);
        }
        for level in &levels {
            for k in [1, 10] {
                report.put(size, &format!("{name}: {} recall@{k}", level.name), "", level.recall(&exact, k));
            }
        }
    }
    Ok(())
}

async fn starts(
    settings: &Settings,
    report: &mut Report,
    (home, postgres, sqlite): (&Path, &str, &Path),
    size: usize,
) -> Result<(), Fault> {
    let empty = start(home, &format!("sqlite://{}", home.join("empty.db").display()))?.figures.ready;
    let sqlite = format!("sqlite://{}", sqlite.display());
    for (name, url) in [("SQLite", sqlite.as_str()), ("PostgreSQL", postgres)] {
        let mut best: Option<Figures> = None;
        let mut last = None;
        for _ in 0..settings.starts {
            // Gone before the next begins: it holds the file.
            drop(last.take());
            let now = start(home, url)?;
            eprintln!("{size}: start from {name}: {:.2} s", now.figures.seconds);
            best = Some(best.filter(|best| best.seconds <= now.figures.seconds).unwrap_or(now.figures));
            last = Some(now);
        }
        let (Some(best), Some(last)) = (best, last) else { continue };
        report.put(size, &format!("start from {name}"), "s", best.seconds);
        report.put(size, &format!("CPU time of a start from {name}"), "s", best.cpu);
        report.put(size, &format!("resident when ready from {name}"), "MiB", best.ready);
        report.put(size, &format!("peak until ready from {name}"), "MiB", best.peak);
        if name == "SQLite" {
            continue;
        }
        report.put(size, "resident for entries when ready", "MiB", best.ready - empty);
        report.put(size, "memory of an entry when ready", "bytes", (best.ready - empty) * MIB / size as f64);
        if let Some(settled) = last.settle(settings.settle).await? {
            report.put(size, "graphs built after", "s", settled.seconds);
            report.put(size, "memory of an entry with graphs", "bytes", (settled.resident - empty) * MIB / size as f64);
            report.put(size, "remora_index_bytes of an entry", "bytes", settled.index_bytes / size as f64);
        }
    }
    Ok(())
}

fn rate(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}
