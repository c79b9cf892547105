//! Streams run over a handful of prompts whose vectors are made by hand.

use std::sync::Arc;

use super::*;
use crate::cache::decide::{Guards, Weights};
use crate::replay::policy::Settings;
use crate::replay::prompt::testing::prompt;
use crate::replay::recording::{Asked, Facts, Query, Traffic};

/// `classes` intents with `each` prompts on a circle: the prompts of an intent are near each other, and intents are not.
fn world(classes: usize, each: usize) -> (Intents, Vec<Prompt>) {
    let mut intents = Intents { classes: (0..classes).map(|c| format!("intent_{c}")).collect(), ..Intents::default() };
    let mut prompts = Vec::new();
    for class in 0..classes {
        for nth in 0..each {
            let angle = class as f32 * 0.5 + nth as f32 * 0.01;
            let text = format!("ask {} {}", ["a", "b", "c", "d"][class % 4].repeat(class + 1), "x".repeat(nth + 1));
            prompts.push(prompt(&text, &[angle.cos(), angle.sin()]));
            intents.queries.push(Query { text, class });
        }
    }
    (intents, prompts)
}

fn stream(classes: usize, each: usize, limit: usize, seeds: &[u64]) -> (Stream, Vec<Prompt>) {
    let (intents, prompts) = world(classes, each);
    let mut texts = Texts::default();
    for (number, prompt) in prompts.iter().enumerate() {
        assert_eq!(texts.number(&prompt.text), number);
    }
    (Stream::new(intents, limit, seeds, &mut texts), prompts)
}

const SETTINGS: Settings = Settings { similarity: 0.6, guards: Guards::all(), audit_rate: 0.1 };
const FIXED: Spec = Spec::Fixed { threshold: 0.95, guards: None };

fn outcomes(stream: &Stream, prompts: &[Prompt], spec: Spec, seed: u64, answers: Answers) -> Vec<Outcome> {
    stream.run(prompts, spec, seed, answers, &Linker::for_tests(), &|_| ()).unwrap().outcomes
}

#[test]
fn the_first_of_each_intent_misses_and_the_others_hit() {
    let (stream, prompts) = stream(4, 10, usize::MAX, &[1]);
    let tally = Tally::of(&outcomes(&stream, &prompts, FIXED, 1, Answers::Ideal), 0);
    assert_eq!((tally.requests, tally.hits, tally.wrong, tally.audits), (40, 36, 0, 0));
    // At a cosine of 0.8 the neighbouring intent is served as well.
    let loose = Spec::Fixed { threshold: 0.8, guards: None };
    assert!(Tally::of(&outcomes(&stream, &prompts, loose, 1, Answers::Ideal), 0).wrong > 0);
}

#[test]
fn a_wrong_answer_that_was_stored_is_wrong_each_time_it_is_served() {
    let (stream, prompts) = stream(2, 10, usize::MAX, &[1]);
    // Each intent's first answer is the other intent's, and is stored.
    let answers = Answers::Noisy { reworded: 0.0, wrong: 1.0 };
    let tally = Tally::of(&outcomes(&stream, &prompts, FIXED, 1, answers), 0);
    assert_eq!((tally.hits, tally.wrong), (18, 18));
}

#[test]
fn a_seed_decides_a_run_alone_and_with_others_and_another_seed_decides_another() {
    let seeds = [1, 2];
    let (stream, prompts) = stream(6, 30, usize::MAX, &seeds);
    let noisy = Answers::Noisy { reworded: 0.2, wrong: 0.1 };
    let specs = [
        FIXED,
        Spec::VCache { delta: 0.05, store_all: false },
        Spec::Current { settings: SETTINGS, budget: 0.05, weights: Some(Weights::unfitted()) },
    ];
    let tell: Progress = Arc::new(|_, _, _| ());
    let together = stream.run_all(&prompts, &specs, &seeds, noisy, &Linker::for_tests(), 3, &tell).unwrap();
    for (spec, tallies) in specs.iter().zip(&together) {
        for (seed, tally) in seeds.iter().zip(tallies) {
            let audits = tally.audits;
            let tally = Tally { refusals: std::collections::BTreeMap::new(), ..tally.clone() };
            assert_eq!(tally, Tally::of(&outcomes(&stream, &prompts, *spec, *seed, noisy), audits), "{spec} {seed}");
        }
        assert_eq!(outcomes(&stream, &prompts, *spec, 1, noisy), outcomes(&stream, &prompts, *spec, 1, noisy));
    }
    assert_ne!(outcomes(&stream, &prompts, FIXED, 1, noisy), outcomes(&stream, &prompts, FIXED, 2, noisy));
}

