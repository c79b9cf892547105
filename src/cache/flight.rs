//! Coalescing: equal requests in flight share one upstream call.
//!
//! The first request for a key gets a [`Pilot`] and a [`Seat`]; the pilot goes to a task that owns the upstream call
//! from its start, the seat to the client's reply. Later requests for the key get a seat only. All seats read the same
//! frames from the first byte. Because no client owns the call, a client that leaves takes nothing from the others;
//! when the last seat is empty the pilot learns of it and gives the call up.
//!
//! A pilot that fails before a byte, or is dropped, empties the followers' seats: each joins again, and the map makes
//! exactly one of them the next leader.
//!
//! Memory is bounded: past `shared_bytes` a flight takes no more followers and forgets what all have read, and the
//! pilot waits for the fastest reader.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::store::Digest;

/// Unread bytes after which the pilot waits for a reader.
const AHEAD_BYTES: usize = 1 << 20;

/// One event of a stream, ready for either kind of client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The event's bytes as upstream sent them.
    pub raw: Bytes,
    /// What a client that did not ask for usage gets instead; empty to send nothing. `None`: the same.
    pub plain: Option<Bytes>,
    /// Whether it is the terminator or comes after it: a client that has it need not read on.
    pub closing: bool,
}

/// All flights of one process. `H` is the head of an answer, `E` how a stream ended.
pub struct Flights<H, E> {
    map: Mutex<HashMap<Digest, Arc<Flight<H, E>>>>,
    shared_bytes: usize,
}

struct Flight<H, E> {
    state: Mutex<State<H, E>>,
    /// Told when the last seat is empty, and when a reader has made room. Two may wait on it, [`Pilot::push`] and
    /// [`Pilot::abandoned`], so all are woken: one woken for the other would let the other wait for ever.
    pilot: Notify,
}

struct State<H, E> {
    head: Option<H>,
    frames: VecDeque<Frame>,
    /// Number of frames forgotten before the first in `frames`.
    base: usize,
    bytes: usize,
    end: Option<E>,
    failed: bool,
    /// Position of each seat, `None` for one that is empty again.
    seats: Vec<Option<Place>>,
    /// Seats to be given again; never the first, which is the leader's.
    free: Vec<usize>,
    taken: usize,
    joinable: bool,
}

#[derive(Default)]
struct Place {
    next: usize,
    waker: Option<Waker>,
}

/// What [`Flights::join`] gives.
pub enum Joined<H, E> {
    /// The caller must see to the upstream call.
    Lead(Pilot<H, E>, Seat<H, E>),
    /// Somebody else does.
    Follow(Seat<H, E>),
}

/// The right and the duty to bring a flight to its end. Dropped without [`Pilot::end`], the flight counts as failed.
pub struct Pilot<H, E> {
    flight: Arc<Flight<H, E>>,
    flights: Arc<Flights<H, E>>,
    /// Where others find the flight; `None` if they cannot.
    key: Option<Digest>,
}

/// One reader of a flight.
pub struct Seat<H, E> {
    flight: Arc<Flight<H, E>>,
    index: usize,
}

/// The flight failed and there is nothing to read from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaderFailed;

/// What a reader meets next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<E> {
    /// An event.
    Frame(Frame),
    /// The end of the stream.
    End(E),
    /// The pilot was dropped in the middle.
    Failed,
}

impl<H: Clone, E: Clone> Flights<H, E> {
    /// No flights yet. Past `shared_bytes` of events a flight takes no more followers.
    pub fn new(shared_bytes: usize) -> Arc<Self> {
        Arc::new(Self { map: Mutex::new(HashMap::new()), shared_bytes })
    }

