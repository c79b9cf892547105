//! Whether a request has reached its upstream. While it waits for a place or for a connection it costs nothing, whoever leaves then.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;

use crate::upstream::Outgoing;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Reached(Arc<AtomicBool>);

impl Reached {
    /// The body of the request, by which it is known: it is not asked for before there is a connection.
    pub(super) fn body(&self, bytes: Bytes) -> Outgoing {
        Outgoing::new(Watched { body: Full::new(bytes), reached: self.clone() })
    }

    pub(super) fn is_so(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn now(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Watched {
    body: Full<Bytes>,
    reached: Reached,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.reached.now();
        Pin::new(&mut self.body).poll_frame(cx).map_err(|never| match never {})
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn a_request_has_reached_its_upstream_when_its_body_is_asked_for() {
        let reached = Reached::default();
        let body = reached.body(Bytes::from_static(b"{}"));
        assert_eq!((body.size_hint().exact(), reached.is_so()), (Some(2), false));
        assert_eq!(body.collect().await.unwrap().to_bytes(), "{}");
        assert!(reached.is_so());
    }
}
