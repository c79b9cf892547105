//! Rows by words.

use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, query};

use super::super::super::StoreError;
use super::super::super::rem::*;
use super::super::SqliteStore;
use super::columns::{read_rem, row_columns, word_prefix};
use super::conditions::{Question, bound, most};

// Last into the database first: that is the order of the index, so reading ends at the limit.
const WORDED: &str =
    concat!("SELECT ", row_columns!(), " FROM rem_words CROSS JOIN rem_rows AS r ON r.no = rem_words.rowid");

/// More words than that say nothing more.
const WORDS: usize = 64;

/// Its parameters 1 and 2 are the words and the limit.
pub(super) fn matching_sql(asked: &Question<'_>) -> (String, Vec<Bind>) {
    let (sql, binds) = asked.sql(WORDED);
    (format!("{sql} AND rem_words MATCH ?1 ORDER BY rem_words.rowid DESC LIMIT ?2"), binds)
}

impl SqliteStore {
    pub(super) async fn worded_rem(
        &self,
        scope: &Scope,
        words: &[String],
        question: &RemQuestion<'_>,
    ) -> Result<Vec<RemRow>, StoreError> {
        let mut words: Vec<&str> = words.iter().map(String::as_str).filter(|word| !word.is_empty()).collect();
        words.sort_unstable();
        words.dedup();
        words.truncate(WORDS);
        if words.is_empty() || question.limit == 0 {
            return Ok(Vec::new());
        }
        let prefixes = [Owner::Public, scope.owner()].map(|owner| word_prefix(&scope.tenant, &owner, question.table));
        let expression = |word: &str| {
            let of_owner = |prefix: &String| {
                // A word has letters and digits only, so quotes are nothing that it could close.
                let quoted: Vec<String> = words.iter().map(|word| format!("\"{prefix}{word}\"")).collect();
                format!("({})", quoted.join(word))
            };
            prefixes.iter().map(of_owner).collect::<Vec<_>>().join(" OR ")
        };
        let mut snapshot = self.begin_search(Some(scope)).await?;
        let asked = Question { scope, of: question, first: 3 };
        let mut found = self.matching(&mut snapshot, &asked, expression(" AND ")).await?;
        let limit = usize::try_from(question.limit).unwrap_or(usize::MAX);
        if found.len() < limit && words.len() > 1 {
            let with_all: std::collections::HashSet<_> = found.iter().map(|row| row.id).collect();
            let any = self.matching(&mut snapshot, &asked, expression(" OR ")).await?;
            let others = any.into_iter().filter(|row| !with_all.contains(&row.id));
            found.extend(others.take(limit - with_all.len()));
        }
        self.end_search(snapshot).await?;
        Ok(found)
    }

    async fn matching(
        &self,
        snapshot: &mut SqliteConnection,
        asked: &Question<'_>,
        expression: String,
    ) -> Result<Vec<RemRow>, StoreError> {
        let (sql, binds) = matching_sql(asked);
        let statement = query(AssertSqlSafe(sql)).persistent(false).bind(expression).bind(most(asked.of.limit));
        let rows = bound(statement, &binds).fetch_all(snapshot).await.map_err(|error| self.fault(error))?;
        rows.iter().map(read_rem).collect()
    }
}
