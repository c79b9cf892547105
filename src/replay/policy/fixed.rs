//! A fixed cosine threshold, with or without guards: the baseline, and what most caches do.
//!
//! Every miss opens a group of its own; nothing is learnt.

use super::{Ask, Decision, Policy};
use crate::cache::decide::{Guards, judge};
use crate::replay::memory::{Answer, Placement};

/// See the module.
pub(super) struct Fixed {
    threshold: f32,
    guards: Option<Guards>,
}

impl Fixed {
    pub(super) fn new(threshold: f32, guards: Option<Guards>) -> Self {
        Self { threshold, guards }
    }
}

impl Policy for Fixed {
    fn decide(&mut self, ask: &Ask<'_>) -> Decision {
        let serve = match self.guards {
            None => ask.near.first().filter(|near| near.cosine >= self.threshold).map(|_| 0),
            Some(guards) => {
                let candidates = ask.near.iter().map(|near| (near.cosine, &near.prompt.features));
                judge(candidates, &ask.prompt.features, self.threshold, guards).0
            }
        };
        Decision::plain(serve)
    }

    fn place(&mut self, _: &Ask<'_>, _: &Answer) -> Placement {
        Placement::Open
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::memory::Near;
    use crate::replay::prompt::testing::prompt;

    #[test]
    fn the_threshold_includes_its_value_and_guards_pass_over_a_trap() {
        let [new, trap, repeat] = ["order 7782", "order 7781", "Order 7782"].map(|text| prompt(text, &[1.0]));
        let answer = Answer { text: "x".into(), class: 0 };
        let near = |point, cosine, prompt| Near { point, cosine, prompt, group: point, group_size: 1, answer: &answer };
        let near = [near(0, 0.95, &trap), near(1, 0.9, &repeat)];
        let ask = Ask { prompt: &new, near: &near };
        let serve = |threshold, guards| Fixed::new(threshold, guards).decide(&ask).serve;
        assert_eq!((serve(0.95, None), serve(0.951, None)), (Some(0), None));
        assert_eq!((serve(0.9, Some(Guards::all())), serve(0.91, Some(Guards::all()))), (Some(1), None));
        assert_eq!(Fixed::new(0.0, None).decide(&Ask { prompt: &new, near: &[] }).serve, None);
    }
}
