//! What queries mean, line by line, and what is wrong with those that mean nothing.

mod conditions;
mod identity;
mod typed;

use super::*;
use crate::rem::{Code, Fuzzy, Load, Lookup, Mode, OrderBy, Search, Start, Traverse, guard};
use crate::store::rem::Direction;

pub(super) fn read(text: &str) -> Query {
    parse(text).unwrap_or_else(|fault| panic!("{text}: {fault:?}"))
}

pub(super) fn fault(text: &str) -> Fault {
    match parse(text) {
        Ok(query) => panic!("{text}: {query:?}"),
        Err(fault) => {
            assert!(fault.code != Code::ParseError || fault.position.is_some(), "{text}: {fault:?}");
            assert!(fault.hint.is_some(), "{text}: {fault:?}");
            fault
        }
    }
}

fn lookup(keys: &[&str]) -> Lookup {
    Lookup { keys: keys.iter().map(|key| (*key).to_owned()).collect(), tables: vec![], limit: None }
}

pub(super) fn search(text: &str) -> Search {
    Search {
        text: text.into(),
        tables: vec![RemTable::Resources],
        field: None,
        filter: None,
        category: None,
        min_similarity: None,
        mode: None,
        limit: 10,
        after: None,
    }
}

fn fuzzy(text: &str) -> Fuzzy {
    Fuzzy { text: text.into(), tables: vec![], threshold: 0.3, limit: 10, after: None }
}

pub(super) fn walk(start: Start) -> Traverse {
    Traverse {
        start,
        types: vec![],
        direction: Direction::Outbound,
        depth: 1,
        min_weight: 0.0,
        load: Load::Load,
        order: None,
        limit: None,
        memo: None,
    }
}

fn walk_from(key: &str) -> Traverse {
    walk(Start::Key(key.into()))
}

#[test]
fn lookups_take_keys_quoted_and_bare() {
    for (text, keys) in [
        ("LOOKUP sarah-chen", &["sarah-chen"][..]),
        ("lookup \"SARAH  CHEN\"", &["SARAH  CHEN"]),
        ("  Get\tsarah_chen ", &["sarah_chen"]),
        ("LOOKUP project-plan, onboarding-guide, nope", &["project-plan", "onboarding-guide", "nope"]),
        ("LOOKUP \"Smith, John\"", &["Smith, John"]),
        ("LOOKUP O'Brien", &["O'Brien"]),
        (
            "LOOKUP o'brien,'it''s', \"a\"\"b\", 'c\\'d', \"C:\\new\\\\\"",
            &["o'brien", "it's", "a\"b", "c'd", "C:\\new\\"],
        ),
        ("LOOKUP Sarah  Chen , Mike", &["Sarah  Chen", "Mike"]),
        ("LOOKUP in-depth, table-top, limitless", &["in-depth", "table-top", "limitless"]),
        ("LOOKUP \"LIMIT\", \"in resources\"", &["LIMIT", "in resources"]),
        ("LOOKUP floor plan", &["floor plan"]),
        ("LOOKUP 東京 タワー, v1.2", &["東京 タワー", "v1.2"]),
        ("LOOKUP key=\"sarah chen\"", &["sarah chen"]),
        ("LOOKUP keys=a,\"b c\"", &["a", "b c"]),
        ("LOOKUP https://example.com/?a=b", &["https://example.com/?a=b"]),
        ("LOOKUP order of merit", &["order of merit"]),
    ] {
        assert_eq!(read(text), Query::Lookup(lookup(keys)), "{text}");
    }
    let all = Lookup { tables: vec![RemTable::Moments, RemTable::Entities], limit: Some(7), ..lookup(&["a b"]) };
    for text in [
        "LOOKUP a b IN moments, Entities LIMIT 7",
        "lookup a b limit 7 from moments,entities",
        "LOOKUP \"a b\" TABLE moments , entities,moments limit=7",
        "LOOKUP \"a b\" table=moments,entities LIMIT = 7",
    ] {
        assert_eq!(read(text), Query::Lookup(all.clone()), "{text}");
    }
}

