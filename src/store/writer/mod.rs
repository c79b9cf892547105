//! Writes entries, ledger rows and decisions in batches, off the request path.
//!
//! In the life of a request: at its start the pipeline reserves a [`LedgerSlot`], so that sending the row at the end
//! cannot fail; a stored answer is handed over with [`WriterHandle::entry`], a decision of the semantic tier with
//! [`WriterHandle::decision`]. None of them waits.
//!
//! Invariants:
//! - A ledger row that was accepted is written, however often the store fails in between. It is kept until the store
//!   confirms it, in memory or, while the store keeps failing, in the journal alone; and it is written again if its fate is
//!   unknown; the store ignores what it already has. Only a row that the journal could not take is given up, and counted,
//!   when a writer that has been closed finds the store still failing.
//! - All queues are bounded. A full ledger queue refuses slots, the others refuse writes when full; all are counted.
//! - Entry writes are applied in the order in which they were accepted, and so are decisions. A batch that fails for
//!   too long is dropped and counted: the cache may forget, and what was not learnt is learnt later.
//! - Each kind travels in a [`lane`] of its own, all in one task, so failing entries never hold up the ledger.
//!
//! It must never block a request.

mod lane;
#[cfg(test)]
mod outage_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod unasked_tests;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use self::lane::{Entrance, Lane, Patience, Permit};
use super::journal::drain::Drain;
use super::journal::{Journal, JournalStats, Receipt};
use super::{DecisionWrite, EntryWrite, LedgerRow, Stores};

/// Tries of a batch of entry writes or decisions before it is dropped, so that one that can never succeed does not
/// block the rest. A store that is away is tried for somewhat over two minutes, which one that is started again needs less
/// than.
const DROP_PATIENCE: Patience =
    Patience { open: NonZeroU32::new(DROP_TRIES), refused: NonZeroU32::new(REFUSED_TRIES), closing: 3 };
const DROP_TRIES: u32 = 34;
const REFUSED_TRIES: u32 = 8;
/// Ledger rows are tried for as long as the writer is open.
const LEDGER_PATIENCE: Patience = Patience { open: None, refused: None, closing: 5 };

/// How much may wait, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct WriterSizes {
    /// Ledger rows that may wait, reserved slots included.
    pub ledger: usize,
    /// Entry writes that may wait.
    pub entries: usize,
    /// Decisions and labels that may wait.
    pub decisions: usize,
    /// Longest time that a row waits for others to share its transaction.
    pub flush: Duration,
}

/// The queue of entry writes or of decisions is full or closed; the write was dropped and counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the queue of writes to the store is full or closed")]
pub struct Full;

/// Why a flush did not confirm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlushError {
    /// Not everything was written in time.
    #[error("not everything was written in time")]
    Deadline,
    /// The writer has ended.
    #[error("the writer has ended")]
    Ended,
}

impl FlushError {
    /// Name in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deadline => "deadline",
            Self::Ended => "ended",
        }
    }
}

/// What the writer gave up in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unwritten {
    /// Ledger rows lost.
    pub rows: u64,
    /// Entry writes dropped after they had been accepted.
    pub entries: u64,
    /// Decisions and labels dropped after they had been accepted.
    pub decisions: u64,
    /// Ledger rows left in the journal. They are not lost: the next life writes them.
    pub spooled: u64,
}

/// The writer's gauges and counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriterStats {
    /// Ledger rows accepted and not yet written, the spooled ones included.
    pub ledger_depth: u64,
    /// Entry writes accepted and not yet written.
    pub entries_depth: u64,
    /// Decisions and labels accepted and not yet written.
    pub decisions_depth: u64,
    /// Age of the oldest ledger row that the store does not have, of the batch at hand or only in the journal.
    pub ledger_lag: Duration,
    /// The same of the batch at hand alone.
    pub batch_lag: Duration,
    /// Ledger rows written.
    pub rows_written: u64,
    /// Entry writes applied.
    pub entries_written: u64,
    /// Transactions that failed, retries included.
    pub failures: u64,
    /// Slots refused because the ledger queue was full or closed.
    pub slots_refused: u64,
    /// Entry writes dropped: refused because the queue was full or closed, or given up after retries.
    pub entries_dropped: u64,
    /// Decisions and labels dropped: refused because the queue was full or closed, or given up after retries.
    pub decisions_dropped: u64,
    /// Ledger rows given up after closing on a failing store.
    pub rows_lost: u64,
    /// Ledger rows that are only in the journal and wait for the store.
    pub spooled_rows: u64,
    /// Bytes of the journal's files that have such rows.
    pub spool_bytes: u64,
    /// Whether ledger rows go to the journal because the store keeps failing.
    pub store_away: bool,
    /// Faults of the journal.
    pub journal: JournalStats,
}

