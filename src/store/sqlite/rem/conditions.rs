//! What rows of a search must fulfil, as SQL behind a `FROM` that calls them `r`.

use super::super::super::rem::*;
use super::super::cells::stored;
use super::writes::RemStatement;

/// A question of a caller.
pub(super) struct Question<'a> {
    pub(super) scope: &'a Scope,
    pub(super) of: &'a RemQuestion<'a>,
    /// Number of the first parameter.
    pub(super) first: usize,
}

impl Question<'_> {
    /// The statement with all conditions, and the parameters that they need.
    pub(super) fn sql(&self, statement: &str) -> (String, Vec<Bind>) {
        let mut binds = vec![
            Bind::Text(self.scope.tenant.as_str().to_owned()),
            Bind::Text(self.scope.owner().to_string()),
            Bind::Integer(i64::from(self.of.table.code())),
        ];
        let at = |place: usize| self.first + place;
        let mut sql = format!(
            "{statement} WHERE r.tenant = ?{} AND r.owner IN (?{}, 'public') AND r.tab = ?{} AND r.deleted_at IS NULL",
            at(0),
            at(1),
            at(2)
        );
        if let Some(label) = self.of.label {
            sql.push_str(&format!(" AND r.label = ?{}", at(binds.len())));
            binds.push(Bind::Text(label.to_owned()));
        }
        if let Some(cond) = self.of.cond {
            let compiled = compile(cond, Dialect::Sqlite, "r", at(binds.len()));
            sql.push_str(" AND ");
            sql.push_str(&compiled.sql);
            binds.extend(compiled.binds);
        }
        (sql, binds)
    }
}

/// Binds them in order.
pub(super) fn bound<'q>(statement: RemStatement<'q>, binds: &[Bind]) -> RemStatement<'q> {
    binds.iter().fold(statement, |statement, bind| match bind {
        Bind::Text(text) => statement.bind(text.clone()),
        Bind::Integer(number) => statement.bind(*number),
    })
}

/// A limit as a parameter.
pub(super) fn most(limit: u32) -> i64 {
    stored(u64::from(limit))
}
