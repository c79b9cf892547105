//! The order of all changes to entries.
//!
//! Each transaction that changes entries takes its numbers at its end from the one row of `change_head`, whose lock it
//! then holds until it commits. So numbers have no gaps and are in the order of the commits, and a reader that has seen
//! number n has seen all changes up to n.
//!
//! Times of changes are those of the database, which all replicas share.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use sqlx::postgres::{PgConnection, PgListener};
use sqlx::{query, query_as, query_scalar};

use super::super::{BoxFuture, Change, ChangeStore, Feed, Seq, StoreError, What};
use super::PostgresStore;
use super::cells::{Cells, escaped, stored};
use crate::clock::UnixMs;
use crate::ids::{EntryId, PointId, TenantId};

const CHANNEL: &str = "remora_changes";

const TAKE: &str = "UPDATE change_head SET seq = seq + $1, before_invalidation = last_invalidation, \
    last_invalidation = CASE WHEN $2 THEN seq + $1 ELSE last_invalidation END RETURNING seq, before_invalidation";
/// Adds the changes and wakes the readers once the transaction commits.
const ADD: &str = "WITH added AS (INSERT INTO changes (seq, at, origin, kind, tenant, entry, filter) \
    SELECT n.seq, coalesce(n.at, (extract(epoch FROM clock_timestamp()) * 1000)::bigint), n.origin, n.kind, n.tenant, \
        n.entry, n.filter \
    FROM unnest($1::bigint[], $2::bigint[], $3::bytea[], $4::text[], $5::text[], $6::bytea[], $7::text[]) \
        AS n (seq, at, origin, kind, tenant, entry, filter)) \
    SELECT pg_notify('remora_changes', '')";
// One statement, and so one moment.
const FEED: &str = "SELECT h.seq, (SELECT min(seq) FROM changes), c.seq, c.at, c.origin, c.kind, c.tenant, c.entry, c.filter \
    FROM change_head AS h LEFT JOIN LATERAL \
        (SELECT * FROM changes WHERE seq > $1 ORDER BY seq LIMIT $2) AS c ON true ORDER BY c.seq";
const BEFORE: &str =
    "SELECT coalesce((SELECT min(seq) - 1 FROM changes WHERE at >= $1), (SELECT seq FROM change_head))";
// What is kept has no gap, so a newer change with an earlier time waits for those before it.
const FORGET: &str = "DELETE FROM changes WHERE seq IN \
    (SELECT seq FROM changes WHERE at < $1 AND \
        seq < coalesce((SELECT min(seq) FROM changes WHERE at >= $1), 9223372036854775807) ORDER BY seq LIMIT $2)";

const ENTRY: &str = "entry";
const INVALIDATED: &str = "invalidated";

/// What a transaction has changed.
#[derive(Debug, Default)]
pub(super) struct Touched {
    entries: Vec<(TenantId, EntryId, bool)>,
    places: HashMap<(TenantId, EntryId), usize>,
    invalidations: Vec<(UnixMs, String)>,
    /// How far this replica had read when the first of it was stored.
    stores: Option<Seq>,
}

impl Touched {
    /// An entry as this replica knows it already.
    pub(super) fn own(&mut self, tenant: TenantId, entry: EntryId) {
        self.entry(tenant, entry, true);
    }

    /// An entry that every replica must read again, this one included.
    pub(super) fn moved(&mut self, tenant: &TenantId, entry: EntryId) {
        self.entry(tenant.clone(), entry, false);
    }

    fn entry(&mut self, tenant: TenantId, entry: EntryId, own: bool) {
        let place = *self.places.entry((tenant.clone(), entry)).or_insert(self.entries.len());
        match self.entries.get_mut(place) {
            Some((_, _, known)) => *known &= own,
            None => self.entries.push((tenant, entry, own)),
        }
    }

    pub(super) fn invalidated(&mut self, at: UnixMs, filter: &str) {
        self.invalidations.push((at, filter.to_owned()));
    }

    /// Something that an invalidation after `obeyed` may mean is being stored.
    pub(super) fn stores(&mut self, obeyed: Seq) {
        self.stores = Some(obeyed);
    }
}

