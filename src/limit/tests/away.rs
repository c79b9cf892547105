//! Redis away, hanging and back; PostgreSQL in its place; neither.

use super::*;
use crate::shared::tests::{Server, eventually, ready, space};
use crate::store::postgres::tests::EmptyDatabase;

/// A replica of `server`, with what others have, too.
async fn replica(server: &Server, space: &crate::store::Digest, beside: Option<&Rig>) -> (Rig, Shared) {
    let shared = ready(&server.settings(), space).await;
    let rig = match beside {
        Some(other) => Rig::beside(Some(shared.clone()), None, &other.ledger, &other.clock),
        None => Rig::of(Some(shared.clone()), None),
    };
    (rig, shared)
}

async fn away(shared: &Shared) {
    eventually("it is away", || !shared.stats().up).await;
}

async fn back(shared: &Shared) {
    eventually("it is back", || shared.stats().up).await;
}

#[tokio::test]
async fn without_redis_each_replica_takes_its_share_and_the_way_back_has_no_burst() {
    let (mut server, space) = (Server::start(&[]), space());
    let (one, one_shared) = replica(&server, &space, None).await;
    let (two, two_shared) = replica(&server, &space, Some(&one)).await;
    for rig in [&one, &two, &one] {
        rig.limiter.beat_once().await;
    }
    let who = Who::limits(RateLimits { rpm: Some(20), tpm: Some(200), ..RateLimits::default() });
    drop(one.admit(&who, 100, 0).await.unwrap());
    server.kill();
    away(&one_shared).await;
    away(&two_shared).await;
    for rig in [&one, &two] {
        for _ in 0..10 {
            rig.request(&who).await.unwrap();
        }
        let denied = rig.request(&who).await.unwrap_err();
        assert!(matches!(denied, Denied::Requests { limit: 10, .. }), "{denied:?}");
        assert_eq!(rig.metrics.limits.degraded.get(), 1);
        // The number of replicas that was seen last holds.
        rig.limiter.beat_once().await;
    }
    // One had seen that half of the tokens were taken: its share is half of what it knew of.
    assert!(one.admit(&who, 51, 0).await.is_err());
    one.admit(&who, 50, 0).await.unwrap().settle(used(50, 0));
    two.admit(&who, 100, 0).await.unwrap().settle(used(100, 0));
    let denied = two.admit(&who, 201, 0).await.unwrap_err();
    assert!(matches!(denied, Denied::Tokens { retry_after: None, .. }), "more than the whole limit: {denied:?}");
    two.clock.advance_ms(30_000);
    // More than a share, and less than the limit, waits for the share to be full.
    assert!(matches!(two.admit(&who, 150, 0).await, Err(Denied::Tokens { retry_after: Some(_), .. })));

    server.restart();
    back(&one_shared).await;
    back(&two_shared).await;
    one.limiter.beat_once().await;
    assert_eq!(one.metrics.limits.degraded.get(), 0);
    // An empty Redis would give all twenty at once. Of its ten each has got back five; what they lack is taken off.
    let mut passed = 0;
    for rig in [&one, &two, &one, &two] {
        while rig.request(&who).await.is_ok() {
            passed += 1;
        }
    }
    assert_eq!(passed, 10 + 5, "one asks first, with what it lacks, two then, with what it lacks");
}

#[tokio::test]
async fn a_redis_that_hangs_is_left_alone_soon_and_holds_nobody_up() {
    let server = Server::start(&[]);
    let (rig, shared) = replica(&server, &space(), None).await;
    let limits = RateLimits { rpm: Some(1_000), tpm: Some(1_000_000), ..RateLimits::default() };
    let who = Who::limits(limits);
    drop(rig.admit(&who, 1, 0).await.unwrap());
    let asked = shared.stats().asked;
    server.signal("-STOP");
    for _ in 0..200 {
        rig.request(&who).await.unwrap();
        drop(rig.admit(&who, 1, 0).await.unwrap());
    }
    let stats = shared.stats();
    assert!(stats.open && stats.timeouts <= 8, "{stats:?}");
    assert!(stats.asked - asked <= 20, "{stats:?}");
    server.signal("-CONT");
}

