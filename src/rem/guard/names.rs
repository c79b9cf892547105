//! Names: which relations and columns there are at a place of a statement, and how they are printed.

use sqlparser::ast::{Ident, ObjectName, ObjectNamePart};

use super::super::{Code, Fault};
use super::{Printer, not_allowed};
use crate::store::rem::VIEWS;

/// Longest name, bytes: PostgreSQL cuts longer ones.
const LONGEST: usize = 63;

/// The relations of one FROM: what each is called here, and its columns.
pub(super) type Scope = Vec<(String, Vec<String>)>;

/// A name in the one quoted form that both databases read alike.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl Printer<'_> {
    /// A name as it counts: in small letters, unless it is quoted.
    pub(super) fn name(&self, ident: &Ident) -> Result<String, Fault> {
        let Ident { value, quote_style, span } = ident;
        let name = match quote_style {
            None => value.to_ascii_lowercase(),
            Some('"') => value.clone(),
            Some(_) => return Err(self.at(not_allowed("names are quoted with \" only"), span.start)),
        };
        if name.is_empty() || name.len() > LONGEST || name.chars().any(char::is_control) {
            return Err(self.at(not_allowed(format!("a name has 1 to {LONGEST} bytes")), span.start));
        }
        // SQLite tells names apart without regard to case, PostgreSQL with it.
        if name.chars().any(|letter| letter.is_ascii_uppercase()) {
            let fault = not_allowed(format!("the quoted name {} has capitals", quoted(&name)));
            return Err(self.at(fault.hint("write names in small letters"), span.start));
        }
        Ok(name)
    }

    /// The only part of a name that has one.
    pub(super) fn single(&self, name: &ObjectName) -> Result<String, Fault> {
        match name.0.as_slice() {
            [ObjectNamePart::Identifier(ident)] => self.name(ident),
            _ => self.refuse("names with a schema or a database before them may not be used", name),
        }
    }

    /// Columns of a relation that may be read: one that WITH has named, or a view.
    pub(super) fn relation(&self, name: &ObjectName) -> Result<(String, Vec<String>), Fault> {
        let wanted = self.single(name)?;
        if let Some((_, columns)) = self.ctes.iter().rev().find(|(cte, _)| *cte == wanted) {
            return Ok((wanted, columns.clone()));
        }
        if let Some((_, columns)) = VIEWS.iter().find(|(view, _)| *view == wanted) {
            return Ok((wanted, columns.iter().map(|&column| column.to_owned()).collect()));
        }
        let known: Vec<&str> =
            VIEWS.iter().map(|(view, _)| *view).chain(self.ctes.iter().map(|(cte, _)| cte.as_str())).collect();
        let fault = Fault::new(Code::UnknownTable, format!("there is no table `{wanted}`"));
        let fault = fault.hint(match closest(&wanted, &known) {
            Some(close) => format!("did you mean `{close}`? Tables are {}", known.join(", ")),
            None => format!("tables are {}", known.join(", ")),
        });
        Err(self.at(fault.of(wanted), sqlparser::ast::Spanned::span(name).start))
    }

    /// A column by its name alone, printed with its relation.
    pub(super) fn column(&self, ident: &Ident) -> Result<String, Fault> {
        let name = self.name(ident)?;
        for scope in self.scopes.iter().rev() {
            let found: Vec<&str> = scope
                .iter()
                .flat_map(|(relation, columns)| {
                    columns.iter().filter(|&column| *column == name).map(|_| relation.as_str())
                })
                .collect();
            match found.as_slice() {
                [] => {}
                [relation] => return Ok(format!("{}.{}", quoted(relation), quoted(&name))),
                _ => {
                    let fault = not_allowed(format!("the column `{name}` is in more than one table"));
                    return Err(self.at(fault.hint("write the table before it, as in `r.name`"), ident.span.start));
                }
            }
        }
        Err(self.no_column(&name, ident))
    }

    /// A column with its relation before it.
    pub(super) fn column_of(&self, relation: &Ident, ident: &Ident) -> Result<String, Fault> {
        let (wanted, name) = (self.name(relation)?, self.name(ident)?);
        let found = self.scopes.iter().rev().find_map(|scope| scope.iter().find(|(known, _)| *known == wanted));
        let Some((_, columns)) = found else {
            let fault = not_allowed(format!("`{wanted}` is no table of this FROM")).of(wanted);
            return Err(self.at(fault, relation.span.start));
        };
        match columns.iter().filter(|&column| *column == name).count() {
            1 => Ok(format!("{}.{}", quoted(&wanted), quoted(&name))),
            0 => Err(self.no_column(&name, ident)),
            _ => {
                let fault = not_allowed(format!("`{wanted}` has more than one column `{name}`"));
                Err(self.at(fault, ident.span.start))
            }
        }
    }

    fn no_column(&self, name: &str, ident: &Ident) -> Fault {
        let known: Vec<&str> =
            self.scopes.iter().rev().flatten().flat_map(|(_, columns)| columns).map(String::as_str).collect();
        let fault = not_allowed(format!("there is no column `{name}` here")).of(name);
        let fault = match closest(name, &known) {
            Some(close) => fault.hint(format!("did you mean `{close}`?")),
            None if known.is_empty() => fault.hint("texts are written with ' around them"),
            None => fault.hint(format!("columns are {}; texts are written with ' around them", known.join(", "))),
        };
        self.at(fault, ident.span.start)
    }
}

fn closest<'n>(wanted: &str, known: &[&'n str]) -> Option<&'n str> {
    let scored = known.iter().map(|&name| (strsim::jaro_winkler(wanted, name), name));
    scored.filter(|(score, _)| *score > 0.8).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name)
}
