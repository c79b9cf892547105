//! Traffic that the program has recorded: the decisions of its store, in their order, each with its prompt and with the
//! answer that was right for it.
//!
//! Which answer was right is told by what really happened, as far as anybody looked. A miss was answered upstream, and
//! that answer is right for it. A hit that was audited or complained about has a label. A hit that nobody checked counts
//! as right, for nothing else is known of it: that flatters every policy that serves it, so such requests are counted and
//! named in the report. Of a hit that is known to be wrong the right answer is not known; it gets one of its own, which
//! no policy can serve.
//!
//! Answers that turned out to be the same are one class: a miss that is labelled right ties its own answer to the
//! candidate's, and a point that is met with one entry and later with another has been moved there by a link or a merge.
//! What cannot be known: an answer that was linked to a group other than the candidate's, or without any candidate, keeps
//! a class of its own, so that serving the group counts as wrong. Requests that an equal one or one in the same words
//! answered were never decided, and are not here.
//!
//! Reads only through the traits of the store. Must never write to it, and never invent an answer for a request of which
//! nothing is known: those are left out and counted.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::clock::UnixMs;
use crate::ids::{EntryId, PointId, TenantId};
use crate::replay::ReplayError;
use crate::store::sealed::is_sealed;
use crate::store::{DecisionRow, DecisionStore, Digest, LedgerRow, LedgerStore};

/// Decisions read at a time.
const PAGE: u32 = 1_000;

/// Which of the recorded decisions to take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Of this tenant only.
    pub tenant: Option<TenantId>,
    /// About this model only, as requests name it.
    pub model: Option<String>,
    /// Made at this time or later.
    pub since: UnixMs,
    /// At most this many, the last ones.
    pub most: Option<usize>,
}

/// One recorded request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The prompt.
    pub text: String,
    /// Where its neighbours are looked for.
    pub partition: Digest,
    /// The class of requests with the same right answer, below [`Traffic::classes`].
    pub class: usize,
    /// When it was decided.
    pub at: UnixMs,
    /// The learner it belongs to: the same number for the same tenant and model.
    pub lane: usize,
}

/// What is known of a selection as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Decisions of the selection.
    pub decisions: usize,
    /// Those with a prompt.
    pub with_prompt: usize,
    /// Of those, the ones of whose right answer nothing is known; left out.
    pub unknown: usize,
    /// Requests taken: the last [`Selection::most`] of the rest.
    pub requests: usize,
    /// Of those, hits that nobody checked, which count as right.
    pub unchecked: usize,
    /// Of those, requests whose candidate is known to be wrong and whose right answer is stored nowhere.
    pub apart: usize,
}

/// Recorded requests in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// The requests.
    pub requests: Vec<Asked>,
    /// How many different right answers they have.
    pub classes: usize,
    /// What the report says of them.
    pub facts: Facts,
}

/// What the right answer to a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Right {
    /// The answer of this entry.
    Entry(EntryId),
    /// The same, but only because nobody has checked.
    Unchecked(EntryId),
    /// Not the candidate's; more is not known.
    Apart,
    /// Nothing is known.
    Unknown,
}

/// See [`Right`]. `row` is the request's row in the ledger.
fn right(decision: &DecisionRow, row: Option<&LedgerRow>) -> Right {
    let own = own_entry(row);
    let entry = Right::Entry;
    match (decision.right, decision.entry, row) {
        (Some(true), Some(candidate), _) => entry(candidate),
        (Some(false), _, _) => own.map_or(Right::Apart, entry),
        (None, _, Some(row)) if is_hit(row) => row.entry.map_or(Right::Unknown, Right::Unchecked),
        _ => own.map_or(Right::Unknown, entry),
    }
}

/// The entry as which the request's own answer was stored.
fn own_entry(row: Option<&LedgerRow>) -> Option<EntryId> {
    row.filter(|row| !is_hit(row)).and_then(|row| row.entry)
}

fn is_hit(row: &LedgerRow) -> bool {
    row.outcome == "hit"
}

/// Entries by class: a forest in which a class is a tree (disjoint sets; Tarjan 1975, J. ACM 22:215).
#[derive(Default)]
struct Classes {
    parent: HashMap<EntryId, EntryId>,
    /// The entry with which each point was last met.
    points: HashMap<PointId, EntryId>,
}

impl Classes {
    fn root(&mut self, entry: EntryId) -> EntryId {
        let mut root = entry;
        while let Some(parent) = self.parent.get(&root) {
            root = *parent;
        }
        let mut at = entry;
        while at != root {
            at = self.parent.insert(at, root).unwrap_or(root);
        }
        root
    }

    fn unite(&mut self, a: EntryId, b: EntryId) {
        let (a, b) = (self.root(a), self.root(b));
        if a != b {
            self.parent.insert(a, b);
        }
    }

    /// Takes in what a decision tells of entries that are the same.
    fn learn(&mut self, decision: &DecisionRow, row: Option<&LedgerRow>) {
        let Some(candidate) = decision.entry else { return };
        if let Some(before) = decision.point.and_then(|point| self.points.insert(point, candidate)) {
            self.unite(before, candidate);
        }
        if let (Some(true), Some(own)) = (decision.right, own_entry(row)) {
            self.unite(own, candidate);
        }
    }
}