impl ChangeStore for PostgresStore {
    fn feed(&self, after: Seq, limit: u32) -> BoxFuture<'_, Feed> {
        Box::pin(async move {
            let rows = query(FEED)
                .bind(stored(after))
                .bind(i64::from(limit))
                .fetch_all(&self.readers)
                .await
                .map_err(|error| self.fault(error))?;
            let mut feed = Feed::default();
            for row in &rows {
                let mut cells = Cells::of("changes", row);
                feed.head = cells.count()?;
                feed.oldest = cells.count_or_null()?.unwrap_or(feed.head + 1);
                if let Some(seq) = cells.count_or_null()? {
                    feed.changes.push(self.read_change(seq, cells)?);
                }
            }
            Ok(feed)
        })
    }

    fn before(&self, at: UnixMs) -> BoxFuture<'_, Seq> {
        Box::pin(async move {
            let seq: i64 = query_scalar(BEFORE)
                .bind(stored(at))
                .fetch_one(&self.readers)
                .await
                .map_err(|error| self.fault(error))?;
            Ok(seq.unsigned_abs())
        })
    }

    fn changed(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let mut slot = self.listener.lock().await;
            let Some(listener) = slot.as_mut() else {
                // What was told while nobody listened is lost, so there may be something to read now.
                *slot = Some(self.listen().await?);
                return Ok(());
            };
            let heard = listener.try_recv().await;
            if let Ok(Some(_)) = heard {
                while listener.next_buffered().is_some() {}
                return Ok(());
            }
            // Lost; the next call connects anew.
            *slot = None;
            match heard {
                Err(error) => Err(self.fault(error)),
                Ok(_) => Err(StoreError::Unreachable {
                    place: self.server.place.clone(),
                    detail: "the connection for notifications was lost".into(),
                }),
            }
        })
    }

    fn obeyed(&self, seq: Seq) {
        self.obeyed.store(seq, Ordering::Release);
    }

    fn withdraw(&self, entries: &[EntryId], points: &[PointId]) {
        self.withdrawn.add(entries, points);
    }

    fn forget_changes(&self, before: UnixMs, limit: u32) -> BoxFuture<'_, u64> {
        Box::pin(async move {
            let forgotten = query(FORGET)
                .bind(stored(before))
                .bind(i64::from(limit))
                .execute(&self.writer)
                .await
                .map_err(|error| self.pool_fault(&self.writer, error))?;
            Ok(forgotten.rows_affected())
        })
    }
}

impl PostgresStore {
    /// Gives what the transaction has changed its numbers. Must be the last thing before it commits, because all other
    /// writers wait from here on.
    pub(super) async fn number(&self, connection: &mut PgConnection, touched: &Touched) -> Result<(), StoreError> {
        let count = touched.entries.len() + touched.invalidations.len();
        if count == 0 {
            return Ok(());
        }
        let (head, invalidated): (i64, i64) = query_as(TAKE)
            .bind(stored(count as u64))
            .bind(!touched.invalidations.is_empty())
            .fetch_one(&mut *connection)
            .await
            .map_err(|error| self.fault(error))?;
        if touched.stores.is_some_and(|obeyed| invalidated.unsigned_abs() > obeyed) {
            return Err(StoreError::Behind);
        }
        let (entries, told) = (&touched.entries, &touched.invalidations);
        // Invalidations come last, so that the number of the latest is the head.
        let first = head - stored(count as u64) + 1;
        let kind = entries.iter().map(|_| ENTRY).chain(told.iter().map(|_| INVALIDATED));
        let at = entries.iter().map(|_| None).chain(told.iter().map(|(at, _)| Some(stored(*at))));
        let own = Some(self.replica);
        let origin = entries.iter().map(|(_, _, known)| own.filter(|_| *known)).chain(told.iter().map(|_| own));
        let tenant = entries.iter().map(|(tenant, _, _)| Some(tenant.as_str())).chain(told.iter().map(|_| None));
        let entry = entries.iter().map(|(_, entry, _)| Some(entry.to_bytes())).chain(told.iter().map(|_| None));
        let filter = entries.iter().map(|_| None).chain(told.iter().map(|(_, filter)| Some(escaped(filter))));
        let added = query(ADD)
            .bind((first..=head).collect::<Vec<_>>())
            .bind(at.collect::<Vec<_>>())
            .bind(origin.collect::<Vec<_>>())
            .bind(kind.collect::<Vec<_>>())
            .bind(tenant.collect::<Vec<_>>())
            .bind(entry.collect::<Vec<_>>())
            .bind(filter.collect::<Vec<_>>())
            .execute(connection)
            .await;
        added.map(|_| ()).map_err(|error| self.fault(error))
    }

    fn read_change(&self, seq: Seq, mut cells: Cells<'_>) -> Result<Change, StoreError> {
        let at = cells.count()?;
        let own = cells.id_or_null()? == Some(self.replica);
        let kind: &str = cells.take()?;
        let what = match kind {
            ENTRY => {
                What::Entry { tenant: TenantId::new(cells.take::<&str>()?), entry: EntryId::from_bytes(cells.id()?) }
            }
            INVALIDATED => {
                let (_tenant, _entry): (Option<&str>, _) = (cells.take()?, cells.id_or_null()?);
                What::Invalidated { at, filter: cells.string()? }
            }
            other => return Err(cells.bad(&format!("unknown kind {other}"))),
        };
        Ok(Change { seq, at, own, what })
    }

    async fn listen(&self) -> Result<PgListener, StoreError> {
        let mut listener = PgListener::connect_with(&self.listeners).await.map_err(|error| self.fault(error))?;
        listener.listen(CHANNEL).await.map_err(|error| self.fault(error))?;
        Ok(listener)
    }
}
