//! REM at size: LOOKUP, FUZZY, SEARCH, TRAVERSE over 200,000 names, 50,000 vectors of 384 numbers and 1,000,000 edges, on SQLite and,
//! if DATABASE_URL is set, on PostgreSQL in a database of its own that is dropped at the end.
//!
//! `eval "$(scripts/services.sh start)"; cargo bench --bench rem`. `REM_NAMES`, `REM_VECTORS`, `REM_EDGES` (for each row) and
//! `REM_REPEATS` change the sizes, `REM_STORES` which databases (`sqlite`, `postgres` or both).
//!
//! Each query goes as text through the grammar and `Rem::run`, as the sidecar does it; the text's vector is made beforehand. Printed are
//! the median and the 99th percentile. SEARCH asks for one of ten categories; what it finds is compared with all vectors of that
//! category, and each answer must have exactly min(limit, matching) rows.
#![allow(missing_docs, reason = "a benchmark")]

use std::error::Error;
use std::time::{Duration, Instant};

use remora::clock::Clock;
use remora::config::Migrate;
use remora::embed::Embedder;
use remora::ids::{KeyId, RemId, TenantId};
use remora::rem::{self, Answer, Rem, RemParts};
use remora::store::Database;
use remora::store::rem::{Owner, RemEdge, RemRow, RemTable, RemVector, RemWrite, Scope, SqlCaps, cosine};
use serde_json::Map;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, raw_sql};

type Fault = Box<dyn Error>;

const DIMENSIONS: usize = 384;
const CLUSTERS: u64 = 200;
const CATEGORIES: u64 = 10;
const TENANT: &str = "bench";

struct Sizes {
    names: u64,
    vectors: u64,
    edges: u64,
    repeats: u64,
}

fn main() -> Result<(), Fault> {
    // Without it a test runner has started this together with the tests.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let sizes = Sizes {
        names: number("REM_NAMES", 200_000)?,
        vectors: number("REM_VECTORS", 50_000)?,
        edges: number("REM_EDGES", 5)?,
        repeats: number("REM_REPEATS", 300)?,
    };
    let stores = std::env::var("REM_STORES").unwrap_or_else(|_| "sqlite,postgres".to_owned());
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(async {
        if stores.contains("sqlite") {
            let dir = tempfile::tempdir()?;
            let url = format!("sqlite://{}", dir.path().join("bench.db").display());
            run("SQLite", &url, &sizes).await?;
        }
        match std::env::var("DATABASE_URL") {
            Ok(server) if stores.contains("postgres") => {
                let name = format!("remora_bench_{:016x}", fastrand::u64(..));
                let (head, tail) =
                    server.split_once('?').map_or((&*server, String::new()), |(head, tail)| (head, format!("?{tail}")));
                let base = head.rsplit_once('/').ok_or("DATABASE_URL without a database")?.0;
                sql(&server, &format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'")).await?;
                let done = run("PostgreSQL", &format!("{base}/{name}{tail}"), &sizes).await;
                sql(&server, &format!("DROP DATABASE {name} WITH (FORCE)")).await?;
                done
            }
            _ => Ok(()),
        }
    })
}

fn number(name: &str, otherwise: u64) -> Result<u64, Fault> {
    Ok(std::env::var(name).map_or(Ok(otherwise), |text| text.parse())?)
}

async fn sql(server: &str, text: &str) -> Result<(), Fault> {
    let mut connection = server.parse::<PgConnectOptions>()?.connect().await?;
    raw_sql(AssertSqlSafe(text)).execute(&mut connection).await?;
    Ok(connection.close().await?)
}

fn id(number: u64) -> RemId {
    RemId::from_bytes(u128::from(number).to_be_bytes())
}

/// Three made-up words and a number: names share many trigrams, as names in life do.
fn name(number: u64) -> String {
    const PARTS: [&str; 24] = [
        "ba", "cor", "den", "el", "fri", "gan", "hol", "in", "jor", "kel", "lam", "mor", "nes", "ol", "pra", "quin",
        "ros", "sta", "tur", "ul", "ver", "wal", "yor", "zen",
    ];
    let mut random = fastrand::Rng::with_seed(number);
    let mut word = || -> String {
        (0..random.usize(2..4)).filter_map(|_| PARTS.get(random.usize(..PARTS.len()))).copied().collect()
    };
    format!("{} {} {}", word(), word(), word())
}

/// A vector near the middle of a cluster.
fn vector(seed: u64, cluster: u64) -> Vec<f32> {
    let (mut middle, mut noise) = (fastrand::Rng::with_seed(0x5eed ^ cluster), fastrand::Rng::with_seed(seed));
    let mut vector: Vec<f32> = (0..DIMENSIONS).map(|_| (middle.f32() - 0.5) + 1.2 * (noise.f32() - 0.5)).collect();
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    vector.iter_mut().for_each(|x| *x /= length);
    vector
}

