//! Several replicas through PostgreSQL alone.

use super::*;
use crate::store::postgres::tests::EmptyDatabase;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_admit_exactly_what_the_budget_is_for() {
    let database = EmptyDatabase::new().await;
    let one = Rig::of(None, database.open().await.stores().counters).running();
    let two = Rig::beside(None, database.open().await.stores().counters, &one.ledger, &one.clock).running();
    for period in ["month", "1h"] {
        let who = Arc::new(Who::budget(vec![budget(period, 20_000)]));
        one.ledger.add(&who, NOON - MINUTE, 5_000);
        let holds = all_at_once(&[&one, &two], &who, 15).await;
        assert_eq!(holds.len(), 15, "{period}");
        let mut spent = 5_000;
        for (number, hold) in (0..).zip(holds) {
            if number % 3 == 0 {
                drop(hold);
                continue;
            }
            spent += number;
            one.ledger.add(&who, NOON, number);
            hold.settle(used(0, number));
        }
        one.settled().await;
        two.settled().await;
        assert_eq!(two.standing(&who).await, (spent, 0), "{period}");
        let standings = one.limiter.budgets(&who.tenant, &who.terms.tenant, NOON).await;
        assert_eq!(standings[0].drift, NanoUsd(0), "{period}");
        assert_eq!(one.metrics.limits.degraded.get(), 0);
    }
}

#[tokio::test]
async fn holds_are_renewed_while_they_live_and_expire_when_they_do_not() {
    let database = EmptyDatabase::new().await;
    let rig = Rig::of(None, database.open().await.stores().counters).running();
    let who = Who::budget(vec![budget("day", 2_000)]);
    let alive = rig.admit(&who, 0, 1_000).await.unwrap();
    let dead = rig.admit(&who, 0, 1_000).await.unwrap();
    rig.limiter.live.remove(&dead.record_for_tests().plan);
    std::mem::forget(dead);
    rig.clock.advance_ms(20_000);
    rig.limiter.renew_all().await;
    assert!(rig.admit(&who, 0, 1).await.is_err());
    rig.clock.advance_ms(10_001);
    assert_eq!(rig.standing(&who).await, (0, 1_000));
    alive.settle(used(0, 300));
    rig.settled().await;
    assert_eq!(rig.standing(&who).await, (300, 0));
}

#[tokio::test]
async fn many_at_once_sum_the_ledger_once_for_a_budget() {
    let database = EmptyDatabase::new().await;
    let rig = Rig::of(None, database.open().await.stores().counters).running();
    let who = Arc::new(Who::budget(vec![budget("month", 1_000_000)]));
    let asked = || rig.ledger.asked.load(Ordering::SeqCst);
    let seeding = rig.limiter.seeding(&who.tenant);
    // All of them look before the first may bring it up.
    let turn = seeding.turn().await.unwrap();
    let mut all = tokio::spawn({
        let (limiter, who) = (Arc::clone(&rig.limiter), Arc::clone(&who));
        async move {
            let one = |n: i64| {
                let (limiter, who) = (Arc::clone(&limiter), Arc::clone(&who));
                tokio::spawn(async move { limiter.admit(who.caller(), wish(NOON, 0, n)).await.unwrap() })
            };
            let tasks: Vec<_> = (0..40).map(one).collect();
            for task in tasks {
                drop(task.await.unwrap());
            }
        }
    });
    let _ = tokio::time::timeout(Duration::from_millis(300), &mut all).await;
    let before = asked();
    drop(turn);
    all.await.unwrap();
    // One for them, and one or two of the comparison in the background.
    assert!(asked() - before <= 3, "{}", asked() - before);
}
