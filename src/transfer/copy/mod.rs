//! `remora copy`: brings one store up to date with another.
//!
//! Each table is walked on both sides in key order, and what is missing or different is written. So a second pass is a
//! catch-up pass: it finds what came, was linked, labelled or deleted at the source since. Entries, specs, keys, tokens
//! and REM data that are gone at the source are deleted; rows of the ledger, of decisions and of the audit are only ever added. The audit
//! gets a chain of its own at the destination, in the order in which its rows arrive there.
//!
//! Both sides may change meanwhile, the destination only as the shadow of the source. What was written is therefore
//! compared with the source once more: an entry that was deleted there between reading and writing is deleted again here,
//! and one that the shadow brought while it was looked for is not taken for a leftover.
//!
//! A checkpoint at the destination says how far a run came. It saves work and decides nothing: without it, all is
//! compared again.

mod checkpoint;
mod directory;
mod entries;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use self::checkpoint::Checkpoints;
use super::records::{Audit, Corrections, Decisions, Learned, Requests, Tenants};
use super::rem::Rem;
use super::secret::{self, Place};
use super::table::{Rows, Table, floor};
use super::walk::{Walk, Window};
use super::{Progress, TransferError, close_written, data_keys, open_to_look, open_to_write, rem_notes};
use crate::clock::{Clock, UnixMs};
use crate::ids::{AuditId, RequestId};
use crate::store::{BoxFuture, Database, StoreError, Stores};

/// A ledger row is written when its request ends, under an id of when it began. Rows of requests that began this long
/// before `--since` are looked at too.
const SINCE_MARGIN_MS: u64 = 3_600_000;
/// How far before its checkpoint a run goes on with rows that are only added: also a row that waited for hours while the
/// store was away is met.
const RESUME_MARGIN_MS: u64 = 24 * 3_600_000;
/// Note by which it is found out that both sides are one database.
const SAME_NOTE: &str = "copy: are we the same";
/// Rounds of comparing what was written with a source that goes on changing.
const ROUNDS: u32 = 8;
/// Tries of a write that the destination refuses because of an invalidation there that we had not seen.
const OBEY_TRIES: u32 = 8;

/// How to copy.
#[derive(Clone, Debug, Default)]
pub struct CopyOptions {
    /// Ledger, decisions and audit only from this time on.
    pub since: Option<UnixMs>,
    /// Most rows a second.
    pub rate: Option<u32>,
    /// Look only.
    pub dry_run: bool,
    /// Compare the bodies of answers too, not just their lengths.
    pub deep: bool,
}

/// What became of the rows of one table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Rows of the source that were looked at.
    pub read: u64,
    /// Rows that were missing.
    pub added: u64,
    /// Rows that were brought up to date.
    pub changed: u64,
    /// Rows that were deleted because they are gone at the source.
    pub deleted: u64,
    /// Rows that differ and cannot be brought up to date, because they never change.
    pub different: u64,
}

/// What a copy did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopyReport {
    /// By table.
    pub tables: BTreeMap<Table, Tally>,
    /// Time spent on each table.
    pub took: BTreeMap<Table, Duration>,
    /// It went on where an earlier run had stopped.
    pub resumed: bool,
}

/// Brings `to` up to date with `from`.
///
/// # Errors
/// See [`TransferError`]. What was written stays, and the same call completes it.
pub async fn copy(
    from: &Place,
    to: &Place,
    options: &CopyOptions,
    progress: &Progress,
) -> Result<CopyReport, TransferError> {
    if same_by_name(from, to) {
        return Err(TransferError::Same(to.url.clone()));
    }
    let source = Database::open_to_read(&from.url).await?;
    let done = copy_from(&source, from, to, options, progress).await;
    source.close().await;
    done
}