#[test]
fn fuzzy_and_search_take_a_text_and_clauses_in_any_order() {
    assert_eq!(read("FUZZY \"sara chen\""), Query::Fuzzy(fuzzy("sara chen")));
    assert_eq!(read("FUZZY projct-plan"), Query::Fuzzy(fuzzy("projct-plan")));
    assert_eq!(read("FUZZY plan"), Query::Fuzzy(fuzzy("plan")));
    let all = Fuzzy {
        tables: vec![RemTable::Entities],
        threshold: 0.5,
        limit: 3,
        after: Some("c=1".into()),
        ..fuzzy("sara, the chen")
    };
    for text in [
        "FUZZY sara, the chen IN entities THRESHOLD .5 LIMIT 3 AFTER c=1",
        "fuzzy 'sara, the chen' after \"c=1\" limit 3 threshold=0.5 table=entities",
        "fuzzy text=\"sara, the chen\" min_similarity=5e-1 cursor=\"c=1\" limit=3 in entities",
    ] {
        assert_eq!(read(text), Query::Fuzzy(all.clone()), "{text}");
    }
    let three = Search { limit: 3, ..search("api design") };
    for text in [
        "SEARCH \"api design\" IN resources LIMIT 3",
        "SEARCH \"api design\" FROM resources LIMIT 3",
        "SEARCH api design LIMIT 3",
        "search \"api design\" table resources limit 3",
    ] {
        assert_eq!(read(text), Query::Search(three.clone()), "{text}");
    }
    let all = Search {
        tables: vec![RemTable::Moments],
        field: Some("summary".into()),
        category: Some("weekly meeting".into()),
        min_similarity: Some(0.0),
        mode: Some(Mode::Text),
        limit: 1_000,
        after: Some("x".into()),
        ..search("who said \"this\"")
    };
    for text in [
        "SEARCH 'who said \"this\"' IN moments FIELD summary CATEGORY weekly meeting MIN_SIMILARITY 0 MODE text LIMIT 1000 AFTER x",
        "SEARCH 'who said \"this\"' mode=TEXT after=x limit=1000 threshold=0 category=\"weekly meeting\" field=summary in moments",
    ] {
        assert_eq!(read(text), Query::Search(all.clone()), "{text}");
    }
}

#[test]
fn walks_start_at_a_key_or_at_a_query() {
    assert_eq!(read("TRAVERSE project-plan"), Query::Traverse(walk_from("project-plan")));
    assert_eq!(read("TRAVERSE FROM \"Project Plan\""), Query::Traverse(walk_from("Project Plan")));
    let deep = Traverse { depth: 2, ..walk_from("Project Plan") };
    for text in [
        "TRAVERSE \"Project Plan\" DEPTH 2",
        "TRAVERSE max_depth=2 key=\"Project Plan\"",
        "traverse DEPTH 2 FROM 'Project Plan' outbound load",
    ] {
        assert_eq!(read(text), Query::Traverse(deep.clone()), "{text}");
    }
    let plan = Traverse { depth: 0, ..walk_from("project-plan") };
    assert_eq!(read("TRAVERSE project-plan DEPTH 0"), Query::Traverse(plan.clone()));
    for text in [
        "TRAVERSE project-plan PLAN",
        "TRAVERSE project-plan plan=true",
        "TRAVERSE Plan=TRUE key=project-plan",
        "TRAVERSE plan = \"true\" FROM project-plan",
    ] {
        assert_eq!(read(text), Query::Traverse(plan.clone()), "{text}");
    }
    assert_eq!(read("TRAVERSE project-plan plan=false DEPTH 1"), Query::Traverse(walk_from("project-plan")));
    let within = Start::Query(Box::new(Query::Fuzzy(fuzzy("sara"))));
    assert_eq!(read("TRAVERSE WITH FUZZY sara plan=true"), Query::Traverse(Traverse { depth: 0, ..walk(within) }));
    for (text, code, position) in [
        ("TRAVERSE a plan=1", Code::InvalidArgument, 16),
        ("TRAVERSE a plan=", Code::ParseError, 16),
        ("TRAVERSE a plan=true DEPTH 2", Code::ParseError, 21),
        ("LOOKUP a plan=true", Code::ParseError, 9),
    ] {
        let refused = fault(text);
        assert_eq!((refused.code, refused.position), (code, Some(position)), "{text}: {refused}");
    }
    let typed = Traverse { depth: 2, types: vec!["references".into(), "part of".into()], ..walk_from("project-plan") };
    for text in [
        "TRAVERSE project-plan DEPTH 2 TYPE references, \"part of\"",
        "TRAVERSE project-plan rel_types=references,\"part of\" DEPTH 2",
        "TRAVERSE project-plan edge_types=\"references\", 'part of' max_depth 2",
    ] {
        assert_eq!(read(text), Query::Traverse(typed.clone()), "{text}");
    }
    let inner = Start::Query(Box::new(Query::Lookup(lookup(&["project-plan"]))));
    let with = Traverse { types: vec!["depends_on".into()], ..walk(inner) };
    for text in [
        "TRAVERSE depends_on WITH LOOKUP \"project-plan\"",
        "TRAVERSE WITH LOOKUP project-plan TYPE depends_on",
        "TRAVERSE TYPE depends_on WITH LOOKUP project-plan",
        "TRAVERSE rel_type=depends_on with get project-plan depth 1",
    ] {
        assert_eq!(read(text), Query::Traverse(with.clone()), "{text}");
    }
    let all = Traverse {
        direction: Direction::Both,
        depth: 10,
        min_weight: 0.25,
        load: Load::Keys,
        order: Some((OrderBy::Weight, true)),
        limit: Some(9),
        memo: Some("step, one".into()),
        ..walk_from("a")
    };
    for text in [
        "TRAVERSE a BOTH DEPTH 10 MIN_WEIGHT 0.25 KEYS ORDER BY weight DESC LIMIT 9 MEMO step, one",
        "TRAVERSE a memo=\"step, one\" limit=9 order_by=weight desc load=keys min_weight=.25 depth=10 direction=both",
        "TRAVERSE a memo \"step, one\" order by WEIGHT desc limit 9 keys min_weight .25 both depth 10",
    ] {
        assert_eq!(read(text), Query::Traverse(all.clone()), "{text}");
    }
}

