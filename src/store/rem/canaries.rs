//! Rows for tests of SQL of callers: some that the caller `k1` of the tenant `a` sees, and others with a canary in them: of
//! another tenant, of another key, hidden ones. As statements, because each database has a store of its own.

use super::{Owner, Scope, key_digest, normalise};
use crate::ids::{KeyId, TenantId};

/// In every text of a row that the caller must not see.
pub(in crate::store) const CANARY: &str = "CANARY";

/// Hostile statements, each with the word that the check refuses it with.
pub(in crate::store) fn hostile() -> impl Iterator<Item = &'static str> {
    let lines = include_str!("../../../tests/data/hostile.sql").lines();
    lines.filter_map(|line| line.split_once('\t')).map(|(_, text)| text)
}

pub(in crate::store) fn scope(tenant: &str, key: &str) -> Scope {
    Scope { tenant: TenantId::new(tenant), key: KeyId::new(key) }
}

/// Statements that fill an empty database. `blob` writes bytes as a constant, `flag` a truth value.
pub(in crate::store) fn statements(blob: fn(&[u8]) -> String, flag: fn(bool) -> &'static str) -> Vec<String> {
    let key = |key: &str| Owner::Key(KeyId::new(key)).to_string();
    let mut all = Vec::new();
    let rows = [
        ("a", "public", 0, "guide", "what everybody knows", false),
        ("a", &*key("k1"), 0, "mine", "it's 100% mine", false),
        ("a", &*key("k1"), 1, "Sarah Chen", "engineering", false),
        ("a", &*key("k1"), 2, "Sync", "we met", false),
        ("a", &*key("k2"), 0, "CANARY of a key", "CANARY", false),
        ("a", &*key("k2"), 1, "CANARY of a key", "CANARY", false),
        ("a", &*key("k2"), 2, "CANARY of a key", "CANARY", false),
        ("b", "public", 0, "CANARY of a tenant", "CANARY", false),
        ("b", &*key("k1"), 0, "CANARY of a namesake", "CANARY", false),
        ("b", &*key("k1"), 1, "CANARY of a namesake", "CANARY", false),
        ("b", &*key("k1"), 2, "CANARY of a namesake", "CANARY", false),
        ("a", &*key("k1"), 0, "CANARY hidden", "CANARY", true),
    ];
    for (number, (tenant, owner, tab, name, text, hidden)) in rows.into_iter().enumerate() {
        let id = id(number);
        let deleted = if hidden { "1700000000000" } else { "NULL" };
        let starts = if tab == 2 { "1705312800000" } else { "NULL" };
        let text = text.replace('\'', "''");
        all.push(format!(
            "INSERT INTO rem_rows (tenant, id, tab, owner, name, text, label, tags, data, aliases, starts_at, made, created_at, \
             updated_at, deleted_at) VALUES ('{tenant}', {}, {tab}, '{owner}', '{name}', '{text}', 'label', '[\"t\"]', '{{}}', '[]', \
             {starts}, {}, 1700000000123, 1700000000999, {deleted})",
            blob(&id),
            flag(false)
        ));
        let many = if name == "mine" { 30 } else { 1 };
        for more in 0..many {
            let name = format!("{name} {more}");
            let normal = normalise(&name);
            // Only one of the databases has trigrams there.
            let (column, value) =
                if flag(true) == "1" { ("", "") } else { (", scope, size, grams", ", 0, 0, 0::bit(512)") };
            all.push(format!(
                "INSERT INTO rem_names (tenant, key, owner, row, tab, alias, name, normal{column}) SELECT '{tenant}', {}, '{owner}', \
                 no, {tab}, {}, '{name}', '{normal}'{value} FROM rem_rows WHERE id = {}",
                blob(&key_digest(&normal)),
                flag(more > 0),
                blob(&id)
            ));
        }
        all.push(format!(
            "INSERT INTO rem_edges (tenant, source, source_tab, owner, kind, target, target_key, weight, properties, created_at) \
             VALUES ('{tenant}', {}, {tab}, '{owner}', 'references', 'to {name}', {}, 0.5, '{{}}', 1700000000000)",
            blob(&id),
            blob(&key_digest("x"))
        ));
    }
    for (number, (tenant, key, user)) in
        [("a", "k1", "me"), ("a", "k1", "me"), ("a", "k2", "CANARY"), ("b", "k1", "CANARY")].into_iter().enumerate()
    {
        let user_column = "\"user\"";
        all.push(format!(
            "INSERT INTO requests (id, started_at, tenant, key, {user_column}, tags, route, dialect, model_asked, stream, outcome, \
             similarity, status, tokens_input, tokens_cache_read, tokens_cache_write, tokens_output, tokens_reasoning, latency_us, \
             overhead_us, cost_nano_usd, saved_nano_usd, tokens_cache_write_1h) VALUES ({}, 17000000{number}0000, '{tenant}', '{key}', \
             '{user}', '{{}}', 'chat', 'openai', 'm', {}, 'miss', 0.9, 200, 10, 5, 0, 7, 1, 1500, 10, 100000000, 25, 0)",
            blob(&id(100 + number)),
            flag(false)
        ));
    }
    all.push(format!(
        "INSERT INTO corrections (request, at, started_at, before_cost, after_cost) VALUES ({}, 5, 1, 100000000, 200000000)",
        blob(&id(101))
    ));
    all
}

/// Id of the row or request of that number.
pub(in crate::store) fn id(number: usize) -> [u8; 16] {
    let digest = *blake3::hash(&number.to_be_bytes()).as_bytes();
    std::array::from_fn(|at| digest[at])
}

