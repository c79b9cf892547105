//! Expressions: values, and conditions, which are kept apart because one database has a type for truth and the other has not.
//!
//! The matches name every kind of node, so that a new kind in the parser is a question at build time, not a hole.

use sqlparser::ast::{BinaryOperator, CaseWhen, CastKind, Expr, InTarget, UnaryOperator, Value};

use super::super::Fault;
use super::query::{position, unlisted};
use super::{Printer, not_allowed};

const NO_CONDITION: &str =
    "a condition is needed here: a comparison, LIKE, IN, BETWEEN, IS NULL, EXISTS, or several with AND, OR, NOT";

/// Characters of a text that `||` has made; the rest is cut off.
const JOINED: u16 = u16::MAX;

/// How often `||` may be there, over all of the statement.
const JOINS: usize = 30;

/// A type that may be cast to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum To {
    Text,
    Whole,
    Float,
    /// Only inside of what is printed for `round`.
    Numeric,
}

impl Printer<'_> {
    /// A value: anything but a condition.
    pub(super) fn value(&mut self, expr: &Expr) -> Result<String, Fault> {
        self.down()?;
        let printed = self.value_here(expr);
        self.up();
        printed
    }

    fn value_here(&mut self, expr: &Expr) -> Result<String, Fault> {
        match expr {
            Expr::Nested(inner) => self.value(inner),
            Expr::Identifier(ident) => self.column(ident),
            Expr::CompoundIdentifier(parts) => match parts.as_slice() {
                [relation, column] => self.column_of(relation, column),
                _ => self.refuse("names with a schema or a database before them may not be used", expr),
            },
            Expr::Value(value) => self.literal(&value.value, expr),
            Expr::BinaryOp { op: BinaryOperator::StringConcat, .. } => {
                Ok(format!("substr({}, 1, {JOINED})", self.joined_texts(expr)?))
            }
            Expr::BinaryOp { left, op, right } => self.arithmetic(left, op, right, expr),
            Expr::UnaryOp { op: UnaryOperator::Minus, expr } => Ok(format!("-{}", self.operand(expr)?)),
            Expr::UnaryOp { op: UnaryOperator::Plus, expr } => self.value(expr),
            Expr::Cast { kind: CastKind::Cast | CastKind::DoubleColon, expr: inner, data_type, format: None } => {
                let to = match data_type.to_string().to_ascii_uppercase().as_str() {
                    "TEXT" | "VARCHAR" => To::Text,
                    "INT" | "INTEGER" | "BIGINT" | "INT8" | "INT4" => To::Whole,
                    "REAL" | "FLOAT" | "DOUBLE PRECISION" | "FLOAT8" | "FLOAT4" | "DOUBLE" => To::Float,
                    "NUMERIC" => To::Numeric,
                    _ => {
                        let what = format!("CAST to {data_type}");
                        return self
                            .refuse(format!("{what} may not be used here; types are text, integer, real"), expr);
                    }
                };
                self.cast(inner, to, expr)
            }
            Expr::Function(function) => self.function(function, expr),
            Expr::Substring { expr: text, substring_from: Some(from), substring_for, special: _, shorthand: _ } => {
                self.substr(text, from, substring_for.as_deref(), expr)
            }
            Expr::Trim { trim_where: None, trim_what: None, expr, trim_characters: None } => {
                Ok(format!("trim({})", self.value(expr)?))
            }
            Expr::Case { case_token: _, end_token: _, operand, conditions, else_result } => {
                let mut text = "CASE".to_owned();
                if let Some(operand) = operand {
                    text = format!("{text} {}", self.operand(operand)?);
                }
                for CaseWhen { condition, result } in conditions {
                    let when = if operand.is_some() { self.value(condition)? } else { self.condition(condition)? };
                    text = format!("{text} WHEN {when} THEN {}", self.value(result)?);
                }
                if let Some(other) = else_result {
                    text = format!("{text} ELSE {}", self.value(other)?);
                }
                Ok(format!("{text} END"))
            }
            Expr::Subquery(query) => {
                let (text, columns) = self.query(query)?;
                if columns.len() != 1 {
                    return self.refuse("a SELECT that is a value has one column", expr);
                }
                if !super::functions::gives_one_row(query) {
                    let fault = not_allowed("a SELECT that is a value must give one row").hint("add LIMIT 1");
                    return Err(self.at(fault, sqlparser::ast::Spanned::span(expr).start));
                }
                Ok(format!("({text})"))
            }
            Expr::IsFalse(_)
            | Expr::IsNotFalse(_)
            | Expr::IsTrue(_)
            | Expr::IsNotTrue(_)
            | Expr::IsNull(_)
            | Expr::IsNotNull(_)
            | Expr::IsUnknown(_)
            | Expr::IsNotUnknown(_)
            | Expr::IsDistinctFrom(..)
            | Expr::IsNotDistinctFrom(..)
            | Expr::In { .. }
            | Expr::Between { .. }
            | Expr::Like { .. }
            | Expr::Exists { .. }
            | Expr::UnaryOp { op: UnaryOperator::Not, .. } => self.no_value(expr),
            Expr::UnaryOp { .. } => self.refuse("this operator may not be used here", expr),
            other => self.unlisted_kind(other),
        }
    }

    fn no_value<T>(&self, expr: &Expr) -> Result<T, Fault> {
        let fault = not_allowed("a condition is no value here").hint("write CASE WHEN … THEN 1 ELSE 0 END");
        Err(self.at(fault, sqlparser::ast::Spanned::span(expr).start))
    }

    /// Kinds of nodes that are never printed.
    fn unlisted_kind<T>(&self, expr: &Expr) -> Result<T, Fault> {
        let what = match expr {
            Expr::ILike { .. } => "ILIKE (write lower(x) LIKE '…')",
            Expr::SimilarTo { .. } | Expr::RLike { .. } => "matching by a pattern other than LIKE",
            Expr::CompoundFieldAccess { .. } | Expr::JsonAccess { .. } => "reading into a value",
            Expr::AnyOp { .. } | Expr::AllOp { .. } => "ANY and ALL (write IN or EXISTS)",
            Expr::Cast { .. } | Expr::Convert { .. } => "this form of CAST",
            Expr::Substring { .. } | Expr::Trim { .. } | Expr::Position { .. } | Expr::Overlay { .. } => {
                "this form of a function on texts"
            }
            Expr::AtTimeZone { .. } | Expr::Extract { .. } | Expr::Interval(_) | Expr::TypedString(_) => {
                "a type for times (times are texts: compare them, or take parts with substr)"
            }
            Expr::Ceil { .. } | Expr::Floor { .. } => "ceil and floor (write round)",
            Expr::Collate { .. } => "COLLATE",
            Expr::Prefixed { .. } => "a literal of this kind",
            Expr::GroupingSets(_) | Expr::Cube(_) | Expr::Rollup(_) => "GROUPING SETS, CUBE and ROLLUP",
            Expr::Tuple(_) | Expr::Struct { .. } | Expr::Named { .. } => "a row of values",
            Expr::Dictionary(_) | Expr::Map(_) | Expr::Array(_) | Expr::Lambda(_) => "a list or map",
            Expr::Wildcard(_) | Expr::QualifiedWildcard(..) => "`*` as a value",
            Expr::MatchAgainst { .. } | Expr::OuterJoin(_) | Expr::Prior(_) | Expr::MemberOf(_) => "this operator",
            Expr::IsNormalized { .. } | Expr::IsJson { .. } => "this test",
            Expr::Identifier(_)
            | Expr::CompoundIdentifier(_)
            | Expr::IsFalse(_)
            | Expr::IsNotFalse(_)
            | Expr::IsTrue(_)
            | Expr::IsNotTrue(_)
            | Expr::IsNull(_)
            | Expr::IsNotNull(_)
            | Expr::IsUnknown(_)
            | Expr::IsNotUnknown(_)
            | Expr::IsDistinctFrom(..)
            | Expr::IsNotDistinctFrom(..)
            | Expr::In { .. }
            | Expr::Between { .. }
            | Expr::BinaryOp { .. }
            | Expr::Like { .. }
            | Expr::UnaryOp { .. }
            | Expr::Nested(_)
            | Expr::Value(_)
            | Expr::Function(_)
            | Expr::Case { .. }
            | Expr::Exists { .. }
            | Expr::Subquery(_) => "this form of an expression",
        };
        self.refuse(unlisted(what).detail, expr)
    }

    /// Texts joined by `||`, all that stand in a row. What is printed must stand in a `substr` from 1 on: else a text that is made of
    /// a text that was made so, and so on, doubles with every sign.
    pub(super) fn joined_texts(&mut self, expr: &Expr) -> Result<String, Fault> {
        let mut parts = Vec::new();
        let mut rest = expr;
        while let Expr::BinaryOp { left, op: BinaryOperator::StringConcat, right } = bare(rest) {
            self.joins += 1;
            if self.joins > JOINS {
                return self.refuse(format!("`||` is there more than {JOINS} times"), expr);
            }
            parts.push(right);
            rest = left;
        }
        let mut text = self.operand(rest)?;
        for part in parts.into_iter().rev() {
            text = format!("{text} || {}", self.operand(part)?);
        }
        Ok(text)
    }

    /// A value beside an operator: in parentheses if it has an operator itself, whatever their ranks are.
    fn operand(&mut self, expr: &Expr) -> Result<String, Fault> {
        let compound = matches!(bare(expr), Expr::BinaryOp { .. } | Expr::UnaryOp { .. }) && !joins(expr);
        let text = self.value(expr)?;
        Ok(if compound { format!("({text})") } else { text })
    }

    fn arithmetic(&mut self, left: &Expr, op: &BinaryOperator, right: &Expr, whole: &Expr) -> Result<String, Fault> {
        let sign = match op {
            BinaryOperator::Plus => "+",
            BinaryOperator::Minus => "-",
            BinaryOperator::Multiply => "*",
            BinaryOperator::Divide => "/",
            BinaryOperator::Modulo => "%",
            BinaryOperator::And | BinaryOperator::Or => return self.no_value(whole),
            op if comparison(op).is_some() => return self.no_value(whole),
            _ => return self.refuse(format!("the operator {op} may not be used here"), whole),
        };
        let left = self.operand(left)?;
        // By zero gives NULL in one database and an error in the other: here it gives NULL.
        let right = match (sign, super::functions::nullif_zero(right)) {
            ("/" | "%", Some(inner)) => format!("nullif({}, 0)", self.value(inner)?),
            ("/" | "%", None) => format!("nullif({}, 0)", self.value(right)?),
            _ => self.operand(right)?,
        };
        Ok(format!("{left} {sign} {right}"))
    }

    fn cast(&mut self, inner: &Expr, to: To, whole: &Expr) -> Result<String, Fault> {
        match to {
            To::Text => Ok(format!("CAST({} AS TEXT)", self.value(inner)?)),
            // One database rounds and the other cuts: here it is rounded, half away from zero.
            To::Whole => {
                let (inner, digits) = rounded(inner).filter(|(_, digits)| *digits == "0").unwrap_or((inner, "0"));
                Ok(format!("CAST(round(CAST({} AS NUMERIC), {digits}) AS BIGINT)", self.value(inner)?))
            }
            To::Float => match (rounded(inner), bare(inner)) {
                (Some((inner, digits)), _) => {
                    Ok(format!("CAST(round(CAST({} AS NUMERIC), {digits}) AS DOUBLE PRECISION)", self.value(inner)?))
                }
                (None, Expr::Value(value)) if matches!(value.value, Value::Number(..)) => {
                    let literal = self.literal(&value.value, inner)?;
                    Ok(if literal.starts_with("CAST(") {
                        literal
                    } else {
                        format!("CAST({literal} AS DOUBLE PRECISION)")
                    })
                }
                _ => Ok(format!("CAST({} AS DOUBLE PRECISION)", self.value(inner)?)),
            },
            To::Numeric => self.refuse("CAST to NUMERIC may not be used here; types are text, integer, real", whole),
        }
    }

    fn literal(&self, value: &Value, expr: &Expr) -> Result<String, Fault> {
        match value {
            Value::Null => Ok("NULL".to_owned()),
            Value::SingleQuotedString(text) => Ok(format!("'{}'", text.replace('\'', "''"))),
            Value::Number(text, false) if text.bytes().all(|digit| digit.is_ascii_digit()) => match text.parse::<i64>()
            {
                Ok(number) => Ok(number.to_string()),
                Err(_) => self.refuse("whole numbers go up to 9223372036854775807", expr),
            },
            // As one type, which both databases have.
            Value::Number(text, false) => match text.parse::<f64>() {
                Ok(number) if number.is_finite() && text.bytes().all(|sign| b"0123456789.eE+-".contains(&sign)) => {
                    Ok(format!("CAST({number:?} AS DOUBLE PRECISION)"))
                }
                _ => self.refuse("this number cannot be read", expr),
            },
            Value::Boolean(_) => self.no_value(expr),
            _ => self.refuse("a literal of this kind may not be used here; texts are written as '…'", expr),
        }
    }

    /// A condition: what is true, false or unknown.
    pub(super) fn condition(&mut self, expr: &Expr) -> Result<String, Fault> {
        self.down()?;
        let printed = self.condition_here(expr);
        self.up();
        printed
    }

    fn condition_here(&mut self, expr: &Expr) -> Result<String, Fault> {
        let not = |negated: &bool| if *negated { "NOT " } else { "" };
        match expr {
            Expr::Nested(inner) => self.condition(inner),
            Expr::BinaryOp { left, op: op @ (BinaryOperator::And | BinaryOperator::Or), right } => {
                let first = self.condition(left)?;
                // What stands left of the same word needs no parentheses.
                let same = matches!(bare(left), Expr::BinaryOp { op: inner, .. } if inner == op);
                let first = if joined(left) && !same { format!("({first})") } else { first };
                let second = self.condition(right)?;
                let second = if joined(right) { format!("({second})") } else { second };
                Ok(format!("{first} {op} {second}"))
            }
            Expr::BinaryOp { left, op, right } => match comparison(op) {
                Some(sign) => Ok(format!("{} {sign} {}", self.operand(left)?, self.operand(right)?)),
                None => {
                    // The operator may be one that may not be used at all.
                    self.value(expr)?;
                    self.refuse(NO_CONDITION, expr)
                }
            },
            Expr::UnaryOp { op: UnaryOperator::Not, expr } => Ok(format!("NOT ({})", self.condition(expr)?)),
            Expr::IsNull(value) => Ok(format!("{} IS NULL", self.operand(value)?)),
            Expr::IsNotNull(value) => Ok(format!("{} IS NOT NULL", self.operand(value)?)),
            Expr::IsTrue(inner) => Ok(format!("({}) IS TRUE", self.condition(inner)?)),
            Expr::IsNotTrue(inner) => Ok(format!("({}) IS NOT TRUE", self.condition(inner)?)),
            Expr::IsFalse(inner) => Ok(format!("({}) IS FALSE", self.condition(inner)?)),
            Expr::IsNotFalse(inner) => Ok(format!("({}) IS NOT FALSE", self.condition(inner)?)),
            Expr::IsDistinctFrom(left, right) => {
                Ok(format!("{} IS DISTINCT FROM {}", self.operand(left)?, self.operand(right)?))
            }
            Expr::IsNotDistinctFrom(left, right) => {
                Ok(format!("{} IS NOT DISTINCT FROM {}", self.operand(left)?, self.operand(right)?))
            }
            Expr::Between { expr, negated, low, high } => {
                let (value, low, high) = (self.operand(expr)?, self.operand(low)?, self.operand(high)?);
                Ok(format!("{value} {}BETWEEN {low} AND {high}", not(negated)))
            }
            // One database has an escape by itself and the other has none.
            Expr::Like { negated, any: false, expr: value, pattern, escape_char } => {
                let escape = match escape_char.as_deref().map(bare) {
                    None => "'\\'".to_owned(),
                    Some(Expr::Value(value)) => match &value.value {
                        Value::SingleQuotedString(text) if text.chars().count() == 1 => {
                            self.literal(&value.value, expr)?
                        }
                        _ => return self.refuse("ESCAPE takes a text of one character", expr),
                    },
                    Some(_) => return self.refuse("ESCAPE takes a text of one character", expr),
                };
                let (value, pattern) = (self.operand(value)?, self.operand(pattern)?);
                Ok(format!("{value} {}LIKE {pattern} ESCAPE {escape}", not(negated)))
            }
            Expr::In { expr: value, target, negated, global: false } => {
                let value = self.operand(value)?;
                let list = match target {
                    InTarget::List(list) if !list.is_empty() => {
                        list.iter().map(|item| self.value(item)).collect::<Result<Vec<_>, _>>()?.join(", ")
                    }
                    InTarget::Subquery(query) => {
                        let (text, columns) = self.query(query)?;
                        if columns.len() != 1 {
                            return self.refuse("a SELECT after IN has one column", expr);
                        }
                        text
                    }
                    InTarget::List(_) => return self.refuse("the list after IN is empty", expr),
                    InTarget::Unnest(_) | InTarget::Table { .. } => {
                        return self.refuse("IN takes a list or a SELECT in parentheses", expr);
                    }
                };
                Ok(format!("{value} {}IN ({list})", not(negated)))
            }
            Expr::Exists { subquery, negated } => Ok(format!("{}EXISTS ({})", not(negated), self.query(subquery)?.0)),
            Expr::Value(value) => match value.value {
                Value::Boolean(true) => Ok("TRUE".to_owned()),
                Value::Boolean(false) => Ok("FALSE".to_owned()),
                _ => self.refuse(NO_CONDITION, expr),
            },
            other => {
                // What may not be used at all is said first.
                self.value(other)?;
                self.refuse(NO_CONDITION, other)
            }
        }
    }
}

