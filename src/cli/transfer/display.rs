//! Progress on standard error: a bar on a terminal, a line now and then otherwise.
//!
//! Must never write to standard output, which is for the result.

use std::io::IsTerminal as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::transfer::{Progress, Table};

const KNOWN: &str = "{prefix:18} {bar:40} {pos}/{len}  {per_sec}  {eta} left";
const UNKNOWN: &str = "{prefix:18} {spinner} {pos}  {per_sec}";
/// Between two lines where there is no terminal.
const EVERY: Duration = Duration::from_secs(5);

/// See the module. A clone shows the same.
#[derive(Clone)]
pub(super) struct Display(Arc<Mutex<Shown>>);

struct Shown {
    verb: &'static str,
    /// Only on a terminal.
    bar: Option<ProgressBar>,
    table: Option<Table>,
    told: Instant,
}

impl Display {
    /// `verb` as in `copying`.
    pub(super) fn new(verb: &'static str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| ProgressBar::new(0));
        Self(Arc::new(Mutex::new(Shown { verb, bar, table: None, told: Instant::now() })))
    }

    /// To be called with what is done.
    pub(super) fn progress(&self) -> Progress {
        let shown = Arc::clone(&self.0);
        Arc::new(move |table, done, of| {
            shown.lock().unwrap_or_else(PoisonError::into_inner).show(table, done, of);
        })
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        if let Some(bar) = &self.0.lock().unwrap_or_else(PoisonError::into_inner).bar {
            bar.finish_and_clear();
        }
    }
}

impl Shown {
    fn show(&mut self, table: Table, done: u64, of: Option<u64>) {
        let begins = self.table != Some(table);
        self.table = Some(table);
        if let Some(bar) = &self.bar {
            if begins {
                bar.reset();
                bar.set_prefix(format!("{} {table}", self.verb));
                let template = if of.is_some() { KNOWN } else { UNKNOWN };
                // A template that cannot be read would show the plain bar.
                bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
            }
            if let Some(of) = of {
                bar.set_length(of.max(done));
            }
            bar.set_position(done);
            return;
        }
        if self.told.elapsed() >= EVERY {
            self.told = Instant::now();
            match of {
                Some(of) => eprintln!("{} {table}: {done} of {of}", self.verb),
                None => eprintln!("{} {table}: {done}", self.verb),
            }
        }
    }
}
