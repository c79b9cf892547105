//! What the rest of the program may ask of a database, and the shapes that go in and come out.
//!
//! The traits are dyn-compatible, so the one place that opens a database is also the only one that knows which it is.
//! Every method holds for every database; `conformance.rs` states each promise as a test case.

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::rem::{RemStore, SqlGuarded};
use super::{
    AlertStore, AuditHead, AuditRow, Chained, ChangeStore, CounterStore, DecisionRow, DirectoryStore, Entry,
    LearnedRow, LedgerRow, Point, SearchStore, StoreError, UsageStore,
};
use crate::clock::UnixMs;
use crate::ids::{AuditId, EntryId, KeyId, PointId, RequestId, TenantId};

/// The reply of a storage method: boxed, so that the traits are dyn-compatible.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// One change to the stored entries.
#[derive(Clone, Debug, PartialEq)]
pub enum EntryWrite {
    /// Stores an answer and the points that lead to it. What is already there stays as it is.
    Put {
        /// The answer.
        entry: Arc<Entry>,
        /// Points of this entry and its tenant; others are not stored.
        points: Vec<Point>,
    },
    /// Adds a point to a stored entry of the same tenant; without such an entry nothing happens.
    AddPoint(Point),
    /// Deletes an entry, its body and its points; nothing happens if there is none.
    Delete {
        /// Owner.
        tenant: TenantId,
        /// The entry.
        entry: EntryId,
    },
    /// Moves a point to another entry of the same tenant, notes on it which guards objected, gives that entry its tags,
    /// and deletes the entry it came from if no points are left there. Without the entry to move to nothing happens:
    /// the point stays where it is.
    Link {
        /// Owner of both entries.
        tenant: TenantId,
        /// The point.
        point: PointId,
        /// Entry it leaves.
        from: EntryId,
        /// Entry it then leads to.
        to: EntryId,
        /// [`Point::contradicts`] from now on.
        contradicts: u16,
        /// Tags of `to` from now on.
        tags: Vec<(String, String)>,
    },
    /// Moves all points of an entry to another one of the same tenant, gives that its tags, and deletes the first.
    /// Without the entry to move to nothing happens, nor if both are one.
    Merge {
        /// Owner of both entries.
        tenant: TenantId,
        /// Entry that ends.
        from: EntryId,
        /// Entry that gets its points.
        to: EntryId,
        /// Tags of `to` from now on.
        tags: Vec<(String, String)>,
    },
    /// Deletes a point of an entry, and the entry if no points are left.
    DropPoint {
        /// Owner.
        tenant: TenantId,
        /// The entry.
        entry: EntryId,
        /// The point.
        point: PointId,
    },
    /// Tells other replicas of an invalidation, whose deletes are in the same transaction. A store that nobody shares
    /// does nothing.
    Invalidated {
        /// When.
        at: UnixMs,
        /// The filter, as JSON in the form of whoever invalidates.
        filter: String,
    },
}

/// One change to the stored decisions.
#[derive(Clone, Debug, PartialEq)]
pub enum DecisionWrite {
    /// Stores a decision. One that is already there stays as it is.
    New(Box<DecisionRow>),
    /// Says of a stored decision whether the candidate's answer was right; ignored if there is no such decision. A
    /// later label replaces an earlier one.
    Label {
        /// The decision.
        request: RequestId,
        /// Whether the candidate's answer was right.
        right: bool,
        /// Where that is known from, as in [`DecisionRow::label`].
        label: Cow<'static, str>,
    },
}

/// An entry without its body.
#[derive(Clone, Debug, PartialEq)]
pub struct EntryMeta {
    /// The entry; its `body` is empty.
    pub entry: Entry,
    /// Bytes of the stored body.
    pub body_len: u64,
}

impl EntryMeta {
    /// Where a listing goes on after this entry.
    pub fn cursor(&self) -> Cursor {
        Cursor { tenant: self.entry.tenant.clone(), entry: self.entry.id }
    }
}

/// A live entry with its points, as it is loaded at start-up.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The entry without its body.
    pub meta: EntryMeta,
    /// Its points with their vectors, oldest first.
    pub points: Vec<Point>,
}

