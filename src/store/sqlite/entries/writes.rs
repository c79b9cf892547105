//! The statements that change entries and points. Each changes nothing when it is run again.

use sqlx::query;
use sqlx::sqlite::SqliteConnection;

use super::super::super::{Entry, EntryWrite, Point, StoreError};
use super::super::SqliteStore;
use super::super::cells::{stored, stored_or_null, tags_text, vector_bytes};

const PUT_ENTRY: &str = "INSERT INTO entries (tenant, id, partition, namespace, dialect, model, finish, completion_tokens, token_limit, \
     writer, tags, created_at, expires_at, body_len) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14) ON CONFLICT DO NOTHING";
const PUT_BODY: &str = "INSERT INTO bodies (tenant, entry, body) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
// A point whose entry was deleted meanwhile must not fail the batch it is in.
const PUT_POINT: &str = "INSERT INTO points (tenant, entry, id, partition, fingerprint, normalised, space, writer, created_at, vector, \
     prompt) \
     SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11 \
     WHERE EXISTS (SELECT 1 FROM entries WHERE tenant = ?1 AND id = ?2) ON CONFLICT DO NOTHING";
// The body and the points go with it, by foreign key.
const DELETE_ENTRY: &str = "DELETE FROM entries WHERE tenant = ?1 AND id = ?2";

impl SqliteStore {
    pub(in crate::store::sqlite) async fn apply_one(
        &self,
        connection: &mut SqliteConnection,
        write: &EntryWrite,
    ) -> Result<(), StoreError> {
        match write {
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
                let delete = query(DELETE_ENTRY).bind(tenant.as_str()).bind(&entry.to_bytes()[..]);
                delete.execute(connection).await.map(|_| ()).map_err(|error| self.fault(error))
            }
        }
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
            .execute(connection)
            .await
            .map(|_| ())
            .map_err(|error| self.fault(error))
    }
}
