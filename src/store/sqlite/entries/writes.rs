//! The statements that change entries and points. Each changes nothing when it is run again.

use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnection};
use sqlx::{Sqlite, query};

use super::super::super::{Entry, EntryWrite, Point, StoreError};
use super::super::SqliteStore;
use super::super::cells::{stored, stored_or_null, tags_text, vector_bytes};
use crate::ids::{EntryId, TenantId};

const PUT_ENTRY: &str = "INSERT INTO entries (tenant, id, partition, namespace, dialect, model, finish, completion_tokens, token_limit, \
     writer, tags, created_at, expires_at, body_len) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14) ON CONFLICT DO NOTHING";
const PUT_BODY: &str = "INSERT INTO bodies (tenant, entry, body) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
// A point whose entry was deleted meanwhile must not fail the batch it is in.
const PUT_POINT: &str = "INSERT INTO points (tenant, entry, id, partition, fingerprint, normalised, space, writer, created_at, vector, \
     prompt, contradicts) \
     SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12 \
     WHERE EXISTS (SELECT 1 FROM entries WHERE tenant = ?1 AND id = ?2) ON CONFLICT DO NOTHING";
// The body and the points go with it, by foreign key.
const DELETE_ENTRY: &str = "DELETE FROM entries WHERE tenant = ?1 AND id = ?2";
const DELETE_ENTRY_IF_EMPTY: &str = "DELETE FROM entries WHERE tenant = ?1 AND id = ?2 \
    AND NOT EXISTS (SELECT 1 FROM points WHERE tenant = ?1 AND entry = ?2)";
const TAG_ENTRY: &str = "UPDATE entries SET tags = ?3 WHERE tenant = ?1 AND id = ?2";
// A batch that puts an entry and moves its point on makes the point anew when it is written again; the point moved
// before then gives way to its equal.
const MOVE_POINT: &str = "UPDATE OR REPLACE points SET entry = ?3 WHERE tenant = ?1 AND entry = ?2 AND id = ?4";
const MOVE_POINTS: &str = "UPDATE OR REPLACE points SET entry = ?3 WHERE tenant = ?1 AND entry = ?2";
const NOTE_CONTRADICTION: &str = "UPDATE points SET contradicts = ?4 WHERE tenant = ?1 AND entry = ?2 AND id = ?3";
const DELETE_POINT: &str = "DELETE FROM points WHERE tenant = ?1 AND entry = ?2 AND id = ?3";

impl SqliteStore {
    pub(in crate::store::sqlite) async fn apply_one(
        &self,
        connection: &mut SqliteConnection,
        write: &EntryWrite,
    ) -> Result<(), StoreError> {
        match write {
            // Nobody shares the file.
            EntryWrite::Invalidated { .. } => Ok(()),
            EntryWrite::Put { entry, points } => {
                self.put_entry(connection, entry).await?;
                // A point of another entry or tenant is a slip of the caller's, and must not lead to an answer.
                for point in points.iter().filter(|point| point.entry == entry.id && point.tenant == entry.tenant) {
                    self.put_point(connection, point).await?;
                }
                Ok(())
            }
            EntryWrite::AddPoint(point) => self.put_point(connection, point).await,
            EntryWrite::Delete { tenant, entry } => {
                self.change(connection, of_entry(DELETE_ENTRY, tenant, *entry)).await.map(|_| ())
            }
            EntryWrite::Link { tenant, point, from, to, contradicts, tags } => {
                let tag = of_entry(TAG_ENTRY, tenant, *to).bind(tags_text(tags)?);
                if self.change(connection, tag).await? == 0 {
                    return Ok(());
                }
                let moving = of_entry(MOVE_POINT, tenant, *from).bind(to.to_bytes().to_vec());
                self.change(connection, moving.bind(point.to_bytes().to_vec())).await?;
                let note = of_entry(NOTE_CONTRADICTION, tenant, *to).bind(point.to_bytes().to_vec());
                self.change(connection, note.bind(contradicts)).await?;
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
                let moving = of_entry(MOVE_POINTS, tenant, *from).bind(to.to_bytes().to_vec());
                self.change(connection, moving).await?;
                self.change(connection, of_entry(DELETE_ENTRY, tenant, *from)).await.map(|_| ())
            }
            EntryWrite::DropPoint { tenant, entry, point } => {
                let delete = of_entry(DELETE_POINT, tenant, *entry).bind(point.to_bytes().to_vec());
                self.change(connection, delete).await?;
                self.change(connection, of_entry(DELETE_ENTRY_IF_EMPTY, tenant, *entry)).await.map(|_| ())
            }
        }
    }

    /// Runs one statement; returns how many rows it changed.
    async fn change(
        &self,
        connection: &mut SqliteConnection,
        statement: Query<'_, Sqlite, SqliteArguments>,
    ) -> Result<u64, StoreError> {
        let done = statement.execute(connection).await.map_err(|error| self.fault(error))?;
        Ok(done.rows_affected())
    }

    async fn put_entry(&self, connection: &mut SqliteConnection, entry: &Entry) -> Result<(), StoreError> {
        let id = entry.id.to_bytes();
        let put = query(PUT_ENTRY)
            .bind(entry.tenant.as_str())
            .bind(&id[..])
            .bind(&entry.partition[..])
            .bind(&entry.namespace)
            .bind(&*entry.dialect)
            .bind(&entry.model)
            .bind(&*entry.finish)
            .bind(stored_or_null(entry.completion_tokens))
            .bind(stored_or_null(entry.token_limit))
            .bind(entry.writer.as_str())
            .bind(tags_text(&entry.tags)?)
            .bind(stored(entry.created_at))
            .bind(stored(entry.expires_at))
            .bind(stored(entry.body.len() as u64))
            .execute(&mut *connection)
            .await
            .map_err(|error| self.fault(error))?;
        if put.rows_affected() == 0 {
            return Ok(());
        }
        let put = query(PUT_BODY).bind(entry.tenant.as_str()).bind(&id[..]).bind(&entry.body[..]);
        put.execute(connection).await.map(|_| ()).map_err(|error| self.fault(error))
    }

    async fn put_point(&self, connection: &mut SqliteConnection, point: &Point) -> Result<(), StoreError> {
        query(PUT_POINT)
            .bind(point.tenant.as_str())
            .bind(&point.entry.to_bytes()[..])
            .bind(&point.id.to_bytes()[..])
            .bind(&point.partition[..])
            .bind(&point.fingerprint[..])
            .bind(point.normalised.as_ref().map(|digest| &digest[..]))
            .bind(point.space.as_deref())
            .bind(point.writer.as_str())
            .bind(stored(point.created_at))
            .bind(point.vector.as_deref().map(vector_bytes))
            .bind(point.prompt.as_deref())
            .bind(point.contradicts)
            .execute(connection)
            .await
            .map(|_| ())
            .map_err(|error| self.fault(error))
    }
}

/// A statement about one entry, whose first two parameters are tenant and id.
pub(super) fn of_entry<'q>(
    statement: &'static str,
    tenant: &'q TenantId,
    entry: EntryId,
) -> Query<'q, Sqlite, SqliteArguments> {
    query(statement).bind(tenant.as_str()).bind(entry.to_bytes().to_vec())
}
