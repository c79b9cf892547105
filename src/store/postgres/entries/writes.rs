//! The statements that change entries and points. Each changes nothing when it is run again.
//!
//! Neighbouring writes of one kind travel together, so that a batch of hundreds is a few statements. Only writes that do
//! not meet are put together: the result is that of one after another.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;

use pgvector::Vector;
use sqlx::postgres::{PgArguments, PgConnection, PgRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Postgres, query};

use super::super::super::{Entry, EntryWrite, Point, StoreError};
use super::super::PostgresStore;
use super::super::cells::{Cells, escaped, escaped_or_null, stored, stored_or_null, tags_text, vector_bytes};
use super::super::feed::Touched;
use super::super::spaces::{Space, vector_in_space};
use crate::ids::{EntryId, PointId, TenantId};

const PUT_ENTRIES: &str = "INSERT INTO entries (tenant, id, partition, namespace, dialect, model, finish, completion_tokens, \
     token_limit, writer, tags, created_at, expires_at, body_len) \
     SELECT * FROM unnest($1::text[], $2::bytea[], $3::bytea[], $4::text[], $5::text[], $6::text[], $7::text[], \
         $8::bigint[], $9::bigint[], $10::text[], $11::text[], $12::bigint[], $13::bigint[], $14::bigint[]) \
     ON CONFLICT DO NOTHING RETURNING tenant, id";
const PUT_BODIES: &str = "INSERT INTO bodies (tenant, entry, body) \
    SELECT * FROM unnest($1::text[], $2::bytea[], $3::bytea[]) ON CONFLICT DO NOTHING";
// A point whose entry was deleted meanwhile must not fail the batch it is in.
const PUT_POINTS: &str = "INSERT INTO points (tenant, entry, id, partition, fingerprint, normalised, space, writer, created_at, \
     vectors, vector, prompt, contradicts) \
     SELECT p.* FROM unnest($1::text[], $2::bytea[], $3::bytea[], $4::bytea[], $5::bytea[], $6::bytea[], $7::text[], \
         $8::text[], $9::bigint[], $10::integer[], $11::bytea[], $12::text[], $13::integer[]) \
         AS p (tenant, entry, id, partition, fingerprint, normalised, space, writer, created_at, vectors, vector, \
               prompt, contradicts) \
     WHERE EXISTS (SELECT 1 FROM entries AS e WHERE e.tenant = p.tenant AND e.id = p.entry) \
     ON CONFLICT DO NOTHING RETURNING tenant, entry, id";
// The body, the points and their vectors go with it, by foreign key.
const DELETE_ENTRIES: &str = "DELETE FROM entries AS e USING unnest($1::text[], $2::bytea[]) AS k (tenant, id) \
    WHERE e.tenant = k.tenant AND e.id = k.id RETURNING e.tenant, e.id";
const DELETE_ENTRY_IF_EMPTY: &str = "DELETE FROM entries WHERE tenant = $1 AND id = $2 \
    AND NOT EXISTS (SELECT 1 FROM points WHERE tenant = $1 AND entry = $2)";
const TAG_ENTRY: &str = "UPDATE entries SET tags = $3 WHERE tenant = $1 AND id = $2";
// A batch that puts an entry and moves its point on makes the point anew when it is written again; the point moved
// before then gives way to its equal. The vectors follow their points, by foreign key.
const GIVE_WAY: &str = "DELETE FROM points AS p WHERE p.tenant = $1 AND p.entry = $3 AND ($4::bytea IS NULL OR p.id = $4) \
    AND EXISTS (SELECT 1 FROM points AS q WHERE q.tenant = $1 AND q.entry = $2 AND q.id = p.id)";
const MOVE_POINTS: &str =
    "UPDATE points SET entry = $3 WHERE tenant = $1 AND entry = $2 AND ($4::bytea IS NULL OR id = $4)";
const NOTE_CONTRADICTION: &str = "UPDATE points SET contradicts = $4 WHERE tenant = $1 AND entry = $2 AND id = $3";
const DELETE_POINT: &str = "DELETE FROM points WHERE tenant = $1 AND entry = $2 AND id = $3";

/// Rows of one statement, and bytes of bodies in it.
const MANY: usize = 1_000;
const MANY_BYTES: usize = 16 << 20;

type Statement<'q> = Query<'q, Postgres, PgArguments>;

