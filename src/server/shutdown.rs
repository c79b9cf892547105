//! The order to drain, and its deadline.

use std::future::Future;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// How long a connection may go on after the deadline, so that the pipeline can send its last event.
pub(super) const LAST_WORD: Duration = Duration::from_secs(1);

/// Tells listeners and requests that the program is ending. Clones are the same handle.
#[derive(Clone, Debug)]
pub struct Shutdown {
    deadline: watch::Sender<Option<Instant>>,
}

/// What became of the connections that were open when the drain began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DrainReport {
    /// Closed when they had nothing left to do.
    pub finished: usize,
    /// Dropped at the deadline with a request open.
    pub cut: usize,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

impl Shutdown {
    /// A handle that nobody has triggered.
    pub fn new() -> Self {
        Self { deadline: watch::Sender::new(None) }
    }

    /// Begins the drain: open requests may run on for `drain`. A later call can bring the deadline forward, as for
    /// a second signal, but not put it off.
    pub fn trigger(&self, drain: Duration) {
        let wanted = Instant::now() + drain;
        self.deadline.send_if_modified(|deadline| {
            let sooner = deadline.is_none_or(|deadline| wanted < deadline);
            if sooner {
                *deadline = Some(wanted);
            }
            sooner
        });
    }

    /// Whether the drain has begun.
    pub fn is_draining(&self) -> bool {
        self.deadline.borrow().is_some()
    }

    /// Resolves when the drain begins; at once if it has.
    pub fn draining(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut deadline = self.deadline.subscribe();
        // The channel cannot close while a handle is alive; without one there is nobody left to drain for either.
        async move { drop(deadline.wait_for(Option::is_some).await) }
    }

    /// Resolves when the drain's deadline has passed. A request that is still open then should say so to its client
    /// (`server_shutdown`) and end; its connection is dropped a second later.
    pub fn deadline_passed(&self) -> impl Future<Output = ()> + Send + use<> {
        self.passed(Duration::ZERO)
    }

    /// Resolves this much later than [`Self::deadline_passed`].
    pub(super) fn passed(&self, extra: Duration) -> impl Future<Output = ()> + Send + use<> {
        let mut watched = self.deadline.subscribe();
        async move {
            loop {
                let deadline = *watched.borrow_and_update();
                let Some(deadline) = deadline else {
                    if watched.changed().await.is_err() {
                        return;
                    }
                    continue;
                };
                tokio::select! {
                    () = sleep_until(deadline + extra) => return,
                    Ok(()) = watched.changed() => {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_second_trigger_brings_the_deadline_forward_but_never_puts_it_off() {
        let shutdown = Shutdown::new();
        assert!(!shutdown.is_draining());
        let passed = shutdown.deadline_passed();
        shutdown.trigger(Duration::from_secs(3600));
        shutdown.draining().await;
        let first = *shutdown.deadline.borrow();
        shutdown.trigger(Duration::from_secs(7200));
        assert_eq!(*shutdown.deadline.borrow(), first);
        shutdown.trigger(Duration::ZERO);
        passed.await;
    }
}
