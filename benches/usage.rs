//! Reports over ten million ledger rows of thirty days in PostgreSQL: by tenant, key, user, model, tag, route, hour and day.
//!
//! `eval "$(scripts/services.sh start)"; cargo bench --bench usage`. Needs DATABASE_URL; a database of its own is made there and
//! dropped at the end, and takes about 8 GB meanwhile. The server makes the rows; the sums over them are made as at and after the
//! first start behind the step up. `USAGE_ROWS` changes how many rows, `USAGE_REPEATS` how often each report is asked for.
//!
//! Each report is timed through the trait, as the admin API asks for it: once after the sums were brought together, and once with
//! what 5,000 rows leave beside them. What is printed are the median and the 99th percentile.
#![allow(missing_docs, reason = "a benchmark")]

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use remora::config::{Migrate, StoreUrl};
use remora::ids::RequestId;
use remora::store::{Dimension, LedgerRow, LedgerStore, PostgresStore, Slot, UsageAsk, UsageStore};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, query_scalar, raw_sql};

type Fault = Box<dyn Error>;

const DAY: u64 = 86_400_000;
/// Midnight before the first row.
const BEGIN: u64 = 20_000 * DAY;
const DAYS: u64 = 30;

/// 40 tenants of different size with 3 keys, 6 models, 50 users and 2 tags each, on 2 routes; a third of the rows are hits. Ids lead
/// with the time, as in life. No row says who has summed it, so the next start does.
const ROWS: &str = "INSERT INTO requests (id, started_at, tenant, key, \"user\", tags, route, dialect, model_asked, stream, outcome, tier, \
     status, tokens_input, tokens_cache_read, tokens_cache_write, tokens_output, tokens_reasoning, tokens_source, latency_us, \
     overhead_us, cost_nano_usd, saved_nano_usd, saved_gross_nano_usd, embedding_nano_usd, price_version) \
     SELECT decode(lpad(to_hex(at), 12, '0') || lpad(to_hex(n), 20, '0'), 'hex'), at, 'tenant' || t, 'tenant' || t || '/key' || n % 3, \
     'user' || (n / 7) % 50, '[[\"team\",\"team' || (n / 11) % 8 || '\"],[\"env\",\"' || CASE n % 2 WHEN 0 THEN 'prod' ELSE 'test' END || '\"]]', \
     CASE WHEN n % 10 = 0 THEN 'POST /v1/embeddings' ELSE 'POST /v1/chat/completions' END, 'chat', 'model' || (n / 5) % 6, true, \
     CASE WHEN n % 3 = 0 THEN 'hit' ELSE 'miss' END, CASE WHEN n % 3 = 0 THEN 'exact' END, 200, 400 + n % 900, n % 50, 0, 200, 0, \
     CASE WHEN n % 3 = 0 THEN 'replayed' ELSE 'billed' END, 900000, 300, CASE WHEN n % 3 = 0 THEN 0 ELSE 1000000 + n % 977 END, \
     CASE WHEN n % 3 = 0 THEN 1000000 ELSE 0 END, CASE WHEN n % 3 = 0 THEN 1000000 ELSE 0 END, 0, 'bench' \
     FROM (SELECT n, floor(sqrt((n * 7919) % 1600))::bigint AS t, FROM_MS + n * SPAN / COUNT AS at FROM generate_series(FIRST::bigint, LAST::bigint) AS n) AS made";

fn main() -> Result<(), Fault> {
    // Without it a test runner has started this together with the tests.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let rows = number("USAGE_ROWS", 10_000_000)?;
    let repeats = number("USAGE_REPEATS", 20)?;
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(async {
        let place = Place::new().await?;
        let done = run(&place, rows, repeats).await;
        place.drop().await?;
        done
    })
}

fn number(name: &str, otherwise: u64) -> Result<u64, Fault> {
    Ok(std::env::var(name).map_or(Ok(otherwise), |text| text.parse())?)
}

/// A database of its own.
struct Place {
    server: PgConnectOptions,
    name: String,
    url: StoreUrl,
}

impl Place {
    async fn new() -> Result<Self, Fault> {
        let server = std::env::var("DATABASE_URL")
            .map_err(|_| "DATABASE_URL is not set: run `eval \"$(scripts/services.sh start)\"` first")?;
        let name = format!("remora_bench_{:016x}", fastrand::u64(..));
        let base = server.rsplit_once('/').ok_or("DATABASE_URL without a database")?.0;
        let url = format!("{base}/{name}").parse()?;
        let this = Self { server: server.parse()?, name, url };
        this.sql(&this.server, &format!("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'", this.name)).await?;
        Ok(this)
    }

    async fn sql(&self, options: &PgConnectOptions, text: &str) -> Result<(), Fault> {
        let mut connection = options.connect().await?;
        raw_sql(AssertSqlSafe(text)).execute(&mut connection).await?;
        Ok(connection.close().await?)
    }

    async fn run(&self, text: &str) -> Result<(), Fault> {
        self.sql(&self.server.clone().database(&self.name), text).await
    }

