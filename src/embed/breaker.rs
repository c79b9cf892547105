//! Circuit breaker of the remote embedder: after five failures in a row it is left alone for a second, then for twice as
//! long after each failed probe, up to half a minute. One call at a time probes.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::EmbedError;

const FAILURES: u32 = 5;
const LONGEST: Duration = Duration::from_secs(30);

pub(super) struct Breaker {
    state: Mutex<State>,
    first_wait: Duration,
}

enum State {
    Closed { failures: u32 },
    Open { until: Instant, wait: Duration, probing: bool },
}

impl Breaker {
    /// `first_wait`: how long the endpoint is left alone at first.
    pub(super) fn new(first_wait: Duration) -> Self {
        Self { state: Mutex::new(State::Closed { failures: 0 }), first_wait }
    }

    /// Leave to make one call at `now`. The caller must report how it went; `patience` is how long it may take.
    pub(super) fn begin(&self, now: Instant, patience: Duration) -> Result<Call<'_>, EmbedError> {
        let probe = match &mut *self.lock() {
            State::Closed { .. } => false,
            State::Open { until, probing, .. } if !*probing && now >= *until => {
                *probing = true;
                true
            }
            State::Open { .. } => return Err(EmbedError::BreakerOpen),
        };
        Ok(Call { breaker: self, probe, began: now, patience, reported: false })
    }

    fn failed(&self, now: Instant, probe: bool) {
        let state = &mut *self.lock();
        *state = match *state {
            State::Closed { failures } if failures + 1 < FAILURES => State::Closed { failures: failures + 1 },
            State::Closed { .. } => open(now, self.first_wait),
            State::Open { wait, .. } if probe => open(now, (wait * 2).min(LONGEST)),
            // A straggler from before it opened says nothing new.
            State::Open { until, wait, probing } => State::Open { until, wait, probing },
        };
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Up to a fifth longer than `wait`, so that replicas do not probe together.
fn open(now: Instant, wait: Duration) -> State {
    State::Open { until: now + wait.mul_f64(1.0 + fastrand::f64() / 5.0), wait, probing: false }
}

/// One call that is under way. Dropped without a report, it was abandoned: it then counts as failed if it had at least
/// half of its patience, because our own deadline ends a call by dropping it; earlier, the client has gone or the time
/// had been spent on waiting, and neither is the endpoint's fault.
pub(super) struct Call<'a> {
    breaker: &'a Breaker,
    probe: bool,
    began: Instant,
    patience: Duration,
    reported: bool,
}

impl Call<'_> {
    /// The endpoint works.
    pub(super) fn succeeded(mut self) {
        self.reported = true;
        *self.breaker.lock() = State::Closed { failures: 0 };
    }

    /// It does not.
    pub(super) fn failed(mut self, now: Instant) {
        self.reported = true;
        self.breaker.failed(now, self.probe);
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if self.reported {
            return;
        }
        let now = Instant::now();
        if now.duration_since(self.began) >= self.patience / 2 {
            self.breaker.failed(now, self.probe);
        } else if self.probe
            && let State::Open { probing, .. } = &mut *self.breaker.lock()
        {
            *probing = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(3600);
    const SECOND: Duration = Duration::from_secs(1);

    fn opened(now: Instant) -> Breaker {
        let breaker = Breaker::new(SECOND);
        for _ in 0..FAILURES {
            breaker.begin(now, PATIENCE).unwrap().failed(now);
        }
        breaker
    }

    fn is_open(breaker: &Breaker, now: Instant) -> bool {
        breaker.begin(now, PATIENCE).is_err()
    }

    #[test]
    fn it_opens_after_five_failures_in_a_row_only() {
        let now = Instant::now();
        let breaker = Breaker::new(SECOND);
        for _ in 0..2 {
            for _ in 0..FAILURES - 1 {
                breaker.begin(now, PATIENCE).unwrap().failed(now);
            }
            breaker.begin(now, PATIENCE).unwrap().succeeded();
        }
        assert!(!is_open(&breaker, now));
        assert!(is_open(&opened(now), now));
    }

    #[test]
    fn one_probe_after_the_wait_and_success_closes_it() {
        let now = Instant::now();
        let breaker = opened(now);
        assert!(is_open(&breaker, now + Duration::from_millis(999)));
        let later = now + SECOND * 2;
        let probe = breaker.begin(later, PATIENCE).unwrap();
        assert!(is_open(&breaker, later), "one probe at a time");
        probe.succeeded();
        assert!(!is_open(&breaker, later));
    }

    #[test]
    fn each_failed_probe_doubles_the_wait_up_to_half_a_minute() {
        let mut now = Instant::now();
        let breaker = opened(now);
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            assert!(is_open(&breaker, now + Duration::from_millis(seconds * 1000 - 1)), "{seconds}");
            now += Duration::from_millis(seconds * 1200 + 1);
            breaker.begin(now, PATIENCE).unwrap().failed(now);
        }
    }

    #[test]
    fn an_abandoned_probe_lets_another_probe() {
        let now = Instant::now();
        let breaker = opened(now);
        let later = now + SECOND * 2;
        drop(breaker.begin(later, PATIENCE).unwrap());
        assert!(!is_open(&breaker, later));
    }

    #[test]
    fn a_call_dropped_at_its_deadline_counts_as_failed() {
        let now = Instant::now();
        let breaker = Breaker::new(SECOND);
        for _ in 0..FAILURES {
            drop(breaker.begin(now, PATIENCE).unwrap());
        }
        assert!(!is_open(&breaker, now), "the clients went away");
        for _ in 0..FAILURES {
            drop(breaker.begin(now, Duration::ZERO).unwrap());
        }
        assert!(is_open(&breaker, now));
    }
}
