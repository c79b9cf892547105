//! How rows of entries and points become our types.

use bytes::Bytes;
use sqlx::postgres::PgRow;

use super::super::super::{Entry, EntryMeta, Found, Point, StoreError};
use super::super::cells::Cells;
use crate::ids::{EntryId, KeyId, PointId, TenantId};

/// The columns of an entry's metadata, in the order [`Reader::meta`] reads them.
macro_rules! meta_columns {
    () => {
        "e.tenant, e.id, e.partition, e.namespace, e.dialect, e.model, e.finish, e.completion_tokens, e.token_limit, \
         e.writer, e.tags, e.created_at, e.expires_at, e.body_len"
    };
}

/// The columns of a point, in the order [`Reader::point`] reads them, and then the number of the table with its vector.
macro_rules! point_columns {
    () => {
        "p.tenant, p.entry, p.id, p.partition, p.fingerprint, p.normalised, p.space, p.writer, p.created_at, \
         p.vector, p.prompt, p.contradicts, p.vectors"
    };
}

pub(in crate::store::postgres) use {meta_columns, point_columns};

/// Turns rows into our types. Neighbouring rows mostly share tenant and writer, which are then shared in memory too.
#[derive(Default)]
pub(in crate::store::postgres) struct Reader {
    tenant: Option<TenantId>,
    writer: Option<KeyId>,
}

impl Reader {
    fn tenant(&mut self, cells: &mut Cells<'_>) -> Result<TenantId, StoreError> {
        let text: &str = cells.take()?;
        match &self.tenant {
            Some(last) if last.as_str() == text => Ok(last.clone()),
            _ => Ok(self.tenant.insert(TenantId::new(text)).clone()),
        }
    }

    fn writer(&mut self, cells: &mut Cells<'_>) -> Result<KeyId, StoreError> {
        let text: &str = cells.take()?;
        match &self.writer {
            Some(last) if last.as_str() == text => Ok(last.clone()),
            _ => Ok(self.writer.insert(KeyId::new(text)).clone()),
        }
    }

    pub(in crate::store::postgres) fn key(&mut self, cells: &mut Cells<'_>) -> Result<(TenantId, EntryId), StoreError> {
        Ok((self.tenant(cells)?, EntryId::from_bytes(cells.id()?)))
    }

    pub(in crate::store::postgres) fn meta(&mut self, cells: &mut Cells<'_>) -> Result<EntryMeta, StoreError> {
        let (tenant, id) = self.key(cells)?;
        let entry = Entry {
            id,
            tenant,
            partition: cells.digest()?,
            namespace: cells.text()?.into_owned(),
            dialect: cells.word()?,
            model: cells.text()?.into_owned(),
            body: Bytes::new(),
            finish: cells.word()?,
            completion_tokens: cells.count_or_null()?,
            token_limit: cells.count_or_null()?,
            writer: self.writer(cells)?,
            tags: cells.tags()?,
            created_at: cells.count()?,
            expires_at: cells.count()?,
        };
        Ok(EntryMeta { entry, body_len: cells.count()? })
    }

    pub(super) fn entry(&mut self, row: &PgRow) -> Result<Entry, StoreError> {
        let mut cells = Cells::of("entries", row);
        let meta = self.meta(&mut cells)?;
        let body: Vec<u8> = cells.take()?;
        Ok(Entry { body: Bytes::from(body), ..meta.entry })
    }

    pub(super) fn found(&mut self, row: &PgRow) -> Result<Found, StoreError> {
        let mut cells = Cells::of("points", row);
        Ok(Found { meta: self.meta(&mut cells)?, prompt: cells.text()?.into_owned() })
    }

    /// A point, and the table with its vector if that is not beside the point.
    pub(in crate::store::postgres) fn point(
        &mut self,
        cells: &mut Cells<'_>,
    ) -> Result<(Point, Option<i32>), StoreError> {
        let (tenant, entry) = self.key(cells)?;
        let point = Point {
            tenant,
            entry,
            id: PointId::from_bytes(cells.id()?),
            partition: cells.digest()?,
            fingerprint: cells.digest()?,
            normalised: cells.digest_or_null()?,
            space: cells.text_or_null()?,
            writer: self.writer(cells)?,
            created_at: cells.count()?,
            vector: cells.vector_or_null()?,
            prompt: cells.text_or_null()?,
            contradicts: cells.small()?,
        };
        Ok((point, cells.take()?))
    }
}
