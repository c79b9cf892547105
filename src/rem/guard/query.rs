//! Queries: WITH, SELECT, UNION and the like, ORDER BY, LIMIT. FROM is in `from.rs`.

use sqlparser::ast::{
    Cte, Distinct, Expr, GroupByExpr, LimitClause, Offset, OrderBy, OrderByExpr, OrderByKind, OrderByOptions,
    OrderBySort, Query, Select, SelectFlavor, SelectItem, SelectItemQualifiedWildcardKind, SetExpr, SetOperator,
    SetQuantifier, TableAlias, Value, WildcardAdditionalOptions, With,
};

use super::super::{Code, Fault};
use super::names::quoted;
use super::{COLUMNS, Printer, SELECTS, not_allowed, read_only};

/// A printed query and the names of its columns.
type Printed = (String, Vec<String>);

impl Printer<'_> {
    /// A whole query. Names of its WITH end with it.
    pub(super) fn query(&mut self, query: &Query) -> Result<Printed, Fault> {
        let Query {
            with,
            body,
            order_by,
            limit_clause,
            fetch,
            locks,
            for_clause,
            settings,
            format_clause,
            pipe_operators,
        } = query;
        if !locks.is_empty() {
            return self.refuse("FOR UPDATE and other locks may not be used here", query);
        }
        if fetch.is_some() {
            return self.refuse("FETCH may not be used here; write LIMIT", query);
        }
        if for_clause.is_some() || settings.is_some() || format_clause.is_some() || !pipe_operators.is_empty() {
            return self.refuse("what follows the SELECT may not be used here", query);
        }
        self.down()?;
        let known = self.ctes.len();
        let mut text = match with {
            Some(with) => self.with(with)?,
            None => String::new(),
        };
        let columns = match &**body {
            SetExpr::Select(select) => {
                let (printed, columns) = self.select(select, order_by.as_ref())?;
                text.push_str(&printed);
                columns
            }
            compound => {
                let (printed, columns) = self.compound(compound)?;
                text.push_str(&printed);
                if let Some(order_by) = order_by {
                    text.push_str(&self.order_by(order_by, &columns, false)?);
                }
                columns
            }
        };
        if let Some(clause) = limit_clause {
            text.push_str(&self.limit(clause, query)?);
        }
        self.ctes.truncate(known);
        self.up();
        Ok((text, columns))
    }

    fn with(&mut self, with: &With) -> Result<String, Fault> {
        let With { with_token: _, recursive, cte_tables } = with;
        if *recursive {
            return self.refuse("WITH RECURSIVE may not be used here; TRAVERSE walks edges", with);
        }
        let mut printed = Vec::new();
        for cte in cte_tables {
            // MATERIALIZED does not change what is found; the database decides.
            let Cte { alias, query, from, materialized: _, closing_paren_token: _ } = cte;
            let TableAlias { explicit: _, name, columns, at } = alias;
            if from.is_some() || at.is_some() {
                return self.refuse("this form of WITH may not be used here", cte);
            }
            let called = self.name(name)?;
            if crate::store::rem::VIEWS.iter().any(|(view, _)| *view == called) {
                return self.refuse(format!("`{called}` is a table; give what WITH names another name"), cte);
            }
            if self.ctes.iter().any(|(known, _)| *known == called) {
                return self.refuse(format!("WITH names `{called}` twice"), cte);
            }
            // What it reads is not around it.
            let scopes = std::mem::take(&mut self.scopes);
            let inner = self.query(query)?;
            self.scopes = scopes;
            let (text, mut outputs) = inner;
            let mut list = String::new();
            if !columns.is_empty() {
                if columns.len() != outputs.len() || columns.iter().any(|column| column.data_type.is_some()) {
                    return self.refuse(format!("`{called}` has another number of columns than its SELECT"), cte);
                }
                outputs = columns.iter().map(|column| self.name(&column.name)).collect::<Result<_, _>>()?;
                let names: Vec<String> = outputs.iter().map(|name| quoted(name)).collect();
                list = format!(" ({})", names.join(", "));
            }
            printed.push(format!("{}{list} AS ({text})", quoted(&called)));
            self.ctes.push((called, outputs));
        }
        Ok(format!("WITH {} ", printed.join(", ")))
    }

    /// SELECTs joined by UNION and the like. The databases group them in different ways if kinds are mixed.
    fn compound(&mut self, body: &SetExpr) -> Result<Printed, Fault> {
        match body {
            SetExpr::Select(select) => self.select(select, None),
            SetExpr::SetOperation { left, op, set_quantifier, right } => {
                let word = match (op, set_quantifier) {
                    (SetOperator::Union, SetQuantifier::All) => "UNION ALL",
                    (SetOperator::Union, SetQuantifier::None | SetQuantifier::Distinct) => "UNION",
                    (SetOperator::Except, SetQuantifier::None | SetQuantifier::Distinct) => "EXCEPT",
                    (SetOperator::Intersect, SetQuantifier::None | SetQuantifier::Distinct) => "INTERSECT",
                    _ => return self.refuse("this way to join SELECTs may not be used here", body),
                };
                if let SetExpr::SetOperation { op: inner, .. } = &**left
                    && inner != op
                    && (*op == SetOperator::Intersect || *inner == SetOperator::Intersect)
                {
                    return self.refuse("INTERSECT may not be mixed with UNION or EXCEPT; use WITH", body);
                }
                if matches!(**right, SetExpr::SetOperation { .. }) {
                    return self.refuse("INTERSECT may not be mixed with UNION or EXCEPT; use WITH", body);
                }
                self.down()?;
                let (first, columns) = self.compound(left)?;
                let (second, others) = self.compound(right)?;
                self.up();
                if columns.len() != others.len() {
                    let counts = (columns.len(), others.len());
                    return self.refuse(format!("{word} joins {} columns and {}", counts.0, counts.1), body);
                }
                Ok((format!("{first} {word} {second}"), columns))
            }
            SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => {
                let place = sqlparser::ast::Spanned::span(body).start;
                Err(self.at(read_only("the statement would change something"), place))
            }
            SetExpr::Query(_) => self.refuse("a SELECT in parentheses may stand in FROM and in expressions only", body),
            SetExpr::Values(_) => self.refuse("VALUES may not be used here", body),
            SetExpr::Table(_) => self.refuse("TABLE may not be used here; write SELECT * FROM", body),
        }
    }

    fn select(&mut self, select: &Select, order_by: Option<&OrderBy>) -> Result<Printed, Fault> {
        let Select {
            select_token: _,
            optimizer_hints,
            distinct,
            select_modifiers,
            top,
            top_before_distinct: _,
            projection,
            exclude,
            into,
            from,
            lateral_views,
            prewhere,
            selection,
            connect_by,
            group_by,
            cluster_by,
            distribute_by,
            sort_by,
            having,
            named_window,
            qualify,
            window_before_qualify: _,
            value_table_mode,
            flavor,
        } = select;
        if into.is_some() {
            let place = sqlparser::ast::Spanned::span(select).start;
            return Err(self.at(read_only("SELECT INTO would make a table"), place));
        }
        let strange = !optimizer_hints.is_empty()
            || select_modifiers.as_ref().is_some_and(sqlparser::ast::SelectModifiers::is_any_set)
            || top.is_some()
            || exclude.is_some()
            || !lateral_views.is_empty()
            || prewhere.is_some()
            || !connect_by.is_empty()
            || !cluster_by.is_empty()
            || !distribute_by.is_empty()
            || !sort_by.is_empty()
            || qualify.is_some()
            || value_table_mode.is_some()
            || *flavor != SelectFlavor::Standard;
        if strange {
            return self.refuse("this form of SELECT may not be used here", select);
        }
        if !named_window.is_empty() {
            return self.refuse("WINDOW may not be used here; write what it says into OVER (…)", select);
        }
        self.selects += 1;
        if self.selects > SELECTS {
            return self.refuse(format!("there are more than {SELECTS} SELECTs"), select);
        }
        let word = match distinct {
            None | Some(Distinct::All) => "SELECT",
            Some(Distinct::Distinct) => "SELECT DISTINCT",
            Some(Distinct::On(_)) => return self.refuse("DISTINCT ON may not be used here", select),
        };
        let (from, scope) = self.from(from)?;
        self.scopes.push(scope);
        let outputs = self.projection(projection, select)?;
        let columns: Vec<String> = outputs.iter().map(|(name, _)| name.clone()).collect();
        let items: Vec<String> =
            outputs.iter().map(|(name, printed)| format!("{printed} AS {}", quoted(name))).collect();
        let mut text = format!("{word} {}{from}", items.join(", "));
        if let Some(condition) = selection {
            text = format!("{text} WHERE {}", self.condition(condition)?);
        }
        text.push_str(&self.group_by(group_by, &columns, select)?);
        if let Some(condition) = having {
            text = format!("{text} HAVING {}", self.condition(condition)?);
        }
        if let Some(order_by) = order_by {
            text.push_str(&self.order_by(order_by, &columns, true)?);
        }
        self.scopes.pop();
        Ok((text, columns))
    }

    /// Outputs, `*` written out: each with its name and what is printed. Each gets a name, because the databases
    /// would give different ones.
    fn projection(&mut self, items: &[SelectItem], select: &Select) -> Result<Vec<(String, String)>, Fault> {
        let mut outputs = Vec::new();
        for item in items {
            match item {
                SelectItem::UnnamedExpr(expr) => {
                    let printed = self.value(expr)?;
                    outputs.push((self.name_of(expr, outputs.len())?, printed));
                }
                SelectItem::ExprWithAlias { expr, alias } => outputs.push((self.name(alias)?, self.value(expr)?)),
                SelectItem::Wildcard(options) => {
                    self.plain(options, select)?;
                    outputs.extend(self.all_columns(None));
                }
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), options) => {
                    self.plain(options, select)?;
                    let relation = self.single(name)?;
                    let all = self.all_columns(Some(&relation));
                    if all.is_empty() {
                        return self.refuse(format!("`{relation}` is no table of this FROM"), name);
                    }
                    outputs.extend(all);
                }
                SelectItem::ExprWithAliases { .. }
                | SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::Expr(_), _) => {
                    return self.refuse("this form of a column may not be used here", item);
                }
            }
        }
        match outputs.len() {
            0 => self.refuse("SELECT names no column", select),
            many if many > COLUMNS => {
                self.refuse(format!("there are {many} columns; at most {COLUMNS} may be"), select)
            }
            _ => Ok(outputs),
        }
    }

    fn plain(&self, options: &WildcardAdditionalOptions, select: &Select) -> Result<(), Fault> {
        let WildcardAdditionalOptions {
            wildcard_token: _,
            opt_ilike,
            opt_exclude,
            opt_except,
            opt_replace,
            opt_rename,
            opt_alias,
        } = options;
        let any = opt_ilike.is_some()
            || opt_exclude.is_some()
            || opt_except.is_some()
            || opt_replace.is_some()
            || opt_rename.is_some()
            || opt_alias.is_some();
        if any { self.refuse("nothing may follow `*`", select) } else { Ok(()) }
    }

    fn all_columns(&self, of: Option<&str>) -> Vec<(String, String)> {
        let scope = self.scopes.last().into_iter().flatten();
        scope
            .filter(|(relation, _)| of.is_none_or(|of| of == relation))
            .flat_map(|(relation, columns)| {
                columns.iter().map(move |name| (name.clone(), format!("{}.{}", quoted(relation), quoted(name))))
            })
            .collect()
    }

    fn name_of(&self, expr: &Expr, before: usize) -> Result<String, Fault> {
        match expr {
            Expr::Identifier(ident) => self.name(ident),
            Expr::CompoundIdentifier(parts) => match parts.last() {
                Some(ident) => self.name(ident),
                None => self.refuse("a name is missing", expr),
            },
            Expr::Function(function) => self.single(&function.name),
            Expr::Nested(inner) => self.name_of(inner, before),
            _ => Ok(format!("column{}", before + 1)),
        }
    }

    fn group_by(&mut self, group_by: &GroupByExpr, outputs: &[String], select: &Select) -> Result<String, Fault> {
        let GroupByExpr::Expressions(exprs, modifiers) = group_by else {
            return self.refuse("GROUP BY ALL may not be used here", select);
        };
        if !modifiers.is_empty() {
            return self.refuse("this form of GROUP BY may not be used here", select);
        }
        let mut printed = Vec::new();
        for expr in exprs {
            let depth = self.depth;
            printed.push(match position(expr) {
                Some(number) => self.output(number, outputs.len(), expr)?,
                None => match self.value(expr) {
                    Ok(text) => text,
                    // An output may be named, if no column is called so. What is printed is its number.
                    Err(fault) => match expr {
                        Expr::Identifier(ident) => {
                            self.depth = depth;
                            let name = self.name(ident)?;
                            match outputs.iter().position(|output| *output == name) {
                                Some(at) => (at + 1).to_string(),
                                None => return Err(fault),
                            }
                        }
                        _ => return Err(fault),
                    },
                },
            });
        }
        Ok(if printed.is_empty() { String::new() } else { format!(" GROUP BY {}", printed.join(", ")) })
    }

    fn order_by(&mut self, order_by: &OrderBy, columns: &[String], expressions: bool) -> Result<String, Fault> {
        let OrderBy { kind, interpolate } = order_by;
        let OrderByKind::Expressions(terms) = kind else {
            return self.refuse("ORDER BY ALL may not be used here", order_by);
        };
        if interpolate.is_some() {
            return self.refuse("this form of ORDER BY may not be used here", order_by);
        }
        let mut printed = Vec::new();
        for term in terms {
            let direction = self.direction(term)?;
            let expr = &term.expr;
            let named = match expr {
                Expr::Identifier(ident) => Some(self.name(ident)?),
                _ => None,
            };
            let text = match (position(expr), named) {
                (Some(number), _) => self.output(number, columns.len(), expr)?,
                (None, Some(name)) if columns.contains(&name) => {
                    if columns.iter().filter(|&column| *column == name).count() > 1 {
                        return self.refuse(format!("more than one column is called `{name}`"), expr);
                    }
                    quoted(&name)
                }
                _ if expressions => self.value(expr)?,
                _ => return self.refuse("after UNION and the like, ORDER BY takes names of columns only", expr),
            };
            printed.push(format!("{text} {direction}"));
        }
        Ok(format!(" ORDER BY {}", printed.join(", ")))
    }

    /// Which way, and where NULL goes: the databases differ where nothing is said.
    pub(super) fn direction(&self, term: &OrderByExpr) -> Result<String, Fault> {
        let OrderByExpr { expr, options, with_fill } = term;
        let OrderByOptions { sort, nulls_first } = options;
        if with_fill.is_some() {
            return self.refuse("this form of ORDER BY may not be used here", expr);
        }
        let descending = match sort {
            None | Some(OrderBySort::Asc) => false,
            Some(OrderBySort::Desc) => true,
            Some(OrderBySort::Using(_)) => return self.refuse("ORDER BY … USING may not be used here", expr),
        };
        let nulls = if nulls_first.unwrap_or(descending) { "FIRST" } else { "LAST" };
        Ok(format!("{} NULLS {nulls}", if descending { "DESC" } else { "ASC" }))
    }

    fn output(&self, number: &str, most: usize, expr: &Expr) -> Result<String, Fault> {
        match number.parse::<usize>() {
            Ok(number) if (1..=most).contains(&number) => Ok(number.to_string()),
            _ => self.refuse(format!("there is no column number {number}; there are {most}"), expr),
        }
    }

    fn limit(&self, clause: &LimitClause, query: &Query) -> Result<String, Fault> {
        let LimitClause::LimitOffset { limit, offset, limit_by } = clause else {
            return self.refuse("write LIMIT n OFFSET m", query);
        };
        if !limit_by.is_empty() {
            return self.refuse("LIMIT … BY may not be used here", query);
        }
        let count = |expr: &Expr| match position(expr).map(str::parse::<u32>) {
            Some(Ok(number)) => Ok(number),
            _ => {
                let fault =
                    Fault::new(Code::InvalidArgument, format!("LIMIT and OFFSET take a number of 0 to {}", u32::MAX));
                Err(self.at(fault.of("limit"), sqlparser::ast::Spanned::span(expr).start))
            }
        };
        let limit = limit.as_ref().map(count).transpose()?;
        let offset = match offset {
            Some(Offset { value, rows: _ }) => Some(count(value)?),
            None => None,
        };
        Ok(match (limit, offset) {
            (None, None) => String::new(),
            (Some(limit), None) => format!(" LIMIT {limit}"),
            // SQLite knows no OFFSET without LIMIT.
            (limit, Some(offset)) => format!(" LIMIT {} OFFSET {offset}", limit.unwrap_or(u32::MAX)),
        })
    }
}

/// The digits of a plain whole number.
pub(super) fn position(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::Number(digits, false) if digits.bytes().all(|digit| digit.is_ascii_digit()) => Some(digits),
            _ => None,
        },
        _ => None,
    }
}

/// A fault for what is not on a list.
pub(super) fn unlisted(what: &str) -> Fault {
    not_allowed(format!("{what} may not be used here"))
}
