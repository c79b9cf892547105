//! What people write, change and delete, on a real store: documents that become shorter, names that move, edges, and the end of rows.

use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::config::Migrate;
use crate::ids::{KeyId, TenantId};
use crate::store::SqliteStore;
use crate::store::rem::{RemEdge, RemEdges};

struct World {
    store: Arc<SqliteStore>,
    _dir: tempfile::TempDir,
}

fn alice() -> Scope {
    Scope { tenant: TenantId::new("acme"), key: KeyId::new("alice") }
}

fn bob() -> Scope {
    Scope { key: KeyId::new("bob"), ..alice() }
}

fn stranger() -> Scope {
    Scope { tenant: TenantId::new("globex"), ..alice() }
}

/// A document of two parts, or of one.
fn document(parts: usize) -> Value {
    let text = "This sentence is about the plan of the year, as are those around it. ".repeat(20);
    let text: String = (0..parts).map(|n| format!("## Section {n}\n\n{text}\n\n")).collect();
    json!({ "name": "plan", "content": text, "format": "markdown", "uri": "file:plan.md" })
}

fn puts(writes: &[RemWrite]) -> Vec<&RemRow> {
    writes.iter().filter_map(|write| if let RemWrite::Put { row, .. } = write { Some(&**row) } else { None }).collect()
}

fn purged(writes: &[RemWrite]) -> Vec<RemId> {
    writes.iter().filter_map(|write| if let RemWrite::Purge { id, .. } = write { Some(*id) } else { None }).collect()
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&dir.path().join("remora.db"), Migrate::Auto).await.unwrap();
        Self { store, _dir: dir }
    }

    async fn apply(&self, scope: &Scope, writes: &[RemWrite]) {
        self.store.rem_apply(&scope.tenant, writes).await.unwrap();
    }

    /// Settles writes and applies them, as the API does.
    async fn bring(&self, scope: &Scope, writes: Result<Vec<RemWrite>, Fault>) -> Vec<RemWrite> {
        let writes = settle(&*self.store, scope, writes.unwrap()).await.unwrap();
        self.apply(scope, &writes).await;
        writes
    }

    async fn end(&self, scope: &Scope, table: RemTable, id: RemId, purge: bool) -> Result<usize, Fault> {
        let writes = delete(&*self.store, scope, table, id, purge, 9).await?;
        self.apply(scope, &writes).await;
        Ok(writes.len())
    }

    async fn change(&self, scope: &Scope, id: RemId, body: Value) {
        let rows = self.store.rem_rows(scope, &[id]).await.unwrap();
        self.apply(scope, &patch(&rows[0], &body, scope, 5).unwrap()).await;
    }

    /// Names of all rows of the tenant, hidden or not, by name.
    async fn kept(&self) -> Vec<String> {
        let mut all: Vec<String> = self
            .store
            .rem_export(None, 1_000)
            .await
            .unwrap()
            .into_iter()
            .filter_map(|whole| whole.row)
            .map(|row| row.name)
            .collect();
        all.sort();
        all
    }

    async fn named(&self, scope: &Scope, name: &str) -> Vec<RemRow> {
        let found = self.store.rem_named(scope, &[normalise(name)], &[], 100).await.unwrap();
        found.into_iter().map(|found| found.row).collect()
    }

    async fn edges_of(&self, scope: &Scope, id: RemId) -> Vec<(String, String, f64)> {
        let wanted = RemEdges { kinds: &[], min_weight: 0.0, limit: 100 };
        let edges = self.store.rem_edges_from(scope, &[id], wanted).await.unwrap();
        edges.into_iter().map(|edge| (edge.kind, edge.target, edge.weight)).collect()
    }
}

#[tokio::test]
async fn a_document_that_has_become_shorter_loses_its_old_parts_and_nothing_else() {
    let world = World::new().await;
    let me = alice();
    world.bring(&me, resources(&json!({"name": "other", "content": "x"}), &me, 1)).await;
    let four = world.bring(&me, resources(&document(4), &me, 1)).await;
    assert_eq!((puts(&four).len(), purged(&four).len()), (4, 0));
    assert_eq!(world.kept().await, ["other", "plan", "plan › Section 1", "plan › Section 2", "plan › Section 3"]);
    let again = world.bring(&me, resources(&document(4), &me, 2)).await;
    assert_eq!((puts(&again).len(), purged(&again).len()), (4, 0), "the same again replaces nothing");

    let two = world.bring(&me, resources(&document(2), &me, 3)).await;
    assert_eq!((puts(&two).len(), purged(&two).len()), (2, 2));
    assert_eq!(world.kept().await, ["other", "plan", "plan › Section 1"]);
    let first = puts(&two)[0].id;
    assert_eq!(world.edges_of(&me, first).await, [("next_part".to_owned(), "plan › Section 1".to_owned(), 1.0)]);
    let one = world.bring(&me, resources(&document(1), &me, 4)).await;
    assert_eq!((puts(&one)[0].part_of, purged(&one).len()), (None, 1));
    assert_eq!(world.kept().await, ["other", "plan"]);
    assert!(world.edges_of(&me, first).await.is_empty());
    assert_eq!(world.named(&me, "plan").await[0].created_at, 1, "it is the row of before");

    // The same document of another key, and the public one, are others.
    world.bring(&bob(), resources(&document(2), &bob(), 5)).await;
    let mut public = document(1);
    public["public"] = json!(true);
    world.bring(&bob(), resources(&public, &bob(), 6)).await;
    assert_eq!(world.kept().await, ["other", "plan", "plan", "plan", "plan › Section 1"]);
    assert_eq!((world.named(&me, "plan").await.len(), world.named(&bob(), "plan").await.len()), (2, 2));
}

