//! WHERE of a SEARCH: what it means, how it is printed, and what it does not know.

use super::super::condition;
use super::{fault, read};
use crate::rem::{Code, Query};
use crate::store::rem::Compare::{Equal, GreaterOrEqual, Less, LessOrEqual, NotEqual};
use crate::store::rem::{Column, Cond, Literal, RemTable, columns};

fn column(table: RemTable, name: &str) -> Column {
    *columns(table).iter().find(|column| column.name == name).unwrap()
}

fn text(text: &str) -> Literal {
    Literal::Text(text.into())
}

fn of_resources(written: &str) -> Cond {
    let read = condition(written, &[RemTable::Resources]).unwrap_or_else(|fault| panic!("{written}: {fault:?}"));
    // Its normal form says the same, and is its own.
    let again = condition(&read.text, &[RemTable::Resources]).unwrap_or_else(|fault| panic!("{read:?}: {fault:?}"));
    assert_eq!(again, read, "{written}");
    read.cond[0].1.clone()
}

#[test]
fn conditions_mean_what_sql_means_by_them() {
    let of = |name| column(RemTable::Resources, name);
    let category = |value: &str| Cond::Is(of("category"), Equal, text(value));
    assert_eq!(of_resources("category = 'meeting'"), category("meeting"));
    assert_eq!(of_resources("'it''s' = \"category\""), category("it's"));
    assert_eq!(of_resources("CATEGORY='x'"), category("x"));
    assert_eq!(of_resources("3 > part"), Cond::Is(of("part"), Less, Literal::Integer(3)));
    assert_eq!(of_resources("part != -3"), Cond::Is(of("part"), NotEqual, Literal::Integer(-3)));
    assert_eq!(
        of_resources("name = 'a' OR name = 'b' AND NOT category = 'c'"),
        Cond::Or(vec![
            Cond::Is(of("name"), Equal, text("a")),
            Cond::And(vec![Cond::Is(of("name"), Equal, text("b")), Cond::Not(Box::new(category("c")))]),
        ])
    );
    assert_eq!(
        of_resources("(name = 'a' OR (category = 'b')) AND category = 'c' and (category = 'd' and category = 'e')"),
        Cond::And(vec![
            Cond::Or(vec![Cond::Is(of("name"), Equal, text("a")), category("b")]),
            category("c"),
            category("d"),
            category("e"),
        ])
    );
    assert_eq!(of_resources("name NOT IN ('a','b')"), {
        Cond::Not(Box::new(Cond::In(of("name"), vec![text("a"), text("b")])))
    });
    assert_eq!(of_resources("uri IS NOT NULL"), Cond::Not(Box::new(Cond::Missing(of("uri")))));
    assert_eq!(of_resources("NOT uri is null"), Cond::Not(Box::new(Cond::Missing(of("uri")))));
    assert_eq!(of_resources("name LIKE 'a\\%%' ESCAPE '\\'"), Cond::Like(of("name"), "a\\%%".into()));
    assert_eq!(of_resources("tags IN ('a', 'b')"), {
        Cond::Or(vec![Cond::Is(of("tags"), Equal, text("a")), Cond::Is(of("tags"), Equal, text("b"))])
    });
    let day = 1_705_276_800_000;
    assert_eq!(
        of_resources("created_at BETWEEN '2024-01-15' AND DATE '2024-01-16'"),
        Cond::And(vec![
            Cond::Is(of("created_at"), GreaterOrEqual, Literal::Time(day)),
            Cond::Is(of("created_at"), LessOrEqual, Literal::Time(day + 86_400_000)),
        ])
    );
    for time in ["2024-01-15T00:00:00Z", "2024-01-15T02:00:00+02:00", "2024-01-15T00:00", "2024-01-15 00:00:00"] {
        let cond = of_resources(&format!("created_at = '{time}'"));
        assert_eq!(cond, Cond::Is(of("created_at"), Equal, Literal::Time(day)), "{time}");
    }
    assert_eq!(
        of_resources("NOT (category = 'a' OR NOT (category = 'b' AND NOT category = 'c'))"),
        Cond::Not(Box::new(Cond::Or(vec![
            category("a"),
            Cond::Not(Box::new(Cond::And(vec![category("b"), Cond::Not(Box::new(category("c")))]))),
        ])))
    );
}

