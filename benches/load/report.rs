//! What was found, as a table for people and as JSON.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::Fault;
use crate::cases::{Case, To};
use crate::drive::Sample;
use crate::percentile::percentile;

/// A pause of this length in a stream of five milliseconds would be Nagle's algorithm waiting for an acknowledgement.
const NAGLE_MICROS: f64 = 30_000.0;

/// One case, over all rounds so far.
pub(crate) struct Row {
    pub(crate) case: Case,
    /// CPU time of the program that was asked.
    pub(crate) cpu: Duration,
    /// CPU time of the upstream behind it.
    pub(crate) upstream_cpu: Duration,
    /// To the bare proxy, round by round.
    pub(crate) ratios: Vec<f64>,
    pub(crate) sample: Sample,
}

impl Row {
    /// CPU time of a request.
    pub(crate) fn cpu_micros(&self) -> f64 {
        per(self.cpu, self.sample.whole.len())
    }
}

/// All figures of a run.
pub(crate) struct Report {
    setting: String,
    rows: Vec<Row>,
    lines: Vec<String>,
    json: serde_json::Map<String, Value>,
    complaints: Vec<String>,
    /// CPU time of the bare proxy's last round.
    bare_of_round: f64,
    /// Median and 99th percentile of what the first case of the section at hand took: the upstream alone.
    direct: (f64, f64),
}

impl Report {
    pub(crate) fn new(connections: usize, requests: usize, rounds: usize) -> Self {
        let setting = format!("{connections} connections, {rounds} rounds of {requests} requests");
        let json = json!({ "connections": connections, "requests": requests, "rounds": rounds });
        let json = json.as_object().cloned().unwrap_or_default();
        Self {
            setting,
            rows: Vec::new(),
            lines: Vec::new(),
            json,
            complaints: Vec::new(),
            bare_of_round: f64::NAN,
            direct: (0.0, 0.0),
        }
    }

    /// Takes in one round of a case. The bare proxy's comes before those that are held against it.
    pub(crate) fn add(&mut self, round: Row) {
        if round.case.to == To::Bare {
            self.bare_of_round = round.cpu_micros();
        }
        let ratio = round.cpu_micros() / self.bare_of_round;
        match self.rows.iter_mut().find(|row| row.case.name == round.case.name) {
            Some(row) => {
                row.cpu += round.cpu;
                row.upstream_cpu += round.upstream_cpu;
                row.ratios.push(ratio);
                row.sample.add(round.sample);
            }
            None => self.rows.push(Row { ratios: vec![ratio], ..round }),
        }
    }

    /// What the bare proxy takes for a request of the same kind, over all rounds.
    fn bare_micros(&self, row: &Row) -> f64 {
        let bare = self.rows.iter().find(|bare| bare.case.to == To::Bare && bare.case.stream == row.case.stream);
        bare.map_or(f64::NAN, Row::cpu_micros)
    }

    /// Resident memory, all and without files, MiB.
    pub(crate) fn memory(&mut self, when: &str, (all, anonymous): (f64, f64)) {
        self.lines.push(format!("memory {when}: {all:.0} MiB resident, {anonymous:.0} MiB of it not file-backed"));
        self.put("memory_mib", json!({ "when": when, "resident": all, "anonymous": anonymous }));
    }

    /// Latency of a case, one request at a time. The upstream alone comes first.
    pub(crate) fn single(&mut self, case: Case, sample: &Sample) {
        let (p50, p99) = (percentile(&sample.whole, 0.5), percentile(&sample.whole, 0.99));
        if case.to == To::Upstream {
            self.direct = (p50, p99);
        }
        let added = (p50 - self.direct.0, p99 - self.direct.1);
        self.lines.push(format!(
            "latency {:<16} p50 {p50:7.0} µs, p99 {p99:7.0} µs; added {:7.0} and {:7.0} µs",
            case.name, added.0, added.1
        ));
        let figures = json!({ "case": case.name, "p50": p50, "p99": p99, "added_p50": added.0, "added_p99": added.1 });
        self.put("single_micros", figures);
    }