async fn copy_from(
    source: &Database,
    from: &Place,
    to: &Place,
    options: &CopyOptions,
    progress: &Progress,
) -> Result<CopyReport, TransferError> {
    let stores = source.stores();
    let secret = secret::read(from, &stores).await?;
    let keys = data_keys::read(&stores).await?;
    if secret.is_none() && secret::has_data(&stores).await? {
        return Err(TransferError::NoSecret(from.url.clone()));
    }
    if options.dry_run {
        let Some(destination) = open_to_look(to).await? else {
            return Copier::new(&stores, None, options, progress).run().await;
        };
        let there = destination.stores();
        let done = async {
            if let Some(secret) = &secret {
                secret::fits(to, &there, secret).await?;
            }
            data_keys::fits(to, &there, &keys).await?;
            Copier::new(&stores, Some(&there), options, progress).run().await
        };
        let done = done.await;
        destination.close().await;
        return done;
    }
    let notes = rem_notes::read(&stores).await?;
    let before = secret::lock(to)?;
    let destination = open_to_write(to).await?;
    let there = destination.stores();
    let done = async {
        differ(&stores, &there, to).await?;
        let mut held = before;
        if let Some(secret) = &secret {
            secret::give(to, &there, secret).await?;
            if held.is_none() {
                held = secret::lock(to)?;
            }
        }
        // Before any row that is sealed with them.
        data_keys::give(to, &there, &keys).await?;
        rem_notes::give_forgotten(&there, &notes).await?;
        let name = checkpoint::source_name(from, secret.as_ref());
        let mut copier = Copier::new(&stores, Some(&there), options, progress);
        copier.checkpoints = options.since.is_none().then(|| Checkpoints::new(name));
        let report = copier.run().await?;
        // Somebody's data may have been deleted meanwhile; how far the ledger was filled from is as of the beginning.
        rem_notes::give_forgotten(&there, &rem_notes::read(&stores).await?).await?;
        rem_notes::give_place(&there, &notes).await?;
        drop(held);
        Ok(report)
    };
    close_written(&destination, done.await).await
}

/// Whether both names lead to one file or are one text.
fn same_by_name(from: &Place, to: &Place) -> bool {
    match (from.url.file(), to.url.file()) {
        (Some(a), Some(b)) => match (a.canonicalize(), b.canonicalize()) {
            (Ok(a), Ok(b)) => a == b,
            _ => a == b,
        },
        (None, None) => from.url == to.url,
        _ => false,
    }
}

/// One database can have many names. A note that appears on the other side tells.
async fn differ(source: &Stores, destination: &Stores, to: &Place) -> Result<(), TransferError> {
    let mark = RequestId::at(Clock::system().now_ms()).to_string();
    destination.notes.set_note(SAME_NOTE, Some(&mark)).await?;
    let seen = source.notes.note(SAME_NOTE).await;
    destination.notes.set_note(SAME_NOTE, None).await?;
    if seen?.as_deref() == Some(mark.as_str()) {
        return Err(TransferError::Same(to.url.clone()));
    }
    Ok(())
}

/// One run.
pub(super) struct Copier<'a> {
    source: &'a Stores,
    /// `None` if there is none yet.
    destination: Option<&'a Stores>,
    writes: bool,
    deep: bool,
    since: Option<UnixMs>,
    pub(super) checkpoints: Option<Checkpoints>,
    progress: &'a Progress,
    rate: Option<u32>,
    began: Instant,
    table_began: Instant,
    rows: u64,
    report: CopyReport,
}

impl<'a> Copier<'a> {
    pub(super) fn new(
        source: &'a Stores,
        destination: Option<&'a Stores>,
        options: &CopyOptions,
        progress: &'a Progress,
    ) -> Self {
        Self {
            source,
            destination,
            writes: !options.dry_run,
            deep: options.deep,
            since: options.since,
            checkpoints: None,
            progress,
            rate: options.rate.filter(|rate| *rate > 0),
            began: Instant::now(),
            table_began: Instant::now(),
            rows: 0,
            report: CopyReport::default(),
        }
    }

    pub(super) async fn run(mut self) -> Result<CopyReport, TransferError> {
        self.directory().await?;
        self.table::<Tenants>(None, None).await?;
        self.entries().await?;
        let since = self.since.map(|since| floor(since.saturating_sub(SINCE_MARGIN_MS)));
        let after = self.resume::<Requests>().await?.map(|key| back(key.to_bytes()));
        self.table::<Requests>(since.max(after).map(RequestId::from_bytes), None).await?;
        self.decisions(since.map(RequestId::from_bytes)).await?;
        self.table::<Learned>(None, None).await?;
        let after = self.resume::<Audit>().await?.map(|key| back(key.to_bytes()));
        self.table::<Audit>(since.max(after).map(AuditId::from_bytes), None).await?;
        // An old row may be corrected at any time, so all corrections of the rows that are copied are looked at.
        let after = since.map(|since| (RequestId::from_bytes(since), 0));
        self.table::<Corrections>(after, None).await?;
        self.rem().await?;
        Ok(self.report)
    }

