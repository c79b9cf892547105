use proptest::prelude::*;
use sqlparser::ast::Spanned;
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

use super::super::{Code, Fault};
use super::{BYTES, check, read_only, twice};

const HOSTILE: &str = include_str!("../../../tests/data/hostile.sql");

#[test]
fn every_hostile_statement_is_refused_with_the_right_word() {
    let mut wrong = Vec::new();
    for line in HOSTILE.lines() {
        let (code, text) = line.split_once('\t').unwrap();
        match check(text) {
            Ok(printed) => wrong.push(format!("PASSED {text}\n    as {printed}")),
            // What the parser cannot read is refused as well; where it must be told that nothing may be written, it is.
            Err(fault) if fault.code.as_str() == code => {}
            Err(fault) if fault.code == Code::ParseError && code != "read_only" => {}
            Err(fault) if code == "not_allowed" && fault.code == Code::UnknownTable => {}
            Err(fault) if code == "unknown_table" && fault.code == Code::NotAllowed => {}
            Err(fault) => wrong.push(format!("{} instead of {code}: {text}\n    {fault}", fault.code.as_str())),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Statements that people write, and what becomes of them.
const GOOD: [(&str, &str); 24] = [
    (
        "SELECT name FROM resources ORDER BY name",
        r#"SELECT "resources"."name" AS "name" FROM "resources" AS "resources" ORDER BY "name" ASC NULLS LAST"#,
    ),
    ("select 1", r#"SELECT 1 AS "column1""#),
    ("select 1;", r#"SELECT 1 AS "column1""#),
    ("select 'it''s' as x -- a comment", r#"SELECT 'it''s' AS "x""#),
    ("select '\\' as x", r#"SELECT '\' AS "x""#),
    ("select 1 / 0 as x", r#"SELECT 1 / nullif(0, 0) AS "x""#),
    ("select 1.5 + 2 as x", r#"SELECT CAST(1.5 AS DOUBLE PRECISION) + 2 AS "x""#),
    ("select (1 + 2) * 3 - -4 as x", r#"SELECT ((1 + 2) * 3) - (-4) AS "x""#),
    (
        "select count(*), avg(part) from resources",
        r#"SELECT count(*) AS "count", avg(CAST("resources"."part" AS DOUBLE PRECISION)) AS "avg" FROM "resources" AS "resources""#,
    ),
    (
        "select n.name from names n where alias = 0 and (owner = 'public' or owner like 'key:%') and not name is null",
        r#"SELECT "n"."name" AS "name" FROM "names" AS "n" WHERE "n"."alias" = 0 AND ("n"."owner" = 'public' OR "n"."owner" LIKE 'key:%' ESCAPE '\') AND NOT ("n"."name" IS NULL)"#,
    ),
    (
        "select substr(started_at, 1, 10) as day, sum(cost_usd) from requests group by day order by 2 desc limit 5",
        r#"SELECT substr("requests"."started_at", 1, 10) AS "day", sum("requests"."cost_usd") AS "sum" FROM "requests" AS "requests" GROUP BY 1 ORDER BY 2 DESC NULLS FIRST LIMIT 5"#,
    ),
    (
        "select round(cost_usd, 2) from requests",
        r#"SELECT CAST(round(CAST("requests"."cost_usd" AS NUMERIC), 2) AS DOUBLE PRECISION) AS "round" FROM "requests" AS "requests""#,
    ),
    (
        "select cast(similarity as int) from requests",
        r#"SELECT CAST(round(CAST("requests"."similarity" AS NUMERIC), 0) AS BIGINT) AS "column1" FROM "requests" AS "requests""#,
    ),
    (
        "with d as (select name, category from resources) select category, count(*) as n from d group by category having count(*) > 1",
        r#"WITH "d" AS (SELECT "resources"."name" AS "name", "resources"."category" AS "category" FROM "resources" AS "resources") SELECT "d"."category" AS "category", count(*) AS "n" FROM "d" AS "d" GROUP BY "d"."category" HAVING count(*) > 1"#,
    ),
    (
        "with d (a) as materialized (select name from resources) select a from d",
        r#"WITH "d" ("a") AS (SELECT "resources"."name" AS "name" FROM "resources" AS "resources") SELECT "d"."a" AS "a" FROM "d" AS "d""#,
    ),
    (
        "select e.target from edges e join resources r on r.id = e.source_id where e.type in ('a', 'b')",
        r#"SELECT "e"."target" AS "target" FROM "edges" AS "e" JOIN "resources" AS "r" ON "r"."id" = "e"."source_id" WHERE "e"."type" IN ('a', 'b')"#,
    ),
    (
        "select name from resources r where exists (select 1 from edges e where e.source_id = r.id)",
        r#"SELECT "r"."name" AS "name" FROM "resources" AS "r" WHERE EXISTS (SELECT 1 AS "column1" FROM "edges" AS "e" WHERE "e"."source_id" = "r"."id")"#,
    ),
    (
        "select name from resources union select name from entities order by name desc",
        r#"SELECT "resources"."name" AS "name" FROM "resources" AS "resources" UNION SELECT "entities"."name" AS "name" FROM "entities" AS "entities" ORDER BY "name" DESC NULLS FIRST"#,
    ),
    (
        "select x.n from (select count(*) as n from names) as x",
        r#"SELECT "x"."n" AS "n" FROM (SELECT count(*) AS "n" FROM "names" AS "names") AS "x""#,
    ),
    (
        "select name, (select count(*) from edges e where e.source_id = r.id) as n from resources r",
        r#"SELECT "r"."name" AS "name", (SELECT count(*) AS "count" FROM "edges" AS "e" WHERE "e"."source_id" = "r"."id") AS "n" FROM "resources" AS "r""#,
    ),
    (
        "select row_number() over (partition by category order by name) as n from resources",
        r#"SELECT row_number() OVER (PARTITION BY "resources"."category" ORDER BY "resources"."name" ASC NULLS LAST) AS "n" FROM "resources" AS "resources""#,
    ),
    (
        "select case when part is null then 'whole' else 'part' end as x, coalesce(uri, '') from resources",
        r#"SELECT CASE WHEN "resources"."part" IS NULL THEN 'whole' ELSE 'part' END AS "x", coalesce("resources"."uri", '') AS "coalesce" FROM "resources" AS "resources""#,
    ),
    (
        "select n.* from names n offset 3",
        r#"SELECT "n"."name" AS "name", "n"."key" AS "key", "n"."table_name" AS "table_name", "n"."id" AS "id", "n"."alias" AS "alias", "n"."owner" AS "owner" FROM "names" AS "n" LIMIT 4294967295 OFFSET 3"#,
    ),
    (
        "select sum(cost_usd) filter (where tier is not null) from requests where (tier = 'exact') is not true",
        r#"SELECT sum("requests"."cost_usd") FILTER (WHERE "requests"."tier" IS NOT NULL) AS "sum" FROM "requests" AS "requests" WHERE ("requests"."tier" = 'exact') IS NOT TRUE"#,
    ),
];

#[test]
fn good_statements_are_printed_from_the_tree_and_stay_as_they_are() {
    for (text, printed) in GOOD {
        match check(text) {
            Ok(found) => {
                assert_eq!(found, printed, "{text}");
                assert_eq!(check(&found).as_deref(), Ok(printed), "{text}");
            }
            Err(fault) => panic!("{text}: {fault}"),
        }
    }
}

#[test]
fn what_is_printed_is_checked_once_more() {
    let code = |print: fn(&str) -> Result<String, Fault>| twice("a", print).map_err(|fault| fault.code);
    assert_eq!(code(|_| Ok("b".into())).as_deref(), Ok("b"));
    assert_eq!(code(|text| Ok(format!("{text}b"))), Err(Code::NotAllowed), "it is not its own print");
    assert_eq!(code(|text| if text == "a" { Ok("b".into()) } else { Err(read_only("b")) }), Err(Code::NotAllowed));
    assert_eq!(code(|_| Ok("b".repeat(BYTES + 1))), Err(Code::NotAllowed), "it is too long");
}

#[test]
fn faults_say_where_and_how_to_mend_it() {
    let fault = |text: &str| check(text).unwrap_err();
    let unknown = fault("SELECT name FROM resuorces");
    assert_eq!((unknown.code, unknown.position), (Code::UnknownTable, Some(17)));
    assert!(unknown.hint.unwrap().contains("did you mean `resources`"));
    let column = fault("SELECT nmae FROM resources");
    assert_eq!((column.code, column.position, column.parameter.as_deref()), (Code::NotAllowed, Some(7), Some("nmae")));
    assert!(column.hint.unwrap().contains("did you mean `name`"));
    let second = fault("SELECT name\nFROM resources\nWHERE pg_sleep(1) > 0");
    assert_eq!((second.code, second.position), (Code::NotAllowed, Some(33)));
    let unread = fault("SELECT name FROM resources WHERE");
    assert_eq!(unread.code, Code::ParseError);
    assert_eq!(fault("hello world").code, Code::ParseError);
    assert_eq!(fault("").code, Code::ParseError);
    assert_eq!(fault("SELECT name FROM resources WHERE name").code, Code::NotAllowed);
    assert_eq!(fault("SELECT a.name FROM resources a, names b WHERE owner = 'x'").code, Code::NotAllowed);
    assert_eq!(fault("SELECT name FROM resources LIMIT 99999999999").code, Code::InvalidArgument);
    let wide = fault(&format!("SELECT {} FROM resources", vec!["name"; 101].join(",")));
    assert_eq!(wide.code, Code::NotAllowed);
}

#[test]
fn deep_and_large_statements_are_refused_and_harm_nobody() {
    let refused = |text: String| {
        let fault = check(&text).unwrap_err();
        // At its own limit the parser says that it cannot read on.
        assert!(matches!(fault.code, Code::NotAllowed | Code::ParseError), "{fault}");
    };
    refused(format!("SELECT {}1{}", "(".repeat(900), ")".repeat(900)));
    refused(format!("SELECT 1{}", "+1".repeat(900)));
    refused(format!("SELECT 1{}", "+1".repeat(30_000)));
    refused(format!("SELECT 1 WHERE {}1=1", "NOT ".repeat(900)));
    refused(format!("SELECT {}1", "- ".repeat(900)));
    refused(format!("SELECT 1 {}", "UNION SELECT 1 ".repeat(40)));
    refused(format!("SELECT 1 AS x FROM {}", (0..20).map(|n| format!("names n{n}")).collect::<Vec<_>>().join(", ")));
    refused(format!("SELECT '{}'", "x".repeat(40_000)));
    let mut nested = "SELECT name FROM names".to_owned();
    for n in 0..30 {
        nested = format!("SELECT name FROM ({nested}) AS x{n}");
    }
    refused(nested);
}

/// Statements of `many` links of every kind of chain, and of as many levels of every kind of nesting.
fn chains(many: usize) -> Vec<String> {
    let around = |before: &str, after: &str| format!("{}1{}", before.repeat(many), after.repeat(many));
    let mut all = Vec::new();
    for link in [
        "+1",
        "-1",
        "*1",
        "/1",
        "%1",
        "||'a'",
        " OR 1=1",
        " AND 1",
        "=1",
        "<>1",
        "<1",
        " XOR 1",
        "::text",
        " IS NULL",
        " ISNULL",
        " NOTNULL",
        " IS TRUE",
        " IS NOT UNKNOWN",
        " IS DISTINCT FROM 1",
        " LIKE 'a'",
        " ILIKE 'a'",
        " SIMILAR TO 'a'",
        " BETWEEN 1 AND 2",
        " IN (1)",
        " COLLATE c",
        " AT TIME ZONE 'utc'",
        " -> 'a'",
        " ->> 'a'",
        " #> 'a'",
        " @> 'a'",
        " ? 'a'",
        "[1]",
        "[1:2]",
        "(1)",
        ".a",
        " OPERATOR(pg_catalog.+) 1",
        " ^ 1",
        " & 1",
        " << 1",
        " OVERLAPS 1",
        " UNION SELECT 1",
        " UNION SELECT 1, 2",
        " EXCEPT SELECT 1",
        " INTERSECT SELECT 1",
        " UNION TABLE t",
        " UNION (SELECT 1)",
        " UNION VALUES (1)",
        " FROM a",
        ", 1",
        " 'a'",
        " IS JSON",
        " IS NORMALIZED",
        " DIV 1",
        " := 1",
    ] {
        all.push(format!("SELECT 1{}", link.repeat(many)));
    }
    for (before, after) in [
        ("(", ")"),
        ("NOT ", ""),
        ("- ", ""),
        ("+ ", ""),
        ("~ ", ""),
        ("CASE WHEN 1=1 THEN ", " END"),
        ("CASE ", " WHEN 1 THEN 1 END"),
        ("CASE WHEN 1=1 THEN 1 ELSE ", " END"),
        ("lower(", ")"),
        ("coalesce(1, ", ")"),
        ("CAST(", " AS text)"),
        ("(SELECT ", ")"),
        ("EXISTS (SELECT ", ")"),
        ("1 IN (SELECT ", ")"),
        ("ARRAY[", "]"),
        ("ROW(", ")"),
        ("(1, ", ")"),
        ("INTERVAL ", ""),
        ("EXTRACT(year FROM ", ")"),
        ("TRIM(", ")"),
        ("1 + (", ")"),
        ("1 = ANY(", ")"),
        ("PRIOR ", ""),
        ("count(*) OVER (ORDER BY ", ")"),
        ("sum(1) FILTER (WHERE ", ")"),
        ("POSITION('a' IN ", ")"),
    ] {
        all.push(format!("SELECT {}", around(before, after)));
    }
    for (before, after) in [
        ("(", ")"),
        ("(SELECT * FROM ", ") AS x"),
        ("LATERAL (SELECT * FROM ", ") AS x"),
        ("(a JOIN ", " ON 1=1)"),
        ("a JOIN ", ""),
        ("a JOIN ", " ON 1=1"),
        ("a CROSS JOIN ", ""),
        ("a NATURAL JOIN ", ""),
        ("a, ", ""),
    ] {
        all.push(format!("SELECT * FROM {}a{}", before.repeat(many), after.repeat(many)));
        all.push(format!(
            "SELECT 1 FROM {}(SELECT 1{}) AS x{}",
            before.repeat(many / 2),
            "+1".repeat(many / 2),
            after.repeat(many / 2)
        ));
    }
    all.push(format!("{}SELECT 1{}", "WITH a AS (".repeat(many), ") SELECT 1".repeat(many)));
    all.push(format!("WITH {} b AS (SELECT 1) SELECT 1", "a AS (SELECT 1),".repeat(many)));
    // What was told of a deep tree: its place.
    let whole = all.clone();
    for text in whole {
        for end in [" INTO x", " FETCH FIRST 1 ROW ONLY", " FOR UPDATE", "; SELECT 1", " AS a, a.* EXCEPT (b)"] {
            all.push(format!("{text}{end}"));
        }
    }
    all
}

#[test]
fn no_chain_and_no_nesting_harms_the_process() {
    // A thread of the size that the runtime gives its own.
    let small = std::thread::Builder::new().stack_size(2 << 20);
    let checking = small.spawn(|| {
        for many in [30, 95, 500, 1_990] {
            for text in chains(many) {
                let found = check(&text);
                if many >= 500 {
                    let fault = found.expect_err(&text);
                    let known =
                        matches!(fault.code, Code::NotAllowed | Code::ParseError | Code::ReadOnly | Code::UnknownTable);
                    assert!(known, "{fault}: {text}");
                }
            }
        }
    });
    checking.unwrap().join().unwrap();
}

#[test]
fn a_tree_of_nothing_but_operators_fits_on_the_stack_where_trees_are_handled() {
    for link in ["+1", " OR 1", "::text", " AT TIME ZONE 'utc'", " UNION SELECT 1", " IS NULL", "->'a'", " IN (1)"] {
        // Without the bound on words: the other one must be enough.
        let levels = super::depth::on_a_large_stack(|| {
            let text = format!("SELECT 1{}", link.repeat(4_000 / link.split(' ').count().max(1)));
            let parser = Parser::new(&PostgreSqlDialect {}).with_recursion_limit(super::PARSE_DEPTH);
            let Ok(parsed) = parser.try_with_sql(&text).and_then(|mut parser| parser.parse_statements()) else {
                return Ok(0);
            };
            let copy = parsed.clone();
            assert_eq!(parsed, copy);
            let printed: usize = parsed.iter().map(|statement| statement.to_string().len()).sum();
            assert!(parsed.iter().all(|statement| statement.span().start.line > 0) || printed > 0);
            Ok(printed)
        });
        assert!(levels.unwrap() > 4_000, "{link}");
    }
}

#[test]
fn texts_do_not_grow_without_bound() {
    let printed = check("SELECT name || '-' || (uri || 1) AS x FROM resources WHERE id || 'a' = name").unwrap();
    assert_eq!(
        printed,
        r#"SELECT substr("resources"."name" || '-' || substr("resources"."uri" || 1, 1, 65535), 1, 65535) AS "x" FROM "resources" AS "resources" WHERE substr("resources"."id" || 'a', 1, 65535) = "resources"."name""#
    );
    assert_eq!(check(&printed).as_ref(), Ok(&printed));
    let cut = check("SELECT substr(name || uri, 1, 9) AS x, substr(name || uri, 2, 9) AS y FROM resources").unwrap();
    assert!(
        cut.contains(r#"SELECT substr("resources"."name" || "resources"."uri", 1, 9) AS "x", substr(substr("#),
        "{cut}"
    );
    // Each WITH doubles what the one before has made; no part of it goes uncut.
    let mut doubling = "WITH a0 AS (SELECT content AS x FROM resources)".to_owned();
    for n in 1..10 {
        let before = n - 1;
        doubling = format!("{doubling}, a{n} AS (SELECT x || x AS x FROM a{before})");
    }
    let printed = check(&format!("{doubling} SELECT x FROM a9")).unwrap();
    assert_eq!(printed.matches(" || ").count(), 9);
    assert_eq!(printed.matches(", 1, 65535)").count(), 9);
    check(&format!("SELECT name{} AS x FROM resources", " || '-'".repeat(30))).unwrap();
    let many = check(&format!("SELECT name{} AS x FROM resources", " || '-'".repeat(31))).unwrap_err();
    assert!(many.detail.contains("more than 30 times"), "{many}");
    for call in [
        "replace(name, 'a', 'bb')",
        "repeat(name, 9)",
        "lpad(name, 99)",
        "rpad(name, 99)",
        "printf('%99s', name)",
        "format('%99s', name)",
        "group_concat(name)",
        "string_agg(name, 'a')",
        "concat(name, name)",
        "hex(name)",
        "quote(name)",
    ] {
        let fault = check(&format!("SELECT {call} AS x FROM resources")).unwrap_err();
        assert_eq!(fault.code, Code::NotAllowed, "{call}");
    }
}

#[test]
fn a_long_statement_that_is_not_deep_passes() {
    let columns = vec!["lower(name) AS a"; 100].join(", ");
    check(&format!("SELECT {columns} FROM resources")).unwrap();
    let list = vec!["'a'"; 1_000].join(",");
    check(&format!("SELECT name FROM resources WHERE name IN ({list})")).unwrap();
    let conditions = vec!["(name LIKE 'a%' AND NOT uri IS NULL)"; 60].join(" OR ");
    check(&format!("SELECT name FROM resources WHERE {conditions}")).unwrap();
    let joins: String =
        (0..11).map(|n| format!(" LEFT JOIN edges e{n} ON e{n}.source_id = r.id AND e{n}.weight > 0.5")).collect();
    check(&format!("SELECT r.name FROM resources r{joins}")).unwrap();
}

/// The tree of a chain is as deep as the chain is long, and is built, walked, asked for its place and dropped by functions that
/// call themselves. All of it must fit on the stack of a thread that serves requests.
#[test]
fn a_long_chain_overflows_no_stack() {
    let chains = [
        ("1=1", " OR 1=1"),
        ("1=1", " AND 1=1"),
        ("1", "+1"),
        ("1", "*1"),
        ("'a'", "||'a'"),
        ("name", "=name"),
        ("name", "::text"),
        ("name", " IS NULL"),
        ("(1)", " IN(1)"),
        ("1", "<1 OR 1"),
        ("name", " LIKE name"),
        ("name", "@>name"),
        ("name", ".name"),
        ("name", " BETWEEN 1 AND 1"),
        ("CASE WHEN 1=1 THEN 1", " WHEN 1=1 THEN 1"),
    ];
    let mut texts = Vec::new();
    for (first, more) in chains {
        for place in [
            "SELECT # FROM names",
            "SELECT name FROM names WHERE #",
            "SELECT name FROM names ORDER BY #",
            "SELECT sum(#) OVER (ORDER BY #) FROM names WHERE coalesce(#, name) IN (#)",
        ] {
            // So many that a piece of one to five words, with the blanks between them, comes close to the most words.
            for pieces in [99, 600, 780, 990, 1_320, 1_980, 3_960] {
                let chain = format!("{first}{}", more.repeat(pieces / place.matches('#').count()));
                texts.push(place.replace('#', &chain));
            }
        }
    }
    texts.push(format!("SELECT 1 {}", "UNION SELECT 1 ".repeat(2_000)));
    texts.push(format!("SELECT 1 {}", "UNION ALL SELECT 1 ".repeat(600)));
    texts.push(format!("SELECT 1 FROM names{}", " JOIN names ON 1=1".repeat(400)));
    texts.push(format!("SELECT 1 FROM {}names", "(".repeat(2_000)));
    let refused = move || texts.iter().filter(|text| check(text).is_err()).count();
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(refused).unwrap();
    assert!(thread.join().unwrap() >= 300);
}

/// Statements out of pieces that fit more often than not.
fn statement() -> impl Strategy<Value = String> {
    let value = prop_oneof![
        Just("name".to_owned()),
        Just("r.id".to_owned()),
        Just("1".to_owned()),
        Just("1.50".to_owned()),
        Just("'a''b'".to_owned()),
        Just("NULL".to_owned()),
        Just("part".to_owned()),
    ];
    let value = value.prop_recursive(4, 24, 3, |inner| {
        let two = (inner.clone(), inner.clone());
        prop_oneof![
            two.clone().prop_map(|(a, b)| format!("{a} + {b}")),
            two.clone().prop_map(|(a, b)| format!("({a} / {b})")),
            two.clone().prop_map(|(a, b)| format!("{a} || {b} % nullif({b}, 0)")),
            two.clone().prop_map(|(a, b)| format!("CASE WHEN {a} = {b} AND NOT {b} < {a} OR {a} IS NULL THEN {a} END")),
            two.prop_map(|(a, b)| format!("coalesce({a}, lower({b}))")),
            inner.clone().prop_map(|a| format!("round({a})")),
            inner.clone().prop_map(|a| format!("cast({a} as integer)")),
            inner.clone().prop_map(|a| format!("({a})::real")),
            inner.clone().prop_map(|a| format!("avg({a})")),
            inner.clone().prop_map(|a| format!("-({a})")),
            inner.clone().prop_map(|a| format!("(SELECT max({a}) FROM names x)")),
            inner.prop_map(|a| format!("sum({a}) OVER (ORDER BY {a} DESC)")),
        ]
    });
    (value.clone(), value.clone(), value, 0..6_u8).prop_map(|(a, b, c, form)| match form {
        0 => format!("SELECT {a}, {b} AS z FROM resources r WHERE {c} BETWEEN {a} AND {b} ORDER BY z"),
        1 => format!("SELECT {a} AS z FROM resources r GROUP BY z, {b} HAVING {c} <> {a}"),
        2 => format!("WITH q AS (SELECT {a} AS name, {b} AS part, id FROM resources r) SELECT *, {c} FROM q r"),
        3 => format!("SELECT {a} FROM resources r UNION ALL SELECT {b} FROM resources r LIMIT 3"),
        4 => format!("SELECT {a} FROM resources r WHERE {b} LIKE {c} OR {b} IN ({a}, {c}) AND {c} IS NOT NULL"),
        _ => {
            format!("SELECT x.z FROM (SELECT {a} AS z FROM resources r) x WHERE z NOT IN (SELECT {b} FROM resources r)")
        }
    })
}

proptest! {
    #[test]
    fn what_is_printed_is_its_own_print(text in statement()) {
        let printed = check(&text);
        prop_assert!(printed.is_ok() || matches!(&printed, Err(fault) if fault.code == Code::NotAllowed), "{text}: {printed:?}");
        if let Ok(printed) = printed {
            let again = check(&printed);
            prop_assert_eq!(again.as_ref(), Ok(&printed), "{}", text);
        }
    }

    #[test]
    fn any_text_is_refused_or_printed_and_never_more(text in "(SELECT|WITH|select|'|\"|\\(|\\)|,|\\*| |;|--|/\\*|name|resources|rem_rows|FROM|WHERE|\\$1|\\PC){0,40}") {
        if let Ok(printed) = check(&text) {
            let again = check(&printed);
            prop_assert_eq!(again.as_ref(), Ok(&printed));
            prop_assert!(!printed.contains("\"rem_rows\" AS"), "{}", printed);
        }
    }
}
