//! Embedding spaces: each has a table of its own for its vectors, `vectors_N`, made when it is first met.
//!
//! The numbers are in the table `spaces`. A space is its name and its number of dimensions, because a column of pgvector
//! has a fixed number. What pgvector cannot hold exactly or index (no dimensions, too many, numbers beyond what half
//! precision knows) is kept beside the point as bytes, and is not searched for.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, query, query_as, query_scalar, raw_sql};

use super::super::{EntryWrite, Point, StoreError};
use super::cells::escaped;
use super::{PostgresStore, rem};

/// A space: its name as stored, and its dimensions.
pub(super) type Space = (String, i32);

/// The tables of the spaces that have been seen committed.
#[derive(Debug, Default)]
pub(super) struct Known {
    tables: Mutex<HashMap<Space, i32>>,
    /// New tables get no vector index.
    deferred: AtomicBool,
}

impl Known {
    /// Whether new tables get no vector index.
    pub(super) fn is_deferred(&self) -> bool {
        self.deferred.load(Ordering::Relaxed)
    }
}

/// Largest number of dimensions of a vector column, and of a half-precision index.
pub(super) const MOST: i32 = 16_000;
const MOST_INDEXED: i32 = 4_000;
/// Largest half-precision number.
pub(super) const LARGEST: f32 = 65_504.0;

pub(super) const LOCK: &str = "SELECT pg_advisory_xact_lock(5940263861203504)";
const NUMBER: &str = "SELECT number FROM spaces WHERE name = $1 AND dimensions = $2";
const UNINDEXED: &str = "SELECT number, dimensions FROM spaces \
    WHERE dimensions <= $1 AND to_regclass('vectors_' || number || '_nearest') IS NULL ORDER BY number";
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
        let known = self.spaces.tables.lock().unwrap_or_else(PoisonError::into_inner).get(space).copied();
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
            self.spaces.tables.lock().unwrap_or_else(PoisonError::into_inner).insert(space.clone(), table);
        }
        Ok(found)
    }

    pub(super) async fn make_table(&self, connection: &mut PgConnection, space: &Space) -> Result<i32, StoreError> {
        query(LOCK).execute(&mut *connection).await.map_err(|error| self.fault(error))?;
        // Another replica may have made it while we waited.
        if let Some(table) = self.table_of(&mut *connection, space).await? {
            return Ok(table);
        }
        let made = query_scalar(NEW).bind(&space.0).bind(space.1).fetch_one(&mut *connection).await;
        let table: i32 = made.map_err(|error| self.fault(error))?;
        let mut create = table_sql(table, space.1);
        if is_indexed(space.1) && !self.spaces.is_deferred() {
            create.push_str(&index_sql(table, space.1));
        }
        let created = raw_sql(AssertSqlSafe(create)).execute(connection).await;
        created.map_err(|error| self.fault(error))?;
        Ok(table)
    }

    /// From now on this store makes the tables of new spaces without their vector index. For a copy into an empty
    /// database: to build the index once at the end is many times faster than to add to it. Until then searches look at
    /// every vector.
    pub fn defer_vector_index(&self) {
        self.spaces.deferred.store(true, Ordering::Relaxed);
    }

    /// Builds the vector indexes that are missing. Whoever adds points to such a space waits meanwhile.
    ///
    /// # Errors
    /// The server cannot be reached or does not do it; what was built stays.
    pub async fn build_vector_index(&self) -> Result<(), StoreError> {
        self.spaces.deferred.store(false, Ordering::Relaxed);
        let mut connection = self.server.connect().await?;
        let missing: Vec<(i32, i32)> = query_as(UNINDEXED)
            .bind(MOST_INDEXED)
            .fetch_all(&mut connection)
            .await
            .map_err(|error| self.fault(error))?;
        for (table, dimensions) in missing {
            self.build(&mut connection, &index_sql(table, dimensions)).await?;
        }
        for table in self.rem_tables(&mut connection, None).await? {
            if is_indexed(table.dimensions) {
                self.build(&mut connection, &rem::index_sql(table.number, table.dimensions)).await?;
            }
        }
        self.server.done(connection).await
    }

    async fn build(&self, connection: &mut PgConnection, index: &str) -> Result<(), StoreError> {
        let build = |workers| {
            AssertSqlSafe(format!(
                "SET maintenance_work_mem = '512MB'; SET max_parallel_maintenance_workers = {workers}; {index}"
            ))
        };
        let built = raw_sql(build(2)).execute(&mut *connection).await.map_err(|error| self.fault(error));
        // Workers need shared memory, of which a container may have little.
        if let Err(StoreError::DiskFull { .. } | StoreError::Busy { .. }) = built {
            raw_sql(build(0)).execute(connection).await.map_err(|error| self.fault(error))?;
            return Ok(());
        }
        built.map(drop)
    }
}

/// The statements that make the table of a space, as step 2 of the schema leaves those made before it.
fn table_sql(table: i32, dimensions: i32) -> String {
    format!(
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
    )
}

fn index_sql(table: i32, dimensions: i32) -> String {
    format!(
        "CREATE INDEX IF NOT EXISTS vectors_{table}_nearest ON vectors_{table} \
         USING hnsw ((embedding::halfvec({dimensions})) halfvec_cosine_ops);"
    )
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
