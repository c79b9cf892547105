//! Replicas that die suddenly, one every few seconds, while clients of several tenants ask and answers are taken out.
//!
//! REMORA_CHAOS_SECONDS is how long each test kills; 25 by default. Minutes show more.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use remora::config::Migrate;
use remora::store;
use serde_json::json;

use crate::child::{Home, Http, Running, chat_request, request, try_exchange, until};
use crate::crowd::{Crowd, Oracle, Place, Places, Saw, TENANTS, Wishes, read_mark, start, wording};
use crate::fleet::Database;
use crate::rig::chat;
use crate::servers::OwnRedis;

/// Clients, a few for each tenant.
const CLIENTS: usize = 6;
/// Prompts that are asked at one time.
const WIDTH: usize = 40;
/// An invalidation is obeyed everywhere within a second. What comes this long after it is not late but back.
const BACK: Duration = Duration::from_secs(10);

/// How long a test goes on: a variable in seconds, or this.
pub(crate) fn duration(variable: &str, default: u64) -> Duration {
    Duration::from_secs(std::env::var(variable).map_or(default, |text| text.parse().unwrap()))
}

/// For each prompt: when it was taken out, and the last answer the upstream had given before.
type Forgotten = HashMap<usize, Vec<(Instant, u64)>>;

/// Takes out prompts until told to stop: some that are asked on, and those that are never asked again.
async fn forget(oracle: Arc<Oracle>, places: Places, wishes: Arc<Wishes>, stop: Arc<AtomicBool>) -> Forgotten {
    let http: Http = Client::builder(TokioExecutor::new()).build_http();
    let mut forgotten = Forgotten::new();
    let mut took: BTreeMap<String, Vec<Duration>> = BTreeMap::new();
    for round in 0_usize.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let from = wishes.from.load(Ordering::Relaxed);
        let prompt = if round.is_multiple_of(2) {
            // Clients may have just chosen it, so it is asked no more only from the next time on.
            wishes.from.store(from + 1, Ordering::Relaxed);
            from.saturating_sub(5)
        } else {
            from + fastrand::usize(5..WIDTH)
        };
        let before = oracle.said();
        let place = {
            let places = places.lock().unwrap();
            places[fastrand::usize(..places.len())]
        };
        let wanted = Bytes::from(json!({ "text": format!("number {prompt:07}") }).to_string());
        let ask = request(Method::POST, place.admin, "/admin/v1/cache/invalidate", &[], wanted);
        // One that failed may have been made or not: nothing follows from it.
        let began = Instant::now();
        let answer = try_exchange(&http, ask).await;
        let status = answer.map_or_else(|_| "broken".to_owned(), |answer| answer.status.to_string());
        if status == "200 OK" {
            forgotten.entry(prompt).or_default().push((Instant::now(), before));
        }
        took.entry(status).or_default().push(began.elapsed());
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    for (status, mut took) in took {
        took.sort_unstable();
        println!(
            "invalidations, {status}: {}, median {:.1?}, slowest {:.1?}",
            took.len(),
            took[took.len() / 2],
            took[took.len() - 1]
        );
    }
    forgotten
}

/// Kills one replica after the other, each is started again at once; returns how many died.
async fn kill(store: &str, homes: &[Home], running: &mut [Running], places: &Places, crowd: &Crowd) -> usize {
    let within = duration("REMORA_CHAOS_SECONDS", 25);
    let (began, mut killed) = (Instant::now(), 0);
    while began.elapsed() < within {
        let before = crowd.count();
        tokio::time::sleep(Duration::from_millis(fastrand::u64(1_000..3_000))).await;
        until("answers between two deaths", || async { (crowd.count() > before + 20).then_some(()) }).await;
        let victim = killed % homes.len();
        running[victim].child.signal("KILL");
        running[victim].child.ended().await;
        running[victim] = start(&homes[victim], store).await;
        places.lock().unwrap()[victim] = Place::of(&running[victim]);
        killed += 1;
    }
    killed
}

/// Hits on what was taken out before they were asked for: later than is allowed, and so late that it must have come back.
fn late(saw: &Saw, forgotten: &Forgotten) -> (usize, Vec<String>) {
    let mut late: Vec<(Duration, String)> = Vec::new();
    for seen in saw.seen.iter().filter(|seen| seen.cache != "MISS") {
        let outs = forgotten.get(&seen.prompt).into_iter().flatten();
        let meant = outs.filter(|(at, before)| *at < seen.began && seen.number <= *before);
        let Some((at, before)) = meant.min() else { continue };
        let after = seen.began - *at;
        let (tenant, number, prompt, tier) = (seen.tenant, seen.number, seen.prompt, &seen.tier);
        late.push((after, format!("{tier} {number} of tenant {tenant} to {prompt}: {after:.1?} after {before}")));
    }
    let back = late.iter().filter(|(after, _)| *after > BACK).map(|(_, text)| text.clone()).collect();
    (late.iter().filter(|(after, _)| *after > Duration::from_secs(1)).count(), back)
}

/// For each prompt the last answer that must not be anywhere any more.
fn floors(forgotten: &Forgotten) -> HashMap<usize, u64> {
    forgotten.iter().map(|(prompt, outs)| (*prompt, outs.iter().map(|(_, before)| *before).max().unwrap())).collect()
}