#[tokio::test]
async fn a_document_that_is_written_again_keeps_the_edges_that_others_gave_it() {
    let world = World::new().await;
    let me = alice();
    let first = world.bring(&me, resources(&document(2), &me, 1)).await;
    let ids: Vec<RemId> = puts(&first).iter().map(|row| row.id).collect();
    let edge = |source: RemId, kind: &str| RemEdge {
        source,
        source_table: RemTable::Resources,
        kind: kind.to_owned(),
        target: "elsewhere".to_owned(),
        weight: 0.5,
        properties: serde_json::Map::new(),
        created_at: 1,
    };
    let edges = ids.iter().flat_map(|id| [edge(*id, "similar_to"), edge(*id, "about")]).collect();
    world.apply(&me, &[RemWrite::Link { owner: me.owner(), edges }]).await;
    let kinds = async |id: RemId| {
        let mut kinds: Vec<String> = world.edges_of(&me, id).await.into_iter().map(|edge| edge.0).collect();
        kinds.sort();
        kinds
    };
    world.bring(&me, resources(&document(2), &me, 2)).await;
    assert_eq!(kinds(ids[0]).await, ["about", "next_part", "similar_to"]);
    assert_eq!(kinds(ids[1]).await, ["about", "similar_to"]);
    // What the body says of its edges counts for them, and not for what is near.
    let mut body = document(2);
    body["graph_edges"] = json!([{"target": "Sarah Chen", "type": "by"}]);
    world.bring(&me, resources(&body, &me, 3)).await;
    assert_eq!(kinds(ids[0]).await, ["by", "next_part", "similar_to"]);
    assert_eq!(kinds(ids[1]).await, ["about", "similar_to"]);
    world.bring(&me, resources(&document(1), &me, 4)).await;
    assert_eq!(kinds(ids[0]).await, ["by", "similar_to"], "there is no next part any more");
    let person = |edges: Value| entities(&json!({"name": "Sarah", "graph_edges": edges}), &me, 1);
    let id = puts(&world.bring(&me, person(json!([{"target": "Plan", "type": "owns"}]))).await)[0].id;
    world.bring(&me, person(Value::Null)).await;
    assert_eq!(kinds(id).await, ["owns"]);
    world.bring(&me, person(json!([]))).await;
    assert_eq!(kinds(id).await, [""; 0]);
}

#[tokio::test]
async fn what_was_renamed_keeps_its_row_when_its_old_name_is_written_again() {
    let world = World::new().await;
    let me = alice();
    let plan = |text: &str| entities(&json!({"name": "Plan", "description": text}), &me, 1);
    let id = puts(&world.bring(&me, plan("old")).await)[0].id;
    world.change(&me, id, json!({"name": "Plan of 2023"})).await;
    assert!(world.named(&me, "plan").await.is_empty());
    let edge = json!({"name": "Plan", "description": "new", "graph_edges": [{"target": "Sarah Chen", "type": "by"}]});
    let new = puts(&world.bring(&me, entities(&edge, &me, 6)).await)[0].id;
    assert_ne!(new, id);
    let texts = |rows: Vec<RemRow>| rows.into_iter().map(|row| row.text).collect::<Vec<_>>();
    assert_eq!(texts(world.named(&me, "plan of 2023").await), ["old"]);
    assert_eq!(texts(world.named(&me, "plan").await), ["new"]);
    assert_eq!(world.edges_of(&me, new).await.len(), 1, "edges go with the row");
    assert_eq!(puts(&world.bring(&me, plan("newer")).await)[0].id, new, "and again it is that one");
    assert_eq!(world.kept().await, ["Plan", "Plan of 2023"]);

    // A document moves with all of its parts.
    let named = |parts: usize| {
        let mut body = document(parts);
        body.as_object_mut().unwrap().remove("uri");
        body["name"] = json!("Book");
        resources(&body, &me, 7)
    };
    let first = puts(&world.bring(&me, named(2)).await)[0].id;
    world.change(&me, first, json!({"name": "Old book"})).await;
    let moved = world.bring(&me, named(3)).await;
    let moved = puts(&moved);
    assert!(moved[0].id != first && moved.iter().all(|row| row.part_of.unwrap().0 == moved[0].id), "{moved:#?}");
    assert_eq!(world.edges_of(&me, moved[1].id).await[0].1, "Book › Section 2");
    assert_eq!(world.edges_of(&me, first).await[0].1, "Book › Section 1", "those of the old one stay");
    assert_eq!(world.kept().await.len(), 2 + 2 + 3);
}

