//! Promises about REM data: edges, what goes with a cache entry, what the filling and embedding tasks ask for, and what is forgotten.

use serde_json::json;

use super::rem::{
    SPACE, apply, edge, everything, id, named, number, owner, put, put_all, resource, row as rem_row, scope, similar,
    store, vector_of,
};
use crate::ids::RemId;
use crate::store::rem::*;
use crate::store::sample::{
    bare_row, delete, drop_point, entry, entry_id, link, merge, point, put as put_entry, row, tenant,
};
use crate::store::{Cursor, Entry, EntryWrite, LedgerRow, Stores};

const ANY: RemEdges<'static> = RemEdges { kinds: &[], min_weight: 0.0, limit: 1_000 };

fn shown(edges: &[RemEdge]) -> Vec<String> {
    edges.iter().map(|edge| format!("{} {} {} {}", number(edge.source), edge.kind, edge.target, edge.weight)).collect()
}

pub(super) async fn edges_are_found_from_both_ends_heaviest_first(stores: &Stores) {
    let (me, rem) = (scope("t", "k"), store(stores));
    let first =
        vec![edge(1, "b", "Two", 0.5), edge(1, "a", "two", 0.5), edge(1, "a", "Three", 0.9), edge(1, "c", "", 0.0)];
    let writes = [
        put_all(resource("k", 1, "one"), &[1.0, 0.0, 0.0], first.clone()),
        put_all(
            resource("public", 2, "two"),
            &[1.0, 0.0, 0.0],
            vec![edge(2, "a", "THREE", 0.5), edge(2, "a", "one", 1.0)],
        ),
    ];
    apply(stores, "t", &writes).await;
    let from = rem.rem_edges_from(&me, &[1, 2, 3].map(id), ANY).await.unwrap();
    let expected = ["2 a one 1", "1 a Three 0.9", "2 a THREE 0.5", "1 a two 0.5", "1 b Two 0.5", "1 c  0"];
    assert_eq!(shown(&from), expected);
    assert_eq!(from[1], first[2], "every field comes back");
    let to = rem.rem_edges_to(&me, &["two".into(), "three".into(), "nope".into()], ANY).await.unwrap();
    assert_eq!(shown(&to), ["1 a Three 0.9", "1 a two 0.5", "2 a THREE 0.5", "1 b Two 0.5"]);
    assert_eq!(rem.rem_edges_to(&me, &[String::new()], ANY).await.unwrap(), [], "the empty form leads nowhere");
    let kinds = ["b".to_owned(), "zzz".to_owned()];
    let some = RemEdges { kinds: &kinds, ..ANY };
    assert_eq!(shown(&rem.rem_edges_from(&me, &[id(1)], some).await.unwrap()), ["1 b Two 0.5"]);
    let heavy = RemEdges { min_weight: 0.9, ..ANY };
    assert_eq!(shown(&rem.rem_edges_from(&me, &[id(1), id(2)], heavy).await.unwrap()), expected[..2]);
    let few = RemEdges { limit: 3, ..ANY };
    assert_eq!(shown(&rem.rem_edges_from(&me, &[id(1), id(2)], few).await.unwrap()), expected[..3]);
    assert_eq!(
        shown(&rem.rem_edges_to(&me, &["three".into()], RemEdges { limit: 1, ..ANY }).await.unwrap()),
        [expected[1]]
    );
    assert_eq!(rem.rem_edges_from(&me, &[], ANY).await.unwrap(), []);
    let stranger = scope("t", "other");
    assert_eq!(
        shown(&rem.rem_edges_from(&stranger, &[id(1), id(2)], ANY).await.unwrap()),
        ["2 a one 1", "2 a THREE 0.5"]
    );
}

