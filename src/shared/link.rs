//! The connection: one operation at a time past deadline, breaker and bulkhead, and the task that keeps it up.
//!
//! Invariants: [`Link::ask`] ends within the deadline, whatever the server does. While there is no connection, or the
//! breaker is open, it touches no socket. No request ever pays for connecting or for the probe of an open breaker: both
//! happen in the background. A connection on which too much failed is dropped with everything that waits on it, so that
//! nothing piles up behind a server that hangs.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::{Cmd, ErrorKind, FromRedisValue, RedisError, RedisResult, ScriptInvocation, ServerErrorKind};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{sleep, timeout};

use super::breaker::Breaker;
use super::stats::Counters;
use super::target::{CONNECT, Connection, Target};

/// How long Redis is left alone at first; twice as long after each failure.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Between two signs of life, so that `up` is true also when nobody asks.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Why there is no answer. Never an error of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// No connection, or the breaker is open. Nothing was sent.
    Away,
    /// Too many operations under way. Nothing was sent.
    Busy,
    /// No answer within the deadline. It may have been done.
    Timeout,
    /// The connection broke. It may have been done.
    Lost,
    /// The server said no.
    Refused,
    /// The key is of another type.
    WrongType,
}

impl Trouble {
    /// Whether the server may have done what was asked.
    pub(super) fn may_be_done(self) -> bool {
        matches!(self, Self::Timeout | Self::Lost)
    }
}

/// One operation.
pub(super) enum Ask<'a> {
    Command(Cmd),
    /// By its hash; loaded when the server does not know it (any more).
    Script(ScriptInvocation<'a>),
}

/// See the module.
pub(super) struct Link {
    target: Target,
    deadline: Duration,
    width: usize,
    permits: Semaphore,
    state: Mutex<State>,
    /// The connection was given up.
    gone: Notify,
    up: watch::Sender<bool>,
    pub(super) counters: Counters,
}

#[derive(Default)]
struct State {
    connection: Option<Connection>,
    /// Of the connection: what an operation on an older one met says nothing.
    generation: u64,
    breaker: Breaker,
    /// The breaker is open.
    open: bool,
    /// An operation succeeded on this connection.
    proven: bool,
}

/// What an error says about the server.
struct Meaning {
    trouble: Trouble,
    /// Whether it counts towards opening the breaker.
    ill: bool,
    /// Whether the connection is of no more use.
    broken: bool,
}

impl Link {
    pub(super) fn new(target: Target, deadline: Duration, width: usize) -> Self {
        Self {
            target,
            deadline,
            width,
            permits: Semaphore::new(width),
            state: Mutex::default(),
            gone: Notify::new(),
            up: watch::Sender::new(false),
            counters: Counters::default(),
        }
    }

    /// Makes one operation, or says at once why not.
    pub(super) async fn ask<T: FromRedisValue>(&self, ask: Ask<'_>) -> Result<T, Trouble> {
        let Some((generation, mut connection)) = self.connection() else {
            self.counters.away.inc();
            return Err(Trouble::Away);
        };
        let Ok(_permit) = self.permits.try_acquire() else {
            self.counters.busy.inc();
            return Err(Trouble::Busy);
        };
        self.counters.asked.inc();
        let answer = timeout(self.deadline, async {
            match ask {
                Ask::Command(command) => command.query_async(&mut connection).await,
                Ask::Script(script) => script.invoke_async(&mut connection).await,
            }
        });
        match answer.await {
            Ok(Ok(value)) => {
                self.well(generation);
                Ok(value)
            }
            Ok(Err(error)) => {
                let meaning = meaning(&error);
                tracing::debug!(%error, "redis");
                Err(self.report(generation, &meaning))
            }
            Err(_) => Err(self.report(generation, &Meaning { trouble: Trouble::Timeout, ill: true, broken: false })),
        }
    }

    /// Whether operations are sent now, and whether the breaker is open.
    pub(super) fn state(&self) -> (bool, bool) {
        let state = self.lock();
        (state.connection.is_some(), state.open)
    }

    /// Operations under way.
    pub(super) fn in_flight(&self) -> usize {
        self.width.saturating_sub(self.permits.available_permits())
    }

    /// Operations that may be under way.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// Follows whether operations are sent.
    pub(super) fn watch(&self) -> watch::Receiver<bool> {
        self.up.subscribe()
    }

    /// For connections of another kind to the same server.
    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connection(&self) -> Option<(u64, Connection)> {
        let state = self.lock();
        state.connection.clone().map(|connection| (state.generation, connection))
    }

    fn well(&self, generation: u64) {
        let mut state = self.lock();
        if state.generation == generation {
            state.breaker.succeeded();
            state.proven = true;
        }
    }

