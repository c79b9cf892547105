//! Alerts and their deliveries.

use std::collections::HashMap;

use sqlx::{Row, query};

use super::super::{AlertRow, AlertStore, BoxFuture, DeliveryRow, StoreError, Tried, read};
use super::PostgresStore;
use super::cells::{Cells, escaped, stored, stored_or_null};
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

const RAISE: &str = "INSERT INTO alerts (id, at, tenant, kind, title, payload) VALUES ($1, $2, $3, $4, $5, $6) \
    ON CONFLICT (id) DO NOTHING";
const DELIVER: &str = "INSERT INTO alert_deliveries (alert, channel, state, attempts, next_at) \
    SELECT $1, channel, 'pending', 0, $3 FROM unnest($2::text[]) AS channel ON CONFLICT (alert, channel) DO NOTHING";
// What another replica is just claiming is left to it.
const CLAIM: &str = concat!(
    "WITH due AS (SELECT alert, channel, next_at FROM alert_deliveries WHERE state = 'pending' \
         AND channel = $4 AND next_at <= $1 ORDER BY next_at LIMIT $3 FOR UPDATE SKIP LOCKED), \
     claimed AS (UPDATE alert_deliveries AS d SET next_at = $2, attempts = d.attempts + 1 FROM due \
         WHERE d.alert = due.alert AND d.channel = due.channel RETURNING ",
    delivery_columns!(),
    ", due.next_at AS since) SELECT ",
    alert_columns!(),
    ", ",
    delivery_columns!(),
    " FROM claimed AS d JOIN alerts AS a ON a.id = d.alert ORDER BY d.since"
);
const SENT: &str = "UPDATE alert_deliveries SET state = 'sent', sent_at = $3, error = NULL \
    WHERE alert = $1 AND channel = $2 AND state <> 'sent'";
// What has been sent stays sent, whatever a slower one says of its own try.
const LATER: &str = "UPDATE alert_deliveries SET next_at = $3, error = $4 \
    WHERE alert = $1 AND channel = $2 AND state = 'pending'";
const FAILED: &str = "UPDATE alert_deliveries SET state = 'failed', error = $3 \
    WHERE alert = $1 AND channel = $2 AND state = 'pending'";
const LIST: &str = concat!(
    "SELECT ",
    alert_columns!(),
    " FROM alerts AS a WHERE ($1::text IS NULL OR a.tenant = $1) AND ($2::bigint IS NULL OR a.at < $2) \
     ORDER BY a.at DESC, a.id DESC LIMIT $3"
);
const DELIVERIES: &str = concat!(
    "SELECT ",
    delivery_columns!(),
    " FROM alert_deliveries AS d WHERE d.alert = ANY ($1) ORDER BY d.alert, d.channel"
);
const DEPTH: &str =
    "SELECT channel, count(*) FROM alert_deliveries WHERE state = 'pending' GROUP BY channel ORDER BY channel";
// The deliveries go with it, by foreign key.
const FORGET: &str = "DELETE FROM alerts WHERE id IN (SELECT a.id FROM alerts AS a WHERE a.at < $1 \
    AND NOT EXISTS (SELECT 1 FROM alert_deliveries AS d WHERE d.alert = a.id AND d.state = 'pending') \
    ORDER BY a.at LIMIT $2)";

impl AlertStore for PostgresStore {
    fn raise<'a>(&'a self, alert: &'a AlertRow, channels: &'a [String]) -> BoxFuture<'a, bool> {
        Box::pin(async move {
            let mut transaction = self.begin_write().await?;
            let raised = query(RAISE)
                .bind(escaped(&alert.id))
                .bind(stored(alert.at))
                .bind(alert.tenant.as_ref().map(TenantId::as_str))
                .bind(escaped(&alert.kind))
                .bind(escaped(&alert.title))
                .bind(escaped(&alert.payload))
                .execute(&mut *transaction)
                .await
                .map_err(|error| self.fault(error))?;
            if raised.rows_affected() == 0 {
                return Ok(false);
            }
            let put = query(DELIVER).bind(escaped(&alert.id)).bind(channels).bind(stored(alert.at));
            put.execute(&mut *transaction).await.map_err(|error| self.fault(error))?;
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
            let rows = query(CLAIM)
                .bind(stored(now))
                .bind(stored(until))
                .bind(i64::from(limit))
                .bind(channel)
                .fetch_all(&self.writer)
                .await
                .map_err(|error| self.pool_fault(&self.writer, error))?;
            rows.iter()
                .map(|row| {
                    let mut cells = Cells::of("alert_deliveries", row);
                    Ok((read::alert(&mut cells)?, read_delivery(&mut cells)?))
                })
                .collect()
        })
    }

    fn tried<'a>(&'a self, alert: &'a str, channel: &'a str, tried: &'a Tried, now: UnixMs) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let statement = match tried {
                Tried::Sent => query(SENT).bind(escaped(alert)).bind(channel).bind(stored(now)),
                Tried::Later(at, why) => {
                    query(LATER).bind(escaped(alert)).bind(channel).bind(stored(*at)).bind(escaped(why))
                }
                Tried::Failed(why) => query(FAILED).bind(escaped(alert)).bind(channel).bind(escaped(why)),
            };
            statement.execute(&self.writer).await.map(|_| ()).map_err(|error| self.pool_fault(&self.writer, error))
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
            let said = |error| self.fault(error);
            let rows = query(LIST)
                .bind(tenant.map(TenantId::as_str))
                .bind(stored_or_null(before))
                .bind(i64::from(limit))
                .fetch_all(&mut *snapshot)
                .await
                .map_err(said)?;
            let ids: Vec<&str> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>().map_err(said)?;
            let deliveries = query(DELIVERIES).bind(ids).fetch_all(&mut *snapshot).await.map_err(said)?;
            let mut of: HashMap<String, Vec<DeliveryRow>> = HashMap::new();
            for row in &deliveries {
                let delivery = read_delivery(&mut Cells::of("alert_deliveries", row))?;
                of.entry(delivery.alert.clone()).or_default().push(delivery);
            }
            let mut listed = Vec::with_capacity(rows.len());
            for row in &rows {
                let alert = read::alert(&mut Cells::of("alerts", row))?;
                let deliveries = of.remove(&alert.id).unwrap_or_default();
                listed.push((alert, deliveries));
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
            let gone = query(FORGET).bind(stored(before)).bind(i64::from(limit)).execute(&self.writer).await;
            gone.map(|done| done.rows_affected()).map_err(|error| self.pool_fault(&self.writer, error))
        })
    }
}

fn read_delivery(cells: &mut Cells<'_>) -> Result<DeliveryRow, StoreError> {
    Ok(DeliveryRow {
        alert: cells.string()?,
        channel: cells.take()?,
        state: cells.take()?,
        attempts: u32::try_from(cells.count()?).unwrap_or(u32::MAX),
        next_at: cells.count()?,
        error: cells.text_or_null()?,
        sent_at: cells.count_or_null()?,
    })
}