/// Writes that travel together.
#[derive(Default)]
struct Run<'w> {
    entries: Vec<&'w Entry>,
    points: Vec<&'w Point>,
    deleted: Vec<(&'w TenantId, EntryId)>,
    /// Entries that got a point by itself, and must not be put later in this run: a point before its entry is none.
    awaited: HashSet<(&'w TenantId, EntryId)>,
}

impl<'w> Run<'w> {
    /// Takes the write in, if the result is the same as if it came after all that is there.
    fn takes(&mut self, write: &'w EntryWrite) -> bool {
        match write {
            EntryWrite::Put { entry, points } => {
                if !self.deleted.is_empty() || self.awaited.contains(&(&entry.tenant, entry.id)) {
                    return false;
                }
                self.entries.push(entry);
                // A point of another entry or tenant is a slip of the caller's, and must not lead to an answer.
                self.points
                    .extend(points.iter().filter(|point| point.entry == entry.id && point.tenant == entry.tenant));
            }
            EntryWrite::AddPoint(point) => {
                if !self.deleted.is_empty() {
                    return false;
                }
                self.awaited.insert((&point.tenant, point.entry));
                self.points.push(point);
            }
            EntryWrite::Delete { tenant, entry } => {
                if !(self.entries.is_empty() && self.points.is_empty()) {
                    return false;
                }
                self.deleted.push((tenant, *entry));
            }
            _ => return false,
        }
        true
    }
}

impl PostgresStore {
    /// Applies all writes in order; returns what they changed, which is yet to be numbered.
    pub(in crate::store::postgres) async fn apply_all(
        &self,
        connection: &mut PgConnection,
        writes: &[EntryWrite],
    ) -> Result<Touched, StoreError> {
        let tables = self.tables_for(connection, writes).await?;
        let mut touched = Touched::default();
        let mut run = Run::default();
        // In this order: had an invalidation been obeyed between the two, what it means would be let through by both.
        let obeyed = self.obeyed.load(Ordering::Acquire);
        let withdrawn = self.withdrawn.among(writes);
        for (write, _) in writes.iter().zip(withdrawn).filter(|(_, withdrawn)| !withdrawn) {
            // A link gives an answer another prompt, by which it may be meant.
            if !matches!(
                write,
                EntryWrite::Delete { .. } | EntryWrite::DropPoint { .. } | EntryWrite::Invalidated { .. }
            ) {
                touched.stores(obeyed);
            }
            if run.takes(write) {
                continue;
            }
            self.finish(connection, &mut run, &tables, &mut touched).await?;
            if !run.takes(write) {
                self.apply_one(connection, write, &mut touched).await?;
            }
        }
        self.finish(connection, &mut run, &tables, &mut touched).await?;
        Ok(touched)
    }

    async fn finish(
        &self,
        connection: &mut PgConnection,
        run: &mut Run<'_>,
        tables: &HashMap<Space, i32>,
        touched: &mut Touched,
    ) -> Result<(), StoreError> {
        let Run { entries, points, mut deleted, .. } = std::mem::take(run);
        self.put_entries(connection, entries, touched).await?;
        self.put_points(connection, points, tables, touched).await?;
        deleted.sort_unstable();
        for chunk in deleted.chunks(MANY) {
            let delete = query(DELETE_ENTRIES)
                .bind(chunk.iter().map(|(tenant, _)| tenant.as_str()).collect::<Vec<_>>())
                .bind(chunk.iter().map(|(_, id)| id.to_bytes()).collect::<Vec<_>>());
            for (tenant, id) in self.keys(connection, delete).await? {
                touched.own(tenant, id);
            }
        }
        Ok(())
    }

    async fn put_entries(
        &self,
        connection: &mut PgConnection,
        entries: Vec<&Entry>,
        touched: &mut Touched,
    ) -> Result<(), StoreError> {
        // The first of equal entries stays. In order of key, so that two who put the same do not block each other.
        let mut entries = entries;
        entries.sort_by_key(|entry| (&entry.tenant, entry.id));
        entries.dedup_by_key(|entry| (&entry.tenant, entry.id));
        for rows in entries.chunks(MANY) {
            let tags = rows.iter().map(|entry| tags_text(&entry.tags)).collect::<Result<Vec<_>, _>>()?;
            let put = query(PUT_ENTRIES)
                .bind(column(rows, |entry| entry.tenant.as_str()))
                .bind(column(rows, |entry| entry.id.to_bytes()))
                .bind(column(rows, |entry| entry.partition))
                .bind(column(rows, |entry| escaped(&entry.namespace)))
                .bind(column(rows, |entry| escaped(&entry.dialect)))
                .bind(column(rows, |entry| escaped(&entry.model)))
                .bind(column(rows, |entry| escaped(&entry.finish)))
                .bind(column(rows, |entry| stored_or_null(entry.completion_tokens)))
                .bind(column(rows, |entry| stored_or_null(entry.token_limit)))
                .bind(column(rows, |entry| entry.writer.as_str()))
                .bind(tags)
                .bind(column(rows, |entry| stored(entry.created_at)))
                .bind(column(rows, |entry| stored(entry.expires_at)))
                .bind(column(rows, |entry| stored(entry.body.len() as u64)));
            let new: HashSet<(TenantId, EntryId)> = self.keys(connection, put).await?.into_iter().collect();
            let bodies: Vec<&Entry> =
                rows.iter().copied().filter(|entry| new.contains(&(entry.tenant.clone(), entry.id))).collect();
            self.put_bodies(connection, &bodies).await?;
            for (tenant, id) in new {
                touched.own(tenant, id);
            }
        }
        Ok(())
    }

    async fn put_bodies(&self, connection: &mut PgConnection, mut entries: &[&Entry]) -> Result<(), StoreError> {
        while !entries.is_empty() {
            let mut bytes = 0;
            let fitting = entries.iter().take_while(|entry| {
                bytes += entry.body.len();
                bytes <= MANY_BYTES
            });
            let (rows, rest) = entries.split_at(fitting.count().clamp(1, entries.len()));
            query(PUT_BODIES)
                .bind(column(rows, |entry| entry.tenant.as_str()))
                .bind(column(rows, |entry| entry.id.to_bytes()))
                .bind(column(rows, |entry| &entry.body[..]))
                .execute(&mut *connection)
                .await
                .map_err(|error| self.fault(error))?;
            entries = rest;
        }
        Ok(())
    }

    async fn put_points(
        &self,
        connection: &mut PgConnection,
        points: Vec<&Point>,
        tables: &HashMap<Space, i32>,
        touched: &mut Touched,
    ) -> Result<(), StoreError> {
        let mut points = points;
        points.sort_by_key(|point| (&point.tenant, point.entry, point.id));
        points.dedup_by_key(|point| (&point.tenant, point.entry, point.id));
        let placed: Vec<Placed<'_>> = points.into_iter().map(|point| Placed::of(point, tables)).collect();
        for rows in placed.chunks(MANY) {
            let put = query(PUT_POINTS)
                .bind(column(rows, |placed| placed.point.tenant.as_str()))
                .bind(column(rows, |placed| placed.point.entry.to_bytes()))
                .bind(column(rows, |placed| placed.point.id.to_bytes()))
                .bind(column(rows, |placed| placed.point.partition))
                .bind(column(rows, |placed| placed.point.fingerprint))
                .bind(column(rows, |placed| placed.point.normalised))
                .bind(column(rows, |placed| escaped_or_null(placed.point.space.as_deref())))
                .bind(column(rows, |placed| placed.point.writer.as_str()))
                .bind(column(rows, |placed| stored(placed.point.created_at)))
                .bind(column(rows, |placed| placed.table))
                .bind(column(rows, Placed::beside))
                .bind(column(rows, |placed| escaped_or_null(placed.point.prompt.as_deref())))
                .bind(column(rows, |placed| i32::from(placed.point.contradicts)));
            let put = put.fetch_all(&mut *connection).await.map_err(|error| self.fault(error))?;
            let mut new = HashSet::with_capacity(put.len());
            for row in &put {
                let mut cells = Cells::of("points", row);
                let (tenant, entry) = (TenantId::new(cells.take::<&str>()?), EntryId::from_bytes(cells.id()?));
                new.insert((tenant.clone(), entry, PointId::from_bytes(cells.id()?)));
                touched.own(tenant, entry);
            }
            let is_new = |point: &Point| new.contains(&(point.tenant.clone(), point.entry, point.id));
            let mut by_table: HashMap<i32, Vec<&Point>> = HashMap::new();
            for placed in rows.iter().filter(|placed| is_new(placed.point)) {
                if let Some(table) = placed.table {
                    by_table.entry(table).or_default().push(placed.point);
                }
            }
            for (table, points) in by_table {
                self.put_vectors(connection, table, &points).await?;
            }
        }
        Ok(())
    }

    async fn put_vectors(&self, connection: &mut PgConnection, table: i32, rows: &[&Point]) -> Result<(), StoreError> {
        let statement = format!(
            "INSERT INTO vectors_{table} (tenant, entry, point, partition, embedding) \
             SELECT * FROM unnest($1::text[], $2::bytea[], $3::bytea[], $4::bytea[], $5::vector[])"
        );
        let put = query(AssertSqlSafe(statement))
            .bind(column(rows, |point| point.tenant.as_str()))
            .bind(column(rows, |point| point.entry.to_bytes()))
            .bind(column(rows, |point| point.id.to_bytes()))
            .bind(column(rows, |point| point.partition))
            .bind(column(rows, |point| Vector::from(point.vector.clone().unwrap_or_default())))
            .execute(connection)
            .await;
        put.map(|_| ()).map_err(|error| self.fault(error))
    }

    async fn apply_one(
        &self,
        connection: &mut PgConnection,
        write: &EntryWrite,
        touched: &mut Touched,
    ) -> Result<(), StoreError> {
        match write {
            EntryWrite::Put { .. } | EntryWrite::AddPoint(_) | EntryWrite::Delete { .. } => Ok(()),
            EntryWrite::Invalidated { at, filter } => {
                touched.invalidated(*at, filter);
                Ok(())
            }
            EntryWrite::Link { tenant, point, from, to, contradicts, tags } => {
                let tag = of_entry(TAG_ENTRY, tenant, *to).bind(tags_text(tags)?);
                if self.change(connection, tag).await? == 0 {
                    return Ok(());
                }
                touched.moved(tenant, *to);
                touched.moved(tenant, *from);
                self.move_points(connection, tenant, (*from, *to), Some(*point)).await?;
                let note = of_entry(NOTE_CONTRADICTION, tenant, *to).bind(point.to_bytes());
                self.change(connection, note.bind(i32::from(*contradicts))).await?;
                self.change(connection, of_entry(DELETE_ENTRY_IF_EMPTY, tenant, *from)).await.map(|_| ())
            }
            EntryWrite::Merge { tenant, from, to, tags } => {
                if from == to {
                    return Ok(());
                }
                let tag = of_entry(TAG_ENTRY, tenant, *to).bind(tags_text(tags)?);
                if self.change(connection, tag).await? == 0 {
                    return Ok(());
                }
                touched.moved(tenant, *to);
                touched.moved(tenant, *from);
                self.move_points(connection, tenant, (*from, *to), None).await?;
                let ids = (vec![tenant.as_str()], vec![from.to_bytes()]);
                self.change(connection, query(DELETE_ENTRIES).bind(ids.0).bind(ids.1)).await.map(|_| ())
            }
            EntryWrite::DropPoint { tenant, entry, point } => {
                let delete = of_entry(DELETE_POINT, tenant, *entry).bind(point.to_bytes());
                let dropped = self.change(connection, delete).await?;
                let emptied = self.change(connection, of_entry(DELETE_ENTRY_IF_EMPTY, tenant, *entry)).await?;
                if dropped + emptied > 0 {
                    touched.moved(tenant, *entry);
                }
                Ok(())
            }
        }
    }

    /// Moves one point of an entry, or all, to another entry of the same tenant.
    async fn move_points(
        &self,
        connection: &mut PgConnection,
        tenant: &TenantId,
        (from, to): (EntryId, EntryId),
        point: Option<PointId>,
    ) -> Result<(), StoreError> {
        if from == to {
            return Ok(());
        }
        for statement in [GIVE_WAY, MOVE_POINTS] {
            let moving = of_entry(statement, tenant, from).bind(to.to_bytes()).bind(point.map(PointId::to_bytes));
            self.change(connection, moving).await?;
        }
        Ok(())
    }

    /// Runs one statement; returns how many rows it changed.
    async fn change(&self, connection: &mut PgConnection, statement: Statement<'_>) -> Result<u64, StoreError> {
        let done = statement.execute(connection).await.map_err(|error| self.fault(error))?;
        Ok(done.rows_affected())
    }

    /// Runs one statement that returns tenants and entries.
    async fn keys(
        &self,
        connection: &mut PgConnection,
        statement: Statement<'_>,
    ) -> Result<Vec<(TenantId, EntryId)>, StoreError> {
        let rows: Vec<PgRow> = statement.fetch_all(connection).await.map_err(|error| self.fault(error))?;
        let mut reader = super::Reader::default();
        rows.iter().map(|row| reader.key(&mut Cells::of("entries", row))).collect()
    }
}

/// A point and where its vector goes.
struct Placed<'w> {
    point: &'w Point,
    table: Option<i32>,
}

impl<'w> Placed<'w> {
    fn of(point: &'w Point, tables: &HashMap<Space, i32>) -> Self {
        Self { point, table: vector_in_space(point).and_then(|(space, _)| tables.get(&space).copied()) }
    }

    /// The vector that is kept beside the point.
    fn beside(&self) -> Option<Vec<u8>> {
        if self.table.is_some() { None } else { self.point.vector.as_deref().map(vector_bytes) }
    }
}

/// One column of many rows.
fn column<'r, R, T>(rows: &'r [R], cell: impl Fn(&'r R) -> T) -> Vec<T> {
    rows.iter().map(cell).collect()
}

/// A statement about one entry, whose first two parameters are tenant and id.
fn of_entry<'q>(statement: &'static str, tenant: &'q TenantId, entry: EntryId) -> Statement<'q> {
    query(statement).bind(tenant.as_str()).bind(entry.to_bytes())
}