/// An entry with all that belongs to it, as it is copied to another store.
#[derive(Clone, Debug, PartialEq)]
pub struct Exported {
    /// The entry with its body.
    pub entry: Entry,
    /// Its points with their vectors, oldest first.
    pub points: Vec<Point>,
}

/// A stored prompt that contains the text searched for.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The entry that the prompt leads to.
    pub meta: EntryMeta,
    /// The prompt.
    pub prompt: String,
}

/// A place in a listing: after this entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Owner of the last entry seen.
    pub tenant: TenantId,
    /// The last entry seen.
    pub entry: EntryId,
}

/// Which entries a listing shows; all conditions must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntryFilter {
    /// Exact model name.
    pub model: Option<String>,
    /// Exact namespace; `Some("")` is the default namespace.
    pub namespace: Option<String>,
    /// A tag with this name and value.
    pub tag: Option<(String, String)>,
    /// The key that wrote it.
    pub writer: Option<KeyId>,
}

/// How much is stored, expired entries that are not yet deleted included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Entries.
    pub entries: u64,
    /// Points.
    pub points: u64,
}

/// What equal requests have cost together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spend {
    /// Whose they were; `None` if the callers were not known.
    pub tenant: Option<TenantId>,
    /// Start of the slot in which they started, a multiple of the slot's length.
    pub slot: UnixMs,
    /// With which key.
    pub key: Option<KeyId>,
    /// Model in the requests.
    pub model: Option<String>,
    /// Their tags.
    pub tags: Vec<(String, String)>,
    /// What they cost, nano-dollars.
    pub nano_usd: i64,
    /// How many they were.
    pub requests: u64,
    /// Of these, those that upstream billed for at a price that is not known.
    pub unpriced: u64,
}

/// A tenant that has been seen or declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantRow {
    /// The tenant.
    pub tenant: TenantId,
    /// Whether the configuration names it; otherwise it came by passthrough.
    pub declared: bool,
    /// When it was first stored; later writes do not change it.
    pub created_at: UnixMs,
    /// When it was last written.
    pub updated_at: UnixMs,
}

/// Answers and the points that lead to them.
pub trait EntryStore: Send + Sync {
    /// Applies all writes in order and in one transaction: all or none. Applying them again changes nothing, but for
    /// one case: what a batch puts, then moves to another entry and at last deletes with it, is there again after the
    /// second time, as an entry of its own.
    fn apply<'a>(&'a self, writes: &'a [EntryWrite]) -> BoxFuture<'a, ()>;

    /// One entry with its body. `None` if this tenant has none of that id. Expiry is for the caller to check.
    fn entry<'a>(&'a self, tenant: &'a TenantId, id: EntryId) -> BoxFuture<'a, Option<Entry>>;

    /// The points of one entry, oldest first; empty if this tenant has none of that id.
    fn points_of<'a>(&'a self, tenant: &'a TenantId, id: EntryId) -> BoxFuture<'a, Vec<Point>>;

    /// Up to `limit` entries that expire after `now`, with their points, by tenant and then by id. An empty page is
    /// the end. An entry that is there during the whole scan is seen exactly once; a point that moves meanwhile may be
    /// seen with both of its entries or with none.
    fn scan<'a>(&'a self, now: UnixMs, after: Option<&'a Cursor>, limit: u32) -> BoxFuture<'a, Vec<Loaded>>;

    /// Up to `limit` entries, newest first, of one tenant or for the operator of all. An empty page is the end.
    fn list<'a>(
        &'a self,
        tenant: Option<&'a TenantId>,
        filter: &'a EntryFilter,
        after: Option<&'a Cursor>,
        limit: u32,
    ) -> BoxFuture<'a, Vec<EntryMeta>>;

    /// Up to `limit` prompts that contain `text`, newest first; upper and lower case of ASCII letters count as equal
    /// and no character of `text` is a wildcard.
    fn search<'a>(&'a self, tenant: Option<&'a TenantId>, text: &'a str, limit: u32) -> BoxFuture<'a, Vec<Found>>;

    /// Up to `limit` entries that expire at `now` or before, the longest expired first.
    fn expired(&self, now: UnixMs, limit: u32) -> BoxFuture<'_, Vec<(TenantId, EntryId)>>;

    /// Those of these entries that are there, expired ones included, with their points; in any order.
    fn load<'a>(&'a self, keys: &'a [(TenantId, EntryId)]) -> BoxFuture<'a, Vec<Loaded>>;

    /// Up to `limit` entries, expired ones included, with body and points, by tenant and then by id. An empty page is the
    /// end.
    fn export<'a>(&'a self, after: Option<&'a Cursor>, limit: u32) -> BoxFuture<'a, Vec<Exported>>;

    /// How much is stored.
    fn counts(&self) -> BoxFuture<'_, Counts>;

    /// Makes what was deleted before unrecoverable from the files of the store.
    fn purge(&self) -> BoxFuture<'_, ()>;
}

