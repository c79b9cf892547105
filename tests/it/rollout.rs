//! Moving from SQLite to PostgreSQL and back with the real program, under load and under SIGKILL.
//!
//! Needs PostgreSQL at DATABASE_URL; each test has a database of its own there.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use remora::config::Migrate;
use remora::ids::RequestId;
use remora::simulate::{self, KeyRule, Options};
use remora::store::Stores;
use remora::store::rem::RemExported;
use serde_json::Value;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, raw_sql};

use crate::child::{Home, Http, Running, chat_request, says, try_exchange, until};
use crate::rig::chat;

/// Prompts that clients ask again and again in one phase.
const PROMPTS: u64 = 30;
const CLIENTS: u64 = 4;

/// A database on the server at DATABASE_URL, dropped at the end.
struct Database {
    name: String,
    url: String,
    server: PgConnectOptions,
}

async fn run(server: &PgConnectOptions, sql: String) {
    let mut connection = server.connect().await.unwrap();
    raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

impl Database {
    async fn new() -> Self {
        let server = std::env::var("DATABASE_URL")
            .expect("DATABASE_URL is not set: run `eval \"$(scripts/services.sh start)\"` first");
        let name = format!("remora_rollout_{:016x}", fastrand::u64(..));
        let url = format!("{}/{name}", server.rsplit_once('/').unwrap().0);
        let server: PgConnectOptions = server.parse().unwrap();
        run(&server, format!("CREATE DATABASE {name}")).await;
        Self { name, url, server }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (server, sql) = (self.server.clone(), format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
        let drop = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(run(&server, sql));
        });
        let _ = drop.join();
    }
}

/// Clients that ask without a pause.
struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    ids: Arc<Mutex<BTreeSet<RequestId>>>,
    clients: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    /// `phase` is part of each prompt.
    fn start(on: &Running, phase: &'static str) -> Self {
        let (stop, sent, ids) = (Arc::default(), Arc::default(), Arc::default());
        let mut load = Self { stop, sent, ids, clients: Vec::new() };
        for client in 0..CLIENTS {
            let (stop, sent, ids) = (Arc::clone(&load.stop), Arc::clone(&load.sent), Arc::clone(&load.ids));
            let (http, to): (Http, _) = (on.client.clone(), on.data);
            load.clients.push(tokio::spawn(async move {
                for number in client.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let body = chat(&format!("{phase}: what is number {}?", number % PROMPTS));
                    sent.fetch_add(1, Ordering::Relaxed);
                    let answer = try_exchange(&http, chat_request(to, "sk-one", &[], &body)).await.unwrap();
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    ids.lock().unwrap().insert(answer.header("x-remora-request-id").parse().unwrap());
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            }));
        }
        load
    }

    async fn reaches(&self, requests: usize) {
        until("more requests", || async { (self.ids.lock().unwrap().len() >= requests).then_some(()) }).await;
    }

    /// Ends it; the ids of all requests, each of which was answered.
    async fn end(self) -> BTreeSet<RequestId> {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await.unwrap();
        }
        let ids = self.ids.lock().unwrap().clone();
        assert_eq!(ids.len() as u64, self.sent.load(Ordering::Relaxed), "one id for each request");
        ids
    }
}

async fn copy(home: &Home, from: &str, to: &str, more: &[&str]) -> Value {
    let ran = home.run(&[&["copy", "--from", from, "--to", to, "--json"], more].concat()).await;
    if ran.code != Some(0) {
        differences(from, to).await;
    }
    assert_eq!(ran.code, Some(0), "{ran:?}");
    serde_json::from_str(&ran.out).unwrap()
}

/// Shows how REM data of two databases differ.
async fn differences(one: &str, other: &str) {
    let mut both = Vec::new();
    for url in [one, other] {
        let opened = remora::store::Database::open_to_read(&url.parse().unwrap()).await.unwrap();
        let rem = opened.stores().rem.unwrap();
        let (mut all, mut after) = (BTreeMap::new(), None);
        loop {
            let page = rem.rem_export(after.as_ref(), 500).await.unwrap();
            let Some(last) = page.last() else { break };
            let id = |exported: &RemExported| {
                let edge = || exported.edges.first().map(|(_, edge)| edge.source);
                exported.row.as_ref().map(|row| row.id).or_else(edge).unwrap()
            };
            after = Some((last.tenant.clone(), id(last)));
            all.extend(page.iter().map(|exported| (id(exported), format!("{exported:#?}"))));
        }
        opened.close().await;
        both.push(all);
    }
    let ids: BTreeSet<_> = both.iter().flat_map(|all| all.keys().copied()).collect();
    for id in ids.into_iter().filter(|id| both[0].get(id) != both[1].get(id)) {
        println!("{id}: {:?}\n{:?}", both[0].get(&id), both[1].get(&id));
    }
}

