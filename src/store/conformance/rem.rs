//! Promises about REM data: rows are written, replaced, hidden and purged with all that belongs to them, and found by name.

use serde_json::{Map, json};

use crate::ids::{EntryId, KeyId, RemId};
use crate::store::Stores;
use crate::store::rem::*;
use crate::store::sample::{entry_id, put as put_entry_of, tenant};

pub(super) const SPACE: &str = "minilm@1/3";

pub(super) fn store(stores: &Stores) -> &dyn RemStore {
    &**stores.rem.as_ref().unwrap()
}

pub(super) fn id(number: u64) -> RemId {
    RemId::from_bytes(u128::from(number).to_be_bytes())
}

/// Owner `key:…`, or `public` for that word.
pub(super) fn owner(name: &str) -> Owner {
    if name == "public" { Owner::Public } else { Owner::Key(KeyId::new(name)) }
}

pub(super) fn scope(of: &str, key: &str) -> Scope {
    Scope { tenant: tenant(of), key: KeyId::new(key) }
}

/// A plain row.
pub(super) fn row(table: RemTable, of: &str, number: u64, name: &str) -> RemRow {
    RemRow {
        id: id(number),
        table,
        owner: owner(of),
        name: name.into(),
        text: format!("text of {name}"),
        label: "note".into(),
        uri: None,
        tags: Vec::new(),
        data: Map::new(),
        aliases: Vec::new(),
        starts_at: None,
        ends_at: None,
        previous: None,
        part_of: None,
        entry: None,
        made: false,
        writer: None,
        created_at: number,
        updated_at: number,
        deleted_at: None,
    }
}

/// A resource.
pub(super) fn resource(of: &str, number: u64, name: &str) -> RemRow {
    row(RemTable::Resources, of, number, name)
}

/// A row in which every field is set, but for the entry.
pub(super) fn whole_row(of: &str, number: u64) -> RemRow {
    let data = json!({"größe": [1, 2.5, null, {"tief": true}], "☃": "\"quoted\""});
    RemRow {
        text: "Größe ☃ 'quoted' \\ % _".into(),
        label: "Métier".into(),
        uri: Some("file:///a b?c=d".into()),
        tags: vec!["team".into(), "größe, \"x\"".into(), String::new()],
        data: data.as_object().unwrap().clone(),
        aliases: vec!["Chief".into(), "東京 Tower".into()],
        starts_at: Some(1_000),
        ends_at: Some(2_000),
        previous: Some("the one before".into()),
        part_of: Some((id(77), 3)),
        made: true,
        writer: Some(KeyId::new("Schlüssel ☃")),
        created_at: 10,
        updated_at: 20,
        ..row(RemTable::Moments, of, number, "Zoë's Sync 𝔸")
    }
}

pub(super) fn put(row: RemRow) -> RemWrite {
    RemWrite::Put { row: Box::new(row), vector: None, edges: None }
}

pub(super) fn put_all(row: RemRow, vector: &[f32], edges: Vec<RemEdge>) -> RemWrite {
    RemWrite::Put { row: Box::new(row), vector: Some(vector_of(vector)), edges: Some(edges) }
}

/// A vector in [`SPACE`]; it must have length 1.
pub(super) fn vector_of(numbers: &[f32]) -> RemVector {
    RemVector { space: SPACE.into(), vector: numbers.to_vec() }
}

/// An edge from a resource.
pub(super) fn edge(source: u64, kind: &str, target: &str, weight: f64) -> RemEdge {
    RemEdge {
        source: id(source),
        source_table: RemTable::Resources,
        kind: kind.into(),
        target: target.into(),
        weight,
        properties: json!({"why": "☃"}).as_object().unwrap().clone(),
        created_at: 5,
    }
}

pub(super) async fn apply(stores: &Stores, of: &str, writes: &[RemWrite]) {
    store(stores).rem_apply(&tenant(of), writes).await.unwrap();
}

/// What is found under these names, as `asked/name it was found by/id`.
pub(super) async fn named(stores: &Stores, scope: &Scope, names: &[&str]) -> Vec<String> {
    let keys: Vec<String> = names.iter().map(|name| normalise(name)).collect();
    let found = store(stores).rem_named(scope, &keys, &[], 1_000).await.unwrap();
    found.iter().map(|found| format!("{}/{}/{}", found.asked, found.name, number(found.row.id))).collect()
}

pub(super) fn number(id: RemId) -> u128 {
    u128::from_be_bytes(id.to_bytes())
}