pub(super) async fn edges_are_linked_from_rows_of_their_owner_and_requests_of_their_key(stores: &Stores) {
    let me = scope("t", "t/default");
    let other_key = LedgerRow { key: Some("t/other".into_key()), ..row("t", 8) };
    stores.ledger.append(&[row("t", 7), other_key, row("u", 9), bare_row(10)]).await.unwrap();
    apply(stores, "t", &[put(resource("t/default", 1, "one")), put(rem_row(RemTable::Moments, "public", 2, "two"))])
        .await;
    let of_request = |number| RemEdge { source_table: RemTable::Requests, ..edge(number, "answered_by", "one", 1.0) };
    let all = [7, 8, 9, 10, 11].map(of_request).to_vec();
    let mine = RemWrite::Link { owner: owner("t/default"), edges: [all, vec![edge(1, "x", "two", 0.5)]].concat() };
    let public = vec![edge(2, "y", "one", 0.25), edge(1, "y", "one", 0.25), of_request(7)];
    let writes = [mine, RemWrite::Link { owner: Owner::Public, edges: public }];
    for _ in 0..2 {
        apply(stores, "t", &writes).await;
        let edges: Vec<_> = everything(stores).await.into_iter().flat_map(|each| each.edges).collect();
        let kept: Vec<_> =
            edges.iter().map(|(of, edge)| (of.to_string(), number(edge.source), edge.source_table)).collect();
        let expected = [
            ("key:t/default".to_owned(), 1, RemTable::Resources),
            ("public".to_owned(), 2, RemTable::Moments),
            ("key:t/default".to_owned(), 7, RemTable::Requests),
        ];
        assert_eq!(kept, expected);
    }
    let to = store(stores).rem_edges_to(&me, &["one".into()], ANY).await.unwrap();
    assert_eq!(shown(&to), ["7 answered_by one 1", "2 y one 0.25"]);
    assert_eq!(store(stores).rem_edges_to(&scope("t", "t/other"), &["one".into()], ANY).await.unwrap().len(), 1);
    apply(stores, "t", &[RemWrite::ForgetRequest { id: id(7) }, RemWrite::ForgetRequest { id: id(2) }]).await;
    let to = store(stores).rem_edges_to(&me, &["one".into()], ANY).await.unwrap();
    assert_eq!(shown(&to), ["2 y one 0.25"], "rows do not go that way");
    assert!(stores.ledger.request(row("t", 7).request).await.unwrap().is_some());
}

pub(super) async fn edges_of_one_type_or_of_all_others_are_taken_away(stores: &Stores) {
    let whole = |of: &str, number| {
        let edges = vec![edge(number, "a", "x", 1.0), edge(number, "a", "y", 0.5), edge(number, "b", "x", 0.25)];
        put_all(resource(of, number, "row"), &[1.0, 0.0, 0.0], edges)
    };
    apply(stores, "t", &[whole("k", 1), whole("k", 2), whole("public", 3)]).await;
    apply(stores, "u", &[whole("k", 1)]).await;
    let unlink = |sources: &[u64], others| RemWrite::Unlink {
        owner: owner("k"),
        sources: sources.iter().copied().map(id).collect(),
        kind: "a".into(),
        others,
    };
    let left = async || -> Vec<String> {
        let all = everything(stores).await;
        all.iter()
            .flat_map(|each| {
                each.edges.iter().map(|(_, edge)| format!("{}/{}", each.tenant, shown(std::slice::from_ref(edge))[0]))
            })
            .collect()
    };
    let of_others = ["t/3 a x 1", "t/3 a y 0.5", "t/3 b x 0.25", "u/1 a x 1", "u/1 a y 0.5", "u/1 b x 0.25"];
    for _ in 0..2 {
        apply(stores, "t", &[unlink(&[1, 3, 9], false), unlink(&[2], true)]).await;
        assert_eq!(left().await, [&["t/1 b x 0.25", "t/2 a x 1", "t/2 a y 0.5"][..], &of_others].concat());
    }
    // In one transaction with what comes in their place.
    let link = RemWrite::Link { owner: owner("k"), edges: vec![edge(2, "a", "z", 0.75)] };
    apply(stores, "t", &[whole("k", 1), unlink(&[1, 2], false), link]).await;
    assert_eq!(left().await, [&["t/1 b x 0.25", "t/2 a z 0.75"][..], &of_others].concat());
}

