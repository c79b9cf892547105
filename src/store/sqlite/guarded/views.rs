//! The views of one caller, as temporary views of one connection.
//!
//! Two for each: the inner one reads tables and has a name that nobody can guess, the outer one has the documented name and
//! reads the inner one. The authorizer lets tables be read on behalf of inner views only. It is told the name of what reads, and
//! that may be a name that WITH gives; so a name that a statement could know would not do.
//!
//! `LIMIT -1` keeps the caller's conditions out of the inner view: none of them is ever computed on a row that is not his,
//! so no error and no cost tells of one.

use super::super::super::rem::{Scope, VIEWS};

/// Tables that inner views read.
pub(super) const TABLES: [&str; 5] = ["rem_rows", "rem_names", "rem_edges", "requests", "corrections"];
/// Functions that inner views call.
pub(super) const FUNCTIONS: [&str; 6] = ["substr", "instr", "hex", "strftime", "max", "coalesce"];

/// The statements that make them. `secret` goes into the names of inner views. `apart` keeps conditions out of them.
pub(super) fn all(scope: &Scope, secret: &str, apart: bool) -> String {
    let end = if apart { " LIMIT -1" } else { "" };
    let tenant = literal(scope.tenant.as_str());
    let owner = literal(&scope.owner().to_string());
    let mut sql = String::new();
    for (view, columns) in VIEWS {
        let inner = name(view, secret);
        let body = body(view, &tenant, &owner, &literal(scope.key.as_str()));
        let list = columns.join("\", \"");
        sql.push_str(&format!(
            "CREATE TEMP VIEW \"{inner}\" (\"{list}\") AS {body}{end};\n\
             CREATE TEMP VIEW \"{view}\" (\"{list}\") AS SELECT * FROM temp.\"{inner}\";\n"
        ));
    }
    sql
}

/// Name of the inner view.
pub(super) fn name(view: &str, secret: &str) -> String {
    format!("{view}_{secret}")
}

/// A text as a constant, whatever is in it.
fn literal(text: &str) -> String {
    let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("CAST(x'{hex}' AS TEXT)")
}

fn body(view: &str, tenant: &str, owner: &str, key: &str) -> String {
    let seen = |of: &str| format!("{of}.tenant = {tenant} AND {of}.owner IN ('public', {owner})");
    let rows = |tab: u8, columns: &str| {
        format!(
            "SELECT {}, r.name, {columns}, r.owner, {}, {} FROM main.rem_rows r \
             WHERE {} AND r.tab = {tab} AND r.deleted_at IS NULL",
            ulid("r.id"),
            time("r.created_at"),
            time("r.updated_at"),
            seen("r")
        )
    };
    let tab = |column: &str| {
        format!(
            "CASE {column} WHEN 0 THEN 'resources' WHEN 1 THEN 'entities' WHEN 2 THEN 'moments' ELSE 'requests' END"
        )
    };
    match view {
        "resources" => rows(0, "r.uri, r.text, r.label, r.tags, r.data, r.part"),
        "entities" => rows(1, "r.label, r.text, r.data, r.aliases, r.tags"),
        "moments" => {
            let times = format!("{}, {}", time("r.starts_at"), time("r.ends_at"));
            rows(2, &format!("r.label, {times}, r.text, r.previous, r.tags, r.data"))
        }
        "edges" => format!(
            "SELECT {}, {}, coalesce(r.name, {}), e.kind, e.target, e.weight, e.properties, e.owner, {} \
             FROM main.rem_edges e LEFT JOIN main.rem_rows r ON r.tenant = e.tenant AND r.id = e.source AND e.source_tab < 3 \
             WHERE {} AND (e.source_tab = 3 OR (r.deleted_at IS NULL AND r.owner = e.owner))",
            tab("e.source_tab"),
            ulid("e.source"),
            ulid("e.source"),
            time("e.created_at"),
            seen("e")
        ),
        "names" => format!(
            "SELECT n.name, n.normal, {}, {}, n.alias, n.owner FROM main.rem_names n JOIN main.rem_rows r ON r.no = n.row \
             WHERE {} AND {} AND r.deleted_at IS NULL",
            tab("n.tab"),
            ulid("r.id"),
            seen("n"),
            seen("r")
        ),
        _ => format!(
            "SELECT {}, {}, q.user, q.model_asked, q.model_answered, q.route, q.dialect, q.outcome, q.tier, q.reason, \
             round(q.similarity, 6), CASE WHEN q.entry IS NOT NULL THEN {} END, q.status, q.upstream, \
             q.tokens_input + q.tokens_cache_read + q.tokens_cache_write + coalesce(q.tokens_cache_write_1h, 0) \
             + coalesce(q.tokens_audio_input, 0) + coalesce(q.tokens_image_input, 0), \
             q.tokens_output + q.tokens_reasoning + coalesce(q.tokens_audio_output, 0) + coalesce(q.tokens_image_output, 0), \
             CASE WHEN c.request IS NULL THEN q.cost_nano_usd ELSE c.after_cost END / 1e9, \
             CASE WHEN c.request IS NULL THEN q.saved_nano_usd ELSE c.after_saved_net END / 1e9, q.latency_us / 1e3 \
             FROM main.requests q LEFT JOIN main.corrections c ON c.request = q.id \
             AND c.at = (SELECT max(l.at) FROM main.corrections l WHERE l.request = q.id) \
             WHERE q.tenant = {tenant} AND q.key = {key}",
            ulid("q.id"),
            time("q.started_at"),
            ulid("q.entry")
        ),
    }
}

fn time(column: &str) -> String {
    format!("strftime('%Y-%m-%dT%H:%M:%fZ', {column} / 1000.0, 'unixepoch')")
}

/// 16 bytes as 26 letters of Crockford's base 32: five bits each, from the hexadecimal form, in which five bits are in two digits.
fn ulid(column: &str) -> String {
    let digit = |at: u32| format!("instr('123456789ABCDEF', substr(hex({column}), {}, 1))", at + 1);
    let letter = |number: u32| {
        let value = match (5 * number).checked_sub(2) {
            None => format!("{} >> 1", digit(0)),
            Some(bit) => format!("(16 * {} + {}) >> {} & 31", digit(bit / 4), digit(bit / 4 + 1), 3 - bit % 4),
        };
        format!("substr('0123456789ABCDEFGHJKMNPQRSTVWXYZ', 1 + ({value}), 1)")
    };
    (0..26).map(letter).collect::<Vec<_>>().join(" || ")
}
