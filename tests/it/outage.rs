//! The database and Redis go away under load: what clients see of it is nothing, and nothing is missing afterwards.
//!
//! Each test has servers of its own. REMORA_OUTAGE_SECONDS is how long they are away; 8 by default.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use remora::config::Migrate;
use remora::store;

use crate::chaos::{accounted_for, duration};
use crate::child::{Home, Running, says, until};
use crate::crowd::{Crowd, Oracle, Place, Places, Saw, Seen, TENANTS, Wishes, p99, read_mark, start, wording};
use crate::fleet::Database;
use crate::rig::chat;
use crate::servers::{OwnPostgres, OwnRedis, give_back, take_all_connections};

const CLIENTS: usize = 4;
/// Prompts that are asked again and again.
const WIDTH: usize = 30;

fn outage() -> Duration {
    duration("REMORA_OUTAGE_SECONDS", 8)
}

/// Replicas under load, and when what happened.
struct Loaded {
    oracle: Oracle,
    homes: Vec<Home>,
    running: Vec<Running>,
    crowd: Crowd,
    began: Instant,
}

impl Loaded {
    /// With the load going for a while.
    async fn start(replicas: usize, store: &str, redis: Option<&str>) -> Self {
        let oracle = Oracle::start().await;
        let homes: Vec<_> = (0..replicas).map(|_| oracle.home(redis)).collect();
        let mut running = Vec::new();
        for home in &homes {
            running.push(start(home, store).await);
        }
        let places: Places = Arc::new(Mutex::new(running.iter().map(Place::of).collect()));
        let crowd = Crowd::start(CLIENTS, &places, &Wishes::new(WIDTH));
        // Until the prompts are known and there is something to compare with.
        let warm = Self { oracle, homes, running, crowd, began: Instant::now() };
        warm.more(600).await;
        let began = Instant::now();
        warm.more(400).await;
        Self { began, ..warm }
    }

    /// Waits for so many more answers.
    async fn more(&self, answers: usize) {
        let before = self.crowd.count();
        until("more answers", || async { (self.crowd.count() >= before + answers).then_some(()) }).await;
    }

    /// A gauge or counter of a replica, all its labels taken together.
    async fn metric(&self, replica: usize, name: &str) -> f64 {
        let text = self.running[replica].admin(Method::GET, "/metrics", None).await.text();
        let lines =
            text.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])));
        lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum()
    }

    async fn all_ready(&self) {
        for replica in &self.running {
            let ready = replica.admin(Method::GET, "/readyz", None).await;
            assert_eq!(ready.status, StatusCode::OK, "{}", ready.text());
        }
    }

    /// Ends the load and waits until all that is queued has reached the database.
    async fn end(self) -> (Saw, Vec<Running>, Vec<Home>, Oracle) {
        let Self { oracle, homes, running, crowd, .. } = self;
        (crowd.end().await, running, homes, oracle)
    }
}

/// The database has a row for each answer, and the entries for what was asked meanwhile.
async fn is_whole(database: &Database, saw: &Saw, meanwhile: &[&Seen]) {
    let opened = store::Database::open(&database.url().parse().unwrap(), Migrate::Manual).await.unwrap();
    let stores = opened.stores();
    let (mut rows, mut last) = (HashSet::new(), None);
    loop {
        let page = stores.ledger.page(last, 5_000).await.unwrap();
        let Some(row) = page.last() else { break };
        last = Some(row.request);
        rows.extend(page.iter().map(|row| row.request.to_string()));
    }
    let (mut known, mut after) = (HashSet::new(), None);
    loop {
        let page = stores.entries.export(after.as_ref(), 1_000).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(store::Cursor { tenant: last.entry.tenant.clone(), entry: last.entry.id });
        known.extend(page.iter().map(|entry| {
            let (key, prompt, _) = read_mark(&String::from_utf8_lossy(&entry.entry.body)).unwrap();
            (key, prompt)
        }));
    }
    opened.close().await;
    accounted_for(database, &rows, saw).await;
    let missing: HashSet<_> = meanwhile
        .iter()
        .map(|seen| (TENANTS[seen.tenant].to_owned(), seen.prompt))
        .filter(|asked| !known.contains(asked))
        .collect();
    println!("{} answers, {} rows, {} entries", saw.seen.len(), rows.len(), known.len());
    assert!(
        missing.is_empty(),
        "no entry came of {} prompts asked meanwhile, as {:?}",
        missing.len(),
        missing.iter().next()
    );
}