/// Numbers of rows whose names are similar to a text, best first, as the executor makes of candidates.
pub(super) async fn similar(stores: &Stores, scope: &Scope, text: &str, least: f64) -> Vec<String> {
    let found = store(stores).rem_similar(scope, text, &[], least, 1_000).await.unwrap();
    let wanted = Grams::of(text);
    let score = |name: &str| wanted.similarity(&Grams::of(name));
    let mut scored: Vec<(f64, RemSimilar)> = found.into_iter().map(|found| (score(&found.name), found)).collect();
    scored.retain(|(score, _)| *score >= least);
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.name.cmp(&b.1.name)).then(a.1.id.cmp(&b.1.id)));
    scored.iter().map(|(score, found)| format!("{}/{score:.3}", found.name)).collect()
}

/// Everything that is stored, hidden rows included.
pub(super) async fn everything(stores: &Stores) -> Vec<RemExported> {
    let (mut all, mut after): (Vec<RemExported>, Option<(_, _)>) = (Vec::new(), None);
    loop {
        let page = store(stores).rem_export(after.as_ref(), 2).await.unwrap();
        let Some(last) = page.last() else { return all };
        let source = last.row.as_ref().map_or_else(|| last.edges[0].1.source, |row| row.id);
        let here = Some((last.tenant.clone(), source));
        assert!(here > after && page.len() <= 2, "pages go on, by tenant and id");
        after = here;
        all.extend(page);
    }
}

/// Traces of a row anywhere but in what it is now: whether a name, a word, a trigram, a vector or an edge still leads to it.
async fn ghosts(stores: &Stores, scope: &Scope, name: &str, word: &str) -> usize {
    let question = RemQuestion { table: RemTable::Resources, cond: None, label: None, limit: 100 };
    let rem = store(stores);
    let by_word = rem.rem_worded(scope, &[word.to_owned()], &question).await.unwrap().len();
    named(stores, scope, &[name]).await.len() + similar(stores, scope, name, 0.9).await.len() + by_word
}

pub(super) async fn a_row_comes_back_with_every_field(stores: &Stores) {
    stores.entries.apply(&[put_entry_of("t", 3)]).await.unwrap();
    let (bare, whole) = (resource("public", 1, "x"), whole_row("k", 2));
    let of_entry = RemRow { entry: Some(entry_id(3)), ..whole_row("k", 3) };
    let odd = RemRow { text: "a \0 b".into(), label: String::new(), ..resource("k", 4, "odd \0 name") };
    let rows = [bare, whole, of_entry, odd];
    apply(stores, "t", &rows.clone().map(put)).await;
    let ids = [1, 2, 3, 4, 5].map(id);
    let mut found = store(stores).rem_rows(&scope("t", "k"), &ids).await.unwrap();
    found.sort_by_key(|row| row.id);
    assert_eq!(found, rows);
    assert_eq!(everything(stores).await.into_iter().filter_map(|each| each.row).collect::<Vec<_>>(), rows);
}

pub(super) async fn names_are_found_in_every_form_in_the_order_asked(stores: &Stores) {
    let sarah = RemRow {
        aliases: vec!["The Boss".into(), "sarah_chen".into()],
        ..row(RemTable::Entities, "k", 1, "Sarah Chen")
    };
    let rows = [
        sarah,
        row(RemTable::Moments, "k", 2, "sarah-chen"),
        resource("public", 3, "SARAH  CHEN"),
        resource("k", 4, "v1.2"),
        resource("k", 5, "v12"),
        resource("k", 6, " - _ "),
        resource("k", 8, "Sarah Chen"),
        resource("k", 7, "Sarah Chen"),
    ];
    apply(stores, "t", &rows.map(put)).await;
    let me = scope("t", "k");
    let found = named(stores, &me, &["the-boss", "v12", "nope", "Sarah_Chen", "V1.2", "v12"]).await;
    let expected = [
        "0/The Boss/1",
        "1/v12/5",
        "3/SARAH  CHEN/3",
        "3/Sarah Chen/7",
        "3/Sarah Chen/8",
        "3/Sarah Chen/1",
        "3/sarah-chen/2",
        "4/v1.2/4",
        "5/v12/5",
    ];
    assert_eq!(found, expected, "an alias that is the name again counts once");
    assert_eq!(named(stores, &me, &["", " - "]).await, [""; 0], "an empty form finds nothing");
    let found = store(stores).rem_named(&me, &["the-boss".into()], &[RemTable::Entities], 1_000).await.unwrap();
    assert!(found[0].alias && found[0].row.name == "Sarah Chen");
    assert_eq!(store(stores).rem_named(&me, &["the-boss".into()], &[RemTable::Moments], 1_000).await.unwrap(), []);
    assert_eq!(named(stores, &me, &[]).await, [""; 0]);
}

