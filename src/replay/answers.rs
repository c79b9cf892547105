//! What the upstream of a replay answers. Recordings of intents have no answers, so one is made up for each intent, with
//! facts of its own: a number of days, a step, a place and a reference.
//!
//! Invariants: the answer to a request is a function of the seed and of the request's place, so all policies meet the
//! same ones; all wordings of an intent's answer have the same facts, and no other intent has them all. Must never be
//! taken for what a provider says.

use super::ReplayError;
use super::memory::Answer;

/// How the upstream answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Answers {
    /// An intent's answer is always in the same words.
    Ideal,
    /// As providers do.
    Noisy {
        /// Probability of other words.
        reworded: f64,
        /// Probability of the answer to another intent.
        wrong: f64,
    },
}

/// Wordings of each answer; the first is the usual one.
const WORDINGS: usize = 4;

const PLACES: [&str; 8] = [
    "the account page",
    "the billing tab",
    "the security settings",
    "the help centre",
    "the order history",
    "the profile menu",
    "the travel section",
    "the device list",
];

const STEPS: [&str; 7] = [
    "confirm your address",
    "upload a photo of the document",
    "enter the code from the text message",
    "select the latest transaction",
    "answer the security question",
    "choose the start date",
    "sign the form",
];

impl Answers {
    /// What comes back for the request at `place` of a run with this seed, asking for `class` of `classes`.
    ///
    /// # Errors
    /// There is no such class.
    pub fn fresh(self, seed: u64, place: usize, class: usize, classes: &[String]) -> Result<Answer, ReplayError> {
        let (mut class, mut wording) = (class, 0);
        if let Self::Noisy { reworded, wrong } = self {
            // The odd factor keeps the streams of neighbouring seeds and places apart.
            let mut chance = fastrand::Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ place as u64);
            let drawn = chance.f64();
            if drawn < wrong && classes.len() > 1 {
                let other = chance.usize(..classes.len() - 1);
                class = if other < class { other } else { other + 1 };
            } else if drawn < wrong + reworded {
                wording = chance.usize(1..WORDINGS);
            }
        }
        let name = classes.get(class).ok_or_else(|| ReplayError::new(format!("there is no class {class}")))?;
        Ok(Answer { text: compose(name, class, wording).into(), class })
    }
}

/// The answer to an intent, one to four sentences long, in one of [`WORDINGS`] wordings.
fn compose(name: &str, class: usize, wording: usize) -> String {
    let topic = name.replace(['_', '-'], " ");
    let place = PLACES.get(class % PLACES.len()).copied().unwrap_or_default();
    let step = STEPS.get(class % STEPS.len()).copied().unwrap_or_default();
    let days = 2 + class * 5 % 19;
    let code = format!("R{}", 1_000 + class * 7);
    match (class % 3, wording) {
        (0, 0) => format!("For {topic}, open {place}, {step}, and quote {code}; allow {days} working days."),
        (0, 1) => format!(
            "Please go to {place} and {step} to deal with {topic}, which takes {days} working days under {code}."
        ),
        (0, 2) => format!("{code} covers {topic}: {step} in {place} and wait {days} working days."),
        (0, _) => format!(
            "You will need {place} for {topic}, where you {step} with reference {code}, done within {days} working days."
        ),
        (1, 0) => format!(
            "Happy to help with {topic}. Go to {place} and {step}. It is done within {days} working days. Your reference is {code}."
        ),
        (1, 1) => format!(
            "I can help you with {topic}. Your reference is {code}. Once you {step} in {place}, it takes {days} working days."
        ),
        (1, 2) => format!(
            "About {topic}: the place to look is {place}. There you {step}. Reference {code} is finished in {days} working days."
        ),
        (1, _) => format!("Sure. To settle {topic}, {step} in {place}. We need {days} working days for {code}."),
        (_, 0) => format!(
            "You can settle {topic} yourself. In {place}, {step} under case {code} and wait {days} working days."
        ),
        (_, 1) => format!(
            "There is no need to call us about {topic}. Just {step} in {place}; case {code} closes after {days} working days."
        ),
        (_, 2) => format!("Case {code} is the one for {topic}. Open {place} and {step}. Expect {days} working days."),
        (_, _) => {
            format!("We handle {topic} as case {code}. It takes {days} working days after you {step} in {place}.")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn classes() -> Vec<String> {
        (0..300).map(|i| format!("intent_{i}")).collect()
    }

    #[test]
    fn no_two_intents_and_no_two_wordings_have_the_same_text_and_all_wordings_have_all_facts() {
        let mut seen = HashSet::new();
        for class in 0..300 {
            let facts = [
                format!("intent {class}"),
                format!("R{}", 1_000 + class * 7),
                format!("{} working days", 2 + class * 5 % 19),
                PLACES[class % PLACES.len()].to_owned(),
                STEPS[class % STEPS.len()].to_owned(),
            ];
            for wording in 0..WORDINGS {
                let text = compose(&classes()[class], class, wording);
                assert!(facts.iter().all(|fact| text.contains(fact.as_str())), "{text}");
                assert!((1..=4).contains(&text.matches(['.', '?']).count()), "{text}");
                assert!(seen.insert(text));
            }
        }
    }

    #[test]
    fn ideal_answers_are_the_intents_own_and_noise_comes_as_often_as_asked() {
        let classes = classes();
        assert_eq!(Answers::Ideal.fresh(1, 5, 7, &classes), Answers::Ideal.fresh(2, 6, 7, &classes));
        let noisy = Answers::Noisy { reworded: 0.10, wrong: 0.03 };
        let fresh = |seed, place| noisy.fresh(seed, place, 7, &classes).unwrap();
        let usual = Answers::Ideal.fresh(1, 0, 7, &classes).unwrap();
        let answers: Vec<Answer> = (0..20_000).map(|place| fresh(1, place)).collect();
        let wrong = answers.iter().filter(|answer| answer.class != 7).count();
        let reworded = answers.iter().filter(|answer| answer.class == 7 && answer.text != usual.text).count();
        assert!((500..700).contains(&wrong) && (1_850..2_150).contains(&reworded), "{wrong} {reworded}");
        assert_eq!(fresh(1, 9), answers[9]);
        assert_ne!(answers[..100], (0..100).map(|place| fresh(2, place)).collect::<Vec<_>>());
        assert!(Answers::Ideal.fresh(1, 0, 300, &classes).is_err());
    }
}