/// The pipeline's end of the writer; cheap to clone.
#[derive(Clone)]
pub struct WriterHandle {
    ledger: Entrance<LedgerRow>,
    entries: Entrance<EntryWrite>,
    decisions: Entrance<DecisionWrite>,
    refused: Arc<Refused>,
    journal: Option<Journal>,
}

#[derive(Default)]
struct Refused {
    slots: AtomicU64,
    entries: AtomicU64,
    decisions: AtomicU64,
}

/// Room for one ledger row, held from the start of a request to its end. Dropped without a row, it frees the room.
pub struct LedgerSlot {
    permit: Permit<LedgerRow>,
    journal: Option<Journal>,
    receipt: Option<Receipt>,
}

impl LedgerSlot {
    /// Writes the row as it is known by now to the journal, where it outlives the process. To be called before the last
    /// byte of a reply is handed over. Costs a `write`; if the disk refuses, that is counted and the row is no worse off
    /// than without a journal.
    pub fn note(&mut self, row: &LedgerRow) {
        if let Some(journal) = &self.journal {
            journal.note(row, &mut self.receipt);
        }
    }

    /// Hands the final row over. Cannot fail and does not wait. What is not in the journal yet is written there first.
    pub fn send(mut self, row: LedgerRow) {
        self.note(&row);
        self.permit.send(row, self.receipt);
    }
}

impl WriterHandle {
    /// Reserves room for one ledger row; `None` if the queue is full or closed, which is counted.
    pub fn ledger_slot(&self) -> Option<LedgerSlot> {
        let permit = self.ledger.reserve();
        if permit.is_none() {
            self.refused.slots.fetch_add(1, Ordering::Relaxed);
        }
        permit.map(|permit| LedgerSlot { permit, journal: self.journal.clone(), receipt: None })
    }

    /// Hands an entry write over; `Err` if the queue is full or closed, which is counted.
    pub fn entry(&self, write: EntryWrite) -> Result<(), Full> {
        let Some(permit) = self.entries.reserve() else {
            self.refused.entries.fetch_add(1, Ordering::Relaxed);
            return Err(Full);
        };
        permit.send(write, None);
        Ok(())
    }

    /// Hands a decision or a label over; `Err` if the queue is full or closed, which is counted.
    pub fn decision(&self, write: DecisionWrite) -> Result<(), Full> {
        let Some(permit) = self.decisions.reserve() else {
            self.refused.decisions.fetch_add(1, Ordering::Relaxed);
            return Err(Full);
        };
        permit.send(write, None);
        Ok(())
    }

    /// Waits, at most for `within`, until everything accepted so far is in the store (or, but for ledger rows, given up).
    /// While the store is away, that rows are in the journal is not enough.
    pub async fn flush(&self, within: Duration) -> Result<(), FlushError> {
        let (rows, entries, decisions) = (self.ledger.flushed(), self.entries.flushed(), self.decisions.flushed());
        let journal = self.journal.clone();
        let all = async {
            let ok = rows.await && entries.await && decisions.await;
            if let Some(journal) = journal {
                journal.emptied().await;
            }
            ok
        };
        match timeout(within, all).await {
            Err(_) => Err(FlushError::Deadline),
            Ok(false) => Err(FlushError::Ended),
            Ok(true) => Ok(()),
        }
    }

    /// Accepts nothing more. The writer ends once all slots have been sent or dropped and what was accepted is
    /// written.
    pub fn close(&self) {
        self.ledger.close();
        self.entries.close();
        self.decisions.close();
    }

