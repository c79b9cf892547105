//! Deliveries: at least once, one after the other has given up, and each with the same key.

use std::collections::HashSet;

use sha2::{Digest, Sha256};

use super::super::outbox::CLAIM_MS;
use super::*;
use crate::store::postgres::tests::EmptyDatabase;

const LEVELS: [f64; 3] = [0.5, 0.8, 1.0];

/// HMAC-SHA256 as RFC 2104 writes it down, by nobody's library.
fn hmac(key: &[u8], message: &[u8]) -> String {
    assert!(key.len() <= 64);
    let pad = |with: u8| -> Vec<u8> { (0..64).map(|at| key.get(at).copied().unwrap_or(0) ^ with).collect() };
    let inner = Sha256::digest([pad(0x36).as_slice(), message].concat());
    let outer = Sha256::digest([pad(0x5c).as_slice(), inner.as_slice()].concat());
    outer.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn a_receiver_that_fails_twice_gets_the_alert_once_and_can_tell_by_its_key() {
    let rig = Rig::start().await;
    rig.world.budget("acme", Period::Month, &LEVELS, 100, 85);
    rig.receiver.then(500, "not now");
    rig.receiver.then(503, "");
    let mut replica = rig.replica();
    replica.look().await;
    replica.look().await;
    assert_eq!(replica.alerts.deliver_due(0).await.unwrap(), 1);
    let (_, deliveries) = rig.listed().await.into_iter().find(|(_, deliveries)| !deliveries.is_empty()).unwrap();
    assert_eq!(
        (deliveries[0].state.as_str(), deliveries[0].error.as_deref()),
        ("pending", Some("answered 500: not now"))
    );
    assert_eq!(replica.alerts.deliver_due(0).await.unwrap(), 0, "it pauses first");
    for _ in 0..6 {
        rig.clock.advance_ms(10_000);
        replica.alerts.deliver_due(0).await.unwrap();
    }
    let received = rig.receiver.received();
    assert_eq!(received.len(), 3, "two failures and a success");
    let id = format!("budget:acme:month:{}:80:100.00", NOON - 12 * HOUR);
    for request in &received {
        assert_eq!(request.header("idempotency-key"), format!("{id}:webhook"));
        assert_eq!(request.body, received[0].body);
        let signed = format!("{}.{}", request.header("x-remora-timestamp"), request.body);
        assert_eq!(request.header("x-remora-signature"), format!("v1={}", hmac(SECRET.as_bytes(), signed.as_bytes())));
        assert!(!request.body.contains(SECRET));
    }
    assert_ne!(received[0].header("x-remora-timestamp"), received[2].header("x-remora-timestamp"));
    let body = received[0].json();
    assert_eq!((body["id"].as_str(), body["kind"].as_str()), (Some(id.as_str()), Some("budget_threshold")));
    assert_eq!(body["title"], "acme: budget month: 80 % of $100.00 is spent ($85.00)");
    assert_eq!((body["details"]["spent"].as_str(), body["details"]["left"].as_str()), (Some("85.00"), Some("15.00")));
    let listed = rig.listed().await;
    let states: Vec<_> = listed.iter().flat_map(|(_, deliveries)| deliveries).collect();
    assert_eq!((states.len(), states[0].state.as_str(), states[0].attempts), (1, "sent", 3));
    let series = String::from_utf8(replica.metrics.render()).unwrap();
    for line in [
        "remora_alerts_total{kind=\"budget_threshold\"} 2",
        "remora_budget_alerts_total{tenant=\"acme\",threshold=\"80\"} 1",
        "remora_alert_delivery_failures_total{channel=\"webhook\"} 2",
        "remora_alert_deliveries_total 1",
        "remora_alert_outbox_depth 0",
    ] {
        assert!(series.contains(line), "{line} is not in {series}");
    }
}

#[tokio::test]
async fn a_receiver_that_never_works_is_given_up_when_the_time_is_over() {
    let mut rig = Rig::start().await;
    rig.settings.retry = Duration::from_secs(60);
    rig.world.budget("acme", Period::Month, &LEVELS, 100, 60);
    (0..100).for_each(|_| rig.receiver.then(502, ""));
    let mut replica = rig.replica();
    replica.look().await;
    for _ in 0..100 {
        replica.alerts.deliver_due(0).await.unwrap();
        rig.clock.advance_ms(2_000);
    }
    let (_, deliveries) = &rig.listed().await[0];
    assert_eq!((deliveries[0].state.as_str(), deliveries[0].error.as_deref()), ("failed", Some("answered 502")));
    let tries = rig.receiver.received().len();
    assert!((3..=8).contains(&tries), "{tries} tries in a minute");
}

#[tokio::test]
async fn what_a_dead_replica_has_claimed_is_sent_by_another() {
    let rig = Rig::start().await;
    rig.world.budget("acme", Period::Month, &LEVELS, 100, 60);
    let mut replica = rig.replica();
    replica.look().await;
    let claimed = rig.database.stores().alerts.claim("webhook", NOON, NOON + CLAIM_MS, 8).await.unwrap();
    assert_eq!(claimed.len(), 1);
    // The one that claimed it is gone; another starts.
    drop(replica);
    let replica = rig.replica();
    assert_eq!(replica.alerts.deliver_due(0).await.unwrap(), 0);
    rig.clock.advance_ms(CLAIM_MS + 1);
    assert_eq!(replica.alerts.deliver_due(0).await.unwrap(), 1);
    assert_eq!(rig.receiver.received().len(), 1);
    let (_, deliveries) = &rig.listed().await[0];
    assert_eq!((deliveries[0].state.as_str(), deliveries[0].attempts), ("sent", 2));
}

#[tokio::test]
async fn three_replicas_on_one_database_tell_everything_once() {
    const TENANTS: usize = 40;
    let database = EmptyDatabase::new().await;
    let rig = Rig::start().await;
    for number in 0..TENANTS {
        rig.world.budget(&format!("t{number}"), Period::Month, &LEVELS, 100, 85);
    }
    let mut databases = Vec::new();
    for _ in 0..3 {
        databases.push(open(&database.url).await);
    }
    let mut replicas = Vec::new();
    for database in &databases {
        let mut replica = rig.replica_on(database);
        replicas.push(tokio::spawn(async move {
            replica.look().await;
            while replica.alerts.deliver_due(0).await.unwrap() > 0 {}
            replica.look().await;
        }));
    }
    for replica in replicas {
        replica.await.unwrap();
    }
    let last = rig.replica_on(&databases[0]);
    while last.alerts.deliver_due(0).await.unwrap() > 0 {}
    let received = rig.receiver.received();
    let keys: HashSet<_> = received.iter().map(|request| request.header("idempotency-key").to_owned()).collect();
    assert_eq!((received.len(), keys.len()), (TENANTS, TENANTS));
    let stored = databases[0].stores().alerts.alerts(None, None, 1_000).await.unwrap();
    assert_eq!(stored.len(), 2 * TENANTS, "80 % is told, 50 % is stored as told");
    for database in databases {
        database.close().await;
    }
}

#[tokio::test]
async fn a_test_says_of_each_channel_what_became_of_it_and_gives_no_secret_away() {
    let mut rig = Rig::start().await;
    let (slack, url) = Receiver::start().await;
    slack.then(404, "no_service for /services/canary-slack-token at all");
    rig.settings.slack = Some(Secret::new(format!("{url}/services/canary-slack-token")));
    let replica = rig.replica();
    let delivering = Arc::clone(&replica.alerts);
    let delivering = tokio::spawn(async move { delivering.deliver().await });
    let (alert, deliveries) = replica.alerts.test(None).await.unwrap();
    let told: Vec<_> = deliveries.iter().map(|d| (d.channel.as_str(), d.state.as_str(), d.error.as_deref())).collect();
    assert_eq!(
        told,
        [("slack", "failed", Some("answered 404: no_service for *** at all")), ("webhook", "sent", None)],
        "a test is tried once"
    );
    assert_eq!(rig.receiver.received()[0].json()["id"], alert.id);
    assert_eq!(slack.received()[0].path, "/services/canary-slack-token");
    let (_, deliveries) = replica.alerts.test(Some("webhook")).await.unwrap();
    assert_eq!((deliveries.len(), slack.received().len()), (1, 1));
    let error = replica.alerts.test(Some("pager")).await.unwrap_err();
    assert_eq!(error.to_string(), "there is no channel `pager`; configured in [alerts]: webhook, slack");
    delivering.abort();
}

#[tokio::test]
async fn a_channel_that_never_answers_delays_no_other_and_one_that_is_gone_is_given_up() {
    let mut rig = Rig::start().await;
    // Takes connections and says nothing.
    let dead = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    rig.settings.slack = Some(Secret::new(format!("http://{}/services/x", dead.local_addr().unwrap())));
    let replica = rig.replica();
    let store = rig.database.stores().alerts;
    let alert = |id: String| AlertRow {
        id,
        at: NOON,
        tenant: None,
        kind: "test".into(),
        title: "t".into(),
        payload: "{}".into(),
    };
    for number in 0..8 {
        assert!(store.raise(&alert(format!("dead-{number}")), &["slack".to_owned()]).await.unwrap());
    }
    assert!(store.raise(&alert("gone".into()), &["pager".to_owned()]).await.unwrap());
    let slow = Arc::clone(&replica.alerts);
    let slow = tokio::spawn(async move { slow.deliver_due(1).await });
    let held = dead.accept().await.unwrap();
    assert!(store.raise(&alert("quick".into()), &["webhook".to_owned()]).await.unwrap());
    assert_eq!(replica.alerts.deliver_due(0).await.unwrap(), 1);
    assert_eq!((rig.receiver.received().len(), slow.is_finished()), (1, false));
    assert_eq!(replica.alerts.deliver_due(2).await.unwrap(), 1);
    let listed = rig.listed().await;
    let gone = listed.iter().find(|(alert, _)| alert.id == "gone").unwrap();
    assert_eq!(gone.1[0].state, "failed");
    slow.abort();
    drop(held);
}
