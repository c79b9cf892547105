//! Several replicas on one store: what one knows the others learn, what one takes out is gone everywhere.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Method, StatusCode};
use remora::cache::{Filter, Order};
use remora::config::StoreUrl;
use remora::ids::AuditId;
use remora::simulate::Options;
use remora::store::{AuditHead, AuditRow, AuditStore, BoxFuture, Chained, EntryWrite};
use serde_json::json;

use crate::child::until;
use crate::fleet::{Database, Fleet, service};
use crate::line_cut::Line;
use crate::rig::chat;

async fn fleet(count: usize) -> Fleet {
    Fleet::start(count, Options::default(), |_, _| {}).await
}

/// Two, of which the second reaches the database over a line that can be cut.
async fn fleet_on_a_line() -> (Line, Fleet) {
    let database = Database::new().await;
    let server: sqlx::postgres::PgConnectOptions = database.url().parse().unwrap();
    let line = Line::to(format!("{}:{}", server.get_host(), server.get_port()).parse().unwrap()).await;
    let far = database.url_at(line.address);
    let fleet = Fleet::on(database, 2, Options::default(), move |number, config| {
        if number == 1 {
            config.store.url = far.parse().unwrap();
        }
    })
    .await;
    (line, fleet)
}

/// With Redis.
async fn with_redis(count: usize, simulate: Options) -> Fleet {
    Fleet::start(count, simulate, |_, config| redis(config, &service("REDIS_URL"))).await
}