/// The text of a search says which vector it has: `question 17`.
fn embedder() -> Embedder {
    Embedder::fixed(DIMENSIONS, |text| {
        let number: u64 = text.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0);
        Ok(vector(1 << 40 | number, number % CLUSTERS))
    })
}

fn row(number: u64, sizes: &Sizes) -> RemRow {
    let table = if number < sizes.vectors { RemTable::Resources } else { RemTable::Entities };
    RemRow {
        id: id(number),
        table,
        owner: if number.is_multiple_of(3) { Owner::Public } else { Owner::Key(KeyId::new("a")) },
        name: name(number),
        text: format!("{} said about {} that {}", name(number + 1), name(number + 2), name(number + 3)),
        label: format!("c{}", number / CLUSTERS % CATEGORIES),
        uri: None,
        tags: Vec::new(),
        data: Map::new(),
        aliases: Vec::new(),
        starts_at: None,
        ends_at: None,
        previous: None,
        part_of: None,
        entry: None,
        writer: None,
        made: false,
        created_at: number,
        updated_at: number,
        deleted_at: None,
    }
}

fn edge(source: &RemRow, target: String, kind: &str, weight: f64) -> RemEdge {
    RemEdge {
        source: source.id,
        source_table: source.table,
        kind: kind.to_owned(),
        target,
        weight,
        properties: Map::new(),
        created_at: 0,
    }
}

fn writes(number: u64, sizes: &Sizes, space: &str) -> RemWrite {
    let row = row(number, sizes);
    let mut random = fastrand::Rng::with_seed(number ^ 0xed6e);
    let to = |place: u64| {
        let kind = match place % 3 {
            0 => "cites",
            1 => "knows",
            _ => "part_of",
        };
        edge(&row, name(random.u64(..sizes.names)), kind, f64::from(random.u8(..)) / 255.0)
    };
    let edges = (0..sizes.edges).map(to).collect();
    let vector = (number < sizes.vectors)
        .then(|| RemVector { space: space.to_owned(), vector: vector(number, number % CLUSTERS) });
    RemWrite::Put { row: Box::new(row), vector, edges: Some(edges) }
}

/// Ten rows, each with an edge to every other.
fn clique(sizes: &Sizes) -> Vec<RemWrite> {
    let member = |number: u64| {
        let row = RemRow { name: format!("clique {number}"), ..row(sizes.names + number, sizes) };
        let others = (0..10).filter(|other| *other != number);
        let edges = others.map(|other| edge(&row, format!("clique {other}"), "knows", 0.5)).collect();
        RemWrite::Put { row: Box::new(row), vector: None, edges: Some(edges) }
    };
    (0..10).map(member).collect()
}

struct Bench {
    rem: Rem,
    scope: Scope,
}

impl Bench {
    async fn ask(&self, text: &str) -> Result<(Answer, Duration), Fault> {
        let began = Instant::now();
        let answer = self.rem.run(&self.scope, &rem::parse(text)?).await?;
        Ok((answer, began.elapsed()))
    }

    /// Times queries and prints the median and the 99th percentile; gives the answers.
    async fn time(&self, what: &str, queries: &[String]) -> Result<Vec<Answer>, Fault> {
        let (mut answers, mut times) = (Vec::new(), Vec::new());
        for text in queries.iter().take(20).chain(queries) {
            let (answer, took) = self.ask(text).await?;
            answers.push(answer);
            times.push(took.as_secs_f64() * 1_000.0);
        }
        // The first ones warm what a running program has warm.
        let mut times = times.split_off(queries.len().min(20));
        let answers = answers.split_off(queries.len().min(20));
        times.sort_by(f64::total_cmp);
        let at = |share: usize| times.get((times.len().max(1) - 1) * share / 100).copied().unwrap_or_default();
        let rows: u64 = answers.iter().map(|answer| answer.count).sum();
        println!(
            "  {what:<34} p50 {:>8.3} ms  p99 {:>8.3} ms  {:.1} rows",
            at(50),
            at(99),
            rows as f64 / answers.len().max(1) as f64
        );
        Ok(answers)
    }
}

