//! Brings what stands only in the journal to the store: the files of an earlier life, and rows that were spooled.
//!
//! Oldest file first, one batch at a time, for as long as it takes. Everything in a file is written, also what the store has
//! already, because the store ignores that; so a replay that was cut short is simply done again. While the store is away
//! this is what finds out that it is back.
//!
//! Here is also where the journal is synced, off the request path.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use super::super::{LedgerRow, Stores};
use super::segment::Reading;
use super::{Journal, State};

/// Rows in one transaction.
const BATCH: usize = 512;
/// Longest wait for one transaction.
const WRITE_DEADLINE: Duration = Duration::from_secs(30);
/// Wait before the first retry; it doubles with each failure.
const FIRST_BACKOFF: Duration = Duration::from_millis(50);
/// Longest wait between two tries, and so the longest that a store is back before it is noticed.
const LAST_BACKOFF: Duration = Duration::from_secs(2);
/// Tries of a batch before its rows are tried one by one.
const TOGETHER: u32 = 4;
/// Time for what is spooled when the program ends. What is left then is safe and is written by the next life.
const CLOSING: Duration = Duration::from_secs(5);
/// How often a file whose rows are all confirmed is looked for.
const TIDY: Duration = Duration::from_secs(10);

/// The task's end of the journal.
pub(in crate::store) struct Drain {
    journal: Journal,
    stores: Stores,
}

/// A file to be replayed.
struct Replay {
    number: u64,
    /// Spooled rows in it when the replay began.
    spooled: u64,
    /// The file after it.
    next: Option<u64>,
}

impl Drain {
    pub(in crate::store) fn new(journal: Journal, stores: Stores) -> Self {
        Self { journal, stores }
    }

    /// Runs until `ending` and a little longer. Returns how many rows are left for the next life.
    pub(in crate::store) async fn run(self, ending: impl Future<Output = ()>) -> u64 {
        let work = async { tokio::join!(self.replay_all(), self.sync_all()) };
        tokio::pin!(work);
        tokio::select! {
            _ = &mut work => {}
            () = ending => {}
        }
        if !self.journal.is_away() {
            let empty = timeout(CLOSING, self.journal.until(|waiting| waiting.all == 0));
            tokio::select! {
                _ = &mut work => {}
                _ = empty => {}
            }
        }
        self.journal.tidy();
        self.journal.stats().spooled_rows
    }

    async fn replay_all(&self) {
        self.count_inherited().await;
        loop {
            match self.journal.next_replay() {
                Some(replay) => self.replay(replay).await,
                None => {
                    if timeout(TIDY, self.journal.0.wake.notified()).await.is_err() {
                        self.journal.tidy();
                    }
                }
            }
        }
    }

    /// Counts the rows of an earlier life, so that the gauges tell how many there are.
    async fn count_inherited(&self) {
        let segments = self.journal.state().segments.clone();
        for (number, _) in segments.into_iter().filter(|(_, segment)| segment.inherited) {
            if let Some(reading) = self.read(number).await {
                self.journal.change(number, |segment| segment.spooled = reading.len() as u64);
            }
        }
        let rows = self.journal.stats().spooled_rows;
        if rows > 0 {
            tracing::info!(rows, "ledger rows of an earlier life are in the journal; the store gets them now");
        }
    }

    async fn replay(&self, replay: Replay) {
        let Some(mut reading) = self.read(replay.number).await else {
            self.journal.replayed(&replay, 0, true);
            return;
        };
        if let Some(next) = replay.next
            && let Some(later) = self.read(next).await
        {
            reading.without(&later);
        }
        let mut refused = false;
        for from in (0..reading.len()).step_by(BATCH) {
            let rows = reading.batch(from, BATCH);
            refused |= !self.write(&rows).await;
        }
        let counts = &self.journal.0.counts;
        if reading.torn > 0 {
            counts.torn.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(
                file = replay.number,
                bytes = reading.torn,
                "a file of the ledger journal ends in the middle of a row"
            );
        }
        if reading.damaged > 0 {
            tracing::error!(
                file = replay.number,
                places = reading.damaged,
                rows = reading.len(),
                "a file of the ledger journal is damaged: what can be read was written, the file is set aside"
            );
        }
        if replay.spooled > 0 {
            tracing::info!(file = replay.number, rows = reading.len(), "ledger rows written from the journal");
        }
        self.journal.replayed(&replay, reading.len() as u64, refused || reading.damaged > 0);
    }

    async fn read(&self, number: u64) -> Option<Reading> {
        let path = self.journal.0.directory.file(number);
        match spawn_blocking(move || Reading::of(&path)).await {
            Ok(Ok(reading)) => Some(reading),
            Ok(Err(error)) => {
                tracing::error!(file = number, %error, "a file of the ledger journal cannot be read");
                None
            }
            Err(_) => None,
        }
    }