/// What statements give on each database for the caller `k1` of `a`, as the check prints them: equal answers.
pub(in crate::store) const ALIKE: [(&str, &str); 23] = [
    ("SELECT \"name\" FROM \"resources\" ORDER BY \"name\" ASC NULLS LAST", r#"[["guide"],["mine"]]"#),
    (
        "SELECT count(*) AS n, sum(\"input_tokens\") AS i, avg(CAST(\"input_tokens\" AS DOUBLE PRECISION)) AS a FROM \"requests\"",
        "[[2,30,15.0]]",
    ),
    (
        "SELECT sum(\"cost_usd\") AS c, sum(\"saved_usd\") AS s, max(\"latency_ms\") AS l FROM \"requests\"",
        "[[0.3,2.5e-8,1.5]]",
    ),
    ("SELECT \"content\" FROM \"resources\" WHERE \"content\" LIKE '%100\\%%' ESCAPE '\\'", r#"[["it's 100% mine"]]"#),
    ("SELECT \"content\" FROM \"resources\" WHERE \"content\" LIKE '%MINE%' ESCAPE '\\'", "[]"),
    ("SELECT 7 / 2 AS x, -7 / 2 AS y, 7 % nullif(0, 0) AS z, 7 / nullif(0, 0) AS w", "[[3,-3,null,null]]"),
    ("SELECT CAST(1.5 AS DOUBLE PRECISION) + 1 AS x, CAST(2 AS DOUBLE PRECISION) AS y", "[[2.5,2.0]]"),
    ("SELECT CAST(round(CAST(2.5 AS NUMERIC), 0) AS DOUBLE PRECISION) AS x", "[[3.0]]"),
    ("SELECT CAST(round(CAST(CAST(-2.5 AS DOUBLE PRECISION) AS NUMERIC), 0) AS BIGINT) AS x", "[[-3]]"),
    ("SELECT substr('abcdef', 2, 3) AS x, upper('ab') AS y, length('né') AS z", r#"[["bcd","AB",2]]"#),
    ("SELECT trim('  x ') AS x, ltrim('xxa', 'x') AS y, rtrim('axx', 'x') AS z", r#"[["x","a","a"]]"#),
    (
        "SELECT \"name\", \"uri\" FROM \"resources\" WHERE \"uri\" IS NULL AND NOT (\"name\" = 'guide')",
        r#"[["mine",null]]"#,
    ),
    ("SELECT \"type\", count(*) AS n FROM \"edges\" GROUP BY \"type\" HAVING count(*) > 1", r#"[["references",4]]"#),
    (
        "SELECT \"r\".\"name\" AS a, \"e\".\"target\" AS b FROM \"resources\" AS \"r\" JOIN \"edges\" AS \"e\" ON \"e\".\"source_id\" = \"r\".\"id\" WHERE \"r\".\"owner\" = 'public'",
        r#"[["guide","to guide"]]"#,
    ),
    (
        "SELECT \"created_at\", \"updated_at\", \"starts_at\", \"ends_at\" FROM \"moments\"",
        r#"[["2023-11-14T22:13:20.123Z","2023-11-14T22:13:20.999Z","2024-01-15T10:00:00.000Z",null]]"#,
    ),
    (
        "SELECT \"alias\", count(*) AS n FROM \"names\" WHERE \"name\" LIKE 'mine%' ESCAPE '\\' GROUP BY \"alias\" ORDER BY 1 ASC NULLS LAST",
        "[[0,1],[1,29]]",
    ),
    (
        "SELECT \"name\", row_number() OVER (ORDER BY \"name\" DESC NULLS FIRST) AS n FROM \"resources\" ORDER BY n DESC NULLS FIRST",
        r#"[["guide",2],["mine",1]]"#,
    ),
    ("WITH \"d\" AS (SELECT \"name\" FROM \"resources\") SELECT count(*) AS n FROM \"d\"", "[[2]]"),
    ("SELECT 1 AS x FROM \"names\" WHERE EXISTS (SELECT 1 AS y FROM \"entities\") LIMIT 1", "[[1]]"),
    (
        "SELECT \"name\" AS n FROM \"resources\" UNION SELECT \"name\" AS n FROM \"entities\" ORDER BY \"n\" ASC NULLS LAST",
        r#"[["Sarah Chen"],["guide"],["mine"]]"#,
    ),
    ("SELECT \"similarity\", \"status\", \"user_name\" FROM \"requests\" LIMIT 1", r#"[[0.9,200,"me"]]"#),
    ("SELECT 'b' || 'ä' AS x, NULL AS y, 9223372036854775807 AS z", r#"[["bä",null,9223372036854775807]]"#),
    (
        "SELECT \"name\" AS a, \"name\" AS a, \"tags\" AS t FROM \"resources\" WHERE \"name\" = 'mine'",
        r#"[["mine","mine","[\"t\"]"]]"#,
    ),
];

/// A statement that never ends by itself.
pub(in crate::store) const ENDLESS: &str = "SELECT count(*) AS n FROM \"names\" AS a CROSS JOIN \"names\" AS b CROSS JOIN \"names\" AS c \
    CROSS JOIN \"names\" AS d CROSS JOIN \"names\" AS e CROSS JOIN \"names\" AS f CROSS JOIN \"names\" AS g WHERE a.\"name\" || b.\"name\" || \
    c.\"name\" || d.\"name\" || e.\"name\" || f.\"name\" || g.\"name\" = 'x'";

/// A condition that fails on rows with a canary: whoever computes it there tells of them.
pub(in crate::store) const PROBE: &str = "abs(CASE WHEN \"content\" LIKE '%CANARY%' ESCAPE '\\' \
    THEN -9223372036854775807 - 1 ELSE 1 END) > 0";