#[test]
fn a_limit_takes_the_beginning_of_the_shuffled_order() {
    let (all, prompts) = stream(3, 20, usize::MAX, &[7]);
    let (some, _) = stream(3, 20, 25, &[7]);
    assert_eq!((all.len(), some.len()), (60, 25));
    let (all, some) =
        (outcomes(&all, &prompts, FIXED, 7, Answers::Ideal), outcomes(&some, &prompts, FIXED, 7, Answers::Ideal));
    assert_eq!(all[..25], some[..]);
}

#[test]
fn only_prompts_that_some_seed_asks_for_are_embedded() {
    let (intents, _) = world(3, 20);
    let mut texts = Texts::default();
    let stream = Stream::new(intents, 10, &[1], &mut texts);
    assert_eq!((texts.len(), stream.classes()), (10, 3));
}

#[test]
fn progress_ends_at_the_whole() {
    let (stream, prompts) = stream(4, 100, usize::MAX, &[1]);
    let told = Arc::new(std::sync::Mutex::new((0, 0)));
    let sink = Arc::clone(&told);
    let tell: Progress = Arc::new(move |_, done, of| {
        let mut told = sink.lock().unwrap();
        *told = (told.0.max(done), of);
    });
    stream.run_all(&prompts, &[FIXED, FIXED], &[1], Answers::Ideal, &Linker::for_tests(), 2, &tell).unwrap();
    assert_eq!(*told.lock().unwrap(), (800, 800));
}

/// Requests on one of two near prompts, as (prompt, partition, class, time).
fn recorded(requests: &[(usize, u8, usize, u64)], prompts: &[Prompt], ttl: u64) -> Stream {
    let asked = |(prompt, partition, class, at): &(usize, u8, usize, u64)| Asked {
        text: prompts[*prompt].text.to_string(),
        partition: [*partition; 32],
        class: *class,
        at: *at,
        lane: usize::from(*partition),
    };
    let requests = requests.iter().map(asked).collect();
    let mut texts = Texts::default();
    for prompt in prompts {
        texts.number(&prompt.text);
    }
    Stream::recorded(&Traffic { requests, classes: 9, facts: Facts::default() }, ttl, &mut texts)
}

#[test]
fn recorded_traffic_keeps_its_order_its_partitions_and_its_times() {
    let prompts = [prompt("one", &[1.0, 0.0]), prompt("two", &[0.99, 0.02_f32.sqrt()])];
    let requests = [
        (0, 1, 0, 1_000),
        (1, 1, 0, 1_050),
        // Another partition, and then the same prompt there with another answer.
        (1, 2, 0, 1_060),
        (0, 2, 3, 1_070),
        // The first answer is 100 ms old.
        (1, 1, 0, 1_100),
        (0, 1, 0, 1_199),
    ];
    let stream = recorded(&requests, &prompts, 100);
    use Outcome::{Miss, Right, Wrong};
    let expected = [Miss, Right, Miss, Wrong, Miss, Right];
    assert_eq!((stream.len(), stream.classes()), (6, 9));
    for seed in [1, 2] {
        assert_eq!(outcomes(&stream, &prompts, FIXED, seed, Answers::Ideal), expected);
    }
    let forever = recorded(&requests, &prompts, u64::MAX);
    assert_eq!(outcomes(&forever, &prompts, FIXED, 1, Answers::Ideal), [Miss, Right, Miss, Wrong, Right, Right]);
}

#[test]
fn what_the_embedder_does_not_see_keeps_recorded_prompts_apart() {
    let cut = |unseen| Prompt { unseen: Some([unseen; 32]), ..prompt(&format!("long {unseen}"), &[1.0, 0.0]) };
    let prompts = [cut(1), cut(2), prompt("short", &[1.0, 0.0])];
    let stream = recorded(&[(0, 1, 0, 1), (1, 1, 0, 2), (2, 1, 0, 3), (0, 1, 0, 4)], &prompts, 1_000);
    use Outcome::{Miss, Right};
    assert_eq!(outcomes(&stream, &prompts, FIXED, 1, Answers::Ideal), [Miss, Miss, Miss, Right]);
}

#[test]
fn each_tenants_traffic_on_a_model_has_a_chance_of_its_own_and_the_first_has_the_runs() {
    assert_eq!(lane_seed(7, 0), 7);
    assert_eq!([1, 2, 3].map(|lane| lane_seed(7, lane)).iter().collect::<std::collections::HashSet<_>>().len(), 3);
}