pub(super) async fn nobody_sees_rows_of_another_tenant_or_key(stores: &Stores) {
    let east = [1.0, 0.0, 0.0];
    let secret = |of: &str, number| {
        let hidden_edge = edge(number, "knows", "everybody", 1.0);
        put_all(
            RemRow { aliases: vec!["alias diary".into()], ..resource(of, number, "diary") },
            &east,
            vec![hidden_edge],
        )
    };
    apply(stores, "t", &[secret("a", 1), secret("b", 2), secret("public", 3)]).await;
    apply(stores, "u", &[secret("a", 4), secret("b", 2), secret("public", 6)]).await;
    for (of, key, visible) in [("t", "a", [1, 3]), ("t", "b", [2, 3]), ("u", "a", [4, 6]), ("u", "b", [2, 6])] {
        let (me, rem) = (scope(of, key), store(stores));
        let seen = visible.map(|number| format!("0/diary/{number}"));
        assert_eq!(named(stores, &me, &["Diary"]).await, seen);
        assert_eq!(named(stores, &me, &["alias diary"]).await.len(), 2);
        assert_eq!(similar(stores, &me, "diary", 0.1).await.len(), 4);
        let question = RemQuestion { table: RemTable::Resources, cond: None, label: None, limit: 100 };
        let near = rem.rem_nearest(&me, &vector_of(&east), -1.0, &question).await.unwrap();
        assert_eq!(near.iter().map(|near| number(near.row.id)).collect::<Vec<_>>(), visible);
        let mut worded = rem.rem_worded(&me, &["diary".into()], &question).await.unwrap();
        worded.sort_by_key(|row| row.id);
        assert_eq!(worded.iter().map(|row| number(row.id)).collect::<Vec<_>>(), visible);
        let ids = [1, 2, 3, 4, 5, 6].map(id);
        assert_eq!(rem.rem_rows(&me, &ids).await.unwrap().len(), 2);
        assert_eq!(rem.rem_cosines(&me, &vector_of(&east), &ids).await.unwrap().len(), 2);
        let any = RemEdges { kinds: &[], min_weight: 0.0, limit: 100 };
        assert_eq!(rem.rem_edges_from(&me, &ids, any).await.unwrap().len(), 2);
        let to = rem.rem_edges_to(&me, &["everybody".into()], any).await.unwrap();
        assert_eq!(to.iter().map(|edge| number(edge.source)).collect::<Vec<_>>(), visible);
    }
    let stranger = scope("v", "a");
    assert_eq!(ghosts(stores, &stranger, "diary", "diary").await, 0);
}

pub(super) async fn a_row_of_another_owner_is_not_replaced_hidden_or_purged(stores: &Stores) {
    apply(stores, "t", &[put_all(resource("a", 1, "mine"), &[1.0, 0.0, 0.0], vec![edge(1, "x", "y", 0.5)])]).await;
    let before = everything(stores).await;
    let writes = [
        put_all(resource("b", 1, "theirs"), &[0.0, 1.0, 0.0], vec![]),
        put(resource("public", 1, "everybody's")),
        RemWrite::Hide { id: id(1), owner: owner("b"), at: 9 },
        RemWrite::Purge { id: id(1), owner: owner("public") },
        RemWrite::Link { owner: owner("b"), edges: vec![edge(1, "z", "y", 1.0)] },
    ];
    apply(stores, "t", &writes).await;
    let same_elsewhere = [
        RemWrite::Hide { id: id(1), owner: owner("a"), at: 9 },
        RemWrite::Purge { id: id(1), owner: owner("a") },
        RemWrite::Embed { id: id(1), updated_at: 1, vector: vector_of(&[0.0, 0.0, 1.0]) },
        RemWrite::Link { owner: owner("a"), edges: vec![edge(1, "z", "y", 1.0)] },
        RemWrite::ForgetRequest { id: id(1) },
    ];
    apply(stores, "u", &same_elsewhere).await;
    assert_eq!(everything(stores).await, before);
    assert_eq!(named(stores, &scope("t", "b"), &["theirs", "everybody's"]).await, [""; 0]);
}

