//! Wake-ups: "there may be changes", said to all other replicas. Never what has changed: the store is asked for that.
//!
//! A wake-up may be lost and may come for nothing. Several in a row become one, on both sides, so nothing piles up. The
//! subscription has a connection of its own, made whenever operations go through, and listened to for signs of life.

use std::sync::Arc;
use std::time::Duration;

use futures_core::Stream as _;
use redis::RedisResult;
use redis::aio::{PubSubSink, PubSubStream};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::link::{Ask, Link};
use super::target::CONNECT;

/// Between two signs of life of a subscription on which nothing is heard.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// After a subscription ended.
const PAUSE: Duration = Duration::from_millis(500);

/// Both directions.
pub(super) struct Wake {
    link: Arc<Link>,
    channel: String,
    /// Who we are, so that our own wake-ups are not heard.
    own: String,
    send: Notify,
    heard: Notify,
}

impl Wake {
    pub(super) fn new(link: &Arc<Link>, channel: String) -> Self {
        Self {
            link: Arc::clone(link),
            channel,
            own: format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..)),
            send: Notify::new(),
            heard: Notify::new(),
        }
    }

    /// Has a wake-up sent.
    pub(super) fn send(&self) {
        self.send.notify_one();
    }

    /// Ends when one was heard since the last time.
    pub(super) async fn heard(&self) {
        self.heard.notified().await;
    }

    /// Sends for ever.
    pub(super) async fn speak(self: Arc<Self>) {
        loop {
            self.send.notified().await;
            let mut publish = redis::cmd("PUBLISH");
            publish.arg(&self.channel).arg(&self.own);
            if self.link.ask::<redis::Value>(Ask::Command(publish)).await.is_ok() {
                self.link.counters.wakes_sent.inc();
            }
        }
    }

    /// Listens for ever.
    pub(super) async fn listen(self: Arc<Self>) {
        let mut up = self.link.watch();
        let mut again = false;
        loop {
            // The sender lives in the link, which we hold.
            if up.wait_for(|up| *up).await.is_err() {
                return;
            }
            if let Ok(Ok((sink, stream))) = timeout(CONNECT, self.subscribe()).await {
                // Something may have been said meanwhile.
                if again {
                    self.heard.notify_one();
                }
                again = true;
                self.follow(sink, stream).await;
            }
            sleep(PAUSE.mul_f64(1.0 + fastrand::f64())).await;
        }
    }

    async fn subscribe(&self) -> RedisResult<(PubSubSink, PubSubStream)> {
        let mut subscription = self.link.target().listen().await?;
        subscription.subscribe(&self.channel).await?;
        Ok(subscription.split())
    }

    /// Ends when the connection does.
    async fn follow(&self, mut sink: PubSubSink, stream: PubSubStream) {
        let mut stream = std::pin::pin!(stream);
        loop {
            tokio::select! {
                message = std::future::poll_fn(|context| stream.as_mut().poll_next(context)) => match message {
                    Some(message) if message.get_payload_bytes() != self.own.as_bytes() => {
                        self.link.counters.wakes_heard.inc();
                        self.heard.notify_one();
                    }
                    Some(_) => {}
                    None => return,
                },
                () = sleep(HEARTBEAT) => {
                    if !matches!(timeout(CONNECT, sink.ping::<redis::Value>()).await, Ok(Ok(_))) {
                        return;
                    }
                }
            }
        }
    }
}