#[test]
fn a_query_after_with_has_its_own_clauses_until_one_is_not_its_own() {
    let inner = |limit| Start::Query(Box::new(Query::Fuzzy(Fuzzy { limit, ..fuzzy("sara") })));
    let walk = |limit, start| Query::Traverse(Traverse { limit, ..walk(start) });
    assert_eq!(read("TRAVERSE WITH FUZZY sara LIMIT 3"), walk(None, inner(3)));
    assert_eq!(read("TRAVERSE WITH FUZZY sara LIMIT 3 LIMIT 4"), walk(Some(4), inner(3)));
    assert_eq!(read("TRAVERSE WITH FUZZY sara DEPTH 1 LIMIT 4"), walk(Some(4), inner(10)));
    assert_eq!(read("TRAVERSE LIMIT 4 WITH FUZZY sara"), walk(Some(4), inner(10)));
}

#[test]
fn stages_are_known_in_a_batch_only() {
    let text = "TRAVERSE knows WITH $people_1 DEPTH 1";
    let stage = Traverse { types: vec!["knows".into()], ..walk(Start::Stage("people_1".into())) };
    assert_eq!(parse_stage(text), Ok(Query::Traverse(stage)));
    let refused = fault(text);
    assert_eq!((refused.code, refused.position), (Code::InvalidArgument, Some(20)));
    assert_eq!(parse_stage("TRAVERSE WITH $").map_err(|fault| fault.code), Err(Code::ParseError));
}

