//! Functions: the few that mean the same on both databases, each with what it takes.

use sqlparser::ast::{
    DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments,
    GroupByExpr, LimitClause, ObjectNamePart, Query, SelectItem, SetExpr, Value, WindowSpec, WindowType,
};

use super::super::Fault;
use super::Printer;
use super::expr::{bare, joins};
use super::query::position;

/// How a function is called.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// One row at a time.
    Plain,
    /// Over the rows of a group, or of a window.
    Aggregate,
    /// With OVER only.
    Window,
}

/// Name, kind, least and most arguments. None makes a text much longer than those that it is given.
const LIST: [(&str, Kind, usize, usize); 21] = [
    ("count", Kind::Aggregate, 1, 1),
    ("sum", Kind::Aggregate, 1, 1),
    ("avg", Kind::Aggregate, 1, 1),
    ("min", Kind::Aggregate, 1, 1),
    ("max", Kind::Aggregate, 1, 1),
    ("lower", Kind::Plain, 1, 1),
    ("upper", Kind::Plain, 1, 1),
    ("length", Kind::Plain, 1, 1),
    ("coalesce", Kind::Plain, 2, 20),
    ("nullif", Kind::Plain, 2, 2),
    ("abs", Kind::Plain, 1, 1),
    ("round", Kind::Plain, 1, 2),
    ("substr", Kind::Plain, 2, 3),
    ("trim", Kind::Plain, 1, 2),
    ("ltrim", Kind::Plain, 1, 2),
    ("rtrim", Kind::Plain, 1, 2),
    ("row_number", Kind::Window, 0, 0),
    ("rank", Kind::Window, 0, 0),
    ("dense_rank", Kind::Window, 0, 0),
    ("lag", Kind::Window, 1, 3),
    ("lead", Kind::Window, 1, 3),
];

/// What may be called.
pub(in crate::rem) fn callable() -> impl Iterator<Item = &'static str> {
    LIST.iter().map(|(name, ..)| *name)
}

impl Printer<'_> {
    pub(super) fn function(&mut self, function: &Function, whole: &Expr) -> Result<String, Fault> {
        let Function { name, uses_odbc_syntax, parameters, args, within_group, filter, null_treatment, over } =
            function;
        let name = self.single(name)?;
        let Some((_, kind, least, most)) = LIST.iter().find(|(known, ..)| *known == name).copied() else {
            let fault = super::not_allowed(format!("the function `{name}` may not be used here"));
            let fault = fault.hint(format!("functions are {}", callable().collect::<Vec<_>>().join(", "))).of(name);
            return Err(self.at(fault, sqlparser::ast::Spanned::span(whole).start));
        };
        let strange = *uses_odbc_syntax
            || *parameters != FunctionArguments::None
            || !within_group.is_empty()
            || null_treatment.is_some();
        let FunctionArguments::List(FunctionArgumentList { duplicate_treatment, args, clauses }) = args else {
            return self.refuse(format!("`{name}` is called with ( and )"), whole);
        };
        if strange
            || !clauses.is_empty()
            || (filter.is_some() || duplicate_treatment.is_some()) && kind != Kind::Aggregate
        {
            return self.refuse(format!("this form of `{name}` may not be used here"), whole);
        }
        if args.len() < least || args.len() > most {
            return self.refuse(format!("`{name}` takes {least} to {most} arguments, not {}", args.len()), whole);
        }
        let distinct = match duplicate_treatment {
            Some(DuplicateTreatment::Distinct) if over.is_some() => {
                return self.refuse("DISTINCT may not be used with OVER", whole);
            }
            Some(DuplicateTreatment::Distinct) => "DISTINCT ",
            None | Some(DuplicateTreatment::All) => "",
        };
        let mut values = Vec::new();
        for arg in args {
            match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => values.push(value),
                FunctionArg::Unnamed(FunctionArgExpr::Wildcard) if name == "count" && distinct.is_empty() => {}
                _ => return self.refuse(format!("this argument of `{name}` may not be used here"), whole),
            }
        }
        let mut text = match (name.as_str(), values.as_slice()) {
            ("count", []) => "count(*)".to_owned(),
            ("avg", [value]) => format!("avg({distinct}{})", self.float(value)?),
            ("round", [value]) => return self.round(value, "0"),
            ("round", [value, digits]) => match position(digits).filter(|digits| digits.len() == 1) {
                Some(digits) => return self.round(value, digits),
                None => return self.refuse("the second argument of `round` is a number of 0 to 9", whole),
            },
            ("substr", [value, from]) => return self.substr(value, from, None, whole),
            ("substr", [value, from, length]) => return self.substr(value, from, Some(length), whole),
            ("lag" | "lead", [_, steps, ..]) if position(steps).is_none() => {
                return self.refuse(format!("the second argument of `{name}` is a number"), whole);
            }
            _ => {
                let printed = values.iter().map(|value| self.value(value)).collect::<Result<Vec<_>, _>>()?;
                format!("{name}({distinct}{})", printed.join(", "))
            }
        };
        if let Some(filter) = filter {
            text = format!("{text} FILTER (WHERE {})", self.condition(filter)?);
        }
        match (over, kind) {
            (None, Kind::Window) => self.refuse(format!("`{name}` needs OVER (…)"), whole),
            (Some(_), Kind::Plain) => self.refuse(format!("`{name}` takes no OVER"), whole),
            (None, _) => Ok(text),
            (Some(WindowType::WindowSpec(window)), _) => Ok(format!("{text} OVER ({})", self.window(window, whole)?)),
            (Some(WindowType::NamedWindow(_)), _) => self.refuse("write OVER (…) with what the window is", whole),
        }
    }

    fn window(&mut self, window: &WindowSpec, whole: &Expr) -> Result<String, Fault> {
        let WindowSpec { window_name, partition_by, order_by, window_frame } = window;
        if window_name.is_some() || window_frame.is_some() {
            return self.refuse("OVER takes PARTITION BY and ORDER BY only", whole);
        }
        let mut parts = Vec::new();
        if !partition_by.is_empty() {
            let printed = partition_by.iter().map(|value| self.value(value)).collect::<Result<Vec<_>, _>>()?;
            parts.push(format!("PARTITION BY {}", printed.join(", ")));
        }
        if !order_by.is_empty() {
            let mut printed = Vec::new();
            for term in order_by {
                printed.push(format!("{} {}", self.value(&term.expr)?, self.direction(term)?));
            }
            parts.push(format!("ORDER BY {}", printed.join(", ")));
        }
        Ok(parts.join(" "))
    }

    /// The average of whole numbers is of another type in one of the databases.
    fn float(&mut self, value: &Expr) -> Result<String, Fault> {
        let printed = self.value(value)?;
        let already = printed.starts_with("CAST(") && printed.ends_with(" AS DOUBLE PRECISION)");
        let cast = matches!(bare(value), Expr::Cast { .. } | Expr::Value(_) | Expr::Function(_));
        Ok(if already && cast { printed } else { format!("CAST({printed} AS DOUBLE PRECISION)") })
    }

    /// Half away from zero, in decimal digits, as a float.
    fn round(&mut self, value: &Expr, digits: &str) -> Result<String, Fault> {
        let inner = match bare(value) {
            Expr::Cast { expr, data_type, .. } if data_type.to_string().eq_ignore_ascii_case("numeric") => expr,
            _ => value,
        };
        Ok(format!("CAST(round(CAST({} AS NUMERIC), {digits}) AS DOUBLE PRECISION)", self.value(inner)?))
    }

    /// Places before the first are different things in the two databases.
    pub(super) fn substr(
        &mut self,
        value: &Expr,
        from: &Expr,
        length: Option<&Expr>,
        whole: &Expr,
    ) -> Result<String, Fault> {
        let number = |expr: &Expr| position(expr).and_then(|digits| digits.parse::<u16>().ok());
        let (Some(from @ 1..), Some(length)) = (number(from), length.map_or(Some(None), |expr| number(expr).map(Some)))
        else {
            return self.refuse("`substr` takes a text, a number from 1 on and a length, both up to 65535", whole);
        };
        // Joined texts are cut by this one already.
        let value = if from == 1 && length.is_some() && joins(value) {
            self.joined_texts(bare(value))?
        } else {
            self.value(value)?
        };
        Ok(match length {
            Some(length) => format!("substr({value}, {from}, {length})"),
            None => format!("substr({value}, {from})"),
        })
    }
}

