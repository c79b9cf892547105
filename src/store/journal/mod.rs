//! A local, append-only journal of ledger rows: what a killed process knew, and what the store could not take yet.
//!
//! In the life of a request: before the last byte of a reply is handed over, its row is appended here with one `write`,
//! which outlives the process though not the machine. When the store has the row it is *confirmed*; a file is deleted when
//! all its rows are. Rows that the store cannot take are *spooled*: dropped from memory and left to the [`drain`], which
//! brings them to the store from here, as it does with the files of an earlier life.
//!
//! Invariants:
//! - A file is deleted only when each of its rows is in the store or, in a later version, in a later file.
//! - Of a request with several rows the last one counts. A later version is written within moments of the first, so it is
//!   in the same file or in the next.
//! - Memory is a few numbers for each file, and while files are read two of them. Disk is bounded by a cap.
//! - A file whose write or sync failed is not written to again; what it has is still read and replayed.
//! - One process at a time works on a directory.
//!
//! It must never fail a request, or hold one up for longer than a `write` takes.

mod disk;
pub(super) mod drain;
mod encoding;
mod segment;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tokio::time::Instant as Moment;

use self::disk::Directory;
use super::LedgerRow;

/// Bytes after which the next file is begun.
const SEGMENT: u64 = 1 << 20;
/// Bytes from which on a file is deleted, if all its rows are confirmed, although it is not full.
const TIDY: u64 = 64 << 10;
/// After a failed write nothing is tried for this long; a full disk does not get better by the microsecond.
const PAUSE: Duration = Duration::from_secs(1);

/// Where the journal is, and how large it may get.
#[derive(Clone, Debug)]
pub struct JournalSettings {
    /// Directory of this process alone; made if it is not there.
    pub directory: PathBuf,
    /// Bytes of all files together.
    pub bytes: u64,
    /// Whether the disk is asked to keep what was appended, a few milliseconds later and many rows at a time.
    pub sync: bool,
}

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another process holds the directory.
    #[error("{path}: another remora keeps its ledger journal here; stop it, or give this one its own `[store] journal_dir`", path = .path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The directory cannot be made, read or written.
    #[error("{path}: the ledger journal cannot be kept here ({detail}); set `[store] journal_dir` to a directory on a local disk that this user can write", path = .path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        detail: String,
    },
}

/// The journal; cheap to clone.
#[derive(Clone)]
pub struct Journal(Arc<Inner>);

/// Where the latest version of a row stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Receipt {
    segment: u64,
    crc: u32,
}

/// Faults and gauges at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JournalStats {
    /// Rows that are only here and wait for the store; those of an earlier life included.
    pub spooled_rows: u64,
    /// Bytes of the files that have such rows.
    pub spool_bytes: u64,
    /// How long the oldest of them has waited.
    pub spool_lag: Duration,
    /// Spooled rows that the store has by now.
    pub replayed_rows: u64,
    /// Rows that could not be appended because the disk refused.
    pub write_faults: u64,
    /// Syncs that failed.
    pub sync_faults: u64,
    /// Rows that were not appended because the journal has reached its cap.
    pub full: u64,
    /// Files that ended in the middle of a row.
    pub torn: u64,
    /// Files set aside because something in them is damaged.
    pub damaged: u64,
    /// Transactions of the replay that failed.
    pub failures: u64,
}

impl JournalStats {
    /// The faults by kind.
    pub fn faults(&self) -> [(&'static str, u64); 5] {
        [
            ("write", self.write_faults),
            ("sync", self.sync_faults),
            ("full", self.full),
            ("torn", self.torn),
            ("damaged", self.damaged),
        ]
    }
}

struct Inner {
    directory: Directory,
    cap: u64,
    sync: bool,
    state: Mutex<State>,
    /// The store has failed and nothing has reached it since.
    away: AtomicBool,
    counts: Counts,
    /// There is something to replay.
    wake: Notify,
    /// There is something to sync.
    unsynced: Notify,
    waiting: watch::Sender<Waiting>,
}

#[derive(Default)]
struct Counts {
    replayed: AtomicU64,
    write_faults: AtomicU64,
    sync_faults: AtomicU64,
    full: AtomicU64,
    torn: AtomicU64,
    damaged: AtomicU64,
    failures: AtomicU64,
}

/// Files that wait to be replayed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Waiting {
    /// With rows of this life.
    own: usize,
    /// All.
    all: usize,
}

struct State {
    active: Option<Active>,
    segments: BTreeMap<u64, Segment>,
    next: u64,
    bytes: u64,
    paused: Option<Instant>,
    /// Full files that have not been synced.
    to_sync: Vec<(u64, Arc<File>)>,
    /// The last file that was begun, if its name in the directory has not been synced.
    new_name: Option<u64>,
    told_full: bool,
}

