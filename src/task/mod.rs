//! Background work. [`spawn`] is the one place that starts tasks on the request side, so that a panic is counted and
//! logged instead of vanishing with its task.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::task::JoinHandle;

use crate::telemetry::metrics::Metrics;

/// Starts a task. A panic in it is counted in `panics_total` and ends this task only.
pub fn spawn(
    name: &'static str,
    metrics: &Arc<Metrics>,
    work: impl Future<Output = ()> + Send + 'static,
) -> JoinHandle<()> {
    tokio::spawn(Watched { name, metrics: Arc::clone(metrics), work: Box::pin(work) })
}

struct Watched {
    name: &'static str,
    metrics: Arc<Metrics>,
    work: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Future for Watched {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // The work is not polled again after a panic, so it cannot be seen half-changed.
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| self.work.as_mut().poll(cx)));
        polled.unwrap_or_else(|_| {
            self.metrics.panics.inc();
            tracing::error!(task = self.name, "a task panicked");
            Poll::Ready(())
        })
    }
}
