//! Entries: added, replaced, and deleted where they are gone at the source.

use std::collections::{HashMap, HashSet};

use super::super::TransferError;
use super::super::answers::{Entries, EntryKey, Heads, cursor, head, put};
use super::super::table::{PAGE_BYTES, Rows, Table};
use super::super::walk::{Walk, Window};
use super::{Copier, ROUNDS, Tally};
use crate::store::{EntryWrite, Exported, StoreError};

/// From this many keys of one range on, the range is read instead of each of them.
const RANGE_FROM: usize = 32;

/// Hashes of entries as they were written; `None` if they were deleted.
type Written = HashMap<EntryKey, Option<[u8; 32]>>;

impl Copier<'_> {
    /// All entries. What lies before a checkpoint may have changed since, and is looked at at the end.
    pub(super) async fn entries(&mut self) -> Result<(), TransferError> {
        let stopped = self.resume::<Entries>().await?;
        self.entries_between(stopped.clone(), None).await?;
        if stopped.is_some() {
            self.entries_between(None, stopped).await?;
        }
        self.forget(Table::Entries).await
    }

    async fn entries_between(&mut self, after: Option<EntryKey>, until: Option<EntryKey>) -> Result<(), TransferError> {
        if self.deep { self.follow::<Entries>(after, until).await } else { self.follow::<Heads>(after, until).await }
    }

    /// Compares both sides; once the destination has nothing more, copies whole pages.
    async fn follow<R: Rows<Key = EntryKey>>(
        &mut self,
        after: Option<EntryKey>,
        until: Option<EntryKey>,
    ) -> Result<(), TransferError> {
        let of = self.rows_of(Table::Entries).await?;
        let mut walk: Walk<'_, R> = Walk::new(self.source, self.destination, after, until.clone(), self.ceiling());
        while !walk.destination_ended() {
            let Some(window) = walk.next().await? else { return Ok(()) };
            let tally = self.bring_up_to_date(&window).await?;
            self.count(Table::Entries, tally, of).await;
            self.note::<R>(walk.after()).await?;
        }
        let after = walk.after().cloned();
        let mut walk: Walk<'_, Entries> = Walk::new(self.source, None, after, until, self.ceiling());
        while let Some(window) = walk.next().await? {
            let rows = window.source.len() as u64;
            if self.writes {
                let written = window.source.iter().map(|row| (Entries::key(row), Some(hash(row)))).collect();
                let writes: Vec<EntryWrite> = window.source.iter().map(put).collect();
                self.apply(&writes).await?;
                self.settle(written, Some((window.after, walk.after()))).await?;
            }
            self.count(Table::Entries, Tally { read: rows, added: rows, ..Tally::default() }, of).await;
            self.note::<Entries>(walk.after()).await?;
        }
        Ok(())
    }

    async fn bring_up_to_date<R: Rows<Key = EntryKey>>(&mut self, window: &Window<R>) -> Result<Tally, TransferError> {
        let mut tally = Tally { read: window.source.len() as u64, ..Tally::default() };
        let mut there: HashMap<EntryKey, [u8; 32]> =
            window.destination.iter().map(|row| (R::key(row), R::digest(row))).collect();
        let (mut missing, mut changed) = (Vec::new(), Vec::new());
        for row in &window.source {
            let key = R::key(row);
            match there.remove(&key) {
                None => missing.push(key),
                Some(digest) if digest == R::digest(row) => {}
                Some(_) => changed.push(key),
            }
        }
        let gone = self.gone(there.into_keys().collect()).await?;
        tally.added = missing.len() as u64;
        tally.changed = changed.len() as u64;
        tally.deleted = gone.len() as u64;
        if !self.writes {
            return Ok(tally);
        }
        let deletes: Vec<EntryWrite> = gone.iter().map(delete).collect();
        self.apply(&deletes).await?;
        self.settle(gone.into_iter().map(|key| (key, None)).collect(), None).await?;
        self.write_keys(&missing, false).await?;
        self.write_keys(&changed, true).await?;
        Ok(tally)
    }

    /// Those of these that the source does not have: one may have come there, and by its shadow here, since the source was
    /// read.
    async fn gone(&self, mut keys: Vec<EntryKey>) -> Result<Vec<EntryKey>, StoreError> {
        if keys.is_empty() {
            return Ok(keys);
        }
        let still = self.source.entries.load(&keys).await?;
        let still: HashSet<EntryKey> = still.iter().map(Heads::key).collect();
        keys.retain(|key| !still.contains(key));
        keys.sort_unstable();
        Ok(keys)
    }

    /// Writes these entries as the source has them now, a few megabytes at a time.
    async fn write_keys(&self, keys: &[EntryKey], replace: bool) -> Result<(), StoreError> {
        let (mut writes, mut written, mut bytes) = (Vec::new(), Written::new(), 0);
        for key in keys {
            if replace {
                writes.push(delete(key));
            }
            let Some(row) = Entries::one(self.source, key).await? else {
                written.insert(key.clone(), None);
                continue;
            };
            bytes += Entries::weight(&row);
            writes.push(put(&row));
            written.insert(key.clone(), Some(hash(&row)));
            if bytes >= PAGE_BYTES {
                self.apply(&writes).await?;
                self.settle(std::mem::take(&mut written), None).await?;
                (writes, bytes) = (Vec::new(), 0);
            }
        }
        self.apply(&writes).await?;
        self.settle(written, None).await
    }

    /// Compares what was written with the source as it is by now, and writes again what has changed there meanwhile.
    /// `range` is where the keys lie if they are many and lie together.
    async fn settle(
        &self,
        mut written: Written,
        range: Option<(Option<EntryKey>, Option<&EntryKey>)>,
    ) -> Result<(), StoreError> {
        for _ in 0..ROUNDS {
            if written.is_empty() {
                return Ok(());
            }
            let now = self.now(&written, range.as_ref()).await?;
            let (mut writes, mut again) = (Vec::new(), Written::new());
            for (key, digest) in &written {
                if now.get(key) == digest.as_ref() {
                    continue;
                }
                let row = if now.contains_key(key) { Entries::one(self.source, key).await? } else { None };
                writes.push(delete(key));
                writes.extend(row.as_ref().map(put));
                again.insert(key.clone(), row.as_ref().map(hash));
            }
            self.apply(&writes).await?;
            written = again;
        }
        Ok(())
    }

    /// Hashes of these entries at the source.
    async fn now(
        &self,
        written: &Written,
        range: Option<&(Option<EntryKey>, Option<&EntryKey>)>,
    ) -> Result<HashMap<EntryKey, [u8; 32]>, StoreError> {
        let mut now = HashMap::new();
        let Some((after, Some(until))) = range.filter(|_| written.len() >= RANGE_FROM) else {
            let keys: Vec<EntryKey> = written.keys().cloned().collect();
            let rows = self.source.entries.load(&keys).await?;
            return Ok(rows.iter().map(|row| (Heads::key(row), Heads::digest(row))).collect());
        };
        let mut after = after.as_ref().map(cursor);
        loop {
            let limit = u32::try_from(written.len()).unwrap_or(Heads::PAGE).min(Heads::PAGE);
            let rows = self.source.entries.scan(0, after.as_ref(), limit).await?;
            let Some(last) = rows.last().map(Heads::key) else { return Ok(now) };
            now.extend(rows.iter().map(|row| (Heads::key(row), Heads::digest(row))));
            if last >= **until {
                return Ok(now);
            }
            after = Some(cursor(&last));
        }
    }

    async fn apply(&self, writes: &[EntryWrite]) -> Result<(), StoreError> {
        if writes.is_empty() {
            return Ok(());
        }
        self.obeying(|stores| stores.entries.apply(writes)).await
    }
}

fn hash(row: &Exported) -> [u8; 32] {
    Heads::digest(&head(row))
}

fn delete(key: &EntryKey) -> EntryWrite {
    EntryWrite::Delete { tenant: key.0.clone(), entry: key.1 }
}
