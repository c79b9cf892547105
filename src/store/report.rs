//! The part of a report's statement that is the same in both databases: which rows of the sums, in which groups, and how many of them.

use std::fmt::Write as _;

use super::UsageAsk;
use super::rollup::{columns_of, filters_of};

/// Where the rows of a report come from, and how a database writes what the rest of its statement needs.
pub(super) struct Source<'a> {
    /// The table with all rows of the time asked for, after `FROM`.
    pub(super) table: &'a str,
    /// How many parameters are in it.
    pub(super) parameters: usize,
    /// What a parameter's number is written after.
    pub(super) mark: char,
    /// What a group paid, to order by.
    pub(super) paid: &'a str,
}

/// Appends to a statement that names the columns where they come from, narrowed, grouped and limited as it is asked. Names are ours;
/// whatever the caller says is bound.
pub(super) fn from_source(sql: &mut String, ask: &UsageAsk, source: &Source<'_>) {
    let Source { table, parameters, mark, paid } = source;
    let by = columns_of(&ask.by);
    let mut from = format!(" FROM {table}");
    for (at, (column, _)) in filters_of(ask).iter().enumerate() {
        let _ = write!(from, "{}{column} = {mark}{}", if at == 0 { " WHERE " } else { " AND " }, parameters + at + 1);
    }
    sql.push_str(&from);
    // Of groups with slots only the dearest are read, and so those are found first.
    let dearest = ask.limit > 0 && ask.slot.is_some() && !by.is_empty();
    if dearest {
        let names = by.join(", ");
        let and = if filters_of(ask).is_empty() { "WHERE" } else { "AND" };
        let _ = write!(
            sql,
            " {and} ({names}) IN (SELECT {names}{from} GROUP BY {names} ORDER BY {paid} DESC, {names} LIMIT {})",
            ask.limit
        );
    }
    sql.push_str(" GROUP BY of_slot");
    by.iter().for_each(|column| _ = write!(sql, ", {column}"));
    if ask.limit > 0 && ask.slot.is_none() {
        let _ = write!(sql, " ORDER BY {paid} DESC");
        by.iter().for_each(|column| _ = write!(sql, ", {column}"));
    }
    let limits = [ask.limit, ask.most_rows];
    // A limit counts groups, of which each has several rows where there are slots.
    let limits = limits.iter().skip(usize::from(ask.slot.is_some())).filter(|limit| **limit > 0);
    if let Some(limit) = limits.min() {
        let _ = write!(sql, " LIMIT {limit}");
    }
}