/// A name for a conversion that reads well in a table of rows.
trait IntoKey {
    fn into_key(self) -> crate::ids::KeyId;
}

impl IntoKey for &str {
    fn into_key(self) -> crate::ids::KeyId {
        crate::ids::KeyId::new(self)
    }
}

pub(super) async fn requests_are_rows_for_the_key_that_made_them(stores: &Stores) {
    let other_key = LedgerRow { key: Some("t/other".into_key()), ..row("t", 8) };
    stores.ledger.append(&[row("t", 7), other_key, row("u", 9), bare_row(10)]).await.unwrap();
    apply(stores, "t", &[put(resource("t/default", 1, "one"))]).await;
    let ids = [1, 7, 8, 9, 10, 11].map(id);
    let mut rows = store(stores).rem_rows(&scope("t", "t/default"), &ids).await.unwrap();
    rows.sort_by_key(|row| row.id);
    assert_eq!(rows.iter().map(|row| number(row.id)).collect::<Vec<_>>(), [1, 7]);
    let request = &rows[1];
    assert_eq!((request.table, &request.owner), (RemTable::Requests, &owner("t/default")));
    assert_eq!((request.name.clone(), request.created_at, request.deleted_at), (id(7).to_string(), 7, None));
    let expected = json!({
        "id": id(7).to_string(), "started_at": "1970-01-01T00:00:00.007Z", "user_name": "Zoë", "model": "gpt-4o",
        "answered_by": "gpt-4o-2024-11-20", "route": "POST /v1/chat/completions", "dialect": "chat", "outcome": "hit",
        "tier": "semantic", "reason": "none", "similarity": 0.927, "entry": entry_id(7).to_string(), "status": 200,
        "upstream": "openai", "input_tokens": request.data["input_tokens"], "output_tokens": request.data["output_tokens"],
        "cost_usd": -1e-9, "saved_usd": request.data["saved_usd"], "latency_ms": 1.234,
    });
    assert_eq!(serde_json::Value::Object(request.data.clone()), expected);
    let columns = VIEWS.iter().find(|(view, _)| *view == "requests").unwrap().1;
    assert!(columns.iter().all(|column| request.data.contains_key(*column)) && request.data.len() == columns.len());
    assert_eq!(named(stores, &scope("t", "t/default"), &[&request.name]).await, [""; 0], "found by id only");
}

/// Entries 1 to 4 of tenant `t`, each with a row of the same number.
async fn answers(stores: &Stores) {
    let entries: Vec<EntryWrite> = (1..=4).map(|number| put_entry("t", number)).collect();
    stores.entries.apply(&entries).await.unwrap();
    stores.entries.apply(&[put_entry("u", 1)]).await.unwrap();
    let answer = |number| {
        let row = RemRow { entry: Some(entry_id(number)), ..resource("k", number, &format!("answer {number}")) };
        put_all(row, &[1.0, 0.0, 0.0], vec![edge(number, "x", "somewhere", 1.0)])
    };
    apply(stores, "t", &[1, 2, 3, 4].map(answer)).await;
    apply(stores, "t", &[put(resource("k", 9, "of no entry"))]).await;
    apply(stores, "u", &[answer(1)]).await;
}

