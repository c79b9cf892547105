//! Conditions, as WHERE of a SEARCH has them: a small part of SQL's expressions, read to the end and checked against the columns
//! of the tables. What it does not know it refuses by name; nothing of the text reaches a database but literals, which are bound.

mod reader;

use self::reader::Reader;
use super::super::{Code, Fault, Written};
use super::draft::short;
use crate::clock::UnixMs;
use crate::store::rem::{Column, ColumnType, Compare, Cond, Literal, RemTable, columns};

const HINT: &str =
    "a condition compares columns with literals: =, <>, <, <=, >, >=, IN, BETWEEN, LIKE, IS NULL, AND, OR, NOT";

/// Reads and checks a condition; `place` tells where a character of its text stands in the query, if it stands in one.
pub(super) fn read(text: &str, tables: &[RemTable], place: impl Fn(usize) -> Option<usize>) -> Result<Written, Fault> {
    let placed =
        |fault: Fault| Fault { position: fault.position.map(|at| place(at).unwrap_or(at)), ..fault }.of("where");
    let term = Reader::new(text).and_then(Reader::whole).map_err(placed)?;
    let mut cond = Vec::with_capacity(tables.len());
    for table in tables {
        cond.push((*table, typed(&term, *table).map_err(placed)?));
    }
    Ok(Written { text: printed(&term, Binding::Or), cond })
}

/// A literal as it is written.
#[derive(Clone, Debug, PartialEq)]
enum Value {
    Text(String),
    Number(String),
}

/// Something, and the character at which it stands.
#[derive(Clone, Debug, PartialEq)]
struct At<T>(T, usize);

/// A condition, before it is known which table it is about.
#[derive(Clone, Debug, PartialEq)]
enum Term {
    And(Vec<Term>),
    Or(Vec<Term>),
    Not(Box<Term>),
    Is(At<String>, Compare, At<Value>),
    In(At<String>, Vec<At<Value>>),
    Like(At<String>, At<String>),
    Missing(At<String>),
}

fn fault(code: Code, at: usize, detail: impl Into<String>) -> Fault {
    Fault::new(code, detail).at(at).hint(HINT)
}

/// How tightly what stands around a term binds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Binding {
    Or,
    And,
    Not,
}

fn printed(term: &Term, around: Binding) -> String {
    let list = |terms: &[Term], word: &str, inside: Binding| {
        let terms: Vec<String> = terms.iter().map(|term| printed(term, inside)).collect();
        let text = terms.join(word);
        // A term of the same kind would have been part of the list around it.
        if around > Binding::Or { format!("({text})") } else { text }
    };
    match term {
        Term::Or(terms) => list(terms, " OR ", Binding::And),
        Term::And(terms) if around == Binding::And => {
            terms.iter().map(|term| printed(term, Binding::Not)).collect::<Vec<_>>().join(" AND ")
        }
        Term::And(terms) => list(terms, " AND ", Binding::Not),
        Term::Not(inner) => match &**inner {
            Term::Missing(column) => format!("{} IS NOT NULL", column.0),
            Term::In(column, values) => format!("{} NOT IN ({})", column.0, literals(values)),
            Term::Like(column, pattern) => format!("{} NOT LIKE {}", column.0, literal(&pattern.0)),
            other => format!("NOT ({})", printed(other, Binding::Or)),
        },
        Term::Is(column, compare, value) => format!("{} {} {}", column.0, compare.as_str(), shown(&value.0)),
        Term::In(column, values) => format!("{} IN ({})", column.0, literals(values)),
        Term::Like(column, pattern) => format!("{} LIKE {}", column.0, literal(&pattern.0)),
        Term::Missing(column) => format!("{} IS NULL", column.0),
    }
}

fn literals(values: &[At<Value>]) -> String {
    values.iter().map(|value| shown(&value.0)).collect::<Vec<_>>().join(", ")
}