/// The expression without parentheses around it.
pub(super) fn bare(mut expr: &Expr) -> &Expr {
    while let Expr::Nested(inner) = expr {
        expr = inner;
    }
    expr
}

/// Whether texts are joined here.
pub(super) fn joins(expr: &Expr) -> bool {
    matches!(bare(expr), Expr::BinaryOp { op: BinaryOperator::StringConcat, .. })
}

fn joined(expr: &Expr) -> bool {
    matches!(bare(expr), Expr::BinaryOp { op: BinaryOperator::And | BinaryOperator::Or, .. })
}

fn comparison(op: &BinaryOperator) -> Option<&'static str> {
    match op {
        BinaryOperator::Eq => Some("="),
        BinaryOperator::NotEq => Some("<>"),
        BinaryOperator::Lt => Some("<"),
        BinaryOperator::LtEq => Some("<="),
        BinaryOperator::Gt => Some(">"),
        BinaryOperator::GtEq => Some(">="),
        _ => None,
    }
}

/// What is rounded and to how many digits, if this is a `round` as it is printed here.
pub(super) fn rounded(expr: &Expr) -> Option<(&Expr, &str)> {
    let Expr::Function(function) = bare(expr) else { return None };
    let [value, digits] = super::functions::arguments(function, "round")?.try_into().ok()?;
    match bare(value) {
        Expr::Cast { expr: inner, data_type, .. } if data_type.to_string().eq_ignore_ascii_case("numeric") => {
            Some((inner, position(digits)?))
        }
        _ => None,
    }
}