pub(super) async fn writes_made_twice_change_nothing(stores: &Stores) {
    stores.entries.apply(&[put_entry_of("t", 3)]).await.unwrap();
    let writes = [
        put_all(whole_row("k", 1), &[0.6, 0.8, 0.0], vec![edge(1, "a", "b", 0.5), edge(1, "a", "c", 1.0)]),
        put(RemRow { entry: Some(entry_id(3)), ..resource("public", 2, "answer") }),
        RemWrite::Embed { id: id(2), updated_at: 2, vector: vector_of(&[0.0, 1.0, 0.0]) },
        RemWrite::Link { owner: Owner::Public, edges: vec![edge(2, "d", "e", 0.25)] },
        put(resource("k", 3, "hidden")),
        RemWrite::Hide { id: id(3), owner: owner("k"), at: 9 },
        put(resource("k", 4, "purged")),
        RemWrite::Purge { id: id(4), owner: owner("k") },
    ];
    apply(stores, "t", &writes).await;
    let once = everything(stores).await;
    assert_eq!((once.len(), once[0].vectors.len(), once[0].edges.len()), (3, 1, 2));
    assert_eq!((once[1].vectors.len(), once[1].edges.len(), once[2].row.as_ref().unwrap().deleted_at), (1, 1, Some(9)));
    apply(stores, "t", &writes).await;
    assert_eq!(everything(stores).await, once);
    apply(stores, "t", &[]).await;
    let hidden_later = RemWrite::Hide { id: id(3), owner: owner("k"), at: 99 };
    apply(stores, "t", &[hidden_later, writes[1].clone()]).await;
    assert_eq!(everything(stores).await, once, "a row written again with the same text keeps its vector");
}

pub(super) async fn a_renamed_row_is_found_under_its_new_name_only(stores: &Stores) {
    let me = scope("t", "k");
    let old = RemRow { aliases: vec!["nickname".into()], ..resource("k", 1, "zebra crossing") };
    apply(stores, "t", &[put_all(old, &[1.0, 0.0, 0.0], vec![edge(1, "x", "y", 1.0)])]).await;
    assert_eq!(ghosts(stores, &me, "zebra crossing", "zebra").await, 3);
    let renamed = RemRow { created_at: 50, updated_at: 50, text: "other".into(), ..resource("k", 1, "giraffe") };
    apply(stores, "t", &[put(renamed.clone())]).await;
    assert_eq!(ghosts(stores, &me, "zebra crossing", "zebra").await, 0);
    assert_eq!(ghosts(stores, &me, "nickname", "nickname").await, 0);
    assert_eq!(ghosts(stores, &me, "giraffe", "giraffe").await, 3);
    assert_eq!(ghosts(stores, &me, "giraffe", "other").await, 3);
    let all = everything(stores).await;
    assert_eq!(all[0].row, Some(RemRow { created_at: 1, ..renamed }), "when it was first written is kept");
    assert_eq!(all[0].vectors, [], "the vector was that of another text");
    assert_eq!(all[0].edges.len(), 1, "edges that were not told of stay");
    apply(stores, "t", &[put_all(resource("k", 1, "giraffe"), &[0.0, 1.0, 0.0], vec![])]).await;
    let all = everything(stores).await;
    assert_eq!((all[0].vectors.len(), all[0].edges.len()), (1, 0), "edges that were told of are all there are");
}

pub(super) async fn a_hidden_row_is_found_by_nothing_and_comes_back_when_it_is_put(stores: &Stores) {
    let (me, east) = (scope("t", "k"), [1.0, 0.0, 0.0]);
    let question = RemQuestion { table: RemTable::Resources, cond: None, label: None, limit: 100 };
    let shown = put_all(resource("k", 1, "draft"), &east, vec![edge(1, "x", "target", 1.0)]);
    let any = RemEdges { kinds: &[], min_weight: 0.0, limit: 100 };
    let seen = async || {
        let rem = store(stores);
        let mut seen = vec![ghosts(stores, &me, "draft", "draft").await];
        seen.push(rem.rem_nearest(&me, &vector_of(&east), -1.0, &question).await.unwrap().len());
        seen.push(rem.rem_cosines(&me, &vector_of(&east), &[id(1)]).await.unwrap().len());
        seen.push(rem.rem_rows(&me, &[id(1)]).await.unwrap().len());
        seen.push(rem.rem_edges_from(&me, &[id(1)], any).await.unwrap().len());
        seen.push(rem.rem_edges_to(&me, &["target".into()], any).await.unwrap().len());
        seen.push(rem.rem_list(&me, RemTable::Resources, None, 10).await.unwrap().len());
        seen
    };
    apply(stores, "t", std::slice::from_ref(&shown)).await;
    assert_eq!(seen().await, [3, 1, 1, 1, 1, 1, 1]);
    apply(stores, "t", &[RemWrite::Hide { id: id(1), owner: owner("k"), at: 9 }]).await;
    assert_eq!(seen().await, [0; 7]);
    assert_eq!(store(stores).rem_unembedded(SPACE, 10).await.unwrap(), [], "nor is it embedded");
    apply(stores, "t", &[RemWrite::Embed { id: id(1), updated_at: 1, vector: vector_of(&east) }]).await;
    assert_eq!(seen().await, [0; 7], "nor by a vector that comes late");
    apply(stores, "t", std::slice::from_ref(&shown)).await;
    assert_eq!(seen().await, [3, 1, 1, 1, 1, 1, 1]);
    let hidden = RemRow { deleted_at: Some(4), ..resource("k", 1, "draft") };
    apply(stores, "t", &[put_all(hidden, &east, vec![edge(1, "x", "target", 1.0)])]).await;
    assert_eq!(seen().await, [0; 7], "put as hidden");
}

