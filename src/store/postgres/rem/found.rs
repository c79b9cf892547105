//! Rows by id and by words, and requests of the ledger.

use std::collections::HashSet;

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, query};

use super::super::super::StoreError;
use super::super::super::rem::{Owner, RemQuestion, RemRow, Scope, row_of_request};
use super::super::PostgresStore;
use super::super::cells::Cells;
use super::super::ledger::OF_KEY;
use super::filter::Filter;
use super::puts::began;
use super::rows::{bytes, owners, row, row_columns, word_prefix};
use crate::ids::{KeyId, RemId};

pub(super) const OF_IDS: &str = concat!(
    "SELECT ",
    row_columns!(),
    " FROM rem_rows AS r WHERE r.tenant = $1 AND r.id = ANY ($2::bytea[]) AND r.owner = ANY ($3) AND r.deleted_at IS NULL"
);

/// Words that a row must have; parameters 4 and 5 are all of them and any of them.
pub(super) const ALL_WORDS: &str = "r.words @@ $4::tsquery AND $5::tsquery IS NOT NULL";
/// Those that have some and not all.
pub(super) const OTHERS: &str = "r.words @@ $5::tsquery AND NOT r.words @@ $4::tsquery";

impl PostgresStore {
    pub(super) async fn rows_of_ids(&self, scope: &Scope, ids: &[RemId]) -> Result<Vec<RemRow>, StoreError> {
        let mut snapshot = self.begin_rem("").await?;
        let found = query(OF_IDS)
            .bind(scope.tenant.as_str())
            .bind(bytes(ids))
            .bind(owners(scope))
            .fetch_all(&mut *snapshot)
            .await
            .map_err(|error| self.fault(error))?;
        let mut rows = read(&found)?;
        let there: HashSet<RemId> = rows.iter().map(|row| row.id).collect();
        // Few are asked for, and in most walks none is left.
        let rest: HashSet<RemId> = ids.iter().copied().filter(|id| !there.contains(id)).collect();
        if !rest.is_empty() {
            let rest: Vec<RemId> = rest.into_iter().collect();
            let asked = query(OF_KEY)
                .bind(bytes(&rest))
                .bind(rest.iter().map(|id| began(*id).0).collect::<Vec<_>>())
                .bind(rest.iter().map(|id| began(*id).1).collect::<Vec<_>>())
                .bind(scope.tenant.as_str())
                .bind(KeyId::as_str(&scope.key));
            let requests = self.rows_of(&mut snapshot, asked).await?;
            rows.extend(requests.iter().filter_map(row_of_request));
        }
        snapshot.end(self).await?;
        Ok(rows)
    }

    pub(super) async fn worded_rem(
        &self,
        scope: &Scope,
        words: &[String],
        question: &RemQuestion<'_>,
    ) -> Result<Vec<RemRow>, StoreError> {
        let of_owner = |owner: &Owner, between: &str| {
            let prefix = word_prefix(&scope.tenant, owner, question.table);
            let words: Vec<String> = words.iter().filter_map(|word| quoted(&prefix, word)).collect();
            words.join(between)
        };
        let (public, own) = (Owner::Public, scope.owner());
        let any = format!("{} | {}", of_owner(&public, " | "), of_owner(&own, " | "));
        let all = format!("({}) | ({})", of_owner(&public, " & "), of_owner(&own, " & "));
        if any == " | " {
            return Ok(Vec::new());
        }
        let filter = Filter::of(question);
        // Those with all the words first: by far most questions need no others, which may be many.
        let mut rows = Vec::new();
        let mut snapshot = self.begin_rem("").await?;
        let rounds: &[&str] = if words.len() == 1 { &[ALL_WORDS] } else { &[ALL_WORDS, OTHERS] };
        for condition in rounds {
            let left = i64::from(question.limit).saturating_sub(i64::try_from(rows.len()).unwrap_or(i64::MAX));
            if left <= 0 {
                break;
            }
            let statement = worded_sql(condition, &filter.sql(7));
            let asked = query(AssertSqlSafe(statement))
                .bind(scope.tenant.as_str().to_owned())
                .bind(question.table.code())
                .bind(owners(scope))
                .bind(all.clone())
                .bind(any.clone())
                .bind(left);
            let found = filter.bind(asked).fetch_all(&mut *snapshot).await.map_err(|error| self.fault(error))?;
            rows.extend(read(&found)?);
        }
        snapshot.end(self).await?;
        Ok(rows)
    }
}

/// Numbers are found and sorted before the rows, which are wide, are read. The order by number is hidden from the first step,
/// which would else walk backwards through all rows until it had met enough.
pub(super) fn worded_sql(condition: &str, filter: &str) -> String {
    format!(
        concat!(
            "WITH found AS MATERIALIZED (SELECT r.no FROM rem_rows AS r WHERE {} AND r.tenant = $1 AND r.tab = $2 ",
            "AND r.owner = ANY ($3) AND r.deleted_at IS NULL AND ({})) SELECT ",
            row_columns!(),
            " FROM (SELECT f.no FROM found AS f ORDER BY f.no DESC LIMIT $6) AS best JOIN rem_rows AS r ON r.no = best.no"
        ),
        condition, filter
    )
}

/// A word of a `tsquery`: quoted, so that nothing in it is an operator. Words have letters and digits only.
fn quoted(prefix: &str, word: &str) -> Option<String> {
    let plain: String = word.chars().filter(|letter| letter.is_alphanumeric()).collect();
    (!plain.is_empty()).then(|| format!("'{prefix}{plain}'"))
}

fn read(found: &[PgRow]) -> Result<Vec<RemRow>, StoreError> {
    found.iter().map(|found| row(&mut Cells::of("rem_rows", found))).collect()
}
