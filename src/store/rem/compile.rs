//! Conditions become SQL with bound parameters, in the two dialects that there are. No text of a caller is ever part of the SQL.
//!
//! What a condition means is the same on both: texts compare by their bytes, `LIKE` tells upper from lower case, a missing value
//! makes a comparison neither true nor false. The property test beside this file compares with an evaluation in Rust.

use super::cond::{Column, ColumnType, Compare, Cond, Literal};
use crate::store::forms::stored;

/// Which SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Dialect {
    /// Parameters are `?N`.
    Sqlite,
    /// Parameters are `$N`.
    Postgres,
}

/// The value of a parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) enum Bind {
    /// A text.
    Text(String),
    /// A whole number, or a time in milliseconds since the Unix epoch.
    Integer(i64),
}

/// A condition as SQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct Compiled {
    /// One expression in parentheses, or a word.
    pub(in crate::store) sql: String,
    /// Its parameters, in the order of their numbers.
    pub(in crate::store) binds: Vec<Bind>,
}

/// SQL of a condition on the columns of `rem_rows`, which is called `alias` in the statement and whose parameters are numbered from
/// `first`.
pub(in crate::store) fn compile(cond: &Cond, dialect: Dialect, alias: &str, first: usize) -> Compiled {
    let mut compiler = Compiler { dialect, alias, first, sql: String::new(), binds: Vec::new() };
    compiler.cond(cond);
    Compiled { sql: compiler.sql, binds: compiler.binds }
}

struct Compiler<'a> {
    dialect: Dialect,
    alias: &'a str,
    first: usize,
    sql: String,
    binds: Vec<Bind>,
}