#[test]
fn where_ends_at_a_clause_and_at_no_column_that_is_called_like_one() {
    let filter = |query: &str| match read(query) {
        Query::Search(search) => (search.filter.unwrap().text, search.limit, search.category),
        other => panic!("{other:?}"),
    };
    let expected =
        |limit, category: Option<&str>| ("category = 'meeting'".to_owned(), limit, category.map(str::to_owned));
    for query in [
        "SEARCH \"api design\" IN resources WHERE \"category = 'meeting'\"",
        "SEARCH api design WHERE 'category = ''meeting'''",
        "SEARCH api design WHERE category = 'meeting'",
        "SEARCH api design WHERE category='meeting' IN resources",
        "SEARCH api design where=\"category = 'meeting'\"",
        "SEARCH api design filter = category='meeting'",
        "SEARCH api design WHERE 'meeting' = category",
        "SEARCH api design WHERE (category = 'meeting') FROM resources",
        "SEARCH api design WHERE \"category\" = 'meeting'",
    ] {
        assert_eq!(filter(query), expected(10, None), "{query}");
    }
    assert_eq!(filter("SEARCH x WHERE category = 'meeting' LIMIT 3 CATEGORY m"), expected(3, Some("m")));
    assert_eq!(filter("SEARCH x WHERE category = 'meeting' limit=3 category=m"), expected(3, Some("m")));
    let listed = filter("SEARCH x WHERE name = 'LIMIT 3' AND category IN ('a', 'b') IN resources LIMIT 4");
    assert_eq!(listed, ("name = 'LIMIT 3' AND category IN ('a', 'b')".to_owned(), 4, None));
}