/// Hits of both kinds and misses went on, and hits were about as fast as before.
fn served_on(saw: &Saw, before: &[&Seen], meanwhile: &[&Seen]) {
    saw.is_right();
    assert_eq!(saw.broken, 0, "no exchange broke");
    let hits = |all: &[&Seen]| all.iter().copied().filter(|seen| seen.is_hit()).cloned().collect::<Vec<_>>();
    let of = |tier: &str| meanwhile.iter().filter(|seen| seen.is_hit() && seen.tier == tier).count();
    let misses = meanwhile.iter().filter(|seen| seen.is_fresh()).count();
    let (was, is) = (hits(before), hits(meanwhile));
    let (was, is) = (p99(&was.iter().collect::<Vec<_>>()), p99(&is.iter().collect::<Vec<_>>()));
    println!(
        "meanwhile {} answers: {} exact, {} same words, {misses} new; p99 of hits {was:.1?} before, {is:.1?} meanwhile",
        meanwhile.len(),
        of("exact"),
        of("semantic"),
    );
    println!("{}", saw.summary());
    assert!(of("exact") > 30 && of("semantic") > 10 && misses > 10, "too little was asked to show anything");
    assert!(is < was * 20, "hits became slower: {was:?}, then {is:?}");
}

async fn goes_on_without_the_database(hang: bool) {
    let postgres = OwnPostgres::start("").await;
    let database = Database::on(&postgres.url()).await;
    let redis = OwnRedis::start().await;
    let loaded = Loaded::start(2, &database.url(), Some(&redis.url())).await;
    if hang {
        postgres.stall();
    } else {
        postgres.down().await;
    }
    let away = Instant::now();
    tokio::time::sleep(outage()).await;
    // With a server that hangs it takes several seconds to find out.
    for replica in [0, 1] {
        until("the ledger goes to disk", || async {
            (loaded.metric(replica, "remora_ledger_spooled_rows").await > 0.0).then_some(())
        })
        .await;
        assert!(loaded.metric(replica, "remora_ledger_spool_bytes").await > 0.0);
    }
    loaded.more(100).await;
    loaded.all_ready().await;
    let back = Instant::now();
    if hang {
        postgres.resume();
    } else {
        postgres.up().await;
    }
    loaded.more(200).await;
    let began = loaded.began;
    for replica in [0, 1] {
        until("the journal is empty", || async {
            (loaded.metric(replica, "remora_ledger_spooled_rows").await == 0.0).then_some(())
        })
        .await;
        assert_eq!(loaded.metric(replica, "remora_store_dropped_total").await, 0.0);
    }
    let (saw, running, _homes, _oracle) = loaded.end().await;
    for replica in running {
        until("ready again", || async {
            (replica.admin(Method::GET, "/readyz", None).await.status == StatusCode::OK).then_some(())
        })
        .await;
        says(&replica.stop().await, &["rows_lost=0", "entries_lost=0", "rows_left_in_journal=0"]);
    }
    let (before, meanwhile) = (saw.between(began, away), saw.between(away, back));
    println!("database away for {:.1?}", back - away);
    served_on(&saw, &before, &meanwhile);
    is_whole(&database, &saw, &meanwhile).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn while_postgres_is_stopped_everything_is_served_and_nothing_is_missing_afterwards() {
    goes_on_without_the_database(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn while_postgres_hangs_everything_is_served_and_nothing_is_missing_afterwards() {
    goes_on_without_the_database(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_start_waits_for_a_database_that_is_down_and_says_so() {
    let postgres = OwnPostgres::start("").await;
    let database = Database::on(&postgres.url()).await;
    let oracle = Oracle::start().await;
    postgres.down().await;
    let home = oracle.home(None);
    let child = home.serve(&["--store", &database.url()]);
    let said = child.logged("the start waits for the database").await;
    says(&said, &["cannot be reached", "check that it runs and that `[store] url` names it", "127.0.0.1"]);
    postgres.up().await;
    let running = child.ready().await;
    assert_eq!(running.chat(TENANTS[0], &chat(&wording(1, true))).await.status, StatusCode::OK);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_has_waited_in_vain_names_the_place_and_ends_with_1() {
    let url = "postgres://someone:hunter2@127.0.0.1:1/nowhere";
    for wait in ["0s", "1s"] {
        let home = Home::nowhere().exact().with(&format!("[store]\nstart_wait = \"{wait}\""));
        let said = home.refused(&["--store", url]).await;
        says(&said, &["127.0.0.1:1/nowhere", "cannot be reached", "`[store] url`"]);
        assert_eq!(said.contains("the start waits"), wait == "1s", "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn with_no_connection_to_be_had_everything_is_served_and_nothing_is_missing_afterwards() {
    let postgres = OwnPostgres::start("-c max_connections=24").await;
    let database = Database::on(&postgres.url()).await;
    let loaded = Loaded::start(1, &database.url(), None).await;
    let away = Instant::now();
    let mut held = take_all_connections(&postgres.url()).await;
    // The replica's own end; what becomes free is taken before it can connect again.
    const END: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'remora'";
    let mut ended = 0;
    while away.elapsed() < outage() {
        let some: i64 = sqlx::query_scalar(END).fetch_one(&mut held[0]).await.unwrap();
        ended += some;
        held.extend(take_all_connections(&postgres.url()).await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    until("the ledger goes to disk", || async {
        (loaded.metric(0, "remora_ledger_spooled_rows").await > 0.0).then_some(())
    })
    .await;
    let back = Instant::now();
    give_back(held).await;
    until("the journal is empty", || async {
        (loaded.metric(0, "remora_ledger_spooled_rows").await == 0.0).then_some(())
    })
    .await;
    let began = loaded.began;
    let (saw, running, _homes, _oracle) = loaded.end().await;
    for replica in running {
        says(&replica.stop().await, &["rows_lost=0", "entries_lost=0", "rows_left_in_journal=0"]);
    }
    println!("{ended} connections ended, none to be had for {:.1?}", back - away);
    let (before, meanwhile) = (saw.between(began, away), saw.between(away, back));
    served_on(&saw, &before, &meanwhile);
    is_whole(&database, &saw, &meanwhile).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn while_redis_hangs_or_is_dead_no_request_fails_and_few_are_slow() {
    let database = Database::new().await;
    let mut redis = OwnRedis::start().await;
    let loaded = Loaded::start(2, &database.url(), Some(&redis.url())).await;
    let slow = |seen: &[&Seen]| seen.iter().filter(|seen| seen.took > Duration::from_millis(500)).count();
    let began = loaded.began;
    let stalled = Instant::now();
    redis.stall();
    tokio::time::sleep(outage()).await;
    loaded.more(200).await;
    loaded.all_ready().await;
    let resumed = Instant::now();
    redis.resume();
    for replica in [0, 1] {
        until("Redis is used again", || async {
            (loaded.metric(replica, "remora_dependency_up{name=\"redis\"}").await == 1.0).then_some(())
        })
        .await;
    }
    let killed = Instant::now();
    redis.kill();
    tokio::time::sleep(outage()).await;
    loaded.more(200).await;
    loaded.all_ready().await;
    let up = Instant::now();
    redis.up().await;
    loaded.more(200).await;
    let (saw, running, _homes, _oracle) = loaded.end().await;
    for replica in running {
        says(&replica.stop().await, &["rows_lost=0", "entries_lost=0", "rows_left_in_journal=0"]);
    }
    let (before, hung, dead) = (saw.between(began, stalled), saw.between(stalled, resumed), saw.between(killed, up));
    let counts = [&before, &hung, &dead].map(|seen| (seen.len(), slow(seen)));
    println!("answers and those slower than 500 ms: before, hung, dead {counts:?}");
    served_on(&saw, &before, &hung);
    served_on(&saw, &before, &dead);
    // Five time-outs open a breaker, and each of two replicas asks at most twice for a request: no more than so many can
    // have waited. The rest is the machine.
    for (all, slow) in &counts[1..] {
        assert!(*slow <= 20 + all / 50, "{slow} of {all} answers were slow");
    }
    is_whole(&database, &saw, &hung).await;
}
