//! What was measured, as a table for people, as CSV, and as a picture.
//!
//! Rows of the CSV: entries, measure, unit, value. Rows of other sizes that are there already stay, so that a size that
//! takes long can be measured by itself.

use std::fmt::Write as _;
use std::path::PathBuf;

use crate::Fault;
use crate::plot::{Line, Panel, draw};

const HEAD: &str = "entries,measure,unit,value";

/// All figures so far.
pub(crate) struct Report {
    place: PathBuf,
    rows: Vec<(usize, String, String, f64)>,
}

impl Report {
    /// Reads what is there already.
    pub(crate) fn open(place: PathBuf) -> Result<Self, Fault> {
        std::fs::create_dir_all(&place)?;
        let mut rows = Vec::new();
        for line in std::fs::read_to_string(place.join("scale.csv")).unwrap_or_default().lines().skip(1) {
            let mut cells = line.split(',').map(str::to_owned);
            let mut cell = || cells.next().ok_or("scale.csv has a row that is too short");
            rows.push((cell()?.parse()?, cell()?, cell()?, cell()?.parse()?));
        }
        Ok(Self { place, rows })
    }

    /// Takes in a figure and says it.
    pub(crate) fn put(&mut self, entries: usize, measure: &str, unit: &str, value: f64) {
        eprintln!("{entries}: {measure}: {} {unit}", short(value));
        self.rows.retain(|(other, name, ..)| !(*other == entries && name == measure));
        self.rows.push((entries, measure.to_owned(), unit.to_owned(), value));
    }

    fn sizes(&self) -> Vec<usize> {
        let mut sizes: Vec<usize> = self.rows.iter().map(|row| row.0).collect();
        sizes.sort_unstable();
        sizes.dedup();
        sizes
    }

    fn value(&self, entries: usize, measure: &str) -> Option<f64> {
        self.rows.iter().find(|row| row.0 == entries && row.1 == measure).map(|row| row.3)
    }

    /// The table, in Markdown.
    pub(crate) fn table(&self) -> String {
        let sizes = self.sizes();
        let mut measures: Vec<(&str, &str)> = Vec::new();
        for (_, measure, unit, _) in &self.rows {
            if !measures.iter().any(|(known, _)| known == measure) {
                measures.push((measure, unit));
            }
        }
        let mut table = String::from("| |");
        sizes.iter().for_each(|size| put(&mut table, format_args!(" {size} |")));
        table.push_str("\n|---|");
        sizes.iter().for_each(|_| table.push_str("---:|"));
        for (measure, unit) in measures {
            put(&mut table, format_args!("\n| {measure}, {unit} |"));
            for size in &sizes {
                let value = self.value(*size, measure).map_or_else(|| "–".to_owned(), short);
                put(&mut table, format_args!(" {value} |"));
            }
        }
        table.push('\n');
        table
    }

    /// Writes `scale.csv` and `scale.svg`.
    pub(crate) fn write(&self) -> Result<(), Fault> {
        let mut csv = format!("{HEAD}\n");
        self.rows
            .iter()
            .for_each(|(n, measure, unit, value)| put(&mut csv, format_args!("{n},{measure},{unit},{value}\n")));
        std::fs::write(self.place.join("scale.csv"), csv)?;
        Ok(std::fs::write(self.place.join("scale.svg"), self.picture())?)
    }

    fn picture(&self) -> String {
        let line = |name: &'static str, measure: &str| Line {
            name,
            points: self.sizes().into_iter().filter_map(|n| Some((n as f64, self.value(n, measure)?))).collect(),
        };
        draw(&[
            Panel {
                title: "Search in the large partition, p50",
                unit: "µs",
                lines: vec![
                    line("memory, flat", "large: memory flat p50"),
                    line("memory, graph", "large: memory graph p50"),
                    line("pgvector, index", "large: pgvector fast p50"),
                    line("pgvector, exact", "large: pgvector exact p50"),
                ],
            },
            Panel {
                title: "Start until ready",
                unit: "s",
                lines: vec![
                    line("from PostgreSQL", "start from PostgreSQL"),
                    line("from SQLite", "start from SQLite"),
                    line("vector index build", "vector index build"),
                ],
            },
            Panel {
                title: "Memory and disk",
                unit: "MiB",
                lines: vec![
                    line("resident when ready", "resident for entries when ready"),
                    line("PostgreSQL on disk", "PostgreSQL on disk"),
                    line("SQLite on disk", "SQLite on disk"),
                ],
            },
        ])
    }
}

/// Three figures that count.
pub(crate) fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 || size == 0.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

fn put(text: &mut String, more: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = write!(text, "{more}");
}
