//! The JSON form: the same trees and the same faults.

use serde_json::{Value, json};

use super::super::{batch_from_json, from_json, parse, parse_stage};
use crate::rem::Code;

#[test]
fn the_typed_form_gives_the_tree_of_the_text() {
    for (text, value) in [
        ("LOOKUP \"sarah chen\"", json!({"query": "LOOKUP \"sarah chen\""})),
        ("LOOKUP \"sarah chen\"", json!({"type": "lookup", "keys": ["sarah chen"]})),
        (
            "LOOKUP \"LIMIT\" IN moments LIMIT 3",
            json!({"type": "LOOKUP", "key": "LIMIT", "tables": "moments", "limit": 3}),
        ),
        (
            "FUZZY \"x\" IN moments, entities THRESHOLD 0.5 LIMIT 3 AFTER \"c\"",
            json!({"type": "fuzzy", "text": "x", "tables": ["moments", "entities"], "threshold": 0.5, "limit": 3, "after": "c"}),
        ),
        (
            "SEARCH \"x\" IN resources FIELD content WHERE \"category = 'a'\" CATEGORY \"b\" MIN_SIMILARITY 1 MODE vector",
            json!({"type": "search", "text": "x", "table": "resources", "field": "content", "where": "category = 'a'",
                "category": "b", "min_similarity": 1, "mode": "vector", "limit": null}),
        ),
        (
            "TRAVERSE \"x\" TYPE \"a\", \"b c\" INBOUND DEPTH 3 MIN_WEIGHT 0.5 LAZY ORDER BY name DESC LIMIT 4 MEMO \"m\"",
            json!({"type": "traverse", "key": "x", "rel_types": ["a", "b c"], "direction": "inbound", "max_depth": 3,
                "min_weight": 0.5, "load": "lazy", "order_by": "name desc", "limit": 4, "memo": "m"}),
        ),
        ("TRAVERSE \"x\" PLAN", json!({"type": "traverse", "key": "x", "plan": true})),
        ("TRAVERSE WITH LOOKUP \"x\"", json!({"type": "traverse", "with": "LOOKUP x"})),
        ("TRAVERSE WITH FUZZY \"x\"", json!({"type": "traverse", "with": {"type": "fuzzy", "text": "x"}})),
    ] {
        let read = from_json(&value).unwrap_or_else(|fault| panic!("{value}: {fault:?}"));
        assert_eq!(Ok(read), parse(text), "{text}");
    }
    let sql = from_json(&json!({"type": "sql", "sql": "SELECT 1"})).map_err(|fault| (fault.code, fault.detail));
    assert_eq!(sql, parse("SELECT 1").map_err(|fault| (fault.code, fault.detail)));
    let short = json!({"type": "sql", "table": "moments", "where": "kind = 'x'", "order_by": "name", "limit": 2});
    let short = from_json(&short).map_err(|fault| (fault.code, fault.detail));
    let text = "SQL moments WHERE \"kind = 'x'\" ORDER BY name LIMIT 2";
    assert_eq!(short, parse(text).map_err(|fault| (fault.code, fault.detail)));
}

