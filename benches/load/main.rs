//! Whole-process load: what a request costs in Remora, side by side in one run with a bare proxy of the same crates.
//!
//! `cargo bench --bench load`. Every program is a process of its own: the simulated upstream and Remora are the release
//! binary, the bare proxy is this executable started again. CPU time is what the system accounts to the process, divided
//! by the requests sent, work that was put off (the store's batches) included. The cases take turns in rounds, so that
//! all of them meet the same noise; compare figures within a run, not between runs.
//!
//! | variable | what | default |
//! |---|---|---|
//! | `LOAD_CONNECTIONS` | connections to the program | 16 |
//! | `LOAD_REQUESTS` | requests of a case in each round | 20000 |
//! | `LOAD_ROUNDS` | rounds | 3 |
//! | `LOAD_CASES` | only cases whose name has this text | all |
//!
//! Cases that run the model send at most a fiftieth of that. The last round is followed by the latency of single
//! requests (one connection) and by streams whose events come slowly. A table goes to standard output, the figures to
//! `target/load.json`.

mod bare;
mod cases;
mod client;
mod drive;
mod percentile;
mod process;
mod programs;
mod prompts;
mod report;

use std::time::Duration;

use cases::{CASES, Case, ONE_BY_ONE, PRIMING, Prompts, SLOW_STREAMS, To};
use drive::{Sample, drive};
use programs::Programs;
use report::{Report, Row};

/// Whatever ends a run.
pub(crate) type Fault = Box<dyn std::error::Error + Send + Sync>;

/// Requests for the latency of a case.
const SINGLE: usize = 1_000;
/// Slow streams for each program.
const SLOW: usize = 300;
/// Connections of slow streams: few, so that waiting for a core does not count as waiting for the proxy.
const SLOW_CONNECTIONS: usize = 2;

struct Settings {
    connections: usize,
    requests: usize,
    rounds: usize,
    only: String,
}

/// Numbers that were used, so that a prompt that must be new is new.
#[derive(Default)]
struct Used {
    new: usize,
    near: usize,
}

fn main() -> Result<(), Fault> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["bare-proxy", upstream] => bare::run(upstream),
        // Without it a test runner has started this together with the tests.
        arguments if !arguments.contains(&"--bench") => Ok(()),
        // One thread: the client must leave the machine to the programs.
        _ => tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run(&Settings::read()?)),
    }
}

impl Settings {
    fn read() -> Result<Self, Fault> {
        let number = |name: &str, default: usize| match std::env::var(name) {
            Ok(text) => text.parse().map_err(|_| Fault::from(format!("{name}: not a number"))),
            Err(_) => Ok(default),
        };
        Ok(Self {
            connections: number("LOAD_CONNECTIONS", 16)?.max(1),
            requests: number("LOAD_REQUESTS", 20_000)?,
            rounds: number("LOAD_ROUNDS", 3)?,
            only: std::env::var("LOAD_CASES").unwrap_or_default(),
        })
    }

    fn wants(&self, case: &Case) -> bool {
        // The yardsticks are always measured.
        case.to != To::Remora || case.name.contains(&self.only)
    }

    fn count(&self, case: &Case) -> usize {
        match case.prompts {
            Prompts::Near => (self.requests / 50).min(prompts::TOPICS * (prompts::VARIANTS - 1) / self.rounds.max(1)),
            _ if case.embeds => self.requests / 50,
            // An answer in events is some thirty times the work.
            _ if case.stream => self.requests / 4,
            _ => self.requests,
        }
    }
}

impl Used {
    fn take(&mut self, prompts: Prompts, count: usize) -> usize {
        let used = match prompts {
            Prompts::New => &mut self.new,
            Prompts::Near => &mut self.near,
            Prompts::One | Prompts::Thousand => return 0,
        };
        std::mem::replace(used, *used + count)
    }
}

async fn run(settings: &Settings) -> Result<(), Fault> {
    let mut report = Report::new(settings.connections, settings.requests, settings.rounds);
    report.memory("idle, exact tier only (no model)", Programs::idle_memory("exact").await?);
    let programs = Programs::start("0", 64).await?;
    report.memory("idle, with the model", programs.remora.memory()?);
    let mut used = Used::default();
    prime(&programs).await?;
    for round in 0..settings.rounds {
        for case in CASES.iter().filter(|case| settings.wants(case)) {
            let count = settings.count(case);
            let row = measure(&programs, *case, settings.connections, used.take(case.prompts, count), count).await?;
            eprintln!("round {round}: {}: {:.1} µs", case.name, row.cpu_micros());
            report.add(row);
        }
    }
    report.memory("after the rounds", programs.remora.memory()?);
    for case in ONE_BY_ONE.iter().filter(|case| settings.wants(case)) {
        let count = if case.embeds { SINGLE.min(prompts::TOPICS) } else { SINGLE };
        let sample = drive(*case, programs.of(case.to), 1, used.take(case.prompts, count), count).await?;
        report.single(*case, &sample);
    }
    report.complaints(programs.remora.complaints()?);
    drop(programs);
    slow(&mut report).await?;
    report.print();
    report.write()
}

/// Stores what the hits will find.
async fn prime(programs: &Programs) -> Result<(), Fault> {
    let to = programs.of(To::Remora);
    drive(PRIMING, to, 4, 0, 1_000).await?;
    // In their stored form; `Near` would ask for the other ones.
    let mut connection = client::Connection::open(to).await?;
    for topic in 0..prompts::TOPICS {
        let request = prompts::chat(&prompts::paraphrase(topic, 0), "x-remora-similarity: 1\r\n", false);
        PRIMING.check(&connection.exchange(&request).await?)?;
    }
    programs.remora.settled_cpu().await.map(drop)
}

async fn measure(programs: &Programs, case: Case, connections: usize, from: usize, count: usize) -> Result<Row, Fault> {
    let before = programs.cpu().await?;
    let sample: Sample = drive(case, programs.of(case.to), connections, from, count).await?;
    let after = programs.cpu().await?;
    let of = |to: To, cpu: (Duration, Duration, Duration)| match to {
        To::Upstream => cpu.0,
        To::Bare => cpu.1,
        To::Remora => cpu.2,
    };
    Ok(Row {
        case,
        cpu: of(case.to, after) - of(case.to, before),
        upstream_cpu: after.0 - before.0,
        ratios: Vec::new(),
        sample,
    })
}

/// Time to the first byte of a stream whose events come five milliseconds apart, the programs taking turns.
async fn slow(report: &mut Report) -> Result<(), Fault> {
    const TURNS: usize = 5;
    let programs = Programs::start("5ms", 64).await?;
    let mut used = Used::default();
    let mut samples: [Sample; 3] = std::array::from_fn(|_| Sample::default());
    for _ in 0..TURNS {
        for (case, sample) in SLOW_STREAMS.iter().zip(&mut samples) {
            let (to, count) = (programs.of(case.to), SLOW / TURNS);
            sample.add(drive(*case, to, SLOW_CONNECTIONS, used.take(case.prompts, count), count).await?);
        }
    }
    for (case, sample) in SLOW_STREAMS.iter().zip(&samples) {
        report.slow_stream(*case, sample);
    }
    report.complaints(programs.remora.complaints()?);
    Ok(())
}