/// A request whose class is not numbered yet.
struct Read {
    asked: Asked,
    right: Right,
}

impl Traffic {
    /// Reads the decisions of a selection and the ledger rows of their requests.
    ///
    /// # Errors
    /// The store cannot be read, or no decision can be used; the text says how to record some.
    pub async fn read(
        decisions: &dyn DecisionStore,
        ledger: &dyn LedgerStore,
        selection: &Selection,
    ) -> Result<Self, ReplayError> {
        let failed = |error: crate::store::StoreError| ReplayError::new(error.to_string());
        let (mut facts, mut classes, mut read) = (Facts::default(), Classes::default(), Vec::new());
        let mut lanes: HashMap<(TenantId, String), usize> = HashMap::new();
        let mut after = None;
        loop {
            let page =
                decisions.since(selection.tenant.as_ref(), selection.since, after, PAGE).await.map_err(failed)?;
            let Some(last) = page.last() else { break };
            after = Some(last.request);
            for decision in page {
                if selection.model.as_ref().is_some_and(|model| *model != decision.model) {
                    continue;
                }
                facts.decisions += 1;
                let row = ledger.request(decision.request).await.map_err(failed)?;
                // Without a prompt it cannot be asked again, but may still tell what is the same.
                classes.learn(&decision, row.as_ref());
                let right = right(&decision, row.as_ref());
                // A sealed prompt is of use only with the master key, which is not asked for here.
                let Some(text) = decision.prompt.filter(|text| !is_sealed(text)) else { continue };
                facts.with_prompt += 1;
                if right == Right::Unknown {
                    facts.unknown += 1;
                    continue;
                }
                let next = lanes.len();
                let lane = *lanes.entry((decision.tenant, decision.model)).or_insert(next);
                let asked = Asked { text, partition: decision.partition, class: 0, at: decision.at, lane };
                read.push(Read { asked, right });
            }
        }
        if read.is_empty() {
            return Err(ReplayError::new(facts.nothing()));
        }
        Ok(Self::number(read, facts, classes, selection.most))
    }

    /// Takes the last `most` and numbers their classes in order of appearance.
    fn number(mut read: Vec<Read>, mut facts: Facts, mut of: Classes, most: Option<usize>) -> Self {
        if let Some(most) = most {
            read.drain(..read.len().saturating_sub(most));
        }
        let mut classes = 0;
        let mut known: HashMap<EntryId, usize> = HashMap::new();
        let mut fresh = || {
            classes += 1;
            classes - 1
        };
        let mut requests = Vec::with_capacity(read.len());
        for Read { asked, right } in read {
            facts.unchecked += usize::from(matches!(right, Right::Unchecked(_)));
            facts.apart += usize::from(right == Right::Apart);
            let class = match right {
                Right::Entry(entry) | Right::Unchecked(entry) => {
                    *known.entry(of.root(entry)).or_insert_with(&mut fresh)
                }
                Right::Apart | Right::Unknown => fresh(),
            };
            requests.push(Asked { class, ..asked });
        }
        facts.requests = requests.len();
        Self { requests, classes, facts }
    }
}

impl Facts {
    /// For the header of a report, a line a fact.
    pub fn to_text(&self) -> String {
        let mut text = format!("{}\n", self.prompts());
        if self.unknown > 0 {
            text += &format!("{} left out: nothing is known of their right answer\n", grouped(self.unknown));
        }
        text += &format!(
            "{} of {} requests rest on a hit that nobody checked; it counts as right\n",
            grouped(self.unchecked),
            grouped(self.requests)
        );
        if self.apart > 0 {
            text += &format!(
                "{} have a candidate that is known to be wrong and no right answer in the store; any hit counts as wrong\n",
                grouped(self.apart)
            );
        }
        text
    }

    /// The same as JSON.
    pub fn to_json(&self) -> Value {
        json!({
            "decisions": self.decisions,
            "with_prompt": self.with_prompt,
            "unknown": self.unknown,
            "unchecked": self.unchecked,
            "apart": self.apart,
        })
    }

    fn prompts(&self) -> String {
        let (decisions, with_prompt) = (grouped(self.decisions), grouped(self.with_prompt));
        if self.with_prompt == self.decisions {
            return format!("{decisions} decisions, all with prompts");
        }
        format!("{decisions} decisions, {with_prompt} with prompts: set cache.record_prompts")
    }

    /// Why there is nothing to replay, and what to do.
    fn nothing(&self) -> String {
        let advice = "run `remora serve` with cache.record_prompts = true for a while, or take in more with --since, \
                      --tenant or --model";
        match self.decisions {
            0 => format!("no decision is recorded that fits; {advice}"),
            _ if self.with_prompt == 0 => format!("{}; {advice}", self.prompts()),
            _ => format!("{}, and of none of them the right answer is known; {advice}", self.prompts()),
        }
    }
}

/// A number with its thousands apart.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
#[path = "traffic_tests.rs"]
mod tests;
