//! Progress on standard error: a bar on a terminal, a line at every tenth otherwise.
//!
//! Must never write to standard output, which is for the result.

use std::io::IsTerminal as _;
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::{ProgressBar, ProgressStyle};

use crate::replay::{Phase, Progress};

const BAR: &str = "{prefix:10} {bar:40} {pos}/{len}  {per_sec}  {eta} left";

/// See the module. A clone shows the same.
#[derive(Clone)]
pub(super) struct Display(Arc<Mutex<Shown>>);

struct Shown {
    /// Only on a terminal.
    bar: Option<ProgressBar>,
    phase: Option<Phase>,
    tenth: usize,
}

impl Display {
    pub(super) fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            // A template that cannot be read would show the plain bar.
            ProgressBar::new(0)
                .with_style(ProgressStyle::with_template(BAR).unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self(Arc::new(Mutex::new(Shown { bar, phase: None, tenth: 0 })))
    }

    /// To be called with what is done.
    pub(super) fn progress(&self) -> Progress {
        let shown = Arc::clone(&self.0);
        Arc::new(move |phase, done, of| {
            shown.lock().unwrap_or_else(PoisonError::into_inner).show(phase, done, of);
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
    fn show(&mut self, phase: Phase, done: usize, of: usize) {
        let begins = self.phase != Some(phase);
        if begins {
            (self.phase, self.tenth) = (Some(phase), 0);
        }
        let word = match phase {
            Phase::Embedding => "embedding",
            Phase::Deciding => "deciding",
        };
        if let Some(bar) = &self.bar {
            if begins {
                bar.reset();
                bar.set_length(of as u64);
                bar.set_prefix(word);
            }
            // Reports come from several threads and may overtake each other.
            bar.set_position(bar.position().max(done as u64));
            return;
        }
        let tenth = done * 10 / of.max(1);
        if tenth > self.tenth {
            self.tenth = tenth;
            eprintln!("{word}: {done} of {of}");
        }
    }
}