/// Answers that replicas still have although they were taken out. Asks each replica for each, and nobody else.
async fn resurrected(running: &[Running], floors: &HashMap<usize, u64>) -> (Vec<String>, usize) {
    let (mut back, mut held) = (Vec::new(), 0);
    for (prompt, floor) in floors {
        for (replica, tenant) in (0..running.len()).flat_map(|replica| TENANTS.map(|tenant| (replica, tenant))) {
            let only = [("cache-control", "only-if-cached")];
            let ask = chat_request(running[replica].data, tenant, &only, &chat(&wording(*prompt, false)));
            let answer = try_exchange(&running[replica].client, ask).await.unwrap();
            if answer.status != StatusCode::OK {
                continue;
            }
            held += 1;
            let (key, about, number) = read_mark(&answer.content()).unwrap();
            assert_eq!((key.as_str(), about), (tenant, *prompt));
            if number <= *floor {
                back.push(format!("replica {replica}: {} taken out at {floor}", answer.content()));
            }
        }
    }
    (back, held)
}

/// What the database holds after everything has ended.
async fn stored(database: &Database, floors: &HashMap<usize, u64>) -> (HashSet<String>, usize) {
    let opened = store::Database::open(&database.url().parse().unwrap(), Migrate::Manual).await.unwrap();
    let stores = opened.stores();
    let mut owners: HashMap<String, String> = HashMap::new();
    let (mut after, mut entries) = (None, 0);
    loop {
        let page = stores.entries.export(after.as_ref(), 1_000).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(store::Cursor { tenant: last.entry.tenant.clone(), entry: last.entry.id });
        entries += page.len();
        for entry in page {
            let body = String::from_utf8(entry.entry.body.to_vec()).unwrap();
            let (key, prompt, number) = read_mark(&body).unwrap_or_else(|| panic!("no mark: {body}"));
            let tenant = entry.entry.tenant.as_str().to_owned();
            assert_eq!(
                *owners.entry(tenant).or_insert_with(|| key.clone()),
                key,
                "a tenant holds an answer of another"
            );
            let floor = floors.get(&prompt).copied().unwrap_or(0);
            assert!(number > floor, "in the store again: {body}, taken out at {floor}");
        }
    }
    assert_eq!(owners.len(), TENANTS.len());
    let (mut rows, mut last) = (HashSet::new(), None);
    loop {
        let page = stores.ledger.page(last, 5_000).await.unwrap();
        let Some(row) = page.last() else { break };
        last = Some(row.request);
        rows.extend(page.iter().map(|row| row.request.to_string()));
    }
    opened.close().await;
    (rows, entries)
}

/// Every reply that was read to its last byte has exactly one row.
pub(crate) async fn accounted_for(database: &Database, rows: &HashSet<String>, saw: &Saw) {
    let doubled = database.number("SELECT count(*) - count(DISTINCT id) FROM requests").await;
    let ids: HashSet<&str> = saw.seen.iter().map(|seen| seen.id.as_str()).collect();
    assert_eq!(ids.len(), saw.seen.len(), "each answer has an id of its own");
    let lost: Vec<_> = saw.seen.iter().filter(|seen| !rows.contains(&seen.id)).collect();
    assert!(lost.is_empty(), "{} of {} have no row, as {:?}", lost.len(), ids.len(), &lost[..lost.len().min(3)]);
    assert_eq!(doubled, 0, "no request has two rows");
}

async fn survives(replicas: usize) {
    let (database, redis) = (Database::new().await, OwnRedis::start().await);
    let oracle = Arc::new(Oracle::start().await);
    let homes: Vec<_> = (0..replicas).map(|_| oracle.home(Some(&redis.url()))).collect();
    let mut running = Vec::new();
    for home in &homes {
        running.push(start(home, &database.url()).await);
    }
    let places: Places = Arc::new(Mutex::new(running.iter().map(Place::of).collect()));
    let (wishes, stop) = (Wishes::new(WIDTH), Arc::<AtomicBool>::default());
    let crowd = Crowd::start(CLIENTS, &places, &wishes);
    let forgetting =
        tokio::spawn(forget(Arc::clone(&oracle), Arc::clone(&places), Arc::clone(&wishes), Arc::clone(&stop)));
    let killed = kill(&database.url(), &homes, &mut running, &places, &crowd).await;
    stop.store(true, Ordering::Relaxed);
    let forgotten = forgetting.await.unwrap();
    let saw = crowd.end().await;

    // Twice as long as anything that one replica does may take to reach the others.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let floors = floors(&forgotten);
    let (back, held) = resurrected(&running, &floors).await;
    for replica in running {
        assert_eq!(replica.admin(Method::GET, "/readyz", None).await.status, StatusCode::OK);
        let log = replica.stop().await;
        assert!(log.contains("rows_lost=0") && log.contains("rows_left_in_journal=0"), "{log}");
        assert!(!log.contains("ERROR"), "{log}");
    }
    let (rows, entries) = stored(&database, &floors).await;
    let (slow, late) = late(&saw, &forgotten);
    let outs: usize = forgotten.values().map(Vec::len).sum();
    println!("{replicas} replicas, {killed} killed; {}; {} rows, {entries} entries", saw.summary(), rows.len());
    println!("{outs} invalidations of {} prompts; {held} of them held anew; {slow} hits later than 1 s", floors.len());

    saw.is_right();
    accounted_for(&database, &rows, &saw).await;
    assert!(back.is_empty(), "resurrected: {back:?}");
    assert!(late.is_empty(), "hits on answers that were taken out long before: {late:?}");
    let hits = |tier: &str| saw.seen.iter().filter(|seen| seen.is_hit() && seen.tier == tier).count();
    assert!(hits("exact") > 100 && hits("semantic") > 20, "the cache must work to show anything");
    assert!(killed >= 3 && outs > 10 && held > 0 && saw.broken > 0, "too little happened to show anything");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_replicas_of_which_one_dies_every_few_seconds_lose_and_mix_up_nothing() {
    survives(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn three_replicas_of_which_one_dies_every_few_seconds_lose_and_mix_up_nothing() {
    survives(3).await;
}
