//! What is printed is read as what was printed, and nothing that is read makes the reader fall.

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Value, json};

use super::super::{batch_from_json, condition, from_json, parse, parse_stage};
use crate::rem::{Fuzzy, Load, Lookup, Mode, OrderBy, Query, Search, Start, Traverse};
use crate::store::rem::{Direction, RemTable};

/// Texts that look like parts of the grammar.
fn text() -> BoxedStrategy<String> {
    let nasty = [
        "LIMIT 3",
        "in",
        "IN resources",
        "a \"b\" c",
        "it's",
        "\\",
        "a\\\"",
        "''",
        "\"\"",
        "a, b",
        "limit=3",
        "$a",
        "東京 タワー",
        "a\nb",
        "WITH LOOKUP x",
        " padded ",
        "TRAVERSE",
        "--",
        "/*",
        ";",
        "=",
        "x=y",
        "-1",
        "e\u{301}",
        "\u{feff}x",
        "DEPTH",
        "\u{2028}",
        "order by name",
    ];
    prop_oneof![
        select(nasty.map(str::to_owned).to_vec()),
        "[ -~]{1,12}",
        "\\PC{1,8}",
        vec(select(nasty.to_vec()), 2..4).prop_map(|parts| parts.join(" ")),
    ]
    .prop_filter("not blank", |text| !text.trim().is_empty() && !text.contains('\0'))
    .boxed()
}

fn tables() -> BoxedStrategy<Vec<RemTable>> {
    subsequence(RemTable::WRITTEN.to_vec(), 0..=3).prop_shuffle().boxed()
}

fn fraction() -> BoxedStrategy<f64> {
    prop_oneof![0.0..=1.0_f64, Just(0.0), Just(1.0), Just(1e-300), Just(0.1)].boxed()
}

fn limit() -> impl Strategy<Value = u32> {
    1..=1_000_u32
}

fn lookup() -> BoxedStrategy<Query> {
    (vec(text(), 1..5), tables(), of(limit()))
        .prop_map(|(keys, tables, limit)| Query::Lookup(Lookup { keys, tables, limit }))
        .boxed()
}

fn fuzzy() -> BoxedStrategy<Query> {
    (text(), tables(), fraction(), limit(), of(text()))
        .prop_map(|(text, tables, threshold, limit, after)| {
            Query::Fuzzy(Fuzzy { text, tables, threshold, limit, after })
        })
        .boxed()
}

/// Conditions on columns that all tables have.
fn cond() -> BoxedStrategy<String> {
    let sql = |text: String| format!("'{}'", text.replace('\'', "''"));
    let compare = select(vec!["=", "<>", "!=", "<", "<=", ">", ">="]);
    let leaf = prop_oneof![
        (compare.clone(), text()).prop_map(move |(compare, text)| format!("name {compare} {}", sql(text))),
        (compare, text()).prop_map(move |(compare, text)| format!("{} {compare} owner", sql(text))),
        vec(text(), 1..4).prop_map(move |texts| {
            format!("name NOT IN ({})", texts.into_iter().map(sql).collect::<Vec<_>>().join(","))
        }),
        Just("created_at BETWEEN '2024-01-15' AND '2024-02-01T10:00:00Z'".to_owned()),
        Just("updated_at IS NOT NULL".to_owned()),
        Just("owner IS NULL".to_owned()),
        Just("tags = 'x'".to_owned()),
        Just("name LIKE 'a%'".to_owned()),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 2..4).prop_map(|terms| format!("({})", terms.join(" AND "))),
            vec(inner.clone(), 2..4).prop_map(|terms| terms.join(" OR ")),
            vec(inner.clone(), 2..4).prop_map(|terms| terms.join(" AND ")),
            inner.clone().prop_map(|term| format!("NOT ({term})")),
            inner.prop_map(|term| format!("NOT {term}")),
        ]
    })
    .boxed()
}

fn search() -> BoxedStrategy<Query> {
    let mode = of(select(vec![Mode::Vector, Mode::Text, Mode::Hybrid]));
    let tables = subsequence(RemTable::WRITTEN.to_vec(), 1..=3).prop_shuffle();
    (text(), tables, any::<bool>(), of(cond()), of(text()), of(fraction()), mode, limit(), of(text()))
        .prop_map(|(text, tables, said, cond, category, min_similarity, mode, limit, after)| {
            let field = match tables.as_slice() {
                [table] if said => table.embedded_field().map(str::to_owned),
                _ => None,
            };
            let filter = cond.map(|cond| condition(&cond, &tables).unwrap());
            Query::Search(Search { text, tables, field, filter, category, min_similarity, mode, limit, after })
        })
        .boxed()
}