pub(super) async fn a_row_goes_with_its_entry_however_that_is_deleted(stores: &Stores) {
    answers(stores).await;
    let me = scope("t", "k");
    let question = RemQuestion { table: RemTable::Resources, cond: None, label: None, limit: 100 };
    let left = async || {
        let rem = store(stores);
        let mut rows: Vec<u128> = everything(stores)
            .await
            .iter()
            .filter(|each| each.tenant == tenant("t"))
            .map(|each| number(each.row.as_ref().unwrap().id))
            .collect();
        assert_eq!(rows.pop(), Some(9));
        let sorted = |mut numbers: Vec<u128>| {
            numbers.sort_unstable();
            numbers
        };
        let near = rem.rem_nearest(&me, &vector_of(&[1.0, 0.0, 0.0]), -1.0, &question).await.unwrap();
        assert_eq!(sorted(near.iter().map(|near| number(near.row.id)).collect()), rows, "vectors");
        let worded = rem.rem_worded(&me, &["answer".into()], &question).await.unwrap();
        assert_eq!(sorted(worded.iter().map(|row| number(row.id)).collect()), rows, "words");
        let to = rem.rem_edges_to(&me, &["somewhere".into()], ANY).await.unwrap();
        assert_eq!(sorted(to.iter().map(|edge| number(edge.source)).collect()), rows, "edges");
        assert_eq!(similar(stores, &me, "answer", 0.5).await.len(), rows.len(), "trigrams");
        let mut names = 0;
        for number in 1..=4 {
            names += named(stores, &me, &[&format!("answer {number}")]).await.len();
        }
        assert_eq!(names, rows.len(), "names");
        rows
    };
    assert_eq!(left().await, [1, 2, 3, 4]);
    stores.entries.apply(&[delete("t", 1)]).await.unwrap();
    assert_eq!(left().await, [2, 3, 4]);
    stores.entries.apply(&[link("t", 2, 0, 4), link("t", 2, 1, 4)]).await.unwrap();
    assert_eq!(left().await, [3, 4]);
    stores.entries.apply(&[drop_point("t", 3, 0)]).await.unwrap();
    assert_eq!(left().await, [3, 4]);
    stores.entries.apply(&[drop_point("t", 3, 1)]).await.unwrap();
    assert_eq!(left().await, [4]);
    stores.entries.apply(&[put_entry("t", 5), merge("t", 4, 5)]).await.unwrap();
    assert_eq!(left().await, [0; 0]);
    assert_eq!(named(stores, &scope("u", "k"), &["answer 1"]).await, ["0/answer 1/1"], "that of another tenant stays");
}

pub(super) async fn entries_without_a_row_are_told_page_by_page(stores: &Stores) {
    answers(stores).await;
    let expired = Entry { expires_at: 50, ..entry("t", 7) };
    let late = EntryWrite::Put { entry: expired.into(), points: vec![point("t", 7, 0)] };
    stores.entries.apply(&[put_entry("t", 6), late, put_entry("t", 8), put_entry("u", 2)]).await.unwrap();
    apply(stores, "t", &[RemWrite::Hide { id: id(2), owner: owner("k"), at: 9 }]).await;
    let told_since = async |now, since: Option<u64>| {
        let (mut told, mut after): (Vec<String>, Option<Cursor>) = (Vec::new(), None);
        loop {
            let page =
                store(stores).rem_entries_without_row(now, since.map(entry_id), after.as_ref(), 2).await.unwrap();
            let Some(last) = page.last() else { return told };
            after = Some(Cursor { tenant: last.entry.tenant.clone(), entry: last.entry.id });
            for each in page {
                let points = stores.entries.points_of(&each.entry.tenant, each.entry.id).await.unwrap();
                let whole = stores.entries.entry(&each.entry.tenant, each.entry.id).await.unwrap();
                assert_eq!((Some(&each.entry), &each.points), (whole.as_ref(), &points), "with body and points");
                told.push(format!("{}/{}", each.entry.tenant, u128::from_be_bytes(each.entry.id.to_bytes())));
            }
        }
    };
    let told = async |now| told_since(now, None).await;
    assert_eq!(told(49).await, ["t/6", "t/7", "t/8", "u/2"]);
    assert_eq!(told(50).await, ["t/6", "t/8", "u/2"]);
    assert_eq!(told_since(50, Some(7)).await, ["t/8"]);
    assert_eq!(told_since(50, Some(2)).await, ["t/6", "t/8", "u/2"]);
    assert_eq!(told_since(50, Some(9)).await, [""; 0]);
}

