//! What this version of the product does: the same words past the guards, else what the error budget allows; after a miss
//! the prompt joins a near group with the same answer, and what came back is a label.
//!
//! The engine is the product's own ([`Learner`], [`weigh`]); this file only hands it the same things in the same order as
//! the cache does, with fits at once instead of in the background.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Ask, Decision, Policy, Settings};
use crate::cache::Likeness;
use crate::cache::decide::{
    Evidence, Guard, GuardSet, Guards, Inputs, Judgement, Learner, Near, Observation, Source, Waivers, Weights, weigh,
};
use crate::replay::link::Linker;
use crate::replay::memory::{self, Answer, Placement};

/// Near groups whose answers are compared with a fresh one, as in the product.
const COMPARED: usize = 5;

/// See the module.
pub(super) struct Current {
    settings: Settings,
    budget: f64,
    learner: Learner,
    linker: Arc<Linker>,
    waivers: HashMap<usize, Waivers>,
    chance: fastrand::Rng,
    /// What the last decision was about.
    last: Option<(Evidence, Judgement)>,
    audited: bool,
}

impl Current {
    pub(super) fn new(
        settings: Settings,
        budget: f64,
        weights: Option<Weights>,
        seed: u64,
        linker: Arc<Linker>,
    ) -> Self {
        Self {
            settings,
            budget,
            learner: Learner::new(weights),
            linker,
            waivers: HashMap::new(),
            chance: fastrand::Rng::with_seed(seed),
            last: None,
            audited: false,
        }
    }

    /// A near point that differs in case, blanks or final punctuation only, past the guards.
    fn same_words(&self, ask: &Ask<'_>) -> Option<usize> {
        let same = |near: &memory::Near<'_>| {
            near.prompt.normalised == ask.prompt.normalised
                && self.settings.guards.check(&ask.prompt.features, &near.prompt.features).is_ok()
        };
        ask.near.iter().position(same)
    }

    fn weigh(&self, ask: &Ask<'_>) -> Option<Evidence> {
        let near: Vec<Near<'_>> = ask
            .near
            .iter()
            .map(|near| Near {
                cosine: near.cosine,
                group: near.group,
                group_size: near.group_size,
                waivers: self.waivers.get(&near.group).copied().unwrap_or_default(),
                features: &near.prompt.features,
            })
            .collect();
        weigh(&ask.prompt.features, &near, self.settings.similarity, self.settings.guards)
    }

    fn learn(&mut self, observation: Observation, source: Source) {
        if self.learner.label(observation, source, self.budget).0 {
            let weights = self.learner.lesson().fit();
            self.learner.learnt(weights);
        }
    }

    /// The guards that object between a prompt and every near prompt of a group that has the same answer.
    fn contradictions(ask: &Ask<'_>, group: usize) -> GuardSet {
        let all: GuardSet = Guard::ALL.into_iter().collect();
        let own = ask.near.iter().filter(|near| near.group == group);
        own.fold(all, |left, near| left.and(Guards::all().objections(&ask.prompt.features, &near.prompt.features)))
    }
}

impl Policy for Current {
    fn decide(&mut self, ask: &Ask<'_>) -> Decision {
        self.last = None;
        self.audited = false;
        if let Some(same) = self.same_words(ask) {
            return Decision::plain(Some(same));
        }
        self.last = self.weigh(ask).map(|evidence| {
            let judgement = self.learner.judge(&evidence, self.budget);
            (evidence, judgement)
        });
        self.learner.note(self.last.as_ref().map(|(_, judgement)| judgement), self.budget);
        let Some((evidence, judgement)) = &self.last else { return Decision::plain(None) };
        let serve = judgement.refused.is_none().then_some(evidence.index);
        self.audited = serve.is_some() && self.chance.f64() < self.settings.audit_rate;
        Decision {
            serve,
            refused: judgement.refused.map(|refused| (evidence.index, refused.as_str())),
            probability: Some(judgement.probability.into()),
            threshold: Some(judgement.theta.into()),
            audit: self.audited,
        }
    }

    fn place(&mut self, ask: &Ask<'_>, fresh: &Answer) -> Placement {
        let last = self.last.take();
        let chosen = last.as_ref().map(|(evidence, _)| evidence.group);
        let mut groups: Vec<&memory::Near<'_>> = Vec::new();
        let first = chosen.and_then(|group| ask.near.iter().find(|near| near.group == group));
        for near in first.into_iter().chain(ask.near) {
            if groups.len() < COMPARED && !groups.iter().any(|known| known.group == near.group) {
                groups.push(near);
            }
        }
        let mut joined = None;
        let mut right = None;
        for near in groups {
            let likeness = self.linker.compare(&fresh.text, &near.answer.text);
            if Some(near.group) == chosen {
                right = match likeness {
                    Likeness::Same => Some(true),
                    Likeness::Different => Some(false),
                    Likeness::Unsure => None,
                };
            }
            if likeness == Likeness::Same {
                joined.get_or_insert(near.group);
            }
        }
        if let (Some((evidence, judgement)), Some(right)) = (last, right) {
            let source = if self.audited || judgement.would_serve { Source::Audit } else { Source::Miss };
            self.learn(Observation { inputs: evidence.inputs, right }, source);
        }
        let Some(group) = joined else { return Placement::Open };
        self.waivers.entry(group).or_default().add(Self::contradictions(ask, group));
        Placement::Join(group)
    }

    fn inputs(&self) -> Option<(usize, Inputs)> {
        self.last.as_ref().map(|(evidence, _)| (evidence.index, evidence.inputs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::prompt::testing::prompt;

    #[test]
    fn same_words_hit_below_the_floor_and_a_guard_stops_even_a_near_repeat() {
        let [new, same, trap] = ["Pay 5 now", "pay 5 NOW!", "Pay 6 now"].map(|text| prompt(text, &[1.0]));
        let answer = Answer { text: "x".into(), class: 0 };
        let near = |cosine, prompt| memory::Near { point: 0, cosine, prompt, group: 3, group_size: 1, answer: &answer };
        let settings = Settings { similarity: 0.6, guards: Guards::all(), audit_rate: 0.0 };
        let mut policy = Current::new(settings, 0.01, Some(Weights::unfitted()), 1, Linker::for_tests());
        let mut serve = |near: &[memory::Near<'_>]| policy.decide(&Ask { prompt: &new, near }).serve;
        assert_eq!(serve(&[near(0.99, &trap), near(0.5, &same)]), Some(1));
        assert_eq!(serve(&[near(0.99, &trap)]), None);
        let ask = Ask { prompt: &new, near: &[near(0.99, &trap)] };
        let fresh = |text: &str| Answer { text: text.into(), class: 1 };
        assert_eq!(policy.place(&ask, &fresh("X.")), Placement::Join(3));
        assert_eq!(policy.place(&ask, &fresh("y")), Placement::Open);
    }
}
