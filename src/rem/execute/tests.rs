//! Unit tests of what is done above a store: order, pages, fusing, walking, caps and faults.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::super::*;
use super::memory_tests::{Memory, Statements};
use crate::clock::Clock;
use crate::embed::{EmbedError, Embedder};
use crate::ids::{KeyId, RemId, TenantId};
use crate::store::rem::*;

fn id(number: u64) -> RemId {
    RemId::from_bytes(u128::from(number).to_be_bytes())
}

fn scope() -> Scope {
    Scope { tenant: TenantId::new("t"), key: KeyId::new("a") }
}

fn row(number: u64, table: RemTable, name: &str) -> RemRow {
    RemRow {
        id: id(number),
        table,
        owner: Owner::Key(KeyId::new("a")),
        name: name.to_owned(),
        text: String::new(),
        label: String::new(),
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

impl Memory {
    fn with(mut self, row: RemRow) -> Self {
        self.rows.push((scope().tenant, row, None));
        self
    }

    fn named(self, number: u64, name: &str) -> Self {
        self.with(row(number, RemTable::Resources, name))
    }

    fn edge(mut self, source: u64, kind: &str, target: &str, weight: f64) -> Self {
        let edge = RemEdge {
            source: id(source),
            source_table: RemTable::Resources,
            kind: kind.to_owned(),
            target: target.to_owned(),
            weight,
            properties: Map::new(),
            created_at: 0,
        };
        self.edges.push((scope().tenant, scope().owner(), edge));
        self
    }
}

fn embedder() -> Embedder {
    Embedder::fixed(2, |text| match text {
        "zero" => Err(EmbedError::BreakerOpen),
        _ => Ok(vec![1.0, 0.0]),
    })
}

fn over(store: Arc<dyn RemStore>, sql: Result<SqlAnswer, SqlFault>) -> Rem {
    with(store, sql, Some(embedder()))
}

fn with(store: Arc<dyn RemStore>, sql: Result<SqlAnswer, SqlFault>, embedder: Option<Embedder>) -> Rem {
    Rem::new(RemParts {
        store,
        sql: Arc::new(Statements(sql)),
        embedder,
        caps: SqlCaps { rows: 10, bytes: 1_000, time: Duration::from_secs(1) },
        deadline: Duration::from_secs(5),
        clock: Clock::manual(0),
    })
}

fn memory(store: Memory) -> Rem {
    over(Arc::new(store), Err(SqlFault::Busy))
}

fn lookup(keys: &[&str]) -> Lookup {
    Lookup { keys: keys.iter().map(|key| (*key).to_owned()).collect(), tables: Vec::new(), limit: None }
}

fn walk(from: &str, depth: u8) -> Traverse {
    Traverse {
        start: Start::Key(from.to_owned()),
        types: Vec::new(),
        direction: Direction::Outbound,
        depth,
        min_weight: 0.0,
        load: Load::Load,
        order: None,
        limit: None,
        memo: None,
    }
}

fn search(text: &str, limit: u32) -> Search {
    Search {
        text: text.to_owned(),
        tables: vec![RemTable::Resources],
        field: None,
        filter: None,
        category: None,
        min_similarity: None,
        mode: None,
        limit,
        after: None,
    }
}

fn fuzzy(text: &str, threshold: f64, limit: u32) -> Fuzzy {
    Fuzzy { text: text.to_owned(), tables: Vec::new(), threshold, limit, after: None }
}

fn names(answer: &Answer) -> Vec<&str> {
    answer.results.iter().map(|found| found.name.as_str()).collect()
}

#[tokio::test]
async fn a_clique_is_walked_in_one_level_and_two_reads_for_each() {
    let mut store = Memory::default();
    for source in 0..10 {
        store = store.named(source, &format!("n{source}"));
        for target in (0..10).filter(|target| *target != source) {
            store = store.edge(source, "knows", &format!("n{target}"), 0.5);
        }
    }
    let store = Arc::new(store);
    let rem = over(Arc::clone(&store) as Arc<dyn RemStore>, Err(SqlFault::Busy));
    let answer = rem.run(&scope(), &Query::Traverse(walk("n0", 7))).await.unwrap();
    assert_eq!(answer.count, 10);
    assert_eq!(names(&answer), ["n0", "n1", "n2", "n3", "n4", "n5", "n6", "n7", "n8", "n9"]);
    let stages: Vec<_> = answer.stages.iter().map(|stage| (stage.depth, stage.nodes, stage.edges)).collect();
    assert_eq!(stages, [(0, 1, 0), (1, 9, 9), (2, 0, 81)]);
    // One for the entry point, two for the first level; the second level meets one new name, that of the entry point.
    assert_eq!(store.calls.load(Ordering::Relaxed), 5);
}

#[tokio::test]
async fn circles_and_edges_to_oneself_end_and_each_node_is_at_its_smallest_depth() {
    let store = Memory::default().named(1, "a").named(2, "b").named(3, "c");
    let store = store.edge(1, "x", "a", 1.0).edge(1, "x", "b", 0.5).edge(2, "x", "c", 1.0).edge(3, "x", "a", 1.0);
    let store = store.edge(1, "direct", "C", 0.1);
    let answer = memory(store).run(&scope(), &Query::Traverse(walk("a", 10))).await.unwrap();
    let met: Vec<_> = answer.results.iter().map(|found| (found.name.as_str(), found.depth.unwrap())).collect();
    assert_eq!(met, [("a", 0), ("b", 1), ("c", 1)]);
    assert_eq!(answer.results[2].path, ["a", "c"]);
    assert_eq!((answer.results[2].via.as_deref(), answer.results[2].weight), (Some("direct"), Some(0.1)));
    assert!(!answer.truncated);
}

#[tokio::test]
async fn a_walk_against_and_along_edges_counts_each_edge_once() {
    let store =
        Memory::default().named(1, "a").named(2, "b").named(3, "c").edge(2, "to", "a", 0.5).edge(1, "to", "c", 0.7);
    let rem = memory(store);
    let inbound = Traverse { direction: Direction::Inbound, ..walk("a", 2) };
    let answer = rem.run(&scope(), &Query::Traverse(inbound)).await.unwrap();
    assert_eq!(names(&answer), ["a", "b"]);
    assert_eq!(
        (answer.edge_summary[0].direction.as_str(), answer.edge_summary[0].samples[0].as_str()),
        ("inbound", "b")
    );
    let both = Traverse { direction: Direction::Both, ..walk("a", 3) };
    let answer = rem.run(&scope(), &Query::Traverse(both)).await.unwrap();
    assert_eq!(names(&answer), ["a", "c", "b"]);
    assert_eq!(answer.edge_summary.iter().map(|summary| summary.count).sum::<u64>(), 2);
    // An alias leads there too, but not if a row has it as its name.
    let aliased = RemRow { aliases: vec!["second".into(), "c".into()], ..row(1, RemTable::Entities, "first") };
    let store = Memory::default().with(aliased).named(2, "x").named(3, "c").edge(2, "to", "second", 1.0);
    let rem = over(Arc::new(store.edge(2, "to", "c", 1.0)), Err(SqlFault::Busy));
    let inbound = Traverse { direction: Direction::Inbound, ..walk("first", 1) };
    let answer = rem.run(&scope(), &Query::Traverse(inbound)).await.unwrap();
    assert_eq!((names(&answer), answer.edge_summary[0].count), (vec!["first", "x"], 1));
}

#[tokio::test]
async fn caps_end_a_walk_and_say_so() {
    let mut store = Memory::default().named(0, "hub");
    for leaf in 1..=1_200_u64 {
        let weight = if leaf == 1_111 { 1.0 } else { 0.5 };
        store = store.named(leaf, &format!("leaf {leaf:04}")).edge(0, "has", &format!("leaf {leaf:04}"), weight);
    }
    let rem = memory(store);
    let answer = rem.run(&scope(), &Query::Traverse(walk("hub", 3))).await.unwrap();
    assert!(answer.truncated);
    assert_eq!(
        (answer.count, answer.results[1].name.as_str(), answer.edge_summary[0].count),
        (1_000, "leaf 1111", 1_200)
    );
    let few = Traverse { limit: Some(2), ..walk("hub", 1) };
    let answer = rem.run(&scope(), &Query::Traverse(few)).await.unwrap();
    assert_eq!((names(&answer), answer.truncated), (vec!["hub", "leaf 1111"], true));

    let mut store = Memory::default().named(0, "hub");
    for leaf in 0..10_500_u64 {
        store = store.edge(0, "has", &format!("nothing {leaf:05}"), 0.5);
    }
    let answer =
        over(Arc::new(store), Err(SqlFault::Busy)).run(&scope(), &Query::Traverse(walk("hub", 3))).await.unwrap();
    assert!(answer.truncated);
    assert_eq!((answer.count, answer.edge_summary[0].count, answer.edge_summary[0].dangling), (1, 10_000, 10_000));
    assert_eq!(answer.edge_summary[0].samples.len(), 5);
}

#[tokio::test]
async fn of_a_name_that_very_many_rows_have_some_are_read_and_no_other_key_is_called_missing() {
    let mut store = Memory::default().named(5_000, "other");
    for number in 0..1_200 {
        store = store.named(number, "notes");
    }
    let rem = memory(store);
    let keys = ["notes", "other", "nothing"].map(str::to_owned).to_vec();
    let both = Lookup { keys, tables: Vec::new(), limit: None };
    let answer = rem.run(&scope(), &Query::Lookup(both)).await.unwrap();
    assert_eq!((answer.count, answer.truncated, answer.missing), (1_000, true, Vec::<String>::new()));
    let keys = ["nothing", "other", "notes"].map(str::to_owned).to_vec();
    let last = Lookup { keys, tables: Vec::new(), limit: Some(2) };
    let answer = rem.run(&scope(), &Query::Lookup(last)).await.unwrap();
    assert_eq!((answer.results[0].name.as_str(), answer.truncated), ("other", true));
    assert_eq!(answer.missing, ["nothing"]);
}

#[tokio::test]
async fn what_others_have_looks_like_nothing() {
    let mine = || Memory::default().named(1, "a").edge(1, "to", "secret", 1.0).edge(1, "to", "nowhere", 0.5);
    let mut with = mine();
    let theirs = RemRow { owner: Owner::Key(KeyId::new("b")), ..row(2, RemTable::Resources, "secret") };
    with.rows.push((scope().tenant, theirs.clone(), None));
    with.rows.push((TenantId::new("other"), RemRow { owner: Owner::Public, ..theirs }, None));
    for depth in [0, 2] {
        let query = Query::Traverse(walk("a", depth));
        let mut one = memory(mine()).run(&scope(), &query).await.unwrap();
        let mut other = over(
            Arc::new(Memory { rows: with.rows.clone(), edges: with.edges.clone(), ..Memory::default() }),
            Err(SqlFault::Busy),
        )
        .run(&scope(), &query)
        .await
        .unwrap();
        one.timing_ms = Timing::default();
        other.timing_ms = Timing::default();
        assert_eq!(serde_json::to_string(&one).unwrap(), serde_json::to_string(&other).unwrap());
        assert_eq!((one.edge_summary[0].count, one.edge_summary[0].dangling), (2, 2));
    }
}

#[tokio::test]
async fn a_plan_counts_for_each_entry_point_and_walks_nothing() {
    let store = Memory::default().named(1, "a").with(row(2, RemTable::Moments, "a")).named(3, "b");
    let store = store.edge(1, "x", "b", 1.0).edge(1, "x", "gone", 0.2).edge(2, "y", "b", 1.0);
    let plan = Traverse { memo: Some("m".into()), ..walk("a", 0) };
    let answer = memory(store).run(&scope(), &Query::Traverse(plan)).await.unwrap();
    assert_eq!((answer.count, answer.memo.as_deref(), answer.stages.len()), (0, Some("m"), 1));
    let told: Vec<Value> = answer.edge_summary.iter().map(|summary| json!(summary)).collect();
    let one =
        json!({"from": "a", "type": "x", "direction": "outbound", "count": 2, "samples": ["b", "gone"], "dangling": 1});
    let other = json!({"from": "a", "type": "y", "direction": "outbound", "count": 1, "samples": ["b"], "dangling": 0});
    assert_eq!(told, [one, other]);
}

#[tokio::test]
async fn nodes_are_told_and_ordered_as_asked() {
    let text = |number, name: &str| RemRow { text: "long".into(), ..row(number, RemTable::Resources, name) };
    let store = Memory::default().with(text(3, "a")).with(text(2, "z")).with(text(1, "m"));
    let rem = memory(store.edge(3, "x", "m", 0.5).edge(3, "x", "z", 0.9));
    let query = |load, order| Query::Traverse(Traverse { load, order, ..walk("a", 1) });
    let of = async |load, order| rem.run(&scope(), &query(load, order)).await.unwrap();
    let answer = of(Load::Load, None).await;
    assert_eq!((names(&answer), &answer.results[0].data["content"]), (vec!["a", "z", "m"], &json!("long")));
    let answer = of(Load::Lazy, Some((OrderBy::Name, true))).await;
    assert_eq!(names(&answer), ["z", "m", "a"]);
    assert!(answer.results.iter().all(|found| found.data.contains_key("uri") && !found.data.contains_key("content")));
    let answer = of(Load::Keys, Some((OrderBy::CreatedAt, false))).await;
    assert_eq!(names(&answer), ["m", "z", "a"]);
    assert!(answer.results.iter().all(|found| found.data.is_empty() && !found.id.is_empty()));
    assert_eq!(names(&of(Load::Keys, Some((OrderBy::Weight, false))).await), ["m", "z", "a"]);
}

#[tokio::test]
async fn names_are_found_by_the_best_class_of_match() {
    let alias = RemRow { aliases: vec!["Plan".into()], ..row(3, RemTable::Entities, "Other") };
    let rem = memory(Memory::default().named(1, "Plan").named(2, "plan").with(alias).named(4, "project plan"));
    let of = async |keys: &[&str]| rem.run(&scope(), &Query::Lookup(lookup(keys))).await.unwrap();
    assert_eq!(names(&of(&["plan"]).await), ["plan"]);
    assert_eq!(names(&of(&["PLAN"]).await), ["Plan", "plan"]);
    assert_eq!(names(&of(&["projectPlan"]).await), ["project plan"]);
    let answer = of(&["projct plan", "other", "OTHER", "- -", "nope"]).await;
    assert_eq!(names(&answer), ["Other"]);
    assert_eq!(answer.missing, ["projct plan", "- -", "nope"]);
    let close: Vec<_> = answer.suggestions.iter().map(|s| (s.missing.as_str(), s.name.as_str())).collect();
    assert_eq!(close, [("projct plan", "project plan"), ("projct plan", "Plan"), ("projct plan", "plan")]);
}

#[tokio::test]
async fn pages_of_similar_names_cover_each_once_and_a_cursor_fits_its_query_only() {
    let mut store = Memory::default();
    for number in 0..400 {
        store = store.named(number, &format!("report {number:03}"));
    }
    let rem = memory(store);
    let whole = rem.run(&scope(), &Query::Fuzzy(fuzzy("report 123", 0.3, 1_000))).await.unwrap();
    assert_eq!((whole.count, whole.results[0].name.as_str(), whole.next.as_deref()), (400, "report 123", None));
    let (mut query, mut paged) = (fuzzy("report 123", 0.3, 37), Vec::new());
    loop {
        let answer = rem.run(&scope(), &Query::Fuzzy(query.clone())).await.unwrap();
        assert!(!answer.truncated);
        paged.extend(answer.results);
        let Some(next) = answer.next else { break };
        query.after = Some(next);
    }
    assert_eq!(paged, whole.results);
    let after = query.after;
    for after in [after.as_deref().unwrap(), "???", "AAAA"] {
        let other = Fuzzy { after: Some(after.to_owned()), ..fuzzy("report 124", 0.3, 37) };
        let fault = rem.run(&scope(), &Query::Fuzzy(other)).await.unwrap_err();
        assert_eq!((fault.code, fault.parameter.as_deref()), (Code::InvalidArgument, Some("after")));
    }
    assert_eq!(rem.run(&scope(), &Query::Fuzzy(fuzzy("?!", 0.0, 10))).await.unwrap().count, 0);
}

#[tokio::test]
async fn pages_of_a_search_cover_each_row_once_and_do_not_depend_on_their_length() {
    let mut store = Memory::default();
    for number in 0..300_u64 {
        let text = if number % 3 == 0 { "blue whale" } else { "" };
        let row = RemRow { text: text.into(), ..row(number, RemTable::Resources, &format!("r{number:03}")) };
        // Every other row is near, from best to worst; the others are found by words or not at all.
        let angle = f32::from(u16::try_from(number).unwrap()) / 300.0;
        let vector = if number % 2 == 0 { vec![angle.cos(), angle.sin()] } else { vec![0.0, 1.0] };
        store.rows.push((scope().tenant, row, Some(vector)));
    }
    let rem = memory(store);
    let whole = rem.run(&scope(), &Query::Search(search("blue whale", 1_000))).await.unwrap();
    // 150 near ones and 50 that only words find.
    assert_eq!((whole.count, whole.next.as_deref()), (200, None));
    assert!(whole.results.iter().all(|found| found.score.is_some_and(f64::is_finite)));
    for length in [7, 100, 101] {
        let (mut query, mut paged) = (search("blue whale", length), Vec::new());
        loop {
            let answer = rem.run(&scope(), &Query::Search(query.clone())).await.unwrap();
            paged.extend(answer.results);
            let Some(next) = answer.next else { break };
            query.after = Some(next);
        }
        let once: HashSet<&str> = paged.iter().map(|found| found.id.as_str()).collect();
        assert_eq!((once.len(), paged == whole.results), (200, true), "pages of {length}");
    }
    let stated = Search { min_similarity: Some(0.3), ..search("blue whale", 1_000) };
    let answer = rem.run(&scope(), &Query::Search(stated)).await.unwrap();
    assert_eq!(answer.count, 150, "words alone do not do where a similarity was stated");
    let text = Search { mode: Some(Mode::Text), ..search("the blue whale", 1_000) };
    let answer = rem.run(&scope(), &Query::Search(text)).await.unwrap();
    assert_eq!((answer.count, answer.results[0].score, answer.degraded), (100, None, false));
    let vector = Search { mode: Some(Mode::Vector), ..search("blue whale", 20) };
    let answer = rem.run(&scope(), &Query::Search(vector)).await.unwrap();
    assert_eq!((answer.count, answer.results[0].score, answer.results[19].name.as_str()), (20, Some(1.0), "r038"));
}

#[tokio::test]
async fn without_an_embedder_a_search_fails_unless_words_were_asked_for() {
    let rem = memory(Memory::default().with(RemRow { text: "zero".into(), ..row(1, RemTable::Resources, "a") }));
    let of = async |mode, min_similarity| {
        rem.run(&scope(), &Query::Search(Search { mode, min_similarity, ..search("zero", 10) })).await
    };
    for (mode, least) in
        [(None, None), (Some(Mode::Vector), None), (Some(Mode::Hybrid), Some(0.1)), (Some(Mode::Text), Some(0.1))]
    {
        assert_eq!(of(mode, least).await.unwrap_err().code, Code::EmbeddingUnavailable, "{mode:?}");
    }
    let answer = of(Some(Mode::Hybrid), None).await.unwrap();
    assert_eq!((answer.count, answer.degraded, answer.results[0].score), (1, true, None));
    let answer = of(Some(Mode::Text), None).await.unwrap();
    assert_eq!((answer.count, answer.degraded), (1, false));
    let field = Search { field: Some("uri".into()), ..search("x", 10) };
    let fault = rem.run(&scope(), &Query::Search(field)).await.unwrap_err();
    assert_eq!((fault.code, fault.parameter.as_deref()), (Code::InvalidArgument, Some("field")));
}

#[tokio::test]
async fn where_vectors_are_switched_off_a_search_goes_by_words_and_says_so() {
    let store = Memory::default().with(RemRow { text: "zero".into(), ..row(1, RemTable::Resources, "a") });
    let rem = with(Arc::new(store), Err(SqlFault::Busy), None);
    let of = async |mode, min_similarity| {
        rem.run(&scope(), &Query::Search(Search { mode, min_similarity, ..search("zero", 10) })).await
    };
    for mode in [None, Some(Mode::Hybrid)] {
        let answer = of(mode, None).await.unwrap();
        assert_eq!((answer.count, answer.degraded, answer.results[0].score), (1, true, None), "{mode:?}");
    }
    assert!(!of(Some(Mode::Text), None).await.unwrap().degraded, "it is all that was asked for");
    for (mode, least) in [(Some(Mode::Vector), None), (None, Some(0.3)), (Some(Mode::Text), Some(0.3))] {
        let fault = of(mode, least).await.unwrap_err();
        assert_eq!(fault.code, Code::EmbeddingUnavailable, "{mode:?}");
        let hint = fault.hint.unwrap();
        assert!(hint.contains("[rem]") && hint.contains("MODE text") && !hint.contains("moment"), "{hint}");
    }
    let from = Start::Query(Box::new(Query::Search(search("zero", 10))));
    let answer = rem.run(&scope(), &Query::Traverse(Traverse { start: from, ..walk("", 1) })).await.unwrap();
    assert_eq!((answer.count, answer.degraded), (1, true));
}

#[tokio::test]
async fn stages_start_where_earlier_ones_ended() {
    let store = Memory::default().named(1, "a").named(2, "b").edge(1, "x", "b", 1.0);
    let rows = vec![vec![json!("a"), json!(1)], vec![json!("nobody"), json!(2)]];
    let sql = SqlAnswer { columns: vec!["name".into(), "name".into()], rows, truncated: true };
    let rem = over(Arc::new(store), Ok(sql));
    let from = |stage: &str| Query::Traverse(Traverse { start: Start::Stage(stage.into()), ..walk("", 1) });
    let stage = |name: &str, query| BatchStage { name: name.into(), query };
    let sql = Query::Sql(Sql { text: "SELECT 1".into() });
    let stages = [stage("s", sql), stage("w", from("s")), stage("v", from("w"))];
    let answers = rem.batch(&scope(), &stages).await.unwrap();
    assert_eq!((answers[0].1.truncated, &answers[0].1.results[0].data["name_2"]), (true, &json!(1)));
    assert_eq!((names(&answers[1].1), &answers[1].1.missing[..]), (vec!["a", "b"], &["nobody".to_owned()][..]));
    assert_eq!(names(&answers[2].1), ["a", "b"]);
    assert_eq!(answers[2].1.results[1].depth, Some(0));
    let (name, fault) = rem.batch(&scope(), &[stage("w", from("s"))]).await.unwrap_err();
    assert_eq!((name.as_str(), fault.code), ("w", Code::InvalidArgument));
}

#[tokio::test]
async fn an_id_is_a_start_and_that_of_others_is_none() {
    let theirs = RemRow { owner: Owner::Key(KeyId::new("b")), ..row(2, RemTable::Resources, "b") };
    let rem = memory(Memory::default().named(1, "a").with(theirs));
    let answer = rem.run(&scope(), &Query::Traverse(walk(&id(1).to_string(), 1))).await.unwrap();
    assert_eq!((names(&answer), answer.missing.len()), (vec!["a"], 0));
    let answer = rem.run(&scope(), &Query::Traverse(walk(&id(2).to_string(), 1))).await.unwrap();
    assert_eq!((answer.count, answer.missing.len()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn faults_are_told_in_our_words() {
    let store = Memory { fails: true, ..Memory::default() };
    let fault = memory(store).run(&scope(), &Query::Lookup(lookup(&["a"]))).await.unwrap_err();
    assert_eq!((fault.code, fault.detail.as_str()), (Code::Unavailable, "the data store did not answer"));
    let cases = [
        (SqlFault::Statement("a number is too large".into()), Code::InvalidArgument),
        (SqlFault::NotAllowed, Code::NotAllowed),
        (SqlFault::Timeout, Code::Timeout),
        (SqlFault::TooLarge, Code::TooLarge),
        (SqlFault::Busy, Code::Unavailable),
        (SqlFault::Unavailable("grant CREATEROLE".into()), Code::Unavailable),
    ];
    for (fault, code) in cases {
        let rem = over(Arc::new(Memory::default()), Err(fault));
        let query = Query::Sql(Sql { text: "SELECT 1".into() });
        assert_eq!(rem.run(&scope(), &query).await.unwrap_err().code, code);
        assert_eq!(rem.explain(&scope(), &query).await.unwrap().steps, ["SCAN resources"]);
    }
    let mut never = memory(Memory::default());
    never.parts.deadline = Duration::from_millis(20);
    let work = never.timed(std::future::pending::<Result<(), Fault>>()).await.unwrap_err();
    assert_eq!(work.code, Code::Timeout);
    let requests = Lookup { tables: vec![RemTable::Requests], ..lookup(&["a"]) };
    let fault = memory(Memory::default()).run(&scope(), &Query::Lookup(requests)).await.unwrap_err();
    assert_eq!((fault.code, fault.parameter.as_deref()), (Code::InvalidArgument, Some("table")));
}

#[tokio::test]
async fn a_plan_names_indexes_and_order() {
    let rem = memory(Memory::default());
    let told = async |query: Query| rem.explain(&scope(), &query).await.unwrap();
    let plan = told(Query::Lookup(lookup(&["Sarah  Chen"]))).await;
    assert!(plan.steps[0].contains("`sarah-chen`") && plan.steps[1].contains("rem_names_by_key"), "{plan:?}");
    let plan = told(Query::Search(search("api design", 10))).await;
    assert!(
        plan.statements == ["Nearest", "Worded", "Cosines"]
            && plan.steps.iter().any(|step| step.contains("reciprocal")),
        "{plan:?}"
    );
    let plan = told(Query::Traverse(Traverse { direction: Direction::Both, ..walk("a", 2) })).await;
    assert!(plan.steps.iter().any(|step| step.contains("rem_edges_by_target")), "{plan:?}");
}
