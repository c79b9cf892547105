//! The traffic: which conversations customers have on a day, and when. See the header of the bench for the model.

use std::collections::{HashMap, VecDeque};
use std::path::Path;

use fastrand::Rng;
use remora::replay::Recording;
use remora::replay::recording::Side;

use crate::answers::Truth;
use crate::words;
use crate::{Fault, Settings};

/// Requests of each hour in per mille of the day's: night, a morning peak at ten, a dip at lunch, a slower afternoon, an evening.
pub(crate) const CURVE: [u32; 24] =
    [10, 7, 5, 5, 6, 10, 20, 36, 56, 72, 78, 74, 66, 64, 68, 66, 62, 56, 52, 50, 48, 40, 29, 20];
/// Share of the openings that are personal, in two equal halves: with the details in the question, and with the account in the request.
const PERSONAL: f64 = 0.15;
/// Share of the openings that are from the labelled pairs.
const PAIRED: f64 = 0.05;
/// Of the repeats: customers who ask again what was asked a short while ago; the others click the suggested question.
const RETRIED: f64 = 0.2;
/// Probability that a turn is followed by another.
const GOES_ON: f64 = 0.3;
/// Most turns of a conversation.
const TURNS: usize = 4;
/// Of the further turns: another question; the others are about the answer before.
const CHANGES_SUBJECT: f64 = 0.4;
/// Openings that may be asked again.
const RECENT: usize = 50;
/// Seconds in a day.
pub(crate) const DAY: f64 = 86_400.0;

/// What kind of question a turn is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// The suggested question of an intent, word by word.
    Suggested,
    /// A question of a short while ago, word by word.
    Retry,
    /// An intent in words that nobody has used before, as recorded.
    New,
    /// An intent in recorded words that were used before, written differently.
    Varied,
    /// From the labelled pairs.
    Paired,
    /// Personal, with the details in the question.
    Detailed,
    /// Personal, with the account in the request.
    Own,
    /// About the answer before.
    Next,
}

impl Kind {
    pub(crate) const ALL: [Self; 8] =
        [Self::Suggested, Self::Retry, Self::New, Self::Varied, Self::Paired, Self::Detailed, Self::Own, Self::Next];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Suggested => "suggested question",
            Self::Retry => "asked again",
            Self::New => "intent, new words",
            Self::Varied => "intent, words varied",
            Self::Paired => "labelled pairs",
            Self::Detailed => "personal, details in question",
            Self::Own => "personal, account in request",
            Self::Next => "about the answer before",
        }
    }
}

/// One question.
#[derive(Clone, Debug)]
pub(crate) struct Turn {
    pub(crate) kind: Kind,
    pub(crate) text: String,
    /// Days after the answer before.
    pub(crate) pause: f64,
}

/// What one customer asks.
#[derive(Clone, Debug)]
pub(crate) struct Conversation {
    /// When it begins, in days.
    pub(crate) at: f64,
    /// What the application says of the customer.
    pub(crate) account: Option<String>,
    pub(crate) turns: Vec<Turn>,
}

struct Intent {
    class: usize,
    suggested: String,
    /// Recorded, not used yet.
    new: Vec<String>,
    used: Vec<String>,
}

/// Makes days of traffic.
pub(crate) struct Source {
    rng: Rng,
    intents: Vec<Intent>,
    /// Sums of the probabilities of intents.
    popular: Vec<f64>,
    paired: Vec<String>,
    next: Vec<usize>,
    recent: VecDeque<(String, Option<String>)>,
    repeats: f64,
}

impl Source {
    /// Reads the data and lists what it says in `truth`.
    pub(crate) fn read(settings: &Settings, truth: &mut Truth) -> Result<Self, Fault> {
        let mut rng = Rng::with_seed(settings.seed);
        let place = Path::new(env!("CARGO_MANIFEST_DIR"));
        let Recording::Intents(recorded) = Recording::open(&place.join("benches/data/banking77_train.csv"), &[])?
        else {
            return Err("banking77_train.csv is not a list of intents".into());
        };
        let mut intents: Vec<Intent> = Vec::new();
        for name in &recorded.classes {
            let class = truth.class(name);
            intents.push(Intent { class, suggested: String::new(), new: Vec::new(), used: Vec::new() });
        }
        for query in recorded.queries {
            let intent = &mut intents[query.class];
            if !truth.ask(&query.text, intent.class, false) {
                continue;
            }
            if intent.suggested.is_empty() { intent.suggested = query.text } else { intent.new.push(query.text) }
        }
        rng.shuffle(&mut intents);
        for intent in &mut intents {
            rng.shuffle(&mut intent.new);
        }
        let weights = (1..=intents.len()).map(|rank| (rank as f64).powf(-settings.zipf));
        let popular = weights
            .scan(0.0, |sum, weight| {
                *sum += weight;
                Some(*sum)
            })
            .collect();
        let Recording::Pairs(pairs) = Recording::open(&place.join("tests/data/pairs_dev.jsonl"), &[])? else {
            return Err("pairs_dev.jsonl is not a list of pairs".into());
        };
        let pairs = pairs.into_iter().filter_map(|pair| match (pair.a, pair.b) {
            (Side::Text(a), Side::Text(b)) => Some((pair.same_answer, a, b)),
            _ => None,
        });
        let paired = label(pairs.collect(), truth);
        let next = words::NEXT.iter().map(|row| {
            let class = truth.class("that");
            row.iter().for_each(|text| {
                truth.ask(text, class, true);
            });
            class
        });
        let next = next.collect();
        for text in words::OWN {
            let class = truth.class("your account");
            truth.ask(text, class, true);
        }
        Ok(Self { rng, intents, popular, paired, next, recent: VecDeque::new(), repeats: settings.repeats })
    }

