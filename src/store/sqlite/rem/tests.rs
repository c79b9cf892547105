//! Tests of what is particular to REM data in this database: plans, memory, traces in the file, the schema both ways.

use std::fs;
use std::sync::Arc;

use proptest::prelude::*;
use sqlx::{AssertSqlSafe, Row, query, query_scalar};

use super::super::super::conformance::Fixture;
use super::super::super::sample::{delete, entry_id, put as put_entry, tenant};
use super::super::files::TempStore;
use super::super::migrate::LATEST;
use super::super::{base, connect, migrate_down, migrate_up};
use super::*;
use crate::ids::KeyId;

fn id(number: u64) -> RemId {
    RemId::from_bytes(u128::from(number).to_be_bytes())
}

fn me() -> Scope {
    Scope { tenant: tenant("t"), key: KeyId::new("k") }
}

fn row(number: u64, name: &str) -> RemRow {
    RemRow {
        id: id(number),
        table: RemTable::Resources,
        owner: me().owner(),
        name: name.into(),
        text: format!("text of {name}"),
        label: "note".into(),
        uri: None,
        tags: Vec::new(),
        data: serde_json::Map::new(),
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

fn vector(angle: f32) -> RemVector {
    RemVector { space: "s@1/2".into(), vector: vec![angle.cos(), angle.sin()] }
}

fn put(row: RemRow, angle: f32) -> RemWrite {
    let edge = RemEdge {
        source: row.id,
        source_table: row.table,
        kind: "x".into(),
        target: "y".into(),
        weight: 1.0,
        properties: serde_json::Map::new(),
        created_at: 1,
    };
    RemWrite::Put { row: Box::new(row), vector: Some(vector(angle)), edges: Some(vec![edge]) }
}

async fn rows_in(temp: &TempStore, table: &str) -> i64 {
    let count = AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
    query_scalar(count).fetch_one(&temp.store.readers).await.unwrap()
}

#[tokio::test]
async fn everything_is_found_by_an_index() {
    let temp = TempStore::open().await;
    let question = RemQuestion { table: RemTable::Resources, cond: None, label: Some("note"), limit: 10 };
    let asked = conditions::Question { scope: &me(), of: &question, first: 2 };
    let statements = [
        (NAMED.to_owned(), "rem_names_by_key"),
        (ROWS.to_owned(), "sqlite_autoindex_rem_rows_1"),
        (COSINES.to_owned(), "sqlite_autoindex_rem_vectors_1"),
        (edges::FROM.to_owned(), "e USING PRIMARY KEY"),
        // What leads there from rows of others is not read.
        (edges::TO.to_owned(), "rem_edges_by_target (tenant=? AND target_key=? AND owner=? AND weight>?)"),
        (similar::AHEAD.to_owned(), "rem_names_by_owner"),
        (similar::READ_ON.to_owned(), "rem_names_by_owner"),
        (similar::VERIFY.to_owned(), "n USING INTEGER PRIMARY KEY"),
        (similar::COMMON.to_owned(), "p USING PRIMARY KEY"),
        (similar::POSTINGS.to_owned(), "p USING PRIMARY KEY"),
        (asked.sql(nearest::VERIFY).0, "v USING INTEGER PRIMARY KEY"),
        (nearest::READ_ON.to_owned(), "rem_vectors_by_part"),
        (nearest::AHEAD.to_owned(), "rem_vectors_by_part"),
        (keep::UNEMBEDDED.to_owned(), "rem_rows_by_space"),
        (listing::LISTED.to_owned(), "rem_rows_by_owner (tenant=? AND owner=? AND tab=? AND id>?)"),
        (super::super::entries::NEW_WITHOUT_ROW.to_owned(), "e USING PRIMARY KEY (tenant=? AND id>?)"),
        (keep::FORGET_HIDDEN.to_owned(), "rem_rows_hidden"),
        (keep::FORGET_MADE.to_owned(), "rem_rows_by_age"),
        (keep::FORGET_EDGES.to_owned(), "rem_edges_of_requests"),
    ];
    for (statement, index) in statements {
        let plan = query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}"))).fetch_all(&temp.store.readers).await;
        let steps: Vec<String> = plan.unwrap().iter().map(|row| row.get("detail")).collect();
        assert!(steps.iter().any(|step| step.contains(index)), "{statement}: {steps:?}");
        // Lists that are parameters, and what a statement has found itself, are read from end to end.
        let scans =
            |step: &&String| step.contains("SCAN") && !step.contains("VIRTUAL TABLE") && !step.contains("SCAN c");
        let scanned: Vec<&String> = steps.iter().filter(scans).filter(|step| !step.contains("(subquery")).collect();
        assert!(scanned.is_empty(), "{statement}: {scanned:?}");
    }
}

#[tokio::test]
async fn nothing_is_left_of_what_is_gone() {
    let temp = TempStore::open().await;
    let stores = temp.stores();
    stores.entries.apply(&[put_entry("t", 1)]).await.unwrap();
    let answer = RemRow { entry: Some(entry_id(1)), aliases: vec!["other".into()], ..row(1, "answer") };
    let rem = &*temp.store;
    rem.rem_apply(&tenant("t"), &[put(answer, 0.0), put(row(2, "note"), 0.0)]).await.unwrap();
    let tables = ["rem_rows", "rem_names", "rem_grams", "rem_words", "rem_vectors", "rem_edges"];
    for table in tables {
        assert!(rows_in(&temp, table).await > 0, "{table}");
    }
    stores.entries.apply(&[delete("t", 1)]).await.unwrap();
    rem.rem_apply(&tenant("t"), &[RemWrite::Purge { id: id(2), owner: me().owner() }]).await.unwrap();
    for table in tables {
        assert_eq!(rows_in(&temp, table).await, 0, "{table}");
    }
}

#[tokio::test]
async fn deleted_and_purged_words_are_in_no_file() {
    const CANARY: &str = "canary4f1d7c";
    let temp = TempStore::open().await;
    let directory = temp.path().parent().unwrap().to_owned();
    let traces = || {
        let files = fs::read_dir(&directory).unwrap().map(|file| fs::read(file.unwrap().path()).unwrap());
        // An index of words leaves out what a word has in common with the one before it.
        files.map(|bytes| memchr::memmem::find_iter(&bytes, &CANARY[1..]).count()).sum::<usize>()
    };
    let (rem, owner) = (&*temp.store, me().owner());
    let secret = RemRow { text: format!("{CANARY} {}", "long ".repeat(5_000)), ..row(1, CANARY) };
    rem.rem_apply(&tenant("t"), &[put(secret, 0.0), put(row(2, "other"), 0.0)]).await.unwrap();
    temp.stores().entries.purge().await.unwrap();
    assert!(traces() >= 3, "the canary must be seen while it is there");
    rem.rem_apply(&tenant("t"), &[RemWrite::Purge { id: id(1), owner }]).await.unwrap();
    temp.stores().entries.purge().await.unwrap();
    assert_eq!(traces(), 0);
    let found = rem.rem_rows(&me(), &[id(1), id(2)]).await.unwrap();
    assert_eq!(found.len(), 1);
}

#[tokio::test]
async fn what_does_not_fit_into_memory_is_found_all_the_same() {
    let temp = TempStore::open().await;
    let rem = &*temp.store;
    let name = |number: u64| format!("name {} {}", number % 37, number % 11);
    let angle = |number: u64| f32::from(u16::try_from(number * 7 % 300).unwrap()) / 100.0;
    let writes: Vec<RemWrite> = (1..=300).map(|number| put(row(number, &name(number)), angle(number))).collect();
    rem.rem_apply(&tenant("t"), &writes).await.unwrap();
    let question = RemQuestion { table: RemTable::Resources, cond: None, label: None, limit: 50 };
    let found = async || {
        let near = rem.rem_nearest(&me(), &vector(1.0), 0.5, &question).await.unwrap();
        let mut names = Vec::new();
        for least in [0.2, 0.5, 0.8] {
            names.push(rem.rem_similar(&me(), "nam 17 5", &[], least, 40).await.unwrap());
        }
        (near, names)
    };
    let in_memory = found().await;
    assert_eq!((in_memory.0.len(), in_memory.1[0].len()), (50, 40));
    rem.shelf.limit_to(100);
    rem.lexicons.limit_to(100);
    assert_eq!(found().await, in_memory);
}

#[tokio::test]
async fn nothing_is_kept_in_memory_of_callers_that_have_nothing() {
    let temp = TempStore::open().await;
    let rem = &*temp.store;
    rem.rem_apply(&tenant("t"), &[put(row(1, "note"), 0.0)]).await.unwrap();
    let question = RemQuestion { table: RemTable::Resources, cond: None, label: None, limit: 5 };
    for of in ["t", "made up", "made up too"] {
        let scope = Scope { tenant: tenant(of), key: KeyId::new("k") };
        let near = rem.rem_nearest(&scope, &vector(0.0), -1.0, &question).await.unwrap();
        let similar = rem.rem_similar(&scope, "note", &[], 0.1, 5).await.unwrap();
        assert_eq!((near.len(), similar.len()), if of == "t" { (1, 1) } else { (0, 0) }, "{of}");
    }
    assert_eq!((rem.shelf.count(), rem.lexicons.count()), (1, 1));
}

/// A statement that takes long: each of these rows has the word, and is compared with a pattern that nearly fits everywhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_search_that_nobody_waits_for_ends_and_one_caller_leaves_room_for_others() {
    let temp = TempStore::open().await;
    let rem = Arc::clone(&temp.store);
    let text = format!("word {}", "a".repeat(20_000));
    let long = |number| RemRow { text: text.clone(), ..row(number, "long") };
    let writes: Vec<RemWrite> = (1..=900).map(|number| put(long(number), 0.0)).collect();
    rem.rem_apply(&tenant("t"), &writes).await.unwrap();
    let content = columns(RemTable::Resources).iter().find(|c| c.name == "content");
    let cond = Cond::Like(*content.unwrap(), format!("%{}b%", "a".repeat(990)));
    let searches: Vec<_> = (0..6)
        .map(|_| {
            let (rem, cond) = (Arc::clone(&rem), cond.clone());
            tokio::spawn(async move {
                let table = RemTable::Resources;
                let question = RemQuestion { table, cond: Some(&cond), label: None, limit: 5 };
                rem.rem_worded(&me(), &["word".into()], &question).await
            })
        })
        .collect();
    let soon = std::time::Duration::from_secs(4);
    let other = Scope { tenant: tenant("u"), key: KeyId::new("k") };
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    let found = tokio::time::timeout(soon, rem.rem_named(&other, &["long".into()], &[], 5)).await;
    assert_eq!(found.expect("another tenant waits").unwrap(), []);
    tokio::time::timeout(soon, rem.rem_unembedded("s@1/2", 5)).await.expect("the background waits").unwrap();
    assert!(searches.iter().all(|search| !search.is_finished()), "the searches took too short a time to show anything");
    searches.iter().for_each(tokio::task::JoinHandle::abort);
    let places = super::super::search::PLACES;
    let free = tokio::time::timeout(soon, rem.searchers.places.take_all(places)).await;
    drop(free.expect("a statement goes on though nobody waits for it"));
    let found = tokio::time::timeout(soon, rem.rem_named(&me(), &["long".into()], &[], 5)).await;
    assert_eq!(found.unwrap().unwrap().len(), 5);
}

