//! Partitions that do not fit into memory: they are searched in the store, by the same rules, and come in when they are used.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{Method, StatusCode};
use remora::cache::{Elsewhere, Feedback, Opinion};
use remora::simulate::Options;
use serde_json::json;

use crate::child::until;
use crate::fleet::Fleet;
use crate::rig::{Answer, chat};

/// What a point counts for, with vectors of eight components.
const POINT: u64 = 1_700 + 2 * 8;

fn prompt(number: usize) -> String {
    // Different words, or one of them would answer the others.
    let words =
        ["apples", "bridges", "clocks", "dolphins", "engines", "forests", "glaciers", "hammers", "islands", "jackets"];
    format!("describe {} and {} to me", words[number % 10], words[(number / 10 + number + 1) % 10])
}

async fn cached(fleet: &Fleet, key: &str, text: &str) -> Option<Answer> {
    let answer = fleet.chat_with(0, key, &[("cache-control", "only-if-cached")], &chat(text)).await;
    (answer.status == StatusCode::OK).then_some(answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_found_in_the_store_and_comes_into_memory_when_it_is_used() {
    let points = Arc::new(AtomicU64::new(1_000_000));
    let budget = Arc::clone(&points);
    let mut fleet = Fleet::start(1, Options::default(), move |_, config| {
        config.cache.index_bytes = budget.load(Ordering::Relaxed) * POINT;
    })
    .await;
    for (key, count) in [("sk-large", 30), ("sk-middle", 15), ("sk-small", 10)] {
        for number in 0..count {
            let answer = fleet.chat_with(0, key, &[], &chat(&prompt(number))).await;
            assert_eq!(answer.cache(), "MISS", "{key} {number}: {}", answer.reason());
        }
    }
    fleet.settle().await;
    assert_eq!(fleet.app(0).cache.elsewhere(), Elsewhere::default());
    let (memory, store) = fleet.app(0).cache.measure_recall().await.unwrap();
    assert_eq!((memory, store), (1.0, 1.0), "small partitions are searched exactly on both levels");

    fleet.stop(0).await;
    points.store(20, Ordering::Relaxed);
    fleet.launch(0).await;
    // The newest fits, and of the others nothing.
    assert_eq!(fleet.app(0).cache.elsewhere(), Elsewhere { partitions: 2, points: 45 });
    let exact = cached(&fleet, "sk-large", &prompt(3)).await.expect("an equal request");
    assert_eq!(exact.header("x-remora-tier"), "exact");
    let similar = cached(&fleet, "sk-large", &format!("{}?", prompt(4))).await.expect("the same words");
    assert_eq!(similar.header("x-remora-tier"), "semantic");
    assert!(cached(&fleet, "sk-other", &prompt(3)).await.is_none(), "another tenant");
    assert!(cached(&fleet, "sk-large", "something else altogether").await.is_none());

    // What is only in the store is invalidated like the rest.
    let removed = fleet.admin(0, Method::POST, "/admin/v1/cache/invalidate", Some(json!({ "text": prompt(3) }))).await;
    assert_eq!(removed.status, StatusCode::OK, "{}", removed.text());
    for key in ["sk-large", "sk-middle"] {
        assert!(cached(&fleet, key, &prompt(3)).await.is_none(), "{key}");
    }

    // So is what somebody says was wrong.
    let wrong = cached(&fleet, "sk-large", &prompt(9)).await.expect("an equal request");
    let feedback = Feedback {
        request: wrong.header("x-remora-request-id").parse().unwrap(),
        opinion: Opinion::Bad,
        caller: None,
        within_ms: 60_000,
    };
    let ledger = Arc::clone(&fleet.app(0).stores.ledger);
    let done = fleet.app(0).cache.feedback(&feedback, &*ledger).await.unwrap();
    assert!(done.removed.is_some());
    assert!(cached(&fleet, "sk-large", &prompt(9)).await.is_none());
    assert_eq!(fleet.app(0).cache.feedback(&feedback, &*ledger).await.unwrap().removed, None, "it is gone");

    // Asked for often enough, a partition that fits takes the place of one that is not used: nobody has asked for the small
    // one since the start.
    until("the partition comes into memory", || async {
        let _ = cached(&fleet, "sk-middle", &format!("{}?", prompt(5))).await;
        (fleet.app(0).cache.elsewhere() == Elsewhere { partitions: 2, points: 39 }).then_some(())
    })
    .await;
    for (key, number) in [("sk-middle", 6), ("sk-small", 7), ("sk-large", 8)] {
        assert!(cached(&fleet, key, &prompt(number)).await.is_some(), "{key} {number}");
    }
    assert!(cached(&fleet, "sk-small", &prompt(3)).await.is_none(), "it was taken out there, too");
    assert!(cached(&fleet, "sk-small", &prompt(29)).await.is_none(), "a prompt that only another tenant has");
    assert_eq!(fleet.sim.stats().requests, 55, "nothing of this went upstream");
}