    /// The conversations of a day, about `requests` questions in all, in their order.
    pub(crate) fn day(&mut self, day: usize, requests: usize, truth: &mut Truth) -> Result<Vec<Conversation>, Fault> {
        let turns: f64 = (0..TURNS).map(|turn| GOES_ON.powi(turn as i32)).sum();
        let mut times: Vec<f64> = Vec::new();
        for (hour, share) in CURVE.iter().enumerate() {
            let count = (requests as f64 / turns * f64::from(*share) / 1_000.0).round() as usize;
            times.extend((0..count).map(|_| day as f64 + (hour as f64 + self.rng.f64()) / 24.0));
        }
        times.sort_by(f64::total_cmp);
        times.into_iter().map(|at| self.conversation(at, truth)).collect()
    }

    fn conversation(&mut self, at: f64, truth: &mut Truth) -> Result<Conversation, Fault> {
        let (kind, text, account) = self.opening(truth)?;
        self.recent.push_back((text.clone(), account.clone()));
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
        let mut turns = vec![Turn { kind, text, pause: 0.0 }];
        while turns.len() < TURNS && self.rng.f64() < GOES_ON {
            // Somebody reads the answer and types.
            let pause = (30.0 + 90.0 * self.rng.f64()) / DAY;
            let (kind, text) = if self.rng.f64() < CHANGES_SUBJECT {
                self.intent(truth)?
            } else {
                let row = self.rng.usize(..self.next.len());
                (Kind::Next, words::pick(&words::NEXT[row], &mut self.rng).to_owned())
            };
            turns.push(Turn { kind, text, pause });
        }
        Ok(Conversation { at, account, turns })
    }

    fn opening(&mut self, truth: &mut Truth) -> Result<(Kind, String, Option<String>), Fault> {
        if self.rng.f64() < self.repeats * RETRIED && !self.recent.is_empty() {
            let (text, account) = self.recent[self.rng.usize(..self.recent.len())].clone();
            return Ok((Kind::Retry, text, account));
        }
        let drawn = self.rng.f64();
        if drawn < PERSONAL / 2.0 {
            let account = words::account(&mut self.rng);
            return Ok((Kind::Own, words::pick(&words::OWN, &mut self.rng).to_owned(), Some(account)));
        }
        if drawn < PERSONAL {
            let text = loop {
                let text = words::detailed(&mut self.rng);
                if !truth.knows(&text) {
                    break text;
                }
            };
            let class = truth.class("your request");
            truth.ask(&text, class, false);
            return Ok((Kind::Detailed, text, None));
        }
        if drawn < PERSONAL + PAIRED {
            let text = self.paired[self.rng.usize(..self.paired.len())].clone();
            return Ok((Kind::Paired, text, None));
        }
        self.intent(truth).map(|(kind, text)| (kind, text, None))
    }

    fn intent(&mut self, truth: &mut Truth) -> Result<(Kind, String), Fault> {
        let most = *self.popular.last().ok_or("no intents")?;
        let drawn = self.rng.f64() * most;
        let rank = self.popular.partition_point(|sum| *sum <= drawn).min(self.intents.len() - 1);
        let intent = &mut self.intents[rank];
        if self.rng.f64() < self.repeats * (1.0 - RETRIED) {
            return Ok((Kind::Suggested, intent.suggested.clone()));
        }
        if let Some(text) = intent.new.pop() {
            intent.used.push(text.clone());
            return Ok((Kind::New, text));
        }
        loop {
            let text = words::varied(&intent.used[self.rng.usize(..intent.used.len())], &mut self.rng);
            if !truth.knows(&text) {
                truth.ask(&text, intent.class, false);
                return Ok((Kind::Varied, text));
            }
        }
    }
}

/// Gives each prompt of the pairs its class: those that may share an answer have one, all others one each.
fn label(pairs: Vec<(bool, String, String)>, truth: &mut Truth) -> Vec<String> {
    let mut of: HashMap<String, usize> = HashMap::new();
    let mut found = Vec::new();
    let (same, apart): (Vec<_>, Vec<_>) = pairs.into_iter().partition(|(same, ..)| *same);
    for (same, a, b) in same.into_iter().chain(apart) {
        let mut shared = of.get(&a).or_else(|| of.get(&b)).copied().filter(|_| same);
        for text in [a, b] {
            let known = of.get(&text).copied();
            let class = known.or(shared).unwrap_or_else(|| truth.class("this topic"));
            shared = same.then_some(class);
            if known.is_none() && truth.ask(&text, class, false) {
                of.insert(text.clone(), class);
                found.push(text);
            }
        }
    }
    found
}