#[tokio::test]
async fn a_part_in_which_much_is_gone_is_read_anew() {
    let temp = TempStore::open().await;
    let rem = &*temp.store;
    let question = RemQuestion { table: RemTable::Resources, cond: None, label: None, limit: 5 };
    let ids = async || {
        let near = rem.rem_nearest(&me(), &vector(0.0), -1.0, &question).await.unwrap();
        let similar = rem.rem_similar(&me(), "name", &[], 0.1, 5).await.unwrap();
        assert_eq!(similar.len(), near.len());
        near.into_iter().map(|near| near.row.name).collect::<Vec<_>>()
    };
    // The same ten rows are renamed, so that each time ten numbers are left behind.
    for round in 0..150_u16 {
        let angle = |number: u64| f32::from(u16::try_from(number).unwrap() + round) / 1_000.0;
        let writes: Vec<RemWrite> =
            (1..=10).map(|number| put(row(number, &format!("name {round} {number}")), angle(number))).collect();
        rem.rem_apply(&tenant("t"), &writes).await.unwrap();
        assert_eq!(ids().await, (1..=5).map(|number| format!("name {round} {number}")).collect::<Vec<_>>());
    }
    let number = columns::part_number(&tenant("t"), &me().owner(), RemTable::Resources, "s@1/2");
    let kept = rem.shelf.part(number).read().unwrap().len();
    assert!(kept < 1_500, "{kept} vectors of ten rows");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn searches_that_meet_while_a_part_begins_anew_lose_nothing() {
    let temp = TempStore::open().await;
    let rem = Arc::clone(&temp.store);
    let names = columns::scope_number(&tenant("t"), &me().owner());
    let vectors = columns::part_number(&tenant("t"), &me().owner(), RemTable::Resources, "s@1/2");
    let kept: Vec<RemWrite> = (1..=20).map(|number| put(row(number, &format!("kept {number}")), 0.0)).collect();
    rem.rem_apply(&tenant("t"), &kept).await.unwrap();
    for round in 0..10 {
        let gone: Vec<RemWrite> = (100..200).map(|number| put(row(number, &format!("gone {number}")), 0.0)).collect();
        rem.rem_apply(&tenant("t"), &gone).await.unwrap();
        rem.rem_similar(&me(), "kept", &[], 0.1, 200).await.unwrap();
        let purges: Vec<RemWrite> =
            (100..200).map(|number| RemWrite::Purge { id: id(number), owner: me().owner() }).collect();
        rem.rem_apply(&tenant("t"), &purges).await.unwrap();
        // All of these find that much is gone, and some of them new names at the same moment.
        let late = put(row(1_000 + round, &format!("kept late {round}")), 0.0);
        let searches: Vec<_> = (0..8_usize)
            .map(|_| {
                let rem = Arc::clone(&rem);
                tokio::spawn(async move {
                    rem.lexicons.part(names).write().unwrap().unchecked = 1 << 20;
                    rem.shelf.part(vectors).write().unwrap().unchecked = 1 << 20;
                    let question = RemQuestion { table: RemTable::Resources, cond: None, label: None, limit: 400 };
                    rem.rem_nearest(&me(), &vector(0.0), -1.0, &question).await.unwrap();
                    rem.rem_similar(&me(), "kept", &[], 0.1, 400).await.unwrap();
                })
            })
            .collect();
        rem.rem_apply(&tenant("t"), &[late]).await.unwrap();
        for search in searches {
            search.await.unwrap();
        }
        let question = RemQuestion { table: RemTable::Resources, cond: None, label: None, limit: 400 };
        let expected = 20 + usize::try_from(round).unwrap() + 1;
        assert_eq!(rem.rem_similar(&me(), "kept", &[], 0.1, 400).await.unwrap().len(), expected, "names, {round}");
        assert_eq!(rem.rem_nearest(&me(), &vector(0.0), -1.0, &question).await.unwrap().len(), expected, "{round}");
    }
}

#[tokio::test]
async fn words_of_what_is_gone_leave_the_index_in_the_background() {
    let temp = TempStore::open().await;
    let rem = &*temp.store;
    let traces = async || {
        let sql = "SELECT count(*) FROM rem_words_data WHERE instr(block, CAST('anary4f1d7c' AS BLOB)) > 0";
        query_scalar::<_, i64>(sql).fetch_one(&temp.store.readers).await.unwrap()
    };
    for number in 1..=40 {
        let text = if number == 7 { "canary4f1d7c".to_owned() } else { format!("other words {number}") };
        let row = RemRow { text, ..row(number, &format!("note {number}")) };
        rem.rem_apply(&tenant("t"), &[put(row, 0.0)]).await.unwrap();
    }
    rem.rem_apply(&tenant("t"), &[RemWrite::Purge { id: id(7), owner: me().owner() }]).await.unwrap();
    assert!(traces().await > 0, "the word must be seen while it is there");
    assert_eq!(rem.rem_forget(0, 100).await.unwrap(), 0);
    assert_eq!(traces().await, 0);
    // Nothing is rewritten when nothing is gone.
    let changes =
        async || query_scalar::<_, i64>("SELECT max(rowid) FROM rem_words_data").fetch_one(&temp.store.readers).await;
    let before = changes().await.unwrap();
    rem.rem_forget(0, 100).await.unwrap();
    assert_eq!(changes().await.unwrap(), before);
    let question = RemQuestion { table: RemTable::Resources, cond: None, label: None, limit: 100 };
    assert_eq!(rem.rem_worded(&me(), &["other".into()], &question).await.unwrap().len(), 39);
}

#[tokio::test]
async fn down_and_up_again_keeps_rem_data_and_what_binds_it() {
    let temp = TempStore::open().await;
    temp.stores().entries.apply(&[put_entry("t", 1), put_entry("t", 2)]).await.unwrap();
    let answer = |number| put(RemRow { entry: Some(entry_id(number)), ..row(number, "answer") }, 0.0);
    temp.store.rem_apply(&tenant("t"), &[answer(1), answer(2), put(row(3, "note"), 0.0)]).await.unwrap();
    let before = temp.store.rem_export(None, 10).await.unwrap();
    temp.store.close().await;
    let path = temp.path();
    assert_eq!(migrate_down(&path, LATEST - 1).await.unwrap(), ["rem"]);
    let mut older = connect(&path, &base(&path)).await.unwrap();
    query("DELETE FROM entries WHERE id = ?1").bind(entry_id(1).to_bytes().to_vec()).execute(&mut older).await.unwrap();
    sqlx::Connection::close(older).await.unwrap();
    assert_eq!(migrate_up(&path, None).await.unwrap(), ["rem"]);
    let again = temp.again().await;
    assert_eq!(again.rem_export(None, 10).await.unwrap(), before[1..]);
    let question = RemQuestion { table: RemTable::Resources, cond: None, label: None, limit: 10 };
    assert_eq!(again.rem_worded(&me(), &["answer".into()], &question).await.unwrap().len(), 1);
    assert_eq!(again.rem_similar(&me(), "answer", &[], 0.9, 9).await.unwrap().len(), 1);
}

/// What one part alone decides: `by`, if one is so; else the opposite, if all are; else neither.
fn decided(parts: &[Cond], row: &RemRow, by: bool) -> Option<bool> {
    let parts: Vec<_> = parts.iter().map(|part| holds(part, row)).collect();
    if parts.contains(&Some(by)) {
        return Some(by);
    }
    parts.iter().all(Option::is_some).then_some(!by)
}

/// Whether a condition holds for a row: yes, no, or neither.
fn holds(cond: &Cond, row: &RemRow) -> Option<bool> {
    match cond {
        Cond::And(parts) => decided(parts, row, false),
        Cond::Or(parts) => decided(parts, row, true),
        Cond::Not(part) => holds(part, row).map(|holds| !holds),
        Cond::Is(column, compare, literal) if column.of == ColumnType::Tags => {
            let Literal::Text(text) = literal else { return None };
            match compare {
                Compare::Equal => Some(row.tags.contains(text)),
                Compare::NotEqual => Some(!row.tags.contains(text)),
                _ => None,
            }
        }
        Cond::Is(column, compare, literal) => {
            let order = match (value(*column, row)?, literal) {
                (Literal::Text(value), Literal::Text(literal)) => value.as_bytes().cmp(literal.as_bytes()),
                (Literal::Time(value), Literal::Time(literal)) => value.cmp(literal),
                (Literal::Integer(value), Literal::Integer(literal)) => value.cmp(literal),
                _ => return None,
            };
            Some(match compare {
                Compare::Equal => order.is_eq(),
                Compare::NotEqual => order.is_ne(),
                Compare::Less => order.is_lt(),
                Compare::LessOrEqual => order.is_le(),
                Compare::Greater => order.is_gt(),
                Compare::GreaterOrEqual => order.is_ge(),
            })
        }
        Cond::In(column, list) => {
            let one = |literal: &Literal| Cond::Is(*column, Compare::Equal, literal.clone());
            holds(&Cond::Or(list.iter().map(one).collect()), row)
        }
        Cond::Like(column, pattern) if column.of == ColumnType::Tags => {
            Some(row.tags.iter().any(|tag| like(tag, pattern)))
        }
        Cond::Like(column, pattern) => match value(*column, row)? {
            Literal::Text(text) => Some(like(&text, pattern)),
            _ => None,
        },
        Cond::Missing(column) if column.of == ColumnType::Tags => Some(row.tags.is_empty()),
        Cond::Missing(column) => Some(value(*column, row).is_none()),
    }
}

fn value(column: Column, row: &RemRow) -> Option<Literal> {
    match column.name {
        "name" => Some(Literal::Text(row.name.clone())),
        "uri" => row.uri.clone().map(Literal::Text),
        "content" => Some(Literal::Text(row.text.clone())),
        "part" => row.part_of.map(|(_, part)| Literal::Integer(part.into())),
        "created_at" => Some(Literal::Time(row.created_at)),
        other => panic!("{other} is not in these tests"),
    }
}

/// `LIKE`, letter by letter.
fn like(text: &str, pattern: &str) -> bool {
    fn matches(text: &[char], pattern: &[char]) -> bool {
        match pattern {
            [] => text.is_empty(),
            ['%', rest @ ..] => (0..=text.len()).any(|skipped| matches(&text[skipped..], rest)),
            ['_', rest @ ..] => !text.is_empty() && matches(&text[1..], rest),
            ['\\', letter, rest @ ..] | [letter, rest @ ..] => {
                text.first() == Some(letter) && matches(&text[1..], rest)
            }
        }
    }
    matches(&text.chars().collect::<Vec<_>>(), &pattern.chars().collect::<Vec<_>>())
}

fn any_text() -> impl Strategy<Value = String> {
    "[aAé%_\\\\*\\[\\]?\"🦀]{0,4}"
}

fn any_cond() -> impl Strategy<Value = Cond> {
    let column = |name: &str| *columns(RemTable::Resources).iter().find(|column| column.name == name).unwrap();
    let compare = prop::sample::select(vec![
        Compare::Equal,
        Compare::NotEqual,
        Compare::Less,
        Compare::LessOrEqual,
        Compare::Greater,
        Compare::GreaterOrEqual,
    ]);
    let texts = prop::sample::select(vec!["name", "uri", "content", "tags"]).prop_map(column);
    let leaf = prop_oneof![
        (texts.clone(), compare.clone(), any_text()).prop_map(|(column, compare, text)| match column.of {
            ColumnType::Tags if !matches!(compare, Compare::Equal | Compare::NotEqual) => Cond::Missing(column),
            _ => Cond::Is(column, compare, Literal::Text(text)),
        }),
        (compare.clone(), 0..4_u64).prop_map(move |(is, at)| Cond::Is(column("created_at"), is, Literal::Time(at))),
        (compare, 0..4_i64).prop_map(move |(is, part)| Cond::Is(column("part"), is, Literal::Integer(part))),
        (texts.clone(), prop::collection::vec(any_text(), 0..3))
            .prop_map(|(column, list)| Cond::In(column, list.into_iter().map(Literal::Text).collect())),
        (texts.clone(), any_text()).prop_map(|(column, pattern)| Cond::Like(column, pattern)),
        prop::sample::select(vec!["uri", "part", "tags", "name"]).prop_map(move |name| Cond::Missing(column(name))),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Cond::And),
            prop::collection::vec(inner.clone(), 0..3).prop_map(Cond::Or),
            inner.prop_map(|cond| Cond::Not(Box::new(cond))),
        ]
    })
}

