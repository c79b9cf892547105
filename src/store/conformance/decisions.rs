//! Promises about decisions and what was learnt from them.

use std::borrow::Cow;

use crate::store::sample::{bare_decision, decision, label, learned, new_decision, request_id, tenant};
use crate::store::{DecisionRow, DecisionWrite, LearnedRow, Stores};

async fn store(stores: &Stores, rows: &[DecisionRow]) {
    let writes: Vec<_> = rows.iter().cloned().map(new_decision).collect();
    stores.decisions.write(&writes).await.unwrap();
}

async fn all(stores: &Stores) -> Vec<DecisionRow> {
    stores.decisions.since(None, 0, None, 100).await.unwrap()
}

pub(super) async fn a_decision_comes_back_with_every_field(stores: &Stores) {
    let odd = DecisionRow {
        verdict: Cow::Borrowed("something-new"),
        would_serve: false,
        right: Some(true),
        cosine: Some(-1.0),
        tokens: Some(0),
        prompt: Some(String::new()),
        at: u64::MAX >> 1,
        ..decision("α/β", 3)
    };
    let rows = [decision("t", 1), bare_decision("t", 2), odd];
    store(stores, &rows).await;
    for row in &rows {
        assert_eq!(stores.decisions.decision(row.request).await.unwrap().as_ref(), Some(row));
    }
    assert_eq!(all(stores).await, rows);
    assert_eq!(stores.decisions.decision(request_id(4)).await.unwrap(), None);
}

pub(super) async fn a_decision_that_is_there_stays(stores: &Stores) {
    store(stores, &[bare_decision("t", 1)]).await;
    store(stores, &[decision("other", 1), decision("t", 2), bare_decision("t", 2)]).await;
    assert_eq!(all(stores).await, [bare_decision("t", 1), decision("t", 2)]);
}

pub(super) async fn a_label_is_set_replaced_and_ignored_without_its_decision(stores: &Stores) {
    let labelled = |number, right, source| DecisionRow {
        right: Some(right),
        label: Some(Cow::Borrowed(source)),
        ..bare_decision("t", number)
    };
    let writes = [
        label(1, true, "too early"),
        new_decision(bare_decision("t", 1)),
        new_decision(bare_decision("t", 2)),
        label(9, true, "miss"),
        label(1, true, "miss"),
    ];
    stores.decisions.write(&writes).await.unwrap();
    assert_eq!(all(stores).await, [labelled(1, true, "miss"), bare_decision("t", 2)]);
    stores.decisions.write(&[label(1, false, "feedback")]).await.unwrap();
    assert_eq!(all(stores).await, [labelled(1, false, "feedback"), bare_decision("t", 2)]);
}

pub(super) async fn decisions_written_twice_change_nothing(stores: &Stores) {
    let writes = [
        new_decision(bare_decision("t", 1)),
        label(1, true, "miss"),
        new_decision(bare_decision("t", 2)),
        label(1, false, "audit"),
        label(2, true, "feedback"),
    ];
    stores.decisions.write(&writes).await.unwrap();
    let once = all(stores).await;
    assert_eq!(once.iter().map(|row| row.right).collect::<Vec<_>>(), [Some(false), Some(true)]);
    stores.decisions.write(&writes).await.unwrap();
    assert_eq!(all(stores).await, once);
}

pub(super) async fn decisions_are_read_oldest_first_page_by_page(stores: &Stores) {
    let rows = [decision("ann", 4), decision("bob", 2), decision("ann", 1), decision("ann", 5), decision("bob", 3)];
    store(stores, &rows).await;
    let ann = tenant("ann");
    let read = async |owner, since, after: Option<u64>, limit| -> Vec<u64> {
        let page = stores.decisions.since(owner, since, after.map(request_id), limit).await.unwrap();
        page.iter().map(|row| row.at).collect()
    };
    assert_eq!(read(None, 0, None, 3).await, [1, 2, 3]);
    assert_eq!(read(None, 0, Some(3), 3).await, [4, 5]);
    assert_eq!(read(None, 0, Some(5), 3).await, [0; 0]);
    assert_eq!(read(None, 2, None, 100).await, [2, 3, 4, 5], "`since` itself is in");
    assert_eq!(read(None, 4, Some(1), 100).await, [4, 5]);
    assert_eq!(read(Some(&ann), 0, None, 2).await, [1, 4]);
    assert_eq!(read(Some(&ann), 0, Some(4), 2).await, [5]);
    assert_eq!(read(Some(&ann), 2, None, 2).await, [4, 5]);
    assert_eq!(read(Some(&tenant("eve")), 0, None, 2).await, [0; 0]);
}

pub(super) async fn old_decisions_are_forgotten_a_few_at_a_time(stores: &Stores) {
    store(stores, &[decision("t", 3), decision("u", 1), decision("t", 2), decision("t", 4)]).await;
    assert_eq!(stores.decisions.forget(1, 10).await.unwrap(), 0, "what was made at that moment stays");
    assert_eq!(stores.decisions.forget(4, 2).await.unwrap(), 2);
    assert_eq!(all(stores).await, [decision("t", 3), decision("t", 4)], "the oldest go first");
    assert_eq!(stores.decisions.forget(4, 2).await.unwrap(), 1);
    assert_eq!(stores.decisions.forget(4, 2).await.unwrap(), 0);
    assert_eq!(all(stores).await, [decision("t", 4)]);
}

pub(super) async fn what_was_learnt_is_replaced_for_its_tenant_and_model_only(stores: &Stores) {
    assert_eq!(stores.decisions.learned().await.unwrap(), []);
    let first = [learned("bob", "small", 1), learned("ann", "small", 1), learned("ann", "large", 1)];
    stores.decisions.save_learned(&first).await.unwrap();
    let second = LearnedRow { state: "{\"☃\":0}".into(), ..learned("ann", "small", 2) };
    for _ in 0..2 {
        stores.decisions.save_learned(&[second.clone(), learned("carol", "", 2)]).await.unwrap();
        assert_eq!(
            stores.decisions.learned().await.unwrap(),
            [learned("ann", "large", 1), second.clone(), learned("bob", "small", 1), learned("carol", "", 2)]
        );
    }
}

pub(super) async fn forgetting_a_tenant_takes_its_decisions_and_what_was_learnt_and_nothing_else(stores: &Stores) {
    let decisions = &stores.decisions;
    let rows: Vec<DecisionWrite> =
        [("ann", 1), ("bob", 2), ("ann", 3), ("ann", 4)].map(|(owner, n)| new_decision(decision(owner, n))).into();
    decisions.write(&rows).await.unwrap();
    decisions.save_learned(&[learned("ann", "m", 1), learned("bob", "m", 1)]).await.unwrap();
    assert_eq!(decisions.forget_tenant(&tenant("ann"), 2).await.unwrap(), 2);
    assert_eq!(decisions.forget_tenant(&tenant("ann"), 2).await.unwrap(), 1);
    assert_eq!(decisions.forget_tenant(&tenant("ann"), 2).await.unwrap(), 0);
    assert_eq!(decisions.since(None, 0, None, 10).await.unwrap(), [decision("bob", 2)]);
    assert_eq!(decisions.learned().await.unwrap(), [learned("bob", "m", 1)]);
}