/// The requests ledger.
pub trait LedgerStore: Send + Sync {
    /// Adds rows in one transaction: all or none. A row whose request is already there is ignored, so that each
    /// request has exactly one row however often a batch is written.
    fn append<'a>(&'a self, rows: &'a [LedgerRow]) -> BoxFuture<'a, ()>;

    /// The row of one request. Meant for the operator: the caller checks the tenant before showing it to anyone else.
    fn request(&self, id: RequestId) -> BoxFuture<'_, Option<LedgerRow>>;

    /// Number of rows.
    fn count(&self) -> BoxFuture<'_, u64>;

    /// Up to `limit` rows, newest first, of one tenant or for the operator of all.
    fn recent<'a>(&'a self, tenant: Option<&'a TenantId>, limit: u32) -> BoxFuture<'a, Vec<LedgerRow>>;

    /// Up to `limit` rows by request id, and so oldest first; those whose id follows `after`. An empty page is the end.
    fn page(&self, after: Option<RequestId>, limit: u32) -> BoxFuture<'_, Vec<LedgerRow>>;

    /// Up to `limit` rows of hits on one entry by its tenant that started at `since` or later, newest first.
    fn served<'a>(
        &'a self,
        tenant: &'a TenantId,
        entry: EntryId,
        since: UnixMs,
        limit: u32,
    ) -> BoxFuture<'a, Vec<LedgerRow>>;

    /// What the requests cost that started at `since` or later and before `until`, of one tenant or for the operator of
    /// all, summed by tenant, slot of `slot_ms`, key, model and tags; in any order.
    fn spend<'a>(
        &'a self,
        tenant: Option<&'a TenantId>,
        since: UnixMs,
        until: UnixMs,
        slot_ms: u64,
    ) -> BoxFuture<'a, Vec<Spend>>;
}

/// Tenants that were seen or declared, whatever they are held to.
pub trait TenantStore: Send + Sync {
    /// Adds tenants or brings `declared` and `updated_at` up to date, in one transaction.
    fn upsert<'a>(&'a self, tenants: &'a [TenantRow]) -> BoxFuture<'a, ()>;

    /// All tenants by name.
    fn list(&self) -> BoxFuture<'_, Vec<TenantRow>>;
}

/// The audit of changes made through the admin plane: rows are added, never changed and never deleted.
pub trait AuditStore: Send + Sync {
    /// Applies `changes` in order and adds `row`, in one transaction: there is never a change without its row, nor a
    /// row of a change that was not made. A row that is already there is ignored.
    fn record<'a>(&'a self, row: &'a AuditRow, changes: &'a [EntryWrite]) -> BoxFuture<'a, ()>;

    /// Up to `limit` rows older than `before`, newest first.
    fn trail(&self, before: Option<AuditId>, limit: u32) -> BoxFuture<'_, Vec<AuditRow>>;

    /// Up to `limit` rows whose id follows `after`, oldest first. An empty page is the end.
    fn audit_page(&self, after: Option<AuditId>, limit: u32) -> BoxFuture<'_, Vec<AuditRow>>;

    /// Where the chain ends; `None` if nothing was ever recorded.
    fn audit_head(&self) -> BoxFuture<'_, Option<AuditHead>>;

    /// Up to `limit` rows with their places in the chain, those that follow number `after`, by number. A place whose row
    /// is gone is left out. An empty page is the end.
    fn audit_chain(&self, after: u64, limit: u32) -> BoxFuture<'_, Vec<Chained>>;

    /// Number of rows that have no place in the chain: an older program, or somebody else, has added them since the start.
    fn audit_unchained(&self) -> BoxFuture<'_, u64>;
}