impl Compiler<'_> {
    fn cond(&mut self, cond: &Cond) {
        match cond {
            Cond::And(parts) => self.joined(parts, " AND ", true),
            Cond::Or(parts) => self.joined(parts, " OR ", false),
            Cond::Not(part) => match &**part {
                // Twice not is the same in three-valued logic too, and keeps the tree flat.
                Cond::Not(inner) => self.cond(inner),
                part => {
                    self.sql.push_str("(NOT ");
                    self.cond(part);
                    self.sql.push(')');
                }
            },
            Cond::Is(column, compare, literal) if column.of == ColumnType::Tags => match compare {
                Compare::Equal => self.tagged(*column, std::slice::from_ref(literal)),
                Compare::NotEqual => {
                    self.sql.push_str("(NOT ");
                    self.tagged(*column, std::slice::from_ref(literal));
                    self.sql.push(')');
                }
                _ => self.unknown(),
            },
            Cond::Is(column, compare, literal) => match bind_of(*column, literal) {
                Some(bind) => {
                    self.sql.push('(');
                    self.column(*column);
                    self.sql.push(' ');
                    self.sql.push_str(compare.as_str());
                    self.sql.push(' ');
                    self.bind(bind);
                    self.sql.push(')');
                }
                None => self.unknown(),
            },
            Cond::In(_, list) if list.is_empty() => self.constant(false),
            Cond::In(column, list) if column.of == ColumnType::Tags => self.tagged(*column, list),
            Cond::In(column, list) => {
                self.sql.push('(');
                self.column(*column);
                self.sql.push_str(" IN (");
                self.list(*column, list);
                self.sql.push_str("))");
            }
            Cond::Like(column, pattern) => self.like(*column, pattern),
            Cond::Missing(column) if column.of == ColumnType::Tags => {
                self.sql.push('(');
                self.column(*column);
                self.sql.push_str(" = '[]')");
            }
            Cond::Missing(column) => {
                self.sql.push('(');
                self.column(*column);
                self.sql.push_str(" IS NULL)");
            }
        }
    }

    /// Halves a long list again and again: a chain is as deep for a database as it is long, and there is a limit to that.
    fn joined(&mut self, parts: &[Cond], word: &str, empty: bool) {
        match parts {
            [] => self.constant(empty),
            [one] => self.cond(one),
            _ => {
                let (left, right) = parts.split_at(parts.len() / 2);
                self.sql.push('(');
                self.joined(left, word, empty);
                self.sql.push_str(word);
                self.joined(right, word, empty);
                self.sql.push(')');
            }
        }
    }

    /// A tag is one of these.
    fn tagged(&mut self, column: Column, list: &[Literal]) {
        self.each_tag(column, |compiler| {
            compiler.sql.push_str("t.value IN (");
            compiler.list(column, list);
            compiler.sql.push(')');
        });
    }

    fn each_tag(&mut self, column: Column, is: impl FnOnce(&mut Self)) {
        match self.dialect {
            Dialect::Sqlite => {
                self.sql.push_str("EXISTS (SELECT 1 FROM json_each(");
                self.column(column);
                self.sql.push_str(") AS t WHERE ");
            }
            Dialect::Postgres => {
                self.sql.push_str("EXISTS (SELECT 1 FROM json_array_elements_text(CAST(");
                self.column(column);
                self.sql.push_str(" AS json)) AS t (value) WHERE ");
            }
        }
        is(self);
        self.sql.push(')');
    }

    fn like(&mut self, column: Column, pattern: &str) {
        match column.of {
            ColumnType::Text => {
                self.sql.push('(');
                self.column(column);
                self.matches(pattern);
                self.sql.push(')');
            }
            ColumnType::Tags => self.each_tag(column, |compiler| {
                compiler.sql.push_str("t.value");
                compiler.matches(pattern);
            }),
            ColumnType::Time | ColumnType::Integer => self.unknown(),
        }
    }

    /// SQLite's `LIKE` takes letters of either case for equal unless a setting of the connection says otherwise; `GLOB` does not.
    fn matches(&mut self, pattern: &str) {
        match self.dialect {
            Dialect::Sqlite => {
                self.sql.push_str(" GLOB ");
                self.bind(Bind::Text(glob(pattern)));
            }
            Dialect::Postgres => {
                self.sql.push_str(" LIKE ");
                self.bind(Bind::Text(ended(pattern)));
                self.sql.push_str(" ESCAPE '\\'");
            }
        }
    }

    fn column(&mut self, column: Column) {
        self.sql.push_str(self.alias);
        self.sql.push('.');
        self.sql.push_str(column.stored);
    }

    fn list(&mut self, column: Column, list: &[Literal]) {
        for (place, literal) in list.iter().enumerate() {
            if place > 0 {
                self.sql.push_str(", ");
            }
            match bind_of(column, literal) {
                Some(bind) => self.bind(bind),
                None => self.sql.push_str("NULL"),
            }
        }
    }

    fn bind(&mut self, bind: Bind) {
        let number = self.first + self.binds.len();
        self.binds.push(bind);
        self.sql.push(if self.dialect == Dialect::Sqlite { '?' } else { '$' });
        self.sql.push_str(&number.to_string());
    }

    fn constant(&mut self, value: bool) {
        self.sql.push_str(if value { "(1 = 1)" } else { "(1 = 0)" });
    }

    /// Neither true nor false.
    fn unknown(&mut self) {
        self.sql.push_str("(1 = NULL)");
    }
}

/// The literal as a parameter; `None` if it is not of the column's type, which the check above does not let happen.
fn bind_of(column: Column, literal: &Literal) -> Option<Bind> {
    match (column.of, literal) {
        (ColumnType::Text | ColumnType::Tags, Literal::Text(text)) => Some(Bind::Text(text.clone())),
        (ColumnType::Time, Literal::Time(at)) => Some(Bind::Integer(stored(*at))),
        (ColumnType::Integer, Literal::Integer(number)) => Some(Bind::Integer(*number)),
        _ => None,
    }
}

/// A `LIKE` pattern as one of `GLOB`. What is a wildcard there stands in brackets.
fn glob(pattern: &str) -> String {
    let mut glob = String::with_capacity(pattern.len() + 8);
    let mut letters = pattern.chars();
    while let Some(letter) = letters.next() {
        let literal = match letter {
            '%' => {
                glob.push('*');
                continue;
            }
            '_' => {
                glob.push('?');
                continue;
            }
            // One at the very end stands for itself.
            '\\' => letters.next().unwrap_or('\\'),
            letter => letter,
        };
        if matches!(literal, '*' | '?' | '[') {
            glob.extend(['[', literal, ']']);
        } else {
            glob.push(literal);
        }
    }
    glob
}

/// A pattern that does not end in the middle of an escape: PostgreSQL refuses those. One `\` at the very end stands for itself.
fn ended(pattern: &str) -> String {
    let open = pattern.chars().rev().take_while(|letter| *letter == '\\').count() % 2 == 1;
    if open { format!("{pattern}\\") } else { pattern.to_owned() }
}