#[test]
fn faults_name_the_member() {
    use Code::{InvalidArgument, ParseError, UnknownTable};
    for (value, code, member, says) in [
        (json!([]), ParseError, "", "object"),
        (json!({}), ParseError, "query", "LOOKUP"),
        (json!({"query": "LOOKUP x", "type": "lookup"}), ParseError, "query", "not both"),
        (json!({"query": "LOOKUP x", "limit": 3}), InvalidArgument, "limit", "no member"),
        (json!({"query": 3}), InvalidArgument, "query", "a text, not a number"),
        (json!({"querry": "LOOKUP x"}), InvalidArgument, "querry", "did you mean query?"),
        (json!({"type": "lokup"}), InvalidArgument, "type", "did you mean lookup?"),
        (json!({"type": "lookup"}), ParseError, "keys", "name"),
        (json!({"type": "lookup", "keys": []}), InvalidArgument, "keys", "1 to 100"),
        (json!({"type": "lookup", "keys": [" "]}), InvalidArgument, "keys", "blank"),
        (json!({"type": "lookup", "keys": ["a", 3]}), InvalidArgument, "keys", "a text, not a number"),
        (json!({"type": "lookup", "keys": "a", "key": "b"}), ParseError, "key", "twice"),
        (json!({"type": "lookup", "keys": "a", "limit": "3"}), InvalidArgument, "limit", "a number, not a text"),
        (json!({"type": "lookup", "keys": "a", "limit": 3.5}), InvalidArgument, "limit", "whole number"),
        (json!({"type": "lookup", "keys": "a", "limit": 1e300}), InvalidArgument, "limit", "whole number"),
        (json!({"type": "lookup", "keys": "a", "limti": 3}), InvalidArgument, "limti", "did you mean limit?"),
        (json!({"type": "lookup", "keys": "a", "depth": 3}), InvalidArgument, "depth", "members are"),
        (json!({"type": "lookup", "keys": "a\0"}), InvalidArgument, "keys", "NUL"),
        (json!({"type": "fuzzy", "text": "a", "threshold": -1}), InvalidArgument, "threshold", "0 to 1"),
        (
            json!({"type": "search", "text": "a", "table": "resuorces"}),
            UnknownTable,
            "table",
            "did you mean resources?",
        ),
        (json!({"type": "search", "query": "a"}), ParseError, "query", "not both"),
        (json!({"type": "search", "text": "a", "where": "x = 1"}), InvalidArgument, "where", "`x`"),
        (json!({"type": "traverse", "key": "a", "max_depth": 11}), InvalidArgument, "max_depth", "0 to 10"),
        (json!({"type": "traverse", "key": "a", "plan": 1}), InvalidArgument, "plan", "true or false"),
        (json!({"type": "traverse", "key": "a", "plan": true, "depth": 2}), ParseError, "plan|depth", "twice"),
        (json!({"type": "traverse", "with": "$a"}), InvalidArgument, "with", "batch"),
        (
            json!({"type": "traverse", "with": {"type": "lookup", "keys": "a", "limit": 0}}),
            InvalidArgument,
            "with.limit",
            "1 to",
        ),
        (json!({"type": "traverse", "with": "TRAVERSE x"}), InvalidArgument, "with", "lookup, fuzzy or search"),
    ] {
        let fault = from_json(&value).expect_err(&value.to_string());
        let said = format!("{} {}", fault.detail, fault.hint.clone().unwrap_or_default());
        assert_eq!(fault.code, code, "{value}: {fault:?}");
        let named = fault.parameter.unwrap_or_default();
        assert!(member.split('|').any(|member| member == named), "{value}: {named}");
        assert!(said.contains(says), "{value}: {said}");
    }
    let long = "x".repeat((64 << 10) + 1);
    let codes = [json!({ "query": long }), json!({"type": "lookup", "keys": [long]})].map(|value| from_json(&value));
    for read in codes {
        assert_eq!(read.map_err(|fault| fault.code), Err(Code::TooLarge));
    }
}

#[test]
fn stages_have_names_and_refer_to_earlier_ones() {
    let stage = |name: &str, query: &str| json!({"name": name, "query": query});
    let batch = |stages: Vec<Value>| batch_from_json(&json!({ "stages": stages }));
    let typed = json!({"name": "c", "type": "traverse", "with": "$b", "depth": 2});
    let read = batch(vec![stage("a", "LOOKUP x"), stage("b", "TRAVERSE WITH $a DEPTH 1"), typed]).unwrap();
    assert_eq!(read.iter().map(|stage| stage.name.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(Ok(read[1].query.clone()), parse_stage("TRAVERSE WITH $a"));
    assert_eq!(Ok(read[2].query.clone()), parse_stage("TRAVERSE WITH $b DEPTH 2"));
    let many: Vec<Value> = (0..21).map(|number| stage(&format!("s{number}"), "LOOKUP x")).collect();
    for (stages, member, says) in [
        (vec![], "stages", "1 to 20"),
        (many, "stages", "1 to 20"),
        (vec![stage("a", "LOOKUP x"), stage("a", "LOOKUP y")], "stages[1].name", "own name"),
        (vec![stage("1a", "LOOKUP x")], "stages[0].name", "letters"),
        (vec![json!({"query": "LOOKUP x"})], "stages[0].name", "needs a name"),
        (vec![stage("a", "TRAVERSE WITH $a")], "stages[0].with", "first stage"),
        (
            vec![stage("people", "LOOKUP x"), stage("b", "TRAVERSE WITH $poeple")],
            "stages[1].with",
            "did you mean $people?",
        ),
        (vec![stage("a", "TRAVERSE WITH $b"), stage("b", "LOOKUP x")], "stages[0].with", "no earlier stage"),
        (vec![stage("a", "LOOKUP x LIMIT 0")], "stages[0].limit", "1 to 1000"),
        (vec![json!({"name": "a", "query": "LOOKUP x", "extra": 1})], "stages[0].extra", "no member"),
    ] {
        let fault = batch(stages).expect_err(member);
        let said = format!("{} {}", fault.detail, fault.hint.clone().unwrap_or_default());
        assert_eq!(fault.parameter.as_deref(), Some(member), "{said}");
        assert!(said.contains(says), "{member}: {said}");
    }
    assert!(batch_from_json(&json!({"stages": [], "more": 1})).is_err());
    assert!(batch_from_json(&json!("x")).is_err());
}