    /// Joins the flight for `key`, or begins one.
    pub fn join(self: &Arc<Self>, key: Digest) -> Joined<H, E> {
        let mut map = lock(&self.map);
        if let Some(flight) = map.get(&key)
            && let Some(seat) = Seat::take(flight)
        {
            return Joined::Follow(seat);
        }
        let flight = Arc::new(Flight { state: Mutex::new(State::new()), pilot: Notify::new() });
        let seat = Seat { index: lock(&flight.state).seat(), flight: Arc::clone(&flight) };
        map.insert(key, Arc::clone(&flight));
        Joined::Lead(Pilot { flight, flights: Arc::clone(self), key: Some(key) }, seat)
    }

    /// Begins a flight that nobody can join. What its reader has had is forgotten at once.
    pub fn alone(self: &Arc<Self>) -> (Pilot<H, E>, Seat<H, E>) {
        let state = State { joinable: false, ..State::new() };
        let flight = Arc::new(Flight { state: Mutex::new(state), pilot: Notify::new() });
        let seat = Seat { index: lock(&flight.state).seat(), flight: Arc::clone(&flight) };
        (Pilot { flight, flights: Arc::clone(self), key: None }, seat)
    }

    /// Flights under way.
    pub fn len(&self) -> usize {
        lock(&self.map).len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<H, E> State<H, E> {
    fn new() -> Self {
        Self {
            head: None,
            frames: VecDeque::new(),
            base: 0,
            bytes: 0,
            end: None,
            failed: false,
            seats: Vec::with_capacity(1),
            free: Vec::new(),
            taken: 0,
            joinable: true,
        }
    }

    fn seat(&mut self) -> usize {
        self.taken += 1;
        if let Some(index) = self.free.pop() {
            if let Some(seat) = self.seats.get_mut(index) {
                *seat = Some(Place::default());
            }
            return index;
        }
        self.seats.push(Some(Place::default()));
        self.seats.len() - 1
    }

    fn place(&mut self, index: usize) -> Option<&mut Place> {
        self.seats.get_mut(index).and_then(Option::as_mut)
    }

    fn wake(&mut self) -> Vec<Waker> {
        self.seats.iter_mut().flatten().filter_map(|place| place.waker.take()).collect()
    }

    /// Forgets the frames that every reader has had.
    fn trim(&mut self) {
        let slowest = self.seats.iter().flatten().map(|place| place.next).min().unwrap_or(self.base);
        while self.base < slowest {
            let Some(frame) = self.frames.pop_front() else { break };
            self.base += 1;
            self.bytes = self.bytes.saturating_sub(frame.raw.len());
        }
    }

    /// Bytes that not even the fastest reader has had.
    fn unread(&self) -> usize {
        let fastest = self.seats.iter().flatten().map(|place| place.next).max().unwrap_or(self.base);
        self.frames.iter().skip(fastest.saturating_sub(self.base)).map(|frame| frame.raw.len()).sum()
    }
}

impl<H: Clone, E: Clone> Pilot<H, E> {
    /// Gives all seats the head. Nothing may fail over to another leader from here on.
    pub fn head(&self, head: H) {
        self.update(|state| state.head = Some(head));
    }

    /// Gives all seats one more event; waits when the readers are far behind.
    ///
    /// # Errors
    /// [`Abandoned`] when nobody reads any more.
    pub async fn push(&self, frame: Frame) -> Result<(), Abandoned> {
        let shared_bytes = self.flights.shared_bytes;
        self.update(|state| {
            state.bytes += frame.raw.len();
            state.frames.push_back(frame);
            if state.bytes > shared_bytes {
                state.joinable = false;
            }
            if !state.joinable {
                state.trim();
            }
        });
        loop {
            let told = self.flight.pilot.notified();
            {
                let state = lock(&self.flight.state);
                if state.taken == 0 {
                    return Err(Abandoned);
                }
                if state.bytes <= AHEAD_BYTES || state.unread() <= AHEAD_BYTES {
                    return Ok(());
                }
            }
            told.await;
        }
    }

    /// Resolves when the last reader has gone.
    pub async fn abandoned(&self) {
        loop {
            let told = self.flight.pilot.notified();
            if lock(&self.flight.state).taken == 0 {
                return;
            }
            told.await;
        }
    }

    /// Number of readers besides the first.
    pub fn followers(&self) -> usize {
        lock(&self.flight.state).seats.iter().skip(1).flatten().count()
    }

    /// Ends the flight. What it made must be in the cache by now, so that the next equal request is a hit.
    pub fn end(self, end: E) {
        self.leave_map();
        self.update(|state| state.end = Some(end));
    }

    /// Gives the head to the first seat only; the others have to find another leader.
    pub fn fail_followers(self, head: H, end: E) {
        self.leave_map();
        self.update(|state| {
            state.failed = true;
            state.head = Some(head);
            state.end = Some(end);
        });
    }

    fn update(&self, change: impl FnOnce(&mut State<H, E>)) {
        let wakers = {
            let mut state = lock(&self.flight.state);
            change(&mut state);
            state.wake()
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl<H, E> Pilot<H, E> {
    /// From here on nobody finds the flight.
    fn leave_map(&self) {
        let Some(key) = &self.key else { return };
        let mut map = lock(&self.flights.map);
        if map.get(key).is_some_and(|known| Arc::ptr_eq(known, &self.flight)) {
            map.remove(key);
        }
    }
}

impl<H, E> Drop for Pilot<H, E> {
    fn drop(&mut self) {
        self.leave_map();
        let wakers = {
            let mut state = lock(&self.flight.state);
            if state.end.is_none() {
                state.failed = true;
            }
            state.wake()
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// Nobody reads the flight any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abandoned;

impl<H: Clone, E: Clone> Seat<H, E> {
    fn take(flight: &Arc<Flight<H, E>>) -> Option<Self> {
        let mut state = lock(&flight.state);
        // A flight whose last reader has left is being given up; it must not be revived.
        if !state.joinable || state.failed || state.end.is_some() || state.taken == 0 {
            return None;
        }
        let index = state.seat();
        drop(state);
        Some(Self { flight: Arc::clone(flight), index })
    }

    /// The head of the answer.
    ///
    /// # Errors
    /// The leader failed first; join again.
    pub async fn head(&self) -> Result<H, LeaderFailed> {
        poll_fn(|cx| {
            let mut state = lock(&self.flight.state);
            if state.failed && (self.index > 0 || state.head.is_none()) && state.frames.is_empty() {
                return Poll::Ready(Err(LeaderFailed));
            }
            if let Some(head) = &state.head {
                return Poll::Ready(Ok(head.clone()));
            }
            self.park(&mut state, cx);
            Poll::Pending
        })
        .await
    }

    /// The next event or the end.
    pub fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Next<E>> {
        let mut state = lock(&self.flight.state);
        let base = state.base;
        let Some(next) = state.place(self.index).map(|place| place.next) else { return Poll::Ready(Next::Failed) };
        if let Some(frame) = state.frames.get(next.saturating_sub(base)).cloned() {
            if let Some(place) = state.place(self.index) {
                place.next = next + 1;
            }
            drop(state);
            self.flight.pilot.notify_waiters();
            return Poll::Ready(Next::Frame(frame));
        }
        if let Some(end) = &state.end {
            return Poll::Ready(Next::End(end.clone()));
        }
        if state.failed {
            return Poll::Ready(Next::Failed);
        }
        self.park(&mut state, cx);
        Poll::Pending
    }

    fn park(&self, state: &mut State<H, E>, cx: &Context<'_>) {
        if let Some(place) = state.place(self.index) {
            match &mut place.waker {
                Some(known) => known.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
        }
    }
}

impl<H, E> Drop for Seat<H, E> {
    fn drop(&mut self) {
        let mut state = lock(&self.flight.state);
        if let Some(seat) = state.seats.get_mut(self.index) {
            *seat = None;
        }
        if self.index > 0 {
            state.free.push(self.index);
        }
        state.taken = state.taken.saturating_sub(1);
        drop(state);
        self.flight.pilot.notify_waiters();
    }
}

/// A panic elsewhere leaves plain data behind, never a half-made change, so a poisoned lock is taken as it is.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