fn shown(value: &Value) -> String {
    match value {
        Value::Text(text) => literal(text),
        Value::Number(number) => number.clone(),
    }
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The condition for one table.
fn typed(term: &Term, table: RemTable) -> Result<Cond, Fault> {
    let all = |terms: &[Term]| terms.iter().map(|term| typed(term, table)).collect::<Result<Vec<_>, _>>();
    Ok(match term {
        Term::And(terms) => Cond::And(all(terms)?),
        Term::Or(terms) => Cond::Or(all(terms)?),
        Term::Not(inner) => Cond::Not(Box::new(typed(inner, table)?)),
        Term::Is(name, compare, value) => {
            let column = column(name, table)?;
            let ordered = !matches!(compare, Compare::Equal | Compare::NotEqual);
            if column.of == ColumnType::Tags && ordered {
                let detail = format!("{} is a list, and `{}` does not compare lists", name.0, compare.as_str());
                return Err(fault(Code::InvalidArgument, name.1, detail).hint("as in tags = 'draft'"));
            }
            Cond::Is(column, *compare, of_type(value, column)?)
        }
        Term::In(name, values) => {
            let column = column(name, table)?;
            let values = values.iter().map(|value| of_type(value, column)).collect::<Result<Vec<_>, _>>()?;
            if column.of == ColumnType::Tags {
                Cond::Or(values.into_iter().map(|value| Cond::Is(column, Compare::Equal, value)).collect())
            } else {
                Cond::In(column, values)
            }
        }
        Term::Like(name, pattern) => {
            let column = column(name, table)?;
            if column.of != ColumnType::Text {
                let detail = format!("{} is no text, and LIKE compares texts", name.0);
                return Err(fault(Code::InvalidArgument, name.1, detail));
            }
            Cond::Like(column, pattern.0.clone())
        }
        Term::Missing(name) => {
            let column = column(name, table)?;
            if column.of == ColumnType::Tags {
                let detail = format!("{} is a list and never NULL", name.0);
                return Err(fault(Code::InvalidArgument, name.1, detail).hint("as in tags = 'draft'"));
            }
            Cond::Missing(column)
        }
    })
}

fn column(name: &At<String>, table: RemTable) -> Result<Column, Fault> {
    let known = columns(table);
    known.iter().find(|column| column.name == name.0).copied().ok_or_else(|| {
        let detail = format!("{} has no column `{}` for conditions", table.as_str(), short(&name.0));
        let names: Vec<&str> = known.iter().map(|column| column.name).collect();
        let fault = Fault::new(Code::InvalidArgument, detail).at(name.1);
        match super::clause::nearest(&name.0, names.iter().copied()) {
            Some(close) => fault.hint(format!("did you mean {close}?")),
            None => fault.hint(format!("its columns are {}", names.join(", "))),
        }
    })
}

/// The literal as one of the column's type.
fn of_type(At(value, at): &At<Value>, column: Column) -> Result<Literal, Fault> {
    let found = match (column.of, value) {
        (ColumnType::Text | ColumnType::Tags, Value::Text(text)) => Some(Literal::Text(text.clone())),
        (ColumnType::Time, Value::Text(text)) => time(text).map(Literal::Time),
        (ColumnType::Integer, Value::Number(number)) => number.parse().ok().map(Literal::Integer),
        _ => None,
    };
    found.ok_or_else(|| {
        let wants = match column.of {
            ColumnType::Text | ColumnType::Tags => "a text in single quotes, as in 'meeting'",
            ColumnType::Time => "a time, as in '2024-01-15' or '2024-01-15T10:00:00Z'",
            ColumnType::Integer => "a whole number, as in 3",
        };
        let detail = format!("{} is compared with {wants}, not with {}", column.name, short(&shown(value)));
        Fault::new(Code::InvalidArgument, detail).at(*at).hint(format!("write {wants}"))
    })
}

/// RFC 3339, or a date, or both without an offset; then it is UTC.
fn time(text: &str) -> Option<UnixMs> {
    let text = text.trim();
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Some(since_1970(time));
    }
    let civil = text.parse::<jiff::civil::DateTime>().ok()?;
    jiff::tz::Offset::UTC.to_timestamp(civil).ok().map(since_1970)
}

/// No row is older than 1970, so an older time is as good as the first.
fn since_1970(time: jiff::Timestamp) -> UnixMs {
    UnixMs::try_from(time.as_millisecond()).unwrap_or(0)
}