async fn run(what: &str, url: &str, sizes: &Sizes) -> Result<(), Fault> {
    let database = Database::open(&url.parse()?, Migrate::Auto).await?;
    let stores = database.stores();
    let (store, sql) = (stores.rem.ok_or("no REM")?, stores.sql.ok_or("no SQL")?);
    let tenant = TenantId::new(TENANT);
    let space = embedder().space().to_string();
    let began = Instant::now();
    for first in (0..sizes.names).step_by(500) {
        let writes: Vec<RemWrite> =
            (first..(first + 500).min(sizes.names)).map(|number| writes(number, sizes, &space)).collect();
        store.rem_apply(&tenant, &writes).await?;
    }
    store.rem_apply(&tenant, &clique(sizes)).await?;
    let took = began.elapsed().as_secs_f64();
    println!(
        "{what}: {} names, {} vectors, {} edges written in {took:.0} s",
        sizes.names,
        sizes.vectors,
        sizes.names * sizes.edges
    );
    if what == "PostgreSQL" {
        // Autovacuum does it in life. An index that is to answer alone needs to know which pages all may see.
        self::sql(url, "VACUUM ANALYZE").await?;
    }
    let parts = RemParts {
        store,
        sql,
        embedder: Some(embedder()),
        caps: SqlCaps { rows: 1_000, bytes: 1 << 20, time: Duration::from_secs(10) },
        deadline: Duration::from_secs(60),
        clock: Clock::system(),
    };
    let bench = Bench { rem: Rem::new(parts), scope: Scope { tenant, key: KeyId::new("a") } };
    queries(&bench, sizes).await?;
    database.close().await;
    Ok(())
}

async fn queries(bench: &Bench, sizes: &Sizes) -> Result<(), Fault> {
    let mut random = fastrand::Rng::with_seed(7);
    let mut draw = |with: &dyn Fn(&mut fastrand::Rng) -> String| -> Vec<String> {
        (0..sizes.repeats).map(|_| with(&mut random)).collect()
    };
    let lookups = draw(&|random| format!("LOOKUP \"{}\"", name(random.u64(..sizes.names)).to_uppercase()));
    let missed = bench.time("LOOKUP", &lookups).await?.iter().filter(|answer| answer.count == 0).count();
    println!("  {missed} of them found nothing");
    let misspelt = draw(&|random| {
        let mut name = name(random.u64(..sizes.names));
        name.remove(random.usize(1..name.len()));
        format!("FUZZY \"{name}\"")
    });
    let answers = bench.time("FUZZY, a letter missing", &misspelt).await?;
    let cut = answers.iter().filter(|answer| answer.truncated).count();
    println!("  {cut} of them not certain to be the best");
    for (limit, mode) in [(10, "vector"), (100, "vector"), (10, "hybrid")] {
        search(bench, sizes, limit, mode).await?;
    }
    let walks = draw(&|random| format!("TRAVERSE \"{}\" DEPTH 3", name(random.u64(..sizes.names))));
    bench.time("TRAVERSE DEPTH 3", &walks).await?;
    let inbound = draw(&|random| format!("TRAVERSE \"{}\" INBOUND DEPTH 2", name(random.u64(..sizes.names))));
    bench.time("TRAVERSE INBOUND DEPTH 2", &inbound).await?;
    let cliques = draw(&|_| "TRAVERSE \"clique 0\" DEPTH 7".to_owned());
    let answers = bench.time("TRAVERSE, clique of 10, DEPTH 7", &cliques).await?;
    if answers.iter().any(|answer| answer.count != 10) {
        return Err("the clique has ten nodes".into());
    }
    Ok(())
}

async fn search(bench: &Bench, sizes: &Sizes, limit: usize, mode: &str) -> Result<(), Fault> {
    let category = |question: u64| question % CATEGORIES;
    let text = |question: u64| {
        format!(
            "SEARCH \"question {question}\" IN resources CATEGORY c{} MODE {mode} LIMIT {limit}",
            category(question)
        )
    };
    let questions: Vec<String> = (0..sizes.repeats).map(text).collect();
    let answers = bench.time(&format!("SEARCH {mode}, LIMIT {limit}, 10 %"), &questions).await?;
    if mode != "vector" {
        return Ok(());
    }
    let (mut right, mut wanted, mut short) = (0_usize, 0_usize, 0_usize);
    for (question, answer) in (0_u64..).zip(&answers) {
        let of = vector(1 << 40 | question, question % CLUSTERS);
        let inside = (0..sizes.vectors).filter(|number| number / CLUSTERS % CATEGORIES == category(question));
        let mut all: Vec<(f64, String)> = inside
            .map(|number| (cosine(&of, &vector(number, number % CLUSTERS)), id(number).to_string()))
            .filter(|(cosine, _)| *cosine >= 0.3)
            .collect();
        all.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        short += usize::from(answer.results.len() != limit.min(all.len()));
        all.truncate(limit);
        wanted += all.len();
        right += all.iter().filter(|(_, id)| answer.results.iter().any(|found| found.id == *id)).count();
        // Making vectors again is slow; a hundred answers tell enough.
        if question >= 99 {
            break;
        }
    }
    println!(
        "  recall {:.4} of {wanted}; {short} answers without exactly min(limit, matching) rows",
        right as f64 / wanted.max(1) as f64
    );
    Ok(())
}