    fn report(&self, generation: u64, meaning: &Meaning) -> Trouble {
        let counter = match meaning.trouble {
            Trouble::Away => &self.counters.away,
            Trouble::Busy => &self.counters.busy,
            Trouble::Timeout => &self.counters.timeouts,
            Trouble::Lost => &self.counters.lost,
            Trouble::Refused => &self.counters.refused,
            Trouble::WrongType => &self.counters.wrong_type,
        };
        counter.inc();
        let mut state = self.lock();
        if state.generation == generation && state.connection.is_some() {
            let opens = if meaning.ill {
                state.breaker.failed()
            } else {
                state.breaker.succeeded();
                false
            };
            if opens {
                state.open = true;
                self.counters.opened.inc();
            }
            if opens || meaning.broken {
                // Dropped with the lock held, which only hands it to its own task.
                state.connection = None;
                self.up.send_replace(false);
                self.gone.notify_one();
            }
        }
        meaning.trouble
    }

    /// Connects and keeps connected for ever: at once when a good connection breaks, else after a wait that doubles.
    pub(super) async fn keep(self: Arc<Self>) {
        let mut wait = FIRST_WAIT;
        let mut said = String::new();
        loop {
            match self.dial().await {
                Ok(connection) => {
                    self.enter(connection);
                    said.clear();
                    tracing::info!("redis: connected");
                    self.beat().await;
                    let (proven, open) = {
                        let state = self.lock();
                        (state.proven, state.open)
                    };
                    tracing::warn!(breaker_open = open, "redis: away; replicas share nothing until it is back");
                    if proven {
                        wait = FIRST_WAIT;
                    }
                    if proven && !open {
                        continue;
                    }
                }
                Err(problem) => {
                    if said != problem {
                        tracing::warn!("redis: cannot connect: {problem}; trying again in the background");
                        said = problem;
                    }
                }
            }
            // Up to a fifth longer, so that replicas do not probe together.
            sleep(wait.mul_f64(1.0 + fastrand::f64() / 5.0)).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    /// A connection that has answered within the deadline once: the probe of an open breaker.
    async fn dial(&self) -> Result<Connection, String> {
        self.counters.connects.inc();
        let shown = |error: RedisError| error.to_string();
        let late = |limit: Duration| move |_| format!("no answer within {} ms", limit.as_millis());
        let mut connection = timeout(CONNECT, self.target.connect()).await.map_err(late(CONNECT))?.map_err(shown)?;
        let answer: RedisResult<redis::Value> = timeout(self.deadline, redis::cmd("PING").query_async(&mut connection))
            .await
            .map_err(late(self.deadline))?;
        answer.map_err(shown)?;
        Ok(connection)
    }

    fn enter(&self, connection: Connection) {
        let mut state = self.lock();
        *state = State { connection: Some(connection), generation: state.generation + 1, ..State::default() };
        self.up.send_replace(true);
    }

    /// Ends when the connection is given up.
    async fn beat(&self) {
        while self.lock().connection.is_some() {
            tokio::select! {
                () = self.gone.notified() => {}
                () = sleep(HEARTBEAT) => {
                    // Its outcome is noted like that of any other operation.
                    let _: Result<redis::Value, Trouble> = self.ask(Ask::Command(redis::cmd("PING"))).await;
                }
            }
        }
    }
}

/// A server that answers quickly that it will not is not ill, unless nothing can be had from it at all.
fn meaning(error: &RedisError) -> Meaning {
    let (trouble, ill, broken) = match error.kind() {
        _ if error.code() == Some("WRONGTYPE") => (Trouble::WrongType, false, false),
        _ if error.is_timeout() => (Trouble::Timeout, true, false),
        _ if error.is_io_error() || error.is_connection_dropped() || error.is_unrecoverable_error() => {
            (Trouble::Lost, true, true)
        }
        // After a failover the same name may lead to the new master; so may a new login.
        ErrorKind::Server(ServerErrorKind::ReadOnly) | ErrorKind::AuthenticationFailed => {
            (Trouble::Refused, true, true)
        }
        _ if error.code() == Some("NOAUTH") => (Trouble::Refused, true, true),
        ErrorKind::ClusterConnectionNotFound
        | ErrorKind::Server(
            ServerErrorKind::Moved
            | ServerErrorKind::Ask
            | ServerErrorKind::TryAgain
            | ServerErrorKind::BusyLoading
            | ServerErrorKind::MasterDown
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::NoPerm,
        ) => (Trouble::Refused, true, false),
        _ => (Trouble::Refused, false, false),
    };
    Meaning { trouble, ill, broken }
}
