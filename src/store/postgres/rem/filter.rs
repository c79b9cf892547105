//! What rows must fulfil, as SQL over `rem_rows AS r` with parameters.

use sqlx::Postgres;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;

use super::super::super::rem::{Bind, Cond, Dialect, RemQuestion, compile};
use super::super::cells::escaped;

/// A statement that owns its parameters.
pub(super) type Statement = Query<'static, Postgres, PgArguments>;

/// The category and the condition of a question.
pub(super) struct Filter<'a> {
    label: Option<&'a str>,
    cond: Option<&'a Cond>,
}

impl<'a> Filter<'a> {
    pub(super) fn of(question: &RemQuestion<'a>) -> Self {
        Self { label: question.label, cond: question.cond }
    }

    /// Every row fulfils it.
    pub(super) fn is_empty(&self) -> bool {
        self.label.is_none() && self.cond.is_none()
    }

    /// SQL whose first parameter has this number.
    pub(super) fn sql(&self, first: usize) -> String {
        let mut parts = Vec::new();
        if self.label.is_some() {
            // The index has the beginning.
            parts.push(format!("left(r.label, 100) = left(${first}, 100) AND r.label = ${first}"));
        }
        if let Some(cond) = self.cond {
            parts.push(compile(cond, Dialect::Postgres, "r", first + usize::from(self.label.is_some())).sql);
        }
        if parts.is_empty() { "true".to_owned() } else { parts.join(" AND ") }
    }

    /// Adds the parameters. Texts are bound as they are stored.
    pub(super) fn bind(&self, mut statement: Statement) -> Statement {
        if let Some(label) = self.label {
            statement = statement.bind(escaped(label).into_owned());
        }
        for bind in self.cond.map(|cond| compile(cond, Dialect::Postgres, "r", 1).binds).into_iter().flatten() {
            statement = match bind {
                Bind::Text(text) => statement.bind(escaped(&text).into_owned()),
                Bind::Integer(number) => statement.bind(number),
            };
        }
        statement
    }
}
