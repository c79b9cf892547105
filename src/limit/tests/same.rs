//! The script and the book decide alike, whatever is asked, in whatever order, with whatever amounts.

use proptest::prelude::*;

use super::*;
use crate::limit::book::{Books, Outcome};
use crate::limit::door::Door;
use crate::limit::plan::Plan;
use crate::shared::tests::{common, ready, space};

#[derive(Clone, Debug)]
enum Step {
    Request { want: i64, credit: i64 },
    Admit { number: usize, tokens: u64, worst: i64 },
    Settle { number: usize, tokens: u64, cost: i64 },
    Renew { number: usize },
    Wait { ms: u64 },
    Back { ms: u64 },
    Correct { spent: i64 },
}

/// Small amounts and those near the end of what there is.
fn money() -> impl Strategy<Value = i64> {
    let large = (0..=2_000_i64, prop_oneof![Just(i64::MAX), Just(i64::MAX / 2), Just(1 << 53)]);
    prop_oneof![3 => 0..=3_000_i64, 1 => large.prop_map(|(less, top)| top - less)]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => (1..4_i64, -2..3_i64).prop_map(|(want, credit)| Step::Request { want, credit }),
        6 => (0..6_usize, 0..90_u64, money()).prop_map(|(number, tokens, worst)| Step::Admit { number, tokens, worst }),
        4 => (0..6_usize, 0..200_u64, money()).prop_map(|(number, tokens, cost)| Step::Settle { number, tokens, cost }),
        1 => (0..6_usize).prop_map(|number| Step::Renew { number }),
        3 => (0..40_000_u64).prop_map(|ms| Step::Wait { ms }),
        1 => (0..200_u64).prop_map(|ms| Step::Back { ms }),
        1 => money().prop_map(|spent| Step::Correct { spent }),
    ];
    prop::collection::vec(step, 1..40)
}

fn who(hard: i64) -> Who {
    let limits = RateLimits { rpm: Some(7), tpm: Some(101), tpd: Some(10_000_019), concurrency: Some(4) };
    let soft = Budget { hard: false, name: "soft".into(), ..budget("month", 1) };
    let budgets = vec![budget("day", hard), budget("1m", hard.saturating_sub(hard / 3)), soft];
    Who::new(TenantSpec { limits, budgets, ..TenantSpec::default() }, RateLimits { concurrency: Some(3), ..limits })
}

async fn agree(door: &mut Door, hard: i64, seeds: &[i64], steps: Vec<Step>) {
    let (books, who, clock) = (Books::default(), who(hard), Clock::manual(NOON));
    door.time = Some(clock.clone());
    let mut now = NOON;
    let mut requests: Vec<RequestId> = (0..6).map(|number| RequestId::at(NOON + number)).collect();
    let mut asked: Vec<Option<Plan>> = vec![None; 6];
    let plan_of = |request, now, tokens, worst| {
        let wish = Wish { request, ..wish(now, tokens, worst) };
        Plan::admit(&who.caller(), &wish, 30_000)
    };
    let first = plan_of(requests[0], now, 0, 0);
    for (budget, spent) in first.budgets.iter().zip(seeds) {
        let slots: Vec<(UnixMs, i64)> = budget.span.slots.iter().map(|slot| (*slot, *spent)).collect();
        books.with(&who.tenant, |book| book.seed(&budget.ask.key, &slots));
        door.seed(&who.tenant, &budget.ask.key, &budget.span, &slots).await.unwrap();
    }
    for step in steps {
        let told = format!("{step:?} at {now}");
        match step {
            Step::Wait { ms } => {
                now += ms;
                clock.advance_ms(ms);
            }
            Step::Back { ms } => {
                now -= ms;
                door.time = Some(Clock::manual(now));
                continue;
            }
            Step::Request { want, credit } => {
                let mut plan = Plan::request(&who.caller());
                for ask in &mut plan.buckets {
                    (ask.want, ask.credit) = (want, credit);
                }
                same(door, &books, &plan, now, &told).await;
            }
            Step::Admit { number, tokens, worst } => {
                let plan = plan_of(requests[number], now, tokens, worst);
                // A request is admitted once, and what it holds is what it asked for.
                let plan = asked[number].clone().unwrap_or(plan);
                if same(door, &books, &plan, now, &told).await {
                    asked[number] = Some(plan);
                }
            }
            Step::Settle { number, tokens, cost } => {
                let Some(plan) = asked[number].take() else { continue };
                let mut end = plan.settlement(used(tokens, cost), true, true);
                for twice in 0..2 {
                    let first = books.with(&who.tenant, |book| book.settle(&end, now));
                    assert_eq!(door.settle(&end).await.unwrap(), first, "{told}");
                    assert_eq!(first, twice == 0, "{told}");
                    end.budgets.iter_mut().for_each(|charge| charge.cost = 1);
                }
                requests[number] = RequestId::at(now);
            }
            Step::Renew { number } => {
                let Some(plan) = &asked[number] else { continue };
                books.with(&who.tenant, |book| book.renew(plan, now));
                door.renew(plan).await.unwrap();
            }
            Step::Correct { spent } => {
                let budget = &first.budgets[0];
                let (key, slot) = (&budget.ask.key, budget.span.charged());
                let there = door.read(&who.tenant, key, &[slot]).await.unwrap().spent[0];
                assert_eq!(books.with(&who.tenant, |book| book.by_slot(key, &[slot])), [there], "{told}");
                for seen in [7, i64::try_from(there).unwrap_or(i64::MAX)] {
                    let set = books.with(&who.tenant, |book| book.correct(key, slot, seen, spent));
                    assert_eq!(door.correct(&who.tenant, key, slot, seen, spent).await.unwrap(), set, "{told}");
                }
            }
        }
        door.time = Some(Clock::manual(now));
    }
}

