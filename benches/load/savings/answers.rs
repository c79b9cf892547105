//! What the upstream answers, and what may be answered with what.
//!
//! Each class of questions has facts of its own (a place, a step, a number of days, a reference), as in `remora replay`; an answer is
//! those facts, general sentences of its class, and words around them that differ from question to question. The reference
//! says which class an answer belongs to.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::Path;

use remora::replay::Answers;

use crate::Fault;

const OPENERS: [&str; 6] = [
    "Thanks for getting in touch. ",
    "Happy to help with this. ",
    "Good question. ",
    "Here is how it works. ",
    "Let me explain. ",
    "",
];
const CLOSERS: [&str; 5] = [
    " Is there anything else I can do for you?",
    " Please write again if anything is unclear.",
    " Let me know how it goes.",
    " I hope this helps.",
    "",
];
/// General sentences; a class has one to six of them.
const GENERAL: [&str; 12] = [
    " You see the state of it at any time in the app, on the page that opens when you tap the item.",
    " A message is sent to your phone as soon as something changes, provided that messages are switched on.",
    " Should the app show an older state, pull the page down and it is loaded again.",
    " The support team can look at it with you in the chat from early morning to late evening.",
    " Please keep your passcode to yourself; nobody at the bank will ever ask you for it.",
    " At weekends and on public holidays it can take somewhat longer, because other banks are closed.",
    " All of this is described in the help pages as well, with pictures of each screen.",
    " It works in the same way on all phones and tablets that the app supports.",
    " If you share the account with somebody, both of you see the change at the same time.",
    " You need the current version of the app; an older one shows the page without the last step.",
    " What you enter is kept, so you may stop and go on later from the same place.",
    " The amount stays reserved until then and is released by itself if nothing happens.",
];

/// Who answers what.
pub(crate) struct Truth {
    names: Vec<String>,
    of_text: HashMap<String, (usize, bool)>,
    reworded: f64,
    wrong: f64,
    seed: u64,
}

impl Truth {
    /// With nothing in it. `reworded` and `wrong` are shares of the questions whose answer has its facts in other words, or is that to
    /// another question.
    pub(crate) fn new(seed: u64, reworded: f64, wrong: f64) -> Self {
        Self { names: Vec::new(), of_text: HashMap::new(), reworded, wrong, seed }
    }

    /// A new class of questions.
    pub(crate) fn class(&mut self, name: &str) -> usize {
        self.names.push(name.to_owned());
        self.names.len() - 1
    }

    /// `text` is a question of this class; if it is `bound`, its answer is right in its own conversation only. A text has one
    /// class: whether it could be given this one.
    pub(crate) fn ask(&mut self, text: &str, class: usize, bound: bool) -> bool {
        *self.of_text.entry(text.to_owned()).or_insert((class, bound)) == (class, bound)
    }

    /// Whether `text` has a class.
    pub(crate) fn knows(&self, text: &str) -> bool {
        self.of_text.contains_key(text)
    }

    /// Whether `answer` is a right one to `text` in a conversation that began with `before`.
    pub(crate) fn is_right(&self, text: &str, before: &[(&str, &str)], answer: &str) -> Result<bool, Fault> {
        let (class, bound) = *self.of_text.get(text).ok_or("a question that was never listed")?;
        let reference = format!("R{}", reference(class));
        let named = answer.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == reference);
        Ok(named && (!bound || answer.contains(&digest(before))))
    }

    /// Writes the book of answers for the upstream.
    pub(crate) fn write(&self, path: &Path) -> Result<(), Fault> {
        let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
        for (text, (class, bound)) in &self.of_text {
            let line = serde_json::json!({ "question": text, "answer": self.answer(text, *class, *bound)? });
            writeln!(file, "{line}")?;
        }
        Ok(file.flush()?)
    }

    fn answer(&self, text: &str, class: usize, bound: bool) -> Result<String, Fault> {
        let chance = hash(text) ^ self.seed;
        let as_told = Answers::Noisy { reworded: self.reworded, wrong: self.wrong };
        let facts = as_told.fresh(self.seed, chance as usize, class, &self.names)?;
        let told = hash(&facts.class.to_string());
        let mut answer = format!("{}{}", OPENERS[(chance >> 8) as usize % OPENERS.len()], facts.text);
        if bound {
            answer.push_str(" This is for case {context} only.");
        }
        for number in 0..=told % 6 {
            answer.push_str(GENERAL[(told >> 16).wrapping_add(number * 5) as usize % GENERAL.len()]);
        }
        answer.push_str(CLOSERS[(chance >> 16) as usize % CLOSERS.len()]);
        Ok(answer)
    }
}

/// The reference in the answers to a class, see `remora::replay::Answers`.
fn reference(class: usize) -> usize {
    1_000 + class * 7
}

/// What the upstream puts for `{context}`.
fn digest(before: &[(&str, &str)]) -> String {
    let mut hasher = blake3::Hasher::new();
    for (role, text) in before {
        for part in [role.as_bytes(), text.as_bytes(), &[]] {
            hasher.update(&part.len().to_le_bytes());
            hasher.update(part);
        }
    }
    hasher.finalize().to_hex()[..8].to_owned()
}

fn hash(text: &str) -> u64 {
    let digest = *blake3::hash(text.as_bytes()).as_bytes();
    u64::from_le_bytes(std::array::from_fn(|at| digest[at]))
}