    /// Writes the rows, however long it takes. `false` if the store refuses some of them and takes others.
    async fn write(&self, rows: &[LedgerRow]) -> bool {
        let (mut backoff, mut tries) = (FIRST_BACKOFF, 0u32);
        loop {
            if self.try_write(rows).await {
                return true;
            }
            tries = tries.saturating_add(1);
            if tries >= TOGETHER
                && let Some(refused) = self.write_apart(rows).await
            {
                tracing::error!(rows = refused, "the store refuses rows of the ledger; their file is set aside");
                return false;
            }
            sleep(backoff).await;
            backoff = (backoff * 2).min(LAST_BACKOFF);
        }
    }

    /// Writes each row by itself; returns how many are refused while others are taken. `None` if that cannot be told,
    /// because the store does not work at all.
    async fn write_apart(&self, rows: &[LedgerRow]) -> Option<usize> {
        let probe = self.probe(rows).await?;
        let mut refused = 0;
        for row in rows {
            if self.try_write(std::slice::from_ref(row)).await {
                continue;
            }
            // Only a row that is refused between two that are taken is at fault itself.
            if !self.try_write(&probe).await {
                return None;
            }
            refused += usize::from(!self.try_write(std::slice::from_ref(row)).await);
        }
        Some(refused)
    }

    /// A row that the store takes: one of these, or else the latest of the journal.
    async fn probe(&self, rows: &[LedgerRow]) -> Option<Vec<LedgerRow>> {
        let latest = self.journal.state().segments.keys().next_back().copied();
        let mut candidates: Vec<LedgerRow> = rows.iter().take(2).cloned().collect();
        if let Some(mut reading) = self.read(latest?).await {
            candidates.extend(reading.batch(reading.len().saturating_sub(1), 1));
        }
        for row in candidates {
            let row = vec![row];
            if self.try_write(&row).await {
                return Some(row);
            }
        }
        None
    }

    async fn try_write(&self, rows: &[LedgerRow]) -> bool {
        let failure = match timeout(WRITE_DEADLINE, self.stores.ledger.append(rows)).await {
            Ok(Ok(())) => {
                self.journal.set_away(false);
                return true;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        tracing::debug!(rows = rows.len(), failure, "not written from the journal yet");
        self.journal.0.counts.failures.fetch_add(1, Ordering::Relaxed);
        false
    }

    /// Syncs what was appended, all that came meanwhile at once.
    async fn sync_all(&self) {
        loop {
            self.journal.0.unsynced.notified().await;
            self.journal.sync_now().await;
        }
    }
}

impl Journal {
    fn change(&self, number: u64, change: impl FnOnce(&mut super::Segment)) {
        let done = {
            let mut state = self.state();
            let done = state.settle(number, change);
            self.0.waiting.send_replace(state.waiting());
            done
        };
        self.remove(done.into_iter().collect());
    }

    /// Syncs what was appended until now, and the names of files that were begun.
    pub(super) async fn sync_now(&self) {
        let (files, new_name) = {
            let mut state = self.state();
            let active = state.active.as_ref().map(|active| (active.number, Arc::clone(&active.file)));
            let mut files = std::mem::take(&mut state.to_sync);
            files.extend(active);
            (files, state.new_name.take())
        };
        for (number, file) in files {
            if let Ok(Err(error)) = spawn_blocking(move || file.sync_data()).await {
                self.sync_failed(number, &error);
            }
        }
        if let Some(number) = new_name {
            let path = self.0.directory.path().to_owned();
            if let Ok(Err(error)) = spawn_blocking(move || File::open(path)?.sync_all()).await {
                self.sync_failed(number, &error);
            }
        }
    }

    /// The oldest file with something to replay. From here on nothing more is appended to it.
    fn next_replay(&self) -> Option<Replay> {
        let mut state = self.state();
        let (number, segment) = state.segments.iter().find(|(_, segment)| segment.waits())?;
        let (number, spooled) = (*number, segment.spooled);
        if state.active.as_ref().is_some_and(|active| active.number == number) {
            self.seal(&mut state);
        }
        let State { segments, .. } = &*state;
        let next = segments.range(number + 1..).next().map(|(next, _)| *next);
        Some(Replay { number, spooled, next })
    }

    fn replayed(&self, replay: &Replay, rows: u64, damaged: bool) {
        let counts = &self.0.counts;
        counts.replayed.fetch_add(replay.spooled.min(rows), Ordering::Relaxed);
        counts.damaged.fetch_add(u64::from(damaged), Ordering::Relaxed);
        self.change(replay.number, |segment| {
            segment.spooled = segment.spooled.saturating_sub(replay.spooled);
            segment.inherited = false;
            segment.since = segment.since.filter(|_| segment.spooled > 0);
            segment.damaged |= damaged;
        });
    }

    /// Deletes the active file if all its rows are confirmed, however small it is.
    fn tidy(&self) {
        let mut state = self.state();
        let active = state.active.as_ref().map(|active| active.number);
        if active.and_then(|number| state.segments.get(&number)).is_some_and(super::Segment::is_done) {
            self.seal(&mut state);
        }
    }

    /// What a failed sync leaves behind is not known; the file is not used any more.
    pub(super) fn sync_failed(&self, number: u64, error: &std::io::Error) {
        self.0.counts.sync_faults.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state();
        if state.active.as_ref().is_some_and(|active| active.number == number) {
            self.give_up(&mut state, error);
        }
    }
}
