//! What the semantic tier saw of one request, kept until it is known what the right answer was.
//!
//! Travels with the request: to the decision's row, to the background work after a miss (label, link) and to the audit of
//! a hit. Contains no vector and no other prompt.

use super::decide::{Difference, Evidence, Inputs, Judgement, Reject};
use super::lookup::{Neighbour, Query};
use crate::clock::UnixMs;
use crate::ids::{EntryId, KeyId, PointId, RequestId, TenantId};
use crate::store::{DecisionRow, Digest};

/// The candidate that the decision was about.
#[derive(Debug, Clone)]
pub struct Chosen {
    /// Its place among the neighbours.
    pub(super) index: usize,
    /// Its answer group.
    pub entry: EntryId,
    /// Its best point.
    pub point: PointId,
    /// Cosine between that point and the prompt.
    pub cosine: f32,
    /// Points of the group.
    pub group_size: usize,
    /// Lead over the best other group.
    pub margin: Option<f32>,
    /// How the words differ.
    pub difference: Difference,
    /// What the probability was made from.
    pub inputs: Inputs,
    /// What came of it.
    pub judgement: Judgement,
    /// Tokens of the group's answer.
    pub(super) tokens: Option<u64>,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Considered {
    pub(super) request: RequestId,
    pub(super) tenant: TenantId,
    pub(super) key: KeyId,
    pub(super) model: String,
    pub(super) text: String,
    pub(super) budget: f64,
    pub(super) shadow: bool,
    partition: Digest,
    groups: Vec<EntryId>,
    chosen: Option<Chosen>,
}

impl Considered {
    pub(super) fn new(
        query: Query<'_>,
        partition: Digest,
        neighbours: &[Neighbour],
        groups: Vec<EntryId>,
        judged: Option<(Evidence, Judgement)>,
    ) -> Self {
        let chosen = judged.and_then(|(evidence, judgement)| {
            let near = neighbours.get(evidence.index)?;
            Some(Chosen {
                index: evidence.index,
                entry: near.entry.id,
                point: near.id,
                cosine: near.cosine,
                group_size: evidence.group_size,
                margin: evidence.margin,
                difference: evidence.difference,
                inputs: evidence.inputs,
                judgement,
                tokens: near.entry.completion_tokens,
            })
        });
        Self {
            request: query.request,
            tenant: query.tenant.clone(),
            key: query.key.clone(),
            model: query.model.to_owned(),
            text: query.text.to_owned(),
            budget: query.budget,
            shadow: query.shadow,
            partition,
            groups,
            chosen,
        }
    }

    /// The candidate, if anything was near enough.
    pub fn chosen(&self) -> Option<&Chosen> {
        self.chosen.as_ref()
    }

    /// Near answer groups, nearest first.
    pub fn groups(&self) -> &[EntryId] {
        &self.groups
    }

    /// Why nothing may be served; nothing if the candidate may.
    pub fn refused(&self) -> Option<Reject> {
        match &self.chosen {
            Some(chosen) => chosen.judgement.refused,
            None if self.groups.is_empty() => Some(Reject::NoNeighbour),
            None => Some(Reject::BelowThreshold),
        }
    }

    /// Whether the candidate is served, or would be if the tier did not only watch.
    pub fn would_serve(&self) -> bool {
        self.chosen.as_ref().is_some_and(|chosen| chosen.judgement.would_serve)
    }

    /// The row that is kept of the decision. Without a candidate there is nothing to learn from, so there is a row only
    /// where prompts are recorded: a replay needs every request.
    pub(super) fn row(&self, at: UnixMs, record_prompt: bool) -> Option<DecisionRow> {
        let chosen = self.chosen.as_ref();
        if chosen.is_none() && !record_prompt {
            return None;
        }
        let judgement = chosen.map(|chosen| &chosen.judgement);
        Some(DecisionRow {
            request: self.request,
            at,
            tenant: self.tenant.clone(),
            key: self.key.clone(),
            model: self.model.clone(),
            partition: self.partition,
            mode: if self.shadow { "shadow" } else { "serve" }.into(),
            verdict: self.refused().map_or("accept", Reject::as_str).into(),
            would_serve: self.would_serve(),
            entry: chosen.map(|chosen| chosen.entry),
            point: chosen.map(|chosen| chosen.point),
            cosine: chosen.map(|chosen| chosen.cosine),
            probability: judgement.map(|judgement| judgement.probability),
            theta: judgement.map(|judgement| judgement.theta).filter(|theta| theta.is_finite()),
            inputs: chosen.map(|chosen| chosen.inputs.to_vec()).unwrap_or_default(),
            right: None,
            label: None,
            tokens: chosen.and_then(|chosen| chosen.tokens),
            prompt: record_prompt.then(|| self.text.clone()),
        })
    }
}