pub(super) async fn rows_without_a_vector_are_told_oldest_change_first(stores: &Stores) {
    let dated = |number, updated_at| RemRow { updated_at, ..resource("k", number, "x") };
    let writes = [
        put(dated(1, 30)),
        put(dated(2, 10)),
        put_all(dated(3, 5), &[1.0, 0.0, 0.0], vec![]),
        put(RemRow { text: String::new(), ..dated(4, 1) }),
    ];
    apply(stores, "t", &writes).await;
    apply(stores, "u", &[put(dated(1, 20)), put(rem_row(RemTable::Moments, "public", 2, "y"))]).await;
    let told = async |space: &str, limit: u32| {
        let rows = store(stores).rem_unembedded(space, limit).await.unwrap();
        rows.iter().map(|(of, row)| format!("{of}/{}", number(row.id))).collect::<Vec<_>>()
    };
    assert_eq!(told(SPACE, 10).await, ["u/2", "t/2", "u/1", "t/1"]);
    assert_eq!(told(SPACE, 2).await, ["u/2", "t/2"]);
    assert_eq!(told("zzz@1/3", 10).await, ["u/2", "t/3", "t/2", "u/1", "t/1"], "each space by itself");
    assert_eq!(told("aaa@1/3", 10).await.len(), 5);
    apply(stores, "t", &[RemWrite::Embed { id: id(2), updated_at: 10, vector: vector_of(&[0.0, 1.0, 0.0]) }]).await;
    assert_eq!(told(SPACE, 10).await, ["u/2", "u/1", "t/1"]);
    let other = RemVector { space: "zzz@1/3".into(), vector: vec![0.0, 1.0, 0.0] };
    apply(stores, "t", &[RemWrite::Embed { id: id(2), updated_at: 10, vector: other }]).await;
    assert_eq!(told(SPACE, 10).await, ["u/2", "u/1", "t/1"], "a vector of another space takes none away");
    assert_eq!(told("zzz@1/3", 10).await, ["u/2", "t/3", "u/1", "t/1"]);
    assert_eq!(everything(stores).await[1].vectors.len(), 2);
    let rewritten = RemRow { text: "other".into(), ..dated(2, 11) };
    apply(stores, "t", &[put(rewritten)]).await;
    assert_eq!(told("zzz@1/3", 10).await, ["u/2", "t/3", "t/2", "u/1", "t/1"]);
}

fn ids(all: &[RemExported]) -> Vec<String> {
    let source = |each: &RemExported| each.row.as_ref().map_or_else(|| each.edges[0].1.source, |row| row.id);
    all.iter().map(|each| format!("{}/{}", each.tenant, number(source(each)))).collect()
}

pub(super) async fn what_traffic_left_and_what_was_hidden_is_forgotten_when_it_is_old(stores: &Stores) {
    stores.ledger.append(&[row("t", 7), row("t", 8)]).await.unwrap();
    stores.entries.apply(&[put_entry("t", 3)]).await.unwrap();
    let made = |table, number, updated_at| RemRow { made: true, updated_at, ..rem_row(table, "k", number, "x") };
    let writes = [
        put(made(RemTable::Moments, 1, 10)),
        put(made(RemTable::Entities, 2, 20)),
        put(RemRow { entry: Some(entry_id(3)), ..made(RemTable::Resources, 3, 1) }),
        put(RemRow { updated_at: 1, ..rem_row(RemTable::Entities, "k", 4, "a user's") }),
        put(resource("k", 5, "hidden early")),
        put(resource("k", 6, "hidden late")),
        RemWrite::Hide { id: id(5), owner: owner("k"), at: 10 },
        RemWrite::Hide { id: id(6), owner: owner("k"), at: 20 },
    ];
    apply(stores, "t", &writes).await;
    let of_request = |number, created_at| RemEdge {
        source_table: RemTable::Requests,
        created_at,
        ..edge(number, "answered_by", "x", 1.0)
    };
    apply(
        stores,
        "t",
        &[RemWrite::Link { owner: owner("t/default"), edges: vec![of_request(7, 10), of_request(8, 20)] }],
    )
    .await;
    let forget = async |before, limit| store(stores).rem_forget(before, limit).await.unwrap();
    assert_eq!(forget(10, 100).await, 0);
    assert_eq!(forget(15, 2).await, 2);
    assert_eq!(forget(15, 2).await, 1);
    assert_eq!(forget(15, 2).await, 0);
    assert_eq!(ids(&everything(stores).await), ["t/2", "t/3", "t/4", "t/6", "t/8"]);
    assert_eq!(forget(1_000, 100).await, 3);
    assert_eq!(ids(&everything(stores).await), ["t/3", "t/4"], "answers go with their entries, a user's rows stay");
}