#[tokio::test]
async fn without_redis_money_is_held_in_the_database_and_all_is_counted_when_it_is_back() {
    let (mut server, space, database) = (Server::start(&[]), space(), EmptyDatabase::new().await);
    let shared = ready(&server.settings(), &space).await;
    let counters = database.open().await.stores().counters;
    let rig = Rig::of(Some(shared.clone()), counters.clone()).running();
    let other = Rig::beside(Some(ready(&server.settings(), &space).await), counters, &rig.ledger, &rig.clock).running();
    let who = Arc::new(Who::budget(vec![budget("month", 100_000)]));
    // Through Redis, and in the ledger; the database has not heard of it.
    for _ in 0..2 {
        rig.admit(&who, 0, 1_000).await.unwrap().settle(used(0, 10_000));
        rig.ledger.add(&who, NOON, 10_000);
        rig.settled().await;
        server.kill();
        away(&shared).await;
        eventually("the other knows", || other.metrics.limits.degraded.get() == 1).await;
        let holds = all_at_once(&[&rig, &other], &who, 60).await;
        let spent: i64 = rig.ledger.rows.lock().unwrap().iter().map(|(_, row)| row.nano_usd).sum();
        assert_eq!(i64::try_from(holds.len()).unwrap(), ((100_000 - spent) / 1_000).min(120));
        for (number, hold) in holds.into_iter().enumerate() {
            if number < 10 {
                rig.ledger.add(&who, NOON, 1_000);
                hold.settle(used(0, 1_000));
            }
        }
        server.restart();
        back(&shared).await;
        rig.settled().await;
        other.settled().await;
        // Redis is empty; it begins with the ledger, and then gets what had waited for it: never too little.
        drop(rig.admit(&who, 0, 1).await.unwrap());
        rig.limiter.rebuild(&who.tenant, &who.terms.tenant).await.unwrap();
        assert_eq!(rig.standing(&who).await, (spent + 10_000, 0));
    }
}

#[tokio::test]
async fn with_neither_a_hard_budget_closes_after_its_allowance_and_a_soft_one_stays_open() {
    let mut server = Server::start(&[]);
    let (rig, shared) = replica(&server, &space(), None).await;
    let rig = rig.running();
    let who = Who::budget(vec![budget("month", 100_000)]);
    rig.admit(&who, 0, 1_000).await.unwrap().settle(used(0, 1_000));
    rig.settled().await;
    server.kill();
    away(&shared).await;
    rig.admit(&who, 0, 1_000).await.unwrap().settle(used(0, 600));
    rig.admit(&who, 0, 400).await.unwrap().settle(used(0, 400));
    assert!(matches!(rig.admit(&who, 0, 1).await, Err(Denied::Unavailable { .. })));
    let soft = Who::budget(vec![Budget { hard: false, ..budget("month", 1) }]);
    drop(rig.admit(&soft, 0, 1_000_000).await.unwrap());
    let large = Who::budget(vec![budget("month", i64::MAX)]);
    assert!(matches!(rig.admit(&large, 0, 1_000_000_001).await, Err(Denied::Unavailable { .. })), "a dollar at most");
    drop(rig.admit(&large, 0, 1_000_000_000).await.unwrap());

    for cost in [1_000, 600, 400] {
        rig.ledger.add(&who, NOON, cost);
    }
    server.restart();
    back(&shared).await;
    rig.settled().await;
    drop(rig.admit(&who, 0, 1).await.unwrap());
    rig.settled().await;
    assert_eq!(rig.standing(&who).await, (2_000, 0), "what was spent meanwhile is known, and counts once");
}

#[tokio::test]
async fn what_redis_held_when_it_went_away_is_held_and_counted_in_the_database() {
    let (mut server, database) = (Server::start(&[]), EmptyDatabase::new().await);
    let shared = ready(&server.settings(), &space()).await;
    let rig = Rig::of(Some(shared.clone()), database.open().await.stores().counters).running();
    let who = Who::budget(vec![budget("month", 10_000)]);
    let lives = rig.admit(&who, 0, 1_000).await.unwrap();
    let ends = rig.admit(&who, 0, 2_000).await.unwrap();
    server.kill();
    away(&shared).await;
    let denied = rig.admit(&who, 0, 7_001).await.unwrap_err();
    assert!(matches!(denied, Denied::Budget { used: NanoUsd(3_000), .. }), "{denied:?}");
    ends.settle(used(0, 500));
    eventually("it is counted there", || rig.limiter.to_counters.waiting() == 0).await;
    let denied = rig.admit(&who, 0, 8_501).await.unwrap_err();
    assert!(matches!(denied, Denied::Budget { used: NanoUsd(1_500), .. }), "{denied:?}");
    drop(lives);
}
