//! Money that is held for requests whose replica dies: it comes back by itself, and nothing is lost or counted twice.

use std::net::SocketAddr;
use std::time::Duration;

use http::{Method, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use remora::config::NanoUsd;
use remora::simulate::{self, Options};
use serde_json::Value;

use crate::child::{Home, Http, Running, chat_request, try_exchange, until};
use crate::fleet::{Database, service};
use crate::rig::{Answer, chat};

const KEY: &str = "rk-holds-0123456789abcdef";
/// Requests that are with upstream when their replica is killed.
const IN_FLIGHT: usize = 200;

fn home(upstream: &str, redis: bool) -> Home {
    let redis = if redis {
        format!("[redis]\nurl = \"{}\"\ndeadline = \"1s\"\nin_flight = 1024\n", service("REDIS_URL"))
    } else {
        String::new()
    };
    let terms = "[limits]\nhold = \"5s\"\ndeadline = \"5s\"\n[[tenant]]\nname = \"acme\"\nupstream_api_key_env = \"UPSTREAM_KEY\"\nlimits = { concurrency = 1000 }\n\
                 budgets = [{ period = \"month\", usd = \"100\" }]\n[[tenant.key]]\nname = \"app\"\nsecret_env = \"APP_KEY\"";
    // The secret of both replicas is one, as they share a database.
    Home::new(upstream).exact().env("APP_KEY", KEY).env("UPSTREAM_KEY", "sk-upstream").with(&redis).with(terms)
}

async fn budget(running: &Running) -> (i64, i64) {
    let told = running.told("/admin/v1/tenants/acme/budgets").await;
    let amount = |name: &str| told["budgets"][0][name].as_str().unwrap().parse::<NanoUsd>().unwrap().0;
    (amount("spent"), amount("held"))
}

async fn ask(client: Http, data: SocketAddr, prompt: String) -> Result<Answer, String> {
    try_exchange(&client, chat_request(data, KEY, &[], &chat(&prompt))).await
}

/// What the ledger says was spent, nano-dollars.
async fn ledger(database: &Database) -> i64 {
    database.number("SELECT COALESCE(SUM(cost_nano_usd), 0)::bigint FROM requests WHERE tenant = 'acme'").await
}

async fn killed_with_requests_in_flight(redis: bool) {
    let slow = Options { latency: Duration::from_secs(30), ..Options::default() };
    let quick = simulate::spawn(Options::default(), "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let slow = simulate::spawn(slow, "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let database = Database::new().await;
    let (survivor, victim) = (home(&quick.url(), redis), home(&slow.url(), redis));
    let url = database.url();
    let secret = survivor.path("secret.key");
    // What is counted in Redis is kept under it, so it must be another one each time.
    std::fs::write(&secret, std::array::from_fn::<u8, 32, _>(|_| fastrand::u8(..))).unwrap();
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let secret = format!("[store]\nsecret_file = \"{}\"", secret.display());
    let (survivor, victim) = (survivor.with(&secret), victim.with(&secret));
    let a = survivor.serve(&["--store", &url]).ready().await;
    let mut b = victim.serve(&["--store", &url]).ready().await;

    // Some requests that are paid for, on the replica that dies as well: its upstream takes its time for models only.
    for n in 0..20 {
        let answer = a.chat(KEY, &chat(&format!("paid {n}"))).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    }
    let client: Http = Client::builder(TokioExecutor::new()).build_http();
    let asked: Vec<_> =
        (0..IN_FLIGHT).map(|n| tokio::spawn(ask(client.clone(), b.data, format!("in flight {n}")))).collect();
    until("all requests are with upstream", || async {
        let ended = asked.iter().filter(|request| request.is_finished()).count();
        assert_eq!(ended, 0, "requests that were to wait for upstream have ended");
        (slow.stats().requests >= IN_FLIGHT as u64).then_some(())
    })
    .await;
    let (_, held) = budget(&a).await;
    assert!(held > 0, "the other replica sees what is held");

    b.child.signal("KILL");
    b.child.ended().await;
    for request in asked {
        assert!(request.await.unwrap().is_err(), "nobody has got an answer");
    }
    // While the holds are there, those who are left go on; then they expire.
    assert_eq!(a.chat(KEY, &chat("meanwhile")).await.status, StatusCode::OK);
    let spent = until("the holds of the dead replica expire", || async {
        let (spent, held) = budget(&a).await;
        (held == 0).then_some(spent)
    })
    .await;
    assert_eq!(spent, ledger(&database).await, "what was paid is counted once");

    // Back again: its journal is read, and still nothing is counted twice.
    let b = victim.serve(&["--store", &url]).ready().await;
    let answer = b.admin(Method::GET, "/admin/v1/tenants/acme/budgets", None).await;
    assert_eq!(answer.status, StatusCode::OK);
    until("both agree with the ledger", || async {
        let (of_a, of_b, ledger) = (budget(&a).await, budget(&b).await, ledger(&database).await);
        (of_a == of_b && of_a == (ledger, 0)).then_some(())
    })
    .await;
    let rows: Value = a.told("/admin/v1/requests?tenant=acme&limit=500").await;
    let rows = rows["data"].as_array().unwrap();
    let answered = rows.iter().filter(|row| row["status"] == 200).count();
    assert_eq!(answered, 21, "each answer has one row");
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_killed_with_two_hundred_requests_in_flight_leaves_no_hold_and_no_double() {
    killed_with_requests_in_flight(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_without_redis() {
    killed_with_requests_in_flight(false).await;
}