pub(super) async fn a_tenant_or_an_owner_is_forgotten_and_nothing_else(stores: &Stores) {
    stores.ledger.append(&[row("t", 7)]).await.unwrap();
    let all = |of: &str| {
        let one = |number: u64, of: &str| {
            put_all(resource(of, number, "x"), &[1.0, 0.0, 0.0], vec![edge(number, "x", "y", 1.0)])
        };
        [one(1, of), one(2, "t/default"), one(3, "t/default"), one(4, "public")]
    };
    apply(stores, "t", &all("k")).await;
    apply(stores, "u", &all("t/default")).await;
    let of_request = RemEdge { source_table: RemTable::Requests, ..edge(7, "answered_by", "x", 1.0) };
    apply(stores, "t", &[RemWrite::Link { owner: owner("t/default"), edges: vec![of_request] }]).await;
    let forget = async |of: &str, key: Option<&str>, limit| {
        let key = key.map(owner);
        store(stores).rem_forget_tenant(&tenant(of), key.as_ref(), limit).await.unwrap()
    };
    let until_done = async |of: &str, key: Option<&str>| {
        let mut turns = 0;
        while forget(of, key, 1).await > 0 {
            turns += 1;
            assert!(turns < 50, "there is no end");
        }
    };
    until_done("t", Some("t/default")).await;
    let left = everything(stores).await;
    assert_eq!(ids(&left), ["t/1", "t/4", "u/1", "u/2", "u/3", "u/4"]);
    assert!(left.iter().all(|each| each.edges.len() == 1 && each.vectors.len() == 1));
    until_done("t", None).await;
    assert_eq!(ids(&everything(stores).await), ["u/1", "u/2", "u/3", "u/4"]);
    assert!(forget("u", None, 1_000).await >= 4);
    assert_eq!((forget("u", None, 1_000).await, everything(stores).await), (0, vec![]));
}

pub(super) async fn an_export_put_into_an_empty_store_is_the_same(stores: &Stores) {
    stores.ledger.append(&[row("t", 7)]).await.unwrap();
    answers(stores).await;
    apply(stores, "t", &[RemWrite::Hide { id: id(9), owner: owner("k"), at: 9 }]).await;
    let of_request = RemEdge { source_table: RemTable::Requests, ..edge(7, "answered_by", "x", 1.0) };
    let link = RemWrite::Link { owner: owner("t/default"), edges: vec![of_request] };
    apply(stores, "t", &[link, put(super::rem::whole_row("t/default", 0))]).await;
    let all = everything(stores).await;
    assert_eq!(ids(&all), ["t/0", "t/1", "t/2", "t/3", "t/4", "t/7", "t/9", "u/1"]);
    for of in ["t", "u"] {
        while store(stores).rem_forget_tenant(&tenant(of), None, 100).await.unwrap() > 0 {}
    }
    assert_eq!(everything(stores).await, []);
    for each in all.clone() {
        let mut writes = Vec::new();
        let links: Vec<(Owner, RemEdge)> = each.edges;
        if let Some(row) = each.row {
            let id: RemId = row.id;
            let updated_at = row.updated_at;
            let edges = links.iter().map(|(_, edge)| edge.clone()).collect();
            writes.push(RemWrite::Put { row: Box::new(row), vector: None, edges: Some(edges) });
            writes.extend(each.vectors.into_iter().map(|vector| RemWrite::Embed { id, updated_at, vector }));
        } else {
            writes.extend(links.into_iter().map(|(owner, edge)| RemWrite::Link { owner, edges: vec![edge] }));
        }
        store(stores).rem_apply(&each.tenant, &writes).await.unwrap();
    }
    assert_eq!(everything(stores).await, all);
}
