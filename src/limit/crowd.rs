//! Many requests of one tenant that want money from the database at once: whoever gets the turn asks for all who wait.
//!
//! In the database they would wait for each other anyway, each for a transaction of its own; together they need one. A request
//! that leaves while it waits is not asked for; one that leaves while it is asked for gives back what it may have got.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;

use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::time::timeout;

use super::book::lock;
use super::limiter::Limiter;
use super::place::Away;
use crate::clock::UnixMs;
use crate::ids::TenantId;
use crate::store::{CounterStore, HoldAsk, Holding};

/// Requests of one transaction.
const TOGETHER: usize = 128;

/// One who waits.
struct Waiting {
    ask: HoldAsk,
    answer: oneshot::Sender<Result<Holding, Away>>,
}

/// All who wait, by tenant.
#[derive(Default)]
pub(super) struct Crowd(Mutex<HashMap<TenantId, VecDeque<Waiting>>>);

impl Crowd {
    fn join(&self, tenant: &TenantId, ask: HoldAsk) -> oneshot::Receiver<Result<Holding, Away>> {
        let (answer, told) = oneshot::channel();
        lock(&self.0).entry(tenant.clone()).or_default().push_back(Waiting { ask, answer });
        told
    }

    /// Those who have waited longest and are still there.
    fn take(&self, tenant: &TenantId) -> Vec<Waiting> {
        let mut all = lock(&self.0);
        let Some(queue) = all.get_mut(tenant) else { return Vec::new() };
        let mut taken = Vec::new();
        while taken.len() < TOGETHER
            && let Some(waiting) = queue.pop_front()
        {
            if !waiting.answer.is_closed() {
                taken.push(waiting);
            }
        }
        if queue.is_empty() {
            all.remove(tenant);
        }
        taken
    }
}

impl Limiter {
    /// Holds money in the database, together with all who want some of the same tenant.
    pub(super) async fn hold_together(
        &self,
        tenant: &TenantId,
        ask: HoldAsk,
        counters: &dyn CounterStore,
        now: UnixMs,
    ) -> Result<Holding, Away> {
        let mut told = self.crowd.join(tenant, ask.clone());
        loop {
            tokio::select! {
                biased;
                answer = &mut told => match answer {
                    Ok(answer) => return answer,
                    // Whoever asked for this one has left in the middle of it.
                    Err(_) => told = self.crowd.join(tenant, ask.clone()),
                },
                turn = self.turn(tenant) => {
                    match told.try_recv() {
                        Ok(answer) => return answer,
                        Err(TryRecvError::Closed) => told = self.crowd.join(tenant, ask.clone()),
                        Err(TryRecvError::Empty) => {}
                    }
                    let (asks, answers): (Vec<_>, Vec<_>) =
                        self.crowd.take(tenant).into_iter().map(|waiting| (waiting.ask, waiting.answer)).unzip();
                    let held = timeout(self.settings.deadline, counters.hold(&asks, now)).await;
                    drop(turn);
                    let (held, away) = match held {
                        Ok(Ok(held)) => (held, Away { gone: false }),
                        Ok(Err(error)) => (Vec::new(), self.noted(Away::because(&error))),
                        Err(_) => (Vec::new(), self.noted(Away { gone: true })),
                    };
                    let mut held = held.into_iter();
                    for answer in answers {
                        // Who has left in the meantime gives back what it got by itself.
                        let _ = answer.send(held.next().ok_or(away));
                    }
                }
            }
        }
    }
}
