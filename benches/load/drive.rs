//! Sends the requests of a case over a number of connections and keeps what came of them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::Fault;
use crate::cases::Case;
use crate::client::Connection;

/// What came of the requests of a case. Times in microseconds, one for each request.
#[derive(Default)]
pub(crate) struct Sample {
    pub(crate) whole: Vec<f64>,
    pub(crate) first_byte: Vec<f64>,
    /// Longest pause inside each answer.
    pub(crate) pause: Vec<f64>,
    pub(crate) took: Duration,
}

impl Sample {
    /// Adds the figures of another run of the same case.
    pub(crate) fn add(&mut self, other: Self) {
        self.whole.extend(other.whole);
        self.first_byte.extend(other.first_byte);
        self.pause.extend(other.pause);
        self.took += other.took;
    }

    /// Requests in a second.
    pub(crate) fn rate(&self) -> f64 {
        self.whole.len() as f64 / self.took.as_secs_f64()
    }
}

/// Sends the requests numbered from `from` on, `count` of them, and checks every answer.
pub(crate) async fn drive(
    case: Case,
    to: SocketAddr,
    connections: usize,
    from: usize,
    count: usize,
) -> Result<Sample, Fault> {
    let next = Arc::new(AtomicUsize::new(from));
    let began = Instant::now();
    let mut open = JoinSet::new();
    for _ in 0..connections {
        open.spawn(one(case, to, Arc::clone(&next), from + count));
    }
    let mut all = Sample::default();
    while let Some(sample) = open.join_next().await {
        all.add(sample??);
    }
    all.took = began.elapsed();
    Ok(all)
}

async fn one(case: Case, to: SocketAddr, next: Arc<AtomicUsize>, end: usize) -> Result<Sample, Fault> {
    let mut connection = Connection::open(to).await?;
    let mut sample = Sample::default();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= end {
            return Ok(sample);
        }
        let answer = connection.exchange(&case.request(number)).await?;
        case.check(&answer)?;
        sample.whole.push(micros(answer.whole));
        sample.first_byte.push(micros(answer.first_byte));
        sample.pause.push(micros(answer.pause));
    }
}

fn micros(duration: Duration) -> f64 {
    duration.as_nanos() as f64 / 1e3
}