struct Active {
    number: u64,
    file: Arc<File>,
}

#[derive(Clone, Copy, Default)]
struct Segment {
    bytes: u64,
    /// Rows that the program holds in memory, too.
    held: u64,
    /// Rows that are only here.
    spooled: u64,
    /// Since when the first of these waits; from an earlier life since the journal was opened.
    since: Option<Moment>,
    /// From an earlier life and not replayed yet.
    inherited: bool,
    /// Something in it cannot be read; it is kept under another name.
    damaged: bool,
}

impl Segment {
    fn waits(&self) -> bool {
        self.inherited || self.spooled > 0
    }

    fn is_done(&self) -> bool {
        self.held == 0 && !self.waits()
    }

    fn let_go(&mut self) {
        self.held = self.held.saturating_sub(1);
    }
}

impl Journal {
    /// Takes the directory and finds what an earlier life left there. Nothing is read or written yet.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub fn open(settings: &JournalSettings) -> Result<Self, JournalError> {
        let (directory, found) = Directory::open(&settings.directory)?;
        let since = Some(Moment::now());
        let inherit = |(number, bytes)| (number, Segment { bytes, inherited: true, since, ..Segment::default() });
        let segments: BTreeMap<_, _> = found.files.into_iter().map(inherit).collect();
        let state = State {
            active: None,
            next: found.next,
            bytes: segments.values().map(|segment| segment.bytes).sum(),
            segments,
            paused: None,
            to_sync: Vec::new(),
            new_name: None,
            told_full: false,
        };
        let waiting = watch::Sender::new(state.waiting());
        Ok(Self(Arc::new(Inner {
            directory,
            cap: settings.bytes,
            sync: settings.sync,
            state: Mutex::new(state),
            away: AtomicBool::new(false),
            counts: Counts::default(),
            wake: Notify::new(),
            unsynced: Notify::new(),
            waiting,
        })))
    }

    /// Gauges and counters now.
    pub fn stats(&self) -> JournalStats {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counts = &self.0.counts;
        let state = self.state();
        let waiting = state.segments.values().filter(|segment| segment.waits());
        JournalStats {
            spooled_rows: waiting.clone().map(|segment| segment.spooled).sum(),
            spool_bytes: waiting.clone().map(|segment| segment.bytes).sum(),
            spool_lag: waiting
                .filter_map(|segment| segment.since)
                .min()
                .map_or(Duration::ZERO, |since| since.elapsed()),
            replayed_rows: count(&counts.replayed),
            write_faults: count(&counts.write_faults),
            sync_faults: count(&counts.sync_faults),
            full: count(&counts.full),
            torn: count(&counts.torn),
            damaged: count(&counts.damaged),
            failures: count(&counts.failures),
        }
    }

    /// Appends the row unless exactly this version of it is there already. Whether it stands in the journal now; if not,
    /// that has been counted.
    pub(super) fn note(&self, row: &LedgerRow, receipt: &mut Option<Receipt>) -> bool {
        let Some((frame, crc)) = segment::frame(row) else {
            self.0.counts.write_faults.fetch_add(1, Ordering::Relaxed);
            return false;
        };
        if receipt.is_some_and(|receipt| receipt.crc == crc) {
            return true;
        }
        let Some(segment) = self.append(&frame) else { return false };
        if let Some(earlier) = receipt.replace(Receipt { segment, crc }) {
            self.confirm([earlier]);
        }
        true
    }

    /// These rows are in the store, or superseded.
    pub(super) fn confirm(&self, receipts: impl IntoIterator<Item = Receipt>) {
        let done: Vec<_> = {
            let mut state = self.state();
            let receipts = receipts.into_iter();
            receipts.filter_map(|receipt| state.settle(receipt.segment, Segment::let_go)).collect()
        };
        self.remove(done);
    }

    /// These rows are dropped from memory and left to the drain. `since` is when the first of them was accepted.
    pub(super) fn spool(&self, receipts: impl IntoIterator<Item = Receipt>, since: Moment) {
        {
            let mut state = self.state();
            for receipt in receipts {
                if let Some(segment) = state.segments.get_mut(&receipt.segment) {
                    segment.let_go();
                    segment.spooled += 1;
                    segment.since = Some(segment.since.map_or(since, |earlier| earlier.min(since)));
                }
            }
            self.0.waiting.send_replace(state.waiting());
        }
        self.0.wake.notify_one();
    }

    /// Whether the store has failed and nothing has reached it since.
    pub(super) fn is_away(&self) -> bool {
        self.0.away.load(Ordering::Relaxed)
    }

    /// Says whether the store can be reached.
    pub(super) fn set_away(&self, away: bool) {
        if self.0.away.swap(away, Ordering::Relaxed) != away {
            let JournalStats { spooled_rows, spool_bytes, .. } = self.stats();
            if away {
                tracing::warn!("the store keeps failing: ledger rows are kept in the journal until it answers");
            } else {
                tracing::info!(spooled_rows, spool_bytes, "the store answers again");
            }
        }
    }

    /// Ends when the store has all rows of this life that were spooled.
    pub(super) fn emptied(&self) -> impl Future<Output = ()> + Send + use<> {
        self.until(|waiting| waiting.own == 0)
    }

    fn until(&self, reached: fn(&Waiting) -> bool) -> impl Future<Output = ()> + Send + use<> {
        let mut waiting = self.0.waiting.subscribe();
        async move {
            // An error means that the journal is gone, and with it what could be waited for.
            let _ = waiting.wait_for(reached).await;
        }
    }

    fn append(&self, frame: &[u8]) -> Option<u64> {
        let mut state = self.state();
        if state.paused.is_some_and(|until| Instant::now() < until) {
            self.0.counts.write_faults.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let len = frame.len() as u64;
        if state.bytes + len > self.0.cap {
            self.0.counts.full.fetch_add(1, Ordering::Relaxed);
            if !std::mem::replace(&mut state.told_full, true) {
                tracing::error!(bytes = state.bytes, "the ledger journal has reached `[store] journal_bytes`");
            }
            return None;
        }
        let written = self.try_append(&mut state, frame).or_else(|error| {
            // Whatever part of it was written is a torn tail; the row goes to a file of its own.
            self.give_up(&mut state, &error);
            self.try_append(&mut state, frame)
        });
        let number = match written {
            Ok(number) => number,
            Err(error) => {
                self.give_up(&mut state, &error);
                self.0.counts.write_faults.fetch_add(1, Ordering::Relaxed);
                state.paused = Some(Instant::now() + PAUSE);
                return None;
            }
        };
        state.paused = None;
        state.bytes += len;
        let segment = state.segments.entry(number).or_default();
        segment.bytes += len;
        segment.held += 1;
        drop(state);
        if self.0.sync {
            self.0.unsynced.notify_one();
        }
        Some(number)
    }

    fn try_append(&self, state: &mut State, frame: &[u8]) -> std::io::Result<u64> {
        let full = |active: &Active| state.segments.get(&active.number).is_some_and(|segment| segment.bytes >= SEGMENT);
        if state.active.as_ref().is_some_and(full) {
            self.seal(state);
        }
        let active = match &state.active {
            Some(active) => active,
            None => {
                let file = Arc::new(self.0.directory.create(state.next)?);
                let number = state.next;
                state.next += 1;
                state.new_name = self.0.sync.then_some(number);
                state.segments.insert(number, Segment::default());
                state.active.insert(Active { number, file })
            }
        };
        (&*active.file).write_all(frame)?;
        Ok(active.number)
    }

    /// Nothing more is written to the active file.
    fn seal(&self, state: &mut State) {
        let Some(Active { number, file }) = state.active.take() else { return };
        if self.0.sync {
            state.to_sync.push((number, file));
        }
        if let Some((number, damaged)) = state.settle(number, |_| {}) {
            self.0.directory.remove(number, damaged);
        }
    }

    fn give_up(&self, state: &mut State, error: &std::io::Error) {
        if state.paused.is_none() {
            tracing::error!(%error, directory = %self.0.directory.path().display(), "the ledger journal cannot be written");
        }
        self.seal(state);
    }

    fn remove(&self, done: Vec<(u64, bool)>) {
        for (number, damaged) in done {
            self.0.directory.remove(number, damaged);
        }
    }

    /// A panic elsewhere leaves plain numbers behind, so a poisoned lock is taken as it is.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Changes what is known of a file. If nothing is left to do for it, forgets it and returns it with whether it is
    /// damaged; its file has then to be removed.
    fn settle(&mut self, number: u64, change: impl FnOnce(&mut Segment)) -> Option<(u64, bool)> {
        let segment = self.segments.get_mut(&number)?;
        change(segment);
        let segment = *segment;
        let is_active = self.active.as_ref().is_some_and(|active| active.number == number);
        if !segment.is_done() || (is_active && segment.bytes < TIDY) {
            return None;
        }
        if is_active {
            self.active = None;
        }
        self.segments.remove(&number);
        self.bytes = self.bytes.saturating_sub(segment.bytes);
        Some((number, segment.damaged))
    }

    fn waiting(&self) -> Waiting {
        let waiting = self.segments.values().filter(|segment| segment.waits());
        Waiting { own: waiting.clone().filter(|segment| !segment.inherited).count(), all: waiting.count() }
    }
}
