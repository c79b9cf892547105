//! When many requests of a tenant are refused by its limits and budgets.
//!
//! Each replica counts its own and notes the count of the hour in the store, under a name of its own; the sum over all names
//! is what the limit is compared with. A replica that starts again has a new name, so nothing is lost and nothing is
//! counted twice.

use std::collections::{BTreeMap, HashMap};

use serde_json::json;

use super::forecast::HOUR;
use super::news::{Kind, News, id, moment};
use crate::clock::UnixMs;
use crate::ids::TenantId;
use crate::store::{NoteStore, StoreError};
use crate::telemetry::alerts::Refusals;

/// What the names of the notes begin with.
const PREFIX: &str = "alert/refused/";

/// What this replica has counted in the hour at hand.
pub(super) struct Tally {
    replica: String,
    hour: UnixMs,
    counts: HashMap<TenantId, Counted>,
}

#[derive(Default)]
struct Counted {
    by_reason: BTreeMap<&'static str, u64>,
    noted: bool,
}

/// A tenant over the limit.
#[derive(Debug, PartialEq)]
pub(super) struct Over {
    pub(super) tenant: TenantId,
    pub(super) hour: UnixMs,
    pub(super) total: u64,
    pub(super) by_reason: BTreeMap<String, u64>,
}

impl Tally {
    /// Of a replica that nobody else is called like.
    pub(super) fn new() -> Self {
        Self { replica: format!("{:016x}", fastrand::u64(..)), hour: 0, counts: HashMap::new() }
    }

    /// Takes in what was refused since the last time, and says who is over `limit` in this hour, counting all replicas.
    /// What is not noted because the store failed is noted the next time.
    pub(super) async fn over(
        &mut self,
        notes: &dyn NoteStore,
        refused: HashMap<TenantId, Refusals>,
        limit: u32,
        now: UnixMs,
    ) -> Result<Vec<Over>, StoreError> {
        let hour = now / HOUR * HOUR;
        let begins = self.hour != hour;
        if begins {
            (self.hour, self.counts) = (hour, HashMap::new());
        }
        for (tenant, reasons) in refused {
            let counted = self.counts.entry(tenant).or_default();
            counted.noted = false;
            for (reason, count) in reasons {
                *counted.by_reason.entry(reason).or_default() += count;
            }
        }
        for (tenant, counted) in self.counts.iter_mut().filter(|(_, counted)| !counted.noted) {
            let name = format!("{PREFIX}{hour}/{tenant}/{}", self.replica);
            notes.set_note(&name, Some(&json!(counted.by_reason).to_string())).await?;
            counted.noted = true;
        }
        if begins {
            forget(notes, hour).await?;
        }
        if self.counts.is_empty() {
            return Ok(Vec::new());
        }
        Ok(sums(&notes.notes_of(&format!("{PREFIX}{hour}/")).await?, hour, limit))
    }
}

/// Takes away the notes of earlier hours.
async fn forget(notes: &dyn NoteStore, hour: UnixMs) -> Result<(), StoreError> {
    for (name, _) in notes.notes_of(PREFIX).await? {
        let of = name.strip_prefix(PREFIX).and_then(|rest| rest.split('/').next()?.parse::<UnixMs>().ok());
        if of.is_none_or(|of| of < hour) {
            notes.set_note(&name, None).await?;
        }
    }
    Ok(())
}

fn sums(noted: &[(String, String)], hour: UnixMs, limit: u32) -> Vec<Over> {
    let mut sums: BTreeMap<&str, BTreeMap<String, u64>> = BTreeMap::new();
    for (name, text) in noted {
        let tenant = name.strip_prefix(PREFIX).and_then(|rest| Some(rest.split_once('/')?.1.rsplit_once('/')?.0));
        let counts = serde_json::from_str::<BTreeMap<String, u64>>(text);
        let (Some(tenant), Ok(counts)) = (tenant, counts) else { continue };
        for (reason, count) in counts {
            *sums.entry(tenant).or_default().entry(reason).or_default() += count;
        }
    }
    let over = |(tenant, by_reason): (&str, BTreeMap<String, u64>)| {
        let total = by_reason.values().sum();
        (total > u64::from(limit)).then(|| Over { tenant: TenantId::new(tenant), hour, total, by_reason })
    };
    sums.into_iter().filter_map(over).collect()
}

/// The alert, once an hour.
pub(super) fn news(over: &Over, limit: u32) -> News {
    let Over { tenant, hour, total, by_reason } = over;
    let reasons: Vec<String> = by_reason.iter().map(|(reason, count)| format!("{count} for {reason}")).collect();
    News {
        id: id(&["rejections", tenant.as_str(), &hour.to_string()]),
        kind: Kind::LimitRejections,
        tenant: Some(tenant.clone()),
        title: format!("{tenant}: {total} requests refused by limits since {}", moment(*hour, "%H:%M UTC")),
        text: format!("That is more than {limit} in an hour: {}.", reasons.join(", ")),
        facts: json!({ "hour": hour, "refused": total, "by_reason": by_reason, "limit": limit }),
        loud: true,
        threshold: None,
    }
}
