//! Alerts and their deliveries.

use sqlx::query;
use sqlx::sqlite::SqliteRow;

use super::super::{AlertRow, AlertStore, BoxFuture, DeliveryRow, StoreError, Tried, read};
use super::SqliteStore;
use super::cells::{Cells, stored, stored_or_null};
use crate::clock::UnixMs;
use crate::ids::TenantId;

macro_rules! alert_columns {
    () => {
        "a.id, a.at, a.tenant, a.kind, a.title, a.payload"
    };
}

macro_rules! delivery_columns {
    () => {
        "d.alert, d.channel, d.state, d.attempts, d.next_at, d.error, d.sent_at"
    };
}

const RAISE: &str = "INSERT INTO alerts (id, at, tenant, kind, title, payload) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
    ON CONFLICT (id) DO NOTHING";
const DELIVER: &str = "INSERT INTO alert_deliveries (alert, channel, state, attempts, next_at) \
    VALUES (?1, ?2, 'pending', 0, ?3) ON CONFLICT (alert, channel) DO NOTHING";
pub(super) const DUE: &str = concat!(
    "SELECT ",
    alert_columns!(),
    ", ",
    delivery_columns!(),
    " FROM alert_deliveries AS d JOIN alerts AS a ON a.id = d.alert \
     WHERE d.state = 'pending' AND d.channel = ?3 AND d.next_at <= ?1 ORDER BY d.next_at LIMIT ?2"
);
const CLAIM: &str = "UPDATE alert_deliveries SET next_at = ?3, attempts = ?4 WHERE alert = ?1 AND channel = ?2";
const SENT: &str = "UPDATE alert_deliveries SET state = 'sent', sent_at = ?3, error = NULL \
    WHERE alert = ?1 AND channel = ?2 AND state <> 'sent'";
// What has been sent stays sent, whatever a slower one says of its own try.
const LATER: &str = "UPDATE alert_deliveries SET next_at = ?3, error = ?4 \
    WHERE alert = ?1 AND channel = ?2 AND state = 'pending'";
const FAILED: &str = "UPDATE alert_deliveries SET state = 'failed', error = ?3 \
    WHERE alert = ?1 AND channel = ?2 AND state = 'pending'";
const LIST: &str = concat!(
    "SELECT ",
    alert_columns!(),
    " FROM alerts AS a WHERE (?1 IS NULL OR a.tenant = ?1) AND (?2 IS NULL OR a.at < ?2) \
     ORDER BY a.at DESC, a.id DESC LIMIT ?3"
);
const DELIVERIES: &str =
    concat!("SELECT ", delivery_columns!(), " FROM alert_deliveries AS d WHERE d.alert = ?1 ORDER BY d.channel");
const DEPTH: &str =
    "SELECT channel, count(*) FROM alert_deliveries WHERE state = 'pending' GROUP BY channel ORDER BY channel";
// The deliveries go with it, by foreign key.
const FORGET: &str = "DELETE FROM alerts WHERE id IN (SELECT a.id FROM alerts AS a WHERE a.at < ?1 \
    AND NOT EXISTS (SELECT 1 FROM alert_deliveries AS d WHERE d.alert = a.id AND d.state = 'pending') \
    ORDER BY a.at LIMIT ?2)";

