//! The check of SQL that a caller wrote: parsed, held against lists of what is allowed, and printed again from the tree.
//!
//! Nothing is copied from the text. The printer writes only the nodes that it knows, each with all its members taken apart, so
//! what it does not know cannot pass: that is the allow-list. Where the two databases would read one text in two ways it
//! prints what both read alike (`docs/rem-sql.md` has the list), or refuses.
//!
//! Nothing is done with a tree but on a stack that holds any tree (`depth.rs`).
//!
//! It must never: let a member of the tree pass unseen, print text that is no result of the tree, or trust that it is the
//! only layer.

mod depth;
mod expr;
mod from;
mod functions;
mod names;
mod query;
#[cfg(test)]
mod tests;
mod tokens;

use sqlparser::ast::{Spanned, Statement};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::Location;

use super::{Code, Fault};
pub(super) use functions::callable;
use names::Scope;
pub(super) use tokens::writes;

/// Most bytes of a statement, as it is written and as it is printed.
const BYTES: usize = 32 << 10;
/// Deepest nesting that the parser follows.
const PARSE_DEPTH: usize = 40;
/// Deepest tree: chains of operators nest too.
const DEPTH: usize = 100;
/// Most relations that are named in FROM, over all of the statement.
const RELATIONS: usize = 12;
/// Most SELECTs, with those that are joined by UNION and the like.
const SELECTS: usize = 24;
/// Most columns of one SELECT.
const COLUMNS: usize = 100;

/// Checks one statement; what it gives is the only text that is ever run. Checking that text again gives the same text.
///
/// # Errors
/// It cannot be read ([`Code::ParseError`]), would change something ([`Code::ReadOnly`]), names a table that is none
/// ([`Code::UnknownTable`]), or anything else that may not be used ([`Code::NotAllowed`]).
pub fn check(text: &str) -> Result<String, Fault> {
    depth::on_a_large_stack(|| twice(text, once))
}

/// Prints the text, and what was printed once more. What runs is read by a database as it was read here: so what is printed must
/// pass, and be its own print.
fn twice(text: &str, print: impl Fn(&str) -> Result<String, Fault>) -> Result<String, Fault> {
    let printed = print(text)?;
    if printed.len() <= BYTES && print(&printed).is_ok_and(|again| again == printed) {
        Ok(printed)
    } else {
        Err(not_allowed(
            "the statement is too large once `*` and all names are written out, or not to be read in one way",
        ))
    }
}

fn once(text: &str) -> Result<String, Fault> {
    if text.len() > BYTES {
        return Err(not_allowed(format!("the statement has {} bytes; at most {BYTES} are allowed", text.len())));
    }
    let tokens = tokens::read(text)?;
    if let Some(token) = depth::too_deep(&tokens) {
        return Err(match offset(text, token.span.start) {
            Some(position) => too_deep().at(position),
            None => too_deep(),
        });
    }
    let parser = Parser::new(&PostgreSqlDialect {}).with_recursion_limit(PARSE_DEPTH);
    let parsed = parser.with_tokens_with_locations(tokens).parse_statements();
    let statements = parsed.map_err(|error| unreadable(text, &error))?;
    let mut printer = Printer::of(text);
    match statements.as_slice() {
        [Statement::Query(query)] => printer.query(query).map(|(printed, _)| printed),
        [] => Err(Fault::new(Code::ParseError, "there is no statement").at(0)),
        [_] => Err(read_only("only SELECT may be used here").at(0)),
        [_, rest, ..] => {
            let fault = match rest {
                Statement::Query(_) => not_allowed("only one statement may be sent at a time"),
                _ => read_only("only one SELECT may be sent, and nothing that follows it"),
            };
            Err(printer.at(fault, rest.span().start))
        }
    }
}

/// Walks the tree and prints it.
struct Printer<'t> {
    text: &'t str,
    /// Relations that WITH has named so far, each with its columns; the innermost are last.
    ctes: Vec<(String, Vec<String>)>,
    /// What can be named at this place; the innermost is last.
    scopes: Vec<Scope>,
    depth: usize,
    relations: usize,
    selects: usize,
    joins: usize,
}

impl<'t> Printer<'t> {
    fn of(text: &'t str) -> Self {
        Self { text, ctes: Vec::new(), scopes: Vec::new(), depth: 0, relations: 0, selects: 0, joins: 0 }
    }

    /// The fault with its place, where the tree knows it.
    fn at(&self, fault: Fault, place: Location) -> Fault {
        match offset(self.text, place) {
            Some(position) if fault.position.is_none() => fault.at(position),
            _ => fault,
        }
    }

    fn refuse<T>(&self, detail: impl Into<String>, node: &impl Spanned) -> Result<T, Fault> {
        Err(self.at(not_allowed(detail), node.span().start))
    }

    /// Goes one level down.
    fn down(&mut self) -> Result<(), Fault> {
        self.depth += 1;
        if self.depth > DEPTH { Err(too_deep()) } else { Ok(()) }
    }

    fn up(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }
}

fn not_allowed(detail: impl Into<String>) -> Fault {
    Fault::new(Code::NotAllowed, detail)
}

fn read_only(detail: impl Into<String>) -> Fault {
    Fault::new(Code::ReadOnly, detail).hint("statements can read only: SELECT, or WITH that ends in SELECT")
}

fn too_deep() -> Fault {
    not_allowed(format!("the statement is nested too deeply; at most {DEPTH} levels, operators in a row included"))
}

/// The parser's words are kept, they quote the caller only; its place becomes ours.
fn unreadable(text: &str, error: &ParserError) -> Fault {
    let words = match error {
        ParserError::RecursionLimitExceeded => return too_deep(),
        ParserError::TokenizerError(words) | ParserError::ParserError(words) => words,
    };
    let (said, place) = words.rsplit_once(" at Line: ").unwrap_or((words, ""));
    let mut numbers = place.split(", Column: ").map(|number| number.trim().parse().unwrap_or(0));
    let place = Location { line: numbers.next().unwrap_or(0), column: numbers.next().unwrap_or(0) };
    let fault = Fault::new(Code::ParseError, format!("the statement cannot be read: {}", said.to_lowercase()));
    match offset(text, place) {
        Some(position) => fault.at(position),
        None => fault,
    }
}

/// Characters from the beginning of the text to a place in it; lines and columns count from 1.
fn offset(text: &str, place: Location) -> Option<usize> {
    let (line, column) = (usize::try_from(place.line).ok()?, usize::try_from(place.column).ok()?);
    if line == 0 || column == 0 {
        return None;
    }
    let before: usize = text.split_inclusive('\n').take(line - 1).map(|line| line.chars().count()).sum();
    Some((before + column - 1).min(text.chars().count()))
}
