//! What can be asked for: tables, columns, grammar, ranges. For `GET /rem/v1/schema`, and for models through MCP.

use serde_json::{Value, json};

use super::GRAMMAR;
use super::guard::callable;
use super::query::range;
use crate::store::rem::{RemTable, VIEWS, columns};

/// What each type of query is for.
pub(super) const TYPES: [(&str, &str); 5] = [
    (
        "LOOKUP",
        "everything of that name or alias in every table; blanks, _, - and upper or lower case make no difference",
    ),
    ("FUZZY", "names that are spelt alike, by trigrams; THRESHOLD is 0.3 unless given"),
    (
        "SEARCH",
        "rows by meaning and by words; IN resources and MODE hybrid unless given. By meaning, a similarity of 0.3 is needed; rows \
         that have the words come also with less, or without one. MIN_SIMILARITY, if given, holds for all rows",
    ),
    ("TRAVERSE", "what is reached along edges; DEPTH 1 OUTBOUND unless given, DEPTH 0 tells which edges there are"),
    ("SQL", "one reading statement over the tables of the schema, within what the key may see"),
];

/// One query of each type.
pub(super) const EXAMPLES: [&str; 7] = [
    "LOOKUP \"sarah chen\"",
    "FUZZY \"sara chen\" IN entities LIMIT 5",
    "SEARCH \"how do refunds work\" LIMIT 5",
    "SEARCH \"refund\" IN resources WHERE \"created_at >= '2026-01-01'\" MODE text",
    "TRAVERSE \"sarah chen\" INBOUND DEPTH 2",
    "TRAVERSE served_from WITH SEARCH \"how do refunds work\" INBOUND",
    "SELECT model, count(*) AS n, sum(saved_usd) AS saved FROM requests GROUP BY model ORDER BY n DESC",
];

/// Edges that the program makes, from traffic but for the last.
pub(super) const EDGES: [(&str, &str); 8] = [
    ("answered_by", "from a request to the model that answered, and to the upstream"),
    ("asked_by", "from a request to the user who asked, or to the key if no user was told"),
    ("tagged", "from a request to each of its tags, called as in team=search"),
    (
        "served_from",
        "from a request to the stored answer that it got; by its alias entry-ID; the weight is the similarity",
    ),
    ("in_session", "from a request to the session of its user"),
    ("fallback_of", "from an upstream to the one that had failed before it"),
    (
        "similar_to",
        "from a resource to one whose text is near, to an answer by its alias entry-ID; the weight is the cosine",
    ),
    ("next_part", "from a part of a long document to the part behind it"),
];

/// The whole document.
pub(super) fn document() -> Value {
    let tables: Vec<Value> = VIEWS.iter().map(|(name, names)| table(name, names)).collect();
    let edges: Vec<Value> = EDGES.iter().map(|(kind, means)| json!({ "type": kind, "means": means })).collect();
    let (least, most, limit) = range::LIMIT;
    let (shallow, deep, depth) = range::DEPTH;
    json!({
        "tables": tables,
        "edge_types": edges,
        "types": TYPES.iter().map(|(kind, means)| json!({ "type": kind, "means": means })).collect::<Vec<_>>(),
        "grammar": GRAMMAR,
        "examples": EXAMPLES,
        "functions": callable().collect::<Vec<_>>(),
        "ranges": {
            "limit": { "least": least, "most": most, "default": limit },
            "depth": { "least": shallow, "most": deep, "default": depth },
            "threshold": { "least": 0, "most": 1, "default": range::THRESHOLD },
            "min_similarity": { "least": 0, "most": 1, "default": range::SIMILARITY },
            "keys": { "least": 1, "most": range::KEYS },
            "stages": { "least": 1, "most": range::STAGES },
            "query_bytes": { "most": range::QUERY_BYTES },
        },
    })
}