/// Decisions of the semantic tier, and what was learnt from them.
pub trait DecisionStore: Send + Sync {
    /// Applies all in order and in one transaction: all or none. Applying them again changes nothing.
    fn write<'a>(&'a self, writes: &'a [DecisionWrite]) -> BoxFuture<'a, ()>;

    /// One decision. Meant for the operator: the caller checks the tenant before showing it to anyone else.
    fn decision(&self, request: RequestId) -> BoxFuture<'_, Option<DecisionRow>>;

    /// Up to `limit` decisions made at `since` or later, of one tenant or for the operator of all, by request id and
    /// so oldest first; those whose id follows `after`. An empty page is the end.
    fn since<'a>(
        &'a self,
        tenant: Option<&'a TenantId>,
        since: UnixMs,
        after: Option<RequestId>,
        limit: u32,
    ) -> BoxFuture<'a, Vec<DecisionRow>>;

    /// Deletes up to `limit` decisions made before `before`, the oldest first; returns how many.
    fn forget(&self, before: UnixMs, limit: u32) -> BoxFuture<'_, u64>;

    /// Deletes up to `limit` decisions of one tenant and all that was learnt from them; returns how many decisions.
    fn forget_tenant<'a>(&'a self, tenant: &'a TenantId, limit: u32) -> BoxFuture<'a, u64>;

    /// Stores what was learnt, in one transaction. What was there for the same tenant and model is replaced.
    fn save_learned<'a>(&'a self, rows: &'a [LearnedRow]) -> BoxFuture<'a, ()>;

    /// All that was learnt, by tenant and model.
    fn learned(&self) -> BoxFuture<'_, Vec<LearnedRow>>;
}

/// Small notes about the database itself, by name: which secret its hashes were made with, how far a copy has come.
pub trait NoteStore: Send + Sync {
    /// The note.
    fn note<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Option<String>>;

    /// Writes the note if there is none of that name; returns what stands there then.
    fn note_once<'a>(&'a self, name: &'a str, text: &'a str) -> BoxFuture<'a, String>;

    /// Writes the note, in the place of what stood there; `None` takes it away.
    fn set_note<'a>(&'a self, name: &'a str, text: Option<&'a str>) -> BoxFuture<'a, ()>;

    /// Writes the note in the place of `old`, if that is what stands there; returns whether it was.
    fn swap_note<'a>(&'a self, name: &'a str, old: &'a str, new: &'a str) -> BoxFuture<'a, bool>;

    /// All notes whose names begin so, by name, with their texts.
    fn notes_of<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Vec<(String, String)>>;
}

/// One database seen through its traits.
#[derive(Clone)]
pub struct Stores {
    /// Answers and points.
    pub entries: Arc<dyn EntryStore>,
    /// The requests ledger.
    pub ledger: Arc<dyn LedgerStore>,
    /// Tenants that were seen or declared.
    pub tenants: Arc<dyn TenantStore>,
    /// Tenants with their specs, virtual keys and admin tokens.
    pub directory: Arc<dyn DirectoryStore>,
    /// The audit of admin changes.
    pub audit: Arc<dyn AuditStore>,
    /// Decisions of the semantic tier.
    pub decisions: Arc<dyn DecisionStore>,
    /// Notes about the database itself.
    pub notes: Arc<dyn NoteStore>,
    /// Reports on the ledger, and corrections of it.
    pub usage: Arc<dyn UsageStore>,
    /// Alerts and their deliveries.
    pub alerts: Arc<dyn AlertStore>,
    /// Counters of budgets, where several replicas may share the database.
    pub counters: Option<Arc<dyn CounterStore>>,
    /// The order of changes, where several replicas may share the database.
    pub changes: Option<Arc<dyn ChangeStore>>,
    /// Searches for what is not in memory, where the database can.
    pub search: Option<Arc<dyn SearchStore>>,
    /// REM data; every real database has it.
    pub rem: Option<Arc<dyn RemStore>>,
    /// Runs checked SQL of callers; every real database does.
    pub sql: Option<Arc<dyn SqlGuarded>>,
}