#[test]
fn what_conditions_do_not_know_is_refused_by_name_and_place() {
    use Code::{InvalidArgument, NotAllowed, ParseError};
    for (written, code, position, says) in [
        ("length(name) > 3", NotAllowed, 0, "length(…)"),
        ("name = (SELECT 1)", ParseError, 7, "`(`"),
        ("name IN (SELECT name FROM names)", NotAllowed, 9, "SELECT"),
        ("(SELECT 1) = 1", NotAllowed, 1, "SELECT"),
        ("name || 'x' = 'y'", NotAllowed, 5, "`||`"),
        ("name::text = 'y'", NotAllowed, 4, "`::`"),
        ("name ILIKE 'y'", NotAllowed, 5, "ILIKE"),
        ("name = NULL", NotAllowed, 7, "NULL"),
        ("name = category", NotAllowed, 7, "two columns"),
        ("1 = 1", NotAllowed, 4, "column"),
        ("TRUE", NotAllowed, 0, "TRUE"),
        ("name = 'a' -- x", NotAllowed, 11, "`--`"),
        ("name = 'a'; DROP TABLE x", NotAllowed, 10, "`;`"),
        ("name = $1", NotAllowed, 7, "`$`"),
        ("name", ParseError, 4, "too early"),
        ("name = ", ParseError, 7, "too early"),
        ("name = 'a' AND", ParseError, 14, "too early"),
        ("name = 'a' name = 'b'", ParseError, 11, "NAME"),
        ("name = 'a", ParseError, 7, "not closed"),
        ("(name = 'a'", ParseError, 11, "too early"),
        ("nmae = 'a'", InvalidArgument, 0, "did you mean name?"),
        ("kind = 'a'", InvalidArgument, 0, "`kind`"),
        ("tenant = 'a'", InvalidArgument, 0, "`tenant`"),
        ("part = '1'", InvalidArgument, 7, "whole number"),
        ("part = 1.5", InvalidArgument, 7, "whole number"),
        ("name = 1", InvalidArgument, 7, "single quotes"),
        ("created_at > 'soon'", InvalidArgument, 13, "2024-01-15"),
        ("part LIKE '1'", InvalidArgument, 0, "LIKE"),
        ("name LIKE 'a\\'", InvalidArgument, 10, "backslash"),
        ("name LIKE 'a' ESCAPE '!'", NotAllowed, 21, "escape"),
        ("tags < 'a'", InvalidArgument, 0, "list"),
        ("tags IS NULL", InvalidArgument, 0, "list"),
    ] {
        let found = condition(written, &[RemTable::Resources]).expect_err(written);
        let said = format!("{} {}", found.detail, found.hint.clone().unwrap_or_default());
        assert_eq!((found.code, found.position), (code, Some(position)), "{written}: {found:?}");
        assert!(said.contains(says), "{written}: {said}");
        assert_eq!(found.parameter.as_deref(), Some("where"));
    }
    // In a query, the place is that of the query.
    assert_eq!(fault("SEARCH x WHERE kind = 'a'").position, Some(15));
    assert_eq!(fault("SEARCH x WHERE \"kind = 'a'\"").position, Some(16));
    // Characters of the query, also behind quotes that are written with two.
    for text in [
        "SEARCH x WHERE 'name = ''x'' AND bogus = 1'",
        r#"SEARCH x WHERE "\"name\" = 'x' AND bogus = 1""#,
        "SEARCH x WHERE \"name = 'x' AND bogus = 1\"",
        "SEARCH x WHERE 'name = ''x'' AND name = ''1'' AND bogus = 1'",
        "SQL resources WHERE 'name = ''x'' AND bogus = 1'",
    ] {
        assert_eq!(fault(text).position, text.find("bogus"), "{text}");
    }
    let one_lacks_it = fault("SEARCH x IN resources, moments WHERE category = 'a'");
    assert!(one_lacks_it.detail.contains("moments has no column `category`"), "{one_lacks_it:?}");
    let both = condition("name = 'a'", &[RemTable::Resources, RemTable::Moments]).unwrap();
    assert_eq!(both.cond.iter().map(|(table, _)| *table).collect::<Vec<_>>(), [RemTable::Resources, RemTable::Moments]);
}

#[test]
fn conditions_are_bounded() {
    let code = |written: String| condition(&written, &[RemTable::Resources]).map(|_| ()).map_err(|fault| fault.code);
    let deep = |levels: usize| format!("{}part = 1{}", "(".repeat(levels), ")".repeat(levels));
    assert_eq!(code(deep(32)), Ok(()));
    let like = |length: usize| format!("name LIKE '{}'", "%a".repeat(length / 2));
    assert_eq!(code(like(1_000)), Ok(()));
    assert_eq!(code(like(1_002)), Err(Code::InvalidArgument));
    assert_eq!(code(vec![like(1_000); 4].join(" OR ")), Ok(()));
    assert_eq!(code(vec![like(1_000); 5].join(" OR ")), Err(Code::InvalidArgument));
    let long = condition(&format!("part = 1 AND {}", like(1_002)), &[RemTable::Resources]).unwrap_err();
    assert!(long.position == Some(23) && long.hint.is_some() && long.detail.contains("1000 bytes"), "{long:?}");
    assert_eq!(code(deep(33)), Err(Code::InvalidArgument));
    assert_eq!(code(deep(20_000)), Err(Code::InvalidArgument));
    assert_eq!(code(format!("{} part = 1", "NOT ".repeat(15_000))), Err(Code::InvalidArgument));
    let wide = |terms: usize| vec!["part = 1"; terms].join(" OR ");
    assert_eq!(code(wide(256)), Ok(()));
    assert_eq!(code(wide(257)), Err(Code::InvalidArgument));
    let list = |values: usize| format!("part IN ({})", vec!["1"; values].join(","));
    assert_eq!(code(list(1_000)), Ok(()));
    assert_eq!(code(list(1_001)), Err(Code::InvalidArgument));
}
