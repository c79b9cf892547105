//! Threads that compute vectors, and the bounded queue in front of them. Sits between the async data path and the model.
//!
//! A job is one text. Equal texts do not queue twice: the cache in front lets one caller ask and the others wait for its
//! answer. So a thread takes one job at a time; taking several at a hand-over would only keep them from an idle thread,
//! and a batch through the model would make a text's vector depend on its neighbours (see `builtin`).
//!
//! Invariants: a full queue refuses at once; a job whose caller has gone is dropped without being computed; one whose
//! caller leaves while it is computed is remembered, so that a text that takes longer than the deadline is not computed
//! anew with every request; a panic in the computation costs that job only. The threads end when the queue's sender is
//! dropped.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use super::reading::{Key, Memory, Reading};
use super::{Counters, EmbedError};

/// Computes one vector. Made and used on one thread, so it may own that thread's scratch space.
pub(super) type Infer = Box<dyn FnMut(&str) -> Result<Reading, EmbedError>>;

struct Job {
    key: Key,
    text: String,
    reply: oneshot::Sender<Result<Reading, EmbedError>>,
}

/// The sending side.
pub(super) struct Workers {
    jobs: SyncSender<Job>,
    counters: Arc<Counters>,
}

impl Workers {
    /// Starts `threads` threads, each with its own `make()`, behind a queue of `queue` jobs (at least one of each).
    pub(super) fn start<F>(
        threads: usize,
        queue: usize,
        memory: &Arc<Memory>,
        counters: Arc<Counters>,
        make: F,
    ) -> Result<Self, EmbedError>
    where
        F: Fn() -> Infer + Send + Sync + 'static,
    {
        let (jobs, source) = sync_channel(queue.max(1));
        let source = Arc::new(Mutex::new(source));
        let make = Arc::new(make);
        for number in 0..threads.max(1) {
            let (source, make) = (Arc::clone(&source), Arc::clone(&make));
            let (memory, counters) = (Arc::clone(memory), Arc::clone(&counters));
            std::thread::Builder::new()
                .name(format!("embed-{number}"))
                .spawn(move || work(&source, make.as_ref(), &memory, &counters))
                .map_err(|error| EmbedError::Model(format!("cannot start a thread: {error}")))?;
        }
        Ok(Self { jobs, counters })
    }

    /// Queues the text and waits. Dropping the future withdraws the job, if no thread has begun it.
    pub(super) async fn run(&self, key: Key, text: &str) -> Result<Reading, EmbedError> {
        let (reply, answer) = oneshot::channel();
        self.counters.depth.fetch_add(1, Ordering::Relaxed);
        self.jobs.try_send(Job { key, text: text.to_owned(), reply }).map_err(|refused| {
            self.counters.depth.fetch_sub(1, Ordering::Relaxed);
            match refused {
                TrySendError::Full(_) => EmbedError::QueueFull,
                TrySendError::Disconnected(_) => gone(),
            }
        })?;
        answer.await.map_err(|_| gone())?
    }
}

fn gone() -> EmbedError {
    EmbedError::Model("no inference thread is left".to_owned())
}

fn work(source: &Mutex<Receiver<Job>>, make: &dyn Fn() -> Infer, memory: &Memory, counters: &Counters) {
    let mut infer = make();
    while let Some(job) = next(source) {
        counters.depth.fetch_sub(1, Ordering::Relaxed);
        if job.reply.is_closed() {
            continue;
        }
        counters.inferences.fetch_add(1, Ordering::Relaxed);
        let result = catch_unwind(AssertUnwindSafe(|| infer(&job.text))).unwrap_or_else(|_| {
            // Whatever state it was in, nothing uses it again.
            infer = make();
            Err(EmbedError::Model("inference panicked".to_owned()))
        });
        if let Err(Ok(unclaimed)) = job.reply.send(result) {
            memory.insert(job.key, unclaimed);
        }
    }
}

/// The next job; `None` when no sender is left. The lock is held while waiting: the other idle threads wait for it.
fn next(source: &Mutex<Receiver<Job>>) -> Option<Job> {
    source.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embed::reading::unit;
    use std::sync::mpsc;

    /// Workers whose computation announces itself, then waits for a word on the returned channel.
    fn gated(queue: usize) -> (Arc<Workers>, Receiver<String>, mpsc::Sender<()>) {
        let (started, announced) = mpsc::channel();
        let (open, gate) = mpsc::channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        let make = move || -> Infer {
            let (started, gate) = (started.clone(), Arc::clone(&gate));
            Box::new(move |text| {
                started.send(text.to_owned()).unwrap();
                gate.lock().unwrap().recv().unwrap();
                Ok(Reading { vector: unit(vec![1.0], 1)?, unseen: None, bill: None })
            })
        };
        let workers = Workers::start(1, queue, &Arc::new(Memory::new(1)), Arc::default(), make).unwrap();
        (Arc::new(workers), announced, open)
    }

    fn ask(workers: &Arc<Workers>, text: &'static str) -> tokio::task::JoinHandle<Result<Reading, EmbedError>> {
        let workers = Arc::clone(workers);
        tokio::spawn(async move { workers.run([0; 32], text).await })
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once() {
        let (workers, announced, open) = gated(2);
        let first = ask(&workers, "first");
        tokio::task::yield_now().await;
        assert_eq!(announced.recv().unwrap(), "first");
        let waiting = [ask(&workers, "second"), ask(&workers, "third")];
        tokio::task::yield_now().await;
        assert_eq!(workers.counters.depth.load(Ordering::Relaxed), 2);
        assert_eq!(workers.run([0; 32], "fourth").await.unwrap_err(), EmbedError::QueueFull);
        assert_eq!(workers.counters.depth.load(Ordering::Relaxed), 2);
        for _ in 0..3 {
            open.send(()).unwrap();
        }
        first.await.unwrap().unwrap();
        for job in waiting {
            job.await.unwrap().unwrap();
        }
        assert_eq!(workers.counters.depth.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_job_whose_caller_has_gone_is_not_computed() {
        let (workers, announced, open) = gated(8);
        let first = ask(&workers, "first");
        tokio::task::yield_now().await;
        assert_eq!(announced.recv().unwrap(), "first");
        let abandoned = ask(&workers, "abandoned");
        tokio::task::yield_now().await;
        abandoned.abort();
        assert!(abandoned.await.unwrap_err().is_cancelled());
        let last = ask(&workers, "last");
        tokio::task::yield_now().await;
        open.send(()).unwrap();
        open.send(()).unwrap();
        first.await.unwrap().unwrap();
        last.await.unwrap().unwrap();
        assert_eq!(announced.recv().unwrap(), "last");
        assert_eq!(workers.counters.inferences.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn a_panic_costs_one_job_and_the_thread_goes_on() {
        let make = || -> Infer {
            let mut used = 0;
            Box::new(move |text| {
                used += 1;
                assert!(text != "bad", "this panic belongs to the test");
                Ok(Reading { vector: unit(vec![used as f32, 1.0], 2)?, unseen: None, bill: None })
            })
        };
        let workers = Workers::start(1, 4, &Arc::new(Memory::new(1)), Arc::default(), make).unwrap();
        let before = workers.run([0; 32], "good").await.unwrap().vector;
        let error = workers.run([0; 32], "bad").await.unwrap_err();
        assert_eq!(error.reason(), "model");
        assert_eq!(workers.run([0; 32], "good").await.unwrap().vector, before, "it starts over with fresh state");
    }
}
