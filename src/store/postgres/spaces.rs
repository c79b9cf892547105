//! Embedding spaces: each has a table of its own for its vectors, `vectors_N`, made when it is first met.
//!
//! The numbers are in the table `spaces`. A space is its name and its number of dimensions, because a column of pgvector
//! has a fixed number. What pgvector cannot hold exactly or index (no dimensions, too many, numbers beyond what half
//! precision knows) is kept beside the point as bytes, and is not searched for.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, query, query_scalar, raw_sql};

use super::super::{EntryWrite, Point, StoreError};
use super::PostgresStore;
use super::cells::escaped;

/// A space: its name as stored, and its dimensions.
pub(super) type Space = (String, i32);

/// The tables of the spaces that have been seen committed.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<HashMap<Space, i32>>);

/// Largest number of dimensions of a vector column, and of a half-precision index.
const MOST: i32 = 16_000;
const MOST_INDEXED: i32 = 4_000;
/// Largest half-precision number.
const LARGEST: f32 = 65_504.0;

const LOCK: &str = "SELECT pg_advisory_xact_lock(5940263861203504)";
const NUMBER: &str = "SELECT number FROM spaces WHERE name = $1 AND dimensions = $2";
const NEW: &str = "INSERT INTO spaces (name, dimensions) VALUES ($1, $2) RETURNING number";

/// The vector of a point that is kept in the table of its space, and that space.
pub(super) fn vector_in_space(point: &Point) -> Option<(Space, &[f32])> {
    let (name, vector) = (point.space.as_deref()?, point.vector.as_deref()?);
    let dimensions = i32::try_from(vector.len()).ok().filter(|count| (1..=MOST).contains(count))?;
    let fits = vector.iter().all(|number| number.abs() <= LARGEST);
    fits.then(|| ((escaped(name).into_owned(), dimensions), vector))
}

impl PostgresStore {
    /// The tables of all spaces in these writes; those that are missing are made. To be called before the transaction
    /// has changed anything, because it may wait for other writers.
    pub(super) async fn tables_for(
        &self,
        connection: &mut PgConnection,
        writes: &[EntryWrite],
    ) -> Result<HashMap<Space, i32>, StoreError> {
        let points = writes.iter().flat_map(|write| match write {
            EntryWrite::Put { points, .. } => points.as_slice(),
            EntryWrite::AddPoint(point) => std::slice::from_ref(point),
            _ => &[],
        });
        let wanted: BTreeSet<Space> = points.filter_map(vector_in_space).map(|(space, _)| space).collect();
        let mut tables = HashMap::with_capacity(wanted.len());
        for space in wanted {
            let table = match self.table_of(&mut *connection, &space).await? {
                Some(table) => table,
                None => self.make_table(&mut *connection, &space).await?,
            };
            tables.insert(space, table);
        }
        Ok(tables)
    }

    /// The table of a space, if there is one.
    pub(super) async fn table_of(
        &self,
        connection: &mut PgConnection,
        space: &Space,
    ) -> Result<Option<i32>, StoreError> {
        let known = self.spaces.0.lock().unwrap_or_else(PoisonError::into_inner).get(space).copied();
        if known.is_some() {
            return Ok(known);
        }
        let found: Option<i32> = query_scalar(NUMBER)
            .bind(&space.0)
            .bind(space.1)
            .fetch_optional(connection)
            .await
            .map_err(|error| self.fault(error))?;
        if let Some(table) = found {
            self.spaces.0.lock().unwrap_or_else(PoisonError::into_inner).insert(space.clone(), table);
        }
        Ok(found)
    }

    async fn make_table(&self, connection: &mut PgConnection, space: &Space) -> Result<i32, StoreError> {
        query(LOCK).execute(&mut *connection).await.map_err(|error| self.fault(error))?;
        // Another replica may have made it while we waited.
        if let Some(table) = self.table_of(&mut *connection, space).await? {
            return Ok(table);
        }
        let made = query_scalar(NEW).bind(&space.0).bind(space.1).fetch_one(&mut *connection).await;
        let table: i32 = made.map_err(|error| self.fault(error))?;
        let create = raw_sql(AssertSqlSafe(table_sql(table, space.1))).execute(connection).await;
        create.map_err(|error| self.fault(error))?;
        Ok(table)
    }
}

/// The statements that make the table of a space, as step 2 of the schema leaves those made before it.
fn table_sql(table: i32, dimensions: i32) -> String {
    let mut sql = format!(
        "CREATE TABLE vectors_{table} (
            tenant    text COLLATE \"C\" NOT NULL,
            entry     bytea NOT NULL,
            point     bytea NOT NULL,
            partition bytea NOT NULL,
            embedding vector({dimensions}) NOT NULL,
            PRIMARY KEY (tenant, entry, point),
            FOREIGN KEY (tenant, entry, point) REFERENCES points (tenant, entry, id)
                ON DELETE CASCADE ON UPDATE CASCADE
        );
        CREATE INDEX vectors_{table}_by_partition ON vectors_{table} (tenant, partition);"
    );
    if dimensions <= MOST_INDEXED {
        sql.push_str(&format!(
            "CREATE INDEX vectors_{table}_nearest ON vectors_{table}
                USING hnsw ((embedding::halfvec({dimensions})) halfvec_cosine_ops);"
        ));
    }
    sql
}

/// Whether vectors of so many dimensions have an index.
pub(super) fn is_indexed(dimensions: i32) -> bool {
    dimensions <= MOST_INDEXED
}

#[cfg(test)]
mod tests {
    use super::super::super::sample::point;
    use super::*;

    #[test]
    fn a_vector_that_pgvector_cannot_hold_has_no_table() {
        let with = |vector: Vec<f32>| Point { vector: Some(vector), ..point("t", 1, 0) };
        let plain = with(vec![1.0, -65_504.0, 0.0]);
        assert_eq!(vector_in_space(&plain).unwrap().0, ("minilm@1/4".to_owned(), 3));
        for odd in [vec![], vec![f32::NAN], vec![f32::INFINITY], vec![f32::MAX], vec![0.0; 16_001]] {
            assert_eq!(vector_in_space(&with(odd)), None);
        }
        assert_eq!(vector_in_space(&Point { space: None, ..plain }), None);
    }
}