    /// Labels come late, so what lies before a checkpoint is looked at too, at the end.
    async fn decisions(&mut self, since: Option<RequestId>) -> Result<(), TransferError> {
        let stopped = self.resume::<Decisions>().await?;
        self.table::<Decisions>(since.max(stopped), None).await?;
        if stopped.is_some() {
            self.table::<Decisions>(since, stopped).await?;
        }
        Ok(())
    }

    /// All REM data. What lies before a checkpoint may have changed since, and is looked at at the end.
    async fn rem(&mut self) -> Result<(), TransferError> {
        let stopped = self.resume::<Rem>().await?;
        self.table::<Rem>(stopped.clone(), None).await?;
        if stopped.is_some() {
            self.table::<Rem>(None, stopped).await?;
        }
        Ok(())
    }

    /// Where an earlier run stopped in this table.
    async fn resume<R: Rows>(&mut self) -> Result<Option<R::Key>, TransferError> {
        let (Some(checkpoints), Some(stores), true) = (&self.checkpoints, self.destination, self.writes) else {
            return Ok(None);
        };
        let key = checkpoints.read(stores, R::TABLE).await?.and_then(|text| R::parse(&text));
        self.report.resumed |= key.is_some();
        Ok(key)
    }

    /// A table whose rows are added and at most brought up to date.
    async fn table<R: Rows>(&mut self, after: Option<R::Key>, until: Option<R::Key>) -> Result<(), TransferError> {
        let of = self.rows_of(R::TABLE).await?;
        let mut walk: Walk<'_, R> = Walk::new(self.source, self.destination, after, until, self.ceiling());
        while let Some(window) = walk.next().await? {
            let there: HashMap<String, &R::Row> =
                window.destination.iter().map(|row| (R::show(&R::key(row)), row)).collect();
            let mut tally = Tally { read: window.source.len() as u64, ..Tally::default() };
            let mut rows = Vec::new();
            let gone = if R::FOLLOWS_DELETES { self.gone_rows::<R>(&window).await? } else { Vec::new() };
            tally.deleted = gone.len() as u64;
            for row in &window.source {
                match there.get(&R::show(&R::key(row))) {
                    None => tally.added += 1,
                    Some(other) if R::digest(row) == R::digest(other) => continue,
                    Some(other) if R::mends(row, other) => tally.changed += 1,
                    Some(_) => {
                        tally.different += 1;
                        continue;
                    }
                }
                rows.push(row.clone());
            }
            if let (Some(stores), true, false) = (self.destination, self.writes, rows.is_empty()) {
                R::write(stores, &rows).await?;
            }
            if let (Some(stores), true, false) = (self.destination, self.writes, gone.is_empty()) {
                R::remove(stores, &gone).await?;
            }
            if let (Some(stores), true, true) = (self.destination, self.writes, R::FOLLOWS_DELETES) {
                self.settle_rows::<R>(stores, window.after.as_ref(), rows).await?;
            }
            self.count(R::TABLE, tally, of).await;
            self.note::<R>(walk.after()).await?;
        }
        self.forget(R::TABLE).await
    }

    /// Compares what was written with the source as it is by now, and writes again what has changed there meanwhile: the shadow may
    /// have brought it before the older form was written over it.
    async fn settle_rows<R: Rows>(
        &self,
        stores: &Stores,
        after: Option<&R::Key>,
        mut written: Vec<R::Row>,
    ) -> Result<(), StoreError> {
        for _ in 0..ROUNDS {
            let Some(last) = written.last().map(R::key) else { return Ok(()) };
            let now = self.range::<R>(after, &last).await?;
            let now: HashMap<String, &R::Row> = now.iter().map(|row| (R::show(&R::key(row)), row)).collect();
            let (mut again, mut gone) = (Vec::new(), Vec::new());
            for row in written {
                match now.get(&R::show(&R::key(&row))) {
                    Some(now) if R::digest(now) == R::digest(&row) => {}
                    Some(now) => again.push((*now).clone()),
                    None => gone.push(row),
                }
            }
            R::write(stores, &again).await?;
            R::remove(stores, &gone).await?;
            written = again;
        }
        Ok(())
    }

