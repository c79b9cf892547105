//! Entries with their points, and decisions about them.

use bytes::Bytes;

use super::super::{DecisionRow, Entry, EntryMeta, Found, Point, StoreError};
use super::cells::{Cells, StoredRow};
use crate::ids::{EntryId, KeyId, PointId, RequestId, TenantId};

/// The columns of an entry's metadata, in the order [`Reader::meta`] reads them.
macro_rules! meta_columns {
    () => {
        "e.tenant, e.id, e.partition, e.namespace, e.dialect, e.model, e.finish, e.completion_tokens, e.token_limit, \
         e.writer, e.tags, e.created_at, e.expires_at, e.body_len"
    };
}

/// The columns of a point, in the order [`Reader::point`] reads them.
macro_rules! point_columns {
    () => {
        "p.tenant, p.entry, p.id, p.partition, p.fingerprint, p.normalised, p.space, p.writer, p.created_at, \
         p.vector, p.prompt, p.contradicts"
    };
}

/// Turns rows into our types. Neighbouring rows mostly share tenant and writer, which are then shared in memory too.
#[derive(Default)]
pub(in crate::store) struct Reader {
    tenant: Option<TenantId>,
    writer: Option<KeyId>,
}

impl Reader {
    fn tenant<'r>(&mut self, cells: &mut Cells<'r, impl StoredRow<'r>>) -> Result<TenantId, StoreError> {
        let text: &str = cells.take()?;
        match &self.tenant {
            Some(last) if last.as_str() == text => Ok(last.clone()),
            _ => Ok(self.tenant.insert(TenantId::new(text)).clone()),
        }
    }

    fn writer<'r>(&mut self, cells: &mut Cells<'r, impl StoredRow<'r>>) -> Result<KeyId, StoreError> {
        let text: &str = cells.take()?;
        match &self.writer {
            Some(last) if last.as_str() == text => Ok(last.clone()),
            _ => Ok(self.writer.insert(KeyId::new(text)).clone()),
        }
    }

    pub(in crate::store) fn key<'r>(
        &mut self,
        cells: &mut Cells<'r, impl StoredRow<'r>>,
    ) -> Result<(TenantId, EntryId), StoreError> {
        Ok((self.tenant(cells)?, EntryId::from_bytes(cells.id()?)))
    }

    pub(in crate::store) fn meta<'r>(
        &mut self,
        cells: &mut Cells<'r, impl StoredRow<'r>>,
    ) -> Result<EntryMeta, StoreError> {
        let (tenant, id) = self.key(cells)?;
        let entry = Entry {
            id,
            tenant,
            partition: cells.digest()?,
            namespace: cells.string()?,
            dialect: cells.word()?,
            model: cells.string()?,
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

    pub(in crate::store) fn entry<'r>(&mut self, row: &'r impl StoredRow<'r>) -> Result<Entry, StoreError> {
        let mut cells = Cells::of("entries", row);
        let meta = self.meta(&mut cells)?;
        let body: Vec<u8> = cells.take()?;
        Ok(Entry { body: Bytes::from(body), ..meta.entry })
    }

    pub(in crate::store) fn found<'r>(&mut self, row: &'r impl StoredRow<'r>) -> Result<Found, StoreError> {
        let mut cells = Cells::of("points", row);
        Ok(Found { meta: self.meta(&mut cells)?, prompt: cells.string()? })
    }

    pub(in crate::store) fn point<'r>(
        &mut self,
        cells: &mut Cells<'r, impl StoredRow<'r>>,
    ) -> Result<Point, StoreError> {
        let (tenant, entry) = self.key(cells)?;
        Ok(Point {
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
        })
    }
}

/// The columns of a decision, in the order in which they are written and read.
macro_rules! decision_columns {
    () => {
        "request, at, tenant, key, model, partition, mode, verdict, would_serve, entry, point, cosine, probability, \
         theta, inputs, \"right\", label, tokens, prompt"
    };
}

pub(in crate::store) fn decision<'r>(row: &'r impl StoredRow<'r>) -> Result<DecisionRow, StoreError> {
    let mut cells = Cells::of("decisions", row);
    Ok(DecisionRow {
        request: RequestId::from_bytes(cells.id()?),
        at: cells.count()?,
        tenant: TenantId::new(cells.take::<&str>()?),
        key: KeyId::new(cells.take::<&str>()?),
        model: cells.string()?,
        partition: cells.digest()?,
        mode: cells.word()?,
        verdict: cells.word()?,
        would_serve: cells.take()?,
        entry: cells.id_or_null()?.map(EntryId::from_bytes),
        point: cells.id_or_null()?.map(PointId::from_bytes),
        cosine: cells.take()?,
        probability: cells.take()?,
        theta: cells.take()?,
        inputs: cells.vector_or_null()?.unwrap_or_default(),
        right: cells.take()?,
        label: cells.word_or_null()?,
        tokens: cells.count_or_null()?,
        prompt: cells.text_or_null()?,
    })
}

pub(in crate::store) use {decision_columns, meta_columns, point_columns};
