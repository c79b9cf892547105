//! Alerts about budgets as moments.

use serde_json::Value;

use super::entries::identity;
use super::{Filler, PAGE, made, put};
use crate::clock::UnixMs;
use crate::ids::{KeyId, TenantId};
use crate::store::rem::{Owner, RemRow, RemTable};
use crate::store::{AlertRow, QUIET, StoreError};

/// Pages of alerts that are looked through in one round: the newest are enough, for there is a round each minute.
const PAGES: u32 = 5;

impl Filler {
    /// Writes those that are not there yet, newest first.
    pub(super) async fn alerts(&mut self, now: UnixMs) -> Result<(), StoreError> {
        let keep = u64::try_from(self.parts.settings.keep.as_millis()).unwrap_or(u64::MAX);
        let oldest = now.saturating_sub(keep).max(self.round.saturating_sub(super::ROUND_MS));
        self.read_forgotten().await?;
        let mut before = None;
        for _ in 0..PAGES {
            let page = self.parts.stores.alerts.alerts(None, before, PAGE).await?;
            let Some(last) = page.last().map(|(alert, _)| alert.at) else { return Ok(()) };
            for (alert, _) in &page {
                let Some(tenant) = alert.tenant.as_ref().filter(|_| alert.at >= oldest) else { continue };
                if let Some(row) = moment(tenant, alert)
                    && self.may_fill(tenant, &row.owner, alert.at)
                {
                    let owner = row.owner.clone();
                    self.write(tenant, &owner, &[put(row)]).await?;
                }
            }
            if last < oldest {
                return Ok(());
            }
            before = Some(last);
        }
        Ok(())
    }
}

/// What was only stored is no moment: another tells of it. That of a budget of one key is for that key, that of the whole tenant for
/// all of it. What a tag or a model has cost over all keys is for none of them to see, and is in the alert only.
fn moment(tenant: &TenantId, alert: &AlertRow) -> Option<RemRow> {
    if !matches!(alert.kind.as_str(), "budget_threshold" | "budget_forecast") {
        return None;
    }
    let payload: Value = serde_json::from_str(&alert.payload).unwrap_or_default();
    if payload.get(QUIET) == Some(&Value::Bool(true)) {
        return None;
    }
    let details = payload.get("details");
    let only = |member: &str| details.and_then(|details| details.get(member)).and_then(Value::as_str);
    let key = only("key");
    if key.is_none() && (only("tag").is_some() || only("model").is_some()) {
        return None;
    }
    let owner = key.map_or(Owner::Public, |key| Owner::Key(KeyId::new(format!("{tenant}/{key}"))));
    let id = identity(tenant, &owner, "budget_alert", &alert.id);
    let mut row = made(id, RemTable::Moments, owner, &alert.title, "budget_alert", alert.at);
    row.starts_at = Some(alert.at);
    row.ends_at = Some(alert.at);
    let text = payload.get("text").and_then(Value::as_str).unwrap_or_default();
    row.text = if text.is_empty() { alert.title.clone() } else { format!("{}. {text}", alert.title) };
    if let Some(details) = details.and_then(Value::as_object) {
        row.data.clone_from(details);
    }
    Some(row)
}