#[test]
fn statements_go_to_the_guard_and_tables_become_statements() {
    // Equal to what the guard says, whatever that is.
    let outcome = |text: &str| parse(text).map(|query| query.to_string()).map_err(|fault| (fault.code, fault.detail));
    let checked = |text: &str| guard::check(text).map_err(|fault| (fault.code, fault.detail));
    for (text, statement) in [
        ("SELECT name FROM resources ORDER BY name", "SELECT name FROM resources ORDER BY name"),
        ("  sql\n select 1", "select 1"),
        ("SQL WITH d AS (SELECT 1) SELECT * FROM d", "WITH d AS (SELECT 1) SELECT * FROM d"),
        (
            "WITH d AS (DELETE FROM resources RETURNING *) SELECT * FROM d",
            "WITH d AS (DELETE FROM resources RETURNING *) SELECT * FROM d",
        ),
        ("SQL DROP TABLE resources", "DROP TABLE resources"),
        ("SQL (SELECT 1)", "(SELECT 1)"),
        ("SQL DELETE FROM resources", "DELETE FROM resources"),
        ("SQL truncate table resources", "truncate table resources"),
        ("SQL Update LIMIT 1", "Update LIMIT 1"),
        ("SQL REPLACE", "REPLACE"),
        ("SQL moments", "SELECT * FROM moments"),
        ("SQL moments WHERE \"kind='meeting'\" LIMIT 10", "SELECT * FROM moments\nWHERE kind='meeting'\nLIMIT 10"),
        (
            "sql Requests limit 5 where status = 200 and model in ('a', 'b') order by started_at desc, id",
            "SELECT * FROM requests\nWHERE status = 200 and model in ('a', 'b')\nORDER BY started_at desc, id\nLIMIT 5",
        ),
    ] {
        assert_eq!(outcome(text), checked(statement), "{text}");
    }
    let select = "DELETE FROM resources";
    assert_eq!(fault(select).code, Code::ParseError, "never taken for SQL");
    for writing in
        ["SQL DELETE FROM resources", "sql delete\nfrom resources where 1 = 1", "SQL VACUUM", "SQL SET LIMIT 1"]
    {
        assert_eq!(fault(writing).code, Code::ReadOnly, "{writing}");
    }
    assert_eq!(fault("SQL nothing").code, Code::UnknownTable);
    assert_eq!(fault("SQL").code, Code::ParseError);
    assert_eq!(fault("SQL moments kind = 'x'").code, Code::ParseError);
}