/// Whether it is admitted, by both.
async fn same(door: &Door, books: &Books, plan: &Plan, now: UnixMs, told: &str) -> bool {
    let here = books.with(&plan.tenant, |book| book.decide(plan, now));
    let there = door.decide(plan, now).await.unwrap();
    assert_eq!(here.outcome, there.outcome, "{told}");
    let levels = |answer: &[(super::super::bucket::Bucket, i64)]| -> Vec<(i64, i64, i64)> {
        answer.iter().map(|(bucket, taken)| (bucket.level, bucket.carry, *taken)).collect()
    };
    assert_eq!(levels(&here.buckets), levels(&there.buckets), "{told}");
    // Where nothing is known, what is said of it says nothing.
    if !matches!(here.outcome, Outcome::Unseeded(_)) {
        assert_eq!(here.budgets, there.budgets, "{told}");
    }
    here.outcome == Outcome::Admitted
}

#[test]
fn the_script_and_the_book_give_the_same_decisions_on_the_same_schedule() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let shared = runtime.block_on(async { ready(&common(), &space()).await });
    let metrics = Arc::new(Metrics::new([], []).unwrap());
    let door = std::cell::RefCell::new(Door::new(shared, metrics));
    let config = ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(hard in money(), seeds in prop::collection::vec(money(), 3), steps in steps())| {
        runtime.block_on(agree(&mut door.borrow_mut(), hard.max(1), &seeds, steps));
    });
}

#[tokio::test]
async fn money_at_the_end_of_what_there_is_is_exact_to_the_nano_dollar() {
    let door = Door::new(ready(&common(), &space()).await, Arc::new(Metrics::new([], []).unwrap()));
    let who = Who::budget(vec![budget("day", i64::MAX)]);
    let plan = |worst| Plan::admit(&who.caller(), &wish(NOON, 0, worst), 30_000);
    let budget = plan(0).budgets[0].clone();
    let spent = i64::MAX - 1_000;
    door.seed(&who.tenant, &budget.ask.key, &budget.span, &[(budget.span.charged(), spent)]).await.unwrap();
    let outcome = async |worst| door.decide(&plan(worst), NOON).await.unwrap().outcome;
    assert_eq!(outcome(1_001).await, Outcome::Poor(0));
    assert_eq!(outcome(999).await, Outcome::Admitted);
    assert_eq!(outcome(2).await, Outcome::Poor(0));
    assert_eq!(outcome(1).await, Outcome::Admitted);
    assert_eq!(outcome(1).await, Outcome::Poor(0));
    let found = door.read(&who.tenant, &budget.ask.key, &[budget.span.charged()]).await.unwrap();
    assert_eq!((found.held, found.spent), (1_000, vec![i128::from(spent)]));
}
