//! Notes about the database itself, in the table `meta`.

use sqlx::{query, query_as, query_scalar};

use super::super::{BoxFuture, NoteStore};
use super::PostgresStore;

const NOTE: &str = "SELECT value FROM meta WHERE key = $1";
const ONCE: &str = "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING";
const SET: &str =
    "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
const SWAP: &str = "UPDATE meta SET value = $3 WHERE key = $1 AND value = $2";
// Not LIKE, in which names could have wildcards.
const ALL: &str = "SELECT key, value FROM meta WHERE substr(key, 1, length($1)) = $1 ORDER BY key";
const FORGET: &str = "DELETE FROM meta WHERE key = $1";

impl NoteStore for PostgresStore {
    fn note<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Option<String>> {
        Box::pin(async move {
            query_scalar(NOTE).bind(name).fetch_optional(&self.readers).await.map_err(|error| self.fault(error))
        })
    }

    fn note_once<'a>(&'a self, name: &'a str, text: &'a str) -> BoxFuture<'a, String> {
        Box::pin(async move {
            let mut transaction = self.begin_write().await?;
            let put = query(ONCE).bind(name).bind(text).execute(&mut *transaction).await;
            put.map_err(|error| self.fault(error))?;
            let stands = query_scalar(NOTE).bind(name).fetch_one(&mut *transaction).await;
            let stands = stands.map_err(|error| self.fault(error))?;
            self.commit(transaction).await?;
            Ok(stands)
        })
    }

    fn set_note<'a>(&'a self, name: &'a str, text: Option<&'a str>) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let statement = match text {
                Some(text) => query(SET).bind(name).bind(text),
                None => query(FORGET).bind(name),
            };
            statement.execute(&self.writer).await.map(|_| ()).map_err(|error| self.pool_fault(&self.writer, error))
        })
    }

    fn swap_note<'a>(&'a self, name: &'a str, old: &'a str, new: &'a str) -> BoxFuture<'a, bool> {
        Box::pin(async move {
            let swapped = query(SWAP).bind(name).bind(old).bind(new).execute(&self.writer).await;
            swapped.map(|done| done.rows_affected() > 0).map_err(|error| self.pool_fault(&self.writer, error))
        })
    }

    fn notes_of<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Vec<(String, String)>> {
        Box::pin(
            async move { query_as(ALL).bind(prefix).fetch_all(&self.readers).await.map_err(|error| self.fault(error)) },
        )
    }
}
