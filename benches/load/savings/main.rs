//! The 30 % run: days of a customer-support assistant, played at speed through the real program, and what it costs
//! with and without Remora.
//!
//! `cargo bench --bench savings`. Three processes: Remora with default settings of the decision, its upstream
//! (`remora simulate`), and the same upstream alone, which gets the same questions at the same times and says what
//! they cost without Remora.
//!
//! **The traffic**, decided before anything was measured:
//!
//! - A bank's assistant, gpt-4o-mini at the shipped prices, one key, no streaming. A system prompt of 1,176 tokens,
//!   answers of 85 to 200 (a token is four bytes here).
//! - The day's load has a peak at ten, a dip at lunch, an afternoon and an evening (`traffic::CURVE`; an
//!   assumption).
//! - 80 % of the openings ask one of the 77 intents of BANKING77, drawn by Zipf's law. Exponents that were measured
//!   for requests and documents of the web lie between 0.60 and 1.03 (as Krashakov, Teslyuk and Shchur 2004 sum up);
//!   here it is their middle, 0.8.
//! - A quarter of them repeat word by word: four in five of these click the intent's suggested question, one in five
//!   asks again what one of the last 50 customers asked. An assumption; vary it. All others are in words that were
//!   not used before: as recorded while there are any left, then recorded words with a greeting, an aside, thanks, a
//!   slip, or in lower case. With the exponent 0.8 and 20,000 requests the frequent intents run out of recorded
//!   words, so these count apart.
//! - 15 % of the openings are personal. Half have the details in the question (amounts, names, dates, account
//!   numbers; 14 templates, so questions differ in nothing but these); half are in words that everybody uses ("What
//!   is my balance?"), and the application has put the account into the request, without which no model could
//!   answer. Each has an answer of its own.
//! - 5 % are prompts of the labelled pairs (`tests/data/pairs_dev.jsonl`): half of these pairs are traps.
//! - 30 % of the turns are followed by another one within half a minute to two: 60 % about the answer before, 40 %
//!   another intent. What was said before is sent along, so the cache may answer only in the same conversation.
//! - The upstream takes 1.5 s and keeps beginnings of prompts for five minutes, as OpenAI does. Each class of
//!   questions has facts of its own, as in `remora replay`, in sentences around which the words differ from question
//!   to question; 10 % of the questions get the facts in other words, too.
//!
//! **The time.** A day lasts `SAVINGS_DAY` seconds, and so all durations that matter (lifetime of answers, the
//! provider's prompt cache and what Remora assumes of it, latency, pauses) are as much shorter, and rates (audits an
//! hour, writes a minute) as much higher.
//!
//! **Right and wrong.** An answer is right if it is that of the question's class: the intent, the labelled pair, the
//! very customer. So "same intent" stands for "same answer", which is the label's notion: an intent may hold
//! questions whose answers differ, and two intents may have questions with one answer. Each answer names its class
//! and, where it is bound to its conversation, that.
//!
//! **The money.** Spend without Remora is reckoned here from the usage in the lone upstream's answers; spend with
//! Remora is the ledger's, checks included.
//!
//! | variable | what | default |
//! |---|---|---|
//! | `SAVINGS_REQUESTS` | requests of a day | 20000 |
//! | `SAVINGS_DAYS` | days; the first begins with an empty cache | 2 |
//! | `SAVINGS_DAY` | seconds that a day lasts | 240 |
//! | `SAVINGS_ZIPF` | exponent of the intents' popularity | 0.8 |
//! | `SAVINGS_REPEATS` | share of the questions about intents that repeat word by word | 0.25 |
//! | `SAVINGS_REWORDED` | share of the questions that get their facts in other words | 0.1 |
//! | `SAVINGS_WRONG` | share of the questions that the upstream answers wrongly | 0 |
//! | `SAVINGS_WEIGHTS` | `cache.weights_file` | the shipped ones |
//! | `SAVINGS_SEED` | seed of everything drawn | 1 |
//! | `SAVINGS_OUT` | where `savings.json`, `savings.csv` and `savings.svg` go | the build's folder |
#![allow(
    missing_docs,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::indexing_slicing,
    reason = "a benchmark may stop at the first fault"
)]

mod answers;
#[path = "../client.rs"]
#[expect(dead_code, reason = "the load bench uses more of it")]
mod client;
mod drive;
mod figures;
mod money;
mod plot;
#[path = "../process.rs"]
#[expect(dead_code, reason = "the load bench uses more of it")]
mod process;
mod programs;
mod report;
mod traffic;
mod words;

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use remora::clock::Clock;
use serde_json::{Value, json};

