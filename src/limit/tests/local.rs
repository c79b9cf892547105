//! One process alone.

use super::*;

fn rpm(rpm: u64) -> RateLimits {
    RateLimits { rpm: Some(rpm), ..RateLimits::default() }
}

#[tokio::test]
async fn a_request_is_taken_from_tenant_and_key_or_from_neither() {
    let rig = Rig::local();
    let who = Who::new(TenantSpec { limits: rpm(3), ..TenantSpec::default() }, rpm(2));
    let left = |allowance: Allowance| allowance.requests.map(|left| (left.limit, left.remaining));
    assert_eq!(left(rig.request(&who).await.unwrap()), Some((2, 1)), "the tightest is told");
    assert_eq!(left(rig.request(&who).await.unwrap()), Some((2, 0)));
    let denied = rig.request(&who).await.unwrap_err();
    let Denied::Requests { whose: "key", limit: 2, retry_after, .. } = denied else { panic!("{denied:?}") };
    assert_eq!(retry_after, Duration::from_secs(30), "one in half a minute");
    // The tenant's third was not lost by the refusal.
    let other = who.other_key("other");
    rig.request(&other).await.unwrap();
    assert!(matches!(rig.request(&other).await, Err(Denied::Requests { whose: "tenant", .. })));

    rig.clock.advance_ms(29_999);
    assert!(rig.request(&who).await.is_err());
    rig.clock.advance_ms(1);
    rig.request(&who).await.unwrap();
}

#[tokio::test]
async fn tokens_are_reserved_and_settled_on_what_was_used() {
    let rig = Rig::local();
    let limits = RateLimits { tpm: Some(600), tpd: Some(1_000), ..RateLimits::default() };
    let who = Who::limits(limits);
    let hold = rig.admit(&who, 500, 0).await.unwrap();
    assert_eq!(hold.allowance().tokens.unwrap().remaining, 100);
    let denied = rig.admit(&who, 200, 0).await.unwrap_err();
    let Denied::Tokens { per: "minute", asked: 200, retry_after, .. } = denied else { panic!("{denied:?}") };
    assert_eq!(retry_after, Some(Duration::from_secs(10)));
    hold.settle(used(50, 0));
    let hold = rig.admit(&who, 550, 0).await.unwrap();
    // More than was reserved: the bucket of the minute is in debt, 100 tokens in ten seconds.
    hold.settle(used(650, 0));
    rig.clock.advance_ms(10_000);
    assert!(rig.admit(&who, 1, 0).await.is_err());
    rig.clock.advance_ms(100);
    drop(rig.admit(&who, 1, 0).await.unwrap());
    // Of the day 300 are left; what takes longest is told.
    rig.clock.advance_ms(MINUTE);
    let denied = rig.admit(&who, 400, 0).await.unwrap_err();
    assert!(matches!(denied, Denied::Tokens { per: "day", limit: 1_000, .. }), "{denied:?}");
    let denied = rig.admit(&who, 1_001, 0).await.unwrap_err();
    assert!(matches!(denied, Denied::Tokens { retry_after: None, .. }), "never: {denied:?}");
}

