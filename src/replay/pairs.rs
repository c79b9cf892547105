//! Running policies over labelled pairs: each pair in a cold cache of its own, `a` stored and `b` asked.
//!
//! Both sides become requests and are read as the product reads them: equal requests are answered by the exact tier,
//! others only within one partition, which for a conversation holds every turn but the last. Must have no idea of equality
//! of its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;

use super::ReplayError;
use super::link::Linker;
use super::memory::{Answer, Memory};
use super::policy::{Ask, Policy, Spec};
use super::prompt::{Prompt, Texts};
use super::recording::{Pair, Side};
use super::stats::Proportion;
use crate::call::{Call, Keys, Scope, SecretKey};
use crate::config::Limits;
use crate::dialect::Dialect;
use crate::ids::TenantId;

/// What one side of a pair is to the cache.
#[derive(Debug)]
struct Turn {
    keys: Keys,
    /// Its text, by number, if it may be compared by similarity.
    prompt: Option<usize>,
    /// Whether it may be stored or looked up at all.
    cacheable: bool,
}

#[derive(Debug)]
struct Labelled {
    kind: Kind,
    a: Turn,
    b: Turn,
}

/// What kind of pair it is: category, style, and whether one answer is right for both.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    /// False for a trap.
    pub same_answer: bool,
    /// Category.
    pub category: String,
    /// Style; may be empty.
    pub style: String,
}

/// Labelled pairs, read as requests.
pub struct PairSet {
    pairs: Vec<Labelled>,
    secret: SecretKey,
    space: String,
}

/// What one policy served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PairTally {
    /// Pairs with the same answer that were served.
    pub true_pairs: Proportion,
    /// Traps that were served.
    pub traps: Proportion,
    /// Pairs served of each kind.
    pub kinds: BTreeMap<Kind, Proportion>,
}

/// How requests are read.
#[derive(Clone, Copy)]
pub struct Reading<'a> {
    /// Limits on requests.
    pub limits: &'a Limits,
    /// Highest temperature of a semantic candidate.
    pub max_temperature: f64,
}