/// Each request exactly once, each prompt in one entry.
async fn whole(stores: &Stores, ids: &BTreeSet<RequestId>, phases: u64) {
    let mut rows = Vec::new();
    loop {
        let page = stores.ledger.page(rows.last().copied(), 1_000).await.unwrap();
        if page.is_empty() {
            break;
        }
        rows.extend(page.into_iter().map(|row| row.request));
    }
    assert_eq!(rows.len(), ids.len(), "no row too many or too few");
    assert_eq!(rows.into_iter().collect::<BTreeSet<_>>(), *ids, "every request that was answered, and no other");
    let entries = stores.entries.export(None, 10_000).await.unwrap();
    let points: BTreeSet<[u8; 32]> =
        entries.iter().flat_map(|entry| &entry.points).map(|point| point.fingerprint).collect();
    let all = usize::try_from(PROMPTS * phases).unwrap();
    assert_eq!((entries.len(), points.len()), (all, all), "every prompt has one entry");
}

async fn simulator() -> simulate::Handle {
    let options = Options { require_key: KeyRule::None, ..Options::default() };
    simulate::spawn(options, "127.0.0.1:0".parse().unwrap()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_staged_rollout_to_postgres_and_back_loses_and_doubles_nothing() {
    let sim = simulator().await;
    let postgres = Database::new().await;
    let home = Home::new(sim.url().trim_end_matches("/v1")).exact();
    let sqlite = format!("sqlite://{}", home.database().display());
    let mut ids = BTreeSet::new();

    // 1. SQLite alone, copied while it serves.
    let running = home.start().await;
    let load = Load::start(&running, "first");
    load.reaches(200).await;
    let first = copy(&home, &sqlite, &postgres.url, &[]).await;
    assert!(first["tables"]["requests"]["added"].as_u64().unwrap() >= 100, "{first}");
    load.reaches(400).await;
    ids.extend(load.end().await);
    running.stop().await;

    // 2. The shadow is switched on; a catch-up brings what came before that; both are equal under load.
    let shadowed = home.with(&format!("[store]\nshadow = \"{}\"", postgres.url));
    let running = shadowed.start().await;
    let load = Load::start(&running, "second");
    load.reaches(200).await;
    let caught_up = copy(&shadowed, &sqlite, &postgres.url, &["--since", "2h", "--verify"]).await;
    assert_eq!(caught_up["verify"]["equal"], true, "{caught_up}");
    load.reaches(400).await;
    let told = running.told("/admin/v1/store").await;
    assert_eq!((&told["kind"], &told["shadow"]["kind"]), (&"sqlite".into(), &"postgres".into()), "{told}");
    assert_eq!((&told["shadow"]["dropped"], &told["shadow"]["catch_up_needed"]), (&0.into(), &false.into()), "{told}");
    assert!(told["shadow"]["mirrored"].as_u64().unwrap() > 0, "{told}");
    ids.extend(load.end().await);
    let log = running.stop().await;
    says(&log, &["shadow store closed"]);
    copy(&shadowed, &sqlite, &postgres.url, &["--dry-run", "--verify"]).await;

    // 3. PostgreSQL serves, and what SQLite had stored is a hit. SQLite is the shadow, for the way back.
    let back = shadowed.without_store().with(&format!("[store]\nshadow = \"{sqlite}\""));
    let running = back.serve(&["--store", &postgres.url]).ready().await;
    let asked = sim.stats().requests;
    for phase in ["first", "second"] {
        let answer = running.chat("sk-one", &chat(&format!("{phase}: what is number 7?"))).await;
        assert_eq!(answer.cache(), "HIT");
        ids.insert(answer.header("x-remora-request-id").parse().unwrap());
    }
    assert_eq!(sim.stats().requests, asked);
    let load = Load::start(&running, "third");
    load.reaches(200).await;
    let verified = copy(&back, &postgres.url, &sqlite, &["--since", "2h", "--verify"]).await;
    assert_eq!(verified["verify"]["equal"], true, "{verified}");
    load.reaches(400).await;
    ids.extend(load.end().await);
    running.stop().await;

    // 4. Back on SQLite, with everything.
    let verified = copy(&back, &postgres.url, &sqlite, &["--dry-run", "--verify"]).await;
    assert_eq!(verified["verify"]["equal"], true, "{verified}");
    let alone = back.without_store();
    let running = alone.start().await;
    let answer = running.chat("sk-one", &chat("third: what is number 7?")).await;
    assert_eq!(answer.cache(), "HIT", "stored while PostgreSQL served");
    ids.insert(answer.header("x-remora-request-id").parse().unwrap());
    running.stop().await;
    whole(&alone.store().await.stores(), &ids, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_copy_that_is_killed_again_and_again_is_completed() {
    let sim = simulator().await;
    let postgres = Database::new().await;
    let home = Home::new(sim.url().trim_end_matches("/v1")).exact();
    let running = home.start().await;
    let load = Load::start(&running, "some");
    load.reaches(300).await;
    let mut ids = load.end().await;
    running.stop().await;
    // More rows than one page of everything, made from those.
    let store = home.store().await;
    let stores = store.stores();
    let like = stores.ledger.page(None, 1).await.unwrap().remove(0);
    let entry = stores.entries.export(None, 1).await.unwrap().remove(0);
    for block in 0..40_u64 {
        let rows: Vec<_> = (0..500)
            .map(|n| remora::store::LedgerRow {
                request: RequestId::at(1_700_000_000_000 + block * 500 + n),
                ..like.clone()
            })
            .collect();
        ids.extend(rows.iter().map(|row| row.request));
        stores.ledger.append(&rows).await.unwrap();
        let puts: Vec<_> = (0..100)
            .map(|n| {
                let id = remora::ids::EntryId::at(1_700_000_000_000 + block * 100 + n);
                let mut points = entry.points.clone();
                points.iter_mut().for_each(|point| point.entry = id);
                let entry = remora::store::Entry { id, ..entry.entry.clone() };
                remora::store::EntryWrite::Put { entry: entry.into(), points }
            })
            .collect();
        stores.entries.apply(&puts).await.unwrap();
    }
    store.close().await;
    let sqlite = format!("sqlite://{}", home.database().display());
    let mut killed = 0;
    for _ in 0..12 {
        let mut child = Command::new(env!("CARGO_BIN_EXE_remora"))
            .args(["copy", "--from", &sqlite, "--to", &postgres.url])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        tokio::time::sleep(Duration::from_millis(fastrand::u64(30..1_500))).await;
        if child.try_wait().unwrap().is_none() {
            killed += 1;
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(killed >= 3, "the copy must be killed while it runs to show anything: {killed}");
    let done = copy(&home, &sqlite, &postgres.url, &["--verify"]).await;
    assert_eq!(done["verify"]["equal"], true, "{done}");
    let url = postgres.url.parse().unwrap();
    let database = remora::store::Database::open(&url, Migrate::Manual).await.unwrap();
    assert_eq!(database.stores().ledger.count().await.unwrap(), ids.len() as u64);
    assert_eq!(database.stores().entries.counts().await.unwrap().entries, 4_000 + PROMPTS);
    database.close().await;
    assert_eq!(copy(&home, &sqlite, &postgres.url, &[]).await["resumed"], false, "no checkpoint is left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_commands_say_what_they_did_and_what_is_wrong() {
    let sim = simulator().await;
    let home = Home::new(sim.url().trim_end_matches("/v1")).exact();
    let running = home.start().await;
    for prompt in ["one", "two"] {
        running.chat("sk-one", &chat(prompt)).await;
    }
    let sqlite = format!("sqlite://{}", home.database().display());
    let written = home.run(&["backup", "all.backup", "--from", &sqlite]).await;
    says(written.ok(), &["entries", "requests", "It contains the secret"]);
    let in_use = home.run(&["copy", "--from", "sqlite://other.db", "--to", &sqlite]).await;
    says(in_use.failed(1), &["other.db"]);
    let dry = home.run(&["restore", "all.backup", "--to", "sqlite://new.db", "--dry-run"]).await;
    says(dry.ok(), &["is whole and would be restored"]);
    assert!(!home.path("new.db").exists());
    home.run(&["restore", "all.backup", "--to", "sqlite://new.db"]).await.ok();
    let in_use = home.run(&["copy", "--from", "sqlite://new.db", "--to", &sqlite]).await;
    says(in_use.failed(1), &["is in use", "stop it first"]);
    running.stop().await;
    let verified = home.run(&["copy", "--from", &sqlite, "--to", "sqlite://new.db", "--verify"]).await;
    says(verified.ok(), &["Equal."]);
    let itself = home.run(&["copy", "--from", &sqlite, "--to", &sqlite]).await;
    says(itself.failed(1), &["the same database"]);

    // A hit from the restored database: the secret came along.
    let restored = format!("sqlite://{}", home.path("new.db").display());
    let running = home.serve(&["--store", &restored]).ready().await;
    assert_eq!(running.chat("sk-one", &chat("two")).await.cache(), "HIT");
    running.stop().await;

    let mut bytes = std::fs::read(home.path("all.backup")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    home.write("bad.backup", &bytes);
    let refused = home.run(&["restore", "bad.backup", "--to", "sqlite://third.db"]).await;
    says(refused.failed(1), &["damaged", "nothing was written"]);
    assert!(!home.path("third.db").exists());
    let password = "postgres://u:hunter2@127.0.0.1:1/x";
    let unreachable = home.run(&["copy", "--from", &sqlite, "--to", password]).await;
    assert!(!unreachable.failed(1).contains("hunter2"), "{unreachable:?}");
}