#[tokio::test]
async fn edges_leave_rows_that_are_there_by_name_or_id_and_no_others() {
    let world = World::new().await;
    let me = alice();
    let people =
        json!([{"name": "Sarah Chen", "aliases": ["SC"]}, {"name": "Twin"}, {"name": "Guide", "public": true}]);
    let sarah = puts(&world.bring(&me, entities(&people, &me, 1)).await)[0].id;
    world.bring(&me, resources(&json!({"name": "Twin", "content": "x"}), &me, 1)).await;
    let link = async |scope: &Scope, body: Value| match edges(&*world.store, scope, &body, 2).await {
        Ok(writes) => {
            world.apply(scope, &writes).await;
            Ok(writes)
        }
        Err(fault) => Err((fault.code, fault.parameter.unwrap_or_default(), fault.hint.unwrap_or_default())),
    };
    let body = json!([
        {"source": "sarah-chen", "target": "Plan", "type": "owns", "weight": 0.5},
        {"source": "Guide", "dst": "Plan", "rel_type": "explains"},
        {"source_id": sarah.to_string(), "target": "Team", "relation": "leads"},
        {"source": "SC", "target": "Team", "type": "met"},
        {"source": "Twin", "source_table": "resources", "target": "Plan", "type": "of"},
    ]);
    let writes = link(&me, body.clone()).await.unwrap();
    let owners: Vec<String> = writes
        .iter()
        .map(|write| if let RemWrite::Link { owner, .. } = write { owner.to_string() } else { String::new() })
        .collect();
    assert_eq!(owners, ["key:alice", "public"]);
    let told = [("leads", "Team", 1.0), ("met", "Team", 1.0), ("owns", "Plan", 0.5)];
    let told = told.map(|(kind, target, weight)| (kind.to_owned(), target.to_owned(), weight));
    assert_eq!(world.edges_of(&me, sarah).await, told);
    link(&me, body).await.unwrap();
    link(&me, json!({"source": "Sarah Chen", "target": "PLAN", "type": "owns", "weight": 0.75})).await.unwrap();
    let weights: Vec<f64> = world.edges_of(&me, sarah).await.into_iter().map(|edge| edge.2).collect();
    assert_eq!(weights, [1.0, 1.0, 0.75], "one of the same type and target is brought up to date");

    let to = |mut source: Value| {
        let members = source.as_object_mut().unwrap();
        members.extend([("target".to_owned(), json!("x")), ("type".to_owned(), json!("t"))]);
        source
    };
    let (code, place, hint) = link(&me, to(json!({"source": "Twin"}))).await.unwrap_err();
    assert_eq!((code, place.as_str()), (Code::InvalidArgument, "source"));
    assert!(hint.contains("source_id") && hint.contains("(entities)") && hint.contains("(resources)"), "{hint}");
    for (scope, body, code, place) in [
        (me.clone(), json!({"source": "nobody"}), Code::NotFound, "source"),
        (me.clone(), json!({}), Code::InvalidArgument, "source"),
        (me.clone(), json!({"source": "SC", "source_id": sarah.to_string()}), Code::InvalidArgument, "source_id"),
        (me.clone(), json!({"source_id": "x"}), Code::InvalidArgument, "source_id"),
        (me.clone(), json!({"source": "SC", "source_table": "requests"}), Code::UnknownTable, "source_table"),
        (me.clone(), json!({"source": "SC", "source_table": "moments"}), Code::NotFound, "source"),
        (bob(), json!({"source": "Sarah Chen"}), Code::NotFound, "source"),
        (bob(), json!({"source_id": sarah.to_string()}), Code::NotFound, "source_id"),
        (stranger(), json!({"source_id": sarah.to_string()}), Code::NotFound, "source_id"),
        (stranger(), json!({"source": "Guide"}), Code::NotFound, "source"),
    ] {
        let (told, at, _) = link(&scope, to(body.clone())).await.unwrap_err();
        assert_eq!((told, at.as_str()), (code, place), "{body}");
    }
    assert_eq!(world.edges_of(&me, sarah).await.len(), 3);
}

