//! Ledger rows as edges, and what they name as entities.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::entries::{identity, name_of};
use super::{Filler, LATE_MS, PAGE, edge, made, put};
use crate::clock::UnixMs;
use crate::ids::{KeyId, RemId, RequestId, TenantId};
use crate::store::rem::{FILLED_NOTE, Owner, RemEdge, RemTable, RemWrite, Scope, normalise};
use crate::store::{AUDIT_OF, LedgerRow, StoreError};

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// Rows of one caller, in the order in which they began.
type Callers = BTreeMap<(TenantId, KeyId), Vec<LedgerRow>>;

impl Filler {
    /// Reads on in the ledger; whether there may be more.
    pub(super) async fn ledger(&mut self, now: UnixMs) -> Result<bool, StoreError> {
        let front = match self.front {
            Some(front) => front,
            None => self.begin(now).await?,
        };
        let page = self.parts.stores.ledger.page(Some(front), PAGE).await?;
        let Some(last) = page.last().map(|row| row.request) else {
            self.front = Some(front);
            return Ok(false);
        };
        let full = u32::try_from(page.len()).is_ok_and(|len| len >= PAGE);
        self.rows(page, now).await?;
        self.front = Some(last);
        self.parts.stores.notes.set_note(FILLED_NOTE, Some(&last.to_string())).await?;
        self.bound();
        Ok(full)
    }

    /// Where the last life of this task, or another replica, has stopped; rows that may have come late since are read again.
    async fn begin(&self, now: UnixMs) -> Result<RequestId, StoreError> {
        let keep = u64::try_from(self.parts.settings.keep.as_millis()).unwrap_or(u64::MAX);
        let oldest = id_floor(now.saturating_sub(keep));
        let note = self.parts.stores.notes.note(FILLED_NOTE).await?;
        let stopped = note.and_then(|note| note.parse::<RequestId>().ok()).map(back);
        Ok(stopped.map_or(oldest, |stopped| stopped.max(oldest)))
    }

    /// Reads the last rows again, for those that were not there yet.
    pub(super) async fn late(&mut self, now: UnixMs) -> Result<(), StoreError> {
        let Some(front) = self.front else { return Ok(()) };
        let mut after = id_floor(now.saturating_sub(LATE_MS));
        self.seen.retain(|id| *id > after);
        loop {
            let mut page = self.parts.stores.ledger.page(Some(after), PAGE).await?;
            let Some(last) = page.last().map(|row| row.request) else { return Ok(()) };
            page.retain(|row| row.request <= front && !self.seen.contains(&row.request));
            self.rows(page, now).await?;
            if last >= front {
                return Ok(());
            }
            after = last;
            tokio::time::sleep(super::BETWEEN).await;
        }
    }

    /// Writes what these rows say, for each caller by itself.
    async fn rows(&mut self, rows: Vec<LedgerRow>, now: UnixMs) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        self.read_forgotten().await?;
        let mut callers = Callers::new();
        for row in rows {
            // Who was not let in is nobody's row, and checks are ours.
            let (Some(tenant), Some(key)) = (row.tenant.clone(), row.key.clone()) else { continue };
            if self.may_fill(&tenant, &Owner::Key(key.clone()), row.started_at)
                && !row.is_check()
                && row.tags.iter().all(|(name, _)| name != AUDIT_OF)
            {
                callers.entry((tenant, key)).or_default().push(row);
            }
        }
        for ((tenant, key), rows) in callers {
            let scope = Scope { tenant, key };
            let mut writes = Vec::new();
            let mut edges = Vec::new();
            let mut days = HashMap::new();
            for row in &rows {
                self.entities(&scope, row, &mut days, &mut writes, &mut edges);
                edges.extend(edges_of(row));
            }
            if !edges.is_empty() {
                writes.push(RemWrite::Link { owner: scope.owner(), edges });
            }
            if !writes.is_empty() {
                self.write(&scope.tenant, &scope.owner(), &writes).await?;
            }
            // Only what is stored need not be written again.
            self.entities.extend(days);
            self.sessions(&scope, &rows).await?;
            for row in rows {
                if row.started_at.saturating_add(LATE_MS) > now {
                    self.seen.insert(row.request);
                }
            }
        }
        Ok(())
    }

    /// Things that a row names, each written once for a day, so that what is in use is not forgotten. `days` are those that are about
    /// to be written.
    fn entities(
        &self,
        scope: &Scope,
        row: &LedgerRow,
        days: &mut HashMap<RemId, UnixMs>,
        writes: &mut Vec<RemWrite>,
        edges: &mut Vec<RemEdge>,
    ) {
        let owner = scope.owner();
        let day = row.started_at / DAY_MS * DAY_MS;
        for (kind, name) in named(row) {
            let id = identity(&scope.tenant, &owner, kind, &name);
            if days.get(&id).or_else(|| self.entities.get(&id)).is_some_and(|written| *written >= day) {
                continue;
            }
            days.insert(id, day);
            let mut entity = made(id, RemTable::Entities, owner.clone(), &name, kind, day);
            entity.created_at = row.started_at;
            writes.push(put(entity));
        }
        let mut before: Option<&str> = None;
        for attempt in row.attempts.iter().filter(|attempt| attempt.kind == "completion") {
            if let Some(before) = before.filter(|before| *before != attempt.upstream) {
                let id = identity(&scope.tenant, &owner, "upstream", &attempt.upstream);
                edges.push(edge(id, RemTable::Entities, "fallback_of", before, 1.0, day));
            }
            before = Some(&attempt.upstream);
        }
    }
}