fn table(name: &str, names: &[&str]) -> Value {
    let of = [RemTable::Resources, RemTable::Entities, RemTable::Moments, RemTable::Requests];
    let table = of.into_iter().find(|table| table.as_str() == name);
    let in_conditions = table.map(columns).unwrap_or_default();
    let shown: Vec<Value> = names
        .iter()
        .map(|column| {
            let filter = in_conditions.iter().any(|known| known.name == *column);
            json!({ "name": column, "type": column_type(column), "in_search_where": filter })
        })
        .collect();
    let types: &[&str] = match table {
        Some(RemTable::Requests) => &["traverse", "sql"],
        Some(_) => &["lookup", "fuzzy", "search", "traverse", "sql"],
        None => &["sql"],
    };
    json!({
        "name": name,
        "columns": shown,
        "embedded_field": table.and_then(RemTable::embedded_field),
        "writable": table.is_some_and(|table| RemTable::WRITTEN.contains(&table)) || name == "edges",
        "queries": types,
    })
}

/// What SQL finds in a column of the views. Times are RFC 3339 texts; lists and objects are JSON texts.
fn column_type(column: &str) -> &'static str {
    match column {
        "created_at" | "updated_at" | "starts_at" | "ends_at" | "started_at" => "time",
        "part" | "status" | "input_tokens" | "output_tokens" => "integer",
        "weight" | "similarity" | "cost_usd" | "saved_usd" | "latency_ms" => "number",
        "tags" | "metadata" | "attributes" | "aliases" | "properties" => "json",
        "alias" => "boolean",
        _ => "text",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::rem::{NEXT_PART, SIMILAR_TO};

    #[test]
    fn the_functions_that_are_told_may_be_called() {
        assert_eq!(document()["functions"].as_array().map(Vec::len), Some(callable().count()));
        for function in callable() {
            for arguments in ["name", "*", "name, name", "name, name, name", "name, 1", ""] {
                for over in ["", " OVER (ORDER BY name)"] {
                    let text = format!("SELECT {function}({arguments}){over} FROM resources");
                    let said = super::super::guard::check(&text).err().map(|fault| fault.detail).unwrap_or_default();
                    let refused = format!("the function `{function}` may not be used here");
                    assert_ne!(said, refused);
                }
            }
        }
    }

    /// What is written between the quotes where the code makes an edge.
    #[test]
    fn the_types_of_edges_that_are_told_are_those_that_are_made() {
        let sources = [
            include_str!("fill/ledger.rs"),
            include_str!("fill/sessions.rs"),
            include_str!("fill/embed.rs"),
            include_str!("ingest/edges.rs"),
        ];
        let before = ["edge(\"", "RemTable::Requests, \"", "RemTable::Entities, \"", "row.table, \"", "kind: \""];
        let mut made: Vec<&str> = sources
            .iter()
            .flat_map(|source| before.iter().flat_map(move |before| source.split(before).skip(1)))
            .filter_map(|rest| rest.split('"').next())
            .collect();
        // These are written in more than one place.
        let constants = [("kind: NEXT_PART.", NEXT_PART), ("row.table, SIMILAR_TO,", SIMILAR_TO)];
        let used = constants.iter().filter(|(text, _)| sources.iter().any(|source| source.contains(text)));
        made.extend(used.map(|(_, kind)| *kind));
        made.sort_unstable();
        let mut told = EDGES.map(|(kind, _)| kind);
        told.sort_unstable();
        assert_eq!(made, told);
    }

    #[test]
    fn every_table_and_column_of_the_views_is_told_and_nothing_is_told_that_is_none() {
        let document = document();
        let tables = document["tables"].as_array().unwrap();
        assert_eq!(tables.len(), VIEWS.len());
        for (table, (name, columns)) in tables.iter().zip(VIEWS) {
            assert_eq!(table["name"], name);
            let told: Vec<_> = table["columns"].as_array().unwrap().iter().map(|column| &column["name"]).collect();
            assert_eq!(told, columns.iter().collect::<Vec<_>>());
        }
        for table in RemTable::WRITTEN {
            let view = VIEWS.iter().find(|(name, _)| *name == table.as_str()).unwrap().1;
            for column in columns(table) {
                assert!(view.contains(&column.name), "{} of {}", column.name, table.as_str());
            }
            assert!(view.contains(&table.embedded_field().unwrap()) && view.contains(&table.label_field()));
        }
    }
}
