//! One replica and two, side by side.

/// Whose CPU time is told, in the order of [`Run::cpu`].
const WHO: [&str; 5] = ["remora", "upstream", "PostgreSQL", "Redis", "client"];

/// One case of one round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    /// Requests in a second.
    pub(crate) rate: f64,
    /// Microseconds of a request.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// CPU time of a request in microseconds.
    pub(crate) cpu: [f64; 5],
}

/// All rounds.
#[derive(Default)]
pub(crate) struct Report {
    runs: Vec<(&'static str, bool, Run)>,
    complaints: Vec<String>,
}

impl Report {
    pub(crate) fn add(&mut self, case: &'static str, pair: bool, run: Run) {
        self.runs.push((case, pair, run));
    }

    /// Warnings and errors that a replica has logged.
    pub(crate) fn complaints(&mut self, lines: Vec<String>) {
        for line in lines {
            if !self.complaints.contains(&line) {
                self.complaints.push(line);
            }
        }
    }

    fn of(&self, case: &str, pair: bool) -> impl Iterator<Item = &Run> {
        self.runs.iter().filter(move |(other, both, _)| *other == case && *both == pair).map(|(_, _, run)| run)
    }

    pub(crate) fn print(&self, connections: usize, rounds: usize) {
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        println!("\n{connections} connections, {rounds} rounds, {cores} cores for everything; load {}\n", load.trim());
        let mut cases: Vec<&str> = self.runs.iter().map(|(case, ..)| *case).collect();
        cases.dedup();
        cases.sort_unstable();
        cases.dedup();
        for case in cases {
            println!("{case}");
            let mut best = [0.0_f64; 2];
            for (pair, best) in [false, true].into_iter().zip(&mut best) {
                let fastest = self.of(case, pair).max_by(|a, b| a.rate.total_cmp(&b.rate));
                let Some(run) = fastest else { continue };
                *best = run.rate;
                let all: Vec<String> = self.of(case, pair).map(|run| format!("{:.0}", run.rate)).collect();
                let cpu: Vec<String> =
                    WHO.iter().zip(self.least(case, pair)).map(|(who, micros)| format!("{who} {micros:.0}")).collect();
                println!(
                    "  {}: {:.0}/s (rounds: {}); p50 {:.0} µs, p99 {:.0} µs; least CPU µs of a request: {}",
                    if pair { "pair  " } else { "single" },
                    run.rate,
                    all.join(", "),
                    run.p50,
                    run.p99,
                    cpu.join(", ")
                );
            }
            let [single, pair] = best;
            let by_round: Vec<String> = self
                .of(case, false)
                .zip(self.of(case, true))
                .map(|(single, pair)| format!("{:.2}", pair.rate / (2.0 * single.rate)))
                .collect();
            println!("  pair / (2 × single): {:.2} (rounds: {})", pair / (2.0 * single), by_round.join(", "));
        }
        println!("warnings and errors logged by the replicas: {}", self.complaints.len());
        self.complaints.iter().take(5).for_each(|line| println!("  {line}"));
    }

    /// The least of all rounds for each program.
    fn least(&self, case: &str, pair: bool) -> [f64; 5] {
        let mut least = [f64::INFINITY; 5];
        for run in self.of(case, pair) {
            least.iter_mut().zip(run.cpu).for_each(|(least, cpu)| *least = least.min(cpu));
        }
        least
    }
}
