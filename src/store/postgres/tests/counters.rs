//! Counters of budgets, used by several replicas at once.

use std::sync::atomic::{AtomicU64, Ordering};

use super::super::super::sample::request_id;
use super::super::super::{BudgetAsk, BudgetUse, CounterStore, HoldAsk, Holding};
use super::*;

const NOW: u64 = 1_000;
const LATER: u64 = 2_000;

fn ask(key: &str, slots: &[u64], limit: i64, amount: i64) -> BudgetAsk {
    BudgetAsk { key: key.into(), slots: slots.to_vec(), limit, amount }
}

async fn hold(counters: &dyn CounterStore, number: u64, asks: &[BudgetAsk]) -> Holding {
    hold_at(counters, number, asks, NOW, LATER).await
}

async fn hold_at(counters: &dyn CounterStore, number: u64, asks: &[BudgetAsk], now: u64, until: u64) -> Holding {
    let ask = HoldAsk { request: request_id(number), budgets: asks.to_vec(), expires_at: until };
    counters.hold(&[ask], now).await.unwrap().remove(0)
}

fn used(spent: i64, held: i64) -> BudgetUse {
    BudgetUse { spent, held }
}

async fn settle(counters: &dyn CounterStore, number: u64, keys: &[(&str, u64)], amount: i64) {
    let budgets: Vec<_> = keys.iter().map(|(key, slot)| ((*key).to_owned(), *slot)).collect();
    counters.settle(request_id(number), &budgets, amount, NOW).await.unwrap();
}