fn any_row() -> impl Strategy<Value = RemRow> {
    let tags = prop::collection::vec(any_text(), 0..3);
    (any_text(), any_text(), prop::option::of(any_text()), tags, prop::option::of(0..4_u32), 0..4_u64).prop_map(
        |(name, text, uri, tags, part, created_at)| RemRow {
            text,
            uri,
            tags,
            part_of: part.map(|part| (id(99), part)),
            created_at,
            ..row(1, &name)
        },
    )
}

#[test]
fn conditions_in_sql_are_conditions_in_rust() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let temp = runtime.block_on(TempStore::open());
    let case = (any_cond(), prop::collection::vec(any_row(), 6));
    let config = ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |((cond, rows) in case)| {
        let rows: Vec<RemRow> = rows.into_iter().zip(1..).map(|(row, number)| RemRow { id: id(number), ..row }).collect();
        let writes: Vec<RemWrite> = rows.iter().map(|row| put(row.clone(), 0.0)).collect();
        let question = RemQuestion { table: RemTable::Resources, cond: Some(&cond), label: None, limit: 10 };
        let found = runtime.block_on(async {
            while temp.store.rem_forget_tenant(&tenant("t"), None, 100).await.unwrap() > 0 {}
            temp.store.rem_apply(&tenant("t"), &writes).await.unwrap();
            temp.store.rem_nearest(&me(), &vector(0.0), -1.0, &question).await.unwrap()
        });
        let mut found: Vec<RemId> = found.into_iter().map(|near| near.row.id).collect();
        found.sort_unstable();
        let expected: Vec<RemId> =
            rows.iter().filter(|row| holds(&cond, row) == Some(true)).map(|row| row.id).collect();
        prop_assert_eq!(found, expected);
    });
}