/// The text, what is wrong with it, where, with which parameter, and a piece of the advice.
type Wrong = (&'static str, Code, usize, Option<&'static str>, &'static str);

#[test]
fn every_fault_says_what_where_and_how_to_mend_it() {
    use Code::{InvalidArgument, ParseError, UnknownTable};
    let wrong: &[Wrong] = &[
        ("hello world", ParseError, 0, None, "LOOKUP, FUZZY, SEARCH, TRAVERSE or SQL"),
        ("  lokup x", ParseError, 2, None, "did you mean LOOKUP?"),
        ("", ParseError, 0, None, "LOOKUP"),
        (" \n", ParseError, 2, None, "LOOKUP"),
        ("LOOKUP \"unclosed", ParseError, 7, None, "put another"),
        ("LOOKUP 東 'unclosed", ParseError, 9, None, "quotes"),
        ("LOOKUP", ParseError, 6, Some("keys"), "as in LOOKUP"),
        ("LOOKUP IN resources", ParseError, 19, Some("keys"), "quoted"),
        ("LOOKUP a,", ParseError, 9, Some("keys"), "quoted"),
        ("LOOKUP a,, b", ParseError, 9, Some("keys"), "quoted"),
        ("LOOKUP \"a\", \" \"", InvalidArgument, 12, Some("keys"), "take it out"),
        ("LOOKUP \"a\" b", ParseError, 11, Some("b"), "its clauses are IN, FROM, TABLE, LIMIT"),
        ("LOOKUP a IN", ParseError, 11, Some("tables"), "quoted"),
        ("LOOKUP a IN resources,", ParseError, 22, None, "comma"),
        ("LOOKUP a IN LIMIT 3", ParseError, 12, Some("tables"), "quoted"),
        ("LOOKUP a IN resuorces", UnknownTable, 12, Some("tables"), "did you mean resources?"),
        ("LOOKUP a IN requests", UnknownTable, 12, Some("tables"), "SELECT * FROM requests"),
        ("SEARCH what is in the budget", UnknownTable, 18, Some("tables"), "quoted"),
        ("LOOKUP a LIMIT 0", InvalidArgument, 15, Some("limit"), "as in 10"),
        ("LOOKUP a LIMIT 1001", InvalidArgument, 15, Some("limit"), "as in 10"),
        ("LOOKUP a LIMIT ten", InvalidArgument, 15, Some("limit"), "as in 10"),
        ("LOOKUP a LIMIT", ParseError, 14, Some("limit"), "quoted"),
        ("LOOKUP a limit=-1", InvalidArgument, 15, Some("limit"), "as in 10"),
        ("LOOKUP a LIMIT 3 LIMIT 4", ParseError, 17, Some("limit"), "once"),
        ("LOOKUP a IN moments FROM entities", ParseError, 20, Some("tables"), "once"),
        ("LOOKUP a DEPTH 2", ParseError, 9, Some("DEPTH"), "TRAVERSE has it"),
        ("LOOKUP a depht=2", ParseError, 9, Some("depht"), "its clauses are"),
        ("LOOKUP a b \"c\"", ParseError, 11, None, "whole text"),
        ("FUZZY plan THRESHOLD 1.5", InvalidArgument, 21, Some("threshold"), "as in 0.5"),
        ("FUZZY plan THRESHOLD -0.1", InvalidArgument, 21, Some("threshold"), "as in 0.5"),
        ("FUZZY plan THRESHOLD nan", InvalidArgument, 21, Some("threshold"), "as in 0.5"),
        ("FUZZY plan TRESHOLD 0.5", ParseError, 11, Some("TRESHOLD"), "did you mean THRESHOLD?"),
        ("FUZZY \"plan\" treshold 0.5", ParseError, 13, Some("treshold"), "did you mean THRESHOLD?"),
        ("FUZZY ''", InvalidArgument, 6, Some("text"), "say what"),
        ("FUZZY \"a\", \"b\"", ParseError, 9, None, "THRESHOLD"),
        ("SEARCH \"x\" MIN_SIMILARITY 2", InvalidArgument, 26, Some("min_similarity"), "as in 0.5"),
        ("SEARCH \"x\" MODE vectro", InvalidArgument, 16, Some("mode"), "did you mean vector?"),
        ("SEARCH \"x\" FIELD summary", InvalidArgument, 17, Some("field"), "it is content"),
        ("SEARCH \"x\" WHERE", ParseError, 16, Some("where"), "quoted"),
        ("TRAVERSE", ParseError, 8, Some("key"), "as in TRAVERSE"),
        ("TRAVERSE plan", ParseError, 13, Some("key"), "quoted"),
        ("TRAVERSE a, b", ParseError, 0, Some("key"), "one key"),
        ("TRAVERSE x DEPTH 11", InvalidArgument, 17, Some("depth"), "as in 10"),
        ("TRAVERSE x DEPTH 1 PLAN", ParseError, 19, Some("depth"), "once"),
        ("TRAVERSE x INBOUND BOTH", ParseError, 19, Some("direction"), "once"),
        ("TRAVERSE x MIN_WEIGHT 1.1", InvalidArgument, 22, Some("min_weight"), "as in 0.5"),
        ("TRAVERSE x ORDER BY wieght", InvalidArgument, 20, Some("order_by"), "did you mean weight?"),
        ("TRAVERSE x load=eager", InvalidArgument, 16, Some("load"), "eager"),
        ("TRAVERSE x FROM y", ParseError, 9, Some("key"), "once"),
        ("TRAVERSE WITH TRAVERSE x", ParseError, 14, Some("with"), "LOOKUP, FUZZY or SEARCH"),
        ("TRAVERSE a TYPE b WITH LOOKUP x", ParseError, 9, Some("types"), "once"),
        ("TRAVERSE FROM a WITH LOOKUP x", ParseError, 14, Some("key"), "leave one"),
        ("TRAVERSE x TYPE \" \"", InvalidArgument, 16, Some("types"), "take it out"),
        ("SEARCH a\0b", InvalidArgument, 8, None, "take it out"),
    ];
    for (text, code, position, parameter, advice) in wrong {
        let fault = fault(text);
        assert_eq!(fault.code, *code, "{text}: {fault:?}");
        assert_eq!(fault.parameter.as_deref(), *parameter, "{text}: {fault:?}");
        let said = format!("{} {}", fault.detail, fault.hint.clone().unwrap_or_default());
        if *text == "TRAVERSE a, b" {
            assert!(fault.detail.contains("one key") && fault.position == Some(9), "{fault:?}");
            continue;
        }
        assert_eq!(fault.position, Some(*position), "{text}: {fault:?}");
        assert!(said.contains(advice) || *advice == "quotes", "{text}: {fault:?}");
    }
}

#[test]
fn there_is_a_most_of_keys_and_of_bytes() {
    let keys = |count: usize| format!("LOOKUP {}", vec!["k"; count].join(","));
    assert!(parse(&keys(100)).is_ok());
    let many = fault(&keys(101));
    assert_eq!((many.code, many.parameter.as_deref()), (Code::InvalidArgument, Some("keys")));
    let long = |bytes: usize| format!("LOOKUP {}", "é".repeat((bytes - 7) / 2));
    assert!(parse(&long(64 << 10)).is_ok());
    assert_eq!(parse(&long((64 << 10) + 2)).map_err(|fault| fault.code), Err(Code::TooLarge));
}
