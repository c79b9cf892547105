//! `remora replay`
//!
//! Arguments, progress, and the files that are written; what is computed is in `crate::replay`. Must never leave a file
//! half written, and never go on after Ctrl-C.

mod display;
mod fit;
mod traffic;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory as _, ValueEnum};

use self::display::Display;
use super::check::environment;
use crate::cache::decide::{Guard, Guards, UnknownGuard, Weights};
use crate::config::{Config, Overrides, check_report};
use crate::embed::Embedder;
use crate::replay::pairs::{PairSet, Reading};
use crate::replay::plot::{Plot, Series};
use crate::replay::prompt::Texts;
use crate::replay::recording::{Facts, Pair};
use crate::replay::report::{Report, Rows};
use crate::replay::stats::{Proportion, Spread, Tally};
use crate::replay::stream::Stream;
use crate::replay::{Answers, Linker, Recording, ReplayError, Settings, Spec};

pub(super) const EXAMPLES: &str = "\
Files: labelled pairs (JSON lines: id, category, a, b, same_answer, style; a and b are texts or lists of chat messages),
intents as CSV (text,category), or intents as JSON splits ({\"train\": [[\"text\", \"intent\"], …]}; items of splits named
oos… belong to no intent and must never hit). Any of them may be compressed by gzip.

With --store instead of a file, traffic that `remora serve` has recorded (cache.record_prompts = true) is asked again in
its own order, each request in its partition, and judged by what really happened: a miss by the answer that came, a hit by
its audit or by feedback. A hit that nobody checked counts as right, which flatters whatever serves it; the report says how
many there are. Answers are gone cache.ttl after they were stored. The store may be in use; it is only read.

Examples:
  remora replay banking77_train.csv
  remora replay clinc150.json.gz --split train --split oos_train --seeds 5
  remora replay pairs.jsonl --fixed 0.80,0.90 --json
  remora replay banking77_train.csv --answers noisy --reworded 0.10 --wrong 0.03 --plot curve.svg
  remora replay clinc150.json.gz --fit weights.json
  remora replay banking77_train.csv --weights weights.json --budget 0.005,0.01
  remora replay --store sqlite://remora.db --config remora.toml --since 7d --model gpt-4o

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.";

/// Thresholds of the curve in a plot.
const CURVE: [f32; 13] = [0.75, 0.78, 0.80, 0.82, 0.85, 0.87, 0.90, 0.92, 0.93, 0.95, 0.96, 0.97, 0.98];
/// Error budgets of the current policy in a plot.
const BUDGETS: [f64; 6] = [0.001, 0.0025, 0.005, 0.01, 0.015, 0.02];
/// Error bounds of vCache in a plot.
const DELTAS: [f64; 6] = [0.005, 0.01, 0.02, 0.03, 0.05, 0.1];
/// Longest wait for a vector. On the request path the wait is short; here it is only there to end a replay whose
/// embedder is gone.
const EMBEDDING_DEADLINE: Duration = Duration::from_secs(300);

#[derive(Args)]
pub(super) struct Replay {
    /// Recorded data. Either this or --store.
    #[arg(value_name = "FILE", required_unless_present = "store", conflicts_with = "store")]
    file: Option<PathBuf>,
    /// Database with recorded traffic, as in sqlite://remora.db.
    #[arg(long, value_name = "URL", conflicts_with_all = ["split", "fit"])]
    store: Option<String>,
    /// Traffic of this tenant only.
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// Traffic on this model only.
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// Traffic of this time only, as in 7d.
    #[arg(long, value_name = "AGE", value_parser = traffic::age)]
    since: Option<Duration>,
    /// Configuration file; its [cache] and [embedding] are used.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Take this split of a file that has splits; may be repeated. Default: all.
    #[arg(long, value_name = "NAME")]
    split: Vec<String>,
    /// Seed of the order of requests and of all chance.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Repeat with this many seeds, from --seed on, and print mean and spread (streams only).
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    seeds: u32,
    /// Ask the first N requests of each shuffled order; of recorded traffic, the last N (streams only).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Cosine thresholds of the fixed policies.
    #[arg(long, value_name = "COSINE", value_delimiter = ',', default_value = "0.85,0.90,0.93,0.95", value_parser = proportion)]
    fixed: Vec<f64>,
    /// Error bound of vCache.
    #[arg(long, value_name = "RATE", default_value = "0.02", value_parser = proportion)]
    delta: f64,
    /// Error budgets of the current policy. Default: cache.max_error_rate.
    #[arg(long, value_name = "RATE", value_delimiter = ',', value_parser = proportion)]
    budget: Vec<f64>,
    /// File of weights, instead of those of the configuration or the program.
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// What the upstream answers (streams only).
    #[arg(long, value_name = "KIND", value_enum, default_value_t = AnswerKind::Ideal)]
    answers: AnswerKind,
    /// Share of noisy answers that are in other words.
    #[arg(long, value_name = "RATE", value_parser = proportion, default_value = "0.10")]
    reworded: f64,
    /// Share of noisy answers that answer another intent.
    #[arg(long, value_name = "RATE", value_parser = proportion, default_value = "0.03")]
    wrong: f64,
    /// Fit weights to every candidate that the current policy meets, and write them with where they come from. Use them
    /// with --weights, or as cache.weights_file (streams only).
    #[arg(long, value_name = "FILE.json")]
    fit: Option<PathBuf>,
    /// Another file of intents to fit the weights to; may be repeated.
    #[arg(long, value_name = "FILE", requires = "fit")]
    also: Vec<PathBuf>,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Write the trade-off of hits and wrong answers as SVG; runs more thresholds and bounds than the table shows.
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum AnswerKind {
    /// An intent's answer is always in the same words.
    Ideal,
    /// Some are reworded (--reworded), some answer another intent (--wrong).
    Noisy,
}

fn proportion(text: &str) -> Result<f64, String> {
    let value: f64 = text.trim().parse().map_err(|_| "not a number; give one from 0 to 1".to_owned())?;
    if (0.0..=1.0).contains(&value) { Ok(value) } else { Err("out of range; give a number from 0 to 1".to_owned()) }
}

impl Replay {
    pub(super) async fn run(self) -> Result<(), String> {
        self.check_usage();
        let work = self.work();
        tokio::pin!(work);
        tokio::select! {
            done = &mut work => done,
            interrupted = tokio::signal::ctrl_c() => {
                // Threads that still compute have nothing to lose; files are only written between two awaits.
                match interrupted {
                    Ok(()) => std::process::exit(130),
                    Err(error) => Err(format!("Ctrl-C cannot be handled: {error}")),
                }
            }
        }
    }

    /// Ends the program if options do not go together.
    fn check_usage(&self) {
        let rates = self.reworded + self.wrong;
        if self.answers == AnswerKind::Noisy && rates > 1.0 {
            misuse(&format!("--reworded and --wrong add up to {rates}; together they must be at most 1"));
        }
        self.check_traffic_usage();
    }

    /// What is replayed, for messages and the report.
    fn source(&self) -> String {
        match (&self.store, &self.file) {
            (Some(url), _) => url.clone(),
            (None, Some(file)) => file.display().to_string(),
            (None, None) => String::new(),
        }
    }

    async fn recording(&self) -> Result<Recording, String> {
        if let Some(url) = &self.store {
            return self.traffic(url).await.map(Recording::Traffic);
        }
        let (file, splits) = (self.file.clone().unwrap_or_default(), self.split.clone());
        off_the_executor(move || Recording::open(&file, &splits)).await?.map_err(|error| error.to_string())
    }

    /// Ends the program if options were given that mean nothing for labelled pairs.
    fn check_pair_usage(&self) {
        let given = [
            ("--seeds", self.seeds != 1),
            ("--limit", self.limit.is_some()),
            ("--answers", self.answers != AnswerKind::Ideal),
            ("--fit", self.fit.is_some()),
        ];
        if let Some((flag, _)) = given.into_iter().find(|(_, given)| *given) {
            misuse(&format!("{flag} is for streams of intents; {} holds labelled pairs", self.source()));
        }
    }

    async fn work(&self) -> Result<(), String> {
        let config = Config::load(self.config.as_deref(), environment(), &Overrides::default())
            .map_err(|problems| check_report(&problems))?;
        let recording = self.recording().await?;
        if let Recording::Pairs(_) = recording {
            self.check_pair_usage();
        }
        let parallel = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let mut embedding = config.embedding.clone();
        embedding.deadline = embedding.deadline.max(EMBEDDING_DEADLINE);
        embedding.threads = parallel;
        embedding.queue = embedding.queue.max(4 * parallel);
        let embedder = Embedder::new(&embedding).map_err(|error| error.to_string())?;
        let guards = guards(&config.cache.guards_off).map_err(|error| format!("cache.guards_off: {error}"))?;
        let space = embedder.space().to_string();
        let weights = match (&self.weights, &config.cache.weights_file) {
            (Some(file), _) | (None, Some(file)) => {
                Some(Weights::load(file, &space).map_err(|error| error.to_string())?)
            }
            (None, None) => Weights::shipped(&space),
        };
        let settings = Settings { similarity: config.cache.similarity, guards, audit_rate: config.cache.audit.rate };
        let current = |budget| Spec::Current { settings, budget, weights };
        let budgets = if self.budget.is_empty() { vec![config.cache.max_error_rate] } else { self.budget.clone() };
        let table = self.policies(guards, &budgets.iter().map(|budget| current(*budget)).collect::<Vec<_>>());
        let extra = if self.plot.is_some() { curve(&table, guards, &current) } else { Vec::new() };
        let display = Display::new();
        let job = Job { parallel, embedder, table, extra, display };
        let (report, plot) = match recording {
            Recording::Intents(intents) => {
                if let Some(out) = &self.fit {
                    eprintln!("{}", self.fit(out, intents.clone(), &job).await?);
                }
                let mut texts = Texts::default();
                let stream = Stream::new(intents, self.most(), &self.all_seeds(), &mut texts);
                self.stream(stream, texts, None, job).await?
            }
            Recording::Traffic(traffic) => {
                let ttl = u64::try_from(config.cache.ttl.as_millis()).unwrap_or(u64::MAX);
                let (mut texts, facts) = (Texts::default(), traffic.facts);
                let stream = Stream::recorded(&traffic, ttl, &mut texts);
                self.stream(stream, texts, Some((facts, ttl)), job).await?
            }
            Recording::Pairs(pairs) => self.pairs(&pairs, &config, job).await?,
        };
        if let Some(path) = &self.plot {
            write_whole(path, &plot.to_svg())?;
        }
        if self.json {
            println!("{:#}", report.to_json())
        } else {
            print!("{}", report.to_text())
        }
        Ok(())
    }

    /// The rows of the table.
    fn policies(&self, guards: Guards, current: &[Spec]) -> Vec<Spec> {
        let fixed = |guards| self.fixed.iter().map(move |cosine| Spec::Fixed { threshold: narrow(*cosine), guards });
        let vcache = [false, true].map(|store_all| Spec::VCache { delta: self.delta, store_all });
        fixed(None).chain(fixed(Some(guards))).chain(vcache).chain(current.iter().copied()).collect()
    }

    fn most(&self) -> usize {
        self.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
    }

    fn all_seeds(&self) -> Vec<u64> {
        (0..u64::from(self.seeds)).map(|more| self.seed.wrapping_add(more)).collect()
    }

    fn answers(&self) -> Answers {
        match self.answers {
            AnswerKind::Ideal => Answers::Ideal,
            AnswerKind::Noisy => Answers::Noisy { reworded: self.reworded, wrong: self.wrong },
        }
    }

    async fn stream(
        &self,
        stream: Stream,
        texts: Texts,
        recorded: Option<(Facts, u64)>,
        job: Job,
    ) -> Result<(Report, Plot), String> {
        let seeds = self.all_seeds();
        let Job { parallel, embedder, table, extra, display } = job;
        let tell = display.progress();
        let prompts = texts.embed(&embedder, 2 * parallel, &tell).await.map_err(|error| error.to_string())?;
        let (answers, requests, classes) = (self.answers(), stream.len(), stream.classes());
        let all: Vec<Spec> = table.iter().chain(&extra).copied().collect();
        let (specs, run_seeds) = (all.clone(), seeds.clone());
        let linker = Arc::new(Linker::new(embedder.clone()));
        let run = move || stream.run_all(&prompts, &specs, &run_seeds, answers, &linker, parallel, &tell);
        let tallies = off_the_executor(run).await?.map_err(|error| error.to_string())?;
        display.finish();
        let mut policies: Vec<_> = all.into_iter().zip(tallies).collect();
        let point = |tallies: &[Tally]| {
            let mean = |of: fn(&Tally) -> Proportion| {
                let values = tallies.iter().map(|tally| of(tally).value());
                Spread::of(values).map_or(0.0, |spread| spread.mean * 100.0)
            };
            (mean(Tally::wrong_rate), mean(Tally::hit_rate))
        };
        let plot = Plot {
            title: format!("{}: {requests} requests", self.name()),
            x_title: "wrong answers / requests, %".to_owned(),
            y_title: "hits / requests, %".to_owned(),
            log_x: true,
            series: series(policies.iter().map(|(spec, tallies)| (*spec, point(tallies)))),
        };
        policies.truncate(table.len());
        let rows = Rows::Stream { requests, classes, answers, recorded, policies };
        Ok((self.report(&embedder, seeds, rows), plot))
    }

    async fn pairs(&self, pairs: &[Pair], config: &Config, job: Job) -> Result<(Report, Plot), String> {
        let Job { parallel, embedder, table, extra, display } = job;
        let reading = Reading { limits: &config.server.limits, max_temperature: config.cache.max_temperature };
        let mut texts = Texts::default();
        let set = PairSet::new(&self.source(), pairs, reading, embedder.space().to_string(), &mut texts)
            .map_err(|error| error.to_string())?;
        let prompts =
            texts.embed(&embedder, 2 * parallel, &display.progress()).await.map_err(|error| error.to_string())?;
        let (seed, count) = (self.seed, set.len());
        let all: Vec<Spec> = table.iter().chain(&extra).copied().collect();
        let linker = Arc::new(Linker::new(embedder.clone()));
        let run = move || {
            let one = |spec| set.run(&prompts, spec, seed, &linker).map(|tally| (spec, tally));
            all.into_iter().map(one).collect()
        };
        let policies: Result<Vec<_>, _> = off_the_executor(run).await?;
        let mut policies = policies.map_err(|error: ReplayError| error.to_string())?;
        display.finish();
        let percent = |of: Proportion| of.value().unwrap_or_default() * 100.0;
        let plot = Plot {
            title: format!("{}: {count} pairs", self.name()),
            x_title: "traps served, %".to_owned(),
            y_title: "true pairs served, %".to_owned(),
            log_x: false,
            series: series(
                policies.iter().map(|(spec, tally)| (*spec, (percent(tally.traps), percent(tally.true_pairs)))),
            ),
        };
        policies.truncate(table.len());
        Ok((self.report(&embedder, vec![self.seed], Rows::Pairs { pairs: count, policies }), plot))
    }

    /// The source without its folder.
    fn name(&self) -> String {
        self.file.as_deref().map_or_else(|| self.source(), name)
    }

    fn report(&self, embedder: &Embedder, seeds: Vec<u64>, rows: Rows) -> Report {
        Report { file: self.source(), space: embedder.space().to_string(), seeds, rows }
    }
}

/// What a run needs besides its data.
struct Job {
    parallel: usize,
    embedder: Embedder,
    /// Policies in the table.
    table: Vec<Spec>,
    /// Policies in the plot only.
    extra: Vec<Spec>,
    display: Display,
}

/// More points of each policy for a plot, without those that are in the table already.
fn curve(table: &[Spec], guards: Guards, current: &dyn Fn(f64) -> Spec) -> Vec<Spec> {
    let fixed = |guards| CURVE.into_iter().map(move |threshold| Spec::Fixed { threshold, guards });
    let vcache = |store_all| DELTAS.into_iter().map(move |delta| Spec::VCache { delta, store_all });
    let current = BUDGETS.into_iter().map(current);
    fixed(None)
        .chain(fixed(Some(guards)))
        .chain(vcache(false))
        .chain(vcache(true))
        .chain(current)
        .filter(|spec| !table.contains(spec))
        .collect()
}

/// One series a family of policies, in order of appearance.
fn series(points: impl Iterator<Item = (Spec, (f64, f64))>) -> Vec<Series> {
    let mut all: Vec<Series> = Vec::new();
    for (spec, (x, y)) in points {
        let word = match spec {
            Spec::Fixed { threshold, .. } => format!("{threshold:.2}"),
            Spec::VCache { delta, .. } => format!("δ {delta}"),
            Spec::Current { budget, .. } => format!("{} %", budget * 100.0),
        };
        match all.iter_mut().find(|series| series.name == spec.family()) {
            Some(series) => series.points.push((x, y, word)),
            None => all.push(Series { name: spec.family().to_owned(), points: vec![(x, y, word)] }),
        }
    }
    all
}

fn guards(off: &[String]) -> Result<Guards, UnknownGuard> {
    let off: Vec<Guard> = off.iter().map(|name| name.parse()).collect::<Result<_, _>>()?;
    Ok(Guards::without(&off))
}

fn name(file: &Path) -> String {
    file.file_name().unwrap_or(file.as_os_str()).to_string_lossy().into_owned()
}

fn narrow(value: f64) -> f32 {
    #[expect(clippy::cast_possible_truncation, reason = "vectors are compared in f32; the range is 0 to 1")]
    let value = value as f32;
    value
}

/// Runs what computes for long where it keeps no other task waiting, Ctrl-C among them.
async fn off_the_executor<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(|error| format!("the computation stopped: {error}"))
}

/// Writes a file as a whole or not at all.
fn write_whole(path: &Path, content: &str) -> Result<(), String> {
    let beside = path.with_file_name(format!(".{}.part", name(path)));
    let written = std::fs::write(&beside, content).and_then(|()| std::fs::rename(&beside, path));
    written.map_err(|error| {
        // What cannot be written may not be there to be removed either.
        let _ = std::fs::remove_file(&beside);
        format!(
            "{}: cannot be written: {error}; give a path in a directory that this user may write to",
            path.display()
        )
    })
}

/// Ends the program as clap does for wrong usage: exit code 2.
fn misuse(what: &str) -> ! {
    super::Cli::command().error(ErrorKind::ArgumentConflict, what).exit()
}