impl PairSet {
    /// Reads both sides of each pair and adds their texts to `texts`. `name` is the file, for messages; `space` is the
    /// embedding space, which is part of each partition.
    ///
    /// # Errors
    /// A side is no request; says file, line and what is wrong.
    pub fn new(
        name: &str,
        pairs: &[Pair],
        reading: Reading<'_>,
        space: String,
        texts: &mut Texts,
    ) -> Result<Self, ReplayError> {
        // Nothing leaves the process: any secret will do, and a fixed one keeps runs alike.
        let secret = SecretKey::new([0; 32]);
        let mut read = Vec::with_capacity(pairs.len());
        for pair in pairs {
            let mut turn = |member: &str, side: &Side| {
                turn(side, reading, &secret, texts).map_err(|what| {
                    ReplayError::new(format!(
                        "{name}:{}: `{member}`: {what}; correct it or take the line out",
                        pair.line
                    ))
                })
            };
            let (a, b) = (turn("a", &pair.a)?, turn("b", &pair.b)?);
            let kind =
                Kind { same_answer: pair.same_answer, category: pair.category.clone(), style: pair.style.clone() };
            read.push(Labelled { kind, a, b });
        }
        Ok(Self { pairs: read, secret, space })
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Runs a policy over all pairs.
    ///
    /// # Errors
    /// A prompt has no vector that the index takes.
    pub fn run(
        &self,
        prompts: &[Prompt],
        spec: Spec,
        seed: u64,
        linker: &Arc<Linker>,
    ) -> Result<PairTally, ReplayError> {
        let mut tally = PairTally::default();
        for pair in &self.pairs {
            let served = self.serves(prompts, pair, spec.start(seed, linker).as_mut())?;
            if pair.kind.same_answer { &mut tally.true_pairs } else { &mut tally.traps }.add(served);
            tally.kinds.entry(pair.kind.clone()).or_default().add(served);
        }
        Ok(tally)
    }

    fn serves(&self, prompts: &[Prompt], pair: &Labelled, policy: &mut dyn Policy) -> Result<bool, ReplayError> {
        if !(pair.a.cacheable && pair.b.cacheable) {
            return Ok(false);
        }
        if pair.a.keys.fingerprint == pair.b.keys.fingerprint {
            return Ok(true);
        }
        let prompt = |turn: &Turn| turn.prompt.and_then(|number| Some((number, prompts.get(number)?)));
        let (Some((number, stored)), Some((_, new))) = (prompt(&pair.a), prompt(&pair.b)) else { return Ok(false) };
        let partition = |turn: &Turn, prompt: &Prompt| turn.keys.partition(&self.secret, &self.space, prompt.unseen);
        let mut memory = Memory::new(prompts);
        let answer = Answer { text: "The answer.".into(), class: 0 };
        let placement = policy.place(&Ask { prompt: stored, near: &[] }, &answer);
        memory.insert(&partition(&pair.a, stored), number, placement, answer)?;
        let near = memory.near(&partition(&pair.b, new), new);
        Ok(policy.decide(&Ask { prompt: new, near: &near }).serve.is_some())
    }
}

fn turn(side: &Side, reading: Reading<'_>, secret: &SecretKey, texts: &mut Texts) -> Result<Turn, String> {
    let messages = match side {
        Side::Text(text) => json!([{ "role": "user", "content": text }]),
        Side::Messages(messages) => messages.clone(),
    };
    let body = Bytes::from(json!({ "model": "replay", "messages": messages }).to_string());
    let call =
        Call::read(Dialect::Chat, &body, reading.limits, reading.max_temperature).map_err(|bad| bad.to_string())?;
    let tenant = TenantId::new("replay");
    let scope =
        Scope { tenant: &tenant, namespace: "", share: "tenant", upstream: "", dialect: Dialect::Chat, variant: "" };
    Ok(Turn {
        keys: Keys::of(secret, &scope, &call),
        prompt: call.text.as_deref().map(|text| texts.number(text)),
        cacheable: call.uncacheable.is_none(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::decide::Guards;
    use crate::replay::prompt::testing::prompt;
    use crate::replay::recording::Recording;

    fn limits() -> Limits {
        let config = crate::config::Config::load(None, std::iter::empty(), &crate::config::Overrides::default());
        config.ok().unwrap().server.limits
    }

    fn set(lines: &str, texts: &mut Texts) -> Result<PairSet, ReplayError> {
        let Ok(Recording::Pairs(pairs)) = Recording::read("f.jsonl", lines.as_bytes().to_vec(), &[]) else {
            panic!("the test's pairs are wrong")
        };
        PairSet::new("f.jsonl", &pairs, Reading { limits: &limits(), max_temperature: 1.0 }, "s".to_owned(), texts)
    }

    /// All texts of equal vectors: only the rules and the partition can tell them apart.
    fn prompts(texts: &[&str]) -> Vec<Prompt> {
        texts.iter().map(|text| prompt(text, &[1.0, 0.0])).collect()
    }

    #[test]
    fn guards_refuse_traps_and_true_pairs_are_served() {
        let lines = concat!(
            r#"{"category":"n","style":"m","a":"order 1","b":"order 2","same_answer":false}"#,
            "\n",
            r#"{"category":"p","style":"m","a":"Where is it?","b":"where is it","same_answer":true}"#,
            "\n",
            r#"{"category":"p","style":"m","a":"same","b":"same","same_answer":true}"#,
            "\n",
        );
        let mut texts = Texts::default();
        let set = set(lines, &mut texts).unwrap();
        let prompts = prompts(&["order 1", "order 2", "Where is it?", "where is it", "same"]);
        let run = |spec| set.run(&prompts, spec, 1, &Linker::for_tests()).unwrap();
        let bare = run(Spec::Fixed { threshold: 0.9, guards: None });
        assert_eq!((bare.true_pairs, bare.traps), (Proportion::new(2, 2), Proportion::new(1, 1)));
        let guarded = run(Spec::Fixed { threshold: 0.9, guards: Some(Guards::all()) });
        assert_eq!((guarded.true_pairs, guarded.traps), (Proportion::new(2, 2), Proportion::new(0, 1)));
        let kind = |same_answer, category: &str| Kind { same_answer, category: category.into(), style: "m".into() };
        assert_eq!(guarded.kinds[&kind(false, "n")], Proportion::new(0, 1));
        assert_eq!(guarded.kinds[&kind(true, "p")], Proportion::new(2, 2));
        // A cold vCache answers what is equal and nothing else.
        assert_eq!(run(Spec::VCache { delta: 0.02, store_all: false }).true_pairs, Proportion::new(1, 2));
    }

    #[test]
    fn another_history_is_another_partition_however_near_the_last_turn() {
        let chat = |first: &str, last: &str| {
            format!(
                r#"[{{"role":"user","content":"{first}"}},{{"role":"assistant","content":"ok"}},{{"role":"user","content":"{last}"}}]"#
            )
        };
        let line = |a: &str, b: &str, same: bool| {
            format!("{{\"subtype\":\"c\",\"a\":{a},\"b\":{b},\"same_answer\":{same}}}\n")
        };
        let lines = line(&chat("Flickbox", "cancel it"), &chat("PulseFit", "cancel it"), false)
            + &line(&chat("Flickbox", "cancel it"), &chat("Flickbox", "Cancel it!"), true);
        let mut texts = Texts::default();
        let set = set(&lines, &mut texts).unwrap();
        assert_eq!(texts.len(), 2, "only last turns are embedded");
        let tally = set
            .run(
                &prompts(&["cancel it", "Cancel it!"]),
                Spec::Fixed { threshold: 0.5, guards: None },
                1,
                &Linker::for_tests(),
            )
            .unwrap();
        assert_eq!((tally.traps, tally.true_pairs), (Proportion::new(0, 1), Proportion::new(1, 1)));
    }

    #[test]
    fn a_side_that_is_no_request_is_named() {
        let error = set(r#"{"a":"x","b":[{"content":"y"}],"same_answer":true}"#, &mut Texts::default()).err().unwrap();
        assert!(error.0.starts_with("f.jsonl:1: `b`: `messages[0]`"), "{error}");
    }
}
