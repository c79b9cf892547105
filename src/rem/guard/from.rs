//! FROM: views, what WITH has named, SELECTs in parentheses, and how they are joined.

use sqlparser::ast::{Join, JoinConstraint, JoinOperator, TableAlias, TableFactor, TableWithJoins};

use super::super::Fault;
use super::names::{Scope, quoted};
use super::{Printer, RELATIONS};

impl Printer<'_> {
    /// Printed, with what may be named after it.
    pub(super) fn from(&mut self, from: &[TableWithJoins]) -> Result<(String, Scope), Fault> {
        let mut scope = Scope::new();
        let mut parts = Vec::new();
        for TableWithJoins { relation, joins } in from {
            if from.len() > 1 && !joins.is_empty() {
                return self.refuse("`,` and JOIN may not be mixed; write CROSS JOIN", relation);
            }
            let mut text = self.factor(relation, &mut scope)?;
            for join in joins {
                text.push_str(&self.join(join, &mut scope)?);
            }
            parts.push(text);
        }
        let text = if parts.is_empty() { String::new() } else { format!(" FROM {}", parts.join(" CROSS JOIN ")) };
        Ok((text, scope))
    }

    fn join(&mut self, join: &Join, scope: &mut Scope) -> Result<String, Fault> {
        let Join { relation, global, join_operator } = join;
        if *global {
            return self.refuse("this form of JOIN may not be used here", join);
        }
        let (word, constraint) = match join_operator {
            JoinOperator::Join(on) | JoinOperator::Inner(on) => ("JOIN", on),
            JoinOperator::Left(on) | JoinOperator::LeftOuter(on) => ("LEFT JOIN", on),
            JoinOperator::Right(on) | JoinOperator::RightOuter(on) => ("RIGHT JOIN", on),
            JoinOperator::FullOuter(on) => ("FULL JOIN", on),
            JoinOperator::CrossJoin(on @ JoinConstraint::None) => ("CROSS JOIN", on),
            _ => return self.refuse("this form of JOIN may not be used here", join),
        };
        let text = self.factor(relation, scope)?;
        match constraint {
            JoinConstraint::None if word == "CROSS JOIN" => Ok(format!(" CROSS JOIN {text}")),
            JoinConstraint::On(condition) if word != "CROSS JOIN" => {
                // ON may name the relations so far.
                self.scopes.push(scope.clone());
                let condition = self.condition(condition)?;
                self.scopes.pop();
                Ok(format!(" {word} {text} ON {condition}"))
            }
            _ => self.refuse("JOIN needs ON and a condition; USING and NATURAL may not be used here", join),
        }
    }

    fn factor(&mut self, factor: &TableFactor, scope: &mut Scope) -> Result<String, Fault> {
        self.relations += 1;
        if self.relations > RELATIONS {
            return self.refuse(format!("there are more than {RELATIONS} tables in FROM"), factor);
        }
        let (text, called, columns) = match factor {
            TableFactor::Table {
                name,
                alias,
                args: None,
                with_hints,
                version: None,
                with_ordinality: false,
                partitions,
                json_path: None,
                sample: None,
                index_directives,
                inheritance: None,
            } if with_hints.is_empty() && partitions.is_empty() && index_directives.is_empty() => {
                let (relation, columns) = self.relation(name)?;
                let called = match alias {
                    Some(alias) => self.alias(alias, factor)?,
                    None => relation.clone(),
                };
                (format!("{} AS {}", quoted(&relation), quoted(&called)), called, columns)
            }
            TableFactor::Derived { lateral: false, subquery, alias: Some(alias), sample: None } => {
                let called = self.alias(alias, factor)?;
                // Without LATERAL it does not see what stands beside it, nor what is around.
                let scopes = std::mem::take(&mut self.scopes);
                let inner = self.query(subquery)?;
                self.scopes = scopes;
                (format!("({}) AS {}", inner.0, quoted(&called)), called, inner.1)
            }
            TableFactor::Derived { lateral: false, alias: None, .. } => {
                return self.refuse("a SELECT in FROM needs a name: (SELECT …) AS x", factor);
            }
            TableFactor::Table { args: Some(_), .. } | TableFactor::Function { .. } | TableFactor::UNNEST { .. } => {
                return self.refuse("functions that give rows may not be used here", factor);
            }
            _ => return self.refuse("this may not stand in FROM", factor),
        };
        if scope.iter().any(|(known, _)| *known == called) {
            return self.refuse(format!("FROM names `{called}` twice; give one of them another name with AS"), factor);
        }
        scope.push((called, columns));
        Ok(text)
    }

    fn alias(&self, alias: &TableAlias, factor: &TableFactor) -> Result<String, Fault> {
        let TableAlias { explicit: _, name, columns, at } = alias;
        if !columns.is_empty() || at.is_some() {
            return self.refuse("names of columns may follow a name in WITH only", factor);
        }
        self.name(name)
    }
}
