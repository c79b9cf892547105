//! SQL: the checked text on the guarded connection.

use serde_json::{Map, Value};

use super::super::{Answer, Code, Fault, Found, Sql};
use super::ask::Ask;
use crate::store::rem::{SqlFault, normalise};

/// The rows of a statement.
pub(super) async fn select(ask: &Ask<'_>, query: &Sql) -> Result<Answer, Fault> {
    let rows = ask.parts.sql.select(ask.scope, &query.text, ask.parts.caps);
    let rows = ask.guarded(rows).await.map_err(|error| fault(&error))?;
    let columns = distinct(&rows.columns);
    let found = |values: Vec<Value>| {
        let data: Map<String, Value> = columns.iter().cloned().zip(values).collect();
        let name = data.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        Found { table: "sql".to_owned(), key: normalise(&name), name, data, ..Found::default() }
    };
    let results = rows.rows.into_iter().map(found).collect();
    Ok(Answer { results, truncated: rows.truncated, ..Answer::default() })
}

/// Names of columns, each once: those that come again get a number.
fn distinct(columns: &[String]) -> Vec<String> {
    let mut names: Vec<String> = Vec::with_capacity(columns.len());
    for column in columns {
        let numbered = (2_usize..).map(|number| format!("{column}_{number}"));
        let free = std::iter::once(column.clone()).chain(numbered).find(|name| !names.contains(name));
        names.extend(free);
    }
    names
}

/// What kept a statement from running, as the caller is told.
pub(super) fn fault(fault: &SqlFault) -> Fault {
    let detail = fault.to_string();
    match fault {
        SqlFault::Statement(_) => Fault::new(Code::InvalidArgument, detail),
        SqlFault::NotAllowed => Fault::new(Code::NotAllowed, detail),
        SqlFault::Timeout => Fault::new(Code::Timeout, detail).hint("read less: a narrower WHERE, fewer joins"),
        SqlFault::TooLarge => Fault::new(Code::TooLarge, detail).hint("read less: a narrower WHERE, fewer joins"),
        SqlFault::Busy => Fault::new(Code::Unavailable, detail).hint("try again in a moment"),
        SqlFault::Unavailable(_) => Fault::new(Code::Unavailable, detail),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_keeps_its_value() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(distinct(&names(&["a", "a", "a_2", "a"])), names(&["a", "a_2", "a_2_2", "a_3"]));
    }
}
