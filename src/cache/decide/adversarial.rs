//! The decision on prompts crafted to be served wrongly: `tests/data/adversarial.jsonl`, made by
//! `scripts/make_adversarial.py` against the built-in embedder.
//!
//! Every attack is what somebody got stored, every victim what somebody else asks; each must be a miss. The bounds are
//! what was measured, with a little room; they may be tightened, not loosened.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::*;
use crate::config::{Config, Overrides};
use crate::embed::{Embedded, Embedder};

#[derive(Deserialize)]
struct Row {
    id: String,
    kind: String,
    victim: String,
    attack: String,
    cosine: f32,
    wrong: bool,
}

/// An attack beside its victim, as the product sees them.
struct Case {
    row: Row,
    cosine: f32,
    /// The model left out the same of both, so that one partition holds both.
    one_partition: bool,
    victim: Features,
    attack: Features,
}

fn rows(path: &str) -> Vec<Row> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn cases(path: &str) -> Vec<Case> {
    let mut config = settings().embedding;
    config.deadline = Duration::from_secs(60);
    let embedder = Embedder::new(&config).unwrap();
    let mut cases = Vec::new();
    for row in rows(path) {
        let (a, b) = (embedder.embed(&row.victim).await.unwrap(), embedder.embed(&row.attack).await.unwrap());
        let (victim, attack) = (Features::of(&row.victim), Features::of(&row.attack));
        let cosine = cosine(&a, &b);
        cases.push(Case { row, cosine, one_partition: a.truncated == b.truncated, victim, attack });
    }
    cases
}

fn settings() -> Config {
    Config::load(None, std::iter::empty(), &Overrides::default()).unwrap_or_else(|p| panic!("{p}"))
}

fn cosine(a: &Embedded, b: &Embedded) -> f32 {
    a.vector.iter().zip(b.vector.iter()).map(|(x, y)| x * y).sum()
}

/// The product's decision in a cache that holds the attack and nothing else, and has learnt nothing yet.
fn served(case: &Case) -> bool {
    let near =
        Near { cosine: case.cosine, group: 0, group_size: 1, waivers: Waivers::default(), features: &case.attack };
    let near = if case.one_partition { vec![near] } else { Vec::new() };
    let settings = settings().cache;
    let learner = Learner::new(Weights::shipped(&crate::embed::Space::builtin().to_string()));
    let judged = weigh(&case.victim, &near, settings.similarity, Guards::all())
        .map(|evidence| learner.judge(&evidence, settings.max_error_rate));
    judged.is_some_and(|judged| judged.refused.is_none()) || same_words(case)
}

/// The guards alone, above a floor.
fn passes(case: &Case, floor: f32) -> bool {
    let candidates = case.one_partition.then_some((case.cosine, &case.attack));
    judge(candidates.into_iter(), &case.victim, floor, Guards::all()).1 == Verdict::Accept || same_words(case)
}

/// The tier of same words has no floor, only the guards.
fn same_words(case: &Case) -> bool {
    case.one_partition
        && normalise(&case.row.victim) == normalise(&case.row.attack)
        && Guards::all().check(&case.victim, &case.attack).is_ok()
}

/// How many of each kind, and of all, pass the test.
fn count(cases: &[Case], test: impl Fn(&Case) -> bool) -> (usize, BTreeMap<&str, (usize, usize)>) {
    let mut kinds = BTreeMap::new();
    for case in cases {
        let (passed, of): &mut (usize, usize) = kinds.entry(case.row.kind.as_str()).or_default();
        *passed += usize::from(test(case));
        *of += 1;
    }
    (kinds.values().map(|(passed, _)| passed).sum(), kinds)
}

#[tokio::test]
async fn hardly_any_attack_is_served() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/adversarial.jsonl");
    let cases = cases(path).await;
    assert!(cases.len() >= 600, "{} attacks", cases.len());
    let kinds = ["homoglyph", "mixed", "suffix_search", "victim_prefix", "word_swap", "zero_width"];
    let (all, by_kind) = count(&cases, |case| case.row.wrong);
    assert!(by_kind.keys().copied().eq(kinds) && by_kind.values().all(|(_, of)| *of >= 70), "{by_kind:?}");
    assert_eq!(all, cases.len(), "a row that is no attack");
    let off = cases.iter().filter(|case| (case.cosine - case.row.cosine).abs() > 0.05).count();
    assert!(off * 100 <= cases.len(), "{off} cosines are not those of this model: make the file again");

    // What the guards are up against: a fixed threshold serves far more, or these were no attacks.
    let (plain, by_kind) = count(&cases, |case| case.cosine >= 0.90);
    println!("cosine >= 0.90 and nothing else: {plain} of {}: {by_kind:?}", cases.len());
    assert!(plain * 3 >= cases.len(), "{plain} of {}: {by_kind:?}", cases.len());

    let (cold, by_kind) = count(&cases, served);
    println!("cold cache: {cold}: {by_kind:?}");
    for case in cases.iter().filter(|case| served(case)) {
        let difference = Difference::between(&case.victim, &case.attack);
        println!("{:.3} {difference:?} {} | {} | {:?}", case.cosine, case.row.id, case.row.victim, case.row.attack);
    }
    assert!(cold * 100 <= cases.len(), "{cold} of {}: {by_kind:?}", cases.len());

    let (low, by_kind) = count(&cases, |case| passes(case, 0.80));
    println!("floor 0.80 and the guards: {low}: {by_kind:?}");
    for case in cases.iter().filter(|case| passes(case, 0.80)) {
        println!("{:.3} {} | {} | {:?}", case.cosine, case.row.id, case.row.victim, case.row.attack);
    }
    assert!(low * 100 <= 3 * cases.len(), "{low} of {}: {by_kind:?}", cases.len());
}