    async fn count(&self, text: &'static str) -> Result<i64, Fault> {
        let mut connection = self.server.clone().database(&self.name).connect().await?;
        Ok(query_scalar(text).fetch_one(&mut connection).await?)
    }

    async fn open(&self) -> Result<Arc<PostgresStore>, Fault> {
        Ok(PostgresStore::open(&self.url, Migrate::Auto).await?)
    }

    async fn drop(&self) -> Result<(), Fault> {
        self.sql(&self.server, &format!("DROP DATABASE {} WITH (FORCE)", self.name)).await
    }
}

async fn run(place: &Place, rows: u64, repeats: u64) -> Result<(), Fault> {
    place.open().await?.close().await;
    place
        .run("CREATE TABLE requests_bench PARTITION OF requests FOR VALUES FROM (1727999999999) TO (1731000000000)")
        .await?;
    let began = Instant::now();
    const CHUNK: u64 = 250_000;
    for first in (0..rows).step_by(usize::try_from(CHUNK)?) {
        let last = (first + CHUNK).min(rows) - 1;
        let sql = ROWS
            .replace("FROM_MS", &BEGIN.to_string())
            .replace("SPAN", &(DAYS * DAY).to_string())
            .replace("COUNT", &rows.to_string())
            .replace("FIRST", &first.to_string())
            .replace("LAST", &last.to_string());
        place.run(&sql).await?;
    }
    println!("{rows} rows made in {:.0} s", began.elapsed().as_secs_f64());
    let began = Instant::now();
    let store = place.open().await?;
    // A start does a part; the sweep of a running program does the rest in the same way.
    while store.fold().await? > 0 {}
    let took = began.elapsed().as_secs_f64();
    println!("summed after the first start in {took:.0} s, {:.0} rows/s", rows as f64 / took);
    // Statements sent together are one transaction, in which there is no VACUUM.
    place.run("VACUUM ANALYZE usage_sums").await?;
    place.run("ANALYZE usage_deltas").await?;
    let kinds = "SELECT count(*) FROM usage_sums";
    println!("{} sums", place.count(kinds).await?);
    println!("{} MB of sums", place.count("SELECT pg_total_relation_size('usage_sums') >> 20").await?);
    reports(&store, "all folded", rows, repeats).await?;
    let mut fresh = store.page(None, 5_000).await?;
    for row in &mut fresh {
        *row = LedgerRow { request: RequestId::at(BEGIN + DAYS * DAY), ..row.clone() };
    }
    store.append(&fresh).await?;
    reports(&store, "with deltas of 5,000 rows", rows + fresh.len() as u64, repeats).await?;
    store.close().await;
    Ok(())
}

async fn reports(store: &PostgresStore, state: &str, rows: u64, repeats: u64) -> Result<(), Fault> {
    use Dimension::{Key, Model, Route, Tag, Tenant, User};
    let all = UsageAsk { since: BEGIN, until: BEGIN + DAYS * DAY, ..UsageAsk::default() };
    let of_one = [(Tenant, "tenant30".to_owned())].into();
    let asks = [
        ("tenant", UsageAsk { by: vec![Tenant], ..all.clone() }),
        ("key", UsageAsk { by: vec![Tenant, Key], ..all.clone() }),
        ("user", UsageAsk { by: vec![User], ..all.clone() }),
        ("user, 20 dearest", UsageAsk { by: vec![Tenant, User], limit: 20, ..all.clone() }),
        ("model", UsageAsk { by: vec![Model], ..all.clone() }),
        ("tag", UsageAsk { by: vec![Tag], tag_name: Some("team".to_owned()), ..all.clone() }),
        ("route", UsageAsk { by: vec![Route], ..all.clone() }),
        ("hour", UsageAsk { slot: Some(Slot::Hour), ..all.clone() }),
        ("day", UsageAsk { slot: Some(Slot::Day), ..all.clone() }),
        ("user of one tenant", UsageAsk { by: vec![User], only: of_one, ..all.clone() }),
    ];
    println!("\n{state:<28} {:>7} {:>10} {:>10}", "groups", "median", "p99");
    for (name, ask) in asks {
        let mut took = Vec::new();
        let mut groups = 0;
        for _ in 0..repeats.max(1) {
            let began = Instant::now();
            let told = store.usage(&ask).await?;
            took.push(began.elapsed());
            groups = told.len();
            let summed: u64 = told.iter().map(|row| row.sums.requests).sum();
            if ask.limit == 0 && ask.only.is_empty() && summed != rows {
                return Err(format!("the report by {name} counts {summed} of {rows} rows").into());
            }
        }
        took.sort();
        let at = |share: usize| took.get((took.len() - 1) * share / 100).map_or(0.0, Duration::as_secs_f64) * 1e3;
        println!(
            "by {name:<25} {groups:>7} {:>7.1} ms {:>7.1} ms",
            at(50),
            at(99).max(took.last().map_or(0.0, Duration::as_secs_f64) * 1e3)
        );
    }
    Ok(())
}