fn traverse() -> BoxedStrategy<Query> {
    let start = prop_oneof![
        text().prop_map(Start::Key),
        prop_oneof![lookup(), fuzzy(), search()].prop_map(|query| Start::Query(Box::new(query))),
        "[A-Za-z_][A-Za-z0-9_]{0,8}".prop_map(Start::Stage),
    ];
    let direction = select(vec![Direction::Outbound, Direction::Inbound, Direction::Both]);
    let load = select(vec![Load::Load, Load::Lazy, Load::Keys]);
    let by = select(vec![OrderBy::Depth, OrderBy::Weight, OrderBy::Name, OrderBy::CreatedAt]);
    let walk = (start, vec(text(), 0..3), direction, 0..=10_u8, fraction());
    (walk, load, of((by, any::<bool>())), of(limit()), of(text()))
        .prop_map(|((start, types, direction, depth, min_weight), load, order, limit, memo)| {
            Query::Traverse(Traverse { start, types, direction, depth, min_weight, load, order, limit, memo })
        })
        .boxed()
}

fn query() -> impl Strategy<Value = Query> {
    prop_oneof![lookup(), fuzzy(), search(), traverse()]
}

/// Pieces of queries in any order.
fn pieces() -> impl Strategy<Value = String> {
    let words = [
        "LOOKUP",
        "GET",
        "FUZZY",
        "SEARCH",
        "TRAVERSE",
        "SQL",
        "SELECT",
        "IN",
        "FROM",
        "TABLE",
        "LIMIT",
        "AFTER",
        "THRESHOLD",
        "FIELD",
        "WHERE",
        "CATEGORY",
        "MODE",
        "WITH",
        "TYPE",
        "PLAN",
        "DEPTH",
        "ORDER",
        "BY",
        "MEMO",
        "$a",
        "resources",
        "moments",
        "name",
        "=",
        "(",
        ")",
        ",",
        "'",
        "\"",
        "\\",
        "1",
        "0.5",
        "a",
        "limit=3",
        "where=",
        "AND",
        "NOT",
        "LIKE",
        "BETWEEN",
        "IS",
        "NULL",
        "'x'",
        "é",
        "\u{0}",
        "-",
        "--",
    ];
    let gap = select(vec![" ", "", "\n"]);
    vec((select(words.to_vec()), gap), 0..24)
        .prop_map(|pieces| pieces.into_iter().flat_map(|(word, gap)| [word, gap]).collect())
}

fn json_value() -> impl Strategy<Value = Value> {
    let names = [
        "type", "query", "keys", "text", "key", "with", "limit", "tables", "where", "plan", "name", "stages",
        "order_by",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        text().prop_map(Value::from),
        select(vec!["lookup", "fuzzy", "search", "traverse", "sql", "$a", "LOOKUP x"]).prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((select(names.to_vec()), inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn printing_and_reading_give_the_same_tree(query in query()) {
        let printed = query.to_string();
        let read = parse_stage(&printed);
        prop_assert_eq!(read.as_ref(), Ok(&query), "{}", printed);
        prop_assert_eq!(read.unwrap().to_string(), printed);
    }

    #[test]
    fn a_text_that_is_read_is_read_again_from_its_normal_form(text in pieces()) {
        if let Ok(query) = parse_stage(&text) {
            let printed = query.to_string();
            prop_assert_eq!(parse_stage(&printed), Ok(query), "{} from {}", printed, text);
        }
    }

    #[test]
    fn no_text_makes_the_reader_fall(text in "(?s).{0,60}", tail in pieces()) {
        for text in [&text, &format!("SEARCH x WHERE {text}"), &format!("LOOKUP {text}"), &format!("TRAVERSE {text} {tail}")] {
            if let Err(fault) = parse(text) {
                let within = fault.position.is_none_or(|at| at <= text.chars().count());
                prop_assert!(within, "{:?} of {}", fault, text);
            }
        }
        let _ = condition(&text, &RemTable::WRITTEN);
    }

    #[test]
    fn no_json_makes_the_reader_fall(value in json_value()) {
        let _ = from_json(&value);
        let _ = batch_from_json(&value);
        let _ = batch_from_json(&json!({ "stages": [value] }));
    }
}