fn redis(config: &mut remora::config::Config, url: &str) {
    let text = format!("[redis]\nurl = \"{url}\"\n");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("redis.toml");
    std::fs::write(&file, text).unwrap();
    let with = remora::config::Config::load(Some(&file), std::iter::empty(), &Default::default());
    config.redis = with.unwrap_or_else(|problems| panic!("{problems}")).redis;
    // A busy machine must not look like a broken Redis.
    config.redis.as_mut().unwrap().deadline = Duration::from_secs(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_replica_stores_all_serve_exactly_and_in_the_same_words() {
    let fleet = fleet(3).await;
    let asked = fleet.chat(0, &chat("What is the capital of France?")).await;
    assert_eq!((asked.status, asked.cache()), (StatusCode::OK, "MISS"));
    for replica in [1, 2] {
        let exact = fleet.learns(replica, &chat("What is the capital of France?")).await;
        assert_eq!((exact.cache(), exact.header("x-remora-tier")), ("HIT", "exact"));
        let semantic = fleet.chat(replica, &chat("what is the capital of france")).await;
        assert_eq!((semantic.cache(), semantic.header("x-remora-tier")), ("HIT", "semantic"));
        assert_eq!(exact.content(), asked.content());
        assert_eq!(semantic.header("x-remora-entry"), asked.header("x-remora-entry"));
    }
    assert_eq!(fleet.sim.stats().requests, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_share_a_secret_and_one_with_another_is_refused() {
    let fleet = fleet(2).await;
    // Passthrough tenants are keyed hashes: equal on both, or the second could not find the entry of the first.
    fleet.chat(0, &chat("Who am I?")).await;
    fleet.learns(1, &chat("Who am I?")).await;
    let dir = tempfile::tempdir().unwrap();
    let store = remora::store::Database::open(
        &fleet.database.url().parse::<StoreUrl>().unwrap(),
        remora::config::Migrate::Manual,
    )
    .await
    .unwrap();
    let note = store.stores().notes.note("secret check").await.unwrap();
    assert!(note.is_some());
    store.close().await;
    let home = crate::child::Home::new(&fleet.sim.url()).with(&format!(
        "[store]\nurl = \"{}\"\nsecret_file = \"{}\"",
        fleet.database.url(),
        dir.path().join("other.key").display()
    ));
    let log = home.refused(&["--store", &fleet.database.url()]).await;
    assert!(log.contains("another secret"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalidation_is_obeyed_by_all_and_stays_obeyed_after_a_restart() {
    let mut fleet = fleet(3).await;
    for subject in ["tides", "moons"] {
        fleet.chat(0, &chat(&format!("Tell me about {subject}"))).await;
    }
    for replica in [1, 2] {
        fleet.learns(replica, &chat("Tell me about tides")).await;
        fleet.learns(replica, &chat("Tell me about moons")).await;
    }
    let removed = fleet.admin(1, Method::POST, "/admin/v1/cache/invalidate", Some(json!({ "text": "tides" }))).await;
    assert_eq!((removed.status, removed.json()["removed"].as_u64()), (StatusCode::OK, Some(1)));
    for replica in [0, 1, 2] {
        fleet.forgets(replica, &chat("Tell me about tides")).await;
        assert!(fleet.cached(replica, &chat("Tell me about moons")).await.is_some(), "only what is meant goes");
    }
    fleet.stop(2).await;
    fleet.launch(2).await;
    assert!(fleet.cached(2, &chat("Tell me about tides")).await.is_none());
    assert!(fleet.cached(2, &chat("Tell me about moons")).await.is_some());
    // What is asked after it is stored and shared as ever.
    fleet.chat(0, &chat("Tell me about tides")).await;
    for replica in [1, 2] {
        fleet.learns(replica, &chat("Tell me about tides")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_under_way_on_one_replica_is_not_stored_when_another_invalidates() {
    let simulate = Options { latency: Duration::from_secs(3), ..Options::default() };
    let fleet = Arc::new(Fleet::start(2, simulate, |_, _| {}).await);
    let slow = tokio::spawn({
        let fleet = Arc::clone(&fleet);
        async move { fleet.chat(1, &chat("What is the time?")).await }
    });
    until("the request is upstream", || async { (fleet.sim.stats().requests == 1).then_some(()) }).await;
    let obeyed = fleet.app(1).cache.epoch();
    let done = fleet.admin(0, Method::POST, "/admin/v1/cache/invalidate", Some(json!({ "all": true }))).await;
    assert_eq!(done.status, StatusCode::OK);
    until("the other has heard of it", || async { (fleet.app(1).cache.epoch() > obeyed).then_some(()) }).await;
    let answer = slow.await.unwrap();
    assert_eq!((answer.status, answer.reason()), (StatusCode::OK, "invalidated"), "the caller gets it all the same");
    fleet.settle().await;
    for replica in [0, 1] {
        assert!(fleet.cached(replica, &chat("What is the time?")).await.is_none());
    }
    assert_eq!(fleet.database.number("SELECT count(*) FROM entries").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_was_cut_off_serves_on_and_then_catches_up_before_it_serves_hits_again() {
    let (line, fleet) = fleet_on_a_line().await;
    for subject in ["tides", "moons"] {
        fleet.chat(0, &chat(&format!("Tell me about {subject}"))).await;
        fleet.learns(1, &chat(&format!("Tell me about {subject}"))).await;
    }
    line.cut();
    // It goes on with what it has in memory, and forwards the rest.
    assert!(fleet.cached(1, &chat("Tell me about moons")).await.is_some());
    assert_eq!(fleet.chat(1, &chat("Something new, meanwhile")).await.status, StatusCode::OK);
    let removed = fleet.admin(0, Method::POST, "/admin/v1/cache/invalidate", Some(json!({ "all": true }))).await;
    assert_eq!(removed.status, StatusCode::OK);
    fleet.chat(0, &chat("Tell me about stars")).await;
    // Long enough to count as cut off.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    line.mend();
    fleet.learns(1, &chat("Tell me about stars")).await;
    assert_eq!(fleet.admin(1, Method::GET, "/readyz", None).await.status, StatusCode::OK);
    assert!(fleet.cached(1, &chat("Tell me about tides")).await.is_none());
    // What it stored before it knew of the invalidation is gone from everywhere.
    until("its own entry is gone", || async {
        fleet.cached(1, &chat("Something new, meanwhile")).await.is_none().then_some(())
    })
    .await;
    fleet.settle().await;
    fleet.forgets(0, &chat("Something new, meanwhile")).await;
    assert_eq!(fleet.database.number("SELECT count(*) FROM entries").await, 1);
    // And the request that was served meanwhile is in the ledger, once, like all others.
    assert_eq!(fleet.database.number("SELECT count(*) FROM requests WHERE outcome = 'miss' AND status = 200").await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_the_store_when_it_is_invalidated_never_gets_there() {
    // Were it stored and then deleted, a replica that is killed in between would leave it to all.
    let (line, fleet) = fleet_on_a_line().await;
    line.cut();
    assert_eq!(fleet.chat(1, &chat("Tell me about tides")).await.status, StatusCode::OK);
    // The earlier of the two is in memory no more, and still waits.
    let anew = fleet.chat_with(1, "sk-fleet", &[("cache-control", "no-cache")], &chat("Tell me about tides")).await;
    assert_eq!((anew.status, anew.cache()), (StatusCode::OK, "REFRESH"));
    let answer = fleet.chat(1, &chat("Tell me about moons")).await.content();
    for filter in [json!({ "text": "tides" }), json!({ "answer_text": answer })] {
        let told = fleet.admin(0, Method::POST, "/admin/v1/cache/invalidate", Some(filter)).await;
        assert_eq!((told.status, told.json()["removed"].as_u64()), (StatusCode::OK, Some(0)), "{}", told.text());
    }
    line.mend();
    for subject in ["tides", "moons"] {
        fleet.forgets(1, &chat(&format!("Tell me about {subject}"))).await;
    }
    fleet.chat(1, &chat("Tell me about stars")).await;
    fleet.learns(0, &chat("Tell me about stars")).await;
    fleet.settle().await;
    let told = "SELECT count(*) FROM changes WHERE kind = 'entry'";
    assert_eq!(fleet.database.number(told).await, 1, "only the stars were ever there");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalidation_that_is_not_understood_has_everything_compared() {
    let fleet = fleet(2).await;
    for subject in ["tides", "moons"] {
        fleet.chat(0, &chat(&format!("Tell me about {subject}"))).await;
        fleet.learns(1, &chat(&format!("Tell me about {subject}"))).await;
    }
    fleet.settle().await;
    // As a later version might, which knows a way to mean the tides that this one does not.
    let later = "DELETE FROM entries WHERE id = (SELECT entry FROM points WHERE prompt LIKE '%tides%'); \
        UPDATE change_head SET seq = seq + 1, before_invalidation = last_invalidation, last_invalidation = seq + 1; \
        INSERT INTO changes (seq, at, kind, filter) SELECT seq, 0, 'invalidated', '{\"flavour\": \"salty\"}' FROM change_head";
    fleet.database.run(later).await;
    for replica in [0, 1] {
        fleet.forgets(replica, &chat("Tell me about tides")).await;
        fleet.learns(replica, &chat("Tell me about moons")).await;
        assert!(fleet.cached(replica, &chat("Tell me about tides")).await.is_none());
    }
    // It goes on as before.
    fleet.chat(0, &chat("Tell me about tides")).await;
    fleet.learns(1, &chat("Tell me about tides")).await;
}

/// The audit of replica 0. Replica 1 has something stored right before the first row is recorded, and is then cut off.
struct Meanwhile<'f> {
    fleet: &'f Fleet,
    line: &'f Line,
    inner: Arc<dyn AuditStore>,
    rows: Mutex<Vec<AuditRow>>,
}

impl AuditStore for Meanwhile<'_> {
    fn record<'a>(&'a self, row: &'a AuditRow, changes: &'a [EntryWrite]) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            if self.rows.lock().unwrap().is_empty() {
                self.fleet.chat(1, &chat("Tell me about tides")).await;
                self.fleet.learns(0, &chat("Tell me about tides")).await;
                self.line.cut();
            }
            self.rows.lock().unwrap().push(row.clone());
            self.inner.record(row, changes).await
        })
    }

    fn trail(&self, _: Option<AuditId>, _: u32) -> BoxFuture<'_, Vec<AuditRow>> {
        unreachable!()
    }

    fn audit_page(&self, _: Option<AuditId>, _: u32) -> BoxFuture<'_, Vec<AuditRow>> {
        unreachable!()
    }

    fn audit_head(&self) -> BoxFuture<'_, Option<AuditHead>> {
        unreachable!()
    }

    fn audit_chain(&self, _: u64, _: u32) -> BoxFuture<'_, Vec<Chained>> {
        unreachable!()
    }

    fn audit_unchained(&self) -> BoxFuture<'_, u64> {
        unreachable!()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_stores_while_an_invalidation_runs_is_gone_when_it_ends_though_that_one_is_cut_off() {
    let (line, fleet) = fleet_on_a_line().await;
    fleet.chat(0, &chat("Tell me about moons")).await;
    let cache = &fleet.app(0).cache;
    let filter = Filter { text: Some("tides".into()), ..Filter::default() };
    let order = Order {
        selector: Arc::new(cache.selector(filter).await.unwrap()),
        expect: None,
        expect_count: None,
        action: "cache.invalidate",
        actor: "somebody".into(),
        reason: None,
        what: "{}".into(),
    };
    let inner = Arc::clone(&fleet.app(0).stores.audit);
    let audit = Meanwhile { fleet: &fleet, line: &line, inner, rows: Mutex::default() };
    let removed = cache.invalidate(order, &audit).await.unwrap();
    assert_eq!((removed.entries, removed.strays), (0, 1));
    assert!(fleet.cached(0, &chat("Tell me about tides")).await.is_none());
    assert!(fleet.cached(0, &chat("Tell me about moons")).await.is_some());
    assert_eq!(fleet.database.number("SELECT count(*) FROM entries").await, 1);
    let results: Vec<_> = audit.rows.into_inner().unwrap().into_iter().map(|row| row.result).collect();
    assert_eq!(results.len(), 2);
    assert_eq!(results[1], "{\"stored_meanwhile\":1}");
}

#[tokio::test(flavor = "multi_thread")]
async fn both_replicas_keep_the_same_one_of_two_answers_to_one_prompt() {
    // Both ask upstream before either has heard of the other.
    let simulate = Options { latency: Duration::from_millis(700), ..Options::default() };
    let fleet = Fleet::start(2, simulate, |_, _| {}).await;
    let prompt = chat("Which came first?");
    let (one, other) = tokio::join!(fleet.chat(0, &prompt), fleet.chat(1, &prompt));
    assert_eq!((one.cache(), other.cache(), fleet.sim.stats().requests), ("MISS", "MISS", 2));
    let later = one.header("x-remora-entry").max(other.header("x-remora-entry")).to_owned();
    for replica in [0, 1] {
        until("the later one is kept", || async {
            let answer = fleet.cached(replica, &prompt).await?;
            (answer.header("x-remora-entry") == later).then_some(())
        })
        .await;
    }
    until("the earlier one is gone from the store", || async {
        (fleet.database.number("SELECT count(*) FROM entries").await == 1).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_redis_two_replicas_meet_a_new_prompt_and_one_of_them_asks_upstream() {
    let simulate = Options { latency: Duration::from_millis(800), ..Options::default() };
    let fleet = with_redis(2, simulate).await;
    for app in [fleet.app(0), fleet.app(1)] {
        let shared = app.cache.shared().unwrap();
        until("Redis is there", || async { shared.stats().up.then_some(()) }).await;
    }
    for round in 0..3 {
        let prompt = chat(&format!("Who asks first, round {round}?"));
        let (one, other) = tokio::join!(fleet.chat(0, &prompt), fleet.chat(1, &prompt));
        let mut seen = [one.cache().to_owned(), other.cache().to_owned()];
        seen.sort_unstable();
        assert_eq!(seen, ["HIT", "MISS"]);
        assert_eq!(one.content(), other.content());
        assert_eq!(fleet.sim.stats().requests, round + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_in_redis_of_what_was_taken_out_is_not_served() {
    let fleet = with_redis(2, Options::default()).await;
    let shared = fleet.app(0).cache.shared().unwrap();
    until("Redis is there", || async { shared.stats().up.then_some(()) }).await;
    let prompt = chat("Tell me about tides");
    fleet.chat(0, &prompt).await;
    fleet.learns(1, &prompt).await;
    // The copy is put back after the deletion, as by a replica that is late.
    let keys = fleet.app(0).cache.list(&Default::default(), None, 10);
    let fingerprint = keys[0].fingerprints[0];
    let copy = until("the copy", || shared.get(&fingerprint)).await;
    let removed = fleet.admin(0, Method::POST, "/admin/v1/cache/invalidate", Some(json!({ "all": true }))).await;
    assert_eq!(removed.status, StatusCode::OK);
    until("the copy is gone", || async { shared.get(&fingerprint).await.is_none().then_some(()) }).await;
    shared.put(fingerprint, copy, Duration::from_secs(60));
    until("the copy is back", || shared.get(&fingerprint)).await;
    for replica in [0, 1] {
        fleet.forgets(replica, &prompt).await;
    }
    assert_eq!(fleet.chat(1, &prompt).await.cache(), "MISS");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_everything_works_as_with_it() {
    // Nobody listens there.
    let fleet = Fleet::start(2, Options::default(), |_, config| redis(config, "redis://127.0.0.1:1")).await;
    for round in 0..20 {
        let prompt = chat(&format!("Is anybody there, {round}?"));
        assert_eq!(fleet.chat(0, &prompt).await.status, StatusCode::OK);
        assert_eq!(fleet.chat(0, &prompt).await.cache(), "HIT");
    }
    fleet.learns(1, &chat("Is anybody there, 19?")).await;
}