#[tokio::test]
async fn replicas_together_never_hold_more_than_there_is() {
    const TASKS: u64 = 16;
    const TRIES: u64 = 15;
    const LIMIT: i64 = 100;
    let temp = TempDatabase::open().await;
    let replicas = [Arc::clone(&temp.store), temp.database.open().await];
    for key in ["ann/day", "ann/month", "bob/day"] {
        temp.store.seed(key, &[(0, 0)]).await.unwrap();
    }
    let held = Arc::new(AtomicU64::new(0));
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let (store, held) = (Arc::clone(&replicas[usize::try_from(task).unwrap() % 2]), Arc::clone(&held));
            tokio::spawn(async move {
                for number in 0..TRIES {
                    // In both orders and across tenants, so that whoever waits in a circle is found out.
                    let mut asks = [
                        ask("ann/day", &[0], LIMIT, 3),
                        ask("ann/month", &[0], i64::MAX, 3),
                        ask("bob/day", &[0], i64::MAX, 3),
                    ];
                    if task % 2 == 1 {
                        asks.reverse();
                    }
                    let request = task * 100 + number;
                    match hold(&*store, request, &asks).await {
                        Holding::Held(_) => held.fetch_add(1, Ordering::SeqCst),
                        Holding::Short(place, found) => {
                            assert_eq!(asks[place].key, "ann/day");
                            assert!(found.spent + found.held + 3 > LIMIT && found.spent + found.held <= LIMIT);
                            continue;
                        }
                        Holding::Unseeded(_) => panic!("all are seeded"),
                    };
                    match number % 3 {
                        0 => {}
                        1 => settle(&*store, request, &[("ann/day", 0), ("ann/month", 0), ("bob/day", 0)], 1).await,
                        _ => store.settle(request_id(request), &[], 0, NOW).await.unwrap(),
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let found = temp.store.budget_use("ann/day", &[0], NOW).await.unwrap().unwrap();
    assert!(found.spent + found.held <= LIMIT && found.spent > 0 && found.held > 0, "{found:?}");
    for key in ["ann/month", "bob/day"] {
        assert_eq!(temp.store.budget_use(key, &[0], NOW).await.unwrap().unwrap(), found, "all three are held together");
    }
    assert!(held.load(Ordering::SeqCst) >= u64::try_from(found.spent + found.held / 3).unwrap());
}

#[tokio::test]
async fn a_budget_without_room_is_told_by_its_place_and_nothing_is_held() {
    let temp = TempDatabase::open().await;
    let counters = &*temp.store;
    counters.seed("t/a", &[(0, 5), (10, 6), (20, 100)]).await.unwrap();
    counters.seed("t/b", &[(0, 90)]).await.unwrap();
    let asks = [ask("t/a", &[0, 10], 21, 10), ask("t/b", &[0], 100, 10)];
    assert_eq!(
        hold(counters, 1, &asks).await,
        Holding::Held(vec![used(11, 0), used(90, 0)]),
        "to the last nano-dollar"
    );
    let short = [ask("t/a", &[0, 10], i64::MAX, 1), ask("t/b", &[0], 100, 1)];
    assert_eq!(hold(counters, 2, &short).await, Holding::Short(1, used(90, 10)));
    assert_eq!(counters.budget_use("t/a", &[10, 0], NOW).await.unwrap(), Some(used(11, 10)));
    // The same request again is no other hold, and is told what there is with its own.
    assert_eq!(hold(counters, 1, &asks).await, Holding::Held(vec![used(11, 10), used(90, 10)]));
    assert_eq!(counters.budget_use("t/b", &[0], NOW).await.unwrap(), Some(used(90, 10)));
}

#[tokio::test]
async fn a_budget_whose_counters_are_not_there_is_told_and_must_be_seeded() {
    let temp = TempDatabase::open().await;
    let counters = &*temp.store;
    counters.seed("t/a", &[(0, 1)]).await.unwrap();
    let asks = [ask("t/a", &[0], 10, 1), ask("t/a", &[0, 10], 10, 1), ask("t/b", &[0], 10, 1)];
    assert_eq!(hold(counters, 1, &asks).await, Holding::Unseeded(vec![1, 2]));
    assert_eq!(counters.budget_use("t/a", &[0], NOW).await.unwrap(), Some(used(1, 0)), "nothing is held");
    assert_eq!(counters.budget_use("t/a", &[0, 10], NOW).await.unwrap(), None);
    // A request that was let through without asking is counted, and does not make the counter whole.
    settle(counters, 2, &[("t/b", 0)], 4).await;
    assert_eq!(hold(counters, 1, &asks).await, Holding::Unseeded(vec![1, 2]));
    counters.seed("t/b", &[(0, 3)]).await.unwrap();
    counters.seed("t/a", &[(10, 7), (0, 0)]).await.unwrap();
    assert_eq!(counters.budget_use("t/b", &[0], NOW).await.unwrap(), Some(used(4, 0)), "seeding never lowers");
    counters.seed("t/b", &[(0, 9)]).await.unwrap();
    assert_eq!(counters.budget_use("t/b", &[0], NOW).await.unwrap(), Some(used(4, 0)), "nor raises what is seeded");
    assert_eq!(hold(counters, 1, &asks).await, Holding::Held(vec![used(1, 0), used(8, 0), used(4, 0)]));
}

#[tokio::test]
async fn a_request_is_counted_once_also_after_its_hold_has_expired_or_was_never_made() {
    let temp = TempDatabase::open().await;
    let counters = &*temp.store;
    counters.seed("t/a", &[(0, 0), (10, 0)]).await.unwrap();
    hold(counters, 1, &[ask("t/a", &[0, 10], 10, 8)]).await;
    for _ in 0..2 {
        settle(counters, 1, &[("t/a", 10)], 5).await;
        assert_eq!(counters.budget_use("t/a", &[0, 10], NOW).await.unwrap(), Some(used(5, 0)));
    }
    assert_eq!(counters.budget_use("t/a", &[0], NOW).await.unwrap(), Some(used(0, 0)), "in the slot that was charged");
    for _ in 0..2 {
        settle(counters, 2, &[("t/a", 10), ("t/a", 10)], 1).await;
    }
    assert_eq!(counters.budget_use("t/a", &[10], NOW).await.unwrap(), Some(used(6, 0)));
    // One that comes late finds nothing to hold for.
    hold(counters, 1, &[ask("t/a", &[0, 10], 100, 50)]).await;
    assert_eq!(counters.budget_use("t/a", &[10], NOW).await.unwrap(), Some(used(6, 0)));
}

#[tokio::test]
async fn many_requests_at_once_are_answered_as_one_after_another() {
    let temp = TempDatabase::open().await;
    let counters = &*temp.store;
    for key in ["t/a", "t/b"] {
        counters.seed(key, &[(0, 0)]).await.unwrap();
    }
    hold(counters, 1, &[ask("t/a", &[0], 10, 4)]).await;
    let asks = [
        // Known already: holds nothing more.
        (1, vec![ask("t/a", &[0], 10, 4)]),
        (2, vec![ask("t/a", &[0], 10, 3), ask("t/b", &[0], 5, 3)]),
        // Room in one and not in the other: neither is touched.
        (3, vec![ask("t/a", &[0], 10, 1), ask("t/b", &[0], 5, 3)]),
        (4, vec![ask("t/a", &[0], 10, 3)]),
        (4, vec![ask("t/a", &[0], 10, 3)]),
        (5, vec![ask("t/a", &[0], 10, 1)]),
        (6, vec![ask("t/new", &[0], 10, 1)]),
    ];
    let asks = asks.map(|(number, budgets)| HoldAsk { request: request_id(number), budgets, expires_at: LATER });
    let answers = counters.hold(&asks, NOW).await.unwrap();
    let shown: Vec<&str> = answers
        .iter()
        .map(|answer| match answer {
            Holding::Held(_) => "held",
            Holding::Short(place, _) => ["short of the first", "short of the second"][*place],
            Holding::Unseeded(_) => "unseeded",
        })
        .collect();
    assert_eq!(shown, ["held", "held", "short of the second", "held", "held", "short of the first", "unseeded"]);
    assert_eq!(counters.budget_use("t/a", &[0], NOW).await.unwrap(), Some(used(0, 10)));
    assert_eq!(counters.budget_use("t/b", &[0], NOW).await.unwrap(), Some(used(0, 3)));
}

#[tokio::test]
async fn a_hold_that_expires_gives_its_money_back_unless_it_is_renewed() {
    let temp = TempDatabase::open().await;
    let counters = &*temp.store;
    counters.seed("t/a", &[(0, 0)]).await.unwrap();
    let asks = [ask("t/a", &[0], 10, 6)];
    hold(counters, 1, &asks).await;
    counters.renew(&[request_id(1), request_id(99)], 3_000).await.unwrap();
    assert_eq!(hold_at(counters, 2, &asks, 2_999, 4_000).await, Holding::Short(0, used(0, 6)));
    assert_eq!(hold_at(counters, 2, &asks, 3_000, 4_000).await, Holding::Held(vec![used(0, 0)]));
    counters.renew(&[request_id(1)], 9_000).await.unwrap();
    assert_eq!(counters.budget_use("t/a", &[0], 3_500).await.unwrap(), Some(used(0, 6)), "what is gone stays gone");
    settle(counters, 1, &[("t/a", 0)], 6).await;
    assert_eq!(counters.budget_use("t/a", &[0], 3_500).await.unwrap(), Some(used(6, 6)), "it was spent all the same");
}

#[tokio::test]
async fn a_correction_is_made_only_on_what_was_seen_and_old_counters_are_forgotten() {
    let temp = TempDatabase::open().await;
    let counters = &*temp.store;
    counters.seed("t/a", &[(0, 7), (10, 1)]).await.unwrap();
    assert!(!counters.correct("t/a", 0, 6, 1).await.unwrap());
    assert!(!counters.correct("t/a", 5, 0, 1).await.unwrap(), "there is no such counter");
    assert!(counters.correct("t/a", 0, 7, 3).await.unwrap());
    assert_eq!(counters.budget_use("t/a", &[0, 10], NOW).await.unwrap(), Some(used(4, 0)));
    settle(counters, 1, &[("t/a", 10)], 1).await;
    hold(counters, 2, &[ask("t/a", &[10], 10, 4)]).await;
    counters.forget_counters(10, 10).await.unwrap();
    assert_eq!(counters.budget_use("t/a", &[0], NOW).await.unwrap(), None);
    assert_eq!(counters.budget_use("t/a", &[10], NOW).await.unwrap(), Some(used(2, 4)));
    settle(counters, 1, &[("t/a", 10)], 1).await;
    assert_eq!(counters.budget_use("t/a", &[10], NOW).await.unwrap(), Some(used(2, 4)), "still remembered");
}

#[tokio::test]
async fn only_what_is_seeded_and_below_is_raised() {
    let temp = TempDatabase::open().await;
    let counters = &*temp.store;
    counters.seed("t/a", &[(0, 5), (10, 5)]).await.unwrap();
    settle(counters, 1, &[("t/b", 0)], 1).await;
    counters.raise("t/a", &[(10, 4), (0, 6), (20, 1)]).await.unwrap();
    counters.raise("t/b", &[(0, 9)]).await.unwrap();
    assert_eq!(counters.budget_use("t/a", &[0, 10], NOW).await.unwrap(), Some(used(11, 0)));
    assert_eq!(counters.budget_use("t/a", &[20], NOW).await.unwrap(), None, "none is made");
    counters.seed("t/b", &[(0, 0)]).await.unwrap();
    assert_eq!(counters.budget_use("t/b", &[0], NOW).await.unwrap(), Some(used(1, 0)));
}

#[tokio::test]
async fn huge_soft_holds_and_costs_add_up_to_the_largest_number_and_hurt_nobody() {
    const HUGE: i64 = i64::MAX;
    let temp = TempDatabase::open().await;
    let counters = &*temp.store;
    counters.seed("t/soft", &[(0, 0), (10, HUGE)]).await.unwrap();
    for number in 0..3 {
        // The third is asked for when the sum of two has no room in the number.
        let asked = hold(counters, number, &[ask("t/soft", &[0], HUGE, HUGE - 1)]).await;
        assert!(matches!(asked, Holding::Held(_)), "{asked:?}");
    }
    for number in [20, 21] {
        settle(counters, number, &[("t/soft", 0)], HUGE).await;
    }
    assert_eq!(counters.budget_use("t/soft", &[0, 10], NOW).await.unwrap().unwrap().spent, HUGE);
}

#[tokio::test]
async fn each_delivery_is_claimed_by_one_replica() {
    let temp = TempDatabase::open().await;
    let replicas = [temp.stores(), temp.database.open().await.stores()];
    for number in 0..60 {
        let alert = super::super::super::sample::alert_row("t", number);
        assert!(temp.stores().alerts.raise(&alert, &["webhook".to_owned()]).await.unwrap());
    }
    let claiming: Vec<_> = (0..8)
        .map(|task| {
            let alerts = Arc::clone(&replicas[task % 2].alerts);
            tokio::spawn(async move {
                let mut claimed = Vec::new();
                loop {
                    let some = alerts.claim(100, 200, 3).await.unwrap();
                    if some.is_empty() {
                        return claimed;
                    }
                    claimed.extend(some.into_iter().map(|(alert, _)| alert.at));
                }
            })
        })
        .collect();
    let mut all = Vec::new();
    for claimed in claiming {
        all.extend(claimed.await.unwrap());
    }
    all.sort_unstable();
    assert_eq!(all, (0..60).collect::<Vec<_>>());
}