    /// First bytes of slow streams. The upstream alone comes first.
    pub(crate) fn slow_stream(&mut self, case: Case, sample: &Sample) {
        let (p50, p99) = (percentile(&sample.first_byte, 0.5), percentile(&sample.first_byte, 0.99));
        if case.to == To::Upstream {
            self.direct = (p50, p99);
        }
        let late = |values: &[f64]| values.iter().filter(|micros| **micros > NAGLE_MICROS).count();
        let (first_late, pauses) = (late(&sample.first_byte), late(&sample.pause));
        let added = (p50 - self.direct.0, p99 - self.direct.1);
        self.lines.push(format!(
            "first byte {:<16} p50 {p50:6.0} µs, p99 {p99:6.0} µs; added {:6.0} and {:6.0} µs; over 30 ms: {first_late} \
             first bytes and {pauses} pauses of {} streams",
            case.name,
            added.0,
            added.1,
            sample.whole.len()
        ));
        let figures = json!({ "case": case.name, "p50": p50, "p99": p99, "added_p50": added.0, "added_p99": added.1,
            "first_bytes_over_30ms": first_late, "pauses_over_30ms": pauses, "streams": sample.whole.len() });
        self.put("first_byte_micros", figures);
    }

    /// Warnings and errors that Remora has logged.
    pub(crate) fn complaints(&mut self, lines: Vec<String>) {
        self.complaints.extend(lines);
    }

    fn put(&mut self, section: &str, figures: Value) {
        let section = self.json.entry(section).or_insert_with(|| json!([]));
        if let Some(list) = section.as_array_mut() {
            list.push(figures);
        }
    }

    /// Prints the table.
    pub(crate) fn print(&mut self) {
        println!("\n{}\n", self.setting);
        println!(
            "{:<26} {:>8} {:>9} {:>15} {:>13} {:>8} {:>8} {:>8}",
            "case", "CPU µs", "× bare", "(rounds)", "upstream µs", "req/s", "p50 µs", "p99 µs"
        );
        for at in 0..self.rows.len() {
            let Some(row) = self.rows.get(at) else { break };
            let ratio = row.cpu_micros() / self.bare_micros(row);
            let (least, most) = row.ratios.iter().fold((f64::MAX, 0.0_f64), |(a, b), r| (a.min(*r), b.max(*r)));
            let upstream = per(row.upstream_cpu, row.sample.whole.len());
            let (p50, p99) = (percentile(&row.sample.whole, 0.5), percentile(&row.sample.whole, 0.99));
            println!(
                "{:<26} {:>8.1} {ratio:>9.2} {:>15} {upstream:>13.1} {:>8.0} {p50:>8.0} {p99:>8.0}",
                row.case.name,
                row.cpu_micros(),
                format!("{least:.2} to {most:.2}"),
                row.sample.rate()
            );
            let figures = json!({ "case": row.case.name, "requests": row.sample.whole.len(),
                "cpu_micros": row.cpu_micros(), "times_bare": ratio, "upstream_cpu_micros": upstream,
                "requests_per_second": row.sample.rate(), "p50_micros": p50, "p99_micros": p99 });
            self.put("cases", figures);
        }
        println!();
        self.lines.iter().for_each(|line| println!("{line}"));
        println!("warnings and errors logged by remora: {}", self.complaints.len());
        self.complaints.iter().take(5).for_each(|line| println!("  {line}"));
    }

    /// Writes `target/load.json`.
    pub(crate) fn write(&self) -> Result<(), Fault> {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().ok_or("no target directory")?;
        Ok(std::fs::write(target.join("load.json"), serde_json::to_vec_pretty(&self.json)?)?)
    }
}

fn per(whole: Duration, count: usize) -> f64 {
    whole.as_nanos() as f64 / 1e3 / count as f64
}