    /// Gauges and counters now.
    pub fn stats(&self) -> WriterStats {
        let (ledger, entries, decisions) = (self.ledger.gauges(), self.entries.gauges(), self.decisions.gauges());
        let journal = self.journal.as_ref().map(Journal::stats).unwrap_or_default();
        WriterStats {
            ledger_depth: ledger.depth.saturating_add(journal.spooled_rows),
            entries_depth: entries.depth,
            decisions_depth: decisions.depth,
            ledger_lag: ledger.lag.max(journal.spool_lag),
            batch_lag: ledger.lag,
            rows_written: ledger.written.saturating_add(journal.replayed_rows),
            entries_written: entries.written,
            failures: [ledger.failures, entries.failures, decisions.failures, journal.failures].iter().sum(),
            slots_refused: self.refused.slots.load(Ordering::Relaxed),
            entries_dropped: self.refused.entries.load(Ordering::Relaxed).saturating_add(entries.given_up),
            decisions_dropped: self.refused.decisions.load(Ordering::Relaxed).saturating_add(decisions.given_up),
            rows_lost: ledger.given_up,
            spooled_rows: journal.spooled_rows,
            spool_bytes: journal.spool_bytes,
            store_away: self.journal.as_ref().is_some_and(Journal::is_away),
            journal,
        }
    }
}

/// The task's end of the writer.
pub struct Writer {
    ledger: Lane<LedgerRow>,
    entries: Lane<EntryWrite>,
    decisions: Lane<DecisionWrite>,
    drain: Option<Drain>,
}

impl Writer {
    /// Starts the writer on the current tokio runtime, without a journal. It ends after [`WriterHandle::close`], or when all handles and
    /// slots are gone, and then says what it could not write. A program that supervises its tasks itself uses
    /// [`Writer::new`] and [`Writer::run`] instead.
    pub fn spawn(stores: &Stores, sizes: WriterSizes) -> (WriterHandle, JoinHandle<Unwritten>) {
        let (handle, writer) = Self::new(stores, sizes, None);
        (handle, tokio::spawn(writer.run()))
    }

    /// The two ends. Nothing is written until [`Writer::run`] is polled. Without a journal, rows that wait are lost with
    /// the process.
    pub fn new(stores: &Stores, sizes: WriterSizes, journal: Option<Journal>) -> (WriterHandle, Self) {
        let (ledger_in, ledger) = lane::lane(
            lane::Work {
                name: "ledger",
                stores: stores.clone(),
                write: |stores, rows| stores.ledger.append(rows),
                patience: LEDGER_PATIENCE,
                flush: sizes.flush,
                shelter: journal.clone().map(|journal| lane::Shelter { journal, note: Journal::note }),
            },
            mpsc::channel(sizes.ledger.max(1)),
        );
        let (entries_in, entries) = lane::lane(
            lane::Work {
                name: "entries",
                stores: stores.clone(),
                write: |stores, writes| stores.entries.apply(writes),
                patience: DROP_PATIENCE,
                flush: sizes.flush,
                shelter: None,
            },
            mpsc::channel(sizes.entries.max(1)),
        );
        let (decisions_in, decisions) = lane::lane(
            lane::Work {
                name: "decisions",
                stores: stores.clone(),
                write: |stores, writes| stores.decisions.write(writes),
                patience: DROP_PATIENCE,
                flush: sizes.flush,
                shelter: None,
            },
            mpsc::channel(sizes.decisions.max(1)),
        );
        let drain = journal.clone().map(|journal| Drain::new(journal, stores.clone()));
        let refused = Arc::default();
        let handle = WriterHandle { ledger: ledger_in, entries: entries_in, decisions: decisions_in, refused, journal };
        (handle, Self { ledger, entries, decisions, drain })
    }

    /// Collects and writes until there is nothing left to come.
    pub async fn run(self) -> Unwritten {
        let (ended, ending) = oneshot::channel::<()>();
        let ledger = async {
            let lost = self.ledger.run().await;
            drop(ended);
            lost
        };
        let drain = async {
            match self.drain {
                // An error is what it gets when the lane ends.
                Some(drain) => drain.run(async { drop(ending.await) }).await,
                None => 0,
            }
        };
        let (rows, entries, decisions, spooled) = tokio::join!(ledger, self.entries.run(), self.decisions.run(), drain);
        Unwritten { rows, entries, decisions, spooled }
    }
}