#[tokio::test]
async fn a_hold_that_is_dropped_gives_everything_back() {
    let rig = Rig::local();
    let limits = RateLimits { tpm: Some(100), concurrency: Some(1), ..RateLimits::default() };
    let spec = TenantSpec { limits, budgets: vec![budget("day", 1_000)], ..TenantSpec::default() };
    let who = Who::new(spec, RateLimits::default());
    for _ in 0..50 {
        let hold = rig.admit(&who, 100, 1_000).await.unwrap();
        assert_eq!(rig.standing(&who).await, (0, 1_000));
        assert_eq!(rig.metrics.limits.holds.get(), 1);
        drop(hold);
    }
    assert_eq!((rig.standing(&who).await, rig.metrics.limits.holds.get()), ((0, 0), 0));
    // What is refused by the last of them holds nothing of the others.
    let hold = rig.admit(&who, 10, 0).await.unwrap();
    assert!(matches!(rig.admit(&who, 90, 0).await, Err(Denied::Concurrency { whose: "tenant", limit: 1 })));
    hold.settle(used(10, 500));
    assert!(matches!(rig.admit(&who, 90, 501).await, Err(Denied::Budget { .. })));
    drop(rig.admit(&who, 90, 500).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_thousand_at_once_exactly_those_that_the_budget_is_for_are_admitted() {
    for _ in 0..10 {
        let rig = Rig::local();
        let who = Arc::new(Who::budget(vec![budget("month", 100_000)]));
        let holds = all_at_once(&[&rig], &who, 1_000).await;
        assert_eq!(holds.len(), 100);
        for (number, hold) in holds.into_iter().enumerate() {
            if number % 2 == 0 { hold.settle(used(0, 1_000)) } else { drop(hold) }
        }
        assert_eq!(rig.standing(&who).await, (50_000, 0));
        assert_eq!(rig.ledger.asked.load(Ordering::SeqCst), 2, "seeded once, and asked once for the standing");
    }
}

#[tokio::test]
async fn what_a_process_that_was_killed_held_expires_and_what_lives_is_renewed() {
    let rig = Rig::local();
    let limits = RateLimits { concurrency: Some(2), ..RateLimits::default() };
    let spec = TenantSpec { limits, budgets: vec![budget("day", 2_000)], ..TenantSpec::default() };
    let who = Who::new(spec, RateLimits::default());
    let alive = rig.admit(&who, 0, 1_000).await.unwrap();
    let dead = rig.admit(&who, 0, 1_000).await.unwrap();
    rig.limiter.live.remove(&dead.record_for_tests().plan);
    rig.clock.advance_ms(20_000);
    rig.limiter.renew_all().await;
    assert_eq!(rig.standing(&who).await, (0, 2_000));
    rig.clock.advance_ms(10_000);
    assert_eq!(rig.standing(&who).await, (0, 1_000));
    drop(rig.admit(&who, 0, 1_000).await.unwrap());
    alive.settle(used(0, 900));
    // It ends after all: it is counted, and frees nothing of anybody else.
    dead.settle(used(0, 800));
    assert_eq!(rig.standing(&who).await, (1_700, 0));
}

#[tokio::test]
async fn all_budgets_that_a_request_meets_must_have_room_and_the_first_that_is_short_decides() {
    let rig = Rig::local();
    let narrow = |name: &str, usd, change: fn(&mut Budget)| {
        let mut budget = Budget { name: name.into(), ..budget("day", usd) };
        change(&mut budget);
        budget
    };
    let who = Who::budget(vec![
        narrow("all", 10_000, |_| {}),
        narrow("key", 5_000, |budget| budget.key = Some("app".into())),
        narrow("model", 3_000, |budget| budget.model = Some("gpt-4*".into())),
        narrow("tag", 2_000, |budget| budget.tag = Some("team=search".into())),
        narrow("soft", 1, |budget| budget.hard = false),
    ]);
    let other = who.other_key("other");
    let search = [("team".to_owned(), "search".to_owned())];
    let ask = async |who: &Who, model: &str, tags: &[(String, String)], worst| {
        let wish = Wish { model, tags, ..wish(rig.now(), 0, worst) };
        rig.limiter.admit(who.caller(), wish).await.map(|hold| hold.settle(used(0, worst)))
    };
    let short = |asked: Result<(), Denied>| match asked {
        Ok(()) => "none".to_owned(),
        Err(Denied::Budget { name, .. }) => name,
        Err(denied) => panic!("{denied:?}"),
    };
    assert_eq!(short(ask(&who, "gpt-4o", &search, 2_001).await), "tag");
    assert_eq!(short(ask(&who, "gpt-4o", &search, 2_000).await), "none");
    assert_eq!(short(ask(&who, "gpt-4o", &search, 1_001).await), "model", "both are short, this one is first");
    assert_eq!(short(ask(&who, "gpt-4o", &[], 1_000).await), "none");
    assert_eq!(short(ask(&other, "gpt-4o", &[], 1).await), "model");
    assert_eq!(short(ask(&who, "o1", &[], 2_000).await), "none");
    assert_eq!(short(ask(&who, "o1", &[], 1).await), "key");
    assert_eq!(short(ask(&other, "o1", &[], 5_000).await), "none");
    assert_eq!(short(ask(&other, "o1", &[], 1).await), "all");
    let standings = rig.limiter.budgets(&who.tenant, &who.terms.tenant, rig.now()).await;
    let spent: Vec<i64> = standings.iter().map(|standing| standing.spent.0).collect();
    assert_eq!(spent, [10_000, 5_000, 3_000, 2_000, 10_000], "a soft one counts all the same");
}

#[tokio::test]
async fn a_budget_starts_from_the_ledger_by_the_same_rules_as_requests_count() {
    let rig = Rig::local();
    let mut search = Budget { name: "search".into(), ..budget("week", 1_000) };
    search.tag = Some("team=search".into());
    let who = Who::budget(vec![budget("month", 1_000), budget("2h", 600), search]);
    let other = Who::budget(Vec::new());
    rig.ledger.add(&who, NOON - 40 * 24 * 60 * MINUTE, 1);
    rig.ledger.add_as(&who, NOON - 25 * 24 * 60 * MINUTE, 20, None, &[("team", "search")]);
    rig.ledger.add(&who, NOON - 130 * MINUTE, 300);
    rig.ledger.add_as(&who, NOON - 119 * MINUTE, 500, Some("o1"), &[("team", "search")]);
    rig.ledger.add(&who, NOON - 1, 4);
    rig.ledger.add(&other, NOON - 1, 100_000);
    let denied = rig.admit(&who, 0, 177).await.unwrap_err();
    assert!(matches!(&denied, Denied::Budget { name, used: NanoUsd(824), .. } if name == "month"), "{denied:?}");
    let denied = rig.admit(&who, 0, 97).await.unwrap_err();
    let Denied::Budget { name, used: NanoUsd(504), resets_in, .. } = denied else { panic!("{denied:?}") };
    // The slot of two minutes in which the 500 were spent has begun a minute before and counts until its end.
    assert_eq!((&*name, resets_in), ("2h", Duration::from_secs(120)));
    drop(rig.admit(&who, 0, 96).await.unwrap());
    let standings = rig.limiter.budgets(&who.tenant, &who.terms.tenant, rig.now()).await;
    let spent: Vec<i64> = standings.iter().map(|standing| standing.spent.0).collect();
    assert_eq!(spent, [824, 504, 500]);
    rig.clock.advance_ms(120_000);
    drop(rig.admit(&who, 0, 176).await.unwrap());
}

#[tokio::test]
async fn the_period_in_which_a_request_began_pays() {
    let rig = Rig::local();
    let who = Who::budget(vec![budget("day", 1_000)]);
    let midnight = NOON + 12 * 60 * MINUTE;
    rig.clock.advance_ms(midnight - 1 - NOON);
    let hold = rig.admit(&who, 0, 1_000).await.unwrap();
    rig.clock.advance_ms(1);
    // What is held counts in the new day until it is known where it belongs.
    assert!(rig.admit(&who, 0, 1).await.is_err());
    hold.settle(used(0, 1_000));
    assert_eq!(rig.standing(&who).await, (0, 0));
    let standings = rig.limiter.budgets(&who.tenant, &who.terms.tenant, midnight - 1).await;
    assert_eq!(standings[0].spent, NanoUsd(1_000));
    drop(rig.admit(&who, 0, 1_000).await.unwrap());
    assert_eq!(rig.ledger.asked.load(Ordering::SeqCst), 3, "a new day is not read from the ledger");
}

#[tokio::test]
async fn a_ledger_that_cannot_be_read_leaves_a_little_of_a_hard_budget_to_each_key() {
    let rig = Rig::local();
    let soft = Budget { hard: false, name: "soft".into(), ..budget("day", 1) };
    let who = Who::budget(vec![budget("month", 100_000), soft]);
    let other = Who::budget(vec![budget("month", 1_000)]);
    drop(rig.admit(&other, 0, 1_000).await.unwrap());
    rig.ledger.down.store(true, Ordering::SeqCst);
    let hold = rig.admit(&who, 0, 1_000).await.unwrap();
    assert!(matches!(rig.admit(&who, 0, 1).await, Err(Denied::Unavailable { .. })));
    drop(rig.admit(&who.other_key("other"), 0, 1_000).await.unwrap());
    hold.settle(used(0, 400));
    // That another budget's counters are there gives no new allowance of this one.
    drop(rig.admit(&other, 0, 1_000).await.unwrap());
    drop(rig.admit(&who, 0, 600).await.unwrap());
    assert!(rig.admit(&who, 0, 601).await.is_err());
    assert_eq!(rig.ledger.asked.load(Ordering::SeqCst), 2, "it is left alone for a second");
    rig.ledger.down.store(false, Ordering::SeqCst);
    rig.ledger.add(&who, NOON, 400);
    tokio::time::pause();
    tokio::time::advance(Duration::from_millis(1_001)).await;
    drop(rig.admit(&who, 0, 99_600).await.unwrap());
    assert_eq!(rig.standing(&who).await, (400, 0), "counted once");
}

#[tokio::test]
async fn hits_are_refused_and_take_tokens_only_where_the_tenant_says_so() {
    let rig = Rig::local();
    let limits = RateLimits { tpm: Some(1_000), ..RateLimits::default() };
    let spec = TenantSpec { limits, budgets: vec![budget("day", 1_000)], ..TenantSpec::default() };
    let who = Who::new(spec, RateLimits::default());
    let ask = || rig.limiter.spent(who.caller(), rig.now(), "gpt-4o", &[]);
    let hold = rig.admit(&who, 0, 1_000).await.unwrap();
    ask().await.expect("all of it is held, and nothing spent");
    hold.settle(used(0, 1_000));
    rig.clock.advance_ms(1_001);
    let denied = ask().await.unwrap_err();
    assert!(matches!(denied, Denied::Budget { used: NanoUsd(1_000), .. }), "{denied:?}");
    rig.limiter.take_tokens(who.caller(), 900);
    assert!(matches!(rig.admit(&who, 200, 0).await, Err(Denied::Tokens { .. })));
}

#[tokio::test]
async fn counters_are_compared_with_the_ledger_and_rebuilt_from_it() {
    let rig = Rig::local();
    let who = Who::budget(vec![budget("day", 1_000_000)]);
    rig.admit(&who, 0, 1_000).await.unwrap().settle(used(0, 900));
    // The row is not there yet, and comes: nothing is corrected.
    rig.limiter.reconcile().await;
    rig.ledger.add(&who, NOON, 900);
    for _ in 0..3 {
        rig.limiter.reconcile().await;
    }
    assert_eq!(rig.standing(&who).await, (900, 0));
    // A row that this counter has never heard of: raised at once.
    rig.ledger.add(&who, NOON, 50);
    rig.limiter.reconcile().await;
    assert_eq!(rig.standing(&who).await, (950, 0));
    // More than there are rows for: not while anything moves, and then down.
    rig.admit(&who, 0, 1_000).await.unwrap().settle(used(0, 30));
    rig.limiter.reconcile().await;
    rig.limiter.reconcile().await;
    assert_eq!(rig.standing(&who).await, (980, 0));
    let hold = rig.admit(&who, 0, 7).await.unwrap();
    rig.limiter.reconcile().await;
    assert_eq!(rig.standing(&who).await, (950, 7), "what is held stays");
    hold.settle(used(0, 7));
    rig.ledger.add(&who, NOON, 7);
    // On a budget that is never quiet, too: all but what is spent in a round.
    rig.admit(&who, 0, 30).await.unwrap().settle(used(0, 30));
    for _ in 0..6 {
        rig.admit(&who, 0, 10).await.unwrap().settle(used(0, 10));
        rig.ledger.add(&who, NOON, 10);
        rig.limiter.reconcile().await;
    }
    let (spent, _) = rig.standing(&who).await;
    assert!((1_017..=1_027).contains(&spent), "{spent}");
    rig.limiter.rebuild(&who.tenant, &who.terms.tenant).await.unwrap();
    assert_eq!(rig.standing(&who).await, (1_017, 0));
    rig.ledger.down.store(true, Ordering::SeqCst);
    assert!(rig.limiter.rebuild(&who.tenant, &who.terms.tenant).await.is_err());
}