use answers::Truth;
use drive::{Stage, play};
use figures::Figures;
use money::Rates;
use programs::Programs;
use report::Told;
use traffic::Source;

/// Whatever ends a run.
pub(crate) type Fault = Box<dyn std::error::Error + Send + Sync>;

/// The model that is asked for.
pub(crate) const MODEL: &str = "gpt-4o-mini";

/// What a run may vary.
pub(crate) struct Settings {
    requests: usize,
    days: usize,
    day: Duration,
    zipf: f64,
    repeats: f64,
    reworded: f64,
    wrong: f64,
    weights: String,
    seed: u64,
    out: PathBuf,
}

impl Settings {
    fn read() -> Result<Self, Fault> {
        Ok(Self {
            requests: number("SAVINGS_REQUESTS", 20_000)?,
            days: number("SAVINGS_DAYS", 2)?.max(1),
            day: Duration::from_secs(number("SAVINGS_DAY", 240)?.max(1)),
            zipf: number("SAVINGS_ZIPF", 0.8)?,
            repeats: number("SAVINGS_REPEATS", 0.25)?,
            reworded: number("SAVINGS_REWORDED", 0.1)?,
            wrong: number("SAVINGS_WRONG", 0.0)?,
            weights: std::env::var("SAVINGS_WEIGHTS").unwrap_or_default(),
            seed: number("SAVINGS_SEED", 1)?,
            out: std::env::var_os("SAVINGS_OUT").map_or_else(|| env!("CARGO_TARGET_TMPDIR").into(), PathBuf::from),
        })
    }

    fn words(&self) -> String {
        let weights = if self.weights.is_empty() { "the shipped ones" } else { "of a file" };
        format!(
            "{} days of about {} requests, {} s each; Zipf {}, repeats {}, reworded {}, wrong {}, weights {weights}, seed {}.",
            self.days,
            self.requests,
            self.day.as_secs(),
            self.zipf,
            self.repeats,
            self.reworded,
            self.wrong,
            self.seed
        )
    }

    fn to_json(&self) -> Value {
        json!({ "requests": self.requests, "days": self.days, "day_seconds": self.day.as_secs(), "zipf": self.zipf,
            "repeats": self.repeats, "reworded": self.reworded, "wrong": self.wrong,
            "weights": if self.weights.is_empty() { "shipped" } else { "file" }, "seed": self.seed })
    }
}

fn number<T: FromStr>(name: &str, default: T) -> Result<T, Fault> {
    match std::env::var(name) {
        Ok(text) => text.parse().map_err(|_| format!("{name}: `{text}` is not a number that fits").into()),
        Err(_) => Ok(default),
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

async fn run(settings: &Settings) -> Result<(), Fault> {
    let clock = Clock::system();
    let mut truth = Truth::new(settings.seed, settings.reworded, settings.wrong);
    let mut source = Source::read(settings, &mut truth)?;
    let mut conversations = Vec::new();
    for day in 0..settings.days {
        conversations.extend(source.day(day, settings.requests, &mut truth)?);
    }
    let (place, book) = programs::place()?;
    truth.write(&book)?;
    let programs = Programs::start(place, &book, settings)?;
    let rates = Rates::shipped(clock.now_ms())?;
    eprintln!("{} conversations; {}", conversations.len(), settings.words());
    let began_ms = clock.now_ms();
    let stage = Arc::new(Stage { conversations, truth, day: settings.day, began: Instant::now() });
    let (alone, remora) = tokio::try_join!(play(&stage, programs.alone), play(&stage, programs.data))?;
    let learners = serde_json::from_str(&programs.admin("/admin/v1/cache/learners").await?)?;
    let (alone_late, remora_late) = (alone.late, remora.late);
    let (rows, complaints, metrics) = programs.end().await?;
    let day_ms = settings.day.as_millis() as u64;
    let source = figures::Source {
        alone: &alone.outcomes,
        remora: &remora.outcomes,
        rows: &rows,
        began_ms,
        day_ms,
        days: settings.days,
    };
    let figures = Figures::of(&source, &rates);
    let told = Told {
        late: [alone_late, remora_late],
        rows: [rows.iter().filter(|row| !row.is_check()).count(), remora.outcomes.len()],
        complaints,
        metrics,
        learners,
    };
    report::print(settings, &figures, &rates, &told);
    std::fs::create_dir_all(&settings.out)?;
    report::write(&settings.out, settings, &figures, &rates, &told)
}
