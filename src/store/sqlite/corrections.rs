//! Corrections of what ledger rows say of money, beside the ledger.

use sqlx::query;
use sqlx::sqlite::SqliteConnection;

use super::super::corrections::{self, Corrected, corrected};
use super::super::read::{self, correction_columns};
use super::super::rollup::Deltas;
use super::super::usage::ids_between;
use super::super::{Correction, LedgerRow, Rated, StoreError};
use super::SqliteStore;
use super::cells::{ids_text, stored};
use super::ledger::{OF_IDS, RATED_ALL, RATED_TENANT};
use crate::clock::UnixMs;
use crate::ids::{RequestId, TenantId};

const ADD: &str =
    concat!("INSERT INTO corrections (", correction_columns!(), ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)");
const OF: &str = concat!(
    "SELECT ",
    correction_columns!(),
    " FROM corrections WHERE request IN (SELECT unhex(value) FROM json_each(?1)) ORDER BY request, at"
);
// No id sorts before the empty blob.
const PAGE: &str = concat!(
    "SELECT ",
    correction_columns!(),
    " FROM corrections WHERE (request, at) > (?1, ?2) ORDER BY request, at LIMIT ?3"
);
/// Corrections whose rows are looked up together.
const MANY: usize = 500;

impl SqliteStore {
    pub(super) async fn correct_all(&self, asked: &[Correction]) -> Result<u64, StoreError> {
        let mut transaction = self.begin_write().await?;
        let (mut made, mut deltas) = (0, Deltas::default());
        for chunk in asked.chunks(MANY) {
            let ids = ids_text(chunk.iter().map(|correction| correction.request));
            let rows = self.rows_of(&mut transaction, query(OF_IDS).bind(ids)).await?;
            let rows = self.with_corrections(&mut transaction, rows).await?;
            for correction in corrections::made(rows, chunk, &mut deltas, &self.caps) {
                self.add_correction(&mut transaction, &correction).await?;
                made += 1;
            }
        }
        self.add_deltas(&mut transaction, &deltas).await?;
        self.commit(transaction).await?;
        Ok(made)
    }

    async fn add_correction(
        &self,
        connection: &mut SqliteConnection,
        correction: &Correction,
    ) -> Result<(), StoreError> {
        let mut insert = query(ADD)
            .bind(correction.request.to_bytes().to_vec())
            .bind(stored(correction.at))
            .bind(stored(correction.started_at));
        for rated in [&correction.before, &correction.after] {
            for money in [rated.cost, rated.embedding, rated.saved_gross, rated.saved_net] {
                insert = insert.bind(money);
            }
            insert = insert.bind(rated.price_version.as_deref());
        }
        insert.execute(connection).await.map(|_| ()).map_err(|error| self.fault(error))
    }

    /// These rows, each with its corrections, oldest first.
    async fn with_corrections(
        &self,
        connection: &mut SqliteConnection,
        rows: Vec<LedgerRow>,
    ) -> Result<Vec<Corrected>, StoreError> {
        let ids = ids_text(rows.iter().map(|row| row.request));
        let found = query(OF).bind(ids).fetch_all(connection).await.map_err(|error| self.fault(error))?;
        let all = found.iter().map(read::correction).collect::<Result<_, _>>()?;
        Ok(corrected(rows, all))
    }

    pub(super) async fn corrections_of(&self, request: RequestId) -> Result<Vec<Correction>, StoreError> {
        let ids = ids_text(std::iter::once(request));
        let found = query(OF).bind(ids).fetch_all(&self.readers).await.map_err(|error| self.fault(error))?;
        found.iter().map(read::correction).collect()
    }

    pub(super) async fn corrections_after(
        &self,
        after: Option<(RequestId, UnixMs)>,
        limit: u32,
    ) -> Result<Vec<Correction>, StoreError> {
        let (request, at) = after.map_or((Vec::new(), 0), |(request, at)| (request.to_bytes().to_vec(), stored(at)));
        let page = query(PAGE).bind(request).bind(at).bind(limit);
        let found = page.fetch_all(&self.readers).await.map_err(|error| self.fault(error))?;
        found.iter().map(read::correction).collect()
    }

    pub(super) async fn rated(
        &self,
        tenant: Option<&TenantId>,
        since: UnixMs,
        until: UnixMs,
        after: Option<RequestId>,
        limit: u32,
    ) -> Result<Vec<(LedgerRow, Rated)>, StoreError> {
        let mut transaction = self.begin_read().await?;
        let (first, last) = ids_between(since, until);
        let after = after.map_or(first.clone(), |id| id.to_bytes().to_vec().max(first));
        let mut page = query(if tenant.is_some() { RATED_TENANT } else { RATED_ALL });
        page = page.bind(after).bind(stored(since)).bind(stored(until)).bind(limit).bind(last);
        if let Some(tenant) = tenant {
            page = page.bind(tenant.as_str());
        }
        let rows = self.rows_of(&mut transaction, page).await?;
        let with = self.with_corrections(&mut transaction, rows).await?;
        Ok(with.into_iter().map(corrections::rated).collect())
    }
}