impl AlertStore for SqliteStore {
    fn raise<'a>(&'a self, alert: &'a AlertRow, channels: &'a [String]) -> BoxFuture<'a, bool> {
        Box::pin(async move {
            let mut transaction = self.begin_write().await?;
            let raised = query(RAISE)
                .bind(&alert.id)
                .bind(stored(alert.at))
                .bind(alert.tenant.as_ref().map(TenantId::as_str))
                .bind(&alert.kind)
                .bind(&alert.title)
                .bind(&alert.payload)
                .execute(&mut *transaction)
                .await
                .map_err(|error| self.fault(error))?;
            if raised.rows_affected() == 0 {
                return Ok(false);
            }
            for channel in channels {
                let put = query(DELIVER).bind(&alert.id).bind(channel).bind(stored(alert.at));
                put.execute(&mut *transaction).await.map_err(|error| self.fault(error))?;
            }
            self.commit(transaction).await?;
            Ok(true)
        })
    }

    fn claim<'a>(
        &'a self,
        channel: &'a str,
        now: UnixMs,
        until: UnixMs,
        limit: u32,
    ) -> BoxFuture<'a, Vec<(AlertRow, DeliveryRow)>> {
        Box::pin(async move {
            let mut transaction = self.begin_write().await?;
            let rows = query(DUE).bind(stored(now)).bind(limit).bind(channel).fetch_all(&mut *transaction).await;
            let rows = rows.map_err(|error| self.fault(error))?;
            let mut claimed = Vec::with_capacity(rows.len());
            for row in &rows {
                let mut cells = Cells::of("alert_deliveries", row);
                let (alert, mut delivery) = (read::alert(&mut cells)?, read_delivery(&mut cells)?);
                delivery.attempts = delivery.attempts.saturating_add(1);
                delivery.next_at = until;
                query(CLAIM)
                    .bind(&delivery.alert)
                    .bind(&delivery.channel)
                    .bind(stored(until))
                    .bind(delivery.attempts)
                    .execute(&mut *transaction)
                    .await
                    .map_err(|error| self.fault(error))?;
                claimed.push((alert, delivery));
            }
            self.commit(transaction).await?;
            Ok(claimed)
        })
    }

    fn tried<'a>(&'a self, alert: &'a str, channel: &'a str, tried: &'a Tried, now: UnixMs) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let statement = match tried {
                Tried::Sent => query(SENT).bind(alert).bind(channel).bind(stored(now)),
                Tried::Later(at, why) => query(LATER).bind(alert).bind(channel).bind(stored(*at)).bind(why),
                Tried::Failed(why) => query(FAILED).bind(alert).bind(channel).bind(why),
            };
            statement.execute(&self.writer).await.map(|_| ()).map_err(|error| self.fault(error))
        })
    }

    fn alerts<'a>(
        &'a self,
        tenant: Option<&'a TenantId>,
        before: Option<UnixMs>,
        limit: u32,
    ) -> BoxFuture<'a, Vec<(AlertRow, Vec<DeliveryRow>)>> {
        Box::pin(async move {
            let mut snapshot = self.begin_read().await?;
            let rows = query(LIST)
                .bind(tenant.map(TenantId::as_str))
                .bind(stored_or_null(before))
                .bind(limit)
                .fetch_all(&mut *snapshot)
                .await
                .map_err(|error| self.fault(error))?;
            let mut listed = Vec::with_capacity(rows.len());
            for row in &rows {
                let alert = read::alert(&mut Cells::of("alerts", row))?;
                let deliveries = query(DELIVERIES).bind(&alert.id).fetch_all(&mut *snapshot).await;
                let deliveries: Vec<SqliteRow> = deliveries.map_err(|error| self.fault(error))?;
                let read = |row| read_delivery(&mut Cells::of("alert_deliveries", row));
                listed.push((alert, deliveries.iter().map(read).collect::<Result<_, _>>()?));
            }
            Ok(listed)
        })
    }

    fn outbox_depth(&self) -> BoxFuture<'_, Vec<(String, u64)>> {
        Box::pin(async move {
            let rows = query(DEPTH).fetch_all(&self.readers).await.map_err(|error| self.fault(error))?;
            let read = |row| {
                let mut cells = Cells::of("alert_deliveries", row);
                Ok((cells.take()?, cells.count()?))
            };
            rows.iter().map(read).collect()
        })
    }

    fn forget_alerts(&self, before: UnixMs, limit: u32) -> BoxFuture<'_, u64> {
        Box::pin(async move {
            let gone = query(FORGET).bind(stored(before)).bind(limit).execute(&self.writer).await;
            gone.map(|done| done.rows_affected()).map_err(|error| self.fault(error))
        })
    }
}

fn read_delivery(cells: &mut Cells<'_>) -> Result<DeliveryRow, StoreError> {
    Ok(DeliveryRow {
        alert: cells.take()?,
        channel: cells.take()?,
        state: cells.take()?,
        attempts: cells.take()?,
        next_at: cells.count()?,
        error: cells.take()?,
        sent_at: cells.count_or_null()?,
    })
}
