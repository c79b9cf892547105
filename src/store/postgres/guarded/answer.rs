//! Answers of callers' statements: read as three types only, counted while they are read; and what the database said of a
//! statement, in our words.

use std::future::poll_fn;

use serde_json::Value;
use sqlx::postgres::{PgConnection, PgRow, PgStatement};
use sqlx::{AssertSqlSafe, Column, Row, Statement, TypeInfo, query};

use super::super::super::rem::{SqlAnswer, SqlCaps, SqlFault, sql_float};
use super::super::cells::unescaped;

/// Longest text of an answer, all those of a row together, bytes.
const LONGEST: i64 = 8 << 20;

/// How a column is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum As {
    Whole,
    /// A truth value, as 1 or 0: the other database has no type for it.
    Truth,
    Float,
    /// A number of any size, as text.
    Number,
    Text,
}

/// Names and kinds of the columns of a statement.
pub(super) struct Reading {
    columns: Vec<(String, As)>,
}

impl Reading {
    /// Of a statement that was prepared.
    pub(super) fn of(statement: &PgStatement) -> Result<Self, SqlFault> {
        let columns = statement.columns().iter().map(|column| {
            let read = match column.type_info().name() {
                "INT2" | "INT4" | "INT8" => As::Whole,
                "BOOL" => As::Truth,
                "FLOAT4" | "FLOAT8" => As::Float,
                "NUMERIC" => As::Number,
                "TEXT" | "VARCHAR" => As::Text,
                // The views have no others.
                _ => return Err(SqlFault::NotAllowed),
            };
            Ok((column.name().to_owned(), read))
        });
        let columns: Vec<_> = columns.collect::<Result<_, _>>()?;
        if columns.is_empty() { Err(SqlFault::NotAllowed) } else { Ok(Self { columns }) }
    }

    /// The statement that is run: the caller's inside of one that limits rows, and names columns by number, because he may
    /// have given two the same name. The last column is the length of all texts; of too long ones nothing else is sent.
    pub(super) fn wrapped(&self, inner: &str, caps: SqlCaps) -> String {
        let (mut read, mut names, mut lengths) = (Vec::new(), Vec::new(), vec!["0::bigint".to_owned()]);
        for (number, (_, how)) in self.columns.iter().enumerate() {
            read.push(match how {
                As::Whole => format!("c{number}::bigint"),
                As::Truth => format!("c{number}::integer::bigint"),
                As::Float => format!("c{number}::double precision"),
                As::Number => format!("c{number}::text"),
                As::Text => {
                    lengths.push(format!("coalesce(octet_length(c{number}), 0)::bigint"));
                    format!("CASE WHEN octet_length(c{number}) <= {LONGEST} THEN c{number}::text END")
                }
            });
            names.push(format!("c{number}"));
        }
        let rows = u64::from(caps.rows) + 1;
        let (read, names, lengths) = (read.join(", "), names.join(", "), lengths.join(" + "));
        format!("SELECT {read}, {lengths} FROM (SELECT * FROM {inner} LIMIT {rows}) AS w ({names})")
    }

    /// Runs it and reads rows until there are no more or a cap is reached.
    pub(super) async fn read(
        &self,
        connection: &mut PgConnection,
        wrapped: String,
        caps: SqlCaps,
    ) -> Result<SqlAnswer, SqlFault> {
        let columns = self.columns.iter().map(|(name, _)| name.clone()).collect();
        let mut answer = SqlAnswer { columns, rows: Vec::new(), truncated: false };
        let mut left = caps.bytes;
        let mut rows = query(AssertSqlSafe(wrapped)).persistent(false).fetch(connection);
        while let Some(row) = poll_fn(|context| rows.as_mut().poll_next(context)).await {
            let (values, bytes) = self.values(&row.map_err(|error| fault(&error))?)?;
            if answer.rows.len() as u64 >= u64::from(caps.rows) || bytes > left {
                answer.truncated = true;
                break;
            }
            left -= bytes;
            answer.rows.push(values);
        }
        Ok(answer)
    }