/// The arguments, if this is a plain call of that function.
pub(super) fn arguments<'f>(function: &'f Function, name: &str) -> Option<Vec<&'f Expr>> {
    let [ObjectNamePart::Identifier(ident)] = function.name.0.as_slice() else { return None };
    let FunctionArguments::List(list) = &function.args else { return None };
    if !ident.value.eq_ignore_ascii_case(name) || function.over.is_some() || function.filter.is_some() {
        return None;
    }
    let values = list.args.iter().map(|arg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => Some(value),
        _ => None,
    });
    values.collect()
}

/// What is guarded, if this is `nullif(…, 0)`.
pub(super) fn nullif_zero(expr: &Expr) -> Option<&Expr> {
    let Expr::Function(function) = bare(expr) else { return None };
    let [value, zero] = arguments(function, "nullif")?.try_into().ok()?;
    match bare(zero) {
        Expr::Value(zero) if matches!(&zero.value, Value::Number(digits, _) if digits == "0") => Some(value),
        _ => None,
    }
}

/// Whether a query cannot give more than one row: where it could, one database takes the first and the other refuses.
pub(super) fn gives_one_row(query: &Query) -> bool {
    if let Some(LimitClause::LimitOffset { limit: Some(limit), .. }) = &query.limit_clause {
        return position(limit).is_some_and(|limit| limit == "0" || limit == "1");
    }
    let SetExpr::Select(select) = &*query.body else { return false };
    if select.from.is_empty() {
        return true;
    }
    let ungrouped = matches!(&select.group_by, GroupByExpr::Expressions(exprs, _) if exprs.is_empty());
    let aggregate = |expr: &Expr| matches!(bare(expr), Expr::Function(function) if of_group(function));
    let mut outputs = select.projection.iter();
    ungrouped
        && outputs.any(|item| match item {
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => aggregate(expr),
            _ => false,
        })
}

fn of_group(function: &Function) -> bool {
    let [ObjectNamePart::Identifier(ident)] = function.name.0.as_slice() else { return false };
    let name = ident.value.to_ascii_lowercase();
    function.over.is_none() && LIST.iter().any(|(known, kind, ..)| *known == name && *kind == Kind::Aggregate)
}
