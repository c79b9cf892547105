//! What is seen becomes one alert, however often and by however many it is seen.

use super::*;

const WEEK: u64 = 7 * 24 * HOUR;

#[tokio::test]
async fn a_window_is_told_again_only_after_it_fell_below_and_on_all_replicas_once() {
    let rig = Rig::start().await;
    let window = Period::Rolling(Duration::from_secs(3_600));
    let (mut one, mut two) = (rig.replica(), rig.replica());
    for spent in [79, 81, 79, 90, 77, 81, 70, 85, 81] {
        rig.world.budget("acme", window, &[0.5, 0.8], 100, spent);
        rig.clock.advance_ms(1_000);
        one.look().await;
        two.look().await;
        // A start in between remembers nothing, and tells nothing twice.
        rig.replica().look().await;
    }
    let id = |second: u64, percent: &str| format!("budget:acme:1h:{}:{percent}:100.00", NOON + second * 1_000);
    // 77 is below 80 and not clearly so; 70 is.
    let expected = [(id(1, "50"), true), (id(2, "80"), true), (id(8, "80"), true)];
    assert_eq!(rig.ids().await, expected);
}

#[tokio::test]
async fn a_budget_that_gets_more_money_is_told_anew_and_one_that_is_told_is_not() {
    let rig = Rig::start().await;
    let mut replica = rig.replica();
    let from = NOON - 12 * HOUR;
    for (usd, spent) in [(100, 85), (100, 90), (200, 90), (200, 170)] {
        rig.world.budget("acme", Period::Month, &[0.8], usd, spent);
        replica.look().await;
    }
    let id = |usd: &str| (format!("budget:acme:month:{from}:80:{usd}"), true);
    assert_eq!(rig.ids().await, [id("100.00"), id("200.00")]);
}

#[tokio::test]
async fn pace_refusals_and_unusual_hours_are_each_told_once() {
    let mut rig = Rig::start().await;
    rig.settings.rejections = Some(10);
    rig.clock.advance_ms(20 * 60_000);
    // $8 in each hour of today, of $120 for the day.
    rig.world.budget("acme", Period::Day, &[], 120, 96);
    (1..=12).for_each(|hours| rig.world.spend("acme", NOON - hours * HOUR, 8));
    // The same hour of the weeks before cost a dollar; another tenant always costs the same, a third one is new.
    (1..=4).for_each(|week| rig.world.spend("acme", NOON - HOUR - week * WEEK, 1));
    (0..=4).for_each(|week| rig.world.spend("even", NOON - HOUR - week * WEEK, 50));
    rig.world.spend("new", NOON - HOUR, 50);
    for (tenant, since) in [("acme", 0), ("even", 0), ("new", NOON - WEEK)] {
        rig.world.since.lock().unwrap().insert(TenantId::new(tenant), since);
    }
    let (mut one, mut two) = (rig.replica(), rig.replica());
    // Six on one replica and six on the other are more than ten; nine of a quiet tenant are not.
    for replica in [&one, &two] {
        (0..6).for_each(|_| replica.metrics.alerts.refused(&TenantId::new("acme"), "tpm"));
    }
    (0..9).for_each(|_| two.metrics.alerts.refused(&TenantId::new("even"), "rpm"));
    for _ in 0..3 {
        one.watch.slowly(&one.alerts).await;
        two.watch.slowly(&two.alerts).await;
        rig.clock.advance_ms(60_000);
    }
    let mut titles: Vec<_> = rig.listed().await.into_iter().map(|(alert, _)| alert.title).collect();
    titles.sort();
    assert_eq!(
        titles,
        [
            "acme: $8.00 spent in the hour from 11:00 UTC on 1 Nov, usually $1.00",
            "acme: 12 requests refused by limits since 12:00 UTC",
            "acme: budget day: at this pace spent at 15:25 UTC",
        ]
    );
}

#[tokio::test]
async fn an_hour_of_refusals_is_told_in_the_next_hour_again_and_its_notes_go() {
    let mut rig = Rig::start().await;
    rig.settings.rejections = Some(1);
    let mut replica = rig.replica();
    for _ in 0..3 {
        (0..2).for_each(|_| replica.metrics.alerts.refused(&TenantId::new("acme"), "budget"));
        replica.watch.slowly(&replica.alerts).await;
        replica.watch.slowly(&replica.alerts).await;
        rig.clock.advance_ms(HOUR);
    }
    assert_eq!(rig.ids().await.len(), 3);
    let notes = rig.database.stores().notes.notes_of("alert/").await.unwrap();
    assert_eq!(notes.len(), 1, "{notes:?}");
}

#[tokio::test]
async fn marks_of_windows_that_are_no_more_are_taken_away() {
    let rig = Rig::start().await;
    let mut replica = rig.replica();
    rig.world.budget("acme", Period::Rolling(Duration::from_secs(3_600)), &[0.5], 100, 60);
    replica.look().await;
    let marks = async || rig.database.stores().notes.notes_of("alert/window/").await.unwrap().len();
    replica.watch.slowly(&replica.alerts).await;
    assert_eq!(marks().await, 1);
    rig.world.budget("acme", Period::Month, &[0.5], 100, 60);
    rig.clock.advance_ms(HOUR);
    replica.watch.slowly(&replica.alerts).await;
    assert_eq!(marks().await, 0);
}
