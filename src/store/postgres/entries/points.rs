//! Reads the points of many entries at once, each with its vector from the table of its space.

use std::collections::{BTreeSet, HashMap};

use pgvector::Vector;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, query};

use super::super::super::read::Reader;
use super::super::super::{EntryMeta, Loaded, Point, StoreError};
use super::super::PostgresStore;
use super::super::cells::Cells;
use super::placed_point_columns;
use crate::ids::{EntryId, PointId, TenantId};

const POINTS: &str = concat!(
    "SELECT ",
    placed_point_columns!(),
    " FROM unnest($1::text[], $2::bytea[]) AS k (tenant, id) ",
    "JOIN points AS p ON p.tenant = k.tenant AND p.entry = k.id ORDER BY p.tenant, p.entry, p.id"
);

type Key = (TenantId, EntryId);

impl PostgresStore {
    /// The points of these entries, each of which is named once; those of one entry are oldest first.
    pub(in crate::store::postgres) async fn points_for(
        &self,
        snapshot: &mut PgConnection,
        keys: &[Key],
    ) -> Result<HashMap<Key, Vec<Point>>, StoreError> {
        let mut points: HashMap<Key, Vec<Point>> = HashMap::with_capacity(keys.len());
        if keys.is_empty() {
            return Ok(points);
        }
        let tenants: Vec<&str> = keys.iter().map(|(tenant, _)| tenant.as_str()).collect();
        let ids: Vec<[u8; 16]> = keys.iter().map(|(_, id)| id.to_bytes()).collect();
        let rows = query(POINTS).bind(&tenants).bind(&ids).fetch_all(&mut *snapshot).await;
        let mut reader = Reader::default();
        let mut tables = BTreeSet::new();
        for row in &rows.map_err(|error| self.fault(error))? {
            let mut cells = Cells::of("points", row);
            let point = reader.point(&mut cells)?;
            tables.extend(cells.take::<Option<i32>>()?);
            points.entry((point.tenant.clone(), point.entry)).or_default().push(point);
        }
        for table in tables {
            let statement = format!(
                "SELECT v.tenant, v.entry, v.point, v.embedding FROM unnest($1::text[], $2::bytea[]) AS k (tenant, id) \
                 JOIN vectors_{table} AS v ON v.tenant = k.tenant AND v.entry = k.id"
            );
            let rows = query(AssertSqlSafe(statement)).bind(&tenants).bind(&ids).fetch_all(&mut *snapshot).await;
            for row in &rows.map_err(|error| self.fault(error))? {
                let mut cells = Cells::of("vectors", row);
                let key = reader.key(&mut cells)?;
                let id = PointId::from_bytes(cells.id()?);
                let vector: Vector = cells.take()?;
                let of_entry = points.get_mut(&key).into_iter().flatten();
                for point in of_entry.filter(|point| point.id == id) {
                    point.vector = Some(vector.as_slice().to_vec());
                }
            }
        }
        Ok(points)
    }

    /// These entries with their points.
    pub(in crate::store::postgres) async fn with_points(
        &self,
        snapshot: &mut PgConnection,
        metas: Vec<EntryMeta>,
    ) -> Result<Vec<Loaded>, StoreError> {
        let keys: Vec<Key> = metas.iter().map(|meta| (meta.entry.tenant.clone(), meta.entry.id)).collect();
        let mut points = self.points_for(snapshot, &keys).await?;
        let with_points = |(meta, key)| Loaded { meta, points: points.remove(&key).unwrap_or_default() };
        Ok(metas.into_iter().zip(keys).map(with_points).collect())
    }
}
