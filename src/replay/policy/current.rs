//! What this version of the product does: same words past the guards, else the nearest point at or above
//! `cache.similarity` to which no guard objects; a prompt joins the group of a near point whose answer is the same.
//!
//! This is the place where the decision engine is plugged in: [`Current`] holds it, `decide` asks it, `place` links and
//! hands it a label, `audited` hands it an audit. Nothing outside this file knows how the product decides.

use super::{Ask, Decision, Policy};
use crate::cache::decide::{Guards, judge};
use crate::replay::link::same_answer;
use crate::replay::memory::{Answer, Placement};

/// See the module.
pub(super) struct Current {
    similarity: f32,
    guards: Guards,
}

impl Current {
    pub(super) fn new(similarity: f32, guards: Guards) -> Self {
        Self { similarity, guards }
    }

    /// A near point that differs in case, blanks or final punctuation only, past the guards.
    fn same_words(&self, ask: &Ask<'_>) -> Option<usize> {
        let same = |near: &crate::replay::memory::Near<'_>| {
            near.prompt.normalised == ask.prompt.normalised
                && self.guards.check(&ask.prompt.features, &near.prompt.features).is_ok()
        };
        ask.near.iter().position(same)
    }
}

impl Policy for Current {
    fn decide(&mut self, ask: &Ask<'_>) -> Decision {
        let nearest = || {
            let candidates = ask.near.iter().map(|near| (near.cosine, &near.prompt.features));
            judge(candidates, &ask.prompt.features, self.similarity, self.guards).0
        };
        Decision::plain(self.same_words(ask).or_else(nearest))
    }

    fn place(&mut self, ask: &Ask<'_>, fresh: &Answer) -> Placement {
        let same = ask.near.iter().find(|near| same_answer(&near.answer.text, &fresh.text));
        same.map_or(Placement::Open, |near| Placement::Join(near.group))
    }

    // Today's rule learns nothing.
    fn audited(&mut self, _: &Ask<'_>, _: usize, _: bool) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::memory::Near;
    use crate::replay::prompt::testing::prompt;

    #[test]
    fn same_words_hit_below_the_floor_and_a_guard_stops_even_a_near_repeat() {
        let [new, same, trap] = ["Pay 5 now", "pay 5 NOW!", "Pay 6 now"].map(|text| prompt(text, &[1.0]));
        let answer = Answer { text: "x".into(), class: 0 };
        let near = |cosine, prompt| Near { point: 0, cosine, prompt, group: 3, group_size: 1, answer: &answer };
        let mut policy = Current::new(0.95, Guards::all());
        let mut serve = |near: &[Near<'_>]| policy.decide(&Ask { prompt: &new, near }).serve;
        assert_eq!(serve(&[near(0.99, &trap), near(0.7, &same)]), Some(1));
        assert_eq!(serve(&[near(0.99, &trap)]), None);
        let ask = Ask { prompt: &new, near: &[near(0.99, &trap)] };
        let fresh = |text: &str| Answer { text: text.into(), class: 1 };
        assert_eq!(policy.place(&ask, &fresh("X.")), Placement::Join(3));
        assert_eq!(policy.place(&ask, &fresh("y")), Placement::Open);
    }
}
