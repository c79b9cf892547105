//! What traffic leaves behind becomes REM data: answers become resources; models, upstreams, keys, users and tags become entities;
//! sessions and budget alerts become moments; and requests get edges to all of these.
//!
//! One task in the background. It reads what is stored already, so no request waits for it or knows of it.
//!
//! Invariants: everything that is written has an identity and a content made from what it stands for, so replicas may all do it, and do
//! it again; a step is bounded, and there is a pause behind each; nothing is written of a tenant whose texts may not be kept in the
//! clear.
//!
//! It must never: fail a request, be in the way of one, or give somebody a row that its requests could not have got from the cache.

mod alerts;
mod embed;
mod entries;
mod ledger;
mod sealed;
mod sessions;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, UnixMs};
use crate::embed::Embedder;
use crate::ids::{KeyId, RemId, RequestId, TenantId};
use crate::server::Shutdown;
use crate::store::rem::{
    FORGOTTEN_KEY_NOTES, FORGOTTEN_NOTES, Owner, RemEdge, RemRow, RemStore, RemTable, RemWrite, forgotten_note,
};
use crate::store::{StoreError, Stores};

/// Rows of one step.
const PAGE: u32 = 200;
/// Entries of one step: they come with their bodies.
const ENTRIES: u32 = 50;
/// Pause behind a step that has found enough for another.
const BETWEEN: Duration = Duration::from_millis(50);
/// How often everything is looked at again, however quiet it is, and what is old is forgotten.
const ROUND_MS: u64 = 60_000;
/// A row of the ledger is written when its request ends, under an id of when it began: so rows of requests that began this long ago
/// may still come.
const LATE_MS: u64 = 15 * 60_000;
/// Most things that are remembered to spare writes.
const REMEMBERED: usize = 100_000;
/// Pages of what is old that one step forgets: so many that it keeps up with what the other parts of a step bring.
const SWEEP: u32 = 10;

/// What is filled, and for how long.
#[derive(Clone, Debug)]
pub struct FillSettings {
    /// Whether anything is done but to delete what may not be kept of tenants that are sealed.
    pub enabled: bool,
    /// Whether traffic leaves rows and edges behind.
    pub fill: bool,
    /// How long rows made from traffic are kept.
    pub keep: Duration,
    /// Pause while there is nothing to do.
    pub pause: Duration,
}

/// What it works on.
pub struct FillParts {
    /// The stores, REM data among them.
    pub stores: Stores,
    /// Makes vectors; none are made without.
    pub embedder: Option<Embedder>,
    /// Settings.
    pub settings: FillSettings,
    /// Wall-clock time.
    pub clock: Clock,
}

