//! Two replicas on one PostgreSQL and one Redis against one replica: requests in a second, and CPU time of a request.
//!
//! `eval "$(scripts/services.sh start)"; cargo bench --bench pair`. Needs DATABASE_URL and REDIS_URL; a database of its own
//! is made for each round and dropped. Replicas and simulated upstream are processes of the release binary. As many
//! connections in both settings send one request after the other: exact hits on a thousand prompts, and misses that are
//! answered upstream and stored. Everything shares one machine: client, upstream, replicas, PostgreSQL and Redis. So the
//! throughput of a pair says how much of the machine was left over; what sharing costs is the CPU time of a request.
//!
//! | variable | what | default |
//! |---|---|---|
//! | `PAIR_CONNECTIONS` | connections, to one replica or half to each of two | 32 |
//! | `PAIR_REQUESTS` | hits in each round; a quarter as many misses | 40000 |
//! | `PAIR_ROUNDS` | rounds; every second one measures the pair first | 3 |
#![allow(clippy::cast_precision_loss, reason = "counts are small")]

#[path = "../load/cases.rs"]
#[expect(dead_code, reason = "the load bench uses more of it")]
mod cases;
#[path = "../load/client.rs"]
mod client;
#[path = "../load/drive.rs"]
#[expect(dead_code, reason = "the load bench uses more of it")]
mod drive;
#[path = "../load/percentile.rs"]
mod percentile;
#[path = "../load/process.rs"]
#[expect(dead_code, reason = "the load bench uses more of it")]
mod process;
#[path = "../load/prompts.rs"]
mod prompts;
mod replicas;
mod report;
mod services;

use std::net::SocketAddr;
use std::time::Instant;

use cases::{CASES, Case, PRIMING};
use drive::{Sample, drive};
use replicas::{Replica, Upstream};
use report::{Report, Run};
use services::Services;

/// Whatever ends a run.
pub(crate) type Fault = Box<dyn std::error::Error + Send + Sync>;

struct Settings {
    connections: usize,
    requests: usize,
    rounds: usize,
}

impl Settings {
    fn read() -> Result<Self, Fault> {
        let number = |name: &str, default: usize| match std::env::var(name) {
            Ok(text) => text.parse().map_err(|_| Fault::from(format!("{name}: not a number"))),
            Err(_) => Ok(default),
        };
        Ok(Self {
            connections: number("PAIR_CONNECTIONS", 32)?.max(2),
            requests: number("PAIR_REQUESTS", 40_000)?.max(8),
            rounds: number("PAIR_ROUNDS", 3)?.max(1),
        })
    }
}

fn main() -> Result<(), Fault> {
    // Without it a test runner has started this together with the tests.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    // One thread: the client must leave the machine to the programs.
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run(&Settings::read()?))
}

fn case(name: &str) -> Result<Case, Fault> {
    Ok(*CASES.iter().find(|case| case.name == name).ok_or("no such case")?)
}

async fn run(settings: &Settings) -> Result<(), Fault> {
    let cases = [(case("exact hit, 1000 prompts")?, settings.requests), (case("miss, stored")?, settings.requests / 4)];
    let upstream = Upstream::start()?;
    let mut report = Report::default();
    let mut used = 0;
    for round in 0..settings.rounds {
        let services = Services::create().await?;
        let first = Replica::start("first", upstream.address, &services)?;
        // All prompts of the hits. The other replica loads them when it starts.
        drive(PRIMING, first.address, 4, 0, 1_000).await?;
        first.process.settled_cpu().await?;
        for pair in if round % 2 == 0 { [false, true] } else { [true, false] } {
            let second = if pair { Some(Replica::start("second", upstream.address, &services)?) } else { None };
            let replicas: Vec<&Replica> = std::iter::once(&first).chain(&second).collect();
            for (case, count) in cases {
                let run = measure(case, &replicas, &upstream, &services, (settings.connections, used, count)).await?;
                used += count;
                eprintln!("round {round}, {} replicas: {}: {:.0}/s", replicas.len(), case.name, run.rate);
                report.add(case.name, pair, run);
            }
            for replica in &replicas {
                report.complaints(replica.process.complaints()?);
            }
        }
        drop(first);
        services.drop().await?;
    }
    report.print(settings.connections, settings.rounds);
    Ok(())
}

/// Sends `count` requests numbered from `from` on, in equal parts to all replicas.
async fn measure(
    case: Case,
    replicas: &[&Replica],
    upstream: &Upstream,
    services: &Services,
    (connections, from, count): (usize, usize, usize),
) -> Result<Run, Fault> {
    let cpu = async || -> Result<_, Fault> {
        let mut remora = std::time::Duration::ZERO;
        for replica in replicas {
            remora += replica.process.settled_cpu().await?;
        }
        let (postgres, redis) = services.cpu()?;
        Ok([remora, upstream.process.cpu()?, postgres, redis, process::cpu_of(std::process::id(), 2)?])
    };
    let share = count / replicas.len();
    let targets: Vec<(SocketAddr, usize)> =
        replicas.iter().enumerate().map(|(at, replica)| (replica.address, from + at * share)).collect();
    let before = cpu().await?;
    let began = Instant::now();
    let sample = match targets.as_slice() {
        [(one, from)] => drive(case, *one, connections, *from, share).await?,
        [(one, from), (other, other_from)] => {
            let half = connections / 2;
            let (mut sample, more): (Sample, Sample) =
                tokio::try_join!(drive(case, *one, half, *from, share), drive(case, *other, half, *other_from, share))?;
            sample.add(more);
            sample
        }
        _ => return Err("one replica or two".into()),
    };
    let rate = sample.whole.len() as f64 / began.elapsed().as_secs_f64();
    let after = cpu().await?;
    let micros = |at: usize| -> f64 {
        let spent = after.get(at).zip(before.get(at)).map_or(0.0, |(after, before)| (*after - *before).as_secs_f64());
        spent * 1e6 / sample.whole.len() as f64
    };
    Ok(Run {
        rate,
        p50: percentile::percentile(&sample.whole, 0.5),
        p99: percentile::percentile(&sample.whole, 0.99),
        cpu: std::array::from_fn(micros),
    })
}