#[tokio::test]
async fn a_document_ends_with_all_of_its_parts_for_those_who_may_end_it() {
    let world = World::new().await;
    let me = alice();
    let first = puts(&world.bring(&me, resources(&document(4), &me, 1)).await)[0].id;
    let told =
        async |scope: &Scope, table, purge| world.end(scope, table, first, purge).await.map_err(|fault| fault.code);
    for purge in [false, true] {
        for scope in [bob(), stranger()] {
            assert_eq!(told(&scope, RemTable::Resources, purge).await, Err(Code::NotFound));
        }
        assert_eq!(told(&me, RemTable::Entities, purge).await, Err(Code::NotFound), "it is in another table");
    }
    assert_eq!(world.named(&me, "plan › Section 3").await.len(), 1, "all of it is still there");

    assert_eq!(world.end(&me, RemTable::Resources, first, false).await, Ok(4));
    for name in ["plan", "plan › Section 1", "plan › Section 3"] {
        assert!(world.named(&me, name).await.is_empty(), "{name}");
    }
    assert_eq!(world.kept().await.len(), 4, "hidden");
    assert_eq!(told(&me, RemTable::Resources, false).await, Err(Code::NotFound), "what is hidden is not there");
    for scope in [bob(), stranger()] {
        assert_eq!(told(&scope, RemTable::Resources, true).await, Err(Code::NotFound));
    }
    assert_eq!(world.end(&me, RemTable::Resources, first, true).await, Ok(4), "hidden parts are purged, too");
    assert!(world.kept().await.is_empty());
    assert_eq!(told(&me, RemTable::Resources, true).await, Err(Code::NotFound), "again it is nothing");

    // Written again after it was hidden, it is back.
    let ids: Vec<RemId> =
        puts(&world.bring(&me, resources(&document(2), &me, 1)).await).iter().map(|row| row.id).collect();
    world.end(&me, RemTable::Resources, first, false).await.unwrap();
    world.bring(&me, resources(&document(2), &me, 3)).await;
    assert_eq!(world.named(&me, "plan › Section 1").await.len(), 1);
    // One part alone ends alone.
    assert_eq!(world.end(&me, RemTable::Resources, ids[1], true).await, Ok(1));
    assert_eq!(world.end(&me, RemTable::Resources, first, true).await, Ok(1));
    assert!(world.kept().await.is_empty());
}

#[tokio::test]
async fn public_rows_are_changed_by_the_key_that_wrote_them_and_rows_of_the_program_by_none() {
    let world = World::new().await;
    let me = alice();
    let guide = json!({"name": "Guide", "public": true, "graph_edges": [{"target": "Plan", "type": "of"}]});
    let id = puts(&world.bring(&me, entities(&guide, &me, 1)).await)[0].id;
    world.change(&me, id, json!({"description": "by alice"})).await;
    let row = world.named(&bob(), "guide").await.pop().unwrap();
    assert_eq!((row.text.as_str(), row.created_at, row.updated_at, row.owner), ("by alice", 1, 5, Owner::Public));
    assert_eq!(world.edges_of(&me, id).await.len(), 1, "edges stay unless they are said");
    world.change(&me, id, json!({"graph_edges": []})).await;
    assert!(world.edges_of(&me, id).await.is_empty());
    for purge in [false, true] {
        let told =
            async |scope: &Scope| world.end(scope, RemTable::Entities, id, purge).await.map_err(|fault| fault.code);
        assert_eq!(told(&stranger()).await, Err(Code::NotFound));
        assert_eq!(told(&bob()).await, Err(Code::Forbidden), "he sees it and has not written it");
    }
    assert_eq!(world.end(&me, RemTable::Entities, id, false).await, Ok(1));
    let told = world.end(&bob(), RemTable::Entities, id, true).await.map_err(|fault| fault.code);
    assert_eq!(told, Err(Code::NotFound), "what is hidden is there for its writer only");
    assert_eq!(world.end(&me, RemTable::Entities, id, true).await, Ok(1), "what is public and hidden is purged");
    assert!(world.kept().await.is_empty());

    let made = RemRow { made: true, ..puts(&entities(&json!({"name": "gpt-4o"}), &me, 1).unwrap())[0].clone() };
    let id = made.id;
    world.apply(&me, &[RemWrite::Put { row: Box::new(made), vector: None, edges: None }]).await;
    for purge in [false, true] {
        let told = async |table| world.end(&me, table, id, purge).await.map_err(|fault| fault.code);
        assert_eq!(told(RemTable::Entities).await, Err(Code::Forbidden));
        assert_eq!(told(RemTable::Moments).await, Err(Code::NotFound), "nor by the way of another table");
    }
    assert_eq!(world.kept().await, ["gpt-4o"]);
}