pub(super) async fn a_purged_row_leaves_no_ghost(stores: &Stores) {
    let me = scope("t", "k");
    let one = |number| put_all(resource("k", number, "same name"), &[1.0, 0.0, 0.0], vec![edge(number, "x", "y", 1.0)]);
    apply(stores, "t", &[one(1), one(2), RemWrite::Hide { id: id(2), owner: owner("k"), at: 9 }]).await;
    let purges = [1, 2].map(|number| RemWrite::Purge { id: id(number), owner: owner("k") });
    apply(stores, "t", &purges).await;
    assert_eq!(ghosts(stores, &me, "same name", "same").await, 0);
    assert_eq!(everything(stores).await, []);
    // Numbers may be given away again inside a database; nothing of the old row may stick to the new one.
    apply(stores, "t", &[put(resource("k", 3, "unrelated"))]).await;
    assert_eq!(ghosts(stores, &me, "same name", "same").await, 0);
    let all = everything(stores).await;
    assert_eq!((all.len(), all[0].vectors.len(), all[0].edges.len()), (1, 0, 0));
}

pub(super) async fn names_may_be_long_and_of_any_letters(stores: &Stores) {
    let me = scope("t", "k");
    let long = "long name ".repeat(100);
    let snow = "☃ 𝔸𝔹 🦀 東京タワー".to_owned();
    let wide = "🦀é".repeat(1_000);
    let words: Vec<String> = (0..2_000).map(|number| format!("w{number:x}")).collect();
    let rows: Vec<RemWrite> = [&long, &snow, &wide, &words.join(" ")]
        .into_iter()
        .zip(1..)
        .map(|(name, number)| put(resource("k", number, name)))
        .collect();
    apply(stores, "t", &rows).await;
    for (name, number) in [&long, &snow, &wide, &words.join(" ")].into_iter().zip(1..) {
        assert_eq!(named(stores, &me, &[name]).await, [format!("0/{name}/{number}")]);
        let similar = similar(stores, &me, name, 0.99).await;
        assert_eq!(similar, [format!("{name}/1.000")]);
    }
    let other = format!("{long}x");
    assert_eq!(named(stores, &me, &[&other]).await, [""; 0], "the last letter counts");
}

pub(super) async fn a_row_whose_entry_is_not_stored_is_not_written(stores: &Stores) {
    stores.entries.apply(&[put_entry_of("u", 1)]).await.unwrap();
    let answer = |entry: EntryId| put(RemRow { entry: Some(entry), ..resource("k", 1, "answer") });
    apply(stores, "t", &[answer(entry_id(1)), answer(entry_id(2)), put(resource("k", 2, "the rest goes on"))]).await;
    let all = everything(stores).await;
    assert_eq!((all.len(), all[0].row.as_ref().unwrap().id), (1, id(2)));
}

pub(super) async fn a_batch_is_applied_in_order(stores: &Stores) {
    let writes = [
        put(resource("k", 1, "first")),
        RemWrite::Purge { id: id(1), owner: owner("k") },
        put(resource("k", 1, "second")),
        RemWrite::Link { owner: owner("k"), edges: vec![edge(1, "a", "b", 0.1), edge(1, "a", "B", 0.2)] },
        RemWrite::Link { owner: owner("k"), edges: vec![edge(1, "a", "b", 0.3), edge(9, "a", "b", 0.3)] },
    ];
    apply(stores, "t", &writes).await;
    let all = everything(stores).await;
    assert_eq!((all.len(), all[0].row.as_ref().unwrap().name.as_str()), (1, "second"));
    let weights: Vec<_> =
        all[0].edges.iter().map(|(of, edge)| (of.clone(), edge.target.as_str(), edge.weight)).collect();
    assert_eq!(weights, [(owner("k"), "b", 0.3)], "edges to one name are one, and one from nowhere is none");
}