    /// What the source has after one key and up to another.
    async fn range<R: Rows>(&self, after: Option<&R::Key>, last: &R::Key) -> Result<Vec<R::Row>, StoreError> {
        let mut found: Vec<R::Row> = Vec::new();
        loop {
            let from = found.last().map(R::key).or_else(|| after.cloned());
            let page = R::page(self.source, from.as_ref(), R::PAGE).await?;
            let ended = page.last().is_none_or(|row| R::key(row) >= *last);
            found.extend(page);
            if ended {
                return Ok(found);
            }
        }
    }

    /// What the destination has and the source has not: one may have come there, and by its shadow here, since the source was
    /// read.
    async fn gone_rows<R: Rows>(&self, window: &Window<R>) -> Result<Vec<R::Row>, StoreError> {
        let here: HashSet<String> = window.source.iter().map(|row| R::show(&R::key(row))).collect();
        let mut gone = Vec::new();
        for row in window.destination.iter().filter(|row| !here.contains(&R::show(&R::key(row)))) {
            if R::one(self.source, &R::key(row)).await?.is_none() {
                gone.push(row.clone());
            }
        }
        Ok(gone)
    }

    async fn rows_of(&self, table: Table) -> Result<Option<u64>, StoreError> {
        match table {
            Table::Entries => Ok(Some(self.source.entries.counts().await?.entries)),
            Table::Requests if self.since.is_none() => Ok(Some(self.source.ledger.count().await?)),
            _ => Ok(None),
        }
    }

    /// Rows of one page, so that a slow rate is kept evenly.
    fn ceiling(&self) -> u32 {
        self.rate.map_or(u32::MAX, |rate| (rate / 4).max(1))
    }

    /// Counts a window, tells how far it is and keeps to the rate.
    async fn count(&mut self, table: Table, add: Tally, of: Option<u64>) {
        let tally = self.report.tables.entry(table).or_default();
        tally.read += add.read;
        tally.added += add.added;
        tally.changed += add.changed;
        tally.deleted += add.deleted;
        tally.different += add.different;
        (self.progress)(table, tally.read, of);
        self.rows += add.read + add.deleted;
        if let Some(rate) = self.rate {
            let due = Duration::from_millis(self.rows.saturating_mul(1_000) / u64::from(rate));
            tokio::time::sleep(due.saturating_sub(self.began.elapsed())).await;
        }
    }

    async fn note<R: Rows>(&mut self, after: Option<&R::Key>) -> Result<(), TransferError> {
        if let (Some(checkpoints), Some(stores), true, Some(key)) =
            (&mut self.checkpoints, self.destination, self.writes, after)
        {
            checkpoints.write(stores, R::TABLE, &R::show(key)).await?;
        }
        Ok(())
    }

    async fn forget(&mut self, table: Table) -> Result<(), TransferError> {
        // A table that has no rows is in the report too.
        self.report.tables.entry(table).or_default();
        *self.report.took.entry(table).or_default() += self.table_began.elapsed();
        self.table_began = Instant::now();
        if let (Some(checkpoints), Some(stores), true) = (&self.checkpoints, self.destination, self.writes) {
            checkpoints.forget(stores, table).await?;
        }
        Ok(())
    }

    /// Says to a database that replicas share that its invalidations are known here, or it refuses to store anything.
    /// What they mean is gone at the source too, or is to be stored.
    async fn obey(&self) -> Result<(), StoreError> {
        if let Some(changes) = self.destination.and_then(|stores| stores.changes.as_ref()) {
            let head = changes.feed(u64::MAX >> 1, 1).await?.head;
            changes.obeyed(head);
        }
        Ok(())
    }

    /// Runs a write of entries, again where an invalidation came in between.
    async fn obeying<'w>(&self, write: impl Fn(&'a Stores) -> BoxFuture<'w, ()>) -> Result<(), StoreError>
    where
        'a: 'w,
    {
        let Some(stores) = self.destination else { return Ok(()) };
        let mut tries = 0;
        loop {
            match write(stores).await {
                Err(StoreError::Behind) if tries < OBEY_TRIES => {
                    tries += 1;
                    self.obey().await?;
                }
                done => return done,
            }
        }
    }
}

/// An id as much earlier as a resumed run looks back.
fn back(id: [u8; 16]) -> [u8; 16] {
    let at = u128::from_be_bytes(id) >> 80;
    floor(u64::try_from(at).unwrap_or(u64::MAX).saturating_sub(RESUME_MARGIN_MS))
}