    fn values(&self, row: &PgRow) -> Result<(Vec<Value>, u64), SqlFault> {
        let odd = |_: sqlx::Error| SqlFault::NotAllowed;
        let mut values = Vec::with_capacity(self.columns.len());
        let mut bytes = 2;
        for (number, (_, how)) in self.columns.iter().enumerate() {
            let value = match how {
                As::Whole | As::Truth => {
                    row.try_get::<Option<i64>, _>(number).map_err(odd)?.map_or(Value::Null, Value::from)
                }
                As::Float => row.try_get::<Option<f64>, _>(number).map_err(odd)?.map_or(Value::Null, sql_float),
                As::Number => match row.try_get::<Option<&str>, _>(number).map_err(odd)? {
                    Some(text) => number_of(text)?,
                    None => Value::Null,
                },
                As::Text => match row.try_get::<Option<&str>, _>(number).map_err(odd)? {
                    Some(text) => Value::String(unescaped(text).into_owned()),
                    None => Value::Null,
                },
            };
            bytes += match &value {
                Value::String(text) => text.len() as u64 + 3,
                _ => 20,
            };
            values.push(value);
        }
        let length: i64 = row.try_get(self.columns.len()).map_err(odd)?;
        if length > LONGEST { Err(SqlFault::TooLarge) } else { Ok((values, bytes)) }
    }
}

/// A number without bounds as one that both databases have.
fn number_of(text: &str) -> Result<Value, SqlFault> {
    let range = || SqlFault::Statement("a number is out of its range".to_owned());
    if text.contains('.') {
        return text.parse().map(sql_float).map_err(|_| range());
    }
    text.parse::<i64>().map(Value::from).map_err(|_| range())
}

/// What the planner expects the whole statement to take: `… (cost=0.00..12.34 rows=…` in the first line.
pub(super) fn cost(lines: &[String]) -> Option<f64> {
    let (_, after) = lines.first()?.split_once("..")?;
    after.split(' ').next()?.parse().ok()
}

/// What the database said, in our words: its own may quote values.
pub(super) fn fault(error: &sqlx::Error) -> SqlFault {
    let Some(said) = error.as_database_error() else {
        return match error {
            // A text in a form that is not UTF-8, or an answer of another type than was said.
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => SqlFault::NotAllowed,
            _ => SqlFault::Unavailable("the database does not answer".to_owned()),
        };
    };
    let code = said.code().unwrap_or_default().into_owned();
    let words = match code.as_str() {
        // Read-only, no right, not in this way: a layer has refused it.
        "42501" | "25006" | "0A000" | "25001" => return SqlFault::NotAllowed,
        // 57P01: its connection was ended from outside.
        "57014" | "57P01" | "55P03" | "25P03" => return SqlFault::Timeout,
        "53200" | "53400" | "53100" => return SqlFault::TooLarge,
        "53300" => return SqlFault::Busy,
        // Two statements, or something that is no SELECT inside of the parentheses.
        "42601" => "the statement cannot be read by the database",
        "42703" => "the statement names a column that is not there",
        "42P01" | "3F000" => "the statement names a table that is not there",
        "42883" | "42725" => "a function or an operator does not fit the types that it is given; use CAST",
        "42804" | "42846" => "types do not fit together; use CAST",
        "42702" => "a column is in more than one table; write the table before it",
        "42803" => "a column must be in GROUP BY, or inside of an aggregate function",
        "42P20" => "a window function stands where it may not",
        "42P10" => "with DISTINCT, ORDER BY takes columns of the answer only",
        "42P18" | "42P22" => "the type of a value cannot be told; use CAST",
        "22012" => "the statement divides by zero",
        "22P02" | "22007" | "22008" => "a text is no number where one is needed",
        "22003" => "a number is out of its range",
        "22025" | "22019" => "a pattern of LIKE ends in its escape",
        "21000" => "a SELECT that is a value gives more than one row",
        code if code.starts_with("54") => return SqlFault::TooLarge,
        code if code.starts_with("08") || code.starts_with("57P") || code.starts_with("28") => {
            return SqlFault::Unavailable("the database does not answer".to_owned());
        }
        _ => "the database does not take this statement",
    };
    SqlFault::Statement(words.to_owned())
}