/// Fills until the drain begins. Without REM data in the stores it ends at once.
pub async fn run(parts: FillParts, shutdown: Shutdown) {
    let Some(mut filler) = Filler::new(parts) else { return };
    let draining = shutdown.draining();
    tokio::pin!(draining);
    loop {
        let pause = tokio::select! {
            () = &mut draining => return,
            pause = filler.step() => pause,
        };
        tokio::select! {
            () = &mut draining => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Writes that take back what was written, by row.
type TakeBack = BTreeMap<RemId, RemWrite>;

/// The task with what it remembers. All of it may be lost: it only spares work.
pub(crate) struct Filler {
    rem: Arc<dyn RemStore>,
    parts: FillParts,
    /// The pass over entries.
    pass: entries::Pass,
    /// The last ledger row that was read; `None` before the note was.
    front: Option<RequestId>,
    /// Ledger rows of the last [`LATE_MS`] that are done.
    seen: HashSet<RequestId>,
    /// Entities, by the day for which they are written.
    entities: HashMap<RemId, UnixMs>,
    /// When data of tenants and of keys was deleted, by the names of their notes: what is older is not filled again.
    forgotten: HashMap<String, UnixMs>,
    /// What was written since the last look at whose data was deleted, as the writes that take it back, by row; with what was known
    /// of the tenant and owner before.
    written: HashMap<(TenantId, Owner), (Option<UnixMs>, TakeBack)>,
    /// Rows whose text could not be embedded, and when that is tried again.
    unembeddable: HashMap<RemId, UnixMs>,
    /// When everything was last looked at.
    round: UnixMs,
    /// There may be more that is old.
    sweeping: bool,
    /// What is deleted of tenants that were sealed later.
    clearing: sealed::Clearing,
    /// A failure is told once until it is over.
    failing: bool,
}

impl Filler {
    /// `None` if the stores have no REM data.
    pub(crate) fn new(parts: FillParts) -> Option<Self> {
        Some(Self {
            rem: parts.stores.rem.clone()?,
            parts,
            pass: entries::Pass::default(),
            front: None,
            seen: HashSet::new(),
            entities: HashMap::new(),
            forgotten: HashMap::new(),
            written: HashMap::new(),
            unembeddable: HashMap::new(),
            round: 0,
            sweeping: false,
            clearing: sealed::Clearing::default(),
            failing: false,
        })
    }

    /// Does some work; returns how long to wait then.
    pub(crate) async fn step(&mut self) -> Duration {
        match self.work().await {
            Ok(more) => {
                self.failing = false;
                if more { BETWEEN } else { self.parts.settings.pause }
            }
            Err(error) => {
                if !self.failing {
                    tracing::warn!(%error, "REM data cannot be filled now; it goes on when the store answers again");
                }
                self.failing = true;
                self.parts.settings.pause.saturating_mul(10)
            }
        }
    }

    /// Whether there is more to do.
    async fn work(&mut self) -> Result<bool, StoreError> {
        let now = self.parts.clock.now_ms();
        let mut more = self.clear(now).await?;
        if !self.parts.settings.enabled {
            return Ok(more);
        }
        let round = now.saturating_sub(self.round) >= ROUND_MS;
        if self.parts.settings.fill {
            more |= self.entries(now).await?;
            more |= self.ledger(now).await?;
            if round {
                self.late(now).await?;
                self.alerts(now).await?;
            }
        }
        self.take_back().await?;
        more |= self.embed(now).await?;
        if round {
            self.round = now;
            self.sweeping = true;
        }
        more |= self.sweep(now).await?;
        Ok(more)
    }

    /// Forgets some of what is old; whether there may be more.
    async fn sweep(&mut self, now: UnixMs) -> Result<bool, StoreError> {
        let keep = u64::try_from(self.parts.settings.keep.as_millis()).unwrap_or(u64::MAX);
        for page in 0..SWEEP {
            if !self.sweeping {
                break;
            }
            if page > 0 {
                tokio::time::sleep(BETWEEN).await;
            }
            self.sweeping = self.rem.rem_forget(now.saturating_sub(keep), PAGE).await? >= u64::from(PAGE);
        }
        Ok(self.sweeping)
    }

    /// Reads whose data was deleted.
    async fn read_forgotten(&mut self) -> Result<(), StoreError> {
        let mut notes = self.parts.stores.notes.notes_of(FORGOTTEN_NOTES).await?;
        notes.extend(self.parts.stores.notes.notes_of(FORGOTTEN_KEY_NOTES).await?);
        let read = |(name, text): (String, String)| Some((name, text.parse::<UnixMs>().ok()?));
        self.forgotten = notes.into_iter().filter_map(read).collect();
        Ok(())
    }

    /// When data of this owner was deleted last, as far as it is known.
    fn forgotten_at(&self, tenant: &TenantId, owner: &Owner) -> Option<UnixMs> {
        let of = |key: Option<&KeyId>| self.forgotten.get(&forgotten_note(tenant, key)).copied();
        of(None).max(owner.key().and_then(|key| of(Some(key))))
    }

    /// Writes what requests and alerts have left to one owner, and remembers it until it is known that his data was not deleted
    /// meanwhile.
    async fn write(&mut self, tenant: &TenantId, owner: &Owner, writes: &[RemWrite]) -> Result<(), StoreError> {
        let known = self.forgotten_at(tenant, owner);
        let of = (tenant.clone(), owner.clone());
        let (_, written) = self.written.entry(of).or_insert_with(|| (known, BTreeMap::new()));
        for write in writes {
            match write {
                RemWrite::Put { row, .. } => {
                    written.insert(row.id, RemWrite::Purge { id: row.id, owner: row.owner.clone() });
                }
                RemWrite::Link { edges, .. } => {
                    let requests = edges.iter().filter(|edge| edge.source_table == RemTable::Requests);
                    written.extend(requests.map(|edge| (edge.source, RemWrite::ForgetRequest { id: edge.source })));
                }
                _ => {}
            }
        }
        self.rem.rem_apply(tenant, writes).await
    }

    /// Takes back what was written of tenants and keys whose data was deleted while it was written: the deletion is noted before it begins, so
    /// it either was known before, or has met what was written, or is seen here. What came after it is then read again.
    async fn take_back(&mut self) -> Result<(), StoreError> {
        if self.written.is_empty() {
            return Ok(());
        }
        self.read_forgotten().await?;
        for ((tenant, owner), (known, written)) in &self.written {
            if self.forgotten_at(tenant, owner) != *known {
                let writes: Vec<RemWrite> = written.values().cloned().collect();
                self.rem.rem_apply(tenant, &writes).await?;
                self.entities.clear();
                self.seen.clear();
                self.front = None;
            }
        }
        self.written.clear();
        Ok(())
    }

    /// Whether what happened then may be written for this owner.
    fn may_fill(&self, tenant: &TenantId, owner: &Owner, at: UnixMs) -> bool {
        self.rem.rem_keeps_texts(tenant) && self.forgotten_at(tenant, owner).is_none_or(|forgotten| at > forgotten)
    }

    /// Forgets what was remembered if it became too much.
    fn bound(&mut self) {
        if self.seen.len() > REMEMBERED {
            self.seen.clear();
        }
        if self.entities.len() > REMEMBERED {
            self.entities.clear();
        }
        if self.unembeddable.len() > REMEMBERED {
            self.unembeddable.clear();
        }
    }
}

/// A row of traffic, with what all of them have in common.
fn made(id: RemId, table: RemTable, owner: Owner, name: &str, label: &str, at: UnixMs) -> RemRow {
    RemRow {
        id,
        table,
        owner,
        name: shortened(name, LONGEST_NAME),
        text: String::new(),
        label: label.to_owned(),
        uri: None,
        tags: Vec::new(),
        data: serde_json::Map::new(),
        aliases: Vec::new(),
        starts_at: None,
        ends_at: None,
        previous: None,
        part_of: None,
        entry: None,
        made: true,
        writer: None,
        created_at: at,
        updated_at: at,
        deleted_at: None,
    }
}

/// Characters of a name.
const LONGEST_NAME: usize = 200;

/// The text on one line, cut at a word; a name must be one that something is found by.
fn shortened(text: &str, most: usize) -> String {
    let mut name = String::new();
    let mut length = 0;
    for word in text.split_whitespace() {
        let more = word.chars().count() + usize::from(!name.is_empty());
        if length + more > most {
            if name.is_empty() {
                name.extend(word.chars().take(most));
            }
            break;
        }
        if !name.is_empty() {
            name.push(' ');
        }
        name.push_str(word);
        length += more;
    }
    // No database keeps this one.
    name.retain(|c| c != '\0');
    name
}

/// An edge.
fn edge(source: RemId, source_table: RemTable, kind: &str, target: &str, weight: f64, at: UnixMs) -> RemEdge {
    RemEdge {
        source,
        source_table,
        kind: kind.to_owned(),
        target: shortened(target, LONGEST_NAME),
        weight,
        properties: serde_json::Map::new(),
        created_at: at,
    }
}

/// A row whose edges, if it has any, stay.
fn put(row: RemRow) -> RemWrite {
    RemWrite::Put { row: Box::new(row), vector: None, edges: None }
}
