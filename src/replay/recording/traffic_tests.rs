//! The class of a recorded request, and what is read from a store.

use std::sync::Arc;

use super::*;
use crate::config::Migrate;
use crate::store::SqliteStore;
use crate::store::sample::{bare_decision, decision, entry_id, new_decision, request_id, row, tenant};

/// A decision about entry `candidate`, at its point.
fn about(number: u64, candidate: u64, right: Option<bool>) -> DecisionRow {
    let of = decision("t", candidate);
    DecisionRow {
        entry: of.entry,
        point: of.point,
        right,
        label: right.map(|_| "audit".into()),
        prompt: Some(format!("prompt {number}")),
        ..decision("t", number)
    }
}

/// A decision that found nothing near.
fn alone(number: u64) -> DecisionRow {
    DecisionRow { prompt: Some(format!("prompt {number}")), ..bare_decision("t", number) }
}

fn ledger(number: u64, outcome: &'static str, entry: Option<u64>) -> LedgerRow {
    LedgerRow { outcome: outcome.into(), entry: entry.map(entry_id), ..row("t", number) }
}

#[test]
fn the_right_answer_is_what_really_happened() {
    let hit = ledger(9, "hit", Some(1));
    let (miss, lost) = (ledger(9, "miss", Some(7)), ledger(9, "failed", None));
    let (candidate, own) = (entry_id(1), entry_id(7));
    for (label, row, expected) in [
        (None, Some(&hit), Right::Unchecked(candidate)),
        (Some(true), Some(&hit), Right::Entry(candidate)),
        // The ledger names the wrong entry that was served, not the right one.
        (Some(false), Some(&hit), Right::Apart),
        (None, Some(&miss), Right::Entry(own)),
        (Some(true), Some(&miss), Right::Entry(candidate)),
        (Some(false), Some(&miss), Right::Entry(own)),
        (None, Some(&lost), Right::Unknown),
        (Some(true), Some(&lost), Right::Entry(candidate)),
        (Some(false), Some(&lost), Right::Apart),
        (None, None, Right::Unknown),
        (Some(true), None, Right::Entry(candidate)),
    ] {
        assert_eq!(right(&about(9, 1, label), row), expected, "{label:?}, {row:?}");
    }
    assert_eq!(right(&alone(9), Some(&miss)), Right::Entry(own));
    assert_eq!(right(&alone(9), Some(&lost)), Right::Unknown);
}

async fn store(decisions: Vec<DecisionRow>, rows: &[LedgerRow]) -> (tempfile::TempDir, Arc<SqliteStore>) {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&directory.path().join("remora.db"), Migrate::Auto).await.unwrap();
    let stores = store.stores();
    let writes: Vec<_> = decisions.into_iter().map(new_decision).collect();
    stores.decisions.write(&writes).await.unwrap();
    stores.ledger.append(rows).await.unwrap();
    (directory, store)
}

async fn read(store: &SqliteStore, selection: &Selection) -> Result<Traffic, ReplayError> {
    Traffic::read(store, store, selection).await
}

fn classes(traffic: &Traffic) -> Vec<usize> {
    traffic.requests.iter().map(|asked| asked.class).collect()
}

#[tokio::test]
async fn requests_with_the_same_answer_are_one_class_whatever_became_of_its_entry() {
    let moved = DecisionRow { entry: Some(entry_id(50)), ..about(7, 2, None) };
    let decisions = vec![
        alone(1),                 // opens entry 1
        alone(2),                 // opens entry 2
        about(3, 1, Some(true)),  // a miss like entry 1; its own was entry 3
        about(4, 3, None),        // a hit on entry 3
        about(5, 1, Some(false)), // a hit that was wrong
        about(6, 2, None),        // a hit on entry 2
        moved,                    // a hit on the same point after a merge
        about(8, 1, None),        // nothing is known
        bare_decision("t", 9),    // no prompt
    ];
    let rows = [
        ledger(1, "miss", Some(1)),
        ledger(2, "miss", Some(2)),
        ledger(3, "miss", Some(3)),
        ledger(4, "hit", Some(3)),
        ledger(5, "hit", Some(1)),
        ledger(6, "hit", Some(2)),
        ledger(7, "hit", Some(50)),
        ledger(8, "failed", None),
        ledger(9, "miss", Some(9)),
    ];
    let (_directory, store) = store(decisions, &rows).await;
    let traffic = read(&store, &Selection::default()).await.unwrap();
    assert_eq!(classes(&traffic), [0, 1, 0, 0, 2, 1, 1]);
    let facts = Facts { decisions: 9, with_prompt: 8, unknown: 1, requests: 7, unchecked: 3, apart: 1 };
    assert_eq!((traffic.classes, traffic.facts), (3, facts));
    assert_eq!(traffic.requests[3].text, "prompt 4");
    assert_eq!((traffic.requests[3].at, traffic.requests[3].partition), (4, [4; 32]));
    let text = facts.to_text();
    for words in ["9 decisions, 8 with prompts: set cache.record_prompts", "1 left out", "3 of 7 requests", "1 have a"]
    {
        assert!(text.contains(words), "{text}");
    }

    let last = read(&store, &Selection { most: Some(2), ..Selection::default() }).await.unwrap();
    assert_eq!((classes(&last), last.classes, last.facts.unchecked), (vec![0, 0], 1, 2));
    let late = read(&store, &Selection { since: 6, ..Selection::default() }).await.unwrap();
    assert_eq!((late.requests[0].text.as_str(), late.facts.decisions), ("prompt 6", 4));
}

#[tokio::test]
async fn a_selection_keeps_tenants_and_models_apart_and_nothing_to_replay_says_how_to_record() {
    let other = |number, owner: &str, model: &str| DecisionRow {
        tenant: tenant(owner),
        model: model.to_owned(),
        request: request_id(number),
        ..alone(number)
    };
    let decisions = vec![other(1, "t", "a"), other(2, "t", "b"), other(3, "u", "a"), other(4, "t", "a")];
    let rows: Vec<LedgerRow> = (1..=4).map(|number| ledger(number, "miss", Some(number))).collect();
    let (_directory, store) = store(decisions, &rows).await;
    let lanes = |traffic: &Traffic| traffic.requests.iter().map(|asked| asked.lane).collect::<Vec<_>>();
    assert_eq!(lanes(&read(&store, &Selection::default()).await.unwrap()), [0, 1, 2, 0]);
    let of = |owner: Option<&str>, model: Option<&str>| Selection {
        tenant: owner.map(tenant),
        model: model.map(str::to_owned),
        ..Selection::default()
    };
    assert_eq!(lanes(&read(&store, &of(Some("t"), None)).await.unwrap()), [0, 1, 0]);
    assert_eq!(read(&store, &of(Some("t"), Some("a"))).await.unwrap().facts.decisions, 2);
    let error = read(&store, &of(Some("nobody"), None)).await.unwrap_err();
    assert!(error.0.contains("no decision") && error.0.contains("cache.record_prompts = true"), "{error}");

    let bare = self::store(vec![bare_decision("t", 1)], &[]).await;
    let error = read(&bare.1, &Selection::default()).await.unwrap_err();
    assert!(error.0.contains("1 decisions, 0 with prompts"), "{error}");
}

#[test]
fn thousands_are_set_apart() {
    assert_eq!([0, 999, 1_000, 1_204, 1_234_567].map(grouped), ["0", "999", "1,000", "1,204", "1,234,567"]);
}