/// Kinds and names of what a row names. What was refused may name anything.
fn named(row: &LedgerRow) -> BTreeSet<(&'static str, String)> {
    let mut named = BTreeSet::new();
    let mut add = |kind, name: &str| {
        if !normalise(name).is_empty() {
            named.insert((kind, name.to_owned()));
        }
    };
    if let Some(key) = &row.key {
        add("key", key.as_str());
    }
    if row.outcome == "refused" {
        return named;
    }
    for model in [&row.model_asked, &row.model_answered].into_iter().flatten() {
        add("model", model);
    }
    let attempts = row.attempts.iter().map(|attempt| &attempt.upstream);
    for upstream in row.upstream.iter().chain(attempts) {
        add("upstream", upstream);
    }
    if let Some(user) = &row.user {
        add("user", user);
    }
    for (name, value) in &row.tags {
        add("tag", &format!("{name}={value}"));
    }
    named
}

/// The edges that leave a request, but for that to its session.
fn edges_of(row: &LedgerRow) -> Vec<RemEdge> {
    let id = RemId::from_bytes(row.request.to_bytes());
    let edge = |kind: &str, target: &str, weight| edge(id, RemTable::Requests, kind, target, weight, row.started_at);
    let who = row.user.as_deref().filter(|user| !normalise(user).is_empty() && row.outcome != "refused");
    let who = who.or(row.key.as_ref().map(KeyId::as_str));
    let mut edges: Vec<RemEdge> = who.map(|who| edge("asked_by", who, 1.0)).into_iter().collect();
    if row.outcome == "refused" {
        return edges;
    }
    let answered = [row.model_answered.as_deref(), row.upstream.as_deref()];
    edges.extend(answered.into_iter().flatten().map(|by| edge("answered_by", by, 1.0)));
    edges.extend(row.tags.iter().map(|(name, value)| edge("tagged", &format!("{name}={value}"), 1.0)));
    // To the entry and not to its prompt, which goes with it; there may be no row of it, or none for this caller.
    if let Some(entry) = row.entry.filter(|_| row.outcome == "hit") {
        let semantic = row.tier.as_deref() == Some("semantic");
        let weight = row.similarity.filter(|_| semantic).map_or(1.0, |cosine| f64::from(cosine).clamp(0.0, 1.0));
        edges.push(edge("served_from", &name_of(entry), weight));
    }
    edges.retain(|edge| !normalise(&edge.target).is_empty());
    edges
}

/// Before all ids of this time.
fn id_floor(at: UnixMs) -> RequestId {
    RequestId::from_bytes(((u128::from(at) & 0xffff_ffff_ffff) << 80).to_be_bytes())
}

/// Before all ids that are at most [`LATE_MS`] older.
fn back(id: RequestId) -> RequestId {
    let at = u64::try_from(u128::from_be_bytes(id.to_bytes()) >> 80).unwrap_or(0);
    id_floor(at.saturating_sub(LATE_MS))
}
