//! The tables of vectors, `rem_vectors_N`: one for each embedding space, made when a row first has a vector in it. The numbers
//! are those of `spaces`, which the cache's vectors have too.

use std::collections::{BTreeSet, HashMap};

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, query, query_scalar, raw_sql};

use super::super::super::StoreError;
use super::super::super::rem::{RemVector, is_direction};
use super::super::PostgresStore;
use super::super::cells::{Cells, escaped};
use super::super::spaces::{LARGEST, LOCK, MOST, Space, is_indexed};

const THERE: &str = "SELECT to_regclass('rem_vectors_' || $1::integer) IS NOT NULL";
const ALL: &str = "SELECT number, dimensions, name FROM spaces \
    WHERE ($1::text IS NULL OR name = $1) AND to_regclass('rem_vectors_' || number) IS NOT NULL \
    ORDER BY name COLLATE \"C\", dimensions";

/// A table of vectors.
pub(in crate::store::postgres) struct Table {
    /// Its number.
    pub(in crate::store::postgres) number: i32,
    /// Dimensions of its vectors.
    pub(in crate::store::postgres) dimensions: i32,
    /// Name of the space.
    pub(in crate::store::postgres) name: String,
}

/// The space of a vector, if it is a direction and a column of pgvector can hold it.
pub(super) fn space_of(vector: &RemVector) -> Option<Space> {
    let dimensions = i32::try_from(vector.vector.len()).ok().filter(|count| (1..=MOST).contains(count))?;
    let fits = vector.vector.iter().all(|number| number.abs() <= LARGEST);
    (fits && is_direction(vector)).then(|| (escaped(&vector.space).into_owned(), dimensions))
}

impl PostgresStore {
    /// The tables of these vectors' spaces; those that are missing are made. To be called before the transaction has changed
    /// anything, because it may wait for other writers.
    pub(super) async fn rem_tables_for(
        &self,
        connection: &mut PgConnection,
        vectors: impl Iterator<Item = &RemVector>,
    ) -> Result<HashMap<Space, i32>, StoreError> {
        let wanted: BTreeSet<Space> = vectors.filter_map(space_of).collect();
        let mut tables = HashMap::with_capacity(wanted.len());
        for space in wanted {
            let table = match self.rem_table_of(&mut *connection, &space).await? {
                Some(table) => table,
                None => self.make_rem_table(&mut *connection, &space).await?,
            };
            tables.insert(space, table);
        }
        Ok(tables)
    }

    /// The table of a space, if there is one.
    pub(super) async fn rem_table_of(
        &self,
        connection: &mut PgConnection,
        space: &Space,
    ) -> Result<Option<i32>, StoreError> {
        let Some(table) = self.table_of(&mut *connection, space).await? else { return Ok(None) };
        let there: Result<bool, _> = query_scalar(THERE).bind(table).fetch_one(connection).await;
        Ok(there.map_err(|error| self.fault(error))?.then_some(table))
    }

    async fn make_rem_table(&self, connection: &mut PgConnection, space: &Space) -> Result<i32, StoreError> {
        query(LOCK).execute(&mut *connection).await.map_err(|error| self.fault(error))?;
        // Another replica may have made it while we waited.
        if let Some(table) = self.rem_table_of(&mut *connection, space).await? {
            return Ok(table);
        }
        let table = match self.table_of(&mut *connection, space).await? {
            Some(table) => table,
            None => self.make_table(&mut *connection, space).await?,
        };
        let mut create = table_sql(table, space.1);
        if is_indexed(space.1) && !self.spaces.is_deferred() {
            create.push_str(&index_sql(table, space.1));
        }
        let created = raw_sql(AssertSqlSafe(create)).execute(connection).await;
        created.map_err(|error| self.fault(error))?;
        Ok(table)
    }

    /// All tables of vectors, or those of one space.
    pub(in crate::store::postgres) async fn rem_tables(
        &self,
        connection: &mut PgConnection,
        space: Option<&str>,
    ) -> Result<Vec<Table>, StoreError> {
        let found = query(ALL).bind(space.map(escaped)).fetch_all(connection).await;
        found
            .map_err(|error| self.fault(error))?
            .iter()
            .map(|row| {
                let mut cells = Cells::of("spaces", row);
                Ok(Table { number: cells.take()?, dimensions: cells.take()?, name: cells.string()? })
            })
            .collect()
    }
}

fn table_sql(table: i32, dimensions: i32) -> String {
    format!(
        "CREATE TABLE rem_vectors_{table} (
            row       bigint NOT NULL PRIMARY KEY REFERENCES rem_rows (no) ON DELETE CASCADE,
            tenant    text COLLATE \"C\" NOT NULL,
            tab       smallint NOT NULL,
            owner     text COLLATE \"C\" NOT NULL,
            embedding vector({dimensions}) NOT NULL
        );
        CREATE INDEX rem_vectors_{table}_by_owner ON rem_vectors_{table} (tenant, tab, owner);"
    )
}

/// The statement that makes the vector index of such a table.
pub(in crate::store::postgres) fn index_sql(table: i32, dimensions: i32) -> String {
    format!(
        "CREATE INDEX IF NOT EXISTS rem_vectors_{table}_nearest ON rem_vectors_{table} \
         USING hnsw ((embedding::halfvec({dimensions})) halfvec_cosine_ops);"
    )
}
