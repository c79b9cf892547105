//! Several replicas through one Redis.

use super::*;
use crate::limit::period::Span;
use crate::limit::plan::Plan;
use crate::shared::tests::{Server, common, eventually, ready, space};

/// Two replicas with one Redis, one ledger and one clock.
async fn pair() -> (Rig, Rig) {
    let (space, ledger, clock) = (space(), Arc::default(), Clock::manual(NOON));
    let one = Rig::beside(Some(ready(&common(), &space).await), None, &ledger, &clock).running();
    let two = Rig::beside(Some(ready(&common(), &space).await), None, &ledger, &clock).running();
    (one, two)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_admit_exactly_what_the_budget_is_for_and_count_every_nano_dollar() {
    let (one, two) = pair().await;
    for _ in 0..3 {
        let who = Arc::new(Who::budget(vec![budget("month", 100_000)]));
        let holds = all_at_once(&[&one, &two], &who, 500).await;
        assert_eq!(holds.len(), 100);
        let mut spent = 0;
        for (number, hold) in (0..).zip(holds) {
            if number % 3 == 0 {
                drop(hold);
                continue;
            }
            one.ledger.add(&who, NOON, number);
            spent += number;
            hold.settle(used(0, number));
        }
        one.settled().await;
        two.settled().await;
        assert_eq!(two.standing(&who).await, (spent, 0));
        let standings = one.limiter.budgets(&who.tenant, &who.terms.tenant, NOON).await;
        assert_eq!(standings[0].drift, NanoUsd(0));
    }
}

#[tokio::test]
async fn a_miss_costs_one_round_trip_and_a_hit_on_lease_none() {
    let rig = pair().await.0;
    let limits = RateLimits { rpm: Some(6_000), tpm: Some(1_000_000), tpd: None, concurrency: Some(100) };
    let spec = TenantSpec {
        limits,
        budgets: vec![budget("day", 1_000_000), budget("1h", 1_000_000)],
        ..TenantSpec::default()
    };
    let who = Who::new(spec, limits);
    drop(rig.admit(&who, 10, 10).await.unwrap());
    rig.settled().await;
    let before = rig.calls();
    let hold = rig.admit(&who, 10, 10).await.unwrap();
    assert_eq!(rig.calls() - before, 1);
    drop(hold);
    rig.settled().await;

    let before = rig.calls();
    for left in (0..600).rev() {
        let allowance = rig.request(&who).await.unwrap();
        assert_eq!(allowance.requests.unwrap().remaining, 5_400 + left, "the lease is told as what is left");
    }
    assert_eq!(rig.calls() - before, 10, "sixty on each lease");
}

#[tokio::test]
async fn leases_never_let_more_through_than_the_limit_and_what_is_left_of_them_goes_back() {
    let (one, two) = pair().await;
    let who = Who::new(TenantSpec::default(), RateLimits { rpm: Some(1_000), ..RateLimits::default() });
    let mut passed = 0;
    for _ in 0..300 {
        one.request(&who).await.unwrap();
        two.request(&who).await.unwrap();
        passed += 2;
    }
    // One goes away with what it has on lease.
    one.clock.advance_ms(1_001);
    one.limiter.beat_once().await;
    one.settled().await;
    while two.request(&who).await.is_ok() {
        passed += 1;
    }
    // A second and a millisecond are 16 more.
    assert_eq!(passed, 1_016);
    let denied = one.request(&who).await.unwrap_err();
    assert!(matches!(denied, Denied::Requests { whose: "key", limit: 1_000, .. }), "{denied:?}");
}

#[tokio::test]
async fn settling_twice_counts_once() {
    let rig = pair().await.0;
    let who = Who::budget(vec![budget("day", 1_000_000)]);
    let hold = rig.admit(&who, 0, 1_000).await.unwrap();
    let end = hold.record_for_tests().plan.settlement(used(0, 700), true, true);
    let door = rig.limiter.door.as_ref().unwrap();
    assert!(door.settle(&end).await.unwrap());
    assert!(!door.settle(&end).await.unwrap());
    hold.settle(used(0, 700));
    rig.settled().await;
    assert_eq!(rig.standing(&who).await, (700, 0));
    // Nor does a renewal that comes late hold anything again.
    door.renew(&Plan::admit(&who.caller(), &Wish { request: end.request.unwrap(), ..wish(NOON, 0, 1_000) }, 30_000))
        .await
        .unwrap();
    assert_eq!(rig.standing(&who).await, (700, 0));
}

#[tokio::test]
async fn a_caller_who_leaves_in_the_middle_of_the_question_leaves_nothing_behind() {
    let rig = pair().await.0;
    let limits = RateLimits { concurrency: Some(1), ..RateLimits::default() };
    let spec = TenantSpec { limits, budgets: vec![budget("day", 1_000)], ..TenantSpec::default() };
    let who = Who::new(spec, RateLimits::default());
    drop(rig.admit(&who, 0, 1_000).await.unwrap());
    rig.settled().await;
    for polls in 0..6 {
        let leaves = async {
            for _ in 0..polls {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            asked = rig.admit(&who, 0, 1_000) => drop(asked.unwrap()),
            () = leaves => {}
        }
        rig.settled().await;
        assert_eq!(rig.standing(&who).await, (0, 0), "after {polls} polls");
        let hold = rig.admit(&who, 0, 1_000).await.unwrap();
        drop(hold);
        rig.settled().await;
    }
}

#[tokio::test]
async fn an_emptied_redis_starts_from_the_ledger_and_holds_again_what_lives() {
    let server = Server::start(&[]);
    let rig = Rig::of(Some(ready(&server.settings(), &space()).await), None).running();
    let who = Who::budget(vec![budget("month", 10_000)]);
    let hold = rig.admit(&who, 0, 1_000).await.unwrap();
    rig.admit(&who, 0, 1_000).await.unwrap().settle(used(0, 600));
    rig.settled().await;
    rig.ledger.add(&who, NOON, 600);
    server.order::<String>("FLUSHALL");
    assert!(matches!(rig.admit(&who, 0, 9_401).await, Err(Denied::Budget { used: NanoUsd(600), .. })));
    rig.limiter.renew_all().await;
    assert_eq!(rig.standing(&who).await, (600, 1_000));
    hold.settle(used(0, 50));
    rig.settled().await;
    assert_eq!(rig.standing(&who).await, (650, 0));
    // The scripts are gone, too.
    server.order::<String>("SCRIPT FLUSH");
    drop(rig.admit(&who, 0, 9_350).await.unwrap());
}

#[tokio::test]
async fn what_a_replica_that_was_killed_held_expires() {
    let (one, two) = pair().await;
    let limits = RateLimits { concurrency: Some(3), ..RateLimits::default() };
    let spec = TenantSpec { limits, budgets: vec![budget("day", 3_000)], ..TenantSpec::default() };
    let who = Who::new(spec, RateLimits::default());
    for _ in 0..3 {
        let hold = one.admit(&who, 0, 1_000).await.unwrap();
        one.limiter.live.remove(&hold.record_for_tests().plan);
        std::mem::forget(hold);
    }
    assert!(two.admit(&who, 0, 1_000).await.is_err());
    two.clock.advance_ms(29_999);
    assert!(two.admit(&who, 0, 1_000).await.is_err());
    two.clock.advance_ms(1);
    for _ in 0..3 {
        two.admit(&who, 0, 1_000).await.unwrap().settle(used(0, 1_000));
    }
    two.settled().await;
    assert_eq!(two.standing(&who).await, (3_000, 0));
}

#[tokio::test]
async fn what_was_lost_while_nobody_looked_is_made_good_when_a_budget_comes_into_use() {
    let (one, two) = pair().await;
    let who = Who::budget(vec![budget("month", 10_000)]);
    drop(one.admit(&who, 0, 1_000).await.unwrap());
    // Of a replica that was killed with it: its row is in the ledger, its settlement was never sent.
    one.ledger.add(&who, NOON, 4_000);
    drop(two.admit(&who, 0, 1_000).await.unwrap());
    for _ in 0..1_000 {
        if two.standing(&who).await.0 == 4_000 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never made good: {:?}", two.standing(&who).await);
}

#[tokio::test]
async fn a_counter_is_not_lowered_while_a_replica_has_rows_that_the_ledger_lacks() {
    let server = Server::start(&[]);
    let space = space();
    let one = Rig::of(Some(ready(&server.settings(), &space).await), None).running();
    let two = Rig::beside(Some(ready(&server.settings(), &space).await), None, &one.ledger, &one.clock).running();
    let who = Who::budget(vec![budget("month", 10_000)]);
    two.admit(&who, 0, 1_000).await.unwrap().settle(used(0, 600));
    two.settled().await;
    drop(one.admit(&who, 0, 1).await.unwrap());
    one.settled().await;
    two.behind.store(true, Ordering::SeqCst);
    for rig in [&two, &one] {
        rig.limiter.beat_once().await;
    }
    for _ in 0..4 {
        one.limiter.reconcile().await;
    }
    assert_eq!(one.standing(&who).await, (600, 0), "the row may come");
    two.behind.store(false, Ordering::SeqCst);
    for rig in [&two, &one] {
        rig.limiter.beat_once().await;
    }
    drop(one.admit(&who, 0, 1).await.unwrap());
    one.settled().await;
    for _ in 0..3 {
        one.limiter.reconcile().await;
    }
    assert_eq!(one.standing(&who).await, (0, 0), "no row will");
}

#[tokio::test]
async fn what_may_wait_elsewhere_is_raised_in_the_second_round_and_no_further_than_the_first_said() {
    let one = pair().await.0;
    let who = Who::budget(vec![budget("month", 10_000)]);
    let span = Span::of(who.terms.tenant.budgets[0].period, NOON);
    let key = plan::counter_key(&who.tenant, &who.terms.tenant.budgets[0]);
    let door = one.limiter.door.as_ref().unwrap();
    door.seed(&who.tenant, &key, &span, &[(span.charged(), 0)]).await.unwrap();
    let watched = [(who.tenant.clone(), Arc::clone(&who.terms.tenant))];
    one.ledger.add(&who, NOON, 500);
    one.limiter.compare_all(&watched, true).await;
    assert_eq!(one.standing(&who).await, (0, 0));
    one.ledger.add(&who, NOON, 30);
    one.limiter.compare_all(&watched, true).await;
    assert_eq!(one.standing(&who).await, (500, 0));
}

#[tokio::test]
async fn every_key_expires() {
    let server = Server::start(&[]);
    let rig = Rig::of(Some(ready(&server.settings(), &space()).await), None).running();
    let limits = RateLimits { rpm: Some(10), tpm: Some(1), tpd: Some(10), concurrency: Some(1) };
    let spec = TenantSpec { limits, budgets: vec![budget("1m", 10), budget("month", 10)], ..TenantSpec::default() };
    let who = Who::new(spec, limits);
    rig.request(&who).await.unwrap();
    let hold = rig.admit(&who, 1, 1).await.unwrap();
    eventually("it beats", || server.order::<Vec<String>>("KEYS *").iter().any(|key| key.ends_with("seen"))).await;
    let all = |server: &Server| server.order::<Vec<String>>("KEYS *");
    let expires = |key: &String| server.order::<i64>(&format!("PTTL {key}")) > 0;
    assert!(all(&server).iter().all(expires), "{:?}", all(&server));
    hold.settle(used(1_000_000, 1));
    rig.settled().await;
    assert!(all(&server).iter().all(expires), "{:?}", all(&server));
    assert!(all(&server).len() >= 6, "{:?}", all(&server));
}
