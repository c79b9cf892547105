//! Answers of the sidecar as text for people: a table whose columns depend on the type of the query, and below it what else
//! was found.

use serde_json::Value;

use super::super::table::{Table, none, text};

/// Names of the columns that hold the long text of a row.
const TEXTS: [&str; 3] = ["content", "description", "summary"];
/// Names of the columns that say what a row is.
const LABELS: [&str; 2] = ["category", "kind"];

/// An answer; no line is longer than `width` characters, if there is one.
pub(super) fn answer(told: &Value, width: Option<usize>) -> String {
    let kind = text(told, "type");
    let rows = list(told, "results");
    let table = if kind == "sql" { selected(rows) } else { found(&kind, rows) };
    let mut shown = if rows.is_empty() { String::new() } else { table.text() };
    let extra = extras(told);
    if !shown.is_empty() && !extra.is_empty() {
        shown.push('\n');
    }
    shown.push_str(&extra);
    if !shown.is_empty() {
        shown.push('\n');
    }
    shown.push_str(&last_line(told, rows.len()));
    shown.push('\n');
    match width {
        Some(width) => shown.lines().map(|line| format!("{}\n", cut(line, width))).collect(),
        None => shown,
    }
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// Rows of LOOKUP, FUZZY, SEARCH and TRAVERSE.
fn found(kind: &str, rows: &[Value]) -> Table {
    let head: &[&str] = match kind {
        "traverse" => &["depth", "via", "weight", "table", "name", "what", "path"],
        "lookup" => &["table", "name", "what", "text"],
        _ => &["score", "table", "name", "what", "text"],
    };
    let mut table = Table::with_numbers(head.iter().map(|name| (*name).to_owned()).collect(), usize::MAX);
    for row in rows {
        let data = row.get("data").cloned().unwrap_or_default();
        let of_data = |names: &[&str]| {
            let found = names.iter().map(|name| text(&data, name)).find(|text| *text != none() && !text.is_empty());
            found.unwrap_or_else(none)
        };
        let cell = |name: &str| match name {
            "what" => of_data(&LABELS),
            "text" => of_data(&TEXTS),
            "score" => row.get("score").and_then(Value::as_f64).map_or_else(none, |score| format!("{score:.6}")),
            "path" => {
                let names: Vec<&str> = list(row, "path").iter().filter_map(Value::as_str).collect();
                clean(&names.join(" › "))
            }
            name => text(row, name),
        };
        table.row(head.iter().map(|name| cell(name)).collect());
    }
    table
}

/// Rows of SQL: the columns that were selected.
fn selected(rows: &[Value]) -> Table {
    let columns = |row: &Value| row.get("data").and_then(Value::as_object).map(|data| data.keys().cloned().collect());
    let head: Vec<String> = rows.first().and_then(columns).unwrap_or_default();
    let mut table = Table::with_numbers(head.iter().map(|name| clean(name)).collect(), usize::MAX);
    for row in rows {
        let data = row.get("data").cloned().unwrap_or_default();
        table.row(head.iter().map(|name| text(&data, name)).collect());
    }
    table
}

/// What is told beside the rows, a line each.
fn extras(told: &Value) -> String {
    let mut shown = String::new();
    let mut line = |name: &str, said: &str| shown.push_str(&format!("{name:12} {}\n", clean(said)));
    for missing in list(told, "missing").iter().filter_map(Value::as_str) {
        line("missing", missing);
    }
    for near in list(told, "suggestions") {
        let score = near.get("score").and_then(Value::as_f64).unwrap_or_default();
        let (missing, name, table) = (text(near, "missing"), text(near, "name"), text(near, "table"));
        line("suggestion", &format!("{missing}: {name} ({table}, {score:.6})"));
    }
    for edges in list(told, "edge_summary") {
        let from = edges.get("from").and_then(Value::as_str).filter(|from| !from.is_empty());
        let from = from.map_or_else(String::new, |from| format!("{from}: "));
        let dangling = edges.get("dangling").and_then(Value::as_u64).filter(|count| *count > 0);
        let dangling = dangling.map_or_else(String::new, |count| format!(" ({count} lead to nothing)"));
        let (kind, count) = (text(edges, "type"), text(edges, "count"));
        let (direction, samples) = (text(edges, "direction"), text(edges, "samples"));
        line("edges", &format!("{from}{kind} {direction} {count}{dangling}: {samples}"));
    }
    for stage in list(told, "stages") {
        let (depth, nodes, edges) = (text(stage, "depth"), text(stage, "nodes"), text(stage, "edges"));
        line("stage", &format!("depth {depth}: {nodes} nodes by {edges} edges ({})", text(stage, "types")));
    }
    if let Some(memo) = told.get("memo").and_then(Value::as_str) {
        line("memo", memo);
    }
    if told.get("degraded") == Some(&Value::Bool(true)) {
        line("degraded", "the embedder did not answer; this was found by words only");
    }
    if let Some(next) = told.get("next").and_then(Value::as_str) {
        line("next", &format!("the same query with AFTER \"{next}\""));
    }
    shown
}

fn last_line(told: &Value, rows: usize) -> String {
    let word = if rows == 1 { "row" } else { "rows" };
    let more = if told.get("truncated") == Some(&Value::Bool(true)) { ", and there are more" } else { "" };
    let timing = told.get("timing_ms").cloned().unwrap_or_default();
    let of = |name: &str| timing.get(name).and_then(Value::as_f64).unwrap_or_default();
    let (parse, embed, store, total) = (of("parse"), of("embed"), of("store"), of("total"));
    format!("{rows} {word}{more}; {total:.3} ms (parse {parse:.3}, embed {embed:.3}, store {store:.3})")
}

/// How a query is answered.
pub(super) fn explained(told: &Value) -> String {
    let mut shown = format!("query  {}\ntype   {}\n\nplan\n", text(told, "query"), text(told, "type"));
    for step in list(told, "plan") {
        shown.push_str(&format!("  {}\n", one_line(step)));
    }
    shown.push_str("\nstatements\n");
    for statement in list(told, "statements") {
        shown.push_str(&format!("  {}\n", one_line(statement)));
    }
    shown
}

/// Tables with their columns, and the grammar.
pub(super) fn schema(told: &Value) -> String {
    let mut shown = String::new();
    for table in list(told, "tables") {
        let columns: Vec<String> = list(table, "columns").iter().map(column).collect();
        shown.push_str(&format!("{}\n  {}\n", text(table, "name"), columns.join(", ")));
        if let Some(field) = table.get("embedded_field").filter(|field| !field.is_null()) {
            shown.push_str(&format!("  searched: {}\n", one_line(field)));
        }
    }
    if let Some(grammar) = told.get("grammar").and_then(Value::as_str) {
        shown.push_str(&format!("\n{grammar}\n"));
    }
    shown
}

fn column(column: &Value) -> String {
    match (column.get("name"), column.get("type")) {
        (Some(name), Some(of)) => format!("{} {}", one_line(name), one_line(of)),
        (Some(name), None) => one_line(name),
        _ => one_line(column),
    }
}

/// A text as it is, anything else as JSON.
fn one_line(value: &Value) -> String {
    clean(&value.as_str().map_or_else(|| value.to_string(), str::to_owned))
}

/// What came from elsewhere may not move the cursor of a terminal.
fn clean(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

fn cut(line: &str, width: usize) -> String {
    if line.chars().count() <= width || width == 0 {
        return line.to_owned();
    }
    line.chars().take(width - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lines(told: &Value) -> Vec<String> {
        answer(told, Some(60)).lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_search_shows_scores_and_cuts_long_texts() {
        let told = json!({"type": "search", "count": 1, "truncated": true, "next": "c1", "degraded": true,
            "results": [{"table": "resources", "name": "API Design v2", "score": 0.96,
                "data": {"category": "document", "content": format!("line one\nline\u{1b}[2J two {}", "x".repeat(200))}}],
            "timing_ms": {"parse": 0.02, "embed": 1.0, "store": 0.4, "total": 1.5}});
        let lines = lines(&told);
        assert_eq!(lines[0], "score     table      name           what      text");
        assert_eq!(lines[1], "0.960000  resources  API Design v2  document  line one line…");
        assert!(lines.iter().all(|line| line.chars().count() <= 60 && !line.contains('\u{1b}')), "{lines:?}");
        assert_eq!(lines[3], "degraded     the embedder did not answer; this was found by…");
        assert_eq!(lines[4], "next         the same query with AFTER \"c1\"");
        assert!(lines[6].starts_with("1 row, and there are more; 1.500 ms (parse 0.020"), "{lines:?}");
        let whole = answer(&told, None);
        assert!(whole.contains(&"x".repeat(200)), "nothing is cut where there is no terminal");
    }

    #[test]
    fn a_walk_shows_its_way_and_what_is_around_it() {
        let told = json!({"type": "traverse", "memo": "m", "results": [
                {"table": "resources", "name": "project-plan", "depth": 0, "via": null, "weight": null, "path": ["project-plan"], "data": {}},
                {"table": "entities", "name": "Sarah Chen", "depth": 2, "via": "owns", "weight": 0.5, "path": ["project-plan", "Sarah Chen"],
                    "data": {"kind": "person"}}],
            "stages": [{"depth": 0, "nodes": 1, "edges": 0, "types": []}],
            "edge_summary": [{"from": "project-plan", "type": "owns", "direction": "outbound", "count": 3, "samples": ["a", "b"], "dangling": 1}]});
        let shown = answer(&told, None);
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[1], "0      –     –       resources  project-plan  –       project-plan");
        assert_eq!(lines[2], "2      owns  0.5     entities   Sarah Chen    person  project-plan › Sarah Chen");
        assert_eq!(lines[4], "edges        project-plan: owns outbound 3 (1 lead to nothing): a, b");
        assert_eq!(lines[5], "stage        depth 0: 1 nodes by 0 edges (–)");
        assert_eq!(lines[6], "memo         m");
        assert!(lines[8].starts_with("2 rows; "));
    }

    #[test]
    fn nothing_found_still_says_what_is_missing_and_sql_has_its_own_columns() {
        let told = json!({"type": "lookup", "results": [], "missing": ["nope"],
            "suggestions": [{"missing": "nope", "name": "notes", "table": "resources", "score": 0.5}]});
        assert_eq!(lines(&told)[..2], ["missing      nope", "suggestion   nope: notes (resources, 0.500000)"]);
        let told = json!({"type": "sql", "results": [{"data": {"outcome": "hit", "n": 3}}, {"data": {"outcome": null, "n": 1}}]});
        assert_eq!(lines(&told)[..3], ["outcome  n", "hit      3", "–        1"]);
    }

    #[test]
    fn plans_and_schemas_are_shown_line_by_line() {
        let told = json!({"query": "LOOKUP \"x\"", "type": "lookup", "plan": ["one probe"], "statements": ["SELECT 1", {"sql": 2}]});
        let shown = explained(&told);
        assert_eq!(
            shown,
            "query  LOOKUP \"x\"\ntype   lookup\n\nplan\n  one probe\n\nstatements\n  SELECT 1\n  {\"sql\":2}\n"
        );
        let told = json!({"tables": [{"name": "names", "columns": ["name", {"name": "key", "type": "text"}], "embedded_field": null}],
            "grammar": "query = …"});
        assert_eq!(schema(&told), "names\n  name, key text\n\nquery = …\n");
    }
}
